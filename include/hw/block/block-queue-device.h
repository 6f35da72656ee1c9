/*
 * A block device that has queues
 *
 *    block layer   drain, resize ------+
 *    monitor       list, move ---------+--> BlockQueueDevice --> BlockQueue
 *    run state     stop, cont ---------+       |                 BlockQueue
 *                                              | ops             ...
 *                                              v
 *                                    virtio-blk, Xen PV disk
 *
 * What control does is the same for every device with queues, whatever their
 * rings look like.  Such a device embeds a BlockQueueDevice, which knows its
 * queues by their heads (block-queue.h), and tells by BlockQueueDeviceOps what
 * is its own.  All functions run in the main loop's thread under the BQL,
 * unless told otherwise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_DEVICE_H
#define HW_BLOCK_BLOCK_QUEUE_DEVICE_H

#include "hw/block/block-queue.h"
#include "hw/block/queue-iothreads.h"
#include "qom/object.h"
#include "system/block-backend.h"
#include "system/runstate.h"

/*
 * How the device is served.
 *
 *    +--------+  realize  +---------+ --- driver, cont ---> +----------+
 *    | absent | <-------> | stopped | <-- no notifiers ---- | starting |
 *    +--------+ unrealize +---------+                       +----------+
 *                          ^   |  ^                              |
 *                reset,    |   |  +--- stopping <-- notifiers <--+
 *                stop   calls <+        (reset, stop)
 *                         kick, cont
 *
 * While it has notifiers each queue is served in its own thread: eventfds for
 * virtio-blk, event channels for the Xen PV disk.  With calls (ioeventfd=off,
 * or eventfds could not be had) the main loop serves all queues of a virtio-blk
 * device; each start tries anew to get eventfds.
 */
typedef enum BlockQueueDeviceLife {
    BLOCK_QUEUE_DEVICE_ABSENT,      /* not realized, or not any more */
    BLOCK_QUEUE_DEVICE_STOPPED,
    BLOCK_QUEUE_DEVICE_STARTING,
    BLOCK_QUEUE_DEVICE_NOTIFIERS,
    BLOCK_QUEUE_DEVICE_STOPPING,
    BLOCK_QUEUE_DEVICE_CALLS,
    BLOCK_QUEUE_DEVICE_LIFE__MAX
} BlockQueueDeviceLife;

typedef struct BlockQueueDevice BlockQueueDevice;

typedef struct BlockQueueDeviceOps {
    /* The disk may have another size now.  Not called after unrealize. */
    void (*resized)(BlockQueueDevice *device);

    /* The VM runs, or does so no more. */
    void (*vm_state_changed)(BlockQueueDevice *device, bool running);

    /* Optional: can notifications reach an IOThread?  False with @errp set. */
    bool (*check_iothread)(BlockQueueDevice *device, Error **errp);

    /*
     * Move queue @index, which is quiesced, to where it belongs now by the
     * device's QueueIOThreads.
     */
    void (*move_queue)(BlockQueueDevice *device, unsigned index);

    /* Optional: does the main loop serve queue @index, wherever it belongs? */
    bool (*in_main_loop)(BlockQueueDevice *device, unsigned index);

    bool drain_may_resize;      /* look at the size at the end of each drain */
    bool ignore_node_error;   /* no warning if others keep the node */
} BlockQueueDeviceOps;

struct BlockQueueDevice {
    /* Fixed by block_queue_device_realize(). */
    DeviceState *dev;
    BlockBackend *blk;
    const BlockQueueDeviceOps *ops;
    char *name;                 /* for messages: virtio-blk 'disk0' */

    BlockQueueDeviceLife life;
    void *queues;               /* each begins with a BlockQueue */
    size_t queue_size;
    unsigned nr_queues;         /* as many are set up at present */
    QueueIOThreads map;         /* of all queues that the device can have */
    QEMUBH *resize_bh;
    VMChangeStateEntry *vm_change;
};

/** block_queue_device_id: what the user calls @dev, or its proxy; or NULL. */
const char *block_queue_device_id(DeviceState *dev);

/**
 * block_queue_device_realize: find or make the IOThreads of a device.
 * @conf: lives until block_queue_device_unrealize()
 * @num_queues: as many queues as the device can have
 * @alias: after what the device's IOThreads are called if it has no ID
 * @name: for messages, to be freed by block_queue_device_unrealize()
 *
 * There is no queue yet, and nobody is told of the device.
 *
 * Returns: false with @errp set, and nothing held, when @conf asks for
 * IOThreads that there are not; @name is freed then, too.
 */
bool block_queue_device_realize(BlockQueueDevice *device, DeviceState *dev,
                                BlockBackend *blk,
                                const BlockQueueDeviceOps *ops,
                                QueueIOThreadsConf *conf, unsigned num_queues,
                                const char *alias, char *name, Error **errp);

/** block_queue_device_unrealize: undo that, when all queues are gone. */
void block_queue_device_unrealize(BlockQueueDevice *device);

/**
 * block_queue_device_ref: keep the device in memory
 *
 * For a bottom half that polls: the device may be unplugged meanwhile.
 *
 * Returns: what block_queue_device_unref() wants.
 */
Object *block_queue_device_ref(BlockQueueDevice *device);

/** block_queue_device_unref: undo that */
void block_queue_device_unref(BlockQueueDevice *device, Object *parent);

