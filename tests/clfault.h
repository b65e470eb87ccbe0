/* clfault.h - what a test may call in the layer clfault, when it runs under it
 *
 * The layer is a shared library that the OpenCL loader opens (OPENCL_LAYERS); a test that wants to
 * steer it within one process opens the same library once more and gets the same instance.
 *
 *   clfault layer;
 *   if (!clfault_open(&layer)) return 77;              not run under the layer
 *   layer.arm(n, 0);                                   the nth call from here fails
 *   before = layer.calls("clCreateBuffer"); ...        number of calls so far */
#ifndef CLFAULT_H
#define CLFAULT_H

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    /* The nth call from now fails, with sticky all later ones too; 0 disarms. Queries of counts
     * and releases never fail. */
    void (*arm)(long nth, int sticky);
    /* From now on only this entry point is counted by arm and made to fail; NULL: all. The name
     * has to live on. */
    void (*only)(const char *name);
    /* 1 when a call was made to fail since the last arm. */
    int (*fired)(void);
    /* Calls of one entry point since the start; NULL: all calls that can be made to fail. */
    long (*calls)(const char *name);
    /* References to OpenCL objects that are not released yet. */
    long (*live)(void);
} clfault;

/* POSIX lets an object pointer from dlsym be read as a function pointer through its bytes. */
static int clfault_symbol(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* 0 when the program does not run under the layer. */
static int clfault_open(clfault *layer)
{
    const char *path = getenv("OPENCL_LAYERS");
    void *library = path ? dlopen(path, RTLD_NOW) : NULL;
    return library && clfault_symbol(library, "clfault_arm", &layer->arm) &&
           clfault_symbol(library, "clfault_only", &layer->only) &&
           clfault_symbol(library, "clfault_fired", &layer->fired) &&
           clfault_symbol(library, "clfault_calls", &layer->calls) &&
           clfault_symbol(library, "clfault_live", &layer->live);
}

#endif
