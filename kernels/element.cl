/* element.cl - element by element, and sums over everything
 *
 * Dense kernels are flat launches: ceil(count / CHUNK) groups on a CPU, ceil(count / LS) groups of
 * LS items else. Image kernels run one group of LS items for each (n, cb). */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* code: 0 a+b, 1 a-b, 2 a*b, 3 a/b, 4 s*a+t, 5 exp a, 6 ln a, 7 sqrt a, 8 gradient of sqrt: a is
 * the gradient, b the root */
static inline float map_one(int code, float a, float b, float s, float t)
{
    switch (code) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return a / b;
    case 4: return s * a + t;
    case 5: return exp(a);
    case 6: return log(a);
    case 7: return sqrt(a);
    default: return b > 0.0f ? 0.5f * a / b : 0.0f;
    }
}

OSR_KERNEL map_dense(__global const float *a, int aoff, __global const float *b, int boff,
                     __global float *y, int yoff, int count, int code, float s, float t)
{
    FOR_FLAT(i, count)
    y[yoff + i] = map_one(code, a[aoff + i], b[boff + i], s, t);
}

OSR_KERNEL map_image(__global const float *a, const int4 al, __global const float *b, const int4 bl,
                     __global float *y, const int4 yl, int CB, int C, int H, int W, int code,
                     float s, float t)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const int lanes = min(8, C - cb * 8);
    FOR_PIXELS(r, c, H, W)
    {
        __global const float *pa = a + image_at(al, n, cb, r, c);
        __global const float *pb = b + image_at(bl, n, cb, r, c);
        __global float *py = y + image_at(yl, n, cb, r, c);
        for (int i = 0; i < lanes; ++i)
            py[i] = map_one(code, pa[i], pb[i], s, t);
    }
}

/* y[i] = scale * v[0] for every element of a dense tensor. */
OSR_KERNEL spread(__global const float *v, int voff, __global float *y, int yoff, int count,
                  float scale)
{
    const float f = scale * v[voff];
    FOR_FLAT(i, count)
    y[yoff + i] = f;
}

/* y[i] = value for every element of a dense tensor. */
OSR_KERNEL fill_dense(__global float *y, int yoff, int count, float value)
{
    FOR_FLAT(i, count)
    y[yoff + i] = value;
}

/* value into every real element of an image. */
OSR_KERNEL fill_image(__global float *y, const int4 yl, int CB, int C, int H, int W, float value)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const float8 v = real_lanes(cb, C) * value;
    FOR_PIXELS(r, c, H, W)
    STORE8(y + image_at(yl, n, cb, r, c), v);
}

/* y[0] = scale * sum of count values. One group of LS items. */
OSR_KERNEL sum_all(__global const float *x, int xoff, __global float *y, int yoff, int count,
                   float scale)
{
    __local float tmp[LS];
    float s = 0.0f, lost = 0.0f;
    FOR_ROW(i, count)
    { /* compensated: a long row of one sign loses nothing */
        const float v = x[xoff + i] - lost, t = s + v;
        lost = (t - s) - v;
        s = t;
    }
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        y[yoff] = scale * s;
}

/* y[c] = sum over rows of x[rows][cols], the gradient of a dense bias. One group for each c.
 * accumulate: y[c] += */
OSR_KERNEL column_sum(__global const float *x, int xoff, __global float *y, int yoff, int rows,
                      int cols, int accumulate)
{
    const int c = (int)get_group_id(0);
    __local float tmp[LS];
    float s = 0.0f;
    FOR_ROW(i, rows)
    s += x[xoff + (size_t)i * cols + c];
    s = group_sum(s, tmp);
    if (get_local_id(0) == 0)
        y[yoff + c] = accumulate ? y[yoff + c] + s : s;
}

/* part[n][c] = sum over a plane: first half of the gradient of an image's bias. */
OSR_KERNEL plane_sum(__global const float *x, const int4 xl, __global float *part, int CB, int H,
                     int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    __local float8 tmp[LS];
    float8 s = (float8)(0.0f);
    FOR_PIXELS(r, c, H, W)
    s += LOAD8(x + image_at(xl, n, cb, r, c));
    s = group_sum8(s, tmp);
    if (get_local_id(0) == 0)
        STORE8(part + (size_t)g * 8, s);
}

/* y = x + b[c] on dense rows. Flat launch. */
OSR_KERNEL bias_dense(__global const float *x, int xoff, __global const float *b, int boff,
                      __global float *y, int yoff, int count, int cols)
{
    FOR_FLAT(i, count)
    y[yoff + i] = x[xoff + i] + b[boff + i % cols];
}

/* y = x + b[c] on an image. */
OSR_KERNEL bias_image(__global const float *x, const int4 xl, __global const float *b, int boff,
                      __global float *y, const int4 yl, int CB, int C, int H, int W)
{
    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;
    const float8 v = load_lanes(b + boff, cb, C);
    FOR_PIXELS(r, c, H, W)
    STORE8(y + image_at(yl, n, cb, r, c), LOAD8(x + image_at(xl, n, cb, r, c)) + v);
}
