/* test_data.c - readers of data sets, drawn glyphs, batches, class splits. */
#define _POSIX_C_SOURCE 200809L

#include "test.h"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "data.h"
#include "exit_codes.h"
#include "philox.h"
#include "splits.h"

static char folder[256], message[2048];

static uint64_t fnv(const uint8_t *bytes, size_t count)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

static char *path_of(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_file(const char *name, const uint8_t *bytes, size_t count)
{
    FILE *file = fopen(path_of(name), "wb");
    if (!CHECK(file != NULL))
        return;
    CHECK(fwrite(bytes, 1, count, file) == count);
    CHECK(fclose(file) == 0);
}

static void put_gzip(const char *name, const uint8_t *bytes, size_t count)
{
    gzFile file = gzopen(path_of(name), "wb");
    CHECK(file && gzwrite(file, bytes, (unsigned)count) == (int)count && gzclose(file) == Z_OK);
}

static size_t get_file(const char *name, uint8_t *bytes, size_t limit)
{
    FILE *file = fopen(path_of(name), "rb");
    size_t n = file ? fread(bytes, 1, limit, file) : 0;
    if (file)
        fclose(file);
    return n;
}

static void remove_all(const char *name)
{
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", path_of(name));
    CHECK(system(command) == 0);
}

/* ---- IDX ---- */

enum { IMAGES = 6, SIDE = 4, IMAGE_BYTES = 16 + IMAGES * SIDE * SIDE, LABEL_BYTES = 8 + IMAGES };

static uint8_t image_file[IMAGE_BYTES], label_file[LABEL_BYTES];
static const char *const idx_names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                        "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

static void fill_idx(void)
{
    static const uint8_t head[16] = {0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    memcpy(image_file, head, 16);
    memcpy(label_file, head, 8);
    label_file[3] = 1;
    for (int i = 16; i < IMAGE_BYTES; i++)
        image_file[i] = (uint8_t)(i * 7);
    for (int i = 0; i < IMAGES; i++)
        label_file[8 + i] = (uint8_t)(i % 3);
}

static void write_idx(void)
{
    remove_all("idx");
    CHECK(mkdir(path_of("idx"), 0777) == 0);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "idx/%s", idx_names[i]);
        put_file(name, i % 2 ? label_file : image_file, i % 2 ? LABEL_BYTES : IMAGE_BYTES);
    }
}

static int open_idx(struct data *d)
{
    char spec[700];
    snprintf(spec, sizeof spec, "idx:%s", path_of("idx"));
    message[0] = '\0';
    return data_open(spec, 0, 0, 0, d, message, sizeof message);
}

/* The idx directory must be refused as bad data, with a message that holds text. */
static void refuse_idx(const char *text)
{
    struct data d;
    int code = open_idx(&d);
    if (!CHECK(code == EXIT_DATA) || !CHECK(strstr(message, text) != NULL))
        fprintf(stderr, "    %d '%s' lacks '%s'\n", code, message, text);
    CHECK(d.train.pixels == NULL && d.test.pixels == NULL);
    data_close(&d);
}

/* Replaces one file by its first count bytes with byte `at` set to value (at < 0: none). */
static void spoil(int which, size_t count, int at, int value)
{
    uint8_t bytes[IMAGE_BYTES + 1] = {0};
    char name[64];
    memcpy(bytes, which % 2 ? label_file : image_file, which % 2 ? LABEL_BYTES : IMAGE_BYTES);
    if (at >= 0)
        bytes[at] = (uint8_t)value;
    snprintf(name, sizeof name, "idx/%s", idx_names[which]);
    put_file(name, bytes, count);
}

static void test_idx_reads(void)
{
    struct data d;
    char from[700], to[700];
    write_idx();
    for (int variant = 0; variant < 3; variant++) {
        if (variant == 1) /* the other spelling */
            for (int i = 0; i < 4; i++) {
                snprintf(from, sizeof from, "%s/%s", path_of("idx"), idx_names[i]);
                snprintf(to, sizeof to, "%s", from);
                *(strstr(to, "-idx")) = '.';
                CHECK(rename(from, to) == 0);
            }
        if (variant == 2) {
            remove_all("idx");
            CHECK(mkdir(path_of("idx"), 0777) == 0);
            for (int i = 0; i < 4; i++) {
                snprintf(to, sizeof to, "idx/%s.gz", idx_names[i]);
                put_gzip(to, i % 2 ? label_file : image_file, i % 2 ? LABEL_BYTES : IMAGE_BYTES);
            }
        }
        CHECK(open_idx(&d) == EXIT_OK);
        CHECK(d.train.count == IMAGES && d.train.width == SIDE && d.train.height == SIDE);
        CHECK(d.train.channels == 1 && d.train.class_count == 3 && d.test.class_count == 3);
        CHECK(d.train.pixels && memcmp(d.train.pixels, image_file + 16, IMAGE_BYTES - 16) == 0);
        CHECK(d.test.labels && d.test.labels[4] == 1);
        CHECK(d.train.class_names && strcmp(d.train.class_names[2], "2") == 0);
        CHECK(strncmp(d.test.spec, "idx:/", 5) == 0);
        data_close(&d);
    }
}

