/* grid_report.c - the table of a grid: means over its cells, published figures, and in what the
 * runs differ from theirs. */
#define _POSIX_C_SOURCE 200809L
#include "grid.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exit_codes.h"
#include "output.h"
#include "published.h"
#include "recipes.h"
#include "run_dir.h"

static int no_memory(char *message, size_t size)
{
    snprintf(message, size, "out of memory");
    return EXIT_MEMORY;
}

/* ---- in what the runs differ ---- */

/* Is the first picture of a folder of images a JPEG file? */
static int folder_is_jpeg(const char *folder, int depth)
{
    DIR *d = opendir(folder);
    struct dirent *entry;
    int found = -1;
    while (d != NULL && found < 0 && (entry = readdir(d)) != NULL) {
        char path[2048];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (depth > 0) {
            found = folder_is_jpeg(path, depth - 1);
            continue;
        }
        FILE *f = fopen(path, "rb");
        const int a = f != NULL ? fgetc(f) : EOF, b = f != NULL ? fgetc(f) : EOF;
        if (a != EOF && b != EOF)
            found = a == 0xff && b == 0xd8;
        if (f != NULL)
            fclose(f);
    }
    if (d != NULL)
        closedir(d);
    return found;
}

static int data_is_jpeg(const char *spec)
{
    char path[2048];
    if (strncmp(spec, "folder:", 7) != 0)
        return 0;
    snprintf(path, sizeof path, "%s/train", spec + 7);
    return folder_is_jpeg(path, 1) == 1;
}

/* What is about the grid and not about an option. */
static void grid_facts(FILE *f, const struct grid *g, const struct options *o,
                       const struct published_source *p)
{
    const char *data = option_text(o, "data"), *unknown = option_text(o, "unknown");
    const int cifars = strncmp(g->set, "cifar+", 6) == 0;
    const int tiny = strcmp(g->set, "tinyimagenet") == 0;
    if (g->split[0] == '\0')
        fprintf(f, "; class lists of one's own, not %s", p->family);
    else if (strcmp(g->split, p->family) != 0)
        fprintf(f, "; class lists %s, not %s", g->split, p->family);
    else if (strcmp(p->recipe, "difair") == 0 && cifars)
        fputs("; known classes of each trial, not airplane, automobile, ship and truck in all", f);
    if (unknown != NULL && (!cifars || strncmp(unknown, "cifar100:", 9) != 0))
        fprintf(f, "; unknown images of %s, not %s", unknown,
                cifars ? "cifar100" : "the set's own classes");
    if (strcmp(p->recipe, "difair") == 0 && tiny && strstr(data, ",order=wnids") == NULL)
        fputs("; classes numbered by sorted names, not as in wnids.txt", f);
    if (g->trials != p->trials)
        fprintf(f, "; %d %s, not %d", g->trials, g->trials == 1 ? "trial" : "trials", p->trials);
    if (g->seeds != 1)
        fprintf(f, "; %d seeds a trial, not 1", g->seeds);
    if (!tiny && data_is_jpeg(data))
        fputs("; images from JPEG files, not the original pixels", f);
}

static void remarks(FILE *f, const struct grid *g, const char *method,
                    const struct published_source *p)
{
    const char *before = ". Published with: ";
    for (int i = 0; i < published_remark_count; i++) {
        const struct published_remark *r = &published_remarks[i];
        const struct recipe_row row = {p->recipe, r->sets, r->methods, NULL, NULL, NULL};
        if (&published_sources[r->source] != p || !recipe_fits(&row, p->recipe, g->set, method))
            continue;
        fprintf(f, "%s%s", before, r->text);
        before = "; ";
    }
}

static int same_text(const char *a, const char *b)
{
    double x, y;
    if (real_parse(a, &x) == 0 && real_parse(b, &y) == 0)
        return fabs(x - y) <= 1e-6 * fabs(y);
    return strcmp(a, b) == 0;
}

/* Is a later row of the same key there for this set and method? */
static int overruled(int row, const char *set, const char *method)
{
    for (int i = row + 1; i < recipe_row_count; i++)
        if (strcmp(recipe_rows[i].key, recipe_rows[row].key) == 0
            && recipe_fits(&recipe_rows[i], recipe_rows[row].recipe, set, method))
            return 1;
    return 0;
}

