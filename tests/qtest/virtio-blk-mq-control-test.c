/*
 * What changes under a running driver of several queues
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
#include "mq-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)
#define SECTORS (IMAGE_SIZE / MQ_SECTOR)
#define PROPS "num-queues=4,iothread=io0"

#define CONFIG(field) offsetof(struct virtio_blk_config, field)

static MqDisk setup(const MqVariant *v, const char *props)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, props);

    mq_device_start(disk.d, 0, MQ_ALL_QUEUES);
    return disk;
}

static uint64_t capacity(MqDisk *disk)
{
    return mq_config_readq(disk->d, CONFIG(capacity));
}

static void test_resize(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS);

    g_assert_cmpuint(capacity(&disk), ==, SECTORS);
    g_assert_cmphex(mq_request_run(disk.d->queues[1], VIRTIO_BLK_T_IN, SECTORS,
                                   NULL, MQ_SECTOR), ==, VIRTIO_BLK_S_IOERR);
    mq_vector_wait(disk.d, 2);
    mq_disk_resize(&disk, 2 * IMAGE_SIZE);
    mq_vector_wait(disk.d, 0);
    mq_vectors_silent(disk.d);
    g_assert_cmpuint(capacity(&disk), ==, 2 * SECTORS);
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_write(disk.d->queues[q], SECTORS + q, MQ_SECTOR, q);
        mq_read(disk.d->queues[q], SECTORS + q, MQ_SECTOR, q);
    }

    mq_disk_resize(&disk, IMAGE_SIZE / 2);
    mq_vector_wait(disk.d, 0);
    g_assert_cmpuint(capacity(&disk), ==, SECTORS / 2);
    for (unsigned q = 0; q < QUEUES; q++) {
        g_assert_cmphex(mq_request_run(disk.d->queues[q], VIRTIO_BLK_T_IN,
                                       SECTORS / 2, NULL, MQ_SECTOR), ==,
                        VIRTIO_BLK_S_IOERR);
    }
    mq_disk_stop(&disk);
}

/* A last part of a logical block does not count, nor can it be read. */
static void test_odd_size(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS ",logical_block_size=4096,"
                          "physical_block_size=4096");
    uint64_t end = 2 * SECTORS;

    mq_disk_resize(&disk, 2 * IMAGE_SIZE + 3 * MQ_SECTOR);
    mq_vector_wait(disk.d, 0);
    g_assert_cmpuint(capacity(&disk), ==, end);
    mq_write(disk.d->queues[0], end - 8, 4096, 1);
    mq_read(disk.d->queues[0], end - 8, 4096, 1);
    for (unsigned n = 1; n <= 8; n++) {
        g_assert_cmphex(mq_request_run(disk.d->queues[1], VIRTIO_BLK_T_IN, end,
                                       NULL, n * MQ_SECTOR), ==,
                        VIRTIO_BLK_S_IOERR);
    }
    g_assert_cmpuint(capacity(&disk), ==, end);
    mq_disk_stop(&disk);
}

/* Without MSI-X the second bit of the interrupt status says it. */
static void test_resize_intx(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS ",vectors=0");
    gint64 start = g_get_monotonic_time();

    mq_disk_resize(&disk, 2 * IMAGE_SIZE);
    while (!mq_intx_level(disk.d)) {
        mq_deadline(start, "the INTx line");
    }
    g_assert_cmphex(mq_isr_read(disk.d) & 2, ==, 2);
    g_assert_cmpuint(capacity(&disk), ==, 2 * SECTORS);
    mq_disk_stop(&disk);
}

/* The only disk, as query-block or query-blockstats shows it. */
static QDict *query_disk(MqDisk *disk, const char *command, QDict **rsp)
{
    const QListEntry *first;

    *rsp = qtest_qmp(disk->m->qts, "{'execute': %s}", command);
    first = qlist_first(qdict_get_qlist(*rsp, "return"));
    g_assert_nonnull(first);
    return qobject_to(QDict, qlist_entry_obj(first));
}

