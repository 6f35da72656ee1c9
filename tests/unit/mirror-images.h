/*
 * Two images of zeroes, and a mirror job from one to the other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MIRROR_IMAGES_H
#define TESTS_UNIT_MIRROR_IMAGES_H

#include "block/block_int.h"
#include "block/blockjob_int.h"
#include "qapi/error.h"
#include "system/block-backend.h"

#define IMAGE_BYTES (1024 * 1024)

static inline int64_t coroutine_fn image_getlength(BlockDriverState *bs)
{
    return IMAGE_BYTES;
}

static inline int coroutine_fn
image_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
             QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    qemu_iovec_memset(qiov, 0, 0, bytes);
    return 0;
}

static inline int coroutine_fn
image_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
              QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return 0;
}

static inline BlockDriverState *image_open(BlockDriver *driver,
                                           const char *name)
{
    BlockDriverState *bs = bdrv_new_open_driver(driver, name, BDRV_O_RDWR,
                                                &error_abort);

    bs->total_sectors = IMAGE_BYTES / BDRV_SECTOR_SIZE;
    return bs;
}

/* @granularity: bytes of a chunk; 0: the default */
static inline BlockJob *job_open(BlockDriverState *source,
                                 BlockDriverState *target, uint32_t granularity)
{
    mirror_start("job", source, target, NULL, JOB_DEFAULT, 0, granularity, 0,
                 MIRROR_SYNC_MODE_NONE, MIRROR_LEAVE_BACKING_CHAIN, false,
                 BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_REPORT, false,
                 "filter", MIRROR_COPY_MODE_BACKGROUND, &error_abort);
    JOB_LOCK_GUARD();
    return block_job_get_locked("job");
}

/* Cancel the job, and close the images and their user. */
static inline void job_close(BlockJob *job, BlockBackend *blk,
                             BlockDriverState *source, BlockDriverState *target)
{
    WITH_JOB_LOCK_GUARD() {
        job_cancel_sync_locked(&job->job, true);
    }
    blk_unref(blk);
    bdrv_unref(source);
    bdrv_unref(target);
}

#endif /* TESTS_UNIT_MIRROR_IMAGES_H */
