#define _POSIX_C_SOURCE 200809L
#include "moments.h"

#include "exit_codes.h"
#include "svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(name) {#name, offsetof(struct moment, name)}
const struct moment_field moment_fields[] = {
    FIELD(step), FIELD(epoch), FIELD(accuracy), FIELD(auroc), FIELD(norm_known),
    FIELD(norm_unknown), FIELD(jnd), FIELD(norm_auroc), FIELD(intra), FIELD(inter),
    FIELD(davies_bouldin)};
const int moment_field_count = (int)(sizeof moment_fields / sizeof moment_fields[0]);

static const char LOG[] = "analysis.jsonl";
enum { LOG_MOST = 1 << 28 };

static double *field_of(struct moment *m, int field)
{
    return (double *)(void *)((char *)m + moment_fields[field].offset);
}

double moment_value(const struct moment *m, int field)
{
    struct moment copy = *m;
    return *field_of(&copy, field);
}

void moment_json(struct json *j, const struct moment *m, int first)
{
    for (int i = first; i < moment_field_count; ++i)
        json_real(j, moment_fields[i].name, moment_value(m, i));
}

/* ---- the file ---- */

/* The number of a key in a line that moments_add wrote; NaN for null or none. */
static double line_number(const char *line, const char *key)
{
    char wanted[64], number[REAL_TEXT] = "";
    double value;
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(line, wanted);
    if (at == NULL)
        return NAN;
    at += strlen(wanted);
    const size_t n = strcspn(at, ",}");
    if (n < sizeof number)
        snprintf(number, sizeof number, "%.*s", (int)n, at);
    return real_parse(number, &value) == 0 ? value : NAN;
}

static int moments_push(struct moments *m, const struct moment *one)
{
    struct moment *more = realloc(m->at, (m->count + 1) * sizeof *more);
    if (more == NULL)
        return EXIT_MEMORY;
    m->at = more;
    m->at[m->count++] = *one;
    return EXIT_OK;
}

int moments_read(const char *path, struct moments *out, char *message, size_t size)
{
    size_t count;
    int code = EXIT_OK;
    memset(out, 0, sizeof *out);
    if (access(path, F_OK) != 0)
        return EXIT_OK;
    char *text = file_read(path, LOG_MOST, &count, message, size);
    if (text == NULL)
        return EXIT_IO;
    for (char *line = text, *end; code == EXIT_OK && (end = strchr(line, '\n')) != NULL;
         line = end + 1) {
        struct moment one;
        *end = '\0';
        for (int i = 0; i < moment_field_count; ++i)
            *field_of(&one, i) = line_number(line, moment_fields[i].name);
        code = isfinite(one.step) ? moments_push(out, &one) : EXIT_DATA;
        if (code == EXIT_DATA)
            snprintf(message, size, "%s: line %zu is none of an analysis", path, out->count + 1);
        else if (code != EXIT_OK)
            snprintf(message, size, "out of memory");
    }
    free(text);
    if (code != EXIT_OK)
        moments_free(out);
    return code;
}

void moments_free(struct moments *m)
{
    free(m->at);
    memset(m, 0, sizeof *m);
}

/* {"step":...}: one line, without its end. Allocated; NULL when memory ends. */
static char *line_of(const struct moment *m)
{
    struct json j = {0};
    json_open(&j, NULL, '{');
    moment_json(&j, m, 0);
    json_close(&j, '}');
    if (!j.failed)
        return j.text;
    json_free(&j);
    return NULL;
}

int moments_resume(struct run_dir *run, double step, struct moments *out)
{
    char path[1200];
    size_t keep = 0, used = 0;
    int code = moments_read(run_file(run, LOG, path, sizeof path), out, run->message,
                            sizeof run->message);
    if (code != EXIT_OK)
        return code;
    while (keep < out->count && out->at[keep].step <= step)
        ++keep;
    if (keep == out->count)
        return EXIT_OK;
    out->count = keep;
    char *text = malloc(keep * 1024 + 1);
    for (size_t i = 0; text != NULL && i < keep; ++i) {
        char *line = line_of(&out->at[i]);
        if (line == NULL) {
            free(text);
            text = NULL;
            break;
        }
        used += (size_t)snprintf(text + used, 1024, "%.1000s\n", line);
        free(line);
    }
    if (text == NULL) {
        snprintf(run->message, sizeof run->message, "out of memory");
        return EXIT_MEMORY;
    }
    code = run_write(run, LOG, text, used);
    free(text);
    return code;
}

int moments_add(struct run_dir *run, struct moments *m, const struct moment *one)
{
    char *line = line_of(one);
    int code = line == NULL ? EXIT_MEMORY : moments_push(m, one);
    if (code == EXIT_OK)
        code = run_append(run, LOG, line);
    else
        snprintf(run->message, sizeof run->message, "out of memory");
    free(line);
    return code;
}

/* ---- the table and the picture ---- */

