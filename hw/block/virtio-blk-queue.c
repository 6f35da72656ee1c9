/*
 * virtio-blk: one virtqueue at work
 *
 *    kick, poll --> take all --> submit all ---+
 *                                              | (requests run)
 *    interrupt <-- publish <-- push all done <-+    virtio-blk-answer.c
 *
 * Everything here runs in the queue's owner thread.  A batch is bracketed by
 * defer_call_begin/end, as are the completion loops of the AIO backends, so
 * that the flush of answered requests comes once behind each of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/defer-call.h"
#include "qemu/main-loop.h"
#include "virtio-blk-ring.h"
#include "trace/trace-hw_block.h"
#include "trace/trace-qemu_mq_hw_block.h"

/* These functions call the ring reader of vring.h or that of virtio.c. */

static void queue_set_notification(VirtIOBlkQueue *q, bool enable)
{
    if (virtio_blk_queue_is_native(q)) {
        vring_set_notification(&q->ring, enable);
    } else {
        virtio_queue_set_notification(q->vq, enable);
    }
}

static bool queue_get_notification(VirtIOBlkQueue *q)
{
    return virtio_blk_queue_is_native(q) ? q->ring.notification
                              : virtio_queue_get_notification(q->vq);
}

static bool queue_empty(VirtIOBlkQueue *q)
{
    return virtio_blk_queue_is_native(q) ? vring_empty(&q->ring)
                              : virtio_queue_empty(q->vq);
}

/*
 * Take an element from virtio.c, and describe it as a chain.  The element keeps
 * its segments.
 */
static VirtQueueElement *queue_take_base(VirtIOBlkQueue *q, VRingChain *chain)
{
    VirtQueueElement *elem = virtqueue_pop(q->vq, sizeof(*elem));
    unsigned n = 0;

    if (!elem) {
        return NULL;
    }
    if (elem->out_num + elem->in_num > VRING_MAX_SEGMENTS) {
        virtqueue_detach_element(q->vq, elem, 0);
        g_free(elem);
        virtio_blk_queue_fault(q, "chain has too many segments");
        return NULL;
    }
    memset(chain, 0, sizeof(*chain));
    chain->id = elem->index;
    chain->ndescs = elem->ndescs;
    chain->out_num = elem->out_num;
    chain->in_num = elem->in_num;
    chain->out_len = iov_size(elem->out_sg, elem->out_num);
    chain->in_len = iov_size(elem->in_sg, elem->in_num);
    chain->iov = q->ring.iov;
    for (unsigned i = 0; i < elem->out_num; i++) {
        chain->iov[n++] = elem->out_sg[i];
    }
    for (unsigned i = 0; i < elem->in_num; i++) {
        chain->iov[n++] = elem->in_sg[i];
    }
    return elem;
}

/*
 * Leave the queue to the main loop, because an access to MMIO needs the BQL.
 * This thread cannot wait for the BQL: the thread that holds it may be waiting
 * for this one.
 */
static void queue_leave_to_main_loop(VirtIOBlkQueue *q)
{
    trace_virtio_blk_main_loop(q->common.name);
    qatomic_set(&q->place, VIRTIO_BLK_PLACE_WANTS_MAIN);
    q->control->look_at_queues(q);
}

/*
 * Take the next chain.  If the present view lacks a part of it, try a newer
 * view.  Return what vring_take_into() returns.
 */
static int queue_take_native(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    int ret = vring_take_into(&q->ring, &req->chain, req->inline_iov,
                              VIRTIO_BLK_INLINE_SEGMENTS);

    /* RAM that was plugged after the batch began is no reason to move. */
    if (unlikely(ret == -EAGAIN) &&
        !ring_view_source_is_current(q->ring.src, q->ring.view_ref->view) &&
        vring_switch_view(&q->ring)) {
        ret = vring_take_into(&q->ring, &req->chain, req->inline_iov,
                              VIRTIO_BLK_INLINE_SEGMENTS);
    }
    return ret;
}

