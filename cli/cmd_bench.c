/* osr bench - how fast a device trains and runs a network with CAC: 3 colours, 6 classes, random
 * images and labels.
 *
 * Training steps in a row, then inference batches, then the device's multiply-add rate, a few of
 * each in turn, so that each runs as it would by itself and another load or a change of clock meets
 * all three; medians. Then some steps with every launch timed, for the table. --augment adds steps
 * of augmented images, timed so, too, --start both the start of a process, --sweep the other sizes
 * of batches.
 *
 * Operations are counted as those of a direct convolution, so that algorithms can be compared by
 * them; Winograd's needs fewer and may come out above the peak. */
#define _XOPEN_SOURCE 700
#include "augment.h"
#include "bench_start.h"
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
    CHANNELS = 3, CLASSES = 6,
    PROFILED = 5,      /* steps with every launch timed */
    BLOCK = 5,         /* training steps in a row, then as many inferences, then the peak */
    COMPARED = 11,     /* figures that --compare sets side by side */
    ALWAYS = 9,        /* the first of them, which every result has */
    SWEPT = 7,         /* batches 8 to 512 */
    STREAM = 0x62656e00
};

/* What one op of one layer costs in one pass. */
struct pass_row {
    const char *op, *pass, *algorithm, *products;
    int layer, launches;
    double seconds, flops;
};

struct bench {
    const struct options *o;
    double started; /* clock at the start of the command */
    osr_ctx *ctx;
    osr_model *model;
    const osr_network_row *network;
    float *images, *logits; /* [batch, side, side, CHANNELS], [batch, CLASSES] */
    int32_t *labels;
    int side, batch, steps;
    double *train, *infer, *peak; /* [steps]: seconds, seconds, GFLOP/s */
    double first_step, latency, cold, warm; /* seconds; cold and warm NaN: not measured */
    osr_augment_desc augment;               /* of --augment, and what it takes of a step */
    double augment_seconds, augment_share;
    uint64_t train_launches, infer_launches, train_device_bytes;
    struct pass_row *row;
    size_t row_count;
    double *seconds; /* [PROFILED, launches] */
    size_t launches;
    struct {
        double train_rate, infer_rate, peak; /* images/s, images/s, GFLOP/s */
        double step, elementwise, flops; /* of a timed step: seconds, seconds in rows without
                                            operations, operations */
        double device_bytes, planned_bytes, host_bytes, planned_host_bytes, resident_bytes;
    } result;
    struct {
        int batch;
        double train_rate, infer_rate, device_bytes, planned_bytes;
    } sweep[SWEPT];
    int swept;
    char *earlier_text; /* the file of --compare */
    double earlier[COMPARED];
};

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values. */
static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return count % 2 != 0 ? values[count / 2]
                          : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* ---- an earlier result ---- */

static const char *const compared[COMPARED] = {
    "train_images_per_s", "infer_images_per_s", "peak_gflops",     "train_share_of_peak",
    "first_step_s",       "peak_device_bytes",  "peak_host_bytes", "peak_resident_bytes",
    "latency_s",          "cold_start_s",       "warm_start_s"};

/* The number that follows "key": in JSON of this program, where no key occurs twice. */
static int find_number(const char *text, const char *key, double *value)
{
    char wanted[64], number[64];
    const char *at;
    size_t n;
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    at = strstr(text, wanted);
    if (at == NULL)
        return -1;
    at += strlen(wanted);
    at += strspn(at, " \t\r\n");
    n = strcspn(at, ",}] \t\r\n");
    if (n >= sizeof number)
        return -1;
    memcpy(number, at, n);
    number[n] = '\0';
    return real_parse(number, value);
}

