#include "networks.h"

#include "exit_codes.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

static void unknown_name(const char *what, const char *name, const char *const *names, int count)
{
    const char *near = nearest_name(name, names, (size_t)count);
    message_error("no %s is called \"%s\"%s%s%s", what, name, near != NULL ? "; did you mean " : "",
                  near != NULL ? near : "", near != NULL ? "?" : "");
}

const osr_network_row *network_choose(const struct options *o)
{
    const char *names[16], *wanted = option_text(o, "network");
    const osr_network_row *row = osr_network_find(wanted);
    int n = 0;
    for (; row == NULL && n < 16 && osr_network_at(n) != NULL; ++n)
        names[n] = osr_network_at(n)->name;
    if (row == NULL)
        unknown_name("network", wanted, names, n);
    return row;
}

const osr_method_row *method_choose(const struct options *o)
{
    const char *names[16], *wanted = option_text(o, "method");
    const osr_method_row *row = osr_method_find(wanted);
    int n = 0;
    for (; row == NULL && osr_method_at(n) != NULL && n < 16; ++n)
        names[n] = osr_method_at(n)->name;
    if (row == NULL)
        unknown_name("method", wanted, names, n);
    return row;
}

int method_flags(const struct options *o, const osr_method_row *const *methods, int count)
{
    static const char *const keys[] = {"alpha", "lambda", "temperature", "margin", "features",
                                       "radius", "correlation"};
    enum { KEYS = sizeof keys / sizeof keys[0] };
    int used[KEYS] = {0};
    for (int m = 0; m < count; ++m) {
        const osr_method_numbers *n = &methods[m]->numbers; /* 0: not one of this method's */
        const int own[KEYS] = {n->alpha > 0.0f, n->lambda > 0.0f, n->temperature > 0.0f,
                               n->temperature > 0.0f, n->features > 0, n->features > 0,
                               n->features > 0};
        for (int k = 0; k < KEYS; ++k)
            used[k] |= own[k];
    }
    for (int k = 0; k < KEYS; ++k)
        if (!used[k] && option_source(o, keys[k]) == SOURCE_FLAG) {
            message_error("method %s%s has no %s: leave out --%s", methods[0]->name,
                          count > 1 ? " (nor another of --methods)" : "", keys[k], keys[k]);
            return EXIT_USAGE;
        }
    return EXIT_OK;
}

int network_variant(const struct options *o, const osr_network_row *network,
                    const osr_method_row *method, int out, int side, osr_vgg32_desc *v)
{
    const int own = method->vgg32.head == OSR_VGG32_DIFAIR || method->vgg32.head == OSR_VGG32_NONE;
    *v = method->vgg32;
    v->out = out;
    v->side = side;
    if (network->residual)
        v->dropout = 0.0f;
    if (own && (option_set(o, "head") || option_set(o, "head-bias"))) {
        message_error("method %s has a head of its own: no --head and no --head-bias",
                      method->name);
        return EXIT_USAGE;
    }
    if (network->residual && option_choice(o, "head") == 0) {
        message_error("%s pools before its head: --head flatten is for vgg32", network->name);
        return EXIT_USAGE;
    }
    if (option_set(o, "head"))
        v->head = option_choice(o, "head") == 0 ? OSR_VGG32_FLATTEN : OSR_VGG32_GAP;
    if (option_set(o, "head-bias"))
        v->no_bias = option_choice(o, "head-bias") == 1;
    return EXIT_OK;
}

int channel_numbers(const struct options *o, const char *key, int channels, float *values)
{
    const char *at = option_text(o, key);
    char number[64];
    double v;
    for (int i = 0; i < channels; ++i) {
        const size_t n = strcspn(at, ",");
        snprintf(number, sizeof number, "%.*s", n < sizeof number ? (int)n : 0, at);
        if (real_parse(number, &v) != 0 || at[n] != (i + 1 < channels ? ',' : '\0')) {
            message_error("--%s: %d numbers by commas are needed, not \"%s\"", key, channels,
                          option_text(o, key));
            return EXIT_USAGE;
        }
        values[i] = (float)v;
        at += n + 1;
    }
    return EXIT_OK;
}
