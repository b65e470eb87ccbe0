/* conv_gpu.cl - direct convolution and its gradients as tiled matrix products, GPU family
 *
 * Images are [N][CB][HP][WP][8] with a zero halo, described by int4 (base, row, plane, img). Packed
 * weights are [OP/16][IB][taps][8 (i)][16 (o)] at an offset that is a multiple of 4 floats.
 *
 * A group of CONV_ITEMS items makes a tile of CONV_BM rows x CONV_BN outputs (128 of them 128 x 64,
 * unless the host says else), 8 rows x 8 or 4 outputs an item, from slices of depth 8 in local
 * memory. conv_taps: a row is an output grid point (image, row, column in one index), a slice is 8
 * input channels of one tap. conv_wgrad: a row is one input channel of one tap, a slice 8 points.
 * While one slice is multiplied the next is fetched into registers and stored into the other of two
 * buffers: one barrier a slice. Every sum has a fixed order.
 * By count, not by measurement, of 128 x 64: an item reads 4 float4 of local memory for 64
 * multiply-adds (one byte each), neighbours the same or the next ones, so without conflicts; some
 * 110 registers an item and 14 KiB a group leave 4 groups, 16 warps, on a unit of 64 Ki registers.
 *
 * Launch geometry (number of groups; local size), BM, BN and ITEMS as CONV_...:
 *   conv_pack          OP / 16, ceil(I' / 8), G                   LS, 1, 1   I' = transpose ? O : I
 *   conv_taps          ceil(N rows columns / BM), ceil(OC / BN), Z           ITEMS, 1, 1
 *                      rows = out_size.y, columns = out_size.x; N rows columns < 2^31 - BM;
 *                      neighbouring groups make the outputs of the same points; Z convolutions
 *                      with x, w and y zstep.x, .y and .z floats apart
 *   conv_wgrad         ceil(O / BN), ceil(ceil(C / 8) K.x K.y / (BM / 8)), S ITEMS, 1, 1
 *                      points of a split < 2^31 - 8
 *   conv_wgrad_reduce  ceil(O / 16), ceil(I / 8), G               LS, 1, 1
 * G >= 1 shares the taps among groups; the number of taps is the most that is of use. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

#ifndef CONV_ITEMS
#define CONV_ITEMS 128
#define CONV_BM 128 /* rows of a tile: points, or input channels of taps; ITEMS or ITEMS / 2 */
#define CONV_BN 64  /* outputs of a tile: ITEMS / 2 */
#endif
#define CONV_BK 8 /* depth of a slice */
#define CONV_RUNS (CONV_BM * CONV_BN / CONV_ITEMS / 32) /* of 4 outputs of an item: 2 or 1 */
#define CONV_POINTS (CONV_ITEMS / 2) /* of which the items fetch 8 channels at a time */
/* Row lengths in local memory, chosen so that stores of a slice fall into distinct banks. */
#define TAPS_LDA (CONV_BM + 4)
#define TAPS_LDB CONV_BN
#define WGRAD_LDA (CONV_BM + 8)
#define WGRAD_LDB (CONV_BN + 8)
/* Slices summed in registers before they are added to a partial weight gradient. */
#define WGRAD_FOLD 64

#define CONV_LOAD4(p) (*(__global const float4 *)(p))
#define CONV_STORE4(p, v) (*(__global float4 *)(p) = (v))
#define CONV_LOCAL4(p) (*(__local const float4 *)(p))
#define CONV_UNROLL _Pragma("unroll")
#define CONV_TILED __kernel __attribute__((reqd_work_group_size(CONV_ITEMS, 1, 1))) void
#ifdef FP_FAST_FMAF
#define CONV_FMA(a, b, c) fma(a, b, c)
#else
#define CONV_FMA(a, b, c) ((a) * (b) + (c))
#endif

