/*
 * A driver of virtio-blk-pci: registers, and rings of both kinds
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/ioport.h"
#include "hw/pci/pci_regs.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "fuzz-vblk.h"

void vblk_put(uint64_t addr, uint64_t value, unsigned bytes)
{
    value = cpu_to_le64(value);
    address_space_write(&address_space_memory, addr, MEMTXATTRS_UNSPECIFIED,
                        &value, bytes);
}

uint64_t vblk_get(uint64_t addr, unsigned bytes)
{
    uint64_t value = 0;

    address_space_read(&address_space_memory, addr, MEMTXATTRS_UNSPECIFIED,
                       &value, bytes);
    return le64_to_cpu(value);
}

void vblk_pci_write(unsigned offset, uint32_t value)
{
    cpu_outl(0xcf8, 0x80000000 | VBLK_SLOT << 11 | offset);
    cpu_outl(0xcfc, value);
}

void vblk_pci_place(void)
{
    vblk_pci_write(PCI_BASE_ADDRESS_0, VBLK_BAR_LEGACY);
    vblk_pci_write(PCI_BASE_ADDRESS_1, VBLK_BAR_MSIX);
    vblk_pci_write(PCI_BASE_ADDRESS_4, VBLK_BAR_MODERN);
    vblk_pci_write(PCI_BASE_ADDRESS_5, 0);
    vblk_pci_write(PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                   PCI_COMMAND_MASTER);
    vblk_pci_write(VBLK_MSIX, (uint32_t)PCI_MSIX_FLAGS_ENABLE << 16);
}

void vblk_queue_enable(VblkDriver *d, int queue, unsigned size)
{
    uint64_t area = VBLK_AREA(queue);

    d->queues[queue] = (VblkQueue) { .size = size, .wrap = true };
    address_space_set(&address_space_memory, area, 0, VBLK_AREA_BYTES,
                      MEMTXATTRS_UNSPECIFIED);
    vblk_common_put(queue_select, queue, 2);
    vblk_common_put(queue_size, size, 2);
    vblk_common_put(queue_msix_vector, queue + 1, 2);
    vblk_common_put(queue_desc_lo, area, 4);
    vblk_common_put(queue_desc_hi, 0, 4);
    vblk_common_put(queue_avail_lo, area + VBLK_DRIVER_AREA, 4);
    vblk_common_put(queue_avail_hi, 0, 4);
    vblk_common_put(queue_used_lo, area + VBLK_DEVICE_AREA, 4);
    vblk_common_put(queue_used_hi, 0, 4);
    vblk_common_put(queue_enable, 1, 2);
}

static void set_features(VblkDriver *d, uint64_t refused)
{
    uint64_t features;

    vblk_common_put(device_feature_select, 0, 4);
    features = vblk_common_get(device_feature, 4);
    vblk_common_put(device_feature_select, 1, 4);
    features |= vblk_common_get(device_feature, 4) << 32;
    features &= ~refused | BIT_ULL(VIRTIO_F_VERSION_1);
    if (d->ring == VBLK_SPLIT) {
        features &= ~BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    vblk_common_put(guest_feature_select, 0, 4);
    vblk_common_put(guest_feature, features, 4);
    vblk_common_put(guest_feature_select, 1, 4);
    vblk_common_put(guest_feature, features >> 32, 4);
}

void vblk_start(VblkDriver *d, uint64_t refused, unsigned size)
{
    unsigned status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    vblk_common_put(device_status, 0, 1);
    vblk_common_put(device_status, status, 1);
    set_features(d, refused & ~BIT_ULL(VIRTIO_F_RING_PACKED));
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    vblk_common_put(device_status, status, 1);
    for (int i = 0; i < VBLK_QUEUES; i++) {
        vblk_queue_enable(d, i, size);
    }
    status |= VIRTIO_CONFIG_S_DRIVER_OK;
    vblk_common_put(device_status, status, 1);
}

void vblk_need_queue(VblkDriver *d, int queue)
{
    unsigned status = vblk_common_get(device_status, 1);

    if (!(status & VIRTIO_CONFIG_S_DRIVER_OK) ||
        (status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        vblk_pci_place();
        vblk_start(d, 0, 256);
    } else if (!d->queues[queue].size) {
        vblk_queue_enable(d, queue, 256);
    }
}

static void put_desc(uint64_t table, unsigned i, const VblkSegment *segment,
                     uint16_t third, uint16_t fourth)
{
    vblk_put(table + i * 16, segment->addr, 8);
    vblk_put(table + i * 16 + 8, segment->len, 4);
    vblk_put(table + i * 16 + 12, third, 2);
    vblk_put(table + i * 16 + 14, fourth, 2);
}

static void put_indirect(VblkRing ring, uint64_t table,
                         const VblkSegment *segments, int count)
{
    for (int i = 0; i < count; i++) {
        uint16_t flags = segments[i].write ? VRING_DESC_F_WRITE : 0;

        if (ring == VBLK_PACKED) {
            put_desc(table, i, &segments[i], 0, flags);
        } else {
            flags |= i + 1 < count ? VRING_DESC_F_NEXT : 0;
            put_desc(table, i, &segments[i], flags, i + 1);
        }
    }
}

static void offer_split(VblkDriver *d, int queue, const VblkSegment *segments,
                        int count, uint16_t more)
{
    VblkQueue *q = &d->queues[queue];
    uint64_t driver = VBLK_AREA(queue) + VBLK_DRIVER_AREA;
    uint16_t head = q->next;

    for (int i = 0; i < count; i++) {
        uint16_t flags = more | (segments[i].write ? VRING_DESC_F_WRITE : 0) |
                         (i + 1 < count ? VRING_DESC_F_NEXT : 0);
        unsigned at = q->next;

        q->next = (q->next + 1) % q->size;
        put_desc(VBLK_AREA(queue), at, &segments[i], flags, q->next);
    }
    vblk_put(driver + 4 + 2 * (q->avail % q->size), head, 2);
    vblk_put(driver + 2, ++q->avail, 2);
}

/* The head's flags come last: they are what offers the chain. */
static void offer_packed(VblkDriver *d, int queue, const VblkSegment *segments,
                         int count, uint16_t more)
{
    VblkQueue *q = &d->queues[queue];
    uint64_t head = VBLK_AREA(queue) + q->next * 16 + 14;
    uint16_t head_flags = 0;

    for (int i = 0; i < count; i++) {
        uint16_t flags = more | (segments[i].write ? VRING_DESC_F_WRITE : 0) |
                         (i + 1 < count ? VRING_DESC_F_NEXT : 0) |
                         (q->wrap ? 1 << VRING_PACKED_DESC_F_AVAIL
                                  : 1 << VRING_PACKED_DESC_F_USED);

        if (i == 0) {
            head_flags = flags;
            flags ^= 1 << VRING_PACKED_DESC_F_AVAIL;
        }
        put_desc(VBLK_AREA(queue), q->next, &segments[i], q->next, flags);
        if (++q->next == q->size) {
            q->next = 0;
            q->wrap = !q->wrap;
        }
    }
    vblk_put(head, head_flags, 2);
}

void vblk_offer(VblkDriver *d, int queue, const VblkSegment *segments,
                int count, uint64_t table)
{
    VblkSegment indirect = { table, count * 16, false };
    uint16_t more = 0;

    if (table) {
        put_indirect(d->ring, table, segments, count);
        segments = &indirect;
        count = 1;
        more = VRING_DESC_F_INDIRECT;
    }
    if (d->ring == VBLK_PACKED) {
        offer_packed(d, queue, segments, count, more);
    } else {
        offer_split(d, queue, segments, count, more);
    }
}

void vblk_notify(int queue)
{
    vblk_put(VBLK_NOTIFY + 4 * queue, queue, 2);
}
