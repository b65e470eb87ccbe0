/* svg.h - pictures as SVG text: shapes, and charts with axes, curves, bands, dots and a legend.
 *
 * Coordinates are pixels from the upper left corner; a file needs nothing beside itself. */
#ifndef CLI_SVG_H
#define CLI_SVG_H

#include <stddef.h>

struct svg {
    char *text;
    size_t length, capacity;
    int failed; /* out of memory */
};

/* Colours that differ for the colour-blind, too (Okabe and Ito). */
#define SVG_BLUE "#0072b2"
#define SVG_RED "#d55e00"
#define SVG_GREEN "#009e73"
#define SVG_PURPLE "#b0568f"
#define SVG_INK "#222222"
#define SVG_GREY "#8a8a8a"

enum svg_anchor { SVG_START, SVG_MIDDLE, SVG_END };

/* A white sheet of width x height; title is what a reader hears and a pointer shows. */
void svg_open(struct svg *s, int width, int height, const char *title);

/* Ends the picture and writes it to a file. EXIT_OK, EXIT_IO or EXIT_MEMORY, with message. */
int svg_save(struct svg *s, const char *path, char *message, size_t size);
void svg_free(struct svg *s);

void svg_rect(struct svg *s, double x, double y, double width, double height, const char *colour,
              double opacity);
void svg_frame(struct svg *s, double x, double y, double width, double height, const char *colour);
void svg_line(struct svg *s, double x0, double y0, double x1, double y1, const char *colour,
              double width);
void svg_circle(struct svg *s, double x, double y, double radius, const char *colour);

/* Text of any bytes (escaped; what is no UTF-8 becomes '?'), its baseline at y. */
void svg_text(struct svg *s, double x, double y, enum svg_anchor anchor, int size,
              const char *text);
void svg_text_up(struct svg *s, double x, double y, int size, const char *text); /* turned left */

/* Width of text in pixels, about: for layout. */
double svg_text_width(const char *text, int size);

/* As text, but cut to width pixels with "..." at its end. Returns out. */
char *svg_cut(const char *text, int size, double width, char *out, size_t out_size);

/* ---- charts ---- */

/* Low and high are multiples of step, which is 1, 2 or 5 times a power of ten. */
struct svg_axis {
    double low, high, step;
    const char *label;
};

/* An axis round low..high (either order; not finite: 0..1) with about `ticks` steps. */
struct svg_axis svg_axis_make(double low, double high, int ticks, const char *label);

/* "0.25" for a tick of this axis. Returns text. */
char *svg_tick(const struct svg_axis *axis, double value, char text[32]);

/* A chart in the rectangle at x, y; labels and title lie outside of it, the title 28 above, with
 * room for a legend below it. */
struct svg_chart {
    double x, y, width, height;
    struct svg_axis across, up;
    const char *title;
    int row_count; /* > 0: rows, from the top, instead of the upward axis; row r lies at up = r */
    const char *const *rows; /* their names, at the left; NULL: without */
};

void svg_chart_draw(struct svg *s, const struct svg_chart *c); /* grid, ticks, labels */

/* Space left of the chart that the numbers and the label of its upward axis take. */
double svg_chart_margin(const struct svg_axis *up);

/* Values that are not finite leave gaps. */
void svg_curve(struct svg *s, const struct svg_chart *c, const double *x, const double *y, size_t n,
               const char *colour, int dashed);
void svg_band(struct svg *s, const struct svg_chart *c, const double *x, const double *low,
              const double *high, size_t n, const char *colour);

/* n bars side by side from edge[i] to edge[i + 1], filled thinly, with an outline on top. */
void svg_bars(struct svg *s, const struct svg_chart *c, const double *edge, const double *height,
              size_t n, const char *colour);
void svg_dot(struct svg *s, const struct svg_chart *c, double x, double y, const char *colour);

/* A vertical line at x over the whole height. */
void svg_mark(struct svg *s, const struct svg_chart *c, double x, const char *colour);

/* One entry of a legend at x, y; returns the x of the next. */
double svg_legend(struct svg *s, double x, double y, const char *text, const char *colour,
                  int dashed);

#endif
