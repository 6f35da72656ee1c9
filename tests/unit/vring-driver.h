/*
 * A driver for rings in plain memory: the other side of vring.h, for tests
 *
 * Guest memory, with a stand-in for the DMA API where there is no direct RAM:
 *
 *   0      128K    256K    512K  516K  640K  644K        2^40      +8G
 *   | low  | mid   |       | ROM |     |MMIO |           | vast    |
 *
 * low and mid are neighbours for the guest, not for the host.  vast is
 * address space that nobody may touch.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_VRING_DRIVER_H
#define TESTS_UNIT_VRING_DRIVER_H

#include "hw/virtio/vring.h"

#define LOW_SIZE    0x20000
#define MID         0x20000
#define MID_SIZE    0x20000
#define ROM         0x80000
#define ROM_SIZE    0x1000
#define MMIO        0xa0000
#define MMIO_SIZE   0x1000
#define VAST        (UINT64_C(1) << 40)
#define VAST_SIZE   (UINT64_C(8) << 30)

/* The places of rings, buffers and indirect tables. */
#define DESC        0x1000
#define AVAIL       0x2000
#define USED        0x3000
#define BUF         0x8000
#define TABLE       0x10000

#define F_NEXT      VRING_DESC_F_NEXT
#define F_WRITE     VRING_DESC_F_WRITE
#define F_INDIRECT  VRING_DESC_F_INDIRECT

typedef struct Guest {
    uint8_t *low, *mid, *rom, *mmio;
    void *vast;
} Guest;

typedef struct Driver {
    VRing r;
    RingViewSource src;
    bool packed;
    unsigned num;
    /* The driver's positions */
    uint16_t next_desc;         /* first of the next chain */
    uint16_t avail_idx;         /* split: not yet published */
    bool wrap;                  /* packed: of next_desc */
    uint16_t used_idx;          /* next used entry to look at */
    bool used_wrap;
    uint16_t ndescs[65536];     /* packed: by buffer id */
} Driver;

typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;              /* or id; 0 is filled in by driver_add() */
} Desc;

typedef struct Used {
    uint32_t id;
    uint32_t len;
} Used;

/* A read request as virtio-blk has it: header, data, status. */
extern const Desc request[3];

extern Guest guest;

/* DMA mappings that are out. */
extern unsigned dma_mapped;

void guest_init(void);

/* Host address of guest memory in one of the arrays. */
void *guest_ptr(hwaddr addr);

/* The guest's RAM and ROM; @track for low and mid. */
RingView *guest_view_new(bool track);

/* Is this range of host memory wholly in one of the arrays? */
bool guest_contains(const void *host, size_t len);

VRingConfig driver_config(bool packed, unsigned num, bool event_idx);

/* A driver and its attached ring. */
Driver *driver_new(bool packed, unsigned num, bool event_idx);

/* Checks that nothing is left mapped or in flight. */
void driver_free(Driver *d);

/* Put driver and device at these positions. */
void driver_seek(Driver *d, uint16_t idx, bool wrap);

/*
 * driver_add() links @n descriptors into a chain (F_NEXT is added to all but
 * the last), with @id as its buffer id if packed, and makes it available.
 * Returns the id that the device has to answer with.
 */
uint16_t driver_add(Driver *d, const Desc *descs, unsigned n, uint16_t id);

/* As driver_add(), but the driver does not show it yet; then show all. */
uint16_t driver_put(Driver *d, const Desc *descs, unsigned n, uint16_t id);
void driver_show(Driver *d);

/* Write an indirect table and return the descriptor that names it. */
Desc driver_table(Driver *d, hwaddr addr, const Desc *descs, unsigned n);

/* The next used entry, if there is one. */
bool driver_next_used(Driver *d, Used *used);

/* A chain must be there; @iov is a copy that driver_answer() frees. */
VRingChain driver_take(Driver *d);
void driver_take_none(Driver *d);

/* Push and publish; does the driver want an interrupt? */
bool driver_answer(Driver *d, VRingChain *chain, uint32_t written);

void driver_expect_used(Driver *d, uint32_t id, uint32_t len);
void driver_expect_no_used(Driver *d);

/* A request, start to end; does the driver want an interrupt? */
bool driver_one_request(Driver *d);

/*
 * Add /@group/split/@name and /@group/packed/@name; @func gets NULL for the
 * first.
 */
void driver_test_add(const char *group, const char *name, GTestDataFunc func);

#endif /* TESTS_UNIT_VRING_DRIVER_H */
