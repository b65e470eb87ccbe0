/* winograd_gpu.cl - Winograd F(4x4, 3x3): 3x3 convolutions of stride 1 and padding 1, GPU family
 *
 * Y = A' ((G g G') * (B' d B)) A for each 6x6 input tile d and filter g, points 0, 1, -1, 2, -2 and
 * infinity (Lavin and Gray 2015, arXiv:1509.09308). Tiles as in winograd_cpu.cl. The products are
 * kernels of conv_gpu.cl: conv_taps makes M = V U as 36 convolutions 1x1 of images of one row,
 * conv_wgrad dU = V' D as the weight gradient of 36 P images, each with a filter of its own.
 *
 *   U  [36][O16/16][C8/8][8][16]  transformed filters
 *   V  [36][P][C8/8][T][8]        transformed tiles of x; D the same of dy, M (P 1) of products
 *   dU [36][P][O16/16][C8/8][8][16]
 * For CLBlast these are plain matrices: U, dU [C8][O16], V, D, M [T][C8]. step tells the layout of
 * V, D and M: x to the next block of channels, y to the next tile.
 *
 * An item makes one channel of one tile or filter, 36 values in registers, neighbours in memory for
 * neighbouring items, 32 bytes a pixel at a time. Memory bounds all of it, not multiplications, so
 * the transforms are plain products of small matrices.
 *
 * Launch geometry (number of groups; local size LS, 1, 1):
 *   wino_pack, wino_wgrad_filter   O16 / 16, C8 / 8, 128 / LS   O, C: after the transposition
 *   wino_tiles                     ceil(8 P T / LS), C8 / 8, 1
 *   wino_output                    ceil(8 T / LS), O8 / 8, 1 */
#ifndef OSR_COMMON
#include "common.cl"
#endif

#define WINO_UNROLL _Pragma("unroll")

