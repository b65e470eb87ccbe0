/* test_cli - the program as a user meets it: every command, its exit codes and messages, runs that
 * are killed and go on with the same bits, damaged files, missing devices, full disks */
#define _XOPEN_SOURCE 700
#include "data.h"
#include "exit_codes.h"
#include "osr.h"
#include "program.h"

#include <dirent.h>
#include <sys/stat.h>

/* What a small run is trained with; about a second. */
#define SMALL "train --data glyphs:240,100 --size 16 --batch 32 --seed 3"

/* EXPECT with shell text before. */
#define WITH(code, before, ...)                                                                    \
    expect(shell(before " \"$OSR_PROGRAM\" " __VA_ARGS__), code, __LINE__)
#define SAYS(text) says(text, __LINE__)

/* The last command ended with one line on stderr: an error that has this text in it. */
static void says(const char *text, int line)
{
    const char *end = strchr(err, '\n');
    if (!test_check(strncmp(err, "osr: error: ", 12) == 0 && end != NULL && end[1] == '\0'
                        && strstr(err, text) != NULL,
                    text, __FILE__, line))
        fprintf(stderr, "    %s:\n%.2000s", command, err);
}

static int lines(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- files ---- */

static char *read_bytes(const char *path, size_t *count)
{
    struct stat s;
    FILE *f = fopen(path, "rb");
    char *bytes = f != NULL && stat(path, &s) == 0 ? malloc((size_t)s.st_size + 1) : NULL;
    *count = bytes != NULL ? fread(bytes, 1, (size_t)s.st_size, f) : 0;
    if (f != NULL)
        fclose(f);
    CHECK(*count > 0);
    return bytes;
}

static void write_bytes(const char *path, const char *bytes, size_t count)
{
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL && fwrite(bytes, 1, count, f) == count && fclose(f) == 0);
}

/* Pictures PART/CLASS/N.png of the first classes of drawn glyphs, each `count` a class. */
static void write_pictures(const char *folder, int classes, int count)
{
    struct data data;
    char message[256], path[512];
    if (!CHECK(data_open("glyphs:240,100", 3, 0, 0, &data, message, sizeof message) == EXIT_OK))
        return;
    const struct data_set *set = &data.test;
    const size_t image = (size_t)set->width * (size_t)set->height * (size_t)set->channels;
    for (int c = 0; c < classes; c++) {
        int n = 0;
        snprintf(path, sizeof path, "mkdir -p %s/%s", folder, set->class_names[c]);
        CHECK(system(path) == 0);
        for (size_t i = 0; i < set->count && n < count; i++) {
            if (set->labels[i] != c)
                continue;
            snprintf(path, sizeof path, "%s/%s/%d.png", folder, set->class_names[c], n++);
            CHECK(image_write_grid(path, set->pixels + i * image, 1, set->width, set->height,
                                   set->channels, 1, message, sizeof message) == EXIT_OK);
        }
    }
    data_close(&data);
}

/* ---- the checks ---- */

static void usage(void)
{
    static const char *const commands[] = {"devices", "selftest", "train", "eval", "calibrate",
                                           "predict", "jacobian", "represent", "bench", "tune",
                                           "inspect", "import"};
    EXPECT(0, "help");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        CHECK(has(out, commands[i]));
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        EXPECT(0, "help %s", commands[i]);
        CHECK(has(out, commands[i]) && err[0] == '\0');
    }
    EXPECT(0, "--version");
    CHECK(strncmp(out, "osr 0.", 6) == 0);
    EXPECT(2, "");
    EXPECT(2, "trian");
    SAYS("did you mean 'train'?");
    EXPECT(2, "train --epoch 3");
    SAYS("did you mean 'epochs'?");
    EXPECT(2, "train --schedule cosin");
    SAYS("constant|step|cosine");
    EXPECT(2, "train --lr 0,1");
    SAYS("--lr wants a number");
    EXPECT(2, "train --lr nan");
    SAYS("--lr wants a number");
    EXPECT(2, "train --epochs 0");
    SAYS("--epochs wants");
    EXPECT(2, "train --method cax");
    SAYS("did you mean cac?");
    EXPECT(2, "train --method ce --score cac");
    SAYS("score cac needs distances to anchors, which method ce does not give");
    EXPECT(2, "train --augment crop:4,flop");
    SAYS("no augmentation is called 'flop', did you mean 'flip'?");
    EXPECT(2, "inspect");
    SAYS("inspect wants either FILE or --png");
    EXPECT(2, "predict base");
    SAYS("predict wants");
    EXPECT(2, "predict base x.png --threshold nan");
    SAYS("--threshold wants a number");
    EXPECT(2, "eval base --min-auroc 2");
    SAYS("--min-auroc wants");
}