static void test_idx_malformed(void)
{
    write_idx();
    for (int which = 0; which < 4; which++) {
        size_t whole = which % 2 ? LABEL_BYTES : IMAGE_BYTES, header = which % 2 ? 8 : 16;
        for (size_t n = 0; n < whole; n++) {
            spoil(which, n, -1, 0);
            refuse_idx(n < header ? "truncated" : "too short");
        }
        for (int at = 0; at < 4; at++) {
            spoil(which, whole, at, 99);
            refuse_idx("magic number");
        }
        spoil(which, whole + 1, -1, 0);
        refuse_idx("goes on behind");
        spoil(which, whole, 4, 255); /* 4 thousand million items in a few bytes */
        refuse_idx("items");
        spoil(which, whole, 5, 255);
        refuse_idx("too short");
        spoil(which, whole, 7, 0);
        refuse_idx("announces 0 items");
        spoil(which, whole, 7, IMAGES - 1);
        refuse_idx(which % 2 ? "5 labels for 6 images" : "goes on behind");
        write_idx();
    }
    spoil(0, IMAGE_BYTES, 11, 0);
    refuse_idx("side 0");
    spoil(0, IMAGE_BYTES, 12, 1);
    refuse_idx("side 16777220");
    write_idx();
    spoil(3, LABEL_BYTES, 10, 200);
    refuse_idx("no image has label 3");
    write_idx();
    label_file[7]--;
    spoil(1, LABEL_BYTES - 1, -1, 0);
    refuse_idx("5 labels for 6 images");
    label_file[7]++;
    write_idx();
    CHECK(unlink(path_of("idx/t10k-labels-idx1-ubyte")) == 0);
    refuse_idx("no such file");
    remove_all("idx");
    refuse_idx("no such file");
}

static void test_idx_gzip(void)
{
    static uint8_t bytes[4096], big[1 << 20];
    const char *name = "idx/train-images-idx3-ubyte.gz";
    size_t count;
    write_idx();
    CHECK(unlink(path_of("idx/train-images-idx3-ubyte")) == 0);
    put_gzip(name, image_file, IMAGE_BYTES);
    count = get_file(name, bytes, sizeof bytes);
    for (size_t n = 0; n < count; n++) { /* every truncation */
        put_file(name, bytes, n);
        refuse_idx("train-images-idx3-ubyte.gz: ");
    }
    for (size_t i = 1; i <= 8; i++) { /* CRC and length at the end */
        bytes[count - i] ^= 1;
        put_file(name, bytes, count);
        refuse_idx(i > 4 ? "data check" : "length check");
        bytes[count - i] ^= 1;
    }
    memcpy(big, image_file, IMAGE_BYTES); /* a little header, a megabyte of zeros behind it */
    put_gzip(name, big, sizeof big);
    refuse_idx("goes on behind");
    big[5] = 255; /* announces 268 million bytes in a file of about one thousand */
    put_gzip(name, big, sizeof big);
    refuse_idx("too short");
    remove_all("idx");
}

/* ---- folders and images ---- */

static void put_image(const char *name, int width, int height, int channels)
{
    uint8_t pixels[64 * 64 * 3];
    for (int i = 0; i < width * height * channels; i++)
        pixels[i] = (uint8_t)(i * 5 / channels);
    CHECK(image_write_grid(path_of(name), pixels, 1, width, height, channels, 1, message,
                           sizeof message) == EXIT_OK);
}

static void make_folder(void)
{
    static const char *const directories[] = {"f", "f/train", "f/test", "f/train/b", "f/train/a",
                                              "f/test/a", "f/test/c"};
    remove_all("f");
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        CHECK(mkdir(path_of(directories[i]), 0777) == 0);
    put_image("f/train/b/2.png", 8, 8, 1);
    put_image("f/train/b/10.png", 20, 12, 1);
    put_image("f/train/a/x.png", 12, 8, 3);
    put_image("f/test/c/y.png", 8, 8, 1);
    put_image("f/test/a/.hidden.png", 8, 8, 1);
}

static int open_folder(int size, int channels, struct data *d)
{
    char spec[700];
    snprintf(spec, sizeof spec, "folder:%s", path_of("f"));
    message[0] = '\0';
    return data_open(spec, 0, size, channels, d, message, sizeof message);
}

