/* bench_start.h - the start of the program, measured from outside: a child process each. */
#ifndef CLI_BENCH_START_H
#define CLI_BENCH_START_H

#include "options.h"

enum { BENCH_COLD = 3, BENCH_WARM = 5 }; /* starts at most */

/* Seconds from the start of a process to the end of its first training step: medians of starts with
 * caches of compiled kernels empty (cold), and of ones with what the last of those left in them
 * (warm). */
struct bench_starts {
    double cold, warm; /* NaN: not measured */
    int colds, warms;  /* starts */
};

/* Fills in *s, of up to `most` starts of each kind. The child is this program with the same device,
 * kernels, network, seed and batch, with the choices in the file `tuning` unless that is "", and
 * its caches in a directory that is made for it and removed. Prints the error. An exit code. */
int bench_start(const struct options *o, const char *tuning, int most, struct bench_starts *s);

#endif
