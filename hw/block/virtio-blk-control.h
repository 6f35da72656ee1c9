/*
 * virtio-blk: what runs under the BQL
 *
 *    virtio-blk-control.c     start, stop, reset
 *    virtio-blk-ioeventfd.c   kicks and interrupts by eventfd
 *    virtio-blk-migration.c   what travels with a migration
 *    virtio-blk-query.c       where a queue is in its ring
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_VIRTIO_BLK_CONTROL_H
#define HW_BLOCK_VIRTIO_BLK_CONTROL_H

#include "virtio-blk-ring.h"

/* virtio-blk-control.c */

/**
 * virtio_blk_queues_init: make the queues, with their IOThreads; none listens.
 *
 * Returns: false with @errp set, and nothing made, when the properties ask for
 * IOThreads that there are not or that kicks could not reach.
 */
bool virtio_blk_queues_init(VirtIOBlock *s, Error **errp);

/** virtio_blk_queues_cleanup: undo that, with the queues stopped. */
void virtio_blk_queues_cleanup(VirtIOBlock *s);

/**
 * virtio_blk_vm_runs: may rings be read?
 *
 * They are not read while the VM is stopped or an incoming migration has not
 * ended.  What the driver adds meanwhile is found when the VM goes on.
 */
bool virtio_blk_vm_runs(void);

/**
 * virtio_blk_start_queues: serve the rings, as the device's life says.
 *
 * Does nothing while the VM is stopped.
 */
void virtio_blk_start_queues(VirtIOBlock *s);

/** virtio_blk_stop_queues: end all work and give the rings back. */
void virtio_blk_stop_queues(VirtIOBlock *s);

/** virtio_blk_start_calls: serve a device whose kicks are calls. */
void virtio_blk_start_calls(VirtIOBlock *s);

/** virtio_blk_stop_calls: end that, if it is how the device is served. */
void virtio_blk_stop_calls(VirtIOBlock *s);

/** virtio_blk_start_new_rings: take rings into use set up since the start. */
void virtio_blk_start_new_rings(VirtIOBlock *s);

/**
 * virtio_blk_schedule_ring_check: have the main loop look at all rings.
 *
 * It attaches those anew that are not current, see
 * virtio_blk_ring_is_current().  Any thread.
 */
void virtio_blk_schedule_ring_check(VirtIOBlock *s);

/**
 * virtio_blk_any_held: are there failed requests that wait for the VM to go on?
 * While it is stopped.
 */
bool virtio_blk_any_held(VirtIOBlock *s);

/* The rest is called by the base. */

/** virtio_blk_reset: VirtioDeviceClass.reset; drops held requests. */
void virtio_blk_reset(VirtIODevice *vdev);

/** virtio_blk_queue_reset: VirtioDeviceClass.queue_reset, of queue @n. */
void virtio_blk_queue_reset(VirtIODevice *vdev, uint32_t n);

/** virtio_blk_queue_enable: VirtioDeviceClass.queue_enable, of queue @n. */
void virtio_blk_queue_enable(VirtIODevice *vdev, uint32_t n);

/* virtio-blk-ioeventfd.c: kicks and interrupts by eventfd.  BQL */

/** virtio_blk_handle_output: VirtIOHandleOutput, a kick that is a call. */
void virtio_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq);

/**
 * virtio_blk_start_ioeventfd: VirtioDeviceClass.start_ioeventfd; starts the
 * queues.
 *
 * Returns: -ENOSYS when kicks remain calls.
 */
int virtio_blk_start_ioeventfd(VirtIODevice *vdev);

/** virtio_blk_stop_ioeventfd: VirtioDeviceClass.stop_ioeventfd. */
void virtio_blk_stop_ioeventfd(VirtIODevice *vdev);

/* virtio-blk-migration.c.  BQL, queues settled. */

/** virtio_blk_pre_save: hand the positions in the rings to the base. */
int virtio_blk_pre_save(void *opaque);

/** virtio_blk_save_device: VirtioDeviceClass.save, the held requests. */
void virtio_blk_save_device(VirtIODevice *vdev, QEMUFile *f);

/**
 * virtio_blk_load_device: VirtioDeviceClass.load.
 *
 * Returns: -EINVAL, with one line said, for a stream that cannot be.
 */
int virtio_blk_load_device(VirtIODevice *vdev, QEMUFile *f, int version_id);

/* virtio-blk-query.c */

/**
 * virtio_blk_queue_sync: VirtioDeviceClass.queue_sync, of queue @n.
 *
 * Tells the VirtQueue where our ring reader is, which goes on meanwhile.
 * Waits for the owner thread, but for no request.  BQL, main loop thread.
 */
void virtio_blk_queue_sync(VirtIODevice *vdev, uint32_t n);

#endif /* HW_BLOCK_VIRTIO_BLK_CONTROL_H */
