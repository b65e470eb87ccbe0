/* test_augment - every augmentation against Pillow's own results (augment_vectors.h) or a plain C
 * version, what is drawn against its ranges, and the same bits from the same seed
 *
 * The implementation is compiled in, so that the test can see the row of numbers that an image was
 * augmented with (osr__draw_row), and put another in its place. */
#define OSR_STATIC
#define OSR_IMPLEMENTATION
#include "osr.h"
#include "test.h"

#include "augment_vectors.h"

enum { MOST = 64 * 64 * 3, BATCH = 16 };

static uint64_t seed;

static osr_ctx *context(osr_kernels family)
{
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    desc.seed = seed;
    desc.kernels = family;
    CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK);
    return ctx;
}

static void fill(unsigned char *p, size_t n, uint64_t state)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(test_random(&state) >> 40);
}

static osr_images *images_of(osr_ctx *ctx, const unsigned char *p, size_t n, int h, int w, int c,
                             int upload)
{
    const osr_images_desc d = {p, n, h, w, c, upload};
    osr_images *set = NULL;
    if (!CHECK(osr_images_create(ctx, &d, &set) == OSR_OK))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    return set;
}

/* The row of image i in a step that has not run yet. */
static int32_t *row_of(osr_ctx *ctx, osr_tensor t, int i)
{
    const osr__node *node = &ctx->nodes[t.index];
    const size_t words = (size_t)(OSR__ROW_OPS + 8 * (node->r.ia[1] + node->r.ia[2]));
    return (int32_t *)(void *)(ctx->staging + node->data) + (size_t)i * words;
}

static float float_at(const int32_t *row, int word)
{
    osr__word w;
    w.i = row[word];
    return w.f;
}

/* One step: n images augmented, in 0..1. rows, where wanted, takes the first 20 words of each. */
static int augment(osr_ctx *ctx, osr_images *set, int n, const osr_augment_desc *d,
                   int32_t (*rows)[OSR__ROW_OPS], float *out)
{
    const osr_tensor t = osr_augment(ctx, set, NULL, n, d);
    for (int i = 0; rows && t.index && i < n; i++)
        memcpy(rows[i], row_of(ctx, t, i), sizeof rows[i]);
    osr_read(ctx, t, out, osr_shape_count(osr_shape_of(ctx, t)));
    if (CHECK(osr_step_end(ctx) == OSR_OK))
        return 1;
    fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    osr_ctx_clear_error(ctx);
    return 0;
}

/* Largest distance in grey levels. */
static double distance(const float *a, const unsigned char *b, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(255.0 * (double)a[i] - b[i]));
    return most;
}

/* Only this op of a list. */
static osr_randaugment only(osr_randaugment_op op, float magnitude)
{
    const osr_randaugment r = {1, magnitude, ~(1u << op)};
    return r;
}

/* ---- Pillow ---- */

static void check_op_vectors(osr_ctx *ctx)
{
    enum { COUNT = sizeof op_vectors / sizeof op_vectors[0] };
    static unsigned char pictures[BATCH][VECTOR_BYTES];
    static float out[BATCH * VECTOR_BYTES];
    for (int v = 0; v < COUNT; v++) {
        const struct op_vector *a = &op_vectors[v], *b = a->sign == 0 ? a : a + 1;
        const size_t bytes = (size_t)(VECTOR_WIDTH * VECTOR_HEIGHT * a->channels);
        osr_augment_desc d = {0};
        osr_images *set;
        int first = 0, second = 0;
        if (a->sign < 0)
            continue; /* seen with the positive sign */
        for (int i = 0; i < BATCH; i++)
            memcpy((unsigned char *)pictures + (size_t)i * bytes,
                   vector_picture[a->channels == 3], bytes);
        set = images_of(ctx, pictures[0], BATCH, VECTOR_HEIGHT, VECTOR_WIDTH, a->channels, v & 1);
        d.pillow = only(a->op, a->magnitude);
        if (augment(ctx, set, BATCH, &d, NULL, out))
            for (int i = 0; i < BATCH; i++) {
                const int plus = distance(out + (size_t)i * bytes, a->bytes, bytes) < 1.001;
                const int minus = distance(out + (size_t)i * bytes, b->bytes, bytes) < 1.001;
                if (!CHECK(plus || minus))
                    fprintf(stderr, "    op %d, magnitude %g, channels %d: %g and %g levels\n",
                            (int)a->op, (double)a->magnitude, a->channels,
                            distance(out + (size_t)i * bytes, a->bytes, bytes),
                            distance(out + (size_t)i * bytes, b->bytes, bytes));
                first += plus;
                second += minus;
            }
        CHECK(first > 0 && second > 0);
        osr_images_destroy(set);
    }
}

