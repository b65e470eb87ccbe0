/* matmul_gpu.cl - dense matrix products C [M][N] = A B, row-major, GPU family
 *
 *   matmul_nn   A [M][K], B [K][N]
 *   matmul_nt   A [M][K], B [N][K]: C = A B^T
 *   matmul_tn   A [K][M], B [K][N]: C = A^T B
 * Arguments: a, aoff, b, boff, c, coff, M, N, K; offsets in floats, any alignment; C is overwritten
 * (zeros when K is 0) and must not overlap A or B.
 *
 * A group of MM_ITEMS items makes a tile of MM_M x MM_N (128 of them 64 x 64, unless the host says
 * else), 8 x 4 or 4 x 4 an item, from slices of depth 16 in local memory; while one slice is
 * multiplied the next is fetched into registers. Sums are folded every 256 terms, which keeps the
 * rounding error of long products small. Every sum has a fixed order.
 * matmul_nt with N <= 64, a linear layer of few outputs, has too few such tiles to fill a device:
 * there a group makes a tile of 8 x 8, its items share the terms, and their sums are then added.
 *
 * Launch geometry: ceil(M / MM_M), ceil(N / MM_N), 1 groups of local size MM_ITEMS, 1, 1; for
 * matmul_nt with N <= 64 ceil(M / 8), ceil(N / 8), 1. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

#ifndef MM_ITEMS
#define MM_ITEMS 128
#define MM_M 64
#define MM_N 64
#endif
#define MM_DEPTH 16
#define MM_SIZE(tile) (MM_DEPTH * ((tile) + 4))
#define MM_FETCH(tile) ((tile) * MM_DEPTH / MM_ITEMS)
#define MM_ROWS (MM_M * MM_N / 4 / MM_ITEMS) /* of an item: runs of 4, MM_APART apart */
#define MM_APART (MM_ITEMS * 16 / MM_N)
#define MM_SHARE (MM_ITEMS / 16) /* items that add up one sum of mm_thin */
#define MM_FOLD 16 /* slices */
#define MM_THIN_N 64
#define MM_THIN 8

#define MM_LOCAL4(p) (*(__local float4 *)(p))
#define MM_UNROLL _Pragma("unroll")
#ifdef FP_FAST_FMAF
#define MM_FMA(a, b, c) fma(a, b, c)
#else
#define MM_FMA(a, b, c) ((a) * (b) + (c))
#endif

/* Element e of this item in a slice: its row r of the tile and depth k, neighbours in memory for
 * neighbouring items. Operands stored [rows][K] run along k, those stored [K][rows] along r. */
static inline int mm_row(int along_k, int tile, int id, int e)
{
    return along_k ? id / MM_DEPTH + e * (MM_ITEMS / MM_DEPTH) : id % tile;
}

static inline int mm_depth(int along_k, int tile, int id, int e)
{
    return along_k ? id % MM_DEPTH : id / tile + e * (MM_ITEMS / tile);
}

/* Fetches rows r0.. and depths k0.. of an operand with `rows` rows; zeros beyond its end. */
static inline void mm_fetch(__global const float *p, int along_k, int tile, int rows, int K, int r0,
                            int k0, int id, float *v)
{
    MM_UNROLL for (int e = 0; e < MM_FETCH(tile); ++e)
    {
        const int r = r0 + mm_row(along_k, tile, id, e), k = k0 + mm_depth(along_k, tile, id, e);
        v[e] = 0.0f;
        if (r < rows && k < K)
            v[e] = p[along_k ? (size_t)r * K + k : (size_t)k * rows + r];
    }
}

static inline void mm_keep(__local float *d, int along_k, int tile, int id, const float *v)
{
    MM_UNROLL for (int e = 0; e < MM_FETCH(tile); ++e)
        d[mm_depth(along_k, tile, id, e) * (tile + 4) + mm_row(along_k, tile, id, e)] = v[e];
}

/* acc[r] += sum over k of a[k][row r] b[k][4 columns]. */
static inline void mm_step(__local float *a, __local float *b, float4 *acc)
{
    MM_UNROLL for (int k = 0; k < MM_DEPTH; ++k)
    {
        const float4 v = MM_LOCAL4(b + k * (MM_N + 4));
        MM_UNROLL for (int r = 0; r < MM_ROWS; r += 4)
        {
            const float4 u = MM_LOCAL4(a + k * (MM_M + 4) + r / 4 * MM_APART);
            acc[r] = MM_FMA((float4)(u.s0), v, acc[r]);
            acc[r + 1] = MM_FMA((float4)(u.s1), v, acc[r + 1]);
            acc[r + 2] = MM_FMA((float4)(u.s2), v, acc[r + 2]);
            acc[r + 3] = MM_FMA((float4)(u.s3), v, acc[r + 3]);
        }
    }
}

