/* osr devices - the OpenCL devices, whether each works, and where none does, why.
 *
 * A device works when a small kernel builds and gives the right values: drivers also fail there,
 * with codes that name neither the cause nor its mend. */
#define _POSIX_C_SOURCE 200809L
#include "exit_codes.h"
#include "output.h"
#include "session.h"

#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEVICES_MOST = 64, CAUSES_MOST = 16, PATH_SIZE = 4096 };

/* A device and what trying it gave. */
struct trial {
    osr_device device;
    osr_kernels kernels;
    int works;
    double peak; /* GFLOP/s; 0 where it was not measured */
    char message[512];
};

struct causes {
    char text[CAUSES_MOST][640];
    int count;
};

/* ---- trying a device ---- */

/* y = 2 x + 1 on the device, for eight values. */
static osr_status try_kernel(osr_ctx *ctx, int *right)
{
    const float x[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    float y[8] = {0};
    const osr_tensor t = osr_affine(ctx, osr_input(ctx, osr_shape_make(1, 8, 0, 0, 0), x), 2, 1);
    *right = osr_read(ctx, t, y, 8) == OSR_OK;
    for (int i = 0; i < 8; ++i)
        *right &= y[i] > 2 * x[i] + 0.999f && y[i] < 2 * x[i] + 1.001f;
    return osr_step_end(ctx);
}

static void try_device(int index, int peak, struct trial *t)
{
    osr_ctx *ctx = NULL;
    osr_ctx_desc desc = {0};
    char number[16];
    int right = 0;
    snprintf(number, sizeof number, "%d", index);
    desc.device = number;
    if (osr_ctx_create(&desc, &ctx) == OSR_OK) {
        t->kernels = osr_ctx_kernels(ctx);
        try_kernel(ctx, &right);
        if (right && peak)
            osr_peak_gflops(ctx, &t->peak);
    }
    t->works = right && osr_ctx_status(ctx) == OSR_OK;
    if (!t->works)
        snprintf(t->message, sizeof t->message, "%s",
                 osr_ctx_status(ctx) == OSR_OK ? "a kernel gave wrong values"
                                               : osr_ctx_message(ctx));
    osr_ctx_destroy(ctx);
}

/* ---- why there is none ---- */

static void cause(struct causes *c, const char *format, ...) CLI_PRINTF(2, 3);

static void cause(struct causes *c, const char *format, ...)
{
    va_list arguments;
    if (c->count == CAUSES_MOST)
        return;
    va_start(arguments, format);
    vsnprintf(c->text[c->count++], sizeof c->text[0], format, arguments);
    va_end(arguments);
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* The drivers that the loader is told of. */
struct icds {
    int files, load, pocl, nvidia;
};

/* One ICD file: its first line is the name of the driver's library. */
static void look_at_icd(const char *path, struct icds *icds, struct causes *c)
{
    char library[PATH_SIZE] = "";
    FILE *file = fopen(path, "r");
    void *handle;
    if (file == NULL) {
        cause(c, "%s cannot be read: %s", path, strerror(errno));
        return;
    }
    if (fgets(library, sizeof library, file) == NULL)
        library[0] = '\0';
    fclose(file);
    library[strcspn(library, "\r\n")] = '\0';
    icds->files++;
    icds->pocl |= strstr(library, "pocl") != NULL;
    icds->nvidia |= strstr(library, "nvidia") != NULL;
    handle = library[0] != '\0' ? dlopen(library, RTLD_LAZY | RTLD_LOCAL) : NULL;
    if (handle != NULL) {
        icds->load++;
        dlclose(handle);
    } else if (library[0] == '\0') {
        cause(c, "%s names no library: reinstall the driver that put it there", path);
    } else {
        cause(c, "%s names %s, which does not load (%s): install or reinstall that driver", path,
              library, dlerror());
    }
}

static void look_at_icds(struct icds *icds, struct causes *c)
{
    const char *set = environment("OCL_ICD_VENDORS");
    const char *vendors = set != NULL ? set : "/etc/OpenCL/vendors";
    char pattern[PATH_SIZE];
    struct stat info;
    glob_t found;
    if (stat(vendors, &info) == 0 && !S_ISDIR(info.st_mode)) {
        look_at_icd(vendors, icds, c);
        return;
    }
    snprintf(pattern, sizeof pattern, "%s/*.icd", vendors);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; ++i)
            look_at_icd(found.gl_pathv[i], icds, c);
        globfree(&found);
    }
    if (icds->files == 0)
        cause(c, "no ICD file in %s%s: install a driver (under Debian: pocl-opencl-icd for a CPU, "
                 "mesa-opencl-icd, intel-opencl-icd or nvidia-opencl-icd for cards)",
              vendors, set != NULL ? ", where OCL_ICD_VENDORS points" : "");
}

