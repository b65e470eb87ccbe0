/* osr selftest - does this device compute what it should? Every op, loss and gradient against the
 * reference, and the checks of the tape; see selftest.h. */
#include "exit_codes.h"
#include "output.h"
#include "progress.h"
#include "selftest.h"
#include "session.h"

static void report(void *user, const struct selftest_case *c)
{
    (void)user;
    if (c->failed)
        message_error("%s %s: %s", c->op, c->what, c->message);
    else if (c->forward < 0.0)
        message_detail("%s %s: passed", c->op, c->what);
    else if (c->gradient < 0.0)
        message_detail("%s %s: %.2e", c->op, c->what, c->forward);
    else
        message_detail("%s %s: %.2e, gradient %.2e", c->op, c->what, c->forward, c->gradient);
}

static void error_cell(struct table *t, double error)
{
    if (error < 0.0)
        table_cell(t, "-");
    else
        table_cell(t, "%.1e", error);
}

static int print_text(const osr_ctx *ctx, const struct selftest_options *o,
                      const struct selftest_result *r, double seconds)
{
    static const char *const heads[] = {"op", "cases", "forward", "gradient", "result"};
    char device[512];
    struct table t;
    int code;
    printf("device  %s, %s kernels\n\n", device_text(ctx, device, sizeof device),
           osr_ctx_kernels(ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu");
    table_start(&t, 5);
    for (int i = 0; i < 5; i++)
        table_cell(&t, "%s", heads[i]);
    for (int i = 0; i < r->line_count; i++) {
        const struct selftest_line *l = &r->lines[i];
        table_cell(&t, "%s", l->op);
        table_cell(&t, "%d", l->cases);
        error_cell(&t, l->forward);
        error_cell(&t, l->gradient);
        table_cell(&t, "%s", l->failed ? "FAIL" : "pass");
    }
    code = table_print(&t);
    printf("\n%d cases, %d failed, %d of %d ops covered, seed %llu, %.1f s\n", r->cases, r->failed,
           r->rows_covered, r->rows, (unsigned long long)o->seed, seconds);
    return code;
}

static void json_error(struct json *j, const char *key, double error)
{
    if (error < 0.0)
        json_text(j, key, NULL);
    else
        json_real(j, key, error);
}

static int print_json(const osr_ctx *ctx, const struct selftest_options *o,
                      const struct selftest_result *r, double seconds)
{
    struct json j = {0};
    char device[512];
    int code;
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "osr-selftest-1");
    json_text(&j, "version", osr_version());
    json_text(&j, "device", device_text(ctx, device, sizeof device));
    json_text(&j, "kernels", osr_ctx_kernels(ctx) == OSR_KERNELS_CPU ? "cpu" : "gpu");
    json_integer(&j, "seed", (int64_t)o->seed);
    json_integer(&j, "cases", r->cases);
    json_integer(&j, "failed", r->failed);
    json_integer(&j, "ops", r->rows);
    json_integer(&j, "ops_covered", r->rows_covered);
    json_real(&j, "seconds", seconds);
    json_text(&j, "first_failure", r->first_failure[0] ? r->first_failure : NULL);
    json_open(&j, "rows", '[');
    for (int i = 0; i < r->line_count; i++) {
        const struct selftest_line *l = &r->lines[i];
        json_open(&j, NULL, '{');
        json_text(&j, "op", l->op);
        json_integer(&j, "cases", l->cases);
        json_integer(&j, "failed", l->failed);
        json_error(&j, "forward", l->forward);
        json_error(&j, "gradient", l->gradient);
        json_real(&j, "bound", l->bound);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    code = json_print(&j);
    json_free(&j);
    return code;
}

int cmd_selftest(struct options *o)
{
    struct selftest_options s = {0};
    struct selftest_result result;
    osr_ctx *ctx = NULL;
    double start = progress_now();
    int failed, code = session_open(o, &ctx);
    if (code != EXIT_OK)
        return code;
    s.seed = (uint64_t)option_int(o, "seed");
    s.op = option_text(o, "op");
    s.small = option_flag(o, "quick");
    s.report = report;
    failed = selftest_run(ctx, &s, &result);
    if (s.op != NULL && result.cases == 0) {
        message_error("--op %s: no such op; osr selftest without it lists them", s.op);
        osr_ctx_destroy(ctx);
        return EXIT_USAGE;
    }
    code = option_flag(o, "json") ? print_json(ctx, &s, &result, progress_now() - start)
                                  : print_text(ctx, &s, &result, progress_now() - start);
    osr_ctx_destroy(ctx);
    return failed ? EXIT_INTERNAL : code;
}
