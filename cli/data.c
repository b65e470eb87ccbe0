#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit_codes.h"
#include "options.h"

static const struct data_kind {
    const char *name, *form;
    int bare; /* goes without ":..." */
    data_reader *open;
} kinds[] = {
    {"glyphs", "glyphs", 1, data_open_glyphs},
    {"idx", "idx:DIR", 0, data_open_idx},
    {"folder", "folder:DIR", 0, data_open_folder},
    {"cifar10", "cifar10:DIR", 0, data_open_cifar10},
    {"cifar100", "cifar100:DIR", 0, data_open_cifar100},
    {"svhn", "svhn:DIR", 0, data_open_svhn},
    {"tinyimagenet", "tinyimagenet:DIR[,order=wnids]", 0, data_open_tiny}};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

static int unknown_kind(const char *spec, size_t length, char *message, size_t size)
{
    const char *names[KIND_COUNT], *near;
    char word[64];
    size_t used;
    snprintf(word, sizeof word, "%.*s", (int)(length < 60 ? length : 60), spec);
    for (size_t i = 0; i < KIND_COUNT; i++)
        names[i] = kinds[i].name;
    near = nearest_name(word, names, KIND_COUNT);
    if (near) {
        snprintf(message, size, "unknown kind of data '%s', did you mean '%s'?", word, near);
        return EXIT_USAGE;
    }
    used = (size_t)snprintf(message, size, "unknown kind of data '%s'; there are", word);
    for (size_t i = 0; i < KIND_COUNT && used < size; i++)
        used += (size_t)snprintf(message + used, size - used, "%s %s", i ? "," : "", kinds[i].form);
    return EXIT_USAGE;
}

static int open_kind(const struct data_kind *kind, const char *spec, const struct data_wish *wish,
                     struct data *out, char *message, size_t message_size)
{
    const char *colon = strchr(spec, ':');
    int code = EXIT_USAGE;
    if (!kind->bare && (!colon || !colon[1]))
        snprintf(message, message_size, "%s wants a directory: %s", kind->name, kind->form);
    else
        code = kind->open(colon ? colon + 1 : NULL, wish, out, message, message_size);
    if (code) {
        data_close(out);
        return code;
    }
    strcpy(out->train.spec, spec);
    strcpy(out->test.spec, spec);
    return EXIT_OK;
}

