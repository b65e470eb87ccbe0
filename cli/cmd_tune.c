/* osr tune - which way is the fastest one, for each pass of each convolution of a network's
 * training step and of inference, on random images: the algorithm and, with the GPU kernels, also
 * for other matrix products, the tiles or CLBlast.
 *
 * The network's steps run with every launch timed: once as the choice is without tuning, then with
 * one pass of one shape changed at a time, round after round, so that another load or a change of
 * clock meets all of them; medians over the rounds. A way is charged with its own launches and with
 * those of its neighbours that come or go with it (Winograd's kernels for CPUs normalise what they
 * read and sum up the statistics of what they write). A way that fails, or whose gradients are not
 * those of the fixed choice, is left out with a warning. A change must gain 3%, and at the end all
 * changes together must gain, too; else the fixed choice stays.
 *
 * The clock is looked at before each step: what would not be over in time is left out and counted.
 * The first step, from which the passes are known, and the building of kernels cannot be cut. */
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

enum { CLASSES = 6, CANDIDATES = 256, WAYS = 7, ROUNDS = 9, CHECKS = 5, STREAM = 0x74756e00 };
static const double GAIN = 0.03;  /* below it lies the noise of a shared machine */
static const double WRONG = 1e-2; /* relative RMS error of gradients: rounding stays far below it */

/* The last word of a line of a tuning, in the order in which they are tried. */
static const char *const words[] = {"direct", "winograd", "direct-small", "winograd-small",
                                    "direct-large", "winograd-large", "direct-clblast",
                                    "winograd-clblast"};
enum { WORDS = sizeof words / sizeof words[0] };

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

/* How a pass of a convolution, or a product, can be made. */
struct way {
    const char *word;
    struct timing timing; /* where it is not the fixed one */
    double fixed_ms, ms;  /* what differs, by the fixed choice and this way; NaN: not measured */
    int bad;
};

struct candidate {
    char shape[128], pass[16];       /* of its line in a tuning */
    struct way way[WAYS];
    int ways, fixed, chosen;
    int layer, layers; /* layer: the first, -1 none; layers: how many have this shape */
};

struct tune {
    const struct options *o;
    osr_ctx *ctx;
    osr_model *model;
    float *images, *logits, *right, *gradients; /* right: gradients of the fixed choice */
    size_t gradient_count;
    int32_t *labels;
    int side, batch, channels;
    struct candidate candidate[CANDIDATES];
    int count, left_out;
    double end, step; /* clock; seconds of the last round of the fixed choice */
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
    const osr_optimiser_desc sgd = {0}; /* rate 0: each step has the same gradients */
    float loss;
    osr_ctx_set_step(t->ctx, 1); /* the same dropout each time */
    osr_model_train(t->model, t->images, t->labels, t->batch, &sgd, &loss, NULL);
}

static void infer_batch(struct tune *t)
{
    osr_outputs out = {0};
    out.logits = t->logits;
    osr_model_run(t->model, t->images, NULL, t->batch, &out);
}

/* Room for the gradients of all parameters, twice. */
static int gradient_room(struct tune *t)
{
    int n;
    const osr_named *named = osr_model_tensors(t->model, &n);
    for (int i = 0; i < n; ++i)
        if (named[i].trainable)
            t->gradient_count += osr_shape_count(osr_shape_of(t->ctx, named[i].tensor));
    t->right = calloc(t->gradient_count, sizeof *t->right);
    t->gradients = calloc(t->gradient_count, sizeof *t->gradients);
    if (t->right != NULL && t->gradients != NULL)
        return EXIT_OK;
    message_error("out of memory");
    return EXIT_MEMORY;
}

static int gradients(struct tune *t, float *to)
{
    int n;
    const osr_named *named = osr_model_tensors(t->model, &n);
    for (int i = 0; i < n; ++i)
        if (named[i].trainable) {
            const size_t count = osr_shape_count(osr_shape_of(t->ctx, named[i].tensor));
            osr_read(t->ctx, osr_gradient(t->ctx, named[i].tensor), to, count);
            to += count;
        }
    return osr_ctx_status(t->ctx) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

/* Relative RMS error of the last step's gradients against the fixed choice's. */
static double gradient_error(const struct tune *t)
{
    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < t->gradient_count; ++i) {
        const double d = (double)t->gradients[i] - (double)t->right[i];
        error += d * d;
        size += (double)t->right[i] * (double)t->right[i];
    }
    return size > 0.0 ? sqrt(error / size) : sqrt(error);
}

