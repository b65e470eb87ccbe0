/* reference.c - see reference.h */
#include "reference.h"

#include <math.h>

#include "philox.h"

void ref_map(enum ref_map op, const double *a, const double *b, double *y, size_t count,
             double scale, double shift)
{
    for (size_t i = 0; i < count; i++)
        switch (op) {
        case REF_ADD: y[i] = a[i] + b[i]; break;
        case REF_SUB: y[i] = a[i] - b[i]; break;
        case REF_MUL: y[i] = a[i] * b[i]; break;
        case REF_DIV: y[i] = a[i] / b[i]; break;
        case REF_AFFINE: y[i] = scale * a[i] + shift; break;
        case REF_EXP: y[i] = exp(a[i]); break;
        case REF_LOG: y[i] = log(a[i]); break;
        case REF_SQRT: y[i] = sqrt(a[i]); break;
        }
}

double ref_sum(const double *x, size_t count)
{
    double s = 0.0;
    for (size_t i = 0; i < count; i++)
        s += x[i];
    return s;
}

void ref_row_sum(const double *x, double *y, int n, int k)
{
    for (int i = 0; i < n; i++)
        y[i] = ref_sum(x + (size_t)i * (size_t)k, (size_t)k);
}

void ref_pick(const double *x, const int32_t *labels, double *y, int n, int k)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i * k + labels[i]];
}

double ref_count_correct(const double *x, const int32_t *labels, int n, int k, int sign)
{
    double count = 0.0;
    for (int i = 0; i < n; i++) {
        int best = 0;
        for (int j = 1; j < k; j++)
            if (sign * x[i * k + j] > sign * x[i * k + best])
                best = j;
        count += best == labels[i];
    }
    return count;
}

void ref_matmul(const double *a, const double *b, double *y, int m, int n, int k, int transpose_a,
                int transpose_b)
{
    for (int r = 0; r < m; r++)
        for (int c = 0; c < n; c++) {
            double s = 0.0;
            for (int i = 0; i < k; i++)
                s += (transpose_a ? a[i * m + r] : a[r * k + i])
                     * (transpose_b ? b[c * k + i] : b[i * n + c]);
            y[r * n + c] = s;
        }
}

void ref_linear(const double *x, const double *w, const double *b, double *y, int n, int in,
                int out)
{
    for (int r = 0; r < n; r++)
        for (int o = 0; o < out; o++) {
            double s = b ? b[o] : 0.0;
            for (int i = 0; i < in; i++)
                s += x[r * in + i] * w[o * in + i];
            y[r * out + o] = s;
        }
}

void ref_bias(const double *x, const double *b, double *y, size_t rows, int channels)
{
    for (size_t r = 0; r < rows; r++)
        for (int c = 0; c < channels; c++) {
            size_t i = r * (size_t)channels + (size_t)c;
            y[i] = x[i] + b[c];
        }
}

int ref_conv_size(int size, int kernel, const struct ref_conv *c)
{
    return (size + c->pad + c->pad_end - kernel) / c->stride + 1;
}

/* One output value: the sum over the taps that lie inside the image. */
static double conv_point(const double *x, const double *w, const struct ref_conv *c, int row,
                         int col)
{
    double s = 0.0;
    for (int kh = 0; kh < c->kh; kh++)
        for (int kw = 0; kw < c->kw; kw++) {
            int r = c->stride * row + kh - c->pad, q = c->stride * col + kw - c->pad;
            if (r < 0 || r >= c->h || q < 0 || q >= c->w)
                continue;
            for (int i = 0; i < c->in; i++)
                s += x[(r * c->w + q) * c->in + i] * w[(i * c->kh + kh) * c->kw + kw];
        }
    return s;
}

void ref_conv2d(const double *x, const double *w, double *y, const struct ref_conv *c)
{
    int rows = ref_conv_size(c->h, c->kh, c), cols = ref_conv_size(c->w, c->kw, c);
    for (int n = 0; n < c->n; n++)
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < cols; q++)
                for (int o = 0; o < c->out; o++)
                    *y++ = conv_point(x + (size_t)n * (size_t)(c->h * c->w * c->in),
                                      w + (size_t)o * (size_t)(c->in * c->kh * c->kw), c, r, q);
}