/* Makes a directory and removes it: permission bits alone do not tell. */
static int can_write_in(const char *folder)
{
    char path[PATH_SIZE];
    if ((size_t)snprintf(path, sizeof path, "%s/osrXXXXXX", folder) >= sizeof path
        || mkdtemp(path) == NULL)
        return 0;
    return rmdir(path) == 0;
}

/* Could files be made at path? Looks at the part of it that exists. */
static int can_write(const char *path)
{
    char copy[PATH_SIZE];
    snprintf(copy, sizeof copy, "%s", path);
    for (;;) {
        char *slash;
        if (access(copy, F_OK) == 0)
            return can_write_in(copy);
        slash = strrchr(copy, '/');
        if (slash == NULL || slash == copy)
            return can_write_in(slash == NULL ? "." : "/");
        *slash = '\0';
    }
}

/* PoCL compiles into a cache and reports a missing one as "no device" or as a failed build. */
static void look_at_pocl_cache(struct causes *c)
{
    const char *own = environment("POCL_CACHE_DIR"), *shared = environment("XDG_CACHE_HOME");
    const char *home = environment("HOME");
    char path[PATH_SIZE];
    if (own != NULL)
        snprintf(path, sizeof path, "%s", own);
    else if (shared != NULL)
        snprintf(path, sizeof path, "%s/pocl", shared);
    else
        snprintf(path, sizeof path, "%s/.cache/pocl", home != NULL ? home : "");
    if (own == NULL && shared == NULL && home == NULL)
        cause(c, "PoCL has no place for its cache: HOME is unset; set POCL_CACHE_DIR to a "
                 "directory that can be written");
    else if (!can_write(path))
        cause(c, "PoCL's cache %s cannot be written: set POCL_CACHE_DIR to a directory that can",
              path);
}

static void look_at_node(const char *path, struct causes *c)
{
    struct stat info;
    struct group *group;
    if (stat(path, &info) != 0 || access(path, R_OK | W_OK) == 0)
        return;
    group = getgrgid(info.st_gid);
    cause(c, "%s cannot be opened (%s): add the user to group %s (usermod -aG) and log in again",
          path, strerror(errno), group != NULL ? group->gr_name : "that owns it");
}

static void look_at_nodes(struct causes *c)
{
    glob_t found;
    if (glob("/dev/dri/renderD*", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; ++i)
            look_at_node(found.gl_pathv[i], c);
        globfree(&found);
    }
    look_at_node("/dev/kfd", c);
}

/* NVIDIA's container runtime brings the OpenCL library only where "compute" is asked for, and
 * images often lack the ICD file that names it. */
static void look_at_nvidia(const struct icds *icds, struct causes *c)
{
    const char *visible = environment("NVIDIA_VISIBLE_DEVICES");
    const char *able = environment("NVIDIA_DRIVER_CAPABILITIES");
    const int container = visible != NULL && strcmp(visible, "void") != 0
                          && strcmp(visible, "none") != 0;
    if (access("/dev/nvidiactl", F_OK) != 0 && !container)
        return;
    if (container && (able == NULL || (strstr(able, "compute") == NULL
                                       && strcmp(able, "all") != 0)))
        cause(c, "the container lacks NVIDIA's compute capability: start it with "
                 "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility");
    if (!icds->nvidia)
        cause(c, "no ICD file names NVIDIA's driver: write the line libnvidia-opencl.so.1 to "
                 "/etc/OpenCL/vendors/nvidia.icd");
}

static void find_causes(int devices, struct causes *c)
{
    struct icds icds = {0};
    look_at_icds(&icds, c);
    if (icds.pocl)
        look_at_pocl_cache(c);
    look_at_nodes(c);
    look_at_nvidia(&icds, c);
    if (c->count == 0 && devices == 0)
        cause(c, "%d ICD files are there and their libraries load, but give no device: clinfo may "
                 "tell more",
              icds.files);
}

