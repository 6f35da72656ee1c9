/*
 * A mirror in write-blocking mode, whose source several threads write to
 *
 * Requests overlap, and some writes to the target fail.  In the end the target
 * has what the source has.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/blockjob_int.h"
#include "block/chunk-claims.h"
#include "tests/unit/iothread.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "mirror-job.h"

#define SECTORS     2048
#define IMAGE_BYTES (SECTORS * BDRV_SECTOR_SIZE)
#define GRANULARITY 4096
#define THREADS     3
#define REQUESTS    4           /* of each thread, at once */
#define WRITES      400         /* one after the other, of each of those */

static IOThread *iothreads[THREADS];

/* The number of coroutines that are not done */
static int working;

/* Let all coroutines run, in threads of their own, and serve the main loop. */
static void run_in_threads(CoroutineEntry *entry, void *opaque)
{
    working = THREADS * REQUESTS;
    for (int i = 0; i < THREADS; i++) {
        for (int j = 0; j < REQUESTS; j++) {
            aio_co_enter(iothread_get_aio_context(iothreads[i]),
                         qemu_coroutine_create(entry, opaque));
        }
    }
    while (qatomic_load_acquire(&working)) {
        aio_poll(qemu_get_aio_context(), false);
        g_thread_yield();
    }
}

static void coroutine_fn has_worked(void)
{
    qatomic_dec(&working);
}

static void coroutine_fn yield_in_place(void)
{
    aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
}

/* --- Chunks that are claimed --- */

#define CHUNKS 200

typedef struct Claimed {
    ChunkClaims claims;
    bool used[CHUNKS];
} Claimed;

static void coroutine_fn claim_entry(void *opaque)
{
    Claimed *c = opaque;
    g_autoptr(GRand) rand = g_rand_new();

    for (int i = 0; i < WRITES; i++) {
        unsigned first = g_rand_int_range(rand, 0, CHUNKS);
        unsigned last = MIN(first + g_rand_int_range(rand, 0, 130), CHUNKS - 1);

        if (i % 2) {
            last = first;
        }
        if (i % 8) {
            chunk_claims_take(&c->claims, first, last);
        } else if (!chunk_claims_try(&c->claims, first, last)) {
            yield_in_place();
            continue;
        }

        /* Plain reads and writes are enough, as no other request has them. */
        for (unsigned chunk = first; chunk <= last; chunk++) {
            g_assert_false(c->used[chunk]);
            c->used[chunk] = true;
        }
        yield_in_place();
        memset(&c->used[first], false, last - first + 1);
        chunk_claims_return(&c->claims, first, last);
    }
    has_worked();
}

static void test_claims(void)
{
    g_autofree Claimed *c = g_new0(Claimed, 1);

    chunk_claims_init(&c->claims, CHUNKS);
    run_in_threads(claim_entry, c);
    g_assert_true(chunk_claims_empty(&c->claims));
    chunk_claims_cleanup(&c->claims);
}

/* --- Two images: each sector has one word --- */

static uint64_t source_words[SECTORS], target_words[SECTORS];

/* Number of writes to the target; some of them fail if the case says so */
static unsigned target_writes;
static bool target_fails;

static int64_t coroutine_fn image_getlength(BlockDriverState *bs)
{
    return IMAGE_BYTES;
}

static void image_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = BDRV_SECTOR_SIZE;
}

static uint64_t *image_words(BlockDriverState *bs)
{
    return bs->drv->format_name[5] == 's' ? source_words : target_words;
}

static int coroutine_fn image_preadv(BlockDriverState *bs, int64_t offset,
                                     int64_t bytes, QEMUIOVector *qiov,
                                     BdrvRequestFlags flags)
{
    uint64_t *words = image_words(bs) + offset / BDRV_SECTOR_SIZE;

    yield_in_place();
    qemu_iovec_memset(qiov, 0, 0, bytes);
    for (int i = 0; i < bytes / BDRV_SECTOR_SIZE; i++) {
        uint64_t word = qatomic_read(&words[i]);

        qemu_iovec_from_buf(qiov, i * BDRV_SECTOR_SIZE, &word, sizeof(word));
    }
    yield_in_place();
    return 0;
}

