/* test_scores - every row of the score table against its formula written out, at values where the
 * plain formula cancels or overflows against closed forms, and refusal of what is not finite */
#include "osr.h"
#include "test.h"

enum { K = 5, D = 7, F = 6, N = 4 };

/* The formulas as they stand in the documentation, without care for cancellation. */
static double plain_softmax(const float *z, int n, int k)
{
    double sum = 0.0;
    int j;
    for (j = 0; j < n; j++)
        sum += exp((double)z[j] - (double)z[k]);
    return 1.0 / sum;
}

static double largest(const float *x, int n)
{
    double best = (double)x[0];
    int i;
    for (i = 1; i < n; i++)
        best = (double)x[i] > best ? (double)x[i] : best;
    return best;
}

static double smallest(const float *x, int n)
{
    double best = (double)x[0];
    int i;
    for (i = 1; i < n; i++)
        best = (double)x[i] < best ? (double)x[i] : best;
    return best;
}

static double plain_msp(const osr_score_input *in)
{
    double best = 0.0;
    int k;
    for (k = 0; k < in->classes; k++) {
        double p = plain_softmax(in->logits, in->classes, k);
        best = p > best ? p : best;
    }
    return 1.0 - best;
}

static double plain_mls(const osr_score_input *in)
{
    return -largest(in->logits, in->classes);
}

static double plain_energy(const osr_score_input *in)
{
    double sum = 0.0;
    int k;
    for (k = 0; k < in->classes; k++)
        sum += exp((double)in->logits[k]);
    return -log(sum);
}

static double plain_entropy(const osr_score_input *in)
{
    double sum = 0.0;
    int k;
    for (k = 0; k < in->classes; k++) {
        double p = plain_softmax(in->logits, in->classes, k);
        sum -= p * log(p);
    }
    return sum;
}

static double plain_gamma(const osr_score_input *in, int k)
{
    double sum = 0.0, d = (double)in->distances[k];
    int j;
    for (j = 0; j < in->classes; j++)
        sum += exp(-(double)in->distances[j]);
    return d * (1.0 - exp(-d) / sum);
}

static double plain_cac(const osr_score_input *in)
{
    double best = plain_gamma(in, 0);
    int k;
    for (k = 1; k < in->classes; k++)
        best = plain_gamma(in, k) < best ? plain_gamma(in, k) : best;
    return best;
}

static double plain_difair(const osr_score_input *in)
{
    return smallest(in->distances, in->classes);
}

static double plain_max_response(const osr_score_input *in)
{
    return -largest(in->representation, in->dims);
}

static double plain_max_cosine(const osr_score_input *in)
{
    return -largest(in->cosines, in->classes);
}

static double plain_movr_loss(const osr_score_input *in, double margin)
{
    double best = largest(in->cosines, in->classes), sum = 0.0, t = (double)in->temperature;
    int k;
    for (k = 0; k < in->classes; k++) {
        double p = 1.0 / (1.0 + exp(-t * cos(acos((double)in->cosines[k]) + margin)));
        sum -= (double)in->cosines[k] >= best ? log(p) : log(1.0 - p);
    }
    return sum;
}

static double plain_movr(const osr_score_input *in)
{
    return plain_movr_loss(in, 0.0);
}

static double plain_movr_margin(const osr_score_input *in)
{
    return plain_movr_loss(in, (double)in->margin);
}

static double plain_distance(const float *a, const float *b, int n)
{
    double sum = 0.0;
    int i;
    for (i = 0; i < n; i++)
        sum += pow((double)a[i] - (double)b[i], 2.0);
    return sqrt(sum);
}

