/*
 * Xen PV disk: control, apart from the connection with a frontend
 *
 *     from whom                what                    comes to
 *     block-queue-device.c     drain, move, stop, cont the queues
 *     block-queue-device.c     another size            keys "sectors", "state"
 *     block-queue-device.c     fault of a queue        state Closing
 *     timer, BQL               tick                    every queue that worked
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/block_int-common.h"
#include "xen-block.h"
#include "trace/trace-hw_block.h"

static void publish_sectors(XenBlockDevice *blockdev, uint64_t nr_sectors)
{
    trace_xen_block_size(object_get_typename(OBJECT(blockdev)),
                         blockdev->props.vdev.disk,
                         blockdev->props.vdev.partition, nr_sectors);
    qatomic_set__nocheck(&blockdev->disk.limits.nr_sectors, nr_sectors);
    xen_device_backend_printf(XEN_DEVICE(blockdev), "sectors", "%" PRIu64,
                              nr_sectors);
}

static uint64_t whole_sectors(const XenBlockDevice *blockdev, int64_t length)
{
    return block_queue_device_capacity(
        length, blockdev->props.conf.logical_block_size) /
        blockdev->disk.limits.sector_size;
}

void xen_block_publish_size(XenBlockDevice *blockdev)
{
    int64_t length = blk_getlength(blockdev->props.conf.blk);

    publish_sectors(blockdev, whole_sectors(blockdev, length));
}

void xen_block_set_sector_size(XenBlockDevice *blockdev, uint32_t bytes)
{
    assert(!blockdev->common.num_queues);
    if (bytes != blockdev->disk.limits.sector_size) {
        blockdev->disk.limits.sector_size = bytes;
        xen_block_publish_size(blockdev);
    }
}

/*
 * The disk has been resized, or its node may be another one now.  The main
 * loop may be waiting for a change of the graph to end, so this does not ask
 * the node, which polls, but looks at the size that the node has stored.
 */
static void xen_block_resized(BlockQueueDevice *common)
{
    XenBlockDevice *blockdev = container_of(common, XenBlockDevice, common);
    XenDevice *xendev = XEN_DEVICE(blockdev);
    BlockDriverState *bs = blk_bs(blockdev->props.conf.blk);
    int64_t length = bs ? bs->total_sectors * BDRV_SECTOR_SIZE : 0;
    uint64_t nr_sectors = whole_sectors(blockdev, length);

    if (nr_sectors != blockdev->disk.limits.nr_sectors) {
        publish_sectors(blockdev, nr_sectors);
        /* Frontends look at the size when the backend's state is written. */
        xen_device_backend_printf(xendev, "state", "%u",
                                  xen_device_backend_get_state(xendev));
    }
}

/* A stopped VM serves nothing.  Its queues start when it goes on. */

void xen_block_start_queues(XenBlockDevice *blockdev)
{
    if (blockdev->vm == XEN_BLOCK_VM_STOPPED) {
        return;
    }
    for (unsigned i = 0; i < blockdev->common.num_queues; i++) {
        BlockQueue *queue = block_queue_device_get(&blockdev->common, i);

        block_queue_event(queue, BLOCK_QUEUE_START);
        block_queue_event(queue, BLOCK_QUEUE_RING_UP);
        block_queue_quiesce_end(queue);
    }
}

/*
 * Stop the queues.  This polls, so a frontend may connect meanwhile, to queues
 * that stay stopped, or disconnect.
 */
static void xen_block_stop_queues(XenBlockDevice *blockdev)
{
    block_queue_device_quiesce(&blockdev->common);
    for (unsigned i = 0; i < blockdev->common.num_queues; i++) {
        block_queue_event(block_queue_device_get(&blockdev->common, i),
                          BLOCK_QUEUE_STOP);
    }
}

/*
 * Note whether the VM runs, and start or stop the queues.  Nothing changes at
 * the first start of the VM, because a new device has XEN_BLOCK_VM_RUNS.
 */
static void xen_block_set_vm(XenBlockDevice *blockdev, XenBlockVM to)
{
    if (blockdev->vm == to) {
        return;
    }
    blockdev->vm = to;
    if (to == XEN_BLOCK_VM_RUNS) {
        xen_block_start_queues(blockdev);
    } else {
        xen_block_stop_queues(blockdev);
    }
}

static void xen_block_vm_state_changed(BlockQueueDevice *common, bool running)
{
    XenBlockDevice *blockdev = container_of(common, XenBlockDevice, common);

    xen_block_set_vm(blockdev, running ? XEN_BLOCK_VM_RUNS
                                       : XEN_BLOCK_VM_STOPPED);
}

