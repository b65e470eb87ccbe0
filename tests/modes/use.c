/* The user's side of the header modes: declarations only, included twice, linked and called.
 * With OSR_STATIC this unit has an implementation of its own. */
#include "osr.h"
#ifdef OSR_STATIC
#define OSR_IMPLEMENTATION
#endif
#include "osr.h"
#include "osr.h"
#include <stdio.h>
#include <string.h>

int main(void)
{
    osr_ctx_desc desc;
    osr_ctx *ctx = NULL;
    osr_status status;
    memset(&desc, 0, sizeof desc);
    desc.no_device = 1;
    if (strcmp(osr_version(), OSR_VERSION) != 0) {
        fprintf(stderr, "osr_version() is %s, OSR_VERSION %s\n", osr_version(), OSR_VERSION);
        return 1;
    }
    status = osr_ctx_create(&desc, &ctx);
    osr_ctx_destroy(ctx);
    return status != OSR_OK || !ctx;
}
