/* bench_start.h - the start of the program, measured from outside: a child process each. */
#ifndef CLI_BENCH_START_H
#define CLI_BENCH_START_H

#include "options.h"

/* Seconds from the start of a process to the end of its first training step, with caches of
 * compiled kernels empty (cold) and again with what that run left in them (warm). The child is this
 * program with the same device, kernels, algorithm, seed and batch, and its caches in a directory
 * that is made for it and removed. Call before anything uses OpenCL. Prints the error. An exit
 * code. */
int bench_start(const struct options *o, double *cold, double *warm);

#endif
