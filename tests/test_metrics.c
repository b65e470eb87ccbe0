/* test_metrics - metrics against definitions written out over all pairs and all thresholds, and
 * against scikit-learn and numpy */
#include "osr.h"
#define WITHOUT_CALIBRATION
#include "score_vectors.h"
#include "test.h"

enum { MOST = 40 };

static double nan_value(void)
{
    return strtod("nan", NULL);
}

/* Images with score >= t (at_least) or <= t, as a share of all. */
static double share(const double *s, size_t n, double t, int at_least)
{
    size_t i, count = 0;
    for (i = 0; i < n; i++)
        count += at_least ? s[i] >= t : s[i] <= t;
    return (double)count / (double)n;
}

/* The next score after t, upwards or downwards; 0 when there is none. */
static int next_score(const osr_open_scores *in, double *t, int up)
{
    int found = 0;
    double best = 0.0;
    size_t i, n = in->known_count + in->unknown_count;
    for (i = 0; i < n; i++) {
        double s = i < in->known_count ? in->known[i] : in->unknown[i - in->known_count];
        if ((up ? s > *t : s < *t) && (!found || (up ? s < best : s > best))) {
            best = s;
            found = 1;
        }
    }
    *t = best;
    return found;
}

/* Average precision and the false positive rate at 95%, one threshold after the other. */
static void brute_ranking(const osr_open_scores *in, int known_positive, double *ap, double *fpr)
{
    const double *pos = known_positive ? in->known : in->unknown;
    const double *neg = known_positive ? in->unknown : in->known;
    size_t npos = known_positive ? in->known_count : in->unknown_count;
    size_t nneg = known_positive ? in->unknown_count : in->known_count;
    double t = known_positive ? -1e300 : 1e300, recall = 0.0;
    *ap = 0.0;
    *fpr = -1.0;
    while (next_score(in, &t, known_positive)) {
        double tpr = share(pos, npos, t, !known_positive);
        double f = share(neg, nneg, t, !known_positive);
        double tp = tpr * (double)npos, fp = f * (double)nneg;
        *ap += (tpr - recall) * tp / (tp + fp);
        recall = tpr;
        if (*fpr < 0.0 && tpr >= 0.95 - 1e-12)
            *fpr = f;
    }
}

static double brute_error(const osr_open_scores *in, double auroc)
{
    double sum[2] = {0.0, 0.0}, n[2];
    int side;
    size_t i, j;
    n[0] = (double)in->known_count;
    n[1] = (double)in->unknown_count;
    for (side = 0; side < 2; side++)
        for (i = 0; i < (size_t)n[side]; i++) {
            double v = 0.0;
            for (j = 0; j < (size_t)n[1 - side]; j++) {
                double k = in->known[side ? j : i], u = in->unknown[side ? i : j];
                v += k < u ? 1.0 : k > u ? 0.0 : 0.5;
            }
            v = v / n[1 - side] - auroc;
            sum[side] += v * v;
        }
    return sqrt(sum[0] / (n[0] - 1.0) / n[0] + sum[1] / (n[1] - 1.0) / n[1]);
}

static void brute(const osr_open_scores *in, osr_open_metrics *m)
{
    double pairs = 0.0, correct_pairs = 0.0, t = 1e300, all;
    size_t i, j;
    all = (double)in->known_count * (double)in->unknown_count;
    for (i = 0; i < in->known_count; i++)
        for (j = 0; j < in->unknown_count; j++) {
            double k = in->known[i], u = in->unknown[j];
            double win = k < u ? 1.0 : k > u ? 0.0 : 0.5;
            pairs += win;
            correct_pairs += in->correct[i] ? win : 0.0;
        }
    m->auroc = pairs / all;
    m->oscr = correct_pairs / all;
    m->auroc_error = brute_error(in, m->auroc);
    brute_ranking(in, 0, &m->aupr_unknown, &m->fpr95_unknown_pos);
    brute_ranking(in, 1, &m->aupr_known, &m->fpr95_known_pos);
    m->dtacc = 0.5;
    while (next_score(in, &t, 0)) {
        double a = 0.5 * (share(in->unknown, in->unknown_count, t, 1)
                          + 1.0 - share(in->known, in->known_count, t, 1));
        m->dtacc = a > m->dtacc ? a : m->dtacc;
    }
}

