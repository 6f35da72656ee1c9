/*
 * The state that a mirror reports while it changes to active writes
 *
 * A guest's write that began before the change marks its block while the job
 * flushes the target, having found nothing to copy.  The target is in sync
 * again when that block is copied, not when the flush is done.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/blockjob_int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "mirror-images.h"
#include "mirror-job.h"

/* Requests of the target that are held, and whether to hold more of them */
typedef struct Gate {
    bool shut;
    int waiting;
} Gate;

static Gate flushes, writes;

static void coroutine_fn gate_pass(Gate *gate)
{
    gate->waiting++;
    while (gate->shut) {
        aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
    gate->waiting--;
}

static int coroutine_fn target_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       BdrvRequestFlags flags)
{
    gate_pass(&writes);
    return 0;
}

static int coroutine_fn target_flush(BlockDriverState *bs)
{
    gate_pass(&flushes);
    return 0;
}

static BlockDriver bdrv_source = {
    .format_name = "test-source",
    .bdrv_co_getlength = image_getlength,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = image_pwritev,
};

static BlockDriver bdrv_target = {
    .format_name = "test-target",
    .bdrv_co_getlength = image_getlength,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = target_pwritev,
    .bdrv_co_flush = target_flush,
};

static void wait_at(Gate *gate)
{
    while (!gate->waiting) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

static void test_change(void)
{
    BlockDriverState *source = image_open(&bdrv_source, "source");
    BlockDriverState *target = image_open(&bdrv_target, "target");
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE,
                                BLK_PERM_ALL);
    uint8_t buf[BDRV_SECTOR_SIZE] = { 0 };
    BlockJob *job;

    blk_insert_bs(blk, source, &error_abort);
    flushes.shut = true;
    writes.shut = true;
    job = job_open(source, target, 0);
    wait_at(&flushes);

    g_assert(blk_pwrite(blk, 0, sizeof(buf), buf, 0) >= 0);
    job_write_blocking(job);
    flushes.shut = false;
    wait_at(&writes);
    g_assert(!job_synced(job));

    writes.shut = false;
    while (!job_synced(job)) {
        aio_poll(qemu_get_aio_context(), true);
    }

    job_close(job, blk, source, target);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/change", test_change);
    return g_test_run();
}
