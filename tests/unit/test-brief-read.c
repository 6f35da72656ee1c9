/*
 * An object that was replaced is freed when no thread reads it any more
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/brief-read.h"
#include "qemu/thread.h"

#define READERS         3
#define READS           1000
#define GOOD            0x600d

/* Long enough to be freed while it is read, if it could be. */
typedef struct Thing {
    int value[20000];
} Thing;

static Thing *thing;
static bool stop;
static int started;

static void *reader_run(void *opaque)
{
    unsigned *reads = opaque;

    qatomic_inc(&started);
    while (!qatomic_read(&stop)) {
        BriefReader *reader = brief_read_begin();
        Thing *seen;

        g_assert(reader);
        seen = qatomic_load_acquire(&thing);
        for (int i = 0; i < ARRAY_SIZE(seen->value); i++) {
            g_assert_cmphex(seen->value[i], ==, GOOD);
        }
        brief_read_end(reader);
        qatomic_set(reads, *reads + 1);
    }
    return NULL;
}

static Thing *thing_new(void)
{
    Thing *new = g_new(Thing, 1);

    for (int i = 0; i < ARRAY_SIZE(new->value); i++) {
        new->value[i] = GOOD;
    }
    return new;
}

static void thing_replace(void)
{
    Thing *old = thing;

    qatomic_store_release(&thing, thing_new());
    brief_read_wait();
    memset(old, 0, sizeof(*old));
    g_free(old);
}

static void test_replace(void)
{
    QemuThread threads[READERS];
    unsigned reads[READERS] = { 0 };

    thing = thing_new();
    for (int i = 0; i < READERS; i++) {
        qemu_thread_create(&threads[i], "reader", reader_run, &reads[i],
                           QEMU_THREAD_JOINABLE);
    }
    while (qatomic_read(&started) < READERS) {
        g_thread_yield();
    }
    for (int i = 0; i < READERS; i++) {
        while (qatomic_read(&reads[i]) < READS) {
            thing_replace();
        }
    }
    qatomic_set(&stop, true);
    for (int i = 0; i < READERS; i++) {
        qemu_thread_join(&threads[i]);
    }
    g_free(thing);
}

static void *waiter_run(void *opaque)
{
    bool *waited = opaque;

    brief_read_wait();
    qatomic_store_release(waited, true);
    return NULL;
}

/* A reader that is at it is waited for. */
static void test_wait(void)
{
    BriefReader *reader = brief_read_begin();
    QemuThread thread;
    bool waited = false;

    qemu_thread_create(&thread, "waiter", waiter_run, &waited,
                       QEMU_THREAD_JOINABLE);
    for (int i = 0; i < 10000; i++) {
        g_thread_yield();
        g_assert(!qatomic_read(&waited));
    }
    brief_read_end(reader);
    qemu_thread_join(&thread);
    g_assert(waited);

    /* No thread reads. */
    brief_read_wait();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/brief-read/wait", test_wait);
    g_test_add_func("/brief-read/replace", test_replace);
    return g_test_run();
}
