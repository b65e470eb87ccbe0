#define _POSIX_C_SOURCE 200809L

#include "run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exit_codes.h"
#include "output.h"

enum { PATH_BYTES = 1024 };

static int fail(struct run_dir *run, int code, const char *format, ...) CLI_PRINTF(3, 4);

static int fail(struct run_dir *run, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->message, sizeof run->message, format, arguments);
    va_end(arguments);
    return code;
}

/* ---- files ---- */

char *file_read(const char *path, size_t limit, size_t *count, char *message, size_t size)
{
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    size_t used = 0, capacity = 0, got = 0;
    struct stat info;
    if (!file) {
        snprintf(message, size, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(fileno(file), &info) == 0 && S_ISDIR(info.st_mode)) {
        snprintf(message, size, "%s: is a directory", path);
        fclose(file);
        return NULL;
    }
    do {
        if (capacity - used < 2) {
            char *more = realloc(bytes, capacity = capacity ? capacity * 2 : 65536);
            if (!more)
                break;
            bytes = more;
        }
        got = fread(bytes + used, 1, capacity - used - 1, file);
        used += got;
    } while (got > 0 && used <= limit);
    if (bytes && got == 0 && !ferror(file)) {
        fclose(file);
        bytes[used] = '\0';
        *count = used;
        return bytes;
    }
    if (used > limit)
        snprintf(message, size, "%s: is larger than %zu bytes", path, limit);
    else
        snprintf(message, size, "%s: %s", path, ferror(file) ? "cannot be read" : "out of memory");
    fclose(file);
    free(bytes);
    return NULL;
}

static int write_all(int descriptor, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(descriptor, bytes, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes += n;
        count -= (size_t)n;
    }
    return 0;
}

/* Makes a rename last: some file systems refuse to sync a directory, which is no failure. */
static int sync_directory(const char *path)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC), result;
    if (descriptor < 0)
        return -1;
    result = fsync(descriptor);
    if (result && (errno == EINVAL || errno == ENOTSUP))
        result = 0;
    close(descriptor);
    return result;
}

/* The temporary is ".NAME.tmp.PID" in the same directory, so that stale ones can be told. */
int file_write(const char *path, const char *bytes, size_t count, char *message, size_t size)
{
    char folder[PATH_BYTES], temporary[PATH_BYTES + 300];
    const char *slash = strrchr(path, '/');
    int descriptor, error = 0;
    if (strlen(path) >= PATH_BYTES) {
        snprintf(message, size, "the path is too long: %.80s...", path);
        return EXIT_IO;
    }
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 2,
             slash ? path : "./");
    snprintf(temporary, sizeof temporary, "%s.%.250s.tmp.%ld", folder, slash ? slash + 1 : path,
             (long)getpid());
    unlink(temporary);
    descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) {
        snprintf(message, size, "%s: %s", path, strerror(errno));
        return EXIT_IO;
    }
    if (write_all(descriptor, bytes, count) || fsync(descriptor))
        error = errno;
    if (close(descriptor) && !error)
        error = errno;
    if (!error && rename(temporary, path))
        error = errno;
    if (error)
        unlink(temporary);
    else if (sync_directory(folder))
        error = errno;
    if (!error)
        return EXIT_OK;
    snprintf(message, size, "%s: %s", path, strerror(error));
    return EXIT_IO;
}

/* ---- the directory ---- */

char *run_file(const struct run_dir *run, const char *name, char *text, size_t size)
{
    snprintf(text, size, "%s/%s", run->path, name);
    return text;
}

/* mkdir -p of everything in front of the last component. */
static int make_parents(char *path)
{
    for (char *c = path + 1; *c; c++) {
        int result;
        if (*c != '/')
            continue;
        *c = '\0';
        result = mkdir(path, 0777);
        *c = '/';
        if (result && errno != EEXIST)
            return -1;
    }
    return 0;
}

/* A lock of fcntl goes with its process, also a killed one; it holds across NFS. */
static int take_lock(struct run_dir *run)
{
    char path[PATH_BYTES + 16];
    struct flock lock;
    int error;
    run_file(run, ".lock", path, sizeof path);
    run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (run->lock < 0)
        return fail(run, EXIT_IO, "%s: %s", path, strerror(errno));
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(run->lock, F_SETLK, &lock) == 0)
        return EXIT_OK;
    error = errno;
    close(run->lock);
    run->lock = -1;
    if (error == EACCES || error == EAGAIN)
        return fail(run, EXIT_USAGE, "%s: another process is writing to this run", run->path);
    return EXIT_OK; /* a file system without locks */
}

static int exists(const struct run_dir *run, const char *name)
{
    char path[PATH_BYTES + 64];
    return access(run_file(run, name, path, sizeof path), F_OK) == 0;
}

/* A locked directory that holds a run already is unlocked and refused. */
static int untaken(struct run_dir *run)
{
    if (!exists(run, "config.ini"))
        return EXIT_OK;
    run_close(run);
    return fail(run, EXIT_USAGE, "%s holds a run already (train --resume continues it)", run->path);
}

int run_untaken(struct run_dir *run, const char *path)
{
    int code;
    if (snprintf(run->path, sizeof run->path, "%s", path) >= PATH_BYTES - 64
        || !exists(run, "config.ini"))
        return EXIT_OK; /* run_create tells the rest */
    code = take_lock(run);
    return code == EXIT_OK ? untaken(run) : code;
}

