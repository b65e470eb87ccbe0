/* cmd_train.c - osr train: from a data set to a model that says "unknown".
 *
 * A run's directory holds config.ini (the effective settings), metrics.jsonl (a line an epoch),
 * last.safetensors (weights, optimiser, place in the epoch: resumable), model.safetensors (the
 * result: calibrated, with its threshold), eval.json, scores.csv and confusion.csv; with --analyse
 * also analysis.jsonl (Jacobian norms, AUROC and more every N steps), analysis.csv and
 * analysis.svg. */
#define _POSIX_C_SOURCE 200809L
#include "analysis.h"
#include "augment.h"
#include "evaluation.h"
#include "exit_codes.h"
#include "networks.h"
#include "output.h"
#include "progress.h"
#include "recipes.h"
#include "run_dir.h"
#include "schedule.h"
#include "signals.h"
#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The lowest validation loss before any: above all, and finite as every value in a file is. */
#define NOT_YET 1e30

/* Where training is; all of it is in a checkpoint. */
struct place {
    uint64_t epoch, batch, step;     /* the next batch of the epoch, steps done in all */
    double loss, correct, images;    /* sums over the epoch so far */
    double best;                     /* lowest validation loss */
};

struct train {
    struct options *o;
    const struct train_caller *caller; /* NULL: osr train itself */
    struct run_dir run;
    int resumed;
    osr_ctx *ctx;
    osr_model *model;
    const osr_method_row *method;
    const osr_network_row *network;
    struct data data;
    struct data_set other; /* test images of the unknown classes, with --unknown */
    struct class_split split;
    struct subset known, train, validation;
    struct origin origin;
    struct feed feed;
    osr_images *images;       /* the training set, on the device where it fits */
    osr_augment_desc augment;
    uint32_t *order, *picked; /* [train.count], of a batch: in the data set */
    int batch;
    struct place at;
    struct schedule schedule;
    osr_optimiser_desc optimiser;
    int save_failed; /* exit code of the last checkpoint that could not be written */
    struct analysed analysed; /* of --analyse */
    struct moments moments;
};

static int complain(const char *message, int code)
{
    message_error("%s", message);
    return code;
}

/* ---- settings ---- */

/* A default that is a float of the library, without the digits that a float does not have. */
static void preset_float(struct options *o, const char *key, float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    option_preset(o, key, text);
}

static void preset_method(struct options *o, const osr_method_row *m,
                          const osr_network_row *network)
{
    static const char *const schedules[] = {"constant", "step", "cosine"};
    const osr_method_numbers *n = &m->numbers;
    const osr_recipe *r = &m->recipe;
    const osr_vgg32_desc *v = &m->vgg32;
    preset_float(o, "lr", r->lr);
    preset_float(o, "momentum", r->momentum);
    preset_float(o, "weight-decay", r->weight_decay);
    option_preset(o, "optimiser", "sgd");
    option_preset(o, "decay", "coupled");
    option_preset(o, "schedule", schedules[r->schedule]);
    option_preset_int(o, "warmup-steps", r->warmup);
    option_preset_int(o, "restarts", 0);
    option_preset_real(o, "lr-min", option_choice(o, "schedule") < SCHEDULE_VAZE
                                        ? 0.0 : 0.001 * option_real(o, "lr"));
    option_preset_real(o, "second-lr", 0.1 * option_real(o, "lr"));
    option_preset_real(o, "lr-factor", 0.1);
    option_preset_int(o, "lr-period", 30);
    preset_float(o, "dropout", network->residual ? 0.0f : v->dropout);
    option_preset(o, "dropout-kind", v->dropout_elements ? "element" : "channel");
    if (!network->residual)
        option_preset(o, "dropout-place", v->dropout_before ? "before" : "after");
    if (n->alpha > 0.0f)
        preset_float(o, "alpha", n->alpha);
    if (n->lambda > 0.0f)
        preset_float(o, "lambda", n->lambda);
    if (n->temperature > 0.0f) {
        preset_float(o, "temperature", n->temperature);
        preset_float(o, "margin", n->margin);
    }
    if (n->features > 0) {
        option_preset_int(o, "features", n->features);
        preset_float(o, "radius", n->radius);
        option_preset(o, "correlation", n->correlation == OSR_CORRELATION_CODE ? "code" : "paper");
    }
    preset_float(o, "smoothing", n->smoothing);
    preset_float(o, "rotation", n->rotation);
    option_preset(o, "score", m->score);
}

