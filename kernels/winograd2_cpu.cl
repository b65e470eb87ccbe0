/* winograd2_cpu.cl - Winograd for 3x3 convolutions of stride 2 and their input gradients, CPU
 *
 * With padding p, output r of one dimension is w0 x[2r-p] + w1 x[2r+1-p] + w2 x[2r+2-p]. The even
 * samples (from -p on) meet two taps: F(4, 2) needs 5 products for 4 outputs, at the points 0, 1,
 * -1, 2 and infinity. The odd samples meet one tap: 4 products, no transformation. Both together
 * are one algorithm of 9 points, used in both dimensions: 81 products for 4x4 outputs instead of
 * 144. The 4 odd points share one filter value, so that only 6x6 filter values are distinct.
 * The input gradient is the same algorithm from 5x5 inputs dy to 8x8 outputs dx.
 *
 * Point k of (a, b), a, b < 9, odd from 5 on: the 25 even ones, then even rows with odd columns,
 * odd rows with even columns, and the 16 odd ones, so that points of one filter value follow one
 * another. Tiles are numbered through all images, so that small maps fill a register block too.
 * Images need a halo of 1 or more; what lies beyond a map is read from it. A float16 holds 16
 * channels; C16 is the input channels rounded up to 16. Offsets of U are multiples of 16 floats.
 * Every kernel has local size 1, 1, 1. pad: 0 or 1 above (y) and left (x).
 *
 *   U  [ceil(O/16)][36][8*ceil(C/8)][16]           transformed filters
 *
 * Launch geometry (global size):
 *   wino2_pack   ceil(O'/16), ceil(I'/8), 1        O', I': after the transposition
 *   wino2_conv   ceil(NT / T), G, 1                NT = N * ceil(OH/4) * ceil(OW/4), transposed
 *                                                  N * ceil(H/8) * ceil(W/8); G groups share the
 *                                                  outputs; usually 1. T: a multiple of 8 */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* 32 vector registers of 512 bits hold 2 x 8 accumulators; 16 of 256 bits hold 1 x 4. */
#ifndef WINO2_PX
#ifdef __AVX512F__
#define WINO2_OB 2
#define WINO2_PX 8
#else
#define WINO2_OB 1
#define WINO2_PX 4
#endif
#endif

/* Hints to bring a line of 64 bytes into the second-level cache, to read or to write it. */
#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#define WINO2_HINT(p, write) __builtin_prefetch((const void *)(size_t)(p), write, 2)
#else
#define WINO2_HINT(p, write) ((void)(p))
#endif

#define WINO2_UNROLL _Pragma("unroll")
#define WINO2_LOOP _Pragma("unroll 1")
#define WINO2_LOAD16(p) (*(__global const float16 *)(p))

/* o = B' d (5 of 5), A' d (4 of 5). */
#define WINO2_B(o, d0, d1, d2, d3, d4)                                                             \
    do {                                                                                           \
        const float16 t_ = d3 - d1;                                                                \
        o[0] = 2.0f * (d0 - d2) + t_;                                                              \
        o[1] = t_ - d1 - d2;                                                                       \
        o[2] = 3.0f * (d1 - d2) + t_;                                                              \
        o[3] = t_;                                                                                 \
        o[4] = d4 - d2 - 2.0f * t_;                                                                \
    } while (0)
#define WINO2_AT(o, d0, d1, d2, d3, d4)                                                            \
    do {                                                                                           \
        const float16 p_ = d1 + d2, q_ = d1 - d2;                                                  \
        o[0] = d0 + p_ + d3;                                                                       \
        o[1] = q_ + 2.0f * d3;                                                                     \
        o[2] = p_ + 4.0f * d3;                                                                     \
        o[3] = q_ + 8.0f * d3 + d4;                                                                \
    } while (0)
/* o = G d (6 of 3); the middle tap is the odd one. */
#define WINO2_G(o, d0, d1, d2)                                                                     \
    do {                                                                                           \
        o[0] = 0.5f * d0;                                                                          \
        o[1] = -0.5f * (d0 + d2);                                                                  \
        o[2] = (d2 - d0) * (1.0f / 6.0f);                                                          \
        o[3] = (d0 + 2.0f * d2) * (1.0f / 6.0f);                                                   \
        o[4] = d2;                                                                                 \
        o[5] = d1;                                                                                 \
    } while (0)

