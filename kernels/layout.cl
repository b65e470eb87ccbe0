/* layout.cl - the doors between dense rows and channel-blocked images
 *
 * Every kernel runs one group of LS items for each (n, cb). */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* Dense [N][H][W][C] to an image. */
OSR_KERNEL image_from_nhwc(__global const float *x, int xoff, __global float *y, const int4 yl,
                           int CB, int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *p = x + xoff + (((size_t)n * H + r) * W + c) * C + cb * 8;
        __global float *q = y + image_at(yl, n, cb, r, c);
        ROLLED for (int i = 0; i < lanes; ++i)
            q[i] = p[i];
    }
}

/* An image to dense [N][H][W][C]. */
OSR_KERNEL image_to_nhwc(__global const float *x, const int4 xl, __global float *y, int yoff,
                         int CB, int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *p = x + image_at(xl, n, cb, r, c);
        __global float *q = y + yoff + (((size_t)n * H + r) * W + c) * C + cb * 8;
        ROLLED for (int i = 0; i < lanes; ++i)
            q[i] = p[i];
    }
}

/* An image to dense [N][C][H][W], channel first: flatten. */
OSR_KERNEL image_to_nchw(__global const float *x, const int4 xl, __global float *y, int yoff,
                         int CB, int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *p = x + image_at(xl, n, cb, r, c);
        ROLLED for (int i = 0; i < lanes; ++i)
            y[yoff + (((size_t)n * C + cb * 8 + i) * H + r) * W + c] = p[i];
    }
}

/* Dense [N][C][H][W] to an image: the gradient of flatten. */
OSR_KERNEL image_from_nchw(__global const float *x, int xoff, __global float *y, const int4 yl,
                           int CB, int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global float *q = y + image_at(yl, n, cb, r, c);
        ROLLED for (int i = 0; i < lanes; ++i)
            q[i] = x[xoff + (((size_t)n * C + cb * 8 + i) * H + r) * W + c];
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
