/*
 * A virtqueue's ring, read and written straight in guest memory
 *
 *    vring_take()              vring_push()           vring_publish()
 *    +-----------+   chain    +------------+  batch   +-------------------+
 *    | avail or  | ---------> | used entry | -------> | used index, once; |
 *    | desc ring |  (caller)  | not yet    |          | want interrupt?   |
 *    +-----------+            | visible    |          +-------------------+
 *
 * A VRing belongs to one thread at a time, the thread of the queue's
 * AioContext.  It takes no lock, and it writes no cache line that another
 * queue uses.  It allocates memory only when the memory view changes, and for
 * the first indirect table that is scattered in host memory.  Split and packed
 * rings have the same functions here; vring-split.c and vring-packed.c
 * implement the two layouts.
 *
 * Every ring entry and descriptor is copied once, then checked, then used.  If
 * the guest changes it after the copy, the device does not see the change.
 *
 * The queue's thread handles a batch in this way:
 *
 *    if (!vring_refresh(r)) { ... let requests end, use virtio.c instead ... }
 *    do {
 *        vring_set_notification(r, false);
 *        while ((ret = vring_take(r, &chain)) > 0) {
 *            ... copy chain and its iovecs into a request, start it ...
 *        }
 *        if (ret < 0) { virtio_error(vdev, "...: %s", vring_fault(r)); }
 *        vring_set_notification(r, true);
 *    } while (!vring_empty(r));
 *
 * and it gives back the requests that have completed in this way:
 *
 *    for each request: vring_push(r, &req->chain, written);
 *    if (vring_publish(r)) { ... raise the queue's interrupt ... }
 *    ... only now reuse the requests ...
 *
 * Dirty logging and translated code
 * ---------------------------------
 * Migration, display and TCG's cache of translated code also read guest
 * memory.  A part of QEMU that tracks guest memory must learn of our writes.
 * There are two cases:
 *
 * 1. The memory was tracked when the chain was mapped.  Then vring_push()
 *    reports the chain's pages before the used index changes.  TCG needs this
 *    order.  Otherwise a guest could see that a read has completed, and then
 *    run the old translation of a page that the read has changed.  TCG tracks
 *    pages all the time, so this case is enough for it.
 * 2. Tracking begins during a batch, because a migration starts.  Then the
 *    queue's thread and the thread that starts the log do these steps:
 *
 *        queue                              log
 *        W: data, used entries, index       P: publish a view that tracks
 *        smp_mb()  (publish has it anyway)  smp_mb()
 *        L: load the current view           R: first pass over all memory
 *
 *    Either L sees P, and vring_publish() reports the whole batch late; or R
 *    sees W.  This needs three facts about the log's side.  The logging state
 *    (global_dirty_tracking) is set before P.  P is part of
 *    memory_global_dirty_log_start(), which calls the listeners.  Migration
 *    sets all bits of its bitmap before that call, and sends its first page
 *    after it.  A late report is good enough for migration, because migration
 *    reads its last bitmap after the queue has stopped.
 *
 * The ring itself (used entries, index, event fields) is guest memory, too,
 * and follows the same rules.  There is one exception: the flag that disables
 * kicks has no barrier after it.  It is written again when kicks are enabled.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_H
#define HW_VIRTIO_VRING_H

#include "hw/virtio/ring-view.h"
#include "standard-headers/linux/virtio_ring.h"

/*
 * Most segments of a chain, and most entries of an indirect table that is
 * not contiguous in host memory.  The number is that of VIRTQUEUE_MAX_SIZE.
 */
#define VRING_MAX_SEGMENTS 1024

typedef struct VRing VRing;
typedef struct VRingChain VRingChain;
typedef struct VRingSlow VRingSlow;

/* Where a ring lies, and its features (VIRTIO 1.2, 2.7 and 2.8). */
typedef struct VRingConfig {
    hwaddr desc;            /* descriptor table; packed: descriptor ring */
    hwaddr avail;           /* available ring; packed: driver event area */
    hwaddr used;            /* used ring; packed: device event area */
    unsigned num;           /* entries, 1 to VRING_MAX_SEGMENTS */
    bool packed;            /* VIRTIO_F_RING_PACKED */
    bool event_idx;         /* VIRTIO_RING_F_EVENT_IDX */
    bool indirect;          /* VIRTIO_RING_F_INDIRECT_DESC */
    bool notify_on_empty;   /* VIRTIO_F_NOTIFY_ON_EMPTY (legacy, split) */
    bool in_order;          /* VIRTIO_F_IN_ORDER: vring_attach() refuses it */
    bool big_endian;        /* a legacy driver's: vring_attach() refuses it */
} VRingConfig;