/* Where filter value (a, b), a, b < 6, lies; 5 is the odd one. */
#define WINO2_VALUE(a, b) ((a) == 5 ? 30 + (b) : (b) == 5 ? 25 + (a) : (a) * 5 + (b))
/* Point k of even and odd columns b = 0 of row a (step EROW, 1) and rows a = 0 of column b (step
 * ECOL, OCOL); the filter value of point k. */
#define WINO2_EROW0(a) ((a) < 5 ? (a) * 5 : 40 + (a))
#define WINO2_EROW(a) ((a) < 5 ? 1 : 4)
#define WINO2_OROW0(a) ((a) < 5 ? 25 + (a) * 4 : 45 + (a) * 4)
#define WINO2_ECOL0(b) ((b) < 5 ? (b) : 20 + (b))
#define WINO2_ECOL(b) ((b) < 5 ? 5 : 4)
#define WINO2_OCOL0(b) ((b) < 5 ? 45 + (b) * 4 : 60 + (b))
#define WINO2_OCOL(b) ((b) < 5 ? 1 : 4)
#define WINO2_FILTER(k) ((k) < 25 ? (k) : (k) < 65 ? 25 + ((k) - 25) / 4 : 35)

/* Tile number t of an image set: image n, tile row y, tile column x. */
typedef struct wino2_tile {
    int n, y, x;
} wino2_tile;

static inline wino2_tile wino2_at(int t, int2 grid)
{
    const wino2_tile w = {t / (grid.x * grid.y), t / grid.x % grid.y, t % grid.x};

    return w;
}

static inline wino2_tile wino2_next(wino2_tile w, int2 grid)
{
    if (++w.x == grid.x) {
        w.x = 0;
        if (++w.y == grid.y) {
            w.y = 0;
            ++w.n;
        }
    }
    return w;
}

/* 16 channels: 8 at p and 8 at p + upper. */
static inline float16 wino2_load(__global const float *p, int upper)
{
    return (float16)(LOAD8(p), LOAD8(p + upper));
}

/* Hints at the size x size pixels of tile w, 8 floats each, of two 8-blocks. */
static inline void wino2_hint(__global const float *x, int4 xl, int upper, wino2_tile w, int size,
                              int write)
{
    __global const float *p = x + (size_t)w.n * xl.w + xl.x + w.y * size * xl.y + w.x * size * 8;

    for (int i = 0; i < size; ++i, p += xl.y)
        for (int j = 0; j < size * 8; j += 16) {
            if (write) {
                WINO2_HINT(p + j, 1);
                WINO2_HINT(p + j + upper, 1);
            } else {
                WINO2_HINT(p + j, 0);
                WINO2_HINT(p + j + upper, 0);
            }
        }
}

/* The 81 values of 16 channels of tile w, to out[k * step]: of 9x9 pixels of x from pad above and
 * left of pixel (8y, 8x) on, or (transposed) of 5x5 of dy from 1 - pad above and left of (4y, 4x).
 * HW: the size of the map. */
