#define _POSIX_C_SOURCE 200809L

#include "splits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "exit_codes.h"
#include "options.h"
#include "output.h"
#include "philox.h"
#include "splits_table.h"

enum { SPLITS = sizeof published_splits / sizeof published_splits[0], GLYPHS_KNOWN = 6,
       CIFAR100_CLASSES = 100 };

static int no_memory(char *message, size_t size)
{
    snprintf(message, size, "out of memory");
    return EXIT_MEMORY;
}

/* ---- classes ---- */

static int split_allocate(struct class_split *s, int known, int unknown)
{
    memset(s, 0, sizeof *s);
    s->known = calloc((size_t)known + 1, sizeof *s->known);
    s->unknown = calloc((size_t)unknown + 1, sizeof *s->unknown);
    if (s->known && s->unknown)
        return 0;
    split_free(s);
    return -1;
}

void split_free(struct class_split *split)
{
    free(split->known);
    free(split->unknown);
    memset(split, 0, sizeof *split);
}

static int by_value(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static int unknown_name(const char *family, const char *set, char *message, size_t size)
{
    const char *names[SPLITS], *near;
    size_t used;
    for (size_t i = 0; i < SPLITS; i++)
        names[i] = published_splits[i].set;
    near = nearest_name(set, names, SPLITS);
    used = (size_t)snprintf(message, size, "no published split '%.40s' of '%.80s'", family, set);
    if (near && used < size)
        snprintf(message + used, size - used, ", did you mean '%s'?", near);
    return EXIT_USAGE;
}

int split_published(const char *family, const char *set, int trial, struct class_split *out,
                    char *message, size_t size)
{
    const struct published_split *p = NULL;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < SPLITS; i++) {
        const struct published_split *row = &published_splits[i];
        if (strcmp(row->family, family) == 0 && strcmp(row->set, set) == 0 && row->trial == trial)
            p = row;
    }
    if (!p)
        return unknown_name(family, set, message, size);
    if (split_allocate(out, p->known_count, p->unknown_count))
        return no_memory(message, size);
    snprintf(out->name, sizeof out->name, "%s %s trial %d", family, set, trial);
    out->known_count = p->known_count;
    out->unknown_count = p->unknown_count;
    for (int i = 0; i < p->known_count; i++)
        out->known[i] = p->known[i];
    for (int i = 0; i < p->unknown_count; i++)
        out->unknown[i] = p->unknown[i];
    if (strcmp(family, "neal") == 0)
        qsort(out->known, (size_t)out->known_count, sizeof *out->known, by_value);
    if (strncmp(set, "cifar+", 6) == 0)
        out->unknown_set = "cifar100";
    return EXIT_OK;
}

int split_by_name(const char *name, struct class_split *out, char *message, size_t size)
{
    char family[16], set[32];
    int trial;
    memset(out, 0, sizeof *out);
    if (sscanf(name, "%15s %31s trial %d", family, set, &trial) == 3)
        return split_published(family, set, trial, out, message, size);
    snprintf(message, size, "'%.80s' is no published split", name);
    return EXIT_USAGE;
}

int split_take_unknown(struct class_split *split, const struct data_set *set, char *message,
                       size_t size)
{
    int *all;
    if (split->unknown_set && (!set || set->class_count != CIFAR100_CLASSES)) {
        snprintf(message, size, "split %s: its unknown classes are of %s, so name that with "
                 "--unknown %s:DIR%s%s", split->name, split->unknown_set, split->unknown_set,
                 set ? "; not " : "", set ? set->spec : "");
        return EXIT_USAGE;
    }
    if (split->unknown_set || !set)
        return EXIT_OK;
    all = calloc((size_t)set->class_count + 1, sizeof *all);
    if (!all)
        return no_memory(message, size);
    for (int c = 0; c < set->class_count; c++)
        all[c] = c;
    free(split->unknown);
    split->unknown = all;
    split->unknown_count = set->class_count;
    return EXIT_OK;
}

