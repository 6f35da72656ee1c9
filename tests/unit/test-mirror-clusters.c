/*
 * A mirror that copies whole clusters of its target
 *
 * The target will get a backing file that it does not have yet, so the job
 * copies all chunks of a cluster if one of them is dirty:
 *
 *     job       reads the cluster ...................... writes it
 *     guest          writes a chunk beside the dirty one
 *
 * The guest's write is the newer one, so it has to wait for the job's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "mirror-images.h"
#include "mirror-job.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "settle.h"
#include "system/block-backend.h"

#define CHUNK   4096
#define CLUSTER (16 * CHUNK)

static uint8_t source_data[IMAGE_BYTES], target_data[IMAGE_BYTES];

/* The job's write of a cluster, which waits until the test wakes it */
static Coroutine *held;

static int coroutine_fn source_preadv(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      BdrvRequestFlags flags)
{
    qemu_iovec_from_buf(qiov, 0, source_data + offset, bytes);
    return 0;
}

static int coroutine_fn source_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       BdrvRequestFlags flags)
{
    qemu_iovec_to_buf(qiov, 0, source_data + offset, bytes);
    return 0;
}

static int coroutine_fn target_pwritev(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       BdrvRequestFlags flags)
{
    if (bytes >= CLUSTER) {
        held = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    qemu_iovec_to_buf(qiov, 0, target_data + offset, bytes);
    return 0;
}

static int coroutine_fn target_get_info(BlockDriverState *bs,
                                        BlockDriverInfo *bdi)
{
    bdi->cluster_size = CLUSTER;
    bdi->subcluster_size = CLUSTER;
    return 0;
}

static BlockDriver bdrv_source = {
    .format_name = "test-source",
    .bdrv_co_getlength = image_getlength,
    .bdrv_co_preadv = source_preadv,
    .bdrv_co_pwritev = source_pwritev,
};

static BlockDriver bdrv_target = {
    .format_name = "test-target",
    .bdrv_co_getlength = image_getlength,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = target_pwritev,
    .bdrv_co_get_info = target_get_info,
};

/* A write of the guest to a chunk, filled with a byte. */
typedef struct Write {
    BlockBackend *blk;
    int64_t chunk;
    uint8_t byte;
    bool done;
} Write;

static void coroutine_fn write_entry(void *opaque)
{
    Write *w = opaque;
    g_autofree uint8_t *buf = g_malloc(CHUNK);

    memset(buf, w->byte, CHUNK);
    g_assert(blk_co_pwrite(w->blk, w->chunk * CHUNK, CHUNK, buf, 0) >= 0);
    w->done = true;
}

static void write_start(Write *w)
{
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(write_entry, w));
    settle();
}

static void check_target(const Write *w)
{
    g_assert_cmpint(target_data[w->chunk * CHUNK], ==, w->byte);
    g_assert_cmpint(target_data[(w->chunk + 1) * CHUNK - 1], ==, w->byte);
}

/* @chunk, in the second cluster, is dirty; the guest writes all around. */
static void test_beside(gconstpointer opaque)
{
    int64_t chunk = GPOINTER_TO_INT(opaque);
    BlockDriverState *source = image_open(&bdrv_source, "source");
    BlockDriverState *target = image_open(&bdrv_target, "target");
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE,
                                BLK_PERM_ALL);
    Write dirty = { .blk = blk, .chunk = chunk, .byte = 0x11 };
    Write writes[48];
    BlockJob *job;

    blk_insert_bs(blk, source, &error_abort);
    pstrcpy(target->backing_file, sizeof(target->backing_file), "later");
    job = job_open(source, target, CHUNK);
    settle();
    write_start(&dirty);
    g_assert_true(dirty.done);
    while (!held) {
        aio_poll(qemu_get_aio_context(), true);
    }

    job_write_blocking(job);
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        writes[i] = (Write) { .blk = blk, .chunk = i, .byte = 0x40 + i };
        write_start(&writes[i]);
        g_assert_cmpint(writes[i].done, ==, i < 16 || i >= 32);
    }

    aio_co_wake(g_steal_pointer(&held));
    settle();
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        g_assert_true(writes[i].done);
        check_target(&writes[i]);
    }

    job_close(job, blk, source, target);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/mirror/clusters/first", GINT_TO_POINTER(16),
                         test_beside);
    g_test_add_data_func("/mirror/clusters/middle", GINT_TO_POINTER(21),
                         test_beside);
    g_test_add_data_func("/mirror/clusters/last", GINT_TO_POINTER(31),
                         test_beside);
    return g_test_run();
}
