/* test_tuning - choices of algorithms: any of them computes the right values, each pass has its
 * own, their file survives damage, staleness and other processes, and a run is resumed with the
 * choices that it began with.
 *
 *   test_tuning [FOLDER]   FOLDER: only keep and read choices there, as a process beside others */
#define _XOPEN_SOURCE 700
#include "osr.h"
#include "damage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/osr-tuning-XXXXXX";
static int warnings;

static void count_warnings(void *user, int level, const char *message)
{
    (void)user;
    warnings += level == 1 && strstr(message, "not used") != NULL;
}

static osr_ctx *open_context(const char *tuning, const char *cache_dir, osr_kernels family)
{
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    desc.tuning = tuning;
    desc.cache_dir = cache_dir;
    desc.kernels = family;
    desc.seed = 1;
    desc.logger.fn = count_warnings;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK);
    return ctx;
}

/* The text with this algorithm in each line of a pass. */
static char *with_pass(const char *text, const char *pass, const char *algorithm)
{
    char *out = calloc(1, 2 * strlen(text) + 1), wanted[24];
    snprintf(wanted, sizeof wanted, " %s ", pass);
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n") + 1) {
        char line[192], *made;
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        made = strrchr(line, ' ') + 1;
        if (strstr(line, wanted) != NULL)
            strcpy(made, algorithm);
        strcat(strcat(out, line), "\n");
    }
    return out;
}

/* ---- the algorithms ---- */

enum { VALUES = 40000 };

/* Two convolutions, c to c and then to o by the stride: their result and its gradients. */
struct shape {
    int n, h, w, c, o, stride;
};

struct made {
    float y[VALUES], dw[VALUES], dv[VALUES];
};

static void random_values(float *values, int count, uint64_t seed)
{
    for (int i = 0; i < count; ++i)
        values[i] = (float)(2.0 * test_uniform(&seed) - 1.0);
}

