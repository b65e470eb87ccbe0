#include "evaluation.h"

#include "exit_codes.h"
#include "output.h"
#include "progress.h"
#include "signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

int feed_start(struct feed *f, osr_model *model, const struct data_set *set, int batch)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    const size_t image = (size_t)d->height * (size_t)d->width * (size_t)d->channels;
    memset(f, 0, sizeof *f);
    f->model = model;
    f->set = set;
    f->batch = batch;
    if (d->height != d->width) {
        message_error("the model reads %dx%d images; only square ones are fed", d->height,
                      d->width);
        return EXIT_DATA;
    }
    const int code = fetch_start(&f->fetch, set->width, set->height, set->channels, d->width,
                                 d->channels, NULL, NULL);
    if (code != EXIT_OK) {
        message_error("images of %dx%dx%d do not fit the model", set->width, set->height,
                      set->channels);
        return code;
    }
    f->images = malloc((size_t)batch * image * sizeof *f->images);
    f->labels = malloc((size_t)batch * sizeof *f->labels);
    if (f->images == NULL || f->labels == NULL) {
        feed_end(f);
        return out_of_memory();
    }
    return EXIT_OK;
}

void feed_end(struct feed *f)
{
    free(f->images);
    free(f->labels);
    fetch_end(&f->fetch);
    f->images = NULL;
    f->labels = NULL;
}

void feed_load(struct feed *f, const struct subset *s, const uint32_t *order, size_t first, int n)
{
    const osr_model_desc *d = osr_model_get_desc(f->model);
    const size_t image = (size_t)d->height * (size_t)d->width * (size_t)d->channels;
    for (int i = 0; i < n; ++i) {
        const size_t at = order == NULL ? first + (size_t)i : order[first + (size_t)i];
        data_fetch(&f->fetch, f->set, &s->index[at], 1, f->images + (size_t)i * image);
        f->labels[i] = s->label[at];
    }
}

int split_of_model(const osr_model *model, const struct data_set *set, struct class_split *out)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    memset(out, 0, sizeof *out);
    out->known = malloc((size_t)d->classes * sizeof *out->known);
    out->unknown = malloc(((size_t)set->class_count + 1) * sizeof *out->unknown);
    if (out->known == NULL || out->unknown == NULL) {
        split_free(out);
        return out_of_memory();
    }
    int found = 0;
    out->known_count = d->classes;
    for (int k = 0; k < d->classes; ++k) {
        out->known[k] = -1; /* a class that the data does not show */
        for (int c = 0; c < set->class_count; ++c)
            if (strcmp(d->class_names[k], set->class_names[c]) == 0) {
                out->known[k] = c;
                ++found;
            }
    }
    for (int c = 0; c < set->class_count; ++c) {
        int known = 0;
        for (int k = 0; k < d->classes; ++k)
            known |= out->known[k] == c;
        if (!known)
            out->unknown[out->unknown_count++] = c;
    }
    if (found > 0)
        return EXIT_OK;
    message_error("%s: none of its classes is one that the model knows (%s, ...)", set->spec,
                  d->class_names[0]);
    split_free(out);
    return EXIT_DATA;
}

/* An array of floats among the outputs: its bit and columns. */
struct part {
    unsigned bit;
    float **array;
    size_t columns;
};

enum { PARTS = 6 };

static void parts_of(const struct outputs *o, osr_outputs *v, struct part parts[PARTS])
{
    const size_t k = (size_t)o->classes;
    const struct part all[PARTS] = {
        {OSR_OUT_LOGITS, &v->logits, k}, {OSR_OUT_DISTANCES, &v->distances, k},
        {OSR_OUT_COSINES, &v->cosines, k}, {OSR_OUT_LOSSES, &v->losses, k},
        {OSR_OUT_REPRESENTATION, &v->representation, (size_t)o->dims},
        {OSR_OUT_FEATURES, &v->features, (size_t)o->feature_dims}};
    memcpy(parts, all, sizeof all);
}

