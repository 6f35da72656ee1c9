/*
 * A virtqueue's ring, read and written straight in guest memory
 *
 *    vring_take()              vring_push()           vring_publish()
 *    +-----------+   chain    +------------+  batch   +-------------------+
 *    | avail or  | ---------> | used entry | -------> | used index, once; |
 *    | desc ring |  (caller)  | not yet    |          | want interrupt?   |
 *    +-----------+            | visible    |          +-------------------+
 *
 * A VRing belongs to one thread at a time (the queue's AioContext).  It takes
 * no lock, allocates nothing but on a change of the memory view and for the
 * first indirect table that is scattered, and touches no line that another
 * queue writes.  Split and packed rings have the same functions here;
 * vring-split.c and vring-packed.c are the two layouts.
 *
 * Every ring entry and descriptor is copied once, then checked, then used.  A
 * guest that changes it afterwards changes nothing.
 *
 * One batch of work, in the queue's thread:
 *
 *    if (!vring_refresh(r)) { ... let requests end, go over to the base ... }
 *    do {
 *        vring_set_notification(r, false);
 *        while ((ret = vring_take(r, &chain)) > 0) {
 *            ... copy chain and its iovecs into a request, start it ...
 *        }
 *        if (ret < 0) { virtio_error(vdev, "...: %s", vring_fault(r)); }
 *        vring_set_notification(r, true);
 *    } while (!vring_empty(r));
 *
 * and for what has completed:
 *
 *    for each request: vring_push(r, &req->chain, written);
 *    if (vring_publish(r)) { ... raise the queue's interrupt ... }
 *    ... only now reuse the requests ...
 *
 * Dirty logging and translated code
 * ---------------------------------
 * Other parts of QEMU read guest memory as well (migration, display, TCG's
 * cache of translated code) and have to hear of our writes.  Two rules:
 *
 * 1. Known to be tracked: vring_push() reports the chain's pages before the
 *    used index tells the guest.  The order matters for TCG: a guest must not
 *    see the request complete and run the old translation of a page that it
 *    has just loaded.  TCG tracks from start to end, so this rule alone
 *    serves it.
 * 2. Tracking begins while a batch is at work (a migration starts).  The
 *    queue's thread and the one that starts the log do
 *
 *        queue                              log
 *        W: data, used entries, index       P: publish a view that tracks
 *        smp_mb()  (publish has it anyway)  smp_mb()
 *        L: load the current view           R: first pass over all memory
 *
 *    so either L sees P, and vring_publish() reports the whole batch late, or
 *    R sees W.  The publisher sets the logging state (global_dirty_tracking)
 *    before P and R follows P: memory_global_dirty_log_start() calls the
 *    listeners and migration sets all bits of its bitmap before that call and
 *    sends its first page after it.  Late reports are good enough for
 *    migration: its last bitmap is read after the queue has been stopped.
 *
 * The ring's own lines (used entries, index, event fields) are guest memory
 * too and follow the same rules; only a suppression flag written to disable
 * kicks has no barrier after it, and is written again by the next enable.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_H
#define HW_VIRTIO_VRING_H

#include "hw/virtio/ring-view.h"
#include "standard-headers/linux/virtio_ring.h"

/*
 * Segments of one chain, and entries of an indirect table that is not
 * contiguous in host memory: as VIRTQUEUE_MAX_SIZE.
 */
#define VRING_MAX_SEGMENTS 1024

typedef struct VRing VRing;
typedef struct VRingChain VRingChain;
typedef struct VRingSlow VRingSlow;