/* Does the word stand in the n characters of text, in either case? */
static int contains(const char *text, size_t n, const char *word)
{
    const size_t length = strlen(word);
    for (; n >= length; text++, n--)
        if (strncasecmp(text, word, length) == 0)
            return 1;
    return 0;
}

const char *split_guess_name(const char *spec)
{
    static const char *const words[][2] = {
        {"svhn", "svhn"}, {"tiny", "tinyimagenet"}, {"cifar100", NULL}, {"cifar-100", NULL},
        {"cifar", "cifar10"}, {"fashion", NULL}, {"emnist", NULL}, {"kmnist", NULL},
        {"mnist", "mnist"}};
    static const char *const kinds[] = {"svhn", "tinyimagenet", "cifar100", "cifar10"};
    const size_t count = sizeof words / sizeof words[0];
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        if (strncmp(spec, kinds[k], strlen(kinds[k])) == 0 &&
            spec[strlen(kinds[k])] == ':') /* the path does not matter */
            return strcmp(kinds[k], "cifar100") == 0 ? NULL : kinds[k];
    if (strncmp(spec, "glyphs", 6) == 0)
        return NULL;
    for (size_t end = strlen(spec), from; end > 0; end = from > 0 ? from - 1 : 0) {
        for (from = end; from > 0 && !strchr("/:", spec[from - 1]); from--)
            continue;
        for (size_t i = 0; i < count; i++)
            if (contains(spec + from, end - from, words[i][0]))
                return words[i][1];
    }
    return strncmp(spec, "idx:", 4) == 0 ? "mnist" : NULL;
}

const char *split_guess_set(const struct data_set *set)
{
    const char *found = split_guess_name(set->spec);
    if (found && set->class_count != (strcmp(found, "tinyimagenet") == 0 ? 200 : 10))
        return NULL;
    return found;
}

static int class_by_name(const struct data_set *set, const char *name)
{
    for (int c = 0; c < set->class_count; c++)
        if (strcmp(set->class_names[c], name) == 0)
            return c;
    return -1;
}

