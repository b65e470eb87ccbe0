#include "bootstrap.h"

#include "exit_codes.h"
#include "philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An image in the order of a set's scores, largest first. */
struct place {
    double score;
    uint32_t image;
    unsigned char unknown, correct;
    unsigned char last; /* of its tie */
};

/* A set made ready, and room for its classes. */
struct ready {
    const struct boot_set *set;
    struct place *places;
    int32_t *decided; /* [known + unknown] 0: unknown, else class + 1; NULL: no macro-F1 */
    double *hits, *total; /* [classes + 1] */
    double *values[BOOT_COUNT]; /* [resamples] */
};

void bootstrap_draws(size_t known, size_t unknown, uint64_t seed, int at, uint32_t *draws)
{
    struct philox p = philox_start(seed, PHILOX_BOOTSTRAP, (uint64_t)at);
    memset(draws, 0, (known + unknown) * sizeof *draws);
    for (size_t i = 0; i < known; ++i)
        draws[philox_below(&p, (uint32_t)known)]++;
    for (size_t i = 0; i < unknown; ++i)
        draws[known + philox_below(&p, (uint32_t)unknown)]++;
}

static int by_score(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x > y ? 1 : x < y ? -1 : 0;
}

static void ready_free(struct ready *r)
{
    free(r->places);
    free(r->decided);
    free(r->hits);
    free(r->values[0]);
}

static int ready_start(struct ready *r, const struct boot_set *s, int resamples)
{
    const size_t n = s->known + s->unknown, b = (size_t)resamples;
    r->set = s;
    r->places = malloc(n * sizeof *r->places);
    r->values[0] = malloc(BOOT_COUNT * b * sizeof(double));
    if (s->labels != NULL) {
        r->decided = malloc(n * sizeof *r->decided);
        r->hits = malloc(2 * ((size_t)s->classes + 1) * sizeof *r->hits);
    }
    if (r->places == NULL || r->values[0] == NULL
        || (s->labels != NULL && (r->decided == NULL || r->hits == NULL)))
        return EXIT_MEMORY;
    for (int f = 1; f < BOOT_COUNT; ++f)
        r->values[f] = r->values[0] + (size_t)f * b;
    for (size_t i = 0; i < n; ++i) {
        struct place *p = &r->places[i];
        p->score = s->scores[i];
        p->image = (uint32_t)i;
        p->unknown = i >= s->known;
        p->correct = i < s->known && s->correct[i] != 0;
        if (s->labels != NULL)
            r->decided[i] = s->scores[i] > s->threshold ? 0 : s->predicted[i] + 1;
    }
    if (s->labels != NULL)
        r->total = r->hits + s->classes + 1;
    qsort(r->places, n, sizeof *r->places, by_score);
    for (size_t i = 0; i < n; ++i)
        r->places[i].last = i + 1 == n || r->places[i + 1].score < r->places[i].score;
    return EXIT_OK;
}

/* The figures that the order of scores decides, as osr_metric_open has them. */
static void rank_figures(const struct ready *r, const uint32_t *draws, double v[BOOT_COUNT])
{
    const size_t n = r->set->known + r->set->unknown;
    const double nk = (double)r->set->known, nu = (double)r->set->unknown;
    double k = 0.0, u = 0.0, c = 0.0;    /* of this tie: known, unknown, correct */
    double above_k = 0.0, above_u = 0.0; /* before it */
    double pairs = 0.0, right = 0.0, ap_u = 0.0, ap_k = 0.0, best = nk * nu;
    double known_pos = 0.0, unknown_pos = -1.0;
    for (size_t i = 0; i < n; ++i) {
        const struct place *p = &r->places[i];
        const double w = (double)draws[p->image];
        if (p->unknown)
            u += w;
        else
            k += w;
        c += p->correct ? w : 0.0;
        if (!p->last || (k + u <= 0.0))
            continue;
        const double from_k = above_k + k, from_u = above_u + u;
        const double to_k = nk - above_k, to_u = nu - above_u;
        const double sum = from_u * nk + (nk - from_k) * nu;
        pairs += k * (above_u + 0.5 * u);
        right += c * (above_u + 0.5 * u);
        ap_u += u * from_u / (from_k + from_u);
        ap_k += k * to_k / (to_k + to_u);
        if (unknown_pos < 0.0 && 20.0 * from_u >= 19.0 * nu)
            unknown_pos = from_k;
        if (20.0 * to_k >= 19.0 * nk)
            known_pos = to_u;
        best = sum > best ? sum : best;
        above_k = from_k;
        above_u = from_u;
        k = u = c = 0.0;
    }
    v[BOOT_AUROC] = pairs / (nk * nu);
    v[BOOT_OSCR] = right / (nk * nu);
    v[BOOT_AUPR_UNKNOWN] = ap_u / nu;
    v[BOOT_AUPR_KNOWN] = ap_k / nk;
    v[BOOT_FPR95_KNOWN_POS] = known_pos / nu;
    v[BOOT_FPR95_UNKNOWN_POS] = unknown_pos / nk;
    v[BOOT_DTACC] = 0.5 * best / (nk * nu);
}