static void check_box_vectors(osr_ctx *ctx)
{
    float out[VECTOR_BYTES];
    osr_images *set =
        images_of(ctx, vector_picture[1], 1, VECTOR_HEIGHT, VECTOR_WIDTH, 3, 0);
    osr_augment_desc d = {0};
    d.resized_crop = 0.5f;
    for (size_t v = 0; v < sizeof box_vectors / sizeof box_vectors[0]; v++) {
        const osr_tensor t = osr_augment(ctx, set, NULL, 1, &d);
        memcpy(row_of(ctx, t, 0) + OSR__ROW_BOX, box_vectors[v].box, sizeof box_vectors[v].box);
        osr_read(ctx, t, out, VECTOR_BYTES);
        osr_step_end(ctx);
        CHECK_NEAR(distance(out, box_vectors[v].bytes, VECTOR_BYTES), 0.0, 1.001);
    }
    osr_images_destroy(set);
}

/* Pixel i of a channel, as equal_level of make_augment_vectors.py. */
static int equal_level(int kind, int i)
{
    const int x = i % EQUAL_WIDTH, y = i / EQUAL_WIDTH;
    if (kind == 0)
        return 20 + (x * x + 3 * x * y) / 64;
    if (kind == 1)
        return i < 1010 ? 30 + 20 * (i * i % 11) : 250;
    return i < 254 ? 3 * (i % 50) : 200;
}

/* Channel c of image k is of kind (k + c) % 3: each kind in each channel, and in grey. */
static void check_equalize(osr_ctx *ctx, int channels)
{
    enum { PIXELS = EQUAL_WIDTH * EQUAL_HEIGHT };
    static unsigned char pictures[3 * 3 * PIXELS], want[3 * 3 * PIXELS];
    static float out[3 * 3 * PIXELS];
    const int bytes = PIXELS * channels;
    osr_augment_desc d = {0};
    osr_images *set;
    for (int k = 0; k < 3 * bytes; k++) {
        const int kind = (k / bytes + k % channels) % 3;
        const int level = equal_level(kind, k % bytes / channels);
        pictures[k] = (unsigned char)level;
        want[k] = equalized[kind][level];
    }
    set = images_of(ctx, pictures, 3, EQUAL_HEIGHT, EQUAL_WIDTH, channels, 0);
    d.pillow = only(OSR_RANDAUGMENT_EQUALIZE, 9.0f);
    if (augment(ctx, set, 3, &d, NULL, out))
        for (int k = 0; k < 3; k++)
            CHECK_NEAR(distance(out + k * bytes, want + k * bytes, (size_t)bytes), 0.0, 1e-3);
    osr_images_destroy(set);
}

/* Pillow's cut-out: the centre is put in place of the random numbers, so that the corners, the
 * fraction of a side included, are the library's own. */
static void check_cut_vectors(osr_ctx *ctx)
{
    enum { COUNT = sizeof cut_vectors / sizeof cut_vectors[0], PIXELS = CUT_WIDTH * CUT_HEIGHT };
    unsigned char picture[PIXELS * 3], want[PIXELS * 3];
    float out[PIXELS * 3];
    for (int v = 0; v < COUNT; v++) {
        const struct cut_vector *a = &cut_vectors[v];
        const int bytes = PIXELS * a->channels;
        osr__draws draws = osr__draws_start(ctx, 0);
        osr_augment_desc d = {0};
        osr_images *set;
        for (int k = 0; k < bytes; k++) {
            const int at = k / a->channels, x = at % CUT_WIDTH, y = at / CUT_WIDTH;
            picture[k] = (unsigned char)(k * 37 % 101);
            want[k] = a->rows[y] >> x & 1u ? (unsigned char)a->colour[k % a->channels] : picture[k];
        }
        set = images_of(ctx, picture, 1, CUT_HEIGHT, CUT_WIDTH, a->channels, v & 1);
        d.pillow = only(OSR_RANDAUGMENT_CUTOUT, a->magnitude);
        const osr_tensor t = osr_augment(ctx, set, NULL, 1, &d);
        draws.used = 1; /* of four words: the op, x, y */
        draws.words[2] = (uint32_t)(a->centre[0] / CUT_WIDTH * 4294967296.0);
        draws.words[3] = (uint32_t)(a->centre[1] / CUT_HEIGHT * 4294967296.0);
        osr__draw_ops(&draws, &d.pillow, 0, CUT_HEIGHT, CUT_WIDTH, a->channels,
                      row_of(ctx, t, 0) + OSR__ROW_OPS);
        osr_read(ctx, t, out, (size_t)bytes);
        CHECK(osr_step_end(ctx) == OSR_OK && draws.used == 4);
        if (!CHECK(distance(out, want, (size_t)bytes) < 1e-3))
            fprintf(stderr, "    magnitude %g, channels %d, centre %g, %g\n", (double)a->magnitude,
                    a->channels, a->centre[0], a->centre[1]);
        osr_images_destroy(set);
    }
}

