/* cmd_eval.c - osr eval and osr calibrate: a finished model against a data set. */
#include "evaluation.h"
#include "exit_codes.h"
#include "output.h"
#include "progress.h"
#include "run_dir.h"
#include "signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A model and the data it is held against. */
struct job {
    osr_ctx *ctx;
    osr_model *model;
    struct origin origin;
    struct data data;
    struct data_set other;      /* of --unknown */
    const struct data_set *unknown; /* the set of the unknown classes: &other or &data.test */
    struct class_split split;
};

/* The set of the unknown classes: --unknown, else the run's unless there is --data. */
static int unknown_open(struct job *j, const struct options *o, char *message, size_t size)
{
    const osr_model_desc *d = osr_model_get_desc(j->model);
    struct class_split published;
    int code;
    j->unknown = &j->data.test;
    if (o->command == COMMAND_CALIBRATE)
        return EXIT_OK;
    if (option_given(o, "unknown"))
        snprintf(j->origin.unknown, sizeof j->origin.unknown, "%s", option_text(o, "unknown"));
    else if (option_given(o, "data"))
        j->origin.unknown[0] = '\0';
    if (j->origin.unknown[0] != '\0') {
        code = data_open_unknown(j->origin.unknown, j->origin.seed >= 0 ? (uint64_t)j->origin.seed
                                                                        : 0,
                                 d->height, d->channels == 1 ? 1 : 3, &j->other, message, size);
        if (code != EXIT_OK)
            return code;
        j->unknown = &j->other;
    }
    /* where the run's list names classes of another set, they are still meant */
    if (split_by_name(j->origin.split, &published, message, size) == EXIT_OK
        && published.unknown_set != NULL
        && (j->unknown == &j->data.test || j->other.class_count == 100)) {
        int *swap = j->split.unknown;
        j->split.unknown = published.unknown;
        j->split.unknown_count = published.unknown_count;
        j->split.unknown_set = published.unknown_set;
        snprintf(j->split.name, sizeof j->split.name, "%s", published.name);
        published.unknown = swap;
    }
    split_free(&published);
    return split_take_unknown(&j->split, j->unknown == &j->other ? &j->other : NULL, message, size);
}

/* Opens model (the first operand) and data (--data, else the model's own). Prints the error. */
static int job_open(struct job *j, const struct options *o)
{
    char message[1024];
    int code = session_open(o, &j->ctx);
    if (code == EXIT_OK)
        code = session_model(j->ctx, o->operands[0], &j->model, &j->origin);
    if (code != EXIT_OK)
        return code;
    if (option_given(o, "data"))
        snprintf(j->origin.data, sizeof j->origin.data, "%s", option_text(o, "data"));
    if (j->origin.data[0] == '\0') {
        message_error("%s does not say what data it was trained on; name some with --data",
                      o->operands[0]);
        return EXIT_USAGE;
    }
    const osr_model_desc *d = osr_model_get_desc(j->model);
    const uint64_t seed = j->origin.seed >= 0 ? (uint64_t)j->origin.seed : 0;
    code = data_open(j->origin.data, seed, d->height, d->channels == 1 ? 1 : 3, &j->data, message,
                     sizeof message);
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    code = split_of_model(j->model, &j->data.test, &j->split);
    if (code != EXIT_OK)
        return code;
    code = unknown_open(j, o, message, sizeof message);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}

static void job_close(struct job *j)
{
    osr_model_destroy(j->model);
    osr_ctx_destroy(j->ctx);
    split_free(&j->split);
    data_set_free(&j->other);
    data_close(&j->data);
}

/* EXIT_OK where the model has the score; else the reason is printed. */
static int check_score(const struct job *j, const osr_score_row *row)
{
    const osr_outputs none = {0};
    if (osr_model_has_score(j->model, row))
        return EXIT_OK;
    osr_model_score(j->model, row, &none, 0, NULL, NULL);
    return session_fail(j->ctx);
}

/* The score that the user names, else the model's. NULL with the error printed; `all` allowed
 * where the pointer is not NULL. */