static void check_against_brute(osr_ctx *ctx, const osr_open_scores *in)
{
    osr_open_metrics m, b;
    double accuracy = 0.0;
    size_t i;
    memset(&b, 0, sizeof b);
    brute(in, &b);
    CHECK(osr_metric_open(ctx, in, &m) == OSR_OK);
    CHECK_NEAR(m.auroc, b.auroc, 1e-12);
    CHECK_NEAR(m.auroc_error, b.auroc_error, 1e-12);
    CHECK_NEAR(m.aupr_unknown, b.aupr_unknown, 1e-12);
    CHECK_NEAR(m.aupr_known, b.aupr_known, 1e-12);
    CHECK_NEAR(m.fpr95_known_pos, b.fpr95_known_pos, 1e-12);
    CHECK_NEAR(m.fpr95_unknown_pos, b.fpr95_unknown_pos, 1e-12);
    CHECK_NEAR(m.oscr, b.oscr, 1e-12);
    CHECK_NEAR(m.dtacc, b.dtacc, 1e-12);
    for (i = 0; i < in->known_count; i++)
        accuracy += in->correct[i] ? 1.0 / (double)in->known_count : 0.0;
    CHECK_NEAR(m.closed_accuracy, accuracy, 1e-12);
}

static void test_random_sets(osr_ctx *ctx, uint64_t *state)
{
    double known[MOST], unknown[MOST];
    uint8_t correct[MOST];
    osr_open_scores in;
    int round;
    for (round = 0; round < 300; round++) {
        static const double steps[] = {1.0, 3.0, 10.0, 1e6}; /* few steps: many ties */
        double step = steps[round % 4];
        size_t i;
        memset(&in, 0, sizeof in);
        in.known = known;
        in.unknown = unknown;
        in.correct = correct;
        in.known_count = 2 + (size_t)(test_random(state) % (MOST - 1));
        in.unknown_count = 2 + (size_t)(test_random(state) % (MOST - 1));
        for (i = 0; i < MOST; i++) {
            known[i] = floor(test_uniform(state) * step) / step - 0.5;
            unknown[i] = floor(test_uniform(state) * 1.2 * step) / step - 0.4;
            correct[i] = (uint8_t)(test_random(state) % 5 ? 1 + test_random(state) % 255 : 0);
        }
        check_against_brute(ctx, &in);
    }
}

/* By scikit-learn 1.x: roc_auc_score(y, s), average_precision_score(y, s) and (1 - y, -s),
 * roc_curve(drop_intermediate=False) at the first tpr >= 0.95, f1_score(average="macro"). */
static void test_vectors(osr_ctx *ctx)
{
    static const double known[24] = {
        1.25, 0.5, 1.5, 2.5, 0.0, 0.25, 2.0, 0.25, 1.25, 2.25, 0.0, 2.0,
        0.75, 0.0, 0.25, 1.5, 1.5, 0.25, 0.75, 0.25, 2.0, 1.5, 0.0, 2.25};
    static const double unknown[18] = {
        1.25, 1.75, 3.5, 3.5, 3.25, 1.0, 3.25, 3.25, 2.5,
        1.0, 1.75, 1.0, 3.0, 1.5, 2.0, 2.5, 1.5, 3.0};
    static const int32_t labels[20] = {1, -1, -1, 2, 0, 1, 0, 2, 2, -1,
                                       -1, 1, 1, 1, 2, 2, -1, -1, 1, 2};
    static const int32_t predicted[20] = {-1, -1, 2, 2, 0, -1, 1, 2, 2, -1,
                                          0, 2, 1, -1, 2, 2, -1, -1, 1, 2};
    double scores[20], f1 = 0.0;
    int32_t classes[20];
    osr_open_scores in;
    osr_open_metrics m;
    osr_decisions d;
    int i;
    memset(&in, 0, sizeof in);
    in.known = known;
    in.known_count = 24;
    in.unknown = unknown;
    in.unknown_count = 18;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK);
    CHECK_NEAR(m.auroc, 0.81365740740740744, 1e-14);
    CHECK_NEAR(m.aupr_unknown, 0.79336419753086429, 1e-14);
    CHECK_NEAR(m.aupr_known, 0.86578207671957663, 1e-14);
    CHECK_NEAR(m.fpr95_known_pos, 0.5, 1e-14);
    CHECK_NEAR(m.fpr95_unknown_pos, 0.5, 1e-14);
    CHECK_NEAR(m.dtacc, 0.75, 1e-14);
    CHECK(isnan(m.oscr) && isnan(m.closed_accuracy) && isnan(m.openness));

    memset(&d, 0, sizeof d);
    d.labels = labels;
    d.predicted = predicted;
    d.count = 20;
    d.classes = 3;
    CHECK(osr_metric_macro_f1(ctx, &d, &f1) == OSR_OK);
    CHECK_NEAR(f1, 0.60424297924297921, 1e-14);
    d.classes = 9; /* classes that do not occur leave the mean alone */
    CHECK(osr_metric_macro_f1(ctx, &d, &f1) == OSR_OK);
    CHECK_NEAR(f1, 0.60424297924297921, 1e-14);
    for (i = 0; i < 20; i++) { /* the same decisions by threshold; equal to it is known */
        classes[i] = predicted[i] < 0 ? 1 : predicted[i];
        scores[i] = predicted[i] < 0 ? 0.75 + i : 0.5;
    }
    d.predicted = classes;
    d.scores = scores;
    d.threshold = 0.5;
    CHECK(osr_metric_macro_f1(ctx, &d, &f1) == OSR_OK);
    CHECK_NEAR(f1, 0.60424297924297921, 1e-14);
    classes[4] = 9;
    CHECK(osr_metric_macro_f1(ctx, &d, &f1) == OSR_ARG);
    CHECK(strstr(osr_ctx_message(ctx), "image 4") != NULL);
    osr_ctx_clear_error(ctx);
}

