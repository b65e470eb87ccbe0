/* data_files.h - what the readers of image files share: names in directories and text files, and
 * binary files whose size says how much they hold. */
#ifndef CLI_DATA_FILES_H
#define CLI_DATA_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "data.h"

enum { DATA_PATH = 4096 };

struct names {
    char **name;
    size_t count, capacity;
};

void names_free(struct names *n);
int names_add(struct names *n, const char *name); /* -1 when memory ends */
void names_sort(struct names *n);                 /* by their bytes */

/* The position of a name in a sorted list, or -1. */
long names_find(const struct names *n, const char *name);

/* The name that stands in a sorted list twice, or NULL. */
const char *names_twice(const struct names *n);

/* Each of the following returns an exit code; message is set unless EXIT_OK. */

/* Appends the sorted names of the directories (or of the files) in path; those that begin with
 * '.' are passed over. suffix: only names that end in it, or NULL. */
int names_of_directory(const char *path, int directories, const char *suffix, struct names *out,
                       char *message, size_t size);

/* Appends the lines of a text file of at most 64 MiB, without line ends and empty lines. ended: the
 * last line, too, has to have an end; without one the file is taken for a truncated one. */
int names_of_lines(const char *path, int ended, struct names *out, char *message, size_t size);

/* Copies the names of the classes into set->class_names, which are NULL before. */
int data_set_name(struct data_set *set, const struct names *classes, char *message, size_t size);

/* A file of records: *count of them. One that is missing, empty, or no whole number of records
 * long, is EXIT_DATA. The stream is the caller's to close, also after an error. */
int records_open(const char *path, size_t bytes, FILE **file, size_t *count, char *message,
                 size_t size);

#endif