static VirtIOBlkRequest *queue_take(VirtIOBlkQueue *q)
{
    VirtIOBlkRequest *req = block_slab_get(&q->requests);
    VirtQueueElement *elem = NULL;
    int ret;

    if (unlikely(!req)) {
        if (!queue_empty(q)) {
            /* More chains than the ring has entries: they must overlap. */
            virtio_blk_queue_fault(q, "more requests than the queue has "
                                   "entries");
        }
        return NULL;
    }
    if (virtio_blk_queue_is_native(q)) {
        ret = queue_take_native(q, req);
    } else {
        elem = queue_take_base(q, &req->chain);
        ret = elem != NULL;
    }
    if (unlikely(ret <= 0)) {
        block_slab_put(&q->requests, req);
        if (ret == -EAGAIN) {
            queue_leave_to_main_loop(q);
        } else if (ret < 0) {
            virtio_blk_queue_fault(q, vring_fault(&q->ring));
        }
        return NULL;
    }
    virtio_blk_request_init(req, q, elem);
    block_queue_count(&q->common.stats.requests, 1);
    return req;
}

/* Return whether the state of the ring lets the owner take requests. */
static inline bool queue_may_take(const VirtIOBlkQueue *q)
{
    return block_queue_running(&q->common) &&
           q->place != VIRTIO_BLK_PLACE_WANTS_MAIN;
}

static inline bool queue_is_short(const VirtIOBlkQueue *q)
{
    return unlikely(q->supply != VIRTIO_BLK_SUPPLY_ENOUGH);
}

/* Leave requests in the ring, and look again when there is memory for them. */
static void queue_leave_behind(VirtIOBlkQueue *q)
{
    if (queue_is_short(q)) {
        q->supply = VIRTIO_BLK_SUPPLY_SHORT_LOOK;
    }
}

static void queue_take_all(VirtIOBlkQueue *q)
{
    VirtIOBlkRequest *req;

    while (queue_may_take(q) && !queue_is_short(q) && (req = queue_take(q))) {
        const char *fault = virtio_blk_request_parse(req);

        block_queue_request_begin(&q->common);
        if (unlikely(fault)) {
            virtio_blk_queue_fault(q, fault);
            virtio_blk_request_abandon(req);
            return;
        }
        virtio_blk_request_submit(req);
    }
}

/* Take and submit all that the ring offers. */
static void queue_work(VirtIOBlkQueue *q)
{
    uint64_t taken = q->common.stats.requests;
    bool toggle, guarded;

    if (unlikely(!queue_may_take(q) || virtio_device_disabled(q->vdev) ||
                 !block_queue_listening(&q->common))) {
        return;
    }
    if (virtio_blk_queue_is_native(q) && unlikely(!vring_refresh(&q->ring))) {
        /* Control has been told too, and hands the ring to virtio.c. */
        return;
    }
    if (queue_is_short(q)) {
        queue_leave_behind(q);
        return;
    }

    /* While the AioContext polls, notification is off and stays off. */
    toggle = queue_get_notification(q);
    vring_enter_thread(&q->ring);
    guarded = virtio_blk_queue_guard_begin(q);
    defer_call_begin();
    q->gathering = true;
    do {
        if (toggle) {
            queue_set_notification(q, false);
        }
        queue_take_all(q);
        if (toggle) {
            queue_set_notification(q, true);
        }
    } while (queue_may_take(q) && !queue_is_short(q) && !queue_empty(q));

    queue_leave_behind(q);
    if (q->common.stats.requests != taken) {
        block_queue_count(&q->common.stats.batches, 1);
    }
    q->gathering = false;
    virtio_blk_run_submit(q);
    defer_call_end();
    virtio_blk_queue_guard_end(q, guarded);
}

/*
 * A kick, after which the ring is to be looked at.  Control has another look
 * when it has changed the ring.
 */
static void queue_kicked(VirtIOBlkQueue *q)
{
    switch (block_queue_state(&q->common)) {
    case BLOCK_QUEUE_NO_RING:
        q->control->look_at_queues(q);
        break;
    case BLOCK_QUEUE_RUNNING:
        if (unlikely(!virtio_blk_ring_is_current(q))) {
            q->control->look_at_rings(q);
            return;
        }
        break;
    default:
        break;
    }
    queue_work(q);
}

/* AioContext handlers for the host notifier */

static void queue_kick_event(EventNotifier *kick)
{
    VirtIOBlkQueue *q = container_of(kick, VirtIOBlkQueue, kick);

    if (event_notifier_test_and_clear(kick)) {
        queue_kicked(q);
    }
}

