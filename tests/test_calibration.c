/* test_calibration - what scores read from a model: the Weibull fit against published data, whole
 * calibrations against numpy, features, losses and Jacobian norms of every method against other
 * ways to them, and their way through files */
#define OSR_STATIC
#define OSR_IMPLEMENTATION
#include "osr.h"
#define WITHOUT_METRICS
#include "score_vectors.h"
#include "test.h"
#include "tiny.h"

enum { K = 4, D = 9, N = 120, QUERIES = 12 };

/* ---- the Weibull fit ---- */

/* Data, queries: OSDN, libMR/estimate_wscores.py; values by another program, in double. */
static void test_weibull(uint64_t *state)
{
    static const double data[8] = {.245, .2632, .3233, .3573, .4014, .4055, .4212, .5677};
    static const double at[6] = {.05, .1, .25, .4, .75, 1.0};
    static const struct {
        double translate, scale, shape, below[6];
    } cases[2] = {{1.0, 1.1737117009, 11.5951306892,
                   {.012542, .025065, .152447, .563946, 1.0, 1.0}},
                  {10000.0, 10000.178373876, 97548.18779,
                   {.025855, .041765, .16831, .548925, 1.0, 1.0}}};
    double x[30], fit[3];
    for (int c = 0; c < 2; c++) {
        memcpy(x, data, sizeof data);
        CHECK(osr__weibull_fit(x, 8, cases[c].translate, fit) == 1 && fit[0] == .245);
        CHECK_NEAR(fit[1], cases[c].scale, 1e-6 / cases[c].scale);
        CHECK_NEAR(fit[2], cases[c].shape, 1e-6);
        for (int i = 0; i < 6; i++)
            CHECK_NEAR(osr__weibull_below(at[i], fit[0], fit[1], fit[2], cases[c].translate),
                       cases[c].below[i], 1e-6);
    }
    CHECK(osr__weibull_below(-5.0, .245, 1.0, 2.0, 1.0) == 0.0);
    CHECK(osr__weibull_below(5.0, 0.0, 0.0, 0.0, 1.0) == 0.0);
    for (int i = 0; i < 5; i++)
        x[i] = 3.0;
    CHECK(osr__weibull_fit(x, 5, 1.0, fit) == 0 && fit[1] == 0.0 && fit[2] == 0.0);
    CHECK(osr__weibull_fit(x, 0, 1.0, fit) == 0);
    for (int round = 0; round < 200; round++) { /* at any scale: the likelihood's slope is 0 */
        const double size = pow(10.0, 12.0 * test_uniform(state) - 6.0);
        const size_t n = 2 + (size_t)(test_random(state) % 29);
        double y[30], powers = 0.0, slopes = 0.0, logs = 0.0, low = 1e300;
        for (size_t i = 0; i < n; i++) {
            x[i] = y[i] = size * test_uniform(state);
            low = y[i] < low ? y[i] : low;
        }
        CHECK(osr__weibull_fit(x, n, 1.0, fit) == 1 && fit[0] == low);
        for (size_t i = 0; i < n; i++) {
            const double t = log1p(y[i] - low), p = pow((y[i] - low + 1.0) / fit[1], fit[2]);
            powers += p;
            slopes += p * (t - log(fit[1]));
            logs += t - log(fit[1]);
        }
        CHECK_NEAR(powers / (double)n, 1.0, 1e-7);
        CHECK_NEAR(1.0 + fit[2] * (logs - slopes) / (double)n, 0.0, 1e-6);
    }
}

/* ---- against numpy ---- */

static double fill(int i, int seed)
{
    uint32_t h = (uint32_t)(i + 1) * 2654435761u + (uint32_t)seed * 40503u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return ((double)(h >> 8) - 8388608.0) / 8388608.0;
}

/* Images [n, 3, 3, 1] as features() of the script has them, drawn out by `low`..`high`. */
static void fill_images(float *images, int seed, int n, double low, double high)
{
    for (int i = 0; i < n; i++) {
        const double factor = low + (high - low) * i / (n > 1 ? n - 1 : 1);
        double f[D];
        for (int d = 0; d < D; d++)
            f[d] = fill(i * D + d, seed) / (double)(1 << d % 4);
        for (int d = D - 1; d >= 5; d--)
            f[d] = f[d - 4] + f[d] / 4.0;
        for (int d = 0; d < D; d++)
            images[i * D + d] = (float)(0.5 + 0.5 * factor * f[d]);
    }
}

