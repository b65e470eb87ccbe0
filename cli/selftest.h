/* selftest.h - every op and loss of a device against reference.h, and the manners of the tape.
 *
 * An op's case: seeded inputs, the op through osr, its values against the double reference; then
 * the gradient of sum(w f(x)) by every input and parameter against central differences of the
 * reference; all of it twice, which must give the same bits. Relative error: RMS of the error over
 * RMS of the reference; where the reference is 0, RMS of the error.
 *
 * Checks of the tape ("tape ...", "errors") have no figures, only pass or fail. */
#ifndef CLI_SELFTEST_H
#define CLI_SELFTEST_H

#include <stdint.h>

#include "osr.h"

/* One case, for the report function. */
struct selftest_case {
    const char *op;
    char what[96];           /* sizes and numbers of the case                       */
    double forward, gradient; /* relative errors; negative: not measured            */
    double bound;            /* of both                                             */
    int failed;
    char message[320];       /* why it failed; "" otherwise                         */
};

struct selftest_options {
    int small;      /* non-zero: the short list of small shapes                                  */
    const char *op; /* only this op; NULL: all, and the coverage of osr_op_name is checked       */
    uint64_t seed;  /* of the inputs; must be the seed that the context was made with            */
    void (*report)(void *user, const struct selftest_case *c); /* after each case; may be NULL   */
    void *user;
};

/* All cases of one op. */
struct selftest_line {
    const char *op;
    int cases, failed;
    double forward, gradient, bound; /* worst; negative: not measured */
};

enum { SELFTEST_LINES = 96 };

struct selftest_result {
    int cases, failed;
    int rows, rows_covered; /* of osr_op_name */
    struct selftest_line lines[SELFTEST_LINES];
    int line_count;
    char first_failure[480]; /* "" when nothing failed */
};

/* 0 when everything passed, 1 otherwise, also when no case has the name options->op. */
int selftest_run(osr_ctx *ctx, const struct selftest_options *options,
                 struct selftest_result *result);

#endif