/* ln(P / (1 - P)) of the published probability P of the unknown class. */
static double plain_openmax(const osr_score_input *in)
{
    int n = in->classes, alpha = n < 10 ? n : 10, rank, k, taken[64] = {0};
    double unknown = 0.0, all = 0.0, p, v[64];
    for (k = 0; k < n; k++)
        v[k] = (double)in->logits[k];
    for (rank = 1; rank <= alpha; rank++) {
        const float *c;
        double w;
        int best = -1;
        for (k = 0; k < n; k++)
            if (!taken[k] && (best < 0 || in->logits[k] > in->logits[best]))
                best = k;
        taken[best] = 1;
        c = in->calibration + best * (n + 3);
        w = plain_distance(in->logits, c, n) + 1.0 - (double)c[n];
        w = w > 0.0 ? 1.0 - exp(-pow(w / (double)c[n + 1], (double)c[n + 2])) : 0.0;
        v[best] *= 1.0 - w * (alpha + 1.0 - rank) / alpha;
    }
    for (k = 0; k < n; k++) {
        unknown += (double)in->logits[k] - v[k];
        all += exp(v[k]);
    }
    p = exp(unknown) / (exp(unknown) + all);
    return log(p / (1.0 - p));
}

static double plain_ncm(const osr_score_input *in)
{
    double best = 1e300;
    int k;
    for (k = 0; k < in->classes; k++)
        best = fmin(best, plain_distance(in->features, in->calibration + k * in->feature_dims,
                                         in->feature_dims));
    return best;
}

static double plain_mahalanobis(const osr_score_input *in)
{
    int f = in->feature_dims, i, j, k;
    double best = 1e300, y[64] = {0.0};
    for (i = 0; i < f; i++)
        for (j = 0; j < f; j++)
            y[i] += (double)in->calibration[(in->classes + i) * f + j] * (double)in->features[j];
    for (k = 0; k < in->classes; k++) {
        double sum = 0.0;
        for (i = 0; i < f; i++)
            sum += pow(y[i] - (double)in->calibration[k * f + i], 2.0);
        best = fmin(best, sqrt(sum));
    }
    return best;
}

static double plain_jacobian(const osr_score_input *in)
{
    return *in->jacobian;
}

static double plain_sample_loss(const osr_score_input *in)
{
    return smallest(in->losses, in->classes);
}

static const struct {
    const char *name;
    unsigned needs;
    double (*fn)(const osr_score_input *in);
} cases[] = {
    {"msp", OSR_OUT_LOGITS, plain_msp},
    {"mls", OSR_OUT_LOGITS, plain_mls},
    {"energy", OSR_OUT_LOGITS, plain_energy},
    {"entropy", OSR_OUT_LOGITS, plain_entropy},
    {"cac", OSR_OUT_DISTANCES, plain_cac},
    {"difair", OSR_OUT_DISTANCES, plain_difair},
    {"max_response", OSR_OUT_REPRESENTATION, plain_max_response},
    {"max_cosine", OSR_OUT_COSINES, plain_max_cosine},
    {"movr", OSR_OUT_COSINES, plain_movr},
    {"movr_margin", OSR_OUT_COSINES, plain_movr_margin},
    {"openmax", OSR_OUT_LOGITS, plain_openmax},
    {"ncm", OSR_OUT_FEATURES, plain_ncm},
    {"mahalanobis", OSR_OUT_FEATURES, plain_mahalanobis},
    {"jacobian", OSR_OUT_JACOBIAN, plain_jacobian},
    {"sample_loss", OSR_OUT_LOSSES, plain_sample_loss},
};

static int find_case(const char *name)
{
    int i;
    for (i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++)
        if (strcmp(cases[i].name, name) == 0)
            return i;
    return -1;
}

struct outputs {
    float logits[N * K], distances[N * K], cosines[N * K], representation[N * D];
    float features[N * F], losses[N * K];
    double jacobian[N];
    float openmax[K * (K + 3)], ncm[K * F], mahalanobis[(K + F) * F];
};

static void fill(float *x, int n, double low, double high, uint64_t *state)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = (float)(low + (high - low) * test_uniform(state));
}

