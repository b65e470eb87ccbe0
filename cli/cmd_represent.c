/* cmd_represent.c - osr represent: what an image is to a model. The values of every class as a
 * Hinton diagram (a square's area is the value, its colour the sign) beside the mean of a class,
 * and the maps that tell where in the image the class's values come from.
 *
 * With --out a folder gets NAME.svg for every image and represent.json. */
#define _POSIX_C_SOURCE 200809L
#include "evaluation.h"
#include "exit_codes.h"
#include "output.h"
#include "reading.h"
#include "run_dir.h"
#include "signals.h"
#include "svg.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct represent {
    osr_ctx *ctx;
    osr_model *model;
    struct origin origin;
    struct data data;
    int have_data;
    struct class_split split;
    struct reader reader;
    int shown; /* --class, or -1 */
    float *image;
    const char *out; /* --out, or NULL */
    struct json json;
};

static int out_of_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

/* ---- the model, the data, the class ---- */

static int choose_class(struct represent *r, const char *name)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    r->shown = -1;
    if (name == NULL)
        return EXIT_OK;
    for (int k = 0; k < d->classes; ++k)
        if (strcmp(d->class_names[k], name) == 0) {
            r->shown = k;
            return EXIT_OK;
        }
    const char *near = nearest_name(name, d->class_names, (size_t)d->classes);
    message_error("the model knows no class \"%s\"%s%s%s", name,
                  near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                  near != NULL ? "?" : "");
    return EXIT_USAGE;
}

/* The data of --data, which must open, or of the run, which may be gone. */
static int open_data(struct represent *r, const struct options *o)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const char *spec = option_text(o, "data");
    char message[1024];
    if (spec == NULL)
        spec = r->origin.data;
    if (spec[0] == '\0')
        return EXIT_OK;
    const uint64_t seed = r->origin.seed >= 0 ? (uint64_t)r->origin.seed : 0;
    int code = data_open(spec, seed, d->height, d->channels == 1 ? 1 : 3, &r->data, message,
                         sizeof message);
    if (code != EXIT_OK && option_text(o, "data") == NULL) {
        message_warning("without the model's data: %s", message);
        return code == EXIT_MEMORY ? code : EXIT_OK;
    }
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    r->have_data = 1;
    return split_of_model(r->model, &r->data.test, &r->split);
}

static int start(struct represent *r, const struct options *o)
{
    int code = session_open_run(o, o->operands[0], &r->ctx);
    if (code == EXIT_OK)
        code = session_model(r->ctx, o->operands[0], &r->model, &r->origin);
    if (code != EXIT_OK)
        return code;
    const osr_model_desc *d = osr_model_get_desc(r->model);
    if (d->height != d->width) {
        message_error("the model reads %dx%d images; only square ones are fed", d->height,
                      d->width);
        return EXIT_DATA;
    }
    reader_start(&r->reader, r->model);
    r->out = option_text(o, "out");
    r->image = malloc((size_t)d->height * (size_t)d->width * (size_t)d->channels
                      * sizeof *r->image);
    code = r->image == NULL ? out_of_memory() : choose_class(r, option_text(o, "class"));
    if (code == EXIT_OK)
        code = open_data(r, o);
    if (code != EXIT_OK || (option_text(o, "data") == NULL && reader_stored_means(&r->reader)))
        return code;
    if (r->have_data)
        return reader_means(&r->reader, &r->data.train, &r->split, (size_t)option_int(o, "limit"),
                            (int)option_int(o, "batch"));
    message_warning("no class means: name images of the known classes with --data");
    return EXIT_OK;
}

/* ---- images ---- */

/* "test:12", or a file, into r->image. */
static int load(struct represent *r, const char *operand)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const size_t count = (size_t)d->height * (size_t)d->width * (size_t)d->channels;
    char message[512];
    int64_t n;
    if (strncmp(operand, "test:", 5) == 0) {
        struct feed f;
        if (!r->have_data) {
            message_error("%s: there is no data that it could be of; name some with --data",
                          operand);
            return EXIT_USAGE;
        }
        if (integer_parse(operand + 5, &n) != 0 || n < 0 || (size_t)n >= r->data.test.count) {
            message_error("%s: the test images of %s are 0 to %zu", operand, r->data.test.spec,
                          r->data.test.count - 1);
            return EXIT_USAGE;
        }
        uint32_t index = (uint32_t)n;
        int32_t label = -1;
        struct subset one = {1, &index, &label};
        const int code = feed_start(&f, r->model, &r->data.test, 1);
        if (code != EXIT_OK)
            return code;
        feed_load(&f, &one, NULL, 0, 1);
        memcpy(r->image, f.images, count * sizeof *r->image);
        feed_end(&f);
        return EXIT_OK;
    }
    uint8_t *pixels = malloc(count);
    if (pixels == NULL)
        return out_of_memory();
    const int code = image_load(operand, d->height, d->channels, pixels, message, sizeof message);
    for (size_t i = 0; i < count && code == EXIT_OK; ++i)
        r->image[i] = (float)pixels[i] / 255.0f;
    free(pixels);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}

