/* peak.cl - the device's float32 multiply-add rate: independent chains, nothing else
 *
 * Each item runs PEAK_CHAINS chains of `rounds` multiply-adds on vectors of 16 (CPU) or 1. */
#ifndef OSR_COMMON
#include "common.cl"
#endif
#define PEAK_CHAINS 12
#if OSR_GPU
typedef float peak_t;
#define PEAK_STORE(p, v) (*(p) = (v))
#else
typedef float16 peak_t;
#define PEAK_STORE(p, v) (*(p) = (v).s0)
#endif

OSR_KERNEL peak(__global float *y, int rounds)
{
    peak_t a[PEAK_CHAINS];
    const float seed = y[get_group_id(0)];
    const peak_t m = (peak_t)(0.999f), c = (peak_t)(seed);
#pragma unroll
    for (int i = 0; i < PEAK_CHAINS; ++i)
        a[i] = (peak_t)((float)i + (float)get_local_id(0));
#pragma unroll 1
    for (int k = 0; k < rounds; ++k) {
#pragma unroll
        for (int i = 0; i < PEAK_CHAINS; ++i)
            a[i] = a[i] * m + c;
    }
    peak_t s = (peak_t)(0.0f);
#pragma unroll
    for (int i = 0; i < PEAK_CHAINS; ++i)
        s += a[i];
    PEAK_STORE(y + get_global_id(0), s);
}
