#!/usr/bin/env python3
"""Writes augment_vectors.h: what Pillow makes of a small picture (Debian: python3-pil).

    python3 tests/make_augment_vectors.py > tests/augment_vectors.h

The magnitudes m of 0..30 are those of RandAugment's Pillow variant: value = m / 30 * (max - min)
+ min of each op's range."""
import PIL
from PIL import Image, ImageEnhance, ImageOps

W, H = 9, 8


def picture(mode):
    image = Image.new(mode, (W, H))
    state = 12345
    values = []
    for i in range(W * H * len(mode)):
        state = (state * 1103515245 + 12345) % 2**31
        channel, x, y = i % len(mode), i // len(mode) % W, i // len(mode) // W
        ramp = 30 + 20 * x if channel == 0 else 20 + 25 * y if channel == 1 else 8 * (x + y) + 60
        values.append(max(0, min(255, ramp + state // 65536 % 41 - 20)))
    image.frombytes(bytes(values))
    return image


def affine(*numbers):
    return lambda image: image.transform(image.size, Image.AFFINE, numbers)


def add(image, value):
    return ImageOps.solarize(image.point([min(255, int(v + value)) for v in range(256)]
                                         * len(image.getbands())), 128)


# name in osr.h, range, what it does for a value, whether its sign is a coin's
OPS = [
    ("AUTO_CONTRAST", 0, 1, lambda im, v: ImageOps.autocontrast(im), False),
    ("EQUALIZE", 0, 1, lambda im, v: ImageOps.equalize(im), False),
    ("INVERT", 0, 1, lambda im, v: ImageOps.invert(im), False),
    ("ROTATE", 0, 30, lambda im, v: im.rotate(v), True),
    ("POSTERIZE", 0, 4, lambda im, v: ImageOps.posterize(im, max(1, int(v))), False),
    ("SOLARIZE", 0, 256, lambda im, v: ImageOps.solarize(im, v), False),
    ("SOLARIZE_ADD", 0, 110, add, False),
    ("COLOR", 0.1, 1.9, lambda im, v: ImageEnhance.Color(im).enhance(v), False),
    ("CONTRAST", 0.1, 1.9, lambda im, v: ImageEnhance.Contrast(im).enhance(v), False),
    ("BRIGHTNESS", 0.1, 1.9, lambda im, v: ImageEnhance.Brightness(im).enhance(v), False),
    ("SHARPNESS", 0.1, 1.9, lambda im, v: ImageEnhance.Sharpness(im).enhance(v), False),
    ("SHEAR_X", 0, 0.3, lambda im, v: affine(1, v, 0, 0, 1, 0)(im), True),
    ("SHEAR_Y", 0, 0.3, lambda im, v: affine(1, 0, 0, v, 1, 0)(im), True),
    ("TRANSLATE_X", 0, 100, lambda im, v: affine(1, 0, v, 0, 1, 0)(im), True),
    ("TRANSLATE_Y", 0, 100, lambda im, v: affine(1, 0, 0, 0, 1, v)(im), True),
]
MAGNITUDES = {"TRANSLATE_X": (0.6, 1.4), "TRANSLATE_Y": (0.6, 1.4)}
BOXES = [(2, 1, 6, 5), (0, 0, 9, 8), (4, 3, 2, 5)]


def show(image):
    data = list(image.tobytes())
    lines = [", ".join(map(str, data[i:i + 17])) for i in range(0, len(data), 17)]
    return "{" + ",\n      ".join(lines) + "}"


def main():
    print(f"/* augment_vectors.h - made by make_augment_vectors.py with Pillow {PIL.__version__} */")
    print(f"enum {{ VECTOR_WIDTH = {W}, VECTOR_HEIGHT = {H}, VECTOR_BYTES = {W * H * 3} }};\n")
    print("static const unsigned char vector_picture[2][VECTOR_BYTES] = { /* grey, RGB */")
    for mode in ("L", "RGB"):
        print("    " + show(picture(mode)) + ",")
    print("};\n")
    print("/* sign: 0 the op has none. The bytes are those of one or three channels. */")
    print("static const struct op_vector {\n    osr_randaugment_op op;\n    float magnitude;")
    print("    int channels, sign;\n    unsigned char bytes[VECTOR_BYTES];\n} op_vectors[] = {")
    for name, low, high, apply, signed in OPS:
        magnitudes = MAGNITUDES.get(name, (4, 17) if high != 1 else (9,))
        for mode in ("L", "RGB"):
            if mode == "L" and (signed or name == "COLOR"):
                continue
            for m in magnitudes:
                value = m / 30 * (high - low) + low
                for sign in ((1, -1) if signed else (0,)):
                    made = apply(picture(mode), value * sign if sign else value)
                    print(f"    {{OSR_RANDAUGMENT_{name}, {float(m)}f, {len(mode) // 3 * 2 + 1}, "
                          f"{sign},\n     {show(made)}}},")
    print("};\n")
    print("/* The part x, y, width, height of the RGB picture, scaled to the whole, bilinearly. */")
    print("static const struct box_vector {\n    int box[4];\n    unsigned char bytes[VECTOR_BYTES];"
          "\n} box_vectors[] = {")
    for x, y, w, h in BOXES:
        made = picture("RGB").crop((x, y, x + w, y + h)).resize((W, H), Image.BILINEAR)
        print(f"    {{{{{x}, {y}, {w}, {h}}},\n     {show(made)}}},")
    print("};")


main()