int run_create(struct run_dir *run, const char *path, const char *data, const char *method)
{
    int code;
    memset(run, 0, sizeof *run);
    run->lock = -1;
    for (int n = 1; n < 1000000; n++) {
        int length;
        if (path)
            length = snprintf(run->path, sizeof run->path, "%s", path);
        else
            length = snprintf(run->path, sizeof run->path, "runs/%.*s-%s-%d",
                              (int)strcspn(data, ":"), data, method, n);
        if (length <= 0 || length >= PATH_BYTES - 64)
            return fail(run, EXIT_USAGE, "the name of the run directory is empty or too long");
        if (make_parents(run->path))
            return fail(run, EXIT_IO, "%s: %s", run->path, strerror(errno));
        if (mkdir(run->path, 0777) == 0)
            return take_lock(run);
        if (errno != EEXIST)
            return fail(run, EXIT_IO, "%s: %s", run->path, strerror(errno));
        if (!path)
            continue;
        code = take_lock(run);
        return code == EXIT_OK ? untaken(run) : code;
    }
    return fail(run, EXIT_IO, "runs: no free number left");
}

/* ".NAME.tmp.PID" (file_write) or "NAME.safetensors.tmp.PID.N" (osr_writer_save) of a process
 * that is gone. */
static int is_stale(const char *name)
{
    const char *mark = strstr(name, ".tmp."), *model = strstr(name, ".safetensors.tmp.");
    char *end;
    long pid;
    if (!mark || (name[0] != '.' && !model))
        return 0;
    pid = strtol(mark + 5, &end, 10);
    if (pid <= 0 || (*end != '\0' && *end != '.'))
        return 0;
    return pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

static void remove_stale(const struct run_dir *run)
{
    DIR *folder = opendir(run->path);
    struct dirent *entry;
    char path[PATH_BYTES + 300];
    while (folder && (entry = readdir(folder)) != NULL) {
        if (!is_stale(entry->d_name))
            continue;
        run_file(run, entry->d_name, path, sizeof path);
        unlink(path);
    }
    if (folder)
        closedir(folder);
}

/* Cuts what stands behind the last line feed: the rest of a write that a crash cut short. */
static int cut_torn_line(struct run_dir *run, const char *name)
{
    char path[PATH_BYTES + 64], block[4096];
    int descriptor = open(run_file(run, name, path, sizeof path), O_RDWR | O_CLOEXEC);
    off_t end, keep = -1;
    if (descriptor < 0)
        return errno == ENOENT ? EXIT_OK : fail(run, EXIT_IO, "%s: %s", path, strerror(errno));
    end = lseek(descriptor, 0, SEEK_END);
    for (off_t at = end; at > 0 && keep < 0;) {
        size_t n = at < (off_t)sizeof block ? (size_t)at : sizeof block;
        at -= (off_t)n;
        if (pread(descriptor, block, n, at) != (ssize_t)n)
            break;
        for (size_t i = n; i > 0 && keep < 0; i--)
            if (block[i - 1] == '\n')
                keep = at + (off_t)i;
        if (at == 0 && keep < 0)
            keep = 0;
    }
    if (end > 0 && keep != end && (keep < 0 || ftruncate(descriptor, keep))) {
        close(descriptor);
        return fail(run, EXIT_IO, "%s: the torn last line cannot be cut", path);
    }
    close(descriptor);
    return EXIT_OK;
}

int run_open(struct run_dir *run, const char *path)
{
    int code;
    size_t length = strlen(path);
    memset(run, 0, sizeof *run);
    run->lock = -1;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0 || length >= PATH_BYTES - 64)
        return fail(run, EXIT_USAGE, "the name of the run directory is empty or too long");
    snprintf(run->path, sizeof run->path, "%.*s", (int)length, path);
    if (!exists(run, "config.ini"))
        return fail(run, EXIT_DATA, "%s: not a run (it has no config.ini)", run->path);
    code = take_lock(run);
    if (code)
        return code;
    remove_stale(run);
    return cut_torn_line(run, "metrics.jsonl");
}

void run_close(struct run_dir *run)
{
    if (run->lock >= 0)
        close(run->lock);
    run->lock = -1;
}

int run_write(struct run_dir *run, const char *name, const char *bytes, size_t count)
{
    char path[PATH_BYTES + 64];
    run_file(run, name, path, sizeof path);
    return file_write(path, bytes, count, run->message, sizeof run->message);
}

int run_append(struct run_dir *run, const char *name, const char *line)
{
    char path[PATH_BYTES + 64];
    size_t length = strlen(line);
    char *whole = malloc(length + 2);
    int descriptor, error = 0;
    ssize_t n;
    if (!whole)
        return fail(run, EXIT_MEMORY, "out of memory");
    memcpy(whole, line, length);
    memcpy(whole + length, "\n", 2);
    run_file(run, name, path, sizeof path);
    descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) {
        free(whole);
        return fail(run, EXIT_IO, "%s: %s", path, strerror(errno));
    }
    do
        n = write(descriptor, whole, length + 1);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)(length + 1)) {
        error = n < 0 ? errno : ENOSPC;
        if (n > 0) { /* a part of a line would spoil the next one */
            off_t end = lseek(descriptor, 0, SEEK_END);
            if (end < n || ftruncate(descriptor, end - n))
                error = EIO;
        }
    }
    if (close(descriptor) && !error)
        error = errno;
    free(whole);
    if (error)
        return fail(run, EXIT_IO, "%s: %s", path, strerror(error));
    return EXIT_OK;
}
