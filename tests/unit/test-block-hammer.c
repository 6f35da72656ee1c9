/*
 * The block layer under the load of forty threads
 *
 * They write, clear, discard and read one disk.  Each sector has one thread
 * that writes it, and a number that says which of its writes it comes from.
 * Meanwhile the main thread drains, grows, snapshots, mirrors and commits.
 * After each round all have ended, and exactly what was written is there.
 *
 * All that threads and main thread do follows from a seed, which
 * BLOCK_HAMMER_SEED sets; when they do it does not.
 *
 * The same program can be linked with QEMU 10.0.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/block_int.h"
#include "block/blockjob_int.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "tests/unit/iothread.h"
#include "block-hammer-load.h"

/* ThreadSanitizer takes much longer */
#ifdef CONFIG_TSAN
#define ROUNDS          1
#else
#define ROUNDS          3
#endif

/* Check that the disk has exactly what was written.  No thread is writing. */
static void verify(Hammer *hammer)
{
    g_autofree uint64_t *buf = g_malloc(RUN_SECTORS * SECTOR);

    for (int i = 0; i < hammer->sectors; i += RUN_SECTORS) {
        int count = MIN(RUN_SECTORS, hammer->sectors - i);

        g_assert_cmpint(blk_pread(hammer->blk, i * SECTOR, count * SECTOR, buf,
                                  0), ==, 0);
        for (int k = 0; k < count; k++) {
            Sector *sector = &hammer->all[i + k];

            g_assert_cmpint(sector->started, ==, sector->done);
            sector_check(&buf[k * WORDS], i + k, sector->done, sector->done);
        }
    }
}

/*
 * Operations of the main thread
 */

static BlockDriverState *image_of(Hammer *hammer)
{
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    return bdrv_skip_filters(blk_bs(hammer->blk));
}

static void poll_some(void)
{
    for (int i = 0; i < 30; i++) {
        main_loop_wait(true);
    }
}

static void drain_all(Hammer *hammer)
{
    bdrv_drain_all();
}

static void read_below(Hammer *hammer, uint64_t *buf, int sector, int count)
{
    BdrvChild *root = (BdrvChild *)blk_root(hammer->blk);

    g_assert_cmpint(bdrv_pread(root, sector * SECTOR, count * SECTOR, buf, 0),
                    ==, 0);
}

/* Drain the node.  Until the end the disk has what was written before. */
static void drain_node(Hammer *hammer)
{
    BlockDriverState *bs = blk_bs(hammer->blk);
    int count = g_rand_int_range(hammer->rand, 1, hammer->sectors);
    int first = g_rand_int_range(hammer->rand, 0, hammer->sectors - count);
    g_autofree uint64_t *buf = g_malloc(count * SECTOR);
    g_autofree uint64_t *again = g_malloc(count * SECTOR);

    bdrv_drained_begin(bs);
    read_below(hammer, buf, first, count);
    for (int i = 0; i < count; i++) {
        Sector *sector = &hammer->all[first + i];

        sector_check(&buf[i * WORDS], first + i,
                     qatomic_load_acquire(&sector->done),
                     qatomic_load_acquire(&sector->started));
    }
    read_below(hammer, again, first, count);
    g_assert(memcmp(buf, again, count * SECTOR) == 0);
    bdrv_drained_end(bs);
}

static void flush(Hammer *hammer)
{
    g_assert_cmpint(blk_flush(hammer->blk), ==, 0);
}

static void snapshot_create(Hammer *hammer, BlockDriverState *bs)
{
    QEMUSnapshotInfo info = { 0 };

    pstrcpy(info.name, sizeof(info.name), "snapshot");
    bdrv_graph_rdlock_main_loop();
    g_assert_cmpint(bdrv_snapshot_create(bs, &info), ==, 0);
    bdrv_graph_rdunlock_main_loop();
}

/* Check that the snapshot is not changed by later writes. */
static void snapshot_check(Hammer *hammer)
{
    BlockDriverState *bs = snapshot_open(hammer->kind, hammer->number,
                                         "snapshot");
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                                        BLK_PERM_ALL, &error_abort);

    bdrv_unref(bs);
    frozen_check(&hammer->frozen, (BdrvChild *)blk_root(blk));
    blk_unref(blk);
}