static void refuse_folder(const char *text)
{
    struct data d;
    int code = open_folder(8, 1, &d);
    if (!CHECK(code == EXIT_DATA) || !CHECK(strstr(message, text) != NULL))
        fprintf(stderr, "    %d '%s' lacks '%s'\n", code, message, text);
    CHECK(d.train.pixels == NULL);
    data_close(&d);
}

static void test_folder(void)
{
    struct data d;
    make_folder();
    CHECK(open_folder(0, 0, &d) == EXIT_OK);
    CHECK(d.train.count == 3 && d.test.count == 1 && d.train.class_count == 3);
    CHECK(d.train.width == 8 && d.train.channels == 3); /* of a/x.png */
    CHECK(d.train.class_names && strcmp(d.train.class_names[1], "b") == 0);
    CHECK(d.train.labels && d.train.labels[0] == 0 && d.train.labels[2] == 1);
    CHECK(d.test.labels && d.test.labels[0] == 2);
    data_close(&d);
    CHECK(open_folder(8, 1, &d) == EXIT_OK);
    CHECK(d.test.pixels && d.test.pixels[9] == 45 && d.test.pixels[63] == (63 * 5) % 256);
    data_close(&d);
    put_file("f/train/a/x.png", (const uint8_t *)"no image", 8);
    refuse_folder("train/a/x.png: not a PNG or JPEG");
    put_file("f/train/a/x.png", (const uint8_t *)"", 0);
    refuse_folder("train/a/x.png: not a PNG or JPEG");
    make_folder();
    remove_all("f/test/c");
    refuse_folder("f/test: no images");
    remove_all("f/test");
    refuse_folder("f/test: ");
    remove_all("f/train");
    refuse_folder("f/train: ");
    CHECK(data_open("folder:", 0, 0, 0, &d, message, sizeof message) == EXIT_USAGE);
    CHECK(data_open("folder", 0, 0, 0, &d, message, sizeof message) == EXIT_USAGE);
    CHECK(data_open("floder:x", 0, 0, 0, &d, message, sizeof message) == EXIT_USAGE);
    CHECK(strstr(message, "did you mean 'folder'?") != NULL);
    CHECK(data_open("http://x", 0, 0, 0, &d, message, sizeof message) == EXIT_USAGE);
}

/* Every truncation and many changed bytes of a PNG: an error or an image, never a crash. */
static void test_damaged_images(uint64_t *state)
{
    static uint8_t bytes[4096], changed[4096];
    uint8_t pixels[8 * 8];
    struct image image;
    size_t count;
    put_image("p.png", 16, 16, 3);
    count = get_file("p.png", bytes, sizeof bytes);
    for (size_t n = 0; n + 16 < count; n++) { /* the end chunk may be missing */
        put_file("q.png", bytes, n);
        CHECK(image_load(path_of("q.png"), 8, 1, pixels, message, sizeof message) == EXIT_DATA);
    }
    for (int i = 0; i < 300; i++) {
        memcpy(changed, bytes, count);
        for (int k = 0; k < 3; k++)
            changed[test_random(state) % count] = (uint8_t)test_random(state);
        put_file("q.png", changed, count);
        if (image_read(path_of("q.png"), 0, &image, message, sizeof message) == EXIT_OK)
            image_free(&image);
    }
    memcpy(changed, bytes, count);
    changed[17] = 0xff; /* width above the limit */
    put_file("q.png", changed, count);
    CHECK(image_read(path_of("q.png"), 0, &image, message, sizeof message) == EXIT_DATA);
    CHECK(image_read(path_of("none.png"), 0, &image, message, sizeof message) == EXIT_DATA);
    CHECK(image_read(folder, 0, &image, message, sizeof message) == EXIT_DATA);
}

