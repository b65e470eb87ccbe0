/* test_ops - every op of both kernel families against the double reference (cli/selftest.h), and
 * what lies beside the ops: shapes, schedules, networks, contexts, profiles
 *
 *   test_ops [cpu|gpu]   one family; without it $OSR_KERNELS, else both
 *   OSR_SEED             of the inputs, 1 otherwise
 *   OSR_TEST_SMALL       set: the small shapes only */
#include "osr.h"
#include "selftest.h"
#include "test.h"

static int ran;

static void report(void *user, const struct selftest_case *c)
{
    (void)user;
    ran++;
    if (!CHECK(!c->failed))
        fprintf(stderr, "    %s %s: %s\n", c->op, c->what, c->message);
}

static osr_ctx *create_forced(osr_kernels family, uint64_t seed, int direct, osr_products products)
{
    osr_ctx_desc desc;
    osr_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.kernels = family;
    desc.seed = seed;
    desc.direct = direct;
    desc.products = products;
    if (!CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    return ctx;
}

static osr_ctx *create(osr_kernels family, uint64_t seed)
{
    return create_forced(family, seed, 0, OSR_PRODUCTS_FIXED);
}

/* --- without a device --- */

static void test_shapes(void)
{
    osr_shape s = osr_shape_make(2, 3, 4, 5, 6);
    CHECK(s.rank == 2 && s.dim[0] == 3 && s.dim[1] == 4 && s.dim[2] == 1 && s.dim[3] == 1);
    CHECK(osr_shape_count(s) == 12);
    CHECK(osr_shape_count(osr_shape_make(0, 0, 0, 0, 0)) == 1);
    CHECK(osr_shape_count(osr_shape_make(4, 65536, 65536, 65536, 65536)) == 0);
    CHECK(osr_shape_count(osr_shape_make(2, 3, 0, 0, 0)) == 0);
    CHECK(osr_shape_count(osr_shape_make(2, -3, -3, 0, 0)) == 0);
    CHECK(osr_shape_count(osr_shape_make(5, 1, 1, 1, 1)) == 0);
    CHECK(osr_shape_count(osr_shape_make(-1, 1, 1, 1, 1)) == 0);
}

static void test_names(void)
{
    CHECK(strcmp(osr_version(), OSR_VERSION) == 0);
    for (int i = 0; i < OSR_STATUS_COUNT; i++)
        for (int k = 0; k < i; k++)
            CHECK(strcmp(osr_status_text((osr_status)i), osr_status_text((osr_status)k)) != 0);
    CHECK(strcmp(osr_status_text((osr_status)99), "unknown status") == 0);
    CHECK(osr_op_name(-1) == NULL && osr_op_name(10000) == NULL);
    CHECK(strcmp(osr_op_name(0), "none") == 0);
    CHECK(osr_ctx_status(NULL) == OSR_MEMORY);
    osr_ctx_destroy(NULL);
}

/* Rates by hand, from the formulas in osr.h. */
static void test_schedules(void)
{
    static const struct {
        osr_schedule schedule;
        uint32_t step;
        double rate;
    } rows[] = {{{OSR_CONSTANT, 0.5f, 0, 0, 0, 0, 0}, 1000, 0.5},
                {{OSR_CONSTANT, 0.5f, 0, 0, 0, 0, 4}, 0, 0.125},
                {{OSR_CONSTANT, 0.5f, 0, 0, 0, 0, 4}, 3, 0.5},
                {{OSR_STEP, 1.0f, 0, 0.1f, 10, 0, 0}, 9, 1.0},
                {{OSR_STEP, 1.0f, 0, 0.1f, 10, 0, 0}, 25, 0.01},
                {{OSR_STEP, 1.0f, 0, 0.1f, 10, 0, 5}, 14, 1.0},
                {{OSR_STEP, 1.0f, 0, 0.1f, 10, 0, 5}, 15, 0.1},
                {{OSR_COSINE, 1.0f, 0.2f, 0, 0, 100, 0}, 0, 1.0},
                {{OSR_COSINE, 1.0f, 0.2f, 0, 0, 100, 0}, 50, 0.6},
                {{OSR_COSINE, 1.0f, 0.0f, 0, 0, 110, 10}, 35, 0.85355339},
                {{OSR_COSINE, 1.0f, 0.0f, 0, 20, 100, 0}, 45, 0.85355339},
                {{OSR_COSINE, 1.0f, 0.0f, 0, 0, 0, 0}, 5, 1.0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_NEAR((double)osr_schedule_lr(&rows[i].schedule, rows[i].step), rows[i].rate, 1e-6);
}

static void test_no_device(void)
{
    osr_ctx_desc desc;
    osr_ctx *ctx = NULL;
    float one = 1.0f;
    memset(&desc, 0, sizeof desc);
    desc.no_device = 1;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK);
    CHECK(osr_ctx_device(ctx)->kind == OSR_DEVICE_OTHER && !osr_ctx_device(ctx)->name[0]);
    CHECK(osr_input(ctx, osr_shape_make(0, 0, 0, 0, 0), &one).index == 0);
    CHECK(osr_ctx_status(ctx) == OSR_DEVICE && osr_ctx_message(ctx)[0] != '\0');
    osr_ctx_clear_error(ctx);
    CHECK(osr_ctx_status(ctx) == OSR_OK && osr_ctx_message(ctx)[0] == '\0');
    osr_ctx_destroy(ctx);
    ctx = NULL;
    desc.no_device = 0;
    desc.device = "a device of this name there is not";
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_DEVICE);
    CHECK(strstr(osr_ctx_message(ctx), "a device of this name") != NULL);
    osr_ctx_destroy(ctx);
}

/* --- on the device --- */

enum { SIDE = 8, CLASSES = 4, BATCH = 3, LAYERS = 14 };

/* Every kind of layer: a residual block, then pools, then a head. */
static const osr_layer table[LAYERS] = {
    {OSR_LAYER_CONV, 6, 3, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_BATCHNORM, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_LEAKY_RELU, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.2f, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_CONV, 6, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_NORMAL, 0, 0.1f}},
    {OSR_LAYER_ADD, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_DROPOUT, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0.2f, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_MAX_POOL, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_CONV, 5, 3, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_GLOBAL_AVG_POOL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_LINEAR, CLASSES, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_AVG_POOL, 0, 2, 2, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_FLATTEN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}},
    {OSR_LAYER_LINEAR, CLASSES, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {OSR_INIT_UNIFORM, 0, 1}},
    {OSR_LAYER_ADD, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, {OSR_INIT_CONSTANT, 0, 0}}};

