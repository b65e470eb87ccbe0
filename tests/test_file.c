/* test_file - safetensors: what is read back, what is refused, and what is left on disk when
 * memory, disk or permission is missing */
#define _XOPEN_SOURCE 700
#include "osr.h"
#include "test.h"

#include <dirent.h>
#include <locale.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct test_memory memory = {0, -1};
static osr_ctx *ctx;

/* The status of opening bytes; the file stays open only where *out is wanted. */
static osr_status open_bytes(const void *data, size_t bytes, osr_file **out)
{
    osr_file *file = NULL;
    osr_status status = osr_file_open_memory(ctx, data, bytes, "bytes", NULL, &file);
    CHECK((status == OSR_OK) == (file != NULL));
    CHECK((status == OSR_OK) == (osr_ctx_status(ctx) == OSR_OK));
    if (out)
        *out = file;
    else
        osr_file_close(file);
    return status;
}

/* Length, header and `payload` bytes (0, 1, 2, ...). The caller frees. */
static unsigned char *make_bytes(const char *header, size_t payload, size_t *bytes)
{
    size_t n = strlen(header), i;
    unsigned char *b = (unsigned char *)calloc(1, 8 + n + payload + 1);
    if (!b)
        exit(1);
    for (i = 0; i < 8; i++)
        b[i] = (unsigned char)((uint64_t)n >> 8 * i & 255);
    memcpy(b + 8, header, n);
    for (i = 0; i < payload; i++)
        b[8 + n + i] = (unsigned char)i;
    *bytes = 8 + n + payload;
    return b;
}

/* Hashes by python-xxhash, over files of 64, 133 and 1136 bytes: each path of XXH64's end. */
static void test_hash(void)
{
    static const struct {
        const char *format;
        const char *tensor;
        unsigned count;
        unsigned char step, first;
        const char *hash;
    } files[] = {
        {"", "", 0, 0, 0, "934c6fc5617990e1"},
        {"\"format\":\"osr-1\",",
         ",\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]}", 5, 1, 1,
         "27804e5746fed7a2"},
        {"\"format\":\"osr-1\",",
         ",\"a\":{\"dtype\":\"U8\",\"shape\":[1000],\"data_offsets\":[0,1000]}", 1000, 37, 11,
         "c31daf67938fb82b"},
    };
    int i;
    unsigned k;
    for (i = 0; i < 3; i++) {
        char header[400];
        unsigned char *b;
        osr_file *file = NULL;
        size_t bytes;
        snprintf(header, sizeof header, "{\"__metadata__\":{%s\"osr.xxh64\":\"%s\"}%s}",
                 files[i].format, files[i].hash, files[i].tensor);
        while (strlen(header) % 8)
            strcat(header, " ");
        b = make_bytes(header, files[i].count, &bytes);
        for (k = 0; k < files[i].count; k++)
            b[bytes - files[i].count + k] = (unsigned char)(files[i].first + files[i].step * k);
        CHECK(open_bytes(b, bytes, &file) == OSR_OK);
        CHECK(file && osr_file_meta(file, "osr.xxh64"));
        osr_file_close(file);
        free(b);
    }
}

static const float some_floats[6] = {0.0f, -1.5f, 3.25e-30f, 1e30f, 7.0f, -0.0f};
static const int64_t some_longs[2] = {-1, INT64_MAX};
static const uint64_t one_ulong[1] = {UINT64_MAX};
static const int32_t some_ints[3] = {-5, 0, 2147483647};
static const uint8_t some_bytes[5] = {0, 1, 127, 128, 255};
static const double some_doubles[2] = {0.5, -3.0};
static const uint16_t some_halfs[3] = {0x3c00, 0xc100, 0x0001}; /* 1, -2.5, 2^-24 */
static const char odd_text[] =
    "quote \" backslash \\ tab \t bell \a gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\x8c";

/* The same content, added in one of two orders. */
static osr_writer *make_writer(int backwards)
{
    static const uint64_t matrix[2] = {2, 3}, two[1] = {2}, three[1] = {3}, five[1] = {5};
    osr_writer *w = NULL;
    osr_status s = osr_writer_create(ctx, &w);
    int i, k;
    for (i = 0; s == OSR_OK && i < 10; i++) {
        k = backwards ? 9 - i : i;
        s = k == 0 ? osr_writer_tensor(w, "weight", OSR_DTYPE_F32, 2, matrix, some_floats)
            : k == 1 ? osr_writer_tensor(w, "a.long", OSR_DTYPE_I64, 1, two, some_longs)
            : k == 2 ? osr_writer_tensor(w, "counter", OSR_DTYPE_U64, 0, NULL, one_ulong)
            : k == 3 ? osr_writer_tensor(w, "labels", OSR_DTYPE_I32, 1, three, some_ints)
            : k == 4 ? osr_writer_tensor(w, "odd \"name\\", OSR_DTYPE_U8, 1, five, some_bytes)
            : k == 5 ? osr_writer_tensor(w, "double", OSR_DTYPE_F64, 1, two, some_doubles)
            : k == 6 ? osr_writer_tensor(w, "half", OSR_DTYPE_F16, 1, three, some_halfs)
            : k == 7 ? osr_writer_tensor(w, "brain", OSR_DTYPE_BF16, 1, three, some_halfs)
            : k == 8 ? osr_writer_meta(w, "class.0", odd_text) : osr_writer_meta(w, "", "");
    }
    if (s == OSR_OK)
        return w;
    osr_writer_destroy(w);
    return NULL;
}

