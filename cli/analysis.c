#include "analysis.h"

#include "exit_codes.h"
#include "philox.h"
#include "signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

double mean_of(const double *v, size_t n)
{
    double s = 0.0;
    for (size_t i = 0; i < n; ++i)
        s += v[i];
    return n > 0 ? s / (double)n : NAN;
}

double deviation_of(const double *v, size_t n)
{
    const double mean = mean_of(v, n);
    double s = 0.0;
    for (size_t i = 0; i < n; ++i)
        s += (v[i] - mean) * (v[i] - mean);
    return n > 1 ? sqrt(s / (double)(n - 1)) : NAN;
}

/* ---- the images ---- */

int subset_spread(const struct subset *s, size_t limit, struct subset *out)
{
    const size_t n = limit == 0 || limit > s->count ? s->count : limit;
    out->count = n;
    out->index = malloc((n + 1) * sizeof *out->index);
    out->label = malloc((n + 1) * sizeof *out->label);
    if (out->index == NULL || out->label == NULL) {
        subset_free(out);
        return EXIT_MEMORY;
    }
    struct philox p = philox_start(0, PHILOX_SPREAD, 0);
    for (size_t i = 0; i < n; ++i) {
        const size_t first = (size_t)((double)i * (double)s->count / (double)n);
        const size_t end = (size_t)((double)(i + 1) * (double)s->count / (double)n);
        const size_t from = first + philox_below(&p, end > first ? (uint32_t)(end - first) : 1);
        out->index[i] = s->index[from];
        out->label[i] = s->label[from];
    }
    return EXIT_OK;
}

int analysed_choose(struct analysed *a, const struct data_set *known,
                    const struct data_set *unknown, const struct class_split *split, size_t limit)
{
    struct subset all = {0}, others = {0};
    char message[512] = "out of memory";
    a->known_set = known;
    a->unknown_set = unknown;
    int code = subset_known(known, split, &all, message, sizeof message);
    if (code == EXIT_OK)
        code = subset_unknown(unknown, split, &others, message, sizeof message);
    if (code == EXIT_OK && (all.count == 0 || others.count == 0)) {
        snprintf(message, sizeof message, "%.400s: no test image of %s class",
                 all.count == 0 ? known->spec : unknown->spec,
                 all.count == 0 ? "a known" : "an unknown");
        code = EXIT_DATA;
    }
    if (code == EXIT_OK)
        code = subset_spread(&all, limit, &a->known);
    if (code == EXIT_OK)
        code = subset_spread(&others, limit, &a->unknown);
    if (code != EXIT_OK)
        message_error("%s", message);
    subset_free(&all);
    subset_free(&others);
    return code;
}

void analysed_free(struct analysed *a)
{
    subset_free(&a->known);
    subset_free(&a->unknown);
}

/* ---- distances ---- */

static double distance(const double *a, const double *b, int dims)
{
    double s = 0.0;
    for (int d = 0; d < dims; ++d)
        s += (a[d] - b[d]) * (a[d] - b[d]);
    return sqrt(s);
}

static double distance_between(const float *a, const float *b, int dims)
{
    double s = 0.0;
    for (int d = 0; d < dims; ++d) {
        const double e = (double)a[d] - (double)b[d];
        s += e * e;
    }
    return sqrt(s);
}

/* Means of the classes, [classes, dims], and the images of each. */
static void class_means(const float *f, const int32_t *label, size_t n, int dims, int classes,
                        double *means, size_t *count)
{
    memset(means, 0, (size_t)classes * (size_t)dims * sizeof *means);
    memset(count, 0, (size_t)classes * sizeof *count);
    for (size_t i = 0; i < n; ++i) {
        double *mean = means + (size_t)label[i] * (size_t)dims;
        for (int d = 0; d < dims; ++d)
            mean[d] += (double)f[i * (size_t)dims + (size_t)d];
        count[label[i]]++;
    }
    for (int k = 0; k < classes; ++k)
        for (int d = 0; d < dims && count[k] > 0; ++d)
            means[(size_t)k * (size_t)dims + (size_t)d] /= (double)count[k];
}

