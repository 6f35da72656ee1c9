/*
 * What must be true of virtio-blk when an input has ended
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/ioport.h"
#include "exec/memory.h"
#include "hw/virtio/virtio.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-virtio.h"
#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_ring.h"
#include "system/runstate.h"
#include "fuzz-machine.h"
#include "fuzz-vblk.h"

/* A block of any of the disks. */
#define CHECK_BYTES 4096

#define PATH "/machine/peripheral/" FUZZ_DEVICE "/virtio-backend"

static void notify_all(VblkDriver *d)
{
    for (int i = 0; i < VBLK_QUEUES; i++) {
        if (d->interfaces & VBLK_MODERN) {
            vblk_put(VBLK_NOTIFY + 4 * i, i, 2);
        } else {
            cpu_outw(VBLK_BAR_LEGACY + VIRTIO_PCI_QUEUE_NOTIFY, i);
        }
    }
}

static bool is_in_areas(uint64_t addr)
{
    return addr >= VBLK_AREA(0) && addr < VBLK_AREA(VBLK_AREAS);
}

/* Check that the device has taken all chains of a split ring. */
static void check_taken_split(const VirtQueueStatus *queue)
{
    if (is_in_areas(queue->vring_avail)) {
        assert(queue->last_avail_idx == vblk_get(queue->vring_avail + 2, 2));
    }
}

/* Check that the next descriptor of a packed ring is not available. */
static void check_taken_packed(VirtIODevice *vdev, int index)
{
    uint64_t ring = virtio_queue_get_desc_addr(vdev, index);
    unsigned next = virtio_queue_get_last_avail_idx(vdev, index);
    bool wrap = extract32(next, 15, 1);
    unsigned flags;

    if (is_in_areas(ring)) {
        flags = vblk_get(ring + extract32(next, 0, 15) * 16 + 14, 2);
        assert(extract32(flags, VRING_PACKED_DESC_F_AVAIL, 1) != wrap ||
               extract32(flags, VRING_PACKED_DESC_F_USED, 1) == wrap);
    }
}

static void check_queue(VirtIODevice *vdev, int index)
{
    VirtQueueStatus *queue = qmp_x_query_virtio_queue_status(PATH, index,
                                                             NULL);

    if (queue) {
        assert(queue->inuse == 0);
        /* The device has told the VirtQueue where it is in the ring. */
        if (virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED)) {
            check_taken_packed(vdev, index);
        } else {
            check_taken_split(queue);
        }
        qapi_free_VirtQueueStatus(queue);
    }
}

void vblk_check_given_back(VblkDriver *d)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(object_resolve_path(PATH, NULL));
    RunState reason;

    vblk_pci_place();
    notify_all(d);
    fuzz_settle();
    /* A request that has failed waits for the VM to stop and go on. */
    if (qemu_vmstop_requested(&reason)) {
        assert(reason == RUN_STATE_IO_ERROR);
        return;
    }
    assert(runstate_is_running());
    if (!vdev->started || vdev->broken || vdev->disabled || d->spoilt) {
        return;
    }
    for (int i = 0; i < VBLK_QUEUES; i++) {
        check_queue(vdev, i);
    }
}

/* Whether the first chain of a ring has been used. */
static bool is_used(VblkDriver *d, int queue)
{
    const VblkQueue *q = &d->queues[queue];
    const uint16_t both = 1 << VRING_PACKED_DESC_F_AVAIL |
                          1 << VRING_PACKED_DESC_F_USED;

    return d->ring == VBLK_PACKED ? (vblk_get(q->parts[0] + 14, 2) & both) ==
                                    both
                                  : vblk_get(q->parts[2] + 2, 2) == 1;
}

void vblk_check_served(VblkDriver *d, int queue)
{
    const uint64_t header = VBLK_BUFFERS, status = header + 16;
    const uint64_t data = header + 0x1000;
    const VblkSegment segments[] = {
        { header, 16, false },
        { data, CHECK_BYTES, true },
        { status, 1, true },
    };

    vblk_pci_place();
    vblk_start(d, 0, VBLK_SMALL_RING);
    vblk_put(header, VIRTIO_BLK_T_IN, 8);
    vblk_put(header + 8, 0, 8);
    address_space_set(&address_space_memory, data, 0xff, CHECK_BYTES,
                      MEMTXATTRS_UNSPECIFIED);
    vblk_put(status, 0xff, 1);
    vblk_offer(d, queue, segments, ARRAY_SIZE(segments), NULL);
    vblk_notify(d, queue);
    fuzz_settle();
    assert(is_used(d, queue));
    assert(vblk_get(status, 1) == VIRTIO_BLK_S_OK);
    for (int i = 0; i < CHECK_BYTES; i += 8) {
        assert(!vblk_get(data + i, 8));
    }
}
