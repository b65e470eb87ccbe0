/* reading.h - what a model says of an image, value by value and class by class, and where in the
 * image each value comes from.
 *
 *   method          values of class k           map of a value
 *   DIFAIR          its F features              the feature before pooling; its mean is the value
 *   logits, linear  its logit                   what each place adds; with the bias their sum
 *   m-OvR           its cosine                  what each place adds; the sum is the value
 *   others          logit, cosine or distance   none */
#ifndef CLI_READING_H
#define CLI_READING_H

#include "data.h"
#include "osr.h"
#include "session.h"
#include "splits.h"

struct reader {
    osr_model *model;
    const char *what;    /* "features", "logits", "cosines", "distances" */
    unsigned output;     /* its OSR_OUT_ bit */
    int classes, columns; /* values [classes, columns] */
    float *means;        /* [classes, classes, columns]: of the images of each class; or NULL */
    const char *means_from;
};

struct reading {
    float *values;         /* [classes, columns] */
    double score, threshold;
    int label, known;      /* nearest class; score <= threshold */
    int shown;             /* the class whose mean and maps are shown */
    int map_count, map_height, map_width; /* 0: no maps */
    float *maps;           /* [map_count, map_height, map_width] of class `shown` */
    double bias;           /* beside the sum of a map of a logit */
    int map_is_mean;       /* 1: a value is the mean of its map, 0: the sum and the bias */
};

void reader_start(struct reader *r, osr_model *model);
void reader_end(struct reader *r);

/* Class means from anchors that were calibrated, where the model has them; 1 when it has. */
int reader_stored_means(struct reader *r);

/* Class means from at most `limit` images of a set. A class without images gets NaN. Prints the
 * error; an exit code. */
int reader_means(struct reader *r, const struct data_set *set, const struct class_split *split,
                 size_t limit, int batch);

/* One image [H, W, C] in 0..1. shown: a class, or -1 for the nearest. Prints the error; an exit
 * code. reading_free in any case. */
int reading_take(struct reader *r, const float *image, int shown, struct reading *out);
void reading_free(struct reading *out);

#endif
