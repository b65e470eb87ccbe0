/* test_methods - what a model of each method computes: its outputs and loss from its own tensors,
 * by reference.h in double precision; the rotation head; numbers through a file */
#include "osr.h"
#include "reference.h"
#include "test.h"
#include "tiny.h"

enum { K = TINY_CLASSES, MOST = 4 * TINY_BATCH * TINY_WIDE };

struct found {
    float logits[MOST], distances[MOST], cosines[MOST], representation[MOST], loss;
};

static void run(osr_model *model, const float *images, const int32_t *labels, int n,
                struct found *f)
{
    osr_outputs out;
    memset(&out, 0, sizeof out);
    out.logits = f->logits;
    out.distances = f->distances;
    out.cosines = f->cosines;
    out.representation = f->representation;
    out.loss = labels != NULL ? &f->loss : NULL;
    CHECK(osr_model_run(model, images, labels, n, &out) == OSR_OK);
}

static void widen(const float *from, double *to, int count)
{
    for (int i = 0; i < count; i++)
        to[i] = (double)from[i];
}

/* The values of a tensor of the model; their number. */
static int tensor(osr_model *model, const char *name, double *to)
{
    osr_ctx *ctx = osr_model_context(model);
    float values[MOST];
    int count, n = 0;
    const osr_named *rows = osr_model_tensors(model, &count);
    for (int i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0) {
            n = (int)osr_shape_count(osr_shape_of(ctx, rows[i].tensor));
            CHECK(n <= MOST && osr_read(ctx, rows[i].tensor, values, (size_t)n) == OSR_OK);
            widen(values, to, n);
        }
    if (!CHECK(n > 0))
        fprintf(stderr, "    no tensor %s\n", name);
    return n;
}

static void close_to(double found, double wanted, const char *what)
{
    if (!CHECK(fabs(found - wanted) <= 1e-5 * (1.0 + fabs(wanted))))
        fprintf(stderr, "    %s: %.9g, not %.9g\n", what, found, wanted);
}

/* Loss and logits of the methods with learned points. */
static double points_loss(const tiny *t, struct found *f, struct ref_points p)
{
    double x[MOST], z[MOST], points[MOST], radius = 0.0, d[MOST], dot;
    const osr_method_numbers *n = &osr_model_get_desc(t->model)->numbers;
    p.n = TINY_BATCH;
    p.k = K;
    p.d = osr_model_dims(t->model);
    p.lambda = (double)n->lambda;
    p.smoothing = (double)n->smoothing;
    if (p.kind >= REF_RPL)
        tensor(t->model, "radius", &radius);
    p.radius = radius;
    CHECK(tensor(t->model, "points", points) == K * p.d);
    widen(f->representation, x, p.n * p.d);
    widen(f->logits, z, p.n * K);
    if (p.kind == REF_CENTER)
        return ref_points(x, points, z, t->labels, &p);
    ref_squared_distance(x, points, d, p.n, K, p.d, 1.0 / p.d);
    for (int i = 0; i < p.n * K; i++) {
        dot = 0.0;
        for (int e = 0; e < p.d; e++)
            dot += x[i / K * p.d + e] * points[i % K * p.d + e];
        close_to(z[i], p.kind == REF_GCPL ? -d[i] : p.kind == REF_RPL ? d[i] : d[i] - dot, "logit");
    }
    return ref_points(x, points, NULL, t->labels, &p);
}

/* The loss of osr_model_run, from the outputs or from what lies before them. */
static double wanted_loss(const tiny *t, struct found *f)
{
    const osr_model_desc *m = osr_model_get_desc(t->model);
    const osr_method_numbers *n = &m->numbers;
    double v[MOST];
    struct ref_points p;
    memset(&p, 0, sizeof p);
    widen(m->method->outputs & OSR_OUT_COSINES      ? f->cosines
          : m->method->outputs & OSR_OUT_DISTANCES ? f->distances
                                                    : f->logits,
          v, TINY_BATCH * K);
    switch (m->method->loss) {
    case OSR_LOSS_CE: return ref_cross_entropy(v, t->labels, TINY_BATCH, K, (double)n->smoothing);
    case OSR_LOSS_CAC: return ref_cac(v, t->labels, TINY_BATCH, K, (double)n->lambda);
    case OSR_LOSS_DIFAIR:
        return ref_difair(v, t->labels, TINY_BATCH, K,
                          (double)(n->radius * n->alpha) * sqrt(2.0 * n->features),
                          (double)n->pull);
    case OSR_LOSS_MOVR:
        return ref_movr(v, t->labels, TINY_BATCH, K, (double)n->temperature, (double)n->margin);
    case OSR_LOSS_OVR: return ref_ovr(v, t->labels, TINY_BATCH, K);
    case OSR_LOSS_CENTER: p.kind = REF_CENTER; break;
    case OSR_LOSS_GCPL: p.kind = REF_GCPL; break;
    case OSR_LOSS_RPL: p.kind = REF_RPL; break;
    case OSR_LOSS_ARPL: p.kind = REF_ARPL; break;
    }
    return points_loss(t, f, p);
}

