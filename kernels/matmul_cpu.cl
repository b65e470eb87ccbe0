/* matmul_cpu.cl - dense matrix products C [M][N] = A B, row-major, CPU family
 *
 *   matmul_nn   A [M][K], B [K][N]
 *   matmul_nt   A [M][K], B [N][K]: C = A B^T
 *   matmul_tn   A [K][M], B [K][N]: C = A^T B
 * Arguments: a, aoff, b, boff, c, coff, M, N, K; offsets in floats, any alignment; C is overwritten
 * (zeros when K is 0) and must not overlap A or B.
 *
 * matmul_nn and matmul_tn make a tile of 64 x 64 from blocks of depth 64, which they copy, filled
 * up with zeros, to local memory (32 KiB); each block's sums are added to C, which keeps the
 * rounding error of long products small. matmul_nt multiplies along K with vectors, MM_NT_R rows
 * of A by MM_NT_C rows of B at once, and adds up the lanes at the end; no operand is copied.
 *
 * Launch geometry: ceil(M / T), ceil(N / T), 1 groups of local size 1, 1, 1, with
 * T = 8 for matmul_nt with N <= 64, T = 64 otherwise. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

#define MM_TILE 64
#define MM_THIN_N 64
#define MM_THIN 8
#define MM_NT_DEPTH 1024 /* terms summed lane by lane before they are added to C */

/* A register block of matmul_nn and matmul_tn: MM_R rows by MM_V float16. One of matmul_nt: MM_NT_R
 * rows of A by MM_NT_C rows of B, in vectors of MM_LANES. They are made for 32 vector registers of
 * 512 bits, or 16 of 256 bits. */
#ifdef __AVX512F__
#define MM_R 8
#define MM_V 2
#define MM_NT_R 8
#define MM_NT_C 3
typedef float16 mm_vec;
#define MM_LANES 16
#define MM_LOAD(p) vload16(0, p)
#else
#define MM_R 4
#define MM_V 1
#define MM_NT_R 4
#define MM_NT_C 3
typedef float8 mm_vec;
#define MM_LANES 8
#define MM_LOAD(p) vload8(0, p)
#endif
#define MM_UNROLL _Pragma("unroll")
#define MM_LOCAL16(p) (*(__local float16 *)(p))

/* d [64][64] = lines x width values of p, lines ld apart. The rest of each line and the lines up to
 * a multiple of 8 are zeros. */
static inline void mm_copy(__global const float *p, int ld, int lines, int width,
                           __local float *d)
{
    ROLLED for (int i = 0; i < lines; ++i, p += ld, d += MM_TILE) {
        int j = 0;
        ROLLED for (; j + 16 <= width; j += 16) MM_LOCAL16(d + j) = vload16(0, p + j);
        ROLLED for (; j < MM_TILE; ++j) d[j] = j < width ? p[j] : 0.0f;
    }
    ROLLED for (int j = 0; j < (lines + 7) / 8 * 8 * MM_TILE - lines * MM_TILE; j += 16)
        MM_LOCAL16(d + j) = (float16)(0.0f);
}

/* C [rows][cols] = (first) or += a register block of sums. */
static inline void mm_store(__global float *c, int N, int rows, int cols, int first,
                            float16 (*acc)[MM_V])
{
    ROLLED for (int r = 0; r < min(rows, MM_R); ++r) ROLLED for (int v = 0; v < MM_V; ++v)
    {
        __global float *p = c + (size_t)r * N + v * 16;
        const float *t = (const float *)&acc[r][v];
        const int left = cols - v * 16;
        if (left >= 16)
            vstore16(first ? acc[r][v] : vload16(0, p) + acc[r][v], 0, p);
        else
            ROLLED for (int j = 0; j < left; ++j) p[j] = first ? t[j] : p[j] + t[j];
    }
}

/* A register block over one depth block: row r, term k of A is a[r * rs + k * ks]. */
static inline void mm_block(__local const float *a, int rs, int ks,
                            __local const float *b, int depth, float16 (*out)[MM_V])
{
    float16 acc[MM_R][MM_V];
    MM_UNROLL for (int r = 0; r < MM_R; ++r) MM_UNROLL for (int v = 0; v < MM_V; ++v)
        acc[r][v] = (float16)(0.0f);
    ROLLED for (int k = 0; k < depth; ++k, a += ks, b += MM_TILE) {
        float16 bv[MM_V];
        MM_UNROLL for (int v = 0; v < MM_V; ++v) bv[v] = *(__local const float16 *)(b + v * 16);
        MM_UNROLL for (int r = 0; r < MM_R; ++r)
        {
            const float16 av = (float16)(a[r * rs]);
            MM_UNROLL for (int v = 0; v < MM_V; ++v) acc[r][v] += av * bv[v];
        }
    }
    MM_UNROLL for (int r = 0; r < MM_R; ++r) MM_UNROLL for (int v = 0; v < MM_V; ++v)
        out[r][v] = acc[r][v];
}

/* The 64 x 64 tile from (m0, n0) of C = A B (ta 0) or A^T B (ta 1); la and lb hold a depth block of
 * each. */
