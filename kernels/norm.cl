/* norm.cl - batch normalisation, leaky rectifier and dropout, in one pass over an image
 *
 *   y = drop(leaky(x scale + shift))
 *
 * coef: float [4][CB*8] = scale, shift, mean, 1/std a channel; zeros in lanes beyond C.
 * Plane kernels run one work-group of LS items for each (n, cb), group id n*CB + cb.
 * part: float [2][N][CB*8], one row a plane (statistics: [3][R][CB*8], R = N or what a convolution
 * made); the merges run one group of LS items for each cb and add the rows in order. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* Dropout factors of 8 lanes: 0 or 1/(1-p). kind 0 none, 1 one value each, 2 one a channel. */
static inline float8 drop_mask(int kind, float p, uint plane, uint pixel, uint stream, uint step,
                               uint2 key)
{
    if (kind == 0)
        return (float8)(1.0f);
    const uint q = kind == 2 ? 0u : pixel + 1u;
    const uint4 a = philox((uint4)(plane, q * 2u, stream, step), key);
    const uint4 b = philox((uint4)(plane, q * 2u + 1u, stream, step), key);
    const float8 u = (float8)(uniform01(a.x), uniform01(a.y), uniform01(a.z), uniform01(a.w),
                              uniform01(b.x), uniform01(b.y), uniform01(b.z), uniform01(b.w));
    return select((float8)(0.0f), (float8)(1.0f / (1.0f - p)), u >= (float8)(p));
}

/* d = sum of (x - mean)^power of this item's pixels of a plane, power 1 or 2. */
OSR_PART plane_power(__global const float *x, const int4 xl, int H, int W, float8 mean, int power,
                     float8 *d)
{
    float8 s[SUM_PARTS];
    clear8(s);
    SUM_PIXELS(y, c, k, H, W, {
        const float8 v = LOAD8(x + image_at(xl, 0, 0, y, c)) - mean;
        s[k] += power == 1 ? v : v * v;
    })
    *d = add_up8(s);
}

/* Mean and sum of squared deviations of each plane and lane: two passes over a plane that the
 * cache holds. */
OSR_KERNEL norm_plane_stats(__global const float *x, const int4 xl, __global float *part, int N,
                            int CB, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    __global const float *plane = x + image_at(xl, n, cb, 0, 0) - xl.x;
    __local float8 tmp[LS];
    float8 d;
    plane_power(plane, xl, H, W, (float8)(0.0f), 1, &d);
    const float8 mean = group_sum8(d, tmp) / (float)(H * W);
    plane_power(plane, xl, H, W, mean, 2, &d);
    d = group_sum8(d, tmp);
    if (get_local_id(0) == 0) {
        STORE8(part + ((size_t)n * CB + cb) * 8, mean);
        STORE8(part + ((size_t)(N + n) * CB + cb) * 8, d);
        STORE8(part + ((size_t)(2 * N + n) * CB + cb) * 8, (float8)((float)(H * W)));
    }
}

/* Merge the rows (Chan et al.), update the running statistics, make the coefficients. */
OSR_KERNEL norm_merge(__global const float *part, __global const float *gamma, int goff,
                      __global const float *beta, int boff, __global float *rmean, int moff,
                      __global float *rvar, int voff, __global float *coef, int R, int CB, int C,
                      float eps, float momentum)
{
    const int cb = (int)get_group_id(0), c8 = CB * 8, updated = momentum > 0.0f ? C : 0;
    FOR_LANES(i)
    {
        __global const float *p = part + cb * 8 + i;
        lanes mean = 0.0f, m2 = 0.0f, count = 0.0f;
        ROLLED for (int n = 0; n < R; ++n, p += c8)
        {
            const lanes d = LANES(p) - mean, more = LANES(p + (size_t)2 * R * c8);
            const lanes all = count + more, share = more / fmax(all, 1.0f);
            mean += d * share;
            m2 += LANES(p + (size_t)R * c8) + d * d * (count * share);
            count = all;
        }
        LANES(coef + 2 * c8 + cb * 8 + i) = mean;
        LANES(coef + 3 * c8 + cb * 8 + i) = m2;
        LANES(coef + cb * 8 + i) = count;
    }
    FOR_ROW(i, 8)
    {
        const int c = cb * 8 + i;
        const float count = coef[c], mean = coef[2 * c8 + c], m2 = coef[3 * c8 + c];
        const float inv = rsqrt(m2 / count + eps);
        const float scale = c < C ? gamma[goff + c] * inv : 0.0f;
        coef[c] = scale;
        coef[c8 + c] = c < C ? beta[boff + c] - mean * scale : 0.0f;
        coef[2 * c8 + c] = c < C ? mean : 0.0f;
        coef[3 * c8 + c] = c < C ? inv : 0.0f;
        if (c < updated) {
            const float var = m2 / fmax(count - 1.0f, 1.0f);
            rmean[moff + c] += momentum * (mean - rmean[moff + c]);
            rvar[voff + c] += momentum * (var - rvar[voff + c]);
        }
    }
}

