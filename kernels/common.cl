/* common.cl - what every kernel file uses: the two families, layouts, sums, random numbers
 *
 * Families: OSR_GPU 0 runs one work-item a work-group (LS 1), which CPU drivers turn into a plain
 * loop on one core; OSR_GPU 1 runs LS items a group with trees in local memory. Kernels that are
 * not convolutions or matrix products are written once for both.
 *
 * Image: float [N][CB][HP][WP][8], channels in blocks of 8, a zero halo round each plane, zeros in
 * lanes beyond C. Its layout travels as int4 (base, row, plane, img), in floats. Dense: row-major
 * [rows][cols] as (buffer, offset in floats). */
#define OSR_COMMON
#ifndef OSR_GPU
#define OSR_GPU 0
#endif
#ifndef LS
#if OSR_GPU
#define LS 64
#else
#define LS 1
#endif
#endif

#define OSR_KERNEL __kernel __attribute__((reqd_work_group_size(LS, 1, 1))) void

/* A function that CPU drivers compile by itself. PoCL makes three copies of a kernel and of what it
 * inlines, of which one runs; what a kernel calls is made once. Work-item functions, which PoCL
 * knows in kernels only, would have it inlined after all: their values are arguments. Vectors of
 * 512 bits, where there are any, are kept whole as they are in a kernel. */
#if OSR_GPU
#define OSR_PART static inline void
#else
#define OSR_PART static __attribute__((noinline, min_vector_width(512))) void
#endif

/* Before a loop that is not worth its unrolling: code that drivers would compile for long. */
#define ROLLED _Pragma("clang loop unroll(disable) vectorize(disable)")

#define LOAD8(p) (*(__global const float8 *)(p))
#define STORE8(p, v) (*(__global float8 *)(p) = (v))

/* A hint to bring the line of 64 bytes at p into a CPU's second-level cache. */
#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#define HINT(p) __builtin_prefetch((const void *)(size_t)(p), 0, 2)
#else
#define HINT(p) ((void)(p))
#endif

/* Where the 8 lanes of pixel (y, x) in block cb of image n begin. */
static inline size_t image_at(const int4 l, int n, int cb, int y, int x)
{
    return (size_t)n * (size_t)l.w + (size_t)(l.x + cb * l.z + y * l.y + x * 8);
}

/* Every pixel (y, x) of an h x w plane, shared among the items of the group. */
#if OSR_GPU
#define FOR_PIXELS(y, x, h, w)                                                                     \
    for (int p_ = (int)get_local_id(0), y = p_ / (w), x = p_ % (w); p_ < (h) * (w);                \
         p_ += LS, y = p_ / (w), x = p_ % (w))
#else
#define FOR_PIXELS(y, x, h, w)                                                                     \
    for (int y = 0; y < (h); ++y)                                                                  \
        for (int x = 0; x < (w); ++x)
#endif

/* Runs the statement `each` for every pixel (y, x), with k in 0..SUM_PARTS-1 in scope: sums kept
 * apart by k need not wait for each other on a CPU; add_up8 brings them together. */
#if OSR_GPU
#define SUM_PARTS 1
#define SUM_PIXELS(y, x, k, h, w, each)                                                            \
    FOR_PIXELS(y, x, h, w)                                                                         \
    {                                                                                              \
        const int k = 0;                                                                           \
        each;                                                                                      \
    }
#else
#define SUM_PARTS 4
#define SUM_PIXELS(y, x, k, h, w, each)                                                            \
    for (int y = 0; y < (h); ++y) {                                                                \
        int x_ = 0;                                                                                \
        for (; x_ + SUM_PARTS <= (w); x_ += SUM_PARTS) {                                           \
            _Pragma("unroll") for (int k = 0; k < SUM_PARTS; ++k) {                                \
                const int x = x_ + k;                                                              \
                each;                                                                              \
            }                                                                                      \
        }                                                                                          \
        for (; x_ < (w); ++x_) {                                                                   \
            const int x = x_, k = 0;                                                               \
            each;                                                                                  \
        }                                                                                          \
    }
#endif

static inline void clear8(float8 *v)
{
    for (int k = 0; k < SUM_PARTS; ++k)
        v[k] = (float8)(0.0f);
}

static inline float8 add_up8(const float8 *v)
{
#if SUM_PARTS == 4
    return (v[0] + v[1]) + (v[2] + v[3]);
#else
    return v[0];
#endif
}

/* Every index i < n of a row, shared among the items of the group. */
#if LS > 1
#define FOR_ROW(i, n) for (int i = (int)get_local_id(0); i < (n); i += LS)
#else
#define FOR_ROW(i, n) ROLLED for (int i = 0; i < (n); ++i)
#endif

/* The 8 lanes of a block: at once on a CPU, one an item else. */
#if OSR_GPU
typedef float lanes;
#define LANES(p) (*(p))
#define FOR_LANES(i) FOR_ROW(i, 8)
#else
typedef float8 lanes;
#define LANES(p) (*(__global float8 *)(p))
#define FOR_LANES(i) for (int i = 0; i < 8; i += 8)
#endif

/* Every index of a flat array: CHUNK consecutive ones a work-group on a CPU, one an item else. */
#define CHUNK 4096
#if OSR_GPU
#define FOR_FLAT(i, n)                                                                             \
    for (int i = (int)get_global_id(0), e_ = min(i + 1, (n)); i < e_; ++i)
