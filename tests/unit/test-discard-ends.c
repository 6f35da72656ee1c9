/*
 * A discard whose ends a device refuses
 *
 *     |        |########|########|####    |      asked for
 *     |        |  done  |  done  |refused |      granularity
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"

#define GRAIN       65536
#define GRAINS      8

static bool discarded[GRAINS];
static unsigned refused;
static int whole_error;             /* for pieces that are aligned */

static int coroutine_fn disk_pdiscard(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes)
{
    if (offset % GRAIN || bytes % GRAIN) {
        refused++;
        return -EINVAL;
    }
    for (int64_t i = offset / GRAIN; i < (offset + bytes) / GRAIN; i++) {
        discarded[i] = true;
    }
    return whole_error;
}

static int64_t coroutine_fn disk_getlength(BlockDriverState *bs)
{
    return GRAINS * GRAIN;
}

static void disk_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = 512;
    bs->bl.pdiscard_alignment = GRAIN;
}

static BlockDriver bdrv_disk = {
    .format_name = "test-disk",
    .bdrv_co_pdiscard = disk_pdiscard,
    .bdrv_co_getlength = disk_getlength,
    .bdrv_refresh_limits = disk_refresh_limits,
};

static BlockBackend *disk_open(void)
{
    BlockDriverState *bs = bdrv_new_open_driver(&bdrv_disk, "disk",
                                                BDRV_O_RDWR | BDRV_O_UNMAP,
                                                &error_abort);
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL,
                                BLK_PERM_ALL);

    bs->total_sectors = GRAINS * GRAIN / BDRV_SECTOR_SIZE;
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    memset(discarded, 0, sizeof(discarded));
    refused = 0;
    whole_error = 0;
    return blk;
}

/* Discard, and check that grains from @first up to @end (excluded) are gone. */
static void check(int64_t offset, int64_t bytes, unsigned ends, int first,
                  int end)
{
    BlockBackend *blk = disk_open();

    g_assert_cmpint(base_pdiscard(blk, offset, bytes, 0), ==, 0);
    g_assert_cmpuint(refused, ==, ends);
    for (int i = 0; i < GRAINS; i++) {
        g_assert_cmpint(discarded[i], ==, i >= first && i < end);
    }
    blk_unref(blk);
}

static void test_ends(void)
{
    check(0, GRAINS * GRAIN, 0, 0, GRAINS);
    check(512, 3 * GRAIN - 512, 1, 1, 3);
    check(GRAIN, 2 * GRAIN + 512, 1, 1, 3);
    check(GRAIN + 512, 2 * GRAIN, 2, 2, 3);
    check(GRAIN + 512, 512, 1, 0, 0);
}

/* The guest is told of the error of an aligned piece. */
static void test_error(void)
{
    BlockBackend *blk = disk_open();

    whole_error = -EINVAL;
    g_assert_cmpint(base_pdiscard(blk, 0, GRAIN, 0), ==, -EINVAL);
    whole_error = -EIO;
    g_assert_cmpint(base_pdiscard(blk, 512, 2 * GRAIN, 0), ==, -EIO);
    blk_unref(blk);
}

/* A node that has no granularity, and cannot discard less than a block. */
static void test_no_granularity(void)
{
    QDict *options = qdict_new();
    BlockBackend *blk;

    qdict_put_str(options, "driver", "blkdebug");
    qdict_put_str(options, "align", "4096");
    qdict_put_str(options, "image.driver", "null-co");
    blk = blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                       &error_abort);
    g_assert_cmpint(base_pdiscard(blk, 512, 512, 0), ==, 0);
    g_assert_cmpint(base_pdiscard(blk, 3584, 8192, 0), ==, 0);
    blk_unref(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/discard/ends", test_ends);
    g_test_add_func("/discard/error", test_error);
    g_test_add_func("/discard/no-granularity", test_no_granularity);
    return g_test_run();
}