/* The row's calibration among the outputs. */
static void calibrate(osr_score_input *in, const struct outputs *o, const osr_score_row *row)
{
    const char *name = row->calibration ? row->calibration : "";
    in->calibration = !strcmp(name, "score.openmax") ? o->openmax
                      : !strcmp(name, "score.ncm") ? o->ncm
                      : !strcmp(name, "score.mahalanobis") ? o->mahalanobis : NULL;
    in->calibration_count = !strcmp(name, "score.openmax") ? K * (K + 3)
                            : !strcmp(name, "score.ncm") ? K * F
                            : !strcmp(name, "score.mahalanobis") ? (K + F) * F : 0;
    CHECK((in->calibration != NULL) == (row->calibration != NULL));
}

static osr_score_input make_input(struct outputs *o, uint64_t *state)
{
    osr_score_input in;
    int i;
    memset(&in, 0, sizeof in);
    for (i = 0; i < N * K; i++) {
        o->logits[i] = (float)(8.0 * test_uniform(state) - 4.0);
        o->distances[i] = (float)(6.0 * test_uniform(state));
        o->cosines[i] = (float)(1.98 * test_uniform(state) - 0.99);
    }
    for (i = 0; i < N * D; i++)
        o->representation[i] = (float)(3.0 * test_uniform(state));
    fill(o->features, N * F, -2.0, 2.0, state);
    fill(o->losses, N * K, 0.0, 9.0, state);
    fill(o->openmax, K * (K + 3), -2.0, 2.0, state);
    for (i = 0; i < K; i++) { /* around the distances that occur */
        o->openmax[i * (K + 3) + K] = (float)(3.0 + 4.0 * test_uniform(state));
        o->openmax[i * (K + 3) + K + 1] = (float)(1.0 + 3.0 * test_uniform(state));
        o->openmax[i * (K + 3) + K + 2] = (float)(1.0 + 5.0 * test_uniform(state));
    }
    fill(o->ncm, K * F, -2.0, 2.0, state);
    fill(o->mahalanobis, (K + F) * F, -2.0, 2.0, state);
    for (i = 0; i < F * F; i++)
        if (i % F > i / F)
            o->mahalanobis[K * F + i] = 0.0f;
    for (i = 0; i < N; i++)
        o->jacobian[i] = test_uniform(state);
    in.logits = o->logits;
    in.distances = o->distances;
    in.cosines = o->cosines;
    in.representation = o->representation;
    in.features = o->features;
    in.losses = o->losses;
    in.jacobian = o->jacobian;
    in.classes = K;
    in.dims = D;
    in.feature_dims = F;
    in.temperature = 4.0f;
    in.margin = 0.5f;
    return in;
}

/* One image of the input. */
static osr_score_input image_of(const osr_score_input *in, int n)
{
    osr_score_input one = *in;
    one.logits += n * K;
    one.distances += n * K;
    one.cosines += n * K;
    one.representation += n * D;
    one.features += n * F;
    one.losses += n * K;
    one.jacobian += n;
    return one;
}

