/*
 * virtio-blk: which reader a ring has, and which thread
 *
 * Control: BQL, with the queue quiesced unless told otherwise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_VIRTIO_BLK_RING_H
#define HW_BLOCK_VIRTIO_BLK_RING_H

#include "virtio-blk-request.h"

/** virtio_blk_ring_is_set: has the driver told where the ring is?  Always. */
bool virtio_blk_ring_is_set(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_start: take the ring up from what the driver has configured.
 *
 * Does nothing for a ring that is up already or not there.  May move the queue.
 */
void virtio_blk_ring_start(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_hand_over: give the base's VirtQueue the position in the
 * ring, which stays in use.
 */
void virtio_blk_ring_hand_over(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_attach: choose a reader and give it the position.
 *
 * May move the queue to the main loop.
 */
void virtio_blk_ring_attach(VirtIOBlkQueue *q);

/** virtio_blk_ring_detach: let go of the ring; its position is forgotten. */
void virtio_blk_ring_detach(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_is_current: false if the driver has told other addresses or
 * features since the ring was attached.
 *
 * Drivers reset the device or the queue first, but early firmware and old
 * drivers negotiate when they have kicked already.  Owner thread or BQL.
 */
bool virtio_blk_ring_is_current(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_can_be_native: whether our reader could read it in @view.
 * Always.
 */
bool virtio_blk_ring_can_be_native(VirtIOBlkQueue *q, const RingView *view);

/**
 * virtio_blk_queue_update_context: have the queue in the right thread.
 *
 * That of its IOThread, or the main loop's if it can only be served there.
 */
void virtio_blk_queue_update_context(VirtIOBlkQueue *q);

/** virtio_blk_queue_drop_held: forget the failed requests, unanswered. */
void virtio_blk_queue_drop_held(VirtIOBlkQueue *q);

#endif /* HW_BLOCK_VIRTIO_BLK_RING_H */
