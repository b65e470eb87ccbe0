/* selftest_tape.c - checks of what ops share: the tape, plans, parameters, optimisers, errors. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"
#include "reference.h"
#include "selftest_table.h"

enum { PHILOX_TAPE = 0x74617065, COUNT_OF_PLANS = 6 };

static const osr_tensor none = {0, 0};
static const osr_init zero = {OSR_INIT_CONSTANT, 0.0f, 0.0f};

static const char *because(struct check *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->text, sizeof c->text, format, args);
    va_end(args);
    return c->text;
}

static void worse(struct check *c, double error)
{
    if (!(error <= c->error))
        c->error = error;
}

static void fill_random(struct check *c, uint64_t item, float *v, size_t count, double low,
                        double high)
{
    struct philox p = philox_start(c->seed, PHILOX_TAPE, item);
    for (size_t i = 0; i < count; i++)
        v[i] = (float)philox_between(&p, low, high);
}

static osr_shape vector(int n)
{
    return osr_shape_make(1, n, 0, 0, 0);
}

static osr_shape matrix(int rows, int cols)
{
    return osr_shape_make(2, rows, cols, 0, 0);
}

static osr_tensor vector_input(struct check *c, const float *v, int n)
{
    return osr_input(c->ctx, vector(n), v);
}

/* --- a small network, in which every gradient that adds to a parameter's buffer occurs --- */

enum { TINY_H = 6, TINY_W = 7, TINY_C = 3, TINY_O = 6, TINY_K = 4, TINY_BATCH = 8 };
enum { TINY_FEATURES = (TINY_H / 2) * (TINY_W / 2) * TINY_O, TINY_PARAMETERS = 5 };
enum { TINY_IMAGE = TINY_H * TINY_W * TINY_C };
enum { TINY_LARGEST = TINY_BATCH * TINY_H * TINY_W * TINY_O };

struct tiny {
    osr_tensor parameter[TINY_PARAMETERS]; /* filters, bias, gamma, beta, weights */
    osr_tensor mean, var;
    size_t count[TINY_PARAMETERS], total;
    float x[2][TINY_BATCH * TINY_IMAGE];
    int32_t labels[TINY_BATCH];
};

/* How a forward pass is recorded. */
struct pass {
    int batch, image_set; /* which of x */
    int keep, read;       /* every value is kept; and read at once */
    int channels;         /* dropout of whole channels */
    float dropout;
};

enum { TINY_GRADIENTS = 27 * TINY_O + 3 * TINY_O + TINY_K * TINY_FEATURES };

static void tiny_start(struct check *c, struct tiny *t)
{
    osr_shape shapes[TINY_PARAMETERS];
    osr_init init = {OSR_INIT_UNIFORM, 0.1f, 0.5f}, one = {OSR_INIT_CONSTANT, 1.0f, 0.0f};
    shapes[0] = osr_shape_make(4, TINY_O, TINY_C, 3, 3);
    shapes[1] = shapes[2] = shapes[3] = vector(TINY_O);
    shapes[4] = matrix(TINY_K, TINY_FEATURES);
    t->total = 0;
    for (int i = 0; i < TINY_PARAMETERS; i++) {
        t->parameter[i] = osr_param(c->ctx, shapes[i], init);
        t->count[i] = osr_shape_count(shapes[i]);
        t->total += t->count[i];
    }
    t->mean = osr_state(c->ctx, vector(TINY_O), zero);
    t->var = osr_state(c->ctx, vector(TINY_O), one);
    fill_random(c, 1, t->x[0], TINY_BATCH * TINY_IMAGE, -1.0, 1.0);
    fill_random(c, 2, t->x[1], TINY_BATCH * TINY_IMAGE, -1.0, 1.0);
    for (int i = 0; i < TINY_BATCH; i++)
        t->labels[i] = i % TINY_K;
}

static osr_tensor tiny_value(struct check *c, const struct pass *p, osr_tensor v)
{
    float values[TINY_LARGEST];
    if (p->keep)
        osr_keep(c->ctx, v);
    if (p->read)
        osr_read(c->ctx, v, values, osr_shape_count(osr_shape_of(c->ctx, v)));
    return v;
}

static osr_tensor tiny_loss(struct check *c, const struct tiny *t, const struct pass *p)
{
    osr_ctx *ctx = c->ctx;
    osr_conv_desc conv = {1, 1, 0, 0};
    osr_batchnorm_desc norm = {0.0f, 0.1f, 1};
    const osr_tensor *w = t->parameter;
    osr_shape s = osr_shape_make(4, p->batch, TINY_H, TINY_W, TINY_C);
    osr_tensor v = tiny_value(c, p, osr_input(ctx, s, t->x[p->image_set]));
    osr_tensor labels = tiny_value(c, p, osr_labels(ctx, p->batch, TINY_K, t->labels));
    v = tiny_value(c, p, osr_conv2d(ctx, v, w[0], &conv));
    v = tiny_value(c, p, osr_batchnorm(ctx, v, w[2], w[3], t->mean, t->var, &norm));
    v = tiny_value(c, p, osr_leaky_relu(ctx, v, 0.1f));
    v = tiny_value(c, p, osr_dropout(ctx, v, p->dropout, p->channels));
    v = tiny_value(c, p, osr_bias(ctx, v, w[1]));
    v = tiny_value(c, p, osr_max_pool(ctx, v, 2, 2));
    v = tiny_value(c, p, osr_flatten(ctx, v));
    v = tiny_value(c, p, osr_linear(ctx, v, w[4], none));
    v = tiny_value(c, p, osr_loss_cross_entropy(ctx, v, labels, 0.1f));
    return osr_add(ctx, v, osr_loss_correlation(ctx, w[0], 3, OSR_CORRELATION_PAPER));
}

static void tiny_gradients(struct check *c, const struct tiny *t, float *g)
{
    for (int i = 0; i < TINY_PARAMETERS; g += t->count[i++])
        osr_read(c->ctx, osr_gradient(c->ctx, t->parameter[i]), g, t->count[i]);
}

/* A whole step: loss and gradients. */
static float tiny_step(struct check *c, const struct tiny *t, const struct pass *p, float *g)
{
    float value = 0.0f;
    osr_tensor loss;
    osr_ctx_set_step(c->ctx, CASE_STEP);
    loss = tiny_loss(c, t, p);
    osr_backward(c->ctx, loss);
    osr_read(c->ctx, loss, &value, 1);
    tiny_gradients(c, t, g);
    osr_step_end(c->ctx);
    return value;
}

static double difference(const float *a, const float *b, const float *plus)
{
    double wanted[TINY_GRADIENTS];
    for (size_t i = 0; i < TINY_GRADIENTS; i++)
        wanted[i] = (double)b[i] + (plus ? (double)plus[i] : 0.0);
    return relative_error(a, wanted, TINY_GRADIENTS);
}

/* Normalise, activate and drop in one kernel, and each apart. */
static const char *check_fusion(struct check *c)
{
    struct tiny t;
    struct pass fused = {5, 0, 0, 0, 0, 0.3f}, apart = {5, 0, 1, 0, 0, 0.3f};
    float a[TINY_GRADIENTS], b[TINY_GRADIENTS];
    tiny_start(c, &t);
    for (int channels = 0; channels < 2; channels++) {
        double loss;
        float found;
        fused.channels = apart.channels = channels;
        found = tiny_step(c, &t, &fused, a);
        loss = (double)tiny_step(c, &t, &apart, b);
        worse(c, relative_error(&found, &loss, 1));
        worse(c, difference(a, b, NULL));
    }
    return NULL;
}

/* Parameters used twice in a step, and two backward passes in one. */
static const char *check_accumulation(struct check *c)
{
    struct tiny t;
    struct pass first = {5, 0, 0, 0, 0, 0.0f}, second = {5, 1, 0, 0, 0, 0.0f};
    float a[TINY_GRADIENTS], b[TINY_GRADIENTS], both[TINY_GRADIENTS];
    osr_tensor one, other;
    tiny_start(c, &t);
    tiny_step(c, &t, &first, a);
    tiny_step(c, &t, &second, b);
    osr_backward(c->ctx, osr_add(c->ctx, tiny_loss(c, &t, &first), tiny_loss(c, &t, &second)));
    tiny_gradients(c, &t, both);
    osr_step_end(c->ctx);
    worse(c, difference(both, a, b));
    one = tiny_loss(c, &t, &first);
    other = tiny_loss(c, &t, &second);
    osr_backward(c->ctx, one);
    osr_backward(c->ctx, other);
    tiny_gradients(c, &t, both);
    osr_step_end(c->ctx);
    worse(c, difference(both, a, b));
    tiny_step(c, &t, &first, both);
    if (memcmp(both, a, sizeof a) != 0)
        return because(c, "gradients of an earlier step were added");
    return NULL;
}