static void test_rows(osr_ctx *ctx, uint64_t *state)
{
    struct outputs o;
    osr_score_input in, only;
    double scores[N];
    int i, n, round;
    CHECK(osr_score_at(-1) == NULL);
    CHECK(osr_score_at((int)(sizeof cases / sizeof cases[0]) - 1) != NULL);
    CHECK(osr_score_at((int)(sizeof cases / sizeof cases[0])) == NULL);
    CHECK(osr_score_find("no such score") == NULL && osr_score_find(NULL) == NULL);
    for (i = 0; osr_score_at(i) != NULL; i++) {
        const osr_score_row *row = osr_score_at(i);
        int c = find_case(row->name);
        CHECK(osr_score_find(row->name) == row);
        CHECK(row->help && *row->help && row->source && *row->source);
        if (!CHECK(c >= 0)) {
            fprintf(stderr, "    score '%s' has no case\n", row->name);
            continue;
        }
        CHECK(row->needs == cases[c].needs);
        for (round = 0; round < 50; round++) {
            in = make_input(&o, state);
            calibrate(&in, &o, row);
            only = in; /* nothing but what the row names may be read */
            only.logits = row->needs & OSR_OUT_LOGITS ? in.logits : NULL;
            only.distances = row->needs & OSR_OUT_DISTANCES ? in.distances : NULL;
            only.cosines = row->needs & OSR_OUT_COSINES ? in.cosines : NULL;
            only.representation = row->needs & OSR_OUT_REPRESENTATION ? in.representation : NULL;
            only.features = row->needs & OSR_OUT_FEATURES ? in.features : NULL;
            only.losses = row->needs & OSR_OUT_LOSSES ? in.losses : NULL;
            only.jacobian = row->needs & OSR_OUT_JACOBIAN ? in.jacobian : NULL;
            CHECK(osr_score_compute(ctx, row, &only, N, scores) == OSR_OK);
            for (n = 0; n < N; n++) {
                osr_score_input one = image_of(&in, n);
                CHECK_NEAR(scores[n], cases[c].fn(&one), 1e-11);
            }
        }
    }
}

static double score_of(osr_ctx *ctx, const char *name, const float *x, int n, float temperature)
{
    osr_score_input in;
    double s = -1e300;
    memset(&in, 0, sizeof in);
    in.logits = in.distances = in.cosines = in.representation = x;
    in.classes = in.dims = n;
    in.temperature = temperature;
    CHECK(osr_score_compute(ctx, osr_score_find(name), &in, 1, &s) == OSR_OK);
    return s;
}

/* Values where the plain formulas overflow or lose all digits. */
static void test_extremes(osr_ctx *ctx)
{
    static const float sure[2] = {100.0f, 0.0f}, huge[3] = {3e38f, -3e38f, 3e38f};
    static const float far_off[2] = {1000.0f, 3000.0f}, near_by[2] = {1.0f, 101.0f};
    static const float cosines[2] = {1.0f, -1.0f}, one[1] = {5.0f};
    double s;
    CHECK_NEAR(score_of(ctx, "msp", sure, 2, 0.0f) * 1e40, exp(-100.0) * 1e40, 1e-12);
    CHECK_NEAR(score_of(ctx, "entropy", sure, 2, 0.0f) * 1e40, 101.0 * exp(-100.0) * 1e40, 1e-12);
    CHECK_NEAR(score_of(ctx, "msp", huge, 3, 0.0f), 0.5, 1e-15);
    CHECK_NEAR(score_of(ctx, "entropy", huge, 3, 0.0f), log(2.0), 1e-15);
    CHECK_NEAR(score_of(ctx, "energy", huge, 3, 0.0f), -(double)3e38f, 1e-15);
    CHECK_NEAR(score_of(ctx, "energy", sure, 2, 0.0f), -100.0, 1e-15);
    CHECK(score_of(ctx, "cac", far_off, 2, 0.0f) == 0.0);
    CHECK_NEAR(score_of(ctx, "cac", near_by, 2, 0.0f) * 1e40, exp(-100.0) * 1e40, 1e-12);
    /* sure of its class: both terms are ln(1 + exp(-T (1 - 1e-6))) */
    s = score_of(ctx, "movr", cosines, 2, 0.0f);
    CHECK_NEAR(s * 1e12, 2.0 * exp(-32.0 * (1.0 - 1e-6)) * 1e12, 1e-9);
    s = score_of(ctx, "movr", cosines, 2, 3e38f);
    CHECK(s == 0.0);
    CHECK(score_of(ctx, "msp", one, 1, 0.0f) == 0.0);
    CHECK(score_of(ctx, "entropy", one, 1, 0.0f) == 0.0);
    CHECK(score_of(ctx, "cac", one, 1, 0.0f) == 0.0);
    CHECK(score_of(ctx, "energy", one, 1, 0.0f) == -5.0);
}

/* OpenMax where the published form overflows: classes without a fit are never revised, sure ones
 * and far ones keep an order. */
