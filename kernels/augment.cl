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
 * RandAugment's ops work on whole grey levels, as bytes do.
 *
 * One group of LS items an image in every kernel; `from` says which half is read, the other one is
 * written. `facts` is what an op has to know of the whole image, FACTS words each: a table of new
 * values for each channel, then means (of each channel, of the grey levels). */
#ifndef OSR_COMMON
#include "common.cl"
#endif
#pragma OPENCL FP_CONTRACT OFF

enum { ROW_IMAGE, ROW_CROP, ROW_FLIP = 3, ROW_TURN, ROW_CUT = 10, ROW_BOX = 14, ROW_TONE = 18,
       ROW_OPS = 20 };

/* As OSR__AUG_ in osr.h. In comments the arguments. */
enum { OP_NONE, OP_AUTO_CONTRAST, OP_EQUALIZE, OP_INVERT, OP_POSTERIZE /* mask */,
       OP_SOLARIZE /* threshold */, OP_SOLARIZE_ADD /* addition, 1: as Pillow's */,
       OP_COLOR /* factor, 1: TensorFlow's grey */, OP_CONTRAST /* factor */,
       OP_BLEND /* factor, grey level */, OP_SHARPNESS /* factor, rounding */,
       OP_AFFINE /* a0 to a5 in 16.16 */, OP_REFLECT /* a0 to a5 */,
       OP_CUT /* x0, y0, x1, y1, red, green, blue */ };

#define FACTS (3 * 256 + 4)

/* The image of this group: its row, where it is read from and where written. */
#define IMAGE(table, words, work, half_, from)                                                     \
    const int n = (int)get_group_id(0);                                                            \
    __global const int *row = table + n * words;                                                   \
    __global const float *a = work + ((size_t)n * 2 + from) * (size_t)half_;                       \
    __global float *b = work + ((size_t)n * 2 + 1 - from) * (size_t)half_;

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
    const int3 v = convert_int3((float3)(p[0], p[C / 2], p[C - 1]));
    return C == 1 ? p[0] : (float)((v.x * 19595 + v.y * 38470 + v.z * 7471 + 0x8000) >> 16);
}

/* tf.image.rgb_to_grayscale: weights that add up to 0.9999, through 0..1 and back. */
static inline float grey_level_tf(__global const float *p, int C)
{
    return C == 1 ? p[0]
                  : whole((0.2989f * p[0] + 0.587f * p[1] + 0.114f * p[2]) * (255.5f / 255.0f));
}