void ref_batchnorm(const double *x, const double *gamma, const double *beta, double *mean,
                   double *var, double *y, const struct ref_batchnorm *b)
{
    size_t channels = (size_t)b->channels;
    double count = (double)b->pixels;
    for (size_t c = 0; c < channels; c++) {
        double m = mean[c], v = var[c];
        if (b->train) {
            double squares = 0.0;
            m = 0.0;
            for (size_t i = 0; i < b->pixels; i++)
                m += x[i * channels + c] / count;
            for (size_t i = 0; i < b->pixels; i++)
                squares += (x[i * channels + c] - m) * (x[i * channels + c] - m);
            v = squares / count;
            mean[c] = (1.0 - b->momentum) * mean[c] + b->momentum * m;
            var[c] = (1.0 - b->momentum) * var[c]
                     + b->momentum * (count > 1.0 ? squares / (count - 1.0) : 0.0);
        }
        for (size_t i = 0; i < b->pixels; i++)
            y[i * channels + c] = gamma[c] * (x[i * channels + c] - m) / sqrt(v + b->eps) + beta[c];
    }
}

void ref_leaky_relu(const double *x, double *y, size_t count, double slope)
{
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] > 0.0 ? x[i] : slope * x[i];
}

/* In float, as the device compares: uniform in (0, 1) from the upper 24 bits of a word. */
static float unit_float(uint32_t word)
{
    return ((float)(word >> 8) + 0.5f) * (1.0f / 16777216.0f);
}

/* 0 or 1 / (1 - rate) for channel c of a pixel of image n. */
static double drop_factor(const struct ref_dropout *d, int n, int pixel, int c)
{
    uint32_t counter[4] = {0, 0, d->ordinal, d->step}, word[4];
    int lane = 0;
    if (d->pixels == 0) {
        counter[0] = (uint32_t)(n * d->channels + c);
    } else {
        uint32_t place = d->whole_channels ? 0 : (uint32_t)pixel + 1;
        lane = c % 8;
        counter[0] = (uint32_t)(n * ((d->channels + 7) / 8) + c / 8);
        counter[1] = place * 2 + (uint32_t)lane / 4;
    }
    philox4x32(counter, d->seed, word);
    return unit_float(word[lane % 4]) >= d->rate ? 1.0 / (1.0 - (double)d->rate) : 0.0;
}

void ref_dropout(const double *x, double *y, const struct ref_dropout *d)
{
    int pixels = d->pixels ? d->pixels : 1;
    for (int n = 0; n < d->n; n++)
        for (int p = 0; p < pixels; p++)
            for (int c = 0; c < d->channels; c++) {
                int i = (n * pixels + p) * d->channels + c;
                y[i] = d->rate > 0.0f ? x[i] * drop_factor(d, n, p, c) : x[i];
            }
}

void ref_pool(const double *x, double *y, const struct ref_pool *p)
{
    int rows = (p->h - p->size) / p->stride + 1, cols = (p->w - p->size) / p->stride + 1;
    for (int n = 0; n < p->n; n++)
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < cols; q++)
                for (int c = 0; c < p->c; c++) {
                    double largest = -INFINITY, sum = 0.0;
                    for (int i = 0; i < p->size; i++)
                        for (int j = 0; j < p->size; j++) {
                            int row = n * p->h + r * p->stride + i, col = q * p->stride + j;
                            double v = x[(row * p->w + col) * p->c + c];
                            largest = fmax(largest, v);
                            sum += v;
                        }
                    *y++ = p->average ? sum / (p->size * p->size) : largest;
                }
}

void ref_global_avg_pool(const double *x, double *y, int n, int pixels, int channels)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < channels; c++) {
            double s = 0.0;
            for (int p = 0; p < pixels; p++)
                s += x[(i * pixels + p) * channels + c];
            y[i * channels + c] = s / pixels;
        }
}

void ref_flatten(const double *x, double *y, int n, int pixels, int channels)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < channels; c++)
            for (int p = 0; p < pixels; p++)
                y[(i * channels + c) * pixels + p] = x[(i * pixels + p) * channels + c];
}

/* ln sum exp(sign x) of one row. */
static double row_logsumexp(const double *x, int k, double sign)
{
    double largest = -INFINITY, s = 0.0;
    for (int j = 0; j < k; j++)
        largest = fmax(largest, sign * x[j]);
    for (int j = 0; j < k; j++)
        s += exp(sign * x[j] - largest);
    return largest + log(s);
}

void ref_softmax(const double *x, double *y, int n, int k)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++)
            y[i * k + j] = exp(x[i * k + j] - row_logsumexp(x + i * k, k, 1.0));
}

