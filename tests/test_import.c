/* test_import - osr import with each map in maps/: a file with the names and weights of the PyTorch
 * network in networks.py gives that network's logits (networks.h), to 1e-4; types other than F32;
 * and a line for every mistake
 *
 *   test_import               all of it; $OSR_PROGRAM is the program, $OSR_MAPS the folder of maps
 *   test_import MODEL FILE    prints and judges how far MODEL's logits for FILE's "images" are from
 *                             FILE's "logits"; for import_pytorch.py */
#define _XOPEN_SOURCE 700
#include "exit_codes.h"
#include "networks.h"
#include "networks_fill.h"
#include "osr.h"
#include "test.h"

#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLASSES = 6, SIDE = 32, TEXT = 1 << 16, MAPS = 5 };

static char err[TEXT], command[4096];

/* ---- running the program ---- */

static int shell(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    FILE *f;
    int status;
    if (!CHECK(n > 0 && n < (int)sizeof command))
        return -1;
    status = system(command);
    f = fopen("err", "rb");
    err[f != NULL ? fread(err, 1, TEXT - 1, f) : 0] = '\0';
    if (f != NULL)
        fclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define WHAT "--classes 6 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"

/* "osr import weights model --map <map> <options>": the exit status. */
static int import(const char *map, const char *options)
{
    return shell("\"$OSR_PROGRAM\" import weights model --map %s %s >out 2>err", map, options);
}

/* The import ends with this status, in `lines` lines of errors that have the text in one. */
#define REFUSED(map, options, status, lines, text)                                                 \
    refused(import(map, options), status, lines, text, __LINE__)

static void refused(int status, int wanted, int lines, const char *text, int line)
{
    int found = 0;
    for (const char *p = err; (p = strchr(p, '\n')) != NULL; p++)
        found++;
    if (!test_check(status == wanted && found == lines && strstr(err, text) != NULL, text, __FILE__,
                    line))
        fprintf(stderr, "    status %d: %s\n%s", status, command, err);
}

/* ---- a file as PyTorch would give it ---- */

/* What is different about the file: nothing by default. */
struct twist {
    const char *half, *brain; /* ends of names that become F16, BF16: multiples of 1/128        */
    const char *integer;      /* becomes I32                                                   */
    const char *negative;     /* its second value becomes negative                             */
    int extra, no_anchors;
};

static const struct import_vector *vector_of(const char *map)
{
    for (size_t i = 0; i < sizeof import_vectors / sizeof import_vectors[0]; i++)
        if (strcmp(import_vectors[i].map, map) == 0)
            return &import_vectors[i];
    return NULL;
}

/* The next word of `*words`. */
static void next_word(const char **words, char *word, size_t size)
{
    const size_t n = strcspn(*words, " ");
    snprintf(word, size, "%.*s", (int)n, *words);
    *words += n + ((*words)[n] == ' ');
}

/* Multiples of 1/128 between -0.25 and 0.25, exact in both half types. */
static float short_value(size_t i)
{
    return ((float)(i % 65) - 32.0f) / 128.0f;
}

/* v as F16 or BF16 without rounding: short_value() only. */
static uint16_t half_bits(float v, int brain)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if (brain)
        return (uint16_t)(u >> 16);
    return v == 0.0f ? 0 : (uint16_t)((u >> 16 & 0x8000u) | (((u >> 23 & 255u) - 112u) << 10)
                                      | (u >> 13 & 1023u));
}

static int is(const char *name, const char *end)
{
    return end != NULL && ends_with(name, end);
}

