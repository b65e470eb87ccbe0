/* networks_fill.h - the weights and images that networks.py makes, for the tests of networks */
#ifndef NETWORKS_FILL_H
#define NETWORKS_FILL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The numbers of networks.py's fill(). */
static inline float fill_value(int seed, size_t i)
{
    uint32_t h = ((uint32_t)i + 1u) * 2654435761u + (uint32_t)seed * 40503u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return ((float)(h >> 8) - 8388608.0f) / 8388608.0f;
}

static inline int ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The tensor number `row` of a network as fill_parameters of networks.py has it; `first` is its
 * first dimension. */
static inline void fill_tensor(const char *name, int row, int rank, int first, float *values,
                               size_t count)
{
    float scale = 1.0f, shift = 0.0f;
    if (ends_with(name, ".bias") || ends_with(name, ".running_mean")) {
        scale = 0.25f;
    } else if (rank == 1) {
        scale = 0.25f;
        shift = 1.0f;
    } else {
        while (6.0f / (scale * scale) < (float)(count / (size_t)first))
            scale *= 0.5f;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = shift + scale * fill_value(100 + row, i);
}

#endif
