/* main.c - the program `osr`: options, then the command's function. */
#include "exit_codes.h"
#include "options.h"
#include "output.h"
#include "recipes.h"
#include "session.h"

#include <stdio.h>

static command_function *const functions[COMMAND_COUNT] = {
    cmd_devices, cmd_selftest,  cmd_train, cmd_protocol, cmd_eval,   cmd_calibrate, cmd_predict,
    cmd_jacobian, cmd_represent, cmd_bench, cmd_inspect,  cmd_import, cmd_tune,
};

int main(int argc, char **argv)
{
    static const char *const colors[] = {"auto", "always", "never"};
    struct options o;
    int code = options_read(&o, argc, argv);
    if (code != EXIT_OK) {
        message_error("%s", o.message);
    } else if (o.action == ACTION_HELP) {
        options_help(stdout);
    } else if (o.action == ACTION_COMMAND_HELP) {
        options_command_help(stdout, o.command);
    } else if (o.action == ACTION_RECIPE_HELP) {
        recipes_help(stdout);
    } else if (o.action == ACTION_VERSION) {
        printf("osr %s\n", osr_version());
    } else {
        const int level = option_flag(&o, "quiet") ? 0 : option_flag(&o, "verbose") ? 2 : 1;
        output_setup(level, colors[option_choice(&o, "color")]);
        code = functions[o.command](&o);
    }
    options_free(&o);
    return output_finish(code);
}