/* A setting as text, where it is unset what then holds. */
static const char *effective(const struct options *run, const char *method, const char *key)
{
    const char *text = option_text(run, key);
    const osr_method_row *m = osr_method_find(method);
    if (text != NULL)
        return text;
    if (strcmp(key, "mean") == 0 || strcmp(key, "std") == 0)
        return "that of the training images";
    if (strcmp(key, "head") == 0)
        return m->vgg32.head == OSR_VGG32_FLATTEN
                       && strcmp(option_text(run, "network"), "vgg32") == 0
                   ? "flatten" : "pool";
    if (strcmp(key, "head-bias") == 0)
        return m->vgg32.no_bias ? "no" : "yes";
    return "unset";
}

/* The settings of a run that are not those of the recipe nearest to the published one. */
static void setting_facts(FILE *f, const struct grid *g, const struct options *run,
                          const char *method, const struct published_source *p)
{
    for (int i = 0; i < recipe_row_count; i++) {
        const struct recipe_row *row = &recipe_rows[i];
        if (!recipe_fits(row, p->recipe, g->set, method) || strcmp(row->key, "method") == 0
            || overruled(i, g->set, method))
            continue;
        const char *here = effective(run, method, row->key);
        if (strcmp(row->key, "epochs") == 0 && option_int(run, "iterations") > 0)
            fprintf(f, "; %s steps, not %s epochs", option_text(run, "iterations"), row->value);
        else if (!same_text(here, row->value))
            fprintf(f, "; %s %s, not %s", row->key, here, row->value);
    }
}

/* The effective settings of a method's first run that there is. EXIT_DATA when there is none. */
static int settings_of(const struct grid *g, const struct options *o, const char *method,
                       struct options *run, char *message, size_t size)
{
    char path[1200];
    for (int i = 0; i < g->count; i++) {
        if (strcmp(g->cell[i].method, method) != 0 || g->cell[i].state == CELL_OPEN)
            continue;
        snprintf(path, sizeof path, "%s/config.ini", g->cell[i].path);
        int code = options_copy(o, COMMAND_TRAIN, run);
        if (code == EXIT_OK)
            code = options_read_file(run, path);
        if (code != EXIT_OK)
            snprintf(message, size, "%s", run->message);
        return code;
    }
    memset(run, 0, sizeof *run);
    return EXIT_DATA;
}

static char *note_text(const struct grid *g, const struct options *o, const struct options *run,
                       const char *method, const struct published_source *p)
{
    char *text = NULL;
    size_t length;
    FILE *f = open_memstream(&text, &length);
    if (f == NULL)
        return NULL;
    fprintf(f, "%s, %s. The settings here otherwise", p->name, method);
    grid_facts(f, g, o, p);
    setting_facts(f, g, run, method, p);
    remarks(f, g, method, p);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    char *mark = strstr(text, "otherwise"); /* the first fact follows a colon */
    if (mark != NULL && mark[9] == ';')
        mark[9] = ':';
    else if (mark != NULL)
        memcpy(mark, "the same ", 9);
    return text;
}

/* ---- rows ---- */

/* Scores and states of a method's cells. */
static void measure(struct report *r, const char *method, const char *score)
{
    struct report_row *row = &r->row[r->rows++];
    const struct grid *g = r->grid;
    double *values = calloc((size_t)g->count, sizeof *values);
    memset(row, 0, sizeof *row);
    row->method = method;
    row->score = score;
    row->source = -1;
    for (int f = 0; f < GRID_FIGURES; f++) {
        int n = 0;
        row->cells = row->diverged = 0;
        for (int i = 0; i < g->count && values != NULL; i++) {
            const struct cell *c = &g->cell[i];
            if (strcmp(c->method, method) != 0)
                continue;
            row->diverged += c->state == CELL_DIVERGED;
            for (int k = 0; k < c->count && c->state == CELL_DONE; k++)
                if (strcmp(c->score[k].name, score) == 0) {
                    values[n++] = c->score[k].figure[f];
                    row->cells++;
                }
        }
        grid_moments(values, n, &row->mean[f], &row->deviation[f]);
    }
    free(values);
}

