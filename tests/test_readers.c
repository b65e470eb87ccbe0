/* test_readers.c - CIFAR, SVHN and TinyImageNet in their official layouts, written small, whole
 * and spoiled; sets of unknown classes; and the real files where they are. */
#define _POSIX_C_SOURCE 200809L

#include "test.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef OSR_MATIO
#include <matio.h>
#endif

#include "data.h"
#include "exit_codes.h"
#include "splits.h"

static char folder[256], message[2048];

/* The path stays as long as the test runs. */
static const char *path_of(const char *format, const char *a, const char *b)
{
    static char paths[64][512];
    static int count;
    char path[512];
    int n = snprintf(path, sizeof path, "%s/", folder);
    snprintf(path + n, sizeof path - (size_t)n, format, a, b);
    for (n = 0; n < count; n++)
        if (strcmp(paths[n], path) == 0)
            return paths[n];
    if (count == 64)
        abort();
    strcpy(paths[count], path);
    return paths[count++];
}

static void put_file(const char *path, const void *bytes, size_t count)
{
    FILE *file;
    unlink(path); /* some file systems write a file that is cut and filled again to disk at once */
    file = fopen(path, "wb");
    if (!CHECK(file != NULL))
        return;
    CHECK(fwrite(bytes, 1, count, file) == count);
    CHECK(fclose(file) == 0);
}

static void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

static size_t get_file(const char *path, uint8_t *bytes, size_t limit)
{
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(bytes, 1, limit, file) : 0;
    if (file)
        fclose(file);
    return n;
}

static void make_directory(const char *path)
{
    CHECK(mkdir(path, 0777) == 0);
}

static void remove_all(const char *name)
{
    char command[800];
    snprintf(command, sizeof command, "rm -rf '%s'", path_of("%s%s", name, ""));
    CHECK(system(command) == 0);
}

/* kind:FOLDER/name */
static int open_kind(const char *kind, const char *name, struct data *d)
{
    char spec[800];
    snprintf(spec, sizeof spec, "%s:%s", kind, path_of("%s%s", name, ""));
    message[0] = '\0';
    return data_open(spec, 0, 0, 0, d, message, sizeof message);
}

/* Bad data, with a message that holds both texts. */
static void refuse(const char *kind, const char *name, const char *file, const char *text)
{
    struct data d;
    int code = open_kind(kind, name, &d);
    if (!CHECK(code == EXIT_DATA) || !CHECK(strstr(message, file) != NULL) ||
        !CHECK(strstr(message, text) != NULL))
        fprintf(stderr, "    %d '%s' lacks '%s' or '%s'\n", code, message, file, text);
    CHECK(d.train.pixels == NULL && d.test.pixels == NULL);
    data_close(&d);
}

/* ---- CIFAR ---- */

enum { IMAGE = 3072, RECORD10 = 1 + IMAGE, RECORD100 = 2 + IMAGE, EACH = 10 };