/* The square of Pillow's variant: at least side + 1 pixels unless the edge is near. */
static void check_pillow_cutout(osr_ctx *ctx)
{
    enum { SIDE = 32, BYTES = SIDE * SIDE * 3 };
    static unsigned char p[BATCH * BYTES];
    static float out[BATCH * BYTES];
    static const int colour[3] = {125, 123, 114};
    osr_augment_desc d = {0};
    osr_images *set;
    fill(p, sizeof p, seed);
    set = images_of(ctx, p, BATCH, SIDE, SIDE, 3, 0);
    d.pillow = only(OSR_RANDAUGMENT_CUTOUT, 6.0f); /* 8 pixels */
    const osr_tensor t = osr_augment(ctx, set, NULL, BATCH, &d);
    int32_t ops[BATCH][8];
    for (int i = 0; i < BATCH; i++)
        memcpy(ops[i], row_of(ctx, t, i) + OSR__ROW_OPS, sizeof ops[i]);
    osr_read(ctx, t, out, BATCH * BYTES);
    osr_step_end(ctx);
    for (int i = 0; i < BATCH; i++) {
        const int32_t *r = ops[i] + 1;
        double most = 0.0;
        CHECK(r[0] >= 0 && r[1] >= 0 && r[2] <= SIDE && r[3] <= SIDE);
        CHECK(r[2] == (r[0] + 8 < SIDE ? r[0] + 8 : SIDE));
        CHECK(r[3] == (r[1] + 8 < SIDE ? r[1] + 8 : SIDE));
        for (int k = 0; k < BYTES; k++) {
            const int x = k / 3 % SIDE, y = k / 3 / SIDE;
            const int cut = x >= r[0] && x <= r[2] && y >= r[1] && y <= r[3];
            const double want = cut ? colour[k % 3] : p[i * BYTES + k];
            most = fmax(most, fabs(255.0 * (double)out[i * BYTES + k] - want));
        }
        CHECK_NEAR(most, 0.0, 1e-4);
    }
    osr_images_destroy(set);
}

/* ---- TensorFlow, in plain C: from in to out, [h][w][3] ---- */

struct picture {
    int h, w;
    const unsigned char *in;
    unsigned char *out, *half; /* half [h, w]: of moved pixels, whether they lie by a half */
};

static unsigned char cut(double v)
{
    return (unsigned char)(v < 0.0 ? 0.0 : v > 255.0 ? 255.0 : v);
}

static void tf_channel(const struct picture *p, int c, int equalize)
{
    int h[256] = {0}, table[256], low = 255, high = 0, sum = 0, step;
    for (int i = 0; i < p->h * p->w; i++)
        h[p->in[3 * i + c]]++;
    for (int v = 0; v < 256; v++)
        if (h[v] > 0) {
            low = v < low ? v : low;
            high = v;
        }
    step = (p->h * p->w - h[high]) / 255;
    for (int v = 0; v < 256; v++) {
        table[v] = v;
        if (equalize && step > 0) {
            const int to = (sum + step / 2) / step;
            table[v] = to > 255 ? 255 : to;
        } else if (!equalize && high > low) {
            table[v] = cut((v - low) * (255.0 / (high - low)));
        }
        sum += h[v];
    }
    for (int i = 0; i < p->h * p->w; i++)
        p->out[3 * i + c] = (unsigned char)table[p->in[3 * i + c]];
}

/* d c b a | a b c d | d c b a, then std::round: halves away from zero. */
static int mirror(float v, int n)
{
    while (v < 0.0f || v > (float)(n - 1))
        if (v < 0.0f)
            v = -v - 1.0f < 0.0f ? 0.0f : -v - 1.0f;
        else
            v = v < (float)n ? (float)(n - 1) : (float)(2 * n) - v - 1.0f;
    return (int)roundf(v);
}

/* Where float arithmetic of another order may round to the next pixel. */
static int by_a_half(float v)
{
    return fabsf(v - floorf(v) - 0.5f) < 1e-4f;
}

/* In float, as TensorFlow: which halves are halves depends on it. */
static void tf_move(const struct picture *p, const double m[6])
{
    const float a = (float)m[0], b = (float)m[1], c = (float)m[2];
    const float d = (float)m[3], e = (float)m[4], f = (float)m[5];
    for (int i = 0; i < p->h * p->w; i++) {
        const float x = (float)(i % p->w), y = (float)(i / p->w);
        const float u = a * x + b * y + c, v = d * x + e * y + f;
        memcpy(p->out + 3 * i, p->in + 3 * (mirror(v, p->h) * p->w + mirror(u, p->w)), 3);
        p->half[i] = (unsigned char)(by_a_half(u) || by_a_half(v));
    }
}

static void tf_smooth(const struct picture *p, unsigned char *to)
{
    memcpy(to, p->in, (size_t)(p->h * p->w * 3));
    for (int y = 1; y < p->h - 1; y++)
        for (int x = 1; x < p->w - 1; x++)
            for (int c = 0; c < 3; c++) {
                int sum = 4 * p->in[3 * (y * p->w + x) + c];
                for (int k = 0; k < 9; k++)
                    sum += p->in[3 * ((y + k / 3 - 1) * p->w + x + k % 3 - 1) + c];
                to[3 * (y * p->w + x) + c] = (unsigned char)(sum / 13);
            }
}