static inline void wino2_input(__global const float *x, int4 xl, int upper, wino2_tile w, int2 HW,
                               int2 pad, int transpose, __local float *out, int step)
{
    const int2 at = (int2)(w.x, w.y) * (transpose ? 4 : 8) - (transpose ? 1 - pad : pad);
    const int size = transpose ? 5 : 9;
    float16 r[9][9];

    x += (size_t)w.n * xl.w + xl.x;
    WINO2_LOOP for (int j = 0; j < size; ++j)
    {
        __global const float *p = x + min(at.x + j, HW.x) * 8;
        float16 d[9], e[5];
        if (transpose) {
            WINO2_UNROLL for (int i = 0; i < 5; ++i) d[i] =
                wino2_load(p + min(at.y + i, HW.y) * xl.y, upper);
            WINO2_B(e, d[0], d[1], d[2], d[3], d[4]);
            WINO2_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = pad.y ? d[i] : d[i + 1];
        } else {
            WINO2_UNROLL for (int i = 0; i < 9; ++i) d[i] =
                wino2_load(p + min(at.y + i, HW.y) * xl.y, upper);
            WINO2_B(e, d[0], d[2], d[4], d[6], d[8]);
            WINO2_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = d[2 * i + 1];
        }
        WINO2_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];
    }
    WINO2_LOOP for (int a = 0; a < 9; ++a)
    {
        __local float *even = out + WINO2_EROW0(a) * step, *odd = out + WINO2_OROW0(a) * step;
        const int estep = WINO2_EROW(a) * step;
        const int first = transpose ? 1 - pad.x : 1, by = transpose ? 1 : 2;
        float16 e[5];
        if (transpose)
            WINO2_B(e, r[a][0], r[a][1], r[a][2], r[a][3], r[a][4]);
        else
            WINO2_B(e, r[a][0], r[a][2], r[a][4], r[a][6], r[a][8]);
        WINO2_UNROLL for (int b = 0; b < 5; ++b) *(__local float16 *)(even + b * estep) = e[b];
        WINO2_UNROLL for (int b = 0; b < 4; ++b)
            *(__local float16 *)(odd + b * step) = r[a][first + b * by];
    }
}

/* Transformed filters; transpose swaps inputs and outputs and turns the filters by 180 degrees,
 * which is what the input gradient needs. */
OSR_KERNEL wino2_pack(__global const float *restrict w, int woff, __global float *restrict out,
                      int ooff, int O, int I, int transpose, int OP)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int co = transpose ? I : O, ci = transpose ? O : I, i8 = (ci + 7) / 8 * 8;
    const int so = transpose ? 9 : I * 9, si = transpose ? I * 9 : 9;

    if (og * 16 >= OP)
        return;
    for (int i = ib * 8; i < ib * 8 + 8; ++i) {
        __global float *p = out + ooff + ((size_t)og * 36 * i8 + i) * 16;
        float16 g[9], r[3][6];

        for (int k = 0; k < 9; ++k) {
            float v[16];
            for (int o = 0; o < 16; ++o)
                v[o] = i < ci && og * 16 + o < co
                           ? w[woff + (og * 16 + o) * so + i * si + (transpose ? 8 - k : k)]
                           : 0.0f;
            g[k] = vload16(0, v);
        }
        for (int j = 0; j < 3; ++j)
            WINO2_G(r[j], g[j], g[3 + j], g[6 + j]);
        for (int a = 0; a < 6; ++a) {
            float16 u[6];
            WINO2_G(u, r[0][a], r[1][a], r[2][a]);
            for (int b = 0; b < 6; ++b)
                *(__global float16 *)(p + (size_t)WINO2_VALUE(a, b) * i8 * 16) = u[b];
        }
    }
}

/* m[o][t] = sum over c < C of v[t][c] times u[c] of 16-block o, for WINO2_PX tiles. */
#define WINO2_PRODUCT(NAME, OB)                                                                    \
    static inline void NAME(__local const float *v, int vstep, __global const float *u,            \
                            long ustep, int C, __local float *m)                                   \
    {                                                                                              \
        float16 acc[OB][WINO2_PX];                                                                 \
        WINO2_UNROLL for (int o = 0; o < OB; ++o)                                                  \
            WINO2_UNROLL for (int t = 0; t < WINO2_PX; ++t) acc[o][t] = (float16)(0.0f);           \
        _Pragma("unroll 4") for (int c = 0; c < C; ++c) {                                          \
            float16 w[OB];                                                                         \
            WINO2_UNROLL for (int o = 0; o < OB; ++o) w[o] = WINO2_LOAD16(u + o * ustep + c * 16); \
            WINO2_UNROLL for (int t = 0; t < WINO2_PX; ++t) {                                      \
                const float16 b = (float16)(v[t * vstep + c]);                                     \
                WINO2_UNROLL for (int o = 0; o < OB; ++o) acc[o][t] += w[o] * b;                   \
            }                                                                                      \
        }                                                                                          \
        WINO2_UNROLL for (int t = 0; t < WINO2_PX; ++t)                                            \
            WINO2_UNROLL for (int o = 0; o < OB; ++o)                                              \
                *(__local float16 *)(m + t * 32 + o * 16) = acc[o][t];                             \
    }