OSR_KERNEL conv_pack(__global const float *restrict w, int woff, __global float *restrict out,
                     int ooff, int O, int I, int KH, int KW, int transpose, int2 tap0,
                     int2 tapstep, int2 taps, int OP)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int co = transpose ? I : O, ci = transpose ? O : I, blocks = (ci + 7) / 8;
    const int so = (transpose ? 1 : I) * KH * KW, si = (transpose ? I : 1) * KH * KW;
    const int count = taps.x * taps.y;

    if (og * 16 >= OP || ib >= blocks)
        return;
    for (int t = (int)get_group_id(2); t < count; t += (int)get_num_groups(2)) {
        const int ty = t / taps.x, tx = t - ty * taps.x;
        const int k = (tap0.y + tapstep.y * ty) * KW + tap0.x + tapstep.x * tx;
        __global float *p = out + ooff + (((size_t)og * blocks + ib) * count + t) * 128;
        for (int e = (int)get_local_id(0); e < 128; e += LS) {
            const int i = ib * 8 + e / 16, o = og * 16 + e % 16;
            p[e] = i < ci && o < co ? w[woff + (size_t)o * so + (size_t)i * si + k] : 0.0f;
        }
    }
}

/* acc[r][g] += sum over k of a[k][row r] b[k][4 outputs g]. An item has P rows, runs of 4 that lie
 * half a tile apart, and G runs of 4 outputs, too. Depth is rounded up to 4; the rest is zeros. */
#define CONV_STEP(NAME, P, G)                                                                      \
    static inline void NAME(__local const float *a, int lda, __local const float *b, int ldb,      \
                            int depth, float4 (*acc)[2])                                           \
    {                                                                                              \
        for (int k0 = 0; k0 < depth; k0 += 4, a += 4 * lda, b += 4 * ldb) {                        \
            CONV_UNROLL for (int k = 0; k < 4; ++k) {                                              \
                float av[P];                                                                       \
                float4 bv[G];                                                                      \
                CONV_UNROLL for (int r = 0; r < P; r += 4) {                                       \
                    const float4 v = CONV_LOCAL4(a + k * lda + r * (CONV_BM / 8));                 \
                    av[r] = v.s0;                                                                  \
                    av[r + 1] = v.s1;                                                              \
                    av[r + 2] = v.s2;                                                              \
                    av[r + 3] = v.s3;                                                              \
                }                                                                                  \
                CONV_UNROLL for (int g = 0; g < G; ++g)                                            \
                    bv[g] = CONV_LOCAL4(b + k * ldb + g * (CONV_BN / 2));                          \
                CONV_UNROLL for (int r = 0; r < P; ++r) CONV_UNROLL for (int g = 0; g < G; ++g)    \
                    acc[r][g] = CONV_FMA((float4)(av[r]), bv[g], acc[r][g]);                       \
            }                                                                                      \
        }                                                                                          \
    }
#if CONV_RUNS == 2
CONV_STEP(conv_step82, 8, 2)
#endif
CONV_STEP(conv_step81, 8, 1)
CONV_STEP(conv_step41, 4, 1)

/* The part of a tile an item makes: rows at row4 and row4 + BM / 2, 4 each, outputs at out4 and
 * out4 + BN / 2; where half of the tile's outputs are beyond the end, no second outputs; with yet
 * fewer left, the items stand twice as high and make 4 x 4 each. */
typedef struct conv_item {
    int row4, out4, runs, rows; /* rows: 8 or 4 */
} conv_item;

static inline conv_item conv_place(int id, int outputs)
{
    const bool few = outputs <= CONV_BN / 2 / CONV_RUNS;
    const int columns = CONV_BN / 4 / CONV_RUNS / (few ? 2 : 1);
    conv_item t;
    t.row4 = id / columns * 4;
    t.out4 = id % columns * 4;
    t.runs = CONV_RUNS == 2 && outputs > CONV_BN / 2 ? 2 : 1;
    t.rows = few ? 4 : 8;
    return t;
}

static inline void conv_step(conv_item t, __local const float *a, int lda, __local const float *b,
                             int ldb, int depth, float4 (*acc)[2])
{
    a += t.row4;
    b += t.out4;
#if CONV_RUNS == 2
    if (t.runs == 2)
        conv_step82(a, lda, b, ldb, depth, acc);
    else
#endif
    if (t.rows == 8)
        conv_step81(a, lda, b, ldb, depth, acc);
    else
        conv_step41(a, lda, b, ldb, depth, acc);
}

