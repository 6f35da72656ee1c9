/*
 * The driver's side of a virtqueue, split or packed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_RING_H
#define VBLK_RING_H

#include "vblk-device.h"

/**
 * VblkSegment: one buffer of a request.
 * @writable: the device writes it
 */
typedef struct VblkSegment {
    uint64_t addr;
    uint32_t len;
    bool writable;
} VblkSegment;

typedef struct VblkRingOps VblkRingOps;

/**
 * VblkQueue: a queue that has been set up.
 * @desc, @driver, @device: guest addresses of the three areas of section 2.6
 * @area: guest address of the memory that holds all three, @area_size bytes
 * @tokens: by descriptor or buffer id, what vblk_queue_add() was given
 * @free: stack of unused ids, @num_free of them
 * @chain: by descriptor, the next one (split); by id, how many slots (packed)
 * @tables: guest addresses of indirect tables to free with an id
 * @avail: next index (split) or slot (packed) to make available
 * @added: by how much @avail has moved since the device was last told
 * @used: next index or slot to take from the device
 * @avail_wrap, @used_wrap: packed ring wrap counters
 * @head_slot, @head_flags: packed ring: where the first added chain begins and
 *                          the flags that will expose it; UINT_MAX if none
 * @packed_free: packed ring: slots not in use
 */
struct VblkQueue {
    VblkDevice *dev;
    unsigned index;
    unsigned size;
    const VblkRingOps *ops;
    uint64_t desc, driver, device;
    uint64_t area;
    size_t area_size;
    void **tokens;
    uint16_t *free;
    unsigned num_free;
    unsigned *chain;
    uint64_t *tables;
    uint16_t avail, added, used;
    bool avail_wrap, used_wrap;
    unsigned head_slot;
    uint16_t head_flags;
    unsigned packed_free;
};

/**
 * vblk_queue_new: allocate queue @index of @d and tell the device where it is.
 * Its size is what the device offers, at most @d->largest where the driver may
 * choose.
 * Kept in @d->queues.
 */
VblkQueue *vblk_queue_new(VblkDevice *d, unsigned index);

/**
 * vblk_queue_new_sized: the same with a ring of @size, whatever is offered.
 */
VblkQueue *vblk_queue_new_sized(VblkDevice *d, unsigned index, unsigned size);

/** vblk_queue_free: forget a queue; the guest's memory stays as it is. */
void vblk_queue_free(VblkQueue *q);

/**
 * vblk_queue_add: write a chain of descriptors, not yet visible to the device.
 * @indirect: put them into a table of their own, section 2.7.5.3
 * @token: what vblk_queue_poll() is to return for it
 *
 * Returns: the head's index (split) or the buffer id (packed).
 */
unsigned vblk_queue_add(VblkQueue *q, const VblkSegment *segs, unsigned num,
                        bool indirect, void *token);

/** vblk_queue_expose: make all that was added available to the device. */
void vblk_queue_expose(VblkQueue *q);

/**
 * vblk_queue_kick: expose, then notify unless the device asked not to.
 *
 * Returns: whether it was notified.
 */
bool vblk_queue_kick(VblkQueue *q);

/**
 * vblk_queue_poll: take one used buffer.
 * @len: set to what the device says it has written; may be NULL
 *
 * Returns: the token, NULL if there is no used buffer.  Ends the test if the
 * device returns what it was not given.
 */
void *vblk_queue_poll(VblkQueue *q, uint32_t *len);

/**
 * vblk_queue_suppress: ask for no interrupts, or for all, without event index.
 */
void vblk_queue_suppress(VblkQueue *q, bool suppress);

/**
 * vblk_queue_set_event: with event index, ask for an interrupt when the buffer
 * that is @ahead of the next one is used (0: the very next).
 */
void vblk_queue_set_event(VblkQueue *q, unsigned ahead);

/**
 * vblk_queue_wait_taken: with event index, wait until the device has taken all
 * that was exposed and wants to hear of more.
 */
void vblk_queue_wait_taken(VblkQueue *q);

/*
 * Split rings by hand, to write into them what a driver must not.
 */

/** vblk_split_write: write descriptor @i of the table at @table. */
void vblk_split_write(VblkDevice *d, uint64_t table, unsigned i, uint64_t addr,
                      uint32_t len, uint16_t flags, uint16_t next);

/**
 * vblk_split_claim: take a free descriptor as a chain of its own.
 * @token: as for vblk_queue_add()
 *
 * Returns: its index.
 */
unsigned vblk_split_claim(VblkQueue *q, void *token);

/**
 * vblk_split_offer: put @head into the available ring and publish the index.
 */
void vblk_split_offer(VblkQueue *q, uint16_t head);

/** vblk_split_used_idx: the used index as the device has written it. */
uint16_t vblk_split_used_idx(VblkQueue *q);

#endif