/* Where a ring lies and how it is spoken (VIRTIO 1.2, 2.7 and 2.8). */
typedef struct VRingConfig {
    hwaddr desc;            /* descriptor table; packed: descriptor ring */
    hwaddr avail;           /* available ring; packed: driver event area */
    hwaddr used;            /* used ring; packed: device event area */
    unsigned num;           /* entries, 1 to VRING_MAX_SEGMENTS */
    bool packed;            /* VIRTIO_F_RING_PACKED */
    bool event_idx;         /* VIRTIO_RING_F_EVENT_IDX */
    bool indirect;          /* VIRTIO_RING_F_INDIRECT_DESC */
    bool notify_on_empty;   /* VIRTIO_F_NOTIFY_ON_EMPTY (legacy, split) */
    bool in_order;          /* VIRTIO_F_IN_ORDER: vring_attach() says no */
    bool big_endian;        /* virtio_is_big_endian(): vring_attach() says no */
} VRingConfig;

/*
 * Positions, as they are handed over to and from the base's VirtQueue.
 * Split: free-running indexes, the wrap counters are not used.
 */
typedef struct VRingState {
    uint16_t last_avail_idx;
    uint16_t used_idx;
    bool avail_wrap;
    bool used_wrap;
} VRingState;

/*
 * One queue's reference on a view, with the number of chains in flight that
 * are mapped by it.  Touched by the queue's thread alone.
 */
typedef struct VRingViewRef {
    RingView *view;
    unsigned inflight;
    struct VRingViewRef *next;  /* in r->retired */
} VRingViewRef;

/*
 * A descriptor chain that the driver has made available.  Filled in by
 * vring_take(); the caller keeps a copy until vring_publish() after its
 * vring_push(), with @iov pointing at a copy of the segments.
 */
struct VRingChain {
    uint16_t id;            /* head's index (split), buffer id (packed) */
    uint16_t ndescs;        /* ring slots that it fills (packed) */
    uint16_t out_num;       /* segments that the device reads, first in @iov */
    uint16_t in_num;        /* segments that the device writes */
    VRingSlow *slow;        /* segments mapped by the DMA API, or NULL */
    bool track;             /* writes to its segments must be reported */
    uint64_t out_len;       /* bytes */
    uint64_t in_len;
    uint16_t room;          /* segments that @iov has room for */
    struct iovec *iov;      /* the caller's, or r->iov until the next take */
    VRingViewRef *view_ref; /* what keeps the memory alive */
    VRingChain *next;       /* pushed and not yet published */
};

struct VRing {
    /* Where: host pointers, NULL when not attached. */
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
    bool direct_only;           /* the owner's: take only what is direct RAM */

    /* Taking */
    bool avail_wrap;
    bool notification;          /* the driver is asked to kick */
    uint16_t last_avail_idx;    /* next to take */
    uint16_t shadow_avail_idx;  /* split: the driver's index, last seen */
    RingViewHint hint;

    /* Giving back */
    uint16_t used_idx;          /* next to write, pushed ones counted */
    uint16_t unpublished;       /* slots pushed since the last publish */
    uint16_t inuse;             /* slots taken and not yet pushed */
    uint16_t first_flags;       /* packed: flags that make a batch visible */
    bool used_wrap;
    bool signalled_used_valid;  /* false: interrupt the driver in any case */
    VRingChain *pushed;         /* this batch, newest first */

    const char *fault;          /* what was wrong with the ring, or NULL */

    /* Seldom used */
    VRingConfig config;
    AddressSpace *as;
    void *table;                /* copy of a scattered indirect table */
    VRingViewRef *retired;      /* older views with requests in flight */
};

/**
 * vring_config_from_vdev: the layout that the driver has set up
 * @n: index of the queue
 *
 * Under the BQL, features negotiated and queue enabled (vring-vdev.c).
 */
void vring_config_from_vdev(VRingConfig *config, VirtIODevice *vdev, int n);

/**
 * vring_load_from_vdev: take over from the base's VirtQueue
 *
 * Under the BQL, with nobody at work on the queue, the ring attached.  For a
 * split ring the base keeps no copy of the used index that can be read; it is
 * taken from the ring.
 *
 * Returns: false, as vring_set_state(), for a used index that the guest has
 * scribbled on.
 */
bool vring_load_from_vdev(VRing *r, VirtIODevice *vdev, int n);