static void make(osr_ctx *ctx, const struct shape *s, osr_tensor w, osr_tensor v, struct made *m)
{
    static float input[VALUES];
    osr_conv_desc conv = {0};
    osr_tensor y, loss;
    random_values(input, s->n * s->h * s->w * s->c, 7);
    conv.pad = 1;
    osr_ctx_profile(ctx, 1);
    y = osr_conv2d(ctx, osr_input(ctx, osr_shape_make(4, s->n, s->h, s->w, s->c), input), w, &conv);
    conv.stride = s->stride;
    y = osr_flatten(ctx, osr_conv2d(ctx, y, v, &conv));
    loss = osr_sum(ctx, osr_mul(ctx, y, y));
    osr_backward(ctx, loss);
    osr_read(ctx, y, m->y, osr_shape_count(osr_shape_of(ctx, y)));
    osr_read(ctx, osr_gradient(ctx, w), m->dw, osr_shape_count(osr_shape_of(ctx, w)));
    osr_read(ctx, osr_gradient(ctx, v), m->dv, osr_shape_count(osr_shape_of(ctx, v)));
    if (!CHECK(osr_step_end(ctx) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
}

static void parameters(osr_ctx *ctx, const struct shape *s, osr_tensor *w, osr_tensor *v)
{
    const osr_init init = {OSR_INIT_NORMAL, 0.0f, 0.1f};
    *w = osr_param(ctx, osr_shape_make(4, s->c, s->c, 3, 3), init);
    *v = osr_param(ctx, osr_shape_make(4, s->o, s->c, 3, 3), init);
}

/* RMS of the difference over RMS. */
static double error(const float *a, const float *b)
{
    double square = 0.0, sum = 0.0;
    for (int i = 0; i < VALUES; ++i) {
        square += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        sum += (double)b[i] * b[i];
    }
    return sqrt(square / sum);
}

/* Which kernels an op's launches have: 1 direct, 2 Winograd, 3 both. */
static int kernels_of(osr_ctx *ctx, const char *op)
{
    const osr_launch_time *t;
    const size_t n = osr_ctx_profile_get(ctx, &t);
    int winograd = 0, direct = 0;
    for (size_t i = 0; i < n; ++i) {
        winograd |= strcmp(t[i].op, op) == 0 && strncmp(t[i].kernel, "wino", 4) == 0;
        direct |= strcmp(t[i].op, op) == 0 && strcmp(t[i].kernel, "conv_wgrad_reduce") == 0;
        direct |= strcmp(t[i].op, op) == 0 && strcmp(t[i].kernel, "conv_dgrad") == 0;
    }
    return winograd ? direct ? 3 : 2 : 1;
}

/* Every choice of each pass by itself computes what direct convolutions do. */
static void each_pass(osr_kernels family, const struct shape *s)
{
    static const char *const passes[] = {"forward", "dx", "dw"};
    static struct made plain, chosen;
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    osr_tensor w, v;
    memset(&plain, 0, sizeof plain);
    desc.kernels = family;
    desc.direct = 1;
    desc.seed = 1;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK);
    parameters(ctx, s, &w, &v);
    make(ctx, s, w, v, &plain);
    osr_ctx_destroy(ctx);
    ctx = open_context("", folder, family);
    parameters(ctx, s, &w, &v);
    make(ctx, s, w, v, &chosen);
    for (int bits = 0; bits < 8; ++bits) {
        char *text = strdup(osr_ctx_tuning(ctx));
        for (int i = 0; i < 3; ++i) {
            char *other = with_pass(text, passes[i], bits >> i & 1 ? "winograd" : "direct");
            free(text);
            text = other;
        }
        CHECK(osr_ctx_tune(ctx, text, 0) == OSR_OK);
        CHECK((strcmp(osr_ctx_tuning(ctx), text) == 0) /* GPUs: stride 2 stays direct */
              == (family == OSR_KERNELS_CPU || s->stride == 1 || bits == 0));
        free(text);
        memset(&chosen, 0, sizeof chosen);
        make(ctx, s, w, v, &chosen);
        CHECK(error(chosen.y, plain.y) < 3e-6);
        CHECK(error(chosen.dw, plain.dw) < 3e-6);
        CHECK(error(chosen.dv, plain.dv) < 3e-6);
        if (family == OSR_KERNELS_CPU && s->stride == 1) { /* both can be made in both ways */
            CHECK(kernels_of(ctx, "conv2d") == (bits & 1 ? 2 : 1));
            CHECK(kernels_of(ctx, "conv2d_dx") == (bits & 2 ? 2 : 1));
            CHECK(kernels_of(ctx, "conv2d_dw") == (bits & 4 ? 2 : 1));
        }
    }
    osr_ctx_destroy(ctx);
}

/* The products of launches since the profile started, as bits. */
static unsigned products_of(osr_ctx *ctx)
{
    const osr_launch_time *t;
    const size_t n = osr_ctx_profile_get(ctx, &t);
    unsigned bits = 0;
    for (size_t i = 0; i < n; ++i)
        bits |= 1u << t[i].products;
    return bits;
}

/* Other tiles make what the fixed ones make, in all passes, direct and by Winograd; nothing makes
 * them without being told. Where a direct convolution cannot be by CLBlast it stays as it is. */
static void other_tiles(const struct shape *s)
{
    static const char *const ways[] = {"direct", "winograd", "direct-small", "winograd-small",
                                       "direct-large", "winograd-large"};
    static const char *const passes[] = {"forward", "dx", "dw"};
    static struct made plain, chosen;
    osr_ctx *ctx = open_context("", folder, OSR_KERNELS_GPU);
    osr_tensor w, v;
    memset(&plain, 0, sizeof plain);
    parameters(ctx, s, &w, &v);
    make(ctx, s, w, v, &chosen); /* tells the lines */
    CHECK(products_of(ctx) == 1u << OSR_PRODUCTS_FIXED);
    for (int k = 0; k < 6; ++k) {
        char *text = strdup(osr_ctx_tuning(ctx));
        for (int i = 0; i < 3; ++i) {
            char *other = with_pass(text, passes[i], ways[k]);
            free(text);
            text = other;
        }
        CHECK(osr_ctx_tune(ctx, text, 0) == OSR_OK);
        CHECK(strcmp(osr_ctx_tuning(ctx), text) == 0);
        free(text);
        memset(&chosen, 0, sizeof chosen);
        make(ctx, s, w, v, k == 0 ? &plain : &chosen);
        CHECK((products_of(ctx) & ~1u) == (k < 2 ? 0u : k < 4 ? 1u << OSR_PRODUCTS_SMALL
                                                              : 1u << OSR_PRODUCTS_LARGE));
        CHECK(k == 0 || error(chosen.y, plain.y) < 3e-6);
        CHECK(k == 0 || error(chosen.dw, plain.dw) < 3e-6);
        CHECK(k == 0 || error(chosen.dv, plain.dv) < 3e-6);
    }
    osr_ctx_destroy(ctx);
}

/* A line of a product, and what a choice becomes that cannot be. */
static void lines(void)
{
    float a[6] = {1, 2, 3, 4, 5, 6}, c[4];
    osr_ctx *ctx = open_context("", folder, OSR_KERNELS_GPU);
    for (int i = 0; i < 2; ++i) {
        osr_tensor x = osr_input(ctx, osr_shape_make(2, 2, 3, 0, 0), a);
        osr_read(ctx, osr_matmul(ctx, x, x, 0, 1), c, 4);
        CHECK(osr_step_end(ctx) == OSR_OK && c[0] == 14.0f && c[1] == 32.0f && c[3] == 77.0f);
        CHECK(strcmp(osr_ctx_tuning(ctx), i == 0 ? "2 1 1 3 2 1 1 1 1 1 0 nt direct\n"
                                                 : "2 1 1 3 2 1 1 1 1 1 0 nt direct-small\n")
              == 0);
        CHECK(osr_ctx_tune(ctx, "2 1 1 3 2 1 1 1 1 1 0 nt winograd-small", 0) == OSR_OK);
    }
    osr_ctx_destroy(ctx);
    ctx = open_context("2 1 1 3 2 1 1 1 1 1 0 nt direct-large", folder, OSR_KERNELS_CPU);
    osr_tensor x = osr_input(ctx, osr_shape_make(2, 2, 3, 0, 0), a);
    CHECK(osr_read(ctx, osr_matmul(ctx, x, x, 0, 1), c, 4) == OSR_OK && c[3] == 77.0f);
    osr_ctx_destroy(ctx);
}

/* Tiles are for the GPU kernels; CLBlast has to be built in. */
static void forced(void)
{
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    desc.products = OSR_PRODUCTS_SMALL;
    desc.kernels = OSR_KERNELS_CPU;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_ARG);
    osr_ctx_destroy(ctx);
    desc.products = (osr_products)4;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_ARG);
    osr_ctx_destroy(ctx);
