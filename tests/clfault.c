/* clfault - an OpenCL layer that counts calls, makes chosen ones fail, and guards buffers
 *
 *   OPENCL_LAYERS=./libclfault.so program
 *
 *   CLFAULT_LOG     file for the report (otherwise stderr)
 *   CLFAULT_TRACE   1: a line with the counts so far after each clFinish
 *   CLFAULT_NTH     this call fails, counted over all calls that can fail
 *   CLFAULT_STICKY  1: and so do all later ones, as after the loss of a device
 *   CLFAULT_ONLY    count and fail only this entry point
 *   CLFAULT_GUARD   1: a guard before and behind each buffer, checked at its release
 *   CLFAULT_POISON  1: new buffers hold 0xFF, which as a float is a NaN
 *
 * The report at exit, one fact a line:
 *   calls NAME N      of each entry point that was called
 *   total N           calls that could have been made to fail
 *   live KIND N       references that were never released
 *   guard ...         a guard that was overwritten
 * A process that leaves objects behind or a guard overwritten exits with status 86. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl_layer.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_FOUND = 86, GUARD_BYTES = 1024, GUARD_BYTE = 0xA5, POISON_BYTE = 0xFF };

typedef void(CL_CALLBACK *program_callback)(cl_program, void *);
typedef void(CL_CALLBACK *context_callback)(const char *, const void *, size_t, void *);

/* Kinds of objects whose references are counted. */
#define KINDS(X) X(context) X(queue) X(buffer) X(program) X(kernel) X(event)

/* One row for each entry point: S returns a status, O an object and takes the address of a status
 * last. Columns: result (O only), name, code of the planted failure (CL_SUCCESS: never fails),
 * function that does the work, what a success changes, parameters, arguments. */
#define WAITS cl_uint waits, const cl_event *wait_list, cl_event *event
#define QUERY cl_uint what, size_t size, void *value, size_t *size_ret
#define LIVE(kind, change) (live[LIVE_##kind] += (change))
#define EVENT_OUT LIVE(event, event != NULL)
#define NO_CHANGE (void)0

#define CALLS_PLATFORM(S, O)                                                                       \
    S(clGetPlatformIDs, CL_OUT_OF_HOST_MEMORY, next.clGetPlatformIDs, NO_CHANGE,                   \
      (cl_uint n, cl_platform_id * ids, cl_uint * count), (n, ids, count))                         \
    S(clGetPlatformInfo, CL_OUT_OF_HOST_MEMORY, next.clGetPlatformInfo, NO_CHANGE,                 \
      (cl_platform_id platform, QUERY), (platform, what, size, value, size_ret))                   \
    S(clGetDeviceIDs, CL_OUT_OF_RESOURCES, next.clGetDeviceIDs, NO_CHANGE,                         \
      (cl_platform_id platform, cl_device_type type, cl_uint n, cl_device_id * ids,                \
       cl_uint * count),                                                                           \
      (platform, type, n, ids, count))                                                             \
    S(clGetDeviceInfo, CL_OUT_OF_RESOURCES, next.clGetDeviceInfo, NO_CHANGE,                       \
      (cl_device_id device, QUERY), (device, what, size, value, size_ret))

#define CALLS_CONTEXT(S, O)                                                                        \
    O(cl_context, clCreateContext, CL_DEVICE_NOT_AVAILABLE, next.clCreateContext,                  \
      LIVE(context, 1),                                                                            \
      (const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,            \
       context_callback notify, void *user, cl_int *status),                                       \
      (properties, n, devices, notify, user, status))                                              \
    S(clGetContextInfo, CL_OUT_OF_HOST_MEMORY, next.clGetContextInfo, NO_CHANGE,                   \
      (cl_context context, QUERY), (context, what, size, value, size_ret))                         \
    S(clRetainContext, CL_SUCCESS, next.clRetainContext, LIVE(context, 1), (cl_context context),   \
      (context))                                                                                   \
    S(clReleaseContext, CL_SUCCESS, next.clReleaseContext, LIVE(context, -1),                      \
      (cl_context context),                                                                        \
      (context))                                                                                   \
    O(cl_command_queue, clCreateCommandQueue, CL_OUT_OF_RESOURCES, queue_create, LIVE(queue, 1),   \
      (cl_context context, cl_device_id device, cl_command_queue_properties properties,            \
       cl_int * status),                                                                           \
      (context, device, properties, status))                                                       \
    S(clRetainCommandQueue, CL_SUCCESS, next.clRetainCommandQueue, LIVE(queue, 1),                 \
      (cl_command_queue queue), (queue))                                                           \
    S(clReleaseCommandQueue, CL_SUCCESS, queue_release, LIVE(queue, -1), (cl_command_queue queue), \
      (queue))                                                                                     \
    S(clFlush, CL_OUT_OF_RESOURCES, next.clFlush, NO_CHANGE, (cl_command_queue queue), (queue))    \
    S(clFinish, CL_OUT_OF_RESOURCES, finish, NO_CHANGE, (cl_command_queue queue), (queue))