/* A model with the method's published numbers, or others. */
static int make(tiny *t, osr_ctx *ctx, const osr_method_row *row, const osr_method_numbers *numbers)
{
    osr_model *model;
    osr_model_desc desc;
    if (!CHECK(tiny_create(t, ctx, row) == OSR_OK))
        return 0;
    if (numbers == NULL)
        return 1;
    desc = *osr_model_get_desc(t->model);
    desc.numbers = *numbers;
    if (!CHECK(osr_model_create(ctx, &desc, &model) == OSR_OK))
        return 0;
    osr_model_destroy(t->model);
    t->model = model;
    return 1;
}

/* After some steps, so that points, radius and statistics are not what they began with. */
static void test_loss(osr_ctx *ctx, const osr_method_row *row, const osr_method_numbers *numbers)
{
    static struct found f;
    tiny t;
    if (make(&t, ctx, row, numbers)) {
        for (int i = 0; i < 3; i++)
            CHECK(tiny_train(&t, TINY_BATCH) == OSR_OK);
        run(t.model, t.images, t.labels, TINY_BATCH, &f);
        close_to((double)f.loss, wanted_loss(&t, &f), row->name);
    }
    osr_model_destroy(t.model);
}

/* Training must move every learned tensor of the head. */
static void test_head_learns(osr_ctx *ctx, const osr_method_row *row)
{
    static const char *const heads[] = {"points", "radius", "prototypes", "rotation.weight",
                                        "rotation.bias"};
    double before[MOST], after[MOST];
    int count;
    tiny t;
    if (!make(&t, ctx, row, NULL))
        return;
    const osr_named *rows = osr_model_tensors(t.model, &count);
    for (int i = 0; i < count; i++)
        for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++)
            if (strcmp(rows[i].name, heads[h]) == 0) {
                const int n = tensor(t.model, heads[h], before);
                tiny_train(&t, TINY_BATCH);
                tensor(t.model, heads[h], after);
                if (!CHECK(memcmp(before, after, (size_t)n * sizeof *before) != 0))
                    fprintf(stderr, "    %s: %s stays\n", row->name, heads[h]);
            }
    osr_model_destroy(t.model);
}

/* ---- rotation ---- */

/* One image turned to the left by a quarter, as a matrix of pixels is. */
static void turn(const float *from, float *to)
{
    for (int y = 0; y < TINY_SIDE; y++)
        for (int x = 0; x < TINY_SIDE; x++)
            for (int c = 0; c < TINY_CHANNELS; c++)
                to[((TINY_SIDE - 1 - x) * TINY_SIDE + y) * TINY_CHANNELS + c] =
                    from[(y * TINY_SIDE + x) * TINY_CHANNELS + c];
}

/* The training loss with lr 0: the method's loss of the upright images and the weighted
 * cross-entropy of four turns, all from outputs in eval mode: the network has nothing that
 * differs in training. */
