/* data_glyphs.c - drawn data: ten invented letters, 32x32, grey.
 *
 * An image is a function of (seed, part, index) alone. The letters of the classes 6 to 9 are put
 * together from strokes of the classes 0 to 5, so that they are hard to tell as unknown. All
 * arithmetic is in double and a pixel is rounded once, which leaves no room for the compiler or
 * the mathematical library to change a byte. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit_codes.h"
#include "options.h"
#include "output.h"
#include "philox.h"

/* How hard the images are. Lengths in pixels where not said otherwise. */
enum {
    SIDE = 32,
    CLASSES = 10,
    TRAIN_COUNT = 6000,
    TEST_COUNT = 2000,
    MAX_COUNT = 1000000,
    CURVE_PARTS = 10, /* line segments of a curved stroke */
    CLUTTER_MOST = 4  /* stray strokes */
};
static const double SCALE_LOW = 0.62, SCALE_HIGH = 1.05; /* of RADIUS */
static const double RADIUS = 11.5;                       /* half the height of a letter */
static const double ROTATION = 0.42;                     /* radians, either way */
static const double SHEAR = 0.35, ASPECT = 0.22;
static const double SHIFT = 3.0;
static const double ELASTIC = 0.16, JITTER = 0.07; /* in half heights */
static const double WIDTH_LOW = 0.55, WIDTH_HIGH = 1.55; /* half the width of a stroke */
static const double INK_LOW = 0.40, INK_HIGH = 0.95;
static const double PAPER_HIGH = 0.30, SLOPE = 0.15; /* background and its rise over the image */
static const double NOISE_LOW = 0.03, NOISE_HIGH = 0.13;
static const double CLUTTER_INK = 0.8; /* share of the letter's ink */

/* ---- the letters ---- */

/* Coordinates in half heights, y downwards; drawn a quarter turn clockwise, away from what Latin
 * letters look like. A line from (a, b) to (c, d); an arc round (a, b) of
 * radius c from angle d to e, in degrees clockwise from the right; a quadratic curve from (a, b)
 * through control point (c, d) to (e, f). */
struct stroke {
    char kind; /* 'l', 'a', 'q'; 0 ends a letter */
    double a, b, c, d, e, f;
};

#define STEM {'l', -0.55, -1.0, -0.55, 1.0, 0, 0}
#define ROOF {'l', -0.7, -0.9, 0.7, -0.9, 0, 0}
#define SLASH {'l', 0.65, -0.9, -0.55, 0.7, 0, 0}
#define BOW {'a', -0.08, -0.45, 0.5, -150, 150, 0}
#define RING {'a', 0.0, -0.3, 0.48, 0, 360, 0}
#define ARCH {'a', 0.05, 0.1, 0.72, 180, 360, 0}
#define SNAKE_TOP {'q', 0.6, -0.75, -0.95, -0.75, 0.0, 0.0}
#define SNAKE_END {'q', 0.0, 0.0, 0.95, 0.75, -0.6, 0.75}
#define FOOT {'l', -0.5, 0.95, 0.5, 0.95, 0, 0}
#define BEAM {'l', -0.6, 0.3, 0.6, 0.3, 0, 0}

static const char *const letter_names[CLASSES] = {"alu", "bex", "cor", "dun", "eli",
                                                  "fay", "gom", "hit", "ipo", "jax"};

static const struct stroke letters[CLASSES][6] = {
    {STEM, BOW, FOOT},
    {STEM, {'l', -0.5, 0.0, 0.6, -0.85, 0, 0}, {'l', -0.5, 0.0, 0.6, 0.85, 0, 0}},
    {ARCH, {'l', -0.67, 0.1, -0.67, 0.9, 0, 0}, {'l', 0.77, 0.1, 0.77, 0.9, 0, 0}, BEAM},
    {ROOF, SLASH, {'q', -0.55, 0.7, 0.1, 1.15, 0.65, 0.6}},
    {SNAKE_TOP, SNAKE_END, {'l', 0.0, -0.95, 0.0, 0.95, 0, 0}},
    {RING, {'l', 0.0, 0.18, 0.0, 0.95, 0, 0}, FOOT},
    {STEM, BOW, BEAM, {'l', -0.5, 0.0, 0.6, 0.85, 0, 0}},
    {RING, {'l', 0.0, 0.18, 0.0, 0.95, 0, 0}, ROOF},
    {SNAKE_TOP, SNAKE_END, SLASH},
    {ARCH, {'l', 0.05, -0.62, 0.05, 0.95, 0, 0}, FOOT}};

/* ---- geometry ---- */

struct point {
    double x, y;
};

