/* image.c - PNG and JPEG files through stb_image, and PNG output through stb_image_write.
 *
 * stb_image is not written for hostile files. It is held in: only these two formats, no file
 * access of its own, sizes checked before decoding, and an allocator with a limit. */
#define _POSIX_C_SOURCE 200809L

#include "data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit_codes.h"
#include "run_dir.h"

enum { FILE_LIMIT = 64 << 20, PIXEL_LIMIT = 32 << 20, DECODER_LIMIT = 256 << 20, HEAD = 16 };

/* ---- the decoder's memory; images are decoded by one thread at a time ---- */

static size_t decoder_used;

static void *decoder_resize(void *old, size_t size)
{
    char *block = old ? (char *)old - HEAD : NULL, *fresh;
    size_t before = 0;
    if (block)
        memcpy(&before, block, sizeof before);
    if (size > DECODER_LIMIT || decoder_used - before + size > DECODER_LIMIT)
        return NULL;
    fresh = realloc(block, size + HEAD);
    if (!fresh)
        return NULL;
    decoder_used += size - before;
    memcpy(fresh, &size, sizeof size);
    return fresh + HEAD;
}

static void decoder_free(void *old)
{
    size_t size;
    if (!old)
        return;
    memcpy(&size, (char *)old - HEAD, sizeof size);
    decoder_used -= size;
    free((char *)old - HEAD);
}

#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS 8192 /* DATA_MAX_SIDE */
#define STBI_MALLOC(size) decoder_resize(NULL, size)
#define STBI_REALLOC(old, size) decoder_resize(old, size)
#define STBI_FREE(old) decoder_free(old)
#define STB_IMAGE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_IMPLEMENTATION
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
#include "stb_image.h"
#include "stb_image_write.h"
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/* ---- reading ---- */

/* stb_image fills what a cut JPEG lacks with grey. Walks the segments to the scan, then looks for
 * the end marker; 0: it is missing. */
static int jpeg_is_whole(const uint8_t *p, size_t count)
{
    size_t at = 2;
    while (at + 4 <= count) {
        size_t length = (size_t)p[at + 2] << 8 | p[at + 3];
        if (p[at] != 0xff)
            return 1; /* not as expected: left to the decoder */
        if (p[at + 1] == 0xff) {
            at++;
            continue;
        }
        at += 2 + length;
        if (p[at - length - 1] == 0xda)
            break;
    }
    for (; at + 1 < count; at++)
        if (p[at] == 0xff && p[at + 1] == 0xd9)
            return 1;
    return 0;
}

static int image_decode(const char *path, const uint8_t *bytes, size_t count, int channels,
                        struct image *out, char *message, size_t message_size)
{
    int width, height, found;
    uint8_t *pixels;
    if (!stbi_info_from_memory(bytes, (int)count, &width, &height, &found)) {
        snprintf(message, message_size, "%s: not a PNG or JPEG image (%s)", path,
                 stbi_failure_reason());
        return EXIT_DATA;
    }
    if (width < 1 || height < 1 || width > DATA_MAX_SIDE || height > DATA_MAX_SIDE ||
        (long long)width * height > PIXEL_LIMIT) {
        snprintf(message, message_size, "%s: %dx%d pixels are too many", path, width, height);
        return EXIT_DATA;
    }
    if (bytes[0] == 0xff && !jpeg_is_whole(bytes, count)) {
        snprintf(message, message_size, "%s: the JPEG is truncated", path);
        return EXIT_DATA;
    }
    if (channels == 0)
        channels = found >= 3 ? 3 : 1;
    pixels = stbi_load_from_memory(bytes, (int)count, &width, &height, &found, channels);
    if (!pixels) {
        snprintf(message, message_size, "%s: %s", path, stbi_failure_reason());
        return EXIT_DATA;
    }
    out->width = width;
    out->height = height;
    out->channels = channels;
    out->pixels = pixels;
    return EXIT_OK;
}

