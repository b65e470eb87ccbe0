#define _POSIX_C_SOURCE 200809L
#include "segments.h"

#include "exit_codes.h"
#include "philox.h"
#include "signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const segment_names[SEGMENT_KINDS] = {"same class", "different classes",
                                                  "known to unknown"};

/* May image j of the second subset stand at the other end from image i of the known ones? */
static int fits(const struct analysed *a, int kind, size_t i, size_t j)
{
    return kind == SEGMENT_UNKNOWN     ? 1
           : kind == SEGMENT_DIFFERENT ? a->known.label[i] != a->known.label[j]
                                       : a->known.label[i] == a->known.label[j] && i != j;
}

/* A pair of a kind: a first image, the next one after it that has partners, one of these. 0 where
 * no image has any. */
static int draw_pair(const struct analysed *a, int kind, struct philox *p, size_t *from, size_t *to)
{
    const struct subset *other = kind == SEGMENT_UNKNOWN ? &a->unknown : &a->known;
    const size_t first = philox_below(p, (uint32_t)a->known.count);
    for (size_t k = 0; k < a->known.count; ++k) {
        uint32_t partners = 0;
        *from = (first + k) % a->known.count;
        for (size_t j = 0; j < other->count; ++j)
            partners += fits(a, kind, *from, j) != 0;
        if (partners == 0)
            continue;
        uint32_t chosen = philox_below(p, partners);
        for (*to = 0; *to < other->count; ++*to)
            if (fits(a, kind, *from, *to) && chosen-- == 0)
                return 1;
    }
    return 0;
}

static int segment_norms(osr_model *model, const struct analysed *a, struct feed *known,
                         struct feed *other, const struct subset *others, size_t from, size_t to,
                         float *images, int points, struct segment *s)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    const size_t image = (size_t)d->height * (size_t)d->width * (size_t)d->channels;
    feed_load(known, &a->known, NULL, from, 1);
    feed_load(other, others, NULL, to, 1);
    for (int k = 0; k < points; ++k) {
        const double t = (double)k / (points - 1);
        for (size_t i = 0; i < image; ++i)
            images[(size_t)k * image + i] =
                (float)((1.0 - t) * (double)known->images[i] + t * (double)other->images[i]);
    }
    s->from = a->known.index[from];
    s->to = others->index[to];
    if (osr_model_jacobian(model, images, points, &a->jacobian, s->norm, NULL) != OSR_OK)
        return session_fail(osr_model_context(model));
    return signals_pending();
}

/* All pairs of a kind. */
static int segment_kind(osr_model *model, const struct analysed *a, int kind, size_t pairs,
                        uint64_t seed, float *images, struct segments *out)
{
    const struct data_set *set = kind == SEGMENT_UNKNOWN ? a->unknown_set : a->known_set;
    const struct subset *others = kind == SEGMENT_UNKNOWN ? &a->unknown : &a->known;
    struct philox p = philox_start(seed, PHILOX_SEGMENTS, (uint64_t)kind);
    struct feed known, other;
    int code = feed_start(&known, model, a->known_set, 1);
    if (code != EXIT_OK)
        return code;
    code = feed_start(&other, model, set, 1);
    if (code != EXIT_OK) {
        feed_end(&known);
        return code;
    }
    for (size_t i = 0; i < pairs && code == EXIT_OK; ++i) {
        size_t from, to;
        char line[96];
        snprintf(line, sizeof line, "segments, %s %zu/%zu", segment_names[kind], i, pairs);
        status_line(line);
        if (!draw_pair(a, kind, &p, &from, &to))
            break;
        code = segment_norms(model, a, &known, &other, others, from, to, images, out->points,
                             &out->of[kind][i]);
        out->count[kind] = i + 1;
    }
    status_line_end();
    feed_end(&known);
    feed_end(&other);
    return code;
}

int segments_compute(osr_model *model, const struct analysed *a, size_t pairs, int points,
                     uint64_t seed, struct segments *out)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    const size_t image = (size_t)d->height * (size_t)d->width * (size_t)d->channels;
    float *images = malloc((size_t)points * image * sizeof *images);
    int code = images != NULL ? EXIT_OK : EXIT_MEMORY;
    memset(out, 0, sizeof *out);
    out->points = points;
    for (int kind = 0; kind < SEGMENT_KINDS && code == EXIT_OK; ++kind) {
        out->of[kind] = calloc(pairs + 1, sizeof *out->of[kind]);
        code = out->of[kind] != NULL ? EXIT_OK : EXIT_MEMORY;
    }
    if (code != EXIT_OK)
        message_error("out of memory");
    for (int kind = 0; kind < SEGMENT_KINDS && code == EXIT_OK; ++kind)
        code = segment_kind(model, a, kind, pairs, seed, images, out);
    free(images);
    return code;
}

