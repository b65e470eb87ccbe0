/* cmd_jacobian.c - osr jacobian: the norm of the Jacobian of known and unknown images, by finite
 * differences and exactly, their histograms, the norm along segments, and runs beside each other.
 *
 * With --out a folder gets jacobian.json, norms.csv, histogram.svg, segments.csv and segments.svg
 * (--segments), training.csv and training.svg (of a run trained with --analyse); for several runs
 * compare.json, compare.csv and compare.svg. */
#define _POSIX_C_SOURCE 200809L
#include "analysis.h"
#include "compare.h"
#include "exit_codes.h"
#include "job.h"
#include "segments.h"
#include "signals.h"
#include "svg.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { METHOD_FD, METHOD_EXACT, METHOD_BOTH, BINS_MOST = 80 };

/* How far norms by differences and exact ones are apart. */
struct agreement {
    size_t images;
    double mean, most; /* of |fd - exact| / exact over the images */
    double of_means;   /* mean fd / mean exact - 1 */
};

struct histogram {
    struct svg_axis axis;
    size_t bins, known[BINS_MOST], unknown[BINS_MOST];
};

struct jacobian {
    struct job job;
    const char *path; /* RUN or MODEL */
    const char *of;
    struct analysed a;
    osr_jacobian_method used;
    double *norm[2], *other[2]; /* known, unknown; other: by differences, of method both */
    struct agreement agreement;
    struct histogram histogram;
    struct segments segments;
    struct moment moment;
    struct moments training;
};

static int out_of_memory(void)
{
    message_error("out of memory");
    return EXIT_MEMORY;
}

/* ---- the norms ---- */

/* Does a word of --unknown-classes, a name, a number or "6-9", mean class c? */
static int word_means(const char *word, int c, const char *name)
{
    char low[32], high[32];
    const char *dash = strchr(word, '-');
    int64_t first, last;
    if (strcmp(word, name) == 0)
        return 1;
    snprintf(low, sizeof low, "%.*s", dash != NULL ? (int)(dash - word) : 31, word);
    snprintf(high, sizeof high, "%.31s", dash != NULL ? dash + 1 : word);
    return integer_parse(low, &first) == 0 && integer_parse(high, &last) == 0 && first <= c
           && c <= last;
}

/* --unknown-classes: only these stay among the unknown ones. */
static int keep_unknown(struct job *j, const char *text)
{
    char *words = strdup(text), *keep = calloc((size_t)j->split.unknown_count + 1, 1);
    int code = words == NULL || keep == NULL ? out_of_memory() : EXIT_OK, kept = 0;
    for (char *word = words, *next; code == EXIT_OK && word != NULL; word = next) {
        int found = 0;
        next = strchr(word, ',');
        if (next != NULL)
            *next++ = '\0';
        for (int i = 0; i < j->split.unknown_count; ++i) {
            const int c = j->split.unknown[i];
            if (word_means(word, c, j->unknown->class_names[c]))
                found = keep[i] = 1;
        }
        if (!found) {
            message_error("--unknown-classes: \"%s\" is none of the unknown classes of %s", word,
                          j->unknown->spec);
            code = EXIT_USAGE;
        }
    }
    for (int i = 0; code == EXIT_OK && i < j->split.unknown_count; ++i)
        if (keep[i])
            j->split.unknown[kept++] = j->split.unknown[i];
    if (code == EXIT_OK)
        j->split.unknown_count = kept;
    free(words);
    free(keep);
    return code;
}

static int open_images(struct jacobian *x, const struct options *o)
{
    osr_jacobian_desc *d = &x->a.jacobian;
    const int method = option_choice(o, "method");
    int code = job_open(&x->job, o, x->path);
    if (code == EXIT_OK && option_text(o, "unknown-classes") != NULL)
        code = keep_unknown(&x->job, option_text(o, "unknown-classes"));
    if (code != EXIT_OK)
        return code;
    d->method = method == METHOD_BOTH ? OSR_JACOBIAN_EXACT
                                      : (osr_jacobian_method)(method + 1); /* unset is -1: AUTO */
    d->of = (osr_jacobian_of)option_choice(o, "of");
    d->directions = (int)option_int(o, "directions");
    d->direction = d->directions > 0 ? OSR_RADEMACHER : OSR_COORDINATES;
    d->step = (float)option_real(o, "step");
    d->seed = (uint64_t)option_int(o, "seed");
    x->a.batch = (int)option_int(o, "batch");
    x->of = option_text(o, "of");
    return analysed_choose(&x->a, &x->job.data.test, x->job.unknown, &x->job.split,
                           (size_t)option_int(o, "limit"));
}

