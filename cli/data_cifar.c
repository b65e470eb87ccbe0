/* data_cifar.c - the binary versions of CIFAR-10 and CIFAR-100.
 *
 * A record is one label byte (CIFAR-10) or the coarse and the fine label (CIFAR-100; the fine one
 * is the class), then 32x32 values of red, as many of green and of blue, row by row. The training
 * records are 5 times the test records, in five files as long as the test file (CIFAR-10) or in
 * one; a file cut at the end of a record is found by that. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data_files.h"
#include "exit_codes.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, IMAGE = 3 * PLANE, COARSE = 20, FILES = 6 };

struct cifar {
    const char *kind;
    int label_bytes, classes;
    int files;               /* the last one is the test set */
    const char *file[FILES];
    const char *names;       /* the file of class names */
};

static const struct cifar cifar10 = {
    "cifar10", 1, 10, 6,
    {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
     "data_batch_5.bin", "test_batch.bin"}, "batches.meta.txt"};
static const struct cifar cifar100 = {
    "cifar100", 2, 100, 2, {"train.bin", "test.bin", NULL, NULL, NULL, NULL},
    "fine_label_names.txt"};

/* Of CIFAR-10, whose file of names may be missing. */
static const char *const names10[] = {"airplane", "automobile", "bird", "cat", "deer",
                                      "dog", "frog", "horse", "ship", "truck"};

struct open_file {
    char path[DATA_PATH];
    FILE *stream;
    size_t count;
};

static int read_names(const struct cifar *c, const char *dir, struct names *out, char *message,
                      size_t size)
{
    char path[DATA_PATH];
    struct names sorted = {0};
    int code = EXIT_OK;
    snprintf(path, sizeof path, "%s/%s", dir, c->names);
    if (c == &cifar10 && access(path, F_OK) != 0 && errno == ENOENT) {
        for (int i = 0; i < c->classes && code == EXIT_OK; i++)
            code = names_add(out, names10[i]) ? EXIT_MEMORY : EXIT_OK;
    } else {
        code = names_of_lines(path, 0, out, message, size);
        if (code)
            return code;
        if (out->count != (size_t)c->classes) {
            snprintf(message, size, "%s: %zu names of classes, not %d", path, out->count,
                     c->classes);
            return EXIT_DATA;
        }
    }
    for (size_t i = 0; i < out->count && code == EXIT_OK; i++)
        code = names_add(&sorted, out->name[i]) ? EXIT_MEMORY : EXIT_OK;
    names_sort(&sorted);
    if (code) {
        snprintf(message, size, "out of memory");
    } else if (names_twice(&sorted)) {
        snprintf(message, size, "%s: two classes are called '%.80s'", path, names_twice(&sorted));
        code = EXIT_DATA;
    }
    names_free(&sorted);
    return code;
}

/* The sizes of all files against each other, before anything is read. */
static int check_counts(const struct cifar *c, const struct open_file *f, int test_only,
                        char *message, size_t size)
{
    const struct open_file *test = &f[c->files - 1];
    size_t each = c == &cifar10 ? test->count : 5 * test->count;
    for (int i = 0; i < c->files - 1 && !test_only; i++)
        if (f[i].count != each) {
            snprintf(message, size, "%s: %zu images; %zu belong to the %zu of %s", f[i].path,
                     f[i].count, each, test->count, c->file[c->files - 1]);
            return EXIT_DATA;
        }
    return EXIT_OK;
}

static int check_labels(const struct cifar *c, const struct open_file *f, size_t at,
                        const uint8_t *record, int *coarse_of, char *message, size_t size)
{
    int fine = record[c->label_bytes - 1], coarse = c->label_bytes == 2 ? record[0] : 0;
    if (fine >= c->classes || coarse >= COARSE) {
        snprintf(message, size, "%s: image %zu has label %d (0 to %d are classes)", f->path, at,
                 fine >= c->classes ? fine : coarse, fine >= c->classes ? c->classes - 1
                                                                        : COARSE - 1);
        return EXIT_DATA;
    }
    if (coarse_of[fine] >= 0 && coarse_of[fine] != coarse) {
        snprintf(message, size, "%s: image %zu of class %d has coarse label %d, others %d", f->path,
                 at, fine, coarse, coarse_of[fine]);
        return EXIT_DATA;
    }
    coarse_of[fine] = coarse;
    return EXIT_OK;
}

