/* Train an open-set model on arrays of pixels, choose its threshold and save it for the examples
 * that follow. Two classes of 16 x 16 grey pictures: an upright bar and a level one, on noise. */
#include "osr.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 16, PIXELS = SIDE * SIDE, CLASSES = 2, BATCH = 64, STEPS = 100 };

/* The network: a table. CAC wants a last layer with one value a class. */
static const osr_layer layers[] = {
    {.kind = OSR_LAYER_CONV, .out = 8, .size = 3, .stride = 2, .pad = 1},
    {.kind = OSR_LAYER_BATCHNORM},
    {.kind = OSR_LAYER_LEAKY_RELU, .slope = 0.2f},
    {.kind = OSR_LAYER_CONV, .out = 16, .size = 3, .stride = 2, .pad = 1},
    {.kind = OSR_LAYER_BATCHNORM},
    {.kind = OSR_LAYER_LEAKY_RELU, .slope = 0.2f},
    {.kind = OSR_LAYER_FLATTEN},
    {.kind = OSR_LAYER_LINEAR, .out = CLASSES, .bias = 1}};

static const char *const names[CLASSES] = {"upright bar", "level bar"};

/* Pictures in 0..1, and the class of each. */
static void draw(float images[BATCH][PIXELS], int32_t labels[BATCH])
{
    for (int i = 0; i < BATCH; ++i) {
        const int at = 3 + rand() % 9;
        labels[i] = rand() % CLASSES;
        for (int p = 0; p < PIXELS; ++p) {
            const int across = labels[i] == 0 ? p % SIDE : p / SIDE;
            const float noise = 0.3f * (float)rand() / (float)RAND_MAX;
            images[i][p] = noise + (across == at || across == at + 1 ? 0.7f : 0.0f);
        }
    }
}

/* Anchors from where the classes lie, then the threshold that accepts 95 of 100 known pictures. */
static void calibrate(osr_model *model, const float *images, const int32_t *labels)
{
    static float logits[BATCH * CLASSES], distances[BATCH * CLASSES];
    const osr_outputs out = {.logits = logits, .distances = distances};
    const osr_score_row *row = osr_score_find("cac");
    double scores[BATCH], threshold = 0.0;
    osr_model_calibrate_start(model, OSR_CALIBRATE_ALL);
    osr_model_calibrate_add(model, images, labels, BATCH);
    osr_model_calibrate_end(model, NULL);
    osr_model_run(model, images, NULL, BATCH, &out);
    osr_model_score(model, row, &out, BATCH, scores, NULL);
    osr_metric_threshold(osr_model_context(model), scores, BATCH, 0.95, &threshold);
    osr_model_set_threshold(model, row, threshold);
}

int main(void)
{
    static float images[BATCH][PIXELS];
    static int32_t labels[BATCH];
    const osr_optimiser_desc sgd = {.lr = 0.01f, .momentum = 0.9f};
    osr_model_desc desc = {.height = SIDE, .width = SIDE, .channels = 1,
                           .mean = {0.25f}, .std = {0.25f}, /* of the pixels */
                           .classes = CLASSES, .class_names = names, .layers = layers,
                           .layer_count = sizeof layers / sizeof layers[0]};
    float loss = 0.0f, correct = 0.0f;
    osr_ctx *ctx = NULL;
    osr_model *model = NULL;
    desc.method = osr_method_find("cac");
    desc.numbers = desc.method->numbers;
    if (osr_ctx_create(NULL, &ctx) == OSR_OK)
        osr_model_create(ctx, &desc, &model);
    for (int step = 0; step < STEPS && osr_ctx_status(ctx) == OSR_OK; ++step) {
        draw(images, labels);
        osr_model_train(model, images[0], labels, BATCH, &sgd, &loss, &correct);
    }
    if (osr_ctx_status(ctx) == OSR_OK) {
        printf("last step: loss %.3f, %.0f of %d right\n", (double)loss, (double)correct, BATCH);
        draw(images, labels);
        calibrate(model, images[0], labels);
        osr_model_save(model, "tiny.safetensors");
    }
    const int failed = osr_ctx_status(ctx) != OSR_OK; /* the first error is kept */
    if (failed)
        printf("error: %s\n", osr_ctx_message(ctx));
    osr_model_destroy(model);
    osr_ctx_destroy(ctx);
    return failed;
}