/* There is one snapshot or none. */
static void snapshot(Hammer *hammer)
{
    BlockDriverState *bs = image_of(hammer);

    if (!(hammer->kind->can & DISK_SNAPSHOTS)) {
        return;
    }
    bdrv_drained_begin(bs);
    if (hammer->snapshot) {
        snapshot_check(hammer);
        bdrv_graph_rdlock_main_loop();
        bdrv_snapshot_delete(bs, NULL, "snapshot", &error_abort);
        bdrv_graph_rdunlock_main_loop();
    } else {
        frozen_begin(&hammer->frozen, hammer);
        snapshot_create(hammer, bs);
        frozen_end(&hammer->frozen, hammer);
    }
    bdrv_drained_end(bs);
    hammer->snapshot = !hammer->snapshot;
}

static void resize(Hammer *hammer, int sectors)
{
    BlockBackend *blk = blk_new_with_bs(blk_bs(hammer->blk), BLK_PERM_RESIZE,
                                        BLK_PERM_ALL, &error_abort);

    g_assert_cmpint(blk_truncate(blk, (int64_t)sectors * SECTOR, true,
                                 PREALLOC_MODE_OFF, 0, &error_abort), ==, 0);
    blk_unref(blk);
}

static void grow(Hammer *hammer)
{
    int old = hammer->sectors;
    int add = 8 * g_rand_int_range(hammer->rand, 1, 25);

    if (!(hammer->kind->can & DISK_GROWS) || old + add > DISK_SECTORS_MAX) {
        return;
    }
    resize(hammer, old + add);
    qatomic_set(&hammer->sectors, old + add);
}

static bool job_is_over(Job *job)
{
    JOB_LOCK_GUARD();

    return job->status == JOB_STATUS_NULL;
}

/* Let the job end, which has to be told so if @complete. */
static void job_finish(const char *id, bool complete)
{
    Job *job;

    WITH_JOB_LOCK_GUARD() {
        job = job_get_locked(id);
        g_assert(job);
        job_ref_locked(job);
    }
    while (complete && !job_is_ready(job)) {
        main_loop_wait(false);
    }
    WITH_JOB_LOCK_GUARD() {
        if (complete) {
            job_complete_locked(job, &error_abort);
        }
    }
    while (!job_is_over(job)) {
        main_loop_wait(false);
    }
    WITH_JOB_LOCK_GUARD() {
        g_assert_cmpint(job->ret, ==, 0);
        job_unref_locked(job);
    }
}

/* The disk moves to new files. */
static void mirror(Hammer *hammer)
{
    const DiskKind *kind = hammer->kind;
    int number = hammer->number + 1;
    g_autofree void *base = g_malloc0(hammer->sectors * SECTOR);
    BlockDriverState *target;
    MirrorCopyMode mode = hammer->mirrors % 2 ? MIRROR_COPY_MODE_WRITE_BLOCKING
                                              : MIRROR_COPY_MODE_BACKGROUND;

    if (hammer->mirrors++ >= 2) {
        return;
    }
    disk_create(kind, number, hammer->sectors, base);
    target = disk_open(kind, number);
    mirror_start("mirror", blk_bs(hammer->blk), target, NULL, JOB_DEFAULT, 0, 0,
                 0, MIRROR_SYNC_MODE_FULL, MIRROR_LEAVE_BACKING_CHAIN, false,
                 BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_REPORT, false,
                 NULL, mode, &error_abort);
    bdrv_unref(target);
    job_finish("mirror", true);
    g_assert(blk_bs(hammer->blk) == target);
    if (hammer->snapshot) {
        snapshot_check(hammer);
    }
    disk_delete(hammer->number);
    hammer->number = number;
    hammer->snapshot = false;
}

/* Write to an overlay for a while, and commit it. */
static void commit(Hammer *hammer)
{
    BlockDriverState *bs = blk_bs(hammer->blk);
    BlockDriverState *overlay = overlay_create(hammer->sectors);
    g_autofree Frozen *frozen = g_new(Frozen, 1);

    frozen_begin(frozen, hammer);
    g_assert_cmpint(bdrv_append(overlay, bs, &error_abort), ==, 0);
    frozen_end(frozen, hammer);
    poll_some();
    frozen_check(frozen, overlay->backing);
    commit_active_start("commit", overlay, bs, JOB_DEFAULT, 0,
                        BLOCKDEV_ON_ERROR_REPORT, NULL, NULL, NULL, true,
                        &error_abort);
    bdrv_unref(overlay);
    job_finish("commit", false);
    g_assert(blk_bs(hammer->blk) == bs);
    overlay_delete();
}

