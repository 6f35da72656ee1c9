/*
 * A driver of virtio-blk-pci that does what an input says
 *
 * Where things lie in the guest's memory:
 *
 *     0x100000   four areas of 64 KiB, one for each queue: descriptors, then
 *                the driver's area, then the device's
 *     0x200000   indirect tables
 *     0x300000   buffers
 *     0x8000000  RAM that comes and goes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FUZZ_VBLK_H
#define TESTS_FUZZ_VBLK_H

#include "standard-headers/linux/virtio_pci.h"
#include "fuzz-input.h"

#define VBLK_QUEUES         4

#define VBLK_AREA(queue)    (0x100000 + 0x10000 * (queue))
#define VBLK_AREA_BYTES     0x10000
#define VBLK_DRIVER_AREA    0x6000
#define VBLK_DEVICE_AREA    0x8000
#define VBLK_TABLES         0x200000
#define VBLK_BUFFERS        0x300000
#define VBLK_RAM_END        0x800000
#define VBLK_OTHER_RAM      0x8000000

#define VBLK_SLOT           4
#define VBLK_MSIX           0x98        /* the capability, as virtio-pci does */
#define VBLK_BAR_LEGACY     0xc000
#define VBLK_BAR_MSIX       0xfebf0000
#define VBLK_BAR_MODERN     0xfe000000
#define VBLK_CONFIG         (VBLK_BAR_MODERN + 0x2000)
#define VBLK_NOTIFY         (VBLK_BAR_MODERN + 0x3000)

/* Of header, data and status. */
#define VBLK_SEGMENTS       14

typedef enum VblkRing {
    VBLK_SPLIT,
    VBLK_PACKED,
} VblkRing;

typedef struct VblkQueue {
    uint16_t size;              /* 0: not enabled by us */
    uint16_t next;              /* descriptor to use */
    uint16_t avail;
    bool wrap;
} VblkQueue;

typedef struct VblkDriver {
    VblkRing ring;              /* what the target is about */
    VblkQueue queues[VBLK_QUEUES];
} VblkDriver;

typedef struct VblkSegment {
    uint64_t addr;
    uint32_t len;
    bool write;                 /* by the device */
} VblkSegment;

/** vblk_put: write @bytes of memory or of a register */
void vblk_put(uint64_t addr, uint64_t value, unsigned bytes);

/** vblk_get: read @bytes of memory or of a register */
uint64_t vblk_get(uint64_t addr, unsigned bytes);

/* A register of the common configuration. */
#define vblk_common_put(field, value, bytes) \
    vblk_put(VBLK_BAR_MODERN + \
             offsetof(struct virtio_pci_common_cfg, field), value, bytes)
#define vblk_common_get(field, bytes) \
    vblk_get(VBLK_BAR_MODERN + \
             offsetof(struct virtio_pci_common_cfg, field), bytes)

void vblk_pci_write(unsigned offset, uint32_t value);

/** vblk_pci_place: do what firmware does with the device */
void vblk_pci_place(void);

/** vblk_start: reset the device, and start it without @refused features */
void vblk_start(VblkDriver *d, uint64_t refused, unsigned size);

/** vblk_queue_enable: begin a queue anew */
void vblk_queue_enable(VblkDriver *d, int queue, unsigned size);

/** vblk_need_queue: see to it that @queue can take requests */
void vblk_need_queue(VblkDriver *d, int queue);

/** vblk_offer: put @count segments on a ring; @table: indirectly, or 0 */
void vblk_offer(VblkDriver *d, int queue, const VblkSegment *segments,
                int count, uint64_t table);

void vblk_notify(int queue);

/**
 * vblk_some_request: a request, as the specification has them or nearly so
 *
 * Returns: how many of @segments it has, of VBLK_SEGMENTS.
 */
int vblk_some_request(FuzzInput *in, VblkSegment *segments);

#endif /* TESTS_FUZZ_VBLK_H */