/* Whether an item makes row r of 8 and run g of 2: a tile of few outputs has less. */
static inline bool conv_made(conv_item t, int r, int g)
{
    return r < t.rows && g < t.runs;
}

static inline void conv_clear(float4 (*acc)[2])
{
    CONV_UNROLL for (int r = 0; r < 8; ++r) acc[r][0] = acc[r][1] = (float4)(0.0f);
}

/* Where grid point m = (n * size.y + r) * size.x + c of an image tensor begins, channel 0. */
static inline long conv_point(int4 l, int m, int2 size, int2 step, int2 off)
{
    const int q = m / size.x, n = q / size.y, c = m - q * size.x, r = q - n * size.y;
    return (long)n * l.w + l.x + (step.y * r + off.y) * l.y + (step.x * c + off.x) * 8;
}

/* v with zeros at channels oc and beyond; v begins at channel o. */
static inline float4 conv_mask(float4 v, int o, int oc)
{
    return select((float4)(0.0f), v, (int4)(0, 1, 2, 3) + o < (int4)(oc));
}

/* What follows (see conv_after), on 4 channels from channel o on. */
static inline float4 conv_epilogue4(float4 v, __global const float *coef, int CB, int o, int kind,
                                    float slope)
{
    if (kind == 2)
        v = v * CONV_LOAD4(coef + o) + CONV_LOAD4(coef + CB * 8 + o);
    return kind == 0 ? v : select(v * slope, v, v > (float4)(0.0f));
}

