#include "session.h"
int cmd_selftest(struct options *o) { (void)o; return 1; }