/* 8x8, grey 60 + 8 y + 4 x, written by stb_image_write with quality 95. */
static const uint8_t jpeg[] = {
    255, 216, 255, 224, 0, 16, 74, 70, 73, 70, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 255, 219, 0, 132, 0, 2,
    1, 1, 1, 1, 1, 2, 1, 1, 1, 2, 2, 2, 2, 2, 4, 3, 2, 2, 2, 2, 5, 4, 4, 3, 4, 6, 5, 6, 6, 6, 5, 6,
    6, 6, 7, 9, 8, 6, 7, 9, 7, 6, 6, 8, 11, 8, 9, 10, 10, 10, 10, 10, 6, 8, 11, 12, 11, 10, 12, 9,
    10, 10, 10, 1, 2, 2, 2, 2, 2, 2, 5, 3, 3, 5, 10, 7, 6, 7, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 255, 192, 0, 17, 8, 0, 8, 0,
    8, 3, 1, 17, 0, 2, 17, 1, 3, 17, 1, 255, 196, 1, 162, 0, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0,
    0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1,
    125, 1, 2, 3, 0, 4, 17, 5, 18, 33, 49, 65, 6, 19, 81, 97, 7, 34, 113, 20, 50, 129, 145, 161, 8,
    35, 66, 177, 193, 21, 82, 209, 240, 36, 51, 98, 114, 130, 9, 10, 22, 23, 24, 25, 26, 37, 38, 39,
    40, 41, 42, 52, 53, 54, 55, 56, 57, 58, 67, 68, 69, 70, 71, 72, 73, 74, 83, 84, 85, 86, 87, 88,
    89, 90, 99, 100, 101, 102, 103, 104, 105, 106, 115, 116, 117, 118, 119, 120, 121, 122, 131, 132,
    133, 134, 135, 136, 137, 138, 146, 147, 148, 149, 150, 151, 152, 153, 154, 162, 163, 164, 165,
    166, 167, 168, 169, 170, 178, 179, 180, 181, 182, 183, 184, 185, 186, 194, 195, 196, 197, 198,
    199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 225, 226, 227, 228, 229, 230,
    231, 232, 233, 234, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250, 1, 0, 3, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 17, 0, 2, 1, 2, 4, 4, 3, 4, 7, 5,
    4, 4, 0, 1, 2, 119, 0, 1, 2, 3, 17, 4, 5, 33, 49, 6, 18, 65, 81, 7, 97, 113, 19, 34, 50, 129, 8,
    20, 66, 145, 161, 177, 193, 9, 35, 51, 82, 240, 21, 98, 114, 209, 10, 22, 36, 52, 225, 37, 241,
    23, 24, 25, 26, 38, 39, 40, 41, 42, 53, 54, 55, 56, 57, 58, 67, 68, 69, 70, 71, 72, 73, 74, 83,
    84, 85, 86, 87, 88, 89, 90, 99, 100, 101, 102, 103, 104, 105, 106, 115, 116, 117, 118, 119, 120,
    121, 122, 130, 131, 132, 133, 134, 135, 136, 137, 138, 146, 147, 148, 149, 150, 151, 152, 153,
    154, 162, 163, 164, 165, 166, 167, 168, 169, 170, 178, 179, 180, 181, 182, 183, 184, 185, 186,
    194, 195, 196, 197, 198, 199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 226,
    227, 228, 229, 230, 231, 232, 233, 234, 242, 243, 244, 245, 246, 247, 248, 249, 250, 255, 218,
    0, 12, 3, 1, 0, 2, 17, 3, 17, 0, 63, 0, 241, 127, 134, 223, 179, 111, 250, 191, 244, 15, 79,
    225, 160, 15, 255, 217};

static void test_jpeg(void)
{
    uint8_t out[64];
    double worst = 0;
    put_file("j.jpg", jpeg, sizeof jpeg);
    CHECK(image_load(path_of("j.jpg"), 8, 1, out, message, sizeof message) == EXIT_OK);
    for (int i = 0; i < 64; i++)
        worst = fmax(worst, fabs((double)out[i] - (60 + i / 8 * 8 + i % 8 * 4)));
    CHECK(worst <= 2);
    for (size_t n = 0; n < sizeof jpeg; n++) {
        put_file("j.jpg", jpeg, n);
        CHECK(image_load(path_of("j.jpg"), 8, 1, out, message, sizeof message) == EXIT_DATA);
    }
}

/* 16x8, one colour left and another right; the centre square, shrunk to 4x4, has both. */
static void test_square(void)
{
    uint8_t pixels[16 * 8], out[4 * 4];
    struct image image = {16, 8, 1, pixels};
    for (int i = 0; i < 16 * 8; i++)
        pixels[i] = i % 16 < 4 ? 255 : i % 16 < 8 ? 40 : i % 16 < 12 ? 80 : 255;
    CHECK(image_square(&image, 4, out) == EXIT_OK);
    for (int i = 0; i < 16; i++)
        CHECK(out[i] == (i % 4 < 2 ? 40 : 80));
}

/* ---- drawn glyphs ---- */