WINO2_PRODUCT(wino2_product1, 1)
#if WINO2_OB > 1
WINO2_PRODUCT(wino2_product2, 2)
#endif

/* m[t][32] = V U for one point k and one 16-block of outputs, or two (pair), of `used` tiles. */
static inline void wino2_products(__local const float *v, int C16, __global const float *u,
                                  long ustep, int C, int used, int pair, __local float *m)
{
    for (int t = 0; t < used; t += WINO2_PX) {
#if WINO2_OB > 1
        if (pair)
            wino2_product2(v + t * C16, C16, u, ustep, C, m + t * 32);
        else
            wino2_product1(v + t * C16, C16, u, ustep, C, m + t * 32);
#else
        wino2_product1(v + t * C16, C16, u, ustep, C, m + t * 32);
        if (pair)
            wino2_product1(v + t * C16, C16, u + ustep, ustep, C, m + t * 32 + 16);
#endif
    }
}

/* What wino2_output writes to: y of HW pixels and C channels; the epilogue of a convolution. */
typedef struct wino2_result {
    __global float *y;
    int4 yl;
    int2 HW, pad;
    int C, transpose, after;
    __global const float *coef;
    float slope;
} wino2_result;

/* v in the lanes of 8-block cb that are real channels, zeros beyond. */
static inline float8 wino2_mask(float8 v, int cb, int oc)
{
    const int8 lane = (int8)(0, 1, 2, 3, 4, 5, 6, 7) + cb * 8;
    return cb * 8 + 8 <= oc ? v : select((float8)(0.0f), v, lane < oc);
}

static inline void wino2_store(const wino2_result *s, __global float *p, int cb, float16 v)
{
    const int C = s->C, CB = (C + 7) / 8;

    STORE8(p, wino2_mask(conv_epilogue8(v.lo, s->coef, CB, cb, s->after, s->slope), cb, C));
    if (cb + 1 < CB)
        STORE8(p + s->yl.z,
               wino2_mask(conv_epilogue8(v.hi, s->coef, CB, cb + 1, s->after, s->slope), cb + 1,
                          C));
}

/* Writes 16 channels, 8-blocks cb and cb + 1, to the pixels of tile w inside the map: 4x4, or
 * (transposed) 8x8, of which the even points make the rows and columns 2i + pad. */
static inline void wino2_output(__local const float *m, int step, const wino2_result *s,
                                wino2_tile w, int cb)
{
    const int size = s->transpose ? 8 : 4, h = s->HW.y - w.y * size, v = s->HW.x - w.x * size;
    const int4 l = s->yl;
    const int2 pad = s->pad;
    __global float *p =
        s->y + (size_t)w.n * l.w + l.x + cb * l.z + w.y * size * l.y + w.x * size * 8;
    float16 r[8][9];

    WINO2_LOOP for (int b = 0; b < 9; ++b)
    {
        __local const float *even = m + WINO2_ECOL0(b) * step, *odd = m + WINO2_OCOL0(b) * step;
        const int es = WINO2_ECOL(b) * step, os = WINO2_OCOL(b) * step;
        float16 d[5], e[4];
        WINO2_UNROLL for (int i = 0; i < 5; ++i) d[i] = *(__local const float16 *)(even + i * es);
        WINO2_AT(e, d[0], d[1], d[2], d[3], d[4]);
        WINO2_UNROLL for (int i = 0; i < 4; ++i)
        {
            const float16 o = *(__local const float16 *)(odd + i * os);
            r[i][b] = s->transpose ? e[i] : e[i] + o;
            if (s->transpose)
                r[4 + i][b] = o;
        }
    }
    WINO2_LOOP for (int i = 0; i < size; ++i)
    {
        const int y = !s->transpose ? i : i < 4 ? 2 * i + pad.y : 2 * (i - 4) + 1 - pad.y;
        float16 e[4];
        if (y >= h)
            continue;
        WINO2_AT(e, r[i][0], r[i][1], r[i][2], r[i][3], r[i][4]);
        if (s->transpose) {
            WINO2_UNROLL for (int j = 0; j < 4; ++j)
            {
                if (2 * j + pad.x < v)
                    wino2_store(s, p + y * l.y + (2 * j + pad.x) * 8, cb, e[j]);
                if (2 * j + 1 - pad.x < v)
                    wino2_store(s, p + y * l.y + (2 * j + 1 - pad.x) * 8, cb, r[i][5 + j]);
            }
        } else {
            WINO2_UNROLL for (int j = 0; j < 4; ++j)
                if (j < v)
                    wino2_store(s, p + y * l.y + j * 8, cb, e[j] + r[i][5 + j]);
        }
    }
}

