/*
 * Data of Xen PV disk requests: memory for it, and reads and writes of the disk
 *
 * These functions run in the owner thread, unless their comment says
 * otherwise.  The place of a request's data is either mapped pages of the
 * frontend, or a buffer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_IO_H
#define HW_BLOCK_XEN_BLOCK_IO_H

#include "qemu/defer-call.h"
#include "xen-block-queue.h"

/**
 * xen_block_io_prepare: find a place for the data of all requests in
 * @q->batch.
 *
 * If the place is a buffer, the data of a write is copied into it.  A request
 * that cannot have a place gets a fault.  A request that has to wait for a
 * buffer goes to @q->unplaced.
 */
void xen_block_io_prepare(XenBlockQueue *q);

/**
 * xen_block_io_place: find a place for the data of requests in
 * @q->unplaced.
 *
 * Requests that get a place move to @q->batch.
 */
void xen_block_io_place(XenBlockQueue *q);

/** xen_block_io_tick: give back resources that were not used lately. */
void xen_block_io_tick(XenBlockQueue *q, XenBlockTick tick);

/**
 * xen_block_io_submit: start every request in @q->batch, and empty it.
 *
 * xen_block_io_done() follows for each request, now or later.
 */
void xen_block_io_submit(XenBlockQueue *q);

/**
 * xen_block_io_finish: end the requests in @q->done.
 *
 * This copies data that was read from buffers to the frontend, gives back the
 * places of the data, counts the requests in the statistics, and sets their
 * @status.
 */
void xen_block_io_finish(XenBlockQueue *q);

/**
 * xen_block_io_done: note that @r has run, or that it has a fault.
 *
 * On return the response may already be published, and @r may be in use for
 * another request.
 */
static inline void xen_block_io_done(XenBlockRequest *r)
{
    XenBlockQueue *q = r->q;

    q->done[q->nr_done++] = r;
    if (q->nr_done == 1) {
        defer_call(q->flush, q);
    }
}

/**
 * xen_block_io_init: allocate the memory that the functions above need.
 *
 * Context: BQL.
 */
void xen_block_io_init(XenBlockQueue *q);

/** xen_block_io_cleanup: undo xen_block_io_init().  Context: BQL. */
void xen_block_io_cleanup(XenBlockQueue *q);

#endif /* HW_BLOCK_XEN_BLOCK_IO_H */