/* F1 of each class from its own counts, -1 the unknown; a class that does not occur has none. */
static double brute_macro_f1(const osr_decisions *d)
{
    double sum = 0.0;
    int c, present = 0;
    for (c = -1; c < d->classes; c++) {
        int hits = 0, false_alarms = 0, misses = 0;
        size_t i;
        for (i = 0; i < d->count; i++) {
            int rejected = d->scores && d->scores[i] > d->threshold;
            int is = d->labels[i] == c, called = (rejected ? -1 : d->predicted[i]) == c;
            hits += is && called;
            false_alarms += !is && called;
            misses += is && !called;
        }
        if (hits + false_alarms + misses == 0)
            continue;
        present++;
        sum += 2.0 * hits / (2.0 * hits + false_alarms + misses);
    }
    return sum / present;
}

/* Up to 40 decisions, half of them right, by `predicted` alone and by scores with ties at the
 * threshold. In every second round only a part of the classes has members. `seen` counts images:
 * known and rejected by a score or by `predicted`, unknown and accepted, unknown and rejected. */
static void test_macro_f1(osr_ctx *ctx, uint64_t *state)
{
    static const int classes[] = {1, 2, 3, 6, 10, 60};
    int32_t labels[MOST], predicted[MOST];
    double scores[MOST], f1 = -1.0;
    int seen[4] = {0, 0, 0, 0}, round, i;
    osr_decisions d;
    memset(&d, 0, sizeof d);
    d.labels = labels;
    d.predicted = predicted;
    d.threshold = 0.5;
    for (round = 0; round < 600; round++) {
        uint64_t some;
        d.classes = classes[round % 6];
        some = (uint64_t)(round / 6 % 2 ? (d.classes + 1) / 2 : d.classes) + 1;
        d.scores = round / 12 % 2 ? scores : NULL;
        d.count = 1 + (size_t)(test_random(state) % MOST);
        for (i = 0; i < (int)d.count; i++) {
            labels[i] = (int32_t)(test_random(state) % some) - 1;
            predicted[i] = test_random(state) % 2 ? labels[i]
                                                  : (int32_t)(test_random(state) % some) - 1;
            scores[i] = (double)(test_random(state) % 4) * 0.25; /* 0.5 is accepted */
            seen[0] += d.scores && labels[i] >= 0 && scores[i] > 0.5;
            seen[1] += labels[i] >= 0 && predicted[i] < 0;
            seen[2] += labels[i] < 0 && predicted[i] >= 0 && !(d.scores && scores[i] > 0.5);
            seen[3] += labels[i] < 0 && d.scores && scores[i] > 0.5;
        }
        CHECK(osr_metric_macro_f1(ctx, &d, &f1) == OSR_OK);
        CHECK_NEAR(f1, brute_macro_f1(&d), 1e-12);
    }
    for (i = 0; i < 4; i++)
        CHECK(seen[i] > 200);
}