#else
#define FOR_FLAT(i, n)                                                                             \
    for (int i = (int)get_group_id(0) * CHUNK, e_ = min(i + CHUNK, (n)); i < e_; ++i)
#endif

/* Sums and maxima over a work-group in a fixed tree; every item gets the result. `tmp` is local
 * memory of LS elements; safe to call again with the same tmp. */
#if LS > 1
#define OSR_TREE(type, name, combine)                                                              \
    static inline type name(type v, __local type *tmp)                                             \
    {                                                                                              \
        const int id = (int)get_local_id(0);                                                       \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        tmp[id] = v;                                                                               \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        for (int s = LS / 2; s > 0; s /= 2) {                                                      \
            if (id < s) {                                                                          \
                type a = tmp[id], b = tmp[id + s];                                                 \
                tmp[id] = combine;                                                                 \
            }                                                                                      \
            barrier(CLK_LOCAL_MEM_FENCE);                                                          \
        }                                                                                          \
        return tmp[0];                                                                             \
    }
#else
#define OSR_TREE(type, name, combine)                                                              \
    static inline type name(type v, __local type *tmp)                                             \
    {                                                                                              \
        (void)tmp;                                                                                 \
        return v;                                                                                  \
    }
#endif
OSR_TREE(float, group_sum, a + b)
OSR_TREE(float, group_max, fmax(a, b))
OSR_TREE(float8, group_sum8, a + b)

/* Ones in the lanes of block cb that are real channels, zeros beyond. */
static inline float8 real_lanes(int cb, int c)
{
    const int8 lane = (int8)(0, 1, 2, 3, 4, 5, 6, 7) + cb * 8;
    return select((float8)(0.0f), (float8)(1.0f), lane < c);
}

/* 8 values of a vector of c floats from block cb on; zeros beyond. */
static inline float8 load_lanes(__global const float *v, int cb, int c)
{
    float t[8];
#pragma unroll
    for (int i = 0; i < 8; ++i)
        t[i] = cb * 8 + i < c ? v[cb * 8 + i] : 0.0f;
    return (float8)(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}

/* What follows a convolution to C channels of planes `plane` floats apart: kind 0 nothing (slope
 * 1), 1 the leaky rectifier, 2 scale and shift from coef [4][8*ceil(C/8)] (see norm.cl), then the
 * rectifier; and, for CPUs, all of it for the 16 channels that it was last moved to. */
typedef struct conv_after {
    __global const float *coef;
    int kind;
    float slope;
    int C, plane, upper;
    float16 scale, shift;
    int16 live;
} conv_after;

static inline conv_after conv_after_of(__global const float *coef, int kind, float slope, int C,
                                       int plane)
{
    const conv_after a = {coef, kind, slope, C, plane, 0, 1.0f, 0.0f, -1};

    return a;
}

/* Moves to 16-block b. */
static inline void conv_after_at(conv_after *a, int b)
{
    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int C8 = (a->C + 7) / 8 * 8, up = b * 16 + 8 < C8 ? 8 : 0;
    __global const float *k = a->coef + b * 16;

    a->upper = up ? a->plane : 0;
    a->live = lane + b * 16 < a->C;
    if (a->kind == 2) {
        a->scale = (float16)(LOAD8(k), LOAD8(k + up));
        a->shift = (float16)(LOAD8(k + C8), LOAD8(k + C8 + up));
    }
}

/* Writes one pixel, at p. Where there is no upper 8-block the lower one is written over it. */
static inline void conv_after_put(const conv_after *a, __global float *p, float16 v)
{
    v = v * a->scale + a->shift;
    v = select((float16)(0.0f), select(v * a->slope, v, v > (float16)(0.0f)), a->live);
    STORE8(p + a->upper, v.hi);
    STORE8(p, v.lo);
}

/* Batch statistics of 16 channels of what a work-group puts out: sums about the first value. */
typedef struct conv_sums {
    float16 pivot, sum, square;
    float count;
} conv_sums;

static inline void conv_sums_add(conv_sums *s, float16 v)
{
    const float16 d = v - s->pivot;
    s->sum += d;
    s->square += d * d;
}

/* Mean, sum of squared deviations and count (0: of nothing) of channels 8cb .. 8cb + 15, below OC,
 * to row g of part [3][G][8*ceil(OC/8)], as norm_merge wants them. */
static inline void conv_sums_put(const conv_sums *s, __global float *part, int g, int G, int cb,
                                 int OC)
{
    const int C8 = (OC + 7) / 8 * 8;
    const float16 mean = s->pivot + s->sum / max(s->count, 1.0f);
    const float16 square = s->square - s->sum * s->sum / max(s->count, 1.0f);
    const float16 out[3] = {mean, max(square, (float16)(0.0f)), (float16)(s->count)};

    for (int i = 0; i < 3; ++i) {
        __global float *p = part + ((size_t)i * G + g) * C8 + cb * 8;
        STORE8(p, out[i].lo);
        if (cb * 8 + 8 < OC)
            STORE8(p + 8, out[i].hi);
    }
}

/* Philox 4x32-10 (Salmon et al., SC 2011): four random words of a counter under a key. */
static inline uint4 philox(uint4 c, uint2 k)
{
    for (int r = 0; r < 10; ++r) {
        const uint h0 = mul_hi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x;
        const uint h1 = mul_hi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;
        c = (uint4)(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);
        k += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

/* Uniform in (0, 1): the upper 24 bits of a word, centred. */
static inline float uniform01(uint w)
{
    return ((float)(w >> 8) + 0.5f) * (1.0f / 16777216.0f);
}
