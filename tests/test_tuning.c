/* test_tuning - choices of algorithms: any of them computes the right values, each pass has its
 * own, their file survives damage, staleness and other processes, and a run is resumed with the
 * choices that it began with.
 *
 *   test_tuning [FOLDER]   FOLDER: only keep and read choices there, as a process beside others */
#define _XOPEN_SOURCE 700
#include "osr.h"
#include "selftest.h"
#include "test.h"

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

/* The text with the other algorithm in each line of a pass (NULL: all); lines changed in *count. */
static char *inverted(const char *text, const char *pass, int *count)
{
    char *out = calloc(1, 2 * strlen(text) + 1), wanted[24];
    snprintf(wanted, sizeof wanted, " %s ", pass == NULL ? "" : pass);
    *count = 0;
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n") + 1) {
        const size_t n = strcspn(at, "\n");
        char line[192], *made;
        snprintf(line, sizeof line, "%.*s", (int)n, at);
        made = strrchr(line, ' ') + 1;
        if (pass == NULL || strstr(line, wanted) != NULL) {
            strcpy(made, strcmp(made, "direct") == 0 ? "winograd" : "direct");
            ++*count;
        }
        strcat(strcat(out, line), "\n");
    }
    return out;
}

/* ---- the algorithms ---- */

static void report(void *user, const struct selftest_case *c)
{
    (void)user;
    if (!CHECK(!c->failed))
        fprintf(stderr, "    %s %s: %s\n", c->op, c->what, c->message);
}

static void selftest(osr_ctx *ctx)
{
    struct selftest_options options = {0};
    struct selftest_result result;
    options.op = "conv2d";
    options.seed = 1;
    options.small = 1;
    options.report = report;
    CHECK(selftest_run(ctx, &options, &result) == 0 && result.cases > 4);
}

/* Every case of conv2d with every choice the other way, in all passes and in one alone. */
static void other_way(osr_kernels family)
{
    static const char *const passes[] = {NULL, "forward", "dx", "dw"};
    osr_ctx *ctx = open_context("", folder, family);
    char *fixed;
    selftest(ctx);
    fixed = strdup(osr_ctx_tuning(ctx));
    osr_ctx_destroy(ctx);
    for (int i = 0; i < 4; ++i) {
        int count;
        char *text = inverted(fixed, passes[i], &count);
        CHECK(count >= 3);
        ctx = open_context(text, folder, family);
        selftest(ctx);
        CHECK(strcmp(osr_ctx_tuning(ctx), text) == 0);
        osr_ctx_destroy(ctx);
        free(text);
    }
    free(fixed);
}

/* Which kernels an op's launches have: 1 direct, 2 Winograd, 3 both. */
static int kernels_of(osr_ctx *ctx, const char *op)
{
    const osr_launch_time *t;
    const size_t n = osr_ctx_profile_get(ctx, &t);
    int kinds = 0;
    for (size_t i = 0; i < n; ++i)
        if (strcmp(t[i].op, op) == 0 && strstr(t[i].kernel, "reduce") == NULL)
            kinds |= strncmp(t[i].kernel, "wino", 4) == 0 ? 2 : 1;
    return kinds;
}

#define SHAPE "2 8 8 32 32 3 3 8 8 1 1 "

/* Each pass is made as its own line says. */
static void each_pass(void)
{
    static float zeros[2 * 8 * 8 * 32];
    for (int bits = 0; bits < 8; ++bits) {
        char text[256];
        osr_init init = {OSR_INIT_NORMAL, 0.0f, 0.1f};
        osr_conv_desc conv = {0};
        snprintf(text, sizeof text, SHAPE "forward %s\n" SHAPE "dx %s\n" SHAPE "dw %s\n",
                 bits & 1 ? "winograd" : "direct", bits & 2 ? "winograd" : "direct",
                 bits & 4 ? "winograd" : "direct");
        osr_ctx *ctx = open_context(text, folder, OSR_KERNELS_CPU);
        const osr_tensor w = osr_param(ctx, osr_shape_make(4, 32, 32, 3, 3), init);
        const osr_tensor v = osr_param(ctx, osr_shape_make(4, 32, 32, 3, 3), init);
        conv.pad = 1;
        osr_ctx_profile(ctx, 1);
        const osr_tensor x = osr_input(ctx, osr_shape_make(4, 2, 8, 8, 32), zeros);
        const osr_tensor y = osr_conv2d(ctx, osr_conv2d(ctx, x, w, &conv), v, &conv);
        float loss = 1.0f;
        const osr_tensor l = osr_sum(ctx, y);
        osr_backward(ctx, l);
        osr_read(ctx, l, &loss, 1);
        if (!CHECK(osr_ctx_status(ctx) == OSR_OK))
            fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
        CHECK(kernels_of(ctx, "conv2d") == (bits & 1 ? 2 : 1));
        CHECK(kernels_of(ctx, "conv2d_dx") == (bits & 2 ? 2 : 1));
        CHECK(kernels_of(ctx, "conv2d_dw") == (bits & 4 ? 2 : 1));
        CHECK(strcmp(osr_ctx_tuning(ctx), text) == 0);
        osr_ctx_destroy(ctx);
    }
}

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

/* Flips a bit at `at`, or cuts the file there. */
static void damage(const char *path, long at, int cut)
{
    FILE *f = fopen(path, "rb+");
    if (!CHECK(f != NULL))
        return;
    if (cut) {
        CHECK(ftruncate(fileno(f), at) == 0);
    } else {
        fseek(f, at, SEEK_SET);
        const int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ 1, f);
    }
    fclose(f);
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
    snprintf(line, sizeof line, "cd %s && XDG_CACHE_HOME=%s %s >out 2>err", folder, folder,
             command);
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

#define TRAIN "\"$OSR_PROGRAM\" train --data glyphs:240,100 --size 16 --batch 32 --tuned yes "

/* A run with the choices of `text`; resumed where the device's file has others it stays as it is. */
static void program(void)
{
    char place[64], path[256];
    int count;
    snprintf(place, sizeof place, "%s/osr", folder);
    expect("\"$OSR_PROGRAM\" tune --size 16 --batch 32 --seconds 0 --json && grep -q osr-tune-1 out"
           " && test $(grep -o direct_ms out | wc -l) -ge 9", 0);
    osr_ctx *ctx = open_context("auto", place, OSR_KERNELS_AUTO);
    char *fixed = strdup(osr_ctx_tuning(ctx)), *other = inverted(fixed, NULL, &count);
    CHECK(count >= 9);
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
    expect("\"$OSR_PROGRAM\" train --resume part --epochs 2", 0);
    expect("cmp whole/model.safetensors part/model.safetensors", 0);
    expect("\"$OSR_PROGRAM\" train --resume part --epochs 3 --tuned no", 2);
    expect("rm part/tuning.txt && \"$OSR_PROGRAM\" train --resume part --epochs 3", 3);
    expect(TRAIN "--algorithm direct --out both", 2);
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
    other_way(OSR_KERNELS_CPU);
    other_way(OSR_KERNELS_GPU);
    each_pass();
    bad_text();
    file();
    program();
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