/* make_score_vectors.py: by numpy, over pairs and thresholds; ties, one image a side, all equal */
static void test_numpy(osr_ctx *ctx)
{
    const size_t cases = sizeof metric_sizes / sizeof metric_sizes[0] / 2;
    size_t c, known = 0, unknown = 0;
    for (c = 0; c < cases; c++) {
        const double *e = metric_expected + 9 * c;
        osr_open_scores in;
        osr_open_metrics m;
        memset(&in, 0, sizeof in);
        in.known = metric_known + known;
        in.correct = metric_correct + known;
        in.unknown = metric_unknown + unknown;
        known += in.known_count = (size_t)metric_sizes[2 * c];
        unknown += in.unknown_count = (size_t)metric_sizes[2 * c + 1];
        CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK);
        CHECK_NEAR(m.closed_accuracy, e[0], 1e-14);
        CHECK_NEAR(m.auroc, e[1], 1e-14);
        CHECK_NEAR(m.auroc_error, e[2], 1e-14);
        CHECK_NEAR(m.aupr_unknown, e[3], 1e-14);
        CHECK_NEAR(m.aupr_known, e[4], 1e-14);
        CHECK_NEAR(m.fpr95_known_pos, e[5], 1e-14);
        CHECK_NEAR(m.fpr95_unknown_pos, e[6], 1e-14);
        CHECK_NEAR(m.oscr, e[7], 1e-14);
        CHECK_NEAR(m.dtacc, e[8], 1e-14);
    }
    CHECK(cases >= 8 && known == sizeof metric_known / sizeof metric_known[0]);
    CHECK(unknown == sizeof metric_unknown / sizeof metric_unknown[0]);
}

static double openness(osr_ctx *ctx, int known_classes, int unknown_classes)
{
    static const double score = 0.0;
    osr_open_scores in;
    osr_open_metrics m;
    memset(&in, 0, sizeof in);
    in.known = &score;
    in.known_count = 1;
    in.known_classes = known_classes;
    in.unknown_classes = unknown_classes;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK);
    return m.openness;
}

static void test_openness(osr_ctx *ctx)
{
    CHECK_NEAR(openness(ctx, 6, 4), 0.1340, 5e-5);
    CHECK_NEAR(openness(ctx, 4, 10), 0.3333, 5e-5);
    CHECK_NEAR(openness(ctx, 4, 50), 0.6286, 5e-5);
    CHECK_NEAR(openness(ctx, 20, 180), 0.5736, 5e-5);
    CHECK(openness(ctx, 5, 0) == 0.0);
    CHECK(isnan(openness(ctx, 0, 3)) && isnan(openness(ctx, 3, -1)));
}

static void test_threshold(osr_ctx *ctx, uint64_t *state)
{
    double s[100], t = 0.0;
    int i, n, accepted;
    for (n = 1; n <= 100; n++) {
        double wanted = (double)(1 + test_random(state) % 100) / 100.0;
        for (i = 0; i < n; i++)
            s[i] = floor(test_uniform(state) * 20.0);
        CHECK(osr_metric_threshold(ctx, s, (size_t)n, wanted, &t) == OSR_OK);
        CHECK(share(s, (size_t)n, t, 0) >= wanted - 1e-9);
        for (accepted = 0, i = 0; i < n; i++)
            accepted += s[i] < t;
        CHECK((double)accepted < wanted * n + 1e-6); /* no smaller score is enough */
    }
    for (i = 0; i < 10; i++)
        s[i] = 9.0 - i;
    CHECK(osr_metric_threshold(ctx, s, 10, 0.9, &t) == OSR_OK && t == 8.0);
    CHECK(osr_metric_threshold(ctx, s, 10, 1.0, &t) == OSR_OK && t == 9.0);
    CHECK(osr_metric_threshold(ctx, s, 10, 1e-15, &t) == OSR_OK && t == 0.0);
    for (i = 0; i < 100; i++)
        s[i] = i;
    CHECK(osr_metric_threshold(ctx, s, 100, 0.07, &t) == OSR_OK && t == 6.0); /* 0.07 100 > 7 */
    CHECK(osr_metric_threshold(ctx, s, 10, 0.0, &t) == OSR_ARG);
    CHECK(osr_metric_threshold(ctx, s, 10, 1.5, &t) == OSR_ARG);
    CHECK(osr_metric_threshold(ctx, s, 10, nan_value(), &t) == OSR_ARG);
    CHECK(osr_metric_threshold(ctx, s, 0, 0.9, &t) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

static void test_edges(osr_ctx *ctx)
{
    double scores[6] = {0.0, -1.0, 2.0, 2.0, 1e300, -1e300}, auroc = 0.0;
    uint8_t correct[6] = {1, 0, 1, 1, 0, 0};
    osr_open_scores in;
    osr_open_metrics m;
    size_t i;
    memset(&in, 0, sizeof in);
    in.known = scores;
    in.correct = correct;
    in.known_count = 6;
    in.known_classes = 6;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK); /* no unknown image */
    CHECK(m.closed_accuracy == 0.5 && m.openness == 0.0);
    CHECK(isnan(m.auroc) && isnan(m.auroc_error) && isnan(m.aupr_unknown) && isnan(m.aupr_known));
    CHECK(isnan(m.fpr95_known_pos) && isnan(m.fpr95_unknown_pos) && isnan(m.oscr));
    CHECK(isnan(m.dtacc));
    in.known_count = 0;
    in.unknown = scores;
    in.unknown_count = 6;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK); /* no known image */
    CHECK(isnan(m.closed_accuracy) && isnan(m.auroc) && isnan(m.oscr));
    in.known_count = in.unknown_count = 1;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK && isnan(m.auroc_error) && m.dtacc == 0.5);
    CHECK(m.auroc == 0.5);
    in.known_count = in.unknown_count = 6; /* the same on both sides */
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK && m.auroc == 0.5);
    CHECK_NEAR(m.oscr, 7.5 / 36.0, 1e-15); /* score 0: 3.5 + 2 x (score 2: 1 + 2 / 2) */
    in.known_count = in.unknown_count = 0;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    in.known_count = 6;
    in.known = NULL;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_ARG && isnan(m.closed_accuracy));
    osr_ctx_clear_error(ctx);

    in.known = scores;
    in.unknown_count = 6;
    for (i = 0; i < 3; i++) {
        double keep = scores[3];
        scores[3] = i == 0 ? nan_value() : i == 1 ? strtod("inf", NULL) : -strtod("inf", NULL);
        scores[5] = scores[3];
        m.auroc = 0.0;
        CHECK(osr_metric_open(ctx, &in, &m) == OSR_NAN && isnan(m.auroc));
        CHECK(strstr(osr_ctx_message(ctx), "2 of 6 scores in known") != NULL);
        CHECK(strstr(osr_ctx_message(ctx), "index 3") != NULL);
        osr_ctx_clear_error(ctx);
        CHECK(osr_metric_threshold(ctx, scores, 6, 0.5, &auroc) == OSR_NAN);
        osr_ctx_clear_error(ctx);
        scores[3] = keep;
        scores[5] = -1e300;
    }
    CHECK(osr_metric_open(NULL, &in, &m) == OSR_ARG);
}

