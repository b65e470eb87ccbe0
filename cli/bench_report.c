/* bench_report.c - what osr bench prints; see bench.h. */
#include "bench.h"

#include "exit_codes.h"
#include "output.h"
#include "session.h"

#include <math.h>
#include <string.h>

/* Direct-convolution operations of a step, at images/s, of the peak. */
static double share(const struct bench *b, const struct bench_timed *t, double rate)
{
    return t->flops * rate / b->batch * 1e-9 / b->result.peak;
}

void bench_figures(struct bench *b)
{
    const struct bench_figure all[BENCH_FIGURES] = {
        {"train_images_per_s", b->result.train_rate, 0.0},
        {"infer_images_per_s", b->result.infer_rate, 0.0},
        {"peak_gflops", b->result.peak, 0.0},
        {"train_share_of_peak", share(b, &b->step, b->result.train_rate), 0.0},
        {"first_step_s", b->first_step, 0.0},
        {"peak_device_bytes", b->result.device_bytes, 0.0},
        {"peak_host_bytes", b->result.host_bytes, 0.0},
        {"peak_resident_bytes", b->result.resident_bytes, 0.0},
        {"latency_s", b->latency, 0.0},
        {"infer_share_of_peak", share(b, &b->inference, b->result.infer_rate), 0.0},
        {"train_timed_s", b->step.seconds, 0.0},
        {"infer_timed_s", b->inference.seconds, 0.0},
        {"elementwise_share", b->step.elementwise / b->step.seconds, 0.0},
        {"infer_elementwise_share", b->inference.elementwise / b->inference.seconds, 0.0},
        {"train_launches", (double)b->train_launches, 0.0},
        {"infer_launches", (double)b->infer_launches, 0.0},
        {"cold_start_s", b->start.cold, 0.0},
        {"warm_start_s", b->start.warm, 0.0}};
    for (int i = 0; i < BENCH_FIGURES; ++i) {
        b->figure[i].key = all[i].key;
        b->figure[i].now = all[i].now;
    }
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

static double rate_of(const struct bench_row *r)
{
    return r->flops > 0.0 && r->seconds > 0.0 ? r->flops / r->seconds * 1e-9 : NAN;
}

/* ---- JSON ---- */

static void json_row(struct json *j, const struct bench *b, const struct bench_row *r)
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
    if (b->earlier_text != NULL) {
        json_real(j, "ratio", r->seconds / r->earlier);
        json_text(j, "then", r->then[0] != '\0' ? r->then : NULL);
    }
    json_close(j, '}');
}

static void json_sweep(struct json *j, const struct bench *b, const struct bench_sweep *s)
{
    json_open(j, NULL, '{');
    json_integer(j, "batch", s->batch);
    json_real(j, "train_images_per_s", s->train_rate);
    json_real(j, "infer_images_per_s", s->infer_rate);
    json_integer(j, "peak_device_bytes", (int64_t)s->device_bytes);
    json_integer(j, "planned_device_bytes", (int64_t)s->planned_bytes);
    if (b->earlier_text != NULL) {
        json_real(j, "train_ratio", s->train_rate / s->earlier_train);
        json_real(j, "infer_ratio", s->infer_rate / s->earlier_infer);
    }
    json_close(j, '}');
}

