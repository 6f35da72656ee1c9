/*
 * The barriers that a drained section executes in all threads
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/asym-barrier.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"

#define NODES           50
#define BYTES           512
#define DISK_BYTES      (1024 * 1024)

static BlockBackend *disk_open(uint64_t latency_ns)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "null-co");
    qdict_put_int(options, "size", DISK_BYTES);
    qdict_put_bool(options, "read-zeroes", true);
    qdict_put_int(options, "latency-ns", latency_ns);
    return blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &error_abort);
}

static unsigned barriers_since(AsymCount before)
{
    return asym_mb_begun() - before;
}

typedef struct Load {
    BlockBackend *blk;
    int requests;
    bool done;
} Load;

static void coroutine_fn load_entry(void *opaque)
{
    Load *load = opaque;
    uint8_t buf[BYTES];

    for (int i = 0; i < load->requests; i++) {
        g_assert_cmpint(blk_co_pread(load->blk, 0, BYTES, buf, 0), ==, 0);
    }
    qatomic_store_release(&load->done, true);
    aio_wait_kick();
}

/* @requests of another thread, which sleeps afterwards. */
static void load_in(IOThread *iothread, BlockBackend *blk, int requests)
{
    Load load = { .blk = blk, .requests = requests };

    aio_co_schedule(iothread_get_aio_context(iothread),
                    qemu_coroutine_create(load_entry, &load));
    AIO_WAIT_WHILE_UNLOCKED(NULL, !qatomic_load_acquire(&load.done));
}

/* An idle disk is drained at no cost to others, one that was busy with one. */
static void test_single(void)
{
    BlockBackend *blk = disk_open(0);
    IOThread *iothread = iothread_new();
    AsymCount before = asym_mb_begun();

    for (int i = 0; i < 10; i++) {
        blk_drain(blk);
    }
    g_assert_cmpuint(barriers_since(before), ==, 0);

    for (int round = 0; round < 3; round++) {
        load_in(iothread, blk, 1000);
        before = asym_mb_begun();
        for (int i = 0; i < 10; i++) {
            blk_drain(blk);
        }
        g_assert_cmpuint(barriers_since(before), ==, 1);
    }

    load_in(iothread, blk, 3);
    before = asym_mb_begun();
    blk_drain(blk);
    g_assert_cmpuint(barriers_since(before), ==, 0);

    blk_unref(blk);
    iothread_join(iothread);
}

/* Draining all nodes at once takes one barrier for any number of busy nodes. */
static void test_all(void)
{
    BlockBackend *blk[NODES];
    IOThread *iothread = iothread_new();
    AsymCount before;

    for (int i = 0; i < NODES; i++) {
        blk[i] = disk_open(0);
    }
    before = asym_mb_begun();
    bdrv_drain_all();
    g_assert_cmpuint(barriers_since(before), ==, 0);

    for (int i = 0; i < NODES; i += 2) {
        load_in(iothread, blk[i], 1000);
    }
    before = asym_mb_begun();
    for (int i = 0; i < 10; i++) {
        bdrv_drain_all();
    }
    g_assert_cmpuint(barriers_since(before), ==, 1);

    for (int i = 0; i < NODES; i++) {
        blk_unref(blk[i]);
    }
    iothread_join(iothread);
}

/* A drain waits for a request that is in flight. */
static void test_busy(void)
{
    BlockBackend *blk = disk_open(1000000);
    Load load = { .blk = blk, .requests = 1 };

    blk_inc_in_flight(blk);
    qemu_coroutine_enter(qemu_coroutine_create(load_entry, &load));
    g_assert_false(load.done);
    blk_dec_in_flight(blk);
    blk_drain(blk);
    g_assert_true(load.done);
    blk_unref(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/drain-barriers/single", test_single);
    g_test_add_func("/drain-barriers/all", test_all);
    g_test_add_func("/drain-barriers/busy", test_busy);
    return g_test_run();
}
