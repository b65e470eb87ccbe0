/* test_clblast - matrix products by CLBlast, in an implementation of its own with OSR_CLBLAST:
 * right against the double reference, alone and inside Winograd, when forced and by a line of a
 * tuning; never without being told; its working memory for osr_matmul among the plan's */
#include "osr.h"
#include "selftest.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static osr_ctx *open_context(const char *tuning, osr_products products, int direct)
{
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    desc.kernels = OSR_KERNELS_GPU;
    desc.cache = OSR_CACHE_OFF;
    desc.seed = 1;
    desc.direct = direct;
    desc.products = products;
    desc.tuning = tuning;
    if (!CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    return ctx;
}

static void report(void *user, const struct selftest_case *c)
{
    (void)user;
    if (!CHECK(!c->failed))
        fprintf(stderr, "    %s %s: %s\n", c->op, c->what, c->message);
}

/* Every small case of an op, with its gradients, twice with the same bits. */
static void right(const char *op, int direct)
{
    struct selftest_options options = {0};
    struct selftest_result result;
    osr_ctx *ctx = open_context(NULL, OSR_PRODUCTS_CLBLAST, direct);
    options.small = 1;
    options.op = op;
    options.seed = 1;
    options.report = report;
    CHECK(selftest_run(ctx, &options, &result) == 0 && result.cases > 0);
    osr_ctx_destroy(ctx);
}

enum { M = 33, K = 20, N = 65 }; /* no multiples of any tile */

/* a [M, K] b [K, N] in the context; 1 where CLBlast made it. */
static int product(osr_ctx *ctx, double *error)
{
    static float a[M * K], b[K * N], c[M * N];
    const osr_launch_time *t;
    uint64_t state = 5;
    int clblast = 0;
    for (int i = 0; i < M * K; ++i)
        a[i] = (float)(2.0 * test_uniform(&state) - 1.0);
    for (int i = 0; i < K * N; ++i)
        b[i] = (float)(2.0 * test_uniform(&state) - 1.0);
    osr_ctx_profile(ctx, 1);
    osr_read(ctx, osr_matmul(ctx, osr_input(ctx, osr_shape_make(2, M, K, 0, 0), a),
                             osr_input(ctx, osr_shape_make(2, K, N, 0, 0), b), 0, 0), c, M * N);
    if (!CHECK(osr_step_end(ctx) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    for (size_t i = osr_ctx_profile_get(ctx, &t); i > 0; --i)
        if (strcmp(t[i - 1].kernel, "clblast_nn") == 0) {
            CHECK(t[i - 1].products == OSR_PRODUCTS_CLBLAST && strcmp(t[i - 1].op, "matmul") == 0);
            CHECK(t[i - 1].seconds > 0.0 && t[i - 1].flops == 2.0 * M * K * N);
            clblast = 1;
        }
    osr_ctx_profile(ctx, 0);
    *error = 0.0;
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) {
            double sum = 0.0, d;
            for (int k = 0; k < K; ++k)
                sum += (double)a[m * K + k] * (double)b[k * N + n];
            d = fabs(sum - (double)c[m * N + n]);
            *error = d > *error ? d : *error;
        }
    return clblast;
}

#define LINE "33 1 1 20 65 1 1 1 1 1 0 nn direct"

/* By a line only; the step allocates nothing that osr knows of when it runs again. */
static void chosen(void)
{
    osr_ctx_stats before, after;
    double error;
    osr_ctx *ctx = open_context("", OSR_PRODUCTS_FIXED, 0);
    CHECK(product(ctx, &error) == 0 && error < 1e-5);
    CHECK(strcmp(osr_ctx_tuning(ctx), LINE "\n") == 0);
    CHECK(osr_ctx_tune(ctx, LINE "-clblast", 0) == OSR_OK);
    CHECK(strcmp(osr_ctx_tuning(ctx), LINE "-clblast\n") == 0);
    CHECK(product(ctx, &error) == 1 && error < 1e-5);
    osr_ctx_get_stats(ctx, &before);
    CHECK(before.planned_peak_bytes == before.device_peak_bytes);
    CHECK(product(ctx, &error) == 1 && error < 1e-5);
    osr_ctx_get_stats(ctx, &after);
    CHECK(after.allocations == before.allocations && after.device_bytes == before.device_bytes);
    CHECK(after.plans == before.plans && after.launches > before.launches);
    osr_ctx_destroy(ctx);
    ctx = open_context(NULL, OSR_PRODUCTS_FIXED, 0);
    CHECK(product(ctx, &error) == 0 && error < 1e-5);
    osr_ctx_destroy(ctx);
}

/* A direct convolution is not CLBlast's, also where a line wants it. */
static void direct_stays(void)
{
    static const char line[] = "1 5 5 3 4 3 3 5 5 1 1 forward direct";
    const osr_init init = {OSR_INIT_NORMAL, 0.0f, 0.1f};
    static const osr_conv_desc same = {1, 1, 0, 0};
    char wanted[80];
    float x[75] = {1}, y[100];
    osr_ctx *ctx;
    snprintf(wanted, sizeof wanted, "%s-clblast\n", line);
    ctx = open_context(wanted, OSR_PRODUCTS_FIXED, 0);
    osr_read(ctx, osr_conv2d(ctx, osr_input(ctx, osr_shape_make(4, 1, 5, 5, 3), x),
                             osr_param(ctx, osr_shape_make(4, 4, 3, 3, 3), init), &same), y, 100);
    CHECK(osr_step_end(ctx) == OSR_OK);
    snprintf(wanted, sizeof wanted, "%s\n", line);
    CHECK(strcmp(osr_ctx_tuning(ctx), wanted) == 0);
    osr_ctx_destroy(ctx);
}

int main(void)
{
    int devices;
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    chosen();
    direct_stays();
    right("matmul", 0);
    right("conv2d", -1);
    return test_end();
}
