/*
 * A mirror that has been resumed is not quiet before it has run
 *
 *     main thread      drain --- end of drain ----- drain ...........| quiet
 *     job's thread     job pauses     | is held ....... job runs, pauses
 *
 * The end of the first drain resumes the job, whose thread is held, so that
 * its coroutine cannot run.  The second drain has to wait for it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "mirror-held.h"

/* In the main thread, while it polls. */
static void let_go(void *opaque)
{
    qemu_event_set(&mirror_go_on);
}

static void check_state(BlockJob *job, bool busy, bool paused)
{
    JOB_LOCK_GUARD();
    g_assert_cmpint(job->job.busy, ==, busy);
    g_assert_cmpint(job->job.paused, ==, paused);
}

static void test_drain_again(void)
{
    IOThread *iothread = iothread_new();
    AioContext *ctx = iothread_get_aio_context(iothread);
    BlockDriverState *source = image_open_in("source", ctx);
    BlockDriverState *target = image_open_in("target", ctx);
    BlockBackend *blk = blk_new(ctx, BLK_PERM_WRITE, BLK_PERM_ALL);
    BlockJob *job;

    /* The source stays in that thread, and the job goes there. */
    blk_insert_bs(blk, source, &error_abort);
    job = job_open(source, target, 0);
    mirror_held_init();
    bdrv_drained_begin(source);
    check_state(job, false, true);

    mirror_hold(ctx);
    bdrv_drained_end(source);
    check_state(job, true, true);

    aio_bh_schedule_oneshot(qemu_get_aio_context(), let_go, NULL);
    bdrv_drained_begin(source);
    check_state(job, false, true);
    bdrv_drained_end(source);

    job_close(job, blk, source, target);
    iothread_join(iothread);
    mirror_held_destroy();
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/resumed/drain-again", test_drain_again);
    return g_test_run();
}