static double mean_between(const float *f, const int32_t *label, size_t n, int dims)
{
    double sum = 0.0;
    size_t pairs = 0;
    for (size_t i = 0; i < n; ++i) {
        double row = 0.0;
        for (size_t j = i + 1; j < n; ++j)
            if (label[i] != label[j]) {
                row += distance_between(f + i * (size_t)dims, f + j * (size_t)dims, dims);
                ++pairs;
            }
        sum += row;
    }
    return pairs > 0 ? sum / (double)pairs : NAN;
}

/* The index from means and mean distances S. */
static double davies_bouldin(const double *means, const double *spread, const size_t *count,
                             int dims, int classes)
{
    double sum = 0.0;
    int used = 0;
    for (int k = 0; k < classes; ++k) {
        double worst = 0.0;
        for (int j = 0; j < classes; ++j) {
            if (count[k] == 0 || count[j] == 0 || j == k)
                continue;
            const double apart = distance(means + (size_t)k * (size_t)dims,
                                          means + (size_t)j * (size_t)dims, dims);
            const double ratio = apart > 0.0 ? (spread[k] + spread[j]) / apart : HUGE_VAL;
            worst = ratio > worst ? ratio : worst;
        }
        sum += worst;
        used += count[k] > 0;
    }
    return used > 1 ? sum / used : NAN;
}

int separation_compute(const float *f, const int32_t *label, size_t n, int dims, int classes,
                       struct separation *out)
{
    double *means = malloc((size_t)classes * (size_t)(dims + 1) * sizeof *means);
    double *spread = malloc((size_t)(classes + dims) * sizeof *spread);
    size_t *count = malloc((size_t)classes * sizeof *count);
    double *one = spread != NULL ? spread + classes : NULL;
    const int failed = means == NULL || spread == NULL || count == NULL;
    memset(out, 0, sizeof *out);
    if (!failed) {
        class_means(f, label, n, dims, classes, means, count);
        memset(spread, 0, (size_t)classes * sizeof *spread);
        for (size_t i = 0; i < n; ++i) {
            for (int d = 0; d < dims; ++d)
                one[d] = (double)f[i * (size_t)dims + (size_t)d];
            const double r = distance(one, means + (size_t)label[i] * (size_t)dims, dims);
            spread[label[i]] += r;
            out->intra += r;
        }
        out->intra = n > 0 ? out->intra / (double)n : NAN;
        for (int k = 0; k < classes; ++k) {
            out->classes += count[k] > 0;
            if (count[k] > 0)
                spread[k] /= (double)count[k];
        }
        out->inter = mean_between(f, label, n, dims);
        out->davies_bouldin = davies_bouldin(means, spread, count, dims, classes);
    }
    free(means);
    free(spread);
    free(count);
    return failed ? EXIT_MEMORY : EXIT_OK;
}

/* ---- the model ---- */

int norms_compute(osr_model *model, const struct data_set *set, const struct subset *s,
                  const osr_jacobian_desc *d, double *norms, osr_jacobian_method *used)
{
    enum { BATCH = 64 };
    osr_jacobian_desc own = *d;
    struct feed f;
    int code = feed_start(&f, model, set, BATCH);
    if (code != EXIT_OK)
        return code;
    own.own = 1;
    for (size_t at = 0; at < s->count && code == EXIT_OK; at += BATCH) {
        const int n = s->count - at < BATCH ? (int)(s->count - at) : BATCH;
        char line[80];
        snprintf(line, sizeof line, "jacobian %zu/%zu", at, s->count);
        status_line(line);
        feed_load(&f, s, NULL, at, n);
        if (osr_model_jacobian(model, f.images, n, &own, norms + at, used) != OSR_OK)
            code = session_fail(osr_model_context(model));
        else
            code = signals_pending();
    }
    status_line_end();
    feed_end(&f);
    return code;
}

/* What outputs_compute has to give for a function. */
static unsigned function_needs(const osr_model *model, osr_jacobian_of of)
{
    const unsigned given = osr_model_get_desc(model)->method->outputs;
    if (of != OSR_JACOBIAN_LOGITS)
        return OSR_OUT_REPRESENTATION;
    return given & OSR_OUT_LOGITS    ? OSR_OUT_LOGITS
           : given & OSR_OUT_COSINES ? OSR_OUT_COSINES
                                     : OSR_OUT_DISTANCES;
}

