/*
 * Changes of the disk while a driver with several queues runs
 *
 *     block_resize       ->  new capacity, configuration interrupt
 *     write cache        ->  configuration byte `wce` <-> the disk's cache mode
 *     statistics         ->  all queues' requests are counted, merged ones too
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)
#define SECTORS (IMAGE_SIZE / VBLK_SECTOR)
#define PROPS "num-queues=4,iothread=io0"

#define CONFIG(field) offsetof(struct virtio_blk_config, field)

static VblkDisk setup(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    return disk;
}

static uint64_t capacity(VblkDisk *disk)
{
    return vblk_config_readq(disk->d, CONFIG(capacity));
}

static void test_resize(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS);

    g_assert_cmpuint(capacity(&disk), ==, SECTORS);
    g_assert_cmphex(vblk_request_run(disk.d->queues[1], VIRTIO_BLK_T_IN,
                                     SECTORS, NULL, VBLK_SECTOR), ==,
                    VIRTIO_BLK_S_IOERR);
    vblk_vector_wait(disk.d, 2);
    vblk_disk_resize(&disk, 2 * IMAGE_SIZE);
    vblk_vector_wait(disk.d, 0);
    vblk_vectors_silent(disk.d);
    g_assert_cmpuint(capacity(&disk), ==, 2 * SECTORS);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(disk.d->queues[q], SECTORS + q, VBLK_SECTOR, q);
        vblk_read(disk.d->queues[q], SECTORS + q, VBLK_SECTOR, q);
    }

    vblk_disk_resize(&disk, IMAGE_SIZE / 2);
    vblk_vector_wait(disk.d, 0);
    g_assert_cmpuint(capacity(&disk), ==, SECTORS / 2);
    for (unsigned q = 0; q < QUEUES; q++) {
        g_assert_cmphex(vblk_request_run(disk.d->queues[q], VIRTIO_BLK_T_IN,
                                         SECTORS / 2, NULL, VBLK_SECTOR), ==,
                        VIRTIO_BLK_S_IOERR);
    }
    vblk_disk_stop(&disk);
}

/* A last part of a logical block does not count, nor can it be read. */
static void test_odd_size(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",logical_block_size=4096,"
                          "physical_block_size=4096");
    uint64_t end = 2 * SECTORS;

    vblk_disk_resize(&disk, 2 * IMAGE_SIZE + 3 * VBLK_SECTOR);
    vblk_vector_wait(disk.d, 0);
    g_assert_cmpuint(capacity(&disk), ==, end);
    vblk_write(disk.d->queues[0], end - 8, 4096, 1);
    vblk_read(disk.d->queues[0], end - 8, 4096, 1);
    for (unsigned n = 1; n <= 8; n++) {
        g_assert_cmphex(vblk_request_run(disk.d->queues[1], VIRTIO_BLK_T_IN,
                                         end, NULL, n * VBLK_SECTOR), ==,
                        VIRTIO_BLK_S_IOERR);
    }
    g_assert_cmpuint(capacity(&disk), ==, end);
    vblk_disk_stop(&disk);
}

/* Without MSI-X the second bit of the interrupt status says it. */
static void test_resize_intx(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",vectors=0");
    gint64 start = g_get_monotonic_time();

    vblk_disk_resize(&disk, 2 * IMAGE_SIZE);
    while (!vblk_intx_level(disk.d)) {
        vblk_deadline(start, "the INTx line");
    }
    g_assert_cmphex(vblk_isr_read(disk.d) & 2, ==, 2);
    g_assert_cmpuint(capacity(&disk), ==, 2 * SECTORS);
    vblk_disk_stop(&disk);
}

/* The only disk, as query-block or query-blockstats shows it. */
static QDict *query_disk(VblkDisk *disk, const char *command, QDict **rsp)
{
    const QListEntry *first;

    *rsp = qtest_qmp(disk->m->qts, "{'execute': %s}", command);
    first = qlist_first(qdict_get_qlist(*rsp, "return"));
    g_assert_nonnull(first);
    return qobject_to(QDict, qlist_entry_obj(first));
}

