/*
 * The common part of a queue of virtio-blk and of the Xen PV disk
 *
 * Both structures begin with a BlockQueue.  It has the AioContext that owns
 * the queue, the queue's index in the device, and the hand-over between
 * control and data path:
 *
 *     control (BQL)                          owner thread (queue->ctx)
 *     -------------                          -------------------------
 *     quiesce_begin: seq odd, kick bh  --->  bh: ops->stop_listening()
 *                                            ...requests in flight end...
 *     quiesced?  <---  settled_seq = seq     in_flight becomes 0
 *     (touch the queue, change its ctx)
 *     quiesce_end: seq even, kick bh   --->  bh: ops->start_listening()
 *
 * Drain, stop, reset and a move to another IOThread all have these steps:
 * control quiesces the queue, makes its change, and lets the queue go on.
 * While a queue is not quiesced, only its owner thread reads and writes it.
 * So the data path needs no lock and no atomic operation.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_H
#define HW_BLOCK_BLOCK_QUEUE_H

#include "block/aio.h"
#include "hw/block/block-queue-state.h"
#include "hw/block/block-slab.h"
#include "qemu/atomic.h"
#include "qemu/event_notifier.h"

typedef struct BlockQueue BlockQueue;

typedef struct BlockQueueOps {
    /* The owner thread calls all of these. */

    /*
     * Begin to take requests: enable notifications, and look at the ring for
     * requests that came before.
     */
    void (*start_listening)(BlockQueue *queue);

    /* Take no more requests. */
    void (*stop_listening)(BlockQueue *queue);

    /*
     * Look at the ring, see block_queue_look().  If the queue is not listening,
     * it has requests in flight, and only these may go on.
     */
    void (*look)(BlockQueue *queue);
} BlockQueueOps;

/*
 * Only the owner thread writes these, with block_queue_count().  Any thread
 * may read them with qatomic_read() and gets a recent value.
 */
typedef struct BlockQueueStats {
    uint64_t requests;          /* taken from the ring */
    uint64_t batches;           /* times that the ring gave at least one */
    uint64_t notifications;     /* interrupts or events sent to the driver */
} BlockQueueStats;

struct BlockQueue {
    /* Control writes these while the queue is quiesced; the owner reads. */
    AioContext *ctx;
    const BlockQueueOps *ops;
    QEMUBH *bh;
    uint16_t index;
    char *name;                 /* for messages: the device and the index */

    /* Control writes these under the BQL. */
    unsigned quiesce_count;     /* nested calls of quiesce_begin */
    unsigned seq;               /* odd: quiesce wanted; the owner reads it */

    /* Atomic; any thread writes these. */
    bool look;                  /* the bottom half has to look at the ring */
    const char *fault;          /* a constant text to report, or NULL */

    /* The owner writes these. */
    BlockQueueState state;      /* control writes it, too, while quiesced */
    unsigned target_seq;        /* the last seq that the owner has acted upon */
    unsigned settled_seq;       /* the last seq for which it was settled */
    unsigned in_flight;
    BlockQueueStats stats;
};

/**
 * block_queue_init: set up a queue that is quiesced and owned by @ctx.
 * @device: the device in messages, such as virtio-blk 'disk0'
 *
 * The first block_queue_quiesce_end() starts it.
 *
 * Context: BQL.
 */
void block_queue_init(BlockQueue *queue, const char *device, uint16_t index,
                      AioContext *ctx, const BlockQueueOps *ops);

/** block_queue_cleanup: undo block_queue_init(); quiesced.  Context: BQL. */
void block_queue_cleanup(BlockQueue *queue);

/**
 * block_queue_quiesce_begin: ask the owner to take no more requests.
 *
 * Calls nest.  The function returns at once; block_queue_quiesced() tells when
 * the last request in flight has ended.
 *
 * Context: BQL.
 */
void block_queue_quiesce_begin(BlockQueue *queue);

/**
 * block_queue_quiesced: return whether the queue is quiesced and settled.
 *
 * If so, the owner has no request in flight and takes no more.
 *
 * Context: BQL.
 */
bool block_queue_quiesced(BlockQueue *queue);

/**
 * block_queue_quiesce_wait: run a nested event loop until the queue is
 * quiesced.
 *
 * Context: BQL, main loop thread, after block_queue_quiesce_begin().
 */
void block_queue_quiesce_wait(BlockQueue *queue);

/** block_queue_quiesce_end: undo block_queue_quiesce_begin().  Context: BQL. */
void block_queue_quiesce_end(BlockQueue *queue);

/**
 * block_queue_event: change the queue's state as @event demands.
 *
 * The event %BLOCK_QUEUE_RING_DOWN also forgets a fault that is not reported
 * yet, because the next driver has not caused it.
 *
 * Context: BQL, with the queue quiesced.  For %BLOCK_QUEUE_FAULT also the
 * owner thread, at any time.
 */
void block_queue_event(BlockQueue *queue, BlockQueueEvent event);

/**
 * block_queue_state: return the queue's state.
 *
 * The answer is exact in the owner thread, and for control while the queue is
 * quiesced.  Otherwise a queue that is running now may be faulted a moment
 * later.
 *
 * Context: any thread.
 */
