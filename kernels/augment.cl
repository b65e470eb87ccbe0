/* augment.cl - a batch of byte images, augmented, as the network's input
 *
 * The host has drawn what is random; a row of the table says what becomes of an image:
 *   ROW_IMAGE     its number in the set
 *   ROW_CROP      x and y of the crop in the image, negative in the padding
 *   ROW_FLIP      1: mirrored
 *   ROW_TURN      rotation, affine map in 16.16: x' = (a0 x + a1 y + a2) >> 16, y' with a3 to a5
 *   ROW_CUT       x0, y0, x1, y1 of what is cut out (x1 and y1 beyond it)
 *   ROW_BOX       x, y, width, height of the part that is scaled to the whole
 *   ROW_TONE      contrast factor, brightness in grey levels
 *   ROW_OPS       8 words for each RandAugment op: code, arguments; Pillow's first
 * Between two stages an image is float [H][W][C] in grey levels, in one of two halves of `work`;
 * RandAugment's ops work on whole grey levels, as bytes do. One group of LS items an image. */
#ifndef OSR_COMMON
#include "common.cl"
#endif
#pragma OPENCL FP_CONTRACT OFF

enum { ROW_IMAGE, ROW_CROP, ROW_FLIP = 3, ROW_TURN, ROW_CUT = 10, ROW_BOX = 14, ROW_TONE = 18,
       ROW_OPS = 20 };

/* As OSR__AUGMENT_CODES in osr.h. Arguments in brackets. */
enum { OP_NONE, OP_AUTO_CONTRAST, OP_EQUALIZE, OP_INVERT, OP_POSTERIZE /* mask */,
       OP_SOLARIZE /* threshold */, OP_SOLARIZE_ADD /* addition, 1: as Pillow's */,
       OP_COLOR /* factor, 1: TensorFlow's grey */, OP_CONTRAST /* factor */,
       OP_BLEND /* factor, grey level */, OP_SHARPNESS /* factor, rounding */,
       OP_AFFINE /* a0 to a5 in 16.16 */, OP_REFLECT /* a0 to a5 */,
       OP_CUT /* x0, y0, x1, y1, red, green, blue */ };

enum { HAS_TONE = 1, HAS_BOX = 2 };

#if LS > 1
#define SYNC barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#else
#define SYNC
#endif

static inline float whole(float v)
{
    return floor(clamp(v, 0.0f, 255.0f));
}

static inline float blend(float degenerate, float v, float factor)
{
    return whole(degenerate + factor * (v - degenerate));
}

/* Pillow's conversion to L. */
static inline float grey_level(__global const float *p, int C)
{
    return C == 1 ? p[0]
                  : (float)(((int)p[0] * 19595 + (int)p[1] * 38470 + (int)p[2] * 7471 + 0x8000)
                            >> 16);
}

/* tf.image.rgb_to_grayscale: weights that add up to 0.9999, through 0..1 and back. */
static inline float grey_level_tf(__global const float *p, int C)
{
    return C == 1 ? p[0]
                  : whole((0.2989f * p[0] + 0.587f * p[1] + 0.114f * p[2]) * (255.5f / 255.0f));
}

/* In place: the histogram of `count` values to a table of new values. For one item. */
static inline void make_table(int code, __local int *t, int count)
{
    int low = 0, high = 255;
    while (low < 255 && t[low] == 0)
        ++low;
    while (high > 0 && t[high] == 0)
        --high;
    const int step = (count - t[high]) / 255, span = high - low;
    int sum = step / 2;
    for (int i = 0; i < 256; ++i) {
        const int h = t[i];
        if (code == OP_EQUALIZE)
            t[i] = step == 0 ? i : min(sum / step, 255);
        else
            t[i] = span <= 0 ? i : clamp((i - low) * 255 / span, 0, 255);
        sum += h;
    }
}

/* Ops that look at a channel's histogram. */
static inline void by_table(int code, __global const float *a, __global float *b, int count, int C,
                            __local int *t)
{
    for (int c = 0; c < C; ++c) {
        FOR_ROW(i, 256)
        t[i] = 0;
        SYNC;
        FOR_ROW(i, count)
#if LS > 1
        atomic_inc(t + (int)a[i * C + c]);
#else
        ++t[(int)a[i * C + c]];
#endif
        SYNC;
        if (get_local_id(0) == 0)
            make_table(code, t, count);
        SYNC;
        FOR_ROW(i, count)
        b[i * C + c] = (float)t[(int)a[i * C + c]];
        SYNC;
    }
}

/* Ops that look at one value. */
static inline float by_value(int code, __global const int *p, float v)
{
    float w;
    switch (code) {
    case OP_INVERT: return 255.0f - v;
    case OP_POSTERIZE: return (float)((int)v & p[0]);
    case OP_SOLARIZE: return v < (float)p[0] ? v : 255.0f - v;
    case OP_SOLARIZE_ADD:
        w = fmin(v + (float)p[0], 255.0f);
        return p[1] ? (w < 128.0f ? w : 255.0f - w) : v < 128.0f ? w : v;
    case OP_BLEND: return blend((float)p[1], v, as_float(p[0]));
    default: return v;
    }
}

