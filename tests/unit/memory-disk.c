/*
 * A qcow2 image in memory
 *
 * Words are copied one by one and atomically, so that requests which overlap,
 * as a guest's may, are no data races.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "memory-disk.h"

#define ALIGN           512
#define CAPACITY        (256 * MiB)

static uint64_t *words;
static int64_t length;
static BlockDriverState *disk;

static void coroutine_fn yield_in_place(void)
{
    aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
}

static int coroutine_fn memory_co_preadv(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov,
                                         BdrvRequestFlags flags)
{
    g_autofree uint64_t *buf = g_malloc(bytes);

    yield_in_place();
    for (int64_t i = 0; i < bytes / sizeof(*buf); i++) {
        buf[i] = qatomic_read(&words[offset / sizeof(*buf) + i]);
    }
    qemu_iovec_from_buf(qiov, 0, buf, bytes);
    return 0;
}

static int coroutine_fn memory_co_pwritev(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes, QEMUIOVector *qiov,
                                          BdrvRequestFlags flags)
{
    g_autofree uint64_t *buf = g_malloc(bytes);
    int64_t old = qatomic_read(&length);

    g_assert_cmpint(offset + bytes, <=, CAPACITY);
    yield_in_place();
    qemu_iovec_to_buf(qiov, 0, buf, bytes);
    for (int64_t i = 0; i < bytes / sizeof(*buf); i++) {
        qatomic_set(&words[offset / sizeof(*buf) + i], buf[i]);
    }
    while (old < offset + bytes) {
        old = qatomic_cmpxchg(&length, old, offset + bytes);
    }
    return 0;
}

static int64_t coroutine_fn memory_co_getlength(BlockDriverState *bs)
{
    return qatomic_read(&length);
}

static int coroutine_fn memory_co_truncate(BlockDriverState *bs, int64_t offset,
                                           bool exact, PreallocMode prealloc,
                                           BdrvRequestFlags flags,
                                           Error **errp)
{
    g_assert_cmpint(offset, <=, CAPACITY);
    qatomic_set(&length, offset);
    return 0;
}

static void memory_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = ALIGN;
}

static BlockDriver bdrv_memory = {
    .format_name = "test-memory",
    .bdrv_co_preadv = memory_co_preadv,
    .bdrv_co_pwritev = memory_co_pwritev,
    .bdrv_co_getlength = memory_co_getlength,
    .bdrv_co_truncate = memory_co_truncate,
    .bdrv_refresh_limits = memory_refresh_limits,
};

void memory_disk_open(const char *options, int64_t bytes)
{
    g_autofree char *path = NULL;
    g_autofree char *image = NULL;
    g_autofree char *opts = g_strdup(options);
    gsize size;
    int fd = g_file_open_tmp("memory-disk-XXXXXX", &path, NULL);

    g_assert(fd >= 0);
    close(fd);
    bdrv_img_create(path, "qcow2", NULL, NULL, opts, bytes, 0, true,
                    &error_abort);
    g_assert(g_file_get_contents(path, &image, &size, NULL));
    unlink(path);

    words = g_malloc0(CAPACITY);
    memcpy(words, image, size);
    length = ROUND_UP(size, ALIGN);
    disk = bdrv_new_open_driver(&bdrv_memory, "memory", BDRV_O_RDWR,
                                &error_abort);
}

void memory_disk_close(void)
{
    bdrv_unref(disk);
    g_free(words);
}

BlockBackend *memory_disk_blk(int slots)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "file", "memory");
    qdict_put_int(options, "l2-cache-size", slots * 512);
    qdict_put_int(options, "l2-cache-entry-size", 512);
    qdict_put_int(options, "cache-clean-interval", 1);
    return blk_new_open(NULL, NULL, options,
                        BDRV_O_RDWR | BDRV_O_RESIZE | BDRV_O_UNMAP,
                        &error_abort);
}

void memory_disk_reopen(BlockBackend *blk, int slots)
{
    QDict *options = qdict_new();

    qdict_put_int(options, "l2-cache-size", slots * 512);
    g_assert(bdrv_reopen(blk_bs(blk), options, true, &error_abort) == 0);
}
