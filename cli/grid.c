/* grid.c - the cells of a grid, as grid.h says. */
#define _POSIX_C_SOURCE 200809L
#include "grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exit_codes.h"
#include "output.h"
#include "recipes.h"
#include "run_dir.h"

const char *const grid_figure_names[GRID_FIGURES] = {
    "closed_accuracy", "auroc", "aupr_unknown", "aupr_known", "fpr95_known_pos",
    "fpr95_unknown_pos", "oscr", "dtacc", "macro_f1"};

/* ---- the lists ---- */

/* The next word of a list by commas; NULL at its end. */
static const char *next_word(const char *text, char *word, size_t size)
{
    const size_t n = strcspn(text, ",");
    snprintf(word, size, "%.*s", (int)n, text);
    return text[n] == ',' ? text + n + 1 : NULL;
}

/* "3" or "0-4". */
static int number_range(char *word, int64_t *low, int64_t *high)
{
    char *dash = strchr(word, '-');
    if (dash != NULL)
        *dash = '\0';
    if (integer_parse(word, low) != 0)
        return -1;
    *high = *low;
    return dash == NULL ? 0 : integer_parse(dash + 1, high);
}

int grid_numbers(const char *text, const char *what, int64_t low, int64_t high, int most,
                 int64_t *out, int *count, char *message, size_t size)
{
    char word[64], copy[64];
    *count = 0;
    for (const char *at = text; at != NULL;) {
        int64_t first, last;
        at = next_word(at, word, sizeof word);
        snprintf(copy, sizeof copy, "%s", word);
        if (number_range(copy, &first, &last) != 0 || first < low || last > high || last < first) {
            snprintf(message, size, "no %s '%s'; they go from %lld to %lld, as in 0,2-4", what,
                     word, (long long)low, (long long)high);
            return EXIT_USAGE;
        }
        if (last - first >= most - *count) {
            snprintf(message, size, "more than %d %ss", most, what);
            return EXIT_USAGE;
        }
        for (int64_t n = first; n <= last; n++) {
            for (int i = 0; i < *count; i++)
                if (out[i] == n) {
                    snprintf(message, size, "%s %lld is named twice", what, (long long)n);
                    return EXIT_USAGE;
                }
            out[(*count)++] = n;
        }
    }
    return EXIT_OK;
}

static int unknown_method(const char *name, char *message, size_t size)
{
    const char *names[64], *near;
    int n = 0;
    for (; osr_method_at(n) != NULL && n < 64; n++)
        names[n] = osr_method_at(n)->name;
    near = nearest_name(name, names, (size_t)n);
    snprintf(message, size, "no method is called \"%s\"%s%s%s", name,
             near != NULL ? "; did you mean " : "", near != NULL ? near : "",
             near != NULL ? "?" : "");
    return EXIT_USAGE;
}

static int plan_methods(struct grid *g, const char *list, char *message, size_t size)
{
    for (const char *at = list; at != NULL;) {
        if (g->methods == GRID_METHODS) {
            snprintf(message, size, "more than %d methods", GRID_METHODS);
            return EXIT_USAGE;
        }
        char *name = g->names[g->methods];
        at = next_word(at, name, sizeof g->names[0]);
        if (osr_method_find(name) == NULL)
            return unknown_method(name, message, size);
        for (int i = 0; i < g->methods; i++)
            if (strcmp(g->method[i], name) == 0) {
                snprintf(message, size, "method %s is named twice", name);
                return EXIT_USAGE;
            }
        g->method[g->methods++] = name;
    }
    return EXIT_OK;
}

static int plan_trials(struct grid *g, const struct options *o, char *message, size_t size)
{
    static const char *const families[] = {"neal", "arpl"};
    const int family = option_choice(o, "split");
    if (family < 0 && option_given(o, "trials")) {
        snprintf(message, size, "--trials counts the trials of --split, which is not given");
        return EXIT_USAGE;
    }
    g->trial[0] = -1;
    g->trials = 1;
    if (family < 0)
        return EXIT_OK;
    snprintf(g->split, sizeof g->split, "%s", families[family]);
    return grid_numbers(option_text(o, "trials"), "trial", 0, GRID_TRIALS - 1, GRID_TRIALS,
                        g->trial, &g->trials, message, size);
}

static int plan_seeds(struct grid *g, const struct options *o, char *message, size_t size)
{
    if (option_set(o, "seeds"))
        return grid_numbers(option_text(o, "seeds"), "seed", 0, INT64_MAX - 1, GRID_SEEDS, g->seed,
                            &g->seeds, message, size);
    g->seed[0] = option_int(o, "seed");
    g->seeds = 1;
    return EXIT_OK;
}

static void name_cell(const struct grid *g, struct cell *c)
{
    char trial[32] = "";
    if (c->trial >= 0)
        snprintf(trial, sizeof trial, "-trial%d", c->trial);
    snprintf(c->path, sizeof c->path, "%s/%s%s-seed%lld", g->path, c->method, trial,
             (long long)c->seed);
}

