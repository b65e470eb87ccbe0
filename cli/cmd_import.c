/* cmd_import.c - osr import: a model file from weights that another program trained.
 *
 * The weights come as safetensors, the network from the options, and a map says which tensor goes
 * where. A map is text; a line is "OURS = THEIRS", and what follows # is a comment:
 *
 *   conv1 = encoder.conv1           a layer: weight, bias, running_mean, running_var
 *   linear1.weight = classify.w     one tensor
 *   ignore = *.num_batches_tracked  tensors that osr has no use for; * is any text
 *
 * OURS counts the layers of each kind: conv1, conv2, ..., batchnorm1, ..., linear1; beside them a
 * cac or difair model has "anchors", which may be left out, and a movr model "prototypes". Every
 * tensor is fed once, with its own shape; every tensor of the file is used once or ignored. */
#define _POSIX_C_SOURCE 200809L
#include "exit_codes.h"
#include "networks.h"
#include "output.h"
#include "run_dir.h"
#include "session.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 256, MOST_MISTAKES = 20, MOST_CLASSES = 65536, MOST_MAP = 1 << 20 };

/* A tensor of the model and what feeds it. */
struct slot {
    char name[NAME]; /* as maps have it: "batchnorm3.running_var" */
    const osr_named *row;
    const osr_file_entry *from;
    int line; /* of the map, 0: none */
};

struct import {
    struct options *o;
    const char *weights, *map; /* paths */
    const osr_network_row *network;
    const osr_method_row *method;
    osr_ctx *ctx;
    osr_model *model;
    osr_file *file;
    struct slot *slot;
    int slot_count;
    int *used; /* by tensor of the file: the map's line that uses it, -1: ignored */
    char *class_text;
    const char **class_names; /* NULL: numbers */
    int classes, mistakes;
};

/* A mistake in the map or the weights: one line each, so that all can be mended at once. */
static void mistake(struct import *m, const char *format, ...) CLI_PRINTF(2, 3);

static void mistake(struct import *m, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (++m->mistakes <= MOST_MISTAKES)
        message_error("%s", text);
}

static int usage(const char *message)
{
    message_error("%s", message);
    return EXIT_USAGE;
}

static int no_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

/* ---- settings ---- */

/* Cuts text at each `mark` and keeps the pieces as class names. */
static int split_names(struct import *m, char mark)
{
    char *at = m->class_text;
    size_t count = 1;
    for (const char *p = at; *p != '\0'; ++p)
        count += *p == mark;
    if (count > MOST_CLASSES)
        return usage("--classes: too many");
    m->class_names = calloc(count, sizeof *m->class_names);
    if (m->class_names == NULL)
        return no_memory();
    for (size_t i = 0; i < count; ++i) {
        const size_t n = strcspn(at, (const char[]){mark, '\0'});
        m->class_names[i] = at;
        at[n] = '\0';
        if (n > 0 && at[n - 1] == '\r')
            at[n - 1] = '\0';
        if (at[0] == '\0' || strpbrk(at, "\r\n") != NULL)
            return usage("--classes: a name that is empty or has a line break");
        for (size_t k = 0; k < i; ++k)
            if (strcmp(m->class_names[k], m->class_names[i]) == 0) {
                message_error("--classes: \"%s\" twice", m->class_names[i]);
                return EXIT_USAGE;
            }
        at += n + 1;
    }
    m->classes = (int)count;
    return EXIT_OK;
}

/* "cat,dog", "@names.txt" with a name a line, or a number. */
static int read_classes(struct import *m)
{
    const char *text = option_text(m->o, "classes");
    int64_t number;
    size_t count = 0;
    char message[512];
    if (text == NULL || text[0] == '\0')
        return usage("import needs --classes: the known classes, in the order of the outputs");
    if (integer_parse(text, &number) == 0) {
        if (number < 1 || number > MOST_CLASSES)
            return usage("--classes: a number of classes is 1 to 65536");
        m->classes = (int)number;
        return EXIT_OK;
    }
    if (text[0] != '@') {
        m->class_text = malloc(strlen(text) + 1);
        if (m->class_text == NULL)
            return no_memory();
        strcpy(m->class_text, text);
        return split_names(m, ',');
    }
    m->class_text = file_read(text + 1, MOST_MAP, &count, message, sizeof message);
    if (m->class_text == NULL) {
        message_error("--classes %s", message);
        return EXIT_DATA;
    }
    while (count > 0 && isspace((unsigned char)m->class_text[count - 1]))
        m->class_text[--count] = '\0';
    return split_names(m, '\n');
}

