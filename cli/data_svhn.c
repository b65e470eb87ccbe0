/* data_svhn.c - Street View House Numbers, cropped digits: train_32x32.mat and test_32x32.mat.
 *
 * MATLAB files of version 5 with X, uint8 [32, 32, 3, N] in column-major order, and y, [N, 1],
 * where digit 0 has label 10. They are read through libmatio. That library reports neither every
 * cut nor a wrong checksum of what is compressed, so the file's elements are walked first. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <stdio.h>

#include "exit_codes.h"

#ifndef OSR_MATIO

int data_open_svhn(const char *rest, const struct data_wish *wish, struct data *out, char *message,
                   size_t message_size)
{
    (void)rest;
    (void)wish;
    (void)out;
    snprintf(message, message_size, "this osr was built without libmatio, which svhn needs "
             "(install libmatio-dev and pkg-config, then configure and build again)");
    return EXIT_USAGE;
}

#else

#include <errno.h>
#include <limits.h>
#include <matio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "data_files.h"

enum {
    SIDE = 32, PLANE = SIDE * SIDE, IMAGE = 3 * PLANE, CLASSES = 10,
    HEADER = 128, TAG = 8,
    RATIO = 1032 /* the most that deflate can expand */
};

static uint32_t little32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Inflates an element of length bytes from where the file stands, for zlib's checks alone. */
static int check_stream(FILE *file, uint32_t length, const char *path, char *message, size_t size)
{
    uint8_t in[16384], out[65536];
    z_stream z;
    int state = Z_OK;
    memset(&z, 0, sizeof z);
    if (inflateInit(&z) != Z_OK) {
        snprintf(message, size, "out of memory");
        return EXIT_MEMORY;
    }
    while (state == Z_OK) {
        if (z.avail_in == 0) {
            size_t want = length < sizeof in ? length : sizeof in;
            z.avail_in = (unsigned)fread(in, 1, want, file);
            z.next_in = in;
            length -= z.avail_in;
        }
        z.next_out = out;
        z.avail_out = sizeof out;
        state = inflate(&z, Z_NO_FLUSH); /* Z_BUF_ERROR where the input ends */
    }
    inflateEnd(&z);
    if (state == Z_STREAM_END)
        return EXIT_OK;
    snprintf(message, size, "%s: the compressed data are damaged", path);
    return EXIT_DATA;
}

/* A little-endian file of version 5 is a header, then elements: type, length, contents. They have
 * to end where the file ends. */
static int walk(FILE *file, const char *path, uint64_t end, char *message, size_t size)
{
    uint8_t head[HEADER];
    uint64_t at = HEADER;
    if (fread(head, 1, HEADER, file) != HEADER) {
        snprintf(message, size, "%s: the file is truncated", path);
        return EXIT_DATA;
    }
    if (head[124] != 0 || head[125] != 1 || head[126] != 'I' || head[127] != 'M') {
        snprintf(message, size, "%s: not a little-endian MATLAB file of version 5", path);
        return EXIT_DATA;
    }
    while (at < end) {
        if (end - at < TAG || fseeko(file, (off_t)at, SEEK_SET) != 0 ||
            fread(head, 1, TAG, file) != TAG || little32(head + 4) > end - at - TAG) {
            snprintf(message, size, "%s: the file is truncated", path);
            return EXIT_DATA;
        }
        if (little32(head) != MAT_T_COMPRESSED && little32(head) != MAT_T_MATRIX) {
            snprintf(message, size, "%s: byte %llu begins no MATLAB variable", path,
                     (unsigned long long)at);
            return EXIT_DATA;
        }
        at += TAG + little32(head + 4);
        if (little32(head) == MAT_T_COMPRESSED) {
            int code = check_stream(file, little32(head + 4), path, message, size);
            if (code)
                return code;
        }
    }
    return EXIT_OK;
}

/* *bytes: length of the file. */
static int check_file(const char *path, uint64_t *bytes, char *message, size_t size)
{
    struct stat info;
    FILE *file = fopen(path, "rb");
    int code;
    if (!file || fstat(fileno(file), &info) != 0) {
        snprintf(message, size, "%s: %s", path, strerror(errno));
        if (file)
            fclose(file);
        return EXIT_DATA;
    }
    *bytes = (uint64_t)info.st_size;
    code = walk(file, path, *bytes, message, size);
    fclose(file);
    return code;
}

static int complain(const char *path, const char *text, char *message, size_t size)
{
    snprintf(message, size, "%s: %s", path, text);
    return EXIT_DATA;
}

/* All of a variable into out, in its file's order. */
static int read_values(mat_t *mat, matvar_t *v, const char *path, void *out, char *message,
                       size_t size)
{
    int start[4] = {0}, stride[4] = {1, 1, 1, 1}, edge[4];
    char text[64];
    for (int i = 0; i < v->rank; i++)
        edge[i] = (int)v->dims[i];
    if (Mat_VarReadData(mat, v, out, start, stride, edge) == 0)
        return EXIT_OK;
    snprintf(text, sizeof text, "variable %s is damaged", v->name);
    return complain(path, text, message, size);
}

