/* grid.h - the cells of osr protocol: which there are, what came out of them, and their table
 * beside published figures. */
#ifndef CLI_GRID_H
#define CLI_GRID_H

#include "evaluation.h"
#include "options.h"

enum { GRID_METHODS = 16, GRID_TRIALS = 5, GRID_SEEDS = 32, GRID_SCORES = RESULT_MOST };

enum grid_figure {
    GRID_ACCURACY, GRID_AUROC, GRID_AUPR_UNKNOWN, GRID_AUPR_KNOWN, GRID_FPR95_KNOWN,
    GRID_FPR95_UNKNOWN, GRID_OSCR, GRID_DTACC, GRID_MACRO_F1, GRID_FIGURES
};

extern const char *const grid_figure_names[GRID_FIGURES]; /* as osr eval --json has them */

struct grid_score {
    char name[32];
    double figure[GRID_FIGURES]; /* NaN: not measured */
};

enum cell_state { CELL_OPEN, CELL_DONE, CELL_DIVERGED };

struct cell {
    const char *method;
    int trial;           /* -1: no published list */
    int64_t seed;
    char path[1100];     /* the directory of its run */
    enum cell_state state;
    int count;
    struct grid_score score[GRID_SCORES];
};

struct grid {
    char path[1024];
    char split[32];      /* family of class lists, "" for the user's own */
    const char *set;     /* as recipe_set */
    char names[GRID_METHODS][32];
    const char *method[GRID_METHODS];
    int64_t trial[GRID_TRIALS], seed[GRID_SEEDS];
    int methods, trials, seeds;
    int count;           /* cells */
    struct cell *cell;   /* seed by seed, in a seed trial by trial, in a trial method by method */
};

/* "0,2-4" into numbers within low .. high, in the order given, each once. what: "trial", for the
 * message. An exit code. */
int grid_numbers(const char *text, const char *what, int64_t low, int64_t high, int most,
                 int64_t *out, int *count, char *message, size_t size);

/* The grid that --methods, --trials, --seeds, --split and --data ask for, at path, its cells open.
 * message is set unless EXIT_OK. grid_free in any case. */
int grid_plan(struct grid *g, const struct options *o, const char *path, char *message,
              size_t size);
void grid_free(struct grid *g);

/* What the directory of a cell says about it: figures.csv. A file that is damaged is none. */
void cell_load(struct cell *c);

/* Takes the figures of a run that ended, or its divergence (r NULL), and writes figures.csv. An
 * exit code, with a message unless EXIT_OK. */
int cell_finish(struct cell *c, const struct results *r, char *message, size_t size);

/* Mean and standard deviation (divisor n - 1; NaN for one value) of what is not NaN; returns n. */
int grid_moments(const double *values, int count, double *mean, double *deviation);

/* ---- the table ---- */

enum { REPORT_ROWS = 256, REPORT_NOTES = 64 };

struct report_row {
    const char *method, *score;
    int cells, diverged;
    double mean[GRID_FIGURES], deviation[GRID_FIGURES]; /* shares, not per cent */
    int source;                 /* place in published_sources, -1: measured here */
    int note;                   /* number of the footnote of a published figure, from 1 */
};

struct report {
    const struct grid *grid;
    int done, diverged;
    int rows, notes;
    struct report_row row[REPORT_ROWS];
    char *note[REPORT_NOTES];
    char *settings[GRID_METHODS]; /* "cac: epochs 3, batch 64 ..." */
    int settings_count;
    char data[1024], unknown[1024];
};

/* Means of the cells that are done, and beside them what papers have for the same method, score
 * and data, with the differences in recipe that the runs' own config.ini show. An exit code, with
 * a message unless EXIT_OK. report_free in any case. */
int report_make(struct report *r, const struct grid *g, const struct options *o, char *message,
                size_t size);
void report_free(struct report *r);

/* table.md, table.csv, table.json and cells.csv in the directory of the grid. */
int report_write(const struct report *r, char *message, size_t size);
int report_print(const struct report *r);      /* on stdout; an exit code */
int report_print_json(const struct report *r);

#endif
