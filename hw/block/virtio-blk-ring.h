/*
 * virtio-blk: choose a ring's reader, and the thread that runs it
 *
 * These functions are control.  They run under the BQL with the queue
 * quiesced, unless their comment says otherwise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_VIRTIO_BLK_RING_H
#define HW_BLOCK_VIRTIO_BLK_RING_H

#include "virtio-blk-request.h"

/**
 * virtio_blk_ring_is_set: return whether the driver has configured the ring.
 *
 * Context: BQL; the queue need not be quiesced.
 */
bool virtio_blk_ring_is_set(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_start: begin to use the ring that the driver has configured.
 *
 * This does nothing if the ring is in use already, or if the driver has not
 * configured one.  It may move the queue to the main loop.
 */
void virtio_blk_ring_start(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_hand_over: copy the position in the ring to the VirtQueue.
 *
 * The ring stays in use.
 */
void virtio_blk_ring_hand_over(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_attach: choose a reader and give it the position.
 *
 * This may move the queue to the main loop.
 */
void virtio_blk_ring_attach(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_detach: stop using the ring, and forget the position in it.
 */
void virtio_blk_ring_detach(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_is_current: return whether the ring is still the one that
 * the driver has configured.
 *
 * A driver should reset the device or the queue before it changes addresses or
 * features.  But early firmware and old drivers negotiate after their first
 * kick.
 *
 * Context: owner thread, or BQL.
 */
bool virtio_blk_ring_is_current(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_can_be_native: return whether our reader could read the ring
 * in @view.
 *
 * Context: BQL; the queue need not be quiesced.
 */
bool virtio_blk_ring_can_be_native(VirtIOBlkQueue *q, const RingView *view);

/**
 * virtio_blk_queue_update_context: move the queue to the right thread.
 *
 * That is the main loop if only the main loop can serve the queue, and else
 * the thread of the queue's IOThread.
 */
void virtio_blk_queue_update_context(VirtIOBlkQueue *q);

/** virtio_blk_queue_drop_held: free the held requests without an answer. */
void virtio_blk_queue_drop_held(VirtIOBlkQueue *q);

#endif /* HW_BLOCK_VIRTIO_BLK_RING_H */