/* Every op, whatever convolves. */
static void selftest(void)
{
    EXPECT(0, "selftest --quick --algorithm winograd");
    CHECK(has(out, "tape partial reads") && has(out, " 0 failed,") && err[0] == '\0');
    EXPECT(0, "selftest --quick --algorithm direct --json");
    CHECK(has(out, "\"failed\":0,") && has(out, "\"first_failure\":null") && err[0] == '\0');
    EXPECT(2, "selftest --op nosuch");
    SAYS("--op nosuch");
}

/* The run `base` of two epochs; the other checks read it. */
static void training(void)
{
    EXPECT(0, SMALL " --epochs 2 --out base");
    CHECK(has(out, "AUROC") && has(err, "epoch 2/2") && has(err, "seed 3"));
    CHECK(exists("base/config.ini") && exists("base/eval.json") && exists("base/scores.csv"));
    EXPECT(0, SMALL " --epochs 2 --out again --quiet");
    CHECK(err[0] == '\0' || !has(err, "epoch"));
    CHECK(same("base/model.safetensors", "again/model.safetensors"));
    CHECK(same("base/last.safetensors", "again/last.safetensors"));
    CHECK(same("base/scores.csv", "again/scores.csv"));
    CHECK(shell("cat base/metrics.jsonl") == 0 && lines(out) == 2);
    EXPECT(2, SMALL " --epochs 2 --out base");
    CHECK(has(err, "base holds a run already"));
    EXPECT(0, "train --resume again");
    CHECK(same("base/model.safetensors", "again/model.safetensors"));
    EXPECT(2, "train --resume again --lr 0.5");
    SAYS("lr");
    EXPECT(2, "train --resume again --augment flip");
    SAYS("augment");
    EXPECT(3, "train --resume nosuch");
    SAYS("nosuch: not a run");
}

static void evaluation(void)
{
    static const char *const keys[] = {
        "closed_accuracy", "auroc", "aupr_unknown", "aupr_known", "fpr95_known_pos",
        "fpr95_unknown_pos", "oscr", "dtacc", "macro_f1", "openness", "n_known", "n_unknown",
        "intervals", "level", "resamples", "confusion", "accepted", "score", "method", "net",
        "data", "split", "trial", "seed", "device", "version"};
    char key[64];
    EXPECT(0, "eval base --json");
    CHECK(err[0] == '\0' && out[0] == '{' && lines(out) == 1);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        snprintf(key, sizeof key, "\"%s\":", keys[i]);
        if (!CHECK(has(out, key)))
            fprintf(stderr, "    %s\n", key);
    }
    CHECK(has(out, "\"seed\":3") && has(out, "\"score\":\"cac\""));
    EXPECT(0, "eval base/model.safetensors --score all --json");
    CHECK(out[0] == '[' && has(out, "\"score\":\"msp\"") && has(out, "\"score\":\"cac\""));
    EXPECT(8, "eval base --min-auroc 1");
    SAYS("AUROC");
    EXPECT(2, "eval base --score nope");
    SAYS("no score is called \"nope\"");
    EXPECT(3, "eval base --data idx:nosuch");
    SAYS("nosuch");
    EXPECT(3, "eval nosuch");
    SAYS("nosuch: No such file");
    CHECK(shell("cp base/model.safetensors mine.safetensors") == 0);
    EXPECT(0, "calibrate mine.safetensors --data glyphs:240,100 --accept 0.5");
    CHECK(has(out, "accepts 50%"));
    CHECK(!same("base/model.safetensors", "mine.safetensors"));
    EXPECT(2, "calibrate mine.safetensors");
    SAYS("calibrate needs --data");
    EXPECT(0, "inspect base/model.safetensors");
    CHECK(has(out, "osr.method") && has(out, "the hash is right"));
    EXPECT(0, "inspect --png sheet.png --augment rotate:20,crop:4 --quiet");
    CHECK(out[0] == '\0' && err[0] == '\0' && exists("sheet.png"));
    EXPECT(6, "inspect --png nosuch/sheet.png");
    SAYS("nosuch/sheet.png");
    EXPECT(0, "devices --json");
    CHECK(has(out, "\"works\":true"));
}