#define CALLS_BUFFER(S, O)                                                                         \
    O(cl_mem, clCreateBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE, buffer_create, LIVE(buffer, 1),    \
      (cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *status),           \
      (context, flags, size, host, status))                                                        \
    O(cl_mem, clCreateSubBuffer, CL_OUT_OF_RESOURCES, sub_buffer_create, LIVE(buffer, 1),          \
      (cl_mem buffer, cl_mem_flags flags, cl_buffer_create_type type, const void *info,            \
       cl_int *status),                                                                            \
      (buffer, flags, type, info, status))                                                         \
    S(clGetMemObjectInfo, CL_OUT_OF_HOST_MEMORY, next.clGetMemObjectInfo, NO_CHANGE,               \
      (cl_mem buffer, QUERY), (buffer, what, size, value, size_ret))                               \
    S(clRetainMemObject, CL_SUCCESS, next.clRetainMemObject, LIVE(buffer, 1),                      \
      (cl_mem buffer), (buffer))                                                                   \
    S(clReleaseMemObject, CL_SUCCESS, buffer_release, LIVE(buffer, -1), (cl_mem buffer), (buffer)) \
    S(clEnqueueReadBuffer, CL_OUT_OF_RESOURCES, next.clEnqueueReadBuffer, EVENT_OUT,               \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size,        \
       void *to, WAITS),                                                                           \
      (queue, buffer, blocking, offset, size, to, waits, wait_list, event))                        \
    S(clEnqueueWriteBuffer, CL_OUT_OF_HOST_MEMORY, next.clEnqueueWriteBuffer, EVENT_OUT,           \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size,        \
       const void *from, WAITS),                                                                   \
      (queue, buffer, blocking, offset, size, from, waits, wait_list, event))                      \
    S(clEnqueueFillBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE, next.clEnqueueFillBuffer, EVENT_OUT,  \
      (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_size,            \
       size_t offset, size_t size, WAITS),                                                         \
      (queue, buffer, pattern, pattern_size, offset, size, waits, wait_list, event))               \
    S(clEnqueueCopyBuffer, CL_OUT_OF_RESOURCES, next.clEnqueueCopyBuffer, EVENT_OUT,               \
      (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset,       \
       size_t size, WAITS),                                                                        \
      (queue, from, to, from_offset, to_offset, size, waits, wait_list, event))                    \
    O(void *, clEnqueueMapBuffer, CL_MAP_FAILURE, next.clEnqueueMapBuffer, EVENT_OUT,              \
      (cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags, size_t offset, \
       size_t size, WAITS, cl_int *status),                                                        \
      (queue, buffer, blocking, flags, offset, size, waits, wait_list, event, status))             \
    S(clEnqueueUnmapMemObject, CL_OUT_OF_RESOURCES, next.clEnqueueUnmapMemObject, EVENT_OUT,       \
      (cl_command_queue queue, cl_mem buffer, void *mapped, WAITS),                                \
      (queue, buffer, mapped, waits, wait_list, event))

