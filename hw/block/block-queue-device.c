/*
 * A block device that has queues
 *
 *    from whom                what                    comes to
 *    block layer, BQL         drained_begin, _end     every queue
 *    block layer, any thread  resize_cb               ops->resized(), by a BH
 *    monitor, BQL             set_iothread            one queue, drained
 *    run state, BQL           stop, cont              ops->vm_state_changed()
 *    a queue, its thread      fault                   ops->faulted(), by a BH
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/aio-wait.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/block/block-queue-device.h"
#include "trace/trace-qemu_mq_hw_block.h"

/* In the order of BlockQueueDeviceState. */
static const struct {
    const char *name;
    unsigned next;              /* states that may follow, a bit each */
} device_states[BLOCK_QUEUE_DEVICE_STATE__MAX] = {
    { "absent", BIT(BLOCK_QUEUE_DEVICE_STOPPED) },
    { "stopped", BIT(BLOCK_QUEUE_DEVICE_STARTING) |
                 BIT(BLOCK_QUEUE_DEVICE_CALLS) |
                 BIT(BLOCK_QUEUE_DEVICE_ABSENT) },
    { "starting", BIT(BLOCK_QUEUE_DEVICE_NOTIFIERS) |
                  BIT(BLOCK_QUEUE_DEVICE_STOPPED) },
    { "served by notifiers", BIT(BLOCK_QUEUE_DEVICE_STOPPING) },
    { "stopping", BIT(BLOCK_QUEUE_DEVICE_STOPPED) },
    { "served by calls", BIT(BLOCK_QUEUE_DEVICE_STOPPED) },
};

void block_queue_device_set_state(BlockQueueDevice *device,
                                  BlockQueueDeviceState to)
{
    GLOBAL_STATE_CODE();
    assert(device_states[device->state].next & BIT(to));

    trace_block_queue_device_state(device->name,
                                   device_states[device->state].name,
                                   device_states[to].name);
    device->state = to;
}

/* A virtio device lies in the memory of its parent, the transport. */
Object *block_queue_device_ref(BlockQueueDevice *device)
{
    Object *obj = OBJECT(device->dev);
    Object *parent = obj->parent;

    object_ref(obj);
    if (parent) {
        object_ref(parent);
    }
    return parent;
}

void block_queue_device_unref(BlockQueueDevice *device, Object *parent)
{
    object_unref(OBJECT(device->dev));
    object_unref(parent);
}

/* The disk may have another size. */

static void device_resized_bh(void *opaque)
{
    BlockQueueDevice *device = opaque;
    Object *parent = block_queue_device_ref(device);

    device->ops->resized(device);
    block_queue_device_unref(device, parent);
}

/* Any thread may call this, but only the main loop may tell the driver. */
static void device_resized(void *opaque)
{
    BlockQueueDevice *device = opaque;

    qemu_bh_schedule(device->resize_bh);
}

/* Handle faults.  Only the main loop may write registers and xenstore. */

static void device_faulted_bh(void *opaque)
{
    BlockQueueDevice *device = opaque;
    Object *parent = block_queue_device_ref(device);

    for (unsigned i = 0; i < device->num_queues; i++) {
        BlockQueue *queue = block_queue_device_get(device, i);
        const char *what = qatomic_xchg(&queue->fault, NULL);

        if (what) {
            device->ops->faulted(device, queue, what);
        }
    }
    block_queue_device_unref(device, parent);
}

void block_queue_device_fault(BlockQueueDevice *device, BlockQueue *queue,
                              const char *what)
{
    if (block_queue_faulted(queue)) {
        return;
    }
    trace_block_queue_fault(queue->name, what);
    block_queue_event(queue, BLOCK_QUEUE_FAULT);
    qatomic_set(&queue->fault, what);
    qemu_bh_schedule(device->fault_bh);
}

/* Drain: the block layer must not see a new request until it says so. */

void block_queue_device_quiesce_begin(BlockQueueDevice *device)
{
    for (unsigned i = 0; i < device->num_queues; i++) {
        block_queue_quiesce_begin(block_queue_device_get(device, i));
    }
}

static bool device_quiesced(BlockQueueDevice *device)
{
    for (unsigned i = 0; i < device->num_queues; i++) {
        if (!block_queue_quiesced(block_queue_device_get(device, i))) {
            return false;
        }
    }
    return true;
}

void block_queue_device_quiesce_end(BlockQueueDevice *device)
{
    for (unsigned i = 0; i < device->num_queues; i++) {
        block_queue_quiesce_end(block_queue_device_get(device, i));
    }
}

static void device_drained_begin(void *opaque)
{
    block_queue_device_quiesce_begin(opaque);
}

static bool device_drained_poll(void *opaque)
{
    return !device_quiesced(opaque);
}

static void device_drained_end(void *opaque)
{
    BlockQueueDevice *device = opaque;

    block_queue_device_quiesce_end(device);
    if (device->ops->drain_may_resize) {
        device_resized(device);
    }
}

static const BlockDevOps device_dev_ops = {
    .resize_cb = device_resized,
    .drained_begin = device_drained_begin,
    .drained_poll = device_drained_poll,
    .drained_end = device_drained_end,
};

static BlockDriverState *device_drain_begin(BlockQueueDevice *device)
{
    BlockDriverState *bs = blk_bs(device->blk);

    if (bs) {
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    }
    return bs;
}

