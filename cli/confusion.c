#include "confusion.h"

#include "exit_codes.h"

#include <stdlib.h>
#include <string.h>

enum { NAMED = 3 }; /* known classes that a line of the table names */

int confusion_count(struct confusion *c, const char *const *unknown_names, int unknown,
                    const char *const *known_names, int known, const int32_t *class,
                    const int32_t *predicted, const double *scores, size_t count,
                    double threshold)
{
    const size_t rows = (size_t)unknown, columns = (size_t)known;
    memset(c, 0, sizeof *c);
    c->unknown = unknown;
    c->known = known;
    c->unknown_names = malloc((rows + columns + 1) * sizeof *c->unknown_names);
    c->images = calloc(rows + 1, sizeof *c->images);
    c->accepted = calloc(rows * columns + 1, sizeof *c->accepted);
    if (c->unknown_names == NULL || c->images == NULL || c->accepted == NULL) {
        confusion_free(c);
        return EXIT_MEMORY;
    }
    c->known_names = c->unknown_names + rows;
    for (size_t i = 0; i < rows; ++i)
        c->unknown_names[i] = unknown_names[i];
    for (size_t i = 0; i < columns; ++i)
        c->known_names[i] = known_names[i];
    for (size_t i = 0; i < count; ++i) {
        c->images[class[i]]++;
        if (scores[i] <= threshold)
            c->accepted[(size_t)class[i] * columns + (size_t)predicted[i]]++;
    }
    return EXIT_OK;
}

void confusion_free(struct confusion *c)
{
    free(c->unknown_names);
    free(c->images);
    free(c->accepted);
    memset(c, 0, sizeof *c);
}

size_t confusion_accepted(const struct confusion *c, int unknown)
{
    size_t sum = 0;
    for (int k = 0; k < c->known; ++k)
        sum += c->accepted[(size_t)unknown * (size_t)c->known + (size_t)k];
    return sum;
}

/* The index below `count` of the largest value that is not marked; the first among equals. Marks
 * it. -1 when all are. */
static int take_largest(const size_t *values, int count, unsigned char *taken)
{
    int best = -1;
    for (int i = 0; i < count; ++i)
        if (!taken[i] && (best < 0 || values[i] > values[best]))
            best = i;
    if (best >= 0)
        taken[best] = 1;
    return best;
}

static void table_row(struct table *t, const struct confusion *c, int u, size_t accepted,
                      unsigned char *taken)
{
    const size_t *row = c->accepted + (size_t)u * (size_t)c->known;
    char text[512] = "";
    size_t at = 0;
    memset(taken, 0, (size_t)c->known);
    for (int i = 0; i < NAMED && at < sizeof text; ++i) {
        const int k = take_largest(row, c->known, taken);
        if (k >= 0 && row[k] > 0)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s %zu", i > 0 ? ", " : "",
                                   c->known_names[k], row[k]);
    }
    table_cell(t, "%s", c->unknown_names[u]);
    table_cell(t, "%zu", c->images[u]);
    table_cell(t, "%zu", accepted);
    table_cell(t, "%.4f",
               c->images[u] > 0 ? (double)accepted / (double)c->images[u] : 0.0);
    table_cell(t, "%s", text[0] != '\0' ? text : "-");
}

int confusion_table(const struct confusion *c, int most)
{
    static const char *const heads[] = {"unknown class", "images", "accepted", "share",
                                        "taken for"};
    const size_t rows = (size_t)c->unknown, columns = (size_t)c->known;
    size_t *sums = malloc((rows + 1) * sizeof *sums);
    unsigned char *taken = calloc(rows + columns + 1, 1);
    struct table t;
    if (sums == NULL || taken == NULL) {
        free(sums);
        free(taken);
        return EXIT_MEMORY;
    }
    for (int u = 0; u < c->unknown; ++u)
        sums[u] = confusion_accepted(c, u);
    table_start(&t, 5);
    for (int i = 0; i < 5; ++i)
        table_cell(&t, "%s", heads[i]);
    for (int i = 0; i < most && i < c->unknown; ++i) {
        const int u = take_largest(sums, c->unknown, taken);
        table_row(&t, c, u, sums[u], taken + rows);
    }
    const int code = table_print(&t);
    if (c->unknown > most)
        printf("and %d more unknown classes\n", c->unknown - most);
    free(sums);
    free(taken);
    return code;
}

void confusion_json(const struct confusion *c, struct json *j)
{
    json_open(j, "confusion", '[');
    for (int u = 0; u < c->unknown; ++u) {
        json_open(j, NULL, '{');
        json_text(j, "unknown", c->unknown_names[u]);
        json_integer(j, "images", (int64_t)c->images[u]);
        json_integer(j, "accepted", (int64_t)confusion_accepted(c, u));
        json_open(j, "as", '[');
        for (int k = 0; k < c->known; ++k) {
            const size_t n = c->accepted[(size_t)u * (size_t)c->known + (size_t)k];
            if (n == 0)
                continue;
            json_open(j, NULL, '{');
            json_text(j, "class", c->known_names[k]);
            json_integer(j, "images", (int64_t)n);
            json_close(j, '}');
        }
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put(char *text, size_t *at, char c)
{
    if (text != NULL)
        text[*at] = c;
    ++*at;
}

/* A field, in quotes where it needs them. Returns the bytes it takes; text NULL: only that. */
static size_t csv_field(char *text, const char *value)
{
    const int quoted = strpbrk(value, ",\"\n\r") != NULL;
    size_t n = 0;
    if (quoted)
        put(text, &n, '"');
    for (; *value != '\0'; ++value) {
        if (*value == '"')
            put(text, &n, '"');
        put(text, &n, *value);
    }
    if (quoted)
        put(text, &n, '"');
    return n;
}

char *confusion_csv(const struct confusion *c)
{
    size_t size = 64 + (size_t)(c->unknown + 1) * (size_t)(c->known + 3) * 24, at;
    char *text;
    for (int u = 0; u < c->unknown; ++u)
        size += csv_field(NULL, c->unknown_names[u]);
    for (int k = 0; k < c->known; ++k)
        size += csv_field(NULL, c->known_names[k]);
    text = malloc(size);
    if (text == NULL)
        return NULL;
    at = (size_t)snprintf(text, size, "unknown,images,accepted");
    for (int k = 0; k < c->known; ++k) {
        text[at++] = ',';
        at += csv_field(text + at, c->known_names[k]);
    }
    text[at++] = '\n';
    for (int u = 0; u < c->unknown; ++u) {
        at += csv_field(text + at, c->unknown_names[u]);
        at += (size_t)snprintf(text + at, size - at, ",%zu,%zu", c->images[u],
                               confusion_accepted(c, u));
        for (int k = 0; k < c->known; ++k)
            at += (size_t)snprintf(text + at, size - at, ",%zu",
                                   c->accepted[(size_t)u * (size_t)c->known + (size_t)k]);
        text[at++] = '\n';
    }
    text[at] = '\0';
    return text;
}
