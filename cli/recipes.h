/* recipes.h - presets by name for --recipe: what a paper or its code trained with, value by value
 * with its source. A preset is weaker than everything the user gives. */
#ifndef CLI_RECIPES_H
#define CLI_RECIPES_H

#include <stdio.h>

#include "options.h"

struct recipe {
    const char *name, *summary, *source;
};

/* One value. Of the rows that fit a data set and a method the last one of a key counts. */
struct recipe_row {
    const char *recipe;
    const char *sets;    /* "mnist|svhn"; NULL: every set; "other": none of the published ones */
    const char *methods; /* "ce|cac"; NULL: every method */
    const char *key, *value;
    const char *source;  /* NULL: that of the recipe; else what is special about this value */
};

extern const struct recipe recipe_table[];
extern const int recipe_count;
extern const struct recipe_row recipe_rows[];
extern const int recipe_row_count;

/* NULL for an unknown name. */
const struct recipe *recipe_find(const char *name);

/* The published set that --data and --split-set mean, by their text alone: mnist, svhn, cifar10,
 * tinyimagenet, cifar+10 and cifar+50 where --split-set names them, or "other". */
const char *recipe_set(const struct options *o);

/* The set whose class lists --split takes: --split-set, else that of recipe_set, so that classes,
 * presets and published figures are of one set. NULL without both. EXIT_USAGE, with a message in o,
 * where it has to be named, or --known is given, too. */
int recipe_list(struct options *o, const char **name);

/* Does the row belong to this recipe, set and method? */
int recipe_fits(const struct recipe_row *row, const char *recipe, const char *set,
                const char *method);

/* Fills in the values of --recipe, where that is set, for the data and the method of o, which it
 * chooses where --method is not given. An exit code, with a message in o. */
int recipe_apply(struct options *o);

void recipes_help(FILE *out); /* osr help recipes */

#endif
