/*
 * virtio-blk: a queue
 *
 *    ring --take--> request --run--> coroutine --answer--> done --flush--> ring
 *                      |                                              |
 *                      +--- error, werror=stop: held until "cont"     +- one
 *                                                                  interrupt
 *
 * A queue belongs to its owner thread (hw/block/block-queue.h).  The fields
 * and functions of control are marked.
 *
 *    virtio-blk-queue.h     the queue                      (this file)
 *    virtio-blk-request.h   requests in flight
 *    virtio-blk-ring.h      the ring's reader, and the thread that runs it
 *    virtio-blk-control.h   functions that run under the BQL
 *
 * The list begins with the lowest layer.  Each header includes the header above
 * it.  A source file calls functions of its own layer and of lower layers.  The
 * owner thread calls control through VirtIOBlkControlOps.
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
 * Calls from the owner thread to control.  Each call returns at once, and the
 * main loop does the work later.
 */
typedef struct VirtIOBlkControlOps {
    /*
     * Either a chain is not in RAM, so that only the main loop can serve this
     * queue, and @q->place says so.  Or a kick has come for a queue without a
     * ring: the driver may have set up the ring since the device looked for it.
     */
    void (*look_at_queues)(VirtIOBlkQueue *q);

    /* The driver has configured another ring than the one that is in use. */
    void (*look_at_rings)(VirtIOBlkQueue *q);
} VirtIOBlkControlOps;

/* Sizes of longer lists, see virtio-blk-segments.c. */
enum {
    VIRTIO_BLK_SEGMENTS_SHORT,
    VIRTIO_BLK_SEGMENTS_LONG,
    VIRTIO_BLK_SEGMENTS_ANY,
    VIRTIO_BLK_SEGMENTS_SIZES
};

/* Neighbouring reads or writes that may be merged into one request. */
typedef struct VirtIOBlkRun {
    VirtIOBlkRequest *head;
    VirtIOBlkRequest **tail;
    unsigned count;
    unsigned niov;
    uint64_t bytes;
    uint64_t next_sector;
    bool is_write;
} VirtIOBlkRun;

/* A slab of lists, each of up to @len segments. */
typedef struct VirtIOBlkSegments {
    BlockSlab slab;
    unsigned len;
} VirtIOBlkSegments;

/* The code that reads the ring, see virtio-blk-ring.c. */
typedef enum VirtIOBlkReader {
    VIRTIO_BLK_READER_NONE,     /* no reader; the VirtQueue has the position */
    VIRTIO_BLK_READER_BASE,     /* the virtqueue calls of QEMU's virtio.c */
    VIRTIO_BLK_READER_NATIVE,   /* our reader, vring.h */
} VirtIOBlkReader;

/* The thread that serves the queue. */
typedef enum VirtIOBlkPlace {
    VIRTIO_BLK_PLACE_OWN,       /* the thread of its IOThread, if it has one */
    VIRTIO_BLK_PLACE_WANTS_MAIN,    /* none, until it moves to the main loop */
    VIRTIO_BLK_PLACE_MAIN,      /* the main loop, until the driver resets it */
} VirtIOBlkPlace;

/* The work that the queue has to do when the VM goes on. */
typedef enum VirtIOBlkRestart {
    VIRTIO_BLK_RESTART_NONE,
    VIRTIO_BLK_RESTART_REMIND,  /* interrupt a driver that may be waiting */
    VIRTIO_BLK_RESTART_HELD,    /* that, and run the held requests again */
} VirtIOBlkRestart;

/* Whether the queue has memory for more requests, see virtio-blk-segments.c. */
typedef enum VirtIOBlkSupply {
    VIRTIO_BLK_SUPPLY_ENOUGH,
    VIRTIO_BLK_SUPPLY_SHORT,        /* take no request */
    VIRTIO_BLK_SUPPLY_SHORT_LOOK,   /* so, and look at the ring afterwards */
} VirtIOBlkSupply;

struct VirtIOBlkQueue {
    BlockQueue common;          /* first: a VirtIOBlkQueue is a BlockQueue */

    /* Control writes these while the queue is quiesced. */
    VirtIOBlock *dev;
    const VirtIOBlkControlOps *control;
    VirtIODevice *vdev;
    BlockBackend *blk;
    VirtQueue *vq;
    EventNotifier *guest_notifier;  /* NULL: kicks and interrupts are calls */
    EventNotifier kick;         /* a copy of the VirtQueue's host notifier */
    VirtIOBlkReader reader;
    VirtIOBlkPlace place;       /* atomic; the owner sets WANTS_MAIN */
    VirtIOBlkRestart restart;   /* atomic; control sets it, the owner acts */