/* The number behind "key": in the last output; -1 where there is none. */
static double figure(const char *key)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(out, wanted);
    return at == NULL || at[strlen(wanted)] == 'n' ? -1.0 : atof(at + strlen(wanted));
}

/* What the bench checks measure: as small as it gets. */
#define BENCH "bench --size 8 --batch 2 --steps 1"

/* Leaves its result, bench.json, and its choices, all.txt, for the next ones. */
static void bench(void)
{
    EXPECT(0, "bench --steps 1 --batch 2 --start once");
    CHECK(has(out, "s to the end of the first step"));
    EXPECT(0, BENCH " --augment flip,rotate:9 --json");
    CHECK(has(out, "\"augment\":\"flip,rotate:9\"") && has(out, "\"augment_share\":"));
    EXPECT(2, "bench --augment nosuch");
    CHECK(has(err, "nosuch"));
    EXPECT(0, "bench --size 8 --batch 2 --steps 2 --sweep --start both --tuning-out all.txt"
              " --json");
    CHECK(out[0] == '{' && has(out, "\"batch\":512,") && has(out, "\"tuning\":null"));
    CHECK(figure("latency_s") > 0.0 && figure("latency_s") < figure("first_step_s"));
    CHECK(figure("warm_start_s") > 0.0 && figure("warm_start_s") < figure("cold_start_s"));
    CHECK(figure("cold_starts") == 2.0 && figure("warm_starts") == 2.0);
    CHECK(figure("infer_timed_s") > 0.0 && figure("infer_timed_s") < figure("train_timed_s"));
    CHECK(figure("infer_share_of_peak") > 0.0);
    const double planned = figure("planned_device_bytes"), peak = figure("peak_device_bytes");
    CHECK(peak > 0.0 && planned > 0.99 * peak && planned < 1.01 * peak);
    write_bytes("bench.json", out, strlen(out));
}

static void bench_compared(void)
{
    size_t size;
    EXPECT(0, BENCH " --compare bench.json");
    CHECK(has(out, "ratio") && has(out, "latency_s") && !has(out, "cold_start_s"));
    EXPECT(0, BENCH " --sweep --compare bench.json --json");
    const char *last = strstr(out, "\"batch\":512,");
    if (CHECK(last != NULL))
        CHECK(has(last, "\"train_ratio\":") && !has(last, "\"train_ratio\":null")
              && has(last, "\"infer_ratio\":") && !has(last, "\"infer_ratio\":null"));
    CHECK(has(out, "\"then\":\"winograd\"") && !has(out, "\"then\":null"));
    EXPECT(3, "bench --steps 1 --size 8 --batch 3 --compare bench.json");
    SAYS("another batch: 2, now 3");
    EXPECT(3, BENCH " --kernels gpu --compare bench.json");
    SAYS("another kernels: \"cpu\", now \"gpu\"");
    EXPECT(3, BENCH " --compare nosuch");
    SAYS("--compare nosuch: No such file");
    char *text = read_bytes("bench.json", &size);
    text[size] = '\0';
    char *version = strstr(text, "\"version\":\"");
    if (CHECK(version != NULL)) {
        version[11] = '9';
        write_bytes("other.json", text, size);
        EXPECT(3, BENCH " --compare other.json");
        SAYS("another version");
    }
    free(text);
}

