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
#include "vblk-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=4,packed=on"

/* I/O APIC pin of the first slot */
#define IRQ 16

static VblkDisk setup(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);

    qtest_irq_intercept_in(disk.m->qts, "ioapic");
    return disk;
}

static void wait_line(VblkDisk *disk, bool level)
{
    gint64 start = g_get_monotonic_time();

    while (qtest_get_irq(disk->m->qts, IRQ) != level) {
        qtest_readb(disk->m->qts, 0);
        vblk_deadline(start, "the interrupt line");
    }
}

/* The line goes up for every queue and down when the driver says so. */
static void check_interrupt(VblkDisk *disk, unsigned queue)
{
    VblkRequest *r = vblk_read_new(disk->d->queues[queue], 0, VBLK_SECTOR);

    vblk_isr_read(disk->d);
    wait_line(disk, false);
    vblk_queue_set_event(r->queue, 0);
    vblk_request_submit(r);
    wait_line(disk, true);
    vblk_request_finish(r);
    g_assert_cmphex(vblk_isr_read(disk->d), ==, VIRTIO_MMIO_INT_VRING);
    wait_line(disk, false);
}

static void check_queues(VblkDisk *disk)
{
    for (unsigned i = 0; i < 4 * QUEUES; i++) {
        vblk_write(disk->d->queues[i % QUEUES], 8 * i, 4096, i);
        vblk_read(disk->d->queues[(i + 1) % QUEUES], 8 * i, 4096, i);
    }
}

static void check_ring(VblkDisk *disk, const VblkRing *ring)
{
    check_queues(disk);
    if (ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
        for (unsigned i = 0; i < QUEUES; i++) {
            check_interrupt(disk, i);
        }
    }
}

static void test_rings(const VblkVariant *v, const char *props)
{
    VblkDisk disk = setup(v, props);

    g_assert_cmpuint(disk.d->max_queues, ==, QUEUES);
    g_assert_cmpuint(vblk_config_readw(disk.d,
                                       offsetof(struct virtio_blk_config,
                                                num_queues)), ==,
                     QUEUES);
    vblk_disk_for_each_ring(&disk, check_ring);
    vblk_disk_stop(&disk);
}

/* Use rings of all sizes in turn, and only some of the queues. */
static void test_reset(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",iothread=io0");

    for (unsigned i = 0; i < 8; i++) {
        unsigned queues = 1 + i % QUEUES;

        vblk_device_start(disk.d, 0, queues);
        for (unsigned q = 0; q < QUEUES; q++) {
            g_assert_cmpuint(vblk_device_queue_enabled(disk.d, q), ==,
                             q < queues);
        }
        for (unsigned q = 0; q < queues; q++) {
            vblk_write(disk.d->queues[q], q, VBLK_SECTOR, 10 * i + q);
            vblk_read(disk.d->queues[0], q, VBLK_SECTOR, 10 * i + q);
        }
    }
    vblk_disk_stop(&disk);
}

/* A reset does not wait for a driver to have taken its requests back. */
static void test_reset_busy(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",iothreads=4");

    for (unsigned i = 0; i < 20; i++) {
        vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_request_submit(vblk_write_new(disk.d->queues[q], 64 * q,
                                               65536 / 4, i));
        }
    }
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    check_queues(&disk);
    vblk_disk_stop(&disk);
}

static void test_config_change(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",iothread=io0");

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    vblk_isr_read(disk.d);
    for (unsigned i = 1; i < 4; i++) {
        vblk_disk_resize(&disk, IMAGE_SIZE + 4096 * i);
        wait_line(&disk, true);
        g_assert_cmphex(vblk_isr_read(disk.d), ==, VIRTIO_MMIO_INT_VRING |
                        VIRTIO_MMIO_INT_CONFIG);
        g_assert_cmpuint(vblk_config_readq(disk.d, 0), ==,
                         (IMAGE_SIZE + 4096 * i) / VBLK_SECTOR);
        vblk_write(disk.d->queues[i],
                   (IMAGE_SIZE + 4096 * (i - 1)) / VBLK_SECTOR, 4096, i);
        vblk_isr_read(disk.d);
    }
    vblk_disk_stop(&disk);
}

static void test_move(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",iothread=io0");

    vblk_device_start(disk.d, BIT_ULL(VIRTIO_RING_F_EVENT_IDX),
                      VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < 4 * QUEUES; i++) {
        vblk_disk_move(&disk, i % QUEUES, i / QUEUES & 1 ? "io0" : "io1");
        check_interrupt(&disk, i % QUEUES);
    }
    check_queues(&disk);
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("mmio/rings", test_rings, PROPS, VBLK_MMIO);
    vblk_test_add_with("mmio/rings-iothreads", test_rings,
                       PROPS ",iothreads=2", VBLK_MMIO);
    vblk_test_add("mmio/reset", test_reset, VBLK_MMIO);
    vblk_test_add("mmio/reset-busy", test_reset_busy, VBLK_MMIO);
    vblk_test_add("mmio/config-change", test_config_change, VBLK_MMIO);
    vblk_test_add("mmio/move", test_move, VBLK_MMIO);
    /* Without eventfds kicks are calls in the main loop. */
    vblk_test_add_with("mmio/no-ioeventfd", test_rings,
                       PROPS " -global virtio-mmio.ioeventfd=off", VBLK_MMIO);
    return g_test_run();
}
