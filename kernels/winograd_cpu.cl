/* winograd_cpu.cl - Winograd F(4x4, 3x3): 3x3 convolutions of stride 1 and padding 1, CPU family
 *
 * Y = A' ((G g G') * (B' d B)) A for each 6x6 input tile d and filter g, points 0, 1, -1, 2, -2 and
 * infinity. An image has ceil(H/4) x ceil(W/4) tiles, numbered through all images, so that small
 * maps fill a register block too. Images need a halo of 1 or more; rows and columns beyond H and W
 * are read from the halo, so H and W need not be multiples of 4. A float16 holds 16 channels; C16
 * and O16 are the channels rounded up to 16. Offsets of U are multiples of 16 floats. Every kernel
 * has local size 1, 1, 1.
 *
 *   U  [O16/16][36][8*ceil(C/8)][16]               transformed filters
 *   V  [36][C16/16][T][16], 16 floats after each of the 36    transformed tiles of x, in `vd`
 *   D  [36][O16/16][T][16], 16 floats after each of the 36    transformed tiles of dy, after V
 *   dU [O16/16][C16][36][16]                       gradient of U
 *
 * Launch geometry (global size), NT = N * ceil(H/4) * ceil(W/4):
 *   wino_pack            O16'/16, ceil(I'/8), 1    O', I': after the transposition
 *   wino_conv            ceil(NT / T), G, 1        G groups share the outputs; usually 1
 *   wino_wgrad_tiles     ceil(T / 16), C16/16 + O16/16, 1      for t0 = 0, T, 2T, ... below NT;
 *   wino_wgrad_product   ceil(C / 32), 36, 1                   the last T is what is left
 *   wino_wgrad_filter    O16/16, ceil(C / 8), 1    once, after the last chunk of tiles
 * T is any number of tiles for the weight gradient and a multiple of 8 for wino_conv. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* 32 vector registers of 512 bits hold 2 x 8 accumulators; 16 of 256 bits hold 1 x 4. */
#ifndef WINO_PX
#ifdef __AVX512F__
#define WINO_OB 2
#define WINO_PX 8
#else
#define WINO_OB 1
#define WINO_PX 4
#endif
#endif

/* Hints to bring a line of 64 bytes into the second-level cache, to read or to write it. */
#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#define WINO_HINT(p, write) __builtin_prefetch((const void *)(size_t)(p), write, 2)
#else
#define WINO_HINT(p, write) ((void)(p))
#endif
/* Tiles between the hint to read a tile and its transformation. */
#define WINO_AHEAD 2

#define WINO_UNROLL _Pragma("unroll")
#define WINO_LOAD16(p) (*(__global const float16 *)(p))
#define WINO_STORE16(p, v) (*(__global float16 *)(p) = (v))

/* o = B' d (6 of 6), A' d (4 of 6), A d (6 of 4). */
#define WINO_B(o0, o1, o2, o3, o4, o5, d0, d1, d2, d3, d4, d5)                                     \
    do {                                                                                           \
        const float16 p_ = d4 - 4.0f * d2, q_ = d3 - 4.0f * d1;                                    \
        const float16 r_ = d4 - d2, s_ = 2.0f * (d3 - d1);                                         \
        o0 = 4.0f * (d0 - d2) + r_;                                                                \
        o1 = p_ + q_;                                                                              \
        o2 = p_ - q_;                                                                              \
        o3 = r_ + s_;                                                                              \
        o4 = r_ - s_;                                                                              \
        o5 = d5 - d3 - 2.0f * s_;                                                                  \
    } while (0)
#define WINO_AT(o0, o1, o2, o3, d0, d1, d2, d3, d4, d5)                                            \
    do {                                                                                           \
        const float16 p_ = d1 + d2, q_ = d1 - d2, r_ = d3 + d4, s_ = d3 - d4;                      \
        o0 = d0 + p_ + r_;                                                                         \
        o1 = q_ + 2.0f * s_;                                                                       \
        o2 = p_ + 4.0f * r_;                                                                       \
        o3 = q_ + 8.0f * s_ + d5;                                                                  \
    } while (0)