/* ---- output ---- */

static const char *kind_name(osr_device_kind kind)
{
    return kind == OSR_DEVICE_CPU ? "cpu" : kind == OSR_DEVICE_GPU ? "gpu" : "other";
}

static const char *kernels_name(const struct trial *t)
{
    return t->kernels == OSR_KERNELS_CPU ? "cpu" : t->kernels == OSR_KERNELS_GPU ? "gpu" : NULL;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static void print_text(const struct trial *t, int index)
{
    const osr_device *d = &t->device;
    const char *kernels = kernels_name(t);
    printf("%d  %s  %s\n", index, kind_name(d->kind), d->name);
    printf("   platform  %s\n   driver    %s\n   version   %s\n", d->platform, d->driver,
           d->version);
    printf("   memory    %.1f GiB, one buffer %.1f GiB, local %.0f KiB\n", gib(d->memory_bytes),
           gib(d->max_alloc_bytes), (double)d->local_bytes / 1024.0);
    printf("   units     %u\n   kernels   %s\n", d->compute_units, kernels != NULL ? kernels : "-");
    if (t->peak > 0.0)
        printf("   peak      %.0f GFLOP/s in float32\n", t->peak);
    printf("   state     %s\n", t->works ? "works" : t->message);
}

static void print_json_device(struct json *j, const struct trial *t, int index)
{
    const osr_device *d = &t->device;
    json_open(j, NULL, '{');
    json_integer(j, "index", index);
    json_text(j, "type", kind_name(d->kind));
    json_text(j, "name", d->name);
    json_text(j, "platform", d->platform);
    json_text(j, "driver", d->driver);
    json_text(j, "version", d->version);
    json_integer(j, "memory_bytes", (int64_t)d->memory_bytes);
    json_integer(j, "max_alloc_bytes", (int64_t)d->max_alloc_bytes);
    json_integer(j, "local_bytes", (int64_t)d->local_bytes);
    json_integer(j, "compute_units", (int64_t)d->compute_units);
    json_text(j, "kernels", kernels_name(t));
    json_bool(j, "works", t->works);
    json_text(j, "message", t->works ? NULL : t->message);
    if (t->peak > 0.0)
        json_real(j, "peak_gflops", t->peak);
    json_close(j, '}');
}

static int print_json(const struct trial *trials, int count, const struct causes *causes)
{
    struct json j = {0};
    int code;
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "osr-devices-1");
    json_open(&j, "devices", '[');
    for (int i = 0; i < count; ++i)
        print_json_device(&j, &trials[i], i);
    json_close(&j, ']');
    json_open(&j, "causes", '[');
    for (int i = 0; i < causes->count; ++i)
        json_text(&j, NULL, causes->text[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    code = json_print(&j);
    json_free(&j);
    return code;
}

int cmd_devices(struct options *o)
{
    static const struct causes no_causes;
    struct trial *trials = calloc(DEVICES_MOST, sizeof *trials);
    osr_device *devices = calloc(DEVICES_MOST, sizeof *devices);
    struct causes causes = no_causes;
    int count = 0, working = 0, code = EXIT_OK;
    if (trials == NULL || devices == NULL) {
        free(trials);
        free(devices);
        message_error("out of memory");
        return EXIT_MEMORY;
    }
    if (osr_device_list(devices, DEVICES_MOST, &count) != OSR_OK)
        message_error("the OpenCL loader fails");
    count = count < DEVICES_MOST ? count : DEVICES_MOST;
    for (int i = 0; i < count; ++i) {
        trials[i].device = devices[i];
        try_device(i, option_flag(o, "verbose"), &trials[i]);
        working += trials[i].works;
    }
    if (working == 0)
        find_causes(count, &causes);
    if (option_flag(o, "json"))
        code = print_json(trials, count, &causes);
    for (int i = 0; i < count && !option_flag(o, "json"); ++i)
        print_text(&trials[i], i);
    if (working == 0) {
        message_error(count == 0 ? "no OpenCL device" : "no OpenCL device works");
        for (int i = 0; i < causes.count; ++i)
            message_error("%s", causes.text[i]);
        code = EXIT_DEVICE;
    }
    free(trials);
    free(devices);
    return code;
}
