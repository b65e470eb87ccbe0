/* test_networks - every ready network against networks.h, which PyTorch computed in double: number
 * of parameters, logits at 32 and 64 pixels, and a training step; how often weights are transformed
 *
 * Bounds on relative RMS, the error's RMS over the reference's: 1e-5 of logits and the loss, 1e-4
 * of each gradient and the running statistics, to which the rounding of all layers adds. */
#include "networks.h"
#include "networks_fill.h"
#include "osr.h"
#include "test.h"

enum { CLASSES = 6, MOST = 16 };

/* A network of its own context, with the weights of networks.py. */
struct made {
    osr_ctx *ctx;
    osr_net *net;
    int side;
};

static void fill(osr_ctx *ctx, const osr_named *t, int row)
{
    const osr_shape s = osr_shape_of(ctx, t->tensor);
    const size_t count = osr_shape_count(s);
    float *values = malloc(count * sizeof *values);
    if (!CHECK(values != NULL))
        return;
    fill_tensor(t->name, row, s.rank, s.dim[0], values, count);
    CHECK(osr_write(ctx, t->tensor, values, count) == OSR_OK);
    free(values);
}

/* direct: as of osr_ctx_desc. */
static int make(struct made *m, osr_kernels family, int direct, const char *name, int side)
{
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc variant;
    osr_net_desc desc;
    osr_ctx_desc context;
    const osr_network_row *row = osr_network_find(name);
    const osr_named *named;
    int count = 0;
    memset(m, 0, sizeof *m);
    memset(&variant, 0, sizeof variant);
    memset(&desc, 0, sizeof desc);
    memset(&context, 0, sizeof context);
    context.kernels = family;
    context.direct = direct;
    m->side = side;
    variant.out = CLASSES;
    variant.side = side;
    desc.height = desc.width = side;
    desc.channels = 3;
    desc.layers = layers;
    if (!CHECK(row != NULL))
        return 0;
    desc.layer_count = row->table(&variant, layers);
    CHECK(desc.layer_count > 0 && desc.layer_count <= OSR_NETWORK_LAYERS);
    if (!CHECK(osr_ctx_create(&context, &m->ctx) == OSR_OK
               && osr_net_create(m->ctx, &desc, &m->net) == OSR_OK)) {
        fprintf(stderr, "    %s: %s\n", name, osr_ctx_message(m->ctx));
        return 0;
    }
    named = osr_net_tensors(m->net, &count);
    for (int i = 0; i < count; i++)
        fill(m->ctx, &named[i], i);
    return 1;
}

static void drop(struct made *m)
{
    osr_net_destroy(m->net);
    osr_ctx_destroy(m->ctx);
}

static osr_tensor images(const struct made *m, int seed, int count)
{
    const size_t n = (size_t)(count * m->side * m->side * 3);
    float *values = malloc(n * sizeof *values);
    osr_tensor x = {0, 0};
    for (size_t i = 0; values != NULL && i < n; i++)
        values[i] = fill_value(seed, i);
    if (CHECK(values != NULL))
        x = osr_input(m->ctx, osr_shape_make(4, count, m->side, m->side, 3), values);
    free(values);
    return x;
}

