/*
 * Xen PV disk
 *
 *     xen-block.c            the device
 *     xen-block-connect.c    the connection with a frontend
 *     xen-block-control.c    requests from the monitor and the block layer
 *     xen-block-toolstack.c  disks that a toolstack asks for
 *     xen-block-failed.c     disks that a toolstack asks for in vain
 *
 * These files are control, and their functions run under the BQL.  The queues
 * are in xen-block-queue.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_H
#define HW_BLOCK_XEN_BLOCK_H

#include "hw/block/block-queue-device.h"
#include "hw/block/block.h"
#include "hw/block/stats-intervals.h"
#include "hw/xen/xen-backend.h"
#include "hw/xen/xen-bus.h"
#include "xen-block-queue.h"
#include "xen-vdev.h"

#define TYPE_XEN_BLOCK_DEVICE "xen-block"
#define TYPE_XEN_DISK_DEVICE "xen-disk"
#define TYPE_XEN_CDROM_DEVICE "xen-cdrom"

OBJECT_DECLARE_TYPE(XenBlockDevice, XenBlockDeviceClass, XEN_BLOCK_DEVICE)

/*
 * Property num-queues: the device chooses the number.  The value is that of
 * virtio-blk, so that one property has one meaning in both devices.
 */
#define XEN_BLOCK_AUTO_NUM_QUEUES UINT16_MAX
#define XEN_BLOCK_MAX_AUTO_QUEUES 16
#define XEN_BLOCK_MAX_QUEUES 256

/* Each page of a ring needs a key in xenstore; 4 MiB are more than enough. */
#define XEN_BLOCK_MAX_RING_PAGE_ORDER 10

typedef struct XenBlockConf {
    XenVdev vdev;
    BlockConf conf;
    StatsIntervals stats_intervals;
    QueueIOThreadsConf iothreads;
    uint32_t max_ring_page_order;
    uint16_t num_queues;
    uint16_t max_indirect_segments; /* 0: no indirect requests */
    uint32_t max_persistent_grants; /* of all queues; 0: the device chooses */
    OnOffAuto persistent_grants;
    bool write_barriers;
    bool batch_copies;
} XenBlockConf;

/*
 * Whether the device is reacting to a change of its frontend's state.  While
 * it does, it runs a nested event loop, so the state may change again.
 *
 *    +------+ it changes +---------+ it changes +--------+
 *    | idle | ---------> | follows | ---------> | is     |
 *    |      | <--------- |         | <--------- | behind |
 *    +------+    done    +---------+    done    +--------+
 *
 * Only xen_block_set_follow() changes it.
 */
typedef enum XenBlockFollow {
    XEN_BLOCK_IDLE,
    XEN_BLOCK_FOLLOWS,
    XEN_BLOCK_IS_BEHIND,
    XEN_BLOCK_FOLLOW__MAX
} XenBlockFollow;

/*
 * Only xen_block_set_vm() changes it.  virtio-blk asks for the run state of the
 * machine instead.  Here that is wrong, because the guest's processors are not
 * QEMU's: a frontend may connect before the first start of the machine, and it
 * has to be served.
 */
typedef enum XenBlockVM {
    XEN_BLOCK_VM_RUNS,          /* queues are served; the initial state */
    XEN_BLOCK_VM_STOPPED,       /* no queue is served */
} XenBlockVM;

struct XenBlockDevice {
    XenDevice xendev;
    BlockQueueDevice common;    /* has XenBlockQueues while connected */
    XenBlockConf props;
    unsigned info;              /* VDISK_* */
    XenBlockFollow follow;
    bool persistent_grants;     /* offered to frontends */
    Error *migration_blocker;
    QEMUTimer *tick_timer;      /* runs while connected; see XenBlockTick */

    XenBlockDisk disk;
    char *vdev_name;
    XenBlockVM vm;

    struct XenBlockToolstack *toolstack; /* NULL: a user has made the disk */
};

struct XenBlockDeviceClass {
    XenDeviceClass parent_class;
    const char *device_type;    /* key "device-type" of the frontend */
    unsigned info;              /* VDISK_* flags of every device of the class */
};

/** xen_block_get_queue: return queue @i, which is below common.num_queues. */
static inline XenBlockQueue *xen_block_get_queue(const XenBlockDevice *blockdev,
                                                 unsigned i)
{
    return container_of(block_queue_device_get(&blockdev->common, i),
                        XenBlockQueue, common);
}

/**
 * xen_block_connect: start the queues that the frontend describes in xenstore.
 *
 * On error @errp is set, and the device has no queue.  This runs a nested event
 * loop.  If the device is disconnected in that loop, it has no queue either.
 */
void xen_block_connect(XenBlockDevice *blockdev, Error **errp);

/**
 * xen_block_disconnect: wait for the requests in flight, and stop the queues.
 *
 * This does nothing if the device has no queue.
 *
 * Context: main loop thread.
 */
void xen_block_disconnect(XenBlockDevice *blockdev);

/**
 * xen_block_offer: write features and transport parameters to xenstore.
 *
 * The device does this before it enters the state InitWait.
 */
void xen_block_offer(XenBlockDevice *blockdev);

/**
 * xen_block_start_queues: let new queues take requests.
 *
 * If the VM is stopped, the queues take requests when it goes on.
 *
 * Context: BQL.
 */
void xen_block_start_queues(XenBlockDevice *blockdev);

/**
 * xen_block_tick_queues: start the timer that makes queues give back what they
 * have not used lately.
 *
 * It fires every ten seconds for as long as the device has queues.
 *
 * Context: BQL.
 */
void xen_block_tick_queues(XenBlockDevice *blockdev);

extern const BlockQueueDeviceOps xen_block_device_ops;

/**
 * xen_block_control_begin: register for drains, resizes, faults and changes of
 * the VM's state.
 *
 * Context: BQL, at the end of realize.
 */
void xen_block_control_begin(XenBlockDevice *blockdev);

/**
 * xen_block_control_end: undo xen_block_control_begin().
 *
 * The device must have no queue.
 *
 * Context: BQL.
 */
void xen_block_control_end(XenBlockDevice *blockdev);

/**
 * xen_block_publish_size: give the present size of the disk to the queues and
 * to xenstore.
 *
 * Context: main loop thread.
 */
void xen_block_publish_size(XenBlockDevice *blockdev);

/**
 * xen_block_set_sector_size: set the sector size for the next connection.
 * @bytes: %XEN_BLKIF_SECTOR_SIZE, or the logical block size for a frontend that
 *         counts in logical blocks
 *
 * If the sector size changes, this publishes the size of the disk again.  The
 * device must have no queue.
 *
 * Context: main loop thread.
 */
void xen_block_set_sector_size(XenBlockDevice *blockdev, uint32_t bytes);

/**
 * xen_block_failed: report to toolstack and frontend that @backend has no disk.
 * @backend: of a disk that a toolstack asked for and that QEMU could not make
 * @message: the reason
 *
 * QEMU forgets @backend when toolstack and frontend are done with it.
 *
 * Context: main loop thread.
 */
void xen_block_failed(XenBackendInstance *backend, const char *message);

#endif /* HW_BLOCK_XEN_BLOCK_H */
