/* schedule.h - the learning rate of every step: the library's schedules, those of two published
 * programs that go by whole epochs, and a second stage. */
#ifndef CLI_SCHEDULE_H
#define CLI_SCHEDULE_H

#include <stdint.h>

#include "options.h"
#include "osr.h"

enum schedule_kind { /* in the order of --schedule; the first three as osr_schedule_kind */
    SCHEDULE_CONSTANT, SCHEDULE_STEP, SCHEDULE_COSINE, SCHEDULE_VAZE, SCHEDULE_DIFAIR
};

struct schedule {
    enum schedule_kind kind;
    osr_schedule steps;                 /* of the library */
    uint64_t batches;                   /* of an epoch */
    uint64_t total, epochs;             /* steps and epochs of the run, the last may be cut short */
    uint64_t second;                    /* first epoch of the second stage; 0: there is none */
    uint64_t cycle, warmup;             /* VAZE, DIFAIR: epochs */
    double lr, lr_min, second_lr;
};

/* From --schedule and what belongs to it, --epochs or --iterations, --second-stage; batches: of an
 * epoch. */
void schedule_plan(struct schedule *s, const struct options *o, uint64_t batches);

/* VAZE and DIFAIR, e the epoch from 0, T the epochs of a cycle, W those of the warm-up, m lr_min:
 *
 *   t(u)    m + (lr - m) (1 + cos(pi u)) / 2
 *   e = 0   m
 *   e <= W  m + e (t(W / T) - m) / W
 *   after   t(((e - 1) mod T) / T);  DIFAIR: lr ((1 - m) (1 + cos(pi u)) / 2 + m)
 *
 * utils/schedulers.py of sgvaze/osr_closed_set_all_you_need and of qchristoffel/DIFAIR, where m is
 * an absolute rate in the warm-up and a share of lr afterwards. */
double schedule_rate(const struct schedule *s, uint64_t step);

/* The first step of the stage that a step belongs to. */
uint64_t schedule_stage(const struct schedule *s, uint64_t step);

/* Steps of an epoch: fewer in the last one where --iterations ends it. */
uint64_t schedule_batches(const struct schedule *s, uint64_t epoch);

#endif