OSR_PART mm_tile(__global const float *restrict a, __global const float *restrict b,
                 __global float *restrict c, int M, int N, int K, int ta, int m0, int n0,
                 __local float *restrict la, __local float *restrict lb)
{
    const int rows = min(M - m0, MM_TILE), cols = min(N - n0, MM_TILE);
    const int rs = ta ? 1 : MM_TILE, ks = ta ? MM_TILE : 1;
    int k0 = 0;

    do {
        const int depth = min(K - k0, MM_TILE);
        if (ta)
            mm_copy(a + (size_t)k0 * M + m0, M, depth, rows, la);
        else
            mm_copy(a + (size_t)m0 * K + k0, K, rows, depth, la);
        mm_copy(b + (size_t)k0 * N + n0, N, depth, cols, lb);
        ROLLED for (int r = 0; r < rows; r += MM_R)
            ROLLED for (int j = 0; j < cols; j += MM_V * 16) {
                float16 acc[MM_R][MM_V];
                mm_block(la + r * rs, rs, ks, lb + j, depth, acc);
                mm_store(c + (size_t)(m0 + r) * N + n0 + j, N, rows - r, cols - j, k0 == 0, acc);
            }
        k0 += MM_TILE;
    } while (k0 < K);
}

static inline float mm_lanes(mm_vec v)
{
#if MM_LANES == 16
    const float8 e = v.lo + v.hi;
#else
    const float8 e = v;
#endif
    const float4 f = e.lo + e.hi;
    const float2 g = f.lo + f.hi;
    return g.x + g.y;
}

/* C [rows][cols] = (first) or += the products of `depth` terms of MM_NT_R rows of A and MM_NT_C
 * rows of B, each K apart. Rows beyond `rows` or `cols` repeat the last one and are not stored. */
static inline void mm_dot(__global const float *a, __global const float *b,
                          __global float *c, int N, int K, int rows, int cols, int depth,
                          int first)
{
    __global const float *ap[MM_NT_R], *bp[MM_NT_C];
    mm_vec acc[MM_NT_R][MM_NT_C];
    mm_vec lanes[MM_NT_R][MM_NT_C];
    int k = 0;

    MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) bp[j] = b + (size_t)min(j, cols - 1) * K;
    MM_UNROLL for (int r = 0; r < MM_NT_R; ++r)
    {
        ap[r] = a + (size_t)min(r, rows - 1) * K;
        MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) acc[r][j] = (mm_vec)(0.0f);
    }
    ROLLED for (; k + MM_LANES <= depth; k += MM_LANES) {
        mm_vec bv[MM_NT_C];
        MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) bv[j] = MM_LOAD(bp[j] + k);
        MM_UNROLL for (int r = 0; r < MM_NT_R; ++r)
        {
            const mm_vec av = MM_LOAD(ap[r] + k);
            MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) acc[r][j] += av * bv[j];
        }
    }
    MM_UNROLL for (int r = 0; r < MM_NT_R; ++r) MM_UNROLL for (int j = 0; j < MM_NT_C; ++j)
        lanes[r][j] = acc[r][j];
    ROLLED for (int r = 0; r < min(rows, MM_NT_R); ++r)
        ROLLED for (int j = 0; j < min(cols, MM_NT_C); ++j) {
            float sum = mm_lanes(lanes[r][j]);
            ROLLED for (int t = k; t < depth; ++t) sum += a[r * K + t] * b[j * K + t];
            c[(size_t)r * N + j] = first ? sum : c[(size_t)r * N + j] + sum;
        }
}

#define MM_KERNEL(NAME)                                                                            \
    OSR_KERNEL NAME(__global const float *restrict a, int aoff, __global const float *restrict b,  \
                    int boff, __global float *restrict c, int coff, int M, int N, int K)

MM_KERNEL(matmul_nn)
{
    __local float la[MM_TILE * MM_TILE] __attribute__((aligned(64)));
    __local float lb[MM_TILE * MM_TILE] __attribute__((aligned(64)));
    mm_tile(a + aoff, b + boff, c + coff, M, N, K, 0, (int)get_group_id(0) * MM_TILE,
            (int)get_group_id(1) * MM_TILE, la, lb);
}

MM_KERNEL(matmul_tn)
{
    __local float la[MM_TILE * MM_TILE] __attribute__((aligned(64)));
    __local float lb[MM_TILE * MM_TILE] __attribute__((aligned(64)));
    mm_tile(a + aoff, b + boff, c + coff, M, N, K, 1, (int)get_group_id(0) * MM_TILE,
            (int)get_group_id(1) * MM_TILE, la, lb);
}

/* Rows m0 .. m1-1 and columns n0 .. n1-1 of C = A B^T. */
OSR_PART mm_dots(__global const float *restrict a, __global const float *restrict b,
                 __global float *restrict c, int N, int K, int m0, int m1, int n0, int n1)
{
    int k = 0;

    do {
        const int depth = min(K - k, MM_NT_DEPTH);
        ROLLED for (int m = m0; m < m1; m += MM_NT_R)
            ROLLED for (int n = n0; n < n1; n += MM_NT_C)
                mm_dot(a + (size_t)m * K + k, b + (size_t)n * K + k, c + (size_t)m * N + n, N, K,
                       m1 - m, n1 - n, depth, k == 0);
        k += MM_NT_DEPTH;
    } while (k < K);
}

MM_KERNEL(matmul_nt)
{
    const int tile = N <= MM_THIN_N ? MM_THIN : MM_TILE;
    const int m0 = (int)get_group_id(0) * tile, n0 = (int)get_group_id(1) * tile;

    mm_dots(a + aoff, b + boff, c + coff, N, K, m0, min(m0 + tile, M), n0, min(n0 + tile, N));
}
