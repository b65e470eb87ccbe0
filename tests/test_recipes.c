/* test_recipes - presets by name, the schedules they need, the lists and the figures of grids:
 * everything about osr protocol and --recipe that no device has a part in */
#define _POSIX_C_SOURCE 200809L
#include "test.h"

#include <unistd.h>

#include "augment.h"
#include "exit_codes.h"
#include "grid.h"
#include "options.h"
#include "progress.h"
#include "published.h"
#include "recipes.h"
#include "schedule.h"
#include "splits.h"
#include "train.h"

static char folder[] = "/tmp/osr-recipes-XXXXXX";

static const char *const sets[][2] = {
    {"mnist", "idx:/x/mnist"}, {"svhn", "svhn:/x"}, {"cifar10", "cifar10:/x"},
    {"cifar+10", "cifar10:/x --unknown cifar100:/y --split-set cifar+10"},
    {"cifar+50", "cifar10:/x --unknown cifar100:/y --split-set cifar+50"},
    {"tinyimagenet", "tinyimagenet:/x"}, {"other", "glyphs"}};

enum { SETS = sizeof sets / sizeof sets[0] };

/* A command line given as one string with blanks. */
static int read_line(struct options *o, const char *line)
{
    static char copy[4096];
    char *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "osr %s", line);
    for (char *word = strtok(copy, " "); word != NULL && argc < 63; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return options_read(o, argc, argv);
}

static int reads(struct options *o, const char *line)
{
    const int code = read_line(o, line);
    if (!CHECK(code == EXIT_OK))
        fprintf(stderr, "    %s: %s\n", line, o->message);
    return code == EXIT_OK;
}

/* ---- presets ---- */

/* Every preset with every set and method can be trained with, and holds values of its own table
 * only. */
static void every_recipe(void)
{
    char line[256];
    for (int r = 0; r < recipe_count; r++)
        for (int s = 0; s < SETS; s++)
            for (int m = -1; m < 0 || osr_method_at(m) != NULL; m++) {
                struct options o;
                snprintf(line, sizeof line, "train --recipe %s --data %s%s%s", recipe_table[r].name,
                         sets[s][1], m >= 0 ? " --method " : "",
                         m >= 0 ? osr_method_at(m)->name : "");
                if (!reads(&o, line))
                    continue;
                CHECK(strcmp(recipe_set(&o), sets[s][0]) == 0);
                if (!CHECK(train_check(&o) == EXIT_OK))
                    fprintf(stderr, "    %s\n", line);
                options_free(&o);
            }
}

/* Each row belongs to a preset, and there is a data set and a method for which it counts. */
static void every_row(void)
{
    for (int i = 0; i < recipe_row_count; i++) {
        const struct recipe_row *row = &recipe_rows[i];
        int used = 0;
        CHECK(recipe_find(row->recipe) != NULL);
        for (int s = 0; s < SETS; s++)
            for (int m = 0; osr_method_at(m) != NULL; m++) {
                const char *method = osr_method_at(m)->name;
                int last = recipe_fits(row, row->recipe, sets[s][0], method);
                for (int k = i + 1; k < recipe_row_count && last; k++)
                    last = strcmp(recipe_rows[k].key, row->key) != 0
                           || !recipe_fits(&recipe_rows[k], row->recipe, sets[s][0], method);
                used += last;
            }
        if (!CHECK(used > 0))
            fprintf(stderr, "    %s %s %s\n", row->recipe, row->key, row->value);
    }
}

static void expect_text(const char *line, const char *key, const char *value)
{
    struct options o;
    if (!reads(&o, line))
        return;
    CHECK(train_check(&o) == EXIT_OK);
    const char *text = option_text(&o, key);
    if (!CHECK(text != NULL && strcmp(text, value) == 0))
        fprintf(stderr, "    %s: %s is %s, not %s\n", line, key, text ? text : "unset", value);
    options_free(&o);
}