static void tf_blend(const struct picture *p, int op, double f)
{
    static unsigned char other[MOST];
    const int n = p->h * p->w;
    if (op == OSR_RANDAUGMENT_SHARPNESS)
        tf_smooth(p, other);
    for (int i = 0; i < n; i++) {
        const unsigned char *s = p->in + 3 * i;
        const double grey = (0.2989 * s[0] + 0.587 * s[1] + 0.114 * s[2]) / 255.0 * 255.5;
        for (int c = 0; c < 3; c++) {
            const double d = op == OSR_RANDAUGMENT_SHARPNESS  ? other[3 * i + c]
                             : op == OSR_RANDAUGMENT_COLOR    ? cut(grey)
                             : op == OSR_RANDAUGMENT_CONTRAST ? cut(n / 256)
                                                              : 0.0;
            p->out[3 * i + c] = cut(d + f * (s[c] - d));
        }
    }
}

/* sign: of what moves. 0: the op is not done here. */
static int tf_reference(const struct picture *p, osr_randaugment_op op, double m, int sign)
{
    const double u = m / 10.0, angle = sign * 30.0 * u * (3.14159265358979323846 / 180.0);
    const double c = cos(angle), s = sin(angle), w = p->w - 1, h = p->h - 1;
    const double turn[6] = {c, -s, (w - (c * w - s * h)) / 2, s, c, (h - (s * w + c * h)) / 2};
    double move[6] = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0};
    const int bits = (int)(4.0 * u), threshold = (int)(256.0 * u), more = (int)(110.0 * u);
    for (int i = 0; i < p->h * p->w * 3; i++) {
        const int v = p->in[i];
        p->out[i] = (unsigned char)(op == OSR_RANDAUGMENT_INVERT      ? 255 - v
                                    : op == OSR_RANDAUGMENT_POSTERIZE ? v >> (8 - bits)
                                                                            << (8 - bits)
                                    : op == OSR_RANDAUGMENT_SOLARIZE
                                        ? (v < threshold ? v : 255 - v)
                                    : op == OSR_RANDAUGMENT_SOLARIZE_ADD
                                        ? (v < 128 ? (v + more > 255 ? 255 : v + more) : v)
                                        : v);
    }
    switch (op) {
    case OSR_RANDAUGMENT_AUTO_CONTRAST:
    case OSR_RANDAUGMENT_EQUALIZE:
        for (int k = 0; k < 3; k++)
            tf_channel(p, k, op == OSR_RANDAUGMENT_EQUALIZE);
        break;
    case OSR_RANDAUGMENT_COLOR:
    case OSR_RANDAUGMENT_CONTRAST:
    case OSR_RANDAUGMENT_BRIGHTNESS:
    case OSR_RANDAUGMENT_SHARPNESS: tf_blend(p, (int)op, 0.1 + 1.8 * u); break;
    case OSR_RANDAUGMENT_ROTATE: tf_move(p, turn); break;
    case OSR_RANDAUGMENT_SHEAR_X: move[1] = sign * 0.3 * u; tf_move(p, move); break;
    case OSR_RANDAUGMENT_SHEAR_Y: move[3] = sign * 0.3 * u; tf_move(p, move); break;
    case OSR_RANDAUGMENT_TRANSLATE_X: move[2] = sign * 100.0 * u; tf_move(p, move); break;
    case OSR_RANDAUGMENT_TRANSLATE_Y: move[5] = sign * 100.0 * u; tf_move(p, move); break;
    default: return op != OSR_RANDAUGMENT_CUTOUT;
    }
    return 1;
}

/* Share of values further than a level away. `halves`: but for pixels that lie by a half, which may
 * take either neighbour, and are few. */
static double share_off(const float *a, const struct picture *p, int halves)
{
    const int n = p->h * p->w;
    int off = 0, left = 0;
    for (int i = 0; i < 3 * n; i++)
        if (halves && p->half[i / 3])
            left++;
        else
            off += fabs(255.0 * (double)a[i] - p->out[i]) > 1.001;
    CHECK(left <= 3 * n / 100);
    return (double)off / (3 * n);
}

/* TensorFlow's cutout: rows and columns centre - half .. centre + half - 1, grey. */
static void check_tf_cutout(const struct picture *p, const int32_t *r, int half, const float *out)
{
    double most = 0.0;
    CHECK(r[0] >= 0 && r[1] >= 0 && r[2] < p->w && r[3] < p->h);
    const int wide = r[2] - r[0] + 1, near = r[0] == 0 || r[2] == p->w - 1;
    CHECK(near ? wide <= 2 * half : wide == 2 * half);
    for (int k = 0; k < p->h * p->w * 3; k++) {
        const int x = k / 3 % p->w, y = k / 3 / p->w;
        const int hidden = x >= r[0] && x <= r[2] && y >= r[1] && y <= r[3];
        most = fmax(most, fabs(255.0 * (double)out[k] - (hidden ? 128 : p->in[k])));
    }
    CHECK_NEAR(most, 0.0, 1e-4);
}

