/* data.h - image data sets in memory, single images, and the batches made of them. */
#ifndef CLI_DATA_H
#define CLI_DATA_H

#include <stddef.h>
#include <stdint.h>

enum { DATA_SPEC = 1024, DATA_MAX_SIDE = 8192 };

/* One set of images of one size. */
struct data_set {
    char spec[DATA_SPEC];   /* "idx:DIR" as given */
    int width, height;
    int channels;           /* 1 grey, 3 RGB */
    size_t count;           /* N */
    uint8_t *pixels;        /* [N, height, width, channels] */
    int32_t *labels;        /* [N], 0 .. class_count - 1 */
    int class_count;
    char **class_names;     /* [class_count] */
};

struct data {
    struct data_set train, test; /* the same classes, in the same order */
};

/* Reads "glyphs", "glyphs:TRAIN,TEST" (numbers of images), "idx:DIR", "folder:DIR", "cifar10:DIR",
 * "cifar100:DIR", "svhn:DIR", "tinyimagenet:DIR", "tinyimagenet:DIR,order=wnids".
 *
 *   seed      of drawn data
 *   size      side in pixels of the images of a folder; 0: the shorter side of the first image.
 *             The others keep their own size
 *   channels  1 or 3 for a folder; 0: as the first image. The others keep their own
 *   returns   an exit code; message is set unless EXIT_OK, and out is then empty */
int data_open(const char *spec, uint64_t seed, int size, int channels, struct data *out,
              char *message, size_t message_size);
void data_close(struct data *data);

/* As data_open, the test images only, as unknown ones: every class is called "unknown KIND/NAME",
 * which no class of data_open is. */
int data_open_unknown(const char *spec, uint64_t seed, int size, int channels,
                      struct data_set *out, char *message, size_t message_size);

/* ---- kinds of data ---- */

struct data_wish {
    uint64_t seed;
    int size, channels; /* as for data_open */
    int test_only;      /* out->train is not looked at, and may stay empty */
};

/* rest: what follows "kind:", not empty unless the kind goes without (then NULL). On failure the
 * caller frees what out holds. */
typedef int data_reader(const char *rest, const struct data_wish *wish, struct data *out,
                        char *message, size_t message_size);
data_reader data_open_glyphs, data_open_idx, data_open_folder, data_open_cifar10,
    data_open_cifar100, data_open_svhn, data_open_tiny;

/* For readers: pixels, labels and names of the counts set in the struct, zeroed. EXIT_OK or
 * EXIT_MEMORY with message. class_names holds class_count NULL pointers. */
int data_set_allocate(struct data_set *set, char *message, size_t message_size);
void data_set_free(struct data_set *set);

/* ---- single images ---- */

struct image {
    int width, height, channels;
    uint8_t *pixels; /* [height, width, channels], to be freed with image_free */
};

/* Decodes a PNG or JPEG file of at most 64 MiB and 32 million pixels.
 * channels: 1, 3, or 0 for what the file has (alpha dropped). An exit code. */
int image_read(const char *path, int channels, struct image *out, char *message,
               size_t message_size);
void image_free(struct image *image);

/* image_read, then the centre square, scaled to [size, size, channels] in out as data_open does
 * for folders: what predict gives to the network. channels: 1 or 3. An exit code. */
int image_load(const char *path, int size, int channels, uint8_t *out, char *message,
               size_t message_size);

/* The centre square of an image, scaled to size x size: means of whole blocks of pixels while the
 * square is at least twice as large, then bilinear with half-pixel centres, rounded. EXIT_OK or
 * EXIT_MEMORY. */
int image_square(const struct image *image, int size, uint8_t *out);

/* A PNG file of n images [n, height, width, channels] in rows of columns. An exit code. */
int image_write_grid(const char *path, const uint8_t *images, size_t n, int width, int height,
                     int channels, int columns, char *message, size_t message_size);

/* ---- batches ---- */

/* How images of one size become network inputs: resized bilinearly in float with half-pixel
 * centres (PyTorch's align_corners=False, no antialias), scaled to [0, 1], then
 * (x - mean[c]) / std[c]. Grey becomes RGB by repetition, RGB grey as 0.299 R + 0.587 G + 0.114 B.
 * Not to be used by two threads at a time (row buffers). */
struct fetch {
    int width, height, channels;             /* of the data set */
    int out_width, out_height, out_channels; /* of the network */
    int *x0, *y0;                            /* first of the two pixels mixed */
    float *wx, *wy;                          /* weight of the second, [out_width], [out_height] */
    float *rows;                             /* two resized rows */
    float scale[3], shift[3];                /* output = scale * pixel + shift */
};

/* mean, std: [channels] in the scale [0, 1], or both NULL. EXIT_OK, EXIT_USAGE, EXIT_MEMORY. */
int fetch_start(struct fetch *f, int width, int height, int channels, int out_size,
                int out_channels, const double *mean, const double *std);
void fetch_end(struct fetch *f);

/* One image [height, width, channels] to out [out_height, out_width, out_channels]. */
void fetch_image(struct fetch *f, const uint8_t *pixels, float *out);

/* Images set->pixels[index[i]], i < n, to out [n, out_height, out_width, out_channels]. */
void data_fetch(struct fetch *f, const struct data_set *set, const uint32_t *index, size_t n,
                float *out);

/* Mean and standard deviation (divisor: number of pixels) of each channel over the pixels, in the
 * scale [0, 1], of the images named by index, at their own size, after adaptation to channels (1
 * or 3). A channel without variation gets std 1. n > 0. */
void data_moments(const struct data_set *set, const uint32_t *index, size_t n, int channels,
                  double mean[3], double std[3]);

#endif
