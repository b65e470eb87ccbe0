#include "reading.h"

#include "analysis.h"
#include "exit_codes.h"
#include "output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

void reader_start(struct reader *r, osr_model *model)
{
    const osr_model_desc *d = osr_model_get_desc(model);
    const unsigned given = d->method->outputs;
    memset(r, 0, sizeof *r);
    r->model = model;
    r->classes = d->classes;
    r->columns = 1;
    if ((given & OSR_OUT_REPRESENTATION) && d->numbers.features > 0
        && osr_model_dims(model) == d->classes * d->numbers.features) {
        r->columns = d->numbers.features;
        r->output = OSR_OUT_REPRESENTATION;
        r->what = "features";
    } else if (given & OSR_OUT_LOGITS) {
        r->output = OSR_OUT_LOGITS;
        r->what = "logits";
    } else if (given & OSR_OUT_COSINES) {
        r->output = OSR_OUT_COSINES;
        r->what = "cosines";
    } else {
        r->output = OSR_OUT_DISTANCES;
        r->what = "distances";
    }
}

void reader_end(struct reader *r)
{
    free(r->means);
    r->means = NULL;
}

/* ---- tensors of the model ---- */

/* A tensor of the model by its name, or by the end of its name; allocated, NULL without. */
static float *tensor_read(osr_model *model, const char *ending, size_t wanted)
{
    int n;
    const osr_named *rows = osr_model_tensors(model, &n);
    osr_ctx *ctx = osr_model_context(model);
    for (int i = 0; i < n; ++i) {
        const size_t length = strlen(rows[i].name), tail = strlen(ending);
        const size_t count = osr_shape_count(osr_shape_of(ctx, rows[i].tensor));
        if (length < tail || strcmp(rows[i].name + length - tail, ending) != 0 || count != wanted)
            continue;
        float *v = malloc(count * sizeof *v);
        if (v != NULL && osr_read(ctx, rows[i].tensor, v, count) == OSR_OK)
            return v;
        free(v);
        return NULL;
    }
    return NULL;
}

int reader_stored_means(struct reader *r)
{
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const size_t k = (size_t)r->classes;
    int moved = 0;
    if (!d->method->calibrates || r->output != OSR_OUT_LOGITS)
        return 0;
    float *a = tensor_read(r->model, "anchors", k * k);
    for (size_t i = 0; a != NULL && i < k * k; ++i)
        moved |= fabsf(a[i] - (i % (k + 1) == 0 ? d->numbers.alpha : 0.0f)) > 0.0f;
    if (!moved) {
        free(a);
        return 0;
    }
    r->means = a;
    r->means_from = "its calibrated anchors";
    return 1;
}

/* ---- means ---- */

static const float *values_of(const struct reader *r, const osr_outputs *v)
{
    return r->output == OSR_OUT_REPRESENTATION ? v->representation
           : r->output == OSR_OUT_LOGITS       ? v->logits
           : r->output == OSR_OUT_COSINES      ? v->cosines
                                               : v->distances;
}

int reader_means(struct reader *r, const struct data_set *set, const struct class_split *split,
                 size_t limit, int batch)
{
    const size_t width = (size_t)r->classes * (size_t)r->columns;
    struct subset all = {0}, some = {0};
    struct outputs o = {0};
    char message[512] = "out of memory";
    double *sum = calloc((size_t)r->classes * width, sizeof *sum);
    size_t *count = calloc((size_t)r->classes, sizeof *count);
    int code = sum == NULL || count == NULL ? EXIT_MEMORY : EXIT_OK;
    if (code == EXIT_OK)
        code = subset_known(set, split, &all, message, sizeof message);
    if (code == EXIT_OK)
        code = subset_spread(&all, limit, &some);
    if (code != EXIT_OK)
        message_error("%s", message);
    if (code == EXIT_OK)
        code = outputs_compute(r->model, set, &some, batch, r->output, "class means", &o);
    r->means = malloc((size_t)r->classes * width * sizeof *r->means);
    if (code == EXIT_OK && r->means == NULL)
        code = out_of_memory();
    if (code == EXIT_OK) {
        const float *v = values_of(r, &o.values);
        for (size_t i = 0; i < some.count; ++i) {
            for (size_t d = 0; d < width; ++d)
                sum[(size_t)some.label[i] * width + d] += (double)v[i * width + d];
            count[some.label[i]]++;
        }
        for (size_t i = 0; i < (size_t)r->classes * width; ++i)
            r->means[i] = (float)(sum[i] / (double)count[i / width]); /* none: 0 / 0 */
        r->means_from = "training images";
    }
    outputs_free(&o);
    subset_free(&all);
    subset_free(&some);
    free(sum);
    free(count);
    return code;
}

