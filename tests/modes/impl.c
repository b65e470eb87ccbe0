/* The implementation in a unit of its own, the header included before and again after. */
#include "osr.h"
#define OSR_IMPLEMENTATION
#include "osr.h"
#include "osr.h"