/* One convolution's forward pass forced by a file: layer 3 has a shape of its own. */
static void bench_tuning(void)
{
    static const char row[] = "\"op\":\"conv2d\",\"layer\":3,\"kind\":\"conv\",\"pass\":\"%s\","
                              "\"algorithm\":\"%s\"";
    char made[2][160];
    CHECK(shell("sed 's/^\\(2 8 8 64 64 .* forward\\) winograd$/\\1 direct/' all.txt >one.txt"
                " && test $(diff all.txt one.txt | grep -c '^>') = 1") == 0);
    for (int direct = 0; direct < 2; direct++) {
        snprintf(made[0], sizeof made[0], row, "forward", direct ? "direct" : "winograd");
        snprintf(made[1], sizeof made[1], row, "inference", direct ? "direct" : "winograd");
        EXPECT(0, BENCH " --json --tuning %s", direct ? "one.txt" : "all.txt");
        CHECK(has(out, made[0]) && has(out, made[1]));
        CHECK(has(out, direct ? "\"tuning\":\"one.txt\"" : "\"tuning\":\"all.txt\""));
        CHECK(figure("tuning_choices") > 9.0
              && figure("tuning_in_force") == figure("tuning_choices"));
    }
    EXPECT(0, BENCH " --tuning one.txt --compare bench.json");
    CHECK(has(out, "tuning     one.txt: "));
    CHECK(shell("\"$OSR_PROGRAM\" " BENCH " -q --tuning one.txt --compare bench.json"
                " | grep -Eq '^3 conv +conv2d +forward +direct .* winograd$'") == 0);
    CHECK(shell("sed 's/^[12] /4 /' all.txt >four.txt && true") == 0);
    EXPECT(0, BENCH " --json --tuning four.txt");
    CHECK(has(err, "four.txt: no choice in it is of this network, size and batch")
          && figure("tuning_in_force") < figure("tuning_choices"));
    CHECK(shell("sed 's/^2 8 8 64 64 .* forward winograd$/&-small/' all.txt >small.txt"
                " && true") == 0);
    EXPECT(0, BENCH " --tuning small.txt");
    CHECK(has(err, "not winograd-small there but winograd"));
    EXPECT(3, BENCH " --tuning bench.json");
    SAYS("bench.json: tuning: line 1 is no choice");
    EXPECT(3, BENCH " --tuning nosuch");
    SAYS("nosuch: No such file");
    EXPECT(2, BENCH " --tuning all.txt --tuned yes");
    SAYS("--tuning and --tuned yes exclude each other");
    EXPECT(2, BENCH " --tuning-out x.txt --algorithm direct");
    SAYS("--tuning-out and --algorithm direct exclude each other");
    EXPECT(6, BENCH " -q --tuning-out nosuch/x.txt");
    SAYS("nosuch/x.txt");
}

/* Every score by name, calibrated by train and by calibrate; intervals and confusion. */
static void scores(void)
{
    static const char *const calibrated[] = {"openmax", "ncm", "mahalanobis"};
    EXPECT(0, "eval base --score all --bootstrap 20 --confusion confusion.csv");
    CHECK(has(out, "20 resamples of the test images, seed 0") && has(out, "taken for"));
    for (size_t i = 0; i < 3; i++)
        CHECK(has(out, calibrated[i]));
    CHECK(has(out, "jacobian") && has(out, "sample_loss"));
    CHECK(same("confusion.csv", "base/confusion.csv"));
    EXPECT(0, "eval base --bootstrap 0 --json");
    CHECK(has(out, "\"resamples\":0") && has(out, "\"oscr\":[null,null]"));
    EXPECT(0, "eval base --bootstrap 20 --seed 7 --json");
    CHECK(has(out, "\"seed\":7"));
    EXPECT(2, "eval base --score msp --confusion x.csv");
    SAYS("--confusion: it is of the model's own score, at its threshold");
    EXPECT(6, "eval base --bootstrap 0 --confusion nosuch/x.csv");
    /* the checkpoint of the last epoch is as an older model: without what the scores read */
    CHECK(shell("cp base/last.safetensors older.safetensors") == 0);
    for (size_t i = 0; i < 3; i++) {
        EXPECT(2, "eval older.safetensors --score %s", calibrated[i]);
        SAYS("which the model does not hold: osr calibrate adds it");
    }
    EXPECT(2, "predict older.safetensors x.png --score openmax --threshold 1");
    SAYS("which the model does not hold: osr calibrate adds it");
    EXPECT(0, "eval older.safetensors --score all --json --bootstrap 1");
    CHECK(!has(out, "openmax") && has(out, "sample_loss"));
    EXPECT(0, "calibrate older.safetensors --data glyphs:240,100 --score openmax --json");
    CHECK(has(out, "\"calibrated\":true") && has(out, "\"score\":\"openmax\""));
    EXPECT(0, "eval older.safetensors --json");
    CHECK(has(out, "\"score\":\"openmax\"") && !has(out, "\"macro_f1\":null"));
    EXPECT(0, "calibrate older.safetensors --data glyphs:240,100 --score ncm --json");
    CHECK(has(out, "\"calibrated\":false"));
    EXPECT(0, "calibrate older.safetensors --data glyphs:240,100 --score sample_loss");
    EXPECT(2, "calibrate older.safetensors --data glyphs:240,100 --score movr");
    SAYS("score movr needs cosines to prototypes, which method cac does not give");
    EXPECT(0, SMALL " --epochs 1 --method difair --score mahalanobis --out far --bootstrap 0");
    CHECK(has(out, "mahalanobis") && !has(out, "openmax"));
    EXPECT(2, "eval far --score openmax");
    SAYS("score openmax needs logits, which method difair does not give");
}