/* "0.5,0.4,0.3", one number a channel. */
static int read_numbers(const struct options *o, const char *key, int channels, float *values)
{
    if (option_set(o, key))
        return channel_numbers(o, key, channels, values);
    message_error("import needs --%s: the %s of the pixels in 0..1 that the weights were "
                  "trained with, by channel", key, key);
    return EXIT_USAGE;
}

static void take_real(const struct options *o, const char *key, float *value)
{
    if (option_set(o, key))
        *value = (float)option_real(o, key);
}

static int make_model(struct import *m)
{
    const struct options *o = m->o;
    osr_layer layers[OSR_NETWORK_LAYERS];
    osr_vgg32_desc v;
    osr_model_desc d = {0};
    d.method = m->method;
    d.numbers = m->method->numbers;
    take_real(o, "alpha", &d.numbers.alpha);
    take_real(o, "temperature", &d.numbers.temperature);
    take_real(o, "margin", &d.numbers.margin);
    if (option_set(o, "features"))
        d.numbers.features = (int)option_int(o, "features");
    d.classes = m->classes;
    d.class_names = m->class_names;
    d.channels = (int)option_int(o, "channels");
    d.height = d.width = (int)option_int(o, "size");
    int code = read_numbers(o, "mean", d.channels, d.mean);
    if (code == EXIT_OK)
        code = read_numbers(o, "std", d.channels, d.std);
    if (code == EXIT_OK)
        code = network_variant(o, m->network, m->method,
                               osr_method_width(m->method, &d.numbers, d.classes), d.height, &v);
    if (code != EXIT_OK)
        return code;
    take_real(o, "eps", &v.eps);
    if (option_set(o, "padding"))
        v.pad_same = option_choice(o, "padding") == 1;
    d.layer_count = m->network->table(&v, layers);
    d.layers = layers;
    d.net_name = m->network->name;
    d.score = option_text(o, "score");
    return osr_model_create(m->ctx, &d, &m->model) == OSR_OK ? EXIT_OK : session_fail(m->ctx);
}

/* ---- the map ---- */

/* "12.conv.weight" as maps have it: "conv5.weight", the fifth of its kind. */
static void slot_name(const osr_model_desc *d, const char *name, char *text)
{
    char *kind = NULL;
    const long layer = strtol(name, &kind, 10);
    int nth = 0;
    if (kind == name || *kind != '.' || layer < 0 || layer >= d->layer_count) {
        snprintf(text, NAME, "%s", name); /* anchors, prototypes */
        return;
    }
    for (long i = 0; i <= layer; ++i)
        nth += d->layers[i].kind == d->layers[layer].kind;
    const char *what = strchr(++kind, '.');
    snprintf(text, NAME, "%.*s%d%s", (int)(what - kind), kind, nth, what);
}

static int make_slots(struct import *m)
{
    const osr_named *named = osr_model_tensors(m->model, &m->slot_count);
    m->slot = calloc((size_t)m->slot_count, sizeof *m->slot);
    m->used = calloc((size_t)osr_file_count(m->file) + 1, sizeof *m->used);
    if (m->slot == NULL || m->used == NULL)
        return no_memory();
    for (int i = 0; i < m->slot_count; ++i) {
        m->slot[i].row = &named[i];
        slot_name(osr_model_get_desc(m->model), named[i].name, m->slot[i].name);
    }
    return EXIT_OK;
}

/* The place of a tensor in the file, -1 for none. */
static int find_tensor(const struct import *m, const char *name)
{
    for (int i = 0; i < osr_file_count(m->file); ++i)
        if (strcmp(osr_file_tensor(m->file, i)->name, name) == 0)
            return i;
    return -1;
}

static void missing_tensor(struct import *m, int line, const char *name)
{
    const int count = osr_file_count(m->file);
    const char **names = calloc((size_t)count + 1, sizeof *names), *near = NULL;
    for (int i = 0; names != NULL && i < count; ++i)
        names[i] = osr_file_tensor(m->file, i)->name;
    if (names != NULL)
        near = nearest_name(name, names, (size_t)count);
    mistake(m, "%s:%d: %s has no tensor %s%s%s%s", m->map, line, m->weights, name,
            near != NULL ? "; did you mean " : "", near != NULL ? near : "",
            near != NULL ? "?" : "");
    free(names);
}

static void shape_text(const osr_file_entry *e, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < e->rank && at < size; ++i)
        at += (size_t)snprintf(text + at, size - at, i == 0 ? "%llu" : ", %llu",
                               (unsigned long long)e->shape[i]);
    if (at < size)
        snprintf(text + at, size - at, "]");
}

