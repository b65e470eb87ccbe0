/* rows.cl - operations on the rows of a dense [N][K] matrix
 *
 * One group of LS items for each row, unless a kernel says otherwise. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* Largest value of a row and the sum of exp(x - largest); every item gets both. */
static inline float2 row_max_sum(__global const float *x, int K, __local float *tmp)
{
    float m = -INFINITY, s = 0.0f;
    FOR_ROW(k, K)
    m = fmax(m, x[k]);
    m = group_max(m, tmp);
    FOR_ROW(k, K)
    s += exp(x[k] - m);
    return (float2)(m, group_sum(s, tmp));
}

OSR_KERNEL softmax(__global const float *x, int xoff, __global float *y, int yoff, int K)
{
    __local float tmp[LS];
    const size_t row = (size_t)get_group_id(0) * K;
    const float2 ms = row_max_sum(x + xoff + row, K, tmp);
    FOR_ROW(k, K)
    y[yoff + row + k] = exp(x[xoff + row + k] - ms.x) / ms.y;
}

/* dx = y (dy - sum(y dy)) */
OSR_KERNEL softmax_dx(__global const float *dy, int dyoff, __global const float *y, int yoff,
                      __global float *dx, int dxoff, int K)
{
    __local float tmp[LS];
    const size_t row = (size_t)get_group_id(0) * K;
    float s = 0.0f;
    FOR_ROW(k, K)
    s += y[yoff + row + k] * dy[dyoff + row + k];
    s = group_sum(s, tmp);
    FOR_ROW(k, K)
    dx[dxoff + row + k] = y[yoff + row + k] * (dy[dyoff + row + k] - s);
}

OSR_KERNEL logsumexp(__global const float *x, int xoff, __global float *y, int yoff, int K)
{
    __local float tmp[LS];
    const float2 ms = row_max_sum(x + xoff + (size_t)get_group_id(0) * K, K, tmp);
    if (get_local_id(0) == 0)
        y[yoff + get_group_id(0)] = ms.x + log(ms.y);
}

/* dx[n][k] = dy[n] softmax(x[n])_k */
OSR_KERNEL logsumexp_dx(__global const float *dy, int dyoff, __global const float *x, int xoff,
                        __global float *dx, int dxoff, int K)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0), row = n * K;
    const float2 ms = row_max_sum(x + xoff + row, K, tmp);
    FOR_ROW(k, K)
    dx[dxoff + row + k] = dy[dyoff + n] * (exp(x[xoff + row + k] - ms.x) / ms.y);
}

OSR_KERNEL row_sum(__global const float *x, int xoff, __global float *y, int yoff, int K)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    float s = 0.0f;
    FOR_ROW(k, K)
    s += x[xoff + n * K + k];
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        y[yoff + n] = s;
}

OSR_KERNEL row_spread(__global const float *dy, int dyoff, __global float *dx, int dxoff, int K)
{
    const size_t n = get_group_id(0);
    FOR_ROW(k, K)
    dx[dxoff + n * K + k] = dy[dyoff + n];
}

/* y[n] = x[n][label]: flat launch over the rows. */
OSR_KERNEL pick(__global const float *x, int xoff, __global const int *labels, __global float *y,
                int yoff, int N, int K)
{
    FOR_FLAT(n, N)
    y[yoff + n] = x[xoff + (size_t)n * K + labels[n]];
}

OSR_KERNEL pick_dx(__global const float *dy, int dyoff, __global const int *labels,
                   __global float *dx, int dxoff, int K)
{
    const size_t n = get_group_id(0);
    FOR_ROW(k, K)
    dx[dxoff + n * K + k] = k == labels[n] ? dy[dyoff + n] : 0.0f;
}

/* hit[n] = 1 where the label's column holds the first largest value of sign * x[n]. Flat launch
 * over the rows. */
OSR_KERNEL row_correct(__global const float *x, int xoff, __global const int *labels,
                       __global float *hit, int N, int K, float sign)
{
    FOR_FLAT(n, N)
    {
        int best = 0;
        for (int k = 1; k < K; ++k)
            if (sign * x[xoff + (size_t)n * K + k] > sign * x[xoff + (size_t)n * K + best])
                best = k;
        hit[n] = best == labels[n] ? 1.0f : 0.0f;
    }
}