static osr_net *create_net(osr_ctx *ctx, const osr_layer *layers, int count)
{
    osr_net_desc desc;
    osr_net *net = NULL;
    memset(&desc, 0, sizeof desc);
    desc.height = desc.width = SIDE;
    desc.channels = 3;
    desc.layers = layers;
    desc.layer_count = count;
    if (osr_net_create(ctx, &desc, &net) != OSR_OK)
        CHECK(osr_ctx_message(ctx)[0] != '\0');
    return net;
}

/* A training step and the logits after it. */
static void step(osr_ctx *ctx, osr_net *net, float logits[BATCH * CLASSES])
{
    float x[BATCH * SIDE * SIDE * 3];
    int32_t labels[BATCH] = {0, 3, 1};
    uint64_t state = 5;
    osr_optimiser_desc sgd;
    osr_shape s = osr_shape_make(4, BATCH, SIDE, SIDE, 3);
    osr_tensor none = {0, 0}, loss;
    memset(&sgd, 0, sizeof sgd);
    sgd.lr = 0.1f;
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = (float)(2.0 * test_uniform(&state) - 1.0);
    loss = osr_loss_cross_entropy(ctx, osr_net_forward(net, osr_input(ctx, s, x), 1),
                                  osr_labels(ctx, BATCH, CLASSES, labels), 0.0f);
    osr_backward(ctx, loss);
    osr_optimiser_step(ctx, &sgd, none, 0);
    osr_step_end(ctx);
    osr_read(ctx, osr_net_forward(net, osr_input(ctx, s, x), 0), logits, BATCH * CLASSES);
    if (!CHECK(osr_step_end(ctx) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
}

static void check_layers(osr_ctx *ctx, osr_net *net)
{
    static const int last[LAYERS] = {6, 6, 6, 6, 6, 6, 6, 5, 5, CLASSES, 5, 5, CLASSES, CLASSES};
    int count = 0;
    const osr_named *named;
    CHECK(osr_net_layers(net, &count) != NULL && count == LAYERS);
    for (int i = 0; i < LAYERS; i++) {
        osr_shape s = osr_net_shape(net, i);
        if (!CHECK(s.rank > 0 && s.dim[s.rank - 1] == last[i]))
            fprintf(stderr, "    layer %d gives %d\n", i, s.dim[s.rank > 0 ? s.rank - 1 : 0]);
    }
    CHECK(osr_net_shape(net, -1).dim[3] == 3 && osr_net_shape(net, LAYERS).rank == -1);
    named = osr_net_tensors(net, &count);
    for (int i = 0; i < count; i++) {
        CHECK(osr_shape_of(ctx, named[i].tensor).rank >= 1 && named[i].name[0] != '\0');
        for (int k = 0; k < i; k++)
            CHECK(strcmp(named[i].name, named[k].name) != 0);
    }
    CHECK(osr_net_output(net, LAYERS).index == 0 && osr_ctx_status(ctx) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

/* Tables of layers that cannot be: the status, and a message that names the layer. */
static void check_wrong_layers(osr_ctx *ctx)
{
    osr_layer wrong[LAYERS];
    memcpy(wrong, table, sizeof wrong);
    wrong[4].with = 7; /* a layer that comes later */
    CHECK(create_net(ctx, wrong, LAYERS) == NULL || osr_ctx_status(ctx) != OSR_OK);
    osr_ctx_clear_error(ctx);
    memcpy(wrong, table, sizeof wrong);
    wrong[6].size = 9; /* larger than the image */
    CHECK(create_net(ctx, wrong, LAYERS) == NULL && osr_ctx_status(ctx) == OSR_SHAPE);
    osr_ctx_clear_error(ctx);
    CHECK(create_net(ctx, table, 0) == NULL && osr_ctx_status(ctx) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

/* Two contexts of one seed, used in turn, give the same bits; another seed gives others. */
static void test_networks(osr_kernels family)
{
    osr_ctx *ctx[3];
    osr_net *net[3];
    float logits[3][BATCH * CLASSES];
    for (int i = 0; i < 3; i++) {
        ctx[i] = create(family, i == 2 ? 8 : 7);
        net[i] = create_net(ctx[i], table, LAYERS);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            step(ctx[i], net[i], logits[i]);
        CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
        CHECK(memcmp(logits[0], logits[2], sizeof logits[0]) != 0);
    }
    check_layers(ctx[0], net[0]);
    check_wrong_layers(ctx[0]);
    for (int i = 0; i < 3; i++) {
        osr_net_destroy(net[i]);
        osr_ctx_destroy(ctx[i]);
    }
}

/* Every variant of VGG32 makes a network for 32 x 32 pixels that ends in `out` values. */
static void test_vgg32(osr_kernels family)
{
    osr_ctx *ctx = create(family, 1);
    for (int head = OSR_VGG32_FLATTEN; head <= OSR_VGG32_NONE; head++)
        for (int variant = 0; variant < 4; variant++) {
            osr_layer layers[OSR_NETWORK_LAYERS];
            osr_vgg32_desc desc;
            osr_net_desc net;
            osr_net *made = NULL;
            memset(&desc, 0, sizeof desc);
            memset(&net, 0, sizeof net);
            desc.out = 10;
            desc.head = (osr_vgg32_head)head;
            desc.init = variant & 1 ? OSR_VGG32_NORMAL005 : OSR_VGG32_KAIMING;
            desc.dropout = variant & 2 ? 0.2f : 0.0f;
            desc.dropout_before = desc.pad_same = variant & 1;
            net.height = net.width = 32;
            net.channels = 3;
            net.layers = layers;
            net.layer_count = osr_network_find("vgg32")->table(&desc, layers);
            CHECK(net.layer_count > 0 && net.layer_count <= OSR_NETWORK_LAYERS);
            if (!CHECK(osr_net_create(ctx, &net, &made) == OSR_OK))
                fprintf(stderr, "    head %d: %s\n", head, osr_ctx_message(ctx));
            else
                CHECK(osr_net_shape(made, net.layer_count - 1).dim[1]
                      == (head == OSR_VGG32_NONE ? 128 : 10));
            osr_net_destroy(made);
            osr_ctx_clear_error(ctx);
        }
    osr_ctx_destroy(ctx);
}

/* The launches of a training step and a prediction. */
static void test_profile(osr_kernels family)
{
    osr_ctx *ctx = create(family, 7);
    osr_net *net = create_net(ctx, table, LAYERS);
    float logits[BATCH * CLASSES];
    const osr_launch_time *times;
    int forward = 0, backward = 0;
    size_t count;
    CHECK(osr_ctx_profile(ctx, 1) == OSR_OK);
    step(ctx, net, logits);
    count = osr_ctx_profile_get(ctx, &times);
    for (size_t i = 0; i < count; i++) {
        CHECK(times[i].seconds >= 0.0 && times[i].kernel[0] != '\0');
        forward += !times[i].backward;
        backward += times[i].backward;
    }
    CHECK(forward > LAYERS && backward > LAYERS);
    CHECK(osr_ctx_profile(ctx, 0) == OSR_OK);
    osr_net_destroy(net);
    osr_ctx_destroy(ctx);
}

/* A convolution with more tiles than Winograd takes at a time: as direct. */
static void test_chunks(osr_kernels family)
{
    enum { N = 4, H = 241, W = 246, IN = 2, OUT = 3, X = N * H * W * IN, Y = N * H * W * OUT,
           FILTER = OUT * IN * 9, ALL = X + Y + FILTER };
    static const osr_conv_desc same = {1, 1, 0, 0};
    const osr_init init = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    float *v = malloc(3 * sizeof(float) * ALL);
    uint64_t state = 3;
    double error = 0.0, sum = 0.0;
    if (!CHECK(v != NULL))
        return;
    for (int i = 0; i < ALL; i++)
        v[i] = (float)(2.0 * test_uniform(&state) - 1.0);
    for (int direct = -1; direct < 2; direct += 2) {
        osr_ctx *ctx = create_forced(family, 1, direct, OSR_PRODUCTS_FIXED);
        osr_tensor w = osr_param(ctx, osr_shape_make(4, OUT, IN, 3, 3), init);
        osr_tensor x = osr_input(ctx, osr_shape_make(4, N, H, W, IN), v), y, loss;
        float *got = v + (direct < 0 ? 1 : 2) * ALL;
        osr_write(ctx, w, v + X, FILTER);
        y = osr_conv2d(ctx, osr_keep(ctx, x), w, &same);
        osr_keep(ctx, y);
        loss = osr_sum(ctx, osr_flatten(ctx, osr_mul(ctx, y, y)));
        osr_backward(ctx, loss);
        osr_read(ctx, osr_grad(ctx, loss, (osr_tensor){0, 0}, x), got + Y, X);
        osr_read(ctx, y, got, Y);
        osr_read(ctx, osr_gradient(ctx, w), got + Y + X, FILTER);
        if (!CHECK(osr_step_end(ctx) == OSR_OK))
            fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
        osr_ctx_destroy(ctx);
    }
    for (int i = 0; i < ALL; i++) {
        const double d = (double)v[ALL + i] - (double)v[2 * ALL + i];
        error += d * d;
        sum += (double)v[2 * ALL + i] * (double)v[2 * ALL + i];
        if (i + 1 == Y || i + 1 == Y + X || i + 1 == ALL) {
            if (!CHECK(sum > 0.0 && error <= 1e-10 * sum))
                fprintf(stderr, "    up to %d: %g of %g\n", i, error, sum);
            error = sum = 0.0;
        }
    }
    free(v);
}

static void run_family(osr_kernels family, uint64_t seed)
{
    struct selftest_options options;
    struct selftest_result result;
    osr_ctx *ctx = create(family, seed);
    memset(&options, 0, sizeof options);
    options.seed = seed;
    options.small = getenv("OSR_TEST_SMALL") != NULL;
    options.report = report;
    CHECK(selftest_run(ctx, &options, &result) == 0);
    CHECK(result.cases > 0 && result.rows_covered == result.rows);
    printf("%s kernels: ran=%d skipped=0 device=\"%s\"\n",
           osr_ctx_kernels(ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu", result.cases,
           osr_ctx_device(ctx)->name);
    osr_ctx_destroy(ctx);
    /* Winograd also where it does not pay: few channels, odd sizes; no Winograd at all */
    for (int direct = -1; direct < 2; direct += 2) {
        ctx = create_forced(family, seed, direct, OSR_PRODUCTS_FIXED);
        options.op = "conv2d";
        if (direct < 0)
            CHECK(selftest_run(ctx, &options, &result) == 0 && result.cases > 0);
        options.op = NULL;
        options.small = 1;
        if (getenv("OSR_TEST_SMALL") == NULL)
            CHECK(selftest_run(ctx, &options, &result) == 0
                  && result.rows_covered == result.rows);
        osr_ctx_destroy(ctx);
    }
    for (int k = 0; k < 4 && family == OSR_KERNELS_GPU; k++) { /* other tiles */
        ctx = create_forced(family, seed, 1, k < 2 ? OSR_PRODUCTS_SMALL : OSR_PRODUCTS_LARGE);
        options.op = k % 2 ? "conv2d" : "matmul";
        options.small = k % 2 || getenv("OSR_TEST_SMALL") != NULL;
        CHECK(selftest_run(ctx, &options, &result) == 0);
        CHECK(result.cases > 0);
        osr_ctx_destroy(ctx);
    }
    if (getenv("OSR_TEST_SMALL") != NULL) /* under oclgrind: what follows has larger shapes */
        return;
    test_chunks(family);
    test_networks(family);
    test_vgg32(family);
    test_profile(family);
}

int main(int argc, char **argv)
{
    const char *family = argc > 1 ? argv[1] : getenv("OSR_KERNELS");
    uint64_t seed = test_seed();
    int devices;
    test_shapes();
    test_names();
    test_schedules();
    test_no_device();
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    if (family == NULL || strcmp(family, "cpu") == 0)
        run_family(OSR_KERNELS_CPU, seed);
    if (family == NULL || strcmp(family, "gpu") == 0)
        run_family(OSR_KERNELS_GPU, seed);
    CHECK(ran > 0);
    return test_end();
}