int grid_plan(struct grid *g, const struct options *o, const char *path, char *message, size_t size)
{
    memset(g, 0, sizeof *g);
    snprintf(g->path, sizeof g->path, "%s", path);
    g->set = recipe_set(o);
    int code = plan_methods(g, option_text(o, "methods"), message, size);
    if (code == EXIT_OK)
        code = plan_trials(g, o, message, size);
    if (code == EXIT_OK)
        code = plan_seeds(g, o, message, size);
    if (code != EXIT_OK)
        return code;
    g->cell = calloc((size_t)(g->methods * g->trials * g->seeds), sizeof *g->cell);
    if (g->cell == NULL) {
        snprintf(message, size, "out of memory");
        return EXIT_MEMORY;
    }
    for (int s = 0; s < g->seeds; s++)
        for (int t = 0; t < g->trials; t++)
            for (int m = 0; m < g->methods; m++) {
                struct cell *c = &g->cell[g->count++];
                c->method = g->method[m];
                c->trial = (int)g->trial[t];
                c->seed = g->seed[s];
                name_cell(g, c);
            }
    return EXIT_OK;
}

void grid_free(struct grid *g)
{
    free(g->cell);
    memset(g, 0, sizeof *g);
}

/* ---- figures.csv ---- */

static void heading(char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "score");
    for (int f = 0; f < GRID_FIGURES; f++)
        used += (size_t)snprintf(text + used, size - used, ",%s", grid_figure_names[f]);
}

/* "cac,0.99,...": 0, or -1 for another line. */
static int read_score(const char *line, struct grid_score *s)
{
    char word[64];
    const char *at = next_word(line, s->name, sizeof s->name);
    if (s->name[0] == '\0')
        return -1;
    for (int f = 0; f < GRID_FIGURES; f++) {
        if (at == NULL)
            return -1;
        at = next_word(at, word, sizeof word);
        s->figure[f] = NAN;
        if (strcmp(word, "nan") != 0 && real_parse(word, &s->figure[f]) != 0)
            return -1;
    }
    return at == NULL ? 0 : -1;
}

/* The state that the lines under the heading say; CELL_OPEN for anything else. */
static enum cell_state read_scores(struct cell *c, char *text)
{
    char wanted[512], *line = text;
    heading(wanted, sizeof wanted);
    for (int n = 0; *line != '\0'; n++) {
        char *end = strchr(line, '\n');
        if (end == NULL)
            return CELL_OPEN;
        *end = '\0';
        if (n == 0 && strcmp(line, wanted) != 0)
            return CELL_OPEN;
        if (n == 1 && strcmp(line, "diverged") == 0)
            return end[1] == '\0' ? CELL_DIVERGED : CELL_OPEN;
        if (n > 0 && (c->count == GRID_SCORES || read_score(line, &c->score[c->count++]) != 0))
            return CELL_OPEN;
        line = end + 1;
    }
    return c->count > 0 ? CELL_DONE : CELL_OPEN;
}

void cell_load(struct cell *c)
{
    char path[1200], message[1400];
    size_t size;
    snprintf(path, sizeof path, "%s/figures.csv", c->path);
    char *text = file_read(path, 1 << 20, &size, message, sizeof message);
    c->count = 0;
    c->state = text != NULL ? read_scores(c, text) : CELL_OPEN;
    if (c->state == CELL_OPEN)
        c->count = 0;
    free(text);
}

static void take(struct grid_score *s, const struct result *r)
{
    const osr_open_metrics *m = &r->metrics;
    const double figures[GRID_FIGURES] = {
        m->closed_accuracy, m->auroc, m->aupr_unknown, m->aupr_known, m->fpr95_known_pos,
        m->fpr95_unknown_pos, m->oscr, m->dtacc, r->macro_f1};
    snprintf(s->name, sizeof s->name, "%s", r->row->name);
    memcpy(s->figure, figures, sizeof figures);
}

int cell_finish(struct cell *c, const struct results *r, char *message, size_t size)
{
    char path[1200], number[REAL_TEXT], *text = malloc(65536);
    size_t used;
    if (text == NULL) {
        snprintf(message, size, "out of memory");
        return EXIT_MEMORY;
    }
    heading(text, 512);
    used = strlen(text);
    used += (size_t)sprintf(text + used, r == NULL ? "\ndiverged\n" : "\n");
    for (int i = 0; r != NULL && i < r->count; i++) {
        struct grid_score s;
        take(&s, &r->row[i]);
        used += (size_t)sprintf(text + used, "%s", s.name);
        for (int f = 0; f < GRID_FIGURES; f++)
            used += (size_t)sprintf(text + used, ",%s", real_text(number, s.figure[f]));
        text[used++] = '\n';
    }
    snprintf(path, sizeof path, "%s/figures.csv", c->path);
    const int code = file_write(path, text, used, message, size);
    free(text);
    if (code == EXIT_OK)
        cell_load(c); /* the digits that a later call will see, too */
    return code;
}

int grid_moments(const double *values, int count, double *mean, double *deviation)
{
    double sum = 0.0, squares = 0.0;
    int n = 0;
    for (int i = 0; i < count; i++)
        if (!isnan(values[i])) {
            sum += values[i];
            n++;
        }
    *mean = n > 0 ? sum / n : NAN;
    for (int i = 0; i < count; i++)
        if (!isnan(values[i]))
            squares += (values[i] - *mean) * (values[i] - *mean);
    *deviation = n > 1 ? sqrt(squares / (n - 1)) : NAN;
    return n;
}
