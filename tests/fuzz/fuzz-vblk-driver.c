/*
 * A driver of virtio-blk-pci: registers, and rings of both kinds
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/ioport.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-core.h"
#include "hw/sysbus.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "fuzz-machine.h"
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

void vblk_pci_reset(void)
{
    pci_device_reset(PCI_DEVICE(qdev_find_recursive(sysbus_get_default(),
                                                    FUZZ_DEVICE)));
}

void vblk_pci_place(void)
{
    memory_region_transaction_begin();
    vblk_pci_write(PCI_BASE_ADDRESS_0, VBLK_BAR_LEGACY);
    vblk_pci_write(PCI_BASE_ADDRESS_1, VBLK_BAR_MSIX);
    vblk_pci_write(PCI_BASE_ADDRESS_4, VBLK_BAR_MODERN);
    vblk_pci_write(PCI_BASE_ADDRESS_5, 0);
    vblk_pci_write(PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                   PCI_COMMAND_MASTER);
    vblk_pci_write(VBLK_MSIX, (uint32_t)PCI_MSIX_FLAGS_ENABLE << 16);
    memory_region_transaction_commit();
}

static void clear(uint64_t addr, unsigned bytes)
{
    address_space_set(&address_space_memory, addr, 0, bytes,
                      MEMTXATTRS_UNSPECIFIED);
}

/* Where the rings of a queue lie, and zeroes there. */
static void place_ring(VblkDriver *d, int queue, unsigned size)
{
    bool packed = d->ring == VBLK_PACKED;
    const unsigned bytes[VBLK_PARTS] = {
        16 * size,
        packed ? 4 : ROUND_UP(6 + 2 * size, 4),
        packed ? 4 : ROUND_UP(6 + 8 * size, 4),
    };
    VblkQueue *q = &d->queues[queue];

    *q = (VblkQueue) { .size = size, .wrap = true };
    for (unsigned i = 0; i < VBLK_PARTS; i++) {
        q->parts[i] = VBLK_AREA(queue * VBLK_PARTS + i) + VBLK_AREA_BYTES -
                      bytes[i];
        clear(q->parts[i], bytes[i]);
    }
}

void vblk_queue_enable(VblkDriver *d, int queue, unsigned size)
{
    const uint64_t *parts = d->queues[queue].parts;

    place_ring(d, queue, size);
    vblk_common_put(queue_select, queue, 2);
    vblk_common_put(queue_size, size, 2);
    vblk_common_put(queue_msix_vector, queue + 1, 2);
    vblk_common_put(queue_desc_lo, parts[0], 4);
    vblk_common_put(queue_desc_hi, 0, 4);
    vblk_common_put(queue_avail_lo, parts[1], 4);
    vblk_common_put(queue_avail_hi, 0, 4);
    vblk_common_put(queue_used_lo, parts[2], 4);
    vblk_common_put(queue_used_hi, 0, 4);
    vblk_common_put(queue_enable, 1, 2);
}

/*
 * Start
 */

static void set_features(VblkDriver *d, uint64_t refused)
{
    uint64_t features;

    vblk_common_put(device_feature_select, 0, 4);
    features = vblk_common_get(device_feature, 4);
    vblk_common_put(device_feature_select, 1, 4);
    features |= vblk_common_get(device_feature, 4) << 32;
    features &= ~refused | BIT_ULL(VIRTIO_F_VERSION_1);
    if (d->wanted == VBLK_SPLIT) {
        features &= ~BIT_ULL(VIRTIO_F_RING_PACKED);
    }
    d->ring = features & BIT_ULL(VIRTIO_F_RING_PACKED) ? VBLK_PACKED
                                                       : VBLK_SPLIT;
    vblk_common_put(guest_feature_select, 0, 4);
    vblk_common_put(guest_feature, features, 4);
    vblk_common_put(guest_feature_select, 1, 4);
    vblk_common_put(guest_feature, features >> 32, 4);
}

static unsigned get_status(VblkDriver *d)
{
    return d->interfaces & VBLK_MODERN
           ? vblk_common_get(device_status, 1)
           : cpu_inb(VBLK_BAR_LEGACY + VIRTIO_PCI_STATUS);
}

void vblk_reset(VblkDriver *d)
{
    if (d->interfaces & VBLK_MODERN) {
        vblk_common_put(device_status, 0, 1);
    } else {
        cpu_outb(VBLK_BAR_LEGACY + VIRTIO_PCI_STATUS, 0);
    }
}

