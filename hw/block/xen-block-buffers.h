/*
 * Buffers for requests of a Xen PV disk whose data is copied
 *
 * A queue has buffers of a few sizes; only the owner thread uses them.  A new
 * buffer is taken from the domain's budget.  A queue may always have one buffer
 * of each size, even if the budget is used up.  So if a request waits for a
 * buffer, another request has one, and the wait ends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_BUFFERS_H
#define HW_BLOCK_XEN_BLOCK_BUFFERS_H

#include "xen-block-budget.h"

/* Buffers of one size. */
typedef struct XenBlockBuffers {
    XenBlockBudget *budget;
    void **free;                /* buffers that no request uses */
    unsigned nr_free;
    unsigned nr_made;
    unsigned max;               /* @nr_made never gets larger than this */
    unsigned fewest_free;       /* least @nr_free since the last tick */
    unsigned nr_pages;          /* pages of each buffer */
} XenBlockBuffers;

/** xen_block_buffers_init: allow @max buffers; none is made yet. */
void xen_block_buffers_init(XenBlockBuffers *b, XenBlockBudget *budget,
                            unsigned max, unsigned nr_pages);

/** xen_block_buffers_cleanup: free all buffers; no request uses one. */
void xen_block_buffers_cleanup(XenBlockBuffers *b);

/**
 * xen_block_buffers_make: make one; only xen_block_buffers_get() calls this.
 */
void *xen_block_buffers_make(XenBlockBuffers *b);

/**
 * xen_block_buffers_get: take a buffer.
 *
 * Returns: the buffer, or NULL if the caller has to wait until another request
 * puts one back.
 */
static inline void *xen_block_buffers_get(XenBlockBuffers *b)
{
    if (unlikely(!b->nr_free)) {
        return xen_block_buffers_make(b);
    }
    b->nr_free--;
    b->fewest_free = MIN(b->fewest_free, b->nr_free);
    return b->free[b->nr_free];
}

/** xen_block_buffers_put: give a buffer back. */
static inline void xen_block_buffers_put(XenBlockBuffers *b, void *buf)
{
    b->free[b->nr_free++] = buf;
}

/**
 * xen_block_buffers_tick: free the buffers that were not needed since the last
 * call.
 *
 * The queue calls this every ten seconds.
 */
void xen_block_buffers_tick(XenBlockBuffers *b);

#endif /* HW_BLOCK_XEN_BLOCK_BUFFERS_H */