static int coroutine_fn image_pwritev(BlockDriverState *bs, int64_t offset,
                                      int64_t bytes, QEMUIOVector *qiov,
                                      BdrvRequestFlags flags)
{
    uint64_t *words = image_words(bs) + offset / BDRV_SECTOR_SIZE;

    yield_in_place();
    if (image_words(bs) == target_words && qatomic_read(&target_fails) &&
        qatomic_fetch_inc(&target_writes) % 16 == 0) {
        return -EIO;
    }
    for (int i = 0; i < bytes / BDRV_SECTOR_SIZE; i++) {
        uint64_t word;

        qemu_iovec_to_buf(qiov, i * BDRV_SECTOR_SIZE, &word, sizeof(word));
        qatomic_set(&words[i], word);
    }
    yield_in_place();
    return 0;
}

static BlockDriver bdrv_source = {
    .format_name = "test-source",
    .bdrv_co_getlength = image_getlength,
    .bdrv_refresh_limits = image_limits,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = image_pwritev,
};

static BlockDriver bdrv_target = {
    .format_name = "test-target",
    .bdrv_co_getlength = image_getlength,
    .bdrv_refresh_limits = image_limits,
    .bdrv_co_preadv = image_preadv,
    .bdrv_co_pwritev = image_pwritev,
};

static BlockDriverState *node_open(BlockDriver *driver, const char *name)
{
    BlockDriverState *bs = bdrv_new_open_driver(driver, name, BDRV_O_RDWR,
                                                &error_abort);

    bs->total_sectors = SECTORS;
    return bs;
}

/* --- The guest --- */

static void coroutine_fn write_entry(void *opaque)
{
    BlockBackend *blk = opaque;
    g_autoptr(GRand) rand = g_rand_new();
    g_autofree uint64_t *buf = g_malloc0(40 * BDRV_SECTOR_SIZE);

    for (int i = 0; i < WRITES; i++) {
        int first = g_rand_int_range(rand, 0, SECTORS);
        int count = MIN(g_rand_int_range(rand, 1, 40), SECTORS - first);

        for (int j = 0; j < count; j++) {
            buf[j * BDRV_SECTOR_SIZE / sizeof(*buf)] = g_rand_int(rand);
        }
        g_assert_cmpint(blk_co_pwrite(blk, first * BDRV_SECTOR_SIZE,
                                      count * BDRV_SECTOR_SIZE, buf, 0), >=, 0);
    }
    has_worked();
}

static BlockJob *job_open(BlockDriverState *source, BlockDriverState *target,
                          MirrorCopyMode mode)
{
    mirror_start("job", source, target, NULL, JOB_DEFAULT, 0, GRANULARITY,
                 64 * 1024, MIRROR_SYNC_MODE_FULL, MIRROR_LEAVE_BACKING_CHAIN,
                 false, BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_IGNORE,
                 false, "filter", mode, &error_abort);
    JOB_LOCK_GUARD();
    return block_job_get_locked("job");
}

static void wait_synced(BlockJob *job)
{
    while (!job_synced(job)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpmem(source_words, sizeof(source_words),
                    target_words, sizeof(target_words));
}

static void test_mirror(gconstpointer data)
{
    MirrorCopyMode mode = GPOINTER_TO_INT(data);
    BlockDriverState *source = node_open(&bdrv_source, "source");
    BlockDriverState *target = node_open(&bdrv_target, "target");
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_WRITE,
                                BLK_PERM_ALL);
    BlockJob *job;

    memset(target_words, 0xff, sizeof(target_words));
    blk_insert_bs(blk, source, &error_abort);
    job = job_open(source, target, mode);
    if (mode == MIRROR_COPY_MODE_BACKGROUND) {
        run_in_threads(write_entry, blk);
        job_write_blocking(job);
    }

    /* While all is copied, then when it has been, then with errors */
    run_in_threads(write_entry, blk);
    wait_synced(job);
    run_in_threads(write_entry, blk);
    wait_synced(job);
    qatomic_set(&target_fails, true);
    run_in_threads(write_entry, blk);
    qatomic_set(&target_fails, false);
    wait_synced(job);

    WITH_JOB_LOCK_GUARD() {
        job_cancel_sync_locked(&job->job, false);
    }
    blk_unref(blk);
    bdrv_unref(source);
    bdrv_unref(target);
}

int main(int argc, char **argv)
{
    int ret;

    bdrv_init();
    qemu_init_main_loop(&error_abort);
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror-hammer/claims", test_claims);
    g_test_add_data_func("/mirror-hammer/write-blocking",
                         GINT_TO_POINTER(MIRROR_COPY_MODE_WRITE_BLOCKING),
                         test_mirror);
    g_test_add_data_func("/mirror-hammer/change",
                         GINT_TO_POINTER(MIRROR_COPY_MODE_BACKGROUND),
                         test_mirror);
    ret = g_test_run();

    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }
    return ret;
}
