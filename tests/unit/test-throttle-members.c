/*
 * Members of a throttle group come and go while it is in use
 *
 * Four disks share the limits of a group.  Four threads send requests to all of
 * them while the main thread switches limits off and on, moves disks to other
 * threads and drains them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/throttle-groups.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"

#define THREADS         4
#define DISKS           4
#define DEPTH           4
#define BYTES           512
#define DISK_BYTES      (1024 * 1024)
#define CHANGES         150

typedef struct Load {
    BlockBackend *blk;
    int *running;
    bool *stop;
    int number;
} Load;

static void coroutine_fn load_entry(void *opaque)
{
    Load *load = opaque;
    g_autofree uint8_t *buf = g_malloc0(BYTES);

    while (!qatomic_read(load->stop)) {
        int ret;

        if (load->number % 2) {
            ret = blk_co_pread(load->blk, 0, BYTES, buf, 0);
        } else {
            ret = blk_co_pwrite(load->blk, 0, BYTES, buf, 0);
        }
        g_assert_cmpint(ret, >=, 0);
        aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    qatomic_dec(load->running);
    aio_wait_kick();
}

static BlockBackend *disk_open(void)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "null-co");
    qdict_put_int(options, "size", DISK_BYTES);
    qdict_put_bool(options, "read-zeroes", true);
    return blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &error_abort);
}

static void limits_on(BlockBackend *blk)
{
    ThrottleConfig config;

    throttle_config_init(&config);
    config.buckets[THROTTLE_OPS_READ].avg = 40000;
    config.buckets[THROTTLE_OPS_WRITE].avg = 40000;
    blk_io_limits_enable(blk, "group");
    blk_set_io_limits(blk, &config);
}

/* Something that a user may do at any time. */
static void change(GRand *rand, BlockBackend *blk, IOThread **iothreads)
{
    int thread = g_rand_int_range(rand, 0, THREADS + 1);
    AioContext *ctx = thread == THREADS ? qemu_get_aio_context() :
                      iothread_get_aio_context(iothreads[thread]);

    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        blk_drain(blk);
        break;
    case 1:
        g_assert_cmpint(blk_set_aio_context(blk, ctx, &error_abort), ==, 0);
        break;
    default:
        blk_io_limits_disable(blk);
        limits_on(blk);
        break;
    }
}

static void test_members(void)
{
    Load loads[THREADS * DISKS * DEPTH];
    IOThread *iothreads[THREADS];
    BlockBackend *blk[DISKS];
    GRand *rand = g_rand_new_with_seed(1);
    int running = ARRAY_SIZE(loads);
    bool stop = false;

    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (int i = 0; i < DISKS; i++) {
        blk[i] = disk_open();
        blk_set_aio_context(blk[i], iothread_get_aio_context(iothreads[i]),
                            &error_abort);
        limits_on(blk[i]);
    }
    for (int i = 0; i < ARRAY_SIZE(loads); i++) {
        IOThread *iothread = iothreads[i / DISKS % THREADS];

        loads[i] = (Load) {
            .blk = blk[i % DISKS],
            .running = &running,
            .stop = &stop,
            .number = i / DISKS / THREADS,
        };
        aio_co_schedule(iothread_get_aio_context(iothread),
                        qemu_coroutine_create(load_entry, &loads[i]));
    }

    for (int i = 0; i < CHANGES; i++) {
        change(rand, blk[g_rand_int_range(rand, 0, DISKS)], iothreads);
        aio_poll(qemu_get_aio_context(), false);
    }

    qatomic_set(&stop, true);
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&running));
    for (int i = 0; i < DISKS; i++) {
        blk_set_aio_context(blk[i], qemu_get_aio_context(), &error_abort);
        blk_io_limits_disable(blk[i]);
        blk_unref(blk[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    module_call_init(MODULE_INIT_QOM);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/throttle/members", test_members);
    return g_test_run();
}