static int open_wish(const char *spec, const struct data_wish *wish, struct data *out,
                     char *message, size_t message_size)
{
    size_t length = strcspn(spec, ":");
    memset(out, 0, sizeof *out);
    if (strlen(spec) >= DATA_SPEC) {
        snprintf(message, message_size, "the name of the data is longer than %d bytes",
                 DATA_SPEC - 1);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (strlen(kinds[i].name) == length && memcmp(kinds[i].name, spec, length) == 0)
            return open_kind(&kinds[i], spec, wish, out, message, message_size);
    return unknown_kind(spec, length, message, message_size);
}

int data_open(const char *spec, uint64_t seed, int size, int channels, struct data *out,
              char *message, size_t message_size)
{
    struct data_wish wish = {0};
    wish.seed = seed;
    wish.size = size;
    wish.channels = channels;
    return open_wish(spec, &wish, out, message, message_size);
}

int data_open_unknown(const char *spec, uint64_t seed, int size, int channels,
                      struct data_set *out, char *message, size_t message_size)
{
    struct data_wish wish = {0};
    struct data data;
    int code, kind = (int)strcspn(spec, ":");
    wish.seed = seed;
    wish.size = size;
    wish.channels = channels;
    wish.test_only = 1;
    memset(out, 0, sizeof *out);
    code = open_wish(spec, &wish, &data, message, message_size);
    if (code)
        return code;
    data_set_free(&data.train);
    *out = data.test;
    for (int c = 0; c < out->class_count; c++) {
        size_t bytes = strlen(out->class_names[c]) + (size_t)kind + sizeof "unknown /";
        char *name = malloc(bytes);
        if (!name) {
            snprintf(message, message_size, "out of memory");
            data_set_free(out);
            return EXIT_MEMORY;
        }
        snprintf(name, bytes, "unknown %.*s/%s", kind, spec, out->class_names[c]);
        free(out->class_names[c]);
        out->class_names[c] = name;
    }
    return EXIT_OK;
}

void data_close(struct data *data)
{
    data_set_free(&data->train);
    data_set_free(&data->test);
}

int data_set_allocate(struct data_set *set, char *message, size_t message_size)
{
    size_t image = (size_t)set->width * (size_t)set->height * (size_t)set->channels;
    if (image == 0 || set->count <= SIZE_MAX / 8 / image) {
        set->pixels = calloc(set->count ? set->count : 1, image ? image : 1);
        set->labels = calloc(set->count ? set->count : 1, sizeof *set->labels);
        set->class_names = calloc((size_t)set->class_count + 1, sizeof *set->class_names);
    }
    if (set->pixels && set->labels && set->class_names)
        return EXIT_OK;
    snprintf(message, message_size, "out of memory for %zu images of %dx%d", set->count, set->width,
             set->height);
    data_set_free(set);
    return EXIT_MEMORY;
}

void data_set_free(struct data_set *set)
{
    for (int c = 0; set->class_names && c < set->class_count; c++)
        free(set->class_names[c]);
    free(set->class_names);
    free(set->pixels);
    free(set->labels);
    memset(set, 0, sizeof *set);
}

/* ---- batches ---- */

/* Position i + 0.5 of n_out is (i + 0.5) * n_in / n_out in the source, whose pixel centres lie at
 * k + 0.5; the ends are clamped. */
static void resize_table(int n_in, int n_out, int *first, float *weight)
{
    for (int i = 0; i < n_out; i++) {
        double at = (i + 0.5) * n_in / n_out - 0.5;
        int low;
        if (at < 0)
            at = 0;
        low = (int)at;
        if (low > n_in - 2)
            low = n_in > 1 ? n_in - 2 : 0;
        first[i] = low;
        weight[i] = n_in > 1 ? (float)fmin(at - low, 1.0) : 0.0f;
    }
}

int fetch_start(struct fetch *f, int width, int height, int channels, int out_size,
                int out_channels, const double *mean, const double *std)
{
    size_t n = (size_t)out_size;
    memset(f, 0, sizeof *f);
    if (width < 1 || height < 1 || out_size < 1 || (channels != 1 && channels != 3) ||
        (out_channels != 1 && out_channels != 3))
        return EXIT_USAGE;
    f->width = width;
    f->height = height;
    f->channels = channels;
    f->out_width = f->out_height = out_size;
    f->out_channels = out_channels;
    f->x0 = malloc(n * sizeof *f->x0);
    f->y0 = malloc(n * sizeof *f->y0);
    f->wx = malloc(n * sizeof *f->wx);
    f->wy = malloc(n * sizeof *f->wy);
    f->rows = malloc(2 * n * 3 * sizeof *f->rows + (size_t)width * 3 * sizeof *f->rows);
    if (!f->x0 || !f->y0 || !f->wx || !f->wy || !f->rows) {
        fetch_end(f);
        return EXIT_MEMORY;
    }
    resize_table(width, out_size, f->x0, f->wx);
    resize_table(height, out_size, f->y0, f->wy);
    for (int c = 0; c < out_channels; c++) {
        double m = mean ? mean[c] : 0.0, s = std ? std[c] : 1.0;
        f->scale[c] = (float)(1.0 / (255.0 * s));
        f->shift[c] = (float)(-m / s);
    }
    return EXIT_OK;
}

void fetch_end(struct fetch *f)
{
    free(f->x0);
    free(f->y0);
    free(f->wx);
    free(f->wy);
    free(f->rows);
    memset(f, 0, sizeof *f);
}

/* One source row as float in the output's channels but not yet its scale: [width, channels]. */
static void row_to_float(const struct fetch *f, const uint8_t *row, float *out)
{
    int n = f->width;
    if (f->channels == f->out_channels) {
        for (int i = 0; i < n * f->channels; i++)
            out[i] = (float)row[i];
    } else if (f->channels == 1) {
        for (int i = 0; i < n; i++)
            out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = (float)row[i];
    } else {
        for (int i = 0; i < n; i++)
            out[i] = (float)(0.299 * row[3 * i] + 0.587 * row[3 * i + 1] + 0.114 * row[3 * i + 2]);
    }
}

static void resize_row(const struct fetch *f, const uint8_t *row, float *line, float *out)
{
    int channels = f->out_channels;
    int step = f->width > 1 ? channels : 0;
    row_to_float(f, row, line);
    for (int x = 0; x < f->out_width; x++) {
        const float *p = line + f->x0[x] * channels;
        for (int c = 0; c < channels; c++)
            out[x * channels + c] = p[c] + f->wx[x] * (p[c + step] - p[c]);
    }
}

void fetch_image(struct fetch *f, const uint8_t *pixels, float *out)
{
    int channels = f->out_channels, n = f->out_width * channels;
    size_t stride = (size_t)f->width * (size_t)f->channels;
    float *upper = f->rows, *lower = f->rows + n, *line = f->rows + 2 * n;
    int have_upper = -1, have_lower = -1;
    for (int y = 0; y < f->out_height; y++) {
        int y0 = f->y0[y], y1 = f->height > 1 ? y0 + 1 : y0;
        float w = f->wy[y];
        if (y0 == have_lower) {
            float *t = upper;
            upper = lower;
            lower = t;
            have_upper = have_lower;
            have_lower = -1;
        }
        if (y0 != have_upper)
            resize_row(f, pixels + stride * (size_t)y0, line, upper);
        if (y1 != have_lower)
            resize_row(f, pixels + stride * (size_t)y1, line, lower);
        have_upper = y0;
        have_lower = y1;
        if (channels == 1) {
            for (int i = 0; i < n; i++)
                out[i] = (upper[i] + w * (lower[i] - upper[i])) * f->scale[0] + f->shift[0];
        } else {
            for (int i = 0; i < n; i++)
                out[i] = (upper[i] + w * (lower[i] - upper[i])) * f->scale[i % 3] + f->shift[i % 3];
        }
        out += n;
    }
}

void data_fetch(struct fetch *f, const struct data_set *set, const uint32_t *index, size_t n,
                float *out)
{
    size_t from = (size_t)set->width * (size_t)set->height * (size_t)set->channels;
    size_t to = (size_t)f->out_width * (size_t)f->out_height * (size_t)f->out_channels;
    for (size_t i = 0; i < n; i++)
        fetch_image(f, set->pixels + from * index[i], out + to * i);
}

/* Sums of an image are exact integers (grey in thousandths), so their order does not matter. */
static void image_sums(const uint8_t *p, size_t pixels, int from, int to, uint64_t sum[3],
                       uint64_t square[3])
{
    memset(sum, 0, 3 * sizeof *sum);
    memset(square, 0, 3 * sizeof *square);
    for (size_t i = 0; i < pixels; i++, p += from) {
        if (from == 3 && to == 1) {
            uint64_t v = 299u * (uint64_t)p[0] + 587u * (uint64_t)p[1] + 114u * (uint64_t)p[2];
            sum[0] += v;
            square[0] += v * v;
            continue;
        }
        for (int c = 0; c < from; c++) {
            sum[c] += p[c];
            square[c] += (uint64_t)p[c] * p[c];
        }
    }
}

void data_moments(const struct data_set *set, const uint32_t *index, size_t n, int channels,
                  double mean[3], double std[3])
{
    size_t pixels = (size_t)set->width * (size_t)set->height;
    int grey = set->channels == 3 && channels == 1;
    double sum[3] = {0}, square[3] = {0}, total = (double)n * (double)pixels;
    double unit = grey ? 255000.0 : 255.0;
    for (size_t i = 0; i < n; i++) {
        uint64_t s[3], q[3];
        image_sums(set->pixels + pixels * (size_t)set->channels * index[i], pixels, set->channels,
                   channels, s, q);
        for (int c = 0; c < 3; c++) {
            sum[c] += (double)s[c];
            square[c] += (double)q[c];
        }
    }
    for (int c = 0; c < 3; c++) {
        int from = set->channels == 3 && !grey ? c : 0;
        double m = sum[from] / total, v = square[from] / total - m * m;
        mean[c] = m / unit;
        std[c] = v > 1e-9 ? sqrt(v) / unit : 1.0;
    }
}