/* Filters wide enough for Winograd: used twice in a step, and read in between, against two filters
 * of the same values. */
static const char *check_wide_filters(struct check *c)
{
    enum { WIDTH = 32, SIDE = 8, FILTER = WIDTH * WIDTH * 9, IMAGE = SIDE * SIDE * WIDTH };
    static const osr_conv_desc same = {1, 1, 0, 0};
    osr_shape filter = osr_shape_make(4, WIDTH, WIDTH, 3, 3);
    osr_init init = {OSR_INIT_UNIFORM, 0.0f, 0.1f};
    osr_tensor p[3];
    float x[IMAGE], value[IMAGE], w[FILTER], g[3][FILTER];
    double both[FILTER];
    fill_random(c, 6, x, IMAGE, -1.0, 1.0);
    fill_random(c, 7, w, FILTER, -0.1, 0.1);
    for (int i = 0; i < 3; i++) {
        p[i] = osr_param(c->ctx, filter, init);
        osr_write(c->ctx, p[i], w, FILTER);
    }
    for (int twice = 0; twice < 2; twice++) {
        osr_tensor v = osr_input(c->ctx, osr_shape_make(4, 1, SIDE, SIDE, WIDTH), x);
        osr_keep(c->ctx, v);
        v = osr_conv2d(c->ctx, v, twice ? p[2] : p[0], &same);
        osr_read(c->ctx, osr_keep(c->ctx, v), value, IMAGE);
        v = osr_flatten(c->ctx, osr_conv2d(c->ctx, v, twice ? p[2] : p[1], &same));
        osr_backward(c->ctx, osr_sum(c->ctx, osr_mul(c->ctx, v, v)));
        for (int i = twice ? 2 : 0; i < (twice ? 3 : 2); i++)
            osr_read(c->ctx, osr_gradient(c->ctx, p[i]), g[i], FILTER);
        osr_step_end(c->ctx);
    }
    for (int i = 0; i < FILTER; i++)
        both[i] = (double)g[0][i] + (double)g[1][i];
    worse(c, relative_error(g[2], both, FILTER));
    return NULL;
}

/* One value used twice: y = x x + x, p p. */
static const char *check_shared(struct check *c)
{
    enum { COUNT = 33 };
    float x[COUNT], g[COUNT], h[COUNT];
    double by_x[COUNT], by_p[COUNT];
    osr_tensor p = osr_param(c->ctx, vector(COUNT), zero), v, sum;
    fill_random(c, 3, x, COUNT, -1.0, 1.0);
    osr_write(c->ctx, p, x, COUNT);
    v = vector_input(c, x, COUNT);
    sum = osr_sum(c->ctx, osr_add(c->ctx, osr_add(c->ctx, osr_mul(c->ctx, v, v), v),
                                  osr_mul(c->ctx, p, p)));
    osr_backward(c->ctx, sum);
    osr_read(c->ctx, osr_grad(c->ctx, sum, none, v), g, COUNT);
    osr_read(c->ctx, osr_gradient(c->ctx, p), h, COUNT);
    osr_step_end(c->ctx);
    for (int i = 0; i < COUNT; i++) {
        by_x[i] = 2.0 * (double)x[i] + 1.0;
        by_p[i] = 2.0 * (double)x[i];
    }
    worse(c, relative_error(g, by_x, COUNT));
    worse(c, relative_error(h, by_p, COUNT));
    return NULL;
}

/* A parameter that a step's loss does not depend on has no gradient from an earlier step. */
static const char *check_unreached(struct check *c)
{
    float values[4] = {1.0f, 2.0f, 3.0f, 4.0f}, g[4];
    osr_tensor p = osr_param(c->ctx, vector(4), zero), q = osr_param(c->ctx, vector(4), zero);
    osr_write(c->ctx, p, values, 4);
    osr_write(c->ctx, q, values, 4);
    osr_backward(c->ctx, osr_sum(c->ctx, osr_mul(c->ctx, p, q)));
    osr_step_end(c->ctx);
    osr_backward(c->ctx, osr_sum(c->ctx, osr_mul(c->ctx, p, p)));
    osr_read(c->ctx, osr_gradient(c->ctx, q), g, 4);
    osr_step_end(c->ctx);
    for (int i = 0; i < 4; i++)
        if (g[i] != 0.0f)
            return because(c, "its gradient is still %g", (double)g[i]);
    return NULL;
}

/* A loss whose gradient its own launch makes against one whose gradient takes a launch of its own,
 * since the gradient of the loss is not a constant or the loss was read before. */
static const char *check_losses(struct check *c)
{
    enum { ROWS = 5, CLASSES = 3, COUNT = ROWS * CLASSES };
    static const int32_t which[ROWS] = {2, 0, 1, 1, 2};
    const float three = 3.0f;
    float values[COUNT], g[4][COUNT], early;
    osr_ctx_stats before, after;
    int launches[4];
    osr_tensor x = osr_param(c->ctx, matrix(ROWS, CLASSES), zero);
    fill_random(c, 5, values, COUNT, 0.1, 0.9);
    osr_write(c->ctx, x, values, COUNT);
    for (int kind = 0; kind < 5; kind++) {
        for (int way = 0; way < 4; way++) {
            double wanted[COUNT];
            osr_tensor y = osr_keep(c->ctx, osr_labels(c->ctx, ROWS, CLASSES, which));
            osr_ctx_get_stats(c->ctx, &before);
            osr_tensor loss = kind == 0   ? osr_loss_cross_entropy(c->ctx, x, y, 0.1f)
                              : kind == 1 ? osr_loss_cac(c->ctx, x, y, 0.1f)
                              : kind == 2 ? osr_loss_difair(c->ctx, x, y, 0.5f, 0.2f)
                              : kind == 3 ? osr_loss_movr(c->ctx, x, y, 8.0f, 0.2f)
                                          : osr_loss_ovr(c->ctx, x, y);
            if (way == 1)
                loss = osr_affine(c->ctx, loss, three, 1.0f);
            if (way == 2)
                loss = osr_mul(c->ctx, loss,
                               osr_sum(c->ctx, osr_input(c->ctx, vector(1), &three)));
            if (way == 3)
                osr_read(c->ctx, osr_keep(c->ctx, loss), &early, 1);
            osr_backward(c->ctx, loss);
            osr_read(c->ctx, osr_gradient(c->ctx, x), g[way], COUNT);
            osr_step_end(c->ctx);
            osr_ctx_get_stats(c->ctx, &after);
            launches[way] = (int)(after.launches - before.launches);
            for (int i = 0; i < COUNT; i++)
                wanted[i] = (way == 1 || way == 2 ? 3.0 : 1.0) * (double)g[0][i];
            worse(c, relative_error(g[way], wanted, COUNT));
        }
        if (launches[0] >= launches[3])
            return because(c, "loss %d: %d launches with its gradient, %d apart", kind,
                           launches[0], launches[3]);
    }
    return NULL;
}

/* What osr_grad gives out: constants, and seeds of the program's own, which later gradients must
 * leave alone; a loss used twice. */
static const char *check_given(struct check *c)
{
    enum { ROWS = 5, CLASSES = 3, COUNT = ROWS * CLASSES };
    static const int32_t which[ROWS] = {2, 0, 1, 1, 2};
    osr_init two = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    float values[COUNT], slope[COUNT], twice[COUNT], again[COUNT], five[COUNT];
    double wanted[COUNT];
    osr_tensor p = osr_param(c->ctx, matrix(ROWS, CLASSES), zero), scale, y, x, loss, g, h;
    osr_tensor constant;
    two.value = 2.0f;
    scale = osr_state(c->ctx, osr_shape_make(0, 0, 0, 0, 0), two);
    fill_random(c, 5, values, COUNT, -1.0, 1.0);
    osr_write(c->ctx, p, values, COUNT);
    y = osr_labels(c->ctx, ROWS, CLASSES, which);
    x = osr_affine(c->ctx, p, 1.0f, 0.0f);
    loss = osr_loss_cross_entropy(c->ctx, x, y, 0.0f);
    constant = osr_grad(c->ctx, osr_affine(c->ctx, x, 5.0f, 0.0f), none, x);
    g = osr_grad(c->ctx, loss, none, x);
    h = osr_grad(c->ctx, loss, scale, x);
    osr_backward(c->ctx, osr_add(c->ctx, loss, loss));
    osr_read(c->ctx, osr_gradient(c->ctx, p), again, COUNT);
    osr_read(c->ctx, g, slope, COUNT);
    osr_read(c->ctx, h, twice, COUNT);
    osr_read(c->ctx, constant, five, COUNT);
    osr_step_end(c->ctx);
    for (int i = 0; i < COUNT; i++)
        wanted[i] = 2.0 * (double)slope[i];
    worse(c, relative_error(twice, wanted, COUNT));
    worse(c, relative_error(again, wanted, COUNT));
    for (int i = 0; i < COUNT; i++)
        if (five[i] != 5.0f)
            return because(c, "a constant gradient is %g", (double)five[i]);
    if (osr_ctx_status(c->ctx) != OSR_OK)
        return because(c, "%.200s", osr_ctx_message(c->ctx));
    return NULL;
}

