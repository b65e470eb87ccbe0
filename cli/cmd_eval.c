/* cmd_eval.c - osr eval and osr calibrate: a finished model against a data set. */
#include "exit_codes.h"
#include "job.h"
#include "output.h"
#include "progress.h"
#include "run_dir.h"
#include "signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

int job_open(struct job *j, const struct options *o, const char *path)
{
    char message[1024];
    int code = session_open_run(o, path, &j->ctx);
    if (code == EXIT_OK)
        code = session_model(j->ctx, path, &j->model, &j->origin);
    if (code != EXIT_OK)
        return code;
    if (option_given(o, "data"))
        snprintf(j->origin.data, sizeof j->origin.data, "%s", option_text(o, "data"));
    if (j->origin.data[0] == '\0') {
        message_error("%s does not say what data it was trained on; name some with --data",
                      path);
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

void job_close(struct job *j)
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
        for (; osr_score_at(n) != NULL && n < 64; ++n)
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

/* The seed by which test images are balanced, -1 where all are taken: as --test-set says, else as
 * the run did unless there is --data; drawn by --seed, else as the run drew them. */
static int64_t balance(const struct options *o, const struct job *j)
{
    const int own = j->origin.balanced && !option_given(o, "data");
    if (!(option_given(o, "test-set") ? option_choice(o, "test-set") == 1 : own))
        return -1;
    return option_given(o, "seed") || j->origin.seed < 0 ? option_int(o, "seed") : j->origin.seed;
}

static int eval(struct options *o, struct job *j)
{
    struct results r = {0};
    int all, code = job_open(j, o, o->operands[0]);
    if (code != EXIT_OK)
        return code;
    const osr_score_row *row = choose_score(o, j, &all);
    if (row == NULL)
        return EXIT_USAGE;
    code = all ? EXIT_OK : check_score(j, row);
    if (code != EXIT_OK)
        return code;
    code = results_compute(j->model, &j->data.test, j->unknown, &j->split,
                           (int)option_int(o, "batch"), all ? NULL : row, 1,
                           balance(o, j), &j->origin, &r);
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
    int code = job_open(j, o, o->operands[0]);
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