#define CALLS_PROGRAM(S, O)                                                                        \
    O(cl_program, clCreateProgramWithSource, CL_OUT_OF_HOST_MEMORY,                                \
      next.clCreateProgramWithSource, LIVE(program, 1),                                            \
      (cl_context context, cl_uint n, const char **lines, const size_t *sizes, cl_int *status),    \
      (context, n, lines, sizes, status))                                                          \
    O(cl_program, clCreateProgramWithBinary, CL_INVALID_BINARY, next.clCreateProgramWithBinary,    \
      LIVE(program, 1),                                                                            \
      (cl_context context, cl_uint n, const cl_device_id *devices, const size_t *sizes,            \
       const unsigned char **binaries, cl_int *binary_status, cl_int *status),                     \
      (context, n, devices, sizes, binaries, binary_status, status))                               \
    S(clBuildProgram, CL_BUILD_PROGRAM_FAILURE, next.clBuildProgram, NO_CHANGE,                    \
      (cl_program program, cl_uint n, const cl_device_id *devices, const char *options,            \
       program_callback notify, void *user),                                                       \
      (program, n, devices, options, notify, user))                                                \
    S(clGetProgramInfo, CL_OUT_OF_HOST_MEMORY, next.clGetProgramInfo, NO_CHANGE,                   \
      (cl_program program, QUERY), (program, what, size, value, size_ret))                         \
    S(clGetProgramBuildInfo, CL_OUT_OF_HOST_MEMORY, next.clGetProgramBuildInfo, NO_CHANGE,         \
      (cl_program program, cl_device_id device, QUERY),                                            \
      (program, device, what, size, value, size_ret))                                              \
    S(clRetainProgram, CL_SUCCESS, next.clRetainProgram, LIVE(program, 1), (cl_program program),   \
      (program))                                                                                   \
    S(clReleaseProgram, CL_SUCCESS, next.clReleaseProgram, LIVE(program, -1),                      \
      (cl_program program), (program))                                                             \
    O(cl_kernel, clCreateKernel, CL_OUT_OF_RESOURCES, next.clCreateKernel, LIVE(kernel, 1),        \
      (cl_program program, const char *name, cl_int *status), (program, name, status))             \
    S(clGetKernelInfo, CL_OUT_OF_HOST_MEMORY, next.clGetKernelInfo, NO_CHANGE,                     \
      (cl_kernel kernel, QUERY), (kernel, what, size, value, size_ret))                            \
    S(clGetKernelWorkGroupInfo, CL_OUT_OF_RESOURCES, next.clGetKernelWorkGroupInfo, NO_CHANGE,     \
      (cl_kernel kernel, cl_device_id device, QUERY),                                              \
      (kernel, device, what, size, value, size_ret))                                               \
    S(clSetKernelArg, CL_OUT_OF_RESOURCES, next.clSetKernelArg, NO_CHANGE,                         \
      (cl_kernel kernel, cl_uint index, size_t size, const void *value),                           \
      (kernel, index, size, value))                                                                \
    S(clRetainKernel, CL_SUCCESS, next.clRetainKernel, LIVE(kernel, 1),                            \
      (cl_kernel kernel), (kernel))                                                                \
    S(clReleaseKernel, CL_SUCCESS, next.clReleaseKernel, LIVE(kernel, -1),                         \
      (cl_kernel kernel), (kernel))

#define CALLS_LAUNCH(S, O)                                                                         \
    S(clEnqueueNDRangeKernel, CL_OUT_OF_RESOURCES, next.clEnqueueNDRangeKernel, EVENT_OUT,         \
      (cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,               \
       const size_t *global, const size_t *local, WAITS),                                          \
      (queue, kernel, dims, offset, global, local, waits, wait_list, event))                       \
    S(clEnqueueMarkerWithWaitList, CL_OUT_OF_RESOURCES, next.clEnqueueMarkerWithWaitList,          \
      EVENT_OUT, (cl_command_queue queue, WAITS), (queue, waits, wait_list, event))                \
    S(clEnqueueBarrierWithWaitList, CL_OUT_OF_RESOURCES, next.clEnqueueBarrierWithWaitList,        \
      EVENT_OUT, (cl_command_queue queue, WAITS), (queue, waits, wait_list, event))                \
    S(clWaitForEvents, CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, next.clWaitForEvents,         \
      NO_CHANGE, (cl_uint n, const cl_event *events), (n, events))                                 \
    S(clGetEventInfo, CL_OUT_OF_RESOURCES, next.clGetEventInfo, NO_CHANGE,                         \
      (cl_event event, QUERY), (event, what, size, value, size_ret))                               \
    S(clGetEventProfilingInfo, CL_PROFILING_INFO_NOT_AVAILABLE, next.clGetEventProfilingInfo,      \
      NO_CHANGE, (cl_event event, QUERY), (event, what, size, value, size_ret))                    \
    S(clRetainEvent, CL_SUCCESS, next.clRetainEvent, LIVE(event, 1), (cl_event event), (event))    \
    S(clReleaseEvent, CL_SUCCESS, next.clReleaseEvent, LIVE(event, -1), (cl_event event), (event))

