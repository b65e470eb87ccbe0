/* optimiser.cl - one launch updates every parameter
 *
 * All buffers have the same offsets. Flat launch over `count` values from `first` on. */
#ifndef OSR_COMMON
#include "common.cl"
#endif

OSR_KERNEL sgd(__global float *w, __global const float *g, __global float *v, int first, int count,
               int decoupled, float lr, float momentum, float decay)
{
    FOR_FLAT(i, count)
    {
        const int j = first + i;
        float p = w[j], d = g[j];
        if (decoupled)
            p -= lr * decay * p;
        else
            d += decay * p;
        const float m = momentum * v[j] + d;
        v[j] = m;
        w[j] = p - lr * m;
    }
}

/* correction1, correction2 = 1 - beta^step */
OSR_KERNEL adam(__global float *w, __global const float *g, __global float *m, __global float *v,
                int first, int count, int decoupled, float lr, float decay, float beta1,
                float beta2, float eps, float correction1, float correction2)
{
    FOR_FLAT(i, count)
    {
        const int j = first + i;
        float p = w[j], d = g[j];
        if (decoupled)
            p -= lr * decay * p;
        else
            d += decay * p;
        const float a = beta1 * m[j] + (1.0f - beta1) * d;
        const float b = beta2 * v[j] + (1.0f - beta2) * d * d;
        m[j] = a;
        v[j] = b;
        w[j] = p - lr * (a / correction1) / (sqrt(b / correction2) + eps);
    }
}
