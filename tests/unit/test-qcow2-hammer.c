/*
 * Writes to a qcow2 image from many threads, and power failures
 *
 * Four threads write, clear, discard and flush whatever sectors they find
 * nobody else at, the same clusters at once among them, while the image is
 * grown, has snapshots taken and its cache cleaned or replaced.  Each sector
 * carries the number of the write that it comes from.  After every round the
 * image has exactly that, and so has a snapshot taken a round before; the
 * refcounts are right.
 *
 * Where the power fails, an image is left in which everything is that was
 * flushed, and no refcount is too low.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/qcow2.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "memory-disk.h"

#define SECTOR          MEMORY_DISK_SECTOR
#define DISK_BYTES      (6 * 1024 * 1024)
#define DISK_BYTES_MAX  (12 * 1024 * 1024)
#define WRITE_SECTORS   24

#define THREADS         4
#define DEPTH           8

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

/* Numbers; even ones are of zeroes. */
typedef struct TestSector {
    int owned;      /* by the one who reads or writes it */
    int started;    /* the newest write */
    int done;       /* the newest write that has ended */
    int flushed;    /* the newest write that a flush came after */
} TestSector;

typedef struct TestImage {
    const char *options;
    BlockBackend *blk;
    BlockDriverState *bs;
    BDRVQcow2State *s;
    TestSector *sectors;
    TestSector *kept;       /* as they were when the snapshot was taken */
    int64_t size;
    int running;
    unsigned requests;      /* of each coroutine */
    unsigned step;
} TestImage;

/* What one of our coroutines does, again and again. */
typedef struct Load {
    TestImage *image;
    GRand *rand;
    uint64_t *buf;
} Load;

static void image_open(TestImage *image, int slots)
{
    image->blk = memory_disk_blk(slots);
    image->bs = blk_bs(image->blk);
    image->s = image->bs->opaque;
}