static void add(osr_writer *w, const char *name, const struct twist *t, osr_shape s, float *values,
                size_t count)
{
    uint64_t shape[4] = {0};
    void *other = calloc(count, sizeof(double));
    osr_dtype type = OSR_DTYPE_F32;
    if (!CHECK(other != NULL))
        return;
    for (int i = 0; i < s.rank; i++)
        shape[i] = (uint64_t)s.dim[i];
    if (is(name, t->negative))
        values[1] = -values[1];
    if (is(name, t->half) || is(name, t->brain)) {
        type = is(name, t->half) ? OSR_DTYPE_F16 : OSR_DTYPE_BF16;
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)other)[i] = half_bits(short_value(i), type == OSR_DTYPE_BF16);
    } else if (is(name, t->integer)) {
        type = OSR_DTYPE_I32;
    } else if (ends_with(name, "conv1.weight")) { /* some in double, as CAC's anchors are */
        type = OSR_DTYPE_F64;
        for (size_t i = 0; i < count; i++)
            ((double *)other)[i] = (double)values[i];
    }
    CHECK(osr_writer_tensor(w, name, type, s.rank, shape, type == OSR_DTYPE_F32 ? values : other)
          == OSR_OK);
    free(other);
}

/* What a state dict has beside the tensors that osr reads. */
static void add_others(osr_ctx *ctx, osr_writer *w, const char *map, const struct twist *t)
{
    const int64_t batches = 7;
    const uint64_t square[2] = {CLASSES, CLASSES}, wide = 128;
    double anchors[CLASSES * CLASSES] = {0};
    float unused[128] = {0};
    (void)ctx;
    CHECK(osr_writer_tensor(w, "bn1.num_batches_tracked", OSR_DTYPE_I64, 0, NULL, &batches)
          == OSR_OK);
    for (int k = 0; k < CLASSES; k++)
        anchors[k * CLASSES + k] = 5.5;
    if (strcmp(map, "vgg32-cac") == 0 && !t->no_anchors)
        CHECK(osr_writer_tensor(w, "anchors", OSR_DTYPE_F64, 2, square, anchors) == OSR_OK);
    if (strcmp(map, "vgg32-cac") == 0)
        CHECK(osr_writer_tensor(w, "encoder.encoder1.0.weight", OSR_DTYPE_F32, 1, &wide, unused)
              == OSR_OK);
    if (strcmp(map, "vgg32-vaze") == 0)
        CHECK(osr_writer_tensor(w, "bn10.weight", OSR_DTYPE_F32, 1, &wide, unused) == OSR_OK);
    if (t->extra)
        CHECK(osr_writer_tensor(w, "aux.fc", OSR_DTYPE_F32, 1, &wide, unused) == OSR_OK);
}