/* Two batch sizes in turn: the same bits each time, and two plans in all. */
static const char *check_plans(struct check *c)
{
    struct tiny t;
    struct pass pass[2] = {{8, 0, 0, 0, 0, 0.2f}, {5, 1, 0, 0, 1, 0.2f}};
    float first[2][TINY_GRADIENTS], again[TINY_GRADIENTS], loss[2];
    osr_ctx_stats before, after;
    tiny_start(c, &t);
    for (int i = 0; i < 4; i++)
        loss[i % 2] = tiny_step(c, &t, &pass[i % 2], first[i % 2]);
    osr_ctx_get_stats(c->ctx, &before);
    for (int i = 0; i < COUNT_OF_PLANS; i++) {
        float value = tiny_step(c, &t, &pass[i % 2], again);
        if (memcmp(&value, &loss[i % 2], sizeof value) != 0
            || memcmp(again, first[i % 2], sizeof again) != 0)
            return because(c, "batch %d: other values when it came again", pass[i % 2].batch);
    }
    osr_ctx_get_stats(c->ctx, &after);
    if (after.plans != before.plans || after.allocations != before.allocations)
        return because(c, "%d plans and %d allocations more in a steady state",
                       (int)(after.plans - before.plans),
                       (int)(after.allocations - before.allocations));
    return NULL;
}

/* Did the profile see the CPU's Winograd? It sums up what it puts out for the normalisation that
 * follows, if that is recorded by then. */
static int saw_sums(const osr_ctx *ctx)
{
    const osr_launch_time *times;
    int found = 0;
    for (size_t i = osr_ctx_profile_get(ctx, &times); i > 0; i--)
        found |= strcmp(times[i - 1].kernel, "wino_conv") == 0;
    return found;
}

/* Every value read as soon as it is recorded, then more ops: the same bits as without; the same but
 * for rounding where a read takes a convolution's sums from it. */
static const char *check_partial(struct check *c)
{
    struct tiny t;
    struct pass whole = {5, 0, 1, 0, 0, 0.2f}, parts = {5, 0, 1, 1, 0, 0.2f};
    float a[TINY_GRADIENTS], b[TINY_GRADIENTS];
    const char *why = NULL;
    tiny_start(c, &t);
    for (int i = 0; i < 2 && why == NULL; i++) {
        osr_ctx_profile(c->ctx, 1);
        float x = tiny_step(c, &t, &whole, a), y = tiny_step(c, &t, &parts, b);
        const double wanted = (double)x;
        if (saw_sums(c->ctx)) {
            worse(c, relative_error(&y, &wanted, 1));
            worse(c, difference(b, a, NULL));
        } else if (memcmp(&x, &y, sizeof x) != 0 || memcmp(a, b, sizeof a) != 0) {
            why = because(c, "reads between ops changed the result");
        }
    }
    osr_ctx_profile(c->ctx, 0);
    return why;
}

/* The loss read before osr_backward, nothing kept: right gradients or HANDLE, nothing else. */
static const char *check_read_first(struct check *c)
{
    struct tiny t;
    struct pass pass = {5, 0, 0, 0, 0, 0.2f};
    float a[TINY_GRADIENTS], b[TINY_GRADIENTS], value;
    osr_tensor loss;
    tiny_start(c, &t);
    tiny_step(c, &t, &pass, a);
    osr_ctx_set_step(c->ctx, CASE_STEP);
    loss = tiny_loss(c, &t, &pass);
    osr_read(c->ctx, loss, &value, 1);
    if (osr_backward(c->ctx, loss) == OSR_HANDLE) {
        osr_ctx_clear_error(c->ctx);
        tiny_step(c, &t, &pass, b);
    } else {
        tiny_gradients(c, &t, b);
        osr_step_end(c->ctx);
    }
    return memcmp(a, b, sizeof a) == 0 ? NULL : because(c, "wrong gradients");
}

/* --- inference: convolution, running statistics and activation in one, prepared weights kept from
 * step to step --- */

enum { TOWER_PARTS = 5, TOWER_WIDTH = 40, TOWER_SIDE = 8 };
enum { TOWER_FILTER = TOWER_WIDTH * TOWER_WIDTH * 9 };
enum { TOWER_IMAGE = TOWER_SIDE * TOWER_SIDE * TOWER_WIDTH };

struct tower {
    osr_tensor part[TOWER_PARTS]; /* filters, gamma, beta, mean, variance */
    osr_tensor image;             /* of the last forward pass             */
    int width;
    float x[TOWER_IMAGE];
};

static size_t tower_count(const struct tower *t, int i)
{
    return (size_t)(i == 0 ? t->width * t->width * 9 : t->width);
}

/* Tensors of its own; values of `from`, or random ones. */
static void tower_start(struct check *c, struct tower *t, const struct tower *from, int width)
{
    float v[TOWER_FILTER];
    t->width = width;
    fill_random(c, 8, t->x, TOWER_IMAGE, -1.0, 1.0);
    for (int i = 0; i < TOWER_PARTS; i++) {
        osr_shape s = i == 0 ? osr_shape_make(4, width, width, 3, 3) : vector(width);
        t->part[i] = i < 3 ? osr_param(c->ctx, s, zero) : osr_state(c->ctx, s, zero);
        if (from != NULL)
            osr_read(c->ctx, from->part[i], v, tower_count(t, i));
        else
            fill_random(c, 20 + (uint64_t)i, v, tower_count(t, i), i == 0 ? -0.2 : 0.5,
                        i == 0 ? 0.2 : 1.5);
        osr_write(c->ctx, t->part[i], v, tower_count(t, i));
    }
}

static osr_tensor tower_forward(struct check *c, struct tower *t, int train, int keep)
{
    osr_conv_desc conv = {1, 1, 0, 0};
    osr_batchnorm_desc norm = {0.0f, 0.1f, train};
    osr_tensor v;
    t->image = osr_input(c->ctx, osr_shape_make(4, 1, TOWER_SIDE, TOWER_SIDE, t->width), t->x);
    v = osr_conv2d(c->ctx, osr_keep(c->ctx, t->image), t->part[0], &conv);
    if (keep)
        osr_keep(c->ctx, v);
    v = osr_batchnorm(c->ctx, v, t->part[1], t->part[2], t->part[3], t->part[4], &norm);
    if (keep)
        osr_keep(c->ctx, v);
    return osr_leaky_relu(c->ctx, v, 0.1f);
}

static void tower_run(struct check *c, struct tower *t, int keep, float *y)
{
    osr_read(c->ctx, tower_forward(c, t, 0, keep), y, (size_t)(64 * t->width));
    osr_step_end(c->ctx);
}

/* 1 when a new tower with the same values gives the bits in y. */
static int tower_agrees(struct check *c, const struct tower *t, const float *y)
{
    static const int pixels = TOWER_SIDE * TOWER_SIDE;
    struct tower fresh;
    float z[TOWER_IMAGE];
    tower_start(c, &fresh, t, t->width);
    tower_run(c, &fresh, 0, z);
    return memcmp(y, z, (size_t)(pixels * t->width) * sizeof *y) == 0;
}

/* A training pass and an update, in a step that is still open. */
static void tower_train(struct check *c, struct tower *t)
{
    osr_optimiser_desc sgd;
    osr_tensor v = osr_flatten(c->ctx, tower_forward(c, t, 1, 0));
    memset(&sgd, 0, sizeof sgd);
    sgd.lr = 0.001f;
    osr_backward(c->ctx, osr_sum(c->ctx, osr_mul(c->ctx, v, v)));
    osr_optimiser_step(c->ctx, &sgd, t->part[0], 3);
}