/* flatten, linear: the features are the normalised images. */
static osr_model *linear_model(osr_ctx *ctx)
{
    osr_layer layers[2];
    osr_model_desc d;
    osr_model *m = NULL;
    float w[K * D], b[K] = {0.0f, 0.5f, -0.5f, -100.0f};
    int count;
    memset(layers, 0, sizeof layers);
    memset(&d, 0, sizeof d);
    layers[0].kind = OSR_LAYER_FLATTEN;
    layers[1].kind = OSR_LAYER_LINEAR;
    layers[1].out = K;
    layers[1].bias = 1;
    d.method = osr_method_find("ce");
    d.height = d.width = 3;
    d.channels = 1;
    d.mean[0] = 0.5f;
    d.std[0] = 0.25f;
    d.classes = K;
    d.layers = layers;
    d.layer_count = 2;
    CHECK(osr_model_create(ctx, &d, &m) == OSR_OK);
    for (int i = 0; i < K * D; i++)
        w[i] = (float)(2.0 * fill(i, 2));
    const osr_named *rows = m != NULL ? osr_model_tensors(m, &count) : NULL;
    for (int i = 0; rows != NULL && i < count; i++)
        CHECK(osr_write(ctx, rows[i].tensor, strstr(rows[i].name, "weight") ? w : b,
                        strstr(rows[i].name, "weight") ? K * D : K) == OSR_OK);
    return m;
}

static void add_images(osr_model *m, const float *images)
{
    for (int at = 0; at < N; at += 50) { /* in batches that do not divide them */
        const int n = N - at < 50 ? N - at : 50;
        int32_t labels[50];
        for (int i = 0; i < n; i++)
            labels[i] = calibration_labels[at + i];
        CHECK(osr_model_calibrate_add(m, images + at * D, labels, n) == OSR_OK);
    }
}

static void test_numpy(osr_ctx *ctx)
{
    static float images[N * D], queries[QUERIES * D], features[QUERIES * D], logits[QUERIES * K];
    static const struct {
        const char *name;
        const double *expected;
    } cases[3] = {{"openmax", expected_openmax}, {"ncm", expected_ncm},
                  {"mahalanobis", expected_mahalanobis}};
    double scores[QUERIES];
    int empty = 0;
    osr_outputs out;
    osr_model *m = linear_model(ctx);
    if (m == NULL)
        return;
    CHECK(osr_model_feature_dims(m) == D);
    fill_images(images, 1, N, 1.0, 1.0);
    fill_images(queries, 3, QUERIES, 0.3, 2.0);
    CHECK(osr_model_calibrate_start(m, OSR_CALIBRATE_ALL) == OSR_OK);
    add_images(m, images);
    CHECK(osr_model_calibrate_end(m, &empty) == OSR_OK && empty == 1);
    const float *fits = osr__calibration(m, osr_score_find("openmax"));
    for (int k = 0; CHECK(fits != NULL) && k < K; k++)
        for (int i = 0; i < 3; i++)
            CHECK_NEAR((double)fits[k * (K + 3) + K + i],
                       calibration_fits[k * 3 + i], 1e-5);
    memset(&out, 0, sizeof out);
    out.logits = logits;
    out.features = features;
    CHECK(osr_model_run(m, queries, NULL, QUERIES, &out) == OSR_OK);
    for (int c = 0; c < 3; c++) {
        CHECK(osr_model_score(m, osr_score_find(cases[c].name), &out, QUERIES, scores, NULL)
              == OSR_OK);
        for (int i = 0; i < QUERIES; i++)
            CHECK_NEAR(scores[i], cases[c].expected[i], 2e-5);
    }
    osr_model_destroy(m);
}

