/*
 * virtio-blk: a driver that breaks the rules
 *
 *    owner thread                         main loop
 *    virtio_blk_queue_fault() --- bh ---> virtio_error(): one line,
 *    the queue takes no more              DEVICE_NEEDS_RESET, config interrupt
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio.h"
#include "virtio-blk-queue.h"
#include "trace/trace-qemu_mq_hw_block.h"

typedef struct QueueFault {
    VirtIODevice *vdev;
    unsigned index;
    const char *what;
} QueueFault;

/* The status register and the config interrupt belong to the main loop. */
static void queue_fault_bh(void *opaque)
{
    g_autofree QueueFault *fault = opaque;
    DeviceState *dev = DEVICE(fault->vdev);
    VirtIOBlock *s = VIRTIO_BLK(dev);

    /*
     * Unplugged meanwhile, there is no status and no interrupt left.  Reset
     * meanwhile, the fault is none of the next driver's.
     */
    if (fault->index < s->common.nr_queues &&
        block_queue_faulted(&virtio_blk_get_queue(s, fault->index)->common)) {
        virtio_error(fault->vdev, "%s, queue %u: %s", s->common.name,
                     fault->index, fault->what);
    }
    object_unref(OBJECT(dev));
}

void virtio_blk_queue_fault(VirtIOBlkQueue *q, const char *what)
{
    QueueFault *fault;

    if (block_queue_faulted(&q->common)) {
        return;
    }
    trace_virtio_blk_fault(q->vdev, q->common.index, what);
    block_queue_event(&q->common, BLOCK_QUEUE_FAULT);
    if (q->vdev->broken) {
        return;     /* the base's reader has said it already */
    }
    fault = g_new(QueueFault, 1);
    *fault = (QueueFault) {
        .vdev = q->vdev,
        .index = q->common.index,
        .what = what,
    };
    object_ref(OBJECT(q->vdev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), queue_fault_bh, fault);
}
