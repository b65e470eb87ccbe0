/* segments.h - the Jacobian norm along straight lines from one image to another. */
#ifndef CLI_SEGMENTS_H
#define CLI_SEGMENTS_H

#include "analysis.h"
#include "svg.h"

/* x_t = (1 - t) a + t b, t = 0 .. 1 in equal steps: both images of one known class, of two known
 * classes, one known and one unknown. */
enum segment_kind { SEGMENT_SAME, SEGMENT_DIFFERENT, SEGMENT_UNKNOWN, SEGMENT_KINDS };

extern const char *const segment_names[SEGMENT_KINDS];

enum { SEGMENT_MOST = 64 }; /* points */

struct segment {
    uint32_t from, to; /* positions in the data sets */
    double norm[SEGMENT_MOST];
};

struct segments {
    int points;
    size_t count[SEGMENT_KINDS]; /* 0 where the images allow no pair */
    struct segment *of[SEGMENT_KINDS];
};

/* `pairs` pairs of a kind, drawn by the seed among the analysed images. Prints the error; an exit
 * code. segments_free in any case. */
int segments_compute(osr_model *model, const struct analysed *a, size_t pairs, int points,
                     uint64_t seed, struct segments *out);
void segments_free(struct segments *s);

/* Mean and standard error over the pairs of a kind, [points] each. */
void segments_mean(const struct segments *s, int kind, double *mean, double *error);

/* kind,pair,from,to,t,norm. Allocated; NULL when memory ends. */
char *segments_csv(const struct segments *s, size_t *length);
void segments_svg(const struct segments *s, const char *title, struct svg *out);

#endif
