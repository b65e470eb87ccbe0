/* bench_start.c - see bench_start.h. */
#define _XOPEN_SOURCE 700
#include "bench.h"

#include "exit_codes.h"
#include "output.h"
#include "progress.h"

#include <errno.h>
#include <ftw.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* How a child is started. */
struct child {
    char program[4096], folder[32], setting[CACHES][512];
    char **environment, **arguments;
    char *text; /* of the arguments */
};

/* Median of some starts; -1 on failure. Cold: each with the folder made anew. */
static double starts(const struct child *c, int count, int cold)
{
    double seconds[BENCH_WARM];
    for (int i = 0; i < count; ++i) {
        if (cold && i > 0
            && (nftw(c->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0
                || mkdir(c->folder, 0700) != 0))
            return -1.0;
        seconds[i] = child_seconds(c->program, c->arguments, c->environment);
        if (seconds[i] < 0.0)
            return -1.0;
    }
    return bench_median(seconds, count);
}

/* Arguments of the child: what the options say, and the choices in a file by that. */
static int child_arguments(const struct options *o, const char *tuning, struct child *c)
{
    static const char *const same[] = {"device", "kernels", "algorithm", "products", "seed",
                                       "batch",  "network", "size"};
    enum { SAME = sizeof same / sizeof same[0], FIXED = 4, LONGEST = 4200 };
    size_t count = 0;
    c->arguments = calloc(FIXED + SAME + 2, sizeof *c->arguments);
    c->text = calloc(SAME + 1, LONGEST);
    if (c->arguments == NULL || c->text == NULL)
        return EXIT_MEMORY;
    c->arguments[count++] = c->program;
    c->arguments[count++] = (char *)"bench";
    c->arguments[count++] = (char *)"--start=once";
    c->arguments[count++] = (char *)"--tuned=no";
    for (int i = 0; i <= SAME; ++i) {
        const char *key = i < SAME ? same[i] : "tuning";
        const char *value = i < SAME ? option_text(o, key) : tuning;
        char *text = c->text + (size_t)i * LONGEST;
        if (value != NULL && value[0] != '\0') {
            snprintf(text, LONGEST, "--%s=%s", key, value);
            c->arguments[count++] = text;
        }
    }
    return EXIT_OK;
}

int bench_start(const struct options *o, const char *tuning, int most, struct bench_starts *s)
{
    struct child c = {.folder = "/tmp/osr-bench-XXXXXX"};
    const ssize_t n = readlink("/proc/self/exe", c.program, sizeof c.program - 1);
    if (n <= 0 || mkdtemp(c.folder) == NULL) {
        message_error("--start: %s: %s", n <= 0 ? "/proc/self/exe" : c.folder, strerror(errno));
        return EXIT_IO;
    }
    int code = child_arguments(o, tuning, &c);
    if (code == EXIT_OK)
        c.environment = child_environment(c.folder, c.setting);
    s->colds = most < BENCH_COLD ? most : BENCH_COLD;
    s->warms = most < BENCH_WARM ? most : BENCH_WARM;
    s->cold = s->warm = -1.0;
    if (c.environment == NULL) {
        message_error("out of memory");
        code = EXIT_MEMORY;
    } else {
        s->cold = starts(&c, s->colds, 1);
        if (s->cold > 0.0)
            s->warm = starts(&c, s->warms, 0);
    }
    nftw(c.folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(c.environment);
    free(c.arguments);
    free(c.text);
    if (code == EXIT_OK && s->warm < 0.0) {
        message_error("--start: a run of %s bench --start once failed", c.program);
        code = EXIT_INTERNAL;
    }
    return code;
}