/* Whatever changes a tensor, the next prediction is made with the new values. */
static const char *check_inference_width(struct check *c, int width)
{
    struct tower t;
    float y[TOWER_IMAGE], z[TOWER_IMAGE], v[TOWER_FILTER];
    double wanted[TOWER_IMAGE];
    osr_tensor before, after;
    size_t count = (size_t)(64 * width);
    tower_start(c, &t, NULL, width);
    tower_run(c, &t, 1, z);
    for (size_t i = 0; i < count; i++)
        wanted[i] = (double)z[i];
    for (int i = 0; i < TOWER_PARTS; i++) {
        tower_run(c, &t, 0, y);
        if (i == 0)
            worse(c, relative_error(y, wanted, count));
        fill_random(c, 30 + (uint64_t)i, v, tower_count(&t, i), 0.5, 1.5);
        osr_write(c->ctx, t.part[i], v, tower_count(&t, i));
        tower_run(c, &t, 0, y);
        if (!tower_agrees(c, &t, y))
            return because(c, "width %d: old values after osr_write of tensor %d", width, i);
    }
    for (int i = 0; i < 2; i++) { /* the first makes the plan, the second only runs it */
        tower_run(c, &t, 0, z);
        tower_train(c, &t);
        osr_step_end(c->ctx);
        tower_run(c, &t, 0, y);
        if (!tower_agrees(c, &t, y))
            return because(c, "width %d: old values after training step %d", width, i);
    }
    before = osr_keep(c->ctx, tower_forward(c, &t, 0, 0));
    tower_train(c, &t);
    after = tower_forward(c, &t, 0, 0);
    osr_read(c->ctx, after, z, count);
    osr_read(c->ctx, before, v, count);
    osr_step_end(c->ctx);
    if (memcmp(v, y, count * sizeof *y) != 0)
        return because(c, "width %d: new values before the training step", width);
    if (!tower_agrees(c, &t, z))
        return because(c, "width %d: old values after a training step in the same step", width);
    return NULL;
}

static const char *check_inference(struct check *c)
{
    const char *why = check_inference_width(c, 6);
    return why != NULL ? why : check_inference_width(c, TOWER_WIDTH);
}

/* A prediction is read, then differentiated: the right gradient, or an error. */
static const char *check_late_gradient(struct check *c)
{
    struct tower t;
    float y[TOWER_IMAGE], g[TOWER_IMAGE], h[TOWER_IMAGE];
    size_t count = 64 * 6;
    osr_tensor v;
    tower_start(c, &t, NULL, 6);
    v = tower_forward(c, &t, 0, 1);
    osr_read(c->ctx, osr_grad(c->ctx, v, none, t.image), g, count);
    osr_step_end(c->ctx);
    v = osr_keep(c->ctx, tower_forward(c, &t, 0, 0));
    osr_read(c->ctx, v, y, count);
    if (osr_read(c->ctx, osr_grad(c->ctx, v, none, t.image), h, count) != OSR_OK) {
        osr_ctx_clear_error(c->ctx);
        return NULL;
    }
    osr_step_end(c->ctx);
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(g[i] - h[i]) <= 1e-4f))
            return because(c, "a wrong gradient, %g instead of %g", (double)h[i], (double)g[i]);
    return NULL;
}

/* --- training: convolutions that sum up the statistics of what they put out and make the
 * activations that they read, against the same one op at a time --- */

enum { CHAIN = 3, CHAIN_N = 3, CHAIN_H = 16, CHAIN_W = 14, CHAIN_PARTS = 5 };
enum { CHAIN_MOST = 48 * 48 * 9, CHAIN_OUT = CHAIN_N * (CHAIN_H / 2) * (CHAIN_W / 2) * 32 };

/* Channels in and out, stride, dropout of what follows. */
static const struct chain_layer {
    int in, out, stride;
    float drop;
} chain[CHAIN] = {{33, 40, 1, 0.3f}, {40, 48, 2, 0.0f}, {48, 32, 1, 0.0f}};

struct chain_state {
    osr_tensor part[CHAIN][CHAIN_PARTS]; /* filters, gamma, beta, mean, variance */
    float x[CHAIN_N * CHAIN_H * CHAIN_W * 33], scratch[CHAIN_N * CHAIN_H * CHAIN_W * 48];
};

static size_t chain_count(int layer, int part)
{
    return (size_t)(part == 0 ? chain[layer].out * chain[layer].in * 9 : chain[layer].out);
}

/* Runs what was recorded, so that v is an op of its own; never where reads is 0. */
static osr_tensor chain_read(struct check *c, struct chain_state *t, int reads, osr_tensor v)
{
    if (reads)
        osr_read(c->ctx, osr_keep(c->ctx, v), t->scratch, osr_shape_count(osr_shape_of(c->ctx, v)));
    return v;
}

/* One step from the same values; the result, gradients and running statistics to out. */
static void chain_step(struct check *c, struct chain_state *t, int reads, float *out)
{
    osr_tensor v;
    float w[CHAIN_MOST];
    for (int i = 0; i < CHAIN; i++)
        for (int k = 0; k < CHAIN_PARTS; k++) {
            fill_random(c, 40 + (uint64_t)(i * CHAIN_PARTS + k), w, chain_count(i, k),
                        k == 0 ? -0.2 : 0.5, k == 0 ? 0.2 : 1.5);
            osr_write(c->ctx, t->part[i][k], w, chain_count(i, k));
        }
    osr_ctx_set_step(c->ctx, CASE_STEP);
    v = osr_input(c->ctx, osr_shape_make(4, CHAIN_N, CHAIN_H, CHAIN_W, chain[0].in), t->x);
    osr_keep(c->ctx, v);
    for (int i = 0; i < CHAIN; i++) {
        const osr_conv_desc conv = {chain[i].stride, 1, 0, 0};
        const osr_batchnorm_desc norm = {0.0f, 0.1f, 1};
        v = chain_read(c, t, reads, osr_conv2d(c->ctx, v, t->part[i][0], &conv));
        v = osr_batchnorm(c->ctx, v, t->part[i][1], t->part[i][2], t->part[i][3], t->part[i][4],
                          &norm);
        v = osr_dropout(c->ctx, osr_leaky_relu(c->ctx, v, 0.2f), chain[i].drop, 1);
        v = chain_read(c, t, reads, v);
    }
    v = osr_keep(c->ctx, osr_flatten(c->ctx, v));
    osr_backward(c->ctx, osr_sum(c->ctx, osr_mul(c->ctx, v, osr_mul(c->ctx, v, v))));
    osr_read(c->ctx, v, out, CHAIN_OUT);
    out += CHAIN_OUT;
    for (int i = 0; i < CHAIN; i++)
        for (int k = 0; k < CHAIN_PARTS; out += chain_count(i, k++))
            if (k < 3)
                osr_read(c->ctx, osr_gradient(c->ctx, t->part[i][k]), out, chain_count(i, k));
            else
                osr_read(c->ctx, t->part[i][k], out, chain_count(i, k));
    osr_step_end(c->ctx);
}

/* Only the CPU's kernels join these; for others both steps would be the same. */
static const char *check_training(struct check *c)
{
    struct chain_state *t;
    size_t count = CHAIN_OUT, at = CHAIN_OUT;
    float *found, *one_by_one;
    double *wanted;
    if (osr_ctx_kernels(c->ctx) != OSR_KERNELS_CPU)
        return NULL;
    for (int i = 0; i < CHAIN; i++)
        for (int k = 0; k < CHAIN_PARTS; k++)
            count += chain_count(i, k);
    t = calloc(1, sizeof *t);
    found = calloc(count, sizeof *found);
    one_by_one = calloc(count, sizeof *one_by_one);
    wanted = calloc(count, sizeof *wanted);
    if (t != NULL && found != NULL && one_by_one != NULL && wanted != NULL) {
        fill_random(c, 39, t->x, sizeof t->x / sizeof t->x[0], -1.0, 1.0);
        for (int i = 0; i < CHAIN; i++)
            for (int k = 0; k < CHAIN_PARTS; k++) {
                osr_shape s = k == 0 ? osr_shape_make(4, chain[i].out, chain[i].in, 3, 3)
                                     : vector(chain[i].out);
                t->part[i][k] = k < 3 ? osr_param(c->ctx, s, zero) : osr_state(c->ctx, s, zero);
            }
        chain_step(c, t, 1, one_by_one);
        chain_step(c, t, 0, found);
        for (size_t i = 0; i < count; i++)
            wanted[i] = (double)one_by_one[i];
        worse(c, relative_error(found, wanted, CHAIN_OUT));
        for (int i = 0; i < CHAIN; i++)
            for (int k = 0; k < CHAIN_PARTS; at += chain_count(i, k++))
                worse(c, relative_error(found + at, wanted + at, chain_count(i, k)));
    } else {
        c->error = INFINITY;
    }
    free(t);
    free(found);
    free(one_by_one);
    free(wanted);
    return NULL;
}

