#include "schedule.h"

#include <math.h>

static double wave(double u)
{
    return 0.5 * (1.0 + cos(3.14159265358979323846 * u));
}

static void plan_length(struct schedule *s, const struct options *o)
{
    const uint64_t iterations = (uint64_t)option_int(o, "iterations");
    s->epochs = (uint64_t)option_int(o, "epochs");
    s->total = s->batches * s->epochs;
    if (iterations > 0) {
        s->total = iterations;
        s->epochs = (iterations + s->batches - 1) / s->batches;
    }
    uint64_t second = (uint64_t)llround(option_real(o, "second-stage") * (double)s->epochs);
    if (second >= s->epochs) /* the first stage keeps an epoch */
        second = s->epochs - 1;
    s->second = second > 0 ? s->epochs - second : 0;
}

void schedule_plan(struct schedule *s, const struct options *o, uint64_t batches)
{
    const uint64_t cycles = (uint64_t)option_int(o, "restarts") + 1;
    osr_schedule *steps = &s->steps;
    s->kind = (enum schedule_kind)option_choice(o, "schedule");
    s->batches = batches;
    plan_length(s, o);
    s->lr = option_real(o, "lr");
    s->lr_min = option_real(o, "lr-min");
    s->second_lr = option_real(o, "second-lr");
    s->cycle = s->epochs / cycles > 0 ? s->epochs / cycles : 1;
    s->warmup = (uint64_t)option_int(o, "warmup-epochs");
    if (s->warmup > s->cycle / 2) /* of a run that is much shorter than the published ones */
        s->warmup = s->cycle / 2;
    steps->lr = (float)s->lr;
    steps->lr_min = (float)s->lr_min;
    steps->gamma = (float)option_real(o, "lr-factor");
    steps->warmup = (uint32_t)option_int(o, "warmup-steps");
    steps->total = (uint32_t)s->total;
    steps->kind = s->kind <= SCHEDULE_COSINE ? (osr_schedule_kind)s->kind : OSR_CONSTANT;
    if (s->kind == SCHEDULE_STEP)
        steps->period = (uint32_t)(batches * (uint64_t)option_int(o, "lr-period"));
    else if (s->kind == SCHEDULE_COSINE && s->total > steps->warmup)
        steps->period = (uint32_t)((s->total - steps->warmup + cycles - 1) / cycles);
}

double schedule_rate(const struct schedule *s, uint64_t step)
{
    const uint64_t e = step / s->batches;
    const double m = s->lr_min;
    if (s->second > 0 && e >= s->second)
        return s->second_lr;
    if (s->kind < SCHEDULE_VAZE)
        return (double)osr_schedule_lr(&s->steps, (uint32_t)step);
    if (e <= s->warmup && s->warmup > 0) {
        const double top = m + (s->lr - m) * wave((double)s->warmup / (double)s->cycle);
        return m + (double)e * (top - m) / (double)s->warmup;
    }
    const uint64_t at = (s->warmup > 0 ? e - 1 : e) % s->cycle;
    const double y = wave((double)at / (double)s->cycle);
    return s->kind == SCHEDULE_DIFAIR ? s->lr * ((1.0 - m) * y + m) : m + (s->lr - m) * y;
}

uint64_t schedule_stage(const struct schedule *s, uint64_t step)
{
    return s->second > 0 && step >= s->second * s->batches ? s->second * s->batches : 0;
}

uint64_t schedule_batches(const struct schedule *s, uint64_t epoch)
{
    const uint64_t left = s->total - epoch * s->batches;
    return left < s->batches ? left : s->batches;
}
