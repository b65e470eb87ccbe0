/* osr inspect - what a model file holds, after all of it has been checked. No device is needed. */
#define _POSIX_C_SOURCE 200809L
#include "exit_codes.h"
#include "output.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct range {
    double min, max, mean;
};

static const char *dtype_name(osr_dtype dtype)
{
    static const char *const names[] = {
#define NAME(name, bytes) #name,
        OSR_DTYPE_LIST(NAME)
#undef NAME
    };
    return names[dtype];
}

static void range_add(struct range *r, double value)
{
    r->min = value < r->min ? value : r->min;
    r->max = value > r->max ? value : r->max;
    r->mean += value;
}

/* An element of an integer tensor. */
static double integer_at(osr_dtype dtype, const void *values, uint64_t i)
{
    switch (dtype) {
    case OSR_DTYPE_I32: return ((const int32_t *)values)[i];
    case OSR_DTYPE_I64: return (double)((const int64_t *)values)[i];
    case OSR_DTYPE_U64: return (double)((const uint64_t *)values)[i];
    default: return ((const uint8_t *)values)[i];
    }
}

/* min, max and mean of a tensor, read in the type that it has. An exit code. */
static int range_of(osr_ctx *ctx, const osr_file *file, const osr_file_entry *e, struct range *r)
{
    const int integers = e->dtype == OSR_DTYPE_I32 || e->dtype == OSR_DTYPE_I64
                         || e->dtype == OSR_DTYPE_U64 || e->dtype == OSR_DTYPE_U8;
    /* F16 and BF16 are widened */
    const size_t each = integers ? (size_t)(e->bytes / e->count) : sizeof(float);
    const size_t count = (size_t)e->count;
    void *values = malloc(count * each);
    if (values == NULL) {
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    if (integers)
        osr_file_read_raw(file, e->name, e->dtype, count, values);
    else
        osr_file_read_f32(file, e->name, count, values);
    *r = (struct range){INFINITY, -INFINITY, 0.0};
    for (size_t i = 0; i < count && osr_ctx_status(ctx) == OSR_OK; ++i)
        range_add(r, integers ? integer_at(e->dtype, values, i)
                              : (double)((const float *)values)[i]);
    r->mean /= (double)count;
    free(values);
    return osr_ctx_status(ctx) == OSR_OK ? EXIT_OK : session_fail(ctx);
}

static int ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Does an optimiser train it? Not the running statistics, anchors or an optimiser's own state. */
static int is_parameter(const osr_file_entry *e)
{
    static const char *const of_layers[] = {".weight", ".bias"};
    static const char *const of_heads[] = {"prototypes", "points", "radius"};
    if (strncmp(e->name, "opt.", 4) == 0)
        return 0;
    for (size_t i = 0; i < sizeof of_layers / sizeof of_layers[0]; ++i)
        if (ends_with(e->name, of_layers[i]))
            return 1;
    for (size_t i = 0; i < sizeof of_heads / sizeof of_heads[0]; ++i)
        if (strcmp(e->name, of_heads[i]) == 0)
            return 1;
    return 0;
}

/* Figures of the whole file. */
struct totals {
    uint64_t parameters, values, bytes;
};

static struct totals totals_of(const osr_file *file)
{
    struct totals t = {0};
    for (int i = 0; i < osr_file_count(file); ++i) {
        const osr_file_entry *e = osr_file_tensor(file, i);
        t.parameters += is_parameter(e) ? e->count : 0;
        t.values += e->count;
        t.bytes += e->bytes;
    }
    return t;
}

/* ---- text ---- */

/* Lists (class names by line, layers by ';') take a line an entry. */
static void print_value(const char *key, const char *value)
{
    printf("%-14s ", key);
    for (; *value != '\0'; ++value)
        if (*value == '\n' || (*value == ';' && strcmp(key, "osr.layers") == 0))
            printf("\n%-14s ", "");
        else
            putchar((unsigned char)*value < 32 || *value == 127 ? ' ' : *value);
    putchar('\n');
}

static void shape_text(const osr_file_entry *e, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < e->rank && at < size; ++i)
        at += (size_t)snprintf(text + at, size - at, i == 0 ? "%llu" : ", %llu",
                               (unsigned long long)e->shape[i]);
    if (at < size)
        snprintf(text + at, size - at, "]");
}