static void compare(const char *name, const char *what, const float *got, const float *want,
                    int count, double bound)
{
    double error = 0.0, size = 0.0;
    for (int i = 0; i < count; i++) {
        error += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    error = sqrt(error / size);
    printf("%s %s: relative error %.2g\n", name, what, error);
    if (!CHECK(error <= bound))
        fprintf(stderr, "    %s %s: relative error %g\n", name, what, error);
}

static void test_logits(osr_kernels family, const struct network_vector *v, int side)
{
    struct made m;
    float got[2 * CLASSES];
    long parameters = 0;
    int count;
    if (make(&m, family, 0, v->name, side)) {
        const osr_named *named = osr_net_tensors(m.net, &count);
        for (int i = 0; i < count; i++)
            parameters += named[i].trainable
                              ? (long)osr_shape_count(osr_shape_of(m.ctx, named[i].tensor))
                              : 0;
        CHECK(parameters == v->parameters || side != 32);
        osr_read(m.ctx, osr_net_forward(m.net, images(&m, 1, 2), 0), got, 2 * CLASSES);
        if (!CHECK(osr_step_end(m.ctx) == OSR_OK))
            fprintf(stderr, "    %s: %s\n", v->name, osr_ctx_message(m.ctx));
        else
            compare(v->name, side == 32 ? "logits at 32" : "logits at 64", got,
                    side == 32 ? v->at_32 : v->at_64, 2 * CLASSES, 1e-5);
    }
    drop(&m);
}

/* Handles of the first weights of each convolution, normalisation and linear layer. */
static int weights_of(const struct made *m, const osr_named **weights, int most)
{
    int count, found = 0;
    const osr_named *named = osr_net_tensors(m->net, &count);
    for (int i = 0; i < count && found < most; i++)
        if (ends_with(named[i].name, ".weight"))
            weights[found++] = &named[i];
    return found;
}

static void first_values(const struct made *m, osr_tensor t, float *values, size_t wanted)
{
    const size_t count = osr_shape_count(osr_shape_of(m->ctx, t));
    float *all = malloc(count * sizeof *all);
    if (CHECK(all != NULL && count >= wanted && osr_read(m->ctx, t, all, count) == OSR_OK))
        memcpy(values, all, wanted * sizeof *values);
    free(all);
}

/* The running mean and variance stand behind a normalisation's weight and bias. */
static void check_statistics(const struct made *m, const char *name, const osr_named *norm,
                             const float *want)
{
    float got[2];
    first_values(m, norm[2].tensor, &got[0], 1);
    first_values(m, norm[3].tensor, &got[1], 1);
    compare(name, norm[2].name, got, want, 2, 1e-4);
}

static void check_step(const struct made *m, const struct network_vector *v)
{
    static const int32_t labels[8] = {0, 5, 2, 1, 3, 4, 5, 0};
    const osr_named *weights[OSR_NETWORK_LAYERS], *first = NULL, *last = NULL;
    const int n = weights_of(m, weights, OSR_NETWORK_LAYERS);
    osr_tensor loss;
    const char *name = v->name;
    const float *want = v->step;
    float got[4];
    loss = osr_loss_cross_entropy(m->ctx, osr_net_forward(m->net, images(m, v->seed, 8), 1),
                                  osr_labels(m->ctx, 8, CLASSES, labels), 0.0f);
    osr_keep(m->ctx, loss);
    osr_backward(m->ctx, loss);
    osr_read(m->ctx, loss, got, 1);
    if (!CHECK(osr_step_end(m->ctx) == OSR_OK && n > 4)) {
        fprintf(stderr, "    %s: %s\n", name, osr_ctx_message(m->ctx));
        return;
    }
    compare(name, "loss", got, want, 1, 1e-5);
    for (int i = 0; i < n; i++)
        if (strstr(weights[i]->name, ".batchnorm.") != NULL) {
            first = first != NULL ? first : weights[i];
            last = weights[i];
        }
    const osr_named *probed[4] = {weights[0], weights[n / 2], last, weights[n - 1]};
    for (int i = 0; i < 4; i++) {
        first_values(m, osr_gradient(m->ctx, probed[i]->tensor), got, 4);
        compare(name, probed[i]->name, got, want + 1 + 4 * i, 4, 1e-4);
    }
    check_statistics(m, name, first, want + 17);
    check_statistics(m, name, last, want + 19);
}

/* Twice: the second step replays the first one's plan, and must find the same gradients. */
static void test_step(osr_kernels family, const struct network_vector *v)
{
    struct made m;
    if (make(&m, family, 0, v->name, 8)) {
        int count;
        const osr_named *named = osr_net_tensors(m.net, &count);
        check_step(&m, v);
        for (int i = 0; i < count; i++)
            fill(m.ctx, &named[i], i);
        check_step(&m, v);
    }
    drop(&m);
}

/* What a profile saw of a layer: whether Winograd made its convolution, and how often the weights
 * were transformed for that; [1] the same of the input gradient. */
struct seen {
    int made[2], packed[2];
};

enum { TRAINED, INFERRED, AGAIN }; /* a training step; inference after it; inference once more */

/* Once for each convolution that Winograd makes; none where all weights are as before, also of the
 * convolutions that are made directly. A convolution may be counted for the layer that it is fused
 * with, its weights for its own. Returns the number of convolutions. */
static int count_transformations(osr_ctx *ctx, const char *name, int after)
{
    struct seen seen[OSR_NETWORK_LAYERS], sum;
    const osr_launch_time *t;
    int packs = 0;
    memset(seen, 0, sizeof seen);
    memset(&sum, 0, sizeof sum);
    for (size_t i = osr_ctx_profile_get(ctx, &t); i > 0; i--, t++) {
        const int pack = strcmp(t->op, "conv_pack") == 0, dx = strcmp(t->op, "conv2d_dx") == 0;
        packs += pack;
        if (strncmp(t->kernel, "wino", 4) != 0
            || !CHECK(t->layer >= 0 && t->layer < OSR_NETWORK_LAYERS))
            continue;
        if (pack)
            seen[t->layer].packed[t->backward]++;
        else if (dx || strcmp(t->op, "conv2d") == 0)
            seen[t->layer].made[dx] = 1;
    }
    for (int i = 0; i < OSR_NETWORK_LAYERS; i++)
        for (int dx = 0; dx < 2; dx++) {
            sum.made[dx] += seen[i].made[dx];
            sum.packed[dx] += seen[i].packed[dx];
            if (!CHECK(seen[i].packed[dx] <= 1))
                fprintf(stderr, "    %s, layer %d: weights transformed %d times%s\n", name, i,
                        seen[i].packed[dx], dx ? " for the input gradient" : "");
        }
    if (!CHECK(after == AGAIN ? packs == 0
                              : sum.packed[0] == sum.made[0] && sum.packed[1] == sum.made[1]))
        fprintf(stderr, "    %s: %d transformations for %d convolutions, %d for %d input gradients;"
                        " %d sets of weights packed in all\n",
                name, sum.packed[0], sum.made[0], sum.packed[1], sum.made[1], packs);
    CHECK((sum.made[1] > 0) == (after == TRAINED));
    return sum.made[0];
}

static int infer(const struct made *m, const char *name, int batch, int after)
{
    float got[2 * CLASSES];
    CHECK(osr_ctx_profile(m->ctx, 1) == OSR_OK);
    osr_read(m->ctx, osr_net_forward(m->net, images(m, 1, batch), 0), got,
             (size_t)(batch * CLASSES));
    CHECK(osr_step_end(m->ctx) == OSR_OK);
    return count_transformations(m->ctx, name, after);
}

static int train(const struct made *m, const char *name)
{
    static const int32_t labels[2] = {0, 5};
    osr_optimiser_desc sgd;
    memset(&sgd, 0, sizeof sgd);
    sgd.lr = 0.001f;
    CHECK(osr_ctx_profile(m->ctx, 1) == OSR_OK);
    osr_backward(m->ctx, osr_loss_cross_entropy(
                             m->ctx, osr_net_forward(m->net, images(m, 1, 2), 1),
                             osr_labels(m->ctx, 2, CLASSES, labels), 0.0f));
    osr_optimiser_step(m->ctx, &sgd, (osr_tensor){0, 0}, 0);
    CHECK(osr_step_end(m->ctx) == OSR_OK);
    return count_transformations(m->ctx, name, TRAINED);
}

/* Training and inference in turn, twice: plans are made and run again. */
static void test_transformations(osr_kernels family, int direct, const char *name)
{
    struct made m;
    int made = 0;
    if (make(&m, family, direct, name, 16))
        for (int round = 0; round < 2; round++) {
            made = train(&m, name);
            CHECK(made > 0);
            CHECK(infer(&m, name, 2, INFERRED) == made);
            CHECK(infer(&m, name, 2, AGAIN) == made);
            if (direct < 0) /* otherwise one image may be too few for Winograd */
                CHECK(infer(&m, name, 1, AGAIN) == made);
        }
    printf("%s: %d convolutions by Winograd\n", name, made);
    drop(&m);
}

/* The table itself; each row has its vectors. */
static void test_table(void)
{
    const osr_network_row *row;
    int rows = 0;
    for (; (row = osr_network_at(rows)) != NULL; rows++) {
        size_t i = 0;
        while (i < sizeof network_vectors / sizeof network_vectors[0]
               && strcmp(network_vectors[i].name, row->name) != 0)
            i++;
        CHECK(i < sizeof network_vectors / sizeof network_vectors[0]);
        CHECK(osr_network_find(row->name) == row && row->help[0] && row->source[0]);
    }
    CHECK(rows >= 3 && osr_network_at(-1) == NULL);
    CHECK(osr_network_find("vgg") == NULL && osr_network_find(NULL) == NULL);
}

int main(int argc, char **argv)
{
    const char *wanted = argc > 1 ? argv[1] : getenv("OSR_KERNELS");
    int devices;
    test_table();
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    for (int gpu = 0; gpu < 2; gpu++) {
        const osr_kernels family = gpu ? OSR_KERNELS_GPU : OSR_KERNELS_CPU;
        if (wanted != NULL && strcmp(wanted, gpu ? "gpu" : "cpu") != 0)
            continue;
        for (size_t i = 0; i < sizeof network_vectors / sizeof network_vectors[0]; i++) {
            test_logits(family, &network_vectors[i], 32);
            test_logits(family, &network_vectors[i], 64);
            test_step(family, &network_vectors[i]);
            for (int direct = -1; direct < 1 && (!gpu || i == 0); direct++) /* slow on a CPU */
                test_transformations(family, direct, network_vectors[i].name);
        }
    }
    return test_end();
}