static void agree(struct jacobian *x)
{
    const size_t n[2] = {x->a.known.count, x->a.unknown.count};
    struct agreement *g = &x->agreement;
    double fd = 0.0, exact = 0.0;
    for (int part = 0; part < 2; ++part)
        for (size_t i = 0; i < n[part]; ++i) {
            const double e = x->norm[part][i], f = x->other[part][i];
            const double apart = fabs(f - e) / (e > 0.0 ? e : 1.0);
            g->mean += apart;
            g->most = apart > g->most ? apart : g->most;
            fd += f;
            exact += e;
        }
    g->images = n[0] + n[1];
    g->mean /= (double)g->images;
    g->of_means = fd / exact - 1.0;
}

/* Norms of one part; with method both also those by differences. */
static int part_norms(struct jacobian *x, int part, int both)
{
    const struct data_set *set = part ? x->a.unknown_set : x->a.known_set;
    const struct subset *s = part ? &x->a.unknown : &x->a.known;
    osr_jacobian_desc d = x->a.jacobian;
    x->norm[part] = malloc((s->count + 1) * sizeof *x->norm[part]);
    x->other[part] = malloc((s->count + 1) * sizeof *x->other[part]);
    if (x->norm[part] == NULL || x->other[part] == NULL)
        return out_of_memory();
    int code = norms_compute(x->job.model, set, s, &d, x->norm[part], &x->used);
    if (code == EXIT_OK && both) {
        d.method = OSR_JACOBIAN_FD;
        code = norms_compute(x->job.model, set, s, &d, x->other[part], NULL);
    }
    return code;
}

static void count_bins(struct jacobian *x)
{
    struct histogram *h = &x->histogram;
    const size_t n[2] = {x->a.known.count, x->a.unknown.count};
    double low = INFINITY, high = -INFINITY;
    for (int part = 0; part < 2; ++part)
        for (size_t i = 0; i < n[part]; ++i) {
            low = fmin(low, x->norm[part][i]);
            high = fmax(high, x->norm[part][i]);
        }
    h->axis = svg_axis_make(low, high, 32, NULL);
    h->bins = (size_t)lround((h->axis.high - h->axis.low) / h->axis.step);
    for (int part = 0; part < 2; ++part)
        for (size_t i = 0; i < n[part]; ++i) {
            double at = floor((x->norm[part][i] - h->axis.low) / h->axis.step);
            at = at > 0.0 ? at : 0.0;
            const size_t bin = at < (double)h->bins ? (size_t)at : h->bins - 1;
            (part ? h->unknown : h->known)[bin]++;
        }
}

/* Everything of one run or model. */
static int compute(struct jacobian *x, const struct options *o)
{
    const int both = option_choice(o, "method") == METHOD_BOTH;
    int code = open_images(x, o);
    if (code == EXIT_OK)
        code = part_norms(x, 0, both);
    if (code == EXIT_OK)
        code = part_norms(x, 1, both);
    if (code != EXIT_OK)
        return code;
    if (both)
        agree(x);
    count_bins(x);
    return moment_compute(x->job.model, &x->a, x->norm[0], x->norm[1], 1, &x->moment);
}

static void release(struct jacobian *x)
{
    for (int part = 0; part < 2; ++part) {
        free(x->norm[part]);
        free(x->other[part]);
    }
    segments_free(&x->segments);
    moments_free(&x->training);
    analysed_free(&x->a);
    job_close(&x->job);
}

/* ---- JSON ---- */

