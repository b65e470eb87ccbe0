/* confusion.h - accepted unknown images: which known class swallows which unknown class */
#ifndef CLI_CONFUSION_H
#define CLI_CONFUSION_H

#include "output.h"

#include <stddef.h>
#include <stdint.h>

struct confusion {
    int unknown, known;        /* classes */
    const char **unknown_names, **known_names; /* not owned texts */
    size_t *images;            /* [unknown] */
    size_t *accepted;          /* [unknown, known] images taken for that class */
};

/* Counts images of unknown classes, class[i] 0 .. unknown - 1 each, that a score accepts (at most
 * the threshold), by the known class that is predicted. The names must outlive it. EXIT_OK or
 * EXIT_MEMORY. */
int confusion_count(struct confusion *c, const char *const *unknown_names, int unknown,
                    const char *const *known_names, int known, const int32_t *class,
                    const int32_t *predicted, const double *scores, size_t count,
                    double threshold);
void confusion_free(struct confusion *c);

/* All accepted images of an unknown class. */
size_t confusion_accepted(const struct confusion *c, int unknown);

/* A table on stdout: the `most` unknown classes of which most is accepted, each with the three
 * known classes that take most. An exit code. */
int confusion_table(const struct confusion *c, int most);

/* "confusion": [{"unknown": NAME, "images": N, "accepted": A,
 *                "as": [{"class": NAME, "images": N}, ...]}, ...], counts of 0 left out of "as". */
void confusion_json(const struct confusion *c, struct json *j);

/* unknown,images,accepted,<every known class>: a line an unknown class. Allocated text. */
char *confusion_csv(const struct confusion *c);

#endif
