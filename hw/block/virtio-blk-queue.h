/*
 * virtio-blk: a queue
 *
 *    ring --take--> request --run--> coroutine --answer--> done --flush--> ring
 *                      |                                              |
 *                      +--- error, werror=stop: held until "cont"     +- one
 *                                                                  interrupt
 *
 * All of it belongs to the queue's owner thread (hw/block/block-queue.h),
 * but for what is marked as control's.
 *
 *    virtio-blk-queue.h     the queue                      (this file)
 *    virtio-blk-request.h   what is in flight
 *    virtio-blk-ring.h      who reads the ring, and in which thread
 *    virtio-blk-control.h   what runs under the BQL
 *
 * Each includes those above it, and each source file calls functions of those
 * below it only; tests/overlay/test-layers.py has the order.  What the owner
 * thread wants of control goes through VirtIOBlkControlOps.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_VIRTIO_BLK_QUEUE_H
#define HW_BLOCK_VIRTIO_BLK_QUEUE_H

#include "hw/block/block-queue.h"
#include "hw/virtio/virtio-access.h"
#include "hw/virtio/virtio-blk.h"
#include "hw/virtio/vring.h"

typedef struct VirtIOBlkQueue VirtIOBlkQueue;
typedef struct VirtIOBlkRequest VirtIOBlkRequest;

/*
 * What a queue asks of the device.  Called in the owner thread; returns at
 * once, and the main loop sees to it.
 */
typedef struct VirtIOBlkControlOps {
    /* A chain is not in RAM: only the main loop can serve this queue. */
    void (*need_main_loop)(VirtIOBlkQueue *q);

    /* There was a kick, but there is no ring: the driver may have set it up. */
    void (*ring_is_missing)(VirtIOBlkQueue *q);

    /* The driver has told another ring than the one that is in use. */
    void (*ring_is_another)(VirtIOBlkQueue *q);

    /* The driver broke the rules, and @q->fault says how. */
    void (*report_fault)(VirtIOBlkQueue *q);
} VirtIOBlkControlOps;

/* Sizes of longer lists, see virtio-blk-segments.c. */
enum {
    VIRTIO_BLK_SEGMENTS_SHORT,
    VIRTIO_BLK_SEGMENTS_LONG,
    VIRTIO_BLK_SEGMENTS_ANY,
    VIRTIO_BLK_SEGMENTS_SIZES
};

/* Neighbouring reads or writes on their way to become one. */
typedef struct VirtIOBlkRun {
    VirtIOBlkRequest *head;
    VirtIOBlkRequest **tail;
    unsigned count;
    unsigned niov;
    uint64_t bytes;
    uint64_t next_sector;
    bool is_write;
} VirtIOBlkRun;

/* Lists of up to @len segments. */
typedef struct VirtIOBlkSegments {
    BlockSlab slab;
    unsigned len;
} VirtIOBlkSegments;

/* Who reads the ring, see virtio-blk-ring.c. */
typedef enum VirtIOBlkReader {
    VIRTIO_BLK_READER_NONE,     /* nobody: the base's VirtQueue has the state */
    VIRTIO_BLK_READER_BASE,     /* the base's virtqueue calls */
    VIRTIO_BLK_READER_NATIVE,   /* ours, vring.h */
} VirtIOBlkReader;

/* Which thread serves the queue. */
typedef enum VirtIOBlkPlace {
    VIRTIO_BLK_PLACE_OWN,       /* that of its IOThread, if it has one */
    VIRTIO_BLK_PLACE_WANTS_MAIN,    /* leaves the ring alone until moved */
    VIRTIO_BLK_PLACE_MAIN,      /* the main loop, until the driver resets it */
} VirtIOBlkPlace;

/* What the queue has to do because the VM goes on. */
typedef enum VirtIOBlkRestart {
    VIRTIO_BLK_RESTART_NONE,
    VIRTIO_BLK_RESTART_REMIND,  /* interrupt a driver that may be waiting */
    VIRTIO_BLK_RESTART_HELD,    /* that, and run the held requests again */
} VirtIOBlkRestart;

/* Memory for what comes next, see virtio-blk-segments.c. */
typedef enum VirtIOBlkSupply {
    VIRTIO_BLK_SUPPLY_ENOUGH,
    VIRTIO_BLK_SUPPLY_SHORT,        /* take nothing */
    VIRTIO_BLK_SUPPLY_SHORT_LOOK,   /* and look at the ring when that ends */
} VirtIOBlkSupply;

struct VirtIOBlkQueue {
    BlockQueue common;          /* first: a VirtIOBlkQueue is a BlockQueue */

