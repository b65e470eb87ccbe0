#define _POSIX_C_SOURCE 200809L

#include "options.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "exit_codes.h"
#include "output.h"

enum { MAX_NAMES = 128, MAX_WORD = 48 };

/* ---- errors and suggestions ---- */

static int fail(struct options *o, int code, const char *format, ...) CLI_PRINTF(3, 4);

static int fail(struct options *o, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(o->message, sizeof o->message, format, arguments);
    va_end(arguments);
    return code;
}

/* Levenshtein distance; words longer than MAX_WORD count as far apart. */
static int edit_distance(const char *a, const char *b)
{
    int row[MAX_WORD + 1];
    size_t la = strlen(a), lb = strlen(b);
    if (la > MAX_WORD || lb > MAX_WORD)
        return MAX_WORD;
    for (size_t j = 0; j <= lb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= lb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

const char *nearest_name(const char *word, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    int best = 3;
    for (size_t i = 0; i < count; i++) {
        int distance = edit_distance(word, names[i]);
        if (distance < best && distance < (int)strlen(word)) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

static int fail_key(struct options *o, const char *where, const char *key)
{
    const char *names[MAX_NAMES], *near;
    size_t count = 0;
    for (int i = 0; i < option_count && count < MAX_NAMES; i++)
        if (option_table[i].commands >> o->command & 1)
            names[count++] = option_table[i].key;
    near = nearest_name(key, names, count);
    if (near)
        return fail(o, EXIT_USAGE, "%sunknown option '%s', did you mean '%s'?", where, key, near);
    return fail(o, EXIT_USAGE, "%sunknown option '%s' (osr help %s lists them)", where, key,
                command_table[o->command].name);
}

/* ---- looking rows up ---- */

static int find_row(enum command_id command, const char *key)
{
    for (int i = 0; i < option_count; i++)
        if ((option_table[i].commands >> command & 1) && strcmp(option_table[i].key, key) == 0)
            return i;
    return -1;
}

static int key_exists(const char *key)
{
    for (int i = 0; i < option_count; i++)
        if (strcmp(option_table[i].key, key) == 0)
            return 1;
    return 0;
}

static const struct option_value *value_of(const struct options *o, const char *key)
{
    int row = find_row(o->command, key);
    if (row < 0) {
        fprintf(stderr, "osr: internal error: %s has no option %s\n",
                command_table[o->command].name, key);
        abort();
    }
    return &o->values[row];
}

int option_flag(const struct options *o, const char *key)
{
    return (int)value_of(o, key)->integer;
}

int64_t option_int(const struct options *o, const char *key)
{
    return value_of(o, key)->integer;
}

double option_real(const struct options *o, const char *key)
{
    return value_of(o, key)->real;
}

const char *option_text(const struct options *o, const char *key)
{
    return value_of(o, key)->text;
}

int option_choice(const struct options *o, const char *key)
{
    const struct option_value *v = value_of(o, key);
    return v->source == SOURCE_UNSET ? -1 : (int)v->integer;
}

int option_set(const struct options *o, const char *key)
{
    return value_of(o, key)->source != SOURCE_UNSET;
}

int option_given(const struct options *o, const char *key)
{
    return value_of(o, key)->source > SOURCE_RECIPE;
}

int option_exists(const struct options *o, const char *key)
{
    return find_row(o->command, key) >= 0;
}

enum option_source option_source(const struct options *o, const char *key)
{
    return value_of(o, key)->source;
}

/* ---- checking and storing a value ---- */

/* Index of word in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (int index = 0;; index++) {
        size_t n = strcspn(choices, "|");
        if (n == length && memcmp(choices, word, n) == 0)
            return index;
        if (choices[n] == '\0')
            return -1;
        choices += n + 1;
    }
}

/* range as in option_row: '[' or '(' end inside or outside, a missing end is infinite. */
static int in_range(const char *range, double value)
{
    char text[64];
    char *low, *comma, *end;
    double bound;
    if (!range)
        return 1;
    snprintf(text, sizeof text, "%s", range);
    low = text + 1;
    comma = strchr(text, ',');
    end = text + strlen(text) - 1;
    if (!comma)
        return 0;
    *comma = '\0';
    if (*low && (real_parse(low, &bound) || value < bound || (*text == '(' && value <= bound)))
        return 0;
    if (comma + 1 < end) {
        int open_end = *end == ')';
        *end = '\0';
        if (real_parse(comma + 1, &bound) || value > bound || (open_end && value >= bound))
            return 0;
    }
    return 1;
}

static int flag_parse(const char *text, int64_t *value)
{
    *value = choice_index("true|yes|on|1", text) >= 0;
    return *value || choice_index("false|no|off|0", text) >= 0 ? 0 : -1;
}

/* Parses text into v, whose other fields the caller sets. NULL or what was expected. */
static const char *value_parse(const struct option_row *row, const char *text,
                               struct option_value *v, char *expected, size_t size)
{
    const char *range = row->range ? row->range : "", *in = row->range ? " in " : "";
    switch (row->type) {
    case OPTION_FLAG:
        return flag_parse(text, &v->integer) ? "true or false" : NULL;
    case OPTION_INTEGER:
        if (integer_parse(text, &v->integer) == 0 && in_range(row->range, (double)v->integer)) {
            v->real = (double)v->integer;
            return NULL;
        }
        snprintf(expected, size, "a whole number%s%s", in, range);
        return expected;
    case OPTION_REAL:
        if (real_parse(text, &v->real) == 0 && in_range(row->range, v->real))
            return NULL;
        snprintf(expected, size, "a number%s%s", in, range);
        return expected;
    case OPTION_CHOICE:
        v->integer = choice_index(row->range, text);
        return v->integer < 0 ? row->range : NULL;
    case OPTION_TEXT:
        break;
    }
    return *text ? NULL : "text that is not empty";
}

/* where: "" for the command line, else "OSR_LR: " or "FILE:3: ". A lower source never replaces
 * a higher one, but its text is checked all the same. */
static int store(struct options *o, int index, const char *text, enum option_source source,
                 const char *where)
{
    const struct option_row *row = &option_table[index];
    struct option_value *v = &o->values[index], fresh = {0};
    char expected[128];
    const char *wanted = value_parse(row, text, &fresh, expected, sizeof expected);
    if (wanted)
        return fail(o, EXIT_USAGE, "%s%s%s wants %s, not '%.80s'", where, *where ? "" : "--",
                    row->key, wanted, text);
    if (source < v->source)
        return EXIT_OK;
    fresh.text = strdup(text);
    if (!fresh.text)
        return fail(o, EXIT_MEMORY, "out of memory");
    fresh.source = source;
    free(v->text);
    *v = fresh;
    return EXIT_OK;
}

int option_preset(struct options *o, const char *key, const char *text)
{
    const struct option_value *v = value_of(o, key);
    if (v->source > SOURCE_DEFAULT)
        return EXIT_OK;
    return store(o, (int)(v - o->values), text, SOURCE_DEFAULT, "");
}

int option_assign(struct options *o, const char *key, const char *text, enum option_source source)
{
    return store(o, (int)(value_of(o, key) - o->values), text, source, "");
}

int option_preset_real(struct options *o, const char *key, double value)
{
    char text[REAL_TEXT];
    return option_preset(o, key, real_text(text, value));
}

int option_preset_int(struct options *o, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return option_preset(o, key, text);
}

/* ---- the sources ---- */

static int read_defaults(struct options *o)
{
    for (int i = 0; i < option_count; i++) {
        int code;
        if (!(option_table[i].commands >> o->command & 1) || !option_table[i].preset)
            continue;
        code = store(o, i, option_table[i].preset, SOURCE_DEFAULT, "");
        if (code)
            return code == EXIT_USAGE ? EXIT_INTERNAL : code;
    }
    return EXIT_OK;
}

static int read_environment(struct options *o)
{
    for (int i = 0; i < option_count; i++) {
        char name[64], where[72];
        const char *text;
        int code;
        if (!(option_table[i].commands >> o->command & 1))
            continue;
        snprintf(name, sizeof name, "OSR_%s", option_table[i].key);
        for (char *c = name; *c; c++)
            *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
        text = getenv(name);
        if (!text || !*text || option_table[i].letter == 'h')
            continue;
        snprintf(where, sizeof where, "%s: ", name);
        code = store(o, i, text, SOURCE_ENVIRONMENT, where);
        if (code)
            return code;
    }
    return EXIT_OK;
}

/* What one INI file is read with. The lines pass through read_line, which counts them and sees
 * which continue a value: inih calls the handler for those with the same name again. */
struct ini_source {
    struct options *o;
    FILE *file;
    const char *path;
    int line, continues, code, previous; /* previous: row of the last value, -1: skipped */
    char value[4096];
};

static char *read_line(char *buffer, int size, void *stream)
{
    struct ini_source *s = stream;
    size_t length;
    if (s->code || !fgets(buffer, size, s->file))
        return NULL;
    s->line++;
    length = strlen(buffer);
    if (length + 1 == (size_t)size && buffer[length - 1] != '\n') {
        s->code = fail(s->o, EXIT_USAGE, "%s:%d: the line is longer than %d characters", s->path,
                       s->line, size - 2);
        return NULL;
    }
    s->continues = buffer[0] == ' ' || buffer[0] == '\t';
    return buffer;
}

static int take_pair(void *user, const char *section, const char *name, const char *value)
{
    struct ini_source *s = user;
    char where[256];
    size_t used = s->continues ? strlen(s->value) : 0;
    snprintf(where, sizeof where, "%.200s:%d: ", s->path, s->line);
    if (*section) {
        s->code = fail(s->o, EXIT_USAGE, "%ssections such as [%s] are not used", where, section);
        return 0;
    }
    if (!s->continues) {
        s->previous = find_row(s->o->command, name);
        if (s->previous < 0 && !key_exists(name)) {
            s->code = fail_key(s->o, where, name);
            return 0;
        }
    }
    if (used + strlen(value) >= sizeof s->value) {
        s->code = fail(s->o, EXIT_USAGE, "%sthe value of %s is too long", where, name);
        return 0;
    }
    strcpy(s->value + used, value);
    if (s->previous >= 0)
        s->code = store(s->o, s->previous, s->value, SOURCE_FILE, where);
    return s->code == EXIT_OK;
}

int options_read_file(struct options *o, const char *path)
{
    struct ini_source s = {o, fopen(path, "rb"), path, 0, 0, EXIT_OK, -1, {0}};
    int result;
    if (!s.file)
        return fail(o, EXIT_IO, "%s: %s", path, strerror(errno));
    result = ini_parse_stream(read_line, &s, take_pair, &s);
    if (s.code == EXIT_OK && ferror(s.file))
        s.code = fail(o, EXIT_IO, "%s: cannot be read", path);
    fclose(s.file);
    if (s.code == EXIT_OK && result > 0)
        s.code = fail(o, EXIT_USAGE, "%s:%d: not of the form key = value", path, result);
    if (s.code == EXIT_OK && result < 0)
        s.code = fail(o, EXIT_MEMORY, "out of memory");
    return s.code;
}

int options_copy(const struct options *from, enum command_id command, struct options *out)
{
    memset(out, 0, sizeof *out);
    out->command = command;
    out->values = calloc((size_t)option_count, sizeof *out->values);
    if (!out->values)
        return fail(out, EXIT_MEMORY, "out of memory");
    const int code = read_defaults(out);
    for (int i = 0; code == EXIT_OK && i < option_count; i++) {
        const unsigned both = 1u << from->command | 1u << command;
        if ((option_table[i].commands & both) != both || !from->values[i].text)
            continue;
        if (store(out, i, from->values[i].text, from->values[i].source, ""))
            return EXIT_MEMORY;
    }
    return code;
}

/* The values of a file, in a set of their own. */
static int read_own(struct options *o, const char *path, int defaults, struct options *own)
{
    int code = EXIT_OK;
    memset(own, 0, sizeof *own);
    own->command = o->command;
    own->values = calloc((size_t)option_count, sizeof *own->values);
    if (!own->values)
        return fail(o, EXIT_MEMORY, "out of memory");
    if (defaults)
        code = read_defaults(own);
    if (code == EXIT_OK)
        code = options_read_file(own, path);
    return code == EXIT_OK ? code : fail(o, code, "%s", own->message);
}

static int is_among(const char *key, const char *const *keys)
{
    while (*keys && strcmp(*keys, key) != 0)
        keys++;
    return *keys != NULL;
}

/* Text of a value that was given, else NULL. */
static const char *given_text(const struct options *o, int row)
{
    return o->values[row].source > SOURCE_RECIPE ? o->values[row].text : NULL;
}

/* Do two values of a row mean the same? */
static int same_value(int row, const struct option_value *a, const struct option_value *b)
{
    if (option_table[row].type == OPTION_TEXT)
        return strcmp(a->text, b->text) == 0;
    return a->integer == b->integer && !(a->real < b->real) && !(a->real > b->real);
}

int options_compare(struct options *o, const char *path, const char *const *except)
{
    struct options own;
    char list[384] = "";
    int code = read_own(o, path, 0, &own);
    for (int i = 0; code == EXIT_OK && i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        if (!(row->commands >> o->command & 1) || (row->traits & OPTION_TRANSIENT)
            || is_among(row->key, except))
            continue;
        const char *there = given_text(&own, i), *here = given_text(o, i);
        const size_t used = strlen(list);
        if (there && here ? same_value(i, &own.values[i], &o->values[i]) : there == here)
            continue;
        snprintf(list + used, sizeof list - used, "%s%s (%.80s there, %.80s here)",
                 used ? ", " : "", row->key, there ? there : "unset", here ? here : "unset");
    }
    options_free(&own);
    return code == EXIT_OK && *list ? fail(o, EXIT_USAGE, "%s", list) : code;
}

/* The run's own values, read into a second set, are compared with those asked for. */
int options_resume(struct options *o, const char *path)
{
    struct options own;
    char keys[256] = "";
    int code = read_own(o, path, 1, &own);
    for (int i = 0; code == EXIT_OK && i < option_count; i++) {
        const struct option_value *asked = &o->values[i], *was = &own.values[i];
        size_t used = strlen(keys);
        if (!(option_table[i].traits & OPTION_FIXED) || asked->source <= SOURCE_DEFAULT)
            continue;
        if (!was->text || !same_value(i, asked, was))
            snprintf(keys + used, sizeof keys - used, " --%s", option_table[i].key);
    }
    options_free(&own);
    if (code == EXIT_OK && *keys)
        code = fail(o, EXIT_USAGE, "a resumed run keeps its settings; given differently:%s", keys);
    return code ? code : options_read_file(o, path);
}

/* ---- the command line ---- */

static int find_command(struct options *o, const char *word)
{
    const char *names[COMMAND_COUNT], *near;
    for (int i = 0; i < COMMAND_COUNT; i++) {
        names[i] = command_table[i].name;
        if (strcmp(word, names[i]) == 0) {
            o->command = (enum command_id)i;
            return EXIT_OK;
        }
    }
    near = nearest_name(word, names, COMMAND_COUNT);
    if (near)
        return fail(o, EXIT_USAGE, "unknown command '%.80s', did you mean '%s'?", word, near);
    return fail(o, EXIT_USAGE, "unknown command '%.80s' (osr --help lists them)", word);
}

/* Splits "--key=value" or "-k" at argv[*at]; takes the next argument where the value is apart. */
static int read_flag(struct options *o, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *value = NULL;
    char key[MAX_WORD + 1];
    int row = -1;
    if (word[1] == '-') {
        size_t n = strcspn(word + 2, "=");
        snprintf(key, sizeof key, "%.*s", (int)(n > MAX_WORD ? MAX_WORD : n), word + 2);
        value = word[2 + n] ? word + 3 + n : NULL;
        row = find_row(o->command, key);
    } else {
        snprintf(key, sizeof key, "%.*s", MAX_WORD, word);
        for (int i = 0; i < option_count && word[2] == '\0'; i++)
            if (option_table[i].letter == word[1] && (option_table[i].commands >> o->command & 1))
                row = i;
    }
    if (row < 0)
        return fail_key(o, "", key);
    if (!value && option_table[row].type == OPTION_FLAG)
        value = "true";
    if (!value) {
        if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0)
            return fail(o, EXIT_USAGE, "--%s wants a value", option_table[row].key);
        value = argv[++*at];
    }
    return store(o, row, value, SOURCE_FLAG, "");
}

static int read_arguments(struct options *o, int argc, char **argv, int first)
{
    int flags = 1;
    for (int i = first; i < argc; i++) {
        int code;
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = 0;
        } else if (flags && argv[i][0] == '-' && argv[i][1]) {
            code = read_flag(o, argc, argv, &i);
            if (code)
                return code;
        } else {
            o->operands[o->operand_count++] = argv[i];
        }
    }
    return EXIT_OK;
}

static int check_operands(struct options *o)
{
    const struct command_row *c = &command_table[o->command];
    if (o->operand_count < c->operand_min)
        return fail(o, EXIT_USAGE, "%s wants %s", c->name, c->operands);
    if (o->operand_count > c->operand_max)
        return fail(o, EXIT_USAGE, "%s: unexpected '%.200s'", c->name, o->operands[c->operand_max]);
    return EXIT_OK;
}

/* What stands in place of a command: help, version, or nothing. */
static int read_first_word(struct options *o, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    o->action = ACTION_HELP;
    if (!word)
        return fail(o, EXIT_USAGE, "no command given (osr --help lists them)");
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        o->action = ACTION_VERSION;
        return EXIT_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        if (argc < 3)
            return EXIT_OK;
        o->action = ACTION_COMMAND_HELP;
        if (strcmp(argv[2], "recipes") == 0 || strcmp(argv[2], "recipe") == 0) {
            o->action = ACTION_RECIPE_HELP;
            return EXIT_OK;
        }
        return find_command(o, argv[2]);
    }
    o->action = ACTION_RUN;
    if (word[0] == '-')
        return fail(o, EXIT_USAGE, "a command comes first, not '%.80s' (osr --help)", word);
    return find_command(o, word);
}

int options_read(struct options *o, int argc, char **argv)
{
    int code;
    memset(o, 0, sizeof *o);
    code = read_first_word(o, argc, argv);
    if (code || o->action != ACTION_RUN)
        return code;
    o->values = calloc((size_t)option_count, sizeof *o->values);
    o->operands = calloc((size_t)argc, sizeof *o->operands);
    if (!o->values || !o->operands)
        return fail(o, EXIT_MEMORY, "out of memory");
    code = read_defaults(o);
    if (code == EXIT_OK)
        code = read_arguments(o, argc, argv, 2);
    if (code == EXIT_OK && option_flag(o, "help")) {
        o->action = ACTION_COMMAND_HELP;
        return EXIT_OK;
    }
    if (code == EXIT_OK)
        code = check_operands(o);
    if (code == EXIT_OK)
        code = read_environment(o);
    if (code == EXIT_OK && find_row(o->command, "config") >= 0 && option_set(o, "config"))
        code = options_read_file(o, option_text(o, "config"));
    return code;
}

void options_free(struct options *o)
{
    for (int i = 0; o->values && i < option_count; i++)
        free(o->values[i].text);
    free(o->values);
    free(o->operands);
    o->values = NULL;
    o->operands = NULL;
    o->operand_count = 0;
}

/* ---- writing INI ---- */

struct text_buffer {
    char *text;
    size_t length, capacity;
    int failed;
};

static void put(struct text_buffer *b, const char *bytes, size_t count)
{
    if (b->length + count + 1 > b->capacity && !b->failed) {
        size_t capacity = (b->length + count + 1) * 2;
        char *text = realloc(b->text, capacity);
        b->failed = text == NULL;
        if (text) {
            b->text = text;
            b->capacity = capacity;
        }
    }
    if (b->failed)
        return;
    memcpy(b->text + b->length, bytes, count);
    b->length += count;
    b->text[b->length] = '\0';
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* inih ends a value at a ';' behind a blank and strips blanks at both ends. */
static int ini_keeps(const char *value)
{
    size_t n = strlen(value);
    if (n == 0 || is_blank(value[0]) || is_blank(value[n - 1]) || value[0] == ';')
        return 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)value[i] < 32 || (value[i] == ';' && i && is_blank(value[i - 1])))
            return 0;
    return n < 4096;
}

