/*
 * virtio-blk: one virtqueue at work
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *    kick, poll --> take all --> submit all ---+
 *                                              | (requests run)
 *    interrupt <-- publish <-- push all done <-+
 *
 * Everything here runs in the queue's owner thread.  A batch is bracketed by
 * defer_call_begin/end, as are the completion loops of the AIO backends, so
 * that the flush of answered requests comes once behind each of them.
 */

#include "qemu/osdep.h"
#include "qemu/defer-call.h"
#include "qemu/main-loop.h"
#include "block/aio.h"
#include "hw/virtio/virtio-bus.h"
#include "virtio-blk-queue.h"
#include "trace/trace-hw_block.h"
#include "trace/trace-qemu_mq_hw_block.h"

/* Our ring reader or the base's: the difference ends here. */

static inline bool queue_is_native(const VirtIOBlkQueue *q)
{
    return likely(q->reader == VIRTIO_BLK_READER_NATIVE);
}

static void queue_set_notification(VirtIOBlkQueue *q, bool enable)
{
    if (queue_is_native(q)) {
        vring_set_notification(&q->ring, enable);
    } else {
        virtio_queue_set_notification(q->vq, enable);
    }
}

static bool queue_get_notification(VirtIOBlkQueue *q)
{
    return queue_is_native(q) ? q->ring.notification
                              : virtio_queue_get_notification(q->vq);
}

static bool queue_empty(VirtIOBlkQueue *q)
{
    return queue_is_native(q) ? vring_empty(&q->ring)
                              : virtio_queue_empty(q->vq);
}

/*
 * A buffer in MMIO may be a register of this very device.  What the device
 * does to its own registers while it is at work on a ring is refused, as
 * everywhere in QEMU, or it would start and stop itself from in there.  Only
 * the main loop touches MMIO.
 */
static inline bool queue_guard_begin(VirtIOBlkQueue *q)
{
    bool *engaged = &q->dev->transport->mem_reentrancy_guard.engaged_in_io;

    if (!q->direct_irq || *engaged) {
        return false;
    }
    *engaged = true;
    return true;
}

static inline void queue_guard_end(VirtIOBlkQueue *q, bool guarded)
{
    if (guarded) {
        q->dev->transport->mem_reentrancy_guard.engaged_in_io = false;
    }
}

/* The base's element in the shape of our chain; its iovecs stay in it. */
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

static void queue_want_main_bh(void *opaque)
{
    VirtIOBlock *s = opaque;

    virtio_blk_serve_in_main(s);
    object_unref(OBJECT(s));
}

/*
 * MMIO is accessed under the BQL.  Whoever holds it may be waiting for this
 * thread, so the queue is left to a thread that holds it anyway.
 */
static void queue_want_main(VirtIOBlkQueue *q)
{
    trace_virtio_blk_want_main(q->vdev, q->common.index);
    qatomic_set(&q->place, VIRTIO_BLK_PLACE_WANTS_MAIN);
    object_ref(OBJECT(q->dev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), queue_want_main_bh,
                            q->dev);
}

/*
 * The next chain, by a newer view where the present one has not all of it.
 * Returns as vring_take_into().
 */
static int queue_take_native(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    int ret = vring_take_into(&q->ring, &req->chain, req->inline_iov,
                              VIRTIO_BLK_INLINE_SEGMENTS);

    /* RAM that was plugged after the batch began is no reason to move. */
    if (unlikely(ret == -EAGAIN) &&
        !ring_view_source_is_current(q->ring.src, q->ring.hold->view) &&
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
    if (queue_is_native(q)) {
        ret = queue_take_native(q, req);
    } else {
        elem = queue_take_base(q, &req->chain);
        ret = elem != NULL;
    }
    if (unlikely(ret <= 0)) {
        block_slab_put(&q->requests, req);
        if (ret == -EAGAIN) {
            queue_want_main(q);
        } else if (ret < 0) {
            virtio_blk_queue_fault(q, vring_fault(&q->ring));
        }
        return NULL;
    }
    virtio_blk_request_init(req, q, elem);
    block_queue_count(&q->common.stats.requests, 1);
    return req;
}

/* May the owner take what the ring offers, as far as the ring's state goes? */
static inline bool queue_may_take(const VirtIOBlkQueue *q)
{
    return block_queue_running(&q->common) &&
           q->place != VIRTIO_BLK_PLACE_WANTS_MAIN;
}

static inline bool queue_is_short(const VirtIOBlkQueue *q)
{
    return unlikely(q->supply != VIRTIO_BLK_SUPPLY_ENOUGH);
}

/* Something is left in the ring: look again when there is memory for it. */
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
    if (queue_is_native(q) && unlikely(!vring_refresh(&q->ring))) {
        /* Control has been told too, and hands the ring to the base. */
        return;
    }
    if (queue_is_short(q)) {
        queue_leave_behind(q);
        return;
    }

    /* While the AioContext polls, notification is off and stays off. */
    toggle = queue_get_notification(q);
    vring_enter_thread(&q->ring);
    guarded = queue_guard_begin(q);
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
    queue_guard_end(q, guarded);
}

static void queue_notify(VirtIOBlkQueue *q)
{
    VirtIODevice *vdev = q->vdev;

    block_queue_count(&q->common.stats.notifications, 1);
    /*
     * With MSI-X the ISR bit means nothing, but old Windows drivers poll it
     * when they hibernate.  The line stays shared while the bit stays set.
     */
    if (!(qatomic_read(&vdev->isr) & 1)) {
        qatomic_or(&vdev->isr, 1);
    }
    if (q->direct_irq) {
        BusState *bus = qdev_get_parent_bus(DEVICE(vdev));
        VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);

        k->notify(bus->parent, virtio_queue_vector(vdev, q->common.index));
    } else {
        event_notifier_set(q->guest_notifier);
    }
}