#define CALLS(S, O)                                                                                \
    CALLS_PLATFORM(S, O)                                                                           \
    CALLS_CONTEXT(S, O) CALLS_BUFFER(S, O) CALLS_PROGRAM(S, O) CALLS_LAUNCH(S, O)

enum {
#define S(name, code, work, change, params, args) CALL_##name,
#define O(type, name, code, work, change, params, args) CALL_##name,
    CALLS(S, O)
#undef S
#undef O
    CALL_COUNT
};

static const char *const call_names[] = {
#define S(name, code, work, change, params, args) #name,
#define O(type, name, code, work, change, params, args) #name,
    CALLS(S, O)
#undef S
#undef O
};

enum {
#define X(kind) LIVE_##kind,
    KINDS(X)
#undef X
    LIVE_COUNT
};

static const char *const live_names[] = {
#define X(kind) #kind,
    KINDS(X)
#undef X
};

/* A buffer with its guards. The program holds `buffer`, a part of `parent`. */
typedef struct guarded {
    cl_mem buffer, parent;
    cl_context context;
    size_t before, size;
    struct guarded *next;
} guarded;

static cl_icd_dispatch next, ours;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static FILE *report;
static long calls[CALL_COUNT], live[LIVE_COUNT], total, finishes, hits;
static long armed_at, fail_nth;
static int fail_sticky, has_fired, use_guard, use_poison, use_trace;
static const char *only;
static guarded *guards;
static cl_command_queue queues[64];

static int flag(const char *name)
{
    const char *value = getenv(name);
    return value && strcmp(value, "0") != 0;
}

/* --- counting and failing --------------------------------------------------------------------- */

/* Counts a call; 1 when it is to fail. */
static int refuse(int call, cl_int code)
{
    int fail = 0;
    pthread_mutex_lock(&mutex);
    calls[call]++;
    if (code != CL_SUCCESS && (!only || !strcmp(only, call_names[call]))) {
        long n = ++total - armed_at;
        fail = fail_nth > 0 && (n == fail_nth || (fail_sticky && n > fail_nth));
        if (fail) {
            has_fired = 1;
            fprintf(report, "failed %s %d as call %ld\n", call_names[call], (int)code, n);
            fflush(report);
        }
    }
    pthread_mutex_unlock(&mutex);
    return fail;
}

static void report_finish(void)
{
    int i;
    fprintf(report, "finish %ld", ++finishes);
    for (i = 0; i < CALL_COUNT; i++) {
        if (calls[i]) fprintf(report, " %s=%ld", call_names[i], calls[i]);
    }
    fputc('\n', report);
    fflush(report);
}

static cl_int CL_API_CALL finish(cl_command_queue queue)
{
    cl_int status = next.clFinish(queue);
    pthread_mutex_lock(&mutex);
    if (use_trace) report_finish();
    pthread_mutex_unlock(&mutex);
    return status;
}

/* --- guards ----------------------------------------------------------------------------------- */

static size_t sub_buffer_alignment(cl_context context, cl_device_id *device)
{
    cl_device_id devices[16] = {0};
    cl_uint bits = 0;
    next.clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof devices, devices, NULL);
    next.clGetDeviceInfo(devices[0], CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof bits, &bits, NULL);
    if (device) *device = devices[0];
    return bits / 8 ? bits / 8 : 1;
}

