/* selftest.c - see selftest.h */
#include "selftest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"
#include "selftest_table.h"

enum { PHILOX_SELFTEST = 0x73656c66, SAMPLES = 64, ALL_SAMPLES = 96, BLOCKS = 64, MAX_ROWS = 128 };

/* What one run on the device gave. */
struct outcome {
    float *y, *gradient[CASE_INPUTS], *state[CASE_INPUTS];
};

struct bench {
    osr_ctx *ctx;
    const struct op_row *op;
    const struct case_row *c;
    uint64_t seed;
    struct philox random;
    int inputs, differentiate;
    char role[CASE_INPUTS], kind[CASE_INPUTS];
    osr_shape shape[CASE_INPUTS], out;
    size_t count[CASE_INPUTS], out_count;
    float *value[CASE_INPUTS], *weight;
    double *exact[CASE_INPUTS], *expected; /* of the reference; states change when it runs */
    int32_t *labels;
    osr_tensor handle[CASE_INPUTS];
    struct outcome first, second;
    void *blocks[BLOCKS];
    int block_count, out_of_memory;
};

struct session {
    osr_ctx *ctx;
    const struct selftest_options *options;
    struct selftest_result *result;
    unsigned char covered[MAX_ROWS];
};

double relative_error(const float *a, const double *b, size_t count)
{
    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < count; i++) {
        double d = (double)a[i] - b[i];
        error += d * d;
        size += b[i] * b[i];
    }
    if (!(error <= 1e300))
        return INFINITY;
    error = sqrt(error / (double)count);
    size = sqrt(size / (double)count);
    return size > 1e-6 ? error / size : error;
}

/* --- inputs --- */

static void *take(struct bench *b, size_t count, size_t size)
{
    void *p = b->block_count < BLOCKS ? calloc(count ? count : 1, size) : NULL;
    if (p)
        b->blocks[b->block_count++] = p;
    else
        b->out_of_memory = 1;
    return p;
}

static double random_value(struct philox *p, char kind)
{
    double unit = philox_unit(p);
    switch (kind) {
    case 'p': return 0.25 + 1.75 * unit;
    case 'k': return unit < 0.5 ? -0.1 - 1.8 * unit : 0.1 + 1.8 * (unit - 0.5);
    case 'l': return 8.0 * unit - 4.0;
    case 'c': return 1.9 * unit - 0.95;
    case 'r': return 6.0 * unit;
    case 'e': return unit < 0.2 ? -1.0 : unit > 0.8 ? 1.0 : 2.0 * unit - 1.0;
    default: return 2.0 * unit - 1.0;
    }
}

/* Values of one kind; 'd' are the steps of a staircase in random order, so that none are near. */
static void fill(struct philox *p, char kind, float *v, size_t count)
{
    if (kind == 'd')
        for (size_t i = 0; i < count; i++) {
            size_t j = philox_below(p, (uint32_t)i + 1);
            v[i] = v[j];
            v[j] = (float)((2.0 * (double)i + 1.0) / (double)count - 1.0);
        }
    else
        for (size_t i = 0; i < count; i++)
            v[i] = (float)random_value(p, kind);
}

/* Values, exact copies and persistent tensors for each input. */
static void make_inputs(struct bench *b)
{
    static const osr_init zero = {OSR_INIT_CONSTANT, 0.0f, 0.0f};
    for (int i = 0; i < b->inputs && !b->out_of_memory; i++) {
        size_t n = b->count[i];
        b->value[i] = take(b, n, sizeof(float));
        b->exact[i] = take(b, n, sizeof(double));
        if (b->role[i] == 'L')
            b->labels = take(b, n, sizeof(int32_t));
        if (b->out_of_memory)
            return;
        if (b->role[i] == 'L')
            for (size_t k = 0; k < n; k++)
                b->labels[k] = (int32_t)philox_below(&b->random, (uint32_t)b->shape[0].dim[1]);
        else
            fill(&b->random, b->kind[i], b->value[i], n);
        if (b->role[i] == 'P')
            b->handle[i] = osr_param(b->ctx, b->shape[i], zero);
        if (b->role[i] == 'S')
            b->handle[i] = osr_state(b->ctx, b->shape[i], zero);
    }
    b->weight = take(b, b->out_count, sizeof(float));
    b->expected = take(b, b->out_count, sizeof(double));
    if (b->weight)
        fill(&b->random, 'k', b->weight, b->out_count);
}

