/* test_steady - after the first steps of each batch size, training and prediction ask for no
 * memory, make no plan and, seen by the layer clfault, no OpenCL object */
#include "clfault.h"
#include "osr.h"
#include "test.h"
#include "tiny.h"

enum { WARM = 3, STEPS = 6, COUNTED = 5 };

static const char *const counted[COUNTED] = {"clCreateBuffer", "clCreateKernel", "clBuildProgram",
                                             "clCreateProgramWithSource", "clFinish"};

struct counts {
    osr_ctx_stats stats;
    long calls[COUNTED]; /* 0 without the layer */
};

static struct counts count(const osr_ctx *ctx, const clfault *layer)
{
    struct counts c;
    memset(&c, 0, sizeof c);
    osr_ctx_get_stats(ctx, &c.stats);
    for (int i = 0; i < COUNTED && layer != NULL; i++)
        c.calls[i] = layer->calls(counted[i]);
    return c;
}

/* Both batch sizes, training and prediction. */
static int round_of_steps(tiny *t)
{
    return tiny_train(t, TINY_BATCH) == OSR_OK && tiny_train(t, TINY_BATCH - 1) == OSR_OK
           && tiny_run(t, TINY_BATCH) == OSR_OK && tiny_run(t, TINY_BATCH - 1) == OSR_OK;
}

static void check_method(const osr_method_row *method, const clfault *layer)
{
    osr_ctx *ctx = NULL;
    struct counts before, after;
    tiny t;
    CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK);
    CHECK(tiny_create(&t, ctx, method) == OSR_OK);
    for (int i = 0; i < WARM; i++)
        CHECK(round_of_steps(&t));
    before = count(ctx, layer);
    for (int i = 0; i < STEPS; i++)
        CHECK(round_of_steps(&t));
    after = count(ctx, layer);
    if (osr_ctx_status(ctx) != OSR_OK)
        fprintf(stderr, "    %s: %s\n", method->name, osr_ctx_message(ctx));
    CHECK(after.stats.allocations == before.stats.allocations);
    CHECK(after.stats.plans == before.stats.plans);
    CHECK(after.stats.host_bytes == before.stats.host_bytes);
    CHECK(after.stats.device_bytes == before.stats.device_bytes);
    CHECK(after.stats.launches > before.stats.launches);
    for (int i = 0; i < COUNTED - 1; i++)
        if (!CHECK(after.calls[i] == before.calls[i]))
            fprintf(stderr, "    %s: %ld %s in %d rounds\n", method->name,
                    after.calls[i] - before.calls[i], counted[i], STEPS);
    if (layer != NULL) /* the counters of the layer do count */
        CHECK(after.calls[COUNTED - 1] > before.calls[COUNTED - 1] && before.calls[0] > 0);
    printf("%s: %lu plans, %lu launches a round\n", method->name, (unsigned long)after.stats.plans,
           (unsigned long)(after.stats.launches - before.stats.launches) / STEPS);
    osr_model_destroy(t.model);
    osr_ctx_destroy(ctx);
}

/* What the host's memory comes to is told before a plan's launches are made: with a new program
 * (its text), with more launches, and when nothing more is needed. */
static void check_planned(void)
{
    enum { ROWS = 64, COLUMNS = 64, OPS = 3000 };
    osr_ctx *ctx = NULL;
    static float x[ROWS * COLUMNS];
    uint64_t peak = 0;
    CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK);
    for (int ops = 1; ops <= OPS; ops += OPS - 1)
        for (int again = 0; again < 2; again++) {
            osr_tensor y = osr_input(ctx, osr_shape_make(2, ROWS, COLUMNS, 0, 0), x);
            osr_ctx_stats s;
            for (int i = 0; i < ops; i++)
                y = osr_sqrt(ctx, y);
            CHECK(osr_read(ctx, y, x, ROWS * COLUMNS) == OSR_OK && osr_step_end(ctx) == OSR_OK);
            osr_ctx_get_stats(ctx, &s);
            CHECK(s.planned_host_peak_bytes == s.host_peak_bytes);
            CHECK(again ? s.host_peak_bytes == peak : s.host_peak_bytes > peak);
            peak = s.host_peak_bytes;
        }
    osr_ctx_destroy(ctx);
}

int main(void)
{
    clfault layer;
    int devices, layered = clfault_open(&layer);
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    if (!layered)
        printf("without the layer clfault: calls of OpenCL are not counted\n");
    check_planned();
    for (int i = 0; osr_method_at(i) != NULL; i++)
        check_method(osr_method_at(i), layered ? &layer : NULL);
    return test_end();
}