/* Features that do not vary, one image, none: always finite, and near what was seen. */
static void test_degenerate(osr_ctx *ctx)
{
    static float same[6 * D], features[6 * D], logits[6 * K];
    static const int32_t labels[6] = {0, 0, 1, 1, 2, 3};
    double s[6];
    osr_outputs out;
    memset(&out, 0, sizeof out);
    out.logits = logits;
    out.features = features;
    for (int i = 0; i < 6 * D; i++)
        same[i] = 0.25f;
    for (int count = 0; count <= 6; count += 1 + 4 * (count == 1)) { /* 0, 1, 6 images */
        osr_model *m = linear_model(ctx);
        CHECK(m != NULL && osr_model_calibrate_start(m, OSR_CALIBRATE_SCORES) == OSR_OK);
        if (count > 0)
            CHECK(osr_model_calibrate_add(m, same, labels, count) == OSR_OK);
        CHECK(osr_model_calibrate_end(m, NULL) == OSR_OK);
        CHECK(osr_model_run(m, same, NULL, 6, &out) == OSR_OK);
        for (int i = 0; osr_score_at(i) != NULL; i++) {
            const osr_score_row *row = osr_score_at(i);
            if (row->calibration == NULL)
                continue;
            CHECK(osr_model_score(m, row, &out, 6, s, NULL) == OSR_OK);
            if (row->needs == OSR_OUT_FEATURES)
                CHECK(count > 0 ? fabs(s[0]) < 1e-5 : s[0] > 1e17);
        }
        osr_model_destroy(m);
    }
}