/* ---- the picture ---- */

enum { PICTURE = 192, MAP = 108, GAP = 24, HEAD = 84, NAMES = 110 };

static void colour_of(double red, double green, double blue, char colour[8])
{
    const double part[3] = {red, green, blue};
    int byte[3];
    for (int i = 0; i < 3; ++i)
        byte[i] = (int)(255.0 * (part[i] < 0.0 ? 0.0 : part[i] > 1.0 ? 1.0 : part[i]) + 0.5);
    snprintf(colour, 8, "#%02x%02x%02x", (unsigned)byte[0] & 255u, (unsigned)byte[1] & 255u,
             (unsigned)byte[2] & 255u);
}

/* White at 0, blue at 1, red at -1. */
static void signed_colour(double v, char colour[8])
{
    if (v >= 0.0)
        colour_of(1.0 - v, 1.0 - 0.55 * v, 1.0 - 0.30 * v, colour);
    else
        colour_of(1.0 + 0.16 * v, 1.0 + 0.63 * v, 1.0 + v, colour);
}

/* The image itself, at most 64 pixels a side, runs of one colour as one rectangle. */
static void draw_image(const struct represent *r, struct svg *s, double x, double y)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const int side = d->height < 64 ? d->height : 64;
    const double cell = (double)PICTURE / side;
    for (int i = 0; i < side; ++i) {
        char run[8] = "", next[8];
        int from = 0;
        for (int k = 0; k <= side; ++k) {
            const size_t at = ((size_t)(i * d->height / side) * (size_t)d->width
                               + (size_t)(k * d->width / side)) * (size_t)d->channels;
            const int rgb = d->channels >= 3;
            if (k < side)
                colour_of((double)r->image[at], (double)r->image[at + (rgb ? 1 : 0)],
                          (double)r->image[at + (rgb ? 2 : 0)], next);
            if (k > 0 && (k == side || strcmp(run, next) != 0)) {
                svg_rect(s, x + cell * from, y + cell * i, cell * (k - from) + 0.3, cell + 0.3, run,
                         1.0);
                from = k;
            }
            if (k < side)
                memcpy(run, next, sizeof run);
        }
    }
    svg_frame(s, x, y, PICTURE, PICTURE, SVG_GREY);
}

/* One diagram [classes, columns]; areas relative to `most`. */
static void draw_hinton(const struct represent *r, struct svg *s, const float *v, double x,
                        double y, double cell, double most, int marked)
{
    const int rows = r->reader.classes, columns = r->reader.columns;
    svg_rect(s, x, y, cell * columns, cell * rows, "#f4f4f4", 1.0);
    if (marked >= 0)
        svg_rect(s, x, y + cell * marked, cell * columns, cell, "#f0e442", 0.45);
    for (int k = 0; k < rows; ++k)
        for (int f = 0; f < columns; ++f) {
            const double value = (double)v[k * columns + f];
            const double share = most > 0.0 && isfinite(value) ? fabs(value) / most : 0.0;
            const double side = (cell - 2.0) * sqrt(share < 1.0 ? share : 1.0);
            if (side >= 0.5)
                svg_rect(s, x + cell * (f + 0.5) - side / 2.0, y + cell * (k + 0.5) - side / 2.0,
                         side, side, value > 0.0 ? SVG_BLUE : SVG_RED, 1.0);
        }
    svg_frame(s, x, y, cell * columns, cell * rows, SVG_GREY);
}

static double most_of(const float *v, size_t n, double most)
{
    for (size_t i = 0; i < n; ++i)
        if (isfinite((double)v[i]) && fabs((double)v[i]) > most)
            most = fabs((double)v[i]);
    return most;
}

