/* reference.h - every op and loss of osr.h once more, in double precision and plain loops.
 *
 * The formulas are those of the documentation blocks in osr.h. Images are [N, H, W, C], matrices
 * row-major, weights [out, in, kh, kw] or [out, in]. An output may not overlap an input. */
#ifndef CLI_REFERENCE_H
#define CLI_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

/* Element by element. affine: scale * a + shift; the unary ones do not read b. */
enum ref_map { REF_ADD, REF_SUB, REF_MUL, REF_DIV, REF_AFFINE, REF_EXP, REF_LOG, REF_SQRT };
void ref_map(enum ref_map op, const double *a, const double *b, double *y, size_t count,
             double scale, double shift);

/* Sums. x [n, k] */
double ref_sum(const double *x, size_t count);
void ref_row_sum(const double *x, double *y, int n, int k);
void ref_pick(const double *x, const int32_t *labels, double *y, int n, int k);
double ref_count_correct(const double *x, const int32_t *labels, int n, int k, int sign);

/* y [m, n] = op(a) op(b) over k; a [m, k] or [k, m], b [k, n] or [n, k]. */
void ref_matmul(const double *a, const double *b, double *y, int m, int n, int k, int transpose_a,
                int transpose_b);
/* y [n, out] = x [n, in] w' + b; b may be NULL. */
void ref_linear(const double *x, const double *w, const double *b, double *y, int n, int in,
                int out);
void ref_bias(const double *x, const double *b, double *y, size_t rows, int channels);

/* Sizes of a convolution; pad above and left, pad_end below and right. */
struct ref_conv {
    int n, h, w, in, out, kh, kw, stride, pad, pad_end;
};
int ref_conv_size(int size, int kernel, const struct ref_conv *c); /* rows or columns out */
void ref_conv2d(const double *x, const double *w, double *y, const struct ref_conv *c);

/* x [pixels, channels], pixels = N H W. With train, mean and var are updated. */
struct ref_batchnorm {
    size_t pixels;
    int channels, train;
    double eps, momentum;
};
void ref_batchnorm(const double *x, const double *gamma, const double *beta, double *mean,
                   double *var, double *y, const struct ref_batchnorm *b);

void ref_leaky_relu(const double *x, double *y, size_t count, double slope);

/* Masks as kernels/norm.cl draws them: for images a counter for each 8 channels of a plane and
 * pixel (or of a plane), for matrices (pixels 0) a counter for each element. */
struct ref_dropout {
    int n, pixels, channels; /* pixels = H W of an image, 0: a matrix [n, channels] */
    int whole_channels;
    float rate;
    uint64_t seed;
    uint32_t ordinal, step; /* of the dropout in its step; of the step */
};
void ref_dropout(const double *x, double *y, const struct ref_dropout *d);

/* Windows of size x size. */
struct ref_pool {
    int n, h, w, c, size, stride, average;
};
void ref_pool(const double *x, double *y, const struct ref_pool *p);
void ref_global_avg_pool(const double *x, double *y, int n, int pixels, int channels);
void ref_flatten(const double *x, double *y, int n, int pixels, int channels);

void ref_softmax(const double *x, double *y, int n, int k);
void ref_logsumexp(const double *x, double *y, int n, int k);
void ref_normalise(const double *x, double *y, int n, int d);
/* y [n, k] from z [n, d] and anchors [k, d]. */
void ref_anchor_distance(const double *z, const double *anchors, double *y, int n, int k, int d);
void ref_squared_distance(const double *z, const double *points, double *y, int n, int k, int d,
                          double scale);

/* Losses: means over n rows of k values. */
double ref_cross_entropy(const double *x, const int32_t *labels, int n, int k, double smoothing);
double ref_cac(const double *d, const int32_t *labels, int n, int k, double lambda);
double ref_difair(const double *d, const int32_t *labels, int n, int k, double radius,
                  double pull);
double ref_movr(const double *c, const int32_t *labels, int n, int k, double temperature,
                double margin);
double ref_ovr(const double *z, const int32_t *labels, int n, int k);

/* The whole loss of x [n, d] with learned points [k, d]: the cross-entropy of z [n, k] and lambda
 * times the second term. z NULL: as the kind makes it; the centre loss needs it. k <= 256. */
enum ref_kind { REF_CENTER, REF_GCPL, REF_RPL, REF_ARPL };
struct ref_points {
    enum ref_kind kind;
    int n, k, d;
    double lambda, smoothing, radius;
};
double ref_points(const double *x, const double *points, const double *z, const int32_t *labels,
                  const struct ref_points *p);
/* w [filters, m], filters = classes * features. paper: the paper's reading, else the code's. */
double ref_correlation(const double *w, int filters, int m, int features, int paper);

/* One update of count parameters; v, m are the optimiser's moments. */
struct ref_optimiser {
    double lr, momentum, decay, beta1, beta2, eps;
    int decoupled, step;
};
void ref_sgd(double *w, const double *g, double *v, size_t count, const struct ref_optimiser *o);
void ref_adam(double *w, const double *g, double *m, double *v, size_t count,
              const struct ref_optimiser *o);

/* y [2 n count, size] from x [n, size]; kind as enum osr_direction. */
struct ref_perturb {
    int n, size, kind, own, first, count;
    double step, jitter;
    int draw;
    uint64_t seed;
};
void ref_perturb(const double *x, double *y, const struct ref_perturb *p);
/* s [n] from f [2 n count, d] */
void ref_difference_norm(const double *f, const double *g, double *s, int n, int count, int d,
                         double scale);
void ref_square_sum(const double *x, double *s, int n, int size);

#endif