static TestImage *image_new(const char *options)
{
    TestImage *image = g_new0(TestImage, 1);

    image->options = options;
    image->size = DISK_BYTES;
    image->sectors = g_new0(TestSector, DISK_BYTES_MAX / SECTOR);
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
 * Contents
 */

static uint64_t stamp(int64_t sector, int number)
{
    return number % 2 ? (uint64_t)number << 32 | sector : 0;
}

static int next_number(int number, bool zero)
{
    return number + (number % 2 == zero ? 1 : 2);
}

static uint64_t *sector_buf(uint64_t *buf, int i)
{
    return buf + i * SECTOR / sizeof(*buf);
}

static void fill(uint64_t *buf, int64_t sector, int number)
{
    for (int i = 0; i < SECTOR / sizeof(*buf); i++) {
        buf[i] = stamp(sector, number);
    }
}

static void check(const uint64_t *buf, int64_t sector, int number)
{
    for (int i = 0; i < SECTOR / sizeof(*buf); i++) {
        g_assert_cmphex(buf[i], ==, stamp(sector, number));
    }
}

/* Nobody else uses the image: exactly what was written is there. */
static void image_verify(TestImage *image)
{
    g_autofree uint64_t *buf = g_malloc(WRITE_SECTORS * SECTOR);

    for (int64_t i = 0; i < image->size / SECTOR; i += WRITE_SECTORS) {
        int nb = MIN(WRITE_SECTORS, image->size / SECTOR - i);

        g_assert(blk_pread(image->blk, i * SECTOR, nb * SECTOR, buf, 0) >= 0);
        for (int k = 0; k < nb; k++) {
            check(sector_buf(buf, k), i + k, image->sectors[i + k].done);
        }
    }
}

/* Refcounts are right; after a power failure some may be too high. */
static void image_check(TestImage *image, BdrvCheckMode fix)
{
    BdrvCheckResult result = { 0 };

    g_assert_cmpint(bdrv_check(image->bs, &result, fix), ==, 0);
    g_assert_cmpint(result.corruptions, ==, 0);
    g_assert_cmpint(result.corruptions_fixed, ==, 0);
    g_assert_cmpint(result.check_errors, ==, 0);
    g_assert_cmpint(result.leaks, ==, 0);
}

/*
 * The load
 */

/* Take sectors from @first on that nobody has; returns how many of @nb. */
static int load_own(Load *load, int64_t first, int nb)
{
    TestSector *sectors = load->image->sectors + first;
    int n = 0;

    while (n < nb && qatomic_cmpxchg(&sectors[n].owned, 0, 1) == 0) {
        n++;
    }
    return n;
}

static void load_disown(Load *load, int64_t first, int nb)
{
    for (int i = 0; i < nb; i++) {
        qatomic_store_release(&load->image->sectors[first + i].owned, 0);
    }
}

/* The next number for each of @nb sectors. */
static void load_start(Load *load, int64_t first, int nb, bool zero)
{
    TestSector *sectors = load->image->sectors + first;

    for (int i = 0; i < nb; i++) {
        int next = next_number(sectors[i].started, zero);

        qatomic_store_release(&sectors[i].started, next);
        fill(sector_buf(load->buf, i), first + i, next);
    }
}

static void load_done(Load *load, int64_t first, int nb)
{
    TestSector *sectors = load->image->sectors + first;

    for (int i = 0; i < nb; i++) {
        sectors[i].done = sectors[i].started;
    }
}

static void coroutine_fn load_read(Load *load, int64_t first, int nb)
{
    g_assert(blk_co_pread(load->image->blk, first * SECTOR, nb * SECTOR,
                          load->buf, 0) >= 0);
    for (int i = 0; i < nb; i++) {
        check(sector_buf(load->buf, i), first + i,
              load->image->sectors[first + i].done);
    }
}

static void coroutine_fn load_flush(Load *load, int64_t first, int nb)
{
    TestSector *sectors = load->image->sectors + first;

    g_assert(blk_co_flush(load->image->blk) >= 0);
    for (int i = 0; i < nb; i++) {
        qatomic_store_release(&sectors[i].flushed, sectors[i].done);
    }
}

static void coroutine_fn load_write(Load *load, int64_t first, int nb)
{
    load_start(load, first, nb, false);
    g_assert(blk_co_pwrite(load->image->blk, first * SECTOR, nb * SECTOR,
                           load->buf, 0) >= 0);
    load_done(load, first, nb);
}

static void coroutine_fn load_zero(Load *load, int64_t first, int nb,
                                   BdrvRequestFlags flags)
{
    load_start(load, first, nb, true);
    g_assert(blk_co_pwrite_zeroes(load->image->blk, first * SECTOR,
                                  nb * SECTOR, flags) >= 0);
    load_done(load, first, nb);
}

/* Whole clusters, for what is left of others may have zeroes or not. */
static void coroutine_fn load_discard(Load *load, int64_t first, int nb)
{
    int cluster = load->image->s->cluster_size / SECTOR;
    int64_t begin = ROUND_UP(first, cluster);
    int64_t end = QEMU_ALIGN_DOWN(first + nb, cluster);

    if (begin < end) {
        load_start(load, begin, end - begin, true);
        g_assert(blk_co_pdiscard(load->image->blk, begin * SECTOR,
                                 (end - begin) * SECTOR, 0) >= 0);
        load_done(load, begin, end - begin);
    }
}

static void coroutine_fn load_request(Load *load, int64_t first, int nb)
{
    int kind = g_rand_int_range(load->rand, 0, 24);

    switch (kind) {
    case 0 ... 13:
        load_write(load, first, nb);
        break;
    case 14 ... 17:
        load_zero(load, first, nb, kind % 2 ? BDRV_REQ_MAY_UNMAP : 0);
        break;
    case 18 ... 20:
        load_discard(load, first, nb);
        break;
    default:
        load_read(load, first, nb);
        break;
    }
    if (kind % 4 == 0) {
        load_read(load, first, nb);
    }
    if (kind % 6 == 0) {
        load_flush(load, first, nb);
    }
}

static void coroutine_fn load_entry(void *opaque)
{
    Load *load = opaque;
    TestImage *image = load->image;

    for (unsigned i = 0; i < image->requests; i++) {
        int64_t sectors = qatomic_read(&image->size) / SECTOR;
        int64_t first;
        int nb;

        /* A third of them in a few clusters, which are freed again and again */
        if (i % 3 == 0) {
            sectors = 8 * image->s->cluster_size / SECTOR;
        }
        first = g_rand_int_range(load->rand, 0, sectors - WRITE_SECTORS);
        nb = load_own(load, first,
                      g_rand_int_range(load->rand, 1, WRITE_SECTORS + 1));
        if (nb) {
            load_request(load, first, nb);
            load_disown(load, first, nb);
        }
    }

    g_rand_free(load->rand);
    qemu_vfree(load->buf);
    g_free(load);
    qatomic_dec(&image->running);
    aio_wait_kick();
}

/*
 * What is done to the image meanwhile
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
        image->sectors[i].started = next_number(image->sectors[i].started,
                                                true);
        image->sectors[i].done = image->sectors[i].started;
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
    switch (image->step++ % 8) {
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

/* Returns when all requests have been made. */
static void image_load(TestImage *image, int seed, bool control)
{
    IOThread *iothreads[THREADS];

    image->running = THREADS * DEPTH;
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (int i = 0; i < THREADS * DEPTH; i++) {
        Load *load = g_new0(Load, 1);

        load->image = image;
        load->rand = g_rand_new_with_seed(seed + i);
        load->buf = qemu_memalign(SECTOR, WRITE_SECTORS * SECTOR);
        aio_co_schedule(iothread_get_aio_context(iothreads[i % THREADS]),
                        qemu_coroutine_create(load_entry, load));
    }
    while (qatomic_read(&image->running) || (control && image->step % 8)) {
        if (control) {
            image_control(image);
        } else {
            AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&image->running));
        }
    }
    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }
}