#define WINO_A(o0, o1, o2, o3, o4, o5, d0, d1, d2, d3)                                             \
    do {                                                                                           \
        const float16 p_ = d0 + d2, q_ = d1 + d3, r_ = d0 + 4.0f * d2, s_ = 2.0f * d1 + 8.0f * d3; \
        o0 = d0;                                                                                   \
        o1 = p_ + q_;                                                                              \
        o2 = p_ - q_;                                                                              \
        o3 = r_ + s_;                                                                              \
        o4 = r_ - s_;                                                                              \
        o5 = d3;                                                                                   \
    } while (0)
/* o = G d (6 of 3), G' d (3 of 6). */
#define WINO_G(o0, o1, o2, o3, o4, o5, d0, d1, d2)                                                 \
    do {                                                                                           \
        const float16 p_ = (d0 + d2) * (-1.0f / 6.0f), q_ = d1 * (-1.0f / 6.0f);                   \
        const float16 r_ = d0 * (1.0f / 24.0f) + d2 * (1.0f / 6.0f), s_ = d1 * (1.0f / 12.0f);     \
        o0 = 0.25f * d0;                                                                           \
        o1 = p_ + q_;                                                                              \
        o2 = p_ - q_;                                                                              \
        o3 = r_ + s_;                                                                              \
        o4 = r_ - s_;                                                                              \
        o5 = d2;                                                                                   \
    } while (0)
#define WINO_GT(o0, o1, o2, d0, d1, d2, d3, d4, d5)                                                \
    do {                                                                                           \
        const float16 p_ = d1 + d2, q_ = d1 - d2, r_ = d3 + d4, s_ = d3 - d4;                      \
        o0 = 0.25f * d0 - p_ * (1.0f / 6.0f) + r_ * (1.0f / 24.0f);                                \
        o1 = s_ * (1.0f / 12.0f) - q_ * (1.0f / 6.0f);                                             \
        o2 = (r_ - p_) * (1.0f / 6.0f) + d5;                                                       \
    } while (0)

/* Tile number t of an image set: image n, tile row y, tile column x. */
typedef struct wino_tile {
    int n, y, x;
} wino_tile;

static inline wino_tile wino_at(int t, int2 grid)
{
    const wino_tile w = {t / (grid.x * grid.y), t / grid.x % grid.y, t % grid.x};

    return w;
}

static inline wino_tile wino_next(wino_tile w, int2 grid)
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
static inline float16 wino_load(__global const float *p, int upper)
{
    return (float16)(LOAD8(p), LOAD8(p + upper));
}

/* Hints at the 4 x 4 pixels of tile w, 128 bytes a row, of two 8-blocks. */
static inline void wino_hint(__global const float *x, int4 xl, int upper, wino_tile w,
                             int write)
{
    __global const float *p = x + (size_t)w.n * xl.w + xl.x + w.y * 4 * xl.y + w.x * 32;

    WINO_UNROLL for (int i = 0; i < 4; ++i)
    {
        if (write) {
            WINO_HINT(p + i * xl.y, 1);
            WINO_HINT(p + i * xl.y + 16, 1);
            WINO_HINT(p + i * xl.y + upper, 1);
            WINO_HINT(p + i * xl.y + upper + 16, 1);
        } else {
            WINO_HINT(p + i * xl.y, 0);
            WINO_HINT(p + i * xl.y + 16, 0);
            WINO_HINT(p + i * xl.y + upper, 0);
            WINO_HINT(p + i * xl.y + upper + 16, 0);
        }
    }
}

/* B' d B of 16 channels of tile w, to out[k * step], k < 36. A 6x6 tile begins one pixel above and
 * left of its outputs; the row and the column after the last are halo. */
#define WINO_INPUT(NAME, SPACE)                                                                    \
    static inline void NAME(__global const float *x, int4 xl, int upper, wino_tile w,              \
                            int2 HW, SPACE float *out, int step)                                   \
    {                                                                                              \
        __global const float *p = x + (size_t)w.n * xl.w + xl.x;                                   \
        float16 r[6][6];                                                                           \
        WINO_UNROLL for (int j = 0; j < 6; ++j) {                                                  \
            const int c = min(w.x * 4 + j - 1, HW.x) * 8;                                          \
            float16 d[6];                                                                          \
            WINO_UNROLL for (int i = 0; i < 6; ++i) d[i] =                                         \
                wino_load(p + min(w.y * 4 + i - 1, HW.y) * xl.y + c, upper);                       \
            WINO_B(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], d[0], d[1], d[2], d[3],   \
                   d[4], d[5]);                                                                    \
        }                                                                                          \
        WINO_UNROLL for (int i = 0; i < 6; ++i) {                                                  \
            float16 v[6];                                                                          \
            WINO_B(v[0], v[1], v[2], v[3], v[4], v[5], r[i][0], r[i][1], r[i][2], r[i][3],         \
                   r[i][4], r[i][5]);                                                              \
            WINO_UNROLL for (int j = 0; j < 6; ++j)                                                \
                *(SPACE float16 *)(out + (i * 6 + j) * step) = v[j];                               \
        }                                                                                          \
    }