static void test_refusals(osr_ctx *ctx)
{
    static float image[D];
    static const int32_t bad[1] = {K};
    double score;
    osr_outputs out;
    osr_model *m = linear_model(ctx);
    const osr_score_row *ncm = osr_score_find("ncm");
    memset(&out, 0, sizeof out);
    out.features = image;
    CHECK(!osr_model_has_score(m, ncm) && osr_model_has_score(m, osr_score_find("mls")));
    CHECK(!osr_model_has_score(m, osr_score_find("movr")));
    CHECK(osr_model_score(m, ncm, &out, 1, &score, NULL) == OSR_UNSUPPORTED);
    CHECK(strcmp(osr_ctx_message(ctx), "score ncm needs the tensor score.ncm, which the model does "
                 "not hold: osr calibrate adds it") == 0);
    osr_ctx_clear_error(ctx);
    CHECK(osr_model_score(m, osr_score_find("movr"), &out, 1, &score, NULL) == OSR_UNSUPPORTED);
    CHECK(strcmp(osr_ctx_message(ctx),
                 "score movr needs cosines to prototypes, which method ce does not give") == 0);
    osr_ctx_clear_error(ctx);
    CHECK(osr_model_calibrate_add(m, image, bad, 1) == OSR_ARG); /* not started */
    osr_ctx_clear_error(ctx);
    CHECK(osr_model_calibrate_end(m, NULL) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    CHECK(osr_model_calibrate_start(m, OSR_CALIBRATE_SCORES) == OSR_OK);
    CHECK(osr_model_calibrate_add(m, image, bad, 1) == OSR_ARG);
    CHECK(strcmp(osr_ctx_message(ctx), "osr_model_calibrate_add: label 0 is 4") == 0);
    osr_ctx_clear_error(ctx);
    osr_model_destroy(m); /* frees what a calibration under way holds */
}

/* ---- every method ---- */

struct all {
    float logits[TINY_BATCH * TINY_CLASSES], distances[TINY_BATCH * TINY_CLASSES];
    float cosines[TINY_BATCH * TINY_CLASSES], losses[TINY_BATCH * TINY_CLASSES];
    float representation[TINY_BATCH * TINY_WIDE], features[TINY_BATCH * TINY_WIDE];
    double jacobian[TINY_BATCH];
};

static osr_outputs run(tiny *t, osr_model *m, struct all *a)
{
    osr_outputs out;
    memset(&out, 0, sizeof out);
    out.logits = a->logits;
    out.distances = a->distances;
    out.cosines = a->cosines;
    out.losses = a->losses;
    out.representation = a->representation;
    out.features = a->features;
    out.jacobian = a->jacobian;
    CHECK(osr_model_dims(m) <= TINY_WIDE && osr_model_feature_dims(m) <= TINY_WIDE);
    CHECK(osr_model_run(m, t->images, NULL, TINY_BATCH, &out) == OSR_OK);
    return out;
}

/* The loss of each image alone, under each label: that of training, without what only that has. */
static void check_losses(tiny *t, const struct all *a, const osr_outputs *out)
{
    int32_t classes[TINY_BATCH];
    const osr_method_numbers numbers = t->model->desc.numbers;
    CHECK(osr_model_score(t->model, NULL, out, TINY_BATCH, NULL, classes) == OSR_OK);
    t->model->desc.numbers.margin = t->model->desc.numbers.smoothing = 0.0f;
    if (t->model->desc.method->loss >= OSR_LOSS_CENTER) /* the second term of learned points */
        t->model->desc.numbers.lambda = 0.0f;
    for (int i = 0; i < TINY_BATCH; i++) {
        const float *row = a->losses + i * TINY_CLASSES;
        for (int32_t k = 0; k < TINY_CLASSES; k++) {
            osr_outputs one;
            float loss = -1.0f;
            memset(&one, 0, sizeof one);
            one.loss = &loss;
            CHECK(osr_model_run(t->model, t->images + i * TINY_IMAGE, &k, 1, &one) == OSR_OK);
            CHECK_NEAR((double)row[k], (double)loss, 1e-5);
            CHECK(row[classes[i]] <= row[k]); /* the predicted class has the smallest */
        }
    }
    t->model->desc.numbers = numbers;
}

static void check_features(tiny *t, const struct all *a)
{
    const int unit = (osr_model_get_desc(t->model)->method->outputs & OSR_OUT_COSINES) != 0;
    const int d = osr_model_dims(t->model);
    CHECK(osr_model_feature_dims(t->model) == d);
    for (int i = 0; i < TINY_BATCH; i++) {
        double length = 0.0;
        for (int j = 0; j < d; j++)
            length += pow((double)a->representation[i * d + j], 2.0);
        for (int j = 0; j < d; j++)
            CHECK_NEAR((double)a->features[i * d + j],
                       (double)a->representation[i * d + j] / (unit ? sqrt(length) : 1.0), 1e-5);
    }
}

static void check_jacobian(tiny *t, const struct all *a)
{
    osr_jacobian_desc desc;
    double norm;
    memset(&desc, 0, sizeof desc);
    desc.method = OSR_JACOBIAN_FD;
    desc.direction = OSR_RADEMACHER;
    desc.directions = OSR_JACOBIAN_SCORE_DIRECTIONS;
    for (int i = 0; i < TINY_BATCH; i++) { /* the place in a batch does not matter */
        CHECK(osr_model_jacobian(t->model, t->images + i * TINY_IMAGE, 1, &desc, &norm, NULL)
              == OSR_OK);
        CHECK_NEAR(a->jacobian[i], norm, 1e-5);
    }
}

/* A model of the method that the bytes hold. */
static osr_model *reload(osr_ctx *ctx, osr_model *m)
{
    osr_writer *w = NULL;
    osr_model *copy = NULL;
    size_t bytes = 0;
    void *data = NULL;
    if (osr_writer_create(ctx, &w) == OSR_OK && osr_model_write(m, w, 0) == OSR_OK
        && osr_writer_save_memory(w, NULL, 0, &bytes) == OSR_OK && (data = malloc(bytes)) != NULL
        && osr_writer_save_memory(w, data, bytes, &bytes) == OSR_OK)
        osr_model_load_memory(ctx, data, bytes, &copy);
    CHECK(copy != NULL);
    osr_writer_destroy(w);
    free(data);
    return copy;
}

/* Every score that the method allows, of the model and of its copy from a file: the same bits. */
static void check_scores(tiny *t, struct all *a)
{
    osr_ctx *ctx = t->ctx;
    osr_model *old = reload(ctx, t->model), *copy;
    int given = 0;
    CHECK(tiny_calibrate(t) == OSR_OK);
    copy = reload(ctx, t->model);
    for (int i = 0; osr_score_at(i) != NULL && old != NULL && copy != NULL; i++) {
        const osr_score_row *row = osr_score_at(i);
        double mine[TINY_BATCH], theirs[TINY_BATCH];
        osr_outputs out = run(t, t->model, a);
        if (osr_score_lacks(row, osr_model_get_desc(t->model)->method->outputs) != NULL) {
            CHECK(!osr_model_has_score(t->model, row));
            CHECK(osr_model_set_threshold(t->model, row, 0.0) == OSR_UNSUPPORTED);
            osr_ctx_clear_error(ctx);
            continue;
        }
        given++;
        CHECK(osr_model_has_score(t->model, row) && osr_model_has_score(copy, row));
        CHECK(osr_model_has_score(old, row) == (row->calibration == NULL));
        CHECK(osr_model_score(t->model, row, &out, TINY_BATCH, mine, NULL) == OSR_OK);
        out = run(t, copy, a);
        CHECK(osr_model_score(copy, row, &out, TINY_BATCH, theirs, NULL) == OSR_OK);
        CHECK(memcmp(mine, theirs, sizeof mine) == 0);
        CHECK(osr_model_set_threshold(copy, row, mine[0]) == OSR_OK);
        tiny other = *t; /* predict reads what the model's own score needs */
        other.model = copy;
        CHECK(tiny_predict(&other) == OSR_OK);
        CHECK(osr_model_set_threshold(old, row, 0.0)
              == (row->calibration == NULL ? OSR_OK : OSR_UNSUPPORTED));
        osr_ctx_clear_error(ctx);
    }
    CHECK(given >= 4);
    osr_model_destroy(old);
    osr_model_destroy(copy);
}

static void test_method(osr_ctx *ctx, const osr_method_row *method)
{
    static struct all a;
    const int before = test_failures;
    tiny t;
    CHECK(tiny_create(&t, ctx, method) == OSR_OK);
    for (int i = 0; i < 3; i++)
        CHECK(tiny_train(&t, TINY_BATCH) == OSR_OK);
    if (t.model != NULL && osr_ctx_status(ctx) == OSR_OK) {
        const osr_outputs out = run(&t, t.model, &a);
        check_losses(&t, &a, &out);
        check_features(&t, &a);
        check_jacobian(&t, &a);
        check_scores(&t, &a);
    }
    if (test_failures != before)
        fprintf(stderr, "    method %s: %s\n", method->name, osr_ctx_message(ctx));
    osr_model_destroy(t.model);
}

/* Planes that are flattened: the features are their means. */
static void test_planes(osr_ctx *ctx)
{
    osr_layer layers[3];
    osr_model_desc d;
    osr_model *m = NULL;
    float images[2 * 5 * 4 * 3], features[2 * 3];
    osr_outputs out;
    memset(layers, 0, sizeof layers);
    memset(&d, 0, sizeof d);
    memset(&out, 0, sizeof out);
    layers[0].kind = OSR_LAYER_LEAKY_RELU;
    layers[0].slope = 0.5f;
    layers[1].kind = OSR_LAYER_FLATTEN;
    layers[2].kind = OSR_LAYER_LINEAR;
    layers[2].out = 2;
    d.method = osr_method_find("cac");
    d.numbers = d.method->numbers;
    d.height = 5;
    d.width = 4;
    d.channels = 3;
    d.classes = 2;
    d.layers = layers;
    d.layer_count = 3;
    for (int c = 0; c < 3; c++) {
        d.mean[c] = 0.5f;
        d.std[c] = 0.5f;
    }
    CHECK(osr_model_create(ctx, &d, &m) == OSR_OK);
    CHECK(osr_model_dims(m) == 60 && osr_model_feature_dims(m) == 3);
    for (int i = 0; i < 120; i++)
        images[i] = (float)(0.5 + 0.5 * fill(i, 9));
    out.features = features;
    CHECK(osr_model_run(m, images, NULL, 2, &out) == OSR_OK);
    for (int i = 0; i < 6; i++) {
        double sum = 0.0;
        for (int p = 0; p < 20; p++) {
            const double v = fill(i / 3 * 60 + p * 3 + i % 3, 9);
            sum += (v > 0.0 ? v : 0.5 * v) / 20.0;
        }
        CHECK_NEAR((double)features[i], sum, 1e-5);
    }
    osr_model_destroy(m);
}

int main(void)
{
    uint64_t state = test_seed();
    osr_ctx *ctx = NULL;
    int count;
    test_weibull(&state);
    if (osr_device_list(NULL, 0, &count) != OSR_OK || count == 0)
        return test_failures != 0 ? test_end() : test_skip("no OpenCL device");
    if (CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK)) {
        test_numpy(ctx);
        test_degenerate(ctx);
        test_refusals(ctx);
        test_planes(ctx);
        for (int i = 0; osr_method_at(i) != NULL; i++)
            test_method(ctx, osr_method_at(i));
        CHECK(osr_ctx_status(ctx) == OSR_OK);
    }
    osr_ctx_destroy(ctx);
    return test_end();
}