static inline BlockQueueState block_queue_state(const BlockQueue *queue)
{
    return qatomic_read(&queue->state);
}

/**
 * block_queue_running: return whether the queue serves its ring.
 *
 * As exact as block_queue_state().  Context: any thread.
 */
static inline bool block_queue_running(const BlockQueue *queue)
{
    return block_queue_state(queue) == BLOCK_QUEUE_RUNNING;
}

/**
 * block_queue_stopped: return whether the device serves no queue.
 *
 * Context: any thread.
 */
static inline bool block_queue_stopped(const BlockQueue *queue)
{
    BlockQueueState state = block_queue_state(queue);

    return state == BLOCK_QUEUE_STOPPED || state == BLOCK_QUEUE_FAULTED_STOPPED;
}

/**
 * block_queue_faulted: return whether the driver has broken the rules.
 *
 * As exact as block_queue_state().  Context: any thread.
 */
static inline bool block_queue_faulted(const BlockQueue *queue)
{
    BlockQueueState state = block_queue_state(queue);

    return state == BLOCK_QUEUE_FAULTED || state == BLOCK_QUEUE_FAULTED_STOPPED;
}

/**
 * block_queue_look: let the owner look at its ring, in a bottom half.
 *
 * Control calls this after a change that the owner should see.  The owner
 * calls it when requests that have waited can go on, for example because there
 * is memory for them now.  They may have waited in the ring or in flight.  A
 * queue that is quiesced looks when it resumes, but it also looks at once if it
 * has requests in flight, because these may be the ones that have waited.
 *
 * Context: BQL, or the owner thread.
 */
void block_queue_look(BlockQueue *queue);

/**
 * block_queue_move: give the queue to another AioContext.
 *
 * This waits for the requests in flight on this queue.  If a request may wait
 * for a throttling timer, the caller has to drain the backend around this
 * call.  No notification is lost, because start_listening() looks for requests
 * at once.
 *
 * Context: BQL, main loop thread.
 */
void block_queue_move(BlockQueue *queue, AioContext *ctx);

/**
 * block_queue_settle: tell control that the quiesced queue has nothing in
 * flight.
 *
 * Context: owner thread.
 */
void block_queue_settle(BlockQueue *queue);

/**
 * block_queue_count: add @n to a counter of BlockQueueStats.
 *
 * Context: owner thread.
 */
static inline void block_queue_count(uint64_t *counter, uint64_t n)
{
    qatomic_set(counter, *counter + n);
}

/**
 * block_queue_listening: return whether the owner may take requests.
 *
 * Context: owner thread.
 */
static inline bool block_queue_listening(const BlockQueue *queue)
{
    return !(queue->target_seq & 1);
}

/**
 * block_queue_request_begin: count a request as taken.
 *
 * Context: owner thread.
 */
static inline void block_queue_request_begin(BlockQueue *queue)
{
    queue->in_flight++;
}

/**
 * block_queue_requests_end: count @n requests as answered, or as held.
 *
 * The caller must not use the queue for these requests afterwards, because
 * control may go on now.
 *
 * Context: owner thread.
 */
static inline void block_queue_requests_end(BlockQueue *queue, unsigned n)
{
    queue->in_flight -= n;
    if (queue->in_flight == 0 && !block_queue_listening(queue)) {
        block_queue_settle(queue);
    }
}

/** block_queue_request_end: block_queue_requests_end() for one request. */
static inline void block_queue_request_end(BlockQueue *queue)
{
    block_queue_requests_end(queue, 1);
}

/**
 * block_queue_in_flight: return how many requests have begun and not ended.
 *
 * Context: owner thread.
 */
static inline unsigned block_queue_in_flight(const BlockQueue *queue)
{
    return queue->in_flight;
}

/* Handlers of a queue's notifier; they run in the owner thread. */
typedef struct BlockQueueNotifierOps {
    EventNotifierHandler *event;
    AioPollFn *poll;            /* this and the following are optional */
    EventNotifierHandler *poll_ready;
    EventNotifierHandler *poll_begin;
    EventNotifierHandler *poll_end;
} BlockQueueNotifierOps;

/**
 * block_queue_notifier_set: let the event loop call @ops for @notifier.
 *
 * Context: owner thread.
 */
void block_queue_notifier_set(BlockQueue *queue, EventNotifier *notifier,
                              const BlockQueueNotifierOps *ops);

/**
 * block_queue_notifier_clear: undo block_queue_notifier_set().
 *
 * Context: owner thread.
 */
void block_queue_notifier_clear(BlockQueue *queue, EventNotifier *notifier);

/**
 * block_queue_alloc: allocate @n objects that begin with a BlockQueue.
 * @size: bytes of an object, a multiple of BLOCK_QUEUE_ALIGN
 *
 * The memory is zeroed, and no two objects share a cache line.
 *
 * Returns: an array, to be freed with block_queue_free().
 */
void *block_queue_alloc(unsigned n, size_t size);

/** block_queue_free: free the memory of block_queue_alloc(). */
void block_queue_free(void *queues);

#endif /* HW_BLOCK_BLOCK_QUEUE_H */
