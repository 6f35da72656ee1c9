/*
 * Xen PV disk: what reaches it from elsewhere than its frontend
 *
 *     from whom                what                    comes to
 *     block-queue-device.c     drain, move, stop, cont the rings
 *     block-queue-device.c     another size            keys "sectors", "state"
 *     timer, BQL               tick                    every ring that did work
 *     a ring, its thread       broken                  state Closing
 *
 * The last one ends in xenstore, which belongs to the main loop: a bottom half
 * carries it there.  It may run after the device was unplugged, or when the
 * connection that it is about has ended.
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

/* A stopped VM serves nothing: the rings are left as they are until it runs. */

void xen_block_serve_rings(XenBlockDevice *blockdev)
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

/* It polls: a frontend may connect, to rings that stay stopped, or go away. */
static void xen_block_halt_rings(XenBlockDevice *blockdev)
{
    block_queue_device_quiesce(&blockdev->common);
    for (unsigned i = 0; i < blockdev->common.num_queues; i++) {
        block_queue_event(block_queue_device_get(&blockdev->common, i),
                          BLOCK_QUEUE_STOP);
    }
}

/*
 * Also starts or stops the rings.  At the first start of the VM nothing
 * changes, because a new device has XEN_BLOCK_VM_RUNS.
 */
static void xen_block_set_vm(XenBlockDevice *blockdev, XenBlockVM to)
{
    if (blockdev->vm == to) {
        return;
    }
    blockdev->vm = to;
    if (to == XEN_BLOCK_VM_RUNS) {
        xen_block_serve_rings(blockdev);
    } else {
        xen_block_halt_rings(blockdev);
    }
}

static void xen_block_vm_state_changed(BlockQueueDevice *common, bool running)
{
    XenBlockDevice *blockdev = container_of(common, XenBlockDevice, common);

    xen_block_set_vm(blockdev, running ? XEN_BLOCK_VM_RUNS
                                       : XEN_BLOCK_VM_STOPPED);
}

/*
 * A ring keeps mapped grants, buffers and requests that it has needed, for
 * later use.  It gives back what it has not used for a while.  If another ring
 * of the domain was refused grants, it also gives back some that it has used
 * lately.
 */

#define TICK_MS 10000

/* After this number of ticks without a request the ring keeps nothing. */
#define IDLE_TICKS XEN_BLOCK_GRANTS_IDLE_TICKS

static void trimmed(struct rcu_head *head)
{
    g_free(head);
}

/*
 * Memory that a ring frees stays with the allocator of the ring's thread.
 * QEMU's RCU thread gives such memory back to the host after it has run a
 * callback.
 */
static void trim_memory(void)
{
    call_rcu1(g_new(struct rcu_head, 1), trimmed);
}

/*
 * Whether the ring's thread has not handled the last tick yet.  In this case
 * that tick becomes one that shares, if @share is set.  Control counts no
 * further tick until the thread has handled the last one, so that both count
 * the same number.
 */
static bool ring_is_late(XenBlockRing *ring, bool share)
{
    if (qatomic_read(&ring->tick) == XEN_BLOCK_TICK_NONE) {
        return false;
    }
    if (share) {
        qatomic_cmpxchg(&ring->tick, XEN_BLOCK_TICK, XEN_BLOCK_TICK_SHARE);
    }
    return true;
}

static void ring_tick(XenBlockRing *ring, bool share)
{
    uint64_t requests = qatomic_read__nocheck(&ring->common.stats.requests);
    XenBlockTick tick = share ? XEN_BLOCK_TICK_SHARE : XEN_BLOCK_TICK;

    if (ring_is_late(ring, share)) {
        block_queue_look(&ring->common);
        return;
    }
    if (requests != ring->requests_at_tick) {
        ring->requests_at_tick = requests;
        ring->idle_ticks = 0;
    } else if (ring->idle_ticks == IDLE_TICKS + 2) {
        return;     /* it has nothing left: let its thread sleep */
    } else if (++ring->idle_ticks == IDLE_TICKS + 1) {
        tick = XEN_BLOCK_TICK_IDLE;
    } else if (ring->idle_ticks == IDLE_TICKS + 2) {
        trim_memory();
        return;
    }
    qatomic_set(&ring->tick, tick);
    block_queue_look(&ring->common);
}

static void xen_block_tick(void *opaque)
{
    XenBlockDevice *blockdev = opaque;
    bool share = xen_block_budget_was_refused(&blockdev->disk.budget);

    for (unsigned i = 0; i < blockdev->common.num_queues; i++) {
        ring_tick(xen_block_get_ring(blockdev, i), share);
    }
    xen_block_tick_rings(blockdev);
}

void xen_block_tick_rings(XenBlockDevice *blockdev)
{
    if (blockdev->common.num_queues) {
        timer_mod(blockdev->tick_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + TICK_MS);
    }
}

typedef struct RingBrokenEvent {
    XenBlockDevice *blockdev;
    unsigned connection;
    unsigned index;
    uint32_t req_prod;
} RingBrokenEvent;

static void ring_broken_bh(void *opaque)
{
    RingBrokenEvent *event = opaque;
    XenBlockDevice *blockdev = event->blockdev;

    if (blockdev->common.num_queues &&
        blockdev->connections == event->connection) {
        if (xen_guest_log_may_say(&blockdev->disk.domain->log)) {
            error_report("%s, queue %u: request index %u is beyond the ring, "
                         "closing", blockdev->common.name, event->index,
                         event->req_prod);
        }
        xen_device_backend_set_state(XEN_DEVICE(blockdev),
                                     XenbusStateClosing);
    }
    object_unref(OBJECT(blockdev));
    g_free(event);
}

/* In the ring's thread; xenstore is for the main loop. */
static void ring_broken(XenBlockRing *ring, uint32_t req_prod)
{
    XenBlockDevice *blockdev = container_of(ring->disk, XenBlockDevice, disk);
    RingBrokenEvent *event = g_new(RingBrokenEvent, 1);

    *event = (RingBrokenEvent) {
        .blockdev = blockdev,
        .connection = blockdev->connections,
        .index = ring->common.index,
        .req_prod = req_prod,
    };
    object_ref(OBJECT(blockdev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), ring_broken_bh, event);
}

static const XenBlockRingOps ring_ops = {
    .flush = xen_block_ring_flush,
    .broken = ring_broken,
};

static void xen_block_move_queue(BlockQueueDevice *common, unsigned index)
{
    block_queue_move(block_queue_device_get(common, index),
                     queue_iothreads_context(&common->map, index));
}

const BlockQueueDeviceOps xen_block_device_ops = {
    .resized = xen_block_resized,
    .vm_state_changed = xen_block_vm_state_changed,
    .move_queue = xen_block_move_queue,
    /* A node that was replaced or reopened may have another size. */
    .drain_may_resize = true,
    .ignore_node_error = true,
};

void xen_block_control_begin(XenBlockDevice *blockdev)
{
    blockdev->disk.ops = &ring_ops;
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
