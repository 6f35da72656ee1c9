/*
 * virtio-blk: a driver that breaks the rules
 *
 *    owner thread                         main loop
 *    virtio_blk_queue_fault() --- bh ---> virtio_blk_report_faults(): one line,
 *    the queue takes no more              DEVICE_NEEDS_RESET, config interrupt
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "hw/virtio/virtio.h"
#include "virtio-blk-queue.h"
#include "trace/trace-qemu_mq_hw_block.h"

/* The status register and the config interrupt belong to the main loop. */
void virtio_blk_report_faults(VirtIOBlock *s)
{
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);
        const char *what = qatomic_xchg(&q->fault, NULL);

        /* A reset ends the fault; the next driver has not caused it. */
        if (what && block_queue_faulted(&q->common)) {
            virtio_error(q->vdev, "%s, queue %u: %s", s->common.name, i, what);
        }
    }
}

void virtio_blk_queue_fault(VirtIOBlkQueue *q, const char *what)
{
    if (block_queue_faulted(&q->common)) {
        return;
    }
    trace_virtio_blk_fault(q->vdev, q->common.index, what);
    block_queue_event(&q->common, BLOCK_QUEUE_FAULT);
    if (q->vdev->broken) {
        return;     /* virtio.c's reader has said it already */
    }
    qatomic_set(&q->fault, what);
    q->control->report_fault(q);
}
