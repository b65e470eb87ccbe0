/* conv_cpu.cl - direct convolution and its gradients, CPU family
 *
 * Images are [N][CB][HP][WP][8] with a zero halo, described by int4 (base, row, plane, img). Packed
 * weights are [OP/16][IB][taps][8 (i)][16 (o)]: one float16 holds 16 outputs of one input channel
 * and one tap, so packed offsets are multiples of 16 floats. Every kernel has local size 1, 1, 1.
 *
 * A tile is a register block of CONV_OB float16 (16 outputs each) x CONV_PX points or input lanes.
 * The points of a forward tile are consecutive in (image, row, column) order, so that maps smaller
 * than a tile fill it too; only the last tile of a launch repeats a point, which it does not store.
 *
 * Launch geometry (global size). G: any number of groups, which share the work evenly.
 *   conv_pack          OP / 16, ceil(I' / 8), 1       I' = transpose ? O : I
 *   conv_taps          ceil(OC / 32) or / 64, G, G    about N * out_size.x * out_size.y / 64 groups
 *   conv_dgrad         ceil(C / 32), G, G             about N * H * W / (64 * stride^2) groups
 *   conv_wgrad         G, G, S                        ceil(C / 32) * ceil(O / 64) groups a split
 *   conv_wgrad_reduce  ceil(O / 16), ceil(I / 8), 1 */
#ifndef OSR_COMMON
#include "common.cl"
#endif

/* 32 vector registers of 512 bits hold 2 x 8 accumulators; 16 of 256 bits hold 1 x 4. */
#ifndef CONV_PX
#ifdef __AVX512F__
#define CONV_OB 2
#define CONV_PX 8
#define CONV_NARROW 9
#else
#define CONV_OB 1
#define CONV_PX 4
#define CONV_NARROW 4
#endif
#endif
/* So few channels make the weight gradient waste most of 8 lanes. */
#define CONV_FEW 4

/* Points folded at once into a partial weight gradient: bounds rounding error and cache use. */
#define WGRAD_POINTS 128

#define CONV_LOAD16(p) (*(__global const float16 *)(p))
#define CONV_STORE16(p, v) (*(__global float16 *)(p) = (v))
#define CONV_UNROLL _Pragma("unroll")

OSR_KERNEL conv_pack(__global const float *restrict w, int woff, __global float *restrict out,
                     int ooff, int O, int I, int KH, int KW, int transpose, int2 tap0,
                     int2 tapstep, int2 taps, int OP)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int co = transpose ? I : O, ci = transpose ? O : I, blocks = (ci + 7) / 8;
    const int so = (transpose ? 1 : I) * KH * KW, si = (transpose ? I : 1) * KH * KW;
    __global float *p = out + ooff + ((size_t)og * blocks + ib) * (size_t)(taps.x * taps.y * 128);

    if (og * 16 >= OP || ib >= blocks)
        return;
    ROLLED for (int ty = 0; ty < taps.y; ++ty)
        ROLLED for (int tx = 0; tx < taps.x; ++tx)
        {
            const int k = (tap0.y + tapstep.y * ty) * KW + tap0.x + tapstep.x * tx;
            ROLLED for (int i = ib * 8; i < ib * 8 + 8; ++i)
                ROLLED for (int o = og * 16; o < og * 16 + 16; ++o)
                    *p++ = i < ci && o < co ? w[woff + o * so + i * si + k] : 0.0f;
        }
}

/* Where the points of a tile lie: offsets into x (before taps and channels) and into y. */
typedef struct conv_points {
    int n, r, c;
    long xo[CONV_PX], yo[CONV_PX];
} conv_points;

static inline long conv_at(int4 l, int n, int y, int x)
{
    return (long)n * l.w + l.x + y * l.y + x * 8;
}

/* out[o][p] = sum over channels and taps of x at point p times the weights of 16-block o < CONV_OB;
 * wstep: from one block's to the next one's, 0 where there is only one. */
