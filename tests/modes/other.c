/* A second unit: with OSR_STATIC it has its own implementation beside that of use.c, which must
 * not clash; without, one more user of the declarations. */
#ifdef OSR_STATIC
#define OSR_IMPLEMENTATION
#endif
#include "osr.h"

const char *other_version(void);
const char *other_version(void)
{
    return osr_version();
}
