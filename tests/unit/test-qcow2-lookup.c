/*
 * Reads of a qcow2 image in many threads, without the image's lock
 *
 * The image is in memory and has a cache of few and small tables, which are
 * replaced all the time.  Four threads read and change the image.  Each sector
 * holds the number of the write that it comes from.  So a read can check that
 * the sector had this content at some time while the read was in flight.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/qcow2-lookup.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "memory-disk.h"

#define SECTOR          512
#define CLUSTER         4096
#define SECTORS         (CLUSTER / SECTOR)

/* The bytes mapped by 512 bytes of a table, and by a table of one cluster */
#define SLICE_BYTES     (64 * CLUSTER)
#define TABLE_BYTES     (512 * CLUSTER)

#define DISK_BYTES      (8 * TABLE_BYTES)
#define DISK_BYTES_MAX  (24 * TABLE_BYTES)

#define THREADS         4
#define DEPTH           8

/* ThreadSanitizer takes a hundred times as long */
#ifdef CONFIG_TSAN
#define REQUESTS        2000
#else
#define REQUESTS        40000
#endif

/* A cluster that is about to be freed has so many readers less than none. */
#define ALONE           (-1000000)

typedef struct TestSector {
    int started;    /* number of the newest write; even: of zeroes */
    int done;       /* number of the newest write that has ended */
} TestSector;

typedef struct TestCluster {
    TestSector sector[SECTORS];
    int readers;
    int writing;
} TestCluster;

typedef struct TestImage {
    BlockBackend *blk;
    BlockDriverState *bs;
    BDRVQcow2State *s;
    TestCluster *clusters;
    int64_t size;
    int running;
} TestImage;

/* The work that one coroutine repeats */
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

static TestImage *image_new(int slots)
{
    TestImage *image = g_new0(TestImage, 1);

    image->size = DISK_BYTES;
    image->clusters = g_new0(TestCluster, DISK_BYTES_MAX / CLUSTER);
    memory_disk_open("cluster_size=4096", DISK_BYTES);
    image_open(image, slots);
    return image;
}

static void image_free(TestImage *image)
{
    blk_unref(image->blk);
    memory_disk_close();
    g_free(image->clusters);
    g_free(image);
}

/*
 * Contents
 */

static uint64_t stamp(int64_t sector, int number)
{
    return number % 2 ? (uint64_t)number << 32 | sector : 0;
}

static void fill(uint64_t *buf, int64_t sector, int number)
{
    for (int i = 0; i < SECTOR / sizeof(*buf); i++) {
        buf[i] = stamp(sector, number);
    }
}

/* Each word is of a write between @from and @to. */
static void check(const uint64_t *buf, int64_t sector, int from, int to)
{
    for (int i = 0; i < SECTOR / sizeof(*buf); i++) {
        int number = buf[i] >> 32;

        if (!number) {
            /* An even number lies in between */
            g_assert_cmphex(buf[i], ==, 0);
            g_assert_cmpint(to - from + !(from % 2), >, 0);
        } else {
            g_assert_cmphex(buf[i], ==, stamp(sector, number));
            g_assert_cmpint(number, >=, from);
            g_assert_cmpint(number, <=, to);
        }
    }
}

static TestSector *image_sector(TestImage *image, int64_t sector)
{
    return &image->clusters[sector / SECTORS].sector[sector % SECTORS];
}

/* Check that the image has exactly what was written.  Nothing else uses it. */
static void image_verify(TestImage *image)
{
    g_autofree uint64_t *buf = g_malloc(CLUSTER);
    int64_t size = blk_getlength(image->blk);

    g_assert_cmpint(size, ==, image->size);
    for (int64_t offset = 0; offset < size; offset += CLUSTER) {
        g_assert(blk_pread(image->blk, offset, CLUSTER, buf, 0) >= 0);
        for (int i = 0; i < SECTORS; i++) {
            int64_t sector = offset / SECTOR + i;
            int done = image_sector(image, sector)->done;

            check(buf + i * SECTOR / sizeof(*buf), sector, done, done);
        }
    }
}

