/* winograd_cpu.cl - Winograd for 3x3 convolutions and their gradients, CPU family
 *
 * Stride 1, padding 1: F(4x4, 3x3), Y = A' ((G g G') * (B' d B)) A for each 6x6 input tile d and
 * filter g, at the points 0, 1, -1, 2, -2 and infinity: 36 products instead of 144.
 *
 * Stride 2: with padding p (0 or 1 above, y, and left, x), output r of one dimension is w0 x[2r-p]
 * + w1 x[2r+1-p] + w2 x[2r+2-p]. The even samples (from -p on) meet two taps: F(4, 2) needs 5
 * products for 4 outputs, at the points 0, 1, -1, 2 and infinity. The odd samples meet one tap: 4
 * products, no transformation. Both together are one algorithm of 9 points, used in both
 * dimensions: 81 products for 4x4 outputs. The 4 odd points share one filter value, so that only
 * 6x6 filter values are distinct. The input gradient is the same algorithm from 5x5 inputs dy to
 * 8x8 outputs dx. Point k of (a, b), a, b < 9, odd from 5 on: the 25 even ones, then even rows with
 * odd columns, odd rows with even columns, and the 16 odd ones, so that points of one filter value
 * follow one another.
 *
 * Tiles are numbered through all images, so that small maps fill a register block too. Images need
 * a halo of 1 or more; what lies beyond a map is read from it, so no size need be a multiple of a
 * tile's. A float16 holds 16 channels; C16 and O16 are the channels rounded up to 16. Offsets of U
 * are multiples of 16 floats. Every kernel has local size 1, 1, 1.
 *
 *   U  [O16/16][36][8*ceil(C/8)][16]               transformed filters
 *   dU [S][36][O16/16][C16][16]                    their gradient, in S parts
 *   V  [C16/16][T][P][16]   transformed tiles of x, in `vd`: the P points (37, the last unused, or
 *   D  [O16/16][T][P][16]   81) of a tile lie together, written in one go; of dy, after V
 *
 * Launch geometry (global size), NT = N * ceil(OH/4) * ceil(OW/4), for the input gradient of stride
 * 2 N * ceil(H/8) * ceil(W/8):
 *   wino_pack                 O'16/16, ceil(I'/32), 1   O', I': after the transposition
 *   wino_conv, wino2_conv     ceil(NT / T), G, 1        G groups share the outputs; usually 1; T: a
 *                                                       multiple of 8
 *   wino_wgrad                S, G, 1                   S <= NT; G groups share the outputs
 *   wino_wgrad_filter         O16/16, ceil(C / 8), 1    after it */
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

/* HINT, but the first-level cache. */
#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#define WINO_SOON(p) __builtin_prefetch((const void *)(size_t)(p), 0, 3)
#else
#define WINO_SOON(p) ((void)(p))
#endif

#define WINO_UNROLL _Pragma("unroll")
#define WINO_LOOP _Pragma("unroll 1")
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

/* Hints at the size x size pixels of tile w, 8 floats each, of two 8-blocks. */
static inline void wino_hint(__global const float *x, int4 xl, int upper, wino_tile w, int size)
{
    __global const float *p = x + (size_t)w.n * xl.w + xl.x + w.y * size * xl.y + w.x * size * 8;

    for (int i = 0; i < size; ++i, p += xl.y)
        for (int j = 0; j < size * 8; j += 16) {
            HINT(p + j);
            HINT(p + j + upper);
        }
}

/* An image set as it is transformed, 16 channels of one image at a time: as it is, or activated,
 * leaky(x scale + shift). */
typedef struct wino_source {
    __global const float *all, *p, *coef; /* p: of the image and channels */
    int4 l;
    int2 HW;
    int C, cstep, upper;
    float slope;
    float16 scale, shift;
} wino_source;

/* Moves to 16-block c of image n. coef: [2][8*ceil(C/8)], scale and shift, of each image, cstep
 * floats apart; 0: the same for all; -1: scale 1, shift 0. */
static inline void wino_source_at(wino_source *s, int n, int c)
{
    s->p = s->all + (size_t)n * s->l.w + s->l.x + c * 2 * s->l.z;
    s->upper = c * 16 + 8 < s->C ? s->l.z : 0;
    if (s->cstep >= 0) {
        __global const float *k = s->coef + (size_t)n * s->cstep + c * 16;
        const int C8 = (s->C + 7) / 8 * 8, up = s->upper != 0 ? 8 : 0;
        s->scale = (float16)(LOAD8(k), LOAD8(k + up));
        s->shift = (float16)(LOAD8(k + C8), LOAD8(k + C8 + up));
    }
}

static inline float16 wino_value(const wino_source *s, int y, int x)
{
    return wino_load(s->p + min(y, s->HW.y) * s->l.y + min(x, s->HW.x) * 8, s->upper);
}

static inline float wino_inside(int i, int size)
{
    return (uint)i < (uint)size ? 1.0f : 0.0f;
}

/* The same activated, 0 <= slope <= 1. The halo is zero: only the shift must be kept out of it. */
static inline float16 wino_active(const wino_source *s, int y, int x, float16 shift)
{
    const float16 v = wino_value(s, y, x) * s->scale + shift, low = v * s->slope;
    return select(low, v, v > low);
}

/* B' d B of a 6x6 tile, act: activated, to out[k * step], k < 36. The tile begins one pixel above
 * and left of its outputs; the row and the column after the last are halo. */
