/* test_protocol - osr protocol and what its recipes add to osr train, as a user meets them: a grid
 * that is stopped and goes on, its table against means taken here, grids that are refused */
#define _XOPEN_SOURCE 700
#include "data.h"
#include "exit_codes.h"
#include "program.h"

#define IMAGES "--data glyphs:240,100 --size 16 --batch 32"
#define GRID                                                                                       \
    "protocol " IMAGES " --split neal --split-set mnist --methods ce,cac --trials 0-1 --epochs 1"

static char text[TEXT]; /* of a file */

#define SAYS(part) says(err, part, __LINE__)
#define SHOWS(part) says(out, part, __LINE__)

static void says(const char *where, const char *part, int line)
{
    if (!test_check(strstr(where, part) != NULL, part, __FILE__, line))
        fprintf(stderr, "    %s:\n%.2000s", command, where);
}

/* The number behind "key": in the last output. */
static double figure(const char *key)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(out, wanted);
    return CHECK(at != NULL) ? atof(at + strlen(wanted)) : NAN;
}

/* ---- grids ---- */

static void refusals(void)
{
    EXPECT(2, "protocol");
    SAYS("protocol wants --methods");
    EXPECT(2, "protocol --methods ce,cax --out none");
    SAYS("no method is called \"cax\"; did you mean cac?");
    EXPECT(2, "protocol --methods ce,ce --out none");
    SAYS("method ce is named twice");
    EXPECT(2, "protocol --methods ce --split neal --trials 0,5 --out none");
    SAYS("no trial '5'; they go from 0 to 4");
    EXPECT(2, "protocol --methods ce --trials 0 --out none");
    SAYS("--split, which is not given");
    EXPECT(2, "protocol --methods ce --recipe vase --out none");
    SAYS("did you mean vaze?");
    EXPECT(2, "protocol --methods ce,difair --score mls --out none");
    SAYS("which method difair does not give");
    EXPECT(2, "protocol --methods ce --augment crop:x --out none");
    SAYS("crop");
    EXPECT(2, "train --epochs 2 --iterations 9 --out none");
    SAYS("exclude each other");
    EXPECT(2, "protocol --methods ce --data cifar10:x --unknown cifar100:y --split arpl "
              "--out none");
    SAYS("--split-set cifar+10 or cifar+50");
    EXPECT(2, "protocol --methods ce,cac --smoothing 0.1 --out none");
    SAYS("cac: label smoothing 0.1");
    EXPECT(2, "protocol --methods ce,cac --margin 0.1 --out none");
    SAYS("method ce (nor another of --methods) has no margin: leave out --margin");
    EXPECT(2, "train --method movr --features 4 --out none");
    SAYS("method movr has no features: leave out --features");
    CHECK(!exists("none"));
    EXPECT(0, "help protocol");
    SHOWS("--methods");
    EXPECT(0, "help recipes");
    SHOWS("randaugment:1:6,crop:4,flip");
}

/* A signal while the second cell is trained: what is there stays, and the same command ends with
 * what a grid that was never stopped has. */
static void stopped(void)
{
    EXPECT(0, GRID " --out whole");
    SHOWS("4 of 4 cells done");
    const pid_t child = start(GRID " --out parts");
    wait_for("parts/cac-trial0-seed0/config.ini", child);
    EXPECT(2, GRID " --out parts");
    SAYS("another process is writing to this run");
    kill(child, SIGINT);
    expect(finish(child), 130, __LINE__);
    CHECK(exists("parts/ce-trial0-seed0/figures.csv") && exists("parts/table.md"));
    CHECK(!exists("parts/cac-trial0-seed0/figures.csv") && !exists("parts/ce-trial1-seed0"));
    EXPECT(0, GRID " --out parts");
    SAYS("1 of 4 cells are done already");
    CHECK(same("whole/table.csv", "parts/table.csv") && same("whole/cells.csv", "parts/cells.csv"));
    CHECK(same("whole/cac-trial0-seed0/model.safetensors",
               "parts/cac-trial0-seed0/model.safetensors"));
    EXPECT(0, GRID " --out parts --json");
    SAYS("4 of 4 cells are done already");
    CHECK(strstr(err, "known classes") == NULL && out[0] == '{');
    CHECK(figure("cells_done") == 4.0);
}