static char *moments_csv(const struct moments *m, size_t *length)
{
    char *text = NULL, number[REAL_TEXT];
    FILE *f = open_memstream(&text, length);
    if (f == NULL)
        return NULL;
    for (int i = 0; i < moment_field_count; ++i)
        fprintf(f, "%s%s", i > 0 ? "," : "", moment_fields[i].name);
    for (size_t k = 0; k < m->count; ++k)
        for (int i = 0; i < moment_field_count; ++i)
            fprintf(f, "%s%s", i > 0 ? "," : "\n", real_text(number, moment_value(&m->at[k], i)));
    fprintf(f, "\n");
    const int lost = ferror(f);
    if (fclose(f) == 0 && !lost)
        return text;
    free(text);
    return NULL;
}

/* One of the four charts: up to three fields over the steps. */
struct course {
    const char *title;
    const char *field[3], *legend[3], *colour[3];
    int dashed[3];
    int from_zero;
};

static const struct course courses[4] = {
    {"Known against unknown", {"auroc", "accuracy", NULL}, {"AUROC", "accuracy", NULL},
     {SVG_BLUE, SVG_GREY, NULL}, {0, 1, 0}, 0},
    {"Jacobian norm", {"norm_unknown", "norm_known", "jnd"},
     {"unknown", "known", "difference (JND)"}, {SVG_RED, SVG_BLUE, SVG_GREEN}, {0, 0, 1}, 1},
    {"Davies-Bouldin index of the known classes", {"davies_bouldin", NULL, NULL},
     {"lower: better apart", NULL, NULL}, {SVG_PURPLE, NULL, NULL}, {0}, 1},
    {"Distances of known images", {"inter", "intra", NULL},
     {"between classes", "to the class's mean", NULL}, {SVG_GREEN, SVG_GREY, NULL}, {0, 1, 0}, 1}};

static int field_index(const char *name)
{
    int i = 0;
    while (i < moment_field_count && strcmp(moment_fields[i].name, name) != 0)
        ++i;
    return i;
}

static void draw_course(struct svg *s, const struct moments *m, const struct course *w,
                        struct svg_chart *c, double *x, double *y)
{
    double low = w->from_zero ? 0.0 : INFINITY, high = w->from_zero ? 0.0 : -INFINITY;
    double legend = c->x;
    for (int k = 0; k < 3 && w->field[k] != NULL; ++k)
        for (size_t i = 0; i < m->count; ++i) {
            const double v = moment_value(&m->at[i], field_index(w->field[k]));
            low = isfinite(v) && v < low ? v : low;
            high = isfinite(v) && v > high ? v : high;
        }
    c->up = svg_axis_make(low, high, 5, NULL);
    c->title = w->title;
    svg_chart_draw(s, c);
    for (size_t i = 0; i < m->count; ++i)
        x[i] = m->at[i].step;
    for (int k = 0; k < 3 && w->field[k] != NULL; ++k) {
        for (size_t i = 0; i < m->count; ++i)
            y[i] = moment_value(&m->at[i], field_index(w->field[k]));
        svg_curve(s, c, x, y, m->count, w->colour[k], w->dashed[k]);
        legend = svg_legend(s, legend, c->y - 10.0, w->legend[k], w->colour[k], w->dashed[k]);
    }
}

static int moments_svg(const struct moments *m, const char *title, struct svg *s)
{
    enum { WIDTH = 960, HEIGHT = 720 };
    double *x = malloc((m->count + 1) * 2 * sizeof *x);
    char line[128];
    if (x == NULL)
        return EXIT_MEMORY;
    svg_open(s, WIDTH, HEIGHT, title);
    svg_text(s, 20.0, 28.0, SVG_START, 15, svg_cut(title, 15, WIDTH - 40.0, line, sizeof line));
    for (int i = 0; i < 4; ++i) {
        struct svg_chart c = {0};
        c.x = 70.0 + 470.0 * (i % 2);
        c.y = 96.0 + 330.0 * (i / 2);
        c.width = 390.0;
        c.height = 224.0;
        c.across = svg_axis_make(0.0, m->count > 0 ? m->at[m->count - 1].step : 1.0, 6, "step");
        draw_course(s, m, &courses[i], &c, x, x + m->count);
    }
    free(x);
    return EXIT_OK;
}

int moments_save(const struct moments *m, const char *title, const char *folder, const char *name)
{
    char path[1400], message[1400] = "out of memory";
    struct svg s = {0};
    size_t length = 0;
    char *text = moments_csv(m, &length);
    int code = text == NULL ? EXIT_MEMORY : EXIT_OK;
    if (code == EXIT_OK) {
        snprintf(path, sizeof path, "%s/%s.csv", folder, name);
        code = file_write(path, text, length, message, sizeof message);
    }
    free(text);
    if (code == EXIT_OK)
        code = moments_svg(m, title, &s);
    if (code == EXIT_OK) {
        snprintf(path, sizeof path, "%s/%s.svg", folder, name);
        code = svg_save(&s, path, message, sizeof message);
    }
    svg_free(&s);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}
