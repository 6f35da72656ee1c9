/*
 * Guest memory as one queue sees it
 *
 *      AddressSpace --listener--> RingViewSource
 *                                    | current (one pointer, RCU)
 *                     +--------------+--------------+
 *                     v                             v
 *            RingView #7 (old)             RingView #8 (new)
 *            range range range             range range range
 *              ^                             ^
 *              | requests mapped before      | requests mapped since
 *              +---------- queue 0 ----------+---- queue 1 ...
 *
 * A RingView is an immutable, sorted table of the RAM ranges of a device's
 * address space, with a host pointer for each.  Queues look buffers up in it
 * with no lock and no reference per descriptor; what keeps the memory alive
 * is the one reference that a queue holds on the view it works with.
 *
 * When the memory topology or its dirty logging changes, the source publishes
 * a new view.  A queue notices by comparing one pointer per batch, takes a
 * reference on the new view and drops the old one when the last request that
 * was mapped through it has ended (VRing in vring.h does all this).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_RING_VIEW_H
#define HW_VIRTIO_RING_VIEW_H

#include "exec/hwaddr.h"
#include "qemu/atomic.h"
#include "qemu/rcu.h"

typedef struct RingView RingView;
typedef struct RingViewSource RingViewSource;

/* Index of the range that was hit last; 0 to begin with.  One per user. */
typedef uint32_t RingViewHint;

typedef struct RingViewRange {
    hwaddr start;       /* guest physical address */
    hwaddr len;         /* bytes, never 0 */
    uint8_t *host;      /* where @start is mapped */
    bool readonly;      /* the device must not write here */
    bool track;         /* writes must be reported: ring_view_mark_written() */
} RingViewRange;

/* What the memory behind a view can do; NULL for plain arrays. */
typedef struct RingViewOps {
    /* @len bytes at @offset of range @n were written; any thread */
    void (*mark)(const RingView *view, unsigned n, hwaddr offset, hwaddr len);
    /* last reference is gone; called with the BQL held */
    void (*release)(RingView *view);
} RingViewOps;

struct RingView {
    struct rcu_head rcu;

    /* Read by every queue, written by none. */
    unsigned nranges;
    bool track;                 /* any range has @track set */
    const RingViewOps *ops;
    void *opaque;               /* for @ops */

    /* Written when a queue changes views, so away from what they read. */
    unsigned refcount QEMU_ALIGNED(64);

    /* One more than @nranges: the last has length 0 and matches nothing. */
    RingViewRange ranges[] QEMU_ALIGNED(64);
};

struct RingViewSource {
    RingView *current;          /* RCU; never NULL; one reference is held */
    bool partial;               /* BQL: there is RAM that views do not have */
};

/**
 * ring_view_new_from_ranges: a view of plain arrays
 * @ranges: sorted by @start, not overlapping; copied
 * @n: how many, may be 0
 *
 * Returns: the view with one reference, for the caller.
 */
RingView *ring_view_new_from_ranges(const RingViewRange *ranges, unsigned n);

/** ring_view_ref: take a reference.  Any thread that holds one. */
void ring_view_ref(RingView *view);

/**
 * ring_view_unref: drop a reference.
 *
 * Any thread.  With the last reference the memory regions are let go of
 * later, by the RCU thread under the BQL, because that may finalize objects.
 */
void ring_view_unref(RingView *view);

/**
 * ring_view_source_init: a source that starts with @view
 * @view: the caller's reference passes to the source
 *
 * For tests and for ring_view_source_new(); pair with
 * ring_view_source_destroy().
 */
void ring_view_source_init(RingViewSource *src, RingView *view);

/** ring_view_source_destroy: end what ring_view_source_init() has begun. */
void ring_view_source_destroy(RingViewSource *src);

/**
 * ring_view_source_publish: make @view the current one
 * @view: the caller's reference passes to the source
 *
 * Under the BQL (one writer).  Ends with a full memory barrier, the
 * publisher's half of the argument in vring.h.
 */
void ring_view_source_publish(RingViewSource *src, RingView *view);

/**
 * ring_view_source_acquire: the current view, with a reference for the
 * caller.  Any thread that is registered with RCU.
 */
RingView *ring_view_source_acquire(RingViewSource *src);

/**
 * ring_view_source_is_current: has nothing changed since @view?
 *
 * @view must be referenced by the caller (so its address is not used anew).
 * One relaxed load; any thread.
 */
static inline bool ring_view_source_is_current(const RingViewSource *src,
                                               const RingView *view)
{
    return qatomic_read(&src->current) == view;
}

/*
 * Called under the BQL after a new view was published.  A queue at work finds
 * it by itself.  With @gone the old view had memory that the new one has not:
 * then every running queue must be made to look (vring_refresh() in the queue's
 * AioContext), or else an idle one keeps memory alive that the guest has
 * unplugged.  It must not wait.
 */
typedef void RingViewChangedFn(void *opaque, bool gone);

/**
 * ring_view_source_new: follow an address space (ring-view-source.c)
 * @as: the device's DMA address space (vdev->dma_as)
 * @changed: may be NULL
 *
 * Under the BQL.  The first view is there on return, and @changed is not
 * called for it.  Where the host cannot keep guest RAM mapped (Xen's map
 * cache) and behind a vIOMMU, views are empty, nothing is direct, and the
 * source is @partial.
 */
RingViewSource *ring_view_source_new(AddressSpace *as,
                                     RingViewChangedFn *changed, void *opaque);

/**
 * ring_view_source_free: end what ring_view_source_new() has begun.
 *
 * Under the BQL.  Queues must be detached; views may still be referenced.
 */
void ring_view_source_free(RingViewSource *src);

/** ring_view_map_slow: the rest of ring_view_map(); use that. */
void *ring_view_map_slow(const RingView *view, RingViewHint *hint,
                         hwaddr addr, size_t *len, bool is_write,
                         const RingViewRange **range);

/**
 * ring_view_map: host address of guest memory
 * @hint: belongs to the caller and to this view; 0 for a new view
 * @len: in: bytes wanted, not 0; out: bytes there are, less than wanted when
 *       the range ends before (go on at @addr + *@len)
 * @is_write: the device is going to write
 * @range: out, the range that was hit; may be NULL
 *
 * Returns: NULL when @addr is not RAM that the device may access directly:
 * unmapped, MMIO, read-only for a write, or @addr + @len beyond 2^64.
 */
static inline void *ring_view_map(const RingView *view, RingViewHint *hint,
                                  hwaddr addr, size_t *len, bool is_write,
                                  const RingViewRange **range)
{
    const RingViewRange *r = &view->ranges[*hint];
    hwaddr offset = addr - r->start;

    if (unlikely(offset >= r->len || *len > r->len - offset ||
                 (is_write && r->readonly))) {
        return ring_view_map_slow(view, hint, addr, len, is_write, range);
    }
    if (range) {
        *range = r;
    }
    return r->host + offset;
}

/**
 * ring_view_mark_written: the device has written @len bytes at @host
 *
 * Dirties the pages for all that log them, and drops translated code.  @host is
 * from ring_view_map() on this view; an address that is not in the view is
 * ignored.  What is asked for is decided by the memory region's logging now,
 * not when the view was made.  Any thread.
 */
void ring_view_mark_written(const RingView *view, const void *host,
                            size_t len);

#endif /* HW_VIRTIO_RING_VIEW_H */
