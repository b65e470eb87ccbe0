/* compare.h - several runs beside each other: what differs in their settings, and what came of
 * it. */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "moments.h"
#include "svg.h"

struct setting {
    char *key, *value;
};

struct compared {
    const char *path; /* RUN or MODEL as given */
    struct setting *settings; /* of the run's config.ini; a model file has none */
    size_t setting_count;
    int classes;
    size_t known, unknown; /* images */
    struct moment moment;
};

/* Reads the settings of a run; a path without a config.ini has none. Prints the error. */
int compared_read(struct compared *c, const char *path);
void compared_free(struct compared *c);

/* The keys whose values are not the same in all runs, in the order of the first run that has
 * them, without --analyse and its like, which change nothing; pointers into the runs. Allocated;
 * NULL when memory ends. */
const char **compared_keys(const struct compared *runs, size_t n, size_t *count);

/* Each NULL or an exit code for memory that ended. */
int compared_json(const struct compared *runs, size_t n, struct json *j); /* into an open array */
int compared_table(const struct compared *runs, size_t n);                /* on stdout */
char *compared_csv(const struct compared *runs, size_t n, size_t *length);
int compared_svg(const struct compared *runs, size_t n, const char *title, struct svg *out);

#endif