void segments_free(struct segments *s)
{
    for (int kind = 0; kind < SEGMENT_KINDS; ++kind)
        free(s->of[kind]);
    memset(s, 0, sizeof *s);
}

void segments_mean(const struct segments *s, int kind, double *mean, double *error)
{
    const double n = (double)s->count[kind];
    for (int k = 0; k < s->points; ++k) {
        double sum = 0.0, squares = 0.0;
        for (size_t i = 0; i < s->count[kind]; ++i)
            sum += s->of[kind][i].norm[k];
        mean[k] = sum / n; /* NaN without a pair */
        for (size_t i = 0; i < s->count[kind]; ++i)
            squares += (s->of[kind][i].norm[k] - mean[k]) * (s->of[kind][i].norm[k] - mean[k]);
        error[k] = n > 1.0 ? sqrt(squares / (n - 1.0) / n) : NAN;
    }
}

char *segments_csv(const struct segments *s, size_t *length)
{
    char *text = NULL, t[REAL_TEXT], norm[REAL_TEXT];
    FILE *f = open_memstream(&text, length);
    if (f == NULL)
        return NULL;
    fprintf(f, "kind,pair,from,to,t,norm\n");
    for (int kind = 0; kind < SEGMENT_KINDS; ++kind)
        for (size_t i = 0; i < s->count[kind]; ++i)
            for (int k = 0; k < s->points; ++k) {
                const struct segment *one = &s->of[kind][i];
                fprintf(f, "%s,%zu,%u,%u,%s,%s\n", segment_names[kind], i, (unsigned)one->from,
                        (unsigned)one->to, real_text(t, (double)k / (s->points - 1)),
                        real_text(norm, one->norm[k]));
            }
    const int lost = ferror(f);
    if (fclose(f) == 0 && !lost)
        return text;
    free(text);
    return NULL;
}

void segments_svg(const struct segments *s, const char *title, struct svg *out)
{
    static const char *const colours[SEGMENT_KINDS] = {SVG_GREEN, SVG_BLUE, SVG_RED};
    double t[SEGMENT_MOST], mean[SEGMENT_KINDS][SEGMENT_MOST], low[SEGMENT_MOST];
    double high[SEGMENT_MOST], error[SEGMENT_KINDS][SEGMENT_MOST], most = 0.0;
    char line[128];
    struct svg_chart c = {0};
    for (int kind = 0; kind < SEGMENT_KINDS; ++kind) {
        segments_mean(s, kind, mean[kind], error[kind]);
        for (int k = 0; k < s->points; ++k) {
            const double top = mean[kind][k] + (isfinite(error[kind][k]) ? error[kind][k] : 0.0);
            t[k] = (double)k / (s->points - 1);
            most = isfinite(top) && top > most ? top : most;
        }
    }
    svg_open(out, 720, 440, title);
    c.up = svg_axis_make(0.0, most, 6, "norm of the Jacobian, with its error");
    c.across = svg_axis_make(0.0, 1.0, 5, "place t between the images: (1 - t) a + t b");
    c.x = 20.0 + svg_chart_margin(&c.up);
    c.y = 78.0;
    c.width = 700.0 - c.x;
    c.height = 300.0;
    svg_text(out, 20.0, 28.0, SVG_START, 15, svg_cut(title, 15, 680.0, line, sizeof line));
    svg_chart_draw(out, &c);
    double x = c.x;
    for (int kind = 0; kind < SEGMENT_KINDS; ++kind) {
        for (int k = 0; k < s->points; ++k) {
            low[k] = mean[kind][k] - error[kind][k];
            high[k] = mean[kind][k] + error[kind][k];
        }
        svg_band(out, &c, t, low, high, (size_t)s->points, colours[kind]);
        svg_curve(out, &c, t, mean[kind], (size_t)s->points, colours[kind], 0);
        snprintf(line, sizeof line, "%s (%zu)", segment_names[kind], s->count[kind]);
        x = svg_legend(out, x, 60.0, line, colours[kind], 0);
    }
}