/* Colour, contrast, sharpness: a blend with a degenerate image. */
static inline void by_blend(__global const int *p, __global const float *a, __global float *b,
                            int H, int W, int C, __local float *tmp)
{
    const int code = p[0];
    const float factor = as_float(p[1]);
    float mean = 0.0f;
    if (code == OP_CONTRAST) {
        FOR_ROW(i, H * W)
        mean += grey_level(a + i * C, C);
        mean = floor(group_sum(mean, tmp) / (float)(H * W) + 0.5f);
    }
    FOR_PIXELS(y, x, H, W)
    {
        __global const float *s = a + (y * W + x) * C;
        const float grey = code != OP_COLOR ? mean
                           : p[2]           ? grey_level_tf(s, C)
                                            : grey_level(s, C);
        const int inside = code == OP_SHARPNESS && y > 0 && y < H - 1 && x > 0 && x < W - 1;
        for (int c = 0; c < C; ++c) {
            float d = code == OP_SHARPNESS ? s[c] : grey;
            if (inside) {
                d = 4.0f * s[c];
                for (int k = 0; k < 9; ++k)
                    d += s[c + ((k / 3 - 1) * W + k % 3 - 1) * C];
                d = floor(d / 13.0f + as_float(p[2]));
            }
            b[(y * W + x) * C + c] = blend(d, s[c], factor);
        }
    }
}

/* TensorFlow's fill mode "reflect" (d c b a | a b c d | d c b a) of a coordinate, in its own
 * floating-point steps, then the nearest pixel. */
static inline int reflected(float v, int n)
{
    const float size = (float)n, twice = 2.0f * size;
    if (n == 1)
        return 0;
    if (v < 0.0f) {
        if (v < twice)
            v += twice * trunc(-v / twice);
        v = v < -size ? v + twice : -v - 1.0f;
    } else if (v > size - 1.0f) {
        v -= twice * trunc(v / twice);
        if (v >= size)
            v = twice - v - 1.0f;
    }
    return (int)round(clamp(v, 0.0f, size - 1.0f));
}

/* Where pixel (x, y) comes from under an affine map in 16.16. */
static inline int2 turned(__global const int *m, int x, int y)
{
    return (int2)((m[0] * x + m[1] * y + m[2]) >> 16, (m[3] * x + m[4] * y + m[5]) >> 16);
}

static inline int holds(int2 at, int H, int W)
{
    return at.x >= 0 && at.x < W && at.y >= 0 && at.y < H;
}

/* Ops that move pixels or paint over them. */
static inline void by_place(__global const int *p, __global const float *a, __global float *b,
                            int H, int W, int C)
{
    FOR_PIXELS(y, x, H, W)
    {
        int2 at = (int2)(x, y);
        const int cut = p[0] == OP_CUT && x >= p[1] && y >= p[2] && x <= p[3] && y <= p[4];
        if (p[0] == OP_AFFINE) {
            at = turned(p + 1, x, y);
        } else if (p[0] == OP_REFLECT) {
            const float fx = (float)x, fy = (float)y;
            at.x = reflected(as_float(p[1]) * fx + as_float(p[2]) * fy + as_float(p[3]), W);
            at.y = reflected(as_float(p[4]) * fx + as_float(p[5]) * fy + as_float(p[6]), H);
        }
        for (int c = 0; c < C; ++c)
            b[(y * W + x) * C + c] = cut              ? (float)p[5 + c]
                                     : holds(at, H, W) ? a[(at.y * W + at.x) * C + c]
                                                       : 0.0f;
    }
}

static inline void apply_op(__global const int *p, __global const float *a, __global float *b,
                            int H, int W, int C, __local int *table, __local float *tmp)
{
    const int code = p[0];
    SYNC;
    if (code == OP_AUTO_CONTRAST || code == OP_EQUALIZE)
        by_table(code, a, b, H * W, C, table);
    else if (code == OP_COLOR || code == OP_CONTRAST || code == OP_SHARPNESS)
        by_blend(p, a, b, H, W, C, tmp);
    else if (code >= OP_AFFINE)
        by_place(p, a, b, H, W, C);
    else
        FOR_ROW(i, H * W * C)
        b[i] = by_value(code, p + 1, a[i]);
    SYNC;
}

/* Position i of n in a side of m, half-pixel centres: the first of two neighbours and the weight
 * of the second. */
static inline int neighbour(int i, int m, int n, float *weight)
{
    const int at = clamp((2 * i + 1) * m - n, 0, 2 * n * (m - 1)), first = min(at / (2 * n), m - 2);
    if (m == 1) {
        *weight = 0.0f;
        return 0;
    }
    *weight = (float)(at - first * 2 * n) / (float)(2 * n);
    return first;
}

