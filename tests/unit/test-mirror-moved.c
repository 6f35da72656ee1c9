/*
 * A mirror that is about to complete moves to another AioContext
 *
 *     main thread      complete | .......... move ....... | polls ......
 *     job's thread              | job drains | is held .. | job completes
 *
 * The job drains its source from its coroutine, and until this drain has ended
 * each other drain takes the job for quiet, although it is not paused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "mirror-held.h"

static bool job_ready(BlockJob *job)
{
    JOB_LOCK_GUARD();
    return job_is_ready_locked(&job->job);
}

/* Let the job drain its source, whose bottom half waits for the main loop. */
static void complete_and_hold(BlockJob *job, AioContext *ctx)
{
    AioContext *main_ctx = qemu_get_aio_context();

    while (!job_ready(job)) {
        aio_poll(main_ctx, true);
    }
    while (aio_poll(main_ctx, false)) {
        /* The main loop has nothing to do until the job drains. */
    }
    WITH_JOB_LOCK_GUARD() {
        job_complete_locked(&job->job, &error_abort);
    }
    while (aio_compute_timeout(main_ctx)) {
        g_thread_yield();
    }
    mirror_hold(ctx);
}

static bool job_gone(void)
{
    JOB_LOCK_GUARD();
    return !block_job_get_locked("job");
}

static void test_completes(void)
{
    IOThread *iothread = iothread_new();
    AioContext *ctx = iothread_get_aio_context(iothread);
    BlockDriverState *source = image_open_in("source", ctx);
    BlockDriverState *target = image_open_in("target", ctx);
    BlockBackend *blk = blk_new(ctx, BLK_PERM_WRITE, BLK_PERM_ALL);

    /* The source stays in that thread, and the job goes there. */
    blk_insert_bs(blk, source, &error_abort);
    mirror_held_init();
    complete_and_hold(job_open(source, target, 0), ctx);

    blk_set_allow_aio_context_change(blk, true);
    bdrv_try_change_aio_context(blk_bs(blk), qemu_get_aio_context(), NULL,
                                &error_abort);
    g_assert(bdrv_get_aio_context(source) == qemu_get_aio_context());

    qemu_event_set(&mirror_go_on);
    while (!job_gone()) {
        aio_poll(qemu_get_aio_context(), true);
    }
    blk_unref(blk);
    bdrv_unref(source);
    bdrv_unref(target);
    iothread_join(iothread);
    mirror_held_destroy();
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/moved/completes", test_completes);
    return g_test_run();
}