#ifndef OSR_CLBLAST
    desc.products = OSR_PRODUCTS_CLBLAST;
    desc.kernels = OSR_KERNELS_GPU;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_UNSUPPORTED);
    CHECK(strstr(osr_ctx_message(ctx), "CLBlast is not built in") != NULL);
    osr_ctx_destroy(ctx);
    ctx = open_context("", folder, OSR_KERNELS_GPU);
    CHECK(osr_ctx_tune(ctx, "2 8 8 32 32 3 3 8 8 1 1 dx winograd-clblast", 0) == OSR_FORMAT);
    CHECK(strstr(osr_ctx_message(ctx), "line 1 is no choice (CLBlast is not built in)") != NULL);
    osr_ctx_destroy(ctx);
#endif
}

static void algorithms(void)
{
    static const struct shape shapes[] = {{2, 8, 8, 32, 32, 1}, {1, 9, 6, 20, 3, 1},
                                          {4, 16, 15, 33, 40, 2}};
    for (int i = 0; i < 3; ++i) {
        each_pass(OSR_KERNELS_CPU, &shapes[i]);
        each_pass(OSR_KERNELS_GPU, &shapes[i]);
    }
    other_tiles(&(struct shape){2, 9, 7, 40, 72, 1}); /* tiles that are not full, more than one */
}

#define SHAPE "2 8 8 32 32 3 3 8 8 1 1 "

/* ---- the file ---- */

static void refused(const char *text)
{
    osr_ctx *ctx = open_context(SHAPE "dx direct\n", folder, OSR_KERNELS_CPU);
    CHECK(osr_ctx_tune(ctx, text, 0) == OSR_FORMAT);
    CHECK(strstr(osr_ctx_message(ctx), "tuning: line 2 is no choice") != NULL);
    CHECK(strcmp(osr_ctx_tuning(ctx), SHAPE "dx direct\n") == 0);
    osr_ctx_destroy(ctx);
}

static void bad_text(void)
{
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    refused(SHAPE "dw direct\n" SHAPE "dw fast\n");
    refused("\n" SHAPE "dw direct-\n");
    refused("\n" SHAPE "dw direct-tiny\n");
    refused("\n" SHAPE "dz direct\n");
    refused("\n" SHAPE "dw direct 1\n");
    refused("\n2 8 8 32 32 3 3 8 8 1 dw direct\n");
    refused("\n99999999999 8 8 32 32 3 3 8 8 1 1 dw direct\n");
    desc.tuning = "nothing\n";
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_FORMAT);
    osr_ctx_destroy(ctx);
    ctx = open_context(NULL, folder, OSR_KERNELS_CPU);
    CHECK(osr_ctx_tuning(ctx)[0] == '\0' && osr_ctx_tuning_file(ctx)[0] == '\0');
    CHECK(osr_ctx_tune(ctx, "", 0) == OSR_ARG);
    osr_ctx_destroy(ctx);
}