static int outputs_allocate(struct outputs *o, unsigned wanted)
{
    const size_t n = o->count > 0 ? o->count : 1;
    struct part parts[PARTS];
    parts_of(o, &o->values, parts);
    for (int i = 0; i < PARTS; ++i)
        if ((wanted & parts[i].bit) != 0
            && (*parts[i].array = malloc(n * parts[i].columns * sizeof(float))) == NULL)
            return out_of_memory();
    if ((wanted & OSR_OUT_JACOBIAN) != 0
        && (o->values.jacobian = malloc(n * sizeof *o->values.jacobian)) == NULL)
        return out_of_memory();
    return EXIT_OK;
}

/* The outputs from image number `at` on. */
static osr_outputs outputs_from(const struct outputs *o, size_t at)
{
    osr_outputs v = o->values;
    struct part parts[PARTS];
    parts_of(o, &v, parts);
    for (int i = 0; i < PARTS; ++i)
        if (*parts[i].array != NULL)
            *parts[i].array += at * parts[i].columns;
    if (v.jacobian != NULL)
        v.jacobian += at;
    return v;
}

static unsigned rule_needs(const osr_model *model)
{
    switch (osr_model_get_desc(model)->method->rule) {
    case OSR_PREDICT_LOGIT: return OSR_OUT_LOGITS;
    case OSR_PREDICT_COSINE: return OSR_OUT_COSINES;
    default: return OSR_OUT_DISTANCES;
    }
}

int outputs_compute(osr_model *model, const struct data_set *set, const struct subset *s, int batch,
                    unsigned needs, const char *what, struct outputs *out)
{
    const unsigned given = osr_model_get_desc(model)->method->outputs | OSR_OUT_ALWAYS;
    const unsigned wanted = ((needs | rule_needs(model)) & given)
                            | (needs & OSR_OUT_REPRESENTATION); /* that, every method has */
    struct progress p;
    struct feed f;
    memset(out, 0, sizeof *out);
    out->count = s->count;
    out->classes = osr_model_get_desc(model)->classes;
    out->dims = osr_model_dims(model);
    out->feature_dims = osr_model_feature_dims(model);
    out->loss = NAN;
    int code = outputs_allocate(out, wanted);
    if (code == EXIT_OK)
        code = feed_start(&f, model, set, batch);
    if (code != EXIT_OK)
        return code;
    double sum = 0.0;
    const int labelled = s->count > 0 && s->label[0] >= 0;
    progress_start(&p, what, 0, 1, (long)((s->count + (size_t)batch - 1) / (size_t)batch));
    for (size_t at = 0; at < s->count && code == EXIT_OK; at += (size_t)batch) {
        const int n = s->count - at < (size_t)batch ? (int)(s->count - at) : batch;
        float loss = 0.0f;
        osr_outputs v = outputs_from(out, at);
        v.loss = labelled ? &loss : NULL;
        feed_load(&f, s, NULL, at, n);
        if (osr_model_run(model, f.images, labelled ? f.labels : NULL, n, &v) != OSR_OK)
            code = session_fail(osr_model_context(model));
        sum += (double)loss * n;
        if (signals_pending() != 0)
            code = signals_pending();
        progress_step(&p, 0, (long)(at / (size_t)batch) + 1, n, NAN, NAN);
    }
    status_line_end();
    feed_end(&f);
    if (labelled)
        out->loss = sum / (double)s->count;
    return code;
}

void outputs_free(struct outputs *out)
{
    struct part parts[PARTS];
    parts_of(out, &out->values, parts);
    for (int i = 0; i < PARTS; ++i)
        free(*parts[i].array);
    free(out->values.jacobian);
    memset(out, 0, sizeof *out);
}

int outputs_score(osr_model *model, const struct outputs *o, const osr_score_row *row,
                  double *scores, int32_t *classes)
{
    if (osr_model_score(model, row, &o->values, (int)o->count, scores, classes) != OSR_OK)
        return session_fail(osr_model_context(model));
    return EXIT_OK;
}

