/* test_faults - a small life of the library (load, train, evaluate, calibrate, save, load again,
 * predict) in which every OpenCL call fails in turn: alone, and with all that follow
 *
 * Each of these lives has to show: no crash; a status other than OK with a one-line message that
 * names what failed, or the right result where the failure does no harm; a context that works
 * again after osr_ctx_clear_error; every object and byte released.
 *
 * A new context builds its programs anew, which takes most of a life's time. So only the calls
 * that a used context does not repeat are made to fail in a new one; the others in contexts that
 * serve several lives. */
#include "clfault.h"
#include "osr.h"
#include "test.h"

enum {
    SIDE = 8, BATCH = 5, CLASSES = 3, IMAGE = SIDE * SIDE,
    FILE_MOST = 1 << 16,
    LIVES = 64,      /* of one context */
    STRIDE = 7,      /* positions between two lives where not all are tried */
    FRESH_STRIDE = 23
};

struct bytes {
    unsigned char data[FILE_MOST];
    size_t count;
};

/* What the workload computes. */
struct result {
    float loss[2], eval_loss, distances[BATCH * CLASSES];
    osr_prediction found[BATCH];
    struct bytes file;
};

/* Every entry point that the library calls and that can fail. In a new context? */
static const struct entry {
    const char *name;
    int fresh;
} entries[] = {
    {"clGetPlatformIDs", 1},     {"clGetDeviceIDs", 1},
    {"clGetPlatformInfo", 1},    {"clGetDeviceInfo", 1},
    {"clCreateContext", 1},      {"clCreateCommandQueue", 1},
    {"clCreateBuffer", 1},       {"clEnqueueFillBuffer", 1},
    {"clBuildProgram", 1},       {"clCreateProgramWithSource", 1},
    {"clCreateKernel", 0},       {"clSetKernelArg", 0},
    {"clEnqueueWriteBuffer", 0}, {"clEnqueueReadBuffer", 0},
    {"clEnqueueCopyBuffer", 0},  {"clEnqueueNDRangeKernel", 0},
    {"clFlush", 0},              {"clFinish", 0},
};
enum { ENTRIES = sizeof entries / sizeof entries[0] };

static clfault layer;
static size_t live_bytes; /* of all contexts */
static float images[BATCH * IMAGE];
static unsigned char pixels[BATCH * IMAGE];
static const int32_t labels[BATCH] = {0, 1, 2, 1, 0};
static struct bytes start; /* the model before training */
static struct result kept; /* of the life without a fault */
static osr_ctx *used;      /* the context that serves several lives */
static int used_lives;

static void *memory_fn(void *user, void *ptr, size_t old_size, size_t new_size)
{
    size_t *live = (size_t *)user;
    void *p = NULL;
    if (new_size == 0)
        free(ptr);
    else if ((p = realloc(ptr, new_size)) == NULL)
        return NULL;
    *live += new_size - old_size;
    return p;
}

/* ---- the workload ---- */

static osr_status make_model(osr_ctx *ctx, osr_model **model)
{
    static const osr_layer layers[] = {
        {.kind = OSR_LAYER_CONV, .out = 4, .size = 3, .pad = 1},
        {.kind = OSR_LAYER_BATCHNORM},
        {.kind = OSR_LAYER_LEAKY_RELU, .slope = 0.2f},
        {.kind = OSR_LAYER_DROPOUT, .rate = 0.2f, .channels = 1},
        {.kind = OSR_LAYER_CONV, .out = 4, .size = 3, .stride = 2, .pad = 1},
        {.kind = OSR_LAYER_FLATTEN},
        {.kind = OSR_LAYER_LINEAR, .out = CLASSES, .bias = 1},
    };
    osr_model_desc d = {0};
    d.method = osr_method_find("cac");
    d.numbers = d.method->numbers;
    d.height = d.width = SIDE;
    d.channels = 1;
    d.mean[0] = 0.5f;
    d.std[0] = 0.25f;
    d.classes = CLASSES;
    d.layers = layers;
    d.layer_count = (int)(sizeof layers / sizeof layers[0]);
    return osr_model_create(ctx, &d, model);
}

static osr_status save(osr_ctx *ctx, osr_model *model, struct bytes *b)
{
    osr_writer *writer = NULL;
    osr_status status = osr_writer_create(ctx, &writer);
    if (status == OSR_OK)
        status = osr_model_write(model, writer, 1);
    if (status == OSR_OK)
        status = osr_writer_save_memory(writer, b->data, sizeof b->data, &b->count);
    osr_writer_destroy(writer);
    return status;
}

