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
 * Control drains, resizes, lists and moves the queues of both devices in the
 * same way, although their rings differ.  That code is here.  Each device
 * embeds a BlockQueueDevice, and each of its queues begins with a BlockQueue
 * (block-queue.h).  BlockQueueDeviceOps are the functions in which the two
 * devices differ.
 *
 * All functions run in the main loop's thread under the BQL, unless their
 * comment says otherwise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_DEVICE_H
#define HW_BLOCK_BLOCK_QUEUE_DEVICE_H

#include "hw/block/block-queue.h"
#include "hw/block/queue-iothreads.h"
#include "hw/qdev-core.h"
#include "qom/object.h"
#include "system/block-backend.h"
#include "system/runstate.h"

/*
 * How the device is served.
 *
 *    +--------+  realize  +---------+ --- driver, cont ---> +----------+
 *    | absent | <-------> | stopped | <-- no notifiers ---- | starting |
 *    +--------+ unrealize +---------+                       +----------+
 *                          ^  |  ^                               |
 *              reset, stop |  |  +-----------+                   |
 *                          |  | kick, cont   |                   v
 *            +-----------------+       +----------+  reset, +-----------+
 *            | served by calls |       | stopping | <------ | served by |
 *            +-----------------+       +----------+  stop   | notifiers |
 *                                                           +-----------+
 *
 * In the state "served by notifiers" each queue is served in its own thread.
 * Its notifier is an eventfd for virtio-blk, and an event channel for the Xen
 * PV disk.  In the state "served by calls" the main loop serves all queues of
 * a virtio-blk device, because ioeventfd is off or QEMU could not get
 * eventfds.  Each start tries again to get eventfds.
 */
typedef enum BlockQueueDeviceState {
    BLOCK_QUEUE_DEVICE_ABSENT,      /* before realize, or after unrealize */
    BLOCK_QUEUE_DEVICE_STOPPED,
    BLOCK_QUEUE_DEVICE_STARTING,
    BLOCK_QUEUE_DEVICE_NOTIFIERS,   /* served by notifiers */
    BLOCK_QUEUE_DEVICE_STOPPING,
    BLOCK_QUEUE_DEVICE_CALLS,       /* served by calls */
    BLOCK_QUEUE_DEVICE_STATE__MAX
} BlockQueueDeviceState;

typedef struct BlockQueueDevice BlockQueueDevice;

typedef struct BlockQueueDeviceOps {
    /* The size of the disk may have changed.  Not called after unrealize. */
    void (*resized)(BlockQueueDevice *device);

    /* The VM has started or has stopped. */
    void (*vm_state_changed)(BlockQueueDevice *device, bool running);

    /*
     * The driver of @queue has broken the rules, as @what says.  Log that, and
     * tell the driver.
     */
    void (*faulted)(BlockQueueDevice *device, BlockQueue *queue,
                    const char *what);

    /*
     * Optional.  Return true if notifications can reach an IOThread, or false
     * with @errp set.  block_queue_device_realize() calls it, too.
     */
    bool (*check_iothread)(BlockQueueDevice *device, Error **errp);

    /*
     * Move queue @index to the AioContext that the device's QueueIOThreads
     * have for it.  The queue is quiesced.
     */
    void (*move_queue)(BlockQueueDevice *device, unsigned index);

    /*
     * Optional.  Return true if the main loop serves queue @index, although
     * the queue may have an IOThread.
     */
    bool (*in_main_loop)(BlockQueueDevice *device, unsigned index);

    bool drain_may_resize;      /* look at the size at the end of each drain */
    bool ignore_node_error;     /* no warning if the node cannot be moved */
} BlockQueueDeviceOps;

struct BlockQueueDevice {
    /* Fixed by block_queue_device_realize(). */
    DeviceState *dev;
    BlockBackend *blk;
    const BlockQueueDeviceOps *ops;
    char *name;                 /* for messages: virtio-blk 'disk0' */

    BlockQueueDeviceState state;
    void *queues;               /* an array; each begins with a BlockQueue */
    size_t queue_size;          /* bytes of one queue */
    unsigned num_queues;        /* queues that are set up at present */
    QueueIOThreads map;         /* of all queues that the device can have */
    QEMUBH *resize_bh;
    QEMUBH *fault_bh;
    VMChangeStateEntry *vm_change;
};

/**
 * block_queue_device_id: return the ID that the user gave to @dev.
 *
 * If @dev itself has none, this is the ID of the device whose bus it is on,
 * such as the proxy of a virtio device.
 *
 * Returns: the ID, or NULL if there is none.
 */
static inline const char *block_queue_device_id(const DeviceState *dev)
{
    return dev->id ?: (dev->parent_bus && dev->parent_bus->parent ?
                       dev->parent_bus->parent->id : NULL);
}

/**
 * block_queue_device_capacity: return how much of a disk a driver can use.
 * @length: bytes of the disk, or a negative error
 * @logical_block_size: bytes; a driver reads and writes only whole blocks
 *
 * Context: any thread.
 *
 * Returns: the bytes of all whole blocks, or 0 on an error.
 */
static inline uint64_t block_queue_device_capacity(int64_t length,
                                                   uint32_t logical_block_size)
{
    return length < 0 ? 0 : QEMU_ALIGN_DOWN(length, logical_block_size);
}