/*
 * The load
 */

/* Count a reader of @cluster.  Return false if the cluster is being freed. */
static bool cluster_ref(TestCluster *cluster)
{
    int readers = qatomic_read(&cluster->readers);

    while (readers >= 0) {
        int seen = qatomic_cmpxchg(&cluster->readers, readers, readers + 1);

        if (seen == readers) {
            return true;
        }
        readers = seen;
    }
    return false;
}

static void cluster_unref(TestCluster *cluster)
{
    qatomic_dec(&cluster->readers);
}

static void coroutine_fn load_read(Load *load, int64_t first, int nb)
{
    TestImage *image = load->image;
    int from[4 * SECTORS];
    int64_t cluster = first / SECTORS;
    int64_t end = (first + nb - 1) / SECTORS + 1;
    int64_t c;

    for (c = cluster; c < end && cluster_ref(&image->clusters[c]); c++) {
        ;
    }
    if (c == end) {
        for (int i = 0; i < nb; i++) {
            from[i] = qatomic_load_acquire(&image_sector(image,
                                                         first + i)->done);
        }
        g_assert(blk_co_pread(image->blk, first * SECTOR, nb * SECTOR,
                              load->buf, 0) >= 0);
        for (int i = 0; i < nb; i++) {
            check(load->buf + i * SECTOR / sizeof(*load->buf), first + i,
                  from[i],
                  qatomic_load_acquire(&image_sector(image,
                                                     first + i)->started));
        }
    }
    while (c-- > cluster) {
        cluster_unref(&image->clusters[c]);
    }
}

/* The next number for all @nb sectors from @first on; of one cluster. */
static int load_number(TestImage *image, int64_t first, int nb, bool zero)
{
    int number = 0;

    for (int i = 0; i < SECTORS; i++) {
        int64_t sector = first / SECTORS * SECTORS + i;

        number = MAX(number, image_sector(image, sector)->started);
    }
    number += number % 2 == zero ? 1 : 2;
    for (int i = 0; i < nb; i++) {
        qatomic_store_release(&image_sector(image, first + i)->started, number);
    }
    return number;
}

static void coroutine_fn load_write(Load *load, int64_t first, int nb)
{
    TestImage *image = load->image;
    int number = load_number(image, first, nb, false);

    for (int i = 0; i < nb; i++) {
        fill(load->buf + i * SECTOR / sizeof(*load->buf), first + i, number);
    }
    g_assert(blk_co_pwrite(image->blk, first * SECTOR, nb * SECTOR, load->buf,
                           0) >= 0);
    for (int i = 0; i < nb; i++) {
        qatomic_store_release(&image_sector(image, first + i)->done, number);
    }
}

/* Do not free a cluster while it is read, as other data may take its place. */
static void coroutine_fn load_zero(Load *load, int64_t cluster, bool unmap)
{
    TestImage *image = load->image;
    int *readers = &image->clusters[cluster].readers;
    int number;

    if (unmap && qatomic_cmpxchg(readers, 0, ALONE) != 0) {
        return;
    }
    number = load_number(image, cluster * SECTORS, SECTORS, true);
    if (unmap && cluster % 2) {
        g_assert(base_co_pdiscard(image->blk, cluster * CLUSTER, CLUSTER,
                                  0) >= 0);
    } else {
        g_assert(blk_co_pwrite_zeroes(image->blk, cluster * CLUSTER, CLUSTER,
                                      unmap ? BDRV_REQ_MAY_UNMAP : 0) >= 0);
    }
    for (int i = 0; i < SECTORS; i++) {
        qatomic_store_release(&image->clusters[cluster].sector[i].done, number);
    }
    if (unmap) {
        qatomic_sub(readers, ALONE);
    }
}

static int64_t load_cluster(Load *load)
{
    int64_t clusters = qatomic_read(&load->image->size) / CLUSTER;

    /* Half of the clusters are in three tables, for both hits and misses. */
    if (g_rand_boolean(load->rand)) {
        clusters = 3 * SLICE_BYTES / CLUSTER;
    }
    return g_rand_int_range(load->rand, 0, clusters - 4);
}

