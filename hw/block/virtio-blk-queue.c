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

/* Our ring reader or the base's: the difference ends here. */

static void queue_set_notification(VirtIOBlkQueue *q, bool enable)
{
    if (likely(q->native)) {
        vring_set_notification(&q->ring, enable);
    } else {
        virtio_queue_set_notification(q->vq, enable);
    }
}

static bool queue_get_notification(VirtIOBlkQueue *q)
{
    return likely(q->native) ? q->ring.notification
                             : virtio_queue_get_notification(q->vq);
}

static bool queue_empty(VirtIOBlkQueue *q)
{
    return likely(q->native) ? vring_empty(&q->ring)
                             : virtio_queue_empty(q->vq);
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
    qatomic_set(&q->wants_main, true);
    object_ref(OBJECT(q->dev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), queue_want_main_bh,
                            q->dev);
}

/* vring_take(), by a newer view where the present one has not all of it. */
static int queue_take_native(VirtIOBlkQueue *q, VRingChain *chain)
{
    int ret = vring_take(&q->ring, chain);

    /* RAM that was plugged after the batch began is no reason to move. */
    if (unlikely(ret == -EAGAIN) &&
        !ring_view_source_is_current(q->ring.src, q->ring.hold->view) &&
        vring_switch_view(&q->ring)) {
        ret = vring_take(&q->ring, chain);
    }
    return ret;
}

static VirtIOBlkRequest *queue_take(VirtIOBlkQueue *q)
{
    VirtQueueElement *elem = NULL;
    VirtIOBlkRequest *req;
    QEMU_UNINITIALIZED VRingChain chain;

    if (likely(q->native)) {
        int ret = queue_take_native(q, &chain);

        if (unlikely(ret == -EAGAIN)) {
            queue_want_main(q);
            return NULL;
        }
        if (ret <= 0) {
            if (ret < 0) {
                virtio_blk_queue_fault(q, vring_fault(&q->ring));
            }
            return NULL;
        }
    } else {
        elem = queue_take_base(q, &chain);
        if (!elem) {
            return NULL;
        }
    }

    req = block_request_pool_get(&q->requests);
    if (unlikely(!req)) {
        /* More chains than the ring has entries: they must overlap. */
        if (elem) {
            virtqueue_detach_element(q->vq, elem, 0);
            g_free(elem);
        } else {
            vring_drop(&q->ring, &chain);
        }
        virtio_blk_queue_fault(q, "more requests than the queue has entries");
        return NULL;
    }
    virtio_blk_request_init(req, q, &chain, elem);
    block_queue_count(&q->common.stats.requests, 1);
    return req;
}

