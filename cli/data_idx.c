/* data_idx.c - the IDX files of MNIST and its relatives.
 *
 * A file is a big-endian header (magic 0x000008DD: bytes, DD dimensions; then one 32-bit size for
 * each dimension), then the bytes. Files may be gzipped. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "exit_codes.h"

enum { GZIP_RATIO = 1032 }; /* the most that deflate can expand */

struct idx {
    char path[DATA_SPEC + 64];
    gzFile file;
    uint32_t size[4];
    uint64_t payload; /* bytes behind the header */
};

/* "<dir>/<part>-<what>-idxN-ubyte", also with '.' before idx and with ".gz". */
static int idx_find(struct idx *f, const char *dir, const char *part, const char *what, int dims)
{
    static const char *const separators[] = {"-", "."}, *const suffixes[] = {"", ".gz"};
    struct stat info;
    for (int i = 0; i < 4; i++) {
        snprintf(f->path, sizeof f->path, "%s/%s-%s%sidx%d-ubyte%s", dir, part, what,
                 separators[i / 2], dims, suffixes[i % 2]);
        if (stat(f->path, &info) == 0)
            return 1;
    }
    return 0;
}

/* Reads exactly count bytes. gzread also takes plain files, as they are. */
static int idx_bytes(struct idx *f, void *out, uint64_t count, char *message, size_t size)
{
    uint8_t *to = out;
    int error = Z_OK;
    while (count > 0) {
        unsigned want = count < 1u << 24 ? (unsigned)count : 1u << 24;
        int got = gzread(f->file, to, want);
        if (got <= 0) {
            const char *text = gzerror(f->file, &error);
            if (error == Z_ERRNO) {
                snprintf(message, size, "%s: %s", f->path, strerror(errno));
                return EXIT_IO;
            }
            if (error == Z_OK || error == Z_BUF_ERROR || error == Z_STREAM_END)
                text = "the file is truncated";
            snprintf(message, size, "%s: %s", f->path, text);
            return EXIT_DATA;
        }
        to += got;
        count -= (uint64_t)got;
    }
    return EXIT_OK;
}

/* Nothing may follow; reading the end is also what checks the CRC of a gzip file. */
static int idx_end(struct idx *f, char *message, size_t size)
{
    char byte;
    int error = Z_OK, got = gzread(f->file, &byte, 1);
    const char *text = gzerror(f->file, &error);
    if (got > 0)
        text = "the file goes on behind the data that its header announces";
    else if (error == Z_BUF_ERROR)
        text = "the file is truncated";
    else if (got == 0 && (error == Z_OK || error == Z_STREAM_END))
        return EXIT_OK;
    snprintf(message, size, "%s: %s", f->path, text);
    return EXIT_DATA;
}

/* The header may announce no more than the file can hold, so that what is allocated stays in
 * proportion to the file. */
static int idx_check_size(struct idx *f, int dims, uint64_t header, char *message, size_t size)
{
    struct stat info;
    uint64_t limit, total = 1;
    if (stat(f->path, &info) != 0) {
        snprintf(message, size, "%s: %s", f->path, strerror(errno));
        return EXIT_IO;
    }
    limit = (uint64_t)info.st_size * (gzdirect(f->file) ? 1 : GZIP_RATIO);
    for (int i = 0; i < dims; i++) {
        if (i > 0 && (f->size[i] < 1 || f->size[i] > DATA_MAX_SIDE)) {
            snprintf(message, size, "%s: images of side %u (1 to %d are read)", f->path,
                     (unsigned)f->size[i], DATA_MAX_SIDE);
            return EXIT_DATA;
        }
        total *= f->size[i];
        if (total + header > limit) {
            snprintf(message, size, "%s: the file is too short for what its header announces",
                     f->path);
            return EXIT_DATA;
        }
    }
    f->payload = total;
    return EXIT_OK;
}