static inline void conv_tile(__global const float *x, const long *xo, int4 xl,
                             __global const float *w, long wstep, int I, int2 tap_step, int2 taps,
                             float16 (*out)[CONV_PX])
{
    float16 acc[CONV_OB][CONV_PX];

    CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)
        CONV_UNROLL for (int p = 0; p < CONV_PX; ++p) acc[o][p] = (float16)(0.0f);
    for (int left = I; left > 0; left -= 8, x += xl.z) {
        const int lanes = min(left, 8);
        for (int ty = 0; ty < taps.y; ++ty) {
            __global const float *xt = x + ty * tap_step.y * xl.y;
            _Pragma("unroll 1") for (int tx = 0; tx < taps.x; ++tx, xt += tap_step.x * 8, w += 128)
            {
                _Pragma("unroll 2") for (int i = 0; i < lanes; ++i)
                {
                    float16 wv[CONV_OB];
                    CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)
                        wv[o] = CONV_LOAD16(w + o * wstep + i * 16);
                    CONV_UNROLL for (int p = 0; p < CONV_PX; ++p)
                    {
                        const float16 b = (float16)(xt[xo[p] + i]);
                        CONV_UNROLL for (int o = 0; o < CONV_OB; ++o) acc[o][p] += wv[o] * b;
                    }
                }
            }
        }
    }
    CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)
        CONV_UNROLL for (int p = 0; p < CONV_PX; ++p) out[o][p] = acc[o][p];
}

/* Writes `live` points of the 16-block b. Hints at what lies CONV_AHEAD pixels further, where the
 * points after these are likely to be. */
#define CONV_AHEAD 16
static inline void conv_store(__global float *y, conv_after *a, int b, const conv_points *t,
                              int live, const float16 *acc)
{
    conv_after_at(a, b);
    y += (long)b * 2 * a->plane;
    ROLLED for (int p = 0; p < live; ++p) {
        HINT(y + t->yo[p] + CONV_AHEAD * 8);
        HINT(y + t->yo[p] + CONV_AHEAD * 8 + a->upper);
        conv_after_put(a, y + t->yo[p], acc[p]);
    }
}

/* What conv_taps computes, as in its arguments; o0, o1: the 16-blocks of outputs of this group,
 * CONV_BLOCKS at most, the share `group` of `groups` of the points; part: for the statistics. */
#define CONV_BLOCKS 4
typedef struct conv_job {
    __global float *part;
    int4 xl, yl;
    int N, IB, I, o0, o1, group, groups, stats;
    conv_after after;
    int2 in_step, in_off, tap_step, taps, out_size, out_step, out_off;
} conv_job;

/* Fills t with the CONV_PX points from number m on and moves it to the point after them. */
static inline void conv_next(conv_points *t, const conv_job *j, long m, long points)
{
    long x = 0, y = 0;

    ROLLED for (int p = 0; p < CONV_PX; ++p) {
        if (p == 0 || t->c == 0) {
            x = conv_at(j->xl, t->n, j->in_step.y * t->r + j->in_off.y,
                        j->in_step.x * t->c + j->in_off.x);
            y = conv_at(j->yl, t->n, j->out_step.y * t->r + j->out_off.y,
                        j->out_step.x * t->c + j->out_off.x);
        }
        t->xo[p] = x;
        t->yo[p] = y;
        if (m + p + 1 >= points)
            continue;
        x += j->in_step.x * 8;
        y += j->out_step.x * 8;
        if (++t->c == j->out_size.x) {
            t->c = 0;
            if (++t->r == j->out_size.y) {
                t->r = 0;
                ++t->n;
            }
        }
    }
}

/* Adds the first `live` points of a 16-block. */
static inline void conv_sum(conv_sums *s, const float16 *acc, int live)
{
    if (s->count == 0.0f)
        s->pivot = acc[0];
    ROLLED for (int p = 0; p < live; ++p) conv_sums_add(s, acc[p]);
    s->count += (float)live;
}

