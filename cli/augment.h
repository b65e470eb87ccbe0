/* augment.h - the lists of --augment: crop:4,flip,rotate:15 */
#ifndef CLI_AUGMENT_H
#define CLI_AUGMENT_H

#include "osr.h"

#include <stddef.h>

/* One row an augmentation, in the order in which they are done: identifier, name, form, what it
 * does. augment.c has the ranges. */
#define AUGMENT_LIST(X)                                                                            \
    X(RANDAUGMENT, "randaugment", "randaugment:OPS:M[:digits]",                                    \
      "RandAugment of Pillow, M 0 to 30; digits: neither rotated nor moved")                       \
    X(CONTRAST, "contrast", "contrast:C[:batch]", "contrast times 1-C to 1+C")                     \
    X(BRIGHTNESS, "brightness", "brightness:B", "brighter by -B to B of the range")                \
    X(RANDAUGMENT_TF, "randaugment-tf", "randaugment-tf:OPS:M[:digits]",                           \
      "RandAugment of TensorFlow, M 0 to 10")                                                      \
    X(RRC, "rrc", "rrc:AREA", "a part of AREA to 1 of the image, scaled up")                       \
    X(CROP, "crop", "crop:PIXELS[:batch]", "a crop of the image with PIXELS of black round it")    \
    X(FLIP, "flip", "flip[:P]", "a mirror image with probability P (0.5)")                         \
    X(ROTATE, "rotate", "rotate:DEGREES", "turned by up to DEGREES")                               \
    X(CUTOUT, "cutout", "cutout:SIDE", "a black square")

/* Reads a list ("none" or "" for nothing) into desc, whose height, width and channels are left
 * alone. EXIT_OK, or EXIT_USAGE with a message. */
int augment_parse(const char *list, osr_augment_desc *desc, char *message, size_t size);

#endif