/**
 * vring_store_to_vdev: hand back to the base's VirtQueue
 *
 * Under the BQL, with nobody at work on the queue, the ring attached.  Chains
 * in flight count as the VirtQueue's own; the device may end them there, as
 * elements with the chain's id and ndescs and no segments.
 */
void vring_store_to_vdev(const VRing *r, VirtIODevice *vdev, int n);

/**
 * vring_setup: make a ring; not attached, positions at the start
 * @as: for buffers that are not in the view
 *
 * Under the BQL.  (The name vring_init() belongs to virtio_ring.h.)
 */
void vring_setup(VRing *r, const VRingConfig *config, AddressSpace *as);

/**
 * vring_enter_thread: the calling thread takes from the ring
 *
 * Before each batch: the main loop's rings are read by several threads that
 * hold the BQL, some of which may have ended since the last one.
 */
void vring_enter_thread(VRing *r);

/** vring_is_set_up: between vring_setup() and vring_cleanup()? */
static inline bool vring_is_set_up(const VRing *r)
{
    return r->as != NULL;
}

/**
 * vring_cleanup: free what vring_setup() made.  Detached, no chain in flight.
 */
void vring_cleanup(VRing *r);

/**
 * vring_attach: find the ring in guest memory
 * @src: outlives the attachment
 *
 * In the owner's thread, or with nobody at work on the queue.
 *
 * Returns: false, and stays detached, when the ring cannot be used here: an
 * area that is not wholly inside one range of RAM, not writable where it must
 * be or not aligned; a split ring whose size is no power of 2; a big-endian
 * driver.  The caller then uses the base's virtqueue calls.
 */
bool vring_attach(VRing *r, RingViewSource *src);

/**
 * vring_can_attach: would vring_attach() find such a ring in @view?
 *
 * Allocates nothing.  Any thread.
 */
bool vring_can_attach(const VRingConfig *config, const RingView *view);

/**
 * vring_detach: forget where the ring is
 *
 * Chains in flight keep their memory and may be dropped later by
 * vring_drop().  The owner's thread, or nobody at work.
 */
void vring_detach(VRing *r);

/** vring_attached: between vring_attach() and vring_detach()? */
static inline bool vring_attached(const VRing *r)
{
    return r->desc != NULL;
}

/** vring_get_state: the ring's positions. */
void vring_get_state(const VRing *r, VRingState *state);

/**
 * vring_set_state: set the positions; chains between the two count as in
 * flight.
 *
 * Returns: false, with nothing changed, if a ring of this size cannot be there.
 */
bool vring_set_state(VRing *r, const VRingState *state);

/**
 * vring_invalidate_signalled_used: forget the last interrupt, so that the next
 * vring_publish() wants one.
 */
static inline void vring_invalidate_signalled_used(VRing *r)
{
    r->signalled_used_valid = false;
}

/** vring_switch_view: the rest of vring_refresh(); use that. */
bool vring_switch_view(VRing *r);

/**
 * vring_refresh: follow changes of guest memory
 *
 * At the start of every batch.
 *
 * Returns: false when the ring lies in memory that is not direct any more: the
 * ring goes on by its old view, so that chains in flight can end, but the
 * caller should stop taking new ones and go over to the base.
 */
static inline bool vring_refresh(VRing *r)
{
    if (likely(ring_view_source_is_current(r->src, r->view_ref->view))) {
        return true;
    }
    return vring_switch_view(r);
}

/** vring_take_split: vring_take_into() of a split ring; use that. */
int vring_take_split(VRing *r, VRingChain *chain);

/** vring_take_packed: vring_take_into() of a packed ring; use that. */
int vring_take_packed(VRing *r, VRingChain *chain);