static void check_tensorflow(osr_ctx *ctx, int h, int w, float magnitude)
{
    static unsigned char p[BATCH * MOST], want[2][MOST], half[2][MOST];
    static float out[BATCH * MOST];
    const int bytes = h * w * 3;
    osr_images *set;
    for (int i = 0; i < BATCH; i++)
        fill(p + (size_t)i * (size_t)bytes, (size_t)bytes, seed + (uint64_t)i);
    set = images_of(ctx, p, BATCH, h, w, 3, 0);
    for (int op = 0; op < OSR_RANDAUGMENT_COUNT; op++) {
        int signs[2] = {0, 0};
        int32_t ops[BATCH][8];
        osr_augment_desc d = {0};
        d.tensorflow = only((osr_randaugment_op)op, magnitude);
        const osr_tensor t = osr_augment(ctx, set, NULL, BATCH, &d);
        for (int i = 0; i < BATCH; i++)
            memcpy(ops[i], row_of(ctx, t, i) + OSR__ROW_OPS, sizeof ops[i]);
        osr_read(ctx, t, out, (size_t)(BATCH * bytes));
        osr_step_end(ctx);
        for (int i = 0; i < BATCH; i++) {
            struct picture a = {h, w, p + i * bytes, want[0], half[0]};
            struct picture b = {h, w, p + i * bytes, want[1], half[1]};
            const int turned = op == OSR_RANDAUGMENT_ROTATE;
            double off[2];
            if (!tf_reference(&a, (osr_randaugment_op)op, (double)magnitude, 1)) {
                check_tf_cutout(&a, ops[i] + 1, (int)(4.0 * (double)magnitude), out + i * bytes);
                signs[0] = signs[1] = 1;
                continue;
            }
            tf_reference(&b, (osr_randaugment_op)op, (double)magnitude, -1);
            off[0] = share_off(out + i * bytes, &a, turned);
            off[1] = share_off(out + i * bytes, &b, turned);
            if (!CHECK(fmin(off[0], off[1]) <= 0.0))
                fprintf(stderr, "    op %d, %dx%d, magnitude %g: %g and %g of the values\n", op, h,
                        w, (double)magnitude, off[0], off[1]);
            signs[0] += off[0] <= off[1];
            signs[1] += off[1] <= off[0];
        }
        CHECK(signs[0] > 0 && signs[1] > 0);
    }
    osr_images_destroy(set);
}

/* ---- the rest ---- */

/* What the last stage makes of one value: cut out, rotated, mirrored, cropped. */
static double placed(const int32_t *r, const unsigned char *p, int h, int w, int c, int at)
{
    int x = at / c % w, y = at / c / w, sx, sy;
    const int32_t *m = r + OSR__ROW_TURN, *cutout = r + OSR__ROW_CUT;
    if (x >= cutout[0] && x < cutout[2] && y >= cutout[1] && y < cutout[3])
        return 0.0;
    sx = (int)floor(((double)m[0] * x + (double)m[1] * y + m[2]) / 65536.0);
    sy = (int)floor(((double)m[3] * x + (double)m[4] * y + m[5]) / 65536.0);
    if (sx < 0 || sx >= w || sy < 0 || sy >= h)
        return 0.0;
    sx = (r[OSR__ROW_FLIP] ? w - 1 - sx : sx) + r[OSR__ROW_CROP];
    sy += r[OSR__ROW_CROP + 1];
    return sx < 0 || sx >= w || sy < 0 || sy >= h ? 0.0 : p[(sy * w + sx) * c + at % c];
}

static void check_last_stage(osr_ctx *ctx, int h, int w, int c)
{
    static unsigned char p[BATCH * MOST];
    static float out[BATCH * MOST];
    int32_t rows[BATCH][OSR__ROW_OPS];
    const int bytes = h * w * c;
    osr_augment_desc d = {0};
    osr_images *set;
    fill(p, (size_t)(BATCH * bytes), seed);
    set = images_of(ctx, p, BATCH, h, w, c, 0);
    d.crop_pad = 4;
    d.flip = 0.5f;
    d.rotate = 30.0f;
    d.cutout = 3;
    if (augment(ctx, set, BATCH, &d, rows, out))
        for (int i = 0; i < BATCH; i++) {
            double most = 0.0;
            for (int k = 0; k < bytes; k++)
                most = fmax(most, fabs(255.0 * (double)out[i * bytes + k]
                                       - placed(rows[i], p + i * bytes, h, w, c, k)));
            CHECK_NEAR(most, 0.0, 1e-4);
        }
    osr_images_destroy(set);
}

