/* test_alloc - every request for host memory fails in turn, once or from there on, from the making
 * of a context to a saved model: status MEMORY, no crash, no leak, and after osr_ctx_clear_error
 * the context works again */
#include "osr.h"
#include "test.h"
#include "tiny.h"

/* Counts live bytes; call number `fail` (from 1) and, with `sticky`, all later ones fail. */
struct memory {
    long calls, fail;
    int sticky, fired;
    size_t live;
};

static void *memory_fn(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct memory *m = user;
    void *p;
    if (new_size == 0) {
        m->live -= old_size;
        free(ptr);
        return NULL;
    }
    m->calls++;
    if (m->fail > 0 && (m->sticky ? m->calls >= m->fail : m->calls == m->fail)) {
        m->fired = 1;
        return NULL;
    }
    p = realloc(ptr, new_size);
    if (p != NULL)
        m->live += new_size - old_size;
    return p;
}

static osr_status create(struct memory *m, osr_ctx **ctx)
{
    osr_ctx_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.allocator.fn = memory_fn;
    desc.allocator.user = m;
    *ctx = NULL;
    return osr_ctx_create(&desc, ctx);
}

/* What came back must tell whether a request failed. */
static void judge(const struct memory *m, const osr_ctx *ctx, osr_status status, const char *what)
{
    int good = CHECK(status == (m->fired ? OSR_MEMORY : OSR_OK));
    good &= CHECK(osr_ctx_status(ctx) == status);
    if (ctx != NULL)
        good &= CHECK((osr_ctx_message(ctx)[0] != '\0') == (status != OSR_OK));
    if (!good)
        fprintf(stderr, "    %s, request %ld%s: %s (%s)\n", what, m->fail,
                m->sticky ? " and all later ones" : "", osr_status_text(status),
                ctx != NULL ? osr_ctx_message(ctx) : "no context");
}

static void destroy(const struct memory *m, osr_ctx *ctx, const char *what)
{
    osr_ctx_destroy(ctx);
    if (!CHECK(m->live == 0))
        fprintf(stderr, "    %s, request %ld: %lu bytes are left\n", what, m->fail,
                (unsigned long)m->live);
}

/* A context of its own for each failure, up to the end of the first training step: what comes later
 * takes long to reach in a new context, and the walk below reaches it, too. */
static void fail_in_new_contexts(const osr_method_row *method)
{
    struct memory m;
    osr_ctx *ctx;
    tiny t;
    long fail = 0;
    do {
        osr_status status;
        memset(&m, 0, sizeof m);
        m.fail = ++fail;
        m.sticky = fail % 2 == 0;
        memset(&t, 0, sizeof t);
        status = create(&m, &ctx);
        if (status == OSR_OK)
            status = tiny_create(&t, ctx, method);
        if (status == OSR_OK)
            status = tiny_train(&t, TINY_BATCH);
        judge(&m, ctx, status, "a new context");
        osr_model_destroy(t.model);
        destroy(&m, ctx, "a new context");
    } while (m.fired);
    printf("%ld requests up to the first training step\n", fail - 1);
    CHECK(fail > 20);
}

/* A whole life over and over in one context, request 1, 2, ... of it failing. After each failure
 * the next life must be good until its turn; the last one is to its end. */
static void fail_in_one_context(const osr_method_row *method, const char *path, int sticky)
{
    struct memory m = {0, 0, 0, 0, 0};
    osr_ctx *ctx;
    long fail = 0;
    if (!CHECK(create(&m, &ctx) == OSR_OK))
        return;
    do {
        m.calls = 0;
        m.fired = 0;
        m.fail = ++fail;
        m.sticky = sticky;
        judge(&m, ctx, tiny_life(ctx, method, path), method->name);
        osr_ctx_clear_error(ctx);
    } while (m.fired);
    printf("%s: %ld requests of a life fail%s\n", method->name, fail - 1,
           sticky ? ", and all later ones" : "");
    CHECK(fail > 20);
    destroy(&m, ctx, method->name);
}

int main(void)
{
    const char *path = "test_alloc.safetensors";
    int count;
    if (osr_device_list(NULL, 0, &count) != OSR_OK || count == 0)
        return test_skip("no OpenCL device");
    fail_in_new_contexts(osr_method_at(0));
    for (int i = 0; osr_method_at(i) != NULL; i++)
        fail_in_one_context(osr_method_at(i), path, i % 2);
    fail_in_one_context(osr_method_at(0), path, 1);
    remove(path);
    return test_end();
}