/* y = convolution of x with the filters of U, or (transpose 1, U packed so, x = dy, y = dx) its
 * input gradient. XHW, YHW: the sizes of x and y. T: tiles a work-group, a multiple of 8. scratch:
 * 81 * (T * (C16 + 32) + 32) floats: the transformed tiles [81][T][C16] and, of 32 outputs at a
 * time, the products [81][T][32]; 16 floats more in each of 81 keep them off one cache set. */
OSR_KERNEL wino2_conv(__global const float *restrict x, int4 xl, __global const float *restrict u,
                      int uoff, __global float *restrict y, int4 yl, int N, int IB, int OC,
                      int2 XHW, int2 YHW, int2 pad, int transpose,
                      __global const float *restrict coef, int after, float slope, int T,
                      __local float16 *restrict scratch)
{
    const int size = transpose ? 8 : 4, isize = transpose ? 4 : 8;
    const int2 grid = (YHW + size - 1) / size;
    const int t0 = (int)get_group_id(0) * T, live = min(T, N * grid.x * grid.y - t0);
    const int used = (live + 7) / 8 * 8, C16 = (IB + 1) / 2 * 16, vk = T * C16 + 16;
    const int mk = T * 32 + 16, o16 = (OC + 15) / 16, og = (int)get_group_id(1);
    const int ng = (int)get_num_groups(1), pairs = (o16 + 1) / 2;
    const long ustep = (long)36 * IB * 128;
    const wino2_result s = {y, yl, YHW, pad, OC, transpose, after, coef, slope};
    __local float *v = (__local float *)scratch, *m = v + 81 * vk;
    const wino2_tile first = wino2_at(t0, grid);

    for (int c = 0; c < IB; c += 2) {
        wino2_tile w = first;
        for (int t = 0; t < used; ++t) {
            if (c + 2 < IB)
                wino2_hint(x + (c + 2) * xl.z, xl, c + 3 < IB ? xl.z : 0, w, isize, 0);
            wino2_input(x + c * xl.z, xl, c + 1 < IB ? xl.z : 0, w, XHW, pad, transpose,
                        v + t * C16 + c * 8, vk);
            if (t + 1 < live)
                w = wino2_next(w, grid);
        }
    }
    for (int o = pairs * og / ng * 2; o < min(pairs * (og + 1) / ng * 2, o16); o += 2) {
        wino2_tile w = first;
        for (int k = 0; k < 81; ++k) {
            if (k < live) {
                for (int b = o; b < min(o + 2, o16); ++b)
                    wino2_hint(y + b * 2 * yl.z, yl, b * 16 + 8 < OC ? yl.z : 0, w, size, 1);
                w = wino2_next(w, grid);
            }
            wino2_products(v + k * vk, C16,
                           u + uoff + o * ustep + (long)WINO2_FILTER(k) * IB * 128, ustep, IB * 8,
                           used, o + 1 < o16, m + k * mk);
        }
        for (int b = o; b < min(o + 2, o16); ++b) {
            w = first;
            for (int t = 0; t < live; ++t, w = wino2_next(w, grid))
                wino2_output(m + t * 32 + (b - o) * 16, mk, &s, w, b * 2);
        }
    }
}
