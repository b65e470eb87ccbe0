/* Train with a loss of one's own: write its formula with ops, and its gradient follows.
 *
 * Two layers learn from plain arrays whether a point lies in a ring. The loss is Brier's:
 *   L = mean_n sum_k (p_nk - t_nk)^2 = mean_n [ sum_k p_nk^2 - 2 p_n,label + 1 ],  p = softmax */
#include "osr.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINTS = 128, HIDDEN = 32, CLASSES = 2, STEPS = 300 };

struct net {
    osr_tensor w1, b1, w2, b2;
};

static osr_tensor parameter(osr_ctx *ctx, int rows, int columns, float scale)
{
    const osr_init init = {OSR_INIT_NORMAL, 0.0f, scale};
    return osr_param(ctx, osr_shape_make(columns > 0 ? 2 : 1, rows, columns, 0, 0), init);
}

static osr_tensor forward(osr_ctx *ctx, const struct net *net, osr_tensor x)
{
    const osr_tensor h = osr_leaky_relu(ctx, osr_linear(ctx, x, net->w1, net->b1), 0.1f);
    return osr_linear(ctx, h, net->w2, net->b2);
}

static osr_tensor brier(osr_ctx *ctx, osr_tensor logits, osr_tensor labels)
{
    const osr_tensor p = osr_softmax(ctx, logits);
    const osr_tensor squares = osr_row_sum(ctx, osr_mul(ctx, p, p));
    const osr_tensor right = osr_affine(ctx, osr_pick(ctx, p, labels), -2.0f, 1.0f);
    return osr_mean(ctx, osr_add(ctx, squares, right));
}

/* Points of the square from -1 to 1; class 1 lies in the ring. */
static void draw(float x[POINTS][2], int32_t labels[POINTS])
{
    for (int i = 0; i < POINTS; ++i) {
        for (int k = 0; k < 2; ++k)
            x[i][k] = 2.0f * (float)rand() / (float)RAND_MAX - 1.0f;
        const float r = sqrtf(x[i][0] * x[i][0] + x[i][1] * x[i][1]);
        labels[i] = r > 0.4f && r < 0.8f;
    }
}

int main(void)
{
    float x[POINTS][2], loss = 0.0f, correct = 0.0f;
    int32_t labels[POINTS];
    osr_optimiser_desc adam = {.kind = OSR_ADAM, .lr = 0.02f};
    const osr_tensor all = {0, 0}; /* every parameter */
    osr_ctx *ctx = NULL;
    struct net net;
    osr_ctx_create(NULL, &ctx); /* after an error all further calls do nothing */
    net.w1 = parameter(ctx, HIDDEN, 2, 1.0f);
    net.b1 = parameter(ctx, HIDDEN, 0, 0.5f);
    net.w2 = parameter(ctx, CLASSES, HIDDEN, 0.2f);
    net.b2 = parameter(ctx, CLASSES, 0, 0.0f);
    for (int step = 1; step <= STEPS && osr_ctx_status(ctx) == OSR_OK; ++step) {
        draw(x, labels);
        const osr_tensor in = osr_input(ctx, osr_shape_make(2, POINTS, 2, 0, 0), x[0]);
        const osr_tensor y = osr_labels(ctx, POINTS, CLASSES, labels);
        const osr_tensor logits = forward(ctx, &net, in);
        const osr_tensor l = osr_keep(ctx, brier(ctx, logits, y));
        const osr_tensor right = osr_count_correct(ctx, logits, y, 1);
        osr_backward(ctx, l);
        adam.step = (uint32_t)step;
        osr_optimiser_step(ctx, &adam, all, 0);
        if (step == 1 || step % 100 == 0) { /* reading waits for the device */
            osr_read(ctx, l, &loss, 1);
            osr_read(ctx, right, &correct, 1);
            printf("step %3d: loss %.3f, %.0f of %d right\n", step, (double)loss, (double)correct,
                   POINTS);
        }
        osr_step_end(ctx);
    }
    const int failed = osr_ctx_status(ctx) != OSR_OK || correct < 0.8f * POINTS;
    if (osr_ctx_status(ctx) != OSR_OK)
        printf("error: %s\n", osr_ctx_message(ctx));
    osr_ctx_destroy(ctx);
    return failed;
}