static double accuracy(const struct boot_set *s, const uint32_t *draws)
{
    double right = 0.0;
    for (size_t i = 0; i < s->known; ++i)
        right += s->correct[i] ? (double)draws[i] : 0.0;
    return right / (double)s->known;
}

/* As osr_metric_macro_f1: over the classes that occur. */
static double macro_f1(struct ready *r, const uint32_t *draws)
{
    const size_t n = r->set->known + r->set->unknown, rows = (size_t)r->set->classes + 1;
    double sum = 0.0, present = 0.0;
    memset(r->hits, 0, 2 * rows * sizeof *r->hits);
    for (size_t i = 0; i < n; ++i) {
        const double w = (double)draws[i];
        const int32_t label = r->set->labels[i] + 1, guess = r->decided[i];
        r->total[label] += w;
        r->total[guess] += w;
        r->hits[label] += label == guess ? w : 0.0;
    }
    for (size_t k = 0; k < rows; ++k)
        if (r->total[k] > 0.0) {
            sum += 2.0 * r->hits[k] / r->total[k];
            present += 1.0;
        }
    return sum / present;
}

static double percentile(const double *sorted, int n, double share)
{
    const double place = share * (double)(n - 1);
    const int below = (int)place, above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

static void intervals(struct ready *r, int resamples, struct interval out[BOOT_COUNT])
{
    for (int f = 0; f < BOOT_COUNT; ++f) {
        double *v = r->values[f];
        if (isnan(v[0])) {
            out[f].low = out[f].high = NAN;
            continue;
        }
        qsort(v, (size_t)resamples, sizeof *v, by_value);
        out[f].low = percentile(v, resamples, 0.025);
        out[f].high = percentile(v, resamples, 0.975);
    }
}

int bootstrap(const struct boot_set *sets, int count, int resamples, uint64_t seed,
              struct interval (*out)[BOOT_COUNT])
{
    struct ready *ready = calloc((size_t)count, sizeof *ready);
    uint32_t *draws = malloc((sets[0].known + sets[0].unknown) * sizeof *draws);
    int code = ready != NULL && draws != NULL ? EXIT_OK : EXIT_MEMORY;
    for (int i = 0; i < count && code == EXIT_OK; ++i)
        code = ready_start(&ready[i], &sets[i], resamples);
    for (int b = 0; b < resamples && code == EXIT_OK; ++b) {
        bootstrap_draws(sets[0].known, sets[0].unknown, seed, b, draws);
        for (int i = 0; i < count; ++i) {
            double v[BOOT_COUNT];
            for (int f = 0; f < BOOT_COUNT; ++f)
                v[f] = NAN;
            v[BOOT_ACCURACY] = accuracy(&sets[i], draws);
            if (sets[i].unknown > 0)
                rank_figures(&ready[i], draws, v);
            if (sets[i].labels != NULL)
                v[BOOT_MACRO_F1] = macro_f1(&ready[i], draws);
            for (int f = 0; f < BOOT_COUNT; ++f)
                ready[i].values[f][b] = v[f];
        }
    }
    for (int i = 0; i < count && ready != NULL; ++i) {
        if (code == EXIT_OK)
            intervals(&ready[i], resamples, out[i]);
        ready_free(&ready[i]);
    }
    free(ready);
    free(draws);
    return code;
}