/* The function's values, [count, *dims], within the outputs; brought to length 1 where it is. */
static float *function_values(struct outputs *o, unsigned needs, osr_jacobian_of of, int *dims)
{
    float *f = o->values.representation;
    *dims = o->dims;
    if (of == OSR_JACOBIAN_LOGITS) {
        *dims = o->classes;
        return needs & OSR_OUT_LOGITS    ? o->values.logits
               : needs & OSR_OUT_COSINES ? o->values.cosines
                                         : o->values.distances;
    }
    for (size_t i = 0; i < o->count && of == OSR_JACOBIAN_NORMALISED; ++i) {
        float *row = f + i * (size_t)o->dims;
        double s = 0.0;
        for (int d = 0; d < o->dims; ++d)
            s += (double)row[d] * (double)row[d];
        for (int d = 0; d < o->dims && s > 0.0; ++d)
            row[d] = (float)((double)row[d] / sqrt(s));
    }
    return f;
}

static osr_status auroc_of(osr_ctx *ctx, const double *known, size_t known_count,
                           const double *unknown, size_t unknown_count, double *auroc)
{
    osr_open_scores in = {0};
    osr_open_metrics m;
    osr_status status;
    in.known = known;
    in.known_count = known_count;
    in.unknown = unknown;
    in.unknown_count = unknown_count;
    status = osr_metric_open(ctx, &in, &m);
    *auroc = m.auroc;
    return status;
}

/* Accuracy, AUROC of the model's score and the separation, from the outputs. */
static int moment_outputs(osr_model *model, const struct analysed *a, struct outputs *known,
                          struct outputs *unknown, unsigned needs, struct moment *m)
{
    osr_ctx *ctx = osr_model_context(model);
    const osr_score_row *row;
    struct separation apart;
    double *scores = malloc((known->count + unknown->count) * sizeof *scores);
    int32_t *classes = malloc(known->count * sizeof *classes);
    int dims, code = scores == NULL || classes == NULL ? out_of_memory() : EXIT_OK;
    osr_model_threshold(model, &row);
    if (code == EXIT_OK)
        code = outputs_score(model, known, row, scores, classes);
    if (code == EXIT_OK)
        code = outputs_score(model, unknown, row, scores + known->count, NULL);
    if (code == EXIT_OK
        && auroc_of(ctx, scores, known->count, scores + known->count, unknown->count, &m->auroc)
               != OSR_OK)
        code = session_fail(ctx);
    if (code == EXIT_OK) {
        m->accuracy = accuracy_of(classes, &a->known);
        const float *f = function_values(known, needs, a->jacobian.of, &dims);
        code = separation_compute(f, a->known.label, known->count, dims, known->classes, &apart);
        if (code != EXIT_OK)
            out_of_memory();
        m->intra = apart.intra;
        m->inter = apart.inter;
        m->davies_bouldin = apart.davies_bouldin;
    }
    free(scores);
    free(classes);
    return code;
}

int moment_compute(osr_model *model, const struct analysed *a, double *known, double *unknown,
                   int have_norms, struct moment *m)
{
    osr_ctx *ctx = osr_model_context(model);
    struct outputs ok = {0}, ou = {0};
    const osr_score_row *row;
    const unsigned needs = function_needs(model, a->jacobian.of);
    int code = EXIT_OK;
    osr_model_threshold(model, &row);
    if (!have_norms) {
        code = norms_compute(model, a->known_set, &a->known, &a->jacobian, known, NULL);
        if (code == EXIT_OK)
            code = norms_compute(model, a->unknown_set, &a->unknown, &a->jacobian, unknown, NULL);
    }
    if (code == EXIT_OK
        && auroc_of(ctx, known, a->known.count, unknown, a->unknown.count, &m->norm_auroc)
               != OSR_OK)
        code = session_fail(ctx);
    m->norm_known = mean_of(known, a->known.count);
    m->norm_unknown = mean_of(unknown, a->unknown.count);
    m->jnd = m->norm_unknown - m->norm_known;
    if (code == EXIT_OK)
        code = outputs_compute(model, a->known_set, &a->known, a->batch, needs | row->needs,
                               "analyse", &ok);
    if (code == EXIT_OK)
        code = outputs_compute(model, a->unknown_set, &a->unknown, a->batch, row->needs, "analyse",
                               &ou);
    if (code == EXIT_OK)
        code = moment_outputs(model, a, &ok, &ou, needs, m);
    outputs_free(&ok);
    outputs_free(&ou);
    return code;
}