static int read_earlier(struct bench *b, const char *path)
{
    enum { MOST = 1 << 20 };
    FILE *file = fopen(path, "rb");
    int code = EXIT_OK;
    if (file == NULL) {
        message_error("--compare %s: cannot be opened", path);
        return EXIT_DATA;
    }
    b->earlier_text = calloc(1, MOST + 1);
    if (b->earlier_text == NULL || fread(b->earlier_text, 1, MOST, file) == 0 || ferror(file)) {
        message_error("--compare %s: cannot be read", path);
        code = EXIT_DATA;
    }
    fclose(file);
    for (int i = 0; i < COMPARED && code == EXIT_OK; ++i)
        if (find_number(b->earlier_text, compared[i], &b->earlier[i]) != 0) {
            b->earlier[i] = NAN;
            if (i >= ALWAYS)
                continue;
            message_error("--compare %s: no number \"%s\"; is it output of osr bench --json?", path,
                          compared[i]);
            code = EXIT_DATA;
        }
    return code;
}

/* Refuses a result whose "key" is not `value`, given as it stands in JSON. */
static int same_as_earlier(const struct bench *b, const char *key, const char *value)
{
    char wanted[64];
    const char *at;
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    at = strstr(b->earlier_text, wanted);
    at = at == NULL ? "null" : at + strlen(wanted);
    at += strspn(at, " \t\r\n");
    if (strncmp(at, value, strlen(value)) == 0 && strchr(",} \t\r\n", at[strlen(value)]) != NULL)
        return EXIT_OK;
    message_error("--compare %s: measured with another %s: %.*s, now %s",
                  option_text(b->o, "compare"), key,
                  (int)(at[0] == '"' ? strcspn(at + 1, "\"") + 2 : strcspn(at, ",} \t\r\n")), at,
                  value);
    return EXIT_DATA;
}

