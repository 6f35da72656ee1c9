/*
 * virtio-blk: the end of a request
 *
 *    answered     gathered, given back to the ring by the batch
 *    held         failed, werror or rerror is "stop": waits for "cont"
 *    abandoned    the driver has broken the rules: the ring does not get it
 *
 * Everything here runs in the queue's owner thread.  The AIO backends bracket
 * their completion loops by defer_call_begin/end, as virtio-blk-queue.c does a
 * batch, so that the flush of answered requests comes once behind each of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/defer-call.h"
#include "hw/virtio/virtio-bus.h"
#include "virtio-blk-request.h"
#include "trace/trace-hw_block.h"
#include "trace/trace-qemu_mq_hw_block.h"

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
        if (!virtio_blk_queue_is_native(q)) {
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
        if (!virtio_blk_queue_is_native(q)) {
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

void virtio_blk_queue_remind(VirtIOBlkQueue *q)
{
    if (!virtio_blk_queue_is_native(q)) {
        queue_flush_base(q);
    } else if (vring_driver_waits(&q->ring)) {
        queue_notify(q);
    }
}

/* Show the driver the requests from @req on. */
static void queue_give_back(VirtIOBlkQueue *q, VirtIOBlkRequest *req)
{
    for (VirtIOBlkRequest *r = req; r; r = r->next) {
        queue_push(q, r);
    }
    if (!virtio_blk_queue_is_native(q)) {
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
    bool guarded = virtio_blk_queue_guard_begin(q);
    unsigned n = 0;

    q->flush_pending = false;
    q->done = NULL;

    if (unlikely(q->vdev->disabled)) {
        /* Without bus mastering the device does not write to the rings. */
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

    virtio_blk_queue_guard_end(q, guarded);
    /* Do this last, because control may own the queue afterwards. */
    block_queue_requests_end(&q->common, n);
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

    trace_virtio_blk_hold(q->common.name, req);
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
