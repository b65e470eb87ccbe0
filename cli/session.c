#define _POSIX_C_SOURCE 200809L
#include "session.h"

#include "exit_codes.h"
#include "output.h"
#include "run_dir.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void log_line(void *user, int level, const char *message)
{
    (void)user;
    if (level == 1)
        message_warning("%s", message);
    else if (level == 2)
        message_detail("%s", message);
}

/* Does the command have this option? */
static int has_option(const struct options *o, const char *key)
{
    for (int i = 0; i < option_count; ++i)
        if (strcmp(option_table[i].key, key) == 0
            && (option_table[i].commands & 1u << o->command) != 0)
            return 1;
    return 0;
}

/* The context with these choices, of `path` or NULL. */
static int open_context(const struct options *o, const char *tuning, const char *path,
                        osr_ctx **ctx)
{
    osr_ctx_desc desc = {0};
    desc.tuning = tuning;
    desc.device = option_text(o, "device");
    desc.kernels = (osr_kernels)option_choice(o, "kernels");
    desc.logger.fn = log_line;
    if (has_option(o, "algorithm"))
        desc.direct = (int[]){0, 1, -1}[option_choice(o, "algorithm")];
    if (has_option(o, "products"))
        desc.products = (osr_products)option_choice(o, "products");
    if (has_option(o, "seed"))
        desc.seed = (uint64_t)option_int(o, "seed");
    if (osr_ctx_create(&desc, ctx) == OSR_OK)
        return EXIT_OK;
    if (path != NULL && osr_ctx_status(*ctx) == OSR_FORMAT)
        message_error("%s: %s", path, osr_ctx_message(*ctx));
    else
        session_fail(*ctx);
    const int code = status_exit(osr_ctx_status(*ctx));
    osr_ctx_destroy(*ctx);
    *ctx = NULL;
    return code;
}

int session_open_tuned(const struct options *o, const char *tuning, osr_ctx **ctx)
{
    return open_context(o, tuning, NULL, ctx);
}

/* The text of a file of choices; NULL with the error printed. */
static char *read_tuning(const char *path)
{
    char message[4352];
    size_t size;
    char *text = file_read(path, 1 << 20, &size, message, sizeof message);
    if (text != NULL && strlen(text) == size)
        return text;
    if (text != NULL)
        message_error("%s: not a text", path);
    else
        message_error("%s", message);
    free(text);
    return NULL;
}

/* With the choices of a file. */
static int open_file(const struct options *o, const char *path, osr_ctx **ctx)
{
    char *text = read_tuning(path);
    if (text == NULL)
        return EXIT_DATA;
    message_detail("convolutions as in %s", path);
    const int code = open_context(o, text, path, ctx);
    free(text);
    return code;
}

int session_open(const struct options *o, osr_ctx **ctx)
{
    static const char *const forced[] = {"algorithm", "products"};
    const int tuned = has_option(o, "tuned") && option_choice(o, "tuned") == 1;
    const char *file = has_option(o, "tuning") ? option_text(o, "tuning") : NULL;
    const int out = has_option(o, "tuning-out") && option_set(o, "tuning-out");
    const char *use = file != NULL ? "--tuning" : tuned ? "--tuned yes" : "--tuning-out";
    if (file != NULL && tuned) {
        message_error("--tuning and --tuned yes exclude each other");
        return EXIT_USAGE;
    }
    for (int i = 0; i < 2 && (file != NULL || tuned || out); ++i)
        if (option_choice(o, forced[i]) != 0) {
            message_error("%s and --%s %s exclude each other", use, forced[i],
                          option_text(o, forced[i]));
            return EXIT_USAGE;
        }
    if (file != NULL)
        return open_file(o, file, ctx);
    const int code = session_open_tuned(o, tuned ? "auto" : out ? "" : NULL, ctx);
    if (code == EXIT_OK && tuned && osr_ctx_tuning(*ctx)[0] == '\0')
        message_warning("no tuning is kept for this device: osr tune makes one");
    return code;
}

int session_open_run(const struct options *o, const char *run_or_model, osr_ctx **ctx)
{
    struct stat s;
    char path[4096];
    snprintf(path, sizeof path, "%s/tuning.txt", run_or_model);
    return stat(path, &s) == 0 ? open_file(o, path, ctx) : session_open(o, ctx);
}

