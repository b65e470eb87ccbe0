/* selftest_table.h - what selftest.c shares with its tables and with the checks of the tape. */
#ifndef CLI_SELFTEST_TABLE_H
#define CLI_SELFTEST_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "osr.h"
#include "selftest.h"

enum { CASE_SIZES = 10, CASE_INPUTS = 5, CASE_STEP = 3 }; /* CASE_STEP: step of dropout masks */

/* One or more cases: the sizes and numbers for each op named in ops. */
struct case_row {
    const char *ops;      /* names separated by blanks */
    int d[CASE_SIZES];    /* sizes; each op says what they mean */
    double f[4];          /* numbers */
    int small;            /* in the small set, too */
    int forward_only;     /* no gradient: the inputs lie on a kink */
};

/* inputs: two letters each, separated by blanks. First the role: I value of the step, P parameter,
 * S state, L labels of as many classes as the first input has columns. Then the kind of values:
 *   u in -1..1, p in 0.25..2, k of magnitude 0.1..1, d distinct (no ties), l in -4..4,
 *   c cosines in -0.95..0.95, r in 0..6, e cosines with -1 and 1 among them
 * covers: rows of osr_op_name that a case runs; those in gradients by differentiating. */
struct op_row {
    const char *name, *inputs, *covers, *gradients; /* gradients NULL: not differentiable */
    double bound;                                   /* relative error */
    void (*shapes)(const struct case_row *c, osr_shape *in, osr_shape *out);
    osr_tensor (*device)(osr_ctx *ctx, const struct case_row *c, const osr_tensor *in);
    void (*reference)(const struct case_row *c, double *const *in, const int32_t *labels,
                      uint64_t seed, double *out); /* states in `in` may be updated */
};

extern const struct op_row op_table[];
extern const int op_table_count;
extern const struct case_row case_table[];
extern const int case_table_count;

/* A check of the tape: NULL when it passed, else why not (in text). error is set where a figure
 * is compared; bound as in op_row, 0 for none. */
struct check {
    osr_ctx *ctx;
    uint64_t seed;
    double error;
    char text[320];
};

struct check_row {
    const char *name, *covers;
    double bound;
    const char *(*run)(struct check *c);
};

extern const struct check_row check_table[];
extern const int check_table_count;
extern const int check_table_small; /* rows before this one are in the small set, too */

/* In selftest_networks.c. */
const char *check_networks(struct check *c);

/* RMS(a - b) / RMS(b); where b is 0 RMS(a - b); infinite where a is not finite. */
double relative_error(const float *a, const double *b, size_t count);

#endif