#define WINO_INPUT(NAME, SPACE)                                                                    \
    static inline void NAME(const wino_source *s, wino_tile w, int act, SPACE float *out,          \
                            int step)                                                              \
    {                                                                                              \
        const int y = w.y * 4 - 1;                                                                 \
        float16 r[6][6];                                                                           \
        WINO_LOOP for (int j = 0; j < 6; ++j) {                                                    \
            const int x = w.x * 4 - 1 + j;                                                         \
            const float16 shift = s->shift * wino_inside(x, s->HW.x);                              \
            float16 d[6];                                                                          \
            WINO_UNROLL for (int i = 0; i < 6; ++i) d[i] =                                         \
                act ? wino_active(s, y + i, x, shift * wino_inside(y + i, s->HW.y))                \
                    : wino_value(s, y + i, x);                                                     \
            WINO_B(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], d[0], d[1], d[2], d[3],   \
                   d[4], d[5]);                                                                    \
        }                                                                                          \
        WINO_LOOP for (int i = 0; i < 6; ++i) {                                                    \
            float16 v[6];                                                                          \
            WINO_B(v[0], v[1], v[2], v[3], v[4], v[5], r[i][0], r[i][1], r[i][2], r[i][3],         \
                   r[i][4], r[i][5]);                                                              \
            WINO_UNROLL for (int j = 0; j < 6; ++j)                                                \
                *(SPACE float16 *)(out + (i * 6 + j) * step) = v[j];                               \
        }                                                                                          \
    }
WINO_INPUT(wino_input_local, __local)
WINO_INPUT(wino_input_global, __global)

/* The tiles a work-group transforms: `live` of them, and up to `used` the last one again. */
typedef struct wino_group {
    wino_tile first, last;
    int2 grid;
    int live, used;
} wino_group;

/* Tiles t0 .. t0 + T - 1, as far as they are below end. */
static inline wino_group wino_group_at(int t0, int T, int end, int2 grid)
{
    const int live = min(T, end - t0);
    const wino_group g = {wino_at(t0, grid), wino_at(t0 + live - 1, grid), grid, live,
                          (live + 7) / 8 * 8};

    return g;
}

/* All channels of a work-group's tiles, transformed, to v[36][T][C16], `step` floats a point;
 * act: activated. */
OSR_PART wino_inputs(const wino_source *source, const wino_group *group, int act,
                     __local float *restrict v, int step)
{
    wino_source s = *source;
    const wino_group g = *group;
    const int C16 = (s.C + 15) / 16 * 16;

    for (int c = 0; c < s.C; c += 16) {
        wino_tile w = g.first;
        for (int t = 0; t < g.used; ++t) {
            if (c + 16 < s.C)
                wino_hint(s.all + (c / 8 + 2) * s.l.z, s.l, c + 24 < s.C ? s.l.z : 0, w, 4);
            wino_source_at(&s, w.n, c / 16);
            if (act)
                wino_input_local(&s, w, 1, v + t * C16 + c, step);
            else
                wino_input_local(&s, w, 0, v + t * C16 + c, step);
            if (t + 1 < g.live)
                w = wino_next(w, g.grid);
        }
    }
}

/* What is brought into the cache while products keep the core busy: the rows that a group of tiles
 * covers, all rows of both images where it goes from one into the next, in `chunks` pieces of
 * `lines` lines of 64 bytes, `blocks` of each image, a plane apart. The next line is `line` of
 * piece `chunk`; below 0 there is some time left. */
typedef struct wino_fetch {
    __global const float *p;
    int plane, image, blocks, chunks, lines, chunk, line;
} wino_fetch;

/* Of `blocks` 8-blocks of x the tiles of g, size x size pixels each. */
static inline wino_fetch wino_fetch_tiles(__global const float *x, int4 l, int blocks, int size,
                                          const wino_group *g)
{
    const wino_tile a = g->first, b = g->last;
    const int whole = a.n != b.n, y = whole ? 0 : a.y, rows = whole ? g->grid.y : b.y + 1 - y;
    const wino_fetch f = {x + (size_t)a.n * l.w + l.x + y * size * l.y, l.z, l.w, blocks,
                          g->live > 0 ? blocks * (b.n + 1 - a.n) : 0, rows * size * l.y / 16, 0, 0};

    return f;
}

/* Puts it off as far as `room` lines, fetched or not, allow. */
static inline void wino_fetch_late(wino_fetch *f, int room)
{
    f->line = min(0, f->lines * f->chunks - room + room / 8);
}

/* Where the next n lines begin, to be walked in steps of *step: 0 where there is nothing to do. */
static inline __global const float *wino_fetch_next(wino_fetch *f, int n, int *step)
{
    __global const float *p = f->p;

    *step = 0;
    if (f->line >= f->lines) {
        f->line = 0;
        ++f->chunk;
    }
    if (f->line >= 0 && f->chunk < f->chunks) {
        p += (size_t)(f->chunk / f->blocks) * f->image + f->chunk % f->blocks * f->plane
             + f->line * 16;
        *step = 16;
    }
    f->line += n;
    return p;
}

/* m[t][o] = sum over c < C of v[t][c] times u[c] of 16-block o < WINO_OB, for WINO_PX tiles. Of two
 * fetches a line every 8 channels: more at a time would keep the products waiting. */
static inline void wino_product(__local const float *v, int vstep, __global const float *u,
                                long ustep, int C, __local float *m, wino_fetch *f)
{
    int xstep, ystep;
    __global const float *x = wino_fetch_next(f, C / 8, &xstep);
    __global const float *y = wino_fetch_next(f + 1, C / 8, &ystep);
    float16 acc[WINO_OB][WINO_PX];

    WINO_UNROLL for (int o = 0; o < WINO_OB; ++o)
        WINO_UNROLL for (int t = 0; t < WINO_PX; ++t) acc[o][t] = (float16)(0.0f);
    for (int c0 = 0; c0 < C; c0 += 8, x += xstep, y += ystep) {
        HINT(x);
        HINT(y);
        _Pragma("unroll 4") for (int c = c0; c < c0 + 8; ++c)
        {
            float16 w[WINO_OB];
            WINO_UNROLL for (int o = 0; o < WINO_OB; ++o) w[o] =
                WINO_LOAD16(u + o * ustep + c * 16);
            WINO_UNROLL for (int t = 0; t < WINO_PX; ++t)
            {
                const float16 b = (float16)(v[t * vstep + c]);
                WINO_UNROLL for (int o = 0; o < WINO_OB; ++o) acc[o][t] += w[o] * b;
            }
        }
    }
    WINO_UNROLL for (int t = 0; t < WINO_PX; ++t)
        WINO_UNROLL for (int o = 0; o < WINO_OB; ++o)
            *(__local float16 *)(m + t * 32 + o * 16) = acc[o][t];
}

