/* analysis.h - what a network's function does to known and unknown images: norms of its Jacobian,
 * and how far apart it puts the known classes. */
#ifndef CLI_ANALYSIS_H
#define CLI_ANALYSIS_H

#include "evaluation.h"
#include "moments.h"

/* `limit` images of a subset, one drawn from each of as many equal stretches: sorted sets give
 * every class, and so do those that take their classes in turn. The same ones each time; 0 or more
 * than there are: all. EXIT_OK or EXIT_MEMORY. */
int subset_spread(const struct subset *s, size_t limit, struct subset *out);

/* How far the classes of n images lie apart. NaN with fewer than two classes.
 *
 *   mean_k         mean of the images of class k
 *   S_k            mean distance of its images from mean_k
 *   intra          mean over images of the distance from the own class's mean
 *   inter          mean distance over all pairs of images of different classes: the paper's
 *                  D(f(x), f(x')), y != y'
 *   davies_bouldin mean over k of max_{j != k} (S_k + S_j) / ||mean_k - mean_j||; infinite where
 *                  two means coincide
 *   source         Davies and Bouldin, IEEE TPAMI 1(2), 1979, with p = 2, q = 1; Park et al.,
 *                  arXiv:2209.11436, sections 3 and 5 */
struct separation {
    double intra, inter, davies_bouldin;
    int classes; /* that have images */
};

/* f [n, dims], label [n] in 0 .. classes - 1. EXIT_OK or EXIT_MEMORY. */
int separation_compute(const float *f, const int32_t *label, size_t n, int dims, int classes,
                       struct separation *out);

/* The images that are analysed, and how. */
struct analysed {
    const struct data_set *known_set, *unknown_set;
    struct subset known, unknown;
    osr_jacobian_desc jacobian;
    int batch;
};

/* Takes `limit` test images each (0: all) of the known classes of one set and the unknown ones of
 * another. Prints the error: EXIT_DATA where there are none of either. */
int analysed_choose(struct analysed *a, const struct data_set *known,
                    const struct data_set *unknown, const struct class_split *split, size_t limit);
void analysed_free(struct analysed *a);

/* Jacobian norms of the images of a subset. Prints the error; an exit code. used may be NULL. */
int norms_compute(osr_model *model, const struct data_set *set, const struct subset *s,
                  const osr_jacobian_desc *d, double *norms, osr_jacobian_method *used);

/* Everything of a moment but step and epoch. known, unknown: norms of the images, computed here
 * (have_norms zero) or given. Prints the error; an exit code. */
int moment_compute(osr_model *model, const struct analysed *a, double *known, double *unknown,
                   int have_norms, struct moment *m);

double mean_of(const double *v, size_t n);
double deviation_of(const double *v, size_t n); /* standard deviation, divisor n - 1 */

#endif
