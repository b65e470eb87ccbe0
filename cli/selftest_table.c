/* selftest_table.c - the ops with their references, and the cases. */
#include "selftest_table.h"

#include "reference.h"

/* Sizes of images and convolutions in case_row.d; matrices are {rows, columns, inner size}. */
enum { N, H, W, C, O, KH, KW, STRIDE, PAD, PAD_END };
enum { ROWS, COLS, INNER };

static int count_of(osr_shape s)
{
    return (int)osr_shape_count(s);
}

/* The sizes up to the first 0. */
static osr_shape leading(const struct case_row *c)
{
    int rank = 0;
    while (rank < 4 && c->d[rank] > 0)
        rank++;
    return osr_shape_make(rank, c->d[0], c->d[1], c->d[2], c->d[3]);
}

static osr_shape matrix(int rows, int cols)
{
    return osr_shape_make(2, rows, cols, 0, 0);
}

static osr_shape vector(int n)
{
    return osr_shape_make(1, n, 0, 0, 0);
}

static osr_shape scalar(void)
{
    return osr_shape_make(0, 0, 0, 0, 0);
}

#define SHAPES(name) static void name(const struct case_row *c, osr_shape *in, osr_shape *out)
#define DEVICE(name)                                                                               \
    static osr_tensor name(osr_ctx *ctx, const struct case_row *c, const osr_tensor *in)
#define REFERENCE(name)                                                                            \
    static void name(const struct case_row *c, double *const *in, const int32_t *labels,           \
                     uint64_t seed, double *out)
#define UNUSED ((void)c, (void)labels, (void)seed)

/* --- element by element --- */

SHAPES(same_shapes)
{
    in[0] = in[1] = *out = leading(c);
}

