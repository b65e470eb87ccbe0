/* test_augment_list - the lists of --augment, good and bad */
#include "augment.h"
#include "exit_codes.h"
#include "test.h"

static osr_augment_desc good(const char *list)
{
    osr_augment_desc d;
    char message[512] = "";
    memset(&d, 0xff, sizeof d);
    d.width = 32;
    if (!CHECK(augment_parse(list, &d, message, sizeof message) == EXIT_OK))
        fprintf(stderr, "    %s: %s\n", list, message);
    CHECK(d.width == 32);
    return d;
}

static void bad(const char *list, const char *words)
{
    osr_augment_desc d = {0};
    char message[512] = "";
    CHECK(augment_parse(list, &d, message, sizeof message) == EXIT_USAGE);
    if (!CHECK(strstr(message, words) != NULL && strchr(message, '\n') == NULL))
        fprintf(stderr, "    %s: %s\n", list, message);
}

int main(void)
{
    osr_augment_desc d = good("none"), none = good("");
    CHECK(memcmp((char *)&d + sizeof(int) * 3, (char *)&none + sizeof(int) * 3,
                 sizeof d - sizeof(int) * 3) == 0 && d.flip == 0.0f && d.pillow.ops == 0);
    d = good("cutout:8,rotate:15,flip,crop:4:batch,rrc:0.08,randaugment-tf:1:9:digits,"
             "brightness:0.2,contrast:0.5:batch,randaugment:2:9.5");
    CHECK(d.cutout == 8 && d.crop_pad == 4 && d.crop_batch && d.contrast_batch);
    CHECK_NEAR((double)d.rotate, 15.0, 0.0);
    CHECK_NEAR((double)d.flip, 0.5, 0.0);
    CHECK_NEAR((double)d.resized_crop, 0.08, 1e-7);
    CHECK_NEAR((double)d.brightness, 0.2, 1e-7);
    CHECK_NEAR((double)d.contrast, 0.5, 0.0);
    CHECK(d.pillow.ops == 2 && d.pillow.without == 0);
    CHECK_NEAR((double)d.pillow.magnitude, 9.5, 0.0);
    CHECK(d.tensorflow.ops == 1 && d.tensorflow.without == OSR_RANDAUGMENT_DIGITS);
    CHECK_NEAR((double)d.tensorflow.magnitude, 9.0, 0.0);
    d = good("flip:0.25,crop:2,contrast:0.1");
    CHECK(!d.crop_batch && !d.contrast_batch && d.cutout == 0);
    CHECK_NEAR((double)d.flip, 0.25, 0.0);
    bad("crp:4", "'crp', did you mean 'crop'?");
    bad("solarise", "there are randaugment:OPS:M[:digits], contrast:C[:batch]");
    bad("none,flip", "'none'");
    bad("crop:4,", "''");
    bad("crop:4,crop:3", "crop stands twice");
    bad("crop", "crop is incomplete: crop:PIXELS[:batch]");
    bad("randaugment:1", "randaugment is incomplete");
    bad("randaugment:1:digits", "'digits' is not a number");
    bad("crop:1.5", "'1.5' is not a whole number in [1,1024]");
    bad("crop:0", "'0' is not a whole number");
    bad("flip:1.01", "'1.01' is not a number in [0,1]");
    bad("rotate:nan", "'nan' is not a number");
    bad("flip:", "'' is not a number");
    bad("crop:4:batch:batch", "unexpected 'batch'");
    bad("rotate:5:6", "unexpected '6'");
    bad("randaugment-tf:1:11", "'11' is not a number in [0,10]");
    bad("randaugment:1:9:digits,randaugment:1:9,0123456789012345678901234567890123456789012345678"
        "90123456789", "stands twice");
    bad("0123456789012345678901234567890123456789012345678901234567890123456789", "is too long");
    return test_end();
}