static void test_openmax(osr_ctx *ctx)
{
    static const float z[4][3] = {{1000.0f, 0.0f, 0.0f}, {1500.0f, 0.0f, 0.0f},
                                  {-1000.0f, -1000.0f, -1000.0f}, {10.0f, 0.0f, 0.0f}};
    float none[3 * 6] = {0.0f}, far_off[3 * 6];
    double s[4];
    osr_score_input in;
    int i;
    const osr_score_row *row = osr_score_find("openmax");
    memset(&in, 0, sizeof in);
    in.logits = z[0];
    in.classes = 3;
    in.calibration = none;
    in.calibration_count = 18;
    CHECK(osr_score_compute(ctx, row, &in, 4, s) == OSR_OK);
    CHECK_NEAR(s[0], -1000.0, 1e-15); /* u = 0: minus the log-sum-exp */
    CHECK_NEAR(s[2], 1000.0 - log(3.0), 1e-15);
    for (i = 0; i < 18; i++)
        far_off[i] = i % 6 == 3 ? -1e6f : i % 6 > 3 ? 1.0f : 0.0f;
    in.calibration = far_off;
    CHECK(osr_score_compute(ctx, row, &in, 4, s) == OSR_OK); /* w = 1 everywhere: v' = 0 0 0 */
    CHECK_NEAR(s[0], 1000.0 - log(3.0), 1e-15);
    CHECK_NEAR(s[1], 1500.0 - log(3.0), 1e-15);
    CHECK_NEAR(s[3], 10.0 - log(3.0), 1e-15);
    in.calibration_count = 17;
    CHECK(osr_score_compute(ctx, row, &in, 4, s) == OSR_ARG);
    CHECK(strcmp(osr_ctx_message(ctx),
                 "score openmax: score.openmax must have 18 values, not 17") == 0);
    osr_ctx_clear_error(ctx);
    in.calibration = NULL;
    CHECK(osr_score_compute(ctx, row, &in, 4, s) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    CHECK(osr_score_compute(ctx, osr_score_find("jacobian"), &in, 4, s) == OSR_ARG);
    CHECK(strcmp(osr_ctx_message(ctx), "jacobian: Jacobian norms are needed") == 0);
    osr_ctx_clear_error(ctx);
}

static void test_lacks(void)
{
    const osr_score_row *mls = osr_score_find("mls");
    int i;
    CHECK(strcmp(osr_score_lacks(mls, OSR_OUT_COSINES), "logits") == 0);
    CHECK(osr_score_lacks(mls, OSR_OUT_LOGITS) == NULL);
    CHECK(strstr(osr_score_lacks(osr_score_find("max_response"), 7), "representation") != NULL);
    for (i = 0; osr_score_at(i) != NULL; i++) {
        const osr_score_row *row = osr_score_at(i);
        CHECK((osr_score_lacks(row, 0) != NULL) == ((row->needs & 15u) != 0));
    }
}

static void test_predict(osr_ctx *ctx, uint64_t *state)
{
    static const float ties[3] = {2.0f, 1.0f, 2.0f};
    struct outputs o;
    int32_t classes[N];
    osr_score_input in;
    int n, k, round, rule;
    for (round = 0; round < 100; round++) {
        in = make_input(&o, state);
        for (rule = OSR_PREDICT_LOGIT; rule <= OSR_PREDICT_COSINE; rule++) {
            CHECK(osr_predict_class(ctx, (osr_predict_rule)rule, &in, N, classes) == OSR_OK);
            for (n = 0; n < N; n++) {
                osr_score_input one = image_of(&in, n);
                for (k = 0; k < K; k++) {
                    int best = classes[n];
                    if (rule == OSR_PREDICT_LOGIT)
                        CHECK(one.logits[best] >= one.logits[k]);
                    else if (rule == OSR_PREDICT_GAMMA)
                        CHECK(plain_gamma(&one, best) <= plain_gamma(&one, k) + 1e-12);
                    else if (rule == OSR_PREDICT_DISTANCE)
                        CHECK(one.distances[best] <= one.distances[k]);
                    else
                        CHECK(one.cosines[best] >= one.cosines[k]);
                }
            }
        }
    }
    memset(&in, 0, sizeof in);
    in.logits = in.distances = in.cosines = ties;
    in.classes = 3;
    CHECK(osr_predict_class(ctx, OSR_PREDICT_LOGIT, &in, 1, classes) == OSR_OK && classes[0] == 0);
    CHECK(osr_predict_class(ctx, OSR_PREDICT_GAMMA, &in, 1, classes) == OSR_OK && classes[0] == 1);
    CHECK(osr_predict_class(ctx, OSR_PREDICT_COSINE, &in, 0, NULL) == OSR_OK);
    in.classes = 0;
    CHECK(osr_predict_class(ctx, OSR_PREDICT_LOGIT, &in, 1, classes) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    in.classes = 3;
    CHECK(osr_predict_class(ctx, (osr_predict_rule)9, &in, 1, classes) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

static void test_refusals(osr_ctx *ctx, uint64_t *state)
{
    struct outputs o;
    double scores[N];
    int32_t classes[N];
    osr_score_input in = make_input(&o, state);
    const osr_score_row *msp = osr_score_find("msp"), *movr = osr_score_find("movr");
    o.logits[1 * K + 3] = (float)strtod("nan", NULL);
    o.logits[2 * K] = -(float)strtod("inf", NULL);
    o.representation[N * D - 1] = o.logits[2 * K];
    CHECK(osr_score_compute(ctx, msp, &in, N, scores) == OSR_NAN);
    CHECK(strcmp(osr_ctx_message(ctx),
                 "msp: logits of 2 of 4 images are not finite, first image 1") == 0);
    osr_ctx_clear_error(ctx);
    CHECK(osr_predict_class(ctx, OSR_PREDICT_LOGIT, &in, N, classes) == OSR_NAN);
    osr_ctx_clear_error(ctx);
    CHECK(osr_score_compute(ctx, osr_score_find("max_response"), &in, N, scores) == OSR_NAN);
    osr_ctx_clear_error(ctx);
    CHECK(osr_score_compute(ctx, movr, &in, N, scores) == OSR_OK); /* it does not read logits */
    CHECK(osr_score_compute(ctx, msp, &in, 1, scores) == OSR_OK);  /* nor this one image 1 */
    in.temperature = -1.0f;
    CHECK(osr_score_compute(ctx, movr, &in, N, scores) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    in.temperature = (float)strtod("nan", NULL);
    CHECK(osr_score_compute(ctx, movr, &in, N, scores) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    in.temperature = 0.0f;
    in.cosines = NULL;
    CHECK(osr_score_compute(ctx, movr, &in, N, scores) == OSR_ARG);
    CHECK(strcmp(osr_ctx_message(ctx), "movr: cosines are needed") == 0);
    osr_ctx_clear_error(ctx);
    CHECK(osr_score_compute(ctx, NULL, &in, N, scores) == OSR_ARG);
    CHECK(osr_score_compute(ctx, msp, NULL, N, scores) == OSR_ARG);
    CHECK(osr_score_compute(ctx, msp, &in, N, NULL) == OSR_ARG);
    CHECK(osr_score_compute(ctx, msp, &in, -1, scores) == OSR_ARG);
    CHECK(osr_score_compute(NULL, msp, &in, N, scores) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

int main(void)
{
    uint64_t state = test_seed();
    osr_ctx_desc desc;
    osr_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.no_device = 1;
    if (CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK)) {
        test_rows(ctx, &state);
        test_extremes(ctx);
        test_openmax(ctx);
        test_lacks();
        test_predict(ctx, &state);
        test_refusals(ctx, &state);
        CHECK(osr_ctx_status(ctx) == OSR_OK);
    }
    osr_ctx_destroy(ctx);
    return test_end();
}
