/* networks.h - the network that the options ask for: --network, --head, --head-bias, and what a
 * command adds to them; --mean and --std. */
#ifndef CLI_NETWORKS_H
#define CLI_NETWORKS_H

#include "options.h"
#include "osr.h"

/* The row of --network. NULL with the error printed. */
const osr_network_row *network_choose(const struct options *o);

/* The row of --method. NULL with the error printed. */
const osr_method_row *method_choose(const struct options *o);

/* Refuses an option of a method's own, given by flag, that none of these methods reads. Prints the
 * error. An exit code. */
int method_flags(const struct options *o, const osr_method_row *const *methods, int count);

/* The method's variant of a network, with `out` values from its last layer and images of `side`
 * rows; --head and --head-bias applied. Prints the error. An exit code. */
int network_variant(const struct options *o, const osr_network_row *network,
                    const osr_method_row *method, int out, int side, osr_vgg32_desc *variant);

/* The numbers by commas of an option, one a channel. Prints the error. An exit code. */
int channel_numbers(const struct options *o, const char *key, int channels, float *values);

#endif
