/* A network of one's own: a table of layers, here a residual block and the layers round it.
 *
 * A layer reads the one before it. `from` and `with` name others by number, the first layer of the
 * table being 1: the sum below adds what layer 3 gave to what comes out of the second convolution,
 * and the shortcut of the second block reads layer 8. Cross-entropy wants a last layer with one
 * value a class. Three classes of 16 x 16 colour pictures: a disc, a ring or a cross. */
#include "osr.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 16, PIXELS = SIDE * SIDE, CLASSES = 3, BATCH = 64, STEPS = 150 };

static const osr_layer layers[] = {
    {.kind = OSR_LAYER_CONV, .out = 16, .size = 3, .pad = 1},              /* 1  [16, 16, 16]   */
    {.kind = OSR_LAYER_BATCHNORM},                                         /* 2                 */
    {.kind = OSR_LAYER_LEAKY_RELU},                                        /* 3  slope 0: ReLU  */
    {.kind = OSR_LAYER_CONV, .out = 16, .size = 3, .pad = 1},              /* 4                 */
    {.kind = OSR_LAYER_BATCHNORM},                                         /* 5                 */
    {.kind = OSR_LAYER_LEAKY_RELU},                                        /* 6                 */
    {.kind = OSR_LAYER_CONV, .out = 16, .size = 3, .pad = 1},              /* 7                 */
    {.kind = OSR_LAYER_ADD, .with = 3},                                    /* 8                 */
    {.kind = OSR_LAYER_CONV, .out = 32, .size = 3, .pad = 1, .stride = 2}, /* 9  [8, 8, 32]     */
    {.kind = OSR_LAYER_BATCHNORM},                                         /* 10                */
    {.kind = OSR_LAYER_CONV, .out = 32, .size = 1, .stride = 2, .from = 8},/* 11 the shortcut   */
    {.kind = OSR_LAYER_ADD, .with = 10},                                   /* 12                */
    {.kind = OSR_LAYER_LEAKY_RELU, .slope = 0.1f},                         /* 13                */
    {.kind = OSR_LAYER_DROPOUT, .rate = 0.1f, .channels = 1},              /* 14                */
    {.kind = OSR_LAYER_GLOBAL_AVG_POOL},                                   /* 15 [32]           */
    {.kind = OSR_LAYER_LINEAR, .out = CLASSES, .bias = 1}};                /* 16 [3]            */

static const char *const names[CLASSES] = {"disc", "ring", "cross"};

/* Pictures in 0..1, and the class of each. */
static void draw(float images[BATCH][PIXELS][3], int32_t labels[BATCH])
{
    for (int i = 0; i < BATCH; ++i) {
        const int y = 6 + rand() % 4, x = 6 + rand() % 4, colour = rand() % 3;
        labels[i] = rand() % CLASSES;
        for (int p = 0; p < PIXELS; ++p) {
            const int dy = p / SIDE - y, dx = p % SIDE - x, r = dy * dy + dx * dx;
            const int on = labels[i] == 0   ? r < 20
                           : labels[i] == 1 ? r > 8 && r < 26
                                            : r < 26 && (abs(dy) < 2 || abs(dx) < 2);
            for (int c = 0; c < 3; ++c)
                images[i][p][c] = 0.3f * (float)rand() / (float)RAND_MAX
                                  + (on && c == colour ? 0.7f : 0.0f);
        }
    }
}

int main(void)
{
    static float images[BATCH][PIXELS][3];
    static int32_t labels[BATCH];
    osr_optimiser_desc sgd = {.lr = 0.02f, .momentum = 0.9f, .weight_decay = 1e-4f};
    osr_model_desc desc = {.height = SIDE, .width = SIDE, .channels = 3,
                           .mean = {0.2f, 0.2f, 0.2f}, .std = {0.2f, 0.2f, 0.2f},
                           .classes = CLASSES, .class_names = names, .layers = layers,
                           .layer_count = sizeof layers / sizeof layers[0],
                           .net_name = "two blocks"};
    float loss = 0.0f, correct = 0.0f;
    osr_ctx *ctx = NULL;
    osr_model *model = NULL, *again = NULL;
    desc.method = osr_method_find("ce");
    desc.numbers = desc.method->numbers;
    if (osr_ctx_create(NULL, &ctx) == OSR_OK)
        osr_model_create(ctx, &desc, &model); /* a table that does not fit is refused, by layer */
    for (int step = 1; step <= STEPS && osr_ctx_status(ctx) == OSR_OK; ++step) {
        draw(images, labels);
        osr_model_train(model, images[0][0], labels, BATCH, &sgd, &loss, &correct);
        if (step % 50 == 0)
            printf("step %3d: loss %.3f, %.0f of %d right\n", step, (double)loss, (double)correct,
                   BATCH);
    }
    /* The file holds the table, too: whoever loads it needs nothing of this program. */
    if (osr_ctx_status(ctx) == OSR_OK && osr_model_save(model, "own.safetensors") == OSR_OK
        && osr_model_load(ctx, "own.safetensors", &again) == OSR_OK)
        printf("%s: %d layers, %d features\n", osr_model_get_desc(again)->net_name,
               osr_model_get_desc(again)->layer_count, osr_model_dims(again));
    const int failed = osr_ctx_status(ctx) != OSR_OK || correct < 0.8f * BATCH;
    if (osr_ctx_status(ctx) != OSR_OK)
        printf("error: %s\n", osr_ctx_message(ctx));
    osr_model_destroy(model);
    osr_model_destroy(again);
    osr_ctx_destroy(ctx);
    return failed;
}
