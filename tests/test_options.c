/* test_options.c - the option table, its four sources, output and the run directory. */
#define _POSIX_C_SOURCE 200809L

#include "test.h"

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_codes.h"
#include "options.h"
#include "output.h"
#include "progress.h"
#include "run_dir.h"
#include "signals.h"

static char folder[256];

/* Reads a command line given as one string with blanks. The words live until the next call. */
static int read_line(struct options *o, const char *line)
{
    static char copy[4096];
    static char *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "osr %s", line);
    for (char *word = strtok(copy, " "); word && argc < 63; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return options_read(o, argc, argv);
}

/* The code of a command line, and whether its message holds a text. */
static void expect(const char *line, int code, const char *text)
{
    struct options o;
    int got = read_line(&o, line);
    if (!CHECK(got == code) || !CHECK(strstr(o.message, text) != NULL))
        fprintf(stderr, "    osr %s: %d '%s'\n", line, got, o.message);
    CHECK(strchr(o.message, '\n') == NULL);
    options_free(&o);
}

static void test_table(void)
{
    struct options o;
    for (int i = 0; i < option_count; i++) {
        const struct option_row *row = &option_table[i];
        CHECK(row->help && strlen(row->help) > 3 && row->commands != 0);
        CHECK(row->type != OPTION_CHOICE || strchr(row->range, '|') != NULL);
        CHECK(strlen(row->key) <= 16);
        for (int j = 0; j < i; j++) /* one meaning of a key and a letter for each command */
            if (option_table[j].commands & row->commands) {
                CHECK(strcmp(option_table[j].key, row->key) != 0);
                CHECK(!row->letter || option_table[j].letter != row->letter);
            }
    }
    for (int c = 0; c < COMMAND_COUNT; c++) {
        char line[128];
        snprintf(line, sizeof line, "%s%s", command_table[c].name,
                 command_table[c].operand_min == 0 ? "" :
                 command_table[c].operand_min == 1 ? " a" : " a b");
        CHECK(read_line(&o, line) == EXIT_OK);
        CHECK((int)o.command == c && o.operand_count == command_table[c].operand_min);
        options_free(&o);
    }
}

static void test_flags(void)
{
    struct options o;
    CHECK(read_line(&o, "train --lr 0.25 --epochs=7 --data idx:/x -q --optimiser adam --json") ==
          EXIT_OK);
    CHECK(option_real(&o, "lr") == 0.25 && option_int(&o, "epochs") == 7);
    CHECK(strcmp(option_text(&o, "data"), "idx:/x") == 0);
    CHECK(option_flag(&o, "quiet") && option_flag(&o, "json") && !option_flag(&o, "verbose"));
    CHECK(option_choice(&o, "optimiser") == 1 && option_choice(&o, "decay") == -1);
    CHECK(option_given(&o, "lr") && !option_given(&o, "momentum") && !option_set(&o, "momentum"));
    CHECK(option_set(&o, "batch") && !option_given(&o, "batch"));
    CHECK(option_preset_real(&o, "lr", 9) == 0 && option_real(&o, "lr") == 0.25);
    CHECK(option_preset_real(&o, "momentum", 0.9) == 0 && option_real(&o, "momentum") == 0.9);
    CHECK(!option_given(&o, "momentum") && option_set(&o, "momentum"));
    CHECK(option_preset(&o, "alpha", "-1") == EXIT_USAGE);
    options_free(&o);
    CHECK(read_line(&o, "jacobian --method exact run") == 0 && option_choice(&o, "method") == 1);
    CHECK(o.operand_count == 1 && strcmp(o.operands[0], "run") == 0);
    options_free(&o);
    CHECK(read_line(&o, "predict m --threshold -1.5e-3 -- -a.png -b.png") == 0);
    CHECK(option_real(&o, "threshold") == -1.5e-3 && o.operand_count == 3);
    options_free(&o);
    CHECK(read_line(&o, "train --seed 9223372036854775807") == 0);
    CHECK(option_int(&o, "seed") == INT64_MAX);
    options_free(&o);
    CHECK(read_line(&o, "help train") == 0 && o.action == ACTION_COMMAND_HELP);
    options_free(&o);
    CHECK(read_line(&o, "eval -h") == 0 && o.action == ACTION_COMMAND_HELP);
    options_free(&o);
    CHECK(read_line(&o, "--version") == 0 && o.action == ACTION_VERSION);
    options_free(&o);
}