/**
 * block_queue_device_begin: be told of drains, sizes and the VM's state.
 *
 * From here on the ops are called.
 */
void block_queue_device_begin(BlockQueueDevice *device);

/** block_queue_device_end: undo block_queue_device_begin(). */
void block_queue_device_end(BlockQueueDevice *device);

/**
 * block_queue_device_set_life: let the device's life go on to @to.
 *
 * Nobody else changes it.
 */
void block_queue_device_set_life(BlockQueueDevice *device,
                                 BlockQueueDeviceLife to);

/**
 * block_queue_device_alloc: memory for @n queues of @size bytes, zeroed.
 *
 * The caller sets them up one after the other, and counts each in
 * @device->nr_queues as soon as it is there for drains.
 */
void *block_queue_device_alloc(BlockQueueDevice *device, unsigned n,
                               size_t size);

/**
 * block_queue_device_free: call @end for each queue, and free the memory.
 *
 * Code that comes in meanwhile, because @end polls, finds a device without
 * queues.
 */
void block_queue_device_free(BlockQueueDevice *device,
                             void (*end)(BlockQueue *queue));

/** block_queue_device_get: the head of queue @index, below nr_queues. */
static inline BlockQueue *block_queue_device_get(const BlockQueueDevice *device,
                                                 unsigned index)
{
    return (BlockQueue *)((char *)device->queues + index * device->queue_size);
}

/** block_queue_device_quiesce_begin: the same for each of the queues. */
void block_queue_device_quiesce_begin(BlockQueueDevice *device);

/** block_queue_device_quiesced: is each of the queues? */
bool block_queue_device_quiesced(BlockQueueDevice *device);

/** block_queue_device_quiesce_wait: for each of the queues, one by one. */
void block_queue_device_quiesce_wait(BlockQueueDevice *device);

/** block_queue_device_quiesce_end: the same for each of the queues. */
void block_queue_device_quiesce_end(BlockQueueDevice *device);

/**
 * block_queue_device_drain_begin: drain the device's node, if it has one.
 *
 * Only that gets the queues quiesced for sure: a request may wait for a
 * throttling timer, and with the VM stopped no timer runs.  It polls.
 *
 * Returns: what block_queue_device_drain_end() wants.
 */
BlockDriverState *block_queue_device_drain_begin(BlockQueueDevice *device);

/** block_queue_device_drain_end: end a drained section. */
void block_queue_device_drain_end(BlockDriverState *bs);

/**
 * block_queue_device_pause: drain the node and quiesce all queues.
 *
 * Until block_queue_device_resume() no request is in flight and control may
 * change queues.  For a device whose queues do not come and go meanwhile.
 *
 * Returns: what block_queue_device_resume() wants.
 */
BlockDriverState *block_queue_device_pause(BlockQueueDevice *device);

/** block_queue_device_resume: end a pause. */
void block_queue_device_resume(BlockQueueDevice *device, BlockDriverState *bs);

/**
 * block_queue_device_place_node: have the node beside queue 0, if possible.
 *
 * Requests run wherever it is.  It polls.
 */
void block_queue_device_place_node(BlockQueueDevice *device);

/**
 * block_queue_device_set_iothread: serve queue @index in @iothread from now on.
 * @index: below the number of queues that the device can have; one that is not
 *         there at present comes up in @iothread
 * @iothread: NULL for the main loop
 *
 * Drains the device for a moment; the guest may go on meanwhile.
 *
 * Returns: false with @errp set when notifications do not reach IOThreads.
 */
bool block_queue_device_set_iothread(BlockQueueDevice *device, unsigned index,
                                     IOThread *iothread, Error **errp);

/** block_queue_device_get_iothread: that of queue @index; NULL: main loop. */
IOThread *block_queue_device_get_iothread(BlockQueueDevice *device,
                                          unsigned index);

/*
 * The interface by which the monitor finds such devices.  It has methods, not
 * the functions above, because a QEMU with no such device has a monitor, too.
 */

#define TYPE_BLOCK_QUEUE_DEVICE_IF "block-queue-device"

typedef struct BlockQueueDeviceIf BlockQueueDeviceIf;
typedef struct BlockQueueDeviceIfClass BlockQueueDeviceIfClass;

DECLARE_CLASS_CHECKERS(BlockQueueDeviceIfClass, BLOCK_QUEUE_DEVICE_IF,
                       TYPE_BLOCK_QUEUE_DEVICE_IF)
#define BLOCK_QUEUE_DEVICE_IF(obj) \
    INTERFACE_CHECK(BlockQueueDeviceIf, (obj), TYPE_BLOCK_QUEUE_DEVICE_IF)

struct BlockQueueDeviceIfClass {
    InterfaceClass parent_class;

    BlockQueueDevice *(*get_device)(BlockQueueDeviceIf *obj);
    IOThread *(*get_iothread)(BlockQueueDevice *device, unsigned index);
    bool (*set_iothread)(BlockQueueDevice *device, unsigned index,
                         IOThread *iothread, Error **errp);
};

/** block_queue_device_class_init: fill in the interface of @class. */
void block_queue_device_class_init(
    ObjectClass *class, BlockQueueDevice *(*get_device)(BlockQueueDeviceIf *));

#endif /* HW_BLOCK_BLOCK_QUEUE_DEVICE_H */
