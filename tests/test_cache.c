/* test_cache - built kernels on disk: made once, used again, rebuilt when damaged or refused by the
 * driver, shared by processes, and no more than a warning where they cannot be written. */
#define _XOPEN_SOURCE 700
#include "clfault.h"
#include "osr.h"
#include "damage.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int warnings;

static void count_warnings(void *user, int level, const char *message)
{
    (void)user;
    warnings += level == 1 && strstr(message, "kernels are not kept") != NULL;
}

/* softmax of a row through a context with its cache in `folder`; 1 when it is right. */
static int compute(const char *folder)
{
    static const float x[3] = {0.0f, 1.0f, 2.0f};
    static const double wanted[3] = {0.09003057, 0.24472847, 0.66524096};
    osr_ctx_desc desc = {0};
    osr_ctx *ctx = NULL;
    float y[3] = {0};
    int right = 1;
    desc.cache = OSR_CACHE_ON;
    desc.cache_dir = folder;
    desc.logger.fn = count_warnings;
    if (osr_ctx_create(&desc, &ctx) == OSR_OK)
        osr_read(ctx, osr_softmax(ctx, osr_input(ctx, osr_shape_make(2, 1, 3, 0, 0), x)), y, 3);
    for (int i = 0; i < 3; ++i)
        right &= y[i] > wanted[i] - 1e-5 && y[i] < wanted[i] + 1e-5;
    right &= osr_ctx_status(ctx) == OSR_OK;
    osr_ctx_destroy(ctx);
    return right;
}

/* The only file ending in .bin; its size in *size. 0 when there is not exactly one file. */
static int only_file(const char *folder, char *path, size_t room, long *size)
{
    DIR *d = opendir(folder);
    int count = 0;
    struct stat s;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            ++count;
            snprintf(path, room, "%s/%s", folder, e->d_name);
        }
    if (d != NULL)
        closedir(d);
    if (count != 1 || strcmp(path + strlen(path) - 4, ".bin") != 0 || stat(path, &s) != 0)
        return 0;
    *size = (long)s.st_size;
    return 1;
}

static ino_t number_of(const char *path)
{
    struct stat s;
    return CHECK(stat(path, &s) == 0) ? s.st_ino : 0;
}

/* A whole file that the driver does not take, as after an update that kept its version: what it
 * holds is not created, or not built. Then the program is made from its text, once, the file is
 * replaced, and the new one is used. */
static void refused(const char *folder, const char *path, const clfault *layer)
{
    static const char *const calls[] = {"clCreateProgramWithBinary", "clBuildProgram"};
    for (int i = 0; i < 2; ++i) {
        const ino_t before = number_of(path);
        const long built = layer->calls("clCreateProgramWithSource");
        long size;
        char now[4096];
        layer->only(calls[i]);
        layer->arm(1, 0);
        CHECK(compute(folder));
        CHECK(layer->fired());
        layer->arm(0, 0);
        layer->only(NULL);
        CHECK(layer->live() == 0);
        CHECK(layer->calls("clCreateProgramWithSource") == built + 1);
        CHECK(only_file(folder, now, sizeof now, &size) && strcmp(now, path) == 0 && size > 100);
        const ino_t after = number_of(path);
        CHECK(after != before);
        CHECK(compute(folder));
        CHECK(layer->calls("clCreateProgramWithSource") == built + 1);
        CHECK(number_of(path) == after);
    }
}

/* Folders that are there but take no file: what they hold is used; else the result is right, and
 * there is a warning. Permissions do not stop root, who is stopped by other means. */
static void read_only(const char *folder, const char *path)
{
    struct stat s;
    long size;
    char left[4096];
    const ino_t before = number_of(path);
    warnings = 0;
    CHECK(chmod(path, 0444) == 0 && chmod(folder, 0555) == 0);
    CHECK(compute(folder));
    CHECK(warnings == 0 && number_of(path) == before);
    CHECK(chmod(path, 0644) == 0);
    damage(path, 50, 0);
    CHECK(chmod(path, 0444) == 0);
    CHECK(compute(folder)); /* damaged, and only root can replace it */
    CHECK(geteuid() == 0 ? warnings == 0 && number_of(path) != before
                         : warnings == 1 && number_of(path) == before);
    CHECK(chmod(folder, 0755) == 0 && remove(path) == 0);

    CHECK(mkdir(path, 0755) == 0); /* what is in the way stays */
    warnings = 0;
    CHECK(compute(folder));
    CHECK(warnings == 1 && only_file(folder, left, sizeof left, &size));
    CHECK(stat(path, &s) == 0 && S_ISDIR(s.st_mode) && rmdir(path) == 0);

    if (stat("/proc/self", &s) == 0) { /* no file can be made here */
        CHECK(compute("/proc/self"));
        CHECK(warnings == 2);
    }
}

/* A process of its own: a fork of one that has used OpenCL would lack the driver's threads. */
static pid_t start_process(char *program, char *folder)
{
    const pid_t child = fork();
    if (child == 0) {
        execl(program, program, folder, (char *)NULL);
        _exit(127);
    }
    return child;
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/osr-cache-XXXXXX", deep[64], path[4096], again[4096];
    clfault layer;
    long size = 0;
    if (argc > 1)
        return compute(argv[1]) ? 0 : 1;
    CHECK(mkdtemp(folder) != NULL);
    snprintf(deep, sizeof deep, "%s/a/b", folder); /* made as needed */
    CHECK(compute(deep));
    CHECK(only_file(deep, path, sizeof path, &size) && size > 100);

    const ino_t first = number_of(path);
    CHECK(compute(deep)); /* used, not written again */
    CHECK(number_of(path) == first);

    if (clfault_open(&layer))
        refused(deep, path, &layer);
    else
        printf("without the layer clfault: the driver refuses no file\n");

    for (int i = 0; i < 5; ++i) { /* damaged: built again and replaced */
        damage(path, i == 0 ? 0 : i == 1 ? 20 : i == 2 ? 11 : size / 2, i == 4); /* 11: its size */
        CHECK(compute(deep));
        CHECK(only_file(deep, again, sizeof again, &size) && size > 100);
        CHECK(strcmp(path, again) == 0);
    }

    CHECK(remove(path) == 0); /* two processes, one cold directory */
    for (int i = 0; i < 2; ++i)
        CHECK(start_process(argv[0], deep) > 0);
    for (int i = 0; i < 2; ++i) {
        int status = 1;
        CHECK(wait(&status) > 0 && status == 0);
    }
    CHECK(only_file(deep, path, sizeof path, &size));

    CHECK(warnings == 0);
    CHECK(compute("/dev/null/nowhere")); /* no place: a warning, the result is right */
    CHECK(warnings == 1);
    read_only(deep, path);

    CHECK(rmdir(deep) == 0); /* and nothing else was left in it */
    snprintf(path, sizeof path, "%s/a", folder);
    rmdir(path);
    rmdir(folder);
    return test_end();
}