/* Type and shape as the slot wants them? */
static void check_tensor(struct import *m, int line, const struct slot *s, const osr_file_entry *e)
{
    const osr_shape want = osr_shape_of(m->ctx, s->row->tensor);
    osr_file_entry wanted = {0};
    char theirs[200], ours[200];
    int same = e->rank == want.rank;
    wanted.rank = want.rank;
    for (int i = 0; i < want.rank; ++i) {
        wanted.shape[i] = (uint64_t)want.dim[i];
        same = same && e->shape[i] == wanted.shape[i];
    }
    shape_text(e, theirs, sizeof theirs);
    shape_text(&wanted, ours, sizeof ours);
    if (!same)
        mistake(m, "%s:%d: %s is %s, but %s in %s is %s", m->map, line, s->name, ours, e->name,
                m->weights, theirs);
    else if (e->dtype != OSR_DTYPE_F32 && e->dtype != OSR_DTYPE_F16 && e->dtype != OSR_DTYPE_BF16
             && e->dtype != OSR_DTYPE_F64)
        mistake(m, "%s:%d: %s in %s has integers", m->map, line, e->name, m->weights);
}

static void feed_slot(struct import *m, int line, struct slot *s, const char *theirs)
{
    const int at = find_tensor(m, theirs);
    if (s->line != 0) {
        mistake(m, "%s:%d: %s is fed by line %d already", m->map, line, s->name, s->line);
        return;
    }
    s->line = line; /* so that a mistake here is not also "nothing feeds" */
    if (at < 0) {
        missing_tensor(m, line, theirs);
        return;
    }
    if (m->used[at] > 0) {
        mistake(m, "%s:%d: %s is used by line %d already", m->map, line, theirs, m->used[at]);
        return;
    }
    m->used[at] = line;
    s->from = osr_file_tensor(m->file, at);
    check_tensor(m, line, s, s->from);
}

/* One line: a tensor, or every tensor of a layer. */
static void map_pair(struct import *m, int line, const char *ours, const char *theirs)
{
    const char *prefix = option_text(m->o, "prefix");
    const size_t n = strlen(ours);
    char name[2 * NAME];
    int found = 0;
    for (int i = 0; i < m->slot_count; ++i) {
        struct slot *s = &m->slot[i];
        if (strncmp(s->name, ours, n) != 0 || (s->name[n] != '\0' && s->name[n] != '.'))
            continue;
        snprintf(name, sizeof name, "%s%s%s", prefix != NULL ? prefix : "", theirs, s->name + n);
        feed_slot(m, line, s, name);
        found = 1;
    }
    if (!found)
        mistake(m, "%s:%d: %s with method %s has no layer or tensor \"%s\"", m->map, line,
                m->network->name, m->method->name, ours);
}

static void map_ignore(struct import *m, const char *pattern)
{
    for (int i = 0; i < osr_file_count(m->file); ++i)
        if (m->used[i] == 0 && fnmatch(pattern, osr_file_tensor(m->file, i)->name, 0) == 0)
            m->used[i] = -1;
}

/* A text without the blanks at its ends. */
static char *trim(char *text)
{
    size_t n;
    while (isspace((unsigned char)*text))
        ++text;
    n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        text[--n] = '\0';
    return text;
}

/* Two passes, so that what is ignored does not depend on the order of lines. */
static void map_line(struct import *m, int line, const char *begin, size_t length, int ignores)
{
    char copy[3 * NAME], *text, *theirs, *ours;
    const char *comment = memchr(begin, '#', length);
    const size_t n = comment != NULL ? (size_t)(comment - begin) : length;
    snprintf(copy, sizeof copy, "%.*s", n < sizeof copy ? (int)n : 0, begin);
    if (n >= sizeof copy && !ignores)
        mistake(m, "%s:%d: the line is too long", m->map, line);
    text = trim(copy);
    if (text[0] == '\0')
        return;
    theirs = strchr(text, '=');
    if (theirs != NULL)
        *theirs++ = '\0';
    ours = trim(text);
    theirs = theirs != NULL ? trim(theirs) : NULL;
    if (theirs == NULL || ours[0] == '\0' || theirs[0] == '\0' || strpbrk(theirs, "= \t") != NULL
        || strlen(theirs) >= NAME) {
        if (!ignores)
            mistake(m, "%s:%d: a line is \"OURS = THEIRS\"", m->map, line);
    } else if (strcmp(ours, "ignore") == 0) {
        if (ignores)
            map_ignore(m, theirs);
    } else if (!ignores) {
        map_pair(m, line, ours, theirs);
    }
}

static void map_pass(struct import *m, const char *text, int ignores)
{
    for (int line = 1; *text != '\0'; ++line) {
        const size_t length = strcspn(text, "\n");
        map_line(m, line, text, length, ignores);
        text += length + (text[length] == '\n');
    }
}