/* --- values --- */

/* Buffers that held 8 channels hold 6: what is beyond them must not count. */
static const char *check_lanes(struct check *c)
{
    enum { PIXELS = 2 * 4 * 5 };
    float x[PIXELS * 8], found[2];
    double exact[PIXELS * 6], wanted[2];
    fill_random(c, 4, x, PIXELS * 8, 1.0, 2.0);
    for (int channels = 8; channels >= 6; channels -= 2) {
        osr_tensor v = osr_input(c->ctx, osr_shape_make(4, 2, 4, 5, channels), x);
        for (int i = 0; i < 3; i++)
            v = osr_affine(c->ctx, v, 1.5f, 0.0f);
        osr_read(c->ctx, osr_square_sum(c->ctx, v), found, 2);
        osr_step_end(c->ctx);
    }
    for (int i = 0; i < PIXELS * 6; i++)
        exact[i] = 3.375 * (double)x[i];
    ref_square_sum(exact, wanted, 2, PIXELS * 3);
    worse(c, relative_error(found, wanted, 2));
    return NULL;
}

/* What is written or put in comes out again: parameters, moments, labels, images. */
static const char *check_values(struct check *c)
{
    enum { COUNT = 2 * 3 * 5 * 7 };
    float x[COUNT], y[COUNT];
    int32_t labels[COUNT];
    osr_tensor p = osr_param(c->ctx, osr_shape_make(4, 2, 3, 5, 7), zero), t[4];
    const char *what[4] = {"parameter", "gradient", "first moment", "second moment"};
    t[0] = p;
    t[1] = osr_gradient(c->ctx, p);
    t[2] = osr_moment(c->ctx, p, 1);
    t[3] = osr_moment(c->ctx, p, 2);
    for (int i = 0; i < 4; i++) {
        fill_random(c, 10 + (uint64_t)i, x, COUNT, -1.0, 1.0);
        osr_write(c->ctx, t[i], x, COUNT);
        osr_read(c->ctx, t[i], y, COUNT);
        if (memcmp(x, y, sizeof x) != 0)
            return because(c, "%s: other bits came back", what[i]);
    }
    osr_read(c->ctx, osr_input(c->ctx, osr_shape_make(4, 2, 5, 7, 3), x), y, COUNT);
    if (memcmp(x, y, sizeof x) != 0)
        return because(c, "image: other bits came back");
    for (int i = 0; i < COUNT; i++)
        labels[i] = i % 11;
    osr_read(c->ctx, osr_labels(c->ctx, COUNT, 11, labels), y, COUNT);
    osr_step_end(c->ctx);
    for (int i = 0; i < COUNT; i++)
        if (y[i] < (float)labels[i] || y[i] > (float)labels[i])
            return because(c, "label %d came back as %g", i, (double)y[i]);
    return NULL;
}

/* Masks depend on the step and on the ordinal of the dropout in it, and on nothing else. */
static const char *check_masks(struct check *c)
{
    enum { COUNT = 64 };
    static const uint32_t steps[4] = {5, 5, 6, 5};
    float x[COUNT], y[4][2][COUNT];
    for (int i = 0; i < COUNT; i++)
        x[i] = 1.0f;
    for (int i = 0; i < 4; i++) {
        osr_tensor v, a, b;
        if (i != 2) /* osr_step_end went on from 5 to 6 */
            osr_ctx_set_step(c->ctx, steps[i]);
        v = osr_input(c->ctx, matrix(1, COUNT), x);
        a = osr_dropout(c->ctx, v, 0.5f, 0);
        b = osr_dropout(c->ctx, v, 0.5f, 0);
        osr_read(c->ctx, osr_keep(c->ctx, b), y[i][1], COUNT);
        osr_read(c->ctx, a, y[i][0], COUNT);
        osr_step_end(c->ctx);
    }
    for (int k = 0; k < 2; k++)
        if (memcmp(y[0][k], y[1][k], sizeof x) != 0 || memcmp(y[0][k], y[3][k], sizeof x) != 0)
            return because(c, "one step gave two masks");
    if (memcmp(y[0][0], y[2][0], sizeof x) == 0 || memcmp(y[0][0], y[0][1], sizeof x) == 0)
        return because(c, "two steps or two dropouts share a mask");
    return NULL;
}

enum { AUG_N = 6, AUG_H = 7, AUG_W = 5, AUG_IMAGE = AUG_H * AUG_W * 3, AUG_PAD = 1 };

/* Is y the image p, mirrored or not, moved by (dx, dy) with black where nothing is? */
static int is_moved(const float *y, const unsigned char *p, int dx, int dy, int mirrored)
{
    for (int i = 0; i < AUG_IMAGE; i++) {
        const int x = i / 3 % AUG_W, sx = (mirrored ? AUG_W - 1 - x : x) + dx;
        const int sy = i / 3 / AUG_W + dy;
        const int inside = sx >= 0 && sx < AUG_W && sy >= 0 && sy < AUG_H;
        const double wanted = inside ? p[(sy * AUG_W + sx) * 3 + i % 3] / 255.0 : 0.0;
        if (fabs((double)y[i] - wanted) > 1e-6)
            return 0;
    }
    return 1;
}

/* Images by number, as they are and cropped and mirrored; the same bits from the same step, with
 * every augmentation at work. */
static const char *check_augment(struct check *c)
{
    static const uint32_t index[AUG_N] = {2, 0, 1, 2, 1, 0};
    unsigned char p[3 * AUG_IMAGE];
    float v[3 * AUG_IMAGE], y[AUG_N * AUG_IMAGE], again[AUG_N * AUG_IMAGE];
    double wanted[AUG_N * AUG_IMAGE];
    const osr_images_desc set = {p, 3, AUG_H, AUG_W, 3, 0};
    osr_images *images = NULL;
    osr_augment_desc d = {0};
    const char *why = NULL;
    fill_random(c, 30, v, 3 * AUG_IMAGE, 0.0, 255.9);
    for (int i = 0; i < 3 * AUG_IMAGE; i++)
        p[i] = (unsigned char)v[i];
    for (int i = 0; i < AUG_N * AUG_IMAGE; i++)
        wanted[i] = p[(int)index[i / AUG_IMAGE] * AUG_IMAGE + i % AUG_IMAGE] / 255.0;
    osr_images_create(c->ctx, &set, &images);
    osr_read(c->ctx, osr_augment(c->ctx, images, index, AUG_N, &d), y, AUG_N * AUG_IMAGE);
    osr_step_end(c->ctx);
    worse(c, relative_error(y, wanted, AUG_N * AUG_IMAGE));
    d.crop_pad = AUG_PAD;
    d.flip = 0.5f;
    osr_read(c->ctx, osr_augment(c->ctx, images, index, AUG_N, &d), y, AUG_N * AUG_IMAGE);
    osr_step_end(c->ctx);
    for (int n = 0; n < AUG_N && why == NULL; n++) {
        int found = 0;
        for (int k = 0; k < 18; k++)
            found |= is_moved(y + n * AUG_IMAGE, p + (int)index[n] * AUG_IMAGE, k % 3 - AUG_PAD,
                              k / 3 % 3 - AUG_PAD, k / 9);
        if (!found)
            why = because(c, "image %d is no crop of itself", n);
    }
    d.pillow.ops = d.tensorflow.ops = 4;
    d.pillow.magnitude = d.tensorflow.magnitude = 7.0f;
    d.contrast = d.brightness = d.resized_crop = 0.3f;
    d.rotate = 30.0f;
    for (int k = 0; k < 2; k++) {
        osr_ctx_set_step(c->ctx, 9);
        osr_read(c->ctx, osr_augment(c->ctx, images, index, AUG_N, &d), k == 0 ? y : again,
                 AUG_N * AUG_IMAGE);
        osr_step_end(c->ctx);
    }
    osr_images_destroy(images);
    if (why == NULL && memcmp(y, again, sizeof y) != 0)
        why = because(c, "one step gave two results");
    return why;
}

