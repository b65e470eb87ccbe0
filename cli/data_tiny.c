/* data_tiny.c - TinyImageNet as distributed: tinyimagenet:DIR[,order=sorted|wnids].
 *
 * wnids.txt names the classes, one WordNet name a line, and words.txt what they are called.
 * Training images are the files *.JPEG of train/WNID/images; the labelled validation images,
 * val/images with val/val_annotations.txt, are the test set. Classes are numbered by the sorted
 * WordNet names, or by the lines of wnids.txt. A class may lack training images: it can then only
 * be unknown. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data_files.h"
#include "exit_codes.h"

enum { SIDE = 64, IMAGE = SIDE * SIDE * 3, WNID = 9, MAX_CLASSES = 10000 };

struct tiny {
    char dir[DATA_SPEC];
    struct names wnids;   /* sorted */
    int *class_of;        /* [wnids.count], the class of a sorted name */
    struct names classes; /* "n01443537 goldfish", in the order of the classes */
    struct names files;   /* of one set, class after class or in the order of the annotations */
    int32_t *labels;      /* [files.count] */
};

static int no_memory(char *message, size_t size)
{
    snprintf(message, size, "out of memory");
    return EXIT_MEMORY;
}

static int is_wnid(const char *text)
{
    return strlen(text) == WNID && text[0] == 'n' && strspn(text + 1, "0123456789") == WNID - 1;
}

/* "DIR,order=wnids": the directory into dir; *by_line is set for that order. */
static int parse_rest(const char *rest, char *dir, size_t dir_size, int *by_line, char *message,
                      size_t size)
{
    const char *order = NULL;
    for (const char *at = strstr(rest, ",order="); at; at = strstr(at + 1, ",order="))
        order = at;
    snprintf(dir, dir_size, "%.*s", order ? (int)(order - rest) : (int)strlen(rest), rest);
    *by_line = order && strcmp(order, ",order=wnids") == 0;
    if (!order || *by_line || strcmp(order, ",order=sorted") == 0)
        return EXIT_OK;
    snprintf(message, size, "tinyimagenet: order=%.40s is neither sorted nor wnids", order + 7);
    return EXIT_USAGE;
}

/* ---- classes ---- */

static int read_wnids(struct tiny *t, int by_line, char *message, size_t size)
{
    char path[DATA_PATH];
    struct names lines = {0};
    int code;
    snprintf(path, sizeof path, "%s/wnids.txt", t->dir);
    code = names_of_lines(path, 1, &lines, message, size);
    for (size_t i = 0; i < lines.count && code == EXIT_OK; i++) {
        if (!is_wnid(lines.name[i])) {
            snprintf(message, size, "%s: '%.40s' is no WordNet name", path, lines.name[i]);
            code = EXIT_DATA;
        } else if (names_add(&t->wnids, lines.name[i])) {
            code = no_memory(message, size);
        }
    }
    names_sort(&t->wnids);
    if (code == EXIT_OK && (lines.count < 2 || lines.count > MAX_CLASSES)) {
        snprintf(message, size, "%s: %zu classes (2 to %d are read)", path, lines.count,
                 MAX_CLASSES);
        code = EXIT_DATA;
    } else if (code == EXIT_OK && names_twice(&t->wnids)) {
        snprintf(message, size, "%s: %s stands there twice", path, names_twice(&t->wnids));
        code = EXIT_DATA;
    }
    if (code == EXIT_OK && (t->class_of = calloc(lines.count, sizeof *t->class_of)) == NULL)
        code = no_memory(message, size);
    for (size_t i = 0; i < lines.count && code == EXIT_OK; i++)
        t->class_of[by_line ? (size_t)names_find(&t->wnids, lines.name[i]) : i] = (int)i;
    names_free(&lines);
    return code;
}

/* words.txt: "n01443537<tab>goldfish, Carassius auratus"; the first name is taken. */
static int read_words(struct tiny *t, char *message, size_t size)
{
    char path[DATA_PATH];
    struct names lines = {0};
    const size_t count = t->wnids.count;
    char **name = calloc(count, sizeof *name);
    int code;
    if (!name)
        return no_memory(message, size);
    snprintf(path, sizeof path, "%s/words.txt", t->dir);
    code = names_of_lines(path, 0, &lines, message, size);
    for (size_t i = 0; i < lines.count && code == EXIT_OK; i++) {
        char *line = lines.name[i];
        long at;
        if (strlen(line) < WNID + 2 || line[WNID] != '\t') {
            snprintf(message, size, "%s: line '%.40s' is not WNID, tab, words", path, line);
            code = EXIT_DATA;
            continue;
        }
        line[WNID] = '\0';
        at = names_find(&t->wnids, line);
        line[WNID] = ' ';
        line[WNID + 1 + strcspn(line + WNID + 1, ",")] = '\0';
        if (at >= 0)
            name[t->class_of[at]] = line;
    }
    for (size_t i = 0; i < count && code == EXIT_OK; i++) {
        if (!name[t->class_of[i]]) {
            snprintf(message, size, "%s: %s is missing", path, t->wnids.name[i]);
            code = EXIT_DATA;
        }
    }
    for (size_t i = 0; i < count && code == EXIT_OK; i++)
        if (names_add(&t->classes, name[i]))
            code = no_memory(message, size);
    names_free(&lines);
    free(name);
    return code;
}

