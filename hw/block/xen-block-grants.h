/*
 * Access to a frontend's granted pages, for one queue of a Xen PV disk
 *
 * A grant is either persistent, which means that it stays mapped after its
 * first use, or its page is copied, many pages with one call.
 *
 * Every queue has its own XenBlockGrants and its own handle of the grant
 * device.  Queues share only the budget, which they use when they map more
 * grants or fewer.  Once started, a XenBlockGrants belongs to the owner thread.
 * Start and stop run while the queue is quiesced.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_GRANTS_H
#define HW_BLOCK_XEN_BLOCK_GRANTS_H

#include "qemu/queue.h"
#include "hw/xen/xen_backend_ops.h"
#include "xen-block-budget.h"
#include "xen-block-request.h"

/* At most this many grants are mapped with one call, to one area of memory. */
#define XEN_BLOCK_GRANTS_CHUNK 32

/* A grant is unmapped after this many ticks without a use: a minute. */
#define XEN_BLOCK_GRANTS_IDLE_TICKS 6

/* After this many failures no more is mapped until the next tick. */
#define XEN_BLOCK_GRANTS_FAILURES 32

typedef struct XenBlockGrantChunk XenBlockGrantChunk;

/* A grant that stays mapped from its first use on. */
typedef struct XenBlockGrant {
    void *page;
    struct XenBlockGrant *chain; /* next in the hash bucket */
    XenBlockGrantChunk *chunk;
    uint64_t last_use;          /* XenBlockGrants.uses at the last use */
    uint32_t gref;
} XenBlockGrant;

/* Grants that were mapped together and are unmapped together. */
struct XenBlockGrantChunk {
    unsigned users;             /* pages in use by requests in flight */
    unsigned nr;
    QTAILQ_ENTRY(XenBlockGrantChunk) by_turn;
    XenBlockGrant grants[];
};

typedef struct XenBlockGrantsStats {
    uint64_t maps;              /* grants that were mapped */
    uint64_t evictions;         /* grants that were unmapped for others */
    uint64_t refusals;          /* grants that were wanted but not mapped */
    uint64_t copies;            /* calls of the grant copy operation */
    uint64_t copied_segs;
} XenBlockGrantsStats;

typedef struct XenBlockGrants {
    xengnttab_handle *handle;
    const char *name;           /* for messages */
    domid_t domid;
    XenBlockBudget *budget;
    XenBlockGrant **buckets;    /* a hash table; NULL: no persistent grants */
    unsigned bucket_shift;
    uint32_t hash_seed;
    uint64_t uses;              /* lookups that have found a mapping */
    QTAILQ_HEAD(, XenBlockGrantChunk) by_turn; /* order of eviction */
    unsigned nr_mapped;         /* grants that are mapped */
    unsigned nr_chunks;

    /* Grants that this batch needs and that are not mapped yet. */
    uint32_t wanted[XEN_BLOCK_GRANTS_CHUNK];
    unsigned nr_wanted;
    unsigned chunk_size;        /* largest chunk; less with a small budget */

    /* Limits until the next xen_block_grants_tick(). */
    bool paused;                /* nothing more is mapped */
    unsigned capacity;
    unsigned evictions_left;    /* grants that may still be evicted */
    unsigned failures_left;
    uint64_t uses_at_tick[XEN_BLOCK_GRANTS_IDLE_TICKS];
    unsigned tick;

    XenGrantCopySegment *copy_segs;
    bool copy_one_by_one;       /* one call per request; set before use */
    XenBlockGrantsStats stats;
} XenBlockGrants;

/* The data of one request, to be copied from or to its granted pages. */
typedef struct XenBlockCopy {
    const XenBlkifSegment *segs;
    unsigned nr_segs;
    void *buf;                  /* all segments' data, one after the other */
    void *opaque;               /* for the caller */
    bool failed;                /* set if a segment was not copied */
} XenBlockCopy;

