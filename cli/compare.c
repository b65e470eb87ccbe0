#define _POSIX_C_SOURCE 200809L
#include "compare.h"

#include "exit_codes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- settings ---- */

static int add_setting(struct compared *c, const char *key, size_t key_size, const char *value)
{
    struct setting *more = realloc(c->settings, (c->setting_count + 1) * sizeof *more);
    if (more == NULL)
        return EXIT_MEMORY;
    c->settings = more;
    more += c->setting_count;
    more->key = strndup(key, key_size);
    more->value = strdup(value);
    if (more->key != NULL && more->value != NULL) {
        c->setting_count++;
        return EXIT_OK;
    }
    free(more->key);
    free(more->value);
    return EXIT_MEMORY;
}

/* A further line of the last value. */
static int extend_setting(struct compared *c, const char *more)
{
    struct setting *s = &c->settings[c->setting_count - 1];
    const size_t size = strlen(s->value) + strlen(more) + 1;
    char *value = malloc(size);
    if (value == NULL)
        return EXIT_MEMORY;
    snprintf(value, size, "%s%s", s->value, more);
    free(s->value);
    s->value = value;
    return EXIT_OK;
}

/* A line as options_write makes them: "key = value", or an indented rest of the value before. */
static int take_line(struct compared *c, char *line)
{
    const char *equals = strchr(line, '=');
    size_t end = strlen(line);
    while (end > 0 && strchr(" \t\r", line[end - 1]) != NULL)
        line[--end] = '\0';
    if (end == 0 || line[0] == '#' || line[0] == ';')
        return EXIT_OK;
    if (line[0] == ' ' || line[0] == '\t')
        return c->setting_count > 0 ? extend_setting(c, line + strspn(line, " \t")) : EXIT_OK;
    if (equals == NULL)
        return EXIT_OK;
    size_t key = (size_t)(equals - line);
    while (key > 0 && line[key - 1] == ' ')
        --key;
    return add_setting(c, line, key, equals + 1 + strspn(equals + 1, " \t"));
}

int compared_read(struct compared *c, const char *path)
{
    char file[4200], message[4400];
    size_t count;
    int code = EXIT_OK;
    c->path = path;
    snprintf(file, sizeof file, "%.4000s/config.ini", path);
    if (access(file, F_OK) != 0)
        return EXIT_OK;
    char *text = file_read(file, 1 << 20, &count, message, sizeof message);
    if (text == NULL) {
        message_error("%s", message);
        return EXIT_IO;
    }
    for (char *line = text, *next; line != NULL && code == EXIT_OK; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        code = take_line(c, line);
    }
    free(text);
    if (code != EXIT_OK)
        message_error("out of memory");
    return code;
}

void compared_free(struct compared *c)
{
    for (size_t i = 0; i < c->setting_count; ++i) {
        free(c->settings[i].key);
        free(c->settings[i].value);
    }
    free(c->settings);
    memset(c, 0, sizeof *c);
}

/* NULL where the run does not say. */
static const char *setting_of(const struct compared *c, const char *key)
{
    for (size_t i = 0; i < c->setting_count; ++i)
        if (strcmp(c->settings[i].key, key) == 0)
            return c->settings[i].value;
    return NULL;
}

static int same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static int differs(const struct compared *runs, size_t n, const char *key)
{
    for (size_t i = 1; i < n; ++i)
        if (!same_text(setting_of(&runs[0], key), setting_of(&runs[i], key)))
            return 1;
    return 0;
}

const char **compared_keys(const struct compared *runs, size_t n, size_t *count)
{
    size_t most = 1;
    *count = 0;
    for (size_t i = 0; i < n; ++i)
        most += runs[i].setting_count;
    const char **keys = malloc(most * sizeof *keys);
    for (size_t i = 0; keys != NULL && i < n; ++i)
        for (size_t k = 0; k < runs[i].setting_count; ++k) {
            const char *key = runs[i].settings[k].key;
            size_t seen = 0;
            while (seen < *count && strcmp(keys[seen], key) != 0)
                ++seen;
            if (seen == *count && strncmp(key, "analyse", 7) != 0 && differs(runs, n, key))
                keys[(*count)++] = key;
        }
    return keys;
}

