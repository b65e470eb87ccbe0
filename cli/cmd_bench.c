/* osr bench - how fast a device trains and runs a network with CAC: 3 colours, 6 classes, random
 * images and labels.
 *
 * Training steps in a row, then inference batches, then the device's multiply-add rate, a few of
 * each in turn, so that each runs as it would by itself and another load or a change of clock meets
 * all three; medians. Then some steps and batches with every launch timed, for the table. --augment
 * adds steps of augmented images, timed so, too, --start both the start of a process, --sweep the
 * other sizes of batches.
 *
 * Operations are counted as those of a direct convolution, so that algorithms can be compared by
 * them; Winograd's needs fewer and may come out above the peak. */
#define _XOPEN_SOURCE 700
#include "bench.h"

#include "exit_codes.h"
#include "networks.h"
#include "output.h"
#include "philox.h"
#include "progress.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    BLOCK = 5, /* training steps in a row, then as many inferences, then the peak */
    STREAM = 0x62656e00
};

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return count % 2 != 0 ? values[count / 2]
                          : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* ---- the network and its data ---- */

static int bench_model(struct bench *b)
{
    const osr_method_row *method = osr_method_find("cac");
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc net = method->vgg32;
    osr_model_desc desc = {0};
    net.out = BENCH_CLASSES;
    net.side = b->side;
    if (b->network->residual)
        net.dropout = 0.0f;
    desc.method = method;
    desc.numbers = method->numbers;
    desc.height = desc.width = b->side;
    desc.channels = BENCH_CHANNELS;
    for (int i = 0; i < BENCH_CHANNELS; ++i) {
        desc.mean[i] = 0.5f;
        desc.std[i] = 0.29f; /* of U(0, 1) */
    }
    desc.classes = BENCH_CLASSES;
    desc.layer_count = b->network->table(&net, layers);
    desc.layers = layers;
    desc.net_name = b->network->name;
    return osr_model_create(b->ctx, &desc, &b->model) == OSR_OK ? EXIT_OK : session_fail(b->ctx);
}

