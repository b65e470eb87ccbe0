/* jacobian.cl - finite differences for the Frobenius norm of a network's Jacobian */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* Entry `e` of direction `j` of an image (0: all images'): kind 0 unit vector, 1 Gaussian
 * (Box-Muller), 2 Rademacher; draws of another number are others. */
static inline float direction(int kind, int e, int j, int image, int draw, uint2 key)
{
    if (kind == 0)
        return e == j ? 1.0f : 0.0f;
    const uint4 r = philox((uint4)((uint)e, (uint)j, 0x6a61636fu + (uint)draw, (uint)image), key);
    if (kind == 2)
        return (r.x & 1u) != 0u ? 1.0f : -1.0f;
    return sqrt(-2.0f * log(uniform01(r.x))) * cospi(2.0f * uniform01(r.y));
}

/* y[(n count + j) 2 + s] = x[n] + jitter u_{first+j} +- h v_{first+j}, u Rademacher; an entry's
 * number is (r W + c) C + channel. own: 0, or the number of x[0], whose directions are of its own
 * then. One group of LS items for each (n, j, cb). */
OSR_KERNEL perturb(__global const float *x, const int4 xl, __global float *y, const int4 yl, int CB,
                   int C, int H, int W, int count, int kind, int own, int first, float h,
                   float jitter, int draw, uint key0, uint key1)
{
    const int g = (int)get_group_id(0), cb = g % CB, nj = g / CB, n = nj / count;
    const int j = first + nj % count, lanes = min(8, C - cb * 8), image = own ? own + n : 0;
    const uint2 key = (uint2)(key0, key1);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *p = x + image_at(xl, n, cb, r, c);
        __global float *a = y + image_at(yl, nj * 2, cb, r, c);
        __global float *b = y + image_at(yl, nj * 2 + 1, cb, r, c);
        for (int i = 0; i < lanes; ++i) {
            const int e = (r * W + c) * C + cb * 8 + i;
            const float d = h * direction(kind, e, j, image, 0, key);
            const float v = jitter > 0.0f ? p[i] + jitter * direction(2, e, j, image, draw, key)
                                          : p[i];
            a[i] = v + d;
            b[i] = v - d;
        }
    }
}

/* s[n] = scale sum_j <f[(n count + j) 2] - f[(n count + j) 2 + 1], the same of g>. One group an
 * image. */
OSR_KERNEL difference_norm(__global const float *f, int foff, __global const float *g, int goff,
                           __global float *s, int soff, int count, int D, float scale)
{
    __local float tmp[LS];
    const size_t n = get_group_id(0);
    float t = 0.0f;
    for (int j = 0; j < count; ++j) {
        __global const float *a = f + foff + (n * count + j) * 2 * D;
        __global const float *b = g + goff + (n * count + j) * 2 * D;
        float u = 0.0f;
        FOR_ROW(i, D)
        u += (a[i] - a[D + i]) * (b[i] - b[D + i]);
        t += u;
    }
    t = group_sum(t, tmp);
    if (get_local_id(0) == 0)
        s[soff + n] = t * scale;
}

/* s[n] = sum of squares of an image. One group an image. */
OSR_KERNEL square_sum(__global const float *x, const int4 xl, __global float *s, int soff, int CB,
                      int H, int W)
{
    __local float8 tmp[LS];
    const int n = (int)get_group_id(0);
    float8 t = (float8)(0.0f);
    for (int cb = 0; cb < CB; ++cb) {
        FOR_PIXELS(r, c, H, W)
        {
            const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));
            t += v * v;
        }
    }
    t = group_sum8(t, tmp);
    if (get_local_id(0) == 0)
        s[soff + n] = t.s0 + t.s1 + t.s2 + t.s3 + t.s4 + t.s5 + t.s6 + t.s7;
}