    /* The owner writes these. */
    VirtIOBlkSupply supply;
    bool flush_pending;         /* answers in @done will be given back soon */
    bool gathering;             /* within a batch, whose end submits @run */
    bool direct_irq;            /* interrupt by a call, in the main loop */
    VirtIOBlkRequest *done;     /* answered, not yet given back */
    VirtIOBlkRequest *held;     /* failed, to be run again; BQL if settled */
    VirtIOBlkRun run;
    BlockSlab requests;
    VirtIOBlkSegments segments[VIRTIO_BLK_SEGMENTS_SIZES];
    VRing ring;
} QEMU_ALIGNED(BLOCK_QUEUE_ALIGN);

/** virtio_blk_get_queue: return queue @i, which must exist. */
static inline VirtIOBlkQueue *virtio_blk_get_queue(const VirtIOBlock *s,
                                                   unsigned i)
{
    return container_of(block_queue_device_get(&s->common, i), VirtIOBlkQueue,
                        common);
}

/**
 * virtio_blk_queue_is_native: return whether our reader reads the ring.
 *
 * Context: owner thread, or BQL.
 */
static inline bool virtio_blk_queue_is_native(const VirtIOBlkQueue *q)
{
    return likely(q->reader == VIRTIO_BLK_READER_NATIVE);
}

/**
 * virtio_blk_queue_guard_begin: refuse the device's accesses to itself.
 *
 * A buffer in MMIO may be a register of this very device.  If the device
 * wrote to it while it works on a ring, it would start or stop itself in the
 * middle of that work.  So such accesses are refused, as everywhere in QEMU.
 * Only the main loop accesses MMIO, so in another thread this does nothing.
 *
 * Context: owner thread.
 *
 * Returns: the argument @guarded of virtio_blk_queue_guard_end().
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

/** virtio_blk_queue_guard_end: undo virtio_blk_queue_guard_begin(). */
static inline void virtio_blk_queue_guard_end(VirtIOBlkQueue *q, bool guarded)
{
    if (guarded) {
        q->dev->transport->mem_reentrancy_guard.engaged_in_io = false;
    }
}

/**
 * virtio_blk_queue_fault: stop the queue, because the driver breaks the rules.
 * @what: a constant text
 *
 * The main loop logs one line with the device, the queue and @what, and tells
 * the driver that the device needs a reset (VIRTIO 1.2, 2.1.1).
 *
 * Context: owner thread.
 */
static inline void virtio_blk_queue_fault(VirtIOBlkQueue *q, const char *what)
{
    block_queue_device_fault(&q->dev->common, &q->common, what);
}

/* virtio-blk-queue.c: a queue at work */

extern const BlockQueueOps virtio_blk_queue_ops;

/**
 * virtio_blk_queue_handle_output: handle a kick that came as a call.
 *
 * Context: BQL, main loop's queue.
 */
void virtio_blk_queue_handle_output(VirtIOBlkQueue *q);

/* virtio-blk-segments.c: memory for lists of segments */

/** virtio_blk_segments_init: make the slabs of a new queue.  Context: BQL. */
void virtio_blk_segments_init(VirtIOBlkQueue *q);

/**
 * virtio_blk_segments_set_max: set the largest number of lists in each slab.
 * @all: whether each slab may have a list for every request of a ring
 *
 * Context: BQL, with the queue quiesced.
 */
void virtio_blk_segments_set_max(VirtIOBlkQueue *q, bool all);

/**
 * virtio_blk_segments_cleanup: free the slabs; no list is in use.
 *
 * Context: BQL.
 */
void virtio_blk_segments_cleanup(VirtIOBlkQueue *q);

/**
 * virtio_blk_segments_get: take a list of @n segments.
 * @n: at most 2 * VRING_MAX_SEGMENTS
 * @size: set to the slab's number, for virtio_blk_segments_put()
 *
 * Context: owner thread.
 *
 * Returns: the list, or NULL if none is left.  That happens only while
 * @q->supply says that the queue is short of lists.
 */
struct iovec *virtio_blk_segments_get(VirtIOBlkQueue *q, unsigned n,
                                      uint8_t *size);

/**
 * virtio_blk_segments_put: give a list back.
 *
 * If the queue was short of lists, it goes on in a bottom half.
 *
 * Context: owner thread, or BQL with the queue quiesced.
 */
void virtio_blk_segments_put(VirtIOBlkQueue *q, struct iovec *iov,
                             uint8_t size);

#endif /* HW_BLOCK_VIRTIO_BLK_QUEUE_H */
