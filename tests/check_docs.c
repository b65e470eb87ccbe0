/* check_docs - the rules about osr.h's text that a program can check
 *
 *   check_docs osr.h kernels
 *
 * Each finding is one line on stdout; the exit status is 1 when there are any.
 *   - the documentation block above each OSR_API declaration names the function, and gives a
 *     source for a loss, a score or a metric
 *   - section anchors, comments of the form == name ==, come in the same order three times: table
 *     of contents, API, implementation
 *   - outside the kernel region: lines of at most 100 columns, ASCII, no tabs, and no call that
 *     ends the process or writes to its standard streams
 *   - the budgets of hand-written lines and of kernel lines hold */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 100, MAX_HEADER_LINES = 11700, MAX_KERNEL_LINES = 4500, MAX_ANCHORS = 300 };

typedef struct {
    char **lines; /* without newlines */
    char *kernel; /* 1: the line lies in the kernel region */
    int count;
} file_lines;

static const char *path;
static int findings;

static void finding(int line, const char *message, const char *name)
{
    printf("%s:%d: %s%s\n", path, line, message, name);
    findings++;
}

static int begins(const char *line, const char *prefix)
{
    return !strncmp(line, prefix, strlen(prefix));
}

static file_lines read_lines(const char *name)
{
    file_lines file = {NULL, NULL, 0};
    char *line = NULL;
    size_t capacity = 0;
    int in_kernel = 0;
    FILE *stream = fopen(name, "r");
    if (!stream) {
        fprintf(stderr, "%s: cannot be opened\n", name);
        exit(2);
    }
    while (getline(&line, &capacity, stream) >= 0) {
        size_t room = (size_t)file.count + 1;
        line[strcspn(line, "\n")] = 0;
        file.lines = realloc(file.lines, room * sizeof *file.lines);
        file.kernel = realloc(file.kernel, room);
        if (!file.lines || !file.kernel) exit(2);
        if (begins(line, "/* <<< kernels")) in_kernel = 0;
        file.kernel[file.count] = (char)in_kernel;
        if (begins(line, "/* >>> kernels")) in_kernel = 1;
        file.lines[file.count++] = strdup(line);
    }
    free(line);
    fclose(stream);
    return file;
}

static void free_lines(file_lines *file)
{
    int i;
    for (i = 0; i < file->count; i++) free(file->lines[i]);
    free(file->lines);
    free(file->kernel);
}

/* --- documentation blocks --------------------------------------------------------------------- */