static void test_glyphs(void)
{
    struct data a, b;
    double mean[3], std[3];
    uint32_t index[300];
    CHECK(data_open("glyphs:300,50", 7, 0, 0, &a, message, sizeof message) == EXIT_OK);
    CHECK(a.train.count == 300 && a.test.count == 50 && a.train.class_count == 10);
    CHECK(a.train.width == 32 && a.train.height == 32 && a.train.channels == 1);
    CHECK(a.train.labels[13] == 3 && strcmp(a.train.class_names[3], "dun") == 0);
    CHECK(fnv(a.train.pixels, 300 * 1024) == 0x75bdd201bf3062a6u);
    CHECK(fnv(a.test.pixels, 50 * 1024) == 0xe2c8a2235549d29eu);
    CHECK(data_open("glyphs:100,100", 7, 0, 0, &b, message, sizeof message) == EXIT_OK);
    CHECK(memcmp(a.train.pixels, b.train.pixels, 100 * 1024) == 0); /* counts do not matter */
    CHECK(memcmp(a.test.pixels, b.test.pixels, 50 * 1024) == 0);
    CHECK(memcmp(a.train.pixels, a.test.pixels, 1024) != 0);
    data_close(&b);
    CHECK(data_open("glyphs:10,10", 8, 0, 0, &b, message, sizeof message) == EXIT_OK);
    CHECK(memcmp(a.train.pixels, b.train.pixels, 1024) != 0);
    data_close(&b);
    for (uint32_t i = 0; i < 300; i++)
        index[i] = i;
    data_moments(&a.train, index, 300, 1, mean, std);
    CHECK(mean[0] > 0.1 && mean[0] < 0.5 && std[0] > 0.1 && std[0] < 0.4);
    data_close(&a);
    CHECK(data_open("glyphs:9,10", 0, 0, 0, &a, message, sizeof message) == EXIT_USAGE);
    CHECK(data_open("glyphs:10", 0, 0, 0, &a, message, sizeof message) == EXIT_USAGE);
    CHECK(data_open("glyphs:10,x", 0, 0, 0, &a, message, sizeof message) == EXIT_USAGE);
}

static void test_philox(void)
{
    /* Known answers published with the generator (Random123, kat_vectors). */
    static const uint32_t zero[4] = {0, 0, 0, 0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    static const uint32_t wanted[2][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                          {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}};
    uint32_t out[4], counts[7] = {0};
    struct philox p = philox_start(3, 1, 2);
    philox4x32(zero, 0, out);
    CHECK(memcmp(out, wanted[0], sizeof out) == 0);
    philox4x32(ones, ~(uint64_t)0, out);
    CHECK(memcmp(out, wanted[1], sizeof out) == 0);
    for (int i = 0; i < 70000; i++)
        counts[philox_below(&p, 7)]++;
    for (int i = 0; i < 7; i++)
        CHECK(counts[i] > 9600 && counts[i] < 10400);
}

/* ---- batches ---- */

/* The definition, in double: position, clamp, four pixels. */
static double resized(const uint8_t *p, int n_in, int n_out, int channels, int c, int y, int x)
{
    double at[2] = {(y + 0.5) * n_in / n_out - 0.5, (x + 0.5) * n_in / n_out - 0.5}, sum = 0;
    for (int dy = 0; dy < 2; dy++)
        for (int dx = 0; dx < 2; dx++) {
            double fy = fmax(at[0], 0), fx = fmax(at[1], 0);
            int iy = (int)fy, ix = (int)fx;
            double weight = (dy ? fy - iy : 1 - (fy - iy)) * (dx ? fx - ix : 1 - (fx - ix));
            int row = iy + dy < n_in ? iy + dy : n_in - 1;
            int column = ix + dx < n_in ? ix + dx : n_in - 1;
            sum += weight * p[(row * n_in + column) * channels + c];
        }
    return sum;
}

static void check_resize(int n_in, int n_out, int channels, uint64_t *state)
{
    static uint8_t pixels[2 * 64 * 64 * 3];
    static float out[2 * 64 * 64 * 3];
    const double mean[3] = {0.4, 0.5, 0.6}, std[3] = {0.2, 0.25, 0.3};
    const uint32_t index[2] = {1, 0};
    struct data_set set = {{0}, n_in, n_in, channels, 2, pixels, NULL, 0, NULL};
    struct fetch f;
    double worst = 0;
    size_t image = (size_t)(n_in * n_in * channels);
    for (size_t i = 0; i < 2 * image; i++)
        pixels[i] = (uint8_t)test_random(state);
    CHECK(fetch_start(&f, n_in, n_in, channels, n_out, channels, mean, std) == EXIT_OK);
    data_fetch(&f, &set, index, 2, out);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < n_out * n_out * channels; i++) {
            int c = i % channels, x = i / channels % n_out, y = i / channels / n_out;
            const uint8_t *p = pixels + image * index[k];
            double v = resized(p, n_in, n_out, channels, c, y, x);
            double wanted = (v / 255 - mean[c]) / std[c];
            worst = fmax(worst, fabs(wanted - (double)out[k * n_out * n_out * channels + i]));
        }
    if (!CHECK(worst < 1e-5))
        fprintf(stderr, "    %d -> %d, %d channels: %g\n", n_in, n_out, channels, worst);
    fetch_end(&f);
}