static void test_refusals(void)
{
    static const char *const numbers[] = {"0,1", "1x", "0x1", "nan", "inf", "1e", "e5", ".", "-",
                                          "+", "1e400", "--1", "1.2.3"};
    char line[128];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(line, sizeof line, "train --lr=%s", numbers[i]);
        expect(line, EXIT_USAGE, "--lr wants a number");
    }
    expect("train --lr 0", EXIT_USAGE, "(0,1000]");
    expect("train --dropout 1", EXIT_USAGE, "[0,1)");
    expect("train --dropout 0.999", EXIT_OK, "");
    expect("train --trial 5", EXIT_USAGE, "[0,4]");
    expect("train --seed -1", EXIT_USAGE, "[0,]");
    expect("train --seed 9223372036854775808", EXIT_USAGE, "whole number");
    expect("train --epochs 1.5", EXIT_USAGE, "whole number");
    expect("train --lr=", EXIT_USAGE, "a number");
    expect("train --lr", EXIT_USAGE, "--lr wants a value");
    expect("train --out --lr 1", EXIT_USAGE, "--out wants a value");
    expect("train --json=maybe", EXIT_USAGE, "true or false");
    expect("train --optimiser rmsprop", EXIT_USAGE, "sgd|adam");
    expect("train --optimiser sgd|adam", EXIT_USAGE, "sgd|adam");
    expect("train --epoch 3", EXIT_USAGE, "did you mean 'epochs'?");
    expect("train --wieght-decay 3", EXIT_USAGE, "did you mean 'weight-decay'?");
    expect("train --zebra 3", EXIT_USAGE, "osr help train");
    expect("train -z", EXIT_USAGE, "unknown option");
    expect("train extra", EXIT_USAGE, "unexpected 'extra'");
    expect("devices --lr 1", EXIT_USAGE, "unknown option 'lr'");
    expect("trian", EXIT_USAGE, "did you mean 'train'?");
    expect("xyzzy", EXIT_USAGE, "unknown command");
    expect("-q train", EXIT_USAGE, "a command comes first");
    expect("", EXIT_USAGE, "no command");
    expect("help trian", EXIT_USAGE, "did you mean 'train'?");
    expect("predict m", EXIT_USAGE, "MODEL IMAGE|DIR...");
    expect("eval", EXIT_USAGE, "RUN|MODEL");
}

static const char *write_file(const char *name, const char *text)
{
    static char path[400];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "wb");
    if (!CHECK(file != NULL))
        return path;
    fputs(text, file);
    fclose(file);
    return path;
}

static void expect_ini(const char *text, int code, const char *wanted)
{
    char line[512];
    snprintf(line, sizeof line, "train --config %s", write_file("bad.ini", text));
    expect(line, code, wanted);
}

static void test_precedence(void)
{
    struct options o;
    char line[512];
    const char *path = write_file("a.ini", "# comment\nlr = 0.1\nepochs=3\nbatch = 16 ; more\n"
                                           "directions = 4\n");
    snprintf(line, sizeof line, "train -c %s --lr 0.3", path);
    setenv("OSR_EPOCHS", "5", 1);
    setenv("OSR_LR", "0.2", 1);
    setenv("OSR_WEIGHT_DECAY", "0.01", 1);
    setenv("OSR_MOMENTUM", "", 1);
    CHECK(read_line(&o, line) == 0);
    CHECK(option_real(&o, "lr") == 0.3 && option_source(&o, "lr") == SOURCE_FLAG);
    CHECK(option_int(&o, "epochs") == 5 && option_source(&o, "epochs") == SOURCE_ENVIRONMENT);
    CHECK(option_int(&o, "batch") == 16 && option_source(&o, "batch") == SOURCE_FILE);
    CHECK(option_int(&o, "trial") == 0 && option_source(&o, "trial") == SOURCE_DEFAULT);
    CHECK(option_real(&o, "weight-decay") == 0.01 && !option_set(&o, "momentum"));
    options_free(&o);
    setenv("OSR_LR", "2,0", 1);
    expect("train --lr 0.3", EXIT_USAGE, "OSR_LR: lr wants a number");
    unsetenv("OSR_EPOCHS");
    unsetenv("OSR_LR");
    unsetenv("OSR_WEIGHT_DECAY");
    expect_ini("lr = 0.1\nlrr = 2\n", EXIT_USAGE, "bad.ini:2: unknown option 'lrr', did you mean");
    expect_ini("\n\nlr = x\n", EXIT_USAGE, "bad.ini:3: lr wants a number");
    expect_ini("lr\n", EXIT_USAGE, "bad.ini:1: not of the form");
    expect_ini("[train]\nlr = 1\n", EXIT_USAGE, "[train]");
    snprintf(line, sizeof line, "out = %0300d\n", 1);
    expect_ini(line, EXIT_USAGE, "longer than");
    expect("train -c /nonexistent.ini", EXIT_IO, "/nonexistent.ini");
}