/* This group's share of the points of a job. */
OSR_PART conv_run(__global const float *restrict x, __global const float *restrict w,
                  __global float *restrict y, const conv_job *j)
{
    const long points = (long)j->N * j->out_size.x * j->out_size.y;
    const long tiles = (points + CONV_PX - 1) / CONV_PX;
    const long wstep = (long)j->IB * j->taps.x * j->taps.y * 128;
    const long end = min(points, tiles * (j->group + 1) / j->groups * CONV_PX);
    long m = tiles * j->group / j->groups * CONV_PX;
    conv_after after = j->after;
    conv_sums sums[CONV_BLOCKS];
    conv_points t;

    if (points == 0) /* a phase of a map smaller than the stride */
        return;
    ROLLED for (int b = 0; b < CONV_BLOCKS; ++b)
        sums[b].sum = sums[b].square = sums[b].pivot = (float16)(sums[b].count = 0.0f);
    t.c = (int)(m % j->out_size.x);
    t.r = (int)(m / j->out_size.x % j->out_size.y);
    t.n = (int)(m / j->out_size.x / j->out_size.y);
    for (; m < end; m += CONV_PX) {
        const int live = (int)min(end - m, (long)CONV_PX);

        conv_next(&t, j, m, points);
        for (int o = j->o0; o < j->o1; o += CONV_OB) {
            float16 acc[CONV_OB][CONV_PX];

            conv_tile(x, t.xo, j->xl, w + o * wstep, o + 1 < j->o1 ? wstep : 0, j->I, j->tap_step,
                      j->taps, acc);
            ROLLED for (int b = 0; b < min(CONV_OB, j->o1 - o); ++b)
            {
                if (j->stats)
                    conv_sum(&sums[o + b - j->o0], acc[b], live);
                conv_store(y, &after, o + b, &t, live, acc[b]);
            }
        }
    }
    ROLLED for (int o = j->o0; o < j->o1 && j->stats; ++o)
        conv_sums_put(&sums[o - j->o0], j->part, j->group, j->groups, o * 2, after.C);
}

/* Which outputs and points are this group's, of OC outputs. */
static inline void conv_share(conv_job *j, int OC)
{
    const int g = (int)get_group_id(0), G = (int)get_num_groups(0), blocks = (OC + 15) / 16;

    j->o0 = (blocks + 1) / 2 * g / G * 2;
    j->o1 = min((blocks + 1) / 2 * (g + 1) / G * 2, blocks);
    j->group = (int)(get_group_id(2) * get_num_groups(1) + get_group_id(1));
    j->groups = (int)(get_num_groups(1) * get_num_groups(2));
}

OSR_KERNEL conv_taps(__global const float *restrict x, int4 xl, __global const float *restrict w,
                     int woff, __global float *restrict y, int4 yl, int IB, int I, int OBY, int OC,
                     int2 in_step, int2 in_off, int2 tap_step, int2 taps, int2 out_size,
                     int2 out_step, int2 out_off, __global const float *restrict coef, int after,
                     float slope, int N, __global float *restrict part, int stats)
{
    conv_job j;

    j.part = part;
    j.stats = stats;
    j.after = conv_after_of(coef, after, slope, OC, yl.z);
    j.xl = xl;
    j.yl = yl;
    j.N = N;
    j.IB = IB;
    j.I = I;
    conv_share(&j, OC);
    j.in_step = in_step;
    j.in_off = in_off;
    j.tap_step = tap_step;
    j.taps = taps;
    j.out_size = out_size;
    j.out_step = out_step;
    j.out_off = out_off;
    conv_run(x, w + woff, y, &j);
}