/* torch.nn.functional.interpolate(mode="bilinear", align_corners=False), 4x3 -> 5x5. */
static void test_resize_pytorch(void)
{
    static const float wanted[25] = {
        0.0f, 14.8f, 37.0f, 59.2f, 74.0f, 77.7f, 92.5f, 114.7f, 136.9f, 151.7f, 166.5f, 130.1f,
        75.5f, 97.7f, 112.5f, 178.5f, 121.62f, 36.3f, 58.5f, 73.3f, 77.0f, 91.8f, 114.0f, 136.2f,
        151.0f};
    uint8_t pixels[12];
    float out[25], rgb[75];
    struct fetch f;
    for (int i = 0; i < 12; i++)
        pixels[i] = (uint8_t)(i * 37);
    CHECK(fetch_start(&f, 3, 4, 1, 5, 1, NULL, NULL) == EXIT_OK);
    fetch_image(&f, pixels, out);
    for (int i = 0; i < 25; i++)
        CHECK_NEAR(255.0 * (double)out[i], (double)wanted[i], 1e-5);
    fetch_end(&f);
    CHECK(fetch_start(&f, 3, 4, 1, 5, 3, NULL, NULL) == EXIT_OK);
    fetch_image(&f, pixels, rgb);
    for (int i = 0; i < 75; i++)
        CHECK_NEAR((double)rgb[i], (double)out[i / 3], 1e-6);
    fetch_end(&f);
    CHECK(fetch_start(&f, 3, 4, 2, 5, 1, NULL, NULL) == EXIT_USAGE);
    CHECK(fetch_start(&f, 3, 4, 1, 0, 1, NULL, NULL) == EXIT_USAGE);
}

static void test_channels(void)
{
    uint8_t pixels[12] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255};
    struct data_set set = {{0}, 2, 2, 3, 1, pixels, NULL, 0, NULL};
    const uint32_t index[1] = {0};
    double mean[3], std[3];
    float out[4];
    struct fetch f;
    CHECK(fetch_start(&f, 2, 2, 3, 2, 1, NULL, NULL) == EXIT_OK);
    fetch_image(&f, pixels, out);
    CHECK_NEAR((double)out[0], 0.299, 1e-6);
    CHECK_NEAR((double)out[1], 0.587, 1e-6);
    CHECK_NEAR((double)out[2], 0.114, 1e-6);
    CHECK_NEAR((double)out[3], 1.0, 1e-6);
    fetch_end(&f);
    data_moments(&set, index, 1, 3, mean, std);
    CHECK_NEAR(mean[0], 0.5, 1e-12);
    CHECK_NEAR(std[2], 0.5, 1e-12);
    data_moments(&set, index, 1, 1, mean, std);
    CHECK_NEAR(mean[0], 0.5, 1e-12);
    CHECK_NEAR(std[0], sqrt((0.299 * 0.299 + 0.587 * 0.587 + 0.114 * 0.114 + 1) / 4 - 0.25), 1e-12);
    memset(pixels, 100, sizeof pixels);
    data_moments(&set, index, 1, 3, mean, std);
    CHECK(std[1] == 1.0);
}

/* ---- splits ---- */

static int is_permutation(const uint32_t *values, uint32_t count)
{
    char seen[1000] = {0};
    for (uint32_t i = 0; i < count; i++)
        if (values[i] >= count || seen[values[i]]++)
            return 0;
    return 1;
}

static void check_published(const char *family, const char *set, int known, int unknown, int total)
{
    for (int trial = 0; trial < 5; trial++) {
        struct class_split s;
        char seen[200] = {0};
        CHECK(split_published(family, set, trial, &s, message, sizeof message) == EXIT_OK);
        CHECK(s.known_count == known && s.unknown_count == unknown);
        for (int i = 0; i < s.known_count; i++)
            CHECK(s.known[i] < (s.unknown_set ? 10 : total) && !seen[s.known[i]]++);
        if (s.unknown_set)
            memset(seen, 0, sizeof seen);
        for (int i = 0; i < s.unknown_count; i++)
            CHECK(s.unknown[i] < total && !seen[s.unknown[i]]++);
        if (strcmp(family, "neal") == 0)
            for (int i = 1; i < s.known_count; i++)
                CHECK(s.known[i - 1] < s.known[i]);
        split_free(&s);
    }
}

