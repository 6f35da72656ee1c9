/*
 * What must be true of virtio-blk when an input has ended
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_ring.h"
#include "fuzz-machine.h"
#include "fuzz-vblk.h"

/* A block of any of the disks. */
#define CHECK_BYTES 4096

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
