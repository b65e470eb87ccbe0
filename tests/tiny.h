/* tiny.h - a small model of any method, and what is done with one from its making to its file;
 * for tests that make something fail or count what happens */
#ifndef TINY_H
#define TINY_H

#include "osr.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TINY_SIDE = 8, TINY_CHANNELS = 3, TINY_CLASSES = 3, TINY_BATCH = 4, TINY_LAYERS = 7 };
enum { TINY_IMAGE = TINY_SIDE * TINY_SIDE * TINY_CHANNELS, TINY_WIDE = 32 };

/* Two batch sizes are used: TINY_BATCH and one less. */
typedef struct tiny {
    osr_ctx *ctx;
    osr_model *model;
    float images[TINY_BATCH * TINY_IMAGE];
    int32_t labels[TINY_BATCH];
} tiny;

/* conv, batchnorm, leaky_relu, dropout, max_pool, global_avg_pool, linear */
static inline int tiny_layers(osr_layer *layers, int width)
{
    static const osr_layer_kind kinds[TINY_LAYERS] = {
        OSR_LAYER_CONV,     OSR_LAYER_BATCHNORM,       OSR_LAYER_LEAKY_RELU, OSR_LAYER_DROPOUT,
        OSR_LAYER_MAX_POOL, OSR_LAYER_GLOBAL_AVG_POOL, OSR_LAYER_LINEAR};
    memset(layers, 0, TINY_LAYERS * sizeof *layers);
    for (int i = 0; i < TINY_LAYERS; i++)
        layers[i].kind = kinds[i];
    layers[0].out = 6;
    layers[0].size = 3;
    layers[0].pad = 1;
    layers[2].slope = 0.1f;
    layers[3].rate = 0.2f;
    layers[4].size = 2;
    layers[6].out = width;
    return TINY_LAYERS;
}

/* DIFAIR penalises the filters of its last convolution: conv, leaky_relu, global_avg_pool. */
static inline int tiny_filters(osr_layer *layers, int width)
{
    memset(layers, 0, TINY_LAYERS * sizeof *layers);
    layers[0].kind = OSR_LAYER_CONV;
    layers[0].out = width;
    layers[0].size = 3;
    layers[0].pad = 1;
    layers[1].kind = OSR_LAYER_LEAKY_RELU;
    layers[2].kind = OSR_LAYER_GLOBAL_AVG_POOL;
    return 3;
}

static inline osr_status tiny_create(tiny *t, osr_ctx *ctx, const osr_method_row *method)
{
    osr_layer layers[TINY_LAYERS];
    osr_model_desc desc;
    int width = osr_method_width(method, &method->numbers, TINY_CLASSES);
    memset(t, 0, sizeof *t);
    memset(&desc, 0, sizeof desc);
    t->ctx = ctx;
    for (int i = 0; i < TINY_BATCH * TINY_IMAGE; i++)
        t->images[i] = (float)(i * 37 % 101) / 101.0f;
    for (int i = 0; i < TINY_BATCH; i++)
        t->labels[i] = i % TINY_CLASSES;
    desc.method = method;
    desc.numbers = method->numbers;
    if (method->loss == OSR_LOSS_MOVR)
        desc.numbers.rotation = OSR_MOVR_ROTATION;
    desc.height = desc.width = TINY_SIDE;
    desc.channels = TINY_CHANNELS;
    for (int i = 0; i < TINY_CHANNELS; i++)
        desc.std[i] = 0.5f;
    desc.classes = TINY_CLASSES;
    if (strcmp(method->name, "difair") == 0)
        desc.layer_count = tiny_filters(layers, width);
    else
        desc.layer_count = tiny_layers(layers, width > 0 ? width : 8);
    desc.layers = layers;
    return osr_model_create(ctx, &desc, &t->model);
}

static inline osr_status tiny_train(tiny *t, int batch)
{
    osr_optimiser_desc o;
    float loss, correct;
    memset(&o, 0, sizeof o);
    o.lr = 0.01f;
    o.momentum = 0.9f;
    return osr_model_train(t->model, t->images, t->labels, batch, &o, &loss, &correct);
}

/* A step on a batch that is gathered and augmented on the device. */
static inline osr_status tiny_augment(tiny *t)
{
    static const unsigned char pixels[2 * TINY_IMAGE] = {9};
    static const uint32_t index[TINY_BATCH] = {1, 0, 1, 1};
    osr_images_desc d;
    osr_augment_desc a;
    osr_optimiser_desc o;
    osr_images *images = NULL;
    memset(&d, 0, sizeof d);
    memset(&a, 0, sizeof a);
    memset(&o, 0, sizeof o);
    o.lr = 0.01f;
    d.pixels = pixels;
    d.count = 2;
    d.height = d.width = TINY_SIDE;
    d.channels = TINY_CHANNELS;
    a.pillow.ops = 1;
    a.crop_pad = 1;
    if (osr_images_create(t->ctx, &d, &images) == OSR_OK)
        osr_model_train_on(t->model, osr_augment(t->ctx, images, index, TINY_BATCH, &a),
                           t->labels, &o, NULL, NULL);
    osr_images_destroy(images);
    return osr_ctx_status(t->ctx);
}