/* Results compare where version, device, kernels, network and batch agree. */
static int check_earlier(const struct bench *b)
{
    static const char *const keys[] = {"version", "device", "kernels", "net", "batch", "size"};
    char device[512], batch[32], side[32];
    const char *values[6];
    int code = EXIT_OK;
    values[0] = osr_version();
    values[1] = device_text(b->ctx, device, sizeof device);
    values[2] = osr_ctx_kernels(b->ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu";
    values[3] = b->network->name;
    snprintf(batch, sizeof batch, "%d", b->batch);
    snprintf(side, sizeof side, "%d", b->side);
    values[4] = batch;
    values[5] = side;
    for (int i = 0; i < 6 && code == EXIT_OK; ++i) {
        struct json j = {0};
        json_text(&j, NULL, values[i]);
        code = j.failed ? EXIT_MEMORY
                        : same_as_earlier(b, keys[i], i >= 4 ? values[i] : j.text);
        json_free(&j);
    }
    return code;
}

/* ---- the network and its data ---- */

static int bench_model(struct bench *b)
{
    const osr_method_row *method = osr_method_find("cac");
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc net = method->vgg32;
    osr_model_desc desc = {0};
    net.out = CLASSES;
    net.side = b->side;
    if (b->network->residual)
        net.dropout = 0.0f;
    desc.method = method;
    desc.numbers = method->numbers;
    desc.height = desc.width = b->side;
    desc.channels = CHANNELS;
    for (int i = 0; i < CHANNELS; ++i) {
        desc.mean[i] = 0.5f;
        desc.std[i] = 0.29f; /* of U(0, 1) */
    }
    desc.classes = CLASSES;
    desc.layer_count = b->network->table(&net, layers);
    desc.layers = layers;
    desc.net_name = b->network->name;
    return osr_model_create(b->ctx, &desc, &b->model) == OSR_OK ? EXIT_OK : session_fail(b->ctx);
}

static int bench_data(struct bench *b)
{
    const size_t n = (size_t)b->batch, side = (size_t)b->side, values = n * side * side * CHANNELS;
    struct philox random = philox_start((uint64_t)option_int(b->o, "seed"), STREAM, 0);
    b->images = calloc(values, sizeof *b->images);
    b->logits = calloc(n * CLASSES, sizeof *b->logits);
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
        b->labels[i] = (int32_t)(philox_next(&random) % CLASSES);
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
static double train_step(struct bench *b)
{
    const osr_optimiser_desc sgd = optimiser(b);
    const uint64_t before = launches(b);
    const double start = progress_now();
    float loss;
    osr_model_train(b->model, b->images, b->labels, b->batch, &sgd, &loss, NULL);
    b->train_launches = launches(b) - before;
    return progress_now() - start;
}

static double infer_batch(struct bench *b)
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
    infer_batch(b); /* makes the plan */
    for (int i = 0; i < b->steps && osr_ctx_status(b->ctx) == OSR_OK; ++i)
        b->infer[i] = infer_batch(b);
    b->latency = median(b->infer, b->steps);
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
    const size_t values = (size_t)b->batch * (size_t)b->side * (size_t)b->side * CHANNELS;
    unsigned char *pixels = malloc(values);
    uint32_t *index = malloc((size_t)b->batch * sizeof *index);
    osr_images_desc set = {0};
    osr_images *images = NULL;
    b->augment.height = b->augment.width = b->side;
    b->augment.channels = CHANNELS;
    set.pixels = pixels;
    set.count = (size_t)b->batch;
    set.height = set.width = b->side;
    set.channels = CHANNELS;
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
    b->augment_seconds = median(b->train, b->steps);
    b->augment_share = b->augment_seconds / b->result.step;
    osr_images_destroy(images);
    free(pixels);
    free(index);
    return osr_ctx_status(b->ctx) == OSR_OK ? EXIT_OK : session_fail(b->ctx);
}

static int bench_rounds(struct bench *b, const char *what)
{
    struct progress progress;
    osr_ctx_stats s;
    train_step(b);
    b->first_step = progress_now() - b->started;
    osr_ctx_get_stats(b->ctx, &s);
    b->train_device_bytes = s.device_peak_bytes;
    infer_batch(b);
    progress_start(&progress, what, 0, 1, b->steps);
    for (int at = 0, end; at < b->steps && osr_ctx_status(b->ctx) == OSR_OK; at = end) {
        end = at + BLOCK < b->steps ? at + BLOCK : b->steps;
        for (int i = at; i < end; ++i)
            b->train[i] = train_step(b);
        infer_batch(b); /* prepares the weights that the steps changed */
        for (int i = at; i < end; ++i)
            b->infer[i] = infer_batch(b);
        for (int i = at; i < end; ++i)
            osr_peak_gflops(b->ctx, &b->peak[i]);
        progress_step(&progress, 0, end, 2.0 * b->batch * (end - at), NAN, NAN);
    }
    status_line_end();
    if (osr_ctx_status(b->ctx) != OSR_OK)
        return session_fail(b->ctx);
    b->result.train_rate = b->batch / median(b->train, b->steps);
    b->result.infer_rate = b->batch / median(b->infer, b->steps);
    b->result.peak = median(b->peak, b->steps);
    osr_ctx_get_stats(b->ctx, &s);
    b->result.device_bytes = (double)s.device_peak_bytes;
    b->result.planned_bytes = (double)s.planned_peak_bytes;
    return EXIT_OK;
}

/* ---- the table ---- */

static int ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Names end in what they give: _dx, _dw, _db; a product with its first factor transposed (_tn) is
 * the gradient of a matrix of weights. */
static const char *pass_of(const osr_launch_time *t)
{
    if (ends_with(t->op, "_dw") || ends_with(t->op, "_db"))
        return "weight gradient";
    if (ends_with(t->op, "_dx"))
        return "input gradient";
    if (!t->backward)
        return "forward";
    if (strcmp(t->op, "matmul") == 0)
        return ends_with(t->kernel, "_tn") ? "weight gradient" : "input gradient";
    return "backward";
}

/* What makes the convolution: the launch that does its operations tells. */
static const char *algorithm_of(const osr_launch_time *t)
{
    return strncmp(t->kernel, "wino", 4) == 0   ? "winograd"
           : strncmp(t->kernel, "conv", 4) == 0
                   || t->products != OSR_PRODUCTS_FIXED ? "direct"
                                                : "-";
}

static struct pass_row *row_of(struct bench *b, const osr_launch_time *t)
{
    const char *pass = pass_of(t);
    struct pass_row *r;
    for (r = b->row; r < b->row + b->row_count; ++r)
        if (r->layer == t->layer && strcmp(r->op, t->op) == 0 && strcmp(r->pass, pass) == 0)
            return r;
    b->row_count++;
    *r = (struct pass_row){t->op, pass, "-", "", t->layer, 0, 0.0, 0.0};
    return r;
}

/* Room for the launches of a step, of which the first profiled one tells the number. */
static int profile_room(struct bench *b, size_t count)
{
    if (b->row == NULL && count > 0) {
        b->launches = count;
        b->row = calloc(count, sizeof *b->row);
        b->seconds = calloc(count * PROFILED, sizeof *b->seconds);
        if (b->row == NULL || b->seconds == NULL) {
            message_error("out of memory");
            return EXIT_MEMORY;
        }
    }
    if (b->launches == 0 || count != b->launches) {
        message_error("%zu launches were timed instead of %zu", count, b->launches);
        return EXIT_INTERNAL;
    }
    return EXIT_OK;
}

/* Rows from the median time of each launch over the profiled steps. */
static int bench_profile(struct bench *b)
{
    const osr_launch_time *times;
    size_t count = 0;
    int code = EXIT_OK;
    for (int step = 0; step < PROFILED && code == EXIT_OK; ++step) {
        osr_ctx_profile(b->ctx, 1);
        train_step(b);
        if (osr_ctx_status(b->ctx) != OSR_OK)
            return session_fail(b->ctx);
        count = osr_ctx_profile_get(b->ctx, &times);
        code = profile_room(b, count);
        for (size_t i = 0; i < count && code == EXIT_OK; ++i)
            b->seconds[i * PROFILED + (size_t)step] = times[i].seconds;
    }
    for (size_t i = 0; i < count && code == EXIT_OK; ++i) {
        struct pass_row *r = row_of(b, &times[i]);
        const double seconds = median(b->seconds + i * PROFILED, PROFILED);
        r->launches++;
        r->seconds += seconds;
        r->flops += times[i].flops;
        if (times[i].flops > 0.0)
            r->algorithm = algorithm_of(&times[i]);
        if (times[i].products != OSR_PRODUCTS_FIXED)
            r->products = (const char *const[]){"", "-small", "-large", "-clblast"}
                                               [times[i].products];
        b->result.step += seconds;
        b->result.flops += times[i].flops;
    }
    for (size_t i = 0; i < b->row_count; ++i)
        b->result.elementwise += b->row[i].flops > 0.0 ? 0.0 : b->row[i].seconds;
    osr_ctx_profile(b->ctx, 0);
    return code;
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

/* ---- output ---- */

/* Direct-convolution operations of a step over its time, of the peak. */
static double train_share(const struct bench *b)
{
    return b->result.flops * b->result.train_rate / b->batch * 1e-9 / b->result.peak;
}

/* The figures in the order of compared[]. */
static void figures(const struct bench *b, double value[COMPARED])
{
    const double all[COMPARED] = {
        b->result.train_rate, b->result.infer_rate,   b->result.peak,
        train_share(b),       b->first_step,          b->result.device_bytes,
        b->result.host_bytes, b->result.resident_bytes,
        b->latency,           b->cold,               b->warm};
    memcpy(value, all, sizeof all);
}

static const char *layer_name(const struct bench *b, int layer)
{
    static const char *const names[] = {
#define NAME(name, text) text,
        OSR_LAYER_LIST(NAME)
#undef NAME
    };
    const osr_model_desc *d = osr_model_get_desc(b->model);
    return layer >= 0 && layer < d->layer_count ? names[d->layers[layer].kind] : NULL;
}

static double rate_of(const struct pass_row *r)
{
    return r->flops > 0.0 && r->seconds > 0.0 ? r->flops / r->seconds * 1e-9 : NAN;
}

static void json_row(struct json *j, const struct bench *b, const struct pass_row *r)
{
    char algorithm[32];
    json_open(j, NULL, '{');
    json_text(j, "op", r->op);
    if (r->layer >= 0)
        json_integer(j, "layer", r->layer);
    else
        json_text(j, "layer", NULL);
    json_text(j, "kind", layer_name(b, r->layer));
    json_text(j, "pass", r->pass);
    snprintf(algorithm, sizeof algorithm, "%s%s", r->algorithm, r->products);
    json_text(j, "algorithm", algorithm);
    json_integer(j, "launches", r->launches);
    json_real(j, "ms", r->seconds * 1e3);
    json_real(j, "gflops", rate_of(r));
    json_real(j, "share_of_peak", rate_of(r) / b->result.peak);
    json_close(j, '}');
}

static int print_json(const struct bench *b, int compare)
{
    struct json j = {0};
    double value[COMPARED];
    char device[512];
    int code;
    figures(b, value);
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "osr-bench-1");
    json_text(&j, "version", osr_version());
    json_text(&j, "device", device_text(b->ctx, device, sizeof device));
    json_text(&j, "kernels", osr_ctx_kernels(b->ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu");
    json_text(&j, "net", b->network->name);
    json_integer(&j, "size", b->side);
    json_integer(&j, "batch", b->batch);
    json_integer(&j, "steps", b->steps);
    json_integer(&j, "seed", option_int(b->o, "seed"));
    for (int i = 0; i < COMPARED; ++i)
        json_real(&j, compared[i], value[i]);
    json_integer(&j, "planned_device_bytes", (int64_t)b->result.planned_bytes);
    json_integer(&j, "planned_host_bytes", (int64_t)b->result.planned_host_bytes);
    json_integer(&j, "train_device_bytes", (int64_t)b->train_device_bytes);
    json_integer(&j, "train_launches", (int64_t)b->train_launches);
    json_integer(&j, "infer_launches", (int64_t)b->infer_launches);
    json_real(&j, "train_gflop", b->result.flops * 1e-9);
    json_real(&j, "elementwise_share", b->result.elementwise / b->result.step);
    if (!isnan(b->augment_share)) {
        json_text(&j, "augment", option_text(b->o, "augment"));
        json_real(&j, "augment_s", b->augment_seconds);
        json_real(&j, "augment_share", b->augment_share);
    }
    json_open(&j, "rows", '[');
    for (size_t i = 0; i < b->row_count; ++i)
        json_row(&j, b, &b->row[i]);
    json_close(&j, ']');
    json_open(&j, "sweep", '[');
    for (int i = 0; i < b->swept; ++i) {
        json_open(&j, NULL, '{');
        json_integer(&j, "batch", b->sweep[i].batch);
        json_real(&j, "train_images_per_s", b->sweep[i].train_rate);
        json_real(&j, "infer_images_per_s", b->sweep[i].infer_rate);
        json_integer(&j, "peak_device_bytes", (int64_t)b->sweep[i].device_bytes);
        json_integer(&j, "planned_device_bytes", (int64_t)b->sweep[i].planned_bytes);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    if (compare) {
        json_open(&j, "ratios", '{');
        for (int i = 0; i < COMPARED; ++i)
            json_real(&j, compared[i], value[i] / b->earlier[i]);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    code = json_print(&j);
    json_free(&j);
    return code;
}

/* Convolutions and products one by one; what is not counted in operations, from 0.5% of the step
 * on. */
static int print_rows(const struct bench *b)
{
    static const char *const heads[] = {"layer", "op",      "pass",   "algorithm",
                                        "ms",    "GFLOP/s", "of peak"};
    struct table t;
    table_start(&t, 7);
    for (int i = 0; i < 7; ++i)
        table_cell(&t, "%s", heads[i]);
    for (const struct pass_row *r = b->row; r < b->row + b->row_count; ++r) {
        const char *kind = layer_name(b, r->layer);
        if (r->flops <= 0.0 && r->seconds < 0.005 * b->result.step)
            continue;
        if (kind != NULL)
            table_cell(&t, "%d %s", r->layer, kind);
        else
            table_cell(&t, "-");
        table_cell(&t, "%s", r->op);
        table_cell(&t, "%s", r->pass);
        table_cell(&t, "%s%s", r->algorithm, r->products);
        table_cell(&t, "%.3f", r->seconds * 1e3);
        if (r->flops > 0.0) {
            table_cell(&t, "%.1f", rate_of(r));
            table_cell(&t, "%.0f%%", 100.0 * rate_of(r) / b->result.peak);
        } else {
            table_cell(&t, "-");
            table_cell(&t, "-");
        }
    }
    return table_print(&t);
}

static int print_compare(const struct bench *b, const double *value)
{
    struct table t;
    table_start(&t, 4);
    table_cell(&t, "figure");
    table_cell(&t, "now");
    table_cell(&t, "earlier");
    table_cell(&t, "ratio");
    for (int i = 0; i < COMPARED; ++i) {
        if (isnan(value[i]) || isnan(b->earlier[i]))
            continue;
        table_cell(&t, "%s", compared[i]);
        table_cell(&t, "%.6g", value[i]);
        table_cell(&t, "%.6g", b->earlier[i]);
        table_cell(&t, "%.3f", value[i] / b->earlier[i]);
    }
    putchar('\n');
    return table_print(&t);
}

static int print_sweep(const struct bench *b)
{
    static const char *const heads[] = {"batch", "training images/s", "inference images/s",
                                        "device MB", "planned MB"};
    struct table t;
    table_start(&t, 5);
    for (int i = 0; i < 5; ++i)
        table_cell(&t, "%s", heads[i]);
    for (int i = 0; i < b->swept; ++i) {
        table_cell(&t, "%d", b->sweep[i].batch);
        table_cell(&t, "%.1f", b->sweep[i].train_rate);
        table_cell(&t, "%.1f", b->sweep[i].infer_rate);
        table_cell(&t, "%.1f", b->sweep[i].device_bytes * 1e-6);
        table_cell(&t, "%.1f", b->sweep[i].planned_bytes * 1e-6);
    }
    putchar('\n');
    return table_print(&t);
}

static int print_text(const struct bench *b, int compare)
{
    double value[COMPARED];
    char device[512];
    int code;
    figures(b, value);
    printf("device     %s\n", device_text(b->ctx, device, sizeof device));
    printf("network    %s with CAC, %d x %d x %d, %d classes, batch %d\n", b->network->name,
           CHANNELS, b->side, b->side, CLASSES, b->batch);
    printf("training   %.1f images/s, %.0f%% of peak\n", b->result.train_rate,
           100.0 * train_share(b));
    printf("inference  %.1f images/s\n", b->result.infer_rate);
    printf("peak       %.1f GFLOP/s\n", b->result.peak);
    printf("first step %.3f s after the start\n", b->first_step);
    printf("latency    %.2f ms for one image\n", b->latency * 1e3);
    if (!isnan(b->cold))
        printf("start      %.3f s cold, %.3f s warm, of a process to the end of a step\n", b->cold,
               b->warm);
    printf("memory     device %.2f MB (planned %.2f MB), host %.2f MB (planned %.2f MB), process "
           "%.1f MB\n", b->result.device_bytes * 1e-6, b->result.planned_bytes * 1e-6,
           b->result.host_bytes * 1e-6, b->result.planned_host_bytes * 1e-6,
           b->result.resident_bytes * 1e-6);
    printf("launches   %llu a training step, %llu an inference batch\n",
           (unsigned long long)b->train_launches, (unsigned long long)b->infer_launches);
    printf("timed      %.1f ms in launches of a training step, %.1f%% elementwise\n",
           b->result.step * 1e3, 100.0 * b->result.elementwise / b->result.step);
    if (!isnan(b->augment_share))
        printf("augment    %.2f ms in launches of a step, %.1f%% of one (%s)\n",
               b->augment_seconds * 1e3, 100.0 * b->augment_share, option_text(b->o, "augment"));
    putchar('\n');
    code = print_rows(b);
    if (code == EXIT_OK && b->swept > 0)
        code = print_sweep(b);
    if (code == EXIT_OK && compare)
        code = print_compare(b, value);
    return code;
}

static void bench_close(struct bench *b)
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
    free(b->seconds);
    free(b->earlier_text);
}

static int bench_open(struct bench *b)
{
    int code = session_open(b->o, &b->ctx);
    if (code == EXIT_OK && b->earlier_text != NULL)
        code = check_earlier(b);
    if (code == EXIT_OK)
        code = bench_model(b);
    return code == EXIT_OK ? bench_data(b) : code;
}

/* Each batch in a context of its own, so that its memory is its own. */
static int bench_sweep(struct bench *all)
{
    int code = EXIT_OK;
    for (int i = 0; i < SWEPT && code == EXIT_OK; ++i) {
        struct bench b = {0};
        char what[32];
        b.o = all->o;
        b.network = all->network;
        b.side = all->side;
        b.batch = 8 << i;
        b.steps = all->steps < 5 ? all->steps : 5;
        snprintf(what, sizeof what, "batch %d", b.batch);
        code = bench_open(&b);
        if (code == EXIT_OK)
            code = bench_rounds(&b, what);
        all->sweep[i].batch = b.batch;
        all->sweep[i].train_rate = b.result.train_rate;
        all->sweep[i].infer_rate = b.result.infer_rate;
        all->sweep[i].device_bytes = b.result.device_bytes;
        all->sweep[i].planned_bytes = b.result.planned_bytes;
        all->swept += code == EXIT_OK;
        bench_close(&b);
    }
    return code;
}

/* The start alone: what bench_start runs in a process of its own. */
static int bench_once(struct bench *b)
{
    int code = bench_open(b);
    if (code == EXIT_OK) {
        train_step(b);
        printf("%.3f s to the end of the first step\n", progress_now() - b->started);
        fflush(stdout);
        code = osr_ctx_status(b->ctx) == OSR_OK ? EXIT_OK : session_fail(b->ctx);
    }
    return code;
}

static int bench_run(struct bench *b)
{
    enum { START_OFF, START_ONCE, START_BOTH };
    const char *earlier = option_text(b->o, "compare");
    int code = EXIT_OK;
    char message[512];
    b->network = network_choose(b->o);
    if (b->network == NULL)
        return EXIT_USAGE;
    code = augment_parse(option_text(b->o, "augment"), &b->augment, message, sizeof message);
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    if (option_choice(b->o, "start") == START_ONCE)
        return bench_once(b);
    if (earlier != NULL)
        code = read_earlier(b, earlier);
    if (code == EXIT_OK && option_choice(b->o, "start") == START_BOTH)
        code = bench_start(b->o, &b->cold, &b->warm);
    b->started = progress_now();
    if (code == EXIT_OK)
        code = bench_open(b);
    if (code == EXIT_OK)
        code = bench_rounds(b, "bench");
    if (code == EXIT_OK)
        code = bench_profile(b);
    if (code != EXIT_OK)
        return code;
    bench_latency(b);
    bench_memory(b);
    if (strcmp(option_text(b->o, "augment"), "none") != 0)
        code = bench_augment(b);
    if (code != EXIT_OK)
        return code;
    if (osr_ctx_status(b->ctx) != OSR_OK)
        return session_fail(b->ctx);
    if (option_flag(b->o, "sweep"))
        code = bench_sweep(b);
    if (code != EXIT_OK)
        return code;
    return option_flag(b->o, "json") ? print_json(b, earlier != NULL)
                                     : print_text(b, earlier != NULL);
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
    b.cold = b.warm = b.augment_share = NAN;
    code = bench_run(&b);
    bench_close(&b);
    return code;
}