/* The norm by exact derivatives and by central differences, over the same few images. */
static void jacobian(void)
{
    double mean[2] = {0.0, 0.0};
    for (int i = 0; i < 2; i++) {
        EXPECT(0, "jacobian base --limit 4 --json --step 0.002 --method %s", i ? "exact" : "fd");
        const char *at = strstr(out, "\"mean_known\":");
        if (CHECK(at != NULL && err[0] == '\0'))
            mean[i] = atof(at + 13);
        else
            fprintf(stderr, "    %s%s", out, err);
    }
    CHECK(mean[0] > 0.0 && fabs(mean[0] - mean[1]) < 0.05 * mean[1]);
}

static void prediction(void)
{
    write_pictures("pictures", 3, 2);
    EXPECT(0, "predict base pictures");
    CHECK(lines(out) == 6);
    EXPECT(0, "predict base/model.safetensors pictures --threshold -1e30 --json");
    CHECK(out[0] == '[' && has(out, "\"class\":\"unknown\"") && !has(out, "\"known\":true"));
    write_bytes("pictures/broken.png", "\x89PNG\r\n\x1a\nno picture", 18);
    EXPECT(3, "predict base pictures nosuch.png");
    CHECK(lines(out) == 6 && lines(err) == 2);
    CHECK(has(err, "pictures/broken.png") && has(err, "nosuch.png"));
    CHECK(shell("rm pictures/broken.png") == 0);
    EXPECT(0, "predict base pictures --score mahalanobis --threshold 1e9");
    CHECK(lines(out) == 6 && !has(out, "\tunknown"));
    EXPECT(0, "predict base pictures --score openmax --threshold -1e9 && \"$OSR_PROGRAM\" predict "
              "base pictures --score jacobian --threshold 0");
    CHECK(lines(out) == 6 && has(out, "\tunknown"));
    EXPECT(2, "predict base pictures --score msp");
    SAYS("give --threshold");
}

/* Every method, in two epochs at once and with a stop between them; the readings and weights that
 * an option chooses. */
static void methods(void)
{
    static const struct {
        const char *method, *options, *inspected; /* what the model file tells */
    } cases[] = {{"ce", "--smoothing 0.1", "osr.numbers"},
                 {"difair", "--correlation paper --features 2", "anchors"},
                 {"movr", "--rotation 0.1", "rotation.weight"},
                 {"ovr", "--rotation 0.2", "rotation.bias"},
                 {"center", "--lambda 0.01 --smoothing 0.1", "points"},
                 {"gcpl", "--smoothing 0.1", "points"},
                 {"rpl", "", "radius"},
                 {"arpl", "--rotation 0.1 --smoothing 0.1", "radius"}};
    EXPECT(2, "train --method ovr --smoothing 0.1 --data glyphs:60,10 --out refused");
    CHECK(has(err, "ovr: label smoothing 0.1"));
    EXPECT(2, "train --method ce --correlation both");
    SAYS("code|paper");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *m = cases[i].method;
        char run[512];
        snprintf(run, sizeof run, "train --data glyphs:120,40 --size 8 --batch 32 --seed 3 "
                 "--schedule constant --quiet --method %s %s", m, cases[i].options);
        EXPECT(0, "%s --epochs 2 --out m-%s", run, m);
        CHECK(has(out, osr_method_find(m)->score) && has(out, "macro-F1"));
        EXPECT(0, "%s --epochs 1 --out n-%s", run, m);
        EXPECT(0, "train --resume n-%s --epochs 2 --quiet", m);
        CHECK(shell("cmp m-%s/model.safetensors n-%s/model.safetensors", m, m) == 0);
        CHECK(shell("cmp m-%s/last.safetensors n-%s/last.safetensors", m, m) == 0);
        EXPECT(0, "eval m-%s --json", m);
        CHECK(has(out, "\"auroc\":0.") && has(out, m));
        EXPECT(0, "predict m-%s pictures/alu", m);
        CHECK(lines(out) == 2);
        EXPECT(0, "inspect m-%s", m);
        CHECK(has(out, cases[i].inspected));
    }
    EXPECT(0, "train --config m-difair/config.ini --correlation code --epochs 2 --out d-code");
    CHECK(!same("m-difair/last.safetensors", "d-code/last.safetensors"));
}