static const osr_score_row *choose_score(const struct options *o, const struct job *j, int *all)
{
    const char *name = option_text(o, "score");
    const osr_score_row *row;
    osr_model_threshold(j->model, &row);
    if (all != NULL)
        *all = name != NULL && strcmp(name, "all") == 0;
    if (name == NULL || (all != NULL && *all))
        return row;
    row = osr_score_find(name);
    if (row == NULL) {
        const char *names[64];
        int n = 0;
        for (; n < osr_score_count() && n < 64; ++n)
            names[n] = osr_score_at(n)->name;
        const char *near = nearest_name(name, names, (size_t)n);
        message_error("no score is called \"%s\"%s%s%s", name,
                      near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                      near != NULL ? "?" : "");
    } else if (osr_score_lacks(row, osr_model_get_desc(j->model)->method->outputs) != NULL) {
        check_score(j, row);
        row = NULL;
    }
    return row;
}

static int print_results(const struct options *o, const struct results *r, int all)
{
    if (!option_flag(o, "json")) {
        int code = results_table(r);
        if (code == EXIT_OK && r->resamples > 0)
            code = results_table_intervals(r);
        return code == EXIT_OK ? results_table_confusion(r) : code;
    }
    char *text = results_json(r, all);
    if (text == NULL)
        return EXIT_MEMORY;
    printf("%s\n", text);
    free(text);
    return EXIT_OK;
}

/* The file of --confusion. */
static int write_confusion(const struct options *o, const struct results *r)
{
    const char *path = option_text(o, "confusion");
    const osr_score_row *own;
    char message[512];
    if (path == NULL)
        return EXIT_OK;
    const double threshold = osr_model_threshold(r->model, &own);
    if (r->confusion.known == 0) {
        message_error("--confusion: %s", isfinite(threshold)
                      ? "it is of the model's own score, at its threshold"
                      : "the model has no threshold: osr calibrate chooses one");
        return EXIT_USAGE;
    }
    char *text = confusion_csv(&r->confusion);
    const int code = text == NULL ? EXIT_MEMORY
                                  : file_write(path, text, strlen(text), message, sizeof message);
    free(text);
    if (code != EXIT_OK)
        message_error("%s", code == EXIT_MEMORY ? "out of memory" : message);
    return code;
}

static int eval(struct options *o, struct job *j)
{
    struct results r = {0};
    int all, code = job_open(j, o);
    if (code != EXIT_OK)
        return code;
    const osr_score_row *row = choose_score(o, j, &all);
    if (row == NULL)
        return EXIT_USAGE;
    code = all ? EXIT_OK : check_score(j, row);
    if (code != EXIT_OK)
        return code;
    code = results_compute(j->model, &j->data.test, j->unknown, &j->split,
                           (int)option_int(o, "batch"), all ? NULL : row, 1, &j->origin, &r);
    if (code == EXIT_OK)
        code = results_intervals(&r, (int)option_int(o, "bootstrap"),
                                 (uint64_t)option_int(o, "seed"));
    if (code == EXIT_OK)
        code = write_confusion(o, &r);
    if (code == EXIT_OK)
        code = print_results(o, &r, all);
    if (code == EXIT_OK && option_given(o, "min-auroc")
        && !(r.row[0].metrics.auroc >= option_real(o, "min-auroc"))) {
        message_error("AUROC %.4f is below %g", r.row[0].metrics.auroc,
                      option_real(o, "min-auroc"));
        code = EXIT_GATE;
    }
    results_free(&r);
    return code;
}

int cmd_eval(struct options *o)
{
    struct job j = {0};
    signals_install();
    const int code = eval(o, &j);
    status_line_end();
    job_close(&j);
    return code;
}

/* The threshold anew, with --anchors the anchors before it, from the training images of the known
 * classes in the user's own data; and what openmax, ncm and mahalanobis read, where the model does
 * not have it. */