static guarded **find_guarded(cl_mem buffer)
{
    guarded **at = &guards;
    while (*at && (*at)->buffer != buffer) at = &(*at)->next;
    return at;
}

/* A driver that let go of a buffer only after its release left an entry behind; the address of the
 * buffer is another one's now. */
static void forget_guarded(cl_mem buffer)
{
    guarded **at, *entry;
    pthread_mutex_lock(&mutex);
    at = find_guarded(buffer);
    entry = *at;
    if (entry) *at = entry->next;
    pthread_mutex_unlock(&mutex);
    if (entry) next.clReleaseMemObject(entry->parent);
    free(entry);
}

/* The flags that bar the host are left out, or the guards could not be read. */
static cl_mem create_guarded(cl_context context, cl_mem_flags flags, size_t size,
                             unsigned char *image, size_t before, cl_int *status)
{
    const cl_mem_flags access = CL_MEM_READ_WRITE | CL_MEM_READ_ONLY | CL_MEM_WRITE_ONLY;
    cl_buffer_region region;
    guarded *entry = calloc(1, sizeof *entry);
    region.origin = before;
    region.size = size;
    *status = CL_OUT_OF_HOST_MEMORY;
    if (!entry) return NULL;
    entry->parent = next.clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                        before + size + GUARD_BYTES, image, status);
    if (entry->parent) {
        entry->buffer = next.clCreateSubBuffer(entry->parent, flags & access,
                                               CL_BUFFER_CREATE_TYPE_REGION, &region, status);
    }
    if (!entry->buffer) {
        if (entry->parent) next.clReleaseMemObject(entry->parent);
        free(entry);
        return NULL;
    }
    entry->context = context;
    entry->before = before;
    entry->size = size;
    forget_guarded(entry->buffer);
    pthread_mutex_lock(&mutex);
    entry->next = guards;
    guards = entry;
    pthread_mutex_unlock(&mutex);
    return entry->buffer;
}

static cl_mem CL_API_CALL buffer_create(cl_context context, cl_mem_flags flags, size_t size,
                                        void *host, cl_int *status)
{
    size_t align, before = 0, after = 0;
    unsigned char *image;
    cl_mem buffer;
    cl_int ignored;
    if (!status) status = &ignored;
    if ((!use_guard && !use_poison) || !size || (flags & CL_MEM_USE_HOST_PTR)) {
        buffer = next.clCreateBuffer(context, flags, size, host, status);
        forget_guarded(buffer);
        return buffer;
    }
    if (use_guard) {
        align = sub_buffer_alignment(context, NULL);
        before = (GUARD_BYTES + align - 1) / align * align;
        after = GUARD_BYTES;
    }
    image = malloc(before + size + after);
    if (!image) {
        *status = CL_OUT_OF_HOST_MEMORY;
        return NULL;
    }
    memset(image, GUARD_BYTE, before + size + after);
    memset(image + before, use_poison ? POISON_BYTE : 0, size);
    if (host) memcpy(image + before, host, size);
    if (use_guard) {
        buffer = create_guarded(context, flags, size, image, before, status);
    } else {
        buffer = next.clCreateBuffer(context, flags | CL_MEM_COPY_HOST_PTR, size, image, status);
    }
    free(image);
    return buffer;
}

/* OpenCL has no part of a part: the region is taken from the parent instead. */
static cl_mem CL_API_CALL sub_buffer_create(cl_mem buffer, cl_mem_flags flags,
                                            cl_buffer_create_type type, const void *info,
                                            cl_int *status)
{
    cl_buffer_region region;
    guarded *entry;
    pthread_mutex_lock(&mutex);
    entry = *find_guarded(buffer);
    pthread_mutex_unlock(&mutex);
    if (!entry || type != CL_BUFFER_CREATE_TYPE_REGION || !info) {
        return next.clCreateSubBuffer(buffer, flags, type, info, status);
    }
    region = *(const cl_buffer_region *)info;
    region.origin += entry->before;
    return next.clCreateSubBuffer(entry->parent, flags, type, &region, status);
}

