/*
 * Copy-on-read of what has been copied
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "memory-disk.h"

#define CLUSTER     4096

static bool is_allocated(BlockDriverState *bs, int64_t offset)
{
    int64_t pnum;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    return bdrv_is_allocated(bs, offset, CLUSTER, &pnum) > 0;
}

/* The first cluster has data, the others have nothing. */
static BlockBackend *image_new(void)
{
    g_autofree char *buf = g_strnfill(CLUSTER, 'c');
    BlockBackend *blk;

    memory_disk_open("cluster_size=4096", 16 * CLUSTER);
    blk = memory_disk_blk(8);
    g_assert(blk_pwrite(blk, 0, CLUSTER, buf, 0) >= 0);
    blk_unref(blk);
    blk = memory_disk_blk(8);
    bdrv_enable_copy_on_read(blk_bs(blk));
    return blk;
}

static void image_free(BlockBackend *blk)
{
    bdrv_disable_copy_on_read(blk_bs(blk));
    blk_unref(blk);
    memory_disk_close();
}

/* Reads of allocated data claim nothing and do not wait for the lock. */
static void test_copied(void)
{
    BlockBackend *blk = image_new();
    char buf[CLUSTER];

    g_assert(blk_pread(blk, 0, CLUSTER, buf, 0) >= 0);
    WITH_QEMU_LOCK_GUARD(&blk_bs(blk)->reqs_lock) {
        g_assert(blk_pread(blk, 0, CLUSTER, buf, 0) >= 0);
    }
    g_assert_cmpint(buf[0], ==, 'c');
    g_assert_cmpint(buf[CLUSTER - 1], ==, 'c');
    image_free(blk);
}

/* Missing data is copied, also if the read begins in data that is there. */
static void test_partly(void)
{
    BlockBackend *blk = image_new();
    char buf[2 * CLUSTER];

    g_assert_false(is_allocated(blk_bs(blk), CLUSTER));
    g_assert(blk_pread(blk, 0, 2 * CLUSTER, buf, 0) >= 0);
    g_assert_true(is_allocated(blk_bs(blk), CLUSTER));
    g_assert_cmpint(buf[0], ==, 'c');
    g_assert_cmpint(buf[CLUSTER], ==, 0);

    g_assert(blk_pread(blk, 3 * CLUSTER, CLUSTER, buf, 0) >= 0);
    g_assert_true(is_allocated(blk_bs(blk), 3 * CLUSTER));
    g_assert_false(is_allocated(blk_bs(blk), 2 * CLUSTER));
    image_free(blk);
}

typedef struct Prefetch {
    BlockBackend *blk;
    int64_t offset;
    int ret;
} Prefetch;

static void coroutine_fn prefetch_entry(void *opaque)
{
    Prefetch *p = opaque;

    p->ret = blk_co_preadv(p->blk, p->offset, CLUSTER, NULL,
                           BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH);
    aio_wait_kick();
}

/* Fetching ahead, as 'stream' does, reads nothing of what is there. */
static void test_prefetch(void)
{
    BlockBackend *blk = image_new();

    for (int64_t offset = 0; offset < 3 * CLUSTER; offset += CLUSTER) {
        Prefetch p = { .blk = blk, .offset = offset, .ret = -EINPROGRESS };

        qemu_coroutine_enter(qemu_coroutine_create(prefetch_entry, &p));
        AIO_WAIT_WHILE_UNLOCKED(NULL, p.ret == -EINPROGRESS);
        g_assert_cmpint(p.ret, >=, 0);
        g_assert_true(is_allocated(blk_bs(blk), offset));
    }
    image_free(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copied/copied", test_copied);
    g_test_add_func("/copied/partly", test_partly);
    g_test_add_func("/copied/prefetch", test_prefetch);
    return g_test_run();
}
