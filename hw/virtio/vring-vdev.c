/*
 * A ring's layout and positions, from and to virtio.c's VirtQueue
 *
 * vhost backends take over a ring in the same way.  The VirtQueue keeps what a
 * transport sets up and what migration sends.  It is not up to date while a
 * VRing reads the ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/virtio/virtio.h"
#include "hw/virtio/vring.h"

/* The wrap counter in a packed ring's position, as virtio.c returns it */
#define WRAP_BIT        0x8000
#define POSITION_MASK   0x7fff

void vring_config_from_vdev(VRingConfig *config, VirtIODevice *vdev, int n)
{
    *config = (VRingConfig) {
        .desc = virtio_queue_get_desc_addr(vdev, n),
        .avail = virtio_queue_get_avail_addr(vdev, n),
        .used = virtio_queue_get_used_addr(vdev, n),
        .num = virtio_queue_get_num(vdev, n),
        .packed = virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED),
        .event_idx = virtio_vdev_has_feature(vdev, VIRTIO_RING_F_EVENT_IDX),
        .indirect = virtio_vdev_has_feature(vdev,
                                            VIRTIO_RING_F_INDIRECT_DESC),
        .notify_on_empty = virtio_vdev_has_feature(vdev,
                                                   VIRTIO_F_NOTIFY_ON_EMPTY),
        .in_order = virtio_vdev_has_feature(vdev, VIRTIO_F_IN_ORDER),
        .big_endian = virtio_is_big_endian(vdev),
    };
}

bool vring_load_from_vdev(VRing *r, VirtIODevice *vdev, int n)
{
    unsigned pos = virtio_queue_get_last_avail_idx(vdev, n);
    VRingState state;

    if (r->packed) {
        state = (VRingState) {
            .last_avail_idx = pos & POSITION_MASK,
            .avail_wrap = pos & WRAP_BIT,
            .used_idx = (pos >> 16) & POSITION_MASK,
            .used_wrap = (pos >> 16) & WRAP_BIT,
        };
    } else {
        state = (VRingState) {
            .last_avail_idx = pos,
            .used_idx = le16_to_cpu(qatomic_read(&r->used->idx)),
        };
    }
    return vring_set_state(r, &state);
}

void vring_store_to_vdev(const VRing *r, VirtIODevice *vdev, int n)
{
    VRingState s;
    unsigned pos;

    vring_get_state(r, &s);
    pos = s.last_avail_idx;
    if (r->packed) {
        pos |= s.avail_wrap ? WRAP_BIT : 0;
        pos |= (s.used_idx | (s.used_wrap ? WRAP_BIT : 0u)) << 16;
    }
    virtio_queue_set_last_avail_idx(vdev, n, pos);
    virtio_queue_update_used_idx(vdev, n);
    virtio_queue_set_inuse(vdev, n, r->inuse);
    virtio_queue_invalidate_signalled_used(vdev, n);
}