/* Reports the first overwritten byte of one guard; `at` is its offset from the buffer's start. */
static void check_guard(const guarded *entry, cl_command_queue queue, size_t offset, size_t size,
                        long at)
{
    unsigned char *bytes = malloc(size);
    size_t i = 0;
    if (!bytes || next.clEnqueueReadBuffer(queue, entry->parent, CL_TRUE, offset, size, bytes, 0,
                                           NULL, NULL) != CL_SUCCESS) {
        fprintf(report, "guard of a buffer of %zu bytes could not be read\n", entry->size);
        hits++;
    } else {
        while (i < size && bytes[i] == GUARD_BYTE) i++;
        if (i < size) {
            fprintf(report, "guard of a buffer of %zu bytes overwritten at byte %ld\n",
                    entry->size, at + (long)i);
            hits++;
        }
    }
    free(bytes);
}

/* References to a buffer, once what was queued has run: a driver may let go of the last command's a
 * moment after it is done. */
static cl_uint settled_references(cl_mem buffer)
{
    const struct timespec moment = {0, 1000000};
    cl_uint references = 0;
    size_t i;
    for (i = 0; i < sizeof queues / sizeof queues[0]; i++) {
        if (queues[i]) next.clFinish(queues[i]);
    }
    for (i = 0; i < 1000 && references != 1; i++) {
        if (i > 0) nanosleep(&moment, NULL);
        next.clGetMemObjectInfo(buffer, CL_MEM_REFERENCE_COUNT, sizeof references, &references,
                                NULL);
    }
    return references;
}

/* Nothing is queued any more that could write past the buffer. */
static void check_guards(const guarded *entry)
{
    cl_device_id device;
    cl_command_queue queue;
    sub_buffer_alignment(entry->context, &device);
    queue = next.clCreateCommandQueue(entry->context, device, 0, NULL);
    check_guard(entry, queue, 0, entry->before, -(long)entry->before);
    check_guard(entry, queue, entry->before + entry->size, GUARD_BYTES, (long)entry->size);
    if (queue) next.clReleaseCommandQueue(queue);
}

static cl_int CL_API_CALL buffer_release(cl_mem buffer)
{
    cl_uint references = 0;
    cl_int status;
    guarded **at, *entry;
    pthread_mutex_lock(&mutex);
    at = find_guarded(buffer);
    entry = *at;
    if (entry) {
        references = settled_references(buffer);
        if (references == 1) {
            check_guards(entry);
            *at = entry->next;
        }
    }
    pthread_mutex_unlock(&mutex);
    status = next.clReleaseMemObject(buffer);
    if (references == 1) {
        next.clReleaseMemObject(entry->parent);
        free(entry);
    }
    return status;
}

/* Puts `now` where `old` stands among the known queues; a queue that finds no place is not drained
 * by check_guards. */
static void replace_queue(cl_command_queue old, cl_command_queue now)
{
    size_t i, n = sizeof queues / sizeof queues[0];
    pthread_mutex_lock(&mutex);
    for (i = 0; i < n && queues[i] != old; i++) continue;
    if (i < n) queues[i] = now;
    pthread_mutex_unlock(&mutex);
}

static cl_command_queue CL_API_CALL queue_create(cl_context context, cl_device_id device,
                                                 cl_command_queue_properties properties,
                                                 cl_int *status)
{
    cl_command_queue queue = next.clCreateCommandQueue(context, device, properties, status);
    if (queue) replace_queue(NULL, queue);
    return queue;
}

static cl_int CL_API_CALL queue_release(cl_command_queue queue)
{
    replace_queue(queue, NULL); /* the driver may hold it a moment longer; the program does not */
    return next.clReleaseCommandQueue(queue);
}

/* --- the wrapped entry points ----------------------------------------------------------------- */

#define SUCCEEDED(change)                                                                          \
    do {                                                                                           \
        pthread_mutex_lock(&mutex);                                                                \
        change;                                                                                    \
        pthread_mutex_unlock(&mutex);                                                              \
    } while (0)