void ref_logsumexp(const double *x, double *y, int n, int k)
{
    for (int i = 0; i < n; i++)
        y[i] = row_logsumexp(x + i * k, k, 1.0);
}

void ref_normalise(const double *x, double *y, int n, int d)
{
    for (int i = 0; i < n; i++) {
        double s = 0.0;
        for (int j = 0; j < d; j++)
            s += x[i * d + j] * x[i * d + j];
        for (int j = 0; j < d; j++)
            y[i * d + j] = x[i * d + j] / fmax(sqrt(s), 1e-12);
    }
}

void ref_squared_distance(const double *z, const double *points, double *y, int n, int k, int d,
                          double scale)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            double s = 0.0;
            for (int e = 0; e < d; e++)
                s += (z[i * d + e] - points[j * d + e]) * (z[i * d + e] - points[j * d + e]);
            y[i * k + j] = scale * s;
        }
}

void ref_anchor_distance(const double *z, const double *anchors, double *y, int n, int k, int d)
{
    ref_squared_distance(z, anchors, y, n, k, d, 1.0);
    for (int i = 0; i < n * k; i++)
        y[i] = sqrt(y[i]);
}

double ref_cross_entropy(const double *x, const int32_t *labels, int n, int k, double smoothing)
{
    double loss = 0.0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            double target = j == labels[i] ? 1.0 - smoothing : smoothing / (k - 1);
            loss -= target * (x[i * k + j] - row_logsumexp(x + i * k, k, 1.0));
        }
    return loss / n;
}

double ref_cac(const double *d, const int32_t *labels, int n, int k, double lambda)
{
    double loss = 0.0;
    for (int i = 0; i < n; i++) {
        double own = d[i * k + labels[i]];
        loss += own + row_logsumexp(d + i * k, k, -1.0) + lambda * own;
    }
    return loss / n;
}

double ref_difair(const double *d, const int32_t *labels, int n, int k, double radius, double pull)
{
    double loss = 0.0;
    for (int i = 0; i < n; i++) {
        double own = d[i * k + labels[i]];
        loss += pull * own + fmax(own - radius, 0.0);
    }
    return loss / n;
}

double ref_movr(const double *c, const int32_t *labels, int n, int k, double temperature,
                double margin)
{
    double loss = 0.0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            double cosine = fmin(fmax(c[i * k + j], -1.0 + 1e-6), 1.0 - 1e-6);
            double logit = temperature * cos(acos(cosine) + margin);
            double softplus = fmax(logit, 0.0) + log1p(exp(-fabs(logit)));
            loss += softplus - (j == labels[i] ? logit : 0.0);
        }
    return loss / n;
}

double ref_ovr(const double *z, const int32_t *labels, int n, int k)
{
    double loss = 0.0;
    for (int i = 0; i < n * k; i++) {
        double v = i % k == labels[i / k] ? -z[i] : z[i];
        loss += fmax(v, 0.0) + log1p(exp(-fabs(v)));
    }
    return loss / n;
}

double ref_points(const double *x, const double *points, const double *z, const int32_t *labels,
                  const struct ref_points *p)
{
    double loss = 0.0, row[256], gap;
    for (int i = 0; i < p->n; i++) {
        const double *xi = x + i * p->d, *own = points + labels[i] * p->d;
        double distance = 0.0;
        for (int j = 0; j < p->k; j++) {
            const double *pj = points + j * p->d;
            double square = 0.0, dot = 0.0;
            for (int e = 0; e < p->d; e++) {
                square += (xi[e] - pj[e]) * (xi[e] - pj[e]) / p->d;
                dot += xi[e] * pj[e];
            }
            row[j] = p->kind == REF_GCPL ? -square
                     : p->kind == REF_RPL ? square
                                          : square - dot;
        }
        for (int e = 0; e < p->d; e++)
            distance += (xi[e] - own[e]) * (xi[e] - own[e]) / (p->kind == REF_CENTER ? 1 : p->d);
        gap = distance - p->radius;
        loss += ref_cross_entropy(z != NULL ? z + i * p->k : row, labels + i, 1, p->k,
                                  p->smoothing);
        loss += p->lambda
                * (p->kind < REF_RPL ? 0.5 * distance
                   : p->kind == REF_RPL ? gap * gap
                                        : fmax(gap + 1.0, 0.0));
    }
    return loss / p->n;
}