/* Contrast about the mean of each channel, then brightness, each clipped. */
static void check_tone(osr_ctx *ctx)
{
    enum { H = 7, W = 33, BYTES = H * W * 3 };
    static unsigned char p[BATCH * BYTES];
    static float out[BATCH * BYTES];
    int32_t rows[BATCH][OSR__ROW_OPS];
    osr_augment_desc d = {0};
    osr_images *set;
    int different = 0;
    fill(p, sizeof p, seed);
    set = images_of(ctx, p, BATCH, H, W, 3, 0);
    d.contrast = d.brightness = 0.5f;
    for (d.contrast_batch = 0; d.contrast_batch < 2; d.contrast_batch++) {
        augment(ctx, set, BATCH, &d, rows, out);
        for (int i = 0; i < BATCH; i++) {
            const double f = (double)float_at(rows[i], OSR__ROW_TONE);
            const double b = (double)float_at(rows[i], OSR__ROW_TONE + 1);
            double mean[3] = {0.0, 0.0, 0.0}, most = 0.0;
            for (int k = 0; k < BYTES; k++)
                mean[k % 3] += p[i * BYTES + k] / (double)(H * W);
            for (int k = 0; k < BYTES; k++) {
                const double m = mean[k % 3], v = m + f * (p[i * BYTES + k] - m);
                const double y = fmin(fmax(fmin(fmax(v, 0.0), 255.0) + b, 0.0), 255.0);
                most = fmax(most, fabs(255.0 * (double)out[i * BYTES + k] - y));
            }
            CHECK_NEAR(most, 0.0, 1e-3);
            CHECK(f >= 0.5 && f <= 1.5 && fabs(b) <= 127.5);
            CHECK(!d.contrast_batch || rows[i][OSR__ROW_TONE] == rows[0][OSR__ROW_TONE]);
            different += !d.contrast_batch && rows[i][OSR__ROW_TONE] != rows[0][OSR__ROW_TONE];
        }
    }
    CHECK(different > 0);
    osr_images_destroy(set);
}

/* Without augmentation: the pixels by number, channels adapted, sizes bilinear. */
static void check_plain(osr_ctx *ctx, int upload)
{
    enum { COUNT = 5, H = 6, W = 5 };
    static unsigned char p[2][COUNT * H * W * 3];
    static float out[3 * H * W * 3], large[3 * 2 * H * 2 * W];
    const uint32_t index[3] = {4, 0, 2};
    osr_augment_desc d = {0};
    fill(p[0], sizeof p, seed);
    osr_images *grey = images_of(ctx, p[0], COUNT, H, W, 1, upload);
    osr_images *colour = images_of(ctx, p[1], COUNT, H, W, 3, upload);
    osr_read(ctx, osr_augment(ctx, colour, index, 3, NULL), out, 3 * H * W * 3);
    osr_step_end(ctx);
    for (int i = 0; i < 3; i++)
        CHECK(distance(out + i * H * W * 3, p[1] + index[i] * H * W * 3, H * W * 3) < 1e-4);
    d.channels = 3;
    osr_read(ctx, osr_augment(ctx, grey, index, 3, &d), out, 3 * H * W * 3);
    osr_step_end(ctx);
    for (int k = 0; k < 3 * H * W * 3; k++)
        CHECK_NEAR(255.0 * (double)out[k],
                   p[0][(int)index[k / (H * W * 3)] * H * W + k / 3 % (H * W)], 1e-5);
    d.channels = 1;
    osr_read(ctx, osr_augment(ctx, colour, index, 3, &d), out, 3 * H * W);
    osr_step_end(ctx);
    for (int k = 0; k < 3 * H * W; k++) {
        const unsigned char *s = p[1] + 3 * ((int)index[k / (H * W)] * H * W + k % (H * W));
        CHECK_NEAR(255.0 * (double)out[k], 0.299 * s[0] + 0.587 * s[1] + 0.114 * s[2], 1e-5);
    }
    d.height = 2 * H;
    d.width = 2 * W;
    osr_read(ctx, osr_augment(ctx, grey, index, 3, &d), large, 3 * 4 * H * W);
    osr_step_end(ctx);
    for (int y = 1; y < 2 * H - 1; y++) { /* twice as large: weights 3/4 and 1/4 */
        const unsigned char *s = p[0] + (int)index[1] * H * W, *near = s + y / 2 * W;
        const unsigned char *far = near + (y % 2 ? W : -W);
        for (int x = 1; x < 2 * W - 1; x++) {
            const int a = x / 2, b = a + (x % 2 ? 1 : -1);
            const double v = (9 * near[a] + 3 * near[b] + 3 * far[a] + far[b]) / 16.0;
            CHECK_NEAR(255.0 * (double)large[(2 * H + y) * 2 * W + x], v, 1e-5);
        }
    }
    osr_images_destroy(grey);
    osr_images_destroy(colour);
}