/* The coefficients of each image with its factors of dropout of channels, out [N][2][CB*8]: leaky(m
 * (x scale + shift)) is m leaky(x scale + shift), m being 0 or more. One group for each (n, cb). */
OSR_KERNEL norm_drop(__global const float *coef, __global float *out, int CB, float p, uint stream,
                     uint step, uint key0, uint key1)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const float8 m = drop_mask(2, p, (uint)g, 0u, stream, step, (uint2)(key0, key1));
    if (get_local_id(0) == 0) {
        STORE8(out + (n * 2 * CB + cb) * 8, LOAD8(coef + cb * 8) * m);
        STORE8(out + (n * 2 * CB + CB + cb) * 8, LOAD8(coef + (CB + cb) * 8) * m);
    }
}

/* Coefficients from the running statistics. One group of LS items for each cb. */
OSR_KERNEL norm_fixed(__global const float *gamma, int goff, __global const float *beta, int boff,
                      __global const float *rmean, int moff, __global const float *rvar, int voff,
                      __global float *coef, int CB, int C, float eps)
{
    const int cb = (int)get_group_id(0), c8 = CB * 8;
    FOR_ROW(i, 8)
    {
        const int c = cb * 8 + i;
        const float inv = c < C ? 1.0f / sqrt(rvar[voff + min(c, C - 1)] + eps) : 0.0f;
        const float scale = c < C ? gamma[goff + c] * inv : 0.0f;
        coef[c] = scale;
        coef[c8 + c] = c < C ? beta[boff + c] - rmean[moff + c] * scale : 0.0f;
        coef[2 * c8 + c] = c < C ? rmean[moff + c] : 0.0f;
        coef[3 * c8 + c] = inv;
    }
}

/* y = drop(leaky(x scale + shift)); without normalisation (norm 0) coef is not read. */
OSR_KERNEL norm_act(__global const float *x, const int4 xl, __global const float *coef,
                    __global float *y, const int4 yl, int CB, int H, int W, int norm, float slope,
                    int drop, float p, uint stream, uint step, uint key0, uint key1)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const float8 scale = norm ? LOAD8(coef + cb * 8) : (float8)(1.0f);
    const float8 shift = norm ? LOAD8(coef + (CB + cb) * 8) : (float8)(0.0f);
    const uint2 key = (uint2)(key0, key1);
    const float8 whole = drop == 2 ? drop_mask(2, p, (uint)g, 0u, stream, step, key)
                                   : (float8)(1.0f);
    FOR_PIXELS(r, c, H, W)
    {
        float8 v = LOAD8(x + image_at(xl, n, cb, r, c)) * scale + shift;
        v = select(v * slope, v, v > (float8)(0.0f)) * whole;
        if (drop == 1)
            v *= drop_mask(1, p, (uint)g, (uint)(r * W + c), stream, step, key);
        STORE8(y + image_at(yl, n, cb, r, c), v);
    }
}

/* dz = dy * mask * leaky'(z), the gradient behind the activation. */
static inline float8 act_gradient(float8 dy, float8 z, float slope)
{
    return select(dy * slope, dy, z > (float8)(0.0f));
}

/* Sums of dz and dz * xhat of each plane and lane. The last planes first: they are the likeliest to
 * be in a cache still, and norm_act_dx begins with those that were read last. */
OSR_KERNEL norm_act_sums(__global const float *dy, const int4 dyl, __global const float *x,
                         const int4 xl, __global const float *coef, __global float *part, int N,
                         int CB, int H, int W, float slope, int drop, float p, uint stream,
                         uint step, uint key0, uint key1)
{
    const int g = (int)(get_num_groups(0) - 1 - get_group_id(0)), n = g / CB, cb = g % CB;
    __local float8 tmp[LS];
    const float8 scale = LOAD8(coef + cb * 8), shift = LOAD8(coef + (CB + cb) * 8);
    const float8 mean = LOAD8(coef + (2 * CB + cb) * 8), inv = LOAD8(coef + (3 * CB + cb) * 8);
    const uint2 key = (uint2)(key0, key1);
    const float8 whole = drop == 2 ? drop_mask(2, p, (uint)g, 0u, stream, step, key)
                                   : (float8)(1.0f);
    float8 s = (float8)(0.0f), t = (float8)(0.0f);
    FOR_PIXELS(r, c, H, W)
    {
        const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));
        float8 d = LOAD8(dy + image_at(dyl, n, cb, r, c)) * whole;
        if (drop == 1)
            d *= drop_mask(1, p, (uint)g, (uint)(r * W + c), stream, step, key);
        d = act_gradient(d, v * scale + shift, slope);
        s += d;
        t += d * ((v - mean) * inv);
    }
    s = group_sum8(s, tmp);
    t = group_sum8(t, tmp);
    if (get_local_id(0) == 0) {
        STORE8(part + ((size_t)n * CB + cb) * 8, s);
        STORE8(part + ((size_t)(N + n) * CB + cb) * 8, t);
    }
}