static void make_outcome(struct bench *b, struct outcome *o)
{
    o->y = take(b, b->out_count, sizeof(float));
    for (int i = 0; i < b->inputs; i++) {
        o->gradient[i] = take(b, b->count[i], sizeof(float));
        o->state[i] = take(b, b->count[i], sizeof(float));
    }
}

static void bench_start(struct bench *b, struct session *s, const struct op_row *op, int index)
{
    memset(b, 0, sizeof *b);
    b->ctx = s->ctx;
    b->op = op;
    b->c = &case_table[index];
    b->seed = s->options->seed;
    b->random = philox_start(b->seed, PHILOX_SELFTEST, (uint64_t)index);
    b->differentiate = op->gradients != NULL && !b->c->forward_only;
    op->shapes(b->c, b->shape, &b->out);
    b->out_count = osr_shape_count(b->out);
    for (const char *p = op->inputs; b->inputs < CASE_INPUTS; p += 3) {
        b->role[b->inputs] = p[0];
        b->kind[b->inputs] = p[1];
        b->count[b->inputs] = osr_shape_count(b->shape[b->inputs]);
        b->inputs++;
        if (p[2] == '\0')
            break;
    }
    make_inputs(b);
    make_outcome(b, &b->first);
    make_outcome(b, &b->second);
}

static void bench_end(struct bench *b)
{
    while (b->block_count > 0)
        free(b->blocks[--b->block_count]);
}

/* --- on the device --- */

static void write_inputs(struct bench *b)
{
    for (int i = 0; i < b->inputs; i++)
        if (b->role[i] == 'I')
            b->handle[i] = osr_input(b->ctx, b->shape[i], b->value[i]);
        else if (b->role[i] == 'L')
            b->handle[i] = osr_labels(b->ctx, (int)b->count[i], b->shape[0].dim[1], b->labels);
        else
            osr_write(b->ctx, b->handle[i], b->value[i], b->count[i]);
}

/* Records the gradient of sum(weight y) by every input; by parameters in their own buffers. */
static void record_gradients(struct bench *b, osr_tensor y, osr_tensor gradient[CASE_INPUTS])
{
    osr_tensor none = {0, 0};
    osr_tensor t = osr_mul(b->ctx, y, osr_input(b->ctx, b->out, b->weight));
    int parameters = 0;
    if (b->out.rank == 4)
        t = osr_flatten(b->ctx, t);
    t = osr_sum(b->ctx, t);
    for (int i = 0; i < b->inputs; i++)
        parameters += b->role[i] == 'P';
    if (parameters)
        osr_backward(b->ctx, t);
    for (int i = 0; i < b->inputs; i++)
        if (b->role[i] == 'I')
            gradient[i] = osr_grad(b->ctx, t, none, b->handle[i]);
        else if (b->role[i] == 'P')
            gradient[i] = osr_gradient(b->ctx, b->handle[i]);
}

static void run_device(struct bench *b, struct outcome *o)
{
    osr_tensor gradient[CASE_INPUTS], y;
    osr_ctx_set_step(b->ctx, CASE_STEP);
    write_inputs(b);
    y = b->op->device(b->ctx, b->c, b->handle);
    osr_keep(b->ctx, y);
    if (b->differentiate)
        record_gradients(b, y, gradient);
    osr_read(b->ctx, y, o->y, b->out_count);
    for (int i = 0; i < b->inputs; i++)
        if (b->differentiate && (b->role[i] == 'I' || b->role[i] == 'P'))
            osr_read(b->ctx, gradient[i], o->gradient[i], b->count[i]);
    osr_step_end(b->ctx);
    for (int i = 0; i < b->inputs; i++)
        if (b->role[i] == 'S')
            osr_read(b->ctx, b->handle[i], o->state[i], b->count[i]);
}

/* 1 when two runs gave the same bits. */
static int same_outcome(const struct bench *b)
{
    int same = memcmp(b->first.y, b->second.y, b->out_count * sizeof(float)) == 0;
    for (int i = 0; i < b->inputs; i++)
        same = same
               && memcmp(b->first.gradient[i], b->second.gradient[i],
                         b->count[i] * sizeof(float)) == 0
               && memcmp(b->first.state[i], b->second.state[i], b->count[i] * sizeof(float)) == 0;
    return same;
}

/* --- against the reference --- */

static void reset_exact(struct bench *b, int states_only)
{
    for (int i = 0; i < b->inputs; i++)
        for (size_t k = 0; k < b->count[i] && (!states_only || b->role[i] == 'S'); k++)
            b->exact[i][k] = (double)b->value[i][k];
}