static void folders(void)
{
    write_pictures("folder/train", 4, 8);
    write_pictures("folder/test", 4, 2);
    EXPECT(0, "train --data folder:folder --known 0,1 --size 16 --batch 4 --epochs 1 --out mine");
    EXPECT(0, "eval mine --json");
    CHECK(has(out, "\"n_known\":4") && has(out, "\"n_unknown\":4"));
    CHECK(shell("for i in folder/train/*/1.png; do truncate -s 50 $i; done") == 0);
    EXPECT(3, "train --data folder:folder --known 0,1 --epochs 1 --out broken");
    SAYS("/1.png");
    CHECK(!exists("broken/config.ini"));
}

/* ---- stopped and killed runs ---- */

#define LONGER                                                                                     \
    SMALL " --epochs 5 --select best --augment randaugment:2:9,rrc:0.5,crop:2:batch,flip,rotate:10"
enum { MOST_KILLS = 6 }; /* of one run */

/* A signal after the first epoch: a checkpoint, from which the run ends as one never stopped. */
static void interrupted(int number, int code)
{
    const pid_t child = start(LONGER " --out stopped");
    if (CHECK(wait_for("stopped/metrics.jsonl", child))) {
        EXPECT(2, "train --resume stopped");
        SAYS("another process is writing to this run");
        EXPECT(2, LONGER " --out stopped");
        CHECK(has(err, "another process is writing to this run"));
    }
    kill(child, number);
    expect(finish(child), code, __LINE__);
    EXPECT(0, "inspect stopped/last.safetensors");
    write_bytes("stopped/last.safetensors.tmp.999999999.0", "left by a killed process", 24);
    write_bytes("stopped/.eval.json.tmp.999999999", "and this", 8);
    EXPECT(0, "train --resume stopped --quiet");
    CHECK(shell("ls -A stopped") == 0 && !has(out, "tmp"));
    CHECK(same("stopped/model.safetensors", "whole/model.safetensors"));
    CHECK(same("stopped/eval.json", "whole/eval.json"));
    CHECK(shell("rm -r stopped") == 0);
}

/* Killed at random times until it ends; each time what is on disk has to be good. Returns the
 * number of kills. */
static int killed(uint64_t *random, double longest)
{
    for (int kills = 0;; kills++) {
        const int resume = exists("killed/config.ini");
        const double until = now() + longest * test_uniform(random);
        const pid_t child = start(resume ? "train --resume killed" : LONGER " --out killed");
        while (runs(child) && (kills == MOST_KILLS || now() < until))
            pause_for(0.002);
        kill(child, SIGKILL);
        const int code = finish(child);
        if (code != 128 + SIGKILL) {
            expect(code, 0, __LINE__);
            return kills;
        }
        if (exists("killed/config.ini"))
            EXPECT(0, "inspect killed/last.safetensors");
    }
}

static void stopping(void)
{
    uint64_t random = test_seed();
    int kills = 0;
    const double began = now();
    EXPECT(0, LONGER " --out whole --quiet");
    const double longest = now() - began;
    interrupted(SIGINT, 130);
    interrupted(SIGTERM, 143);
    for (int i = 0; i < 2; i++) {
        kills += killed(&random, 0.6 * longest);
        CHECK(same("killed/model.safetensors", "whole/model.safetensors"));
        CHECK(same("killed/last.safetensors", "whole/last.safetensors"));
        CHECK(shell("rm -r killed") == 0);
    }
    printf("%d runs killed\n", kills);
    CHECK(kills > 0);
}

/* ---- damage ---- */

/* Is byte `at` within the name of the hash's key? Without it a file counts as another tool's. */
static int in_hash_key(const char *bytes, size_t count, size_t at)
{
    for (size_t i = 0; i + 9 <= count && i <= at; i++)
        if (at - i < 9 && memcmp(bytes + i, "osr.xxh64", 9) == 0)
            return 1;
    return 0;
}