/* What a convolution writes to: y of HW pixels; what follows; stats: row g of G of the batch
 * statistics in part. pad, transpose: of stride 2. */
typedef struct wino_result {
    __global float *y;
    int4 yl;
    int2 HW, pad;
    int transpose;
    conv_after after;
    __global float *part;
    int stats, g, G;
} wino_result;

/* Writes A' m A of 16 channels, 8-blocks cb and cb + 1, to the pixels of tile w inside the map;
 * stats: adds them to `sums`. */
static inline void wino_output(__local const float *m, int step, const wino_result *s,
                               wino_tile w, int cb, conv_sums *sums)
{
    const int4 l = s->yl;
    __global float *p =
        s->y + (size_t)w.n * l.w + l.x + cb * l.z + w.y * 4 * l.y + w.x * 32;
    const int h = s->HW.y - w.y * 4, v = s->HW.x - w.x * 4;
    float16 r[4][6];

    WINO_LOOP for (int j = 0; j < 6; ++j)
    {
        float16 d[6];
        WINO_UNROLL for (int i = 0; i < 6; ++i) d[i] =
            *(__local const float16 *)(m + (i * 6 + j) * step);
        WINO_AT(r[0][j], r[1][j], r[2][j], r[3][j], d[0], d[1], d[2], d[3], d[4], d[5]);
    }
    WINO_LOOP for (int i = 0; i < 4; ++i)
    {
        float16 o[4];
        WINO_AT(o[0], o[1], o[2], o[3], r[i][0], r[i][1], r[i][2], r[i][3], r[i][4], r[i][5]);
        if (s->stats && i == 0 && sums->count == 0.0f)
            sums->pivot = o[0];
        WINO_UNROLL for (int j = 0; j < 4; ++j)
        {
            if (i < h && j < v) {
                if (s->stats)
                    conv_sums_add(sums, o[j]);
                conv_after_put(&s->after, p + i * l.y + j * 8, o[j]);
            }
        }
    }
    if (s->stats)
        sums->count += (float)(min(h, 4) * min(v, 4));
}

/* Writes 16-block b of all of a work-group's tiles, m [36][T][32], `step` floats a point. */
OSR_PART wino_outputs(__local const float *restrict m, int step, const wino_result *result,
                      const wino_group *group, int b)
{
    wino_result s = *result;
    const wino_group g = *group;
    conv_sums sums = {0.0f, 0.0f, 0.0f, 0.0f};
    wino_tile w = g.first;

    conv_after_at(&s.after, b);
    for (int t = 0; t < g.live; ++t, w = wino_next(w, g.grid))
        wino_output(m + t * 32, step, &s, w, b * 2, &sums);
    if (s.stats)
        conv_sums_put(&sums, s.part, s.g, s.G, b * 2, s.after.C);
}

/* m[t][32] = V U for one point and two 16-blocks of outputs, of `used` tiles; pair 0: there is only
 * the first, what the second becomes does not matter. fetch: two of them. */
OSR_PART wino_products(__local const float *restrict v, int C16, __global const float *restrict u,
                       long ustep, int C, int used, int pair, __local float *restrict m,
                       wino_fetch *fetch)
{
    for (int b = 0; b < 1 + pair; b += WINO_OB)
        for (int t = 0; t < used; t += WINO_PX)
            wino_product(v + t * C16, C16, u + b * ustep, pair ? ustep : 0, C,
                         m + t * 32 + b * 16, fetch);
}

/* y = convolution of x, as before, cstep and bslope say (see wino_source_at), with the filters of
 * U; then what conv_after says. stats 1: batch statistics of y to part (see conv_sums_put). T:
 * tiles a work-group, a multiple of 8. scratch: 36 * (T * (C16 + 32) + 32) floats: the transformed
 * tiles [36][T][C16] and, of 32 outputs at a time, the products [36][T][32]; 16 floats more in each
 * of 36 keep them off one cache set. */
OSR_KERNEL wino_conv(__global const float *restrict x, int4 xl, __global const float *restrict u,
                     int uoff, __global float *restrict y, int4 yl, int N, int IB, int OC, int2 HW,
                     __global const float *restrict coef, int after, float slope,
                     __global const float *restrict before, int cstep, float bslope,
                     __global float *restrict part, int stats, int T,
                     __local float16 *restrict scratch)
{
    const int t0 = (int)get_group_id(0) * T, OB = (OC + 7) / 8;
    const int2 grid = (HW + 3) / 4;
    const wino_group g = wino_group_at(t0, T, N * grid.x * grid.y, grid);
    const wino_group next = wino_group_at(t0 + T, T, N * grid.x * grid.y, grid);
    const wino_source s = {x, 0, before, xl, HW, IB * 8, cstep, 0, bslope, 1.0f, 0.0f};
    const wino_result r = {y, yl, HW, 0, 0, conv_after_of(coef, after, slope, OC, yl.z), part,
                           stats, (int)get_group_id(0), (int)get_num_groups(0)};
    const int C16 = (IB + 1) / 2 * 16, vk = T * C16 + 16;
    const int mk = T * 32 + 16, o16 = (OC + 15) / 16, og = (int)get_group_id(1);
    const int ng = (int)get_num_groups(1), pairs = (o16 + 1) / 2;
    const long ustep = (long)36 * IB * 128;
    __local float *v = (__local float *)scratch, *m = v + 36 * vk;
    wino_fetch fetch[2];

    fetch[0] = wino_fetch_tiles(x, xl, IB, 4, &next);
    wino_inputs(&s, &g, cstep >= 0, v, vk);
    for (int o = pairs * og / ng * 2; o < min(pairs * (og + 1) / ng * 2, o16); o += 2) {
        fetch[1] = wino_fetch_tiles(y + o * 2 * yl.z, yl, min(4, OB - o * 2), 4, &g);
        wino_fetch_late(&fetch[1], 36 * g.used / WINO_PX * IB);
        for (int k = 0; k < 36; ++k)
            wino_products(v + k * vk, C16, u + uoff + o * ustep + (long)k * IB * 128, ustep, IB * 8,
                          g.used, o + 1 < o16, m + k * mk, fetch);
        for (int b = o; b < min(o + 2, o16); ++b)
            wino_outputs(m + (b - o) * 16, mk, &r, &g, b);
    }
}