/* dx[n,c,h,w] = sum over o, kh, kw of w[o,c,kh,kw] dy[n,o,(h+pad-kh)/stride,(w+pad-kw)/stride],
 * divisions being exact. Output phase (py, px) = (h, w) % stride uses n = ceil((K - k0) / stride)
 * taps, k0 = (phase + pad) % stride. Its weights: conv_pack with transpose 1, taps n, tap0 =
 * k0 + stride * (n - 1), tapstep -stride; phases follow one another, py outermost. */
OSR_KERNEL conv_dgrad(__global const float *restrict dy, int4 dyl, __global const float *restrict w,
                      int woff, __global float *restrict dx, int4 dxl, int O, int C, int2 K,
                      int2 stride, int2 pad, int2 HW, int N)
{
    conv_job j;

    j.part = dx; /* not for statistics */
    j.stats = 0;
    j.after = conv_after_of(w, 0, 1.0f, C, dxl.z);
    j.xl = dyl;
    j.yl = dxl;
    j.N = N;
    j.IB = (O + 7) / 8;
    j.I = O;
    conv_share(&j, C);
    j.in_step = (int2)(1, 1);
    j.tap_step = (int2)(1, 1);
    j.out_step = stride;
    w += woff;
    for (int py = 0; py < stride.y; ++py)
        for (int px = 0; px < stride.x; ++px) {
            const int2 phase = (int2)(px, py), k0 = (phase + pad) % stride;

            j.taps = max((K - k0 + stride - 1) / stride, (int2)(0, 0));
            j.in_off = (phase + pad - k0) / stride - j.taps + 1;
            j.out_size = (HW - phase + stride - 1) / stride;
            j.out_off = phase;
            conv_run(dy, w, dx, &j);
            w += (long)((C + 15) / 16) * j.IB * j.taps.x * j.taps.y * 128;
        }
}

/* The points of a chunk: consecutive images, or rows of one image, or columns of one row. Offsets
 * in floats from its first point; a chunk at an edge holds the first few of these points. */
typedef struct conv_chunk {
    int x[WGRAD_POINTS], dy[WGRAD_POINTS];
} conv_chunk;

/* A chunk of `points` points: part[o][i] (+)= sum over them of dy (16-block o < CONV_OB) times x at
 * FROM for i < PX; plane: of an 8-block of dy; upper[o]: distance from the lower to the upper 8 of
 * block o; pair 0: there is only one block; next: to the x wanted next; add 0 overwrites. from, to:
 * where inputs and results i lie, for FROM and TO. */
#define CONV_GRAD(NAME, PX, FROM, TO)                                                              \
    static inline void NAME(__global const float *x, int next, const int *from, const int *to,     \
                            __global const float *dy, int plane, const int *upper, int pair,       \
                            const conv_chunk *k, int points, int add,                              \
                            __global float *part, long pstep)                                      \
    {                                                                                              \
        const long second = pair ? 2L * plane : 0L;                                                \
        float16 acc[CONV_OB][PX];                                                                  \
        CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)                                              \
            CONV_UNROLL for (int i = 0; i < PX; ++i) acc[o][i] = (float16)(0.0f);                  \
        _Pragma("unroll 1") for (int c = 0; c < points; ++c) {                                     \
            __global const float *xc = x + k->x[c];                                                \
            __global const float *dc = dy + k->dy[c];                                              \
            float16 d[CONV_OB];                                                                    \
            HINT(xc + next);                                                                       \
            CONV_UNROLL for (int o = 0; o < CONV_OB; ++o) d[o] = (float16)(                        \
                LOAD8(dc + o * second), LOAD8(dc + o * second + upper[o]));                        \
            CONV_UNROLL for (int i = 0; i < PX; ++i) {                                             \
                const float16 b = (float16)(xc[FROM(i)]);                                          \
                CONV_UNROLL for (int o = 0; o < CONV_OB; ++o) acc[o][i] += d[o] * b;               \
            }                                                                                      \
        }                                                                                          \
        CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)                                              \
            if (o == 0 || pair)                                                                    \
                CONV_UNROLL for (int i = 0; i < PX; ++i) {                                         \
                    __global float *p = part + o * pstep + TO(i) * 16;                             \
                    CONV_STORE16(p, add ? CONV_LOAD16(p) + acc[o][i] : acc[o][i]);                 \
                }                                                                                  \
    }