static int bench_data(struct bench *b)
{
    const size_t n = (size_t)b->batch, side = (size_t)b->side;
    const size_t values = n * side * side * BENCH_CHANNELS;
    struct philox random = philox_start((uint64_t)option_int(b->o, "seed"), STREAM, 0);
    b->images = calloc(values, sizeof *b->images);
    b->logits = calloc(n * BENCH_CLASSES, sizeof *b->logits);
    b->labels = calloc(n, sizeof *b->labels);
    b->train = calloc((size_t)b->steps, sizeof *b->train);
    b->infer = calloc((size_t)b->steps, sizeof *b->infer);
    b->peak = calloc((size_t)b->steps, sizeof *b->peak);
    if (b->images == NULL || b->logits == NULL || b->labels == NULL || b->train == NULL
        || b->infer == NULL || b->peak == NULL) {
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    for (size_t i = 0; i < values; ++i)
        b->images[i] = (float)(philox_next(&random) >> 8) * (1.0f / 16777216.0f);
    for (size_t i = 0; i < n; ++i)
        b->labels[i] = (int32_t)(philox_next(&random) % BENCH_CLASSES);
    return EXIT_OK;
}

/* ---- measuring ---- */

static uint64_t launches(const struct bench *b)
{
    osr_ctx_stats s;
    osr_ctx_get_stats(b->ctx, &s);
    return s.launches;
}

static osr_optimiser_desc optimiser(const struct bench *b)
{
    const osr_recipe *r = &osr_model_get_desc(b->model)->method->recipe;
    osr_optimiser_desc sgd = {0};
    sgd.lr = r->lr;
    sgd.momentum = r->momentum;
    sgd.weight_decay = r->weight_decay;
    return sgd;
}

/* One training step; its seconds, with the loss read, so that the device is done. */
double bench_train_step(struct bench *b)
{
    const osr_optimiser_desc sgd = optimiser(b);
    const uint64_t before = launches(b);
    const double start = progress_now();
    float loss;
    osr_model_train(b->model, b->images, b->labels, b->batch, &sgd, &loss, NULL);
    b->train_launches = launches(b) - before;
    return progress_now() - start;
}

double bench_infer_batch(struct bench *b)
{
    const uint64_t before = launches(b);
    const double start = progress_now();
    osr_outputs out = {0};
    out.logits = b->logits;
    osr_model_run(b->model, b->images, NULL, b->batch, &out);
    b->infer_launches = launches(b) - before;
    return progress_now() - start;
}

/* Seconds from one image to its logits; the median over the rounds. */
static void bench_latency(struct bench *b)
{
    const int batch = b->batch;
    const uint64_t of_batch = b->infer_launches;
    b->batch = 1;
    bench_infer_batch(b); /* makes the plan */
    for (int i = 0; i < b->steps && osr_ctx_status(b->ctx) == OSR_OK; ++i)
        b->infer[i] = bench_infer_batch(b);
    b->latency = bench_median(b->infer, b->steps);
    b->batch = batch;
    b->infer_launches = of_batch;
}

/* One training step of images that lie on the device as bytes, as osr train has them; the seconds
 * in the launches that gather and augment them. */
static double augmented_step(struct bench *b, osr_images *set, const uint32_t *index)
{
    const osr_optimiser_desc sgd = optimiser(b);
    const osr_launch_time *times;
    double seconds = 0.0;
    float loss;
    osr_ctx_profile(b->ctx, 1);
    osr_model_train_on(b->model, osr_augment(b->ctx, set, index, b->batch, &b->augment), b->labels,
                       &sgd, &loss, NULL);
    for (size_t i = 0, count = osr_ctx_profile_get(b->ctx, &times); i < count; ++i)
        seconds += strcmp(times[i].op, "augment") == 0 ? times[i].seconds : 0.0;
    osr_ctx_profile(b->ctx, 0);
    return seconds;
}

/* What --augment takes of a step: the median of some. */
static int bench_augment(struct bench *b)
{
    const size_t values = (size_t)b->batch * (size_t)b->side * (size_t)b->side * BENCH_CHANNELS;
    unsigned char *pixels = malloc(values);
    uint32_t *index = malloc((size_t)b->batch * sizeof *index);
    osr_images_desc set = {0};
    osr_images *images = NULL;
    b->augment.height = b->augment.width = b->side;
    b->augment.channels = BENCH_CHANNELS;
    set.pixels = pixels;
    set.count = (size_t)b->batch;
    set.height = set.width = b->side;
    set.channels = BENCH_CHANNELS;
    if (pixels == NULL || index == NULL) {
        free(pixels);
        free(index);
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    for (size_t i = 0; i < values; ++i)
        pixels[i] = (unsigned char)(255.0f * b->images[i]);
    for (int i = 0; i < b->batch; ++i)
        index[i] = (uint32_t)i;
    osr_images_create(b->ctx, &set, &images);
    augmented_step(b, images, index); /* makes the plan */
    for (int i = 0; i < b->steps && osr_ctx_status(b->ctx) == OSR_OK; ++i)
        b->train[i] = augmented_step(b, images, index);
    b->augment_seconds = bench_median(b->train, b->steps);
    b->augment_share = b->augment_seconds / b->step.seconds;
    osr_images_destroy(images);
    free(pixels);
    free(index);
    return osr_ctx_status(b->ctx) == OSR_OK ? EXIT_OK : session_fail(b->ctx);
}

static int bench_rounds(struct bench *b, const char *what)
{
    struct progress progress;
    osr_ctx_stats s;
    bench_train_step(b);
    b->first_step = progress_now() - b->started;
    osr_ctx_get_stats(b->ctx, &s);
    b->train_device_bytes = s.device_peak_bytes;
    bench_infer_batch(b);
    progress_start(&progress, what, 0, 1, b->steps);
    for (int at = 0, end; at < b->steps && osr_ctx_status(b->ctx) == OSR_OK; at = end) {
        end = at + BLOCK < b->steps ? at + BLOCK : b->steps;
        for (int i = at; i < end; ++i)
            b->train[i] = bench_train_step(b);
        bench_infer_batch(b); /* prepares the weights that the steps changed */
        for (int i = at; i < end; ++i)
            b->infer[i] = bench_infer_batch(b);
        for (int i = at; i < end; ++i)
            osr_peak_gflops(b->ctx, &b->peak[i]);
        progress_step(&progress, 0, end, 2.0 * b->batch * (end - at), NAN, NAN);
    }
    status_line_end();
    if (osr_ctx_status(b->ctx) != OSR_OK)
        return session_fail(b->ctx);
    b->result.train_rate = b->batch / bench_median(b->train, b->steps);
    b->result.infer_rate = b->batch / bench_median(b->infer, b->steps);
    b->result.peak = bench_median(b->peak, b->steps);
    osr_ctx_get_stats(b->ctx, &s);
    b->result.device_bytes = (double)s.device_peak_bytes;
    b->result.planned_bytes = (double)s.planned_peak_bytes;
    return EXIT_OK;
}

/* Largest resident set of the process. Linux's ru_maxrss also counts the program that started this
 * one, so its own record is read where there is one; both are in KiB. */
static double resident_peak(void)
{
    struct rusage usage = {0};
    char line[128];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && kib == 0 && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    if (status != NULL)
        fclose(status);
    if (kib == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
        kib = usage.ru_maxrss;
    return (double)kib * 1024.0;
}

static void bench_memory(struct bench *b)
{
    osr_ctx_stats s;
    osr_ctx_get_stats(b->ctx, &s);
    b->result.host_bytes = (double)s.host_peak_bytes;
    b->result.planned_host_bytes = (double)s.planned_host_peak_bytes;
    b->result.resident_bytes = resident_peak();
}

void bench_close(struct bench *b)
{
    osr_model_destroy(b->model);
    osr_ctx_destroy(b->ctx);
    free(b->images);
    free(b->logits);
    free(b->labels);
    free(b->train);
    free(b->infer);
    free(b->peak);
    free(b->row);
    free(b->earlier_text);
}

int bench_make(struct bench *b)
{
    const int code = bench_model(b);
    return code == EXIT_OK ? bench_data(b) : code;
}

/* Each batch in a context of its own, so that its memory is its own. */
static int bench_sweep(struct bench *all)
{
    int code = EXIT_OK;
    for (int i = 0; i < BENCH_SWEPT && code == EXIT_OK; ++i) {
        struct bench b = {0};
        char what[32];
        b.o = all->o;
        b.network = all->network;
        b.side = all->side;
        b.batch = 8 << i;
        b.steps = all->steps < 5 ? all->steps : 5;
        snprintf(what, sizeof what, "batch %d", b.batch);
        code = session_open(b.o, &b.ctx);
        if (code == EXIT_OK)
            code = bench_make(&b);
        if (code == EXIT_OK)
            code = bench_rounds(&b, what);
        all->sweep[i] = (struct bench_sweep){b.batch, b.result.train_rate, b.result.infer_rate,
                                             b.result.device_bytes, b.result.planned_bytes,
                                             NAN, NAN};
        all->swept += code == EXIT_OK;
        bench_close(&b);
    }
    return code;
}

/* The start alone: what bench_start runs in a process of its own. */
static int bench_once(struct bench *b)
{
    int code = session_open(b->o, &b->ctx);
    if (code == EXIT_OK)
        code = bench_make(b);
    if (code == EXIT_OK) {
        bench_train_step(b);
        printf("%.3f s to the end of the first step\n", progress_now() - b->started);
        fflush(stdout);
        code = osr_ctx_status(b->ctx) == OSR_OK ? EXIT_OK : session_fail(b->ctx);
    }
    return code;
}

/* Context, earlier result and starts: all that can be refused comes before what takes time. */
static int bench_open(struct bench *b, int starts)
{
    const char *earlier = option_text(b->o, "compare");
    int code = earlier != NULL ? bench_earlier_read(b, earlier) : EXIT_OK;
    b->started = progress_now();
    if (code == EXIT_OK)
        code = bench_tuning_open(b);
    if (code == EXIT_OK && earlier != NULL)
        code = bench_earlier_check(b);
    if (code == EXIT_OK && starts) {
        const double before = progress_now();
        code = bench_start(b->o, b->tuning, b->steps, &b->start);
        b->started += progress_now() - before;
    }
    return code == EXIT_OK ? bench_make(b) : code;
}

static int bench_measure(struct bench *b)
{
    int code = bench_rounds(b, "bench");
    if (code == EXIT_OK)
        code = bench_rows(b);
    if (code != EXIT_OK)
        return code;
    bench_latency(b);
    bench_memory(b);
    if (osr_ctx_status(b->ctx) != OSR_OK)
        return session_fail(b->ctx);
    if (strcmp(option_text(b->o, "augment"), "none") != 0)
        code = bench_augment(b);
    if (code == EXIT_OK && option_flag(b->o, "sweep"))
        code = bench_sweep(b);
    return code;
}

static int bench_run(struct bench *b)
{
    enum { START_OFF, START_ONCE, START_BOTH };
    const int start = option_choice(b->o, "start");
    char message[512];
    b->network = network_choose(b->o);
    if (b->network == NULL)
        return EXIT_USAGE;
    int code = augment_parse(option_text(b->o, "augment"), &b->augment, message, sizeof message);
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    if (start == START_ONCE)
        return bench_once(b);
    code = bench_open(b, start == START_BOTH);
    if (code == EXIT_OK)
        code = bench_measure(b);
    if (code == EXIT_OK)
        code = bench_tuning_end(b);
    return code == EXIT_OK ? bench_print(b) : code;
}

int cmd_bench(struct options *o)
{
    struct bench b = {0};
    int code;
    b.o = o;
    b.started = progress_now();
    b.side = (int)option_int(o, "size");
    b.batch = (int)option_int(o, "batch");
    b.steps = (int)option_int(o, "steps");
    b.start.cold = b.start.warm = b.augment_share = NAN;
    code = bench_run(&b);
    bench_close(&b);
    return code;
}