/* Writes "weights" with the network's tensors, made as fill_parameters does. */
static void write_weights(const struct import_vector *v, const struct twist *t)
{
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc variant = {0};
    osr_net_desc desc = {0};
    osr_ctx *ctx = NULL;
    osr_net *net = NULL;
    osr_writer *w = NULL;
    const char *words = v->layers;
    char layer[96] = "", name[160];
    int count = 0;
    variant.out = CLASSES;
    if (strcmp(v->map, "vgg32-vaze") == 0) {
        variant.head = OSR_VGG32_GAP;
        variant.no_bias = 1;
    }
    desc.height = desc.width = SIDE;
    desc.channels = 3;
    desc.layer_count = osr_network_find(v->network)->table(&variant, layers);
    desc.layers = layers;
    if (!CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK && osr_net_create(ctx, &desc, &net) == OSR_OK
               && osr_writer_create(ctx, &w) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    const osr_named *named = net != NULL ? osr_net_tensors(net, &count) : NULL;
    for (int i = 0; i < count; i++) {
        const osr_shape s = osr_shape_of(ctx, named[i].tensor);
        const size_t n = osr_shape_count(s);
        float *values = malloc(n * sizeof *values);
        if (ends_with(named[i].name, ".weight"))
            next_word(&words, layer, sizeof layer);
        snprintf(name, sizeof name, "%s%s", layer, strrchr(named[i].name, '.'));
        if (CHECK(values != NULL)) {
            fill_tensor(named[i].name, i, s.rank, s.dim[0], values, n);
            add(w, name, t, s, values, n);
        }
        free(values);
    }
    CHECK(*words == '\0' && layer[0] != '\0');
    add_others(ctx, w, v->map, t);
    CHECK(osr_writer_save(w, "weights") == OSR_OK);
    osr_writer_destroy(w);
    osr_net_destroy(net);
    osr_ctx_destroy(ctx);
}

/* ---- what comes out ---- */

/* Logits of n images in 0..1. A linear head's are what a method without logits reads, too. */
static void read_logits(osr_ctx *ctx, const char *path, const float *images, int n, float *logits)
{
    osr_model *model = NULL;
    osr_outputs out = {0};
    out.logits = logits;
    if (!CHECK(osr_model_load(ctx, path, &model) == OSR_OK
               && osr_model_run(model, images, NULL, n, &out) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    osr_model_destroy(model);
}

static double worst_difference(const float *a, const float *b, size_t count)
{
    double worst = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        worst = d <= worst ? worst : d;
    }
    return worst;
}

static void test_map(const struct import_vector *v)
{
    enum { PIXELS = 2 * SIDE * SIDE * 3 };
    static float images[PIXELS];
    const struct twist plain = {0};
    char map[600], options[300];
    float logits[2 * CLASSES] = {0};
    osr_ctx *ctx = NULL;
    double worst;
    snprintf(map, sizeof map, "\"$OSR_MAPS/%s.map\"", v->map);
    snprintf(options, sizeof options, "--network %s %s " WHAT, v->network, v->options);
    write_weights(v, &plain);
    if (!CHECK(import(map, options) == EXIT_OK && err[0] == '\0'))
        fprintf(stderr, "    %s\n%s", command, err);
    for (size_t i = 0; i < PIXELS; i++)
        images[i] = 0.5f + 0.5f * fill_value(1, i);
    CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK);
    read_logits(ctx, "model", images, 2, logits);
    worst = worst_difference(logits, v->at_32, 2 * CLASSES);
    printf("%s: logits differ by %.2g\n", v->map, worst);
    CHECK(worst <= 1e-4);
    osr_ctx_destroy(ctx);
}

/* The model's tensor has `value` at multiples of step and else 0; with step 0 the short values. */
static void check_tensor(const char *wanted, size_t step, float value)
{
    osr_ctx *ctx = NULL;
    osr_model *model = NULL;
    float got[128] = {0};
    int count = 0, found = 0;
    CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK && osr_model_load(ctx, "model", &model) == OSR_OK);
    const osr_named *named = model != NULL ? osr_model_tensors(model, &count) : NULL;
    for (int i = 0; i < count; i++)
        if (strcmp(named[i].name, wanted) == 0) {
            const size_t n = osr_shape_count(osr_shape_of(ctx, named[i].tensor));
            found = n <= 128 && osr_read(ctx, named[i].tensor, got, n) == OSR_OK;
            for (size_t k = 0; k < n && found; k++)
                found = step == 0 ? got[k] == short_value(k)
                                  : got[k] == (k % step == 0 ? value : 0.0f);
        }
    if (!CHECK(found))
        fprintf(stderr, "    %s\n", wanted);
    osr_model_destroy(model);
    osr_ctx_destroy(ctx);
}

#define CAC "\"$OSR_MAPS/vgg32-cac.map\""

/* Halves, and the anchors, fed or left out. */
static void test_types(void)
{
    const struct import_vector *v = vector_of("vgg32-cac");
    struct twist t = {0};
    t.half = "bn1.bias";
    t.brain = "bn9.running_mean";
    write_weights(v, &t);
    CHECK(import(CAC, "--method cac " WHAT) == EXIT_OK);
    check_tensor("1.batchnorm.bias", 0, 0.0f);
    check_tensor("27.batchnorm.running_mean", 0, 0.0f); /* two dropout layers stand before it */
    check_tensor("anchors", CLASSES + 1, 5.5f);
    t.no_anchors = 1;
    write_weights(v, &t);
    CHECK(shell("sed /anchors/d " CAC " >map") == 0);
    CHECK(import("map", "--method cac --alpha 7 " WHAT) == EXIT_OK);
    check_tensor("anchors", CLASSES + 1, 7.0f);
}