static const char *const files10[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                      "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};
static uint8_t batch[(EACH + 1) * RECORD10], fine[501 * RECORD100];

static uint8_t pixel_of(int image, int channel, int at)
{
    return (uint8_t)(image * 31 + channel * 77 + at * 5 + at / 256);
}

/* Ten images, one of each class. */
static void write_cifar10(void)
{
    remove_all("c10");
    make_directory(path_of("c10%s%s", "", ""));
    for (int i = 0; i < EACH; i++) {
        batch[i * RECORD10] = (uint8_t)((i + 3) % 10);
        for (int p = 0; p < IMAGE; p++)
            batch[i * RECORD10 + 1 + p] = pixel_of(i, p / 1024, p % 1024);
    }
    for (int i = 0; i < 6; i++)
        put_file(path_of("c10/%s%s", files10[i], ""), batch, EACH * RECORD10);
}

/* Five training images and a test image of each class. */
static void write_cifar100(void)
{
    char names[2000];
    int used = 0;
    remove_all("c100");
    make_directory(path_of("c100%s%s", "", ""));
    for (int i = 0; i < 500; i++) {
        fine[i * RECORD100] = (uint8_t)(i % 100 / 5);
        fine[i * RECORD100 + 1] = (uint8_t)(i % 100);
        memset(fine + i * RECORD100 + 2, i % 251, IMAGE);
    }
    for (int c = 0; c < 100; c++)
        used += snprintf(names + used, sizeof names - (size_t)used, "name_%02d\n", c);
    put_file(path_of("c100/train.bin%s%s", "", ""), fine, 500 * RECORD100);
    put_file(path_of("c100/test.bin%s%s", "", ""), fine, 100 * RECORD100);
    put_text(path_of("c100/fine_label_names.txt%s%s", "", ""), names);
}

static void test_cifar10(void)
{
    struct data d;
    write_cifar10();
    CHECK(open_kind("cifar10", "c10", &d) == EXIT_OK);
    CHECK(d.train.count == 5 * EACH && d.test.count == EACH && d.train.class_count == 10);
    CHECK(d.train.width == 32 && d.train.height == 32 && d.train.channels == 3);
    for (int i = 0; i < 5 * EACH && d.train.pixels; i++)
        for (int p = 0; p < IMAGE; p++)
            if (d.train.pixels[i * IMAGE + p] != pixel_of(i % EACH, p % 3, p / 3)) {
                CHECK(d.train.pixels[i * IMAGE + p] == pixel_of(i % EACH, p % 3, p / 3));
                break;
            }
    CHECK(d.test.labels && d.test.labels[0] == 3 && d.test.labels[9] == 2);
    CHECK(d.test.class_names && strcmp(d.test.class_names[9], "truck") == 0);
    CHECK(split_guess_set(&d.train) && strcmp(split_guess_set(&d.train), "cifar10") == 0);
    data_close(&d);
    put_text(path_of("c10/batches.meta.txt%s%s", "", ""), "a\nb\nc\nd\ne\nf\ng\nh\ni\r\nj\n\n");
    CHECK(open_kind("cifar10", "c10", &d) == EXIT_OK);
    CHECK(d.test.class_names && strcmp(d.test.class_names[8], "i") == 0);
    data_close(&d);
    put_text(path_of("c10/batches.meta.txt%s%s", "", ""), "a\nb\nc\nd\ne\nf\ng\nh\ni\n");
    refuse("cifar10", "c10", "batches.meta.txt", "9 names");
    put_text(path_of("c10/batches.meta.txt%s%s", "", ""), "a\nb\nc\nd\ne\nf\ng\nh\ni\nb\n");
    refuse("cifar10", "c10", "batches.meta.txt", "two classes are called 'b'");
    put_file(path_of("c10/batches.meta.txt%s%s", "", ""), "a\nb\0c", 5);
    refuse("cifar10", "c10", "batches.meta.txt", "not a text file");
}

static void test_cifar10_spoiled(void)
{
    write_cifar10();
    for (int i = 0; i < 6; i++) {
        const char *path = path_of("c10/%s%s", files10[i], "");
        for (size_t n = 0; n <= sizeof batch; n += n % 97 == 0 ? 96 : 1) {
            if (n == EACH * RECORD10)
                continue;
            put_file(path, batch, n);
            if (n == 0 || n % RECORD10)
                refuse("cifar10", "c10", files10[i], "no whole number of records");
            else /* cut or grown by whole images */
                refuse("cifar10", "c10", i == 5 ? files10[0] : files10[i], "images; ");
        }
        batch[7 * RECORD10] = 10;
        put_file(path, batch, EACH * RECORD10);
        refuse("cifar10", "c10", files10[i], "image 7 has label 10");
        CHECK(unlink(path) == 0);
        refuse("cifar10", "c10", files10[i], "No such file");
        make_directory(path);
        refuse("cifar10", "c10", files10[i], "not a file");
        write_cifar10();
    }
    remove_all("c10");
    refuse("cifar10", "c10", "data_batch_1.bin", "No such file");
}

static void test_cifar100(void)
{
    struct data d;
    const char *train = path_of("c100/train.bin%s%s", "", "");
    const char *test = path_of("c100/test.bin%s%s", "", "");
    write_cifar100();
    CHECK(open_kind("cifar100", "c100", &d) == EXIT_OK);
    CHECK(d.train.count == 500 && d.test.count == 100 && d.test.class_count == 100);
    CHECK(d.train.labels && d.train.labels[142] == 42);
    CHECK(d.train.pixels && d.train.pixels[142 * IMAGE + 5] == 142);
    CHECK(d.train.class_names && strcmp(d.train.class_names[42], "name_42") == 0);
    CHECK(split_guess_set(&d.train) == NULL);
    data_close(&d);
    for (size_t n = 0; n < 3 * RECORD100; n++) {
        put_file(test, fine, n);
        refuse("cifar100", "c100", n && n % RECORD100 == 0 ? "train.bin" : "test.bin",
               n && n % RECORD100 == 0 ? "500 images; " : "no whole number");
    }
    put_file(test, fine, 100 * RECORD100);
    put_file(train, fine, 501 * RECORD100);
    refuse("cifar100", "c100", "train.bin", "501 images; 500 belong");
    fine[33 * RECORD100 + 1] = 100;
    put_file(train, fine, 500 * RECORD100);
    refuse("cifar100", "c100", "train.bin", "image 33 has label 100");
    fine[33 * RECORD100 + 1] = 33;
    fine[33 * RECORD100] = 20;
    put_file(train, fine, 500 * RECORD100);
    refuse("cifar100", "c100", "train.bin", "image 33 has label 20");
    fine[33 * RECORD100] = 1;
    put_file(train, fine, 500 * RECORD100);
    refuse("cifar100", "c100", "train.bin", "image 133 of class 33 has coarse label 6, others 1");
    write_cifar100();
    CHECK(unlink(path_of("c100/fine_label_names.txt%s%s", "", "")) == 0);
    refuse("cifar100", "c100", "fine_label_names.txt", "No such file");
    put_text(path_of("c100/fine_label_names.txt%s%s", "", ""), "apple\n");
    refuse("cifar100", "c100", "fine_label_names.txt", "1 names of classes, not 100");
    remove_all("c100");
}

/* ---- SVHN ---- */

#ifdef OSR_MATIO

enum { DIGITS = 4 };

static uint8_t digits[DIGITS * IMAGE], mat_bytes[65536];

struct mat_plan {
    size_t x[4], y[2];
    enum matio_classes x_class, y_class;
    double label;              /* of the third image */
    enum matio_compression how;
    int rank;
    const char *x_name, *y_name;
};

static const struct mat_plan good = {{32, 32, 3, DIGITS}, {DIGITS, 1}, MAT_C_UINT8, MAT_C_UINT8, 10,
                                     MAT_COMPRESSION_ZLIB, 4, "X", "y"};

static enum matio_types type_of(enum matio_classes c)
{
    return c == MAT_C_UINT8 ? MAT_T_UINT8 : MAT_T_DOUBLE;
}

static void write_mat(const char *path, const struct mat_plan *plan, enum mat_ft version)
{
    static double x_real[DIGITS * IMAGE];
    double y_real[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7};
    uint8_t y_byte[16];
    size_t xd[4], yd[2];
    mat_t *mat = Mat_CreateVer(path, NULL, version);
    matvar_t *x, *y;
    y_real[2] = plan->label;
    for (int i = 0; i < 16; i++)
        y_byte[i] = (uint8_t)y_real[i];
    for (int i = 0; i < DIGITS * IMAGE; i++) {
        digits[i] = (uint8_t)(i * 7 + i / 1000);
        x_real[i] = digits[i];
    }
    memcpy(xd, plan->x, sizeof xd);
    memcpy(yd, plan->y, sizeof yd);
    x = Mat_VarCreate(plan->x_name, plan->x_class, type_of(plan->x_class), plan->rank, xd,
                      plan->x_class == MAT_C_UINT8 ? (void *)digits : (void *)x_real, 0);
    y = Mat_VarCreate(plan->y_name, plan->y_class, type_of(plan->y_class), 2, yd,
                      plan->y_class == MAT_C_UINT8 ? (void *)y_byte : (void *)y_real, 0);
    if (CHECK(mat && x && y)) {
        CHECK(Mat_VarWrite(mat, x, plan->how) == 0);
        CHECK(Mat_VarWrite(mat, y, plan->how) == 0);
    }
    Mat_VarFree(x);
    Mat_VarFree(y);
    if (mat)
        Mat_Close(mat);
}

static void write_svhn(const struct mat_plan *plan)
{
    remove_all("svhn");
    make_directory(path_of("svhn%s%s", "", ""));
    write_mat(path_of("svhn/train_32x32.mat%s%s", "", ""), plan, MAT_FT_MAT5);
    write_mat(path_of("svhn/test_32x32.mat%s%s", "", ""), &good, MAT_FT_MAT5);
}

static void test_svhn_reads(void)
{
    struct data d;
    struct mat_plan plan = good;
    for (int variant = 0; variant < 4; variant++) {
        plan.how = variant % 2 ? MAT_COMPRESSION_NONE : MAT_COMPRESSION_ZLIB;
        plan.y_class = variant / 2 ? MAT_C_DOUBLE : MAT_C_UINT8;
        write_svhn(&plan);
        if (!CHECK(open_kind("svhn", "svhn", &d) == EXIT_OK)) {
            fprintf(stderr, "    %s\n", message);
            continue;
        }
        CHECK(d.train.count == DIGITS && d.test.count == DIGITS && d.train.class_count == 10);
        CHECK(d.train.labels[0] == 1 && d.train.labels[2] == 0 && d.train.labels[3] == 4);
        CHECK(strcmp(d.train.class_names[0], "0") == 0);
        for (int n = 0; n < DIGITS; n++)
            for (int y = 0; y < 32; y++)
                for (int x = 0; x < 32; x++)
                    for (int c = 0; c < 3; c++) { /* X(y, x, c, n) in MATLAB's order */
                        int at = y + 32 * (x + 32 * (c + 3 * n));
                        int to = ((n * 32 + y) * 32 + x) * 3 + c;
                        if (d.train.pixels[to] != digits[at])
                            CHECK(d.train.pixels[to] == digits[at]);
                    }
        CHECK(strcmp(split_guess_set(&d.train), "svhn") == 0);
        data_close(&d);
    }
}

static void test_svhn_truncated(void)
{
    const char *path;
    struct mat_plan plan = good;
    for (int compressed = 0; compressed < 2; compressed++) {
        size_t count;
        plan.how = compressed ? MAT_COMPRESSION_ZLIB : MAT_COMPRESSION_NONE;
        write_svhn(&plan);
        path = path_of("svhn/train_32x32.mat%s%s", "", "");
        count = get_file(path, mat_bytes, sizeof mat_bytes - 1);
        CHECK(count > 500 && count < sizeof mat_bytes - 1);
        for (size_t n = 0; n < count; n += !compressed && n > 400 && n + 400 < count ? 61 : 1) {
            put_file(path, mat_bytes, n);
            refuse("svhn", "svhn", "train_32x32.mat", "");
        }
        for (size_t at = 136; compressed && at < count; at += 9) { /* behind the first tag */
            mat_bytes[at] ^= 4;
            put_file(path, mat_bytes, count);
            refuse("svhn", "svhn", "train_32x32.mat", "");
            mat_bytes[at] ^= 4;
        }
        mat_bytes[count] = 0;
        put_file(path, mat_bytes, count + 1);
        refuse("svhn", "svhn", "train_32x32.mat", "truncated");
        mat_bytes[124]++; /* another version */
        put_file(path, mat_bytes, count);
        refuse("svhn", "svhn", "train_32x32.mat", "version 5");
    }
}

static void refuse_plan(const struct mat_plan *plan, const char *text)
{
    write_svhn(plan);
    refuse("svhn", "svhn", "train_32x32.mat", text);
}

static void test_svhn_wrong(void)
{
    struct mat_plan p = good;
    p.label = 0;
    refuse_plan(&p, "label 0 of image 2");
    p.label = 11;
    refuse_plan(&p, "label 11 of image 2");
    p.y_class = MAT_C_DOUBLE;
    p.label = 2.5;
    refuse_plan(&p, "label 2.5 of image 2");
    p.label = NAN;
    refuse_plan(&p, "label nan of image 2");
    p.label = -1e300;
    refuse_plan(&p, "label -1e+300");
    p = good;
    p.y[0] = DIGITS - 1;
    refuse_plan(&p, "[4, 1], a label for each image");
    p.y[0] = DIGITS + 1;
    refuse_plan(&p, "[4, 1], a label for each image");
    p.y[0] = 1;
    p.y[1] = DIGITS;
    refuse_plan(&p, "[4, 1], a label for each image");
    p = good;
    p.x_class = MAT_C_DOUBLE;
    refuse_plan(&p, "X is not uint8");
    p = good;
    p.x[0] = 16;
    p.x[3] = 2 * DIGITS;
    refuse_plan(&p, "X is not uint8");
    p = good;
    p.rank = 3;
    refuse_plan(&p, "X is not uint8");
    p = good;
    p.x_name = "Z";
    refuse_plan(&p, "no variable X");
    p = good;
    p.y_name = "Y";
    refuse_plan(&p, "no variable y");
    write_svhn(&good);
    CHECK(unlink(path_of("svhn/test_32x32.mat%s%s", "", "")) == 0);
    refuse("svhn", "svhn", "test_32x32.mat", "No such file");
    put_text(path_of("svhn/test_32x32.mat%s%s", "", ""), "no MATLAB file");
    refuse("svhn", "svhn", "test_32x32.mat", "truncated");
}

/* A header that announces more images than the file can hold. */
static void test_svhn_announced(void)
{
    struct mat_plan p = good;
    const char *path;
    size_t count, at = 0;
    static const uint8_t dims[] = {32, 0, 0, 0, 32, 0, 0, 0, 3, 0, 0, 0, DIGITS, 0, 0, 0};
    p.how = MAT_COMPRESSION_NONE;
    write_svhn(&p);
    path = path_of("svhn/train_32x32.mat%s%s", "", "");
    count = get_file(path, mat_bytes, sizeof mat_bytes);
    while (at + sizeof dims < count && memcmp(mat_bytes + at, dims, sizeof dims) != 0)
        at++;
    CHECK(at + sizeof dims < count);
    mat_bytes[at + 14] = 8; /* 524292 images in 12 KB */
    put_file(path, mat_bytes, count);
    refuse("svhn", "svhn", "train_32x32.mat", "too short for the X it announces");
    mat_bytes[at + 14] = 0;
    mat_bytes[at + 12] = DIGITS + 1; /* one more than there is */
    put_file(path, mat_bytes, count);
    refuse("svhn", "svhn", "train_32x32.mat", "");
}

static void test_svhn(void)
{
    test_svhn_reads();
    test_svhn_truncated();
    test_svhn_wrong();
    test_svhn_announced();
    remove_all("svhn");
}

#else

static void test_svhn(void)
{
    struct data d;
    CHECK(open_kind("svhn", "svhn", &d) == EXIT_USAGE);
    CHECK(strstr(message, "built without libmatio") != NULL);
}

#endif

/* ---- TinyImageNet ---- */

static const char *const wnids[] = {"n02000000", "n01000000", "n03000000"}; /* by line */

/* PNG in a file that is called JPEG: readers go by the contents. */
static void put_image(const char *path, int side, int channels, int value)
{
    static uint8_t pixels[64 * 64 * 3];
    memset(pixels, value, sizeof pixels);
    CHECK(image_write_grid(path, pixels, 1, side, side, channels, 1, message, sizeof message) ==
          EXIT_OK);
}

/* Two classes of three with two training images each, all with one test image. */
static void write_tiny(void)
{
    static const char annotations[] = "val_0.JPEG\tn03000000\t0\t32\t44\t62\n"
                                      "val_1.JPEG\tn01000000\t1\t2\t3\t4\n"
                                      "val_2.JPEG\tn02000000\t0\t0\t63\t63\n";
    char name[64];
    remove_all("tiny");
    make_directory(path_of("tiny%s%s", "", ""));
    make_directory(path_of("tiny/train%s%s", "", ""));
    make_directory(path_of("tiny/val%s%s", "", ""));
    make_directory(path_of("tiny/val/images%s%s", "", ""));
    put_text(path_of("tiny/wnids.txt%s%s", "", ""), "n02000000\nn01000000\nn03000000\n");
    put_text(path_of("tiny/words.txt%s%s", "", ""),
             "n00001740\tentity\nn01000000\tgoldfish, Carassius\nn02000000\tbull frog\n"
             "n03000000\tbus");
    put_text(path_of("tiny/val/val_annotations.txt%s%s", "", ""), annotations);
    for (int c = 0; c < 2; c++) {
        make_directory(path_of("tiny/train/%s%s", wnids[c], ""));
        make_directory(path_of("tiny/train/%s/images%s", wnids[c], ""));
        put_text(path_of("tiny/train/%s/%s_boxes.txt", wnids[c], wnids[c]), "");
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "%s_%d.JPEG", wnids[c], i);
            put_image(path_of("tiny/train/%s/images/%s", wnids[c], name), 64, 3, 100 * c + 20 * i);
        }
    }
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "val_%d.JPEG", i);
        put_image(path_of("tiny/val/images/%s%s", name, ""), 64, 3, 50 * i);
    }
}

