#define _POSIX_C_SOURCE 200809L

#include "output.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exit_codes.h"

static int level = 1;
static int color_wanted = -1; /* -1 automatic, 0 never, 1 always */
static int line_shown;

/* ---- messages ---- */

void output_setup(int message_level, const char *color_mode)
{
    level = message_level;
    color_wanted = -1;
    if (color_mode && strcmp(color_mode, "always") == 0)
        color_wanted = 1;
    if (color_mode && strcmp(color_mode, "never") == 0)
        color_wanted = 0;
}

int output_level(void)
{
    return level;
}

/* Flag, then NO_COLOR, then CLICOLOR_FORCE, then what the stream is. */
int output_color(FILE *stream)
{
    const char *none = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE");
    const char *term = getenv("TERM");
    if (color_wanted >= 0)
        return color_wanted;
    if (none && *none)
        return 0;
    if (force && *force && strcmp(force, "0") != 0)
        return 1;
    if (!isatty(fileno(stream)))
        return 0;
    return !(term && strcmp(term, "dumb") == 0);
}

/* One write per message, so that lines of several processes do not mix. */
static void message(const char *label, const char *color, const char *format, va_list arguments)
{
    char body[2048], line[2200];
    vsnprintf(body, sizeof body, format, arguments);
    for (char *c = body; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = ' ';
    status_line_end();
    if (color && output_color(stderr))
        snprintf(line, sizeof line, "osr: \033[%sm%s\033[0m%s\n", color, label, body);
    else
        snprintf(line, sizeof line, "osr: %s%s\n", label, body);
    fputs(line, stderr);
    fflush(stderr);
}

void message_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("error: ", "31", format, arguments);
    va_end(arguments);
}

void message_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("warning: ", "33", format, arguments);
    va_end(arguments);
}

void message_note(const char *format, ...)
{
    va_list arguments;
    if (level < 1)
        return;
    va_start(arguments, format);
    message("", NULL, format, arguments);
    va_end(arguments);
}

void message_detail(const char *format, ...)
{
    va_list arguments;
    if (level < 2)
        return;
    va_start(arguments, format);
    message("", NULL, format, arguments);
    va_end(arguments);
}

int output_finish(int code)
{
    int lost;
    status_line_end();
    errno = 0;
    lost = fflush(stdout) != 0;
    lost |= ferror(stdout) != 0;
    if (!lost)
        return code;
    message_error("standard output: %s", errno ? strerror(errno) : "writing failed");
    return code ? code : EXIT_IO;
}

void status_line(const char *text)
{
    if (level < 1 || !isatty(fileno(stderr)))
        return;
    fprintf(stderr, "\r%s\033[K", text);
    fflush(stderr);
    line_shown = 1;
}

