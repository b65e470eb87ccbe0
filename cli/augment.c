#include "augment.h"

#include "exit_codes.h"
#include "options.h"
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 2, ITEM = 64 };

/* The numbers of an item, and whether its word (batch, digits) is there. */
struct item {
    double number[MOST];
    int numbers, word;
};

static void set_randaugment(osr_randaugment *r, const struct item *i)
{
    r->ops = (int)i->number[0];
    r->magnitude = (float)i->number[1];
    r->without = i->word ? OSR_RANDAUGMENT_DIGITS : 0;
}

struct number_range {
    double low, high;
    int whole; /* 1: whole numbers only */
};

enum {
#define ENUM(id, name, form, help) AUGMENT_##id,
    AUGMENT_LIST(ENUM)
#undef ENUM
    AUGMENT_COUNT
};

static const struct augment_row {
    const char *name, *form;
} rows[AUGMENT_COUNT] = {
#define ROW(id, name, form, help) {name, form},
    AUGMENT_LIST(ROW)
#undef ROW
};

static const struct augment_limits {
    int least, most; /* numbers wanted */
    struct number_range range[MOST];
    const char *word; /* that may follow them */
} limits[AUGMENT_COUNT] = {
    [AUGMENT_RANDAUGMENT] = {2, 2, {{1, OSR_RANDAUGMENT_MOST, 1}, {0, 30, 0}}, "digits"},
    [AUGMENT_CONTRAST] = {1, 1, {{0, 1, 0}}, "batch"},
    [AUGMENT_BRIGHTNESS] = {1, 1, {{0, 1, 0}}, NULL},
    [AUGMENT_RANDAUGMENT_TF] = {2, 2, {{1, OSR_RANDAUGMENT_MOST, 1}, {0, 10, 0}}, "digits"},
    [AUGMENT_RRC] = {1, 1, {{0.01, 1, 0}}, NULL},
    [AUGMENT_CROP] = {1, 1, {{1, 1024, 1}}, "batch"},
    [AUGMENT_FLIP] = {0, 1, {{0, 1, 0}}, NULL},
    [AUGMENT_ROTATE] = {1, 1, {{0, 180, 0}}, NULL},
    [AUGMENT_CUTOUT] = {1, 1, {{1, 1024, 1}}, NULL},
};

static void set(int row, const struct item *i, osr_augment_desc *d)
{
    const float v = (float)i->number[0];
    switch (row) {
    case AUGMENT_RANDAUGMENT: set_randaugment(&d->pillow, i); break;
    case AUGMENT_CONTRAST:
        d->contrast = v;
        d->contrast_batch = i->word;
        break;
    case AUGMENT_BRIGHTNESS: d->brightness = v; break;
    case AUGMENT_RANDAUGMENT_TF: set_randaugment(&d->tensorflow, i); break;
    case AUGMENT_RRC: d->resized_crop = v; break;
    case AUGMENT_CROP:
        d->crop_pad = (int)v;
        d->crop_batch = i->word;
        break;
    case AUGMENT_FLIP: d->flip = i->numbers > 0 ? v : 0.5f; break;
    case AUGMENT_ROTATE: d->rotate = v; break;
    default: d->cutout = (int)v; break;
    }
}

static int find(const char *name)
{
    for (int i = 0; i < AUGMENT_COUNT; ++i)
        if (strcmp(rows[i].name, name) == 0)
            return i;
    return -1;
}

static int unknown(const char *name, char *message, size_t size)
{
    const char *names[AUGMENT_COUNT], *near;
    size_t used;
    for (int i = 0; i < AUGMENT_COUNT; ++i)
        names[i] = rows[i].name;
    near = nearest_name(name, names, AUGMENT_COUNT);
    if (near != NULL) {
        snprintf(message, size, "no augmentation is called '%s', did you mean '%s'?", name, near);
        return EXIT_USAGE;
    }
    used = (size_t)snprintf(message, size, "no augmentation is called '%s'; there are", name);
    for (int i = 0; i < AUGMENT_COUNT && used < size; ++i)
        used += (size_t)snprintf(message + used, size - used, "%s %s", i > 0 ? "," : "",
                                 rows[i].form);
    return EXIT_USAGE;
}

/* One argument of an item. */
static int read_argument(int row, const char *text, struct item *item, char *message, size_t size)
{
    const struct augment_limits *l = &limits[row];
    double *v = &item->number[item->numbers < MOST ? item->numbers : 0];
    const struct number_range *r = &l->range[item->numbers < MOST ? item->numbers : 0];
    if (l->word != NULL && item->numbers >= l->least && !item->word && strcmp(text, l->word) == 0) {
        item->word = 1;
        return EXIT_OK;
    }
    if (item->numbers >= l->most || item->word) {
        snprintf(message, size, "%s: unexpected '%s'", rows[row].form, text);
        return EXIT_USAGE;
    }
    if (real_parse(text, v) != 0 || *v < r->low || *v > r->high
        || (r->whole && floor(*v) < *v)) {
        snprintf(message, size, "%s: '%s' is not %s in [%g,%g]", rows[row].form,
                 text, r->whole ? "a whole number" : "a number", r->low, r->high);
        return EXIT_USAGE;
    }
    item->numbers++;
    return EXIT_OK;
}

/* "name:argument:argument"; text is cut up. */
static int read_item(char *text, unsigned *seen, osr_augment_desc *desc, char *message, size_t size)
{
    struct item item = {{0.0, 0.0}, 0, 0};
    char *colon = strchr(text, ':');
    int row;
    if (colon != NULL)
        *colon = '\0';
    row = find(text);
    if (row < 0)
        return unknown(text, message, size);
    if (*seen >> row & 1u) {
        snprintf(message, size, "%s stands twice in the list", rows[row].name);
        return EXIT_USAGE;
    }
    *seen |= 1u << row;
    while (colon != NULL) {
        char *argument = colon + 1;
        colon = strchr(argument, ':');
        if (colon != NULL)
            *colon = '\0';
        if (read_argument(row, argument, &item, message, size) != EXIT_OK)
            return EXIT_USAGE;
    }
    if (item.numbers < limits[row].least) {
        snprintf(message, size, "%s is incomplete: %s", rows[row].name, rows[row].form);
        return EXIT_USAGE;
    }
    set(row, &item, desc);
    return EXIT_OK;
}

int augment_parse(const char *list, osr_augment_desc *desc, char *message, size_t size)
{
    const int height = desc->height, width = desc->width, channels = desc->channels;
    unsigned seen = 0;
    memset(desc, 0, sizeof *desc);
    desc->height = height;
    desc->width = width;
    desc->channels = channels;
    if (list == NULL || *list == '\0' || strcmp(list, "none") == 0)
        return EXIT_OK;
    for (;;) {
        const size_t length = strcspn(list, ",");
        char item[ITEM];
        if (length >= sizeof item) {
            snprintf(message, size, "augmentation '%.40s...' is too long", list);
            return EXIT_USAGE;
        }
        memcpy(item, list, length);
        item[length] = '\0';
        if (read_item(item, &seen, desc, message, size) != EXIT_OK)
            return EXIT_USAGE;
        if (list[length] == '\0')
            return EXIT_OK;
        list += length + 1;
    }
}