static void test_round_trip(void)
{
    struct options o, again;
    char list[1200] = "0", line[2000], *text, *second;
    for (int i = 1; i < 200; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), ",%d", i);
    snprintf(line, sizeof line, "train --known %s --lr 0.1 --data folder:/a;b/#c --out r", list);
    CHECK(read_line(&o, line) == 0);
    text = options_write(&o, "osr 1.0\nargv: x");
    if (CHECK(text != NULL)) {
        CHECK(strncmp(text, "# osr 1.0\n# argv: x\n", 20) == 0);
        CHECK(strstr(text, "\nout") == NULL && strstr(text, "momentum") == NULL);
        snprintf(line, sizeof line, "train -c %s", write_file("b.ini", text));
        CHECK(read_line(&again, line) == 0);
        CHECK(strcmp(option_text(&again, "known"), list) == 0);
        CHECK(strcmp(option_text(&again, "data"), "folder:/a;b/#c") == 0);
        second = options_write(&again, "osr 1.0\nargv: x");
        CHECK(second && strcmp(text, second) == 0);
        free(second);
        options_free(&again);
        free(text);
    }
    options_free(&o);
    for (int i = 0; i < 3; i++) {
        static char first[] = "osr", train[] = "train", data[] = "--data";
        static char values[3][16] = {"idx:a ;b", "idx:a\nb", " idx:a"};
        char *argv[] = {first, train, data, values[i], NULL};
        CHECK(options_read(&o, 4, argv) == EXIT_OK);
        CHECK(options_write(&o, NULL) == NULL && strstr(o.message, "config.ini"));
        options_free(&o);
    }
}

static void test_resume(void)
{
    struct options o;
    char path[400];
    snprintf(path, sizeof path, "%s",
             write_file("c.ini", "lr = 0.1\nmethod = difair\nepochs = 9\n"));
    CHECK(read_line(&o, "train --resume r --epochs 20") == 0);
    CHECK(options_resume(&o, path) == EXIT_OK);
    CHECK(option_real(&o, "lr") == 0.1 && option_int(&o, "epochs") == 20);
    CHECK(strcmp(option_text(&o, "method"), "difair") == 0);
    options_free(&o);
    CHECK(read_line(&o, "train --resume r --lr 0.10 --method cac --momentum 0.5") == 0);
    CHECK(options_resume(&o, path) == EXIT_USAGE);
    CHECK(strstr(o.message, "--method") && strstr(o.message, "--momentum"));
    CHECK(strstr(o.message, "--lr") == NULL);
    options_free(&o);
}

static void test_numbers(void)
{
    char text[REAL_TEXT];
    double value;
    int64_t integer;
    static const char *const locales[] = {"C", "de_DE.UTF-8", "de_DE.utf8"};
    for (size_t i = 0; i < 3; i++) {
        if (!setlocale(LC_ALL, locales[i]))
            continue;
        CHECK(strcmp(real_text(text, 0.1), "0.1") == 0);
        CHECK(real_parse("0.25", &value) == 0 && value == 0.25);
        CHECK(real_parse("0,25", &value) != 0);
    }
    setlocale(LC_ALL, "C");
    CHECK(strcmp(real_text(text, -1.0 / 0.0), "-inf") == 0);
    CHECK(strcmp(real_text(text, 123456789.4), "123456789") == 0);
    CHECK(real_parse("-1.5E+2", &value) == 0 && value == -150);
    CHECK(real_parse(".5", &value) == 0 && real_parse("5.", &value) == 0 && value == 5);
    CHECK(integer_parse("-9223372036854775808", &integer) == 0 && integer == INT64_MIN);
    CHECK(integer_parse("-9223372036854775809", &integer) != 0);
    CHECK(integer_parse("", &integer) != 0 && integer_parse("-", &integer) != 0);
}

static void test_json(void)
{
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "a\"b", "x\\y\n\x01\xc3\xa9\xff");
    json_real(&j, "r", 0.1);
    json_real(&j, "n", NAN);
    json_open(&j, "l", '[');
    json_integer(&j, NULL, INT64_MIN);
    json_bool(&j, NULL, 1);
    json_text(&j, NULL, NULL);
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_close(&j, '}');
    CHECK(!j.failed && j.not_finite == 1 && j.depth == 0);
    CHECK(strcmp(j.text, "{\"a\\\"b\":\"x\\\\y\\u000a\\u0001\xc3\xa9\\ufffd\",\"r\":0.1,\"n\":null,"
                         "\"l\":[-9223372036854775808,true,null,{}]}") == 0);
    json_free(&j);
    for (int i = 0; i < 40; i++)
        json_open(&j, NULL, '[');
    CHECK(j.failed);
    json_free(&j);
}

