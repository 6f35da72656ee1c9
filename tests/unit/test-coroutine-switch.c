/*
 * The state that a coroutine finds again after it has yielded
 *
 * Its stack, aligned, and every value that the compiler keeps in a register
 * across a call, in whatever thread it goes on; and its caller likewise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/coroutine.h"
#include "qemu/thread.h"

#define SWITCHES    1000
#define COROUTINES  300

/* A value of the vector unit's size has to lie where its loads want it. */
typedef struct Aligned {
    uint64_t word[2];
} __attribute__((aligned(16))) Aligned;

static void assert_aligned(const Aligned *on_stack)
{
    /* volatile, or the compiler answers from the type */
    const void *volatile address = on_stack;

    g_assert_cmpuint((uintptr_t)address % 16, ==, 0);
}

/*
 * Compute eight sums that are in use across every call of @away.  There are not
 * so many registers that a call preserves.  Each side has another seed.
 */
static uint64_t count_with_all_registers(uint64_t seed, void (*away)(void *),
                                         void *opaque)
{
    uint64_t a = seed, b = seed + 1, c = seed + 2, d = seed + 3;
    uint64_t e = seed + 4, f = seed + 5, g = seed + 6, h = seed + 7;
    double x = seed;
    Aligned aligned = { { seed, ~seed } };

    for (int i = 0; i < SWITCHES; i++) {
        assert_aligned(&aligned);
        away(opaque);
        a += i;
        b += a;
        c += b ^ i;
        d += c;
        e += d ^ i;
        f += e;
        g += f ^ i;
        h += g;
        x += 0.5;
    }
    g_assert_cmpuint(aligned.word[0], ==, seed);
    g_assert_cmpuint(aligned.word[1], ==, ~seed);
    g_assert_cmpfloat(x, ==, seed + SWITCHES / 2);
    return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
}

static void stay(void *opaque)
{
}

static void coroutine_fn yield(void *opaque)
{
    qemu_coroutine_yield();
}

static void enter(void *opaque)
{
    qemu_coroutine_enter(opaque);
}

static void coroutine_fn count_and_yield(void *opaque)
{
    uint64_t *sum = opaque;

    *sum = count_with_all_registers(*sum, yield, NULL);
}

static void test_registers(void)
{
    uint64_t theirs = 77, expected = count_with_all_registers(77, stay, NULL);
    Coroutine *co = qemu_coroutine_create(count_and_yield, &theirs);
    uint64_t ours = count_with_all_registers(12345, enter, co);

    g_assert_cmpuint(ours, ==, count_with_all_registers(12345, stay, NULL));
    qemu_coroutine_enter(co);       /* its last turn */
    g_assert_cmpuint(theirs, ==, expected);
}

static void *enter_as_often(void *opaque)
{
    Coroutine *co = opaque;
    uint64_t ours = count_with_all_registers(4711, stay, NULL);

    g_assert(!qemu_in_coroutine());
    for (int i = 0; i < SWITCHES / 4; i++) {
        qemu_coroutine_enter(co);
    }
    g_assert(!qemu_in_coroutine());
    g_assert_cmpuint(ours, ==, count_with_all_registers(4711, stay, NULL));
    return NULL;
}

/* A coroutine begins in this thread, and goes on and ends in other threads. */
static void test_threads(void)
{
    uint64_t theirs = 5, expected = count_with_all_registers(5, stay, NULL);
    Coroutine *co = qemu_coroutine_create(count_and_yield, &theirs);

    qemu_coroutine_enter(co);
    for (int i = 0; i < 4; i++) {
        QemuThread thread;

        qemu_thread_create(&thread, "enter", enter_as_often, co,
                           QEMU_THREAD_JOINABLE);
        qemu_thread_join(&thread);
    }
    g_assert_cmpuint(theirs, ==, expected);
}

/* More of them at once than a pool keeps, each with a stack of its own. */
static void test_many(void)
{
    Coroutine *co[COROUTINES];
    uint64_t sum[COROUTINES];

    for (int i = 0; i < COROUTINES; i++) {
        sum[i] = i;
        co[i] = qemu_coroutine_create(count_and_yield, &sum[i]);
    }
    for (int turn = 0; turn <= SWITCHES; turn++) {
        for (int i = 0; i < COROUTINES; i++) {
            qemu_coroutine_enter(co[i]);
        }
    }
    for (int i = 0; i < COROUTINES; i++) {
        g_assert_cmpuint(sum[i], ==, count_with_all_registers(i, stay, NULL));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coroutine-switch/registers", test_registers);
    g_test_add_func("/coroutine-switch/threads", test_threads);
    g_test_add_func("/coroutine-switch/many", test_many);
    return g_test_run();
}