static void add_published(struct report *r, const struct published_figure *p, int note)
{
    struct report_row *row = &r->row[r->rows++];
    memset(row, 0, sizeof *row);
    row->method = p->method;
    row->score = p->score;
    row->source = p->source;
    row->note = note;
    for (int f = 0; f < GRID_FIGURES; f++)
        row->mean[f] = row->deviation[f] = NAN;
    row->mean[GRID_AUROC] = p->auroc / 100.0;
    if (p->accuracy > 0.0)
        row->mean[GRID_ACCURACY] = p->accuracy / 100.0;
}

/* The published figures of a method's score, each with its footnote. */
static int add_figures(struct report *r, const struct options *o, const struct options *run,
                       const char *method, const char *score, int *notes)
{
    for (int i = 0; i < published_count && r->rows < REPORT_ROWS; i++) {
        const struct published_figure *p = &published_figures[i];
        if (strcmp(p->method, method) != 0 || strcmp(p->set, r->grid->set) != 0
            || strcmp(p->score, score) != 0)
            continue;
        if (notes[p->source] == 0 && r->notes < REPORT_NOTES) {
            r->note[r->notes] = note_text(r->grid, o, run, method, &published_sources[p->source]);
            if (r->note[r->notes] == NULL)
                return EXIT_MEMORY;
            notes[p->source] = ++r->notes;
        }
        add_published(r, p, notes[p->source]);
    }
    return EXIT_OK;
}

/* Does a paper have the figure, and has it not been shown? */
static const char *next_score(const struct report *r, int first, const char *method)
{
    for (int i = 0; i < published_count; i++) {
        const struct published_figure *p = &published_figures[i];
        int shown = strcmp(p->method, method) != 0 || strcmp(p->set, r->grid->set) != 0;
        for (int k = first; k < r->rows && !shown; k++)
            shown = strcmp(r->row[k].score, p->score) == 0;
        if (!shown)
            return p->score;
    }
    return NULL;
}

static void describe(struct report *r, const struct options *run, const char *method)
{
    static const char *const keys[] = {"recipe", "network", "size", "epochs", "iterations", "batch",
                                       "optimiser", "lr", "schedule", "weight-decay", "augment",
                                       "val", "select", "test-set"};
    char *text = NULL;
    size_t length;
    FILE *f = open_memstream(&text, &length);
    if (f == NULL)
        return;
    fprintf(f, "%s:", method);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = option_text(run, keys[i]);
        const int counts = strcmp(keys[i], "epochs") != 0 || option_int(run, "iterations") == 0;
        if (value != NULL && counts && (strcmp(value, "0") != 0 || strcmp(keys[i], "val") == 0))
            fprintf(f, " %s %s,", keys[i], value);
    }
    if (fclose(f) == 0 && length > 0 && r->settings_count < GRID_METHODS) {
        text[length - 1] = '\0'; /* the last comma */
        r->settings[r->settings_count++] = text;
    } else {
        free(text);
    }
}

static int report_method(struct report *r, const struct options *o, const char *method,
                         char *message, size_t size)
{
    struct options run;
    int notes[16] = {0};
    const int first = r->rows;
    int code = settings_of(r->grid, o, method, &run, message, size);
    if (code == EXIT_DATA && run.values == NULL)
        return EXIT_OK; /* not one run has ended */
    const char *score = code == EXIT_OK ? option_text(&run, "score") : NULL;
    if (code == EXIT_OK)
        describe(r, &run, method);
    const osr_score_row *known = score != NULL ? osr_score_find(score) : NULL;
    score = known != NULL ? known->name : NULL; /* outlives the options */
    for (; score != NULL && code == EXIT_OK && r->rows < REPORT_ROWS - 8;
         score = next_score(r, first, method)) {
        measure(r, method, score);
        code = add_figures(r, o, &run, method, score, notes);
    }
    options_free(&run);
    return code == EXIT_MEMORY ? no_memory(message, size) : code;
}

