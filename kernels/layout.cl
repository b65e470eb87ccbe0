/* layout.cl - the doors between dense rows and channel-blocked images
 *
 * Every kernel runs one group of LS items for each (n, cb). */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* Dense values to an image. step: how far apart images, channels, rows and columns lie. */
OSR_KERNEL image_from_dense(__global const float *x, int xoff, __global float *y, const int4 yl,
                            int CB, int C, int H, int W, const int4 step)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *p = x + xoff + (size_t)n * step.x + (size_t)(cb * 8) * step.y
                                  + (size_t)r * step.z + (size_t)c * step.w;
        __global float *q = y + image_at(yl, n, cb, r, c);
        ROLLED for (int i = 0; i < lanes; ++i)
            q[i] = p[(size_t)i * step.y];
    }
}

/* An image to dense values. */
OSR_KERNEL image_to_dense(__global const float *x, const int4 xl, __global float *y, int yoff,
                          int CB, int C, int H, int W, const int4 step)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *p = x + image_at(xl, n, cb, r, c);
        __global float *q = y + yoff + (size_t)n * step.x + (size_t)(cb * 8) * step.y
                            + (size_t)r * step.z + (size_t)c * step.w;
        ROLLED for (int i = 0; i < lanes; ++i)
            q[(size_t)i * step.y] = p[i];
    }
}

/* y [4N]: plane t N + n is plane n of x, S x S, turned t times to the left. */
OSR_KERNEL image_turns(__global const float *x, const int4 xl, __global float *y, const int4 yl,
                       int N, int CB, int S)
{
    const int g = (int)get_group_id(0), m = g / CB, cb = g % CB;
    FOR_PIXELS(r, c, S, S)
    {
        int2 at = (int2)(c, r);
        for (int t = 0; t < m / N; ++t)
            at = (int2)(S - 1 - at.y, at.x);
        STORE8(y + image_at(yl, m, cb, r, c), LOAD8(x + image_at(xl, m % N, cb, at.y, at.x)));
    }
}
