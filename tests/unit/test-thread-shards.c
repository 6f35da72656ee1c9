/*
 * Shards of an object: one for each slot, found in the order of the slots
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "qemu/thread.h"
#include "qemu/thread-shards.h"

#define LAST THREAD_SLOT_SHARED
#define MEMBERS 8
#define ROUNDS 200

static unsigned *number_new(unsigned number)
{
    unsigned *shard = thread_shard_alloc(sizeof(*shard));

    *shard = number;
    return shard;
}

static void test_alloc(void)
{
    char *shard = thread_shard_alloc(THREAD_SLOT_ALIGN + 1);

    g_assert_true(QEMU_PTR_IS_ALIGNED(shard, THREAD_SLOT_ALIGN));
    for (unsigned i = 0; i < 2 * THREAD_SLOT_ALIGN; i++) {
        g_assert_cmpint(shard[i], ==, 0);
    }
    qemu_vfree(shard);
}

static void test_order(void)
{
    static const unsigned slots[] = { 5, LAST, 0, 70 };
    static const unsigned want[] = { 0, 5, 70, LAST };
    ThreadShards shards = { 0 };
    unsigned n = 0, *shard;

    THREAD_SHARDS_FOREACH(shard, &shards) {
        g_assert_not_reached();
    }
    for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
        g_assert_null(thread_shards_get(&shards, slots[i]));
        shard = number_new(slots[i]);
        g_assert_true(thread_shards_add(&shards, slots[i], shard) == shard);
        g_assert_true(thread_shards_get(&shards, slots[i]) == shard);
    }
    g_assert_cmpuint(shards.slots, ==, THREAD_SLOTS_ALL);
    THREAD_SHARDS_FOREACH(shard, &shards) {
        g_assert_cmpuint(n, <, ARRAY_SIZE(want));
        g_assert_cmpuint(*shard, ==, want[n++]);
    }
    g_assert_cmpuint(n, ==, ARRAY_SIZE(want));
    thread_shards_cleanup(&shards, NULL);
}

static unsigned cleaned;

static void count_clean(void *shard)
{
    cleaned += *(unsigned *)shard;
}

static void test_cleanup(void)
{
    static const ThreadShards none;
    ThreadShards shards = { 0 };

    cleaned = 0;
    thread_shards_add(&shards, 1, number_new(10));
    thread_shards_add(&shards, 3, number_new(100));
    thread_shards_cleanup(&shards, count_clean);
    g_assert_cmpuint(cleaned, ==, 110);
    g_assert_cmpmem(&shards, sizeof(shards), &none, sizeof(none));
}

/* Several threads bring a shard for the last slot; all have to get the same. */
typedef struct Member {
    ThreadShards *shards;
    QemuEvent *start;
    QemuThread thread;
    unsigned number;
    void *got;
} Member;

static void *member_run(void *opaque)
{
    Member *member = opaque;

    qemu_event_wait(member->start);
    member->got = thread_shards_add(member->shards, LAST,
                                    number_new(member->number));
    return NULL;
}

static void test_shared(void)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        ThreadShards shards = { 0 };
        Member members[MEMBERS];
        QemuEvent start;

        qemu_event_init(&start, false);
        for (unsigned i = 0; i < MEMBERS; i++) {
            members[i] = (Member) { .shards = &shards, .start = &start,
                                    .number = i };
            qemu_thread_create(&members[i].thread, "member", member_run,
                               &members[i], QEMU_THREAD_JOINABLE);
        }
        qemu_event_set(&start);
        for (unsigned i = 0; i < MEMBERS; i++) {
            qemu_thread_join(&members[i].thread);
            g_assert_true(members[i].got == thread_shards_get(&shards, LAST));
        }
        thread_shards_cleanup(&shards, NULL);
        qemu_event_destroy(&start);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/thread-shards/alloc", test_alloc);
    g_test_add_func("/thread-shards/order", test_order);
    g_test_add_func("/thread-shards/cleanup", test_cleanup);
    g_test_add_func("/thread-shards/shared", test_shared);
    return g_test_run();
}
