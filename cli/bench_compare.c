/* bench_compare.c - the file of --compare, which is JSON of this program; see bench.h. */
#include "bench.h"

#include "exit_codes.h"
#include "output.h"
#include "run_dir.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the value of the first "key": stands; NULL for none. Top-level keys come before those of
 * rows. */
static const char *value_at(const char *text, const char *key)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(text, wanted);
    if (at == NULL)
        return NULL;
    at += strlen(wanted);
    return at + strspn(at, " \t\r\n");
}

/* Length of a value that is neither object nor array. */
static size_t value_length(const char *value)
{
    return value[0] == '"' ? strcspn(value + 1, "\"") + 2 : strcspn(value, ",} \t\r\n");
}

/* The number of a key; NaN where there is none. */
static double number_of(const char *text, const char *key)
{
    const char *at = value_at(text, key);
    char number[64];
    double value;
    const size_t n = at != NULL ? value_length(at) : sizeof number;
    if (n >= sizeof number)
        return NAN;
    memcpy(number, at, n);
    number[n] = '\0';
    return real_parse(number, &value) == 0 ? value : NAN;
}

/* Is the key's value this text? No text of ours needs escapes. */
static int is_text(const char *object, const char *key, const char *text)
{
    const char *at = value_at(object, key);
    const size_t n = strlen(text);
    return at != NULL && at[0] == '"' && strncmp(at + 1, text, n) == 0 && at[n + 1] == '"';
}

/* Copies the next object of an array, which has no objects in it; NULL at the array's end. */
static const char *next_object(const char *at, char *object, size_t size)
{
    at += strspn(at, "[, \t\r\n");
    const size_t n = strcspn(at, "}") + 1;
    if (at[0] != '{' || at[n - 1] != '}' || n >= size)
        return NULL;
    memcpy(object, at, n);
    object[n] = '\0';
    return at + n;
}

int bench_earlier_read(struct bench *b, const char *path)
{
    char message[4352];
    size_t size;
    b->earlier_text = file_read(path, 1 << 20, &size, message, sizeof message);
    if (b->earlier_text == NULL) {
        message_error("--compare %s", message);
        return EXIT_DATA;
    }
    bench_figures(b);
    for (int i = 0; i < BENCH_FIGURES; ++i) {
        b->figure[i].earlier = number_of(b->earlier_text, b->figure[i].key);
        if (i < BENCH_ALWAYS && isnan(b->figure[i].earlier)) {
            message_error("--compare %s: no number \"%s\"; is it output of osr bench --json?", path,
                          b->figure[i].key);
            return EXIT_DATA;
        }
    }
    return EXIT_OK;
}

/* Refuses a result whose "key" is not `value`, given as it stands in JSON. */
static int same_as_earlier(const struct bench *b, const char *key, const char *value)
{
    const char *at = value_at(b->earlier_text, key);
    if (at == NULL)
        at = "null";
    if (strncmp(at, value, strlen(value)) == 0 && strchr(",} \t\r\n", at[strlen(value)]) != NULL)
        return EXIT_OK;
    message_error("--compare %s: measured with another %s: %.*s, now %s",
                  option_text(b->o, "compare"), key, (int)value_length(at), at, value);
    return EXIT_DATA;
}

int bench_earlier_check(const struct bench *b)
{
    static const char *const keys[] = {"version", "device", "kernels", "net", "batch", "size"};
    char device[512], batch[32], side[32];
    const char *values[6];
    int code = EXIT_OK;
    values[0] = osr_version();
    values[1] = device_text(b->ctx, device, sizeof device);
    values[2] = osr_ctx_kernels(b->ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu";
    values[3] = b->network->name;
    snprintf(batch, sizeof batch, "%d", b->batch);
    snprintf(side, sizeof side, "%d", b->side);
    values[4] = batch;
    values[5] = side;
    for (int i = 0; i < 6 && code == EXIT_OK; ++i) {
        struct json j = {0};
        json_text(&j, NULL, values[i]);
        code = j.failed ? EXIT_MEMORY
                        : same_as_earlier(b, keys[i], i >= 4 ? values[i] : j.text);
        json_free(&j);
    }
    return code;
}

static void match_row(struct bench *b, const char *object)
{
    const double layer = number_of(object, "layer");
    const char *algorithm = value_at(object, "algorithm");
    for (struct bench_row *r = b->row; r < b->row + b->row_count; ++r)
        if ((isnan(layer) ? -1 : (int)layer) == r->layer && is_text(object, "op", r->op)
            && is_text(object, "pass", r->pass)) {
            r->earlier = number_of(object, "ms") * 1e-3;
            if (algorithm != NULL && algorithm[0] == '"')
                snprintf(r->then, sizeof r->then, "%.*s", (int)strcspn(algorithm + 1, "\""),
                         algorithm + 1);
        }
}

static void match_batch(struct bench *b, const char *object)
{
    const double batch = number_of(object, "batch");
    for (struct bench_sweep *s = b->sweep; s < b->sweep + b->swept; ++s)
        if (s->batch == (int)batch) {
            s->earlier_train = number_of(object, "train_images_per_s");
            s->earlier_infer = number_of(object, "infer_images_per_s");
        }
}

void bench_earlier_match(struct bench *b)
{
    char object[1024];
    const char *at = value_at(b->earlier_text, "rows");
    while (at != NULL && (at = next_object(at, object, sizeof object)) != NULL)
        match_row(b, object);
    at = value_at(b->earlier_text, "sweep");
    while (at != NULL && (at = next_object(at, object, sizeof object)) != NULL)
        match_batch(b, object);
}