#define S(name, code, work, change, params, args)                                                  \
    static cl_int CL_API_CALL our_##name params                                                    \
    {                                                                                              \
        cl_int result;                                                                             \
        if (refuse(CALL_##name, code)) return code;                                                \
        result = work args;                                                                        \
        if (result == CL_SUCCESS) SUCCEEDED(change);                                               \
        return result;                                                                             \
    }
#define O(type, name, code, work, change, params, args)                                            \
    static type CL_API_CALL our_##name params                                                      \
    {                                                                                              \
        type result;                                                                               \
        if (refuse(CALL_##name, code)) {                                                           \
            if (status) *status = code;                                                            \
            return NULL;                                                                           \
        }                                                                                          \
        result = work args;                                                                        \
        if (result) SUCCEEDED(change);                                                             \
        return result;                                                                             \
    }
CALLS(S, O)
#undef S
#undef O

/* --- what tests call -------------------------------------------------------------------------- */

void clfault_arm(long nth, int sticky);
void clfault_only(const char *name);
int clfault_fired(void);
long clfault_calls(const char *name);
long clfault_live(void);

void clfault_arm(long nth, int sticky)
{
    pthread_mutex_lock(&mutex);
    armed_at = total;
    fail_nth = nth;
    fail_sticky = sticky;
    has_fired = 0;
    pthread_mutex_unlock(&mutex);
}

void clfault_only(const char *name)
{
    pthread_mutex_lock(&mutex);
    only = name;
    pthread_mutex_unlock(&mutex);
}

int clfault_fired(void)
{
    return has_fired;
}

long clfault_calls(const char *name)
{
    int i;
    if (!name) return total;
    for (i = 0; i < CALL_COUNT; i++) {
        if (!strcmp(name, call_names[i])) return calls[i];
    }
    return -1;
}

long clfault_live(void)
{
    long sum = 0;
    int i;
    for (i = 0; i < LIVE_COUNT; i++) sum += live[i];
    return sum;
}

/* --- what the loader calls -------------------------------------------------------------------- */

/* A destructor, not atexit: the program's own exit handlers may still release objects. */
__attribute__((destructor)) static void report_exit(void)
{
    int i;
    if (!report) return;
    for (i = 0; i < CALL_COUNT; i++) {
        if (calls[i]) fprintf(report, "calls %s %ld\n", call_names[i], calls[i]);
    }
    fprintf(report, "total %ld\n", total);
    for (i = 0; i < LIVE_COUNT; i++) {
        if (live[i]) fprintf(report, "live %s %ld\n", live_names[i], live[i]);
    }
    fflush(NULL);
    if (hits || clfault_live()) _exit(EXIT_FOUND);
}

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info what, size_t size, void *value,
                                               size_t *size_ret)
{
    static const char name[] = "clfault";
    static const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    const void *answer = what == CL_LAYER_NAME ? (const void *)name : (const void *)&version;
    size_t needed = what == CL_LAYER_NAME ? sizeof name : sizeof version;
    if (what != CL_LAYER_NAME && what != CL_LAYER_API_VERSION) return CL_INVALID_VALUE;
    if (value && size < needed) return CL_INVALID_VALUE;
    if (value) memcpy(value, answer, needed);
    if (size_ret) *size_ret = needed;
    return CL_SUCCESS;
}

CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *target,
                                            cl_uint *entries_ret,
                                            const cl_icd_dispatch **dispatch_ret)
{
    size_t size = entries * sizeof(void *);
    const char *log = getenv("CLFAULT_LOG"), *nth = getenv("CLFAULT_NTH");
    memcpy(&next, target, size < sizeof next ? size : sizeof next);
    ours = next;
#define S(name, code, work, change, params, args) ours.name = our_##name;
#define O(type, name, code, work, change, params, args) ours.name = our_##name;
    CALLS(S, O)
#undef S
#undef O
    report = log ? fopen(log, "w") : NULL;
    if (!report) report = stderr;
    if (nth) fail_nth = atol(nth);
    fail_sticky = flag("CLFAULT_STICKY");
    only = getenv("CLFAULT_ONLY");
    use_guard = flag("CLFAULT_GUARD");
    use_poison = flag("CLFAULT_POISON");
    use_trace = flag("CLFAULT_TRACE");
    *entries_ret = sizeof ours / sizeof(void *);
    *dispatch_ret = &ours;
    return CL_SUCCESS;
}
