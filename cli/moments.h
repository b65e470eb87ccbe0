/* moments.h - what osr train --analyse measures at one moment of a training, the file of them in
 * the run (analysis.jsonl), and the picture of their course. */
#ifndef CLI_MOMENTS_H
#define CLI_MOMENTS_H

#include <stddef.h>

#include "output.h"
#include "run_dir.h"

/* Everything is a real, so that one table can name the fields; NaN: not known. */
struct moment {
    double step, epoch;              /* steps and epochs done; an epoch may be part done */
    double accuracy, auroc;          /* closed-set; of the score that the model decides by */
    double norm_known, norm_unknown; /* mean Jacobian norms */
    double jnd;                      /* their difference, unknown - known */
    double norm_auroc;               /* of the norm taken as a score */
    double intra, inter, davies_bouldin; /* of the known images: struct separation */
};

struct moment_field {
    const char *name;
    size_t offset;
};

extern const struct moment_field moment_fields[];
extern const int moment_field_count;

double moment_value(const struct moment *m, int field);

/* The fields from `first` on, into an open object. */
void moment_json(struct json *j, const struct moment *m, int first);

struct moments {
    struct moment *at;
    size_t count;
};

/* Reads the analysis.jsonl at path; a line without a step is EXIT_DATA. No such file: none. */
int moments_read(const char *path, struct moments *out, char *message, size_t size);
void moments_free(struct moments *m);

/* Reads those of a run and drops, in the file too, what came after step: a run that was killed
 * goes on from an earlier checkpoint and will measure them again. */
int moments_resume(struct run_dir *run, double step, struct moments *out);

/* Adds one to the list and, as a line, to the run. EXIT_IO leaves the list longer. */
int moments_add(struct run_dir *run, struct moments *m, const struct moment *one);

/* NAME.csv and NAME.svg in a folder: a line a moment; AUROC, norms and their difference,
 * Davies-Bouldin index and distances over the steps. Prints the error; an exit code. */
int moments_save(const struct moments *m, const char *title, const char *folder, const char *name);

#endif