    /* Written by control while quiesced. */
    VirtIOBlock *dev;
    const VirtIOBlkControlOps *control;
    VirtIODevice *vdev;
    BlockBackend *blk;
    VirtQueue *vq;
    EventNotifier *guest_notifier;  /* NULL: kicks and interrupts are calls */
    EventNotifier kick;         /* a copy of the VirtQueue's host notifier */
    VirtIOBlkReader reader;
    VirtIOBlkPlace place;       /* atomic: the owner asks for the main loop */
    VirtIOBlkRestart restart;   /* atomic: control asks, the owner does */
    const char *fault;          /* atomic: yet to be reported, or NULL */

    /* The owner's. */
    VirtIOBlkSupply supply;
    bool flush_pending;
    bool gathering;             /* a batch is taken: its end submits @run */
    bool direct_irq;            /* in the main loop: raise it by a call */
    VirtIOBlkRequest *done;     /* answered, not yet given back */
    VirtIOBlkRequest *held;     /* failed, to be tried again; BQL if settled */
    VirtIOBlkRun run;
    BlockSlab requests;
    VirtIOBlkSegments segments[VIRTIO_BLK_SEGMENTS_SIZES];
    VRing ring;
} QEMU_ALIGNED(BLOCK_QUEUE_ALIGN);

/** virtio_blk_get_queue: queue @i of @s, which has that many. */
static inline VirtIOBlkQueue *virtio_blk_get_queue(const VirtIOBlock *s,
                                                   unsigned i)
{
    return container_of(block_queue_device_get(&s->common, i), VirtIOBlkQueue,
                        common);
}

/** virtio_blk_queue_is_native: is it our reader that has the ring?  Owner. */
static inline bool virtio_blk_queue_is_native(const VirtIOBlkQueue *q)
{
    return likely(q->reader == VIRTIO_BLK_READER_NATIVE);
}

/**
 * virtio_blk_queue_guard_begin: refuse the device's accesses to itself.
 *
 * A buffer in MMIO may be a register of this very device.  What the device
 * does to its own registers while it is at work on a ring is refused, as
 * everywhere in QEMU, or it would start and stop itself from in there.  Only
 * the main loop touches MMIO.
 *
 * Owner thread.
 *
 * Returns: what virtio_blk_queue_guard_end() wants.
 */
static inline bool virtio_blk_queue_guard_begin(VirtIOBlkQueue *q)
{
    bool *engaged = &q->dev->transport->mem_reentrancy_guard.engaged_in_io;

    if (!q->direct_irq || *engaged) {
        return false;
    }
    *engaged = true;
    return true;
}

/** virtio_blk_queue_guard_end: the work on the ring has ended. */
static inline void virtio_blk_queue_guard_end(VirtIOBlkQueue *q, bool guarded)
{
    if (guarded) {
        q->dev->transport->mem_reentrancy_guard.engaged_in_io = false;
    }
}

/* virtio-blk-queue.c: a queue at work */

extern const BlockQueueOps virtio_blk_queue_ops;

/**
 * virtio_blk_queue_handle_output: a kick that came as a call, main loop.
 */
void virtio_blk_queue_handle_output(VirtIOBlkQueue *q);

/* virtio-blk-fault.c: a driver that breaks the rules */

/**
 * virtio_blk_queue_fault: stop the queue for good, the driver broke the rules.
 *
 * One line names device, queue and @what; the device needs a reset (VIRTIO
 * 1.2, 2.1.1).  @what is a constant.  Owner thread.
 */
void virtio_blk_queue_fault(VirtIOBlkQueue *q, const char *what);

/** virtio_blk_report_faults: say what the driver did, once.  BQL. */
void virtio_blk_report_faults(VirtIOBlock *s);

/* virtio-blk-segments.c: memory for lists of segments */

/** virtio_blk_segments_init: make the slabs of a new queue.  BQL. */
void virtio_blk_segments_init(VirtIOBlkQueue *q);

/**
 * virtio_blk_segments_set_max: bound the slabs.
 * @all: have a list for every request that a ring can hold
 *
 * BQL, queue quiesced.
 */
void virtio_blk_segments_set_max(VirtIOBlkQueue *q, bool all);

/** virtio_blk_segments_cleanup: free them; all lists have come back.  BQL. */
void virtio_blk_segments_cleanup(VirtIOBlkQueue *q);

/**
 * virtio_blk_segments_get: a list of @n segments, 2 * VRING_MAX_SEGMENTS at
 * most.
 * @size: set to the slab's number, for virtio_blk_segments_put()
 *
 * Owner thread.
 *
 * Returns: NULL when there is none, which happens only while the queue is short
 * of segment lists.
 */
struct iovec *virtio_blk_segments_get(VirtIOBlkQueue *q, unsigned n,
                                      uint8_t *size);

/**
 * virtio_blk_segments_put: give a list back.
 *
 * A queue that was short of segment lists goes on in a bottom half.  Owner
 * thread, or control with the queue quiesced.
 */
void virtio_blk_segments_put(VirtIOBlkQueue *q, struct iovec *iov,
                             uint8_t size);

#endif /* HW_BLOCK_VIRTIO_BLK_QUEUE_H */