int status_exit(osr_status status)
{
    switch (status) {
    case OSR_OK: return EXIT_OK;
    case OSR_ARG: return EXIT_USAGE;
    case OSR_UNSUPPORTED: return EXIT_USAGE;
    case OSR_SHAPE:
    case OSR_NAN:
    case OSR_FORMAT: return EXIT_DATA;
    case OSR_MEMORY: return EXIT_MEMORY;
    case OSR_IO: return EXIT_IO;
    case OSR_DEVICE: return EXIT_DEVICE;
    default: return EXIT_INTERNAL;
    }
}

int session_fail(const osr_ctx *ctx)
{
    message_error("%s", osr_ctx_message(ctx));
    return status_exit(osr_ctx_status(ctx));
}

char *device_text(const osr_ctx *ctx, char *text, size_t size)
{
    const osr_device *d = osr_ctx_device(ctx);
    snprintf(text, size, "%s (%s, %s)", d->name, d->platform, d->driver);
    return text;
}

static void copy_meta(const osr_file *file, const char *key, char *text, size_t size)
{
    const char *value = osr_file_meta(file, key);
    snprintf(text, size, "%s", value == NULL ? "" : value);
}

static long number_meta(const osr_file *file, const char *key)
{
    const char *value = osr_file_meta(file, key);
    int64_t number = -1;
    return value != NULL && integer_parse(value, &number) == 0 ? (long)number : -1;
}

int session_model(osr_ctx *ctx, const char *run_or_model, osr_model **model, struct origin *origin)
{
    struct stat s;
    char path[4096];
    osr_file *file = NULL;
    *model = NULL;
    snprintf(path, sizeof path, "%s", run_or_model);
    if (stat(run_or_model, &s) == 0 && S_ISDIR(s.st_mode))
        snprintf(path, sizeof path, "%s/model.safetensors", run_or_model);
    if (osr_file_open(ctx, path, NULL, &file) == OSR_OK) {
        copy_meta(file, "run.data", origin->data, sizeof origin->data);
        copy_meta(file, "run.unknown", origin->unknown, sizeof origin->unknown);
        copy_meta(file, "run.split", origin->split, sizeof origin->split);
        origin->trial = number_meta(file, "run.trial");
        origin->seed = number_meta(file, "run.seed");
        const char *test = osr_file_meta(file, "run.test-set");
        origin->balanced = test != NULL && strcmp(test, "balanced") == 0;
        osr_model_read(ctx, file, model);
    }
    osr_file_close(file);
    if (osr_ctx_status(ctx) == OSR_OK)
        return EXIT_OK;
    /* a file that cannot be opened or parsed is bad input, not a failed write */
    const int code = session_fail(ctx);
    return code == EXIT_IO ? EXIT_DATA : code;
}

char *origin_data(const struct origin *origin, char *text)
{
    snprintf(text, ORIGIN_TEXT, "%s%s%s", origin->data, origin->unknown[0] != '\0' ? " + " : "",
             origin->unknown);
    return text;
}

int origin_write(const struct origin *origin, osr_writer *writer)
{
    char number[32];
    osr_writer_meta(writer, "run.data", origin->data);
    if (origin->unknown[0] != '\0')
        osr_writer_meta(writer, "run.unknown", origin->unknown);
    osr_writer_meta(writer, "run.split", origin->split);
    if (origin->balanced)
        osr_writer_meta(writer, "run.test-set", "balanced");
    snprintf(number, sizeof number, "%ld", origin->trial);
    osr_writer_meta(writer, "run.trial", number);
    snprintf(number, sizeof number, "%ld", origin->seed);
    return status_exit(osr_writer_meta(writer, "run.seed", number));
}

int session_save(osr_model *model, const struct origin *origin, const char *path)
{
    osr_ctx *ctx = osr_model_context(model);
    osr_writer *writer = NULL;
    if (osr_writer_create(ctx, &writer) == OSR_OK && osr_model_write(model, writer, 0) == OSR_OK
        && origin_write(origin, writer) == EXIT_OK)
        osr_writer_save(writer, path);
    osr_writer_destroy(writer);
    return osr_ctx_status(ctx) == OSR_OK ? EXIT_OK : session_fail(ctx);
}
