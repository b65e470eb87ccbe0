/* progress.h - how far the training is, on stderr.
 *
 *   epoch 3/20  412/1563  loss 0.4137  acc 88.2%  5210 img/s  eta 4:12
 *
 * On a terminal one line, redrawn at most 10 times a second; elsewhere a line at the end of each
 * epoch and at most one in 30 s within. Nothing with -q. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

struct progress {
    const char *what; /* "epoch"; "eval" ... with epochs <= 1 the count "3/20" is left out */
    int epoch, epochs;
    long step, steps;
    double loss, accuracy;  /* NaN: left out; accuracy in [0, 1] */
    double images;          /* done since progress_start */
    double started, drawn, total_steps, first_step;
    int terminal, level;
};

double progress_now(void); /* monotonic clock, seconds */

/* first_epoch: 0, or the epoch that a resumed run goes on with. */
void progress_start(struct progress *p, const char *what, int first_epoch, int epochs, long steps);

/* After step (1 .. steps) of epoch (0-based); images: number in this batch. */
void progress_step(struct progress *p, int epoch, long step, double images, double loss,
                   double accuracy);

/* At the end of an epoch: the line stays; extra ("val 97.1%") is appended, may be NULL. */
void progress_epoch(struct progress *p, const char *extra);

/* Images per second since progress_start. */
double progress_rate(const struct progress *p);

/* From now on the line is of one cell of a grid, and starts with label: `left` more cells follow,
 * each of which takes `seconds`, or as long as this one where that is 0. label NULL: no more. */
void progress_within(const char *label, int left, double seconds);

/* The line that would be shown; for tests. */
void progress_text(const struct progress *p, double now, char *text, int size);

#endif