/* Outputs, classes and scores of a batch. */
static inline osr_status tiny_run(tiny *t, int batch)
{
    const osr_method_row *method = osr_model_get_desc(t->model)->method;
    float values[4][TINY_BATCH * TINY_WIDE], loss;
    double scores[TINY_BATCH];
    int32_t classes[TINY_BATCH];
    osr_outputs out;
    memset(&out, 0, sizeof out);
    if (osr_model_dims(t->model) > TINY_WIDE)
        return OSR_SHAPE;
    out.logits = method->outputs & OSR_OUT_LOGITS ? values[0] : NULL;
    out.distances = method->outputs & OSR_OUT_DISTANCES ? values[1] : NULL;
    out.cosines = method->outputs & OSR_OUT_COSINES ? values[2] : NULL;
    out.representation = method->outputs & OSR_OUT_REPRESENTATION ? values[3] : NULL;
    out.loss = &loss;
    if (osr_model_run(t->model, t->images, t->labels, batch, &out) != OSR_OK)
        return osr_ctx_status(t->ctx);
    return osr_model_score(t->model, osr_score_find(method->score), &out, batch, scores, classes);
}

static inline osr_status tiny_calibrate(tiny *t)
{
    osr_model_calibrate_start(t->model, OSR_CALIBRATE_ALL);
    osr_model_calibrate_add(t->model, t->images, t->labels, TINY_BATCH);
    return osr_model_calibrate_end(t->model, NULL);
}

/* Every score that the model has. */
static inline osr_status tiny_scores(tiny *t)
{
    float values[6][TINY_BATCH * TINY_WIDE];
    double norms[TINY_BATCH], scores[TINY_BATCH];
    osr_outputs out;
    memset(&out, 0, sizeof out);
    out.logits = values[0];
    out.distances = values[1];
    out.cosines = values[2];
    out.losses = values[3];
    out.features = values[4];
    out.representation = values[5];
    out.jacobian = norms;
    osr_model_run(t->model, t->images, NULL, TINY_BATCH, &out);
    for (int i = 0; osr_score_at(i) != NULL && osr_ctx_status(t->ctx) == OSR_OK; i++)
        if (osr_model_has_score(t->model, osr_score_at(i)))
            osr_model_score(t->model, osr_score_at(i), &out, TINY_BATCH, scores, NULL);
    return osr_ctx_status(t->ctx);
}

/* A picture of another size than the network's. */
static inline osr_status tiny_predict(tiny *t)
{
    unsigned char pixels[5 * 9];
    osr_prediction prediction;
    for (int i = 0; i < 5 * 9; i++)
        pixels[i] = (unsigned char)(i * 5);
    return osr_model_predict(t->model, pixels, 1, 5, 9, 1, &prediction);
}

static inline osr_status tiny_jacobian(tiny *t)
{
    osr_jacobian_desc desc;
    double norms[TINY_BATCH];
    memset(&desc, 0, sizeof desc);
    desc.method = OSR_JACOBIAN_EXACT;
    osr_model_jacobian(t->model, t->images, 1, &desc, norms, NULL);
    desc.method = OSR_JACOBIAN_FD;
    desc.direction = OSR_RADEMACHER;
    desc.directions = 3;
    return osr_model_jacobian(t->model, t->images, TINY_BATCH, &desc, norms, NULL);
}

/* To the bytes of a file and back to a second model; with path to that file, too. */
static inline osr_status tiny_files(tiny *t, const char *path)
{
    osr_writer *writer = NULL;
    osr_model *copy = NULL;
    size_t bytes = 0;
    void *data = NULL;
    if (osr_writer_create(t->ctx, &writer) == OSR_OK
        && osr_model_write(t->model, writer, 1) == OSR_OK
        && osr_writer_save_memory(writer, NULL, 0, &bytes) == OSR_OK
        && (data = malloc(bytes)) != NULL
        && osr_writer_save_memory(writer, data, bytes, &bytes) == OSR_OK)
        osr_model_load_memory(t->ctx, data, bytes, &copy);
    free(data);
    osr_writer_destroy(writer);
    osr_model_destroy(copy);
    if (path != NULL && osr_ctx_status(t->ctx) == OSR_OK)
        osr_model_save(t->model, path);
    return osr_ctx_status(t->ctx);
}

/* Everything, once; ends at the first error, with nothing left but what the context owns. */
static inline osr_status tiny_life(osr_ctx *ctx, const osr_method_row *method, const char *path)
{
    tiny t;
    if (tiny_create(&t, ctx, method) == OSR_OK && tiny_train(&t, TINY_BATCH) == OSR_OK
        && tiny_train(&t, TINY_BATCH - 1) == OSR_OK && tiny_augment(&t) == OSR_OK
        && tiny_run(&t, TINY_BATCH) == OSR_OK
        && tiny_calibrate(&t) == OSR_OK && tiny_scores(&t) == OSR_OK && tiny_predict(&t) == OSR_OK
        && tiny_jacobian(&t) == OSR_OK)
        tiny_files(&t, path);
    osr_model_destroy(t.model);
    return osr_ctx_status(ctx);
}

#endif
