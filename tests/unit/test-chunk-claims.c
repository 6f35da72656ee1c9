/*
 * Claims of chunks: waiters get their chunks in the order in which they come
 *
 *      request   wants     steps
 *      A         1         has it
 *      B         0 1       waits for A
 *      C         0         is free, and C has it
 *      A returns           B waits for C now
 *      C returns           B has 0 and 1, even if C comes back at once
 *      B returns           C has it again
 *
 * test-mirror-hammer claims chunks in several threads at random.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/chunk-claims.h"
#include "qapi/error.h"
#include "tests/unit/iothread.h"
#include "settle.h"

#define CHUNKS      200
#define MAX_TAKEN   8

/* A request that takes chunks, holds them until it is told, and goes. */
typedef struct Request {
    uint64_t first;
    uint64_t last;
    Coroutine *co;
    bool again;         /* takes the same once more when it has returned them */
    bool has;
} Request;

static ChunkClaims claims;

/* The requests that have their chunks, in order; one thread writes at a time */
static Request *taken[MAX_TAKEN];
static unsigned nb_taken;

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;

    do {
        chunk_claims_take(&claims, r->first, r->last);
        taken[nb_taken++] = r;
        qatomic_store_release(&r->has, true);
        qemu_coroutine_yield();
        qatomic_set(&r->has, false);
        chunk_claims_return(&claims, r->first, r->last);
    } while (qatomic_xchg(&r->again, false));
}

static void start(Request *r, uint64_t first, uint64_t last)
{
    *r = (Request) { .first = first, .last = last };
    r->co = qemu_coroutine_create(request_entry, r);
    aio_co_enter(qemu_get_aio_context(), r->co);
}

static void finish(Request *r)
{
    g_assert_true(r->has);
    aio_co_enter(qemu_get_aio_context(), r->co);
    settle();
}

typedef struct Try {
    uint64_t first;
    uint64_t last;
    bool got;
} Try;

static void coroutine_fn try_entry(void *opaque)
{
    Try *t = opaque;

    t->got = chunk_claims_try(&claims, t->first, t->last);
    if (t->got) {
        chunk_claims_return(&claims, t->first, t->last);
    }
}

static bool are_free(uint64_t first, uint64_t last)
{
    Try t = { .first = first, .last = last };

    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(try_entry, &t));
    return t.got;
}

static void begin(void)
{
    chunk_claims_init(&claims, CHUNKS);
    nb_taken = 0;
}

static void end(void)
{
    g_assert_true(chunk_claims_empty(&claims));
    g_assert_cmpuint(claims.waiting, ==, 0);
    chunk_claims_cleanup(&claims);
}

static void test_order(void)
{
    Request a, b, c, other;

    begin();
    start(&a, 1, 1);
    start(&b, 0, 1);
    start(&c, 0, 0);
    start(&other, 2, 70);
    g_assert_true(a.has && c.has && other.has);
    g_assert_false(b.has);

    finish(&a);
    g_assert_false(b.has);
    c.again = true;
    finish(&c);
    g_assert_true(b.has);
    g_assert_false(c.has);
    finish(&b);
    g_assert_true(c.has);
    finish(&c);
    finish(&other);
    start(&a, 0, 0);
    finish(&a);
    end();
}

/* A waiter gets its turn behind many, and before those that come later. */
static void test_many(void)
{
    Request r[MAX_TAKEN / 2];

    begin();
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        start(&r[i], 7, 7);
        r[i].again = true;
    }
    for (unsigned i = 0; i < MAX_TAKEN; i++) {
        finish(&r[i % ARRAY_SIZE(r)]);
        g_assert_true(taken[i] == &r[i % ARRAY_SIZE(r)]);
    }
    end();
}

/* All of the chunks or none, also in several words. */
static void test_try(void)
{
    Request a;

    begin();
    g_assert_true(are_free(0, CHUNKS - 1));
    start(&a, 128, 128);
    g_assert_false(are_free(0, CHUNKS - 1));
    g_assert_false(are_free(128, 128));
    g_assert_true(are_free(0, 127));
    g_assert_true(are_free(129, CHUNKS - 1));
    finish(&a);
    end();
}

/* A request that waits in the second word has its chunks of the first. */
static void test_words(void)
{
    Request a, b, c, d;

    begin();
    start(&a, 64, 64);
    start(&b, 60, 130);
    start(&c, 63, 63);
    start(&d, 128, 128);
    g_assert_true(a.has && d.has);
    g_assert_false(b.has || c.has);
    finish(&a);
    g_assert_false(b.has || c.has);
    g_assert_false(are_free(64, 64));
    finish(&d);
    g_assert_true(b.has);
    finish(&b);
    g_assert_true(c.has);
    finish(&c);
    end();
}

/* A waiter of another thread is not overtaken by one that comes back. */
static void test_threads(void)
{
    IOThread *thread = iothread_new();
    Request a, b = { .first = 5, .last = 5 };

    begin();
    start(&a, 5, 5);
    b.co = qemu_coroutine_create(request_entry, &b);
    aio_co_enter(iothread_get_aio_context(thread), b.co);
    while (!qatomic_read(&claims.waiting)) {
        g_thread_yield();
    }
    a.again = true;
    finish(&a);
    while (!qatomic_load_acquire(&b.has)) {
        g_thread_yield();
    }
    g_assert_false(a.has);
    aio_co_wake(b.co);
    while (!qatomic_read(&a.has)) {
        settle();
        g_thread_yield();
    }
    finish(&a);
    g_assert_true(taken[0] == &a && taken[1] == &b && taken[2] == &a);
    iothread_join(thread);
    end();
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chunk-claims/order", test_order);
    g_test_add_func("/chunk-claims/many", test_many);
    g_test_add_func("/chunk-claims/try", test_try);
    g_test_add_func("/chunk-claims/words", test_words);
    g_test_add_func("/chunk-claims/threads", test_threads);
    return g_test_run();
}