#define CONV_SAME(i) (i)
#define CONV_FROM(i) from[i]
#define CONV_TO(i) to[i]
CONV_GRAD(conv_grad, CONV_PX, CONV_SAME, CONV_SAME)
CONV_GRAD(conv_narrow, CONV_NARROW, CONV_FROM, CONV_TO)

/* Where the weight gradient of 8-block ib of inputs, 16-block o of outputs, one chunk works. */
typedef struct conv_grads {
    int4 xl, dyl;
    int2 K, stride, pad;
    int n, r, c, points, add, O, C;
    long pstep;
} conv_grads;

/* All taps and lanes of one chunk for 16-block o of outputs, and o + 1 where it exists: of one
 * 8-block of inputs, or (C few channels in all) CONV_NARROW pairs of tap and channel at a time. */
static inline void conv_block_grad(__global const float *x, __global const float *dy,
                                   __global float *part, const conv_grads *g, const conv_chunk *k,
                                   int o)
{
    const int z = g->dyl.z, taps = g->K.x * g->K.y, few = g->C <= CONV_FEW;
    const int jobs = few ? taps * g->C : taps * 8, each = few ? CONV_NARROW : CONV_PX;

    x += conv_at(g->xl, g->n, g->stride.y * g->r - g->pad.y, g->stride.x * g->c - g->pad.x);
    dy += (long)o * 2 * z + conv_at(g->dyl, g->n, g->r, g->c);
    for (int b = 0; b < 2 && (o + b) * 16 < g->O; b += CONV_OB, dy += 2 * z, part += g->pstep) {
        const int c = (o + b) * 16, pair = c + 16 < g->O;
        const int upper[2] = {c + 8 < g->O ? z : 0, c + 24 < g->O ? z : 0};
        for (int j = 0; j < jobs; j += each) {
            int from[CONV_NARROW], to[CONV_NARROW];
            for (int i = 0; i < (few ? CONV_NARROW : 1); ++i) {
                const int q = min(j + i, jobs - 1), tap = few ? q / g->C : q / 8;
                const int lane = few ? q % g->C : q % 8;
                from[i] = tap / g->K.x * g->xl.y + tap % g->K.x * 8 + lane;
                to[i] = tap * 8 + lane;
            }
            if (few)
                conv_narrow(x, g->xl.z, from, to, dy, z, upper, pair, k, g->points, g->add, part,
                            g->pstep);
            else
                conv_grad(x + from[0], g->xl.z, from, to, dy, z, upper, pair, k, g->points, g->add,
                          part + to[0] * 16, g->pstep);
        }
    }
}

/* Adds to part, which begins at split s, all chunks of images n0 .. n1-1 for the 16-blocks o0 ..
 * o1-1 of outputs and the 8-blocks i0 .. i1-1 of inputs; each chunk is fetched once for all. */
