/* data_folder.c - a directory of classes: DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE.
 *
 * The classes are the names below train and test together, sorted by their bytes; a class found
 * below test alone can serve as an unknown one. Names that begin with '.' are passed over. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data_files.h"
#include "exit_codes.h"

enum { MAX_CLASSES = 10000 };

static void drop_duplicates(struct names *n)
{
    size_t kept = 0;
    names_sort(n);
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
    char path[DATA_PATH / 2];
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
        char path[DATA_PATH];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", p->path, classes->name[c]);
        p->first[c] = p->files.count;
        if (stat(path, &info) == 0) {
            int code = names_of_directory(path, 0, NULL, &p->files, message, size);
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
    if (code == EXIT_OK)
        code = data_set_name(set, classes, message, size);
    for (size_t c = 0; code == EXIT_OK && c < classes->count; c++) {
        for (size_t i = p->first[c]; code == EXIT_OK && i < p->first[c + 1]; i++) {
            char path[DATA_PATH + 512];
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
        char path[DATA_PATH + 512];
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

/* The classes below both parts, or below test alone (train NULL). */
static int list_classes(const struct part *train, const struct part *test, struct names *classes,
                        char *message, size_t size)
{
    int code = EXIT_OK;
    if (train)
        code = names_of_directory(train->path, 1, NULL, classes, message, size);
    if (code == EXIT_OK)
        code = names_of_directory(test->path, 1, NULL, classes, message, size);
    drop_duplicates(classes);
    if (code == EXIT_OK && (classes->count == 0 || classes->count > MAX_CLASSES)) {
        snprintf(message, size, "%s: %zu classes (1 to %d are read)", test->path, classes->count,
                 MAX_CLASSES);
        code = EXIT_DATA;
    }
    return code;
}

int data_open_folder(const char *rest, const struct data_wish *wish, struct data *out,
                     char *message, size_t message_size)
{
    struct names classes = {0};
    struct part train, test, *first = wish->test_only ? &test : &train;
    int code, both = !wish->test_only;
    if (wish->size < 0 || wish->size > DATA_MAX_SIDE ||
        (wish->channels != 0 && wish->channels != 1 && wish->channels != 3)) {
        snprintf(message, message_size, "a folder has sides up to %d and 1 or 3 channels",
                 DATA_MAX_SIDE);
        return EXIT_USAGE;
    }
    memset(&train, 0, sizeof train);
    memset(&test, 0, sizeof test);
    snprintf(train.path, sizeof train.path, "%s/train", rest);
    snprintf(test.path, sizeof test.path, "%s/test", rest);
    code = list_classes(both ? &train : NULL, &test, &classes, message, message_size);
    if (code == EXIT_OK && both)
        code = list_part(&train, &classes, message, message_size);
    if (code == EXIT_OK)
        code = list_part(&test, &classes, message, message_size);
    if (code == EXIT_OK)
        code = settle_shape(first, &classes, wish->size, wish->channels, out, message,
                            message_size);
    if (code == EXIT_OK && both)
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