void status_line_end(void)
{
    if (!line_shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    line_shown = 0;
}

/* ---- numbers ---- */

/* printf and strtod follow LC_NUMERIC of the thread; the "C" locale is set around them. */
static locale_t c_locale(void)
{
    static locale_t made;
    if (!made)
        made = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return made;
}

char *real_text(char buffer[REAL_TEXT], double value)
{
    locale_t before;
    if (isnan(value))
        return strcpy(buffer, "nan");
    if (isinf(value))
        return strcpy(buffer, value > 0 ? "inf" : "-inf");
    before = uselocale(c_locale());
    snprintf(buffer, REAL_TEXT, "%.9g", value);
    uselocale(before);
    return buffer;
}

static const char *skip_digits(const char *s)
{
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

/* [+-] digits [. digits] [e [+-] digits], at least one digit in front of the exponent. */
static int is_decimal(const char *text)
{
    const char *s = text + (*text == '+' || *text == '-');
    const char *after = skip_digits(s);
    int digits = (int)(after - s);
    s = after;
    if (*s == '.') {
        after = skip_digits(s + 1);
        digits += (int)(after - s) - 1;
        s = after;
    }
    if (digits == 0)
        return 0;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        after = skip_digits(s);
        if (after == s)
            return 0;
        s = after;
    }
    return *s == '\0';
}

int real_parse(const char *text, double *value)
{
    locale_t before;
    if (strlen(text) > 400 || !is_decimal(text))
        return -1;
    before = uselocale(c_locale());
    *value = strtod(text, NULL);
    uselocale(before);
    return fabs(*value) <= DBL_MAX ? 0 : -1;
}

int integer_parse(const char *text, int64_t *value)
{
    const char *s = text + (*text == '+' || *text == '-');
    uint64_t limit = (uint64_t)INT64_MAX + (*text == '-'), sum = 0;
    if (*s == '\0')
        return -1;
    for (; *s; s++) {
        unsigned digit = (unsigned)(*s - '0');
        if (*s < '0' || *s > '9' || sum > (limit - digit) / 10)
            return -1;
        sum = sum * 10 + digit;
    }
    if (*text == '-')
        *value = sum ? -(int64_t)(sum - 1) - 1 : 0;
    else
        *value = (int64_t)sum;
    return 0;
}

/* ---- JSON ---- */

static void json_put(struct json *j, const char *bytes, size_t count)
{
    if (j->failed)
        return;
    if (j->length + count + 1 > j->capacity) {
        size_t capacity = j->capacity ? j->capacity : 256;
        char *text;
        while (capacity < j->length + count + 1)
            capacity *= 2;
        text = realloc(j->text, capacity);
        if (!text) {
            j->failed = 1;
            return;
        }
        j->text = text;
        j->capacity = capacity;
    }
    memcpy(j->text + j->length, bytes, count);
    j->length += count;
    j->text[j->length] = '\0';
}

/* Length of the UTF-8 sequence at s, or 0 when the bytes are none. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
             : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

/* File names may hold any bytes: what is no UTF-8 becomes U+FFFD. */
static void json_quote(struct json *j, const char *value)
{
    const unsigned char *s = (const unsigned char *)value;
    json_put(j, "\"", 1);
    while (*s) {
        size_t n = utf8_length(s);
        char escape[8];
        if (*s == '"' || *s == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*s;
            json_put(j, escape, 2);
        } else if (*s < 32 || *s == 127) {
            snprintf(escape, sizeof escape, "\\u%04x", *s);
            json_put(j, escape, 6);
        } else if (n == 0) {
            json_put(j, "\\ufffd", 6);
        } else {
            json_put(j, (const char *)s, n);
        }
        s += n ? n : 1;
    }
    json_put(j, "\"", 1);
}

static void json_key(struct json *j, const char *key)
{
    if (j->filled[j->depth])
        json_put(j, ",", 1);
    j->filled[j->depth] = 1;
    if (key) {
        json_quote(j, key);
        json_put(j, ":", 1);
    }
}

void json_open(struct json *j, const char *key, char bracket)
{
    json_key(j, key);
    json_put(j, &bracket, 1);
    if (j->depth == 16) {
        j->failed = 1;
        return;
    }
    j->filled[++j->depth] = 0;
}

void json_close(struct json *j, char bracket)
{
    json_put(j, &bracket, 1);
    if (j->depth > 0)
        j->depth--;
}

void json_text(struct json *j, const char *key, const char *value)
{
    json_key(j, key);
    if (value)
        json_quote(j, value);
    else
        json_put(j, "null", 4);
}

void json_real(struct json *j, const char *key, double value)
{
    char buffer[REAL_TEXT];
    json_key(j, key);
    if (isfinite(value)) {
        real_text(buffer, value);
        json_put(j, buffer, strlen(buffer));
    } else {
        j->not_finite++;
        json_put(j, "null", 4);
    }
}

void json_integer(struct json *j, const char *key, int64_t value)
{
    char buffer[32];
    int n = snprintf(buffer, sizeof buffer, "%lld", (long long)value);
    json_key(j, key);
    json_put(j, buffer, (size_t)n);
}

void json_bool(struct json *j, const char *key, int value)
{
    json_key(j, key);
    json_put(j, value ? "true" : "false", value ? 4 : 5);
}

int json_print(struct json *j)
{
    if (j->failed) {
        message_error("out of memory while writing JSON");
        return EXIT_MEMORY;
    }
    fwrite(j->text, 1, j->length, stdout);
    putchar('\n');
    return EXIT_OK;
}

void json_free(struct json *j)
{
    free(j->text);
    memset(j, 0, sizeof *j);
}

/* ---- tables ---- */

void table_start(struct table *t, int columns)
{
    memset(t, 0, sizeof *t);
    t->columns = columns;
}

void table_cell(struct table *t, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (t->count == t->capacity && !t->failed) {
        size_t capacity = t->capacity ? t->capacity * 2 : 64;
        char **cells = realloc(t->cells, capacity * sizeof *cells);
        t->failed = cells == NULL;
        if (cells) {
            t->cells = cells;
            t->capacity = capacity;
        }
    }
    if (t->failed)
        return;
    t->cells[t->count] = strdup(text);
    t->failed = t->cells[t->count] == NULL;
    t->count += !t->failed;
}

/* Columns on a terminal: continuation bytes of UTF-8 take none. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static int is_numeric(const char *text)
{
    double ignored;
    size_t n = strlen(text);
    char copy[64];
    if (strcmp(text, "-") == 0 || strcmp(text, "nan") == 0)
        return 1;
    if (n == 0 || n >= sizeof copy)
        return 0;
    memcpy(copy, text, n + 1);
    if (copy[n - 1] == '%')
        copy[n - 1] = '\0';
    return real_parse(copy, &ignored) == 0;
}

static void table_row(const struct table *t, size_t row, const int *width, const char *right)
{
    size_t columns = (size_t)t->columns;
    for (size_t c = 0; c < columns; c++) {
        const char *cell = t->cells[row * columns + c];
        int pad = width[c] - text_width(cell);
        const char *gap = c ? "  " : "";
        if (right[c])
            printf("%s%*s%s", gap, pad, "", cell);
        else if (c + 1 == columns)
            printf("%s%s", gap, cell);
        else
            printf("%s%s%*s", gap, cell, pad, "");
    }
    putchar('\n');
}

int table_print(struct table *t)
{
    enum { MAX = 32 };
    int width[MAX] = {0};
    char right[MAX] = {0};
    size_t columns = (size_t)t->columns;
    int code = t->failed ? EXIT_MEMORY : EXIT_OK;
    if (columns == 0 || columns > MAX || t->count % columns)
        code = EXIT_INTERNAL;
    for (size_t i = 0; code == EXIT_OK && i < t->count; i++) {
        int w = text_width(t->cells[i]);
        if (w > width[i % columns])
            width[i % columns] = w;
        if (i / columns == 1)
            right[i % columns] = (char)is_numeric(t->cells[i]);
    }
    for (size_t r = 0; code == EXIT_OK && r < t->count / columns; r++)
        table_row(t, r, width, right);
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    if (code != EXIT_OK)
        message_error("a table could not be printed");
    return code;
}