/* What the map left out, on either side. */
static void check_complete(struct import *m)
{
    for (int i = 0; i < m->slot_count; ++i)
        if (m->slot[i].line == 0 && strcmp(m->slot[i].name, "anchors") != 0)
            mistake(m, "%s: nothing feeds %s (layer %s)", m->map, m->slot[i].name,
                    m->slot[i].row->name);
    for (int i = 0; i < osr_file_count(m->file); ++i)
        if (m->used[i] == 0)
            mistake(m, "%s: the tensor %s of %s is neither used nor ignored", m->map,
                    osr_file_tensor(m->file, i)->name, m->weights);
}

static int read_map(struct import *m)
{
    char message[512];
    size_t count;
    char *text = file_read(m->map, MOST_MAP, &count, message, sizeof message);
    if (text == NULL) {
        message_error("--map %s", message);
        return EXIT_DATA;
    }
    map_pass(m, text, 0);
    map_pass(m, text, 1);
    free(text);
    check_complete(m);
    if (m->mistakes > MOST_MISTAKES)
        message_error("... and %d more", m->mistakes - MOST_MISTAKES);
    return m->mistakes > 0 ? EXIT_DATA : EXIT_OK;
}

/* ---- the weights ---- */

static int write_slot(struct import *m, const struct slot *s)
{
    const size_t count = (size_t)s->from->count, n = strlen(s->name);
    float *v = malloc(count * sizeof *v);
    if (v == NULL)
        return no_memory();
    osr_file_read_f32(m->file, s->from->name, count, v);
    for (size_t i = 0; i < count && osr_ctx_status(m->ctx) == OSR_OK; ++i)
        if (v[i] < 0.0f && n > 12 && strcmp(s->name + n - 12, ".running_var") == 0) {
            mistake(m, "%s in %s: value %zu of a variance is negative", s->from->name, m->weights,
                    i);
            break;
        }
    if (osr_ctx_status(m->ctx) == OSR_OK)
        osr_write(m->ctx, s->row->tensor, v, count);
    free(v);
    return osr_ctx_status(m->ctx) != OSR_OK ? session_fail(m->ctx)
           : m->mistakes > 0                ? EXIT_DATA
                                            : EXIT_OK;
}

static int import_weights(struct import *m)
{
    struct origin origin = {0};
    int code = EXIT_OK, fed = 0;
    origin.trial = origin.seed = -1;
    for (int i = 0; i < m->slot_count && code == EXIT_OK; ++i)
        if (m->slot[i].from != NULL) {
            code = write_slot(m, &m->slot[i]);
            ++fed;
        }
    if (code == EXIT_OK)
        code = session_save(m->model, &origin, m->o->operands[1]);
    if (code == EXIT_OK && !option_flag(m->o, "json"))
        printf("%s: %s with method %s, %d classes, %d tensors; set its threshold with osr "
               "calibrate%s\n",
               m->o->operands[1], m->network->name, m->method->name, m->classes, fed,
               m->method->calibrates ? " --anchors" : "");
    if (code == EXIT_OK && option_flag(m->o, "json")) {
        struct json j = {0};
        json_open(&j, NULL, '{');
        json_text(&j, "schema", "osr-import-1");
        json_text(&j, "model", m->o->operands[1]);
        json_text(&j, "net", m->network->name);
        json_text(&j, "method", m->method->name);
        json_integer(&j, "classes", m->classes);
        json_integer(&j, "tensors", fed);
        json_close(&j, '}');
        code = json_print(&j);
        json_free(&j);
    }
    return code;
}

static int import(struct import *m)
{
    int code;
    if (m->map == NULL)
        return usage("import needs --map: which tensor goes where; see the README and maps/");
    m->method = method_choose(m->o);
    m->network = m->method != NULL ? network_choose(m->o) : NULL;
    if (m->network == NULL)
        return EXIT_USAGE;
    code = read_classes(m);
    if (code == EXIT_OK)
        code = session_open(m->o, &m->ctx);
    if (code == EXIT_OK && osr_file_open(m->ctx, m->weights, NULL, &m->file) != OSR_OK) {
        code = session_fail(m->ctx);
        code = code == EXIT_IO ? EXIT_DATA : code; /* a file that cannot be read is bad input */
    }
    if (code == EXIT_OK)
        code = make_model(m);
    if (code == EXIT_OK)
        code = make_slots(m);
    if (code == EXIT_OK)
        code = read_map(m);
    return code == EXIT_OK ? import_weights(m) : code;
}

int cmd_import(struct options *o)
{
    struct import m = {0};
    m.o = o;
    m.weights = o->operands[0];
    m.map = option_text(o, "map");
    const int code = import(&m);
    osr_file_close(m.file);
    osr_model_destroy(m.model);
    osr_ctx_destroy(m.ctx);
    free(m.slot);
    free(m.used);
    free(m.class_text);
    free(m.class_names);
    return code;
}