/* One row of the table against osr eval on the runs of its cells. */
static void table(void)
{
    double auroc[2] = {0.0, 0.0}, oscr[2] = {0.0, 0.0};
    for (int i = 0; i < 2; i++) {
        EXPECT(0, "eval whole/cac-trial%d-seed0 --json --bootstrap 0", i);
        auroc[i] = figure("auroc");
        oscr[i] = figure("oscr");
    }
    CHECK(fabs(auroc[0] - auroc[1]) > 0.0);
    EXPECT(0, GRID " --out whole --methods cac --json");
    CHECK_NEAR(figure("cells_planned"), 2.0, 0.0);
    CHECK_NEAR(figure("auroc"), (auroc[0] + auroc[1]) / 2.0, 1e-8);
    CHECK_NEAR(figure("auroc_sd"), fabs(auroc[0] - auroc[1]) / sqrt(2.0), 1e-8);
    CHECK_NEAR(figure("oscr"), (oscr[0] + oscr[1]) / 2.0, 1e-8);
    EXPECT(0, GRID " --out whole");
    SHOWS("These data are none that published figures are of");
    slurp("whole/table.md", text);
    says(text, "| cac | cac | 2 |", __LINE__);
    says(text, "- ce: network vgg32, size 16, epochs 1, batch 32", __LINE__);
}

static void another(void)
{
    EXPECT(2, GRID " --out whole --epochs 2 --lr 0.5");
    SAYS("whole holds another grid: epochs (1 there, 2 here), lr (unset there, 0.5 here)");
    EXPECT(2, GRID " --out whole/ce-trial0-seed0");
    SAYS("holds a run already");
    EXPECT(0, "protocol --config whole/grid.ini --out whole");
    SAYS("4 of 4 cells are done already");
    EXPECT(0, GRID " --out whole --methods ce --trials 1");
    SHOWS("1 of 1 cells done");
}

/* A grid of which nothing has run yet does not keep its directory from the right command. */
static void mistaken(void)
{
    EXPECT(3, "protocol --data idx:nosuch --methods ce --epochs 1 --out typo");
    SAYS("nosuch");
    EXPECT(2, "protocol " IMAGES " --known 0,1 --split neal --methods ce --epochs 1 --out typo");
    SAYS("--known and --split exclude each other");
    EXPECT(0, "protocol " IMAGES " --known 0,1 --methods ce --seeds 1,4 --epochs 1 --out typo");
    SHOWS("seeds 1, 4: 2 of 2 cells done");
    CHECK(exists("typo/ce-seed4/figures.csv"));
}

static void diverged(void)
{
    EXPECT(7, "protocol " IMAGES " --methods ce,cac --epochs 2 --lr 1000 --out wild");
    SAYS("wild/ce-seed0 diverged");
    SAYS("wild/cac-seed0 diverged");
    SHOWS("0 of 2 cells done, 2 diverged");
    slurp("wild/cells.csv", text);
    says(text, "cac,-1,0,diverged,", __LINE__);
    EXPECT(7, "protocol " IMAGES " --methods ce,cac --epochs 2 --lr 1000 --out wild");
    SAYS("2 of 2 cells are done already");
    CHECK(strstr(err, "training diverged") == NULL);
}

/* Blocks of 512 bytes: no checkpoint fits. With room the same command starts that cell again. */
static void full_disk(void)
{
    const char *grid = "protocol " IMAGES " --methods ce --epochs 1 --out small";
    expect(shell("ulimit -f 4000; exec \"$OSR_PROGRAM\" %s", grid), 6, __LINE__);
    SAYS("last.safetensors");
    CHECK(!exists("small/ce-seed0/figures.csv"));
    EXPECT(0, "%s", grid);
    SHOWS("1 of 1 cells done");
}

