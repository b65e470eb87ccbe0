/* fuzz_file - libFuzzer target: any bytes as a safetensors file
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined fuzz_file.c osr_impl.c -lOpenCL -lm
 *   ./a.out -max_len=4096 corpus/
 *
 * The first byte chooses whether values must be finite. Whatever opens is read through every
 * function and written again; what was written must open. */
#include "osr.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

/* Reads every tensor and metadata string, and puts them into w. */
static void copy_file(const osr_file *file, osr_writer *w)
{
    const char *key = NULL, *value;
    int i, ok = 1;
    for (i = 0; (value = osr_file_meta_at(file, i, &key)) != NULL; i++) {
        require(osr_file_meta(file, key) == value);
        if (strcmp(key, "format") && strcmp(key, "osr.version") && strcmp(key, "osr.xxh64")
            && osr_writer_meta(w, key, value) != OSR_OK)
            ok = 0; /* too many keys with the three that the writer adds */
    }
    for (i = 0; ok && i < osr_file_count(file); i++) {
        const osr_file_entry *e = osr_file_tensor(file, i);
        void *values = malloc((size_t)e->bytes);
        float *floats = (float *)malloc((size_t)e->count * sizeof *floats);
        require(values && floats && osr_file_find(file, e->name) == e);
        require(osr_file_read_raw(file, e->name, e->dtype, (size_t)e->count, values) == OSR_OK);
        osr_file_read_f32(file, e->name, (size_t)e->count, floats);
        require(osr_writer_tensor(w, e->name, e->dtype, e->rank, e->shape, values) == OSR_OK);
        free(floats);
        free(values);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    osr_ctx_desc desc;
    osr_file_desc file_desc;
    osr_ctx *ctx = NULL;
    osr_file *file = NULL, *again = NULL;
    osr_writer *w = NULL;
    size_t bytes = 0;
    if (size < 1)
        return 0;
    memset(&desc, 0, sizeof desc);
    memset(&file_desc, 0, sizeof file_desc);
    desc.no_device = 1;
    file_desc.allow_not_finite = data[0] & 1;
    require(osr_ctx_create(&desc, &ctx) == OSR_OK);
    if (osr_file_open_memory(ctx, data + 1, size - 1, "bytes", &file_desc, &file) == OSR_OK) {
        require(osr_writer_create(ctx, &w) == OSR_OK);
        copy_file(file, w);
        if (osr_writer_save_memory(w, NULL, 0, &bytes) == OSR_OK) {
            unsigned char *b = (unsigned char *)malloc(bytes);
            require(b && osr_writer_save_memory(w, b, bytes, &bytes) == OSR_OK);
            require(osr_file_open_memory(ctx, b, bytes, "copy", &file_desc, &again) == OSR_OK);
            require(osr_file_meta(again, "osr.xxh64") != NULL);
            require(osr_file_count(again) == osr_file_count(file));
            free(b);
        }
        osr_writer_destroy(w);
        osr_file_close(again);
    } else {
        require(file == NULL && osr_ctx_message(ctx)[0] != '\0');
    }
    osr_file_close(file);
    osr_ctx_destroy(ctx);
    return 0;
}
