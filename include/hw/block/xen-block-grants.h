/*
 * Grants of a Xen PV disk's ring: mapped for good, or copied by the batch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every ring has its own XenBlockGrants and its own handle of the grant
 * device, so rings do not meet here either.  Once started it belongs to the
 * ring's thread; start and stop run while the ring is quiet.
 */

#ifndef HW_BLOCK_XEN_BLOCK_GRANTS_H
#define HW_BLOCK_XEN_BLOCK_GRANTS_H

#include "qemu/queue.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/block/xen-block-request.h"

/* A grant that stays mapped from its first use on. */
typedef struct XenBlockGrant {
    void *page;
    uint32_t gref;
    uint32_t users;             /* requests in flight that use @page */
    struct XenBlockGrant *chain; /* next in the hash bucket, or next free */
    uint64_t last_use;          /* @stats.uses at that time */
    uint64_t sorted_use;        /* @last_use when it got its place in @by_use */
    QTAILQ_ENTRY(XenBlockGrant) by_use;
} XenBlockGrant;

typedef struct XenBlockGrantsStats {
    uint64_t uses;              /* lookups that found or made a mapping */
    uint64_t maps;
    uint64_t evictions;
    uint64_t refusals;          /* lookups that ended without a mapping */
    uint64_t copies;            /* calls of the grant copy operation */
    uint64_t copied_segs;
} XenBlockGrantsStats;

typedef struct XenBlockGrants {
    xengnttab_handle *handle;
    domid_t domid;
    XenBlockGrant *grants;      /* @capacity of them, NULL: not persistent */
    unsigned capacity;
    unsigned nr_touched;        /* @grants from here on were never used */
    unsigned nr_in_use;         /* those with users; none is to be had if all */
    XenBlockGrant *free;
    XenBlockGrant **buckets;
    unsigned bucket_shift;
    uint32_t hash_seed;
    QTAILQ_HEAD(, XenBlockGrant) by_use; /* mapped, roughly oldest first */
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
 * xen_block_grants_start:
 * @domid: the frontend's domain
 * @capacity: most persistent grants to keep mapped; 0 for none
 * @nr_ring_pages: other pages that will be mapped through @g->handle
 *
 * Under the BQL.  Returns: %false with @errp set if the grant device cannot
 * be opened or cannot map as much; nothing is left behind then.
 */
bool xen_block_grants_start(XenBlockGrants *g, domid_t domid,
                            unsigned capacity, unsigned nr_ring_pages,
                            Error **errp);

/**
 * xen_block_grants_stop:
 *
 * Unmaps every persistent grant and closes the handle.  No request may be in
 * flight.  Under the BQL.  Does nothing if @g is not started.
 */
void xen_block_grants_stop(XenBlockGrants *g);

/** xen_block_grants_map: the part of xen_block_grants_get() that is rare. */
XenBlockGrant *xen_block_grants_map(XenBlockGrants *g, uint32_t gref);

/** xen_block_grants_bucket: where in the hash a grant of @gref would be. */
static inline XenBlockGrant **xen_block_grants_bucket(XenBlockGrants *g,
                                                      uint32_t gref)
{
    uint32_t h = (gref ^ g->hash_seed) * 0x9e3779b1u;

    h = (h ^ (h >> 15)) * (g->hash_seed | 1);
    return &g->buckets[h >> g->bucket_shift];
}

/**
 * xen_block_grants_get:
 *
 * Finds or makes the mapping of @gref, readable and writable (blkif.h, note
 * 8), evicting the grant that is idle for longest if there are too many.
 *
 * Returns: the grant, to be released with xen_block_grants_put(), or %NULL if
 * it cannot be mapped or all that may be mapped are in use.
 */
static inline XenBlockGrant *xen_block_grants_get(XenBlockGrants *g,
                                                  uint32_t gref)
{
    XenBlockGrant *grant = *xen_block_grants_bucket(g, gref);

    while (grant && grant->gref != gref) {
        grant = grant->chain;
    }
    if (unlikely(!grant)) {
        return xen_block_grants_map(g, gref);
    }
    g->nr_in_use += grant->users++ == 0;
    grant->last_use = ++g->stats.uses;
    return grant;
}

/** xen_block_grants_put: ends a use of @grant. */
static inline void xen_block_grants_put(XenBlockGrants *g,
                                        XenBlockGrant *grant)
{
    assert(grant->users > 0);
    g->nr_in_use -= --grant->users == 0;
}

/**
 * xen_block_grants_forget_idle:
 *
 * Unmaps the grants that no request is using.
 */
void xen_block_grants_forget_idle(XenBlockGrants *g);

/**
 * xen_block_grants_copy:
 * @to_domain: from @copies' buffers to the granted pages, else from them
 *
 * Copies the data of all @copies in as few calls as there is room for.  Where
 * a call fails its requests are copied again one by one, so that one bad grant
 * costs only its own request.
 */
void xen_block_grants_copy(XenBlockGrants *g, bool to_domain,
                           XenBlockCopy *copies, unsigned nr_copies);

static inline bool xen_block_grants_persistent(const XenBlockGrants *g)
{
    return g->grants;
}

#endif /* HW_BLOCK_XEN_BLOCK_GRANTS_H */