/* digits-mnist/{train,test}/DIGIT/N.png: drawn glyphs under the names of digits. */
static void write_digits(void)
{
    struct data data;
    char message[256], path[256];
    int count[2][10] = {{0}};
    if (!CHECK(data_open("glyphs:240,100", 3, 0, 0, &data, message, sizeof message) == EXIT_OK))
        return;
    CHECK(shell("for i in 0 1 2 3 4 5 6 7 8 9; do mkdir -p digits-mnist/train/$i "
                "digits-mnist/test/$i; done") == 0);
    const struct data_set *set = &data.train;
    const size_t image = (size_t)set->width * (size_t)set->height * (size_t)set->channels;
    for (size_t i = 0; i < set->count; i++) {
        const int c = set->labels[i], test = count[0][c] == 4;
        if (count[test][c] == 4)
            continue;
        snprintf(path, sizeof path, "digits-mnist/%s/%d/%d.png", test ? "test" : "train", c,
                 count[test][c]++);
        CHECK(image_write_grid(path, set->pixels + i * image, 1, set->width, set->height,
                               set->channels, 1, message, sizeof message) == EXIT_OK);
    }
    data_close(&data);
}

/* Figures of papers, only beside data that they are of; what differs is named. */
static void papers(void)
{
    write_digits();
    EXPECT(0, "protocol --data folder:digits-mnist --size 16 --split neal --trials 0 --methods cac "
              "--recipe cac --epochs 1 --batch 8 --out beside");
    SHOWS("Miller et al., WACV 2021 (CAC) [1]");
    SHOWS("99.11");
    SHOWS("epochs 1, not 70; batch 8, not 128");
    SHOWS("1 trial, not 5");
    CHECK(strstr(out, "JPEG") == NULL);
    char *end = strstr(out, "[1] Miller");
    if (CHECK(end != NULL && strchr(end, '\n') != NULL)) {
        *strchr(end, '\n') = '\0';
        CHECK(strstr(end, "augment") == NULL && strstr(end, "weight-decay") == NULL);
    }
    slurp("beside/table.csv", text);
    says(text, "\"Miller et al., WACV 2021 (CAC)\",cac,cac,5,0,0.998,,0.985,", __LINE__);
    CHECK(strstr(end, "constants of theirs") != NULL && strstr(end, "flipped") == NULL);
    EXPECT(0, "protocol --data folder:digits-mnist --unknown glyphs:240,100 --size 16 --split neal "
              "--trials 0 --methods cac --recipe cac --epochs 1 --batch 8 --out foreign");
    SHOWS("; unknown images of glyphs:240,100, not the set's own classes");
    /* the pictures are looked at, not their names */
    CHECK(shell("for f in digits-mnist/train/*/*.png; do printf '\\377\\330' >$f; done") == 0);
    EXPECT(0, "protocol --config beside/grid.ini --out beside");
    SHOWS("images from JPEG files, not the original pixels");
}

/* ---- what recipes need of osr train ---- */

#define PLAIN "train " IMAGES " --bootstrap 0 --quiet --json --epochs 3 --lr 0.01 "
#define STAGES "--second-stage 0.34 --second-lr 0.01 --select last "

/* A second stage with the same rate: without momentum nothing changes, with momentum it does. */
static void stages(void)
{
    EXPECT(0, "train " IMAGES " --epochs 4 --second-stage 0.5 --select best --out two");
    SAYS("second stage: learning rate 0.001");
    slurp("two/metrics.jsonl", text);
    says(text, "\"epoch\":2,\"step\":8,\"lr\":0.00999999978,", __LINE__);
    says(text, "\"epoch\":3,\"step\":12,\"lr\":0.00100000005,", __LINE__);
    EXPECT(0, PLAIN "--momentum 0 --out a");
    EXPECT(0, PLAIN "--momentum 0 " STAGES "--out b");
    CHECK(same("a/model.safetensors", "b/model.safetensors"));
    EXPECT(0, PLAIN "--out c");
    EXPECT(0, PLAIN STAGES "--out d");
    CHECK(exists("c/model.safetensors") && !same("c/model.safetensors", "d/model.safetensors"));
}