static void test_rotation(osr_ctx *ctx)
{
    static struct found f;
    static float images[4 * TINY_BATCH * TINY_IMAGE];
    osr_layer layers[TINY_LAYERS];
    osr_optimiser_desc still;
    osr_model_desc desc;
    osr_model *model;
    double x[MOST], w[MOST], b[4], z[16 * TINY_BATCH], wanted;
    float loss, correct, right = 0.0f, large[4 * K];
    int32_t turns[4 * TINY_BATCH];
    const osr_named *rows;
    int count;
    tiny t;
    memset(&still, 0, sizeof still);
    if (!make(&t, ctx, osr_method_find("ce"), NULL))
        return;
    desc = *osr_model_get_desc(t.model);
    desc.layer_count = tiny_filters(layers, K);
    desc.layers = layers;
    desc.numbers.rotation = 0.75f;
    if (!CHECK(osr_model_create(ctx, &desc, &model) == OSR_OK))
        return;
    osr_model_destroy(t.model);
    t.model = model;
    rows = osr_model_tensors(t.model, &count);
    for (int i = 0; i < 4 * K; i++)
        large[i] = (float)(i * 7 % 11 - 5) * 2.0f;
    for (int i = 0; i < count; i++) /* so that the head tells turns apart */
        if (strcmp(rows[i].name, "rotation.weight") == 0)
            CHECK(osr_write(ctx, rows[i].tensor, large, 4 * K) == OSR_OK);
    memcpy(images, t.images, sizeof t.images);
    for (int i = 0; i < 4 * TINY_BATCH; i++) {
        turns[i] = i / TINY_BATCH;
        if (i >= TINY_BATCH)
            turn(images + (i - TINY_BATCH) * TINY_IMAGE, images + i * TINY_IMAGE);
    }
    run(t.model, images, NULL, 4 * TINY_BATCH, &f);
    widen(f.representation, x, 4 * TINY_BATCH * osr_model_dims(t.model));
    tensor(t.model, "rotation.weight", w);
    tensor(t.model, "rotation.bias", b);
    ref_linear(x, w, b, z, 4 * TINY_BATCH, osr_model_dims(t.model), 4);
    wanted = 0.75 * ref_cross_entropy(z, turns, 4 * TINY_BATCH, 4, 0.0);
    run(t.model, t.images, t.labels, TINY_BATCH, &f);
    for (int i = 0; i < TINY_BATCH; i++) {
        const float *row = f.logits + i * K;
        int best = 0;
        for (int k = 1; k < K; k++)
            best = row[k] > row[best] ? k : best;
        right += best == t.labels[i] ? 1.0f : 0.0f;
    }
    CHECK(osr_model_train(t.model, t.images, t.labels, TINY_BATCH, &still, &loss, &correct)
          == OSR_OK);
    close_to((double)loss, (double)f.loss + wanted, "loss with rotation");
    CHECK(wanted > 0.5 && fabsf(correct - right) < 0.5f);
    osr_model_destroy(t.model);
}

/* What osr_model_create refuses, and what the message names. */
static void refused(osr_ctx *ctx, const char *method, float smoothing, float rotation, int width,
                    const char *named)
{
    osr_model *model = NULL;
    osr_model_desc desc;
    tiny t;
    if (!make(&t, ctx, osr_method_find(method), NULL))
        return;
    desc = *osr_model_get_desc(t.model);
    desc.numbers.smoothing = smoothing;
    desc.numbers.rotation = rotation;
    desc.width = width;
    CHECK(osr_model_create(ctx, &desc, &model) == OSR_ARG && model == NULL);
    if (!CHECK(strstr(osr_ctx_message(ctx), named) != NULL))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    osr_ctx_clear_error(ctx);
    osr_model_destroy(t.model);
}

/* ---- files ---- */

/* Numbers and outputs of a model that went through a file. */
static void test_file(osr_ctx *ctx, const osr_method_row *row, const osr_method_numbers *numbers)
{
    static struct found a, b;
    osr_model *copy = NULL;
    tiny t;
    if (!make(&t, ctx, row, numbers))
        return;
    tiny_train(&t, TINY_BATCH);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    run(t.model, t.images, t.labels, TINY_BATCH, &a);
    if (CHECK(osr_model_save(t.model, "test_methods.safetensors") == OSR_OK
              && osr_model_load(ctx, "test_methods.safetensors", &copy) == OSR_OK)) {
        const osr_method_numbers *n = &osr_model_get_desc(t.model)->numbers;
        const osr_method_numbers *m = &osr_model_get_desc(copy)->numbers;
        CHECK(memcmp(n, m, sizeof *n) == 0);
        run(copy, t.images, t.labels, TINY_BATCH, &b);
        if (!CHECK(memcmp(&a, &b, sizeof a) == 0))
            fprintf(stderr, "    %s: other outputs\n", row->name);
    }
    osr_model_destroy(copy);
    osr_model_destroy(t.model);
    remove("test_methods.safetensors");
}

/* DIFAIR's penalty in training, either reading: the training loss less that of eval mode. */
static void test_penalty(osr_ctx *ctx, osr_correlation reading)
{
    static struct found f;
    const osr_method_row *row = osr_method_find("difair");
    osr_method_numbers n = row->numbers;
    osr_optimiser_desc still;
    double w[MOST];
    float loss, correct;
    tiny t;
    memset(&still, 0, sizeof still);
    n.correlation = reading;
    n.lambda = 2.0f;
    if (!make(&t, ctx, row, &n))
        return;
    run(t.model, t.images, t.labels, TINY_BATCH, &f);
    CHECK(osr_model_train(t.model, t.images, t.labels, TINY_BATCH, &still, &loss, &correct)
          == OSR_OK);
    const int count = tensor(t.model, "0.conv.weight", w);
    const int filters = K * n.features;
    close_to((double)loss,
             (double)f.loss
                 + 2.0 * ref_correlation(w, filters, count / filters, n.features,
                                         reading == OSR_CORRELATION_PAPER),
             "penalty");
    osr_model_destroy(t.model);
}

