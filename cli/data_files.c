#define _POSIX_C_SOURCE 200809L

#include "data_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "exit_codes.h"
#include "run_dir.h"

enum { TEXT_LIMIT = 64 << 20 };

static int no_memory(char *message, size_t size)
{
    snprintf(message, size, "out of memory");
    return EXIT_MEMORY;
}

void names_free(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->name[i]);
    free(n->name);
    memset(n, 0, sizeof *n);
}

int names_add(struct names *n, const char *name)
{
    if (n->count == n->capacity) {
        size_t capacity = n->capacity ? n->capacity * 2 : 64;
        char **more = realloc(n->name, capacity * sizeof *more);
        if (!more)
            return -1;
        n->name = more;
        n->capacity = capacity;
    }
    n->name[n->count] = strdup(name);
    return n->name[n->count] ? (n->count++, 0) : -1;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void names_sort(struct names *n)
{
    if (n->count)
        qsort(n->name, n->count, sizeof *n->name, by_bytes);
}

long names_find(const struct names *n, const char *name)
{
    char *const *found = NULL;
    if (n->count)
        found = bsearch(&name, n->name, n->count, sizeof *n->name, by_bytes);
    return found ? (long)(found - n->name) : -1;
}

const char *names_twice(const struct names *n)
{
    for (size_t i = 1; i < n->count; i++)
        if (strcmp(n->name[i - 1], n->name[i]) == 0)
            return n->name[i];
    return NULL;
}

static int ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = suffix ? strlen(suffix) : 0;
    return n >= m && strcmp(name + n - m, suffix ? suffix : "") == 0;
}

int names_of_directory(const char *path, int directories, const char *suffix, struct names *out,
                       char *message, size_t size)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    size_t before = out->count;
    int code = EXIT_OK;
    if (!folder) {
        snprintf(message, size, "%s: %s", path, strerror(errno));
        return EXIT_DATA;
    }
    while (code == EXIT_OK && (entry = readdir(folder)) != NULL) {
        char whole[DATA_PATH];
        struct stat info;
        int length = snprintf(whole, sizeof whole, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' || !ends_in(entry->d_name, suffix))
            continue;
        if (length >= DATA_PATH || stat(whole, &info) != 0) {
            snprintf(message, size, "%s: %s", whole, strerror(length < DATA_PATH ? errno
                                                                                 : ENAMETOOLONG));
            code = EXIT_DATA;
        } else if ((S_ISDIR(info.st_mode) ? 1 : 0) == directories &&
                   names_add(out, entry->d_name)) {
            code = no_memory(message, size);
        }
    }
    closedir(folder);
    if (out->count > before)
        qsort(out->name + before, out->count - before, sizeof *out->name, by_bytes);
    return code;
}

int names_of_lines(const char *path, int ended, struct names *out, char *message, size_t size)
{
    size_t count;
    char *text = file_read(path, TEXT_LIMIT, &count, message, size);
    int code = EXIT_OK;
    if (!text)
        return EXIT_DATA;
    if (strlen(text) != count) {
        snprintf(message, size, "%s: not a text file", path);
        code = EXIT_DATA;
    } else if (ended && count > 0 && text[count - 1] != '\n') {
        snprintf(message, size, "%s: the last line does not end: the file is truncated", path);
        code = EXIT_DATA;
    }
    for (char *line = text; code == EXIT_OK && *line;) {
        size_t n = strcspn(line, "\n");
        char *next = line + n + (line[n] == '\n');
        line[n] = '\0';
        if (n && line[n - 1] == '\r')
            line[n - 1] = '\0';
        if (*line && names_add(out, line))
            code = no_memory(message, size);
        line = next;
    }
    free(text);
    return code;
}

int data_set_name(struct data_set *set, const struct names *classes, char *message, size_t size)
{
    for (size_t c = 0; c < classes->count; c++) {
        set->class_names[c] = strdup(classes->name[c]);
        if (!set->class_names[c])
            return no_memory(message, size);
    }
    return EXIT_OK;
}

int records_open(const char *path, size_t bytes, FILE **file, size_t *count, char *message,
                 size_t size)
{
    struct stat info;
    *file = fopen(path, "rb");
    if (!*file || fstat(fileno(*file), &info) != 0) {
        snprintf(message, size, "%s: %s", path, strerror(errno));
        return EXIT_DATA;
    }
    if (!S_ISREG(info.st_mode)) {
        snprintf(message, size, "%s: not a file", path);
        return EXIT_DATA;
    }
    if (info.st_size <= 0 || (uint64_t)info.st_size % bytes != 0 ||
        (uint64_t)info.st_size / bytes > INT32_MAX) {
        snprintf(message, size, "%s: %lld bytes are no whole number of records of %zu bytes", path,
                 (long long)info.st_size, bytes);
        return EXIT_DATA;
    }
    *count = (size_t)info.st_size / bytes;
    return EXIT_OK;
}
