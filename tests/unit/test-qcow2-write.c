/*
 * Writes to a qcow2 image in place: which need the lock, and which are refused
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qcow2-lookup.h"
#include "block/qcow2-metadata.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "memory-disk.h"
#include "qcow2-lock.h"

#define SECTOR          512
#define CLUSTER         4096

/* The bytes mapped by 512 bytes of a table, and by a table of one cluster */
#define SLICE_BYTES     (64 * CLUSTER)
#define TABLE_BYTES     (512 * CLUSTER)

#define DISK_BYTES      (8 * TABLE_BYTES)

static BlockBackend *image_new(const char *options)
{
    memory_disk_open(options, DISK_BYTES);
    return memory_disk_blk(128);
}

static void image_free(BlockBackend *blk)
{
    blk_unref(blk);
    memory_disk_close();
}

static BDRVQcow2State *blk_state(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

static int image_write(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    g_autofree char *buf = g_strnfill(bytes, 'w');

    return blk_pwrite(blk, offset, bytes, buf, 0);
}

static void image_snapshot(BlockBackend *blk)
{
    QEMUSnapshotInfo info = { .name = "snapshot" };

    bdrv_drained_begin(blk_bs(blk));
    bdrv_graph_rdlock_main_loop();
    g_assert(bdrv_snapshot_create(blk_bs(blk), &info) >= 0);
    bdrv_graph_rdunlock_main_loop();
    bdrv_drained_end(blk_bs(blk));
}

/* Check whether a write, and then the same write again, need the lock. */
static void check_write(BlockBackend *blk, int64_t offset, int64_t bytes,
                        bool first, bool second)
{
    g_assert_cmpint(qcow2_write_needs_lock(blk, offset, bytes), ==, first);
    g_assert_cmpint(qcow2_write_needs_lock(blk, offset, bytes), ==, second);
}

static void test_lock(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    g_autofree char *buf = g_strnfill(CLUSTER, 'w');

    /* The first write allocates.  It is repeated, in part and as a whole. */
    check_write(blk, 0, SECTOR, true, false);
    check_write(blk, CLUSTER, 4 * CLUSTER, true, false);
    check_write(blk, 0, 5 * CLUSTER, false, false);
    check_write(blk, 2 * SECTOR, SECTOR, false, false);

    /* Some of it is new; two tables; not one after the other */
    check_write(blk, 4 * CLUSTER, 2 * CLUSTER, true, false);
    check_write(blk, SLICE_BYTES - CLUSTER, 2 * CLUSTER, true, true);
    check_write(blk, SLICE_BYTES - CLUSTER, CLUSTER, false, false);
    check_write(blk, 21 * CLUSTER, CLUSTER, true, false);
    check_write(blk, 20 * CLUSTER, CLUSTER, true, false);
    check_write(blk, 20 * CLUSTER, 2 * CLUSTER, true, true);

    /* Compressed, and zeroes with and without data */
    g_assert(blk_pwrite(blk, 10 * CLUSTER, CLUSTER, buf,
                        BDRV_REQ_WRITE_COMPRESSED) >= 0);
    check_write(blk, 10 * CLUSTER, SECTOR, true, false);
    g_assert(blk_pwrite_zeroes(blk, 10 * CLUSTER, 2 * CLUSTER, 0) >= 0);
    check_write(blk, 10 * CLUSTER, SECTOR, true, false);
    check_write(blk, 11 * CLUSTER, SECTOR, true, false);

    /* A snapshot has all of it, and the table too */
    image_snapshot(blk);
    check_write(blk, 0, SECTOR, true, false);
    check_write(blk, 0, 2 * CLUSTER, true, false);
    check_write(blk, CLUSTER, SECTOR, false, false);
    check_write(blk, 3 * CLUSTER, SECTOR, true, false);

    /* Clusters that were freed */
    g_assert(blk_pwrite_zeroes(blk, 3 * CLUSTER, CLUSTER,
                               BDRV_REQ_MAY_UNMAP) >= 0);
    check_write(blk, 3 * CLUSTER, SECTOR, true, false);
    image_free(blk);
}

/* A table that is not said to be used once is copied first. */
static void test_table(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    uint64_t l1_offset = blk_state(blk)->l1_table_offset;

    g_assert(image_write(blk, 0, CLUSTER) >= 0);
    blk_unref(blk);
    memory_disk_words()[l1_offset / sizeof(uint64_t)] &=
        ~cpu_to_be64(QCOW_OFLAG_COPIED);
    blk = memory_disk_blk(128);
    check_write(blk, TABLE_BYTES, SECTOR, true, false);
    g_assert(qcow2_read_needs_lock(blk, 0, SECTOR));
    check_write(blk, 0, SECTOR, true, false);
    image_free(blk);
}

/* Every subcluster that is written to has to have data already. */
static void test_subclusters(void)
{
    BlockBackend *blk = image_new("cluster_size=16k,extended_l2=on");
    const int64_t cluster = 16384;

    check_write(blk, 2 * SECTOR, 4 * SECTOR, true, false);
    check_write(blk, 3 * SECTOR, SECTOR, false, false);
    check_write(blk, 5 * SECTOR, 2 * SECTOR, true, false);
    check_write(blk, SECTOR, 2 * SECTOR, true, false);
    check_write(blk, SECTOR, 6 * SECTOR, false, false);

    /* Two clusters, of which nothing but the middle is written */
    check_write(blk, cluster - SECTOR, 2 * SECTOR, true, false);
    check_write(blk, cluster - 2 * SECTOR, 2 * SECTOR, true, false);
    check_write(blk, cluster, 2 * SECTOR, true, false);

    /* Three, the one in the middle whole but for a sector of zeroes */
    check_write(blk, 8 * cluster, 3 * cluster, true, false);
    g_assert(blk_pwrite_zeroes(blk, 9 * cluster + 7 * SECTOR, SECTOR, 0) >= 0);
    check_write(blk, 9 * cluster, 7 * SECTOR, false, false);
    check_write(blk, 9 * cluster + 8 * SECTOR, cluster, false, false);
    check_write(blk, 8 * cluster, 3 * cluster, true, false);

    image_snapshot(blk);
    check_write(blk, 2 * SECTOR, SECTOR, true, false);
    check_write(blk, 3 * SECTOR, SECTOR, false, false);
    image_free(blk);
}

/*
 * Corrupt images
 */

/* The entry for @offset, whose table is in the file already. */
static uint64_t *image_entry(BlockBackend *blk, int64_t offset)
{
    uint64_t table = blk_state(blk)->l1_table[offset / TABLE_BYTES] &
                     L1E_OFFSET_MASK;

    g_assert(table);
    return memory_disk_words() + table / sizeof(uint64_t) +
           offset % TABLE_BYTES / CLUSTER;
}

/* Give @offset the cluster at @host, wherever that lies. */
static BlockBackend *image_spoil(BlockBackend *blk, int64_t offset,
                                 uint64_t host)
{
    uint64_t *entry;

    g_assert(blk_flush(blk) >= 0);
    entry = image_entry(blk, offset);
    blk_unref(blk);
    *entry = cpu_to_be64(host | QCOW_OFLAG_COPIED);
    blk = memory_disk_blk(128);
    g_assert(image_write(blk, offset + CLUSTER, CLUSTER) >= 0);
    g_assert(!qcow2_write_needs_lock(blk, offset + CLUSTER, CLUSTER));
    return blk;
}

static void check_refused(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    g_assert_cmpint(image_write(blk, offset, bytes), ==, -EIO);
    g_assert(!blk_bs(blk)->drv);

    /* qcow2 gives such an image up and never closes it; this closes it. */
    blk_bs(blk)->drv = bdrv_find_format("qcow2");
}

typedef uint64_t WhereFn(BDRVQcow2State *s);

static uint64_t where_header(BDRVQcow2State *s)
{
    return s->cluster_size / 2;
}

static uint64_t where_l1(BDRVQcow2State *s)
{
    return s->l1_table_offset;
}

static uint64_t where_l2(BDRVQcow2State *s)
{
    return s->l1_table[0] & L1E_OFFSET_MASK;
}

static uint64_t where_refcount_table(BDRVQcow2State *s)
{
    return s->refcount_table_offset;
}

static uint64_t where_refcount_block(BDRVQcow2State *s)
{
    return s->refcount_table[0] & REFT_OFFSET_MASK;
}

static uint64_t where_snapshots(BDRVQcow2State *s)
{
    return s->snapshots_offset;
}

static uint64_t where_snapshot_l1(BDRVQcow2State *s)
{
    return s->snapshots[0].l1_table_offset;
}

/* A write to tables is found out, whether where they lie is known or not. */
static void test_metadata(void)
{
    static WhereFn *const places[] = {
        where_header, where_l1, where_l2, where_refcount_table,
        where_refcount_block, where_snapshots, where_snapshot_l1,
    };

    for (int i = 0; i < ARRAY_SIZE(places); i++) {
        BlockBackend *blk = image_new("cluster_size=4096");

        image_snapshot(blk);
        g_assert(image_write(blk, 0, 2 * CLUSTER) >= 0);
        blk = image_spoil(blk, 0, QEMU_ALIGN_DOWN(places[i](blk_state(blk)),
                                                  CLUSTER));
        if (i == 0) {
            /* An entry of 0 means that there is no cluster: one is allocated */
            g_assert(image_write(blk, 0, SECTOR) >= 0);
        } else {
            check_refused(blk, 0, SECTOR);
        }
        image_free(blk);
    }
}

/* The same where the second of two clusters is a table. */
static void test_metadata_behind(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    uint64_t host;

    g_assert(image_write(blk, 0, 4 * CLUSTER) >= 0);
    host = where_l2(blk_state(blk));
    blk = image_spoil(blk, CLUSTER, host - CLUSTER);
    blk = image_spoil(blk, 2 * CLUSTER, host);
    check_refused(blk, CLUSTER, 2 * CLUSTER);
    image_free(blk);
}

/* Data and a table made later get the same cluster, as its refcount is wrong */
static void test_metadata_added(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    uint64_t host;

    g_assert(image_write(blk, 0, 2 * CLUSTER) >= 0);
    host = (uint64_t)blk_state(blk)->free_cluster_index * CLUSTER;
    blk = image_spoil(blk, 0, host);
    g_assert(image_write(blk, 0, SECTOR) >= 0);
    g_assert(!qcow2_write_needs_lock(blk, 0, SECTOR));

    g_assert(image_write(blk, TABLE_BYTES, SECTOR) >= 0);
    g_assert_cmphex(blk_state(blk)->l1_table[1] & L1E_OFFSET_MASK, ==, host);
    check_refused(blk, 0, SECTOR);
    image_free(blk);
}

/* Any cluster that is not aligned, in a table and behind it */
static void test_unaligned(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");

    g_assert(image_write(blk, 0, 2 * CLUSTER) >= 0);
    blk = image_spoil(blk, 0, 64 * CLUSTER + SECTOR);
    check_refused(blk, 0, SECTOR);
    image_free(blk);
}

/* With many tables, the set has each of them and no other cluster. */
static void test_set(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    BDRVQcow2State *s = blk_state(blk);

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    g_assert(!qcow2_metadata_misses(blk_bs(blk), 1000 * CLUSTER, CLUSTER));
    qcow2_metadata_learn(blk_bs(blk));
    for (int64_t i = 0; i < 20; i++) {
        qcow2_metadata_add(s, (1000 + 2 * i) * CLUSTER);
    }
    for (int64_t i = 0; i < 20; i++) {
        int64_t offset = (1000 + 2 * i) * CLUSTER;

        g_assert(!qcow2_metadata_misses(blk_bs(blk), offset, CLUSTER));
        g_assert(!qcow2_metadata_misses(blk_bs(blk), offset + SECTOR, 1));
        g_assert(!qcow2_metadata_misses(blk_bs(blk), offset - 1, 2));
        g_assert(qcow2_metadata_misses(blk_bs(blk), offset + CLUSTER, CLUSTER));
    }
    g_assert(!qcow2_metadata_misses(blk_bs(blk), 2000 * CLUSTER,
                                    2000 * CLUSTER));

    /* A set that is full is dropped, until it is made anew. */
    for (int64_t i = 0; s->metadata; i++) {
        qcow2_metadata_add(s, (2000 + i) * CLUSTER);
        g_assert_cmpint(i, <, 1000);
    }
    g_assert(!qcow2_metadata_misses(blk_bs(blk), 1001 * CLUSTER, CLUSTER));
    qcow2_metadata_learn(blk_bs(blk));
    g_assert(qcow2_metadata_misses(blk_bs(blk), 1000 * CLUSTER, CLUSTER));
    image_free(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-write/lock", test_lock);
    g_test_add_func("/qcow2-write/table", test_table);
    g_test_add_func("/qcow2-write/subclusters", test_subclusters);
    g_test_add_func("/qcow2-write/metadata", test_metadata);
    g_test_add_func("/qcow2-write/metadata-behind", test_metadata_behind);
    g_test_add_func("/qcow2-write/metadata-added", test_metadata_added);
    g_test_add_func("/qcow2-write/unaligned", test_unaligned);
    g_test_add_func("/qcow2-write/set", test_set);
    return g_test_run();
}