/* Ties count for the first column; the gradient of a clamped cosine is 0. */
static const char *check_ties(struct check *c)
{
    static const float ties[8] = {1.0f, 1.0f, 1.0f, 1.0f, -1.0f, -1.0f, -1.0f, -1.0f};
    static const int32_t labels[2] = {0, 1};
    float correct[2], g[8];
    osr_tensor x = osr_input(c->ctx, matrix(2, 4), ties), l = osr_labels(c->ctx, 2, 4, labels);
    osr_tensor most = osr_count_correct(c->ctx, x, l, 1);
    osr_tensor least = osr_count_correct(c->ctx, x, l, -1);
    osr_tensor gradient = osr_grad(c->ctx, osr_loss_movr(c->ctx, x, l, 32.0f, 0.5f), none, x);
    osr_read(c->ctx, most, &correct[0], 1);
    osr_read(c->ctx, least, &correct[1], 1);
    osr_read(c->ctx, gradient, g, 8);
    osr_step_end(c->ctx);
    for (int i = 0; i < 2; i++)
        if (correct[i] < 1.0f || correct[i] > 1.0f)
            return because(c, "count_correct: %g of rows of equal values", (double)correct[i]);
    for (int i = 0; i < 8; i++)
        if (g[i] != 0.0f)
            return because(c, "loss_movr: the gradient at a cosine of +-1 is %g", (double)g[i]);
    return NULL;
}

/* Gradients where a function has a corner: 0 or finite, as documented. */
static const char *check_corners(struct check *c)
{
    float zeros[4] = {0}, g[6], x[4] = {3.0f, 3.0f, 3.0f, 1.0f};
    osr_tensor v = vector_input(c, zeros, 4), z, image;
    osr_tensor anchors = osr_state(c->ctx, matrix(2, 3), zero), unit;
    osr_read(c->ctx, osr_grad(c->ctx, osr_sqrt(c->ctx, v), none, v), g, 4);
    osr_step_end(c->ctx);
    for (int i = 0; i < 4; i++)
        if (g[i] != 0.0f)
            return because(c, "the gradient of sqrt at 0 is %g", (double)g[i]);
    z = osr_input(c->ctx, matrix(1, 3), zeros);
    unit = osr_normalise(c->ctx, z);
    osr_read(c->ctx, osr_grad(c->ctx, osr_anchor_distance(c->ctx, z, anchors), none, z), g, 3);
    osr_read(c->ctx, unit, g + 3, 3);
    osr_step_end(c->ctx);
    for (int i = 0; i < 6; i++)
        if (g[i] != 0.0f)
            return because(c, "at the anchor, or of a row of zeros: %g", (double)g[i]);
    image = osr_input(c->ctx, osr_shape_make(4, 1, 2, 2, 1), x);
    osr_read(c->ctx, osr_grad(c->ctx, osr_max_pool(c->ctx, image, 2, 2), none, image), g, 4);
    osr_step_end(c->ctx);
    if (g[0] != 1.0f || g[1] != 0.0f || g[2] != 0.0f || g[3] != 0.0f)
        return because(c, "max_pool: the gradient of equal values is %g %g %g %g", (double)g[0],
                       (double)g[1], (double)g[2], (double)g[3]);
    return NULL;
}

/* --- optimisers: three parameters, of which first .. first + count - 1 are updated --- */

enum { OPT_PARAMETERS = 3, OPT_LARGEST = 660, OPT_STEPS = 3 };

static const struct optimiser_case {
    osr_optimiser_kind kind;
    float lr, momentum, decay;
    int decoupled;
    float beta1, beta2, eps;
    int first, count; /* count 0: all parameters of the context */
} optimiser_cases[] = {{OSR_SGD, 0.1f, 0.0f, 0.0f, 0, 0, 0, 0, 0, 3},
                       {OSR_SGD, 0.1f, 0.9f, 0.01f, 0, 0, 0, 0, 0, 0},
                       {OSR_SGD, 0.3f, 0.5f, 0.1f, 1, 0, 0, 0, 1, 1},
                       {OSR_SGD, 0.0f, 0.9f, 0.1f, 0, 0, 0, 0, 0, 3},
                       {OSR_ADAM, 0.01f, 0.0f, 0.0f, 0, 0, 0, 0, 0, 0},
                       {OSR_ADAM, 0.01f, 0.0f, 0.1f, 0, 0.8f, 0.99f, 1e-3f, 0, 2},
                       {OSR_ADAM, 0.01f, 0.0f, 0.1f, 1, 0, 0, 0, 1, 2},
                       {OSR_ADAM, 0.01f, 0.0f, 0.1f, 1, 0.5f, 0.9f, 1e-4f, 2, 1}};

/* One parameter on both sides: value, gradient, moments. */
struct optimised {
    osr_tensor part[4];
    int count;
    double exact[4][OPT_LARGEST];
};

static double or_else(float v, double otherwise)
{
    return v > 0.0f ? (double)v : otherwise;
}

static void optimised_start(struct check *c, struct optimised *p, uint64_t item)
{
    float v[OPT_LARGEST];
    p->part[1] = osr_gradient(c->ctx, p->part[0]);
    p->part[2] = osr_moment(c->ctx, p->part[0], 1);
    p->part[3] = osr_moment(c->ctx, p->part[0], 2);
    for (int k = 0; k < 4; k++) {
        fill_random(c, item * 4 + (uint64_t)k, v, (size_t)p->count, -1.0, 1.0);
        for (int i = 0; i < p->count; i++) {
            v[i] = k < 2 ? v[i] : 0.0f;
            p->exact[k][i] = (double)v[i];
        }
        osr_write(c->ctx, p->part[k], v, (size_t)p->count);
    }
}

static void optimised_step(struct check *c, struct optimised *p, const struct optimiser_case *o,
                           int step)
{
    osr_optimiser_desc desc = {o->kind,  o->lr,    o->momentum, o->decay, o->decoupled,
                               o->beta1, o->beta2, o->eps,      (uint32_t)step};
    struct ref_optimiser r = {(double)o->lr, (double)o->momentum, (double)o->decay,
                              or_else(o->beta1, (double)0.9f), or_else(o->beta2, (double)0.999f),
                              or_else(o->eps, (double)1e-8f), o->decoupled, step};
    osr_optimiser_step(c->ctx, &desc, o->count ? p[o->first].part[0] : none, o->count);
    osr_step_end(c->ctx);
    for (int i = o->first; i < (o->count ? o->first + o->count : OPT_PARAMETERS); i++) {
        double(*e)[OPT_LARGEST] = p[i].exact;
        if (o->kind == OSR_SGD)
            ref_sgd(e[0], e[1], e[2], (size_t)p[i].count, &r);
        else
            ref_adam(e[0], e[1], e[2], e[3], (size_t)p[i].count, &r);
    }
}

static const char *check_optimiser(struct check *c)
{
    static const int sizes[OPT_PARAMETERS] = {65, OPT_LARGEST, 3};
    struct optimised p[OPT_PARAMETERS];
    float found[OPT_LARGEST];
    for (int i = 0; i < OPT_PARAMETERS; i++) {
        p[i].count = sizes[i];
        p[i].part[0] = osr_param(c->ctx, vector(sizes[i]), zero);
    }
    for (size_t o = 0; o < sizeof optimiser_cases / sizeof optimiser_cases[0]; o++) {
        for (int i = 0; i < OPT_PARAMETERS; i++)
            optimised_start(c, &p[i], o * 3 + (uint64_t)i + 16);
        for (int step = 1; step <= OPT_STEPS; step++)
            optimised_step(c, p, &optimiser_cases[o], step);
        for (int i = 0; i < OPT_PARAMETERS; i++)
            for (int k = 0; k < 4; k++) {
                osr_read(c->ctx, p[i].part[k], found, (size_t)p[i].count);
                worse(c, relative_error(found, p[i].exact[k], (size_t)p[i].count));
            }
    }
    return NULL;
}

/* --- wrong arguments --- */

struct fixture {
    osr_tensor image, m23, m32, logits, labels, other_labels, total; /* of this step */
    osr_tensor old;                                                  /* of the step before */
    osr_tensor vector3, filter, other_filter, state3, anchors;       /* persistent */
    const float *buffer, *nan; /* values for every tensor; the same with a NaN */
    float *read;               /* room for what is read */
};

/* A status that must come back, as a handle: {0} when it did. */
static osr_tensor expect(osr_status got, osr_status wanted)
{
    osr_tensor t = {1, 1};
    return got == wanted ? none : t;
}

static osr_tensor conv(osr_ctx *c, osr_tensor x, osr_tensor w, int stride, int pad)
{
    osr_conv_desc desc = {0, 0, 0, 0};
    desc.stride = stride;
    desc.pad = pad;
    return osr_conv2d(c, x, w, &desc);
}