static void settings(void)
{
    EXPECT(0, "train " IMAGES " --iterations 6 --bootstrap 0 --out six");
    slurp("six/metrics.jsonl", text);
    says(text, "\"epoch\":1,\"step\":4,", __LINE__);
    says(text, "\"epoch\":2,\"step\":6,", __LINE__);
    CHECK(strstr(text, "\"epoch\":3") == NULL);
    EXPECT(0, "eval six --json --bootstrap 0");
    CHECK(figure("n_known") == 60.0 && figure("n_unknown") == 40.0);
    EXPECT(0, "eval six --json --bootstrap 0 --test-set balanced");
    CHECK(figure("n_known") == 40.0 && figure("n_unknown") == 40.0);
    EXPECT(0, "train " IMAGES " --epochs 1 --bootstrap 0 --seed 5 --test-set balanced --out equal");
    slurp("equal/eval.json", out);
    const double auroc = figure("auroc");
    EXPECT(0, "eval equal --json --bootstrap 0 --score all"); /* as eval.json has them */
    CHECK(figure("n_known") == figure("n_unknown"));
    CHECK_NEAR(figure("auroc"), auroc, 1e-12);
    EXPECT(0, "eval equal --json --bootstrap 0 --test-set full");
    CHECK(figure("n_known") == 60.0 && figure("n_unknown") == 40.0);
    EXPECT(0, "eval equal --json --bootstrap 0 --data glyphs:240,100");
    CHECK(figure("n_known") == 60.0 && figure("n_unknown") == 40.0);
    EXPECT(0, "protocol " IMAGES " --methods ce,cac --alpha 8 --epochs 1 --out alpha");
    slurp("alpha/cac-seed0/config.ini", text);
    says(text, "alpha = 8\n", __LINE__);
    EXPECT(0, "train --recipe quick " IMAGES " --epochs 1 --mean 0.25 --std 0.5 --out quick");
    SAYS("recipe quick for other data");
    slurp("quick/config.ini", text);
    says(text, "schedule = cosine\n", __LINE__);
    says(text, "epochs = 1\n", __LINE__);
    says(text, "mean = 0.25\n", __LINE__);
    EXPECT(0, "inspect quick/model.safetensors");
    SHOWS("0.25");
    EXPECT(2, "train " IMAGES " --mean 0.5,0.5 --out bad");
    SAYS("--mean: 1 numbers by commas are needed");
    EXPECT(2, "train " IMAGES " --std 0 --out bad");
    SAYS("--std");
    CHECK(!exists("bad"));
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"refusals", refusals}, {"stopped", stopped}, {"table", table},
                 {"another", another}, {"mistaken", mistaken}, {"diverged", diverged},
                 {"full_disk", full_disk}, {"papers", papers}, {"stages", stages},
                 {"settings", settings}};
    char work[] = "/tmp/osr-protocol-XXXXXX";
    if (getenv("OSR_PROGRAM") == NULL)
        return test_skip("OSR_PROGRAM does not name the program");
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
    if (!CHECK(mkdtemp(work) != NULL && chdir(work) == 0))
        return test_end();
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const int before = test_failures;
        parts[i].run();
        printf("%s %s\n", test_failures == before ? "passed" : "failed", parts[i].name);
        fflush(stdout);
    }
    CHECK(chdir("/") == 0);
    snprintf(command, sizeof command, "rm -r %s", work);
    CHECK(system(command) == 0);
    return test_end();
}