static void damaged(void)
{
    uint64_t random = test_seed();
    size_t count, header;
    char *bytes = read_bytes("base/last.safetensors", &count);
    CHECK(shell("cp -r base broken-run && cp base/last.safetensors good") == 0);
    const size_t cuts[] = {0, 7, 8, 100, count / 2, count - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        write_bytes("cut.safetensors", bytes, cuts[i]);
        EXPECT(3, "inspect cut.safetensors");
        SAYS("cut.safetensors");
    }
    EXPECT(3, "eval cut.safetensors");
    SAYS("cut.safetensors");
    EXPECT(3, "predict cut.safetensors pictures");
    SAYS("cut.safetensors");
    header = 8 + ((size_t)(unsigned char)bytes[1] << 8 | (unsigned char)bytes[0]);
    for (int i = 0; i < 40; i++) {
        const size_t at = (size_t)(test_random(&random) % (i % 2 ? header : count));
        if (in_hash_key(bytes, count < header ? count : header, at))
            continue;
        bytes[at] = (char)(bytes[at] ^ 1 << (i % 8));
        write_bytes("flip.safetensors", bytes, count);
        EXPECT(3, "inspect flip.safetensors");
        SAYS("flip.safetensors");
        bytes[at] = (char)(bytes[at] ^ 1 << (i % 8));
    }
    CHECK(shell("cp flip.safetensors broken-run/last.safetensors") == 0);
    EXPECT(3, "train --resume broken-run --epochs 3");
    CHECK(has(err, "broken-run/last.safetensors"));
    CHECK(same("flip.safetensors", "broken-run/last.safetensors"));
    CHECK(shell("rm broken-run/last.safetensors") == 0);
    EXPECT(3, "train --resume broken-run --epochs 3");
    CHECK(has(err, "broken-run/last.safetensors: No such file"));
    CHECK(same("base/model.safetensors", "broken-run/model.safetensors"));
    CHECK(shell("cp good broken-run/last.safetensors") == 0);
    EXPECT(0, "train --resume broken-run --epochs 3 --quiet");
    free(bytes);
}

/* ---- the machine ---- */

static void devices(void)
{
    EXPECT(4, "eval base --device nope");
    SAYS("no OpenCL device matches \"nope\"");
    CHECK(mkdir("no-drivers", 0777) == 0);
    WITH(4, "OCL_ICD_VENDORS=$PWD/no-drivers", "eval base");
    SAYS("install a driver");
    WITH(4, "OCL_ICD_VENDORS=$PWD/no-drivers", "devices");
    CHECK(has(err, "no-drivers"));
    WITH(4, "POCL_CACHE_DIR=$PWD/base/config.ini/cache", "eval base");
    SAYS("cache directory (POCL_CACHE_DIR");
    WITH(4, "POCL_CACHE_DIR=$PWD/base/config.ini/cache", "devices");
    CHECK(has(err, "config.ini/cache cannot be written"));
}

static void full_disks(void)
{
    const char *const loss[] = {"eval base", "eval base --json", "predict base pictures/alu",
                                "inspect base/model.safetensors", "help train", "devices"};
    for (size_t i = 0; i < sizeof loss / sizeof loss[0] && exists("/dev/full"); i++) {
        CHECK(shell("(\"$OSR_PROGRAM\" %s >/dev/full)", loss[i]) == 6);
        SAYS("standard output: ");
    }
    /* A limit on the size of files, in blocks of 512 bytes: no checkpoint fits. */
    WITH(6, "ulimit -f 9000; exec", SMALL " --epochs 2 --out limited");
    CHECK(has(err, "limited/last.safetensors") && has(err, "epoch 2/2"));
    CHECK(!exists("limited/last.safetensors"));
    /* A disk on which one checkpoint and the model fit, but not two checkpoints. */
    CHECK(mkdir("disk", 0777) == 0);
    if (shell("unshare -rm mount -t tmpfs none disk") != 0) {
        printf("no name space of its own for a small disk: that check is left out\n");
        return;
    }
    expect(shell("unshare -rm sh -c 'mount -t tmpfs -o size=13m none disk && \"$OSR_PROGRAM\" "
                 SMALL " --epochs 3 --select best --out disk/run; code=$?;"
                 "cp disk/run/last.safetensors small.safetensors; ls -A disk/run; exit $code'"),
           6, __LINE__);
    CHECK(has(err, "No space left on device") && has(err, "epoch 3/3") && !has(out, "tmp"));
    EXPECT(0, "inspect small.safetensors");
    CHECK(has(out, "the hash is right"));
}

