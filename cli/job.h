/* job.h - a model and the data it is held against, as osr eval opens them (in cmd_eval.c). */
#ifndef CLI_JOB_H
#define CLI_JOB_H

#include "evaluation.h"

struct job {
    osr_ctx *ctx;
    osr_model *model;
    struct origin origin;
    struct data data;
    struct data_set other;      /* of --unknown */
    const struct data_set *unknown; /* the set of the unknown classes: &other or &data.test */
    struct class_split split;
};

/* Opens the model of a RUN or MODEL and data (--data, else the model's own). Prints the error;
 * returns an exit code. job_close in any case. */
int job_open(struct job *j, const struct options *o, const char *run_or_model);
void job_close(struct job *j);

#endif
