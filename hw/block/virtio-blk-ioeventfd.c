/*
 * virtio-blk: kicks and interrupts by eventfd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
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
 * Without notifiers of both kinds a queue can not leave the main loop.  BQL.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "hw/virtio/virtio-bus.h"
#include "virtio-blk-queue.h"

static int assign_host_notifiers(VirtIOBlock *s, unsigned n, bool assign)
{
    VirtioBusState *bus = VIRTIO_BUS(qdev_get_parent_bus(DEVICE(s)));
    int ret = 0;
    unsigned done;

    /* One transaction: an update of all eventfds for each would be n^2. */
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

void virtio_blk_place_node(VirtIOBlock *s)
{
    Error *err = NULL;

    if (!queue_iothreads_place_node(&s->map, s->blk, &err)) {
        /* Requests run all the same. */
        warn_report_err(err);
    }
}

int virtio_blk_start_ioeventfd(VirtIODevice *vdev)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    BusState *bus = qdev_get_parent_bus(DEVICE(s));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    unsigned n = s->conf.num_queues;
    int ret;

    /* It may have done without until now: eventfds were short then. */
    virtio_blk_stop_calls(s);
    if (s->life != VIRTIO_BLK_STOPPED) {
        return 0;
    }
    virtio_blk_set_life(s, VIRTIO_BLK_STARTING);

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

    virtio_blk_place_node(s);
    virtio_blk_set_life(s, VIRTIO_BLK_NOTIFIERS);
    virtio_blk_start_queues(s);
    return 0;

fail:
    virtio_blk_set_life(s, VIRTIO_BLK_STOPPED);
    return -ENOSYS;
}

void virtio_blk_stop_ioeventfd(VirtIODevice *vdev)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    BusState *bus = qdev_get_parent_bus(DEVICE(s));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    unsigned n = s->conf.num_queues;

    if (s->life != VIRTIO_BLK_NOTIFIERS) {
        return;
    }
    virtio_blk_set_life(s, VIRTIO_BLK_STOPPING);

    virtio_blk_stop_queues(s);
    assign_host_notifiers(s, n, false);
    blk_drain(s->blk);
    queue_iothreads_release_node(&s->map, s->blk);
    k->set_guest_notifiers(bus->parent, n, false);
    virtio_blk_set_life(s, VIRTIO_BLK_STOPPED);
}

void virtio_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    if (!virtio_blk_vm_runs()) {
        return;     /* every ring is looked at when the VM goes on */
    }
    if (s->life == VIRTIO_BLK_STOPPED) {
        /* Drivers may kick before they set DRIVER_OK. */
        if (virtio_device_ioeventfd_enabled(vdev)) {
            virtio_device_start_ioeventfd(vdev);
        }
        virtio_blk_start_calls(s);
    }
    switch (s->life) {
    case VIRTIO_BLK_NOTIFIERS:
        /* The transport had no eventfd for this kick: pass it on. */
        event_notifier_set(virtio_queue_get_host_notifier(vq));
        break;
    case VIRTIO_BLK_CALLS:
        virtio_blk_start_late(s);
        virtio_blk_queue_handle_output(&s->queues[virtio_get_queue_index(vq)]);
        break;
    default:
        break;
    }
}
