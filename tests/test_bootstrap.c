/* test_bootstrap - intervals against the same resamples laid out and measured by osr_metric_open,
 * their coverage, their time; what accepted unknown images are taken for */
#define _POSIX_C_SOURCE 200809L
#include "bootstrap.h"
#include "confusion.h"
#include "exit_codes.h"
#include "osr.h"
#include "test.h"

#include <time.h>

enum { KNOWN = 37, UNKNOWN = 23, ALL = KNOWN + UNKNOWN, CLASSES = 3, RESAMPLES = 41 };

struct images {
    double scores[ALL];
    unsigned char correct[KNOWN];
    int32_t labels[ALL], predicted[ALL];
};

static struct boot_set make_set(struct images *x, double steps, uint64_t *state)
{
    struct boot_set s;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < ALL; i++) {
        x->scores[i] = floor((test_uniform(state) + (i < KNOWN ? 0.0 : 0.3)) * steps) / steps;
        x->predicted[i] = (int32_t)(test_random(state) % CLASSES);
        x->labels[i] = i < KNOWN ? (int32_t)(test_random(state) % CLASSES) : -1;
        if (i < KNOWN)
            x->correct[i] = x->predicted[i] == x->labels[i];
    }
    s.scores = x->scores;
    s.known = KNOWN;
    s.unknown = UNKNOWN;
    s.correct = x->correct;
    s.labels = x->labels;
    s.predicted = x->predicted;
    s.classes = CLASSES;
    s.threshold = 0.6;
    return s;
}

/* The images of a resample one after the other, and the figures of these. */
static void brute(osr_ctx *ctx, const struct boot_set *s, const uint32_t *draws,
                  double v[BOOT_COUNT])
{
    double known[KNOWN], unknown[UNKNOWN], scores[ALL];
    unsigned char correct[KNOWN];
    int32_t labels[ALL], predicted[ALL];
    osr_open_scores in;
    osr_open_metrics m;
    osr_decisions d;
    size_t nk = 0, nu = 0, n = 0;
    for (size_t i = 0; i < ALL; i++)
        for (uint32_t k = 0; k < draws[i] && n < ALL; k++) {
            if (i < KNOWN) {
                correct[nk] = s->correct[i];
                known[nk++] = s->scores[i];
            } else {
                unknown[nu++] = s->scores[i];
            }
            labels[n] = s->labels[i];
            predicted[n] = s->predicted[i];
            scores[n++] = s->scores[i];
        }
    CHECK(nk == KNOWN && nu == UNKNOWN);
    memset(&in, 0, sizeof in);
    memset(&d, 0, sizeof d);
    in.known = known;
    in.unknown = unknown;
    in.correct = correct;
    in.known_count = nk;
    in.unknown_count = nu;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK);
    d.labels = labels;
    d.predicted = predicted;
    d.scores = scores;
    d.count = n;
    d.classes = CLASSES;
    d.threshold = s->threshold;
    v[BOOT_ACCURACY] = m.closed_accuracy;
    v[BOOT_AUROC] = m.auroc;
    v[BOOT_AUPR_UNKNOWN] = m.aupr_unknown;
    v[BOOT_AUPR_KNOWN] = m.aupr_known;
    v[BOOT_FPR95_KNOWN_POS] = m.fpr95_known_pos;
    v[BOOT_FPR95_UNKNOWN_POS] = m.fpr95_unknown_pos;
    v[BOOT_OSCR] = m.oscr;
    v[BOOT_DTACC] = m.dtacc;
    CHECK(osr_metric_macro_f1(ctx, &d, &v[BOOT_MACRO_F1]) == OSR_OK);
}

