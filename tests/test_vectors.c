/* test_vectors - ops, losses and optimisers against vectors.h, which PyTorch computed in double.
 *
 * The bound is 1e-5 of relative RMS: RMS of the error over RMS of the reference. */
#include "osr.h"
#include "test.h"
#include "vectors.h"

enum { MOST = 256 };

static const osr_tensor none = {0, 0};
static const int32_t labels[5] = {0, 3, 1, 2, 3};

/* The numbers of make_vectors.py's fill(). */
static const float *fill(int seed, int count, float scale, float *out)
{
    int i;
    for (i = 0; i < count; ++i) {
        uint32_t h = ((uint32_t)i + 1u) * 2654435761u + (uint32_t)seed * 40503u;
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        out[i] = ((float)(h >> 8) - 8388608.0f) / 8388608.0f * scale;
    }
    return out;
}

static void compare(osr_ctx *ctx, const char *name, osr_tensor t, const float *want, size_t count)
{
    float got[MOST];
    double error = 0.0, size = 0.0;
    size_t i;
    if (!CHECK(count <= MOST && osr_shape_count(osr_shape_of(ctx, t)) == count
               && osr_read(ctx, t, got, count) == OSR_OK)) {
        fprintf(stderr, "    %s: %s\n", name, osr_ctx_message(ctx));
        return;
    }
    for (i = 0; i < count; ++i) {
        error += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    error = size > 0.0 ? sqrt(error / size) : sqrt(error / (double)count);
    if (!CHECK(error <= 1e-5))
        fprintf(stderr, "    %s: relative error %g\n", name, error);
}

#define COMPARE(t, name) compare(ctx, #name, t, name, sizeof name / sizeof name[0])

/* Inputs of a step, parameters, states: filled as in make_vectors.py. */
static osr_tensor input(osr_ctx *ctx, int seed, osr_shape shape, float scale)
{
    float values[MOST];
    return osr_input(ctx, shape, fill(seed, (int)osr_shape_count(shape), scale, values));
}

static osr_tensor written(osr_ctx *ctx, osr_tensor t, int seed)
{
    float values[MOST];
    const size_t n = osr_shape_count(osr_shape_of(ctx, t));
    osr_write(ctx, t, fill(seed, (int)n, 1.0f, values), n);
    return t;
}

static osr_tensor param(osr_ctx *ctx, int seed, osr_shape shape)
{
    const osr_init zero = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    return written(ctx, osr_param(ctx, shape, zero), seed);
}

static osr_shape vector(int n)
{
    return osr_shape_make(1, n, 0, 0, 0);
}

static osr_shape matrix(int rows, int columns)
{
    return osr_shape_make(2, rows, columns, 0, 0);
}

static osr_shape images(int n, int height, int width, int channels)
{
    return osr_shape_make(4, n, height, width, channels);
}

/* A scalar whose gradient by y is fill(seed). */
static osr_tensor weighted(osr_ctx *ctx, osr_tensor y, int seed)
{
    const osr_shape shape = osr_shape_of(ctx, y);
    const osr_tensor p = osr_mul(ctx, y, input(ctx, seed, shape, 1.0f));
    return osr_sum(ctx, shape.rank == 4 ? osr_flatten(ctx, p) : p);
}

/* ---- ops ---- */

static void test_conv(osr_ctx *ctx, int height, int stride)
{
    const osr_tensor w = param(ctx, 2, osr_shape_make(4, 4, 3, 3, 3));
    const osr_tensor x = input(ctx, 1, images(2, height, 5, 3), 1.0f);
    osr_conv_desc desc = {0, 0, 0, 0};
    osr_tensor y, loss, dx;
    desc.stride = stride;
    desc.pad = 1;
    y = osr_keep(ctx, osr_conv2d(ctx, x, w, &desc));
    loss = weighted(ctx, y, 3);
    dx = osr_grad(ctx, loss, none, x);
    osr_backward(ctx, loss);
    if (stride == 1) {
        COMPARE(y, conv_s1_y);
        COMPARE(dx, conv_s1_dx);
        COMPARE(osr_gradient(ctx, w), conv_s1_dw);
    } else {
        COMPARE(y, conv_s2_y);
        COMPARE(dx, conv_s2_dx);
        COMPARE(osr_gradient(ctx, w), conv_s2_dw);
    }
    osr_step_end(ctx);
}

static void test_batchnorm(osr_ctx *ctx)
{
    const osr_init zero = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    const osr_tensor gamma = param(ctx, 5, vector(5)), beta = param(ctx, 6, vector(5));
    const osr_tensor mean = written(ctx, osr_state(ctx, vector(5), zero), 7);
    const osr_tensor var = osr_state(ctx, vector(5), zero);
    osr_batchnorm_desc desc = {OSR_BATCHNORM_EPS, OSR_BATCHNORM_MOMENTUM, 0};
    osr_tensor x, y, loss, dx;
    float v[5];
    int i;
    fill(8, 5, 0.5f, v);
    for (i = 0; i < 5; ++i)
        v[i] += 1.0f;
    osr_write(ctx, var, v, 5);
    x = input(ctx, 4, images(3, 3, 2, 5), 1.0f);
    y = osr_batchnorm(ctx, x, gamma, beta, mean, var, &desc);
    COMPARE(y, norm_eval_y);
    osr_step_end(ctx);
    desc.train = 1;
    x = input(ctx, 4, images(3, 3, 2, 5), 1.0f);
    y = osr_keep(ctx, osr_batchnorm(ctx, x, gamma, beta, mean, var, &desc));
    loss = weighted(ctx, y, 9);
    dx = osr_grad(ctx, loss, none, x);
    osr_backward(ctx, loss);
    COMPARE(y, norm_y);
    COMPARE(dx, norm_dx);
    COMPARE(osr_gradient(ctx, gamma), norm_dgamma);
    COMPARE(osr_gradient(ctx, beta), norm_dbeta);
    COMPARE(mean, norm_mean);
    COMPARE(var, norm_var);
    osr_step_end(ctx);
}

/* The op's value is kept, and dx of weighted(y) recorded. */
static osr_tensor gradient(osr_ctx *ctx, osr_tensor y, osr_tensor x)
{
    osr_keep(ctx, y);
    return osr_grad(ctx, weighted(ctx, y, 11), none, x);
}

#define IMAGES_CASE(name, call)                                                                    \
    do {                                                                                           \
        const osr_tensor x = input(ctx, 10, images(2, 7, 5, 3), 1.0f), y = call;                   \
        const osr_tensor dx = gradient(ctx, y, x);                                                 \
        COMPARE(y, name##_y);                                                                      \
        COMPARE(dx, name##_dx);                                                                    \
        osr_step_end(ctx);                                                                         \
    } while (0)

static void test_image_ops(osr_ctx *ctx)
{
    IMAGES_CASE(leaky, osr_leaky_relu(ctx, x, 0.2f));
    IMAGES_CASE(max2, osr_max_pool(ctx, x, 2, 0));
    IMAGES_CASE(max3, osr_max_pool(ctx, x, 3, 2));
    IMAGES_CASE(avg3, osr_avg_pool(ctx, x, 3, 2));
    IMAGES_CASE(global, osr_global_avg_pool(ctx, x));
    IMAGES_CASE(flatten, osr_flatten(ctx, x));
}

static void test_linear(osr_ctx *ctx)
{
    const osr_tensor w = param(ctx, 13, matrix(5, 7)), b = param(ctx, 14, vector(5));
    const osr_tensor x = input(ctx, 12, matrix(4, 7), 1.0f);
    const osr_tensor y = osr_keep(ctx, osr_linear(ctx, x, w, b));
    const osr_tensor loss = weighted(ctx, y, 15), dx = osr_grad(ctx, loss, none, x);
    osr_backward(ctx, loss);
    COMPARE(y, linear_y);
    COMPARE(dx, linear_dx);
    COMPARE(osr_gradient(ctx, w), linear_weight_grad);
    COMPARE(osr_gradient(ctx, b), linear_bias_grad);
    osr_step_end(ctx);
}

/* ---- losses ---- */

static void test_cross_entropy(osr_ctx *ctx, float smoothing)
{
    const osr_tensor z = input(ctx, 16, matrix(5, 4), 4.0f), y = osr_labels(ctx, 5, 4, labels);
    const osr_tensor loss = osr_keep(ctx, osr_loss_cross_entropy(ctx, z, y, smoothing));
    const osr_tensor dz = osr_grad(ctx, loss, none, z);
    if (smoothing > 0.0f) {
        COMPARE(loss, smooth_loss);
        COMPARE(dz, smooth_dx);
    } else {
        COMPARE(loss, ce_loss);
        COMPARE(dz, ce_dx);
    }
    osr_step_end(ctx);
}

/* Anchors [4, 4 each]: 10 on the own dimensions of each class. */
static osr_tensor anchors(osr_ctx *ctx, int each)
{
    const osr_init zero = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    const osr_tensor t = osr_state(ctx, matrix(4, 4 * each), zero);
    float values[MOST] = {0.0f};
    int k;
    for (k = 0; k < 4 * each; ++k)
        values[k / each * 4 * each + k] = 10.0f;
    osr_write(ctx, t, values, (size_t)(16 * each));
    return t;
}

static void test_cac(osr_ctx *ctx)
{
    const osr_tensor a = anchors(ctx, 1);
    const osr_tensor z = input(ctx, 17, matrix(5, 4), 8.0f), y = osr_labels(ctx, 5, 4, labels);
    const osr_tensor d = osr_keep(ctx, osr_anchor_distance(ctx, z, a));
    const osr_tensor loss = osr_keep(ctx, osr_loss_cac(ctx, d, y, 0.1f));
    const osr_tensor dz = osr_grad(ctx, loss, none, z);
    COMPARE(d, cac_distances);
    COMPARE(loss, cac_loss);
    COMPARE(dz, cac_dx);
    osr_step_end(ctx);
}

static void test_difair(osr_ctx *ctx)
{
    const osr_tensor a = anchors(ctx, 2);
    const osr_tensor r = input(ctx, 20, matrix(5, 8), 8.0f), y = osr_labels(ctx, 5, 4, labels);
    const osr_tensor d = osr_anchor_distance(ctx, r, a);
    const osr_tensor loss = osr_keep(ctx, osr_loss_difair(ctx, d, y, 20.0f, 0.1f));
    const osr_tensor dr = osr_grad(ctx, loss, none, r);
    COMPARE(loss, difair_loss);
    COMPARE(dr, difair_dx);
    osr_step_end(ctx);
}

static void test_movr(osr_ctx *ctx)
{
    const osr_tensor w = param(ctx, 19, matrix(4, 6));
    const osr_tensor r = input(ctx, 18, matrix(5, 6), 1.0f), y = osr_labels(ctx, 5, 4, labels);
    const osr_tensor c = osr_keep(ctx, osr_matmul(ctx, osr_normalise(ctx, r),
                                                  osr_normalise(ctx, w), 0, 1));
    const osr_tensor loss = osr_keep(ctx, osr_loss_movr(ctx, c, y, 32.0f, 0.5f));
    const osr_tensor dr = osr_grad(ctx, loss, none, r);
    osr_backward(ctx, loss);
    COMPARE(c, movr_cosines);
    COMPARE(loss, movr_loss);
    COMPARE(dr, movr_dx);
    COMPARE(osr_gradient(ctx, w), movr_weight_grad);
    osr_step_end(ctx);
}

static void test_ovr(osr_ctx *ctx)
{
    const osr_tensor z = input(ctx, 16, matrix(5, 4), 4.0f), y = osr_labels(ctx, 5, 4, labels);
    const osr_tensor loss = osr_keep(ctx, osr_loss_ovr(ctx, z, y));
    const osr_tensor dz = osr_grad(ctx, loss, none, z);
    COMPARE(loss, ovr_loss);
    COMPARE(dz, ovr_dx);
    osr_step_end(ctx);
}

#define COMPARE_POINTS(name)                                                                       \
    do {                                                                                           \
        COMPARE(z, name##_logits);                                                                 \
        COMPARE(loss, name##_loss);                                                                \
        COMPARE(dx, name##_dx);                                                                    \
        COMPARE(osr_gradient(ctx, p), name##_points_grad);                                         \
    } while (0)

/* The cross-entropy and a quarter of the second term, as osr_loss_points says. */
static void test_points(osr_ctx *ctx, osr_loss_kind kind)
{
    const int center = kind == OSR_LOSS_CENTER;
    const osr_init start = {OSR_INIT_CONSTANT, 1.75f, 0.0f};
    const osr_tensor p = param(ctx, 26, matrix(4, 6)), radius = osr_param(ctx, vector(1), start);
    const osr_tensor w = param(ctx, 28, matrix(4, 6));
    const osr_tensor x = input(ctx, 25, matrix(5, 6), 1.0f), y = osr_labels(ctx, 5, 4, labels);
    const osr_tensor d = osr_squared_distance(ctx, x, p, center ? 1.0f : 1.0f / 6.0f,
                                              center ? 4.0f : 1.0f);
    const osr_tensor term = osr_loss_points(ctx, kind, d, y, radius);
    osr_tensor z = d, loss, dx;
    if (center)
        z = osr_linear(ctx, x, w, none);
    else if (kind == OSR_LOSS_GCPL)
        z = osr_affine(ctx, d, -1.0f, 0.0f);
    else if (kind == OSR_LOSS_ARPL)
        z = osr_sub(ctx, d, osr_matmul(ctx, x, p, 0, 1));
    osr_keep(ctx, z);
    loss = osr_add(ctx, osr_loss_cross_entropy(ctx, z, y, 0.15f),
                   osr_affine(ctx, term, 0.25f, 0.0f));
    osr_keep(ctx, loss);
    dx = osr_grad(ctx, loss, none, x);
    osr_backward(ctx, loss);
    if (center) {
        COMPARE_POINTS(center);
    } else if (kind == OSR_LOSS_GCPL) {
        COMPARE_POINTS(gcpl);
    } else if (kind == OSR_LOSS_RPL) {
        COMPARE_POINTS(rpl);
        COMPARE(osr_gradient(ctx, radius), rpl_radius_grad);
    } else {
        COMPARE_POINTS(arpl);
        COMPARE(osr_gradient(ctx, radius), arpl_radius_grad);
    }
    osr_step_end(ctx);
}

static void test_correlation(osr_ctx *ctx, osr_correlation reading)
{
    const osr_tensor w = param(ctx, 21, osr_shape_make(4, 6, 2, 2, 2));
    const osr_tensor loss = osr_keep(ctx, osr_loss_correlation(ctx, w, 3, reading));
    osr_backward(ctx, loss);
    if (reading == OSR_CORRELATION_CODE) {
        COMPARE(loss, corr_code_loss);
        COMPARE(osr_gradient(ctx, w), corr_code_dw);
    } else {
        COMPARE(loss, corr_paper_loss);
        COMPARE(osr_gradient(ctx, w), corr_paper_dw);
    }
    osr_step_end(ctx);
}

/* ---- optimisers ---- */

/* Two steps on a parameter of 9 values with the gradients fill(23) and fill(24). */
static osr_tensor two_steps(osr_ctx *ctx, osr_optimiser_desc desc)
{
    const osr_tensor w = param(ctx, 22, vector(9));
    int step;
    desc.lr = 0.1f;
    for (step = 0; step < 2; ++step) {
        osr_backward(ctx, weighted(ctx, w, 23 + step));
        desc.step = (uint32_t)step + 1;
        osr_optimiser_step(ctx, &desc, w, 1);
        osr_step_end(ctx);
    }
    return w;
}

static void test_optimisers(osr_ctx *ctx)
{
    osr_optimiser_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = OSR_SGD;
    desc.momentum = 0.9f;
    desc.weight_decay = 0.01f;
    COMPARE(two_steps(ctx, desc), sgd_w);
    memset(&desc, 0, sizeof desc);
    desc.kind = OSR_ADAM;
    COMPARE(two_steps(ctx, desc), adam_w);
    desc.weight_decay = 0.5f;
    COMPARE(two_steps(ctx, desc), adam_l2_w);
    desc.decoupled = 1;
    COMPARE(two_steps(ctx, desc), adamw_w);
}

int main(void)
{
    osr_ctx *ctx = NULL;
    if (!CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK)) {
        fprintf(stderr, "%s\n", osr_ctx_message(ctx));
        osr_ctx_destroy(ctx);
        return test_end();
    }
    test_conv(ctx, 5, 1);
    test_conv(ctx, 7, 2);
    test_batchnorm(ctx);
    test_image_ops(ctx);
    test_linear(ctx);
    test_cross_entropy(ctx, 0.0f);
    test_cross_entropy(ctx, 0.15f);
    test_cac(ctx);
    test_difair(ctx);
    test_movr(ctx);
    test_ovr(ctx);
    test_points(ctx, OSR_LOSS_CENTER);
    test_points(ctx, OSR_LOSS_GCPL);
    test_points(ctx, OSR_LOSS_RPL);
    test_points(ctx, OSR_LOSS_ARPL);
    test_correlation(ctx, OSR_CORRELATION_CODE);
    test_correlation(ctx, OSR_CORRELATION_PAPER);
    test_optimisers(ctx);
    if (!CHECK(osr_ctx_status(ctx) == OSR_OK))
        fprintf(stderr, "%s\n", osr_ctx_message(ctx));
    osr_ctx_destroy(ctx);
    return test_end();
}