static void device_drain_end(BlockDriverState *bs)
{
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

void block_queue_device_quiesce(BlockQueueDevice *device)
{
    block_queue_device_quiesce_begin(device);
    /* The drain waits, and lets requests go on that a throttle holds back. */
    blk_drain(device->blk);
    /* Without a node blk_drain() does not wait.  Queues may be freed here. */
    AIO_WAIT_WHILE_UNLOCKED(NULL, !device_quiesced(device));
}

/* The queues */

void *block_queue_device_alloc(BlockQueueDevice *device, unsigned n,
                               size_t size)
{
    assert(!device->queues);
    device->queues = block_queue_alloc(n, size);
    device->queue_size = size;
    return device->queues;
}

void block_queue_device_free(BlockQueueDevice *device,
                             void (*end)(BlockQueue *queue))
{
    unsigned n = device->num_queues;
    char *queues = g_steal_pointer(&device->queues);

    device->num_queues = 0;
    for (unsigned i = 0; i < n; i++) {
        end((BlockQueue *)(queues + i * device->queue_size));
    }
    block_queue_free(queues);
}

/* IOThreads */

IOThread *block_queue_device_get_iothread(BlockQueueDevice *device,
                                          unsigned index)
{
    if (index < device->num_queues && device->ops->in_main_loop &&
        device->ops->in_main_loop(device, index)) {
        return NULL;
    }
    return queue_iothreads_get(&device->map, index);
}

void block_queue_device_place_node(BlockQueueDevice *device)
{
    BlockDriverState *bs = device_drain_begin(device);
    Error *err = NULL;

    queue_iothreads_place_node(&device->map, device->blk, &err);
    device_drain_end(bs);
    if (!err) {
        return;
    }
    if (device->ops->ignore_node_error) {
        error_free(err);
    } else {
        warn_reportf_err(err, "%s: ", device->name);
    }
}

void block_queue_device_release_node(BlockQueueDevice *device)
{
    BlockDriverState *bs = device_drain_begin(device);

    queue_iothreads_release_node(&device->map, device->blk);
    device_drain_end(bs);
}

static bool device_check_iothread(BlockQueueDevice *device, Error **errp)
{
    return !device->ops->check_iothread ||
           device->ops->check_iothread(device, errp);
}

bool block_queue_device_set_iothread(BlockQueueDevice *device, unsigned index,
                                     IOThread *iothread, Error **errp)
{
    BlockDriverState *bs;
    IOThread *old;

    GLOBAL_STATE_CODE();
    assert(index < device->map.num_queues);
    if (iothread && !device_check_iothread(device, errp)) {
        return false;
    }
    bs = device_drain_begin(device);
    old = queue_iothreads_set(&device->map, index, iothread);
    if (index < device->num_queues) {
        BlockQueue *queue = block_queue_device_get(device, index);

        /* The queue is quiesced already, unless the device has no node. */
        block_queue_quiesce_begin(queue);
        block_queue_quiesce_wait(queue);
        device->ops->move_queue(device, index);
        block_queue_quiesce_end(queue);
    }
    device_drain_end(bs);
    if (index == 0 && device->state == BLOCK_QUEUE_DEVICE_NOTIFIERS) {
        block_queue_device_place_node(device);
    }
    object_unref(OBJECT(old));
    return true;
}

/* Realize and unrealize */

bool block_queue_device_realize(BlockQueueDevice *device, DeviceState *dev,
                                BlockBackend *blk,
                                const BlockQueueDeviceOps *ops,
                                QueueIOThreadsConf *conf, unsigned num_queues,
                                const char *alias, char *name, Error **errp)
{
    device->dev = dev;
    device->blk = blk;
    device->ops = ops;
    if ((queue_iothreads_wanted(conf) &&
         !device_check_iothread(device, errp)) ||
        !queue_iothreads_init(&device->map, conf, num_queues,
                              block_queue_device_id(dev), alias, errp)) {
        g_free(name);
        return false;
    }
    device->name = name;
    block_queue_device_set_state(device, BLOCK_QUEUE_DEVICE_STOPPED);
    return true;
}

void block_queue_device_unrealize(BlockQueueDevice *device)
{
    assert(!device->num_queues);
    block_queue_device_set_state(device, BLOCK_QUEUE_DEVICE_ABSENT);
    queue_iothreads_cleanup(&device->map);
    g_clear_pointer(&device->name, g_free);
}

static void device_vm_state_changed(void *opaque, bool running, RunState state)
{
    BlockQueueDevice *device = opaque;

    device->ops->vm_state_changed(device, running);
}

void block_queue_device_begin(BlockQueueDevice *device)
{
    device->resize_bh = qemu_bh_new(device_resized_bh, device);
    device->fault_bh = qemu_bh_new(device_faulted_bh, device);
    /*
     * A drain waits until the queues are idle.  A request that the block layer
     * queued for the time of the drain would never let them be.
     */
    blk_set_disable_request_queuing(device->blk, true);
    blk_set_dev_ops(device->blk, &device_dev_ops, device);
    device->vm_change = qdev_add_vm_change_state_handler(
        device->dev, device_vm_state_changed,
#if BASE_SINCE(10, 2)
        NULL,
#endif
        device);
}

void block_queue_device_end(BlockQueueDevice *device)
{
    qemu_del_vm_change_state_handler(device->vm_change);
    blk_set_dev_ops(device->blk, NULL, NULL);
    blk_set_disable_request_queuing(device->blk, false);
    g_clear_pointer(&device->fault_bh, qemu_bh_delete);
    g_clear_pointer(&device->resize_bh, qemu_bh_delete);
}

void block_queue_device_class_init(
    ObjectClass *class, BlockQueueDevice *(*get_device)(BlockQueueDeviceIf *))
{
    BlockQueueDeviceIfClass *k = BLOCK_QUEUE_DEVICE_IF_CLASS(class);

    k->get_device = get_device;
    k->get_iothread = block_queue_device_get_iothread;
    k->set_iothread = block_queue_device_set_iothread;
}
