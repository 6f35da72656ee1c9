/*
 * virtio-blk: memory for lists of segments
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *    segments      list comes from
 *    1 to 4        the request itself
 *    to 32         SHORT: as many as fill a ring, merged runs included
 *    to seg_max    LONG: some
 *    to 2 * 1024   ANY: one, for drivers that do not look at seg_max
 *                  (twice, for chains whose data needs a list of its own)
 *
 * All are made with the queue.  What a chain needs is known only when it has
 * been taken, so nothing is taken while one of the pools is empty: the ring
 * holds what waits, and the return of a list makes the queue look at it again.
 * Memory that was never used is never touched.
 */

#include "qemu/osdep.h"
#include "virtio-blk-queue.h"

#define SHORT_SEGMENTS 32
#define LONG_BLOCKS 64

static void segments_init(VirtIOBlkSegments *segments, unsigned blocks,
                          unsigned len)
{
    segments->len = len;
    block_request_pool_init(&segments->pool, blocks,
                            len * sizeof(struct iovec));
}

void virtio_blk_segments_init(VirtIOBlkQueue *q)
{
    unsigned queue_size = q->dev->conf.queue_size;

    /* Two requests at least make a merged run. */
    segments_init(&q->segments[VIRTIO_BLK_SEGMENTS_SHORT],
                  queue_size + queue_size / 2, SHORT_SEGMENTS);
    /* Header and status come on top of the data that seg_max allows. */
    segments_init(&q->segments[VIRTIO_BLK_SEGMENTS_LONG], LONG_BLOCKS,
                  MAX(queue_size, 128) + 2);
    segments_init(&q->segments[VIRTIO_BLK_SEGMENTS_ANY], 1,
                  2 * VRING_MAX_SEGMENTS);
}

void virtio_blk_segments_cleanup(VirtIOBlkQueue *q)
{
    for (unsigned i = 0; i < VIRTIO_BLK_SEGMENTS_SIZES; i++) {
        block_request_pool_cleanup(&q->segments[i].pool);
    }
}

static bool segments_left(const VirtIOBlkQueue *q)
{
    for (unsigned i = 0; i < VIRTIO_BLK_SEGMENTS_SIZES; i++) {
        if (!block_request_pool_has(&q->segments[i].pool)) {
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
    iov = block_request_pool_get(&q->segments[i].pool);
    if (unlikely(!block_request_pool_has(&q->segments[i].pool))) {
        q->supply = VIRTIO_BLK_SUPPLY_SHORT;
    }
    return iov;
}

void virtio_blk_segments_put(VirtIOBlkQueue *q, struct iovec *iov,
                             uint8_t size)
{
    block_request_pool_put(&q->segments[size].pool, iov);
    if (unlikely(q->supply != VIRTIO_BLK_SUPPLY_ENOUGH) && segments_left(q)) {
        if (q->supply == VIRTIO_BLK_SUPPLY_SHORT_LOOK) {
            block_queue_look(&q->common);
        }
        q->supply = VIRTIO_BLK_SUPPLY_ENOUGH;
    }
}