/* The larger of the errors of the values and of the states. */
static double forward_error(struct bench *b)
{
    double worst, e;
    reset_exact(b, 0);
    b->op->reference(b->c, b->exact, b->labels, b->seed, b->expected);
    worst = relative_error(b->first.y, b->expected, b->out_count);
    for (int i = 0; i < b->inputs; i++)
        if (b->role[i] == 'S') {
            e = relative_error(b->first.state[i], b->exact[i], b->count[i]);
            worst = e > worst ? e : worst;
        }
    return worst;
}

/* sum(weight f(x)) of the reference with element k of input i moved. */
static double projection(struct bench *b, int i, size_t k, double move)
{
    double sum = 0.0;
    reset_exact(b, 1);
    b->exact[i][k] += move;
    b->op->reference(b->c, b->exact, b->labels, b->seed, b->expected);
    b->exact[i][k] -= move;
    for (size_t j = 0; j < b->out_count; j++)
        sum += (double)b->weight[j] * b->expected[j];
    return sum;
}

/* By input i: all elements, or a sample. The step of 1e-5 leaves errors below 1e-6. */
static double gradient_error(struct bench *b, int i)
{
    size_t n = b->count[i] <= ALL_SAMPLES ? b->count[i] : SAMPLES;
    float found[ALL_SAMPLES];
    double wanted[ALL_SAMPLES];
    reset_exact(b, 0);
    for (size_t j = 0; j < n; j++) {
        size_t k = n == b->count[i] ? j : philox_below(&b->random, (uint32_t)b->count[i]);
        found[j] = b->first.gradient[i][k];
        wanted[j] = (projection(b, i, k, 1e-5) - projection(b, i, k, -1e-5)) / 2e-5;
    }
    return relative_error(found, wanted, n);
}

static void judge(struct bench *b, struct selftest_case *c)
{
    c->forward = forward_error(b);
    for (int i = 0; i < b->inputs && b->differentiate; i++)
        if (b->role[i] == 'I' || b->role[i] == 'P') {
            double e = gradient_error(b, i);
            c->gradient = e > c->gradient ? e : c->gradient;
        }
    if (!(c->forward <= c->bound))
        snprintf(c->message, sizeof c->message, "relative error %.3g, allowed are %.0e", c->forward,
                 c->bound);
    else if (!(c->gradient <= c->bound))
        snprintf(c->message, sizeof c->message, "gradient: relative error %.3g, allowed are %.0e",
                 c->gradient, c->bound);
    else if (!same_outcome(b))
        snprintf(c->message, sizeof c->message, "a second run gave other bits");
}

/* --- counting --- */

/* 1 when `word` is one of the words of `list`. */
static int has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p != NULL && *p != '\0'; p = strchr(p, ' ')) {
        p += *p == ' ';
        if (strncmp(p, word, n) == 0 && (p[n] == ' ' || p[n] == '\0'))
            return 1;
    }
    return 0;
}

/* Marks the rows of osr_op_name that `rows` names; 0 when a name is none. */
static int cover(struct session *s, const char *rows)
{
    int words = rows != NULL && rows[0] != '\0', found = 0;
    for (const char *p = rows; p != NULL && *p != '\0'; p++)
        words += *p == ' ';
    for (int i = 0; words > 0 && osr_op_name(i) != NULL && i < MAX_ROWS; i++)
        if (has_word(rows, osr_op_name(i))) {
            s->covered[i] = 1;
            found++;
        }
    return found == words;
}

static struct selftest_line *line_of(struct selftest_result *r, const char *op)
{
    for (int i = 0; i < r->line_count; i++)
        if (strcmp(r->lines[i].op, op) == 0)
            return &r->lines[i];
    if (r->line_count == SELFTEST_LINES)
        return &r->lines[SELFTEST_LINES - 1];
    r->lines[r->line_count].op = op;
    r->lines[r->line_count].forward = r->lines[r->line_count].gradient = -1.0;
    return &r->lines[r->line_count++];
}

static void count_case(struct session *s, struct selftest_case *c)
{
    struct selftest_result *r = s->result;
    struct selftest_line *line = line_of(r, c->op);
    c->failed = c->message[0] != '\0';
    line->bound = c->bound;
    line->cases++;
    r->cases++;
    line->failed += c->failed;
    r->failed += c->failed;
    line->forward = c->forward > line->forward ? c->forward : line->forward;
    line->gradient = c->gradient > line->gradient ? c->gradient : line->gradient;
    if (c->failed && r->first_failure[0] == '\0')
        snprintf(r->first_failure, sizeof r->first_failure, "%s %s: %s", c->op, c->what,
                 c->message);
    if (s->options->report)
        s->options->report(s->options->user, c);
}

