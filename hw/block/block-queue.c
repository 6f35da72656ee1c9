/*
 * The common part of all queues of block devices
 *
 * The sequence number makes the hand-over safe, although quiesce_begin and
 * quiesce_end do not wait.  The owner's bottom half always acts on the newest
 * number, even if several pairs of begin and end have passed since it last ran.
 * Control accepts a settled_seq only if it equals its own number.  So it never
 * takes an answer to an earlier quiesce_begin for an answer to the last one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "block/aio-wait.h"
#include "hw/block/block-queue.h"
#include "trace/trace-qemu_mq_hw_block.h"

void block_queue_settle(BlockQueue *queue)
{
    assert(queue->in_flight == 0);

    /* Control sees all that was written before: see block_queue_quiesced(). */
    qatomic_store_release(&queue->settled_seq, queue->target_seq);
    aio_wait_kick();
}

static void block_queue_bh(void *opaque)
{
    BlockQueue *queue = opaque;
    /* The owner sees what control has changed: see block_queue_set_seq(). */
    unsigned seq = qatomic_load_acquire(&queue->seq);
    bool was_listening = block_queue_listening(queue);
    bool look = qatomic_xchg(&queue->look, false);

    if (seq == queue->target_seq) {
        if (look && (was_listening || queue->in_flight)) {
            queue->ops->look(queue);
        }
        return;
    }
    queue->target_seq = seq;

    if (block_queue_listening(queue)) {
        queue->ops->start_listening(queue);
        return;
    }
    if (was_listening) {
        queue->ops->stop_listening(queue);
    }
    if (queue->in_flight == 0) {
        block_queue_settle(queue);
    } else if (look) {
        /* This may end the last request, and then control owns the queue. */
        queue->ops->look(queue);
    }
}

static void block_queue_set_seq(BlockQueue *queue, unsigned seq)
{
    qatomic_store_release(&queue->seq, seq);
    qemu_bh_schedule(queue->bh);
}

void block_queue_look(BlockQueue *queue)
{
    qatomic_set(&queue->look, true);
    qemu_bh_schedule(queue->bh);
}

void block_queue_event(BlockQueue *queue, BlockQueueEvent event)
{
    BlockQueueState state = block_queue_state_next(queue->state, event);

    trace_block_queue_event(queue->name, block_queue_state_name(queue->state),
                            block_queue_event_name(event),
                            block_queue_state_name(state));
    qatomic_set(&queue->state, state);
    if (event == BLOCK_QUEUE_RING_DOWN) {
        qatomic_set(&queue->fault, NULL);
    }
}

void block_queue_init(BlockQueue *queue, const char *device, uint16_t index,
                      AioContext *ctx, const BlockQueueOps *ops)
{
    GLOBAL_STATE_CODE();

    queue->name = g_strdup_printf("%s, queue %u", device, index);
    queue->index = index;
    queue->ctx = ctx;
    queue->ops = ops;
    queue->state = BLOCK_QUEUE_STOPPED;
    queue->quiesce_count = 1;
    queue->seq = 1;
    queue->target_seq = 1;
    queue->settled_seq = 1;
    queue->in_flight = 0;
    queue->bh = aio_bh_new(ctx, block_queue_bh, queue);
}

static void block_queue_sync_cb(void *opaque)
{
}

/*
 * Delete a bottom half of @ctx.  The owner thread may be running it at this
 * moment, although it has nothing to do.  Wait for its end: otherwise it could
 * read the queue after another thread has taken it over or it has been freed.
 */
static void block_queue_delete_bh(QEMUBH *bh, AioContext *ctx)
{
    qemu_bh_delete(bh);
    aio_wait_bh_oneshot(ctx, block_queue_sync_cb, NULL);
}

void block_queue_cleanup(BlockQueue *queue)
{
    GLOBAL_STATE_CODE();
    assert(block_queue_quiesced(queue));

    block_queue_delete_bh(g_steal_pointer(&queue->bh), queue->ctx);
    g_clear_pointer(&queue->name, g_free);
}

void block_queue_quiesce_begin(BlockQueue *queue)
{
    GLOBAL_STATE_CODE();

    if (queue->quiesce_count++ == 0) {
        block_queue_set_seq(queue, queue->seq + 1);
    }
}

void block_queue_quiesce_end(BlockQueue *queue)
{
    GLOBAL_STATE_CODE();
    assert(queue->quiesce_count > 0);

    if (--queue->quiesce_count == 0) {
        block_queue_set_seq(queue, queue->seq + 1);
    }
}

bool block_queue_quiesced(BlockQueue *queue)
{
    return (queue->seq & 1) &&
           qatomic_load_acquire(&queue->settled_seq) == queue->seq;
}

void block_queue_quiesce_wait(BlockQueue *queue)
{
    GLOBAL_STATE_CODE();
    AIO_WAIT_WHILE_UNLOCKED(NULL, !block_queue_quiesced(queue));
}

/*
 * The wait for the old thread runs a nested event loop.  Code that runs in that
 * loop may let the queue look, or move it again.  So the queue gets its new
 * context and its new bottom half before the wait.  It is quiesced, so both
 * bottom halves find nothing to do.
 */
void block_queue_move(BlockQueue *queue, AioContext *ctx)
{
    AioContext *old_ctx;
    QEMUBH *old_bh;

    GLOBAL_STATE_CODE();

    if (queue->ctx == ctx) {
        return;
    }
    block_queue_quiesce_begin(queue);
    block_queue_quiesce_wait(queue);
    assert(block_queue_quiesced(queue));

    trace_block_queue_move(queue->name, queue->ctx, ctx);
    old_ctx = queue->ctx;
    old_bh = queue->bh;
    queue->ctx = ctx;
    queue->bh = aio_bh_new(ctx, block_queue_bh, queue);
    block_queue_delete_bh(old_bh, old_ctx);

    block_queue_quiesce_end(queue);
}

void block_queue_notifier_set(BlockQueue *queue, EventNotifier *notifier,
                              const BlockQueueNotifierOps *ops)
{
    aio_set_event_notifier(queue->ctx, notifier, ops->event, ops->poll,
                           ops->poll_ready);
    aio_set_event_notifier_poll(queue->ctx, notifier, ops->poll_begin,
                                ops->poll_end);
}

void block_queue_notifier_clear(BlockQueue *queue, EventNotifier *notifier)
{
    aio_set_event_notifier(queue->ctx, notifier, NULL, NULL, NULL);
}

void *block_queue_alloc(unsigned n, size_t size)
{
    void *queues;

    assert(size % BLOCK_QUEUE_ALIGN == 0);
    queues = qemu_memalign(BLOCK_QUEUE_ALIGN, n * size);
    memset(queues, 0, n * size);
    return queues;
}

void block_queue_free(void *queues)
{
    qemu_vfree(queues);
}
