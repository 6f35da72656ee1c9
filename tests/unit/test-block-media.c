/*
 * Disks whose medium can be taken out, and the errors of requests without one
 *
 *     BlockBackend --- filter --- drive    has a medium, or has none
 *                         |
 *                         `------ disk     always there
 *
 * Nodes remember that there is no drive below them.  They forget this when the
 * graph changes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "system/block-backend.h"
#include "memory-disk.h"

static bool inserted;

static bool coroutine_fn drive_co_is_inserted(BlockDriverState *bs)
{
    return inserted;
}

static int coroutine_fn any_co_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      BdrvRequestFlags flags)
{
    return 0;
}

static int coroutine_fn any_co_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       BdrvRequestFlags flags)
{
    return 0;
}

static int64_t coroutine_fn any_co_getlength(BlockDriverState *bs)
{
    return 64 * KiB;
}

static int coroutine_fn GRAPH_RDLOCK
filter_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                 QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return bdrv_co_preadv(bs->file, offset, bytes, qiov, flags);
}

static int coroutine_fn GRAPH_RDLOCK
filter_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                  QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    return bdrv_co_pwritev(bs->file, offset, bytes, qiov, flags);
}

static BlockDriver bdrv_drive = {
    .format_name = "test-drive",
    .bdrv_co_preadv = any_co_preadv,
    .bdrv_co_pwritev = any_co_pwritev,
    .bdrv_co_getlength = any_co_getlength,
    .bdrv_co_is_inserted = drive_co_is_inserted,
    .bdrv_child_perm = bdrv_default_perms,
};

static BlockDriver bdrv_disk = {
    .format_name = "test-disk",
    .bdrv_co_preadv = any_co_preadv,
    .bdrv_co_pwritev = any_co_pwritev,
    .bdrv_co_getlength = any_co_getlength,
    .bdrv_child_perm = bdrv_default_perms,
};

static void share_all(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role,
                      BlockReopenQueue *queue, uint64_t perm, uint64_t shared,
                      uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm;
    *nshared = BLK_PERM_ALL;
}

static BlockDriver bdrv_filter = {
    .format_name = "test-filter",
    .is_filter = true,
    .bdrv_co_preadv = filter_co_preadv,
    .bdrv_co_pwritev = filter_co_pwritev,
    .bdrv_child_perm = share_all,
};

static BlockDriverState *node_new(BlockDriver *driver, const char *name)
{
    return bdrv_new_open_driver(driver, name, BDRV_O_RDWR, &error_abort);
}

static void attach(BlockDriverState *filter, BlockDriverState *bs)
{
    bdrv_graph_wrlock();
    bdrv_attach_child(filter, bs, "file", &child_of_bds,
                      BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, &error_abort);
    bdrv_graph_wrunlock();
    filter->total_sectors = bs->total_sectors;
}

static BlockBackend *blk_over(BlockDriverState *bs)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(),
                                BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                                BLK_PERM_ALL);

    blk_insert_bs(blk, bs, &error_abort);
    return blk;
}

static void expect_io(BlockBackend *blk, int ret)
{
    uint8_t buf[512] = { 0 };

    g_assert_cmpint(blk_pread(blk, 512, sizeof(buf), buf, 0), ==, ret);
    g_assert_cmpint(blk_pwrite(blk, 512, sizeof(buf), buf, 0), ==, ret);
}

/* More than once, for the first one may make the node remember. */
static void expect(BlockBackend *blk, int ret)
{
    for (unsigned i = 0; i < 3; i++) {
        expect_io(blk, ret);
        g_assert(blk_is_inserted(blk) == !ret);
    }
}

static void test_drive(void)
{
    BlockDriverState *filter = node_new(&bdrv_filter, "filter");
    BlockBackend *blk;

    attach(filter, node_new(&bdrv_drive, "drive"));
    blk = blk_over(filter);
    for (unsigned i = 0; i < 3; i++) {
        inserted = true;
        expect(blk, 0);
        inserted = false;
        expect(blk, -ENOMEDIUM);
    }
    blk_unref(blk);
    bdrv_unref(filter);
}

static void replace(BlockDriverState *from, BlockDriverState *to)
{
    bdrv_drained_begin(from);
    bdrv_drained_begin(to);
    bdrv_graph_wrlock();
    bdrv_replace_node(from, to, &error_abort);
    bdrv_graph_wrunlock();
    bdrv_drained_end(to);
    bdrv_drained_end(from);
}

/* The node below is replaced by a drive, and the drive by a disk. */
static void test_replace(void)
{
    BlockDriverState *filter = node_new(&bdrv_filter, "filter");
    BlockDriverState *drive = node_new(&bdrv_drive, "drive");
    BlockDriverState *disk = node_new(&bdrv_disk, "disk");
    BlockBackend *blk;

    bdrv_ref(disk);
    attach(filter, disk);
    blk = blk_over(filter);
    inserted = false;
    for (unsigned i = 0; i < 3; i++) {
        expect(blk, 0);
        replace(disk, drive);
        expect(blk, -ENOMEDIUM);
        replace(drive, disk);
    }
    expect(blk, 0);
    blk_unref(blk);
    bdrv_unref(filter);
    bdrv_unref(drive);
    bdrv_unref(disk);
}

/* A format driver that gives its image up, as one of a corrupt image does */
static void test_gone(void)
{
    BlockDriverState *filter = node_new(&bdrv_filter, "filter");
    BlockDriverState *disk = node_new(&bdrv_disk, "disk");
    BlockBackend *blk;

    attach(filter, disk);
    blk = blk_over(filter);
    expect(blk, 0);
    disk->drv = NULL;
    expect_io(blk, -ENOMEDIUM);
    disk->drv = &bdrv_disk;
    blk_unref(blk);
    bdrv_unref(filter);
}

/*
 * A node over a disk and a qcow2 image that turns out to be corrupt: its L1
 * table has an entry that points into the middle of a cluster.
 */
static void test_corrupt(void)
{
    BlockDriverState *filter = node_new(&bdrv_filter, "filter");
    BlockDriverState *disk = node_new(&bdrv_disk, "disk");
    BlockBackend *image, *blk;
    BlockDriver *qcow2;
    uint8_t buf[512] = { 0 };
    uint64_t *words;

    memory_disk_open("cluster_size=4096", 64 * KiB);
    words = memory_disk_words();
    /* The header's word 5 is the place of the L1 table. */
    words[be64_to_cpu(words[5]) / sizeof(uint64_t)] =
        cpu_to_be64((1ULL << 63) + 512);
    image = memory_disk_blk(4);
    qcow2 = blk_bs(image)->drv;

    attach(filter, disk);
    bdrv_ref(blk_bs(image));
    bdrv_graph_wrlock();
    bdrv_attach_child(filter, blk_bs(image), "other", &child_of_bds,
                      BDRV_CHILD_DATA, &error_abort);
    bdrv_graph_wrunlock();
    blk = blk_over(filter);
    expect(blk, 0);
    g_assert_cmpint(blk_pread(image, 0, sizeof(buf), buf, 0), ==, -EIO);
    expect(blk, -ENOMEDIUM);

    /* A node without a driver is not closed: its memory would leak. */
    blk_bs(image)->drv = qcow2;
    blk_unref(blk);
    bdrv_unref(filter);
    blk_unref(image);
    memory_disk_close();
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/media/drive", test_drive);
    g_test_add_func("/block/media/replace", test_replace);
    g_test_add_func("/block/media/gone", test_gone);
    g_test_add_func("/block/media/corrupt", test_corrupt);
    return g_test_run();
}
