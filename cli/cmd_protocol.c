/* cmd_protocol.c - osr protocol: methods x trials x seeds, each cell a run of its own, and their
 * table beside published figures.
 *
 * The directory of a grid holds grid.ini (what was asked for), a run's directory for every cell
 * (METHOD-trialT-seedS, with figures.csv once it is done) and table.md, table.csv, table.json and
 * cells.csv. */
#define _POSIX_C_SOURCE 200809L
#include "exit_codes.h"
#include "grid.h"
#include "networks.h"
#include "output.h"
#include "progress.h"
#include "recipes.h"
#include "run_dir.h"
#include "session.h"
#include "signals.h"
#include "train.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct protocol {
    struct options *o;
    struct run_dir dir;
    struct grid grid;
    struct cell *current;
    double seconds;  /* that cells took in this call */
    int ran;         /* those cells */
    char message[1400];
};

static int complain(const char *message, int code)
{
    message_error("%s", message);
    return code;
}

/* What may be another in a later call: more of the same, or the machine. */
static const char *const free_keys[] = {"methods", "trials", "seeds", "device", "kernels", NULL};

/* ---- the directory ---- */

static void default_path(const struct options *o, char *path, size_t size)
{
    const char *data = option_text(o, "data"), *set = recipe_set(o);
    static const char *const families[] = {"own", "neal", "arpl"};
    snprintf(path, size, "runs/protocol-%.*s-%s",
             strcmp(set, "other") == 0 ? (int)strcspn(data, ":") : (int)strlen(set),
             strcmp(set, "other") == 0 ? data : set, families[option_choice(o, "split") + 1]);
}

/* Is there a run in the grid's directory? Until then its settings may change: a wrong path must not
 * take the directory. */