/* The histogram t of `count` values to a table of new values. For one item. */
static inline void make_table(int code, __local const int *t, int count, __global int *to)
{
    int low = 0, high = 255;
    while (low < 255 && t[low] == 0)
        ++low;
    while (high > 0 && t[high] == 0)
        --high;
    const int step = (count - t[high]) / 255, span = high - low;
    int sum = step / 2;
    for (int i = 0; i < 256; ++i) {
        if (code == OP_EQUALIZE)
            to[i] = step == 0 ? i : min(sum / step, 255);
        else
            to[i] = span <= 0 ? i : clamp((i - low) * 255 / span, 0, 255);
        sum += t[i];
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

/* Colour, contrast, sharpness: a blend of pixel (x, y) with a degenerate image. */
static inline void by_blend(__global const int *p, __global const float *a, __global float *b,
                            int y, int x, int H, int W, int C, float mean)
{
    const int code = p[0], at = (y * W + x) * C;
    const int inside = code == OP_SHARPNESS && y > 0 && y < H - 1 && x > 0 && x < W - 1;
    const float grey = code != OP_COLOR ? mean
                       : p[2]           ? grey_level_tf(a + at, C)
                                        : grey_level(a + at, C);
    for (int c = 0; c < C; ++c) {
        __global const float *s = a + at + c;
        float d = code == OP_SHARPNESS ? s[0] : grey;
        if (inside) {
            d = 4.0f * s[0];
            for (int k = 0; k < 9; ++k)
                d += s[((k / 3 - 1) * W + k % 3 - 1) * C];
            d = floor(d / 13.0f + as_float(p[2]));
        }
        b[at + c] = blend(d, s[0], as_float(p[1]));
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
                            int y, int x, int H, int W, int C)
{
    const int hidden = p[0] == OP_CUT && x >= p[1] && y >= p[2] && x <= p[3] && y <= p[4];
    int2 at = (int2)(x, y);
    if (p[0] == OP_AFFINE) {
        at = turned(p + 1, x, y);
    } else if (p[0] == OP_REFLECT) {
        const float fx = (float)x, fy = (float)y;
        at.x = reflected(as_float(p[1]) * fx + as_float(p[2]) * fy + as_float(p[3]), W);
        at.y = reflected(as_float(p[4]) * fx + as_float(p[5]) * fy + as_float(p[6]), H);
    }
    for (int c = 0; c < C; ++c)
        b[(y * W + x) * C + c] = hidden            ? (float)p[5 + c]
                                 : holds(at, H, W) ? a[(at.y * W + at.x) * C + c]
                                                   : 0.0f;
}

/* Images of bytes [..][SH][SW][SC] to the first half of work, [SH][SW][C]; with `whole_` rounded
 * to whole grey levels. */
OSR_KERNEL augment_load(__global const int *table, int words, __global float *work, int half_,
                        __global const uchar *pixels, int base, int SH, int SW, int SC, int C,
                        int whole_)
{
    const int n = (int)get_group_id(0);
    __global const uchar *s =
        pixels + base + (size_t)table[n * words + ROW_IMAGE] * (size_t)(SH * SW * SC);
    __global float *a = work + (size_t)n * 2 * (size_t)half_;
    if (SC == C) {
        FOR_ROW(i, SH * SW * C)
        a[i] = (float)s[i];
    } else if (SC == 1) {
        FOR_ROW(i, SH * SW * C)
        a[i] = (float)s[i / C];
    } else {
        FOR_ROW(i, SH * SW)
        {
            __global const uchar *q = s + 3 * i;
            const float v = 0.299f * (float)q[0] + 0.587f * (float)q[1] + 0.114f * (float)q[2];
            a[i] = whole_ ? floor(v + 0.5f) : v;
        }
    }
}

/* The facts of the op at word `slot`; slot 0: the means of the channels, for augment_tone. */
OSR_KERNEL augment_look(__global const int *table, int words, __global float *work, int half_,
                        int from, int slot, __global int *facts, int count, int C)
{
    __local int tables[3 * 256];
    __local float8 tmp[LS];
    IMAGE(table, words, work, half_, from)
    const int code = slot == 0 ? OP_NONE : row[slot];
    const int tabled = code == OP_AUTO_CONTRAST || code == OP_EQUALIZE;
    float8 sum = (float8)(0.0f);
    (void)b;
    FOR_ROW(i, 256 * C)
    tables[i] = 0;
#if LS > 1
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    if (tabled) {
        FOR_ROW(i, count * C)
#if LS > 1
        atomic_inc(tables + i % C * 256 + (int)a[i]);
#else
        ++tables[i % C * 256 + (int)a[i]];
#endif
    }
    if (code == OP_CONTRAST || slot == 0) {
        FOR_ROW(i, count)
        {
            __global const float *s = a + i * C;
            sum += (float8)(s[0], s[C / 2], s[C - 1], grey_level(s, C), 0.0f, 0.0f, 0.0f, 0.0f);
        }
    }
    sum = group_sum8(sum, tmp) / (float)count; /* its barriers end the count, too */
    facts += n * FACTS;
    if (get_local_id(0) == 0) {
        __global float *mean = (__global float *)(facts + 3 * 256);
        mean[0] = sum.s0;
        mean[1] = sum.s1;
        mean[2] = sum.s2;
        mean[3] = sum.s3;
    }
    FOR_ROW(c, C)
    if (tabled)
        make_table(code, tables + 256 * c, count, facts + 256 * c);
}

/* The op at word `slot`. */
OSR_KERNEL augment_apply(__global const int *table, int words, __global float *work, int half_,
                         int from, int slot, __global const int *facts, int H, int W, int C)
{
    IMAGE(table, words, work, half_, from)
    __global const int *p = row + slot;
    const int code = p[0];
    facts += n * FACTS;
    if (code == OP_AUTO_CONTRAST || code == OP_EQUALIZE) {
        FOR_ROW(i, H * W * C)
        b[i] = (float)facts[i % C * 256 + (int)a[i]];
    } else if (code == OP_COLOR || code == OP_CONTRAST || code == OP_SHARPNESS) {
        const float mean = floor(as_float(facts[3 * 256 + 3]) + 0.5f);
        FOR_PIXELS(y, x, H, W)
        by_blend(p, a, b, y, x, H, W, C, mean);
    } else if (code >= OP_AFFINE) {
        FOR_PIXELS(y, x, H, W)
        by_place(p, a, b, y, x, H, W, C);
    } else {
        FOR_ROW(i, H * W * C)
        b[i] = by_value(code, p + 1, a[i]);
    }
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

/* [H][W][C] from an image [SH][SW][C], bilinear: all of it, or with `boxed` the row's part. */
OSR_KERNEL augment_resample(__global const int *table, int words, __global float *work, int half_,
                            int from, int SH, int SW, int H, int W, int C, int boxed)
{
    IMAGE(table, words, work, half_, from)
    __global const int *box = row + ROW_BOX;
    const int x0 = boxed ? box[0] : 0, y0 = boxed ? box[1] : 0;
    const int w = boxed ? box[2] : SW, h = boxed ? box[3] : SH;
    const int right = w > 1 ? C : 0, down = h > 1 ? SW * C : 0;
    FOR_PIXELS(y, x, H, W)
    {
        float wy, wx;
        const int r = neighbour(y, h, H, &wy), q = neighbour(x, w, W, &wx);
        __global const float *s = a + ((y0 + r) * SW + x0 + q) * C;
        for (int c = 0; c < C; ++c) {
            const float top = s[c] + wx * (s[c + right] - s[c]);
            const float low = s[c + down] + wx * (s[c + down + right] - s[c + down]);
            b[(y * W + x) * C + c] = top + wy * (low - top);
        }
    }
}

/* Keras: contrast about each channel's mean, clipped, then brightness, clipped. With `whole_` cut
 * to whole grey levels, as TensorFlow's RandAugment begins. toned 0: only that. */
OSR_KERNEL augment_tone(__global const int *table, int words, __global float *work, int half_,
                        int from, __global const int *facts, int count, int C, int toned,
                        int whole_)
{
    IMAGE(table, words, work, half_, from)
    __global const int *mean = facts + n * FACTS + 3 * 256;
    const float contrast = as_float(row[ROW_TONE]), brightness = as_float(row[ROW_TONE + 1]);
    FOR_ROW(i, count * C)
    {
        float v = a[i];
        if (toned) {
            const float m = as_float(mean[i % C]);
            v = clamp(clamp(m + contrast * (v - m), 0.0f, 255.0f) + brightness, 0.0f, 255.0f);
        }
        b[i] = whole_ ? whole(v) : v;
    }
}

/* The result, in 0..1: each pixel traced back through cutting out, rotation, mirror and crop. */
OSR_KERNEL augment_place(__global const int *table, int words, __global float *work, int half_,
                         int from, __global float *y, const int4 yl, int H, int W, int C)
{
    IMAGE(table, words, work, half_, from)
    __global const int *cut = row + ROW_CUT;
    (void)b;
    FOR_PIXELS(r, c, H, W)
    {
        int2 at = turned(row + ROW_TURN, c, r);
        int shown = holds(at, H, W);
        shown &= c < cut[0] || r < cut[1] || c >= cut[2] || r >= cut[3];
        at.x = (row[ROW_FLIP] ? W - 1 - at.x : at.x) + row[ROW_CROP];
        at.y += row[ROW_CROP + 1];
        shown &= holds(at, H, W);
        for (int i = 0; i < C; ++i)
            y[image_at(yl, n, 0, r, c) + i] =
                shown ? a[(at.y * W + at.x) * C + i] * (1.0f / 255.0f) : 0.0f;
    }
}