static void histogram_json(struct json *j, const struct histogram *h)
{
    json_open(j, "histogram", '{');
    json_real(j, "low", h->axis.low);
    json_real(j, "step", h->axis.step);
    for (int part = 0; part < 2; ++part) {
        json_open(j, part ? "unknown" : "known", '[');
        for (size_t i = 0; i < h->bins; ++i)
            json_integer(j, NULL, (int64_t)(part ? h->unknown : h->known)[i]);
        json_close(j, ']');
    }
    json_close(j, '}');
}

static void segments_json(struct json *j, const struct segments *s)
{
    double mean[SEGMENT_MOST], error[SEGMENT_MOST];
    json_open(j, "segments", '[');
    for (int kind = 0; kind < SEGMENT_KINDS && s->points > 0; ++kind) {
        segments_mean(s, kind, mean, error);
        json_open(j, NULL, '{');
        json_text(j, "kind", segment_names[kind]);
        json_integer(j, "pairs", (int64_t)s->count[kind]);
        json_open(j, "mean", '[');
        for (int k = 0; k < s->points; ++k)
            json_real(j, NULL, mean[k]);
        json_close(j, ']');
        json_open(j, "error", '[');
        for (int k = 0; k < s->points; ++k)
            json_real(j, NULL, error[k]);
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* How the norms were computed that are shown: with --method both the exact ones. */
static const char *method_name(const struct jacobian *x)
{
    return x->used == OSR_JACOBIAN_EXACT ? "exact" : "finite differences";
}

static double step_of(const struct jacobian *x)
{
    return (double)(x->a.jacobian.step > 0.0f                      ? x->a.jacobian.step
                    : x->a.jacobian.direction == OSR_COORDINATES ? OSR_JACOBIAN_COORDINATE_STEP
                                                                  : OSR_JACOBIAN_STEP);
}

static void jacobian_json(const struct jacobian *x, struct json *j)
{
    char data[ORIGIN_TEXT];
    const struct origin *origin = &x->job.origin;
    const osr_score_row *row;
    osr_model_threshold(x->job.model, &row);
    json_open(j, NULL, '{');
    json_text(j, "schema", "osr-jacobian-2");
    json_text(j, "method", x->agreement.images > 0            ? "both"
                           : x->used == OSR_JACOBIAN_EXACT ? "exact"
                                                            : "fd");
    json_text(j, "of", x->of);
    json_integer(j, "directions", x->a.jacobian.directions);
    json_real(j, "step", step_of(x));
    json_integer(j, "n_known", (int64_t)x->a.known.count);
    json_integer(j, "n_unknown", (int64_t)x->a.unknown.count);
    json_real(j, "mean_known", x->moment.norm_known);
    json_real(j, "mean_unknown", x->moment.norm_unknown);
    json_real(j, "deviation_known", deviation_of(x->norm[0], x->a.known.count));
    json_real(j, "deviation_unknown", deviation_of(x->norm[1], x->a.unknown.count));
    json_real(j, "difference", x->moment.jnd);
    json_real(j, "norm_auroc", x->moment.norm_auroc);
    json_text(j, "score", row->name);
    json_real(j, "auroc", x->moment.auroc);
    json_real(j, "accuracy", x->moment.accuracy);
    json_real(j, "intra", x->moment.intra);
    json_real(j, "inter", x->moment.inter);
    json_real(j, "davies_bouldin", x->moment.davies_bouldin);
    if (x->agreement.images > 0) {
        json_open(j, "agreement", '{');
        json_integer(j, "images", (int64_t)x->agreement.images);
        json_real(j, "mean", x->agreement.mean);
        json_real(j, "most", x->agreement.most);
        json_real(j, "of_means", x->agreement.of_means);
        json_close(j, '}');
    }
    histogram_json(j, &x->histogram);
    segments_json(j, &x->segments);
    json_text(j, "data", origin_data(origin, data));
    json_text(j, "split", origin->split);
    json_integer(j, "trial", origin->trial);
    json_integer(j, "seed", origin->seed);
    json_text(j, "version", osr_version());
    json_close(j, '}');
}

/* ---- text ---- */

static const char *function_name(const struct jacobian *x)
{
    return x->a.jacobian.of == OSR_JACOBIAN_NORMALISED ? "unit representation"
           : x->a.jacobian.of == OSR_JACOBIAN_RAW      ? "representation"
                                                       : "logits";
}

static void print_text(const struct jacobian *x)
{
    const struct moment *m = &x->moment;
    const osr_score_row *row;
    double mean[SEGMENT_MOST], error[SEGMENT_MOST];
    osr_model_threshold(x->job.model, &row);
    printf("Jacobian norm of the %s by the image in -1..1 (%s)\n", function_name(x),
           method_name(x));
    for (int part = 0; part < 2; ++part) {
        const size_t n = part ? x->a.unknown.count : x->a.known.count;
        printf("%s %zu images, mean %.6g, standard deviation %.4g\n",
               part ? "unknown " : "known   ", n, part ? m->norm_unknown : m->norm_known,
               deviation_of(x->norm[part], n));
    }
    printf("difference %.6g (JND), AUROC of the norm as a score %.4f\n", m->jnd, m->norm_auroc);
    printf("accuracy %.4f, AUROC of %s %.4f\n", m->accuracy, row->name, m->auroc);
    printf("known classes: Davies-Bouldin index %.4g, distance to the own mean %.4g, between "
           "classes %.4g\n",
           m->davies_bouldin, m->intra, m->inter);
    if (x->agreement.images > 0) {
        printf("finite differences, step %g, ", step_of(x));
        if (x->a.jacobian.directions > 0)
            printf("%d random directions, ", x->a.jacobian.directions);
        printf("against the exact norms of %zu images: each within %.2g, %.2g on average; their "
               "means %+.2g (relative)\n",
               x->agreement.images, x->agreement.most, x->agreement.mean, x->agreement.of_means);
    }
    for (int kind = 0; kind < SEGMENT_KINDS && x->segments.points > 0; ++kind) {
        if (x->segments.count[kind] == 0) {
            printf("segments, %s: no pair\n", segment_names[kind]);
            continue;
        }
        segments_mean(&x->segments, kind, mean, error);
        printf("segments, %s, %zu: ends %.4g and %.4g, middle %.4g\n", segment_names[kind],
               x->segments.count[kind], mean[0], mean[x->segments.points - 1],
               mean[x->segments.points / 2]);
    }
}

/* ---- files ---- */

static int make_folder(const char *folder)
{
    if (mkdir(folder, 0777) == 0 || errno == EEXIST)
        return EXIT_OK;
    message_error("%s: %s", folder, strerror(errno));
    return EXIT_IO;
}

/* Writes and frees text; NULL is memory that ended. */
static int save(const char *folder, const char *name, char *text, size_t length)
{
    char path[4200], message[4400];
    if (text == NULL)
        return out_of_memory();
    snprintf(path, sizeof path, "%.4000s/%s", folder, name);
    const int code = file_write(path, text, length, message, sizeof message);
    free(text);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}

static int save_svg(const char *folder, const char *name, struct svg *s)
{
    char path[4200], message[4400];
    snprintf(path, sizeof path, "%.4000s/%s", folder, name);
    const int code = svg_save(s, path, message, sizeof message);
    svg_free(s);
    if (code != EXIT_OK)
        message_error("%s", message);
    return code;
}

/* The text of a JSON value, with a line end; frees it. */
static int save_json(const char *folder, const char *name, struct json *j)
{
    if (j->failed) {
        json_free(j);
        return out_of_memory();
    }
    return save(folder, name, j->text, j->length);
}

static char *norms_csv(const struct jacobian *x, size_t *length)
{
    char *text = NULL, norm[REAL_TEXT], other[REAL_TEXT];
    const int both = x->agreement.images > 0;
    FILE *f = open_memstream(&text, length);
    if (f == NULL)
        return NULL;
    fprintf(f, "index,label,known,norm%s\n", both ? ",norm_fd" : "");
    for (int part = 0; part < 2; ++part) {
        const struct subset *s = part ? &x->a.unknown : &x->a.known;
        for (size_t i = 0; i < s->count; ++i) {
            fprintf(f, "%u,%d,%d,%s", (unsigned)s->index[i], (int)s->label[i], !part,
                    real_text(norm, x->norm[part][i]));
            if (both)
                fprintf(f, ",%s", real_text(other, x->other[part][i]));
            fputc('\n', f);
        }
    }
    const int lost = ferror(f);
    if (fclose(f) == 0 && !lost)
        return text;
    free(text);
    return NULL;
}

/* "Jacobian norms: movr, neal mnist trial 0, idx:mnist": the head of every picture. */
static void title_of(const struct jacobian *x, const char *what, char *title, size_t size)
{
    char data[ORIGIN_TEXT];
    snprintf(title, size, "%s: %s, %.100s, %.300s", what,
             osr_model_get_desc(x->job.model)->method->name, x->job.origin.split,
             origin_data(&x->job.origin, data));
}

static void histogram_svg(const struct jacobian *x, struct svg *out)
{
    const struct histogram *h = &x->histogram;
    double edge[BINS_MOST + 1], share[2][BINS_MOST], most = 0.0;
    char title[512], line[160], label[96];
    struct svg_chart c = {0};
    for (size_t i = 0; i <= h->bins; ++i)
        edge[i] = h->axis.low + (double)i * h->axis.step;
    for (size_t i = 0; i < h->bins; ++i) {
        share[0][i] = (double)h->known[i] / (double)x->a.known.count;
        share[1][i] = (double)h->unknown[i] / (double)x->a.unknown.count;
        most = fmax(most, fmax(share[0][i], share[1][i]));
    }
    title_of(x, "Jacobian norms", title, sizeof title);
    snprintf(label, sizeof label, "norm of the Jacobian of the %s (%s)", function_name(x),
             method_name(x));
    svg_open(out, 720, 440, title);
    c.up = svg_axis_make(0.0, most, 5, "share of the images");
    c.across = svg_axis_make(h->axis.low, h->axis.high, 7, label);
    c.x = 20.0 + svg_chart_margin(&c.up);
    c.y = 78.0;
    c.width = 690.0 - c.x;
    c.height = 300.0;
    svg_text(out, 20.0, 28.0, SVG_START, 15, svg_cut(title, 15, 680.0, line, sizeof line));
    svg_chart_draw(out, &c);
    svg_bars(out, &c, edge, share[0], h->bins, SVG_BLUE);
    svg_bars(out, &c, edge, share[1], h->bins, SVG_RED);
    svg_mark(out, &c, x->moment.norm_known, SVG_BLUE);
    svg_mark(out, &c, x->moment.norm_unknown, SVG_RED);
    snprintf(line, sizeof line, "known, mean %.4g", x->moment.norm_known);
    const double at = svg_legend(out, c.x, 60.0, line, SVG_BLUE, 0);
    snprintf(line, sizeof line, "unknown, mean %.4g", x->moment.norm_unknown);
    svg_legend(out, at, 60.0, line, SVG_RED, 0);
}

static int save_files(const struct jacobian *x, const char *folder)
{
    struct json j = {0};
    struct svg s;
    char title[512];
    size_t length = 0;
    char *text;
    int code = make_folder(folder);
    if (code != EXIT_OK)
        return code;
    jacobian_json(x, &j);
    code = save_json(folder, "jacobian.json", &j);
    if (code == EXIT_OK) {
        text = norms_csv(x, &length);
        code = save(folder, "norms.csv", text, length);
    }
    if (code == EXIT_OK) {
        histogram_svg(x, &s);
        code = save_svg(folder, "histogram.svg", &s);
    }
    if (code == EXIT_OK && x->segments.points > 0) {
        text = segments_csv(&x->segments, &length);
        code = save(folder, "segments.csv", text, length);
    }
    if (code == EXIT_OK && x->segments.points > 0) {
        title_of(x, "Norm along segments", title, sizeof title);
        segments_svg(&x->segments, title, &s);
        code = save_svg(folder, "segments.svg", &s);
    }
    if (code == EXIT_OK && x->training.count > 0) {
        title_of(x, "Training", title, sizeof title);
        code = moments_save(&x->training, title, folder, "training");
    }
    return code;
}

/* ---- the command ---- */

static int one_run(struct options *o, struct jacobian *x)
{
    char path[4200], message[4400];
    int code = compute(x, o);
    if (code == EXIT_OK && option_int(o, "segments") > 0)
        code = segments_compute(x->job.model, &x->a, (size_t)option_int(o, "segments"),
                                (int)option_int(o, "points"), (uint64_t)option_int(o, "seed"),
                                &x->segments);
    if (code != EXIT_OK)
        return code;
    snprintf(path, sizeof path, "%.4000s/analysis.jsonl", x->path);
    code = moments_read(path, &x->training, message, sizeof message);
    if (code != EXIT_OK) {
        message_error("%s", message);
        return code;
    }
    if (option_text(o, "out") != NULL)
        code = save_files(x, option_text(o, "out"));
    if (code == EXIT_OK && option_flag(o, "json")) {
        struct json j = {0};
        jacobian_json(x, &j);
        code = json_print(&j);
        json_free(&j);
    } else if (code == EXIT_OK) {
        print_text(x);
    }
    return code;
}

static int compare_files(const struct compared *runs, size_t n, const char *folder)
{
    struct json j = {0};
    struct svg s = {0};
    size_t length = 0;
    int code = make_folder(folder);
    if (code != EXIT_OK)
        return code;
    json_open(&j, NULL, '[');
    j.failed |= compared_json(runs, n, &j) != EXIT_OK;
    json_close(&j, ']');
    code = save_json(folder, "compare.json", &j);
    if (code == EXIT_OK) {
        char *text = compared_csv(runs, n, &length);
        code = save(folder, "compare.csv", text, length);
    }
    if (code == EXIT_OK)
        code = compared_svg(runs, n, "Runs compared", &s) == EXIT_OK
                   ? save_svg(folder, "compare.svg", &s)
                   : out_of_memory();
    return code;
}

static int several_runs(struct options *o, struct compared *runs, size_t n)
{
    int code = EXIT_OK;
    for (size_t i = 0; i < n && code == EXIT_OK; ++i) {
        struct jacobian x = {0};
        x.path = o->operands[i];
        message_detail("%s", x.path);
        code = compared_read(&runs[i], x.path);
        if (code == EXIT_OK)
            code = compute(&x, o);
        if (code == EXIT_OK) {
            runs[i].classes = osr_model_get_desc(x.job.model)->classes;
            runs[i].known = x.a.known.count;
            runs[i].unknown = x.a.unknown.count;
            runs[i].moment = x.moment;
        }
        release(&x);
    }
    if (code == EXIT_OK && option_text(o, "out") != NULL)
        code = compare_files(runs, n, option_text(o, "out"));
    if (code == EXIT_OK && option_flag(o, "json")) {
        struct json j = {0};
        json_open(&j, NULL, '[');
        j.failed |= compared_json(runs, n, &j) != EXIT_OK;
        json_close(&j, ']');
        code = json_print(&j);
        json_free(&j);
    } else if (code == EXIT_OK) {
        code = compared_table(runs, n);
    }
    return code;
}

int cmd_jacobian(struct options *o)
{
    const size_t n = (size_t)o->operand_count;
    int code;
    signals_install();
    if (n == 1) {
        struct jacobian x = {0};
        x.path = o->operands[0];
        code = one_run(o, &x);
        status_line_end();
        release(&x);
        return code;
    }
    if (option_int(o, "segments") > 0) {
        message_error("--segments goes with one run, not with %zu", n);
        return EXIT_USAGE;
    }
    struct compared *runs = calloc(n, sizeof *runs);
    code = runs != NULL ? several_runs(o, runs, n) : out_of_memory();
    status_line_end();
    for (size_t i = 0; runs != NULL && i < n; ++i)
        compared_free(&runs[i]);
    free(runs);
    return code;
}