/* Where `name` first stands in `text` as a whole word, or NULL. */
static const char *find_word(const char *text, const char *name)
{
    size_t size = strlen(name);
    const char *at = text;
    while ((at = strstr(at, name)) != NULL) {
        int joined = at > text && (isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (!joined && !isalnum((unsigned char)at[size]) && at[size] != '_') return at;
        at += size;
    }
    return NULL;
}

static int block_has(const file_lines *file, int first, int last, const char *word)
{
    int i;
    for (i = first; i <= last; i++) {
        if (find_word(file->lines[i], word)) return 1;
    }
    return 0;
}

/* 1 when the declarator that begins on line `at` is a declaration, 0 when a body follows. */
static int is_declaration(const file_lines *file, int at)
{
    for (; at < file->count; at++) {
        const char *end = strpbrk(file->lines[at], ";{");
        if (end) return *end == ';';
    }
    return 0;
}

/* The identifier before the first parenthesis of line `at`. */
static void declared_name(const char *line, char *name, size_t size)
{
    const char *end = strchr(line, '('), *begin;
    if (!end) end = line + strlen(line);
    begin = end;
    while (begin > line && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_')) begin--;
    snprintf(name, size, "%.*s", (int)(end - begin), begin);
}

/* A loss, a score or a metric, and not one of the functions that walk through their table. */
static int needs_source(const char *name)
{
    static const char *const families[] = {"osr_loss_", "osr_score_", "osr_metric_"};
    static const char *const walkers[] = {"count", "at", "find"};
    size_t i, j;
    for (i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (!begins(name, families[i])) continue;
        for (j = 0; j < sizeof walkers / sizeof walkers[0]; j++) {
            if (!strcmp(name + strlen(families[i]), walkers[j])) return 0;
        }
        return 1;
    }
    return 0;
}

static void check_declaration(const file_lines *file, int at, int first, int last)
{
    char name[256];
    declared_name(file->lines[at], name, sizeof name);
    if (first < 0 || !block_has(file, first, last, name)) {
        finding(at + 1, "no documentation block names ", name);
    } else if (needs_source(name) && !block_has(file, first, last, "source")) {
        finding(at + 1, "its documentation block has no source: ", name);
    }
}

/* A block serves the declarations that follow it without other code between them. Returns the
 * number of declarations. */
static int check_blocks(const file_lines *file)
{
    int i, first = -1, last = -1, in_block = 0, in_declaration = 0, declarations = 0;
    for (i = 0; i < file->count; i++) {
        const char *line = file->lines[i];
        if (!in_block && !in_declaration && begins(line, "/*")) {
            first = i;
            in_block = 1;
        }
        if (in_block) {
            last = i;
            in_block = strstr(line, "*/") == NULL;
        } else if (in_declaration || (begins(line, "OSR_API ") && is_declaration(file, i))) {
            if (!in_declaration) {
                check_declaration(file, i, first, last);
                declarations++;
            }
            in_declaration = strchr(line, ';') == NULL;
        } else if (*line && *line != '#') {
            first = -1;
        }
    }
    return declarations;
}

/* --- section anchors -------------------------------------------------------------------------- */

/* The name in an anchor, a line that is a comment's == name ==; 0 for other lines. */
static int anchor_name(const char *line, char *name, size_t size)
{
    const char *end;
    while (*line == ' ' || *line == '/' || *line == '*') line++;
    if (!begins(line, "== ")) return 0;
    line += 3;
    end = strstr(line, " ==");
    if (!end) return 0;
    snprintf(name, size, "%.*s", (int)(end - line), line);
    return 1;
}

static void check_anchors(const file_lines *file)
{
    static char names[MAX_ANCHORS][64];
    static int at[MAX_ANCHORS];
    int i, count = 0, sections;
    for (i = 0; i < file->count && count < MAX_ANCHORS; i++) {
        if (!file->kernel[i] && anchor_name(file->lines[i], names[count], sizeof names[0])) {
            at[count++] = i;
        }
    }
    for (sections = 1; sections < count && strcmp(names[0], names[sections]); sections++) continue;
    if (!count || count != 3 * sections) {
        printf("%s: %d section anchors, not three times the %d of the table of contents\n", path,
               count, sections);
        findings++;
    }
    for (i = sections; i < count; i++) {
        if (strcmp(names[i], names[i % sections]) != 0) {
            finding(at[i] + 1, "the table of contents has another section here than ", names[i]);
            return;
        }
    }
}

/* --- text ------------------------------------------------------------------------------------- */

/* Blanks comments and literals of one line; *in_comment carries over to the next. */
static void strip(const char *line, char *code, int *in_comment)
{
    char quote = 0;
    for (; *line; line++) {
        char c = ' ';
        if (*in_comment) {
            if (line[0] == '*' && line[1] == '/') {
                *in_comment = 0;
                line++;
            }
        } else if (quote) {
            if (*line == '\\' && line[1]) line++;
            else if (*line == quote) quote = 0;
        } else if (line[0] == '/' && line[1] == '*') {
            *in_comment = 1;
            line++;
        } else if (*line == '"' || *line == '\'') {
            quote = *line;
        } else {
            c = *line;
        }
        *code++ = c;
    }
    *code = 0;
}

static void check_calls(const char *code, int number)
{
    static const char *const banned[] = {"exit",   "_exit", "_Exit",   "abort", "printf",
                                         "vprintf", "puts", "putchar", "perror"};
    size_t i;
    for (i = 0; i < sizeof banned / sizeof banned[0]; i++) {
        const char *at = code;
        while ((at = find_word(at, banned[i])) != NULL) {
            at += strlen(banned[i]);
            if (at[strspn(at, " ")] == '(') finding(number, "a library does not call ", banned[i]);
        }
    }
}

static void check_text(const file_lines *file)
{
    int i, in_comment = 0;
    for (i = 0; i < file->count; i++) {
        const char *line = file->lines[i], *c;
        size_t size = strlen(line);
        char *code = malloc(size + 1);
        if (!code) exit(2);
        if (!file->kernel[i]) {
            if (size > MAX_COLUMNS) finding(i + 1, "more than 100 columns", "");
            for (c = line; *c >= ' ' && *c <= '~'; c++) continue;
            if (*c) finding(i + 1, "a tab or a character that is not ASCII", "");
            strip(line, code, &in_comment);
            check_calls(code, i + 1);
        }
        free(code);
    }
}

/* --- budgets ---------------------------------------------------------------------------------- */

static void check_budgets(const file_lines *header, const char *dir)
{
    int i, hand_written = 0, kernel_lines = 0;
    struct dirent *entry;
    DIR *listing = opendir(dir);
    for (i = 0; i < header->count; i++) hand_written += !header->kernel[i];
    while (listing && (entry = readdir(listing)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        char name[4096];
        file_lines kernel;
        if (!dot || strcmp(dot, ".cl")) continue;
        snprintf(name, sizeof name, "%s/%s", dir, entry->d_name);
        kernel = read_lines(name);
        kernel_lines += kernel.count;
        free_lines(&kernel);
    }
    if (listing) closedir(listing);
    printf("%d of %d hand-written lines, %d of %d kernel lines\n", hand_written, MAX_HEADER_LINES,
           kernel_lines, MAX_KERNEL_LINES);
    if (hand_written > MAX_HEADER_LINES || kernel_lines > MAX_KERNEL_LINES || !kernel_lines) {
        finding(1, "a budget of lines does not hold", "");
    }
}

int main(int argc, char **argv)
{
    file_lines header;
    int declarations;
    if (argc != 3) {
        fprintf(stderr, "usage: check_docs osr.h kernels\n");
        return 2;
    }
    path = argv[1];
    header = read_lines(path);
    declarations = check_blocks(&header);
    printf("%d public functions\n", declarations);
    if (!declarations) finding(1, "no OSR_API declarations", "");
    check_anchors(&header);
    check_text(&header);
    check_budgets(&header, argv[2]);
    free_lines(&header);
    return findings != 0;
}
