/* bench.h - the parts of osr bench: measuring (cmd_bench.c), launches by layer, op and pass
 * (bench_rows.c), choices of algorithms (bench_tuning.c), an earlier result (bench_compare.c), what
 * is printed (bench_report.c). The start of a process is in bench_start.h. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "augment.h"
#include "bench_start.h"
#include "options.h"
#include "osr.h"

enum {
    BENCH_CHANNELS = 3, BENCH_CLASSES = 6,
    BENCH_FIGURES = 18, /* that --compare sets side by side */
    BENCH_ALWAYS = 9,   /* the first of them, which every result has */
    BENCH_SWEPT = 7     /* batches 8 to 512 */
};

/* What one op of one layer costs in one pass. */
struct bench_row {
    const char *op, *pass, *algorithm, *products;
    int layer, launches, inference;
    double seconds, flops;
    double earlier; /* of --compare: seconds, NaN where it has no such row */
    char then[32];  /* its algorithm */
};

/* All launches of a training step, or of an inference batch. */
struct bench_timed {
    double seconds, elementwise, flops; /* elementwise: seconds in rows without operations */
};

struct bench_figure {
    const char *key;
    double now, earlier; /* NaN: not measured */
};

struct bench_sweep {
    int batch;
    double train_rate, infer_rate, device_bytes, planned_bytes;
    double earlier_train, earlier_infer; /* images/s of --compare, or NaN */
};

struct bench {
    const struct options *o;
    double started; /* clock at the start of the command */
    osr_ctx *ctx;
    osr_model *model;
    const osr_network_row *network;
    float *images, *logits; /* [batch, side, side, channels], [batch, classes] */
    int32_t *labels;
    int side, batch, steps;
    double *train, *infer, *peak; /* [steps]: seconds, seconds, GFLOP/s */
    double first_step, latency;   /* seconds */
    struct bench_starts start;
    osr_augment_desc augment; /* of --augment, and what it takes of a step */
    double augment_seconds, augment_share;
    uint64_t train_launches, infer_launches, train_device_bytes;
    struct bench_timed step, inference;
    struct bench_row *row;
    size_t row_count;
    struct {
        double train_rate, infer_rate, peak; /* images/s, images/s, GFLOP/s */
        double device_bytes, planned_bytes, host_bytes, planned_host_bytes, resident_bytes;
    } result;
    struct bench_sweep sweep[BENCH_SWEPT];
    int swept;
    struct bench_figure figure[BENCH_FIGURES];
    char *earlier_text; /* the file of --compare */
    char tuning[4096]; /* file of the choices, "": none */
    int choices, in_force; /* lines of it, and those that this bench had a use for */
};

/* Measuring. What fails is left in the context. */
double bench_median(double *values, int count); /* sorts them */
double bench_train_step(struct bench *b);       /* seconds */
double bench_infer_batch(struct bench *b);
int bench_make(struct bench *b); /* model and data, in the context that is there; an exit code */
void bench_close(struct bench *b);

/* Each prints its error and returns an exit code. */

/* The rows, from some training steps and inference batches with every launch timed. */
int bench_rows(struct bench *b);

/* Opens the context and notes the file of its choices. */
int bench_tuning_open(struct bench *b);

/* Counts the lines of that file in force, warns of those that cannot be; writes --tuning-out. */
int bench_tuning_end(struct bench *b);

/* Reads the file of --compare. */
int bench_earlier_read(struct bench *b, const char *path);

/* Results compare where version, device, kernels, network, size and batch agree. */
int bench_earlier_check(const struct bench *b);

/* Finds the earlier figures for all rows and batches of the sweep. */
void bench_earlier_match(struct bench *b);

/* Keys and values of figure[]. */
void bench_figures(struct bench *b);

int bench_print(struct bench *b);

#endif
