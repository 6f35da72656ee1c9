/*
 * What every queue of a block device has
 *
 * A virtqueue and a Xen ring both begin with a BlockQueue: the AioContext
 * that owns it, its place in the device, and the hand-over between control
 * and data path.
 *
 *     control (BQL)                          owner thread (queue->ctx)
 *     -------------                          -------------------------
 *     quiesce_begin: seq odd, kick bh  --->  bh: ops->stop_listening()
 *                                            ...requests in flight end...
 *     quiesced?  <---  settled_seq = seq     in_flight becomes 0
 *     (touch the queue, change its ctx)
 *     quiesce_end: seq even, kick bh   --->  bh: ops->start_listening()
 *
 * Drain, stop, reset and a move to another IOThread all are "quiesce, do,
 * end".  Outside of such a pause nobody but the owner thread reads or writes
 * what the queue holds, so that the data path needs no lock and no atomic.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_H
#define HW_BLOCK_BLOCK_QUEUE_H

#include "block/aio.h"
#include "hw/block/block-queue-life.h"
#include "hw/block/block-slab.h"
#include "qemu/atomic.h"
#include "qemu/event_notifier.h"

typedef struct BlockQueue BlockQueue;

typedef struct BlockQueueOps {
    /* All called in the owner thread. */

    /* Be told of new requests, and look for those already there. */
    void (*start_listening)(BlockQueue *queue);

    /* Take no more requests. */
    void (*stop_listening)(BlockQueue *queue);

    /* Look at the ring: called while listening, see block_queue_look(). */
    void (*look)(BlockQueue *queue);
} BlockQueueOps;

/*
 * Written by the owner thread only, by block_queue_count(); readers see a
 * recent value with qatomic_read().
 */
typedef struct BlockQueueStats {
    uint64_t requests;          /* taken from the ring */
    uint64_t batches;           /* times that the ring gave at least one */
    uint64_t notifications;     /* interrupts or events sent to the driver */
} BlockQueueStats;

struct BlockQueue {
    /* Written by control while quiesced, read-only for the owner. */
    AioContext *ctx;
    const BlockQueueOps *ops;
    QEMUBH *bh;
    uint16_t index;

    /* Control side, under the BQL. */
    unsigned quiesce_count;
    unsigned seq;               /* odd: quiesce wanted; read by the owner */

    /* Atomic, written by anybody. */
    bool look;                  /* the bottom half has to look at the ring */

    /* Owner side. */
    BlockQueueLife life;        /* control's while quiesced; see below */
    unsigned target_seq;        /* the last seq acted upon */
    unsigned settled_seq;       /* published: quiesced, nothing in flight */
    unsigned in_flight;
    BlockQueueStats stats;
};

/**
 * block_queue_init: set up a queue that is quiesced and owned by @ctx.
 *
 * The first block_queue_quiesce_end() starts it.  Call under the BQL.
 */
void block_queue_init(BlockQueue *queue, uint16_t index, AioContext *ctx,
                      const BlockQueueOps *ops);

/** block_queue_cleanup: end a queue that is quiesced.  BQL. */
void block_queue_cleanup(BlockQueue *queue);

/**
 * block_queue_quiesce_begin: ask the owner to take no more requests.
 *
 * Calls nest.  Returns at once; block_queue_quiesced() tells when the last
 * request in flight has ended.  BQL.
 */
void block_queue_quiesce_begin(BlockQueue *queue);

/** block_queue_quiesced: true once the owner has nothing more to do.  BQL. */
bool block_queue_quiesced(BlockQueue *queue);

/**
 * block_queue_quiesce_wait: run the main loop's AioContext until quiesced.
 *
 * BQL, main loop thread, after block_queue_quiesce_begin().
 */
void block_queue_quiesce_wait(BlockQueue *queue);

/** block_queue_quiesce_end: undo one block_queue_quiesce_begin().  BQL. */
void block_queue_quiesce_end(BlockQueue *queue);

/**
 * block_queue_event: let the queue's life go on by @event.
 *
 * Control does so with the queue quiesced (BQL).  A fault is raised by the
 * owner thread at any time.
 */
void block_queue_event(BlockQueue *queue, BlockQueueEvent event);

/**
 * block_queue_life: the queue's state.
 *
 * Exact in the owner thread, and for control while the queue is quiesced.
 * Otherwise a running queue may turn out to be faulted a moment later.
 */
