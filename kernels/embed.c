/* embed - write the kernel files into the fenced region of osr.h
 *
 *   embed osr.h kernels            rewrite the region
 *   embed --check osr.h kernels    exit 1 when the region is not what would be written
 *
 * Each file becomes an array of string literals, one a source line, because a compiler need not
 * accept one literal of more than 4095 characters. A #line directive comes first, so that a
 * driver's build log names the file and line that a reader can open. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FENCE_BEGIN "/* >>> kernels"
#define FENCE_END "/* <<< kernels"

typedef struct {
    char *bytes;
    size_t size, capacity;
} text;

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("embed: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

static void append(text *out, const char *bytes, size_t size)
{
    if (out->size + size + 1 > out->capacity) {
        out->capacity = 2 * (out->size + size + 1);
        out->bytes = realloc(out->bytes, out->capacity);
        if (!out->bytes) die("out of memory");
    }
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
    out->bytes[out->size] = 0;
}

static void append_string(text *out, const char *string)
{
    append(out, string, strlen(string));
}

static text read_file(const char *path)
{
    text file = {0};
    char block[65536];
    size_t got;
    FILE *stream = fopen(path, "rb");
    if (!stream) die("%s: cannot be opened", path);
    append(&file, "", 0);
    while ((got = fread(block, 1, sizeof block, stream)) > 0) append(&file, block, got);
    if (ferror(stream)) die("%s: cannot be read", path);
    fclose(stream);
    return file;
}

/* One source line as a C string literal, newline included. */
static void append_literal(text *out, const char *line, size_t size, const char *path, int number)
{
    size_t i;
    append_string(out, "\"");
    for (i = 0; i < size; i++) {
        char c = line[i];
        if (c < ' ' || c > '~') die("%s:%d: only printable ASCII is allowed", path, number);
        /* A question mark after another could start a trigraph. */
        if (c == '"' || c == '\\' || (c == '?' && i > 0 && line[i - 1] == '?')) {
            append_string(out, "\\");
        }
        append(out, &c, 1);
    }
    append_string(out, "\\n\",\n");
}

/* Appends the array of one file; returns its number of literals. */
static unsigned append_file(text *out, const char *dir, const char *stem)
{
    char path[4096], line[4200];
    text source;
    const char *at, *end;
    unsigned count = 1;
    int number = 1;
    snprintf(path, sizeof path, "%s/%s.cl", dir, stem);
    source = read_file(path);
    if (strlen(source.bytes) != source.size) die("%s: has a zero byte", path);
    append_string(out, "static const char *const osr__cl_");
    append_string(out, stem);
    append_string(out, "[] = {\n");
    snprintf(line, sizeof line, "#line 1 \"kernels/%s.cl\"", stem);
    append_literal(out, line, strlen(line), path, 0);
    for (at = source.bytes; *at; at = end + 1, number++, count++) {
        end = strchr(at, '\n');
        if (!end) die("%s: the last line has no newline", path);
        append_literal(out, at, (size_t)(end - at), path, number);
    }
    append_string(out, "};\n");
    free(source.bytes);
    return count;
}

/* common.cl first, because the others build on it; then by name. */
static int compare_stems(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    int x_first = !strcmp(x, "common"), y_first = !strcmp(y, "common");
    return x_first != y_first ? y_first - x_first : strcmp(x, y);
}

/* The names of dir's .cl files without the ending; returns their number. */
static size_t list_stems(const char *dir, char *stems[], size_t capacity)
{
    size_t count = 0;
    struct dirent *entry;
    DIR *listing = opendir(dir);
    if (!listing) die("%s: cannot be listed", dir);
    while ((entry = readdir(listing)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        if (entry->d_name[0] == '.' || !dot || strcmp(dot, ".cl")) continue;
        if (count == capacity) die("%s: more than %u kernel files", dir, (unsigned)capacity);
        stems[count] = strdup(entry->d_name);
        if (!stems[count]) die("out of memory");
        stems[count++][dot - entry->d_name] = 0;
    }
    closedir(listing);
    if (!count) die("%s: no .cl files", dir);
    qsort(stems, count, sizeof *stems, compare_stems);
    return count;
}

static text make_region(const char *dir)
{
    text region = {0};
    char *stems[256], row[8192];
    unsigned counts[256];
    size_t i, count = list_stems(dir, stems, 256);
    for (i = 0; i < count; i++) counts[i] = append_file(&region, dir, stems[i]);
    append_string(&region, "static const osr__cl_file osr__cl_files[] = {\n");
    for (i = 0; i < count; i++) {
        snprintf(row, sizeof row, "    {\"%s\", osr__cl_%s, %u},\n", stems[i], stems[i], counts[i]);
        append_string(&region, row);
        free(stems[i]);
    }
    snprintf(row, sizeof row, "};\nstatic const unsigned osr__cl_file_count = %u;\n",
             (unsigned)count);
    append_string(&region, row);
    return region;
}

/* The one place where `mark` begins a line. */
static char *find_mark(const text *header, const char *mark, const char *path)
{
    char *at, *found = NULL;
    for (at = header->bytes; (at = strstr(at, mark)) != NULL; at++) {
        if (at != header->bytes && at[-1] != '\n') continue;
        if (found) die("%s: more than one line begins with %s", path, mark);
        found = at;
    }
    if (!found) die("%s: no line begins with %s", path, mark);
    return found;
}

/* A reader of osr.h never sees a half-written file: the new one is renamed over it. */
static void replace_file(const char *path, const text *content)
{
    char temporary[4096];
    FILE *stream;
    int failed;
    snprintf(temporary, sizeof temporary, "%s.new", path);
    stream = fopen(temporary, "wb");
    if (!stream) die("%s: cannot be written", temporary);
    failed = fwrite(content->bytes, 1, content->size, stream) != content->size;
    failed |= fclose(stream) != 0;
    if (failed || rename(temporary, path)) {
        remove(temporary);
        die("%s: cannot be written", path);
    }
}

int main(int argc, char **argv)
{
    int check = argc == 4 && !strcmp(argv[1], "--check"), stale;
    const char *path, *dir;
    text header, region, updated = {0};
    char *begin, *end;
    if (argc != 3 && !check) die("usage: embed [--check] osr.h kernels");
    path = argv[argc - 2];
    dir = argv[argc - 1];

    header = read_file(path);
    end = find_mark(&header, FENCE_END, path);
    begin = strchr(find_mark(&header, FENCE_BEGIN, path), '\n') + 1;
    if (begin > end) die("%s: the end of the kernel region comes before its beginning", path);
    region = make_region(dir);
    append(&updated, header.bytes, (size_t)(begin - header.bytes));
    append(&updated, region.bytes, region.size);
    append_string(&updated, end);

    stale = updated.size != header.size || memcmp(updated.bytes, header.bytes, header.size);
    if (stale && check) {
        printf("%s: its kernels differ from %s; to mend it:\n    %s %s %s\n", path, dir, argv[0],
               path, dir);
    } else if (stale) {
        replace_file(path, &updated);
    }
    free(header.bytes);
    free(region.bytes);
    free(updated.bytes);
    return check && stale;
}
