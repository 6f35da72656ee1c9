/*
 * A device whose queues can be listed and moved
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *    query-block-queues ----------+
 *    block-queue-set-iothread ----+--> interface --> virtio-blk, Xen PV disk
 *    info queues, queue_set... ---+
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_DEVICE_H
#define HW_BLOCK_BLOCK_QUEUE_DEVICE_H

#include "hw/block/block-queue.h"
#include "qom/object.h"
#include "system/iothread.h"

#define TYPE_BLOCK_QUEUE_DEVICE "block-queue-device"

typedef struct BlockQueueDevice BlockQueueDevice;
typedef struct BlockQueueDeviceClass BlockQueueDeviceClass;

DECLARE_CLASS_CHECKERS(BlockQueueDeviceClass, BLOCK_QUEUE_DEVICE,
                       TYPE_BLOCK_QUEUE_DEVICE)
#define BLOCK_QUEUE_DEVICE(obj) \
    INTERFACE_CHECK(BlockQueueDevice, (obj), TYPE_BLOCK_QUEUE_DEVICE)

/* All called under the BQL. */
struct BlockQueueDeviceClass {
    InterfaceClass parent_class;

    /* How many queues there are now; 0 before realize. */
    unsigned (*num_queues)(BlockQueueDevice *device);

    /*
     * Queue @index; its counters may be read, all else is its owner's.  NULL
     * if there is none at present: no driver has set it up.
     */
    BlockQueue *(*get_queue)(BlockQueueDevice *device, unsigned index);

    /* The IOThread of queue @index, NULL for the main loop. */
    IOThread *(*get_iothread)(BlockQueueDevice *device, unsigned index);

    /* Move queue @index, below num_queues, to @iothread or the main loop. */
    bool (*set_iothread)(BlockQueueDevice *device, unsigned index,
                         IOThread *iothread, Error **errp);
};

#endif /* HW_BLOCK_BLOCK_QUEUE_DEVICE_H */
