/* osr.h - open-set recognition on any OpenCL device, from one C header
 *
 * Trains and runs image classifiers that also know when a picture shows none of the classes they
 * were trained on. All heavy computation runs in OpenCL kernels: on AMD, Intel and NVIDIA cards,
 * and on plain CPUs through PoCL.
 *
 * It does not read data sets, decode images, print, exit, install signal handlers or keep any
 * state outside the context. The program `osr` beside this file does the first four.
 *
 * DO THIS in exactly one C or C++ file, and include the header plainly everywhere else:
 *
 *     #define OSR_IMPLEMENTATION
 *     #include "osr.h"
 *
 *     cc app.c -lOpenCL -lm
 *
 * A COMPLETE PROGRAM: classify one picture with a trained model.
 *
 *     #define OSR_IMPLEMENTATION
 *     #include "osr.h"
 *     #include <stdio.h>
 *
 *     static unsigned char pixels[28 * 28];             ... fill in: grey, row by row ...
 *
 *     int main(void)
 *     {
 *         osr_ctx *ctx = NULL;
 *         osr_model *model = NULL;
 *         osr_prediction p;
 *         if (osr_ctx_create(NULL, &ctx) == OSR_OK
 *             && osr_model_load(ctx, "model.safetensors", &model) == OSR_OK
 *             && osr_model_predict(model, pixels, 1, 28, 28, 1, &p) == OSR_OK)
 *             printf("%s (score %g, threshold %g)\n", p.known ? p.name : "unknown", p.score,
 *                    p.threshold);
 *         else
 *             printf("error: %s\n", osr_ctx_message(ctx));
 *         osr_model_destroy(model);
 *         osr_ctx_destroy(ctx);
 *         return 0;
 *     }
 *
 * CONVENTIONS, once for all sections
 *   shapes      N batch, H rows, W columns, C channels, K known classes, D features. Images are
 *               float32 [N, H, W, C] at every door; matrices are row-major.
 *   parameters  convolution weights [out, in, kh, kw], linear weights [out, in]: the ecosystem's
 *               order, in memory and in files.
 *   recording   an op records itself and returns a handle at once; nothing runs until a value is
 *               asked for (osr_read) or the step ends (osr_step_end). A recorded step is matched
 *               with earlier ones by structure and shapes, planned once, and replayed.
 *   errors      functions return osr_status, OK or the first error. Ops return a handle, {0} on
 *               failure. The context keeps the first error and its message until
 *               osr_ctx_clear_error; until then every op does nothing and returns {0}, so that one
 *               check at the end of a step sees it. What can fail has `errors` above it; of ops
 *               these come on top of HANDLE, a dead handle, SHAPE, sizes that do not fit (the
 *               message has both), and ARG, a number out of its range.
 *   lifetimes   context: until osr_ctx_destroy. parameter: the same. step: until osr_step_end, as
 *               what an op returns.
 *   losses      means over the batch, in nats.
 *   scores      larger = more unknown, everywhere.
 *   zero        {0} is a valid description of everything; where zero is a meaningful value
 *               (momentum, weight decay, lambda, seed) zero means zero, and the values that papers
 *               recommend are named constants that the caller passes.
 *   threads     a context belongs to one thread at a time; any number of contexts may live in any
 *               number of threads.
 *   numbers     float32 on the device, fixed order of every sum, no float atomics: the same seed
 *               on the same device gives the same bits.
 *
 * BUILD OPTIONS (none changes a declaration or a structure)
 *   OSR_IMPLEMENTATION   the implementation too, in this unit
 *   OSR_STATIC           everything static
 *   OSR_API              put before each public function instead of extern
 *   OSR_CLBLAST          with the implementation: matrix products by CLBlast, too (-lclblast); see
 *                        osr_products
 *
 * CONTENTS (search for the anchor)
 *   == status ==
 *   == context and devices ==
 *   == tensors ==
 *   == ops and autograd ==
 *   == layers and networks ==
 *   == losses ==
 *   == optimisers and schedules ==
 *   == jacobian norms ==
 *   == augmentation ==
 *   == scores ==
 *   == metrics ==
 *   == model files ==
 *   == methods ==
 *
 * Licence: MIT, at the end of this file. */
#ifndef OSR_H
#define OSR_H

#include <stddef.h>
#include <stdint.h>

#define OSR_VERSION "0.1.0"

#ifndef OSR_API
#if defined(OSR_STATIC) && defined(__GNUC__)
#define OSR_API static __attribute__((unused))
#elif defined(OSR_STATIC)
#define OSR_API static
#else
#define OSR_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* == status == --------------------------------------------------------------------------------- */

/* One row a status: name, text. A caller treats each of them differently. */
#define OSR_STATUS_LIST(X)                                                                         \
    X(OK, "ok")                                                                                    \
    X(ARG, "bad argument")                                                                         \
    X(SHAPE, "shapes do not fit")                                                                  \
    X(HANDLE, "dead or foreign tensor")                                                            \
    X(NAN, "not a finite number")                                                                  \
    X(MEMORY, "out of memory")                                                                     \
    X(IO, "file error")                                                                            \
    X(FORMAT, "malformed file")                                                                    \
    X(DEVICE, "device error")                                                                      \
    X(UNSUPPORTED, "not supported")

typedef enum osr_status {
#define OSR__STATUS_ENUM(name, text) OSR_##name,
    OSR_STATUS_LIST(OSR__STATUS_ENUM)
#undef OSR__STATUS_ENUM
    OSR_STATUS_COUNT
} osr_status;

/* osr_status_text - what a status means; "unknown status" for a value outside the table */
OSR_API const char *osr_status_text(osr_status status);

/* osr_version - OSR_VERSION of the unit with OSR_IMPLEMENTATION */
OSR_API const char *osr_version(void);

/* == context and devices == -------------------------------------------------------------------- */

/* A context owns a device queue, the parameters, the tape and every plan. */
typedef struct osr_ctx osr_ctx;

/* The one allocator: new_size 0 frees and returns NULL, ptr NULL allocates, else resizes. */
typedef struct osr_allocator {
    void *(*fn)(void *user, void *ptr, size_t old_size, size_t new_size);
    void *user;
} osr_allocator;

/* The one channel for messages: level 0 error, 1 warning, 2 information. One line, no newline. */
typedef struct osr_logger {
    void (*fn)(void *user, int level, const char *message);
    void *user;
} osr_logger;

typedef enum osr_kernels { OSR_KERNELS_AUTO, OSR_KERNELS_CPU, OSR_KERNELS_GPU } osr_kernels;

/* Whether built kernels are kept on disk. AUTO: not on PoCL and NVIDIA, whose drivers do that. */
typedef enum osr_cache { OSR_CACHE_AUTO, OSR_CACHE_OFF, OSR_CACHE_ON } osr_cache;

/* What makes the matrix products of the GPU kernels, convolutions among them: tiles of 128x64 (for
 * osr_matmul 64x64), of 64x32 (32x32), of 128x128 (128x64), or CLBlast (see OSR_CLBLAST), which
 * makes osr_matmul and the products inside Winograd; direct convolutions stay FIXED. Where sizes
 * are no multiples of its tiles it allocates memory for Winograd's products in every step, and it
 * keeps its programs until CLBlastClearCache(): neither is in osr_ctx_stats. */
typedef enum osr_products {
    OSR_PRODUCTS_FIXED, OSR_PRODUCTS_SMALL, OSR_PRODUCTS_LARGE, OSR_PRODUCTS_CLBLAST
} osr_products;

typedef struct osr_ctx_desc {
    const char *device;      /* "cpu", "gpu", an index of osr_device_list, or part of a device's
                                name; NULL: $OSR_DEVICE, else the first GPU, else the first one  */
    uint64_t seed;           /* of parameters and dropout; every value is a valid seed           */
    const char *kernel_dir;  /* read the .cl files from here; NULL: the embedded ones            */
    osr_kernels kernels;     /* AUTO: $OSR_KERNELS (cpu or gpu), else by the device's type       */
    osr_cache cache;         /* of built kernels                                                 */
    const char *cache_dir;   /* NULL: $XDG_CACHE_HOME/osr, else $HOME/.cache/osr                 */
    int direct;              /* convolutions, for comparison: 1 direct only, -1 Winograd wherever
                                it can be (stride 1); 0: what should be fastest                  */
    osr_products products;   /* the same for the GPU kernels' products: not FIXED wherever it can
                                be, with the CPU kernels an error                                */
    const char *tuning;      /* where direct and products are 0: choices in lines (see
                                osr_ctx_tuning), or "auto": those kept for this device, if any;
                                NULL: the fixed ones                                             */
    int no_device;           /* non-zero: host functions only (files, metrics); ops are refused  */
    osr_allocator allocator; /* fn NULL: realloc and free                                        */
    osr_logger logger;       /* fn NULL: silent                                                  */
} osr_ctx_desc;

typedef enum osr_device_kind { OSR_DEVICE_OTHER, OSR_DEVICE_CPU, OSR_DEVICE_GPU } osr_device_kind;

typedef struct osr_device {
    char name[128], platform[128], driver[128], version[128];
    osr_device_kind kind;
    uint64_t memory_bytes, max_alloc_bytes, local_bytes;
    unsigned compute_units;
} osr_device;

/* osr_device_list - every OpenCL device of this machine, in the order that indices name
 *
 *   devices   osr_device [capacity]  filled; NULL with capacity 0 to count
 *   count     number found, also when capacity is smaller
 *   returns   OK, also with no device at all (count 0)
 *   errors    ARG count NULL; DEVICE the ICD loader itself fails */
OSR_API osr_status osr_device_list(osr_device *devices, int capacity, int *count);

/* osr_ctx_create - open a device
 *
 *   desc      NULL means {0}
 *   out       the context; set also on failure where memory allowed it, so that osr_ctx_message
 *             can tell the cause; destroy it in either case
 *   errors    ARG desc; DEVICE none found, or none of that name; MEMORY
 *   lifetime  until osr_ctx_destroy */
OSR_API osr_status osr_ctx_create(const osr_ctx_desc *desc, osr_ctx **out);

/* osr_ctx_destroy - release everything that the context owns; NULL is allowed */
OSR_API void osr_ctx_destroy(osr_ctx *ctx);

/* osr_ctx_status - the first error since creation or osr_ctx_clear_error
 * osr_ctx_message - one line about it, written for the reader of a log
 * osr_ctx_clear_error - forget it and drop the step that was being recorded
 *
 *   returns   OK and "" when there was none, MEMORY for ctx NULL; the message is valid until the
 *             next call on ctx. Parameters keep their values */
OSR_API osr_status osr_ctx_status(const osr_ctx *ctx);
OSR_API const char *osr_ctx_message(const osr_ctx *ctx);
OSR_API void osr_ctx_clear_error(osr_ctx *ctx);

/* osr_ctx_device - the device in use; kind OTHER and empty names for a context without one
 * osr_ctx_kernels - the kernel family in use, CPU or GPU */
OSR_API const osr_device *osr_ctx_device(const osr_ctx *ctx);
OSR_API osr_kernels osr_ctx_kernels(const osr_ctx *ctx);

/* Counters of a context, for benchmarks and tests. Bytes are of live memory. */
typedef struct osr_ctx_stats {
    uint64_t device_bytes, device_peak_bytes; /* all OpenCL buffers                            */
    uint64_t planned_peak_bytes;              /* of the same, told by each plan before it runs */
    uint64_t host_bytes, host_peak_bytes;     /* through the allocator                         */
    uint64_t planned_host_peak_bytes;         /* what that will be, told by each plan before its
                                                 launches are made, but for kernels read from a
                                                 cache (cache ON) or kernel_dir                */
    uint64_t allocations;                     /* allocator calls that asked for memory         */
    uint64_t plans;                           /* plans made so far                             */
    uint64_t launches;                        /* kernel launches so far                        */
} osr_ctx_stats;

/* osr_ctx_get_stats - read the counters */
OSR_API void osr_ctx_get_stats(const osr_ctx *ctx, osr_ctx_stats *stats);

/* One launch of a timed step, for benchmarks. */
typedef struct osr_launch_time {
    const char *kernel; /* name in kernels/, "upload", or "clblast_nn", "_nt" or "_tn"        */
    const char *op;     /* the op it serves                                                   */
    int layer;          /* of the network's table, which recorded the op; -1 none             */
    int backward;       /* 1: part of a gradient                                              */
    osr_products products; /* what makes the products, if it makes any                        */
    double seconds, flops; /* flops in direct-convolution terms, 0 where not counted          */
} osr_launch_time;

/* osr_ctx_profile - time every launch from now on (slower: the queue waits for each)
 * osr_ctx_profile_get - the launches since then
 *
 *   enable    non-zero starts and clears, zero stops
 *   times     pointer to the rows, valid until the next op
 *   returns   their number
 *   errors    DEVICE */
OSR_API osr_status osr_ctx_profile(osr_ctx *ctx, int enable);
OSR_API size_t osr_ctx_profile_get(const osr_ctx *ctx, const osr_launch_time **times);

/* osr_ctx_tuning - the choices of algorithms in force, of a context with desc.tuning
 *
 *   lines     N H W C O KH KW OH OW STRIDE PADDING forward|dx|dw direct|winograd for a pass of a
 *             convolution that has more than one algorithm. With the GPU kernels all have: the last
 *             word may end in -small, -large or -clblast (osr_products), and products [N, C] [C, O]
 *             have lines, too, with nn|nt|tn for the pass (t: transposed) and 1 for other sizes.
 *             # begins a comment. First those that were given, then, with the fixed choice, what
 *             has been recorded besides
 *   returns   the text, valid until the next call; "" without desc.tuning
 *   errors    MEMORY
 *   numerics  the algorithms differ in rounding: only the same lines give a run the same bits */
OSR_API const char *osr_ctx_tuning(osr_ctx *ctx);

/* osr_ctx_tune - choose algorithms for what is recorded from now on
 *
 *   text      lines as above; a later one replaces an earlier one of the same pass. Once the pass
 *             has been recorded, a choice that cannot be becomes the next one that can: Winograd
 *             direct, what makes products fixed
 *   keep      non-zero: write all choices to osr_ctx_tuning_file, too, for "auto"
 *   errors    ARG a context without desc.tuning; FORMAT a line that is none, or wants a CLBlast
 *             that is not built in: nothing is changed; IO the file cannot be written, or the cache
 *             is off */
OSR_API osr_status osr_ctx_tune(osr_ctx *ctx, const char *text, int keep);

/* osr_ctx_tuning_file - where choices are kept: in cache_dir, unless cache is OFF
 *
 *   returns   the path of this device's file, valid as long as ctx; "" for none. A file that is
 *             damaged, or of other kernels or another driver, is ignored and replaced */
OSR_API const char *osr_ctx_tuning_file(const osr_ctx *ctx);

/* osr_peak_gflops - float32 multiply-add rate of the device, by a kernel that does nothing else
 *
 *   gflops    out, 1e9 operations (a multiply-add counts two) a second, one run of some 20 ms
 *   errors    DEVICE */
OSR_API osr_status osr_peak_gflops(osr_ctx *ctx, double *gflops);

/* == tensors == -------------------------------------------------------------------------------- */

/* A value handle: index on the tape and the step that made it; {0} is no tensor. */
typedef struct osr_tensor {
    uint32_t index, generation;
} osr_tensor;

/* rank 0 to 4; images are {4, {N, H, W, C}}. */
typedef struct osr_shape {
    int rank;
    int dim[4];
} osr_shape;

typedef enum osr_init_kind {
    OSR_INIT_CONSTANT, /* value                                           */
    OSR_INIT_NORMAL,   /* value + scale * N(0, 1)                         */
    OSR_INIT_UNIFORM   /* value + scale * U(-1, 1)                        */
} osr_init_kind;

typedef struct osr_init {
    osr_init_kind kind;
    float value, scale;
} osr_init;

/* osr_shape_make - {rank, {d0, d1, d2, d3}} with sizes beyond rank set to 1
 * osr_shape_count - product of the sizes; 0 where one is not positive or the product overflows
 * osr_shape_of - the shape of a tensor; rank -1 for a dead handle, without an error */
OSR_API osr_shape osr_shape_make(int rank, int d0, int d1, int d2, int d3);
OSR_API size_t osr_shape_count(osr_shape shape);
OSR_API osr_shape osr_shape_of(osr_ctx *ctx, osr_tensor t);

/* osr_param - a trainable parameter
 * osr_state - a tensor that no optimiser changes: running statistics, anchors
 *
 *   shape     rank 0..4, all sizes >= 1
 *   init      initial values, from the context's seed and the tensor's ordinal number
 *   returns   handle; its values lie in the context's one buffer of parameters or of state
 *   errors    ARG init; SHAPE; MEMORY
 *   lifetime  context */
OSR_API osr_tensor osr_param(osr_ctx *ctx, osr_shape shape, osr_init init);
OSR_API osr_tensor osr_state(osr_ctx *ctx, osr_shape shape, osr_init init);

/* osr_gradient - the gradient of a parameter, as the last osr_backward left it
 * osr_moment - an optimiser's state of a parameter, zeros before the first step
 *
 *   which     1: SGD's momentum or Adam's first moment; 2: Adam's second moment
 *   returns   a handle to read or write
 *   errors    HANDLE not a parameter; ARG which
 *   lifetime  context */
OSR_API osr_tensor osr_gradient(osr_ctx *ctx, osr_tensor param);
OSR_API osr_tensor osr_moment(osr_ctx *ctx, osr_tensor param, int which);

/* osr_input, osr_labels - values, and class labels, from the host
 *
 *   data      f32 [shape]  copied during the call; images as [N, H, W, C]
 *   labels    i32 [n]      0..classes-1
 *   returns   handle, of labels of shape [n]; without gradient unless osr_grad asks for it
 *   errors    NAN a value is not finite; ARG a label outside the range (the message has its index),
 *             data NULL, n or classes < 1 */
OSR_API osr_tensor osr_input(osr_ctx *ctx, osr_shape shape, const float *data);
OSR_API osr_tensor osr_labels(osr_ctx *ctx, int n, int classes, const int32_t *labels);

/* osr_keep - promise that a value will be read after the step has run
 *
 *   t         a handle of this step. Values that no recorded op uses are kept anyway; all others
 *             may be overwritten or fused away
 *   returns   t */
OSR_API osr_tensor osr_keep(osr_ctx *ctx, osr_tensor t);

/* osr_read - a tensor's values; runs what was recorded
 * osr_write - new values for a parameter, state, gradient or moment
 *
 *   dst, src  f32 [count]  labels are converted; images as [N, H, W, C]
 *   count     must be the tensor's number of elements
 *   errors    HANDLE dead, or not kept, or (write) not persistent; SHAPE count; NAN; DEVICE;
 *             MEMORY */
OSR_API osr_status osr_read(osr_ctx *ctx, osr_tensor t, float *dst, size_t count);
OSR_API osr_status osr_write(osr_ctx *ctx, osr_tensor t, const float *src, size_t count);

/* osr_step_end - run what was recorded and end the step: its handles die
 * osr_ctx_set_step - the step number that dropout masks are drawn with, to resume a run
 *
 *   step      osr_step_end adds one
 *   errors    DEVICE; MEMORY; the context's first error */
OSR_API osr_status osr_step_end(osr_ctx *ctx);
OSR_API void osr_ctx_set_step(osr_ctx *ctx, uint32_t step);

/* == ops and autograd == ----------------------------------------------------------------------- */

/* Every op records itself and returns a handle of this step. Gradients flow to every tensor input
 * unless its block says otherwise. */

/* osr_add, osr_sub, osr_mul, osr_div - element by element
 *
 *   y = a + b,  a - b,  a b,  a / b
 *
 *   a, b      f32 of one shape; osr_div: rank <= 2 or images without padding lanes of zero divisors
 *   returns   f32, the same shape */
OSR_API osr_tensor osr_add(osr_ctx *ctx, osr_tensor a, osr_tensor b);
OSR_API osr_tensor osr_sub(osr_ctx *ctx, osr_tensor a, osr_tensor b);
OSR_API osr_tensor osr_mul(osr_ctx *ctx, osr_tensor a, osr_tensor b);
OSR_API osr_tensor osr_div(osr_ctx *ctx, osr_tensor a, osr_tensor b);

/* osr_affine, osr_exp, osr_log, osr_sqrt - element by element
 *
 *   y = scale * x + shift,  e^x,  ln x,  sqrt(x) with the gradient 0 at 0
 *
 *   x         f32 of any shape; osr_log > 0, osr_sqrt >= 0
 *   returns   f32, the same shape */
OSR_API osr_tensor osr_affine(osr_ctx *ctx, osr_tensor x, float scale, float shift);
OSR_API osr_tensor osr_exp(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_log(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_sqrt(osr_ctx *ctx, osr_tensor x);

/* osr_sum, osr_mean, osr_row_sum - over all elements, and over the columns
 *
 *   y = sum_i x_i,  (1/n) sum_i x_i,  y_n = sum_k x_nk
 *
 *   x         f32, rank <= 2; osr_row_sum [N, K]
 *   returns   f32 []; osr_row_sum [N] */
OSR_API osr_tensor osr_sum(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_mean(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_row_sum(osr_ctx *ctx, osr_tensor x);

/* osr_pick - the labelled column of each row
 *
 *   y_n = x[n, labels_n]
 *
 *   x         f32 [N, K]
 *   labels    from osr_labels with K classes; no gradient
 *   returns   f32 [N] */
OSR_API osr_tensor osr_pick(osr_ctx *ctx, osr_tensor x, osr_tensor labels);

/* osr_count_correct - how many rows have their largest (or smallest) value at the label
 *
 *   y = #{n : labels_n = argmax_k sign * x[n, k]}, first column on ties
 *
 *   x         f32 [N, K], no gradient
 *   sign      1 argmax, -1 argmin
 *   returns   f32 [] */
OSR_API osr_tensor osr_count_correct(osr_ctx *ctx, osr_tensor x, osr_tensor labels, int sign);

/* osr_first_rows - the first rows of a matrix
 *
 *   y_nk = x_nk,  n < rows
 *
 *   x         f32 [N, K]
 *   rows      1..N
 *   returns   f32 [rows, K] */
OSR_API osr_tensor osr_first_rows(osr_ctx *ctx, osr_tensor x, int rows);

/* osr_matmul - matrix product
 *
 *   y = op(a) op(b), op transposes where its flag is set (not both)
 *
 *   a         f32 [M, K], or [K, M] transposed
 *   b         f32 [K, N], or [N, K] transposed
 *   returns   f32 [M, N]
 *   errors    ARG both transposed */
OSR_API osr_tensor osr_matmul(osr_ctx *ctx, osr_tensor a, osr_tensor b, int transpose_a,
                              int transpose_b);

/* osr_linear - fully connected layer
 *
 *   y = x w' + b
 *
 *   x         f32 [N, I]
 *   w         f32 [O, I]
 *   b         f32 [O], or {0} for none
 *   returns   f32 [N, O] */
OSR_API osr_tensor osr_linear(osr_ctx *ctx, osr_tensor x, osr_tensor w, osr_tensor b);

/* stride 0 means 1. pad_end: rows and columns of zeros below and right where they differ from pad
 * above and left (TensorFlow's "same" for stride 2 is pad 0, pad_end 1). */
typedef struct osr_conv_desc {
    int stride, pad, asymmetric, pad_end; /* pad_end counts only with asymmetric set */
} osr_conv_desc;

/* osr_conv2d - cross-correlation, as every framework's convolution
 *
 *   y[n, r, c, o] = sum_{i, kh, kw} x[n, s r + kh - p, s c + kw - p, i] w[o, i, kh, kw]
 *
 *   x         f32 [N, H, W, I]
 *   w         f32 [O, I, KH, KW], a parameter or state
 *   desc      NULL means {0}: stride 1, no padding
 *   returns   f32 [N, (H + p + p_end - KH) / s + 1, (W + p + p_end - KW) / s + 1, O] */
OSR_API osr_tensor osr_conv2d(osr_ctx *ctx, osr_tensor x, osr_tensor w, const osr_conv_desc *desc);

/* osr_bias - a constant a channel
 *
 *   y[..., c] = x[..., c] + b[c]
 *
 *   x         f32 [N, H, W, C] or [N, C], or [N] with C = 1
 *   b         f32 [C]
 *   returns   f32, the shape of x */
OSR_API osr_tensor osr_bias(osr_ctx *ctx, osr_tensor x, osr_tensor b);

#define OSR_BATCHNORM_EPS 1e-5f      /* PyTorch's default                        */
#define OSR_BATCHNORM_MOMENTUM 0.1f  /* PyTorch's default                        */

typedef struct osr_batchnorm_desc {
    float eps;      /* added to the variance; 0: OSR_BATCHNORM_EPS                            */
    float momentum; /* running = (1 - momentum) running + momentum batch; 0: running kept     */
    int train;      /* non-zero: statistics of the batch, else the running ones               */
} osr_batchnorm_desc;

/* osr_batchnorm - normalise each channel
 *
 *   y = gamma (x - mean) / sqrt(var + eps) + beta
 *
 *   x             f32 [N, H, W, C]
 *   gamma, beta   f32 [C]
 *   mean, var     f32 [C]  running statistics; with train they are updated when the step runs,
 *                 var by the unbiased variance (n / (n - 1)); no gradient
 *   returns       f32 [N, H, W, C]
 *   numerics      mean and sum of squared deviations a plane, merged in fixed order (Chan et al.)
 *   source        Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1 */
OSR_API osr_tensor osr_batchnorm(osr_ctx *ctx, osr_tensor x, osr_tensor gamma, osr_tensor beta,
                                 osr_tensor mean, osr_tensor var, const osr_batchnorm_desc *desc);

/* osr_leaky_relu - leaky rectifier; slope 0 is ReLU
 *
 *   y = x for x > 0, slope * x otherwise
 *
 *   x         f32, any shape
 *   slope     0 <= slope <= 1
 *   returns   f32, the same shape */
OSR_API osr_tensor osr_leaky_relu(osr_ctx *ctx, osr_tensor x, float slope);

/* osr_dropout - zero values at random, scale the others; record it only when training
 *
 *   y = x * m / (1 - p), m = 0 with probability p, else 1
 *
 *   x         f32 [N, H, W, C] or [N, D]
 *   p         0 <= p < 1
 *   channels  non-zero: one m an image and channel (Dropout2d), else one an element
 *   returns   f32, the same shape
 *   numerics  m from Philox 4x32-10: key = the context's seed, counter = element, ordinal of the
 *             dropout in the step, step; recomputed in the gradient, never stored */
OSR_API osr_tensor osr_dropout(osr_ctx *ctx, osr_tensor x, float p, int channels);

/* osr_max_pool, osr_avg_pool - largest value, and mean, of each window
 *
 *   x         f32 [N, H, W, C]
 *   size      window; stride the same when 0
 *   returns   f32 [N, (H - size) / stride + 1, (W - size) / stride + 1, C]
 *   numerics  the gradient goes to the first largest value of a window */
OSR_API osr_tensor osr_max_pool(osr_ctx *ctx, osr_tensor x, int size, int stride);
OSR_API osr_tensor osr_avg_pool(osr_ctx *ctx, osr_tensor x, int size, int stride);

/* osr_global_avg_pool, osr_flatten - images to rows: means over rows and columns, and all values,
 * channel first as PyTorch flattens
 *
 *   y[n, c] = (1 / (H W)) sum_{r, q} x[n, r, q, c],  y[n, (c H + r) W + q] = x[n, r, q, c]
 *
 *   x         f32 [N, H, W, C]
 *   returns   f32 [N, C], [N, C H W] */
OSR_API osr_tensor osr_global_avg_pool(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_flatten(osr_ctx *ctx, osr_tensor x);

/* osr_quarter_turns - every image upright and turned by 90, 180 and 270 degrees to the left
 *
 *   y[t N + n] = x[n] turned t times, t < 4;  once: y[r, q] = x[q, H - 1 - r]
 *
 *   x         f32 [N, H, H, C], no gradient
 *   returns   f32 [4 N, H, H, C]
 *   source    Gidaris et al., ICLR 2018, arXiv:1803.07728 */
OSR_API osr_tensor osr_quarter_turns(osr_ctx *ctx, osr_tensor x);

/* osr_softmax, osr_logsumexp, osr_normalise - of each row
 *
 *   y_nk = exp(x_nk) / sum_j exp(x_nj),  y_n = ln sum_k exp(x_nk),
 *   y_n = x_n / max(||x_n||_2, 1e-12)
 *
 *   x         f32 [N, K]
 *   returns   f32 [N, K]; osr_logsumexp [N]
 *   numerics  the row's largest value is subtracted before exp */
OSR_API osr_tensor osr_softmax(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_logsumexp(osr_ctx *ctx, osr_tensor x);
OSR_API osr_tensor osr_normalise(osr_ctx *ctx, osr_tensor x);

/* osr_anchor_distance, osr_squared_distance - Euclidean distance to each anchor or learned point
 *
 *   d_nk = ||z_n - a_k||_2,  d_nk = scale ||z_n - p_k||^2
 *
 *   z                f32 [N, D]
 *   anchors, points  f32 [K, D], persistent; a gradient where they are a parameter
 *   scale            > 0; 1 / D: the mean of the squares
 *   rate             factor on the gradient of the points, >= 0; 1: the gradient
 *   returns          f32 [N, K]
 *   numerics         by differences, not by the expanded square; the gradient is 0 where d = 0 */
OSR_API osr_tensor osr_anchor_distance(osr_ctx *ctx, osr_tensor z, osr_tensor anchors);
OSR_API osr_tensor osr_squared_distance(osr_ctx *ctx, osr_tensor z, osr_tensor points, float scale,
                                        float rate);

/* osr_backward - gradients of a loss with respect to every parameter it depends on
 *
 *   loss      f32 []
 *   errors    HANDLE; SHAPE loss is not a scalar
 *   lifetime  gradients of parameters stay until the next step that calls osr_backward; within
 *             one step a second call adds to them */
OSR_API osr_status osr_backward(osr_ctx *ctx, osr_tensor loss);

/* osr_grad - gradient with respect to one value of this step
 *
 *   dx = sum_i seed_i dy_i / dx
 *
 *   y         f32, any shape
 *   seed      f32 of y's shape, or {0} for ones
 *   x         a value of this step, an input too; osr_keep one that another op reads
 *   returns   f32 of x's shape; {0} with ARG where y does not depend on x */
OSR_API osr_tensor osr_grad(osr_ctx *ctx, osr_tensor y, osr_tensor seed, osr_tensor x);

/* osr_op_name - name of a row of the table of ops, losses and their gradients: 0, 1, ... until the
 * answer is NULL */
OSR_API const char *osr_op_name(int index);

/* == layers and networks == -------------------------------------------------------------------- */

/* One row a kind of layer: name, what it is. */
#define OSR_LAYER_LIST(X)                                                                          \
    X(CONV, "conv")                                                                                \
    X(BATCHNORM, "batchnorm")                                                                      \
    X(LEAKY_RELU, "leaky_relu")                                                                    \
    X(DROPOUT, "dropout")                                                                          \
    X(MAX_POOL, "max_pool")                                                                        \
    X(AVG_POOL, "avg_pool")                                                                        \
    X(GLOBAL_AVG_POOL, "global_avg_pool")                                                          \
    X(FLATTEN, "flatten")                                                                          \
    X(LINEAR, "linear")                                                                            \
    X(ADD, "add")

typedef enum osr_layer_kind {
#define OSR__LAYER_ENUM(name, text) OSR_LAYER_##name,
    OSR_LAYER_LIST(OSR__LAYER_ENUM)
#undef OSR__LAYER_ENUM
    OSR_LAYER_COUNT
} osr_layer_kind;

/* A layer of a network's table. Fields that a kind does not name are ignored. */
typedef struct osr_layer {
    osr_layer_kind kind;
    int out;            /* CONV, LINEAR: channels or features out                             */
    int size, stride;   /* CONV, *_POOL: window and step (stride 0: 1 for CONV, size for pools) */
    int pad;            /* CONV: zeros on every side                                          */
    int pad_same;       /* CONV: non-zero: TensorFlow's "same" instead of pad                 */
    int bias;           /* CONV, LINEAR: non-zero: with bias                                  */
    int channels;       /* DROPOUT: non-zero: whole channels                                  */
    int from;           /* reads layer from - 1's output; 0: the layer before                 */
    int with;           /* ADD: the other operand, layer with - 1                             */
    float rate;         /* DROPOUT: probability                                               */
    float slope;        /* LEAKY_RELU                                                         */
    float eps, momentum;/* BATCHNORM: 0: OSR_BATCHNORM_EPS, OSR_BATCHNORM_MOMENTUM            */
    osr_init init;      /* CONV, LINEAR: weights; BATCHNORM: gamma. {0}: see osr_net_create   */
} osr_layer;

typedef struct osr_net_desc {
    int height, width, channels; /* of the input                                              */
    const osr_layer *layers;     /* copied                                                    */
    int layer_count;
} osr_net_desc;

typedef struct osr_net osr_net;

/* osr_net_create - a network from its table of layers
 *
 *   desc      sizes of the input and the table. Weights without init: Kaiming normal, fan-out
 *             (std sqrt(2 / (KH KW O))) for CONV, N(0, 0.01) for LINEAR; gamma 1; biases, beta 0
 *   out       the network; its parameters were created in the table's order
 *   errors    ARG; SHAPE (the message names the layer); MEMORY
 *   lifetime  until osr_net_destroy; its parameters: context */
OSR_API osr_status osr_net_create(osr_ctx *ctx, const osr_net_desc *desc, osr_net **out);

/* osr_net_destroy - free a network's table; NULL is allowed; parameters stay with the context */
OSR_API void osr_net_destroy(osr_net *net);

/* osr_net_forward - record the whole network
 * osr_net_output - a layer's output in the last osr_net_forward of this step
 *
 *   x         f32 [N, H, W, C]
 *   train     non-zero: dropout on, batch statistics; zero: off, running statistics
 *   layer     index in the table
 *   returns   the last layer's output, or that layer's */
OSR_API osr_tensor osr_net_forward(osr_net *net, osr_tensor x, int train);
OSR_API osr_tensor osr_net_output(osr_net *net, int layer);

/* osr_net_layers - the network's copy of its table
 * osr_net_shape - the shape of a layer's output for a batch of one; -1: the input
 *
 *   count     out, may be NULL
 *   layer     index in the table
 *   returns   osr_net_shape: rank 4 or 2; rank -1 outside */
OSR_API const osr_layer *osr_net_layers(const osr_net *net, int *count);
OSR_API osr_shape osr_net_shape(const osr_net *net, int layer);

/* A parameter or state tensor of a network by name: "<layer>.<kind>.weight" and so on. */
typedef struct osr_named {
    char name[64];
    osr_tensor tensor;
    int trainable;
} osr_named;

/* osr_net_tensors - every parameter and state tensor, in rows that live as long as net */
OSR_API const osr_named *osr_net_tensors(const osr_net *net, int *count);

typedef enum osr_vgg32_head {
    OSR_VGG32_FLATTEN, /* flatten, linear                       */
    OSR_VGG32_GAP,     /* global average pooling, linear        */
    OSR_VGG32_DIFAIR,  /* 3x3 convolution to `out` channels, ReLU, global average pooling */
    OSR_VGG32_NONE     /* global average pooling alone          */
} osr_vgg32_head;

typedef enum osr_vgg32_init {
    OSR_VGG32_KAIMING,     /* fan-out normal; linear N(0, 0.01), bias 0 (CAC)                  */
    OSR_VGG32_NORMAL005    /* N(0, 0.05) (OSRCI, ARPL, DIFAIR); linear U(+-1 / sqrt(in));
                              with the DIFAIR head Glorot uniform for the last convolution     */
} osr_vgg32_init;

/* The variants of the nine-convolution network of Neal et al., and of the other networks as far as
 * their rows say. {0} with `out` set is CAC's without dropout. */
typedef struct osr_vgg32_desc {
    int out;                 /* features or classes that the head gives                       */
    osr_vgg32_head head;
    osr_vgg32_init init;
    float dropout;           /* probability, 0: none; papers: 0.2, TinyImageNet with CAC 0.3  */
    int dropout_elements;    /* non-zero: single values (DIFAIR), else whole channels         */
    int dropout_before;      /* non-zero: before convolutions 1, 4, 7; else after 3, 6, 9     */
    int pad_same;            /* non-zero: TensorFlow's padding of the stride-2 convolutions   */
    int no_bias;             /* of the linear head                                            */
    float eps, momentum;     /* batch normalisation; 0: PyTorch's                             */
    int side;                /* rows of the images, for the flattened head's init; 0: 32      */
} osr_vgg32_desc;

#define OSR_NETWORK_LAYERS 96 /* most layers of a ready network */

/* One row a ready network, for images of 32 or 64 pixels (any size that its strides can halve).
 * Residual networks always pool; of the variant they read out, head (FLATTEN pools too), no_bias,
 * eps, momentum, and dropout, which then lies between the two convolutions of each block. Their
 * convolutions start Kaiming normal, fan-out; the linear head U(+-1 / sqrt(in)), bias 0. */
typedef struct osr_network_row {
    const char *name, *help;
    int (*table)(const osr_vgg32_desc *variant, osr_layer *layers); /* fills OSR_NETWORK_LAYERS
                                                                       at most; their number */
    int residual;
    const char *source;
} osr_network_row;

/* osr_network_at - a ready network by its place in the table: 0, 1, ... until the answer is NULL
 * osr_network_find - the same by its name; NULL for an unknown name or NULL */
OSR_API const osr_network_row *osr_network_at(int index);
OSR_API const osr_network_row *osr_network_find(const char *name);

/* == losses == --------------------------------------------------------------------------------- */

/* Every loss gives f32 []; labels are [N] from osr_labels with K classes. */

/* osr_loss_cross_entropy - softmax cross-entropy with label smoothing
 *
 *   L = mean_n [ - sum_k t_nk ln softmax(z_n)_k ],  t = 1 - s for the label, s / (K - 1) otherwise
 *
 *   logits     f32 [N, K]
 *   smoothing  s, 0 <= s < 1
 *   numerics   by log-sum-exp
 *   source     Vaze et al., ICLR 2022, arXiv:2110.06207 (its smoothing spreads s over K - 1) */
OSR_API osr_tensor osr_loss_cross_entropy(osr_ctx *ctx, osr_tensor logits, osr_tensor labels,
                                          float smoothing);

#define OSR_CAC_ALPHA 10.0f  /* anchor magnitude, CAC paper  */
#define OSR_CAC_LAMBDA 0.1f  /* weight of the anchor term, CAC paper */

/* osr_loss_cac - class anchor clustering
 *
 *   L = mean_n [ ln(1 + sum_{k != y} exp(d_ny - d_nk)) + lambda d_ny ]
 *
 *   distances  f32 [N, K]  to the anchors, >= 0
 *   lambda     >= 0; paper: OSR_CAC_LAMBDA
 *   numerics   by log-sum-exp: no overflow for finite distances
 *   source     Miller et al., WACV 2021, arXiv:2004.02434, tuplet and anchor losses */
OSR_API osr_tensor osr_loss_cac(osr_ctx *ctx, osr_tensor distances, osr_tensor labels,
                                float lambda);

#define OSR_DIFAIR_ALPHA 10.0f    /* anchor magnitude                                  */
#define OSR_DIFAIR_FEATURES 5     /* dimensions a class                                */
#define OSR_DIFAIR_RADIUS 0.6f    /* of the distance between two anchors               */
#define OSR_DIFAIR_PULL 0.1f      /* weight of the distance inside the radius          */
#define OSR_DIFAIR_LAMBDA 1.0f    /* weight of the correlation penalty                 */

/* osr_loss_difair - pull to the label's anchor, strongly outside a radius
 *
 *   L = mean_n [ pull d_ny + max(d_ny - radius, 0) ]
 *
 *   distances  f32 [N, K]  to the anchors
 *   radius     > 0; paper: OSR_DIFAIR_RADIUS * alpha * sqrt(2 F)
 *   pull       >= 0; code: OSR_DIFAIR_PULL
 *   source     Christoffel et al. (DIFAIR), smooth loss of the published code */
OSR_API osr_tensor osr_loss_difair(osr_ctx *ctx, osr_tensor distances, osr_tensor labels,
                                   float radius, float pull);

typedef enum osr_correlation {
    OSR_CORRELATION_CODE, /* absolute values, over F^2, summed over classes (the published code) */
    OSR_CORRELATION_PAPER /* plain correlation, mean over pairs and classes (the paper)          */
} osr_correlation;

/* osr_loss_correlation - penalty on correlated filters within a class
 *
 *   CODE   L = sum_k (1 / F^2) sum_{p < q} |rho_kpq|
 *   PAPER  L = (1 / K) sum_k (2 / (F (F - 1))) sum_{p < q} rho_kpq
 *   rho_kpq = correlation of filters p and q of class k over their M = I KH KW weights, population
 *   statistics, a standard deviation of 0 replaced by 1
 *
 *   w         f32 [K F, I, KH, KW] or [K F, M], a parameter
 *   features  F, divides the number of filters
 *   returns   f32 []; 0 for F = 1
 *   source    Christoffel et al. (DIFAIR), eq. of the paper and the published code */
OSR_API osr_tensor osr_loss_correlation(osr_ctx *ctx, osr_tensor w, int features,
                                        osr_correlation reading);

#define OSR_MOVR_TEMPERATURE 32.0f
#define OSR_MOVR_MARGIN 0.5f /* radians */

/* osr_loss_movr - one-versus-rest with an angular margin on every class
 *
 *   L = mean_n sum_k [ softplus(T s_nk) - 1{k = y_n} T s_nk ],  s = cos(arccos(c) + m)
 *
 *   cosines      f32 [N, K]  c, clamped to [-1 + 1e-6, 1 - 1e-6]
 *   temperature  T > 0; paper: OSR_MOVR_TEMPERATURE
 *   margin       m >= 0 in radians; paper: OSR_MOVR_MARGIN; 0 is plain one-versus-rest
 *   source       Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436, eq. 2, 3 */
OSR_API osr_tensor osr_loss_movr(osr_ctx *ctx, osr_tensor cosines, osr_tensor labels,
                                 float temperature, float margin);

#define OSR_MOVR_ROTATION 0.1f /* weight of the rotation head, see osr_model_train */

/* osr_loss_ovr - one-versus-rest: K binary problems
 *
 *   L = mean_n sum_k [ softplus(z_nk) - 1{k = y_n} z_nk ]
 *
 *   logits     f32 [N, K]
 *   numerics   softplus(-z) for the label's class: no digits cancel
 *   source     Shu et al. (DOC), EMNLP 2017, arXiv:1709.08716; Park et al., arXiv:2209.11436, eq. 2
 *   differs    the published code of Neal et al. takes the mean over the classes, too */
OSR_API osr_tensor osr_loss_ovr(osr_ctx *ctx, osr_tensor logits, osr_tensor labels);

/* One row a method's loss. The last four have learned points p_k beside the cross-entropy. */
typedef enum osr_loss_kind {
    OSR_LOSS_CE, OSR_LOSS_CAC, OSR_LOSS_DIFAIR, OSR_LOSS_MOVR, OSR_LOSS_OVR, OSR_LOSS_CENTER,
    OSR_LOSS_GCPL, OSR_LOSS_RPL, OSR_LOSS_ARPL
} osr_loss_kind;

#define OSR_POINTS_LAMBDA 0.1f   /* weight of the term, codes of GCPL, RPL and ARPL */
#define OSR_CENTER_LAMBDA 0.003f /* the same of the centre loss, its paper on MNIST */

/* osr_loss_points - the second term of the losses with learned points
 *
 *   L = cross_entropy(z) + lambda T, with d_nk = ||x_n - p_k||^2 / D for D features:
 *   CENTER  T = mean_n d_ny / 2, d without 1 / D;   z from a linear layer
 *   GCPL    T = mean_n d_ny / 2;                    z = -d
 *   RPL     T = mean_n (d_ny - R)^2;                z = d
 *   ARPL    T = mean_n max(0, d_ny - R + 1);        z = d - x p'
 *
 *   distances  f32 [N, K]  d, from osr_squared_distance
 *   radius     f32 [1]  R, a parameter; {0} for CENTER and GCPL
 *   errors     ARG another kind
 *   differs    Wen et al. move a centre by half the mean gap to its images in each step; here the
 *              optimiser moves it by the gradient of T, without lambda as in the published code:
 *              rate 1 / lambda of osr_squared_distance
 *   source     Wen et al., ECCV 2016 (CENTER); Yang et al., CVPR 2018, arXiv:1805.03438 (GCPL);
 *              Chen et al., ECCV 2020, arXiv:2011.00178 (RPL), TPAMI 2021, arXiv:2103.00953 (ARPL);
 *              the last three as in the published code of ARPL */
OSR_API osr_tensor osr_loss_points(osr_ctx *ctx, osr_loss_kind kind, osr_tensor distances,
                                   osr_tensor labels, osr_tensor radius);

/* == optimisers and schedules == --------------------------------------------------------------- */

typedef enum osr_optimiser_kind { OSR_SGD, OSR_ADAM } osr_optimiser_kind;

/* For SGD: g' = g + wd w (coupled) or w -= lr wd w first (decoupled); v = momentum v + g',
 * w -= lr v.
 * For Adam: m, v with beta1, beta2, bias corrected; decay coupled (L2) or decoupled (AdamW). */
typedef struct osr_optimiser_desc {
    osr_optimiser_kind kind;
    float lr;            /* >= 0, zero means zero                                              */
    float momentum;      /* SGD; 0 <= momentum < 1                                             */
    float weight_decay;  /* >= 0                                                               */
    int decoupled;       /* non-zero: decay apart from the gradient                            */
    float beta1, beta2, eps; /* Adam; 0: 0.9, 0.999, 1e-8                                      */
    uint32_t step;       /* Adam: number of this update, from 1                                */
} osr_optimiser_desc;

/* osr_optimiser_step - update parameters with the gradients of this step, in one launch
 *
 *   desc      lr, step and so on may change from step to step without a new plan
 *   first     the first of `count` parameters created one after the other; {0}: all
 *   count     ignored when first is {0}
 *   errors    ARG; HANDLE
 *   source    SGD as PyTorch has it; Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter,
 *             arXiv:1711.05101 (decoupled decay) */
OSR_API osr_status osr_optimiser_step(osr_ctx *ctx, const osr_optimiser_desc *desc,
                                      osr_tensor first, int count);

typedef enum osr_schedule_kind { OSR_CONSTANT, OSR_STEP, OSR_COSINE } osr_schedule_kind;

typedef struct osr_schedule {
    osr_schedule_kind kind;
    float lr;             /* base                                                              */
    float lr_min;         /* COSINE: floor                                                     */
    float gamma;          /* STEP: factor a period                                             */
    uint32_t period;      /* STEP: steps between drops; COSINE: steps of a cycle (0: total)    */
    uint32_t total;       /* COSINE: steps of the run                                          */
    uint32_t warmup;      /* steps of linear warm-up from lr / warmup to lr, before the rest   */
} osr_schedule;

/* osr_schedule_lr - learning rate of a step
 *
 *   warm-up   lr (step + 1) / warmup                                    for step < warmup
 *   CONSTANT  lr
 *   STEP      lr gamma^floor(t / period),                               t = step - warmup
 *   COSINE    lr_min + (lr - lr_min) (1 + cos(pi (t mod period) / period)) / 2
 *
 *   schedule  period 0 for COSINE: total - warmup, so that the last step is near lr_min
 *   step      from 0
 *   returns   the rate; a schedule with impossible sizes gives lr
 *   source    Loshchilov and Hutter, arXiv:1608.03983 (cosine with warm restarts) */
OSR_API float osr_schedule_lr(const osr_schedule *schedule, uint32_t step);

/* == jacobian norms == ------------------------------------------------------------------------- */

typedef enum osr_direction {
    OSR_COORDINATES, /* unit vectors: every input coordinate in turn; exact sum                */
    OSR_GAUSSIAN,    /* entries N(0, 1): E ||J v||^2 = ||J||_F^2                               */
    OSR_RADEMACHER   /* entries +-1: the same, with less variance                              */
} osr_direction;

typedef struct osr_perturb_desc {
    osr_direction direction;
    int first, count; /* coordinates or directions first..first+count-1                        */
    float step;       /* h > 0                                                                 */
    float jitter;     /* t >= 0, draw >= 1: both copies also move by t u_j, signs u_j by chance,  */
    int draw;         /* others with another draw                                              */
    int own;          /* 0: all images have the same directions; else image n has its own, those
                         of number own + n                                                     */
    uint64_t seed;    /* of the directions                                                     */
} osr_perturb_desc;

/* osr_perturb - copies of each image, moved both ways along directions
 *
 *   y[(n count + j) 2 + 0] = x[n] + t u_j + h v_j
 *   y[(n count + j) 2 + 1] = x[n] + t u_j - h v_j
 *
 *   x         f32 [N, H, W, C], no gradient
 *   returns   f32 [2 N count, H, W, C]
 *   source    central differences; directions by Philox 4x32-10, counter = element, direction,
 *             draw, image */
OSR_API osr_tensor osr_perturb(osr_ctx *ctx, osr_tensor x, const osr_perturb_desc *desc);

/* osr_difference_norm - squared central differences, summed over directions
 *
 *   s_n = sum_j < (f[(n count + j) 2] - f[(n count + j) 2 + 1]) / (2 step), the same of g >
 *
 *   f         f32 [2 N count, D], the network's answer to osr_perturb; no gradient
 *   g         f itself, which makes s_n a squared norm; or the answer to another draw along the
 *             same directions: what both round is not squared then, which small steps need
 *   returns   f32 [N]; for COORDINATES over all coordinates sqrt(s_n) is ||J||_F, for the random
 *             kinds sqrt(s_n / count) estimates it */
OSR_API osr_tensor osr_difference_norm(osr_ctx *ctx, osr_tensor f, osr_tensor g, float step,
                                       int count);

/* osr_square_sum - squared length of each image
 *
 *   s_n = sum x[n]^2
 *
 *   x         f32 [N, H, W, C]; no gradient
 *   returns   f32 [N] */
OSR_API osr_tensor osr_square_sum(osr_ctx *ctx, osr_tensor x);

/* == augmentation == --------------------------------------------------------------------------- */

/* Byte images that batches are taken from. They lie on the device where they fit: uploaded once, or
 * on a CPU device used where they are. */
typedef struct osr_images osr_images;

typedef struct osr_images_desc {
    const unsigned char *pixels; /* [count, height, width, channels]                           */
    size_t count;
    int height, width; /* 1 to 8192                                                            */
    int channels;      /* 1 grey, 3 RGB                                                        */
    int upload;        /* non-zero: pixels change, so send each batch anew                     */
} osr_images_desc;

/* osr_images_create - make a set of images known to a context
 *
 *   desc      pixels stay the caller's, and must live until osr_images_destroy
 *   out       the set; NULL on failure
 *   returns   OK. Sets beyond a quarter of the device's memory, or beyond its largest buffer, are
 *             not kept there: as with .upload, each batch is sent
 *   errors    ARG a field (named); MEMORY; DEVICE
 *   lifetime  until osr_images_destroy, which comes before osr_ctx_destroy */
OSR_API osr_status osr_images_create(osr_ctx *ctx, const osr_images_desc *desc, osr_images **out);

/* osr_images_destroy - forget a set of images; NULL is allowed; no step that uses it may be open */
OSR_API void osr_images_destroy(osr_images *images);

/* RandAugment's ops. */
typedef enum osr_randaugment_op {
    OSR_RANDAUGMENT_AUTO_CONTRAST, OSR_RANDAUGMENT_EQUALIZE, OSR_RANDAUGMENT_INVERT,
    OSR_RANDAUGMENT_ROTATE, OSR_RANDAUGMENT_POSTERIZE, OSR_RANDAUGMENT_SOLARIZE,
    OSR_RANDAUGMENT_SOLARIZE_ADD, OSR_RANDAUGMENT_COLOR, OSR_RANDAUGMENT_CONTRAST,
    OSR_RANDAUGMENT_BRIGHTNESS, OSR_RANDAUGMENT_SHARPNESS, OSR_RANDAUGMENT_SHEAR_X,
    OSR_RANDAUGMENT_SHEAR_Y, OSR_RANDAUGMENT_CUTOUT, OSR_RANDAUGMENT_TRANSLATE_X,
    OSR_RANDAUGMENT_TRANSLATE_Y, OSR_RANDAUGMENT_IDENTITY, OSR_RANDAUGMENT_COUNT
} osr_randaugment_op;

/* What the published recipes leave out for digits: rotation and translation. */
#define OSR_RANDAUGMENT_DIGITS                                                                     \
    (1u << OSR_RANDAUGMENT_ROTATE | 1u << OSR_RANDAUGMENT_TRANSLATE_X                              \
     | 1u << OSR_RANDAUGMENT_TRANSLATE_Y)

enum { OSR_RANDAUGMENT_MOST = 16 };

typedef struct osr_randaugment {
    int ops;          /* drawn for each image, with replacement; 0: none; OSR_RANDAUGMENT_MOST */
    float magnitude;  /* Pillow's variant 0 to 30, TensorFlow's 0 to 10                        */
    unsigned without; /* 1 << osr_randaugment_op for each op left out                          */
} osr_randaugment;

/* What is done to an image, in the order in which it is done; {0}: nothing. Each is drawn anew for
 * every image of every step. */
typedef struct osr_augment_desc {
    int height, width, channels; /* of the result; 0: as the images                            */
    osr_randaugment pillow;      /* RandAugment as Vaze et al. have it, at the images' own size */
    /* here images are scaled to height x width, bilinearly */
    float contrast;              /* c: (x - mean) U[1-c, 1+c] + mean of each channel, clipped  */
    int contrast_batch;          /* non-zero: one factor for the batch (Keras' RandomContrast) */
    float brightness;            /* b: x + 255 U[-b, b], clipped (Keras' RandomBrightness)     */
    osr_randaugment tensorflow;  /* RandAugment as DIFAIR has it                               */
    float resized_crop;          /* s in (0, 1]: a part of area U[s, 1] and of log-uniform
                                    aspect 3/4 to 4/3, scaled to the whole; 0: none            */
    int crop_pad;                /* p: a crop of p black pixels round the image                */
    int crop_batch;              /* non-zero: one offset for the batch (Keras' RandomCrop)     */
    float flip;                  /* probability of a mirror image                              */
    float rotate;                /* degrees: by U[-r, r], nearest pixel, black corners         */
    int cutout;                  /* side in pixels of a black square, centre anywhere          */
} osr_augment_desc;

/* osr_augment - a batch of images, augmented
 *
 *   y[i] = augment(images[index[i]]) / 255
 *
 *   index     [n]  numbers in the set; NULL: 0..n-1
 *   desc      NULL means {0}
 *   returns   f32 [n, height, width, channels] in 0..1, without gradient. Grey becomes
 *             RGB by repetition, RGB grey as 0.299 R + 0.587 G + 0.114 B. One upload; two
 *             launches, two more for each op of RandAugment, one for a resampling
 *   errors    ARG a field (named), a number outside the set; DEVICE; MEMORY
 *   numerics  what is random is drawn on the host by Philox 4x32-10: key = the context's seed,
 *             counter = draw, place in the batch, step (osr_ctx_set_step)
 *   differs:  cutout blackens; DeVries and Taylor leave the mean of the training pixels
 *   source    Cubuk et al., arXiv:1909.13719 (RandAugment; lists and magnitudes of
 *             github.com/sgvaze/osr_closed_set_all_you_need and of TensorFlow's models, 2.13);
 *             DeVries and Taylor, arXiv:1708.04552; resized crop, rotation as torchvision's */
OSR_API osr_tensor osr_augment(osr_ctx *ctx, osr_images *images, const uint32_t *index, int n,
                               const osr_augment_desc *desc);

/* == scores == --------------------------------------------------------------------------------- */

/* What a network gives for an image; a score's row says which of them it reads. */
enum {
    OSR_OUT_LOGITS = 1,        /* z [K]                                                    */
    OSR_OUT_DISTANCES = 2,     /* d [K] >= 0, to the class anchors or centres              */
    OSR_OUT_COSINES = 4,       /* c [K], to the class prototypes                           */
    OSR_OUT_REPRESENTATION = 8, /* r [D] whose values belong to classes                    */
    OSR_OUT_FEATURES = 16,     /* f [F]: osr_model_feature_dims                            */
    OSR_OUT_JACOBIAN = 32,     /* norm of the Jacobian                                     */
    OSR_OUT_LOSSES = 64,       /* the method's loss under each label [K]                   */
    OSR_OUT_ALWAYS = 112       /* these three: every method gives them                     */
};

/* Outputs of a number of images; a pointer that the row does not need may be NULL. */
typedef struct osr_score_input {
    const float *logits, *distances, *cosines; /* [images, classes]                          */
    const float *representation;               /* [images, dims]                             */
    const float *features, *losses;            /* [images, feature_dims], [images, classes]  */
    const double *jacobian;                    /* [images]                                   */
    int classes, dims;         /* K >= 1; D >= 1 where the representation is read              */
    int feature_dims;          /* F >= 1 where the features are read                           */
    float temperature;         /* T of movr and movr_margin; 0: OSR_MOVR_TEMPERATURE           */
    float margin;              /* m of movr_margin in radians, zero means zero                 */
    const float *calibration;  /* the tensor that the row names; NULL where it names none      */
    size_t calibration_count;  /* values at calibration                                        */
} osr_score_input;

/* One score: larger = more unknown. */
typedef struct osr_score_row {
    const char *name;
    unsigned needs;          /* OSR_OUT_ bits                                                  */
    const char *calibration; /* the model-file tensor with its own numbers, NULL: it has none;
                                osr_model_calibrate_start */
    double (*fn)(const osr_score_input *in); /* of the first image; reads without checking     */
    const char *help, *source;
} osr_score_row;

typedef enum osr_predict_rule {
    OSR_PREDICT_LOGIT,    /* argmax z                                    */
    OSR_PREDICT_GAMMA,    /* argmin d o (1 - softmin(d)), CAC            */
    OSR_PREDICT_DISTANCE, /* argmin d                                    */
    OSR_PREDICT_COSINE    /* argmax c                                    */
} osr_predict_rule;

/* osr_score_at - a score by its place in the table: 0, 1, ... until the answer is NULL
 * osr_score_find - the same by its name; NULL for an unknown name or NULL
 *
 *   source    osr_score_row */
OSR_API const osr_score_row *osr_score_at(int index);
OSR_API const osr_score_row *osr_score_find(const char *name);

/* osr_score_lacks - what a score reads and a method does not give
 *
 *   outputs   the OSR_OUT_ bits of an osr_method_row; OSR_OUT_ALWAYS is taken for granted
 *   returns   "logits" and the like, constant text; NULL where nothing is missing
 *   source    osr_score_row */
OSR_API const char *osr_score_lacks(const osr_score_row *row, unsigned outputs);

#define OSR_OPENMAX_TAIL 20
#define OSR_OPENMAX_ALPHA 10
#define OSR_MAHALANOBIS_MOST 1024 /* features F */
#define OSR_JACOBIAN_SCORE_DIRECTIONS 8

/* osr_score_compute - one score for a number of images
 *
 *   msp           1 - max_k p_k,  p = softmax(z)
 *   mls           -max_k z_k
 *   energy        -ln sum_k exp(z_k)
 *   entropy       -sum_k p_k ln p_k
 *   cac           min_k gamma_k,  gamma_k = d_k (1 - exp(-d_k) / sum_j exp(-d_j))
 *   difair        min_k d_k
 *   max_response  -max_j r_j
 *   max_cosine    -max_k c_k
 *   movr          ln(1 + exp(-T s_y)) + sum_{k != y} ln(1 + exp(T s_k)),  s = c,  y = argmax c
 *   movr_margin   the same with s_k = cos(arccos(c_k) + m)
 *   openmax       u - ln sum_k exp(v'_k),  v'_k = z_k (1 - w_k r_k),  u = sum_k z_k w_k r_k,
 *                 r = (A + 1 - i) / A for the i-th largest z_k, i <= A = min(10, K), else 0,
 *                 w_k = 1 - exp(-(x / scale_k)^shape_k), x = max(0, ||z - mean_k|| + 1 - shift_k)
 *   ncm           min_k ||f - mean_k||
 *   mahalanobis   min_k sqrt((f - mean_k)' S^-1 (f - mean_k)), S = (1 - rho) C + rho tr(C) / F I,
 *                 C the covariance within classes, rho by OAS
 *   jacobian      osr_model_jacobian: FD, NORMALISED, 8 Rademacher directions of seed 0 always, so
 *                 that a threshold holds later; 16 further passes an image
 *   sample_loss   min_k L(x, k), L the method's loss without label smoothing, margin and the second
 *                 term of learned points: that of the predicted class
 *
 *   row       from osr_score_find or osr_score_at
 *   in        the outputs that row->needs names
 *   images    N >= 0
 *   scores    f64 [N]      larger = more unknown
 *   returns   OK or the first error; scores are not to be used after an error
 *   errors    ARG a NULL pointer, a size, the calibration, or T or m not usable; NAN an input value
 *             that is not finite (the message has the number of such images and the first index)
 *   numerics  double; sums of exponentials from the largest down, 1 - p_k as the sum of the other
 *             classes, so that no digits cancel; cosines clamped to 1 - 1e-6 as in the loss;
 *             with one class msp, entropy and cac are 0 for every image. sample_loss is f32 from
 *             the device: a softmax loss below 6e-8 is 0
 *   differs   msp is published as -max p: the same order, without ties where max p rounds to 1.
 *             m-OvR's paper has the margin in training; movr scores the plain cosines. OpenMax is
 *             published as P = exp(u) / (exp(u) + sum_k exp(v'_k)): this is ln(P / (1 - P))
 *   source    each row's `source` */
OSR_API osr_status osr_score_compute(osr_ctx *ctx, const osr_score_row *row,
                                     const osr_score_input *in, int images, double *scores);

/* osr_predict_class - the known class of each image, whatever its score
 *
 *   rule      what is largest or smallest
 *   in        logits, distances or cosines, as the rule says
 *   images    N >= 0
 *   classes   i32 [N]      0..K-1; the lowest index among equals
 *   errors    ARG a NULL pointer, a size or the rule; NAN as osr_score_compute
 *   numerics  double; gamma grows with d, so that GAMMA and DISTANCE differ in rounding only
 *   source    Miller et al., WACV 2021, arXiv:2004.02434 (GAMMA) */
OSR_API osr_status osr_predict_class(osr_ctx *ctx, osr_predict_rule rule,
                                     const osr_score_input *in, int images, int32_t *classes);
/* == metrics == -------------------------------------------------------------------------------- */

/* Scores of a test set; larger = more unknown. */
typedef struct osr_open_scores {
    const double *known;    /* [known_count]    scores of images of known classes              */
    const uint8_t *correct; /* [known_count]    non-zero: its class was predicted; may be NULL */
    const double *unknown;  /* [unknown_count]  scores of images of unknown classes            */
    size_t known_count, unknown_count;
    int known_classes, unknown_classes; /* for openness only; 0: not stated                    */
} osr_open_scores;

/* Every field is in 0..1 or NaN where it has no meaning (print it as JSON null): all but
 * closed_accuracy and openness without known or without unknown images, closed_accuracy and oscr
 * without `correct`, auroc_error with one image on a side, openness without known classes. */
typedef struct osr_open_metrics {
    double closed_accuracy;    /* correct known images / known images                          */
    double auroc;              /* P(s_known < s_unknown) + 0.5 P(equal)                        */
    double auroc_error;        /* its standard error (DeLong)                                  */
    double aupr_unknown;       /* average precision, unknown images positive                   */
    double aupr_known;         /* the same, known images positive (score -s)                   */
    double fpr95_known_pos;    /* share of unknown accepted once >= 95% of known are accepted  */
    double fpr95_unknown_pos;  /* share of known rejected once >= 95% of unknown are rejected  */
    double oscr;               /* mean over pairs: correct_i ([s_i < s_u] + 0.5 [s_i = s_u])   */
    double dtacc;              /* max over thresholds 0.5 (unknown rejected + known accepted)  */
    double openness;           /* 1 - sqrt(2 K / (2 K + U)), K known and U unknown classes     */
} osr_open_metrics;

/* Test images of all classes for osr_metric_macro_f1. */
typedef struct osr_decisions {
    const int32_t *labels;    /* [count]  0..classes - 1, or -1 unknown                        */
    const int32_t *predicted; /* [count]  0..classes - 1, or -1 unknown                        */
    const double *scores;     /* [count]  above the threshold: unknown, whatever `predicted`
                                 says; NULL: `predicted` alone decides                         */
    size_t count;
    int classes;              /* K >= 1                                                        */
    double threshold;
} osr_decisions;

/* osr_metric_open - all open-set figures of a test set
 *
 *   each field's formula stands beside it; thresholds are the scores that occur, ties fall
 *   together, AP = sum_n (R_n - R_{n-1}) P_n over them, without interpolation
 *
 *   in        known_count + unknown_count >= 1
 *   metrics   filled; all NaN after an error
 *   errors    ARG a NULL array, no image at all; NAN scores that are not finite, with their number
 *             and the first index; MEMORY
 *   numerics  double, O(n log n); counts are exact, so that order of images does not matter
 *   differs   OSCR is the exact area; the published code steps past it by up to one image
 *   source    AUROC, AP: Fawcett 2006 and scikit-learn's definitions; error: DeLong et al. 1988;
 *             FPR, DTACC: Liang et al., ICLR 2018, arXiv:1706.02690; OSCR: Dhamija et al., NeurIPS
 *             2018, arXiv:1811.04110; openness: Scheirer et al., TPAMI 2013, with K training and
 *             target, K + U test classes */
OSR_API osr_status osr_metric_open(osr_ctx *ctx, const osr_open_scores *in,
                                   osr_open_metrics *metrics);

/* osr_metric_threshold - the smallest score that accepts a share of images
 *
 *   t = s_(k), the k-th smallest score, k = ceil(share n - 1e-9), at least 1
 *
 *   scores    f64 [count]  of known validation images, count >= 1
 *   share     0 < share <= 1; usual 0.9
 *   threshold out; score > t is called unknown
 *   errors    ARG; NAN as osr_metric_open; MEMORY
 *   source    empirical quantile */
OSR_API osr_status osr_metric_threshold(osr_ctx *ctx, const double *scores, size_t count,
                                        double share, double *threshold);

/* osr_metric_macro_f1 - mean F1 over K known classes and unknown
 *
 *   F1_c = 2 TP_c / (2 TP_c + FP_c + FN_c), mean over the classes that occur
 *
 *   in        labels, predictions and threshold, count >= 1
 *   f1        out; a class that is in neither labels nor predictions is left out of the mean
 *   errors    ARG a NULL array, a class outside -1..K-1; NAN; MEMORY
 *   source    scikit-learn's macro average; unknown as a class: Scheirer et al., TPAMI 2013 */
OSR_API osr_status osr_metric_macro_f1(osr_ctx *ctx, const osr_decisions *in, double *f1);

/* == model files == ---------------------------------------------------------------------------- */

/* One row an element type: name in the file, bytes. */
#define OSR_DTYPE_LIST(X)                                                                          \
    X(F32, 4)                                                                                      \
    X(I32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U8, 1)                                                                                       \
    X(U64, 8)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(F64, 8)

typedef enum osr_dtype {
#define OSR__DTYPE_ENUM(name, bytes) OSR_DTYPE_##name,
    OSR_DTYPE_LIST(OSR__DTYPE_ENUM)
#undef OSR__DTYPE_ENUM
    OSR_DTYPE_COUNT
} osr_dtype;

#define OSR_FILE_FORMAT 1         /* N of the `format=osr-N` that this version writes and reads  */
#define OSR_FILE_RANK 8           /* most dimensions                                           */
#define OSR_FILE_NAME 128         /* most bytes of a tensor's name, printable ASCII            */
#define OSR_FILE_TENSORS 4096     /* most tensors, and most metadata keys                      */
#define OSR_FILE_HEADER (1 << 20) /* most bytes of a header                                    */

/* A safetensors file that has been read and checked. */
typedef struct osr_file osr_file;

/* What a safetensors file will hold. */
typedef struct osr_writer osr_writer;

typedef struct osr_file_entry {
    const char *name; /* lives as long as the file                                              */
    osr_dtype dtype;
    int rank; /* 0: one element                                                                 */
    uint64_t shape[OSR_FILE_RANK];
    uint64_t count, bytes; /* of elements; both at least 1                                      */
} osr_file_entry;

typedef struct osr_file_desc {
    int allow_not_finite; /* non-zero: NaN and infinities may stand in floating tensors          */
} osr_file_desc;

/* osr_file_open, osr_file_open_memory - read and check a safetensors file, or the bytes of one
 *
 *   path      a regular file
 *   data      [bytes]      copied during the call; `name` stands for the path in messages
 *   desc      NULL means {0}
 *   out       the file, NULL after an error
 *   errors    ARG; IO it cannot be read; FORMAT anything in it is not as it must be; UNSUPPORTED a
 *             newer osr-N; NAN a value that is not finite (or is beyond float32, in F64); MEMORY;
 *             the message begins with the path
 *   lifetime  until osr_file_close, which must come before osr_ctx_destroy
 *   numerics  the hash in the metadata key osr.xxh64 covers every byte, its own 16 digits read as
 *             0; a file without it (saved again by another tool) is read too
 *   differs   stricter than the format: header of at most 1 MiB, plain decimal integers, no
 *             duplicate keys, no empty tensors, no holes between tensors, only the OSR_FILE_ limits
 *             and types above
 *   source    safetensors format (8-byte length, JSON header, little-endian tensors); XXH64 */
OSR_API osr_status osr_file_open(osr_ctx *ctx, const char *path, const osr_file_desc *desc,
                                 osr_file **out);
OSR_API osr_status osr_file_open_memory(osr_ctx *ctx, const void *data, size_t bytes,
                                        const char *name, const osr_file_desc *desc,
                                        osr_file **out);

/* osr_file_close - release a file (NULL is allowed); its entries and strings die with it */
OSR_API void osr_file_close(osr_file *file);

/* osr_file_count - number of tensors, 0..OSR_FILE_TENSORS
 * osr_file_tensor - a tensor by its place in the order of names; NULL outside
 * osr_file_find - a tensor by its name; NULL where there is none
 *
 *   lifetime  as the file */
OSR_API int osr_file_count(const osr_file *file);
OSR_API const osr_file_entry *osr_file_tensor(const osr_file *file, int index);
OSR_API const osr_file_entry *osr_file_find(const osr_file *file, const char *name);

/* osr_file_read_f32 - the values of a floating tensor
 * osr_file_read_raw - the elements of a tensor as they are, in the byte order of the host
 *
 *   name      of a tensor; osr_file_read_f32: of type F32, F16, BF16 or F64
 *   dtype     that the tensor must have
 *   count     its number of elements
 *   values    [count]      row-major; raw of the host's type: float, int32_t, int64_t, uint8_t,
 *                          uint64_t, double; uint16_t for F16 and BF16
 *   errors    FORMAT no such tensor, or another type; SHAPE another number of elements; ARG
 *   numerics  as float F16 and BF16 exactly, F64 rounded to nearest */
OSR_API osr_status osr_file_read_f32(const osr_file *file, const char *name, size_t count,
                                     float *values);
OSR_API osr_status osr_file_read_raw(const osr_file *file, const char *name, osr_dtype dtype,
                                     size_t count, void *values);

/* osr_file_meta - a metadata string, UTF-8; NULL where there is no such key
 * osr_file_meta_at - the same in the order of keys: 0, 1, ... until the answer is NULL
 *
 *   key       osr.xxh64 is there in a file that carried its hash, which then was right, and not in
 *             one that another tool wrote. osr_file_meta_at: out, may be NULL
 *   lifetime  as the file */
OSR_API const char *osr_file_meta(const osr_file *file, const char *key);
OSR_API const char *osr_file_meta_at(const osr_file *file, int index, const char **key);

/* osr_writer_create - an empty file in memory, NULL after an error
 * osr_writer_destroy - release it, before osr_ctx_destroy; NULL is allowed
 *
 *   errors    ARG; MEMORY */
OSR_API osr_status osr_writer_create(osr_ctx *ctx, osr_writer **out);
OSR_API void osr_writer_destroy(osr_writer *writer);

/* osr_writer_meta, osr_writer_tensor - add a metadata string, and a tensor
 *
 *   key       UTF-8, new; not format, osr.version or osr.xxh64, which are written by themselves
 *   value     UTF-8, copied
 *   name      1..OSR_FILE_NAME bytes of printable ASCII, new
 *   dtype     files of this library hold F32 and integers; the others are for exchange
 *   rank      0..OSR_FILE_RANK
 *   shape     u64 [rank]   each at least 1; may be NULL for rank 0
 *   values    row-major, types as osr_file_read_raw; copied during the call
 *   errors    ARG; SHAPE; MEMORY; after one, saving is refused with it */
OSR_API osr_status osr_writer_meta(osr_writer *writer, const char *key, const char *value);
OSR_API osr_status osr_writer_tensor(osr_writer *writer, const char *name, osr_dtype dtype,
                                     int rank, const uint64_t *shape, const void *values);

/* osr_writer_save - write the file, whole or not at all
 * osr_writer_save_memory - the same bytes, in memory
 *
 *   path      a new or existing regular file, replaced (as is a symbolic link) by rename once the
 *             new one is complete and on disk; a file beside it, path.tmp.PROCESS.N, holds it until
 *             then and is removed on failure
 *   data      [capacity]   filled when capacity suffices; NULL with capacity 0 to ask for the size
 *   bytes     out, size of the file
 *   errors    ARG a header beyond OSR_FILE_HEADER, or 0 < capacity < size; IO, with the system's
 *             reason; MEMORY; after any error the file is the whole old or the whole new one
 *   numerics  the same content gives the same bytes: sorted by element size, then name; no locale
 *   differs   under Windows the old file is removed before the rename
 *   source    safetensors format, profile osr-1 */
OSR_API osr_status osr_writer_save(osr_writer *writer, const char *path);
OSR_API osr_status osr_writer_save_memory(osr_writer *writer, void *data, size_t capacity,
                                          size_t *bytes);

/* == methods == -------------------------------------------------------------------------------- */

/* The numbers of the methods' losses. Zero means zero; a method's row has the published values. */
typedef struct osr_method_numbers {
    float alpha;       /* CAC, DIFAIR: anchor magnitude, > 0                                  */
    float lambda;      /* CAC: anchor term; DIFAIR: correlation penalty; learned points: T    */
    float radius;      /* DIFAIR: of the distance between two anchors, > 0                    */
    float pull;        /* DIFAIR: weight of the distance inside the radius                    */
    float temperature; /* m-OvR, > 0                                                          */
    float margin;      /* m-OvR, radians                                                      */
    float smoothing;   /* cross-entropy, with or without points: label smoothing              */
    float rotation;    /* any: weight of the rotation head, see osr_model_train; 0: none      */
    int features;      /* DIFAIR: dimensions a class, >= 1                                    */
    int correlation;   /* DIFAIR: an osr_correlation                                          */
} osr_method_numbers;

/* What a method is trained with unless the user says otherwise. */
typedef struct osr_recipe {
    float lr, momentum, weight_decay;
    osr_schedule_kind schedule;
    int warmup; /* steps */
} osr_recipe;

/* One row a method: head, loss, calibration, default score, defaults. */
typedef struct osr_method_row {
    const char *name, *help;
    unsigned outputs;         /* OSR_OUT_ bits that its scores may read                       */
    osr_predict_rule rule;    /* the known class                                              */
    const char *score;        /* by default                                                   */
    int calibrates;           /* 1: anchors become class means after training                 */
    osr_loss_kind loss;
    osr_vgg32_desc vgg32;     /* variant of VGG32; `out` is set by the number of classes      */
    osr_method_numbers numbers;
    osr_recipe recipe;
    const char *source;
} osr_method_row;

/* osr_method_at - a method by its place in the table: 0, 1, ... until the answer is NULL
 * osr_method_find - the same by its name; NULL for an unknown name or NULL */
OSR_API const osr_method_row *osr_method_at(int index);
OSR_API const osr_method_row *osr_method_find(const char *name);

/* osr_method_width - how many values the last layer of a method's network gives
 *
 *   returns   ce, cac, ovr, center: K; difair: K * features; movr, gcpl, rpl, arpl: 0, any width */
OSR_API int osr_method_width(const osr_method_row *method, const osr_method_numbers *numbers,
                             int classes);

typedef struct osr_model_desc {
    const osr_method_row *method;
    osr_method_numbers numbers;
    int height, width, channels;     /* of the network's input; channels 1 to 4                */
    float mean[4], std[4];           /* of the training pixels in 0..1, by channel; std > 0    */
    int classes;                     /* K >= 1                                                 */
    const char *const *class_names;  /* [K]; NULL: "0", "1", ...                               */
    const osr_layer *layers;         /* the network                                            */
    int layer_count;
    const char *net_name;            /* for people; NULL: "custom"                             */
    const char *score;               /* NULL: the method's default                             */
} osr_model_desc;

/* A network with its method's head, anchors or prototypes, preprocessing, score and threshold. */
typedef struct osr_model osr_model;

/* osr_model_create - a model that is to be trained
 *
 *   desc      everything but the threshold, which is infinite until it is set: nothing is
 *             unknown yet
 *   out       the model
 *   errors    ARG a field (named); SHAPE the network does not end in the method's width; MEMORY
 *   lifetime  until osr_model_destroy; its parameters: context */
OSR_API osr_status osr_model_create(osr_ctx *ctx, const osr_model_desc *desc, osr_model **out);

/* osr_model_destroy - free a model (NULL is allowed); its parameters stay with the context */
OSR_API void osr_model_destroy(osr_model *model);

/* osr_model_get_desc - what the model was made or loaded with; lives as long as the model
 * osr_model_context - the context that it lives in */
OSR_API const osr_model_desc *osr_model_get_desc(const osr_model *model);
OSR_API osr_ctx *osr_model_context(const osr_model *model);

/* osr_model_tensors - every parameter and state tensor, in rows that live as long as the model */
OSR_API const osr_named *osr_model_tensors(const osr_model *model, int *count);

/* Handles of one forward pass; {0} for what the method does not give. */
typedef struct osr_model_values {
    osr_tensor logits, distances, cosines; /* [N, K]                                          */
    osr_tensor representation;             /* [N, D]: what scores and Jacobian norms read     */
    osr_tensor maps;                       /* [N, h, w, C]: the last layer with places; or {0}  */
    osr_tensor loss, correct;              /* [] ; only where labels were given               */
} osr_model_values;

/* osr_model_forward - record a forward pass, and the method's loss where labels are given
 *
 *   images    f32 [N, H, W, C] in 0..1, from osr_input
 *   labels    from osr_labels with K classes; {0}: no loss
 *   train     non-zero: dropout on, batch statistics, training anchors
 *   values    handles of this step
 *   errors    HANDLE; SHAPE
 *   lifetime  step */
OSR_API osr_status osr_model_forward(osr_model *model, osr_tensor images, osr_tensor labels,
                                     int train, osr_model_values *values);

/* osr_model_train - one training step on a batch
 * osr_model_train_on - the same with images that are on the device
 *
 *   images     f32 [n, H, W, C] in 0..1; on the device of this step, from osr_augment or osr_input
 *   labels     i32 [n]
 *   optimiser  updates the model's own parameters
 *   loss       out, mean over the batch; NULL: not read
 *   correct    out, number of images whose class is right; NULL: not read
 *   errors     as the ops; NAN an image value is not finite
 *
 * With a weight `rotation` the network reads each (square) image turned by 0, 90, 180 and 270
 * degrees; a linear layer on the representation tells which, and the mean cross-entropy of the
 * four, weighted, is added to the loss. The method's own loss is of the upright images.
 *
 *   source     Park et al., arXiv:2209.11436, L_self; which head, the paper leaves open
 *   differs    the row of m-OvR has weight 0, for it is four times the work; OSR_MOVR_ROTATION */
OSR_API osr_status osr_model_train(osr_model *model, const float *images, const int32_t *labels,
                                   int n, const osr_optimiser_desc *optimiser, float *loss,
                                   float *correct);
OSR_API osr_status osr_model_train_on(osr_model *model, osr_tensor images, const int32_t *labels,
                                      const osr_optimiser_desc *optimiser, float *loss,
                                      float *correct);

/* Host arrays for the outputs of n images; NULL for what is not wanted or not given. */
typedef struct osr_outputs {
    float *logits, *distances, *cosines; /* [n, K]                                            */
    float *representation;               /* [n, D], D = osr_model_dims                        */
    float *loss;                         /* [1], mean; needs labels                           */
    float *features;                     /* [n, F], F = osr_model_feature_dims                */
    float *losses;                       /* [n, K], of each label, as score sample_loss       */
    double *jacobian;                    /* [n], as score jacobian                            */
} osr_outputs;

/* osr_model_dims - width D of the representation
 * osr_model_feature_dims - width F of the features that ncm and mahalanobis read
 *
 *   the representation: what a final linear layer reads in methods with logits, else the network's
 *   output. Where that is a flattened [H, W, C], its mean over H and W, as Lee et al. have it; of
 *   methods with cosines at unit length
 *
 *   source    Lee et al., NeurIPS 2018, arXiv:1807.03888, section 2.2 */
OSR_API int osr_model_dims(const osr_model *model);
OSR_API int osr_model_feature_dims(const osr_model *model);

/* osr_model_run - outputs of a batch in eval mode
 *
 *   images    f32 [n, H, W, C] in 0..1
 *   labels    i32 [n], or NULL: no loss
 *   out       arrays to fill
 *   errors    as the ops */
OSR_API osr_status osr_model_run(osr_model *model, const float *images, const int32_t *labels,
                                 int n, const osr_outputs *out);

/* osr_model_score - class and score of each image from its outputs
 * osr_model_has_score - can the model give this score? 0 where osr_model_score is UNSUPPORTED
 *
 *   row       a score that the method's outputs allow
 *   outputs   arrays from osr_model_run with what the row needs and what the method's rule reads
 *   scores    f64 [n]   larger = more unknown; NULL: not wanted
 *   classes   i32 [n]   the known class; NULL: not wanted
 *   errors    UNSUPPORTED the method does not give what the score needs, or the model lacks its
 *             calibration (named); NAN
 *   source    the score's row */
OSR_API osr_status osr_model_score(osr_model *model, const osr_score_row *row,
                                   const osr_outputs *outputs, int n, double *scores,
                                   int32_t *classes);
OSR_API int osr_model_has_score(const osr_model *model, const osr_score_row *row);

enum {
    OSR_CALIBRATE_METHOD = 1, /* what the method itself asks for after training               */
    OSR_CALIBRATE_SCORES = 2, /* what the scores of the model read; saved with it             */
    OSR_CALIBRATE_ALL = 3
};

/* osr_model_calibrate_start - begin a calibration
 * osr_model_calibrate_add - a batch of training images of the known classes, without augmentation
 * osr_model_calibrate_end - put the calibration into force
 *
 *   METHOD  CAC: each anchor becomes the mean logit of its class's correctly classified images.
 *           Other methods: nothing
 *   SCORES  score.openmax     [K, K + 3]: mean logits of the class's correctly classified images,
 *                             then shift, scale and shape of the Weibull distribution of the 20
 *                             largest of their distances to that mean, plus 1; 0 0 0 (never
 *                             revised) where no two differ. Of methods with logits
 *           score.ncm         [K, F]: mean features of each class
 *           score.mahalanobis [K + F, F]: W mean_k, then W, W' W = S^-1; not for F > 1024. With
 *                             S = tr(C) / F I where C is 0, W = I for that, too
 *           a class without an image lies at 1e18 in the last two
 *
 *   what      one of these or both
 *   images    f32 [n, H, W, C] in 0..1
 *   labels    i32 [n]
 *   empty     out: number of classes without a correct image, whose anchor stays and which OpenMax
 *             never revises; 0 for methods without logits; may be NULL
 *   errors    as osr_model_run; ARG not started; MEMORY, K + 1 floats for each correct image until
 *             the end
 *   numerics  double sums in the order of the images; the results are rounded to float, so that
 *             the saved model gives the same scores
 *   source    Miller et al., WACV 2021, arXiv:2004.02434, section 3.3; the scores' rows */
OSR_API osr_status osr_model_calibrate_start(osr_model *model, unsigned what);
OSR_API osr_status osr_model_calibrate_add(osr_model *model, const float *images,
                                           const int32_t *labels, int n);
OSR_API osr_status osr_model_calibrate_end(osr_model *model, int *empty);

/* osr_model_set_threshold - above which score an image is unknown
 * osr_model_threshold - the threshold in force; infinity where none was set
 *
 *   row        the score it belongs to; osr_model_threshold: out, may be NULL
 *   threshold  any number but NaN
 *   errors     ARG; UNSUPPORTED as osr_model_score */
OSR_API osr_status osr_model_set_threshold(osr_model *model, const osr_score_row *row,
                                           double threshold);
OSR_API double osr_model_threshold(const osr_model *model, const osr_score_row **row);

typedef struct osr_prediction {
    int known;              /* score <= threshold                                              */
    int label;              /* the most likely known class, whatever the score                 */
    const char *name;       /* its name; lives as long as the model                            */
    double score, threshold;
} osr_prediction;

/* osr_model_predict - a known class or "unknown" for each picture
 *
 *   pixels       u8 [n, height, width, channels]
 *   channels     1 grey or 3 RGB; adapted to the model (grey = 0.299 R + 0.587 G + 0.114 B).
 *                Resized bilinearly in float with half-pixel centres
 *   predictions  [n] filled
 *   errors       ARG sizes, channels; as osr_model_run */
OSR_API osr_status osr_model_predict(osr_model *model, const unsigned char *pixels, int n,
                                     int height, int width, int channels,
                                     osr_prediction *predictions);

typedef enum osr_jacobian_method { OSR_JACOBIAN_AUTO, OSR_JACOBIAN_FD, OSR_JACOBIAN_EXACT }
    osr_jacobian_method;

typedef enum osr_jacobian_of {
    OSR_JACOBIAN_NORMALISED, /* the representation divided by its length                       */
    OSR_JACOBIAN_RAW,        /* the representation                                             */
    OSR_JACOBIAN_LOGITS      /* logits, distances or cosines: what the class is read from      */
} osr_jacobian_of;

typedef struct osr_jacobian_desc {
    osr_jacobian_method method; /* AUTO: the cheaper of all coordinates and exact             */
    osr_jacobian_of of;
    osr_direction direction;    /* FD: coordinates, or random directions                      */
    int directions;             /* FD with random directions: how many, >= 1                  */
    float step;                 /* FD: h in the image's scale -1..1; 0: OSR_JACOBIAN_STEP, and for
                                   coordinates OSR_JACOBIAN_COORDINATE_STEP                    */
    int own;                    /* non-zero: each image of a call has directions of its own,
                                   which a mean over images gains from                        */
    uint64_t seed;              /* FD with random directions                                  */
} osr_jacobian_desc;

#define OSR_JACOBIAN_STEP 0.002f
#define OSR_JACOBIAN_COORDINATE_STEP 0.0005f

/* osr_model_jacobian - Frobenius norm of the Jacobian of each image, in eval mode
 *
 *   ||df/dx||_F,  x = the image in the scale -1..1
 *   EXACT  sqrt(sum_d ||df_d/dx||^2), one backward pass an output
 *   FD     central differences over every coordinate, or sqrt of the mean of ||J v||^2 over random
 *          directions v with E[v v'] = I (its square is unbiased). Over coordinates it sums the
 *          products of differences at two images near x (every value h/10 off, its sign by chance),
 *          so that small steps do not square their rounding into the sum
 *
 *   images    f32 [n, H, W, C] in 0..1
 *   desc      NULL means {0}
 *   norms     f64 [n]
 *   used      out, FD or EXACT; may be NULL
 *   errors    ARG; as osr_model_run
 *   source    Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436; random
 *             projections as Hoffman et al., arXiv:1908.02729 */
OSR_API osr_status osr_model_jacobian(osr_model *model, const float *images, int n,
                                      const osr_jacobian_desc *desc, double *norms,
                                      osr_jacobian_method *used);

/* osr_model_write - put a model into a writer, beside whatever the caller adds
 * osr_model_read - make the model that a file holds
 * osr_model_read_moments - the optimiser's state from a file that was written with it
 *
 *   moments   non-zero: the optimiser's state too, for a checkpoint
 *   metadata  osr.method, osr.net, osr.layers, osr.input (H W C), osr.mean, osr.std, osr.classes
 *             (one name a line), osr.score, osr.threshold, osr.numbers, osr.rotation
 *   tensors   as osr_model_tensors names them; opt.m.*, opt.v.* the optimiser's state; score.* as
 *             osr_model_calibrate_start, each may be missing
 *   out       the model
 *   errors    MEMORY; DEVICE; SHAPE; NAN a parameter is not finite; FORMAT what is missing or does
 *             not fit
 *   lifetime  until osr_model_destroy
 *   source    safetensors */
OSR_API osr_status osr_model_write(osr_model *model, osr_writer *writer, int moments);
OSR_API osr_status osr_model_read(osr_ctx *ctx, const osr_file *file, osr_model **out);
OSR_API osr_status osr_model_read_moments(osr_model *model, const osr_file *file);

/* osr_model_save - write a model file, whole or not at all, replaced by rename
 * osr_model_load, osr_model_load_memory - a model from a file, or from the bytes of one
 *
 *   data      u8 [bytes], not kept
 *   out       the model
 *   errors    IO; FORMAT; as osr_model_write, osr_model_read */
OSR_API osr_status osr_model_save(osr_model *model, const char *path);
OSR_API osr_status osr_model_load(osr_ctx *ctx, const char *path, osr_model **out);
OSR_API osr_status osr_model_load_memory(osr_ctx *ctx, const void *data, size_t bytes,
                                         osr_model **out);

#ifdef __cplusplus
}
#endif
#endif /* OSR_H */

#if defined(OSR_IMPLEMENTATION) && !defined(OSR_IMPLEMENTED)
#define OSR_IMPLEMENTED

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#ifdef __APPLE__
#include <OpenCL/opencl.h>
#else
#include <CL/cl.h>
#endif
#ifdef OSR_CLBLAST
#include <clblast_c.h>
#endif
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <io.h>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* == status == --------------------------------------------------------------------------------- */

OSR_API const char *osr_status_text(osr_status status)
{
    static const char *const text[] = {
#define OSR__STATUS_TEXT(name, words) words,
        OSR_STATUS_LIST(OSR__STATUS_TEXT)
#undef OSR__STATUS_TEXT
    };
    return (unsigned)status < (unsigned)OSR_STATUS_COUNT ? text[status] : "unknown status";
}

OSR_API const char *osr_version(void)
{
    return OSR_VERSION;
}

/* == context and devices == -------------------------------------------------------------------- */

/* Programs: what a training step needs, its convolutions and products with small and large tiles,
 * augmentation, the peak. Few, because a driver takes a good tenth of a second to begin each, and
 * each built when it is first used; COMMON is part of all. */
enum { OSR__PROGRAM_STEP, OSR__PROGRAM_SMALL, OSR__PROGRAM_LARGE, OSR__PROGRAM_AUGMENT,
       OSR__PROGRAM_PEAK, OSR__PROGRAM_COUNT, OSR__PROGRAM_COMMON = OSR__PROGRAM_COUNT };

/* Tiles of kernels/conv_gpu.cl and matmul_gpu.cl by osr_products (last: of what CLBlast leaves). */
typedef struct osr__tile {
    int rows, outputs, items, product_rows, product_outputs, product_items;
} osr__tile;

static const osr__tile osr__tiles[] = { { 128, 64, 128, 64, 64, 128 }, { 64, 32, 64, 32, 32, 64 },
                                        { 128, 128, 256, 128, 64, 256 },
                                        { 128, 64, 128, 64, 64, 128 } };

/* One row a kernel file: its program, and whether the families differ. */
#define OSR__FILES(X)                                                                              \
    X(common, COMMON, 0) X(conv, STEP, 1) X(matmul, STEP, 1) X(winograd, STEP, 1)                  \
    X(norm, STEP, 0) X(element, STEP, 0) X(layout, STEP, 0) X(pool, STEP, 0) X(rows, STEP, 0)      \
    X(loss, STEP, 0) X(optimiser, STEP, 0) X(jacobian, STEP, 0) X(peak, PEAK, 0)                   \
    X(augment, AUGMENT, 0)

typedef enum osr__file {
#define OSR__FILE_ENUM(name, program, split) OSR__FILE_##name,
    OSR__FILES(OSR__FILE_ENUM)
#undef OSR__FILE_ENUM
    OSR__FILE_COUNT
} osr__file;

/* One row a kernel: name, file. */
#define OSR__KERNELS(X)                                                                            \
    X(conv_pack, conv) X(conv_taps, conv) X(conv_dgrad, conv) X(conv_wgrad, conv)                  \
    X(conv_wgrad_reduce, conv)                                                                     \
    X(wino_pack, winograd) X(wino_conv, winograd) X(wino2_conv, winograd)                          \
    X(wino_wgrad, winograd) X(wino_wgrad_filter, winograd) X(wino_tiles, winograd)                 \
    X(wino_output, winograd)                                                                       \
    X(matmul_nn, matmul) X(matmul_nt, matmul) X(matmul_tn, matmul)                                 \
    X(norm_plane_stats, norm) X(norm_merge, norm) X(norm_fixed, norm) X(norm_drop, norm)           \
    X(norm_act, norm)                                                                              \
    X(norm_act_sums, norm) X(norm_merge_sums, norm) X(norm_act_dx, norm) X(dense_act, norm)        \
    X(dense_act_dx, norm)                                                                          \
    X(map_dense, element) X(map_image, element) X(spread, element) X(fill_dense, element)          \
    X(fill_image, element) X(sum_all, element) X(column_sum, element) X(plane_sum, element)        \
    X(bias_dense, element) X(bias_image, element)                                                  \
    X(image_from_dense, layout) X(image_to_dense, layout) X(image_turns, layout)                   \
    X(pool, pool) X(pool_dx, pool) X(global_pool, pool) X(global_pool_dx, pool)                    \
    X(softmax, rows) X(softmax_dx, rows) X(logsumexp, rows) X(logsumexp_dx, rows)                  \
    X(row_sum, rows) X(row_spread, rows) X(pick, rows) X(pick_dx, rows) X(row_correct, rows)       \
    X(normalise, rows) X(normalise_dx, rows) X(anchor_distance, rows)                              \
    X(anchor_distance_dx, rows) X(anchor_distance_da, rows)                                        \
    X(loss_cross_entropy, loss) X(loss_cac, loss) X(loss_difair, loss) X(loss_movr, loss)          \
    X(correlation_stats, loss) X(correlation_rho, loss) X(correlation_sum, loss)                   \
    X(correlation_dw, loss)                                                                        \
    X(sgd, optimiser) X(adam, optimiser)                                                           \
    X(perturb, jacobian) X(difference_norm, jacobian) X(square_sum, jacobian)                      \
    X(augment_load, augment) X(augment_look, augment) X(augment_apply, augment)                    \
    X(augment_resample, augment) X(augment_tone, augment) X(augment_place, augment) X(peak, peak)

typedef enum osr__kernel {
#define OSR__KERNEL_ENUM(name, file) OSR__K_##name,
    OSR__KERNELS(OSR__KERNEL_ENUM)
#undef OSR__KERNEL_ENUM
    OSR__KERNEL_COUNT
} osr__kernel;

#ifdef OSR_CLBLAST
#define OSR__CLBLAST 1
#else
#define OSR__CLBLAST 0
#endif

/* The embedded text of a kernel file; the table is at the end of this header. */
typedef struct osr__cl_file {
    const char *name;
    const char *const *lines;
    unsigned count;
} osr__cl_file;

/* Device memory of all parameters (values, gradients, two moments) or of all state. */
enum { OSR__VALUE, OSR__GRADIENT, OSR__MOMENT1, OSR__MOMENT2, OSR__STATE, OSR__ARENAS };

typedef struct osr__arena {
    cl_mem mem;
    size_t count, capacity; /* in floats */
} osr__arena;

/* A parameter or state tensor: where its values begin in its arena. */
typedef struct osr__persist {
    osr_shape shape;
    size_t offset;
    int state;           /* 1: in OSR__STATE                                          */
    uint32_t grad_step;  /* generation of the step that last wrote its gradient; 0: it is zero */
} osr__persist;

/* A reference: 0 none; a node's index; or OSR__PERSIST | arena << 28 | ordinal. */
#define OSR__PERSIST 0x80000000u
#define OSR__GENERATION_PERSIST 0xFFFFFFFFu

/* The part of a node that must be equal for a plan to serve again. 4-byte members only. */
typedef struct osr__record {
    int32_t op, keep, mark, backward;
    osr_shape shape;
    uint32_t in[6];
    int32_t ia[8];
    float fa[4];
} osr__record;

/* Where a value lies: a slot of device memory and, for images, (base, row, plane, img). */
typedef struct osr__loc {
    int slot;
    int l[4];
} osr__loc;

typedef union osr__word {
    uint32_t u;
    int32_t i;
    float f;
} osr__word;

#define OSR__DYNS 9 /* values of a node that may change from step to step */

typedef struct osr__node {
    osr__record r;
    osr__word dyn[OSR__DYNS];
    size_t data; /* inputs: offset of the values in the staging memory */
    osr__loc loc;
} osr__node;

/* A buffer that values of one layout share over time. */
typedef struct osr__slot {
    cl_mem mem;
    size_t bytes, want;
    int key[4];     /* CB, HP, WP, halo and used lanes of images; all 0 for dense values */
    int taken;      /* while a plan is made                               */
    uint32_t busy;  /* generation of the step that still needs its value  */
} osr__slot;

#ifdef OSR_CLBLAST
/* `batch` products c [m, n] = op(a) [m, k] op(b) [k, n] by CLBlast; room: for one, or NULL. */
typedef struct osr__gemm {
    cl_mem mem[3], room;
    size_t offset[3], ld[3], stride[3], m, n, k, batch;
    int ta, tb;
} osr__gemm;
#endif

typedef struct osr__launch {
    cl_kernel kernel; /* NULL: an upload of the node's staged data, or CLBlast */
    osr__kernel name;
    int products;
#ifdef OSR_CLBLAST
    osr__gemm gemm; /* batch 0: none */
#endif
    uint32_t node;
    size_t global[3], local[3];
    int dyn_count;
    struct { cl_uint arg; int index; } dyn[OSR__DYNS];
    cl_mem mem;
    size_t bytes;
    double flops;
} osr__launch;

/* A recorded step (or the part of one up to a read), ready to be replayed. */
typedef struct osr__plan {
    uint64_t hash;
    uint32_t first, count; /* nodes first..first+count-1 */
    osr__record *records;
    osr__loc *locs;
    unsigned char *kept;
    osr__loc *outside; /* locations of the values from before that it reads, in order of use */
    size_t outside_count, outside_capacity;
    osr__launch *launches;
    size_t launch_count, launch_capacity;
    int *scratch; /* slots, in the order of use */
    size_t scratch_count, scratch_capacity;
    int *uses;   /* every slot of the plan */
    size_t use_count, use_capacity;
    int *constant; /* ordinal of each node's constant + 1; 0: it has none */
    int mutates;   /* whether it changes parameters, gradients or state  */
} osr__plan;

/* A value that depends on parameters and state only, such as packed weights: inference makes it
 * again only when one of them has changed. */
typedef struct osr__constant {
    osr__record r;
    int slot;
    uint32_t version; /* of the context when it was made; 0: not yet */
} osr__constant;

/* What makes a pass of a convolution, or a product. key: as osr__conv, but last the pass. */
enum { OSR__FORWARD, OSR__INPUT_GRADIENT, OSR__WEIGHT_GRADIENT, OSR__NN, OSR__NT, OSR__TN,
       OSR__PASS_COUNT };

typedef struct osr__choice {
    int key[12], winograd, products;
    int seen; /* it has been recorded, so that the key is good */
} osr__choice;

struct osr_ctx {
    osr_allocator allocator;
    osr_logger logger;
    osr_status status;
    char message[512];
    uint64_t seed;
    osr_kernels family;
    int direct, products;
    char *kernel_dir, *cache_dir; /* cache_dir NULL: no cache */
    int binaries, tuned;          /* whether cache_dir is for programs; whether choices are used */
    char *tuning_path, *tuning;   /* NULL: no cache; the text of osr_ctx_tuning */
    size_t tuning_capacity;
    osr__choice *choices;
    size_t choice_count, choice_capacity;
    osr_device device;
    osr_ctx_stats stats;
    cl_device_id id;
    cl_context cl;
    cl_command_queue queue;
    cl_program programs[OSR__PROGRAM_COUNT];
    osr__arena arenas[OSR__ARENAS];
    osr__persist *persists;
    size_t persist_count, persist_capacity;
    osr__node *nodes; /* the tape; nodes[0] is never used */
    osr__node nowhere; /* node 0, which an op has after an error: written, never run */
    size_t node_count, node_capacity, done, fused;
    uint32_t generation, step, drop_stream;
    int mark, backward;
    unsigned char *staging;
    size_t staging_count, staging_capacity;
    uint32_t *walk; /* work space of differentiation: three words a node */
    size_t walk_capacity;
    osr_images *images; /* every set, newest first */
    int32_t images_made;
    int walk_params;
    osr__slot *slots;
    size_t slot_count, slot_capacity;
    osr__constant *constants;
    size_t constant_count, constant_capacity;
    uint32_t version; /* counts changes of parameters and state */
    osr__plan **plans;
    size_t plan_count, plan_capacity;
    osr__plan *making;
    int loss_rows; /* 1: losses are recorded as one value a row, not as their mean */
    int measuring; /* 1: count scratch only, 0: emit launches */
    size_t scratch_next, launches_wanted; /* of the plan that is being made */
    unsigned programs_wanted;             /* the same: a bit each           */
    uint32_t making_node;
    cl_uint arg_next;
    int profiling;
    osr_launch_time *times;
    size_t time_count, time_capacity;
};

static void osr__log(const osr_ctx *ctx, int level, const char *message)
{
    if (ctx->logger.fn != NULL)
        ctx->logger.fn(ctx->logger.user, level, message);
}

/* Keep the first error and its message; returns status. */
static osr_status osr__fail(osr_ctx *ctx, osr_status status, const char *format, ...)
{
    char line[512];
    size_t i;
    va_list args;
    if (ctx == NULL)
        return status;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (i = 0; line[i] != '\0'; ++i)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    if (ctx->status == OSR_OK) {
        ctx->status = status;
        memcpy(ctx->message, line, sizeof line);
        osr__log(ctx, 0, line);
    }
    return status;
}

static void *osr__default_allocator(void *user, void *ptr, size_t old_size, size_t new_size)
{
    (void)user;
    (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}

/* a * b, or 0 where it overflows; the only way sizes are multiplied. */
static size_t osr__mul(size_t a, size_t b)
{
    return b != 0 && a > (size_t)-1 / b ? 0 : a * b;
}

/* Resize an array; the new part is zero. NULL on failure, with the old block kept. */
static void *osr__resize(osr_ctx *ctx, void *ptr, size_t old_count, size_t new_count, size_t size)
{
    const size_t old_size = old_count * size, new_size = osr__mul(new_count, size);
    void *p = NULL;
    if (new_size != 0)
        p = ctx->allocator.fn(ctx->allocator.user, ptr, old_size, new_size);
    if (p == NULL) {
        osr__fail(ctx, OSR_MEMORY, "out of memory: %lu elements of %lu bytes",
                  (unsigned long)new_count, (unsigned long)size);
        return NULL;
    }
    if (new_size > old_size)
        memset((char *)p + old_size, 0, new_size - old_size);
    ctx->stats.allocations++;
    ctx->stats.host_bytes += new_size - old_size;
    if (ctx->stats.host_bytes > ctx->stats.host_peak_bytes)
        ctx->stats.host_peak_bytes = ctx->stats.host_bytes;
    return p;
}

static void *osr__alloc(osr_ctx *ctx, size_t count, size_t size)
{
    return osr__resize(ctx, NULL, 0, count, size);
}

static void osr__free(osr_ctx *ctx, void *ptr, size_t count, size_t size)
{
    if (ptr == NULL)
        return;
    ctx->allocator.fn(ctx->allocator.user, ptr, count * size, 0);
    ctx->stats.host_bytes -= count * size;
}

/* Make room for one more element; doubles. 0 on failure. */
static int osr__grow(osr_ctx *ctx, void *array, size_t *capacity, size_t needed, size_t size)
{
    void *p, *old;
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    if (needed <= *capacity)
        return 1;
    while (wanted < needed)
        wanted *= 2;
    memcpy(&old, array, sizeof old);
    p = osr__resize(ctx, old, *capacity, wanted, size);
    if (p == NULL)
        return 0;
    memcpy(array, &p, sizeof p);
    *capacity = wanted;
    return 1;
}

static char *osr__copy_text(osr_ctx *ctx, const char *text)
{
    char *copy = (char *)osr__alloc(ctx, strlen(text) + 1, 1);
    if (copy != NULL)
        memcpy(copy, text, strlen(text) + 1);
    return copy;
}

/* A text that grows; `failed` after an allocation that did. */
typedef struct osr__text {
    osr_ctx *ctx;
    char *data;
    size_t length, capacity;
    int failed;
} osr__text;

static void osr__text_add(osr__text *t, const void *s, size_t bytes)
{
    if (!t->failed)
        t->failed = !osr__grow(t->ctx, &t->data, &t->capacity, t->length + bytes, 1);
    if (t->failed || bytes == 0)
        return;
    memcpy(t->data + t->length, s, bytes);
    t->length += bytes;
}

static void osr__text_put(osr__text *t, const char *s)
{
    osr__text_add(t, s, strlen(s));
}

/* At most 127 characters. */
static void osr__text_print(osr__text *t, const char *format, ...)
{
    char line[128];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    osr__text_put(t, line);
}

static void osr__free_text(osr_ctx *ctx, char *text)
{
    if (text != NULL)
        osr__free(ctx, text, strlen(text) + 1, 1);
}

static const char *osr__cl_name(cl_int code)
{
    switch (code) {
    case -1: return "device not found";
    case -2: return "device not available";
    case -3: return "compiler not available";
    case -4: return "device memory allocation failed";
    case -5: return "out of resources";
    case -6: return "out of host memory";
    case -11: return "program does not build";
    case -30: return "invalid value";
    case -36: return "invalid command queue";
    case -38: return "invalid memory object";
    case -46: return "invalid kernel name";
    case -48: return "invalid kernel";
    case -49: return "invalid argument index";
    case -50: return "invalid argument value";
    case -51: return "invalid argument size";
    case -52: return "kernel arguments not set";
    case -54: return "invalid work-group size";
    case -55: return "invalid work-item size";
    case -61: return "invalid buffer size";
    case -1001: return "no OpenCL platform";
    default: return code < -1001 ? "CLBlast error" : "OpenCL error";
    }
}

/* Record a failed OpenCL call: what was called and for what. */
static osr_status osr__cl_fail(osr_ctx *ctx, const char *call, const char *what, cl_int code)
{
    const osr_status s = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY
                                 || code == CL_INVALID_BUFFER_SIZE
                             ? OSR_MEMORY
                             : OSR_DEVICE;
    return osr__fail(ctx, s, "%s (%s): %s (%d)", call, what, osr__cl_name(code), (int)code);
}

#define OSR__MAX_PLATFORMS 16
#define OSR__MAX_DEVICES 64

static void osr__device_describe(cl_platform_id platform, cl_device_id id, osr_device *d)
{
    cl_device_type type = 0;
    cl_ulong memory = 0, local = 0, max_alloc = 0;
    cl_uint units = 0;
    memset(d, 0, sizeof *d);
    clGetDeviceInfo(id, CL_DEVICE_NAME, sizeof d->name - 1, d->name, NULL);
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof d->platform - 1, d->platform, NULL);
    clGetDeviceInfo(id, CL_DRIVER_VERSION, sizeof d->driver - 1, d->driver, NULL);
    clGetDeviceInfo(id, CL_DEVICE_VERSION, sizeof d->version - 1, d->version, NULL);
    clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    clGetDeviceInfo(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, NULL);
    clGetDeviceInfo(id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
    clGetDeviceInfo(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof max_alloc, &max_alloc, NULL);
    clGetDeviceInfo(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    d->kind = type & CL_DEVICE_TYPE_CPU   ? OSR_DEVICE_CPU
              : type & CL_DEVICE_TYPE_GPU ? OSR_DEVICE_GPU
                                          : OSR_DEVICE_OTHER;
    d->memory_bytes = memory;
    d->local_bytes = local;
    d->max_alloc_bytes = max_alloc;
    d->compute_units = units;
}

/* All devices of all platforms; returns their number, at most OSR__MAX_DEVICES. */
static int osr__devices(cl_platform_id *platforms, cl_device_id *ids, cl_int *code)
{
    cl_platform_id p[OSR__MAX_PLATFORMS];
    cl_uint np = 0, nd, i, j;
    int count = 0;
    *code = clGetPlatformIDs(OSR__MAX_PLATFORMS, p, &np);
    if (*code != CL_SUCCESS)
        return 0;
    for (i = 0; i < np && i < OSR__MAX_PLATFORMS; ++i) {
        cl_device_id d[OSR__MAX_DEVICES];
        const cl_int e = clGetDeviceIDs(p[i], CL_DEVICE_TYPE_ALL, OSR__MAX_DEVICES, d, &nd);
        if (e != CL_SUCCESS) {
            if (e != CL_DEVICE_NOT_FOUND)
                *code = e;
            continue;
        }
        for (j = 0; j < nd && count < OSR__MAX_DEVICES; ++j, ++count) {
            platforms[count] = p[i];
            ids[count] = d[j];
        }
    }
    return count;
}

OSR_API osr_status osr_device_list(osr_device *devices, int capacity, int *count)
{
    cl_platform_id platforms[OSR__MAX_DEVICES];
    cl_device_id ids[OSR__MAX_DEVICES];
    cl_int code;
    int i, n;
    if (count == NULL || (devices == NULL && capacity != 0))
        return OSR_ARG;
    n = osr__devices(platforms, ids, &code);
    *count = n;
    if (n == 0 && code != CL_SUCCESS && code != -1001)
        return OSR_DEVICE;
    for (i = 0; i < n && i < capacity; ++i)
        osr__device_describe(platforms[i], ids[i], &devices[i]);
    return OSR_OK;
}

static int osr__contains(const char *text, const char *part)
{
    size_t i, j, n = strlen(part);
    for (i = 0; text[i] != '\0'; ++i) {
        for (j = 0; j < n && text[i + j] != '\0'; ++j) {
            const char a = text[i + j], b = part[j];
            const char la = (char)(a >= 'A' && a <= 'Z' ? a + 32 : a);
            const char lb = (char)(b >= 'A' && b <= 'Z' ? b + 32 : b);
            if (la != lb)
                break;
        }
        if (j == n)
            return 1;
    }
    return n == 0;
}

/* Does device number `index` answer to `wanted`: a kind, an index, or part of a name? */
static int osr__device_matches(const osr_device *d, int index, const char *wanted)
{
    char *end = NULL;
    long v;
    if (strcmp(wanted, "cpu") == 0)
        return d->kind == OSR_DEVICE_CPU;
    if (strcmp(wanted, "gpu") == 0)
        return d->kind == OSR_DEVICE_GPU;
    v = strtol(wanted, &end, 10);
    if (*wanted != '\0' && end != NULL && *end == '\0')
        return v == index;
    return osr__contains(d->name, wanted) || osr__contains(d->platform, wanted);
}

static osr_status osr__device_choose(osr_ctx *ctx, const char *wanted)
{
    cl_platform_id platforms[OSR__MAX_DEVICES];
    cl_device_id ids[OSR__MAX_DEVICES];
    cl_int code;
    osr_device d;
    int i, best = -1;
    const int n = osr__devices(platforms, ids, &code);
    if (n == 0)
        return osr__fail(ctx, OSR_DEVICE,
                         "no OpenCL device: install a driver (for a CPU: pocl-opencl-icd); is its "
                         "cache directory (POCL_CACHE_DIR or HOME) writable? (%s, %d)",
                         osr__cl_name(code == CL_SUCCESS ? CL_DEVICE_NOT_FOUND : code), (int)code);
    for (i = 0; i < n && best < 0; ++i) {
        osr__device_describe(platforms[i], ids[i], &d);
        if (wanted != NULL ? osr__device_matches(&d, i, wanted) : d.kind == OSR_DEVICE_GPU)
            best = i;
    }
    if (best < 0 && wanted != NULL)
        return osr__fail(ctx, OSR_DEVICE, "no OpenCL device matches \"%s\" (%d found)", wanted, n);
    if (best < 0)
        best = 0;
    ctx->id = ids[best];
    osr__device_describe(platforms[best], ids[best], &ctx->device);
    return OSR_OK;
}

/* Where built kernels and choices of algorithms are kept; no place, no cache. */
static osr_status osr__cache_open(osr_ctx *ctx, const osr_ctx_desc *desc)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[1024];
    if (desc->cache == OSR_CACHE_OFF)
        return ctx->status;
    ctx->binaries = desc->cache == OSR_CACHE_ON
                    || !(osr__contains(ctx->device.platform, "portable computing language")
                         || osr__contains(ctx->device.platform, "nvidia"));
    path[0] = '\0';
    if (desc->cache_dir != NULL)
        snprintf(path, sizeof path, "%s", desc->cache_dir);
    else if (xdg != NULL && xdg[0] == '/')
        snprintf(path, sizeof path, "%s/osr", xdg);
    else if (home != NULL && home[0] == '/')
        snprintf(path, sizeof path, "%s/.cache/osr", home);
    if (path[0] != '\0')
        ctx->cache_dir = osr__copy_text(ctx, path);
    return ctx->status;
}

static osr_status osr__tuning_open(osr_ctx *ctx, const char *tuning);

static osr_status osr__device_open(osr_ctx *ctx, const osr_ctx_desc *desc)
{
    const char *wanted = desc->device, *family = getenv("OSR_KERNELS");
    cl_int code;
    if (wanted == NULL || *wanted == '\0')
        wanted = getenv("OSR_DEVICE");
    if (wanted != NULL && *wanted == '\0')
        wanted = NULL;
    if (osr__device_choose(ctx, wanted) != OSR_OK)
        return ctx->status;
    ctx->family = desc->kernels;
    if (ctx->family == OSR_KERNELS_AUTO && family != NULL && *family != '\0') {
        if (strcmp(family, "cpu") != 0 && strcmp(family, "gpu") != 0)
            return osr__fail(ctx, OSR_ARG, "OSR_KERNELS is \"%s\", not cpu or gpu", family);
        ctx->family = family[0] == 'c' ? OSR_KERNELS_CPU : OSR_KERNELS_GPU;
    }
    if (ctx->family == OSR_KERNELS_AUTO)
        ctx->family = ctx->device.kind == OSR_DEVICE_CPU ? OSR_KERNELS_CPU : OSR_KERNELS_GPU;
    if (ctx->family == OSR_KERNELS_CPU && ctx->products != OSR_PRODUCTS_FIXED)
        return osr__fail(ctx, OSR_ARG, "tiles and CLBlast are for the GPU kernels only");
    if (osr__cache_open(ctx, desc) != OSR_OK)
        return ctx->status;
    ctx->cl = clCreateContext(NULL, 1, &ctx->id, NULL, NULL, &code);
    if (ctx->cl == NULL)
        return osr__cl_fail(ctx, "clCreateContext", ctx->device.name, code);
    ctx->queue = clCreateCommandQueue(ctx->cl, ctx->id, CL_QUEUE_PROFILING_ENABLE, &code);
    if (ctx->queue == NULL)
        return osr__cl_fail(ctx, "clCreateCommandQueue", ctx->device.name, code);
    return desc->tuning != NULL ? osr__tuning_open(ctx, desc->tuning) : OSR_OK;
}

OSR_API osr_status osr_ctx_create(const osr_ctx_desc *desc, osr_ctx **out)
{
    osr_ctx_desc none;
    osr_allocator allocator;
    osr_ctx *ctx;
    memset(&none, 0, sizeof none);
    if (out == NULL)
        return OSR_ARG;
    *out = NULL;
    if (desc == NULL)
        desc = &none;
    allocator = desc->allocator;
    if (allocator.fn == NULL)
        allocator.fn = osr__default_allocator;
    ctx = (osr_ctx *)allocator.fn(allocator.user, NULL, 0, sizeof *ctx);
    if (ctx == NULL)
        return OSR_MEMORY;
    memset(ctx, 0, sizeof *ctx);
    *out = ctx;
    ctx->allocator = allocator;
    ctx->logger = desc->logger;
    ctx->stats.host_bytes = ctx->stats.host_peak_bytes = sizeof *ctx;
    ctx->stats.allocations = 1;
    ctx->seed = desc->seed;
    ctx->direct = desc->direct;
    ctx->nowhere.r.shape = osr_shape_make(0, 0, 0, 0, 0);
    ctx->products = (int)desc->products;
    ctx->generation = ctx->version = 1;
    ctx->mark = -1;
    ctx->family = OSR_KERNELS_CPU;
    if ((unsigned)desc->kernels > (unsigned)OSR_KERNELS_GPU)
        return osr__fail(ctx, OSR_ARG, "osr_ctx_create: kernels is %d", (int)desc->kernels);
    if ((unsigned)desc->products > (unsigned)OSR_PRODUCTS_CLBLAST)
        return osr__fail(ctx, OSR_ARG, "osr_ctx_create: products is %d", (int)desc->products);
    if (desc->products == OSR_PRODUCTS_CLBLAST && !OSR__CLBLAST)
        return osr__fail(ctx, OSR_UNSUPPORTED, "CLBlast is not built in (OSR_CLBLAST)");
    if (desc->kernel_dir != NULL) {
        ctx->kernel_dir = osr__copy_text(ctx, desc->kernel_dir);
        if (ctx->kernel_dir == NULL)
            return ctx->status;
    }
    return desc->no_device ? OSR_OK : osr__device_open(ctx, desc);
}

static void osr__mem_release(osr_ctx *ctx, cl_mem *mem, size_t bytes)
{
    if (*mem == NULL)
        return;
    clReleaseMemObject(*mem);
    *mem = NULL;
    ctx->stats.device_bytes -= bytes;
}

static void osr__plan_destroy(osr_ctx *ctx, osr__plan *plan)
{
    size_t i;
    for (i = 0; i < plan->launch_count; ++i)
        if (plan->launches[i].kernel != NULL)
            clReleaseKernel(plan->launches[i].kernel);
    osr__free(ctx, plan->records, plan->count, sizeof *plan->records);
    osr__free(ctx, plan->locs, plan->count, sizeof *plan->locs);
    osr__free(ctx, plan->kept, plan->count, 1);
    osr__free(ctx, plan->outside, plan->outside_capacity, sizeof *plan->outside);
    osr__free(ctx, plan->launches, plan->launch_capacity, sizeof *plan->launches);
    osr__free(ctx, plan->scratch, plan->scratch_capacity, sizeof *plan->scratch);
    osr__free(ctx, plan->uses, plan->use_capacity, sizeof *plan->uses);
    osr__free(ctx, plan->constant, plan->count, sizeof *plan->constant);
    osr__free(ctx, plan, 1, sizeof *plan);
}

static void osr__plans_drop(osr_ctx *ctx)
{
    size_t i;
    for (i = 0; i < ctx->plan_count; ++i)
        osr__plan_destroy(ctx, ctx->plans[i]);
    ctx->plan_count = 0;
}

OSR_API void osr_ctx_destroy(osr_ctx *ctx)
{
    osr_allocator allocator;
    size_t i;
    if (ctx == NULL)
        return;
    if (ctx->queue != NULL)
        clFinish(ctx->queue);
    osr__plans_drop(ctx);
    for (i = 0; i < ctx->slot_count; ++i)
        osr__mem_release(ctx, &ctx->slots[i].mem, ctx->slots[i].bytes);
    for (i = 0; i < OSR__ARENAS; ++i)
        osr__mem_release(ctx, &ctx->arenas[i].mem, ctx->arenas[i].capacity * sizeof(float));
    for (i = 0; i < OSR__PROGRAM_COUNT; ++i)
        if (ctx->programs[i] != NULL)
            clReleaseProgram(ctx->programs[i]);
    if (ctx->queue != NULL)
        clReleaseCommandQueue(ctx->queue);
    if (ctx->cl != NULL)
        clReleaseContext(ctx->cl);
    osr__free_text(ctx, ctx->kernel_dir);
    osr__free_text(ctx, ctx->cache_dir);
    osr__free_text(ctx, ctx->tuning_path);
    osr__free(ctx, ctx->tuning, ctx->tuning_capacity, 1);
    osr__free(ctx, ctx->choices, ctx->choice_capacity, sizeof *ctx->choices);
    osr__free(ctx, ctx->persists, ctx->persist_capacity, sizeof *ctx->persists);
    osr__free(ctx, ctx->nodes, ctx->node_capacity, sizeof *ctx->nodes);
    osr__free(ctx, ctx->staging, ctx->staging_capacity, 1);
    osr__free(ctx, ctx->walk, ctx->walk_capacity, sizeof *ctx->walk);
    osr__free(ctx, ctx->slots, ctx->slot_capacity, sizeof *ctx->slots);
    osr__free(ctx, ctx->plans, ctx->plan_capacity, sizeof *ctx->plans);
    osr__free(ctx, ctx->constants, ctx->constant_capacity, sizeof *ctx->constants);
    osr__free(ctx, ctx->times, ctx->time_capacity, sizeof *ctx->times);
    allocator = ctx->allocator;
    allocator.fn(allocator.user, ctx, sizeof *ctx, 0);
}

OSR_API osr_status osr_ctx_status(const osr_ctx *ctx)
{
    return ctx == NULL ? OSR_MEMORY : ctx->status;
}

OSR_API const char *osr_ctx_message(const osr_ctx *ctx)
{
    return ctx == NULL ? "out of memory" : ctx->message;
}

OSR_API const osr_device *osr_ctx_device(const osr_ctx *ctx)
{
    return &ctx->device;
}

OSR_API osr_kernels osr_ctx_kernels(const osr_ctx *ctx)
{
    return ctx->family;
}

OSR_API void osr_ctx_get_stats(const osr_ctx *ctx, osr_ctx_stats *stats)
{
    *stats = ctx->stats;
}

/* Device memory, filled with zeros. */
static cl_mem osr__mem_create(osr_ctx *ctx, size_t bytes)
{
    cl_int code = CL_SUCCESS;
    const cl_float zero = 0.0f;
    cl_mem mem;
    if (ctx->device.max_alloc_bytes != 0 && bytes > ctx->device.max_alloc_bytes) {
        osr__fail(ctx, OSR_MEMORY, "one buffer of %lu MiB, but the device allows %lu MiB: "
                  "use a smaller batch", (unsigned long)(bytes >> 20),
                  (unsigned long)(ctx->device.max_alloc_bytes >> 20));
        return NULL;
    }
    mem = clCreateBuffer(ctx->cl, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (mem == NULL) {
        osr__cl_fail(ctx, "clCreateBuffer", "device memory", code);
        return NULL;
    }
    code = clEnqueueFillBuffer(ctx->queue, mem, &zero, sizeof zero, 0, bytes, 0, NULL, NULL);
    if (code != CL_SUCCESS) {
        osr__cl_fail(ctx, "clEnqueueFillBuffer", "device memory", code);
        clReleaseMemObject(mem);
        return NULL;
    }
    ctx->stats.device_bytes += bytes;
    if (ctx->stats.device_bytes > ctx->stats.device_peak_bytes)
        ctx->stats.device_peak_bytes = ctx->stats.device_bytes;
    return mem;
}

static const osr__cl_file *osr__cl_find(const char *name);

/* Appends a kernel file from the context's kernel_dir. */
static void osr__file_text(osr_ctx *ctx, const char *name, osr__text *t)
{
    char path[1024];
    FILE *f;
    long n = -1;
    snprintf(path, sizeof path, "%s/%s.cl", ctx->kernel_dir, name);
    f = fopen(path, "rb");
    if (f != NULL && fseek(f, 0, SEEK_END) == 0)
        n = ftell(f);
    if (n < 0 || n > (1 << 24) || fseek(f, 0, SEEK_SET) != 0) {
        osr__fail(ctx, OSR_IO, "%s: %s", path, strerror(errno));
    } else if (osr__grow(ctx, &t->data, &t->capacity, t->length + (size_t)n, 1)) {
        if (fread(t->data + t->length, 1, (size_t)n, f) != (size_t)n)
            osr__fail(ctx, OSR_IO, "%s: read error", path);
        t->length += (size_t)n;
    }
    if (f != NULL)
        fclose(f);
}

/* The first line of a build log that names an error, into `line`. */
static void osr__build_error(osr_ctx *ctx, cl_program program, char *line, size_t size)
{
    size_t n = 0, i, start = 0;
    char *log;
    line[0] = '\0';
    if (clGetProgramBuildInfo(program, ctx->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &n) != CL_SUCCESS
        || n == 0)
        return;
    log = (char *)ctx->allocator.fn(ctx->allocator.user, NULL, 0, n + 1);
    if (log == NULL)
        return;
    memset(log, 0, n + 1);
    clGetProgramBuildInfo(program, ctx->id, CL_PROGRAM_BUILD_LOG, n, log, NULL);
    osr__log(ctx, 1, log);
    for (i = 0; i <= n; ++i)
        if (log[i] == '\n' || log[i] == '\0') {
            log[i] = '\0';
            if (line[0] == '\0' || (osr__contains(log + start, "error")
                                    && !osr__contains(line, "error")))
                snprintf(line, size, "%s", log + start);
            start = i + 1;
        }
    ctx->allocator.fn(ctx->allocator.user, log, n + 1, 0);
}

typedef struct osr__file_row {
    const char *name;
    unsigned char program, split;
} osr__file_row;

static const osr__file_row osr__files[] = {
#define OSR__FILE_ROW(name, program, split) { #name, OSR__PROGRAM_##program, split },
    OSR__FILES(OSR__FILE_ROW)
#undef OSR__FILE_ROW
};

/* Items of a work-group in the kernels that both families share. */
static int osr__local_size(const osr_ctx *ctx)
{
    return ctx->family == OSR_KERNELS_GPU ? 64 : 1;
}

/* The name of a kernel file of a program; 0 where it is none. */
static int osr__program_file(const osr_ctx *ctx, int program, unsigned k, char name[64])
{
    const osr__file_row *f = &osr__files[k];
    const int tiles = program == OSR__PROGRAM_SMALL || program == OSR__PROGRAM_LARGE;
    snprintf(name, 64, "%s%s", f->name, !f->split                          ? ""
                                        : ctx->family == OSR_KERNELS_GPU ? "_gpu"
                                                                         : "_cpu");
    return f->program == OSR__PROGRAM_COMMON
           || (tiles ? k == OSR__FILE_conv || k == OSR__FILE_matmul : f->program == program);
}

/* Bytes of the embedded text of a program, its end included. */
static size_t osr__program_bytes(const osr_ctx *ctx, int program)
{
    size_t bytes = 1;
    char name[64];
    unsigned i, k;
    for (k = 0; k < OSR__FILE_COUNT; ++k) {
        const osr__cl_file *file = osr__program_file(ctx, program, k, name) ? osr__cl_find(name)
                                                                            : NULL;
        for (i = 0; file != NULL && i < file->count; ++i)
            bytes += strlen(file->lines[i]);
    }
    return bytes;
}

/* The text of a program, common.cl first; NULL with the error recorded. */
static char *osr__program_text(osr_ctx *ctx, int program, size_t *size)
{
    osr__text t;
    char name[64];
    unsigned i, k;
    memset(&t, 0, sizeof t);
    t.ctx = ctx;
    if (ctx->kernel_dir == NULL) {
        t.capacity = osr__program_bytes(ctx, program);
        t.data = (char *)osr__alloc(ctx, t.capacity, 1);
        t.failed = t.data == NULL;
        t.capacity = t.failed ? 0 : t.capacity;
    }
    for (k = 0; k < OSR__FILE_COUNT; ++k) {
        const osr__cl_file *file;
        if (!osr__program_file(ctx, program, k, name))
            continue;
        file = ctx->kernel_dir == NULL ? osr__cl_find(name) : NULL;
        if (ctx->kernel_dir != NULL)
            osr__file_text(ctx, name, &t);
        else if (file == NULL)
            osr__fail(ctx, OSR_UNSUPPORTED, "kernels/%s.cl is not embedded", name);
        for (i = 0; file != NULL && i < file->count; ++i)
            osr__text_put(&t, file->lines[i]);
    }
    osr__text_add(&t, "", 1);
    *size = t.capacity;
    if (ctx->status == OSR_OK)
        return t.data;
    osr__free(ctx, t.data, t.capacity, 1);
    return NULL;
}

static uint64_t osr__xxh64(const unsigned char *p, size_t bytes);

/* A built program on disk: "OSRBIN1" and a zero, bytes, hash of the bytes, the bytes. */
typedef struct osr__cache_head {
    char magic[8];
    uint64_t bytes, hash;
} osr__cache_head;

/* What a program is a cache's entry of: its text, options, device and driver. */
static uint64_t osr__cache_key(const osr_ctx *ctx, const char *text, const char *options)
{
    uint64_t h[8];
    memset(h, 0, sizeof h);
    h[0] = osr__xxh64((const unsigned char *)text, strlen(text));
    h[1] = osr__xxh64((const unsigned char *)options, strlen(options));
    h[2] = osr__xxh64((const unsigned char *)ctx->device.name, sizeof ctx->device.name);
    h[3] = osr__xxh64((const unsigned char *)ctx->device.platform, sizeof ctx->device.platform);
    h[4] = osr__xxh64((const unsigned char *)ctx->device.driver, sizeof ctx->device.driver);
    h[5] = osr__xxh64((const unsigned char *)ctx->device.version, sizeof ctx->device.version);
    h[6] = osr__xxh64((const unsigned char *)OSR_VERSION, sizeof OSR_VERSION);
    return osr__xxh64((const unsigned char *)h, sizeof h);
}

/* Make the folders that path lies in. */
static void osr__make_folders(char *path)
{
#ifndef _WIN32
    size_t i;
    for (i = 1; path[i] != '\0'; ++i)
        if (path[i] == '/') {
            path[i] = '\0';
            mkdir(path, 0777);
            path[i] = '/';
        }
#else
    (void)path;
#endif
}

/* The program in a cache file, built; NULL where there is none that is whole and fits. */
static cl_program osr__cache_load(osr_ctx *ctx, const char *path, const char *options)
{
    osr__cache_head head;
    unsigned char *bytes = NULL;
    const unsigned char *binary;
    cl_program program = NULL;
    cl_int code = CL_SUCCESS, state = CL_SUCCESS;
    size_t n = 0;
    long size;
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    rewind(f);
    if (fread(&head, sizeof head, 1, f) == 1 && memcmp(head.magic, "OSRBIN1", 8) == 0
        && head.bytes > 0 && head.bytes + sizeof head == (uint64_t)size) {
        n = (size_t)head.bytes;
        bytes = (unsigned char *)osr__alloc(ctx, n, 1);
    }
    if (bytes != NULL && fread(bytes, 1, n, f) == n && osr__xxh64(bytes, n) == head.hash) {
        binary = bytes;
        program = clCreateProgramWithBinary(ctx->cl, 1, &ctx->id, &n, &binary, &state, &code);
        if (program != NULL
            && (state != CL_SUCCESS
                || clBuildProgram(program, 1, &ctx->id, options, NULL, NULL) != CL_SUCCESS)) {
            clReleaseProgram(program);
            program = NULL;
        }
    }
    osr__free(ctx, bytes, n, 1);
    fclose(f);
    return program;
}

/* Keep a built program. A cache that cannot be written is a warning, no more: a file is complete
 * under its name or not there, so that processes may share the directory. */
static void osr__cache_save(osr_ctx *ctx, const char *path, cl_program program)
{
    char temporary[1200], line[1300];
    osr__cache_head head;
    unsigned char *bytes;
    size_t n = 0, i = 0;
    int whole = 0;
    FILE *f;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof n, &n, NULL) != CL_SUCCESS
        || n == 0)
        return;
    bytes = (unsigned char *)osr__alloc(ctx, n, 1);
    if (bytes == NULL)
        return;
    snprintf(temporary, sizeof temporary, "%s", path);
    osr__make_folders(temporary);
#ifndef _WIN32
    i = (size_t)getpid();
#endif
    snprintf(temporary, sizeof temporary, "%s.%lu.%lx.tmp", path, (unsigned long)i,
             (unsigned long)(size_t)ctx);
    memcpy(head.magic, "OSRBIN1", 8);
    head.bytes = n;
    f = fopen(temporary, "wb");
    if (f != NULL
        && clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof bytes, &bytes, NULL)
               == CL_SUCCESS) {
        head.hash = osr__xxh64(bytes, n);
        whole = fwrite(&head, sizeof head, 1, f) == 1 && fwrite(bytes, 1, n, f) == n;
    }
    if (f != NULL && fclose(f) != 0)
        whole = 0;
    if (!whole || rename(temporary, path) != 0) {
        snprintf(line, sizeof line, "kernels are not kept for the next start: %s cannot be written",
                 path);
        osr__log(ctx, 1, line);
        remove(temporary);
    }
    osr__free(ctx, bytes, n, 1);
}

static cl_program osr__program_build(osr_ctx *ctx, const char *text, const char *options)
{
    char line[256];
    cl_int code = CL_SUCCESS;
    cl_program program = clCreateProgramWithSource(ctx->cl, 1, &text, NULL, &code);
    if (program == NULL) {
        osr__cl_fail(ctx, "clCreateProgramWithSource", "kernels", code);
        return NULL;
    }
    code = clBuildProgram(program, 1, &ctx->id, options, NULL, NULL);
    if (code == CL_SUCCESS)
        return program;
    osr__build_error(ctx, program, line, sizeof line);
    osr__fail(ctx, OSR_DEVICE, "clBuildProgram (kernels): %s (%d): %s", osr__cl_name(code),
              (int)code,
              line[0] != '\0' ? line : "no log; is the driver's cache directory writable?");
    clReleaseProgram(program);
    return NULL;
}

#define OSR__HALVES(h) (unsigned long)((h) >> 32), (unsigned long)((h) & 0xFFFFFFFFu)

/* The text of a program, its options, and the key of both. */
static char *osr__program_source(osr_ctx *ctx, int which, char options[128], uint64_t *key,
                                 size_t *size)
{
    char *text = osr__program_text(ctx, which, size);
    const int gpu = ctx->family == OSR_KERNELS_GPU;
    const osr__tile *t = &osr__tiles[which <= OSR__PROGRAM_LARGE ? which : 0];
    const int n = snprintf(options, 128, "-cl-std=CL1.2 -DOSR_GPU=%d -DLS=%d", gpu,
                           osr__local_size(ctx));
    if (gpu && which <= OSR__PROGRAM_LARGE)
        snprintf(options + n, (size_t)(128 - n), " -DCONV_BM=%d -DCONV_BN=%d -DCONV_ITEMS=%d"
                 " -DMM_M=%d -DMM_N=%d -DMM_ITEMS=%d", t->rows, t->outputs, t->items,
                 t->product_rows, t->product_outputs, t->product_items);
    *key = text != NULL ? osr__cache_key(ctx, text, options) : 0;
    return text;
}

/* A program: from this context, from the cache, or built. */
static cl_program osr__program(osr_ctx *ctx, int which)
{
    char options[128], path[1100];
    const int cached = ctx->cache_dir != NULL && ctx->binaries;
    cl_program program = NULL;
    uint64_t key;
    size_t size = 0;
    char *text;
    if (ctx->programs[which] != NULL)
        return ctx->programs[which];
    text = osr__program_source(ctx, which, options, &key, &size);
    if (text == NULL)
        return NULL;
    if (cached) {
        snprintf(path, sizeof path, "%s/%08lx%08lx.bin", ctx->cache_dir, OSR__HALVES(key));
        program = osr__cache_load(ctx, path, options);
    }
    if (program == NULL && ctx->status == OSR_OK) {
        program = osr__program_build(ctx, text, options);
        if (program != NULL && cached)
            osr__cache_save(ctx, path, program);
    }
    osr__free(ctx, text, size, 1);
    ctx->programs[which] = program;
    return program;
}

/* -- tuning: choices of algorithms and their file -- */

static const char *const osr__pass_names[OSR__PASS_COUNT] = { "forward", "dx", "dw", "nn", "nt",
                                                              "tn" };
static const char *const osr__product_names[] = { "", "-small", "-large", "-clblast" };

static void osr__choice_fit(const osr_ctx *ctx, osr__choice *c);

/* The entry of a key, made where there is none, else replaced if wanted; NULL without memory. */
static osr__choice *osr__choice_put(osr_ctx *ctx, const osr__choice *c, int replace)
{
    size_t i;
    for (i = 0; i < ctx->choice_count; ++i)
        if (memcmp(ctx->choices[i].key, c->key, sizeof c->key) == 0)
            break;
    if (i == ctx->choice_count) {
        if (!osr__grow(ctx, &ctx->choices, &ctx->choice_capacity, i + 1, sizeof *c))
            return NULL;
        ctx->choice_count++;
        replace = 1;
    }
    if (replace) {
        const int seen = ctx->choices[i].seen;
        ctx->choices[i] = *c;
        ctx->choices[i].seen |= seen;
    }
    ctx->choices[i].seen |= c->seen;
    if (ctx->choices[i].seen)
        osr__choice_fit(ctx, &ctx->choices[i]);
    return &ctx->choices[i];
}

static int osr__choice_read(const char *line, osr__choice *c)
{
    char pass[16], made[20];
    int *k = c->key, end = -1, i;
    size_t n;
    if (sscanf(line, "%9d %9d %9d %9d %9d %9d %9d %9d %9d %9d %9d %15s %19s %n", &k[0], &k[1],
               &k[2], &k[3], &k[4], &k[5], &k[6], &k[7], &k[8], &k[9], &k[10], pass, made, &end)
            != 13
        || end < 0 || line[end] != '\0')
        return 0;
    for (i = 0; i < OSR__PASS_COUNT && strcmp(pass, osr__pass_names[i]) != 0;)
        ++i;
    k[11] = i;
    n = strcspn(made, "-");
    c->seen = 0;
    c->winograd = n == 8 && strncmp(made, "winograd", n) == 0;
    for (c->products = 0; c->products < 3 + OSR__CLBLAST; ++c->products)
        if (strcmp(made + n, osr__product_names[c->products]) == 0)
            break;
    return i < OSR__PASS_COUNT && c->products < 3 + OSR__CLBLAST
           && (c->winograd || (n == 6 && strncmp(made, "direct", n) == 0));
}

/* Take up all lines of a text, or none: returns the number of the first that is bad, else 0. */
static int osr__choices_add(osr_ctx *ctx, const char *text)
{
    char line[192];
    osr__choice c;
    int add, number;
    for (add = 0; add < 2; ++add) {
        const char *at = text;
        for (number = 1; *at != '\0'; ++number) {
            const size_t n = strcspn(at, "\n");
            if (n >= sizeof line)
                return number;
            memcpy(line, at, n);
            line[n] = '\0';
            line[strcspn(line, "#\r")] = '\0';
            at += n + (at[n] == '\n');
            if (line[strspn(line, " \t")] == '\0')
                continue;
            if (!osr__choice_read(line, &c))
                return number;
            if (add)
                osr__choice_put(ctx, &c, 1);
        }
    }
    return 0;
}

/* The file's first line is a comment with the key of the program and device, and the hash of the
 * lines below. */
#define OSR__TUNING_HEAD 49 /* bytes of it */

static void osr__tuning_head(osr_ctx *ctx, const char *lines, char head[OSR__TUNING_HEAD + 1])
{
    char options[128], *text;
    const uint64_t sum = osr__xxh64((const unsigned char *)lines, strlen(lines));
    uint64_t key;
    size_t size = 0;
    text = osr__program_source(ctx, OSR__PROGRAM_STEP, options, &key, &size);
    osr__free(ctx, text, size, 1);
    snprintf(head, OSR__TUNING_HEAD + 1, "# osr tuning 1 %08lx%08lx %08lx%08lx\n",
             OSR__HALVES(key), OSR__HALVES(sum));
}

/* Choices from the device's file; from one that is damaged or stale none. */
static void osr__tuning_load(osr_ctx *ctx)
{
    char head[OSR__TUNING_HEAD + 1], line[1200], *text = NULL;
    FILE *f = fopen(ctx->tuning_path, "rb");
    long n = -1;
    int good = 0;
    if (f == NULL)
        return;
    if (fseek(f, 0, SEEK_END) == 0)
        n = ftell(f);
    if (n >= OSR__TUNING_HEAD && n < 1 << 20 && fseek(f, 0, SEEK_SET) == 0)
        text = (char *)osr__alloc(ctx, (size_t)n + 1, 1);
    if (text != NULL && fread(text, 1, (size_t)n, f) == (size_t)n) {
        text[n] = '\0';
        if (strlen(text) == (size_t)n) {
            osr__tuning_head(ctx, text + OSR__TUNING_HEAD, head);
            good = strncmp(text, head, OSR__TUNING_HEAD) == 0 && osr__choices_add(ctx, text) == 0;
        }
    }
    if (!good) {
        snprintf(line, sizeof line, "%s is damaged, or of other kernels: not used",
                 ctx->tuning_path);
        osr__log(ctx, 1, line);
    }
    osr__free(ctx, text, (size_t)n + 1, 1);
    fclose(f);
}

#define OSR__NO_CHOICE                                                                             \
    (OSR__CLBLAST ? "tuning: line %d is no choice"                                                 \
                  : "tuning: line %d is no choice (CLBlast is not built in)")

static osr_status osr__tuning_open(osr_ctx *ctx, const char *tuning)
{
    char path[1100];
    uint64_t h[3];
    int bad;
    ctx->tuned = 1;
    h[0] = osr__xxh64((const unsigned char *)ctx->device.name, sizeof ctx->device.name);
    h[1] = osr__xxh64((const unsigned char *)ctx->device.platform, sizeof ctx->device.platform);
    h[2] = (uint64_t)ctx->family + 16 * OSR__CLBLAST;
    h[0] = osr__xxh64((const unsigned char *)h, sizeof h);
    snprintf(path, sizeof path, "%s/tuning-%08lx%08lx.txt",
             ctx->cache_dir != NULL ? ctx->cache_dir : "", OSR__HALVES(h[0]));
    if (ctx->cache_dir != NULL && (ctx->tuning_path = osr__copy_text(ctx, path)) == NULL)
        return ctx->status;
    if (strcmp(tuning, "auto") != 0) {
        bad = osr__choices_add(ctx, tuning);
        return bad == 0 ? ctx->status
                        : osr__fail(ctx, OSR_FORMAT, OSR__NO_CHOICE, bad);
    }
    if (ctx->tuning_path != NULL)
        osr__tuning_load(ctx);
    return ctx->status;
}

OSR_API const char *osr_ctx_tuning(osr_ctx *ctx)
{
    osr__text t;
    size_t i, k;
    memset(&t, 0, sizeof t);
    t.ctx = ctx;
    t.data = ctx->tuning;
    t.capacity = ctx->tuning_capacity;
    for (i = 0; i < ctx->choice_count; ++i) {
        const osr__choice *c = &ctx->choices[i];
        for (k = 0; k < 11; ++k)
            osr__text_print(&t, "%d ", c->key[k]);
        osr__text_print(&t, "%s %s%s\n", osr__pass_names[c->key[11]],
                        c->winograd ? "winograd" : "direct", osr__product_names[c->products]);
    }
    osr__text_add(&t, "", 1);
    ctx->tuning = t.data;
    ctx->tuning_capacity = t.capacity;
    return t.failed ? "" : t.data;
}

static osr_status osr__file_write(osr_ctx *ctx, const char *path, const char *data, size_t bytes);

OSR_API osr_status osr_ctx_tune(osr_ctx *ctx, const char *text, int keep)
{
    char head[OSR__TUNING_HEAD + 1];
    osr__text t;
    const int bad = ctx->tuned ? osr__choices_add(ctx, text) : 0;
    if (!ctx->tuned)
        return osr__fail(ctx, OSR_ARG, "osr_ctx_tune: the context was made without desc.tuning");
    if (bad != 0)
        return osr__fail(ctx, OSR_FORMAT, OSR__NO_CHOICE, bad);
    if (!keep || ctx->status != OSR_OK)
        return ctx->status;
    if (ctx->tuning_path == NULL)
        return osr__fail(ctx, OSR_IO, "tuning: no place to keep it, the cache is off");
    memset(&t, 0, sizeof t);
    t.ctx = ctx;
    text = osr_ctx_tuning(ctx);
    osr__tuning_head(ctx, text, head);
    osr__text_put(&t, head);
    osr__text_put(&t, text);
    osr__make_folders(ctx->tuning_path);
    if (ctx->status == OSR_OK)
        osr__file_write(ctx, ctx->tuning_path, t.data, t.length);
    osr__free(ctx, t.data, t.capacity, 1);
    return ctx->status;
}

OSR_API const char *osr_ctx_tuning_file(const osr_ctx *ctx)
{
    return ctx->tuning_path != NULL ? ctx->tuning_path : "";
}

static const char *osr__kernel_name(osr__kernel k)
{
    static const char *const names[] = {
#define OSR__KERNEL_NAME(name, file) #name,
        OSR__KERNELS(OSR__KERNEL_NAME)
#undef OSR__KERNEL_NAME
    };
    return names[k];
}

/* The program of a kernel, if that has tiles the one with those of `products`. */
static int osr__kernel_program(osr__kernel k, int products)
{
    static const unsigned char files[] = {
#define OSR__KERNEL_FILE(name, file) OSR__FILE_##file,
        OSR__KERNELS(OSR__KERNEL_FILE)
#undef OSR__KERNEL_FILE
    };
    const int file = files[k], tiled = file == OSR__FILE_conv || file == OSR__FILE_matmul;
    return osr__files[file].program + (tiled && products < OSR_PRODUCTS_CLBLAST ? products : 0);
}

static cl_kernel osr__kernel_create(osr_ctx *ctx, osr__kernel k, int products)
{
    cl_int code = CL_SUCCESS;
    cl_kernel kernel;
    cl_program program = osr__program(ctx, osr__kernel_program(k, products));
    if (program == NULL)
        return NULL;
    kernel = clCreateKernel(program, osr__kernel_name(k), &code);
    if (kernel == NULL)
        osr__cl_fail(ctx, "clCreateKernel", osr__kernel_name(k), code);
    return kernel;
}

OSR_API osr_status osr_ctx_profile(osr_ctx *ctx, int enable)
{
    ctx->profiling = enable != 0;
    ctx->time_count = 0;
    return ctx->status;
}

OSR_API size_t osr_ctx_profile_get(const osr_ctx *ctx, const osr_launch_time **times)
{
    *times = ctx->times;
    return ctx->time_count;
}

/* Seconds that the device spent on an event, or from the end of the one before it; negative when
 * the driver does not tell. */
static double osr__event_seconds(cl_event before, cl_event event)
{
    cl_ulong from = 0, to = 0;
    if (clGetEventProfilingInfo(before != NULL ? before : event,
                                before != NULL ? CL_PROFILING_COMMAND_END
                                               : CL_PROFILING_COMMAND_START,
                                sizeof from, &from, NULL)
            != CL_SUCCESS
        || clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof to, &to, NULL)
               != CL_SUCCESS)
        return -1.0;
    return (double)(to - from) * 1e-9;
}

OSR_API osr_status osr_peak_gflops(osr_ctx *ctx, double *gflops)
{
    const int ls = osr__local_size(ctx), lanes = ctx->family == OSR_KERNELS_GPU ? 1 : 16;
    const size_t groups = (size_t)ctx->device.compute_units * (lanes == 1 ? 64 : 8);
    size_t global = groups * (size_t)ls, local = (size_t)ls;
    cl_int rounds = 1000000, code;
    cl_event event = NULL;
    double seconds = 0.0;
    int run;
    cl_mem mem;
    cl_kernel kernel;
    if (ctx->queue == NULL)
        return osr__fail(ctx, OSR_DEVICE, "osr_peak_gflops: the context has no device");
    mem = osr__mem_create(ctx, global * sizeof(float));
    kernel = mem == NULL ? NULL : osr__kernel_create(ctx, OSR__K_peak, 0);
    for (run = 0; kernel != NULL && run < 2 && ctx->status == OSR_OK; ++run) {
        clSetKernelArg(kernel, 0, sizeof mem, &mem);
        clSetKernelArg(kernel, 1, sizeof rounds, &rounds);
        code = clEnqueueNDRangeKernel(ctx->queue, kernel, 1, NULL, &global, &local, 0, NULL,
                                      &event);
        if (code == CL_SUCCESS)
            code = clFinish(ctx->queue);
        if (code != CL_SUCCESS)
            osr__cl_fail(ctx, "clEnqueueNDRangeKernel", "peak", code);
        if (event != NULL) {
            seconds = osr__event_seconds(NULL, event);
            clReleaseEvent(event);
            event = NULL;
        }
    }
    *gflops = seconds > 0.0 ? 2.0 * 12.0 * lanes * (double)rounds * (double)global / seconds * 1e-9
                            : 0.0;
    if (kernel != NULL)
        clReleaseKernel(kernel);
    osr__mem_release(ctx, &mem, global * sizeof(float));
    return ctx->status;
}
/* == tensors == -------------------------------------------------------------------------------- */

OSR_API osr_shape osr_shape_make(int rank, int d0, int d1, int d2, int d3)
{
    osr_shape s;
    s.rank = rank;
    s.dim[0] = rank > 0 ? d0 : 1;
    s.dim[1] = rank > 1 ? d1 : 1;
    s.dim[2] = rank > 2 ? d2 : 1;
    s.dim[3] = rank > 3 ? d3 : 1;
    return s;
}

OSR_API size_t osr_shape_count(osr_shape shape)
{
    size_t n = 1;
    int i;
    if (shape.rank < 0 || shape.rank > 4)
        return 0;
    for (i = 0; i < shape.rank; ++i)
        n = shape.dim[i] > 0 ? osr__mul(n, (size_t)shape.dim[i]) : 0;
    return n > (size_t)INT_MAX ? 0 : n; /* kernels index with int */
}

static int osr__same_shape(osr_shape a, osr_shape b)
{
    return a.rank == b.rank && a.dim[0] == b.dim[0] && a.dim[1] == b.dim[1]
           && a.dim[2] == b.dim[2] && a.dim[3] == b.dim[3];
}

/* "[64, 32, 32, 3]" for messages. */
typedef struct osr__brief {
    char s[64];
} osr__brief;

static osr__brief osr__shape_text(osr_shape shape)
{
    osr__brief t;
    int i;
    size_t at = 0;
    t.s[at++] = '[';
    for (i = 0; i < shape.rank && at < sizeof t.s - 16; ++i)
        at += (size_t)snprintf(t.s + at, sizeof t.s - at, i == 0 ? "%d" : ", %d", shape.dim[i]);
    t.s[at++] = ']';
    t.s[at] = '\0';
    return t;
}

static int osr__is_persist(uint32_t ref)
{
    return (ref & OSR__PERSIST) != 0;
}

static osr__persist *osr__persist_of(osr_ctx *ctx, uint32_t ref)
{
    return &ctx->persists[ref & 0x0FFFFFFFu];
}

static int osr__arena_of(uint32_t ref)
{
    return (int)((ref >> 28) & 7u);
}

static osr__record *osr__rec(osr_ctx *ctx, uint32_t i)
{
    return i != 0 ? &ctx->nodes[i].r : &ctx->nowhere.r;
}

static osr_shape osr__ref_shape(osr_ctx *ctx, uint32_t ref)
{
    return osr__is_persist(ref) ? osr__persist_of(ctx, ref)->shape : osr__rec(ctx, ref)->shape;
}

static osr__brief osr__ref_text(osr_ctx *ctx, uint32_t ref)
{
    return osr__shape_text(osr__ref_shape(ctx, ref));
}

#define OSR__OP_NONE 0 /* of a node that was fused into another one, or is not needed */

/* The reference behind a handle, 0 where it is dead or foreign. */
static uint32_t osr__peek(osr_ctx *ctx, osr_tensor t)
{
    if (t.generation == OSR__GENERATION_PERSIST)
        return osr__is_persist(t.index) && (t.index & 0x0FFFFFFFu) < ctx->persist_count ? t.index
                                                                                        : 0;
    return t.generation == ctx->generation && t.index > 0 && t.index < ctx->node_count ? t.index
                                                                                        : 0;
}

/* The same for an op, alive or not; 0 with the error recorded, or with an earlier one. */
static uint32_t osr__ref_any(osr_ctx *ctx, osr_tensor t, const char *op, const char *name)
{
    uint32_t ref;
    if (ctx->status != OSR_OK)
        return 0;
    ref = osr__peek(ctx, t);
    if (ref == 0)
        osr__fail(ctx, OSR_HANDLE, "%s: %s is %s", op, name,
                  t.index == 0 ? "no tensor" : "a handle of another step or context");
    return ref;
}

/* An op cannot use a value that was overwritten or fused away. 1 when it can. */
static int osr__alive(osr_ctx *ctx, uint32_t ref, const char *op)
{
    if (ref == 0 || ctx->status != OSR_OK)
        return 0;
    if (osr__is_persist(ref)
        || (osr__rec(ctx, ref)->op != OSR__OP_NONE
            && (ref >= ctx->done || ctx->nodes[ref].loc.slot >= 0)))
        return 1;
    osr__fail(ctx, OSR_HANDLE, "%s: the value was not kept; call osr_keep on it before the "
                               "step runs", op);
    return 0;
}

/* What an op reads: alive, else 0 and an error is recorded. Recording goes on with 0 as if all were
 * well: shapes are those of ctx->nowhere, checks add nothing to the first error, osr__append
 * refuses. */
static uint32_t osr__ref(osr_ctx *ctx, osr_tensor t, const char *op, const char *name)
{
    const uint32_t ref = osr__ref_any(ctx, t, op, name);
    return osr__alive(ctx, ref, op) ? ref : 0;
}

static osr_tensor osr__handle(osr_ctx *ctx, uint32_t ref)
{
    osr_tensor t;
    t.index = ref;
    t.generation = ref == 0               ? 0
                   : osr__is_persist(ref) ? OSR__GENERATION_PERSIST
                                          : ctx->generation;
    return t;
}

/* What an op returns after an error. */
static osr_tensor osr__none(osr_status status)
{
    const osr_tensor none = { 0, 0 };
    (void)status;
    return none;
}

OSR_API osr_shape osr_shape_of(osr_ctx *ctx, osr_tensor t)
{
    const uint32_t ref = osr__peek(ctx, t);
    return ref == 0 ? osr_shape_make(-1, 0, 0, 0, 0) : osr__ref_shape(ctx, ref);
}

static osr_status osr__need_device(osr_ctx *ctx, const char *what)
{
    if (ctx->status == OSR_OK && ctx->queue == NULL)
        return osr__fail(ctx, OSR_DEVICE, "%s: the context was made without a device", what);
    return ctx->status;
}

/* Philox 4x32-10 on the host: the same words as kernels/common.cl. */
static void osr__philox(const uint32_t counter[4], uint64_t seed, uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    int r;
    for (r = 0; r < 10; ++r) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static double osr__uniform(uint32_t word)
{
    return ((double)word + 0.5) / 4294967296.0;
}

/* Values of a new tensor: the counter is the element and the tensor's ordinal. */
static void osr__init_values(float *v, size_t count, osr_init init, uint64_t seed, uint32_t ordinal)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        const uint32_t counter[4] = { (uint32_t)i, ordinal, 0x696e6974u /* "init" */, 0 };
        uint32_t w[4];
        double u = 0.0;
        if (init.kind != OSR_INIT_CONSTANT)
            osr__philox(counter, seed, w);
        if (init.kind == OSR_INIT_NORMAL)
            u = sqrt(-2.0 * log(osr__uniform(w[0])))
                * cos(6.28318530717958647692 * osr__uniform(w[1]));
        else if (init.kind == OSR_INIT_UNIFORM)
            u = 2.0 * osr__uniform(w[0]) - 1.0;
        v[i] = (float)((double)init.value + (double)init.scale * u);
    }
}

/* Room for `count` floats in an arena; the new part is zero. */
static osr_status osr__arena_need(osr_ctx *ctx, int kind, size_t count)
{
    osr__arena *a = &ctx->arenas[kind];
    size_t capacity = kind == OSR__VALUE || kind == OSR__STATE ? 4096 : 8;
    cl_mem mem;
    cl_int code;
    if (count <= a->capacity)
        return ctx->status;
    if (osr__need_device(ctx, "parameters") != OSR_OK)
        return ctx->status;
    while (capacity < count)
        capacity += capacity / 2 + 8;
    mem = osr__mem_create(ctx, capacity * sizeof(float));
    if (mem == NULL)
        return ctx->status;
    if (a->mem != NULL) {
        code = clEnqueueCopyBuffer(ctx->queue, a->mem, mem, 0, 0, a->capacity * sizeof(float), 0,
                                   NULL, NULL);
        if (code != CL_SUCCESS) {
            osr__mem_release(ctx, &mem, capacity * sizeof(float));
            return osr__cl_fail(ctx, "clEnqueueCopyBuffer", "parameters", code);
        }
        osr__plans_drop(ctx); /* their kernels hold the old buffer */
        clFinish(ctx->queue);
        osr__mem_release(ctx, &a->mem, a->capacity * sizeof(float));
    }
    a->mem = mem;
    a->capacity = capacity;
    return ctx->status;
}

static osr_tensor osr__persist_create(osr_ctx *ctx, osr_shape shape, osr_init init, int state)
{
    const int kind = state ? OSR__STATE : OSR__VALUE;
    const size_t n = osr_shape_count(shape), offset = ctx->arenas[kind].count;
    const size_t end = offset + (n + 15) / 16 * 16; /* 64-byte aligned */
    float *v;
    cl_int code;
    if (ctx->status != OSR_OK)
        return osr__handle(ctx, 0);
    if (n == 0)
        osr__fail(ctx, OSR_SHAPE, "parameter of shape %s", osr__shape_text(shape).s);
    else if ((unsigned)init.kind > (unsigned)OSR_INIT_UNIFORM || !(fabsf(init.value) <= FLT_MAX)
             || !(fabsf(init.scale) <= FLT_MAX))
        osr__fail(ctx, OSR_ARG, "parameter of shape %s: init", osr__shape_text(shape).s);
    else
        osr__arena_need(ctx, kind, end);
    if (ctx->status != OSR_OK
        || !osr__grow(ctx, &ctx->persists, &ctx->persist_capacity, ctx->persist_count + 1,
                      sizeof *ctx->persists))
        return osr__handle(ctx, 0);
    v = (float *)osr__alloc(ctx, n, sizeof *v);
    if (v == NULL)
        return osr__handle(ctx, 0);
    osr__init_values(v, n, init, ctx->seed, (uint32_t)ctx->persist_count);
    code = clEnqueueWriteBuffer(ctx->queue, ctx->arenas[kind].mem, CL_TRUE, offset * sizeof(float),
                                n * sizeof(float), v, 0, NULL, NULL);
    osr__free(ctx, v, n, sizeof *v);
    if (code != CL_SUCCESS)
        return osr__none(osr__cl_fail(ctx, "clEnqueueWriteBuffer", "parameter", code));
    ctx->arenas[kind].count = end;
    ctx->persists[ctx->persist_count].shape = shape;
    ctx->persists[ctx->persist_count].offset = offset;
    ctx->persists[ctx->persist_count].state = state;
    ctx->persists[ctx->persist_count].grad_step = 0;
    return osr__handle(ctx, OSR__PERSIST | (uint32_t)kind << 28 | (uint32_t)ctx->persist_count++);
}

OSR_API osr_tensor osr_param(osr_ctx *ctx, osr_shape shape, osr_init init)
{
    return osr__persist_create(ctx, shape, init, 0);
}

OSR_API osr_tensor osr_state(osr_ctx *ctx, osr_shape shape, osr_init init)
{
    return osr__persist_create(ctx, shape, init, 1);
}

static osr_tensor osr__companion(osr_ctx *ctx, osr_tensor param, int kind, const char *what)
{
    const uint32_t ref = osr__ref_any(ctx, param, what, "param");
    if (ref == 0)
        return osr__handle(ctx, 0);
    if (!osr__is_persist(ref) || osr__persist_of(ctx, ref)->state)
        return osr__none(osr__fail(ctx, OSR_HANDLE, "%s: not a parameter", what));
    if (osr__arena_need(ctx, kind, ctx->arenas[OSR__VALUE].count) != OSR_OK)
        return osr__handle(ctx, 0);
    return osr__handle(ctx, OSR__PERSIST | (uint32_t)kind << 28 | (ref & 0x0FFFFFFFu));
}

OSR_API osr_tensor osr_gradient(osr_ctx *ctx, osr_tensor param)
{
    return osr__companion(ctx, param, OSR__GRADIENT, "osr_gradient");
}

OSR_API osr_tensor osr_moment(osr_ctx *ctx, osr_tensor param, int which)
{
    if (which != 1 && which != 2)
        return osr__none(osr__fail(ctx, OSR_ARG, "osr_moment: which is %d, not 1 or 2", which));
    return osr__companion(ctx, param, which == 1 ? OSR__MOMENT1 : OSR__MOMENT2, "osr_moment");
}

/* Index of the first value that is not finite; count where all are. */
static size_t osr__first_bad(const float *v, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i)
        if (!(fabsf(v[i]) <= FLT_MAX))
            break;
    return i;
}

OSR_API osr_status osr_write(osr_ctx *ctx, osr_tensor t, const float *src, size_t count)
{
    const uint32_t ref = osr__ref_any(ctx, t, "osr_write", "t");
    size_t bad;
    cl_int code;
    if (ref == 0)
        return ctx->status;
    if (!osr__is_persist(ref))
        return osr__fail(ctx, OSR_HANDLE, "osr_write: not a parameter or state");
    if (src == NULL || count != osr_shape_count(osr__ref_shape(ctx, ref)))
        return osr__fail(ctx, OSR_SHAPE, "osr_write: %lu values for shape %s", (unsigned long)count,
                         osr__ref_text(ctx, ref).s);
    bad = osr__first_bad(src, count);
    if (bad < count)
        return osr__fail(ctx, OSR_NAN, "osr_write: value %lu is not finite", (unsigned long)bad);
    code = clEnqueueWriteBuffer(ctx->queue, ctx->arenas[osr__arena_of(ref)].mem, CL_TRUE,
                                osr__persist_of(ctx, ref)->offset * sizeof(float),
                                count * sizeof(float), src, 0, NULL, NULL);
    if (code != CL_SUCCESS)
        return osr__cl_fail(ctx, "clEnqueueWriteBuffer", "osr_write", code);
    ctx->version++;
    return ctx->status;
}

OSR_API void osr_ctx_set_step(osr_ctx *ctx, uint32_t step)
{
    ctx->step = step;
}

static void osr__step_reset(osr_ctx *ctx)
{
    ctx->node_count = 0;
    ctx->done = ctx->fused = 1;
    ctx->staging_count = 0;
    ctx->drop_stream = 0;
    ctx->mark = -1;
    ctx->backward = 0;
    ctx->making = NULL;
    if (++ctx->generation == OSR__GENERATION_PERSIST)
        ctx->generation = 1;
}

OSR_API void osr_ctx_clear_error(osr_ctx *ctx)
{
    if (ctx->queue != NULL)
        clFinish(ctx->queue); /* uploads of the failed step still read its staged data */
    ctx->status = OSR_OK;
    ctx->message[0] = '\0';
    osr__step_reset(ctx);
}

/* -- the tape -- */

/* One row an op: name, how it runs, how its gradient is recorded (NULL: none), whether its result
 * is a value of its own (OSR__OVER: it may lie where an input lay; OSR__UPDATES: and running it
 * changes state). Filled in the next section. */
#define OSR__OVER 2
#define OSR__UPDATES 3

typedef struct osr__op_row {
    const char *name;
    void (*lower)(osr_ctx *ctx, uint32_t i);
    void (*backward)(osr_ctx *ctx, uint32_t i, uint32_t dy);
    int value;
} osr__op_row;

static const osr__op_row *osr__op(int op);
static int osr__halo_wanted(osr_ctx *ctx, const osr__record *r, int input);

/* Append a node; its handle's index. On failure 0, and `out` is ctx->nowhere, which may be filled
 * in all the same. The pointer is good until the next append. */
static uint32_t osr__append(osr_ctx *ctx, int op, osr_shape shape, uint32_t in0, uint32_t in1,
                            uint32_t in2, osr__node **out)
{
    osr__node *node;
    const char *name = osr__op(op)->name;
    *out = &ctx->nowhere;
    if (osr__need_device(ctx, name) != OSR_OK || (in0 != 0 && !osr__alive(ctx, in0, name))
        || (in1 != 0 && !osr__alive(ctx, in1, name)) || (in2 != 0 && !osr__alive(ctx, in2, name)))
        return 0;
    if (osr_shape_count(shape) == 0) {
        osr__fail(ctx, OSR_SHAPE, "%s: result of shape %s", name, osr__shape_text(shape).s);
        return 0;
    }
    if (ctx->node_count == 0)
        ctx->node_count = ctx->done = ctx->fused = 1;
    if (!osr__grow(ctx, &ctx->nodes, &ctx->node_capacity, ctx->node_count + 1, sizeof *ctx->nodes))
        return 0;
    node = &ctx->nodes[ctx->node_count];
    memset(node, 0, sizeof *node);
    node->r.op = op;
    node->r.mark = ctx->mark;
    node->r.backward = ctx->backward;
    node->r.shape = shape;
    node->r.in[0] = in0;
    node->r.in[1] = in1;
    node->r.in[2] = in2;
    node->loc.slot = -1;
    *out = node;
    return (uint32_t)ctx->node_count++;
}

/* Append an op of one or two inputs that has no numbers. */
static osr_tensor osr__result(osr_ctx *ctx, int op, osr_shape shape, uint32_t a, uint32_t b)
{
    osr__node *node;
    return osr__handle(ctx, osr__append(ctx, op, shape, a, b, 0, &node));
}

/* Room for an input in the step's staging memory; NULL on failure. Good until the next call. */
static void *osr__stage_room(osr_ctx *ctx, osr__node *node, size_t bytes)
{
    const size_t at = (ctx->staging_count + 63) / 64 * 64;
    if (!osr__grow(ctx, &ctx->staging, &ctx->staging_capacity, at + bytes, 1))
        return NULL;
    node->data = at;
    ctx->staging_count = at + bytes;
    return ctx->staging + at;
}

/* Copy host data for an input into the step's staging memory. */
static void osr__stage(osr_ctx *ctx, osr__node *node, const void *data, size_t bytes)
{
    void *room = osr__stage_room(ctx, node, bytes);
    if (room != NULL)
        memcpy(room, data, bytes);
}

OSR_API osr_tensor osr_keep(osr_ctx *ctx, osr_tensor t)
{
    const uint32_t ref = osr__ref_any(ctx, t, "osr_keep", "t");
    if (ref != 0 && !osr__is_persist(ref) && ref >= ctx->done) {
        if (osr__rec(ctx, ref)->op == OSR__OP_NONE)
            return osr__none(osr__fail(ctx, OSR_HANDLE, "osr_keep: the value was already fused "
                                                        "away; keep it before osr_backward"));
        osr__rec(ctx, ref)->keep = 1;
    }
    return osr__handle(ctx, ref);
}

/* -- planning: where values lie -- */

static int osr__blocks(int channels)
{
    return (channels + 7) / 8;
}

/* Floats in one image of a slot with this key. */
static size_t osr__image_floats(const int key[4])
{
    return osr__mul(osr__mul((size_t)key[0], (size_t)key[1]), osr__mul((size_t)key[2], 8));
}

/* Take the best free slot: of the same key for images; for dense values the smallest that is large
 * enough, else the largest. -1 on failure. */
static int osr__slot_take(osr_ctx *ctx, const int key[4], size_t bytes)
{
    size_t i;
    int best = -1;
    for (i = 0; i < ctx->slot_count; ++i) {
        const osr__slot *s = &ctx->slots[i];
        if (s->taken || s->busy == ctx->generation || memcmp(s->key, key, sizeof s->key) != 0)
            continue;
        if (best < 0)
            best = (int)i;
        else {
            const size_t a = ctx->slots[best].want, b = s->want;
            if (a >= bytes ? b >= bytes && b < a : b > a)
                best = (int)i;
        }
    }
    if (best < 0) {
        if (!osr__grow(ctx, &ctx->slots, &ctx->slot_capacity, ctx->slot_count + 1,
                       sizeof *ctx->slots))
            return -1;
        best = (int)ctx->slot_count++;
        memset(&ctx->slots[best], 0, sizeof ctx->slots[best]);
        memcpy(ctx->slots[best].key, key, sizeof ctx->slots[best].key);
    }
    ctx->slots[best].taken = 1;
    if (ctx->slots[best].want < bytes)
        ctx->slots[best].want = bytes;
    return best;
}

static int osr__plan_uses(osr_ctx *ctx, osr__plan *plan, int slot)
{
    size_t i;
    for (i = 0; i < plan->use_count; ++i)
        if (plan->uses[i] == slot)
            return 1;
    if (!osr__grow(ctx, &plan->uses, &plan->use_capacity, plan->use_count + 1, sizeof *plan->uses))
        return 0;
    plan->uses[plan->use_count++] = slot;
    return 1;
}

static int osr__is_image(osr_shape s)
{
    return s.rank == 4;
}

/* A slot for the result of a node, with the halo that its readers want. */
static void osr__place(osr_ctx *ctx, osr__plan *plan, uint32_t i, int halo)
{
    osr__node *node = &ctx->nodes[i];
    const osr_shape s = node->r.shape;
    int key[4] = { 0, 0, 0, 0 };
    size_t bytes = osr_shape_count(s) * sizeof(float);
    if (osr__is_image(s)) {
        key[0] = osr__blocks(s.dim[3]);
        key[1] = s.dim[1] + 2 * halo;
        key[2] = s.dim[2] + 2 * halo;
        key[3] = halo * 8 + s.dim[3] % 8; /* lanes beyond C are zero and must stay so */
        bytes = osr__mul(osr__mul(osr__image_floats(key), (size_t)s.dim[0]), sizeof(float));
        if (bytes == 0 || osr__image_floats(key) > (size_t)INT_MAX) {
            osr__fail(ctx, OSR_MEMORY, "%s: an image tensor of shape %s is too large",
                      osr__op(node->r.op)->name, osr__shape_text(s).s);
            return;
        }
        node->loc.l[0] = (halo * key[2] + halo) * 8;
        node->loc.l[1] = key[2] * 8;
        node->loc.l[2] = key[1] * key[2] * 8;
        node->loc.l[3] = key[0] * node->loc.l[2];
    }
    node->loc.slot = osr__slot_take(ctx, key, bytes);
    if (node->loc.slot >= 0)
        osr__plan_uses(ctx, plan, node->loc.slot);
}

/* Scratch memory for the node being lowered; a number for osr__arg_scratch. */
static int osr__scratch(osr_ctx *ctx, size_t floats)
{
    osr__plan *plan = ctx->making;
    static const int key[4] = { 0, 0, 0, 0 };
    if (ctx->status != OSR_OK)
        return 0;
    if (ctx->measuring) {
        int slot;
        if (floats == 0) {
            osr__fail(ctx, OSR_MEMORY, "%s: scratch memory is too large",
                      osr__op(ctx->nodes[ctx->making_node].r.op)->name);
            return 0;
        }
        slot = osr__slot_take(ctx, key, osr__mul(floats, sizeof(float)));
        if (slot < 0 || !osr__plan_uses(ctx, plan, slot)
            || !osr__grow(ctx, &plan->scratch, &plan->scratch_capacity, plan->scratch_count + 1,
                          sizeof *plan->scratch))
            return 0;
        plan->scratch[plan->scratch_count++] = slot;
    }
    return plan->scratch[ctx->scratch_next++];
}

/* -- planning: launches -- */

static osr__launch *osr__launch_add(osr_ctx *ctx)
{
    osr__plan *plan = ctx->making;
    osr__launch *l;
    ctx->launches_wanted += ctx->measuring != 0;
    if (ctx->measuring || ctx->status != OSR_OK
        || !osr__grow(ctx, &plan->launches, &plan->launch_capacity, plan->launch_count + 1,
                      sizeof *plan->launches))
        return NULL;
    l = &plan->launches[plan->launch_count++];
    memset(l, 0, sizeof *l);
    l->node = ctx->making_node;
    return l;
}

/* The launch that is being written; NULL while scratch memory is measured and after an error. */
static osr__launch *osr__writing(osr_ctx *ctx)
{
    return ctx->measuring || ctx->status != OSR_OK
               ? NULL
               : &ctx->making->launches[ctx->making->launch_count - 1];
}

/* Begin a launch; arguments follow in order, osr__run ends it. Nothing happens while measuring. */
static void osr__begin_tiled(osr_ctx *ctx, osr__kernel k, int products)
{
    osr__launch *l = osr__launch_add(ctx);
    ctx->arg_next = 0;
    ctx->programs_wanted |= 1u << osr__kernel_program(k, products);
    if (l == NULL)
        return;
    l->name = k;
    l->products = products;
    l->kernel = osr__kernel_create(ctx, k, products);
}

static void osr__begin(osr_ctx *ctx, osr__kernel k)
{
    osr__begin_tiled(ctx, k, 0);
}

static void osr__arg(osr_ctx *ctx, size_t size, const void *value)
{
    osr__launch *l = osr__writing(ctx);
    const cl_int code = l != NULL ? clSetKernelArg(l->kernel, ctx->arg_next++, size, value)
                                  : CL_SUCCESS;
    if (code != CL_SUCCESS)
        osr__cl_fail(ctx, "clSetKernelArg", osr__kernel_name(l->name), code);
}

static void osr__arg_i(osr_ctx *ctx, int v)
{
    const cl_int x = v;
    osr__arg(ctx, sizeof x, &x);
}

static void osr__arg_f(osr_ctx *ctx, float v)
{
    const cl_float x = v;
    osr__arg(ctx, sizeof x, &x);
}

/* A value of the node that is read anew at each replay. */
static void osr__arg_dyn(osr_ctx *ctx, int index)
{
    osr__launch *l = osr__writing(ctx);
    if (l == NULL)
        return;
    l->dyn[l->dyn_count].arg = ctx->arg_next;
    l->dyn[l->dyn_count].index = index;
    l->dyn_count++;
    osr__arg(ctx, sizeof(osr__word), &ctx->nodes[ctx->making_node].dyn[index]);
}

static void osr__arg_slot(osr_ctx *ctx, int slot)
{
    if (osr__writing(ctx) != NULL)
        osr__arg(ctx, sizeof(cl_mem), &ctx->slots[slot].mem);
}

/* The buffer of any value. */
static void osr__arg_mem(osr_ctx *ctx, uint32_t ref)
{
    if (osr__is_persist(ref))
        osr__arg(ctx, sizeof(cl_mem), &ctx->arenas[osr__arena_of(ref)].mem);
    else
        osr__arg_slot(ctx, ctx->nodes[ref].loc.slot);
}

/* Buffer and offset of a dense value. */
static void osr__arg_dense(osr_ctx *ctx, uint32_t ref)
{
    osr__arg_mem(ctx, ref);
    osr__arg_i(ctx, osr__is_persist(ref) ? (int)osr__persist_of(ctx, ref)->offset : 0);
}

/* Buffer and layout of an image. */
static void osr__arg_image(osr_ctx *ctx, uint32_t ref)
{
    osr__arg_mem(ctx, ref);
    osr__arg(ctx, 4 * sizeof(cl_int), ctx->nodes[ref].loc.l);
}

/* Several arguments: d dense, m buffer, g image, n number of elements, S CB, C, H, W and P CB, H, W
 * of an image (references), s slot, i int, I two ints, Q four, f float, y value read at each
 * replay. */
static void osr__args_list(osr_ctx *ctx, const char *kinds, va_list args)
{
    for (; *kinds != '\0'; ++kinds) {
        osr_shape s;
        cl_int q[4];
        unsigned n;
        switch (*kinds) {
        case 'd': osr__arg_dense(ctx, va_arg(args, uint32_t)); break;
        case 'm': osr__arg_mem(ctx, va_arg(args, uint32_t)); break;
        case 'g': osr__arg_image(ctx, va_arg(args, uint32_t)); break;
        case 's': osr__arg_slot(ctx, va_arg(args, int)); break;
        case 'i': osr__arg_i(ctx, va_arg(args, int)); break;
        case 'f': osr__arg_f(ctx, (float)va_arg(args, double)); break;
        case 'y': osr__arg_dyn(ctx, va_arg(args, int)); break;
        case 'n':
            osr__arg_i(ctx, (int)osr_shape_count(osr__ref_shape(ctx, va_arg(args, uint32_t))));
            break;
        case 'S':
        case 'P':
            s = osr__ref_shape(ctx, va_arg(args, uint32_t));
            osr__arg_i(ctx, osr__blocks(s.dim[3]));
            if (*kinds == 'S')
                osr__arg_i(ctx, s.dim[3]);
            osr__arg_i(ctx, s.dim[1]);
            osr__arg_i(ctx, s.dim[2]);
            break;
        default:
            for (n = 0; n < (*kinds == 'Q' ? 4u : 2u); ++n)
                q[n] = va_arg(args, int);
            osr__arg(ctx, n * sizeof *q, q);
            break;
        }
    }
}

static void osr__args(osr_ctx *ctx, const char *kinds, ...)
{
    va_list args;
    va_start(args, kinds);
    osr__args_list(ctx, kinds, args);
    va_end(args);
}

static void osr__run3(osr_ctx *ctx, size_t g0, size_t g1, size_t g2, size_t l0, size_t l1)
{
    osr__launch *l = osr__writing(ctx);
    if (l == NULL)
        return;
    l->global[0] = g0;
    l->global[1] = g1;
    l->global[2] = g2;
    l->local[0] = l0;
    l->local[1] = l1;
    l->local[2] = 1;
}

/* End a launch of `groups` work-groups of the shared kernels. */
static void osr__run(osr_ctx *ctx, size_t groups)
{
    const size_t ls = (size_t)osr__local_size(ctx);
    osr__run3(ctx, groups * ls, 1, 1, ls, 1);
}

/* A whole launch of a shared kernel. */
static void osr__call(osr_ctx *ctx, osr__kernel k, size_t groups, const char *kinds, ...)
{
    va_list args;
    osr__begin(ctx, k);
    va_start(args, kinds);
    osr__args_list(ctx, kinds, args);
    va_end(args);
    osr__run(ctx, groups);
}

/* Work-groups of a flat kernel over `count` values, and of one that takes an image's planes (n, cb)
 * one by one. */
static size_t osr__flat(const osr_ctx *ctx, size_t count)
{
    const size_t each = ctx->family == OSR_KERNELS_GPU ? (size_t)osr__local_size(ctx) : 4096;
    return (count + each - 1) / each;
}

static size_t osr__planes(osr_shape s)
{
    return (size_t)s.dim[0] * (size_t)osr__blocks(s.dim[3]);
}

/* Copy the node's staged data into `slot` at each replay. */
static void osr__upload(osr_ctx *ctx, int slot, size_t bytes)
{
    osr__launch *l = osr__launch_add(ctx);
    if (l == NULL)
        return;
    l->mem = ctx->slots[slot].mem;
    l->bytes = bytes;
}

static void osr__count_flops(osr_ctx *ctx, double flops)
{
    osr__launch *l = osr__writing(ctx);
    if (l != NULL)
        l->flops = flops;
}

#ifdef OSR_CLBLAST
/* Operand 0 a, 1 b or 2 c of a product by CLBlast: the buffer of a value or a scratch slot. */
static void osr__gemm_operand(osr_ctx *ctx, osr__gemm *g, int which, uint32_t ref, int slot, int ld,
                              size_t stride)
{
    const int persist = ref != 0 && osr__is_persist(ref);
    slot = ref != 0 && !persist ? ctx->nodes[ref].loc.slot : slot;
    g->mem[which] = persist ? ctx->arenas[osr__arena_of(ref)].mem : ctx->slots[slot].mem;
    g->offset[which] = persist ? osr__persist_of(ctx, ref)->offset : 0;
    g->ld[which] = (size_t)ld;
    g->stride[which] = stride;
}

static void osr__gemm_size(osr__gemm *g, int m, int n, int k, int ta, int tb, int batch)
{
    g->m = (size_t)m;
    g->n = (size_t)n;
    g->k = (size_t)k;
    g->ta = ta ? CLBlastTransposeYes : CLBlastTransposeNo;
    g->tb = tb ? CLBlastTransposeYes : CLBlastTransposeNo;
    g->batch = (size_t)batch;
    g->room = NULL;
}

/* Launch CLBlast; one product with its working memory among the plan's. */
static void osr__emit_gemm(osr_ctx *ctx, osr__gemm *g)
{
    osr__launch *l;
    size_t bytes = 0;
    int room = -1;
    if (g->batch == 1 && ctx->status == OSR_OK) {
        const CLBlastStatusCode code = CLBlastSGemmTempBufferSize(
            CLBlastLayoutRowMajor, (CLBlastTranspose)g->ta, (CLBlastTranspose)g->tb, g->m, g->n,
            g->k, g->offset[0], g->ld[0], g->offset[1], g->ld[1], g->offset[2], g->ld[2],
            &ctx->queue, &bytes);
        if (code != CLBlastSuccess)
            osr__cl_fail(ctx, "CLBlastSGemmTempBufferSize", "matmul", (cl_int)code);
        if (bytes > 0)
            room = osr__scratch(ctx, bytes / sizeof(float) + 1);
    }
    l = osr__launch_add(ctx);
    if (l == NULL)
        return;
    l->products = OSR_PRODUCTS_CLBLAST;
    l->gemm = *g;
    l->gemm.room = room < 0 ? NULL : ctx->slots[room].mem;
}

static cl_int osr__gemm_run(osr_ctx *ctx, const osr__gemm *g, cl_event *event)
{
    const CLBlastTranspose ta = (CLBlastTranspose)g->ta, tb = (CLBlastTranspose)g->tb;
    return (cl_int)(g->batch == 1
        ? CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, g->m, g->n, g->k, 1.0f,
                                     g->mem[0], g->offset[0], g->ld[0], g->mem[1], g->offset[1],
                                     g->ld[1], 0.0f, g->mem[2], g->offset[2], g->ld[2],
                                     &ctx->queue, event, g->room)
        : CLBlastSgemmStridedBatched(CLBlastLayoutRowMajor, ta, tb, g->m, g->n, g->k, 1.0f,
                                     g->mem[0], g->offset[0], g->ld[0], g->stride[0], g->mem[1],
                                     g->offset[1], g->ld[1], g->stride[1], 0.0f, g->mem[2],
                                     g->offset[2], g->ld[2], g->stride[2], g->batch, &ctx->queue,
                                     event));
}
#endif

/* -- planning: making and finding a plan -- */

/* Allocate or enlarge the slots of a plan. Other plans that hold an enlarged one are dropped. */
static void osr__slots_allocate(osr_ctx *ctx, const osr__plan *plan)
{
    uint64_t planned = ctx->stats.device_bytes;
    size_t i;
    int grown = 0;
    for (i = 0; i < plan->use_count; ++i) {
        const osr__slot *s = &ctx->slots[plan->uses[i]];
        planned += s->want > s->bytes ? s->want - s->bytes : 0;
    }
    if (ctx->stats.planned_peak_bytes < planned)
        ctx->stats.planned_peak_bytes = planned;
    for (i = 0; i < plan->use_count && ctx->status == OSR_OK; ++i) {
        osr__slot *s = &ctx->slots[plan->uses[i]];
        const size_t old = s->bytes;
        if (s->want <= s->bytes)
            continue;
        if (s->mem != NULL) {
            grown = 1;
            clFinish(ctx->queue);
        }
        osr__mem_release(ctx, &s->mem, old);
        s->bytes = 0;
        s->mem = osr__mem_create(ctx, s->want);
        if (s->mem != NULL)
            s->bytes = s->want;
    }
    if (grown)
        osr__plans_drop(ctx);
}

/* Room for the launches of a plan; what the host's memory comes to with them and with the longest
 * text of the programs that are yet to be built. */
static void osr__launches_allocate(osr_ctx *ctx, osr__plan *plan)
{
    const size_t n = ctx->launches_wanted;
    size_t text = 0, k;
    uint64_t planned;
    for (k = 0; k < OSR__PROGRAM_COUNT && ctx->kernel_dir == NULL; ++k)
        if ((ctx->programs_wanted >> k & 1u) != 0 && ctx->programs[k] == NULL
            && osr__program_bytes(ctx, (int)k) > text)
            text = osr__program_bytes(ctx, (int)k);
    planned = ctx->stats.host_bytes + n * sizeof *plan->launches + text;
    ctx->stats.planned_host_peak_bytes =
        ctx->stats.host_peak_bytes > planned ? ctx->stats.host_peak_bytes : planned;
    plan->launches = n == 0 ? NULL : (osr__launch *)osr__alloc(ctx, n, sizeof *plan->launches);
    plan->launch_capacity = plan->launches != NULL ? n : 0;
}

/* Last node of first..end-1 that reads each node, into last[]; kept[] for what must survive;
 * outside[] for what was there before. */
static void osr__liveness(osr_ctx *ctx, osr__plan *plan, uint32_t *last)
{
    uint32_t i;
    int k;
    for (i = plan->first; i < plan->first + plan->count; ++i) {
        last[i - plan->first] = 0;
        for (k = 0; k < 6; ++k) {
            const uint32_t in = ctx->nodes[i].r.in[k];
            if (in == 0 || osr__is_persist(in))
                continue;
            if (in >= plan->first)
                last[in - plan->first] = i;
            else if (osr__grow(ctx, &plan->outside, &plan->outside_capacity,
                               plan->outside_count + 1, sizeof *plan->outside))
                plan->outside[plan->outside_count++] = ctx->nodes[in].loc;
        }
    }
    for (i = plan->first; i < plan->first + plan->count; ++i) {
        const osr__record *r = &ctx->nodes[i].r;
        plan->kept[i - plan->first] =
            (unsigned char)(r->op != OSR__OP_NONE && osr__op(r->op)->value
                            && (r->keep || last[i - plan->first] == 0));
    }
}

/* Widest halo that any reader of images of this size wants: one for all of them, so that they can
 * take each other's slots. */
static int osr__halo_of(osr_ctx *ctx, const osr__plan *plan, osr_shape s)
{
    int halo = 0, k;
    uint32_t j;
    for (j = plan->first; osr__is_image(s) && j < plan->first + plan->count; ++j)
        for (k = 0; k < 6; ++k) {
            const uint32_t in = ctx->nodes[j].r.in[k];
            if (in != 0 && !osr__is_persist(in) && osr__is_image(ctx->nodes[in].r.shape)
                && ctx->nodes[in].r.shape.dim[1] == s.dim[1]
                && ctx->nodes[in].r.shape.dim[2] == s.dim[2]) {
                const int h = osr__halo_wanted(ctx, &ctx->nodes[j].r, k);
                if (h > halo)
                    halo = h;
            }
        }
    return halo;
}

/* An op that works value by value may write over an input that it is the last to read. */
static int osr__place_over(osr_ctx *ctx, const osr__plan *plan, uint32_t i, const uint32_t *last)
{
    int k;
    for (k = 0; k < 6; ++k) {
        const uint32_t j = ctx->nodes[i].r.in[k];
        if (j == 0 || osr__is_persist(j) || j < plan->first || last[j - plan->first] != i
            || plan->kept[j - plan->first] || ctx->nodes[j].loc.slot < 0
            || !osr__same_shape(ctx->nodes[j].r.shape, ctx->nodes[i].r.shape))
            continue;
        ctx->nodes[i].loc = ctx->nodes[j].loc;
        return 1;
    }
    return 0;
}

/* Does node i depend on parameters and state alone? Only asked of plans that change neither. */
static int osr__is_constant(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    int k;
    if (!osr__op(r->op)->value || osr__is_image(r->shape))
        return 0;
    for (k = 0; k < 6; ++k)
        if (r->in[k] != 0 && !osr__is_persist(r->in[k]))
            return 0;
    return r->in[0] != 0 || r->in[1] != 0;
}

/* A slot of its own for a constant; plans that record the same one share it. */
static void osr__place_constant(osr_ctx *ctx, osr__plan *plan, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    size_t n;
    for (n = 0; n < ctx->constant_count; ++n)
        if (memcmp(&ctx->constants[n].r, r, sizeof *r) == 0)
            break;
    if (n == ctx->constant_count) {
        int key[4] = { -1, -1, -1, 0 };
        if (!osr__grow(ctx, &ctx->constants, &ctx->constant_capacity, n + 1,
                       sizeof *ctx->constants))
            return;
        key[3] = (int)n;
        ctx->constants[n].r = *r;
        ctx->constants[n].version = 0;
        ctx->constants[n].slot = osr__slot_take(ctx, key, osr_shape_count(r->shape)
                                                              * sizeof(float));
        if (ctx->constants[n].slot < 0)
            return;
        ctx->constant_count++;
    }
    plan->constant[i - plan->first] = (int)n + 1;
    ctx->nodes[i].loc.slot = ctx->constants[n].slot;
    osr__plan_uses(ctx, plan, ctx->constants[n].slot);
}

/* First pass: a slot for every value and scratch, reused when its last reader has run. */
static void osr__plan_place(osr_ctx *ctx, osr__plan *plan, uint32_t *last)
{
    uint32_t i, j;
    size_t k;
    ctx->measuring = 1;
    ctx->scratch_next = 0;
    for (k = 0; k < ctx->slot_count; ++k)
        ctx->slots[k].taken = 0;
    for (i = plan->first; i < plan->first + plan->count && ctx->status == OSR_OK; ++i) {
        const osr__op_row *row = osr__op(ctx->nodes[i].r.op);
        const size_t before = plan->scratch_count;
        int n;
        if (ctx->nodes[i].r.op == OSR__OP_NONE)
            continue;
        ctx->making_node = i;
        if (!plan->mutates && osr__is_constant(ctx, i))
            osr__place_constant(ctx, plan, i);
        else if (row->value && (row->value != OSR__OVER || !osr__place_over(ctx, plan, i, last)))
            osr__place(ctx, plan, i, osr__halo_of(ctx, plan, ctx->nodes[i].r.shape));
        if (ctx->status == OSR_OK)
            row->lower(ctx, i);
        for (k = before; k < plan->scratch_count; ++k)
            ctx->slots[plan->scratch[k]].taken = 0;
        for (n = 0; n < 6; ++n) {
            j = ctx->nodes[i].r.in[n];
            if (j != 0 && !osr__is_persist(j) && j >= plan->first && last[j - plan->first] == i
                && !plan->kept[j - plan->first] && ctx->nodes[j].loc.slot >= 0
                && ctx->nodes[j].loc.slot != ctx->nodes[i].loc.slot)
                ctx->slots[ctx->nodes[j].loc.slot].taken = 0;
        }
    }
}

/* Second pass: the launches, with every argument that does not change. */
static void osr__plan_emit(osr_ctx *ctx, osr__plan *plan)
{
    uint32_t i;
    ctx->measuring = 0;
    ctx->scratch_next = 0;
    for (i = plan->first; i < plan->first + plan->count && ctx->status == OSR_OK; ++i) {
        if (ctx->nodes[i].r.op == OSR__OP_NONE)
            continue;
        ctx->making_node = i;
        osr__op(ctx->nodes[i].r.op)->lower(ctx, i);
    }
}

static uint64_t osr__tape_hash(const osr_ctx *ctx)
{
    uint64_t h = 1469598103934665603ull;
    size_t i, k;
    for (i = ctx->done; i < ctx->node_count; ++i) {
        const unsigned char *p = (const unsigned char *)&ctx->nodes[i].r;
        for (k = 0; k < sizeof(osr__record); k += 4) {
            uint32_t w;
            memcpy(&w, p + k, 4);
            h = (h ^ w) * 1099511628211ull;
        }
    }
    return h;
}

static int osr__plan_fits(const osr_ctx *ctx, const osr__plan *plan, uint64_t hash)
{
    size_t i, at = 0;
    int k;
    if (plan->hash != hash || plan->first != ctx->done
        || plan->count != ctx->node_count - ctx->done)
        return 0;
    for (i = 0; i < plan->use_count; ++i)
        if (ctx->slots[plan->uses[i]].busy == ctx->generation)
            return 0;
    for (i = 0; i < plan->count; ++i) {
        const osr__record *r = &ctx->nodes[plan->first + i].r;
        if (memcmp(r, &plan->records[i], sizeof *r) != 0)
            return 0;
        for (k = 0; k < 6; ++k)
            if (r->in[k] != 0 && !osr__is_persist(r->in[k]) && r->in[k] < plan->first
                && memcmp(&ctx->nodes[r->in[k]].loc, &plan->outside[at++], sizeof(osr__loc)) != 0)
                return 0;
    }
    return 1;
}

/* Does running node i change parameters, gradients, moments or state? */
static int osr__mutates(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    return r->op != OSR__OP_NONE
           && (!osr__op(r->op)->value || osr__op(r->op)->value == OSR__UPDATES);
}

static osr__plan *osr__plan_make(osr_ctx *ctx, uint64_t hash)
{
    osr__plan *plan = NULL;
    uint32_t *last, i;
    if (osr__grow(ctx, &ctx->plans, &ctx->plan_capacity, ctx->plan_count + 1, sizeof *ctx->plans))
        plan = (osr__plan *)osr__alloc(ctx, 1, sizeof *plan);
    if (plan == NULL)
        return NULL;
    ctx->launches_wanted = ctx->programs_wanted = 0;
    plan->hash = hash;
    plan->first = (uint32_t)ctx->done;
    plan->count = (uint32_t)(ctx->node_count - ctx->done);
    plan->records = (osr__record *)osr__alloc(ctx, plan->count, sizeof *plan->records);
    plan->locs = (osr__loc *)osr__alloc(ctx, plan->count, sizeof *plan->locs);
    plan->kept = (unsigned char *)osr__alloc(ctx, plan->count, 1);
    plan->constant = (int *)osr__alloc(ctx, plan->count, sizeof *plan->constant);
    last = (uint32_t *)osr__alloc(ctx, plan->count, sizeof *last);
    if (plan->records != NULL && plan->locs != NULL && plan->kept != NULL && plan->constant != NULL
        && last != NULL) {
        ctx->making = plan;
        for (i = 0; i < plan->count; ++i) {
            plan->records[i] = ctx->nodes[plan->first + i].r;
            plan->mutates |= osr__mutates(ctx, plan->first + i);
        }
        osr__liveness(ctx, plan, last);
        osr__plan_place(ctx, plan, last);
        osr__slots_allocate(ctx, plan);
        if (ctx->status == OSR_OK)
            osr__launches_allocate(ctx, plan);
        if (ctx->status == OSR_OK)
            osr__plan_emit(ctx, plan);
        for (i = 0; i < plan->count; ++i)
            plan->locs[i] = ctx->nodes[plan->first + i].loc;
        ctx->making = NULL;
    }
    osr__free(ctx, last, plan->count, sizeof *last);
    if (ctx->status == OSR_OK) {
        ctx->plans[ctx->plan_count++] = plan;
        ctx->stats.plans++;
        return plan;
    }
    osr__plan_destroy(ctx, plan);
    return NULL;
}

/* -- replay -- */

static void osr__time_add(osr_ctx *ctx, const osr__launch *l, double seconds)
{
    osr_launch_time *t;
    if (!osr__grow(ctx, &ctx->times, &ctx->time_capacity, ctx->time_count + 1, sizeof *ctx->times))
        return;
    t = &ctx->times[ctx->time_count++];
    t->kernel = l->kernel != NULL ? osr__kernel_name(l->name) : "upload";
#ifdef OSR_CLBLAST
    if (l->gemm.batch > 0)
        t->kernel = l->gemm.ta == CLBlastTransposeYes   ? "clblast_tn"
                    : l->gemm.tb == CLBlastTransposeYes ? "clblast_nt"
                                                        : "clblast_nn";
#endif
    t->products = (osr_products)l->products;
    t->op = osr__op(ctx->nodes[l->node].r.op)->name;
    t->layer = ctx->nodes[l->node].r.mark;
    t->backward = ctx->nodes[l->node].r.backward;
    t->seconds = seconds;
    t->flops = l->flops;
}

static void osr__replay_one(osr_ctx *ctx, const osr__launch *l)
{
    const osr__node *node = &ctx->nodes[l->node];
    cl_event event = NULL, before = NULL;
    cl_event *const e = ctx->profiling ? &event : NULL;
    cl_int code = CL_SUCCESS;
    int i;
    const char *what = l->kernel != NULL ? osr__kernel_name(l->name) : "input";
    const char *call = "clEnqueueNDRangeKernel";
    if (l->kernel == NULL && l->products == OSR_PRODUCTS_CLBLAST) {
#ifdef OSR_CLBLAST
        what = "clblast"; /* several kernels, the last of which has the event */
        call = "CLBlastSgemm";
        if (e != NULL)
            code = clEnqueueMarkerWithWaitList(ctx->queue, 0, NULL, &before);
        if (code == CL_SUCCESS)
            code = osr__gemm_run(ctx, &l->gemm, e);
        ctx->stats.launches++;
#endif
    } else if (l->kernel == NULL) {
        call = "clEnqueueWriteBuffer";
        code = clEnqueueWriteBuffer(ctx->queue, l->mem, CL_FALSE, 0, l->bytes,
                                    ctx->staging + node->data, 0, NULL, e);
    } else {
        for (i = 0; i < l->dyn_count && code == CL_SUCCESS; ++i)
            code = clSetKernelArg(l->kernel, l->dyn[i].arg, sizeof(osr__word),
                                  &node->dyn[l->dyn[i].index]);
        if (code != CL_SUCCESS)
            call = "clSetKernelArg";
        else
            code = clEnqueueNDRangeKernel(ctx->queue, l->kernel, 3, NULL, l->global, l->local, 0,
                                          NULL, e);
        ctx->stats.launches++;
    }
    if (code == CL_SUCCESS && event != NULL) {
        call = "clWaitForEvents";
        code = clWaitForEvents(1, &event);
        osr__time_add(ctx, l, osr__event_seconds(before, event));
    }
    if (before != NULL)
        clReleaseEvent(before);
    if (event != NULL)
        clReleaseEvent(event);
    if (code != CL_SUCCESS)
        osr__cl_fail(ctx, call, what, code);
}

static void osr__fuse(osr_ctx *ctx);
static void osr__fuse_inference(osr_ctx *ctx);
static void osr__fuse_training(osr_ctx *ctx);

/* Run what was recorded and has not run yet. */
static osr_status osr__flush(osr_ctx *ctx)
{
    osr__plan *plan = NULL;
    uint64_t hash;
    size_t i;
    if (ctx->status != OSR_OK || ctx->done >= ctx->node_count)
        return ctx->status;
    osr__fuse(ctx);
    osr__fuse_inference(ctx);
    osr__fuse_training(ctx);
    hash = osr__tape_hash(ctx);
    for (i = 0; i < ctx->plan_count && plan == NULL; ++i)
        if (osr__plan_fits(ctx, ctx->plans[i], hash))
            plan = ctx->plans[i];
    if (plan == NULL)
        plan = osr__plan_make(ctx, hash);
    if (plan == NULL)
        return ctx->status;
    for (i = 0; i < plan->count; ++i) {
        ctx->nodes[plan->first + i].loc = plan->locs[i];
        if (plan->constant[i] != 0)
            continue;
        if (plan->kept[i])
            ctx->slots[plan->locs[i].slot].busy = ctx->generation;
        else if (plan->locs[i].slot >= 0)
            ctx->nodes[plan->first + i].loc.slot = -2 - plan->locs[i].slot; /* overwritten */
    }
    for (i = 0; i < plan->launch_count && ctx->status == OSR_OK; ++i) {
        const int constant = plan->constant[plan->launches[i].node - plan->first];
        if (constant != 0 && ctx->constants[constant - 1].version == ctx->version)
            continue;
        osr__replay_one(ctx, &plan->launches[i]);
        if (i % 32 == 31)
            clFlush(ctx->queue);
    }
    for (i = 0; i < plan->count && ctx->status == OSR_OK; ++i)
        if (plan->constant[i] != 0)
            ctx->constants[plan->constant[i] - 1].version = ctx->version;
    ctx->version += plan->mutates != 0;
    ctx->done = ctx->node_count;
    return ctx->status;
}

OSR_API osr_status osr_step_end(osr_ctx *ctx)
{
    cl_int code;
    osr__flush(ctx);
    if (ctx->queue != NULL) {
        code = clFinish(ctx->queue); /* staged data may be overwritten from here on */
        if (code != CL_SUCCESS)
            osr__cl_fail(ctx, "clFinish", "osr_step_end", code);
    }
    osr__step_reset(ctx);
    ctx->step++;
    return ctx->status;
}
/* == ops and autograd == ----------------------------------------------------------------------- */

/* The rows. The first is a node that was fused into another one or is not needed, the second what
 * an op that follows makes beside its value. */
#define OSR__OPS(X)                                                                                \
    X(none, NULL, NULL, 0)                                                                         \
    X(part, osr__lower_nothing, NULL, 1)                                                           \
    X(input, osr__lower_input, NULL, 1)                                                            \
    X(labels, osr__lower_input, NULL, 1)                                                           \
    X(read_image, osr__lower_image, NULL, 1)                                                       \
    X(fill, osr__lower_fill, NULL, 1)                                                              \
    X(give, osr__lower_give, NULL, 0)                                                              \
    X(clear, osr__lower_clear, NULL, 0)                                                            \
    X(add, osr__lower_map, osr__back_map, OSR__OVER)                                               \
    X(sub, osr__lower_map, osr__back_map, OSR__OVER)                                               \
    X(mul, osr__lower_map, osr__back_map, OSR__OVER)                                               \
    X(div, osr__lower_map, osr__back_map, OSR__OVER)                                               \
    X(affine, osr__lower_map, osr__back_map, OSR__OVER)                                            \
    X(exp, osr__lower_map, osr__back_map, OSR__OVER)                                               \
    X(log, osr__lower_map, osr__back_map, OSR__OVER)                                               \
    X(sqrt, osr__lower_map, osr__back_map, OSR__OVER)                                              \
    X(sqrt_dx, osr__lower_map, NULL, OSR__OVER)                                                    \
    X(sum, osr__lower_sum, osr__back_sum, 1)                                                       \
    X(sum_dx, osr__lower_sum_dx, NULL, 1)                                                          \
    X(row_sum, osr__lower_rows, osr__back_next, 1)                                                 \
    X(row_sum_dx, osr__lower_rows, NULL, 1)                                                        \
    X(pick, osr__lower_pick, osr__back_next, 1)                                                    \
    X(pick_dx, osr__lower_pick_dx, NULL, 1)                                                        \
    X(count_correct, osr__lower_count_correct, NULL, 1)                                            \
    X(matmul, osr__lower_matmul, osr__back_matmul, 1)                                              \
    X(conv_pack, osr__lower_conv_pack, NULL, 1)                                                    \
    X(conv2d, osr__lower_conv2d, osr__back_conv2d, 1)                                              \
    X(conv2d_dx, osr__lower_conv2d_dx, NULL, 1)                                                    \
    X(conv2d_dw, osr__lower_conv2d_dw, NULL, 0)                                                    \
    X(bias, osr__lower_bias, osr__back_bias, 1)                                                    \
    X(bias_db, osr__lower_bias_db, NULL, 0)                                                        \
    X(norm_stats, osr__lower_norm_stats, NULL, OSR__UPDATES)                                       \
    X(norm_fixed, osr__lower_norm_stats, NULL, 1)                                                  \
    X(norm_drop, osr__lower_norm_drop, NULL, 1)                                                    \
    X(norm_act, osr__lower_norm_act, osr__back_norm_act, OSR__OVER)                                \
    X(norm_sums, osr__lower_norm_sums, NULL, 1)                                                    \
    X(norm_act_dx, osr__lower_norm_act_dx, NULL, OSR__OVER)                                        \
    X(pool, osr__lower_image, osr__back_pool, 1)                                                   \
    X(pool_dx, osr__lower_image, NULL, 1)                                                          \
    X(global_avg_pool, osr__lower_image, osr__back_next, 1)                                        \
    X(global_avg_pool_dx, osr__lower_image, NULL, 1)                                               \
    X(quarter_turns, osr__lower_image, NULL, 1)                                                    \
    X(flatten, osr__lower_image, osr__back_next, 1)                                                \
    X(flatten_dx, osr__lower_image, NULL, 1)                                                       \
    X(softmax, osr__lower_rows, osr__back_next, 1)                                                 \
    X(softmax_dx, osr__lower_rows, NULL, 1)                                                        \
    X(logsumexp, osr__lower_rows, osr__back_next, 1)                                               \
    X(logsumexp_dx, osr__lower_rows, NULL, 1)                                                      \
    X(normalise, osr__lower_rows, osr__back_next, 1)                                               \
    X(normalise_dx, osr__lower_rows, NULL, 1)                                                      \
    X(anchor_distance, osr__lower_distance, osr__back_distance, 1)                                 \
    X(anchor_distance_dx, osr__lower_distance_dx, NULL, 1)                                         \
    X(anchor_distance_da, osr__lower_distance_dx, NULL, 1)                                         \
    X(first_rows, osr__lower_first_rows, osr__back_next, 1)                                        \
    X(first_rows_dx, osr__lower_first_rows, NULL, 1)                                               \
    X(loss_cross_entropy, osr__lower_loss, osr__back_loss, 1)                                      \
    X(loss_cross_entropy_dx, osr__lower_loss, NULL, 1)                                             \
    X(loss_cac, osr__lower_loss, osr__back_loss, 1)                                                \
    X(loss_cac_dx, osr__lower_loss, NULL, 1)                                                       \
    X(loss_difair, osr__lower_loss, osr__back_loss, 1)                                             \
    X(loss_difair_dx, osr__lower_loss, NULL, 1)                                                    \
    X(loss_movr, osr__lower_loss, osr__back_loss, 1)                                               \
    X(loss_movr_dx, osr__lower_loss, NULL, 1)                                                      \
    X(loss_ovr, osr__lower_loss, osr__back_loss, 1)                                                \
    X(loss_ovr_dx, osr__lower_loss, NULL, 1)                                                       \
    X(loss_correlation, osr__lower_correlation, osr__back_correlation, 1)                          \
    X(loss_correlation_dw, osr__lower_correlation_dw, NULL, 0)                                     \
    X(optimiser, osr__lower_optimiser, NULL, 0)                                                    \
    X(perturb, osr__lower_perturb, NULL, 1)                                                        \
    X(difference_norm, osr__lower_difference_norm, NULL, 1)                                        \
    X(square_sum, osr__lower_square_sum, NULL, 1)                                                  \
    X(augment, osr__lower_augment, NULL, 1)

typedef enum osr__op_id {
#define OSR__OP_ENUM(name, lower, backward, value) OSR__OP_##name,
    OSR__OPS(OSR__OP_ENUM)
#undef OSR__OP_ENUM
    OSR__OP_COUNT
} osr__op_id;

/* -- doors: inputs, labels, reads -- */

/* Values, or labels, of which each takes as many bytes. */
static void osr__lower_input(osr_ctx *ctx, uint32_t i)
{
    const osr_shape s = osr__rec(ctx, i)->shape;
    const size_t n = osr_shape_count(s);
    int scratch;
    if (!osr__is_image(s)) {
        osr__upload(ctx, ctx->nodes[i].loc.slot, n * sizeof(float));
        return;
    }
    scratch = osr__scratch(ctx, n);
    osr__upload(ctx, scratch, n * sizeof(float));
    osr__call(ctx, OSR__K_image_from_dense, osr__planes(s), "sigSQ", scratch, 0, i, i,
              s.dim[1] * s.dim[2] * s.dim[3], 1, s.dim[2] * s.dim[3], s.dim[3]);
}

OSR_API osr_tensor osr_input(osr_ctx *ctx, osr_shape shape, const float *data)
{
    const size_t n = data != NULL ? osr_shape_count(shape) : 0, bad = osr__first_bad(data, n);
    osr__node *node;
    uint32_t i;
    if (n == 0)
        osr__fail(ctx, data == NULL ? OSR_ARG : OSR_SHAPE, "input: shape %s, data %s",
                  osr__shape_text(shape).s, data == NULL ? "NULL" : "given");
    else if (bad < n)
        osr__fail(ctx, OSR_NAN, "input: value %lu of shape %s is not finite", (unsigned long)bad,
                  osr__shape_text(shape).s);
    i = osr__append(ctx, OSR__OP_input, shape, 0, 0, 0, &node);
    if (i != 0)
        osr__stage(ctx, node, data, n * sizeof(float));
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_labels(osr_ctx *ctx, int n, int classes, const int32_t *labels)
{
    osr__node *node;
    uint32_t i;
    int k;
    if (labels == NULL || n < 1 || classes < 1)
        osr__fail(ctx, OSR_ARG, "labels: n %d, classes %d", n, classes);
    for (k = 0; k < n && ctx->status == OSR_OK; ++k)
        if (labels[k] < 0 || labels[k] >= classes)
            osr__fail(ctx, OSR_ARG, "labels: label %d is %d, not in 0..%d", k, (int)labels[k],
                      classes - 1);
    i = osr__append(ctx, OSR__OP_labels, osr_shape_make(1, n, 0, 0, 0), 0, 0, 0, &node);
    node->r.ia[0] = classes;
    if (i != 0)
        osr__stage(ctx, node, labels, (size_t)n * sizeof(int32_t));
    return osr__handle(ctx, i);
}

/* Images to rows and back, pooled, turned. ia of pools: size, stride, average */
static void osr__lower_image(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const uint32_t x = r->in[0];
    const osr_shape s = osr__ref_shape(ctx, x);
    const size_t from = osr__planes(s), to = osr__planes(r->shape);
    const int32_t *p = r->ia, *d = r->shape.dim;
    switch (r->op) {
    case OSR__OP_read_image: /* the last four of these: steps between dense values */
        osr__call(ctx, OSR__K_image_to_dense, from, "gdSQ", x, i, x, s.dim[1] * s.dim[2] * s.dim[3],
                  1, s.dim[2] * s.dim[3], s.dim[3]);
        break;
    case OSR__OP_flatten:
        osr__call(ctx, OSR__K_image_to_dense, from, "gdSQ", x, i, x, s.dim[1] * s.dim[2] * s.dim[3],
                  s.dim[1] * s.dim[2], s.dim[2], 1);
        break;
    case OSR__OP_flatten_dx:
        osr__call(ctx, OSR__K_image_from_dense, to, "dgSQ", x, i, i, d[1] * d[2] * d[3],
                  d[1] * d[2], d[2], 1);
        break;
    case OSR__OP_global_avg_pool: osr__call(ctx, OSR__K_global_pool, from, "gdS", x, i, x); break;
    case OSR__OP_global_avg_pool_dx:
        osr__call(ctx, OSR__K_global_pool_dx, to, "dgS", x, i, i);
        break;
    case OSR__OP_pool:
        osr__call(ctx, OSR__K_pool, to, "ggPiii", x, i, i, p[0], p[1], p[2]);
        break;
    case OSR__OP_pool_dx: /* in = dy, x, y */
        osr__call(ctx, OSR__K_pool_dx, to, "ggggPiiiii", x, r->in[1], r->in[2], i, i, s.dim[1],
                  s.dim[2], p[0], p[1], p[2]);
        break;
    default:
        osr__call(ctx, OSR__K_image_turns, to, "ggiii", x, i, s.dim[0], osr__blocks(s.dim[3]),
                  s.dim[1]);
        break;
    }
}

OSR_API osr_status osr_read(osr_ctx *ctx, osr_tensor t, float *dst, size_t count)
{
    uint32_t ref = osr__ref(ctx, t, "osr_read", "t");
    cl_mem mem;
    size_t offset = 0, i;
    osr__node *node;
    cl_int code;
    int is_labels;
    if (ref == 0)
        return ctx->status;
    if (dst == NULL || count != osr_shape_count(osr__ref_shape(ctx, ref)))
        return osr__fail(ctx, OSR_SHAPE, "osr_read: %lu values for shape %s", (unsigned long)count,
                         osr__ref_text(ctx, ref).s);
    if (!osr__is_persist(ref) && osr__is_image(osr__rec(ctx, ref)->shape)) {
        if (ref >= ctx->done)
            osr__rec(ctx, ref)->keep = 1;
        ref = osr__append(ctx, OSR__OP_read_image, osr_shape_make(1, (int)count, 0, 0, 0), ref, 0,
                          0, &node);
        if (ref == 0)
            return ctx->status;
    }
    if (!osr__is_persist(ref) && ref >= ctx->done)
        osr__rec(ctx, ref)->keep = 1;
    if (osr__flush(ctx) != OSR_OK)
        return ctx->status;
    is_labels = !osr__is_persist(ref) && osr__rec(ctx, ref)->op == OSR__OP_labels;
    if (osr__is_persist(ref)) {
        mem = ctx->arenas[osr__arena_of(ref)].mem;
        offset = osr__persist_of(ctx, ref)->offset * sizeof(float);
    } else {
        mem = ctx->slots[ctx->nodes[ref].loc.slot].mem;
    }
    code = clEnqueueReadBuffer(ctx->queue, mem, CL_TRUE, offset, count * sizeof(float), dst, 0,
                               NULL, NULL);
    if (code != CL_SUCCESS)
        return osr__cl_fail(ctx, "clEnqueueReadBuffer", "osr_read", code);
    for (i = 0; is_labels && i < count; ++i) {
        int32_t v;
        memcpy(&v, &dst[i], sizeof v);
        dst[i] = (float)v;
    }
    return ctx->status;
}

static void osr__lower_fill(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    if (osr__is_image(r->shape))
        osr__call(ctx, OSR__K_fill_image, osr__planes(r->shape), "gSf", i, i, r->fa[0]);
    else
        osr__call(ctx, OSR__K_fill_dense, osr__flat(ctx, osr_shape_count(r->shape)), "dnf", i, i,
                  r->fa[0]);
}

static void osr__lower_nothing(osr_ctx *ctx, uint32_t i)
{
    (void)ctx;
    (void)i;
}

/* -- element by element -- */

static int osr__map_code(int op)
{
    return op - OSR__OP_add; /* the rows add..sqrt_dx stand in the order of kernels/element.cl */
}

static void osr__lower_map(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const uint32_t a = r->in[0], b = r->in[1] != 0 ? r->in[1] : r->in[0];
    const int code = osr__map_code(r->op);
    if (osr__is_image(r->shape))
        osr__call(ctx, OSR__K_map_image, osr__planes(r->shape), "gggSiff", a, b, i, i, code,
                  r->fa[0], r->fa[1]);
    else
        osr__call(ctx, OSR__K_map_dense, osr__flat(ctx, osr_shape_count(r->shape)), "dddniff", a, b,
                  i, i, code, r->fa[0], r->fa[1]);
}

static uint32_t osr__map(osr_ctx *ctx, int op, uint32_t a, uint32_t b, float s, float t)
{
    osr__node *node;
    const uint32_t i = osr__append(ctx, op, osr__ref_shape(ctx, a), a, b, 0, &node);
    node->r.fa[0] = s;
    node->r.fa[1] = t;
    return i;
}

/* What is worked on element by element. Images live on the tape only: a rank-4 parameter (a filter)
 * is not one. */
static uint32_t osr__operand(osr_ctx *ctx, osr_tensor t, const char *op, const char *name)
{
    const uint32_t x = osr__ref(ctx, t, op, name);
    if (osr__is_persist(x) && osr__is_image(osr__ref_shape(ctx, x)))
        osr__fail(ctx, OSR_SHAPE, "%s: a rank-4 parameter is not an image", op);
    return ctx->status == OSR_OK ? x : 0;
}

static osr_tensor osr__binary(osr_ctx *ctx, int op, osr_tensor ta, osr_tensor tb)
{
    const char *name = osr__op(op)->name;
    const uint32_t a = osr__operand(ctx, ta, name, "a"), b = osr__operand(ctx, tb, name, "b");
    if (!osr__same_shape(osr__ref_shape(ctx, a), osr__ref_shape(ctx, b)))
        osr__fail(ctx, OSR_SHAPE, "%s: a is %s but b is %s", name, osr__ref_text(ctx, a).s,
                  osr__ref_text(ctx, b).s);
    return osr__handle(ctx, osr__map(ctx, op, a, b, 0.0f, 0.0f));
}

static osr_tensor osr__unary(osr_ctx *ctx, int op, osr_tensor tx, float s, float t)
{
    const char *name = osr__op(op)->name;
    const uint32_t x = osr__operand(ctx, tx, name, "x");
    if (!(fabsf(s) <= FLT_MAX) || !(fabsf(t) <= FLT_MAX))
        osr__fail(ctx, OSR_ARG, "%s: a constant is not finite", name);
    return osr__handle(ctx, osr__map(ctx, op, x, 0, s, t));
}

OSR_API osr_tensor osr_add(osr_ctx *ctx, osr_tensor a, osr_tensor b)
{
    return osr__binary(ctx, OSR__OP_add, a, b);
}

OSR_API osr_tensor osr_sub(osr_ctx *ctx, osr_tensor a, osr_tensor b)
{
    return osr__binary(ctx, OSR__OP_sub, a, b);
}

OSR_API osr_tensor osr_mul(osr_ctx *ctx, osr_tensor a, osr_tensor b)
{
    return osr__binary(ctx, OSR__OP_mul, a, b);
}

OSR_API osr_tensor osr_div(osr_ctx *ctx, osr_tensor a, osr_tensor b)
{
    return osr__binary(ctx, OSR__OP_div, a, b);
}

OSR_API osr_tensor osr_affine(osr_ctx *ctx, osr_tensor x, float scale, float shift)
{
    return osr__unary(ctx, OSR__OP_affine, x, scale, shift);
}

OSR_API osr_tensor osr_exp(osr_ctx *ctx, osr_tensor x)
{
    return osr__unary(ctx, OSR__OP_exp, x, 0.0f, 0.0f);
}

OSR_API osr_tensor osr_log(osr_ctx *ctx, osr_tensor x)
{
    return osr__unary(ctx, OSR__OP_log, x, 0.0f, 0.0f);
}

OSR_API osr_tensor osr_sqrt(osr_ctx *ctx, osr_tensor x)
{
    return osr__unary(ctx, OSR__OP_sqrt, x, 0.0f, 0.0f);
}

/* -- differentiation -- */

/* Does the gradient of `ref` matter to the differentiation that is under way? */
static int osr__wants(osr_ctx *ctx, uint32_t ref)
{
    if (osr__is_persist(ref))
        return ctx->walk_params && osr__arena_of(ref) == OSR__VALUE;
    return ref != 0 && ref < ctx->walk[0] && ctx->walk[ctx->walk[0] + ref] != 0;
}

/* The gradient buffer of a parameter as a reference, and whether to add to it. */
static uint32_t osr__grad_ref(uint32_t param)
{
    return (param & 0x8FFFFFFFu) | (uint32_t)OSR__GRADIENT << 28;
}

static int osr__accumulate(osr_ctx *ctx, uint32_t param)
{
    osr__persist *p = osr__persist_of(ctx, param);
    const int again = p->grad_step == ctx->generation;
    p->grad_step = ctx->generation;
    return again;
}

/* Add the value of node g to the gradient of `ref`. */
static void osr__give(osr_ctx *ctx, uint32_t ref, uint32_t g)
{
    osr__node *node;
    if (g == 0 || !osr__wants(ctx, ref))
        return;
    if (osr__is_persist(ref)) {
        osr__append(ctx, OSR__OP_give, osr__ref_shape(ctx, ref), g, osr__grad_ref(ref), 0, &node);
        node->r.ia[0] = osr__accumulate(ctx, ref);
        return;
    }
    if (ctx->walk[ref] != 0)
        g = osr__map(ctx, OSR__OP_add, ctx->walk[ref], g, 0.0f, 0.0f);
    ctx->walk[ref] = g;
}

/* The same with what an op on values a and b gives, recorded only where it is wanted. */
static void osr__give_map(osr_ctx *ctx, uint32_t ref, int op, uint32_t a, uint32_t b, float s)
{
    if (osr__wants(ctx, ref))
        osr__give(ctx, ref, osr__map(ctx, op, a, b, s, 0.0f));
}

static void osr__lower_give(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_map_dense, osr__flat(ctx, osr_shape_count(r->shape)), "dddniff", r->in[0],
              r->ia[0] ? r->in[1] : r->in[0], r->in[1], i,
              osr__map_code(r->ia[0] ? OSR__OP_add : OSR__OP_affine), 1.0, 0.0);
}

/* Zero a parameter's gradient: in = gradient. */
static void osr__lower_clear(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_fill_dense, osr__flat(ctx, osr_shape_count(r->shape)), "dnf", r->in[0], i,
              0.0);
}

/* Clear the gradients that an earlier step left and this one's osr_backward did not reach. */
static void osr__clear_unreached(osr_ctx *ctx)
{
    size_t k;
    for (k = 0; k < ctx->persist_count && ctx->status == OSR_OK; ++k) {
        const uint32_t param = OSR__PERSIST | (uint32_t)k;
        osr__persist *p = &ctx->persists[k];
        osr__node *node;
        if (p->state || p->grad_step == 0 || p->grad_step == ctx->generation)
            continue;
        osr__append(ctx, OSR__OP_clear, p->shape, osr__grad_ref(param), 0, 0, &node);
        p->grad_step = 0;
    }
}

/* A value that is `c` everywhere. */
static uint32_t osr__filled(osr_ctx *ctx, osr_shape s, float c)
{
    osr__node *node;
    const uint32_t i = osr__append(ctx, OSR__OP_fill, s, 0, 0, 0, &node);
    node->r.fa[0] = c;
    return i;
}

/* Is `ref` such a value of this step? */
static int osr__is_filled(osr_ctx *ctx, uint32_t ref)
{
    return !osr__is_persist(ref) && osr__rec(ctx, ref)->op == OSR__OP_fill;
}

/* The derivatives of what is worked on element by element. */
static void osr__back_map(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    const uint32_t a = r.in[0], b = r.in[1];
    uint32_t q;
    switch (r.op) {
    case OSR__OP_add:
        osr__give(ctx, a, dy);
        osr__give(ctx, b, dy);
        break;
    case OSR__OP_sub:
        osr__give(ctx, a, dy);
        osr__give_map(ctx, b, OSR__OP_affine, dy, 0, -1.0f);
        break;
    case OSR__OP_mul:
        osr__give_map(ctx, a, OSR__OP_mul, dy, b, 0.0f);
        osr__give_map(ctx, b, OSR__OP_mul, dy, a, 0.0f);
        break;
    case OSR__OP_div:
        q = osr__map(ctx, OSR__OP_div, dy, b, 0.0f, 0.0f);
        osr__give(ctx, a, q);
        if (osr__wants(ctx, b))
            osr__give_map(ctx, b, OSR__OP_affine, osr__map(ctx, OSR__OP_mul, q, i, 0.0f, 0.0f), 0,
                          -1.0f);
        break;
    case OSR__OP_affine:
        if (osr__is_filled(ctx, dy))
            osr__give(ctx, a, osr__filled(ctx, r.shape, osr__rec(ctx, dy)->fa[0] * r.fa[0]));
        else
            osr__give_map(ctx, a, OSR__OP_affine, dy, 0, r.fa[0]);
        break;
    case OSR__OP_exp: osr__give_map(ctx, a, OSR__OP_mul, dy, i, 0.0f); break;
    case OSR__OP_log: osr__give_map(ctx, a, OSR__OP_div, dy, a, 0.0f); break;
    default: osr__give_map(ctx, a, OSR__OP_sqrt_dx, dy, i, 0.0f); break;
    }
}

/* Mark what depends on `target` (0: on any parameter); walk = [n | gradient of each node],
 * [whether it depends]. walk[0] holds n. */
static int osr__walk_prepare(osr_ctx *ctx, uint32_t y, uint32_t target)
{
    const uint32_t n = y + 1;
    uint32_t i;
    int k;
    if (!osr__grow(ctx, &ctx->walk, &ctx->walk_capacity, 2 * (size_t)n, sizeof *ctx->walk))
        return 0;
    memset(ctx->walk, 0, 2 * (size_t)n * sizeof *ctx->walk);
    ctx->walk[0] = n;
    ctx->walk_params = target == 0;
    for (i = 1; i < n; ++i) {
        uint32_t depends = i == target;
        if (osr__rec(ctx, i)->op == OSR__OP_none)
            continue;
        for (k = 0; k < 6; ++k)
            if (osr__rec(ctx, i)->in[k] != 0 && osr__wants(ctx, osr__rec(ctx, i)->in[k]))
                depends = 1;
        ctx->walk[n + i] = depends;
    }
    return ctx->walk[n + y] != 0;
}

/* How many nodes from `first` on read each node, into walk[]; 0 on failure. */
static int osr__count_readers(osr_ctx *ctx, uint32_t first)
{
    uint32_t i;
    int k;
    if (!osr__grow(ctx, &ctx->walk, &ctx->walk_capacity, ctx->node_count, sizeof *ctx->walk))
        return 0;
    memset(ctx->walk, 0, ctx->node_count * sizeof *ctx->walk);
    for (i = first; i < ctx->node_count; ++i)
        for (k = 0; k < 6; ++k)
            if (osr__rec(ctx, i)->in[k] != 0 && !osr__is_persist(osr__rec(ctx, i)->in[k]))
                ctx->walk[osr__rec(ctx, i)->in[k]]++;
    return 1;
}

/* Record the gradient of y, from `seed` (0: ones) back to `target` (0: to the parameters). */
static uint32_t osr__differentiate(osr_ctx *ctx, uint32_t y, uint32_t seed, uint32_t target)
{
    uint32_t i, result = 0;
    const uint32_t first = (uint32_t)ctx->node_count;
    const int mark = ctx->mark;
    osr__fuse(ctx);
    if (!osr__alive(ctx, y, "gradient") || (target != 0 && !osr__alive(ctx, target, "gradient")))
        return 0;
    if (!osr__walk_prepare(ctx, y, target)) {
        osr__fail(ctx, OSR_ARG, "gradient: %s does not depend on %s",
                  osr__op(osr__rec(ctx, y)->op)->name, target == 0 ? "a parameter" : "x");
        return 0;
    }
    ctx->backward = 1;
    ctx->walk[y] = seed != 0 ? seed : osr__filled(ctx, osr__rec(ctx, y)->shape, 1.0f);
    for (i = y; i > 0 && ctx->status == OSR_OK; --i) {
        const osr__op_row *row = osr__op(osr__rec(ctx, i)->op);
        if (i == target || ctx->walk[i] == 0 || ctx->walk[ctx->walk[0] + i] == 0)
            continue;
        ctx->mark = osr__rec(ctx, i)->mark;
        if (row->backward == NULL)
            osr__fail(ctx, OSR_UNSUPPORTED, "gradient of %s", row->name);
        else
            row->backward(ctx, i, ctx->walk[i]);
    }
    if (target != 0 && (result = ctx->walk[target]) == 0)
        osr__fail(ctx, OSR_ARG, "gradient: %s does not depend on x",
                  osr__op(osr__rec(ctx, y)->op)->name);
    if (osr__count_readers(ctx, first))
        for (i = first; i < ctx->node_count; ++i) /* constants that went into other ops */
            if (osr__rec(ctx, i)->op == OSR__OP_fill && ctx->walk[i] == 0 && i != result)
                osr__rec(ctx, i)->op = OSR__OP_none;
    ctx->backward = 0;
    ctx->mark = mark;
    ctx->fused = ctx->node_count; /* gradients use what is there: nothing before may be fused */
    return result;
}

OSR_API osr_status osr_backward(osr_ctx *ctx, osr_tensor loss)
{
    const uint32_t y = osr__ref(ctx, loss, "osr_backward", "loss");
    if (osr__is_persist(y) || osr_shape_count(osr__ref_shape(ctx, y)) != 1)
        osr__fail(ctx, OSR_SHAPE, "osr_backward: the loss is %s, not a scalar",
                  osr__ref_text(ctx, y).s);
    if (osr__arena_need(ctx, OSR__GRADIENT, ctx->arenas[OSR__VALUE].count) == OSR_OK) {
        osr__differentiate(ctx, y, 0, 0);
        osr__clear_unreached(ctx);
    }
    return ctx->status;
}

OSR_API osr_tensor osr_grad(osr_ctx *ctx, osr_tensor ty, osr_tensor tseed, osr_tensor tx)
{
    const uint32_t y = osr__ref(ctx, ty, "osr_grad", "y"), x = osr__ref(ctx, tx, "osr_grad", "x");
    const uint32_t seed = tseed.index != 0 ? osr__ref(ctx, tseed, "osr_grad", "seed") : 0;
    if (seed != 0 && !osr__same_shape(osr__ref_shape(ctx, seed), osr__ref_shape(ctx, y)))
        osr__fail(ctx, OSR_SHAPE, "osr_grad: seed is %s but y is %s", osr__ref_text(ctx, seed).s,
                  osr__ref_text(ctx, y).s);
    if (osr__is_persist(x) || osr__is_persist(y) || y < x)
        osr__fail(ctx, OSR_ARG, "osr_grad: y and x are values of this step, y after x");
    return osr__handle(ctx, ctx->status == OSR_OK ? osr__differentiate(ctx, y, seed, x) : 0);
}

/* -- sums -- */

static void osr__lower_sum(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_sum_all, 1, "ddnf", r->in[0], i, r->in[0], r->fa[0]);
}

static osr_tensor osr__sum_scaled(osr_ctx *ctx, osr_tensor tx, int mean)
{
    const uint32_t x = osr__ref(ctx, tx, mean ? "mean" : "sum", "x");
    const osr_shape s = osr__ref_shape(ctx, x);
    osr__node *node;
    uint32_t i;
    if (s.rank > 2 && !osr__is_persist(x))
        osr__fail(ctx, OSR_SHAPE, "sum: x is %s; flatten an image first", osr__shape_text(s).s);
    i = osr__append(ctx, OSR__OP_sum, osr_shape_make(0, 0, 0, 0, 0), x, 0, 0, &node);
    node->r.fa[0] = mean ? 1.0f / (float)osr_shape_count(s) : 1.0f;
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_sum(osr_ctx *ctx, osr_tensor x)
{
    return osr__sum_scaled(ctx, x, 0);
}

OSR_API osr_tensor osr_mean(osr_ctx *ctx, osr_tensor x)
{
    return osr__sum_scaled(ctx, x, 1);
}

static void osr__lower_sum_dx(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_spread, osr__flat(ctx, osr_shape_count(r->shape)), "ddnf", r->in[0], i, i,
              r->fa[0]);
}

static void osr__back_sum(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    const osr_shape s = osr__ref_shape(ctx, r.in[0]);
    const int count = (int)osr_shape_count(s);
    osr__node *node;
    uint32_t g;
    if (!osr__wants(ctx, r.in[0]))
        return;
    g = osr__append(ctx, OSR__OP_sum_dx, s.rank <= 2 ? s : osr_shape_make(1, count, 0, 0, 0), dy, 0,
                    0, &node);
    node->r.fa[0] = r.fa[0];
    osr__give(ctx, r.in[0], g);
}

/* x as a matrix [N, K]; 0 with the error recorded where it is not one. */
static uint32_t osr__matrix(osr_ctx *ctx, osr_tensor t, const char *op, const char *name)
{
    const uint32_t x = osr__ref(ctx, t, op, name);
    if (osr__ref_shape(ctx, x).rank != 2)
        osr__fail(ctx, OSR_SHAPE, "%s: %s is %s, not a matrix", op, name, osr__ref_text(ctx, x).s);
    return ctx->status == OSR_OK ? x : 0;
}

/* x as an image of this step. */
static uint32_t osr__image(osr_ctx *ctx, osr_tensor t, const char *op)
{
    const uint32_t x = osr__ref(ctx, t, op, "x");
    if (osr__is_persist(x) || !osr__is_image(osr__ref_shape(ctx, x)))
        osr__fail(ctx, OSR_SHAPE, "%s: x is %s, not an image [N, H, W, C] of this step", op,
                  osr__ref_text(ctx, x).s);
    return ctx->status == OSR_OK ? x : 0;
}

/* Labels for the rows of x [N, K]. */
static uint32_t osr__labels_for(osr_ctx *ctx, osr_tensor t, uint32_t x, const char *op)
{
    const uint32_t y = osr__ref(ctx, t, op, "labels");
    const osr_shape s = osr__ref_shape(ctx, x);
    const osr__record *r = osr__rec(ctx, osr__is_persist(y) ? 0 : y);
    if (r->op != OSR__OP_labels)
        osr__fail(ctx, OSR_HANDLE, "%s: labels were not made by osr_labels", op);
    if (r->shape.dim[0] != s.dim[0] || r->ia[0] != s.dim[1])
        osr__fail(ctx, OSR_SHAPE, "%s: x is %s but there are %d labels of %d classes", op,
                  osr__shape_text(s).s, r->shape.dim[0], r->ia[0]);
    return ctx->status == OSR_OK ? y : 0;
}

OSR_API osr_tensor osr_row_sum(osr_ctx *ctx, osr_tensor tx)
{
    const uint32_t x = osr__matrix(ctx, tx, "row_sum", "x");
    return osr__result(ctx, OSR__OP_row_sum,
                       osr_shape_make(1, osr__ref_shape(ctx, x).dim[0], 0, 0, 0), x, 0);
}

/* Record an op whose result has the shape of its input's value `like`. */
static uint32_t osr__like(osr_ctx *ctx, int op, uint32_t like, uint32_t a, uint32_t b, uint32_t c)
{
    osr__node *node;
    return osr__append(ctx, op, osr__ref_shape(ctx, like), a, b, c, &node);
}

/* The gradient is the next row of the table, of dy and what else it reads, in the shape of the
 * first input. */
static void osr__back_next(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    const uint32_t b = r.op == OSR__OP_pick      ? r.in[1]
                       : r.op == OSR__OP_softmax ? i
                       : r.op == OSR__OP_logsumexp || r.op == OSR__OP_normalise ? r.in[0] : 0;
    if (osr__wants(ctx, r.in[0]))
        osr__give(ctx, r.in[0], osr__like(ctx, r.op + 1, r.in[0], dy, b, 0));
}

static void osr__lower_pick(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape s = osr__ref_shape(ctx, r->in[0]);
    osr__call(ctx, OSR__K_pick, osr__flat(ctx, (size_t)s.dim[0]), "dmdii", r->in[0], r->in[1], i,
              s.dim[0], s.dim[1]);
}

static void osr__lower_pick_dx(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_pick_dx, (size_t)r->shape.dim[0], "dmdi", r->in[0], r->in[1], i,
              r->shape.dim[1]);
}

OSR_API osr_tensor osr_pick(osr_ctx *ctx, osr_tensor tx, osr_tensor labels)
{
    const uint32_t x = osr__matrix(ctx, tx, "pick", "x");
    const uint32_t y = osr__labels_for(ctx, labels, x, "pick");
    return osr__result(ctx, OSR__OP_pick, osr__ref_shape(ctx, y), x, y);
}

static void osr__lower_count_correct(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape s = osr__ref_shape(ctx, r->in[0]);
    const int hits = osr__scratch(ctx, (size_t)s.dim[0]);
    osr__call(ctx, OSR__K_row_correct, osr__flat(ctx, (size_t)s.dim[0]), "dmsiif", r->in[0],
              r->in[1], hits, s.dim[0], s.dim[1], r->fa[0]);
    osr__call(ctx, OSR__K_sum_all, 1, "sidif", hits, 0, i, s.dim[0], 1.0);
}

OSR_API osr_tensor osr_count_correct(osr_ctx *ctx, osr_tensor tx, osr_tensor labels, int sign)
{
    const uint32_t x = osr__matrix(ctx, tx, "count_correct", "x");
    const uint32_t y = osr__labels_for(ctx, labels, x, "count_correct");
    osr__node *node;
    uint32_t i;
    if (sign != 1 && sign != -1)
        osr__fail(ctx, OSR_ARG, "count_correct: sign is %d, not 1 or -1", sign);
    i = osr__append(ctx, OSR__OP_count_correct, osr_shape_make(0, 0, 0, 0, 0), x, y, 0, &node);
    node->r.fa[0] = (float)sign;
    return osr__handle(ctx, i);
}
/* -- matrix products -- */

/* Launch geometry of kernels/matmul_*.cl. */
static void osr__matmul_run(osr_ctx *ctx, int m, int n, int nt, int products)
{
    const osr__tile *t = &osr__tiles[products];
    const size_t rows = (size_t)(nt && n <= 64 ? 8 : t->product_rows);
    const size_t columns = (size_t)(nt && n <= 64 ? 8 : t->product_outputs);
    const size_t ls = ctx->family == OSR_KERNELS_GPU ? (size_t)t->product_items : 1;
    osr__run3(ctx, ((size_t)m + rows - 1) / rows * ls, ((size_t)n + columns - 1) / columns, 1, ls,
              1);
}

/* op(a) [M, K] op(b) [K, N]; ia: 0 whether a, 1 whether b is transposed, 2 osr_products. */
static void osr__lower_matmul(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape a = osr__ref_shape(ctx, r->in[0]);
    const int m = r->shape.dim[0], n = r->shape.dim[1], k = a.dim[r->ia[0] ? 0 : 1];
    if (r->ia[2] != OSR_PRODUCTS_CLBLAST) {
        osr__begin_tiled(ctx, r->ia[0]   ? OSR__K_matmul_tn
                              : r->ia[1] ? OSR__K_matmul_nt
                                         : OSR__K_matmul_nn, r->ia[2]);
        osr__args(ctx, "dddiii", r->in[0], r->in[1], i, m, n, k);
        osr__matmul_run(ctx, m, n, r->ia[1], r->ia[2]);
    } else {
#ifdef OSR_CLBLAST
        osr__gemm g;
        osr__gemm_size(&g, m, n, k, r->ia[0], r->ia[1], 1);
        osr__gemm_operand(ctx, &g, 0, r->in[0], 0, a.dim[1], 0);
        osr__gemm_operand(ctx, &g, 1, r->in[1], 0, r->ia[1] ? k : n, 0);
        osr__gemm_operand(ctx, &g, 2, i, 0, n, 0);
        osr__emit_gemm(ctx, &g);
#endif
    }
    osr__count_flops(ctx, 2.0 * m * n * (double)k);
}

static int osr__product_choose(osr_ctx *ctx, const osr__record *r, int k);

static uint32_t osr__product(osr_ctx *ctx, uint32_t a, uint32_t b, int ta, int tb)
{
    const osr_shape sa = osr__ref_shape(ctx, a), sb = osr__ref_shape(ctx, b);
    osr__node *node;
    const uint32_t i = osr__append(ctx, OSR__OP_matmul,
                                   osr_shape_make(2, sa.dim[ta ? 1 : 0], sb.dim[tb ? 0 : 1], 0, 0),
                                   a, b, 0, &node);
    if (i != 0) {
        node->r.ia[0] = ta;
        node->r.ia[1] = tb;
        node->r.ia[2] = osr__product_choose(ctx, &node->r, sa.dim[ta ? 0 : 1]);
    }
    return i;
}

OSR_API osr_tensor osr_matmul(osr_ctx *ctx, osr_tensor ta, osr_tensor tb, int transpose_a,
                              int transpose_b)
{
    const uint32_t a = osr__matrix(ctx, ta, "matmul", "a"), b = osr__matrix(ctx, tb, "matmul", "b");
    osr_shape sa, sb;
    if (a == 0 || b == 0)
        return osr__handle(ctx, 0);
    if (transpose_a && transpose_b)
        return osr__none(osr__fail(ctx, OSR_ARG, "matmul: both transposed"));
    sa = osr__ref_shape(ctx, a);
    sb = osr__ref_shape(ctx, b);
    if (sa.dim[transpose_a ? 0 : 1] != sb.dim[transpose_b ? 1 : 0])
        return osr__none(osr__fail(ctx, OSR_SHAPE, "matmul: a is %s%s but b is %s%s",
                                   osr__shape_text(sa).s, transpose_a ? " transposed" : "",
                                   osr__shape_text(sb).s, transpose_b ? " transposed" : ""));
    return osr__handle(ctx, osr__product(ctx, a, b, transpose_a != 0, transpose_b != 0));
}

static void osr__back_matmul(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    const uint32_t a = r.in[0], b = r.in[1];
    if (osr__wants(ctx, a))
        osr__give(ctx, a, r.ia[0]   ? osr__product(ctx, b, dy, 0, 1)
                          : r.ia[1] ? osr__product(ctx, dy, b, 0, 0)
                                    : osr__product(ctx, dy, b, 0, 1));
    if (osr__wants(ctx, b))
        osr__give(ctx, b, r.ia[0]   ? osr__product(ctx, a, dy, 0, 0)
                          : r.ia[1] ? osr__product(ctx, dy, a, 1, 0)
                                    : osr__product(ctx, a, dy, 1, 0));
}

OSR_API osr_tensor osr_linear(osr_ctx *ctx, osr_tensor tx, osr_tensor tw, osr_tensor b)
{
    const uint32_t x = osr__matrix(ctx, tx, "linear", "x"), w = osr__matrix(ctx, tw, "linear", "w");
    osr_tensor y;
    if (x == 0 || w == 0)
        return osr__handle(ctx, 0);
    if (osr__ref_shape(ctx, x).dim[1] != osr__ref_shape(ctx, w).dim[1])
        return osr__none(osr__fail(ctx, OSR_SHAPE, "linear: x is %s but w is %s",
                                   osr__shape_text(osr__ref_shape(ctx, x)).s,
                                   osr__shape_text(osr__ref_shape(ctx, w)).s));
    y = osr__handle(ctx, osr__product(ctx, x, w, 0, 1));
    return b.index == 0 ? y : osr_bias(ctx, y, b);
}

static void osr__lower_bias(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const uint32_t x = r->in[0], b = r->in[1];
    if (osr__is_image(r->shape))
        osr__call(ctx, OSR__K_bias_image, osr__planes(r->shape), "gdgS", x, b, i, i);
    else
        osr__call(ctx, OSR__K_bias_dense, osr__flat(ctx, osr_shape_count(r->shape)), "dddnn", x, b,
                  i, i, b);
}

/* Gradient of a bias: in = dy, gradient; ia[0] whether to add. */
static void osr__lower_bias_db(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape s = osr__rec(ctx, r->in[0])->shape;
    const int c = r->shape.dim[0], c8 = osr__blocks(c) * 8;
    int part;
    if (!osr__is_image(s)) {
        osr__call(ctx, OSR__K_column_sum, (size_t)c, "ddiii", r->in[0], r->in[1], s.dim[0], c,
                  r->ia[0]);
        return;
    }
    part = osr__scratch(ctx, (size_t)s.dim[0] * (size_t)c8);
    osr__call(ctx, OSR__K_plane_sum, osr__planes(s), "gsP", r->in[0], part, r->in[0]);
    osr__call(ctx, OSR__K_column_sum, (size_t)c, "sidiii", part, 0, r->in[1], s.dim[0], c8,
              r->ia[0]);
}

OSR_API osr_tensor osr_bias(osr_ctx *ctx, osr_tensor tx, osr_tensor tb)
{
    const uint32_t x = osr__ref(ctx, tx, "bias", "x"), b = osr__ref(ctx, tb, "bias", "b");
    const osr_shape s = osr__ref_shape(ctx, x), sb = osr__ref_shape(ctx, b);
    if ((s.rank != 1 && s.rank != 2 && s.rank != 4) || sb.rank != 1
        || sb.dim[0] != (s.rank == 1 ? 1 : s.dim[s.rank - 1])
        || !osr__is_persist(b) || osr__is_persist(x))
        osr__fail(ctx, OSR_SHAPE, "bias: x is %s but b is %s%s", osr__shape_text(s).s,
                  osr__shape_text(sb).s, osr__is_persist(b) ? "" : " and not a parameter");
    return osr__result(ctx, OSR__OP_bias, s, x, b);
}

static void osr__back_bias(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const uint32_t x = osr__rec(ctx, i)->in[0], b = osr__rec(ctx, i)->in[1];
    osr__node *node;
    if (osr__wants(ctx, b)) {
        osr__append(ctx, OSR__OP_bias_db, osr__ref_shape(ctx, b), dy, osr__grad_ref(b), 0, &node);
        node->r.ia[0] = osr__accumulate(ctx, b);
    }
    osr__give(ctx, x, dy);
}

/* -- convolutions -- */

/* Sizes of a convolution: x [N, H, W, C], w [O, C, KH, KW], y [N, OH, OW, O]. */
typedef struct osr__conv {
    int n, h, w, c, o, kh, kw, oh, ow, stride, pad, algorithm, products;
} osr__conv;

/* What makes a convolution; chosen when it is recorded, so that a plan never changes it. */
enum { OSR__DIRECT, OSR__WINOGRAD, OSR__WINOGRAD2 };

/* ia of conv2d, conv2d_dx, conv2d_dw: stride, padding above and left, (dw:) whether to add, what
 * follows, algorithm, osr_products. in of conv2d: x, w, coefficients of what follows, packed
 * weights; of conv2d_dx: dy, w, none, packed weights; of conv2d_dw: x, dy, gradient. */
#define OSR__BEFORE 4 /* of in: coefficients of what comes before */
#define OSR__PART 5   /* of conv2d's and norm_stats' in: a node for the parts of the statistics */
#define OSR__ADD 2
#define OSR__AFTER 3 /* 1 the leaky rectifier of slope fa[0], 2 normalisation and then that */
#define OSR__ALGORITHM 4
#define OSR__PRODUCTS 5

static osr__conv osr__conv_make(osr_shape x, osr_shape y, osr_shape w, const int32_t *ia)
{
    osr__conv c;
    c.n = x.dim[0];
    c.h = x.dim[1];
    c.w = x.dim[2];
    c.c = x.dim[3];
    c.o = w.dim[0];
    c.kh = w.dim[2];
    c.kw = w.dim[3];
    c.oh = y.dim[1];
    c.ow = y.dim[2];
    c.stride = ia[0];
    c.pad = ia[1];
    c.algorithm = ia[OSR__ALGORITHM];
    c.products = ia[OSR__PRODUCTS];
    return c;
}

static osr__conv osr__conv_of(osr_ctx *ctx, const osr__record *r)
{
    if (r->op == OSR__OP_conv2d)
        return osr__conv_make(osr__ref_shape(ctx, r->in[0]), r->shape,
                              osr__ref_shape(ctx, r->in[1]), r->ia);
    if (r->op == OSR__OP_conv2d_dx)
        return osr__conv_make(r->shape, osr__ref_shape(ctx, r->in[0]),
                              osr__ref_shape(ctx, r->in[1]), r->ia);
    return osr__conv_make(osr__ref_shape(ctx, r->in[0]), osr__ref_shape(ctx, r->in[1]),
                          osr__ref_shape(ctx, r->in[2]), r->ia);
}

static double osr__conv_flops(const osr__conv *c)
{
    return 2.0 * c->n * c->oh * c->ow * (double)c->o * c->c * c->kh * c->kw;
}

static int osr__max(int a, int b)
{
    return a > b ? a : b;
}

static int osr__round16(int n)
{
    return (n + 15) / 16 * 16;
}

/* Bytes of local memory for `tiles` tiles of `in` channels in wino_conv. */
static size_t osr__wino_bytes(int tiles, int in)
{
    return (size_t)4 * 36 * ((size_t)tiles * ((size_t)osr__round16(in) + 32) + 32);
}

static int osr__wino_tiles(const osr__conv *c)
{
    return c->n * ((c->h + 3) / 4) * ((c->w + 3) / 4);
}

/* Tiles a work-group takes: as many as half of the local memory holds and leave 16 groups; 0 where
 * not even 8 fit. Only the rounding of batch statistics depends on it. */
static int osr__wino_group(const osr_ctx *ctx, int in, int tiles)
{
    const size_t most = (size_t)ctx->device.local_bytes / 2;
    int t = 8;
    if (osr__wino_bytes(t, in) > most)
        return 0;
    while (t < 64 && osr__wino_bytes(2 * t, in) <= most && tiles / (2 * t) >= 16)
        t *= 2;
    return t;
}

/* Work-groups, and bytes of local memory each, of wino2_conv: stride 2 by parity decomposition, 8
 * tiles of 4x4 outputs (input gradient: 8x8) at a time. */
static int osr__wino2_groups(const osr__conv *c, int transpose)
{
    const int tiles = transpose ? c->n * ((c->h + 7) / 8) * ((c->w + 7) / 8)
                                : c->n * ((c->oh + 3) / 4) * ((c->ow + 3) / 4);
    return (tiles + 7) / 8;
}

static size_t osr__wino2_bytes(int in)
{
    return (size_t)4 * 81 * (8 * ((size_t)osr__round16(in) + 32) + 32);
}

/* Floats of transformed tiles that a work-group of the weight gradient keeps: what streams well
 * from a core's share of the last cache. Parts of the tiles: one a core, of 128 tiles or more, as
 * far as their 36 planes of sums stay within 64 MiB. */
#define OSR__WINO_ROOM 280000

static int osr__wino_splits(const osr_ctx *ctx, const osr__conv *c)
{
    const size_t sums = (size_t)36 * (size_t)osr__round16(c->c) * (size_t)osr__round16(c->o);
    const int room = (int)(((size_t)1 << 24) / sums), cores = (int)ctx->device.compute_units;
    const int tiles = c->n * ((c->oh + 3) / 4) * ((c->ow + 3) / 4) / 128;
    const int most = tiles < room ? tiles : room;
    return most < 1 ? 1 : most < cores ? most : osr__max(cores, 1);
}

static int osr__wino2_fits(const osr_ctx *ctx, const osr__conv *c)
{
    return ctx->family == OSR_KERNELS_CPU && c->kh == 3 && c->kw == 3 && c->stride == 2
           && c->pad <= 1
           && osr__wino2_bytes(osr__max(c->c, c->o)) <= (size_t)ctx->device.local_bytes / 2;
}

/* Stride 2: faster where tiles are mostly full (1.3 of the multiply-add peak in direct terms, not
 * 0.9) and there is a group of them for each of two cores. */
static int osr__wino2_pays(const osr__conv *c)
{
    const int full = 16 * ((c->oh + 3) / 4) * ((c->ow + 3) / 4);
    return c->c >= 32 && c->o >= 32 && 10 * c->oh * c->ow >= 7 * full
           && osr__wino2_groups(c, 0) >= 2;
}

/* From these sizes on Winograd F(4x4, 3x3) is faster. CPUs: measured on two AVX-512 cores. GPUs:
 * estimated, not measured. Direct takes 18 C O operations an output pixel, Winograd 4.5 C O and
 * moves 22 (C + O) bytes; at rates of 0.6 and 0.5 of the peak it gains where C O / (C + O) exceeds
 * the operations that the peak does in the time of a byte, for which 32 stands. Tiles under half
 * full lose that gain, and conv_taps multiplies 128 rows at a time, 32 of them tiles at least. */
static int osr__wino_pays(const osr_ctx *ctx, const osr__conv *c)
{
    const int tiles = osr__wino_tiles(c), full = 16 * ((c->h + 3) / 4) * ((c->w + 3) / 4);
    if (ctx->family == OSR_KERNELS_CPU)
        return c->c >= 32 && c->o >= 32 && c->h >= 6 && c->w >= 6;
    return (double)c->c * c->o >= 32.0 * (c->c + c->o) && 2 * c->h * c->w >= full && tiles >= 32;
}

/* direct: as of osr_ctx_desc. */
static int osr__conv_algorithm(const osr_ctx *ctx, const osr__conv *c, int direct)
{
    return direct > 0 ? OSR__DIRECT
           : c->kh == 3 && c->kw == 3 && c->stride == 1 && c->pad == 1
                   && c->oh == c->h && c->ow == c->w
                   && (direct < 0 || osr__wino_pays(ctx, c))
                   && (ctx->family == OSR_KERNELS_GPU
                       || osr__wino_group(ctx, osr__max(c->c, c->o), osr__wino_tiles(c)) > 0)
               ? OSR__WINOGRAD
           : osr__wino2_fits(ctx, c) && (direct < 0 || osr__wino2_pays(c)) ? OSR__WINOGRAD2
                                                                           : OSR__DIRECT;
}

/* A recorded choice that cannot be becomes one that can. */
static void osr__choice_fit(const osr_ctx *ctx, osr__choice *c)
{
    const int gpu = ctx->family == OSR_KERNELS_GPU, conv = c->key[11] < OSR__NN;
    osr__conv k;
    memcpy(&k, c->key, sizeof c->key);
    k.algorithm = conv ? osr__conv_algorithm(ctx, &k, -1) : OSR__DIRECT;
    c->winograd = c->winograd && k.algorithm != OSR__DIRECT;
    if (!gpu || (c->products == OSR_PRODUCTS_CLBLAST && conv && !c->winograd))
        c->products = OSR_PRODUCTS_FIXED;
}

/* The choice for a pass or product: the fixed one, or, in a context with tuning, what that has. */
static void osr__choose(osr_ctx *ctx, osr__choice *c)
{
    const osr__choice *found;
    c->products = ctx->products;
    c->seen = 1;
    osr__choice_fit(ctx, c);
    if (ctx->tuned && ctx->direct == 0 && ctx->products == 0
        && (found = osr__choice_put(ctx, c, 0)) != NULL)
        *c = *found;
}

static int osr__product_choose(osr_ctx *ctx, const osr__record *r, int k)
{
    osr__choice c = { { 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0 }, 0, 0, 0 };
    if (ctx->family == OSR_KERNELS_CPU)
        return OSR_PRODUCTS_FIXED;
    c.key[0] = r->shape.dim[0];
    c.key[3] = k;
    c.key[4] = r->shape.dim[1];
    c.key[11] = r->ia[0] ? OSR__TN : r->ia[1] ? OSR__NT : OSR__NN;
    osr__choose(ctx, &c);
    return c.products;
}

static void osr__conv_choose(osr_ctx *ctx, osr__conv *c, int pass)
{
    const int can = osr__conv_algorithm(ctx, c, -1);
    osr__choice k;
    memcpy(k.key, c, sizeof k.key); /* the algorithm's place is the pass's */
    k.key[11] = pass;
    k.winograd = osr__conv_algorithm(ctx, c, ctx->direct) != OSR__DIRECT;
    k.products = OSR_PRODUCTS_FIXED;
    if (ctx->family == OSR_KERNELS_GPU || can != OSR__DIRECT)
        osr__choose(ctx, &k);
    c->algorithm = k.winograd ? can : OSR__DIRECT;
    c->products = k.products;
}

/* Halo that reading x (forward, weight gradient) or dy (input gradient) wants in one dimension. */
static int osr__halo_forward(int size, int out, int kernel, int stride, int pad)
{
    return osr__max(pad, (out - 1) * stride + kernel - 1 - pad - (size - 1));
}

static int osr__halo_gradient(int size, int out, int kernel, int stride, int pad)
{
    return osr__max((kernel - 1 - pad) / stride, (size - 1 + pad) / stride - (out - 1));
}

static int osr__halo_wanted(osr_ctx *ctx, const osr__record *r, int input)
{
    osr__conv c;
    int halo;
    if (r->op != OSR__OP_conv2d && r->op != OSR__OP_conv2d_dx && r->op != OSR__OP_conv2d_dw)
        return 0;
    c = osr__conv_of(ctx, r);
    if (input != 0)
        return input == 1 && r->op == OSR__OP_conv2d_dw && c.algorithm != OSR__DIRECT;
    if (c.algorithm == OSR__WINOGRAD2)
        return 1;
    if (r->op == OSR__OP_conv2d_dx)
        halo = osr__max(osr__halo_gradient(c.h, c.oh, c.kh, c.stride, c.pad),
                        osr__halo_gradient(c.w, c.ow, c.kw, c.stride, c.pad));
    else
        halo = osr__max(osr__halo_forward(c.h, c.oh, c.kh, c.stride, c.pad),
                        osr__halo_forward(c.w, c.ow, c.kw, c.stride, c.pad));
    return osr__max(halo, 0);
}

/* Weights of one launch: taps kh = first + step t, in each dimension. */
typedef struct osr__taps {
    int first_y, first_x, step, count_y, count_x;
} osr__taps;

/* One conv_taps launch: a grid of rows x cols outputs of image y from image x. */
typedef struct osr__grid {
    int in_step, off_y, off_x, tap_step, rows, cols, out_step, out_y, out_x;
} osr__grid;

static size_t osr__packed_floats(int out, int in, const osr__taps *t)
{
    return (size_t)((out + 15) / 16) * (size_t)osr__blocks(in) * (size_t)(t->count_y * t->count_x)
           * 128;
}

/* Taps of kernel size k that reach outputs of phase p (mod stride), and their first offset. */
static void osr__phase(int p, int k, int stride, int pad, int *first, int *count, int *offset)
{
    *first = (p + pad) % stride;
    *count = *first < k ? (k - 1 - *first) / stride + 1 : 0;
    *offset = (p + pad - *first) / stride;
}

/* The input gradient at phase (py, px) of stride x stride is a dense convolution of dy. */
static void osr__phase_of(const osr__conv *c, int py, int px, osr__taps *t, osr__grid *g)
{
    osr__phase(py, c->kh, c->stride, c->pad, &t->first_y, &t->count_y, &g->off_y);
    osr__phase(px, c->kw, c->stride, c->pad, &t->first_x, &t->count_x, &g->off_x);
    t->step = c->stride;
    g->in_step = 1;
    g->tap_step = -1;
    g->rows = (c->h - py + c->stride - 1) / c->stride;
    g->cols = (c->w - px + c->stride - 1) / c->stride;
    g->out_step = c->stride;
    g->out_y = py;
    g->out_x = px;
}

/* Packed weights are nodes of their own, so that inference keeps them from step to step. in = w;
 * ia: stride, padding, whether for the input gradient, [OSR__ALGORITHM]. */
static void osr__emit_pack(osr_ctx *ctx, uint32_t i, size_t offset, const osr__taps *t)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape w = osr__ref_shape(ctx, r->in[0]);
    const int transpose = r->ia[2], out = w.dim[transpose ? 1 : 0], in = w.dim[transpose ? 0 : 1];
    const size_t ls = (size_t)osr__local_size(ctx);
    if (t->count_y * t->count_x == 0)
        return;
    osr__begin(ctx, OSR__K_conv_pack);
    osr__args(ctx, "dmiiiiiiIIIi", r->in[0], i, (int)offset, w.dim[0], w.dim[1], w.dim[2], w.dim[3],
              transpose, t->first_x, t->first_y, t->step, t->step, t->count_x, t->count_y,
              osr__round16(out));
    osr__run3(ctx, (size_t)((out + 15) / 16) * ls, (size_t)osr__blocks(in),
              ls == 1 ? 1 : (size_t)(t->count_x * t->count_y), ls, 1);
}

static void osr__emit_wino_pack(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape w = osr__ref_shape(ctx, r->in[0]);
    const int out = w.dim[r->ia[2] ? 1 : 0], in = w.dim[r->ia[2] ? 0 : 1];
    const int gpu = ctx->family == OSR_KERNELS_GPU;
    const int stride = r->ia[OSR__ALGORITHM] == OSR__WINOGRAD2 ? 2 : 1;
    const size_t ls = (size_t)osr__local_size(ctx), o16 = (size_t)osr__round16(out) / 16;
    osr__begin(ctx, OSR__K_wino_pack);
    osr__args(ctx, "ddiiii", r->in[0], i, w.dim[0], w.dim[1], r->ia[2],
              gpu ? osr__round16(out) : stride);
    if (gpu)
        osr__arg_i(ctx, r->ia[OSR__PRODUCTS] == OSR_PRODUCTS_CLBLAST);
    if (gpu)
        osr__run3(ctx, o16 * ls, (size_t)osr__blocks(in), 128 / ls, ls, 1);
    else
        osr__run3(ctx, o16, (size_t)(in + 31) / 32, 1, 1, 1);
}

static void osr__lower_conv_pack(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape w = osr__ref_shape(ctx, r->in[0]);
    osr__conv c;
    osr__taps t;
    osr__grid g;
    size_t offset = 0;
    int py, px;
    if (r->ia[OSR__ALGORITHM] != OSR__DIRECT) {
        osr__emit_wino_pack(ctx, i);
        return;
    }
    c = osr__conv_make(w, w, w, r->ia);
    t.first_y = t.first_x = 0;
    t.step = 1;
    t.count_y = c.kh;
    t.count_x = c.kw;
    if (!r->ia[2]) {
        osr__emit_pack(ctx, i, 0, &t);
        return;
    }
    for (py = 0; py < c.stride; ++py)
        for (px = 0; px < c.stride; ++px) {
            osr__phase_of(&c, py, px, &t, &g);
            if (ctx->family == OSR_KERNELS_CPU) { /* conv_dgrad wants ascending offsets of dy */
                t.first_y += c.stride * (t.count_y - 1);
                t.first_x += c.stride * (t.count_x - 1);
                t.step = -c.stride;
            }
            osr__emit_pack(ctx, i, offset, &t);
            offset += osr__packed_floats(w.dim[1], w.dim[0], &t);
        }
}

/* Record the packing of w for a convolution (or, transposed, for its input gradient). */
static uint32_t osr__conv_packed(osr_ctx *ctx, uint32_t w, const osr__conv *c, int transpose)
{
    const int out = transpose ? c->c : c->o, in = transpose ? c->o : c->c;
    const size_t each = (size_t)osr__round16(out) * 8 * (size_t)osr__blocks(in);
    const size_t count = osr__mul(each, c->algorithm != OSR__DIRECT ? 36
                                                                    : (size_t)(c->kh * c->kw));
    osr__node *node;
    const uint32_t i = osr__append(ctx, OSR__OP_conv_pack,
                                   osr_shape_make(1, count > INT_MAX ? 0 : (int)count, 0, 0, 0), w,
                                   0, 0, &node);
    if (i != 0) {
        node->r.ia[0] = c->stride;
        node->r.ia[1] = c->pad;
        node->r.ia[2] = transpose;
        node->r.ia[OSR__ALGORITHM] = c->algorithm;
        node->r.ia[OSR__PRODUCTS] = c->products == OSR_PRODUCTS_CLBLAST ? c->products : 0;
    }
    return i;
}

/* The node that conv2d i writes parts of its result's statistics to, if any. */
static uint32_t osr__conv_part(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const uint32_t part = r->op == OSR__OP_conv2d ? r->in[OSR__PART] : 0;
    return part != 0 && osr__rec(ctx, part)->op == OSR__OP_part ? part : 0;
}

/* What a forward convolution does to its result: coefficients, kind, slope. */
static void osr__arg_after(osr_ctx *ctx, uint32_t y)
{
    const osr__record *r = osr__rec(ctx, y);
    const int kind = r->op == OSR__OP_conv2d ? r->ia[OSR__AFTER] : 0;
    osr__args(ctx, "mif", kind == 2 ? r->in[2] : r->in[0], kind, kind != 0 ? r->fa[0] : 1.0f);
}

/* What happens to x before a convolution or weight gradient: normalisation by the coefficients
 * in[OSR__BEFORE], of the batch (norm_stats) or of each image (norm_drop), and the leaky rectifier
 * of slope fa[1]. */
static void osr__arg_before(osr_ctx *ctx, const osr__record *r)
{
    const uint32_t coef = r->op == OSR__OP_conv2d_dx ? 0 : r->in[OSR__BEFORE];
    const osr_shape s = osr__rec(ctx, coef)->shape;
    osr__args(ctx, "mif", coef != 0 ? coef : r->in[0],
              coef == 0                                       ? -1
              : osr__rec(ctx, coef)->op == OSR__OP_norm_drop ? s.dim[1]
                                                             : 0,
              coef != 0 ? r->fa[1] : 1.0f);
}

/* Where a convolution leaves the parts of its result's statistics, and whether it does. */
static void osr__arg_part(osr_ctx *ctx, uint32_t y)
{
    const uint32_t part = osr__conv_part(ctx, y);
    osr__args(ctx, "mi", part != 0 ? part : y, part != 0);
}

/* The geometry of conv_taps on GPUs. */
static void osr__run_tiles(osr_ctx *ctx, int products, size_t points, int out, int z)
{
    const osr__tile *t = &osr__tiles[products];
    const size_t rows = (size_t)t->rows, items = (size_t)t->items;
    osr__run3(ctx, (points + rows - 1) / rows * items,
              (size_t)((out + t->outputs - 1) / t->outputs), (size_t)z, items, 1);
}

/* Image y (node i) from its first input and its packed weights at `offset`. */
static void osr__emit_taps(osr_ctx *ctx, uint32_t i, size_t offset, const osr__taps *t,
                           const osr__grid *g)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape sx = osr__rec(ctx, r->in[0])->shape, sy = r->shape;
    const int in = sx.dim[3], out = sy.dim[3], n = sy.dim[0];
    const size_t points = (size_t)g->rows * (size_t)g->cols;
    osr__begin_tiled(ctx, OSR__K_conv_taps, r->ia[OSR__PRODUCTS]);
    osr__args(ctx, "gmigiiiiIIIIIII", r->in[0], r->in[3], (int)offset, i, osr__blocks(in), in,
              osr__blocks(out), out, g->in_step, g->in_step, g->off_x, g->off_y,
              g->tap_step, g->tap_step, t->count_x, t->count_y, g->cols, g->rows,
              g->out_step, g->out_step, g->out_x, g->out_y);
    osr__arg_after(ctx, i);
    osr__arg_i(ctx, n);
    if (ctx->family == OSR_KERNELS_GPU) {
        osr__args(ctx, "Q", 0, 0, 0, 0);
        osr__run_tiles(ctx, r->ia[OSR__PRODUCTS], (size_t)n * points, out, 1);
    } else { /* few inputs have few weights, which stay in the first cache */
        osr__arg_part(ctx, i);
        osr__run3(ctx, (size_t)(in > 8 ? (out + 31) / 32 : (out + 63) / 64), (points + 63) / 64,
                  (size_t)n, 1, 1);
    }
    osr__count_flops(ctx, 2.0 * n * (double)points * out * in * t->count_x * t->count_y);
}

/* Tiles at a time on GPUs, a multiple of 128: their two transformed sides take about 32 MiB, which
 * stay in a large second-level cache and still make over 500 groups of 128 items. */
static int osr__wino_chunk(const osr__conv *c)
{
    const int t = (1 << 23) / (36 * 8) / (osr__blocks(c->c) + osr__blocks(c->o)) / 128 * 128 + 128;
    const int tiles = osr__wino_tiles(c);
    return t < tiles ? t : tiles;
}

static int osr__scratch_wino(osr_ctx *ctx, int tiles, int channels)
{
    return osr__scratch(ctx, osr__mul((size_t)36 * 8 * (size_t)osr__blocks(channels),
                                      (size_t)tiles));
}

/* The steps of kernels/winograd_gpu.cl between blocks of channels and between tiles. */
static void osr__arg_step(osr_ctx *ctx, int products, int channels, int t)
{
    const int plain = products == OSR_PRODUCTS_CLBLAST;
    osr__args(ctx, "I", plain ? 8 : t * 8, plain ? osr__blocks(channels) * 8 : 8);
}

/* The tiles t0 .. t0 + live - 1 of an image transformed, as `parts` of t tiles. */
static void osr__emit_wino_tiles(osr_ctx *ctx, uint32_t x, int v, int t0, int live, int parts,
                                 int t, int grad, int products)
{
    const osr_shape s = osr__rec(ctx, x)->shape;
    const size_t ls = (size_t)osr__local_size(ctx);
    osr__begin(ctx, OSR__K_wino_tiles);
    osr__args(ctx, "gsIiiiii", x, v, s.dim[2], s.dim[1], t0, live, parts, t, grad);
    osr__arg_step(ctx, products, s.dim[3], t);
    osr__run3(ctx, ((size_t)parts * (size_t)t * 8 + ls - 1) / ls * ls,
              (size_t)osr__blocks(s.dim[3]), 1, ls, 1);
}

/* The 36 products M = V U of t tiles, from scratch v to scratch m. */
static void osr__emit_wino_products_gpu(osr_ctx *ctx, const osr__record *r, int v, int m, int t,
                                        int in, int out)
{
    const int ib = osr__blocks(in), ob = osr__blocks(out), o16 = osr__round16(out);
    if (r->ia[OSR__PRODUCTS] == OSR_PRODUCTS_CLBLAST) {
#ifdef OSR_CLBLAST
        osr__gemm g;
        osr__gemm_size(&g, t, ob * 8, ib * 8, 0, 0, 36);
        osr__gemm_operand(ctx, &g, 0, 0, v, ib * 8, (size_t)t * (size_t)(ib * 8));
        osr__gemm_operand(ctx, &g, 1, r->in[3], 0, o16, (size_t)o16 * (size_t)(ib * 8));
        osr__gemm_operand(ctx, &g, 2, 0, m, ob * 8, (size_t)t * (size_t)(ob * 8));
        osr__emit_gemm(ctx, &g);
#endif
        return;
    }
    osr__begin_tiled(ctx, OSR__K_conv_taps, r->ia[OSR__PRODUCTS]);
    osr__args(ctx, "sQdsQiiii", v, 0, t * 8, t * 8, ib * t * 8, r->in[3], m, 0, t * 8, t * 8,
              ob * t * 8, ib, in, ob, out);
    osr__args(ctx, "IIIIIII", 1, 1, 0, 0, 1, 1, 1, 1, t, 1, 1, 1, 0, 0);
    osr__args(ctx, "sifiQ", v, 0, 1.0, 1, ib * t * 8, o16 * ib * 8, ob * t * 8, 0);
    osr__run_tiles(ctx, r->ia[OSR__PRODUCTS], (size_t)t, out, 36);
}

/* Winograd on GPUs. The operations are counted with the last of three kinds of launches. */
static void osr__emit_wino_gpu(osr_ctx *ctx, uint32_t i, const osr__conv *c, int transpose)
{
    const osr__record *r = osr__rec(ctx, i);
    const int in = transpose ? c->o : c->c, out = transpose ? c->c : c->o;
    const int tiles = osr__wino_tiles(c), chunk = osr__wino_chunk(c);
    const int v = osr__scratch_wino(ctx, chunk, in), m = osr__scratch_wino(ctx, chunk, out);
    const size_t ls = (size_t)osr__local_size(ctx);
    int t0, t;
    for (t0 = 0; t0 < tiles; t0 += chunk) {
        t = tiles - t0 < chunk ? tiles - t0 : chunk;
        osr__emit_wino_tiles(ctx, r->in[0], v, t0, t, 1, t, 0, c->products);
        osr__emit_wino_products_gpu(ctx, r, v, m, t, in, out);
        osr__begin(ctx, OSR__K_wino_output);
        osr__args(ctx, "sgiIii", m, i, out, c->w, c->h, t0, t);
        osr__arg_after(ctx, i);
        osr__arg_step(ctx, c->products, out, t);
        osr__run3(ctx, ((size_t)t * 8 + ls - 1) / ls * ls, (size_t)osr__blocks(out), 1, ls, 1);
        osr__count_flops(ctx, osr__conv_flops(c) * t / tiles);
    }
}

/* y (node i), or with transpose the input gradient, by Winograd. */
static void osr__emit_wino(osr_ctx *ctx, uint32_t i, const osr__conv *c, int transpose)
{
    const osr__record *r = osr__rec(ctx, i);
    const int in = transpose ? c->o : c->c, out = transpose ? c->c : c->o;
    const int tiles = osr__wino_tiles(c), group = osr__wino_group(ctx, in, tiles);
    const int groups = (tiles + group - 1) / osr__max(group, 1);
    if (ctx->family == OSR_KERNELS_GPU) {
        osr__emit_wino_gpu(ctx, i, c, transpose);
        return;
    }
    osr__begin(ctx, OSR__K_wino_conv);
    osr__args(ctx, "gdgiiiI", r->in[0], r->in[3], i, c->n, osr__blocks(in), out, c->w, c->h);
    osr__arg_after(ctx, i);
    osr__arg_before(ctx, r);
    osr__arg_part(ctx, i);
    osr__arg_i(ctx, group);
    osr__arg(ctx, osr__wino_bytes(group, in), NULL);
    osr__run3(ctx, (size_t)groups, groups < 8 ? (size_t)((out + 31) / 32) : 1, 1, 1, 1);
    osr__count_flops(ctx, osr__conv_flops(c));
}

/* The same for stride 2. */
static void osr__emit_wino2(osr_ctx *ctx, uint32_t i, const osr__conv *c, int transpose)
{
    const osr__record *r = osr__rec(ctx, i);
    const int in = transpose ? c->o : c->c, out = transpose ? c->c : c->o;
    const int groups = osr__wino2_groups(c, transpose);
    osr__begin(ctx, OSR__K_wino2_conv);
    osr__args(ctx, "gdgiii", r->in[0], r->in[3], i, c->n, osr__blocks(in), out);
    osr__args(ctx, "II", transpose ? c->ow : c->w, transpose ? c->oh : c->h,
              transpose ? c->w : c->ow, transpose ? c->h : c->oh);
    osr__args(ctx, "Ii", c->pad, c->pad, transpose);
    osr__arg_after(ctx, i);
    osr__arg_before(ctx, r);
    osr__arg_part(ctx, i);
    osr__arg_i(ctx, 8);
    osr__arg(ctx, osr__wino2_bytes(in), NULL);
    osr__run3(ctx, (size_t)groups, groups < 8 ? (size_t)((out + 31) / 32) : 1, 1, 1, 1);
    osr__count_flops(ctx, osr__conv_flops(c));
}

static void osr__lower_conv2d(osr_ctx *ctx, uint32_t i)
{
    const osr__conv c = osr__conv_of(ctx, osr__rec(ctx, i));
    osr__taps t;
    osr__grid g;
    if (c.algorithm != OSR__DIRECT) {
        (c.algorithm == OSR__WINOGRAD ? osr__emit_wino : osr__emit_wino2)(ctx, i, &c, 0);
        return;
    }
    t.first_y = t.first_x = 0;
    t.step = 1;
    t.count_y = c.kh;
    t.count_x = c.kw;
    g.in_step = c.stride;
    g.off_y = g.off_x = -c.pad;
    g.tap_step = 1;
    g.rows = c.oh;
    g.cols = c.ow;
    g.out_step = 1;
    g.out_y = g.out_x = 0;
    osr__emit_taps(ctx, i, 0, &t, &g);
}

/* The whole input gradient in one launch of kernels/conv_cpu.cl. */
static void osr__emit_dgrad(osr_ctx *ctx, uint32_t i, const osr__conv *c)
{
    const osr__record *r = osr__rec(ctx, i);
    const size_t points = (size_t)((c->h + c->stride - 1) / c->stride)
                          * (size_t)((c->w + c->stride - 1) / c->stride);
    osr__begin(ctx, OSR__K_conv_dgrad);
    osr__args(ctx, "gdgiiIIIIi", r->in[0], r->in[3], i, c->o, c->c, c->kw, c->kh,
              c->stride, c->stride, c->pad, c->pad, c->w, c->h, c->n);
    osr__run3(ctx, (size_t)((c->c + 31) / 32), (points + 63) / 64, (size_t)c->n, 1, 1);
    osr__count_flops(ctx, osr__conv_flops(c));
}

/* The phases are one launch each on GPUs, all in one on CPUs. */
static void osr__lower_conv2d_dx(osr_ctx *ctx, uint32_t i)
{
    const osr__conv c = osr__conv_of(ctx, osr__rec(ctx, i));
    size_t offset = 0;
    int py, px;
    if (c.algorithm != OSR__DIRECT) {
        (c.algorithm == OSR__WINOGRAD ? osr__emit_wino : osr__emit_wino2)(ctx, i, &c, 1);
        return;
    }
    if (ctx->family == OSR_KERNELS_CPU) {
        osr__emit_dgrad(ctx, i, &c);
        return;
    }
    for (py = 0; py < c.stride; ++py)
        for (px = 0; px < c.stride; ++px) {
            osr__taps t;
            osr__grid g;
            osr__phase_of(&c, py, px, &t, &g);
            if (g.rows > 0 && g.cols > 0)
                osr__emit_taps(ctx, i, offset, &t, &g);
            offset += osr__packed_floats(c.c, c.o, &t);
        }
}

/* The work-groups of conv_wgrad on GPUs for one split, of `taps` taps. */
static int osr__wgrad_groups(const osr__conv *c, int taps)
{
    const osr__tile *t = &osr__tiles[c->products];
    return (c->o + t->outputs - 1) / t->outputs
           * ((osr__blocks(c->c) * taps + t->rows / 8 - 1) / (t->rows / 8));
}

static void osr__run_wgrad(osr_ctx *ctx, const osr__conv *c, int taps, int splits)
{
    const osr__tile *t = &osr__tiles[c->products];
    const size_t across = (size_t)((c->o + t->outputs - 1) / t->outputs);
    const size_t items = (size_t)t->items;
    osr__run3(ctx, across * items, (size_t)osr__wgrad_groups(c, taps) / across, (size_t)splits,
              items, 1);
}

/* Into how many parts the images of a weight gradient are divided: of shape, family and tiles only.
 * 512 groups give each of some 130 compute units the 4 that its registers hold. */
static int osr__wgrad_splits(const osr_ctx *ctx, const osr__conv *c)
{
    const int gpu = ctx->family == OSR_KERNELS_GPU, wanted = gpu ? 512 : 32;
    const int groups = gpu ? osr__wgrad_groups(c, c->kh * c->kw)
                           : (c->o + 63) / 64 * ((c->c + 31) / 32);
    const int s = groups < wanted ? wanted / groups : 1;
    return s < c->n ? s : c->n;
}

/* The products dU = V' D of 36 positions times parts of t tiles: the images of a direct weight
 * gradient, each of one row, with a filter 1x1 of its own. */
static void osr__emit_wino_grads_gpu(osr_ctx *ctx, const osr__conv *c, int v, int d, int part,
                                     int t, int count)
{
    const int ib = osr__blocks(c->c), ob = osr__blocks(c->o);
    if (c->products == OSR_PRODUCTS_CLBLAST) {
#ifdef OSR_CLBLAST
        const int o16 = osr__round16(c->o);
        osr__gemm g;
        osr__gemm_size(&g, ib * 8, ob * 8, t, 1, 0, count);
        osr__gemm_operand(ctx, &g, 0, 0, v, ib * 8, (size_t)t * (size_t)(ib * 8));
        osr__gemm_operand(ctx, &g, 1, 0, d, ob * 8, (size_t)t * (size_t)(ob * 8));
        osr__gemm_operand(ctx, &g, 2, 0, part, o16, (size_t)o16 * (size_t)(ib * 8));
        osr__emit_gemm(ctx, &g);
#endif
        return;
    }
    osr__begin_tiled(ctx, OSR__K_conv_wgrad, c->products);
    osr__args(ctx, "sQsQsiii", v, 0, t * 8, t * 8, ib * t * 8, d, 0, t * 8, t * 8, ob * t * 8,
              part, count, c->c, c->o);
    osr__args(ctx, "IIIIi", 1, 1, 1, 1, 0, 0, t, 1, count);
    osr__run_wgrad(ctx, c, 1, count);
}

/* The weight gradient by Winograd on GPUs. */
static void osr__emit_wino_wgrad_gpu(osr_ctx *ctx, const osr__record *r, const osr__conv *c)
{
    const int ib = osr__blocks(c->c), o16 = osr__round16(c->o) / 16;
    const int tiles = osr__wino_tiles(c), chunk = osr__wino_chunk(c);
    const int groups = 36 * osr__wgrad_groups(c, 1), most = (chunk + 63) / 64;
    const int wanted = groups < 512 ? 512 / groups : 1, parts = wanted < most ? wanted : most;
    const int v = osr__scratch_wino(ctx, chunk + parts, c->c);
    const int d = osr__scratch_wino(ctx, chunk + parts, c->o);
    const int part = osr__scratch_wino(ctx, parts * o16 * 16, c->c);
    const size_t ls = (size_t)osr__local_size(ctx);
    int t0;
    for (t0 = 0; t0 < tiles; t0 += chunk) {
        const int live = tiles - t0 < chunk ? tiles - t0 : chunk, t = (live + parts - 1) / parts;
        osr__emit_wino_tiles(ctx, r->in[0], v, t0, live, parts, t, 0, c->products);
        osr__emit_wino_tiles(ctx, r->in[1], d, t0, live, parts, t, 1, c->products);
        osr__emit_wino_grads_gpu(ctx, c, v, d, part, t, 36 * parts);
        osr__begin(ctx, OSR__K_wino_wgrad_filter);
        osr__args(ctx, "sdiiiii", part, r->in[2], c->c, c->o, parts, r->ia[OSR__ADD] || t0 > 0,
                  c->products == OSR_PRODUCTS_CLBLAST);
        osr__run3(ctx, (size_t)o16 * ls, (size_t)ib, 128 / ls, ls, 1);
        osr__count_flops(ctx, osr__conv_flops(c) * live / tiles);
    }
}

/* The weight gradient by Winograd on CPUs: parts of the tiles, and of the outputs where there are
 * more cores than parts, in work-groups with scratch of their own for 8 or more tiles at a time. */
static void osr__emit_wino_wgrad(osr_ctx *ctx, const osr__record *r, const osr__conv *c)
{
    const int c16 = osr__round16(c->c) / 16, o16 = osr__round16(c->o) / 16;
    const int splits = osr__wino_splits(ctx, c), cores = (int)ctx->device.compute_units;
    const int wanted = (cores + splits - 1) / splits, groups = wanted < o16 ? wanted : o16;
    const int room = osr__max(OSR__WINO_ROOM, 8 * 81 * 16 * (c16 + o16));
    const int transformed = osr__scratch(ctx, (size_t)splits * (size_t)groups * (size_t)room);
    const int product = osr__scratch(ctx, (size_t)splits * 36 * 256 * (size_t)(c16 * o16));
    osr__begin(ctx, OSR__K_wino_wgrad);
    osr__args(ctx, "ggss", r->in[0], r->in[1], transformed, product);
    osr__args(ctx, "iiiIIIi", c->n, c->c, c->o, c->w, c->h, c->ow, c->oh, c->pad, c->pad,
              c->stride);
    osr__arg_before(ctx, r);
    osr__arg_i(ctx, room);
    osr__run3(ctx, (size_t)splits, (size_t)osr__max(groups, 1), 1, 1, 1);
    osr__count_flops(ctx, osr__conv_flops(c));
    osr__begin(ctx, OSR__K_wino_wgrad_filter);
    osr__args(ctx, "sdiiiii", product, r->in[2], c->c, c->o, c->stride, splits, r->ia[OSR__ADD]);
    osr__run3(ctx, (size_t)o16, (size_t)osr__blocks(c->c), 1, 1, 1);
}

static void osr__lower_conv2d_dw(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr__conv c = osr__conv_of(ctx, r);
    const int splits = osr__wgrad_splits(ctx, &c), gpu = ctx->family == OSR_KERNELS_GPU;
    const size_t ls = (size_t)osr__local_size(ctx), o16 = (size_t)((c.o + 15) / 16);
    const size_t ib = (size_t)osr__blocks(c.c), taps = (size_t)(c.kh * c.kw);
    int part;
    if (c.algorithm != OSR__DIRECT) {
        (gpu ? osr__emit_wino_wgrad_gpu : osr__emit_wino_wgrad)(ctx, r, &c);
        return;
    }
    part = osr__scratch(ctx, osr__mul((size_t)splits * o16 * ib * 128, taps));
    osr__begin_tiled(ctx, OSR__K_conv_wgrad, c.products);
    osr__args(ctx, "ggsiiiIIIIi", r->in[0], r->in[1], part, c.n, c.c, c.o, c.kw, c.kh,
              c.stride, c.stride, c.pad, c.pad, c.ow, c.oh, splits);
    if (gpu)
        osr__run_wgrad(ctx, &c, c.kh * c.kw, splits);
    else
        osr__run3(ctx, (size_t)((c.c + 31) / 32), (size_t)((c.o + 63) / 64), (size_t)splits, 1, 1);
    osr__count_flops(ctx, osr__conv_flops(&c));
    osr__begin(ctx, OSR__K_conv_wgrad_reduce);
    osr__args(ctx, "sdiiiiii", part, r->in[2], c.o, c.c, c.kh, c.kw, splits, r->ia[OSR__ADD]);
    osr__run3(ctx, o16 * ls, ib, gpu ? taps : 1, ls, 1);
}

/* The parts of the statistics of a convolution's result: mean, squares and count of the pixels of
 * each work-group. */
static osr_shape osr__conv_parts(const osr_ctx *ctx, const osr__conv *c)
{
    const int tiles = osr__wino_tiles(c), group = osr__wino_group(ctx, c->c, tiles);
    const int groups = c->algorithm == OSR__DIRECT     ? (c->oh * c->ow + 63) / 64 * c->n
                       : c->algorithm == OSR__WINOGRAD ? (tiles + group - 1) / osr__max(group, 1)
                                                       : osr__wino2_groups(c, 0);
    return osr_shape_make(2, 3 * osr__max(groups, 1), osr__blocks(c->o) * 8, 0, 0);
}

/* A value that ran before lies with the halo that its readers of then wanted: copy it, so that a
 * convolution recorded now finds its own. */
static uint32_t osr__with_halo(osr_ctx *ctx, uint32_t x)
{
    if (x == 0 || x >= ctx->done)
        return x;
    x = osr__map(ctx, OSR__OP_affine, x, 0, 1.0f, 0.0f);
    if (x != 0)
        osr__rec(ctx, x)->keep = 1; /* it has no handle */
    return x;
}

OSR_API osr_tensor osr_conv2d(osr_ctx *ctx, osr_tensor tx, osr_tensor tw, const osr_conv_desc *desc)
{
    const uint32_t x = osr__with_halo(ctx, osr__image(ctx, tx, "conv2d"));
    const uint32_t w = osr__ref(ctx, tw, "conv2d", "w");
    int pad_end = 0, oh, ow;
    int32_t ia[8] = { 1, 0, 0, 0, 0, 0, 0, 0 };
    osr_shape sx, sw, sy;
    osr__conv c;
    osr__node *node;
    uint32_t i, packed, part;
    if (x == 0 || w == 0)
        return osr__handle(ctx, 0);
    if (desc != NULL) {
        ia[0] = desc->stride == 0 ? 1 : desc->stride;
        ia[1] = desc->pad;
        pad_end = desc->asymmetric ? desc->pad_end : desc->pad;
    }
    sx = osr__ref_shape(ctx, x);
    sw = osr__ref_shape(ctx, w);
    if (ia[0] < 1 || ia[1] < 0 || pad_end < 0) {
        osr__fail(ctx, OSR_ARG, "conv2d: stride %d, padding %d and %d", (int)ia[0], (int)ia[1],
                  pad_end);
        return osr__handle(ctx, 0);
    }
    if (!osr__is_persist(w) || sw.rank != 4 || sw.dim[1] != sx.dim[3]) {
        osr__fail(ctx, OSR_SHAPE, "conv2d: x is %s but w is %s (out, in, kh, kw)%s",
                  osr__shape_text(sx).s, osr__shape_text(sw).s,
                  osr__is_persist(w) ? "" : " and not a parameter");
        return osr__handle(ctx, 0);
    }
    oh = sx.dim[1] + ia[1] + pad_end - sw.dim[2];
    ow = sx.dim[2] + ia[1] + pad_end - sw.dim[3];
    if (oh < 0 || ow < 0) {
        osr__fail(ctx, OSR_SHAPE, "conv2d: the kernel of w %s is larger than x %s with padding %d",
                  osr__shape_text(sw).s, osr__shape_text(sx).s, (int)ia[1]);
        return osr__handle(ctx, 0);
    }
    sy = osr_shape_make(4, sx.dim[0], oh / ia[0] + 1, ow / ia[0] + 1, sw.dim[0]);
    c = osr__conv_make(sx, sy, sw, ia);
    osr__conv_choose(ctx, &c, OSR__FORWARD);
    ia[OSR__ALGORITHM] = c.algorithm;
    ia[OSR__PRODUCTS] = c.products;
    packed = osr__conv_packed(ctx, w, &c, 0);
    part = packed == 0 ? 0
                       : osr__append(ctx, OSR__OP_none, osr__conv_parts(ctx, &c), 0, 0, 0, &node);
    i = part == 0 ? 0 : osr__append(ctx, OSR__OP_conv2d, sy, x, w, 0, &node);
    if (i != 0) {
        node->r.in[3] = packed;
        node->r.in[OSR__PART] = part;
        memcpy(node->r.ia, ia, sizeof ia);
    }
    return osr__handle(ctx, i);
}

/* The activation that a weight gradient reads, made again from what is kept anyway (the input of
 * the normalisation and its coefficients): one pass over it costs less than its memory. */
static uint32_t osr__recomputed(osr_ctx *ctx, uint32_t x)
{
    osr__node *node;
    uint32_t i;
    const osr__record r = *osr__rec(ctx, x);
    if (r.op != OSR__OP_norm_act || r.keep || x < ctx->done
        || osr__rec(ctx, r.in[0])->op != OSR__OP_conv2d)
        return x;
    i = osr__append(ctx, OSR__OP_norm_act, r.shape, r.in[0], r.in[1], 0, &node);
    if (i != 0) {
        memcpy(node->r.ia, r.ia, sizeof r.ia);
        memcpy(node->r.fa, r.fa, sizeof r.fa);
        node->dyn[0] = ctx->nodes[x].dyn[0];
    }
    return i;
}

static void osr__back_conv2d(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    osr__conv c = osr__conv_of(ctx, &r);
    osr__node *node;
    uint32_t dx, packed;
    if (r.ia[OSR__AFTER] != 0) {
        osr__fail(ctx, OSR_HANDLE, "conv2d: a value between was fused away; call osr_backward or "
                                   "osr_grad before osr_read");
        return;
    }
    dy = osr__with_halo(ctx, dy);
    if (osr__wants(ctx, r.in[1])
        && osr__append(ctx, OSR__OP_conv2d_dw, osr__ref_shape(ctx, r.in[1]),
                       osr__recomputed(ctx, r.in[0]), dy, osr__grad_ref(r.in[1]), &node) != 0) {
        osr__conv_choose(ctx, &c, OSR__WEIGHT_GRADIENT);
        memcpy(node->r.ia, r.ia, sizeof r.ia);
        node->r.ia[OSR__ALGORITHM] = c.algorithm;
        node->r.ia[OSR__PRODUCTS] = c.products;
        node->r.ia[OSR__ADD] = osr__accumulate(ctx, r.in[1]);
    }
    if (!osr__wants(ctx, r.in[0]))
        return;
    osr__conv_choose(ctx, &c, OSR__INPUT_GRADIENT);
    packed = osr__conv_packed(ctx, r.in[1], &c, 1);
    dx = osr__append(ctx, OSR__OP_conv2d_dx, osr__rec(ctx, r.in[0])->shape, dy, r.in[1], 0, &node);
    if (dx != 0) {
        node->r.in[3] = packed;
        memcpy(node->r.ia, r.ia, sizeof r.ia);
        node->r.ia[OSR__ALGORITHM] = c.algorithm;
        node->r.ia[OSR__PRODUCTS] = c.products;
    }
    osr__give(ctx, r.in[0], dx);
}

/* -- normalisation, activation, dropout: one node -- */

/* ia: 0 normalisation (0 none, 1 running statistics, 2 of the batch), 1 dropout (0 none, 1 values,
 * 2 channels), 2 ordinal of the dropout; fa: 0 slope, 1 rate; dyn: 0 step. in: x, coefficients. */
#define OSR__NORM 0
#define OSR__DROP 1
#define OSR__STREAM 2

static void osr__arg_act(osr_ctx *ctx, const osr__record *r)
{
    osr__args(ctx, "fifiyii", r->fa[0], r->ia[OSR__DROP], r->fa[1], r->ia[OSR__STREAM], 0,
              (int)(uint32_t)ctx->seed, (int)(uint32_t)(ctx->seed >> 32));
}

/* in = x (norm_fixed: 0), gamma, beta, mean, var; fa: eps, momentum. */
static void osr__lower_norm_stats(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const int channels = osr__ref_shape(ctx, r->in[1]).dim[0], cb = osr__blocks(channels);
    osr_shape s = r->shape;
    const int batch = r->op == OSR__OP_norm_stats;
    int part = 0, rows = 0, k;
    if (batch && r->in[OSR__PART] != 0) {
        rows = osr__rec(ctx, r->in[OSR__PART])->shape.dim[0] / 3;
    } else if (batch) {
        s = osr__rec(ctx, r->in[0])->shape;
        rows = s.dim[0];
        part = osr__scratch(ctx, osr__mul((size_t)rows * 3, (size_t)cb * 8));
        osr__call(ctx, OSR__K_norm_plane_stats, osr__planes(s), "gsiP", r->in[0], part, s.dim[0],
                  r->in[0]);
    }
    osr__begin(ctx, batch ? OSR__K_norm_merge : OSR__K_norm_fixed);
    if (batch)
        osr__args(ctx, r->in[OSR__PART] != 0 ? "m" : "s", r->in[OSR__PART] + (uint32_t)part);
    for (k = 1; k < 5; ++k)
        osr__arg_dense(ctx, r->in[k]);
    osr__arg_mem(ctx, i);
    if (batch)
        osr__arg_i(ctx, rows);
    osr__args(ctx, "iif", cb, channels, r->fa[0]);
    if (batch)
        osr__arg_f(ctx, r->fa[1]);
    osr__run(ctx, (size_t)cb);
}

/* in = coefficients; ia, fa, dyn as norm_act. */
static void osr__lower_norm_drop(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const int cb = r->shape.dim[1] / 16;
    osr__call(ctx, OSR__K_norm_drop, (size_t)r->shape.dim[0] * (size_t)cb, "mmifiyii", r->in[0], i,
              cb, r->fa[1], r->ia[OSR__STREAM], 0, (int)(uint32_t)ctx->seed,
              (int)(uint32_t)(ctx->seed >> 32));
}

static void osr__lower_norm_act(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const int norm = r->ia[OSR__NORM] != 0, image = osr__is_image(r->shape);
    osr__begin(ctx, image ? OSR__K_norm_act : OSR__K_dense_act);
    if (image)
        osr__args(ctx, "gmgPi", r->in[0], norm ? r->in[1] : r->in[0], i, i, norm);
    else
        osr__args(ctx, "ddn", r->in[0], i, i);
    osr__arg_act(ctx, r);
    osr__run(ctx, image ? osr__planes(r->shape) : osr__flat(ctx, osr_shape_count(r->shape)));
}

/* in = dy, x, coefficients, gradient of gamma, of beta (0: not wanted); ia as norm_act, 3 and 4
 * whether to add. */
static void osr__lower_norm_sums(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape s = osr__rec(ctx, r->in[1])->shape;
    const int cb = osr__blocks(s.dim[3]), wanted = (r->in[3] != 0) + 2 * (r->in[4] != 0);
    const int part = osr__scratch(ctx, osr__mul((size_t)s.dim[0] * 2, (size_t)cb * 8));
    osr__begin(ctx, OSR__K_norm_act_sums);
    osr__args(ctx, "ggmsiP", r->in[0], r->in[1], r->in[2], part, s.dim[0], r->in[1]);
    osr__arg_act(ctx, r);
    osr__run(ctx, osr__planes(s));
    osr__call(ctx, OSR__K_norm_merge_sums, (size_t)cb, "smddiiiiiii", part, i,
              r->in[3] != 0 ? r->in[3] : i, r->in[4] != 0 ? r->in[4] : i, s.dim[0], cb, s.dim[3],
              s.dim[1] * s.dim[2], wanted, r->ia[3], r->ia[4]);
}

/* in = dy, x, coefficients, sums */
static void osr__lower_norm_act_dx(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const uint32_t dy = r->in[0], x = r->in[1];
    const int norm = r->ia[OSR__NORM], image = osr__is_image(r->shape);
    osr__begin(ctx, image ? OSR__K_norm_act_dx : OSR__K_dense_act_dx);
    if (image)
        osr__args(ctx, "ggmmgPi", dy, x, norm ? r->in[2] : x, norm == 2 ? r->in[3] : x, i, i, norm);
    else
        osr__args(ctx, "dddn", dy, x, i, i);
    osr__arg_act(ctx, r);
    osr__run(ctx, image ? osr__planes(r->shape) : osr__flat(ctx, osr_shape_count(r->shape)));
}

/* Give a node the numbers of a norm_act. */
static void osr__as_act(osr__node *node, const osr__node *act)
{
    memcpy(node->r.ia, act->r.ia, sizeof act->r.ia);
    memcpy(node->r.fa, act->r.fa, sizeof act->r.fa);
    node->dyn[0] = act->dyn[0];
}

static void osr__back_norm_act(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__node n = ctx->nodes[i];
    const uint32_t x = n.r.in[0], coef = n.r.in[1];
    const uint32_t gamma = coef != 0 ? osr__rec(ctx, coef)->in[1] : 0;
    const uint32_t beta = coef != 0 ? osr__rec(ctx, coef)->in[2] : 0;
    uint32_t sums = 0, dx;
    osr__node *node;
    if (coef != 0
        && (n.r.ia[OSR__NORM] == 2 || osr__wants(ctx, gamma) || osr__wants(ctx, beta))) {
        sums = osr__append(ctx, OSR__OP_norm_sums, osr__rec(ctx, coef)->shape, dy, x, coef, &node);
        osr__as_act(node, &n);
        if (osr__wants(ctx, gamma)) {
            node->r.in[3] = osr__grad_ref(gamma);
            node->r.ia[3] = osr__accumulate(ctx, gamma);
        }
        if (osr__wants(ctx, beta)) {
            node->r.in[4] = osr__grad_ref(beta);
            node->r.ia[4] = osr__accumulate(ctx, beta);
        }
    }
    if (!osr__wants(ctx, x))
        return;
    dx = osr__append(ctx, OSR__OP_norm_act_dx, n.r.shape, dy, x, coef, &node);
    osr__as_act(node, &n);
    node->r.in[3] = n.r.ia[OSR__NORM] == 2 ? sums : 0;
    osr__give(ctx, x, dx);
}

/* A vector [C] of the context for a channel of x. */
static uint32_t osr__channel_vector(osr_ctx *ctx, osr_tensor t, osr_shape x, const char *name)
{
    const uint32_t v = osr__ref(ctx, t, "batchnorm", name);
    if (!osr__is_persist(v) || osr__ref_shape(ctx, v).rank != 1
        || osr__ref_shape(ctx, v).dim[0] != x.dim[3])
        osr__fail(ctx, OSR_SHAPE, "batchnorm: x is %s but %s is %s", osr__shape_text(x).s, name,
                  osr__ref_text(ctx, v).s);
    return v;
}

OSR_API osr_tensor osr_batchnorm(osr_ctx *ctx, osr_tensor tx, osr_tensor gamma, osr_tensor beta,
                                 osr_tensor mean, osr_tensor var, const osr_batchnorm_desc *desc)
{
    static const osr_batchnorm_desc none = { 0.0f, 0.0f, 0 };
    const uint32_t x = osr__image(ctx, tx, "batchnorm");
    const osr_shape s = osr__ref_shape(ctx, x);
    const uint32_t g = osr__channel_vector(ctx, gamma, s, "gamma");
    const uint32_t b = osr__channel_vector(ctx, beta, s, "beta");
    const uint32_t m = osr__channel_vector(ctx, mean, s, "mean");
    const uint32_t v = osr__channel_vector(ctx, var, s, "var");
    const osr_batchnorm_desc *d = desc != NULL ? desc : &none;
    osr__node *node;
    uint32_t coef, i;
    if (!(d->eps >= 0.0f) || !(d->momentum >= 0.0f) || !(d->momentum <= 1.0f))
        osr__fail(ctx, OSR_ARG, "batchnorm: eps %g, momentum %g", (double)d->eps,
                  (double)d->momentum);
    coef = osr__append(ctx, d->train ? OSR__OP_norm_stats : OSR__OP_norm_fixed,
                       osr_shape_make(2, 4, osr__blocks(s.dim[3]) * 8, 0, 0), d->train ? x : 0, g,
                       b, &node);
    node->r.in[3] = m;
    node->r.in[4] = v;
    node->r.keep = 1; /* it has no handle, and a gradient recorded after a read needs it */
    node->r.fa[0] = d->eps > 0.0f ? d->eps : OSR_BATCHNORM_EPS;
    node->r.fa[1] = d->momentum;
    i = osr__append(ctx, OSR__OP_norm_act, s, x, coef, 0, &node);
    node->r.ia[OSR__NORM] = d->train ? 2 : 1;
    node->r.fa[0] = 1.0f;
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_leaky_relu(osr_ctx *ctx, osr_tensor tx, float slope)
{
    const uint32_t x = osr__operand(ctx, tx, "leaky_relu", "x");
    osr__node *node;
    uint32_t i;
    if (!(slope >= 0.0f && slope <= 1.0f))
        osr__fail(ctx, OSR_ARG, "leaky_relu: slope %g is not in 0..1", (double)slope);
    i = osr__append(ctx, OSR__OP_norm_act, osr__ref_shape(ctx, x), x, 0, 0, &node);
    node->r.fa[0] = slope;
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_dropout(osr_ctx *ctx, osr_tensor tx, float p, int channels)
{
    const uint32_t x = osr__operand(ctx, tx, "dropout", "x");
    osr__node *node;
    uint32_t i;
    if (!(p >= 0.0f && p < 1.0f))
        osr__fail(ctx, OSR_ARG, "dropout: p %g is not in 0..1", (double)p);
    i = osr__append(ctx, OSR__OP_norm_act, osr__ref_shape(ctx, x), x, 0, 0, &node);
    node->r.fa[0] = 1.0f;
    node->r.fa[1] = p;
    node->r.ia[OSR__DROP] = p == 0.0f ? 0 : channels ? 2 : 1;
    node->r.ia[OSR__STREAM] = (int32_t)ctx->drop_stream++;
    node->dyn[0].u = ctx->step;
    return osr__handle(ctx, i);
}

/* Join norm_act nodes that follow each other: normalise, then activate, then drop. The first of
 * the two must have no other reader and not be kept. */
static void osr__fuse(osr_ctx *ctx)
{
    uint32_t i, first = (uint32_t)ctx->fused;
    if (first >= ctx->node_count || !osr__count_readers(ctx, first))
        return;
    for (i = first; i < ctx->node_count; ++i) {
        osr__record *b = osr__rec(ctx, i), *a;
        uint32_t j = b->in[0];
        if (b->op != OSR__OP_norm_act || b->ia[OSR__NORM] != 0 || j < first || osr__is_persist(j))
            continue;
        a = osr__rec(ctx, j);
        if (a->op != OSR__OP_norm_act || a->keep || ctx->walk[j] != 1 || a->ia[OSR__DROP] != 0
            || (a->fa[0] != 1.0f && b->fa[0] != 1.0f))
            continue;
        b->in[0] = a->in[0];
        b->in[1] = a->in[1];
        b->ia[OSR__NORM] = a->ia[OSR__NORM];
        b->fa[0] = a->fa[0] != 1.0f ? a->fa[0] : b->fa[0];
        memset(a, 0, sizeof *a);
        a->op = OSR__OP_none;
    }
    ctx->fused = ctx->node_count;
}

/* In a step with gradients, let a convolution and a weight gradient by Winograd make the activation
 * that they read from what it is made of, while they read that. Nothing else may read it. The
 * activation's node is left to fold its dropout of channels into the coefficients. */
static void osr__fuse_before(osr_ctx *ctx, uint32_t i)
{
    osr__record *b = osr__rec(ctx, i), *a;
    const uint32_t j = b->in[0];
    if ((b->op != OSR__OP_conv2d && b->op != OSR__OP_conv2d_dw)
        || b->ia[OSR__ALGORITHM] == OSR__DIRECT || j < ctx->done || osr__is_persist(j))
        return;
    a = osr__rec(ctx, j);
    if (a->op != OSR__OP_norm_act || a->keep || ctx->walk[j] != 1 || a->ia[OSR__NORM] == 0
        || a->ia[OSR__DROP] == 1 || a->in[0] < ctx->done)
        return;
    b->in[0] = a->in[0];
    b->in[OSR__BEFORE] = a->ia[OSR__DROP] != 0 ? j : a->in[1];
    b->fa[1] = a->fa[0];
    if (a->ia[OSR__DROP] != 0) {
        a->op = OSR__OP_norm_drop;
        a->in[0] = a->in[1];
        a->in[1] = 0;
        a->shape = osr_shape_make(2, a->shape.dim[0], osr__blocks(a->shape.dim[3]) * 16, 0, 0);
    } else {
        memset(a, 0, sizeof *a);
        a->op = OSR__OP_none;
    }
}

/* Let the convolution that puts out what is normalised sum up its statistics. */
static void osr__fuse_stats(osr_ctx *ctx, uint32_t i)
{
    osr__record *b = osr__rec(ctx, i), *a;
    const uint32_t j = b->in[0];
    if (b->op != OSR__OP_norm_stats || j < ctx->done || osr__is_persist(j))
        return;
    a = osr__rec(ctx, j);
    if (a->op != OSR__OP_conv2d || a->ia[OSR__AFTER] != 0)
        return;
    b->in[OSR__PART] = a->in[OSR__PART];
    osr__rec(ctx, a->in[OSR__PART])->op = OSR__OP_part;
}

/* What the CPU's kernels for convolutions can do besides. */
static void osr__fuse_training(osr_ctx *ctx)
{
    uint32_t i, first = (uint32_t)ctx->done;
    int gradients = 0;
    for (i = first; i < ctx->node_count; ++i)
        gradients |= osr__rec(ctx, i)->backward;
    if (ctx->family != OSR_KERNELS_CPU || !osr__count_readers(ctx, first))
        return;
    for (i = first; i < ctx->node_count; ++i) {
        osr__fuse_stats(ctx, i);
        if (gradients)
            osr__fuse_before(ctx, i);
    }
}

/* In inference, let a convolution do what follows it. Nothing else may read the value between, no
 * gradient either. */
static void osr__fuse_inference(osr_ctx *ctx)
{
    uint32_t i, first = (uint32_t)ctx->done;
    if (!osr__count_readers(ctx, first))
        return;
    for (i = first; i < ctx->node_count; ++i) {
        osr__record *b = osr__rec(ctx, i), *a;
        const uint32_t j = b->in[0];
        if (b->op != OSR__OP_norm_act || b->ia[OSR__NORM] == 2 || b->ia[OSR__DROP] != 0 || j < first
            || osr__is_persist(j))
            continue;
        a = osr__rec(ctx, j);
        if (a->op != OSR__OP_conv2d || a->keep || ctx->walk[j] != 1 || a->ia[OSR__AFTER] != 0)
            continue;
        b->op = OSR__OP_conv2d;
        b->in[0] = a->in[0];
        b->in[2] = b->in[1];
        b->in[1] = a->in[1];
        b->in[3] = a->in[3];
        memcpy(b->ia, a->ia, sizeof b->ia);
        b->ia[OSR__AFTER] = b->in[2] != 0 ? 2 : 1;
        memset(a, 0, sizeof *a);
        a->op = OSR__OP_none;
    }
}

/* -- pooling and flattening -- */

static osr_tensor osr__pool(osr_ctx *ctx, osr_tensor tx, int size, int stride, int average)
{
    const char *op = average ? "avg_pool" : "max_pool";
    const uint32_t x = osr__image(ctx, tx, op);
    const int step = stride == 0 ? size : stride;
    osr_shape s = osr__ref_shape(ctx, x);
    osr__node *node;
    uint32_t i;
    if (size < 1 || step < 1 || size > s.dim[1] || size > s.dim[2])
        return osr__none(osr__fail(ctx, size < 1 || step < 1 ? OSR_ARG : OSR_SHAPE,
                                   "%s: x is %s, window %d, stride %d", op, osr__shape_text(s).s,
                                   size, step));
    s.dim[1] = (s.dim[1] - size) / step + 1;
    s.dim[2] = (s.dim[2] - size) / step + 1;
    i = osr__append(ctx, OSR__OP_pool, s, x, 0, 0, &node);
    node->r.ia[0] = size;
    node->r.ia[1] = step;
    node->r.ia[2] = average;
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_max_pool(osr_ctx *ctx, osr_tensor x, int size, int stride)
{
    return osr__pool(ctx, x, size, stride, 0);
}

OSR_API osr_tensor osr_avg_pool(osr_ctx *ctx, osr_tensor x, int size, int stride)
{
    return osr__pool(ctx, x, size, stride, 1);
}

static void osr__back_pool(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    uint32_t dx;
    if (!osr__wants(ctx, r.in[0]))
        return;
    dx = osr__like(ctx, OSR__OP_pool_dx, r.in[0], dy, r.in[0], i);
    memcpy(osr__rec(ctx, dx)->ia, r.ia, sizeof r.ia);
    osr__give(ctx, r.in[0], dx);
}

OSR_API osr_tensor osr_global_avg_pool(osr_ctx *ctx, osr_tensor tx)
{
    const uint32_t x = osr__image(ctx, tx, "global_avg_pool");
    const osr_shape s = osr__ref_shape(ctx, x);
    return osr__result(ctx, OSR__OP_global_avg_pool,
                       osr_shape_make(2, s.dim[0], s.dim[3], 0, 0), x, 0);
}

OSR_API osr_tensor osr_quarter_turns(osr_ctx *ctx, osr_tensor tx)
{
    const uint32_t x = osr__image(ctx, tx, "quarter_turns");
    osr_shape s = osr__ref_shape(ctx, x);
    if (s.dim[1] != s.dim[2] || s.dim[0] > INT_MAX / 4)
        return osr__none(osr__fail(ctx, OSR_SHAPE, "quarter_turns: x is %s, not square or too many",
                                   osr__shape_text(s).s));
    s.dim[0] *= 4;
    return osr__result(ctx, OSR__OP_quarter_turns, s, x, 0);
}

OSR_API osr_tensor osr_flatten(osr_ctx *ctx, osr_tensor tx)
{
    const uint32_t x = osr__image(ctx, tx, "flatten");
    const osr_shape s = osr__ref_shape(ctx, x);
    return osr__result(ctx, OSR__OP_flatten,
                       osr_shape_make(2, s.dim[0], s.dim[1] * s.dim[2] * s.dim[3], 0, 0), x, 0);
}

/* -- rows -- */

/* One row an op that a kernel works out row by row, its gradient the same: how many of fa[] it
 * takes. */
typedef struct osr__row_op {
    int op;
    osr__kernel forward, gradient;
    int numbers;
} osr__row_op;

static const osr__row_op *osr__row_op_find(int op)
{
    static const osr__row_op rows[] = {
        { OSR__OP_row_sum, OSR__K_row_sum, OSR__K_row_spread, 0 },
        { OSR__OP_softmax, OSR__K_softmax, OSR__K_softmax_dx, 0 },
        { OSR__OP_logsumexp, OSR__K_logsumexp, OSR__K_logsumexp_dx, 0 },
        { OSR__OP_normalise, OSR__K_normalise, OSR__K_normalise_dx, 0 },
        { OSR__OP_loss_cross_entropy, OSR__K_loss_cross_entropy, OSR__K_loss_cross_entropy, 1 },
        { OSR__OP_loss_cac, OSR__K_loss_cac, OSR__K_loss_cac, 1 },
        { OSR__OP_loss_difair, OSR__K_loss_difair, OSR__K_loss_difair, 2 },
        { OSR__OP_loss_movr, OSR__K_loss_movr, OSR__K_loss_movr, 3 },
        { OSR__OP_loss_ovr, OSR__K_loss_movr, OSR__K_loss_movr, 3 }, /* T = 0: logits */
    };
    size_t i = 0;
    while (rows[i].op != op && rows[i].op + 1 != op)
        ++i;
    return &rows[i];
}

static void osr__lower_rows(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr__row_op *row = osr__row_op_find(r->op);
    const osr_shape s = r->shape.rank == 2 ? r->shape : osr__ref_shape(ctx, r->in[0]);
    int k;
    osr__begin(ctx, r->op == row->op ? row->forward : row->gradient);
    for (k = 0; k < 3 && r->in[k] != 0; ++k)
        osr__arg_dense(ctx, r->in[k]);
    osr__args(ctx, "di", i, s.dim[1]);
    osr__run(ctx, (size_t)s.dim[0]);
}

static osr_tensor osr__rows(osr_ctx *ctx, int op, osr_tensor tx)
{
    const uint32_t x = osr__matrix(ctx, tx, osr__op(op)->name, "x");
    const osr_shape s = osr__ref_shape(ctx, x);
    return osr__result(ctx, op, op == OSR__OP_softmax || op == OSR__OP_normalise
                                    ? s : osr_shape_make(1, s.dim[0], 0, 0, 0), x, 0);
}

OSR_API osr_tensor osr_softmax(osr_ctx *ctx, osr_tensor x)
{
    return osr__rows(ctx, OSR__OP_softmax, x);
}

OSR_API osr_tensor osr_logsumexp(osr_ctx *ctx, osr_tensor x)
{
    return osr__rows(ctx, OSR__OP_logsumexp, x);
}

OSR_API osr_tensor osr_normalise(osr_ctx *ctx, osr_tensor x)
{
    return osr__rows(ctx, OSR__OP_normalise, x);
}

static void osr__lower_distance(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape a = osr__ref_shape(ctx, r->in[1]);
    osr__call(ctx, OSR__K_anchor_distance, (size_t)r->shape.dim[0], "dddiif", r->in[0], r->in[1], i,
              a.dim[0], a.dim[1], r->fa[0]);
}

/* in = dd, z, anchors, d; by z or by the anchors. fa = scale of the square or 0, rate */
static void osr__lower_distance_dx(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape a = osr__ref_shape(ctx, r->in[2]);
    const int by_z = r->op == OSR__OP_anchor_distance_dx;
    osr__call(ctx, by_z ? OSR__K_anchor_distance_dx : OSR__K_anchor_distance_da,
              (size_t)r->shape.dim[0], by_z ? "dddddiif" : "dddddiifif", r->in[0], r->in[1],
              r->in[2], r->in[3], i, a.dim[0], a.dim[1], r->fa[0],
              osr__ref_shape(ctx, r->in[1]).dim[0], r->fa[1]);
}

/* scale 0: the distance itself */
static osr_tensor osr__distance(osr_ctx *ctx, osr_tensor tz, osr_tensor ta, float scale, float rate)
{
    const uint32_t z = osr__matrix(ctx, tz, "anchor_distance", "z");
    const uint32_t a = osr__matrix(ctx, ta, "anchor_distance", "anchors");
    const osr_shape sz = osr__ref_shape(ctx, z), sa = osr__ref_shape(ctx, a);
    osr__node *node;
    uint32_t i;
    if (sz.dim[1] != sa.dim[1] || !osr__is_persist(a))
        osr__fail(ctx, OSR_SHAPE, "anchor_distance: z is %s but the anchors are %s%s",
                  osr__shape_text(sz).s, osr__shape_text(sa).s,
                  osr__is_persist(a) ? "" : " and not persistent");
    i = osr__append(ctx, OSR__OP_anchor_distance, osr_shape_make(2, sz.dim[0], sa.dim[0], 0, 0), z,
                    a, 0, &node);
    node->r.fa[0] = scale;
    node->r.fa[1] = rate;
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_anchor_distance(osr_ctx *ctx, osr_tensor z, osr_tensor anchors)
{
    return osr__distance(ctx, z, anchors, 0.0f, 1.0f);
}

OSR_API osr_tensor osr_squared_distance(osr_ctx *ctx, osr_tensor z, osr_tensor points, float scale,
                                        float rate)
{
    if (scale > 0.0f && scale <= FLT_MAX && rate >= 0.0f && rate <= FLT_MAX)
        return osr__distance(ctx, z, points, scale, rate);
    return osr__none(osr__fail(ctx, OSR_ARG, "squared_distance: scale %g, rate %g", (double)scale,
                               (double)rate));
}

static void osr__back_distance(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    int k;
    for (k = 0; k < 2; ++k) {
        uint32_t g;
        if (!osr__wants(ctx, r.in[k]))
            continue;
        g = osr__like(ctx, k == 0 ? OSR__OP_anchor_distance_dx : OSR__OP_anchor_distance_da,
                      r.in[k], dy, r.in[0], r.in[1]);
        osr__rec(ctx, g)->in[3] = i;
        memcpy(osr__rec(ctx, g)->fa, r.fa, sizeof r.fa);
        osr__give(ctx, r.in[k], g);
    }
}

/* The rows, or their gradient with zeros below: in = x or dy. */
static void osr__lower_first_rows(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const size_t all = osr_shape_count(r->shape);
    const size_t given = osr_shape_count(osr__ref_shape(ctx, r->in[0]));
    if (given < all)
        osr__call(ctx, OSR__K_fill_dense, osr__flat(ctx, all), "dnf", i, i, 0.0);
    osr__call(ctx, OSR__K_map_dense, osr__flat(ctx, given < all ? given : all), "dddniff", r->in[0],
              r->in[0], i, given < all ? r->in[0] : i, osr__map_code(OSR__OP_affine), 1.0, 0.0);
}

OSR_API osr_tensor osr_first_rows(osr_ctx *ctx, osr_tensor tx, int rows)
{
    const uint32_t x = osr__matrix(ctx, tx, "first_rows", "x");
    osr_shape s = osr__ref_shape(ctx, x);
    if (rows < 1 || rows > s.dim[0])
        osr__fail(ctx, OSR_SHAPE, "first_rows: %d rows of x %s", rows, osr__shape_text(s).s);
    s.dim[0] = rows;
    return osr__result(ctx, OSR__OP_first_rows, s, x, 0);
}

OSR_API const char *osr_op_name(int index)
{
    return index >= 0 && index < OSR__OP_COUNT ? osr__op(index)->name : NULL;
}
/* == layers and networks == -------------------------------------------------------------------- */

/* Tensors of one layer; {0} where it has none. */
typedef struct osr__layer_state {
    osr_tensor weight, bias, beta, mean, var, output;
    osr_shape shape; /* of the output for one image */
} osr__layer_state;

struct osr_net {
    osr_ctx *ctx;
    osr_shape input; /* for one image */
    osr_layer *layers;
    osr__layer_state *states;
    int count;
    osr_named *named;
    int named_count;
};

static const char *osr__layer_name(osr_layer_kind kind)
{
    static const char *const names[] = {
#define OSR__LAYER_NAME(name, text) text,
        OSR_LAYER_LIST(OSR__LAYER_NAME)
#undef OSR__LAYER_NAME
    };
    return names[kind];
}

/* Output size and padding above of a convolution in one dimension; 0 where it does not fit. */
static int osr__conv_out(const osr_layer *l, int size, int *pad, int *pad_end)
{
    const int stride = l->stride == 0 ? 1 : l->stride;
    *pad = *pad_end = l->pad;
    if (l->pad_same) {
        const int out = (size + stride - 1) / stride;
        const int all = osr__max((out - 1) * stride + l->size - size, 0);
        *pad = all / 2;
        *pad_end = all - all / 2;
        return out;
    }
    return size + 2 * l->pad < l->size ? 0 : (size + 2 * l->pad - l->size) / stride + 1;
}

/* What a layer gives that does not fit. */
static osr_shape osr__layer_fail(osr_net *net, int i, const char *why)
{
    osr__fail(net->ctx, OSR_SHAPE, "layer %d (%s): %s", i,
              (unsigned)net->layers[i].kind < (unsigned)OSR_LAYER_COUNT
                  ? osr__layer_name(net->layers[i].kind)
                  : "unknown kind",
              why);
    return osr_shape_make(-1, 0, 0, 0, 0);
}

/* The shape that layer i reads for one image. */
static osr_shape osr__layer_input(const osr_net *net, int i)
{
    const int from = net->layers[i].from != 0 ? net->layers[i].from - 1 : i - 1;
    return from < 0 ? net->input : net->states[from].shape;
}

/* Shape of layer i's output; rank -1 with the error recorded where it does not fit. */
static osr_shape osr__layer_shape(osr_net *net, int i)
{
    const osr_layer *l = &net->layers[i];
    osr_shape s = osr__layer_input(net, i);
    const int wants_image = l->kind != OSR_LAYER_LINEAR && l->kind != OSR_LAYER_LEAKY_RELU
                            && l->kind != OSR_LAYER_DROPOUT && l->kind != OSR_LAYER_ADD;
    int a, b;
    if (wants_image && s.rank != 4)
        return osr__layer_fail(net, i, "reads an image, but a matrix comes in");
    switch (l->kind) {
    case OSR_LAYER_CONV:
        s.dim[1] = osr__conv_out(l, s.dim[1], &a, &b);
        s.dim[2] = osr__conv_out(l, s.dim[2], &a, &b);
        s.dim[3] = l->out;
        if (l->size < 1 || l->out < 1 || l->stride < 0 || s.dim[1] < 1 || s.dim[2] < 1)
            return osr__layer_fail(net, i, "kernel, stride or channels do not fit the input");
        return s;
    case OSR_LAYER_MAX_POOL:
    case OSR_LAYER_AVG_POOL:
        a = l->stride == 0 ? l->size : l->stride;
        if (l->size < 1 || a < 1 || l->size > s.dim[1] || l->size > s.dim[2])
            return osr__layer_fail(net, i, "the window does not fit the input");
        s.dim[1] = (s.dim[1] - l->size) / a + 1;
        s.dim[2] = (s.dim[2] - l->size) / a + 1;
        return s;
    case OSR_LAYER_GLOBAL_AVG_POOL:
        return osr_shape_make(2, s.dim[0], s.dim[3], 0, 0);
    case OSR_LAYER_FLATTEN:
        return osr_shape_make(2, s.dim[0], s.dim[1] * s.dim[2] * s.dim[3], 0, 0);
    case OSR_LAYER_LINEAR:
        if (s.rank != 2 || l->out < 1)
            return osr__layer_fail(net, i, "reads a matrix: flatten or pool first");
        s.dim[1] = l->out;
        return s;
    case OSR_LAYER_ADD:
        if (l->with < 1 || l->with > i || !osr__same_shape(s, net->states[l->with - 1].shape))
            return osr__layer_fail(net, i, "the two operands differ in shape");
        return s;
    default:
        return s;
    }
}

static osr_init osr__init_make(osr_init_kind kind, float value, float scale)
{
    osr_init init;
    init.kind = kind;
    init.value = value;
    init.scale = scale;
    return init;
}

/* Is this {0}, which asks for the default? */
static int osr__init_unset(const osr_init *init)
{
    return init->kind == OSR_INIT_CONSTANT && init->value == 0.0f;
}

static osr_tensor osr__net_tensor(osr_net *net, int i, const char *what, osr_shape shape,
                                  osr_init init, int state)
{
    osr_named *row = &net->named[net->named_count];
    row->tensor = state ? osr_state(net->ctx, shape, init) : osr_param(net->ctx, shape, init);
    row->trainable = !state;
    snprintf(row->name, sizeof row->name, "%d.%s.%s", i, osr__layer_name(net->layers[i].kind),
             what);
    net->named_count++;
    return row->tensor;
}

static void osr__layer_tensors(osr_net *net, int i)
{
    const osr_layer *l = &net->layers[i];
    osr__layer_state *s = &net->states[i];
    const osr_shape in = osr__layer_input(net, i);
    const osr_init zero = osr__init_make(OSR_INIT_CONSTANT, 0.0f, 0.0f);
    const osr_init one = osr__init_make(OSR_INIT_CONSTANT, 1.0f, 0.0f);
    osr_init w = l->init;
    if (l->kind == OSR_LAYER_CONV) {
        if (osr__init_unset(&w))
            w = osr__init_make(OSR_INIT_NORMAL, 0.0f,
                               sqrtf(2.0f / (float)(l->size * l->size * l->out)));
        s->weight = osr__net_tensor(net, i, "weight",
                                    osr_shape_make(4, l->out, in.dim[3], l->size, l->size), w, 0);
    } else if (l->kind == OSR_LAYER_LINEAR) {
        if (osr__init_unset(&w))
            w = osr__init_make(OSR_INIT_NORMAL, 0.0f, 0.01f);
        s->weight = osr__net_tensor(net, i, "weight", osr_shape_make(2, l->out, in.dim[1], 0, 0), w,
                                    0);
    } else if (l->kind == OSR_LAYER_BATCHNORM) {
        const osr_shape c = osr_shape_make(1, in.dim[3], 0, 0, 0);
        s->weight = osr__net_tensor(net, i, "weight", c, osr__init_unset(&w) ? one : w, 0);
        s->beta = osr__net_tensor(net, i, "bias", c, zero, 0);
        s->mean = osr__net_tensor(net, i, "running_mean", c, zero, 1);
        s->var = osr__net_tensor(net, i, "running_var", c, one, 1);
    }
    if (l->bias && (l->kind == OSR_LAYER_CONV || l->kind == OSR_LAYER_LINEAR))
        s->bias = osr__net_tensor(net, i, "bias", osr_shape_make(1, l->out, 0, 0, 0), zero, 0);
}

OSR_API osr_status osr_net_create(osr_ctx *ctx, const osr_net_desc *desc, osr_net **out)
{
    osr_net *net;
    int i;
    *out = NULL;
    if (ctx->status != OSR_OK)
        return ctx->status;
    if (desc == NULL || desc->layers == NULL || desc->layer_count < 1 || desc->height < 1
        || desc->width < 1 || desc->channels < 1)
        return osr__fail(ctx, OSR_ARG, "osr_net_create: a table of layers and an input size of at "
                                       "least 1x1x1 are needed");
    net = (osr_net *)osr__alloc(ctx, 1, sizeof *net);
    if (net == NULL)
        return ctx->status;
    net->ctx = ctx;
    net->count = desc->layer_count;
    net->input = osr_shape_make(4, 1, desc->height, desc->width, desc->channels);
    net->layers = (osr_layer *)osr__alloc(ctx, (size_t)net->count, sizeof *net->layers);
    net->states = (osr__layer_state *)osr__alloc(ctx, (size_t)net->count, sizeof *net->states);
    net->named = (osr_named *)osr__alloc(ctx, 4 * (size_t)net->count, sizeof *net->named);
    if (ctx->status == OSR_OK)
        memcpy(net->layers, desc->layers, (size_t)net->count * sizeof *net->layers);
    for (i = 0; i < net->count && ctx->status == OSR_OK; ++i) {
        if ((unsigned)net->layers[i].kind >= (unsigned)OSR_LAYER_COUNT || net->layers[i].from < 0
            || net->layers[i].from > i) {
            osr__layer_fail(net, i, "not a kind of layer, or it reads a later one");
            break;
        }
        net->states[i].shape = osr__layer_shape(net, i);
        if (ctx->status == OSR_OK)
            osr__layer_tensors(net, i);
    }
    if (ctx->status != OSR_OK) {
        osr_net_destroy(net);
        return ctx->status;
    }
    *out = net;
    return OSR_OK;
}

OSR_API void osr_net_destroy(osr_net *net)
{
    if (net == NULL)
        return;
    osr__free(net->ctx, net->layers, (size_t)net->count, sizeof *net->layers);
    osr__free(net->ctx, net->states, (size_t)net->count, sizeof *net->states);
    osr__free(net->ctx, net->named, 4 * (size_t)net->count, sizeof *net->named);
    osr__free(net->ctx, net, 1, sizeof *net);
}

static osr_tensor osr__layer_forward(osr_net *net, int i, osr_tensor x, int train)
{
    osr_ctx *ctx = net->ctx;
    const osr_layer *l = &net->layers[i];
    const osr__layer_state *s = &net->states[i];
    switch (l->kind) {
    case OSR_LAYER_CONV: {
        osr_conv_desc d;
        osr_tensor y;
        osr_shape in = osr__layer_input(net, i);
        int pad_w, end_w;
        d.stride = l->stride;
        d.asymmetric = 1;
        osr__conv_out(l, in.dim[1], &d.pad, &d.pad_end);
        osr__conv_out(l, in.dim[2], &pad_w, &end_w);
        if (pad_w != d.pad || end_w != d.pad_end) {
            osr__layer_fail(net, i, "\"same\" padding differs between rows and columns");
            return osr__handle(ctx, 0);
        }
        y = osr_conv2d(ctx, x, s->weight, &d);
        return l->bias ? osr_bias(ctx, y, s->bias) : y;
    }
    case OSR_LAYER_BATCHNORM: {
        osr_batchnorm_desc d;
        d.eps = l->eps;
        d.momentum = l->momentum > 0.0f ? l->momentum : OSR_BATCHNORM_MOMENTUM;
        d.train = train;
        return osr_batchnorm(ctx, x, s->weight, s->beta, s->mean, s->var, &d);
    }
    case OSR_LAYER_LEAKY_RELU: return osr_leaky_relu(ctx, x, l->slope);
    case OSR_LAYER_DROPOUT: return train ? osr_dropout(ctx, x, l->rate, l->channels) : x;
    case OSR_LAYER_MAX_POOL: return osr_max_pool(ctx, x, l->size, l->stride);
    case OSR_LAYER_AVG_POOL: return osr_avg_pool(ctx, x, l->size, l->stride);
    case OSR_LAYER_GLOBAL_AVG_POOL: return osr_global_avg_pool(ctx, x);
    case OSR_LAYER_FLATTEN: return osr_flatten(ctx, x);
    case OSR_LAYER_LINEAR: {
        const osr_tensor none = osr__handle(ctx, 0);
        return osr_linear(ctx, x, s->weight, l->bias ? s->bias : none);
    }
    default: return osr_add(ctx, x, net->states[l->with - 1].output);
    }
}

OSR_API osr_tensor osr_net_forward(osr_net *net, osr_tensor x, int train)
{
    osr_ctx *ctx = net->ctx;
    const osr_shape s = osr_shape_of(ctx, x);
    const int mark = ctx->mark;
    int i;
    if (ctx->status == OSR_OK
        && (s.rank != 4 || s.dim[1] != net->input.dim[1] || s.dim[2] != net->input.dim[2]
            || s.dim[3] != net->input.dim[3]))
        osr__fail(ctx, OSR_SHAPE, "osr_net_forward: x is %s but the network reads [N, %d, %d, %d]",
                  osr__shape_text(s).s, net->input.dim[1], net->input.dim[2], net->input.dim[3]);
    for (i = 0; i < net->count && ctx->status == OSR_OK; ++i) {
        const int from = net->layers[i].from != 0 ? net->layers[i].from - 1 : i - 1;
        ctx->mark = i;
        net->states[i].output =
            osr__layer_forward(net, i, from < 0 ? x : net->states[from].output, train);
    }
    ctx->mark = mark;
    return ctx->status == OSR_OK ? net->states[net->count - 1].output : osr__handle(ctx, 0);
}

OSR_API osr_tensor osr_net_output(osr_net *net, int layer)
{
    if (layer < 0 || layer >= net->count) {
        osr__fail(net->ctx, OSR_ARG, "osr_net_output: layer %d of %d", layer, net->count);
        return osr__handle(net->ctx, 0);
    }
    return net->states[layer].output;
}

OSR_API const osr_layer *osr_net_layers(const osr_net *net, int *count)
{
    if (count != NULL)
        *count = net->count;
    return net->layers;
}

OSR_API osr_shape osr_net_shape(const osr_net *net, int layer)
{
    if (layer < -1 || layer >= net->count)
        return osr_shape_make(-1, 0, 0, 0, 0);
    return layer < 0 ? net->input : net->states[layer].shape;
}

OSR_API const osr_named *osr_net_tensors(const osr_net *net, int *count)
{
    *count = net->named_count;
    return net->named;
}

static osr_layer *osr__layer_next(osr_layer *layers, int *n, osr_layer_kind kind)
{
    osr_layer *l = &layers[(*n)++];
    memset(l, 0, sizeof *l);
    l->kind = kind;
    return l;
}

static void osr__vgg32_dropout(const osr_vgg32_desc *d, osr_layer *layers, int *n)
{
    osr_layer *l;
    if (d->dropout <= 0.0f)
        return;
    l = osr__layer_next(layers, n, OSR_LAYER_DROPOUT);
    l->rate = d->dropout;
    l->channels = !d->dropout_elements;
}

/* The head on a map of `width` channels; `flat` is what the map gives flattened. */
static void osr__net_head(const osr_vgg32_desc *d, osr_layer *layers, int *n, int width, int flat)
{
    osr_layer *l;
    if (d->head == OSR_VGG32_DIFAIR) {
        l = osr__layer_next(layers, n, OSR_LAYER_CONV);
        l->out = d->out;
        l->size = 3;
        l->pad = 1;
        l->init = osr__init_make(OSR_INIT_UNIFORM, 0.0f,
                                 sqrtf(6.0f / (9.0f * (float)width + 9.0f * (float)d->out)));
        osr__layer_next(layers, n, OSR_LAYER_LEAKY_RELU);
    }
    if (d->head == OSR_VGG32_FLATTEN)
        osr__layer_next(layers, n, OSR_LAYER_FLATTEN);
    else
        osr__layer_next(layers, n, OSR_LAYER_GLOBAL_AVG_POOL);
    if (d->head == OSR_VGG32_DIFAIR || d->head == OSR_VGG32_NONE)
        return;
    l = osr__layer_next(layers, n, OSR_LAYER_LINEAR);
    l->out = d->out;
    l->bias = !d->no_bias;
    if (d->init == OSR_VGG32_NORMAL005)
        l->init = osr__init_make(
            OSR_INIT_UNIFORM, 0.0f,
            1.0f / sqrtf((float)(d->head == OSR_VGG32_FLATTEN ? flat : width)));
}

static int osr__vgg32(const osr_vgg32_desc *desc, osr_layer *layers)
{
    const int side = ((desc->side > 0 ? desc->side : 32) + 7) / 8; /* of the last map */
    int n = 0, i;
    for (i = 1; i <= 9; ++i) {
        osr_layer *l;
        if (desc->dropout_before && i % 3 == 1)
            osr__vgg32_dropout(desc, layers, &n);
        l = osr__layer_next(layers, &n, OSR_LAYER_CONV);
        l->out = i < 3 ? 64 : 128;
        l->size = 3;
        l->stride = i % 3 == 0 ? 2 : 1;
        l->pad = 1;
        l->pad_same = desc->pad_same && l->stride == 2;
        if (desc->init == OSR_VGG32_NORMAL005)
            l->init = osr__init_make(OSR_INIT_NORMAL, 0.0f, 0.05f);
        l = osr__layer_next(layers, &n, OSR_LAYER_BATCHNORM);
        l->eps = desc->eps;
        l->momentum = desc->momentum;
        l = osr__layer_next(layers, &n, OSR_LAYER_LEAKY_RELU);
        l->slope = 0.2f;
        if (!desc->dropout_before && i % 3 == 0)
            osr__vgg32_dropout(desc, layers, &n);
    }
    osr__net_head(desc, layers, &n, 128, 128 * side * side);
    return n;
}

static osr_layer *osr__conv_layer(osr_layer *layers, int *n, int out, int size, int stride)
{
    osr_layer *l = osr__layer_next(layers, n, OSR_LAYER_CONV);
    l->out = out;
    l->size = size;
    l->stride = stride;
    l->pad = size / 2;
    return l;
}

static void osr__norm_layer(const osr_vgg32_desc *d, osr_layer *layers, int *n, int relu)
{
    osr_layer *l = osr__layer_next(layers, n, OSR_LAYER_BATCHNORM);
    l->eps = d->eps;
    l->momentum = d->momentum;
    if (relu)
        osr__layer_next(layers, n, OSR_LAYER_LEAKY_RELU);
}

/* Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes. With
 * `pre` normalisation and ReLU come before each convolution and the 1x1 one reads what they give;
 * else they come after, ReLU of the second one after the sum. */
static void osr__basic_block(const osr_vgg32_desc *d, osr_layer *layers, int *n, int out,
                             int stride, int project, int pre)
{
    int x = *n, body; /* number of layers up to a value, which is how `from` and `with` name it */
    if (pre) {
        osr__norm_layer(d, layers, n, 1);
        x = project ? *n : x;
    }
    osr__conv_layer(layers, n, out, 3, stride);
    osr__norm_layer(d, layers, n, 1);
    osr__vgg32_dropout(d, layers, n);
    osr__conv_layer(layers, n, out, 3, 1);
    if (!pre)
        osr__norm_layer(d, layers, n, 0);
    body = *n;
    if (project) {
        osr__conv_layer(layers, n, out, 1, stride)->from = x;
        if (!pre)
            osr__norm_layer(d, layers, n, 0);
    }
    osr__layer_next(layers, n, OSR_LAYER_ADD)->with = project ? body : x;
    if (!pre)
        osr__layer_next(layers, n, OSR_LAYER_LEAKY_RELU);
}

/* A 3x3 stem of `width` channels, stages of two blocks of which each but the first halves the
 * image, and the head. */
static int osr__residual(const osr_vgg32_desc *desc, osr_layer *layers, int width,
                         const int *stages, int count, int pre)
{
    osr_vgg32_desc d = *desc;
    int n = 0, i;
    d.head = d.head == OSR_VGG32_FLATTEN ? OSR_VGG32_GAP : d.head;
    d.init = OSR_VGG32_NORMAL005; /* of the head */
    osr__conv_layer(layers, &n, width, 3, 1);
    if (!pre)
        osr__norm_layer(&d, layers, &n, 1);
    for (i = 0; i < count; ++i) {
        osr__basic_block(&d, layers, &n, stages[i], i > 0 ? 2 : 1, stages[i] != width, pre);
        osr__basic_block(&d, layers, &n, stages[i], 1, 0, pre);
        width = stages[i];
    }
    if (pre)
        osr__norm_layer(&d, layers, &n, 1);
    osr__net_head(&d, layers, &n, width, 0);
    return n;
}

static int osr__wrn_16_4(const osr_vgg32_desc *desc, osr_layer *layers)
{
    static const int stages[3] = { 64, 128, 256 };
    return osr__residual(desc, layers, 16, stages, 3, 1);
}

static int osr__resnet_18(const osr_vgg32_desc *desc, osr_layer *layers)
{
    static const int stages[4] = { 64, 128, 256, 512 };
    return osr__residual(desc, layers, 64, stages, 4, 0);
}

static const osr_network_row osr__networks[] = {
    { "vgg32", "nine 3x3 convolutions, three of them with stride 2", osr__vgg32, 0,
      "Neal et al., ECCV 2018 (network of the counterfactual-open-set code)" },
    { "wrn-16-4", "wide residual network: 16 layers, normalisation first, 4 times the width",
      osr__wrn_16_4, 1, "Zagoruyko and Komodakis, BMVC 2016, arXiv:1605.07146" },
    { "resnet-18", "residual network: 18 layers, 3x3 stem without pooling", osr__resnet_18, 1,
      "He et al., CVPR 2016, arXiv:1512.03385; stem as its section 4.2 has it for 32 pixels" },
};

#define OSR__NETWORKS ((int)(sizeof osr__networks / sizeof osr__networks[0]))

OSR_API const osr_network_row *osr_network_at(int index)
{
    return index >= 0 && index < OSR__NETWORKS ? &osr__networks[index] : NULL;
}

OSR_API const osr_network_row *osr_network_find(const char *name)
{
    int i = 0;
    while (i < OSR__NETWORKS && (name == NULL || strcmp(osr__networks[i].name, name) != 0))
        ++i;
    return osr_network_at(i);
}

/* == losses == --------------------------------------------------------------------------------- */

/* A loss of rows, in = x, labels, the node of its gradient or 0; or its gradient by itself, in = x,
 * labels, gradient of the loss. One kernel makes both. fa[3]: the loss's gradient, a constant. */
static void osr__lower_loss(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr__row_op *row = osr__row_op_find(r->op);
    const osr_shape s = osr__ref_shape(ctx, r->in[0]);
    const int chain = r->op != row->op, parts = chain ? 2 : r->in[2] != 0;
    const int rows = r->shape.rank != 1 ? osr__scratch(ctx, (size_t)s.dim[0]) : 0;
    const float mean = 1.0f / (float)s.dim[0];
    int k;
    osr__begin(ctx, row->forward);
    osr__args(ctx, "dm", r->in[0], r->in[1]);
    osr__args(ctx, r->shape.rank != 1 ? "s" : "m", r->shape.rank != 1 ? rows : (int)i);
    osr__args(ctx, "ddi", chain ? i : r->in[parts == 1 ? 2 : 0], r->in[chain ? 2 : 0], s.dim[1]);
    for (k = 0; k < row->numbers; ++k)
        osr__arg_f(ctx, r->fa[k]);
    osr__args(ctx, "fi", chain ? mean : mean * r->fa[3], parts);
    osr__run(ctx, (size_t)s.dim[0]);
    if (r->shape.rank == 0)
        osr__call(ctx, OSR__K_sum_all, 1, "sidif", rows, 0, i, s.dim[0], mean);
}

/* The gradient is made with the loss where it has not run yet and its own gradient is known. */
static void osr__back_loss(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    osr__record *r = osr__rec(ctx, i);
    const uint32_t x = r->in[0], slope = i - 1;
    if (!osr__wants(ctx, x))
        return;
    if (i >= ctx->done && r->shape.rank == 0 && r->in[2] == 0 && osr__is_filled(ctx, dy)) {
        r->in[2] = slope;
        r->fa[3] = osr__rec(ctx, dy)->fa[0];
        osr__rec(ctx, slope)->op = OSR__OP_part;
        osr__rec(ctx, slope)->in[0] = x; /* what it depends on */
        osr__rec(ctx, slope)->keep = !ctx->walk_params; /* osr_grad may hand it out */
        osr__give(ctx, x, slope);
    } else {
        const uint32_t dx = osr__like(ctx, r->op + 1, x, x, r->in[1], dy);
        memcpy(osr__rec(ctx, dx)->fa, osr__rec(ctx, i)->fa, sizeof r->fa);
        osr__give(ctx, x, dx);
    }
}

/* Record a loss of rows with its numbers; `valid`: they are in range. */
static osr_tensor osr__loss(osr_ctx *ctx, int op, osr_tensor tx, osr_tensor labels, float a,
                            float b, float c, int valid)
{
    const char *name = osr__op(op)->name;
    const uint32_t x = osr__matrix(ctx, tx, name, "x");
    const uint32_t y = osr__labels_for(ctx, labels, x, name);
    osr__node *node;
    uint32_t i;
    if (!valid)
        osr__fail(ctx, OSR_ARG, "%s: a number is out of range (%g, %g)", name, (double)a,
                  (double)b);
    osr__like(ctx, OSR__OP_none, x, 0, 0, 0); /* room for its gradient */
    i = osr__append(ctx, op, osr_shape_make(ctx->loss_rows, osr__ref_shape(ctx, x).dim[0], 0, 0, 0),
                    x, y, 0, &node);
    node->r.fa[0] = a;
    node->r.fa[1] = b;
    node->r.fa[2] = c;
    return osr__handle(ctx, i);
}

OSR_API osr_tensor osr_loss_cross_entropy(osr_ctx *ctx, osr_tensor logits, osr_tensor labels,
                                          float smoothing)
{
    return osr__loss(ctx, OSR__OP_loss_cross_entropy, logits, labels, smoothing, 0.0f, 0.0f,
                     smoothing >= 0.0f && smoothing < 1.0f);
}

OSR_API osr_tensor osr_loss_cac(osr_ctx *ctx, osr_tensor distances, osr_tensor labels, float lambda)
{
    return osr__loss(ctx, OSR__OP_loss_cac, distances, labels, lambda, 0.0f, 0.0f,
                     lambda >= 0.0f && lambda <= FLT_MAX);
}

OSR_API osr_tensor osr_loss_difair(osr_ctx *ctx, osr_tensor distances, osr_tensor labels,
                                   float radius, float pull)
{
    return osr__loss(ctx, OSR__OP_loss_difair, distances, labels, radius, pull, 0.0f,
                     radius > 0.0f && radius <= FLT_MAX && pull >= 0.0f && pull <= FLT_MAX);
}

OSR_API osr_tensor osr_loss_movr(osr_ctx *ctx, osr_tensor cosines, osr_tensor labels,
                                 float temperature, float margin)
{
    return osr__loss(ctx, OSR__OP_loss_movr, cosines, labels, temperature,
                     (float)cos((double)margin), (float)sin((double)margin),
                     temperature > 0.0f && temperature <= FLT_MAX && margin >= 0.0f
                         && margin < 3.2f);
}

OSR_API osr_tensor osr_loss_ovr(osr_ctx *ctx, osr_tensor logits, osr_tensor labels)
{
    return osr__loss(ctx, OSR__OP_loss_ovr, logits, labels, 0.0f, 0.0f, 0.0f, 1);
}

OSR_API osr_tensor osr_loss_points(osr_ctx *ctx, osr_loss_kind kind, osr_tensor distances,
                                   osr_tensor labels, osr_tensor radius)
{
    osr_tensor d;
    if (kind < OSR_LOSS_CENTER || kind > OSR_LOSS_ARPL) {
        osr__fail(ctx, OSR_ARG, "loss_points: kind %d has no learned points", (int)kind);
        return osr__handle(ctx, 0);
    }
    d = osr_pick(ctx, distances, labels);
    if (kind < OSR_LOSS_RPL)
        return osr_affine(ctx, osr_mean(ctx, d), 0.5f, 0.0f);
    d = osr_bias(ctx, osr_affine(ctx, d, -1.0f, 0.0f), radius); /* R - d */
    if (kind == OSR_LOSS_RPL)
        return osr_mean(ctx, osr_mul(ctx, d, d));
    return osr_mean(ctx, osr_leaky_relu(ctx, osr_affine(ctx, d, -1.0f, 1.0f), 0.0f));
}

/* ia: features, absolute, (gradient:) whether to add; fa: weight of a pair. Statistics and
 * correlations are made anew for the gradient: they are small. */
static void osr__correlation_prepare(osr_ctx *ctx, uint32_t w, int features, int *stats, int *rho)
{
    const osr_shape s = osr__ref_shape(ctx, w);
    const int kf = s.dim[0], m = (int)(osr_shape_count(s) / (size_t)kf);
    *stats = osr__scratch(ctx, 2 * (size_t)kf);
    *rho = osr__scratch(ctx, (size_t)kf * (size_t)features);
    osr__call(ctx, OSR__K_correlation_stats, (size_t)kf, "dsii", w, *stats, kf, m);
    osr__call(ctx, OSR__K_correlation_rho, (size_t)kf, "dssiii", w, *stats, *rho, kf, features, m);
}

static void osr__lower_correlation(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    int stats, rho;
    osr__correlation_prepare(ctx, r->in[0], r->ia[0], &stats, &rho);
    osr__call(ctx, OSR__K_correlation_sum, 1, "sdiiif", rho, i,
              osr__ref_shape(ctx, r->in[0]).dim[0], r->ia[0], r->ia[1], r->fa[0]);
}

/* in = w, gradient of the loss, gradient of w */
static void osr__lower_correlation_dw(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_shape s = osr__ref_shape(ctx, r->in[0]);
    int stats, rho;
    osr__correlation_prepare(ctx, r->in[0], r->ia[0], &stats, &rho);
    osr__call(ctx, OSR__K_correlation_dw, (size_t)s.dim[0], "dssddiiiifi", r->in[0], stats, rho,
              r->in[1], r->in[2], s.dim[0], r->ia[0],
              (int)(osr_shape_count(s) / (size_t)s.dim[0]), r->ia[1], r->fa[0], r->ia[2]);
}

static void osr__back_correlation(osr_ctx *ctx, uint32_t i, uint32_t dy)
{
    const osr__record r = *osr__rec(ctx, i);
    osr__node *node;
    if (!osr__wants(ctx, r.in[0]))
        return;
    osr__append(ctx, OSR__OP_loss_correlation_dw, osr__ref_shape(ctx, r.in[0]), r.in[0], dy,
                osr__grad_ref(r.in[0]), &node);
    node->r.ia[0] = r.ia[0];
    node->r.ia[1] = r.ia[1];
    node->r.ia[2] = osr__accumulate(ctx, r.in[0]);
    node->r.fa[0] = r.fa[0];
}

OSR_API osr_tensor osr_loss_correlation(osr_ctx *ctx, osr_tensor tw, int features,
                                        osr_correlation reading)
{
    const uint32_t w = osr__ref(ctx, tw, "loss_correlation", "w");
    const osr_shape s = osr__ref_shape(ctx, w);
    const float f = (float)features;
    osr__node *node;
    uint32_t i;
    if (!osr__is_persist(w) || s.rank < 2 || features < 1 || s.dim[0] % features != 0)
        return osr__none(osr__fail(ctx, OSR_SHAPE, "loss_correlation: w is %s%s, %d features a "
                                   "class", osr__shape_text(s).s,
                                   osr__is_persist(w) ? "" : " and not a parameter", features));
    i = osr__append(ctx, OSR__OP_loss_correlation, osr_shape_make(0, 0, 0, 0, 0), w, 0, 0, &node);
    node->r.ia[0] = features;
    node->r.ia[1] = reading == OSR_CORRELATION_CODE;
    node->r.fa[0] = reading == OSR_CORRELATION_CODE ? 1.0f / (f * f)
                    : features > 1 ? 2.0f / (f * (f - 1.0f) * (float)(s.dim[0] / features))
                                   : 0.0f;
    return osr__handle(ctx, i);
}

/* == optimisers and schedules == --------------------------------------------------------------- */

/* ia: kind, first, count, decoupled; dyn: lr, momentum, decay, beta1, beta2, eps, corrections. */
static void osr__lower_optimiser(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const int adam = r->ia[0] == OSR_ADAM;
    int k;
    osr__begin(ctx, adam ? OSR__K_adam : OSR__K_sgd);
    for (k = OSR__VALUE; k <= (adam ? OSR__MOMENT2 : OSR__MOMENT1); ++k)
        osr__arg(ctx, sizeof(cl_mem), &ctx->arenas[k].mem);
    osr__args(ctx, "iiiy", r->ia[1], r->ia[2], r->ia[3], 0);
    if (!adam)
        osr__arg_dyn(ctx, 1);
    for (k = 2; k < (adam ? 8 : 3); ++k)
        osr__arg_dyn(ctx, k);
    osr__run(ctx, osr__flat(ctx, (size_t)r->ia[2]));
}

static float osr__or(float v, float otherwise)
{
    return v > 0.0f ? v : otherwise;
}

OSR_API osr_status osr_optimiser_step(osr_ctx *ctx, const osr_optimiser_desc *desc,
                                      osr_tensor first, int count)
{
    size_t from = 0, end = ctx->arenas[OSR__VALUE].count;
    osr__node *node;
    int adam;
    if (ctx->status != OSR_OK)
        return ctx->status;
    if (desc == NULL)
        return osr__fail(ctx, OSR_ARG, "optimiser: desc is NULL");
    adam = desc->kind == OSR_ADAM;
    if (!(desc->lr >= 0.0f) || !(desc->lr <= FLT_MAX) || !(desc->momentum >= 0.0f)
        || !(desc->momentum < 1.0f) || !(desc->weight_decay >= 0.0f)
        || !(desc->weight_decay <= FLT_MAX) || (adam && desc->step == 0))
        return osr__fail(ctx, OSR_ARG, "optimiser: lr %g, momentum %g, weight decay %g, step %u",
                         (double)desc->lr, (double)desc->momentum, (double)desc->weight_decay,
                         (unsigned)desc->step);
    if (first.index != 0) {
        const uint32_t ref = osr__ref_any(ctx, first, "optimiser", "first");
        size_t k, n = 0;
        if (ref == 0 || !osr__is_persist(ref) || osr__persist_of(ctx, ref)->state)
            return osr__fail(ctx, OSR_HANDLE, "optimiser: first is not a parameter");
        from = osr__persist_of(ctx, ref)->offset;
        for (k = ref & 0x0FFFFFFFu; k < ctx->persist_count && (int)n < count; ++k)
            if (!ctx->persists[k].state) {
                end = ctx->persists[k].offset + osr_shape_count(ctx->persists[k].shape);
                ++n;
            }
        if (count < 1 || (int)n < count)
            return osr__fail(ctx, OSR_ARG, "optimiser: %d parameters from first on", count);
    }
    if (osr__arena_need(ctx, OSR__GRADIENT, ctx->arenas[OSR__VALUE].count) != OSR_OK
        || osr__arena_need(ctx, OSR__MOMENT1, ctx->arenas[OSR__VALUE].count) != OSR_OK
        || (adam && osr__arena_need(ctx, OSR__MOMENT2, ctx->arenas[OSR__VALUE].count) != OSR_OK)
        || osr__append(ctx, OSR__OP_optimiser, osr_shape_make(0, 0, 0, 0, 0), 0, 0, 0, &node) == 0)
        return ctx->status;
    node->r.ia[0] = (int32_t)desc->kind;
    node->r.ia[1] = (int32_t)from;
    node->r.ia[2] = (int32_t)(end - from);
    node->r.ia[3] = desc->decoupled != 0;
    node->dyn[0].f = desc->lr;
    node->dyn[1].f = desc->momentum;
    node->dyn[2].f = desc->weight_decay;
    node->dyn[3].f = osr__or(desc->beta1, 0.9f);
    node->dyn[4].f = osr__or(desc->beta2, 0.999f);
    node->dyn[5].f = osr__or(desc->eps, 1e-8f);
    node->dyn[6].f = (float)(1.0 - pow((double)node->dyn[3].f, (double)desc->step));
    node->dyn[7].f = (float)(1.0 - pow((double)node->dyn[4].f, (double)desc->step));
    return ctx->status;
}

OSR_API float osr_schedule_lr(const osr_schedule *s, uint32_t step)
{
    uint32_t t, period = s->period;
    if (step < s->warmup)
        return (float)((double)s->lr * ((double)step + 1.0) / (double)s->warmup);
    t = step - s->warmup;
    if (s->kind == OSR_COSINE && period == 0 && s->total > s->warmup)
        period = s->total - s->warmup;
    if (period == 0 || s->kind == OSR_CONSTANT)
        return s->lr;
    if (s->kind == OSR_STEP)
        return (float)((double)s->lr * pow((double)s->gamma, (double)(t / period)));
    return (float)((double)s->lr_min
                   + ((double)s->lr - (double)s->lr_min) * 0.5
                         * (1.0 + cos(3.14159265358979323846 * (double)(t % period)
                                      / (double)period)));
}

/* == jacobian norms == ------------------------------------------------------------------------- */

/* ia: direction, own, count, seed, draw; fa: step, jitter; dyn: first */
static void osr__lower_perturb(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_perturb, osr__planes(r->shape) / 2, "ggSiiiyffiii", r->in[0], i, r->in[0],
              r->ia[2], r->ia[0], r->ia[1], 0, r->fa[0], r->fa[1], r->ia[5], r->ia[3], r->ia[4]);
}

OSR_API osr_tensor osr_perturb(osr_ctx *ctx, osr_tensor tx, const osr_perturb_desc *desc)
{
    const uint32_t x = osr__image(ctx, tx, "perturb");
    osr_shape s = osr__ref_shape(ctx, x);
    osr__node *node;
    uint32_t i;
    if (desc == NULL)
        return osr__none(osr__fail(ctx, OSR_ARG, "perturb: desc is NULL"));
    if ((unsigned)desc->direction > (unsigned)OSR_RADEMACHER || desc->count < 1 || desc->first < 0
        || desc->own < 0 || desc->own > INT_MAX - s.dim[0]
        || !(desc->step > 0.0f) || !(desc->step <= FLT_MAX) || !(desc->jitter >= 0.0f)
        || !(desc->jitter <= FLT_MAX) || desc->draw < (desc->jitter > 0.0f)
        || (desc->direction == OSR_COORDINATES
            && desc->count > s.dim[1] * s.dim[2] * s.dim[3] - desc->first)
        || desc->count > INT_MAX / 2 / s.dim[0])
        return osr__none(osr__fail(ctx, OSR_ARG, "perturb: x is %s, directions %d..+%d, step %g, "
                                   "jitter %g, draw %d", osr__shape_text(s).s, desc->first,
                                   desc->count, (double)desc->step, (double)desc->jitter,
                                   desc->draw));
    s.dim[0] *= 2 * desc->count;
    i = osr__append(ctx, OSR__OP_perturb, s, x, 0, 0, &node);
    node->r.ia[0] = (int32_t)desc->direction;
    node->r.ia[1] = desc->own;
    node->r.ia[2] = desc->count;
    node->r.ia[3] = (int32_t)(uint32_t)desc->seed;
    node->r.ia[4] = (int32_t)(uint32_t)(desc->seed >> 32);
    node->r.ia[5] = desc->draw;
    node->r.fa[0] = desc->step;
    node->r.fa[1] = desc->jitter;
    node->dyn[0].i = desc->first;
    return osr__handle(ctx, i);
}

static void osr__lower_difference_norm(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_difference_norm, (size_t)r->shape.dim[0], "dddiif", r->in[0], r->in[1], i,
              r->ia[0], osr__ref_shape(ctx, r->in[0]).dim[1], r->fa[0]);
}

OSR_API osr_tensor osr_difference_norm(osr_ctx *ctx, osr_tensor tf, osr_tensor tg, float step,
                                       int count)
{
    const uint32_t f = osr__matrix(ctx, tf, "difference_norm", "f");
    const uint32_t g = osr__matrix(ctx, tg, "difference_norm", "g");
    const osr_shape s = osr__ref_shape(ctx, f);
    osr__node *node;
    uint32_t i;
    if (count < 1 || s.dim[0] % 2 != 0 || s.dim[0] / 2 % count != 0 || !(step > 0.0f)
        || !osr__same_shape(s, osr__ref_shape(ctx, g)))
        return osr__none(osr__fail(ctx, OSR_SHAPE, "difference_norm: f is %s, g %s for %d "
                                   "directions, step %g", osr__shape_text(s).s,
                                   osr__ref_text(ctx, g).s, count, (double)step));
    i = osr__append(ctx, OSR__OP_difference_norm, osr_shape_make(1, s.dim[0] / 2 / count, 0, 0, 0),
                    f, g, 0, &node);
    node->r.ia[0] = count;
    node->r.fa[0] = 0.25f / (step * step);
    return osr__handle(ctx, i);
}

static void osr__lower_square_sum(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    osr__call(ctx, OSR__K_square_sum, (size_t)r->shape.dim[0], "gdP", r->in[0], i, r->in[0]);
}

OSR_API osr_tensor osr_square_sum(osr_ctx *ctx, osr_tensor tx)
{
    const uint32_t x = osr__image(ctx, tx, "square_sum");
    return osr__result(ctx, OSR__OP_square_sum,
                       osr_shape_make(1, osr__ref_shape(ctx, x).dim[0], 0, 0, 0), x, 0);
}

/* == augmentation == --------------------------------------------------------------------------- */

struct osr_images {
    osr_ctx *ctx;
    osr_images *next;
    int32_t number;   /* what a record calls it: never used again */
    osr_images_desc desc;
    size_t image;     /* bytes of one                              */
    cl_mem mem;       /* NULL: batches are sent                    */
    size_t bytes;     /* of device memory that is its own          */
};

/* As in kernels/augment.cl: words of a row of the table, codes of ops, stages. */
enum { OSR__ROW_IMAGE, OSR__ROW_CROP, OSR__ROW_FLIP = 3, OSR__ROW_TURN, OSR__ROW_CUT = 10,
       OSR__ROW_BOX = 14, OSR__ROW_TONE = 18, OSR__ROW_OPS = 20 };
enum { OSR__AUG_NONE, OSR__AUG_AUTO_CONTRAST, OSR__AUG_EQUALIZE, OSR__AUG_INVERT,
       OSR__AUG_POSTERIZE, OSR__AUG_SOLARIZE, OSR__AUG_SOLARIZE_ADD, OSR__AUG_COLOR,
       OSR__AUG_CONTRAST, OSR__AUG_BLEND, OSR__AUG_SHARPNESS, OSR__AUG_AFFINE, OSR__AUG_REFLECT,
       OSR__AUG_CUT };
enum { OSR__HAS_TONE = 1, OSR__HAS_BOX = 2 };
#define OSR__AUGMENT_SIDE 8192 /* positions in 16.16 fit an int */

/* Put the pixels where batches are gathered from; leaves mem NULL where they do not fit. */
static osr_status osr__images_place(osr_images *set)
{
    osr_ctx *ctx = set->ctx;
    const size_t bytes = osr__mul(set->image, set->desc.count), room = (bytes + 3) / 4 * 4;
    const osr_device *d = &ctx->device;
    cl_int code = CL_SUCCESS;
    if (bytes == 0 || set->desc.upload || (d->max_alloc_bytes != 0 && room > d->max_alloc_bytes))
        return ctx->status;
    if (d->kind == OSR_DEVICE_CPU) {
        set->mem = clCreateBuffer(ctx->cl, CL_MEM_READ_ONLY | CL_MEM_USE_HOST_PTR, bytes,
                                  (void *)set->desc.pixels, &code);
        return set->mem != NULL ? ctx->status : osr__cl_fail(ctx, "clCreateBuffer", "images", code);
    }
    if (d->memory_bytes != 0 && room > d->memory_bytes / 4)
        return ctx->status;
    set->mem = osr__mem_create(ctx, room);
    if (set->mem == NULL)
        return ctx->status;
    set->bytes = room;
    code = clEnqueueWriteBuffer(ctx->queue, set->mem, CL_TRUE, 0, bytes, set->desc.pixels, 0, NULL,
                                NULL);
    return code == CL_SUCCESS ? ctx->status
                              : osr__cl_fail(ctx, "clEnqueueWriteBuffer", "images", code);
}

OSR_API osr_status osr_images_create(osr_ctx *ctx, const osr_images_desc *d, osr_images **out)
{
    osr_images *set;
    *out = NULL;
    if (osr__need_device(ctx, "images") != OSR_OK)
        return ctx->status;
    if (d == NULL || d->pixels == NULL || d->count < 1 || d->count > (size_t)INT_MAX)
        return osr__fail(ctx, OSR_ARG, "images: no pixels, or a count not in 1..%d", INT_MAX);
    if (d->height < 1 || d->height > OSR__AUGMENT_SIDE || d->width < 1
        || d->width > OSR__AUGMENT_SIDE || (d->channels != 1 && d->channels != 3))
        return osr__fail(ctx, OSR_ARG, "images: %d x %d with %d channels", d->height, d->width,
                         d->channels);
    set = (osr_images *)osr__alloc(ctx, 1, sizeof *set);
    if (set == NULL)
        return ctx->status;
    set->ctx = ctx;
    set->desc = *d;
    set->image = (size_t)d->height * (size_t)d->width * (size_t)d->channels;
    set->number = ++ctx->images_made;
    set->next = ctx->images;
    ctx->images = set;
    if (osr__images_place(set) == OSR_OK)
        *out = set;
    else
        osr_images_destroy(set);
    return ctx->status;
}

OSR_API void osr_images_destroy(osr_images *set)
{
    osr_images **at;
    osr_ctx *ctx;
    if (set == NULL)
        return;
    ctx = set->ctx;
    clFinish(ctx->queue);
    if (set->mem != NULL)
        osr__plans_drop(ctx); /* their kernels hold the buffer */
    osr__mem_release(ctx, &set->mem, set->bytes);
    for (at = &ctx->images; *at != set; at = &(*at)->next)
        continue;
    *at = set->next;
    osr__free(ctx, set, 1, sizeof *set);
}

/* A sequence of random words for an image or (place OSR__BATCH) for the batch. */
#define OSR__BATCH 0xFFFFFFFFu

typedef struct osr__draws {
    uint64_t seed;
    uint32_t counter[4], words[4];
    int used;
} osr__draws;

static osr__draws osr__draws_start(const osr_ctx *ctx, uint32_t place)
{
    osr__draws d;
    memset(&d, 0, sizeof d);
    d.seed = ctx->seed;
    d.counter[1] = place;
    d.counter[2] = 0x6175676Du; /* "augm" */
    d.counter[3] = ctx->step;
    d.used = 4;
    return d;
}

static uint32_t osr__draw(osr__draws *d)
{
    if (d->used == 4) {
        osr__philox(d->counter, d->seed, d->words);
        d->counter[0]++;
        d->used = 0;
    }
    return d->words[d->used++];
}

/* 0..n-1 */
static int32_t osr__draw_below(osr__draws *d, int n)
{
    return (int32_t)((uint64_t)osr__draw(d) * (uint64_t)n >> 32);
}

static double osr__draw_between(osr__draws *d, double low, double high)
{
    return low + (high - low) * osr__uniform(osr__draw(d));
}

static int32_t osr__float_word(double v)
{
    osr__word w;
    w.f = (float)v;
    return w.i;
}

/* An affine map of pixel centres in 16.16, rounded as Pillow rounds it. */
static void osr__affine16(const double m[6], int32_t *p)
{
    int i;
    for (i = 0; i < 6; ++i)
        p[i] = (int32_t)floor((i % 3 == 2 ? m[i] + 0.5 * (m[i - 2] + m[i - 1]) : m[i]) * 65536.0
                              + 0.5);
}

/* Rotation about the centre: Pillow's between pixel edges 0 and w, TensorFlow's between pixel
 * centres 0 and w - 1. */
static void osr__turn_about(double degrees, double w, double h, double m[6])
{
    const double a = degrees * (3.14159265358979323846 / 180.0), c = cos(a), s = sin(a);
    m[0] = m[4] = c;
    m[1] = -s;
    m[3] = s;
    m[2] = (w - (c * w - s * h)) / 2.0;
    m[5] = (h - (s * w + c * h)) / 2.0;
}

/* Ops that move pixels: v is signed by a coin. */
static void osr__draw_place(osr__draws *d, int op, int tf, double v, int h, int w, int32_t *p)
{
    double m[6] = { 1.0, 0.0, 0.0, 0.0, 1.0, 0.0 };
    int i;
    if (osr__draw_below(d, 2) != 0)
        v = -v;
    switch (op) {
    case OSR_RANDAUGMENT_ROTATE: osr__turn_about(v, w - tf, h - tf, m); break;
    case OSR_RANDAUGMENT_SHEAR_X: m[1] = v; break;
    case OSR_RANDAUGMENT_SHEAR_Y: m[3] = v; break;
    case OSR_RANDAUGMENT_TRANSLATE_X: m[2] = v; break;
    default: m[5] = v; break;
    }
    p[0] = tf ? OSR__AUG_REFLECT : OSR__AUG_AFFINE;
    for (i = 0; tf && i < 6; ++i)
        p[1 + i] = osr__float_word(m[i]);
    if (!tf)
        osr__affine16(m, p + 1);
}

/* Pillow's: a square from a corner on, its last row and column included. TensorFlow's: the
 * magnitude is half a side, so that most of a small image goes. */
static void osr__draw_cutout(osr__draws *d, int tf, double v, int h, int w, int c, int32_t *p)
{
    const int size[2] = { w, h };
    int k;
    p[0] = OSR__AUG_CUT;
    for (k = 0; k < 2; ++k) {
        const double at = osr__draw_between(d, 0.0, size[k]), low = at - v / 2.0;
        const int first = low > 0.0 ? (int)low : 0, centre = (int)at, half = (int)v;
        const double end = first + v < size[k] ? first + v : size[k];
        p[1 + k] = tf ? osr__max(0, centre - half) : first;
        p[3 + k] = tf ? (centre + half < size[k] ? centre + half : size[k]) - 1 : (int)end;
    }
    p[5] = tf ? 128 : c == 1 ? 123 : 125; /* 123: what Pillow's L makes of the colour */
    p[6] = tf ? 128 : 123;
    p[7] = tf ? 128 : 114;
}

/* The arguments of one op. Quirks of the sources, kept: translations are pixels of no image's size
 * in particular; TensorFlow's contrast blends with the number of pixels / 256 for want of a mean,
 * and its translations reflect; Pillow's variant solarises after adding, adds to dark and light
 * pixels alike, and its enhancements fade for small magnitudes. */
static void osr__draw_op(osr__draws *d, int op, int tf, double u, int h, int w, int c, int32_t *p)
{
    const double factor = 0.1 + 1.8 * u;
    const int bits = (int)(4.0 * u);
    p[1] = osr__float_word(factor);
    switch (op) {
    case OSR_RANDAUGMENT_AUTO_CONTRAST: p[0] = OSR__AUG_AUTO_CONTRAST; break;
    case OSR_RANDAUGMENT_EQUALIZE: p[0] = OSR__AUG_EQUALIZE; break;
    case OSR_RANDAUGMENT_INVERT: p[0] = OSR__AUG_INVERT; break;
    case OSR_RANDAUGMENT_POSTERIZE:
        p[0] = OSR__AUG_POSTERIZE;
        p[1] = 255 & ~((1 << (8 - (tf || bits > 1 ? bits : 1))) - 1);
        break;
    case OSR_RANDAUGMENT_SOLARIZE:
        p[0] = OSR__AUG_SOLARIZE;
        p[1] = tf ? (int32_t)(256.0 * u) : (int32_t)ceil(256.0 * u);
        break;
    case OSR_RANDAUGMENT_SOLARIZE_ADD:
        p[0] = OSR__AUG_SOLARIZE_ADD;
        p[1] = (int32_t)(110.0 * u);
        p[2] = !tf;
        break;
    case OSR_RANDAUGMENT_COLOR:
        p[0] = OSR__AUG_COLOR;
        p[2] = tf;
        break;
    case OSR_RANDAUGMENT_CONTRAST:
        p[0] = tf ? OSR__AUG_BLEND : OSR__AUG_CONTRAST;
        p[2] = h * w / 256 < 255 ? h * w / 256 : 255;
        break;
    case OSR_RANDAUGMENT_BRIGHTNESS: p[0] = OSR__AUG_BLEND; break;
    case OSR_RANDAUGMENT_SHARPNESS:
        p[0] = OSR__AUG_SHARPNESS;
        p[2] = osr__float_word(tf ? 0.0 : 0.5); /* Pillow rounds its filter, TensorFlow cuts */
        break;
    case OSR_RANDAUGMENT_ROTATE: osr__draw_place(d, op, tf, 30.0 * u, h, w, p); break;
    case OSR_RANDAUGMENT_SHEAR_X:
    case OSR_RANDAUGMENT_SHEAR_Y: osr__draw_place(d, op, tf, 0.3 * u, h, w, p); break;
    case OSR_RANDAUGMENT_TRANSLATE_X:
    case OSR_RANDAUGMENT_TRANSLATE_Y: osr__draw_place(d, op, tf, 100.0 * u, h, w, p); break;
    case OSR_RANDAUGMENT_CUTOUT:
        osr__draw_cutout(d, tf, tf ? (int)(40.0 * u) : 40.0 * u, h, w, c, p);
        break;
    default: break;
    }
}

/* The ops of a list as bits; identity is in TensorFlow's only. */
static unsigned osr__randaugment_list(const osr_randaugment *r, int tf)
{
    const unsigned all = (1u << OSR_RANDAUGMENT_COUNT) - 1u;
    return all & ~r->without & ~(tf ? 0u : 1u << OSR_RANDAUGMENT_IDENTITY);
}

static void osr__draw_ops(osr__draws *d, const osr_randaugment *r, int tf, int h, int w, int c,
                          int32_t *p)
{
    const unsigned list = osr__randaugment_list(r, tf);
    int ops[OSR_RANDAUGMENT_COUNT], n = 0, i;
    for (i = 0; i < OSR_RANDAUGMENT_COUNT; ++i)
        if (list >> i & 1u)
            ops[n++] = i;
    for (i = 0; i < r->ops; ++i)
        osr__draw_op(d, ops[osr__draw_below(d, n)], tf, (double)r->magnitude / (tf ? 10.0 : 30.0),
                     h, w, c, p + 8 * i);
}

/* A part of the area and an aspect, ten tries; else the largest part in the middle whose aspect is
 * allowed. box: x, y, width, height. */
static void osr__draw_box(osr__draws *d, double least, int h, int w, int32_t *box)
{
    const double area = (double)h * w, widest = 4.0 / 3.0;
    int t, bw = w, bh = h;
    for (t = 0; t < 10; ++t) {
        const double part = area * osr__draw_between(d, least, 1.0);
        const double aspect = exp(osr__draw_between(d, -log(widest), log(widest)));
        bw = (int)floor(sqrt(part * aspect) + 0.5);
        bh = (int)floor(sqrt(part / aspect) + 0.5);
        if (bw > 0 && bw <= w && bh > 0 && bh <= h)
            break;
    }
    box[0] = osr__draw_below(d, w);
    box[1] = osr__draw_below(d, h);
    if (t == 10) {
        bw = w > widest * h ? (int)(widest * h + 0.5) : w;
        bh = h > widest * w ? (int)(widest * w + 0.5) : h;
        box[0] = (w - bw) / 2;
        box[1] = (h - bh) / 2;
    } else { /* the same words for any size of the box, taken to its range */
        box[0] = (int32_t)((int64_t)box[0] * (w - bw + 1) / w);
        box[1] = (int32_t)((int64_t)box[1] * (h - bh + 1) / h);
    }
    box[2] = bw;
    box[3] = bh;
}

/* One row of the table. */
static void osr__draw_row(osr__draws *d, osr__draws batch, const osr_augment_desc *a,
                          const osr_images_desc *set, int32_t *row)
{
    const int h = a->height, w = a->width, c = a->channels, pad = a->crop_pad;
    double m[6];
    int k;
    osr__draws *crop = a->crop_batch ? &batch : d;
    const double batch_contrast = osr__draw_between(&batch, -1.0, 1.0);
    osr__draw_ops(d, &a->pillow, 0, set->height, set->width, c, row + OSR__ROW_OPS);
    row[OSR__ROW_TONE] = osr__float_word(
        1.0 + (double)a->contrast
                  * (a->contrast_batch ? batch_contrast : osr__draw_between(d, -1.0, 1.0)));
    row[OSR__ROW_TONE + 1] =
        osr__float_word(255.0 * (double)a->brightness * osr__draw_between(d, -1.0, 1.0));
    osr__draw_ops(d, &a->tensorflow, 1, h, w, c, row + OSR__ROW_OPS + 8 * a->pillow.ops);
    if (a->resized_crop > 0.0f)
        osr__draw_box(d, (double)a->resized_crop, h, w, row + OSR__ROW_BOX);
    for (k = 0; k < 2; ++k)
        row[OSR__ROW_CROP + k] = pad > 0 ? osr__draw_below(crop, 2 * pad + 1) - pad : 0;
    row[OSR__ROW_FLIP] = osr__uniform(osr__draw(d)) < (double)a->flip;
    osr__turn_about((double)a->rotate * osr__draw_between(d, -1.0, 1.0), w, h, m);
    osr__affine16(m, row + OSR__ROW_TURN);
    for (k = 0; k < 2; ++k) {
        const int at = a->cutout > 0 ? osr__draw_below(d, k == 0 ? w : h) - a->cutout / 2 : 0;
        row[OSR__ROW_CUT + k] = at;
        row[OSR__ROW_CUT + 2 + k] = at + a->cutout;
    }
}

static osr_images *osr__images_find(osr_ctx *ctx, int32_t number)
{
    osr_images *set = ctx->images;
    while (set != NULL && set->number != number)
        set = set->next;
    if (set == NULL)
        osr__fail(ctx, OSR_HANDLE, "augment: the images are gone");
    return set;
}

/* A batch on its way through the kernels of kernels/augment.cl. */
typedef struct osr__augmenting {
    int sent, work, facts; /* scratch: table and bytes; two halves an image; OSR__FACTS words */
    int words, half, from; /* of a row; floats; the half that holds the images now            */
    int n, c;
} osr__augmenting;

#define OSR__FACTS (3 * 256 + 4)

/* Begin a kernel that reads one half and writes the other. */
static void osr__augment_begin(osr_ctx *ctx, osr__kernel k, const osr__augmenting *g)
{
    osr__begin(ctx, k);
    osr__args(ctx, "sisii", g->sent, g->words, g->work, g->half, g->from);
}

static void osr__augment_end(osr_ctx *ctx, osr__augmenting *g)
{
    osr__run(ctx, (size_t)g->n);
    g->from = 1 - g->from;
}

/* What an op that begins at word `slot` of the row has to know of each image. */
static void osr__augment_look(osr_ctx *ctx, osr__augmenting *g, int slot, int pixels)
{
    osr__augment_begin(ctx, OSR__K_augment_look, g);
    osr__args(ctx, "isii", slot, g->facts, pixels, g->c);
    osr__run(ctx, (size_t)g->n);
}

/* RandAugment's ops from word `slot` of the row on. */
static void osr__augment_ops(osr_ctx *ctx, osr__augmenting *g, int slot, int count, int h, int w)
{
    for (; count > 0; --count, slot += 8) {
        osr__augment_look(ctx, g, slot, h * w);
        osr__augment_begin(ctx, OSR__K_augment_apply, g);
        osr__args(ctx, "isiii", slot, g->facts, h, w, g->c);
        osr__augment_end(ctx, g);
    }
}

static void osr__augment_resample(osr_ctx *ctx, osr__augmenting *g, int h, int w, const int *s,
                                  int boxed)
{
    osr__augment_begin(ctx, OSR__K_augment_resample, g);
    osr__args(ctx, "iiiiii", h, w, s[1], s[2], s[3], boxed);
    osr__augment_end(ctx, g);
}

/* Table, and bytes that are not on the device, up; then into the first half. */
static void osr__augment_load(osr_ctx *ctx, uint32_t i, const osr_images *set, osr__augmenting *g)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_images_desc *d = &set->desc;
    const size_t table = osr__mul((size_t)g->n * (size_t)g->words, 4);
    const size_t bytes = table + (set->mem == NULL ? osr__mul((size_t)g->n, set->image) : 0);
    g->half = osr__max(r->shape.dim[1] * r->shape.dim[2], d->height * d->width) * g->c;
    g->sent = osr__scratch(ctx, (bytes + 3) / 4);
    g->work = osr__scratch(ctx, osr__mul((size_t)g->n * 2, (size_t)g->half));
    g->facts = osr__scratch(ctx, osr__mul((size_t)g->n, OSR__FACTS));
    osr__upload(ctx, g->sent, bytes);
    osr__begin(ctx, OSR__K_augment_load);
    osr__args(ctx, "sisi", g->sent, g->words, g->work, g->half);
    if (set->mem != NULL)
        osr__arg(ctx, sizeof(cl_mem), &set->mem);
    else
        osr__arg_slot(ctx, g->sent);
    osr__args(ctx, "iiiiii", set->mem != NULL ? 0 : (int)table, d->height, d->width, d->channels,
              g->c, r->ia[1] > 0);
    osr__run(ctx, (size_t)g->n);
}

/* ia: number of the set, Pillow's ops, TensorFlow's, stages */
static void osr__lower_augment(osr_ctx *ctx, uint32_t i)
{
    const osr__record *r = osr__rec(ctx, i);
    const osr_images *set = osr__images_find(ctx, r->ia[0]);
    const int *s = r->shape.dim, pillow = r->ia[1], tf = r->ia[2], tone = r->ia[3] & OSR__HAS_TONE;
    osr__augmenting g;
    if (set == NULL)
        return;
    memset(&g, 0, sizeof g);
    g.words = OSR__ROW_OPS + 8 * (pillow + tf);
    g.n = s[0];
    g.c = s[3];
    osr__augment_load(ctx, i, set, &g);
    osr__augment_ops(ctx, &g, OSR__ROW_OPS, pillow, set->desc.height, set->desc.width);
    if (s[1] != set->desc.height || s[2] != set->desc.width)
        osr__augment_resample(ctx, &g, set->desc.height, set->desc.width, s, 0);
    if (tone)
        osr__augment_look(ctx, &g, 0, s[1] * s[2]);
    if (tone || tf > 0) {
        osr__augment_begin(ctx, OSR__K_augment_tone, &g);
        osr__args(ctx, "siiii", g.facts, s[1] * s[2], s[3], tone, tf > 0);
        osr__augment_end(ctx, &g);
    }
    osr__augment_ops(ctx, &g, OSR__ROW_OPS + 8 * pillow, tf, s[1], s[2]);
    if (r->ia[3] & OSR__HAS_BOX)
        osr__augment_resample(ctx, &g, s[1], s[2], s, 1);
    osr__augment_begin(ctx, OSR__K_augment_place, &g);
    osr__args(ctx, "giii", i, s[1], s[2], s[3]);
    osr__run(ctx, (size_t)g.n);
}

/* The first field that is out of its range, or NULL. */
static const char *osr__augment_wrong(const osr_augment_desc *a)
{
    const struct { const char *name; double value, least, most; } range[] = {
        { "height", (double)a->height, 1, OSR__AUGMENT_SIDE },
        { "width", (double)a->width, 1, OSR__AUGMENT_SIDE },
        { "channels", (double)a->channels, 1, 3 },
        { "pillow.ops", (double)a->pillow.ops, 0, OSR_RANDAUGMENT_MOST },
        { "pillow.magnitude", (double)a->pillow.magnitude, 0, 30 },
        { "contrast", (double)a->contrast, 0, 1 },
        { "brightness", (double)a->brightness, 0, 1 },
        { "tensorflow.ops", (double)a->tensorflow.ops, 0, OSR_RANDAUGMENT_MOST },
        { "tensorflow.magnitude", (double)a->tensorflow.magnitude, 0, 10 },
        { "resized_crop", (double)a->resized_crop, 0, 1 },
        { "crop_pad", (double)a->crop_pad, 0, OSR__AUGMENT_SIDE },
        { "flip", (double)a->flip, 0, 1 },
        { "rotate", (double)a->rotate, 0, 180 },
        { "cutout", (double)a->cutout, 0, OSR__AUGMENT_SIDE },
    };
    size_t i;
    for (i = 0; i < sizeof range / sizeof range[0]; ++i)
        if (!(range[i].value >= range[i].least && range[i].value <= range[i].most))
            return range[i].name;
    return a->channels == 2                             ? "channels"
           : osr__randaugment_list(&a->pillow, 0) == 0     ? "pillow.without"
           : osr__randaugment_list(&a->tensorflow, 1) == 0 ? "tensorflow.without"
                                                           : NULL;
}

/* The table, and the pixels of a set that is not on the device, into the staging memory. */
static void osr__augment_stage(osr_ctx *ctx, osr__node *node, const osr_images *set,
                               const uint32_t *index, int n, const osr_augment_desc *a)
{
    const osr__draws batch = osr__draws_start(ctx, OSR__BATCH);
    const size_t words = OSR__ROW_OPS + 8 * (size_t)(a->pillow.ops + a->tensorflow.ops);
    const size_t table = (size_t)n * words * 4, sent = set->mem == NULL ? set->image : 0;
    unsigned char *room =
        (unsigned char *)osr__stage_room(ctx, node, table + osr__mul((size_t)n, sent));
    int i;
    if (room == NULL)
        return;
    memset(room, 0, table);
    for (i = 0; i < n; ++i) {
        const uint32_t image = index == NULL ? (uint32_t)i : index[i];
        int32_t *row = (int32_t *)(void *)room + (size_t)i * words; /* room is 64-byte aligned */
        osr__draws d = osr__draws_start(ctx, (uint32_t)i);
        osr__draw_row(&d, batch, a, &set->desc, row);
        row[OSR__ROW_IMAGE] = set->mem == NULL ? i : (int32_t)image;
        memcpy(room + table + (size_t)i * sent, set->desc.pixels + image * set->image, sent);
    }
}

OSR_API osr_tensor osr_augment(osr_ctx *ctx, osr_images *set, const uint32_t *index, int n,
                               const osr_augment_desc *desc)
{
    osr_augment_desc a;
    const char *wrong;
    osr__node *node;
    uint32_t i;
    int k;
    memset(&a, 0, sizeof a);
    if (desc != NULL)
        a = *desc;
    if (set == NULL || n < 1)
        return osr__none(osr__fail(ctx, OSR_ARG, "augment: %s, n %d",
                                   set == NULL ? "images NULL" : "images", n));
    a.height = a.height == 0 ? set->desc.height : a.height;
    a.width = a.width == 0 ? set->desc.width : a.width;
    a.channels = a.channels == 0 ? set->desc.channels : a.channels;
    wrong = osr__augment_wrong(&a);
    if (wrong != NULL)
        osr__fail(ctx, OSR_ARG, "augment: %s is out of its range", wrong);
    for (k = 0; k < n && ctx->status == OSR_OK; ++k)
        if ((index == NULL ? (uint32_t)k : index[k]) >= set->desc.count)
            osr__fail(ctx, OSR_ARG, "augment: image %lu of a set of %lu",
                      (unsigned long)(index == NULL ? (uint32_t)k : index[k]),
                      (unsigned long)set->desc.count);
    i = osr__append(ctx, OSR__OP_augment, osr_shape_make(4, n, a.height, a.width, a.channels), 0, 0,
                    0, &node);
    node->r.ia[0] = set->number;
    node->r.ia[1] = a.pillow.ops;
    node->r.ia[2] = a.tensorflow.ops;
    node->r.ia[3] = (a.contrast > 0.0f || a.brightness > 0.0f ? OSR__HAS_TONE : 0)
                    | (a.resized_crop > 0.0f ? OSR__HAS_BOX : 0);
    if (i != 0)
        osr__augment_stage(ctx, node, set, index, n, &a);
    return osr__handle(ctx, i);
}

static const osr__op_row *osr__op(int op)
{
    static const osr__op_row rows[] = {
#define OSR__OP_ROW(name, lower, backward, value) { #name, lower, backward, value },
        OSR__OPS(OSR__OP_ROW)
#undef OSR__OP_ROW
    };
    return &rows[op];
}
/* == scores == --------------------------------------------------------------------------------- */

/* False for NaN and both infinities. */
static int osr__finite(double x)
{
    return fabs(x) <= DBL_MAX;
}

static int osr__argmax(const float *x, int n)
{
    int best = 0, i;
    for (i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static int osr__argmin(const float *x, int n)
{
    int best = 0, i;
    for (i = 1; i < n; i++)
        if (x[i] < x[best])
            best = i;
    return best;
}

static const float *osr__row(const float *x, int row, int columns)
{
    return x && columns > 0 ? x + (size_t)row * (size_t)columns : NULL;
}

/* The sum of exp(z_k - max z) over all classes but the largest: S in p_max = 1 / (1 + S). */
static double osr__softmax_rest(const osr_score_input *in, int best)
{
    double rest = 0.0;
    int k;
    for (k = 0; k < in->classes; k++)
        if (k != best)
            rest += exp((double)in->logits[k] - (double)in->logits[best]);
    return rest;
}

static double osr__score_msp(const osr_score_input *in)
{
    double rest = osr__softmax_rest(in, osr__argmax(in->logits, in->classes));
    return rest / (1.0 + rest);
}

static double osr__score_mls(const osr_score_input *in)
{
    return -(double)in->logits[osr__argmax(in->logits, in->classes)];
}

static double osr__score_energy(const osr_score_input *in)
{
    int best = osr__argmax(in->logits, in->classes);
    return -(double)in->logits[best] - log1p(osr__softmax_rest(in, best));
}

/* With g_k = max z - z_k: H = ln(1 + S) + sum_k g_k exp(-g_k) / (1 + S); no term is negative. */
static double osr__score_entropy(const osr_score_input *in)
{
    int best = osr__argmax(in->logits, in->classes), k;
    double rest = osr__softmax_rest(in, best), sum = 0.0;
    for (k = 0; k < in->classes; k++) {
        double gap = (double)in->logits[best] - (double)in->logits[k];
        sum += gap * exp(-gap);
    }
    return log1p(rest) + sum / (1.0 + rest);
}

/* The smallest gamma is that of the smallest distance: d and 1 - softmin(d) both grow with d. */
static double osr__score_cac(const osr_score_input *in)
{
    int best = osr__argmin(in->distances, in->classes), k;
    double nearest = (double)in->distances[best], rest = 0.0;
    for (k = 0; k < in->classes; k++)
        if (k != best)
            rest += exp(nearest - (double)in->distances[k]);
    return nearest * (rest / (1.0 + rest));
}

static double osr__score_difair(const osr_score_input *in)
{
    return (double)in->distances[osr__argmin(in->distances, in->classes)];
}

static double osr__score_max_response(const osr_score_input *in)
{
    return -(double)in->representation[osr__argmax(in->representation, in->dims)];
}

static double osr__score_max_cosine(const osr_score_input *in)
{
    return -(double)in->cosines[osr__argmax(in->cosines, in->classes)];
}

static double osr__softplus(double x)
{
    return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x)));
}

static double osr__movr_loss(const osr_score_input *in, double margin)
{
    const double edge = 1.0 - 1e-6, cosine = cos(margin), sine = sin(margin);
    double t = in->temperature == 0.0f ? (double)OSR_MOVR_TEMPERATURE : (double)in->temperature;
    double sum = 0.0;
    int best = osr__argmax(in->cosines, in->classes), k;
    for (k = 0; k < in->classes; k++) {
        double c = (double)in->cosines[k], s;
        c = c > edge ? edge : c < -edge ? -edge : c;
        s = c * cosine - sqrt(1.0 - c * c) * sine;
        sum += osr__softplus(k == best ? -t * s : t * s);
    }
    return sum;
}

static double osr__score_movr(const osr_score_input *in)
{
    return osr__movr_loss(in, 0.0);
}

static double osr__score_movr_margin(const osr_score_input *in)
{
    return osr__movr_loss(in, (double)in->margin);
}

/* -- openmax -- */

/* Two-parameter Weibull distribution of x_i + translate - min x by maximum likelihood: with
 * t = ln x scaled to -1..0, sigma + mean t = sum t e^(t / sigma) / sum e^(t / sigma), whose two
 * sides differ by a rising function of sigma. fit = min x, scale, shape; all 0 and 0 returned where
 * no two x differ. x is overwritten. */
static int osr__weibull_fit(double *x, size_t n, double translate, double fit[3])
{
    double low = 0.0, high = 1.0, range = 0.0, mean = 0.0, sigma, weight, sum;
    size_t i;
    fit[0] = fit[1] = fit[2] = 0.0;
    for (i = 0; i < n; i++)
        fit[0] = i == 0 || x[i] < fit[0] ? x[i] : fit[0];
    for (i = 0; i < n; i++) {
        x[i] = log1p((x[i] - fit[0]) / translate);
        range = x[i] > range ? x[i] : range;
    }
    if (!(range > 0.0)) {
        fit[0] = 0.0;
        return 0;
    }
    for (i = 0; i < n; i++) {
        x[i] = x[i] / range - 1.0;
        mean += x[i] / (double)n;
    }
    for (;;) {
        sigma = 0.5 * (low + high);
        weight = sum = 0.0;
        for (i = 0; i < n; i++) {
            const double e = exp(x[i] / sigma);
            weight += e;
            sum += x[i] * e;
        }
        if (sigma <= low || sigma >= high)
            break;
        if (sigma + mean > sum / weight)
            high = sigma;
        else
            low = sigma;
    }
    fit[1] = translate * exp(range * (sigma * log(weight / (double)n) + 1.0));
    fit[2] = 1.0 / (range * sigma);
    return 1;
}

/* Probability of at most v; 0 for a class without a fit. */
static double osr__weibull_below(double v, double shift, double scale, double shape,
                                 double translate)
{
    const double x = v + translate - shift;
    return x <= 0.0 || scale <= 0.0 ? 0.0 : -expm1(-pow(x / scale, shape));
}

static double osr__euclidean(const float *a, const float *b, int n)
{
    double sum = 0.0;
    int i;
    for (i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* Rows of calibration: mean logits [K], shift, scale, shape. */
static double osr__score_openmax(const osr_score_input *in)
{
    const int k = in->classes, most = k < OSR_OPENMAX_ALPHA ? k : OSR_OPENMAX_ALPHA;
    double unknown = 0.0, sum = 0.0, peak = -HUGE_VAL; /* sum_k exp(v'_k) = sum exp(peak) */
    int i, j;
    for (i = 0; i < k; i++) {
        const float *c = in->calibration + (size_t)i * ((size_t)k + 3);
        const double z = (double)in->logits[i];
        double part = 0.0;
        int rank = 0;
        for (j = 0; j < k; j++)
            rank += in->logits[j] > in->logits[i] || (in->logits[j] >= in->logits[i] && j < i);
        if (rank < most)
            part = z * (double)(most - rank) / (double)most
                   * osr__weibull_below(osr__euclidean(in->logits, c, k), (double)c[k],
                                        (double)c[k + 1], (double)c[k + 2], 1.0);
        unknown += part;
        if (z - part > peak) {
            sum *= exp(peak - (z - part));
            peak = z - part;
        }
        sum += exp(z - part - peak);
    }
    return unknown - peak - log(sum);
}

/* -- classes in feature space -- */

static double osr__score_ncm(const osr_score_input *in)
{
    double best = HUGE_VAL;
    int k;
    for (k = 0; k < in->classes; k++) {
        const double d = osr__euclidean(in->features, osr__row(in->calibration, k,
                                                              in->feature_dims), in->feature_dims);
        best = d < best ? d : best;
    }
    return best;
}

/* Calibration: K rows W mean_k, then the lower triangular W [F, F] with W' W = S^-1. A few classes
 * at a time, so that W f is not computed for each and nothing is allocated. */
static double osr__score_mahalanobis(const osr_score_input *in)
{
    enum { SOME = 16 };
    const int f = in->feature_dims;
    const float *means = in->calibration, *w = osr__row(means, in->classes, f);
    double best = HUGE_VAL;
    int first, k, i, j;
    for (first = 0; first < in->classes; first += SOME) {
        const int n = in->classes - first < SOME ? in->classes - first : SOME;
        double square[SOME] = { 0.0 };
        for (i = 0; i < f; i++) {
            double y = 0.0;
            for (j = 0; j <= i; j++)
                y += (double)w[(size_t)i * (size_t)f + (size_t)j] * (double)in->features[j];
            for (k = 0; k < n; k++) {
                const double d = y - (double)osr__row(means, first + k, f)[i];
                square[k] += d * d;
            }
        }
        for (k = 0; k < n; k++)
            best = square[k] < best ? square[k] : best;
    }
    return sqrt(best);
}

static double osr__score_jacobian(const osr_score_input *in)
{
    return in->jacobian[0];
}

static double osr__score_sample_loss(const osr_score_input *in)
{
    return (double)in->losses[osr__argmin(in->losses, in->classes)];
}

static const osr_score_row osr__scores[] = {
    {"msp", OSR_OUT_LOGITS, NULL, osr__score_msp, "one minus the largest softmax probability",
     "Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136"},
    {"mls", OSR_OUT_LOGITS, NULL, osr__score_mls, "minus the largest logit",
     "Vaze et al., ICLR 2022, arXiv:2110.06207"},
    {"energy", OSR_OUT_LOGITS, NULL, osr__score_energy, "minus the log-sum-exp of the logits",
     "Liu et al., NeurIPS 2020, arXiv:2010.03759, eq. 4 with T = 1"},
    {"entropy", OSR_OUT_LOGITS, NULL, osr__score_entropy, "entropy of the softmax, in nats",
     "Shannon 1948; used for OSR by Vaze et al., arXiv:2110.06207 (code)"},
    {"cac", OSR_OUT_DISTANCES, NULL, osr__score_cac, "smallest distance, scaled by its softmin",
     "Miller et al., WACV 2021, arXiv:2004.02434"},
    {"difair", OSR_OUT_DISTANCES, NULL, osr__score_difair, "distance to the nearest anchor",
     "Christoffel et al. (DIFAIR), distance to the fixed anchors"},
    {"max_response", OSR_OUT_REPRESENTATION, NULL, osr__score_max_response,
     "minus the largest value of the representation",
     "Christoffel et al. (DIFAIR), published code (max_val)"},
    {"max_cosine", OSR_OUT_COSINES, NULL, osr__score_max_cosine, "minus the largest cosine",
     "Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436, class rule"},
    {"movr", OSR_OUT_COSINES, NULL, osr__score_movr,
     "one-versus-rest loss under the predicted class, plain cosines",
     "Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436, eq. 2"},
    {"movr_margin", OSR_OUT_COSINES, NULL, osr__score_movr_margin,
     "the same with the margin of training",
     "Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436, eq. 2 and 3"},
    {"openmax", OSR_OUT_LOGITS, "score.openmax", osr__score_openmax,
     "odds of OpenMax's unknown class: Weibull tails of distances to mean logits",
     "Bendale and Boult, CVPR 2016, arXiv:1511.06233, algorithms 1 and 2"},
    {"ncm", OSR_OUT_FEATURES, "score.ncm", osr__score_ncm,
     "distance of the features to the nearest class mean",
     "Mensink et al., TPAMI 2013 (nearest class mean)"},
    {"mahalanobis", OSR_OUT_FEATURES, "score.mahalanobis", osr__score_mahalanobis,
     "the same in the shrunk covariance within classes",
     "Lee et al., NeurIPS 2018, arXiv:1807.03888; OAS: Chen et al., IEEE TSP 58(10), 2010, eq. 23"},
    {"jacobian", OSR_OUT_JACOBIAN, NULL, osr__score_jacobian,
     "norm of the Jacobian of the unit representation by the image",
     "Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436"},
    {"sample_loss", OSR_OUT_LOSSES, NULL, osr__score_sample_loss,
     "the method's own loss under the predicted class",
     "Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436, section 5.3"},
};

/* Rows and columns of a score's calibration tensor; 0 and 0 where it has none. */
static void osr__calibration_shape(const osr_score_row *row, int classes, int features,
                                   uint64_t shape[2])
{
    const uint64_t k = (uint64_t)classes, f = (uint64_t)(features > 0 ? features : 0);
    const int logits = (row->needs & OSR_OUT_LOGITS) != 0;
    shape[0] = !row->calibration ? 0 : row->fn == osr__score_mahalanobis ? k + f : k;
    shape[1] = !row->calibration ? 0 : logits ? k + 3 : f;
}

OSR_API const char *osr_score_lacks(const osr_score_row *row, unsigned outputs)
{
    static const char *const names[] = {"logits", "distances to anchors", "cosines to prototypes",
                                        "a representation whose values belong to classes"};
    const unsigned missing = row->needs & ~(outputs | OSR_OUT_ALWAYS);
    int i = 0;
    while (missing && !(missing >> i & 1u))
        i++;
    return missing ? names[i] : NULL;
}

#define OSR__SCORES ((int)(sizeof osr__scores / sizeof osr__scores[0]))

OSR_API const osr_score_row *osr_score_at(int index)
{
    return index >= 0 && index < OSR__SCORES ? &osr__scores[index] : NULL;
}

OSR_API const osr_score_row *osr_score_find(const char *name)
{
    int i = 0;
    while (i < OSR__SCORES && (name == NULL || strcmp(osr__scores[i].name, name) != 0))
        ++i;
    return osr_score_at(i);
}

static osr_status osr__rows_check(osr_ctx *ctx, const char *who, const char *what,
                                  const float *x, int images, int columns)
{
    int n, k, bad = 0, first = 0;
    if (images < 0 || columns < 1)
        return osr__fail(ctx, OSR_ARG, "%s: %d images with %d %s each", who, images, columns, what);
    if (!x && images > 0)
        return osr__fail(ctx, OSR_ARG, "%s: %s are needed", who, what);
    for (n = images - 1; n >= 0; n--) {
        const float *row = x + (size_t)n * (size_t)columns;
        for (k = 0; k < columns && osr__finite((double)row[k]); k++)
            continue;
        if (k < columns) {
            first = n;
            bad++;
        }
    }
    if (bad)
        return osr__fail(ctx, OSR_NAN, "%s: %s of %d of %d images are not finite, first image %d",
                         who, what, bad, images, first);
    return OSR_OK;
}

static osr_status osr__score_check(osr_ctx *ctx, const char *who, unsigned needs,
                                   const osr_score_input *in, int images)
{
    osr_status status = OSR_OK;
    if (needs & OSR_OUT_LOGITS)
        status = osr__rows_check(ctx, who, "logits", in->logits, images, in->classes);
    if (status == OSR_OK && (needs & OSR_OUT_DISTANCES))
        status = osr__rows_check(ctx, who, "distances", in->distances, images, in->classes);
    if (status == OSR_OK && (needs & OSR_OUT_COSINES))
        status = osr__rows_check(ctx, who, "cosines", in->cosines, images, in->classes);
    if (status == OSR_OK && (needs & OSR_OUT_REPRESENTATION))
        status = osr__rows_check(ctx, who, "representations", in->representation, images,
                                 in->dims);
    if (status == OSR_OK && (needs & OSR_OUT_FEATURES))
        status = osr__rows_check(ctx, who, "features", in->features, images, in->feature_dims);
    if (status == OSR_OK && (needs & OSR_OUT_LOSSES))
        status = osr__rows_check(ctx, who, "losses", in->losses, images, in->classes);
    if (status == OSR_OK && (needs & OSR_OUT_JACOBIAN) && !in->jacobian && images > 0)
        status = osr__fail(ctx, OSR_ARG, "%s: Jacobian norms are needed", who);
    return status;
}

/* The same input with every pointer moved to one image. */
static osr_score_input osr__score_image(const osr_score_input *in, int image)
{
    osr_score_input one = *in;
    one.logits = osr__row(in->logits, image, in->classes);
    one.distances = osr__row(in->distances, image, in->classes);
    one.cosines = osr__row(in->cosines, image, in->classes);
    one.representation = osr__row(in->representation, image, in->dims);
    one.features = osr__row(in->features, image, in->feature_dims);
    one.losses = osr__row(in->losses, image, in->classes);
    one.jacobian = in->jacobian ? in->jacobian + image : NULL;
    return one;
}

OSR_API osr_status osr_score_compute(osr_ctx *ctx, const osr_score_row *row,
                                     const osr_score_input *in, int images, double *scores)
{
    osr_status status;
    uint64_t shape[2];
    int n;
    if (!ctx || !row || !in || (!scores && images > 0))
        return osr__fail(ctx, OSR_ARG, "score: %s is NULL", !row ? "row" : !in ? "in" : "scores");
    if (!(in->temperature >= 0.0f) || !osr__finite((double)in->temperature)
        || !osr__finite((double)in->margin))
        return osr__fail(ctx, OSR_ARG, "score %s: temperature %g, margin %g", row->name,
                         (double)in->temperature, (double)in->margin);
    status = osr__score_check(ctx, row->name, row->needs, in, images);
    osr__calibration_shape(row, in->classes, in->feature_dims, shape);
    if (status == OSR_OK && row->calibration
        && (!in->calibration || in->calibration_count != shape[0] * shape[1]))
        return osr__fail(ctx, OSR_ARG, "score %s: %s must have %lu values, not %lu", row->name,
                         row->calibration, (unsigned long)(shape[0] * shape[1]),
                         in->calibration ? (unsigned long)in->calibration_count : 0ul);
    for (n = 0; status == OSR_OK && n < images; n++) {
        osr_score_input one = osr__score_image(in, n);
        scores[n] = row->fn(&one);
        if (!osr__finite(scores[n]))
            status = osr__fail(ctx, OSR_NAN, "score %s: not finite for image %d", row->name, n);
    }
    return status;
}

OSR_API osr_status osr_predict_class(osr_ctx *ctx, osr_predict_rule rule,
                                     const osr_score_input *in, int images, int32_t *classes)
{
    osr_status status;
    unsigned needs = OSR_OUT_DISTANCES;
    int n;
    if (!ctx || !in || (!classes && images > 0))
        return osr__fail(ctx, OSR_ARG, "predict: %s is NULL", !in ? "in" : "classes");
    if (rule == OSR_PREDICT_LOGIT)
        needs = OSR_OUT_LOGITS;
    else if (rule == OSR_PREDICT_COSINE)
        needs = OSR_OUT_COSINES;
    else if (rule != OSR_PREDICT_GAMMA && rule != OSR_PREDICT_DISTANCE)
        return osr__fail(ctx, OSR_ARG, "predict: rule %d does not exist", (int)rule);
    status = osr__score_check(ctx, "predict", needs, in, images);
    for (n = 0; status == OSR_OK && n < images; n++) {
        osr_score_input one = osr__score_image(in, n);
        if (needs == OSR_OUT_DISTANCES)
            classes[n] = (int32_t)osr__argmin(one.distances, in->classes);
        else
            classes[n] = (int32_t)osr__argmax(needs == OSR_OUT_LOGITS ? one.logits : one.cosines,
                                              in->classes);
    }
    return status;
}
/* == metrics == -------------------------------------------------------------------------------- */

static void osr__sort(void *array, size_t count, size_t size,
                      int (*order)(const void *, const void *))
{
    if (count > 1) /* an empty array may be NULL */
        qsort(array, count, size, order);
}

/* An image in the order of scores; equal ones count together, in whatever order. */
typedef struct osr__ranked {
    double score;
    int unknown, correct;
} osr__ranked;

/* Images of one score, and those above it. */
typedef struct osr__tie {
    double score;
    double known, unknown, correct;
    double known_above, unknown_above;
} osr__tie;

static int osr__rank_down(const void *a, const void *b)
{
    double x = ((const osr__ranked *)a)->score, y = ((const osr__ranked *)b)->score;
    return (x < y) - (x > y);
}

static int osr__double_up(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static osr_status osr__scores_finite(osr_ctx *ctx, const char *what, const double *scores,
                                     size_t count)
{
    size_t i, bad = 0, first = 0;
    if (!scores && count)
        return osr__fail(ctx, OSR_ARG, "metric: %s is NULL", what);
    for (i = count; i-- > 0;)
        if (!osr__finite(scores[i])) {
            first = i;
            bad++;
        }
    if (bad)
        return osr__fail(ctx, OSR_NAN, "metric: %llu of %llu scores in %s are not finite, first "
                         "index %llu", (unsigned long long)bad, (unsigned long long)count, what,
                         (unsigned long long)first);
    return OSR_OK;
}

/* All images in one array, largest score first; the caller frees [known_count + unknown_count]. */
static osr_status osr__rank(osr_ctx *ctx, const osr_open_scores *in, osr__ranked **out)
{
    osr_status status = osr__scores_finite(ctx, "known", in->known, in->known_count);
    size_t count = in->known_count + in->unknown_count, i;
    osr__ranked *r;
    *out = NULL;
    if (status == OSR_OK)
        status = osr__scores_finite(ctx, "unknown", in->unknown, in->unknown_count);
    if (status != OSR_OK)
        return status;
    if (!count)
        return osr__fail(ctx, OSR_ARG, "metric: no images");
    r = (osr__ranked *)osr__alloc(ctx, count, sizeof *r);
    if (!r)
        return OSR_MEMORY;
    for (i = 0; i < in->known_count; i++) {
        r[i].score = in->known[i];
        r[i].correct = in->correct && in->correct[i];
    }
    for (i = 0; i < in->unknown_count; i++) {
        r[in->known_count + i].score = in->unknown[i];
        r[in->known_count + i].unknown = 1;
    }
    osr__sort(r, count, sizeof *r, osr__rank_down);
    *out = r;
    return OSR_OK;
}

/* Steps to the next lower score. `tie` is all zero and *at 0 before the first; 0 at the end. */
static int osr__next_tie(const osr__ranked *r, size_t count, size_t *at, osr__tie *tie)
{
    tie->known_above += tie->known;
    tie->unknown_above += tie->unknown;
    tie->known = tie->unknown = tie->correct = 0.0;
    if (*at == count)
        return 0;
    tie->score = r[*at].score;
    /* sorted downwards: not below means equal */
    for (; *at < count && r[*at].score >= tie->score; ++*at) {
        tie->known += r[*at].unknown ? 0.0 : 1.0;
        tie->unknown += r[*at].unknown ? 1.0 : 0.0;
        tie->correct += r[*at].correct ? 1.0 : 0.0;
    }
    return 1;
}

/* DeLong: variance of the mean over known images of their share of unknown ones above, plus the
 * same with the sides exchanged. */
static double osr__auroc_error(const osr__ranked *r, size_t count, double known, double unknown,
                               double auroc)
{
    osr__tie tie;
    size_t at = 0;
    double of_known = 0.0, of_unknown = 0.0;
    memset(&tie, 0, sizeof tie);
    if (known < 2.0 || unknown < 2.0)
        return NAN;
    while (osr__next_tie(r, count, &at, &tie)) {
        double a = (tie.unknown_above + 0.5 * tie.unknown) / unknown - auroc;
        double b = (known - tie.known_above - 0.5 * tie.known) / known - auroc;
        of_known += tie.known * a * a;
        of_unknown += tie.unknown * b * b;
    }
    return sqrt(of_known / (known - 1.0) / known + of_unknown / (unknown - 1.0) / unknown);
}

static void osr__open_set(const osr__ranked *r, size_t count, double known, double unknown,
                          osr_open_metrics *m)
{
    osr__tie tie;
    size_t at = 0;
    double pairs = 0.0, correct_pairs = 0.0, best = 1.0, known_pos = 0.0, unknown_pos = -1.0;
    memset(&tie, 0, sizeof tie);
    m->aupr_unknown = m->aupr_known = 0.0;
    while (osr__next_tie(r, count, &at, &tie)) {
        double known_from = tie.known_above + tie.known;         /* score >= tie.score */
        double unknown_from = tie.unknown_above + tie.unknown;
        double known_to = known - tie.known_above;               /* score <= tie.score */
        double unknown_to = unknown - tie.unknown_above;
        double half_above = tie.unknown_above + 0.5 * tie.unknown;
        double sum = unknown_from / unknown + (known - known_from) / known;
        pairs += tie.known * half_above;
        correct_pairs += tie.correct * half_above;
        m->aupr_unknown += tie.unknown / unknown * (unknown_from / (known_from + unknown_from));
        m->aupr_known += tie.known / known * (known_to / (known_to + unknown_to));
        if (unknown_pos < 0.0 && 20.0 * unknown_from >= 19.0 * unknown)
            unknown_pos = known_from / known;
        if (20.0 * known_to >= 19.0 * known) /* the lowest such threshold stays */
            known_pos = unknown_to / unknown;
        best = sum > best ? sum : best;
    }
    m->auroc = pairs / (known * unknown);
    m->auroc_error = osr__auroc_error(r, count, known, unknown, m->auroc);
    m->oscr = correct_pairs / (known * unknown);
    m->fpr95_known_pos = known_pos;
    m->fpr95_unknown_pos = unknown_pos;
    m->dtacc = 0.5 * best;
}

OSR_API osr_status osr_metric_open(osr_ctx *ctx, const osr_open_scores *in,
                                   osr_open_metrics *m)
{
    osr_status status;
    osr__ranked *r;
    size_t count, i, right = 0;
    if (!ctx || !in || !m)
        return osr__fail(ctx, OSR_ARG, "metric: %s is NULL", in ? "metrics" : "in");
    m->closed_accuracy = m->auroc = m->auroc_error = m->aupr_unknown = m->aupr_known = NAN;
    m->fpr95_known_pos = m->fpr95_unknown_pos = m->oscr = m->dtacc = m->openness = NAN;
    status = osr__rank(ctx, in, &r);
    if (status != OSR_OK)
        return status;
    count = in->known_count + in->unknown_count;
    if (in->known_count && in->unknown_count)
        osr__open_set(r, count, (double)in->known_count, (double)in->unknown_count, m);
    osr__free(ctx, r, count, sizeof *r);
    for (i = 0; in->correct && i < in->known_count; i++)
        right += in->correct[i] != 0;
    if (!in->correct)
        m->oscr = NAN;
    else if (in->known_count)
        m->closed_accuracy = (double)right / (double)in->known_count;
    if (in->known_classes > 0 && in->unknown_classes >= 0)
        m->openness = 1.0 - sqrt(2.0 * in->known_classes
                                 / (2.0 * in->known_classes + in->unknown_classes));
    return OSR_OK;
}

OSR_API osr_status osr_metric_threshold(osr_ctx *ctx, const double *scores, size_t count,
                                        double share, double *threshold)
{
    osr_status status;
    double *sorted, place;
    size_t index;
    if (!ctx || !threshold || !(share > 0.0 && share <= 1.0) || !count)
        return osr__fail(ctx, OSR_ARG, "threshold: %s", !threshold ? "threshold is NULL"
                         : count ? "share must be in (0, 1]" : "no scores");
    status = osr__scores_finite(ctx, "scores", scores, count);
    if (status != OSR_OK)
        return status;
    sorted = (double *)osr__alloc(ctx, count, sizeof *sorted);
    if (!sorted)
        return OSR_MEMORY;
    memcpy(sorted, scores, count * sizeof *sorted);
    osr__sort(sorted, count, sizeof *sorted, osr__double_up);
    place = ceil(share * (double)count - 1e-9);
    index = place < 1.0 ? 0 : (size_t)place - 1;
    *threshold = sorted[index < count ? index : count - 1];
    osr__free(ctx, sorted, count, sizeof *sorted);
    return OSR_OK;
}

OSR_API osr_status osr_metric_macro_f1(osr_ctx *ctx, const osr_decisions *in, double *f1)
{
    osr_status status = OSR_OK;
    double *hits, *total, sum = 0.0, present = 0.0; /* rows 0: unknown, 1..K: class - 1 */
    size_t rows, i;
    if (!ctx || !in || !f1 || !in->labels || !in->predicted || !in->count || in->classes < 1)
        return osr__fail(ctx, OSR_ARG, "macro_f1: an array is NULL, or no images or classes");
    if (in->scores)
        status = osr__scores_finite(ctx, "scores", in->scores, in->count);
    if (status == OSR_OK && in->scores && !osr__finite(in->threshold))
        status = osr__fail(ctx, OSR_NAN, "macro_f1: the threshold is not finite");
    if (status != OSR_OK)
        return status;
    rows = (size_t)in->classes + 1;
    hits = (double *)osr__alloc(ctx, rows, 2 * sizeof *hits);
    if (!hits)
        return OSR_MEMORY;
    total = hits + rows; /* labels and predictions of the class together: 2 TP + FP + FN */
    for (i = 0; i < in->count && status == OSR_OK; i++) {
        int label = in->labels[i], guess = in->predicted[i];
        if (label < -1 || label >= in->classes || guess < -1 || guess >= in->classes)
            status = osr__fail(ctx, OSR_ARG, "macro_f1: image %llu has label %d and prediction %d "
                               "with %d classes", (unsigned long long)i, label, guess, in->classes);
        if (in->scores && in->scores[i] > in->threshold)
            guess = -1;
        if (status == OSR_OK) {
            total[label + 1] += 1.0;
            total[guess + 1] += 1.0;
            hits[label + 1] += label == guess ? 1.0 : 0.0;
        }
    }
    for (i = 0; i < rows; i++)
        if (total[i] > 0.0) {
            sum += 2.0 * hits[i] / total[i];
            present += 1.0;
        }
    osr__free(ctx, hits, rows, 2 * sizeof *hits);
    if (status == OSR_OK)
        *f1 = sum / present;
    return status;
}

/* == model files == ---------------------------------------------------------------------------- */

#ifdef _WIN32
#include <fcntl.h>
#include <process.h>
#include <sys/stat.h>
#define O_CLOEXEC O_BINARY /* the flag that every file needs there */
#define O_NONBLOCK 0
#define S_ISREG(mode) (((mode) & S_IFMT) == S_IFREG)
#define fsync _commit
#else
int fsync(int fd); /* which strict C99 hides in unistd.h */
#ifndef O_CLOEXEC
#define O_CLOEXEC 0
#endif
#endif

#define OSR__XXH1 0x9e3779b185ebca87ull
#define OSR__XXH2 0xc2b2ae3d27d4eb4full
#define OSR__XXH3 0x165667b19e3779f9ull
#define OSR__XXH4 0x85ebca77c2b2ae63ull
#define OSR__XXH5 0x27d4eb2f165667c5ull

static uint64_t osr__load_le(const unsigned char *p, int bytes)
{
    uint64_t x = 0;
    while (bytes-- > 0)
        x = x << 8 | p[bytes];
    return x;
}

static uint64_t osr__rotl64(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t osr__xxh64_round(uint64_t lane, uint64_t input)
{
    return osr__rotl64(lane + input * OSR__XXH2, 31) * OSR__XXH1;
}

/* XXH64 with seed 0. */
static uint64_t osr__xxh64(const unsigned char *p, size_t bytes)
{
    uint64_t lane[4] = {OSR__XXH1 + OSR__XXH2, OSR__XXH2, 0, 0u - OSR__XXH1}, x = OSR__XXH5;
    const unsigned char *end = p + bytes;
    int i;
    for (; end - p >= 32; p += 32)
        for (i = 0; i < 4; i++)
            lane[i] = osr__xxh64_round(lane[i], osr__load_le(p + 8 * i, 8));
    if (bytes >= 32) {
        x = osr__rotl64(lane[0], 1) + osr__rotl64(lane[1], 7) + osr__rotl64(lane[2], 12)
            + osr__rotl64(lane[3], 18);
        for (i = 0; i < 4; i++)
            x = (x ^ osr__xxh64_round(0, lane[i])) * OSR__XXH1 + OSR__XXH4;
    }
    x += bytes;
    for (; end - p >= 8; p += 8)
        x = osr__rotl64(x ^ osr__xxh64_round(0, osr__load_le(p, 8)), 27) * OSR__XXH1 + OSR__XXH4;
    if (end - p >= 4) {
        x = osr__rotl64(x ^ osr__load_le(p, 4) * OSR__XXH1, 23) * OSR__XXH2 + OSR__XXH3;
        p += 4;
    }
    for (; p < end; p++)
        x = osr__rotl64(x ^ *p * OSR__XXH5, 11) * OSR__XXH1;
    x = (x ^ x >> 33) * OSR__XXH2;
    x = (x ^ x >> 29) * OSR__XXH3;
    return x ^ x >> 32;
}

/* -- what reader and writer share: element types, rows, names, text -- */

static const struct {
    char name[6];
    unsigned char bytes;
} osr__dtypes[] = {
#define OSR__DTYPE_ROW(name, bytes) {#name, bytes},
    OSR_DTYPE_LIST(OSR__DTYPE_ROW)
#undef OSR__DTYPE_ROW
};

#define OSR__HASH_KEY "osr.xxh64"
#define OSR__HASH_ZERO "0000000000000000"
#define OSR__HASH_DIGITS 16

typedef unsigned long long osr__big; /* what %llu wants */

typedef struct osr__item {
    osr_file_entry entry;
    uint64_t range[2];   /* begin and end in the tensor bytes */
    int seen;            /* bits of the keys met, in a reader */
    unsigned char *data; /* little-endian elements, then the name, in a writer */
} osr__item;

typedef struct osr__pair {
    char *key, *value; /* in a writer one block */
} osr__pair;

static int osr__by_offset(const void *a, const void *b)
{
    uint64_t x = ((const osr__item *)a)->range[0], y = ((const osr__item *)b)->range[0];
    return (x > y) - (x < y);
}

static int osr__by_name(const void *a, const void *b)
{
    return strcmp(((const osr__item *)a)->entry.name, ((const osr__item *)b)->entry.name);
}

/* Larger elements first, so that each tensor is aligned to its own. */
static int osr__by_size(const void *a, const void *b)
{
    int x = osr__dtypes[((const osr__item *)a)->entry.dtype].bytes;
    int y = osr__dtypes[((const osr__item *)b)->entry.dtype].bytes;
    return x != y ? y - x : osr__by_name(a, b);
}

static int osr__by_key(const void *a, const void *b)
{
    return strcmp(((const osr__pair *)a)->key, ((const osr__pair *)b)->key);
}

/* Elements between file order (little-endian) and host order, either way. */
static void osr__copy_elements(void *to, const void *from, size_t count, size_t size)
{
    const uint16_t probe = 1;
    unsigned char *w = (unsigned char *)to, low;
    size_t i;
    memcpy(&low, &probe, 1);
    if (low)
        memcpy(to, from, count * size);
    for (i = 0; !low && i < count * size; i++)
        w[i] = ((const unsigned char *)from)[i - i % size + size - 1 - i % size];
}

/* 1..OSR_FILE_NAME printable ASCII characters. */
static int osr__name_valid(const char *s)
{
    size_t n = 0;
    while (s[n] >= 0x20 && s[n] <= 0x7e && n <= OSR_FILE_NAME)
        n++;
    return s[n] == '\0' && n >= 1 && n <= OSR_FILE_NAME;
}

/* UTF-8 sequences by the number of bytes that follow the first: its mark, the smallest code. */
static const unsigned char osr__utf8_mark[] = {0, 0xc0, 0xe0, 0xf0};
static const uint32_t osr__utf8_least[] = {0, 0x80, 0x800, 0x10000};

static int osr__utf8_more(uint32_t x, const uint32_t *least)
{
    return (x >= least[1]) + (x >= least[2]) + (x >= least[3]);
}

/* No overlong forms, surrogates or values beyond U+10FFFF. */
static int osr__utf8_valid(const char *text, size_t bytes)
{
    static const uint32_t first[] = {0, 0x80, 0xe0, 0xf0}; /* bytes */
    const unsigned char *s = (const unsigned char *)text, *end = s + bytes;
    while (s < end) {
        int more = osr__utf8_more(*s, first), k;
        uint32_t code = (uint32_t)*s++ - osr__utf8_mark[more]; /* 0x80..0xbf: far too large */
        for (k = 0; k < more; k++, s++) {
            if (s == end || (*s & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (*s & 63u);
        }
        if (code < osr__utf8_least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return 0;
    }
    return 1;
}

/* Sets count and bytes from dtype, rank and shape; 0 for an empty or impossible shape. */
static int osr__entry_size(osr_file_entry *e)
{
    uint64_t size = osr__dtypes[e->dtype].bytes, most = SIZE_MAX / 16 / size;
    int i;
    e->count = 1;
    for (i = 0; i < e->rank; i++) {
        if (e->shape[i] == 0 || e->shape[i] > most / e->count)
            return 0;
        e->count *= e->shape[i];
    }
    e->bytes = e->count * size;
    return 1;
}

static double osr__element(osr_dtype dtype, const unsigned char *p)
{
    uint64_t bits = osr__load_le(p, osr__dtypes[dtype].bytes);
    uint32_t single = (uint32_t)(dtype == OSR_DTYPE_BF16 ? bits << 16 : bits);
    int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
    double x;
    float f;
    if (dtype == OSR_DTYPE_F64) {
        memcpy(&x, &bits, sizeof x);
        return x;
    }
    if (dtype != OSR_DTYPE_F16) {
        memcpy(&f, &single, sizeof f);
        return (double)f;
    }
    if (exponent == 31)
        x = fraction ? (double)NAN : (double)INFINITY;
    else
        x = exponent ? ldexp(1024.0 + fraction, exponent - 25) : ldexp((double)fraction, -24);
    return bits & 0x8000u ? -x : x;
}

static int osr__dtype_floating(osr_dtype dtype)
{
    return dtype == OSR_DTYPE_F32 || dtype == OSR_DTYPE_F16 || dtype == OSR_DTYPE_BF16
           || dtype == OSR_DTYPE_F64;
}

/* The hash of a file, its own digits at hash_at (which become zeros) read as such. */
static void osr__hash_text(void *file, size_t bytes, size_t hash_at, char text[])
{
    memcpy((char *)file + hash_at, OSR__HASH_ZERO, OSR__HASH_DIGITS);
    snprintf(text, OSR__HASH_DIGITS + 1, "%016llx",
             (osr__big)osr__xxh64((const unsigned char *)file, bytes));
}

/* -- reader: JSON, exactly as far as a safetensors header goes -- */

struct osr_file {
    osr_ctx *ctx;
    char *path; /* behind the structure */
    char *text; /* [header_bytes + 1] header, ended by NUL; strings are decoded in place */
    size_t header_bytes;
    osr__item *items; /* [item_capacity], sorted by name */
    size_t item_count, item_capacity;
    osr__pair *pairs; /* [pair_capacity], sorted by key */
    size_t pair_count, pair_capacity;
    unsigned char *image; /* [image_bytes] the file as it is, as far as it has been read */
    size_t image_bytes;
    size_t hash_at; /* of the 16 digits in the image; 0: none */
};

typedef struct osr__json {
    osr_file *file;
    char *text; /* ended by NUL, which no rule accepts: nothing reads beyond it */
    size_t at, string;   /* next character; where the last string begins */
    const char *wrong;   /* the first thing found wrong */
    const char *subject; /* name of the tensor at hand, NULL between tensors */
    int metadata;        /* times that __metadata__ was met */
    const char *newer;   /* a format beyond this version */
} osr__json;

static int osr__json_fail(osr__json *j, const char *wrong)
{
    if (!j->wrong)
        j->wrong = wrong;
    return 0;
}

static void osr__json_blanks(osr__json *j)
{
    j->at += strspn(j->text + j->at, " \n\r\t");
}

static int osr__json_is(osr__json *j, char c)
{
    osr__json_blanks(j);
    if (j->text[j->at] != c)
        return 0;
    j->at++;
    return 1;
}

/* The four digits of a \u escape. */
static int osr__json_hex(osr__json *j, uint32_t *code)
{
    char digits[5] = "";
    if (strspn(j->text + j->at, "0123456789abcdefABCDEF") < 4)
        return osr__json_fail(j, "bad \\u escape");
    memcpy(digits, j->text + j->at, 4);
    j->at += 4;
    *code = (uint32_t)strtoul(digits, NULL, 16);
    return 1;
}

/* After a backslash: writes the character at *to, which stays behind the text that is read. */
static int osr__json_escape(osr__json *j, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    const char c = j->text[j->at], *found = c ? strchr(from, c) : NULL;
    uint32_t code, low = 0;
    int more;
    if (!found && c != 'u')
        return osr__json_fail(j, "bad escape");
    j->at++;
    if (found) {
        *(*to)++ = into[found - from];
        return 1;
    }
    if (!osr__json_hex(j, &code))
        return 0;
    if (code >= 0xd800 && code < 0xdc00 && strncmp(j->text + j->at, "\\u", 2) == 0) {
        j->at += 2;
        if (!osr__json_hex(j, &low))
            return 0;
        if (low >= 0xdc00 && low < 0xe000)
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code == 0 || (code >= 0xd800 && code < 0xe000))
        return osr__json_fail(j, code ? "half a surrogate pair" : "a NUL character");
    more = osr__utf8_more(code, osr__utf8_least);
    *(*to)++ = (char)(osr__utf8_mark[more] | code >> 6 * more);
    while (more-- > 0)
        *(*to)++ = (char)(0x80 | (code >> 6 * more & 63));
    return 1;
}

/* A string, decoded where it stands and closed with NUL. */
static int osr__json_string(osr__json *j, char **out)
{
    char *to, c;
    if (!osr__json_is(j, '"'))
        return osr__json_fail(j, "a string is wanted");
    j->string = j->at;
    *out = to = j->text + j->at;
    while ((c = j->text[j->at]) != '"') {
        if ((unsigned char)c < 0x20)
            return osr__json_fail(j, "a string with a control character or without end");
        j->at++;
        if (c != '\\')
            *to++ = c;
        else if (!osr__json_escape(j, &to))
            return 0;
    }
    j->at++;
    *to = '\0';
    return 1;
}

/* {"key": value, ...}; `value` reads what follows a key. */
static int osr__json_object(osr__json *j, int (*value)(osr__json *j, char *key, osr__item *item),
                            osr__item *item)
{
    char *key;
    if (!osr__json_is(j, '{'))
        return osr__json_fail(j, "an object is wanted");
    if (osr__json_is(j, '}'))
        return 1;
    do {
        if (!osr__json_string(j, &key))
            return 0;
        if (!osr__json_is(j, ':'))
            return osr__json_fail(j, "':' is wanted");
        if (!value(j, key, item))
            return 0;
    } while (osr__json_is(j, ','));
    return osr__json_is(j, '}') || osr__json_fail(j, "',' or '}' is wanted");
}

/* [a, b, ...] of plain decimal integers. */
static int osr__json_numbers(osr__json *j, uint64_t *out, int most, int *count)
{
    *count = 0;
    if (!osr__json_is(j, '['))
        return osr__json_fail(j, "a list is wanted");
    if (osr__json_is(j, ']'))
        return 1;
    do {
        uint64_t x = 0;
        size_t first;
        unsigned digit;
        if (*count == most)
            return osr__json_fail(j, "a list is too long");
        osr__json_blanks(j);
        for (first = j->at; (digit = (unsigned char)j->text[j->at] - 48u) < 10; j->at++) {
            if (x > (UINT64_MAX - digit) / 10 || (j->at > first && j->text[first] == '0'))
                return osr__json_fail(j, "a number is too large or begins with 0");
            x = x * 10 + digit;
        }
        if (j->at == first)
            return osr__json_fail(j, "a plain decimal number is wanted");
        out[(*count)++] = x;
    } while (osr__json_is(j, ','));
    return osr__json_is(j, ']') || osr__json_fail(j, "a list of plain decimal numbers is wanted");
}

static int osr__json_dtype(osr__json *j, osr_dtype *dtype)
{
    char *text;
    int i;
    if (!osr__json_string(j, &text))
        return 0;
    for (i = 0; i < (int)OSR_DTYPE_COUNT && strcmp(osr__dtypes[i].name, text) != 0; i++)
        continue;
    *dtype = (osr_dtype)i;
    return i < (int)OSR_DTYPE_COUNT
           || osr__json_fail(j, "dtype is none of F32, I32, I64, U8, U64, F16, BF16, F64");
}

/* "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], each once, in any order. */
static int osr__json_field(osr__json *j, char *key, osr__item *item)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    int k, count = 2;
    for (k = 0; k < 3 && strcmp(key, keys[k]) != 0; k++)
        continue;
    if (k == 3 || (item->seen & 1 << k))
        return osr__json_fail(j, k == 3 ? "unknown key" : "duplicate key");
    item->seen |= 1 << k;
    if (k == 0 ? !osr__json_dtype(j, &item->entry.dtype)
        : k == 1 ? !osr__json_numbers(j, item->entry.shape, OSR_FILE_RANK, &item->entry.rank)
                 : !osr__json_numbers(j, item->range, 2, &count))
        return 0;
    return count == 2 || osr__json_fail(j, "dtype, shape and two data_offsets are wanted");
}

/* osr-N with 1 <= N <= OSR_FILE_FORMAT; other formats are foreign files, read as well. */
static int osr__json_format(osr__json *j, const char *value)
{
    size_t digits;
    if (strncmp(value, "osr-", 4) != 0)
        return 1;
    digits = strspn(value + 4, "0123456789");
    if (digits < 1 || digits > 12 || value[4 + digits] || value[4] == '0')
        return osr__json_fail(j, "malformed format version");
    if (strtoull(value + 4, NULL, 10) <= OSR_FILE_FORMAT)
        return 1;
    j->newer = value;
    return osr__json_fail(j, "newer format");
}

/* Recognises the hash. A key that differs from its name in one character is refused: a damaged
 * bit must not turn the check off. */
static int osr__json_hash(osr__json *j, const osr__pair *pair)
{
    size_t i, other = 0;
    if (strlen(pair->key) != strlen(OSR__HASH_KEY))
        return 1;
    for (i = 0; pair->key[i]; i++)
        other += pair->key[i] != OSR__HASH_KEY[i];
    if (other)
        return other > 1 || osr__json_fail(j, "damaged key " OSR__HASH_KEY);
    if (strspn(pair->value, "0123456789abcdef") != OSR__HASH_DIGITS
        || j->at != j->string + OSR__HASH_DIGITS + 1) /* longer, or written with escapes */
        return osr__json_fail(j, OSR__HASH_KEY " is not 16 hexadecimal digits");
    j->file->hash_at = 8 + j->string;
    return 1;
}

static int osr__json_pair(osr__json *j, char *key, osr__item *item)
{
    osr_file *file = j->file;
    osr__pair pair;
    (void)item;
    pair.key = key;
    if (!osr__json_string(j, &pair.value) || !osr__json_hash(j, &pair)
        || (strcmp(key, "format") == 0 && !osr__json_format(j, pair.value)))
        return 0;
    if (file->pair_count == OSR_FILE_TENSORS)
        return osr__json_fail(j, "more than 4096 keys");
    if (!osr__grow(file->ctx, &file->pairs, &file->pair_capacity, file->pair_count + 1,
                   sizeof pair))
        return osr__json_fail(j, "out of memory");
    file->pairs[file->pair_count++] = pair;
    return 1;
}

static int osr__json_tensor(osr__json *j, char *name)
{
    osr_file *file = j->file;
    osr__item item;
    memset(&item, 0, sizeof item);
    item.entry.name = name;
    if (!osr__json_object(j, osr__json_field, &item))
        return 0;
    if (item.seen != 7)
        return osr__json_fail(j, "dtype, shape and two data_offsets are wanted");
    if (!osr__entry_size(&item.entry))
        return osr__json_fail(j, "shape is empty or too large");
    if (item.range[1] < item.range[0] || item.range[1] - item.range[0] != item.entry.bytes)
        return osr__json_fail(j, "data_offsets do not fit dtype and shape");
    if (file->item_count == OSR_FILE_TENSORS)
        return osr__json_fail(j, "more than 4096 tensors");
    if (!osr__grow(file->ctx, &file->items, &file->item_capacity, file->item_count + 1,
                   sizeof item))
        return osr__json_fail(j, "out of memory");
    file->items[file->item_count++] = item;
    return 1;
}

static int osr__json_row(osr__json *j, char *name, osr__item *item)
{
    const int metadata = strcmp(name, "__metadata__") == 0;
    if (!osr__name_valid(name))
        return osr__json_fail(j, "a tensor's name is not 1 to 128 printable ASCII characters");
    j->subject = name;
    if (metadata && j->metadata++)
        return osr__json_fail(j, "duplicate key");
    if (metadata ? !osr__json_object(j, osr__json_pair, item) : !osr__json_tensor(j, name))
        return 0;
    j->subject = NULL;
    return 1;
}

static int osr__json_header(osr__json *j)
{
    if (!osr__utf8_valid(j->text, j->file->header_bytes))
        return osr__json_fail(j, "not UTF-8");
    osr__json_blanks(j);
    if (j->text[j->at] != '{')
        return osr__json_fail(j, "'{' is wanted");
    if (!osr__json_object(j, osr__json_row, NULL))
        return 0;
    osr__json_blanks(j);
    return j->at == j->file->header_bytes || osr__json_fail(j, "text after the closing brace");
}

/* -- reader: the file -- */

typedef struct osr__source {
    const unsigned char *memory; /* NULL: fd */
    int fd;
    uint64_t size;
} osr__source;

/* Reads on until the image has `bytes` bytes. */
static osr_status osr__file_fill(osr_file *file, const osr__source *source, size_t bytes)
{
    size_t at = file->image_bytes;
    void *grown = osr__resize(file->ctx, file->image, at, bytes, 1);
    if (!grown)
        return OSR_MEMORY;
    file->image = (unsigned char *)grown;
    file->image_bytes = bytes;
    if (source->memory) {
        memcpy(file->image + at, source->memory + at, bytes - at);
        return OSR_OK;
    }
    while (at < bytes) {
        unsigned part = bytes - at < 1u << 30 ? (unsigned)(bytes - at) : 1u << 30;
        long got = (long)read(source->fd, file->image + at, part);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return osr__fail(file->ctx, OSR_IO, "%s: reading failed: %s", file->path,
                             got < 0 ? strerror(errno) : "the file became shorter");
        at += (size_t)got;
    }
    return OSR_OK;
}

/* Offsets must tile the tensor bytes: no hole, no overlap, nothing behind. */
static osr_status osr__file_check(osr_file *file, uint64_t payload)
{
    osr__item *items = file->items;
    uint64_t at = 0;
    size_t i;
    osr__sort(items, file->item_count, sizeof *items, osr__by_offset);
    for (i = 0; i < file->item_count; at = items[i++].range[1])
        if (items[i].range[0] != at)
            return osr__fail(file->ctx, OSR_FORMAT, "%s: tensor %s begins at byte %llu, %s",
                             file->path, items[i].entry.name, (osr__big)items[i].range[0],
                             items[i].range[0] < at ? "inside another" : "after a hole");
    if (at > payload)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: truncated: header says %llu bytes of tensors, "
                         "file has %llu", file->path, (osr__big)at, (osr__big)payload);
    if (at < payload)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: %llu bytes after the last tensor", file->path,
                         (osr__big)(payload - at));
    osr__sort(items, file->item_count, sizeof *items, osr__by_name);
    for (i = 1; i < file->item_count; i++)
        if (osr__by_name(&items[i - 1], &items[i]) == 0)
            return osr__fail(file->ctx, OSR_FORMAT, "%s: tensor %s occurs twice", file->path,
                             items[i].entry.name);
    osr__sort(file->pairs, file->pair_count, sizeof *file->pairs, osr__by_key);
    for (i = 1; i < file->pair_count; i++)
        if (osr__by_key(&file->pairs[i - 1], &file->pairs[i]) == 0)
            return osr__fail(file->ctx, OSR_FORMAT, "%s: a metadata key occurs twice", file->path);
    return OSR_OK;
}

static osr_status osr__file_parse(osr_file *file, uint64_t payload)
{
    osr__json j;
    memset(&j, 0, sizeof j);
    j.file = file;
    j.text = file->text;
    if (osr__json_header(&j))
        return osr__file_check(file, payload);
    if (j.newer)
        return osr__fail(file->ctx, OSR_UNSUPPORTED, "%s: format %s is newer than osr-%d, which "
                         "this version reads", file->path, j.newer, OSR_FILE_FORMAT);
    if (strcmp(j.wrong, "out of memory") == 0)
        return OSR_MEMORY;
    return osr__fail(file->ctx, OSR_FORMAT, "%s: %s%s%sheader byte %llu: %s", file->path,
                     j.subject ? "tensor " : "", j.subject ? j.subject : "",
                     j.subject ? ": " : "", (osr__big)j.at, j.wrong);
}

static const unsigned char *osr__item_bytes(const osr_file *file, const osr__item *item)
{
    return file->image + 8 + file->header_bytes + item->range[0];
}

static osr_status osr__file_check_finite(const osr_file *file)
{
    size_t i;
    for (i = 0; i < file->item_count; i++) {
        const osr_file_entry *e = &file->items[i].entry;
        const unsigned char *p = osr__item_bytes(file, &file->items[i]);
        uint64_t k, bad = 0, first = 0;
        for (k = 0; osr__dtype_floating(e->dtype) && k < e->count; k++)
            if (!(fabs(osr__element(e->dtype, p + k * osr__dtypes[e->dtype].bytes))
                  <= (double)FLT_MAX) && bad++ == 0)
                first = k;
        if (bad)
            return osr__fail(file->ctx, OSR_NAN, "%s: tensor %s: %llu of %llu values are not "
                             "finite, first index %llu", file->path, e->name, (osr__big)bad,
                             (osr__big)e->count, (osr__big)first);
    }
    return OSR_OK;
}

static osr_status osr__file_check_hash(const osr_file *file)
{
    char says[OSR__HASH_DIGITS + 1] = "", is[OSR__HASH_DIGITS + 1];
    if (!file->hash_at)
        return OSR_OK;
    memcpy(says, file->image + file->hash_at, OSR__HASH_DIGITS);
    osr__hash_text(file->image, file->image_bytes, file->hash_at, is);
    return strcmp(says, is) == 0 ? OSR_OK
           : osr__fail(file->ctx, OSR_FORMAT, "%s: damaged: hash is %s, header says %s",
                       file->path, is, says);
}

/* Header first; the tensor bytes get memory when all that it says about them has been checked. */
static osr_status osr__file_load(osr_file *file, const osr__source *source, int allow_not_finite)
{
    osr_status status;
    uint64_t header;
    if (source->size < 8)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: truncated: %llu bytes, the length of the "
                         "header alone takes 8", file->path, (osr__big)source->size);
    status = osr__file_fill(file, source, 8);
    if (status != OSR_OK)
        return status;
    header = osr__load_le(file->image, 8);
    if (header > OSR_FILE_HEADER)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: not a safetensors file, or a header of %llu "
                         "bytes, at most %d are read", file->path, (osr__big)header,
                         OSR_FILE_HEADER);
    if (header > source->size - 8)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: truncated: length says %llu bytes of header, "
                         "file has %llu", file->path, (osr__big)header,
                         (osr__big)(source->size - 8));
    if (source->size > SIZE_MAX / 2)
        return osr__fail(file->ctx, OSR_MEMORY, "%s: %llu bytes do not fit in memory", file->path,
                         (osr__big)source->size);
    file->header_bytes = (size_t)header;
    file->text = (char *)osr__alloc(file->ctx, file->header_bytes + 1, 1);
    if (!file->text)
        return OSR_MEMORY;
    status = osr__file_fill(file, source, 8 + file->header_bytes);
    memcpy(file->text, file->image + 8, file->image_bytes - 8);
    if (status == OSR_OK)
        status = osr__file_parse(file, source->size - file->image_bytes);
    if (status == OSR_OK)
        status = osr__file_fill(file, source, (size_t)source->size);
    if (status == OSR_OK)
        status = osr__file_check_hash(file);
    if (status == OSR_OK && !allow_not_finite)
        status = osr__file_check_finite(file);
    return status;
}

static osr_status osr__file_create(osr_ctx *ctx, const char *path, const osr__source *source,
                                   const osr_file_desc *desc, osr_file **out)
{
    osr_status status;
    osr_file *file = (osr_file *)osr__alloc(ctx, sizeof *file + strlen(path) + 1, 1);
    if (!file)
        return OSR_MEMORY;
    file->ctx = ctx;
    file->path = (char *)(file + 1);
    memcpy(file->path, path, strlen(path) + 1);
    status = osr__file_load(file, source, desc && desc->allow_not_finite);
    if (status == OSR_OK)
        *out = file;
    else
        osr_file_close(file);
    return status;
}

OSR_API osr_status osr_file_open(osr_ctx *ctx, const char *path, const osr_file_desc *desc,
                                 osr_file **out)
{
    osr__source source = {NULL, -1, 0};
    struct stat info;
    osr_status status;
    if (out)
        *out = NULL;
    if (!ctx || !path || !out)
        return osr__fail(ctx, OSR_ARG, "file: %s is NULL", path ? "out" : "path");
    source.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    if (source.fd < 0 || fstat(source.fd, &info) != 0) {
        status = osr__fail(ctx, OSR_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = osr__fail(ctx, OSR_IO, "%s: not a regular file", path);
    } else {
        source.size = (uint64_t)info.st_size;
        status = osr__file_create(ctx, path, &source, desc, out);
    }
    if (source.fd >= 0)
        close(source.fd);
    return status;
}

OSR_API osr_status osr_file_open_memory(osr_ctx *ctx, const void *data, size_t bytes,
                                        const char *name, const osr_file_desc *desc,
                                        osr_file **out)
{
    osr__source source = {(const unsigned char *)data, -1, bytes};
    if (out)
        *out = NULL;
    if (!ctx || !data || !name || !out)
        return osr__fail(ctx, OSR_ARG, "file: %s is NULL", !data ? "data" : name ? "out" : "name");
    return osr__file_create(ctx, name, &source, desc, out);
}

OSR_API void osr_file_close(osr_file *file)
{
    osr_ctx *ctx = file ? file->ctx : NULL;
    if (!file)
        return;
    osr__free(ctx, file->image, file->image_bytes, 1);
    osr__free(ctx, file->items, file->item_capacity, sizeof *file->items);
    osr__free(ctx, file->pairs, file->pair_capacity, sizeof *file->pairs);
    osr__free(ctx, file->text, file->header_bytes + 1, 1);
    osr__free(ctx, file, sizeof *file + strlen(file->path) + 1, 1);
}

OSR_API int osr_file_count(const osr_file *file)
{
    return (int)file->item_count;
}

OSR_API const osr_file_entry *osr_file_tensor(const osr_file *file, int index)
{
    return index >= 0 && index < osr_file_count(file) ? &file->items[index].entry : NULL;
}

static const osr__item *osr__file_item(const osr_file *file, const char *name)
{
    osr__item wanted;
    wanted.entry.name = name;
    return !name || !file->items ? NULL
           : (const osr__item *)bsearch(&wanted, file->items, file->item_count,
                                        sizeof *file->items, osr__by_name);
}

OSR_API const osr_file_entry *osr_file_find(const osr_file *file, const char *name)
{
    const osr__item *item = osr__file_item(file, name);
    return item ? &item->entry : NULL;
}

/* dtype OSR_DTYPE_COUNT: any floating type, as float. */
static osr_status osr__file_read(const osr_file *file, const char *name, unsigned dtype,
                                 const char *wanted, size_t count, void *values)
{
    const osr__item *item = osr__file_item(file, name);
    const osr_dtype is = item ? item->entry.dtype : OSR_DTYPE_COUNT;
    const unsigned char *from;
    size_t i, size;
    if (!name || !values)
        return osr__fail(file->ctx, OSR_ARG, "%s: %s is NULL", file->path,
                         name ? "values" : "name");
    if (!item)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: tensor %.128s is missing", file->path, name);
    if (item->entry.count != count)
        return osr__fail(file->ctx, OSR_SHAPE, "%s: tensor %s has %llu values, %llu are wanted",
                         file->path, name, (osr__big)item->entry.count, (osr__big)count);
    if (dtype == OSR_DTYPE_COUNT ? !osr__dtype_floating(is) : (unsigned)is != dtype)
        return osr__fail(file->ctx, OSR_FORMAT, "%s: tensor %s is %s, %s is wanted", file->path,
                         name, osr__dtypes[is].name, wanted);
    from = osr__item_bytes(file, item);
    size = osr__dtypes[is].bytes;
    if (dtype != OSR_DTYPE_COUNT || is == OSR_DTYPE_F32)
        osr__copy_elements(values, from, count, size);
    else
        for (i = 0; i < count; i++) {
            double x = osr__element(is, from + i * size);
            ((float *)values)[i] = x > (double)FLT_MAX ? (float)INFINITY
                                   : x < -(double)FLT_MAX ? -(float)INFINITY : (float)x;
        }
    return OSR_OK;
}

OSR_API osr_status osr_file_read_f32(const osr_file *file, const char *name, size_t count,
                                     float *values)
{
    return osr__file_read(file, name, OSR_DTYPE_COUNT, "floating point", count, values);
}

OSR_API osr_status osr_file_read_raw(const osr_file *file, const char *name, osr_dtype dtype,
                                     size_t count, void *values)
{
    const int known = (unsigned)dtype < OSR_DTYPE_COUNT;
    return osr__file_read(file, name, known ? (unsigned)dtype : OSR_DTYPE_COUNT + 1u,
                          known ? osr__dtypes[dtype].name : "?", count, values);
}

OSR_API const char *osr_file_meta(const osr_file *file, const char *key)
{
    size_t i;
    for (i = 0; key && i < file->pair_count; i++)
        if (strcmp(file->pairs[i].key, key) == 0)
            return file->pairs[i].value;
    return NULL;
}

OSR_API const char *osr_file_meta_at(const osr_file *file, int index, const char **key)
{
    if (index < 0 || (size_t)index >= file->pair_count)
        return NULL;
    if (key)
        *key = file->pairs[index].key;
    return file->pairs[index].value;
}

/* -- a file that appears whole or not at all -- */

static int osr__write_all(int fd, const char *p, size_t bytes)
{
    while (bytes > 0) {
        unsigned part = bytes < 1u << 30 ? (unsigned)bytes : 1u << 30;
        long done = (long)write(fd, p, part);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return 0;
        p += done;
        bytes -= (size_t)done;
    }
    return 1;
}

/* The rename is on disk only once the directory is. Where a directory cannot be opened or synced
 * at all (EINVAL) there is nothing to wait for. Changes path, which has room for two bytes. */
static int osr__sync_directory(char *path)
{
    int good = 1;
#ifndef _WIN32
    char *slash = strrchr(path, '/');
    int fd;
    if (!slash)
        memcpy(path, ".", 2);
    else
        slash[slash == path] = '\0';
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        good = fsync(fd) == 0 || errno == EINVAL;
        close(fd);
    }
#endif
    return good;
}

/* From a new file at `temporary` to the file in place; returns the step that failed, NULL when
 * none did, with the error's number. */
static const char *osr__replace(int fd, char *temporary, const char *path, const char *data,
                                size_t bytes, int *error)
{
    const char *failed = !osr__write_all(fd, data, bytes) ? "writing failed"
                         : fsync(fd) != 0 ? "syncing failed" : NULL;
    *error = errno;
    if (close(fd) != 0 && !failed) {
        *error = errno;
        failed = "closing failed";
    }
#ifdef _WIN32
    if (!failed)
        unlink(path); /* rename does not replace there */
#endif
    if (!failed && rename(temporary, path) != 0) {
        *error = errno;
        failed = "renaming failed";
    }
    if (failed) {
        unlink(temporary);
        return failed;
    }
    if (!osr__sync_directory(temporary)) {
        *error = errno;
        failed = "syncing the directory failed";
    }
    return failed;
}

static osr_status osr__file_write(osr_ctx *ctx, const char *path, const char *data, size_t bytes)
{
    const size_t size = strlen(path) + 48;
    const char *failed = "cannot create a file beside it";
    char *temporary;
    struct stat info;
    int i, error, fd = -1;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return osr__fail(ctx, OSR_IO, "%s: not a regular file", path);
    temporary = (char *)osr__alloc(ctx, size, 1);
    if (!temporary)
        return OSR_MEMORY;
    for (i = 0, errno = EEXIST; fd < 0 && errno == EEXIST && i < 100; i++) {
        /* names may be left over from a killed process */
        snprintf(temporary, size, "%s.tmp.%ld.%d", path, (long)getpid(), i);
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    error = errno;
    if (fd >= 0)
        failed = osr__replace(fd, temporary, path, data, bytes, &error);
    osr__free(ctx, temporary, size, 1);
    return failed ? osr__fail(ctx, OSR_IO, "%s: %s: %s", path, failed, strerror(error)) : OSR_OK;
}

/* -- writer -- */

struct osr_writer {
    osr_ctx *ctx;
    osr_status status; /* the first error of adding */
    osr__item *items;  /* [item_capacity] */
    size_t item_count, item_capacity;
    osr__pair *pairs; /* [pair_capacity] */
    size_t pair_count, pair_capacity;
};

/* s in quotes; only what must be escaped is. */
static void osr__text_quoted(osr__text *t, const char *s)
{
    osr__text_put(t, "\"");
    for (; *s; s++) {
        unsigned c = (unsigned char)*s;
        osr__text_print(t, c == '"' || c == '\\' ? "\\%c" : c < 0x20 ? "\\u%04x" : "%c", c);
    }
    osr__text_put(t, "\"");
}

OSR_API osr_status osr_writer_create(osr_ctx *ctx, osr_writer **out)
{
    osr_writer *w;
    char format[16];
    if (out)
        *out = NULL;
    if (!ctx || !out)
        return osr__fail(ctx, OSR_ARG, "writer: out is NULL");
    w = (osr_writer *)osr__alloc(ctx, 1, sizeof *w);
    if (!w)
        return OSR_MEMORY;
    w->ctx = ctx;
    snprintf(format, sizeof format, "osr-%d", OSR_FILE_FORMAT);
    osr_writer_meta(w, "format", format);
    osr_writer_meta(w, "osr.version", OSR_VERSION);
    if (osr_writer_meta(w, OSR__HASH_KEY, OSR__HASH_ZERO) == OSR_OK) {
        *out = w;
        return OSR_OK;
    }
    osr_writer_destroy(w);
    return OSR_MEMORY;
}

OSR_API osr_status osr_writer_meta(osr_writer *w, const char *key, const char *value)
{
    const char *wrong = NULL;
    osr__pair pair;
    size_t i, n;
    if (w->status != OSR_OK)
        return w->status;
    if (!key || !value)
        wrong = "is NULL";
    else if (!osr__utf8_valid(key, strlen(key)) || !osr__utf8_valid(value, strlen(value)))
        wrong = "is not UTF-8";
    else if (w->pair_count == OSR_FILE_TENSORS)
        wrong = "is one too many";
    for (i = 0; !wrong && i < w->pair_count; i++)
        if (strcmp(w->pairs[i].key, key) == 0)
            wrong = "is there already";
    if (wrong)
        return w->status = osr__fail(w->ctx, OSR_ARG, "writer: metadata %.128s %s",
                                     key ? key : "key", wrong);
    n = strlen(key) + 1;
    if (!osr__grow(w->ctx, &w->pairs, &w->pair_capacity, w->pair_count + 1, sizeof pair)
        || (pair.key = (char *)osr__alloc(w->ctx, n + strlen(value) + 1, 1)) == NULL)
        return w->status = OSR_MEMORY;
    pair.value = pair.key + n;
    memcpy(pair.key, key, n);
    memcpy(pair.value, value, strlen(value) + 1);
    w->pairs[w->pair_count++] = pair;
    return OSR_OK;
}

OSR_API osr_status osr_writer_tensor(osr_writer *w, const char *name, osr_dtype dtype, int rank,
                                     const uint64_t *shape, const void *values)
{
    const char *wrong = NULL;
    osr__item item;
    size_t i;
    if (w->status != OSR_OK)
        return w->status;
    if (!name || !values || (rank > 0 && !shape))
        wrong = "is NULL or has no shape or values";
    else if (!osr__name_valid(name) || strcmp(name, "__metadata__") == 0)
        wrong = "is no name for a tensor";
    else if ((unsigned)dtype >= OSR_DTYPE_COUNT || rank < 0 || rank > OSR_FILE_RANK)
        wrong = "has an unknown type or rank";
    else if (w->item_count == OSR_FILE_TENSORS)
        wrong = "is one too many";
    for (i = 0; !wrong && i < w->item_count; i++)
        if (strcmp(w->items[i].entry.name, name) == 0)
            wrong = "is there already";
    if (wrong)
        return w->status = osr__fail(w->ctx, OSR_ARG, "writer: tensor %.128s %s",
                                     name ? name : "name", wrong);
    memset(&item, 0, sizeof item);
    item.entry.dtype = dtype;
    item.entry.rank = rank;
    for (i = 0; i < (size_t)rank; i++)
        item.entry.shape[i] = shape[i];
    if (!osr__entry_size(&item.entry))
        return w->status = osr__fail(w->ctx, OSR_SHAPE, "writer: tensor %s is empty or too large",
                                     name);
    i = (size_t)item.entry.bytes;
    if (!osr__grow(w->ctx, &w->items, &w->item_capacity, w->item_count + 1, sizeof item)
        || (item.data = (unsigned char *)osr__alloc(w->ctx, i + strlen(name) + 1, 1)) == NULL)
        return w->status = OSR_MEMORY;
    osr__copy_elements(item.data, values, (size_t)item.entry.count, osr__dtypes[dtype].bytes);
    memcpy(item.data + i, name, strlen(name) + 1);
    item.entry.name = (const char *)(item.data + i);
    w->items[w->item_count++] = item;
    return OSR_OK;
}

/* The header with a place for its length; returns where the digits of the hash stand. */
static size_t osr__writer_header(osr_writer *w, osr__text *t)
{
    size_t i, hash_at = 0;
    uint64_t at = 0;
    int k;
    osr__sort(w->items, w->item_count, sizeof *w->items, osr__by_size);
    osr__sort(w->pairs, w->pair_count, sizeof *w->pairs, osr__by_key);
    osr__text_add(t, "\0\0\0\0\0\0\0", 8);
    osr__text_put(t, "{\"__metadata__\":{");
    for (i = 0; i < w->pair_count; i++) {
        osr__text_put(t, i ? "," : "");
        osr__text_quoted(t, w->pairs[i].key);
        osr__text_put(t, ":");
        if (strcmp(w->pairs[i].key, OSR__HASH_KEY) == 0)
            hash_at = t->length + 1;
        osr__text_quoted(t, w->pairs[i].value);
    }
    osr__text_put(t, "}");
    for (i = 0; i < w->item_count; i++) {
        const osr_file_entry *e = &w->items[i].entry;
        osr__text_put(t, ",");
        osr__text_quoted(t, e->name);
        osr__text_print(t, ":{\"dtype\":\"%s\",\"shape\":[", osr__dtypes[e->dtype].name);
        for (k = 0; k < e->rank; k++)
            osr__text_print(t, k ? ",%llu" : "%llu", (osr__big)e->shape[k]);
        osr__text_print(t, "],\"data_offsets\":[%llu,%llu]}", (osr__big)at,
                        (osr__big)(at + e->bytes));
        at += e->bytes;
    }
    osr__text_put(t, "}");
    osr__text_add(t, "        ", (8 - t->length % 8) % 8);
    return hash_at;
}

/* The whole file in t; the caller frees t->data, also after an error. */
static osr_status osr__writer_image(osr_writer *w, osr__text *t)
{
    char digits[OSR__HASH_DIGITS + 1];
    size_t hash_at, head, i;
    memset(t, 0, sizeof *t);
    t->ctx = w->ctx;
    hash_at = osr__writer_header(w, t);
    head = t->length - 8;
    if (!t->failed && head > OSR_FILE_HEADER)
        return osr__fail(w->ctx, OSR_ARG, "writer: header of %llu bytes, at most %d are allowed",
                         (osr__big)head, OSR_FILE_HEADER);
    for (i = 0; i < w->item_count; i++)
        osr__text_add(t, w->items[i].data, (size_t)w->items[i].entry.bytes);
    if (t->failed)
        return OSR_MEMORY;
    for (i = 0; i < 8; i++)
        t->data[i] = (char)(unsigned char)((uint64_t)head >> 8 * i & 255);
    osr__hash_text(t->data, t->length, hash_at, digits);
    memcpy(t->data + hash_at, digits, OSR__HASH_DIGITS);
    return OSR_OK;
}

OSR_API osr_status osr_writer_save(osr_writer *w, const char *path)
{
    osr__text image;
    osr_status status;
    if (w->status != OSR_OK || !path)
        return w->status != OSR_OK ? w->status : osr__fail(w->ctx, OSR_ARG, "writer: path is NULL");
    status = osr__writer_image(w, &image);
    if (status == OSR_OK)
        status = osr__file_write(w->ctx, path, image.data, image.length);
    osr__free(w->ctx, image.data, image.capacity, 1);
    return status;
}

OSR_API osr_status osr_writer_save_memory(osr_writer *w, void *data, size_t capacity,
                                          size_t *bytes)
{
    osr__text image;
    osr_status status;
    if (w->status != OSR_OK)
        return w->status;
    if (!bytes || (!data && capacity))
        return osr__fail(w->ctx, OSR_ARG, "writer: %s is NULL", bytes ? "data" : "bytes");
    status = osr__writer_image(w, &image);
    if (status == OSR_OK) {
        *bytes = image.length;
        if (capacity >= image.length)
            memcpy(data, image.data, image.length);
        else if (capacity)
            status = osr__fail(w->ctx, OSR_ARG, "writer: capacity is %llu, the file takes %llu",
                               (osr__big)capacity, (osr__big)image.length);
    }
    osr__free(w->ctx, image.data, image.capacity, 1);
    return status;
}

OSR_API void osr_writer_destroy(osr_writer *w)
{
    osr_ctx *ctx = w ? w->ctx : NULL;
    size_t i;
    if (!w)
        return;
    for (i = 0; i < w->item_count; i++)
        osr__free(ctx, w->items[i].data,
                  (size_t)w->items[i].entry.bytes + strlen(w->items[i].entry.name) + 1, 1);
    for (i = 0; i < w->pair_count; i++)
        osr__free(ctx, w->pairs[i].key,
                  strlen(w->pairs[i].key) + strlen(w->pairs[i].value) + 2, 1);
    osr__free(ctx, w->items, w->item_capacity, sizeof *w->items);
    osr__free(ctx, w->pairs, w->pair_capacity, sizeof *w->pairs);
    osr__free(ctx, w, 1, sizeof *w);
}

/* == methods == -------------------------------------------------------------------------------- */

/* VGG32 as CAC has it, with another head. */
#define OSR__VGG32(head) { 0, head, OSR_VGG32_KAIMING, 0.2f, 0, 0, 0, 0, 0.0f, 0.0f, 0 }
/* Numbers of the losses with learned points. */
#define OSR__POINTS(lambda) { 0.0f, lambda, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0, 0 }

/* One row a method. The variants of VGG32: CAC's for all (pooled instead of flattened where the
 * representation itself is compared; ARPL's code drops before the blocks, which blanks grey images)
 * but difair, which has its own with Keras' batch normalisation. */
static const osr_method_row osr__methods[] = {
    { "ce", "softmax cross-entropy", OSR_OUT_LOGITS, OSR_PREDICT_LOGIT, "mls", 0, OSR_LOSS_CE,
      OSR__VGG32(OSR_VGG32_FLATTEN), OSR__POINTS(0.0f), { 0.01f, 0.9f, 5e-6f, OSR_CONSTANT, 0 },
      "Hendrycks and Gimpel, arXiv:1610.02136 (MSP); Vaze et al., arXiv:2110.06207 (MLS)" },
    { "cac", "class anchor clustering", OSR_OUT_LOGITS | OSR_OUT_DISTANCES, OSR_PREDICT_GAMMA,
      "cac", 1, OSR_LOSS_CAC, OSR__VGG32(OSR_VGG32_FLATTEN),
      { OSR_CAC_ALPHA, OSR_CAC_LAMBDA, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0, 0 },
      { 0.01f, 0.9f, 5e-6f, OSR_CONSTANT, 0 }, "Miller et al., WACV 2021, arXiv:2004.02434" },
    { "difair", "differentiated image representations", OSR_OUT_DISTANCES | OSR_OUT_REPRESENTATION,
      OSR_PREDICT_DISTANCE, "difair", 0, OSR_LOSS_DIFAIR,
      { 0, OSR_VGG32_DIFAIR, OSR_VGG32_NORMAL005, 0.2f, 1, 1, 1, 0, 1e-3f, 0.01f, 0 },
      { OSR_DIFAIR_ALPHA, OSR_DIFAIR_LAMBDA, OSR_DIFAIR_RADIUS, OSR_DIFAIR_PULL, 0.0f, 0.0f, 0.0f,
        0.0f, OSR_DIFAIR_FEATURES, OSR_CORRELATION_CODE },
      { 0.1f, 0.9f, 1e-4f, OSR_COSINE, 100 }, "Christoffel et al. (DIFAIR)" },
    { "movr", "one-versus-rest with an angular margin", OSR_OUT_COSINES, OSR_PREDICT_COSINE,
      "movr", 0, OSR_LOSS_MOVR, OSR__VGG32(OSR_VGG32_NONE),
      { 0.0f, 0.0f, 0.0f, 0.0f, OSR_MOVR_TEMPERATURE, OSR_MOVR_MARGIN, 0.0f, 0.0f, 0, 0 },
      { 0.1f, 0.9f, 1e-3f, OSR_COSINE, 100 },
      "Park et al., Pattern Recognition 145:109942, 2024, arXiv:2209.11436" },
    { "ovr", "one-versus-rest", OSR_OUT_LOGITS, OSR_PREDICT_LOGIT, "mls", 0, OSR_LOSS_OVR,
      OSR__VGG32(OSR_VGG32_FLATTEN), OSR__POINTS(0.0f), { 0.01f, 0.9f, 5e-6f, OSR_CONSTANT, 0 },
      "Shu et al. (DOC), EMNLP 2017, arXiv:1709.08716" },
    { "center", "softmax cross-entropy with centre loss", OSR_OUT_LOGITS, OSR_PREDICT_LOGIT, "mls",
      0, OSR_LOSS_CENTER, OSR__VGG32(OSR_VGG32_GAP), OSR__POINTS(OSR_CENTER_LAMBDA),
      { 0.01f, 0.9f, 5e-4f, OSR_CONSTANT, 0 }, "Wen et al., ECCV 2016" },
    { "gcpl", "learned prototypes, logits -d", OSR_OUT_LOGITS, OSR_PREDICT_LOGIT, "msp", 0,
      OSR_LOSS_GCPL, OSR__VGG32(OSR_VGG32_NONE), OSR__POINTS(OSR_POINTS_LAMBDA),
      { 0.1f, 0.9f, 1e-4f, OSR_COSINE, 100 }, "Yang et al., CVPR 2018, arXiv:1805.03438" },
    { "rpl", "learned reciprocal points, logits d", OSR_OUT_LOGITS, OSR_PREDICT_LOGIT, "msp", 0,
      OSR_LOSS_RPL, OSR__VGG32(OSR_VGG32_NONE), OSR__POINTS(OSR_POINTS_LAMBDA),
      { 0.1f, 0.9f, 1e-4f, OSR_COSINE, 100 }, "Chen et al., ECCV 2020, arXiv:2011.00178" },
    { "arpl", "learned reciprocal points, logits d - x p", OSR_OUT_LOGITS, OSR_PREDICT_LOGIT, "mls",
      0, OSR_LOSS_ARPL, OSR__VGG32(OSR_VGG32_NONE), OSR__POINTS(OSR_POINTS_LAMBDA),
      { 0.1f, 0.9f, 1e-4f, OSR_COSINE, 100 }, "Chen et al., TPAMI 2021, arXiv:2103.00953" },
};

#define OSR__METHODS ((int)(sizeof osr__methods / sizeof osr__methods[0]))

OSR_API const osr_method_row *osr_method_at(int index)
{
    return index >= 0 && index < OSR__METHODS ? &osr__methods[index] : NULL;
}

OSR_API const osr_method_row *osr_method_find(const char *name)
{
    int i = 0;
    while (i < OSR__METHODS && (name == NULL || strcmp(osr__methods[i].name, name) != 0))
        ++i;
    return osr_method_at(i);
}

OSR_API int osr_method_width(const osr_method_row *method, const osr_method_numbers *numbers,
                             int classes)
{
    if ((method->outputs & OSR_OUT_COSINES) || method->loss > OSR_LOSS_CENTER)
        return 0;
    return method->outputs & OSR_OUT_LOGITS ? classes : classes * numbers->features;
}

struct osr_model {
    osr_ctx *ctx;
    osr_model_desc desc;
    char *net_name, **class_names;
    osr_net *net;
    const osr_score_row *score;
    double threshold;
    int dims;
    osr_tensor input_mean, input_var, input_gamma, input_beta; /* makes 0..1 what the net reads */
    osr_tensor anchors; /* CAC, DIFAIR: in training CAC uses alpha e_k, kept in `ideal` */
    osr_tensor ideal, prototypes;
    osr_tensor points, radius; /* of the losses with learned points */
    osr_tensor turn_weight, turn_bias;
    osr_named *named;
    int named_count, named_capacity;
    osr_tensor first;   /* first trainable parameter, and how many follow */
    int trainable;
    int feature_dims;
    double *sums;       /* calibration: K rows of sums of logits and a count */
    struct osr__gather *gather; /* a calibration under way */
    float *calibration[OSR__SCORES]; /* of each row that has one */
    float *staging;     /* one batch of predict: images and outputs */
    size_t staging_count;
};

/* Images that predict and jacobian put through the network at once. */
#define OSR__PREDICT_BATCH 64
#define OSR__JACOBIAN_BATCH 256
#define OSR__JACOBIAN_JITTER 0.1f /* of the step */

static osr_status osr__model_check(osr_ctx *ctx, const osr_model_desc *d)
{
    const osr_method_numbers *n;
    osr_loss_kind loss;
    int i, difair;
    if (d == NULL || d->method == NULL || d->layers == NULL || d->layer_count < 1)
        return osr__fail(ctx, OSR_ARG, "osr_model_create: method and layers are needed");
    n = &d->numbers;
    loss = d->method->loss;
    difair = loss == OSR_LOSS_DIFAIR;
    if (d->classes < 1 || d->classes > 1 << 20)
        return osr__fail(ctx, OSR_ARG, "osr_model_create: %d classes", d->classes);
    if (d->channels < 1 || d->channels > 4)
        return osr__fail(ctx, OSR_ARG, "osr_model_create: %d channels, not 1 to 4", d->channels);
    for (i = 0; i < d->channels; ++i)
        if (!(fabsf(d->mean[i]) <= FLT_MAX) || !(d->std[i] >= 0.01f) || !(d->std[i] <= FLT_MAX))
            return osr__fail(ctx, OSR_ARG, "osr_model_create: mean %g, std %g of channel %d",
                             (double)d->mean[i], (double)d->std[i], i);
    if ((d->method->outputs & OSR_OUT_DISTANCES) && !(n->alpha > 0.0f && n->alpha <= FLT_MAX))
        return osr__fail(ctx, OSR_ARG, "%s: alpha is %g", d->method->name, (double)n->alpha);
    if (!(n->lambda >= 0.0f) || !(n->lambda <= FLT_MAX))
        return osr__fail(ctx, OSR_ARG, "%s: lambda is %g", d->method->name, (double)n->lambda);
    if (difair && (n->features < 1 || n->features > 4096 || !(n->radius > 0.0f)))
        return osr__fail(ctx, OSR_ARG, "difair: %d features, radius %g", n->features,
                         (double)n->radius);
    if ((d->method->outputs & OSR_OUT_COSINES) && !(n->temperature > 0.0f))
        return osr__fail(ctx, OSR_ARG, "%s: temperature is %g", d->method->name,
                         (double)n->temperature);
    if (!(n->smoothing >= 0.0f && n->smoothing < 1.0f)
        || (n->smoothing > 0.0f && loss != OSR_LOSS_CE && loss < OSR_LOSS_CENTER))
        return osr__fail(ctx, OSR_ARG, "%s: label smoothing %g; it is for cross-entropy, in 0..1",
                         d->method->name, (double)n->smoothing);
    if (!(n->rotation >= 0.0f) || !(n->rotation <= FLT_MAX)
        || (n->rotation > 0.0f && d->height != d->width))
        return osr__fail(ctx, OSR_ARG, "%s: rotation %g of images of %dx%d", d->method->name,
                         (double)n->rotation, d->height, d->width);
    if (d->score != NULL && osr_score_find(d->score) == NULL)
        return osr__fail(ctx, OSR_ARG, "osr_model_create: no score is called \"%s\"", d->score);
    return ctx->status;
}

static osr_tensor osr__model_tensor(osr_model *m, const char *name, osr_shape shape, osr_init init,
                                    int trainable)
{
    osr_named *row = &m->named[m->named_count++];
    row->tensor = trainable ? osr_param(m->ctx, shape, init) : osr_state(m->ctx, shape, init);
    row->trainable = trainable;
    snprintf(row->name, sizeof row->name, "%s", name);
    return row->tensor;
}

/* Anchors alpha e_k in logit space, or alpha on the F dimensions of each class. */
static osr_status osr__model_anchors(osr_model *m, osr_tensor anchors, int dims, int each)
{
    const size_t n = (size_t)m->desc.classes * (size_t)dims;
    float *a = (float *)osr__alloc(m->ctx, n, sizeof *a);
    int k, f;
    if (a == NULL)
        return m->ctx->status;
    for (k = 0; k < m->desc.classes; ++k)
        for (f = 0; f < each; ++f)
            a[(size_t)k * (size_t)dims + (size_t)(k * each + f)] = m->desc.numbers.alpha;
    osr_write(m->ctx, anchors, a, n);
    osr__free(m->ctx, a, n, sizeof *a);
    return m->ctx->status;
}

/* The tensors that the method adds to its network. */
static osr_status osr__model_head(osr_model *m)
{
    osr_ctx *ctx = m->ctx;
    const osr_shape last = osr_net_shape(m->net, m->desc.layer_count - 1);
    const int k = m->desc.classes;
    const int wanted = osr_method_width(m->desc.method, &m->desc.numbers, k);
    const osr_init zero = osr__init_make(OSR_INIT_CONSTANT, 0.0f, 0.0f);
    const osr_init one = osr__init_make(OSR_INIT_CONSTANT, 1.0f, 0.0f);
    const osr_shape c = osr_shape_make(1, m->desc.channels, 0, 0, 0);
    float var[4];
    int i;
    if (last.rank != 2 || (wanted != 0 && last.dim[1] != wanted))
        return osr__fail(ctx, OSR_SHAPE,
                         "%s with %d classes wants a network that ends in %d values, not in %s",
                         m->desc.method->name, k, wanted, osr__shape_text(last).s);
    m->input_mean = osr_state(ctx, c, zero);
    m->input_var = osr_state(ctx, c, one);
    m->input_gamma = osr_state(ctx, c, one);
    m->input_beta = osr_state(ctx, c, zero);
    for (i = 0; i < m->desc.channels; ++i)
        var[i] = m->desc.std[i] * m->desc.std[i] - OSR_BATCHNORM_EPS;
    osr_write(ctx, m->input_mean, m->desc.mean, (size_t)m->desc.channels);
    osr_write(ctx, m->input_var, var, (size_t)m->desc.channels);
    if (m->desc.method->outputs & OSR_OUT_DISTANCES) {
        const int each = wanted / k;
        m->anchors = osr__model_tensor(m, "anchors", osr_shape_make(2, k, wanted, 0, 0), zero, 0);
        m->ideal = m->desc.method->calibrates
                       ? osr_state(ctx, osr_shape_make(2, k, wanted, 0, 0), zero)
                       : m->anchors;
        if (osr__model_anchors(m, m->anchors, wanted, each) != OSR_OK
            || osr__model_anchors(m, m->ideal, wanted, each) != OSR_OK)
            return ctx->status;
    }
    if (m->desc.method->loss >= OSR_LOSS_CENTER)
        m->points = osr__model_tensor(
            m, "points", osr_shape_make(2, k, m->dims, 0, 0),
            osr__init_make(OSR_INIT_NORMAL, 0.0f,
                           m->desc.method->loss == OSR_LOSS_CENTER ? 1.0f : 0.1f), 1);
    if (m->desc.method->loss >= OSR_LOSS_RPL)
        m->radius = osr__model_tensor(m, "radius", osr_shape_make(1, 1, 0, 0, 0), zero, 1);
    if (m->desc.numbers.rotation > 0.0f) {
        const osr_shape w = osr_shape_make(2, 4, m->dims, 0, 0), b = osr_shape_make(1, 4, 0, 0, 0);
        m->turn_weight = osr__model_tensor(m, "rotation.weight", w,
                                           osr__init_make(OSR_INIT_NORMAL, 0.0f, 0.01f), 1);
        m->turn_bias = osr__model_tensor(m, "rotation.bias", b, zero, 1);
    }
    if (m->desc.method->outputs & OSR_OUT_COSINES)
        m->prototypes = osr__model_tensor(m, "prototypes", osr_shape_make(2, k, last.dim[1], 0, 0),
                                          osr__init_make(OSR_INIT_NORMAL, 0.0f, 0.05f), 1);
    return ctx->status;
}

/* Which layer's output is the representation: the input of a final linear layer that gives logits,
 * else the last layer's. */
static int osr__representation_layer(const osr_model *m)
{
    int count;
    const osr_layer *l = osr_net_layers(m->net, &count);
    return (m->desc.method->outputs & OSR_OUT_LOGITS) && m->desc.method->loss <= OSR_LOSS_CENTER
                   && count > 1
                   && l[count - 1].kind == OSR_LAYER_LINEAR
               ? (l[count - 1].from != 0 ? l[count - 1].from - 1 : count - 2)
               : count - 1;
}

/* The layer whose planes are flattened to the representation; -1 where none are. */
static int osr__feature_layer(const osr_model *m)
{
    const int at = osr__representation_layer(m);
    const osr_layer *l = osr_net_layers(m->net, NULL) + at;
    const int from = l->from != 0 ? l->from - 1 : at - 1;
    return l->kind == OSR_LAYER_FLATTEN && from >= 0 && osr_net_shape(m->net, from).rank == 4
               ? from
               : -1;
}

static const float *osr__calibration(const osr_model *m, const osr_score_row *row)
{
    int i = 0;
    while (i < OSR__SCORES && &osr__scores[i] != row)
        ++i;
    return i < OSR__SCORES ? m->calibration[i] : NULL;
}

static size_t osr__calibration_count(const osr_model *m, const osr_score_row *row)
{
    uint64_t shape[2];
    osr__calibration_shape(row, m->desc.classes, m->feature_dims, shape);
    return (size_t)(shape[0] * shape[1]);
}

static osr_status osr__score_given(osr_model *m, const osr_score_row *row)
{
    const char *lacks = osr_score_lacks(row, m->desc.method->outputs);
    if (lacks != NULL)
        return osr__fail(m->ctx, OSR_UNSUPPORTED, "score %s needs %s, which method %s does not "
                         "give", row->name, lacks, m->desc.method->name);
    if (row->fn == osr__score_mahalanobis && m->feature_dims > OSR_MAHALANOBIS_MOST)
        return osr__fail(m->ctx, OSR_UNSUPPORTED, "score %s handles %d features, the model has %d",
                         row->name, OSR_MAHALANOBIS_MOST, m->feature_dims);
    return m->ctx->status;
}

/* The same, and its calibration is there. */
static osr_status osr__score_ready(osr_model *m, const osr_score_row *row)
{
    if (osr__score_given(m, row) == OSR_OK && row->calibration != NULL
        && osr__calibration(m, row) == NULL)
        osr__fail(m->ctx, OSR_UNSUPPORTED, "score %s needs the tensor %s, which the model does not "
                  "hold: osr calibrate adds it", row->name, row->calibration);
    return m->ctx->status;
}

#define OSR__FAR 1e18f /* where a class without an image lies */

/* What the images of a calibration leave behind. Moments are of f - origin, the first image's
 * features, so that little cancels. */
typedef struct osr__gather {
    unsigned what;
    size_t images;
    double *sums;    /* [K, K + 1]: logits of the class's correct images, and their number */
    float *correct;  /* [count, K + 1]: the logits of every correct image, and its class */
    size_t count, capacity;
    double *means;   /* [K, F + 1]: features of the class's images, and their number */
    double *origin;  /* [F] */
    double *scatter; /* [F, F]: lower triangle of sums of products; NULL where F is too large */
} osr__gather;

static void osr__gather_free(osr_model *m)
{
    osr__gather *g = m->gather;
    const size_t k = (size_t)m->desc.classes, f = (size_t)m->feature_dims;
    if (g == NULL)
        return;
    osr__free(m->ctx, g->sums, k * (k + 1), sizeof(double));
    osr__free(m->ctx, g->correct, g->capacity, sizeof(float));
    osr__free(m->ctx, g->means, k * (f + 1), sizeof(double));
    osr__free(m->ctx, g->origin, f, sizeof(double));
    osr__free(m->ctx, g->scatter, f * f, sizeof(double));
    osr__free(m->ctx, g, 1, sizeof *g);
    m->gather = NULL;
}

static osr_status osr__model_names(osr_model *m, const osr_model_desc *d)
{
    osr_ctx *ctx = m->ctx;
    char number[16];
    int i;
    m->class_names = (char **)osr__alloc(ctx, (size_t)d->classes, sizeof *m->class_names);
    m->net_name = osr__copy_text(ctx, d->net_name != NULL ? d->net_name : "custom");
    for (i = 0; i < d->classes && ctx->status == OSR_OK; ++i) {
        snprintf(number, sizeof number, "%d", i);
        m->class_names[i] = osr__copy_text(ctx, d->class_names != NULL ? d->class_names[i]
                                                                       : number);
    }
    m->desc.class_names = (const char *const *)m->class_names;
    m->desc.net_name = m->net_name;
    return ctx->status;
}

static osr_status osr__model_build(osr_model *m, const osr_model_desc *d)
{
    osr_ctx *ctx = m->ctx;
    osr_net_desc nd;
    const osr_named *rows;
    int n, i;
    nd.height = d->height;
    nd.width = d->width;
    nd.channels = d->channels;
    nd.layers = d->layers;
    nd.layer_count = d->layer_count;
    if (osr__model_names(m, d) != OSR_OK || osr_net_create(ctx, &nd, &m->net) != OSR_OK)
        return ctx->status;
    m->desc.layers = osr_net_layers(m->net, NULL);
    rows = osr_net_tensors(m->net, &n);
    m->named_capacity = n + 4; /* anchors or prototypes or points, radius, rotation */
    m->named = (osr_named *)osr__alloc(ctx, (size_t)m->named_capacity, sizeof *m->named);
    if (m->named == NULL)
        return ctx->status;
    memcpy(m->named, rows, (size_t)n * sizeof *rows);
    m->named_count = n;
    n = osr__representation_layer(m);
    m->dims = osr_net_shape(m->net, n).dim[1];
    if (osr_net_shape(m->net, n).rank != 2)
        return osr__fail(ctx, OSR_SHAPE, "the layer before the last must give a vector an image");
    if (osr__model_head(m) != OSR_OK)
        return ctx->status;
    for (i = 0; i < m->named_count; ++i)
        if (m->named[i].trainable && m->trainable++ == 0)
            m->first = m->named[i].tensor;
    m->feature_dims = osr__feature_layer(m) < 0
                          ? m->dims
                          : osr_net_shape(m->net, osr__feature_layer(m)).dim[3];
    m->score = osr_score_find(d->score != NULL ? d->score : d->method->score);
    m->desc.score = m->score->name;
    return osr__score_given(m, m->score);
}

OSR_API osr_status osr_model_create(osr_ctx *ctx, const osr_model_desc *desc, osr_model **out)
{
    osr_model *m;
    *out = NULL;
    if (ctx->status != OSR_OK || osr__model_check(ctx, desc) != OSR_OK)
        return ctx->status;
    m = (osr_model *)osr__alloc(ctx, 1, sizeof *m);
    if (m == NULL)
        return ctx->status;
    m->ctx = ctx;
    m->desc = *desc;
    m->threshold = HUGE_VAL;
    if (osr__model_build(m, desc) != OSR_OK) {
        osr_model_destroy(m);
        return ctx->status;
    }
    *out = m;
    return OSR_OK;
}

OSR_API void osr_model_destroy(osr_model *m)
{
    osr_ctx *ctx;
    int i;
    if (m == NULL)
        return;
    ctx = m->ctx;
    for (i = 0; m->class_names != NULL && i < m->desc.classes; ++i)
        osr__free_text(ctx, m->class_names[i]);
    osr__free(ctx, m->class_names, (size_t)m->desc.classes, sizeof *m->class_names);
    osr__free_text(ctx, m->net_name);
    osr__free(ctx, m->named, (size_t)m->named_capacity, sizeof *m->named);
    osr__gather_free(m);
    for (i = 0; i < OSR__SCORES; ++i)
        osr__free(ctx, m->calibration[i], osr__calibration_count(m, &osr__scores[i]),
                  sizeof(float));
    osr__free(ctx, m->staging, m->staging_count, sizeof *m->staging);
    osr_net_destroy(m->net);
    osr__free(ctx, m, 1, sizeof *m);
}

OSR_API const osr_model_desc *osr_model_get_desc(const osr_model *model)
{
    return &model->desc;
}

OSR_API osr_ctx *osr_model_context(const osr_model *model)
{
    return model->ctx;
}

OSR_API const osr_named *osr_model_tensors(const osr_model *model, int *count)
{
    *count = model->named_count;
    return model->named;
}

OSR_API int osr_model_dims(const osr_model *model)
{
    return model->dims;
}

OSR_API int osr_model_feature_dims(const osr_model *model)
{
    return model->feature_dims;
}

/* Cross-entropy, with the second term of learned points where the method has them. */
static osr_tensor osr__points_loss(osr_model *m, const osr_model_values *v, osr_tensor labels,
                                   osr_tensor squared)
{
    osr_ctx *ctx = m->ctx;
    const osr_method_numbers *n = &m->desc.numbers;
    const osr_loss_kind kind = m->desc.method->loss;
    const osr_tensor ce = osr_loss_cross_entropy(ctx, v->logits, labels, n->smoothing);
    osr_tensor term;
    if (kind == OSR_LOSS_CE || !(n->lambda > 0.0f) || ctx->loss_rows)
        return ce;
    if (kind == OSR_LOSS_CENTER)
        squared = osr_squared_distance(ctx, v->representation, m->points, 1.0f, 1.0f / n->lambda);
    term = osr_loss_points(ctx, kind, squared, labels, m->radius);
    return osr_add(ctx, ce, osr_affine(ctx, term, n->lambda, 0.0f));
}

/* The method's loss; DIFAIR's has the penalty of its last convolution in training. */
static osr_tensor osr__model_loss(osr_model *m, const osr_model_values *v, osr_tensor labels,
                                  osr_tensor squared, int train)
{
    osr_ctx *ctx = m->ctx;
    const osr_method_numbers *n = &m->desc.numbers;
    osr_tensor loss, penalty;
    int i;
    switch (m->desc.method->loss) {
    case OSR_LOSS_CAC: return osr_loss_cac(ctx, v->distances, labels, n->lambda);
    case OSR_LOSS_MOVR:
        return osr_loss_movr(ctx, v->cosines, labels, n->temperature, n->margin);
    case OSR_LOSS_OVR: return osr_loss_ovr(ctx, v->logits, labels);
    case OSR_LOSS_DIFAIR: break;
    default: return osr__points_loss(m, v, labels, squared);
    }
    loss = osr_loss_difair(ctx, v->distances, labels,
                           n->radius * n->alpha * sqrtf(2.0f * (float)n->features), n->pull);
    for (i = m->desc.layer_count - 1; train && n->lambda > 0.0f && i >= 0; --i)
        if (m->desc.layers[i].kind == OSR_LAYER_CONV) {
            penalty = osr_loss_correlation(ctx, m->net->states[i].weight, n->features,
                                           (osr_correlation)n->correlation);
            return osr_add(ctx, loss, osr_affine(ctx, penalty, n->lambda, 0.0f));
        }
    return loss;
}

/* turns: {0}, or which way each image is turned; then the first quarter of them is upright. */
static osr_status osr__model_record(osr_model *m, osr_tensor images, osr_tensor labels,
                                    osr_tensor turns, int train, osr_model_values *v)
{
    osr_ctx *ctx = m->ctx;
    const osr_method_row *method = m->desc.method;
    osr_tensor x, last, turned, squared = osr__handle(ctx, 0);
    int i = m->desc.layer_count - 1;
    memset(v, 0, sizeof *v);
    x = osr_batchnorm(ctx, images, m->input_gamma, m->input_beta, m->input_mean, m->input_var,
                      NULL);
    last = osr_net_forward(m->net, x, train);
    if (ctx->status != OSR_OK)
        return ctx->status;
    v->representation = osr_net_output(m->net, osr__representation_layer(m));
    while (i > 0 && osr_net_shape(m->net, i).rank != 4)
        --i;
    if (osr_net_shape(m->net, i).rank == 4)
        v->maps = osr_net_output(m->net, i);
    if (turns.index != 0) {
        const int n = osr_shape_of(ctx, images).dim[0] / 4;
        turned = osr_linear(ctx, v->representation, m->turn_weight, m->turn_bias);
        turned = osr_loss_cross_entropy(ctx, turned, turns, 0.0f);
        v->representation = osr_first_rows(ctx, v->representation, n);
        last = osr_first_rows(ctx, last, n);
    }
    if (method->outputs & OSR_OUT_LOGITS)
        v->logits = last;
    if (method->loss > OSR_LOSS_CENTER) {
        squared = osr_squared_distance(ctx, last, m->points, 1.0f / (float)m->dims, 1.0f);
        v->logits = method->loss == OSR_LOSS_GCPL ? osr_affine(ctx, squared, -1.0f, 0.0f)
                    : method->loss == OSR_LOSS_RPL
                        ? squared
                        : osr_sub(ctx, squared, osr_matmul(ctx, last, m->points, 0, 1));
    }
    if (method->outputs & OSR_OUT_DISTANCES)
        v->distances = osr_anchor_distance(ctx, last, train ? m->ideal : m->anchors);
    if (method->outputs & OSR_OUT_COSINES) {
        v->cosines = osr_matmul(ctx, osr_normalise(ctx, last), osr_normalise(ctx, m->prototypes), 0,
                                1);
    }
    if (labels.index != 0) {
        v->loss = osr__model_loss(m, v, labels, squared, train);
        v->correct = v->distances.index != 0
                         ? osr_count_correct(ctx, v->distances, labels, -1)
                         : osr_count_correct(ctx, v->cosines.index != 0 ? v->cosines : v->logits,
                                             labels, 1);
        if (turns.index != 0)
            v->loss = osr_add(ctx, v->loss,
                              osr_affine(ctx, turned, m->desc.numbers.rotation, 0.0f));
    }
    return ctx->status;
}

OSR_API osr_status osr_model_forward(osr_model *m, osr_tensor images, osr_tensor labels, int train,
                                     osr_model_values *v)
{
    return osr__model_record(m, images, labels, osr__handle(m->ctx, 0), train, v);
}

static osr_tensor osr__model_input(osr_model *m, const float *images, int n)
{
    return osr_input(m->ctx, osr_shape_make(4, n, m->desc.height, m->desc.width, m->desc.channels),
                     images);
}

/* How often each of the images of osr_quarter_turns is turned. */
static osr_tensor osr__turn_labels(osr_model *m, int n)
{
    int32_t *times;
    int i;
    if (!osr__grow(m->ctx, &m->staging, &m->staging_count, 4 * (size_t)n, sizeof *m->staging))
        return osr__handle(m->ctx, 0);
    times = (int32_t *)(void *)m->staging;
    for (i = 0; i < 4 * n; ++i)
        times[i] = i / n;
    return osr_labels(m->ctx, 4 * n, 4, times);
}

OSR_API osr_status osr_model_train(osr_model *m, const float *images, const int32_t *labels, int n,
                                   const osr_optimiser_desc *optimiser, float *loss, float *correct)
{
    return osr_model_train_on(m, osr__model_input(m, images, n), labels, optimiser, loss, correct);
}

OSR_API osr_status osr_model_train_on(osr_model *m, osr_tensor x, const int32_t *labels,
                                      const osr_optimiser_desc *optimiser, float *loss,
                                      float *correct)
{
    osr_ctx *ctx = m->ctx;
    osr_model_values v;
    const int n = osr_shape_of(ctx, x).dim[0];
    const osr_tensor y = osr_labels(ctx, n, m->desc.classes, labels);
    osr_tensor turns = osr__handle(ctx, 0);
    if (ctx->status == OSR_OK && m->desc.numbers.rotation > 0.0f) {
        x = osr_quarter_turns(ctx, x);
        turns = osr__turn_labels(m, n);
    }
    if (ctx->status != OSR_OK || osr__model_record(m, x, y, turns, 1, &v) != OSR_OK)
        return ctx->status;
    osr_backward(ctx, v.loss);
    osr_optimiser_step(ctx, optimiser, m->first, m->trainable);
    osr_keep(ctx, v.loss);
    osr_keep(ctx, v.correct);
    if (loss != NULL)
        osr_read(ctx, v.loss, loss, 1);
    if (correct != NULL)
        osr_read(ctx, v.correct, correct, 1);
    return osr_step_end(ctx);
}

static osr_tensor osr__model_features(osr_model *m, const osr_model_values *v)
{
    const int layer = osr__feature_layer(m);
    const osr_tensor f = layer < 0 ? v->representation
                                   : osr_global_avg_pool(m->ctx, osr_net_output(m->net, layer));
    return m->desc.method->outputs & OSR_OUT_COSINES ? osr_normalise(m->ctx, f) : f;
}

/* The loss of each image under label 0, 1, ...: K handles of [N], without what only training does.
 * The caller gives them to osr__losses_read. */
static osr_tensor *osr__losses_record(osr_model *m, const osr_model_values *v, int n)
{
    const osr_method_numbers kept = m->desc.numbers;
    const size_t classes = (size_t)m->desc.classes;
    osr_tensor *losses = (osr_tensor *)osr__alloc(m->ctx, classes, sizeof *losses);
    int32_t *labels = (int32_t *)osr__alloc(m->ctx, (size_t)n, sizeof *labels);
    int k, i;
    m->desc.numbers.margin = m->desc.numbers.smoothing = 0.0f;
    m->ctx->loss_rows = 1;
    for (k = 0; losses != NULL && labels != NULL && k < m->desc.classes; ++k) {
        for (i = 0; i < n; ++i)
            labels[i] = k;
        losses[k] = osr__model_loss(m, v, osr_labels(m->ctx, n, m->desc.classes, labels),
                                    osr__handle(m->ctx, 0), 0);
    }
    m->ctx->loss_rows = 0;
    m->desc.numbers = kept;
    osr__free(m->ctx, labels, (size_t)n, sizeof *labels);
    return losses;
}

static void osr__losses_read(osr_model *m, osr_tensor *losses, int n, float *out)
{
    const size_t classes = (size_t)m->desc.classes;
    float *one = (float *)osr__alloc(m->ctx, (size_t)n, sizeof *one);
    size_t k, i;
    for (k = 0; one != NULL && k < classes && m->ctx->status == OSR_OK; ++k) {
        osr_read(m->ctx, losses[k], one, (size_t)n);
        for (i = 0; i < (size_t)n; ++i)
            out[i * classes + k] = one[i];
    }
    osr__free(m->ctx, one, (size_t)n, sizeof *one);
    osr__free(m->ctx, losses, classes, sizeof *losses);
}

static void osr__jacobian_score(osr_model *m, const float *images, int n, double *norms)
{
    osr_jacobian_desc d;
    memset(&d, 0, sizeof d);
    d.method = OSR_JACOBIAN_FD;
    d.direction = OSR_RADEMACHER;
    d.directions = OSR_JACOBIAN_SCORE_DIRECTIONS;
    osr_model_jacobian(m, images, n, &d, norms, NULL);
}

static void osr__read_if(osr_ctx *ctx, osr_tensor t, float *dst)
{
    if (dst != NULL && t.index != 0)
        osr_read(ctx, t, dst, osr_shape_count(osr_shape_of(ctx, t)));
}

OSR_API osr_status osr_model_run(osr_model *m, const float *images, const int32_t *labels, int n,
                                 const osr_outputs *out)
{
    osr_ctx *ctx = m->ctx;
    osr_model_values v;
    const osr_tensor x = osr__model_input(m, images, n);
    osr_tensor y = osr__handle(ctx, 0), features = y, *losses = NULL;
    if (labels != NULL)
        y = osr_labels(ctx, n, m->desc.classes, labels);
    if (ctx->status != OSR_OK || osr_model_forward(m, x, y, 0, &v) != OSR_OK)
        return ctx->status;
    if (out->features != NULL)
        features = osr__model_features(m, &v);
    if (out->losses != NULL)
        losses = osr__losses_record(m, &v, n);
    osr_keep(ctx, v.representation);
    if (v.logits.index != 0)
        osr_keep(ctx, v.logits);
    if (v.distances.index != 0)
        osr_keep(ctx, v.distances);
    if (v.cosines.index != 0)
        osr_keep(ctx, v.cosines);
    osr__read_if(ctx, v.logits, out->logits);
    osr__read_if(ctx, v.distances, out->distances);
    osr__read_if(ctx, v.cosines, out->cosines);
    osr__read_if(ctx, v.representation, out->representation);
    osr__read_if(ctx, v.loss, out->loss);
    osr__read_if(ctx, features, out->features);
    if (losses != NULL)
        osr__losses_read(m, losses, n, out->losses);
    if (osr_step_end(ctx) == OSR_OK && out->jacobian != NULL)
        osr__jacobian_score(m, images, n, out->jacobian);
    return ctx->status;
}

OSR_API osr_status osr_model_score(osr_model *m, const osr_score_row *row,
                                   const osr_outputs *outputs, int n, double *scores,
                                   int32_t *classes)
{
    osr_score_input in;
    memset(&in, 0, sizeof in);
    if (row != NULL && osr__score_ready(m, row) != OSR_OK)
        return m->ctx->status;
    if (row != NULL && row->calibration != NULL) {
        in.calibration = osr__calibration(m, row);
        in.calibration_count = osr__calibration_count(m, row);
    }
    in.logits = outputs->logits;
    in.distances = outputs->distances;
    in.cosines = outputs->cosines;
    in.representation = outputs->representation;
    in.features = outputs->features;
    in.losses = outputs->losses;
    in.jacobian = outputs->jacobian;
    in.classes = m->desc.classes;
    in.dims = m->dims;
    in.feature_dims = m->feature_dims;
    in.temperature = m->desc.numbers.temperature;
    in.margin = m->desc.numbers.margin;
    if (scores != NULL && osr_score_compute(m->ctx, row, &in, n, scores) != OSR_OK)
        return m->ctx->status;
    return classes == NULL ? m->ctx->status
                           : osr_predict_class(m->ctx, m->desc.method->rule, &in, n, classes);
}

/* -- calibration -- */

OSR_API osr_status osr_model_calibrate_start(osr_model *m, unsigned what)
{
    const size_t k = (size_t)m->desc.classes, f = (size_t)m->feature_dims;
    const unsigned outputs = m->desc.method->outputs;
    osr__gather *g;
    osr__gather_free(m);
    g = m->gather = m->ctx->status == OSR_OK ? (osr__gather *)osr__alloc(m->ctx, 1, sizeof *g)
                                             : NULL;
    if (g == NULL)
        return m->ctx->status;
    g->what = what & OSR_CALIBRATE_SCORES;
    if (m->desc.method->calibrates && (outputs & OSR_OUT_LOGITS))
        g->what |= what & OSR_CALIBRATE_METHOD;
    if (outputs & OSR_OUT_LOGITS)
        g->sums = (double *)osr__alloc(m->ctx, k * (k + 1), sizeof(double));
    if (what & OSR_CALIBRATE_SCORES) {
        g->means = (double *)osr__alloc(m->ctx, k * (f + 1), sizeof(double));
        g->origin = (double *)osr__alloc(m->ctx, f, sizeof(double));
        if (f <= OSR_MAHALANOBIS_MOST)
            g->scatter = (double *)osr__alloc(m->ctx, f * f, sizeof(double));
    }
    if (m->ctx->status != OSR_OK)
        osr__gather_free(m);
    return m->ctx->status;
}

/* Logits z of an image, which count where the largest is that of its label. */
static void osr__gather_logits(osr_model *m, const float *z, int label)
{
    osr__gather *g = m->gather;
    const size_t k = (size_t)m->desc.classes;
    double *sum = g->sums + (size_t)label * (k + 1);
    size_t j;
    if (osr__argmax(z, m->desc.classes) != label)
        return;
    for (j = 0; j < k; ++j)
        sum[j] += (double)z[j];
    sum[k] += 1.0;
    if (!(g->what & OSR_CALIBRATE_SCORES)
        || !osr__grow(m->ctx, &g->correct, &g->capacity, (g->count + 1) * (k + 1), sizeof(float)))
        return;
    memcpy(g->correct + g->count * (k + 1), z, k * sizeof *z);
    g->correct[g->count++ * (k + 1) + k] = (float)label;
}

static void osr__gather_features(osr_model *m, const float *x, int label)
{
    osr__gather *g = m->gather;
    const size_t f = (size_t)m->feature_dims;
    double *mean = g->means + (size_t)label * (f + 1);
    size_t i, j;
    for (i = 0; i < f; ++i) {
        const double a = (double)x[i] - (g->images == 0 ? g->origin[i] = (double)x[i]
                                                        : g->origin[i]);
        mean[i] += a;
        for (j = 0; g->scatter != NULL && a != 0.0 && j <= i; ++j)
            g->scatter[i * f + j] += a * ((double)x[j] - g->origin[j]);
    }
    mean[f] += 1.0;
    g->images++;
}

OSR_API osr_status osr_model_calibrate_add(osr_model *m, const float *images, const int32_t *labels,
                                           int n)
{
    osr_ctx *ctx = m->ctx;
    const int k = m->desc.classes, f = m->feature_dims;
    const size_t count = (size_t)(n > 0 ? n : 0) * ((size_t)k + (size_t)f);
    osr_outputs out;
    float *values;
    int i;
    if (ctx->status != OSR_OK)
        return ctx->status;
    if (m->gather == NULL || n < 1)
        return osr__fail(ctx, OSR_ARG, "osr_model_calibrate_add: not started, or no image");
    if (m->gather->what == 0)
        return OSR_OK;
    values = (float *)osr__alloc(ctx, count, sizeof *values);
    if (values == NULL)
        return ctx->status;
    memset(&out, 0, sizeof out);
    out.logits = m->gather->sums != NULL ? values : NULL;
    out.features = m->gather->means != NULL ? values + (size_t)n * (size_t)k : NULL;
    osr_model_run(m, images, NULL, n, &out);
    for (i = 0; i < n && ctx->status == OSR_OK; ++i) {
        if (labels[i] < 0 || labels[i] >= k)
            osr__fail(ctx, OSR_ARG, "osr_model_calibrate_add: label %d is %d", i, (int)labels[i]);
        else if (out.logits != NULL)
            osr__gather_logits(m, osr__row(out.logits, i, k), (int)labels[i]);
        if (ctx->status == OSR_OK && out.features != NULL)
            osr__gather_features(m, osr__row(out.features, i, f), (int)labels[i]);
    }
    osr__free(ctx, values, count, sizeof *values);
    return ctx->status;
}

static void osr__calibrate_anchors(osr_model *m)
{
    const size_t k = (size_t)m->desc.classes;
    float *anchors = (float *)osr__alloc(m->ctx, k * k, sizeof *anchors);
    size_t i, j;
    if (anchors == NULL)
        return;
    osr_read(m->ctx, m->anchors, anchors, k * k);
    for (i = 0; i < k; ++i) {
        const double *sum = m->gather->sums + i * (k + 1);
        for (j = 0; j < k && sum[k] > 0.0; ++j)
            anchors[i * k + j] = (float)(sum[j] / sum[k]);
    }
    osr_write(m->ctx, m->anchors, anchors, k * k);
    osr__free(m->ctx, anchors, k * k, sizeof *anchors);
}

static int osr__double_down(const void *a, const void *b)
{
    return osr__double_up(b, a);
}

/* Mean logits and Weibull tail of each class: out [K, K + 3]. */
static void osr__calibrate_openmax(osr_model *m, float *out)
{
    const osr__gather *g = m->gather;
    const size_t k = (size_t)m->desc.classes;
    double *distances = (double *)osr__alloc(m->ctx, g->count + 1, sizeof *distances);
    size_t c, i, n;
    for (c = 0; distances != NULL && c < k; ++c) {
        const double *sum = g->sums + c * (k + 1);
        float *row = out + c * (k + 3);
        double fit[3];
        for (i = 0; i < k; ++i)
            row[i] = sum[k] > 0.0 ? (float)(sum[i] / sum[k]) : 0.0f;
        for (i = n = 0; i < g->count; ++i)
            if ((size_t)g->correct[i * (k + 1) + k] == c)
                distances[n++] = osr__euclidean(g->correct + i * (k + 1), row, (int)k);
        osr__sort(distances, n, sizeof *distances, osr__double_down);
        osr__weibull_fit(distances, n < OSR_OPENMAX_TAIL ? n : OSR_OPENMAX_TAIL, 1.0, fit);
        for (i = 0; i < 3; ++i)
            row[k + i] = (float)(fit[i] < (double)FLT_MAX ? fit[i] : (double)FLT_MAX);
    }
    osr__free(m->ctx, distances, g->count + 1, sizeof *distances);
}

/* Mean features of each class: out [K, F]. */
static void osr__calibrate_means(osr_model *m, float *out)
{
    const size_t k = (size_t)m->desc.classes, f = (size_t)m->feature_dims;
    size_t c, i;
    for (c = 0; c < k; ++c) {
        const double *sum = m->gather->means + c * (f + 1);
        for (i = 0; i < f; ++i)
            out[c * f + i] = sum[f] > 0.0 ? (float)(m->gather->origin[i] + sum[i] / sum[f])
                                          : OSR__FAR;
    }
}

/* Sums of products to the covariance within classes, shrunk towards a multiple of I by OAS:
 * rho = ((1 - 2/p) tr C^2 + (tr C)^2) / ((n + 1 - 2/p) (tr C^2 - (tr C)^2 / p)), at most 1. */
static void osr__covariance(osr_model *m)
{
    const size_t k = (size_t)m->desc.classes, f = (size_t)m->feature_dims;
    double *s = m->gather->scatter, n = (double)m->gather->images, p = (double)f;
    double trace = 0.0, squares = 0.0, rho, below;
    size_t c, i, j;
    for (i = 0; i < f; ++i)
        for (j = 0; j <= i; ++j) {
            double *v = &s[i * f + j];
            for (c = 0; c < k; ++c) {
                const double *sum = m->gather->means + c * (f + 1);
                *v -= sum[f] > 0.0 ? sum[i] * sum[j] / sum[f] : 0.0;
            }
            *v /= n > 0.0 ? n : 1.0;
            trace += i == j ? *v : 0.0;
            squares += (i == j ? 1.0 : 2.0) * *v * *v;
        }
    below = (n + 1.0 - 2.0 / p) * (squares - trace * trace / p);
    rho = (1.0 - 2.0 / p) * squares + trace * trace;
    rho = rho < below ? rho / below : 1.0;
    for (i = 0; i < f; ++i)
        for (j = 0; j <= i; ++j)
            s[i * f + j] = (1.0 - rho) * s[i * f + j]
                           + (i != j ? 0.0 : trace > 0.0 ? rho * trace / p : 1.0);
}

/* S = L L' in place, then W = L^-1; lower triangles. */
static void osr__whiten(double *s, size_t f)
{
    const double floor_ = s[0] * DBL_EPSILON;
    size_t i, j, k;
    for (i = 0; i < f; ++i)
        for (j = 0; j <= i; ++j) {
            double v = s[i * f + j];
            for (k = 0; k < j; ++k)
                v -= s[i * f + k] * s[j * f + k];
            s[i * f + j] = i != j ? v / s[j * f + j] : sqrt(v > floor_ ? v : floor_);
        }
    for (j = 0; j < f; ++j)
        for (i = j; i < f; ++i) { /* column j of the inverse, below its diagonal */
            double v = i == j ? 1.0 : 0.0;
            for (k = j; k < i; ++k)
                v -= s[i * f + k] * s[k * f + j];
            s[i * f + j] = v / s[i * f + i];
        }
}

/* out [K + F, F]: W mean_k, W. */
static void osr__calibrate_mahalanobis(osr_model *m, float *out)
{
    const size_t k = (size_t)m->desc.classes, f = (size_t)m->feature_dims;
    const osr__gather *g = m->gather;
    float *w = out + k * f;
    size_t c, i, j;
    osr__covariance(m);
    osr__whiten(g->scatter, f);
    for (i = 0; i < f; ++i)
        for (j = 0; j < f; ++j)
            w[i * f + j] = j <= i ? (float)g->scatter[i * f + j] : 0.0f;
    for (c = 0; c < k; ++c) {
        const double *sum = g->means + c * (f + 1);
        for (i = 0; i < f; ++i) {
            double y = 0.0;
            for (j = 0; j <= i && sum[f] > 0.0; ++j)
                y += (double)w[i * f + j] * (g->origin[j] + sum[j] / sum[f]);
            out[c * f + i] = sum[f] > 0.0 ? (float)y : OSR__FAR;
        }
    }
}

/* Make the tensor of a score anew. */
static void osr__calibrate_score(osr_model *m, int at)
{
    const osr_score_row *row = &osr__scores[at];
    const size_t n = osr__calibration_count(m, row);
    if (m->calibration[at] == NULL)
        m->calibration[at] = (float *)osr__alloc(m->ctx, n, sizeof(float));
    if (m->calibration[at] == NULL)
        return;
    if (row->needs & OSR_OUT_LOGITS)
        osr__calibrate_openmax(m, m->calibration[at]);
    else if (row->fn == osr__score_ncm)
        osr__calibrate_means(m, m->calibration[at]);
    else
        osr__calibrate_mahalanobis(m, m->calibration[at]);
    if (osr__first_bad(m->calibration[at], n) < n)
        osr__fail(m->ctx, OSR_NAN, "osr_model_calibrate_end: %s is not finite", row->calibration);
}

OSR_API osr_status osr_model_calibrate_end(osr_model *m, int *empty)
{
    const osr__gather *g = m->gather;
    int i, k = m->desc.classes, none = 0;
    if (empty != NULL)
        *empty = 0;
    if (m->ctx->status != OSR_OK)
        return m->ctx->status;
    if (g == NULL)
        return osr__fail(m->ctx, OSR_ARG, "osr_model_calibrate_end: not started");
    for (i = 0; i < k && g->what != 0 && g->sums != NULL; ++i)
        none += g->sums[(size_t)i * ((size_t)k + 1) + (size_t)k] == 0.0;
    if (g->what & OSR_CALIBRATE_METHOD)
        osr__calibrate_anchors(m);
    for (i = 0; i < OSR__SCORES && (g->what & OSR_CALIBRATE_SCORES); ++i) {
        const osr_score_row *row = &osr__scores[i];
        if (row->calibration != NULL && m->ctx->status == OSR_OK
            && osr_score_lacks(row, m->desc.method->outputs) == NULL
            && (g->scatter != NULL || row->fn != osr__score_mahalanobis))
            osr__calibrate_score(m, i);
    }
    osr__gather_free(m);
    if (empty != NULL)
        *empty = none;
    return m->ctx->status;
}

OSR_API int osr_model_has_score(const osr_model *m, const osr_score_row *row)
{
    return osr_score_lacks(row, m->desc.method->outputs) == NULL
           && (row->calibration == NULL || osr__calibration(m, row) != NULL);
}

OSR_API osr_status osr_model_set_threshold(osr_model *m, const osr_score_row *row, double threshold)
{
    if (row == NULL || threshold != threshold)
        return osr__fail(m->ctx, OSR_ARG, "osr_model_set_threshold: %s",
                         row == NULL ? "no score" : "the threshold is NaN");
    if (osr__score_ready(m, row) != OSR_OK)
        return m->ctx->status;
    m->score = row;
    m->desc.score = row->name;
    m->threshold = threshold;
    return m->ctx->status;
}

OSR_API double osr_model_threshold(const osr_model *m, const osr_score_row **row)
{
    if (row != NULL)
        *row = m->score;
    return m->threshold;
}

/* One picture to the model's size and channels, in 0..1: bilinear, half-pixel centres. */
static void osr__picture(const osr_model *m, const unsigned char *p, int h, int w, int c,
                         float *out)
{
    const int oh = m->desc.height, ow = m->desc.width, oc = m->desc.channels;
    const size_t s = (size_t)c;
    int y, x, k;
    for (y = 0; y < oh; ++y) {
        const double sy = ((double)y + 0.5) * h / oh - 0.5, fy = sy < 0.0 ? 0.0 : sy;
        const int y0 = (int)fy < h - 1 ? (int)fy : h - 1, y1 = y0 < h - 1 ? y0 + 1 : y0;
        const float wy = (float)(fy - y0 < 1.0 ? fy - y0 : 1.0);
        for (x = 0; x < ow; ++x) {
            const double sx = ((double)x + 0.5) * w / ow - 0.5, fx = sx < 0.0 ? 0.0 : sx;
            const int x0 = (int)fx < w - 1 ? (int)fx : w - 1, x1 = x0 < w - 1 ? x0 + 1 : x0;
            const float wx = (float)(fx - x0 < 1.0 ? fx - x0 : 1.0);
            float v[3] = { 0.0f, 0.0f, 0.0f };
            for (k = 0; k < c; ++k) {
                const size_t r0 = (size_t)y0 * (size_t)w, r1 = (size_t)y1 * (size_t)w;
                const float a = p[(r0 + (size_t)x0) * s + (size_t)k];
                const float b = p[(r0 + (size_t)x1) * s + (size_t)k];
                const float d = p[(r1 + (size_t)x0) * s + (size_t)k];
                const float e = p[(r1 + (size_t)x1) * s + (size_t)k];
                const float top = a + (b - a) * wx, low = d + (e - d) * wx;
                v[k] = (top + (low - top) * wy) * (1.0f / 255.0f);
            }
            if (c == 3 && oc == 1)
                v[0] = 0.299f * v[0] + 0.587f * v[1] + 0.114f * v[2];
            for (k = 0; k < oc; ++k)
                *out++ = v[c == 1 ? 0 : k];
        }
    }
}

OSR_API osr_status osr_model_predict(osr_model *m, const unsigned char *pixels, int n, int height,
                                     int width, int channels, osr_prediction *predictions)
{
    osr_ctx *ctx = m->ctx;
    const size_t image = (size_t)m->desc.height * (size_t)m->desc.width * (size_t)m->desc.channels;
    const size_t k = (size_t)m->desc.classes;
    const size_t each = image + 4 * k + (size_t)m->dims + (size_t)m->feature_dims;
    const unsigned needs = m->score->needs;
    const size_t size = (size_t)height * (size_t)width * (size_t)channels;
    int at, i, b;
    if (ctx->status != OSR_OK)
        return ctx->status;
    if (pixels == NULL || n < 1 || height < 1 || width < 1 || (channels != 1 && channels != 3)
        || (channels == 3 && m->desc.channels != 3 && m->desc.channels != 1))
        return osr__fail(ctx, OSR_ARG, "osr_model_predict: %d pictures of %dx%d with %d channels",
                         n, height, width, channels);
    if (!osr__grow(ctx, &m->staging, &m->staging_count, each * OSR__PREDICT_BATCH,
                   sizeof *m->staging))
        return ctx->status;
    for (at = 0; at < n && ctx->status == OSR_OK; at += b) {
        double scores[OSR__PREDICT_BATCH], norms[OSR__PREDICT_BATCH];
        int32_t classes[OSR__PREDICT_BATCH];
        osr_outputs out;
        float *p = m->staging;
        b = n - at < OSR__PREDICT_BATCH ? n - at : OSR__PREDICT_BATCH;
        for (i = 0; i < b; ++i)
            osr__picture(m, pixels + (size_t)(at + i) * size, height, width, channels,
                         p + (size_t)i * image);
        memset(&out, 0, sizeof out);
        out.logits = p + image * (size_t)b;
        out.distances = out.logits + k * (size_t)b;
        out.cosines = out.distances + k * (size_t)b;
        out.losses = out.cosines + k * (size_t)b;
        out.features = out.losses + k * (size_t)b;
        out.representation = out.features + (size_t)m->feature_dims * (size_t)b;
        out.losses = needs & OSR_OUT_LOSSES ? out.losses : NULL;
        out.features = needs & OSR_OUT_FEATURES ? out.features : NULL;
        out.jacobian = needs & OSR_OUT_JACOBIAN ? norms : NULL;
        if (osr_model_run(m, p, NULL, b, &out) != OSR_OK
            || osr_model_score(m, m->score, &out, b, scores, classes) != OSR_OK)
            break;
        for (i = 0; i < b; ++i) {
            osr_prediction *r = &predictions[at + i];
            r->label = classes[i];
            r->name = m->class_names[classes[i]];
            r->score = scores[i];
            r->threshold = m->threshold;
            r->known = scores[i] <= m->threshold;
        }
    }
    return ctx->status;
}

/* The output whose Jacobian is wanted. */
static osr_tensor osr__jacobian_output(osr_model *m, osr_tensor x, osr_jacobian_of of)
{
    osr_model_values v;
    if (osr_model_forward(m, x, osr__handle(m->ctx, 0), 0, &v) != OSR_OK)
        return osr__handle(m->ctx, 0);
    if (of == OSR_JACOBIAN_LOGITS)
        return v.logits.index != 0    ? v.logits
               : v.cosines.index != 0 ? v.cosines
                                      : v.distances;
    return of == OSR_JACOBIAN_RAW ? v.representation : osr_normalise(m->ctx, v.representation);
}

/* Ends a step with its squared norms. */
static void osr__jacobian_add(osr_ctx *ctx, osr_tensor norm, int n, float *part, double *squares)
{
    int i;
    osr_read(ctx, norm, part, (size_t)n);
    osr_step_end(ctx);
    for (i = 0; i < n && ctx->status == OSR_OK; ++i)
        squares[i] += (double)part[i];
}

/* Squared norms of n images by one backward pass for each of the d outputs. */
static void osr__jacobian_exact(osr_model *m, const float *images, int n, int d, osr_jacobian_of of,
                                float *seed, float *part, double *squares)
{
    osr_ctx *ctx = m->ctx;
    int k, i;
    for (k = 0; k < d && ctx->status == OSR_OK; ++k) {
        const osr_tensor x = osr__model_input(m, images, n);
        const osr_tensor f = osr__jacobian_output(m, x, of);
        osr_tensor s;
        memset(seed, 0, (size_t)n * (size_t)d * sizeof *seed);
        for (i = 0; i < n; ++i)
            seed[(size_t)i * (size_t)d + (size_t)k] = 1.0f;
        s = osr_input(ctx, osr_shape_make(2, n, d, 0, 0), seed);
        osr__jacobian_add(ctx, osr_square_sum(ctx, osr_grad(ctx, f, s, x)), n, part, squares);
    }
}

/* Squared norms of n images by central differences along `all` directions, some at a time. Over
 * coordinates by the direct convolutions, which round least, and by two draws of the jitter. */
static void osr__jacobian_fd(osr_model *m, const float *images, int n, int all,
                             const osr_jacobian_desc *d, int own, float step, float *part,
                             double *squares)
{
    osr_ctx *ctx = m->ctx;
    const int coordinates = d->direction == OSR_COORDINATES, direct = ctx->direct;
    osr_perturb_desc p;
    p.step = step;
    p.jitter = coordinates ? OSR__JACOBIAN_JITTER * step : 0.0f;
    p.direction = d->direction;
    p.seed = d->seed;
    p.own = own;
    if (coordinates)
        ctx->direct = 1;
    for (p.first = 0; p.first < all && ctx->status == OSR_OK; p.first += p.count) {
        osr_tensor x, f, g;
        p.count = osr__max(OSR__JACOBIAN_BATCH / (2 * n), 1);
        if (p.count > all - p.first)
            p.count = all - p.first;
        x = osr__model_input(m, images, n);
        p.draw = 1;
        f = g = osr__jacobian_output(m, osr_perturb(ctx, x, &p), d->of);
        p.draw = 2;
        if (coordinates)
            g = osr__jacobian_output(m, osr_perturb(ctx, x, &p), d->of);
        osr__jacobian_add(ctx, osr_difference_norm(ctx, f, g, step, p.count), n, part, squares);
    }
    ctx->direct = direct;
}

OSR_API osr_status osr_model_jacobian(osr_model *m, const float *images, int n,
                                      const osr_jacobian_desc *desc, double *norms,
                                      osr_jacobian_method *used)
{
    osr_ctx *ctx = m->ctx;
    osr_jacobian_desc d;
    const size_t image = (size_t)m->desc.height * (size_t)m->desc.width * (size_t)m->desc.channels;
    int dims, all, i, at, b;
    float *work, step;
    size_t count;
    memset(&d, 0, sizeof d);
    if (desc != NULL)
        d = *desc;
    if (ctx->status != OSR_OK)
        return ctx->status;
    if (images == NULL || norms == NULL || n < 1
        || (d.direction != OSR_COORDINATES && d.directions < 1) || !(d.step >= 0.0f))
        return osr__fail(ctx, OSR_ARG, "osr_model_jacobian: %d images, %d directions, step %g", n,
                         d.directions, (double)d.step);
    dims = d.of == OSR_JACOBIAN_LOGITS ? m->desc.classes : m->dims;
    all = d.direction == OSR_COORDINATES ? (int)image : d.directions;
    if (d.method == OSR_JACOBIAN_AUTO) /* an exact output costs about two forward passes */
        d.method = d.direction == OSR_COORDINATES && dims < all ? OSR_JACOBIAN_EXACT
                                                                : OSR_JACOBIAN_FD;
    if (used != NULL)
        *used = d.method;
    step = d.direction == OSR_COORDINATES ? OSR_JACOBIAN_COORDINATE_STEP : OSR_JACOBIAN_STEP;
    step = 0.5f * (d.step > 0.0f ? d.step : step); /* pixels are 0..1 on the device */
    count = (size_t)OSR__PREDICT_BATCH * ((size_t)dims + 1);
    work = (float *)osr__alloc(ctx, count, sizeof *work);
    for (at = 0; work != NULL && at < n && ctx->status == OSR_OK; at += b) {
        b = n - at < OSR__PREDICT_BATCH ? n - at : OSR__PREDICT_BATCH;
        for (i = 0; i < b; ++i)
            norms[at + i] = 0.0;
        if (d.method == OSR_JACOBIAN_EXACT)
            osr__jacobian_exact(m, images + (size_t)at * image, b, dims, d.of, work,
                                work + (size_t)OSR__PREDICT_BATCH * (size_t)dims, norms + at);
        else
            osr__jacobian_fd(m, images + (size_t)at * image, b, all, &d,
                             d.own ? at + 1 : 0, step, work, norms + at);
        for (i = 0; i < b; ++i) /* dp/dx = 1/2 for pixels p = (x + 1) / 2 */
            norms[at + i] = 0.5
                            * sqrt(fmax(norms[at + i], 0.0)
                                   / (d.method == OSR_JACOBIAN_FD && d.direction != OSR_COORDINATES
                                          ? (double)all
                                          : 1.0));
    }
    osr__free(ctx, work, count, sizeof *work);
    return ctx->status;
}

/* -- models in files -- */

/* Appends a number: a point as the decimal sign, whatever the process's locale says. */
static void osr__text_number(osr__text *t, const char *separator, double v)
{
    const char *sign = localeconv()->decimal_point;
    char number[48], *found;
    snprintf(number, sizeof number, "%.17g", v);
    found = strstr(number, sign);
    if (found != NULL) {
        memmove(found + 1, found + strlen(sign), strlen(found + strlen(sign)) + 1);
        *found = '.';
    }
    osr__text_print(t, "%s%s", separator, number);
}

/* Stores the text under a key and frees it. */
static void osr__text_meta(osr__text *t, osr_writer *w, const char *key)
{
    osr__text_add(t, "", 1);
    if (!t->failed)
        osr_writer_meta(w, key, t->data);
    osr__free(t->ctx, t->data, t->capacity, 1);
    t->data = NULL;
    t->length = t->capacity = 0;
}

/* Reads a number and moves on; 0 where there is none. */
static int osr__number_read(const char **text, double *v)
{
    char copy[64], *end;
    const char *from = *text + strspn(*text, " ,");
    const size_t n = strcspn(from, " ,;\n"), whole = strcspn(from, " ,;\n.");
    if (n == 0 || n + 8 > sizeof copy)
        return 0;
    snprintf(copy, sizeof copy, "%.*s%s%.*s", (int)whole, from,
             whole < n ? localeconv()->decimal_point : "", whole < n ? (int)(n - whole - 1) : 0,
             whole < n ? from + whole + 1 : "");
    *v = strtod(copy, &end);
    *text = from + n;
    return *end == '\0' && *v == *v;
}

/* One row a number in metadata: the key (NULL: the row above's), where it is kept, whether it is
 * one for each channel, and the limits of an int (both 0: a float). */
typedef struct osr__field {
    const char *key;
    size_t at;
    int channels, low, high;
} osr__field;

#define OSR__INT(key, type, member, low, high) {key, offsetof(type, member), 0, low, high},
#define OSR__ANY(key, type, member) OSR__INT(key, type, member, -1000000000, 1000000000)
#define OSR__FLOAT(key, type, member) {key, offsetof(type, member), 0, 0, 0},
#define OSR__CHANNELS(key, type, member) {key, offsetof(type, member), 1, 0, 0},

static const osr__field osr__desc_fields[] = {
    OSR__INT("osr.input", osr_model_desc, height, 1, 65536)
    OSR__INT(NULL, osr_model_desc, width, 1, 65536)
    OSR__INT(NULL, osr_model_desc, channels, 1, 4)
    OSR__CHANNELS("osr.mean", osr_model_desc, mean)
    OSR__CHANNELS("osr.std", osr_model_desc, std)
    OSR__FLOAT("osr.numbers", osr_model_desc, numbers.alpha)
    OSR__FLOAT(NULL, osr_model_desc, numbers.lambda)
    OSR__FLOAT(NULL, osr_model_desc, numbers.radius)
    OSR__FLOAT(NULL, osr_model_desc, numbers.pull)
    OSR__FLOAT(NULL, osr_model_desc, numbers.temperature)
    OSR__FLOAT(NULL, osr_model_desc, numbers.margin)
    OSR__FLOAT(NULL, osr_model_desc, numbers.smoothing)
    OSR__ANY(NULL, osr_model_desc, numbers.features)
    OSR__ANY(NULL, osr_model_desc, numbers.correlation)
};
#define OSR__DESC_FIELDS (int)(sizeof osr__desc_fields / sizeof osr__desc_fields[0])

/* In the order in which they stand in osr.layers, behind the kind. */
static const osr__field osr__layer_fields[] = {
    OSR__ANY(NULL, osr_layer, out)
    OSR__ANY(NULL, osr_layer, size)
    OSR__ANY(NULL, osr_layer, stride)
    OSR__ANY(NULL, osr_layer, pad)
    OSR__ANY(NULL, osr_layer, pad_same)
    OSR__ANY(NULL, osr_layer, bias)
    OSR__ANY(NULL, osr_layer, channels)
    OSR__ANY(NULL, osr_layer, from)
    OSR__ANY(NULL, osr_layer, with)
    OSR__FLOAT(NULL, osr_layer, rate)
    OSR__FLOAT(NULL, osr_layer, slope)
    OSR__FLOAT(NULL, osr_layer, eps)
    OSR__FLOAT(NULL, osr_layer, momentum)
};
#define OSR__LAYER_FIELDS (int)(sizeof osr__layer_fields / sizeof osr__layer_fields[0])

/* The rows that share the first one's key, at most `most`. */
static int osr__fields_count(const osr__field *f, int most)
{
    int n = 1;
    while (n < most && f[n].key == NULL)
        n++;
    return n;
}

static void osr__fields_write(osr__text *t, const osr__field *f, int count, int channels,
                              const void *from)
{
    int i, k;
    for (i = 0; i < count; ++i)
        for (k = 0; k < (f[i].channels ? channels : 1); ++k) {
            const char *p = (const char *)from + f[i].at;
            osr__text_number(t, t->length ? " " : "", f[i].low < f[i].high
                             ? (double)((const int *)(const void *)p)[k]
                             : (double)((const float *)(const void *)p)[k]);
        }
}

/* Reads the rows and moves on; returns what is wrong, NULL if nothing. */
static const char *osr__fields_read(const char **text, const osr__field *f, int count,
                                    int channels, void *to)
{
    double v;
    int i, k;
    for (i = 0; i < count; ++i)
        for (k = 0; k < (f[i].channels ? channels : 1); ++k) {
            char *p = (char *)to + f[i].at;
            if (*text == NULL || !osr__number_read(text, &v))
                return "missing or malformed";
            if (f[i].low == f[i].high)
                ((float *)(void *)p)[k] = (float)v;
            else if (v != floor(v) || v < f[i].low || v > f[i].high)
                return "out of range";
            else
                ((int *)(void *)p)[k] = (int)v;
        }
    return NULL;
}

static osr_status osr__meta_write(osr_model *m, osr_writer *w)
{
    const osr_model_desc *d = &m->desc;
    osr__text t;
    int i, n;
    memset(&t, 0, sizeof t);
    t.ctx = m->ctx;
    osr_writer_meta(w, "osr.method", d->method->name);
    osr_writer_meta(w, "osr.net", m->net_name);
    osr_writer_meta(w, "osr.score", m->score->name);
    for (i = 0; i < OSR__DESC_FIELDS; i += n) {
        n = osr__fields_count(&osr__desc_fields[i], OSR__DESC_FIELDS - i);
        osr__fields_write(&t, &osr__desc_fields[i], n, d->channels, d);
        osr__text_meta(&t, w, osr__desc_fields[i].key);
    }
    if (d->numbers.rotation > 0.0f) {
        osr__text_number(&t, "", (double)d->numbers.rotation);
        osr__text_meta(&t, w, "osr.rotation");
    }
    if (m->threshold < HUGE_VAL && m->threshold > -HUGE_VAL) {
        osr__text_number(&t, "", m->threshold);
        osr__text_meta(&t, w, "osr.threshold");
    }
    for (i = 0; i < d->classes; ++i) {
        osr__text_put(&t, i == 0 ? "" : "\n");
        osr__text_put(&t, m->class_names[i]);
    }
    osr__text_meta(&t, w, "osr.classes");
    for (i = 0; i < d->layer_count; ++i) {
        osr__text_put(&t, i == 0 ? "" : ";");
        osr__text_put(&t, osr__layer_name(d->layers[i].kind));
        osr__fields_write(&t, osr__layer_fields, OSR__LAYER_FIELDS, 0, &d->layers[i]);
    }
    osr__text_meta(&t, w, "osr.layers");
    return m->ctx->status;
}

/* The values behind a handle, to a writer (file is NULL) or from a file. */
static void osr__tensor_move(osr_model *m, osr_writer *w, const osr_file *file, const char *prefix,
                             const char *name, osr_tensor t)
{
    osr_ctx *ctx = m->ctx;
    const osr_shape s = osr_shape_of(ctx, t);
    const size_t n = osr_shape_count(s);
    const osr_file_entry *e;
    uint64_t shape[OSR_FILE_RANK] = { 0 };
    char full[96];
    float *v;
    int i;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    for (i = 0; i < s.rank; ++i)
        shape[i] = (uint64_t)s.dim[i];
    e = file != NULL ? osr_file_find(file, full) : NULL;
    if (file != NULL && e == NULL) {
        osr__fail(ctx, OSR_FORMAT, "model file: tensor \"%s\" is missing", full);
        return;
    }
    if (e != NULL && (e->rank != s.rank || memcmp(e->shape, shape, sizeof shape) != 0)) {
        osr__fail(ctx, OSR_FORMAT, "model file: tensor \"%s\" does not have the shape %s", full,
                  osr__shape_text(s).s);
        return;
    }
    v = (float *)osr__alloc(ctx, n, sizeof *v);
    if (v == NULL)
        return;
    if (e != NULL && osr_file_read_f32(file, full, n, v) == OSR_OK)
        osr_write(ctx, t, v, n);
    if (e == NULL && osr_read(ctx, t, v, n) == OSR_OK) {
        const size_t bad = osr__first_bad(v, n);
        if (bad < n)
            osr__fail(ctx, OSR_NAN, "%s: value %lu is not finite", full, (unsigned long)bad);
        else
            osr_writer_tensor(w, full, OSR_DTYPE_F32, s.rank, shape, v);
    }
    osr__free(ctx, v, n, sizeof *v);
}

OSR_API osr_status osr_model_write(osr_model *m, osr_writer *w, int moments)
{
    osr_ctx *ctx = m->ctx;
    int i;
    osr__meta_write(m, w);
    for (i = 0; i < m->named_count && ctx->status == OSR_OK; ++i) {
        const osr_named *r = &m->named[i];
        osr__tensor_move(m, w, NULL, "", r->name, r->tensor);
        if (moments && r->trainable) {
            osr__tensor_move(m, w, NULL, "opt.m.", r->name, osr_moment(ctx, r->tensor, 1));
            if (ctx->arenas[OSR__MOMENT2].mem != NULL)
                osr__tensor_move(m, w, NULL, "opt.v.", r->name, osr_moment(ctx, r->tensor, 2));
        }
    }
    for (i = 0; i < OSR__SCORES && ctx->status == OSR_OK; ++i) {
        const osr_score_row *row = &osr__scores[i];
        uint64_t shape[2];
        osr__calibration_shape(row, m->desc.classes, m->feature_dims, shape);
        if (m->calibration[i] != NULL)
            osr_writer_tensor(w, row->calibration, OSR_DTYPE_F32, 2, shape, m->calibration[i]);
    }
    return ctx->status;
}

/* The scores' calibrations that the file has. */
static osr_status osr__calibrations_read(osr_model *m, const osr_file *file)
{
    osr_ctx *ctx = m->ctx;
    int i;
    for (i = 0; i < OSR__SCORES && ctx->status == OSR_OK; ++i) {
        const osr_score_row *row = &osr__scores[i];
        const size_t n = osr__calibration_count(m, row);
        const osr_file_entry *e = n > 0 ? osr_file_find(file, row->calibration) : NULL;
        uint64_t shape[2];
        osr__calibration_shape(row, m->desc.classes, m->feature_dims, shape);
        if (e == NULL || osr_score_lacks(row, m->desc.method->outputs) != NULL)
            continue;
        if (e->rank != 2 || e->shape[0] != shape[0] || e->shape[1] != shape[1])
            return osr__fail(ctx, OSR_FORMAT, "model file: tensor \"%s\" does not have the shape "
                             "[%lu, %lu]", row->calibration, (unsigned long)shape[0],
                             (unsigned long)shape[1]);
        m->calibration[i] = (float *)osr__alloc(ctx, n, sizeof(float));
        if (m->calibration[i] != NULL)
            osr_file_read_f32(file, row->calibration, n, m->calibration[i]);
    }
    return ctx->status;
}

static osr_status osr__meta_desc(osr_ctx *ctx, const osr_file *file, osr_model_desc *d)
{
    const char *method = osr_file_meta(file, "osr.method"), *text, *wrong = NULL;
    double rotation = 0.0;
    int i, n;
    memset(d, 0, sizeof *d);
    d->method = osr_method_find(method);
    if (d->method == NULL)
        return osr__fail(ctx, OSR_FORMAT, "model file: method \"%s\" is not known to osr %s",
                         method == NULL ? "(none)" : method, OSR_VERSION);
    d->net_name = osr_file_meta(file, "osr.net");
    d->score = osr_file_meta(file, "osr.score");
    for (i = 0; i < OSR__DESC_FIELDS; i += n) {
        n = osr__fields_count(&osr__desc_fields[i], OSR__DESC_FIELDS - i);
        text = osr_file_meta(file, osr__desc_fields[i].key);
        wrong = osr__fields_read(&text, &osr__desc_fields[i], n, d->channels, d);
        if (wrong != NULL || *text != '\0')
            return osr__fail(ctx, OSR_FORMAT, "model file: %s is %s", osr__desc_fields[i].key,
                             wrong != NULL ? wrong : "missing or malformed");
    }
    text = osr_file_meta(file, "osr.rotation");
    if (text != NULL && (!osr__number_read(&text, &rotation) || *text != '\0'
                         || !(rotation >= 0.0 && rotation <= 1e6)))
        return osr__fail(ctx, OSR_FORMAT, "model file: osr.rotation is malformed or out of range");
    d->numbers.rotation = (float)rotation;
    return ctx->status;
}

/* Pieces of a text, cut at c. */
static size_t osr__pieces(const char *text, char c)
{
    size_t n = 1;
    for (; *text != '\0'; ++text)
        n += *text == c;
    return n;
}

/* Splits osr.classes at its line ends; the names point into `copy`. */
static void osr__names_read(char *copy, const char **names, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        names[i] = copy;
        copy += strcspn(copy, "\n");
        *copy++ = '\0';
    }
}

/* Parses osr.layers; 0 where it is malformed. */
static int osr__layers_read(const char *text, osr_layer *layers, int count)
{
    int i, k;
    for (i = 0; i < count; ++i) {
        const size_t length = strcspn(text, " ");
        for (k = 0; k < OSR_LAYER_COUNT; ++k)
            if (strlen(osr__layer_name((osr_layer_kind)k)) == length
                && strncmp(text, osr__layer_name((osr_layer_kind)k), length) == 0)
                break;
        if (k == OSR_LAYER_COUNT)
            return 0;
        layers[i].kind = (osr_layer_kind)k;
        text += length;
        if (osr__fields_read(&text, osr__layer_fields, OSR__LAYER_FIELDS, 0, &layers[i]) != NULL
            || *text++ != (i + 1 < count ? ';' : '\0'))
            return 0;
    }
    return 1;
}

static osr_status osr__model_from_file(osr_ctx *ctx, const osr_file *file, osr_model_desc *d,
                                       osr_model **out)
{
    const char *layers = osr_file_meta(file, "osr.layers");
    const char *classes = osr_file_meta(file, "osr.classes");
    const char *threshold = osr_file_meta(file, "osr.threshold");
    size_t layer_count, class_count;
    osr_layer *table;
    const char **names;
    char *copy;
    if (layers == NULL || classes == NULL)
        return osr__fail(ctx, OSR_FORMAT, "model file: %s is missing",
                         layers == NULL ? "osr.layers" : "osr.classes");
    layer_count = osr__pieces(layers, ';');
    class_count = osr__pieces(classes, '\n');
    table = (osr_layer *)osr__alloc(ctx, layer_count, sizeof *table);
    names = (const char **)osr__alloc(ctx, class_count, sizeof *names);
    copy = osr__copy_text(ctx, classes);
    if (table != NULL && names != NULL && copy != NULL) {
        d->layers = table;
        d->layer_count = (int)layer_count;
        d->class_names = names;
        d->classes = (int)class_count;
        osr__names_read(copy, names, d->classes);
        if (!osr__layers_read(layers, table, d->layer_count))
            osr__fail(ctx, OSR_FORMAT, "model file: osr.layers is malformed");
        else
            osr_model_create(ctx, d, out);
    }
    osr__free(ctx, table, layer_count, sizeof *table);
    osr__free(ctx, (void *)names, class_count, sizeof *names);
    osr__free(ctx, copy, strlen(classes) + 1, 1);
    if (ctx->status == OSR_OK && threshold != NULL
        && (!osr__number_read(&threshold, &(*out)->threshold) || *threshold != '\0'))
        osr__fail(ctx, OSR_FORMAT, "model file: osr.threshold is missing or malformed");
    return ctx->status;
}

OSR_API osr_status osr_model_read(osr_ctx *ctx, const osr_file *file, osr_model **out)
{
    osr_model_desc d;
    osr_model *m = NULL;
    int i;
    *out = NULL;
    if (ctx->status == OSR_OK && osr__meta_desc(ctx, file, &d) == OSR_OK)
        osr__model_from_file(ctx, file, &d, &m);
    for (i = 0; m != NULL && i < m->named_count && ctx->status == OSR_OK; ++i)
        osr__tensor_move(m, NULL, file, "", m->named[i].name, m->named[i].tensor);
    if (ctx->status == OSR_OK && osr__calibrations_read(m, file) == OSR_OK)
        *out = m;
    else
        osr_model_destroy(m);
    return ctx->status;
}

OSR_API osr_status osr_model_read_moments(osr_model *m, const osr_file *file)
{
    osr_ctx *ctx = m->ctx;
    char name[96];
    int i;
    for (i = 0; i < m->named_count && ctx->status == OSR_OK; ++i) {
        const osr_named *r = &m->named[i];
        if (!r->trainable)
            continue;
        osr__tensor_move(m, NULL, file, "opt.m.", r->name, osr_moment(ctx, r->tensor, 1));
        snprintf(name, sizeof name, "opt.v.%s", r->name);
        if (osr_file_find(file, name) != NULL)
            osr__tensor_move(m, NULL, file, "opt.v.", r->name, osr_moment(ctx, r->tensor, 2));
    }
    return ctx->status;
}

OSR_API osr_status osr_model_save(osr_model *m, const char *path)
{
    osr_writer *w = NULL;
    if (osr_writer_create(m->ctx, &w) == OSR_OK && osr_model_write(m, w, 0) == OSR_OK)
        osr_writer_save(w, path);
    osr_writer_destroy(w);
    return m->ctx->status;
}

/* Reads the model of a file (NULL: it could not be opened) and closes it. */
static osr_status osr__model_take(osr_ctx *ctx, osr_file *file, osr_model **out)
{
    *out = NULL;
    if (file != NULL)
        osr_model_read(ctx, file, out);
    osr_file_close(file);
    return ctx->status;
}

OSR_API osr_status osr_model_load(osr_ctx *ctx, const char *path, osr_model **out)
{
    osr_file *file = NULL;
    osr_file_open(ctx, path, NULL, &file);
    return osr__model_take(ctx, file, out);
}

OSR_API osr_status osr_model_load_memory(osr_ctx *ctx, const void *data, size_t bytes,
                                         osr_model **out)
{
    osr_file *file = NULL;
    osr_file_open_memory(ctx, data, bytes, "model in memory", NULL, &file);
    return osr__model_take(ctx, file, out);
}

/* The kernels: kernels/embed.c writes what stands between the next two lines. */
/* >>> kernels */
static const char *const osr__cl_common[] = {
"#line 1 \"kernels/common.cl\"\n",
"/* common.cl - what every kernel file uses: the two families, layouts, sums, random numbers\n",
" *\n",
" * Families: OSR_GPU 0 runs one work-item a work-group (LS 1), which CPU drivers turn into a plain\n",
" * loop on one core; OSR_GPU 1 runs LS items a group with trees in local memory. Kernels that are\n",
" * not convolutions or matrix products are written once for both.\n",
" *\n",
" * Image: float [N][CB][HP][WP][8], channels in blocks of 8, a zero halo round each plane, zeros in\n",
" * lanes beyond C. Its layout travels as int4 (base, row, plane, img), in floats. Dense: row-major\n",
" * [rows][cols] as (buffer, offset in floats). */\n",
"#define OSR_COMMON\n",
"#ifndef OSR_GPU\n",
"#define OSR_GPU 0\n",
"#endif\n",
"#ifndef LS\n",
"#if OSR_GPU\n",
"#define LS 64\n",
"#else\n",
"#define LS 1\n",
"#endif\n",
"#endif\n",
"\n",
"#define OSR_KERNEL __kernel __attribute__((reqd_work_group_size(LS, 1, 1))) void\n",
"\n",
"/* A function that CPU drivers compile by itself. PoCL makes three copies of a kernel and of what it\n",
" * inlines, of which one runs; what a kernel calls is made once. Work-item functions, which PoCL\n",
" * knows in kernels only, would have it inlined after all: their values are arguments. Vectors of\n",
" * 512 bits, where there are any, are kept whole as they are in a kernel. */\n",
"#if OSR_GPU\n",
"#define OSR_PART static inline void\n",
"#else\n",
"#define OSR_PART static __attribute__((noinline, min_vector_width(512))) void\n",
"#endif\n",
"\n",
"/* Before a loop that is not worth its unrolling: code that drivers would compile for long. */\n",
"#define ROLLED _Pragma(\"clang loop unroll(disable) vectorize(disable)\")\n",
"\n",
"#define LOAD8(p) (*(__global const float8 *)(p))\n",
"#define STORE8(p, v) (*(__global float8 *)(p) = (v))\n",
"\n",
"/* A hint to bring the line of 64 bytes at p into a CPU's second-level cache. */\n",
"#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))\n",
"#define HINT(p) __builtin_prefetch((const void *)(size_t)(p), 0, 2)\n",
"#else\n",
"#define HINT(p) ((void)(p))\n",
"#endif\n",
"\n",
"/* Where the 8 lanes of pixel (y, x) in block cb of image n begin. */\n",
"static inline size_t image_at(const int4 l, int n, int cb, int y, int x)\n",
"{\n",
"    return (size_t)n * (size_t)l.w + (size_t)(l.x + cb * l.z + y * l.y + x * 8);\n",
"}\n",
"\n",
"/* Every pixel (y, x) of an h x w plane, shared among the items of the group. */\n",
"#if OSR_GPU\n",
"#define FOR_PIXELS(y, x, h, w)                                                                     \\\n",
"    for (int p_ = (int)get_local_id(0), y = p_ / (w), x = p_ % (w); p_ < (h) * (w);                \\\n",
"         p_ += LS, y = p_ / (w), x = p_ % (w))\n",
"#else\n",
"#define FOR_PIXELS(y, x, h, w)                                                                     \\\n",
"    for (int y = 0; y < (h); ++y)                                                                  \\\n",
"        for (int x = 0; x < (w); ++x)\n",
"#endif\n",
"\n",
"/* Runs the statement `each` for every pixel (y, x), with k in 0..SUM_PARTS-1 in scope: sums kept\n",
" * apart by k need not wait for each other on a CPU; add_up8 brings them together. */\n",
"#if OSR_GPU\n",
"#define SUM_PARTS 1\n",
"#define SUM_PIXELS(y, x, k, h, w, each)                                                            \\\n",
"    FOR_PIXELS(y, x, h, w)                                                                         \\\n",
"    {                                                                                              \\\n",
"        const int k = 0;                                                                           \\\n",
"        each;                                                                                      \\\n",
"    }\n",
"#else\n",
"#define SUM_PARTS 4\n",
"#define SUM_PIXELS(y, x, k, h, w, each)                                                            \\\n",
"    for (int y = 0; y < (h); ++y) {                                                                \\\n",
"        int x_ = 0;                                                                                \\\n",
"        for (; x_ + SUM_PARTS <= (w); x_ += SUM_PARTS) {                                           \\\n",
"            _Pragma(\"unroll\") for (int k = 0; k < SUM_PARTS; ++k) {                                \\\n",
"                const int x = x_ + k;                                                              \\\n",
"                each;                                                                              \\\n",
"            }                                                                                      \\\n",
"        }                                                                                          \\\n",
"        for (; x_ < (w); ++x_) {                                                                   \\\n",
"            const int x = x_, k = 0;                                                               \\\n",
"            each;                                                                                  \\\n",
"        }                                                                                          \\\n",
"    }\n",
"#endif\n",
"\n",
"static inline void clear8(float8 *v)\n",
"{\n",
"    for (int k = 0; k < SUM_PARTS; ++k)\n",
"        v[k] = (float8)(0.0f);\n",
"}\n",
"\n",
"static inline float8 add_up8(const float8 *v)\n",
"{\n",
"#if SUM_PARTS == 4\n",
"    return (v[0] + v[1]) + (v[2] + v[3]);\n",
"#else\n",
"    return v[0];\n",
"#endif\n",
"}\n",
"\n",
"/* Every index i < n of a row, shared among the items of the group. */\n",
"#if LS > 1\n",
"#define FOR_ROW(i, n) for (int i = (int)get_local_id(0); i < (n); i += LS)\n",
"#else\n",
"#define FOR_ROW(i, n) ROLLED for (int i = 0; i < (n); ++i)\n",
"#endif\n",
"\n",
"/* The 8 lanes of a block: at once on a CPU, one an item else. */\n",
"#if OSR_GPU\n",
"typedef float lanes;\n",
"#define LANES(p) (*(p))\n",
"#define FOR_LANES(i) FOR_ROW(i, 8)\n",
"#else\n",
"typedef float8 lanes;\n",
"#define LANES(p) (*(__global float8 *)(p))\n",
"#define FOR_LANES(i) for (int i = 0; i < 8; i += 8)\n",
"#endif\n",
"\n",
"/* Every index of a flat array: CHUNK consecutive ones a work-group on a CPU, one an item else. */\n",
"#define CHUNK 4096\n",
"#if OSR_GPU\n",
"#define FOR_FLAT(i, n)                                                                             \\\n",
"    for (int i = (int)get_global_id(0), e_ = min(i + 1, (n)); i < e_; ++i)\n",
"#else\n",
"#define FOR_FLAT(i, n)                                                                             \\\n",
"    for (int i = (int)get_group_id(0) * CHUNK, e_ = min(i + CHUNK, (n)); i < e_; ++i)\n",
"#endif\n",
"\n",
"/* Sums and maxima over a work-group in a fixed tree; every item gets the result. `tmp` is local\n",
" * memory of LS elements; safe to call again with the same tmp. */\n",
"#if LS > 1\n",
"#define OSR_TREE(type, name, combine)                                                              \\\n",
"    static inline type name(type v, __local type *tmp)                                             \\\n",
"    {                                                                                              \\\n",
"        const int id = (int)get_local_id(0);                                                       \\\n",
"        barrier(CLK_LOCAL_MEM_FENCE);                                                              \\\n",
"        tmp[id] = v;                                                                               \\\n",
"        barrier(CLK_LOCAL_MEM_FENCE);                                                              \\\n",
"        for (int s = LS / 2; s > 0; s /= 2) {                                                      \\\n",
"            if (id < s) {                                                                          \\\n",
"                type a = tmp[id], b = tmp[id + s];                                                 \\\n",
"                tmp[id] = combine;                                                                 \\\n",
"            }                                                                                      \\\n",
"            barrier(CLK_LOCAL_MEM_FENCE);                                                          \\\n",
"        }                                                                                          \\\n",
"        return tmp[0];                                                                             \\\n",
"    }\n",
"#else\n",
"#define OSR_TREE(type, name, combine)                                                              \\\n",
"    static inline type name(type v, __local type *tmp)                                             \\\n",
"    {                                                                                              \\\n",
"        (void)tmp;                                                                                 \\\n",
"        return v;                                                                                  \\\n",
"    }\n",
"#endif\n",
"OSR_TREE(float, group_sum, a + b)\n",
"OSR_TREE(float, group_max, fmax(a, b))\n",
"OSR_TREE(float8, group_sum8, a + b)\n",
"\n",
"/* Ones in the lanes of block cb that are real channels, zeros beyond. */\n",
"static inline float8 real_lanes(int cb, int c)\n",
"{\n",
"    const int8 lane = (int8)(0, 1, 2, 3, 4, 5, 6, 7) + cb * 8;\n",
"    return select((float8)(0.0f), (float8)(1.0f), lane < c);\n",
"}\n",
"\n",
"/* 8 values of a vector of c floats from block cb on; zeros beyond. */\n",
"static inline float8 load_lanes(__global const float *v, int cb, int c)\n",
"{\n",
"    float t[8];\n",
"#pragma unroll\n",
"    for (int i = 0; i < 8; ++i)\n",
"        t[i] = cb * 8 + i < c ? v[cb * 8 + i] : 0.0f;\n",
"    return (float8)(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);\n",
"}\n",
"\n",
"/* What follows a convolution to C channels of planes `plane` floats apart: kind 0 nothing (slope\n",
" * 1), 1 the leaky rectifier, 2 scale and shift from coef [4][8*ceil(C/8)] (see norm.cl), then the\n",
" * rectifier; and, for CPUs, all of it for the 16 channels that it was last moved to. */\n",
"typedef struct conv_after {\n",
"    __global const float *coef;\n",
"    int kind;\n",
"    float slope;\n",
"    int C, plane, upper;\n",
"    float16 scale, shift;\n",
"    int16 live;\n",
"} conv_after;\n",
"\n",
"static inline conv_after conv_after_of(__global const float *coef, int kind, float slope, int C,\n",
"                                       int plane)\n",
"{\n",
"    const conv_after a = {coef, kind, slope, C, plane, 0, 1.0f, 0.0f, -1};\n",
"\n",
"    return a;\n",
"}\n",
"\n",
"/* Moves to 16-block b. */\n",
"static inline void conv_after_at(conv_after *a, int b)\n",
"{\n",
"    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);\n",
"    const int C8 = (a->C + 7) / 8 * 8, up = b * 16 + 8 < C8 ? 8 : 0;\n",
"    __global const float *k = a->coef + b * 16;\n",
"\n",
"    a->upper = up ? a->plane : 0;\n",
"    a->live = lane + b * 16 < a->C;\n",
"    if (a->kind == 2) {\n",
"        a->scale = (float16)(LOAD8(k), LOAD8(k + up));\n",
"        a->shift = (float16)(LOAD8(k + C8), LOAD8(k + C8 + up));\n",
"    }\n",
"}\n",
"\n",
"/* Writes one pixel, at p. Where there is no upper 8-block the lower one is written over it. */\n",
"static inline void conv_after_put(const conv_after *a, __global float *p, float16 v)\n",
"{\n",
"    v = v * a->scale + a->shift;\n",
"    v = select((float16)(0.0f), select(v * a->slope, v, v > (float16)(0.0f)), a->live);\n",
"    STORE8(p + a->upper, v.hi);\n",
"    STORE8(p, v.lo);\n",
"}\n",
"\n",
"/* Batch statistics of 16 channels of what a work-group puts out: sums about the first value. */\n",
"typedef struct conv_sums {\n",
"    float16 pivot, sum, square;\n",
"    float count;\n",
"} conv_sums;\n",
"\n",
"static inline void conv_sums_add(conv_sums *s, float16 v)\n",
"{\n",
"    const float16 d = v - s->pivot;\n",
"    s->sum += d;\n",
"    s->square += d * d;\n",
"}\n",
"\n",
"/* Mean, sum of squared deviations and count (0: of nothing) of channels 8cb .. 8cb + 15, below OC,\n",
" * to row g of part [3][G][8*ceil(OC/8)], as norm_merge wants them. */\n",
"static inline void conv_sums_put(const conv_sums *s, __global float *part, int g, int G, int cb,\n",
"                                 int OC)\n",
"{\n",
"    const int C8 = (OC + 7) / 8 * 8;\n",
"    const float16 mean = s->pivot + s->sum / max(s->count, 1.0f);\n",
"    const float16 square = s->square - s->sum * s->sum / max(s->count, 1.0f);\n",
"    const float16 out[3] = {mean, max(square, (float16)(0.0f)), (float16)(s->count)};\n",
"\n",
"    for (int i = 0; i < 3; ++i) {\n",
"        __global float *p = part + ((size_t)i * G + g) * C8 + cb * 8;\n",
"        STORE8(p, out[i].lo);\n",
"        if (cb * 8 + 8 < OC)\n",
"            STORE8(p + 8, out[i].hi);\n",
"    }\n",
"}\n",
"\n",
"/* Philox 4x32-10 (Salmon et al., SC 2011): four random words of a counter under a key. */\n",
"static inline uint4 philox(uint4 c, uint2 k)\n",
"{\n",
"    for (int r = 0; r < 10; ++r) {\n",
"        const uint h0 = mul_hi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x;\n",
"        const uint h1 = mul_hi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;\n",
"        c = (uint4)(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);\n",
"        k += (uint2)(0x9E3779B9u, 0xBB67AE85u);\n",
"    }\n",
"    return c;\n",
"}\n",
"\n",
"/* Uniform in (0, 1): the upper 24 bits of a word, centred. */\n",
"static inline float uniform01(uint w)\n",
"{\n",
"    return ((float)(w >> 8) + 0.5f) * (1.0f / 16777216.0f);\n",
"}\n",
};
static const char *const osr__cl_augment[] = {
"#line 1 \"kernels/augment.cl\"\n",
"/* augment.cl - a batch of byte images, augmented, as the network's input\n",
" *\n",
" * The host has drawn what is random; a row of the table says what becomes of an image:\n",
" *   ROW_IMAGE     its number in the set\n",
" *   ROW_CROP      x and y of the crop in the image, negative in the padding\n",
" *   ROW_FLIP      1: mirrored\n",
" *   ROW_TURN      rotation, affine map in 16.16: x' = (a0 x + a1 y + a2) >> 16, y' with a3 to a5\n",
" *   ROW_CUT       x0, y0, x1, y1 of what is cut out (x1 and y1 beyond it)\n",
" *   ROW_BOX       x, y, width, height of the part that is scaled to the whole\n",
" *   ROW_TONE      contrast factor, brightness in grey levels\n",
" *   ROW_OPS       8 words for each RandAugment op: code, arguments; Pillow's first\n",
" * Between two stages an image is float [H][W][C] in grey levels, in one of two halves of `work`;\n",
" * RandAugment's ops work on whole grey levels, as bytes do.\n",
" *\n",
" * One group of LS items an image in every kernel; `from` says which half is read, the other one is\n",
" * written. `facts` is what an op has to know of the whole image, FACTS words each: a table of new\n",
" * values for each channel, then means (of each channel, of the grey levels). */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"#pragma OPENCL FP_CONTRACT OFF\n",
"\n",
"enum { ROW_IMAGE, ROW_CROP, ROW_FLIP = 3, ROW_TURN, ROW_CUT = 10, ROW_BOX = 14, ROW_TONE = 18,\n",
"       ROW_OPS = 20 };\n",
"\n",
"/* As OSR__AUG_ in osr.h. In comments the arguments. */\n",
"enum { OP_NONE, OP_AUTO_CONTRAST, OP_EQUALIZE, OP_INVERT, OP_POSTERIZE /* mask */,\n",
"       OP_SOLARIZE /* threshold */, OP_SOLARIZE_ADD /* addition, 1: as Pillow's */,\n",
"       OP_COLOR /* factor, 1: TensorFlow's grey */, OP_CONTRAST /* factor */,\n",
"       OP_BLEND /* factor, grey level */, OP_SHARPNESS /* factor, rounding */,\n",
"       OP_AFFINE /* a0 to a5 in 16.16 */, OP_REFLECT /* a0 to a5 */,\n",
"       OP_CUT /* x0, y0, x1, y1, red, green, blue */ };\n",
"\n",
"#define FACTS (3 * 256 + 4)\n",
"\n",
"/* The image of this group: its row, where it is read from and where written. */\n",
"#define IMAGE(table, words, work, half_, from)                                                     \\\n",
"    const int n = (int)get_group_id(0);                                                            \\\n",
"    __global const int *row = table + n * words;                                                   \\\n",
"    __global const float *a = work + ((size_t)n * 2 + from) * (size_t)half_;                       \\\n",
"    __global float *b = work + ((size_t)n * 2 + 1 - from) * (size_t)half_;\n",
"\n",
"static inline float whole(float v)\n",
"{\n",
"    return floor(clamp(v, 0.0f, 255.0f));\n",
"}\n",
"\n",
"static inline float blend(float degenerate, float v, float factor)\n",
"{\n",
"    return whole(degenerate + factor * (v - degenerate));\n",
"}\n",
"\n",
"/* Pillow's conversion to L. */\n",
"static inline float grey_level(__global const float *p, int C)\n",
"{\n",
"    const int3 v = convert_int3((float3)(p[0], p[C / 2], p[C - 1]));\n",
"    return C == 1 ? p[0] : (float)((v.x * 19595 + v.y * 38470 + v.z * 7471 + 0x8000) >> 16);\n",
"}\n",
"\n",
"/* tf.image.rgb_to_grayscale: weights that add up to 0.9999, through 0..1 and back. */\n",
"static inline float grey_level_tf(__global const float *p, int C)\n",
"{\n",
"    return C == 1 ? p[0]\n",
"                  : whole((0.2989f * p[0] + 0.587f * p[1] + 0.114f * p[2]) * (255.5f / 255.0f));\n",
"}\n",
"\n",
"/* The histogram t of `count` values to a table of new values. For one item. */\n",
"static inline void make_table(int code, __local const int *t, int count, __global int *to)\n",
"{\n",
"    int low = 0, high = 255;\n",
"    while (low < 255 && t[low] == 0)\n",
"        ++low;\n",
"    while (high > 0 && t[high] == 0)\n",
"        --high;\n",
"    const int step = (count - t[high]) / 255, span = high - low;\n",
"    int sum = step / 2;\n",
"    for (int i = 0; i < 256; ++i) {\n",
"        if (code == OP_EQUALIZE)\n",
"            to[i] = step == 0 ? i : min(sum / step, 255);\n",
"        else\n",
"            to[i] = span <= 0 ? i : clamp((i - low) * 255 / span, 0, 255);\n",
"        sum += t[i];\n",
"    }\n",
"}\n",
"\n",
"/* Ops that look at one value. */\n",
"static inline float by_value(int code, __global const int *p, float v)\n",
"{\n",
"    float w;\n",
"    switch (code) {\n",
"    case OP_INVERT: return 255.0f - v;\n",
"    case OP_POSTERIZE: return (float)((int)v & p[0]);\n",
"    case OP_SOLARIZE: return v < (float)p[0] ? v : 255.0f - v;\n",
"    case OP_SOLARIZE_ADD:\n",
"        w = fmin(v + (float)p[0], 255.0f);\n",
"        return p[1] ? (w < 128.0f ? w : 255.0f - w) : v < 128.0f ? w : v;\n",
"    case OP_BLEND: return blend((float)p[1], v, as_float(p[0]));\n",
"    default: return v;\n",
"    }\n",
"}\n",
"\n",
"/* Colour, contrast, sharpness: a blend of pixel (x, y) with a degenerate image. */\n",
"static inline void by_blend(__global const int *p, __global const float *a, __global float *b,\n",
"                            int y, int x, int H, int W, int C, float mean)\n",
"{\n",
"    const int code = p[0], at = (y * W + x) * C;\n",
"    const int inside = code == OP_SHARPNESS && y > 0 && y < H - 1 && x > 0 && x < W - 1;\n",
"    const float grey = code != OP_COLOR ? mean\n",
"                       : p[2]           ? grey_level_tf(a + at, C)\n",
"                                        : grey_level(a + at, C);\n",
"    for (int c = 0; c < C; ++c) {\n",
"        __global const float *s = a + at + c;\n",
"        float d = code == OP_SHARPNESS ? s[0] : grey;\n",
"        if (inside) {\n",
"            d = 4.0f * s[0];\n",
"            for (int k = 0; k < 9; ++k)\n",
"                d += s[((k / 3 - 1) * W + k % 3 - 1) * C];\n",
"            d = floor(d / 13.0f + as_float(p[2]));\n",
"        }\n",
"        b[at + c] = blend(d, s[0], as_float(p[1]));\n",
"    }\n",
"}\n",
"\n",
"/* TensorFlow's fill mode \"reflect\" (d c b a | a b c d | d c b a) of a coordinate, in its own\n",
" * floating-point steps, then the nearest pixel. */\n",
"static inline int reflected(float v, int n)\n",
"{\n",
"    const float size = (float)n, twice = 2.0f * size;\n",
"    if (n == 1)\n",
"        return 0;\n",
"    if (v < 0.0f) {\n",
"        if (v < twice)\n",
"            v += twice * trunc(-v / twice);\n",
"        v = v < -size ? v + twice : -v - 1.0f;\n",
"    } else if (v > size - 1.0f) {\n",
"        v -= twice * trunc(v / twice);\n",
"        if (v >= size)\n",
"            v = twice - v - 1.0f;\n",
"    }\n",
"    return (int)round(clamp(v, 0.0f, size - 1.0f));\n",
"}\n",
"\n",
"/* Where pixel (x, y) comes from under an affine map in 16.16. */\n",
"static inline int2 turned(__global const int *m, int x, int y)\n",
"{\n",
"    return (int2)((m[0] * x + m[1] * y + m[2]) >> 16, (m[3] * x + m[4] * y + m[5]) >> 16);\n",
"}\n",
"\n",
"static inline int holds(int2 at, int H, int W)\n",
"{\n",
"    return at.x >= 0 && at.x < W && at.y >= 0 && at.y < H;\n",
"}\n",
"\n",
"/* Ops that move pixels or paint over them. */\n",
"static inline void by_place(__global const int *p, __global const float *a, __global float *b,\n",
"                            int y, int x, int H, int W, int C)\n",
"{\n",
"    const int hidden = p[0] == OP_CUT && x >= p[1] && y >= p[2] && x <= p[3] && y <= p[4];\n",
"    int2 at = (int2)(x, y);\n",
"    if (p[0] == OP_AFFINE) {\n",
"        at = turned(p + 1, x, y);\n",
"    } else if (p[0] == OP_REFLECT) {\n",
"        const float fx = (float)x, fy = (float)y;\n",
"        at.x = reflected(as_float(p[1]) * fx + as_float(p[2]) * fy + as_float(p[3]), W);\n",
"        at.y = reflected(as_float(p[4]) * fx + as_float(p[5]) * fy + as_float(p[6]), H);\n",
"    }\n",
"    for (int c = 0; c < C; ++c)\n",
"        b[(y * W + x) * C + c] = hidden            ? (float)p[5 + c]\n",
"                                 : holds(at, H, W) ? a[(at.y * W + at.x) * C + c]\n",
"                                                   : 0.0f;\n",
"}\n",
"\n",
"/* Images of bytes [..][SH][SW][SC] to the first half of work, [SH][SW][C]; with `whole_` rounded\n",
" * to whole grey levels. */\n",
"OSR_KERNEL augment_load(__global const int *table, int words, __global float *work, int half_,\n",
"                        __global const uchar *pixels, int base, int SH, int SW, int SC, int C,\n",
"                        int whole_)\n",
"{\n",
"    const int n = (int)get_group_id(0);\n",
"    __global const uchar *s =\n",
"        pixels + base + (size_t)table[n * words + ROW_IMAGE] * (size_t)(SH * SW * SC);\n",
"    __global float *a = work + (size_t)n * 2 * (size_t)half_;\n",
"    if (SC == C) {\n",
"        FOR_ROW(i, SH * SW * C)\n",
"        a[i] = (float)s[i];\n",
"    } else if (SC == 1) {\n",
"        FOR_ROW(i, SH * SW * C)\n",
"        a[i] = (float)s[i / C];\n",
"    } else {\n",
"        FOR_ROW(i, SH * SW)\n",
"        {\n",
"            __global const uchar *q = s + 3 * i;\n",
"            const float v = 0.299f * (float)q[0] + 0.587f * (float)q[1] + 0.114f * (float)q[2];\n",
"            a[i] = whole_ ? floor(v + 0.5f) : v;\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* The facts of the op at word `slot`; slot 0: the means of the channels, for augment_tone. */\n",
"OSR_KERNEL augment_look(__global const int *table, int words, __global float *work, int half_,\n",
"                        int from, int slot, __global int *facts, int count, int C)\n",
"{\n",
"    __local int tables[3 * 256];\n",
"    __local float8 tmp[LS];\n",
"    IMAGE(table, words, work, half_, from)\n",
"    const int code = slot == 0 ? OP_NONE : row[slot];\n",
"    const int tabled = code == OP_AUTO_CONTRAST || code == OP_EQUALIZE;\n",
"    float8 sum = (float8)(0.0f);\n",
"    (void)b;\n",
"    FOR_ROW(i, 256 * C)\n",
"    tables[i] = 0;\n",
"#if LS > 1\n",
"    barrier(CLK_LOCAL_MEM_FENCE);\n",
"#endif\n",
"    if (tabled) {\n",
"        FOR_ROW(i, count * C)\n",
"#if LS > 1\n",
"        atomic_inc(tables + i % C * 256 + (int)a[i]);\n",
"#else\n",
"        ++tables[i % C * 256 + (int)a[i]];\n",
"#endif\n",
"    }\n",
"    if (code == OP_CONTRAST || slot == 0) {\n",
"        FOR_ROW(i, count)\n",
"        {\n",
"            __global const float *s = a + i * C;\n",
"            sum += (float8)(s[0], s[C / 2], s[C - 1], grey_level(s, C), 0.0f, 0.0f, 0.0f, 0.0f);\n",
"        }\n",
"    }\n",
"    sum = group_sum8(sum, tmp) / (float)count; /* its barriers end the count, too */\n",
"    facts += n * FACTS;\n",
"    if (get_local_id(0) == 0) {\n",
"        __global float *mean = (__global float *)(facts + 3 * 256);\n",
"        mean[0] = sum.s0;\n",
"        mean[1] = sum.s1;\n",
"        mean[2] = sum.s2;\n",
"        mean[3] = sum.s3;\n",
"    }\n",
"    FOR_ROW(c, C)\n",
"    if (tabled)\n",
"        make_table(code, tables + 256 * c, count, facts + 256 * c);\n",
"}\n",
"\n",
"/* The op at word `slot`. */\n",
"OSR_KERNEL augment_apply(__global const int *table, int words, __global float *work, int half_,\n",
"                         int from, int slot, __global const int *facts, int H, int W, int C)\n",
"{\n",
"    IMAGE(table, words, work, half_, from)\n",
"    __global const int *p = row + slot;\n",
"    const int code = p[0];\n",
"    facts += n * FACTS;\n",
"    if (code == OP_AUTO_CONTRAST || code == OP_EQUALIZE) {\n",
"        FOR_ROW(i, H * W * C)\n",
"        b[i] = (float)facts[i % C * 256 + (int)a[i]];\n",
"    } else if (code == OP_COLOR || code == OP_CONTRAST || code == OP_SHARPNESS) {\n",
"        const float mean = floor(as_float(facts[3 * 256 + 3]) + 0.5f);\n",
"        FOR_PIXELS(y, x, H, W)\n",
"        by_blend(p, a, b, y, x, H, W, C, mean);\n",
"    } else if (code >= OP_AFFINE) {\n",
"        FOR_PIXELS(y, x, H, W)\n",
"        by_place(p, a, b, y, x, H, W, C);\n",
"    } else {\n",
"        FOR_ROW(i, H * W * C)\n",
"        b[i] = by_value(code, p + 1, a[i]);\n",
"    }\n",
"}\n",
"\n",
"/* Position i of n in a side of m, half-pixel centres: the first of two neighbours and the weight\n",
" * of the second. */\n",
"static inline int neighbour(int i, int m, int n, float *weight)\n",
"{\n",
"    const int at = clamp((2 * i + 1) * m - n, 0, 2 * n * (m - 1)), first = min(at / (2 * n), m - 2);\n",
"    if (m == 1) {\n",
"        *weight = 0.0f;\n",
"        return 0;\n",
"    }\n",
"    *weight = (float)(at - first * 2 * n) / (float)(2 * n);\n",
"    return first;\n",
"}\n",
"\n",
"/* [H][W][C] from an image [SH][SW][C], bilinear: all of it, or with `boxed` the row's part. */\n",
"OSR_KERNEL augment_resample(__global const int *table, int words, __global float *work, int half_,\n",
"                            int from, int SH, int SW, int H, int W, int C, int boxed)\n",
"{\n",
"    IMAGE(table, words, work, half_, from)\n",
"    __global const int *box = row + ROW_BOX;\n",
"    const int x0 = boxed ? box[0] : 0, y0 = boxed ? box[1] : 0;\n",
"    const int w = boxed ? box[2] : SW, h = boxed ? box[3] : SH;\n",
"    const int right = w > 1 ? C : 0, down = h > 1 ? SW * C : 0;\n",
"    FOR_PIXELS(y, x, H, W)\n",
"    {\n",
"        float wy, wx;\n",
"        const int r = neighbour(y, h, H, &wy), q = neighbour(x, w, W, &wx);\n",
"        __global const float *s = a + ((y0 + r) * SW + x0 + q) * C;\n",
"        for (int c = 0; c < C; ++c) {\n",
"            const float top = s[c] + wx * (s[c + right] - s[c]);\n",
"            const float low = s[c + down] + wx * (s[c + down + right] - s[c + down]);\n",
"            b[(y * W + x) * C + c] = top + wy * (low - top);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* Keras: contrast about each channel's mean, clipped, then brightness, clipped. With `whole_` cut\n",
" * to whole grey levels, as TensorFlow's RandAugment begins. toned 0: only that. */\n",
"OSR_KERNEL augment_tone(__global const int *table, int words, __global float *work, int half_,\n",
"                        int from, __global const int *facts, int count, int C, int toned,\n",
"                        int whole_)\n",
"{\n",
"    IMAGE(table, words, work, half_, from)\n",
"    __global const int *mean = facts + n * FACTS + 3 * 256;\n",
"    const float contrast = as_float(row[ROW_TONE]), brightness = as_float(row[ROW_TONE + 1]);\n",
"    FOR_ROW(i, count * C)\n",
"    {\n",
"        float v = a[i];\n",
"        if (toned) {\n",
"            const float m = as_float(mean[i % C]);\n",
"            v = clamp(clamp(m + contrast * (v - m), 0.0f, 255.0f) + brightness, 0.0f, 255.0f);\n",
"        }\n",
"        b[i] = whole_ ? whole(v) : v;\n",
"    }\n",
"}\n",
"\n",
"/* The result, in 0..1: each pixel traced back through cutting out, rotation, mirror and crop. */\n",
"OSR_KERNEL augment_place(__global const int *table, int words, __global float *work, int half_,\n",
"                         int from, __global float *y, const int4 yl, int H, int W, int C)\n",
"{\n",
"    IMAGE(table, words, work, half_, from)\n",
"    __global const int *cut = row + ROW_CUT;\n",
"    (void)b;\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        int2 at = turned(row + ROW_TURN, c, r);\n",
"        int shown = holds(at, H, W);\n",
"        shown &= c < cut[0] || r < cut[1] || c >= cut[2] || r >= cut[3];\n",
"        at.x = (row[ROW_FLIP] ? W - 1 - at.x : at.x) + row[ROW_CROP];\n",
"        at.y += row[ROW_CROP + 1];\n",
"        shown &= holds(at, H, W);\n",
"        for (int i = 0; i < C; ++i)\n",
"            y[image_at(yl, n, 0, r, c) + i] =\n",
"                shown ? a[(at.y * W + at.x) * C + i] * (1.0f / 255.0f) : 0.0f;\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_conv_cpu[] = {
"#line 1 \"kernels/conv_cpu.cl\"\n",
"/* conv_cpu.cl - direct convolution and its gradients, CPU family\n",
" *\n",
" * Images are [N][CB][HP][WP][8] with a zero halo, described by int4 (base, row, plane, img). Packed\n",
" * weights are [OP/16][IB][taps][8 (i)][16 (o)]: one float16 holds 16 outputs of one input channel\n",
" * and one tap, so packed offsets are multiples of 16 floats. Every kernel has local size 1, 1, 1.\n",
" *\n",
" * A tile is a register block of CONV_OB float16 (16 outputs each) x CONV_PX points or input lanes.\n",
" * The points of a forward tile are consecutive in (image, row, column) order, so that maps smaller\n",
" * than a tile fill it too; only the last tile of a launch repeats a point, which it does not store.\n",
" *\n",
" * Launch geometry (global size). G: any number of groups, which share the work evenly.\n",
" *   conv_pack          OP / 16, ceil(I' / 8), 1       I' = transpose ? O : I\n",
" *   conv_taps          ceil(OC / 32) or / 64, G, G    about N * out_size.x * out_size.y / 64 groups\n",
" *   conv_dgrad         ceil(C / 32), G, G             about N * H * W / (64 * stride^2) groups\n",
" *   conv_wgrad         G, G, S                        ceil(C / 32) * ceil(O / 64) groups a split\n",
" *   conv_wgrad_reduce  ceil(O / 16), ceil(I / 8), 1 */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* 32 vector registers of 512 bits hold 2 x 8 accumulators; 16 of 256 bits hold 1 x 4. */\n",
"#ifndef CONV_PX\n",
"#ifdef __AVX512F__\n",
"#define CONV_OB 2\n",
"#define CONV_PX 8\n",
"#define CONV_NARROW 9\n",
"#else\n",
"#define CONV_OB 1\n",
"#define CONV_PX 4\n",
"#define CONV_NARROW 4\n",
"#endif\n",
"#endif\n",
"/* So few channels make the weight gradient waste most of 8 lanes. */\n",
"#define CONV_FEW 4\n",
"\n",
"/* Points folded at once into a partial weight gradient: bounds rounding error and cache use. */\n",
"#define WGRAD_POINTS 128\n",
"\n",
"#define CONV_LOAD16(p) (*(__global const float16 *)(p))\n",
"#define CONV_STORE16(p, v) (*(__global float16 *)(p) = (v))\n",
"#define CONV_UNROLL _Pragma(\"unroll\")\n",
"\n",
"OSR_KERNEL conv_pack(__global const float *restrict w, int woff, __global float *restrict out,\n",
"                     int ooff, int O, int I, int KH, int KW, int transpose, int2 tap0,\n",
"                     int2 tapstep, int2 taps, int OP)\n",
"{\n",
"    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);\n",
"    const int co = transpose ? I : O, ci = transpose ? O : I, blocks = (ci + 7) / 8;\n",
"    const int so = (transpose ? 1 : I) * KH * KW, si = (transpose ? I : 1) * KH * KW;\n",
"    __global float *p = out + ooff + ((size_t)og * blocks + ib) * (size_t)(taps.x * taps.y * 128);\n",
"\n",
"    if (og * 16 >= OP || ib >= blocks)\n",
"        return;\n",
"    ROLLED for (int ty = 0; ty < taps.y; ++ty)\n",
"        ROLLED for (int tx = 0; tx < taps.x; ++tx)\n",
"        {\n",
"            const int k = (tap0.y + tapstep.y * ty) * KW + tap0.x + tapstep.x * tx;\n",
"            ROLLED for (int i = ib * 8; i < ib * 8 + 8; ++i)\n",
"                ROLLED for (int o = og * 16; o < og * 16 + 16; ++o)\n",
"                    *p++ = i < ci && o < co ? w[woff + o * so + i * si + k] : 0.0f;\n",
"        }\n",
"}\n",
"\n",
"/* Where the points of a tile lie: offsets into x (before taps and channels) and into y. */\n",
"typedef struct conv_points {\n",
"    int n, r, c;\n",
"    long xo[CONV_PX], yo[CONV_PX];\n",
"} conv_points;\n",
"\n",
"static inline long conv_at(int4 l, int n, int y, int x)\n",
"{\n",
"    return (long)n * l.w + l.x + y * l.y + x * 8;\n",
"}\n",
"\n",
"/* out[o][p] = sum over channels and taps of x at point p times the weights of 16-block o < CONV_OB;\n",
" * wstep: from one block's to the next one's, 0 where there is only one. */\n",
"static inline void conv_tile(__global const float *x, const long *xo, int4 xl,\n",
"                             __global const float *w, long wstep, int I, int2 tap_step, int2 taps,\n",
"                             float16 (*out)[CONV_PX])\n",
"{\n",
"    float16 acc[CONV_OB][CONV_PX];\n",
"\n",
"    CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)\n",
"        CONV_UNROLL for (int p = 0; p < CONV_PX; ++p) acc[o][p] = (float16)(0.0f);\n",
"    for (int left = I; left > 0; left -= 8, x += xl.z) {\n",
"        const int lanes = min(left, 8);\n",
"        for (int ty = 0; ty < taps.y; ++ty) {\n",
"            __global const float *xt = x + ty * tap_step.y * xl.y;\n",
"            _Pragma(\"unroll 1\") for (int tx = 0; tx < taps.x; ++tx, xt += tap_step.x * 8, w += 128)\n",
"            {\n",
"                _Pragma(\"unroll 2\") for (int i = 0; i < lanes; ++i)\n",
"                {\n",
"                    float16 wv[CONV_OB];\n",
"                    CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)\n",
"                        wv[o] = CONV_LOAD16(w + o * wstep + i * 16);\n",
"                    CONV_UNROLL for (int p = 0; p < CONV_PX; ++p)\n",
"                    {\n",
"                        const float16 b = (float16)(xt[xo[p] + i]);\n",
"                        CONV_UNROLL for (int o = 0; o < CONV_OB; ++o) acc[o][p] += wv[o] * b;\n",
"                    }\n",
"                }\n",
"            }\n",
"        }\n",
"    }\n",
"    CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)\n",
"        CONV_UNROLL for (int p = 0; p < CONV_PX; ++p) out[o][p] = acc[o][p];\n",
"}\n",
"\n",
"/* Writes `live` points of the 16-block b. Hints at what lies CONV_AHEAD pixels further, where the\n",
" * points after these are likely to be. */\n",
"#define CONV_AHEAD 16\n",
"static inline void conv_store(__global float *y, conv_after *a, int b, const conv_points *t,\n",
"                              int live, const float16 *acc)\n",
"{\n",
"    conv_after_at(a, b);\n",
"    y += (long)b * 2 * a->plane;\n",
"    ROLLED for (int p = 0; p < live; ++p) {\n",
"        HINT(y + t->yo[p] + CONV_AHEAD * 8);\n",
"        HINT(y + t->yo[p] + CONV_AHEAD * 8 + a->upper);\n",
"        conv_after_put(a, y + t->yo[p], acc[p]);\n",
"    }\n",
"}\n",
"\n",
"/* What conv_taps computes, as in its arguments; o0, o1: the 16-blocks of outputs of this group,\n",
" * CONV_BLOCKS at most, the share `group` of `groups` of the points; part: for the statistics. */\n",
"#define CONV_BLOCKS 4\n",
"typedef struct conv_job {\n",
"    __global float *part;\n",
"    int4 xl, yl;\n",
"    int N, IB, I, o0, o1, group, groups, stats;\n",
"    conv_after after;\n",
"    int2 in_step, in_off, tap_step, taps, out_size, out_step, out_off;\n",
"} conv_job;\n",
"\n",
"/* Fills t with the CONV_PX points from number m on and moves it to the point after them. */\n",
"static inline void conv_next(conv_points *t, const conv_job *j, long m, long points)\n",
"{\n",
"    long x = 0, y = 0;\n",
"\n",
"    ROLLED for (int p = 0; p < CONV_PX; ++p) {\n",
"        if (p == 0 || t->c == 0) {\n",
"            x = conv_at(j->xl, t->n, j->in_step.y * t->r + j->in_off.y,\n",
"                        j->in_step.x * t->c + j->in_off.x);\n",
"            y = conv_at(j->yl, t->n, j->out_step.y * t->r + j->out_off.y,\n",
"                        j->out_step.x * t->c + j->out_off.x);\n",
"        }\n",
"        t->xo[p] = x;\n",
"        t->yo[p] = y;\n",
"        if (m + p + 1 >= points)\n",
"            continue;\n",
"        x += j->in_step.x * 8;\n",
"        y += j->out_step.x * 8;\n",
"        if (++t->c == j->out_size.x) {\n",
"            t->c = 0;\n",
"            if (++t->r == j->out_size.y) {\n",
"                t->r = 0;\n",
"                ++t->n;\n",
"            }\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* Adds the first `live` points of a 16-block. */\n",
"static inline void conv_sum(conv_sums *s, const float16 *acc, int live)\n",
"{\n",
"    if (s->count == 0.0f)\n",
"        s->pivot = acc[0];\n",
"    ROLLED for (int p = 0; p < live; ++p) conv_sums_add(s, acc[p]);\n",
"    s->count += (float)live;\n",
"}\n",
"\n",
"/* This group's share of the points of a job. */\n",
"OSR_PART conv_run(__global const float *restrict x, __global const float *restrict w,\n",
"                  __global float *restrict y, const conv_job *j)\n",
"{\n",
"    const long points = (long)j->N * j->out_size.x * j->out_size.y;\n",
"    const long tiles = (points + CONV_PX - 1) / CONV_PX;\n",
"    const long wstep = (long)j->IB * j->taps.x * j->taps.y * 128;\n",
"    const long end = min(points, tiles * (j->group + 1) / j->groups * CONV_PX);\n",
"    long m = tiles * j->group / j->groups * CONV_PX;\n",
"    conv_after after = j->after;\n",
"    conv_sums sums[CONV_BLOCKS];\n",
"    conv_points t;\n",
"\n",
"    if (points == 0) /* a phase of a map smaller than the stride */\n",
"        return;\n",
"    ROLLED for (int b = 0; b < CONV_BLOCKS; ++b)\n",
"        sums[b].sum = sums[b].square = sums[b].pivot = (float16)(sums[b].count = 0.0f);\n",
"    t.c = (int)(m % j->out_size.x);\n",
"    t.r = (int)(m / j->out_size.x % j->out_size.y);\n",
"    t.n = (int)(m / j->out_size.x / j->out_size.y);\n",
"    for (; m < end; m += CONV_PX) {\n",
"        const int live = (int)min(end - m, (long)CONV_PX);\n",
"\n",
"        conv_next(&t, j, m, points);\n",
"        for (int o = j->o0; o < j->o1; o += CONV_OB) {\n",
"            float16 acc[CONV_OB][CONV_PX];\n",
"\n",
"            conv_tile(x, t.xo, j->xl, w + o * wstep, o + 1 < j->o1 ? wstep : 0, j->I, j->tap_step,\n",
"                      j->taps, acc);\n",
"            ROLLED for (int b = 0; b < min(CONV_OB, j->o1 - o); ++b)\n",
"            {\n",
"                if (j->stats)\n",
"                    conv_sum(&sums[o + b - j->o0], acc[b], live);\n",
"                conv_store(y, &after, o + b, &t, live, acc[b]);\n",
"            }\n",
"        }\n",
"    }\n",
"    ROLLED for (int o = j->o0; o < j->o1 && j->stats; ++o)\n",
"        conv_sums_put(&sums[o - j->o0], j->part, j->group, j->groups, o * 2, after.C);\n",
"}\n",
"\n",
"/* Which outputs and points are this group's, of OC outputs. */\n",
"static inline void conv_share(conv_job *j, int OC)\n",
"{\n",
"    const int g = (int)get_group_id(0), G = (int)get_num_groups(0), blocks = (OC + 15) / 16;\n",
"\n",
"    j->o0 = (blocks + 1) / 2 * g / G * 2;\n",
"    j->o1 = min((blocks + 1) / 2 * (g + 1) / G * 2, blocks);\n",
"    j->group = (int)(get_group_id(2) * get_num_groups(1) + get_group_id(1));\n",
"    j->groups = (int)(get_num_groups(1) * get_num_groups(2));\n",
"}\n",
"\n",
"OSR_KERNEL conv_taps(__global const float *restrict x, int4 xl, __global const float *restrict w,\n",
"                     int woff, __global float *restrict y, int4 yl, int IB, int I, int OBY, int OC,\n",
"                     int2 in_step, int2 in_off, int2 tap_step, int2 taps, int2 out_size,\n",
"                     int2 out_step, int2 out_off, __global const float *restrict coef, int after,\n",
"                     float slope, int N, __global float *restrict part, int stats)\n",
"{\n",
"    conv_job j;\n",
"\n",
"    j.part = part;\n",
"    j.stats = stats;\n",
"    j.after = conv_after_of(coef, after, slope, OC, yl.z);\n",
"    j.xl = xl;\n",
"    j.yl = yl;\n",
"    j.N = N;\n",
"    j.IB = IB;\n",
"    j.I = I;\n",
"    conv_share(&j, OC);\n",
"    j.in_step = in_step;\n",
"    j.in_off = in_off;\n",
"    j.tap_step = tap_step;\n",
"    j.taps = taps;\n",
"    j.out_size = out_size;\n",
"    j.out_step = out_step;\n",
"    j.out_off = out_off;\n",
"    conv_run(x, w + woff, y, &j);\n",
"}\n",
"\n",
"/* dx[n,c,h,w] = sum over o, kh, kw of w[o,c,kh,kw] dy[n,o,(h+pad-kh)/stride,(w+pad-kw)/stride],\n",
" * divisions being exact. Output phase (py, px) = (h, w) % stride uses n = ceil((K - k0) / stride)\n",
" * taps, k0 = (phase + pad) % stride. Its weights: conv_pack with transpose 1, taps n, tap0 =\n",
" * k0 + stride * (n - 1), tapstep -stride; phases follow one another, py outermost. */\n",
"OSR_KERNEL conv_dgrad(__global const float *restrict dy, int4 dyl, __global const float *restrict w,\n",
"                      int woff, __global float *restrict dx, int4 dxl, int O, int C, int2 K,\n",
"                      int2 stride, int2 pad, int2 HW, int N)\n",
"{\n",
"    conv_job j;\n",
"\n",
"    j.part = dx; /* not for statistics */\n",
"    j.stats = 0;\n",
"    j.after = conv_after_of(w, 0, 1.0f, C, dxl.z);\n",
"    j.xl = dyl;\n",
"    j.yl = dxl;\n",
"    j.N = N;\n",
"    j.IB = (O + 7) / 8;\n",
"    j.I = O;\n",
"    conv_share(&j, C);\n",
"    j.in_step = (int2)(1, 1);\n",
"    j.tap_step = (int2)(1, 1);\n",
"    j.out_step = stride;\n",
"    w += woff;\n",
"    for (int py = 0; py < stride.y; ++py)\n",
"        for (int px = 0; px < stride.x; ++px) {\n",
"            const int2 phase = (int2)(px, py), k0 = (phase + pad) % stride;\n",
"\n",
"            j.taps = max((K - k0 + stride - 1) / stride, (int2)(0, 0));\n",
"            j.in_off = (phase + pad - k0) / stride - j.taps + 1;\n",
"            j.out_size = (HW - phase + stride - 1) / stride;\n",
"            j.out_off = phase;\n",
"            conv_run(dy, w, dx, &j);\n",
"            w += (long)((C + 15) / 16) * j.IB * j.taps.x * j.taps.y * 128;\n",
"        }\n",
"}\n",
"\n",
"/* The points of a chunk: consecutive images, or rows of one image, or columns of one row. Offsets\n",
" * in floats from its first point; a chunk at an edge holds the first few of these points. */\n",
"typedef struct conv_chunk {\n",
"    int x[WGRAD_POINTS], dy[WGRAD_POINTS];\n",
"} conv_chunk;\n",
"\n",
"/* A chunk of `points` points: part[o][i] (+)= sum over them of dy (16-block o < CONV_OB) times x at\n",
" * FROM for i < PX; plane: of an 8-block of dy; upper[o]: distance from the lower to the upper 8 of\n",
" * block o; pair 0: there is only one block; next: to the x wanted next; add 0 overwrites. from, to:\n",
" * where inputs and results i lie, for FROM and TO. */\n",
"#define CONV_GRAD(NAME, PX, FROM, TO)                                                              \\\n",
"    static inline void NAME(__global const float *x, int next, const int *from, const int *to,     \\\n",
"                            __global const float *dy, int plane, const int *upper, int pair,       \\\n",
"                            const conv_chunk *k, int points, int add,                              \\\n",
"                            __global float *part, long pstep)                                      \\\n",
"    {                                                                                              \\\n",
"        const long second = pair ? 2L * plane : 0L;                                                \\\n",
"        float16 acc[CONV_OB][PX];                                                                  \\\n",
"        CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)                                              \\\n",
"            CONV_UNROLL for (int i = 0; i < PX; ++i) acc[o][i] = (float16)(0.0f);                  \\\n",
"        _Pragma(\"unroll 1\") for (int c = 0; c < points; ++c) {                                     \\\n",
"            __global const float *xc = x + k->x[c];                                                \\\n",
"            __global const float *dc = dy + k->dy[c];                                              \\\n",
"            float16 d[CONV_OB];                                                                    \\\n",
"            HINT(xc + next);                                                                       \\\n",
"            CONV_UNROLL for (int o = 0; o < CONV_OB; ++o) d[o] = (float16)(                        \\\n",
"                LOAD8(dc + o * second), LOAD8(dc + o * second + upper[o]));                        \\\n",
"            CONV_UNROLL for (int i = 0; i < PX; ++i) {                                             \\\n",
"                const float16 b = (float16)(xc[FROM(i)]);                                          \\\n",
"                CONV_UNROLL for (int o = 0; o < CONV_OB; ++o) acc[o][i] += d[o] * b;               \\\n",
"            }                                                                                      \\\n",
"        }                                                                                          \\\n",
"        CONV_UNROLL for (int o = 0; o < CONV_OB; ++o)                                              \\\n",
"            if (o == 0 || pair)                                                                    \\\n",
"                CONV_UNROLL for (int i = 0; i < PX; ++i) {                                         \\\n",
"                    __global float *p = part + o * pstep + TO(i) * 16;                             \\\n",
"                    CONV_STORE16(p, add ? CONV_LOAD16(p) + acc[o][i] : acc[o][i]);                 \\\n",
"                }                                                                                  \\\n",
"    }\n",
"#define CONV_SAME(i) (i)\n",
"#define CONV_FROM(i) from[i]\n",
"#define CONV_TO(i) to[i]\n",
"CONV_GRAD(conv_grad, CONV_PX, CONV_SAME, CONV_SAME)\n",
"CONV_GRAD(conv_narrow, CONV_NARROW, CONV_FROM, CONV_TO)\n",
"\n",
"/* Where the weight gradient of 8-block ib of inputs, 16-block o of outputs, one chunk works. */\n",
"typedef struct conv_grads {\n",
"    int4 xl, dyl;\n",
"    int2 K, stride, pad;\n",
"    int n, r, c, points, add, O, C;\n",
"    long pstep;\n",
"} conv_grads;\n",
"\n",
"/* All taps and lanes of one chunk for 16-block o of outputs, and o + 1 where it exists: of one\n",
" * 8-block of inputs, or (C few channels in all) CONV_NARROW pairs of tap and channel at a time. */\n",
"static inline void conv_block_grad(__global const float *x, __global const float *dy,\n",
"                                   __global float *part, const conv_grads *g, const conv_chunk *k,\n",
"                                   int o)\n",
"{\n",
"    const int z = g->dyl.z, taps = g->K.x * g->K.y, few = g->C <= CONV_FEW;\n",
"    const int jobs = few ? taps * g->C : taps * 8, each = few ? CONV_NARROW : CONV_PX;\n",
"\n",
"    x += conv_at(g->xl, g->n, g->stride.y * g->r - g->pad.y, g->stride.x * g->c - g->pad.x);\n",
"    dy += (long)o * 2 * z + conv_at(g->dyl, g->n, g->r, g->c);\n",
"    for (int b = 0; b < 2 && (o + b) * 16 < g->O; b += CONV_OB, dy += 2 * z, part += g->pstep) {\n",
"        const int c = (o + b) * 16, pair = c + 16 < g->O;\n",
"        const int upper[2] = {c + 8 < g->O ? z : 0, c + 24 < g->O ? z : 0};\n",
"        for (int j = 0; j < jobs; j += each) {\n",
"            int from[CONV_NARROW], to[CONV_NARROW];\n",
"            for (int i = 0; i < (few ? CONV_NARROW : 1); ++i) {\n",
"                const int q = min(j + i, jobs - 1), tap = few ? q / g->C : q / 8;\n",
"                const int lane = few ? q % g->C : q % 8;\n",
"                from[i] = tap / g->K.x * g->xl.y + tap % g->K.x * 8 + lane;\n",
"                to[i] = tap * 8 + lane;\n",
"            }\n",
"            if (few)\n",
"                conv_narrow(x, g->xl.z, from, to, dy, z, upper, pair, k, g->points, g->add, part,\n",
"                            g->pstep);\n",
"            else\n",
"                conv_grad(x + from[0], g->xl.z, from, to, dy, z, upper, pair, k, g->points, g->add,\n",
"                          part + to[0] * 16, g->pstep);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* Adds to part, which begins at split s, all chunks of images n0 .. n1-1 for the 16-blocks o0 ..\n",
" * o1-1 of outputs and the 8-blocks i0 .. i1-1 of inputs; each chunk is fetched once for all. */\n",
"OSR_PART conv_split_grad(__global const float *restrict x, __global const float *restrict dy,\n",
"                         __global float *restrict part, conv_grads g, int2 OHW, int n0, int n1,\n",
"                         int o0, int o1, int i0, int i1)\n",
"{\n",
"    const int cols = min(OHW.x, WGRAD_POINTS), rows = min(OHW.y, WGRAD_POINTS / cols);\n",
"    const int imgs = cols < OHW.x || rows < OHW.y ? 1 : WGRAD_POINTS / (cols * rows);\n",
"    const int taps = g.K.x * g.K.y;\n",
"    conv_chunk k;\n",
"\n",
"    for (int j = 0, n = 0; n < imgs; ++n)\n",
"        for (int r = 0; r < rows; ++r)\n",
"            for (int c = 0; c < cols; ++c, ++j) {\n",
"                k.x[j] = n * g.xl.w + g.stride.y * r * g.xl.y + g.stride.x * c * 8;\n",
"                k.dy[j] = n * g.dyl.w + r * g.dyl.y + c * 8;\n",
"            }\n",
"    g.add = 0;\n",
"    if (n0 == n1)\n",
"        for (int o = o0; o < o1; ++o)\n",
"            for (int i = i0 * taps * 8; i < i1 * taps * 8; ++i)\n",
"                CONV_STORE16(part + o * g.pstep + i * 16, (float16)(0.0f));\n",
"    for (g.n = n0; g.n < n1; g.n += imgs)\n",
"        for (g.r = 0; g.r < OHW.y; g.r += rows)\n",
"            for (g.c = 0; g.c < OHW.x; g.c += cols) {\n",
"                g.points = min(imgs, n1 - g.n) * min(rows, OHW.y - g.r) * min(cols, OHW.x - g.c);\n",
"                for (int o = o0; o < o1; o += 2)\n",
"                    for (int i = i0; i < i1; ++i)\n",
"                        conv_block_grad(x + (long)i * g.xl.z, dy,\n",
"                                        part + o * g.pstep + (long)i * taps * 128, &g, &k, o);\n",
"                g.add = 1;\n",
"            }\n",
"}\n",
"\n",
"/* Partial weight gradients of the images of split s, s * N / S <= n < (s+1) * N / S, as\n",
" * part [S][ceil(O/16)][ceil(C/8)][KH*KW][8 (i)][16 (o)]; chunks are added in order. The groups of\n",
" * a split share blocks of 64 outputs x 32 inputs. */\n",
"OSR_KERNEL conv_wgrad(__global const float *restrict x, int4 xl, __global const float *restrict dy,\n",
"                      int4 dyl, __global float *restrict part, int N, int C, int O, int2 K,\n",
"                      int2 stride, int2 pad, int2 OHW, int S)\n",
"{\n",
"    const int s = (int)get_group_id(2), o16 = (O + 15) / 16, blocks = (C + 7) / 8;\n",
"    const int columns = (C + 31) / 32, jobs = columns * ((O + 63) / 64);\n",
"    const int groups = (int)(get_num_groups(0) * get_num_groups(1));\n",
"    const int n0 = (int)((long)s * N / S), n1 = (int)((long)(s + 1) * N / S);\n",
"    conv_grads g = {xl, dyl, K, stride, pad, 0, 0, 0, 0, 0, O, C, (long)blocks * K.x * K.y * 128};\n",
"\n",
"    for (int j = (int)(get_group_id(1) * get_num_groups(0) + get_group_id(0)); j < jobs;\n",
"         j += groups) {\n",
"        const int i0 = j % columns * 4, o0 = j / columns * 4;\n",
"\n",
"        conv_split_grad(x, dy, part + (long)s * o16 * g.pstep, g, OHW, n0, n1, o0,\n",
"                        min(o0 + 4, o16), i0, min(i0 + 4, blocks));\n",
"    }\n",
"}\n",
"\n",
"/* dw (+)= the sum of S parts, `split` apart, for ni inputs and no outputs of I inputs in all. */\n",
"OSR_PART conv_reduce(__global const float *restrict part, long split, int S,\n",
"                     __global float *restrict dw, int I, int taps, int ni, int no, int accumulate)\n",
"{\n",
"    for (int k = 0; k < taps; ++k)\n",
"        for (int i = 0; i < ni; ++i) {\n",
"            __global const float *p = part + (k * 8 + i) * 16;\n",
"            float sum[16];\n",
"            float16 v = (float16)(0.0f);\n",
"\n",
"            ROLLED for (int s = 0; s < S; ++s)\n",
"                v += CONV_LOAD16(p + s * split);\n",
"            vstore16(v, 0, sum);\n",
"            ROLLED for (int o = 0; o < no; ++o)\n",
"            {\n",
"                const long at = ((long)o * I + i) * taps + k;\n",
"                dw[at] = accumulate ? dw[at] + sum[o] : sum[o];\n",
"            }\n",
"        }\n",
"}\n",
"\n",
"OSR_KERNEL conv_wgrad_reduce(__global const float *restrict part, __global float *restrict dw,\n",
"                             int dwoff, int O, int I, int KH, int KW, int S, int accumulate)\n",
"{\n",
"    const int og = (int)get_group_id(0), ib = (int)get_group_id(1), taps = KH * KW;\n",
"    const long block = (long)taps * 128, split = (long)((O + 15) / 16) * ((I + 7) / 8) * block;\n",
"\n",
"    conv_reduce(part + ((long)og * ((I + 7) / 8) + ib) * block, split, S,\n",
"                dw + dwoff + ((long)og * 16 * I + ib * 8) * taps, I, taps, min(8, I - ib * 8),\n",
"                min(16, O - og * 16), accumulate);\n",
"}\n",
};
static const char *const osr__cl_conv_gpu[] = {
"#line 1 \"kernels/conv_gpu.cl\"\n",
"/* conv_gpu.cl - direct convolution and its gradients as tiled matrix products, GPU family\n",
" *\n",
" * Images are [N][CB][HP][WP][8] with a zero halo, described by int4 (base, row, plane, img). Packed\n",
" * weights are [OP/16][IB][taps][8 (i)][16 (o)] at an offset that is a multiple of 4 floats.\n",
" *\n",
" * A group of CONV_ITEMS items makes a tile of CONV_BM rows x CONV_BN outputs (128 of them 128 x 64,\n",
" * unless the host says else), 8 rows x 8 or 4 outputs an item, from slices of depth 8 in local\n",
" * memory. conv_taps: a row is an output grid point (image, row, column in one index), a slice is 8\n",
" * input channels of one tap. conv_wgrad: a row is one input channel of one tap, a slice 8 points.\n",
" * While one slice is multiplied the next is fetched into registers and stored into the other of two\n",
" * buffers: one barrier a slice. Every sum has a fixed order.\n",
" * By count, not by measurement, of 128 x 64: an item reads 4 float4 of local memory for 64\n",
" * multiply-adds (one byte each), neighbours the same or the next ones, so without conflicts; some\n",
" * 110 registers an item and 14 KiB a group leave 4 groups, 16 warps, on a unit of 64 Ki registers.\n",
" *\n",
" * Launch geometry (number of groups; local size), BM, BN and ITEMS as CONV_...:\n",
" *   conv_pack          OP / 16, ceil(I' / 8), G                   LS, 1, 1   I' = transpose ? O : I\n",
" *   conv_taps          ceil(N rows columns / BM), ceil(OC / BN), Z           ITEMS, 1, 1\n",
" *                      rows = out_size.y, columns = out_size.x; N rows columns < 2^31 - BM;\n",
" *                      neighbouring groups make the outputs of the same points; Z convolutions\n",
" *                      with x, w and y zstep.x, .y and .z floats apart\n",
" *   conv_wgrad         ceil(O / BN), ceil(ceil(C / 8) K.x K.y / (BM / 8)), S ITEMS, 1, 1\n",
" *                      points of a split < 2^31 - 8\n",
" *   conv_wgrad_reduce  ceil(O / 16), ceil(I / 8), G               LS, 1, 1\n",
" * G >= 1 shares the taps among groups; the number of taps is the most that is of use. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"#ifndef CONV_ITEMS\n",
"#define CONV_ITEMS 128\n",
"#define CONV_BM 128 /* rows of a tile: points, or input channels of taps; ITEMS or ITEMS / 2 */\n",
"#define CONV_BN 64  /* outputs of a tile: ITEMS / 2 */\n",
"#endif\n",
"#define CONV_BK 8 /* depth of a slice */\n",
"#define CONV_RUNS (CONV_BM * CONV_BN / CONV_ITEMS / 32) /* of 4 outputs of an item: 2 or 1 */\n",
"#define CONV_POINTS (CONV_ITEMS / 2) /* of which the items fetch 8 channels at a time */\n",
"/* Row lengths in local memory, chosen so that stores of a slice fall into distinct banks. */\n",
"#define TAPS_LDA (CONV_BM + 4)\n",
"#define TAPS_LDB CONV_BN\n",
"#define WGRAD_LDA (CONV_BM + 8)\n",
"#define WGRAD_LDB (CONV_BN + 8)\n",
"/* Slices summed in registers before they are added to a partial weight gradient. */\n",
"#define WGRAD_FOLD 64\n",
"\n",
"#define CONV_LOAD4(p) (*(__global const float4 *)(p))\n",
"#define CONV_STORE4(p, v) (*(__global float4 *)(p) = (v))\n",
"#define CONV_LOCAL4(p) (*(__local const float4 *)(p))\n",
"#define CONV_UNROLL _Pragma(\"unroll\")\n",
"#define CONV_TILED __kernel __attribute__((reqd_work_group_size(CONV_ITEMS, 1, 1))) void\n",
"#ifdef FP_FAST_FMAF\n",
"#define CONV_FMA(a, b, c) fma(a, b, c)\n",
"#else\n",
"#define CONV_FMA(a, b, c) ((a) * (b) + (c))\n",
"#endif\n",
"\n",
"OSR_KERNEL conv_pack(__global const float *restrict w, int woff, __global float *restrict out,\n",
"                     int ooff, int O, int I, int KH, int KW, int transpose, int2 tap0,\n",
"                     int2 tapstep, int2 taps, int OP)\n",
"{\n",
"    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);\n",
"    const int co = transpose ? I : O, ci = transpose ? O : I, blocks = (ci + 7) / 8;\n",
"    const int so = (transpose ? 1 : I) * KH * KW, si = (transpose ? I : 1) * KH * KW;\n",
"    const int count = taps.x * taps.y;\n",
"\n",
"    if (og * 16 >= OP || ib >= blocks)\n",
"        return;\n",
"    for (int t = (int)get_group_id(2); t < count; t += (int)get_num_groups(2)) {\n",
"        const int ty = t / taps.x, tx = t - ty * taps.x;\n",
"        const int k = (tap0.y + tapstep.y * ty) * KW + tap0.x + tapstep.x * tx;\n",
"        __global float *p = out + ooff + (((size_t)og * blocks + ib) * count + t) * 128;\n",
"        for (int e = (int)get_local_id(0); e < 128; e += LS) {\n",
"            const int i = ib * 8 + e / 16, o = og * 16 + e % 16;\n",
"            p[e] = i < ci && o < co ? w[woff + (size_t)o * so + (size_t)i * si + k] : 0.0f;\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* acc[r][g] += sum over k of a[k][row r] b[k][4 outputs g]. An item has P rows, runs of 4 that lie\n",
" * half a tile apart, and G runs of 4 outputs, too. Depth is rounded up to 4; the rest is zeros. */\n",
"#define CONV_STEP(NAME, P, G)                                                                      \\\n",
"    static inline void NAME(__local const float *a, int lda, __local const float *b, int ldb,      \\\n",
"                            int depth, float4 (*acc)[2])                                           \\\n",
"    {                                                                                              \\\n",
"        for (int k0 = 0; k0 < depth; k0 += 4, a += 4 * lda, b += 4 * ldb) {                        \\\n",
"            CONV_UNROLL for (int k = 0; k < 4; ++k) {                                              \\\n",
"                float av[P];                                                                       \\\n",
"                float4 bv[G];                                                                      \\\n",
"                CONV_UNROLL for (int r = 0; r < P; r += 4) {                                       \\\n",
"                    const float4 v = CONV_LOCAL4(a + k * lda + r * (CONV_BM / 8));                 \\\n",
"                    av[r] = v.s0;                                                                  \\\n",
"                    av[r + 1] = v.s1;                                                              \\\n",
"                    av[r + 2] = v.s2;                                                              \\\n",
"                    av[r + 3] = v.s3;                                                              \\\n",
"                }                                                                                  \\\n",
"                CONV_UNROLL for (int g = 0; g < G; ++g)                                            \\\n",
"                    bv[g] = CONV_LOCAL4(b + k * ldb + g * (CONV_BN / 2));                          \\\n",
"                CONV_UNROLL for (int r = 0; r < P; ++r) CONV_UNROLL for (int g = 0; g < G; ++g)    \\\n",
"                    acc[r][g] = CONV_FMA((float4)(av[r]), bv[g], acc[r][g]);                       \\\n",
"            }                                                                                      \\\n",
"        }                                                                                          \\\n",
"    }\n",
"#if CONV_RUNS == 2\n",
"CONV_STEP(conv_step82, 8, 2)\n",
"#endif\n",
"CONV_STEP(conv_step81, 8, 1)\n",
"CONV_STEP(conv_step41, 4, 1)\n",
"\n",
"/* The part of a tile an item makes: rows at row4 and row4 + BM / 2, 4 each, outputs at out4 and\n",
" * out4 + BN / 2; where half of the tile's outputs are beyond the end, no second outputs; with yet\n",
" * fewer left, the items stand twice as high and make 4 x 4 each. */\n",
"typedef struct conv_item {\n",
"    int row4, out4, runs, rows; /* rows: 8 or 4 */\n",
"} conv_item;\n",
"\n",
"static inline conv_item conv_place(int id, int outputs)\n",
"{\n",
"    const bool few = outputs <= CONV_BN / 2 / CONV_RUNS;\n",
"    const int columns = CONV_BN / 4 / CONV_RUNS / (few ? 2 : 1);\n",
"    conv_item t;\n",
"    t.row4 = id / columns * 4;\n",
"    t.out4 = id % columns * 4;\n",
"    t.runs = CONV_RUNS == 2 && outputs > CONV_BN / 2 ? 2 : 1;\n",
"    t.rows = few ? 4 : 8;\n",
"    return t;\n",
"}\n",
"\n",
"static inline void conv_step(conv_item t, __local const float *a, int lda, __local const float *b,\n",
"                             int ldb, int depth, float4 (*acc)[2])\n",
"{\n",
"    a += t.row4;\n",
"    b += t.out4;\n",
"#if CONV_RUNS == 2\n",
"    if (t.runs == 2)\n",
"        conv_step82(a, lda, b, ldb, depth, acc);\n",
"    else\n",
"#endif\n",
"    if (t.rows == 8)\n",
"        conv_step81(a, lda, b, ldb, depth, acc);\n",
"    else\n",
"        conv_step41(a, lda, b, ldb, depth, acc);\n",
"}\n",
"\n",
"/* Whether an item makes row r of 8 and run g of 2: a tile of few outputs has less. */\n",
"static inline bool conv_made(conv_item t, int r, int g)\n",
"{\n",
"    return r < t.rows && g < t.runs;\n",
"}\n",
"\n",
"static inline void conv_clear(float4 (*acc)[2])\n",
"{\n",
"    CONV_UNROLL for (int r = 0; r < 8; ++r) acc[r][0] = acc[r][1] = (float4)(0.0f);\n",
"}\n",
"\n",
"/* Where grid point m = (n * size.y + r) * size.x + c of an image tensor begins, channel 0. */\n",
"static inline long conv_point(int4 l, int m, int2 size, int2 step, int2 off)\n",
"{\n",
"    const int q = m / size.x, n = q / size.y, c = m - q * size.x, r = q - n * size.y;\n",
"    return (long)n * l.w + l.x + (step.y * r + off.y) * l.y + (step.x * c + off.x) * 8;\n",
"}\n",
"\n",
"/* v with zeros at channels oc and beyond; v begins at channel o. */\n",
"static inline float4 conv_mask(float4 v, int o, int oc)\n",
"{\n",
"    return select((float4)(0.0f), v, (int4)(0, 1, 2, 3) + o < (int4)(oc));\n",
"}\n",
"\n",
"/* What follows (see conv_after), on 4 channels from channel o on. */\n",
"static inline float4 conv_epilogue4(float4 v, __global const float *coef, int CB, int o, int kind,\n",
"                                    float slope)\n",
"{\n",
"    if (kind == 2)\n",
"        v = v * CONV_LOAD4(coef + o) + CONV_LOAD4(coef + CB * 8 + o);\n",
"    return kind == 0 ? v : select(v * slope, v, v > (float4)(0.0f));\n",
"}\n",
"\n",
"CONV_TILED conv_taps(__global const float *restrict x, int4 xl, __global const float *restrict w,\n",
"                     int woff, __global float *restrict y, int4 yl, int IB, int I, int OBY, int OC,\n",
"                     int2 in_step, int2 in_off, int2 tap_step, int2 taps, int2 out_size,\n",
"                     int2 out_step, int2 out_off, __global const float *restrict coef, int after,\n",
"                     float slope, int N, int4 zstep)\n",
"{\n",
"    __local float a[2][CONV_BK * TAPS_LDA] __attribute__((aligned(16)));\n",
"    __local float b[2][CONV_BK * TAPS_LDB] __attribute__((aligned(16)));\n",
"    __local long yo[CONV_BM];\n",
"    const int id = (int)get_local_id(0);\n",
"    const int group = (int)(get_group_id(1) * get_num_groups(0) + get_group_id(0));\n",
"    const int otiles = (OC + CONV_BN - 1) / CONV_BN, o0 = group % otiles * CONV_BN;\n",
"    const int M = N * out_size.y * out_size.x, m0 = group / otiles * CONV_BM;\n",
"    const int count = taps.x * taps.y, slices = IB * count;\n",
"    /* Fetched by this item: 4 channels of 1 or 2 points, 4 outputs of one channel and one block. */\n",
"    const int lane4 = id % 2 * 4, point = id / 2, k = id / (CONV_BN / 4);\n",
"    const int o4 = id % (CONV_BN / 4), og = o0 / 16 + o4 / 4;\n",
"    const conv_item t = conv_place(id, OC - o0);\n",
"    const size_t z = get_group_id(2);\n",
"    __global const float *wp =\n",
"        w + woff + z * zstep.y + (size_t)og * slices * 128 + k * 16 + o4 % 4 * 4;\n",
"    float4 acc[8][2], xv0, xv1 = (float4)(0.0f), wv = (float4)(0.0f);\n",
"    int tx = 0, ty = 0;\n",
"\n",
"    if (m0 >= M)\n",
"        return;\n",
"    x += z * zstep.x;\n",
"    y += z * zstep.z;\n",
"    __global const float *x0 =\n",
"        x + conv_point(xl, min(m0 + point, M - 1), out_size, in_step, in_off) + lane4;\n",
"    __global const float *x1 =\n",
"        x + conv_point(xl, min(m0 + point + CONV_POINTS, M - 1), out_size, in_step, in_off) + lane4;\n",
"    if (id < CONV_BM)\n",
"        yo[id] = m0 + id < M ? conv_point(yl, m0 + id, out_size, out_step, out_off) : -1;\n",
"    conv_clear(acc);\n",
"    for (int s = -1; s < slices; ++s) {\n",
"        const int cur = s & 1, next = cur ^ 1;\n",
"        if (s + 1 < slices) {\n",
"            xv0 = CONV_LOAD4(x0);\n",
"            if (CONV_POINTS < CONV_BM)\n",
"                xv1 = CONV_LOAD4(x1);\n",
"            if (og * 16 < OC)\n",
"                wv = CONV_LOAD4(wp + (size_t)(s + 1) * 128);\n",
"            int step = tap_step.x * 8;\n",
"            if (++tx == taps.x) {\n",
"                tx = 0;\n",
"                step += tap_step.y * xl.y - taps.x * tap_step.x * 8;\n",
"                if (++ty == taps.y) {\n",
"                    ty = 0;\n",
"                    step += xl.z - taps.y * tap_step.y * xl.y;\n",
"                }\n",
"            }\n",
"            x0 += step;\n",
"            x1 += step;\n",
"        }\n",
"        if (s >= 0)\n",
"            conv_step(t, a[cur], TAPS_LDA, b[cur], TAPS_LDB,\n",
"                      s < slices - count ? CONV_BK : I - (IB - 1) * CONV_BK, acc);\n",
"        if (s + 1 < slices) {\n",
"            __local float *d = a[next] + lane4 * TAPS_LDA + point;\n",
"            d[0] = xv0.s0;\n",
"            d[TAPS_LDA] = xv0.s1;\n",
"            d[TAPS_LDA * 2] = xv0.s2;\n",
"            d[TAPS_LDA * 3] = xv0.s3;\n",
"            if (CONV_POINTS < CONV_BM) {\n",
"                d += CONV_POINTS;\n",
"                d[0] = xv1.s0;\n",
"                d[TAPS_LDA] = xv1.s1;\n",
"                d[TAPS_LDA * 2] = xv1.s2;\n",
"                d[TAPS_LDA * 3] = xv1.s3;\n",
"            }\n",
"            *(__local float4 *)(b[next] + k * TAPS_LDB + o4 * 4) = wv;\n",
"        }\n",
"        barrier(CLK_LOCAL_MEM_FENCE);\n",
"    }\n",
"    CONV_UNROLL for (int r = 0; r < 8; ++r) CONV_UNROLL for (int g = 0; g < 2; ++g)\n",
"    {\n",
"        const int o = o0 + g * (CONV_BN / 2) + t.out4;\n",
"        if (conv_made(t, r, g) && o / 8 < OBY) {\n",
"            const long at = yo[r / 4 * (CONV_BM / 2) + t.row4 + r % 4];\n",
"            if (at >= 0)\n",
"                CONV_STORE4(y + at + (size_t)(o / 8) * yl.z + o % 8,\n",
"                            conv_mask(conv_epilogue4(acc[r][g], coef, OBY, o, after, slope), o,\n",
"                                      OC));\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* Stores (first) or adds the item's part of a tile into partial sums part[O16][cols][8][16]. */\n",
"static inline void wgrad_fold(__global float *part, conv_item t, int o0, int q0, int O, int cols,\n",
"                              bool first, float4 (*acc)[2])\n",
"{\n",
"    const int o = o0 + t.out4, q = q0 + t.row4 / 8;\n",
"    part += ((size_t)(o / 16) * cols + q) * 128 + t.row4 % 8 * 16 + o % 16;\n",
"    CONV_UNROLL for (int g = 0; g < 2; ++g) CONV_UNROLL for (int r = 0; r < 8; ++r)\n",
"    {\n",
"        if (conv_made(t, r, g) && o / 16 * 16 + g * (CONV_BN / 2) < O\n",
"            && q + r / 4 * (CONV_BM / 16) < cols) {\n",
"            __global float *p = part + (size_t)g * (CONV_BN * 4) * cols\n",
"                                + r / 4 * (CONV_BM * 8) + r % 4 * 16;\n",
"            CONV_STORE4(p, first ? acc[r][g] : CONV_LOAD4(p) + acc[r][g]);\n",
"        }\n",
"    }\n",
"    conv_clear(acc);\n",
"}\n",
"\n",
"/* Points in (image, row, column) order, walked 8 at a time without a division. */\n",
"typedef struct wgrad_point {\n",
"    int n, r, c;\n",
"} wgrad_point;\n",
"\n",
"static inline wgrad_point wgrad_split(int m, int2 size)\n",
"{\n",
"    wgrad_point p;\n",
"    p.n = m / (size.x * size.y);\n",
"    p.r = m / size.x - p.n * size.y;\n",
"    p.c = m % size.x;\n",
"    return p;\n",
"}\n",
"\n",
"static inline wgrad_point wgrad_add(wgrad_point p, wgrad_point d, int2 size)\n",
"{\n",
"    p.c += d.c;\n",
"    p.r += d.r + (p.c >= size.x ? 1 : 0);\n",
"    p.c -= p.c >= size.x ? size.x : 0;\n",
"    p.n += d.n + (p.r >= size.y ? 1 : 0);\n",
"    p.r -= p.r >= size.y ? size.y : 0;\n",
"    return p;\n",
"}\n",
"\n",
"CONV_TILED conv_wgrad(__global const float *restrict x, int4 xl, __global const float *restrict dy,\n",
"                      int4 dyl, __global float *restrict part, int N, int C, int O, int2 K,\n",
"                      int2 stride, int2 pad, int2 OHW, int S)\n",
"{\n",
"    __local float a[2][CONV_BK * WGRAD_LDA] __attribute__((aligned(16)));\n",
"    __local float b[2][CONV_BK * WGRAD_LDB] __attribute__((aligned(16)));\n",
"    const int id = (int)get_local_id(0), split = (int)get_group_id(2);\n",
"    const int o0 = (int)get_group_id(0) * CONV_BN, q0 = (int)get_group_id(1) * (CONV_BM / 8);\n",
"    const int count = K.x * K.y, cols = (C + 7) / 8 * count;\n",
"    const int n0 = (int)((long)split * N / S), n1 = (int)((long)(split + 1) * N / S);\n",
"    const int points = (n1 - n0) * OHW.x * OHW.y, slices = (points + CONV_BK - 1) / CONV_BK;\n",
"    /* Fetched by this item: 4 lanes at point k of the slice, of dy block cb, x columns q and, where\n",
"     * the items do not reach all, q + more. */\n",
"    const int lane4 = id % 2 * 4, k = id / 2 % 8, at = id / 16 * 8 + lane4, more = CONV_ITEMS / 16;\n",
"    const int cb = o0 / 8 + id / 16, q = q0 + id / 16;\n",
"    const int ta = q % count, tb = (q + more) % count;\n",
"    const int xa = q / count * xl.z + (ta / K.x - pad.y) * xl.y + (ta % K.x - pad.x) * 8;\n",
"    const int xb = (q + more) / count * xl.z + (tb / K.x - pad.y) * xl.y + (tb % K.x - pad.x) * 8;\n",
"    const conv_item t = conv_place(id, O - o0);\n",
"    const wgrad_point jump = wgrad_split(CONV_BK, OHW);\n",
"    wgrad_point p = wgrad_split(k, OHW);\n",
"    float4 acc[8][2];\n",
"\n",
"    if (o0 >= O || q0 >= cols)\n",
"        return;\n",
"    part += (size_t)split * ((O + 15) / 16) * cols * 128;\n",
"    conv_clear(acc);\n",
"    for (int s = -1; s < slices; ++s) {\n",
"        const int cur = s & 1, next = cur ^ 1;\n",
"        float4 va = (float4)(0.0f), vb = (float4)(0.0f), vd = (float4)(0.0f);\n",
"        if ((s + 1) * CONV_BK + k < points) {\n",
"            __global const float *px = x + (size_t)(n0 + p.n) * xl.w + xl.x + lane4 +\n",
"                                       stride.y * p.r * xl.y + stride.x * p.c * 8;\n",
"            if (q < cols)\n",
"                va = CONV_LOAD4(px + xa);\n",
"            if (more < CONV_BM / 8 && q + more < cols)\n",
"                vb = CONV_LOAD4(px + xb);\n",
"            if (cb * 8 < O)\n",
"                vd = CONV_LOAD4(dy + (size_t)(n0 + p.n) * dyl.w + dyl.x + lane4 +\n",
"                                (size_t)cb * dyl.z + p.r * dyl.y + p.c * 8);\n",
"            p = wgrad_add(p, jump, OHW);\n",
"        }\n",
"        if (s >= 0)\n",
"            conv_step(t, a[cur], WGRAD_LDA, b[cur], WGRAD_LDB, CONV_BK, acc);\n",
"        if (s + 1 == slices || s % WGRAD_FOLD == WGRAD_FOLD - 1)\n",
"            wgrad_fold(part, t, o0, q0, O, cols, s < WGRAD_FOLD, acc);\n",
"        if (s + 1 < slices) {\n",
"            *(__local float4 *)(a[next] + k * WGRAD_LDA + at) = va;\n",
"            if (more < CONV_BM / 8)\n",
"                *(__local float4 *)(a[next] + k * WGRAD_LDA + more * 8 + at) = vb;\n",
"            *(__local float4 *)(b[next] + k * WGRAD_LDB + at) = vd;\n",
"        }\n",
"        barrier(CLK_LOCAL_MEM_FENCE);\n",
"    }\n",
"}\n",
"\n",
"OSR_KERNEL conv_wgrad_reduce(__global const float *restrict part, __global float *restrict dw,\n",
"                             int dwoff, int O, int I, int KH, int KW, int S,\n",
"                             int accumulate)\n",
"{\n",
"    const int og = (int)get_group_id(0), ib = (int)get_group_id(1), count = KH * KW;\n",
"    const int blocks = (I + 7) / 8;\n",
"    const size_t step = (size_t)((O + 15) / 16) * blocks * count * 128;\n",
"\n",
"    for (int t = (int)get_group_id(2); t < count; t += (int)get_num_groups(2)) {\n",
"        __global const float *p = part + (((size_t)og * blocks + ib) * count + t) * 128;\n",
"        for (int e = (int)get_local_id(0); e < 128; e += LS) {\n",
"            const int i = ib * 8 + e / 16, o = og * 16 + e % 16;\n",
"            float sum = 0.0f;\n",
"            for (int s = 0; s < S; ++s)\n",
"                sum += p[(size_t)s * step + e];\n",
"            if (i < I && o < O) {\n",
"                const size_t at = dwoff + ((size_t)o * I + i) * count + t;\n",
"                dw[at] = accumulate ? dw[at] + sum : sum;\n",
"            }\n",
"        }\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_element[] = {
"#line 1 \"kernels/element.cl\"\n",
"/* element.cl - element by element, and sums over everything\n",
" *\n",
" * Dense kernels are flat launches: ceil(count / CHUNK) groups on a CPU, ceil(count / LS) groups of\n",
" * LS items else. Image kernels run one group of LS items for each (n, cb). */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* code: 0 a+b, 1 a-b, 2 a*b, 3 a/b, 4 s*a+t, 5 exp a, 6 ln a, 7 sqrt a, 8 gradient of sqrt: a is\n",
" * the gradient, b the root */\n",
"static inline float map_one(int code, float a, float b, float s, float t)\n",
"{\n",
"    switch (code) {\n",
"    case 0: return a + b;\n",
"    case 1: return a - b;\n",
"    case 2: return a * b;\n",
"    case 3: return a / b;\n",
"    case 4: return s * a + t;\n",
"    case 5: return exp(a);\n",
"    case 6: return log(a);\n",
"    case 7: return sqrt(a);\n",
"    default: return b > 0.0f ? 0.5f * a / b : 0.0f;\n",
"    }\n",
"}\n",
"\n",
"OSR_KERNEL map_dense(__global const float *a, int aoff, __global const float *b, int boff,\n",
"                     __global float *y, int yoff, int count, int code, float s, float t)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    y[yoff + i] = map_one(code, a[aoff + i], b[boff + i], s, t);\n",
"}\n",
"\n",
"OSR_KERNEL map_image(__global const float *a, const int4 al, __global const float *b, const int4 bl,\n",
"                     __global float *y, const int4 yl, int CB, int C, int H, int W, int code,\n",
"                     float s, float t)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const int lanes = min(8, C - cb * 8);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        __global const float *pa = a + image_at(al, n, cb, r, c);\n",
"        __global const float *pb = b + image_at(bl, n, cb, r, c);\n",
"        __global float *py = y + image_at(yl, n, cb, r, c);\n",
"        for (int i = 0; i < lanes; ++i)\n",
"            py[i] = map_one(code, pa[i], pb[i], s, t);\n",
"    }\n",
"}\n",
"\n",
"/* y[i] = scale * v[0] for every element of a dense tensor. */\n",
"OSR_KERNEL spread(__global const float *v, int voff, __global float *y, int yoff, int count,\n",
"                  float scale)\n",
"{\n",
"    const float f = scale * v[voff];\n",
"    FOR_FLAT(i, count)\n",
"    y[yoff + i] = f;\n",
"}\n",
"\n",
"/* y[i] = value for every element of a dense tensor. */\n",
"OSR_KERNEL fill_dense(__global float *y, int yoff, int count, float value)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    y[yoff + i] = value;\n",
"}\n",
"\n",
"/* value into every real element of an image. */\n",
"OSR_KERNEL fill_image(__global float *y, const int4 yl, int CB, int C, int H, int W, float value)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const float8 v = real_lanes(cb, C) * value;\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    STORE8(y + image_at(yl, n, cb, r, c), v);\n",
"}\n",
"\n",
"/* y[0] = scale * sum of count values. One group of LS items. */\n",
"OSR_KERNEL sum_all(__global const float *x, int xoff, __global float *y, int yoff, int count,\n",
"                   float scale)\n",
"{\n",
"    __local float tmp[LS];\n",
"    float s = 0.0f, lost = 0.0f;\n",
"    FOR_ROW(i, count)\n",
"    { /* compensated: a long row of one sign loses nothing */\n",
"        const float v = x[xoff + i] - lost, t = s + v;\n",
"        lost = (t - s) - v;\n",
"        s = t;\n",
"    }\n",
"    s = group_sum(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        y[yoff] = scale * s;\n",
"}\n",
"\n",
"/* y[c] = sum over rows of x[rows][cols], the gradient of a dense bias. One group for each c.\n",
" * accumulate: y[c] += */\n",
"OSR_KERNEL column_sum(__global const float *x, int xoff, __global float *y, int yoff, int rows,\n",
"                      int cols, int accumulate)\n",
"{\n",
"    const int c = (int)get_group_id(0);\n",
"    __local float tmp[LS];\n",
"    float s = 0.0f;\n",
"    FOR_ROW(i, rows)\n",
"    s += x[xoff + (size_t)i * cols + c];\n",
"    s = group_sum(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        y[yoff + c] = accumulate ? y[yoff + c] + s : s;\n",
"}\n",
"\n",
"/* part[n][c] = sum over a plane: first half of the gradient of an image's bias. */\n",
"OSR_KERNEL plane_sum(__global const float *x, const int4 xl, __global float *part, int CB, int H,\n",
"                     int W)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    __local float8 tmp[LS];\n",
"    float8 s = (float8)(0.0f);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    s += LOAD8(x + image_at(xl, n, cb, r, c));\n",
"    s = group_sum8(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        STORE8(part + (size_t)g * 8, s);\n",
"}\n",
"\n",
"/* y = x + b[c] on dense rows. Flat launch. */\n",
"OSR_KERNEL bias_dense(__global const float *x, int xoff, __global const float *b, int boff,\n",
"                      __global float *y, int yoff, int count, int cols)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    y[yoff + i] = x[xoff + i] + b[boff + i % cols];\n",
"}\n",
"\n",
"/* y = x + b[c] on an image. */\n",
"OSR_KERNEL bias_image(__global const float *x, const int4 xl, __global const float *b, int boff,\n",
"                      __global float *y, const int4 yl, int CB, int C, int H, int W)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const float8 v = load_lanes(b + boff, cb, C);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    STORE8(y + image_at(yl, n, cb, r, c), LOAD8(x + image_at(xl, n, cb, r, c)) + v);\n",
"}\n",
};
static const char *const osr__cl_jacobian[] = {
"#line 1 \"kernels/jacobian.cl\"\n",
"/* jacobian.cl - finite differences for the Frobenius norm of a network's Jacobian */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* Entry `e` of direction `j` of an image (0: all images'): kind 0 unit vector, 1 Gaussian\n",
" * (Box-Muller), 2 Rademacher; draws of another number are others. */\n",
"static inline float direction(int kind, int e, int j, int image, int draw, uint2 key)\n",
"{\n",
"    if (kind == 0)\n",
"        return e == j ? 1.0f : 0.0f;\n",
"    const uint4 r = philox((uint4)((uint)e, (uint)j, 0x6a61636fu + (uint)draw, (uint)image), key);\n",
"    if (kind == 2)\n",
"        return (r.x & 1u) != 0u ? 1.0f : -1.0f;\n",
"    return sqrt(-2.0f * log(uniform01(r.x))) * cospi(2.0f * uniform01(r.y));\n",
"}\n",
"\n",
"/* y[(n count + j) 2 + s] = x[n] + jitter u_{first+j} +- h v_{first+j}, u Rademacher; an entry's\n",
" * number is (r W + c) C + channel. own: 0, or the number of x[0], whose directions are of its own\n",
" * then. One group of LS items for each (n, j, cb). */\n",
"OSR_KERNEL perturb(__global const float *x, const int4 xl, __global float *y, const int4 yl, int CB,\n",
"                   int C, int H, int W, int count, int kind, int own, int first, float h,\n",
"                   float jitter, int draw, uint key0, uint key1)\n",
"{\n",
"    const int g = (int)get_group_id(0), cb = g % CB, nj = g / CB, n = nj / count;\n",
"    const int j = first + nj % count, lanes = min(8, C - cb * 8), image = own ? own + n : 0;\n",
"    const uint2 key = (uint2)(key0, key1);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        __global const float *p = x + image_at(xl, n, cb, r, c);\n",
"        __global float *a = y + image_at(yl, nj * 2, cb, r, c);\n",
"        __global float *b = y + image_at(yl, nj * 2 + 1, cb, r, c);\n",
"        for (int i = 0; i < lanes; ++i) {\n",
"            const int e = (r * W + c) * C + cb * 8 + i;\n",
"            const float d = h * direction(kind, e, j, image, 0, key);\n",
"            const float v = jitter > 0.0f ? p[i] + jitter * direction(2, e, j, image, draw, key)\n",
"                                          : p[i];\n",
"            a[i] = v + d;\n",
"            b[i] = v - d;\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* s[n] = scale sum_j <f[(n count + j) 2] - f[(n count + j) 2 + 1], the same of g>. One group an\n",
" * image. */\n",
"OSR_KERNEL difference_norm(__global const float *f, int foff, __global const float *g, int goff,\n",
"                           __global float *s, int soff, int count, int D, float scale)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0);\n",
"    float t = 0.0f;\n",
"    for (int j = 0; j < count; ++j) {\n",
"        __global const float *a = f + foff + (n * count + j) * 2 * D;\n",
"        __global const float *b = g + goff + (n * count + j) * 2 * D;\n",
"        float u = 0.0f;\n",
"        FOR_ROW(i, D)\n",
"        u += (a[i] - a[D + i]) * (b[i] - b[D + i]);\n",
"        t += u;\n",
"    }\n",
"    t = group_sum(t, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        s[soff + n] = t * scale;\n",
"}\n",
"\n",
"/* s[n] = sum of squares of an image. One group an image. */\n",
"OSR_KERNEL square_sum(__global const float *x, const int4 xl, __global float *s, int soff, int CB,\n",
"                      int H, int W)\n",
"{\n",
"    __local float8 tmp[LS];\n",
"    const int n = (int)get_group_id(0);\n",
"    float8 t = (float8)(0.0f);\n",
"    for (int cb = 0; cb < CB; ++cb) {\n",
"        FOR_PIXELS(r, c, H, W)\n",
"        {\n",
"            const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));\n",
"            t += v * v;\n",
"        }\n",
"    }\n",
"    t = group_sum8(t, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        s[soff + n] = t.s0 + t.s1 + t.s2 + t.s3 + t.s4 + t.s5 + t.s6 + t.s7;\n",
"}\n",
};
static const char *const osr__cl_layout[] = {
"#line 1 \"kernels/layout.cl\"\n",
"/* layout.cl - the doors between dense rows and channel-blocked images\n",
" *\n",
" * Every kernel runs one group of LS items for each (n, cb). */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* Dense values to an image. step: how far apart images, channels, rows and columns lie. */\n",
"OSR_KERNEL image_from_dense(__global const float *x, int xoff, __global float *y, const int4 yl,\n",
"                            int CB, int C, int H, int W, const int4 step)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const int lanes = min(8, C - cb * 8);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        __global const float *p = x + xoff + (size_t)n * step.x + (size_t)(cb * 8) * step.y\n",
"                                  + (size_t)r * step.z + (size_t)c * step.w;\n",
"        __global float *q = y + image_at(yl, n, cb, r, c);\n",
"        ROLLED for (int i = 0; i < lanes; ++i)\n",
"            q[i] = p[(size_t)i * step.y];\n",
"    }\n",
"}\n",
"\n",
"/* An image to dense values. */\n",
"OSR_KERNEL image_to_dense(__global const float *x, const int4 xl, __global float *y, int yoff,\n",
"                          int CB, int C, int H, int W, const int4 step)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const int lanes = min(8, C - cb * 8);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        __global const float *p = x + image_at(xl, n, cb, r, c);\n",
"        __global float *q = y + yoff + (size_t)n * step.x + (size_t)(cb * 8) * step.y\n",
"                            + (size_t)r * step.z + (size_t)c * step.w;\n",
"        ROLLED for (int i = 0; i < lanes; ++i)\n",
"            q[(size_t)i * step.y] = p[i];\n",
"    }\n",
"}\n",
"\n",
"/* y [4N]: plane t N + n is plane n of x, S x S, turned t times to the left. */\n",
"OSR_KERNEL image_turns(__global const float *x, const int4 xl, __global float *y, const int4 yl,\n",
"                       int N, int CB, int S)\n",
"{\n",
"    const int g = (int)get_group_id(0), m = g / CB, cb = g % CB;\n",
"    FOR_PIXELS(r, c, S, S)\n",
"    {\n",
"        int2 at = (int2)(c, r);\n",
"        for (int t = 0; t < m / N; ++t)\n",
"            at = (int2)(S - 1 - at.y, at.x);\n",
"        STORE8(y + image_at(yl, m, cb, r, c), LOAD8(x + image_at(xl, m % N, cb, at.y, at.x)));\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_loss[] = {
"#line 1 \"kernels/loss.cl\"\n",
"/* loss.cl - losses of rows with their gradients\n",
" *\n",
" * A loss kernel writes one value a row into rows; sum_all makes their mean. Its gradient, dense\n",
" * [N][K], it makes beside, where `parts` asks for it: LOSS_ONLY; LOSS_AND_SLOPE, the loss and\n",
" * dx = scale dL/dx; LOSS_AND_CHAIN, the same times dloss, a scalar on the device. One group of LS\n",
" * items a row. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"#define LOSS_ONLY 0\n",
"#define LOSS_AND_SLOPE 1\n",
"#define LOSS_AND_CHAIN 2\n",
"\n",
"static inline float slope_scale(__global const float *dloss, int dloff, float scale, int parts)\n",
"{\n",
"    return parts == LOSS_AND_CHAIN ? scale * dloss[dloff] : scale;\n",
"}\n",
"\n",
"/* Target of class k: 1 - s for the label, s / (K - 1) otherwise. */\n",
"static inline float smooth_target(int k, int label, int K, float s)\n",
"{\n",
"    return k == label ? 1.0f - s : K > 1 ? s / (float)(K - 1) : 0.0f;\n",
"}\n",
"\n",
"/* Largest of row x (times sign, plus shift) and sum of exp(value - largest). */\n",
"static inline float2 signed_max_sum(__global const float *x, int K, float sign, __local float *tmp)\n",
"{\n",
"    float m = -INFINITY, s = 0.0f;\n",
"    FOR_ROW(k, K)\n",
"    m = fmax(m, sign * x[k]);\n",
"    m = group_max(m, tmp);\n",
"    FOR_ROW(k, K)\n",
"    s += exp(sign * x[k] - m);\n",
"    return (float2)(m, group_sum(s, tmp));\n",
"}\n",
"\n",
"OSR_KERNEL loss_cross_entropy(__global const float *x, int xoff, __global const int *labels,\n",
"                              __global float *rows, __global float *dx, int dxoff,\n",
"                              __global const float *dloss, int dloff, int K, float smoothing,\n",
"                              float scale, int parts)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0), at = n * K;\n",
"    const float2 ms = signed_max_sum(x + xoff + at, K, 1.0f, tmp);\n",
"    const float f = slope_scale(dloss, dloff, scale, parts);\n",
"    float s = 0.0f;\n",
"    FOR_ROW(k, K)\n",
"    {\n",
"        const float v = x[xoff + at + k] - ms.x, t = smooth_target(k, labels[n], K, smoothing);\n",
"        s -= t * (v - log(ms.y));\n",
"        if (parts != LOSS_ONLY)\n",
"            dx[dxoff + at + k] = f * (exp(v) / ms.y - t);\n",
"    }\n",
"    s = group_sum(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        rows[n] = s;\n",
"}\n",
"\n",
"/* ln(1 + sum_{k != y} exp(d_y - d_k)) = d_y + ln sum_k exp(-d_k) */\n",
"OSR_KERNEL loss_cac(__global const float *d, int doff, __global const int *labels,\n",
"                    __global float *rows, __global float *dx, int dxoff,\n",
"                    __global const float *dloss, int dloff, int K, float lambda, float scale,\n",
"                    int parts)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0), at = n * K;\n",
"    const float2 ms = signed_max_sum(d + doff + at, K, -1.0f, tmp);\n",
"    const float dy = d[doff + at + labels[n]], f = slope_scale(dloss, dloff, scale, parts);\n",
"    if (parts != LOSS_ONLY)\n",
"        FOR_ROW(k, K)\n",
"        dx[dxoff + at + k] = f * ((k == labels[n] ? 1.0f + lambda : 0.0f)\n",
"                                  - exp(-d[doff + at + k] - ms.x) / ms.y);\n",
"    if (get_local_id(0) == 0)\n",
"        rows[n] = (dy + ms.x) + log(ms.y) + lambda * dy;\n",
"}\n",
"\n",
"OSR_KERNEL loss_difair(__global const float *d, int doff, __global const int *labels,\n",
"                       __global float *rows, __global float *dx, int dxoff,\n",
"                       __global const float *dloss, int dloff, int K, float radius, float pull,\n",
"                       float scale, int parts)\n",
"{\n",
"    const size_t n = get_group_id(0), at = n * K;\n",
"    const float dy = d[doff + at + labels[n]], f = slope_scale(dloss, dloff, scale, parts);\n",
"    if (parts != LOSS_ONLY)\n",
"        FOR_ROW(k, K)\n",
"        dx[dxoff + at + k] = k == labels[n] ? f * (pull + (dy > radius ? 1.0f : 0.0f)) : 0.0f;\n",
"    if (get_local_id(0) == 0)\n",
"        rows[n] = pull * dy + fmax(dy - radius, 0.0f);\n",
"}\n",
"\n",
"#define COS_LIMIT (1.0f - 1e-6f)\n",
"\n",
"static inline float softplus(float v)\n",
"{\n",
"    return fmax(v, 0.0f) + log1p(exp(-fabs(v)));\n",
"}\n",
"\n",
"/* T cos(arccos(c) + m); T = 0: c is the logit itself */\n",
"static inline float margin_logit(float c, float T, float cm, float sm)\n",
"{\n",
"    if (T == 0.0f)\n",
"        return c;\n",
"    const float v = clamp(c, -COS_LIMIT, COS_LIMIT);\n",
"    return T * (v * cm - sqrt((1.0f - v) * (1.0f + v)) * sm);\n",
"}\n",
"\n",
"/* d l / d c = T (cm + c sm / sqrt(1 - c^2)); 0 where c is clamped. */\n",
"static inline float margin_slope(float c, float T, float cm, float sm)\n",
"{\n",
"    if (T == 0.0f)\n",
"        return 1.0f;\n",
"    return fabs(c) < COS_LIMIT\n",
"               ? T * (cm + c * sm / sqrt(fmax((1.0f - c) * (1.0f + c), 1e-12f))) : 0.0f;\n",
"}\n",
"\n",
"OSR_KERNEL loss_movr(__global const float *c, int coff, __global const int *labels,\n",
"                     __global float *rows, __global float *dx, int dxoff,\n",
"                     __global const float *dloss, int dloff, int K, float T, float cm, float sm,\n",
"                     float scale, int parts)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0), at = n * K;\n",
"    const float f = slope_scale(dloss, dloff, scale, parts);\n",
"    float s = 0.0f;\n",
"    FOR_ROW(k, K)\n",
"    {\n",
"        const float v = c[coff + at + k], l = margin_logit(v, T, cm, sm);\n",
"        s += softplus(k == labels[n] ? -l : l);\n",
"        if (parts != LOSS_ONLY)\n",
"            dx[dxoff + at + k] = f * (1.0f / (1.0f + exp(-l)) - (k == labels[n] ? 1.0f : 0.0f))\n",
"                                 * margin_slope(v, T, cm, sm);\n",
"    }\n",
"    s = group_sum(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        rows[n] = s;\n",
"}\n",
"\n",
"/* Correlation penalty of filters w[K F][M]: stats[i] = mean, stats[KF + i] = 1/std of filter i,\n",
" * one group a filter. */\n",
"OSR_KERNEL correlation_stats(__global const float *w, int woff, __global float *stats, int KF,\n",
"                             int M)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const int i = (int)get_group_id(0);\n",
"    __global const float *p = w + woff + (size_t)i * M;\n",
"    float s = 0.0f, q = 0.0f;\n",
"    FOR_ROW(j, M)\n",
"    s += p[j];\n",
"    const float mean = group_sum(s, tmp) / (float)M;\n",
"    FOR_ROW(j, M)\n",
"    q += (p[j] - mean) * (p[j] - mean);\n",
"    const float std = sqrt(group_sum(q, tmp) / (float)M);\n",
"    if (get_local_id(0) == 0) {\n",
"        stats[i] = mean;\n",
"        stats[KF + i] = std > 0.0f ? 1.0f / std : 1.0f;\n",
"    }\n",
"}\n",
"\n",
"/* rho[i][q] = correlation of filter i with filter q of its class; one group a filter. */\n",
"OSR_KERNEL correlation_rho(__global const float *w, int woff, __global const float *stats,\n",
"                           __global float *rho, int KF, int F, int M)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const int i = (int)get_group_id(0), first = i / F * F;\n",
"    __global const float *p = w + woff + (size_t)i * M;\n",
"    for (int q = 0; q < F; ++q) {\n",
"        const int j = first + q;\n",
"        __global const float *r = w + woff + (size_t)j * M;\n",
"        float s = 0.0f;\n",
"        FOR_ROW(m, M)\n",
"        s += (p[m] - stats[i]) * (r[m] - stats[j]);\n",
"        s = group_sum(s, tmp) * stats[KF + i] * stats[KF + j] / (float)M;\n",
"        if (get_local_id(0) == 0)\n",
"            rho[(size_t)i * F + q] = s;\n",
"    }\n",
"}\n",
"\n",
"/* y[0] = weight sum over pairs p < q of each class; absolute 1: of |rho|. One group. */\n",
"OSR_KERNEL correlation_sum(__global const float *rho, __global float *y, int yoff, int KF, int F,\n",
"                           int absolute, float weight)\n",
"{\n",
"    __local float tmp[LS];\n",
"    float s = 0.0f;\n",
"    FOR_ROW(i, KF)\n",
"    for (int q = i % F + 1; q < F; ++q)\n",
"        s += absolute ? fabs(rho[(size_t)i * F + q]) : rho[(size_t)i * F + q];\n",
"    s = group_sum(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        y[yoff] = weight * s;\n",
"}\n",
"\n",
"/* dw_i = weight dloss sum_{q != i} g_q (u_q - rho_iq u_i) / (M std_i), u = (w - mean) / std,\n",
" * g = sign of rho or 1. One group a filter; accumulate: +=. */\n",
"OSR_KERNEL correlation_dw(__global const float *w, int woff, __global const float *stats,\n",
"                          __global const float *rho, __global const float *dloss, int dloff,\n",
"                          __global float *dw, int dwoff, int KF, int F, int M, int absolute,\n",
"                          float weight, int accumulate)\n",
"{\n",
"    const int i = (int)get_group_id(0), first = i / F * F;\n",
"    const float f = weight * dloss[dloff] * stats[KF + i] / (float)M;\n",
"    FOR_ROW(m, M)\n",
"    {\n",
"        const float ui = (w[woff + (size_t)i * M + m] - stats[i]) * stats[KF + i];\n",
"        float s = 0.0f;\n",
"        for (int q = 0; q < F; ++q) {\n",
"            const int j = first + q;\n",
"            const float r = rho[(size_t)i * F + q];\n",
"            const float g = j == i ? 0.0f : !absolute ? 1.0f : r > 0.0f ? 1.0f : r < 0.0f ? -1.0f\n",
"                                                                                          : 0.0f;\n",
"            s += g * ((w[woff + (size_t)j * M + m] - stats[j]) * stats[KF + j] - r * ui);\n",
"        }\n",
"        const size_t at = dwoff + (size_t)i * M + m;\n",
"        dw[at] = accumulate ? dw[at] + f * s : f * s;\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_matmul_cpu[] = {
"#line 1 \"kernels/matmul_cpu.cl\"\n",
"/* matmul_cpu.cl - dense matrix products C [M][N] = A B, row-major, CPU family\n",
" *\n",
" *   matmul_nn   A [M][K], B [K][N]\n",
" *   matmul_nt   A [M][K], B [N][K]: C = A B^T\n",
" *   matmul_tn   A [K][M], B [K][N]: C = A^T B\n",
" * Arguments: a, aoff, b, boff, c, coff, M, N, K; offsets in floats, any alignment; C is overwritten\n",
" * (zeros when K is 0) and must not overlap A or B.\n",
" *\n",
" * matmul_nn and matmul_tn make a tile of 64 x 64 from blocks of depth 64, which they copy, filled\n",
" * up with zeros, to local memory (32 KiB); each block's sums are added to C, which keeps the\n",
" * rounding error of long products small. matmul_nt multiplies along K with vectors, MM_NT_R rows\n",
" * of A by MM_NT_C rows of B at once, and adds up the lanes at the end; no operand is copied.\n",
" *\n",
" * Launch geometry: ceil(M / T), ceil(N / T), 1 groups of local size 1, 1, 1, with\n",
" * T = 8 for matmul_nt with N <= 64, T = 64 otherwise. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"#define MM_TILE 64\n",
"#define MM_THIN_N 64\n",
"#define MM_THIN 8\n",
"#define MM_NT_DEPTH 1024 /* terms summed lane by lane before they are added to C */\n",
"\n",
"/* A register block of matmul_nn and matmul_tn: MM_R rows by MM_V float16. One of matmul_nt: MM_NT_R\n",
" * rows of A by MM_NT_C rows of B, in vectors of MM_LANES. They are made for 32 vector registers of\n",
" * 512 bits, or 16 of 256 bits. */\n",
"#ifdef __AVX512F__\n",
"#define MM_R 8\n",
"#define MM_V 2\n",
"#define MM_NT_R 8\n",
"#define MM_NT_C 3\n",
"typedef float16 mm_vec;\n",
"#define MM_LANES 16\n",
"#define MM_LOAD(p) vload16(0, p)\n",
"#else\n",
"#define MM_R 4\n",
"#define MM_V 1\n",
"#define MM_NT_R 4\n",
"#define MM_NT_C 3\n",
"typedef float8 mm_vec;\n",
"#define MM_LANES 8\n",
"#define MM_LOAD(p) vload8(0, p)\n",
"#endif\n",
"#define MM_UNROLL _Pragma(\"unroll\")\n",
"#define MM_LOCAL16(p) (*(__local float16 *)(p))\n",
"\n",
"/* d [64][64] = lines x width values of p, lines ld apart. The rest of each line and the lines up to\n",
" * a multiple of 8 are zeros. */\n",
"static inline void mm_copy(__global const float *p, int ld, int lines, int width,\n",
"                           __local float *d)\n",
"{\n",
"    ROLLED for (int i = 0; i < lines; ++i, p += ld, d += MM_TILE) {\n",
"        int j = 0;\n",
"        ROLLED for (; j + 16 <= width; j += 16) MM_LOCAL16(d + j) = vload16(0, p + j);\n",
"        ROLLED for (; j < MM_TILE; ++j) d[j] = j < width ? p[j] : 0.0f;\n",
"    }\n",
"    ROLLED for (int j = 0; j < (lines + 7) / 8 * 8 * MM_TILE - lines * MM_TILE; j += 16)\n",
"        MM_LOCAL16(d + j) = (float16)(0.0f);\n",
"}\n",
"\n",
"/* C [rows][cols] = (first) or += a register block of sums. */\n",
"static inline void mm_store(__global float *c, int N, int rows, int cols, int first,\n",
"                            float16 (*acc)[MM_V])\n",
"{\n",
"    ROLLED for (int r = 0; r < min(rows, MM_R); ++r) ROLLED for (int v = 0; v < MM_V; ++v)\n",
"    {\n",
"        __global float *p = c + (size_t)r * N + v * 16;\n",
"        const float *t = (const float *)&acc[r][v];\n",
"        const int left = cols - v * 16;\n",
"        if (left >= 16)\n",
"            vstore16(first ? acc[r][v] : vload16(0, p) + acc[r][v], 0, p);\n",
"        else\n",
"            ROLLED for (int j = 0; j < left; ++j) p[j] = first ? t[j] : p[j] + t[j];\n",
"    }\n",
"}\n",
"\n",
"/* A register block over one depth block: row r, term k of A is a[r * rs + k * ks]. */\n",
"static inline void mm_block(__local const float *a, int rs, int ks,\n",
"                            __local const float *b, int depth, float16 (*out)[MM_V])\n",
"{\n",
"    float16 acc[MM_R][MM_V];\n",
"    MM_UNROLL for (int r = 0; r < MM_R; ++r) MM_UNROLL for (int v = 0; v < MM_V; ++v)\n",
"        acc[r][v] = (float16)(0.0f);\n",
"    ROLLED for (int k = 0; k < depth; ++k, a += ks, b += MM_TILE) {\n",
"        float16 bv[MM_V];\n",
"        MM_UNROLL for (int v = 0; v < MM_V; ++v) bv[v] = *(__local const float16 *)(b + v * 16);\n",
"        MM_UNROLL for (int r = 0; r < MM_R; ++r)\n",
"        {\n",
"            const float16 av = (float16)(a[r * rs]);\n",
"            MM_UNROLL for (int v = 0; v < MM_V; ++v) acc[r][v] += av * bv[v];\n",
"        }\n",
"    }\n",
"    MM_UNROLL for (int r = 0; r < MM_R; ++r) MM_UNROLL for (int v = 0; v < MM_V; ++v)\n",
"        out[r][v] = acc[r][v];\n",
"}\n",
"\n",
"/* The 64 x 64 tile from (m0, n0) of C = A B (ta 0) or A^T B (ta 1); la and lb hold a depth block of\n",
" * each. */\n",
"OSR_PART mm_tile(__global const float *restrict a, __global const float *restrict b,\n",
"                 __global float *restrict c, int M, int N, int K, int ta, int m0, int n0,\n",
"                 __local float *restrict la, __local float *restrict lb)\n",
"{\n",
"    const int rows = min(M - m0, MM_TILE), cols = min(N - n0, MM_TILE);\n",
"    const int rs = ta ? 1 : MM_TILE, ks = ta ? MM_TILE : 1;\n",
"    int k0 = 0;\n",
"\n",
"    do {\n",
"        const int depth = min(K - k0, MM_TILE);\n",
"        if (ta)\n",
"            mm_copy(a + (size_t)k0 * M + m0, M, depth, rows, la);\n",
"        else\n",
"            mm_copy(a + (size_t)m0 * K + k0, K, rows, depth, la);\n",
"        mm_copy(b + (size_t)k0 * N + n0, N, depth, cols, lb);\n",
"        ROLLED for (int r = 0; r < rows; r += MM_R)\n",
"            ROLLED for (int j = 0; j < cols; j += MM_V * 16) {\n",
"                float16 acc[MM_R][MM_V];\n",
"                mm_block(la + r * rs, rs, ks, lb + j, depth, acc);\n",
"                mm_store(c + (size_t)(m0 + r) * N + n0 + j, N, rows - r, cols - j, k0 == 0, acc);\n",
"            }\n",
"        k0 += MM_TILE;\n",
"    } while (k0 < K);\n",
"}\n",
"\n",
"static inline float mm_lanes(mm_vec v)\n",
"{\n",
"#if MM_LANES == 16\n",
"    const float8 e = v.lo + v.hi;\n",
"#else\n",
"    const float8 e = v;\n",
"#endif\n",
"    const float4 f = e.lo + e.hi;\n",
"    const float2 g = f.lo + f.hi;\n",
"    return g.x + g.y;\n",
"}\n",
"\n",
"/* C [rows][cols] = (first) or += the products of `depth` terms of MM_NT_R rows of A and MM_NT_C\n",
" * rows of B, each K apart. Rows beyond `rows` or `cols` repeat the last one and are not stored. */\n",
"static inline void mm_dot(__global const float *a, __global const float *b,\n",
"                          __global float *c, int N, int K, int rows, int cols, int depth,\n",
"                          int first)\n",
"{\n",
"    __global const float *ap[MM_NT_R], *bp[MM_NT_C];\n",
"    mm_vec acc[MM_NT_R][MM_NT_C];\n",
"    mm_vec lanes[MM_NT_R][MM_NT_C];\n",
"    int k = 0;\n",
"\n",
"    MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) bp[j] = b + (size_t)min(j, cols - 1) * K;\n",
"    MM_UNROLL for (int r = 0; r < MM_NT_R; ++r)\n",
"    {\n",
"        ap[r] = a + (size_t)min(r, rows - 1) * K;\n",
"        MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) acc[r][j] = (mm_vec)(0.0f);\n",
"    }\n",
"    ROLLED for (; k + MM_LANES <= depth; k += MM_LANES) {\n",
"        mm_vec bv[MM_NT_C];\n",
"        MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) bv[j] = MM_LOAD(bp[j] + k);\n",
"        MM_UNROLL for (int r = 0; r < MM_NT_R; ++r)\n",
"        {\n",
"            const mm_vec av = MM_LOAD(ap[r] + k);\n",
"            MM_UNROLL for (int j = 0; j < MM_NT_C; ++j) acc[r][j] += av * bv[j];\n",
"        }\n",
"    }\n",
"    MM_UNROLL for (int r = 0; r < MM_NT_R; ++r) MM_UNROLL for (int j = 0; j < MM_NT_C; ++j)\n",
"        lanes[r][j] = acc[r][j];\n",
"    ROLLED for (int r = 0; r < min(rows, MM_NT_R); ++r)\n",
"        ROLLED for (int j = 0; j < min(cols, MM_NT_C); ++j) {\n",
"            float sum = mm_lanes(lanes[r][j]);\n",
"            ROLLED for (int t = k; t < depth; ++t) sum += a[r * K + t] * b[j * K + t];\n",
"            c[(size_t)r * N + j] = first ? sum : c[(size_t)r * N + j] + sum;\n",
"        }\n",
"}\n",
"\n",
"#define MM_KERNEL(NAME)                                                                            \\\n",
"    OSR_KERNEL NAME(__global const float *restrict a, int aoff, __global const float *restrict b,  \\\n",
"                    int boff, __global float *restrict c, int coff, int M, int N, int K)\n",
"\n",
"MM_KERNEL(matmul_nn)\n",
"{\n",
"    __local float la[MM_TILE * MM_TILE] __attribute__((aligned(64)));\n",
"    __local float lb[MM_TILE * MM_TILE] __attribute__((aligned(64)));\n",
"    mm_tile(a + aoff, b + boff, c + coff, M, N, K, 0, (int)get_group_id(0) * MM_TILE,\n",
"            (int)get_group_id(1) * MM_TILE, la, lb);\n",
"}\n",
"\n",
"MM_KERNEL(matmul_tn)\n",
"{\n",
"    __local float la[MM_TILE * MM_TILE] __attribute__((aligned(64)));\n",
"    __local float lb[MM_TILE * MM_TILE] __attribute__((aligned(64)));\n",
"    mm_tile(a + aoff, b + boff, c + coff, M, N, K, 1, (int)get_group_id(0) * MM_TILE,\n",
"            (int)get_group_id(1) * MM_TILE, la, lb);\n",
"}\n",
"\n",
"/* Rows m0 .. m1-1 and columns n0 .. n1-1 of C = A B^T. */\n",
"OSR_PART mm_dots(__global const float *restrict a, __global const float *restrict b,\n",
"                 __global float *restrict c, int N, int K, int m0, int m1, int n0, int n1)\n",
"{\n",
"    int k = 0;\n",
"\n",
"    do {\n",
"        const int depth = min(K - k, MM_NT_DEPTH);\n",
"        ROLLED for (int m = m0; m < m1; m += MM_NT_R)\n",
"            ROLLED for (int n = n0; n < n1; n += MM_NT_C)\n",
"                mm_dot(a + (size_t)m * K + k, b + (size_t)n * K + k, c + (size_t)m * N + n, N, K,\n",
"                       m1 - m, n1 - n, depth, k == 0);\n",
"        k += MM_NT_DEPTH;\n",
"    } while (k < K);\n",
"}\n",
"\n",
"MM_KERNEL(matmul_nt)\n",
"{\n",
"    const int tile = N <= MM_THIN_N ? MM_THIN : MM_TILE;\n",
"    const int m0 = (int)get_group_id(0) * tile, n0 = (int)get_group_id(1) * tile;\n",
"\n",
"    mm_dots(a + aoff, b + boff, c + coff, N, K, m0, min(m0 + tile, M), n0, min(n0 + tile, N));\n",
"}\n",
};
static const char *const osr__cl_matmul_gpu[] = {
"#line 1 \"kernels/matmul_gpu.cl\"\n",
"/* matmul_gpu.cl - dense matrix products C [M][N] = A B, row-major, GPU family\n",
" *\n",
" *   matmul_nn   A [M][K], B [K][N]\n",
" *   matmul_nt   A [M][K], B [N][K]: C = A B^T\n",
" *   matmul_tn   A [K][M], B [K][N]: C = A^T B\n",
" * Arguments: a, aoff, b, boff, c, coff, M, N, K; offsets in floats, any alignment; C is overwritten\n",
" * (zeros when K is 0) and must not overlap A or B.\n",
" *\n",
" * A group of MM_ITEMS items makes a tile of MM_M x MM_N (128 of them 64 x 64, unless the host says\n",
" * else), 8 x 4 or 4 x 4 an item, from slices of depth 16 in local memory; while one slice is\n",
" * multiplied the next is fetched into registers. Sums are folded every 256 terms, which keeps the\n",
" * rounding error of long products small. Every sum has a fixed order.\n",
" * matmul_nt with N <= 64, a linear layer of few outputs, has too few such tiles to fill a device:\n",
" * there a group makes a tile of 8 x 8, its items share the terms, and their sums are then added.\n",
" *\n",
" * Launch geometry: ceil(M / MM_M), ceil(N / MM_N), 1 groups of local size MM_ITEMS, 1, 1; for\n",
" * matmul_nt with N <= 64 ceil(M / 8), ceil(N / 8), 1. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"#ifndef MM_ITEMS\n",
"#define MM_ITEMS 128\n",
"#define MM_M 64\n",
"#define MM_N 64\n",
"#endif\n",
"#define MM_DEPTH 16\n",
"#define MM_SIZE(tile) (MM_DEPTH * ((tile) + 4))\n",
"#define MM_FETCH(tile) ((tile) * MM_DEPTH / MM_ITEMS)\n",
"#define MM_ROWS (MM_M * MM_N / 4 / MM_ITEMS) /* of an item: runs of 4, MM_APART apart */\n",
"#define MM_APART (MM_ITEMS * 16 / MM_N)\n",
"#define MM_SHARE (MM_ITEMS / 16) /* items that add up one sum of mm_thin */\n",
"#define MM_FOLD 16 /* slices */\n",
"#define MM_THIN_N 64\n",
"#define MM_THIN 8\n",
"\n",
"#define MM_LOCAL4(p) (*(__local float4 *)(p))\n",
"#define MM_UNROLL _Pragma(\"unroll\")\n",
"#ifdef FP_FAST_FMAF\n",
"#define MM_FMA(a, b, c) fma(a, b, c)\n",
"#else\n",
"#define MM_FMA(a, b, c) ((a) * (b) + (c))\n",
"#endif\n",
"\n",
"/* Element e of this item in a slice: its row r of the tile and depth k, neighbours in memory for\n",
" * neighbouring items. Operands stored [rows][K] run along k, those stored [K][rows] along r. */\n",
"static inline int mm_row(int along_k, int tile, int id, int e)\n",
"{\n",
"    return along_k ? id / MM_DEPTH + e * (MM_ITEMS / MM_DEPTH) : id % tile;\n",
"}\n",
"\n",
"static inline int mm_depth(int along_k, int tile, int id, int e)\n",
"{\n",
"    return along_k ? id % MM_DEPTH : id / tile + e * (MM_ITEMS / tile);\n",
"}\n",
"\n",
"/* Fetches rows r0.. and depths k0.. of an operand with `rows` rows; zeros beyond its end. */\n",
"static inline void mm_fetch(__global const float *p, int along_k, int tile, int rows, int K, int r0,\n",
"                            int k0, int id, float *v)\n",
"{\n",
"    MM_UNROLL for (int e = 0; e < MM_FETCH(tile); ++e)\n",
"    {\n",
"        const int r = r0 + mm_row(along_k, tile, id, e), k = k0 + mm_depth(along_k, tile, id, e);\n",
"        v[e] = 0.0f;\n",
"        if (r < rows && k < K)\n",
"            v[e] = p[along_k ? (size_t)r * K + k : (size_t)k * rows + r];\n",
"    }\n",
"}\n",
"\n",
"static inline void mm_keep(__local float *d, int along_k, int tile, int id, const float *v)\n",
"{\n",
"    MM_UNROLL for (int e = 0; e < MM_FETCH(tile); ++e)\n",
"        d[mm_depth(along_k, tile, id, e) * (tile + 4) + mm_row(along_k, tile, id, e)] = v[e];\n",
"}\n",
"\n",
"/* acc[r] += sum over k of a[k][row r] b[k][4 columns]. */\n",
"static inline void mm_step(__local float *a, __local float *b, float4 *acc)\n",
"{\n",
"    MM_UNROLL for (int k = 0; k < MM_DEPTH; ++k)\n",
"    {\n",
"        const float4 v = MM_LOCAL4(b + k * (MM_N + 4));\n",
"        MM_UNROLL for (int r = 0; r < MM_ROWS; r += 4)\n",
"        {\n",
"            const float4 u = MM_LOCAL4(a + k * (MM_M + 4) + r / 4 * MM_APART);\n",
"            acc[r] = MM_FMA((float4)(u.s0), v, acc[r]);\n",
"            acc[r + 1] = MM_FMA((float4)(u.s1), v, acc[r + 1]);\n",
"            acc[r + 2] = MM_FMA((float4)(u.s2), v, acc[r + 2]);\n",
"            acc[r + 3] = MM_FMA((float4)(u.s3), v, acc[r + 3]);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* One tile of C; sa and sb hold two slices each. */\n",
"static inline void mm_tile(__global const float *a, __global const float *b,\n",
"                           __global float *c, int M, int N, int K, int ta, int tb,\n",
"                           __local float *sa, __local float *sb)\n",
"{\n",
"    const int id = (int)get_local_id(0), row = id / (MM_N / 4) * 4, col = id % (MM_N / 4) * 4;\n",
"    const int m0 = (int)get_group_id(0) * MM_M, n0 = (int)get_group_id(1) * MM_N;\n",
"    const int slices = (K + MM_DEPTH - 1) / MM_DEPTH;\n",
"    float av[MM_FETCH(MM_M)], bv[MM_FETCH(MM_N)];\n",
"    float4 acc[MM_ROWS], sum[MM_ROWS];\n",
"\n",
"    MM_UNROLL for (int r = 0; r < MM_ROWS; ++r) acc[r] = sum[r] = (float4)(0.0f);\n",
"    for (int s = -1; s < slices; ++s) {\n",
"        const int cur = s & 1, next = cur ^ 1;\n",
"        if (s + 1 < slices) {\n",
"            mm_fetch(a, !ta, MM_M, M, K, m0, (s + 1) * MM_DEPTH, id, av);\n",
"            mm_fetch(b, tb, MM_N, N, K, n0, (s + 1) * MM_DEPTH, id, bv);\n",
"        }\n",
"        if (s >= 0)\n",
"            mm_step(sa + cur * MM_SIZE(MM_M) + row, sb + cur * MM_SIZE(MM_N) + col, acc);\n",
"        if (s + 1 == slices || s % MM_FOLD == MM_FOLD - 1) {\n",
"            MM_UNROLL for (int r = 0; r < MM_ROWS; ++r)\n",
"            {\n",
"                sum[r] += acc[r];\n",
"                acc[r] = (float4)(0.0f);\n",
"            }\n",
"        }\n",
"        if (s + 1 < slices) {\n",
"            mm_keep(sa + next * MM_SIZE(MM_M), !ta, MM_M, id, av);\n",
"            mm_keep(sb + next * MM_SIZE(MM_N), tb, MM_N, id, bv);\n",
"        }\n",
"        barrier(CLK_LOCAL_MEM_FENCE);\n",
"    }\n",
"    MM_UNROLL for (int r = 0; r < MM_ROWS; ++r)\n",
"    {\n",
"        const int m = m0 + row + r / 4 * MM_APART + r % 4, n = n0 + col;\n",
"        __global float *p = c + (size_t)m * N + n;\n",
"        const float v[4] = {sum[r].s0, sum[r].s1, sum[r].s2, sum[r].s3};\n",
"        MM_UNROLL for (int j = 0; j < 4; ++j) if (m < M && n + j < N) p[j] = v[j];\n",
"    }\n",
"}\n",
"\n",
"/* One 8 x 8 tile of C = A B^T; item i sums the terms i, i + MM_ITEMS, ... Two rows of the tile at a\n",
" * time go through `part` (16 sums of all items), where MM_SHARE items add 16 terms each, then one\n",
" * item those. */\n",
"static inline void mm_thin(__global const float *a, __global const float *b,\n",
"                           __global float *c, int M, int N, int K, __local float *part,\n",
"                           __local float *shares)\n",
"{\n",
"    const int id = (int)get_local_id(0), value = id / MM_SHARE, lane = id % MM_SHARE;\n",
"    const int m0 = (int)get_group_id(0) * MM_THIN, n0 = (int)get_group_id(1) * MM_THIN;\n",
"    float acc[MM_THIN][MM_THIN];\n",
"\n",
"    MM_UNROLL for (int r = 0; r < MM_THIN; ++r) MM_UNROLL for (int j = 0; j < MM_THIN; ++j)\n",
"        acc[r][j] = 0.0f;\n",
"    for (int k = id; k < K; k += MM_ITEMS) {\n",
"        float av[MM_THIN], bv[MM_THIN];\n",
"        MM_UNROLL for (int r = 0; r < MM_THIN; ++r)\n",
"        {\n",
"            av[r] = a[(size_t)min(m0 + r, M - 1) * K + k];\n",
"            bv[r] = b[(size_t)min(n0 + r, N - 1) * K + k];\n",
"        }\n",
"        MM_UNROLL for (int r = 0; r < MM_THIN; ++r) MM_UNROLL for (int j = 0; j < MM_THIN; ++j)\n",
"            acc[r][j] = MM_FMA(av[r], bv[j], acc[r][j]);\n",
"    }\n",
"    MM_UNROLL for (int r = 0; r < MM_THIN; r += 2)\n",
"    {\n",
"        MM_UNROLL for (int j = 0; j < 2 * MM_THIN; ++j)\n",
"            part[j * (MM_ITEMS + 1) + id] = acc[r + j / MM_THIN][j % MM_THIN];\n",
"        barrier(CLK_LOCAL_MEM_FENCE);\n",
"        float sum = 0.0f;\n",
"        for (int i = 0; i < MM_ITEMS; i += MM_SHARE)\n",
"            sum += part[value * (MM_ITEMS + 1) + i + lane];\n",
"        shares[id] = sum;\n",
"        barrier(CLK_LOCAL_MEM_FENCE);\n",
"        const int m = m0 + r + value / MM_THIN, n = n0 + value % MM_THIN;\n",
"        if (lane == 0 && m < M && n < N) {\n",
"            sum = 0.0f;\n",
"            for (int i = 0; i < MM_SHARE; ++i)\n",
"                sum += shares[id + i];\n",
"            c[(size_t)m * N + n] = sum;\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"#define MM_KERNEL(NAME, TA, TB, THIN)                                                              \\\n",
"    __kernel __attribute__((reqd_work_group_size(MM_ITEMS, 1, 1))) void NAME(                      \\\n",
"        __global const float *restrict a, int aoff, __global const float *restrict b, int boff,    \\\n",
"        __global float *restrict c, int coff, int M, int N, int K)                                 \\\n",
"    {                                                                                              \\\n",
"        __local float sa[2 * MM_SIZE(MM_M)] __attribute__((aligned(16)));                          \\\n",
"        __local float sb[2 * MM_SIZE(MM_N)] __attribute__((aligned(16)));                          \\\n",
"        if (THIN && N <= MM_THIN_N)                                                                \\\n",
"            mm_thin(a + aoff, b + boff, c + coff, M, N, K, sa, sb);                                \\\n",
"        else                                                                                       \\\n",
"            mm_tile(a + aoff, b + boff, c + coff, M, N, K, TA, TB, sa, sb);                        \\\n",
"    }\n",
"MM_KERNEL(matmul_nn, 0, 0, 0)\n",
"MM_KERNEL(matmul_nt, 0, 1, 1)\n",
"MM_KERNEL(matmul_tn, 1, 0, 0)\n",
};
static const char *const osr__cl_norm[] = {
"#line 1 \"kernels/norm.cl\"\n",
"/* norm.cl - batch normalisation, leaky rectifier and dropout, in one pass over an image\n",
" *\n",
" *   y = drop(leaky(x scale + shift))\n",
" *\n",
" * coef: float [4][CB*8] = scale, shift, mean, 1/std a channel; zeros in lanes beyond C.\n",
" * Plane kernels run one work-group of LS items for each (n, cb), group id n*CB + cb.\n",
" * part: float [2][N][CB*8], one row a plane (statistics: [3][R][CB*8], R = N or what a convolution\n",
" * made); the merges run one group of LS items for each cb and add the rows in order. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* Dropout factors of 8 lanes: 0 or 1/(1-p). kind 0 none, 1 one value each, 2 one a channel. */\n",
"static inline float8 drop_mask(int kind, float p, uint plane, uint pixel, uint stream, uint step,\n",
"                               uint2 key)\n",
"{\n",
"    if (kind == 0)\n",
"        return (float8)(1.0f);\n",
"    const uint q = kind == 2 ? 0u : pixel + 1u;\n",
"    const uint4 a = philox((uint4)(plane, q * 2u, stream, step), key);\n",
"    const uint4 b = philox((uint4)(plane, q * 2u + 1u, stream, step), key);\n",
"    const float8 u = (float8)(uniform01(a.x), uniform01(a.y), uniform01(a.z), uniform01(a.w),\n",
"                              uniform01(b.x), uniform01(b.y), uniform01(b.z), uniform01(b.w));\n",
"    return select((float8)(0.0f), (float8)(1.0f / (1.0f - p)), u >= (float8)(p));\n",
"}\n",
"\n",
"/* d = sum of (x - mean)^power of this item's pixels of a plane, power 1 or 2. */\n",
"OSR_PART plane_power(__global const float *x, const int4 xl, int H, int W, float8 mean, int power,\n",
"                     float8 *d)\n",
"{\n",
"    float8 s[SUM_PARTS];\n",
"    clear8(s);\n",
"    SUM_PIXELS(y, c, k, H, W, {\n",
"        const float8 v = LOAD8(x + image_at(xl, 0, 0, y, c)) - mean;\n",
"        s[k] += power == 1 ? v : v * v;\n",
"    })\n",
"    *d = add_up8(s);\n",
"}\n",
"\n",
"/* Mean and sum of squared deviations of each plane and lane: two passes over a plane that the\n",
" * cache holds. */\n",
"OSR_KERNEL norm_plane_stats(__global const float *x, const int4 xl, __global float *part, int N,\n",
"                            int CB, int H, int W)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    __global const float *plane = x + image_at(xl, n, cb, 0, 0) - xl.x;\n",
"    __local float8 tmp[LS];\n",
"    float8 d;\n",
"    plane_power(plane, xl, H, W, (float8)(0.0f), 1, &d);\n",
"    const float8 mean = group_sum8(d, tmp) / (float)(H * W);\n",
"    plane_power(plane, xl, H, W, mean, 2, &d);\n",
"    d = group_sum8(d, tmp);\n",
"    if (get_local_id(0) == 0) {\n",
"        STORE8(part + ((size_t)n * CB + cb) * 8, mean);\n",
"        STORE8(part + ((size_t)(N + n) * CB + cb) * 8, d);\n",
"        STORE8(part + ((size_t)(2 * N + n) * CB + cb) * 8, (float8)((float)(H * W)));\n",
"    }\n",
"}\n",
"\n",
"/* Merge the rows (Chan et al.), update the running statistics, make the coefficients. */\n",
"OSR_KERNEL norm_merge(__global const float *part, __global const float *gamma, int goff,\n",
"                      __global const float *beta, int boff, __global float *rmean, int moff,\n",
"                      __global float *rvar, int voff, __global float *coef, int R, int CB, int C,\n",
"                      float eps, float momentum)\n",
"{\n",
"    const int cb = (int)get_group_id(0), c8 = CB * 8, updated = momentum > 0.0f ? C : 0;\n",
"    FOR_LANES(i)\n",
"    {\n",
"        __global const float *p = part + cb * 8 + i;\n",
"        lanes mean = 0.0f, m2 = 0.0f, count = 0.0f;\n",
"        ROLLED for (int n = 0; n < R; ++n, p += c8)\n",
"        {\n",
"            const lanes d = LANES(p) - mean, more = LANES(p + (size_t)2 * R * c8);\n",
"            const lanes all = count + more, share = more / fmax(all, 1.0f);\n",
"            mean += d * share;\n",
"            m2 += LANES(p + (size_t)R * c8) + d * d * (count * share);\n",
"            count = all;\n",
"        }\n",
"        LANES(coef + 2 * c8 + cb * 8 + i) = mean;\n",
"        LANES(coef + 3 * c8 + cb * 8 + i) = m2;\n",
"        LANES(coef + cb * 8 + i) = count;\n",
"    }\n",
"    FOR_ROW(i, 8)\n",
"    {\n",
"        const int c = cb * 8 + i;\n",
"        const float count = coef[c], mean = coef[2 * c8 + c], m2 = coef[3 * c8 + c];\n",
"        const float inv = rsqrt(m2 / count + eps);\n",
"        const float scale = c < C ? gamma[goff + c] * inv : 0.0f;\n",
"        coef[c] = scale;\n",
"        coef[c8 + c] = c < C ? beta[boff + c] - mean * scale : 0.0f;\n",
"        coef[2 * c8 + c] = c < C ? mean : 0.0f;\n",
"        coef[3 * c8 + c] = c < C ? inv : 0.0f;\n",
"        if (c < updated) {\n",
"            const float var = m2 / fmax(count - 1.0f, 1.0f);\n",
"            rmean[moff + c] += momentum * (mean - rmean[moff + c]);\n",
"            rvar[voff + c] += momentum * (var - rvar[voff + c]);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* The coefficients of each image with its factors of dropout of channels, out [N][2][CB*8]: leaky(m\n",
" * (x scale + shift)) is m leaky(x scale + shift), m being 0 or more. One group for each (n, cb). */\n",
"OSR_KERNEL norm_drop(__global const float *coef, __global float *out, int CB, float p, uint stream,\n",
"                     uint step, uint key0, uint key1)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const float8 m = drop_mask(2, p, (uint)g, 0u, stream, step, (uint2)(key0, key1));\n",
"    if (get_local_id(0) == 0) {\n",
"        STORE8(out + (n * 2 * CB + cb) * 8, LOAD8(coef + cb * 8) * m);\n",
"        STORE8(out + (n * 2 * CB + CB + cb) * 8, LOAD8(coef + (CB + cb) * 8) * m);\n",
"    }\n",
"}\n",
"\n",
"/* Coefficients from the running statistics. One group of LS items for each cb. */\n",
"OSR_KERNEL norm_fixed(__global const float *gamma, int goff, __global const float *beta, int boff,\n",
"                      __global const float *rmean, int moff, __global const float *rvar, int voff,\n",
"                      __global float *coef, int CB, int C, float eps)\n",
"{\n",
"    const int cb = (int)get_group_id(0), c8 = CB * 8;\n",
"    FOR_ROW(i, 8)\n",
"    {\n",
"        const int c = cb * 8 + i;\n",
"        const float inv = c < C ? 1.0f / sqrt(rvar[voff + min(c, C - 1)] + eps) : 0.0f;\n",
"        const float scale = c < C ? gamma[goff + c] * inv : 0.0f;\n",
"        coef[c] = scale;\n",
"        coef[c8 + c] = c < C ? beta[boff + c] - rmean[moff + c] * scale : 0.0f;\n",
"        coef[2 * c8 + c] = c < C ? rmean[moff + c] : 0.0f;\n",
"        coef[3 * c8 + c] = inv;\n",
"    }\n",
"}\n",
"\n",
"/* y = drop(leaky(x scale + shift)); without normalisation (norm 0) coef is not read. */\n",
"OSR_KERNEL norm_act(__global const float *x, const int4 xl, __global const float *coef,\n",
"                    __global float *y, const int4 yl, int CB, int H, int W, int norm, float slope,\n",
"                    int drop, float p, uint stream, uint step, uint key0, uint key1)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const float8 scale = norm ? LOAD8(coef + cb * 8) : (float8)(1.0f);\n",
"    const float8 shift = norm ? LOAD8(coef + (CB + cb) * 8) : (float8)(0.0f);\n",
"    const uint2 key = (uint2)(key0, key1);\n",
"    const float8 whole = drop == 2 ? drop_mask(2, p, (uint)g, 0u, stream, step, key)\n",
"                                   : (float8)(1.0f);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        float8 v = LOAD8(x + image_at(xl, n, cb, r, c)) * scale + shift;\n",
"        v = select(v * slope, v, v > (float8)(0.0f)) * whole;\n",
"        if (drop == 1)\n",
"            v *= drop_mask(1, p, (uint)g, (uint)(r * W + c), stream, step, key);\n",
"        STORE8(y + image_at(yl, n, cb, r, c), v);\n",
"    }\n",
"}\n",
"\n",
"/* dz = dy * mask * leaky'(z), the gradient behind the activation. */\n",
"static inline float8 act_gradient(float8 dy, float8 z, float slope)\n",
"{\n",
"    return select(dy * slope, dy, z > (float8)(0.0f));\n",
"}\n",
"\n",
"/* Sums of dz and dz * xhat of each plane and lane. The last planes first: they are the likeliest to\n",
" * be in a cache still, and norm_act_dx begins with those that were read last. */\n",
"OSR_KERNEL norm_act_sums(__global const float *dy, const int4 dyl, __global const float *x,\n",
"                         const int4 xl, __global const float *coef, __global float *part, int N,\n",
"                         int CB, int H, int W, float slope, int drop, float p, uint stream,\n",
"                         uint step, uint key0, uint key1)\n",
"{\n",
"    const int g = (int)(get_num_groups(0) - 1 - get_group_id(0)), n = g / CB, cb = g % CB;\n",
"    __local float8 tmp[LS];\n",
"    const float8 scale = LOAD8(coef + cb * 8), shift = LOAD8(coef + (CB + cb) * 8);\n",
"    const float8 mean = LOAD8(coef + (2 * CB + cb) * 8), inv = LOAD8(coef + (3 * CB + cb) * 8);\n",
"    const uint2 key = (uint2)(key0, key1);\n",
"    const float8 whole = drop == 2 ? drop_mask(2, p, (uint)g, 0u, stream, step, key)\n",
"                                   : (float8)(1.0f);\n",
"    float8 s = (float8)(0.0f), t = (float8)(0.0f);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));\n",
"        float8 d = LOAD8(dy + image_at(dyl, n, cb, r, c)) * whole;\n",
"        if (drop == 1)\n",
"            d *= drop_mask(1, p, (uint)g, (uint)(r * W + c), stream, step, key);\n",
"        d = act_gradient(d, v * scale + shift, slope);\n",
"        s += d;\n",
"        t += d * ((v - mean) * inv);\n",
"    }\n",
"    s = group_sum8(s, tmp);\n",
"    t = group_sum8(t, tmp);\n",
"    if (get_local_id(0) == 0) {\n",
"        STORE8(part + ((size_t)n * CB + cb) * 8, s);\n",
"        STORE8(part + ((size_t)(N + n) * CB + cb) * 8, t);\n",
"    }\n",
"}\n",
"\n",
"/* Gradients of beta and gamma, and their means over the batch in sums: float [2][CB*8].\n",
" * wanted: 1 write dgamma, 2 write dbeta; accumulate adds to what is there. */\n",
"OSR_KERNEL norm_merge_sums(__global const float *part, __global float *sums, __global float *dgamma,\n",
"                           int goff, __global float *dbeta, int boff, int N, int CB, int C, int HW,\n",
"                           int wanted, int gaccumulate, int baccumulate)\n",
"{\n",
"    const int cb = (int)get_group_id(0), c8 = CB * 8;\n",
"    const int gc = (wanted & 1) != 0 ? C : 0, gadd = gaccumulate ? C : 0;\n",
"    const int bc = (wanted & 2) != 0 ? C : 0, badd = baccumulate ? C : 0;\n",
"    FOR_ROW(i, 8)\n",
"    {\n",
"        const int c = cb * 8 + i;\n",
"        float s = 0.0f, t = 0.0f;\n",
"        ROLLED for (int n = 0; n < N; ++n)\n",
"        {\n",
"            s += part[(size_t)n * c8 + c];\n",
"            t += part[(size_t)(N + n) * c8 + c];\n",
"        }\n",
"        if (c < gc)\n",
"            dgamma[goff + c] = c < gadd ? dgamma[goff + c] + t : t;\n",
"        if (c < bc)\n",
"            dbeta[boff + c] = c < badd ? dbeta[boff + c] + s : s;\n",
"        sums[c] = s / ((float)N * (float)HW);\n",
"        sums[c8 + c] = t / ((float)N * (float)HW);\n",
"    }\n",
"}\n",
"\n",
"/* dx: mode 0 no normalisation, 1 fixed statistics, 2 statistics of the batch. */\n",
"OSR_KERNEL norm_act_dx(__global const float *dy, const int4 dyl, __global const float *x,\n",
"                       const int4 xl, __global const float *coef, __global const float *sums,\n",
"                       __global float *dx, const int4 dxl, int CB, int H, int W, int mode,\n",
"                       float slope, int drop, float p, uint stream, uint step, uint key0,\n",
"                       uint key1)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    float8 scale = (float8)(1.0f), shift = (float8)(0.0f), mean = shift, inv = shift;\n",
"    float8 s = (float8)(0.0f), t = s;\n",
"    if (mode > 0) {\n",
"        scale = LOAD8(coef + cb * 8);\n",
"        shift = LOAD8(coef + (CB + cb) * 8);\n",
"    }\n",
"    if (mode == 2) {\n",
"        mean = LOAD8(coef + (2 * CB + cb) * 8);\n",
"        inv = LOAD8(coef + (3 * CB + cb) * 8);\n",
"        s = LOAD8(sums + cb * 8);\n",
"        t = LOAD8(sums + (CB + cb) * 8);\n",
"    }\n",
"    const uint2 key = (uint2)(key0, key1);\n",
"    const float8 whole = drop == 2 ? drop_mask(2, p, (uint)g, 0u, stream, step, key)\n",
"                                   : (float8)(1.0f);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));\n",
"        float8 d = LOAD8(dy + image_at(dyl, n, cb, r, c)) * whole;\n",
"        if (drop == 1)\n",
"            d *= drop_mask(1, p, (uint)g, (uint)(r * W + c), stream, step, key);\n",
"        d = act_gradient(d, v * scale + shift, slope);\n",
"        STORE8(dx + image_at(dxl, n, cb, r, c), scale * (d - s - (v - mean) * inv * t));\n",
"    }\n",
"}\n",
"\n",
"/* The same for dense rows: leaky rectifier and dropout without normalisation. Flat launch over\n",
" * rows*cols; a channel is a column, so both kinds of dropout draw one value an element. */\n",
"static inline float dense_mask(int drop, float p, uint i, uint stream, uint step, uint2 key)\n",
"{\n",
"    if (drop == 0)\n",
"        return 1.0f;\n",
"    const uint4 a = philox((uint4)(i, 0u, stream, step), key);\n",
"    return uniform01(a.x) >= p ? 1.0f / (1.0f - p) : 0.0f;\n",
"}\n",
"\n",
"OSR_KERNEL dense_act(__global const float *x, int xoff, __global float *y, int yoff, int count,\n",
"                     float slope, int drop, float p, uint stream, uint step, uint key0, uint key1)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    {\n",
"        const float v = x[xoff + i];\n",
"        const float m = dense_mask(drop, p, (uint)i, stream, step, (uint2)(key0, key1));\n",
"        y[yoff + i] = (v > 0.0f ? v : v * slope) * m;\n",
"    }\n",
"}\n",
"\n",
"OSR_KERNEL dense_act_dx(__global const float *dy, int dyoff, __global const float *x, int xoff,\n",
"                        __global float *dx, int dxoff, int count, float slope, int drop, float p,\n",
"                        uint stream, uint step, uint key0, uint key1)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    {\n",
"        const float m = dense_mask(drop, p, (uint)i, stream, step, (uint2)(key0, key1));\n",
"        const float d = dy[dyoff + i] * m;\n",
"        dx[dxoff + i] = x[xoff + i] > 0.0f ? d : d * slope;\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_optimiser[] = {
"#line 1 \"kernels/optimiser.cl\"\n",
"/* optimiser.cl - one launch updates every parameter\n",
" *\n",
" * All buffers have the same offsets. Flat launch over `count` values from `first` on. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"OSR_KERNEL sgd(__global float *w, __global const float *g, __global float *v, int first, int count,\n",
"               int decoupled, float lr, float momentum, float decay)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    {\n",
"        const int j = first + i;\n",
"        float p = w[j], d = g[j];\n",
"        if (decoupled)\n",
"            p -= lr * decay * p;\n",
"        else\n",
"            d += decay * p;\n",
"        const float m = momentum * v[j] + d;\n",
"        v[j] = m;\n",
"        w[j] = p - lr * m;\n",
"    }\n",
"}\n",
"\n",
"/* correction1, correction2 = 1 - beta^step */\n",
"OSR_KERNEL adam(__global float *w, __global const float *g, __global float *m, __global float *v,\n",
"                int first, int count, int decoupled, float lr, float decay, float beta1,\n",
"                float beta2, float eps, float correction1, float correction2)\n",
"{\n",
"    FOR_FLAT(i, count)\n",
"    {\n",
"        const int j = first + i;\n",
"        float p = w[j], d = g[j];\n",
"        if (decoupled)\n",
"            p -= lr * decay * p;\n",
"        else\n",
"            d += decay * p;\n",
"        const float a = beta1 * m[j] + (1.0f - beta1) * d;\n",
"        const float b = beta2 * v[j] + (1.0f - beta2) * d * d;\n",
"        m[j] = a;\n",
"        v[j] = b;\n",
"        w[j] = p - lr * (a / correction1) / (sqrt(b / correction2) + eps);\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_peak[] = {
"#line 1 \"kernels/peak.cl\"\n",
"/* peak.cl - the device's float32 multiply-add rate: independent chains, nothing else\n",
" *\n",
" * Each item runs PEAK_CHAINS chains of `rounds` multiply-adds on vectors of 16 (CPU) or 1. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"#define PEAK_CHAINS 12\n",
"#if OSR_GPU\n",
"typedef float peak_t;\n",
"#define PEAK_STORE(p, v) (*(p) = (v))\n",
"#else\n",
"typedef float16 peak_t;\n",
"#define PEAK_STORE(p, v) (*(p) = (v).s0)\n",
"#endif\n",
"\n",
"OSR_KERNEL peak(__global float *y, int rounds)\n",
"{\n",
"    peak_t a[PEAK_CHAINS];\n",
"    const float seed = y[get_group_id(0)];\n",
"    const peak_t m = (peak_t)(0.999f), c = (peak_t)(seed);\n",
"#pragma unroll\n",
"    for (int i = 0; i < PEAK_CHAINS; ++i)\n",
"        a[i] = (peak_t)((float)i + (float)get_local_id(0));\n",
"#pragma unroll 1\n",
"    for (int k = 0; k < rounds; ++k) {\n",
"#pragma unroll\n",
"        for (int i = 0; i < PEAK_CHAINS; ++i)\n",
"            a[i] = a[i] * m + c;\n",
"    }\n",
"    peak_t s = (peak_t)(0.0f);\n",
"#pragma unroll\n",
"    for (int i = 0; i < PEAK_CHAINS; ++i)\n",
"        s += a[i];\n",
"    PEAK_STORE(y + get_global_id(0), s);\n",
"}\n",
};
static const char *const osr__cl_pool[] = {
"#line 1 \"kernels/pool.cl\"\n",
"/* pool.cl - max, average and global average pooling of images\n",
" *\n",
" * H, W are the sizes of the image that is written. One group of LS items for each (n, cb). */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"OSR_KERNEL pool(__global const float *x, const int4 xl, __global float *y, const int4 yl, int CB,\n",
"                int H, int W, int size, int stride, int average)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        float8 m = LOAD8(x + image_at(xl, n, cb, r * stride, c * stride)), s = (float8)(0.0f);\n",
"        for (int i = 0; i < size; ++i)\n",
"            for (int j = 0; j < size; ++j) {\n",
"                const float8 v = LOAD8(x + image_at(xl, n, cb, r * stride + i, c * stride + j));\n",
"                m = fmax(m, v);\n",
"                s += v;\n",
"            }\n",
"        STORE8(y + image_at(yl, n, cb, r, c), average ? s / (float)(size * size) : m);\n",
"    }\n",
"}\n",
"\n",
"/* dx gathers from every window (r, c) of OH x OW that covers it. For max pooling a window's\n",
" * gradient goes to its first largest value. */\n",
"OSR_KERNEL pool_dx(__global const float *dy, const int4 dyl, __global const float *x, const int4 xl,\n",
"                   __global const float *y, const int4 yl, __global float *dx, const int4 dxl,\n",
"                   int CB, int H, int W, int OH, int OW, int size, int stride, int average)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    {\n",
"        float8 d = (float8)(0.0f);\n",
"        const float8 v = LOAD8(x + image_at(xl, n, cb, r, c));\n",
"        const int r0 = max(0, (r - size + stride) / stride), r1 = min(OH - 1, r / stride);\n",
"        const int c0 = max(0, (c - size + stride) / stride), c1 = min(OW - 1, c / stride);\n",
"        for (int i = r0; i <= r1; ++i)\n",
"            for (int j = c0; j <= c1; ++j) {\n",
"                const float8 e = LOAD8(dy + image_at(dyl, n, cb, i, j));\n",
"                if (average) {\n",
"                    d += e / (float)(size * size);\n",
"                    continue;\n",
"                }\n",
"                const float8 m = LOAD8(y + image_at(yl, n, cb, i, j));\n",
"                int8 mine = v == m;\n",
"                for (int a = 0; a < size * size; ++a) { /* an equal value before this one? */\n",
"                    const int rr = i * stride + a / size, cc = j * stride + a % size;\n",
"                    if (rr * W + cc >= r * W + c)\n",
"                        break;\n",
"                    mine &= LOAD8(x + image_at(xl, n, cb, rr, cc)) != m;\n",
"                }\n",
"                d += select((float8)(0.0f), e, mine);\n",
"            }\n",
"        STORE8(dx + image_at(dxl, n, cb, r, c), d);\n",
"    }\n",
"}\n",
"\n",
"/* y[n][c] = mean over a plane. */\n",
"OSR_KERNEL global_pool(__global const float *x, const int4 xl, __global float *y, int yoff, int CB,\n",
"                       int C, int H, int W)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    __local float8 tmp[LS];\n",
"    float8 s = (float8)(0.0f);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    s += LOAD8(x + image_at(xl, n, cb, r, c));\n",
"    s = group_sum8(s, tmp) / (float)(H * W);\n",
"    if (get_local_id(0) == 0) {\n",
"        float t[8];\n",
"        vstore8(s, 0, t);\n",
"        for (int i = 0; i < min(8, C - cb * 8); ++i)\n",
"            y[yoff + (size_t)n * C + cb * 8 + i] = t[i];\n",
"    }\n",
"}\n",
"\n",
"OSR_KERNEL global_pool_dx(__global const float *dy, int dyoff, __global float *dx, const int4 dxl,\n",
"                          int CB, int C, int H, int W)\n",
"{\n",
"    const int g = (int)get_group_id(0), n = g / CB, cb = g % CB;\n",
"    const float8 v = load_lanes(dy + dyoff + (size_t)n * C, cb, C) / (float)(H * W);\n",
"    FOR_PIXELS(r, c, H, W)\n",
"    STORE8(dx + image_at(dxl, n, cb, r, c), v);\n",
"}\n",
};
static const char *const osr__cl_rows[] = {
"#line 1 \"kernels/rows.cl\"\n",
"/* rows.cl - operations on the rows of a dense [N][K] matrix\n",
" *\n",
" * One group of LS items for each row, unless a kernel says otherwise. */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* Largest value of a row and the sum of exp(x - largest); every item gets both. */\n",
"static inline float2 row_max_sum(__global const float *x, int K, __local float *tmp)\n",
"{\n",
"    float m = -INFINITY, s = 0.0f;\n",
"    FOR_ROW(k, K)\n",
"    m = fmax(m, x[k]);\n",
"    m = group_max(m, tmp);\n",
"    FOR_ROW(k, K)\n",
"    s += exp(x[k] - m);\n",
"    return (float2)(m, group_sum(s, tmp));\n",
"}\n",
"\n",
"OSR_KERNEL softmax(__global const float *x, int xoff, __global float *y, int yoff, int K)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t row = (size_t)get_group_id(0) * K;\n",
"    const float2 ms = row_max_sum(x + xoff + row, K, tmp);\n",
"    FOR_ROW(k, K)\n",
"    y[yoff + row + k] = exp(x[xoff + row + k] - ms.x) / ms.y;\n",
"}\n",
"\n",
"/* dx = y (dy - sum(y dy)) */\n",
"OSR_KERNEL softmax_dx(__global const float *dy, int dyoff, __global const float *y, int yoff,\n",
"                      __global float *dx, int dxoff, int K)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t row = (size_t)get_group_id(0) * K;\n",
"    float s = 0.0f;\n",
"    FOR_ROW(k, K)\n",
"    s += y[yoff + row + k] * dy[dyoff + row + k];\n",
"    s = group_sum(s, tmp);\n",
"    FOR_ROW(k, K)\n",
"    dx[dxoff + row + k] = y[yoff + row + k] * (dy[dyoff + row + k] - s);\n",
"}\n",
"\n",
"OSR_KERNEL logsumexp(__global const float *x, int xoff, __global float *y, int yoff, int K)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const float2 ms = row_max_sum(x + xoff + (size_t)get_group_id(0) * K, K, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        y[yoff + get_group_id(0)] = ms.x + log(ms.y);\n",
"}\n",
"\n",
"/* dx[n][k] = dy[n] softmax(x[n])_k */\n",
"OSR_KERNEL logsumexp_dx(__global const float *dy, int dyoff, __global const float *x, int xoff,\n",
"                        __global float *dx, int dxoff, int K)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0), row = n * K;\n",
"    const float2 ms = row_max_sum(x + xoff + row, K, tmp);\n",
"    FOR_ROW(k, K)\n",
"    dx[dxoff + row + k] = dy[dyoff + n] * (exp(x[xoff + row + k] - ms.x) / ms.y);\n",
"}\n",
"\n",
"OSR_KERNEL row_sum(__global const float *x, int xoff, __global float *y, int yoff, int K)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0);\n",
"    float s = 0.0f;\n",
"    FOR_ROW(k, K)\n",
"    s += x[xoff + n * K + k];\n",
"    s = group_sum(s, tmp);\n",
"    if (get_local_id(0) == 0)\n",
"        y[yoff + n] = s;\n",
"}\n",
"\n",
"OSR_KERNEL row_spread(__global const float *dy, int dyoff, __global float *dx, int dxoff, int K)\n",
"{\n",
"    const size_t n = get_group_id(0);\n",
"    FOR_ROW(k, K)\n",
"    dx[dxoff + n * K + k] = dy[dyoff + n];\n",
"}\n",
"\n",
"/* y[n] = x[n][label]: flat launch over the rows. */\n",
"OSR_KERNEL pick(__global const float *x, int xoff, __global const int *labels, __global float *y,\n",
"                int yoff, int N, int K)\n",
"{\n",
"    FOR_FLAT(n, N)\n",
"    y[yoff + n] = x[xoff + (size_t)n * K + labels[n]];\n",
"}\n",
"\n",
"OSR_KERNEL pick_dx(__global const float *dy, int dyoff, __global const int *labels,\n",
"                   __global float *dx, int dxoff, int K)\n",
"{\n",
"    const size_t n = get_group_id(0);\n",
"    FOR_ROW(k, K)\n",
"    dx[dxoff + n * K + k] = k == labels[n] ? dy[dyoff + n] : 0.0f;\n",
"}\n",
"\n",
"/* hit[n] = 1 where the label's column holds the first largest value of sign * x[n]. Flat launch\n",
" * over the rows. */\n",
"OSR_KERNEL row_correct(__global const float *x, int xoff, __global const int *labels,\n",
"                       __global float *hit, int N, int K, float sign)\n",
"{\n",
"    FOR_FLAT(n, N)\n",
"    {\n",
"        int best = 0;\n",
"        for (int k = 1; k < K; ++k)\n",
"            if (sign * x[xoff + (size_t)n * K + k] > sign * x[xoff + (size_t)n * K + best])\n",
"                best = k;\n",
"        hit[n] = best == labels[n] ? 1.0f : 0.0f;\n",
"    }\n",
"}\n",
"\n",
"/* y = x / max(||x||, 1e-12) */\n",
"OSR_KERNEL normalise(__global const float *x, int xoff, __global float *y, int yoff, int D)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t row = (size_t)get_group_id(0) * D;\n",
"    float s = 0.0f;\n",
"    FOR_ROW(k, D)\n",
"    s += x[xoff + row + k] * x[xoff + row + k];\n",
"    const float inv = 1.0f / fmax(sqrt(group_sum(s, tmp)), 1e-12f);\n",
"    FOR_ROW(k, D)\n",
"    y[yoff + row + k] = x[xoff + row + k] * inv;\n",
"}\n",
"\n",
"/* dx = (dy - y (y . dy)) / ||x|| */\n",
"OSR_KERNEL normalise_dx(__global const float *dy, int dyoff, __global const float *x, int xoff,\n",
"                        __global float *dx, int dxoff, int D)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t row = (size_t)get_group_id(0) * D;\n",
"    float s = 0.0f, t = 0.0f;\n",
"    FOR_ROW(k, D)\n",
"    {\n",
"        const float v = x[xoff + row + k];\n",
"        s += v * v;\n",
"        t += v * dy[dyoff + row + k];\n",
"    }\n",
"    s = group_sum(s, tmp);\n",
"    t = group_sum(t, tmp);\n",
"    const float inv = 1.0f / fmax(sqrt(s), 1e-12f), along = s > 1e-24f ? t * inv * inv : 0.0f;\n",
"    FOR_ROW(k, D)\n",
"    dx[dxoff + row + k] = (dy[dyoff + row + k] - x[xoff + row + k] * along) * inv;\n",
"}\n",
"\n",
"/* d[n][k] = ||z[n] - a[k]||, by differences; with a scale > 0 scale ||z[n] - a[k]||^2. */\n",
"OSR_KERNEL anchor_distance(__global const float *z, int zoff, __global const float *a, int aoff,\n",
"                           __global float *d, int doff, int K, int D, float scale)\n",
"{\n",
"    __local float tmp[LS];\n",
"    const size_t n = get_group_id(0);\n",
"    for (int k = 0; k < K; ++k) {\n",
"        float s = 0.0f;\n",
"        FOR_ROW(i, D)\n",
"        {\n",
"            const float v = z[zoff + n * D + i] - a[aoff + k * D + i];\n",
"            s += v * v;\n",
"        }\n",
"        s = group_sum(s, tmp);\n",
"        if (get_local_id(0) == 0)\n",
"            d[doff + n * K + k] = scale > 0.0f ? scale * s : sqrt(s);\n",
"    }\n",
"}\n",
"\n",
"/* dd times the derivative of a distance d by v, a coordinate of one end; w: of the other. */\n",
"static inline float distance_slope(float dd, float d, float v, float w, float scale)\n",
"{\n",
"    return scale > 0.0f ? 2.0f * scale * dd * (v - w) : d > 0.0f ? dd * ((v - w) / d) : 0.0f;\n",
"}\n",
"\n",
"/* dz[n][i] = sum_k dd[n][k] (z - a_k)_i / d[n][k]; 0 where d = 0. */\n",
"OSR_KERNEL anchor_distance_dx(__global const float *dd, int ddoff, __global const float *z,\n",
"                              int zoff, __global const float *a, int aoff, __global const float *d,\n",
"                              int doff, __global float *dz, int dzoff, int K, int D, float scale)\n",
"{\n",
"    const size_t n = get_group_id(0);\n",
"    FOR_ROW(i, D)\n",
"    {\n",
"        float s = 0.0f;\n",
"        for (int k = 0; k < K; ++k)\n",
"            s += distance_slope(dd[ddoff + n * K + k], d[doff + n * K + k], z[zoff + n * D + i],\n",
"                                a[aoff + k * D + i], scale);\n",
"        dz[dzoff + n * D + i] = s;\n",
"    }\n",
"}\n",
"\n",
"/* da[k][i] = rate sum_n dd[n][k] (a_k - z)_i / d[n][k]; one group an anchor. */\n",
"OSR_KERNEL anchor_distance_da(__global const float *dd, int ddoff, __global const float *z,\n",
"                              int zoff, __global const float *a, int aoff, __global const float *d,\n",
"                              int doff, __global float *da, int daoff, int K, int D, float scale,\n",
"                              int N, float rate)\n",
"{\n",
"    const size_t k = get_group_id(0);\n",
"    FOR_ROW(i, D)\n",
"    {\n",
"        float s = 0.0f;\n",
"        for (int n = 0; n < N; ++n)\n",
"            s += distance_slope(dd[ddoff + n * K + k], d[doff + n * K + k], a[aoff + k * D + i],\n",
"                                z[zoff + n * D + i], scale);\n",
"        da[daoff + k * D + i] = rate * s;\n",
"    }\n",
"}\n",
};
static const char *const osr__cl_winograd_cpu[] = {
"#line 1 \"kernels/winograd_cpu.cl\"\n",
"/* winograd_cpu.cl - Winograd for 3x3 convolutions and their gradients, CPU family\n",
" *\n",
" * Stride 1, padding 1: F(4x4, 3x3), Y = A' ((G g G') * (B' d B)) A for each 6x6 input tile d and\n",
" * filter g, at the points 0, 1, -1, 2, -2 and infinity: 36 products instead of 144.\n",
" *\n",
" * Stride 2: with padding p (0 or 1 above, y, and left, x), output r of one dimension is w0 x[2r-p]\n",
" * + w1 x[2r+1-p] + w2 x[2r+2-p]. The even samples (from -p on) meet two taps: F(4, 2) needs 5\n",
" * products for 4 outputs, at the points 0, 1, -1, 2 and infinity. The odd samples meet one tap: 4\n",
" * products, no transformation. Both together are one algorithm of 9 points, used in both\n",
" * dimensions: 81 products for 4x4 outputs. The 4 odd points share one filter value, so that only\n",
" * 6x6 filter values are distinct. The input gradient is the same algorithm from 5x5 inputs dy to\n",
" * 8x8 outputs dx. Point k of (a, b), a, b < 9, odd from 5 on: the 25 even ones, then even rows with\n",
" * odd columns, odd rows with even columns, and the 16 odd ones, so that points of one filter value\n",
" * follow one another.\n",
" *\n",
" * Tiles are numbered through all images, so that small maps fill a register block too. Images need\n",
" * a halo of 1 or more; what lies beyond a map is read from it, so no size need be a multiple of a\n",
" * tile's. A float16 holds 16 channels; C16 and O16 are the channels rounded up to 16. Offsets of U\n",
" * are multiples of 16 floats. Every kernel has local size 1, 1, 1.\n",
" *\n",
" *   U  [O16/16][36][8*ceil(C/8)][16]               transformed filters\n",
" *   dU [S][36][O16/16][C16][16]                    their gradient, in S parts\n",
" *   V  [C16/16][T][P][16]   transformed tiles of x, in `vd`: the P points (37, the last unused, or\n",
" *   D  [O16/16][T][P][16]   81) of a tile lie together, written in one go; of dy, after V\n",
" *\n",
" * Launch geometry (global size), NT = N * ceil(OH/4) * ceil(OW/4), for the input gradient of stride\n",
" * 2 N * ceil(H/8) * ceil(W/8):\n",
" *   wino_pack                 O'16/16, ceil(I'/32), 1   O', I': after the transposition\n",
" *   wino_conv, wino2_conv     ceil(NT / T), G, 1        G groups share the outputs; usually 1; T: a\n",
" *                                                       multiple of 8\n",
" *   wino_wgrad                S, G, 1                   S <= NT; G groups share the outputs\n",
" *   wino_wgrad_filter         O16/16, ceil(C / 8), 1    after it */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"/* 32 vector registers of 512 bits hold 2 x 8 accumulators; 16 of 256 bits hold 1 x 4. */\n",
"#ifndef WINO_PX\n",
"#ifdef __AVX512F__\n",
"#define WINO_OB 2\n",
"#define WINO_PX 8\n",
"#else\n",
"#define WINO_OB 1\n",
"#define WINO_PX 4\n",
"#endif\n",
"#endif\n",
"\n",
"/* HINT, but the first-level cache. */\n",
"#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))\n",
"#define WINO_SOON(p) __builtin_prefetch((const void *)(size_t)(p), 0, 3)\n",
"#else\n",
"#define WINO_SOON(p) ((void)(p))\n",
"#endif\n",
"\n",
"#define WINO_UNROLL _Pragma(\"unroll\")\n",
"#define WINO_LOOP _Pragma(\"unroll 1\")\n",
"#define WINO_LOAD16(p) (*(__global const float16 *)(p))\n",
"#define WINO_STORE16(p, v) (*(__global float16 *)(p) = (v))\n",
"\n",
"/* o = B' d (6 of 6), A' d (4 of 6), A d (6 of 4). */\n",
"#define WINO_B(o0, o1, o2, o3, o4, o5, d0, d1, d2, d3, d4, d5)                                     \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = d4 - 4.0f * d2, q_ = d3 - 4.0f * d1;                                    \\\n",
"        const float16 r_ = d4 - d2, s_ = 2.0f * (d3 - d1);                                         \\\n",
"        o0 = 4.0f * (d0 - d2) + r_;                                                                \\\n",
"        o1 = p_ + q_;                                                                              \\\n",
"        o2 = p_ - q_;                                                                              \\\n",
"        o3 = r_ + s_;                                                                              \\\n",
"        o4 = r_ - s_;                                                                              \\\n",
"        o5 = d5 - d3 - 2.0f * s_;                                                                  \\\n",
"    } while (0)\n",
"#define WINO_AT(o0, o1, o2, o3, d0, d1, d2, d3, d4, d5)                                            \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = d1 + d2, q_ = d1 - d2, r_ = d3 + d4, s_ = d3 - d4;                      \\\n",
"        o0 = d0 + p_ + r_;                                                                         \\\n",
"        o1 = q_ + 2.0f * s_;                                                                       \\\n",
"        o2 = p_ + 4.0f * r_;                                                                       \\\n",
"        o3 = q_ + 8.0f * s_ + d5;                                                                  \\\n",
"    } while (0)\n",
"#define WINO_A(o0, o1, o2, o3, o4, o5, d0, d1, d2, d3)                                             \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = d0 + d2, q_ = d1 + d3, r_ = d0 + 4.0f * d2, s_ = 2.0f * d1 + 8.0f * d3; \\\n",
"        o0 = d0;                                                                                   \\\n",
"        o1 = p_ + q_;                                                                              \\\n",
"        o2 = p_ - q_;                                                                              \\\n",
"        o3 = r_ + s_;                                                                              \\\n",
"        o4 = r_ - s_;                                                                              \\\n",
"        o5 = d3;                                                                                   \\\n",
"    } while (0)\n",
"/* o = G d (6 of 3), G' d (3 of 6). */\n",
"#define WINO_G(o0, o1, o2, o3, o4, o5, d0, d1, d2)                                                 \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = (d0 + d2) * (-1.0f / 6.0f), q_ = d1 * (-1.0f / 6.0f);                   \\\n",
"        const float16 r_ = d0 * (1.0f / 24.0f) + d2 * (1.0f / 6.0f), s_ = d1 * (1.0f / 12.0f);     \\\n",
"        o0 = 0.25f * d0;                                                                           \\\n",
"        o1 = p_ + q_;                                                                              \\\n",
"        o2 = p_ - q_;                                                                              \\\n",
"        o3 = r_ + s_;                                                                              \\\n",
"        o4 = r_ - s_;                                                                              \\\n",
"        o5 = d2;                                                                                   \\\n",
"    } while (0)\n",
"#define WINO_GT(o0, o1, o2, d0, d1, d2, d3, d4, d5)                                                \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = d1 + d2, q_ = d1 - d2, r_ = d3 + d4, s_ = d3 - d4;                      \\\n",
"        o0 = 0.25f * d0 - p_ * (1.0f / 6.0f) + r_ * (1.0f / 24.0f);                                \\\n",
"        o1 = s_ * (1.0f / 12.0f) - q_ * (1.0f / 6.0f);                                             \\\n",
"        o2 = (r_ - p_) * (1.0f / 6.0f) + d5;                                                       \\\n",
"    } while (0)\n",
"\n",
"/* Tile number t of an image set: image n, tile row y, tile column x. */\n",
"typedef struct wino_tile {\n",
"    int n, y, x;\n",
"} wino_tile;\n",
"\n",
"static inline wino_tile wino_at(int t, int2 grid)\n",
"{\n",
"    const wino_tile w = {t / (grid.x * grid.y), t / grid.x % grid.y, t % grid.x};\n",
"\n",
"    return w;\n",
"}\n",
"\n",
"static inline wino_tile wino_next(wino_tile w, int2 grid)\n",
"{\n",
"    if (++w.x == grid.x) {\n",
"        w.x = 0;\n",
"        if (++w.y == grid.y) {\n",
"            w.y = 0;\n",
"            ++w.n;\n",
"        }\n",
"    }\n",
"    return w;\n",
"}\n",
"\n",
"/* 16 channels: 8 at p and 8 at p + upper. */\n",
"static inline float16 wino_load(__global const float *p, int upper)\n",
"{\n",
"    return (float16)(LOAD8(p), LOAD8(p + upper));\n",
"}\n",
"\n",
"/* Hints at the size x size pixels of tile w, 8 floats each, of two 8-blocks. */\n",
"static inline void wino_hint(__global const float *x, int4 xl, int upper, wino_tile w, int size)\n",
"{\n",
"    __global const float *p = x + (size_t)w.n * xl.w + xl.x + w.y * size * xl.y + w.x * size * 8;\n",
"\n",
"    for (int i = 0; i < size; ++i, p += xl.y)\n",
"        for (int j = 0; j < size * 8; j += 16) {\n",
"            HINT(p + j);\n",
"            HINT(p + j + upper);\n",
"        }\n",
"}\n",
"\n",
"/* An image set as it is transformed, 16 channels of one image at a time: as it is, or activated,\n",
" * leaky(x scale + shift). */\n",
"typedef struct wino_source {\n",
"    __global const float *all, *p, *coef; /* p: of the image and channels */\n",
"    int4 l;\n",
"    int2 HW;\n",
"    int C, cstep, upper;\n",
"    float slope;\n",
"    float16 scale, shift;\n",
"} wino_source;\n",
"\n",
"/* Moves to 16-block c of image n. coef: [2][8*ceil(C/8)], scale and shift, of each image, cstep\n",
" * floats apart; 0: the same for all; -1: scale 1, shift 0. */\n",
"static inline void wino_source_at(wino_source *s, int n, int c)\n",
"{\n",
"    s->p = s->all + (size_t)n * s->l.w + s->l.x + c * 2 * s->l.z;\n",
"    s->upper = c * 16 + 8 < s->C ? s->l.z : 0;\n",
"    if (s->cstep >= 0) {\n",
"        __global const float *k = s->coef + (size_t)n * s->cstep + c * 16;\n",
"        const int C8 = (s->C + 7) / 8 * 8, up = s->upper != 0 ? 8 : 0;\n",
"        s->scale = (float16)(LOAD8(k), LOAD8(k + up));\n",
"        s->shift = (float16)(LOAD8(k + C8), LOAD8(k + C8 + up));\n",
"    }\n",
"}\n",
"\n",
"static inline float16 wino_value(const wino_source *s, int y, int x)\n",
"{\n",
"    return wino_load(s->p + min(y, s->HW.y) * s->l.y + min(x, s->HW.x) * 8, s->upper);\n",
"}\n",
"\n",
"static inline float wino_inside(int i, int size)\n",
"{\n",
"    return (uint)i < (uint)size ? 1.0f : 0.0f;\n",
"}\n",
"\n",
"/* The same activated, 0 <= slope <= 1. The halo is zero: only the shift must be kept out of it. */\n",
"static inline float16 wino_active(const wino_source *s, int y, int x, float16 shift)\n",
"{\n",
"    const float16 v = wino_value(s, y, x) * s->scale + shift, low = v * s->slope;\n",
"    return select(low, v, v > low);\n",
"}\n",
"\n",
"/* B' d B of a 6x6 tile, act: activated, to out[k * step], k < 36. The tile begins one pixel above\n",
" * and left of its outputs; the row and the column after the last are halo. */\n",
"#define WINO_INPUT(NAME, SPACE)                                                                    \\\n",
"    static inline void NAME(const wino_source *s, wino_tile w, int act, SPACE float *out,          \\\n",
"                            int step)                                                              \\\n",
"    {                                                                                              \\\n",
"        const int y = w.y * 4 - 1;                                                                 \\\n",
"        float16 r[6][6];                                                                           \\\n",
"        WINO_LOOP for (int j = 0; j < 6; ++j) {                                                    \\\n",
"            const int x = w.x * 4 - 1 + j;                                                         \\\n",
"            const float16 shift = s->shift * wino_inside(x, s->HW.x);                              \\\n",
"            float16 d[6];                                                                          \\\n",
"            WINO_UNROLL for (int i = 0; i < 6; ++i) d[i] =                                         \\\n",
"                act ? wino_active(s, y + i, x, shift * wino_inside(y + i, s->HW.y))                \\\n",
"                    : wino_value(s, y + i, x);                                                     \\\n",
"            WINO_B(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], d[0], d[1], d[2], d[3],   \\\n",
"                   d[4], d[5]);                                                                    \\\n",
"        }                                                                                          \\\n",
"        WINO_LOOP for (int i = 0; i < 6; ++i) {                                                    \\\n",
"            float16 v[6];                                                                          \\\n",
"            WINO_B(v[0], v[1], v[2], v[3], v[4], v[5], r[i][0], r[i][1], r[i][2], r[i][3],         \\\n",
"                   r[i][4], r[i][5]);                                                              \\\n",
"            WINO_UNROLL for (int j = 0; j < 6; ++j)                                                \\\n",
"                *(SPACE float16 *)(out + (i * 6 + j) * step) = v[j];                               \\\n",
"        }                                                                                          \\\n",
"    }\n",
"WINO_INPUT(wino_input_local, __local)\n",
"WINO_INPUT(wino_input_global, __global)\n",
"\n",
"/* The tiles a work-group transforms: `live` of them, and up to `used` the last one again. */\n",
"typedef struct wino_group {\n",
"    wino_tile first, last;\n",
"    int2 grid;\n",
"    int live, used;\n",
"} wino_group;\n",
"\n",
"/* Tiles t0 .. t0 + T - 1, as far as they are below end. */\n",
"static inline wino_group wino_group_at(int t0, int T, int end, int2 grid)\n",
"{\n",
"    const int live = min(T, end - t0);\n",
"    const wino_group g = {wino_at(t0, grid), wino_at(t0 + live - 1, grid), grid, live,\n",
"                          (live + 7) / 8 * 8};\n",
"\n",
"    return g;\n",
"}\n",
"\n",
"/* All channels of a work-group's tiles, transformed, to v[36][T][C16], `step` floats a point;\n",
" * act: activated. */\n",
"OSR_PART wino_inputs(const wino_source *source, const wino_group *group, int act,\n",
"                     __local float *restrict v, int step)\n",
"{\n",
"    wino_source s = *source;\n",
"    const wino_group g = *group;\n",
"    const int C16 = (s.C + 15) / 16 * 16;\n",
"\n",
"    for (int c = 0; c < s.C; c += 16) {\n",
"        wino_tile w = g.first;\n",
"        for (int t = 0; t < g.used; ++t) {\n",
"            if (c + 16 < s.C)\n",
"                wino_hint(s.all + (c / 8 + 2) * s.l.z, s.l, c + 24 < s.C ? s.l.z : 0, w, 4);\n",
"            wino_source_at(&s, w.n, c / 16);\n",
"            if (act)\n",
"                wino_input_local(&s, w, 1, v + t * C16 + c, step);\n",
"            else\n",
"                wino_input_local(&s, w, 0, v + t * C16 + c, step);\n",
"            if (t + 1 < g.live)\n",
"                w = wino_next(w, g.grid);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* What is brought into the cache while products keep the core busy: the rows that a group of tiles\n",
" * covers, all rows of both images where it goes from one into the next, in `chunks` pieces of\n",
" * `lines` lines of 64 bytes, `blocks` of each image, a plane apart. The next line is `line` of\n",
" * piece `chunk`; below 0 there is some time left. */\n",
"typedef struct wino_fetch {\n",
"    __global const float *p;\n",
"    int plane, image, blocks, chunks, lines, chunk, line;\n",
"} wino_fetch;\n",
"\n",
"/* Of `blocks` 8-blocks of x the tiles of g, size x size pixels each. */\n",
"static inline wino_fetch wino_fetch_tiles(__global const float *x, int4 l, int blocks, int size,\n",
"                                          const wino_group *g)\n",
"{\n",
"    const wino_tile a = g->first, b = g->last;\n",
"    const int whole = a.n != b.n, y = whole ? 0 : a.y, rows = whole ? g->grid.y : b.y + 1 - y;\n",
"    const wino_fetch f = {x + (size_t)a.n * l.w + l.x + y * size * l.y, l.z, l.w, blocks,\n",
"                          g->live > 0 ? blocks * (b.n + 1 - a.n) : 0, rows * size * l.y / 16, 0, 0};\n",
"\n",
"    return f;\n",
"}\n",
"\n",
"/* Puts it off as far as `room` lines, fetched or not, allow. */\n",
"static inline void wino_fetch_late(wino_fetch *f, int room)\n",
"{\n",
"    f->line = min(0, f->lines * f->chunks - room + room / 8);\n",
"}\n",
"\n",
"/* Where the next n lines begin, to be walked in steps of *step: 0 where there is nothing to do. */\n",
"static inline __global const float *wino_fetch_next(wino_fetch *f, int n, int *step)\n",
"{\n",
"    __global const float *p = f->p;\n",
"\n",
"    *step = 0;\n",
"    if (f->line >= f->lines) {\n",
"        f->line = 0;\n",
"        ++f->chunk;\n",
"    }\n",
"    if (f->line >= 0 && f->chunk < f->chunks) {\n",
"        p += (size_t)(f->chunk / f->blocks) * f->image + f->chunk % f->blocks * f->plane\n",
"             + f->line * 16;\n",
"        *step = 16;\n",
"    }\n",
"    f->line += n;\n",
"    return p;\n",
"}\n",
"\n",
"/* m[t][o] = sum over c < C of v[t][c] times u[c] of 16-block o < WINO_OB, for WINO_PX tiles. Of two\n",
" * fetches a line every 8 channels: more at a time would keep the products waiting. */\n",
"static inline void wino_product(__local const float *v, int vstep, __global const float *u,\n",
"                                long ustep, int C, __local float *m, wino_fetch *f)\n",
"{\n",
"    int xstep, ystep;\n",
"    __global const float *x = wino_fetch_next(f, C / 8, &xstep);\n",
"    __global const float *y = wino_fetch_next(f + 1, C / 8, &ystep);\n",
"    float16 acc[WINO_OB][WINO_PX];\n",
"\n",
"    WINO_UNROLL for (int o = 0; o < WINO_OB; ++o)\n",
"        WINO_UNROLL for (int t = 0; t < WINO_PX; ++t) acc[o][t] = (float16)(0.0f);\n",
"    for (int c0 = 0; c0 < C; c0 += 8, x += xstep, y += ystep) {\n",
"        HINT(x);\n",
"        HINT(y);\n",
"        _Pragma(\"unroll 4\") for (int c = c0; c < c0 + 8; ++c)\n",
"        {\n",
"            float16 w[WINO_OB];\n",
"            WINO_UNROLL for (int o = 0; o < WINO_OB; ++o) w[o] =\n",
"                WINO_LOAD16(u + o * ustep + c * 16);\n",
"            WINO_UNROLL for (int t = 0; t < WINO_PX; ++t)\n",
"            {\n",
"                const float16 b = (float16)(v[t * vstep + c]);\n",
"                WINO_UNROLL for (int o = 0; o < WINO_OB; ++o) acc[o][t] += w[o] * b;\n",
"            }\n",
"        }\n",
"    }\n",
"    WINO_UNROLL for (int t = 0; t < WINO_PX; ++t)\n",
"        WINO_UNROLL for (int o = 0; o < WINO_OB; ++o)\n",
"            *(__local float16 *)(m + t * 32 + o * 16) = acc[o][t];\n",
"}\n",
"\n",
"/* What a convolution writes to: y of HW pixels; what follows; stats: row g of G of the batch\n",
" * statistics in part. pad, transpose: of stride 2. */\n",
"typedef struct wino_result {\n",
"    __global float *y;\n",
"    int4 yl;\n",
"    int2 HW, pad;\n",
"    int transpose;\n",
"    conv_after after;\n",
"    __global float *part;\n",
"    int stats, g, G;\n",
"} wino_result;\n",
"\n",
"/* Writes A' m A of 16 channels, 8-blocks cb and cb + 1, to the pixels of tile w inside the map;\n",
" * stats: adds them to `sums`. */\n",
"static inline void wino_output(__local const float *m, int step, const wino_result *s,\n",
"                               wino_tile w, int cb, conv_sums *sums)\n",
"{\n",
"    const int4 l = s->yl;\n",
"    __global float *p =\n",
"        s->y + (size_t)w.n * l.w + l.x + cb * l.z + w.y * 4 * l.y + w.x * 32;\n",
"    const int h = s->HW.y - w.y * 4, v = s->HW.x - w.x * 4;\n",
"    float16 r[4][6];\n",
"\n",
"    WINO_LOOP for (int j = 0; j < 6; ++j)\n",
"    {\n",
"        float16 d[6];\n",
"        WINO_UNROLL for (int i = 0; i < 6; ++i) d[i] =\n",
"            *(__local const float16 *)(m + (i * 6 + j) * step);\n",
"        WINO_AT(r[0][j], r[1][j], r[2][j], r[3][j], d[0], d[1], d[2], d[3], d[4], d[5]);\n",
"    }\n",
"    WINO_LOOP for (int i = 0; i < 4; ++i)\n",
"    {\n",
"        float16 o[4];\n",
"        WINO_AT(o[0], o[1], o[2], o[3], r[i][0], r[i][1], r[i][2], r[i][3], r[i][4], r[i][5]);\n",
"        if (s->stats && i == 0 && sums->count == 0.0f)\n",
"            sums->pivot = o[0];\n",
"        WINO_UNROLL for (int j = 0; j < 4; ++j)\n",
"        {\n",
"            if (i < h && j < v) {\n",
"                if (s->stats)\n",
"                    conv_sums_add(sums, o[j]);\n",
"                conv_after_put(&s->after, p + i * l.y + j * 8, o[j]);\n",
"            }\n",
"        }\n",
"    }\n",
"    if (s->stats)\n",
"        sums->count += (float)(min(h, 4) * min(v, 4));\n",
"}\n",
"\n",
"/* Writes 16-block b of all of a work-group's tiles, m [36][T][32], `step` floats a point. */\n",
"OSR_PART wino_outputs(__local const float *restrict m, int step, const wino_result *result,\n",
"                      const wino_group *group, int b)\n",
"{\n",
"    wino_result s = *result;\n",
"    const wino_group g = *group;\n",
"    conv_sums sums = {0.0f, 0.0f, 0.0f, 0.0f};\n",
"    wino_tile w = g.first;\n",
"\n",
"    conv_after_at(&s.after, b);\n",
"    for (int t = 0; t < g.live; ++t, w = wino_next(w, g.grid))\n",
"        wino_output(m + t * 32, step, &s, w, b * 2, &sums);\n",
"    if (s.stats)\n",
"        conv_sums_put(&sums, s.part, s.g, s.G, b * 2, s.after.C);\n",
"}\n",
"\n",
"/* m[t][32] = V U for one point and two 16-blocks of outputs, of `used` tiles; pair 0: there is only\n",
" * the first, what the second becomes does not matter. fetch: two of them. */\n",
"OSR_PART wino_products(__local const float *restrict v, int C16, __global const float *restrict u,\n",
"                       long ustep, int C, int used, int pair, __local float *restrict m,\n",
"                       wino_fetch *fetch)\n",
"{\n",
"    for (int b = 0; b < 1 + pair; b += WINO_OB)\n",
"        for (int t = 0; t < used; t += WINO_PX)\n",
"            wino_product(v + t * C16, C16, u + b * ustep, pair ? ustep : 0, C,\n",
"                         m + t * 32 + b * 16, fetch);\n",
"}\n",
"\n",
"/* y = convolution of x, as before, cstep and bslope say (see wino_source_at), with the filters of\n",
" * U; then what conv_after says. stats 1: batch statistics of y to part (see conv_sums_put). T:\n",
" * tiles a work-group, a multiple of 8. scratch: 36 * (T * (C16 + 32) + 32) floats: the transformed\n",
" * tiles [36][T][C16] and, of 32 outputs at a time, the products [36][T][32]; 16 floats more in each\n",
" * of 36 keep them off one cache set. */\n",
"OSR_KERNEL wino_conv(__global const float *restrict x, int4 xl, __global const float *restrict u,\n",
"                     int uoff, __global float *restrict y, int4 yl, int N, int IB, int OC, int2 HW,\n",
"                     __global const float *restrict coef, int after, float slope,\n",
"                     __global const float *restrict before, int cstep, float bslope,\n",
"                     __global float *restrict part, int stats, int T,\n",
"                     __local float16 *restrict scratch)\n",
"{\n",
"    const int t0 = (int)get_group_id(0) * T, OB = (OC + 7) / 8;\n",
"    const int2 grid = (HW + 3) / 4;\n",
"    const wino_group g = wino_group_at(t0, T, N * grid.x * grid.y, grid);\n",
"    const wino_group next = wino_group_at(t0 + T, T, N * grid.x * grid.y, grid);\n",
"    const wino_source s = {x, 0, before, xl, HW, IB * 8, cstep, 0, bslope, 1.0f, 0.0f};\n",
"    const wino_result r = {y, yl, HW, 0, 0, conv_after_of(coef, after, slope, OC, yl.z), part,\n",
"                           stats, (int)get_group_id(0), (int)get_num_groups(0)};\n",
"    const int C16 = (IB + 1) / 2 * 16, vk = T * C16 + 16;\n",
"    const int mk = T * 32 + 16, o16 = (OC + 15) / 16, og = (int)get_group_id(1);\n",
"    const int ng = (int)get_num_groups(1), pairs = (o16 + 1) / 2;\n",
"    const long ustep = (long)36 * IB * 128;\n",
"    __local float *v = (__local float *)scratch, *m = v + 36 * vk;\n",
"    wino_fetch fetch[2];\n",
"\n",
"    fetch[0] = wino_fetch_tiles(x, xl, IB, 4, &next);\n",
"    wino_inputs(&s, &g, cstep >= 0, v, vk);\n",
"    for (int o = pairs * og / ng * 2; o < min(pairs * (og + 1) / ng * 2, o16); o += 2) {\n",
"        fetch[1] = wino_fetch_tiles(y + o * 2 * yl.z, yl, min(4, OB - o * 2), 4, &g);\n",
"        wino_fetch_late(&fetch[1], 36 * g.used / WINO_PX * IB);\n",
"        for (int k = 0; k < 36; ++k)\n",
"            wino_products(v + k * vk, C16, u + uoff + o * ustep + (long)k * IB * 128, ustep, IB * 8,\n",
"                          g.used, o + 1 < o16, m + k * mk, fetch);\n",
"        for (int b = o; b < min(o + 2, o16); ++b)\n",
"            wino_outputs(m + (b - o) * 16, mk, &r, &g, b);\n",
"    }\n",
"}\n",
"\n",
"/* ---- stride 2 ---- */\n",
"\n",
"/* o = B' d (5 of 5), A' d (4 of 5). */\n",
"#define WINO2_B(o, d0, d1, d2, d3, d4)                                                             \\\n",
"    do {                                                                                           \\\n",
"        const float16 t_ = d3 - d1;                                                                \\\n",
"        o[0] = 2.0f * (d0 - d2) + t_;                                                              \\\n",
"        o[1] = t_ - d1 - d2;                                                                       \\\n",
"        o[2] = 3.0f * (d1 - d2) + t_;                                                              \\\n",
"        o[3] = t_;                                                                                 \\\n",
"        o[4] = d4 - d2 - 2.0f * t_;                                                                \\\n",
"    } while (0)\n",
"#define WINO2_AT(o, d0, d1, d2, d3, d4)                                                            \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = d1 + d2, q_ = d1 - d2;                                                  \\\n",
"        o[0] = d0 + p_ + d3;                                                                       \\\n",
"        o[1] = q_ + 2.0f * d3;                                                                     \\\n",
"        o[2] = p_ + 4.0f * d3;                                                                     \\\n",
"        o[3] = q_ + 8.0f * d3 + d4;                                                                \\\n",
"    } while (0)\n",
"/* o = G d (6 of 3); the middle tap is the odd one. */\n",
"#define WINO2_G(o, d0, d1, d2)                                                                     \\\n",
"    do {                                                                                           \\\n",
"        o[0] = 0.5f * d0;                                                                          \\\n",
"        o[1] = -0.5f * (d0 + d2);                                                                  \\\n",
"        o[2] = (d2 - d0) * (1.0f / 6.0f);                                                          \\\n",
"        o[3] = (d0 + 2.0f * d2) * (1.0f / 6.0f);                                                   \\\n",
"        o[4] = d2;                                                                                 \\\n",
"        o[5] = d1;                                                                                 \\\n",
"    } while (0)\n",
"\n",
"/* Where filter value (a, b), a, b < 6, lies; 5 is the odd one. */\n",
"#define WINO2_VALUE(a, b) ((a) == 5 ? 30 + (b) : (b) == 5 ? 25 + (a) : (a) * 5 + (b))\n",
"/* Point k of even and odd columns b = 0 of row a (step EROW, 1) and rows a = 0 of column b (step\n",
" * ECOL, OCOL); the filter value of point k. */\n",
"#define WINO2_EROW0(a) ((a) < 5 ? (a) * 5 : 40 + (a))\n",
"#define WINO2_EROW(a) ((a) < 5 ? 1 : 4)\n",
"#define WINO2_OROW0(a) ((a) < 5 ? 25 + (a) * 4 : 45 + (a) * 4)\n",
"#define WINO2_ECOL0(b) ((b) < 5 ? (b) : 20 + (b))\n",
"#define WINO2_ECOL(b) ((b) < 5 ? 5 : 4)\n",
"#define WINO2_OCOL0(b) ((b) < 5 ? 45 + (b) * 4 : 60 + (b))\n",
"#define WINO2_OCOL(b) ((b) < 5 ? 1 : 4)\n",
"#define WINO2_FILTER(k) ((k) < 25 ? (k) : (k) < 65 ? 25 + ((k) - 25) / 4 : 35)\n",
"\n",
"/* The 81 values of 16 channels of tile w, to out[k * step]: of 9x9 pixels of x, act: activated,\n",
" * from pad above and left of pixel (8y, 8x) on, or (transposed) of 5x5 of dy from 1 - pad above\n",
" * and left of (4y, 4x). */\n",
"static inline void wino2_input(const wino_source *s, wino_tile w, int2 pad, int transpose, int act,\n",
"                               __local float *out, int step)\n",
"{\n",
"    const int2 at = (int2)(w.x, w.y) * (transpose ? 4 : 8) - (transpose ? 1 - pad : pad);\n",
"    const int size = transpose ? 5 : 9;\n",
"    float16 r[9][9];\n",
"\n",
"    WINO_LOOP for (int j = 0; j < size; ++j)\n",
"    {\n",
"        const int x = at.x + j;\n",
"        const float16 shift = s->shift * wino_inside(x, s->HW.x);\n",
"        float16 d[9], e[5];\n",
"        if (transpose) {\n",
"            WINO_UNROLL for (int i = 0; i < 5; ++i) d[i] = wino_value(s, at.y + i, x);\n",
"            WINO2_B(e, d[0], d[1], d[2], d[3], d[4]);\n",
"            WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = pad.y ? d[i] : d[i + 1];\n",
"        } else {\n",
"            if (act)\n",
"                WINO_UNROLL for (int i = 0; i < 9; ++i) d[i] =\n",
"                    wino_active(s, at.y + i, x, shift * wino_inside(at.y + i, s->HW.y));\n",
"            else\n",
"                WINO_UNROLL for (int i = 0; i < 9; ++i) d[i] = wino_value(s, at.y + i, x);\n",
"            WINO2_B(e, d[0], d[2], d[4], d[6], d[8]);\n",
"            WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = d[2 * i + 1];\n",
"        }\n",
"        WINO_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];\n",
"    }\n",
"    WINO_LOOP for (int a = 0; a < 9; ++a)\n",
"    {\n",
"        __local float *even = out + WINO2_EROW0(a) * step, *odd = out + WINO2_OROW0(a) * step;\n",
"        const int estep = WINO2_EROW(a) * step;\n",
"        const int first = transpose ? 1 - pad.x : 1, by = transpose ? 1 : 2;\n",
"        float16 e[5];\n",
"        if (transpose)\n",
"            WINO2_B(e, r[a][0], r[a][1], r[a][2], r[a][3], r[a][4]);\n",
"        else\n",
"            WINO2_B(e, r[a][0], r[a][2], r[a][4], r[a][6], r[a][8]);\n",
"        WINO_UNROLL for (int b = 0; b < 5; ++b) *(__local float16 *)(even + b * estep) = e[b];\n",
"        WINO_UNROLL for (int b = 0; b < 4; ++b)\n",
"            *(__local float16 *)(odd + b * step) = r[a][first + b * by];\n",
"    }\n",
"}\n",
"\n",
"/* wino_inputs of stride 2: v[81][T][C16]; transpose: of its input gradient. */\n",
"OSR_PART wino2_inputs(const wino_source *source, const wino_group *group, int2 pad, int transpose,\n",
"                      __local float *restrict v, int step)\n",
"{\n",
"    wino_source s = *source;\n",
"    const wino_group g = *group;\n",
"    const int C16 = (s.C + 15) / 16 * 16;\n",
"\n",
"    for (int c = 0; c < s.C; c += 16) {\n",
"        wino_tile w = g.first;\n",
"        for (int t = 0; t < g.used; ++t) {\n",
"            if (c + 16 < s.C)\n",
"                wino_hint(s.all + (c / 8 + 2) * s.l.z, s.l, c + 24 < s.C ? s.l.z : 0, w,\n",
"                          transpose ? 4 : 8);\n",
"            wino_source_at(&s, w.n, c / 16);\n",
"            if (transpose)\n",
"                wino2_input(&s, w, pad, 1, 0, v + t * C16 + c, step);\n",
"            else\n",
"                wino2_input(&s, w, pad, 0, s.cstep >= 0, v + t * C16 + c, step);\n",
"            if (t + 1 < g.live)\n",
"                w = wino_next(w, g.grid);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* Writes 16 channels, 8-blocks cb and cb + 1, to the pixels of tile w inside the map: 4x4, or\n",
" * (transposed) 8x8, of which the even points make the rows and columns 2i + pad. */\n",
"static inline void wino2_output(__local const float *m, int step, const wino_result *s,\n",
"                                wino_tile w, int cb, conv_sums *sums)\n",
"{\n",
"    const int size = s->transpose ? 8 : 4, h = s->HW.y - w.y * size, v = s->HW.x - w.x * size;\n",
"    const int4 l = s->yl;\n",
"    const int2 pad = s->pad;\n",
"    __global float *p =\n",
"        s->y + (size_t)w.n * l.w + l.x + cb * l.z + w.y * size * l.y + w.x * size * 8;\n",
"    float16 r[8][9];\n",
"\n",
"    WINO_LOOP for (int b = 0; b < 9; ++b)\n",
"    {\n",
"        __local const float *even = m + WINO2_ECOL0(b) * step, *odd = m + WINO2_OCOL0(b) * step;\n",
"        const int es = WINO2_ECOL(b) * step, os = WINO2_OCOL(b) * step;\n",
"        float16 d[5], e[4];\n",
"        WINO_UNROLL for (int i = 0; i < 5; ++i) d[i] = *(__local const float16 *)(even + i * es);\n",
"        WINO2_AT(e, d[0], d[1], d[2], d[3], d[4]);\n",
"        WINO_UNROLL for (int i = 0; i < 4; ++i)\n",
"        {\n",
"            const float16 o = *(__local const float16 *)(odd + i * os);\n",
"            r[i][b] = s->transpose ? e[i] : e[i] + o;\n",
"            if (s->transpose)\n",
"                r[4 + i][b] = o;\n",
"        }\n",
"    }\n",
"    WINO_LOOP for (int i = 0; i < size; ++i)\n",
"    {\n",
"        const int y = !s->transpose ? i : i < 4 ? 2 * i + pad.y : 2 * (i - 4) + 1 - pad.y;\n",
"        float16 e[4];\n",
"        if (y >= h)\n",
"            continue;\n",
"        WINO2_AT(e, r[i][0], r[i][1], r[i][2], r[i][3], r[i][4]);\n",
"        if (s->transpose) {\n",
"            WINO_UNROLL for (int j = 0; j < 4; ++j)\n",
"            {\n",
"                if (2 * j + pad.x < v)\n",
"                    conv_after_put(&s->after, p + y * l.y + (2 * j + pad.x) * 8, e[j]);\n",
"                if (2 * j + 1 - pad.x < v)\n",
"                    conv_after_put(&s->after, p + y * l.y + (2 * j + 1 - pad.x) * 8, r[i][5 + j]);\n",
"            }\n",
"        } else {\n",
"            if (sums->count == 0.0f)\n",
"                sums->pivot = e[0] + r[i][5];\n",
"            WINO_UNROLL for (int j = 0; j < 4; ++j)\n",
"                if (j < v) {\n",
"                    const float16 o = e[j] + r[i][5 + j];\n",
"                    if (s->stats)\n",
"                        conv_sums_add(sums, o);\n",
"                    conv_after_put(&s->after, p + y * l.y + j * 8, o);\n",
"                }\n",
"            sums->count += (float)min(v, 4);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* wino_outputs of stride 2: m [81][T][32]. */\n",
"OSR_PART wino2_outputs(__local const float *restrict m, int step, const wino_result *result,\n",
"                       const wino_group *group, int b)\n",
"{\n",
"    wino_result s = *result;\n",
"    const wino_group g = *group;\n",
"    conv_sums sums = {0.0f, 0.0f, 0.0f, 0.0f};\n",
"    wino_tile w = g.first;\n",
"\n",
"    conv_after_at(&s.after, b);\n",
"    for (int t = 0; t < g.live; ++t, w = wino_next(w, g.grid))\n",
"        wino2_output(m + t * 32, step, &s, w, b * 2, &sums);\n",
"    if (s.stats)\n",
"        conv_sums_put(&sums, s.part, s.g, s.G, b * 2, s.after.C);\n",
"}\n",
"\n",
"/* y = convolution of x with the filters of U, or (transpose 1, U packed so, x = dy, y = dx, nothing\n",
" * before) its input gradient. XHW, YHW: the sizes of x and y. The rest as in wino_conv; scratch: 81\n",
" * * (T * (C16 + 32) + 32) floats. */\n",
"OSR_KERNEL wino2_conv(__global const float *restrict x, int4 xl, __global const float *restrict u,\n",
"                      int uoff, __global float *restrict y, int4 yl, int N, int IB, int OC,\n",
"                      int2 XHW, int2 YHW, int2 pad, int transpose,\n",
"                      __global const float *restrict coef, int after, float slope,\n",
"                      __global const float *restrict before, int cstep, float bslope,\n",
"                      __global float *restrict part, int stats, int T,\n",
"                      __local float16 *restrict scratch)\n",
"{\n",
"    const int size = transpose ? 8 : 4, t0 = (int)get_group_id(0) * T, OB = (OC + 7) / 8;\n",
"    const int2 grid = (YHW + size - 1) / size;\n",
"    const wino_group g = wino_group_at(t0, T, N * grid.x * grid.y, grid);\n",
"    const wino_group next = wino_group_at(t0 + T, T, N * grid.x * grid.y, grid);\n",
"    const wino_source s = {x, 0, before, xl, XHW, IB * 8, cstep, 0, bslope, 1.0f, 0.0f};\n",
"    const wino_result r = {y, yl, YHW, pad, transpose,\n",
"                           conv_after_of(coef, after, slope, OC, yl.z), part, stats,\n",
"                           (int)get_group_id(0), (int)get_num_groups(0)};\n",
"    const int C16 = (IB + 1) / 2 * 16, vk = T * C16 + 16;\n",
"    const int mk = T * 32 + 16, o16 = (OC + 15) / 16, og = (int)get_group_id(1);\n",
"    const int ng = (int)get_num_groups(1), pairs = (o16 + 1) / 2;\n",
"    const long ustep = (long)36 * IB * 128;\n",
"    __local float *v = (__local float *)scratch, *m = v + 81 * vk;\n",
"    wino_fetch fetch[2];\n",
"\n",
"    fetch[0] = wino_fetch_tiles(x, xl, IB, transpose ? 4 : 8, &next);\n",
"    wino2_inputs(&s, &g, pad, transpose, v, vk);\n",
"    for (int o = pairs * og / ng * 2; o < min(pairs * (og + 1) / ng * 2, o16); o += 2) {\n",
"        fetch[1] = wino_fetch_tiles(y + o * 2 * yl.z, yl, min(4, OB - o * 2), size, &g);\n",
"        wino_fetch_late(&fetch[1], 81 * g.used / WINO_PX * IB);\n",
"        for (int k = 0; k < 81; ++k)\n",
"            wino_products(v + k * vk, C16,\n",
"                          u + uoff + o * ustep + (long)WINO2_FILTER(k) * IB * 128, ustep, IB * 8,\n",
"                          g.used, o + 1 < o16, m + k * mk, fetch);\n",
"        for (int b = o; b < min(o + 2, o16); ++b)\n",
"            wino2_outputs(m + (b - o) * 16, mk, &r, &g, b);\n",
"    }\n",
"}\n",
"\n",
"/* ---- filters and their gradient, both strides ---- */\n",
"\n",
"/* o = G' d (3 of 6) of stride 2. */\n",
"#define WINO2_GT(o0, o1, o2, d0, d1, d2, d3, d4, d5)                                               \\\n",
"    do {                                                                                           \\\n",
"        o0 = 0.5f * (d0 - d1) + (d3 - d2) * (1.0f / 6.0f);                                         \\\n",
"        o1 = d5;                                                                                   \\\n",
"        o2 = d4 - 0.5f * d1 + d2 * (1.0f / 6.0f) + d3 * (1.0f / 3.0f);                             \\\n",
"    } while (0)\n",
"\n",
"/* G g G' of 16 filters, to u[8 k]; stride 2 in the order of WINO2_VALUE. */\n",
"static inline void wino_filter(const float16 *g, int stride, float16 *u)\n",
"{\n",
"    float16 r[3][6], o[6];\n",
"\n",
"    for (int j = 0; j < 3; ++j)\n",
"        if (stride == 1)\n",
"            WINO_G(r[j][0], r[j][1], r[j][2], r[j][3], r[j][4], r[j][5], g[j], g[3 + j], g[6 + j]);\n",
"        else\n",
"            WINO2_G(r[j], g[j], g[3 + j], g[6 + j]);\n",
"    for (int a = 0; a < 6; ++a) {\n",
"        if (stride == 1)\n",
"            WINO_G(o[0], o[1], o[2], o[3], o[4], o[5], r[0][a], r[1][a], r[2][a]);\n",
"        else\n",
"            WINO2_G(o, r[0][a], r[1][a], r[2][a]);\n",
"        for (int b = 0; b < 6; ++b)\n",
"            u[8 * (stride == 1 ? a * 6 + b : WINO2_VALUE(a, b))] = o[b];\n",
"    }\n",
"}\n",
"\n",
"/* Transformed filters of `no` outputs and the inputs from `first` to before `last`, of ci, the\n",
" * weights of which lie so and si apart; transpose turns them by 180 degrees. */\n",
"OSR_PART wino_filters(__global const float *restrict w, __global float *restrict u, int ci, int no,\n",
"                      int so, int si, int first, int last, int transpose, int stride)\n",
"{\n",
"    const int i8 = (ci + 7) / 8 * 8;\n",
"    float t[8][9][16];\n",
"    float16 b[36][8]; /* filters of 8 inputs together, so that 512 bytes are written at a time */\n",
"\n",
"    ROLLED for (int i = 0; i < 72; ++i)\n",
"        vstore16((float16)(0.0f), i, t[0][0]);\n",
"    for (int i0 = first; i0 < last; i0 += 8, u += 128) {\n",
"        const int ni = max(min(8, ci - i0), 0);\n",
"        ROLLED for (int o = 0; o < no; ++o)\n",
"            ROLLED for (int i = 0; i < ni; ++i)\n",
"            {\n",
"                __global const float *p = w + o * so + (i0 + i) * si;\n",
"                WINO_UNROLL for (int k = 0; k < 9; ++k) t[i][k][o] = p[transpose ? 8 - k : k];\n",
"            }\n",
"        ROLLED for (int i = 0; i < 8; ++i)\n",
"        {\n",
"            float16 g[9];\n",
"            WINO_UNROLL for (int k = 0; k < 9; ++k)\n",
"                g[k] = i < ni ? vload16(k, t[i][0]) : (float16)(0.0f);\n",
"            wino_filter(g, stride, &b[0][i]);\n",
"        }\n",
"        ROLLED for (int k = 0; k < 36; ++k)\n",
"            WINO_UNROLL for (int i = 0; i < 8; ++i)\n",
"                WINO_STORE16(u + ((size_t)k * i8 + i) * 16, b[k][i]);\n",
"    }\n",
"}\n",
"\n",
"/* Transformed filters of 16 outputs and 32 inputs; transpose swaps outputs and inputs and turns the\n",
" * filters by 180 degrees, which is what the input gradient needs. */\n",
"OSR_KERNEL wino_pack(__global const float *restrict w, int woff, __global float *restrict out,\n",
"                     int ooff, int O, int I, int transpose, int stride)\n",
"{\n",
"    const int co = transpose ? I : O, ci = transpose ? O : I, i8 = (ci + 7) / 8 * 8;\n",
"    const int so = transpose ? 9 : I * 9, si = transpose ? I * 9 : 9;\n",
"    const int o0 = (int)get_group_id(0) * 16, first = (int)get_group_id(1) * 32;\n",
"\n",
"    wino_filters(w + woff + o0 * so, out + ooff + ((size_t)o0 / 16 * 36 * i8 + first) * 16, ci,\n",
"                 min(16, co - o0), so, si, first, min(first + 32, i8), transpose, stride);\n",
"}\n",
"\n",
"/* A d A' of a 4x4 tile of dy, to out[16 k], k < 36. */\n",
"static inline void wino_dy_points(const wino_source *s, wino_tile w, __global float *out)\n",
"{\n",
"    float16 r[6][4];\n",
"\n",
"    WINO_UNROLL for (int j = 0; j < 4; ++j)\n",
"    {\n",
"        float16 d[4];\n",
"        WINO_UNROLL for (int i = 0; i < 4; ++i) d[i] = wino_value(s, w.y * 4 + i, w.x * 4 + j);\n",
"        WINO_A(r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j], d[0], d[1], d[2], d[3]);\n",
"    }\n",
"    WINO_UNROLL for (int i = 0; i < 6; ++i)\n",
"    {\n",
"        float16 o[6];\n",
"        WINO_A(o[0], o[1], o[2], o[3], o[4], o[5], r[i][0], r[i][1], r[i][2], r[i][3]);\n",
"        WINO_UNROLL for (int j = 0; j < 6; ++j) WINO_STORE16(out + (i * 6 + j) * 16, o[j]);\n",
"    }\n",
"}\n",
"\n",
"/* Row a of the 81 points of stride 2, from its 5 even and 4 odd values. */\n",
"static inline void wino2_put_row(__global float *out, int a, const float16 *even,\n",
"                                 const float16 *odd)\n",
"{\n",
"    __global float *e = out + WINO2_EROW0(a) * 16, *o = out + WINO2_OROW0(a) * 16;\n",
"    const int step = WINO2_EROW(a) * 16;\n",
"\n",
"    WINO_UNROLL for (int b = 0; b < 5; ++b) WINO_STORE16(e + b * step, even[b]);\n",
"    WINO_UNROLL for (int b = 0; b < 4; ++b) WINO_STORE16(o + b * 16, odd[b]);\n",
"}\n",
"\n",
"/* The 81 points of a 9x9 tile of x, to out[16 k]. */\n",
"static inline void wino2_x_points(const wino_source *s, wino_tile w, int2 pad,\n",
"                                  __global float *out)\n",
"{\n",
"    const int y = w.y * 8 - pad.y;\n",
"    float16 r[9][9];\n",
"\n",
"    WINO_LOOP for (int j = 0; j < 9; ++j)\n",
"    {\n",
"        const int x = w.x * 8 - pad.x + j;\n",
"        const float16 shift = s->shift * wino_inside(x, s->HW.x);\n",
"        float16 d[9], e[5];\n",
"        WINO_UNROLL for (int i = 0; i < 9; ++i) d[i] =\n",
"            wino_active(s, y + i, x, shift * wino_inside(y + i, s->HW.y));\n",
"        WINO2_B(e, d[0], d[2], d[4], d[6], d[8]);\n",
"        WINO_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];\n",
"        WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] = d[2 * i + 1];\n",
"    }\n",
"    WINO_LOOP for (int a = 0; a < 9; ++a)\n",
"    {\n",
"        const float16 odd[4] = {r[a][1], r[a][3], r[a][5], r[a][7]};\n",
"        float16 e[5];\n",
"        WINO2_B(e, r[a][0], r[a][2], r[a][4], r[a][6], r[a][8]);\n",
"        wino2_put_row(out, a, e, odd);\n",
"    }\n",
"}\n",
"\n",
"/* The same of a 4x4 tile of dy. */\n",
"#define WINO2_A(o, d0, d1, d2, d3)                                                                 \\\n",
"    do {                                                                                           \\\n",
"        const float16 p_ = d0 + d2, q_ = d1 + d3;                                                  \\\n",
"        o[0] = d0;                                                                                 \\\n",
"        o[1] = p_ + q_;                                                                            \\\n",
"        o[2] = p_ - q_;                                                                            \\\n",
"        o[3] = d0 + 4.0f * d2 + (2.0f * d1 + 8.0f * d3);                                           \\\n",
"        o[4] = d3;                                                                                 \\\n",
"    } while (0)\n",
"static inline void wino2_dy_points(const wino_source *s, wino_tile w, __global float *out)\n",
"{\n",
"    float16 r[9][4];\n",
"\n",
"    WINO_UNROLL for (int j = 0; j < 4; ++j)\n",
"    {\n",
"        float16 e[5];\n",
"        WINO_UNROLL for (int i = 0; i < 4; ++i) r[5 + i][j] =\n",
"            wino_value(s, w.y * 4 + i, w.x * 4 + j);\n",
"        WINO2_A(e, r[5][j], r[6][j], r[7][j], r[8][j]);\n",
"        WINO_UNROLL for (int i = 0; i < 5; ++i) r[i][j] = e[i];\n",
"    }\n",
"    WINO_LOOP for (int a = 0; a < 9; ++a)\n",
"    {\n",
"        float16 e[5];\n",
"        WINO2_A(e, r[a][0], r[a][1], r[a][2], r[a][3]);\n",
"        wino2_put_row(out, a, e, r[a]);\n",
"    }\n",
"}\n",
"\n",
"/* acc += v' d of one point of a tile, WINO_PX inputs and WINO_OB 16-blocks of outputs. */\n",
"static inline void wino_outer_tile(float16 (*acc)[WINO_PX], __global const float *v,\n",
"                                   __global const float *d, int dstep)\n",
"{\n",
"    float16 w[WINO_OB];\n",
"\n",
"    WINO_UNROLL for (int b = 0; b < WINO_OB; ++b) w[b] = WINO_LOAD16(d + b * dstep);\n",
"    WINO_UNROLL for (int k = 0; k < WINO_PX; ++k)\n",
"    {\n",
"        const float16 x = (float16)(v[k]);\n",
"        WINO_UNROLL for (int b = 0; b < WINO_OB; ++b) acc[b][k] += w[b] * x;\n",
"    }\n",
"}\n",
"\n",
"/* du [O/16][C][16] (+)= V' D of one filter value, the next np points of T tiles, `pitch` floats\n",
" * apart; C, O: multiples of 16. What the next accumulators begin with is fetched early, and of two\n",
" * fetches half a line every 2 tiles. */\n",
"OSR_PART wino_outer(__global const float *v, __global const float *d, int np, int C, int O, int T,\n",
"                    int pitch, int add, __global float *du, wino_fetch *f)\n",
"{\n",
"    for (int o = 0; o < O; o += 16 * WINO_OB)\n",
"        for (int i = 0; i < C; i += WINO_PX) {\n",
"            __global const float *vi = v + i / 16 * T * pitch + i % 16;\n",
"            __global const float *di = d + o / 16 * T * pitch;\n",
"            __global float *out = du + o * C + i * 16;\n",
"            const int pair = o + 16 < O ? 1 : 0, dstep = pair * T * pitch, step = pair * C * 16;\n",
"            int xstep, ystep;\n",
"            __global const float *x = wino_fetch_next(f, (np * T + 3) / 4, &xstep);\n",
"            __global const float *y = wino_fetch_next(f + 1, (np * T + 3) / 4, &ystep);\n",
"            float16 acc[WINO_OB][WINO_PX];\n",
"            WINO_UNROLL for (int b = 0; b < WINO_OB; ++b)\n",
"                WINO_UNROLL for (int k = 0; k < WINO_PX; ++k) acc[b][k] =\n",
"                    add ? WINO_LOAD16(out + b * step + k * 16) : (float16)(0.0f);\n",
"            WINO_UNROLL for (int b = 0; b < WINO_OB; ++b)\n",
"                WINO_UNROLL for (int k = 0; k < WINO_PX; ++k)\n",
"                    WINO_SOON(out + b * step + (WINO_PX + k) * 16);\n",
"            for (int p = 0; p < np; ++p, vi += 16, di += 16) {\n",
"                __global const float *vt = vi, *dt = di;\n",
"                int t = 0;\n",
"                for (; t + 1 < T; t += 2, x += xstep / 2, y += ystep / 2) {\n",
"                    HINT(x);\n",
"                    HINT(y);\n",
"                    wino_outer_tile(acc, vt, dt, dstep);\n",
"                    wino_outer_tile(acc, vt + pitch, dt + pitch, dstep);\n",
"                    vt += 2 * pitch;\n",
"                    dt += 2 * pitch;\n",
"                }\n",
"                if (t < T)\n",
"                    wino_outer_tile(acc, vt, dt, dstep);\n",
"            }\n",
"            WINO_UNROLL for (int b = 0; b < WINO_OB; ++b)\n",
"                WINO_UNROLL for (int k = 0; k < WINO_PX; ++k)\n",
"                    WINO_STORE16(out + b * step + k * 16, acc[b][k]);\n",
"        }\n",
"}\n",
"\n",
"/* The points of `live` tiles from w on, 16-blocks c0 .. c1-1 of x or (dy 1) dy, to out. */\n",
"OSR_PART wino_points(wino_source *s, wino_tile w, int live, int2 grid, int stride, int2 pad, int dy,\n",
"                     int c0, int c1, int pitch, __global float *out)\n",
"{\n",
"    const wino_tile first = w;\n",
"    const int size = dy ? 4 : 4 * stride;\n",
"\n",
"    for (int c = c0; c < c1; ++c, w = first)\n",
"        for (int t = 0; t < live; ++t, w = wino_next(w, grid), out += pitch) {\n",
"            if (c + 1 < c1)\n",
"                wino_hint(s->all + (c + 1) * 2 * s->l.z, s->l, c * 16 + 24 < s->C ? s->l.z : 0, w,\n",
"                          size);\n",
"            wino_source_at(s, w.n, c);\n",
"            if (stride == 1 && dy)\n",
"                wino_dy_points(s, w, out);\n",
"            else if (stride == 1)\n",
"                wino_input_global(s, w, 1, out, 16);\n",
"            else if (dy)\n",
"                wino2_dy_points(s, w, out);\n",
"            else\n",
"                wino2_x_points(s, w, pad, out);\n",
"        }\n",
"}\n",
"\n",
"/* dU part s over the tiles of split s, for the outputs of group og. vd: `room` floats for each\n",
" * work-group. x as coef, cstep and slope say; XHW, YHW: sizes of x and dy. */\n",
"OSR_KERNEL wino_wgrad(__global const float *restrict x, int4 xl, __global const float *restrict dy,\n",
"                      int4 dyl, __global float *restrict vd, __global float *restrict du, int N,\n",
"                      int C, int O, int2 XHW, int2 YHW, int2 pad, int stride,\n",
"                      __global const float *restrict coef, int cstep, float slope, int room)\n",
"{\n",
"    const int split = (int)get_group_id(0), splits = (int)get_num_groups(0);\n",
"    const int og = (int)get_group_id(1), ng = (int)get_num_groups(1);\n",
"    const int c16 = (C + 15) / 16, o16 = (O + 15) / 16, pitch = (stride == 1 ? 37 : 81) * 16;\n",
"    const int o0 = o16 * og / ng, on = o16 * (og + 1) / ng - o0;\n",
"    const int2 grid = (YHW + 3) / 4;\n",
"    const int tiles = N * grid.x * grid.y, end = (int)((long)tiles * (split + 1) / splits);\n",
"    const int start = (int)((long)tiles * split / splits), T = room / pitch / (c16 + on);\n",
"    wino_source xs = {x, 0, coef, xl, XHW, C, cstep, 0, slope, 1.0f, 0.0f};\n",
"    wino_source ys = {dy, 0, coef, dyl, YHW, O, -1, 0, 1.0f, 1.0f, 0.0f};\n",
"\n",
"    vd += (size_t)(og * splits + split) * room;\n",
"    du += ((size_t)split * 36 * o16 + o0) * c16 * 256;\n",
"    for (int t0 = start, live; t0 < end; t0 += live) {\n",
"        const wino_tile w = wino_at(t0, grid);\n",
"        const wino_group next = wino_group_at(t0 + T, T, end, grid);\n",
"        const int blocks = min(on * 2, (O + 7) / 8 - o0 * 2);\n",
"        wino_fetch fetch[2];\n",
"\n",
"        live = min(T, end - t0);\n",
"        __global float *d = vd + c16 * live * pitch;\n",
"        fetch[0] = wino_fetch_tiles(x, xl, (C + 7) / 8, 4 * stride, &next);\n",
"        fetch[1] = wino_fetch_tiles(dy + o0 * 2 * dyl.z, dyl, blocks, 4, &next);\n",
"        wino_points(&xs, w, live, grid, stride, pad, 0, 0, c16, pitch, vd);\n",
"        wino_points(&ys, w, live, grid, stride, pad, 1, o0, o0 + on, pitch, d);\n",
"        for (int f = 0, k = 0, np; f < 36; ++f, k += np) {\n",
"            np = stride == 1 || f < 25 ? 1 : f < 35 ? 4 : 16;\n",
"            wino_outer(vd + k * 16, d + k * 16, np, c16 * 16, on * 16, live, pitch, t0 > start,\n",
"                       du + (size_t)f * o16 * c16 * 256, fetch);\n",
"        }\n",
"    }\n",
"}\n",
"\n",
"/* dw [O][C][3][3] (+)= G' dU G of 16 outputs, block ob, and 8 inputs, block ib. */\n",
"OSR_PART wino_filter_grad(__global const float *restrict du, __global float *restrict dw, int C,\n",
"                          int O, int stride, int splits, int accumulate, int ob, int ib)\n",
"{\n",
"    const int lanes = min(8, C - ib * 8);\n",
"    const size_t C16 = (C + 15) / 16 * 16, plane = (O + 15) / 16 * C16 * 16;\n",
"    float t[8][9][16];\n",
"\n",
"    ROLLED for (int i = 0; i < lanes; ++i)\n",
"    {\n",
"        float16 d[36], r[3][6];\n",
"        ROLLED for (int k = 0; k < 36; ++k)\n",
"        {\n",
"            const int f = stride == 1 ? k : WINO2_VALUE(k / 6, k % 6);\n",
"            __global const float *p = du + f * plane + (ob * C16 + ib * 8 + i) * 16;\n",
"            d[k] = WINO_LOAD16(p);\n",
"            ROLLED for (int s = 1; s < splits; ++s) d[k] += WINO_LOAD16(p + s * 36 * plane);\n",
"        }\n",
"        for (int j = 0; j < 6; ++j)\n",
"            if (stride == 1)\n",
"                WINO_GT(r[0][j], r[1][j], r[2][j], d[j], d[6 + j], d[12 + j], d[18 + j], d[24 + j],\n",
"                        d[30 + j]);\n",
"            else\n",
"                WINO2_GT(r[0][j], r[1][j], r[2][j], d[j], d[6 + j], d[12 + j], d[18 + j],\n",
"                         d[24 + j], d[30 + j]);\n",
"        for (int k = 0; k < 3; ++k) {\n",
"            float16 g[3];\n",
"            if (stride == 1)\n",
"                WINO_GT(g[0], g[1], g[2], r[k][0], r[k][1], r[k][2], r[k][3], r[k][4], r[k][5]);\n",
"            else\n",
"                WINO2_GT(g[0], g[1], g[2], r[k][0], r[k][1], r[k][2], r[k][3], r[k][4], r[k][5]);\n",
"            for (int j = 0; j < 3; ++j)\n",
"                vstore16(g[j], k * 3 + j, t[i][0]);\n",
"        }\n",
"    }\n",
"    for (int o = 0; o < min(16, O - ob * 16); ++o) {\n",
"        __global float *p = dw + ((size_t)(ob * 16 + o) * C + ib * 8) * 9;\n",
"        ROLLED for (int i = 0; i < lanes; ++i)\n",
"            ROLLED for (int k = 0; k < 9; ++k, ++p)\n",
"                *p = accumulate ? *p + t[i][k][o] : t[i][k][o];\n",
"    }\n",
"}\n",
"\n",
"/* dw at dwoff from the sum of the splits in their order; accumulate 0 overwrites. One group for 16\n",
" * outputs and 8 inputs. */\n",
"OSR_KERNEL wino_wgrad_filter(__global const float *restrict du, __global float *restrict dw,\n",
"                             int dwoff, int C, int O, int stride, int splits, int accumulate)\n",
"{\n",
"    wino_filter_grad(du, dw + dwoff, C, O, stride, splits, accumulate, (int)get_group_id(0),\n",
"                     (int)get_group_id(1));\n",
"}\n",
};
static const char *const osr__cl_winograd_gpu[] = {
"#line 1 \"kernels/winograd_gpu.cl\"\n",
"/* winograd_gpu.cl - Winograd F(4x4, 3x3): 3x3 convolutions of stride 1 and padding 1, GPU family\n",
" *\n",
" * Y = A' ((G g G') * (B' d B)) A for each 6x6 input tile d and filter g, points 0, 1, -1, 2, -2 and\n",
" * infinity (Lavin and Gray 2015, arXiv:1509.09308). Tiles as in winograd_cpu.cl. The products are\n",
" * kernels of conv_gpu.cl: conv_taps makes M = V U as 36 convolutions 1x1 of images of one row,\n",
" * conv_wgrad dU = V' D as the weight gradient of 36 P images, each with a filter of its own.\n",
" *\n",
" *   U  [36][O16/16][C8/8][8][16]  transformed filters\n",
" *   V  [36][P][C8/8][T][8]        transformed tiles of x; D the same of dy, M (P 1) of products\n",
" *   dU [36][P][O16/16][C8/8][8][16]\n",
" * For CLBlast these are plain matrices: U, dU [C8][O16], V, D, M [T][C8]. step tells the layout of\n",
" * V, D and M: x to the next block of channels, y to the next tile.\n",
" *\n",
" * An item makes one channel of one tile or filter, 36 values in registers, neighbours in memory for\n",
" * neighbouring items, 32 bytes a pixel at a time. Memory bounds all of it, not multiplications, so\n",
" * the transforms are plain products of small matrices.\n",
" *\n",
" * Launch geometry (number of groups; local size LS, 1, 1):\n",
" *   wino_pack, wino_wgrad_filter   O16 / 16, C8 / 8, 128 / LS   O, C: after the transposition\n",
" *   wino_tiles                     ceil(8 P T / LS), C8 / 8, 1\n",
" *   wino_output                    ceil(8 T / LS), O8 / 8, 1 */\n",
"#ifndef OSR_COMMON\n",
"#include \"common.cl\"\n",
"#endif\n",
"\n",
"#define WINO_UNROLL _Pragma(\"unroll\")\n",
"\n",
"__constant float wino_b[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},\n",
"                                 {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};\n",
"__constant float wino_a[6][4] = {{1, 0, 0, 0}, {1, 1, 1, 1},   {1, -1, 1, -1},\n",
"                                 {1, 2, 4, 8}, {1, -2, 4, -8}, {0, 0, 0, 1}};\n",
"__constant float wino_g[6][3] = {\n",
"    {1 / 4.0f, 0, 0}, {-1 / 6.0f, -1 / 6.0f, -1 / 6.0f}, {-1 / 6.0f, 1 / 6.0f, -1 / 6.0f},\n",
"    {1 / 24.0f, 1 / 12.0f, 1 / 6.0f}, {1 / 24.0f, -1 / 12.0f, 1 / 6.0f}, {0, 0, 1}};\n",
"\n",
"/* d (S x S) becomes P d P' (R x R), P[r][k] an expression of r and k. Unrolled, zeros vanish. */\n",
"#define WINO_SANDWICH(NAME, R, S, P)                                                               \\\n",
"    static inline void NAME(float (*d)[6])                                                         \\\n",
"    {                                                                                              \\\n",
"        float t[6][6];                                                                             \\\n",
"        WINO_UNROLL for (int r = 0; r < R; ++r) WINO_UNROLL for (int j = 0; j < S; ++j) {          \\\n",
"            t[r][j] = 0.0f;                                                                        \\\n",
"            WINO_UNROLL for (int k = 0; k < S; ++k) if (P != 0.0f) t[r][j] += P * d[k][j];         \\\n",
"        }                                                                                          \\\n",
"        WINO_UNROLL for (int i = 0; i < R; ++i) WINO_UNROLL for (int r = 0; r < R; ++r) {          \\\n",
"            d[i][r] = 0.0f;                                                                        \\\n",
"            WINO_UNROLL for (int k = 0; k < S; ++k) if (P != 0.0f) d[i][r] += P * t[i][k];         \\\n",
"        }                                                                                          \\\n",
"    }\n",
"WINO_SANDWICH(wino_input, 6, 6, wino_b[r][k])\n",
"WINO_SANDWICH(wino_grad, 6, 4, wino_a[r][k])\n",
"WINO_SANDWICH(wino_result, 4, 6, wino_a[k][r])\n",
"WINO_SANDWICH(wino_filter, 6, 3, wino_g[r][k])\n",
"WINO_SANDWICH(wino_filter_grad, 3, 6, wino_g[k][r])\n",
"\n",
"/* Pixel (0, 0) of tile t: column, row, image. */\n",
"static inline int3 wino_at(int t, int2 HW)\n",
"{\n",
"    const int2 grid = (HW + 3) / 4;\n",
"    return (int3)(t % grid.x * 4, t / grid.x % grid.y * 4, t / (grid.x * grid.y));\n",
"}\n",
"\n",
"/* Where value e of the filters' block (og of o16, ib of i8) lies in U and dU. */\n",
"static inline size_t wino_filter_at(int og, int o16, int ib, int i8, int e, int plain)\n",
"{\n",
"    return plain ? (ib * 8 + e / 16) * ((size_t)o16 * 16) + og * 16 + e % 16\n",
"                 : ((size_t)og * i8 + ib) * 128 + e;\n",
"}\n",
"\n",
"/* Transformed filters; transpose swaps inputs and outputs and turns the filters by 180 degrees,\n",
" * which is what the input gradient needs. */\n",
"OSR_KERNEL wino_pack(__global const float *restrict w, int woff, __global float *restrict out,\n",
"                     int ooff, int O, int I, int transpose, int OP,\n",
"                     int plain)\n",
"{\n",
"    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);\n",
"    const int e = (int)get_group_id(2) * LS + (int)get_local_id(0);\n",
"    const int co = transpose ? I : O, ci = transpose ? O : I, i8 = (ci + 7) / 8;\n",
"    const int o = og * 16 + e % 16, i = ib * 8 + e / 16;\n",
"    const size_t at = woff + (size_t)(transpose ? i : o) * I * 9 + (transpose ? o : i) * 9;\n",
"    __global float *p = out + ooff + wino_filter_at(og, OP / 16, ib, i8, e, plain);\n",
"    float d[6][6];\n",
"\n",
"    WINO_UNROLL for (int k = 0; k < 9; ++k) d[k / 3][k % 3] =\n",
"        i < ci && o < co ? w[at + (transpose ? 8 - k : k)] : 0.0f;\n",
"    wino_filter(d);\n",
"    WINO_UNROLL for (int k = 0; k < 36; ++k) p[(size_t)k * OP * i8 * 8] = d[k / 6][k % 6];\n",
"}\n",
"\n",
"/* Tiles t0 .. t0 + live - 1 of x (with grad: of dy) to v, then zeros up to P T tiles. Rows and\n",
" * columns beyond H and W are read from the halo. */\n",
"OSR_KERNEL wino_tiles(__global const float *restrict x, int4 xl, __global float *restrict v,\n",
"                      int2 HW, int t0, int live, int P, int T, int grad, int2 step)\n",
"{\n",
"    const int e = (int)get_global_id(0), t = e / 8, cb = (int)get_group_id(1);\n",
"    const int3 w = wino_at(t0 + min(t, live - 1), HW);\n",
"    __global const float *p = x + (size_t)w.z * xl.w + xl.x + cb * xl.z + e % 8;\n",
"    const size_t each = (size_t)get_num_groups(1) * T * 8;\n",
"    float d[6][6];\n",
"\n",
"    if (t >= P * T)\n",
"        return;\n",
"    v += t / T * each + (size_t)cb * step.x + (size_t)(t % T) * step.y + e % 8;\n",
"    WINO_UNROLL for (int i = 0; i < 6; ++i) WINO_UNROLL for (int j = 0; j < 6; ++j)\n",
"    {\n",
"        const int r = min(w.y + i - !grad, HW.y), c = min(w.x + j - !grad, HW.x);\n",
"        d[i][j] = t < live && (!grad || (i < 4 && j < 4)) ? p[r * xl.y + c * 8] : 0.0f;\n",
"    }\n",
"    if (grad)\n",
"        wino_grad(d);\n",
"    else\n",
"        wino_input(d);\n",
"    WINO_UNROLL for (int k = 0; k < 36; ++k) v[k * P * each] = d[k / 6][k % 6];\n",
"}\n",
"\n",
"/* y of T tiles from tile t0 on from their products m, with what follows (see conv_after). */\n",
"OSR_KERNEL wino_output(__global const float *restrict m, __global float *restrict y, int4 yl,\n",
"                       int OC, int2 HW, int t0, int T, __global const float *restrict coef,\n",
"                       int after, float slope, int2 step)\n",
"{\n",
"    const int e = (int)get_global_id(0), ob = (int)get_group_id(1), o = ob * 8 + e % 8;\n",
"    const int OB = (int)get_num_groups(1);\n",
"    const int3 w = wino_at(t0 + e / 8, HW);\n",
"    __global float *p = y + image_at(yl, w.z, ob, w.y, w.x) + e % 8;\n",
"    float d[6][6];\n",
"\n",
"    if (e >= T * 8)\n",
"        return;\n",
"    m += (size_t)ob * step.x + (size_t)(e / 8) * step.y + e % 8;\n",
"    WINO_UNROLL for (int k = 0; k < 36; ++k) d[k / 6][k % 6] = m[(size_t)k * OB * T * 8];\n",
"    wino_result(d);\n",
"    WINO_UNROLL for (int i = 0; i < 4; ++i) WINO_UNROLL for (int j = 0; j < 4; ++j)\n",
"    {\n",
"        float r = after == 2 ? d[i][j] * coef[o] + coef[OB * 8 + o] : d[i][j];\n",
"        r = after == 0 || r > 0.0f ? r : r * slope;\n",
"        if (w.y + i < HW.y && w.x + j < HW.x)\n",
"            p[i * yl.y + j * 8] = o < OC ? r : 0.0f;\n",
"    }\n",
"}\n",
"\n",
"/* dw [O][C][3][3] at dwoff (+)= G' (sum of the P parts of dU) G; accumulate 0 overwrites. */\n",
"OSR_KERNEL wino_wgrad_filter(__global const float *restrict du, __global float *restrict dw,\n",
"                             int dwoff, int C, int O, int P, int accumulate, int plain)\n",
"{\n",
"    const int og = (int)get_group_id(0), ib = (int)get_group_id(1);\n",
"    const int e = (int)get_group_id(2) * LS + (int)get_local_id(0);\n",
"    const size_t each = (size_t)get_num_groups(0) * get_num_groups(1) * 128;\n",
"    const int i = ib * 8 + e / 16, o = og * 16 + e % 16;\n",
"    __global float *p = dw + dwoff + ((size_t)o * C + i) * 9;\n",
"    float d[6][6];\n",
"\n",
"    du += wino_filter_at(og, (int)get_num_groups(0), ib, (int)get_num_groups(1), e, plain);\n",
"    WINO_UNROLL for (int k = 0; k < 36; ++k)\n",
"    {\n",
"        d[k / 6][k % 6] = 0.0f;\n",
"        for (int part = 0; part < P; ++part)\n",
"            d[k / 6][k % 6] += du[(k * P + part) * each];\n",
"    }\n",
"    wino_filter_grad(d);\n",
"    if (i < C && o < O)\n",
"        for (int k = 0; k < 9; ++k)\n",
"            p[k] = accumulate ? p[k] + d[k / 3][k % 3] : d[k / 3][k % 3];\n",
"}\n",
};
static const osr__cl_file osr__cl_files[] = {
    {"common", osr__cl_common, 275},
    {"augment", osr__cl_augment, 343},
    {"conv_cpu", osr__cl_conv_cpu, 459},
    {"conv_gpu", osr__cl_conv_gpu, 385},
    {"element", osr__cl_element, 137},
    {"jacobian", osr__cl_jacobian, 83},
    {"layout", osr__cl_layout, 53},
    {"loss", osr__cl_loss, 217},
    {"matmul_cpu", osr__cl_matmul_cpu, 216},
    {"matmul_gpu", osr__cl_matmul_gpu, 193},
    {"norm", osr__cl_norm, 285},
    {"optimiser", osr__cl_optimiser, 45},
    {"peak", osr__cl_peak, 36},
    {"pool", osr__cl_pool, 85},
    {"rows", osr__cl_rows, 202},
    {"winograd_cpu", osr__cl_winograd_cpu, 1019},
    {"winograd_gpu", osr__cl_winograd_gpu, 164},
};
static const unsigned osr__cl_file_count = 17;
/* <<< kernels */

static const osr__cl_file *osr__cl_find(const char *name)
{
    unsigned i;
    for (i = 0; i < osr__cl_file_count; ++i)
        if (strcmp(osr__cl_files[i].name, name) == 0)
            return &osr__cl_files[i];
    return NULL;
}

#ifdef __cplusplus
}
#endif
#endif /* OSR_IMPLEMENTATION */

/* MIT License
 *
 * Copyright (c) 2026 the osr authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software
 * and associated documentation files (the "Software"), to deal in the Software without
 * restriction, including without limitation the rights to use, copy, modify, merge, publish,
 * distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
 * Software is furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or
 * substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
 * BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
