/*
 * Grants of a Xen PV disk's ring: mapped for good, or copied by the batch
 *
 * Every ring has its own XenBlockGrants and its own handle of the grant
 * device, so rings do not meet here either, but for the budget that they share
 * when what they keep grows.  Once started it belongs to the ring's thread;
 * start and stop run while the ring is quiet.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_GRANTS_H
#define HW_BLOCK_XEN_BLOCK_GRANTS_H

#include "qemu/queue.h"
#include "hw/xen/xen_backend_ops.h"
#include "xen-block-budget.h"
#include "xen-block-request.h"

/* Most grants that are mapped with one call and make one area of memory. */
#define XEN_BLOCK_GRANTS_CHUNK 32

/* A grant is let go after so many ticks without a use: a minute. */
#define XEN_BLOCK_GRANTS_IDLE_TICKS 6

/* Mappings that may fail between two ticks, until no more are tried. */
#define XEN_BLOCK_GRANTS_FAILURES 32

typedef struct XenBlockGrantChunk XenBlockGrantChunk;

/* A grant that stays mapped from its first use on. */
typedef struct XenBlockGrant {
    void *page;
    struct XenBlockGrant *chain; /* next in the hash bucket */
    XenBlockGrantChunk *chunk;
    uint64_t last_use;          /* @uses at that time */
    uint32_t gref;
} XenBlockGrant;

/* Grants that were mapped together and are unmapped together. */
struct XenBlockGrantChunk {
    unsigned users;             /* requests in flight, once for each page */
    unsigned nr;
    QTAILQ_ENTRY(XenBlockGrantChunk) by_turn;
    XenBlockGrant grants[];
};

typedef struct XenBlockGrantsStats {
    uint64_t maps;              /* grants that were mapped */
    uint64_t evictions;         /* grants that were unmapped for others */
    uint64_t refusals;          /* grants that were wanted and not mapped */
    uint64_t copies;            /* calls of the grant copy operation */
    uint64_t copied_segs;
} XenBlockGrantsStats;

typedef struct XenBlockGrants {
    xengnttab_handle *handle;
    domid_t domid;
    XenBlockBudget *budget;
    XenBlockGrant **buckets;    /* NULL: not persistent */
    unsigned bucket_shift;
    uint32_t hash_seed;
    uint64_t uses;              /* lookups that have found a mapping */
    QTAILQ_HEAD(, XenBlockGrantChunk) by_turn; /* to be looked at for room */
    unsigned nr_mapped;         /* grants */
    unsigned nr_chunks;

    /* What the batch at hand needs and has not got. */
    uint32_t wanted[XEN_BLOCK_GRANTS_CHUNK];
    unsigned nr_wanted;
    unsigned chunk_size;        /* most of them, less with a small budget */

    /* What may be done until the next tick; see xen_block_grants_tick(). */
    bool paused;                /* nothing more is mapped */
    unsigned capacity;
    unsigned evictions_left;    /* grants */
    unsigned failures_left;
    uint64_t uses_at_tick[XEN_BLOCK_GRANTS_IDLE_TICKS];
    unsigned tick;

    XenGrantCopySegment *copy_segs;
    bool copy_one_by_one;       /* a call for each request; set before use */
    XenBlockGrantsStats stats;
} XenBlockGrants;

/* The data of one request, to be copied from or to its granted pages. */
typedef struct XenBlockCopy {
    const XenBlkifSegment *segs;
    unsigned nr_segs;
    void *buf;                  /* all segments' data, one after the other */
    void *opaque;               /* the caller's */
    bool failed;                /* set if any of the segments was not copied */
} XenBlockCopy;

/**
 * xen_block_grants_start: open the grant device.
 * @domid: the frontend's domain
 * @budget: what persistent grants are taken from, as they are mapped
 * @capacity: most of them that @budget can have; 0 for none
 * @nr_ring_pages: other pages that will be mapped through @g->handle
 *
 * Under the BQL.  Returns: false with @errp set if the grant device cannot be
 * opened or cannot map as much; nothing is left behind then.
 */
bool xen_block_grants_start(XenBlockGrants *g, domid_t domid,
                            XenBlockBudget *budget, unsigned capacity,
                            unsigned nr_ring_pages, Error **errp);

/**
 * xen_block_grants_stop: unmap every persistent grant and close the handle.
 *
 * No request may be in flight.  Under the BQL.  Does nothing if @g is not
 * started.
 */
void xen_block_grants_stop(XenBlockGrants *g);

/** xen_block_grants_bucket: where in the hash a grant of @gref would be. */
static inline XenBlockGrant **xen_block_grants_bucket(XenBlockGrants *g,
                                                      uint32_t gref)
{
    uint32_t h = (gref ^ g->hash_seed) * 0x9e3779b1u;

    h = (h ^ (h >> 15)) * (g->hash_seed | 1);
    return &g->buckets[h >> g->bucket_shift];
}

/**
 * xen_block_grants_get: find the mapping of @gref, readable and writable
 * (blkif.h, note 8).
 *
 * Returns: the grant, to be released with xen_block_grants_put(), or NULL if it
 * is not mapped: see xen_block_grants_want().
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

/** xen_block_grants_put: ends a use of @grant. */
static inline void xen_block_grants_put(XenBlockGrants *g,
                                        XenBlockGrant *grant)
{
    assert(grant->chunk->users > 0);
    grant->chunk->users--;
}

/**
 * xen_block_grants_want: ask for a mapping of @gref.
 *
 * Wishes are gathered and granted with one call for many of them, at the latest
 * by xen_block_grants_map_wanted().  Nothing is mapped beyond the budget:
 * grants that no request is using make room, as many of them as may be replaced
 * between two ticks.
 */
void xen_block_grants_want(XenBlockGrants *g, uint32_t gref);

/** xen_block_grants_map_wanted: maps what is wanted and can be mapped. */
void xen_block_grants_map_wanted(XenBlockGrants *g);

/**
 * xen_block_grants_tick: unmap the grants that no request has used for a
 * minute, and with @share an eighth of all, the oldest first.  To be called
 * every ten seconds.
 * @share: somebody else has been refused what we may have plenty of
 *
 * Those mapped together with them go too, and come back as they are used.
 */
void xen_block_grants_tick(XenBlockGrants *g, bool share);

/** xen_block_grants_forget_idle: unmap the grants that no request is using. */
void xen_block_grants_forget_idle(XenBlockGrants *g);

/**
 * xen_block_grants_copy: copy the data of all @copies in as few calls as there
 * is room for.
 * @to_domain: from @copies' buffers to the granted pages, else from them
 *
 * Where a call fails its requests are copied again one by one, so that one bad
 * grant costs only its own request.
 */
void xen_block_grants_copy(XenBlockGrants *g, bool to_domain,
                           XenBlockCopy *copies, unsigned nr_copies);

/** xen_block_grants_trim: gives back the memory that only copies need. */
void xen_block_grants_trim(XenBlockGrants *g);

/** xen_block_grants_persistent: whether grants stay mapped. */
static inline bool xen_block_grants_persistent(const XenBlockGrants *g)
{
    return g->buckets;
}

#endif /* HW_BLOCK_XEN_BLOCK_GRANTS_H */