static void test_tiny_reads(void)
{
    struct data d;
    struct class_split s;
    struct subset known, train, validation;
    write_tiny();
    put_image(path_of("tiny/val/images/val_1.JPEG%s%s", "", ""), 64, 1, 90);
    if (!CHECK(open_kind("tinyimagenet", "tiny", &d) == EXIT_OK)) {
        fprintf(stderr, "    %s\n", message);
        return;
    }
    CHECK(d.train.count == 4 && d.test.count == 3 && d.train.class_count == 3);
    CHECK(d.train.width == 64 && d.train.channels == 3);
    CHECK(strcmp(d.test.class_names[0], "n01000000 goldfish") == 0);
    CHECK(strcmp(d.test.class_names[1], "n02000000 bull frog") == 0);
    CHECK(d.train.labels[0] == 0 && d.train.labels[3] == 1);
    CHECK(d.train.pixels[0] == 100 && d.train.pixels[3 * 12288] == 20);
    CHECK(d.test.labels[0] == 2 && d.test.labels[1] == 0 && d.test.labels[2] == 1);
    CHECK(d.test.pixels[12288] == 90 && d.test.pixels[12289] == 90); /* grey became RGB */
    /* the class without training images can be unknown, not known */
    CHECK(split_parse("0,1", &d.train, &s, message, sizeof message) == EXIT_OK);
    CHECK(subset_known(&d.train, &s, &known, message, sizeof message) == EXIT_OK);
    CHECK(subset_divide(&known, 2, 0, 0, &train, &validation, message, sizeof message) == EXIT_OK);
    subset_free(&known);
    subset_free(&train);
    subset_free(&validation);
    split_free(&s);
    CHECK(split_parse("0,2", &d.train, &s, message, sizeof message) == EXIT_OK);
    CHECK(subset_known(&d.train, &s, &known, message, sizeof message) == EXIT_OK);
    CHECK(subset_divide(&known, 2, 0, 0, &train, &validation, message, sizeof message) ==
          EXIT_DATA);
    subset_free(&known);
    split_free(&s);
    data_close(&d);
    CHECK(open_kind("tinyimagenet", "tiny,order=wnids", &d) == EXIT_OK);
    CHECK(d.test.class_names && strcmp(d.test.class_names[0], "n02000000 bull frog") == 0);
    CHECK(d.test.labels && d.test.labels[0] == 2 && d.test.labels[1] == 1);
    CHECK(d.train.labels && d.train.labels[0] == 1 && d.train.labels[3] == 0);
    data_close(&d);
    CHECK(open_kind("tinyimagenet", "tiny,order=sorted", &d) == EXIT_OK);
    data_close(&d);
    CHECK(open_kind("tinyimagenet", "tiny,order=lines", &d) == EXIT_USAGE);
    CHECK(strstr(message, "neither sorted nor wnids") != NULL);
}