double accuracy_of(const int32_t *classes, const struct subset *s)
{
    size_t right = 0;
    for (size_t i = 0; i < s->count; ++i)
        right += classes[i] == s->label[i];
    return s->count > 0 ? (double)right / (double)s->count : NAN;
}

int model_calibrate(osr_model *model, const struct data_set *set, const struct subset *known,
                    int batch, unsigned what, int *empty)
{
    osr_ctx *ctx = osr_model_context(model);
    struct feed f;
    struct progress p;
    int code = feed_start(&f, model, set, batch);
    if (code != EXIT_OK)
        return code;
    osr_model_calibrate_start(model, what);
    progress_start(&p, "calibrate", 0, 1, (long)((known->count + (size_t)batch - 1)
                                                 / (size_t)batch));
    for (size_t at = 0; at < known->count && code == EXIT_OK; at += (size_t)batch) {
        const int n = known->count - at < (size_t)batch ? (int)(known->count - at) : batch;
        feed_load(&f, known, NULL, at, n);
        if (osr_model_calibrate_add(model, f.images, f.labels, n) != OSR_OK)
            break;
        code = signals_pending();
        progress_step(&p, 0, (long)(at / (size_t)batch) + 1, n, NAN, NAN);
    }
    status_line_end();
    feed_end(&f);
    if (code != EXIT_OK)
        return code;
    return osr_model_calibrate_end(model, empty) == OSR_OK ? EXIT_OK : session_fail(ctx);
}

int threshold_choose(osr_model *model, const struct data_set *set, const struct subset *known,
                     int batch, const osr_score_row *row, double share)
{
    osr_ctx *ctx = osr_model_context(model);
    struct outputs o;
    double threshold = 0.0, *scores = malloc((known->count + 1) * sizeof *scores);
    int code = outputs_compute(model, set, known, batch, row->needs, "threshold", &o);
    if (scores == NULL)
        code = out_of_memory();
    if (code == EXIT_OK)
        code = outputs_score(model, &o, row, scores, NULL);
    if (code == EXIT_OK
        && (osr_metric_threshold(ctx, scores, known->count, share, &threshold) != OSR_OK
            || osr_model_set_threshold(model, row, threshold) != OSR_OK))
        code = session_fail(ctx);
    outputs_free(&o);
    free(scores);
    return code;
}

/* What accepted unknown images were taken for, by the model's own score. */
static int confuse(osr_model *model, struct results *r, const double *scores)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    const size_t n = r->unknown_images.count;
    const struct data_set *set = r->other;
    int *row_of = malloc(((size_t)set->class_count + 1) * sizeof *row_of), rows = 0, code;
    const char **names = malloc(((size_t)set->class_count + 1) * sizeof *names);
    int32_t *class = malloc((n + 1) * sizeof *class);
    if (row_of == NULL || names == NULL || class == NULL) {
        code = EXIT_MEMORY;
    } else {
        for (int c = 0; c < set->class_count; ++c)
            row_of[c] = -1;
        for (size_t i = 0; i < n; ++i) /* mark, then number in the order of the classes */
            row_of[set->labels[r->unknown_images.index[i]]] = 0;
        for (int c = 0; c < set->class_count; ++c)
            if (row_of[c] == 0) {
                names[rows] = set->class_names[c];
                row_of[c] = rows++;
            }
        for (size_t i = 0; i < n; ++i)
            class[i] = row_of[set->labels[r->unknown_images.index[i]]];
        code = confusion_count(&r->confusion, names, rows, d->class_names, d->classes, class,
                               r->classes + r->known_images.count, scores, n,
                               osr_model_threshold(model, NULL));
    }
    free(row_of);
    free(names);
    free(class);
    return code == EXIT_OK ? EXIT_OK : out_of_memory();
}

