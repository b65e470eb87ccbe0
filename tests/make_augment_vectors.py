#!/usr/bin/env python3
"""Writes augment_vectors.h: what Pillow makes of small pictures (Debian: python3-pil).

    python3 tests/make_augment_vectors.py > tests/augment_vectors.h

The magnitudes m of 0..30 are those of RandAugment's Pillow variant: value = m / 30 * (max - min)
+ min of each op's range."""
import PIL
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

W, H = 9, 8
EQUAL_W, EQUAL_H = 64, 48  # large enough that equalize changes it
CUT_W, CUT_H = 24, 20      # large enough that the end of a cut-out lies inside


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
CUT_CENTRES = [(6.3, 5.2), (12.4, 10.6), (14.9, 15.2), (22.7, 18.9)]
GREY = (125, 123, 114)


def equal_level(kind, i):
    """Pixel i of a channel, as equal_level of test_augment.c. 0: many levels; 1: seven, the last
    in so many pixels that the table passes 255; 2: the last but in 254 pixels, step = 0."""
    x, y = i % EQUAL_W, i // EQUAL_W
    if kind == 0:
        return 20 + (x * x + 3 * x * y) // 64
    if kind == 1:
        return 30 + 20 * (i * i % 11) if i < 1010 else 250
    return 3 * (i % 50) if i < 254 else 200


def equalized():
    """The new level of each level of each kind, 0 where it does not occur. Pillow's grey pictures
    give it; its RGB pictures must agree, whatever kind is in whichever channel."""
    tables = []
    for kind in range(3):
        levels = bytes(equal_level(kind, i) for i in range(EQUAL_W * EQUAL_H))
        made = ImageOps.equalize(Image.frombytes("L", (EQUAL_W, EQUAL_H), levels)).tobytes()
        table = dict(zip(levels, made))
        assert bytes(table[v] for v in levels) == made
        tables.append(table)
    assert len(tables[0]) > 150 and len(tables[1]) == 7
    assert list(tables[1].values()).count(255) > 1 and all(v == w for v, w in tables[2].items())
    for first in range(3):
        kinds = [(first + c) % 3 for c in range(3)]
        values = [(k, equal_level(k, i)) for i in range(EQUAL_W * EQUAL_H) for k in kinds]
        made = ImageOps.equalize(Image.frombytes("RGB", (EQUAL_W, EQUAL_H),
                                                 bytes(v for _, v in values)))
        assert bytes(tables[k][v] for k, v in values) == made.tobytes()
    return [bytes(t.get(v, 0) for v in range(256)) for t in tables]


def cutout(image, centre, v):
    """CutoutAbs of the Pillow variant of RandAugment for a centre drawn in the picture."""
    w, h = image.size
    x0, y0 = (int(max(0, u - v / 2)) for u in centre)
    image = image.copy()
    ImageDraw.Draw(image).rectangle((x0, y0, min(w, x0 + v), min(h, y0 + v)), GREY)
    return image


def cut(mode, centre, magnitude):
    """Which pixels of the picture cutout fills, a word a row, bit x for column x, and with what.
    A grey picture becomes RGB for it, then grey again: the colour has no place in mode L."""
    levels = bytes(i * 37 % 101 for i in range(CUT_W * CUT_H * len(mode)))  # below GREY
    before = Image.frombytes(mode, (CUT_W, CUT_H), levels)
    after = cutout(before.convert("RGB"), centre, magnitude / 30 * 40).convert(mode)
    rows, colours = [0] * CUT_H, set()
    for y in range(CUT_H):
        for x in range(CUT_W):
            old, new = before.getpixel((x, y)), after.getpixel((x, y))
            if old != new:
                rows[y] |= 1 << x
                colours.add(new)
    assert len(colours) == 1
    colour = colours.pop()
    return rows, colour if mode == "RGB" else (colour,)


def show(data):
    lines = [", ".join(map(str, data[i:i + 17])) for i in range(0, len(data), 17)]
    return "{" + ",\n      ".join(lines) + "}"


def main():
    print(f"/* augment_vectors.h - made by make_augment_vectors.py with Pillow {PIL.__version__} */")
    print(f"enum {{ VECTOR_WIDTH = {W}, VECTOR_HEIGHT = {H}, VECTOR_BYTES = {W * H * 3} }};\n")
    print("static const unsigned char vector_picture[2][VECTOR_BYTES] = { /* grey, RGB */")
    for mode in ("L", "RGB"):
        print("    " + show(picture(mode).tobytes()) + ",")
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
                          f"{sign},\n     {show(made.tobytes())}}},")
    print("};\n")
    print("/* The part x, y, width, height of the RGB picture, scaled to the whole, bilinearly. */")
    print("static const struct box_vector {\n    int box[4];\n    unsigned char bytes[VECTOR_BYTES];"
          "\n} box_vectors[] = {")
    for x, y, w, h in BOXES:
        made = picture("RGB").crop((x, y, x + w, y + h)).resize((W, H), Image.BILINEAR)
        print(f"    {{{{{x}, {y}, {w}, {h}}},\n     {show(made.tobytes())}}},")
    print("};\n")
    print(f"enum {{ EQUAL_WIDTH = {EQUAL_W}, EQUAL_HEIGHT = {EQUAL_H}, CUT_WIDTH = {CUT_W}, "
          f"CUT_HEIGHT = {CUT_H} }};\n")
    print("/* Equalize: the new level of each level of the pictures that test_augment.c makes, 0 "
          "where it\n * does not occur. */")
    print("static const unsigned char equalized[3][256] = {")
    for table in equalized():
        print("    " + show(table) + ",")
    print("};\n")
    print("/* CutoutAbs: bit x of row y is set where the pixel is filled. */")
    print("static const struct cut_vector {\n    float magnitude;\n    int channels;")
    print("    double centre[2];\n    int colour[3];\n    uint32_t rows[CUT_HEIGHT];"
          "\n} cut_vectors[] = {")
    for mode in ("L", "RGB"):
        for magnitude in (6, 8):
            for x, y in CUT_CENTRES:
                rows, colour = cut(mode, (x, y), magnitude)
                print(f"    {{{float(magnitude)}f, {len(colour)}, {{{x}, {y}}}, "
                      f"{{{', '.join(map(str, colour))}}},")
                words = [f"0x{row:06x}" for row in rows]
                print("     {" + ",\n      ".join(", ".join(words[i:i + 8])
                                                for i in range(0, CUT_H, 8)) + "}},")
    print("};")


main()
