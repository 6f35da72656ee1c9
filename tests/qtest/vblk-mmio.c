/*
 * Registers of a memory mapped virtio device (VIRTIO 1.2, 4.2.2 and 4.2.4)
 *
 *     modern:  three addresses for each queue, then "ready"
 *     legacy:  one page number for a queue laid out as 2.7.2 has it
 *
 * All queues and the configuration share one interrupt line.  The line is up
 * while a bit of the interrupt status is set.  The driver acknowledges bits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_mmio.h"
#include "vblk-device.h"

#define LEGACY_PAGE_SIZE 4096
#define MAGIC 0x74726976
#define DEVICE_ID_BLOCK 2

static uint32_t mmio_read(VblkDevice *d, unsigned reg)
{
    return qtest_readl(d->qts, d->mmio + reg);
}

static void mmio_write(VblkDevice *d, unsigned reg, uint32_t value)
{
    qtest_writel(d->qts, d->mmio + reg, value);
}

static void mmio_write64(VblkDevice *d, unsigned reg, uint64_t value)
{
    mmio_write(d, reg, value);
    mmio_write(d, reg + 4, value >> 32);
}

static uint8_t mmio_get_status(VblkDevice *d)
{
    return mmio_read(d, VIRTIO_MMIO_STATUS);
}

static void mmio_set_status(VblkDevice *d, uint8_t status)
{
    mmio_write(d, VIRTIO_MMIO_STATUS, status);
    if (!d->modern) {
        mmio_write(d, VIRTIO_MMIO_GUEST_PAGE_SIZE, LEGACY_PAGE_SIZE);
    }
}

static uint64_t mmio_get_features(VblkDevice *d)
{
    uint64_t features;

    g_assert_cmphex(mmio_read(d, VIRTIO_MMIO_MAGIC_VALUE), ==, MAGIC);
    g_assert_cmpuint(mmio_read(d, VIRTIO_MMIO_VERSION), ==, 1 + d->modern);
    g_assert_cmpuint(mmio_read(d, VIRTIO_MMIO_DEVICE_ID), ==,
                     DEVICE_ID_BLOCK);
    mmio_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    features = mmio_read(d, VIRTIO_MMIO_DEVICE_FEATURES);
    if (d->modern) {
        mmio_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
        features |= (uint64_t)mmio_read(d, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
    }
    return features;
}

static void mmio_set_features(VblkDevice *d, uint64_t features)
{
    for (unsigned half = 0; half <= d->modern; half++) {
        mmio_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        mmio_write(d, VIRTIO_MMIO_DRIVER_FEATURES, features >> (32 * half));
    }
}

static unsigned mmio_queue_size(VblkDevice *d, unsigned index)
{
    mmio_write(d, VIRTIO_MMIO_QUEUE_SEL, index);
    return mmio_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX);
}

static bool mmio_queue_enabled(VblkDevice *d, unsigned index)
{
    mmio_write(d, VIRTIO_MMIO_QUEUE_SEL, index);
    return mmio_read(d, d->modern ? VIRTIO_MMIO_QUEUE_READY
                                  : VIRTIO_MMIO_QUEUE_PFN);
}

static void mmio_enable_queue(VblkDevice *d, unsigned index, unsigned size,
                              uint64_t desc, uint64_t driver, uint64_t device)
{
    mmio_write(d, VIRTIO_MMIO_QUEUE_SEL, index);
    mmio_write(d, VIRTIO_MMIO_QUEUE_NUM, size);
    if (!d->modern) {
        mmio_write(d, VIRTIO_MMIO_QUEUE_ALIGN, LEGACY_PAGE_SIZE);
        mmio_write(d, VIRTIO_MMIO_QUEUE_PFN, desc / LEGACY_PAGE_SIZE);
        return;
    }
    mmio_write64(d, VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
    mmio_write64(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, driver);
    mmio_write64(d, VIRTIO_MMIO_QUEUE_USED_LOW, device);
    mmio_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void mmio_notify(VblkDevice *d, unsigned index)
{
    mmio_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

static uint32_t mmio_config_read(VblkDevice *d, unsigned offset, unsigned size)
{
    uint64_t addr = d->mmio + VIRTIO_MMIO_CONFIG + offset;

    switch (size) {
    case 1:
        return qtest_readb(d->qts, addr);
    case 2:
        return qtest_readw(d->qts, addr);
    default:
        return qtest_readl(d->qts, addr);
    }
}

static void mmio_config_writeb(VblkDevice *d, unsigned offset, uint8_t value)
{
    qtest_writeb(d->qts, d->mmio + VIRTIO_MMIO_CONFIG + offset, value);
}

/* Read and acknowledge the status, as a read of PCI's ISR does. */
static uint8_t mmio_isr_read(VblkDevice *d)
{
    uint8_t isr = mmio_read(d, VIRTIO_MMIO_INTERRUPT_STATUS);

    mmio_write(d, VIRTIO_MMIO_INTERRUPT_ACK, isr);
    return isr;
}

const VblkTransport vblk_mmio_transport = {
    .get_status = mmio_get_status,
    .set_status = mmio_set_status,
    .get_features = mmio_get_features,
    .set_features = mmio_set_features,
    .queue_size = mmio_queue_size,
    .queue_enabled = mmio_queue_enabled,
    .enable_queue = mmio_enable_queue,
    .notify = mmio_notify,
    .config_read = mmio_config_read,
    .config_writeb = mmio_config_writeb,
    .isr_read = mmio_isr_read,
};
