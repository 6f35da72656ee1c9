/*
 * A disk in memory whose requests can be stopped at known steps
 *
 * Words are copied one by one and atomically, so that requests which overlap,
 * as a guest's may, are no data races.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "stepped-disk.h"

SteppedDisk *disk;

static void coroutine_fn yield_in_place(void)
{
    aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
}

static void coroutine_fn step(Step which)
{
    qatomic_inc(&disk->steps[which]);
    if (disk->gate_closed[which]) {
        disk->gate_closed[which] = false;
        disk->waiting[which] = qemu_coroutine_self();
        qemu_coroutine_yield();
    } else {
        yield_in_place();
    }
}

void disk_gate_open(Step which)
{
    g_assert(disk->waiting[which]);
    aio_co_wake(g_steal_pointer(&disk->waiting[which]));
}

static int coroutine_fn stepped_co_preadv(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov,
                                          BdrvRequestFlags flags)
{
    g_autofree uint64_t *buf = g_malloc(bytes);

    step(STEP_READ);
    if (disk->fail_reads) {
        return -EIO;
    }
    for (int64_t i = 0; i < bytes / sizeof(*buf); i++) {
        buf[i] = qatomic_read(&disk->words[offset / sizeof(*buf) + i]);
    }
    qemu_iovec_from_buf(qiov, 0, buf, bytes);
    return 0;
}

static void disk_reaches(int64_t end)
{
    int64_t old = qatomic_read(&disk->length);

    while (old < end) {
        int64_t seen = qatomic_cmpxchg(&disk->length, old, end);

        if (seen == old) {
            break;
        }
        old = seen;
    }
}

static int coroutine_fn stepped_co_pwritev(BlockDriverState *bs, int64_t offset,
                                           int64_t bytes, QEMUIOVector *qiov,
                                           BdrvRequestFlags flags)
{
    g_autofree uint64_t *buf = g_malloc(bytes);

    if (disk->forgets) {
        disk_reaches(offset + bytes);
        return 0;
    }
    g_assert_cmpint(offset + bytes, <=, DISK_BYTES);
    step(STEP_WRITE);
    qemu_iovec_to_buf(qiov, 0, buf, bytes);
    for (int64_t i = 0; i < bytes / sizeof(*buf); i++) {
        qatomic_set(&disk->words[offset / sizeof(*buf) + i], buf[i]);
    }
    disk_reaches(offset + bytes);
    return 0;
}

static void disk_zero(int64_t offset, int64_t end)
{
    for (int64_t i = offset; i < end; i += sizeof(uint64_t)) {
        qatomic_set(&disk->words[i / sizeof(uint64_t)], 0);
    }
    disk_reaches(end);
}

/* Past its end the disk is claimed, as block/file-posix.c claims a file. */
static int coroutine_fn stepped_co_pwrite_zeroes(BlockDriverState *bs,
                                                 int64_t offset, int64_t bytes,
                                                 BdrvRequestFlags flags)
{
    g_assert_cmpint(offset + bytes, <=, DISK_BYTES);
    if (offset + bytes > qatomic_read(&disk->length)) {
        BdrvTrackedRequest *req = bdrv_co_get_self_request(bs);
        int64_t before = req->bytes;

        req->bytes = BDRV_MAX_LENGTH - req->offset;
        if (!bdrv_make_request_serialising(req, BLOCK)) {
            req->bytes = before;
            return -ENOTSUP;
        }
    }
    step(STEP_ZERO);
    disk_zero(offset, offset + bytes);
    return 0;
}

static int64_t coroutine_fn stepped_co_getlength(BlockDriverState *bs)
{
    return qatomic_read(&disk->length);
}

/* A part that is added is cleared; no write to it may come meanwhile. */
static int coroutine_fn stepped_co_truncate(BlockDriverState *bs,
                                            int64_t offset, bool exact,
                                            PreallocMode prealloc,
                                            BdrvRequestFlags flags,
                                            Error **errp)
{
    int64_t length = qatomic_read(&disk->length);

    g_assert_cmpint(offset, <=, DISK_BYTES);
    g_assert_cmpint(offset, >=, length);
    step(STEP_ZERO);
    disk_zero(length, offset);
    return 0;
}

static int coroutine_fn stepped_co_get_info(BlockDriverState *bs,
                                            BlockDriverInfo *bdi)
{
    if (disk->gate_closed[STEP_INFO]) {
        step(STEP_INFO);
    }
    bdi->cluster_size = CLUSTER;
    bdi->subcluster_size = CLUSTER;
    return 0;
}

static int coroutine_fn stepped_co_block_status(BlockDriverState *bs,
                                                BlockStatusWanted wanted,
                                                int64_t offset, int64_t bytes,
                                                int64_t *pnum, int64_t *map,
                                                BlockDriverState **file)
{
    *pnum = bytes;
    return 0;
}

static void stepped_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = BLOCK;
}

static BlockDriver bdrv_stepped = {
    .format_name = "stepped-disk",
    .supports_backing = true,
    .bdrv_co_preadv = stepped_co_preadv,
    .bdrv_co_pwritev = stepped_co_pwritev,
    .bdrv_co_pwrite_zeroes = stepped_co_pwrite_zeroes,
    .bdrv_co_getlength = stepped_co_getlength,
    .bdrv_co_truncate = stepped_co_truncate,
    .bdrv_co_get_info = stepped_co_get_info,
    .bdrv_co_block_status = stepped_co_block_status,
    .bdrv_refresh_limits = stepped_refresh_limits,
};

BlockBackend *disk_open(int64_t length)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL,
                                BLK_PERM_ALL);
    BlockDriverState *bs;

    disk = g_new0(SteppedDisk, 1);
    disk->length = length;
    bs = bdrv_new_open_driver(&bdrv_stepped, "node", BDRV_O_RDWR, &error_abort);
    bs->total_sectors = length / SECTOR;
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    blk_set_allow_write_beyond_eof(blk, true);
    return blk;
}

void disk_close(BlockBackend *blk)
{
    blk_unref(blk);
    g_free(disk);
}