/* Values of the published programs, and what goes before what. */
static void values(void)
{
    expect_text("train --recipe cac --data idx:/x/mnist", "epochs", "70");
    expect_text("train --recipe cac --data idx:/x/mnist", "augment", "rrc:0.7");
    expect_text("train --recipe cac --data cifar10:/x", "weight-decay", "5e-6");
    expect_text("train --recipe cac --data tinyimagenet:/x", "dropout", "0.3");
    expect_text("train --recipe vaze --data svhn:/x", "method", "ce");
    expect_text("train --recipe vaze --data svhn:/x", "lr-min", "0.0001");
    expect_text("train --recipe vaze --data tinyimagenet:/x", "optimiser", "adam");
    expect_text("train --recipe vaze --data tinyimagenet:/x --method arpl", "lr", "0.001");
    expect_text("train --recipe difair --data cifar10:/x", "lr", "0.3");
    expect_text("train --recipe difair --data cifar10:/x --method cac", "lr", "0.1");
    expect_text("train --recipe difair --data cifar10:/x", "test-set", "balanced");
    expect_text("train --recipe movr --data cifar10:/x", "iterations", "20000");
    expect_text("train --recipe movr --data cifar10:/x --network wrn-16-4", "lr-min", "1e-5");
    expect_text("train --recipe movr-resnet18 --data cifar10:/x", "network", "resnet-18");
    expect_text("train --data cifar10:/x", "lr", "0.01");
    expect_text("train --recipe vaze --data cifar10:/x --lr 0.5", "lr", "0.5");
    expect_text("train --recipe vaze --data cifar10:/x --lr 0.5", "lr-min", "0.0005");
    expect_text("train --recipe vaze --method cac --data cifar10:/x", "method", "cac");
    expect_text("train --recipe movr --data cifar10:/x --epochs 3", "iterations", "0");
    expect_text("train --recipe cac --data cifar10:/x --iterations 50", "second-stage", "0");
    setenv("OSR_BATCH", "17", 1);
    expect_text("train --recipe vaze --data cifar10:/x", "batch", "17");
    unsetenv("OSR_BATCH");
}