static int choose_method(struct train *t)
{
    osr_vgg32_desc v;
    t->method = method_choose(t->o);
    t->network = t->method != NULL ? network_choose(t->o) : NULL;
    if (t->network == NULL)
        return EXIT_USAGE;
    if (t->network->residual && option_given(t->o, "dropout-place")) {
        message_error("%s drops values inside its blocks: --dropout-place is for vgg32",
                      t->network->name);
        return EXIT_USAGE;
    }
    preset_method(t->o, t->method, t->network);
    return network_variant(t->o, t->network, t->method, 1, 32, &v); /* sizes come with the data */
}

/* --epochs and --iterations both, where one does not go before the other. */
static int check_length(const struct options *o)
{
    const enum option_source a = option_source(o, "epochs"), b = option_source(o, "iterations");
    if (option_int(o, "iterations") == 0 || a != b || a <= SOURCE_FILE)
        return EXIT_OK;
    message_error("--epochs and --iterations exclude each other");
    return EXIT_USAGE;
}

/* Is the score one of those that the method's models can be read with? */
static int check_score(const struct train *t)
{
    const char *name = option_text(t->o, "score");
    const osr_score_row *row = osr_score_find(name);
    const char *lacks = row != NULL ? osr_score_lacks(row, t->method->outputs) : NULL;
    if (row == NULL)
        message_error("no score is called \"%s\"", name);
    else if (lacks != NULL)
        message_error("score %s needs %s, which method %s does not give", name, lacks,
                      t->method->name);
    return row == NULL || lacks != NULL ? EXIT_USAGE : EXIT_OK;
}

/* Label smoothing is of cross-entropies, as all losses from the centre loss on are. */
static int check_smoothing(const struct train *t)
{
    const osr_loss_kind loss = t->method->loss;
    if (!(option_real(t->o, "smoothing") > 0.0) || loss == OSR_LOSS_CE || loss >= OSR_LOSS_CENTER)
        return EXIT_OK;
    message_error("%s: label smoothing %s; it is for cross-entropies", t->method->name,
                  option_text(t->o, "smoothing"));
    return EXIT_USAGE;
}

static int choose_augmentation(struct train *t)
{
    char message[512];
    const int code =
        augment_parse(option_text(t->o, "augment"), &t->augment, message, sizeof message);
    return code == EXIT_OK ? code : complain(message, code);
}

/* All that needs no data. */
static int settle(struct train *t)
{
    const char *list;
    int code = recipe_list(t->o, &list);
    if (code == EXIT_OK)
        code = recipe_apply(t->o);
    if (code != EXIT_OK)
        return complain(t->o->message, code);
    code = check_length(t->o);
    if (code == EXIT_OK)
        code = choose_method(t);
    if (code == EXIT_OK)
        code = check_score(t);
    if (code == EXIT_OK)
        code = check_smoothing(t);
    return code == EXIT_OK ? choose_augmentation(t) : code;
}

static osr_method_numbers numbers_of(const struct train *t)
{
    const struct options *o = t->o;
    osr_method_numbers n = t->method->numbers;
    n.alpha = (float)option_real(o, "alpha");
    n.lambda = (float)option_real(o, "lambda");
    n.radius = (float)option_real(o, "radius");
    n.temperature = (float)option_real(o, "temperature");
    n.margin = (float)option_real(o, "margin");
    n.smoothing = (float)option_real(o, "smoothing");
    n.rotation = (float)option_real(o, "rotation");
    n.features = (int)option_int(o, "features");
    if (option_set(o, "correlation"))
        n.correlation = (int)option_choice(o, "correlation");
    return n;
}

/* ---- data ---- */

static int choose_classes(struct train *t, char *message, size_t size)
{
    const struct options *o = t->o;
    static const char *const families[] = {"neal", "arpl"};
    const struct data_set *set = &t->data.train;
    const char *name;
    if (option_given(o, "known"))
        return split_parse(option_text(o, "known"), set, &t->split, message, size);
    if (!option_given(o, "split"))
        return split_default(set, &t->split, message, size);
    if (recipe_list(t->o, &name) != EXIT_OK) /* settle has refused that */
        return snprintf(message, size, "%s", o->message), EXIT_USAGE;
    if (!option_given(o, "split-set") && split_guess_set(set) == NULL) {
        snprintf(message, size, "%.800s has %d classes, not those of %s: name a list with "
                 "--split-set", set->spec, set->class_count, name);
        return EXIT_USAGE;
    }
    t->origin.trial = (long)option_int(o, "trial");
    return split_published(families[option_choice(o, "split")], name, (int)option_int(o, "trial"),
                           &t->split, message, size);
}