static bool writeback(VblkDisk *disk)
{
    QDict *rsp;
    QDict *info = query_disk(disk, "query-block", &rsp);
    QDict *cache = qdict_get_qdict(qdict_get_qdict(info, "inserted"), "cache");
    bool on = qdict_get_bool(cache, "writeback");

    qobject_unref(rsp);
    return on;
}

static void test_write_cache(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS);

    g_assert_cmpuint(vblk_config_readb(disk.d, CONFIG(wce)), ==, 1);
    g_assert_true(writeback(&disk));
    for (unsigned round = 0; round < 2; round++) {
        vblk_config_writeb(disk.d, CONFIG(wce), 0);
        g_assert_cmpuint(vblk_config_readb(disk.d, CONFIG(wce)), ==, 0);
        g_assert_false(writeback(&disk));
        vblk_write(disk.d->queues[round], 0, VBLK_SECTOR, round);
        vblk_config_writeb(disk.d, CONFIG(wce), 1);
        g_assert_cmpuint(vblk_config_readb(disk.d, CONFIG(wce)), ==, 1);
        g_assert_true(writeback(&disk));
        vblk_read(disk.d->queues[2], 0, VBLK_SECTOR, round);
    }
    /* A reset undoes it. */
    vblk_config_writeb(disk.d, CONFIG(wce), 0);
    vblk_device_reset(disk.d);
    g_assert_true(writeback(&disk));
    vblk_disk_stop(&disk);
}

/* A driver that cannot flush gets a disk without a cache. */
static void test_no_flush_driver(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS);

    vblk_device_negotiate(disk.d, ~(VBLK_RING_FEATURES |
                                    BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) |
                                    BIT_ULL(VIRTIO_BLK_F_FLUSH)));
    vblk_queue_new(disk.d, 0);
    vblk_device_set_driver_ok(disk.d);
    g_assert_false(writeback(&disk));
    vblk_write(disk.d->queues[0], 0, VBLK_SECTOR, 1);

    vblk_device_negotiate(disk.d, ~(VBLK_RING_FEATURES |
                                    BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE)));
    vblk_queue_new(disk.d, 0);
    vblk_device_set_driver_ok(disk.d);
    g_assert_true(writeback(&disk));
    vblk_disk_stop(&disk);
}

static int64_t statistic(VblkDisk *disk, const char *name)
{
    QDict *rsp;
    QDict *info = query_disk(disk, "query-blockstats", &rsp);
    int64_t value = qdict_get_int(qdict_get_qdict(info, "stats"), name);

    qobject_unref(rsp);
    return value;
}

static void test_statistics(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS);
    int64_t rd = statistic(&disk, "rd_operations");
    int64_t rd_bytes = statistic(&disk, "rd_bytes");

    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i <= q; i++) {
            vblk_write(disk.d->queues[q], 64 * q + 2 * i, VBLK_SECTOR, i);
            vblk_read(disk.d->queues[q], 64 * q + 2 * i, VBLK_SECTOR, i);
        }
        g_assert_cmphex(vblk_request_run(disk.d->queues[q], VIRTIO_BLK_T_FLUSH,
                                         0, NULL, 0), ==, VIRTIO_BLK_S_OK);
        g_assert_cmphex(vblk_request_run(disk.d->queues[q], VIRTIO_BLK_T_OUT,
                                         SECTORS, NULL, VBLK_SECTOR), ==,
                        VIRTIO_BLK_S_IOERR);
    }
    g_assert_cmpint(statistic(&disk, "rd_operations") - rd, ==, 10);
    g_assert_cmpint(statistic(&disk, "rd_bytes") - rd_bytes, ==,
                    10 * VBLK_SECTOR);
    g_assert_cmpint(statistic(&disk, "wr_operations"), ==, 10);
    g_assert_cmpint(statistic(&disk, "wr_bytes"), ==, 10 * VBLK_SECTOR);
    g_assert_cmpint(statistic(&disk, "flush_operations"), ==, QUEUES);
    g_assert_cmpint(statistic(&disk, "invalid_wr_operations"), ==, QUEUES);
    g_assert_cmpint(statistic(&disk, "failed_wr_operations"), ==, 0);
    vblk_disk_stop(&disk);
}