static void (*const controls[])(Hammer *hammer) = {
    drain_all, drain_node, flush, snapshot, grow, mirror, commit, grow,
    drain_node, snapshot,
};

/*
 * Rounds
 */

static void load(Hammer *hammer, IOThread **iothreads)
{
    hammer->running = THREADS;
    hammer->mirrors = 0;
    for (int i = 0; i < THREADS; i++) {
        Coroutine *co = qemu_coroutine_create(writer_entry,
                                              &hammer->writers[i]);

        aio_co_schedule(iothread_get_aio_context(iothreads[i]), co);
    }
    while (qatomic_load_acquire(&hammer->running)) {
        int which = g_rand_int_range(hammer->rand, 0, ARRAY_SIZE(controls));

        controls[which](hammer);
        poll_some();
    }
}

static void check_image(Hammer *hammer)
{
    BdrvCheckResult result = { 0 };

    /* The check reads tables from the file */
    flush(hammer);
    if (hammer->kind->can & DISK_CHECKS) {
        g_assert_cmpint(bdrv_check(image_of(hammer), &result, 0), ==, 0);
        g_assert_cmpint(result.corruptions, ==, 0);
        g_assert_cmpint(result.leaks, ==, 0);
    }
}

/* Shrink the disk, and grow it again: the new part reads as zeroes. */
static void shrink(Hammer *hammer)
{
    if (!(hammer->kind->can & DISK_GROWS)) {
        return;
    }
    resize(hammer, DISK_SECTORS);
    hammer->sectors = DISK_SECTORS;
    for (int i = DISK_SECTORS; i < DISK_SECTORS_MAX; i++) {
        sector_zero(&hammer->all[i]);
    }
}

static void attach(Hammer *hammer)
{
    BlockDriverState *bs = disk_open(hammer->kind, hammer->number);

    hammer->blk = blk_new(qemu_get_aio_context(),
                          BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                          BLK_PERM_ALL);
    blk_insert_bs(hammer->blk, bs, &error_abort);
    bdrv_unref(bs);
}

static void round_end(Hammer *hammer)
{
    verify(hammer);
    if (hammer->snapshot) {
        snapshot(hammer);
    }
    check_image(hammer);
    shrink(hammer);

    /* Open the image again: all that was written must be in it. */
    blk_unref(hammer->blk);
    attach(hammer);
    verify(hammer);
}

/* A backing file has the first number of each sector. */
static void create(Hammer *hammer)
{
    g_autofree uint64_t *base = g_malloc0(DISK_SECTORS * SECTOR);

    for (int i = 0; i < DISK_SECTORS; i++) {
        if (hammer->kind->backing) {
            hammer->all[i].started = 1;
            hammer->all[i].done = 1;
            sector_fill(&base[i * WORDS], i, 1);
        }
    }
    disk_create(hammer->kind, 0, DISK_SECTORS, base);
}

/* A new LUKS volume has no zeroes. */
static void clear(Hammer *hammer)
{
    if (!(hammer->kind->can & DISK_GROWS)) {
        g_assert_cmpint(blk_pwrite_zeroes(hammer->blk, 0,
                                          DISK_SECTORS * SECTOR, 0), ==, 0);
    }
}

static void test_kind(gconstpointer opaque)
{
    g_autofree Hammer *hammer = g_new0(Hammer, 1);
    IOThread *iothreads[THREADS];
    int rounds = g_test_slow() ? 20 * ROUNDS : ROUNDS;

    hammer->kind = opaque;
    hammer->rand = g_rand_new_with_seed(hammer_seed);
    hammer->sectors = DISK_SECTORS;
    disks_begin();
    create(hammer);
    attach(hammer);
    clear(hammer);
    writers_new(hammer);
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (int i = 0; i < rounds; i++) {
        load(hammer, iothreads);
        round_end(hammer);
    }
    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }
    writers_free(hammer);
    blk_unref(hammer->blk);
    disk_delete(hammer->number);
    disks_end();
    g_rand_free(hammer->rand);
}

int main(int argc, char **argv)
{
    const char *given = getenv("BLOCK_HAMMER_SEED");

    module_call_init(MODULE_INIT_QOM);
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    hammer_seed = given ? atoi(given) : 1;
    g_test_message("BLOCK_HAMMER_SEED=%d", hammer_seed);
    for (const DiskKind *kind = disk_kinds; kind->name; kind++) {
        g_autofree char *path = g_strdup_printf("/block-hammer/%s", kind->name);

        g_test_add_data_func(path, kind, test_kind);
    }
    return g_test_run();
}
