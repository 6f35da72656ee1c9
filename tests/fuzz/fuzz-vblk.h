/*
 * A driver of virtio-blk-pci that does what an input says
 *
 * Where things lie in the guest's memory:
 *
 *     0x200000   indirect tables
 *     0x300000   buffers
 *     0x8000000  RAM that comes and goes
 *     0x9000000  for each queue three areas: descriptors, driver's, device's,
 *                each in RAM of its own and up to its end
 *
 * Behind RAM of its own is a page that QEMU may not touch, so that it dies
 * when it goes beyond a ring.  A legacy ring is one piece, which ends with its
 * last page at the end of the first area.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FUZZ_VBLK_H
#define TESTS_FUZZ_VBLK_H

#include "standard-headers/linux/virtio_pci.h"
#include "fuzz-input.h"

#define VBLK_QUEUES         4

#define VBLK_PARTS          3           /* of a ring: the three areas */
#define VBLK_AREA_BYTES     0x10000
#define VBLK_AREA(i)        (0x9000000 + 0x100000 * (i))
#define VBLK_AREAS          (VBLK_QUEUES * VBLK_PARTS)
#define VBLK_TABLES         0x200000
#define VBLK_BUFFERS        0x300000
#define VBLK_RAM_END        0x800000
#define VBLK_OTHER_RAM      0x8000000
#define VBLK_OTHER_END      (VBLK_OTHER_RAM + VBLK_AREA_BYTES)

#define VBLK_SLOT           4
#define VBLK_MSIX           0x98        /* the capability, as virtio-pci does */
#define VBLK_BAR_LEGACY     0xc000
#define VBLK_BAR_MSIX       0xfebf0000
#define VBLK_BAR_MODERN     0xfe000000
#define VBLK_CONFIG         (VBLK_BAR_MODERN + 0x2000)
#define VBLK_NOTIFY         (VBLK_BAR_MODERN + 0x3000)

#define VBLK_TABLE_ENTRIES  2048

/* Of header, data and status. */
#define VBLK_SEGMENTS       14

/* A ring that soon wraps around. */
#define VBLK_SMALL_RING     8

typedef enum VblkRing {
    VBLK_SPLIT,
    VBLK_PACKED,
} VblkRing;

typedef struct VblkQueue {
    uint16_t size;              /* 0: not enabled by us */
    uint64_t parts[VBLK_PARTS]; /* descriptors, driver's area, device's */
    uint16_t next;              /* descriptor to use */
    uint16_t avail;
    bool wrap;
} VblkQueue;

/* The interfaces that a device has. */
enum {
    VBLK_LEGACY = 1 << 0,
    VBLK_MODERN = 1 << 1,
};

typedef struct VblkDriver {
    VblkRing wanted;            /* what the target is about */
    VblkRing ring;              /* what was negotiated */
    unsigned interfaces;
    bool legacy;                /* was started by that interface */
    bool spoilt;                /* rings are not only written by the rules */
    VblkQueue queues[VBLK_QUEUES];
} VblkDriver;

typedef struct VblkSegment {
    uint64_t addr;
    uint32_t len;
    bool write;                 /* by the device */
} VblkSegment;

/* The last of its entries is the last segment; the data are repeated. */
typedef struct VblkTable {
    uint64_t addr;
    uint32_t bytes;             /* as the descriptor says */
    unsigned entries;
    unsigned odd;               /* this entry goes on ... */
    unsigned next;              /* ... here, unless it does so anyway */
} VblkTable;

/** vblk_put: write @bytes of memory or of a register. */
void vblk_put(uint64_t addr, uint64_t value, unsigned bytes);

/** vblk_get: read @bytes of memory or of a register. */
uint64_t vblk_get(uint64_t addr, unsigned bytes);

/* A register of the common configuration. */
#define vblk_common_put(field, value, bytes) \
    vblk_put(VBLK_BAR_MODERN + \
             offsetof(struct virtio_pci_common_cfg, field), value, bytes)
#define vblk_common_get(field, bytes) \
    vblk_get(VBLK_BAR_MODERN + \
             offsetof(struct virtio_pci_common_cfg, field), bytes)

void vblk_pci_write(unsigned offset, uint32_t value);

/** vblk_pci_place: do what firmware does with the device. */
void vblk_pci_place(void);

/** vblk_pci_reset: reset the device as a reset of the machine does. */
void vblk_pci_reset(void);

/** vblk_reset: reset the device as a driver does. */
void vblk_reset(VblkDriver *d);

/**
 * vblk_start: reset the device, and start it without @refused features.
 *
 * A device without the modern interface has rings of its own size.
 */
void vblk_start(VblkDriver *d, uint64_t refused, unsigned size);

/** vblk_start_legacy: the same by the legacy interface, if there is one. */
void vblk_start_legacy(VblkDriver *d, uint64_t refused);

/** vblk_queue_enable: begin a queue anew. */
void vblk_queue_enable(VblkDriver *d, int queue, unsigned size);

/** vblk_need_queue: see to it that @queue can take requests. */
void vblk_need_queue(VblkDriver *d, int queue);

/** vblk_offer: put @count segments on a ring; @table: indirectly, or NULL. */
void vblk_offer(VblkDriver *d, int queue, const VblkSegment *segments,
                int count, const VblkTable *table);

/** vblk_break_chain: change what was offered last. */
void vblk_break_chain(VblkDriver *d, int queue, FuzzInput *in);

void vblk_notify(VblkDriver *d, int queue);

/**
 * vblk_check_given_back: check that the device has no request of the driver.
 *
 * It may keep what has failed and waits for the VM to go on, and what it had
 * when a ring was found to be broken.  Nothing can be said of a ring that is
 * spoilt, because the device finds its position there when it starts.  The VM
 * has to be running, and nothing may slow the disk down.
 */
void vblk_check_given_back(VblkDriver *d);

/**
 * vblk_check_served: a good request of a device that is reset gets its answer.
 *
 * Whatever was done before, the device can be started and reads a sector.
 */
void vblk_check_served(VblkDriver *d, int queue);

/**
 * vblk_some_request: a request, as the specification has them or nearly so.
 *
 * Returns: how many of @segments it has, of VBLK_SEGMENTS.
 */
int vblk_some_request(FuzzInput *in, VblkSegment *segments);

/** vblk_some_table: a table for @count segments, or nearly so. */
VblkTable vblk_some_table(FuzzInput *in, unsigned how, unsigned count);

/** vblk_some_index: an index into @size descriptors, or a little beyond. */
unsigned vblk_some_index(FuzzInput *in, unsigned size);

#endif /* TESTS_FUZZ_VBLK_H */