WINO_INPUT(wino_input_local, __local)
WINO_INPUT(wino_input_global, __global)

/* Transformed filters; transpose swaps inputs and outputs and turns the filters by 180 degrees,
 * which is what the input gradient needs. */
OSR_KERNEL wino_pack(__global const float *restrict w, int woff, __global float *restrict out,
                     int ooff, int O, int I, int transpose, int OP)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int co = transpose ? I : O, ci = transpose ? O : I, i8 = (ci + 7) / 8 * 8;
    const int so = transpose ? 9 : I * 9, si = transpose ? I * 9 : 9;

    if (og * 16 >= OP)
        return;
    for (int i = ib * 8; i < ib * 8 + 8; ++i) {
        __global float *p = out + ooff + ((size_t)og * 36 * i8 + i) * 16;
        float16 g[9], r[6][3];

        for (int k = 0; k < 9; ++k) {
            float v[16];
            for (int o = 0; o < 16; ++o)
                v[o] = i < ci && og * 16 + o < co
                           ? w[woff + (og * 16 + o) * so + i * si + (transpose ? 8 - k : k)]
                           : 0.0f;
            g[k] = vload16(0, v);
        }
        for (int j = 0; j < 3; ++j)
            WINO_G(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], g[j], g[3 + j], g[6 + j]);
        for (int k = 0; k < 6; ++k) {
            float16 u[6];
            WINO_G(u[0], u[1], u[2], u[3], u[4], u[5], r[k][0], r[k][1], r[k][2]);
            for (int j = 0; j < 6; ++j)
                WINO_STORE16(p + (size_t)(k * 6 + j) * i8 * 16, u[j]);
        }
    }
}

/* m[o][t] = sum over c < C of v[t][c] times u[c] of 16-block o, for WINO_PX tiles. */
#define WINO_PRODUCT(NAME, OB)                                                                     \
    static inline void NAME(__local const float *v, int vstep,                                     \
                            __global const float *u, long ustep, int C,                            \
                            __local float *m)                                                      \
    {                                                                                              \
        float16 acc[OB][WINO_PX];                                                                  \
        WINO_UNROLL for (int o = 0; o < OB; ++o)                                                   \
            WINO_UNROLL for (int t = 0; t < WINO_PX; ++t) acc[o][t] = (float16)(0.0f);             \
        _Pragma("unroll 4") for (int c = 0; c < C; ++c) {                                          \
            float16 w[OB];                                                                         \
            WINO_UNROLL for (int o = 0; o < OB; ++o) w[o] = WINO_LOAD16(u + o * ustep + c * 16);   \
            WINO_UNROLL for (int t = 0; t < WINO_PX; ++t) {                                        \
                const float16 b = (float16)(v[t * vstep + c]);                                     \
                WINO_UNROLL for (int o = 0; o < OB; ++o) acc[o][t] += w[o] * b;                    \
            }                                                                                      \
        }                                                                                          \
        WINO_UNROLL for (int t = 0; t < WINO_PX; ++t)                                              \
            WINO_UNROLL for (int o = 0; o < OB; ++o)                                               \
                *(__local float16 *)(m + t * 32 + o * 16) = acc[o][t];                             \
    }
WINO_PRODUCT(wino_product1, 1)
#if WINO_OB > 1
WINO_PRODUCT(wino_product2, 2)
#endif

static inline float8 wino_mask(float8 v, int cb, int oc)
{
    const int8 lane = (int8)(0, 1, 2, 3, 4, 5, 6, 7) + cb * 8;
    return cb * 8 + 8 <= oc ? v : select((float8)(0.0f), v, lane < oc);
}