/* ---- JSON, table, CSV ---- */

int compared_json(const struct compared *runs, size_t n, struct json *j)
{
    size_t count;
    const char **keys = compared_keys(runs, n, &count);
    for (size_t i = 0; keys != NULL && i < n; ++i) {
        json_open(j, NULL, '{');
        json_text(j, "run", runs[i].path);
        json_integer(j, "classes", runs[i].classes);
        json_open(j, "settings", '{');
        for (size_t k = 0; k < count; ++k)
            json_text(j, keys[k], setting_of(&runs[i], keys[k]));
        json_close(j, '}');
        json_integer(j, "n_known", (int64_t)runs[i].known);
        json_integer(j, "n_unknown", (int64_t)runs[i].unknown);
        moment_json(j, &runs[i].moment, 2);
        json_close(j, '}');
    }
    free((void *)keys);
    return keys != NULL ? EXIT_OK : EXIT_MEMORY;
}

int compared_table(const struct compared *runs, size_t n)
{
    enum { KEYS_MOST = 12 };
    size_t count;
    const char **keys = compared_keys(runs, n, &count);
    struct table t;
    if (keys == NULL)
        return EXIT_MEMORY;
    if (count > KEYS_MOST) /* --out has them all */
        count = KEYS_MOST;
    table_start(&t, 2 + (int)count + moment_field_count - 2);
    table_cell(&t, "run");
    table_cell(&t, "K");
    for (size_t k = 0; k < count; ++k)
        table_cell(&t, "%s", keys[k]);
    for (int f = 2; f < moment_field_count; ++f)
        table_cell(&t, "%s", moment_fields[f].name);
    for (size_t i = 0; i < n; ++i) {
        table_cell(&t, "%s", runs[i].path);
        table_cell(&t, "%d", runs[i].classes);
        for (size_t k = 0; k < count; ++k) {
            const char *value = setting_of(&runs[i], keys[k]);
            table_cell(&t, "%s", value != NULL ? value : "-");
        }
        for (int f = 2; f < moment_field_count; ++f)
            if (isfinite(moment_value(&runs[i].moment, f)))
                table_cell(&t, "%.4g", moment_value(&runs[i].moment, f));
            else
                table_cell(&t, "-");
    }
    free((void *)keys);
    return table_print(&t);
}

