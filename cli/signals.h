/* signals.h - orderly interruption. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

/* From now on the first SIGINT, SIGTERM or SIGHUP only sets a flag; a second one ends the process
 * at once with status 130. A file that would grow beyond the limit on file sizes fails to be
 * written, as on a full disk. SIGPIPE keeps its default, which ends "osr eval | head" silently. */
void signals_install(void);

/* 0, or the status to exit with: EXIT_INTERRUPT, EXIT_TERMINATE. Asked between batches; says
 * once on stderr that the program is stopping. */
int signals_pending(void);

/* Round the writing of a checkpoint: 1 ignores SIGPIPE, 0 restores its default. */
void signals_shield(int on);

#endif