static void describe(const struct case_row *row, char *text, size_t size)
{
    int last = 0, numbers = 0;
    size_t at = 0;
    for (int i = 0; i < CASE_SIZES; i++)
        last = row->d[i] ? i : last;
    for (int i = 0; i < 3; i++)
        numbers = row->f[i] < 0.0 || row->f[i] > 0.0 ? i + 1 : numbers;
    for (int i = 0; i <= last && at + 16 < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ",%d" : "%d", row->d[i]);
    for (int i = 0; i < numbers && at + 16 < size; i++)
        at += (size_t)snprintf(text + at, size - at, " %g", row->f[i]);
}

/* The context's error as the reason; the context is good again. */
static void take_error(osr_ctx *ctx, char *message, size_t size)
{
    if (osr_ctx_status(ctx) == OSR_OK)
        return;
    snprintf(message, size, "%s", osr_ctx_message(ctx));
    osr_ctx_clear_error(ctx);
}

static void run_case(struct session *s, const struct op_row *op, int index)
{
    struct selftest_case c;
    struct bench b;
    memset(&c, 0, sizeof c);
    c.op = op->name;
    c.forward = c.gradient = -1.0;
    c.bound = op->bound;
    describe(&case_table[index], c.what, sizeof c.what);
    bench_start(&b, s, op, index);
    if (b.out_of_memory) {
        snprintf(c.message, sizeof c.message, "out of memory");
    } else {
        run_device(&b, &b.first);
        run_device(&b, &b.second);
        take_error(s->ctx, c.message, sizeof c.message);
    }
    if (c.message[0] == '\0')
        judge(&b, &c);
    if ((c.forward >= 0.0 && !cover(s, op->covers))
        || (c.gradient >= 0.0 && !cover(s, op->gradients)))
        snprintf(c.message, sizeof c.message, "a name in its row is no op");
    bench_end(&b);
    count_case(s, &c);
}

static void run_check(struct session *s, const struct check_row *row)
{
    struct selftest_case c;
    struct check k;
    const char *why;
    memset(&c, 0, sizeof c);
    memset(&k, 0, sizeof k);
    c.op = row->name;
    c.forward = c.gradient = -1.0;
    k.ctx = s->ctx;
    k.seed = s->options->seed;
    k.error = -1.0;
    why = row->run(&k);
    if (why != NULL)
        snprintf(c.message, sizeof c.message, "%s", why);
    take_error(s->ctx, c.message, sizeof c.message);
    c.forward = k.error;
    c.bound = row->bound;
    if (why == NULL && c.message[0] == '\0' && !(k.error <= row->bound))
        snprintf(c.message, sizeof c.message, "relative error %.3g, allowed are %.0e", k.error,
                 row->bound);
    if (!cover(s, row->covers))
        snprintf(c.message, sizeof c.message, "a name in its row is no op");
    count_case(s, &c);
}

/* Every row of osr_op_name must have been run. */
static void check_coverage(struct session *s)
{
    struct selftest_case c;
    size_t at = 0;
    memset(&c, 0, sizeof c);
    c.op = "coverage";
    c.forward = c.gradient = -1.0;
    for (int i = 0; osr_op_name(i) != NULL; i++) {
        s->result->rows++;
        if (i < MAX_ROWS && s->covered[i])
            s->result->rows_covered++;
        else if (at + 40 < sizeof c.message)
            at += (size_t)snprintf(c.message + at, sizeof c.message - at, "%s %.30s",
                                   at ? "" : "no case for", osr_op_name(i));
    }
    snprintf(c.what, sizeof c.what, "%d of %d", s->result->rows_covered, s->result->rows);
    count_case(s, &c);
}

int selftest_run(osr_ctx *ctx, const struct selftest_options *options,
                 struct selftest_result *result)
{
    struct session s;
    memset(&s, 0, sizeof s);
    memset(result, 0, sizeof *result);
    s.ctx = ctx;
    s.options = options;
    s.result = result;
    for (int o = 0; o < op_table_count; o++)
        for (int i = 0; i < case_table_count; i++)
            if ((!options->op || strcmp(options->op, op_table[o].name) == 0)
                && (case_table[i].small || !options->small)
                && has_word(case_table[i].ops, op_table[o].name))
                run_case(&s, &op_table[o], i);
    for (int i = 0; i < (options->small ? check_table_small : check_table_count); i++)
        if (!options->op || strcmp(options->op, check_table[i].name) == 0)
            run_check(&s, &check_table[i]);
    if (!options->op)
        check_coverage(&s);
    return result->failed != 0 || result->cases == 0;
}