/* Writes A' m A of 16 channels, 8-blocks cb and cb + 1, to the pixels of tile w inside the map. */
static inline void wino_output(__local const float *m, int step,
                               __global float *y, int4 yl, wino_tile w, int2 HW, int cb,
                               int OC, __global const float *coef, int after, float slope)
{
    __global float *p =
        y + (size_t)w.n * yl.w + yl.x + cb * yl.z + w.y * 4 * yl.y + w.x * 32;
    const int h = HW.y - w.y * 4, v = HW.x - w.x * 4, both = cb * 8 + 8 < OC;
    const int CB = (OC + 7) / 8;
    float16 r[4][6];

    WINO_UNROLL for (int j = 0; j < 6; ++j)
    {
        float16 d[6];
        WINO_UNROLL for (int i = 0; i < 6; ++i) d[i] =
            *(__local const float16 *)(m + (i * 6 + j) * step);
        WINO_AT(r[0][j], r[1][j], r[2][j], r[3][j], d[0], d[1], d[2], d[3], d[4], d[5]);
    }
    WINO_UNROLL for (int i = 0; i < 4; ++i)
    {
        float16 o[4];
        WINO_AT(o[0], o[1], o[2], o[3], r[i][0], r[i][1], r[i][2], r[i][3], r[i][4], r[i][5]);
        WINO_UNROLL for (int j = 0; j < 4; ++j)
        {
            if (i < h && j < v) {
                STORE8(p + i * yl.y + j * 8,
                       wino_mask(conv_epilogue8(o[j].lo, coef, CB, cb, after, slope), cb, OC));
                if (both)
                    STORE8(p + yl.z + i * yl.y + j * 8,
                           wino_mask(conv_epilogue8(o[j].hi, coef, CB, cb + 1, after, slope),
                                     cb + 1, OC));
            }
        }
    }
}

/* m[t][32] = V U for one k < 36 and one 16-block of outputs, or two (pair), of `used` tiles. */
static inline void wino_products(__local const float *v, int vk, int C16,
                                 __global const float *u, long ustep, int C, int used,
                                 int pair, __local float *m, int k)
{
    for (int t = 0; t < used; t += WINO_PX) {
        __local const float *vt = v + k * vk + t * C16;
        __global const float *uk = u + (long)k * C * 16;
#if WINO_OB > 1
        if (pair)
            wino_product2(vt, C16, uk, ustep, C, m + t * 32);
        else
            wino_product1(vt, C16, uk, ustep, C, m + t * 32);
#else
        wino_product1(vt, C16, uk, ustep, C, m + t * 32);
        if (pair)
            wino_product1(vt, C16, uk + ustep, ustep, C, m + t * 32 + 16);
#endif
    }
}

/* y = convolution of x with the filters of U. T: tiles a work-group, a multiple of 8. scratch:
 * 36 * (T * (C16 + 32) + 32) floats: the transformed tiles [36][T][C16] and, of 32 outputs at a
 * time, the products [36][T][32]; 16 floats more in each of 36 keep them off one cache set. */
OSR_KERNEL wino_conv(__global const float *restrict x, int4 xl, __global const float *restrict u,
                     int uoff, __global float *restrict y, int4 yl, int N, int IB, int OC, int2 HW,
                     __global const float *restrict coef, int after, float slope, int T,
                     __local float16 *restrict scratch)
{
    const int2 grid = (HW + 3) / 4;
    const int t0 = (int)get_group_id(0) * T, tiles = N * grid.x * grid.y, live = min(T, tiles - t0);
    const int used = (live + 7) / 8 * 8, C16 = (IB + 1) / 2 * 16, vk = T * C16 + 16;
    const int mk = T * 32 + 16, o16 = (OC + 15) / 16, og = (int)get_group_id(1);
    const int ng = (int)get_num_groups(1), pairs = (o16 + 1) / 2;
    const long ustep = (long)36 * IB * 128;
    __local float *v = (__local float *)scratch, *m = v + 36 * vk;
    const wino_tile first = wino_at(t0, grid);

    for (int c = 0; c < IB; c += 2) {
        wino_tile w = first;
        for (int t = 0; t < used; ++t) {
            if (c + 2 < IB)
                wino_hint(x + (c + 2) * xl.z, xl, c + 3 < IB ? xl.z : 0, w, 0);
            wino_input_local(x + c * xl.z, xl, c + 1 < IB ? xl.z : 0, w, HW, v + t * C16 + c * 8,
                             vk);
            if (t + 1 < live)
                w = wino_next(w, grid);
        }
    }
    for (int o = pairs * og / ng * 2; o < min(pairs * (og + 1) / ng * 2, o16); o += 2) {
        wino_tile w = first;
        for (int k = 0; k < 36; ++k) {
            if (k < live) {
                for (int b = o; b < min(o + 2, o16); ++b)
                    wino_hint(y + b * 2 * yl.z, yl, b * 16 + 8 < OC ? yl.z : 0, w, 1);
                w = wino_next(w, grid);
            }
            wino_products(v, vk, C16, u + uoff + o * ustep, ustep, IB * 8, used, o + 1 < o16,
                          m + k * mk, k);
        }
        for (int b = o; b < min(o + 2, o16); ++b) {
            w = first;
            for (int t = 0; t < live; ++t, w = wino_next(w, grid))
                wino_output(m + t * 32 + (b - o) * 16, mk, y, yl, w, HW, b * 2, OC, coef,
                            after, slope);
        }
    }
}