static void divergence(void)
{
    EXPECT(7, SMALL " --epochs 3 --lr 1000 --out diverged");
    CHECK(has(err, "training diverged"));
    EXPECT(0, "inspect diverged/last.safetensors");
    EXPECT(7, SMALL " --epochs 3 --val 0 --lr 1000 --out diverged2");
    CHECK(has(err, "training diverged"));
    EXPECT(0, "inspect diverged2/last.safetensors");
}

/* Another network from training to the file, variants of the head, and what does not go together.
 * test_import has osr import. */
static void networks(void)
{
    EXPECT(0, SMALL " --network wrn-16-4 --epochs 1 --dropout 0.1 --out wide");
    EXPECT(0, "inspect wide/model.safetensors");
    CHECK(has(out, "wrn-16-4") && has(out, "2747574 parameters")); /* grey, 6 classes */
    EXPECT(0, "eval wide --json");
    CHECK(has(out, "wrn-16-4"));
    EXPECT(0, "calibrate wide/model.safetensors --data glyphs:240,100");
    EXPECT(0, SMALL " --method ce --head pool --head-bias no --epochs 1 --out pooled");
    EXPECT(0, "inspect pooled");
    CHECK(has(out, "[6, 128]") && !has(out, ".linear.bias"));
    EXPECT(0, "bench --network resnet-18 --size 8 --steps 1 --batch 2 --json");
    CHECK(has(out, "resnet-18"));
    EXPECT(2, SMALL " --network wrn");
    SAYS("no network is called \"wrn\"");
    EXPECT(2, "bench --network resnet-1");
    SAYS("no network is called \"resnet-1\"; did you mean resnet-18?");
    EXPECT(2, SMALL " --network wrn-16-4 --dropout-place after");
    SAYS("--dropout-place is for vgg32");
    EXPECT(2, SMALL " --network resnet-18 --head flatten");
    SAYS("--head flatten is for vgg32");
    EXPECT(2, SMALL " --method difair --head pool");
    SAYS("method difair has a head of its own");
}

/* calibrate --anchors: the same from all training images, whatever the anchors were before. */
static void anchors(void)
{
    CHECK(shell("cp base/model.safetensors a && cp base/model.safetensors b") == 0);
    EXPECT(0, "calibrate a --data glyphs:240,100");
    EXPECT(0, "calibrate b --data glyphs:240,100 --anchors");
    CHECK(!same("a", "b"));
    EXPECT(0, "calibrate a --data glyphs:240,100 --anchors");
    CHECK(same("a", "b"));
    EXPECT(2, "calibrate pooled/model.safetensors --data glyphs:240,100 --anchors");
    SAYS("method ce has no anchors to calibrate");
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"usage", usage}, {"selftest", selftest}, {"training", training},
                 {"evaluation", evaluation}, {"scores", scores}, {"bench", bench},
                 {"bench_compared", bench_compared}, {"bench_tuning", bench_tuning},
                 {"jacobian", jacobian}, {"prediction", prediction}, {"methods", methods},
                 {"folders", folders}, {"networks", networks}, {"anchors", anchors},
                 {"stopping", stopping}, {"damaged", damaged}, {"devices", devices},
                 {"full_disks", full_disks}, {"divergence", divergence}};
    char work[] = "/tmp/osr-cli-XXXXXX";
    if (getenv("OSR_PROGRAM") == NULL)
        return test_skip("OSR_PROGRAM does not name the program");
    /* Looking for leaks at exit now and then crashes in LeakSanitizer itself, while PoCL's threads
     * end; the tests of the library look for them. */
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
    if (!CHECK(mkdtemp(work) != NULL && chdir(work) == 0))
        return test_end();
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const int before = test_failures;
        const double began = now();
        parts[i].run();
        printf("%s %s: %.1f s\n", test_failures == before ? "passed" : "failed", parts[i].name,
               now() - began);
        fflush(stdout);
    }
    CHECK(chdir("/") == 0);
    snprintf(command, sizeof command, "rm -r %s", work);
    CHECK(system(command) == 0);
    return test_end();
}
