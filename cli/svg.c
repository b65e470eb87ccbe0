#include "svg.h"

#include "exit_codes.h"
#include "run_dir.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

/* ---- text ---- */

static void put(struct svg *s, const char *bytes, size_t count)
{
    if (s->failed)
        return;
    if (s->length + count + 1 > s->capacity) {
        size_t capacity = s->capacity != 0 ? s->capacity : 8192;
        while (capacity < s->length + count + 1)
            capacity *= 2;
        char *more = realloc(s->text, capacity);
        if (more == NULL) {
            s->failed = 1;
            return;
        }
        s->text = more;
        s->capacity = capacity;
    }
    memcpy(s->text + s->length, bytes, count);
    s->length += count;
    s->text[s->length] = '\0';
}

static void puts_at(struct svg *s, const char *text)
{
    put(s, text, strlen(text));
}

/* A number with at most two decimals and a point, whatever the locale. */
static void put_number(struct svg *s, double v)
{
    char text[48];
    long hundredths;
    if (!(fabs(v) < 1e7)) /* no picture is that large; NaN neither */
        v = 0.0;
    hundredths = lround(v * 100.0);
    snprintf(text, sizeof text, "%s%ld", hundredths < 0 ? "-" : "", labs(hundredths) / 100);
    puts_at(s, text);
    if (hundredths % 100 == 0)
        return;
    snprintf(text, sizeof text, ".%02ld", labs(hundredths) % 100);
    puts_at(s, text);
}

/* Markup in which each %n is a number and each %s a string. */
static void put_markup(struct svg *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (const char *at = format; *at != '\0';) {
        const size_t plain = strcspn(at, "%");
        put(s, at, plain);
        at += plain;
        if (*at == '%') {
            if (at[1] == 'n')
                put_number(s, va_arg(arguments, double));
            else
                puts_at(s, va_arg(arguments, const char *));
            at += 2;
        }
    }
    va_end(arguments);
}

/* Length of the UTF-8 sequence at t, 1 for a byte that begins none. */
static size_t sequence(const unsigned char *t)
{
    const size_t n = t[0] >= 0xf0 && t[0] < 0xf5 ? 4
                     : t[0] >= 0xe0              ? 3
                     : t[0] >= 0xc2              ? 2
                                                 : 1;
    if (t[0] >= 0xf5)
        return 1;
    for (size_t i = 1; i < n; ++i)
        if ((t[i] & 0xc0) != 0x80)
            return 1;
    /* overlong forms, surrogates, and what lies above U+10FFFF */
    if ((t[0] == 0xe0 && t[1] < 0xa0) || (t[0] == 0xed && t[1] > 0x9f)
        || (t[0] == 0xf0 && t[1] < 0x90) || (t[0] == 0xf4 && t[1] > 0x8f)
        || (t[0] == 0xef && t[1] == 0xbf && t[2] >= 0xbe))
        return 1;
    return n;
}

static void put_escaped(struct svg *s, const char *text)
{
    const unsigned char *t = (const unsigned char *)text;
    while (*t != '\0') {
        const size_t n = sequence(t);
        if (*t == '&')
            puts_at(s, "&amp;");
        else if (*t == '<')
            puts_at(s, "&lt;");
        else if (*t == '>')
            puts_at(s, "&gt;");
        else if (*t == '"')
            puts_at(s, "&quot;");
        else if (n == 1 && (*t < 32 || *t >= 127))
            puts_at(s, "?");
        else
            put(s, (const char *)t, n);
        t += n;
    }
}

void svg_open(struct svg *s, int width, int height, const char *title)
{
    memset(s, 0, sizeof *s);
    put_markup(s,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%n\" height=\"%n\" "
               "viewBox=\"0 0 %n %n\" font-family=\"DejaVu Sans, Verdana, sans-serif\">\n<title>",
               (double)width, (double)height, (double)width, (double)height);
    put_escaped(s, title);
    puts_at(s, "</title>\n");
    svg_rect(s, 0.0, 0.0, width, height, "#ffffff", 1.0);
}

int svg_save(struct svg *s, const char *path, char *message, size_t size)
{
    puts_at(s, "</svg>\n");
    if (!s->failed)
        return file_write(path, s->text, s->length, message, size);
    snprintf(message, size, "%s: out of memory", path);
    return EXIT_MEMORY;
}

void svg_free(struct svg *s)
{
    free(s->text);
    memset(s, 0, sizeof *s);
}

/* ---- shapes ---- */

void svg_rect(struct svg *s, double x, double y, double width, double height, const char *colour,
              double opacity)
{
    put_markup(s, "<rect x=\"%n\" y=\"%n\" width=\"%n\" height=\"%n\" fill=\"%s\"", x, y, width,
               height, colour);
    if (opacity < 1.0)
        put_markup(s, " fill-opacity=\"%n\"", opacity);
    puts_at(s, "/>\n");
}

void svg_frame(struct svg *s, double x, double y, double width, double height, const char *colour)
{
    put_markup(s,
               "<rect x=\"%n\" y=\"%n\" width=\"%n\" height=\"%n\" fill=\"none\" stroke=\"%s\"/>\n",
               x, y, width, height, colour);
}