/* A d A' of 16 channels of tile w of dy, to out[k * step], k < 36. */
static inline void wino_grad(__global const float *dy, int4 dyl, int upper, wino_tile w,
                             int2 HW, __global float *out, int step)
{
    __global const float *p = dy + (size_t)w.n * dyl.w + dyl.x;
    float16 r[6][4];

    WINO_UNROLL for (int j = 0; j < 4; ++j)
    {
        const int c = min(w.x * 4 + j, HW.x) * 8;
        float16 d[4];
        WINO_UNROLL for (int i = 0; i < 4; ++i) d[i] =
            wino_load(p + min(w.y * 4 + i, HW.y) * dyl.y + c, upper);
        WINO_A(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], d[0], d[1], d[2], d[3]);
    }
    WINO_UNROLL for (int i = 0; i < 6; ++i)
    {
        float16 v[6];
        WINO_A(v[0], v[1], v[2], v[3], v[4], v[5], r[i][0], r[i][1], r[i][2], r[i][3]);
        WINO_UNROLL for (int j = 0; j < 6; ++j) WINO_STORE16(out + (i * 6 + j) * step, v[j]);
    }
}

/* V and D of tiles t0 .. t0 + T - 1 of x and dy, into vd of
 * 36 * (T * (C16 + O16) + 32) floats. */
OSR_KERNEL wino_wgrad_tiles(__global const float *restrict x, int4 xl,
                            __global const float *restrict dy, int4 dyl,
                            __global float *restrict vd, int C, int O, int2 HW, int t0, int T)
{
    const int2 grid = (HW + 3) / 4;
    const int c16 = (C + 15) / 16, o16 = (O + 15) / 16, b = (int)get_group_id(1);
    const int first = (int)get_group_id(0) * 16, last = min(first + 16, T);
    const int vk = c16 * T * 16 + 16, dk = o16 * T * 16 + 16;
    wino_tile w = wino_at(t0 + first, grid), ahead = w;
    const int4 l = b < c16 ? xl : dyl;
    const int j = b < c16 ? b : b - c16, upper = j * 16 + 8 < (b < c16 ? C : O) ? l.z : 0;
    __global const float *p = (b < c16 ? x : dy) + j * 2 * l.z;
    __global float *out = vd + (b < c16 ? 0 : (size_t)36 * vk) + (size_t)j * T * 16;

    for (int t = first - WINO_AHEAD; t < last; ++t) {
        if (t + WINO_AHEAD < last) {
            wino_hint(p, l, upper, ahead, 0);
            ahead = wino_next(ahead, grid);
        }
        if (t < first)
            continue;
        if (b < c16)
            wino_input_global(p, xl, upper, w, HW, out + t * 16, vk);
        else
            wino_grad(p, dyl, upper, w, HW, out + t * 16, dk);
        w = wino_next(w, grid);
    }
}