/* ---- lists of images ---- */

static int grow_labels(struct tiny *t, char *message, size_t size)
{
    int32_t *more = realloc(t->labels, (t->files.count + 1) * sizeof *more);
    if (!more)
        return no_memory(message, size);
    t->labels = more;
    return EXIT_OK;
}

/* Appends the training images of the class of a sorted name, when there are any. */
static int list_class(struct tiny *t, size_t at, size_t *found, char *message, size_t size)
{
    char path[DATA_PATH], file[2 * DATA_PATH];
    struct names images = {0};
    struct stat info;
    size_t before = t->files.count;
    int code;
    *found = 0;
    snprintf(path, sizeof path, "%s/train/%s/images", t->dir, t->wnids.name[at]);
    if (stat(path, &info) != 0 && errno == ENOENT)
        return EXIT_OK;
    code = names_of_directory(path, 0, ".JPEG", &images, message, size);
    for (size_t i = 0; i < images.count && code == EXIT_OK; i++) {
        snprintf(file, sizeof file, "%s/%s", path, images.name[i]);
        if (names_add(&t->files, file))
            code = no_memory(message, size);
    }
    *found = images.count;
    names_free(&images);
    if (code == EXIT_OK)
        code = grow_labels(t, message, size);
    for (size_t i = before; i < t->files.count && code == EXIT_OK; i++)
        t->labels[i] = t->class_of[at];
    return code;
}

/* Classes with training images have the same number of them; a directory of no class is a sign of
 * a wnids.txt that was cut. */
static int list_train(struct tiny *t, char *message, size_t size)
{
    char path[DATA_PATH];
    struct names folders = {0};
    size_t each = 0, first = 0;
    int code;
    snprintf(path, sizeof path, "%s/train", t->dir);
    code = names_of_directory(path, 1, NULL, &folders, message, size);
    for (size_t i = 0; i < folders.count && code == EXIT_OK; i++)
        if (names_find(&t->wnids, folders.name[i]) < 0) {
            snprintf(message, size, "%s/%.40s: no class of wnids.txt", path, folders.name[i]);
            code = EXIT_DATA;
        }
    names_free(&folders);
    for (size_t i = 0; i < t->wnids.count && code == EXIT_OK; i++) {
        size_t found;
        code = list_class(t, i, &found, message, size);
        if (code == EXIT_OK && found > 0 && each == 0) {
            each = found;
            first = i;
        }
        if (code == EXIT_OK && found > 0 && found != each) {
            snprintf(message, size, "%s: %s has %zu images, %s has %zu", path, t->wnids.name[i],
                     found, t->wnids.name[first], each);
            code = EXIT_DATA;
        }
    }
    if (code == EXIT_OK && t->files.count == 0) {
        snprintf(message, size, "%s: no training images", path);
        code = EXIT_DATA;
    }
    return code;
}

/* One line of the annotations: image, WordNet name, four numbers of a box. Cuts the line after the
 * image; *at is the position of the class. 0: the line is wrong. */
static int parse_annotation(const struct tiny *t, char *line, long *at)
{
    char *field[6];
    int n = 0;
    for (char *p = line; p && n < 6; n++) {
        field[n] = p;
        p = strchr(p, '\t');
        if (p)
            *p++ = '\0';
        if (p && n == 5)
            return 0;
    }
    for (int i = 2; i < n; i++)
        if (!*field[i] || strspn(field[i], "0123456789") != strlen(field[i]))
            return 0;
    if (n < 6 || !*field[0] || strchr(field[0], '/'))
        return 0;
    *at = names_find(&t->wnids, field[1]);
    return *at >= 0;
}