static void coroutine_fn load_entry(void *opaque)
{
    Load *load = opaque;
    TestImage *image = load->image;

    for (int i = 0; i < REQUESTS / DEPTH; i++) {
        int64_t cluster = load_cluster(load);
        int sector = g_rand_int_range(load->rand, 0, SECTORS);
        int kind = g_rand_int_range(load->rand, 0, 20);
        int *writing = &image->clusters[cluster].writing;

        if (kind < 13) {
            int max = kind < 9 ? SECTORS - sector : 3 * SECTORS;

            load_read(load, cluster * SECTORS + sector,
                      g_rand_int_range(load->rand, 1, max + 1));
        } else if (qatomic_cmpxchg(writing, 0, 1) == 0) {
            if (kind < 17) {
                load_write(load, cluster * SECTORS + sector,
                           g_rand_int_range(load->rand, 1,
                                            SECTORS - sector + 1));
            } else {
                load_zero(load, cluster, kind > 17);
            }
            qatomic_store_release(writing, 0);
        }
    }

    g_rand_free(load->rand);
    qemu_vfree(load->buf);
    qatomic_dec(&image->running);
    aio_wait_kick();
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
    qemu_co_mutex_unlock(&image->s->lock);
}

static void image_grow(TestImage *image)
{
    if (image->size < DISK_BYTES_MAX) {
        int64_t size = image->size + TABLE_BYTES;

        g_assert(blk_truncate(image->blk, size, true, PREALLOC_MODE_OFF, 0,
                              &error_abort) >= 0);
        qatomic_set(&image->size, size);
    }
}

static void image_snapshot(TestImage *image, bool create)
{
    QEMUSnapshotInfo info = { .name = "snapshot" };

    bdrv_drained_begin(image->bs);
    bdrv_graph_rdlock_main_loop();
    g_assert((create ? bdrv_snapshot_create(image->bs, &info) :
              bdrv_snapshot_delete(image->bs, NULL, "snapshot",
                                   &error_abort)) >= 0);
    bdrv_graph_rdunlock_main_loop();
    bdrv_drained_end(image->bs);
}

static void image_control(TestImage *image, unsigned step)
{
    switch (step % 8) {
    case 0:
        image_snapshot(image, true);
        break;
    case 1:
    case 5:
        image_grow(image);
        break;
    case 2:
    case 6:
        qemu_coroutine_enter(qemu_coroutine_create(clean_entry, image));
        break;
    case 3:
        memory_disk_reopen(image->blk, 8 + step % 5);
        break;
    case 4:
        image_snapshot(image, false);
        break;
    case 7:
        g_assert(blk_flush(image->blk) >= 0);
        break;
    }
    for (int i = 0; i < 20; i++) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

static void test_hammer(void)
{
    TestImage *image = image_new(8);
    g_autofree Load *loads = g_new0(Load, THREADS * DEPTH);
    IOThread *iothreads[THREADS];
    BdrvCheckResult result = { 0 };
    unsigned step = 0;

    image->running = THREADS * DEPTH;
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (int i = 0; i < THREADS * DEPTH; i++) {
        loads[i] = (Load) {
            .image = image,
            .rand = g_rand_new_with_seed(i),
            .buf = qemu_memalign(SECTOR, 4 * CLUSTER),
        };
        aio_co_schedule(iothread_get_aio_context(iothreads[i % THREADS]),
                        qemu_coroutine_create(load_entry, &loads[i]));
    }
    while (qatomic_read(&image->running) || step % 8) {
        image_control(image, step++);
    }
    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }

    image_verify(image);

    /* Open the image again: all that was written must be in it. */
    blk_unref(image->blk);
    image_open(image, 64);
    image_verify(image);
    g_assert_cmpint(bdrv_check(image->bs, &result, 0), ==, 0);
    g_assert_cmpint(result.corruptions, ==, 0);
    g_assert_cmpint(result.leaks, ==, 0);
    image_free(image);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-lookup/hammer", test_hammer);
    return g_test_run();
}