static osr_tensor norm(osr_ctx *c, const struct fixture *f, osr_tensor gamma, float momentum)
{
    osr_batchnorm_desc desc = {0.0f, 0.0f, 1};
    desc.momentum = momentum;
    return osr_batchnorm(c, f->image, gamma, f->vector3, f->state3, f->state3, &desc);
}

static osr_tensor moved(osr_ctx *c, osr_tensor x, int first, int count, float step)
{
    osr_perturb_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.first = first;
    desc.count = count;
    desc.step = step;
    return osr_perturb(c, x, &desc);
}

static osr_tensor jittered(osr_ctx *c, osr_tensor x)
{
    osr_perturb_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.count = 1;
    desc.step = desc.jitter = 0.1f;
    return osr_perturb(c, x, &desc);
}

/* A loss of its own gradient, which would need second derivatives. */
static osr_tensor slope_of_slope(osr_ctx *c, const struct fixture *f)
{
    osr_tensor x = osr_bias(c, f->m23, f->vector3);
    osr_tensor loss = osr_loss_cross_entropy(c, x, f->labels, 0.0f), g = osr_grad(c, loss, none, x);
    osr_backward(c, osr_add(c, loss, osr_sum(c, osr_mul(c, g, g))));
    return none;
}

static osr_status optimise(osr_ctx *c, osr_optimiser_kind kind, float lr, osr_tensor first,
                           int count)
{
    osr_optimiser_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = kind;
    desc.lr = lr;
    return osr_optimiser_step(c, &desc, first, count);
}

static osr_tensor param_of(osr_ctx *c, osr_shape shape, float value)
{
    osr_init init = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    init.value = value;
    return osr_param(c, shape, init);
}

static osr_tensor label_of(osr_ctx *c, int n, int32_t label)
{
    return osr_labels(c, n, 3, &label);
}

/* Reads a value that another op of the step used up. */
static osr_status read_lost(osr_ctx *c, const struct fixture *f)
{
    osr_tensor t = osr_exp(c, f->m23), u = osr_exp(c, t);
    osr_read(c, u, f->read, 6);
    return osr_read(c, t, f->read, 6);
}

/* An op on a value that another op of the step used up. */
static osr_tensor use_lost(osr_ctx *c, const struct fixture *f)
{
    osr_tensor t = osr_exp(c, f->m23), u = osr_exp(c, t);
    osr_read(c, u, f->read, 6);
    return osr_exp(c, t);
}

/* Name, status, call. c: context, f: fixture. */
#define ERROR_CASES(X)                                                                             \
    X("add", SHAPE, osr_add(c, f->m23, f->m32))                                                    \
    X("add dead", HANDLE, osr_add(c, f->m23, f->old))                                              \
    X("mul filter", SHAPE, osr_mul(c, f->image, f->filter))                                        \
    X("affine", ARG, osr_affine(c, f->m23, NAN, 0.0f))                                             \
    X("exp dead", HANDLE, osr_exp(c, f->old))                                                      \
    X("exp lost", HANDLE, use_lost(c, f))                                                          \
    X("sum", SHAPE, osr_sum(c, f->image))                                                          \
    X("mean", SHAPE, osr_mean(c, f->image))                                                        \
    X("row_sum", SHAPE, osr_row_sum(c, f->image))                                                  \
    X("pick", SHAPE, osr_pick(c, f->m23, f->other_labels))                                         \
    X("pick no labels", HANDLE, osr_pick(c, f->m23, f->total))                                     \
    X("count_correct", ARG, osr_count_correct(c, f->m23, f->labels, 2))                            \
    X("matmul", SHAPE, osr_matmul(c, f->m23, f->m23, 0, 0))                                        \
    X("matmul twice", ARG, osr_matmul(c, f->m23, f->m32, 1, 1))                                    \
    X("linear", SHAPE, osr_linear(c, f->m23, f->m32, none))                                        \
    X("linear bias", SHAPE, osr_linear(c, f->m23, f->m23, f->vector3))                             \
    X("conv2d", SHAPE, conv(c, f->image, f->other_filter, 1, 0))                                   \
    X("conv2d matrix", SHAPE, conv(c, f->m23, f->filter, 1, 0))                                    \
    X("conv2d image filter", SHAPE, conv(c, f->image, f->image, 1, 0))                             \
    X("conv2d stride", ARG, conv(c, f->image, f->filter, -1, 0))                                   \
    X("conv2d pad", ARG, conv(c, f->image, f->filter, 1, -1))                                      \
    X("bias", SHAPE, osr_bias(c, f->m32, f->vector3))                                              \
    X("bias value", SHAPE, osr_bias(c, f->m23, f->total))                                          \
    X("batchnorm", SHAPE, norm(c, f, f->filter, 0.1f))                                             \
    X("batchnorm momentum", ARG, norm(c, f, f->vector3, 2.0f))                                     \
    X("leaky_relu", ARG, osr_leaky_relu(c, f->m23, 1.5f))                                          \
    X("leaky_relu NaN", ARG, osr_leaky_relu(c, f->m23, NAN))                                       \
    X("dropout", ARG, osr_dropout(c, f->m23, 1.0f, 0))                                             \
    X("max_pool", SHAPE, osr_max_pool(c, f->image, 6, 0))                                          \
    X("max_pool size", ARG, osr_max_pool(c, f->image, 0, 1))                                       \
    X("avg_pool stride", ARG, osr_avg_pool(c, f->image, 2, -1))                                    \
    X("global_avg_pool", SHAPE, osr_global_avg_pool(c, f->m23))                                    \
    X("flatten", SHAPE, osr_flatten(c, f->m23))                                                    \
    X("softmax", SHAPE, osr_softmax(c, f->image))                                                  \
    X("logsumexp", SHAPE, osr_logsumexp(c, f->total))                                              \
    X("normalise", SHAPE, osr_normalise(c, f->vector3))                                            \
    X("anchor_distance", SHAPE, osr_anchor_distance(c, f->m32, f->anchors))                        \
    X("anchor_distance value", SHAPE, osr_anchor_distance(c, f->m23, f->m23))                      \
    X("squared_distance", SHAPE, osr_squared_distance(c, f->m32, f->anchors, 1.0f, 1.0f))          \
    X("squared_distance scale", ARG, osr_squared_distance(c, f->m23, f->anchors, 0.0f, 1.0f))      \
    X("squared_distance rate", ARG, osr_squared_distance(c, f->m23, f->anchors, 1.0f, NAN))        \
    X("first_rows", SHAPE, osr_first_rows(c, f->m23, 3))                                           \
    X("first_rows none", SHAPE, osr_first_rows(c, f->m23, 0))                                      \
    X("quarter_turns", SHAPE,                                                                      \
      osr_quarter_turns(c, osr_input(c, osr_shape_make(4, 2, 5, 3, 5), f->buffer)))                \
    X("loss labels", SHAPE, osr_loss_cross_entropy(c, f->m32, f->labels, 0.0f))                    \
    X("loss_cross_entropy", ARG, osr_loss_cross_entropy(c, f->m23, f->labels, 1.0f))               \
    X("loss_cac", ARG, osr_loss_cac(c, f->m23, f->labels, -1.0f))                                  \
    X("loss_difair", ARG, osr_loss_difair(c, f->m23, f->labels, 0.0f, 0.1f))                       \
    X("loss_movr", ARG, osr_loss_movr(c, f->m23, f->labels, 0.0f, 0.5f))                           \
    X("loss_movr margin", ARG, osr_loss_movr(c, f->m23, f->labels, 32.0f, -0.5f))                  \
    X("loss_points", ARG, osr_loss_points(c, OSR_LOSS_CE, f->m23, f->labels, none))                \
    X("loss_points radius", SHAPE,                                                                 \
      osr_loss_points(c, OSR_LOSS_RPL, f->m23, f->labels, f->vector3))                             \
    X("loss_correlation", SHAPE, osr_loss_correlation(c, f->filter, 3, OSR_CORRELATION_CODE))      \
    X("perturb no draw", ARG, jittered(c, f->image))                                               \
    X("gradient twice", UNSUPPORTED, slope_of_slope(c, f))                                         \
    X("backward", SHAPE, expect(osr_backward(c, f->m23), OSR_SHAPE))                               \
    X("backward alone", ARG, expect(osr_backward(c, f->total), OSR_ARG))                           \
    X("backward dead", HANDLE, expect(osr_backward(c, f->old), OSR_HANDLE))                        \
    X("grad", ARG, osr_grad(c, f->total, none, f->image))                                          \
    X("grad seed", SHAPE, osr_grad(c, f->total, f->m23, f->m23))                                   \
    X("input NaN", NAN, osr_input(c, matrix(2, 3), f->nan))                                        \
    X("input NULL", ARG, osr_input(c, matrix(2, 3), NULL))                                         \
    X("input empty", SHAPE, osr_input(c, matrix(0, 3), f->buffer))                                 \
    X("labels", ARG, label_of(c, 1, 3))                                                            \
    X("labels negative", ARG, label_of(c, 1, -1))                                                  \
    X("labels none", ARG, label_of(c, 0, 0))                                                       \
    X("read count", SHAPE, expect(osr_read(c, f->m23, f->read, 5), OSR_SHAPE))                   \
    X("read dead", HANDLE, expect(osr_read(c, f->old, f->read, 6), OSR_HANDLE))                  \
    X("read lost", HANDLE, expect(read_lost(c, f), OSR_HANDLE))                                    \
    X("write value", HANDLE, expect(osr_write(c, f->m23, f->buffer, 6), OSR_HANDLE))               \
    X("write NaN", NAN, expect(osr_write(c, f->vector3, f->nan, 3), OSR_NAN))                      \
    X("write count", SHAPE, expect(osr_write(c, f->vector3, f->buffer, 2), OSR_SHAPE))             \
    X("param", SHAPE, param_of(c, matrix(3, -1), 0.0f))                                            \
    X("param init", ARG, param_of(c, matrix(3, 3), NAN))                                           \
    X("gradient", HANDLE, osr_gradient(c, f->state3))                                              \
    X("moment", ARG, osr_moment(c, f->vector3, 3))                                                 \
    X("keep dead", HANDLE, osr_keep(c, f->old))                                                    \
    X("optimiser", ARG, expect(optimise(c, OSR_SGD, -1.0f, none, 0), OSR_ARG))                     \
    X("optimiser NULL", ARG, expect(osr_optimiser_step(c, NULL, none, 0), OSR_ARG))                \
    X("perturb NULL", ARG, osr_perturb(c, f->image, NULL))                                         \
    X("optimiser step", ARG, expect(optimise(c, OSR_ADAM, 0.1f, none, 0), OSR_ARG))                \
    X("optimiser state", HANDLE, expect(optimise(c, OSR_SGD, 1.0f, f->state3, 1), OSR_HANDLE))     \
    X("optimiser count", ARG, expect(optimise(c, OSR_SGD, 1.0f, f->vector3, 0), OSR_ARG))          \
    X("perturb", ARG, moved(c, f->image, 0, 0, 0.1f))                                              \
    X("perturb beyond", ARG, moved(c, f->image, 70, 6, 0.1f))                                      \
    X("perturb step", ARG, moved(c, f->image, 0, 1, 0.0f))                                         \
    X("difference_norm", SHAPE, osr_difference_norm(c, f->m32, f->m32, 0.1f, 1))                   \
    X("square_sum", SHAPE, osr_square_sum(c, f->m23))