/*
 * Positions in the ring, for the hand-over to and from a VirtQueue.  In a split
 * ring they are free-running indexes, and the wrap counters are not used.
 */
typedef struct VRingState {
    uint16_t last_avail_idx;
    uint16_t used_idx;
    bool avail_wrap;
    bool used_wrap;
} VRingState;

/*
 * A queue's reference on a view, with the number of chains in flight that were
 * mapped by that view.  Only the queue's thread uses it.
 */
typedef struct VRingViewRef {
    RingView *view;
    unsigned inflight;
    struct VRingViewRef *next;  /* in r->retired */
} VRingViewRef;

/*
 * A descriptor chain that the driver has made available.  vring_take() fills
 * it in.  The caller keeps a copy, whose @iov points to a copy of the segments.
 * It must keep that copy until the vring_publish() that follows the chain's
 * vring_push().
 */
struct VRingChain {
    uint16_t id;            /* head's index (split), buffer id (packed) */
    uint16_t ndescs;        /* ring slots that it fills (packed) */
    uint16_t out_num;       /* segments that the device reads; first in @iov */
    uint16_t in_num;        /* segments that the device writes */
    VRingSlow *slow;        /* segments mapped by the DMA API, or NULL */
    bool track;             /* writes to its segments must be reported */
    uint64_t out_len;       /* bytes */
    uint64_t in_len;
    uint16_t room;          /* segments that @iov has room for */
    struct iovec *iov;      /* the caller's, or r->iov until the next take */
    VRingViewRef *view_ref; /* keeps the memory alive */
    VRingChain *next;       /* in r->pushed */
};

struct VRing {
    /* Host pointers to the ring; NULL while it is not attached. */
    union {
        struct vring_desc *desc;
        struct vring_packed_desc *packed_desc;
    };
    union {
        struct vring_avail *avail;
        struct vring_packed_desc_event *driver_event;
    };
    union {
        struct vring_used *used;
        struct vring_packed_desc_event *device_event;
    };
    struct iovec *iov;          /* the thread's scratch, VRING_MAX_SEGMENTS */
    VRingViewRef *view_ref;     /* the view that new chains are mapped by */
    RingViewSource *src;

    uint16_t num;
    bool packed;
    bool event_idx;
    bool indirect;
    bool notify_on_empty;
    bool used_track;            /* writes to the ring must be reported */
    bool direct_only;           /* set by the owner: take only direct RAM */

    /* For vring_take() */
    bool avail_wrap;
    bool notification;          /* the driver is asked to kick */
    uint16_t last_avail_idx;    /* the entry to take next */
    uint16_t shadow_avail_idx;  /* split: the driver's index, as last read */
    RingViewHint hint;

    /* For vring_push() and vring_publish() */
    uint16_t used_idx;          /* the entry to write next */
    uint16_t unpublished;       /* slots pushed since the last publish */
    uint16_t inuse;             /* slots taken and not yet pushed */
    uint16_t first_flags;       /* packed: flags that make a batch visible */
    bool used_wrap;
    bool signalled_used_valid;  /* false: interrupt the driver in any case */
    VRingChain *pushed;         /* not yet published, newest first */

    const char *fault;          /* the fault of a malformed ring, or NULL */

    /* Seldom used */
    VRingConfig config;
    AddressSpace *as;
    void *table;                /* copy of a scattered indirect table */
    VRingViewRef *retired;      /* older views with requests in flight */
};

/**
 * vring_config_from_vdev: fill in @config as the driver has set up the ring.
 * @n: index of the queue
 *
 * Context: BQL, after the driver has negotiated features and enabled the queue.
 * In vring-vdev.c.
 */
void vring_config_from_vdev(VRingConfig *config, VirtIODevice *vdev, int n);

/**
 * vring_load_from_vdev: take the positions from the VirtQueue.
 *
 * The ring must be attached.  The VirtQueue of a split ring has no used index
 * that can be read, so this reads the used index in guest memory.
 *
 * Context: BQL, while no other thread uses the queue.
 *
 * Returns: true, or false as vring_set_state(), if the guest has overwritten
 * the used index.
 */
bool vring_load_from_vdev(VRing *r, VirtIODevice *vdev, int n);