static void test_published(void)
{
    static const char *const families[] = {"neal", "arpl"};
    struct class_split s;
    for (int i = 0; i < 2; i++) {
        check_published(families[i], "mnist", 6, 4, 10);
        check_published(families[i], "svhn", 6, 4, 10);
        check_published(families[i], "cifar10", 6, 4, 10);
        check_published(families[i], "cifar+10", 4, 10, 100);
        check_published(families[i], "cifar+50", 4, 50, 100);
        check_published(families[i], "tinyimagenet", 20, 180, 200);
    }
    CHECK(split_published("arpl", "mnist", 0, &s, message, sizeof message) == EXIT_OK);
    CHECK(s.known[0] == 2 && s.known[3] == 9 && s.known[5] == 3 && s.unknown_set == NULL);
    CHECK(strcmp(s.name, "arpl mnist trial 0") == 0);
    split_free(&s);
    CHECK(split_published("neal", "tinyimagenet", 0, &s, message, sizeof message) == EXIT_OK);
    CHECK(s.known[0] == 10 && s.known[1] == 28 && s.known[19] == 193); /* rank, not position */
    split_free(&s);
    CHECK(split_published("neal", "cifar+10", 1, &s, message, sizeof message) == EXIT_OK);
    CHECK(s.unknown_set && strcmp(s.unknown_set, "cifar100") == 0 && s.unknown[0] == 11);
    split_free(&s);
    CHECK(split_published("neal", "minst", 0, &s, message, sizeof message) == EXIT_USAGE);
    CHECK(strstr(message, "did you mean 'mnist'?") != NULL);
    CHECK(split_published("neal", "mnist", 5, &s, message, sizeof message) == EXIT_USAGE);
}

static void refuse_known(const char *text, const struct data_set *set, const char *wanted)
{
    struct class_split s;
    CHECK(split_parse(text, set, &s, message, sizeof message) == EXIT_USAGE);
    if (!CHECK(strstr(message, wanted) != NULL))
        fprintf(stderr, "    '%s' lacks '%s'\n", message, wanted);
    CHECK(s.known == NULL);
}

static void test_known(const struct data_set *set)
{
    struct class_split s;
    CHECK(split_parse("5,alu, jax", set, &s, message, sizeof message) == EXIT_OK);
    CHECK(s.known_count == 3 && s.known[0] == 5 && s.known[1] == 0 && s.known[2] == 9);
    CHECK(s.unknown_count == 7 && s.unknown[0] == 1);
    split_free(&s);
    CHECK(split_parse("0-3,8", set, &s, message, sizeof message) == EXIT_OK);
    CHECK(s.known_count == 5 && s.known[3] == 3 && s.known[4] == 8);
    split_free(&s);
    refuse_known("1,1", set, "twice");
    refuse_known("0-3,dun", set, "twice");
    refuse_known("1,10", set, "0 to 9");
    refuse_known("1,-1", set, "0 to 9");
    refuse_known("3-1", set, "0 to 9");
    refuse_known("1,,2", set, "no class ''");
    refuse_known("alu,bax", set, "did you mean 'bex'?");
    refuse_known("1", set, "at least two");
    CHECK(split_default(set, &s, message, sizeof message) == EXIT_OK);
    CHECK(s.known_count == 6 && s.unknown_count == 4 && s.unknown[0] == 6);
    CHECK(split_check(&s, set, message, sizeof message) == EXIT_OK);
    s.known[2] = 10;
    CHECK(split_check(&s, set, message, sizeof message) == EXIT_USAGE);
    split_free(&s);
    CHECK(split_guess_set(set) == NULL);
}

static void test_subsets(const struct data_set *set)
{
    struct class_split s;
    struct subset known, unknown, train, val, again, val2;
    char seen[1000] = {0};
    int per_class[3] = {0};
    CHECK(split_parse("7,2,4", set, &s, message, sizeof message) == EXIT_OK);
    CHECK(subset_known(set, &s, &known, message, sizeof message) == EXIT_OK);
    CHECK(subset_unknown(set, &s, &unknown, message, sizeof message) == EXIT_OK);
    CHECK(known.count == 90 && unknown.count == 210 && unknown.label[5] == -1);
    for (size_t i = 0; i < known.count; i++)
        CHECK(s.known[known.label[i]] == set->labels[known.index[i]]);
    CHECK(subset_divide(&known, 3, 0.3, 5, &train, &val, message, sizeof message) == EXIT_OK);
    CHECK(train.count == 63 && val.count == 27); /* floor(0.7 * 30) = 21 of each class */
    for (size_t i = 0; i < train.count; i++) {
        per_class[train.label[i]]++;
        seen[train.index[i]]++;
    }
    for (size_t i = 0; i < val.count; i++)
        CHECK(!seen[val.index[i]]++);
    CHECK(per_class[0] == 21 && per_class[1] == 21 && per_class[2] == 21);
    CHECK(subset_divide(&known, 3, 0.3, 5, &again, &val2, message, sizeof message) == EXIT_OK);
    CHECK(memcmp(val.index, val2.index, val.count * sizeof *val.index) == 0);
    subset_free(&again);
    subset_free(&val2);
    CHECK(subset_divide(&known, 3, 0.3, 6, &again, &val2, message, sizeof message) == EXIT_OK);
    CHECK(memcmp(val.index, val2.index, val.count * sizeof *val.index) != 0);
    subset_free(&again);
    subset_free(&val2);
    CHECK(subset_divide(&known, 3, 0, 6, &again, &val2, message, sizeof message) == EXIT_OK);
    CHECK(again.count == 90 && val2.count == 0);
    subset_free(&again);
    subset_free(&val2);
    CHECK(subset_divide(&known, 4, 0.3, 5, &again, &val2, message, sizeof message) == EXIT_DATA);
    subset_free(&train);
    subset_free(&val);
    subset_free(&known);
    subset_free(&unknown);
    split_free(&s);
}