/**
 * xen_block_grants_start: open the grant device.
 * @name: the disk and the queue in messages; must stay valid until
 *        xen_block_grants_stop()
 * @domid: the frontend's domain
 * @budget: each persistent grant is taken from it when it is mapped
 * @capacity: the largest number of persistent grants that @budget allows, or 0
 *            for no persistent grants
 * @nr_ring_pages: pages of the ring that will be mapped through @g->handle
 *
 * Context: BQL.
 *
 * Returns: true, or false with @errp set if the grant device cannot be opened
 * or cannot map as much.  After a failure nothing has to be undone.
 */
bool xen_block_grants_start(XenBlockGrants *g, const char *name, domid_t domid,
                            XenBlockBudget *budget, unsigned capacity,
                            unsigned nr_ring_pages, Error **errp);

/**
 * xen_block_grants_stop: unmap every persistent grant and close the handle.
 *
 * No request may be in flight.  This does nothing if @g is not started.
 *
 * Context: BQL.
 */
void xen_block_grants_stop(XenBlockGrants *g);

/** xen_block_grants_bucket: return the bucket for @gref in the hash table. */
static inline XenBlockGrant **xen_block_grants_bucket(XenBlockGrants *g,
                                                      uint32_t gref)
{
    uint32_t h = (gref ^ g->hash_seed) * 0x9e3779b1u;

    h = (h ^ (h >> 15)) * (g->hash_seed | 1);
    return &g->buckets[h >> g->bucket_shift];
}

/**
 * xen_block_grants_get: find the mapping of @gref.
 *
 * It is readable and writable (blkif.h, note 8).
 *
 * Returns: the grant, to be released with xen_block_grants_put(), or NULL if it
 * is not mapped; then see xen_block_grants_want().
 */
static inline XenBlockGrant *xen_block_grants_get(XenBlockGrants *g,
                                                  uint32_t gref)
{
    XenBlockGrant *grant = *xen_block_grants_bucket(g, gref);

    while (grant && grant->gref != gref) {
        grant = grant->chain;
    }
    if (likely(grant)) {
        grant->chunk->users++;
        grant->last_use = ++g->uses;
    }
    return grant;
}

/** xen_block_grants_put: undo xen_block_grants_get(). */
static inline void xen_block_grants_put(XenBlockGrants *g,
                                        XenBlockGrant *grant)
{
    assert(grant->chunk->users > 0);
    grant->chunk->users--;
}

/**
 * xen_block_grants_want: ask for a mapping of @gref.
 *
 * Grants that are asked for are gathered, and many are mapped with one call.
 * xen_block_grants_map_wanted() maps the last of them.  If the budget is used
 * up, grants that no request uses are unmapped to make room.  The number of
 * grants that may be replaced between two ticks is limited.
 */
void xen_block_grants_want(XenBlockGrants *g, uint32_t gref);

/**
 * xen_block_grants_map_wanted: map the gathered grants, as far as possible.
 */
void xen_block_grants_map_wanted(XenBlockGrants *g);

/**
 * xen_block_grants_tick: unmap the grants that no request has used for a
 * minute.
 * @share: also unmap an eighth of all grants, the oldest first, because another
 *         queue was refused grants
 *
 * A grant is unmapped together with all grants that were mapped by the same
 * call.  The next use of one maps it again.  The queue calls this every ten
 * seconds.
 */
void xen_block_grants_tick(XenBlockGrants *g, bool share);

/** xen_block_grants_forget_idle: unmap all grants that no request uses. */
void xen_block_grants_forget_idle(XenBlockGrants *g);

/**
 * xen_block_grants_copy: copy the data of all @copies in as few calls as
 * possible.
 * @to_domain: copy from the buffers of @copies to the granted pages; otherwise
 *             copy from the pages to the buffers
 *
 * If a call fails, the requests of that call are copied again one by one, so
 * that a bad grant makes only its own request fail.
 */
void xen_block_grants_copy(XenBlockGrants *g, bool to_domain,
                           XenBlockCopy *copies, unsigned nr_copies);

/** xen_block_grants_trim: free the memory that only copies need. */
void xen_block_grants_trim(XenBlockGrants *g);

/** xen_block_grants_persistent: return whether grants stay mapped. */
static inline bool xen_block_grants_persistent(const XenBlockGrants *g)
{
    return g->buckets;
}

#endif /* HW_BLOCK_XEN_BLOCK_GRANTS_H */