/* What a new context reads; 1 when it is this text. */
static int reads(const char *cache_dir, const char *text)
{
    osr_ctx *ctx = open_context("auto", cache_dir, OSR_KERNELS_CPU);
    const int right = strcmp(osr_ctx_tuning(ctx), text) == 0;
    osr_ctx_destroy(ctx);
    return right;
}

static osr_status keep(const char *cache_dir, const char *text, char path[256])
{
    osr_ctx *ctx = open_context("auto", cache_dir, OSR_KERNELS_CPU);
    const osr_status status = osr_ctx_tune(ctx, text, 1);
    snprintf(path, 256, "%s", osr_ctx_tuning_file(ctx));
    osr_ctx_destroy(ctx);
    return status;
}

static void file(void)
{
    static const char one[] = SHAPE "forward direct\n", two[] = SHAPE "dx direct\n";
    /* the magic, the key (as a stale file has another), the hash, the lines; cut short */
    static const long places[] = {2, 20, 40, 50, 70, 60, 30, 0};
    char deep[64], path[256], other[256], both[256];
    snprintf(deep, sizeof deep, "%s/a/b", folder); /* made as needed */
    snprintf(both, sizeof both, "%s%s", one, two);
    CHECK(reads(deep, "") && keep(deep, one, path) == OSR_OK && reads(deep, one));
    CHECK(keep(deep, two, other) == OSR_OK && strcmp(path, other) == 0 && reads(deep, both));
    CHECK(warnings == 0);
    for (int i = 0; i < 8; ++i) {
        damage(path, places[i], i > 4);
        CHECK(reads(deep, "")); /* ignored */
        CHECK(warnings == 2 * i + 1);
        CHECK(keep(deep, one, other) == OSR_OK && reads(deep, one)); /* and replaced */
        CHECK(warnings == 2 * i + 2);
    }
    osr_ctx *ctx = open_context("auto", deep, OSR_KERNELS_GPU); /* other kernels, other file */
    CHECK(osr_ctx_tuning(ctx)[0] == '\0' && strcmp(osr_ctx_tuning_file(ctx), path) != 0);
    osr_ctx_destroy(ctx);
    warnings = 0;
    CHECK(reads("/dev/null/nowhere", "")); /* no place: an error only where it is to be written */
    CHECK(keep("/dev/null/nowhere", one, other) == OSR_IO && warnings == 0);
    osr_ctx_desc desc = {0};
    desc.tuning = "auto";
    desc.cache = OSR_CACHE_OFF;
    desc.cache_dir = deep;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK && osr_ctx_tuning(ctx)[0] == '\0');
    CHECK(osr_ctx_tune(ctx, one, 1) == OSR_IO);
    osr_ctx_destroy(ctx);
}

/* Keeps and reads while others do; 1 when every file was whole. */
static int beside_others(const char *place)
{
    char path[256];
    for (int i = 0; i < 20; ++i)
        CHECK(keep(place, SHAPE "dw direct\n", path) == OSR_OK
              && reads(place, SHAPE "dw direct\n"));
    return warnings == 0;
}

static void processes(char *program)
{
    char place[64];
    snprintf(place, sizeof place, "%s/shared", folder);
    for (int i = 0; i < 2; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            execl(program, program, place, (char *)NULL);
            _exit(127);
        }
        CHECK(child > 0);
    }
    for (int i = 0; i < 2; ++i) {
        int status = 1;
        CHECK(wait(&status) > 0 && status == 0);
    }
}

/* ---- the program ---- */