/* The set of --unknown, whose classes become the unknown ones of the split. */
static int open_unknown(struct train *t, char *message, size_t size)
{
    const char *spec = option_text(t->o, "unknown");
    int code = EXIT_OK;
    if (spec != NULL) {
        const int channels = (int)option_int(t->o, "channels");
        snprintf(t->origin.unknown, sizeof t->origin.unknown, "%s", spec);
        code = data_open_unknown(spec, (uint64_t)t->origin.seed, (int)option_int(t->o, "size"),
                                 channels > 0 ? channels : t->data.train.channels, &t->other,
                                 message, size);
    }
    return code != EXIT_OK
               ? code
               : split_take_unknown(&t->split, spec != NULL ? &t->other : NULL, message, size);
}

static int open_data(struct train *t)
{
    const struct options *o = t->o;
    char message[1024] = "";
    const uint64_t seed = (uint64_t)option_int(o, "seed");
    t->origin.trial = -1;
    t->origin.seed = (long)seed;
    t->origin.balanced = option_choice(o, "test-set") == 1;
    snprintf(t->origin.data, sizeof t->origin.data, "%s", option_text(o, "data"));
    int code = data_open(t->origin.data, seed, (int)option_int(o, "size"),
                         (int)option_int(o, "channels"), &t->data, message, sizeof message);
    if (code == EXIT_OK)
        code = choose_classes(t, message, sizeof message);
    if (code == EXIT_OK)
        code = split_check(&t->split, &t->data.train, message, sizeof message);
    if (code == EXIT_OK)
        code = open_unknown(t, message, sizeof message);
    if (code == EXIT_OK)
        code = subset_known(&t->data.train, &t->split, &t->known, message, sizeof message);
    if (code == EXIT_OK)
        code = subset_divide(&t->known, t->split.known_count, option_real(o, "val"), seed,
                             &t->train, &t->validation, message, sizeof message);
    if (code != EXIT_OK)
        return complain(message, code);
    snprintf(t->origin.split, sizeof t->origin.split, "%s", t->split.name);
    t->order = malloc((t->train.count + 1) * sizeof *t->order);
    t->picked = malloc((size_t)option_int(o, "batch") * sizeof *t->picked);
    if (t->order == NULL || t->picked == NULL)
        return complain("out of memory", EXIT_MEMORY);
    if (t->validation.count == 0)
        message_warning("--val 0: the threshold will come from the training images");
    message_note("%s, %s: %d known classes, %zu training and %zu validation images, seed %ld",
                 t->origin.data, t->origin.split, t->split.known_count, t->train.count,
                 t->validation.count, t->origin.seed);
    return EXIT_OK;
}

