/*
 * The driver's side of a virtqueue, split or packed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_RING_H
#define MQ_RING_H

#include "mq-device.h"

/**
 * MqSegment: one buffer of a request.
 * @writable: the device writes it
 */
typedef struct MqSegment {
    uint64_t addr;
    uint32_t len;
    bool writable;
} MqSegment;

typedef struct MqRingOps MqRingOps;

/**
 * MqQueue: a queue that has been set up.
 * @desc, @driver, @device: guest addresses of the three areas of section 2.6
 * @area: guest address of the memory that holds all three, @area_size bytes
 * @tokens: by descriptor or buffer id, what mq_queue_add() was given
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
struct MqQueue {
    MqDevice *dev;
    unsigned index;
    unsigned size;
    const MqRingOps *ops;
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
 * mq_queue_new: allocate queue @index of @d and tell the device where it is.
 * Its size is what the device offers, at most @d->largest where the driver may
 * choose.
 * Kept in @d->queues.
 */
MqQueue *mq_queue_new(MqDevice *d, unsigned index);

/**
 * mq_queue_new_sized: the same with a ring of @size, whatever is offered.
 */
MqQueue *mq_queue_new_sized(MqDevice *d, unsigned index, unsigned size);

/* mq_queue_free: forget a queue; the guest's memory stays as it is. */
void mq_queue_free(MqQueue *q);

/**
 * mq_queue_add: write a chain of descriptors, not yet visible to the device.
 * @indirect: put them into a table of their own, section 2.7.5.3
 * @token: what mq_queue_poll() is to return for it
 *
 * Returns: the head's index (split) or the buffer id (packed).
 */
unsigned mq_queue_add(MqQueue *q, const MqSegment *segs, unsigned num,
                      bool indirect, void *token);

/* mq_queue_expose: make all that was added available to the device. */
void mq_queue_expose(MqQueue *q);

/**
 * mq_queue_kick: expose, then notify unless the device asked not to.
 *
 * Returns: whether it was notified.
 */
bool mq_queue_kick(MqQueue *q);

/**
 * mq_queue_poll: take one used buffer.
 * @len: set to what the device says it has written; may be NULL
 *
 * Returns: the token, NULL if there is no used buffer.  Ends the test if the
 * device returns what it was not given.
 */
void *mq_queue_poll(MqQueue *q, uint32_t *len);

/**
 * mq_queue_suppress: ask for no interrupts, or for all, without event index.
 */
void mq_queue_suppress(MqQueue *q, bool suppress);

/**
 * mq_queue_set_event: with event index, ask for an interrupt when the buffer
 * that is @ahead of the next one is used (0: the very next).
 */
void mq_queue_set_event(MqQueue *q, unsigned ahead);

/**
 * mq_queue_wait_taken: with event index, wait until the device has taken all
 * that was exposed and wants to hear of more.
 */
void mq_queue_wait_taken(MqQueue *q);

/*
 * Split rings by hand, to write into them what a driver must not.
 */

/* mq_split_write: write descriptor @i of the table at @table. */
void mq_split_write(MqDevice *d, uint64_t table, unsigned i, uint64_t addr,
                    uint32_t len, uint16_t flags, uint16_t next);

/**
 * mq_split_claim: take a free descriptor as a chain of its own.
 * @token: as for mq_queue_add()
 *
 * Returns: its index.
 */
unsigned mq_split_claim(MqQueue *q, void *token);

/* mq_split_offer: put @head into the available ring and publish the index. */
void mq_split_offer(MqQueue *q, uint16_t head);

/* mq_split_used_idx: the used index as the device has written it */
uint16_t mq_split_used_idx(MqQueue *q);

#endif