static void draw_map(const struct reading *m, struct svg *s, int which, double x, double y,
                     double most)
{
    const double wide = (double)MAP / m->map_width, high = (double)MAP / m->map_height;
    const float *v = m->maps + (size_t)which * (size_t)m->map_height * (size_t)m->map_width;
    char colour[8];
    for (int i = 0; i < m->map_height; ++i)
        for (int k = 0; k < m->map_width; ++k) {
            signed_colour(most > 0.0 ? (double)v[i * m->map_width + k] / most : 0.0, colour);
            svg_rect(s, x + wide * k, y + high * i, wide + 0.3, high + 0.3, colour, 1.0);
        }
    svg_frame(s, x, y, MAP, MAP, SVG_GREY);
}

/* The scale of the maps: from -most (0 where nothing is negative) to most. */
static void draw_scale(struct svg *s, double x, double y, double most, int negative)
{
    enum { STEPS = 24 };
    char colour[8], text[REAL_TEXT];
    for (int i = 0; i < STEPS; ++i) {
        const double t = (i + 0.5) / STEPS;
        signed_colour(negative ? 2.0 * t - 1.0 : t, colour);
        svg_rect(s, x + 5.0 * i, y, 5.3, 10.0, colour, 1.0);
    }
    svg_frame(s, x, y, 5.0 * STEPS, 10.0, SVG_GREY);
    snprintf(text, sizeof text, "%.3g", negative ? -most : 0.0);
    svg_text(s, x - 6.0, y + 9.0, SVG_END, 11, text);
    snprintf(text, sizeof text, "%.3g", most);
    svg_text(s, x + 5.0 * STEPS + 6.0, y + 9.0, SVG_START, 11, text);
}

/* Where things lie: image, diagram of the image, diagram of the mean; maps below. */
struct sheet {
    double cell, diagram, x[2], y, maps_y;
    int width, height, a_row;
};

static struct sheet lay_out(const struct represent *r, const struct reading *m)
{
    struct sheet s = {0};
    const int rows = r->reader.classes, columns = r->reader.columns;
    s.cell = 560.0 / rows < 22.0 ? 560.0 / rows : 22.0;
    s.cell = s.cell < 6.0 ? 6.0 : s.cell;
    s.diagram = s.cell * columns;
    const double apart = s.diagram > 120.0 ? s.diagram : 120.0; /* room for the caption */
    s.y = HEAD;
    s.x[0] = GAP + PICTURE + NAMES;
    s.x[1] = s.x[0] + apart + GAP;
    s.width = (int)(s.x[1] + apart + GAP);
    if (s.width < 760)
        s.width = 760;
    s.a_row = (s.width - GAP) / (MAP + 14);
    s.maps_y = s.y + fmax(s.cell * rows, PICTURE) + 56.0;
    s.height = (int)(s.maps_y - 26.0);
    if (m->map_count > 0)
        s.height = (int)s.maps_y + (m->map_count + s.a_row - 1) / s.a_row * (MAP + 26) + 34;
    return s;
}

static void draw_diagrams(const struct represent *r, const struct reading *m, struct svg *s,
                          const struct sheet *at)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const size_t count = (size_t)r->reader.classes * (size_t)r->reader.columns;
    const float *mean = r->reader.means != NULL ? r->reader.means + (size_t)m->shown * count : NULL;
    double most = most_of(m->values, count, 0.0);
    char line[128], cut[96];
    if (mean != NULL)
        most = most_of(mean, count, most);
    for (int k = 0; k < d->classes && at->cell >= 9.0; ++k)
        svg_text(s, at->x[0] - 8.0, at->y + at->cell * (k + 0.5) + 4.0, SVG_END, 11,
                 svg_cut(d->class_names[k], 11, NAMES - 20.0, cut, sizeof cut));
    snprintf(line, sizeof line, "its %s", r->reader.what);
    svg_text(s, at->x[0], at->y - 10.0, SVG_START, 12, line);
    draw_hinton(r, s, m->values, at->x[0], at->y, at->cell, most, m->shown);
    if (mean != NULL) {
        snprintf(line, sizeof line, "mean of %.60s",
                 svg_cut(d->class_names[m->shown], 12, 110.0, cut, sizeof cut));
        svg_text(s, at->x[1], at->y - 10.0, SVG_START, 12, line);
        draw_hinton(r, s, mean, at->x[1], at->y, at->cell, most, m->shown);
    }
    snprintf(line, sizeof line, "full square: %.3g%s", most,
             r->reader.output == OSR_OUT_REPRESENTATION ? "" : "; blue above 0, red below");
    svg_text(s, at->x[0], at->y + at->cell * d->classes + 16.0, SVG_START, 11, line);
}

