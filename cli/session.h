/* session.h - what the commands share: the context, its errors as exit codes, models and runs. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "options.h"
#include "osr.h"

/* Opens the context that the options ask for (--device, --kernels; --seed, --algorithm,
 * --products, --tuned, --tuning, --tuning-out where the command has them). Prints the error. An
 * exit code. */
int session_open(const struct options *o, osr_ctx **ctx);

/* The same with desc.tuning as given, instead of what --tuned and --tuning say. */
int session_open_tuned(const struct options *o, const char *tuning, osr_ctx **ctx);

/* The context for a RUN or MODEL: with the choices of convolutions in the run's tuning.txt, where
 * it was trained with --tuned yes. */
int session_open_run(const struct options *o, const char *run_or_model, osr_ctx **ctx);

/* The exit code of a status. */
int status_exit(osr_status status);

/* Prints the context's error as one line; returns its exit code. */
int session_fail(const osr_ctx *ctx);

/* "pthread-skylake (Portable Computing Language, 3.1)" into text; returns text. */
char *device_text(const osr_ctx *ctx, char *text, size_t size);

/* What a model file says about its training; "" or -1 where it says nothing. */
struct origin {
    char data[1024], split[96];
    char unknown[1024]; /* the set of the unknown classes, "" where they are of data */
    long trial, seed;
    int balanced; /* test images: as many known as unknown */
};

enum { ORIGIN_TEXT = 2080 };

/* "DATA", or "DATA + UNKNOWN", into text [ORIGIN_TEXT]; returns text. */
char *origin_data(const struct origin *origin, char *text);

/* Loads the model of a RUN directory (its model.safetensors) or of a MODEL file. Prints the error.
 * An exit code. */
int session_model(osr_ctx *ctx, const char *run_or_model, osr_model **model,
                  struct origin *origin);

/* Adds the origin to what a writer will save. */
int origin_write(const struct origin *origin, osr_writer *writer);

/* Saves a model with its origin. Prints the error. An exit code. */
int session_save(osr_model *model, const struct origin *origin, const char *path);

/* osr inspect --png FILE: rows of a training image and what --augment makes of it. An exit code. */
int contact_sheet(struct options *o);

/* One function a command: cmd_train ... Each returns an exit code. */
typedef int command_function(struct options *o);
command_function cmd_devices, cmd_selftest, cmd_train, cmd_protocol, cmd_eval, cmd_calibrate,
    cmd_predict, cmd_jacobian, cmd_represent, cmd_bench, cmd_inspect, cmd_import, cmd_tune;

#endif