/* Macro-F1 over K + 1 classes at the model's threshold. */
static int macro_f1(osr_model *model, const struct results *r, const double *scores, size_t known,
                    size_t all, double *f1)
{
    osr_ctx *ctx = osr_model_context(model);
    int32_t *labels = malloc((all + 1) * sizeof *labels);
    if (labels == NULL)
        return out_of_memory();
    for (size_t i = 0; i < all; ++i)
        labels[i] = i < known ? r->known_images.label[i] : -1;
    osr_decisions d = {0};
    d.scores = scores;
    d.predicted = r->classes;
    d.labels = labels;
    d.count = all;
    d.classes = osr_model_get_desc(model)->classes;
    d.threshold = osr_model_threshold(model, NULL);
    const osr_status s = osr_metric_macro_f1(ctx, &d, f1);
    free(labels);
    return s == OSR_OK ? EXIT_OK : session_fail(ctx);
}

/* One score of all test images: its column and its row of metrics. */
static int result_add(osr_model *model, struct results *r, const struct outputs *known,
                      const struct outputs *unknown, const struct class_split *split,
                      const osr_score_row *row, unsigned char *correct)
{
    osr_ctx *ctx = osr_model_context(model);
    struct result *x = &r->row[r->count];
    const size_t nk = known->count, nu = unknown->count;
    double *s = malloc((nk + nu + 1) * sizeof *s);
    if (s == NULL)
        return out_of_memory();
    r->scores[r->count++] = s;
    x->row = row;
    x->known = nk;
    x->unknown = nu;
    x->macro_f1 = NAN;
    for (int f = 0; f < BOOT_COUNT; ++f)
        x->interval[f].low = x->interval[f].high = NAN;
    int code = outputs_score(model, known, row, s, NULL);
    if (code == EXIT_OK && nu > 0)
        code = outputs_score(model, unknown, row, s + nk, NULL);
    if (code != EXIT_OK)
        return code;
    osr_open_scores in = {0};
    in.known = s;
    in.unknown = s + nk;
    in.known_count = nk;
    in.unknown_count = nu;
    in.correct = correct;
    in.known_classes = split->known_count;
    in.unknown_classes = split->unknown_count;
    if (osr_metric_open(ctx, &in, &x->metrics) != OSR_OK)
        return session_fail(ctx);
    const osr_score_row *own;
    const double threshold = osr_model_threshold(model, &own);
    if (own != row || !isfinite(threshold))
        return EXIT_OK;
    code = macro_f1(model, r, s, nk, nk + nu, &x->macro_f1);
    return code == EXIT_OK ? confuse(model, r, s + nk) : code;
}

/* Scores that the model has; NULL row: all, the slow ones if wanted. Returns the union of their
 * needs. */
static unsigned wanted_rows(const osr_model *model, const osr_score_row *row, int slow,
                            const osr_score_row **rows, int *count)
{
    unsigned needs = 0;
    *count = 0;
    for (int i = 0; osr_score_at(i) != NULL && *count < RESULT_MOST; ++i) {
        const osr_score_row *s = osr_score_at(i);
        if (row != NULL ? s != row
                        : !osr_model_has_score(model, s)
                              || (!slow && (s->needs & OSR_OUT_JACOBIAN) != 0))
            continue;
        rows[(*count)++] = s;
        needs |= s->needs;
    }
    return needs;
}