int report_make(struct report *r, const struct grid *g, const struct options *o, char *message,
                size_t size)
{
    int code = EXIT_OK;
    memset(r, 0, sizeof *r);
    r->grid = g;
    snprintf(r->data, sizeof r->data, "%s", option_text(o, "data"));
    if (option_text(o, "unknown") != NULL)
        snprintf(r->unknown, sizeof r->unknown, "%s", option_text(o, "unknown"));
    for (int i = 0; i < g->count; i++) {
        r->done += g->cell[i].state == CELL_DONE;
        r->diverged += g->cell[i].state == CELL_DIVERGED;
    }
    for (int m = 0; m < g->methods && code == EXIT_OK; m++)
        code = report_method(r, o, g->method[m], message, size);
    return code;
}

void report_free(struct report *r)
{
    for (int i = 0; i < r->notes; i++)
        free(r->note[i]);
    for (int i = 0; i < r->settings_count; i++)
        free(r->settings[i]);
    r->notes = r->settings_count = 0;
}

/* ---- as text ---- */

enum { COLUMNS = 10 };

static const char *const column_names[COLUMNS] = {
    "method", "score", "cells", "accuracy", "AUROC", "AUPR unk", "FPR95 kn", "OSCR", "macro-F1",
    "from"};
static const int column_figures[COLUMNS] = {
    -1, -1, -1, GRID_ACCURACY, GRID_AUROC, GRID_AUPR_UNKNOWN, GRID_FPR95_KNOWN, GRID_OSCR,
    GRID_MACRO_F1, -1};

/* One cell of the table, figures in per cent. */
static void column_text(const struct report_row *row, int column, char *text, size_t size)
{
    const int f = column_figures[column];
    if (column == 0)
        snprintf(text, size, "%s", row->method);
    else if (column == 1)
        snprintf(text, size, "%s", row->score);
    else if (column == 2 && row->source >= 0)
        snprintf(text, size, "%d", published_sources[row->source].trials);
    else if (column == 2)
        snprintf(text, size, "%d", row->cells);
    else if (column == COLUMNS - 1 && row->source >= 0)
        snprintf(text, size, "%s [%d]", published_sources[row->source].name, row->note);
    else if (column == COLUMNS - 1 && row->diverged > 0)
        snprintf(text, size, "here; %d diverged, left out", row->diverged);
    else if (column == COLUMNS - 1)
        snprintf(text, size, "here");
    else if (isnan(row->mean[f]))
        snprintf(text, size, "-");
    else if (row->source >= 0)
        snprintf(text, size, "%.4g", 100.0 * row->mean[f]);
    else if (isnan(row->deviation[f]))
        snprintf(text, size, "%.2f", 100.0 * row->mean[f]);
    else
        snprintf(text, size, "%.2f +- %.2f", 100.0 * row->mean[f], 100.0 * row->deviation[f]);
}

/* "cac and ce on idx:mnist, neal trials 0, 1": what the table is of. */
static void put_title(FILE *f, const struct report *r)
{
    const struct grid *g = r->grid;
    fprintf(f, "%s%s%s", r->data, r->unknown[0] != '\0' ? " + " : "", r->unknown);
    if (g->split[0] != '\0') {
        fprintf(f, ", class lists %s, %s", g->split, g->trials == 1 ? "trial" : "trials");
        for (int i = 0; i < g->trials; i++)
            fprintf(f, "%s %lld", i > 0 ? "," : "", (long long)g->trial[i]);
    }
    fprintf(f, ", %s", g->seeds == 1 ? "seed" : "seeds");
    for (int i = 0; i < g->seeds; i++)
        fprintf(f, "%s %lld", i > 0 ? "," : "", (long long)g->seed[i]);
    fprintf(f, ": %d of %d cells done", r->done, g->count);
    if (r->diverged > 0)
        fprintf(f, ", %d diverged", r->diverged);
    fputc('\n', f);
}

static void put_explanation(FILE *f, const struct report *r)
{
    fputs("Per cent: mean and standard deviation (divisor n - 1) over the cells.", f);
    if (strcmp(r->grid->set, "other") == 0)
        fputs(" These data are none that published figures are of.", f);
    fputc('\n', f);
}

static void put_notes(FILE *f, const struct report *r, const char *bullet)
{
    for (int i = 0; i < r->notes; i++)
        fprintf(f, "%s[%d] %s.\n", bullet, i + 1, r->note[i]);
}