/*
 * A queue keeps mapped grants, buffers and requests that it has needed, for
 * later use.  It gives back what it has not used for a while.  If another queue
 * of the domain was refused grants, it also gives back some that it has used
 * lately.
 */

#define TICK_MS 10000

/* After this number of ticks without a request the queue keeps nothing. */
#define IDLE_TICKS XEN_BLOCK_GRANTS_IDLE_TICKS

static void trimmed(struct rcu_head *head)
{
    g_free(head);
}

/*
 * Memory that a queue frees stays with the allocator of the owner thread.
 * QEMU's RCU thread gives such memory back to the host after it has run a
 * callback.
 */
static void trim_memory(void)
{
    call_rcu1(g_new(struct rcu_head, 1), trimmed);
}

/*
 * Return whether the owner thread has not handled the last tick yet.  In this
 * case the tick becomes one that shares, if @share is set.  Control counts no
 * further tick until the thread has handled the last one, so that both count
 * the same number.
 */
static bool queue_is_late(XenBlockQueue *q, bool share)
{
    if (qatomic_read(&q->tick) == XEN_BLOCK_TICK_NONE) {
        return false;
    }
    if (share) {
        qatomic_cmpxchg(&q->tick, XEN_BLOCK_TICK, XEN_BLOCK_TICK_SHARE);
    }
    return true;
}

static void queue_tick(XenBlockQueue *q, bool share)
{
    uint64_t requests = qatomic_read__nocheck(&q->common.stats.requests);
    XenBlockTick tick = share ? XEN_BLOCK_TICK_SHARE : XEN_BLOCK_TICK;

    if (queue_is_late(q, share)) {
        block_queue_look(&q->common);
        return;
    }
    if (requests != q->requests_at_tick) {
        q->requests_at_tick = requests;
        q->idle_ticks = 0;
    } else if (q->idle_ticks == IDLE_TICKS + 2) {
        return;     /* the queue keeps no grants, so its thread may sleep */
    } else if (++q->idle_ticks == IDLE_TICKS + 1) {
        tick = XEN_BLOCK_TICK_IDLE;
    } else if (q->idle_ticks == IDLE_TICKS + 2) {
        trim_memory();
        return;
    }
    qatomic_set(&q->tick, tick);
    block_queue_look(&q->common);
}

static void xen_block_tick(void *opaque)
{
    XenBlockDevice *blockdev = opaque;
    bool share = xen_block_budget_was_refused(&blockdev->disk.budget);

    for (unsigned i = 0; i < blockdev->common.num_queues; i++) {
        queue_tick(xen_block_get_queue(blockdev, i), share);
    }
    xen_block_tick_queues(blockdev);
}

void xen_block_tick_queues(XenBlockDevice *blockdev)
{
    if (blockdev->common.num_queues) {
        timer_mod(blockdev->tick_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + TICK_MS);
    }
}

static void xen_block_faulted(BlockQueueDevice *common, BlockQueue *queue,
                              const char *what)
{
    XenBlockDevice *blockdev = container_of(common, XenBlockDevice, common);

    if (xen_guest_log_may_say(&blockdev->disk.domain->log)) {
        error_report("%s: %s, closing", queue->name, what);
    }
    xen_device_backend_set_state(XEN_DEVICE(blockdev), XenbusStateClosing);
}

static void xen_block_move_queue(BlockQueueDevice *common, unsigned index)
{
    block_queue_move(block_queue_device_get(common, index),
                     queue_iothreads_context(&common->map, index));
}

const BlockQueueDeviceOps xen_block_device_ops = {
    .resized = xen_block_resized,
    .faulted = xen_block_faulted,
    .vm_state_changed = xen_block_vm_state_changed,
    .move_queue = xen_block_move_queue,
    /* A node that was replaced or reopened may have another size. */
    .drain_may_resize = true,
    .ignore_node_error = true,
};

void xen_block_control_begin(XenBlockDevice *blockdev)
{
    /* A stopped VM serves nothing, so the clock is one that stops with it. */
    blockdev->tick_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, xen_block_tick,
                                        blockdev);
    block_queue_device_begin(&blockdev->common);
}

void xen_block_control_end(XenBlockDevice *blockdev)
{
    block_queue_device_end(&blockdev->common);
    g_clear_pointer(&blockdev->tick_timer, timer_free);
}