#define BINARY(name, code)                                                                         \
    DEVICE(name##_device)                                                                          \
    {                                                                                              \
        (void)c;                                                                                   \
        return osr_##name(ctx, in[0], in[1]);                                                      \
    }                                                                                              \
    REFERENCE(name##_reference)                                                                    \
    {                                                                                              \
        UNUSED;                                                                                    \
        ref_map(code, in[0], in[1], out, osr_shape_count(leading(c)), 0.0, 0.0);                   \
    }
BINARY(add, REF_ADD)
BINARY(sub, REF_SUB)
BINARY(mul, REF_MUL)
BINARY(div, REF_DIV)

#define UNARY(name, code)                                                                          \
    DEVICE(name##_device)                                                                          \
    {                                                                                              \
        (void)c;                                                                                   \
        return osr_##name(ctx, in[0]);                                                             \
    }                                                                                              \
    REFERENCE(name##_reference)                                                                    \
    {                                                                                              \
        UNUSED;                                                                                    \
        ref_map(code, in[0], in[0], out, osr_shape_count(leading(c)), 0.0, 0.0);                   \
    }
UNARY(exp, REF_EXP)
UNARY(log, REF_LOG)
UNARY(sqrt, REF_SQRT)

DEVICE(affine_device)
{
    return osr_affine(ctx, in[0], (float)c->f[0], (float)c->f[1]);
}

REFERENCE(affine_reference)
{
    UNUSED;
    ref_map(REF_AFFINE, in[0], in[0], out, osr_shape_count(leading(c)), c->f[0], c->f[1]);
}

DEVICE(leaky_relu_device)
{
    return osr_leaky_relu(ctx, in[0], (float)c->f[0]);
}

REFERENCE(leaky_relu_reference)
{
    UNUSED;
    ref_leaky_relu(in[0], out, osr_shape_count(leading(c)), c->f[0]);
}

/* f: rate, whole channels */
DEVICE(dropout_device)
{
    return osr_dropout(ctx, in[0], (float)c->f[0], c->f[1] > 0.0);
}

REFERENCE(dropout_reference)
{
    osr_shape s = leading(c);
    struct ref_dropout d = {s.dim[0], 0, s.dim[s.rank - 1], c->f[1] > 0.0, (float)c->f[0], seed,
                            0, CASE_STEP};
    (void)labels;
    if (s.rank == 4)
        d.pixels = s.dim[1] * s.dim[2];
    ref_dropout(in[0], out, &d);
}

/* --- sums and rows --- */

SHAPES(scalar_shapes)
{
    in[0] = leading(c);
    *out = scalar();
}

DEVICE(sum_device)
{
    (void)c;
    return osr_sum(ctx, in[0]);
}

REFERENCE(sum_reference)
{
    UNUSED;
    *out = ref_sum(in[0], osr_shape_count(leading(c)));
}

DEVICE(mean_device)
{
    (void)c;
    return osr_mean(ctx, in[0]);
}

REFERENCE(mean_reference)
{
    UNUSED;
    *out = ref_sum(in[0], osr_shape_count(leading(c))) / (double)osr_shape_count(leading(c));
}

SHAPES(row_shapes) /* [N, K] (and labels) to [N] */
{
    in[0] = leading(c);
    in[1] = *out = vector(c->d[ROWS]);
}

SHAPES(labelled_shapes) /* [N, K] and labels to [] */
{
    in[0] = leading(c);
    in[1] = vector(c->d[ROWS]);
    *out = scalar();
}

#define ROWS_OP(name)                                                                              \
    DEVICE(name##_device)                                                                          \
    {                                                                                              \
        (void)c;                                                                                   \
        return osr_##name(ctx, in[0]);                                                             \
    }                                                                                              \
    REFERENCE(name##_reference)                                                                    \
    {                                                                                              \
        UNUSED;                                                                                    \
        ref_##name(in[0], out, c->d[ROWS], c->d[COLS]);                                            \
    }
ROWS_OP(row_sum)
ROWS_OP(softmax)
ROWS_OP(logsumexp)
ROWS_OP(normalise)

DEVICE(pick_device)
{
    (void)c;
    return osr_pick(ctx, in[0], in[1]);
}

REFERENCE(pick_reference)
{
    UNUSED;
    ref_pick(in[0], labels, out, c->d[ROWS], c->d[COLS]);
}

/* f: sign */
DEVICE(count_correct_device)
{
    return osr_count_correct(ctx, in[0], in[1], (int)c->f[0]);
}

REFERENCE(count_correct_reference)
{
    UNUSED;
    *out = ref_count_correct(in[0], labels, c->d[ROWS], c->d[COLS], (int)c->f[0]);
}

SHAPES(distance_shapes) /* {N, K, D} */
{
    in[0] = matrix(c->d[ROWS], c->d[INNER]);
    in[1] = matrix(c->d[COLS], c->d[INNER]);
    *out = matrix(c->d[ROWS], c->d[COLS]);
}

DEVICE(anchor_distance_device)
{
    (void)c;
    return osr_anchor_distance(ctx, in[0], in[1]);
}

REFERENCE(anchor_distance_reference)
{
    UNUSED;
    ref_anchor_distance(in[0], in[1], out, c->d[ROWS], c->d[COLS], c->d[INNER]);
}

/* f: scale */
DEVICE(squared_distance_device)
{
    return osr_squared_distance(ctx, in[0], in[1], (float)c->f[0], 1.0f);
}

REFERENCE(squared_distance_reference)
{
    UNUSED;
    ref_squared_distance(in[0], in[1], out, c->d[ROWS], c->d[COLS], c->d[INNER], c->f[0]);
}

SHAPES(first_rows_shapes) /* {N, K, rows} */
{
    in[0] = matrix(c->d[ROWS], c->d[COLS]);
    *out = matrix(c->d[INNER], c->d[COLS]);
}

DEVICE(first_rows_device)
{
    return osr_first_rows(ctx, in[0], c->d[INNER]);
}

REFERENCE(first_rows_reference)
{
    UNUSED;
    for (int i = 0; i < c->d[INNER] * c->d[COLS]; i++)
        out[i] = in[0][i];
}

/* --- matrix products: {M, N, K}, f: which is transposed (0 none, 1 a, 2 b) --- */

SHAPES(matmul_shapes)
{
    int ta = (int)c->f[0] == 1, tb = (int)c->f[0] == 2;
    in[0] = ta ? matrix(c->d[INNER], c->d[ROWS]) : matrix(c->d[ROWS], c->d[INNER]);
    in[1] = tb ? matrix(c->d[COLS], c->d[INNER]) : matrix(c->d[INNER], c->d[COLS]);
    *out = matrix(c->d[ROWS], c->d[COLS]);
}

DEVICE(matmul_device)
{
    return osr_matmul(ctx, in[0], in[1], (int)c->f[0] == 1, (int)c->f[0] == 2);
}

REFERENCE(matmul_reference)
{
    UNUSED;
    ref_matmul(in[0], in[1], out, c->d[ROWS], c->d[COLS], c->d[INNER], (int)c->f[0] == 1,
               (int)c->f[0] == 2);
}

SHAPES(linear_shapes) /* {N, O, I} */
{
    in[0] = matrix(c->d[ROWS], c->d[INNER]);
    in[1] = matrix(c->d[COLS], c->d[INNER]);
    in[2] = vector(c->d[COLS]);
    *out = matrix(c->d[ROWS], c->d[COLS]);
}

DEVICE(linear_device)
{
    (void)c;
    return osr_linear(ctx, in[0], in[1], in[2]);
}

REFERENCE(linear_reference)
{
    UNUSED;
    ref_linear(in[0], in[1], in[2], out, c->d[ROWS], c->d[INNER], c->d[COLS]);
}

/* --- images --- */

static struct ref_conv conv_of(const struct case_row *c)
{
    struct ref_conv v = {c->d[N],  c->d[H],  c->d[W],      c->d[C],   c->d[O],
                         c->d[KH], c->d[KW], c->d[STRIDE], c->d[PAD], c->d[PAD_END]};
    return v;
}

SHAPES(conv2d_shapes)
{
    struct ref_conv v = conv_of(c);
    in[0] = leading(c);
    in[1] = osr_shape_make(4, v.out, v.in, v.kh, v.kw);
    *out = osr_shape_make(4, v.n, ref_conv_size(v.h, v.kh, &v), ref_conv_size(v.w, v.kw, &v),
                          v.out);
}

DEVICE(conv2d_device)
{
    osr_conv_desc desc = {c->d[STRIDE], c->d[PAD], c->d[PAD] != c->d[PAD_END], c->d[PAD_END]};
    return osr_conv2d(ctx, in[0], in[1], &desc);
}

REFERENCE(conv2d_reference)
{
    struct ref_conv v = conv_of(c);
    UNUSED;
    ref_conv2d(in[0], in[1], out, &v);
}

SHAPES(bias_shapes)
{
    osr_shape s = leading(c);
    in[0] = *out = s;
    in[1] = vector(s.rank == 1 ? 1 : s.dim[s.rank - 1]);
}

DEVICE(bias_device)
{
    (void)c;
    return osr_bias(ctx, in[0], in[1]);
}

REFERENCE(bias_reference)
{
    int channels = leading(c).rank == 1 ? 1 : leading(c).dim[leading(c).rank - 1];
    UNUSED;
    ref_bias(in[0], in[1], out, osr_shape_count(leading(c)) / (size_t)channels, channels);
}

SHAPES(batchnorm_shapes)
{
    in[0] = *out = leading(c);
    in[1] = in[2] = in[3] = in[4] = vector(c->d[C]);
}

/* f: train, momentum, eps */
DEVICE(batchnorm_device)
{
    osr_batchnorm_desc desc;
    desc.train = c->f[0] > 0.0;
    desc.momentum = (float)c->f[1];
    desc.eps = (float)c->f[2];
    return osr_batchnorm(ctx, in[0], in[1], in[2], in[3], in[4], &desc);
}

REFERENCE(batchnorm_reference)
{
    struct ref_batchnorm b = {(size_t)(c->d[N] * c->d[H] * c->d[W]), c->d[C], c->f[0] > 0.0,
                              c->f[2] > 0.0 ? c->f[2] : 1e-5, c->f[1]};
    UNUSED;
    ref_batchnorm(in[0], in[1], in[2], in[3], in[4], out, &b);
}

/* {N, H, W, C, size, stride}; stride 0: size */
static struct ref_pool pool_of(const struct case_row *c, int average)
{
    struct ref_pool p = {c->d[N],  c->d[H], c->d[W], c->d[C],
                         c->d[4], c->d[5] ? c->d[5] : c->d[4], average};
    return p;
}

SHAPES(pool_shapes)
{
    struct ref_pool p = pool_of(c, 0);
    in[0] = leading(c);
    *out = osr_shape_make(4, p.n, (p.h - p.size) / p.stride + 1, (p.w - p.size) / p.stride + 1,
                          p.c);
}

#define POOL(name, average)                                                                        \
    DEVICE(name##_device)                                                                          \
    {                                                                                              \
        return osr_##name(ctx, in[0], c->d[4], c->d[5]);                                           \
    }                                                                                              \
    REFERENCE(name##_reference)                                                                    \
    {                                                                                              \
        struct ref_pool p = pool_of(c, average);                                                   \
        UNUSED;                                                                                    \
        ref_pool(in[0], out, &p);                                                                  \
    }
POOL(max_pool, 0)
POOL(avg_pool, 1)

SHAPES(global_shapes)
{
    in[0] = leading(c);
    *out = matrix(c->d[N], c->d[C]);
}

SHAPES(quarter_turns_shapes)
{
    in[0] = leading(c);
    *out = in[0];
    out->dim[0] *= 4;
}

DEVICE(quarter_turns_device)
{
    (void)c;
    return osr_quarter_turns(ctx, in[0]);
}

/* Pixel (r, q) of an image turned to the left comes from (q, H - 1 - r). */
REFERENCE(quarter_turns_reference)
{
    const int side = c->d[H], channels = c->d[C], image = side * side * channels;
    UNUSED;
    for (int m = 0; m < 4 * c->d[N]; m++)
        for (int p = 0; p < side * side; p++) {
            int r = p / side, q = p % side;
            for (int t = 0; t < m / c->d[N]; t++) {
                const int was = r;
                r = q;
                q = side - 1 - was;
            }
            for (int k = 0; k < channels; k++)
                out[m * image + p * channels + k] =
                    in[0][m % c->d[N] * image + (r * side + q) * channels + k];
        }
}

SHAPES(flatten_shapes)
{
    in[0] = leading(c);
    *out = matrix(c->d[N], c->d[H] * c->d[W] * c->d[C]);
}

#define IMAGE_ROWS(name)                                                                           \
    DEVICE(name##_device)                                                                          \
    {                                                                                              \
        (void)c;                                                                                   \
        return osr_##name(ctx, in[0]);                                                             \
    }                                                                                              \
    REFERENCE(name##_reference)                                                                    \
    {                                                                                              \
        UNUSED;                                                                                    \
        ref_##name(in[0], out, c->d[N], c->d[H] * c->d[W], c->d[C]);                               \
    }
IMAGE_ROWS(global_avg_pool)
IMAGE_ROWS(flatten)

/* --- losses: {N, K} --- */

DEVICE(cross_entropy_device)
{
    return osr_loss_cross_entropy(ctx, in[0], in[1], (float)c->f[0]);
}

REFERENCE(cross_entropy_reference)
{
    (void)seed;
    *out = ref_cross_entropy(in[0], labels, c->d[ROWS], c->d[COLS], c->f[0]);
}

DEVICE(cac_device)
{
    return osr_loss_cac(ctx, in[0], in[1], (float)c->f[0]);
}

REFERENCE(cac_reference)
{
    (void)seed;
    *out = ref_cac(in[0], labels, c->d[ROWS], c->d[COLS], c->f[0]);
}

DEVICE(difair_device)
{
    return osr_loss_difair(ctx, in[0], in[1], (float)c->f[0], (float)c->f[1]);
}

REFERENCE(difair_reference)
{
    (void)seed;
    *out = ref_difair(in[0], labels, c->d[ROWS], c->d[COLS], c->f[0], c->f[1]);
}

DEVICE(movr_device)
{
    return osr_loss_movr(ctx, in[0], in[1], (float)c->f[0], (float)c->f[1]);
}

REFERENCE(movr_reference)
{
    (void)seed;
    *out = ref_movr(in[0], labels, c->d[ROWS], c->d[COLS], c->f[0], c->f[1]);
}

DEVICE(ovr_device)
{
    (void)c;
    return osr_loss_ovr(ctx, in[0], in[1]);
}

REFERENCE(ovr_reference)
{
    UNUSED;
    *out = ref_ovr(in[0], labels, c->d[ROWS], c->d[COLS]);
}

/* Losses with learned points {N, K}: x [N, K], labels, points [K, K], radius; f: lambda, smoothing.
 * The centre loss reads x as the logits, too. */
SHAPES(points_shapes)
{
    in[0] = matrix(c->d[ROWS], c->d[COLS]);
    in[1] = vector(c->d[ROWS]);
    in[2] = matrix(c->d[COLS], c->d[COLS]);
    in[3] = vector(1);
    *out = scalar();
}

static osr_tensor points_device(osr_ctx *ctx, const struct case_row *c, const osr_tensor *in,
                                osr_loss_kind kind)
{
    float scale = kind == OSR_LOSS_CENTER ? 1.0f : 1.0f / (float)c->d[COLS];
    osr_tensor d = osr_squared_distance(ctx, in[0], in[2], scale, 1.0f), z = in[0], term;
    if (kind == OSR_LOSS_GCPL)
        z = osr_affine(ctx, d, -1.0f, 0.0f);
    if (kind == OSR_LOSS_RPL)
        z = d;
    if (kind == OSR_LOSS_ARPL)
        z = osr_sub(ctx, d, osr_matmul(ctx, in[0], in[2], 0, 1));
    term = osr_loss_points(ctx, kind, d, in[1], in[3]);
    return osr_add(ctx, osr_loss_cross_entropy(ctx, z, in[1], (float)c->f[1]),
                   osr_affine(ctx, term, (float)c->f[0], 0.0f));
}

#define POINTS(name, code)                                                                         \
    DEVICE(name##_device)                                                                          \
    {                                                                                              \
        return points_device(ctx, c, in, OSR_LOSS_##code);                                         \
    }                                                                                              \
    REFERENCE(name##_reference)                                                                    \
    {                                                                                              \
        struct ref_points p = {REF_##code, c->d[ROWS], c->d[COLS], c->d[COLS], c->f[0], c->f[1],   \
                               REF_##code < REF_RPL ? 0.0 : in[3][0]};                             \
        (void)seed;                                                                                \
        *out = ref_points(in[0], in[2], REF_##code == REF_CENTER ? in[0] : NULL, labels, &p);      \
    }
POINTS(center, CENTER)
POINTS(gcpl, GCPL)
POINTS(rpl, RPL)
POINTS(arpl, ARPL)

/* {filters, ...}, f: features, reading */
DEVICE(correlation_device)
{
    return osr_loss_correlation(ctx, in[0], (int)c->f[0],
                                c->f[1] > 0.0 ? OSR_CORRELATION_PAPER : OSR_CORRELATION_CODE);
}

REFERENCE(correlation_reference)
{
    UNUSED;
    *out = ref_correlation(in[0], c->d[0], count_of(leading(c)) / c->d[0], (int)c->f[0],
                           c->f[1] > 0.0);
}

/* --- jacobian norms --- */

/* {N, H, W, C, direction, first, count}, f: step, own, jitter, draw */
SHAPES(perturb_shapes)
{
    in[0] = leading(c);
    *out = osr_shape_make(4, 2 * c->d[N] * c->d[6], c->d[H], c->d[W], c->d[C]);
}

DEVICE(perturb_device)
{
    osr_perturb_desc desc;
    desc.direction = (osr_direction)c->d[4];
    desc.first = c->d[5];
    desc.count = c->d[6];
    desc.own = (int)c->f[1];
    desc.step = (float)c->f[0];
    desc.jitter = (float)c->f[2];
    desc.draw = (int)c->f[3];
    desc.seed = 0x123456789abcdefu;
    return osr_perturb(ctx, in[0], &desc);
}

REFERENCE(perturb_reference)
{
    struct ref_perturb p = {c->d[N], count_of(leading(c)) / c->d[N], c->d[4], (int)c->f[1],
                            c->d[5], c->d[6], c->f[0], c->f[2], (int)c->f[3], 0x123456789abcdefu};
    UNUSED;
    ref_perturb(in[0], out, &p);
}

/* {N, count, D}, f: step */
SHAPES(difference_shapes)
{
    in[0] = in[1] = matrix(2 * c->d[0] * c->d[1], c->d[2]);
    *out = vector(c->d[0]);
}

DEVICE(difference_norm_device)
{
    return osr_difference_norm(ctx, in[0], in[1], (float)c->f[0], c->d[1]);
}

REFERENCE(difference_norm_reference)
{
    UNUSED;
    ref_difference_norm(in[0], in[1], out, c->d[0], c->d[1], c->d[2],
                        0.25 / (c->f[0] * c->f[0]));
}

SHAPES(square_shapes)
{
    in[0] = leading(c);
    *out = vector(c->d[N]);
}

DEVICE(square_sum_device)
{
    (void)c;
    return osr_square_sum(ctx, in[0]);
}

REFERENCE(square_sum_reference)
{
    UNUSED;
    ref_square_sum(in[0], out, c->d[N], c->d[H] * c->d[W] * c->d[C]);
}

/* --- the ops --- */

#define OP(name) name##_device, name##_reference

const struct op_row op_table[] = {
    {"add", "Iu Iu", "add input read_image", "fill", 1e-5, same_shapes, OP(add)},
    {"sub", "Iu Iu", "sub", "", 1e-5, same_shapes, OP(sub)},
    {"mul", "Iu Iu", "mul", "", 1e-5, same_shapes, OP(mul)},
    {"div", "Iu Ip", "div", "", 1e-5, same_shapes, OP(div)},
    {"affine", "Iu", "affine", "", 1e-5, same_shapes, OP(affine)},
    {"exp", "Iu", "exp", "", 1e-5, same_shapes, OP(exp)},
    {"log", "Ip", "log", "", 1e-5, same_shapes, OP(log)},
    {"sqrt", "Ip", "sqrt", "sqrt_dx", 1e-5, same_shapes, OP(sqrt)},
    {"leaky_relu", "Ik", "norm_act", "norm_act_dx", 1e-5, same_shapes, OP(leaky_relu)},
    {"dropout", "Iu", "norm_act", "norm_act_dx", 1e-5, same_shapes, OP(dropout)},
    {"sum", "Ip", "sum", "sum_dx", 1e-5, scalar_shapes, OP(sum)},
    {"mean", "Ip", "sum", "sum_dx", 1e-5, scalar_shapes, OP(mean)},
    {"row_sum", "Iu", "row_sum", "row_sum_dx", 1e-5, row_shapes, OP(row_sum)},
    {"pick", "Iu Lu", "pick labels", "pick_dx", 1e-5, row_shapes, OP(pick)},
    {"count_correct", "Iu Lu", "count_correct", NULL, 1e-5, labelled_shapes, OP(count_correct)},
    {"softmax", "Il", "softmax", "softmax_dx", 1e-5, same_shapes, OP(softmax)},
    {"logsumexp", "Il", "logsumexp", "logsumexp_dx", 1e-5, row_shapes, OP(logsumexp)},
    {"normalise", "Ik", "normalise", "normalise_dx", 1e-5, same_shapes, OP(normalise)},
    {"anchor_distance", "Iu Pl", "anchor_distance", "anchor_distance_dx anchor_distance_da", 1e-5,
     distance_shapes, OP(anchor_distance)},
    {"squared_distance", "Iu Pl", "anchor_distance", "anchor_distance_dx anchor_distance_da", 1e-5,
     distance_shapes, OP(squared_distance)},
    {"first_rows", "Iu", "first_rows", "first_rows_dx", 1e-5, first_rows_shapes, OP(first_rows)},
    {"matmul", "Iu Iu", "matmul", "", 1e-5, matmul_shapes, OP(matmul)},
    {"linear", "Iu Pu Pu", "matmul bias", "give bias_db", 1e-5, linear_shapes, OP(linear)},
    {"conv2d", "Iu Pu", "conv2d conv_pack", "conv2d_dx conv2d_dw", 1e-5, conv2d_shapes, OP(conv2d)},
    {"bias", "Iu Pu", "bias", "bias_db", 1e-5, bias_shapes, OP(bias)},
    {"batchnorm", "Iu Pk Pu Su Sp", "norm_stats norm_fixed norm_act", "norm_sums norm_act_dx", 1e-5,
     batchnorm_shapes, OP(batchnorm)},
    {"max_pool", "Id", "pool", "pool_dx", 1e-5, pool_shapes, OP(max_pool)},
    {"avg_pool", "Iu", "pool", "pool_dx", 1e-5, pool_shapes, OP(avg_pool)},
    {"global_avg_pool", "Iu", "global_avg_pool", "global_avg_pool_dx", 1e-5, global_shapes,
     OP(global_avg_pool)},
    {"quarter_turns", "Iu", "quarter_turns", NULL, 1e-6, quarter_turns_shapes, OP(quarter_turns)},
    {"flatten", "Iu", "flatten", "flatten_dx", 1e-5, flatten_shapes, OP(flatten)},
    {"loss_cross_entropy", "Il Lu", "loss_cross_entropy", "loss_cross_entropy_dx", 1e-5,
     labelled_shapes, OP(cross_entropy)},
    {"loss_cac", "Ir Lu", "loss_cac", "loss_cac_dx", 1e-5, labelled_shapes, OP(cac)},
    {"loss_difair", "Ir Lu", "loss_difair", "loss_difair_dx", 1e-5, labelled_shapes, OP(difair)},
    {"loss_movr", "Ic Lu", "loss_movr", "loss_movr_dx", 1e-5, labelled_shapes, OP(movr)},
    /* near the poles the root of 1 - c^2 has few digits in float */
    {"loss_movr_edge", "Ie Lu", "loss_movr", NULL, 1e-4, labelled_shapes, OP(movr)},
    {"loss_ovr", "Il Lu", "loss_ovr", "loss_ovr_dx", 1e-5, labelled_shapes, OP(ovr)},
    {"loss_center", "Iu Lu Pu", "", "", 1e-5, points_shapes, OP(center)},
    {"loss_gcpl", "Iu Lu Pu", "", "", 1e-5, points_shapes, OP(gcpl)},
    {"loss_rpl", "Iu Lu Pu Pu", "", "", 1e-5, points_shapes, OP(rpl)},
    {"loss_arpl", "Iu Lu Pu Pp", "", "", 1e-5, points_shapes, OP(arpl)},
    /* the paper's reading adds correlations of either sign, which may cancel */
    {"loss_correlation", "Pu", "loss_correlation", "loss_correlation_dw", 1e-4, scalar_shapes,
     OP(correlation)},
    {"perturb", "Iu", "perturb", NULL, 1e-5, perturb_shapes, OP(perturb)},
    {"difference_norm", "Iu Iu", "difference_norm", NULL, 1e-5, difference_shapes,
     OP(difference_norm)},
    {"square_sum", "Iu", "square_sum", NULL, 1e-5, square_shapes, OP(square_sum)}};

const int op_table_count = (int)(sizeof op_table / sizeof op_table[0]);

/* --- the cases --- */

#define ELEMENT "add sub mul div affine exp log sqrt leaky_relu"
#define ROWWISE "row_sum pick softmax logsumexp normalise"
#define POOLS "max_pool avg_pool"
#define POINTS_LOSSES "loss_center loss_gcpl loss_rpl loss_arpl"
#define PLANES "global_avg_pool flatten square_sum bias"
#define SMALL 1, 0

const struct case_row case_table[] = {
    {ELEMENT, {1, 1}, {0.3, -0.7}, SMALL},
    {ELEMENT, {65}, {0.3, -0.7}, SMALL},
    {ELEMENT, {33, 20}, {1.0, 2.5}, SMALL},
    {ELEMENT, {65, 64}, {0.01, 0.25}, 0, 0}, /* more than one chunk of a flat launch */
    {ELEMENT, {1, 1, 1, 1}, {0.2, 0.5}, SMALL},
    {ELEMENT, {2, 5, 7, 6}, {0.0, -0.7}, SMALL},
    {ELEMENT, {3, 31, 2, 20}, {0.3, 0.7}, 0, 0},
    {ELEMENT, {1, 8, 9, 65}, {0.3, 0.7}, 0, 0},
    {"dropout", {33, 20}, {0.3}, SMALL},
    {"dropout", {65, 64}, {0.5, 1.0}, 0, 0},
    {"dropout", {2, 5, 7, 6}, {0.2}, SMALL},
    {"dropout", {2, 5, 7, 20}, {0.4, 1.0}, SMALL},
    {"dropout", {3, 2, 31, 65}, {0.6}, 0, 0},
    {"dropout", {3, 4, 3, 64}, {0.0}, 0, 0},
    {"sum mean", {0}, {0}, SMALL},
    {"sum mean", {1}, {0}, 0, 0},
    {"sum mean", {65}, {0}, SMALL},
    {"sum mean", {33, 20}, {0}, SMALL},
    {"sum mean", {4097}, {0}, 0, 0},
    {ROWWISE, {1, 1}, {0}, SMALL},
    {ROWWISE, {2, 3}, {0}, 0, 0},
    {ROWWISE, {31, 6}, {0}, SMALL},
    {ROWWISE, {33, 20}, {0}, 0, 0},
    {ROWWISE, {64, 65}, {0}, 0, 0},
    {ROWWISE, {3, 131}, {0}, SMALL},
    {"count_correct", {1, 1}, {1}, SMALL},
    {"count_correct", {65, 3}, {1}, SMALL},
    {"count_correct", {65, 3}, {-1}, SMALL},
    {"count_correct", {4099, 2}, {1}, 0, 0},
    {"anchor_distance", {1, 1, 1}, {0}, SMALL},
    {"anchor_distance", {2, 6, 6}, {0}, SMALL},
    {"anchor_distance", {33, 20, 31}, {0}, 0, 0},
    {"anchor_distance", {5, 3, 131}, {0}, SMALL},
    {"squared_distance", {1, 1, 1}, {1}, SMALL},
    {"squared_distance", {2, 6, 6}, {0.25}, SMALL},
    {"squared_distance", {33, 20, 31}, {0.03125}, 0, 0},
    {"squared_distance", {65, 3, 131}, {0.0625}, 0, 0},
    {"quarter_turns", {2, 5, 5, 9}, {0}, SMALL},
    {"quarter_turns", {3, 8, 8, 3}, {0}, 0, 0},
    {"first_rows", {1, 1, 1}, {0}, SMALL},
    {"first_rows", {12, 5, 3}, {0}, SMALL},
    {"first_rows", {260, 65, 65}, {0}, 0, 0},
    {"matmul", {1, 1, 1}, {0}, SMALL},
    {"matmul", {31, 33, 32}, {0}, SMALL},
    {"matmul", {64, 65, 63}, {0}, 0, 0},
    {"matmul", {2, 130, 3}, {0}, 0, 0},
    {"matmul", {1, 2, 1}, {1}, 0, 0},
    {"matmul", {33, 31, 20}, {1}, SMALL},
    {"matmul", {65, 64, 63}, {1}, 0, 0},
    {"matmul", {6, 128, 65}, {1}, 0, 0},
    {"matmul", {2, 1, 3}, {2}, 0, 0},
    {"matmul", {32, 6, 131}, {2}, SMALL},
    {"matmul", {63, 65, 64}, {2}, SMALL},
    {"matmul", {65, 131, 33}, {2}, 0, 0},
    {"linear", {1, 3, 1}, {0}, SMALL},
    {"linear", {2, 3, 6}, {0}, SMALL},
    {"linear", {33, 20, 64}, {0}, 0, 0},
    {"linear", {65, 6, 31}, {0}, SMALL},
    {"linear", {8, 65, 128}, {0}, 0, 0},
    {"conv2d", {1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, {0}, SMALL},
    {"conv2d", {1, 1, 1, 3, 4, 3, 3, 2, 1, 1}, {0}, SMALL}, /* smaller than the stride */
    {"conv2d", {2, 1, 5, 3, 4, 1, 1, 2, 0, 0}, {0}, SMALL},
    {"conv2d", {1, 4, 4, 16, 16, 3, 3, 1, 1, 1}, {0}, SMALL}, /* one tile */
    {"conv2d", {2, 3, 3, 1, 2, 3, 3, 1, 0, 0}, {0}, SMALL},
    {"conv2d", {2, 5, 7, 3, 6, 3, 3, 1, 1, 1}, {0}, SMALL},
    {"conv2d", {1, 8, 8, 6, 20, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 9, 6, 20, 3, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {3, 4, 4, 64, 64, 3, 3, 1, 1, 1}, {0}, SMALL},
    {"conv2d", {1, 31, 33, 3, 6, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {33, 3, 2, 2, 9, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 16, 16, 8, 16, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 6, 6, 33, 65, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 16, 16, 64, 64, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {3, 32, 31, 24, 40, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {4, 32, 31, 32, 40, 3, 3, 1, 1, 1}, {0}, 0, 0}, /* tiles in two parts */
    {"conv2d", {5, 8, 9, 65, 63, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {7, 7, 9, 65, 72, 3, 3, 1, 1, 1}, {0}, 0, 0}, /* Winograd on GPUs, unforced */
    {"conv2d", {1, 64, 65, 3, 20, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {1, 63, 33, 20, 6, 3, 3, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 33, 32, 32, 16, 3, 3, 2, 1, 1}, {0}, 0, 0},
    {"conv2d", {1, 31, 32, 20, 33, 3, 3, 2, 0, 1}, {0}, 0, 0},
    {"conv2d", {3, 16, 16, 64, 65, 3, 3, 2, 1, 1}, {0}, 0, 0}, /* Winograd of stride 2 */
    {"conv2d", {5, 15, 14, 33, 40, 3, 3, 2, 1, 1}, {0}, 0, 0},
    {"conv2d", {4, 16, 17, 40, 32, 3, 3, 2, 0, 1}, {0}, 0, 0},
    {"conv2d", {1, 5, 5, 3, 4, 3, 3, 1, 2, 2}, {0}, 0, 0},
    {"conv2d", {2, 8, 8, 3, 6, 3, 3, 2, 1, 1}, {0}, SMALL},
    {"conv2d", {2, 7, 9, 6, 20, 3, 3, 2, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 8, 8, 6, 20, 3, 3, 2, 0, 1}, {0}, SMALL},
    {"conv2d", {2, 8, 8, 16, 16, 3, 3, 1, 0, 2}, {0}, 0, 0},
    {"conv2d", {1, 7, 7, 6, 3, 3, 3, 2, 0, 1}, {0}, 0, 0},
    {"conv2d", {1, 10, 11, 3, 6, 3, 3, 3, 1, 1}, {0}, SMALL},
    {"conv2d", {2, 6, 7, 20, 6, 1, 1, 1, 0, 0}, {0}, SMALL},
    {"conv2d", {2, 5, 5, 65, 31, 1, 1, 1, 0, 0}, {0}, 0, 0},
    {"conv2d", {1, 6, 7, 6, 3, 1, 1, 2, 0, 0}, {0}, 0, 0},
    {"conv2d", {2, 7, 8, 3, 6, 1, 1, 3, 0, 0}, {0}, SMALL},
    {"conv2d", {1, 4, 5, 3, 2, 1, 1, 1, 1, 1}, {0}, 0, 0},
    {"conv2d", {2, 7, 7, 3, 6, 5, 5, 1, 2, 2}, {0}, SMALL},
    {"conv2d", {1, 9, 8, 6, 20, 5, 5, 2, 2, 2}, {0}, 0, 0},
    {"conv2d", {1, 8, 11, 20, 3, 5, 5, 3, 0, 0}, {0}, 0, 0},
    {"conv2d", {2, 6, 8, 3, 6, 1, 5, 1, 0, 0}, {0}, 0, 0},
    {"conv2d", {2, 8, 6, 6, 3, 5, 3, 2, 1, 1}, {0}, 0, 0},
    {"conv2d", {1, 5, 5, 64, 1, 5, 5, 1, 0, 0}, {0}, 0, 0},
    {"bias", {33, 20}, {0}, SMALL},
    {"bias", {1}, {0}, SMALL},
    {"bias", {65}, {0}, SMALL},
    {"bias", {65, 65}, {0}, 0, 0},
    {PLANES, {1, 1, 1, 1}, {0}, SMALL},
    {PLANES, {2, 5, 7, 6}, {0}, SMALL},
    {PLANES, {3, 8, 8, 20}, {0}, 0, 0},
    {PLANES, {5, 2, 31, 65}, {0}, 0, 0},
    {PLANES, {33, 3, 1, 64}, {0}, 0, 0},
    {"batchnorm", {1, 1, 1, 1}, {1, 0.1, 0.5}, SMALL},
    {"batchnorm", {2, 5, 7, 6}, {1, 0.1, 0}, SMALL},
    {"batchnorm", {2, 5, 7, 6}, {0, 0.1, 0}, SMALL},
    {"batchnorm", {33, 2, 2, 20}, {1, 0.01, 1e-3}, 0, 0},
    {"batchnorm", {3, 31, 9, 3}, {1, 0, 0}, 0, 0},
    {"batchnorm", {4, 8, 8, 65}, {1, 1, 0}, 0, 0},
    {"batchnorm", {2, 3, 3, 64}, {0, 0, 1e-3}, 0, 0},
    {"batchnorm", {2, 63, 33, 6}, {1, 0.1, 0}, 0, 0},
    {POOLS, {1, 1, 1, 1, 1, 0}, {0}, SMALL},
    {POOLS, {2, 6, 8, 6, 2, 0}, {0}, SMALL},
    {POOLS, {2, 7, 9, 3, 2, 2}, {0}, SMALL},
    {POOLS, {1, 8, 8, 20, 3, 1}, {0}, SMALL},
    {POOLS, {2, 7, 7, 65, 3, 2}, {0}, 0, 0},
    {POOLS, {1, 11, 10, 3, 2, 3}, {0}, SMALL},
    {POOLS, {1, 5, 5, 64, 5, 0}, {0}, 0, 0},
    {"loss_cross_entropy", {5, 2}, {0}, SMALL},
    {"loss_cross_entropy", {31, 6}, {0.1}, SMALL},
    {"loss_cross_entropy", {65, 20}, {0}, 0, 0},
    {"loss_cross_entropy", {64, 131}, {0.3}, 0, 0},
    {"loss_cac loss_difair", {1, 1}, {0.1, 0.1}, SMALL},
    {"loss_cac loss_difair", {33, 6}, {0.1, 0.1}, SMALL},
    {"loss_cac loss_difair", {64, 20}, {3.5, 0}, 0, 0},
    {"loss_cac loss_difair", {5, 131}, {2.0, 1.0}, SMALL},
    {"loss_movr", {1, 1}, {8, 0.5}, SMALL},
    {"loss_movr", {33, 6}, {8, 0.5}, SMALL},
    {"loss_movr", {64, 20}, {32, 0}, 0, 0},
    {"loss_movr", {5, 131}, {4, 1.5}, SMALL},
    {"loss_movr_edge", {31, 6}, {32, 0.5}, SMALL},
    {"loss_ovr", {1, 1}, {0}, SMALL},
    {"loss_ovr", {33, 6}, {0}, SMALL},
    {"loss_ovr", {64, 131}, {0}, 0, 0},
    {POINTS_LOSSES, {1, 2}, {0.1, 0}, SMALL},
    {POINTS_LOSSES, {33, 6}, {0.1, 0.1}, SMALL},
    {POINTS_LOSSES, {64, 20}, {1.5, 0}, 0, 0},
    {"loss_correlation", {1, 9}, {1, 0}, SMALL},
    {"loss_correlation", {10, 3, 3, 3}, {5, 0}, SMALL},
    {"loss_correlation", {10, 3, 3, 3}, {5, 1}, SMALL},
    {"loss_correlation", {30, 33}, {5, 0}, 0, 0},
    {"loss_correlation", {6, 20, 1, 1}, {2, 1}, 0, 0},
    {"loss_correlation", {6, 20, 1, 1}, {1, 1}, 0, 0},
    {"loss_correlation", {8, 65}, {8, 0}, 0, 0},
    {"perturb", {1, 1, 1, 1, 0, 0, 1}, {0.5}, SMALL},
    {"perturb", {2, 3, 5, 3, 0, 40, 5}, {0.01}, SMALL},
    {"perturb", {2, 3, 5, 3, 0, 40, 5}, {0.01, 0, 0.002, 1}, SMALL},
    {"perturb", {2, 3, 5, 3, 0, 40, 5}, {0.01, 3, 0.002, 2}, SMALL},
    {"perturb", {2, 5, 3, 20, 1, 0, 3}, {0.01}, SMALL},
    {"perturb", {3, 4, 4, 6, 2, 7, 2}, {0.1}, SMALL},
    {"perturb", {3, 4, 4, 6, 1, 7, 2}, {0.1, 5}, SMALL},
    {"difference_norm", {1, 1, 1}, {0.5}, SMALL},
    {"difference_norm", {3, 5, 20}, {0.01}, SMALL},
    {"difference_norm", {2, 64, 65}, {0.1}, 0, 0}};

const int case_table_count = (int)(sizeof case_table / sizeof case_table[0]);