int report_print(const struct report *r)
{
    struct table t;
    char text[256];
    put_title(stdout, r);
    table_start(&t, COLUMNS);
    for (int c = 0; c < COLUMNS; c++)
        table_cell(&t, "%s", column_names[c]);
    for (int i = 0; i < r->rows; i++)
        for (int c = 0; c < COLUMNS; c++) {
            column_text(&r->row[i], c, text, sizeof text);
            table_cell(&t, "%s", text);
        }
    const int code = table_print(&t);
    put_explanation(stdout, r);
    put_notes(stdout, r, "");
    return code;
}

static void put_markdown(FILE *f, const struct report *r)
{
    char text[256];
    fputs("# osr protocol\n\n", f);
    put_title(f, r);
    fputc('\n', f);
    for (int c = 0; c < COLUMNS; c++)
        fprintf(f, "| %s %s", column_names[c], c + 1 == COLUMNS ? "|\n" : "");
    for (int c = 0; c < COLUMNS; c++)
        fprintf(f, "|%s%s", c > 1 && c + 1 < COLUMNS ? "---:" : "---",
                c + 1 == COLUMNS ? "|\n" : "");
    for (int i = 0; i < r->rows; i++)
        for (int c = 0; c < COLUMNS; c++) {
            column_text(&r->row[i], c, text, sizeof text);
            fprintf(f, "| %s %s", text, c + 1 == COLUMNS ? "|\n" : "");
        }
    fputc('\n', f);
    put_explanation(f, r);
    if (r->notes > 0)
        fputc('\n', f);
    put_notes(f, r, "- ");
    if (r->settings_count > 0)
        fputs("\nSettings of the runs, of which each has the whole in its config.ini:\n\n", f);
    for (int i = 0; i < r->settings_count; i++)
        fprintf(f, "- %s\n", r->settings[i]);
}

/* A CSV field: quoted where it has to be. */
static void put_field(FILE *f, const char *text)
{
    if (strpbrk(text, ",\"\n") == NULL) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text != '\0'; text++)
        fprintf(f, "%s%c", *text == '"' ? "\"" : "", *text);
    fputc('"', f);
}

/* "name,name_sd": shares; empty where there is no value. */
static void put_values(FILE *f, const struct report_row *row)
{
    char number[REAL_TEXT];
    for (int k = 0; k < GRID_FIGURES; k++) {
        fprintf(f, ",%s", isnan(row->mean[k]) ? "" : real_text(number, row->mean[k]));
        fprintf(f, ",%s", isnan(row->deviation[k]) ? "" : real_text(number, row->deviation[k]));
    }
}

static void put_csv(FILE *f, const struct report *r)
{
    fputs("from,method,score,cells,diverged", f);
    for (int k = 0; k < GRID_FIGURES; k++)
        fprintf(f, ",%s,%s_sd", grid_figure_names[k], grid_figure_names[k]);
    fputs(",note\n", f);
    for (int i = 0; i < r->rows; i++) {
        const struct report_row *row = &r->row[i];
        const struct published_source *p =
            row->source >= 0 ? &published_sources[row->source] : NULL;
        put_field(f, p != NULL ? p->name : "here");
        fprintf(f, ",%s,%s,%d,%d", row->method, row->score, p != NULL ? p->trials : row->cells,
                row->diverged);
        put_values(f, row);
        fputc(',', f);
        put_field(f, p != NULL ? r->note[row->note - 1] : "");
        fputc('\n', f);
    }
}

static const char *const states[] = {"open", "done", "diverged"};

static void put_cells(FILE *f, const struct report *r)
{
    char number[REAL_TEXT];
    fputs("method,trial,seed,state,score", f);
    for (int k = 0; k < GRID_FIGURES; k++)
        fprintf(f, ",%s", grid_figure_names[k]);
    fputc('\n', f);
    for (int i = 0; i < r->grid->count; i++) {
        const struct cell *c = &r->grid->cell[i];
        for (int s = 0; s < (c->count > 0 ? c->count : 1); s++) {
            fprintf(f, "%s,%d,%lld,%s,%s", c->method, c->trial, (long long)c->seed,
                    states[c->state], c->count > 0 ? c->score[s].name : "");
            for (int k = 0; k < GRID_FIGURES; k++)
                fprintf(f, ",%s", c->count == 0 || isnan(c->score[s].figure[k])
                                      ? "" : real_text(number, c->score[s].figure[k]));
            fputc('\n', f);
        }
    }
}

