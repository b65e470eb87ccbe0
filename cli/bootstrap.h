/* bootstrap.h - 95% intervals of the open-set figures by resampling the test images
 *
 * Percentile bootstrap, stratified: known and unknown images are drawn with replacement each among
 * themselves, as often as there are of them. Every set of scores sees the same draws. */
#ifndef CLI_BOOTSTRAP_H
#define CLI_BOOTSTRAP_H

#include <stddef.h>
#include <stdint.h>

enum boot_figure {
    BOOT_ACCURACY, BOOT_AUROC, BOOT_AUPR_UNKNOWN, BOOT_AUPR_KNOWN, BOOT_FPR95_KNOWN_POS,
    BOOT_FPR95_UNKNOWN_POS, BOOT_OSCR, BOOT_DTACC, BOOT_MACRO_F1, BOOT_COUNT
};

struct interval {
    double low, high; /* NaN where the figure has no meaning */
};

/* One score of the test images; finite. The images of known classes come first. */
struct boot_set {
    const double *scores; /* [known + unknown] */
    size_t known, unknown;
    const unsigned char *correct; /* [known] */
    /* for macro-F1; labels NULL: not wanted */
    const int32_t *labels, *predicted; /* [known + unknown], 0 .. classes - 1 or -1 */
    int classes;
    double threshold; /* a score above it is called unknown */
};

/* Intervals of `count` sets over the same images, from the 2.5th to the 97.5th percentile (linear
 * between neighbours). A function of (sets, resamples, seed) only. known >= 1, resamples >= 1.
 * EXIT_OK or EXIT_MEMORY. */
int bootstrap(const struct boot_set *sets, int count, int resamples, uint64_t seed,
              struct interval (*out)[BOOT_COUNT]);

/* For tests: how often resample number `at` draws each image. draws [known + unknown]. */
void bootstrap_draws(size_t known, size_t unknown, uint64_t seed, int at, uint32_t *draws);

#endif