/* Lines stay below inih's limit of 200. A part neither begins nor ends with a blank, and does not
 * begin with a comment sign. */
static void put_value(struct text_buffer *b, const char *value)
{
    enum { PART = 120, MOST = 180 };
    size_t left = strlen(value);
    while (left > PART) {
        size_t n = PART;
        while (n < MOST && n < left &&
               (is_blank(value[n - 1]) || is_blank(value[n]) || value[n] == ';' ||
                value[n] == '#'))
            n++;
        put(b, value, n);
        value += n;
        left -= n;
        if (left)
            put(b, "\n  ", 3);
    }
    put(b, value, left);
    put(b, "\n", 1);
}

static char *write_from(struct options *o, enum option_source lowest, const char *comment)
{
    struct text_buffer b = {0};
    while (comment && *comment) {
        size_t n = strcspn(comment, "\n");
        put(&b, "# ", 2);
        put(&b, comment, n < 190 ? n : 190);
        put(&b, "\n", 1);
        comment += n + (comment[n] == '\n');
    }
    put(&b, "", 0);
    for (int i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        const struct option_value *v = &o->values[i];
        if (v->source < lowest || (row->traits & OPTION_TRANSIENT))
            continue;
        if (!ini_keeps(v->text)) {
            fail(o, EXIT_USAGE, "--%s '%.80s' cannot be kept in config.ini", row->key, v->text);
            free(b.text);
            return NULL;
        }
        put(&b, row->key, strlen(row->key));
        put(&b, " = ", 3);
        put_value(&b, v->text);
    }
    if (!b.failed)
        return b.text;
    fail(o, EXIT_MEMORY, "out of memory");
    free(b.text);
    return NULL;
}