/* A line of the map changed by sed, and what is said about it. */
static void test_mistakes(void)
{
    static const struct {
        const char *sed;
        int lines;
        const char *text;
    } rows[] = {
        {"s/^conv9 = /conv9 /", 3, "map:19: a line is \"OURS = THEIRS\""},
        {"s/^conv9 = .*/conv9 = a b/", 3, "map:19: a line is \"OURS = THEIRS\""},
        {"s/^conv9 = /conv10 = /", 3, "vgg32 with method cac has no layer or tensor \"conv10\""},
        {"s/^conv9 = /conv = /", 3, "has no layer or tensor \"conv\""},
        {"s/encoder.conv9/encoder.conf9/", 2,
         "map:19: weights has no tensor encoder.conf9.weight; did you mean encoder.conv9.weight?"},
        {"s/^conv9 = /conv8 = /", 3, "map:19: conv8.weight is fed by line 17 already"},
        {"s/encoder.conv9/encoder.conv8/", 2, "map:19: encoder.conv8.weight is used by line 17"},
        {"s/encoder.conv1$/encoder.conv2/", 3,
         "conv1.weight is [64, 3, 3, 3], but encoder.conv2.weight in weights is [64, 64, 3, 3]"},
        {"/^conv9/d", 2, "nothing feeds conv9.weight (layer 26.conv.weight)"},
        {"/^linear1/d", 4, "nothing feeds linear1.bias (layer 31.linear.bias)"},
        {"/^ignore = encoder/d", 1, "the tensor encoder.encoder1.0.weight of weights is neither"},
        {"s/= /= x./", 21, "... and "},
    };
    const struct import_vector *v = vector_of("vgg32-cac");
    const struct twist plain = {0};
    write_weights(v, &plain);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK(shell("rm -f model; sed '%s' " CAC " >map", rows[i].sed) == 0);
        REFUSED("map", "--method cac " WHAT, EXIT_DATA, rows[i].lines, rows[i].text);
        CHECK(access("model", F_OK) != 0);
    }
    REFUSED(CAC, "--method cac --prefix module. " WHAT, EXIT_DATA, 21,
            "weights has no tensor module.encoder.conv1.weight");
    REFUSED(CAC, "--method cac --mean 0,0,0 --std 1,1,1 --classes 5", EXIT_DATA, 3,
            "linear1.weight is [5, 2048], but classify.weight in weights is [6, 2048]");
    REFUSED("nowhere", "--method cac " WHAT, EXIT_DATA, 1, "--map nowhere: ");
}

static void test_bad_weights(void)
{
    const struct import_vector *v = vector_of("vgg32-cac");
    struct twist t = {0};
    t.integer = "bn2.bias";
    write_weights(v, &t);
    REFUSED(CAC, WHAT, EXIT_DATA, 1, "encoder.bn2.bias in weights has integers");
    memset(&t, 0, sizeof t);
    t.negative = "bn3.running_var";
    write_weights(v, &t);
    REFUSED(CAC, WHAT, EXIT_DATA, 1, "encoder.bn3.running_var in weights: value 1 of a variance");
    memset(&t, 0, sizeof t);
    t.extra = 1;
    write_weights(v, &t);
    REFUSED(CAC, WHAT, EXIT_DATA, 1, "the tensor aux.fc of weights is neither used nor ignored");
    CHECK(shell("head -c 1000 weights >cut && mv cut weights") == 0);
    REFUSED(CAC, WHAT, EXIT_DATA, 1, "weights: ");
    CHECK(shell("rm weights") == 0);
    REFUSED(CAC, WHAT, EXIT_DATA, 1, "weights: ");
}