/* Every class has as many test images as the others. */
static int check_test_counts(const struct tiny *t, const char *path, char *message, size_t size)
{
    size_t *found = calloc(t->wnids.count, sizeof *found);
    int code = EXIT_OK;
    if (!found)
        return no_memory(message, size);
    for (size_t i = 0; i < t->files.count; i++)
        found[t->labels[i]]++;
    for (size_t c = 1; c < t->wnids.count && code == EXIT_OK; c++)
        if (found[c] != found[0]) {
            snprintf(message, size, "%s: %zu images of class %s, %zu of %s", path, found[c],
                     t->classes.name[c], found[0], t->classes.name[0]);
            code = EXIT_DATA;
        }
    free(found);
    return code;
}

/* The annotations name each file of val/images once. */
static int list_test(struct tiny *t, char *message, size_t size)
{
    char path[DATA_PATH], images[DATA_PATH], file[2 * DATA_PATH];
    struct names lines = {0}, found = {0}, named = {0};
    int code;
    snprintf(path, sizeof path, "%s/val/val_annotations.txt", t->dir);
    snprintf(images, sizeof images, "%s/val/images", t->dir);
    code = names_of_lines(path, 1, &lines, message, size);
    if (code == EXIT_OK)
        code = names_of_directory(images, 0, ".JPEG", &found, message, size);
    t->labels = calloc(lines.count + 1, sizeof *t->labels);
    if (code == EXIT_OK && !t->labels)
        code = no_memory(message, size);
    for (size_t i = 0; i < lines.count && code == EXIT_OK; i++) {
        char text[48];
        long at = 0;
        snprintf(text, sizeof text, "%s", lines.name[i]);
        if (!parse_annotation(t, lines.name[i], &at)) {
            snprintf(message, size, "%s: '%s' is not IMAGE, WNID of wnids.txt, four numbers", path,
                     text);
            code = EXIT_DATA;
            continue;
        }
        t->labels[i] = t->class_of[at];
        snprintf(file, sizeof file, "%s/%.1000s", images, lines.name[i]);
        if (names_find(&found, lines.name[i]) < 0) {
            snprintf(message, size, "%s: no such file, but val_annotations.txt names it", file);
            code = EXIT_DATA;
        } else if (names_add(&t->files, file) || names_add(&named, file)) {
            code = no_memory(message, size);
        }
    }
    names_sort(&named);
    if (code == EXIT_OK && (named.count != found.count || names_twice(&named))) {
        snprintf(message, size, "%s: %zu lines%s for the %zu images of val/images", path,
                 named.count, names_twice(&named) ? ", some on one image," : "", found.count);
        code = EXIT_DATA;
    }
    names_free(&lines);
    names_free(&found);
    names_free(&named);
    return code ? code : check_test_counts(t, path, message, size);
}

/* ---- images ---- */

static int read_set(struct tiny *t, struct data_set *set, char *message, size_t size)
{
    int code;
    set->width = set->height = SIDE;
    set->channels = 3;
    set->count = t->files.count;
    set->class_count = (int)t->classes.count;
    code = data_set_allocate(set, message, size);
    if (code == EXIT_OK)
        code = data_set_name(set, &t->classes, message, size);
    for (size_t i = 0; i < set->count && code == EXIT_OK; i++) {
        struct image image;
        code = image_read(t->files.name[i], 3, &image, message, size);
        if (code)
            continue;
        if (image.width != SIDE || image.height != SIDE) {
            snprintf(message, size, "%s: %dx%d pixels, not 64x64", t->files.name[i], image.width,
                     image.height);
            code = EXIT_DATA;
        } else {
            memcpy(set->pixels + i * IMAGE, image.pixels, IMAGE);
            set->labels[i] = t->labels[i];
        }
        image_free(&image);
    }
    names_free(&t->files);
    free(t->labels);
    t->labels = NULL;
    return code;
}

int data_open_tiny(const char *rest, const struct data_wish *wish, struct data *out, char *message,
                   size_t message_size)
{
    struct tiny t;
    int by_line, code;
    memset(&t, 0, sizeof t);
    code = parse_rest(rest, t.dir, sizeof t.dir, &by_line, message, message_size);
    if (code == EXIT_OK)
        code = read_wnids(&t, by_line, message, message_size);
    if (code == EXIT_OK)
        code = read_words(&t, message, message_size);
    if (code == EXIT_OK && !wish->test_only) {
        code = list_train(&t, message, message_size);
        if (code == EXIT_OK)
            code = read_set(&t, &out->train, message, message_size);
    }
    if (code == EXIT_OK)
        code = list_test(&t, message, message_size);
    if (code == EXIT_OK)
        code = read_set(&t, &out->test, message, message_size);
    names_free(&t.wnids);
    names_free(&t.classes);
    names_free(&t.files);
    free(t.class_of);
    free(t.labels);
    return code;
}