/* With 41 resamples the 2.5th and 97.5th percentile are the second value from either end. */
static void check_brute(osr_ctx *ctx, uint64_t *state)
{
    static const double steps[] = {2.0, 5.0, 1e9};
    for (int round = 0; round < 6; round++) {
        double values[BOOT_COUNT][RESAMPLES];
        struct images x[2];
        struct boot_set sets[2];
        struct interval found[2][BOOT_COUNT];
        uint32_t draws[ALL];
        const uint64_t seed = test_random(state);
        sets[0] = make_set(&x[0], 7.0, state);
        sets[1] = make_set(&x[1], steps[round % 3], state);
        CHECK(bootstrap(sets, 2, RESAMPLES, seed, found) == EXIT_OK);
        for (int b = 0; b < RESAMPLES; b++) {
            double v[BOOT_COUNT];
            bootstrap_draws(KNOWN, UNKNOWN, seed, b, draws);
            brute(ctx, &sets[1], draws, v);
            for (int f = 0; f < BOOT_COUNT; f++)
                values[f][b] = v[f];
        }
        for (int f = 0; f < BOOT_COUNT; f++) {
            double low[2] = {9.0, 9.0}, high[2] = {-9.0, -9.0}; /* the two outermost */
            for (int b = 0; b < RESAMPLES; b++) {
                double v = values[f][b];
                if (v < low[1])
                    low[1] = v;
                if (low[1] < low[0])
                    v = low[0], low[0] = low[1], low[1] = v;
                v = values[f][b];
                if (v > high[1])
                    high[1] = v;
                if (high[1] > high[0])
                    v = high[0], high[0] = high[1], high[1] = v;
            }
            CHECK_NEAR(found[1][f].low, low[1], 1e-12);
            CHECK_NEAR(found[1][f].high, high[1], 1e-12);
        }
    }
}

static void check_edges(uint64_t *state)
{
    struct images x;
    struct interval a[1][BOOT_COUNT], b[1][BOOT_COUNT];
    struct boot_set s = make_set(&x, 100.0, state);
    CHECK(bootstrap(&s, 1, 100, 5, a) == EXIT_OK && bootstrap(&s, 1, 100, 5, b) == EXIT_OK);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK(bootstrap(&s, 1, 100, 6, b) == EXIT_OK && memcmp(a, b, sizeof a) != 0);
    CHECK(bootstrap(&s, 1, 1, 5, b) == EXIT_OK); /* one resample: both ends are its figure */
    CHECK(b[0][BOOT_AUROC].low == b[0][BOOT_AUROC].high);
    s.labels = NULL;
    CHECK(bootstrap(&s, 1, 100, 5, b) == EXIT_OK && isnan(b[0][BOOT_MACRO_F1].low));
    CHECK(b[0][BOOT_OSCR].high == a[0][BOOT_OSCR].high);
    s.unknown = 0;
    CHECK(bootstrap(&s, 1, 100, 5, b) == EXIT_OK && isnan(b[0][BOOT_AUROC].low));
    CHECK(b[0][BOOT_ACCURACY].low >= 0.0 && b[0][BOOT_ACCURACY].low < b[0][BOOT_ACCURACY].high);
    s.known = 1;
    CHECK(bootstrap(&s, 1, 100, 5, b) == EXIT_OK);
    CHECK(b[0][BOOT_ACCURACY].low == b[0][BOOT_ACCURACY].high);
}

/* Every image is drawn once a resample on average, with the variance of a binomial count. */
static void check_draws(uint64_t *state)
{
    enum { MANY = 2000 };
    double sums[ALL] = {0.0}, squares = 0.0;
    uint32_t draws[ALL];
    const uint64_t seed = test_random(state);
    for (int b = 0; b < MANY; b++) {
        size_t known = 0, unknown = 0;
        bootstrap_draws(KNOWN, UNKNOWN, seed, b, draws);
        for (int i = 0; i < ALL; i++) {
            *(i < KNOWN ? &known : &unknown) += draws[i];
            sums[i] += draws[i];
            squares += pow(draws[i] - 1.0, 2.0) / (ALL * (double)MANY);
        }
        CHECK(known == KNOWN && unknown == UNKNOWN);
    }
    for (int i = 0; i < ALL; i++)
        CHECK(fabs(sums[i] / MANY - 1.0) < 6.0 / sqrt((double)MANY));
    CHECK(fabs(squares - (1.0 - 2.0 / ALL)) < 0.03);
}