/* Appends the records of a file to a set with room for them. */
static int read_records(const struct cifar *c, const struct open_file *f, struct data_set *set,
                        size_t first, int *coarse_of, char *message, size_t size)
{
    uint8_t record[2 + IMAGE];
    const size_t bytes = (size_t)c->label_bytes + IMAGE;
    for (size_t i = 0; i < f->count; i++) {
        uint8_t *to = set->pixels + (first + i) * IMAGE;
        const uint8_t *from = record + c->label_bytes;
        int code;
        if (fread(record, 1, bytes, f->stream) != bytes) {
            snprintf(message, size, "%s: ends or cannot be read in image %zu", f->path, i);
            return EXIT_DATA;
        }
        code = check_labels(c, f, i, record, coarse_of, message, size);
        if (code)
            return code;
        set->labels[first + i] = record[c->label_bytes - 1];
        for (int p = 0; p < PLANE; p++)
            for (int k = 0; k < 3; k++)
                *to++ = from[k * PLANE + p];
    }
    return EXIT_OK;
}

static int read_set(const struct cifar *c, const struct open_file *f, int files,
                    const struct names *names, int *coarse_of, struct data_set *set, char *message,
                    size_t size)
{
    size_t at = 0;
    int code;
    set->width = set->height = SIDE;
    set->channels = 3;
    set->class_count = c->classes;
    for (int i = 0; i < files; i++)
        set->count += f[i].count;
    code = data_set_allocate(set, message, size);
    if (code == EXIT_OK)
        code = data_set_name(set, names, message, size);
    for (int i = 0; i < files && code == EXIT_OK; i++) {
        code = read_records(c, &f[i], set, at, coarse_of, message, size);
        at += f[i].count;
    }
    return code;
}

static int cifar_open(const struct cifar *c, const char *dir, const struct data_wish *wish,
                      struct data *out, char *message, size_t size)
{
    struct open_file *f = calloc(FILES, sizeof *f);
    struct names names = {0};
    int coarse_of[100], last = c->files - 1, code = f ? EXIT_OK : EXIT_MEMORY;
    for (int i = 0; i < 100; i++)
        coarse_of[i] = -1;
    if (!f)
        snprintf(message, size, "out of memory");
    for (int i = wish->test_only ? last : 0; i < c->files && code == EXIT_OK; i++) {
        snprintf(f[i].path, sizeof f[i].path, "%s/%s", dir, c->file[i]);
        code = records_open(f[i].path, (size_t)c->label_bytes + IMAGE, &f[i].stream, &f[i].count,
                            message, size);
    }
    if (code == EXIT_OK)
        code = check_counts(c, f, wish->test_only, message, size);
    if (code == EXIT_OK)
        code = read_names(c, dir, &names, message, size);
    if (code == EXIT_OK && !wish->test_only)
        code = read_set(c, f, last, &names, coarse_of, &out->train, message, size);
    if (code == EXIT_OK)
        code = read_set(c, f + last, 1, &names, coarse_of, &out->test, message, size);
    for (int i = 0; f && i < FILES; i++)
        if (f[i].stream)
            fclose(f[i].stream);
    free(f);
    names_free(&names);
    return code;
}

int data_open_cifar10(const char *rest, const struct data_wish *wish, struct data *out,
                      char *message, size_t message_size)
{
    return cifar_open(&cifar10, rest, wish, out, message, message_size);
}

int data_open_cifar100(const char *rest, const struct data_wish *wish, struct data *out,
                       char *message, size_t message_size)
{
    return cifar_open(&cifar100, rest, wish, out, message, message_size);
}