/* Is there time for so many steps more? */
static int in_time(const struct tune *t, int steps)
{
    return progress_now() + steps * t->step <= t->end;
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

/* One round of one tuning: a training step and, where it is asked for, inference. An error of the
 * context is left in it. */
static int measure(struct tune *t, struct timing *m, int inference)
{
    const double start = progress_now();
    size_t at = 0;
    int code = EXIT_OK;
    osr_ctx_profile(t->ctx, 1);
    train_step(t);
    if (osr_ctx_status(t->ctx) == OSR_OK)
        code = collect(t, m, &at, 0);
    if (osr_ctx_status(t->ctx) == OSR_OK && code == EXIT_OK && inference) {
        osr_ctx_profile(t->ctx, 1);
        infer_batch(t);
        if (osr_ctx_status(t->ctx) == OSR_OK)
            code = collect(t, m, &at, 1);
    }
    osr_ctx_profile(t->ctx, 0);
    if (osr_ctx_status(t->ctx) == OSR_OK && code == EXIT_OK) {
        m->count = at;
        m->rounds++;
    }
    if (m == &t->fixed)
        t->step = progress_now() - start;
    return code;
}

/* The candidate's line with one of its ways comes into force. */
static int apply(struct tune *t, const struct candidate *c, const char *word)
{
    char line[192];
    snprintf(line, sizeof line, "%s %s %s\n", c->shape, c->pass, word);
    return osr_ctx_tune(t->ctx, line, 0) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

/* Is this word in force for the candidate, that is, can it be? */
static int in_force(const struct tune *t, const struct candidate *c, const char *word)
{
    char line[192];
    const int n = snprintf(line, sizeof line, "%s %s %s\n", c->shape, c->pass, word);
    const char *at = osr_ctx_tuning(t->ctx);
    while (*at != '\0' && strncmp(at, line, (size_t)n) != 0)
        at += strcspn(at, "\n") + 1;
    return *at != '\0';
}

/* All ways of a candidate that can be; `fixed` is in force. */
static int list_ways(struct tune *t, struct candidate *c, const char *fixed)
{
    int code = EXIT_OK;
    for (int i = 0; i < (int)WORDS && code == EXIT_OK; ++i) {
        const int clblast = strstr(words[i], "-clblast") != NULL;
#ifndef OSR_CLBLAST
        if (clblast)
            continue;
#endif
        if (clblast && osr_ctx_device(t->ctx)->kind == OSR_DEVICE_CPU)
            continue; /* slow there */
        code = apply(t, c, words[i]);
        if (code != EXIT_OK || !in_force(t, c, words[i]) || c->ways == WAYS)
            continue;
        if (strcmp(words[i], fixed) == 0)
            c->fixed = c->chosen = c->ways;
        c->way[c->ways].word = words[i];
        c->way[c->ways].fixed_ms = c->way[c->ways].ms = NAN;
        c->ways++;
    }
    return code == EXIT_OK ? apply(t, c, fixed) : code;
}

/* What a step in a context without choices asked for. */
static int list_candidates(struct tune *t)
{
    const char *all = osr_ctx_tuning(t->ctx);
    char *text = malloc(strlen(all) + 1); /* the context's own changes with each line applied */
    int code = text != NULL ? EXIT_OK : EXIT_MEMORY;
    if (text != NULL)
        strcpy(text, all);
    for (const char *at = text; code == EXIT_OK && *at != '\0'; at += strcspn(at, "\n") + 1) {
        struct candidate *c = &t->candidate[t->count];
        const char *word = at;
        char made[24];
        if (t->count == CANDIDATES) {
            message_warning("more than %d candidates: the others keep the fixed choice",
                            CANDIDATES);
            break;
        }
        for (int i = 0; i < 11; ++i)
            word += strcspn(word, " ") + 1;
        snprintf(c->shape, sizeof c->shape, "%.*s", (int)(word - at - 1), at);
        if (sscanf(word, "%15s %23s", c->pass, made) != 2) {
            code = EXIT_INTERNAL;
            break;
        }
        c->layer = -1;
        code = list_ways(t, c, made);
        t->count++;
    }
    free(text);
    return code;
}

/* Passes that inference has, too. */
static int is_forward(const struct candidate *c)
{
    return strcmp(c->pass, "forward") == 0 || strcmp(c->pass, "nt") == 0;
}

/* One round of a way. One that fails or is wrong is not tried again. */
static int measure_way(struct tune *t, struct candidate *c, struct way *w)
{
    double error;
    int code = apply(t, c, w->word);
    if (code == EXIT_OK)
        code = measure(t, &w->timing, is_forward(c));
    if (code == EXIT_OK && osr_ctx_status(t->ctx) != OSR_OK) {
        message_warning("%s %s %s is left out: %s", c->shape, c->pass, w->word,
                        osr_ctx_message(t->ctx));
        osr_ctx_clear_error(t->ctx);
        w->bad = 1;
    } else if (code == EXIT_OK && w->timing.rounds == 1) {
        code = gradients(t, t->gradients);
        error = gradient_error(t);
        w->bad = code == EXIT_OK && !(error <= WRONG);
        if (w->bad)
            message_warning("%s %s %s is left out: its gradients are wrong, by %.2g",
                            c->shape, c->pass, w->word, error);
    }
    return code == EXIT_OK ? apply(t, c, c->way[c->fixed].word) : code;
}

/* Ways to be measured, and how many of them have not been. */
static int count_ways(const struct tune *t, int *unmeasured)
{
    int n = 0;
    *unmeasured = 0;
    for (int i = 0; i < t->count; ++i)
        for (int k = 0; k < t->candidate[i].ways; ++k) {
            const struct way *w = &t->candidate[i].way[k];
            n += k != t->candidate[i].fixed;
            *unmeasured += k != t->candidate[i].fixed && !w->bad && w->timing.rounds == 0;
        }
    return n;
}

/* Rounds until the time is over, of which two steps are left for the check; ends early, with what
 * there is, when interrupted. The first ways of all candidates come before their second ones. */
static int measure_all(struct tune *t)
{
    enum { RESERVE = 3 };
    struct progress p;
    int code = EXIT_OK, on = in_time(t, RESERVE);
    progress_start(&p, "tune", 0, ROUNDS, count_ways(t, &t->left_out));
    for (int round = 0; round < ROUNDS && on && code == EXIT_OK; ++round) {
        int done = 0;
        code = measure(t, &t->fixed, 1);
        if (code == EXIT_OK && osr_ctx_status(t->ctx) != OSR_OK)
            code = session_fail(t->ctx);
        if (code == EXIT_OK && round == 0)
            code = gradients(t, t->right);
        for (int k = 0; k < WAYS && code == EXIT_OK && on; ++k)
            for (int i = 0; i < t->count && code == EXIT_OK && on; ++i) {
                struct candidate *c = &t->candidate[i];
                if (k >= c->ways || k == c->fixed || c->way[k].bad)
                    continue;
                on = in_time(t, RESERVE) && signals_pending() == 0;
                if (on)
                    code = measure_way(t, c, &c->way[k]);
                progress_step(&p, round, ++done, t->batch, NAN, NAN);
            }
        on = on && in_time(t, RESERVE) && signals_pending() == 0;
    }
    status_line_end();
    count_ways(t, &t->left_out);
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
        if (strcmp(a->launch[i].is.kernel, b->launch[j].is.kernel) != 0
            || a->launch[i].is.products != b->launch[j].is.products)
            return 1;
        ++i;
        ++j;
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
        if (l->inference || l->is.layer == last
            || (strncmp(l->is.op, "conv2d", 6) != 0 && strcmp(l->is.op, "matmul") != 0))
            continue;
        last = l->is.layer;
        if (c->layers++ == 0 || last < c->layer)
            c->layer = last;
    }
    return sum * 1e3;
}

/* The way that saves most, if any saves enough. */
static void choose(struct tune *t)
{
    for (struct candidate *c = t->candidate; c < t->candidate + t->count; ++c)
        for (int k = 0; k < c->ways; ++k) {
            struct way *w = &c->way[k];
            const struct way *best = &c->way[c->chosen];
            if (w->timing.rounds == 0 || w->bad)
                continue;
            w->fixed_ms = cost(c, &t->fixed, &w->timing);
            w->ms = cost(c, &w->timing, &t->fixed);
            if (w->ms < (1.0 - GAIN) * w->fixed_ms
                && (c->chosen == c->fixed || w->fixed_ms - w->ms > best->fixed_ms - best->ms))
                c->chosen = k;
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
        code = apply(t, &t->candidate[i],
                     t->candidate[i].way[chosen ? t->candidate[i].chosen
                                                : t->candidate[i].fixed].word);
    return code;
}

static double total(const struct timing *m)
{
    double sum = 0.0;
    for (size_t i = 0; i < m->count; ++i)
        sum += median(m->launch[i].seconds, m->rounds);
    return sum;
}

static int changes(const struct tune *t)
{
    int n = 0;
    for (int i = 0; i < t->count; ++i)
        n += t->candidate[i].chosen != t->candidate[i].fixed;
    return n;
}

/* All changes together against none, as often as there is time, once in any case. */
static int check(struct tune *t)
{
    struct timing fixed = {0}, chosen = {0};
    const int changed = changes(t);
    int code = EXIT_OK;
    t->before = t->after = NAN;
    for (int i = 0; i < CHECKS && changed > 0 && code == EXIT_OK; ++i) {
        if (i > 0 && (signals_pending() != 0 || !in_time(t, 2)))
            break;
        code = put_in_force(t, 0);
        if (code == EXIT_OK)
            code = measure(t, &fixed, 1);
        if (code == EXIT_OK)
            code = put_in_force(t, 1);
        if (code == EXIT_OK)
            code = measure(t, &chosen, 1);
        if (code == EXIT_OK && osr_ctx_status(t->ctx) != OSR_OK)
            code = session_fail(t->ctx);
    }
    if (changed > 0 && code == EXIT_OK) {
        t->before = total(&fixed);
        t->after = total(&chosen);
        for (int i = 0; i < t->count && t->after >= t->before; ++i)
            t->candidate[i].chosen = t->candidate[i].fixed;
    }
    free(fixed.launch);
    free(chosen.launch);
    return code;
}

/* Was any other way than the fixed one measured? */
static int measured(const struct candidate *c)
{
    for (int k = 0; k < c->ways; ++k)
        if (c->way[k].timing.rounds > 0 && !c->way[k].bad)
            return 1;
    return 0;
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
        if (measured(c))
            at += (size_t)snprintf(text + at, 192, "%s %s %s\n", c->shape, c->pass,
                                   c->way[c->chosen].word);
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

/* The measured way that saves most, chosen or not; NULL where none was. */
static const struct way *best_of(const struct candidate *c)
{
    const struct way *best = NULL;
    for (const struct way *w = c->way; w < c->way + c->ways; ++w)
        if (!isnan(w->ms) && (best == NULL || w->fixed_ms - w->ms > best->fixed_ms - best->ms))
            best = w;
    return best;
}

static double gain_of(const struct candidate *c)
{
    const struct way *w = &c->way[c->chosen];
    return c->chosen == c->fixed ? 0.0 : 1.0 - w->ms / w->fixed_ms;
}

static const char *pass_name(const struct candidate *c)
{
    return strcmp(c->pass, "forward") == 0 ? "forward"
           : strcmp(c->pass, "dx") == 0    ? "input gradient"
           : strcmp(c->pass, "dw") == 0    ? "weight gradient"
                                           : c->pass;
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
    json_integer(&j, "left_out", t->left_out);
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
        json_text(&j, "fixed", c->way[c->fixed].word);
        json_text(&j, "chosen", c->way[c->chosen].word);
        json_real(&j, "gain", gain_of(c));
        json_open(&j, "ways", '[');
        for (const struct way *w = c->way; w < c->way + c->ways; ++w) {
            if (w == &c->way[c->fixed])
                continue;
            json_open(&j, NULL, '{');
            json_text(&j, "way", w->word);
            json_real(&j, "fixed_ms", w->fixed_ms);
            json_real(&j, "way_ms", w->ms);
            json_close(&j, '}');
        }
        json_close(&j, ']');
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
    static const char *const heads[] = {"layer", "shape", "pass", "without", "ms", "best other",
                                        "ms", "gain"};
    char device[512];
    struct table table;
    int code;
    printf("device   %s\n", device_text(t->ctx, device, sizeof device));
    printf("network  %s with %s, %d x %d x %d, batch %d, %d rounds\n\n",
           option_text(t->o, "network"), option_text(t->o, "method"), t->channels, t->side, t->side,
           t->batch, t->fixed.rounds);
    table_start(&table, 8);
    for (int i = 0; i < 8; ++i)
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
        const struct way *best = best_of(c);
        table_cell(&table, "%s", c->way[c->fixed].word);
        cell_ms(&table, best != NULL ? best->fixed_ms : NAN);
        table_cell(&table, "%s%s", best != NULL ? best->word : "-",
                   c->chosen != c->fixed ? " *" : "");
        cell_ms(&table, best != NULL ? best->ms : NAN);
        table_cell(&table, "%.1f%%", 100.0 * gain_of(c));
    }
    code = table_print(&table);
    if (!isnan(t->after))
        printf("\n* chosen instead. All together: %.1f ms without, %.1f ms with "
               "them%s\n", t->before * 1e3, t->after * 1e3,
               t->after < t->before ? "" : ", so the fixed choices stay");
    if (t->left_out > 0)
        printf("\n%d of %d other ways were not timed: --seconds %g is too short for them\n",
               t->left_out, count_ways(t, &(int){0}), option_real(t->o, "seconds"));
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
    t->end = start + option_real(t->o, "seconds");
    train_step(t);
    if (osr_ctx_status(t->ctx) != OSR_OK)
        return session_fail(t->ctx);
    code = list_candidates(t);
    if (code == EXIT_OK)
        code = gradient_room(t);
    if (code == EXIT_OK)
        code = measure_all(t);
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
        for (int k = 0; k < t->candidate[i].ways; ++k)
            free(t->candidate[i].way[k].timing.launch);
    free(t->fixed.launch);
    free(t->images);
    free(t->logits);
    free(t->right);
    free(t->gradients);
    free(t->labels);
    free(t);
    return code;
}