static bool queue_kick_poll(void *opaque)
{
    VirtIOBlkQueue *q = container_of((EventNotifier *)opaque, VirtIOBlkQueue,
                                     kick);

    if (queue_is_short(q)) {
        queue_leave_behind(q);
        return false;
    }
    return queue_may_take(q) && !queue_empty(q);
}

static void queue_kick_poll_ready(EventNotifier *kick)
{
    queue_work(container_of(kick, VirtIOBlkQueue, kick));
}

static void queue_kick_poll_begin(EventNotifier *kick)
{
    VirtIOBlkQueue *q = container_of(kick, VirtIOBlkQueue, kick);

    if (block_queue_running(&q->common)) {
        queue_set_notification(q, false);
    }
}

static void queue_kick_poll_end(EventNotifier *kick)
{
    VirtIOBlkQueue *q = container_of(kick, VirtIOBlkQueue, kick);

    /* The AioContext polls once more behind this. */
    if (block_queue_running(&q->common)) {
        queue_set_notification(q, true);
    }
}

static const BlockQueueNotifierOps queue_kick_ops = {
    .event = queue_kick_event,
    .poll = queue_kick_poll,
    .poll_ready = queue_kick_poll_ready,
    .poll_begin = queue_kick_poll_begin,
    .poll_end = queue_kick_poll_end,
};

void virtio_blk_queue_handle_output(VirtIOBlkQueue *q)
{
    queue_kicked(q);
}

/* Take the held requests in their old order, so that they can be merged. */
static VirtIOBlkRequest *queue_take_held(VirtIOBlkQueue *q)
{
    VirtIOBlkRequest *first = NULL;

    while (q->held) {
        VirtIOBlkRequest *req = q->held;

        q->held = req->next;
        req->next = first;
        first = req;
    }
    return first;
}

/* Run again what failed before the VM was stopped. */
static void queue_restart_held(VirtIOBlkQueue *q)
{
    VirtIOBlkRequest *req = queue_take_held(q);

    defer_call_begin();
    q->gathering = true;
    while (req) {
        VirtIOBlkRequest *next = req->next;
        const char *fault = virtio_blk_request_parse(req);

        block_queue_request_begin(&q->common);
        if (fault) {
            virtio_blk_queue_fault(q, fault);
            virtio_blk_request_abandon(req);
        } else {
            virtio_blk_request_submit(req);
        }
        req = next;
    }
    q->gathering = false;
    virtio_blk_run_submit(q);
    defer_call_end();
}

/*
 * The VM goes on.  It may come from a QEMU that has lost an interrupt: QEMU
 * 10.0 closes the notifier of a queue when it stops, while the queue's IOThread
 * is about to signal it.  The driver would wait for ever.
 */
static void queue_restart(VirtIOBlkQueue *q)
{
    VirtIOBlkRestart restart = qatomic_load_acquire(&q->restart);

    if (restart == VIRTIO_BLK_RESTART_NONE) {
        return;
    }
    qatomic_set(&q->restart, VIRTIO_BLK_RESTART_NONE);
    if (!virtio_device_disabled(q->vdev)) {
        virtio_blk_queue_remind(q);
    }
    if (restart == VIRTIO_BLK_RESTART_HELD) {
        queue_restart_held(q);
    }
}

static void queue_look(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);

    if (block_queue_running(common) && block_queue_listening(common)) {
        queue_restart(q);
    }
    queue_work(q);
}

static void queue_start_listening(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);
    bool in_main = common->ctx == qemu_get_aio_context();

    q->direct_irq = in_main || !q->guest_notifier;
    q->ring.direct_only = !in_main;
    if (block_queue_running(common) && !virtio_device_disabled(q->vdev) &&
        !queue_get_notification(q)) {
        queue_set_notification(q, true);
    }
    if (q->guest_notifier) {
        block_queue_notifier_set(common, &q->kick, &queue_kick_ops);
    }
    /* Look for kicks that came while the queue did not listen. */
    queue_look(common);
}

static void queue_stop_listening(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);

    if (q->guest_notifier) {
        block_queue_notifier_clear(common, &q->kick);
    }
}

const BlockQueueOps virtio_blk_queue_ops = {
    .start_listening = queue_start_listening,
    .stop_listening = queue_stop_listening,
    .look = queue_look,
};