static int calibrate(struct options *o, struct job *j)
{
    struct subset known = {0};
    char message[512];
    if (!option_given(o, "data")) {
        message_error("calibrate needs --data: images of the known classes");
        return EXIT_USAGE;
    }
    int code = job_open(j, o);
    if (code != EXIT_OK)
        return code;
    const osr_score_row *row = choose_score(o, j, NULL), *before;
    if (row == NULL)
        return EXIT_USAGE;
    const double old = osr_model_threshold(j->model, &before);
    code = subset_known(&j->data.train, &j->split, &known, message, sizeof message);
    if (code != EXIT_OK || known.count == 0) {
        message_error("%s", code != EXIT_OK ? message : "no image of a known class");
        return code != EXIT_OK ? code : EXIT_DATA;
    }
    const int anchors = option_flag(o, "anchors");
    const int add = !osr_model_has_score(j->model, osr_score_find("ncm")); /* made all at once */
    if (anchors && !osr_model_get_desc(j->model)->method->calibrates) {
        message_error("method %s has no anchors to calibrate",
                      osr_model_get_desc(j->model)->method->name);
        subset_free(&known);
        return EXIT_USAGE;
    }
    if (anchors || add)
        code = model_calibrate(j->model, &j->data.train, &known, (int)option_int(o, "batch"),
                               (anchors ? OSR_CALIBRATE_METHOD : 0)
                                   | (add ? OSR_CALIBRATE_SCORES : 0), NULL);
    if (code == EXIT_OK)
        code = check_score(j, row);
    if (code == EXIT_OK)
        code = threshold_choose(j->model, &j->data.train, &known, (int)option_int(o, "batch"), row,
                                option_real(o, "accept"));
    if (code == EXIT_OK)
        code = session_save(j->model, &j->origin, o->operands[0]);
    if (code == EXIT_OK && option_flag(o, "json")) {
        struct json json = {0};
        json_open(&json, NULL, '{');
        json_text(&json, "score", row->name);
        json_real(&json, "threshold", osr_model_threshold(j->model, NULL));
        json_real(&json, "old_threshold", before == row ? old : NAN);
        json_real(&json, "accept", option_real(o, "accept"));
        json_integer(&json, "images", (int64_t)known.count);
        json_bool(&json, "calibrated", add);
        json_close(&json, '}');
        code = json_print(&json);
        json_free(&json);
    } else if (code == EXIT_OK) {
        printf("%s: score %s, threshold %.6g accepts %g%% of %zu images of known classes "
               "(before: %s %.6g)\n",
               o->operands[0], row->name, osr_model_threshold(j->model, NULL),
               100.0 * option_real(o, "accept"), known.count, before->name, old);
    }
    subset_free(&known);
    return code;
}

int cmd_calibrate(struct options *o)
{
    struct job j = {0};
    signals_install();
    const int code = calibrate(o, &j);
    status_line_end();
    job_close(&j);
    return code;
}

/* ---- osr jacobian ---- */

