#define _POSIX_C_SOURCE 200809L

#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "output.h"

static struct {
    char label[96]; /* empty: no grid */
    int left;
    double seconds;
} within;

void progress_within(const char *label, int left, double seconds)
{
    snprintf(within.label, sizeof within.label, "%s", label ? label : "");
    within.left = left;
    within.seconds = seconds;
}

double progress_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_start(struct progress *p, const char *what, int first_epoch, int epochs, long steps)
{
    memset(p, 0, sizeof *p);
    p->what = what;
    p->epoch = first_epoch;
    p->epochs = epochs;
    p->steps = steps;
    p->loss = p->accuracy = NAN;
    p->first_step = (double)first_epoch * (double)steps;
    p->total_steps = (double)epochs * (double)steps;
    p->terminal = isatty(STDERR_FILENO);
    p->level = output_level();
    p->started = p->drawn = progress_now();
}

double progress_rate(const struct progress *p)
{
    double elapsed = progress_now() - p->started;
    return elapsed > 0 ? p->images / elapsed : 0;
}

/* 4:12, or 1:04:12 from an hour on. */
static void duration(double seconds, char *text, size_t size)
{
    long s = seconds < 3.6e8 ? (long)(seconds + 0.5) : 360000000L;
    if (s >= 3600)
        snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, size, "%ld:%02ld", s / 60, s % 60);
}

void progress_text(const struct progress *p, double now, char *text, int size)
{
    char count[64] = "", loss[40] = "", accuracy[40] = "", eta[96] = "", time[32];
    int used;
    double done = (double)p->epoch * (double)p->steps + (double)p->step - p->first_step;
    double elapsed = now - p->started;
    double rate = elapsed > 0 ? p->images / elapsed : 0;
    if (p->epochs > 1)
        snprintf(count, sizeof count, " %d/%d", p->epoch + 1, p->epochs);
    if (!isnan(p->loss))
        snprintf(loss, sizeof loss, "  loss %.4f", p->loss);
    if (!isnan(p->accuracy))
        snprintf(accuracy, sizeof accuracy, "  acc %.1f%%", 100 * p->accuracy);
    if (done > 0) {
        const double whole = elapsed / done * p->total_steps;
        const double left = whole - elapsed / done * (p->first_step + done);
        duration(left, time, sizeof time);
        used = snprintf(eta, sizeof eta, "  eta %s", time);
        if (*within.label && p->epochs > 0 && strcmp(p->what, "epoch") == 0) {
            duration(left + within.left * (within.seconds > 0 ? within.seconds : whole), time,
                     sizeof time);
            snprintf(eta + used, sizeof eta - (size_t)used, ", grid %s", time);
        }
    }
    snprintf(text, (size_t)size, "%s%s%s%s  %ld/%ld%s%s  %.0f img/s%s", within.label,
             *within.label ? "  " : "", p->what, count, p->step, p->steps, loss, accuracy, rate,
             eta);
}

static int terminal_width(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20)
        return w.ws_col;
    return 80;
}

void progress_step(struct progress *p, int epoch, long step, double images, double loss,
                   double accuracy)
{
    double now = progress_now();
    char text[256];
    int width;
    p->epoch = epoch;
    p->step = step;
    p->images += images;
    p->loss = loss;
    p->accuracy = accuracy;
    if (p->level < 1 || now - p->drawn < (p->terminal ? 0.1 : 30.0))
        return;
    p->drawn = now;
    progress_text(p, now, text, sizeof text);
    if (!p->terminal) {
        fprintf(stderr, "%s\n", text);
        return;
    }
    width = terminal_width();
    if (width < (int)sizeof text)
        text[width - 1] = '\0';
    status_line(text);
}

void progress_epoch(struct progress *p, const char *extra)
{
    char text[256];
    if (p->level < 1)
        return;
    p->drawn = progress_now();
    progress_text(p, p->drawn, text, sizeof text);
    status_line_end();
    fprintf(stderr, "%s%s%s\n", text, extra ? "  " : "", extra ? extra : "");
}