void svg_line(struct svg *s, double x0, double y0, double x1, double y1, const char *colour,
              double width)
{
    put_markup(s,
               "<line x1=\"%n\" y1=\"%n\" x2=\"%n\" y2=\"%n\" stroke=\"%s\" "
               "stroke-width=\"%n\"/>\n",
               x0, y0, x1, y1, colour, width);
}

void svg_circle(struct svg *s, double x, double y, double radius, const char *colour)
{
    put_markup(s,
               "<circle cx=\"%n\" cy=\"%n\" r=\"%n\" fill=\"%s\" fill-opacity=\"0.85\"/>\n",
               x, y, radius, colour);
}

void svg_text(struct svg *s, double x, double y, enum svg_anchor anchor, int size, const char *text)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    put_markup(s, "<text x=\"%n\" y=\"%n\" font-size=\"%n\" text-anchor=\"%s\" fill=\"%s\">", x, y,
               (double)size, anchors[anchor], SVG_INK);
    put_escaped(s, text);
    puts_at(s, "</text>\n");
}

void svg_text_up(struct svg *s, double x, double y, int size, const char *text)
{
    put_markup(s,
               "<text transform=\"translate(%n %n) rotate(-90)\" font-size=\"%n\" "
               "text-anchor=\"middle\" fill=\"%s\">",
               x, y, (double)size, SVG_INK);
    put_escaped(s, text);
    puts_at(s, "</text>\n");
}

double svg_text_width(const char *text, int size)
{
    size_t n = 0;
    for (; *text != '\0'; ++text)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return 0.62 * (double)size * (double)n;
}

char *svg_cut(const char *text, int size, double width, char *out, size_t out_size)
{
    size_t keep = strlen(text);
    snprintf(out, out_size, "%s", text);
    while (keep > 0 && (svg_text_width(out, size) > width || keep >= out_size)) {
        do
            --keep;
        while (keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80);
        snprintf(out, out_size, "%.*s...", (int)keep, text);
    }
    return out;
}

/* ---- axes ---- */

struct svg_axis svg_axis_make(double low, double high, int ticks, const char *label)
{
    struct svg_axis a = {0.0, 1.0, 0.2, label};
    if (!isfinite(low) || !isfinite(high))
        return a;
    if (low > high) {
        const double swap = low;
        low = high;
        high = swap;
    }
    if (!(high - low > 1e-12 * (fabs(low) + fabs(high)))) { /* one value: some room round it */
        const double room = fabs(low) > 0.0 ? 0.5 * fabs(low) : 0.5;
        low -= room;
        high += room;
    }
    const double rough = (high - low) / (ticks > 0 ? ticks : 5);
    const double power = pow(10.0, floor(log10(rough)));
    const double lead = rough / power;
    a.step = power * (lead <= 1.0 ? 1.0 : lead <= 2.0 ? 2.0 : lead <= 5.0 ? 5.0 : 10.0);
    a.low = a.step * floor(low / a.step + 1e-9);
    a.high = a.step * ceil(high / a.step - 1e-9);
    return a;
}

char *svg_tick(const struct svg_axis *axis, double value, char text[32])
{
    const double most = fmax(fabs(axis->low), fabs(axis->high));
    char number[REAL_TEXT];
    if (fabs(value) < 1e-6 * axis->step)
        value = 0.0;
    /* round to the step's own digits: 0.30000000000000004 is 0.3 */
    const double digits = pow(10.0, 1.0 - floor(log10(axis->step) + 1e-9));
    if (most < 1e9)
        value = round(value * digits) / digits;
    snprintf(text, 32, "%.31s", real_text(number, value));
    return text;
}

static double place_x(const struct svg_chart *c, double v)
{
    return c->x + c->width * (v - c->across.low) / (c->across.high - c->across.low);
}

static double place_y(const struct svg_chart *c, double v)
{
    if (c->row_count > 0)
        return c->y + c->height * (v + 0.5) / c->row_count;
    return c->y + c->height * (1.0 - (v - c->up.low) / (c->up.high - c->up.low));
}

enum { TICK_SIZE = 11, LABEL_SIZE = 12, TITLE_SIZE = 13 };

static int tick_count(const struct svg_axis *a)
{
    return (int)lround((a->high - a->low) / a->step);
}

static double widest_tick(const struct svg_axis *a)
{
    double widest = 0.0;
    char text[32];
    for (int i = 0; i <= tick_count(a); ++i)
        widest = fmax(widest, svg_text_width(svg_tick(a, a->low + i * a->step, text), TICK_SIZE));
    return widest;
}

double svg_chart_margin(const struct svg_axis *up)
{
    return widest_tick(up) + 8.0 + (up->label != NULL ? LABEL_SIZE + 10.0 : 0.0);
}