/* Eight neighbouring writes, exposed at once, on one queue. */
static void write_neighbours(VblkQueue *q, uint64_t sector)
{
    VblkRequest *r[8];

    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = vblk_write_new(q, sector + i, VBLK_SECTOR, sector + i);
        vblk_request_add(r[i]);
    }
    vblk_queue_kick(q);
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        vblk_request_finish(r[i]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        vblk_read(q, sector + i, VBLK_SECTOR, sector + i);
    }
}

static void check_merging(const VblkVariant *v, const char *props,
                          unsigned merged)
{
    VblkDisk disk = setup(v, props);

    for (unsigned q = 0; q < QUEUES; q++) {
        write_neighbours(disk.d->queues[q], q * 8);
        g_assert_cmpint(statistic(&disk, "wr_merged"), ==, merged * (q + 1));
    }
    g_assert_cmpint(statistic(&disk, "wr_operations"), ==, 8 * QUEUES);
    g_assert_cmpint(statistic(&disk, "wr_bytes"), ==, IMAGE_SIZE / 64);
    vblk_disk_stop(&disk);
}

static void test_merging(const VblkVariant *v)
{
    check_merging(v, PROPS, 7);
    check_merging(v, "num-queues=4", 7);
}

static void test_no_merging(const VblkVariant *v)
{
    check_merging(v, PROPS ",request-merging=off", 0);
}

/* The driver sets a ring up once more, elsewhere, without a reset. */
static void check_ring_again(const VblkVariant *v, const char *props)
{
    VblkDisk disk = setup(v, props);

    for (unsigned q = 0; q < QUEUES; q++) {
        g_clear_pointer(&disk.d->queues[q], vblk_queue_free);
        vblk_queue_new(disk.d, q);
        vblk_write(disk.d->queues[q], 8 * q, 4096, q);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_read(disk.d->queues[q], 8 * q, 4096, q);
    }
    vblk_disk_stop(&disk);
}

static void test_ring_again(const VblkVariant *v)
{
    check_ring_again(v, "num-queues=4");
    check_ring_again(v, PROPS);
    check_ring_again(v, "num-queues=4,ioeventfd=off");
}

/* The driver accepts features after its first kick, before DRIVER_OK. */
static void check_late_features(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);
    VblkDevice *d = disk.d;

    vblk_device_negotiate(d, ~BIT_ULL(VIRTIO_RING_F_EVENT_IDX));
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_new(d, q);
        vblk_device_notify(d, q);
    }
    d->features |= BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    d->transport->set_features(d, d->features);
    vblk_device_set_driver_ok(d);
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkRequest *r;

        /* From now on the test's ring waits for what the device says. */
        g_clear_pointer(&d->queues[q], vblk_queue_free);
        vblk_queue_new(d, q);
        r = vblk_read_new(d->queues[q], 0, VBLK_SECTOR);
        vblk_request_submit(r);
        vblk_queue_wait_taken(d->queues[q]);
        vblk_request_finish(r);
    }
    vblk_disk_stop(&disk);
}

static void test_late_features(const VblkVariant *v)
{
    check_late_features(v, "num-queues=4");
    check_late_features(v, PROPS);
    check_late_features(v, "num-queues=4,ioeventfd=off");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("control/ring-again", test_ring_again, VBLK_BOTH);
    vblk_test_add("control/late-features", test_late_features, VBLK_PC_LEGACY);
    vblk_test_add("control/resize", test_resize, VBLK_BOTH);
    vblk_test_add("control/odd-size", test_odd_size, VBLK_BOTH);
    vblk_test_add("control/resize-intx", test_resize_intx, VBLK_BOTH);
    vblk_test_add("control/write-cache", test_write_cache, VBLK_BOTH);
    vblk_test_add("control/no-flush-driver", test_no_flush_driver, VBLK_BOTH);
    vblk_test_add("control/statistics", test_statistics, VBLK_BOTH);
    vblk_test_add("control/merging", test_merging, VBLK_BOTH);
    vblk_test_add("control/no-merging", test_no_merging, VBLK_BOTH);
    return g_test_run();
}