/* Norms of the images of a subset, at most `limit`; allocated. */
static int norms_compute(struct job *j, const struct options *o, const struct data_set *set,
                         const struct subset *s, const osr_jacobian_desc *d, double **norms,
                         size_t *count, osr_jacobian_method *used)
{
    const size_t limit = (size_t)option_int(o, "limit");
    struct feed f;
    *count = limit > 0 && limit < s->count ? limit : s->count;
    *norms = malloc((*count + 1) * sizeof **norms);
    if (*norms == NULL) {
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    int code = feed_start(&f, j->model, set, 64);
    if (code != EXIT_OK)
        return code;
    for (size_t at = 0; at < *count && code == EXIT_OK; at += 64) {
        const int n = *count - at < 64 ? (int)(*count - at) : 64;
        char line[80];
        snprintf(line, sizeof line, "jacobian %zu/%zu", at, *count);
        status_line(line);
        feed_load(&f, s, NULL, at, n);
        if (osr_model_jacobian(j->model, f.images, n, d, *norms + at, used) != OSR_OK)
            code = session_fail(j->ctx);
        else
            code = signals_pending();
    }
    status_line_end();
    feed_end(&f);
    return code;
}

static double mean_of(const double *v, size_t n)
{
    double s = 0.0;
    for (size_t i = 0; i < n; ++i)
        s += v[i];
    return n > 0 ? s / (double)n : NAN;
}

static int print_norms(const struct options *o, const struct job *j, const double *known, size_t nk,
                       const double *unknown, size_t nu, osr_jacobian_method used)
{
    double auroc = NAN;
    char data[ORIGIN_TEXT];
    const char *method = used == OSR_JACOBIAN_EXACT ? "exact" : "fd";
    const double mk = mean_of(known, nk), mu = mean_of(unknown, nu);
    if (nk > 0 && nu > 0 && osr_metric_auroc(j->ctx, known, nk, unknown, nu, &auroc) != OSR_OK)
        return session_fail(j->ctx);
    if (!option_flag(o, "json")) {
        printf("Jacobian norm of the %s by the image in -1..1 (%s)\n", option_text(o, "of"),
               method);
        printf("known    %zu images, mean %.6g\nunknown  %zu images, mean %.6g\n", nk, mk, nu, mu);
        printf("difference %.6g, AUROC of the norm as a score %.4f\n", mu - mk, auroc);
        return EXIT_OK;
    }
    struct json json = {0};
    json_open(&json, NULL, '{');
    json_text(&json, "schema", "osr-jacobian-1");
    json_text(&json, "method", method);
    json_text(&json, "of", option_text(o, "of"));
    json_integer(&json, "directions", option_int(o, "directions"));
    json_real(&json, "step", option_given(o, "step") ? option_real(o, "step")
                                                     : (double)OSR_JACOBIAN_STEP);
    json_integer(&json, "n_known", (int64_t)nk);
    json_integer(&json, "n_unknown", (int64_t)nu);
    json_real(&json, "mean_known", mk);
    json_real(&json, "mean_unknown", mu);
    json_real(&json, "difference", mu - mk);
    json_real(&json, "auroc", auroc);
    json_text(&json, "data", origin_data(&j->origin, data));
    json_text(&json, "split", j->origin.split);
    json_integer(&json, "trial", j->origin.trial);
    json_integer(&json, "seed", j->origin.seed);
    json_text(&json, "version", osr_version());
    json_close(&json, '}');
    const int code = json_print(&json);
    json_free(&json);
    return code;
}

static int jacobian(struct options *o, struct job *j)
{
    struct subset known = {0}, unknown = {0};
    double *nk = NULL, *nu = NULL;
    size_t known_count = 0, unknown_count = 0;
    char message[512] = "";
    osr_jacobian_desc d = {0};
    osr_jacobian_method used = OSR_JACOBIAN_AUTO;
    int code = job_open(j, o);
    if (code != EXIT_OK)
        return code;
    d.method = (osr_jacobian_method)(option_choice(o, "method") + 1); /* unset is -1: AUTO */
    d.of = (osr_jacobian_of)option_choice(o, "of");
    d.directions = (int)option_int(o, "directions");
    d.direction = d.directions > 0 ? OSR_RADEMACHER : OSR_COORDINATES;
    d.step = (float)option_real(o, "step");
    d.seed = (uint64_t)option_int(o, "seed");
    code = subset_known(&j->data.test, &j->split, &known, message, sizeof message);
    if (code == EXIT_OK)
        code = subset_unknown(j->unknown, &j->split, &unknown, message, sizeof message);
    if (code != EXIT_OK)
        message_error("%s", message);
    if (code == EXIT_OK)
        code = norms_compute(j, o, &j->data.test, &known, &d, &nk, &known_count, &used);
    if (code == EXIT_OK)
        code = norms_compute(j, o, j->unknown, &unknown, &d, &nu, &unknown_count, &used);
    if (code == EXIT_OK)
        code = print_norms(o, j, nk, known_count, nu, unknown_count, used);
    free(nk);
    free(nu);
    subset_free(&known);
    subset_free(&unknown);
    return code;
}

int cmd_jacobian(struct options *o)
{
    struct job j = {0};
    signals_install();
    const int code = jacobian(o, &j);
    status_line_end();
    job_close(&j);
    return code;
}
