/*
 * Several queues of a memory mapped device
 *
 *     queue 0 --+
 *     queue 1 --+--- interrupt status, bit 0 --+
 *     queue 2 --+                              +--- one interrupt line
 *     queue 3 --+                              |
 *     configuration -- interrupt status, bit 1-+
 *
 * There are no vectors here, and no PCI; the queues are the same.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_mmio.h"
#include "mq-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=4,packed=on"

/* I/O APIC pin of the first slot */
#define IRQ 16

static MqDisk setup(const MqVariant *v, const char *props)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, props);

    qtest_irq_intercept_in(disk.m->qts, "ioapic");
    return disk;
}

static void wait_line(MqDisk *disk, bool level)
{
    gint64 start = g_get_monotonic_time();

    while (qtest_get_irq(disk->m->qts, IRQ) != level) {
        qtest_readb(disk->m->qts, 0);
        mq_deadline(start, "the interrupt line");
    }
}

/* The line goes up for every queue and down when the driver says so. */
static void check_interrupt(MqDisk *disk, unsigned queue)
{
    MqRequest *r = mq_read_new(disk->d->queues[queue], 0, MQ_SECTOR);

    mq_isr_read(disk->d);
    wait_line(disk, false);
    mq_queue_set_event(r->queue, 0);
    mq_request_submit(r);
    wait_line(disk, true);
    mq_request_finish(r);
    g_assert_cmphex(mq_isr_read(disk->d), ==, VIRTIO_MMIO_INT_VRING);
    wait_line(disk, false);
}

static void check_queues(MqDisk *disk)
{
    for (unsigned i = 0; i < 4 * QUEUES; i++) {
        mq_write(disk->d->queues[i % QUEUES], 8 * i, 4096, i);
        mq_read(disk->d->queues[(i + 1) % QUEUES], 8 * i, 4096, i);
    }
}

static void check_ring(MqDisk *disk, const MqRing *ring)
{
    check_queues(disk);
    if (ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
        for (unsigned i = 0; i < QUEUES; i++) {
            check_interrupt(disk, i);
        }
    }
}

static void test_rings(const MqVariant *v, const char *props)
{
    MqDisk disk = setup(v, props);

    g_assert_cmpuint(disk.d->max_queues, ==, QUEUES);
    g_assert_cmpuint(mq_config_readw(disk.d, offsetof(struct virtio_blk_config,
                                                      num_queues)), ==,
                     QUEUES);
    mq_disk_for_each_ring(&disk, check_ring);
    mq_disk_stop(&disk);
}

/* Rings of all sizes in turn, and fewer queues than there are. */
static void test_reset(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS ",iothread=io0");

    for (unsigned i = 0; i < 8; i++) {
        unsigned queues = 1 + i % QUEUES;

        mq_device_start(disk.d, 0, queues);
        for (unsigned q = 0; q < QUEUES; q++) {
            g_assert_cmpuint(mq_device_queue_enabled(disk.d, q), ==,
                             q < queues);
        }
        for (unsigned q = 0; q < queues; q++) {
            mq_write(disk.d->queues[q], q, MQ_SECTOR, 10 * i + q);
            mq_read(disk.d->queues[0], q, MQ_SECTOR, 10 * i + q);
        }
    }
    mq_disk_stop(&disk);
}

/* A reset does not wait for a driver to have taken its requests back. */
static void test_reset_busy(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS ",iothreads=4");

    for (unsigned i = 0; i < 20; i++) {
        mq_device_start(disk.d, 0, MQ_ALL_QUEUES);
        for (unsigned q = 0; q < QUEUES; q++) {
            mq_request_submit(mq_write_new(disk.d->queues[q], 64 * q, 65536 / 4,
                                           i));
        }
    }
    mq_device_start(disk.d, 0, MQ_ALL_QUEUES);
    check_queues(&disk);
    mq_disk_stop(&disk);
}

static void test_config_change(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS ",iothread=io0");

    mq_device_start(disk.d, 0, MQ_ALL_QUEUES);
    mq_isr_read(disk.d);
    for (unsigned i = 1; i < 4; i++) {
        mq_disk_resize(&disk, IMAGE_SIZE + 4096 * i);
        wait_line(&disk, true);
        g_assert_cmphex(mq_isr_read(disk.d), ==, VIRTIO_MMIO_INT_VRING |
                        VIRTIO_MMIO_INT_CONFIG);
        g_assert_cmpuint(mq_config_readq(disk.d, 0), ==,
                         (IMAGE_SIZE + 4096 * i) / MQ_SECTOR);
        mq_write(disk.d->queues[i], (IMAGE_SIZE + 4096 * (i - 1)) / MQ_SECTOR,
                 4096, i);
        mq_isr_read(disk.d);
    }
    mq_disk_stop(&disk);
}

static void test_move(const MqVariant *v)
{
    MqDisk disk = setup(v, PROPS ",iothread=io0");

    mq_device_start(disk.d, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), MQ_ALL_QUEUES);
    for (unsigned i = 0; i < 4 * QUEUES; i++) {
        mq_disk_move(&disk, i % QUEUES, i / QUEUES & 1 ? "io0" : "io1");
        check_interrupt(&disk, i % QUEUES);
    }
    check_queues(&disk);
    mq_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add_with("mmio/rings", test_rings, PROPS, MQ_MMIO);
    mq_test_add_with("mmio/rings-iothreads", test_rings,
                     PROPS ",iothreads=2", MQ_MMIO);
    mq_test_add("mmio/reset", test_reset, MQ_MMIO);
    mq_test_add("mmio/reset-busy", test_reset_busy, MQ_MMIO);
    mq_test_add("mmio/config-change", test_config_change, MQ_MMIO);
    mq_test_add("mmio/move", test_move, MQ_MMIO);
    /* Without eventfds kicks are calls in the main loop. */
    mq_test_add_with("mmio/no-ioeventfd", test_rings,
                     PROPS " -global virtio-mmio.ioeventfd=off", MQ_MMIO);
    return g_test_run();
}
