/* data_folder.c - a directory of classes: DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE.
 *
 * The classes are the names below train and test together, sorted by their bytes; a class found
 * below test alone can serve as an unknown one. Names that begin with '.' are passed over. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "exit_codes.h"

enum { PATH_BYTES = 4096, MAX_CLASSES = 10000 };

struct names {
    char **name;
    size_t count, capacity;
};

static void names_free(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->name[i]);
    free(n->name);
    memset(n, 0, sizeof *n);
}

static int names_add(struct names *n, const char *name)
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

/* Appends the sorted names of the directories (or of the files) in path. */
static int list(const char *path, int directories, struct names *out, char *message, size_t size)
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
        char whole[PATH_BYTES];
        struct stat info;
        int length = snprintf(whole, sizeof whole, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.')
            continue;
        if (length >= PATH_BYTES || stat(whole, &info) != 0) {
            snprintf(message, size, "%s: %s", whole, strerror(length < PATH_BYTES ? errno
                                                                                  : ENAMETOOLONG));
            code = EXIT_DATA;
        } else if ((S_ISDIR(info.st_mode) ? 1 : 0) == directories &&
                   names_add(out, entry->d_name)) {
            snprintf(message, size, "out of memory");
            code = EXIT_MEMORY;
        }
    }
    closedir(folder);
    if (out->count > before)
        qsort(out->name + before, out->count - before, sizeof *out->name, by_bytes);
    return code;
}

static void drop_duplicates(struct names *n)
{
    size_t kept = 0;
    if (n->count)
        qsort(n->name, n->count, sizeof *n->name, by_bytes);
    for (size_t i = 0; i < n->count; i++) {
        if (kept && strcmp(n->name[kept - 1], n->name[i]) == 0)
            free(n->name[i]);
        else
            n->name[kept++] = n->name[i];
    }
    n->count = kept;
}

/* The files of one part, class after class; first[c] is the first file of class c. */
struct part {
    char path[PATH_BYTES / 2];
    struct names files;
    size_t *first;
};

static int list_part(struct part *p, const struct names *classes, char *message, size_t size)
{
    p->first = calloc(classes->count + 1, sizeof *p->first);
    if (!p->first) {
        snprintf(message, size, "out of memory");
        return EXIT_MEMORY;
    }
    for (size_t c = 0; c < classes->count; c++) {
        char path[PATH_BYTES];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", p->path, classes->name[c]);
        p->first[c] = p->files.count;
        if (stat(path, &info) == 0) {
            int code = list(path, 0, &p->files, message, size);
            if (code)
                return code;
        }
    }
    p->first[classes->count] = p->files.count;
    if (p->files.count == 0) {
        snprintf(message, size, "%s: no images", p->path);
        return EXIT_DATA;
    }
    return EXIT_OK;
}

static int read_part(const struct part *p, const struct names *classes, struct data_set *set,
                     char *message, size_t size)
{
    size_t image = (size_t)set->width * (size_t)set->height * (size_t)set->channels;
    int code;
    set->count = p->files.count;
    set->class_count = (int)classes->count;
    code = data_set_allocate(set, message, size);
    for (size_t c = 0; code == EXIT_OK && c < classes->count; c++) {
        set->class_names[c] = strdup(classes->name[c]);
        if (!set->class_names[c]) {
            snprintf(message, size, "out of memory");
            return EXIT_MEMORY;
        }
        for (size_t i = p->first[c]; code == EXIT_OK && i < p->first[c + 1]; i++) {
            char path[PATH_BYTES + 512];
            snprintf(path, sizeof path, "%s/%s/%s", p->path, classes->name[c], p->files.name[i]);
            set->labels[i] = (int32_t)c;
            code = image_load(path, set->width, set->channels, set->pixels + i * image, message,
                              size);
        }
    }
    return code;
}

/* The first image decides what the caller left open. */
static int settle_shape(const struct part *p, const struct names *classes, int size, int channels,
                        struct data *out, char *message, size_t message_size)
{
    if (size == 0 || channels == 0) {
        char path[PATH_BYTES + 512];
        struct image image;
        size_t c = 0;
        int code;
        while (p->first[c + 1] == 0)
            c++;
        snprintf(path, sizeof path, "%s/%s/%s", p->path, classes->name[c], p->files.name[0]);
        code = image_read(path, 0, &image, message, message_size);
        if (code)
            return code;
        if (size == 0)
            size = image.width < image.height ? image.width : image.height;
        if (channels == 0)
            channels = image.channels;
        image_free(&image);
    }
    out->train.width = out->train.height = out->test.width = out->test.height = size;
    out->train.channels = out->test.channels = channels;
    return EXIT_OK;
}

static int list_classes(const struct part *train, const struct part *test, struct names *classes,
                        char *message, size_t size)
{
    int code = list(train->path, 1, classes, message, size);
    if (code == EXIT_OK)
        code = list(test->path, 1, classes, message, size);
    drop_duplicates(classes);
    if (code == EXIT_OK && (classes->count == 0 || classes->count > MAX_CLASSES)) {
        snprintf(message, size, "%s: %zu classes (1 to %d are read)", train->path, classes->count,
                 MAX_CLASSES);
        code = EXIT_DATA;
    }
    return code;
}

int data_open_folder(const char *rest, uint64_t seed, int size, int channels, struct data *out,
                     char *message, size_t message_size)
{
    struct names classes = {0};
    struct part train, test;
    int code;
    (void)seed;
    if (!rest || !*rest || size < 0 || size > DATA_MAX_SIDE ||
        (channels != 0 && channels != 1 && channels != 3)) {
        snprintf(message, message_size, "folder wants a directory (folder:DIR), sides up to %d and "
                 "1 or 3 channels", DATA_MAX_SIDE);
        return EXIT_USAGE;
    }
    memset(&train, 0, sizeof train);
    memset(&test, 0, sizeof test);
    snprintf(train.path, sizeof train.path, "%s/train", rest);
    snprintf(test.path, sizeof test.path, "%s/test", rest);
    code = list_classes(&train, &test, &classes, message, message_size);
    if (code == EXIT_OK)
        code = list_part(&train, &classes, message, message_size);
    if (code == EXIT_OK)
        code = list_part(&test, &classes, message, message_size);
    if (code == EXIT_OK)
        code = settle_shape(&train, &classes, size, channels, out, message, message_size);
    if (code == EXIT_OK)
        code = read_part(&train, &classes, &out->train, message, message_size);
    if (code == EXIT_OK)
        code = read_part(&test, &classes, &out->test, message, message_size);
    names_free(&train.files);
    names_free(&test.files);
    names_free(&classes);
    free(train.first);
    free(test.first);
    return code;
}