/* y = x / max(||x||, 1e-12) */
OSR_KERNEL normalise(__global const float *x, int xoff, __global float *y, int yoff, int D)
{
    __local float tmp[LS];
    const size_t row = (size_t)get_group_id(0) * D;
    float s = 0.0f;
    FOR_ROW(k, D)
    s += x[xoff + row + k] * x[xoff + row + k];
    const float inv = 1.0f / fmax(sqrt(group_sum(s, tmp)), 1e-12f);
    FOR_ROW(k, D)
    y[yoff + row + k] = x[xoff + row + k] * inv;
}

/* dx = (dy - y (y . dy)) / ||x|| */
OSR_KERNEL normalise_dx(__global const float *dy, int dyoff, __global const float *x, int xoff,
                        __global float *dx, int dxoff, int D)
{
    __local float tmp[LS];
    const size_t row = (size_t)get_group_id(0) * D;
    float s = 0.0f, t = 0.0f;
    FOR_ROW(k, D)
    {
        const float v = x[xoff + row + k];
        s += v * v;
        t += v * dy[dyoff + row + k];
    }
    s = group_sum(s, tmp);
    t = group_sum(t, tmp);
    const float inv = 1.0f / fmax(sqrt(s), 1e-12f), along = s > 1e-24f ? t * inv * inv : 0.0f;
    FOR_ROW(k, D)
    dx[dxoff + row + k] = (dy[dyoff + row + k] - x[xoff + row + k] * along) * inv;
}

/* d[n][k] = ||z[n] - a[k]||, by differences; with a scale > 0 scale ||z[n] - a[k]||^2. */
OSR_KERNEL anchor_distance(__global const float *z, int zoff, __global const float *a, int aoff,
                           __global float *d, int doff, int K, int D, float scale)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    for (int k = 0; k < K; ++k) {
        float s = 0.0f;
        FOR_ROW(i, D)
        {
            const float v = z[zoff + n * D + i] - a[aoff + k * D + i];
            s += v * v;
        }
        s = group_sum(s, tmp);
        if (get_local_id(0) == 0)
            d[doff + n * K + k] = scale > 0.0f ? scale * s : sqrt(s);
    }
}

/* dd times the derivative of a distance d by v, a coordinate of one end; w: of the other. */
static inline float distance_slope(float dd, float d, float v, float w, float scale)
{
    return scale > 0.0f ? 2.0f * scale * dd * (v - w) : d > 0.0f ? dd * ((v - w) / d) : 0.0f;
}

/* dz[n][i] = sum_k dd[n][k] (z - a_k)_i / d[n][k]; 0 where d = 0. */
OSR_KERNEL anchor_distance_dx(__global const float *dd, int ddoff, __global const float *z,
                              int zoff, __global const float *a, int aoff, __global const float *d,
                              int doff, __global float *dz, int dzoff, int K, int D, float scale)
{
    const size_t n = get_group_id(0);
    FOR_ROW(i, D)
    {
        float s = 0.0f;
        for (int k = 0; k < K; ++k)
            s += distance_slope(dd[ddoff + n * K + k], d[doff + n * K + k], z[zoff + n * D + i],
                                a[aoff + k * D + i], scale);
        dz[dzoff + n * D + i] = s;
    }
}

/* da[k][i] = rate sum_n dd[n][k] (a_k - z)_i / d[n][k]; one group an anchor. */
OSR_KERNEL anchor_distance_da(__global const float *dd, int ddoff, __global const float *z,
                              int zoff, __global const float *a, int aoff, __global const float *d,
                              int doff, __global float *da, int daoff, int K, int D, float scale,
                              int N, float rate)
{
    const size_t k = get_group_id(0);
    FOR_ROW(i, D)
    {
        float s = 0.0f;
        for (int n = 0; n < N; ++n)
            s += distance_slope(dd[ddoff + n * K + k], d[doff + n * K + k], a[aoff + k * D + i],
                                z[zoff + n * D + i], scale);
        da[daoff + k * D + i] = rate * s;
    }
}