/* Every truncation of a text file is refused; where it cuts the last word alone (words.txt), or
 * the line end that need not be there, it may be taken. */
static void cut_tiny(const char *name, size_t harmless)
{
    static uint8_t bytes[1024];
    const char *path = path_of("tiny/%s%s", name, "");
    size_t count = get_file(path, bytes, sizeof bytes);
    for (size_t n = 0; n + harmless < count; n++) {
        put_file(path, bytes, n);
        refuse("tinyimagenet", "tiny", "", "");
    }
    put_file(path, bytes, count);
}

static void spoil_tiny(const char *name, const char *text, const char *file, const char *wanted)
{
    static uint8_t bytes[1024];
    const char *path = path_of("tiny/%s%s", name, "");
    size_t count = get_file(path, bytes, sizeof bytes);
    put_text(path, text);
    refuse("tinyimagenet", "tiny", file, wanted);
    put_file(path, bytes, count);
}

static void test_tiny_texts(void)
{
    write_tiny();
    cut_tiny("wnids.txt", 0);
    cut_tiny("words.txt", 2);
    cut_tiny("val/val_annotations.txt", 0);
    spoil_tiny("wnids.txt", "n01000000\nn02000000\nn02000000\n", "wnids.txt", "twice");
    spoil_tiny("wnids.txt", "n01000000\nfrog\n", "wnids.txt", "'frog' is no WordNet name");
    spoil_tiny("wnids.txt", "n02000000\nn03000000\n", "train/n01000000", "no class of wnids.txt");
    spoil_tiny("wnids.txt", "n01000000\n", "wnids.txt", "1 classes");
    spoil_tiny("words.txt", "n01000000\tgoldfish\nn03000000\tbus\n", "words.txt",
               "n02000000 is missing");
    spoil_tiny("words.txt", "n01000000 goldfish\n", "words.txt", "is not WNID, tab, words");
    spoil_tiny("val/val_annotations.txt", "val_0.JPEG\tn04000000\t0\t0\t63\t63\n",
               "val_annotations.txt", "is not IMAGE, WNID");
    spoil_tiny("val/val_annotations.txt", "val_0.JPEG\tn01000000\t0\t0\t63\t6x\n",
               "val_annotations.txt", "is not IMAGE, WNID");
    spoil_tiny("val/val_annotations.txt", "val_0.JPEG\tn01000000\t0\t0\t63\t63\t1\n",
               "val_annotations.txt", "is not IMAGE, WNID");
    spoil_tiny("val/val_annotations.txt", "../train/x\tn01000000\t0\t0\t63\t63\n",
               "val_annotations.txt", "is not IMAGE, WNID");
    spoil_tiny("val/val_annotations.txt", "val_7.JPEG\tn01000000\t0\t0\t63\t63\n",
               "val_7.JPEG", "no such file");
    spoil_tiny("val/val_annotations.txt", "val_0.JPEG\tn01000000\t0\t0\t63\t63\n",
               "val_annotations.txt", "1 lines for the 3 images");
    spoil_tiny("val/val_annotations.txt",
               "val_0.JPEG\tn01000000\t0\t0\t6\t6\nval_0.JPEG\tn01000000\t0\t0\t6\t6\n"
               "val_1.JPEG\tn01000000\t0\t0\t6\t6\n", "val_annotations.txt", "some on one image");
    spoil_tiny("val/val_annotations.txt",
               "val_0.JPEG\tn01000000\t0\t0\t6\t6\nval_1.JPEG\tn01000000\t0\t0\t6\t6\n"
               "val_2.JPEG\tn02000000\t0\t0\t6\t6\n", "val_annotations.txt",
               "1 images of class n02000000 bull frog, 2 of n01000000 goldfish");
}