/* One word of the list: a name, a number, or two numbers with '-' between. */
static int parse_word(const struct data_set *set, char *word, int *first, int *last, char *message,
                      size_t size)
{
    int64_t low, high;
    char *dash = strchr(word, '-');
    const char *near;
    *first = *last = class_by_name(set, word);
    if (*first >= 0)
        return EXIT_OK;
    if (integer_parse(word, &low) == 0) {
        high = low;
    } else {
        int range = 0;
        if (dash && dash > word) {
            *dash = '\0';
            range = integer_parse(word, &low) == 0 && integer_parse(dash + 1, &high) == 0;
            *dash = '-';
        }
        if (!range) {
            near = nearest_name(word, (const char *const *)set->class_names,
                                (size_t)set->class_count);
            snprintf(message, size, "--known: no class '%.80s'%s%s%s", word,
                     near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
            return EXIT_USAGE;
        }
    }
    if (low < 0 || high < low || high >= set->class_count) {
        snprintf(message, size, "--known: '%.80s' is not in the classes 0 to %d", word,
                 set->class_count - 1);
        return EXIT_USAGE;
    }
    *first = (int)low;
    *last = (int)high;
    return EXIT_OK;
}

/* Puts the words' classes into out->known; taken[class] is set. */
static int parse_list(char *words, const struct data_set *set, struct class_split *out,
                      char *taken, char *message, size_t size)
{
    for (char *word = words; word;) {
        char *next = strchr(word, ',');
        int first, last, code;
        if (next)
            *next++ = '\0';
        while (*word == ' ')
            word++;
        while (*word && word[strlen(word) - 1] == ' ')
            word[strlen(word) - 1] = '\0';
        code = parse_word(set, word, &first, &last, message, size);
        if (code)
            return code;
        for (int c = first; c <= last; c++) {
            if (taken[c]) {
                snprintf(message, size, "--known: class %d ('%s') stands there twice", c,
                         set->class_names[c]);
                return EXIT_USAGE;
            }
            taken[c] = 1;
            out->known[out->known_count++] = c;
        }
        word = next;
    }
    if (out->known_count >= 2)
        return EXIT_OK;
    snprintf(message, size, "--known: at least two classes are needed");
    return EXIT_USAGE;
}

int split_parse(const char *text, const struct data_set *set, struct class_split *out,
                char *message, size_t size)
{
    char *words = strdup(text), *taken = calloc((size_t)set->class_count + 1, 1);
    int code = EXIT_MEMORY;
    memset(out, 0, sizeof *out);
    if (words && taken && split_allocate(out, set->class_count, set->class_count) == 0)
        code = parse_list(words, set, out, taken, message, size);
    else
        no_memory(message, size);
    for (int c = 0; code == EXIT_OK && c < set->class_count; c++)
        if (!taken[c])
            out->unknown[out->unknown_count++] = c;
    free(words);
    free(taken);
    if (code) {
        split_free(out);
        return code;
    }
    snprintf(out->name, sizeof out->name, "%.*s%s", 90, text, strlen(text) > 90 ? "..." : "");
    return EXIT_OK;
}

int split_default(const struct data_set *set, struct class_split *out, char *message, size_t size)
{
    int known = set->class_count;
    if (strncmp(set->spec, "glyphs", 6) == 0 && known > GLYPHS_KNOWN)
        known = GLYPHS_KNOWN;
    if (split_allocate(out, known, set->class_count - known))
        return no_memory(message, size);
    out->known_count = known;
    out->unknown_count = set->class_count - known;
    for (int c = 0; c < set->class_count; c++) {
        if (c < known)
            out->known[c] = c;
        else
            out->unknown[c - known] = c;
    }
    if (out->unknown_count)
        snprintf(out->name, sizeof out->name, "0-%d", known - 1);
    else
        snprintf(out->name, sizeof out->name, "all classes");
    return EXIT_OK;
}

int split_check(const struct class_split *split, const struct data_set *set, char *message,
                size_t size)
{
    int worst = -1;
    for (int i = 0; i < split->known_count; i++)
        worst = split->known[i] > worst ? split->known[i] : worst;
    for (int i = 0; !split->unknown_set && i < split->unknown_count; i++)
        worst = split->unknown[i] > worst ? split->unknown[i] : worst;
    if (worst < set->class_count)
        return EXIT_OK;
    snprintf(message, size, "split %s: needs class %d, but %s has %d classes", split->name, worst,
             set->spec, set->class_count);
    return EXIT_USAGE;
}

/* ---- images ---- */

static int subset_allocate(struct subset *s, size_t count)
{
    memset(s, 0, sizeof *s);
    s->index = malloc((count + 1) * sizeof *s->index);
    s->label = malloc((count + 1) * sizeof *s->label);
    if (s->index && s->label)
        return 0;
    subset_free(s);
    return -1;
}

void subset_free(struct subset *s)
{
    free(s->index);
    free(s->label);
    memset(s, 0, sizeof *s);
}

/* Images whose class is in the list; the label is the position there, or -1 for all. */
static int subset_select(const struct data_set *set, const int *list, int count, int labelled,
                         struct subset *out, char *message, size_t size)
{
    int32_t *label_of = malloc(((size_t)set->class_count + 1) * sizeof *label_of);
    memset(out, 0, sizeof *out);
    if (!label_of || set->count > UINT32_MAX || subset_allocate(out, set->count)) {
        free(label_of);
        return no_memory(message, size);
    }
    for (int c = 0; c < set->class_count; c++)
        label_of[c] = INT32_MIN;
    for (int i = 0; i < count; i++)
        if (list[i] < set->class_count)
            label_of[list[i]] = labelled ? i : -1;
    for (size_t i = 0; i < set->count; i++) {
        int32_t label = label_of[set->labels[i]];
        if (label == INT32_MIN)
            continue;
        out->index[out->count] = (uint32_t)i;
        out->label[out->count++] = label;
    }
    free(label_of);
    return EXIT_OK;
}

int subset_known(const struct data_set *set, const struct class_split *split, struct subset *out,
                 char *message, size_t size)
{
    return subset_select(set, split->known, split->known_count, 1, out, message, size);
}

int subset_unknown(const struct data_set *set, const struct class_split *split,
                   struct subset *out, char *message, size_t size)
{
    return subset_select(set, split->unknown, split->unknown_count, 0, out, message, size);
}

/* Marks the positions of one class that validate: the last of a shuffled list of its images. */
static size_t mark_class(const struct subset *all, int label, double share, uint64_t seed,
                         uint32_t *members, char *validates)
{
    struct philox p = philox_start(seed, PHILOX_VALIDATION, (uint64_t)label);
    uint32_t n = 0, training;
    for (size_t i = 0; i < all->count; i++)
        if (all->label[i] == label)
            members[n++] = (uint32_t)i;
    /* The small term keeps 0.7 * 10 from falling to 6 by rounding. */
    training = (uint32_t)((1.0 - share) * n + 1e-6);
    if (training == 0 && n > 0)
        training = 1;
    philox_shuffle(&p, members, n);
    for (uint32_t i = training; i < n; i++)
        validates[members[i]] = 1;
    return n;
}

int subset_divide(const struct subset *all, int known_count, double share, uint64_t seed,
                  struct subset *train, struct subset *validation, char *message, size_t size)
{
    uint32_t *members = malloc((all->count + 1) * sizeof *members);
    char *validates = calloc(all->count + 1, 1);
    int code = EXIT_OK;
    memset(train, 0, sizeof *train);
    memset(validation, 0, sizeof *validation);
    if (!members || !validates || subset_allocate(train, all->count) ||
        subset_allocate(validation, all->count))
        code = no_memory(message, size);
    for (int label = 0; code == EXIT_OK && label < known_count; label++)
        if (mark_class(all, label, share, seed, members, validates) == 0) {
            snprintf(message, size, "the known class with label %d has no training images", label);
            code = EXIT_DATA;
        }
    for (size_t i = 0; code == EXIT_OK && i < all->count; i++) {
        struct subset *to = validates[i] ? validation : train;
        to->index[to->count] = all->index[i];
        to->label[to->count++] = all->label[i];
    }
    free(members);
    free(validates);
    if (code) {
        subset_free(train);
        subset_free(validation);
    }
    return code;
}

void epoch_permutation(uint64_t seed, uint64_t epoch, uint32_t count, uint32_t *out)
{
    struct philox p = philox_start(seed, PHILOX_EPOCH, epoch);
    for (uint32_t i = 0; i < count; i++)
        out[i] = i;
    philox_shuffle(&p, out, count);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int subset_balance(struct subset *a, struct subset *b, uint64_t seed, char *message, size_t size)
{
    struct subset *large = a->count > b->count ? a : b, *small = a->count > b->count ? b : a;
    uint32_t *drawn;
    if (small->count == 0 || small->count == large->count)
        return EXIT_OK;
    drawn = malloc(large->count * sizeof *drawn);
    if (!drawn)
        return no_memory(message, size);
    epoch_permutation(seed, UINT64_MAX, (uint32_t)large->count, drawn);
    qsort(drawn, small->count, sizeof *drawn, by_number);
    for (size_t i = 0; i < small->count; i++) {
        large->index[i] = large->index[drawn[i]];
        large->label[i] = large->label[drawn[i]];
    }
    large->count = small->count;
    free(drawn);
    return EXIT_OK;
}