static void test_usage(void)
{
    static const struct {
        const char *options, *text;
    } rows[] = {
        {"--mean 0,0,0 --std 1,1,1", "import needs --classes"},
        {"--classes 6 --std 1,1,1", "import needs --mean"},
        {"--classes 6 --mean 0,0,0", "import needs --std"},
        {"--classes 6 --mean 0,0 --std 1,1,1", "--mean: 3 numbers by commas are needed"},
        {"--classes 6 --mean 0,0,0,0 --std 1,1,1", "--mean: 3 numbers by commas are needed"},
        {"--classes 6 --mean 0,0,x --std 1,1,1", "--mean: 3 numbers by commas are needed"},
        {"--classes 6 --mean 0,0,0 --std 1,1,0", "std 0 of channel 2"},
        {"--classes 0 --mean 0,0,0 --std 1,1,1", "--classes: a number of classes is 1 to 65536"},
        {"--classes cat,,dog --mean 0,0,0 --std 1,1,1", "--classes: a name that is empty"},
        {"--classes cat,dog,cat --mean 0,0,0 --std 1,1,1", "--classes: \"cat\" twice"},
        {"--network vgg3 " WHAT, "no network is called \"vgg3\"; did you mean vgg32?"},
        {"--method caca " WHAT, "no method is called \"caca\"; did you mean cac?"},
        {"--network wrn-16-4 --head flatten " WHAT, "wrn-16-4 pools before its head"},
        {"--method movr --head pool " WHAT, "method movr has a head of its own"},
        {"--method difair --head-bias no " WHAT, "method difair has a head of its own"},
    };
    const struct twist plain = {0};
    write_weights(vector_of("vgg32-cac"), &plain);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        REFUSED(CAC, rows[i].options, EXIT_USAGE, 1, rows[i].text);
    CHECK(shell("\"$OSR_PROGRAM\" import weights model " WHAT " >out 2>err") == EXIT_USAGE
          && strstr(err, "import needs --map") != NULL);
    CHECK(shell("printf 'ant\\r\\nbee\\ncat\\nd\\ne\\nf\\n' >names") == 0);
    CHECK(import(CAC, WHAT " --classes @names") == EXIT_OK);
    CHECK(shell("\"$OSR_PROGRAM\" inspect --json model 2>err | grep -q 'ant.u000abee.u000acat'")
          == 0);
}

/* ---- against PyTorch ---- */

static int judge(const char *model, const char *path)
{
    osr_ctx *ctx = NULL;
    osr_file *file = NULL;
    const osr_file_entry *images = NULL, *logits = NULL;
    float *x = NULL, *want = NULL, *got = NULL;
    if (osr_ctx_create(NULL, &ctx) == OSR_OK && osr_file_open(ctx, path, NULL, &file) == OSR_OK) {
        images = osr_file_find(file, "images");
        logits = osr_file_find(file, "logits");
    }
    if (CHECK(images != NULL && logits != NULL)) {
        x = malloc(images->count * sizeof *x);
        want = malloc(logits->count * sizeof *want);
        got = calloc(logits->count, sizeof *got);
    }
    if (CHECK(x != NULL && want != NULL && got != NULL)) {
        osr_file_read_f32(file, "images", images->count, x);
        osr_file_read_f32(file, "logits", logits->count, want);
        read_logits(ctx, model, x, (int)images->shape[0], got);
        const double worst = worst_difference(got, want, logits->count);
        printf("largest difference of %llu logits: %.2g\n", (unsigned long long)logits->count,
               worst);
        CHECK(worst <= 1e-4);
    }
    free(x);
    free(want);
    free(got);
    osr_file_close(file);
    osr_ctx_destroy(ctx);
    return test_end();
}

int main(int argc, char **argv)
{
    int devices;
    char folder[] = "test_import.XXXXXX";
    if (argc == 3)
        return judge(argv[1], argv[2]);
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    if (!CHECK(getenv("OSR_PROGRAM") != NULL && getenv("OSR_MAPS") != NULL)
        || !CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0))
        return test_end();
    CHECK(sizeof import_vectors / sizeof import_vectors[0] == MAPS);
    for (size_t i = 0; i < MAPS; i++)
        test_map(&import_vectors[i]);
    test_types();
    test_mistakes();
    test_bad_weights();
    test_usage();
    if (test_failures == 0)
        CHECK(chdir("..") == 0 && shell("rm -r %s", folder) == 0);
    return test_end();
}
