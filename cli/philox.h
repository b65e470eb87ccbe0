/* philox.h - the counter-based generator Philox 4x32-10 (Salmon et al., SC 2011).
 *
 * A value is a function of (seed, stream, position) only, so that any part of a sequence can be
 * computed again without its predecessors. Streams keep the users of one seed apart. */
#ifndef CLI_PHILOX_H
#define CLI_PHILOX_H

#include <stdint.h>

enum philox_stream {
    PHILOX_GLYPHS = 0x676c7900,
    PHILOX_VALIDATION = 0x76616c00,
    PHILOX_EPOCH = 0x65706f00,
    PHILOX_BOOTSTRAP = 0x626f6f00,
    PHILOX_SEGMENTS = 0x73656700,
    PHILOX_SPREAD = 0x73707200
};

static inline void philox4x32(const uint32_t counter[4], uint64_t seed, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* A sequence of 32-bit words. counter = {block, item low, item high, stream}. */
struct philox {
    uint64_t seed;
    uint32_t counter[4];
    uint32_t block[4];
    int used;
};

static inline struct philox philox_start(uint64_t seed, uint32_t stream, uint64_t item)
{
    struct philox p = {seed, {0, (uint32_t)item, (uint32_t)(item >> 32), stream}, {0}, 4};
    return p;
}

static inline uint32_t philox_next(struct philox *p)
{
    if (p->used == 4) {
        philox4x32(p->counter, p->seed, p->block);
        p->counter[0]++;
        p->used = 0;
    }
    return p->block[p->used++];
}

/* Uniform in [0, 1), 32 random bits. */
static inline double philox_unit(struct philox *p)
{
    return philox_next(p) * (1.0 / 4294967296.0);
}

/* Uniform in [low, high). */
static inline double philox_between(struct philox *p, double low, double high)
{
    return low + (high - low) * philox_unit(p);
}

/* Uniform in 0 .. bound - 1 without bias (multiply, reject the short tail); bound > 0. */
static inline uint32_t philox_below(struct philox *p, uint32_t bound)
{
    uint64_t product = (uint64_t)philox_next(p) * bound;
    if ((uint32_t)product < bound) {
        uint32_t threshold = (0u - bound) % bound;
        while ((uint32_t)product < threshold)
            product = (uint64_t)philox_next(p) * bound;
    }
    return (uint32_t)(product >> 32);
}

/* Fisher-Yates. */
static inline void philox_shuffle(struct philox *p, uint32_t *values, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = philox_below(p, i);
        uint32_t t = values[i - 1];
        values[i - 1] = values[j];
        values[j] = t;
    }
}

#endif