static int idx_header(struct idx *f, int dims, char *message, size_t size)
{
    uint8_t head[4 + 4 * 4];
    uint64_t header = 4 + 4 * (uint64_t)dims;
    uint32_t magic;
    int code;
    f->file = gzopen(f->path, "rb");
    if (!f->file) {
        snprintf(message, size, "%s: %s", f->path, errno ? strerror(errno) : "cannot be opened");
        return EXIT_IO;
    }
    code = idx_bytes(f, head, header, message, size);
    if (code)
        return code;
    magic = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    if (magic != (0x800u | (unsigned)dims)) {
        snprintf(message, size, "%s: the magic number is 0x%08x, not 0x%08x", f->path,
                 (unsigned)magic, 0x800u | (unsigned)dims);
        return EXIT_DATA;
    }
    for (int i = 0; i < dims; i++) {
        const uint8_t *p = head + 4 + 4 * i;
        f->size[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    if (f->size[0] == 0 || f->size[0] > INT32_MAX) {
        snprintf(message, size, "%s: the header announces %u items", f->path,
                 (unsigned)f->size[0]);
        return EXIT_DATA;
    }
    return idx_check_size(f, dims, header, message, size);
}

static int idx_images(struct idx *f, const char *dir, const char *part, struct data_set *set,
                      char *message, size_t size)
{
    int dims = 3, code;
    if (!idx_find(f, dir, part, "images", 3)) {
        if (!idx_find(f, dir, part, "images", 4)) {
            snprintf(message, size, "%s/%s-images-idx3-ubyte[.gz]: no such file", dir, part);
            return EXIT_DATA;
        }
        dims = 4;
    }
    code = idx_header(f, dims, message, size);
    if (code)
        return code;
    set->count = f->size[0];
    set->height = (int)f->size[1];
    set->width = (int)f->size[2];
    set->channels = dims == 4 ? (int)f->size[3] : 1;
    if (set->channels != 1 && set->channels != 3) {
        snprintf(message, size, "%s: %d channels (1 and 3 are read)", f->path, set->channels);
        return EXIT_DATA;
    }
    code = data_set_allocate(set, message, size);
    if (code == EXIT_OK)
        code = idx_bytes(f, set->pixels, f->payload, message, size);
    return code ? code : idx_end(f, message, size);
}

static int idx_labels(struct idx *f, const char *dir, const char *part, struct data_set *set,
                      char *message, size_t size)
{
    uint8_t *bytes;
    int code;
    if (!idx_find(f, dir, part, "labels", 1)) {
        snprintf(message, size, "%s/%s-labels-idx1-ubyte[.gz]: no such file", dir, part);
        return EXIT_DATA;
    }
    code = idx_header(f, 1, message, size);
    if (code)
        return code;
    if (f->size[0] != set->count) {
        snprintf(message, size, "%s: %u labels for %zu images", f->path, (unsigned)f->size[0],
                 set->count);
        return EXIT_DATA;
    }
    bytes = malloc(set->count);
    if (!bytes) {
        snprintf(message, size, "out of memory for %zu labels", set->count);
        return EXIT_MEMORY;
    }
    code = idx_bytes(f, bytes, set->count, message, size);
    if (code == EXIT_OK)
        code = idx_end(f, message, size);
    for (size_t i = 0; code == EXIT_OK && i < set->count; i++)
        set->labels[i] = bytes[i];
    free(bytes);
    return code;
}

static int idx_part(const char *dir, const char *part, struct data_set *set, char *message,
                    size_t size)
{
    struct idx images = {{0}, NULL, {0}, 0}, labels = images;
    int code = idx_images(&images, dir, part, set, message, size);
    if (code == EXIT_OK)
        code = idx_labels(&labels, dir, part, set, message, size);
    if (images.file)
        gzclose_r(images.file);
    if (labels.file)
        gzclose_r(labels.file);
    return code;
}

/* Classes are the labels 0 .. largest. A label with a gap below it is taken for a damaged byte;
 * 0 alone may be missing (EMNIST letters begin at 1). */
static int idx_classes(struct data *out, char *message, size_t size)
{
    size_t seen[256] = {0};
    int largest = 0;
    struct data_set *sets[2] = {&out->train, &out->test};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < sets[s]->count; i++) {
            int label = sets[s]->labels[i];
            seen[label]++;
            largest = label > largest ? label : largest;
        }
    for (int c = 1; c < largest; c++)
        if (!seen[c]) {
            snprintf(message, size, "labels go up to %d, but no image has label %d", largest, c);
            return EXIT_DATA;
        }
    for (int s = 0; s < 2; s++) {
        char **names = calloc((size_t)largest + 2, sizeof *names);
        int complete = names != NULL;
        for (int c = 0; names && c <= largest; c++) {
            char text[16];
            snprintf(text, sizeof text, "%d", c);
            names[c] = strdup(text);
            complete = complete && names[c];
        }
        free(sets[s]->class_names);
        sets[s]->class_names = names;
        sets[s]->class_count = names ? largest + 1 : 0;
        if (!complete) {
            snprintf(message, size, "out of memory");
            return EXIT_MEMORY;
        }
    }
    return EXIT_OK;
}

int data_open_idx(const char *rest, const struct data_wish *wish, struct data *out, char *message,
                  size_t message_size)
{
    int code = EXIT_OK;
    if (!wish->test_only)
        code = idx_part(rest, "train", &out->train, message, message_size);
    if (code == EXIT_OK)
        code = idx_part(rest, "t10k", &out->test, message, message_size);
    if (code == EXIT_OK && !wish->test_only && (out->train.width != out->test.width ||
                                                out->train.height != out->test.height ||
                                                out->train.channels != out->test.channels)) {
        snprintf(message, message_size, "%s: training and test images differ in size", rest);
        code = EXIT_DATA;
    }
    return code ? code : idx_classes(out, message, message_size);
}
