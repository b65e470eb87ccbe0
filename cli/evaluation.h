/* evaluation.h - a model against the images of a data set: outputs, scores, metrics, their table
 * and their files. */
#ifndef CLI_EVALUATION_H
#define CLI_EVALUATION_H

#include "bootstrap.h"
#include "confusion.h"
#include "data.h"
#include "osr.h"
#include "session.h"
#include "splits.h"

/* Images on their way into a model: resized to its input, in 0..1. */
struct feed {
    osr_model *model;
    const struct data_set *set;
    struct fetch fetch;
    float *images;   /* [batch, H, W, C] */
    int32_t *labels; /* [batch] */
    int batch;
};

/* Each prints its error and returns an exit code. */
int feed_start(struct feed *f, osr_model *model, const struct data_set *set, int batch);
void feed_end(struct feed *f);

/* Fills f->images and f->labels with the images index[0..n), n <= batch, of a subset. */
void feed_load(struct feed *f, const struct subset *s, const uint32_t *order, size_t first, int n);

/* The classes of a data set that a model knows, by name; the others are unknown. EXIT_DATA when it
 * knows none of them. */
int split_of_model(const osr_model *model, const struct data_set *set, struct class_split *out);

/* Outputs of the model for every image of a subset; what `needs` (OSR_OUT_ bits) and the method's
 * rule read. */
struct outputs {
    osr_outputs values;
    size_t count;
    int classes, dims, feature_dims;
    double loss; /* mean over images; NaN for unknown ones */
};

int outputs_compute(osr_model *model, const struct data_set *set, const struct subset *s, int batch,
                    unsigned needs, const char *what, struct outputs *out);
void outputs_free(struct outputs *out);

/* Score of every image under one row, and its known class. Both arrays may be NULL. */
int outputs_score(osr_model *model, const struct outputs *o, const osr_score_row *row,
                  double *scores, int32_t *classes);

/* Share of images whose known class is their label. */
double accuracy_of(const int32_t *classes, const struct subset *s);

/* Calibrates the model (OSR_CALIBRATE_ bits) with a subset of known images. empty: out, as
 * osr_model_calibrate_end. An exit code. */
int model_calibrate(osr_model *model, const struct data_set *set, const struct subset *known,
                    int batch, unsigned what, int *empty);

/* The threshold of `row` that accepts `share` of a subset of known images, put into the model. */
int threshold_choose(osr_model *model, const struct data_set *set, const struct subset *known,
                     int batch, const osr_score_row *row, double share);

/* One row of results: a score on a test set. */
struct result {
    osr_open_metrics metrics;
    double macro_f1; /* over K + 1 classes at the model's threshold; NaN for other scores */
    struct interval interval[BOOT_COUNT]; /* 95%; of the AUROC by DeLong's error */
    const osr_score_row *row;
    size_t known, unknown;
};

enum { RESULT_MOST = 32 };

struct results {
    struct result row[RESULT_MOST];
    int count;
    const osr_model *model;
    struct origin origin;
    char device[512];
    int resamples; /* of the intervals; 0: there are none but the AUROC's */
    uint64_t seed;
    int balanced; /* as many known as unknown images, drawn */
    const struct data_set *other; /* the images of unknown classes */
    struct confusion confusion;   /* of the model's own score; 0 classes where it is not in row */
    /* for scores.csv */
    struct subset known_images, unknown_images;
    double *scores[RESULT_MOST]; /* [known + unknown] */
    int32_t *classes;            /* [known + unknown] */
};

/* Scores the images of the known classes of `test` and of the unknown ones of `other` (which may
 * be the same set, and has to outlive r) under `row`, or under every score that the model has
 * (NULL), those that take several passes an image only with `slow`. balance: the seed by which the
 * larger of both sets is cut to the size of the smaller, -1: both as they are. */
int results_compute(osr_model *model, const struct data_set *test, const struct data_set *other,
                    const struct class_split *split, int batch, const osr_score_row *row, int slow,
                    int64_t balance, const struct origin *origin, struct results *r);
void results_free(struct results *r);

/* The intervals, from so many resamples (0: none but the AUROC's). An exit code. */
int results_intervals(struct results *r, int resamples, uint64_t seed);

/* An object, or with `array` an array of them: the keys of osr eval --json. "intervals" has the
 * level, resamples (null without), the seed of the resampling and [low, high] for each figure's
 * key, auroc's by DeLong's error; "confusion" (confusion.h) is there for the model's own score at
 * its threshold, else null. Allocated text. */
char *results_json(const struct results *r, int array);

/* On stdout: the figures; their intervals; what accepted unknown images were taken for. */
int results_table(const struct results *r);
int results_table_intervals(const struct results *r);
int results_table_confusion(const struct results *r);

/* index,label,prediction,known,<every score>: one line a test image, numbered as in its set.
 * Allocated text. */
char *results_csv(const struct results *r);

#endif