static void draw_maps(const struct represent *r, const struct reading *m, struct svg *s,
                      const struct sheet *at)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const size_t places = (size_t)m->map_height * (size_t)m->map_width;
    const size_t all = places * (size_t)m->map_count;
    const double most = most_of(m->maps, all, 0.0);
    char line[192], cut[96];
    int negative = 0;
    for (size_t i = 0; i < all; ++i)
        negative |= m->maps[i] < 0.0f;
    svg_cut(d->class_names[m->shown], 12, 160.0, cut, sizeof cut);
    snprintf(line, sizeof line,
             m->map_is_mean ? "where the features of %s fire" : "what each place adds to the "
                                                                "value of %s", cut);
    svg_text(s, GAP, at->maps_y - 10.0, SVG_START, 12, line);
    for (int f = 0; f < m->map_count; ++f) {
        const double x = GAP + (f % at->a_row) * (MAP + 14.0);
        const double y = at->maps_y + f / at->a_row * (MAP + 26.0);
        draw_map(m, s, f, x, y, most);
        snprintf(line, sizeof line, "%d: %.4g", f + 1,
                 (double)m->values[m->shown * r->reader.columns + f]);
        svg_text(s, x + MAP / 2.0, y + MAP + 15.0, SVG_MIDDLE, 11, line);
    }
    draw_scale(s, GAP + 50.0, at->height - 22.0, most, negative);
}

static int draw(const struct represent *r, const struct reading *m, const char *name,
                const char *path)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const struct sheet at = lay_out(r, m);
    struct svg s;
    char line[512], cut[256], message[1400];
    svg_open(&s, at.width, at.height, name);
    svg_text(&s, GAP, 30.0, SVG_START, 15,
             svg_cut(name, 15, at.width - 2.0 * GAP, cut, sizeof cut));
    snprintf(line, sizeof line, "%s, nearest to %.100s: %s, score %.4g, threshold %.4g",
             d->method->name, d->class_names[m->label], m->known ? "known" : "unknown", m->score,
             m->threshold);
    svg_text(&s, GAP, 50.0, SVG_START, 12,
             svg_cut(line, 12, at.width - 2.0 * GAP, cut, sizeof cut));
    draw_image(r, &s, GAP, at.y);
    draw_diagrams(r, m, &s, &at);
    if (m->map_count > 0)
        draw_maps(r, m, &s, &at);
    const int code = svg_save(&s, path, message, sizeof message);
    svg_free(&s);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}

/* ---- JSON and text ---- */

static void put_rows(struct json *j, const char *key, const float *v, int rows, int columns)
{
    json_open(j, key, '[');
    for (int k = 0; k < rows; ++k) {
        json_open(j, NULL, '[');
        for (int f = 0; f < columns; ++f)
            json_real(j, NULL, (double)v[k * columns + f]);
        json_close(j, ']');
    }
    json_close(j, ']');
}

static void put_reading(struct represent *r, const struct reading *m, const char *name)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    struct json *j = &r->json;
    const int rows = r->reader.classes, columns = r->reader.columns;
    const size_t places = (size_t)m->map_height * (size_t)m->map_width;
    json_open(j, NULL, '{');
    json_text(j, "image", name);
    json_text(j, "method", d->method->name);
    json_text(j, "nearest", d->class_names[m->label]);
    json_bool(j, "known", m->known);
    json_real(j, "score", m->score);
    json_real(j, "threshold", m->threshold);
    json_text(j, "values_are", r->reader.what);
    json_open(j, "classes", '[');
    for (int k = 0; k < rows; ++k)
        json_text(j, NULL, d->class_names[k]);
    json_close(j, ']');
    put_rows(j, "values", m->values, rows, columns);
    json_text(j, "class", d->class_names[m->shown]);
    json_text(j, "mean_from", r->reader.means_from);
    if (r->reader.means != NULL)
        put_rows(j, "mean", r->reader.means + (size_t)m->shown * (size_t)(rows * columns), rows,
                 columns);
    json_open(j, "maps", '[');
    for (int f = 0; f < m->map_count; ++f)
        put_rows(j, NULL, m->maps + (size_t)f * places, m->map_height, m->map_width);
    json_close(j, ']');
    json_text(j, "map_value", m->map_count == 0 ? NULL : m->map_is_mean ? "mean" : "sum + bias");
    json_real(j, "bias", m->bias);
    json_close(j, '}');
}