#define ERROR_ROW(name, status, call) {name, OSR_##status},
static const struct error_case {
    const char *name;
    osr_status status;
} error_cases[] = {ERROR_CASES(ERROR_ROW)};

enum { ERROR_COUNT = sizeof error_cases / sizeof error_cases[0] };

/* The call of one row. */
static osr_tensor error_call(int row, osr_ctx *c, const struct fixture *f)
{
    int at = 0;
#define ERROR_CALL(name, status, call)                                                             \
    if (row == at++)                                                                               \
        return call;
    ERROR_CASES(ERROR_CALL)
    return none;
}

static void fixture_start(struct check *c, struct fixture *f)
{
    osr_ctx *ctx = c->ctx;
    f->vector3 = osr_param(ctx, vector(3), zero);
    f->state3 = osr_state(ctx, vector(3), zero);
    f->filter = osr_param(ctx, osr_shape_make(4, 4, 3, 3, 3), zero);
    f->other_filter = osr_param(ctx, osr_shape_make(4, 4, 2, 3, 3), zero);
    f->anchors = osr_state(ctx, matrix(3, 3), zero);
}

static void fixture_step(struct check *c, struct fixture *f)
{
    static const int32_t labels[5] = {0, 2, 1, 0, 2};
    f->old = osr_input(c->ctx, matrix(2, 3), f->buffer);
    osr_step_end(c->ctx);
    f->image = osr_input(c->ctx, osr_shape_make(4, 2, 5, 5, 3), f->buffer);
    f->m23 = osr_input(c->ctx, matrix(2, 3), f->buffer);
    f->m32 = osr_input(c->ctx, matrix(3, 2), f->buffer);
    f->labels = osr_labels(c->ctx, 2, 3, labels);
    f->other_labels = osr_labels(c->ctx, 5, 3, labels);
    f->total = osr_sum(c->ctx, f->m23);
}

/* The documented status and a message of one line; the first error stays, {0} passes silently. */
static const char *check_error(struct check *c, const struct fixture *f, int row)
{
    const struct error_case *e = &error_cases[row];
    char message[512];
    osr_tensor t = error_call(row, c->ctx, f);
    osr_status status = osr_ctx_status(c->ctx);
    snprintf(message, sizeof message, "%s", osr_ctx_message(c->ctx));
    if (status != e->status)
        return because(c, "%s: \"%s\", not \"%s\"", e->name, osr_status_text(status),
                       osr_status_text(e->status));
    if (t.index != 0)
        return because(c, "%s: no error, or another, came back", e->name);
    if (message[0] == '\0' || strchr(message, '\n') != NULL)
        return because(c, "%s: no message of one line", e->name);
    t = osr_softmax(c->ctx, osr_add(c->ctx, t, f->image));
    if (t.index != 0 || strcmp(message, osr_ctx_message(c->ctx)) != 0)
        return because(c, "%s: a later error took its place", e->name);
    osr_ctx_clear_error(c->ctx);
    return NULL;
}

static const char *check_errors(struct check *c)
{
    struct fixture f;
    float buffer[256], nan[256], read[6], sum;
    double wanted = 0.0;
    memset(&f, 0, sizeof f);
    fill_random(c, 5, buffer, 256, -1.0, 1.0);
    memcpy(nan, buffer, sizeof nan);
    nan[1] = NAN;
    f.buffer = buffer;
    f.nan = nan;
    f.read = read;
    fixture_start(c, &f);
    for (int i = 0; i < ERROR_COUNT; i++) {
        const char *why;
        fixture_step(c, &f);
        if (osr_ctx_status(c->ctx) != OSR_OK)
            return because(c, "after %s: %.200s", error_cases[i > 0 ? i - 1 : 0].name,
                           osr_ctx_message(c->ctx));
        why = check_error(c, &f, i);
        if (why != NULL)
            return why;
    }
    fixture_step(c, &f);
    osr_read(c->ctx, f.total, &sum, 1);
    osr_step_end(c->ctx);
    for (int i = 0; i < 6; i++)
        wanted += (double)buffer[i];
    worse(c, relative_error(&sum, &wanted, 1));
    return NULL;
}

const struct check_row check_table[] = {
    {"optimiser", "optimiser", 1e-5, check_optimiser},
    {"augment", "augment", 1e-6, check_augment},
    {"tape fusion", "none", 1e-6, check_fusion},
    {"tape accumulation", "", 1e-6, check_accumulation},
    {"tape wide filters", "", 1e-6, check_wide_filters},
    {"tape shared value", "", 1e-6, check_shared},
    {"tape unreached", "clear", 0.0, check_unreached},
    {"tape losses", "part", 1e-6, check_losses},
    {"tape given gradients", "", 1e-6, check_given},
    {"tape plans", "", 0.0, check_plans},
    {"tape partial reads", "", 1e-5, check_partial},
    {"tape read first", "", 0.0, check_read_first},
    {"tape inference", "", 1e-5, check_inference},
    {"tape late gradient", "", 0.0, check_late_gradient},
    {"tape training", "part norm_drop", 1e-5, check_training},
    {"tape lanes", "", 1e-5, check_lanes},
    {"tape values", "", 0.0, check_values},
    {"tape masks", "", 0.0, check_masks},
    {"tape corners", "", 0.0, check_corners},
    {"tape ties", "", 0.0, check_ties},
    {"errors", "", 1e-5, check_errors},
    {"networks", "", 1e-5, check_networks}};

const int check_table_count = (int)(sizeof check_table / sizeof check_table[0]);
const int check_table_small = (int)(sizeof check_table / sizeof check_table[0]) - 1;