static void test_tiny_images(void)
{
    static uint8_t bytes[16384];
    const char *path;
    size_t count;
    write_tiny();
    path = path_of("tiny/train/%s/images/%s_1.JPEG", wnids[0], wnids[0]);
    count = get_file(path, bytes, sizeof bytes);
    for (size_t n = 0; n + 16 < count; n++) { /* the end chunk may be missing */
        put_file(path, bytes, n);
        refuse("tinyimagenet", "tiny", "n02000000_1.JPEG", "");
    }
    put_image(path, 32, 3, 9);
    refuse("tinyimagenet", "tiny", "n02000000_1.JPEG", "32x32 pixels, not 64x64");
    CHECK(unlink(path) == 0);
    refuse("tinyimagenet", "tiny", "tiny/train", "n02000000 has 1 images, n01000000 has 2");
    write_tiny();
    CHECK(unlink(path_of("tiny/val/images/val_2.JPEG%s%s", "", "")) == 0);
    refuse("tinyimagenet", "tiny", "val_2.JPEG", "no such file");
    write_tiny();
    put_image(path_of("tiny/val/images/val_9.JPEG%s%s", "", ""), 64, 3, 1);
    refuse("tinyimagenet", "tiny", "val_annotations.txt", "3 lines for the 4 images");
    remove_all("tiny/train/n01000000");
    remove_all("tiny/train/n02000000");
    refuse("tinyimagenet", "tiny", "tiny/train", "no training images");
    remove_all("tiny/train");
    refuse("tinyimagenet", "tiny", "tiny/train", "No such file");
    remove_all("tiny");
    refuse("tinyimagenet", "tiny", "wnids.txt", "No such file");
}

