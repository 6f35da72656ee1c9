/*
 * virtio-blk: report a queue's position in its ring to the monitor
 *
 *     x-query-virtio-queue-status, -element       (main loop, BQL)
 *         |  VirtioDeviceClass.queue_sync
 *         v
 *     queue is listening:  a bottom half in the owner's thread --+
 *     queue is quiesced:   control reads the position itself ----+-> VirtQueue
 *     QEMU's virtio.c reads the ring:  the position is there already
 *
 * A query does not drain the queue, so it also works when a request hangs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "block/aio-wait.h"
#include "virtio-blk-control.h"

typedef struct QueueQuery {
    VirtIOBlkQueue *q;
    bool answered;
} QueueQuery;

/*
 * This runs in the owner thread.  Control may have quiesced or moved the queue
 * meanwhile.
 */
static void queue_query_bh(void *opaque)
{
    QueueQuery *query = opaque;
    VirtIOBlkQueue *q = query->q;
    bool working = block_queue_listening(&q->common) ||
                   block_queue_in_flight(&q->common);

    if (q->common.ctx == qemu_get_current_aio_context() && working &&
        virtio_blk_queue_is_native(q)) {
        /* The thread that asked holds the BQL and waits. */
        vring_store_to_vdev(&q->ring, q->vdev, q->common.index);
        query->answered = true;
    }
}

void virtio_blk_queue_sync(VirtIODevice *vdev, uint32_t n)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    QueueQuery query = {};

    GLOBAL_STATE_CODE();
    /* Waiting for the owner runs bottom halves, of which some are control. */
    while (!query.answered && n < s->common.num_queues &&
           virtio_blk_queue_is_native(virtio_blk_get_queue(s, n))) {
        query.q = virtio_blk_get_queue(s, n);
        if (block_queue_quiesced(&query.q->common)) {
            vring_store_to_vdev(&query.q->ring, vdev, n);
            return;
        }
        aio_wait_bh_oneshot(query.q->common.ctx, queue_query_bh, &query);
    }
}
