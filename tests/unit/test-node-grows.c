/*
 * Writes of two threads past the end of a node that has a dirty bitmap
 *
 *      thread A                    thread B
 *      write [1 MiB, 2 MiB)
 *        bitmap grows <- held
 *                                  write [1 MiB, 1 MiB + 64 KiB): not past the
 *                                  end?  Then the bitmap has to reach it.
 *        the end is stored
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "thread-syscall.h"

#define MIB         (1024 * 1024)
#define SHORT       (64 * 1024)

typedef struct Write {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    int tid;
    int ret;
} Write;

static int coroutine_fn node_pwritev(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     BdrvRequestFlags flags)
{
    return 0;
}

static int64_t coroutine_fn node_getlength(BlockDriverState *bs)
{
    return MIB;
}

static BlockDriver bdrv_node = {
    .format_name = "test-node-grows",
    .bdrv_co_pwritev = node_pwritev,
    .bdrv_co_getlength = node_getlength,
};

static void coroutine_fn write_entry(void *opaque)
{
    Write *w = opaque;
    g_autofree char *buf = g_malloc0(w->bytes);

    qatomic_set(&w->tid, qemu_get_thread_id());
    qatomic_store_release(&w->ret,
                          blk_co_pwrite(w->blk, w->offset, w->bytes, buf, 0));
}

static void write_start(Write *w, BlockBackend *blk, IOThread *thread,
                        int64_t offset, int64_t bytes)
{
    *w = (Write) { blk, offset, bytes, .ret = -EINPROGRESS };
    aio_co_enter(iothread_get_aio_context(thread),
                 qemu_coroutine_create(write_entry, w));
}

static void write_wait(Write *w)
{
    while (qatomic_load_acquire(&w->ret) == -EINPROGRESS) {
        aio_poll(qemu_get_aio_context(), false);
    }
    g_assert_cmpint(w->ret, ==, 0);
}

/* Until the thread of @w waits for a lock */
static void write_wait_locked(Write *w)
{
    while (!qatomic_read(&w->tid)) {
        g_thread_yield();
    }
    thread_syscall_wait(qatomic_read(&w->tid), SYS_futex, SYS_futex);
}

static void test_bitmap_first(void)
{
    IOThread *threads[] = { iothread_new(), iothread_new() };
    BlockDriverState *bs = bdrv_new_open_driver(&bdrv_node, "node",
                                                BDRV_O_RDWR, &error_abort);
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL,
                                BLK_PERM_ALL);
    BdrvDirtyBitmap *bitmap;
    Write w[2];

    blk_insert_bs(blk, bs, &error_abort);
    blk_set_allow_write_beyond_eof(blk, true);
    bitmap = bdrv_create_dirty_bitmap(bs, SHORT, "bitmap", &error_abort);

    /* Each thread has what it needs for its first write. */
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
        write_start(&w[i], blk, threads[i], 0, SHORT);
        write_wait(&w[i]);
    }

    bdrv_dirty_bitmap_lock(bitmap);
    write_start(&w[0], blk, threads[0], MIB, MIB);
    write_wait_locked(&w[0]);
    g_assert_cmpint(qatomic_read(&bs->total_sectors), ==,
                    MIB / BDRV_SECTOR_SIZE);
    write_start(&w[1], blk, threads[1], MIB, SHORT);
    write_wait_locked(&w[1]);
    bdrv_dirty_bitmap_unlock(bitmap);

    write_wait(&w[0]);
    write_wait(&w[1]);
    g_assert_cmpint(bs->total_sectors, ==, 2 * MIB / BDRV_SECTOR_SIZE);
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, SHORT + MIB);
    bdrv_release_dirty_bitmap(bitmap);
    blk_unref(blk);
    bdrv_unref(bs);
    iothread_join(threads[0]);
    iothread_join(threads[1]);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-grows/bitmap-first", test_bitmap_first);
    return g_test_run();
}
