#define _POSIX_C_SOURCE 200809L

#include "signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "exit_codes.h"
#include "output.h"

static volatile sig_atomic_t received;
static int announced;

static void on_signal(int number)
{
    if (received)
        _exit(EXIT_INTERRUPT);
    received = number;
}

void signals_install(void)
{
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction before;
        /* nohup starts the program with SIGHUP ignored, and it stays so. */
        if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &before) == 0 &&
            before.sa_handler == SIG_IGN)
            continue;
        sigaction(numbers[i], &action, NULL);
    }
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes fails like a full disk */
}

int signals_pending(void)
{
    if (!received)
        return 0;
    if (!announced) {
        announced = 1;
        message_warning("stopping after this batch; press Ctrl-C again to quit now");
    }
    return received == SIGINT ? EXIT_INTERRUPT : EXIT_TERMINATE;
}

void signals_shield(int on)
{
    signal(SIGPIPE, on ? SIG_IGN : SIG_DFL);
}
