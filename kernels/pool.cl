/* pool.cl - max, average and global average pooling of images
 *
 * H, W are the sizes of the image that is written. One group of LS items for each (n, cb). */
#ifndef OSR_COMMON
#include "common.cl"
#endif

OSR_KERNEL pool(__global const float *x, const int4 xl, __global float *y, const int4 yl, int CB,
                int H, int W, int size, int stride, int average)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    FOR_PIXELS(r, c, H, W)
    {
        float8 m = LOAD8(x + image_at(xl, n, cb, r * stride, c * stride)), s = (float8)(0.0f);
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j) {
                const float8 v = LOAD8(x + image_at(xl, n, cb, r * stride + i, c * stride + j));
                m = fmax(m, v);
                s += v;
            }
        STORE8(y + image_at(yl, n, cb, r, c), average ? s / (float)(size * size) : m);
    }
}

/* dx gathers from every window (r, c) of OH x OW that covers it. For max pooling a window's
 * gradient goes to its first largest value. */
OSR_KERNEL pool_dx(__global const float *dy, const int4 dyl, __global const float *x, const int4 xl,
                   __global const float *y, const int4 yl, __global float *dx, const int4 dxl,
                   int CB, int H, int W, int OH, int OW, int size, int stride, int average)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    FOR_PIXELS(r, c, H, W)
    {
        float8 d = (float8)(0.0f);
        const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));
        const int r0 = max(0, (r - size + stride) / stride), r1 = min(OH - 1, r / stride);
        const int c0 = max(0, (c - size + stride) / stride), c1 = min(OW - 1, c / stride);
        for (int i = r0; i <= r1; ++i)
            for (int j = c0; j <= c1; ++j) {
                const float8 e = LOAD8(dy + image_at(dyl, n, cb, i, j));
                if (average) {
                    d += e / (float)(size * size);
                    continue;
                }
                const float8 m = LOAD8(y + image_at(yl, n, cb, i, j));
                int8 mine = v == m;
                for (int a = 0; a < size * size; ++a) { /* an equal value before this one? */
                    const int rr = i * stride + a / size, cc = j * stride + a % size;
                    if (rr * W + cc >= r * W + c)
                        break;
                    mine &= LOAD8(x + image_at(xl, n, cb, rr, cc)) != m;
                }
                d += select((float8)(0.0f), e, mine);
            }
        STORE8(dx + image_at(dxl, n, cb, r, c), d);
    }
}

/* y[n][c] = mean over a plane. */
OSR_KERNEL global_pool(__global const float *x, const int4 xl, __global float *y, int yoff, int CB,
                       int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    __local float8 tmp[LS];
    float8 s = (float8)(0.0f);
    FOR_PIXELS(r, c, H, W)
    s += LOAD8(x + image_at(xl, n, cb, r, c));
    s = group_sum8(s, tmp) / (float)(H * W);
    if (get_local_id(0) == 0) {
        float t[8];
        vstore8(s, 0, t);
        for (int i = 0; i < min(8, C - cb * 8); ++i)
            y[yoff + (size_t)n * C + cb * 8 + i] = t[i];
    }
}

OSR_KERNEL global_pool_dx(__global const float *dy, int dyoff, __global float *dx, const int4 dxl,
                          int CB, int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const float8 v = load_lanes(dy + dyoff + (size_t)n * C, cb, C) / (float)(H * W);
    FOR_PIXELS(r, c, H, W)
    STORE8(dx + image_at(dxl, n, cb, r, c), v);
}
