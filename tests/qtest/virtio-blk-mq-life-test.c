/*
 * Events in the life of a queue, besides requests
 *
 *     guest memory changes    ->  every ring is looked at, none is started anew
 *     buffers in MMIO         ->  the main loop serves the queue, with either
 *                                 reader of its ring
 *     ... of this very device ->  refused, as from a CPU in the middle of it
 *     a refused request       ->  writes nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "vblk-disk.h"

#define IMAGE_SIZE (1024 * 1024)
#define IN_ORDER BIT_ULL(VIRTIO_F_IN_ORDER)
#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)

/* The HPET's timer 2; its comparator is 8 bytes on. */
#define HPET_TIMER2 0xfed00140ull

/* The most queues that a virtio device can have */
#define MANY 1023

/*
 * Set the PAM register, which says where the memory below 1 MiB is.  The
 * chipset, an i440FX, is at 00:00.0 and has the register at offset 0x59.
 */
static void set_pam(QTestState *qts, uint8_t value)
{
    qtest_outl(qts, 0xcf8, 0x80000058);
    qtest_outb(qts, 0xcfd, value);
}

static void test_memory(const VblkVariant *v)
{
    g_autofree char *props = g_strdup_printf("num-queues=%u,iothread=io0,"
                                             "vectors=2", MANY);
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);
    gint64 start;

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    start = g_get_monotonic_time();
    for (unsigned i = 0; i < 100; i++) {
        set_pam(disk.m->qts, i & 1 ? 0x00 : 0x30);
    }
    vblk_write(disk.d->queues[0], 0, 4096, 1);
    g_test_message("100 changes: %" PRId64 " us",
                   g_get_monotonic_time() - start);
    for (unsigned q = 0; q < MANY; q += 73) {
        vblk_write(disk.d->queues[q], 8, 4096, q);
        vblk_read(disk.d->queues[MANY - 1 - q], 8, 4096, q);
    }
    vblk_disk_stop(&disk);
}

/* virtio.c reads these rings, and does not look where buffers are. */
static void check_in_order(const VblkVariant *v, uint64_t features)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, "num-queues=2,"
                                    "in_order=on,packed=on,iothread=io0");
    uint8_t sector[VBLK_SECTOR] = { [8] = 0x78, 0x56, 0x34, 0x12 };
    QTestState *qts = disk.m->qts;

    for (unsigned round = 0; round < 20; round++) {
        VblkQueue *q;
        VblkRequest *r;

        vblk_device_start(disk.d, IN_ORDER | features, VBLK_ALL_QUEUES);
        g_assert_cmphex(disk.d->features & IN_ORDER, !=, 0);
        q = disk.d->queues[round & 1];
        vblk_disk_check_home(&disk, q->index, NULL);
        g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_OUT, 2, sector,
                                         VBLK_SECTOR), ==, VIRTIO_BLK_S_OK);
        r = vblk_request_new(q, VIRTIO_BLK_T_IN, 2, 0);
        vblk_request_submit_at(r, 16, HPET_TIMER2);
        /* This drains the disk, while the device may be using the HPET. */
        vblk_disk_resize(&disk, IMAGE_SIZE);
        vblk_request_finish(r);
        g_assert_cmphex(qtest_readl(qts, HPET_TIMER2 + 8), ==, 0x12345678);
        qtest_writel(qts, HPET_TIMER2 + 8, 0);
    }
    vblk_disk_stop(&disk);
}

static void test_in_order(const VblkVariant *v)
{
    check_in_order(v, 0);
}

static void test_in_order_packed(const VblkVariant *v)
{
    check_in_order(v, PACKED);
}

/*
 * A request writes zeros into the device's own common registers.  They must not
 * reset the device, which is working on this request.
 */
static void check_own_registers(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);
    uint64_t registers;

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    registers = disk.d->bar.addr + disk.d->common;
    for (unsigned i = 0; i < 4; i++) {
        VblkQueue *q = disk.d->queues[i & 1];
        VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_IN, 0, 0);

        vblk_request_submit_at(r, 16, registers);
        vblk_request_finish(r);
        g_assert_cmphex(vblk_device_status(disk.d) & VIRTIO_CONFIG_S_DRIVER_OK,
                        !=, 0);
        /* From where the device writes what it has read from there. */
        r = vblk_request_new(q, VIRTIO_BLK_T_OUT, 8, 0);
        vblk_request_submit_at(r, 16, registers);
        vblk_request_finish(r);
        vblk_write(q, 16, 4096, i);
        vblk_read(disk.d->queues[1 - (i & 1)], 16, 4096, i);
    }
    vblk_disk_stop(&disk);
}

static void test_own_registers(const VblkVariant *v)
{
    check_own_registers(v, "num-queues=2");
    check_own_registers(v, "num-queues=2,ioeventfd=off");
    check_own_registers(v, "num-queues=2,iothread=io0");
    check_own_registers(v, "num-queues=2,in_order=on");
}

/* With too short a header nothing is read, so nothing is to be written. */
static void check_refused(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);
    QTestState *qts = disk.m->qts;

    for (unsigned i = 0; i < 4; i++) {
        VblkRequest *r;

        vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
        r = vblk_request_new(disk.d->queues[i & 1], VIRTIO_BLK_T_IN, 0, 0);
        qtest_writel(qts, HPET_TIMER2 + 8, 0x5a5a5a5a);
        vblk_request_submit_at(r, 8, HPET_TIMER2);
        g_assert_cmphex(vblk_request_outcome(r), ==, VBLK_BROKEN);
        g_assert_cmphex(qtest_readl(qts, HPET_TIMER2 + 8), ==, 0x5a5a5a5a);
        qtest_writel(qts, HPET_TIMER2 + 8, 0);
    }
    vblk_disk_stop(&disk);
}

static void test_refused(const VblkVariant *v)
{
    check_refused(v, "num-queues=2");
    check_refused(v, "num-queues=2,iothread=io0");
    check_refused(v, "num-queues=2,ioeventfd=off");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("life/memory", test_memory, VBLK_PC_MODERN);
    vblk_test_add("life/in-order", test_in_order, VBLK_MODERN);
    vblk_test_add("life/in-order-packed", test_in_order_packed, VBLK_MODERN);
    vblk_test_add("life/own-registers", test_own_registers, VBLK_MODERN);
    vblk_test_add("life/refused", test_refused, VBLK_MODERN);
    return g_test_run();
}