/* The training set to the device. */
static int place_images(struct train *t)
{
    const struct data_set *set = &t->data.train;
    osr_images_desc d = {0};
    t->augment.height = t->augment.width = (int)option_int(t->o, "size");
    t->augment.channels = (int)option_int(t->o, "channels");
    d.pixels = set->pixels;
    d.count = set->count;
    d.height = set->height;
    d.width = set->width;
    d.channels = set->channels;
    return osr_images_create(t->ctx, &d, &t->images) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

/* ---- model ---- */

/* --mean and --std, or those of the training images. */
static int normalisation(const struct train *t, int channels, float *mean, float *std)
{
    double own_mean[3], own_std[3];
    int code = EXIT_OK;
    data_moments(&t->data.train, t->train.index, t->train.count, channels, own_mean, own_std);
    for (int c = 0; c < channels; ++c) {
        mean[c] = (float)own_mean[c];
        std[c] = (float)(own_std[c] > 0.01 ? own_std[c] : 0.01);
    }
    if (option_set(t->o, "mean"))
        code = channel_numbers(t->o, "mean", channels, mean);
    if (code == EXIT_OK && option_set(t->o, "std"))
        code = channel_numbers(t->o, "std", channels, std);
    for (int c = 0; c < channels && code == EXIT_OK; ++c)
        if (!(std[c] > 0.0f))
            code = complain("--std: what pixels are divided by has to be above 0", EXIT_USAGE);
    return code;
}

static int make_model(struct train *t)
{
    const struct options *o = t->o;
    const char *names[4096];
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc v;
    osr_model_desc d = {0};
    d.method = t->method;
    d.numbers = numbers_of(t);
    d.classes = t->split.known_count;
    d.channels = (int)option_int(o, "channels");
    d.height = d.width = (int)option_int(o, "size");
    for (int k = 0; k < d.classes && k < 4096; ++k)
        names[k] = t->data.train.class_names[t->split.known[k]];
    d.class_names = names;
    int code = network_variant(o, t->network, t->method,
                               osr_method_width(t->method, &d.numbers, d.classes), d.height, &v);
    if (code != EXIT_OK)
        return code;
    v.dropout = (float)option_real(o, "dropout");
    v.dropout_elements = option_choice(o, "dropout-kind") == 0;
    v.dropout_before = option_choice(o, "dropout-place") == 0;
    d.layer_count = t->network->table(&v, layers);
    d.layers = layers;
    d.net_name = t->network->name;
    d.score = option_text(o, "score");
    code = normalisation(t, d.channels, d.mean, d.std);
    if (code != EXIT_OK)
        return code;
    return osr_model_create(t->ctx, &d, &t->model) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

/* Weights of a model file into the new model: names and shapes must agree. */
static int init_from(struct train *t, const char *path)
{
    struct origin origin;
    osr_model *from = NULL;
    int n, m, code = session_model(t->ctx, path, &from, &origin);
    if (code != EXIT_OK)
        return code;
    const osr_named *a = osr_model_tensors(t->model, &n), *b = osr_model_tensors(from, &m);
    for (int i = 0; i < n && code == EXIT_OK; ++i) {
        const size_t count = osr_shape_count(osr_shape_of(t->ctx, a[i].tensor));
        float *v = malloc(count * sizeof *v);
        if (i >= m || strcmp(a[i].name, b[i].name) != 0
            || osr_shape_count(osr_shape_of(t->ctx, b[i].tensor)) != count) {
            message_error("%s: its tensor %s does not fit this network", path,
                          i < m ? b[i].name : "(none)");
            code = EXIT_DATA;
        } else if (v == NULL) {
            code = complain("out of memory", EXIT_MEMORY);
        } else if (osr_read(t->ctx, b[i].tensor, v, count) != OSR_OK
                   || osr_write(t->ctx, a[i].tensor, v, count) != OSR_OK) {
            code = session_fail(t->ctx);
        }
        free(v);
    }
    osr_model_destroy(from);
    return code;
}

/* ---- checkpoints ---- */

static int save_checkpoint(struct train *t)
{
    const uint64_t counters[3] = {t->at.epoch, t->at.batch, t->at.step}, three = 3, four = 4;
    const double sums[4] = {t->at.loss, t->at.correct, t->at.images, t->at.best};
    char path[1200];
    osr_writer *w = NULL;
    signals_shield(1);
    if (osr_writer_create(t->ctx, &w) == OSR_OK && osr_model_write(t->model, w, 1) == OSR_OK
        && origin_write(&t->origin, w) == EXIT_OK
        && osr_writer_tensor(w, "state.counters", OSR_DTYPE_U64, 1, &three, counters) == OSR_OK
        && osr_writer_tensor(w, "state.sums", OSR_DTYPE_F64, 1, &four, sums) == OSR_OK)
        osr_writer_save(w, run_file(&t->run, "last.safetensors", path, sizeof path));
    osr_writer_destroy(w);
    signals_shield(0);
    if (osr_ctx_status(t->ctx) == OSR_IO) { /* training goes on; the next epoch tries again */
        t->save_failed = session_fail(t->ctx);
        osr_ctx_clear_error(t->ctx);
        return EXIT_OK;
    }
    return osr_ctx_status(t->ctx) == OSR_OK ? EXIT_OK : session_fail(t->ctx);
}

static int load_checkpoint(struct train *t)
{
    char path[1200];
    uint64_t counters[3];
    double sums[4];
    osr_file *file = NULL;
    run_file(&t->run, "last.safetensors", path, sizeof path);
    if (osr_file_open(t->ctx, path, NULL, &file) == OSR_OK
        && osr_model_read(t->ctx, file, &t->model) == OSR_OK
        && osr_model_read_moments(t->model, file) == OSR_OK
        && osr_file_read_raw(file, "state.counters", OSR_DTYPE_U64, 3, counters) == OSR_OK
        && osr_file_read_raw(file, "state.sums", OSR_DTYPE_F64, 4, sums) == OSR_OK) {
        t->at.epoch = counters[0];
        t->at.batch = counters[1];
        t->at.step = counters[2];
        t->at.loss = sums[0];
        t->at.correct = sums[1];
        t->at.images = sums[2];
        t->at.best = sums[3];
    }
    osr_file_close(file);
    if (osr_ctx_status(t->ctx) == OSR_OK)
        return EXIT_OK;
    const int code = session_fail(t->ctx);
    return code == EXIT_IO ? EXIT_DATA : code;
}

/* After the epoch with the lowest validation loss so far. */
static int save_best(struct train *t, double loss)
{
    char path[1200];
    int code = session_save(t->model, &t->origin,
                            run_file(&t->run, "best.safetensors", path, sizeof path));
    if (code == EXIT_IO) { /* as for a checkpoint; the next better epoch tries again */
        t->save_failed = code;
        osr_ctx_clear_error(t->ctx);
        return EXIT_OK;
    }
    t->at.best = loss;
    return code;
}

static int write_config(struct train *t)
{
    char comment[2048], device[512];
    snprintf(comment, sizeof comment, "osr %s\ndevice: %s\nrerun: osr train --config THIS FILE",
             osr_version(), device_text(t->ctx, device, sizeof device));
    char *text = options_write(t->o, comment);
    if (text == NULL)
        return complain(t->o->message, EXIT_USAGE);
    const int code = run_write(&t->run, "config.ini", text, strlen(text));
    free(text);
    return code == EXIT_OK ? code : complain(t->run.message, code);
}

/* The context. A resumed run takes the choices of convolutions that it began with. */
static int open_context(struct train *t)
{
    char path[1200], message[1400];
    size_t size;
    if (!t->resumed || option_choice(t->o, "tuned") == 0)
        return session_open(t->o, &t->ctx);
    run_file(&t->run, "tuning.txt", path, sizeof path);
    char *text = file_read(path, 1 << 20, &size, message, sizeof message);
    if (text == NULL)
        return complain(message, EXIT_DATA);
    const int code = session_open_tuned(t->o, text, &t->ctx);
    free(text);
    return code;
}

static int write_tuning(struct train *t)
{
    const char *text = osr_ctx_tuning(t->ctx);
    if (option_choice(t->o, "tuned") == 0)
        return EXIT_OK;
    const int code = run_write(&t->run, "tuning.txt", text, strlen(text));
    return code == EXIT_OK ? code : complain(t->run.message, code);
}

/* ---- training ---- */

static uint64_t batches_of(const struct train *t)
{
    return (t->train.count + (size_t)t->batch - 1) / (size_t)t->batch;
}

static void plan_steps(struct train *t)
{
    const struct options *o = t->o;
    schedule_plan(&t->schedule, o, batches_of(t));
    t->optimiser.kind = (osr_optimiser_kind)option_choice(o, "optimiser");
    t->optimiser.momentum = (float)option_real(o, "momentum");
    t->optimiser.weight_decay = (float)option_real(o, "weight-decay");
    t->optimiser.decoupled = option_choice(o, "decay") == 1;
    if (t->optimiser.kind == OSR_ADAM)
        t->optimiser.beta1 = t->optimiser.momentum;
}

static int diverged(const struct train *t)
{
    message_error("training diverged at step %llu; the last good checkpoint is kept (a lower --lr "
                  "may help)",
                  (unsigned long long)t->at.step);
    return EXIT_DIVERGED;
}

/* One batch; leaves the sums of the epoch up to date. */
static int train_batch(struct train *t)
{
    const size_t first = (size_t)t->at.batch * (size_t)t->batch, left = t->train.count - first;
    const int n = left < (size_t)t->batch ? (int)left : t->batch;
    osr_tensor images;
    float loss, correct;
    for (int i = 0; i < n; ++i) {
        const uint32_t at = t->order[first + (size_t)i];
        t->picked[i] = t->train.index[at];
        t->feed.labels[i] = t->train.label[at];
    }
    t->optimiser.lr = (float)schedule_rate(&t->schedule, t->at.step);
    t->optimiser.step = (uint32_t)(t->at.step - schedule_stage(&t->schedule, t->at.step)) + 1;
    osr_ctx_set_step(t->ctx, (uint32_t)t->at.step);
    images = osr_augment(t->ctx, t->images, t->picked, n, &t->augment);
    if (osr_model_train_on(t->model, images, t->feed.labels, &t->optimiser, &loss, &correct)
        != OSR_OK)
        return session_fail(t->ctx);
    if (!isfinite(loss))
        return diverged(t);
    t->at.loss += (double)loss * n;
    t->at.correct += (double)correct;
    t->at.images += n;
    t->at.batch++;
    t->at.step++;
    return EXIT_OK;
}

/* Loss and accuracy on the validation images; NaN without any. */
static int validate(struct train *t, double *loss, double *accuracy)
{
    struct outputs out = {0};
    *loss = *accuracy = NAN;
    if (t->validation.count == 0)
        return EXIT_OK;
    int32_t *classes = malloc(t->validation.count * sizeof *classes);
    int code = outputs_compute(t->model, &t->data.train, &t->validation, t->batch, 0, "validate",
                               &out);
    if (code == EXIT_OK && classes == NULL)
        code = complain("out of memory", EXIT_MEMORY);
    if (code == EXIT_OK)
        code = outputs_score(t->model, &out, NULL, NULL, classes);
    if (code == EXIT_OK) {
        *loss = out.loss;
        *accuracy = accuracy_of(classes, &t->validation);
    }
    outputs_free(&out);
    free(classes);
    return code;
}

static int epoch_line(struct train *t, double val_loss, double val_accuracy, double rate)
{
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_integer(&j, "epoch", (int64_t)t->at.epoch + 1);
    json_integer(&j, "step", (int64_t)t->at.step);
    json_real(&j, "lr", (double)t->optimiser.lr);
    json_real(&j, "loss", t->at.loss / t->at.images);
    json_real(&j, "accuracy", t->at.correct / t->at.images);
    json_real(&j, "val_loss", val_loss);
    json_real(&j, "val_accuracy", val_accuracy);
    json_real(&j, "images_per_s", rate);
    json_close(&j, '}');
    int code = j.failed ? EXIT_MEMORY : run_append(&t->run, "metrics.jsonl", j.text);
    json_free(&j);
    if (code != EXIT_OK)
        message_error("%s", t->run.message);
    return code == EXIT_IO ? EXIT_OK : code; /* a full disk must not end the training */
}

/* On a signal: a checkpoint, and how to go on. */
static int stop(struct train *t)
{
    status_line_end();
    t->save_failed = EXIT_OK;
    const int code = save_checkpoint(t);
    if (code == EXIT_OK && t->save_failed == EXIT_OK)
        message_note("stopped at epoch %llu, batch %llu%s%s", (unsigned long long)t->at.epoch + 1,
                     (unsigned long long)t->at.batch,
                     t->caller == NULL ? "; go on with: osr train --resume " : "",
                     t->caller == NULL ? t->run.path : "");
    return code != EXIT_OK ? code : signals_pending();
}

/* The model of best.safetensors in place of the present one, its moments at zero. */
static int take_best(struct train *t)
{
    struct origin origin;
    char path[1200];
    osr_model_destroy(t->model);
    t->model = NULL;
    const int code = session_model(
        t->ctx, run_file(&t->run, "best.safetensors", path, sizeof path), &t->model, &origin);
    t->feed.model = t->model;
    return code;
}

/* The second stage goes on from the best weights, and looks for the best ones anew. */
static int start_second_stage(struct train *t)
{
    int code = EXIT_OK;
    if (option_choice(t->o, "select") == 0 || t->validation.count == 0)
        code = save_best(t, 0.0);
    if (code == EXIT_OK)
        code = take_best(t);
    t->at.best = NOT_YET;
    message_note("second stage: learning rate %g", t->schedule.second_lr);
    return code;
}

static int end_epoch(struct train *t, struct progress *p)
{
    double loss, accuracy;
    char extra[96] = "";
    int code = validate(t, &loss, &accuracy);
    if (code != EXIT_OK)
        return code == signals_pending() ? stop(t) : code;
    if (isfinite(loss))
        snprintf(extra, sizeof extra, "val loss %.4f acc %.2f%%", loss, 100.0 * accuracy);
    progress_epoch(p, extra[0] != '\0' ? extra : NULL);
    code = epoch_line(t, loss, accuracy, progress_rate(p));
    t->save_failed = EXIT_OK;
    if (code == EXIT_OK && option_choice(t->o, "select") == 1 && loss < t->at.best)
        code = save_best(t, loss);
    t->at.epoch++;
    t->at.batch = 0;
    t->at.loss = t->at.correct = t->at.images = 0.0;
    if (code == EXIT_OK && t->schedule.second > 0 && t->at.epoch == t->schedule.second)
        code = start_second_stage(t);
    return code == EXIT_OK ? save_checkpoint(t) : code;
}

/* ---- the analysis along the way ---- */

/* --analyse: the images, and the moments before the checkpoint that a resumed run starts from. */
static int analyse_start(struct train *t)
{
    const struct options *o = t->o;
    osr_jacobian_desc *d = &t->analysed.jacobian;
    if (option_int(o, "analyse") == 0)
        return EXIT_OK;
    d->directions = (int)option_int(o, "analyse-probes");
    d->direction = d->directions > 0 ? OSR_RADEMACHER : OSR_COORDINATES;
    d->seed = (uint64_t)t->origin.seed;
    t->analysed.batch = t->batch;
    int code = analysed_choose(&t->analysed, &t->data.test,
                               t->other.count > 0 ? &t->other : &t->data.test, &t->split,
                               (size_t)option_int(o, "analyse-images"));
    if (code == EXIT_OK) {
        code = moments_resume(&t->run, (double)t->at.step, &t->moments);
        if (code != EXIT_OK)
            message_error("%s", t->run.message);
    }
    return code;
}

/* Measures where the training is, unless that is done: then nothing happens. Neither weights nor
 * random numbers change. */
static int analyse_now(struct train *t)
{
    const struct moments *all = &t->moments;
    struct moment m = {0};
    if (all->count > 0 && all->at[all->count - 1].step >= (double)t->at.step)
        return EXIT_OK;
    const size_t nk = t->analysed.known.count, nu = t->analysed.unknown.count;
    double *norms = malloc((nk + nu) * sizeof *norms);
    if (norms == NULL)
        return complain("out of memory", EXIT_MEMORY);
    m.step = (double)t->at.step;
    m.epoch = (double)t->at.step / (double)batches_of(t);
    int code = moment_compute(t->model, &t->analysed, norms, norms + nk, 0, &m);
    free(norms);
    if (code != EXIT_OK)
        return code;
    code = moments_add(&t->run, &t->moments, &m);
    if (code != EXIT_OK)
        message_error("%s", t->run.message);
    return code == EXIT_IO ? EXIT_OK : code; /* a full disk must not end the training */
}

/* Every N steps, counted from the start of the training. */
static int analyse_due(struct train *t)
{
    const uint64_t every = (uint64_t)option_int(t->o, "analyse");
    return every > 0 && t->at.step % every == 0 ? analyse_now(t) : EXIT_OK;
}

/* The last moment, the table and the picture. */
static int analyse_end(struct train *t)
{
    char title[1400];
    if (option_int(t->o, "analyse") == 0)
        return EXIT_OK;
    int code = analyse_now(t);
    if (code != EXIT_OK)
        return code;
    snprintf(title, sizeof title, "Training: %s, %.100s, %.1000s", t->method->name,
             t->origin.split, t->origin.data);
    code = moments_save(&t->moments, title, t->run.path, "analysis");
    if (code == EXIT_IO)
        t->save_failed = code;
    return code == EXIT_IO ? EXIT_OK : code;
}

static int run_epochs(struct train *t)
{
    const uint64_t epochs = t->schedule.epochs;
    struct progress p;
    progress_start(&p, "epoch", (int)t->at.epoch, (int)epochs, (long)batches_of(t));
    while (t->at.epoch < epochs) {
        const uint64_t batches = schedule_batches(&t->schedule, t->at.epoch);
        epoch_permutation((uint64_t)t->origin.seed, t->at.epoch, (uint32_t)t->train.count,
                          t->order);
        while (t->at.batch < batches) {
            const double before = t->at.images;
            int code = analyse_due(t);
            if (code != EXIT_OK && code == signals_pending())
                return stop(t);
            if (code == EXIT_OK)
                code = train_batch(t);
            if (code != EXIT_OK)
                return code;
            progress_step(&p, (int)t->at.epoch, (long)t->at.batch, t->at.images - before,
                          t->at.loss / t->at.images, t->at.correct / t->at.images);
            if (signals_pending() != 0)
                return stop(t);
        }
        const int code = end_epoch(t, &p);
        if (code != EXIT_OK)
            return code;
    }
    return EXIT_OK;
}

/* ---- after training ---- */

static int calibrate(struct train *t)
{
    int empty = 0;
    const int code = model_calibrate(t->model, &t->data.train, &t->train, t->batch,
                                     OSR_CALIBRATE_ALL, &empty);
    if (code != EXIT_OK)
        return code;
    if (empty > 0)
        message_warning("%d classes have no correctly classified training image: %sopenmax never "
                        "calls them unknown", empty,
                        t->method->calibrates ? "their anchors stay where they were, " : "");
    return threshold_choose(t->model, &t->data.train,
                            t->validation.count > 0 ? &t->validation : &t->train, t->batch,
                            osr_score_find(option_text(t->o, "score")),
                            option_real(t->o, "accept"));
}

static int write_text(struct train *t, const char *name, char *text)
{
    int code = EXIT_MEMORY;
    if (text == NULL)
        message_error("out of memory");
    else if ((code = run_write(&t->run, name, text, strlen(text))) != EXIT_OK)
        message_error("%s", t->run.message);
    free(text);
    return code;
}

static int evaluate(struct train *t)
{
    struct results r;
    const struct data_set *test = &t->data.test, *other = t->other.count > 0 ? &t->other : test;
    int code =
        results_compute(t->model, test, other, &t->split, t->batch, NULL, 0,
                        t->origin.balanced ? t->origin.seed : -1, &t->origin, &r);
    if (code == EXIT_OK)
        code = results_intervals(&r, (int)option_int(t->o, "bootstrap"), (uint64_t)t->origin.seed);
    if (code == EXIT_OK)
        code = write_text(t, "eval.json", results_json(&r, 1));
    if (code == EXIT_OK)
        code = write_text(t, "scores.csv", results_csv(&r));
    if (code == EXIT_OK && r.confusion.unknown > 0)
        code = write_text(t, "confusion.csv", confusion_csv(&r.confusion));
    if (code == EXIT_OK && t->caller != NULL) {
        code = t->caller->results(t->caller->user, &r);
    } else if (code == EXIT_OK && option_flag(t->o, "json")) {
        char *text = results_json(&r, 1);
        if (text != NULL)
            printf("%s\n", text);
        free(text);
    } else if (code == EXIT_OK) {
        code = results_table(&r);
        message_note("run: %s", t->run.path);
    }
    results_free(&r);
    return code;
}

static int finish(struct train *t)
{
    char path[1200];
    int code = EXIT_OK;
    if (option_choice(t->o, "select") == 1 && t->validation.count > 0)
        code = take_best(t);
    if (code == EXIT_OK)
        code = calibrate(t);
    if (code == EXIT_OK)
        code = session_save(t->model, &t->origin,
                            run_file(&t->run, "model.safetensors", path, sizeof path));
    return code == EXIT_OK ? evaluate(t) : code;
}

/* ---- the command ---- */

/* A new run's directory and settings, or those of the run to resume. */
static int open_run(struct train *t)
{
    const char *resume = option_text(t->o, "resume");
    char path[1200];
    int code;
    if (resume == NULL) {
        const char *out = option_text(t->o, "out");
        code = out == NULL ? EXIT_OK : run_untaken(&t->run, out);
        return code == EXIT_OK ? code : complain(t->run.message, code);
    }
    t->resumed = 1;
    code = run_open(&t->run, resume);
    if (code != EXIT_OK)
        return complain(t->run.message, code);
    code = options_resume(t->o, run_file(&t->run, "config.ini", path, sizeof path));
    return code == EXIT_OK ? code : complain(t->o->message, code);
}

static int start_new(struct train *t)
{
    int code = make_model(t);
    if (code == EXIT_OK && option_text(t->o, "init") != NULL)
        code = init_from(t, option_text(t->o, "init"));
    if (code != EXIT_OK)
        return code;
    code = run_create(&t->run, option_text(t->o, "out"), t->origin.data, t->method->name);
    if (code != EXIT_OK)
        return complain(t->run.message, code);
    t->at.best = NOT_YET;
    code = write_tuning(t);
    if (code == EXIT_OK)
        code = save_checkpoint(t); /* config.ini makes it a run, so that comes last */
    return code == EXIT_OK ? write_config(t) : code;
}

static int train(struct train *t)
{
    int code = open_run(t);
    if (code == EXIT_OK)
        code = settle(t);
    if (code == EXIT_OK && t->caller == NULL) /* a grid asks for all of its methods */
        code = method_flags(t->o, &t->method, 1);
    if (code == EXIT_OK && option_text(t->o, "recipe") != NULL)
        message_note("recipe %s for %s data (osr help recipes); config.ini has every value",
                     option_text(t->o, "recipe"), recipe_set(t->o));
    /* before a folder is read at that size, as eval does */
    option_preset_int(t->o, "size",
                      strncmp(option_text(t->o, "data"), "tinyimagenet:", 13) == 0 ? 64 : 32);
    if (code == EXIT_OK)
        code = open_data(t);
    if (code != EXIT_OK)
        return code;
    option_preset_int(t->o, "channels", t->data.train.channels);
    t->batch = (int)option_int(t->o, "batch");
    plan_steps(t);
    code = open_context(t);
    if (code == EXIT_OK)
        code = t->resumed ? load_checkpoint(t) : start_new(t);
    if (code == EXIT_OK)
        code = feed_start(&t->feed, t->model, &t->data.train, t->batch);
    if (code == EXIT_OK)
        code = place_images(t);
    if (code == EXIT_OK)
        code = analyse_start(t);
    if (code == EXIT_OK)
        code = run_epochs(t);
    if (code == EXIT_OK)
        code = analyse_end(t);
    if (code == EXIT_OK)
        code = finish(t);
    if (code == EXIT_DATA && osr_ctx_status(t->ctx) == OSR_NAN)
        code = diverged(t);
    if (code == EXIT_DEVICE && signals_pending() != 0) /* PoCL's compiler gives up on a signal */
        code = signals_pending();
    return code == EXIT_OK ? t->save_failed : code;
}

int train_run(struct options *o, const struct train_caller *caller)
{
    struct train t = {0};
    t.o = o;
    t.caller = caller;
    t.run.lock = -1;
    const int code = train(&t);
    status_line_end();
    feed_end(&t.feed);
    osr_images_destroy(t.images);
    osr_model_destroy(t.model);
    osr_ctx_destroy(t.ctx);
    run_close(&t.run);
    free(t.order);
    analysed_free(&t.analysed);
    moments_free(&t.moments);
    free(t.picked);
    subset_free(&t.known);
    subset_free(&t.train);
    subset_free(&t.validation);
    split_free(&t.split);
    data_set_free(&t.other);
    data_close(&t.data);
    return code;
}

int train_check(struct options *o)
{
    struct train t = {0};
    t.o = o;
    return settle(&t);
}

int cmd_train(struct options *o)
{
    signals_install();
    return train_run(o, NULL);
}