/* ---- sets of unknown classes ---- */

static void test_unknown_sets(void)
{
    struct data_set set;
    struct class_split s, again;
    char spec[800];
    write_cifar100();
    CHECK(unlink(path_of("c100/train.bin%s%s", "", "")) == 0); /* it is not looked at */
    snprintf(spec, sizeof spec, "cifar100:%s", path_of("c100%s%s", "", ""));
    if (!CHECK(data_open_unknown(spec, 0, 0, 0, &set, message, sizeof message) == EXIT_OK))
        return;
    CHECK(set.count == 100 && set.class_count == 100 && strcmp(set.spec, spec) == 0);
    CHECK(strcmp(set.class_names[7], "unknown cifar100/name_07") == 0);
    CHECK(split_published("arpl", "cifar+10", 2, &s, message, sizeof message) == EXIT_OK);
    CHECK(split_take_unknown(&s, NULL, message, sizeof message) == EXIT_USAGE);
    CHECK(strstr(message, "--unknown cifar100:DIR") != NULL);
    CHECK(split_take_unknown(&s, &set, message, sizeof message) == EXIT_OK);
    CHECK(s.unknown_count == 10);
    CHECK(split_by_name(s.name, &again, message, sizeof message) == EXIT_OK);
    CHECK(memcmp(s.unknown, again.unknown, 10 * sizeof *s.unknown) == 0);
    split_free(&again);
    set.class_count = 10;
    CHECK(split_take_unknown(&s, &set, message, sizeof message) == EXIT_USAGE);
    set.class_count = 100;
    split_free(&s);
    CHECK(split_published("neal", "cifar10", 0, &s, message, sizeof message) == EXIT_OK);
    CHECK(split_take_unknown(&s, NULL, message, sizeof message) == EXIT_OK && s.unknown_count == 4);
    CHECK(split_take_unknown(&s, &set, message, sizeof message) == EXIT_OK);
    CHECK(s.unknown_count == 100 && s.unknown[99] == 99);
    split_free(&s);
    CHECK(split_by_name("0-5", &s, message, sizeof message) == EXIT_USAGE && s.known == NULL);
    data_set_free(&set);
    CHECK(data_open_unknown("glyphs:300,10", 0, 0, 0, &set, message, sizeof message) == EXIT_OK);
    CHECK(set.count == 10 && set.class_names);
    CHECK(set.class_names && strncmp(set.class_names[0], "unknown glyphs/", 15) == 0);
    data_set_free(&set);
    CHECK(data_open_unknown("cifar10", 0, 0, 0, &set, message, sizeof message) == EXIT_USAGE);
    CHECK(strstr(message, "cifar10:DIR") != NULL && set.pixels == NULL);
}

