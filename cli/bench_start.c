/* bench_start.c - see bench_start.h. */
#define _XOPEN_SOURCE 700
#include "bench_start.h"

#include "exit_codes.h"
#include "output.h"
#include "progress.h"

#include <errno.h>
#include <ftw.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Where drivers and osr.h keep compiled kernels. */
static const char *const caches[] = {"POCL_CACHE_DIR", "XDG_CACHE_HOME", "CUDA_CACHE_PATH",
                                     "AMD_COMGR_CACHE_DIR", "NEO_CACHE_DIR"};
enum { CACHES = sizeof caches / sizeof caches[0] };

/* The environment with every cache in `folder`, in one allocated block; NULL without memory. */
static char **child_environment(const char *folder, char (*setting)[512])
{
    size_t n = 0, kept = 0;
    while (environ[n] != NULL)
        ++n;
    char **list = calloc(n + CACHES + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < n; ++i) {
        int ours = 0;
        for (int k = 0; k < CACHES; ++k)
            ours |= strncmp(environ[i], caches[k], strlen(caches[k])) == 0
                    && environ[i][strlen(caches[k])] == '=';
        if (!ours)
            list[kept++] = environ[i];
    }
    for (int k = 0; list != NULL && k < CACHES; ++k) {
        snprintf(setting[k], sizeof setting[k], "%s=%s", caches[k], folder);
        list[kept++] = setting[k];
    }
    return list;
}

/* Seconds until the child has printed its result, all of which is read; -1 on failure. */
static double child_seconds(const char *program, char *const *arguments, char *const *environment)
{
    posix_spawn_file_actions_t actions;
    int out[2], status = -1;
    double seconds = -1.0;
    pid_t child;
    char text[256];
    ssize_t n;
    if (pipe(out) != 0)
        return -1.0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, out[1]);
    const double start = progress_now();
    const int failed = posix_spawn(&child, program, &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    while (!failed && ((n = read(out[0], text, sizeof text)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0 && seconds < 0.0)
            seconds = progress_now() - start;
    close(out[0]);
    while (!failed && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status == 0 ? seconds : -1.0;
}

static int remove_entry(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    return remove(path);
}

int bench_start(const struct options *o, double *cold, double *warm)
{
    static const char *const same[] = {"device", "kernels", "algorithm", "products", "seed",
                                       "batch",  "network", "size",      "tuned"};
    enum { SAME = sizeof same / sizeof same[0] };
    char program[4096], folder[] = "/tmp/osr-bench-XXXXXX", setting[CACHES][512];
    char argument[SAME][512], *arguments[SAME + 4] = {program, (char *)"bench",
                                                      (char *)"--start=once"};
    int count = 3;
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0 || mkdtemp(folder) == NULL) {
        message_error("--start: %s: %s", n <= 0 ? "/proc/self/exe" : folder, strerror(errno));
        return EXIT_IO;
    }
    program[n] = '\0';
    for (int i = 0; i < SAME; ++i) {
        const char *value = option_text(o, same[i]);
        if (value != NULL) {
            snprintf(argument[i], sizeof argument[i], "--%s=%s", same[i], value);
            arguments[count++] = argument[i];
        }
    }
    char **environment = child_environment(folder, setting);
    *cold = *warm = -1.0;
    if (environment != NULL)
        *cold = child_seconds(program, arguments, environment);
    if (*cold > 0.0)
        *warm = child_seconds(program, arguments, environment);
    free(environment);
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (*warm > 0.0)
        return EXIT_OK;
    message_error("--start: a run of %s bench --start once failed", program);
    return EXIT_INTERNAL;
}