__constant float wino_b[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                 {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
__constant float wino_a[6][4] = {{1, 0, 0, 0}, {1, 1, 1, 1},   {1, -1, 1, -1},
                                 {1, 2, 4, 8}, {1, -2, 4, -8}, {0, 0, 0, 1}};
__constant float wino_g[6][3] = {
    {1 / 4.0f, 0, 0}, {-1 / 6.0f, -1 / 6.0f, -1 / 6.0f}, {-1 / 6.0f, 1 / 6.0f, -1 / 6.0f},
    {1 / 24.0f, 1 / 12.0f, 1 / 6.0f}, {1 / 24.0f, -1 / 12.0f, 1 / 6.0f}, {0, 0, 1}};

/* d (S x S) becomes P d P' (R x R), P[r][k] an expression of r and k. Unrolled, zeros vanish. */
#define WINO_SANDWICH(NAME, R, S, P)                                                               \
    static inline void NAME(float (*d)[6])                                                         \
    {                                                                                              \
        float t[6][6];                                                                             \
        WINO_UNROLL for (int r = 0; r < R; ++r) WINO_UNROLL for (int j = 0; j < S; ++j) {          \
            t[r][j] = 0.0f;                                                                        \
            WINO_UNROLL for (int k = 0; k < S; ++k) if (P != 0.0f) t[r][j] += P * d[k][j];         \
        }                                                                                          \
        WINO_UNROLL for (int i = 0; i < R; ++i) WINO_UNROLL for (int r = 0; r < R; ++r) {          \
            d[i][r] = 0.0f;                                                                        \
            WINO_UNROLL for (int k = 0; k < S; ++k) if (P != 0.0f) d[i][r] += P * t[i][k];         \
        }                                                                                          \
    }
WINO_SANDWICH(wino_input, 6, 6, wino_b[r][k])
WINO_SANDWICH(wino_grad, 6, 4, wino_a[r][k])
WINO_SANDWICH(wino_result, 4, 6, wino_a[k][r])
WINO_SANDWICH(wino_filter, 6, 3, wino_g[r][k])
WINO_SANDWICH(wino_filter_grad, 3, 6, wino_g[k][r])

/* Pixel (0, 0) of tile t: column, row, image. */
static inline int3 wino_at(int t, int2 HW)
{
    const int2 grid = (HW + 3) / 4;
    return (int3)(t % grid.x * 4, t / grid.x % grid.y * 4, t / (grid.x * grid.y));
}

/* Where value e of the filters' block (og of o16, ib of i8) lies in U and dU. */
static inline size_t wino_filter_at(int og, int o16, int ib, int i8, int e, int plain)
{
    return plain ? (ib * 8 + e / 16) * ((size_t)o16 * 16) + og * 16 + e % 16
                 : ((size_t)og * i8 + ib) * 128 + e;
}

/* Transformed filters; transpose swaps inputs and outputs and turns the filters by 180 degrees,
 * which is what the input gradient needs. */
OSR_KERNEL wino_pack(__global const float *restrict w, int woff, __global float *restrict out,
                     int ooff, int O, int I, int transpose, int OP,
                     int plain)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int e = (int)get_group_id(2) * LS + (int)get_local_id(0);
    const int co = transpose ? I : O, ci = transpose ? O : I, i8 = (ci + 7) / 8;
    const int o = og * 16 + e % 16, i = ib * 8 + e / 16;
    const size_t at = woff + (size_t)(transpose ? i : o) * I * 9 + (transpose ? o : i) * 9;
    __global float *p = out + ooff + wino_filter_at(og, OP / 16, ib, i8, e, plain);
    float d[6][6];

    WINO_UNROLL for (int k = 0; k < 9; ++k) d[k / 3][k % 3] =
        i < ci && o < co ? w[at + (transpose ? 8 - k : k)] : 0.0f;
    wino_filter(d);
    WINO_UNROLL for (int k = 0; k < 36; ++k) p[(size_t)k * OP * i8 * 8] = d[k / 6][k % 6];
}

/* Tiles t0 .. t0 + live - 1 of x (with grad: of dy) to v, then zeros up to P T tiles. Rows and
 * columns beyond H and W are read from the halo. */
OSR_KERNEL wino_tiles(__global const float *restrict x, int4 xl, __global float *restrict v,
                      int2 HW, int t0, int live, int P, int T, int grad, int2 step)
{
    const int e = (int)get_global_id(0), t = e / 8, cb = (int)get_group_id(1);
    const int3 w = wino_at(t0 + min(t, live - 1), HW);
    __global const float *p = x + (size_t)w.z * xl.w + xl.x + cb * xl.z + e % 8;
    const size_t each = (size_t)get_num_groups(1) * T * 8;
    float d[6][6];

    if (t >= P * T)
        return;
    v += t / T * each + (size_t)cb * step.x + (size_t)(t % T) * step.y + e % 8;
    WINO_UNROLL for (int i = 0; i < 6; ++i) WINO_UNROLL for (int j = 0; j < 6; ++j)
    {
        const int r = min(w.y + i - !grad, HW.y), c = min(w.x + j - !grad, HW.x);
        d[i][j] = t < live && (!grad || (i < 4 && j < 4)) ? p[r * xl.y + c * 8] : 0.0f;
    }
    if (grad)
        wino_grad(d);
    else
        wino_input(d);
    WINO_UNROLL for (int k = 0; k < 36; ++k) v[k * P * each] = d[k / 6][k % 6];
}

/* y of T tiles from tile t0 on from their products m, with what follows (see conv_after). */
OSR_KERNEL wino_output(__global const float *restrict m, __global float *restrict y, int4 yl,
                       int OC, int2 HW, int t0, int T, __global const float *restrict coef,
                       int after, float slope, int2 step)
{
    const int e = (int)get_global_id(0), ob = (int)get_group_id(1), o = ob * 8 + e % 8;
    const int OB = (int)get_num_groups(1);
    const int3 w = wino_at(t0 + e / 8, HW);
    __global float *p = y + image_at(yl, w.z, ob, w.y, w.x) + e % 8;
    float d[6][6];

    if (e >= T * 8)
        return;
    m += (size_t)ob * step.x + (size_t)(e / 8) * step.y + e % 8;
    WINO_UNROLL for (int k = 0; k < 36; ++k) d[k / 6][k % 6] = m[(size_t)k * OB * T * 8];
    wino_result(d);
    WINO_UNROLL for (int i = 0; i < 4; ++i) WINO_UNROLL for (int j = 0; j < 4; ++j)
    {
        float r = after == 2 ? d[i][j] * coef[o] + coef[OB * 8 + o] : d[i][j];
        r = after == 0 || r > 0.0f ? r : r * slope;
        if (w.y + i < HW.y && w.x + j < HW.x)
            p[i * yl.y + j * 8] = o < OC ? r : 0.0f;
    }
}

/* dw [O][C][3][3] at dwoff (+)= G' (sum of the P parts of dU) G; accumulate 0 overwrites. */
OSR_KERNEL wino_wgrad_filter(__global const float *restrict du, __global float *restrict dw,
                             int dwoff, int C, int O, int P, int accumulate, int plain)
{
    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);
    const int e = (int)get_group_id(2) * LS + (int)get_local_id(0);
    const size_t each = (size_t)get_num_groups(0) * get_num_groups(1) * 128;
    const int i = ib * 8 + e / 16, o = og * 16 + e % 16;
    __global float *p = dw + dwoff + ((size_t)o * C + i) * 9;
    float d[6][6];

    du += wino_filter_at(og, (int)get_num_groups(0), ib, (int)get_num_groups(1), e, plain);
    WINO_UNROLL for (int k = 0; k < 36; ++k)
    {
        d[k / 6][k % 6] = 0.0f;
        for (int part = 0; part < P; ++part)
            d[k / 6][k % 6] += du[(k * P + part) * each];
    }
    wino_filter_grad(d);
    if (i < C && o < O)
        for (int k = 0; k < 9; ++k)
            p[k] = accumulate ? p[k] + d[k / 3][k % 3] : d[k / 3][k % 3];
}
