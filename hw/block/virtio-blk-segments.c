/*
 * virtio-blk: the memory that a request has
 *
 *    segments      list comes from
 *    1 to 4        the request itself
 *    to 32         SHORT: as many as fill a ring, merged runs included
 *    to seg_max    LONG: some
 *    to 2 * 1024   ANY: one, for drivers that do not look at seg_max
 *                  (twice, for chains whose data needs a list of its own)
 *
 * The queue knows what a chain needs only after it has taken the chain.  So it
 * takes nothing while one of the slabs is empty.  Chains wait in the ring, and
 * the queue looks at the ring again when a list comes back.
 *
 * If kicks are calls, there is a list for every request of the ring, because a
 * kick must take all that the ring holds.  The VM may stop after that kick, or
 * migrate to a QEMU that would wait for another one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "virtio-blk-request.h"

#define SHORT_SEGMENTS 32
#define LONG_LISTS 64

void virtio_blk_segments_init(VirtIOBlkQueue *q)
{
    unsigned queue_size = q->dev->conf.queue_size;
    const unsigned len[VIRTIO_BLK_SEGMENTS_SIZES] = {
        [VIRTIO_BLK_SEGMENTS_SHORT] = SHORT_SEGMENTS,
        /* Header and status come on top of the data that seg_max allows. */
        [VIRTIO_BLK_SEGMENTS_LONG] = MAX(queue_size, 128) + 2,
        [VIRTIO_BLK_SEGMENTS_ANY] = 2 * VRING_MAX_SEGMENTS,
    };

    for (unsigned i = 0; i < VIRTIO_BLK_SEGMENTS_SIZES; i++) {
        q->segments[i].len = len[i];
        block_slab_init(&q->segments[i].slab, 0,
                        len[i] * sizeof(struct iovec));
    }
    virtio_blk_segments_set_max(q, false);
}

void virtio_blk_segments_set_max(VirtIOBlkQueue *q, bool all)
{
    /* Two requests at least make a merged run. */
    unsigned all_requests = VIRTQUEUE_MAX_SIZE + VIRTQUEUE_MAX_SIZE / 2;
    unsigned queue_size = q->dev->conf.queue_size;

    q->segments[VIRTIO_BLK_SEGMENTS_SHORT].slab.max =
        all ? all_requests : queue_size + queue_size / 2;
    q->segments[VIRTIO_BLK_SEGMENTS_LONG].slab.max =
        all ? all_requests : LONG_LISTS;
    q->segments[VIRTIO_BLK_SEGMENTS_ANY].slab.max = all ? all_requests : 1;
}

void virtio_blk_segments_cleanup(VirtIOBlkQueue *q)
{
    for (unsigned i = 0; i < VIRTIO_BLK_SEGMENTS_SIZES; i++) {
        block_slab_cleanup(&q->segments[i].slab);
    }
}

static bool segments_left(const VirtIOBlkQueue *q)
{
    for (unsigned i = 0; i < VIRTIO_BLK_SEGMENTS_SIZES; i++) {
        if (!block_slab_has(&q->segments[i].slab)) {
            return false;
        }
    }
    return true;
}

struct iovec *virtio_blk_segments_get(VirtIOBlkQueue *q, unsigned n,
                                      uint8_t *size)
{
    unsigned i = 0;
    struct iovec *iov;

    while (n > q->segments[i].len) {
        i++;
        assert(i < VIRTIO_BLK_SEGMENTS_SIZES);
    }
    *size = i;
    iov = block_slab_get(&q->segments[i].slab);
    if (unlikely(!block_slab_has(&q->segments[i].slab)) &&
        q->supply == VIRTIO_BLK_SUPPLY_ENOUGH) {
        q->supply = VIRTIO_BLK_SUPPLY_SHORT;
    }
    return iov;
}

void virtio_blk_segments_put(VirtIOBlkQueue *q, struct iovec *iov,
                             uint8_t size)
{
    block_slab_put(&q->segments[size].slab, iov);
    if (unlikely(q->supply != VIRTIO_BLK_SUPPLY_ENOUGH) && segments_left(q)) {
        if (q->supply == VIRTIO_BLK_SUPPLY_SHORT_LOOK) {
            block_queue_look(&q->common);
        }
        q->supply = VIRTIO_BLK_SUPPLY_ENOUGH;
    }
}

/*
 * Move the chain's segments to a list that stays with @req, which has @room.
 */
static void request_move_segments(VirtIOBlkRequest *req, unsigned room)
{
    VRingChain *chain = &req->chain;
    struct iovec *iov = req->inline_iov;

    if (room > VIRTIO_BLK_INLINE_SEGMENTS) {
        /* If @elem was allocated, its list need not come from a slab. */
        req->list = req->elem
                    ? g_new(struct iovec, room)
                    : virtio_blk_segments_get(req->queue, room,
                                              &req->list_size);
        iov = req->list;
    }
    if (chain->iov != iov) {
        memcpy(iov, chain->iov,
               (chain->out_num + chain->in_num) * sizeof(*iov));
        chain->iov = iov;
    }
}

void virtio_blk_request_init(VirtIOBlkRequest *req, VirtIOBlkQueue *q,
                             VirtQueueElement *elem)
{
    VRingChain *chain = &req->chain;
    unsigned room = chain->out_num + chain->in_num;

    req->next = NULL;
    req->queue = q;
    req->elem = elem;
    req->merged.nalloc = 0;
    req->rechecked = false;
    req->list = NULL;
    if (unlikely(virtio_blk_chain_needs_split(chain))) {
        /* The data's own list lies behind the chain's. */
        room *= 2;
    }
    if (unlikely(chain->iov != req->inline_iov ||
                 room > VIRTIO_BLK_INLINE_SEGMENTS)) {
        request_move_segments(req, room);
    }
}

void virtio_blk_request_release(VirtIOBlkRequest *req)
{
    if (unlikely(req->elem)) {
        g_free(req->list);
        g_free(req->elem);
        req->elem = NULL;
    } else if (unlikely(req->list)) {
        virtio_blk_segments_put(req->queue, req->list, req->list_size);
    }
    req->list = NULL;
}
