/* options.h - the commands and options of the program, from one table.
 *
 * A value comes from, highest first: the command line (--key value, --key=value, --flag), the
 * environment (OSR_KEY, '-' written '_'), an INI file (--config), a preset by name (--recipe), the
 * default of the table. An option without any of these is unset; option_given and option_source
 * tell. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum command_id {
    COMMAND_DEVICES, COMMAND_SELFTEST, COMMAND_TRAIN, COMMAND_PROTOCOL, COMMAND_EVAL,
    COMMAND_CALIBRATE, COMMAND_PREDICT, COMMAND_JACOBIAN, COMMAND_REPRESENT, COMMAND_BENCH,
    COMMAND_INSPECT, COMMAND_IMPORT, COMMAND_TUNE, COMMAND_COUNT
};

struct command_row {
    const char *name, *operands; /* "RUN|MODEL" */
    int operand_min, operand_max;
    const char *summary;
};

enum option_type { OPTION_FLAG, OPTION_INTEGER, OPTION_REAL, OPTION_TEXT, OPTION_CHOICE };

enum option_trait {
    OPTION_TRANSIENT = 1, /* about this call, not about the run: not written to config.ini */
    OPTION_FIXED = 2      /* may not change when a run is resumed */
};

struct option_row {
    const char *key;
    char letter;          /* short form, 0: none */
    enum option_type type;
    const char *preset;   /* default as text; NULL: unset */
    const char *unit;     /* "epochs"; in help only */
    const char *range;    /* numbers: "[0,1)", a missing end is open; choices: "a|b" */
    unsigned commands;    /* bit 1 << command_id */
    unsigned traits;
    const char *help;
};

enum option_source {
    SOURCE_UNSET, SOURCE_DEFAULT, SOURCE_RECIPE, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG
};

enum option_action {
    ACTION_RUN, ACTION_HELP, ACTION_COMMAND_HELP, ACTION_RECIPE_HELP, ACTION_VERSION
};

struct option_value {
    char *text;
    int64_t integer; /* flags and integers; for a choice its index in the range */
    double real;
    enum option_source source;
};

struct options {
    enum option_action action;
    enum command_id command;
    struct option_value *values; /* one per table row */
    char **operands;             /* of the command line: RUN, MODEL, IMAGE ... */
    int operand_count;
    char message[512];           /* the error of the last call that failed */
};

extern const struct command_row command_table[COMMAND_COUNT];
extern const struct option_row option_table[];
extern const int option_count;

/* Reads command line, environment and --config. Returns an exit code; when not EXIT_OK, message
 * says what is wrong. operands point into argv. options_free in any case. */
int options_read(struct options *o, int argc, char **argv);
void options_free(struct options *o);

/* Values. The key must be an option of the command: an unknown one aborts in every build, being
 * a defect of the program. Unset: 0, 0.0, NULL, -1 for a choice. */
int option_flag(const struct options *o, const char *key);
int64_t option_int(const struct options *o, const char *key);
double option_real(const struct options *o, const char *key);
const char *option_text(const struct options *o, const char *key);
int option_choice(const struct options *o, const char *key); /* index in "a|b|c" */
int option_set(const struct options *o, const char *key);    /* has a value, if only the default */
int option_given(const struct options *o, const char *key);  /* by flag, environment or file */
enum option_source option_source(const struct options *o, const char *key);

/* Gives a value as if it came from source; a higher source keeps its own. As option_preset where
 * the value is not good. */
int option_assign(struct options *o, const char *key, const char *text, enum option_source source);

/* Does the command have this option? */
int option_exists(const struct options *o, const char *key);

/* The values and sources of all options that `command` has, too. options_free in any case. */
int options_copy(const struct options *from, enum command_id command, struct options *out);

/* Fills in a default that depends on other options (a method's learning rate). No effect on an
 * option that was given. Same checks and message as for the user's values. */
int option_preset(struct options *o, const char *key, const char *text);
int option_preset_real(struct options *o, const char *key, double value);
int option_preset_int(struct options *o, const char *key, int64_t value);

/* INI text ("key = value" lines in table order; unset and transient options left out; long values
 * continue on indented lines). comment: lines put in front, each behind "# ". Allocated; NULL
 * with message when memory ends or a value cannot be kept in an INI file (" ;", line breaks). */
char *options_write(struct options *o, const char *comment);

/* The same of the options that were given, without defaults and presets. */
char *options_write_given(struct options *o, const char *comment);

/* Reads INI text of a file as SOURCE_FILE. Keys of other commands are skipped, unknown ones are
 * errors. Exit code. */
int options_read_file(struct options *o, const char *path);

/* As options_read_file, for the config.ini of a run that is resumed: EXIT_USAGE, naming the keys,
 * when a flag or the environment asks for another value of a fixed option. */
int options_resume(struct options *o, const char *path);

/* For a file of options_write_given: EXIT_USAGE with what differs, "epochs (5 there, 3 here)", in
 * message, when other values were given then, those of the keys in `except` (NULL at its end) left
 * aside. */
int options_compare(struct options *o, const char *path, const char *const *except);

void options_help(FILE *out);                              /* osr --help */
void options_command_help(FILE *out, enum command_id id);  /* osr help COMMAND */

/* The nearest of names (edit distance at most 2, and less than the length of the word), or NULL.
 * Also used for methods, scores, classes. */
const char *nearest_name(const char *word, const char *const *names, size_t count);

#endif
