/* osr tune - which algorithm is the faster one, for each pass of each convolution of a network's
 * training step and of inference, on random images.
 *
 * The network's steps run with every launch timed: once as the choice is without tuning, then with
 * one pass of one shape changed at a time, round after round, so that another load or a change of
 * clock meets all of them; medians over the rounds. An algorithm is charged with its own launches
 * and with those of its neighbours that come or go with it (Winograd's kernels for CPUs normalise
 * what they read and sum up the statistics of what they write). A change must gain 3%, and at the
 * end all changes together must gain, too; else the fixed choice stays. */
#define _XOPEN_SOURCE 700
#include "exit_codes.h"
#include "networks.h"
#include "output.h"
#include "philox.h"
#include "progress.h"
#include "session.h"
#include "signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 6, CANDIDATES = 256, ROUNDS = 9, CHECKS = 5, STREAM = 0x74756e00 };
static const double GAIN = 0.03; /* below it lies the noise of a shared machine */

/* One launch of a step, and its seconds in each round. */
struct launch {
    osr_launch_time is;
    int inference;
    double seconds[ROUNDS];
};

/* The steps under one tuning. */
struct timing {
    struct launch *launch; /* [count] */
    size_t count;
    int rounds;
};

/* A pass of a convolution that can be made in two ways. */
struct candidate {
    char shape[128], pass[16]; /* of its line in a tuning */
    int winograd;              /* the fixed choice */
    int chosen, layer, layers; /* layer: the first, -1 none; layers: how many have this shape */
    double direct_ms, winograd_ms; /* NaN: not measured */
    struct timing timing;      /* with the other one */
};

struct tune {
    const struct options *o;
    osr_ctx *ctx;
    osr_model *model;
    float *images, *logits;
    int32_t *labels;
    int side, batch, channels;
    struct candidate candidate[CANDIDATES];
    int count, rounds;
    struct timing fixed;
    double before, after; /* seconds in launches of a training step and an inference batch, fixed
                             and tuned; NaN: nothing was to be changed */
    char file[1200];
};

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int count)
{
    double sorted[ROUNDS];
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_size);
    return 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
}

/* ---- the network and its data ---- */