/* ---- maps ---- */

/* What follows the last layer with places: pooling or flattening, then at most one linear layer. */
struct tail {
    int pooled, linear, simple;
};

static struct tail tail_of(const osr_model_desc *d)
{
    struct tail t = {0, 0, 1};
    int doors = 0;
    for (int i = d->layer_count - 1; i >= 0 && doors == 0; --i) {
        const osr_layer *l = &d->layers[i];
        t.simple &= l->from == 0;
        switch (l->kind) {
        case OSR_LAYER_DROPOUT: break;
        case OSR_LAYER_LINEAR:
            t.simple &= i == d->layer_count - 1;
            t.linear = 1;
            break;
        case OSR_LAYER_GLOBAL_AVG_POOL:
        case OSR_LAYER_FLATTEN:
            t.pooled = l->kind == OSR_LAYER_GLOBAL_AVG_POOL;
            doors = 1;
            break;
        default: t.simple = 0;
        }
    }
    t.simple &= doors;
    return t;
}

/* Weight of channel c at place i of class `k` over the last maps; NULL where there is none. */
static float *class_weights(const struct reader *r, const struct tail *t, int k, size_t channels,
                            size_t places, double *bias)
{
    const size_t width = t->pooled ? channels : channels * places, classes = (size_t)r->classes;
    float *w = NULL, *b = NULL;
    *bias = 0.0;
    if (r->output == OSR_OUT_COSINES && !t->linear)
        w = tensor_read(r->model, "prototypes", classes * width);
    else if (r->output == OSR_OUT_LOGITS && t->linear) {
        w = tensor_read(r->model, ".linear.weight", classes * width);
        b = tensor_read(r->model, ".linear.bias", classes);
    }
    if (w != NULL)
        memmove(w, w + (size_t)k * width, width * sizeof *w);
    if (b != NULL)
        *bias = (double)b[k];
    free(b);
    return w;
}

/* One map: what each place adds to the value of class `shown`. */
static int map_of_value(struct reader *r, const struct tail *t, const float *act, size_t channels,
                        const float *representation, struct reading *out)
{
    const size_t places = (size_t)out->map_height * (size_t)out->map_width;
    double scale = t->pooled ? 1.0 / (double)places : 1.0;
    float *w = class_weights(r, t, out->shown, channels, places, &out->bias);
    if (w == NULL)
        return EXIT_OK;
    if (r->output == OSR_OUT_COSINES) {
        double a = 0.0, b = 0.0;
        const size_t width = t->pooled ? channels : channels * places;
        for (size_t i = 0; i < width; ++i) {
            a += (double)w[i] * (double)w[i];
            b += (double)representation[i] * (double)representation[i];
        }
        scale /= a > 0.0 && b > 0.0 ? sqrt(a * b) : 1.0;
    }
    out->maps = malloc(places * sizeof *out->maps);
    for (size_t i = 0; i < places && out->maps != NULL; ++i) {
        double s = 0.0;
        for (size_t c = 0; c < channels; ++c)
            s += (double)act[i * channels + c] * (double)w[t->pooled ? c : c * places + i];
        out->maps[i] = (float)(scale * s);
    }
    free(w);
    out->map_count = out->maps != NULL;
    return out->maps != NULL ? EXIT_OK : out_of_memory();
}

