/* clfault_probe - small OpenCL programs, right and wrong, that show that the tools which watch the
 * tests (the layer clfault, oclgrind) do catch what they are there for
 *
 *   clfault_probe clean     creates, runs and releases without a mistake
 *   clfault_probe overrun   a kernel writes one float past its buffer
 *   clfault_probe underrun  a kernel writes one float before its buffer
 *   clfault_probe leak      a buffer is not released
 *   clfault_probe race      two work-items write different values to one place
 *   clfault_probe uninit    a branch depends on memory that nobody wrote
 *   clfault_probe fresh     prints the first byte of a new buffer
 *
 * Exit status 1 and the name of the call when an OpenCL call fails. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdio.h>
#include <string.h>

enum { COUNT = 64 };

static const char source[] =
    "kernel void clean(global float *x, int n) { int i = get_global_id(0); x[i] = i; }\n"
    "kernel void overrun(global float *x, int n) { int i = get_global_id(0); x[i + 1] = i; }\n"
    "kernel void underrun(global float *x, int n) { int i = get_global_id(0); x[i - 1] = i; }\n"
    "kernel void race(global float *x, int n) { x[0] = get_global_id(0); }\n"
    "kernel void uninit(global float *x, int n)\n"
    "{ int i = get_global_id(0); if (x[i] > 0.5f) x[n - 1 - i] = 1; }\n";

typedef struct {
    cl_device_id device;
    cl_context context;
    cl_command_queue queue;
    cl_program program;
    cl_kernel kernel;
    cl_mem buffer;
} probe;

/* Says which call failed; 1 when `status` is a failure. */
static int failed(const char *call, cl_int status)
{
    if (status != CL_SUCCESS) fprintf(stderr, "%s: %d\n", call, (int)status);
    return status != CL_SUCCESS;
}

static int open_device(probe *p)
{
    cl_platform_id platform;
    cl_int status = clGetPlatformIDs(1, &platform, NULL);
    if (failed("clGetPlatformIDs", status)) return 0;
    status = clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &p->device, NULL);
    if (failed("clGetDeviceIDs", status)) return 0;
    p->context = clCreateContext(NULL, 1, &p->device, NULL, NULL, &status);
    if (failed("clCreateContext", status)) return 0;
    p->queue = clCreateCommandQueue(p->context, p->device, 0, &status);
    return !failed("clCreateCommandQueue", status);
}

static int open_kernel(probe *p, const char *name)
{
    const char *text = source;
    const cl_int count = COUNT;
    cl_int status;
    p->program = clCreateProgramWithSource(p->context, 1, &text, NULL, &status);
    if (failed("clCreateProgramWithSource", status)) return 0;
    status = clBuildProgram(p->program, 1, &p->device, "-cl-std=CL1.2", NULL, NULL);
    if (failed("clBuildProgram", status)) return 0;
    p->kernel = clCreateKernel(p->program, name, &status);
    if (failed("clCreateKernel", status)) return 0;
    p->buffer = clCreateBuffer(p->context, CL_MEM_READ_WRITE, COUNT * sizeof(float), NULL, &status);
    if (failed("clCreateBuffer", status)) return 0;
    status = clSetKernelArg(p->kernel, 0, sizeof p->buffer, &p->buffer);
    if (failed("clSetKernelArg", status)) return 0;
    return !failed("clSetKernelArg", clSetKernelArg(p->kernel, 1, sizeof count, &count));
}

static int run(probe *p, const char *name)
{
    const size_t global = COUNT, local = 8;
    cl_int status;
    if (!strcmp(name, "fresh")) {
        unsigned char first = 0;
        status = clEnqueueReadBuffer(p->queue, p->buffer, CL_TRUE, 0, 1, &first, 0, NULL, NULL);
        printf("%02x\n", first);
        return !failed("clEnqueueReadBuffer", status);
    }
    status = clEnqueueNDRangeKernel(p->queue, p->kernel, 1, NULL, &global, &local, 0, NULL, NULL);
    return !failed("clEnqueueNDRangeKernel", status) && !failed("clFinish", clFinish(p->queue));
}

static void close_probe(probe *p, int keep_buffer)
{
    if (p->buffer && !keep_buffer) clReleaseMemObject(p->buffer);
    if (p->kernel) clReleaseKernel(p->kernel);
    if (p->program) clReleaseProgram(p->program);
    if (p->queue) clReleaseCommandQueue(p->queue);
    if (p->context) clReleaseContext(p->context);
}

int main(int argc, char **argv)
{
    const char *name = argc == 2 ? argv[1] : "clean", *kernel = name;
    int leak = !strcmp(name, "leak"), ok;
    probe p = {0};
    if (leak || !strcmp(name, "fresh")) kernel = "clean";
    ok = open_device(&p) && open_kernel(&p, kernel) && run(&p, name);
    close_probe(&p, leak);
    return !ok;
}