/* du[o][i] (+)= sum over T tiles of d (16-block o) times v (lane i), WINO_PX lanes. */
#define WINO_OUTER(NAME, OB)                                                                       \
    static inline void NAME(__global const float *v, __global const float *d,                      \
                            int T, int add, __global float *du, int dustep)                        \
    {                                                                                              \
        float16 acc[OB][WINO_PX];                                                                  \
        WINO_UNROLL for (int o = 0; o < OB; ++o)                                                   \
            WINO_UNROLL for (int i = 0; i < WINO_PX; ++i) acc[o][i] = (float16)(0.0f);             \
        _Pragma("unroll 2") for (int t = 0; t < T; ++t) {                                          \
            float16 w[OB];                                                                         \
            WINO_UNROLL for (int o = 0; o < OB; ++o) w[o] = WINO_LOAD16(d + (o * T + t) * 16);     \
            WINO_UNROLL for (int i = 0; i < WINO_PX; ++i) {                                        \
                const float16 b = (float16)(v[t * 16 + i]);                                        \
                WINO_UNROLL for (int o = 0; o < OB; ++o) acc[o][i] += w[o] * b;                    \
            }                                                                                      \
        }                                                                                          \
        WINO_UNROLL for (int o = 0; o < OB; ++o)                                                   \
            WINO_UNROLL for (int i = 0; i < WINO_PX; ++i) {                                        \
                __global float *p = du + o * dustep + i * 576;                                     \
                WINO_STORE16(p, add ? WINO_LOAD16(p) + acc[o][i] : acc[o][i]);                     \
            }                                                                                      \
    }
WINO_OUTER(wino_outer1, 1)
#if WINO_OB > 1
WINO_OUTER(wino_outer2, 2)
#endif

/* dU (+)= V' D over the T tiles in vd; add 0 overwrites dU. */
OSR_KERNEL wino_wgrad_product(__global const float *restrict vd, __global float *restrict du, int C,
                              int O, int T, int add)
{
    const int k = (int)get_group_id(1), c16 = (C + 15) / 16, o16 = (O + 15) / 16;
    const int i0 = (int)get_group_id(0) * 32, i1 = min(i0 + 32, c16 * 16);
    const int vk = c16 * T * 16 + 16, dk = o16 * T * 16 + 16, dustep = c16 * 16 * 576;
    __global const float *v = vd + (size_t)k * vk;
    __global const float *d = vd + (size_t)36 * vk + (size_t)k * dk;

    du += k * 16;
    for (int o = 0; o < o16; o += WINO_OB)
        for (int i = i0; i < i1; i += WINO_PX) {
            __global const float *vi = v + (size_t)(i / 16) * T * 16 + i % 16;
            __global float *out = du + (size_t)o * dustep + i * 576;
#if WINO_OB > 1
            if (o + 1 < o16)
                wino_outer2(vi, d + (size_t)o * T * 16, T, add, out, dustep);
            else
#endif
                wino_outer1(vi, d + (size_t)o * T * 16, T, add, out, dustep);
        }
}

/* dw [O][C][3][3] at dwoff (+)= G' dU G; accumulate 0 overwrites. */
OSR_KERNEL wino_wgrad_filter(__global const float *restrict du, __global float *restrict dw,
                             int dwoff, int C, int O, int accumulate)
{
    const int o = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int c16 = (C + 15) / 16;

    for (int i = ib * 8; i < min(ib * 8 + 8, C); ++i) {
        __global const float *p = du + ((size_t)o * c16 * 16 + i) * 576;
        float16 r[3][6];

        for (int j = 0; j < 6; ++j)
            WINO_GT(r[0][j], r[1][j], r[2][j], WINO_LOAD16(p + j * 16),
                    WINO_LOAD16(p + (6 + j) * 16), WINO_LOAD16(p + (12 + j) * 16),
                    WINO_LOAD16(p + (18 + j) * 16), WINO_LOAD16(p + (24 + j) * 16),
                    WINO_LOAD16(p + (30 + j) * 16));
        for (int k = 0; k < 3; ++k) {
            float16 g[3];
            WINO_GT(g[0], g[1], g[2], r[k][0], r[k][1], r[k][2], r[k][3], r[k][4], r[k][5]);
            for (int j = 0; j < 3; ++j) {
                float s[16];
                vstore16(g[j], 0, s);
                for (int l = 0; l < min(16, O - o * 16); ++l) {
                    const size_t at = dwoff + ((size_t)(o * 16 + l) * C + i) * 9 + k * 3 + j;
                    dw[at] = accumulate ? dw[at] + s[l] : s[l];
                }
            }
        }
    }
}