static bool writeback(MqDisk *disk)
{
    QDict *rsp;
    QDict *info = query_disk(disk, "query-block", &rsp);
    QDict *cache = qdict_get_qdict(qdict_get_qdict(info, "inserted"), "cache");
    bool on = qdict_get_bool(cache, "writeback");

    qobject_unref(rsp);
    return on;
}

static void test_write_cache(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS);

    g_assert_cmpuint(mq_config_readb(disk.d, CONFIG(wce)), ==, 1);
    g_assert_true(writeback(&disk));
    for (unsigned round = 0; round < 2; round++) {
        mq_config_writeb(disk.d, CONFIG(wce), 0);
        g_assert_cmpuint(mq_config_readb(disk.d, CONFIG(wce)), ==, 0);
        g_assert_false(writeback(&disk));
        mq_write(disk.d->queues[round], 0, MQ_SECTOR, round);
        mq_config_writeb(disk.d, CONFIG(wce), 1);
        g_assert_cmpuint(mq_config_readb(disk.d, CONFIG(wce)), ==, 1);
        g_assert_true(writeback(&disk));
        mq_read(disk.d->queues[2], 0, MQ_SECTOR, round);
    }
    /* A reset undoes it. */
    mq_config_writeb(disk.d, CONFIG(wce), 0);
    mq_device_reset(disk.d);
    g_assert_true(writeback(&disk));
    mq_disk_stop(&disk);
}

/* A driver that cannot flush gets a disk without a cache. */
static void test_no_flush_driver(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS);

    mq_device_negotiate(disk.d, ~(MQ_RING_FEATURES |
                                  BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) |
                                  BIT_ULL(VIRTIO_BLK_F_FLUSH)));
    mq_queue_new(disk.d, 0);
    mq_device_set_driver_ok(disk.d);
    g_assert_false(writeback(&disk));
    mq_write(disk.d->queues[0], 0, MQ_SECTOR, 1);

    mq_device_negotiate(disk.d, ~(MQ_RING_FEATURES |
                                  BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE)));
    mq_queue_new(disk.d, 0);
    mq_device_set_driver_ok(disk.d);
    g_assert_true(writeback(&disk));
    mq_disk_stop(&disk);
}

static int64_t statistic(MqDisk *disk, const char *name)
{
    QDict *rsp;
    QDict *info = query_disk(disk, "query-blockstats", &rsp);
    int64_t value = qdict_get_int(qdict_get_qdict(info, "stats"), name);

    qobject_unref(rsp);
    return value;
}

static void test_statistics(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS);
    int64_t rd = statistic(&disk, "rd_operations");
    int64_t rd_bytes = statistic(&disk, "rd_bytes");

    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i <= q; i++) {
            mq_write(disk.d->queues[q], 64 * q + 2 * i, MQ_SECTOR, i);
            mq_read(disk.d->queues[q], 64 * q + 2 * i, MQ_SECTOR, i);
        }
        g_assert_cmphex(mq_request_run(disk.d->queues[q], VIRTIO_BLK_T_FLUSH,
                                       0, NULL, 0), ==, VIRTIO_BLK_S_OK);
        g_assert_cmphex(mq_request_run(disk.d->queues[q], VIRTIO_BLK_T_OUT,
                                       SECTORS, NULL, MQ_SECTOR), ==,
                        VIRTIO_BLK_S_IOERR);
    }
    g_assert_cmpint(statistic(&disk, "rd_operations") - rd, ==, 10);
    g_assert_cmpint(statistic(&disk, "rd_bytes") - rd_bytes, ==,
                    10 * MQ_SECTOR);
    g_assert_cmpint(statistic(&disk, "wr_operations"), ==, 10);
    g_assert_cmpint(statistic(&disk, "wr_bytes"), ==, 10 * MQ_SECTOR);
    g_assert_cmpint(statistic(&disk, "flush_operations"), ==, QUEUES);
    g_assert_cmpint(statistic(&disk, "invalid_wr_operations"), ==, QUEUES);
    g_assert_cmpint(statistic(&disk, "failed_wr_operations"), ==, 0);
    mq_disk_stop(&disk);
}