/* Differences over coordinates with a step so small that each is mostly rounding: their products
 * lose it in the mean over images, their squares would not. And the direct convolutions that they
 * take are not left to what comes after. */
static void test_jacobian(osr_ctx *ctx)
{
    enum { N = 16, SIDE = 8, IMAGE = SIDE * SIDE };
    static float images[N * IMAGE], before[N * K], after[N * K];
    osr_layer layers[6];
    osr_model_desc desc;
    osr_jacobian_desc d;
    osr_model *model;
    osr_outputs out;
    double exact[N], fd[N], sum[2] = {0.0, 0.0};
    memset(layers, 0, sizeof layers);
    memset(&desc, 0, sizeof desc);
    memset(&d, 0, sizeof d);
    memset(&out, 0, sizeof out);
    for (int i = 0; i < 2; i++) { /* 32 channels of 8x8: Winograd */
        layers[2 * i].kind = OSR_LAYER_CONV;
        layers[2 * i].out = 32;
        layers[2 * i].size = 3;
        layers[2 * i].pad = 1;
        layers[2 * i + 1].kind = OSR_LAYER_LEAKY_RELU;
        layers[2 * i + 1].slope = 1.0f; /* no kinks */
    }
    layers[4].kind = OSR_LAYER_FLATTEN;
    layers[5].kind = OSR_LAYER_LINEAR;
    layers[5].out = K;
    desc.method = osr_method_find("ce");
    desc.numbers = desc.method->numbers;
    desc.height = desc.width = SIDE;
    desc.channels = 1;
    desc.classes = K;
    desc.std[0] = 1.0f;
    desc.layers = layers;
    desc.layer_count = 6;
    if (!CHECK(osr_model_create(ctx, &desc, &model) == OSR_OK))
        return;
    for (int i = 0; i < N * IMAGE; i++)
        images[i] = (float)(i * 37 % 101) / 101.0f;
    out.logits = before;
    CHECK(osr_model_run(model, images, NULL, N, &out) == OSR_OK);
    d.of = OSR_JACOBIAN_LOGITS;
    d.method = OSR_JACOBIAN_EXACT;
    CHECK(osr_model_jacobian(model, images, N, &d, exact, NULL) == OSR_OK);
    d.method = OSR_JACOBIAN_FD;
    d.step = 4e-6f;
    CHECK(osr_model_jacobian(model, images, N, &d, fd, NULL) == OSR_OK);
    for (int i = 0; i < N; i++) {
        sum[0] += exact[i] * exact[i];
        sum[1] += fd[i] * fd[i];
    }
    CHECK_NEAR(sum[1] / sum[0], 1.0, 0.05);
    out.logits = after;
    CHECK(osr_model_run(model, images, NULL, N, &out) == OSR_OK);
    CHECK(memcmp(before, after, sizeof before) == 0);
    osr_model_destroy(model);
}

int main(void)
{
    osr_ctx *ctx = NULL;
    int devices;
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK);
    for (int i = 0; osr_method_at(i) != NULL; i++) {
        const osr_method_row *row = osr_method_at(i);
        osr_method_numbers n = row->numbers;
        n.lambda = 0.75f;
        if (row->loss == OSR_LOSS_CE || row->loss >= OSR_LOSS_CENTER)
            n.smoothing = 0.2f;
        n.rotation = 0.25f;
        n.correlation = OSR_CORRELATION_PAPER;
        test_loss(ctx, row, NULL);
        test_loss(ctx, row, &n);
        test_head_learns(ctx, row);
        test_file(ctx, row, NULL);
        test_file(ctx, row, &n);
    }
    test_rotation(ctx);
    test_jacobian(ctx);
    test_penalty(ctx, OSR_CORRELATION_CODE);
    test_penalty(ctx, OSR_CORRELATION_PAPER);
    refused(ctx, "cac", 0.1f, 0.0f, TINY_SIDE, "cac: label smoothing 0.1");
    refused(ctx, "ce", 1.0f, 0.0f, TINY_SIDE, "ce: label smoothing 1");
    refused(ctx, "ce", 0.0f, -1.0f, TINY_SIDE, "ce: rotation -1");
    refused(ctx, "ce", 0.0f, 1.0f, TINY_SIDE + 1, "ce: rotation 1 of images of 8x9");
    if (!CHECK(osr_ctx_status(ctx) == OSR_OK))
        fprintf(stderr, "%s\n", osr_ctx_message(ctx));
    osr_ctx_destroy(ctx);
    return test_end();
}
