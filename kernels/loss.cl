/* loss.cl - losses of rows with their gradients
 *
 * A loss kernel writes one value a row into rows; sum_all makes their mean. Its gradient, dense
 * [N][K], it makes beside, where `parts` asks for it: LOSS_ONLY; LOSS_AND_SLOPE, the loss and
 * dx = scale dL/dx; LOSS_AND_CHAIN, the same times dloss, a scalar on the device. One group of LS
 * items a row. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

#define LOSS_ONLY 0
#define LOSS_AND_SLOPE 1
#define LOSS_AND_CHAIN 2

static inline float slope_scale(__global const float *dloss, int dloff, float scale, int parts)
{
    return parts == LOSS_AND_CHAIN ? scale * dloss[dloff] : scale;
}

/* Target of class k: 1 - s for the label, s / (K - 1) otherwise. */
static inline float smooth_target(int k, int label, int K, float s)
{
    return k == label ? 1.0f - s : K > 1 ? s / (float)(K - 1) : 0.0f;
}

/* Largest of row x (times sign, plus shift) and sum of exp(value - largest). */
static inline float2 signed_max_sum(__global const float *x, int K, float sign, __local float *tmp)
{
    float m = -INFINITY, s = 0.0f;
    FOR_ROW(k, K)
    m = fmax(m, sign * x[k]);
    m = group_max(m, tmp);
    FOR_ROW(k, K)
    s += exp(sign * x[k] - m);
    return (float2)(m, group_sum(s, tmp));
}

OSR_KERNEL loss_cross_entropy(__global const float *x, int xoff, __global const int *labels,
                              __global float *rows, __global float *dx, int dxoff,
                              __global const float *dloss, int dloff, int K, float smoothing,
                              float scale, int parts)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0), at = n * K;
    const float2 ms = signed_max_sum(x + xoff + at, K, 1.0f, tmp);
    const float f = slope_scale(dloss, dloff, scale, parts);
    float s = 0.0f;
    FOR_ROW(k, K)
    {
        const float v = x[xoff + at + k] - ms.x, t = smooth_target(k, labels[n], K, smoothing);
        s -= t * (v - log(ms.y));
        if (parts != LOSS_ONLY)
            dx[dxoff + at + k] = f * (exp(v) / ms.y - t);
    }
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        rows[n] = s;
}

/* ln(1 + sum_{k != y} exp(d_y - d_k)) = d_y + ln sum_k exp(-d_k) */
OSR_KERNEL loss_cac(__global const float *d, int doff, __global const int *labels,
                    __global float *rows, __global float *dx, int dxoff,
                    __global const float *dloss, int dloff, int K, float lambda, float scale,
                    int parts)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0), at = n * K;
    const float2 ms = signed_max_sum(d + doff + at, K, -1.0f, tmp);
    const float dy = d[doff + at + labels[n]], f = slope_scale(dloss, dloff, scale, parts);
    if (parts != LOSS_ONLY)
        FOR_ROW(k, K)
        dx[dxoff + at + k] = f * ((k == labels[n] ? 1.0f + lambda : 0.0f)
                                  - exp(-d[doff + at + k] - ms.x) / ms.y);
    if (get_local_id(0) == 0)
        rows[n] = (dy + ms.x) + log(ms.y) + lambda * dy;
}

OSR_KERNEL loss_difair(__global const float *d, int doff, __global const int *labels,
                       __global float *rows, __global float *dx, int dxoff,
                       __global const float *dloss, int dloff, int K, float radius, float pull,
                       float scale, int parts)
{
    const size_t n = get_group_id(0), at = n * K;
    const float dy = d[doff + at + labels[n]], f = slope_scale(dloss, dloff, scale, parts);
    if (parts != LOSS_ONLY)
        FOR_ROW(k, K)
        dx[dxoff + at + k] = k == labels[n] ? f * (pull + (dy > radius ? 1.0f : 0.0f)) : 0.0f;
    if (get_local_id(0) == 0)
        rows[n] = pull * dy + fmax(dy - radius, 0.0f);
}

#define COS_LIMIT (1.0f - 1e-6f)

static inline float softplus(float v)
{
    return fmax(v, 0.0f) + log1p(exp(-fabs(v)));
}

/* T cos(arccos(c) + m); T = 0: c is the logit itself */
static inline float margin_logit(float c, float T, float cm, float sm)
{
    if (T == 0.0f)
        return c;
    const float v = clamp(c, -COS_LIMIT, COS_LIMIT);
    return T * (v * cm - sqrt((1.0f - v) * (1.0f + v)) * sm);
}