/* Eight neighbouring writes, exposed at once, on one queue. */
static void write_neighbours(MqQueue *q, uint64_t sector)
{
    MqRequest *r[8];

    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = mq_write_new(q, sector + i, MQ_SECTOR, sector + i);
        mq_request_add(r[i]);
    }
    mq_queue_kick(q);
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        mq_request_finish(r[i]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        mq_read(q, sector + i, MQ_SECTOR, sector + i);
    }
}

static void check_merging(const MqVariant *v, const char *props,
                          unsigned merged)
{
    MqDisk disk = setup(v, props);

    for (unsigned q = 0; q < QUEUES; q++) {
        write_neighbours(disk.d->queues[q], q * 8);
        g_assert_cmpint(statistic(&disk, "wr_merged"), ==, merged * (q + 1));
    }
    g_assert_cmpint(statistic(&disk, "wr_operations"), ==, 8 * QUEUES);
    g_assert_cmpint(statistic(&disk, "wr_bytes"), ==, IMAGE_SIZE / 64);
    mq_disk_stop(&disk);
}

static void test_merging(const MqVariant *v)
{
    check_merging(v, PROPS, 7);
    check_merging(v, "num-queues=4", 7);
}

static void test_no_merging(const MqVariant *v)
{
    check_merging(v, PROPS ",request-merging=off", 0);
}

/* The driver sets a ring up once more, elsewhere, without a reset. */
static void check_ring_again(const MqVariant *v, const char *props)
{
    MqDisk disk = setup(v, props);

    for (unsigned q = 0; q < QUEUES; q++) {
        g_clear_pointer(&disk.d->queues[q], mq_queue_free);
        mq_queue_new(disk.d, q);
        mq_write(disk.d->queues[q], 8 * q, 4096, q);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_read(disk.d->queues[q], 8 * q, 4096, q);
    }
    mq_disk_stop(&disk);
}

static void test_ring_again(const MqVariant *v)
{
    check_ring_again(v, "num-queues=4");
    check_ring_again(v, PROPS);
    check_ring_again(v, "num-queues=4,ioeventfd=off");
}

/* Features that the driver accepts after its first kick, before DRIVER_OK. */
static void check_late_features(const MqVariant *v, const char *props)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, props);
    MqDevice *d = disk.d;

    mq_device_negotiate(d, ~BIT_ULL(VIRTIO_RING_F_EVENT_IDX));
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_queue_new(d, q);
        mq_device_notify(d, q);
    }
    d->features |= BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    d->transport->set_features(d, d->features);
    mq_device_set_driver_ok(d);
    for (unsigned q = 0; q < QUEUES; q++) {
        MqRequest *r;

        /* From now on the test's ring waits for what the device says. */
        g_clear_pointer(&d->queues[q], mq_queue_free);
        mq_queue_new(d, q);
        r = mq_read_new(d->queues[q], 0, MQ_SECTOR);
        mq_request_submit(r);
        mq_queue_wait_taken(d->queues[q]);
        mq_request_finish(r);
    }
    mq_disk_stop(&disk);
}

static void test_late_features(const MqVariant *v)
{
    check_late_features(v, "num-queues=4");
    check_late_features(v, PROPS);
    check_late_features(v, "num-queues=4,ioeventfd=off");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add("control/ring-again", test_ring_again, MQ_BOTH);
    mq_test_add("control/late-features", test_late_features, MQ_PC_LEGACY);
    mq_test_add("control/resize", test_resize, MQ_BOTH);
    mq_test_add("control/odd-size", test_odd_size, MQ_BOTH);
    mq_test_add("control/resize-intx", test_resize_intx, MQ_BOTH);
    mq_test_add("control/write-cache", test_write_cache, MQ_BOTH);
    mq_test_add("control/no-flush-driver", test_no_flush_driver, MQ_BOTH);
    mq_test_add("control/statistics", test_statistics, MQ_BOTH);
    mq_test_add("control/merging", test_merging, MQ_BOTH);
    mq_test_add("control/no-merging", test_no_merging, MQ_BOTH);
    return g_test_run();
}
