/*
 * Buffers for the data of a Xen PV disk's requests that are copied
 *
 * A ring has some of a few sizes.  They are its thread's, and are taken from
 * the budget of the domain as they are made.  One of each size may always be
 * made, so a ring whose requests wait for a buffer has one in use that will be
 * free.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_BUFFERS_H
#define HW_BLOCK_XEN_BLOCK_BUFFERS_H

#include "xen-block-budget.h"

/* Buffers of one size. */
typedef struct XenBlockBuffers {
    XenBlockBudget *budget;
    void **free;                /* those that no request has */
    unsigned nr_free;
    unsigned nr_made;
    unsigned max;               /* of @nr_made */
    unsigned fewest_free;       /* since the last tick */
    unsigned nr_pages;          /* of each */
} XenBlockBuffers;

/** xen_block_buffers_init: for at most @max at once; makes none yet */
void xen_block_buffers_init(XenBlockBuffers *b, XenBlockBudget *budget,
                            unsigned max, unsigned nr_pages);

/** xen_block_buffers_cleanup: gives all back; none is in use */
void xen_block_buffers_cleanup(XenBlockBuffers *b);

/** xen_block_buffers_make: the part of xen_block_buffers_get() that is rare */
void *xen_block_buffers_make(XenBlockBuffers *b);

/**
 * xen_block_buffers_get: a buffer, or NULL while others have to be put back
 * first.
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
 * xen_block_buffers_tick: give back as many as were never needed since the last
 * time.  To be called every ten seconds.
 */
void xen_block_buffers_tick(XenBlockBuffers *b);

#endif /* HW_BLOCK_XEN_BLOCK_BUFFERS_H */
