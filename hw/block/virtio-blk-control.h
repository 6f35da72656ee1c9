/*
 * virtio-blk: the functions that run under the BQL
 *
 *    virtio-blk-control.c     start, stop, reset
 *    virtio-blk-ioeventfd.c   kicks and interrupts by eventfd
 *    virtio-blk-migration.c   what travels with a migration
 *    virtio-blk-query.c       a queue's position in its ring
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_VIRTIO_BLK_CONTROL_H
#define HW_BLOCK_VIRTIO_BLK_CONTROL_H

#include "virtio-blk-ring.h"

/* virtio-blk-control.c */

/**
 * virtio_blk_queues_init: make the queues and their IOThreads.
 *
 * The queues do not take requests yet.
 *
 * Returns: true, or false with @errp set and nothing made.  It fails if the
 * properties ask for IOThreads that do not exist, or for IOThreads although
 * kicks cannot reach them.
 */
bool virtio_blk_queues_init(VirtIOBlock *s, Error **errp);

/** virtio_blk_queues_cleanup: free the queues, which must be stopped. */
void virtio_blk_queues_cleanup(VirtIOBlock *s);

/**
 * virtio_blk_vm_runs: return whether rings may be read.
 *
 * They may not be read while the VM is stopped or an incoming migration has
 * not ended.  Requests that the driver adds during this time are found when
 * the VM goes on.
 */
bool virtio_blk_vm_runs(void);

/**
 * virtio_blk_start_queues: begin to serve the rings.
 *
 * The device's state says whether kicks are eventfds or calls.  While the VM is
 * stopped this does nothing.
 */
void virtio_blk_start_queues(VirtIOBlock *s);

/** virtio_blk_stop_queues: end all work and give the rings back. */
void virtio_blk_stop_queues(VirtIOBlock *s);

/** virtio_blk_start_calls: begin to serve a device whose kicks are calls. */
void virtio_blk_start_calls(VirtIOBlock *s);

/** virtio_blk_stop_calls: undo virtio_blk_start_calls(), if it was called. */
void virtio_blk_stop_calls(VirtIOBlock *s);

/**
 * virtio_blk_start_new_rings: take into use the rings that the driver has set
 * up since the device was started.
 */
void virtio_blk_start_new_rings(VirtIOBlock *s);

/**
 * virtio_blk_schedule_ring_check: let the main loop look at all rings.
 *
 * The main loop attaches the rings again that are not current, see
 * virtio_blk_ring_is_current().
 *
 * Context: any thread.
 */
void virtio_blk_schedule_ring_check(VirtIOBlock *s);

/**
 * virtio_blk_any_held: return whether a queue has held requests.
 *
 * Context: BQL, while the VM is stopped.
 */
bool virtio_blk_any_held(VirtIOBlock *s);

/* QEMU's device model calls the rest. */

/** virtio_blk_reset: VirtioDeviceClass.reset; drops held requests. */
void virtio_blk_reset(VirtIODevice *vdev);

/** virtio_blk_queue_reset: VirtioDeviceClass.queue_reset, of queue @n. */
void virtio_blk_queue_reset(VirtIODevice *vdev, uint32_t n);

/** virtio_blk_queue_enable: VirtioDeviceClass.queue_enable, of queue @n. */
void virtio_blk_queue_enable(VirtIODevice *vdev, uint32_t n);

/* virtio-blk-ioeventfd.c: kicks and interrupts by eventfd */

/** virtio_blk_handle_output: VirtIOHandleOutput, a kick that is a call. */
void virtio_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq);

/**
 * virtio_blk_start_ioeventfd: VirtioDeviceClass.start_ioeventfd; starts the
 * queues.
 *
 * Returns: 0, or -ENOSYS if kicks remain calls.
 */
int virtio_blk_start_ioeventfd(VirtIODevice *vdev);

/** virtio_blk_stop_ioeventfd: VirtioDeviceClass.stop_ioeventfd. */
void virtio_blk_stop_ioeventfd(VirtIODevice *vdev);

/* virtio-blk-migration.c.  Context: BQL, with the queues settled. */

/** virtio_blk_pre_save: give the rings' positions to the VirtQueues. */
int virtio_blk_pre_save(void *opaque);

/** virtio_blk_save_device: VirtioDeviceClass.save; saves held requests. */
void virtio_blk_save_device(VirtIODevice *vdev, QEMUFile *f);

/**
 * virtio_blk_load_device: VirtioDeviceClass.load.
 *
 * Returns: 0, or -EINVAL after one message if the stream is invalid.
 */
int virtio_blk_load_device(VirtIODevice *vdev, QEMUFile *f, int version_id);

/* virtio-blk-query.c */

/**
 * virtio_blk_queue_sync: VirtioDeviceClass.queue_sync, of queue @n.
 *
 * This copies the position of our ring reader to the VirtQueue.  It waits for
 * the owner thread, but not for requests, and the queue goes on afterwards.
 *
 * Context: BQL, main loop thread.
 */
void virtio_blk_queue_sync(VirtIODevice *vdev, uint32_t n);

#endif /* HW_BLOCK_VIRTIO_BLK_CONTROL_H */
