/*
 * Xen PV disk: what reaches it from elsewhere than its frontend
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *     from whom                what                    comes to
 *     block layer, BQL         drained_begin, _end     every ring
 *     monitor, BQL             set_iothread            one ring
 *     run state, BQL           stop, cont              every ring
 *     timer, BQL               tick                    every ring that did work
 *     block layer, any thread  resize_cb               keys "sectors", "state"
 *     a ring, its thread       ring_broken             state Closing
 *
 * The last two end in xenstore, which belongs to the main loop: a bottom half
 * carries them there.  It may run after the device was unplugged, or when the
 * connection that it is about has ended.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/block_int-common.h"
#include "hw/block/block-queue-device.h"
#include "system/runstate.h"
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

/* The sectors of all whole logical blocks: a last part of one is not used. */
static uint64_t whole_sectors(const XenBlockDevice *blockdev, int64_t length)
{
    int64_t block = blockdev->props.conf.logical_block_size;

    return length < 0 ? 0 : QEMU_ALIGN_DOWN(length, block) /
                            blockdev->disk.limits.sector_size;
}

void xen_block_publish_size(XenBlockDevice *blockdev)
{
    int64_t length = blk_getlength(blockdev->props.conf.blk);

    publish_sectors(blockdev, whole_sectors(blockdev, length));
}

void xen_block_set_sector_size(XenBlockDevice *blockdev, uint32_t bytes)
{
    assert(!blockdev->nr_rings);
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
static void xen_block_resized_bh(void *opaque)
{
    XenBlockDevice *blockdev = opaque;
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

/* Called in the node's thread; xenstore belongs to the main loop. */
static void xen_block_resized(void *opaque)
{
    XenBlockDevice *blockdev = opaque;

    qemu_bh_schedule(blockdev->resize_bh);
}

static void xen_block_drained_begin(void *opaque)
{
    XenBlockDevice *blockdev = opaque;

    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        block_queue_quiesce_begin(&blockdev->rings[i].common);
    }
}

static bool xen_block_drained_poll(void *opaque)
{
    XenBlockDevice *blockdev = opaque;

    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        if (!block_queue_quiesced(&blockdev->rings[i].common)) {
            return true;
        }
    }
    return false;
}

static void xen_block_drained_end(void *opaque)
{
    XenBlockDevice *blockdev = opaque;

    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        block_queue_quiesce_end(&blockdev->rings[i].common);
    }
    /* A node that was replaced or reopened may have another size. */
    xen_block_resized(blockdev);
}

static const BlockDevOps xen_block_dev_ops = {
    .resize_cb = xen_block_resized,
    .drained_begin = xen_block_drained_begin,
    .drained_poll = xen_block_drained_poll,
    .drained_end = xen_block_drained_end,
};

/* A stopped VM serves nothing: the rings are left as they are until it runs. */

void xen_block_serve_rings(XenBlockDevice *blockdev)
{
    for (unsigned i = 0; !blockdev->vm_stopped && i < blockdev->nr_rings;
         i++) {
        BlockQueue *queue = &blockdev->rings[i].common;

        block_queue_event(queue, BLOCK_QUEUE_START);
        block_queue_event(queue, BLOCK_QUEUE_RING_UP);
        block_queue_quiesce_end(queue);
    }
}

/* It polls: a frontend may connect, to rings that stay stopped, or go away. */
static void xen_block_halt_rings(XenBlockDevice *blockdev)
{
    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        block_queue_quiesce_begin(&blockdev->rings[i].common);
    }
    blk_drain(blockdev->props.conf.blk);
    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        block_queue_quiesce_wait(&blockdev->rings[i].common);
    }
    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        block_queue_event(&blockdev->rings[i].common, BLOCK_QUEUE_STOP);
    }
}

static void xen_block_vm_state_change(void *opaque, bool running,
                                      RunState state)
{
    XenBlockDevice *blockdev = opaque;

    if (blockdev->vm_stopped == !running) {
        return;     /* the first start: rings are served before, too */
    }
    blockdev->vm_stopped = !running;
    if (running) {
        xen_block_serve_rings(blockdev);
    } else {
        xen_block_halt_rings(blockdev);
    }
}

/*
 * Rings keep what they have needed: mapped grants, buffers, requests.  They
 * give it back in a while, and at once some of it if others in the domain
 * would have it.
 */

#define TICK_MS 10000

/* After so many ticks without a request nothing is kept. */
#define IDLE_TICKS XEN_BLOCK_GRANTS_IDLE_TICKS

static void trimmed(struct rcu_head *head)
{
    g_free(head);
}

/*
 * What rings free stays with the allocator of their threads.  QEMU's RCU
 * thread gives such memory back to the host after it has run a callback.
 */
static void trim_memory(void)
{
    call_rcu1(g_new(struct rcu_head, 1), trimmed);
}

