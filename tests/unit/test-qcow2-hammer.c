/*
 * Writes to a qcow2 image from many threads, and power failures
 *
 * While four threads write to the image, the main thread grows it, takes
 * snapshots, and cleans or replaces its cache.  After each round the image must
 * have exactly what was written, a snapshot of the round before must be
 * unchanged, and the refcounts must be right.
 *
 * After a power failure the image must have everything that was flushed, and no
 * refcount may be too low.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "qcow2-hammer.h"

/* ThreadSanitizer takes a hundred times as long */
#ifdef CONFIG_TSAN
#define ROUNDS          3
#define REQUESTS        1000
#define CUTS            4
#else
#define ROUNDS          8
#define REQUESTS        12000
#define CUTS            40
#endif

static void image_open(TestImage *image, int slots)
{
    image_use(image, memory_disk_blk(slots));
}

static TestImage *image_new(const char *options)
{
    TestImage *image = g_new0(TestImage, 1);

    image->options = options;
    image->size = DISK_BYTES;
    image->sectors = g_new0(TestSector, DISK_SECTORS);
    memory_disk_open(options, DISK_BYTES);
    image_open(image, 8);
    return image;
}

static void image_free(TestImage *image)
{
    blk_unref(image->blk);
    memory_disk_close();
    g_free(image->sectors);
    g_free(image->kept);
    g_free(image);
}

/*
 * Operations of the main thread
 */

static void coroutine_fn clean_entry(void *opaque)
{
    TestImage *image = opaque;

    qemu_co_mutex_lock(&image->s->lock);
    qcow2_cache_clean_unused(image->s->l2_table_cache);
    qcow2_cache_clean_unused(image->s->l2_table_cache);
    qcow2_cache_clean_unused(image->s->refcount_block_cache);
    qcow2_cache_clean_unused(image->s->refcount_block_cache);
    qemu_co_mutex_unlock(&image->s->lock);
}

static void image_resize(TestImage *image, int64_t size)
{
    if (image->s->qcow_version < 3) {
        return;     /* not with snapshots */
    }
    for (int64_t i = size / SECTOR; i < image->size / SECTOR; i++) {
        sector_next(&image->sectors[i], true);
    }
    g_assert(blk_truncate(image->blk, size, true, PREALLOC_MODE_OFF, 0,
                          &error_abort) >= 0);
    qatomic_set(&image->size, size);
}

static void snapshot_create(TestImage *image, const char *name)
{
    QEMUSnapshotInfo info = { 0 };

    pstrcpy(info.name, sizeof(info.name), name);
    bdrv_drained_begin(image->bs);
    bdrv_graph_rdlock_main_loop();
    g_assert(bdrv_snapshot_create(image->bs, &info) >= 0);
    bdrv_graph_rdunlock_main_loop();
    bdrv_drained_end(image->bs);
}

static void snapshot_delete(TestImage *image, const char *name)
{
    bdrv_drained_begin(image->bs);
    bdrv_graph_rdlock_main_loop();
    g_assert(bdrv_snapshot_delete(image->bs, NULL, name, &error_abort) >= 0);
    bdrv_graph_rdunlock_main_loop();
    bdrv_drained_end(image->bs);
}

static void image_control(TestImage *image)
{
    switch (image->step % 8) {
    case 0:
        snapshot_create(image, "meanwhile");
        break;
    case 1:
        image_resize(image, MIN(image->size + 65536, DISK_BYTES_MAX));
        break;
    case 2:
    case 5:
        qemu_coroutine_enter(qemu_coroutine_create(clean_entry, image));
        break;
    case 3:
        memory_disk_reopen(image->blk, 6 + image->step % 7);
        break;
    case 4:
        snapshot_delete(image, "meanwhile");
        break;
    case 6:
        bdrv_drain_all();
        break;
    case 7:
        g_assert(blk_flush(image->blk) >= 0);
        break;
    }
    for (int i = 0; i < 20; i++) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

/*
 * Rounds
 */

/* Go back to the contents before this round. */
static void image_return(TestImage *image)
{
    bdrv_drained_begin(image->bs);
    g_assert(bdrv_snapshot_goto(image->bs, "kept", &error_abort) >= 0);
    bdrv_drained_end(image->bs);
    for (int64_t i = 0; i < image->size / SECTOR; i++) {
        image->sectors[i].started = image->kept[i].started;
        image->sectors[i].done = image->kept[i].done;
    }
    image_verify(image);
}

static void test_rounds(gconstpointer options)
{
    TestImage *image = image_new(options);

    image->requests = REQUESTS / (THREADS * DEPTH);
    for (int round = 0; round < ROUNDS; round++) {
        bool keep = round % 2;

        if (keep) {
            /* A snapshot has the disk's size, which goto wants again */
            image_resize(image, DISK_BYTES_MAX);
            snapshot_create(image, "kept");
            g_free(image->kept);
            image->kept = g_memdup2(image->sectors, sizeof(TestSector) *
                                    DISK_SECTORS);
        }
        image_load(image, 1000 * round, image_control);
        image_verify(image);
        image_check(image, 0);
        if (keep) {
            image_return(image);
            snapshot_delete(image, "kept");
            image_check(image, 0);
            image_resize(image, DISK_BYTES);
        }

        /* Open the image again: all that was written must be in it. */
        blk_unref(image->blk);
        image_open(image, 8 + round);
        image_verify(image);
    }
    image_free(image);
}

/*
 * Power failures
 */

static void power_fails(void *opaque)
{
    image_keep(opaque);
}

static void test_cut(gconstpointer options)
{
    TestImage *image = image_new(options);
    GRand *rand = g_rand_new_with_seed(7);
    int failures = 0;

    image->requests = 60;
    image->kept = g_new0(TestSector, DISK_SECTORS);
    for (int round = 0; round < CUTS; round++) {
        image_thin(image, rand);
        memory_disk_cut(g_rand_int_range(rand, 1, 3000), power_fails, image);
        image_load(image, 1000 * round, NULL);
        blk_unref(image->blk);
        if (!memory_disk_power_up(rand)) {
            power_fails(image);
            for (int64_t i = 0; i < DISK_SECTORS; i++) {
                image->kept[i].flushed = image->kept[i].started;
            }
        } else {
            failures++;
        }
        image_open(image, 8);
        image_check(image, BDRV_FIX_LEAKS);
        image_recover(image);
        image_verify(image);
    }
    g_assert_cmpint(failures, >, CUTS / 2);
    g_rand_free(rand);
    image_free(image);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/qcow2-hammer/plain", "cluster_size=4096",
                         test_rounds);
    g_test_add_data_func("/qcow2-hammer/old",
                         "cluster_size=4096,compat=0.10", test_rounds);
    g_test_add_data_func("/qcow2-hammer/subclusters",
                         "cluster_size=16384,extended_l2=on", test_rounds);
    g_test_add_data_func("/qcow2-hammer/cut", "cluster_size=4096", test_cut);
    g_test_add_data_func("/qcow2-hammer/cut-subclusters",
                         "cluster_size=16384,extended_l2=on", test_cut);
    return g_test_run();
}