/* Runs f in a child; its exit status. */
static int in_child(int (*f)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        exit(f());
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static int fill_device(void)
{
    if (!freopen("/dev/full", "w", stdout) || !freopen("/dev/null", "w", stderr))
        return 99;
    printf("result\n");
    return output_finish(EXIT_OK);
}

static int interrupted(void)
{
    if (!freopen("/dev/null", "w", stderr))
        return 99;
    signals_install();
    if (signals_pending() != 0)
        return 98;
    raise(SIGTERM);
    if (signals_pending() != EXIT_TERMINATE)
        return 97;
    raise(SIGINT);
    return 96;
}

static int second_writer(void)
{
    struct run_dir run;
    char path[300];
    snprintf(path, sizeof path, "%s/run", folder);
    return run_open(&run, path) == EXIT_USAGE && strstr(run.message, "another process") ? 0 : 1;
}

static size_t file_size(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (size_t)info.st_size : (size_t)-1;
}

static void test_run_dir(void)
{
    struct run_dir run;
    char path[300], file[1400], here[256], *text, message[1400];
    size_t count = 0;
    int descriptor;
    snprintf(path, sizeof path, "%s/run", folder);
    CHECK(run_create(&run, path, "glyphs", "cac") == EXIT_OK);
    CHECK(run_write(&run, "config.ini", "lr = 1\n", 7) == EXIT_OK);
    CHECK(run_append(&run, "metrics.jsonl", "{\"epoch\":1}") == EXIT_OK);
    CHECK(run_append(&run, "metrics.jsonl", "{\"epoch\":2}") == EXIT_OK);
    CHECK(in_child(second_writer) == 0);
    run_file(&run, "metrics.jsonl", file, sizeof file);
    CHECK(file_size(file) == 24);
    descriptor = open(file, O_WRONLY | O_APPEND);
    CHECK(write(descriptor, "{\"epo", 5) == 5);
    close(descriptor);
    run_close(&run);
    write_file("run/.last.tmp.4194999", "torn"); /* above Linux's largest process number */
    CHECK(run_open(&run, path) == EXIT_OK);
    CHECK(file_size(file) == 24);
    CHECK(file_size(run_file(&run, ".last.tmp.4194999", file, sizeof file)) == (size_t)-1);
    text = file_read(run_file(&run, "config.ini", file, sizeof file), 100, &count, message, 1400);
    CHECK(text && count == 7 && strcmp(text, "lr = 1\n") == 0);
    free(text);
    CHECK(file_read(file, 3, &count, message, 1400) == NULL && strstr(message, "larger"));
    CHECK(file_read(folder, 3, &count, message, 1400) == NULL && strstr(message, "directory"));
    run_close(&run);
    CHECK(run_create(&run, path, "glyphs", "cac") == EXIT_USAGE && strstr(run.message, "already"));
    snprintf(path, sizeof path, "%s", folder);
    CHECK(run_open(&run, path) == EXIT_DATA && strstr(run.message, "not a run"));
    CHECK(getcwd(here, sizeof here) && chdir(folder) == 0);
    CHECK(run_create(&run, NULL, "idx:/a/b", "cac") == EXIT_OK);
    CHECK(strcmp(run.path, "runs/idx-cac-1") == 0);
    run_close(&run);
    CHECK(run_create(&run, NULL, "idx:/a/b", "cac") == EXIT_OK);
    CHECK(strcmp(run.path, "runs/idx-cac-2") == 0);
    run_close(&run);
    CHECK(chdir(here) == 0);
    CHECK(file_write("/nonexistent/x", "a", 1, message, 1400) == EXIT_IO);
}

static void test_progress(void)
{
    struct progress p;
    char text[256];
    progress_start(&p, "epoch", 0, 20, 1563);
    p.epoch = 2;
    p.step = 412;
    p.loss = 0.41372;
    p.accuracy = 0.8821;
    p.images = 521000;
    progress_text(&p, p.started + 100, text, sizeof text);
    CHECK(strcmp(text, "epoch 3/20  412/1563  loss 0.4137  acc 88.2%  5210 img/s  eta 13:04") == 0);
    p.loss = p.accuracy = NAN;
    p.epochs = 1;
    p.total_steps = (double)p.steps;
    p.epoch = 0;
    progress_text(&p, p.started + 1, text, sizeof text);
    CHECK(strcmp(text, "epoch  412/1563  521000 img/s  eta 0:03") == 0);
}

static void remove_folder(void)
{
    char command[320];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    CHECK(system(command) == 0);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/osr_test_XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    for (int i = 0; i < option_count; i++) { /* what the caller's environment sets */
        char name[64];
        snprintf(name, sizeof name, "OSR_%s", option_table[i].key);
        for (char *c = name; *c; c++)
            *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
        unsetenv(name);
    }
    test_table();
    test_flags();
    test_refusals();
    test_precedence();
    test_round_trip();
    test_resume();
    test_numbers();
    test_json();
    fflush(stdout);
    CHECK(in_child(fill_device) == EXIT_IO);
    CHECK(in_child(interrupted) == EXIT_INTERRUPT);
    test_run_dir();
    test_progress();
    remove_folder();
    return test_end();
}