/* Runs the program in the test's folder; standard output to out.txt, errors to err.txt. */
static int program(const char *arguments)
{
    char command[1600];
    int status;
    snprintf(command, sizeof command, "cd '%s' && '%s' %s >out.txt 2>err.txt", folder,
             getenv("OSR_PROGRAM"), arguments);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int file_has(const char *name, const char *text)
{
    static uint8_t bytes[1 << 20];
    size_t n = get_file(path_of("%s%s", name, ""), bytes, sizeof bytes - 1);
    bytes[n] = '\0';
    return strstr((const char *)bytes, text) != NULL;
}

/* CIFAR+10 from training to evaluation: both sets are named, ten of its classes are unknown. */
static void test_program(void)
{
    static const char both[] = "\"cifar10:c10 + cifar100:c100\"";
    const char *split = "train --quiet --data cifar10:c10 --split arpl --split-set cifar+10 "
                        "--epochs 1 --batch 8 --out run";
    char line[400];
    write_cifar10();
    write_cifar100();
    CHECK(program(split) == EXIT_USAGE);
    CHECK(file_has("err.txt", "--unknown cifar100:DIR"));
    snprintf(line, sizeof line, "%s --unknown cifar10:c10", split);
    CHECK(program(line) == EXIT_USAGE);
    snprintf(line, sizeof line, "%s --json --unknown cifar100:c100", split);
    CHECK(program(line) == EXIT_OK);
    CHECK(file_has("out.txt", both) && file_has("run/eval.json", both));
    CHECK(file_has("out.txt", "\"n_known\":4") || file_has("out.txt", "\"n_known\": 4"));
    CHECK(file_has("out.txt", "\"n_unknown\":10,") || file_has("out.txt", "\"n_unknown\": 10,"));
    CHECK(file_has("run/config.ini", "unknown = cifar100:c100"));
    CHECK(program("inspect run/model.safetensors") == EXIT_OK);
    CHECK(file_has("out.txt", "run.unknown"));
    CHECK(program("eval run") == EXIT_OK);
    CHECK(file_has("out.txt", "cifar10:c10 + cifar100:c100, arpl cifar+10 trial 0: 4 known and 10 "
                              "unknown test images"));
    CHECK(program("eval run --unknown glyphs:300,20") == EXIT_OK); /* 28x28 grey, all its classes */
    CHECK(file_has("out.txt", "cifar10:c10 + glyphs:300,20, arpl cifar+10 trial 0: 4 known and "
                              "20 unknown"));
    CHECK(program("eval run --data cifar10:c10") == EXIT_USAGE);
    CHECK(program("jacobian run --directions 1 --limit 2") == EXIT_OK);
}

/* ---- the real files, where they are ---- */

/* Unpacks an archive of OSR_TEST_DATA, once, into a folder of its own in OSR_TEST_CACHE (the
 * build's: most of the time goes into writing 90000 files), else in the test's folder. The spec for
 * data_open; NULL when the archive is not there. */
static const char *unpack(const char *kind, const char *archive, const char *name, const char *top)
{
    static char spec[1200];
    char command[4200], from[1000], to[1000];
    const char *root = getenv("OSR_TEST_DATA"), *cache = getenv("OSR_TEST_CACHE");
    snprintf(from, sizeof from, "%s/%s", root ? root : "", archive);
    if (!root || !*root || access(from, R_OK) != 0) {
        printf("%s is not there: its part was left out\n", archive);
        return NULL;
    }
    snprintf(to, sizeof to, "%s/readers_%s", cache && *cache ? cache : folder, name);
    if (access(to, R_OK) != 0) {
        snprintf(command, sizeof command,
                 "new='%s.part' && rm -rf \"$new\" && mkdir -p \"$new\" && "
                 "tar -xzf '%s' -C \"$new\" && mv \"$new\" '%s'", to, from, to);
        if (!CHECK(system(command) == 0))
            return NULL;
    }
    snprintf(spec, sizeof spec, "%s:%s%s", kind, to, top);
    return spec;
}

static void test_real_tiny(const char *spec)
{
    struct data d;
    struct class_split s;
    struct subset known;
    size_t grey = 0;
    if (!CHECK(data_open(spec, 0, 0, 0, &d, message, sizeof message) == EXIT_OK)) {
        fprintf(stderr, "    %s\n", message);
        return;
    }
    CHECK(d.test.count == 10000 && d.test.class_count == 200 && d.train.count == 37 * 500);
    CHECK(strcmp(d.test.class_names[0], "n01443537 goldfish") == 0);
    CHECK(strncmp(d.test.class_names[d.test.labels[0]], "n03444034 ", 10) == 0);
    for (size_t i = 0; i < d.test.count; i++) {
        const uint8_t *p = d.test.pixels + i * 12288;
        int same = 1;
        for (int k = 0; k < 4096 && same; k++)
            same = p[3 * k] == p[3 * k + 1] && p[3 * k] == p[3 * k + 2];
        grey += (size_t)same;
    }
    CHECK(grey > 100 && grey < 1000);
    for (int i = 0; i < 2; i++) { /* all known classes of both families have their images */
        CHECK(split_published(i ? "arpl" : "neal", split_guess_set(&d.train), 0, &s, message,
                              sizeof message) == EXIT_OK);
        CHECK(subset_known(&d.train, &s, &known, message, sizeof message) == EXIT_OK);
        CHECK(known.count == 20 * 500);
        subset_free(&known);
        split_free(&s);
    }
    data_close(&d);
}

static void test_real_cifar(const char *spec)
{
    struct data d;
    if (CHECK(data_open(spec, 0, 0, 0, &d, message, sizeof message) == EXIT_OK)) {
        CHECK(d.train.count == 50000 && d.test.count == 10000 && d.test.class_count == 10);
        CHECK(d.train.width == 32 && d.train.channels == 3);
        CHECK(strcmp(d.train.class_names[9], "truck") == 0);
    }
    data_close(&d);
}

int main(void)
{
    const char *base = getenv("TMPDIR"), *spec;
    int real = 0;
    snprintf(folder, sizeof folder, "%s/osr_test_XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    test_cifar10();
    test_cifar10_spoiled();
    test_cifar100();
    test_svhn();
    test_tiny_reads();
    test_tiny_texts();
    test_tiny_images();
    test_unknown_sets();
    if (getenv("OSR_PROGRAM"))
        test_program();
    spec = unpack("tinyimagenet", "tiny-imagenet/tiny-imagenet-split0.tar.gz", "tiny",
                  "/tiny-imagenet-200");
    if (spec)
        test_real_tiny(spec);
    real += spec != NULL;
    spec = unpack("folder", "cifar10/cifar10-jpeg.tar.gz", "cifar10", "");
    if (spec)
        test_real_cifar(spec);
    real += spec != NULL;
    remove_all("");
    if (test_failures == 0 && real < 2)
        return test_skip("the real TinyImageNet or CIFAR-10 JPEGs; all else passed");
    return test_end();
}