static osr_status train(osr_model *model, struct result *r)
{
    osr_optimiser_desc optimiser = {0};
    osr_outputs out = {0};
    osr_status status = OSR_OK;
    optimiser.lr = 0.01f;
    optimiser.momentum = 0.9f;
    osr_ctx_set_step(osr_model_context(model), 0);
    for (int step = 0; step < 2 && status == OSR_OK; step++)
        status = osr_model_train(model, images, labels, BATCH, &optimiser, &r->loss[step], NULL);
    out.distances = r->distances;
    out.loss = &r->eval_loss;
    if (status == OSR_OK)
        status = osr_model_run(model, images, labels, BATCH, &out);
    return status;
}

static osr_status calibrate(osr_model *model)
{
    osr_status status = osr_model_calibrate_start(model, OSR_CALIBRATE_ALL);
    if (status == OSR_OK)
        status = osr_model_calibrate_add(model, images, labels, BATCH);
    if (status == OSR_OK)
        status = osr_model_calibrate_end(model, NULL);
    if (status == OSR_OK)
        status = osr_model_set_threshold(model, osr_score_find("cac"), 1.0);
    return status;
}

/* Names live as long as the model, so they are compared here: class k is called "k". */
static osr_status load_and_predict(osr_ctx *ctx, const struct bytes *b, struct result *r)
{
    osr_model *model = NULL;
    osr_status status = osr_model_load_memory(ctx, b->data, b->count, &model);
    if (status == OSR_OK)
        status = osr_model_predict(model, pixels, BATCH, SIDE, SIDE, 1, r->found);
    for (int i = 0; i < BATCH && status == OSR_OK; i++) {
        CHECK(r->found[i].label >= 0 && r->found[i].label < CLASSES);
        CHECK(r->found[i].name[0] == '0' + r->found[i].label && r->found[i].name[1] == '\0');
        r->found[i].name = NULL;
    }
    osr_model_destroy(model);
    return status;
}

static osr_status workload(osr_ctx *ctx, struct result *r)
{
    osr_model *model = NULL;
    osr_status status = osr_model_load_memory(ctx, start.data, start.count, &model);
    if (status == OSR_OK)
        status = train(model, r);
    if (status == OSR_OK)
        status = calibrate(model);
    if (status == OSR_OK)
        status = save(ctx, model, &r->file);
    osr_model_destroy(model);
    return status == OSR_OK ? load_and_predict(ctx, &r->file, r) : status;
}

/* ---- one life with one fault ---- */

static int same_predictions(const struct result *a, const struct result *b)
{
    int same = 1;
    for (int i = 0; i < BATCH; i++)
        same &= a->found[i].label == b->found[i].label && a->found[i].known == b->found[i].known
                && fabs(a->found[i].score - b->found[i].score) < 1e-4;
    return same;
}

/* Not bit for bit: a context that could not ask for the kind of its device uses other kernels. */
static int same_result(const struct result *a, const struct result *b)
{
    int same = same_predictions(a, b) && fabsf(a->eval_loss - b->eval_loss) < 1e-4f
               && a->file.count == b->file.count;
    for (int i = 0; i < 2; i++)
        same &= fabsf(a->loss[i] - b->loss[i]) < 1e-4f;
    for (int i = 0; i < BATCH * CLASSES; i++)
        same &= fabsf(a->distances[i] - b->distances[i]) < 1e-3f;
    return same;
}

struct fault {
    const char *call; /* an entry point; NULL: all */
    int fresh, sticky;
    long nth;
};

static osr_status open_context(osr_ctx **ctx)
{
    osr_ctx_desc desc = {0};
    desc.allocator.fn = memory_fn;
    desc.allocator.user = &live_bytes;
    desc.seed = 7;
    return osr_ctx_create(&desc, ctx);
}

static void end_used(void)
{
    osr_ctx_destroy(used);
    used = NULL;
    used_lives = 0;
    CHECK(layer.live() == 0);
    CHECK(live_bytes == 0);
}

/* Does the message say what failed? The loader's own failures read as "no OpenCL device". */
static int names_cause(const struct fault *f, const char *message)
{
    return strstr(message, f->call != NULL ? f->call : "cl") != NULL
           || strstr(message, "no OpenCL device") != NULL;
}

