/* selftest_networks.c - whole networks: every row of osr_network_at in eval mode against the
 * reference, layer by layer as the table says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"
#include "reference.h"
#include "selftest_table.h"

enum { PHILOX_NETWORKS = 0x6e657477, IMAGES = 2, SIDE = 8, CHANNELS = 3, OUT = 5, MOST = 16 };

/* A network once more in double. */
struct twin {
    osr_ctx *ctx;
    osr_net *net;
    const osr_layer *layers;
    const osr_named *named;
    int count, named_count;
    double *value[OSR_NETWORK_LAYERS]; /* by layer, [IMAGES, ...] */
    int failed;                        /* no memory, or the device refused */
};

static double *room(struct twin *t, size_t count)
{
    double *p = t->failed ? NULL : calloc(count, sizeof *p);
    t->failed = t->failed || p == NULL;
    return p;
}

/* A tensor of a layer in double; NULL where it has none of that name. Allocated. */
static double *tensor(struct twin *t, int layer, const char *what)
{
    char start[16];
    const size_t n = (size_t)snprintf(start, sizeof start, "%d.", layer);
    for (int i = 0; i < t->named_count; i++) {
        const osr_named *row = &t->named[i];
        if (strncmp(row->name, start, n) != 0 || strcmp(strrchr(row->name, '.') + 1, what) != 0)
            continue;
        const size_t count = osr_shape_count(osr_shape_of(t->ctx, row->tensor));
        double *d = room(t, count);
        float *f = malloc(count * sizeof *f);
        t->failed = t->failed || f == NULL
                    || osr_read(t->ctx, row->tensor, f, count) != OSR_OK;
        for (size_t k = 0; k < count && !t->failed; k++)
            d[k] = (double)f[k];
        free(f);
        return d;
    }
    return NULL;
}

static size_t size_of(const struct twin *t, int layer)
{
    return IMAGES * osr_shape_count(osr_net_shape(t->net, layer));
}

static void convolve(struct twin *t, int i, const double *x, osr_shape in)
{
    const osr_layer *l = &t->layers[i];
    double *w = tensor(t, i, "weight");
    struct ref_conv c = {IMAGES, in.dim[1], in.dim[2], in.dim[3], l->out, l->size, l->size,
                         l->stride > 0 ? l->stride : 1, l->pad, l->pad};
    if (!t->failed)
        ref_conv2d(x, w, t->value[i], &c);
    free(w);
}

static void normalise(struct twin *t, int i, const double *x, osr_shape in)
{
    double *gamma = tensor(t, i, "weight"), *beta = tensor(t, i, "bias");
    double *mean = tensor(t, i, "running_mean"), *var = tensor(t, i, "running_var");
    struct ref_batchnorm b = {(size_t)(IMAGES * in.dim[1] * in.dim[2]), in.dim[3], 0,
                              (double)OSR_BATCHNORM_EPS, 0.0};
    if (!t->failed)
        ref_batchnorm(x, gamma, beta, mean, var, t->value[i], &b);
    free(gamma);
    free(beta);
    free(mean);
    free(var);
}

static void connect(struct twin *t, int i, const double *x, osr_shape in)
{
    double *w = tensor(t, i, "weight"), *b = tensor(t, i, "bias");
    if (!t->failed)
        ref_linear(x, w, b, t->value[i], IMAGES, in.dim[1], t->layers[i].out);
    free(w);
    free(b);
}

/* 0 for a kind that no ready network has. */
static int layer(struct twin *t, int i, const double *images)
{
    const osr_layer *l = &t->layers[i];
    const int from = l->from > 0 ? l->from - 1 : i - 1;
    const osr_shape in = osr_net_shape(t->net, from);
    const double *x = from < 0 ? images : t->value[from];
    const size_t n = size_of(t, i);
    t->value[i] = room(t, n);
    if (t->failed)
        return 1;
    switch (l->kind) {
    case OSR_LAYER_CONV: convolve(t, i, x, in); return 1;
    case OSR_LAYER_BATCHNORM: normalise(t, i, x, in); return 1;
    case OSR_LAYER_LINEAR: connect(t, i, x, in); return 1;
    case OSR_LAYER_LEAKY_RELU: ref_leaky_relu(x, t->value[i], n, (double)l->slope); return 1;
    case OSR_LAYER_DROPOUT: memcpy(t->value[i], x, n * sizeof *x); return 1;
    case OSR_LAYER_ADD: ref_map(REF_ADD, x, t->value[l->with - 1], t->value[i], n, 0, 0); return 1;
    case OSR_LAYER_GLOBAL_AVG_POOL:
        ref_global_avg_pool(x, t->value[i], IMAGES, in.dim[1] * in.dim[2], in.dim[3]);
        return 1;
    case OSR_LAYER_FLATTEN:
        ref_flatten(x, t->value[i], IMAGES, in.dim[1] * in.dim[2], in.dim[3]);
        return 1;
    default: return 0;
    }
}

static int make(struct twin *t, struct check *c, const osr_network_row *row)
{
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc variant = {0};
    osr_net_desc desc = {0};
    memset(t, 0, sizeof *t);
    t->ctx = c->ctx;
    variant.out = OUT;
    variant.side = SIDE;
    variant.dropout = 0.3f; /* whose layers must not matter here */
    desc.height = desc.width = SIDE;
    desc.channels = CHANNELS;
    desc.layer_count = row->table(&variant, layers);
    desc.layers = layers;
    if (osr_net_create(c->ctx, &desc, &t->net) != OSR_OK)
        return 0;
    t->layers = osr_net_layers(t->net, &t->count);
    t->named = osr_net_tensors(t->net, &t->named_count);
    return 1;
}

static const char *check_network(struct check *c, const osr_network_row *row)
{
    enum { PIXELS = IMAGES * SIDE * SIDE * CHANNELS };
    struct philox p = philox_start(c->seed, PHILOX_NETWORKS, 0);
    const osr_shape s = osr_shape_make(4, IMAGES, SIDE, SIDE, CHANNELS);
    struct twin t;
    float x[PIXELS], y[IMAGES * OUT];
    double exact[PIXELS];
    const char *why = NULL;
    if (!make(&t, c, row))
        return ""; /* the context has the reason */
    for (int i = 0; i < PIXELS; i++)
        exact[i] = (double)(x[i] = (float)philox_between(&p, -1.0, 1.0));
    osr_read(c->ctx, osr_net_forward(t.net, osr_input(c->ctx, s, x), 0), y, IMAGES * OUT);
    osr_step_end(c->ctx);
    for (int i = 0; i < t.count && why == NULL; i++)
        if (!layer(&t, i, exact))
            why = "a kind of layer that the check does not know";
    if (t.failed)
        why = "out of memory";
    if (why == NULL) {
        const double e = relative_error(y, t.value[t.count - 1], IMAGES * OUT);
        c->error = e <= c->error ? c->error : e;
    }
    for (int i = 0; i < t.count; i++)
        free(t.value[i]);
    osr_net_destroy(t.net);
    if (why == NULL)
        return NULL;
    snprintf(c->text, sizeof c->text, "%s: %s", row->name, why);
    return c->text;
}

const char *check_networks(struct check *c)
{
    const osr_network_row *row;
    const char *why = NULL;
    for (int i = 0; i < MOST && why == NULL && (row = osr_network_at(i)) != NULL; i++)
        why = check_network(c, row);
    return why;
}