/* Presets and class lists are of one set, and where it is not clear which, nothing is trained. */
static void one_set(void)
{
    static const struct {
        const char *line, *set, *refused; /* refused: by these words */
    } cases[] = {
        {"cifar10:/x --unknown cifar100:/y --split arpl", "cifar10", "cifar+10 or cifar+50"},
        {"cifar10:/x --unknown cifar100:/y --split arpl --split-set cifar+10", "cifar+10", NULL},
        {"cifar10:/x --unknown cifar100:/y --split neal --split-set cifar+50", "cifar+50", NULL},
        {"cifar10:/x --unknown cifar100:/y --split neal --split-set cifar10", "cifar10", NULL},
        {"cifar10:/x --unknown cifar100:/y", "cifar10", NULL},
        {"cifar10:/x --unknown svhn:/y --split arpl", "cifar10", NULL},
        {"svhn:/x --split arpl", "svhn", NULL},
        {"svhn:/x --split arpl --split-set mnist", "other", NULL},
        {"glyphs --split neal", "other", "which published list"},
        {"glyphs --split neal --split-set mnist", "other", NULL},
        {"svhn:/x --split neal --known 1,2", "svhn", "exclude each other"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[256];
        const char *list = NULL;
        struct options o;
        snprintf(line, sizeof line, "train --data %s", cases[i].line);
        if (!reads(&o, line))
            continue;
        const int code = recipe_list(&o, &list), wanted = cases[i].refused ? EXIT_USAGE : EXIT_OK;
        int good = code == wanted && strcmp(recipe_set(&o), cases[i].set) == 0;
        if (code != EXIT_OK)
            good = good && strstr(o.message, cases[i].refused) != NULL;
        else if (list != NULL && !option_set(&o, "split-set"))
            good = good && strcmp(list, cases[i].set) == 0;
        if (!CHECK(good && train_check(&o) == wanted))
            fprintf(stderr, "    %s: %d, %s, %s\n", line, code, recipe_set(&o), o.message);
        options_free(&o);
    }
}

/* The kind goes before the path, and in a path the last part that names a set. */
static void guesses(void)
{
    static const char *const specs[][2] = {
        {"idx:/data/tiny/mnist", "mnist"}, {"idx:/data/MNIST/raw", "mnist"}, {"idx:raw", "mnist"},
        {"idx:/mnist/FashionMNIST/raw", NULL}, {"cifar10:/data/tiny", "cifar10"},
        {"cifar100:/data/cifar10", NULL}, {"folder:/mnist/tiny-imagenet-200/", "tinyimagenet"},
        {"folder:/tiny/CIFAR-100", NULL}, {"folder:svhn-png", "svhn"}, {"folder:/x/y", NULL},
        {"folder:", NULL}, {"glyphs:20,10", NULL}, {"tinyimagenet:/svhn,order=wnids",
        "tinyimagenet"}};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        const char *name = split_guess_name(specs[i][0]), *wanted = specs[i][1];
        if (!CHECK(wanted == NULL ? name == NULL : name != NULL && strcmp(name, wanted) == 0))
            fprintf(stderr, "    %s: %s\n", specs[i][0], name != NULL ? name : "none");
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* A file goes before the preset, a flag before the file; what was effective, read again, is the
 * same. */
static void files(void)
{
    char path[64], line[256], again[256];
    struct options o, p;
    snprintf(path, sizeof path, "%s/my.ini", folder);
    write_file(path, "recipe = vaze\ndata = cifar10:/x\nlr = 0.2\nbatch = 32\n");
    snprintf(line, sizeof line, "train --config %s --batch 16", path);
    expect_text(line, "lr", "0.2");
    expect_text(line, "batch", "16");
    expect_text(line, "epochs", "600");
    if (!reads(&o, line))
        return;
    CHECK(train_check(&o) == EXIT_OK);
    char *first = options_write(&o, NULL);
    options_free(&o);
    snprintf(path, sizeof path, "%s/again.ini", folder);
    if (!CHECK(first != NULL))
        return;
    write_file(path, first);
    snprintf(again, sizeof again, "train --config %s", path);
    if (reads(&p, again)) {
        CHECK(train_check(&p) == EXIT_OK);
        char *second = options_write(&p, NULL);
        CHECK(second != NULL && strcmp(first, second) == 0);
        free(second);
    }
    options_free(&p);
    free(first);
}

/* What osr help recipes prints has every value in it. */
static void help(void)
{
    char path[64], *text = calloc(1, 1 << 16);
    snprintf(path, sizeof path, "%s/help", folder);
    FILE *f = fopen(path, "w+b");
    if (!CHECK(f != NULL && text != NULL))
        return;
    recipes_help(f);
    rewind(f);
    CHECK(fread(text, 1, (1 << 16) - 1, f) > 1000);
    fclose(f);
    for (int i = 0; i < recipe_count; i++)
        CHECK(strstr(text, recipe_table[i].name) && strstr(text, recipe_table[i].source));
    for (int i = 0; i < recipe_row_count; i++) {
        char wanted[128];
        snprintf(wanted, sizeof wanted, "  %-14s %s", recipe_rows[i].key, recipe_rows[i].value);
        CHECK(strstr(text, wanted) != NULL);
    }
    free(text);
}

/* ---- schedules ---- */

static void plan(struct schedule *s, const char *line, uint64_t batches)
{
    struct options o;
    memset(s, 0, sizeof *s);
    if (reads(&o, line) && CHECK(train_check(&o) == EXIT_OK))
        schedule_plan(s, &o, batches);
    options_free(&o);
}

/* The rates that the published programs print, for 600 epochs. */
static void published_rates(void)
{
    static const double vaze[][2] = {{0, 0.0001}, {1, 0.0100285}, {10, 0.099385}, {11, 0.099385},
                                     {12, 0.0992562}, {200, 0.000106}, {201, 0.1}, {401, 0.1},
                                     {599, 0.000125}};
    static const double difair[][2] = {{0, 0.0003}, {1, 0.030086}, {5, 0.149228}, {10, 0.298155},
                                       {11, 0.298154}, {12, 0.297767}, {100, 0.152400},
                                       {199, 0.000164}, {200, 0.0001085}, {201, 0.3},
                                       {599, 0.000164}};
    struct schedule s;
    plan(&s, "train --recipe vaze --data cifar10:/x", 7);
    for (size_t i = 0; i < sizeof vaze / sizeof vaze[0]; i++)
        for (int step = 0; step < 7; step += 6) /* constant within an epoch */
            CHECK_NEAR(schedule_rate(&s, (uint64_t)vaze[i][0] * 7 + (uint64_t)step), vaze[i][1],
                       1e-6);
    plan(&s, "train --recipe difair --data cifar10:/x", 7);
    for (size_t i = 0; i < sizeof difair / sizeof difair[0]; i++)
        CHECK_NEAR(schedule_rate(&s, (uint64_t)difair[i][0] * 7 + 3), difair[i][1], 1e-6);
    plan(&s, "train --recipe vaze --data cifar10:/x --epochs 1", 7);
    CHECK_NEAR(schedule_rate(&s, 0), 0.1, 1e-6);
}

static void stages(void)
{
    struct schedule s;
    plan(&s, "train --recipe cac --data svhn:/x", 10);
    CHECK(s.epochs == 75 && s.second == 50);
    CHECK_NEAR(schedule_rate(&s, 499), 0.01, 1e-7);
    CHECK_NEAR(schedule_rate(&s, 500), 0.001, 1e-7);
    CHECK(schedule_stage(&s, 499) == 0 && schedule_stage(&s, 500) == 500);
    plan(&s, "train --recipe cac --data idx:/x/mnist --epochs 4", 10);
    CHECK(s.second == 2);
    plan(&s, "train --recipe cac --data idx:/x/mnist --epochs 1", 10);
    CHECK(s.second == 0);
    plan(&s, "train --recipe movr --data cifar10:/x", 235);
    CHECK(s.total == 20000 && s.epochs == 86);
    CHECK(schedule_batches(&s, 84) == 235 && schedule_batches(&s, 85) == 25);
    CHECK_NEAR(schedule_rate(&s, 19999), 1e-5, 1e-7);
    plan(&s, "train --epochs 3", 10);
    CHECK(s.total == 30 && schedule_batches(&s, 2) == 10 && s.second == 0);
}

/* ---- grids ---- */

/* The line of a cell of a grid, and how long the rest takes: half of an epoch in 10 s. */
static void progress(void)
{
    struct progress p;
    char text[256];
    progress_start(&p, "epoch", 0, 2, 10);
    p.step = 5;
    progress_within("3/5 ce", 2, 0.0);
    progress_text(&p, p.started + 10.0, text, sizeof text);
    CHECK(strncmp(text, "3/5 ce  epoch 1/2  5/10", 23) == 0);
    CHECK(strstr(text, "eta 0:30, grid 1:50") != NULL);
    progress_within("3/5 ce", 2, 5.0);
    progress_text(&p, p.started + 10.0, text, sizeof text);
    CHECK(strstr(text, "eta 0:30, grid 0:40") != NULL);
    progress_within(NULL, 0, 0.0);
    progress_text(&p, p.started + 10.0, text, sizeof text);
    CHECK(strncmp(text, "epoch 1/2", 9) == 0 && strstr(text, "grid") == NULL);
}

static void numbers(const char *text, int code, const char *wanted)
{
    int64_t out[8];
    int count;
    char message[256] = "", got[64] = "";
    const int ended = grid_numbers(text, "trial", 0, 4, 5, out, &count, message, sizeof message);
    for (int i = 0; i < count && ended == EXIT_OK; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%lld ", (long long)out[i]);
    if (!CHECK(ended == code
               && (code == EXIT_OK ? strcmp(got, wanted) == 0 : strstr(message, wanted) != NULL)))
        fprintf(stderr, "    '%s': %d '%s' '%s'\n", text, ended, got, message);
}

static void lists(void)
{
    numbers("0-4", EXIT_OK, "0 1 2 3 4 ");
    numbers("3,0-1", EXIT_OK, "3 0 1 ");
    numbers("5", EXIT_USAGE, "'5'");
    numbers("-1", EXIT_USAGE, "'-1'");
    numbers("3-1", EXIT_USAGE, "'3-1'");
    numbers("0,,1", EXIT_USAGE, "''");
    numbers("1,0-2", EXIT_USAGE, "trial 1 is named twice");
    numbers("x", EXIT_USAGE, "'x'");
}

static void moments(void)
{
    const double some[] = {2.0, NAN, 4.0, 9.0}, none[] = {NAN};
    double mean, deviation;
    CHECK(grid_moments(some, 4, &mean, &deviation) == 3);
    CHECK_NEAR(mean, 5.0, 1e-12);
    CHECK_NEAR(deviation, sqrt(13.0), 1e-12); /* (9 + 1 + 16) / 2 */
    CHECK(grid_moments(some, 1, &mean, &deviation) == 1 && isnan(deviation));
    CHECK(grid_moments(none, 1, &mean, &deviation) == 0 && isnan(mean));
}

/* figures.csv: read as written; nothing when a byte of its form is gone. */
static void cells(void)
{
    static struct cell c, d;
    static struct results r;
    char path[96], message[256], text[4096];
    snprintf(c.path, sizeof c.path, "%s", folder);
    d = c;
    r.count = 2;
    for (int i = 0; i < 2; i++) {
        r.row[i].row = osr_score_at(i);
        r.row[i].metrics.auroc = 0.25 + i;
        r.row[i].macro_f1 = i ? NAN : 0.125;
    }
    CHECK(cell_finish(&c, &r, message, sizeof message) == EXIT_OK && c.state == CELL_DONE);
    cell_load(&d);
    CHECK(d.state == CELL_DONE && d.count == 2);
    CHECK(strcmp(d.score[1].name, osr_score_at(1)->name) == 0);
    CHECK(d.score[1].figure[GRID_AUROC] == 1.25 && isnan(d.score[1].figure[GRID_MACRO_F1]));
    CHECK(d.score[0].figure[GRID_MACRO_F1] == 0.125);
    snprintf(path, sizeof path, "%s/figures.csv", folder);
    FILE *f = fopen(path, "rb");
    const size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    CHECK(n > 100 && f != NULL && fclose(f) == 0);
    for (size_t cut = 0; cut < n; cut++) {
        text[n] = '\0';
        char kept[4096];
        memcpy(kept, text, cut);
        kept[cut] = '\0';
        write_file(path, kept);
        cell_load(&d);
        const int whole = cut > 0 && text[cut - 1] == '\n' && strchr(text, '\n') + 1 < text + cut;
        CHECK(d.state == (whole ? CELL_DONE : CELL_OPEN));
    }
    CHECK(cell_finish(&c, NULL, message, sizeof message) == EXIT_OK);
    cell_load(&d);
    CHECK(d.state == CELL_DIVERGED && d.count == 0);
}

/* Figures of papers: of methods and scores that there are, in per cent. */
static void papers(void)
{
    CHECK(published_count == 42);
    for (int i = 0; i < published_count; i++) {
        const struct published_figure *p = &published_figures[i];
        const osr_method_row *m = osr_method_find(p->method);
        const osr_score_row *s = osr_score_find(p->score);
        CHECK(m != NULL && s != NULL && osr_score_lacks(s, m->outputs) == NULL);
        CHECK(p->auroc > 50.0 && p->auroc < 100.0 && p->accuracy < 100.0);
        CHECK(recipe_find(published_sources[p->source].recipe) != NULL);
    }
    for (int i = 0; i < published_remark_count; i++) { /* each is beside some figure */
        const struct published_remark *r = &published_remarks[i];
        const struct recipe_row row = {"", r->sets, r->methods, NULL, NULL, NULL};
        int beside = 0;
        for (int k = 0; k < published_count; k++)
            beside += published_figures[k].source == r->source
                      && recipe_fits(&row, "", published_figures[k].set,
                                     published_figures[k].method);
        CHECK(beside > 0);
    }
}

/* ---- balanced test sets ---- */

static void balance(void)
{
    uint32_t large[10], small[4] = {0};
    int32_t labels[10], few[4] = {0};
    struct subset a = {10, large, labels}, b = {4, small, few};
    char message[64];
    for (int i = 0; i < 10; i++)
        labels[i] = (int32_t)(large[i] = (uint32_t)(100 + 3 * i));
    CHECK(subset_balance(&b, &a, 1, message, sizeof message) == EXIT_OK);
    CHECK(a.count == 4 && b.count == 4);
    for (int i = 0; i < 4; i++)
        CHECK((int32_t)large[i] == labels[i] && (i == 0 || large[i] > large[i - 1]));
    b.count = 0;
    CHECK(subset_balance(&a, &b, 1, message, sizeof message) == EXIT_OK && a.count == 4);
}

int main(void)
{
    if (!CHECK(mkdtemp(folder) != NULL))
        return test_end();
    every_recipe();
    every_row();
    values();
    one_set();
    guesses();
    files();
    help();
    published_rates();
    stages();
    progress();
    lists();
    moments();
    cells();
    papers();
    balance();
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