void vblk_start(VblkDriver *d, uint64_t refused, unsigned size)
{
    unsigned status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    if (!(d->interfaces & VBLK_MODERN)) {
        vblk_start_legacy(d, refused);
        return;
    }
    d->legacy = false;
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

static void queue_enable_legacy(VblkDriver *d, int queue)
{
    VblkQueue *q = &d->queues[queue];
    unsigned size, used, bytes;
    uint64_t ring;

    cpu_outw(VBLK_BAR_LEGACY + VIRTIO_PCI_QUEUE_SEL, queue);
    size = cpu_inw(VBLK_BAR_LEGACY + VIRTIO_PCI_QUEUE_NUM);
    if (!is_power_of_2(size) || size > 1024) {
        return;
    }
    used = ROUND_UP(16 * size + 6 + 2 * size, VIRTIO_PCI_VRING_ALIGN);
    bytes = ROUND_UP(used + 6 + 8 * size, VIRTIO_PCI_VRING_ALIGN);
    ring = VBLK_AREA(queue * VBLK_PARTS) + VBLK_AREA_BYTES - bytes;
    *q = (VblkQueue) {
        .size = size,
        .parts = { ring, ring + 16 * size, ring + used },
    };
    clear(ring, bytes);
    cpu_outw(VBLK_BAR_LEGACY + VIRTIO_MSI_QUEUE_VECTOR, queue + 1);
    cpu_outl(VBLK_BAR_LEGACY + VIRTIO_PCI_QUEUE_PFN,
             ring >> VIRTIO_PCI_QUEUE_ADDR_SHIFT);
}

void vblk_start_legacy(VblkDriver *d, uint64_t refused)
{
    unsigned status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    if (!(d->interfaces & VBLK_LEGACY)) {
        return;
    }
    d->legacy = true;
    d->ring = VBLK_SPLIT;
    cpu_outb(VBLK_BAR_LEGACY + VIRTIO_PCI_STATUS, 0);
    cpu_outb(VBLK_BAR_LEGACY + VIRTIO_PCI_STATUS, status);
    cpu_outl(VBLK_BAR_LEGACY + VIRTIO_PCI_GUEST_FEATURES,
             cpu_inl(VBLK_BAR_LEGACY + VIRTIO_PCI_HOST_FEATURES) & ~refused);
    for (int i = 0; i < VBLK_QUEUES; i++) {
        queue_enable_legacy(d, i);
    }
    cpu_outb(VBLK_BAR_LEGACY + VIRTIO_PCI_STATUS,
             status | VIRTIO_CONFIG_S_DRIVER_OK);
}

void vblk_need_queue(VblkDriver *d, int queue)
{
    unsigned status = get_status(d);

    if (!(status & VIRTIO_CONFIG_S_DRIVER_OK) ||
        (status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        vblk_pci_place();
        vblk_start(d, 0, VBLK_SMALL_RING);
    } else if (!d->queues[queue].size && d->legacy) {
        queue_enable_legacy(d, queue);
    } else if (!d->queues[queue].size) {
        vblk_queue_enable(d, queue, VBLK_SMALL_RING);
    }
}

/*
 * Requests
 */

/* The two kinds of rings have flags and next, or ID and flags. */
static struct vring_desc some_desc(const VblkSegment *segment, uint16_t third,
                                   uint16_t fourth)
{
    return (struct vring_desc) {
        .addr = cpu_to_le64(segment->addr),
        .len = cpu_to_le32(segment->len),
        .flags = cpu_to_le16(third),
        .next = cpu_to_le16(fourth),
    };
}

static void put_desc(uint64_t ring, unsigned i, const VblkSegment *segment,
                     uint16_t third, uint16_t fourth)
{
    struct vring_desc desc = some_desc(segment, third, fourth);

    address_space_write(&address_space_memory, ring + i * 16,
                        MEMTXATTRS_UNSPECIFIED, &desc, sizeof(desc));
}

/* Which segment the entry at @i of @entries has. */
static int segment_of(unsigned i, unsigned entries, int count)
{
    if (i + 1 >= entries) {
        return count - 1;
    }
    return i == 0 || count == 2 ? 0 : 1 + (i - 1) % (count - 2);
}

static void put_table(VblkRing ring, const VblkTable *table,
                      const VblkSegment *segments, int count)
{
    static struct vring_desc descs[VBLK_TABLE_ENTRIES];

    for (unsigned i = 0; i < table->entries; i++) {
        const VblkSegment *s = &segments[segment_of(i, table->entries, count)];
        uint16_t flags = s->write ? VRING_DESC_F_WRITE : 0;
        bool goes_on = i + 1 < table->entries || i == table->odd;

        if (ring == VBLK_PACKED) {
            descs[i] = some_desc(s, 0, flags);
        } else {
            descs[i] = some_desc(s, flags | (goes_on ? VRING_DESC_F_NEXT : 0),
                                 i == table->odd ? table->next : i + 1);
        }
    }
    address_space_write(&address_space_memory, table->addr,
                        MEMTXATTRS_UNSPECIFIED, descs,
                        table->entries * sizeof(descs[0]));
}

static void offer_split(VblkDriver *d, int queue, const VblkSegment *segments,
                        int count, uint16_t more)
{
    VblkQueue *q = &d->queues[queue];
    uint64_t driver = q->parts[1];
    uint16_t head = q->next;

    for (int i = 0; i < count; i++) {
        uint16_t flags = more | (segments[i].write ? VRING_DESC_F_WRITE : 0) |
                         (i + 1 < count ? VRING_DESC_F_NEXT : 0);
        unsigned at = q->next;

        q->next = (q->next + 1) % q->size;
        put_desc(q->parts[0], at, &segments[i], flags, q->next);
    }
    vblk_put(driver + 4 + 2 * (q->avail % q->size), head, 2);
    vblk_put(driver + 2, ++q->avail, 2);
}

/* The head's flags come last: they are what offers the chain. */
static void offer_packed(VblkDriver *d, int queue, const VblkSegment *segments,
                         int count, uint16_t more)
{
    VblkQueue *q = &d->queues[queue];
    uint64_t head = q->parts[0] + q->next * 16 + 14;
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
        put_desc(q->parts[0], q->next, &segments[i], q->next, flags);
        if (++q->next == q->size) {
            q->next = 0;
            q->wrap = !q->wrap;
        }
    }
    vblk_put(head, head_flags, 2);
}

/* Whether a request stays where buffers are, and so does not touch rings. */
static bool is_buffer(uint64_t addr, uint64_t bytes)
{
    return addr >= VBLK_TABLES && addr < VBLK_RAM_END &&
           bytes <= VBLK_RAM_END - addr;
}

void vblk_offer(VblkDriver *d, int queue, const VblkSegment *segments,
                int count, const VblkTable *table)
{
    VblkSegment indirect;
    uint16_t more = 0;

    for (int i = 0; i < count; i++) {
        d->spoilt |= !is_buffer(segments[i].addr, segments[i].len);
    }
    if (!d->queues[queue].size) {
        return;
    }
    if (table) {
        d->spoilt |= !is_buffer(table->addr, table->entries * 16);
        put_table(d->ring, table, segments, count);
        indirect = (VblkSegment) { table->addr, table->bytes, false };
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

void vblk_break_chain(VblkDriver *d, int queue, FuzzInput *in)
{
    VblkQueue *q = &d->queues[queue];
    unsigned how = fuzz_byte(in);
    uint64_t desc;

    d->spoilt = true;
    if (!q->size) {
        return;
    }
    desc = q->parts[0] + 16 * ((q->next + q->size - 1 -
                                (how & 3) % q->size) % q->size);
    if (d->ring == VBLK_SPLIT && (how & 0x18) == 0x18) {
        vblk_put(q->parts[1] + 4 + 2 * ((q->avail + q->size - 1) % q->size),
                 vblk_some_index(in, q->size), 2);
    } else if (d->ring == VBLK_SPLIT) {
        vblk_put(desc + 12, VRING_DESC_F_NEXT |
                 (how >= 0xc0 ? VRING_DESC_F_INDIRECT : 0), 2);
        vblk_put(desc + 14, vblk_some_index(in, q->size), 2);
    } else {
        vblk_put(desc + 14, vblk_get(desc + 14, 2) ^ (1 << (how >> 4)), 2);
    }
}

void vblk_notify(VblkDriver *d, int queue)
{
    if (d->legacy) {
        cpu_outw(VBLK_BAR_LEGACY + VIRTIO_PCI_QUEUE_NOTIFY, queue);
    } else {
        vblk_put(VBLK_NOTIFY + 4 * queue, queue, 2);
    }
}
