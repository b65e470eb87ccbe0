/* loss.cl - losses of rows, and their gradients
 *
 * A loss kernel writes one value a row; sum_all makes their mean. Its gradient kernel takes the
 * gradient of that mean (a scalar on the device) times scale = 1/N. One group of LS items a row.
 * dx is dense [N][K]. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

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
                              __global float *rows, int K, float smoothing)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    const float2 ms = signed_max_sum(x + xoff + n * K, K, 1.0f, tmp);
    float s = 0.0f;
    FOR_ROW(k, K)
    s -= smooth_target(k, labels[n], K, smoothing) * (x[xoff + n * K + k] - ms.x - log(ms.y));
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        rows[n] = s;
}

OSR_KERNEL loss_cross_entropy_dx(__global const float *x, int xoff, __global const int *labels,
                                 __global const float *dloss, int dloff, __global float *dx,
                                 int dxoff, int K, float smoothing, float scale)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    const float2 ms = signed_max_sum(x + xoff + n * K, K, 1.0f, tmp);
    const float f = scale * dloss[dloff];
    FOR_ROW(k, K)
    dx[dxoff + n * K + k] = f * (exp(x[xoff + n * K + k] - ms.x) / ms.y
                                 - smooth_target(k, labels[n], K, smoothing));
}

/* ln(1 + sum_{k != y} exp(d_y - d_k)) = d_y + ln sum_k exp(-d_k) */
OSR_KERNEL loss_cac(__global const float *d, int doff, __global const int *labels,
                    __global float *rows, int K, float lambda)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    const float2 ms = signed_max_sum(d + doff + n * K, K, -1.0f, tmp);
    const float dy = d[doff + n * K + labels[n]];
    if (get_local_id(0) == 0)
        rows[n] = (dy + ms.x) + log(ms.y) + lambda * dy;
}

OSR_KERNEL loss_cac_dx(__global const float *d, int doff, __global const int *labels,
                       __global const float *dloss, int dloff, __global float *dx, int dxoff, int K,
                       float lambda, float scale)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    const float2 ms = signed_max_sum(d + doff + n * K, K, -1.0f, tmp);
    const float f = scale * dloss[dloff];
    FOR_ROW(k, K)
    dx[dxoff + n * K + k] = f * ((k == labels[n] ? 1.0f + lambda : 0.0f)
                                 - exp(-d[doff + n * K + k] - ms.x) / ms.y);
}

OSR_KERNEL loss_difair(__global const float *d, int doff, __global const int *labels,
                       __global float *rows, int K, float radius, float pull)
{
    const size_t n = get_group_id(0);
    const float dy = d[doff + n * K + labels[n]];
    if (get_local_id(0) == 0)
        rows[n] = pull * dy + fmax(dy - radius, 0.0f);
}

OSR_KERNEL loss_difair_dx(__global const float *d, int doff, __global const int *labels,
                          __global const float *dloss, int dloff, __global float *dx, int dxoff,
                          int K, float radius, float pull, float scale)
{
    const size_t n = get_group_id(0);
    const float f = scale * dloss[dloff];
    FOR_ROW(k, K)
    {
        const float v = d[doff + n * K + k];
        dx[dxoff + n * K + k] = k == labels[n] ? f * (pull + (v > radius ? 1.0f : 0.0f)) : 0.0f;
    }
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

OSR_KERNEL loss_movr(__global const float *c, int coff, __global const int *labels,
                     __global float *rows, int K, float T, float cm, float sm)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    float s = 0.0f;
    FOR_ROW(k, K)
    {
        const float l = margin_logit(c[coff + n * K + k], T, cm, sm);
        s += softplus(k == labels[n] ? -l : l);
    }
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        rows[n] = s;
}

/* d l / d c = T (cm + c sm / sqrt(1 - c^2)); 0 where c is clamped. */
OSR_KERNEL loss_movr_dx(__global const float *c, int coff, __global const int *labels,
                        __global const float *dloss, int dloff, __global float *dx, int dxoff,
                        int K, float T, float cm, float sm, float scale)
{
    const size_t n = get_group_id(0);
    const float f = scale * dloss[dloff];
    FOR_ROW(k, K)
    {
        const float v = c[coff + n * K + k], l = margin_logit(v, T, cm, sm);
        const float p = 1.0f / (1.0f + exp(-l));
        const float q = k == labels[n] ? p - 1.0f : p;
        const float slope = T * (cm + v * sm / sqrt(fmax((1.0f - v) * (1.0f + v), 1e-12f)));
        dx[dxoff + n * K + k] = T == 0.0f ? f * q : fabs(v) < COS_LIMIT ? f * q * slope : 0.0f;
    }
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