/* What one image does to its letter. */
struct warp {
    double xx, xy, yx, yy, x0, y0; /* half heights to pixels */
    double wave[2][4];             /* elastic: amplitude, frequencies, phase for x and for y */
};

static struct warp draw_warp(struct philox *p)
{
    struct warp w;
    double angle = philox_between(p, -ROTATION, ROTATION);
    double scale = RADIUS * philox_between(p, SCALE_LOW, SCALE_HIGH);
    double shear = philox_between(p, -SHEAR, SHEAR);
    double aspect = 1.0 + philox_between(p, -ASPECT, ASPECT);
    double c = cos(angle) * scale, s = sin(angle) * scale;
    w.xx = c * aspect;
    w.xy = c * shear - s;
    w.yx = s * aspect;
    w.yy = s * shear + c;
    w.x0 = SIDE / 2.0 + philox_between(p, -SHIFT, SHIFT);
    w.y0 = SIDE / 2.0 + philox_between(p, -SHIFT, SHIFT);
    for (int i = 0; i < 2; i++) {
        w.wave[i][0] = ELASTIC * philox_unit(p);
        w.wave[i][1] = philox_between(p, -3.0, 3.0);
        w.wave[i][2] = philox_between(p, -3.0, 3.0);
        w.wave[i][3] = philox_between(p, 0.0, 6.283185307179586);
    }
    return w;
}

static struct point apply(const struct warp *w, struct point p)
{
    const double *u = w->wave[0], *v = w->wave[1];
    double x = p.x + u[0] * sin(u[1] * p.x + u[2] * p.y + u[3]);
    double y = p.y + v[0] * sin(v[1] * p.x + v[2] * p.y + v[3]);
    struct point q = {w->xx * x + w->xy * y + w->x0, w->yx * x + w->yy * y + w->y0};
    return q;
}

/* The point at t in [0, 1] of a stroke. */
static struct point stroke_at(const struct stroke *s, double t)
{
    struct point p = {0, 0};
    if (s->kind == 'l') {
        p.x = s->a + t * (s->c - s->a);
        p.y = s->b + t * (s->d - s->b);
    } else if (s->kind == 'a') {
        double angle = (s->d + t * (s->e - s->d)) * 0.017453292519943295;
        p.x = s->a + s->c * cos(angle);
        p.y = s->b + s->c * sin(angle);
    } else {
        double u = 1 - t;
        p.x = u * u * s->a + 2 * u * t * s->c + t * t * s->e;
        p.y = u * u * s->b + 2 * u * t * s->d + t * t * s->f;
    }
    return p;
}

/* Lowers the squared distance of the pixels near the segment p-q, out to reach. */
static void draw_segment(double distance[SIDE][SIDE], struct point p, struct point q, double reach)
{
    double dx = q.x - p.x, dy = q.y - p.y, length = dx * dx + dy * dy;
    double inverse = length > 1e-12 ? 1.0 / length : 0.0;
    int left = (int)fmax(0.0, fmin(p.x, q.x) - reach);
    int top = (int)fmax(0.0, fmin(p.y, q.y) - reach);
    int right = (int)fmin(SIDE - 1.0, fmax(p.x, q.x) + reach);
    int bottom = (int)fmin(SIDE - 1.0, fmax(p.y, q.y) + reach);
    for (int y = top; y <= bottom; y++)
        for (int x = left; x <= right; x++) {
            double ux = x + 0.5 - p.x, uy = y + 0.5 - p.y;
            double t = fmin(1.0, fmax(0.0, (ux * dx + uy * dy) * inverse));
            double ex = ux - t * dx, ey = uy - t * dy, d = ex * ex + ey * ey;
            if (d < distance[y][x])
                distance[y][x] = d;
        }
}

static void draw_stroke(double distance[SIDE][SIDE], const struct stroke *s, const struct warp *w,
                        double reach, struct philox *p)
{
    double sx = philox_between(p, -JITTER, JITTER), sy = philox_between(p, -JITTER, JITTER);
    double ex = philox_between(p, -JITTER, JITTER), ey = philox_between(p, -JITTER, JITTER);
    struct point before = {0, 0};
    for (int i = 0; i <= CURVE_PARTS; i++) {
        double t = (double)i / CURVE_PARTS;
        struct point at = stroke_at(s, t), turned;
        turned.x = -at.y + sx + t * (ex - sx);
        turned.y = at.x + sy + t * (ey - sy);
        at = apply(w, turned);
        if (i > 0)
            draw_segment(distance, before, at, reach);
        before = at;
    }
}

