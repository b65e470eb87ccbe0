/* train.h - one training run, for osr train and for the cells of osr protocol. */
#ifndef CLI_TRAIN_H
#define CLI_TRAIN_H

#include "evaluation.h"
#include "options.h"

/* Who runs a training that is not a command of its own. */
struct train_caller {
    void *user;
    int (*results)(void *user, const struct results *r); /* instead of the table; an exit code */
};

/* Trains, calibrates and evaluates as the options of COMMAND_TRAIN say; o ends with the effective
 * settings. caller: NULL for the command itself. Prints the error. An exit code. */
int train_run(struct options *o, const struct train_caller *caller);

/* What can be said about the settings without data: recipe, method, network, score, augmentation.
 * Prints the error. An exit code. */
int train_check(struct options *o);

#endif