/* One tile of C; sa and sb hold two slices each. */
static inline void mm_tile(__global const float *a, __global const float *b,
                           __global float *c, int M, int N, int K, int ta, int tb,
                           __local float *sa, __local float *sb)
{
    const int id = (int)get_local_id(0), row = id / (MM_N / 4) * 4, col = id % (MM_N / 4) * 4;
    const int m0 = (int)get_group_id(0) * MM_M, n0 = (int)get_group_id(1) * MM_N;
    const int slices = (K + MM_DEPTH - 1) / MM_DEPTH;
    float av[MM_FETCH(MM_M)], bv[MM_FETCH(MM_N)];
    float4 acc[MM_ROWS], sum[MM_ROWS];

    MM_UNROLL for (int r = 0; r < MM_ROWS; ++r) acc[r] = sum[r] = (float4)(0.0f);
    for (int s = -1; s < slices; ++s) {
        const int cur = s & 1, next = cur ^ 1;
        if (s + 1 < slices) {
            mm_fetch(a, !ta, MM_M, M, K, m0, (s + 1) * MM_DEPTH, id, av);
            mm_fetch(b, tb, MM_N, N, K, n0, (s + 1) * MM_DEPTH, id, bv);
        }
        if (s >= 0)
            mm_step(sa + cur * MM_SIZE(MM_M) + row, sb + cur * MM_SIZE(MM_N) + col, acc);
        if (s + 1 == slices || s % MM_FOLD == MM_FOLD - 1) {
            MM_UNROLL for (int r = 0; r < MM_ROWS; ++r)
            {
                sum[r] += acc[r];
                acc[r] = (float4)(0.0f);
            }
        }
        if (s + 1 < slices) {
            mm_keep(sa + next * MM_SIZE(MM_M), !ta, MM_M, id, av);
            mm_keep(sb + next * MM_SIZE(MM_N), tb, MM_N, id, bv);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    MM_UNROLL for (int r = 0; r < MM_ROWS; ++r)
    {
        const int m = m0 + row + r / 4 * MM_APART + r % 4, n = n0 + col;
        __global float *p = c + (size_t)m * N + n;
        const float v[4] = {sum[r].s0, sum[r].s1, sum[r].s2, sum[r].s3};
        MM_UNROLL for (int j = 0; j < 4; ++j) if (m < M && n + j < N) p[j] = v[j];
    }
}

/* One 8 x 8 tile of C = A B^T; item i sums the terms i, i + MM_ITEMS, ... Two rows of the tile at a
 * time go through `part` (16 sums of all items), where MM_SHARE items add 16 terms each, then one
 * item those. */
static inline void mm_thin(__global const float *a, __global const float *b,
                           __global float *c, int M, int N, int K, __local float *part,
                           __local float *shares)
{
    const int id = (int)get_local_id(0), value = id / MM_SHARE, lane = id % MM_SHARE;
    const int m0 = (int)get_group_id(0) * MM_THIN, n0 = (int)get_group_id(1) * MM_THIN;
    float acc[MM_THIN][MM_THIN];

    MM_UNROLL for (int r = 0; r < MM_THIN; ++r) MM_UNROLL for (int j = 0; j < MM_THIN; ++j)
        acc[r][j] = 0.0f;
    for (int k = id; k < K; k += MM_ITEMS) {
        float av[MM_THIN], bv[MM_THIN];
        MM_UNROLL for (int r = 0; r < MM_THIN; ++r)
        {
            av[r] = a[(size_t)min(m0 + r, M - 1) * K + k];
            bv[r] = b[(size_t)min(n0 + r, N - 1) * K + k];
        }
        MM_UNROLL for (int r = 0; r < MM_THIN; ++r) MM_UNROLL for (int j = 0; j < MM_THIN; ++j)
            acc[r][j] = MM_FMA(av[r], bv[j], acc[r][j]);
    }
    MM_UNROLL for (int r = 0; r < MM_THIN; r += 2)
    {
        MM_UNROLL for (int j = 0; j < 2 * MM_THIN; ++j)
            part[j * (MM_ITEMS + 1) + id] = acc[r + j / MM_THIN][j % MM_THIN];
        barrier(CLK_LOCAL_MEM_FENCE);
        float sum = 0.0f;
        for (int i = 0; i < MM_ITEMS; i += MM_SHARE)
            sum += part[value * (MM_ITEMS + 1) + i + lane];
        shares[id] = sum;
        barrier(CLK_LOCAL_MEM_FENCE);
        const int m = m0 + r + value / MM_THIN, n = n0 + value % MM_THIN;
        if (lane == 0 && m < M && n < N) {
            sum = 0.0f;
            for (int i = 0; i < MM_SHARE; ++i)
                sum += shares[id + i];
            c[(size_t)m * N + n] = sum;
        }
    }
}

#define MM_KERNEL(NAME, TA, TB, THIN)                                                              \
    __kernel __attribute__((reqd_work_group_size(MM_ITEMS, 1, 1))) void NAME(                      \
        __global const float *restrict a, int aoff, __global const float *restrict b, int boff,    \
        __global float *restrict c, int coff, int M, int N, int K)                                 \
    {                                                                                              \
        __local float sa[2 * MM_SIZE(MM_M)] __attribute__((aligned(16)));                          \
        __local float sb[2 * MM_SIZE(MM_N)] __attribute__((aligned(16)));                          \
        if (THIN && N <= MM_THIN_N)                                                                \
            mm_thin(a + aoff, b + boff, c + coff, M, N, K, sa, sb);                                \
        else                                                                                       \
            mm_tile(a + aoff, b + boff, c + coff, M, N, K, TA, TB, sa, sb);                        \
    }
MM_KERNEL(matmul_nn, 0, 0, 0)
MM_KERNEL(matmul_nt, 0, 1, 1)
MM_KERNEL(matmul_tn, 1, 0, 0)