/* What is drawn: ranges, and that it varies, over many steps. Needs no device time. */
static void check_draws(osr_ctx *ctx)
{
    enum { STEPS = 400, SIDE = 32 };
    osr_augment_desc d = {0};
    const osr_images_desc set = {NULL, 1, SIDE, SIDE, 3, 0};
    int crops[9] = {0}, ops[OSR__AUG_CUT + 1] = {0}, flips = 0, most_turned = 0;
    double area = 0.0, widest = 0.0, narrowest = 9.0;
    d.height = d.width = SIDE;
    d.channels = 3;
    d.crop_pad = 4;
    d.crop_batch = 1;
    d.flip = 0.25f;
    d.rotate = 15.0f;
    d.resized_crop = 0.25f;
    d.tensorflow.ops = 2;
    d.tensorflow.magnitude = 5.0f;
    d.tensorflow.without = OSR_RANDAUGMENT_DIGITS;
    for (int i = 0; i < STEPS; i++) {
        const osr__draws batch = osr__draws_start(ctx, OSR__BATCH);
        int32_t row[2][OSR__ROW_OPS + 16];
        memset(row, 0, sizeof row);
        for (int k = 0; k < 2; k++) {
            osr__draws draws = osr__draws_start(ctx, (uint32_t)k);
            osr__draw_row(&draws, batch, &d, &set, row[k]);
            ops[row[k][OSR__ROW_OPS]]++;
            ops[row[k][OSR__ROW_OPS + 8]]++;
            flips += row[k][OSR__ROW_FLIP];
        }
        ctx->step++;
        const int32_t *r = row[0], *box = r + OSR__ROW_BOX;
        CHECK(memcmp(r + OSR__ROW_CROP, row[1] + OSR__ROW_CROP, 8) == 0);
        CHECK(memcmp(r + OSR__ROW_BOX, row[1] + OSR__ROW_BOX, 16) != 0 || box[2] == SIDE);
        CHECK(abs(r[OSR__ROW_CROP]) <= 4 && abs(r[OSR__ROW_CROP + 1]) <= 4);
        crops[r[OSR__ROW_CROP] + 4]++;
        CHECK(box[0] >= 0 && box[1] >= 0 && box[0] + box[2] <= SIDE && box[1] + box[3] <= SIDE);
        CHECK(box[2] * box[3] > 0.2 * SIDE * SIDE);
        area += (double)box[2] * box[3] / (SIDE * SIDE) / STEPS;
        widest = fmax(widest, (double)box[2] / box[3]);
        narrowest = fmin(narrowest, (double)box[2] / box[3]);
        CHECK(r[OSR__ROW_TURN] >= (int)(cos(15.0 / 57.29578) * 65536.0) - 1);
        most_turned = abs(r[OSR__ROW_TURN + 1]) > most_turned ? abs(r[OSR__ROW_TURN + 1])
                                                              : most_turned;
    }
    for (int i = 0; i < 9; i++)
        CHECK(crops[i] > STEPS / 9 / 2 && crops[i] < STEPS / 9 * 2);
    CHECK(flips > STEPS / 4 && flips < STEPS * 3 / 4);
    CHECK(area > 0.5 && area < 0.7 && widest > 1.25 && widest < 1.42 && narrowest < 0.8
          && narrowest > 0.7);
    CHECK(most_turned > 0.9 * sin(15.0 / 57.29578) * 65536.0
          && most_turned < 1.001 * sin(15.0 / 57.29578) * 65536.0);
    /* 14 equal outcomes: identity once, shears (reflected) twice, no translation or rotation */
    CHECK_NEAR(ops[OSR__AUG_NONE] / (4.0 * STEPS), 1.0 / 14.0, 0.02);
    CHECK_NEAR(ops[OSR__AUG_REFLECT] / (4.0 * STEPS), 2.0 / 14.0, 0.03);
    CHECK_NEAR(ops[OSR__AUG_BLEND] / (4.0 * STEPS), 2.0 / 14.0, 0.03);
    CHECK(ops[OSR__AUG_AFFINE] == 0 && ops[OSR__AUG_CONTRAST] == 0);
}

static osr_augment_desc everything(void)
{
    osr_augment_desc d = {0};
    d.height = d.width = 24;
    d.channels = 3;
    d.pillow.ops = 2;
    d.pillow.magnitude = 9.0f;
    d.tensorflow.ops = 1;
    d.tensorflow.magnitude = 6.0f;
    d.resized_crop = 0.3f;
    d.crop_pad = 2;
    d.flip = 0.5f;
    d.rotate = 20.0f;
    d.cutout = 5;
    return d;
}

/* The same bits from the same seed and step, from pixels on the device or sent, from both families
 * of kernels; others from another step; nothing allocated after the first steps. */