char *options_write(struct options *o, const char *comment)
{
    return write_from(o, SOURCE_DEFAULT, comment);
}

char *options_write_given(struct options *o, const char *comment)
{
    return write_from(o, SOURCE_RECIPE + 1, comment);
}

/* ---- help ---- */

static const char *type_word(const struct option_row *row)
{
    switch (row->type) {
    case OPTION_FLAG:
        return "";
    case OPTION_INTEGER:
        return " N";
    case OPTION_REAL:
        return " X";
    case OPTION_CHOICE:
    case OPTION_TEXT:
        break;
    }
    return " TEXT";
}

enum { HELP_INDENT = 29, HELP_WIDTH = 96 };

/* Words of text from column HELP_INDENT on, at most HELP_WIDTH wide. */
static void put_wrapped(FILE *out, const char *text)
{
    int column = HELP_INDENT;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column > HELP_INDENT && column + 1 + n > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        }
        column += fprintf(out, "%s%.*s", column > HELP_INDENT ? " " : "", n, text);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

static void help_row(FILE *out, const struct option_row *row)
{
    char left[96], text[1536], letter[4] = "  ";
    int number = row->type == OPTION_INTEGER || row->type == OPTION_REAL, used;
    if (row->letter)
        snprintf(letter, sizeof letter, "-%c", row->letter);
    if (row->type == OPTION_CHOICE)
        snprintf(left, sizeof left, "%s --%s %s", letter, row->key, row->range);
    else
        snprintf(left, sizeof left, "%s --%s%s", letter, row->key, type_word(row));
    if (strlen(left) > HELP_INDENT - 2)
        fprintf(out, "%s\n%*s", left, HELP_INDENT, "");
    else
        fprintf(out, "%-*s", HELP_INDENT, left);
    used = snprintf(text, sizeof text, "%s", row->help);
    if (number && (row->unit || row->range))
        used += snprintf(text + used, sizeof text - (size_t)used, " (%s%s%s)",
                         row->unit ? row->unit : "", row->unit && row->range ? ", " : "",
                         row->range ? row->range : "");
    if (row->preset && row->type != OPTION_FLAG)
        snprintf(text + used, sizeof text - (size_t)used, " [%s]", row->preset);
    put_wrapped(out, text);
}

