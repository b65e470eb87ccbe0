/* splits.h - which classes are known, which images train, validate and test, and in which order. */
#ifndef CLI_SPLITS_H
#define CLI_SPLITS_H

#include <stddef.h>
#include <stdint.h>

#include "data.h"

/* known[label] is the class that the network calls label. */
struct class_split {
    char name[96];           /* "neal mnist trial 0", "all classes", "0,1,2,5" */
    int known_count, unknown_count;
    int *known, *unknown;    /* class numbers */
    const char *unknown_set; /* "cifar100" when the unknown classes are of that set, else NULL */
};

/* Each returns an exit code; message is set unless EXIT_OK, and out is then empty. */

/* A published split. family: "neal", where the label is the rank of the class in the sorted list
 * of known classes, or "arpl", where it is the position in the list. set: mnist, svhn, cifar10,
 * cifar+10, cifar+50, tinyimagenet. trial: 0 .. 4. */
int split_published(const char *family, const char *set, int trial, struct class_split *out,
                    char *message, size_t size);

/* The published split that is called name in a class_split. EXIT_USAGE when there is none. */
int split_by_name(const char *name, struct class_split *out, char *message, size_t size);

/* Makes the classes of another set the unknown ones: those that the published list names (the set
 * must then have the 100 classes of cifar100), else all. set NULL: EXIT_USAGE when the list needs
 * another set, else nothing changes. */
int split_take_unknown(struct class_split *split, const struct data_set *set, char *message,
                       size_t size);

/* The published set that data most likely is, or NULL: by the kind in its spec, else by the last
 * part of the path that names one, files of idx: without a name being those of MNIST. */
const char *split_guess_name(const char *spec);

/* The same, or NULL where the set has another number of classes. */
const char *split_guess_set(const struct data_set *set);

/* The user's known classes: numbers, ranges "0-5" and names of classes, by commas. Labels in the
 * order given; all other classes are unknown. At least two. */
int split_parse(const char *text, const struct data_set *set, struct class_split *out,
                char *message, size_t size);

/* Without --known and --split: the first six classes of the drawn glyphs, all classes of others. */
int split_default(const struct data_set *set, struct class_split *out, char *message, size_t size);

/* EXIT_USAGE when the split names classes that the data does not have. */
int split_check(const struct class_split *split, const struct data_set *set, char *message,
                size_t size);

void split_free(struct class_split *split);

/* ---- images ---- */

struct subset {
    size_t count;
    uint32_t *index; /* positions in the data set */
    int32_t *label;  /* 0 .. known_count - 1, or -1 for unknown */
};

/* The images of the known (unknown) classes in the order of the data set. */
int subset_known(const struct data_set *set, const struct class_split *split, struct subset *out,
                 char *message, size_t size);
int subset_unknown(const struct data_set *set, const struct class_split *split,
                   struct subset *out, char *message, size_t size);

/* Of n images of a class, drawn by seed, floor((1 - share) n) train, at least one; the rest
 * validates. A class without images is EXIT_DATA. */
int subset_divide(const struct subset *all, int known_count, double share, uint64_t seed,
                  struct subset *train, struct subset *validation, char *message, size_t size);

/* Cuts the larger of two subsets to the size of the smaller, images drawn by seed without
 * replacement, their order kept. Nothing happens where one is empty. */
int subset_balance(struct subset *a, struct subset *b, uint64_t seed, char *message, size_t size);

void subset_free(struct subset *s);

/* A permutation of 0 .. count - 1 that depends on (seed, epoch, count) only. */
void epoch_permutation(uint64_t seed, uint64_t epoch, uint32_t count, uint32_t *out);

#endif
