/* Load a model and classify arrays of pixels: all that a program that uses a trained model needs.
 *
 *     02_predict [MODEL]      without it: tiny.safetensors, which 01_train_model writes */
#include "osr.h"

#include <stdio.h>

enum { SIDE = 16, COUNT = 3 };

/* An upright bar, a level bar, and rings, which the model has never seen. 0..255, row by row. */
static void draw(unsigned char *pixels)
{
    for (int y = 0; y < SIDE; ++y)
        for (int x = 0; x < SIDE; ++x) {
            const int ring = (x - 8) * (x - 8) + (y - 8) * (y - 8);
            const int at = y * SIDE + x;
            pixels[at] = x == 7 || x == 8 ? 220 : 40;
            pixels[SIDE * SIDE + at] = y == 5 || y == 6 ? 220 : 40;
            pixels[2 * SIDE * SIDE + at] = ring / 12 % 2 ? 220 : 40;
        }
}

int main(int argc, char **argv)
{
    static const char *const drawn[COUNT] = {"upright bar", "level bar", "rings"};
    static unsigned char pixels[COUNT * SIDE * SIDE];
    osr_prediction p[COUNT];
    osr_ctx *ctx = NULL;
    osr_model *model = NULL;
    draw(pixels);
    if (osr_ctx_create(NULL, &ctx) == OSR_OK
        && osr_model_load(ctx, argc > 1 ? argv[1] : "tiny.safetensors", &model) == OSR_OK
        && osr_model_predict(model, pixels, COUNT, SIDE, SIDE, 1, p) == OSR_OK)
        for (int i = 0; i < COUNT; ++i)
            printf("%-12s is %-12s (score %.3g, threshold %.3g)\n", drawn[i],
                   p[i].known ? p[i].name : "unknown", p[i].score, p[i].threshold);
    const int failed = osr_ctx_status(ctx) != OSR_OK;
    if (failed)
        printf("error: %s\n", osr_ctx_message(ctx));
    osr_model_destroy(model);
    osr_ctx_destroy(ctx);
    return failed;
}