/* d l / d c = T (cm + c sm / sqrt(1 - c^2)); 0 where c is clamped. */
static inline float margin_slope(float c, float T, float cm, float sm)
{
    if (T == 0.0f)
        return 1.0f;
    return fabs(c) < COS_LIMIT
               ? T * (cm + c * sm / sqrt(fmax((1.0f - c) * (1.0f + c), 1e-12f))) : 0.0f;
}

OSR_KERNEL loss_movr(__global const float *c, int coff, __global const int *labels,
                     __global float *rows, __global float *dx, int dxoff,
                     __global const float *dloss, int dloff, int K, float T, float cm, float sm,
                     float scale, int parts)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0), at = n * K;
    const float f = slope_scale(dloss, dloff, scale, parts);
    float s = 0.0f;
    FOR_ROW(k, K)
    {
        const float v = c[coff + at + k], l = margin_logit(v, T, cm, sm);
        s += softplus(k == labels[n] ? -l : l);
        if (parts != LOSS_ONLY)
            dx[dxoff + at + k] = f * (1.0f / (1.0f + exp(-l)) - (k == labels[n] ? 1.0f : 0.0f))
                                 * margin_slope(v, T, cm, sm);
    }
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        rows[n] = s;
}

/* Correlation penalty of filters w[K F][M]: stats[i] = mean, stats[KF + i] = 1/std of filter i,
 * one group a filter. */
OSR_KERNEL correlation_stats(__global const float *w, int woff, __global float *stats, int KF,
                             int M)
{
    __local float tmp[LS];
    const int i = (int)get_group_id(0);
    __global const float *p = w + woff + (size_t)i * M;
    float s = 0.0f, q = 0.0f;
    FOR_ROW(j, M)
    s += p[j];
    const float mean = group_sum(s, tmp) / (float)M;
    FOR_ROW(j, M)
    q += (p[j] - mean) * (p[j] - mean);
    const float std = sqrt(group_sum(q, tmp) / (float)M);
    if (get_local_id(0) == 0) {
        stats[i] = mean;
        stats[KF + i] = std > 0.0f ? 1.0f / std : 1.0f;
    }
}

/* rho[i][q] = correlation of filter i with filter q of its class; one group a filter. */
OSR_KERNEL correlation_rho(__global const float *w, int woff, __global const float *stats,
                           __global float *rho, int KF, int F, int M)
{
    __local float tmp[LS];
    const int i = (int)get_group_id(0), first = i / F * F;
    __global const float *p = w + woff + (size_t)i * M;
    for (int q = 0; q < F; ++q) {
        const int j = first + q;
        __global const float *r = w + woff + (size_t)j * M;
        float s = 0.0f;
        FOR_ROW(m, M)
        s += (p[m] - stats[i]) * (r[m] - stats[j]);
        s = group_sum(s, tmp) * stats[KF + i] * stats[KF + j] / (float)M;
        if (get_local_id(0) == 0)
            rho[(size_t)i * F + q] = s;
    }
}

/* y[0] = weight sum over pairs p < q of each class; absolute 1: of |rho|. One group. */
OSR_KERNEL correlation_sum(__global const float *rho, __global float *y, int yoff, int KF, int F,
                           int absolute, float weight)
{
    __local float tmp[LS];
    float s = 0.0f;
    FOR_ROW(i, KF)
    for (int q = i % F + 1; q < F; ++q)
        s += absolute ? fabs(rho[(size_t)i * F + q]) : rho[(size_t)i * F + q];
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        y[yoff] = weight * s;
}

/* dw_i = weight dloss sum_{q != i} g_q (u_q - rho_iq u_i) / (M std_i), u = (w - mean) / std,
 * g = sign of rho or 1. One group a filter; accumulate: +=. */
OSR_KERNEL correlation_dw(__global const float *w, int woff, __global const float *stats,
                          __global const float *rho, __global const float *dloss, int dloff,
                          __global float *dw, int dwoff, int KF, int F, int M, int absolute,
                          float weight, int accumulate)
{
    const int i = (int)get_group_id(0), first = i / F * F;
    const float f = weight * dloss[dloff] * stats[KF + i] / (float)M;
    FOR_ROW(m, M)
    {
        const float ui = (w[woff + (size_t)i * M + m] - stats[i]) * stats[KF + i];
        float s = 0.0f;
        for (int q = 0; q < F; ++q) {
            const int j = first + q;
            const float r = rho[(size_t)i * F + q];
            const float g = j == i ? 0.0f : !absolute ? 1.0f : r > 0.0f ? 1.0f : r < 0.0f ? -1.0f
                                                                                          : 0.0f;
            s += g * ((w[woff + (size_t)j * M + m] - stats[j]) * stats[KF + j] - r * ui);
        }
        const size_t at = dwoff + (size_t)i * M + m;
        dw[at] = accumulate ? dw[at] + f * s : f * s;
    }
}