/* The interval of the accuracy is that of a binomial share: +-1.96 sqrt(p (1 - p) / n). */
static void check_width(uint64_t *state)
{
    enum { N = 4000 };
    static double scores[2 * N];
    static unsigned char correct[N];
    struct interval found[1][BOOT_COUNT];
    struct boot_set s;
    double share = 0.0, half;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < 2 * N; i++)
        scores[i] = test_uniform(state);
    for (int i = 0; i < N; i++) {
        correct[i] = test_uniform(state) < 0.8;
        share += (double)correct[i] / N;
    }
    s.scores = scores;
    s.correct = correct;
    s.known = s.unknown = N;
    CHECK(bootstrap(&s, 1, 2000, test_random(state), found) == EXIT_OK);
    half = 1.96 * sqrt(share * (1.0 - share) / N);
    CHECK(fabs(found[0][BOOT_ACCURACY].low - (share - half)) < 0.15 * half);
    CHECK(fabs(found[0][BOOT_ACCURACY].high - (share + half)) < 0.15 * half);
    half = 1.96 * sqrt(2.0 / 12.0 / N); /* of the AUROC of scores from one distribution */
    CHECK(fabs(found[0][BOOT_AUROC].high - found[0][BOOT_AUROC].low - 2.0 * half) < 0.3 * half);
}

static void check_time(uint64_t *state)
{
    enum { N = 10000 };
    static double scores[N];
    static unsigned char correct[N];
    struct interval found[1][BOOT_COUNT];
    struct boot_set s;
    struct timespec a, b;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < N; i++) {
        scores[i] = test_uniform(state);
        correct[i] = 1;
    }
    s.scores = scores;
    s.correct = correct;
    s.known = 6000;
    s.unknown = 4000;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    CHECK(bootstrap(&s, 1, 1000, 1, found) == EXIT_OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    printf("10000 scores, 1000 resamples: %.2f s\n",
           (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
}

static void check_confusion(void)
{
    static const char *const unknown[] = {"bus", "a \"b\", c", "none"};
    static const char *const known[] = {"car", "cat,dog"};
    static const int32_t class[] = {0, 0, 0, 0, 1, 1}, predicted[] = {0, 0, 1, 0, 1, 1};
    static const double scores[] = {1.0, 2.0, 1.5, 2.5, 0.0, 9.0};
    struct confusion c;
    struct json j = {0};
    CHECK(confusion_count(&c, unknown, 3, known, 2, class, predicted, scores, 6, 2.0) == EXIT_OK);
    CHECK(confusion_accepted(&c, 0) == 3 && confusion_accepted(&c, 1) == 1);
    CHECK(confusion_accepted(&c, 2) == 0 && c.images[0] == 4 && c.images[1] == 2);
    char *text = confusion_csv(&c);
    CHECK(text != NULL
          && strcmp(text, "unknown,images,accepted,car,\"cat,dog\"\n"
                          "bus,4,3,2,1\n\"a \"\"b\"\", c\",2,1,0,1\nnone,0,0,0,0\n") == 0);
    free(text);
    json_open(&j, NULL, '{');
    confusion_json(&c, &j);
    json_close(&j, '}');
    CHECK(!j.failed
          && strcmp(j.text, "{\"confusion\":[{\"unknown\":\"bus\",\"images\":4,\"accepted\":3,"
                            "\"as\":[{\"class\":\"car\",\"images\":2},"
                            "{\"class\":\"cat,dog\",\"images\":1}]},"
                            "{\"unknown\":\"a \\\"b\\\", c\",\"images\":2,\"accepted\":1,"
                            "\"as\":[{\"class\":\"cat,dog\",\"images\":1}]},"
                            "{\"unknown\":\"none\",\"images\":0,\"accepted\":0,\"as\":[]}]}") == 0);
    json_free(&j);
    confusion_free(&c);
}

int main(void)
{
    uint64_t state = test_seed();
    osr_ctx_desc desc;
    osr_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.no_device = 1;
    if (CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK)) {
        check_brute(ctx, &state);
        check_edges(&state);
        check_draws(&state);
        check_width(&state);
        check_time(&state);
        check_confusion();
    }
    osr_ctx_destroy(ctx);
    return test_end();
}