int results_compute(osr_model *model, const struct data_set *test, const struct data_set *other,
                    const struct class_split *split, int batch, const osr_score_row *row, int slow,
                    int64_t balance, const struct origin *origin, struct results *r)
{
    const osr_score_row *rows[RESULT_MOST];
    struct outputs known = {0}, unknown = {0};
    unsigned char *correct = NULL;
    char message[512];
    int count;
    memset(r, 0, sizeof *r);
    r->model = model;
    r->origin = *origin;
    device_text(osr_model_context(model), r->device, sizeof r->device);
    r->other = other;
    const unsigned needs = wanted_rows(model, row, slow, rows, &count);
    int code = subset_known(test, split, &r->known_images, message, sizeof message);
    if (code == EXIT_OK)
        code = subset_unknown(other, split, &r->unknown_images, message, sizeof message);
    r->balanced = balance >= 0;
    if (code == EXIT_OK && r->balanced)
        code = subset_balance(&r->known_images, &r->unknown_images, (uint64_t)balance, message,
                              sizeof message);
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    const size_t nk = r->known_images.count, nu = r->unknown_images.count;
    if (nk == 0) {
        message_error("%s: no test image of a known class", test->spec);
        return EXIT_DATA;
    }
    code = outputs_compute(model, test, &r->known_images, batch, needs, "eval known", &known);
    if (code == EXIT_OK)
        code = outputs_compute(model, other, &r->unknown_images, batch, needs, "eval unknown",
                               &unknown);
    r->classes = malloc((nk + nu + 1) * sizeof *r->classes);
    correct = malloc(nk);
    if (code == EXIT_OK && (r->classes == NULL || correct == NULL))
        code = out_of_memory();
    if (code == EXIT_OK)
        code = outputs_score(model, &known, NULL, NULL, r->classes);
    if (code == EXIT_OK && nu > 0)
        code = outputs_score(model, &unknown, NULL, NULL, r->classes + nk);
    for (size_t i = 0; i < nk && code == EXIT_OK; ++i)
        correct[i] = r->classes[i] == r->known_images.label[i];
    for (int i = 0; i < count && code == EXIT_OK; ++i)
        code = result_add(model, r, &known, &unknown, split, rows[i], correct);
    free(correct);
    outputs_free(&known);
    outputs_free(&unknown);
    return code;
}

void results_free(struct results *r)
{
    for (int i = 0; i < r->count; ++i)
        free(r->scores[i]);
    free(r->classes);
    confusion_free(&r->confusion);
    subset_free(&r->known_images);
    subset_free(&r->unknown_images);
    memset(r, 0, sizeof *r);
}

/* A row for the bootstrap; labels [known + unknown] serve the row with a threshold. */
static struct boot_set boot_of(const struct results *r, int row, const unsigned char *correct,
                               const int32_t *labels)
{
    struct boot_set s = {0};
    s.scores = r->scores[row];
    s.known = r->known_images.count;
    s.unknown = r->unknown_images.count;
    s.correct = correct;
    if (isfinite(r->row[row].macro_f1)) {
        s.labels = labels;
        s.predicted = r->classes;
        s.classes = osr_model_get_desc(r->model)->classes;
        s.threshold = osr_model_threshold(r->model, NULL);
    }
    return s;
}

int results_intervals(struct results *r, int resamples, uint64_t seed)
{
    const size_t nk = r->known_images.count, all = nk + r->unknown_images.count;
    struct boot_set sets[RESULT_MOST];
    struct interval found[RESULT_MOST][BOOT_COUNT];
    unsigned char *correct = malloc(nk + 1);
    int32_t *labels = malloc((all + 1) * sizeof *labels);
    int code = correct != NULL && labels != NULL ? EXIT_OK : EXIT_MEMORY;
    for (size_t i = 0; i < all && code == EXIT_OK; ++i) {
        labels[i] = i < nk ? r->known_images.label[i] : -1;
        if (i < nk)
            correct[i] = r->classes[i] == labels[i];
    }
    for (int i = 0; i < r->count && code == EXIT_OK; ++i)
        sets[i] = boot_of(r, i, correct, labels);
    if (code == EXIT_OK && resamples > 0)
        code = bootstrap(sets, r->count, resamples, seed, found);
    for (int i = 0; i < r->count && code == EXIT_OK; ++i) {
        const osr_open_metrics *m = &r->row[i].metrics;
        struct interval *x = r->row[i].interval;
        if (resamples > 0)
            memcpy(x, found[i], sizeof found[i]);
        x[BOOT_AUROC].low = m->auroc - 1.959963984540054 * m->auroc_error;
        x[BOOT_AUROC].high = m->auroc + 1.959963984540054 * m->auroc_error;
        if (x[BOOT_AUROC].low < 0.0)
            x[BOOT_AUROC].low = 0.0;
        if (x[BOOT_AUROC].high > 1.0)
            x[BOOT_AUROC].high = 1.0;
    }
    r->resamples = resamples;
    r->seed = seed;
    free(correct);
    free(labels);
    return code == EXIT_OK ? EXIT_OK : out_of_memory();
}

