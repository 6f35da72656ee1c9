/*
 * Xen PV disk
 *
 *     xen-block.c            the device
 *     xen-block-connect.c    the connection with a frontend
 *     xen-block-control.c    requests from the monitor and the block layer
 *     xen-block-toolstack.c  disks that a toolstack asks for
 *     xen-block-failed.c     such disks that could not be made
 *
 * All of that is control and runs under the BQL.  The rings are in
 * xen-block-ring.h.
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
#include "xen-block-ring.h"
#include "xen-vdev.h"

#define TYPE_XEN_BLOCK_DEVICE "xen-block"
#define TYPE_XEN_DISK_DEVICE "xen-disk"
#define TYPE_XEN_CDROM_DEVICE "xen-cdrom"

OBJECT_DECLARE_TYPE(XenBlockDevice, XenBlockDeviceClass, XEN_BLOCK_DEVICE)

/* Property num-queues: as many as it is useful to offer. */
#define XEN_BLOCK_AUTO_NUM_QUEUES UINT16_MAX
#define XEN_BLOCK_MAX_AUTO_QUEUES 16
#define XEN_BLOCK_MAX_QUEUES 256

/* A grant reference per page has to come out of xenstore; 4 MiB are plenty. */
#define XEN_BLOCK_MAX_RING_PAGE_ORDER 10

typedef struct XenBlockConf {
    XenVdev vdev;
    BlockConf conf;
    StatsIntervals stats_intervals;
    QueueIOThreadsConf iothreads;
    uint32_t max_ring_page_order;
    uint16_t num_queues;
    uint16_t max_indirect_segments; /* 0: no indirect requests */
    uint32_t max_persistent_grants; /* of all rings; 0: by their number */
    OnOffAuto persistent_grants;
    bool write_barriers;
    bool batch_copies;
} XenBlockConf;

/*
 * What the device is doing about the state of its frontend.  Following polls,
 * so the state may change once more meanwhile.
 *
 *    +------+ it changes +---------+ it changes +--------+
 *    | idle | ---------> | follows | ---------> | is     |
 *    |      | <--------- |         | <--------- | behind |
 *    +------+    done    +---------+    done    +--------+
 *
 * Nobody but xen_block_set_follow() changes it.
 */
typedef enum XenBlockFollow {
    XEN_BLOCK_IDLE,
    XEN_BLOCK_FOLLOWS,
    XEN_BLOCK_IS_BEHIND,
    XEN_BLOCK_FOLLOW__MAX
} XenBlockFollow;

/* Nobody but xen_block_set_vm() changes it. */
typedef enum XenBlockVM {
    XEN_BLOCK_VM_RUNS,          /* or has yet to start: rings are served, too */
    XEN_BLOCK_VM_STOPPED,       /* no ring is served */
} XenBlockVM;

struct XenBlockDevice {
    XenDevice xendev;
    BlockQueueDevice common;    /* its queues are rings, while connected */
    XenBlockConf props;
    unsigned info;              /* VDISK_* */
    XenBlockFollow follow;
    bool persistent_grants;     /* offered to frontends */
    Error *migration_blocker;
    QEMUTimer *tick_timer;      /* while connected: rings let go of things */

    XenBlockDisk disk;
    char *vdev_name;
    unsigned connections;       /* counts them, to tell late events from new */
    XenBlockVM vm;

    struct XenBlockToolstack *toolstack; /* NULL: made by the user */
};

struct XenBlockDeviceClass {
    XenDeviceClass parent_class;
    const char *device_type;    /* key "device-type" of the frontend */
    unsigned info;              /* VDISK_* that every such device has */
};

/** xen_block_get_ring: ring @i; there are as many as common.nr_queues. */
static inline XenBlockRing *xen_block_get_ring(const XenBlockDevice *blockdev,
                                               unsigned i)
{
    return container_of(block_queue_device_get(&blockdev->common, i),
                        XenBlockRing, common);
}

/**
 * xen_block_connect: read what the frontend has written to xenstore, and start
 * the rings that it describes.
 *
 * On error @errp is set and there is no ring.  It polls; there is no ring
 * either if the device was disconnected meanwhile.
 */
void xen_block_connect(XenBlockDevice *blockdev, Error **errp);

/**
 * xen_block_disconnect: wait for the requests in flight, and give the rings
 * back.
 *
 * Main loop thread.  Does nothing if there are none.
 */
void xen_block_disconnect(XenBlockDevice *blockdev);

/**
 * xen_block_offer: publish features and transport parameters, before state
 * InitWait.
 */
void xen_block_offer(XenBlockDevice *blockdev);

/**
 * xen_block_serve_rings: let new rings take requests, unless the VM is stopped:
 * then they do when it goes on.  Under the BQL.
 */
void xen_block_serve_rings(XenBlockDevice *blockdev);

/**
 * xen_block_tick_rings: every ten seconds from now on, while there are rings,
 * have them let go of what they have not used lately.  Under the BQL.
 */
void xen_block_tick_rings(XenBlockDevice *blockdev);

extern const BlockQueueDeviceOps xen_block_device_ops;

/**
 * xen_block_control_begin: from here on the block layer tells the disk of
 * drains and new sizes, rings may break, and the VM may stop.
 *
 * Under the BQL, at the end of realize.
 */
void xen_block_control_begin(XenBlockDevice *blockdev);

/**
 * xen_block_control_end: undo xen_block_control_begin().  There is no ring any
 * more.  BQL.
 */
void xen_block_control_end(XenBlockDevice *blockdev);

/**
 * xen_block_publish_size: tell the rings and xenstore how large the disk is
 * now.  Main loop thread.
 */
void xen_block_publish_size(XenBlockDevice *blockdev);

/**
 * xen_block_set_sector_size: settle what a sector is for the next connection,
 * and publish the size of the disk again if that is news.
 * @bytes: %XEN_BLKIF_SECTOR_SIZE, or the logical block size for a frontend that
 * counts in these
 *
 * There is no ring.  Main loop thread.
 */
void xen_block_set_sector_size(XenBlockDevice *blockdev, uint32_t bytes);

/**
 * xen_block_failed: tell toolstack and frontend that there is no such disk, and
 * forget @backend when they are done with it.  Main loop thread.
 * @backend: of a toolstack's disk, which has no device
 * @message: what was wrong
 */
void xen_block_failed(XenBackendInstance *backend, const char *message);

#endif /* HW_BLOCK_XEN_BLOCK_H */