OSR_PART conv_split_grad(__global const float *restrict x, __global const float *restrict dy,
                         __global float *restrict part, conv_grads g, int2 OHW, int n0, int n1,
                         int o0, int o1, int i0, int i1)
{
    const int cols = min(OHW.x, WGRAD_POINTS), rows = min(OHW.y, WGRAD_POINTS / cols);
    const int imgs = cols < OHW.x || rows < OHW.y ? 1 : WGRAD_POINTS / (cols * rows);
    const int taps = g.K.x * g.K.y;
    conv_chunk k;

    for (int j = 0, n = 0; n < imgs; ++n)
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < cols; ++c, ++j) {
                k.x[j] = n * g.xl.w + g.stride.y * r * g.xl.y + g.stride.x * c * 8;
                k.dy[j] = n * g.dyl.w + r * g.dyl.y + c * 8;
            }
    g.add = 0;
    if (n0 == n1)
        for (int o = o0; o < o1; ++o)
            for (int i = i0 * taps * 8; i < i1 * taps * 8; ++i)
                CONV_STORE16(part + o * g.pstep + i * 16, (float16)(0.0f));
    for (g.n = n0; g.n < n1; g.n += imgs)
        for (g.r = 0; g.r < OHW.y; g.r += rows)
            for (g.c = 0; g.c < OHW.x; g.c += cols) {
                g.points = min(imgs, n1 - g.n) * min(rows, OHW.y - g.r) * min(cols, OHW.x - g.c);
                for (int o = o0; o < o1; o += 2)
                    for (int i = i0; i < i1; ++i)
                        conv_block_grad(x + (long)i * g.xl.z, dy,
                                        part + o * g.pstep + (long)i * taps * 128, &g, &k, o);
                g.add = 1;
            }
}

/* Partial weight gradients of the images of split s, s * N / S <= n < (s+1) * N / S, as
 * part [S][ceil(O/16)][ceil(C/8)][KH*KW][8 (i)][16 (o)]; chunks are added in order. The groups of
 * a split share blocks of 64 outputs x 32 inputs. */
OSR_KERNEL conv_wgrad(__global const float *restrict x, int4 xl, __global const float *restrict dy,
                      int4 dyl, __global float *restrict part, int N, int C, int O, int2 K,
                      int2 stride, int2 pad, int2 OHW, int S)
{
    const int s = (int)get_group_id(2), o16 = (O + 15) / 16, blocks = (C + 7) / 8;
    const int columns = (C + 31) / 32, jobs = columns * ((O + 63) / 64);
    const int groups = (int)(get_num_groups(0) * get_num_groups(1));
    const int n0 = (int)((long)s * N / S), n1 = (int)((long)(s + 1) * N / S);
    conv_grads g = {xl, dyl, K, stride, pad, 0, 0, 0, 0, 0, O, C, (long)blocks * K.x * K.y * 128};

    for (int j = (int)(get_group_id(1) * get_num_groups(0) + get_group_id(0)); j < jobs;
         j += groups) {
        const int i0 = j % columns * 4, o0 = j / columns * 4;

        conv_split_grad(x, dy, part + (long)s * o16 * g.pstep, g, OHW, n0, n1, o0,
                        min(o0 + 4, o16), i0, min(i0 + 4, blocks));
    }
}

/* dw (+)= the sum of S parts, `split` apart, for ni inputs and no outputs of I inputs in all. */
OSR_PART conv_reduce(__global const float *restrict part, long split, int S,
                     __global float *restrict dw, int I, int taps, int ni, int no, int accumulate)
{
    for (int k = 0; k < taps; ++k)
        for (int i = 0; i < ni; ++i) {
            __global const float *p = part + (k * 8 + i) * 16;
            float sum[16];
            float16 v = (float16)(0.0f);

            ROLLED for (int s = 0; s < S; ++s)
                v += CONV_LOAD16(p + s * split);
            vstore16(v, 0, sum);
            ROLLED for (int o = 0; o < no; ++o)
            {
                const long at = ((long)o * I + i) * taps + k;
                dw[at] = accumulate ? dw[at] + sum[o] : sum[o];
            }
        }
}

OSR_KERNEL conv_wgrad_reduce(__global const float *restrict part, __global float *restrict dw,
                             int dwoff, int O, int I, int KH, int KW, int S, int accumulate)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1), taps = KH * KW;
    const long block = (long)taps * 128, split = (long)((O + 15) / 16) * ((I + 7) / 8) * block;

    conv_reduce(part + ((long)og * ((I + 7) / 8) + ib) * block, split, S,
                dw + dwoff + ((long)og * 16 * I + ib * 8) * taps, I, taps, min(8, I - ib * 8),
                min(16, O - og * 16), accumulate);
}