/* The bytes of that file; the caller frees. */
static unsigned char *save_bytes(int backwards, size_t *bytes)
{
    osr_writer *w = make_writer(backwards);
    unsigned char *b = NULL;
    CHECK(w != NULL);
    CHECK(osr_writer_save_memory(w, NULL, 0, bytes) == OSR_OK);
    b = (unsigned char *)malloc(*bytes);
    CHECK(osr_writer_save_memory(w, b, *bytes - 1, bytes) == OSR_ARG);
    osr_ctx_clear_error(ctx);
    CHECK(osr_writer_save_memory(w, b, *bytes, bytes) == OSR_OK);
    osr_writer_destroy(w);
    return b;
}

static void check_content(const osr_file *f)
{
    float x[6];
    int64_t longs[2];
    uint64_t ulongs[1];
    int32_t ints[3];
    uint8_t bytes[5];
    double doubles[2];
    uint16_t halfs[3];
    const osr_file_entry *e;
    const char *key = NULL;
    int i;
    CHECK(osr_file_meta(f, "osr.xxh64") != NULL);
    CHECK(osr_file_count(f) == 8);
    for (i = 1; i < 8; i++)
        CHECK(strcmp(osr_file_tensor(f, i - 1)->name, osr_file_tensor(f, i)->name) < 0);
    for (i = 0; i < 8; i++)
        CHECK(osr_file_find(f, osr_file_tensor(f, i)->name) == osr_file_tensor(f, i));
    CHECK(osr_file_tensor(f, -1) == NULL && osr_file_tensor(f, 8) == NULL);
    CHECK(osr_file_find(f, "weigh") == NULL && osr_file_find(f, NULL) == NULL);
    e = osr_file_find(f, "weight");
    CHECK(e && e->dtype == OSR_DTYPE_F32 && e->rank == 2 && e->shape[0] == 2 && e->shape[1] == 3
          && e->count == 6 && e->bytes == 24);
    e = osr_file_find(f, "counter");
    CHECK(e && e->rank == 0 && e->count == 1 && e->bytes == 8);
    CHECK(osr_file_read_f32(f, "weight", 6, x) == OSR_OK && !memcmp(x, some_floats, sizeof x));
    CHECK(osr_file_read_raw(f, "weight", OSR_DTYPE_F32, 6, x) == OSR_OK);
    CHECK(osr_file_read_raw(f, "a.long", OSR_DTYPE_I64, 2, longs) == OSR_OK);
    CHECK(!memcmp(longs, some_longs, sizeof longs));
    CHECK(osr_file_read_raw(f, "counter", OSR_DTYPE_U64, 1, ulongs) == OSR_OK);
    CHECK(ulongs[0] == UINT64_MAX);
    CHECK(osr_file_read_raw(f, "labels", OSR_DTYPE_I32, 3, ints) == OSR_OK);
    CHECK(!memcmp(ints, some_ints, sizeof ints));
    CHECK(osr_file_read_raw(f, "odd \"name\\", OSR_DTYPE_U8, 5, bytes) == OSR_OK);
    CHECK(!memcmp(bytes, some_bytes, sizeof bytes));
    CHECK(osr_file_read_raw(f, "double", OSR_DTYPE_F64, 2, doubles) == OSR_OK);
    CHECK(doubles[0] == 0.5 && doubles[1] == -3.0);
    CHECK(osr_file_read_raw(f, "half", OSR_DTYPE_F16, 3, halfs) == OSR_OK);
    CHECK(!memcmp(halfs, some_halfs, sizeof halfs));
    CHECK(osr_file_read_f32(f, "half", 3, x) == OSR_OK);
    CHECK(x[0] == 1.0f && x[1] == -2.5f && x[2] == 1.0f / 16777216.0f);
    CHECK(osr_file_read_f32(f, "double", 2, x) == OSR_OK && x[0] == 0.5f && x[1] == -3.0f);
    CHECK(osr_file_read_f32(f, "brain", 3, x) == OSR_OK && x[0] == 0.0078125f && x[1] == -8.0f);

    CHECK(strcmp(osr_file_meta(f, "format"), "osr-1") == 0);
    CHECK(strcmp(osr_file_meta(f, "osr.version"), OSR_VERSION) == 0);
    CHECK(strcmp(osr_file_meta(f, "class.0"), odd_text) == 0);
    CHECK(osr_file_meta(f, "") && osr_file_meta(f, "")[0] == '\0');
    CHECK(osr_file_meta(f, "class.1") == NULL && osr_file_meta(f, NULL) == NULL);
    for (i = 0; osr_file_meta_at(f, i, &key); i++)
        CHECK(osr_file_meta(f, key) == osr_file_meta_at(f, i, NULL));
    CHECK(i == 5 && osr_file_meta_at(f, -1, NULL) == NULL);

    CHECK(osr_ctx_status(ctx) == OSR_OK);
    CHECK(osr_file_read_f32(f, "labels", 3, x) == OSR_FORMAT);
    CHECK(strstr(osr_ctx_message(ctx), "tensor labels is I32") != NULL);
    osr_ctx_clear_error(ctx);
    CHECK(osr_file_read_f32(f, "weight", 5, x) == OSR_SHAPE);
    osr_ctx_clear_error(ctx);
    CHECK(osr_file_read_f32(f, "bias", 5, x) == OSR_FORMAT);
    CHECK(strstr(osr_ctx_message(ctx), "tensor bias is missing") != NULL);
    osr_ctx_clear_error(ctx);
    CHECK(osr_file_read_raw(f, "labels", OSR_DTYPE_I64, 3, longs) == OSR_FORMAT);
    CHECK(osr_file_read_raw(f, "labels", OSR_DTYPE_I32, 3, NULL) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

static void test_round_trip(void)
{
    size_t bytes, again, i, header = 0;
    unsigned char *b = save_bytes(0, &bytes), *c = save_bytes(1, &again);
    osr_file *f = NULL;
    CHECK(bytes == again && !memcmp(b, c, bytes));
    CHECK(open_bytes(b, bytes, &f) == OSR_OK);
    if (f)
        check_content(f);
    osr_file_close(f);
    for (i = 8; i-- > 0;)
        header = header << 8 | b[i];
    CHECK(header % 8 == 0 && b[8] == '{');
    free(c);
    if (setlocale(LC_ALL, "de_DE.UTF-8")) { /* where it is installed */
        c = save_bytes(0, &again);
        CHECK(bytes == again && !memcmp(b, c, bytes));
        free(c);
        setlocale(LC_ALL, "C");
    }
    free(b);
    osr_file_close(NULL);
    osr_writer_destroy(NULL);
}

/* No damaged file may be taken for a whole one. */
static void test_damage(void)
{
    size_t bytes, i, k;
    unsigned char *b = save_bytes(0, &bytes), *longer;
    for (i = 0; i < bytes; i++) {
        CHECK(open_bytes(b, i, NULL) == OSR_FORMAT);
        osr_ctx_clear_error(ctx);
    }
    longer = (unsigned char *)calloc(1, bytes + 8);
    memcpy(longer, b, bytes);
    for (i = 1; i <= 8; i++) {
        CHECK(open_bytes(longer, bytes + i, NULL) == OSR_FORMAT);
        osr_ctx_clear_error(ctx);
    }
    free(longer);
    for (i = 0; i < bytes; i++)
        for (k = 0; k < 8; k++) {
            osr_status s;
            b[i] ^= (unsigned char)(1u << k);
            s = open_bytes(b, bytes, NULL);
            if (!CHECK(s == OSR_FORMAT || s == OSR_UNSUPPORTED))
                fprintf(stderr, "    byte %lu bit %lu: status %d\n", (unsigned long)i,
                        (unsigned long)k, (int)s);
            osr_ctx_clear_error(ctx);
            b[i] ^= (unsigned char)(1u << k);
        }
    CHECK(open_bytes(b, bytes, NULL) == OSR_OK);
    free(b);
}

#define U8(name, count, from, to)                                                                  \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" count "],\"data_offsets\":[" from "," to "]}"

static void test_headers(void)
{
    static const struct {
        const char *header;
        size_t payload;
        osr_status status;
        const char *message;
    } rows[] = {
        {"{}", 0, OSR_OK, ""},
        {" {\n} \t\r", 0, OSR_OK, ""},
        {"{" U8("a", "4", "0", "4") "}", 4, OSR_OK, ""},
        {"{" U8("b", "2", "2", "4") ", " U8("a", "2", "0", "2") "}", 4, OSR_OK, ""},
        {"{\"a\" : { \"data_offsets\" : [ 0 , 4 ] , \"shape\" : [ ] , \"dtype\" : \"F32\" } }", 4,
         OSR_OK, ""},
        {"{\"__metadata__\":{},\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],"
         "\"data_offsets\":[0,1]}}", 1, OSR_OK, ""},
        {"{\"__metadata__\":{\"format\":\"pt\",\"x\":\"\\ud83d\\udc0c\\/\\u00e4\\u20ac\"}}", 0,
         OSR_OK, ""},
        {"{\"__metadata__\":{\"format\":\"osr-1\"}}", 0, OSR_OK, ""},
        {"", 0, OSR_FORMAT, "'{' is wanted"},
        {"[]", 0, OSR_FORMAT, "'{' is wanted"},
        {"{", 0, OSR_FORMAT, "string"},
        {"{}x", 0, OSR_FORMAT, "after the closing brace"},
        {"{,}", 0, OSR_FORMAT, ""},
        {"{" U8("a", "4", "0", "4") ",}", 4, OSR_FORMAT, ""},
        {"{" U8("a", "4", "0", "4") "}", 3, OSR_FORMAT,
         "bytes: truncated: header says 4 bytes of tensors, file has 3"},
        {"{" U8("a", "4", "0", "4") "}", 6, OSR_FORMAT, "2 bytes after the last tensor"},
        {"{}", 1, OSR_FORMAT, "1 bytes after the last tensor"},
        {"{" U8("a", "4", "1", "5") "}", 5, OSR_FORMAT, "after a hole"},
        {"{" U8("a", "2", "0", "2") "," U8("b", "2", "3", "5") "}", 5, OSR_FORMAT, "after a hole"},
        {"{" U8("a", "3", "0", "3") "," U8("b", "2", "2", "4") "}", 4, OSR_FORMAT,
         "inside another"},
        {"{" U8("a", "3", "0", "3") "," U8("b", "3", "0", "3") "}", 3, OSR_FORMAT,
         "inside another"},
        {"{" U8("a", "1", "0", "1") "," U8("a", "1", "1", "2") "}", 2, OSR_FORMAT, "occurs twice"},
        {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, OSR_FORMAT, "key occurs twice"},
        {"{\"__metadata__\":{\"k\":\"1\",\"\\u006b\":\"2\"}}", 0, OSR_FORMAT, "key occurs twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, OSR_FORMAT, "duplicate key"},
        {"{\"__metadata__\":{\"k\":1}}", 0, OSR_FORMAT, "a string is wanted"},
        {"{\"__metadata__\":{\"k\":null}}", 0, OSR_FORMAT, "a string is wanted"},
        {"{\"__metadata__\":[]}", 0, OSR_FORMAT, "an object is wanted"},
        {"{\"__metadata__\":{\"k\":{\"l\":\"\"}}}", 0, OSR_FORMAT, "a string is wanted"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         OSR_FORMAT, "duplicate key"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, OSR_FORMAT,
         "tensor a: header byte"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, OSR_FORMAT, "are wanted"},
        {"{\"a\":{}}", 0, OSR_FORMAT, ""},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, OSR_FORMAT,
         "tensor a: header byte 20: dtype is none of"},
        {"{\"a\":{\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, OSR_FORMAT, "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}", 5, OSR_FORMAT,
         "do not fit"},
        {"{" U8("a", "1", "1", "0") "}", 1, OSR_FORMAT, "do not fit"},
        {"{" U8("a", "0", "0", "0") "}", 0, OSR_FORMAT, "empty or too large"},
        {"{" U8("a", "2,0", "0", "0") "}", 0, OSR_FORMAT, "empty or too large"},
        {"{" U8("a", "4294967296,4294967296", "0", "0") "}", 0, OSR_FORMAT, "empty or too large"},
        {"{" U8("a", "18446744073709551615", "0", "18446744073709551615") "}", 0, OSR_FORMAT,
         "empty or too large"},
        {"{" U8("a", "18446744073709551616", "0", "1") "}", 1, OSR_FORMAT, "number is too large"},
        {"{" U8("a", "1000000000000", "0", "1000000000000") "}", 9, OSR_FORMAT, "truncated"},
        {"{" U8("a", "01", "0", "1") "}", 1, OSR_FORMAT, "begins with 0"},
        {"{" U8("a", "1e0", "0", "1") "}", 1, OSR_FORMAT, "plain decimal"},
        {"{" U8("a", "1.0", "0", "1") "}", 1, OSR_FORMAT, "plain decimal"},
        {"{" U8("a", "-1", "0", "1") "}", 1, OSR_FORMAT, "plain decimal"},
        {"{" U8("a", "+1", "0", "1") "}", 1, OSR_FORMAT, "plain decimal"},
        {"{" U8("a", "1,", "0", "1") "}", 1, OSR_FORMAT, "plain decimal"},
        {"{" U8("a", "[1]", "0", "1") "}", 1, OSR_FORMAT, "plain decimal"},
        {"{" U8("a", "1", "0", "1,2") "}", 1, OSR_FORMAT, "too long"},
        {"{" U8("a", "1,1,1,1,1,1,1,1", "0", "1") "}", 1, OSR_OK, ""},
        {"{" U8("a", "1,1,1,1,1,1,1,1,1", "0", "1") "}", 1, OSR_FORMAT, "too long"},
        {"{" U8("", "1", "0", "1") "}", 1, OSR_FORMAT, "printable ASCII"},
        {"{" U8("\xc3\xa4", "1", "0", "1") "}", 1, OSR_FORMAT, "printable ASCII"},
        {"{" U8("\xc3", "1", "0", "1") "}", 1, OSR_FORMAT, "not UTF-8"},
        {"{" U8("\xed\xa0\x80", "1", "0", "1") "}", 1, OSR_FORMAT, "not UTF-8"},
        {"{" U8("\xc0\xaf", "1", "0", "1") "}", 1, OSR_FORMAT, "not UTF-8"},
        {"{" U8("\xf4\x90\x80\x80", "1", "0", "1") "}", 1, OSR_FORMAT, "not UTF-8"},
        {"{" U8("a\nb", "1", "0", "1") "}", 1, OSR_FORMAT, "control character"},
        {"{" U8("a\\nb", "1", "0", "1") "}", 1, OSR_FORMAT, "printable ASCII"},
        {"{" U8("a\\q", "1", "0", "1") "}", 1, OSR_FORMAT, "bad escape"},
        {"{" U8("a\\u00g0", "1", "0", "1") "}", 1, OSR_FORMAT, "bad \\u escape"},
        {"{\"__metadata__\":{\"k\":\"\\u0000\"}}", 0, OSR_FORMAT, "NUL"},
        {"{\"__metadata__\":{\"k\":\"\\udc00\"}}", 0, OSR_FORMAT, "half a surrogate"},
        {"{\"__metadata__\":{\"k\":\"\\ud800\"}}", 0, OSR_FORMAT, "half a surrogate"},
        {"{\"__metadata__\":{\"k\":\"\\ud800\\u0041\"}}", 0, OSR_FORMAT, "half a surrogate"},
        {"{\"__metadata__\":{\"k\":\"\\ud800\\udbff\"}}", 0, OSR_FORMAT, "half a surrogate"},
        {"{\"__metadata__\":{\"format\":\"osr-2\"}}", 0, OSR_UNSUPPORTED,
         "bytes: format osr-2 is newer than osr-1"},
        {"{\"__metadata__\":{\"format\":\"osr-999999\"},\"a\":7}", 0, OSR_UNSUPPORTED,
         "osr-999999"},
        {"{\"__metadata__\":{\"format\":\"osr-0\"}}", 0, OSR_FORMAT, "format version"},
        {"{\"__metadata__\":{\"format\":\"osr-01\"}}", 0, OSR_FORMAT, "format version"},
        {"{\"__metadata__\":{\"format\":\"osr-\"}}", 0, OSR_FORMAT, "format version"},
        {"{\"__metadata__\":{\"format\":\"osr-1a\"}}", 0, OSR_FORMAT, "format version"},
        {"{\"__metadata__\":{\"osr.xxh64\":\"0123456789abcdef\"}}", 0, OSR_FORMAT,
         "damaged: hash is"},
        {"{\"__metadata__\":{\"osr.xxh64\":\"0123456789ABCDEF\"}}", 0, OSR_FORMAT, "16 hex"},
        {"{\"__metadata__\":{\"osr.xxh64\":\"0123456789abcde\"}}", 0, OSR_FORMAT, "16 hex"},
        {"{\"__metadata__\":{\"osr.xxh64\":\"0123456789abcdef0\"}}", 0, OSR_FORMAT, "16 hex"},
        {"{\"__metadata__\":{\"osr.xxh64\":\"\\u0030123456789abcdef\"}}", 0, OSR_FORMAT, "16 hex"},
        {"{\"__metadata__\":{\"osr.xxh65\":\"0123456789abcdef\"}}", 0, OSR_FORMAT, "damaged key"},
    };
    size_t i, bytes, n = sizeof rows / sizeof rows[0];
    for (i = 0; i < n; i++) {
        unsigned char *b = make_bytes(rows[i].header, rows[i].payload, &bytes);
        int good = CHECK(open_bytes(b, bytes, NULL) == rows[i].status);
        good &= CHECK(strstr(osr_ctx_message(ctx), rows[i].message) != NULL);
        if (!good)
            fprintf(stderr, "    header %s\n    message %s\n", rows[i].header,
                    osr_ctx_message(ctx));
        osr_ctx_clear_error(ctx);
        free(b);
    }
}

/* A NUL, and sizes that text cannot show. */
static void test_odd_headers(void)
{
    size_t bytes, n, i;
    unsigned char *b = make_bytes("{} ", 0, &bytes);
    char *text, *end;
    osr_file *f = NULL;
    b[10] = 0;
    CHECK(open_bytes(b, bytes, NULL) == OSR_FORMAT);
    osr_ctx_clear_error(ctx);
    for (i = 0; i < 8; i++) {
        memset(b, 0, 8);
        b[i] = 255;
        CHECK(open_bytes(b, bytes, NULL) == OSR_FORMAT);
        osr_ctx_clear_error(ctx);
    }
    memset(b, 255, 8);
    CHECK(open_bytes(b, bytes, NULL) == OSR_FORMAT);
    osr_ctx_clear_error(ctx);
    free(b);

    text = (char *)malloc((1u << 20) + 2); /* a header of exactly 1 MiB, and one byte more */
    memset(text, ' ', (1u << 20) + 1);
    memcpy(text, "{}", 2);
    text[1u << 20] = '\0';
    b = make_bytes(text, 0, &bytes);
    CHECK(open_bytes(b, bytes, NULL) == OSR_OK);
    free(b);
    text[1u << 20] = ' ';
    text[(1u << 20) + 1] = '\0';
    b = make_bytes(text, 0, &bytes);
    CHECK(open_bytes(b, bytes, NULL) == OSR_FORMAT);
    CHECK(strstr(osr_ctx_message(ctx), "at most 1048576") != NULL);
    osr_ctx_clear_error(ctx);
    free(b);

    for (n = 4096; n <= 4097; n++) { /* the most tensors, and one more */
        end = text + sprintf(text, "{");
        for (i = 0; i < n; i++)
            end += sprintf(end, "%s" U8("t%lu", "1", "%lu", "%lu"), i ? "," : "", (unsigned long)i,
                           (unsigned long)i, (unsigned long)i + 1);
        sprintf(end, "}");
        b = make_bytes(text, n, &bytes);
        CHECK(open_bytes(b, bytes, &f) == (n == 4096 ? OSR_OK : OSR_FORMAT));
        CHECK(n != 4096 || (f && osr_file_count(f) == 4096 && osr_file_find(f, "t4095")));
        osr_file_close(f);
        osr_ctx_clear_error(ctx);
        free(b);
    }
    for (n = 128; n <= 129; n++) { /* the longest name */
        char name[130];
        memset(name, 'x', n);
        name[n] = '\0';
        sprintf(text, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", name);
        b = make_bytes(text, 1, &bytes);
        CHECK(open_bytes(b, bytes, NULL) == (n == 128 ? OSR_OK : OSR_FORMAT));
        osr_ctx_clear_error(ctx);
        free(b);
    }
    free(text);
}

/* IEEE half to single by bits, for all 65536. */
static float half_by_bits(unsigned h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 1023, bits;
    float f;
    if (e == 31) {
        bits = 0x7f800000u | m << 13;
    } else if (e) {
        bits = (e + 112) << 23 | m << 13;
    } else if (m) {
        for (e = 113; !(m & 1024); e--)
            m <<= 1;
        bits = e << 23 | (m & 1023) << 13;
    } else {
        bits = 0;
    }
    bits |= sign;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* One file of one tensor "x" of n elements. */
static osr_file *open_tensor(osr_dtype dtype, const void *values, size_t n, int allow)
{
    osr_file_desc desc;
    osr_writer *w = NULL;
    osr_file *f = NULL;
    unsigned char *b;
    uint64_t shape[1];
    size_t bytes = 0;
    shape[0] = n;
    memset(&desc, 0, sizeof desc);
    desc.allow_not_finite = allow;
    CHECK(osr_writer_create(ctx, &w) == OSR_OK);
    CHECK(osr_writer_tensor(w, "x", dtype, 1, shape, values) == OSR_OK);
    CHECK(osr_writer_save_memory(w, NULL, 0, &bytes) == OSR_OK);
    b = (unsigned char *)malloc(bytes);
    CHECK(osr_writer_save_memory(w, b, bytes, &bytes) == OSR_OK);
    osr_writer_destroy(w);
    osr_file_open_memory(ctx, b, bytes, "bytes", &desc, &f);
    free(b);
    return f;
}

static void test_conversions(void)
{
    static uint16_t all[65536];
    static float x[65536];
    const float inf = (float)strtod("inf", NULL);
    double doubles[5] = {1e300, -1e300, 0.1, 3.4028235677973366e38, 0.0};
    osr_file *f;
    unsigned i;
    for (i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    f = open_tensor(OSR_DTYPE_F16, all, 65536, 1);
    CHECK(f && osr_file_read_f32(f, "x", 65536, x) == OSR_OK);
    for (i = 0; i < 65536; i++) {
        float want = half_by_bits(i);
        CHECK(x[i] != x[i] ? want != want : !memcmp(&x[i], &want, sizeof want));
    }
    osr_file_close(f);
    f = open_tensor(OSR_DTYPE_BF16, all, 65536, 1);
    CHECK(f && osr_file_read_f32(f, "x", 65536, x) == OSR_OK);
    for (i = 0; i < 65536; i++) {
        uint32_t bits = (uint32_t)i << 16;
        float want;
        memcpy(&want, &bits, sizeof want);
        CHECK(x[i] != x[i] ? want != want : !memcmp(&x[i], &want, sizeof want));
    }
    osr_file_close(f);
    f = open_tensor(OSR_DTYPE_F64, doubles, 5, 1);
    CHECK(f && osr_file_read_f32(f, "x", 5, x) == OSR_OK);
    CHECK(x[0] == inf && x[1] == -inf && x[2] == 0.1f && x[3] == inf && x[4] == 0.0f);
    osr_file_close(f);
}

static void test_not_finite(void)
{
    float x[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    double big[2] = {0.0, 1e39};
    uint16_t half[3] = {0, 0x7c00, 0xfe00};
    int i;
    for (i = 0; i < 3; i++) {
        x[1] = (float)strtod(i == 0 ? "nan" : i == 1 ? "inf" : "-inf", NULL);
        x[3] = x[1];
        CHECK(open_tensor(OSR_DTYPE_F32, x, 4, 0) == NULL && osr_ctx_status(ctx) == OSR_NAN);
        CHECK(strcmp(osr_ctx_message(ctx),
                     "bytes: tensor x: 2 of 4 values are not finite, first index 1") == 0);
        osr_ctx_clear_error(ctx);
        osr_file_close(open_tensor(OSR_DTYPE_F32, x, 4, 1));
        CHECK(osr_ctx_status(ctx) == OSR_OK);
    }
    CHECK(open_tensor(OSR_DTYPE_F64, big, 2, 0) == NULL && osr_ctx_status(ctx) == OSR_NAN);
    osr_ctx_clear_error(ctx);
    CHECK(open_tensor(OSR_DTYPE_F16, half, 3, 0) == NULL && osr_ctx_status(ctx) == OSR_NAN);
    osr_ctx_clear_error(ctx);
    half[1] = half[2] = 0x7f80;
    CHECK(open_tensor(OSR_DTYPE_BF16, half, 3, 0) == NULL && osr_ctx_status(ctx) == OSR_NAN);
    osr_ctx_clear_error(ctx);
}

static void test_writer_refusals(void)
{
    static const uint64_t empty[2] = {3, 0}, huge[3] = {1u << 31, 1u << 31, 1u << 31};
    static const uint64_t one[1] = {1};
    static const char *const bad_keys[] = {"format", "osr.version", "osr.xxh64", "x", "\xff"};
    char name[200];
    osr_writer *w;
    size_t bytes = 0;
    int i;
    for (i = 0; i < 20; i++) {
        osr_status s = OSR_OK;
        w = NULL;
        CHECK(osr_writer_create(ctx, &w) == OSR_OK);
        CHECK(osr_writer_meta(w, "x", "y") == OSR_OK);
        CHECK(osr_writer_tensor(w, "t", OSR_DTYPE_U8, 1, one, some_bytes) == OSR_OK);
        memset(name, 'n', sizeof name);
        name[i == 10 ? 129 : 128] = '\0';
        if (i < 5)
            s = osr_writer_meta(w, bad_keys[i], "v");
        else if (i < 8)
            s = osr_writer_meta(w, i == 5 ? NULL : "k", i == 6 ? NULL : i == 7 ? "\xc3" : "v");
        else if (i < 13)
            s = osr_writer_tensor(w, i == 8 ? "t" : i == 9 ? "" : i == 10 ? name
                                  : i == 11 ? "__metadata__" : NULL,
                                  OSR_DTYPE_U8, 1, one, some_bytes);
        else if (i < 15)
            s = osr_writer_tensor(w, name, (osr_dtype)(i == 13 ? -1 : 99), 1, one, some_bytes);
        else if (i < 17)
            s = osr_writer_tensor(w, name, OSR_DTYPE_U8, i == 15 ? -1 : 9, one, some_bytes);
        else if (i == 17)
            s = osr_writer_tensor(w, name, OSR_DTYPE_U8, 2, empty, some_bytes);
        else if (i == 18)
            s = osr_writer_tensor(w, name, OSR_DTYPE_U8, 3, huge, some_bytes);
        else
            s = osr_writer_tensor(w, name, OSR_DTYPE_U8, 1, one, NULL);
        CHECK(s == (i == 17 || i == 18 ? OSR_SHAPE : OSR_ARG));
        CHECK(osr_writer_save_memory(w, NULL, 0, &bytes) == s); /* nobody may overlook it */
        CHECK(osr_writer_save(w, "never-written") == s);
        osr_ctx_clear_error(ctx);
        osr_writer_destroy(w);
    }
    CHECK(access("never-written", F_OK) != 0);
    CHECK(osr_writer_create(ctx, &w) == OSR_OK);
    CHECK(osr_writer_tensor(w, name, OSR_DTYPE_U8, 1, one, some_bytes) == OSR_OK);
    CHECK(osr_writer_save_memory(w, NULL, 0, NULL) == OSR_ARG);
    CHECK(osr_writer_save(w, NULL) == OSR_ARG);
    CHECK(osr_writer_save_memory(w, NULL, 0, &bytes) == OSR_OK); /* a failed save is no damage */
    osr_writer_destroy(w);
    osr_ctx_clear_error(ctx);
    CHECK(osr_writer_create(ctx, NULL) == OSR_ARG && osr_writer_create(NULL, &w) == OSR_ARG);
    osr_ctx_clear_error(ctx);
}

/* Files in the folder. */
static int folder_count(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    int n = 0;
    while (dir && (e = readdir(dir)) != NULL)
        n += e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

static int same_bytes(const char *path, const unsigned char *want, size_t bytes)
{
    FILE *stream = fopen(path, "rb");
    unsigned char *got = (unsigned char *)malloc(bytes + 1);
    size_t n = stream && got ? fread(got, 1, bytes + 1, stream) : 0;
    int same = n == bytes && !memcmp(got, want, bytes);
    if (stream)
        fclose(stream);
    free(got);
    return same;
}

static void write_file(const char *path, const char *text)
{
    FILE *stream = fopen(path, "wb");
    CHECK(stream && fputs(text, stream) >= 0);
    CHECK(stream && fclose(stream) == 0);
}

/* A save with a limit on file sizes, as on a full disk. */
static void test_full_disk(osr_writer *w, const unsigned char *b, size_t bytes)
{
    struct rlimit keep, limit;
    size_t step = bytes / 8 + 1, at;
    CHECK(getrlimit(RLIMIT_FSIZE, &keep) == 0);
    limit = keep;
    signal(SIGXFSZ, SIG_IGN);
    for (at = 0; at < bytes; at += step) {
        osr_status s;
        limit.rlim_cur = at;
        setrlimit(RLIMIT_FSIZE, &limit);
        s = osr_writer_save(w, "d/m");
        setrlimit(RLIMIT_FSIZE, &keep);
        CHECK(s == OSR_IO);
        CHECK(strstr(osr_ctx_message(ctx), "d/m: writing failed: ") != NULL);
        osr_ctx_clear_error(ctx);
        CHECK(same_bytes("d/m", b, bytes) && folder_count("d") == 1);
    }
    signal(SIGXFSZ, SIG_DFL);
}

static void test_disk(void)
{
    size_t bytes;
    unsigned char *b = save_bytes(0, &bytes);
    osr_writer *w = make_writer(1);
    osr_file *f = NULL;
    char folder[] = "osr-test-file-XXXXXX", stale[64];
    struct stat info;
    if (!CHECK(w && mkdtemp(folder) && chdir(folder) == 0 && mkdir("d", 0777) == 0))
        return;
    CHECK(osr_writer_save(w, "d/m") == OSR_OK);
    CHECK(same_bytes("d/m", b, bytes) && folder_count("d") == 1);
    CHECK(osr_file_open(ctx, "d/m", NULL, &f) == OSR_OK);
    if (f)
        check_content(f);
    osr_file_close(f);
    write_file("d/m", "an older file");
    CHECK(osr_writer_save(w, "d/m") == OSR_OK && same_bytes("d/m", b, bytes));
    CHECK(osr_writer_save(w, "m") == OSR_OK && same_bytes("m", b, bytes)); /* no folder named */
    CHECK(unlink("m") == 0);
    test_full_disk(w, b, bytes);

    CHECK(osr_writer_save(w, "missing/m") == OSR_IO);
    CHECK(strncmp(osr_ctx_message(ctx), "missing/m: ", 11) == 0);
    osr_ctx_clear_error(ctx);
    CHECK(osr_writer_save(w, "d/m/m") == OSR_IO);
    osr_ctx_clear_error(ctx);
    CHECK(osr_writer_save(w, "d") == OSR_IO && osr_writer_save(w, "") == OSR_IO);
    osr_ctx_clear_error(ctx);
    CHECK(mkfifo("fifo", 0666) == 0);
    CHECK(osr_writer_save(w, "fifo") == OSR_IO);
    CHECK(strcmp(osr_ctx_message(ctx), "fifo: not a regular file") == 0);
    osr_ctx_clear_error(ctx);
    CHECK(stat("fifo", &info) == 0 && S_ISFIFO(info.st_mode) && folder_count(".") == 2);
    CHECK(osr_file_open(ctx, "fifo", NULL, &f) == OSR_IO && f == NULL); /* and does not hang */
    osr_ctx_clear_error(ctx);
    CHECK(osr_file_open(ctx, "d", NULL, &f) == OSR_IO);
    osr_ctx_clear_error(ctx);
    CHECK(osr_file_open(ctx, "missing", NULL, &f) == OSR_IO);
    CHECK(strncmp(osr_ctx_message(ctx), "missing: ", 9) == 0);
    osr_ctx_clear_error(ctx);
    write_file("short", "1234567");
    CHECK(osr_file_open(ctx, "short", NULL, &f) == OSR_FORMAT);
    CHECK(strstr(osr_ctx_message(ctx), "short: truncated: 7 bytes") != NULL);
    osr_ctx_clear_error(ctx);

    /* What a killed process of the same number left behind is in nobody's way. */
    snprintf(stale, sizeof stale, "d/m.tmp.%ld.0", (long)getpid());
    write_file(stale, "stale");
    CHECK(osr_writer_save(w, "d/m") == OSR_OK && same_bytes("d/m", b, bytes));
    CHECK(same_bytes(stale, (const unsigned char *)"stale", 5) && folder_count("d") == 2);

    CHECK(unlink(stale) == 0 && unlink("d/m") == 0 && rmdir("d") == 0);
    CHECK(unlink("fifo") == 0 && unlink("short") == 0 && chdir("..") == 0 && rmdir(folder) == 0);
    osr_writer_destroy(w);
    free(b);
}

/* Every allocation fails in turn, once and from then on; nothing leaks. */
static void test_memory(void)
{
    size_t bytes, live = memory.live, n;
    unsigned char *b = save_bytes(0, &bytes), *to = (unsigned char *)malloc(bytes);
    long turn;
    for (turn = 0;; turn++) {
        osr_file *f = NULL;
        osr_status s;
        memory.left = turn;
        s = osr_file_open_memory(ctx, b, bytes, "bytes", NULL, &f);
        memory.left = -1;
        osr_file_close(f);
        CHECK(s == osr_ctx_status(ctx) && memory.live == live);
        osr_ctx_clear_error(ctx);
        if (s == OSR_OK)
            break;
        CHECK(s == OSR_MEMORY);
    }
    CHECK(turn >= 5);
    for (turn = 0;; turn++) {
        osr_writer *w;
        osr_status s = OSR_MEMORY;
        memory.left = turn;
        w = make_writer(0);
        if (w)
            s = osr_writer_save_memory(w, to, bytes, &n);
        if (s == OSR_OK)
            s = osr_writer_save(w, "test-file-memory");
        memory.left = -1;
        CHECK(s == osr_ctx_status(ctx));
        CHECK((access("test-file-memory", F_OK) == 0) == (s == OSR_OK));
        osr_ctx_clear_error(ctx);
        if (w && s != OSR_OK) /* the writer is still good */
            CHECK(osr_writer_save_memory(w, to, bytes, &n) == OSR_OK && !memcmp(to, b, bytes));
        osr_writer_destroy(w);
        CHECK(memory.live == live);
        if (s == OSR_OK)
            break;
        CHECK(s == OSR_MEMORY);
    }
    CHECK(turn >= 12);
    CHECK(unlink("test-file-memory") == 0);
    free(to);
    free(b);
}

/* Random damage of several bytes: anything but a crash, and never a wrong hash taken for right. */
static void test_random_damage(uint64_t *state)
{
    size_t bytes, i;
    unsigned char *b = save_bytes(0, &bytes), *c = (unsigned char *)malloc(bytes);
    int round;
    for (round = 0; round < 2000; round++) {
        size_t hits = 1 + (size_t)(test_random(state) % 8);
        osr_file *f = NULL;
        memcpy(c, b, bytes);
        for (i = 0; i < hits; i++)
            c[test_random(state) % bytes] = (unsigned char)test_random(state);
        if (osr_file_open_memory(ctx, c, bytes, "bytes", NULL, &f) == OSR_OK)
            CHECK(!osr_file_meta(f, "osr.xxh64") || !memcmp(b, c, bytes));
        else
            CHECK(f == NULL && osr_ctx_message(ctx)[0]);
        osr_file_close(f);
        osr_ctx_clear_error(ctx);
    }
    free(c);
    free(b);
}

int main(void)
{
    uint64_t state = test_seed();
    osr_file *f = NULL;
    osr_ctx_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.no_device = 1;
    desc.allocator.fn = test_memory_fn;
    desc.allocator.user = &memory;
    if (CHECK(osr_ctx_create(&desc, &ctx) == OSR_OK)) {
        test_hash();
        test_round_trip();
        test_damage();
        test_headers();
        test_odd_headers();
        test_conversions();
        test_not_finite();
        test_writer_refusals();
        test_disk();
        test_memory();
        test_random_damage(&state);
        CHECK(osr_file_open(NULL, "x", NULL, &f) == OSR_ARG);
        CHECK(osr_file_open(ctx, NULL, NULL, &f) == OSR_ARG);
        CHECK(osr_file_open_memory(ctx, NULL, 9, "x", NULL, &f) == OSR_ARG);
    }
    osr_ctx_destroy(ctx);
    CHECK(memory.live == 0);
    return test_end();
}
