/* program.h - for tests that run the program as a user does: commands, what they print, exit codes
 *
 * $OSR_PROGRAM names it. Commands run in the working directory, where out and err are of the last
 * one. EXPECT(code, format, ...) runs "osr <format>" and checks its exit code. */
#ifndef OSR_TEST_PROGRAM_H
#define OSR_TEST_PROGRAM_H

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1 << 20 };

static char out[TEXT], err[TEXT]; /* of the last command */
static char command[4096];

static inline char *slurp(const char *path, char *into)
{
    FILE *f = fopen(path, "rb");
    const size_t n = f != NULL ? fread(into, 1, TEXT - 1, f) : 0;
    into[n] = '\0';
    if (f != NULL)
        fclose(f);
    return into;
}

static inline int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A shell command; its exit status, 128 + N after signal N. */
static inline int shell(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(command, sizeof command - 16, format, arguments);
    va_end(arguments);
    if (!CHECK(n > 0 && n < (int)sizeof command - 16))
        return -1;
    strcat(command, " >out 2>err");
    const int code = exit_code(system(command));
    slurp("out", out);
    slurp("err", err);
    return code;
}

static inline void expect(int code, int wanted, int line)
{
    if (!test_check(code == wanted, "exit status", command, line))
        fprintf(stderr, "    %d, not %d\n%.2000s", code, wanted, err);
}

#define EXPECT(code, ...) expect(shell("\"$OSR_PROGRAM\" " __VA_ARGS__), code, __LINE__)

/* Starts "osr <arguments>" beside the test, with files of its own for what it prints. */
static inline pid_t start(const char *arguments)
{
    snprintf(command, sizeof command, "exec \"$OSR_PROGRAM\" %s >child.out 2>child.err", arguments);
    const pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return child;
}

static inline int runs(pid_t child)
{
    siginfo_t info;
    info.si_pid = 0;
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

static inline int exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static inline void pause_for(double seconds)
{
    struct timespec t;
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

/* Waits for a file to appear; 0 when the child ended without it. */
static inline int wait_for(const char *path, pid_t child)
{
    while (!exists(path) && runs(child))
        pause_for(0.005);
    return exists(path);
}

/* Waits for the end of the child; its exit status and output as those of shell. */
static inline int finish(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    slurp("child.out", out);
    slurp("child.err", err);
    return exit_code(status);
}

static inline int has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static inline int same(const char *a, const char *b)
{
    return shell("cmp %s %s", a, b) == 0;
}

#endif