static void ring_tick(XenBlockRing *ring, bool share)
{
    uint64_t requests = qatomic_read__nocheck(&ring->common.stats.requests);
    XenBlockTick tick = share ? XEN_BLOCK_TICK_SHARE : XEN_BLOCK_TICK;

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

    for (unsigned i = 0; i < blockdev->nr_rings; i++) {
        ring_tick(&blockdev->rings[i], share);
    }
    xen_block_tick_rings(blockdev);
}

void xen_block_tick_rings(XenBlockDevice *blockdev)
{
    if (blockdev->nr_rings) {
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

    if (blockdev->ready && blockdev->nr_rings &&
        blockdev->connections == event->connection) {
        if (xen_guest_log_may_say(&blockdev->disk.domain->log)) {
            error_report("%s %s: ring %u: request index %u is beyond the "
                         "ring, closing",
                         object_get_typename(OBJECT(blockdev)),
                         blockdev->vdev_name, event->index, event->req_prod);
        }
        xen_device_backend_set_state(XEN_DEVICE(blockdev),
                                     XenbusStateClosing);
    }
    object_unref(OBJECT(blockdev));
    g_free(event);
}

/* In the ring's thread; xenstore is for the main loop. */
static void xen_block_ring_broken(XenBlockDisk *disk, unsigned index,
                                  uint32_t req_prod)
{
    XenBlockDevice *blockdev = container_of(disk, XenBlockDevice, disk);
    RingBrokenEvent *event = g_new(RingBrokenEvent, 1);

    *event = (RingBrokenEvent) {
        .blockdev = blockdev,
        .connection = blockdev->connections,
        .index = index,
        .req_prod = req_prod,
    };
    object_ref(OBJECT(blockdev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), ring_broken_bh, event);
}

/* Those that are offered; a frontend may be using fewer of them, or none. */
static unsigned xen_block_num_queues(BlockQueueDevice *device)
{
    return XEN_BLOCK_DEVICE(device)->iothreads.num_queues;
}

static BlockQueue *xen_block_get_queue(BlockQueueDevice *device,
                                       unsigned index)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(device);

    return index < blockdev->nr_rings ? &blockdev->rings[index].common : NULL;
}

static IOThread *xen_block_get_iothread(BlockQueueDevice *device,
                                        unsigned index)
{
    return queue_iothreads_get(&XEN_BLOCK_DEVICE(device)->iothreads, index);
}

/*
 * Drains the disk meanwhile.  A ring that is not connected at present will
 * come up there.
 */
static bool xen_block_set_iothread(BlockQueueDevice *device, unsigned index,
                                   IOThread *iothread, Error **errp)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(device);
    BlockDriverState *bs;
    IOThread *old;

    GLOBAL_STATE_CODE();
    assert(index < blockdev->iothreads.num_queues);
    bs = blk_bs(blockdev->props.conf.blk);
    if (bs) {
        /* Requests may wait for a throttling timer; only a drain ends that. */
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    }
    old = queue_iothreads_set(&blockdev->iothreads, index, iothread);
    if (index < blockdev->nr_rings) {
        block_queue_move(&blockdev->rings[index].common,
                         queue_iothreads_context(&blockdev->iothreads, index));
    }
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
    if (index == 0 && blockdev->nr_rings) {
        queue_iothreads_place_node(&blockdev->iothreads,
                                   blockdev->props.conf.blk, NULL);
    }
    object_unref(OBJECT(old));
    return true;
}

void xen_block_control_begin(XenBlockDevice *blockdev)
{
    BlockBackend *blk = blockdev->props.conf.blk;

    blockdev->disk.ring_broken = xen_block_ring_broken;
    /*
     * A drain waits until the rings are idle.  A request that the block layer
     * would put aside for the time of the drain would never let them be.
     */
    blk_set_disable_request_queuing(blk, true);
    blockdev->resize_bh = qemu_bh_new(xen_block_resized_bh, blockdev);
    /* A stopped VM serves nothing, so the clock is one that stops with it. */
    blockdev->tick_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, xen_block_tick,
                                        blockdev);
    blk_set_dev_ops(blk, &xen_block_dev_ops, blockdev);
    blockdev->vm_change = qdev_add_vm_change_state_handler(
        DEVICE(blockdev), xen_block_vm_state_change, blockdev);
}

void xen_block_control_end(XenBlockDevice *blockdev)
{
    BlockBackend *blk = blockdev->props.conf.blk;

    qemu_del_vm_change_state_handler(blockdev->vm_change);
    blk_set_dev_ops(blk, NULL, NULL);
    g_clear_pointer(&blockdev->resize_bh, qemu_bh_delete);
    g_clear_pointer(&blockdev->tick_timer, timer_free);
    blk_set_disable_request_queuing(blk, false);
}

void xen_block_control_class_init(ObjectClass *class)
{
    BlockQueueDeviceClass *queue_class = BLOCK_QUEUE_DEVICE_CLASS(class);

    queue_class->num_queues = xen_block_num_queues;
    queue_class->get_queue = xen_block_get_queue;
    queue_class->get_iothread = xen_block_get_iothread;
    queue_class->set_iothread = xen_block_set_iothread;
}