static void test_permutation(void)
{
    uint32_t a[1000], b[1000];
    epoch_permutation(1, 0, 1000, a);
    CHECK(is_permutation(a, 1000));
    epoch_permutation(1, 0, 1000, b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    epoch_permutation(1, 1, 1000, b);
    CHECK(is_permutation(b, 1000) && memcmp(a, b, sizeof a) != 0);
    epoch_permutation(2, 0, 1000, b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    epoch_permutation(1, 0, 1, b);
    CHECK(b[0] == 0);
}

/* ---- the real MNIST, where it is ---- */

static void test_mnist(const char *root)
{
    struct data d;
    struct class_split s;
    struct subset known;
    double mean[3], std[3];
    char spec[DATA_SPEC];
    snprintf(spec, sizeof spec, "idx:%s/mnist", root);
    if (!CHECK(data_open(spec, 0, 0, 0, &d, message, sizeof message) == EXIT_OK)) {
        fprintf(stderr, "    %s\n", message);
        return;
    }
    CHECK(d.train.count == 60000 && d.test.count == 10000 && d.train.class_count == 10);
    CHECK(d.train.width == 28 && d.train.labels[0] == 5 && d.test.labels[0] == 7);
    CHECK(strcmp(split_guess_set(&d.train), "mnist") == 0);
    CHECK(split_published("neal", "mnist", 0, &s, message, sizeof message) == EXIT_OK);
    CHECK(subset_known(&d.train, &s, &known, message, sizeof message) == EXIT_OK);
    CHECK(known.count == 35835);
    subset_free(&known);
    split_free(&s);
    /* Classes and figures of trial 0 in the configuration of the CAC code. */
    CHECK(split_parse("3,0,2,9,1,6", &d.train, &s, message, sizeof message) == EXIT_OK);
    CHECK(subset_known(&d.train, &s, &known, message, sizeof message) == EXIT_OK);
    CHECK(known.count == 36621);
    data_moments(&d.train, known.index, known.count, 1, mean, std);
    CHECK_NEAR(mean[0], 0.1321, 5e-5);
    CHECK_NEAR(std[0], 0.3101, 5e-5);
    subset_free(&known);
    split_free(&s);
    data_close(&d);
}

int main(void)
{
    static const int sides[][2] = {{28, 32}, {32, 32}, {1, 5}, {2, 7}, {33, 17}, {64, 32}, {5, 1}};
    const char *base = getenv("TMPDIR"), *root = getenv("OSR_TEST_DATA");
    uint64_t state = test_seed();
    struct data d;
    snprintf(folder, sizeof folder, "%s/osr_test_XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    fill_idx();
    test_idx_reads();
    test_idx_malformed();
    test_idx_gzip();
    test_folder();
    test_damaged_images(&state);
    test_jpeg();
    test_square();
    test_philox();
    test_glyphs();
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++)
        for (int channels = 1; channels <= 3; channels += 2)
            check_resize(sides[i][0], sides[i][1], channels, &state);
    test_resize_pytorch();
    test_channels();
    test_published();
    CHECK(data_open("glyphs:300,10", 0, 0, 0, &d, message, sizeof message) == EXIT_OK);
    test_known(&d.train);
    test_subsets(&d.train);
    data_close(&d);
    test_permutation();
    remove_all("");
    if (root && *root)
        test_mnist(root);
    else
        printf("OSR_TEST_DATA is not set: the real MNIST was left out\n");
    if (test_failures == 0 && !(root && *root))
        return test_skip("the part on the real MNIST; all else passed");
    return test_end();
}