/* b [H][W][C] = the part (x0, y0, w, h) of a [..][pitch][C], bilinear. */
static inline void resample(__global const float *a, int pitch, int x0, int y0, int w, int h,
                            __global float *b, int H, int W, int C)
{
    SYNC;
    FOR_PIXELS(y, x, H, W)
    {
        float wy, wx;
        const int r = neighbour(y, h, H, &wy), q = neighbour(x, w, W, &wx);
        __global const float *s = a + ((y0 + r) * pitch + x0 + q) * C;
        const int right = w > 1 ? C : 0, down = h > 1 ? pitch * C : 0;
        for (int c = 0; c < C; ++c) {
            const float top = s[c] + wx * (s[c + right] - s[c]);
            const float low = s[c + down] + wx * (s[c + down + right] - s[c + down]);
            b[(y * W + x) * C + c] = top + wy * (low - top);
        }
    }
    SYNC;
}

/* Keras: contrast about each channel's mean, clipped, then brightness, clipped. */
static inline void tone(float contrast, float brightness, __global float *a, int count, int C,
                        __local float *tmp)
{
    for (int c = 0; c < C; ++c) {
        float mean = 0.0f;
        FOR_ROW(i, count)
        mean += a[i * C + c];
        mean = group_sum(mean, tmp) / (float)count;
        FOR_ROW(i, count)
        {
            const float v = clamp(mean + contrast * (a[i * C + c] - mean), 0.0f, 255.0f);
            a[i * C + c] = clamp(v + brightness, 0.0f, 255.0f);
        }
    }
}

#define SWAP                                                                                       \
    {                                                                                              \
        __global float *t_ = a;                                                                    \
        a = b;                                                                                     \
        b = t_;                                                                                    \
    }

/* Images of bytes [..][SH][SW][SC] to y [N][H][W][C] in 0..1. `half` floats a half of work. */
OSR_KERNEL augment(__global const int *table, __global const uchar *pixels, int base,
                   __global float *work, int half_, __global float *out, const int4 yl, int SH,
                   int SW, int SC, int H, int W, int C, int row_words, int pillow, int tf,
                   int stages)
{
    __local int counts[256];
    __local float tmp[LS];
    const int n = (int)get_group_id(0);
    __global const int *row = table + n * row_words;
    __global const uchar *s = pixels + base + (size_t)row[ROW_IMAGE] * (size_t)(SH * SW * SC);
    __global float *a = work + (size_t)n * 2 * (size_t)half_, *b = a + half_;
    FOR_ROW(i, SH * SW)
    for (int c = 0; c < C; ++c)
        a[i * C + c] = SC == C   ? (float)s[i * C + c]
                       : SC == 1 ? (float)s[i]
                                 : 0.299f * (float)s[i * 3] + 0.587f * (float)s[i * 3 + 1]
                                       + 0.114f * (float)s[i * 3 + 2];
    if (pillow > 0 && SC > C) {
        FOR_ROW(i, SH * SW)
        a[i] = floor(a[i] + 0.5f);
    }
    for (int k = 0; k < pillow; ++k) {
        apply_op(row + ROW_OPS + 8 * k, a, b, SH, SW, C, counts, tmp);
        SWAP
    }
    if (SH != H || SW != W) {
        resample(a, SW, 0, 0, SW, SH, b, H, W, C);
        SWAP
    }
    if (stages & HAS_TONE) {
        SYNC;
        tone(as_float(row[ROW_TONE]), as_float(row[ROW_TONE + 1]), a, H * W, C, tmp);
    }
    SYNC;
    if (tf > 0) {
        FOR_ROW(i, H * W * C)
        a[i] = whole(a[i]);
    }
    for (int k = pillow; k < pillow + tf; ++k) {
        apply_op(row + ROW_OPS + 8 * k, a, b, H, W, C, counts, tmp);
        SWAP
    }
    if (stages & HAS_BOX) {
        resample(a, W, row[ROW_BOX], row[ROW_BOX + 1], row[ROW_BOX + 2], row[ROW_BOX + 3], b, H, W,
                 C);
        SWAP
    }
    SYNC;
    FOR_PIXELS(y, x, H, W)
    { /* from the result back: cut out, rotated, mirrored, cropped */
        __global const int *cut = row + ROW_CUT;
        int2 at = turned(row + ROW_TURN, x, y);
        int shown = holds(at, H, W);
        shown &= x < cut[0] || y < cut[1] || x >= cut[2] || y >= cut[3];
        at.x = (row[ROW_FLIP] ? W - 1 - at.x : at.x) + row[ROW_CROP];
        at.y += row[ROW_CROP + 1];
        shown &= holds(at, H, W);
        for (int c = 0; c < C; ++c)
            out[image_at(yl, n, 0, y, x) + c] =
                shown ? a[(at.y * W + at.x) * C + c] * (1.0f / 255.0f) : 0.0f;
    }
}
