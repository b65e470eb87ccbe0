/* published.h - figures of papers that a grid of osr protocol is held against. */
#ifndef CLI_PUBLISHED_H
#define CLI_PUBLISHED_H

struct published_source {
    const char *name;
    const char *family;  /* of class lists, as --split has them */
    const char *recipe;  /* that comes nearest, as --recipe has it */
    int trials;
};

/* What this program never does as they did; sets and methods as in a recipe_row. */
struct published_remark {
    int source;
    const char *sets, *methods;
    const char *text;
};

/* In per cent, means over the trials; accuracy 0: not given. */
struct published_figure {
    const char *method, *score, *set;
    double auroc, accuracy;
    int source; /* place in published_sources */
};

extern const struct published_source published_sources[];
extern const struct published_figure published_figures[];
extern const int published_count;
extern const struct published_remark published_remarks[];
extern const int published_remark_count;

#endif