/**
 * block_queue_device_realize: find or make the IOThreads of a device.
 * @conf: must stay valid until block_queue_device_unrealize()
 * @num_queues: the largest number of queues that the device can have
 * @alias: a name for the device's IOThreads if the device has no ID
 * @name: the device in messages; block_queue_device_unrealize() frees it
 *
 * This makes no queue.  It calls only the op check_iothread(); the others are
 * called after block_queue_device_begin().
 *
 * Returns: true, or false with @errp set if the device cannot have the
 * IOThreads that @conf asks for, or if notifications cannot reach them.  After
 * a failure @name is freed, and the device holds no reference.
 */
bool block_queue_device_realize(BlockQueueDevice *device, DeviceState *dev,
                                BlockBackend *blk,
                                const BlockQueueDeviceOps *ops,
                                QueueIOThreadsConf *conf, unsigned num_queues,
                                const char *alias, char *name, Error **errp);

/**
 * block_queue_device_unrealize: undo block_queue_device_realize().
 *
 * The device must have no queue any more.
 */
void block_queue_device_unrealize(BlockQueueDevice *device);

/**
 * block_queue_device_ref: keep the device in memory.
 *
 * A bottom half that runs a nested event loop needs this, because the device
 * may be unplugged in that loop.
 *
 * Returns: the argument @parent of block_queue_device_unref().
 */
Object *block_queue_device_ref(BlockQueueDevice *device);

/** block_queue_device_unref: undo block_queue_device_ref(). */
void block_queue_device_unref(BlockQueueDevice *device, Object *parent);

/**
 * block_queue_device_begin: register for drains, resizes and run states.
 *
 * From now on the ops are called.
 */
void block_queue_device_begin(BlockQueueDevice *device);

/** block_queue_device_end: undo block_queue_device_begin(). */
void block_queue_device_end(BlockQueueDevice *device);

/**
 * block_queue_device_set_state: change the device's state to @to.
 *
 * This is the only function that changes it.
 */
void block_queue_device_set_state(BlockQueueDevice *device,
                                  BlockQueueDeviceState to);

/**
 * block_queue_device_alloc: allocate @n queues of @size bytes, all zero.
 *
 * The caller sets up one queue after the other.  It adds 1 to
 * @device->num_queues as soon as a queue is ready to be drained.
 */
void *block_queue_device_alloc(BlockQueueDevice *device, unsigned n,
                               size_t size);

/**
 * block_queue_device_free: call @end for each queue, and free the memory.
 *
 * @end may run a nested event loop.  Code that runs in that loop sees a device
 * without queues.
 */
void block_queue_device_free(BlockQueueDevice *device,
                             void (*end)(BlockQueue *queue));

/** block_queue_device_get: return queue @index, which is below num_queues. */
static inline BlockQueue *block_queue_device_get(const BlockQueueDevice *device,
                                                 unsigned index)
{
    return (BlockQueue *)((char *)device->queues + index * device->queue_size);
}

/**
 * block_queue_device_fault: serve @queue no more, as its driver has broken the
 * rules.
 * @what: a constant text
 *
 * The main loop reports the fault later, by the op faulted.  If the queue has a
 * fault already, this does nothing.
 *
 * Context: owner thread of @queue.
 */
void block_queue_device_fault(BlockQueueDevice *device, BlockQueue *queue,
                              const char *what);

/** block_queue_device_quiesce_begin: quiesce all queues; return at once. */
void block_queue_device_quiesce_begin(BlockQueueDevice *device);

/**
 * block_queue_device_quiesce: quiesce all queues, and wait until they are.
 *
 * From then on no request is in flight, and control may change queues, until
 * block_queue_device_quiesce_end() or until control has freed them.  To quiesce
 * the queues is not enough when a request waits for a throttling timer: no such
 * timer runs while the VM is stopped.  So this also drains the node for a
 * moment, which makes that request end, too.  This runs a nested event loop.
 */
void block_queue_device_quiesce(BlockQueueDevice *device);

/**
 * block_queue_device_quiesce_end: undo block_queue_device_quiesce() or
 * block_queue_device_quiesce_begin().
 *
 * The device must have the queues that it had when they were quiesced.
 */
void block_queue_device_quiesce_end(BlockQueueDevice *device);

/**
 * block_queue_device_place_node: move the node to the AioContext of queue 0.
 *
 * If other users of the node prevent the move, the node stays where it is;
 * requests of all queues work all the same.  This runs a nested event loop.
 */
void block_queue_device_place_node(BlockQueueDevice *device);

/**
 * block_queue_device_release_node: move the node back to the main loop.
 *
 * The device calls this when its queues have stopped.  If other users of the
 * node prevent the move, the node stays where it is.  This runs a nested event
 * loop.
 */
void block_queue_device_release_node(BlockQueueDevice *device);

/**
 * block_queue_device_set_iothread: serve queue @index in @iothread from now on.
 * @index: below the number of queues that the device can have; a queue that
 *         does not exist at present will start in @iothread
 * @iothread: NULL for the main loop
 *
 * This drains the device for a moment, while the guest goes on.
 *
 * Returns: true, or false with @errp set if notifications cannot reach an
 * IOThread.
 */
bool block_queue_device_set_iothread(BlockQueueDevice *device, unsigned index,
                                     IOThread *iothread, Error **errp);

/**
 * block_queue_device_get_iothread: return the IOThread that serves queue
 * @index, or NULL if the main loop does.
 */
IOThread *block_queue_device_get_iothread(BlockQueueDevice *device,
                                          unsigned index);

/*
 * The monitor finds devices with queues by this interface.  Its methods are
 * pointers to functions above: a QEMU that is built without both devices has
 * a monitor, too, but not these functions.
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