/* Correlation of two filters, population statistics; a standard deviation of 0 counts as 1. */
static double correlation(const double *a, const double *b, int m)
{
    double mean_a = ref_sum(a, (size_t)m) / m, mean_b = ref_sum(b, (size_t)m) / m;
    double aa = 0.0, bb = 0.0, ab = 0.0;
    for (int i = 0; i < m; i++) {
        aa += (a[i] - mean_a) * (a[i] - mean_a);
        bb += (b[i] - mean_b) * (b[i] - mean_b);
        ab += (a[i] - mean_a) * (b[i] - mean_b);
    }
    return ab / m / ((aa > 0.0 ? sqrt(aa / m) : 1.0) * (bb > 0.0 ? sqrt(bb / m) : 1.0));
}

double ref_correlation(const double *w, int filters, int m, int features, int paper)
{
    int classes = filters / features;
    double sum = 0.0;
    for (int k = 0; k < classes; k++)
        for (int p = 0; p < features; p++)
            for (int q = p + 1; q < features; q++) {
                double rho = correlation(w + (k * features + p) * m, w + (k * features + q) * m, m);
                sum += paper ? rho : fabs(rho);
            }
    if (!paper)
        return sum / (features * features);
    return features > 1 ? 2.0 * sum / (features * (features - 1) * classes) : 0.0;
}

void ref_sgd(double *w, const double *g, double *v, size_t count, const struct ref_optimiser *o)
{
    for (size_t i = 0; i < count; i++) {
        double gradient = g[i] + (o->decoupled ? 0.0 : o->decay * w[i]);
        if (o->decoupled)
            w[i] -= o->lr * o->decay * w[i];
        v[i] = o->momentum * v[i] + gradient;
        w[i] -= o->lr * v[i];
    }
}

void ref_adam(double *w, const double *g, double *m, double *v, size_t count,
              const struct ref_optimiser *o)
{
    for (size_t i = 0; i < count; i++) {
        double gradient = g[i] + (o->decoupled ? 0.0 : o->decay * w[i]);
        if (o->decoupled)
            w[i] -= o->lr * o->decay * w[i];
        m[i] = o->beta1 * m[i] + (1.0 - o->beta1) * gradient;
        v[i] = o->beta2 * v[i] + (1.0 - o->beta2) * gradient * gradient;
        w[i] -= o->lr * (m[i] / (1.0 - pow(o->beta1, o->step)))
                / (sqrt(v[i] / (1.0 - pow(o->beta2, o->step))) + o->eps);
    }
}

/* Entry e of direction j of image n: unit vectors, normal (Box-Muller) or +-1. */
static double direction(const struct ref_perturb *p, int kind, int draw, int e, int j, int n)
{
    uint32_t counter[4] = {(uint32_t)e, (uint32_t)j, 0x6a61636fu + (uint32_t)draw,
                           p->own ? (uint32_t)(p->own + n) : 0}, word[4];
    if (kind == 0)
        return e == j ? 1.0 : 0.0;
    philox4x32(counter, p->seed, word);
    if (kind == 2)
        return word[0] & 1u ? 1.0 : -1.0;
    return sqrt(-2.0 * log((double)unit_float(word[0])))
           * cos(2.0 * 3.14159265358979323846 * (double)unit_float(word[1]));
}

void ref_perturb(const double *x, double *y, const struct ref_perturb *p)
{
    for (int n = 0; n < p->n; n++)
        for (int j = 0; j < p->count; j++)
            for (int e = 0; e < p->size; e++) {
                int at = (n * p->count + j) * 2 * p->size + e;
                double move = p->step * direction(p, p->kind, 0, e, p->first + j, n);
                double near = x[n * p->size + e]
                              + p->jitter * direction(p, 2, p->draw, e, p->first + j, n);
                y[at] = near + move;
                y[at + p->size] = near - move;
            }
}

void ref_difference_norm(const double *f, const double *g, double *s, int n, int count, int d,
                         double scale)
{
    for (int i = 0; i < n; i++) {
        s[i] = 0.0;
        for (int j = 0; j < count; j++)
            for (int e = 0; e < d; e++) {
                int at = (i * count + j) * 2 * d + e;
                s[i] += scale * (f[at] - f[at + d]) * (g[at] - g[at + d]);
            }
    }
}

void ref_square_sum(const double *x, double *s, int n, int size)
{
    for (int i = 0; i < n; i++) {
        s[i] = 0.0;
        for (int e = 0; e < size; e++)
            s[i] += x[i * size + e] * x[i * size + e];
    }
}