/* ---- stride 2 ---- */

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

/* The 81 values of 16 channels of tile w, to out[k * step]: of 9x9 pixels of x, act: activated,
 * from pad above and left of pixel (8y, 8x) on, or (transposed) of 5x5 of dy from 1 - pad above
 * and left of (4y, 4x). */
static inline void wino2_input(const wino_source *s, wino_tile w, int2 pad, int transpose, int act,
                               __local float *out, int step)
{
    const int2 at = (int2)(w.x, w.y) * (transpose ? 4 : 8) - (transpose ? 1 - pad : pad);
    const int size = transpose ? 5 : 9;
    float16 r[9][9];

    WINO_LOOP for (int j = 0; j < size; ++j)
    {
        const int x = at.x + j;
        const float16 shift = s->shift * wino_inside(x, s->HW.x);
        float16 d[9], e[5];
        if (transpose) {
            WINO_UNROLL for (int i = 0; i < 5; ++i) d[i] = wino_value(s, at.y + i, x);
            WINO2_B(e, d[0], d[1], d[2], d[3], d[4]);
            WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = pad.y ? d[i] : d[i + 1];
        } else {
            if (act)
                WINO_UNROLL for (int i = 0; i < 9; ++i) d[i] =
                    wino_active(s, at.y + i, x, shift * wino_inside(at.y + i, s->HW.y));
            else
                WINO_UNROLL for (int i = 0; i < 9; ++i) d[i] = wino_value(s, at.y + i, x);
            WINO2_B(e, d[0], d[2], d[4], d[6], d[8]);
            WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = d[2 * i + 1];
        }
        WINO_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];
    }
    WINO_LOOP for (int a = 0; a < 9; ++a)
    {
        __local float *even = out + WINO2_EROW0(a) * step, *odd = out + WINO2_OROW0(a) * step;
        const int estep = WINO2_EROW(a) * step;
        const int first = transpose ? 1 - pad.x : 1, by = transpose ? 1 : 2;
        float16 e[5];
        if (transpose)
            WINO2_B(e, r[a][0], r[a][1], r[a][2], r[a][3], r[a][4]);
        else
            WINO2_B(e, r[a][0], r[a][2], r[a][4], r[a][6], r[a][8]);
        WINO_UNROLL for (int b = 0; b < 5; ++b) *(__local float16 *)(even + b * estep) = e[b];
        WINO_UNROLL for (int b = 0; b < 4; ++b)
            *(__local float16 *)(odd + b * step) = r[a][first + b * by];
    }
}

/* wino_inputs of stride 2: v[81][T][C16]; transpose: of its input gradient. */
OSR_PART wino2_inputs(const wino_source *source, const wino_group *group, int2 pad, int transpose,
                      __local float *restrict v, int step)
{
    wino_source s = *source;
    const wino_group g = *group;
    const int C16 = (s.C + 15) / 16 * 16;

    for (int c = 0; c < s.C; c += 16) {
        wino_tile w = g.first;
        for (int t = 0; t < g.used; ++t) {
            if (c + 16 < s.C)
                wino_hint(s.all + (c / 8 + 2) * s.l.z, s.l, c + 24 < s.C ? s.l.z : 0, w,
                          transpose ? 4 : 8);
            wino_source_at(&s, w.n, c / 16);
            if (transpose)
                wino2_input(&s, w, pad, 1, 0, v + t * C16 + c, step);
            else
                wino2_input(&s, w, pad, 0, s.cstep >= 0, v + t * C16 + c, step);
            if (t + 1 < g.live)
                w = wino_next(w, g.grid);
        }
    }
}

/* Writes 16 channels, 8-blocks cb and cb + 1, to the pixels of tile w inside the map: 4x4, or
 * (transposed) 8x8, of which the even points make the rows and columns 2i + pad. */
