/* test.h - the harness of every test program
 *
 * CHECK counts and prints failures and goes on; main ends with `return test_end();`.
 * Exit code: 0 all passed, 1 a check failed or none ran, 77 skipped (ctest SKIP_RETURN_CODE).
 * Random input comes from test_seed(): $OSR_SEED, else 1, printed so that a run can be repeated. */
#ifndef OSR_TEST_H
#define OSR_TEST_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_checks, test_failures;

#define CHECK(condition) test_check((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) \
    test_near((a), (b), (tolerance), #a " ~ " #b, __FILE__, __LINE__)

static inline int test_check(int passed, const char *what, const char *file, int line)
{
    test_checks++;
    if (!passed && ++test_failures <= 100)
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    return passed;
}

/* |a - b| <= tolerance * max(1, |b|); two NaNs are near. */
static inline int test_near(double a, double b, double tolerance, const char *what,
                            const char *file, int line)
{
    int near = (a != a && b != b) || fabs(a - b) <= tolerance * (fabs(b) > 1.0 ? fabs(b) : 1.0);
    if (!test_check(near, what, file, line) && test_failures <= 100)
        fprintf(stderr, "    %.17g against %.17g\n", a, b);
    return near;
}

static inline uint64_t test_seed(void)
{
    const char *text = getenv("OSR_SEED");
    uint64_t seed = text && *text ? strtoull(text, NULL, 10) : 1;
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static inline uint64_t test_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline double test_uniform(uint64_t *state) /* [0, 1) */
{
    return (double)(test_random(state) >> 11) * (1.0 / 9007199254740992.0);
}

/* An allocator for osr_ctx_create: the bytes that are live, and how many requests are still granted
 * (-1: all). */
struct test_memory {
    size_t live;
    long left;
};

static inline void *test_memory_fn(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct test_memory *m = (struct test_memory *)user;
    void *p;
    if (new_size == 0) {
        m->live -= old_size;
        free(ptr);
        return NULL;
    }
    if (m->left == 0)
        return NULL;
    m->left -= m->left > 0;
    p = realloc(ptr, new_size);
    if (p)
        m->live += new_size - old_size;
    return p;
}

static inline int test_skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return 77;
}

static inline int test_end(void)
{
    printf("%d checks, %d failures\n", test_checks, test_failures);
    return test_failures != 0 || test_checks == 0;
}

#endif