static void test_many(osr_ctx *ctx)
{
    static double known[50000], unknown[50000];
    osr_open_scores in;
    osr_open_metrics m;
    int i;
    for (i = 0; i < 50000; i++) { /* order must not matter: one side up, one down */
        known[i] = i;
        unknown[i] = 50000 - 1 - i + 0.5;
    }
    memset(&in, 0, sizeof in);
    in.known = known;
    in.unknown = unknown;
    in.known_count = in.unknown_count = 50000;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_OK);
    CHECK_NEAR(m.auroc, 0.5 + 0.5 / 50000.0, 1e-13);
}

static void test_memory(struct test_memory *memory, osr_ctx *ctx)
{
    static const double s[3] = {1.0, 2.0, 3.0};
    static const int32_t labels[3] = {0, 1, -1};
    osr_open_scores in;
    osr_open_metrics m;
    osr_decisions d;
    double x = 0.0;
    size_t live = memory->live;
    memset(&in, 0, sizeof in);
    memset(&d, 0, sizeof d);
    in.known = in.unknown = s;
    in.known_count = in.unknown_count = 3;
    d.labels = d.predicted = labels;
    d.count = 3;
    d.classes = 2;
    memory->left = 0;
    CHECK(osr_metric_open(ctx, &in, &m) == OSR_MEMORY && isnan(m.auroc));
    CHECK(osr_metric_threshold(ctx, s, 3, 0.5, &x) == OSR_MEMORY);
    CHECK(osr_metric_macro_f1(ctx, &d, &x) == OSR_MEMORY);
    memory->left = -1;
    osr_ctx_clear_error(ctx);
    CHECK(osr_metric_macro_f1(ctx, &d, &x) == OSR_OK && x == 1.0);
    CHECK(memory->live == live);
}

int main(void)
{
    uint64_t state = test_seed();
    struct test_memory memory = {0, -1};
    osr_ctx_desc desc;
    osr_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.no_device = 1;
    desc.allocator.fn = test_memory_fn;
    desc.allocator.user = &memory;
    if (CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK)) {
        test_random_sets(ctx, &state);
        test_vectors(ctx);
        test_macro_f1(ctx, &state);
        test_numpy(ctx);
        test_openness(ctx);
        test_threshold(ctx, &state);
        test_edges(ctx);
        test_many(ctx);
        test_memory(&memory, ctx);
        CHECK(osr_ctx_status(ctx) == OSR_OK);
    }
    osr_ctx_destroy(ctx);
    CHECK(memory.live == 0);
    return test_end();
}