static void draw_clutter(double distance[SIDE][SIDE], double reach, struct philox *p)
{
    uint32_t n = philox_below(p, CLUTTER_MOST + 1);
    for (uint32_t i = 0; i < n; i++) {
        double x = philox_between(p, 0, SIDE), y = philox_between(p, 0, SIDE);
        double length = philox_between(p, 2.0, 9.0), angle = philox_between(p, 0, 6.283185307);
        struct point a = {x, y}, b = {x + length * cos(angle), y + length * sin(angle)};
        draw_segment(distance, a, b, reach);
    }
}

/* ---- images ---- */

static double coverage(double squared, double half_width)
{
    return fmin(1.0, fmax(0.0, half_width + 0.5 - sqrt(squared)));
}

/* Nearly normal, mean 0, deviation 1: four bytes of one word, each of deviation 73.9. */
static double rough_normal(struct philox *p)
{
    uint32_t r = philox_next(p);
    int sum = (int)(r & 255) + (int)(r >> 8 & 255) + (int)(r >> 16 & 255) + (int)(r >> 24);
    return (sum - 510) * (1.0 / 147.8);
}

static void draw_image(uint8_t out[SIDE * SIDE], int label, struct philox *p)
{
    double glyph[SIDE][SIDE], clutter[SIDE][SIDE];
    struct warp w = draw_warp(p);
    double half_width = philox_between(p, WIDTH_LOW, WIDTH_HIGH), reach = half_width + 2.0;
    double ink = philox_between(p, INK_LOW, INK_HIGH), paper = philox_between(p, 0, PAPER_HIGH);
    double rise_x = philox_between(p, -SLOPE, SLOPE) / SIDE;
    double rise_y = philox_between(p, -SLOPE, SLOPE) / SIDE;
    double noise = philox_between(p, NOISE_LOW, NOISE_HIGH);
    for (int i = 0; i < SIDE * SIDE; i++)
        glyph[i / SIDE][i % SIDE] = clutter[i / SIDE][i % SIDE] = 1e9;
    for (const struct stroke *s = letters[label]; s->kind; s++)
        draw_stroke(glyph, s, &w, reach, p);
    draw_clutter(clutter, reach, p);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            double c = fmax(coverage(glyph[y][x], half_width),
                            CLUTTER_INK * coverage(clutter[y][x], half_width));
            double v = paper + rise_x * (x - SIDE / 2) + rise_y * (y - SIDE / 2) +
                       c * ink * (1 - paper) + noise * rough_normal(p);
            out[y * SIDE + x] = (uint8_t)(255.0 * fmin(1.0, fmax(0.0, v)) + 0.5);
        }
}

static int draw_set(struct data_set *set, uint64_t seed, uint32_t part, size_t count,
                    char *message, size_t size)
{
    int code;
    set->width = set->height = SIDE;
    set->channels = 1;
    set->count = count;
    set->class_count = CLASSES;
    code = data_set_allocate(set, message, size);
    if (code)
        return code;
    for (int c = 0; c < CLASSES; c++) {
        set->class_names[c] = strdup(letter_names[c]);
        if (!set->class_names[c]) {
            snprintf(message, size, "out of memory");
            return EXIT_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct philox p = philox_start(seed, PHILOX_GLYPHS + part, i);
        set->labels[i] = (int32_t)(i % CLASSES);
        draw_image(set->pixels + i * SIDE * SIDE, (int)(i % CLASSES), &p);
    }
    return EXIT_OK;
}

/* "TRAIN,TEST": numbers of images, at least one for each class. */
static int read_counts(const char *rest, size_t counts[2])
{
    char first[24];
    const char *comma = strchr(rest, ',');
    int64_t n[2];
    if (!comma || comma - rest >= (int)sizeof first)
        return -1;
    snprintf(first, sizeof first, "%.*s", (int)(comma - rest), rest);
    if (integer_parse(first, &n[0]) || integer_parse(comma + 1, &n[1]))
        return -1;
    for (int i = 0; i < 2; i++) {
        if (n[i] < CLASSES || n[i] > MAX_COUNT)
            return -1;
        counts[i] = (size_t)n[i];
    }
    return 0;
}

int data_open_glyphs(const char *rest, const struct data_wish *wish, struct data *out,
                     char *message, size_t message_size)
{
    size_t counts[2] = {TRAIN_COUNT, TEST_COUNT};
    int code = EXIT_OK;
    if (rest && read_counts(rest, counts)) {
        snprintf(message, message_size, "glyphs:%s: wants glyphs:TRAIN,TEST with numbers of images "
                 "in [%d,%d]", rest, CLASSES, MAX_COUNT);
        return EXIT_USAGE;
    }
    if (!wish->test_only)
        code = draw_set(&out->train, wish->seed, 0, counts[0], message, message_size);
    if (code == EXIT_OK)
        code = draw_set(&out->test, wish->seed, 1, counts[1], message, message_size);
    return code;
}
