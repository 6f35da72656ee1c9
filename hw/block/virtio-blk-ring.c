/*
 * virtio-blk: which reader a ring has, and which thread that lets it have
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *    the ring lies                            reader      thread
 *    in plain RAM                             vring.h     the queue's own
 *    in plain RAM, and a buffer is MMIO       vring.h     the main loop
 *    translated, in_order, big-endian legacy  the base's  the queue's own
 *    elsewhere, perhaps in MMIO               the base's  the main loop
 *
 * While our reader has a ring its position is ours; it comes from the base's
 * VirtQueue and goes back there.  All of it is control: BQL, queue quiesced.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "exec/memory.h"
#include "virtio-blk-queue.h"

bool virtio_blk_ring_is_set(VirtIOBlkQueue *q)
{
    return virtio_queue_get_desc_addr(q->vdev, q->common.index) != 0;
}

void virtio_blk_queue_drop_held(VirtIOBlkQueue *q)
{
    while (q->held) {
        VirtIOBlkRequest *req = q->held;

        q->held = req->next;
        if (req->elem) {
            virtqueue_detach_element(q->vq, req->elem, 0);
        } else {
            vring_drop(&q->ring, &req->chain);
        }
        virtio_blk_request_release(req);
        block_request_pool_put(&q->requests, req);
    }
}

static bool holds_native(VirtIOBlkQueue *q)
{
    for (VirtIOBlkRequest *req = q->held; req; req = req->next) {
        if (!req->elem) {
            return true;
        }
    }
    return false;
}

/*
 * Set the ring up from what the driver has configured.  Requests that were
 * held back when the VM was stopped keep what they know of the old ring.
 */
static void ring_attach(VirtIOBlkQueue *q)
{
    VirtIODevice *vdev = q->vdev;
    unsigned i = q->common.index;
    VRingConfig config;

    vring_config_from_vdev(&config, vdev, i);
    if (!holds_native(q) && q->ring.iov) {
        vring_cleanup(&q->ring);
    }
    if (!q->ring.iov) {
        vring_setup(&q->ring, &config, vdev->dma_as);
    }
    q->native = vring_attach(&q->ring, q->dev->view_source);
    if (q->native && !vring_load_from_vdev(&q->ring, vdev, i)) {
        virtio_blk_queue_fault(q, "ring indexes are further apart than the "
                               "ring is long");
    }
    if (!q->native && holds_native(q)) {
        virtio_blk_queue_drop_held(q);
        virtio_blk_queue_fault(q, "the ring's memory went away with failed "
                               "requests in it");
    }
}

static bool segments_are_slow(const struct iovec *iov, unsigned n)
{
    ram_addr_t offset;

    for (unsigned i = 0; i < n; i++) {
        if (!memory_region_from_host(iov[i].iov_base, &offset)) {
            return true;
        }
    }
    return false;
}

/* Of an element that came with a migration the addresses alone tell. */
static bool request_is_slow(const VirtIOBlkRequest *req)
{
    const VirtQueueElement *elem = req->elem;

    return elem ? segments_are_slow(elem->out_sg, elem->out_num) ||
                  segments_are_slow(elem->in_sg, elem->in_num)
                : req->chain.slow != NULL;
}

/* Failed requests that will write to MMIO when they end (see vring_push()). */
static bool holds_slow(VirtIOBlkQueue *q)
{
    for (VirtIOBlkRequest *req = q->held; req; req = req->next) {
        if (request_is_slow(req)) {
            return true;
        }
    }
    return false;
}

void virtio_blk_queue_move_home(VirtIOBlkQueue *q)
{
    q->main_only |= holds_slow(q);
    /* Without notifiers kicks and interrupts are calls that need the BQL. */
    block_queue_move(&q->common,
                     q->main_only || !q->has_kick ? qemu_get_aio_context() :
                     queue_iothreads_context(&q->dev->map, q->common.index));
}

/*
 * The ring is in RAM that we see and the base's reader is needed all the same,
 * or it is not in RAM at all.  The ring, or what hangs on it, may be MMIO, of
 * which an IOThread has to keep its hands (see vring_take()).
 */
static bool ring_may_be_mmio(VirtIOBlkQueue *q)
{
    const VRingConfig *c = &q->ring.config;

    return !q->native && !q->dev->view_source->partial && !c->in_order &&
           !c->big_endian;
}

void virtio_blk_ring_start(VirtIOBlkQueue *q)
{
    if (!q->started && virtio_blk_ring_is_set(q)) {
        q->faulted = false;
        q->wants_main = false;
        ring_attach(q);
        q->started = true;
        if (ring_may_be_mmio(q)) {
            q->main_only = true;
            virtio_blk_queue_move_home(q);
        }
    }
}

void virtio_blk_ring_hand_over(VirtIOBlkQueue *q)
{
    if (q->started && q->native && !q->vdev->broken) {
        vring_store_to_vdev(&q->ring, q->vdev, q->common.index);
    }
}

void virtio_blk_ring_stop(VirtIOBlkQueue *q)
{
    if (q->native) {
        vring_detach(&q->ring);
        q->native = false;
    }
    q->started = false;
}

bool virtio_blk_ring_is_direct(VirtIOBlkQueue *q)
{
    VRingConfig config;
    VRing probe = {};
    bool direct;

    vring_config_from_vdev(&config, q->vdev, q->common.index);
    vring_setup(&probe, &config, q->vdev->dma_as);
    direct = vring_attach(&probe, q->dev->view_source);
    if (direct) {
        vring_detach(&probe);
    }
    vring_cleanup(&probe);
    return direct;
}
