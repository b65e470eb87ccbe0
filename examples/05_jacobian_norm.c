/* How fast a model's representation changes with the picture: ||df/dx||_F, exactly and by random
 * directions, which is cheaper where the representation is wide.
 *
 *     05_jacobian_norm [MODEL]      without it: tiny.safetensors, which 01_train_model writes */
#include "osr.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 16, PIXELS = SIDE * SIDE, COUNT = 3 };

static const char *const drawn[COUNT] = {"level bar", "two bars", "noise"};

/* Pictures in 0..1; the model knows the first. */
static void draw(float images[COUNT][PIXELS])
{
    for (int p = 0; p < PIXELS; ++p) {
        const int x = p % SIDE, y = p / SIDE;
        const float noise = (float)rand() / (float)RAND_MAX;
        images[0][p] = 0.3f * noise + (y == 7 || y == 8 ? 0.7f : 0.0f);
        images[1][p] = 0.3f * noise + (x == 5 || y == 10 ? 0.7f : 0.0f);
        images[2][p] = noise;
    }
}

int main(int argc, char **argv)
{
    static float images[COUNT][PIXELS];
    double exact[COUNT], estimate[COUNT];
    const osr_jacobian_desc all = {.method = OSR_JACOBIAN_EXACT};
    const osr_jacobian_desc some = {.method = OSR_JACOBIAN_FD, .direction = OSR_RADEMACHER,
                                    .directions = 128, .seed = 1};
    osr_ctx *ctx = NULL;
    osr_model *model = NULL;
    draw(images);
    if (osr_ctx_create(NULL, &ctx) == OSR_OK
        && osr_model_load(ctx, argc > 1 ? argv[1] : "tiny.safetensors", &model) == OSR_OK
        && osr_model_jacobian(model, images[0], COUNT, &all, exact, NULL) == OSR_OK
        && osr_model_jacobian(model, images[0], COUNT, &some, estimate, NULL) == OSR_OK)
        for (int i = 0; i < COUNT; ++i)
            printf("%-10s %.4f, from 128 directions %.4f\n", drawn[i], exact[i], estimate[i]);
    const int failed = osr_ctx_status(ctx) != OSR_OK;
    if (failed)
        printf("error: %s\n", osr_ctx_message(ctx));
    osr_model_destroy(model);
    osr_ctx_destroy(ctx);
    return failed;
}