static inline void wino2_output(__local const float *m, int step, const wino_result *s,
                                wino_tile w, int cb, conv_sums *sums)
{
    const int size = s->transpose ? 8 : 4, h = s->HW.y - w.y * size, v = s->HW.x - w.x * size;
    const int4 l = s->yl;
    const int2 pad = s->pad;
    __global float *p =
        s->y + (size_t)w.n * l.w + l.x + cb * l.z + w.y * size * l.y + w.x * size * 8;
    float16 r[8][9];

    WINO_LOOP for (int b = 0; b < 9; ++b)
    {
        __local const float *even = m + WINO2_ECOL0(b) * step, *odd = m + WINO2_OCOL0(b) * step;
        const int es = WINO2_ECOL(b) * step, os = WINO2_OCOL(b) * step;
        float16 d[5], e[4];
        WINO_UNROLL for (int i = 0; i < 5; ++i) d[i] = *(__local const float16 *)(even + i * es);
        WINO2_AT(e, d[0], d[1], d[2], d[3], d[4]);
        WINO_UNROLL for (int i = 0; i < 4; ++i)
        {
            const float16 o = *(__local const float16 *)(odd + i * os);
            r[i][b] = s->transpose ? e[i] : e[i] + o;
            if (s->transpose)
                r[4 + i][b] = o;
        }
    }
    WINO_LOOP for (int i = 0; i < size; ++i)
    {
        const int y = !s->transpose ? i : i < 4 ? 2 * i + pad.y : 2 * (i - 4) + 1 - pad.y;
        float16 e[4];
        if (y >= h)
            continue;
        WINO2_AT(e, r[i][0], r[i][1], r[i][2], r[i][3], r[i][4]);
        if (s->transpose) {
            WINO_UNROLL for (int j = 0; j < 4; ++j)
            {
                if (2 * j + pad.x < v)
                    conv_after_put(&s->after, p + y * l.y + (2 * j + pad.x) * 8, e[j]);
                if (2 * j + 1 - pad.x < v)
                    conv_after_put(&s->after, p + y * l.y + (2 * j + 1 - pad.x) * 8, r[i][5 + j]);
            }
        } else {
            if (sums->count == 0.0f)
                sums->pivot = e[0] + r[i][5];
            WINO_UNROLL for (int j = 0; j < 4; ++j)
                if (j < v) {
                    const float16 o = e[j] + r[i][5 + j];
                    if (s->stats)
                        conv_sums_add(sums, o);
                    conv_after_put(&s->after, p + y * l.y + j * 8, o);
                }
            sums->count += (float)min(v, 4);
        }
    }
}

/* wino_outputs of stride 2: m [81][T][32]. */
OSR_PART wino2_outputs(__local const float *restrict m, int step, const wino_result *result,
                       const wino_group *group, int b)
{
    wino_result s = *result;
    const wino_group g = *group;
    conv_sums sums = {0.0f, 0.0f, 0.0f, 0.0f};
    wino_tile w = g.first;

    conv_after_at(&s.after, b);
    for (int t = 0; t < g.live; ++t, w = wino_next(w, g.grid))
        wino2_output(m + t * 32, step, &s, w, b * 2, &sums);
    if (s.stats)
        conv_sums_put(&sums, s.part, s.g, s.G, b * 2, s.after.C);
}

/* y = convolution of x with the filters of U, or (transpose 1, U packed so, x = dy, y = dx, nothing
 * before) its input gradient. XHW, YHW: the sizes of x and y. The rest as in wino_conv; scratch: 81
 * * (T * (C16 + 32) + 32) floats. */
OSR_KERNEL wino2_conv(__global const float *restrict x, int4 xl, __global const float *restrict u,
                      int uoff, __global float *restrict y, int4 yl, int N, int IB, int OC,
                      int2 XHW, int2 YHW, int2 pad, int transpose,
                      __global const float *restrict coef, int after, float slope,
                      __global const float *restrict before, int cstep, float bslope,
                      __global float *restrict part, int stats, int T,
                      __local float16 *restrict scratch)
{
    const int size = transpose ? 8 : 4, t0 = (int)get_group_id(0) * T, OB = (OC + 7) / 8;
    const int2 grid = (YHW + size - 1) / size;
    const wino_group g = wino_group_at(t0, T, N * grid.x * grid.y, grid);
    const wino_group next = wino_group_at(t0 + T, T, N * grid.x * grid.y, grid);
    const wino_source s = {x, 0, before, xl, XHW, IB * 8, cstep, 0, bslope, 1.0f, 0.0f};
    const wino_result r = {y, yl, YHW, pad, transpose,
                           conv_after_of(coef, after, slope, OC, yl.z), part, stats,
                           (int)get_group_id(0), (int)get_num_groups(0)};
    const int C16 = (IB + 1) / 2 * 16, vk = T * C16 + 16;
    const int mk = T * 32 + 16, o16 = (OC + 15) / 16, og = (int)get_group_id(1);
    const int ng = (int)get_num_groups(1), pairs = (o16 + 1) / 2;
    const long ustep = (long)36 * IB * 128;
    __local float *v = (__local float *)scratch, *m = v + 81 * vk;
    wino_fetch fetch[2];

    fetch[0] = wino_fetch_tiles(x, xl, IB, transpose ? 4 : 8, &next);
    wino2_inputs(&s, &g, pad, transpose, v, vk);
    for (int o = pairs * og / ng * 2; o < min(pairs * (og + 1) / ng * 2, o16); o += 2) {
        fetch[1] = wino_fetch_tiles(y + o * 2 * yl.z, yl, min(4, OB - o * 2), size, &g);
        wino_fetch_late(&fetch[1], 81 * g.used / WINO_PX * IB);
        for (int k = 0; k < 81; ++k)
            wino_products(v + k * vk, C16,
                          u + uoff + o * ustep + (long)WINO2_FILTER(k) * IB * 128, ustep, IB * 8,
                          g.used, o + 1 < o16, m + k * mk, fetch);
        for (int b = o; b < min(o + 2, o16); ++b)
            wino2_outputs(m + (b - o) * 16, mk, &r, &g, b);
    }
}

/* ---- filters and their gradient, both strides ---- */

/* o = G' d (3 of 6) of stride 2. */
#define WINO2_GT(o0, o1, o2, d0, d1, d2, d3, d4, d5)                                               \
    do {                                                                                           \
        o0 = 0.5f * (d0 - d1) + (d3 - d2) * (1.0f / 6.0f);                                         \
        o1 = d5;                                                                                   \
        o2 = d4 - 0.5f * d1 + d2 * (1.0f / 6.0f) + d3 * (1.0f / 3.0f);                             \
    } while (0)