static void queue_take_all(VirtIOBlkQueue *q)
{
    VirtIOBlkRequest *req;

    while (!q->faulted && !q->starved && (req = queue_take(q))) {
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

/* Leaves the ring alone for now? */
static inline bool queue_is_stuck(const VirtIOBlkQueue *q)
{
    return q->faulted || q->wants_main;
}

/* Take and submit all that the ring offers. */
static void queue_work(VirtIOBlkQueue *q)
{
    uint64_t taken = q->common.stats.requests;
    bool toggle;

    if (unlikely(queue_is_stuck(q) || virtio_device_disabled(q->vdev) ||
                 !q->started || !block_queue_listening(&q->common))) {
        return;
    }
    if (likely(q->native) && unlikely(!vring_refresh(&q->ring))) {
        /* Control has been told too, and hands the ring to the base. */
        return;
    }

    q->left_behind = q->starved;
    if (unlikely(q->starved)) {
        return;
    }

    /* While the AioContext polls, notification is off and stays off. */
    toggle = queue_get_notification(q);
    defer_call_begin();
    do {
        if (toggle) {
            queue_set_notification(q, false);
        }
        queue_take_all(q);
        if (toggle) {
            queue_set_notification(q, true);
        }
    } while (!queue_is_stuck(q) && !q->starved && !queue_empty(q));

    q->left_behind = q->starved;
    if (q->common.stats.requests != taken) {
        block_queue_count(&q->common.stats.batches, 1);
    }
    virtio_blk_run_submit(q);
    defer_call_end();
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
    block_request_pool_put(&q->requests, req);
}

/* Give one answered request back, by the ring reader it came from. */
static void queue_push(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    uint32_t written = req->chain.in_len;

    if (unlikely(req->elem)) {
        if (!q->native) {
            virtqueue_push(q->vq, req->elem, written);
            return;
        }
        /* Came with a migration, or before the ring could be used natively */
        virtqueue_detach_element(q->vq, req->elem, written);
        vring_adopt(&q->ring, &req->chain);
    }
    vring_push(&q->ring, &req->chain, written);
}

static void queue_flush_base(VirtIOBlkQueue *q)
{
    if (q->direct_irq) {
        virtio_notify(q->vdev, q->vq);
    } else {
        virtio_notify_irqfd(q->vdev, q->vq);
    }
}

/* Show the driver all that was answered since the last time. */
static void queue_flush(void *opaque)
{
    VirtIOBlkQueue *q = opaque;
    VirtIOBlkRequest *req = q->done;
    unsigned n = 0;

    q->flush_pending = false;
    q->done = NULL;

    for (VirtIOBlkRequest *r = req; r; r = r->next) {
        queue_push(q, r);
    }
    if (unlikely(!q->native)) {
        queue_flush_base(q);
    } else if (vring_publish(&q->ring)) {
        queue_notify(q);
    }
    while (req) {
        VirtIOBlkRequest *next = req->next;

        request_put(req);
        req = next;
        n++;
    }

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

    req->next = q->held;
    q->held = req;
    block_queue_request_end(&q->common);
}

void virtio_blk_request_abandon(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;

    if (req->elem) {
        virtqueue_detach_element(q->vq, req->elem, 0);
    } else {
        vring_drop(&q->ring, &req->chain);
    }
    request_put(req);
    block_queue_request_end(&q->common);
}

typedef struct QueueFault {
    VirtIODevice *vdev;
    unsigned index;
    const char *what;
} QueueFault;

const char *virtio_blk_id(VirtIODevice *vdev)
{
    DeviceState *dev = DEVICE(vdev);

    return dev->id ?: (dev->parent_bus && dev->parent_bus->parent ?
                       dev->parent_bus->parent->id : NULL);
}

/* The status register and the config interrupt belong to the main loop. */
static void queue_fault_bh(void *opaque)
{
    g_autofree QueueFault *fault = opaque;
    DeviceState *dev = DEVICE(fault->vdev);
    const char *id = virtio_blk_id(fault->vdev);

    /* Unplugged meanwhile, there is no status and no interrupt left. */
    if (VIRTIO_BLK(dev)->queues) {
        virtio_error(fault->vdev, "virtio-blk '%s' queue %u: %s",
                     id ?: "(no id)", fault->index, fault->what);
    }
    object_unref(OBJECT(dev));
}

void virtio_blk_queue_fault(VirtIOBlkQueue *q, const char *what)
{
    QueueFault *fault;

    if (q->faulted) {
        return;
    }
    q->faulted = true;
    if (q->vdev->broken) {
        return;     /* the base's reader has said it already */
    }
    fault = g_new(QueueFault, 1);
    *fault = (QueueFault) {
        .vdev = q->vdev,
        .index = q->common.index,
        .what = what,
    };
    object_ref(OBJECT(q->vdev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), queue_fault_bh, fault);
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

/* AioContext handlers for the host notifier */

static void queue_kick_read(EventNotifier *kick)
{
    VirtIOBlkQueue *q = container_of(kick, VirtIOBlkQueue, kick);

    if (event_notifier_test_and_clear(kick)) {
        if (unlikely(!q->started)) {
            queue_want_ring(q);
        }
        queue_work(q);
    }
}

static bool queue_kick_poll(void *opaque)
{
    VirtIOBlkQueue *q = container_of((EventNotifier *)opaque, VirtIOBlkQueue,
                                     kick);

    if (unlikely(q->starved)) {
        q->left_behind = true;
        return false;
    }
    return q->started && !queue_is_stuck(q) && !queue_empty(q);
}

static void queue_kick_poll_ready(EventNotifier *kick)
{
    queue_work(container_of(kick, VirtIOBlkQueue, kick));
}

static void queue_kick_poll_begin(EventNotifier *kick)
{
    VirtIOBlkQueue *q = container_of(kick, VirtIOBlkQueue, kick);

    if (q->started) {
        queue_set_notification(q, false);
    }
}

static void queue_kick_poll_end(EventNotifier *kick)
{
    VirtIOBlkQueue *q = container_of(kick, VirtIOBlkQueue, kick);

    /* The AioContext polls once more behind this. */
    if (q->started) {
        queue_set_notification(q, true);
    }
}

void virtio_blk_queue_handle_output(VirtIOBlkQueue *q)
{
    queue_work(q);
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
    virtio_blk_run_submit(q);
    defer_call_end();
}

static void queue_start_listening(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);
    bool in_main = common->ctx == qemu_get_aio_context();

    q->direct_irq = in_main || !q->guest_notifier;
    q->ring.direct_only = !in_main;
    if (q->started && !queue_get_notification(q)) {
        queue_set_notification(q, true);
    }
    if (q->attached && q->has_kick) {
        aio_set_event_notifier(common->ctx, &q->kick, queue_kick_read,
                               queue_kick_poll, queue_kick_poll_ready);
        aio_set_event_notifier_poll(common->ctx, &q->kick,
                                    queue_kick_poll_begin,
                                    queue_kick_poll_end);
    }
    if (q->started && qatomic_xchg(&q->restart, false)) {
        queue_restart_held(q);
    }
    /* Kicks may have come while nobody listened. */
    queue_work(q);
}

static void queue_stop_listening(BlockQueue *common)
{
    VirtIOBlkQueue *q = container_of(common, VirtIOBlkQueue, common);

    if (q->attached && q->has_kick) {
        aio_set_event_notifier(common->ctx, &q->kick, NULL, NULL, NULL);
    }
}

const BlockQueueOps virtio_blk_queue_ops = {
    .start_listening = queue_start_listening,
    .stop_listening = queue_stop_listening,
};
