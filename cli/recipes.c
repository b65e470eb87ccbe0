/* recipes.c - choosing, filling in and printing what recipes_table.c has. */
#include "recipes.h"

#include <string.h>

#include "exit_codes.h"
#include "splits.h"

/* Is word one of "a|b|c"? A list that is NULL has every word. */
static int listed(const char *list, const char *word)
{
    const size_t n = strlen(word);
    while (list != NULL) {
        const size_t length = strcspn(list, "|");
        if (length == n && memcmp(list, word, n) == 0)
            return 1;
        if (list[length] == '\0')
            return 0;
        list += length + 1;
    }
    return 1;
}

const struct recipe *recipe_find(const char *name)
{
    for (int i = 0; i < recipe_count; i++)
        if (strcmp(recipe_table[i].name, name) == 0)
            return &recipe_table[i];
    return NULL;
}

const char *recipe_set(const struct options *o)
{
    static const char *const cifars[] = {"cifar+10", "cifar+50"};
    const char *guess = split_guess_name(option_text(o, "data"));
    const char *named = option_text(o, "split-set");
    if (guess == NULL || named == NULL || strcmp(named, guess) == 0)
        return guess != NULL ? guess : "other";
    for (int i = 0; i < 2 && strcmp(guess, "cifar10") == 0; i++)
        if (strcmp(named, cifars[i]) == 0)
            return cifars[i];
    return "other"; /* lists of another set */
}

int recipe_list(struct options *o, const char **name)
{
    const char *unknown = option_text(o, "unknown");
    *name = option_text(o, "split-set");
    if (option_given(o, "known") && option_given(o, "split"))
        return snprintf(o->message, sizeof o->message, "--known and --split exclude each other"),
               EXIT_USAGE;
    if (*name != NULL || !option_given(o, "split"))
        return EXIT_OK;
    *name = recipe_set(o);
    if (strcmp(*name, "cifar10") == 0 && unknown != NULL && strncmp(unknown, "cifar100:", 9) == 0)
        return snprintf(o->message, sizeof o->message,
                        "--split with --unknown cifar100: is CIFAR+10 or CIFAR+50: name it with "
                        "--split-set cifar+10 or cifar+50 (cifar10: all 100 classes unknown)"),
               EXIT_USAGE;
    if (strcmp(*name, "other") == 0)
        return snprintf(o->message, sizeof o->message,
                        "which published list? name it with --split-set"), EXIT_USAGE;
    return EXIT_OK;
}

int recipe_fits(const struct recipe_row *row, const char *recipe, const char *set,
                const char *method)
{
    return strcmp(row->recipe, recipe) == 0 && listed(row->sets, set)
           && listed(row->methods, method);
}

/* What only VGG32 has, and other networks would not know what to do with. */
static int for_vgg32(const char *key)
{
    return strncmp(key, "dropout", 7) == 0 || strncmp(key, "head", 4) == 0;
}

static int unknown_recipe(struct options *o, const char *name)
{
    const char *names[16], *near;
    int n = 0;
    for (; n < recipe_count && n < 16; n++)
        names[n] = recipe_table[n].name;
    near = nearest_name(name, names, (size_t)n);
    snprintf(o->message, sizeof o->message, "no recipe is called \"%.80s\"%s%s%s", name,
             near != NULL ? "; did you mean " : " (osr help recipes lists them)",
             near != NULL ? near : "", near != NULL ? "?" : "");
    return EXIT_USAGE;
}

/* Where other values of the length of the training are given, those of the recipe go. */
static int settle_length(struct options *o)
{
    const enum option_source epochs = option_source(o, "epochs");
    const enum option_source steps = option_source(o, "iterations");
    if (epochs > SOURCE_RECIPE && steps == SOURCE_RECIPE)
        return option_assign(o, "iterations", "0", SOURCE_RECIPE);
    if (epochs == SOURCE_RECIPE && steps > SOURCE_RECIPE)
        return option_assign(o, "second-stage", "0", SOURCE_RECIPE);
    return EXIT_OK;
}

int recipe_apply(struct options *o)
{
    const char *name = option_text(o, "recipe"), *set = recipe_set(o);
    int code = EXIT_OK;
    if (name == NULL)
        return EXIT_OK;
    if (recipe_find(name) == NULL)
        return unknown_recipe(o, name);
    for (int pass = 0; pass < 2; pass++) /* first the method and the network */
        for (int i = 0; i < recipe_row_count && code == EXIT_OK; i++) {
            const struct recipe_row *row = &recipe_rows[i];
            const int first = strcmp(row->key, "method") == 0 || strcmp(row->key, "network") == 0;
            if (first == pass || !recipe_fits(row, name, set, option_text(o, "method"))
                || (for_vgg32(row->key) && strcmp(option_text(o, "network"), "vgg32") != 0))
                continue;
            code = option_assign(o, row->key, row->value, SOURCE_RECIPE);
        }
    return code == EXIT_OK ? settle_length(o) : code;
}

/* ---- help ---- */

/* "  lr  0.01  tinyimagenet, method arpl [own choice]" */
static void print_row(FILE *out, const struct recipe_row *row)
{
    const int length = (int)strlen(row->value);
    fprintf(out, "  %-14s %s", row->key, row->value);
    if (row->sets != NULL || row->methods != NULL)
        fprintf(out, "%*s", length < 34 ? 36 - length : 2, "");
    if (row->sets != NULL)
        fprintf(out, "%s%s", row->sets, row->methods != NULL ? ", " : "");
    if (row->methods != NULL)
        fprintf(out, "method %s", row->methods);
    if (row->source != NULL)
        fprintf(out, "\n  %14s [%s]", "", row->source);
    fputc('\n', out);
}

void recipes_help(FILE *out)
{
    fputs("Presets of osr train and osr protocol: --recipe NAME. What is given by flag,\n"
          "environment or --config goes before the preset's value, and that before the method's\n"
          "default; a run's config.ini has what held in the end.\n"
          "A value counts for the data sets and methods behind it, the last one that fits;\n"
          "\"other\" is every data set that no published figure is of.\n", out);
    for (int i = 0; i < recipe_count; i++) {
        const struct recipe *r = &recipe_table[i];
        fprintf(out, "\n%s - %s\n  from: %s\n", r->name, r->summary, r->source);
        for (int k = 0; k < recipe_row_count; k++)
            if (strcmp(recipe_rows[k].recipe, r->name) == 0)
                print_row(out, &recipe_rows[k]);
    }
}