/* G g G' of 16 filters, to u[8 k]; stride 2 in the order of WINO2_VALUE. */
static inline void wino_filter(const float16 *g, int stride, float16 *u)
{
    float16 r[3][6], o[6];

    for (int j = 0; j < 3; ++j)
        if (stride == 1)
            WINO_G(r[j][0], r[j][1], r[j][2], r[j][3], r[j][4], r[j][5], g[j], g[3 + j], g[6 + j]);
        else
            WINO2_G(r[j], g[j], g[3 + j], g[6 + j]);
    for (int a = 0; a < 6; ++a) {
        if (stride == 1)
            WINO_G(o[0], o[1], o[2], o[3], o[4], o[5], r[0][a], r[1][a], r[2][a]);
        else
            WINO2_G(o, r[0][a], r[1][a], r[2][a]);
        for (int b = 0; b < 6; ++b)
            u[8 * (stride == 1 ? a * 6 + b : WINO2_VALUE(a, b))] = o[b];
    }
}

/* Transformed filters of `no` outputs and the inputs from `first` to before `last`, of ci, the
 * weights of which lie so and si apart; transpose turns them by 180 degrees. */
OSR_PART wino_filters(__global const float *restrict w, __global float *restrict u, int ci, int no,
                      int so, int si, int first, int last, int transpose, int stride)
{
    const int i8 = (ci + 7) / 8 * 8;
    float t[8][9][16];
    float16 b[36][8]; /* filters of 8 inputs together, so that 512 bytes are written at a time */

    ROLLED for (int i = 0; i < 72; ++i)
        vstore16((float16)(0.0f), i, t[0][0]);
    for (int i0 = first; i0 < last; i0 += 8, u += 128) {
        const int ni = max(min(8, ci - i0), 0);
        ROLLED for (int o = 0; o < no; ++o)
            ROLLED for (int i = 0; i < ni; ++i)
            {
                __global const float *p = w + o * so + (i0 + i) * si;
                WINO_UNROLL for (int k = 0; k < 9; ++k) t[i][k][o] = p[transpose ? 8 - k : k];
            }
        ROLLED for (int i = 0; i < 8; ++i)
        {
            float16 g[9];
            WINO_UNROLL for (int k = 0; k < 9; ++k)
                g[k] = i < ni ? vload16(k, t[i][0]) : (float16)(0.0f);
            wino_filter(g, stride, &b[0][i]);
        }
        ROLLED for (int k = 0; k < 36; ++k)
            WINO_UNROLL for (int i = 0; i < 8; ++i)
                WINO_STORE16(u + ((size_t)k * i8 + i) * 16, b[k][i]);
    }
}

/* Transformed filters of 16 outputs and 32 inputs; transpose swaps outputs and inputs and turns the
 * filters by 180 degrees, which is what the input gradient needs. */
OSR_KERNEL wino_pack(__global const float *restrict w, int woff, __global float *restrict out,
                     int ooff, int O, int I, int transpose, int stride)
{
    const int co = transpose ? I : O, ci = transpose ? O : I, i8 = (ci + 7) / 8 * 8;
    const int so = transpose ? 9 : I * 9, si = transpose ? I * 9 : 9;
    const int o0 = (int)get_group_id(0) * 16, first = (int)get_group_id(1) * 32;

    wino_filters(w + woff + o0 * so, out + ooff + ((size_t)o0 / 16 * 36 * i8 + first) * 16, ci,
                 min(16, co - o0), so, si, first, min(first + 32, i8), transpose, stride);
}

/* A d A' of a 4x4 tile of dy, to out[16 k], k < 36. */
static inline void wino_dy_points(const wino_source *s, wino_tile w, __global float *out)
{
    float16 r[6][4];

    WINO_UNROLL for (int j = 0; j < 4; ++j)
    {
        float16 d[4];
        WINO_UNROLL for (int i = 0; i < 4; ++i) d[i] = wino_value(s, w.y * 4 + i, w.x * 4 + j);
        WINO_A(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], d[0], d[1], d[2], d[3]);
    }
    WINO_UNROLL for (int i = 0; i < 6; ++i)
    {
        float16 o[6];
        WINO_A(o[0], o[1], o[2], o[3], o[4], o[5], r[i][0], r[i][1], r[i][2], r[i][3]);
        WINO_UNROLL for (int j = 0; j < 6; ++j) WINO_STORE16(out + (i * 6 + j) * 16, o[j]);
    }
}

/* Row a of the 81 points of stride 2, from its 5 even and 4 odd values. */
static inline void wino2_put_row(__global float *out, int a, const float16 *even,
                                 const float16 *odd)
{
    __global float *e = out + WINO2_EROW0(a) * 16, *o = out + WINO2_OROW0(a) * 16;
    const int step = WINO2_EROW(a) * 16;

    WINO_UNROLL for (int b = 0; b < 5; ++b) WINO_STORE16(e + b * step, even[b]);
    WINO_UNROLL for (int b = 0; b < 4; ++b) WINO_STORE16(o + b * 16, odd[b]);
}

/* The 81 points of a 9x9 tile of x, to out[16 k]. */
static inline void wino2_x_points(const wino_source *s, wino_tile w, int2 pad,
                                  __global float *out)
{
    const int y = w.y * 8 - pad.y;
    float16 r[9][9];

    WINO_LOOP for (int j = 0; j < 9; ++j)
    {
        const int x = w.x * 8 - pad.x + j;
        const float16 shift = s->shift * wino_inside(x, s->HW.x);
        float16 d[9], e[5];
        WINO_UNROLL for (int i = 0; i < 9; ++i) d[i] =
            wino_active(s, y + i, x, shift * wino_inside(y + i, s->HW.y));
        WINO2_B(e, d[0], d[2], d[4], d[6], d[8]);
        WINO_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];
        WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = d[2 * i + 1];
    }
    WINO_LOOP for (int a = 0; a < 9; ++a)
    {
        const float16 odd[4] = {r[a][1], r[a][3], r[a][5], r[a][7]};
        float16 e[5];
        WINO2_B(e, r[a][0], r[a][2], r[a][4], r[a][6], r[a][8]);
        wino2_put_row(out, a, e, odd);
    }
}

