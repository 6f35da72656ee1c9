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
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "memory-disk.h"

#define ALIGN           MEMORY_DISK_SECTOR
#define ALIGN_WORDS     (ALIGN / sizeof(uint64_t))
#define CAPACITY        (256 * MiB)

static uint64_t *words;
static int64_t length;
static BlockDriverState *disk;

static MemoryDiskReads reads;
static unsigned reading;
static bool hold_read;

/* The data after a power failure; NULL as long as none is wanted */
typedef struct Cut {
    QemuMutex lock;         /* all writes, and what follows */
    uint64_t *flushed;      /* what has been flushed, sector by sector */
    unsigned long *dirty;   /* sectors written since */
    unsigned requests;      /* so many more until the failure, if not 0 */
    void (*failing)(void *opaque);
    void *opaque;

    uint64_t *old;          /* at the failure: flushed, the image, dirty */
    uint64_t *new;
    unsigned long *differ;
    int64_t length;
} Cut;

static Cut *cut;

/* Count a request before it does anything.  Called with the lock held. */
static void cut_count(void)
{
    if (!cut->requests || --cut->requests) {
        return;
    }
    cut->failing(cut->opaque);
    cut->length = qatomic_read(&length);
    cut->old = g_memdup2(cut->flushed, cut->length);
    cut->new = g_memdup2(words, cut->length);
    cut->differ = bitmap_new(CAPACITY / ALIGN);
    bitmap_copy(cut->differ, cut->dirty, CAPACITY / ALIGN);
}

static void copy_sector(uint64_t *to, const uint64_t *from, int64_t sector)
{
    memcpy(to + sector * ALIGN_WORDS, from + sector * ALIGN_WORDS, ALIGN);
}

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

    qatomic_set(&reads.at_once, MAX(qatomic_read(&reads.at_once),
                                    qatomic_fetch_inc(&reading) + 1));
    yield_in_place();
    for (int64_t i = 0; i < bytes / sizeof(*buf); i++) {
        buf[i] = qatomic_read(&words[offset / sizeof(*buf) + i]);
    }
    if (qatomic_xchg(&hold_read, false)) {
        reads.held = qemu_coroutine_self();
        qemu_coroutine_yield();
        reads.held = NULL;
    }
    qatomic_dec(&reading);
    qatomic_inc(&reads.done);
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
    if (cut) {
        qemu_mutex_lock(&cut->lock);
        cut_count();
        bitmap_set(cut->dirty, offset / ALIGN, bytes / ALIGN);
    }
    for (int64_t i = 0; i < bytes / sizeof(*buf); i++) {
        qatomic_set(&words[offset / sizeof(*buf) + i], buf[i]);
    }
    while (old < offset + bytes) {
        old = qatomic_cmpxchg(&length, old, offset + bytes);
    }
    if (cut) {
        qemu_mutex_unlock(&cut->lock);
    }
    return 0;
}

static int coroutine_fn memory_co_flush(BlockDriverState *bs)
{
    yield_in_place();
    if (cut) {
        qemu_mutex_lock(&cut->lock);
        cut_count();
        for (int64_t i = find_first_bit(cut->dirty, CAPACITY / ALIGN);
             i < CAPACITY / ALIGN;
             i = find_next_bit(cut->dirty, CAPACITY / ALIGN, i)) {
            copy_sector(cut->flushed, words, i);
            clear_bit(i, cut->dirty);
        }
        qemu_mutex_unlock(&cut->lock);
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
    .bdrv_co_flush_to_disk = memory_co_flush,
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

    reads = (MemoryDiskReads) { 0 };
    words = g_malloc0(CAPACITY);
    memcpy(words, image, size);
    length = ROUND_UP(size, ALIGN);
    disk = bdrv_new_open_driver(&bdrv_memory, "memory", BDRV_O_RDWR,
                                &error_abort);
}

static void cut_free(void)
{
    if (cut) {
        qemu_mutex_destroy(&cut->lock);
        g_free(cut->flushed);
        g_free(cut->dirty);
        g_free(cut->old);
        g_free(cut->new);
        g_free(cut->differ);
        g_free(cut);
        cut = NULL;
    }
}

void memory_disk_close(void)
{
    bdrv_unref(disk);
    cut_free();
    g_free(words);
}

MemoryDiskReads *memory_disk_reads(void)
{
    return &reads;
}

void memory_disk_hold_read(bool hold)
{
    hold_read = hold;
}

uint64_t *memory_disk_words(void)
{
    return words;
}

void memory_disk_cut(unsigned requests, void (*failing)(void *opaque),
                     void *opaque)
{
    cut_free();
    cut = g_new0(Cut, 1);
    qemu_mutex_init(&cut->lock);
    cut->flushed = g_malloc0(CAPACITY);
    memcpy(cut->flushed, words, length);
    cut->dirty = bitmap_new(CAPACITY / ALIGN);
    cut->requests = requests;
    cut->failing = failing;
    cut->opaque = opaque;
}

bool memory_disk_power_up(GRand *rand)
{
    bool failed = cut->old;

    if (failed) {
        memset(words, 0, length);
        memcpy(words, cut->old, cut->length);
        for (int64_t i = 0; i < cut->length / ALIGN; i++) {
            if (test_bit(i, cut->differ) && g_rand_boolean(rand)) {
                copy_sector(words, cut->new, i);
            }
        }
        length = cut->length;
    }
    cut_free();
    return failed;
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