static int print_tensors(osr_ctx *ctx, const osr_file *file)
{
    struct table t;
    int code = EXIT_OK;
    static const char *const heads[] = {"tensor", "type", "shape", "min", "max", "mean"};
    table_start(&t, 6);
    for (int i = 0; i < 6; ++i)
        table_cell(&t, "%s", heads[i]);
    for (int i = 0; i < osr_file_count(file) && code == EXIT_OK; ++i) {
        const osr_file_entry *e = osr_file_tensor(file, i);
        char shape[200];
        struct range r = {0};
        code = range_of(ctx, file, e, &r);
        shape_text(e, shape, sizeof shape);
        table_cell(&t, "%s", e->name);
        table_cell(&t, "%s", dtype_name(e->dtype));
        table_cell(&t, "%s", shape);
        table_cell(&t, "%.4g", r.min);
        table_cell(&t, "%.4g", r.max);
        table_cell(&t, "%.4g", r.mean);
    }
    const int printed = table_print(&t);
    return code != EXIT_OK ? code : printed;
}

static int print_text(osr_ctx *ctx, const osr_file *file, const char *path)
{
    const struct totals t = totals_of(file);
    const char *key, *value;
    int code;
    printf("%-14s %s\n", "file", path);
    for (int i = 0; (value = osr_file_meta_at(file, i, &key)) != NULL; ++i)
        print_value(key, value);
    putchar('\n');
    code = print_tensors(ctx, file);
    printf("\n%llu parameters, %llu values, %llu bytes in %d tensors\n",
           (unsigned long long)t.parameters, (unsigned long long)t.values,
           (unsigned long long)t.bytes, osr_file_count(file));
    printf("%s\n", osr_file_meta(file, "osr.xxh64") ? "the hash is right"
                                         : "no hash: another program wrote this file");
    return code;
}

/* ---- JSON ---- */

static int json_tensor(struct json *j, osr_ctx *ctx, const osr_file *file, const osr_file_entry *e)
{
    struct range r = {0};
    const int code = range_of(ctx, file, e, &r);
    json_open(j, NULL, '{');
    json_text(j, "name", e->name);
    json_text(j, "dtype", dtype_name(e->dtype));
    json_open(j, "shape", '[');
    for (int i = 0; i < e->rank; ++i)
        json_integer(j, NULL, (int64_t)e->shape[i]);
    json_close(j, ']');
    json_real(j, "min", r.min);
    json_real(j, "max", r.max);
    json_real(j, "mean", r.mean);
    json_close(j, '}');
    return code;
}

static int print_json(osr_ctx *ctx, const osr_file *file, const char *path)
{
    const struct totals t = totals_of(file);
    const char *key, *value;
    struct json j = {0};
    int code = EXIT_OK;
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "osr-inspect-1");
    json_text(&j, "path", path);
    json_bool(&j, "hashed", osr_file_meta(file, "osr.xxh64") != NULL);
    json_integer(&j, "parameters", (int64_t)t.parameters);
    json_integer(&j, "values", (int64_t)t.values);
    json_integer(&j, "bytes", (int64_t)t.bytes);
    json_open(&j, "metadata", '{');
    for (int i = 0; (value = osr_file_meta_at(file, i, &key)) != NULL; ++i)
        json_text(&j, key, value);
    json_close(&j, '}');
    json_open(&j, "tensors", '[');
    for (int i = 0; i < osr_file_count(file) && code == EXIT_OK; ++i)
        code = json_tensor(&j, ctx, file, osr_file_tensor(file, i));
    json_close(&j, ']');
    json_close(&j, '}');
    if (code == EXIT_OK)
        code = json_print(&j);
    json_free(&j);
    return code;
}

int cmd_inspect(struct options *o)
{
    osr_ctx *ctx = NULL;
    osr_file *file = NULL;
    osr_ctx_desc desc = {0};
    char path[4096];
    struct stat s;
    int code;
    if (option_given(o, "png") && o->operand_count == 0)
        return contact_sheet(o);
    if (option_given(o, "png") || o->operand_count == 0) {
        message_error("inspect wants either FILE or --png");
        return EXIT_USAGE;
    }
    desc.no_device = 1;
    snprintf(path, sizeof path, "%s", o->operands[0]);
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        snprintf(path, sizeof path, "%s/model.safetensors", o->operands[0]);
    if (osr_ctx_create(&desc, &ctx) != OSR_OK || osr_file_open(ctx, path, NULL, &file) != OSR_OK) {
        code = session_fail(ctx);
        code = code == EXIT_IO ? EXIT_DATA : code; /* a file that cannot be read is bad input */
    } else if (option_flag(o, "json")) {
        code = print_json(ctx, file, path);
    } else {
        code = print_text(ctx, file, path);
    }
    osr_file_close(file);
    osr_ctx_destroy(ctx);
    return code;
}