/* The same of a 4x4 tile of dy. */
#define WINO2_A(o, d0, d1, d2, d3)                                                                 \
    do {                                                                                           \
        const float16 p_ = d0 + d2, q_ = d1 + d3;                                                  \
        o[0] = d0;                                                                                 \
        o[1] = p_ + q_;                                                                            \
        o[2] = p_ - q_;                                                                            \
        o[3] = d0 + 4.0f * d2 + (2.0f * d1 + 8.0f * d3);                                           \
        o[4] = d3;                                                                                 \
    } while (0)
static inline void wino2_dy_points(const wino_source *s, wino_tile w, __global float *out)
{
    float16 r[9][4];

    WINO_UNROLL for (int j = 0; j < 4; ++j)
    {
        float16 e[5];
        WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] =
            wino_value(s, w.y * 4 + i, w.x * 4 + j);
        WINO2_A(e, r[5][j], r[6][j], r[7][j], r[8][j]);
        WINO_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];
    }
    WINO_LOOP for (int a = 0; a < 9; ++a)
    {
        float16 e[5];
        WINO2_A(e, r[a][0], r[a][1], r[a][2], r[a][3]);
        wino2_put_row(out, a, e, r[a]);
    }
}

/* acc += v' d of one point of a tile, WINO_PX inputs and WINO_OB 16-blocks of outputs. */
static inline void wino_outer_tile(float16 (*acc)[WINO_PX], __global const float *v,
                                   __global const float *d, int dstep)
{
    float16 w[WINO_OB];

    WINO_UNROLL for (int b = 0; b < WINO_OB; ++b) w[b] = WINO_LOAD16(d + b * dstep);
    WINO_UNROLL for (int k = 0; k < WINO_PX; ++k)
    {
        const float16 x = (float16)(v[k]);
        WINO_UNROLL for (int b = 0; b < WINO_OB; ++b) acc[b][k] += w[b] * x;
    }
}

/* du [O/16][C][16] (+)= V' D of one filter value, the next np points of T tiles, `pitch` floats
 * apart; C, O: multiples of 16. What the next accumulators begin with is fetched early, and of two
 * fetches half a line every 2 tiles. */
OSR_PART wino_outer(__global const float *v, __global const float *d, int np, int C, int O, int T,
                    int pitch, int add, __global float *du, wino_fetch *f)
{
    for (int o = 0; o < O; o += 16 * WINO_OB)
        for (int i = 0; i < C; i += WINO_PX) {
            __global const float *vi = v + i / 16 * T * pitch + i % 16;
            __global const float *di = d + o / 16 * T * pitch;
            __global float *out = du + o * C + i * 16;
            const int pair = o + 16 < O ? 1 : 0, dstep = pair * T * pitch, step = pair * C * 16;
            int xstep, ystep;
            __global const float *x = wino_fetch_next(f, (np * T + 3) / 4, &xstep);
            __global const float *y = wino_fetch_next(f + 1, (np * T + 3) / 4, &ystep);
            float16 acc[WINO_OB][WINO_PX];
            WINO_UNROLL for (int b = 0; b < WINO_OB; ++b)
                WINO_UNROLL for (int k = 0; k < WINO_PX; ++k) acc[b][k] =
                    add ? WINO_LOAD16(out + b * step + k * 16) : (float16)(0.0f);
            WINO_UNROLL for (int b = 0; b < WINO_OB; ++b)
                WINO_UNROLL for (int k = 0; k < WINO_PX; ++k)
                    WINO_SOON(out + b * step + (WINO_PX + k) * 16);
            for (int p = 0; p < np; ++p, vi += 16, di += 16) {
                __global const float *vt = vi, *dt = di;
                int t = 0;
                for (; t + 1 < T; t += 2, x += xstep / 2, y += ystep / 2) {
                    HINT(x);
                    HINT(y);
                    wino_outer_tile(acc, vt, dt, dstep);
                    wino_outer_tile(acc, vt + pitch, dt + pitch, dstep);
                    vt += 2 * pitch;
                    dt += 2 * pitch;
                }
                if (t < T)
                    wino_outer_tile(acc, vt, dt, dstep);
            }
            WINO_UNROLL for (int b = 0; b < WINO_OB; ++b)
                WINO_UNROLL for (int k = 0; k < WINO_PX; ++k)
                    WINO_STORE16(out + b * step + k * 16, acc[b][k]);
        }
}

/* The points of `live` tiles from w on, 16-blocks c0 .. c1-1 of x or (dy 1) dy, to out. */
OSR_PART wino_points(wino_source *s, wino_tile w, int live, int2 grid, int stride, int2 pad, int dy,
                     int c0, int c1, int pitch, __global float *out)
{
    const wino_tile first = w;
    const int size = dy ? 4 : 4 * stride;

    for (int c = c0; c < c1; ++c, w = first)
        for (int t = 0; t < live; ++t, w = wino_next(w, grid), out += pitch) {
            if (c + 1 < c1)
                wino_hint(s->all + (c + 1) * 2 * s->l.z, s->l, c * 16 + 24 < s->C ? s->l.z : 0, w,
                          size);
            wino_source_at(s, w.n, c);
            if (stride == 1 && dy)
                wino_dy_points(s, w, out);
            else if (stride == 1)
                wino_input_global(s, w, 1, out, 16);
            else if (dy)
                wino2_dy_points(s, w, out);
            else
                wino2_x_points(s, w, pad, out);
        }
}