CONV_TILED conv_taps(__global const float *restrict x, int4 xl, __global const float *restrict w,
                     int woff, __global float *restrict y, int4 yl, int IB, int I, int OBY, int OC,
                     int2 in_step, int2 in_off, int2 tap_step, int2 taps, int2 out_size,
                     int2 out_step, int2 out_off, __global const float *restrict coef, int after,
                     float slope, int N, int4 zstep)
{
    __local float a[2][CONV_BK * TAPS_LDA] __attribute__((aligned(16)));
    __local float b[2][CONV_BK * TAPS_LDB] __attribute__((aligned(16)));
    __local long yo[CONV_BM];
    const int id = (int)get_local_id(0);
    const int group = (int)(get_group_id(1) * get_num_groups(0) + get_group_id(0));
    const int otiles = (OC + CONV_BN - 1) / CONV_BN, o0 = group % otiles * CONV_BN;
    const int M = N * out_size.y * out_size.x, m0 = group / otiles * CONV_BM;
    const int count = taps.x * taps.y, slices = IB * count;
    /* Fetched by this item: 4 channels of 1 or 2 points, 4 outputs of one channel and one block. */
    const int lane4 = id % 2 * 4, point = id / 2, k = id / (CONV_BN / 4);
    const int o4 = id % (CONV_BN / 4), og = o0 / 16 + o4 / 4;
    const conv_item t = conv_place(id, OC - o0);
    const size_t z = get_group_id(2);
    __global const float *wp =
        w + woff + z * zstep.y + (size_t)og * slices * 128 + k * 16 + o4 % 4 * 4;
    float4 acc[8][2], xv0, xv1 = (float4)(0.0f), wv = (float4)(0.0f);
    int tx = 0, ty = 0;

    if (m0 >= M)
        return;
    x += z * zstep.x;
    y += z * zstep.z;
    __global const float *x0 =
        x + conv_point(xl, min(m0 + point, M - 1), out_size, in_step, in_off) + lane4;
    __global const float *x1 =
        x + conv_point(xl, min(m0 + point + CONV_POINTS, M - 1), out_size, in_step, in_off) + lane4;
    if (id < CONV_BM)
        yo[id] = m0 + id < M ? conv_point(yl, m0 + id, out_size, out_step, out_off) : -1;
    conv_clear(acc);
    for (int s = -1; s < slices; ++s) {
        const int cur = s & 1, next = cur ^ 1;
        if (s + 1 < slices) {
            xv0 = CONV_LOAD4(x0);
            if (CONV_POINTS < CONV_BM)
                xv1 = CONV_LOAD4(x1);
            if (og * 16 < OC)
                wv = CONV_LOAD4(wp + (size_t)(s + 1) * 128);
            int step = tap_step.x * 8;
            if (++tx == taps.x) {
                tx = 0;
                step += tap_step.y * xl.y - taps.x * tap_step.x * 8;
                if (++ty == taps.y) {
                    ty = 0;
                    step += xl.z - taps.y * tap_step.y * xl.y;
                }
            }
            x0 += step;
            x1 += step;
        }
        if (s >= 0)
            conv_step(t, a[cur], TAPS_LDA, b[cur], TAPS_LDB,
                      s < slices - count ? CONV_BK : I - (IB - 1) * CONV_BK, acc);
        if (s + 1 < slices) {
            __local float *d = a[next] + lane4 * TAPS_LDA + point;
            d[0] = xv0.s0;
            d[TAPS_LDA] = xv0.s1;
            d[TAPS_LDA * 2] = xv0.s2;
            d[TAPS_LDA * 3] = xv0.s3;
            if (CONV_POINTS < CONV_BM) {
                d += CONV_POINTS;
                d[0] = xv1.s0;
                d[TAPS_LDA] = xv1.s1;
                d[TAPS_LDA * 2] = xv1.s2;
                d[TAPS_LDA * 3] = xv1.s3;
            }
            *(__local float4 *)(b[next] + k * TAPS_LDB + o4 * 4) = wv;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    CONV_UNROLL for (int r = 0; r < 8; ++r) CONV_UNROLL for (int g = 0; g < 2; ++g)
    {
        const int o = o0 + g * (CONV_BN / 2) + t.out4;
        if (conv_made(t, r, g) && o / 8 < OBY) {
            const long at = yo[r / 4 * (CONV_BM / 2) + t.row4 + r % 4];
            if (at >= 0)
                CONV_STORE4(y + at + (size_t)(o / 8) * yl.z + o % 8,
                            conv_mask(conv_epilogue4(acc[r][g], coef, OBY, o, after, slope), o,
                                      OC));
        }
    }
}

/* Stores (first) or adds the item's part of a tile into partial sums part[O16][cols][8][16]. */
static inline void wgrad_fold(__global float *part, conv_item t, int o0, int q0, int O, int cols,
                              bool first, float4 (*acc)[2])
{
    const int o = o0 + t.out4, q = q0 + t.row4 / 8;
    part += ((size_t)(o / 16) * cols + q) * 128 + t.row4 % 8 * 16 + o % 16;
    CONV_UNROLL for (int g = 0; g < 2; ++g) CONV_UNROLL for (int r = 0; r < 8; ++r)
    {
        if (conv_made(t, r, g) && o / 16 * 16 + g * (CONV_BN / 2) < O
            && q + r / 4 * (CONV_BM / 16) < cols) {
            __global float *p = part + (size_t)g * (CONV_BN * 4) * cols
                                + r / 4 * (CONV_BM * 8) + r % 4 * 16;
            CONV_STORE4(p, first ? acc[r][g] : CONV_LOAD4(p) + acc[r][g]);
        }
    }
    conv_clear(acc);
}

/* Points in (image, row, column) order, walked 8 at a time without a division. */
typedef struct wgrad_point {
    int n, r, c;
} wgrad_point;

static inline wgrad_point wgrad_split(int m, int2 size)
{
    wgrad_point p;
    p.n = m / (size.x * size.y);
    p.r = m / size.x - p.n * size.y;
    p.c = m % size.x;
    return p;
}

static inline wgrad_point wgrad_add(wgrad_point p, wgrad_point d, int2 size)
{
    p.c += d.c;
    p.r += d.r + (p.c >= size.x ? 1 : 0);
    p.c -= p.c >= size.x ? size.x : 0;
    p.n += d.n + (p.r >= size.y ? 1 : 0);
    p.r -= p.r >= size.y ? size.y : 0;
    return p;
}

CONV_TILED conv_wgrad(__global const float *restrict x, int4 xl, __global const float *restrict dy,
                      int4 dyl, __global float *restrict part, int N, int C, int O, int2 K,
                      int2 stride, int2 pad, int2 OHW, int S)
{
    __local float a[2][CONV_BK * WGRAD_LDA] __attribute__((aligned(16)));
    __local float b[2][CONV_BK * WGRAD_LDB] __attribute__((aligned(16)));
    const int id = (int)get_local_id(0), split = (int)get_group_id(2);
    const int o0 = (int)get_group_id(0) * CONV_BN, q0 = (int)get_group_id(1) * (CONV_BM / 8);
    const int count = K.x * K.y, cols = (C + 7) / 8 * count;
    const int n0 = (int)((long)split * N / S), n1 = (int)((long)(split + 1) * N / S);
    const int points = (n1 - n0) * OHW.x * OHW.y, slices = (points + CONV_BK - 1) / CONV_BK;
    /* Fetched by this item: 4 lanes at point k of the slice, of dy block cb, x columns q and, where
     * the items do not reach all, q + more. */
    const int lane4 = id % 2 * 4, k = id / 2 % 8, at = id / 16 * 8 + lane4, more = CONV_ITEMS / 16;
    const int cb = o0 / 8 + id / 16, q = q0 + id / 16;
    const int ta = q % count, tb = (q + more) % count;
    const int xa = q / count * xl.z + (ta / K.x - pad.y) * xl.y + (ta % K.x - pad.x) * 8;
    const int xb = (q + more) / count * xl.z + (tb / K.x - pad.y) * xl.y + (tb % K.x - pad.x) * 8;
    const conv_item t = conv_place(id, O - o0);
    const wgrad_point jump = wgrad_split(CONV_BK, OHW);
    wgrad_point p = wgrad_split(k, OHW);
    float4 acc[8][2];

    if (o0 >= O || q0 >= cols)
        return;
    part += (size_t)split * ((O + 15) / 16) * cols * 128;
    conv_clear(acc);
    for (int s = -1; s < slices; ++s) {
        const int cur = s & 1, next = cur ^ 1;
        float4 va = (float4)(0.0f), vb = (float4)(0.0f), vd = (float4)(0.0f);
        if ((s + 1) * CONV_BK + k < points) {
            __global const float *px = x + (size_t)(n0 + p.n) * xl.w + xl.x + lane4 +
                                       stride.y * p.r * xl.y + stride.x * p.c * 8;
            if (q < cols)
                va = CONV_LOAD4(px + xa);
            if (more < CONV_BM / 8 && q + more < cols)
                vb = CONV_LOAD4(px + xb);
            if (cb * 8 < O)
                vd = CONV_LOAD4(dy + (size_t)(n0 + p.n) * dyl.w + dyl.x + lane4 +
                                (size_t)cb * dyl.z + p.r * dyl.y + p.c * 8);
            p = wgrad_add(p, jump, OHW);
        }
        if (s >= 0)
            conv_step(t, a[cur], WGRAD_LDA, b[cur], WGRAD_LDB, CONV_BK, acc);
        if (s + 1 == slices || s % WGRAD_FOLD == WGRAD_FOLD - 1)
            wgrad_fold(part, t, o0, q0, O, cols, s < WGRAD_FOLD, acc);
        if (s + 1 < slices) {
            *(__local float4 *)(a[next] + k * WGRAD_LDA + at) = va;
            if (more < CONV_BM / 8)
                *(__local float4 *)(a[next] + k * WGRAD_LDA + more * 8 + at) = vb;
            *(__local float4 *)(b[next] + k * WGRAD_LDB + at) = vd;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

OSR_KERNEL conv_wgrad_reduce(__global const float *restrict part, __global float *restrict dw,
                             int dwoff, int O, int I, int KH, int KW, int S,
                             int accumulate)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1), count = KH * KW;
    const int blocks = (I + 7) / 8;
    const size_t step = (size_t)((O + 15) / 16) * blocks * count * 128;

    for (int t = (int)get_group_id(2); t < count; t += (int)get_num_groups(2)) {
        __global const float *p = part + (((size_t)og * blocks + ib) * count + t) * 128;
        for (int e = (int)get_local_id(0); e < 128; e += LS) {
            const int i = ib * 8 + e / 16, o = og * 16 + e % 16;
            float sum = 0.0f;
            for (int s = 0; s < S; ++s)
                sum += p[(size_t)s * step + e];
            if (i < I && o < O) {
                const size_t at = dwoff + ((size_t)o * I + i) * count + t;
                dw[at] = accumulate ? dw[at] + sum : sum;
            }
        }
    }
}
