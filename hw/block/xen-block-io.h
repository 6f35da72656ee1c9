/*
 * Data of Xen PV disk requests: a place for it, and the way to the disk
 *
 * All of it runs in the ring's thread, unless told otherwise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_IO_H
#define HW_BLOCK_XEN_BLOCK_IO_H

#include "qemu/defer-call.h"
#include "xen-block-ring.h"

/**
 * xen_block_io_prepare: give the data of every request in @ring->batch a place:
 * granted pages or a buffer, which for a write is filled.
 *
 * A request that cannot have one gets a fault.  One that has to wait for a
 * buffer goes to @ring->unplaced.
 */
void xen_block_io_prepare(XenBlockRing *ring);

/**
 * xen_block_io_place: do so for requests in @ring->unplaced; those that have a
 * place then are added to @ring->batch.
 */
void xen_block_io_place(XenBlockRing *ring);

/** xen_block_io_tick: give back what the ring has not needed lately. */
void xen_block_io_tick(XenBlockRing *ring, XenBlockTick tick);

/**
 * xen_block_io_run: start every request in @ring->batch, which is empty then.
 *
 * For each of them xen_block_io_done() follows, now or later.
 */
void xen_block_io_run(XenBlockRing *ring);

/**
 * xen_block_io_finish: end the requests in @ring->done.
 *
 * Copies what was read into buffers to the frontend, lets go of the places of
 * their data, accounts for them, and settles their @status.
 */
void xen_block_io_finish(XenBlockRing *ring);

/**
 * xen_block_io_done: @r has run or has a fault.
 *
 * The response may be published and @r be used again on return.
 */
static inline void xen_block_io_done(XenBlockRequest *r)
{
    XenBlockRing *ring = r->ring;

    ring->done[ring->nr_done++] = r;
    if (ring->nr_done == 1) {
        defer_call(ring->flush, ring);
    }
}

/** xen_block_io_init: allocates what the functions above need.  BQL. */
void xen_block_io_init(XenBlockRing *ring);

/** xen_block_io_cleanup: frees it.  BQL. */
void xen_block_io_cleanup(XenBlockRing *ring);

#endif /* HW_BLOCK_XEN_BLOCK_IO_H */