/* dU part s over the tiles of split s, for the outputs of group og. vd: `room` floats for each
 * work-group. x as coef, cstep and slope say; XHW, YHW: sizes of x and dy. */
OSR_KERNEL wino_wgrad(__global const float *restrict x, int4 xl, __global const float *restrict dy,
                      int4 dyl, __global float *restrict vd, __global float *restrict du, int N,
                      int C, int O, int2 XHW, int2 YHW, int2 pad, int stride,
                      __global const float *restrict coef, int cstep, float slope, int room)
{
    const int split = (int)get_group_id(0), splits = (int)get_num_groups(0);
    const int og = (int)get_group_id(1), ng = (int)get_num_groups(1);
    const int c16 = (C + 15) / 16, o16 = (O + 15) / 16, pitch = (stride == 1 ? 37 : 81) * 16;
    const int o0 = o16 * og / ng, on = o16 * (og + 1) / ng - o0;
    const int2 grid = (YHW + 3) / 4;
    const int tiles = N * grid.x * grid.y, end = (int)((long)tiles * (split + 1) / splits);
    const int start = (int)((long)tiles * split / splits), T = room / pitch / (c16 + on);
    wino_source xs = {x, 0, coef, xl, XHW, C, cstep, 0, slope, 1.0f, 0.0f};
    wino_source ys = {dy, 0, coef, dyl, YHW, O, -1, 0, 1.0f, 1.0f, 0.0f};

    vd += (size_t)(og * splits + split) * room;
    du += ((size_t)split * 36 * o16 + o0) * c16 * 256;
    for (int t0 = start, live; t0 < end; t0 += live) {
        const wino_tile w = wino_at(t0, grid);
        const wino_group next = wino_group_at(t0 + T, T, end, grid);
        const int blocks = min(on * 2, (O + 7) / 8 - o0 * 2);
        wino_fetch fetch[2];

        live = min(T, end - t0);
        __global float *d = vd + c16 * live * pitch;
        fetch[0] = wino_fetch_tiles(x, xl, (C + 7) / 8, 4 * stride, &next);
        fetch[1] = wino_fetch_tiles(dy + o0 * 2 * dyl.z, dyl, blocks, 4, &next);
        wino_points(&xs, w, live, grid, stride, pad, 0, 0, c16, pitch, vd);
        wino_points(&ys, w, live, grid, stride, pad, 1, o0, o0 + on, pitch, d);
        for (int f = 0, k = 0, np; f < 36; ++f, k += np) {
            np = stride == 1 || f < 25 ? 1 : f < 35 ? 4 : 16;
            wino_outer(vd + k * 16, d + k * 16, np, c16 * 16, on * 16, live, pitch, t0 > start,
                       du + (size_t)f * o16 * c16 * 256, fetch);
        }
    }
}

/* dw [O][C][3][3] (+)= G' dU G of 16 outputs, block ob, and 8 inputs, block ib. */
OSR_PART wino_filter_grad(__global const float *restrict du, __global float *restrict dw, int C,
                          int O, int stride, int splits, int accumulate, int ob, int ib)
{
    const int lanes = min(8, C - ib * 8);
    const size_t C16 = (C + 15) / 16 * 16, plane = (O + 15) / 16 * C16 * 16;
    float t[8][9][16];

    ROLLED for (int i = 0; i < lanes; ++i)
    {
        float16 d[36], r[3][6];
        ROLLED for (int k = 0; k < 36; ++k)
        {
            const int f = stride == 1 ? k : WINO2_VALUE(k / 6, k % 6);
            __global const float *p = du + f * plane + (ob * C16 + ib * 8 + i) * 16;
            d[k] = WINO_LOAD16(p);
            ROLLED for (int s = 1; s < splits; ++s) d[k] += WINO_LOAD16(p + s * 36 * plane);
        }
        for (int j = 0; j < 6; ++j)
            if (stride == 1)
                WINO_GT(r[0][j], r[1][j], r[2][j], d[j], d[6 + j], d[12 + j], d[18 + j], d[24 + j],
                        d[30 + j]);
            else
                WINO2_GT(r[0][j], r[1][j], r[2][j], d[j], d[6 + j], d[12 + j], d[18 + j],
                         d[24 + j], d[30 + j]);
        for (int k = 0; k < 3; ++k) {
            float16 g[3];
            if (stride == 1)
                WINO_GT(g[0], g[1], g[2], r[k][0], r[k][1], r[k][2], r[k][3], r[k][4], r[k][5]);
            else
                WINO2_GT(g[0], g[1], g[2], r[k][0], r[k][1], r[k][2], r[k][3], r[k][4], r[k][5]);
            for (int j = 0; j < 3; ++j)
                vstore16(g[j], k * 3 + j, t[i][0]);
        }
    }
    for (int o = 0; o < min(16, O - ob * 16); ++o) {
        __global float *p = dw + ((size_t)(ob * 16 + o) * C + ib * 8) * 9;
        ROLLED for (int i = 0; i < lanes; ++i)
            ROLLED for (int k = 0; k < 9; ++k, ++p)
                *p = accumulate ? *p + t[i][k][o] : t[i][k][o];
    }
}

/* dw at dwoff from the sum of the splits in their order; accumulate 0 overwrites. One group for 16
 * outputs and 8 inputs. */
OSR_KERNEL wino_wgrad_filter(__global const float *restrict du, __global float *restrict dw,
                             int dwoff, int C, int O, int stride, int splits, int accumulate)
{
    wino_filter_grad(du, dw + dwoff, C, O, stride, splits, accumulate, (int)get_group_id(0),
                     (int)get_group_id(1));
}