static void request_put(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;

    virtio_blk_request_release(req);
    block_slab_put(&q->requests, req);
}

/* Give one answered request back, by the ring reader it came from. */
static void queue_push(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    uint32_t written = req->chain.in_len;

    if (unlikely(req->elem)) {
        if (!queue_is_native(q)) {
            virtqueue_push(q->vq, req->elem, written);
            return;
        }
        /* Came with a migration, or before the ring could be used natively */
        virtqueue_detach_element(q->vq, req->elem, written);
        vring_adopt(&q->ring, &req->chain);
    }
    vring_push(&q->ring, &req->chain, written);
}

/* Let go of a request; the ring does not get it back, nothing is written. */
static void queue_give_up(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    if (req->elem) {
        virtqueue_detach_element(q->vq, req->elem, 0);
        if (!queue_is_native(q)) {
            return;
        }
        vring_adopt(&q->ring, &req->chain);
    }
    vring_drop(&q->ring, &req->chain);
}

static void queue_flush_base(VirtIOBlkQueue *q)
{
    if (q->direct_irq ? virtio_notify(q->vdev, q->vq)
                      : virtio_notify_irqfd(q->vdev, q->vq)) {
        block_queue_count(&q->common.stats.notifications, 1);
    }
}

/* Show the driver the requests from @req on. */
static void queue_give_back(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    for (VirtIOBlkRequest *r = req; r; r = r->next) {
        queue_push(q, r);
    }
    if (!queue_is_native(q)) {
        queue_flush_base(q);
    } else if (vring_publish(&q->ring)) {
        queue_notify(q);
    }
}

/* End all that was answered since the last time. */
static void queue_flush(void *opaque)
{
    VirtIOBlkQueue *q = opaque;
    VirtIOBlkRequest *req = q->done;
    bool guarded = queue_guard_begin(q);
    unsigned n = 0;

    q->flush_pending = false;
    q->done = NULL;

    if (unlikely(q->vdev->disabled)) {
        /* The driver has taken away the bus: its rings are not written. */
        for (VirtIOBlkRequest *r = req; r; r = r->next) {
            queue_give_up(q, r);
        }
    } else {
        queue_give_back(q, req);
    }
    while (req) {
        VirtIOBlkRequest *next = req->next;

        request_put(req);
        req = next;
        n++;
    }

    queue_guard_end(q, guarded);
    /* Last: control may take the queue over with the final one. */
    while (n--) {
        block_queue_request_end(&q->common);
    }
}

void virtio_blk_request_complete(VirtIOBlkRequest *req, uint8_t status)
{
    VirtIOBlkQueue *q = req->queue;

    trace_virtio_blk_req_complete(q->vdev, req, status);
    *req->status = status;
    req->next = q->done;
    q->done = req;
    if (!q->flush_pending) {
        q->flush_pending = true;
        defer_call(queue_flush, q);
    }
}

void virtio_blk_request_hold(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;

    trace_virtio_blk_hold(q->vdev, q->common.index, req);
    req->next = q->held;
    q->held = req;
    block_queue_request_end(&q->common);
}

void virtio_blk_request_abandon(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;

    queue_give_up(q, req);
    request_put(req);
    block_queue_request_end(&q->common);
}

static void queue_want_ring_bh(void *opaque)
{
    VirtIOBlock *s = opaque;

    virtio_blk_start_late(s);
    object_unref(OBJECT(s));
}

/* A kick for a ring that the driver has set up after the first kick. */
static void queue_want_ring(VirtIOBlkQueue *q)
{
    object_ref(OBJECT(q->dev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), queue_want_ring_bh,
                            q->dev);
}

/*
 * A kick, after which the ring is to be looked at.  Control has another look
 * when it has changed the ring.
 */
static void queue_kicked(VirtIOBlkQueue *q)
{
    switch (block_queue_life(&q->common)) {
    case BLOCK_QUEUE_NO_RING:
        queue_want_ring(q);
        break;
    case BLOCK_QUEUE_RUNNING:
        if (unlikely(!virtio_blk_ring_is_current(q))) {
            virtio_blk_renew_rings(q->dev);
            return;
        }
        break;
    default:
        break;
    }
    queue_work(q);
}

/* AioContext handlers for the host notifier */

static void queue_kick_read(EventNotifier *kick)
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

void virtio_blk_queue_handle_output(VirtIOBlkQueue *q)
{
    queue_kicked(q);
}

/* What failed last is held first; in the old order requests can be merged. */
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

static void queue_look(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);

    if (block_queue_running(common) && qatomic_read(&q->restart)) {
        qatomic_set(&q->restart, false);
        queue_restart_held(q);
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
        aio_set_event_notifier(common->ctx, &q->kick, queue_kick_read,
                               queue_kick_poll, queue_kick_poll_ready);
        aio_set_event_notifier_poll(common->ctx, &q->kick,
                                    queue_kick_poll_begin,
                                    queue_kick_poll_end);
    }
    /* Kicks may have come while nobody listened. */
    queue_look(common);
}

static void queue_stop_listening(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);

    if (q->guest_notifier) {
        aio_set_event_notifier(common->ctx, &q->kick, NULL, NULL, NULL);
    }
}

const BlockQueueOps virtio_blk_queue_ops = {
    .start_listening = queue_start_listening,
    .stop_listening = queue_stop_listening,
    .look = queue_look,
};
