/* contact_sheet.c - osr inspect --png: what --augment makes of training images, to be looked at. */
#include "augment.h"
#include "data.h"
#include "exit_codes.h"
#include "output.h"
#include "philox.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 10, COLUMNS = 11, TILE = 96, GAP = 2, PHILOX_SHEET = 0x73686500 };

struct sheet {
    osr_ctx *ctx;
    osr_images *images;
    struct data data;
    osr_augment_desc plain, augment;
    float *batch;   /* [ROWS][size][size][channels] */
    uint8_t *tiles; /* [ROWS][COLUMNS + 1][tile][tile][channels], white between them */
    int scale, tile;
};

/* The batch into a column, each pixel as a square. */
static void put_column(struct sheet *s, int column)
{
    const int size = s->plain.width, c = s->plain.channels;
    for (int row = 0; row < ROWS; ++row) {
        uint8_t *to = s->tiles + (size_t)(row * (COLUMNS + 1) + column)
                                     * (size_t)(s->tile * s->tile * c);
        const float *from = s->batch + (size_t)row * (size_t)(size * size * c);
        for (int y = 0; y < size * s->scale; ++y)
            for (int x = 0; x < size * s->scale; ++x)
                for (int k = 0; k < c; ++k)
                    to[(y * s->tile + x) * c + k] = (uint8_t)(
                        255.0f * from[(y / s->scale * size + x / s->scale) * c + k] + 0.5f);
    }
}

/* The first column as the images are, the others augmented, a step each. */
static int draw(struct sheet *s, uint64_t seed)
{
    struct philox p = philox_start(seed, PHILOX_SHEET, 0);
    const size_t values = (size_t)(s->plain.width * s->plain.height * s->plain.channels);
    uint32_t index[ROWS];
    for (int i = 0; i < ROWS; ++i)
        index[i] = philox_below(&p, (uint32_t)s->data.train.count);
    for (int column = 0; column <= COLUMNS; ++column) {
        const osr_augment_desc *d = column == 0 ? &s->plain : &s->augment;
        const osr_tensor t = osr_augment(s->ctx, s->images, index, ROWS, d);
        osr_read(s->ctx, t, s->batch, ROWS * values);
        if (osr_step_end(s->ctx) != OSR_OK)
            return session_fail(s->ctx);
        put_column(s, column);
    }
    return EXIT_OK;
}

static int open_sheet(struct sheet *s, const struct options *o)
{
    const struct data_set *set = &s->data.train;
    osr_images_desc d = {0};
    size_t tiles;
    s->plain.width = s->plain.height = (int)option_int(o, "size");
    s->plain.channels = (int)option_int(o, "channels");
    s->augment.width = s->augment.height = s->plain.width;
    s->augment.channels = s->plain.channels;
    s->scale = s->plain.width < TILE ? TILE / s->plain.width : 1;
    s->tile = s->plain.width * s->scale + GAP;
    tiles = (size_t)(s->tile * s->tile * s->plain.channels) * ROWS * (COLUMNS + 1);
    s->batch = malloc((size_t)(s->plain.width * s->plain.width * s->plain.channels) * ROWS
                      * sizeof *s->batch);
    s->tiles = malloc(tiles);
    if (s->batch == NULL || s->tiles == NULL) {
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    memset(s->tiles, 255, tiles);
    d.pixels = set->pixels;
    d.count = set->count;
    d.height = set->height;
    d.width = set->width;
    d.channels = set->channels;
    return osr_images_create(s->ctx, &d, &s->images) == OSR_OK ? EXIT_OK : session_fail(s->ctx);
}

static int sheet_run(struct sheet *s, struct options *o)
{
    char message[1024] = "";
    const uint64_t seed = (uint64_t)option_int(o, "seed");
    int code;
    option_preset_int(o, "size", 32);
    code = augment_parse(option_text(o, "augment"), &s->augment, message, sizeof message);
    if (code == EXIT_OK)
        code = data_open(option_text(o, "data"), seed, (int)option_int(o, "size"),
                         (int)option_int(o, "channels"), &s->data, message, sizeof message);
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    option_preset_int(o, "channels", s->data.train.channels);
    code = session_open(o, &s->ctx);
    if (code == EXIT_OK)
        code = open_sheet(s, o);
    if (code == EXIT_OK)
        code = draw(s, seed);
    if (code != EXIT_OK)
        return code;
    code = image_write_grid(option_text(o, "png"), s->tiles, ROWS * (COLUMNS + 1), s->tile, s->tile,
                            s->plain.channels, COLUMNS + 1, message, sizeof message);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}

int contact_sheet(struct options *o)
{
    struct sheet s = {0};
    const int code = sheet_run(&s, o);
    osr_images_destroy(s.images);
    osr_ctx_destroy(s.ctx);
    data_close(&s.data);
    free(s.batch);
    free(s.tiles);
    return code;
}
