/* damage.h - files that are not as they were written, for tests of what is kept on disk */
#ifndef OSR_TEST_DAMAGE_H
#define OSR_TEST_DAMAGE_H

#include "test.h"

#include <unistd.h>

/* Flips a bit at `at`, or cuts the file there. */
static inline void damage(const char *path, long at, int cut)
{
    FILE *f = fopen(path, "rb+");
    if (!CHECK(f != NULL))
        return;
    if (cut) {
        CHECK(ftruncate(fileno(f), at) == 0);
    } else {
        fseek(f, at, SEEK_SET);
        const int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ 1, f);
    }
    fclose(f);
}

#endif
