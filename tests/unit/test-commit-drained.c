/*
 * A guest that writes while the monitor commits its disk
 *
 *    commit                              guest
 *    copies cluster 0 to the backing
 *    reads cluster 1                     writes cluster 0 of the overlay
 *    copies it
 *    empties the overlay
 *
 * What the guest has written is there afterwards.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"

#define CLUSTER     65536
#define CLUSTERS    4

/* The data of a node: a byte for each cluster, 0 for "not allocated here". */
typedef struct Image {
    uint8_t clusters[CLUSTERS];
} Image;

static BlockBackend *guest;
static uint8_t guest_data[CLUSTER];
static bool guest_writes;           /* when cluster 1 is read */
static bool guest_done;

static void guest_complete(void *opaque, int ret)
{
    g_assert_cmpint(ret, ==, 0);
    guest_done = true;
}

static void guest_write(void)
{
    static QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, guest_data, CLUSTER);

    memset(guest_data, 'g', sizeof(guest_data));
    blk_aio_pwritev(guest, 0, &qiov, 0, guest_complete, NULL);
}

/* Let other coroutines of this thread run before the caller goes on. */
static void coroutine_fn let_others_run(void)
{
    for (int i = 0; i < 10; i++) {
        aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
}

static int coroutine_fn GRAPH_RDLOCK
image_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
             QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    Image *image = bs->opaque;

    if (guest_writes && offset + bytes > CLUSTER) {
        guest_writes = false;
        guest_write();
        let_others_run();
    }
    for (int64_t done = 0; done < bytes; done += CLUSTER) {
        uint8_t byte = image->clusters[(offset + done) / CLUSTER];

        if (byte || !bs->backing) {
            qemu_iovec_memset(qiov, done, byte, CLUSTER);
        } else {
            bdrv_co_preadv_part(bs->backing, offset + done, CLUSTER, qiov,
                                done, 0);
        }
    }
    return 0;
}

static int coroutine_fn image_pwritev(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      BdrvRequestFlags flags)
{
    Image *image = bs->opaque;

    for (int64_t done = 0; done < bytes; done += CLUSTER) {
        uint8_t byte;

        qemu_iovec_to_buf(qiov, done, &byte, 1);
        image->clusters[(offset + done) / CLUSTER] = byte;
    }
    return 0;
}

static int coroutine_fn image_block_status(BlockDriverState *bs,
                                           BlockStatusWanted wanted,
                                           int64_t offset, int64_t bytes,
                                           int64_t *pnum, int64_t *map,
                                           BlockDriverState **file)
{
    Image *image = bs->opaque;

    *pnum = MIN(bytes, CLUSTER - offset % CLUSTER);
    return image->clusters[offset / CLUSTER] ? BDRV_BLOCK_DATA : 0;
}

static int image_make_empty(BlockDriverState *bs)
{
    memset(bs->opaque, 0, sizeof(Image));
    return 0;
}

static int64_t coroutine_fn image_getlength(BlockDriverState *bs)
{
    return CLUSTERS * CLUSTER;
}

static void image_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = CLUSTER;
}

static BlockDriver bdrv_image = {
    .format_name = "test-image",
    .instance_size = sizeof(Image),
    .supports_backing = true,
    .bdrv_child_perm = bdrv_default_perms,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = image_pwritev,
    .bdrv_co_block_status = image_block_status,
    .bdrv_co_getlength = image_getlength,
    .bdrv_make_empty = image_make_empty,
    .bdrv_refresh_limits = image_refresh_limits,
};

static BlockDriverState *image_open(const char *name, const char *clusters)
{
    BlockDriverState *bs = bdrv_new_open_driver(&bdrv_image, name, BDRV_O_RDWR,
                                                &error_abort);
    Image *image = bs->opaque;

    memcpy(image->clusters, clusters, CLUSTERS);
    bs->total_sectors = CLUSTERS * CLUSTER / BDRV_SECTOR_SIZE;
    return bs;
}

/* The data of the disk's clusters, read through the chain. */
static void check_disk(const char *want)
{
    g_autofree char *buf = g_malloc(CLUSTER);

    for (int i = 0; i < CLUSTERS; i++) {
        g_assert_cmpint(blk_pread(guest, i * CLUSTER, CLUSTER, buf, 0), ==, 0);
        g_assert_cmphex(buf[0], ==, want[i]);
        g_assert_cmphex(buf[CLUSTER - 1], ==, want[i]);
    }
}

static void test_write_meanwhile(void)
{
    BlockDriverState *base = image_open("base", "bbbb");
    BlockDriverState *top = image_open("top", "tt\0\0");

#if BASE_SINCE(10, 2)
    bdrv_graph_wrlock_drained();
    bdrv_set_backing_hd(top, base, &error_abort);
    bdrv_graph_wrunlock();
#else
    bdrv_set_backing_hd(top, base, &error_abort);
#endif
    guest = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE |
                    BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    blk_insert_bs(guest, top, &error_abort);
    check_disk("ttbb");

    guest_writes = true;
    g_assert_cmpint(bdrv_commit(top), ==, 0);
    while (!guest_done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    check_disk("gtbb");
    g_assert_cmpmem(base->opaque, CLUSTERS, "ttbb", CLUSTERS);

    blk_unref(guest);
    bdrv_unref(top);
    bdrv_unref(base);
}

/* A commit that fails lets the guest go on. */
static void test_nothing_to_commit(void)
{
    BlockDriverState *top = image_open("top", "tttt");

    guest = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE |
                    BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    blk_insert_bs(guest, top, &error_abort);
    g_assert_cmpint(bdrv_commit(top), ==, -ENOTSUP);
    check_disk("tttt");
    blk_unref(guest);
    bdrv_unref(top);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/commit/write-meanwhile", test_write_meanwhile);
    g_test_add_func("/commit/nothing-to-commit", test_nothing_to_commit);
    return g_test_run();
}