/**
 * vring_take_into: the next chain that the driver has made available
 * @chain: filled in on success
 * @iov: where the chain's segments go
 * @room: how many @iov has room for, VRING_MAX_SEGMENTS at most; a chain of
 *        more has its @iov in @r->iov, to be copied
 *
 * A chain has at least one segment, none of them empty.  Indirect tables are
 * accepted wherever 2.7.5.3 allows them, negotiated or not, as in the base;
 * those that are not negotiated are logged with -d guest_errors.  Buffers that
 * are not direct RAM go through the DMA API and may be bounced (@chain->slow);
 * what cannot be mapped that way is a fault.
 *
 * Reading or writing MMIO takes the BQL, and its holder may be waiting for
 * this thread (drain).  So an owner outside of the main loop sets
 * @r->direct_only, and has the main loop serve the ring when it must.
 *
 * Returns: 1 with a chain, 0 when there is none, -EINVAL when the ring is
 * malformed: vring_fault() names the fault and the device needs a reset.  With
 * @r->direct_only -EAGAIN, and the chain stays in the ring, when a part of it
 * is not direct RAM.
 */
static inline int vring_take_into(VRing *r, VRingChain *chain,
                                  struct iovec *iov, unsigned room)
{
    chain->iov = iov;
    chain->room = room;
    return r->packed ? vring_take_packed(r, chain)
                     : vring_take_split(r, chain);
}

/** vring_take: the same with all segments in @r->iov, to be copied */
static inline int vring_take(VRing *r, VRingChain *chain)
{
    return vring_take_into(r, chain, r->iov, VRING_MAX_SEGMENTS);
}

/** vring_fault: what was wrong; a constant string, NULL if nothing was. */
static inline const char *vring_fault(const VRing *r)
{
    return r->fault;
}

/** vring_push_split: vring_push() to a split ring; use that. */
void vring_push_split(VRing *r, VRingChain *chain, uint32_t written);

/** vring_push_packed: vring_push() to a packed ring; use that. */
void vring_push_packed(VRing *r, VRingChain *chain, uint32_t written);

/**
 * vring_push: give a chain back, not yet visible to the driver
 * @chain: must stay valid, with its @iov, until vring_publish()
 * @written: bytes written to its device-writable segments
 *
 * In any order.  Unmaps a slow chain, which writes to MMIO: main loop only.
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
 * vring_publish: show all pushed chains to the driver
 *
 * Cheap when nothing was pushed.
 *
 * Returns: true if the driver wants an interrupt for them.
 */
bool vring_publish(VRing *r);

/**
 * vring_driver_waits: may the driver be waiting for an interrupt for entries
 * that were published before?
 *
 * A driver that names no entry waits whenever it wants interrupts at all.  The
 * ring is attached, and no chain is pushed and not published.
 */
bool vring_driver_waits(const VRing *r);

/**
 * vring_adopt: answer for a chain that another reader took
 * @chain: @id and @ndescs are right; mapped, unmapped and reported by
 *         whoever took it
 *
 * Before its vring_push(): for requests that came with a migration.  The
 * positions given to vring_set_state() have counted it as in flight.
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
 * vring_chain_address: guest address of a segment in @chain->iov
 *
 * Slow; for chains that have to travel (migration).  BQL or owner's thread.
 */
hwaddr vring_chain_address(const VRingChain *chain, unsigned segment);

/**
 * vring_drop: let go of a chain without giving it back (reset)
 *
 * The ring may be detached.  Writes nothing to MMIO, and reports the chain's
 * pages in RAM as written, all of them.
 */
void vring_drop(VRing *r, VRingChain *chain);

/**
 * vring_set_notification: ask the driver to kick, or not to
 *
 * Asking ends with a full barrier; look at vring_empty() afterwards, for
 * what the driver added before it could see the request.
 */
void vring_set_notification(VRing *r, bool enable);

/**
 * vring_empty: has the driver made nothing available?
 *
 * Also what a poll handler calls: it reads one index or flag of the ring and
 * changes nothing.
 */
bool vring_empty(const VRing *r);

#endif /* HW_VIRTIO_VRING_H */