static void check_repeats(void)
{
    enum { COUNT = 40, H = 20, W = 31, OUT = BATCH * 24 * 24 * 3 };
    static unsigned char p[COUNT * H * W * 3];
    static float out[5][OUT];
    static const osr_kernels families[2] = {OSR_KERNELS_CPU, OSR_KERNELS_GPU};
    const osr_augment_desc d = everything();
    osr_ctx_stats before, after;
    fill(p, sizeof p, seed);
    for (int k = 0; k < 4; k++) {
        osr_ctx *ctx = context(families[k % 2]);
        osr_images *set = images_of(ctx, p, COUNT, H, W, 3, k / 2);
        augment(ctx, set, BATCH, &d, NULL, out[4]);
        osr_ctx_set_step(ctx, 7);
        augment(ctx, set, BATCH, &d, NULL, out[k]);
        augment(ctx, set, BATCH - 1, &d, NULL, out[4]);
        CHECK(memcmp(out[k], out[4], OUT / 2 * sizeof(float)) != 0);
        osr_ctx_get_stats(ctx, &before);
        for (int i = 0; i < 3; i++) {
            osr_ctx_set_step(ctx, 7);
            augment(ctx, set, BATCH - i % 2, &d, NULL, out[4]);
        }
        osr_ctx_get_stats(ctx, &after);
        CHECK(before.allocations == after.allocations && before.plans == after.plans
              && before.device_bytes == after.device_bytes);
        /* load, three ops, scaling, cut to whole levels, box, place; and one to read */
        CHECK(after.launches - before.launches == 3 * (1 + 2 * 3 + 1 + 1 + 1 + 1 + 1));
        CHECK(memcmp(out[k], out[4], OUT * sizeof(float)) == 0);
        CHECK(k == 0 || memcmp(out[k], out[0], OUT * sizeof(float)) == 0);
        osr_images_destroy(set);
        osr_ctx_destroy(ctx);
    }
}

static void check_error(osr_ctx *ctx, osr_tensor t, const char *word)
{
    CHECK(t.index == 0 && osr_ctx_status(ctx) == OSR_ARG);
    if (!CHECK(strstr(osr_ctx_message(ctx), word) != NULL))
        fprintf(stderr, "    %s\n", osr_ctx_message(ctx));
    osr_ctx_clear_error(ctx);
}

static void check_errors(osr_ctx *ctx)
{
    static const unsigned char p[12] = {0};
    const uint32_t index[2] = {3, 4};
    osr_images *set = images_of(ctx, p, 4, 1, 1, 3, 0), *none = NULL;
    const osr_images_desc two = {p, 1, 1, 1, 2, 0}, empty = {p, 0, 1, 1, 1, 0};
#define WRONG(field, value)                                                                        \
    {                                                                                              \
        osr_augment_desc d = {0};                                                                  \
        d.field = value;                                                                           \
        check_error(ctx, osr_augment(ctx, set, NULL, 1, &d), #field);                              \
    }
    WRONG(channels, 2)
    WRONG(height, -1)
    WRONG(pillow.ops, 17)
    WRONG(pillow.magnitude, 31.0f)
    WRONG(pillow.without, 0xFFFFu)
    WRONG(tensorflow.magnitude, 11.0f)
    WRONG(contrast, 1.5f)
    WRONG(brightness, NAN)
    WRONG(resized_crop, -0.5f)
    WRONG(crop_pad, -1)
    WRONG(flip, 2.0f)
    WRONG(rotate, 181.0f)
    WRONG(cutout, -2)
    check_error(ctx, osr_augment(ctx, set, index, 2, NULL), "image 4 of a set of 4");
    check_error(ctx, osr_augment(ctx, NULL, NULL, 1, NULL), "NULL");
    CHECK(osr_images_create(ctx, &two, &none) == OSR_ARG && none == NULL);
    osr_ctx_clear_error(ctx);
    CHECK(osr_images_create(ctx, &empty, &none) == OSR_ARG && none == NULL);
    osr_ctx_clear_error(ctx);
    osr_images_destroy(set);
}

int main(void)
{
    const int small = getenv("OSR_TEST_SMALL") != NULL;
    int devices;
    seed = test_seed();
    if (osr_device_list(NULL, 0, &devices) != OSR_OK || devices == 0)
        return test_skip("no OpenCL device");
    for (int k = 0; k < 2; k++) {
        osr_ctx *ctx = context(small ? OSR_KERNELS_AUTO : k ? OSR_KERNELS_GPU : OSR_KERNELS_CPU);
        check_op_vectors(ctx);
        check_box_vectors(ctx);
        check_equalize(ctx, 1);
        check_equalize(ctx, 3);
        check_cut_vectors(ctx);
        check_pillow_cutout(ctx);
        check_tensorflow(ctx, 5, 3, 6.0f);
        if (!small) {
            check_tensorflow(ctx, 32, 32, 6.0f);
            check_tensorflow(ctx, 32, 32, 9.0f);
            check_tensorflow(ctx, 64, 64, 9.0f);
            check_tensorflow(ctx, 33, 31, 3.0f);
            check_tensorflow(ctx, 20, 40, 10.0f);
            check_last_stage(ctx, 33, 31, 3);
            check_last_stage(ctx, 1, 1, 1);
        }
        check_last_stage(ctx, 9, 12, 1);
        check_tone(ctx);
        check_plain(ctx, 0);
        check_plain(ctx, 1);
        check_draws(ctx);
        check_errors(ctx);
        osr_ctx_destroy(ctx);
        if (small)
            break;
    }
    if (!small)
        check_repeats();
    return test_end();
}