/**
 * vring_store_to_vdev: copy the positions to the VirtQueue.
 *
 * The ring must be attached.  Chains in flight now count as in flight in the
 * VirtQueue.  The device may end them there, as elements with the chain's id
 * and ndescs and without segments.
 *
 * Context: BQL, while no other thread uses the queue.
 */
void vring_store_to_vdev(const VRing *r, VirtIODevice *vdev, int n);

/**
 * vring_setup: set up a ring with its positions at the start.
 * @as: for buffers that are not in the view
 *
 * The ring is not attached.  (The name vring_init() belongs to virtio_ring.h.)
 *
 * Context: BQL.
 */
void vring_setup(VRing *r, const VRingConfig *config, AddressSpace *as);

/**
 * vring_enter_thread: prepare the ring for the calling thread.
 *
 * The caller does this before each batch.  A ring of the main loop is read by
 * any thread that holds the BQL, and the thread of the last batch may have
 * ended.
 */
void vring_enter_thread(VRing *r);

/** vring_is_set_up: return whether vring_setup() is not yet undone. */
static inline bool vring_is_set_up(const VRing *r)
{
    return r->as != NULL;
}

/**
 * vring_cleanup: undo vring_setup().
 *
 * The ring must be detached, and no chain may be in flight.
 */
void vring_cleanup(VRing *r);

/**
 * vring_attach: find the ring in guest memory.
 * @src: must exist until vring_detach()
 *
 * Context: owner thread, or any thread while no other uses the queue.
 *
 * Returns: true, or false if this reader cannot use the ring.  That is so if
 * an area of the ring is not inside one range of RAM, is not writable although
 * it must be, or is not aligned; if the size of a split ring is not a power of
 * two; or if the driver is big-endian or uses VIRTIO_F_IN_ORDER.  Then the ring
 * stays detached, and the caller uses the virtqueue calls of QEMU's virtio.c.
 */
bool vring_attach(VRing *r, RingViewSource *src);

/**
 * vring_can_attach: return whether vring_attach() would succeed with @view.
 *
 * This allocates no memory.
 *
 * Context: any thread.
 */
bool vring_can_attach(const VRingConfig *config, const RingView *view);

/**
 * vring_detach: undo vring_attach().
 *
 * Chains in flight keep their memory.  vring_drop() may drop them later.
 *
 * Context: owner thread, or any thread while no other uses the queue.
 */
void vring_detach(VRing *r);

/** vring_attached: return whether vring_attach() is not yet undone. */
static inline bool vring_attached(const VRing *r)
{
    return r->desc != NULL;
}

/** vring_get_state: copy the ring's positions to @state. */
void vring_get_state(const VRing *r, VRingState *state);

/**
 * vring_set_state: set the ring's positions.
 *
 * The entries between the two positions count as in flight.
 *
 * Returns: true, or false with nothing changed if these positions are not
 * possible in a ring of this size.
 */
bool vring_set_state(VRing *r, const VRingState *state);

/**
 * vring_invalidate_signalled_used: make the next vring_publish() ask for an
 * interrupt, whatever the driver was told before.
 */
static inline void vring_invalidate_signalled_used(VRing *r)
{
    r->signalled_used_valid = false;
}

/** vring_switch_view: the slow part; only vring_refresh() calls this. */
bool vring_switch_view(VRing *r);

/**
 * vring_refresh: follow changes of guest memory.
 *
 * The caller does this at the start of every batch.
 *
 * Returns: true, or false if the ring lies in memory that is no longer direct.
 * Then the ring keeps its old view, so that chains in flight can end.  The
 * caller should take no more chains, and go over to the virtqueue calls of
 * QEMU's virtio.c.
 */
static inline bool vring_refresh(VRing *r)
{
    if (likely(ring_view_source_is_current(r->src, r->view_ref->view))) {
        return true;
    }
    return vring_switch_view(r);
}

/** vring_take_split: vring_take_into() of a split ring. */
int vring_take_split(VRing *r, VRingChain *chain);

/** vring_take_packed: vring_take_into() of a packed ring. */
int vring_take_packed(VRing *r, VRingChain *chain);

