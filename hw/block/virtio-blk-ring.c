/*
 * virtio-blk: the reader of each ring, and the thread that may use the reader
 *
 *    the ring lies                            reader      thread
 *    in plain RAM                             vring.h     the queue's own
 *    in plain RAM, and a buffer is MMIO       vring.h     the main loop
 *    in RAM behind a translating vIOMMU       virtio.c    the queue's own
 *    in_order, big-endian legacy              virtio.c    the main loop
 *    elsewhere, perhaps in MMIO               virtio.c    the main loop
 *
 * While the reader of vring.h has a ring, it also has the ring's position.  The
 * position comes from virtio.c's VirtQueue and goes back there.  All of this is
 * control: it runs under the BQL, and the queue is quiesced.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "exec/memory.h"
#include "virtio-blk-ring.h"

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
        block_slab_put(&q->requests, req);
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

/* Slots of the ring that failed requests fill. */
static unsigned held_slots(const VirtIOBlkQueue *q)
{
    unsigned n = 0;

    for (const VirtIOBlkRequest *req = q->held; req; req = req->next) {
        n += q->ring.packed ? req->chain.ndescs : 1;
    }
    return n;
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

/* For an element from a migration stream only its addresses tell. */
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

void virtio_blk_queue_update_context(VirtIOBlkQueue *q)
{
    if (holds_slow(q)) {
        q->place = VIRTIO_BLK_PLACE_MAIN;
    }
    /* Without notifiers kicks and interrupts are calls that need the BQL. */
    block_queue_move(&q->common,
                     q->place == VIRTIO_BLK_PLACE_MAIN || !q->guest_notifier
                     ? qemu_get_aio_context() :
                     queue_iothreads_context(&q->dev->common.map,
                                             q->common.index));
}

/*
 * virtio.c's reader does not check whether memory is RAM before it accesses it.
 * An IOThread must not access MMIO (see vring_take()), so the main loop serves
 * the rings that virtio.c reads.  Behind a vIOMMU that translates, virtio.c
 * reads all rings; there the queue stays in its thread.
 */
static bool reader_needs_main(VirtIOBlkQueue *q)
{
    return q->reader == VIRTIO_BLK_READER_BASE &&
           !q->dev->view_source->partial;
}

/*
 * Set the ring up from what the driver has configured.  Requests that were
 * held when the VM was stopped keep what they know of the old ring.
 */
void virtio_blk_ring_attach(VirtIOBlkQueue *q)
{
    VirtIODevice *vdev = q->vdev;
    unsigned i = q->common.index;
    VRingConfig config;
    bool native;

    vring_config_from_vdev(&config, vdev, i);
    if (!holds_native(q) && vring_is_set_up(&q->ring)) {
        vring_cleanup(&q->ring);
    }
    if (!vring_is_set_up(&q->ring)) {
        vring_setup(&q->ring, &config, vdev->dma_as);
    }
    native = vring_attach(&q->ring, q->dev->view_source);
    q->reader = native ? VIRTIO_BLK_READER_NATIVE : VIRTIO_BLK_READER_BASE;
    if (native && !vring_load_from_vdev(&q->ring, vdev, i)) {
        /* The VirtQueue keeps what it says. */
        virtio_blk_queue_fault(q, "ring indexes are further apart than the "
                               "ring is long");
        virtio_blk_ring_detach(q);
        return;
    }
    if (native && held_slots(q) > q->ring.inuse) {
        /* A migration stream said so, or the driver has moved an index. */
        virtio_blk_queue_drop_held(q);
        virtio_blk_queue_fault(q, "more failed requests than the ring has in "
                               "flight");
    }
    if (!native && holds_native(q)) {
        virtio_blk_queue_drop_held(q);
        virtio_blk_queue_fault(q, "the ring's memory went away with failed "
                               "requests in it");
    }
    if (reader_needs_main(q)) {
        q->place = VIRTIO_BLK_PLACE_MAIN;
        virtio_blk_queue_update_context(q);
    }
}

void virtio_blk_ring_start(VirtIOBlkQueue *q)
{
    if (block_queue_state(&q->common) != BLOCK_QUEUE_NO_RING ||
        !virtio_blk_ring_is_set(q)) {
        return;
    }
    if (q->place == VIRTIO_BLK_PLACE_WANTS_MAIN) {
        q->place = VIRTIO_BLK_PLACE_OWN;
    }
    block_queue_event(&q->common, BLOCK_QUEUE_RING_UP);
    virtio_blk_ring_attach(q);
}

void virtio_blk_ring_hand_over(VirtIOBlkQueue *q)
{
    if (virtio_blk_queue_is_native(q)) {
        vring_store_to_vdev(&q->ring, q->vdev, q->common.index);
    }
}

void virtio_blk_ring_detach(VirtIOBlkQueue *q)
{
    if (virtio_blk_queue_is_native(q)) {
        vring_detach(&q->ring);
    }
    q->reader = VIRTIO_BLK_READER_NONE;
}

bool virtio_blk_ring_is_current(VirtIOBlkQueue *q)
{
    const VRingConfig *then = &q->ring.config;
    VRingConfig now;

    if (q->reader != VIRTIO_BLK_READER_NATIVE) {
        return true;
    }
    vring_config_from_vdev(&now, q->vdev, q->common.index);
    return now.desc == then->desc && now.avail == then->avail &&
           now.used == then->used && now.num == then->num &&
           now.packed == then->packed && now.event_idx == then->event_idx &&
           now.indirect == then->indirect &&
           now.notify_on_empty == then->notify_on_empty &&
           now.in_order == then->in_order &&
           now.big_endian == then->big_endian;
}

bool virtio_blk_ring_can_be_native(VirtIOBlkQueue *q, const RingView *view)
{
    VRingConfig config;

    vring_config_from_vdev(&config, q->vdev, q->common.index);
    return vring_can_attach(&config, view);
}