static void csv_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text != '\0'; ++text) {
        if (*text == '"')
            fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

char *compared_csv(const struct compared *runs, size_t n, size_t *length)
{
    char *text = NULL, number[REAL_TEXT];
    size_t count;
    const char **keys = compared_keys(runs, n, &count);
    FILE *f = keys != NULL ? open_memstream(&text, length) : NULL;
    for (size_t i = 0; f != NULL && i <= n; ++i) { /* 0: the head */
        if (i == 0)
            fprintf(f, "run,classes");
        else
            csv_text(f, runs[i - 1].path);
        if (i > 0)
            fprintf(f, ",%d", runs[i - 1].classes);
        for (size_t k = 0; k < count; ++k) {
            const char *value = i == 0 ? keys[k] : setting_of(&runs[i - 1], keys[k]);
            fputc(',', f);
            csv_text(f, value != NULL ? value : "");
        }
        for (int m = 2; m < moment_field_count; ++m)
            fprintf(f, ",%s", i == 0 ? moment_fields[m].name
                                     : real_text(number, moment_value(&runs[i - 1].moment, m)));
        fputc('\n', f);
    }
    free((void *)keys);
    const int lost = f == NULL || ferror(f);
    if (f != NULL && fclose(f) == 0 && !lost)
        return text;
    free(text);
    return NULL;
}

/* ---- the picture: a row a setting, a dot a run ---- */

enum { LABEL = 160 };

/* "weight-decay 0.001, K 4": what tells a run from the others, its seed left out. */
static void label_of(const struct compared *runs, size_t n, size_t i, const char *const *keys,
                     size_t count, char label[LABEL])
{
    size_t at = 0;
    int classes_differ = 0;
    label[0] = '\0';
    for (size_t k = 1; k < n; ++k)
        classes_differ |= runs[k].classes != runs[0].classes;
    if (classes_differ)
        at = (size_t)snprintf(label, LABEL, "K %d", runs[i].classes);
    for (size_t k = 0; k < count && at < LABEL - 1; ++k) {
        const char *value = setting_of(&runs[i], keys[k]);
        if (strcmp(keys[k], "seed") == 0
            || (classes_differ && (strcmp(keys[k], "known") == 0 || strcmp(keys[k], "split") == 0)))
            continue;
        at += (size_t)snprintf(label + at, LABEL - at, "%s%s %s", at > 0 ? ", " : "", keys[k],
                               value != NULL ? value : "-");
    }
    if (label[0] == '\0')
        snprintf(label, LABEL, "%s", runs[i].path);
}

struct dots {
    const char *field, *title, *colour;
};

static void draw_dots(struct svg *out, const struct compared *runs, size_t n, const size_t *row,
                      const struct dots *what, struct svg_chart *c)
{
    double low = INFINITY, high = -INFINITY;
    int field = 0;
    while (strcmp(moment_fields[field].name, what->field) != 0)
        ++field;
    for (size_t i = 0; i < n; ++i) {
        const double v = moment_value(&runs[i].moment, field);
        low = v < low ? v : low;
        high = isfinite(v) && v > high ? v : high;
    }
    c->across = svg_axis_make(low, high, 4, NULL);
    c->title = what->title;
    svg_chart_draw(out, c);
    for (size_t i = 0; i < n; ++i)
        svg_dot(out, c, moment_value(&runs[i].moment, field), (double)row[i], what->colour);
}

int compared_svg(const struct compared *runs, size_t n, const char *title, struct svg *out)
{
    static const struct dots what[3] = {{"jnd", "norm difference (JND)", SVG_GREEN},
                                        {"auroc", "AUROC", SVG_BLUE},
                                        {"davies_bouldin", "Davies-Bouldin index", SVG_PURPLE}};
    size_t count, rows = 0;
    const char **keys = compared_keys(runs, n, &count);
    size_t *row = malloc((n + 1) * sizeof *row);
    char(*labels)[LABEL] = malloc((n + 1) * sizeof *labels);
    const char **names = malloc((n + 1) * sizeof *names);
    const int failed = keys == NULL || row == NULL || labels == NULL || names == NULL;
    double widest = 0.0;
    char line[160], cut[LABEL];
    for (size_t i = 0; !failed && i < n; ++i) {
        label_of(runs, n, i, keys, count, labels[rows]);
        snprintf(cut, sizeof cut, "%s", labels[rows]);
        svg_cut(cut, 11, 300.0, labels[rows], LABEL);
        for (row[i] = 0; strcmp(labels[row[i]], labels[rows]) != 0;)
            ++row[i];
        names[row[i]] = labels[row[i]];
        widest = fmax(widest, svg_text_width(labels[row[i]], 11));
        rows += row[i] == rows;
    }
    if (!failed) {
        const double left = 30.0 + widest, height = 30.0 * (double)rows;
        const int wide = (int)(left + 3.0 * 260.0);
        svg_open(out, wide, (int)(height + 130.0), title);
        svg_text(out, 20.0, 28.0, SVG_START, 15,
                 svg_cut(title, 15, wide - 40.0, line, sizeof line));
        for (int i = 0; i < 3; ++i) {
            struct svg_chart c = {0};
            c.x = left + 260.0 * i;
            c.y = 86.0;
            c.width = 230.0;
            c.height = height;
            c.row_count = (int)rows;
            c.rows = i == 0 ? names : NULL;
            draw_dots(out, runs, n, row, &what[i], &c);
        }
    }
    free((void *)keys);
    free(row);
    free(labels);
    free((void *)names);
    return failed ? EXIT_MEMORY : EXIT_OK;
}