static int make_model(struct tune *t)
{
    const osr_network_row *network = network_choose(t->o);
    const osr_method_row *method = network != NULL ? method_choose(t->o) : NULL;
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc net;
    osr_model_desc d = {0};
    if (method == NULL)
        return EXIT_USAGE;
    const int width = osr_method_width(method, &method->numbers, CLASSES);
    const int code = network_variant(t->o, network, method, width, t->side, &net);
    if (code != EXIT_OK)
        return code;
    d.method = method;
    d.numbers = method->numbers;
    d.height = d.width = t->side;
    d.channels = t->channels;
    for (int i = 0; i < t->channels; ++i) {
        d.mean[i] = 0.5f;
        d.std[i] = 0.29f; /* of U(0, 1) */
    }
    d.classes = CLASSES;
    d.layer_count = network->table(&net, layers);
    d.layers = layers;
    d.net_name = network->name;
    return osr_model_create(t->ctx, &d, &t->model) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

static int make_data(struct tune *t)
{
    const size_t n = (size_t)t->batch, side = (size_t)t->side;
    const size_t values = n * side * side * (size_t)t->channels;
    struct philox random = philox_start((uint64_t)option_int(t->o, "seed"), STREAM, 0);
    t->images = calloc(values, sizeof *t->images);
    t->logits = calloc(n * CLASSES, sizeof *t->logits);
    t->labels = calloc(n, sizeof *t->labels);
    if (t->images == NULL || t->logits == NULL || t->labels == NULL) {
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    for (size_t i = 0; i < values; ++i)
        t->images[i] = (float)(philox_next(&random) >> 8) * (1.0f / 16777216.0f);
    for (size_t i = 0; i < n; ++i)
        t->labels[i] = (int32_t)(philox_next(&random) % CLASSES);
    return EXIT_OK;
}

/* ---- measuring ---- */

static void train_step(struct tune *t)
{
    osr_optimiser_desc sgd = {0};
    float loss;
    sgd.lr = 1e-6f; /* random labels teach nothing */
    osr_model_train(t->model, t->images, t->labels, t->batch, &sgd, &loss, NULL);
}

static void infer_batch(struct tune *t)
{
    osr_outputs out = {0};
    out.logits = t->logits;
    osr_model_run(t->model, t->images, NULL, t->batch, &out);
}

/* Adds the launches since osr_ctx_profile started to a round; in inference without the packing of
 * weights, which is done once. */
static int collect(struct tune *t, struct timing *m, size_t *at, int inference)
{
    const osr_launch_time *times;
    const size_t n = osr_ctx_profile_get(t->ctx, &times);
    if (m->rounds == 0) {
        struct launch *more = realloc(m->launch, (*at + n + 1) * sizeof *more);
        if (more == NULL) {
            message_error("out of memory");
            return EXIT_MEMORY;
        }
        m->launch = more;
    }
    for (size_t i = 0; i < n; ++i) {
        if (inference && strcmp(times[i].op, "conv_pack") == 0)
            continue;
        if (m->rounds > 0 && *at >= m->count) {
            message_error("a step changed its number of launches");
            return EXIT_INTERNAL;
        }
        m->launch[*at].is = times[i];
        m->launch[*at].inference = inference;
        m->launch[(*at)++].seconds[m->rounds] = times[i].seconds;
    }
    return EXIT_OK;
}

/* One round of one tuning: a training step and, where it is asked for, inference. */
static int measure(struct tune *t, struct timing *m, int inference)
{
    size_t at = 0;
    int code;
    osr_ctx_profile(t->ctx, 1);
    train_step(t);
    code = osr_ctx_status(t->ctx) == OSR_OK ? collect(t, m, &at, 0) : session_fail(t->ctx);
    if (code == EXIT_OK && inference) {
        osr_ctx_profile(t->ctx, 1);
        infer_batch(t);
        code = osr_ctx_status(t->ctx) == OSR_OK ? collect(t, m, &at, 1) : session_fail(t->ctx);
    }
    osr_ctx_profile(t->ctx, 0);
    if (code == EXIT_OK) {
        m->count = at;
        m->rounds++;
    }
    return code;
}

/* The candidate's line with one or the other algorithm comes into force. */
static int apply(struct tune *t, const struct candidate *c, int winograd)
{
    char line[192];
    snprintf(line, sizeof line, "%s %s %s\n", c->shape, c->pass, winograd ? "winograd" : "direct");
    return osr_ctx_tune(t->ctx, line, 0) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

/* What a step in a context without choices asked for. */
static int list_candidates(struct tune *t)
{
    for (const char *at = osr_ctx_tuning(t->ctx); *at != '\0'; at += strcspn(at, "\n") + 1) {
        struct candidate *c = &t->candidate[t->count];
        const char *word = at;
        char made[16];
        if (t->count == CANDIDATES) {
            message_warning("more than %d candidates: the others keep the fixed choice",
                            CANDIDATES);
            break;
        }
        for (int i = 0; i < 11; ++i)
            word += strcspn(word, " ") + 1;
        snprintf(c->shape, sizeof c->shape, "%.*s", (int)(word - at - 1), at);
        if (sscanf(word, "%15s %15s", c->pass, made) != 2)
            return EXIT_INTERNAL;
        c->winograd = c->chosen = strcmp(made, "winograd") == 0;
        c->layer = -1;
        c->direct_ms = c->winograd_ms = NAN;
        t->count++;
    }
    return EXIT_OK;
}

static int is_forward(const struct candidate *c)
{
    return strcmp(c->pass, "forward") == 0;
}

/* Rounds until the time is over, at least one; ends early, with what there is, when interrupted. */
static int measure_all(struct tune *t, double end)
{
    struct progress p;
    int code = EXIT_OK;
    progress_start(&p, "tune", 0, ROUNDS, t->count);
    for (; t->rounds < ROUNDS && code == EXIT_OK; ++t->rounds) {
        const double start = progress_now();
        code = measure(t, &t->fixed, 1);
        for (int i = 0; i < t->count && code == EXIT_OK && signals_pending() == 0; ++i) {
            struct candidate *c = &t->candidate[i];
            code = apply(t, c, !c->winograd);
            if (code == EXIT_OK)
                code = measure(t, &c->timing, is_forward(c));
            if (code == EXIT_OK)
                code = apply(t, c, c->winograd);
            progress_step(&p, t->rounds, i + 1, t->batch, NAN, NAN);
        }
        if (t->rounds == 0) { /* what a round takes tells how many there will be */
            const double rest = (end - progress_now()) / (progress_now() - start);
            p.epochs = rest > ROUNDS - 1 ? ROUNDS : rest > 0.0 ? 1 + (int)rest : 1;
            p.total_steps = (double)p.epochs * (double)t->count;
        }
        if (signals_pending() != 0 || t->rounds + 1 >= p.epochs)
            break;
    }
    status_line_end();
    return code;
}

/* ---- choosing ---- */

static int same_group(const struct launch *a, const struct launch *b)
{
    return a->inference == b->inference && a->is.layer == b->is.layer
           && a->is.backward == b->is.backward && strcmp(a->is.op, b->is.op) == 0;
}

/* Do the launches of the group that `l` belongs to differ between a and b? */
static int differs(const struct timing *a, const struct timing *b, const struct launch *l)
{
    size_t i = 0, j = 0;
    for (;;) {
        while (i < a->count && !same_group(&a->launch[i], l))
            ++i;
        while (j < b->count && !same_group(&b->launch[j], l))
            ++j;
        if (i == a->count || j == b->count)
            return i < a->count || j < b->count;
        if (strcmp(a->launch[i++].is.kernel, b->launch[j++].is.kernel) != 0)
            return 1;
    }
}

/* Milliseconds that a spends in what is not the same in b; notes the layers of the convolutions. */
static double cost(struct candidate *c, const struct timing *a, const struct timing *b)
{
    double sum = 0.0;
    int last = -1;
    c->layers = 0;
    for (size_t i = 0; i < a->count; ++i) {
        const struct launch *l = &a->launch[i];
        if (l->inference && b->launch[b->count - 1].inference == 0)
            continue;
        if (!differs(a, b, l))
            continue;
        sum += median(l->seconds, a->rounds);
        if (l->inference || strncmp(l->is.op, "conv2d", 6) != 0 || l->is.layer == last)
            continue;
        last = l->is.layer;
        if (c->layers++ == 0 || last < c->layer)
            c->layer = last;
    }
    return sum * 1e3;
}

static void choose(struct tune *t)
{
    for (struct candidate *c = t->candidate; c < t->candidate + t->count; ++c) {
        double fixed, other;
        if (c->timing.rounds == 0)
            continue;
        fixed = cost(c, &t->fixed, &c->timing);
        other = cost(c, &c->timing, &t->fixed);
        c->direct_ms = c->winograd ? other : fixed;
        c->winograd_ms = c->winograd ? fixed : other;
        c->chosen = other < (1.0 - GAIN) * fixed ? !c->winograd : c->winograd;
    }
}

/* By layer, forward, input gradient, weight gradient; what was not measured last. */
static int by_layer(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    const unsigned i = (unsigned)x->layer, j = (unsigned)y->layer;
    const int shape = strcmp(x->shape, y->shape); /* passes: f.., dx, dw */
    if (i != j)
        return (i > j) - (i < j);
    if (shape != 0 || is_forward(x) || is_forward(y))
        return shape != 0 ? shape : is_forward(y) - is_forward(x);
    return strcmp(y->pass, x->pass);
}

static int put_in_force(struct tune *t, int chosen)
{
    int code = EXIT_OK;
    for (int i = 0; i < t->count && code == EXIT_OK; ++i)
        code = apply(t, &t->candidate[i], chosen ? t->candidate[i].chosen
                                                 : t->candidate[i].winograd);
    return code;
}

static double total(const struct timing *m)
{
    double sum = 0.0;
    for (size_t i = 0; i < m->count; ++i)
        sum += median(m->launch[i].seconds, m->rounds);
    return sum;
}

/* All changes together against none. */
static int check(struct tune *t)
{
    struct timing fixed = {0}, chosen = {0};
    int changed = 0, code = EXIT_OK;
    t->before = t->after = NAN;
    for (int i = 0; i < t->count; ++i)
        changed += t->candidate[i].chosen != t->candidate[i].winograd;
    for (int i = 0; i < CHECKS && changed > 0 && code == EXIT_OK; ++i) {
        if (i > 0 && signals_pending() != 0)
            break;
        code = put_in_force(t, 0);
        if (code == EXIT_OK)
            code = measure(t, &fixed, 1);
        if (code == EXIT_OK)
            code = put_in_force(t, 1);
        if (code == EXIT_OK)
            code = measure(t, &chosen, 1);
    }
    if (changed > 0 && code == EXIT_OK) {
        t->before = total(&fixed);
        t->after = total(&chosen);
        for (int i = 0; i < t->count && t->after >= t->before; ++i)
            t->candidate[i].chosen = t->candidate[i].winograd;
    }
    free(fixed.launch);
    free(chosen.launch);
    return code;
}

/* Adds what was measured to what the device's file has of other networks. */
static int keep(struct tune *t)
{
    osr_ctx *ctx = NULL;
    char *text = calloc((size_t)t->count + 1, 192);
    int code = session_open_tuned(t->o, "auto", &ctx);
    size_t at = 0;
    if (text == NULL && code == EXIT_OK)
        code = EXIT_MEMORY;
    for (int i = 0; i < t->count && code == EXIT_OK; ++i) {
        const struct candidate *c = &t->candidate[i];
        if (c->timing.rounds > 0)
            at += (size_t)snprintf(text + at, 192, "%s %s %s\n", c->shape, c->pass,
                                   c->chosen ? "winograd" : "direct");
    }
    if (code == EXIT_OK) {
        snprintf(t->file, sizeof t->file, "%s", osr_ctx_tuning_file(ctx));
        code = osr_ctx_tune(ctx, text, 1) == OSR_OK ? EXIT_OK : session_fail(ctx);
    }
    osr_ctx_destroy(ctx);
    free(text);
    return code;
}

/* ---- output ---- */

static double gain_of(const struct candidate *c)
{
    const double fixed = c->winograd ? c->winograd_ms : c->direct_ms;
    const double other = c->winograd ? c->direct_ms : c->winograd_ms;
    return c->chosen == c->winograd ? 0.0 : 1.0 - other / fixed;
}

static const char *pass_name(const struct candidate *c)
{
    return is_forward(c)                 ? "forward"
           : strcmp(c->pass, "dx") == 0 ? "input gradient"
                                         : "weight gradient";
}

static int print_json(const struct tune *t)
{
    struct json j = {0};
    char device[512];
    int code;
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "osr-tune-1");
    json_text(&j, "version", osr_version());
    json_text(&j, "device", device_text(t->ctx, device, sizeof device));
    json_text(&j, "kernels", osr_ctx_kernels(t->ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu");
    json_text(&j, "net", option_text(t->o, "network"));
    json_text(&j, "method", option_text(t->o, "method"));
    json_integer(&j, "size", t->side);
    json_integer(&j, "batch", t->batch);
    json_integer(&j, "rounds", t->fixed.rounds);
    json_text(&j, "file", t->file);
    json_real(&j, "fixed_ms", t->before * 1e3);
    json_real(&j, "tuned_ms", t->after * 1e3);
    json_open(&j, "rows", '[');
    for (const struct candidate *c = t->candidate; c < t->candidate + t->count; ++c) {
        json_open(&j, NULL, '{');
        if (c->layer >= 0)
            json_integer(&j, "layer", c->layer);
        else
            json_text(&j, "layer", NULL);
        json_integer(&j, "layers", c->layers);
        json_text(&j, "shape", c->shape);
        json_text(&j, "pass", pass_name(c));
        json_real(&j, "direct_ms", c->direct_ms);
        json_real(&j, "winograd_ms", c->winograd_ms);
        json_text(&j, "fixed", c->winograd ? "winograd" : "direct");
        json_text(&j, "chosen", c->chosen ? "winograd" : "direct");
        json_real(&j, "gain", gain_of(c));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    code = json_print(&j);
    json_free(&j);
    return code;
}

static void cell_ms(struct table *table, double ms)
{
    if (isnan(ms))
        table_cell(table, "-");
    else
        table_cell(table, "%.3f", ms);
}

static int print_text(const struct tune *t)
{
    static const char *const heads[] = {"layer", "convolution", "pass", "direct ms", "Winograd ms",
                                        "chosen", "gain"};
    char device[512];
    struct table table;
    int code;
    printf("device   %s\n", device_text(t->ctx, device, sizeof device));
    printf("network  %s with %s, %d x %d x %d, batch %d, %d rounds\n\n",
           option_text(t->o, "network"), option_text(t->o, "method"), t->channels, t->side, t->side,
           t->batch, t->fixed.rounds);
    table_start(&table, 7);
    for (int i = 0; i < 7; ++i)
        table_cell(&table, "%s", heads[i]);
    for (const struct candidate *c = t->candidate; c < t->candidate + t->count; ++c) {
        int k[11] = {0};
        sscanf(c->shape, "%d %d %d %d %d %d %d %d %d %d", &k[0], &k[1], &k[2], &k[3], &k[4], &k[5],
               &k[6], &k[7], &k[8], &k[9]);
        if (c->layers > 1)
            table_cell(&table, "%d, %d more", c->layer, c->layers - 1);
        else
            table_cell(&table, c->layer < 0 ? "-" : "%d", c->layer);
        table_cell(&table, "%dx%d, %d to %d%s", k[1], k[2], k[3], k[4],
                   k[9] == 2 ? ", stride 2" : "");
        table_cell(&table, "%s", pass_name(c));
        cell_ms(&table, c->direct_ms);
        cell_ms(&table, c->winograd_ms);
        table_cell(&table, "%s%s", c->chosen ? "winograd" : "direct",
                   c->chosen != c->winograd ? " *" : "");
        table_cell(&table, "%.1f%%", 100.0 * gain_of(c));
    }
    code = table_print(&table);
    if (!isnan(t->after))
        printf("\n* not the choice without tuning. All together: %.1f ms without, %.1f ms with "
               "them%s\n", t->before * 1e3, t->after * 1e3,
               t->after < t->before ? "" : ", so the fixed choices stay");
    printf("%skept in %s; osr train --tuned yes and osr bench --tuned yes use it\n",
           isnan(t->after) ? "\n" : "", t->file);
    return code;
}

static int tune(struct tune *t)
{
    const double start = progress_now();
    int code = session_open_tuned(t->o, "", &t->ctx);
    if (code == EXIT_OK)
        code = make_model(t);
    if (code == EXIT_OK)
        code = make_data(t);
    if (code != EXIT_OK)
        return code;
    train_step(t);
    infer_batch(t);
    if (osr_ctx_status(t->ctx) != OSR_OK)
        return session_fail(t->ctx);
    code = list_candidates(t);
    if (code == EXIT_OK)
        code = measure_all(t, start + option_real(t->o, "seconds"));
    if (code != EXIT_OK)
        return code;
    choose(t);
    qsort(t->candidate, (size_t)t->count, sizeof *t->candidate, by_layer);
    code = check(t);
    if (code == EXIT_OK)
        code = keep(t);
    if (code == EXIT_OK)
        code = option_flag(t->o, "json") ? print_json(t) : print_text(t);
    return code == EXIT_OK ? signals_pending() : code;
}

int cmd_tune(struct options *o)
{
    struct tune *t = calloc(1, sizeof *t);
    if (t == NULL) {
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    t->o = o;
    t->side = (int)option_int(o, "size");
    t->batch = (int)option_int(o, "batch");
    t->channels = (int)option_int(o, "channels");
    signals_install();
    const int code = tune(t);
    status_line_end();
    osr_model_destroy(t->model);
    osr_ctx_destroy(t->ctx);
    for (int i = 0; i < t->count; ++i)
        free(t->candidate[i].timing.launch);
    free(t->fixed.launch);
    free(t->images);
    free(t->logits);
    free(t->labels);
    free(t);
    return code;
}
