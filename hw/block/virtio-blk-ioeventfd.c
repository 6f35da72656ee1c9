/*
 * virtio-blk: kicks and interrupts by eventfd
 *
 *    driver                  host notifier             guest notifier
 *      | kick  --- ioeventfd ------> queue's thread ----------> interrupt
 *      |
 *      + kick  --- a call (no ioeventfd for it, or too early)
 *                     |
 *                     +- not started:  start; the notifiers are signalled
 *                     +- started:      signal the host notifier
 *                     +- no eventfds:  run the queue here, in the main loop
 *
 * Without notifiers of both kinds a queue cannot leave the main loop.  All of
 * this file runs under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/virtio/virtio-bus.h"
#include "virtio-blk-control.h"

static int assign_host_notifiers(VirtIOBlock *s, unsigned n, bool assign)
{
    VirtioBusState *bus = VIRTIO_BUS(qdev_get_parent_bus(DEVICE(s)));
    int ret = 0;
    unsigned done;

    /* Use one transaction, or each of n eventfds would update all n. */
    memory_region_transaction_begin();
    for (done = 0; done < n && ret == 0; done++) {
        ret = virtio_bus_set_host_notifier(bus, done, assign);
    }
    memory_region_transaction_commit();

    if (ret != 0 || !assign) {
        /* The transaction needed the eventfds open; now they may go. */
        if (assign) {
            assign_host_notifiers(s, done - 1, false);
        } else {
            for (unsigned i = 0; i < n; i++) {
                virtio_bus_cleanup_host_notifier(bus, i);
            }
        }
    }
    return ret;
}

int virtio_blk_start_ioeventfd(VirtIODevice *vdev)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    BusState *bus = qdev_get_parent_bus(DEVICE(s));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    unsigned n = s->conf.num_queues;
    int ret;

    /* Calls have served the device if an earlier start got no eventfds. */
    virtio_blk_stop_calls(s);
    if (s->common.state != BLOCK_QUEUE_DEVICE_STOPPED) {
        return 0;
    }
    block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_STARTING);

    /* Tools may look for these messages, so they have QEMU's words. */
    ret = k->set_guest_notifiers(bus->parent, n, true);
    if (ret != 0) {
        error_report("virtio-blk failed to set guest notifier (%d), "
                     "ensure -accel kvm is set.", ret);
        goto fail;
    }
    ret = assign_host_notifiers(s, n, true);
    if (ret != 0) {
        error_report("virtio-blk failed to set host notifier (%d)", ret);
        k->set_guest_notifiers(bus->parent, n, false);
        goto fail;
    }

    block_queue_device_place_node(&s->common);
    block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_NOTIFIERS);
    virtio_blk_start_queues(s);
    return 0;

fail:
    block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_STOPPED);
    return -ENOSYS;
}

void virtio_blk_stop_ioeventfd(VirtIODevice *vdev)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    BusState *bus = qdev_get_parent_bus(DEVICE(s));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    unsigned n = s->conf.num_queues;

    if (s->common.state != BLOCK_QUEUE_DEVICE_NOTIFIERS) {
        return;
    }
    block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_STOPPING);

    virtio_blk_stop_queues(s);
    assign_host_notifiers(s, n, false);
    blk_drain(s->blk);
    block_queue_device_release_node(&s->common);
    k->set_guest_notifiers(bus->parent, n, false);
    block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_STOPPED);
}

void virtio_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    if (!virtio_blk_vm_runs()) {
        return;     /* every ring is looked at when the VM goes on */
    }
    if (s->common.state == BLOCK_QUEUE_DEVICE_STOPPED) {
        /* Drivers may kick before they set DRIVER_OK. */
        if (virtio_device_ioeventfd_enabled(vdev)) {
            virtio_device_start_ioeventfd(vdev);
        }
        virtio_blk_start_calls(s);
    }
    switch (s->common.state) {
    case BLOCK_QUEUE_DEVICE_NOTIFIERS:
        /* The transport had no eventfd for this kick: pass it on. */
        event_notifier_set(virtio_queue_get_host_notifier(vq));
        break;
    case BLOCK_QUEUE_DEVICE_CALLS:
        virtio_blk_start_new_rings(s);
        virtio_blk_queue_handle_output(
            virtio_blk_get_queue(s, virtio_get_queue_index(vq)));
        break;
    default:
        break;
    }
}
