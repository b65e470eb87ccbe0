/* osr predict - a known class or "unknown" for each image file. */
#define _POSIX_C_SOURCE 200809L
#include "data.h"
#include "exit_codes.h"
#include "output.h"
#include "session.h"
#include "signals.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { PREDICT_BATCH = 64, DEPTH_MOST = 64 };

/* ---- the files ---- */

struct paths {
    char **path;
    size_t count, capacity;
    int failed; /* an operand that cannot be read: the rest goes on, the exit code stays */
};

static int out_of_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

static int paths_add(struct paths *p, const char *path)
{
    if (p->count == p->capacity) {
        const size_t capacity = p->capacity != 0 ? 2 * p->capacity : 64;
        char **more = realloc(p->path, capacity * sizeof *more);
        if (more == NULL)
            return out_of_memory();
        p->path = more;
        p->capacity = capacity;
    }
    p->path[p->count] = strdup(path);
    if (p->path[p->count] == NULL)
        return out_of_memory();
    p->count++;
    return EXIT_OK;
}

static void paths_free(struct paths *p)
{
    for (size_t i = 0; i < p->count; ++i)
        free(p->path[i]);
    free(p->path);
}

static int is_image_name(const char *name)
{
    const char *point = strrchr(name, '.');
    return point != NULL && (strcasecmp(point, ".png") == 0 || strcasecmp(point, ".jpg") == 0
                             || strcasecmp(point, ".jpeg") == 0);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int walk(struct paths *p, const char *folder, int depth);

/* An entry of a directory: an image, or a directory that is no link (links could make a loop). */
static int walk_entry(struct paths *p, const char *folder, const char *name, int depth)
{
    const size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    struct stat info;
    int code = EXIT_OK;
    if (path == NULL)
        return out_of_memory();
    snprintf(path, size, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", name);
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        code = walk(p, path, depth + 1);
    else if (is_image_name(name))
        code = paths_add(p, path);
    free(path);
    return code;
}

static int walk(struct paths *p, const char *folder, int depth)
{
    struct dirent **entries = NULL;
    int code = EXIT_OK, n = -1;
    if (depth < DEPTH_MOST)
        n = scandir(folder, &entries, NULL, by_bytes);
    else
        errno = ELOOP;
    if (n < 0) {
        message_error("%s: %s", folder, strerror(errno));
        p->failed = 1;
        return EXIT_OK;
    }
    for (int i = 0; i < n; ++i) {
        if (code == EXIT_OK && entries[i]->d_name[0] != '.')
            code = walk_entry(p, folder, entries[i]->d_name, depth);
        free(entries[i]);
    }
    free(entries);
    return code;
}

static int paths_find(struct paths *p, char **operands, int count)
{
    int code = EXIT_OK;
    for (int i = 0; i < count && code == EXIT_OK; ++i) {
        const size_t before = p->count;
        const int failed = p->failed;
        struct stat info;
        if (stat(operands[i], &info) != 0 || !S_ISDIR(info.st_mode)) {
            code = paths_add(p, operands[i]);
            continue;
        }
        code = walk(p, operands[i], 0);
        if (p->count == before && p->failed == failed && code == EXIT_OK) {
            message_error("%s: no PNG or JPEG file in it", operands[i]);
            p->failed = 1;
        }
    }
    return code;
}

/* ---- the model's score ---- */

static int find_score(const char *name, const osr_score_row **row)
{
    const char *names[64];
    const char *nearest;
    size_t n = 0;
    *row = osr_score_find(name);
    if (*row != NULL)
        return EXIT_OK;
    for (; n < 64 && osr_score_at((int)n) != NULL; ++n)
        names[n] = osr_score_at((int)n)->name;
    nearest = nearest_name(name, names, n);
    message_error("--score %s: no such score%s%s%s", name, nearest != NULL ? "; did you mean " : "",
                  nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    return EXIT_USAGE;
}

/* --score and --threshold into the model. A threshold belongs to one score. */
static int set_score(const struct options *o, osr_model *model)
{
    const char *name = option_text(o, "score");
    const osr_score_row *own, *row;
    double threshold = osr_model_threshold(model, &own);
    row = own;
    if (name != NULL) {
        const int code = find_score(name, &row);
        if (code != EXIT_OK)
            return code;
    }
    if (option_set(o, "threshold")) {
        threshold = option_real(o, "threshold");
    } else if (row != own) {
        message_error("--score %s: the model's threshold is one of %s; give --threshold", row->name,
                      own->name);
        return EXIT_USAGE;
    } else if (isinf(threshold)) {
        message_warning("the model has no threshold, so that nothing is unknown: run osr calibrate "
                        "or give --threshold");
    }
    if (osr_model_set_threshold(model, row, threshold) != OSR_OK)
        return session_fail(osr_model_context(model));
    return EXIT_OK;
}

/* ---- images through the model ---- */

struct batch {
    osr_model *model;
    int side, channels; /* of the pictures: the model's own, or near it where it is not square */
    uint8_t *pixels;    /* [PREDICT_BATCH, side, side, channels] */
    const char *path[PREDICT_BATCH];
    osr_prediction found[PREDICT_BATCH];
    int count;
    struct json *json; /* NULL: text */
};

static int batch_start(struct batch *b, osr_model *model, struct json *json)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    b->model = model;
    b->json = json;
    b->side = d->height > d->width ? d->height : d->width;
    b->channels = d->channels == 3 ? 3 : 1;
    b->pixels = calloc(PREDICT_BATCH, (size_t)b->side * (size_t)b->side * (size_t)b->channels);
    return b->pixels != NULL ? EXIT_OK : out_of_memory();
}

static void print_one(struct batch *b, const char *path, const osr_prediction *p)
{
    const char *class = p->known ? p->name : "unknown";
    char score[REAL_TEXT], threshold[REAL_TEXT];
    if (b->json == NULL) {
        printf("%s\t%s\t%s\t%s\n", path, class, real_text(score, p->score),
               real_text(threshold, p->threshold));
        return;
    }
    json_open(b->json, NULL, '{');
    json_text(b->json, "path", path);
    json_text(b->json, "class", class);
    json_bool(b->json, "known", p->known);
    json_integer(b->json, "label", p->label);
    json_text(b->json, "nearest", p->name);
    json_real(b->json, "score", p->score);
    json_real(b->json, "threshold", p->threshold);
    json_close(b->json, '}');
}

static int batch_flush(struct batch *b)
{
    const int n = b->count;
    b->count = 0;
    if (n == 0)
        return EXIT_OK;
    if (osr_model_predict(b->model, b->pixels, n, b->side, b->side, b->channels, b->found)
        != OSR_OK)
        return session_fail(osr_model_context(b->model));
    for (int i = 0; i < n; ++i)
        print_one(b, b->path[i], &b->found[i]);
    if (b->json == NULL)
        fflush(stdout);
    return EXIT_OK;
}

/* All files; one that is no image gets its line on stderr and the rest goes on. */
static int predict_all(struct batch *b, const struct paths *p)
{
    const size_t image = (size_t)b->side * (size_t)b->side * (size_t)b->channels;
    int code = EXIT_OK, unreadable = p->failed;
    for (size_t i = 0; i < p->count && code == EXIT_OK; ++i) {
        char message[512];
        const int read = image_load(p->path[i], b->side, b->channels,
                                    b->pixels + (size_t)b->count * image, message, sizeof message);
        if (read == EXIT_OK) {
            b->path[b->count++] = p->path[i];
        } else {
            message_error("%s", message);
            unreadable = 1;
            code = read == EXIT_MEMORY ? EXIT_MEMORY : EXIT_OK;
        }
        if (b->count == PREDICT_BATCH && code == EXIT_OK)
            code = batch_flush(b);
        if (code == EXIT_OK)
            code = signals_pending();
    }
    if (code == EXIT_OK)
        code = batch_flush(b);
    return code == EXIT_OK && unreadable ? EXIT_DATA : code;
}

static int predict_files(const struct options *o, osr_model *model)
{
    struct paths paths = {0};
    struct batch batch = {0};
    struct json json = {0};
    const int as_json = option_flag(o, "json");
    int code = set_score(o, model);
    if (code == EXIT_OK)
        code = paths_find(&paths, o->operands + 1, o->operand_count - 1);
    if (code == EXIT_OK)
        code = batch_start(&batch, model, as_json ? &json : NULL);
    if (code == EXIT_OK) {
        json_open(&json, NULL, '[');
        code = predict_all(&batch, &paths);
        json_close(&json, ']');
        if (as_json && (code == EXIT_OK || code == EXIT_DATA)) {
            const int printed = json_print(&json);
            code = printed != EXIT_OK ? printed : code;
        }
    }
    free(batch.pixels);
    json_free(&json);
    paths_free(&paths);
    return code;
}

int cmd_predict(struct options *o)
{
    osr_ctx *ctx = NULL;
    osr_model *model = NULL;
    struct origin origin;
    int code;
    signals_install();
    code = session_open_run(o, o->operands[0], &ctx);
    if (code == EXIT_OK)
        code = session_model(ctx, o->operands[0], &model, &origin);
    if (code == EXIT_OK)
        code = predict_files(o, model);
    osr_model_destroy(model);
    osr_ctx_destroy(ctx);
    return code;
}