static int has_runs(const struct protocol *p)
{
    DIR *d = opendir(p->dir.path);
    struct dirent *entry;
    char path[1400];
    int found = 0;
    while (d != NULL && !found && (entry = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/%s/config.ini", p->dir.path, entry->d_name);
        found = entry->d_name[0] != '.' && access(path, F_OK) == 0;
    }
    if (d != NULL)
        closedir(d);
    return found;
}

/* grid.ini: written for a new grid, compared for one that goes on. */
static int own_directory(struct protocol *p)
{
    char path[1200], text[2048];
    run_file(&p->dir, "grid.ini", path, sizeof path);
    if (access(path, F_OK) == 0 && has_runs(p)) {
        const int code = options_compare(p->o, path, free_keys);
        if (code == EXIT_USAGE) {
            snprintf(text, sizeof text, "%s holds another grid: %s", p->dir.path, p->o->message);
            return complain(text, code);
        }
        return code == EXIT_OK ? code : complain(p->o->message, code);
    }
    snprintf(text, sizeof text, "osr %s\nagain, or on: osr protocol --config THIS FILE --out %s",
             osr_version(), p->dir.path);
    char *ini = options_write_given(p->o, text);
    if (ini == NULL)
        return complain(p->o->message, EXIT_USAGE);
    const int code = run_write(&p->dir, "grid.ini", ini, strlen(ini));
    free(ini);
    return code == EXIT_OK ? code : complain(p->dir.message, code);
}

static int open_directory(struct protocol *p)
{
    const int code = run_create(&p->dir, p->grid.path, "protocol", "grid");
    return code == EXIT_OK ? own_directory(p) : complain(p->dir.message, code);
}

/* ---- cells ---- */

/* Has the run a checkpoint to go on from? One whose first checkpoint met a full disk starts anew:
 * nothing of it is lost but its settings. */
static int can_resume(const struct cell *c)
{
    char config[1200], last[1200];
    snprintf(config, sizeof config, "%s/config.ini", c->path);
    snprintf(last, sizeof last, "%s/last.safetensors", c->path);
    if (access(config, F_OK) != 0)
        return 0;
    if (access(last, F_OK) == 0)
        return 1;
    unlink(config);
    return 0;
}

/* The options of a cell's training; a run that was begun is resumed. */
static int cell_options(struct protocol *p, const struct cell *c, struct options *o)
{
    char number[32];
    int code = options_copy(p->o, COMMAND_TRAIN, o);
    if (code == EXIT_OK)
        code = option_assign(o, "method", c->method, SOURCE_FLAG);
    snprintf(number, sizeof number, "%d", c->trial);
    if (code == EXIT_OK && c->trial >= 0)
        code = option_assign(o, "trial", number, SOURCE_FLAG);
    snprintf(number, sizeof number, "%lld", (long long)c->seed);
    if (code == EXIT_OK)
        code = option_assign(o, "seed", number, SOURCE_FLAG);
    if (code == EXIT_OK)
        code = option_assign(o, can_resume(c) ? "resume" : "out", c->path, SOURCE_FLAG);
    return code == EXIT_OK ? code : complain(o->message, code);
}

/* Every method's settings before the first cell is run: a wrong one must not show after hours. */
static int check_methods(struct protocol *p)
{
    const osr_method_row *rows[GRID_METHODS];
    for (int m = 0; m < p->grid.methods; m++)
        rows[m] = osr_method_find(p->grid.method[m]);
    int code = method_flags(p->o, rows, p->grid.methods);
    for (int m = 0; m < p->grid.methods && code == EXIT_OK; m++) {
        struct options o;
        code = options_copy(p->o, COMMAND_TRAIN, &o);
        if (code == EXIT_OK)
            code = option_assign(&o, "method", p->grid.method[m], SOURCE_FLAG);
        code = code == EXIT_OK ? train_check(&o) : complain(o.message, code);
        options_free(&o);
    }
    return code;
}

static int take_results(void *user, const struct results *r)
{
    struct protocol *p = user;
    const int code = cell_finish(p->current, r, p->message, sizeof p->message);
    return code == EXIT_OK ? code : complain(p->message, code);
}

static int write_report(struct protocol *p)
{
    struct report *r = malloc(sizeof *r);
    if (r == NULL)
        return complain("out of memory", EXIT_MEMORY);
    int code = report_make(r, &p->grid, p->o, p->message, sizeof p->message);
    if (code == EXIT_OK)
        code = report_write(r, p->message, sizeof p->message);
    report_free(r);
    free(r);
    return code == EXIT_OK ? code : complain(p->message, code);
}

/* The line above a cell's own, and what the progress line starts with. */
static void announce(const struct protocol *p, int index)
{
    const struct cell *c = &p->grid.cell[index];
    char label[160], trial[32] = "";
    int left = 0;
    for (int i = index + 1; i < p->grid.count; i++)
        left += p->grid.cell[i].state == CELL_OPEN;
    if (c->trial >= 0)
        snprintf(trial, sizeof trial, " trial %d", c->trial);
    snprintf(label, sizeof label, "cell %d/%d %s%s seed %lld", index + 1, p->grid.count, c->method,
             trial, (long long)c->seed);
    message_note("%s", label);
    snprintf(label, sizeof label, "%d/%d %s", index + 1, p->grid.count, c->method);
    progress_within(label, left, p->ran > 0 ? p->seconds / p->ran : 0.0);
}

static int run_cell(struct protocol *p, int index)
{
    const struct train_caller caller = {p, take_results};
    struct options o;
    const double began = progress_now();
    p->current = &p->grid.cell[index];
    announce(p, index);
    int code = cell_options(p, p->current, &o);
    if (code == EXIT_OK)
        code = train_run(&o, &caller);
    options_free(&o);
    progress_within(NULL, 0, 0.0);
    if (code == EXIT_DIVERGED) {
        code = cell_finish(p->current, NULL, p->message, sizeof p->message);
        if (code != EXIT_OK)
            return complain(p->message, code);
    }
    if (code != EXIT_OK)
        return code;
    p->seconds += progress_now() - began;
    p->ran++;
    return write_report(p);
}

static int run_cells(struct protocol *p)
{
    int done = 0, code = EXIT_OK;
    for (int i = 0; i < p->grid.count; i++) {
        cell_load(&p->grid.cell[i]);
        done += p->grid.cell[i].state != CELL_OPEN;
    }
    if (done > 0)
        message_note("%d of %d cells are done already", done, p->grid.count);
    for (int i = 0; i < p->grid.count && code == EXIT_OK; i++) {
        if (p->grid.cell[i].state == CELL_OPEN)
            code = run_cell(p, i);
        if (code == EXIT_OK && i + 1 < p->grid.count)
            code = signals_pending();
    }
    if (code != EXIT_OK && code == signals_pending())
        message_note("the grid in %s stopped; the same command goes on with it", p->dir.path);
    return code;
}

/* ---- the command ---- */

static int print_report(struct protocol *p)
{
    struct report *r = malloc(sizeof *r);
    if (r == NULL)
        return complain("out of memory", EXIT_MEMORY);
    int code = report_make(r, &p->grid, p->o, p->message, sizeof p->message);
    if (code == EXIT_OK)
        code = report_write(r, p->message, sizeof p->message);
    if (code != EXIT_OK)
        message_error("%s", p->message);
    else if (option_flag(p->o, "json"))
        code = report_print_json(r);
    else
        code = report_print(r);
    if (code == EXIT_OK)
        message_note("table: %s/table.md, .csv, .json; cells.csv", p->dir.path);
    for (int i = 0; i < p->grid.count && r->diverged > 0; i++)
        if (p->grid.cell[i].state == CELL_DIVERGED)
            message_warning("%s diverged; remove that folder to try it again",
                            p->grid.cell[i].path);
    if (code == EXIT_OK && r->diverged > 0)
        code = EXIT_DIVERGED;
    report_free(r);
    free(r);
    return code;
}

static int protocol(struct protocol *p)
{
    char path[1024];
    const char *out = option_text(p->o, "out");
    if (option_text(p->o, "methods") == NULL)
        return complain("protocol wants --methods, such as --methods ce,cac", EXIT_USAGE);
    if (out != NULL)
        snprintf(path, sizeof path, "%s", out);
    else
        default_path(p->o, path, sizeof path);
    int code = grid_plan(&p->grid, p->o, path, p->message, sizeof p->message);
    if (code != EXIT_OK)
        return complain(p->message, code);
    code = check_methods(p);
    if (code == EXIT_OK)
        code = open_directory(p);
    if (code == EXIT_OK)
        code = run_cells(p);
    return code == EXIT_OK ? print_report(p) : code;
}

int cmd_protocol(struct options *o)
{
    struct protocol p;
    memset(&p, 0, sizeof p);
    p.o = o;
    p.dir.lock = -1;
    signals_install();
    const int code = protocol(&p);
    status_line_end();
    run_close(&p.dir);
    grid_free(&p.grid);
    return code;
}