static void check_outcome(osr_ctx *ctx, osr_status status, const struct fault *f,
                          const struct result *r)
{
    const char *message = osr_ctx_message(ctx);
    if (status == OSR_OK) {
        CHECK(same_result(r, &kept));
        return;
    }
    CHECK(status == osr_ctx_status(ctx));
    CHECK(status == OSR_DEVICE || status == OSR_MEMORY);
    CHECK(message[0] != '\0' && strchr(message, '\n') == NULL);
    CHECK(names_cause(f, message));
}

/* Returns 1 when the fault was reached. */
static int life(const struct fault *f)
{
    static struct result r;
    const int before = test_failures;
    osr_ctx *ctx = NULL;
    osr_status status = OSR_OK;
    char message[512];
    memset(&r, 0, sizeof r);
    if (!f->fresh && used == NULL)
        CHECK(open_context(&used) == OSR_OK && workload(used, &r) == OSR_OK);
    layer.only(f->call);
    layer.arm(f->nth, f->sticky);
    if (f->fresh)
        status = open_context(&ctx);
    else
        ctx = used;
    const int opened = status == OSR_OK;
    if (opened)
        status = workload(ctx, &r);
    const int fired = layer.fired();
    layer.arm(0, 0); /* the layer's failing clFinish does not wait, as a driver's would */
    snprintf(message, sizeof message, "%s", osr_ctx_message(ctx));
    check_outcome(ctx, status, f, &r);
    if (opened && !f->fresh && status != OSR_OK) {
        osr_ctx_clear_error(ctx);
        CHECK(load_and_predict(ctx, &kept.file, &r) == OSR_OK);
        CHECK(same_predictions(&r, &kept));
    }
    if (f->fresh) {
        osr_ctx_destroy(ctx);
        CHECK(layer.live() == 0);
        CHECK(live_bytes == 0);
    } else if (++used_lives == LIVES || test_failures > before) {
        end_used();
    }
    if (test_failures > before)
        fprintf(stderr, "    with %s %ld failing%s in a %s context: %s: %s\n",
                f->call != NULL ? f->call : "call", f->nth, f->sticky ? " and all later ones" : "",
                f->fresh ? "new" : "used", osr_status_text(status), message);
    return fired;
}

/* Every stride-th position until one is not reached any more. Returns their number. */
static long lives(const char *call, int fresh, int sticky, long stride)
{
    struct fault f;
    long ran = 0;
    f.call = call;
    f.fresh = fresh;
    f.sticky = sticky;
    for (f.nth = 1; life(&f) && test_failures < 100; f.nth += stride)
        ran++;
    if (used != NULL)
        end_used();
    printf("%4ld lives: every %ld. %s%s in a %s context\n", ran, stride,
           call != NULL ? call : "call", sticky ? " and all later ones" : "",
           fresh ? "new" : "used");
    return ran;
}

/* ---- */

static void make_input(void)
{
    uint64_t random = test_seed();
    for (int i = 0; i < BATCH * IMAGE; i++) {
        pixels[i] = (unsigned char)(test_random(&random) & 255);
        images[i] = (float)pixels[i] / 255.0f;
    }
}

/* The life without a fault, whose result the others are held against. */
static int clean_life(void)
{
    osr_ctx *ctx = NULL;
    osr_model *model = NULL;
    long total, sum = 0;
    int passed = open_context(&ctx) == OSR_OK && make_model(ctx, &model) == OSR_OK
                 && save(ctx, model, &start) == OSR_OK;
    osr_model_destroy(model);
    passed = passed && workload(ctx, &kept) == OSR_OK;
    if (!passed)
        fprintf(stderr, "without a fault: %s\n", osr_ctx_message(ctx));
    osr_ctx_destroy(ctx);
    total = layer.calls(NULL);
    for (int i = 0; i < ENTRIES; i++)
        sum += layer.calls(entries[i].name);
    printf("%ld OpenCL calls that can fail\n", total);
    CHECK(sum == total); /* the table of entries is complete */
    return passed;
}

int main(void)
{
    long ran = 0;
    if (getenv("OPENCL_LAYERS") == NULL)
        return test_skip("not under the layer clfault (OPENCL_LAYERS)");
    if (!CHECK(clfault_open(&layer)))
        return test_end();
    make_input();
    if (CHECK(clean_life())) {
        for (int i = 0; i < ENTRIES; i++)
            ran += lives(entries[i].name, entries[i].fresh, 0, 1);
        ran += lives(NULL, 0, 1, STRIDE);
        ran += lives(NULL, 1, 1, FRESH_STRIDE);
    }
    CHECK(ran > 1000);
    printf("ran=%ld\n", ran);
    return test_end();
}