/* The maps of the features of class `shown`. */
static int maps_of_features(const struct reader *r, const float *act, size_t channels,
                            struct reading *out)
{
    const size_t places = (size_t)out->map_height * (size_t)out->map_width;
    const size_t first = (size_t)out->shown * (size_t)r->columns;
    out->maps = malloc(places * (size_t)r->columns * sizeof *out->maps);
    if (out->maps == NULL)
        return out_of_memory();
    for (size_t f = 0; f < (size_t)r->columns; ++f)
        for (size_t i = 0; i < places; ++i)
            out->maps[f * places + i] = act[i * channels + first + f];
    out->map_count = r->columns;
    out->map_is_mean = 1;
    return EXIT_OK;
}

static int reading_maps(struct reader *r, const float *image, const float *representation,
                        struct reading *out)
{
    osr_ctx *ctx = osr_model_context(r->model);
    const osr_model_desc *d = osr_model_get_desc(r->model);
    const struct tail t = tail_of(d);
    const osr_tensor none = {0, 0};
    osr_model_values v;
    float *act = NULL;
    int code = EXIT_OK;
    if (!t.simple)
        return EXIT_OK;
    const osr_tensor x = osr_input(ctx, osr_shape_make(4, 1, d->height, d->width, d->channels),
                                   image);
    if (osr_model_forward(r->model, x, none, 0, &v) != OSR_OK)
        return session_fail(ctx);
    const osr_shape s = osr_shape_of(ctx, v.maps);
    const size_t count = osr_shape_count(s), channels = (size_t)s.dim[3];
    if (s.rank == 4) {
        act = malloc(count * sizeof *act);
        if (act == NULL)
            code = out_of_memory();
        else
            osr_read(ctx, osr_keep(ctx, v.maps), act, count);
    }
    if (osr_step_end(ctx) != OSR_OK)
        code = session_fail(ctx);
    out->map_height = s.dim[1];
    out->map_width = s.dim[2];
    if (code == EXIT_OK && act != NULL && r->output == OSR_OUT_REPRESENTATION && t.pooled
        && !t.linear && channels == (size_t)r->classes * (size_t)r->columns)
        code = maps_of_features(r, act, channels, out);
    else if (code == EXIT_OK && act != NULL && r->output != OSR_OUT_REPRESENTATION)
        code = map_of_value(r, &t, act, channels, representation, out);
    free(act);
    return code;
}

/* ---- one image ---- */

int reading_take(struct reader *r, const float *image, int shown, struct reading *out)
{
    const size_t k = (size_t)r->classes, dims = (size_t)osr_model_dims(r->model);
    const osr_score_row *row;
    osr_outputs v = {0};
    int32_t label = 0;
    float *work = calloc(3 * k + dims, sizeof *work);
    memset(out, 0, sizeof *out);
    out->values = malloc(k * (size_t)r->columns * sizeof *out->values);
    if (work == NULL || out->values == NULL) {
        free(work);
        return out_of_memory();
    }
    v.logits = work;
    v.distances = work + k;
    v.cosines = work + 2 * k;
    v.representation = work + 3 * k;
    out->threshold = osr_model_threshold(r->model, &row);
    int code = EXIT_OK;
    if (osr_model_run(r->model, image, NULL, 1, &v) != OSR_OK
        || osr_model_score(r->model, row, &v, 1, &out->score, &label) != OSR_OK)
        code = session_fail(osr_model_context(r->model));
    out->label = label;
    out->known = out->score <= out->threshold;
    out->shown = shown >= 0 ? shown : label;
    memcpy(out->values, values_of(r, &v), k * (size_t)r->columns * sizeof *out->values);
    if (code == EXIT_OK)
        code = reading_maps(r, image, v.representation, out);
    free(work);
    return code;
}

void reading_free(struct reading *out)
{
    free(out->values);
    free(out->maps);
    memset(out, 0, sizeof *out);
}
