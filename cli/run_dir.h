/* run_dir.h - the directory of a run: made atomically, owned by one writer, its files either the
 * old or the new ones after a crash at any moment. */
#ifndef CLI_RUN_DIR_H
#define CLI_RUN_DIR_H

#include <stddef.h>

struct run_dir {
    char path[1024];
    int lock;          /* descriptor of the lock file, -1: none */
    char message[1400]; /* the error of the last call that failed */
};

/* Each returns an exit code and, when that is not EXIT_OK, sets message. */

/* EXIT_USAGE where the directory holds a run already, which another process may be writing: to be
 * asked before data is read. */
int run_untaken(struct run_dir *run, const char *path);

/* Makes and locks the directory: path when not NULL (it must not hold a run yet), else the first
 * free runs/<data>-<method>-<n>, n from 1. Of data the part before ':' is used. */
int run_create(struct run_dir *run, const char *path, const char *data, const char *method);

/* Opens and locks an existing run (it has a config.ini); removes temporaries that a killed
 * process left and cuts a torn last line of metrics.jsonl. EXIT_USAGE when another process
 * writes to it. */
int run_open(struct run_dir *run, const char *path);

void run_close(struct run_dir *run); /* unlocks */

/* "<path>/<name>" into text. Returns text. */
char *run_file(const struct run_dir *run, const char *name, char *text, size_t size);

/* Replaces a small file: temporary, write, fsync, rename, fsync of the directory. */
int run_write(struct run_dir *run, const char *name, const char *bytes, size_t count);

/* Appends line and '\n' to name (metrics.jsonl) with one write(). */
int run_append(struct run_dir *run, const char *name, const char *line);

/* The whole file, NUL-terminated, allocated; at most limit bytes. NULL with an errno text in
 * message. For any path. */
char *file_read(const char *path, size_t limit, size_t *count, char *message, size_t size);

/* As run_write for any path. */
int file_write(const char *path, const char *bytes, size_t count, char *message, size_t size);

#endif