/* Gradients of beta and gamma, and their means over the batch in sums: float [2][CB*8].
 * wanted: 1 write dgamma, 2 write dbeta; accumulate adds to what is there. */
OSR_KERNEL norm_merge_sums(__global const float *part, __global float *sums, __global float *dgamma,
                           int goff, __global float *dbeta, int boff, int N, int CB, int C, int HW,
                           int wanted, int gaccumulate, int baccumulate)
{
    const int cb = (int)get_group_id(0), c8 = CB * 8;
    const int gc = (wanted & 1) != 0 ? C : 0, gadd = gaccumulate ? C : 0;
    const int bc = (wanted & 2) != 0 ? C : 0, badd = baccumulate ? C : 0;
    FOR_ROW(i, 8)
    {
        const int c = cb * 8 + i;
        float s = 0.0f, t = 0.0f;
        ROLLED for (int n = 0; n < N; ++n)
        {
            s += part[(size_t)n * c8 + c];
            t += part[(size_t)(N + n) * c8 + c];
        }
        if (c < gc)
            dgamma[goff + c] = c < gadd ? dgamma[goff + c] + t : t;
        if (c < bc)
            dbeta[boff + c] = c < badd ? dbeta[boff + c] + s : s;
        sums[c] = s / ((float)N * (float)HW);
        sums[c8 + c] = t / ((float)N * (float)HW);
    }
}

/* dx: mode 0 no normalisation, 1 fixed statistics, 2 statistics of the batch. */
OSR_KERNEL norm_act_dx(__global const float *dy, const int4 dyl, __global const float *x,
                       const int4 xl, __global const float *coef, __global const float *sums,
                       __global float *dx, const int4 dxl, int CB, int H, int W, int mode,
                       float slope, int drop, float p, uint stream, uint step, uint key0,
                       uint key1)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    float8 scale = (float8)(1.0f), shift = (float8)(0.0f), mean = shift, inv = shift;
    float8 s = (float8)(0.0f), t = s;
    if (mode > 0) {
        scale = LOAD8(coef + cb * 8);
        shift = LOAD8(coef + (CB + cb) * 8);
    }
    if (mode == 2) {
        mean = LOAD8(coef + (2 * CB + cb) * 8);
        inv = LOAD8(coef + (3 * CB + cb) * 8);
        s = LOAD8(sums + cb * 8);
        t = LOAD8(sums + (CB + cb) * 8);
    }
    const uint2 key = (uint2)(key0, key1);
    const float8 whole = drop == 2 ? drop_mask(2, p, (uint)g, 0u, stream, step, key)
                                   : (float8)(1.0f);
    FOR_PIXELS(r, c, H, W)
    {
        const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));
        float8 d = LOAD8(dy + image_at(dyl, n, cb, r, c)) * whole;
        if (drop == 1)
            d *= drop_mask(1, p, (uint)g, (uint)(r * W + c), stream, step, key);
        d = act_gradient(d, v * scale + shift, slope);
        STORE8(dx + image_at(dxl, n, cb, r, c), scale * (d - s - (v - mean) * inv * t));
    }
}

/* The same for dense rows: leaky rectifier and dropout without normalisation. Flat launch over
 * rows*cols; a channel is a column, so both kinds of dropout draw one value an element. */
static inline float dense_mask(int drop, float p, uint i, uint stream, uint step, uint2 key)
{
    if (drop == 0)
        return 1.0f;
    const uint4 a = philox((uint4)(i, 0u, stream, step), key);
    return uniform01(a.x) >= p ? 1.0f / (1.0f - p) : 0.0f;
}

OSR_KERNEL dense_act(__global const float *x, int xoff, __global float *y, int yoff, int count,
                     float slope, int drop, float p, uint stream, uint step, uint key0, uint key1)
{
    FOR_FLAT(i, count)
    {
        const float v = x[xoff + i];
        const float m = dense_mask(drop, p, (uint)i, stream, step, (uint2)(key0, key1));
        y[yoff + i] = (v > 0.0f ? v : v * slope) * m;
    }
}

OSR_KERNEL dense_act_dx(__global const float *dy, int dyoff, __global const float *x, int xoff,
                        __global float *dx, int dxoff, int count, float slope, int drop, float p,
                        uint stream, uint step, uint key0, uint key1)
{
    FOR_FLAT(i, count)
    {
        const float m = dense_mask(drop, p, (uint)i, stream, step, (uint2)(key0, key1));
        const float d = dy[dyoff + i] * m;
        dx[dxoff + i] = x[xoff + i] > 0.0f ? d : d * slope;
    }
}