static const char *const figure_keys[BOOT_COUNT] = {
    "closed_accuracy", "auroc", "aupr_unknown", "aupr_known", "fpr95_known_pos",
    "fpr95_unknown_pos", "oscr", "dtacc", "macro_f1"};

static void intervals_json(struct json *j, const struct results *r, const struct result *x)
{
    json_open(j, "intervals", '{');
    json_real(j, "level", 0.95);
    json_integer(j, "resamples", r->resamples);
    json_integer(j, "seed", (int64_t)r->seed);
    for (int f = 0; f < BOOT_COUNT; ++f) {
        json_open(j, figure_keys[f], '[');
        json_real(j, NULL, x->interval[f].low);
        json_real(j, NULL, x->interval[f].high);
        json_close(j, ']');
    }
    json_close(j, '}');
}

static void result_json(struct json *j, const struct results *r, const struct result *x)
{
    char data[ORIGIN_TEXT];
    const osr_open_metrics *m = &x->metrics;
    const osr_model_desc *d = osr_model_get_desc(r->model);
    json_open(j, NULL, '{');
    json_text(j, "schema", "osr-eval-1");
    json_real(j, "closed_accuracy", m->closed_accuracy);
    json_real(j, "auroc", m->auroc);
    json_real(j, "auroc_error", m->auroc_error);
    json_real(j, "aupr_unknown", m->aupr_unknown);
    json_real(j, "aupr_known", m->aupr_known);
    json_real(j, "fpr95_known_pos", m->fpr95_known_pos);
    json_real(j, "fpr95_unknown_pos", m->fpr95_unknown_pos);
    json_real(j, "oscr", m->oscr);
    json_real(j, "dtacc", m->dtacc);
    json_real(j, "macro_f1", x->macro_f1);
    json_real(j, "openness", x->unknown > 0 ? m->openness : NAN);
    json_integer(j, "n_known", (int64_t)x->known);
    json_integer(j, "n_unknown", (int64_t)x->unknown);
    json_text(j, "test_set", r->balanced ? "balanced" : "full");
    json_text(j, "score", x->row->name);
    json_text(j, "method", d->method->name);
    json_text(j, "net", d->net_name);
    json_text(j, "data", origin_data(&r->origin, data));
    json_text(j, "split", r->origin.split);
    json_integer(j, "trial", r->origin.trial);
    json_integer(j, "seed", r->origin.seed);
    json_text(j, "device", r->device);
    json_text(j, "version", osr_version());
    intervals_json(j, r, x);
    if (r->confusion.known > 0 && isfinite(x->macro_f1))
        confusion_json(&r->confusion, j);
    else
        json_text(j, "confusion", NULL);
    json_close(j, '}');
}

char *results_json(const struct results *r, int array)
{
    struct json j = {0};
    if (array)
        json_open(&j, NULL, '[');
    for (int i = 0; i < r->count && (array || i == 0); ++i)
        result_json(&j, r, &r->row[i]);
    if (array)
        json_close(&j, ']');
    if (!j.failed)
        return j.text;
    json_free(&j);
    return NULL;
}

static void cell_real(struct table *t, double v)
{
    if (isfinite(v))
        table_cell(t, "%.4f", v);
    else
        table_cell(t, "-");
}