int image_read(const char *path, int channels, struct image *out, char *message,
               size_t message_size)
{
    size_t count;
    int code;
    uint8_t *bytes = (uint8_t *)file_read(path, FILE_LIMIT, &count, message, message_size);
    memset(out, 0, sizeof *out);
    if (!bytes)
        return EXIT_DATA;
    code = image_decode(path, bytes, count, channels, out, message, message_size);
    free(bytes);
    return code;
}

void image_free(struct image *image)
{
    decoder_free(image->pixels);
    memset(image, 0, sizeof *image);
}

/* The centre square in means of factor x factor pixels: [side, side, channels]. */
static uint8_t *shrink(const struct image *image, int factor, int side)
{
    int channels = image->channels, area = factor * factor;
    int left = (image->width - side * factor) / 2, top = (image->height - side * factor) / 2;
    uint8_t *out = malloc((size_t)side * (size_t)side * (size_t)channels), *to = out;
    for (int y = 0; out && y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < channels; c++) {
                int sum = area / 2;
                for (int i = 0; i < area; i++) {
                    size_t row = (size_t)(top + y * factor + i / factor);
                    size_t column = (size_t)(left + x * factor + i % factor);
                    size_t pixel = row * (size_t)image->width + column;
                    sum += image->pixels[pixel * (size_t)channels + (size_t)c];
                }
                *to++ = (uint8_t)(sum / area);
            }
    return out;
}

int image_square(const struct image *image, int size, uint8_t *out)
{
    int shorter = image->width < image->height ? image->width : image->height;
    int factor = shorter / size > 1 ? shorter / size : 1, side = shorter / factor;
    size_t values = (size_t)size * (size_t)size * (size_t)image->channels;
    uint8_t *square = shrink(image, factor, side);
    float *line = malloc(values * sizeof *line);
    struct fetch f = {0};
    int code = EXIT_MEMORY;
    if (square && line)
        code = fetch_start(&f, side, side, image->channels, size, image->channels, NULL, NULL);
    if (code == EXIT_OK) {
        fetch_image(&f, square, line);
        for (size_t i = 0; i < values; i++)
            out[i] = (uint8_t)(line[i] * 255.0f + 0.5f);
        fetch_end(&f);
    }
    free(square);
    free(line);
    return code;
}

int image_load(const char *path, int size, int channels, uint8_t *out, char *message,
               size_t message_size)
{
    struct image image;
    int code = image_read(path, channels, &image, message, message_size);
    if (code)
        return code;
    code = image_square(&image, size, out);
    if (code)
        snprintf(message, message_size, "%s: out of memory", path);
    image_free(&image);
    return code;
}

/* ---- writing ---- */

struct png_bytes {
    char *bytes;
    size_t count;
};

static void take_png(void *user, void *bytes, int count)
{
    struct png_bytes *png = user;
    png->bytes = malloc((size_t)count);
    if (!png->bytes)
        return;
    memcpy(png->bytes, bytes, (size_t)count);
    png->count = (size_t)count;
}

int image_write_grid(const char *path, const uint8_t *images, size_t n, int width, int height,
                     int channels, int columns, char *message, size_t message_size)
{
    size_t rows = (n + (size_t)columns - 1) / (size_t)columns;
    size_t line = (size_t)width * (size_t)channels, pitch = line * (size_t)columns;
    uint8_t *page = calloc(rows * (size_t)height, pitch);
    struct png_bytes png = {NULL, 0};
    int code = EXIT_MEMORY;
    for (size_t i = 0; page && i < n; i++)
        for (size_t y = 0; y < (size_t)height; y++)
            memcpy(page + (i / (size_t)columns * (size_t)height + y) * pitch +
                       i % (size_t)columns * line,
                   images + (i * (size_t)height + y) * line, line);
    if (page)
        stbi_write_png_to_func(take_png, &png, columns * width, (int)rows * height, channels, page,
                               (int)pitch);
    if (png.bytes)
        code = file_write(path, png.bytes, png.count, message, message_size);
    else
        snprintf(message, message_size, "%s: out of memory", path);
    free(png.bytes);
    free(page);
    return code;
}