/* X into pixels: [32, 32, 3, N] column-major is N images of three planes of columns. */
static int read_images(mat_t *mat, const char *path, uint64_t bytes, struct data_set *set,
                       char *message, size_t size)
{
    matvar_t *v = Mat_VarReadInfo(mat, "X");
    uint8_t image[IMAGE];
    int code;
    if (!v)
        return complain(path, "no variable X", message, size);
    if (v->class_type != MAT_C_UINT8 || v->isComplex || v->rank != 4 || v->dims[0] != SIDE ||
        v->dims[1] != SIDE || v->dims[2] != 3 || v->dims[3] < 1 || v->dims[3] > INT_MAX / IMAGE) {
        Mat_VarFree(v);
        return complain(path, "X is not uint8 [32, 32, 3, N]", message, size);
    }
    set->count = v->dims[3];
    if (set->count * IMAGE > bytes * RATIO) {
        Mat_VarFree(v);
        return complain(path, "the file is too short for the X it announces", message, size);
    }
    set->width = set->height = SIDE;
    set->channels = 3;
    set->class_count = CLASSES;
    code = data_set_allocate(set, message, size);
    if (code == EXIT_OK)
        code = read_values(mat, v, path, set->pixels, message, size);
    Mat_VarFree(v);
    for (size_t i = 0; code == EXIT_OK && i < set->count; i++) {
        uint8_t *to = set->pixels + i * IMAGE;
        memcpy(image, to, IMAGE);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                for (int c = 0; c < 3; c++)
                    *to++ = image[c * PLANE + x * SIDE + y];
    }
    return code;
}

/* The labels as doubles or bytes; NaN and fractions are wrong ones, too. */
static int take_labels(const char *path, const void *values, int bytes_each, struct data_set *set,
                       char *message, size_t size)
{
    for (size_t i = 0; i < set->count; i++) {
        double label = bytes_each == 1 ? ((const uint8_t *)values)[i] : ((const double *)values)[i];
        if (!(label >= 1 && label <= CLASSES) || label > (int)label) {
            snprintf(message, size, "%s: label %g of image %zu (1 to 10 are digits)", path, label,
                     i);
            return EXIT_DATA;
        }
        set->labels[i] = (int32_t)label % CLASSES;
    }
    return EXIT_OK;
}

static int read_labels(mat_t *mat, const char *path, struct data_set *set, char *message,
                       size_t size)
{
    matvar_t *v = Mat_VarReadInfo(mat, "y");
    void *values;
    int code, bytes_each;
    if (!v)
        return complain(path, "no variable y", message, size);
    bytes_each = v->class_type == MAT_C_UINT8 ? 1 : 8;
    if ((v->class_type != MAT_C_UINT8 && v->class_type != MAT_C_DOUBLE) || v->isComplex ||
        v->rank != 2 || v->dims[0] != set->count || v->dims[1] != 1) {
        char text[96];
        snprintf(text, sizeof text, "y is not uint8 or double [%zu, 1], a label for each image",
                 set->count);
        Mat_VarFree(v);
        return complain(path, text, message, size);
    }
    values = calloc(set->count, (size_t)bytes_each);
    if (values) {
        code = read_values(mat, v, path, values, message, size);
        if (code == EXIT_OK)
            code = take_labels(path, values, bytes_each, set, message, size);
    } else {
        snprintf(message, size, "out of memory");
        code = EXIT_MEMORY;
    }
    free(values);
    Mat_VarFree(v);
    return code;
}

static int read_file(const char *dir, const char *name, struct data_set *set, char *message,
                     size_t size)
{
    char path[DATA_PATH];
    uint64_t bytes;
    mat_t *mat;
    int code;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    code = check_file(path, &bytes, message, size);
    if (code)
        return code;
    mat = Mat_Open(path, MAT_ACC_RDONLY);
    if (!mat)
        return complain(path, "libmatio cannot open it", message, size);
    code = read_images(mat, path, bytes, set, message, size);
    if (code == EXIT_OK)
        code = read_labels(mat, path, set, message, size);
    Mat_Close(mat);
    for (int c = 0; code == EXIT_OK && c < CLASSES; c++) {
        char digit[2] = {(char)('0' + c), '\0'};
        set->class_names[c] = strdup(digit);
        if (!set->class_names[c]) {
            snprintf(message, size, "out of memory");
            code = EXIT_MEMORY;
        }
    }
    return code;
}

int data_open_svhn(const char *rest, const struct data_wish *wish, struct data *out, char *message,
                   size_t message_size)
{
    int code = EXIT_OK;
    if (!wish->test_only)
        code = read_file(rest, "train_32x32.mat", &out->train, message, message_size);
    return code ? code : read_file(rest, "test_32x32.mat", &out->test, message, message_size);
}

#endif