/*
 * Rounds
 */

/* Back to what was there before this round. */
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
                                    (DISK_BYTES_MAX / SECTOR));
        }
        image_load(image, 1000 * round, true);
        image_verify(image);
        image_check(image, 0);
        if (keep) {
            image_return(image);
            snapshot_delete(image, "kept");
            image_check(image, 0);
            image_resize(image, DISK_BYTES);
        }

        /* What was written is not in the cache only */
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
    TestImage *image = opaque;

    for (int64_t i = 0; i < DISK_BYTES_MAX / SECTOR; i++) {
        TestSector *sector = &image->sectors[i];

        image->kept[i].flushed = qatomic_load_acquire(&sector->flushed);
        image->kept[i].started = qatomic_load_acquire(&sector->started);
    }
}

/*
 * What was flushed and not written since is there.  The rest becomes known, for
 * the next failure: it may be anything.
 */
static void image_recover(TestImage *image)
{
    g_autofree char *zeroes = g_malloc0(SECTOR);
    g_autofree uint64_t *buf = g_malloc(SECTOR);

    for (int64_t i = 0; i < image->size / SECTOR; i++) {
        TestSector *sector = &image->sectors[i];

        sector->started = image->kept[i].started;
        if (image->kept[i].flushed == sector->started) {
            g_assert(blk_pread(image->blk, i * SECTOR, SECTOR, buf, 0) >= 0);
            check(buf, i, sector->started);
        } else {
            g_assert(blk_pwrite(image->blk, i * SECTOR, SECTOR, zeroes,
                                0) >= 0);
            sector->started = next_number(sector->started, true);
        }
        sector->done = sector->started;
        sector->flushed = sector->started;
    }
}

/* Make room: what is written next has to be allocated, on disk too. */
static void image_thin(TestImage *image, GRand *rand)
{
    int64_t bytes = 16 * image->s->cluster_size;

    for (int64_t offset = 0; offset < image->size; offset += bytes) {
        if (g_rand_int_range(rand, 0, 4)) {
            g_assert(blk_pwrite_zeroes(image->blk, offset, bytes,
                                       BDRV_REQ_MAY_UNMAP) >= 0);
            for (int64_t i = 0; i < bytes / SECTOR; i++) {
                TestSector *sector = &image->sectors[offset / SECTOR + i];

                sector->started = next_number(sector->started, true);
                sector->done = sector->started;
                sector->flushed = sector->started;
            }
        }
    }
    g_assert(blk_flush(image->blk) >= 0);
}

static void test_cut(gconstpointer options)
{
    TestImage *image = image_new(options);
    GRand *rand = g_rand_new_with_seed(7);
    int failures = 0;

    image->requests = 60;
    image->kept = g_new0(TestSector, DISK_BYTES_MAX / SECTOR);
    for (int round = 0; round < CUTS; round++) {
        image_thin(image, rand);
        memory_disk_cut(g_rand_int_range(rand, 1, 3000), power_fails, image);
        image_load(image, 1000 * round, false);
        blk_unref(image->blk);
        if (!memory_disk_power_up(rand)) {
            power_fails(image);
            for (int64_t i = 0; i < DISK_BYTES_MAX / SECTOR; i++) {
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