static inline BlockQueueLife block_queue_life(const BlockQueue *queue)
{
    return qatomic_read(&queue->life);
}

/**
 * block_queue_running: does the queue serve its ring?
 *
 * See block_queue_life() for when this is exact.
 */
static inline bool block_queue_running(const BlockQueue *queue)
{
    return block_queue_life(queue) == BLOCK_QUEUE_RUNNING;
}

/** block_queue_stopped: does the device serve no queue?  Any thread. */
static inline bool block_queue_stopped(const BlockQueue *queue)
{
    BlockQueueLife life = block_queue_life(queue);

    return life == BLOCK_QUEUE_STOPPED || life == BLOCK_QUEUE_FAULTED_STOPPED;
}

/**
 * block_queue_faulted: has the driver broken the rules?  As
 * block_queue_life().
 */
static inline bool block_queue_faulted(const BlockQueue *queue)
{
    BlockQueueLife life = block_queue_life(queue);

    return life == BLOCK_QUEUE_FAULTED || life == BLOCK_QUEUE_FAULTED_STOPPED;
}

/**
 * block_queue_look: have the owner look at its ring, in a bottom half.
 *
 * For what control has changed and the owner should see, and for an owner
 * that has left something in the ring and can go on.  A queue that is
 * quiesced is left alone: it will look when it resumes.  Control under the
 * BQL, or the owner thread.
 */
void block_queue_look(BlockQueue *queue);

/**
 * block_queue_move: give the queue to another AioContext.
 *
 * Waits for the requests in flight on this queue; where they may wait for a
 * timer (throttling) the caller has to drain the backend around this.  Does
 * not lose notifications: start_listening() looks for requests at once.  BQL,
 * main loop thread.
 */
void block_queue_move(BlockQueue *queue, AioContext *ctx);

/** block_queue_settle: tell control that a quiesced queue is idle.  Owner. */
void block_queue_settle(BlockQueue *queue);

/** block_queue_count: add @n to one of the queue's counters.  Owner. */
static inline void block_queue_count(uint64_t *counter, uint64_t n)
{
    qatomic_set(counter, *counter + n);
}

/** block_queue_listening: may the owner take requests?  Owner thread. */
static inline bool block_queue_listening(const BlockQueue *queue)
{
    return !(queue->target_seq & 1);
}

/** block_queue_request_begin: a request was taken.  Owner thread. */
static inline void block_queue_request_begin(BlockQueue *queue)
{
    queue->in_flight++;
}

/**
 * block_queue_requests_end: @n requests were answered, or are held.
 *
 * Must come after the last use of the queue on behalf of the requests, for
 * control may go on from here.  Owner thread.
 */
static inline void block_queue_requests_end(BlockQueue *queue, unsigned n)
{
    queue->in_flight -= n;
    if (queue->in_flight == 0 && !block_queue_listening(queue)) {
        block_queue_settle(queue);
    }
}

/** block_queue_request_end: the same for one request. */
static inline void block_queue_request_end(BlockQueue *queue)
{
    block_queue_requests_end(queue, 1);
}

/** block_queue_in_flight: how many have begun and not ended?  Owner thread. */
static inline unsigned block_queue_in_flight(const BlockQueue *queue)
{
    return queue->in_flight;
}

/* How to be told of requests; the handlers run in the owner thread. */
typedef struct BlockQueueNotifierOps {
    EventNotifierHandler *event;
    AioPollFn *poll;            /* optional, as the rest */
    EventNotifierHandler *poll_ready;
    EventNotifierHandler *poll_begin;
    EventNotifierHandler *poll_end;
} BlockQueueNotifierOps;

/** block_queue_notifier_set: have @ops called for @notifier.  Owner thread. */
void block_queue_notifier_set(BlockQueue *queue, EventNotifier *notifier,
                              const BlockQueueNotifierOps *ops);

/** block_queue_notifier_clear: end that.  Owner thread. */
void block_queue_notifier_clear(BlockQueue *queue, EventNotifier *notifier);

/**
 * block_queue_alloc: a zeroed array of @n objects that begin with a
 * BlockQueue, each on cache lines of its own.  @size must be a multiple of
 * BLOCK_QUEUE_ALIGN.  Free with block_queue_free().
 */
void *block_queue_alloc(unsigned n, size_t size);

/** block_queue_free: counterpart of block_queue_alloc(). */
void block_queue_free(void *queues);

#endif /* HW_BLOCK_BLOCK_QUEUE_H */
