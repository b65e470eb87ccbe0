/* bench_tuning.c - the choices of algorithms of --tuning and --tuned in a bench; see bench.h. */
#include "bench.h"

#include "exit_codes.h"
#include "output.h"
#include "run_dir.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>

int bench_tuning_open(struct bench *b)
{
    const char *file = option_text(b->o, "tuning");
    const int code = session_open(b->o, &b->ctx);
    if (code == EXIT_OK && file != NULL)
        snprintf(b->tuning, sizeof b->tuning, "%s", file);
    else if (code == EXIT_OK && option_choice(b->o, "tuned") == 1
             && osr_ctx_tuning(b->ctx)[0] != '\0')
        snprintf(b->tuning, sizeof b->tuning, "%s", osr_ctx_tuning_file(b->ctx));
    return code;
}

/* The choice of a line as osr_ctx_tuning writes it, without what makes it; 0 for a comment. */
static int read_choice(const char *line, char shape[160], char made[24])
{
    char pass[16];
    int k[11];
    if (sscanf(line, "%d %d %d %d %d %d %d %d %d %d %d %15s %23s", &k[0], &k[1], &k[2], &k[3],
               &k[4], &k[5], &k[6], &k[7], &k[8], &k[9], &k[10], pass, made) != 13)
        return 0;
    made[strcspn(made, "#\r")] = '\0';
    snprintf(shape, 160, "%d %d %d %d %d %d %d %d %d %d %d %s ", k[0], k[1], k[2], k[3], k[4],
             k[5], k[6], k[7], k[8], k[9], k[10], pass);
    return 1;
}

/* What stands behind this shape and pass in choices as osr_ctx_tuning writes them; NULL: none. */
static const char *made_in(const char *choices, const char *shape)
{
    while (*choices != '\0' && strncmp(choices, shape, strlen(shape)) != 0) {
        choices += strcspn(choices, "\n");
        choices += *choices == '\n';
    }
    return *choices != '\0' ? choices + strlen(shape) : NULL;
}

/* All that a bench like this one chooses, by a step of one without choices; NULL with the error
 * printed. */
static char *all_choices(const struct bench *like, int *code)
{
    struct bench b = {0};
    char *all = NULL;
    b.o = like->o;
    b.network = like->network;
    b.side = like->side;
    b.batch = like->batch;
    b.steps = 1;
    *code = session_open_tuned(b.o, "", &b.ctx);
    if (*code == EXIT_OK)
        *code = bench_make(&b);
    if (*code == EXIT_OK) {
        bench_train_step(&b);
        bench_infer_batch(&b);
        b.batch = 1;
        bench_infer_batch(&b);
        *code = osr_ctx_status(b.ctx) == OSR_OK ? EXIT_OK : session_fail(b.ctx);
    }
    if (*code == EXIT_OK) {
        const char *text = osr_ctx_tuning(b.ctx);
        all = calloc(strlen(text) + 1, 1);
        *code = all != NULL ? EXIT_OK : EXIT_MEMORY;
        if (all != NULL)
            memcpy(all, text, strlen(text));
    }
    bench_close(&b);
    return all;
}

static void count_choices(struct bench *b, char *file, const char *all)
{
    const char *now = osr_ctx_tuning(b->ctx);
    char shape[160], made[24];
    int number = 1;
    for (char *line = file, *next; line != NULL; line = next, ++number) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        if (!read_choice(line, shape, made))
            continue;
        b->choices++;
        const char *is = made_in(now, shape);
        if (is == NULL || made_in(all, shape) == NULL) {
            message_detail("%s: line %d is of no pass here", b->tuning, number);
        } else if (strncmp(is, made, strlen(made)) == 0 && is[strlen(made)] == '\n') {
            b->in_force++;
        } else {
            message_warning("%s: line %d: not %s there but %.*s", b->tuning, number, made,
                            (int)strcspn(is, "\n"), is);
        }
    }
    if (b->in_force == 0)
        message_warning("%s: no choice in it is of this network, size and batch", b->tuning);
}

/* Every choice of this bench, to be changed and given as --tuning. */
static int write_choices(struct bench *b, const char *path)
{
    static const char head[] = "# N H W C O KH KW OH OW STRIDE PADDING PASS HOW\n";
    char message[4352];
    const char *choices = osr_ctx_tuning(b->ctx);
    char *text = calloc(sizeof head + strlen(choices), 1);
    int code = text != NULL ? EXIT_OK : EXIT_MEMORY;
    if (text == NULL) {
        message_error("out of memory");
        return code;
    }
    strcat(strcpy(text, head), choices);
    if (file_write(path, text, strlen(text), message, sizeof message) != EXIT_OK) {
        message_error("--tuning-out %s", message);
        code = EXIT_IO;
    }
    free(text);
    return code;
}

int bench_tuning_end(struct bench *b)
{
    const char *out = option_text(b->o, "tuning-out");
    char message[4352];
    size_t size;
    int code = EXIT_OK;
    if (b->tuning[0] != '\0') {
        char *file = file_read(b->tuning, 1 << 20, &size, message, sizeof message);
        char *all = file != NULL ? all_choices(b, &code) : NULL;
        if (all != NULL)
            count_choices(b, file, all);
        if (file == NULL)
            message_error("--tuning %s", message);
        code = file == NULL ? EXIT_DATA : code;
        free(file);
        free(all);
    }
    return code == EXIT_OK && out != NULL ? write_choices(b, out) : code;
}