static void json_row(struct json *j, const struct report *r, const struct report_row *row)
{
    const struct published_source *p = row->source >= 0 ? &published_sources[row->source] : NULL;
    char key[64];
    json_open(j, NULL, '{');
    json_text(j, "from", p != NULL ? p->name : "here");
    json_text(j, "method", row->method);
    json_text(j, "score", row->score);
    json_integer(j, "cells", p != NULL ? p->trials : row->cells);
    json_integer(j, "diverged", row->diverged);
    for (int k = 0; k < GRID_FIGURES; k++) {
        json_real(j, grid_figure_names[k], row->mean[k]);
        snprintf(key, sizeof key, "%s_sd", grid_figure_names[k]);
        json_real(j, key, row->deviation[k]);
    }
    json_text(j, "note", p != NULL ? r->note[row->note - 1] : NULL);
    json_close(j, '}');
}

static void json_cell(struct json *j, const struct cell *c)
{
    json_open(j, NULL, '{');
    json_text(j, "method", c->method);
    json_integer(j, "trial", c->trial);
    json_integer(j, "seed", c->seed);
    json_text(j, "state", states[c->state]);
    json_text(j, "run", c->path);
    json_open(j, "scores", '{');
    for (int s = 0; s < c->count; s++) {
        json_open(j, c->score[s].name, '{');
        for (int k = 0; k < GRID_FIGURES; k++)
            json_real(j, grid_figure_names[k], c->score[s].figure[k]);
        json_close(j, '}');
    }
    json_close(j, '}');
    json_close(j, '}');
}

static void report_json(const struct report *r, struct json *j)
{
    json_open(j, NULL, '{');
    json_text(j, "version", osr_version());
    json_text(j, "data", r->data);
    json_text(j, "unknown", r->unknown[0] != '\0' ? r->unknown : NULL);
    json_text(j, "split", r->grid->split[0] != '\0' ? r->grid->split : NULL);
    json_text(j, "set", r->grid->set);
    json_integer(j, "cells_planned", r->grid->count);
    json_integer(j, "cells_done", r->done);
    json_integer(j, "cells_diverged", r->diverged);
    json_open(j, "rows", '[');
    for (int i = 0; i < r->rows; i++)
        json_row(j, r, &r->row[i]);
    json_close(j, ']');
    json_open(j, "settings", '[');
    for (int i = 0; i < r->settings_count; i++)
        json_text(j, NULL, r->settings[i]);
    json_close(j, ']');
    json_open(j, "cells", '[');
    for (int i = 0; i < r->grid->count; i++)
        json_cell(j, &r->grid->cell[i]);
    json_close(j, ']');
    json_close(j, '}');
}

int report_print_json(const struct report *r)
{
    struct json j = {0};
    report_json(r, &j);
    const int code = json_print(&j);
    json_free(&j);
    return code;
}

static int write_text(const struct report *r, const char *name, const char *text, size_t length,
                      char *message, size_t size)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", r->grid->path, name);
    return file_write(path, text, length, message, size);
}

static int write_json(const struct report *r, char *message, size_t size)
{
    struct json j = {0};
    report_json(r, &j);
    const int code = j.failed ? no_memory(message, size)
                              : write_text(r, "table.json", j.text, j.length, message, size);
    json_free(&j);
    return code;
}

int report_write(const struct report *r, char *message, size_t size)
{
    static const struct {
        const char *name;
        void (*put)(FILE *f, const struct report *r);
    } files[] = {{"table.md", put_markdown}, {"table.csv", put_csv}, {"cells.csv", put_cells}};
    int code = EXIT_OK;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && code == EXIT_OK; i++) {
        char *text = NULL;
        size_t length;
        FILE *f = open_memstream(&text, &length);
        if (f != NULL)
            files[i].put(f, r);
        if (f == NULL || fclose(f) != 0)
            code = no_memory(message, size);
        else
            code = write_text(r, files[i].name, text, length, message, size);
        free(text);
    }
    return code == EXIT_OK ? write_json(r, message, size) : code;
}