/* Image, nearest class, score; then the values of the classes, the strongest first line by line
 * with -v. */
static void print_reading(const struct represent *r, const struct reading *m, const char *name)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    printf("%s: %s, nearest to %s, score %.6g\n", name, m->known ? "known" : "unknown",
           d->class_names[m->label], m->score);
    for (int k = 0; k < r->reader.classes; ++k) {
        printf("  %-16s", d->class_names[k]);
        for (int f = 0; f < r->reader.columns; ++f)
            printf(" %9.4g", (double)m->values[k * r->reader.columns + f]);
        printf(k == m->shown ? "  <- shown\n" : "\n");
    }
}

/* ---- the command ---- */

/* FOLDER/NAME.svg after the last part of the operand; a number tells equal names apart. */
static void picture_path(const struct represent *r, char **operands, int at, char *path,
                         size_t size)
{
    char stem[2][200];
    int same = 1;
    for (int i = at; i >= 0; --i) {
        const char *slash = strrchr(operands[i], '/');
        char *text = stem[i < at];
        snprintf(text, sizeof stem[0], "%.190s", slash != NULL ? slash + 1 : operands[i]);
        char *point = strrchr(text, '.');
        if (point != NULL && point != text)
            *point = '\0';
        for (char *c = text; *c != '\0'; ++c)
            if (*c == ':')
                *c = '-';
        same += i < at && strcmp(stem[0], stem[1]) == 0;
    }
    if (same > 1)
        snprintf(path, size, "%.600s/%s-%d.svg", r->out, stem[0], same);
    else
        snprintf(path, size, "%.600s/%s.svg", r->out, stem[0]);
}

static int one_image(struct represent *r, const struct options *o, int at)
{
    const char *name = o->operands[at];
    struct reading m = {0};
    char path[1024];
    int code = load(r, name);
    if (code == EXIT_OK)
        code = reading_take(&r->reader, r->image, r->shown, &m);
    if (code == EXIT_OK && m.map_count == 0 && at == 1)
        message_note("no maps: between its last maps and its values this network has more than "
                     "pooling, flattening and one linear layer");
    if (code == EXIT_OK) {
        put_reading(r, &m, name);
        if (!option_flag(o, "json"))
            print_reading(r, &m, name);
    }
    if (code == EXIT_OK && r->out != NULL) {
        picture_path(r, o->operands + 1, at - 1, path, sizeof path);
        code = draw(r, &m, name, path);
    }
    reading_free(&m);
    return code == EXIT_OK ? signals_pending() : code;
}

static int represent(struct represent *r, const struct options *o)
{
    char path[1024], message[1400];
    int code = start(r, o);
    if (code != EXIT_OK)
        return code;
    if (r->out != NULL && mkdir(r->out, 0777) != 0 && errno != EEXIST) {
        message_error("%s: %s", r->out, strerror(errno));
        return EXIT_IO;
    }
    json_open(&r->json, NULL, '[');
    for (int i = 1; i < o->operand_count && code == EXIT_OK; ++i)
        code = one_image(r, o, i);
    json_close(&r->json, ']');
    if (code == EXIT_OK && r->json.failed)
        code = out_of_memory();
    if (code == EXIT_OK && r->out != NULL) {
        snprintf(path, sizeof path, "%.600s/represent.json", r->out);
        code = file_write(path, r->json.text, r->json.length, message, sizeof message);
        if (code != EXIT_OK)
            message_error("%s", message);
    }
    return code == EXIT_OK && option_flag(o, "json") ? json_print(&r->json) : code;
}

int cmd_represent(struct options *o)
{
    struct represent r = {0};
    signals_install();
    const int code = represent(&r, o);
    status_line_end();
    json_free(&r.json);
    free(r.image);
    reader_end(&r.reader);
    osr_model_destroy(r.model);
    osr_ctx_destroy(r.ctx);
    split_free(&r.split);
    if (r.have_data)
        data_close(&r.data);
    return code;
}