void options_command_help(FILE *out, enum command_id id)
{
    const struct command_row *c = &command_table[id];
    fprintf(out, "osr %s%s%s [options]\n  %s\n\n", c->name, *c->operands ? " " : "", c->operands,
            c->summary);
    fputs("Options (in brackets the default; none: it depends on other options):\n", out);
    for (int i = 0; i < option_count; i++)
        if (option_table[i].commands >> id & 1)
            help_row(out, &option_table[i]);
    fputs("\nEach option is also read from the environment (OSR_KEY, '-' written '_')", out);
    fputs(find_row(id, "config") >= 0 ? "\nand from --config (lines key = value).\n" : ".\n", out);
}

void options_help(FILE *out)
{
    fputs("osr <command> [options]    osr help <command>    osr --version\n"
          "Open-set recognition on OpenCL devices: classifiers that know what they do not know.\n"
          "\n", out);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-10s %s\n", command_table[i].name, command_table[i].summary);
    fputs("\nStatus: 0 ok, 1 internal error, 2 usage, 3 bad data, 4 no device, 5 memory, 6 I/O,\n"
          "7 diverged, 8 required figure not reached, 130 or 143 interrupted.\n"
          "First steps: osr devices, then osr train (drawn glyphs, no files needed).\n"
          "osr help recipes prints the presets of --recipe and where they are from.\n", out);
}