/**
 * vring_take_into: take the next chain that the driver has made available.
 * @chain: filled in on success
 * @iov: an array for the chain's segments
 * @room: number of entries of @iov, at most VRING_MAX_SEGMENTS.  If the chain
 *        has more segments, they are in @r->iov and the caller has to copy them
 *
 * A chain has at least one segment, and no segment is empty.  As in virtio.c,
 * indirect tables are accepted wherever 2.7.5.3 allows them, even if the driver
 * has not negotiated them; then they are logged with -d guest_errors.  Buffers
 * that are not direct RAM are mapped with the DMA API, which may use a bounce
 * buffer (@chain->slow).  If that fails, the ring is malformed.
 *
 * Reading or writing MMIO takes the BQL.  The thread that holds the BQL may be
 * waiting for this thread, in a drain.  So an owner that is not the main loop
 * sets @r->direct_only, and lets the main loop serve the ring when a buffer is
 * not direct RAM.
 *
 * Returns: 1 if it has taken a chain, 0 if the ring has none.  -EINVAL if the
 * ring is malformed; then vring_fault() names the fault and the device needs a
 * reset.  -EAGAIN if @r->direct_only is set and a part of the chain is not
 * direct RAM; then the chain stays in the ring.
 */
static inline int vring_take_into(VRing *r, VRingChain *chain,
                                  struct iovec *iov, unsigned room)
{
    chain->iov = iov;
    chain->room = room;
    return r->packed ? vring_take_packed(r, chain)
                     : vring_take_split(r, chain);
}

/**
 * vring_take: vring_take_into() with the segments in @r->iov; the caller has to
 * copy them.
 */
static inline int vring_take(VRing *r, VRingChain *chain)
{
    return vring_take_into(r, chain, r->iov, VRING_MAX_SEGMENTS);
}

/** vring_fault: return the fault as a constant text, or NULL without one. */
static inline const char *vring_fault(const VRing *r)
{
    return r->fault;
}

/** vring_push_split: vring_push() to a split ring. */
void vring_push_split(VRing *r, VRingChain *chain, uint32_t written);

/** vring_push_packed: vring_push() to a packed ring. */
void vring_push_packed(VRing *r, VRingChain *chain, uint32_t written);

/**
 * vring_push: give a chain back; the driver does not see it yet.
 * @chain: must stay valid, with its @iov, until vring_publish()
 * @written: bytes written to its device-writable segments
 *
 * Chains may be given back in any order.  This unmaps a slow chain, which may
 * write to MMIO; only the main loop has slow chains.
 */
static inline void vring_push(VRing *r, VRingChain *chain, uint32_t written)
{
    if (r->packed) {
        vring_push_packed(r, chain, written);
    } else {
        vring_push_split(r, chain, written);
    }
}

/**
 * vring_publish: show all pushed chains to the driver.
 *
 * This is cheap if nothing was pushed.
 *
 * Returns: true if the driver wants an interrupt for them.
 */
bool vring_publish(VRing *r);

/**
 * vring_driver_waits: return whether the driver may be waiting for an
 * interrupt for entries that were published before.
 *
 * If the driver does not say which entry it waits for, it counts as waiting
 * whenever it has interrupts enabled.
 *
 * The ring must be attached, and all pushed chains must be published.
 */
bool vring_driver_waits(const VRing *r);

/**
 * vring_adopt: prepare a chain that another reader took for vring_push().
 * @chain: only @id and @ndescs are used; the caller itself unmaps the chain's
 *         segments and reports writes to them
 *
 * This is for requests that came with a migration.  The positions in
 * vring_set_state() must have counted the chain as in flight.
 */
static inline void vring_adopt(VRing *r, VRingChain *chain)
{
    chain->out_num = 0;
    chain->in_num = 0;
    chain->slow = NULL;
    chain->track = false;
    chain->view_ref = r->view_ref;
    chain->view_ref->inflight++;
    if (!r->packed) {
        chain->ndescs = 1;
    }
}

/**
 * vring_chain_address: return the guest address of a segment of @chain->iov.
 *
 * This is slow.  Migration uses it, to save chains.
 *
 * Context: BQL, or owner thread.
 */
hwaddr vring_chain_address(const VRingChain *chain, unsigned segment);

/**
 * vring_drop: release a chain without giving it back, because of a reset.
 *
 * The ring may be detached.  This writes nothing to MMIO.  It reports all of
 * the chain's pages in RAM as written.
 */
void vring_drop(VRing *r, VRingChain *chain);

/**
 * vring_set_notification: ask the driver to kick, or not to.
 *
 * With @enable this ends with a full barrier.  The caller must call
 * vring_empty() afterwards, to find chains that the driver has added before it
 * could see that it should kick.
 */
void vring_set_notification(VRing *r, bool enable);

/**
 * vring_empty: return whether the driver has made nothing available.
 *
 * This reads one index or flag of the ring and changes nothing, so poll
 * handlers may call it.
 */
bool vring_empty(const VRing *r);

#endif /* HW_VIRTIO_VRING_H */