int results_table(const struct results *r)
{
    static const char *const heads[] = {"score", "accuracy", "AUROC",     "+-",   "AUPR unk",
                                        "AUPR kn", "FPR95 kn", "FPR95 unk", "OSCR", "macro-F1"};
    struct table t;
    char data[ORIGIN_TEXT];
    const osr_model_desc *d = osr_model_get_desc(r->model);
    printf("%s on %s, %s: %zu known and %zu unknown test images%s, seed %ld\n%s\n",
           d->method->name, origin_data(&r->origin, data), r->origin.split, r->row[0].known,
           r->row[0].unknown, r->balanced ? " (balanced)" : "", r->origin.seed, r->device);
    table_start(&t, 10);
    for (int i = 0; i < 10; ++i)
        table_cell(&t, "%s", heads[i]);
    for (int i = 0; i < r->count; ++i) {
        const osr_open_metrics *m = &r->row[i].metrics;
        table_cell(&t, "%s", r->row[i].row->name);
        cell_real(&t, m->closed_accuracy);
        cell_real(&t, m->auroc);
        cell_real(&t, m->auroc_error);
        cell_real(&t, m->aupr_unknown);
        cell_real(&t, m->aupr_known);
        cell_real(&t, m->fpr95_known_pos);
        cell_real(&t, m->fpr95_unknown_pos);
        cell_real(&t, m->oscr);
        cell_real(&t, r->row[i].macro_f1);
    }
    return table_print(&t);
}

static void cell_interval(struct table *t, const struct interval *x)
{
    if (isfinite(x->low) && isfinite(x->high))
        table_cell(t, "%.4f-%.4f", x->low, x->high);
    else
        table_cell(t, "-");
}

int results_table_intervals(const struct results *r)
{
    static const char *const heads[] = {"score", "accuracy", "AUROC", "AUPR unk", "AUPR kn",
                                        "FPR95 kn", "FPR95 unk", "OSCR", "macro-F1"};
    static const int figures[] = {BOOT_ACCURACY, BOOT_AUROC, BOOT_AUPR_UNKNOWN, BOOT_AUPR_KNOWN,
                                  BOOT_FPR95_KNOWN_POS, BOOT_FPR95_UNKNOWN_POS, BOOT_OSCR,
                                  BOOT_MACRO_F1};
    struct table t;
    printf("95%% intervals: AUROC by DeLong, others from %d resamples of the test images, "
           "seed %llu\n", r->resamples, (unsigned long long)r->seed);
    table_start(&t, 9);
    for (int i = 0; i < 9; ++i)
        table_cell(&t, "%s", heads[i]);
    for (int i = 0; i < r->count; ++i) {
        table_cell(&t, "%s", r->row[i].row->name);
        for (int f = 0; f < 8; ++f)
            cell_interval(&t, &r->row[i].interval[figures[f]]);
    }
    return table_print(&t);
}

int results_table_confusion(const struct results *r)
{
    const osr_score_row *own;
    const double threshold = osr_model_threshold(r->model, &own);
    if (r->confusion.known == 0 || r->confusion.unknown == 0)
        return EXIT_OK;
    printf("unknown images that %s accepts (at most %.6g)\n", own->name, threshold);
    return confusion_table(&r->confusion, 20);
}

char *results_csv(const struct results *r)
{
    const size_t nk = r->known_images.count, all = nk + r->unknown_images.count;
    const size_t size = 256 + (size_t)r->count * 64 + all * (64 + (size_t)r->count * REAL_TEXT);
    char *text = malloc(size), number[REAL_TEXT];
    size_t at;
    if (text == NULL)
        return NULL;
    at = (size_t)snprintf(text, size, "index,label,prediction,known");
    for (int i = 0; i < r->count; ++i)
        at += (size_t)snprintf(text + at, size - at, ",%s", r->row[i].row->name);
    at += (size_t)snprintf(text + at, size - at, "\n");
    for (size_t i = 0; i < all; ++i) {
        const int known = i < nk;
        const uint32_t index = known ? r->known_images.index[i] : r->unknown_images.index[i - nk];
        at += (size_t)snprintf(text + at, size - at, "%u,%d,%d,%d", (unsigned)index,
                               known ? (int)r->known_images.label[i] : -1, (int)r->classes[i],
                               known);
        for (int k = 0; k < r->count; ++k)
            at += (size_t)snprintf(text + at, size - at, ",%s", real_text(number, r->scores[k][i]));
        at += (size_t)snprintf(text + at, size - at, "\n");
    }
    return text;
}
