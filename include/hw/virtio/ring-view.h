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
 * address space, with a host pointer for each.  A queue holds one reference on
 * the view that it uses; this keeps the memory alive.  So the queue looks up
 * buffers without a lock and without a reference per descriptor.
 *
 * When the memory topology or its dirty logging changes, the source publishes
 * a new view.  Once per batch a queue compares one pointer to see whether its
 * view is the current one.  If not, it takes a reference on the new view.  It
 * drops the old view when the last request that was mapped through it has
 * ended.  VRing in vring.h does all this.
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

/* Index of the range that was found last, at first 0.  Each user has its own */
typedef uint32_t RingViewHint;

typedef struct RingViewRange {
    hwaddr start;       /* guest physical address */
    hwaddr len;         /* bytes, never 0 */
    uint8_t *host;      /* where @start is mapped */
    bool readonly;      /* the device must not write here */
    bool track;         /* writes must be reported: ring_view_mark_written() */
} RingViewRange;

/* Operations for the memory behind a view; NULL if it is plain arrays. */
typedef struct RingViewOps {
    /* Report that @len bytes at @offset of range @n were written; any thread */
    void (*mark)(const RingView *view, unsigned n, hwaddr offset, hwaddr len);
    /* The last reference is gone.  Called with the BQL held */
    void (*release)(RingView *view);
} RingViewOps;

struct RingView {
    struct rcu_head rcu;

    /* Every queue reads these, and none writes them. */
    unsigned nranges;
    bool track;                 /* any range has @track set */
    const RingViewOps *ops;
    void *opaque;               /* for @ops */

    /* Queues write this when they change views; it has its own cache line. */
    unsigned refcount QEMU_ALIGNED(64);

    /* One more than @nranges: the last has length 0 and matches nothing. */
    RingViewRange ranges[] QEMU_ALIGNED(64);
};

struct RingViewSource {
    RingView *current;          /* RCU; never NULL; the source's reference */
    bool partial;               /* BQL; views do not contain all RAM */
};

/**
 * ring_view_new_from_ranges: make a view of plain arrays.
 * @ranges: sorted by @start and not overlapping; the function copies them
 * @n: the number of ranges, may be 0
 *
 * Returns: the view with one reference, which is the caller's.
 */
RingView *ring_view_new_from_ranges(const RingViewRange *ranges, unsigned n);

/** ring_view_ref: take one more reference.  Context: any thread. */
void ring_view_ref(RingView *view);

/**
 * ring_view_unref: drop a reference.
 *
 * With the last reference the view also drops its memory regions.  The RCU
 * thread does that later, under the BQL, because it may finalize objects.
 *
 * Context: any thread.
 */
void ring_view_unref(RingView *view);

/**
 * ring_view_source_init: set up a source that starts with @view.
 * @view: the caller's reference passes to the source
 *
 * Tests and ring_view_source_new() use this.
 */
void ring_view_source_init(RingViewSource *src, RingView *view);

/** ring_view_source_destroy: undo ring_view_source_init(). */
void ring_view_source_destroy(RingViewSource *src);

/**
 * ring_view_source_publish: make @view the current one.
 * @view: the caller's reference passes to the source
 *
 * This ends with a full memory barrier.  The comment in vring.h on dirty
 * logging says why.
 *
 * Context: BQL, so there is one writer at a time.
 */
void ring_view_source_publish(RingViewSource *src, RingView *view);

/**
 * ring_view_source_acquire: return the current view, with a reference for the
 * caller.
 *
 * Context: any thread that is registered with RCU.
 */
RingView *ring_view_source_acquire(RingViewSource *src);

/**
 * ring_view_source_is_current: return whether @view is the current view.
 *
 * The caller must hold a reference on @view, so that no newer view has the same
 * address.  This costs one relaxed load.
 *
 * Context: any thread.
 */
static inline bool ring_view_source_is_current(const RingViewSource *src,
                                               const RingView *view)
{
    return qatomic_read(&src->current) == view;
}

/*
 * The source calls this under the BQL after it has published a new view.  A
 * busy queue finds the new view by itself.  If @gone is true, the old view has
 * memory that the new one does not have.  Then the function must make every
 * running queue call vring_refresh() in the queue's AioContext.  Otherwise an
 * idle queue would keep memory alive that the guest has unplugged.  The
 * function must not wait.
 */
typedef void RingViewChangedFn(void *opaque, bool gone);

/**
 * ring_view_source_new: follow an address space (ring-view-source.c).
 * @as: the device's DMA address space (vdev->dma_as)
 * @changed: may be NULL
 *
 * On return the source has its first view; @changed is not called for it.
 *
 * Views are empty if the host cannot keep guest RAM mapped (Xen's map cache),
 * or if the device is behind a vIOMMU.  Then the source is @partial.
 *
 * Context: BQL.
 */
RingViewSource *ring_view_source_new(AddressSpace *as,
                                     RingViewChangedFn *changed, void *opaque);

/**
 * ring_view_source_free: undo ring_view_source_new().
 *
 * Queues must be detached.  They may still hold references on views.
 *
 * Context: BQL.
 */
void ring_view_source_free(RingViewSource *src);

/** ring_view_map_slow: the slow part; only ring_view_map() calls this. */
void *ring_view_map_slow(const RingView *view, RingViewHint *hint,
                         hwaddr addr, size_t *len, bool is_write,
                         const RingViewRange **range);

/**
 * ring_view_map: translate a guest address to a host address.
 * @hint: belongs to the caller and to this view; must be 0 for a new view
 * @len: on entry the number of bytes wanted, not 0; on return the number of
 *       bytes at the host address.  That is less if the range ends earlier;
 *       then the caller goes on at @addr + *@len
 * @is_write: whether the device is going to write
 * @range: set to the range that has @addr; may be NULL
 *
 * Returns: the host address, or NULL if @addr is not RAM that the device may
 * access directly: if it is unmapped, MMIO, or read-only for a write, or if
 * @addr + @len is beyond 2^64.
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
 * ring_view_mark_written: report that the device has written @len bytes.
 * @host: from ring_view_map() of this view; an address that is not in the view
 *        is ignored
 *
 * This sets the pages' dirty bits and drops code that TCG has translated from
 * them.  It uses the memory region's present logging state, not the state of
 * the time when the view was made.
 *
 * Context: any thread.
 */
void ring_view_mark_written(const RingView *view, const void *host,
                            size_t len);

#endif /* HW_VIRTIO_RING_VIEW_H */