/* What was measured. */
static void json_head(struct json *j, const struct bench *b)
{
    char device[512];
    json_text(j, "schema", "osr-bench-1");
    json_text(j, "version", osr_version());
    json_text(j, "device", device_text(b->ctx, device, sizeof device));
    json_text(j, "kernels", osr_ctx_kernels(b->ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu");
    json_text(j, "net", b->network->name);
    json_integer(j, "size", b->side);
    json_integer(j, "batch", b->batch);
    json_integer(j, "steps", b->steps);
    json_integer(j, "seed", option_int(b->o, "seed"));
    json_text(j, "algorithm", option_text(b->o, "algorithm"));
    json_text(j, "products", option_text(b->o, "products"));
    json_text(j, "tuning", b->tuning[0] != '\0' ? b->tuning : NULL);
    if (b->tuning[0] != '\0') {
        json_integer(j, "tuning_choices", b->choices);
        json_integer(j, "tuning_in_force", b->in_force);
    }
}

static int print_json(const struct bench *b)
{
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_head(&j, b);
    for (int i = 0; i < BENCH_FIGURES; ++i)
        json_real(&j, b->figure[i].key, b->figure[i].now);
    json_integer(&j, "planned_device_bytes", (int64_t)b->result.planned_bytes);
    json_integer(&j, "planned_host_bytes", (int64_t)b->result.planned_host_bytes);
    json_integer(&j, "train_device_bytes", (int64_t)b->train_device_bytes);
    json_real(&j, "train_gflop", b->step.flops * 1e-9);
    json_real(&j, "infer_gflop", b->inference.flops * 1e-9);
    json_integer(&j, "cold_starts", b->start.colds);
    json_integer(&j, "warm_starts", b->start.warms);
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
    for (int i = 0; i < b->swept; ++i)
        json_sweep(&j, b, &b->sweep[i]);
    json_close(&j, ']');
    if (b->earlier_text != NULL) {
        json_open(&j, "ratios", '{');
        for (int i = 0; i < BENCH_FIGURES; ++i)
            json_real(&j, b->figure[i].key, b->figure[i].now / b->figure[i].earlier);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    const int code = json_print(&j);
    json_free(&j);
    return code;
}

/* ---- text ---- */

/* A number, or "-" for none. */
static void cell_real(struct table *t, const char *end, int digits, double value)
{
    if (isfinite(value))
        table_cell(t, "%.*f%s", digits, value, end);
    else
        table_cell(t, "-");
}

/* Is the row printed? Convolutions and products all are; what is not counted in operations, from
 * 0.5% of a training step on, or 1% of an inference batch. */
static int is_printed(const struct bench *b, const struct bench_row *r)
{
    return r->flops > 0.0
           || r->seconds >= (r->inference ? 0.01 * b->inference.seconds : 0.005 * b->step.seconds);
}

static int print_rows(const struct bench *b)
{
    static const char *const alone[] = {"layer", "op", "pass", "algorithm", "ms", "of peak",
                                        "GFLOP/s"};
    static const char *const beside[] = {"layer",   "op",         "pass",  "algorithm", "ms",
                                         "of peak", "earlier ms", "ratio", "then"};
    const int columns = b->earlier_text != NULL ? 9 : 7;
    struct table t;
    table_start(&t, columns);
    for (int i = 0; i < columns; ++i)
        table_cell(&t, "%s", columns == 9 ? beside[i] : alone[i]);
    for (const struct bench_row *r = b->row; r < b->row + b->row_count; ++r) {
        const char *kind = layer_name(b, r->layer);
        char algorithm[32];
        if (!is_printed(b, r))
            continue;
        if (kind != NULL)
            table_cell(&t, "%d %s", r->layer, kind);
        else
            table_cell(&t, "-");
        table_cell(&t, "%s", r->op);
        table_cell(&t, "%s", r->pass);
        snprintf(algorithm, sizeof algorithm, "%s%s", r->algorithm, r->products);
        table_cell(&t, "%s", algorithm);
        cell_real(&t, "", 3, r->seconds * 1e3);
        cell_real(&t, "%", 0, 100.0 * rate_of(r) / b->result.peak);
        if (b->earlier_text == NULL) {
            cell_real(&t, "", 1, rate_of(r));
            continue;
        }
        cell_real(&t, "", 3, r->earlier * 1e3);
        cell_real(&t, "", 3, r->seconds / r->earlier);
        table_cell(&t, "%s", r->then[0] == '\0'                ? "-"
                             : strcmp(r->then, algorithm) != 0 ? r->then
                             : strcmp(r->then, "-") != 0       ? "same"
                                                               : "-");
    }
    return table_print(&t);
}

static int print_figures(const struct bench *b)
{
    static const char *const heads[] = {"figure", "now", "earlier", "ratio"};
    struct table t;
    table_start(&t, 4);
    for (int i = 0; i < 4; ++i)
        table_cell(&t, "%s", heads[i]);
    for (const struct bench_figure *f = b->figure; f < b->figure + BENCH_FIGURES; ++f) {
        if (isnan(f->now) || isnan(f->earlier))
            continue;
        table_cell(&t, "%s", f->key);
        table_cell(&t, fabs(f->now) < 1e5 ? "%.6g" : "%.0f", f->now);
        table_cell(&t, fabs(f->earlier) < 1e5 ? "%.6g" : "%.0f", f->earlier);
        cell_real(&t, "", 3, f->now / f->earlier);
    }
    putchar('\n');
    return table_print(&t);
}

static int print_sweep(const struct bench *b)
{
    static const char *const heads[] = {"batch",      "training images/s", "inference images/s",
                                        "device MB",  "planned MB",        "training ratio",
                                        "inference ratio"};
    const int columns = b->earlier_text != NULL ? 7 : 5;
    struct table t;
    table_start(&t, columns);
    for (int i = 0; i < columns; ++i)
        table_cell(&t, "%s", heads[i]);
    for (const struct bench_sweep *s = b->sweep; s < b->sweep + b->swept; ++s) {
        table_cell(&t, "%d", s->batch);
        cell_real(&t, "", 1, s->train_rate);
        cell_real(&t, "", 1, s->infer_rate);
        cell_real(&t, "", 1, s->device_bytes * 1e-6);
        cell_real(&t, "", 1, s->planned_bytes * 1e-6);
        if (b->earlier_text != NULL) {
            cell_real(&t, "", 3, s->train_rate / s->earlier_train);
            cell_real(&t, "", 3, s->infer_rate / s->earlier_infer);
        }
    }
    putchar('\n');
    return table_print(&t);
}

static void print_head(const struct bench *b)
{
    char device[512];
    printf("device     %s\n", device_text(b->ctx, device, sizeof device));
    printf("network    %s with CAC, %d x %d x %d, %d classes, batch %d\n", b->network->name,
           BENCH_CHANNELS, b->side, b->side, BENCH_CLASSES, b->batch);
    if (b->tuning[0] != '\0')
        printf("tuning     %s: %d of its %d choices in force\n", b->tuning, b->in_force,
               b->choices);
    printf("training   %.1f images/s, %.0f%% of peak\n", b->result.train_rate,
           100.0 * share(b, &b->step, b->result.train_rate));
    printf("inference  %.1f images/s, %.0f%% of peak\n", b->result.infer_rate,
           100.0 * share(b, &b->inference, b->result.infer_rate));
    printf("peak       %.1f GFLOP/s\n", b->result.peak);
    printf("first step %.3f s after the start\n", b->first_step);
    printf("latency    %.2f ms for one image\n", b->latency * 1e3);
    if (!isnan(b->start.cold))
        printf("start      %.3f s cold (median of %d), %.3f s warm (of %d): a process to the end "
               "of a step\n", b->start.cold, b->start.colds, b->start.warm, b->start.warms);
}

static void print_costs(const struct bench *b)
{
    printf("memory     device %.2f MB (planned %.2f MB), host %.2f MB (planned %.2f MB), process "
           "%.1f MB\n", b->result.device_bytes * 1e-6, b->result.planned_bytes * 1e-6,
           b->result.host_bytes * 1e-6, b->result.planned_host_bytes * 1e-6,
           b->result.resident_bytes * 1e-6);
    printf("launches   %llu a training step, %llu an inference batch\n",
           (unsigned long long)b->train_launches, (unsigned long long)b->infer_launches);
    printf("timed      %.1f ms in launches of a training step, %.1f%% elementwise\n",
           b->step.seconds * 1e3, 100.0 * b->step.elementwise / b->step.seconds);
    printf("           %.1f ms in launches of an inference batch, %.1f%% elementwise\n",
           b->inference.seconds * 1e3, 100.0 * b->inference.elementwise / b->inference.seconds);
    if (!isnan(b->augment_share))
        printf("augment    %.2f ms in launches of a step, %.1f%% of one (%s)\n",
               b->augment_seconds * 1e3, 100.0 * b->augment_share, option_text(b->o, "augment"));
    putchar('\n');
}

int bench_print(struct bench *b)
{
    bench_figures(b);
    if (b->earlier_text != NULL)
        bench_earlier_match(b);
    if (option_flag(b->o, "json"))
        return print_json(b);
    print_head(b);
    print_costs(b);
    int code = print_rows(b);
    if (code == EXIT_OK && b->swept > 0)
        code = print_sweep(b);
    if (code == EXIT_OK && b->earlier_text != NULL)
        code = print_figures(b);
    return code;
}