static int shell(const char *command)
{
    char line[1024];
    snprintf(line, sizeof line, "cd %s && export XDG_CACHE_HOME=%s && { %s; } >out 2>err", folder,
             folder, command);
    const int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(const char *command, int code)
{
    const int got = shell(command);
    if (!CHECK(got == code)) {
        fprintf(stderr, "    %d, not %d: %s\n", got, code, command);
        CHECK(shell("cat err 1>&2") == 0);
    }
}

/* Loss of a run's first epoch. */
static double first_loss(const char *run)
{
    char path[128], text[512] = "";
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    FILE *f = fopen(path, "rb");
    if (!CHECK(f != NULL))
        return -1.0;
    CHECK(fgets(text, sizeof text, f) != NULL);
    fclose(f);
    const char *at = strstr(text, "loss\":");
    return CHECK(at != NULL) ? strtod(at + 6, NULL) : -1.0;
}

/* The text with this algorithm in all lines. */
static char *all_passes(const char *text, const char *algorithm)
{
    char *a = with_pass(text, "forward", algorithm), *b = with_pass(a, "dx", algorithm);
    char *out = with_pass(b, "dw", algorithm);
    free(a);
    free(b);
    return out;
}

#define TRAIN "\"$OSR_PROGRAM\" train --data glyphs:240,100 --size 16 --batch 32 --tuned yes "

/* A run is resumed with its own choices, where the device's file has others by then, too. */
static void program(void)
{
    char place[64], path[256];
    snprintf(place, sizeof place, "%s/osr", folder);
    expect("\"$OSR_PROGRAM\" tune --size 16 --batch 32 --seconds 0 --json && grep -q osr-tune-1 out"
           " && test $(grep -o way_ms out | wc -l) -ge 9 && grep -q '\"rounds\": *0,' out"
           " && test $(grep -o way_ms out | wc -l) ="
           " $(grep -o '\"left_out\": *[0-9]*' out | grep -o '[0-9]*$')", 0);
    expect("\"$OSR_PROGRAM\" tune --size 16 --batch 32 --seconds 20 --json"
           " && grep -q '\"way_ms\": *[0-9]' out", 0);
    osr_ctx *ctx = open_context("auto", place, OSR_KERNELS_AUTO);
    char *fixed = all_passes(osr_ctx_tuning(ctx), "winograd");
    char *other = all_passes(fixed, "direct");
    CHECK(strstr(fixed, " winograd\n") != NULL && strstr(other, " direct\n") != NULL);
    CHECK(osr_ctx_tune(ctx, other, 1) == OSR_OK);
    osr_ctx_destroy(ctx);
    expect(TRAIN "--epochs 2 --out whole", 0);
    expect(TRAIN "--epochs 1 --out part", 0);
    ctx = open_context("auto", place, OSR_KERNELS_AUTO);
    CHECK(osr_ctx_tune(ctx, fixed, 1) == OSR_OK);
    snprintf(path, sizeof path, "%s", osr_ctx_tuning_file(ctx));
    osr_ctx_destroy(ctx);
    expect(TRAIN "--epochs 2 --out contrary", 0);
    expect("cmp -s whole/model.safetensors contrary/model.safetensors", 1);
    CHECK_NEAR(first_loss("whole"), first_loss("contrary"), 2e-3);
    expect("\"$OSR_PROGRAM\" train --resume part --epochs 2", 0);
    expect("cmp whole/model.safetensors part/model.safetensors", 0);
    expect("\"$OSR_PROGRAM\" eval part -v && grep -q 'convolutions as in part/tuning.txt' err", 0);
    expect("\"$OSR_PROGRAM\" eval part/model.safetensors -v && ! grep -q tuning.txt err", 0);
    expect("cp part/tuning.txt kept && echo nothing >part/tuning.txt", 0);
    for (int i = 0; i < 2; ++i)
        expect(i == 0 ? "\"$OSR_PROGRAM\" eval part; test $? -eq 3"
                        " && grep -q 'tuning: line 1 is no choice' err"
                      : "\"$OSR_PROGRAM\" predict part x.png; test $? -eq 3"
                        " && grep -q 'tuning: line 1 is no choice' err", 0);
    expect("mv kept part/tuning.txt", 0);
    expect("\"$OSR_PROGRAM\" train --resume part --epochs 3 --tuned no", 2);
    expect("rm part/tuning.txt && \"$OSR_PROGRAM\" train --resume part --epochs 3", 3);
    expect(TRAIN "--algorithm direct --out both", 2);
    expect(TRAIN "--products small --kernels gpu --out both", 2);
    expect("\"$OSR_PROGRAM\" bench --size 16 --batch 2 --steps 1 --kernels gpu --products small"
           " && grep -q 'direct-small' out", 0);
    CHECK(remove(path) == 0);
    expect("\"$OSR_PROGRAM\" bench --size 16 --batch 8 --steps 1 --tuned yes"
           " && grep -q 'no tuning is kept for this device' err", 0);
    free(fixed);
    free(other);
}

int main(int argc, char **argv)
{
    char command[64];
    if (argc > 1)
        return beside_others(argv[1]) ? test_end() : 1;
    CHECK(mkdtemp(folder) != NULL);
    processes(argv[0]);
    algorithms();
    lines();
    forced();
    bad_text();
    file();
    program();
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
