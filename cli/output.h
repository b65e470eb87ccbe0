/* output.h - everything the program prints: results on stdout, messages on stderr, numbers that
 * do not depend on the locale, JSON text and tables. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define CLI_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define CLI_PRINTF(text, first)
#endif

enum { REAL_TEXT = 32 }; /* bytes that real_text needs */

/* Messages. level: 0 errors and warnings only (-q), 1 normal, 2 also details (-v).
 * color_mode: "auto", "always" or "never"; NULL is "auto". */
void output_setup(int level, const char *color_mode);
int output_level(void);
int output_color(FILE *stream); /* 1 when escape sequences may be written to the stream */
void message_error(const char *format, ...) CLI_PRINTF(1, 2);
void message_warning(const char *format, ...) CLI_PRINTF(1, 2);
void message_note(const char *format, ...) CLI_PRINTF(1, 2);   /* level >= 1 */
void message_detail(const char *format, ...) CLI_PRINTF(1, 2); /* level >= 2 */

/* Flushes stdout; returns code, or EXIT_IO with a message when anything written to stdout was
 * lost and code was 0. main returns output_finish(code). */
int output_finish(int code);

/* A line on stderr that the next one replaces ("\r", terminals only); a message clears it. */
void status_line(const char *text);
void status_line_end(void);

/* %.9g with a point, whatever the locale; "nan", "inf", "-inf". Returns buffer. */
char *real_text(char buffer[REAL_TEXT], double value);

/* Strict decimal readers: whole text, no blanks, no hexadecimal, no "nan" or "inf".
 * Return 0, or -1 for text that is no number or does not fit the type. */
int real_parse(const char *text, double *value);
int integer_parse(const char *text, int64_t *value);

/* JSON text in memory. key is NULL inside an array and for the outermost value. Values that are
 * not finite become null and are counted. failed: out of memory or nested deeper than 16. */
struct json {
    char *text; /* NUL-terminated; NULL before the first value */
    size_t length, capacity, not_finite;
    int depth, failed;
    unsigned char filled[17];
};

void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */
void json_text(struct json *j, const char *key, const char *value); /* NULL value: null */
void json_real(struct json *j, const char *key, double value);
void json_integer(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, int value);
int json_print(struct json *j); /* text and a newline on stdout; an exit code */
void json_free(struct json *j);

/* A table on stdout: cells in row order, column widths fitted. Numbers (and "-") are set to the
 * right, other text to the left; a heading follows its column's first cell. */
struct table {
    int columns;
    size_t count, capacity; /* cells */
    char **cells;
    int failed;
};

void table_start(struct table *t, int columns);
void table_cell(struct table *t, const char *format, ...) CLI_PRINTF(2, 3);
int table_print(struct table *t); /* prints, frees; an exit code */

#endif