void svg_chart_draw(struct svg *s, const struct svg_chart *c)
{
    const double bottom = c->y + c->height, right = c->x + c->width;
    char text[32];
    for (int i = 0; i <= tick_count(&c->across); ++i) {
        const double v = c->across.low + i * c->across.step, x = place_x(c, v);
        svg_line(s, x, c->y, x, bottom, "#e4e4e4", 1.0);
        svg_text(s, x, bottom + 16.0, SVG_MIDDLE, TICK_SIZE, svg_tick(&c->across, v, text));
    }
    for (int i = 0; i < c->row_count; ++i) {
        const double y = place_y(c, i);
        svg_line(s, c->x, y, right, y, "#e4e4e4", 1.0);
        if (c->rows != NULL)
            svg_text(s, c->x - 8.0, y + 4.0, SVG_END, TICK_SIZE, c->rows[i]);
    }
    for (int i = 0; c->row_count == 0 && i <= tick_count(&c->up); ++i) {
        const double v = c->up.low + i * c->up.step, y = place_y(c, v);
        svg_line(s, c->x, y, right, y, "#e4e4e4", 1.0);
        svg_text(s, c->x - 6.0, y + 4.0, SVG_END, TICK_SIZE, svg_tick(&c->up, v, text));
    }
    svg_frame(s, c->x, c->y, c->width, c->height, SVG_GREY);
    if (c->across.label != NULL)
        svg_text(s, c->x + c->width / 2.0, bottom + 34.0, SVG_MIDDLE, LABEL_SIZE, c->across.label);
    if (c->up.label != NULL && c->row_count == 0)
        svg_text_up(s, c->x - widest_tick(&c->up) - 14.0, c->y + c->height / 2.0, LABEL_SIZE,
                    c->up.label);
    if (c->title != NULL)
        svg_text(s, c->x, c->y - 28.0, SVG_START, TITLE_SIZE, c->title);
}

/* ---- what is drawn into a chart ---- */

static int drawn(double x, double y)
{
    return isfinite(x) && isfinite(y);
}

void svg_curve(struct svg *s, const struct svg_chart *c, const double *x, const double *y, size_t n,
               const char *colour, int dashed)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && drawn(x[end], y[end]))
            ++end;
        if (end == i + 1)
            svg_dot(s, c, x[i], y[i], colour);
        if (end > i + 1) {
            puts_at(s, "<polyline points=\"");
            for (size_t k = i; k < end; ++k)
                put_markup(s, "%n,%n ", place_x(c, x[k]), place_y(c, y[k]));
            put_markup(s, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", colour,
                       dashed ? " stroke-dasharray=\"5 4\"" : "");
        }
        i = end + 1;
    }
}

void svg_band(struct svg *s, const struct svg_chart *c, const double *x, const double *low,
              const double *high, size_t n, const char *colour)
{
    for (size_t i = 0; i < n; ++i)
        if (!drawn(x[i], low[i]) || !drawn(x[i], high[i]))
            return;
    if (n < 2)
        return;
    puts_at(s, "<polygon points=\"");
    for (size_t i = 0; i < n; ++i)
        put_markup(s, "%n,%n ", place_x(c, x[i]), place_y(c, high[i]));
    for (size_t i = n; i-- > 0;)
        put_markup(s, "%n,%n ", place_x(c, x[i]), place_y(c, low[i]));
    put_markup(s, "\" fill=\"%s\" fill-opacity=\"0.16\"/>\n", colour);
}

void svg_bars(struct svg *s, const struct svg_chart *c, const double *edge, const double *height,
              size_t n, const char *colour)
{
    const double floor_y = place_y(c, 0.0);
    if (n == 0)
        return;
    put_markup(s, "<polygon points=\"%n,%n ", place_x(c, edge[0]), floor_y);
    for (size_t i = 0; i < n; ++i)
        put_markup(s, "%n,%n %n,%n ", place_x(c, edge[i]), place_y(c, height[i]),
                   place_x(c, edge[i + 1]), place_y(c, height[i]));
    put_markup(s,
               "%n,%n\" fill=\"%s\" fill-opacity=\"0.3\" stroke=\"%s\" stroke-width=\"1.5\"/>\n",
               place_x(c, edge[n]), floor_y, colour, colour);
}

void svg_dot(struct svg *s, const struct svg_chart *c, double x, double y, const char *colour)
{
    if (drawn(x, y))
        svg_circle(s, place_x(c, x), place_y(c, y), 4.0, colour);
}

void svg_mark(struct svg *s, const struct svg_chart *c, double x, const char *colour)
{
    if (isfinite(x))
        svg_line(s, place_x(c, x), c->y, place_x(c, x), c->y + c->height, colour, 2.0);
}

double svg_legend(struct svg *s, double x, double y, const char *text, const char *colour,
                  int dashed)
{
    put_markup(s,
               "<line x1=\"%n\" y1=\"%n\" x2=\"%n\" y2=\"%n\" stroke=\"%s\" "
               "stroke-width=\"3\"%s/>\n",
               x, y - 4.0, x + 22.0, y - 4.0, colour, dashed ? " stroke-dasharray=\"5 4\"" : "");
    svg_text(s, x + 28.0, y, SVG_START, LABEL_SIZE, text);
    return x + 28.0 + svg_text_width(text, LABEL_SIZE) + 18.0;
}
