/* bench_rows.c - where the time of a step goes: launches by layer, op and pass; see bench.h. */
#include "bench.h"

#include "exit_codes.h"
#include "output.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILED = 5 }; /* steps with every launch timed */

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

/* The layer that a launch serves. In inference a convolution is recorded by the last of the layers
 * that it does as well; it is shown with its own. */
static int layer_of(const struct bench *b, const osr_launch_time *t)
{
    const osr_model_desc *d = osr_model_get_desc(b->model);
    int layer = t->layer;
    if (strncmp(t->op, "conv", 4) == 0 && layer < d->layer_count)
        while (layer >= 0 && d->layers[layer].kind != OSR_LAYER_CONV)
            --layer;
    return layer;
}

/* The row of a launch, made where there is none; there is room for it. */
static struct bench_row *row_of(struct bench *b, const osr_launch_time *t, int inference)
{
    const char *pass = inference ? "inference" : pass_of(t);
    const int layer = layer_of(b, t);
    struct bench_row *r;
    for (r = b->row; r < b->row + b->row_count; ++r)
        if (r->layer == layer && strcmp(r->op, t->op) == 0 && strcmp(r->pass, pass) == 0)
            return r;
    b->row_count++;
    memset(r, 0, sizeof *r);
    r->op = t->op;
    r->pass = pass;
    r->algorithm = "-";
    r->products = "";
    r->layer = layer;
    r->inference = inference;
    r->earlier = NAN;
    return r;
}

static void add_launch(struct bench *b, struct bench_timed *all, const osr_launch_time *t,
                       double seconds)
{
    static const char *const products[] = {"", "-small", "-large", "-clblast"};
    struct bench_row *r = row_of(b, t, all == &b->inference);
    r->launches++;
    r->seconds += seconds;
    r->flops += t->flops;
    if (t->flops > 0.0)
        r->algorithm = algorithm_of(t);
    if (t->products != OSR_PRODUCTS_FIXED)
        r->products = products[t->products];
    all->seconds += seconds;
    all->flops += t->flops;
}

/* Room for the launches of one more kind of step: their rows and times. */
static int make_room(struct bench *b, size_t count, double **seconds)
{
    struct bench_row *more = realloc(b->row, (b->row_count + count + 1) * sizeof *more);
    *seconds = calloc(count * PROFILED + 1, sizeof **seconds);
    if (more != NULL)
        b->row = more;
    if (more != NULL && *seconds != NULL)
        return EXIT_OK;
    message_error("out of memory");
    return EXIT_MEMORY;
}

/* Rows from the median time of each launch over some steps. */
static int add_rows(struct bench *b, double (*run)(struct bench *), struct bench_timed *all)
{
    const osr_launch_time *times = NULL;
    double *seconds = NULL;
    size_t count = 0;
    int code = EXIT_OK;
    for (int step = 0; step < PROFILED && code == EXIT_OK; ++step) {
        osr_ctx_profile(b->ctx, 1);
        run(b);
        const size_t n = osr_ctx_profile_get(b->ctx, &times);
        if (osr_ctx_status(b->ctx) != OSR_OK) {
            code = session_fail(b->ctx);
        } else if (step > 0 && n != count) {
            message_error("%zu launches were timed instead of %zu", n, count);
            code = EXIT_INTERNAL;
        } else if (step == 0) {
            count = n;
            code = make_room(b, count, &seconds);
        }
        for (size_t i = 0; i < count && code == EXIT_OK; ++i)
            seconds[i * PROFILED + (size_t)step] = times[i].seconds;
    }
    for (size_t i = 0; i < count && code == EXIT_OK; ++i)
        add_launch(b, all, &times[i], bench_median(seconds + i * PROFILED, PROFILED));
    osr_ctx_profile(b->ctx, 0);
    free(seconds);
    return code;
}

int bench_rows(struct bench *b)
{
    int code = add_rows(b, bench_train_step, &b->step);
    if (code == EXIT_OK) {
        bench_infer_batch(b); /* prepares the weights that the steps changed */
        code = add_rows(b, bench_infer_batch, &b->inference);
    }
    for (const struct bench_row *r = b->row; r < b->row + b->row_count; ++r) {
        struct bench_timed *all = r->inference ? &b->inference : &b->step;
        all->elementwise += r->flops > 0.0 ? 0.0 : r->seconds;
    }
    return code;
}
