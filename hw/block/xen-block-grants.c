/*
 * Grants of a Xen PV disk's ring: mapped for good, or copied by the batch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *     gref --hash--> bucket -> grant -> grant          (chain)
 *
 *     by_use:  head -> grant -> grant -> ... -> tail   (all that are mapped)
 *
 * A use only stamps the grant, so that it touches no other grant's memory.
 * Who needs room sorts: a grant at the head that was used since it got its
 * place goes to the tail; one that was not, and that no request is using, is
 * the one to go.
 *
 * All memory is allocated when the ring starts.  A frontend chooses its grant
 * references, so the hash is seeded: it cannot build one long chain and slow
 * down rings of other guests that share its IOThread.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qapi/error.h"
#include "hw/block/xen-block-grants.h"

/* Segments that one grant copy call takes. */
#define COPY_SEGS_MAX 1024

QEMU_BUILD_BUG_ON(COPY_SEGS_MAX < XEN_BLKIF_MAX_INDIRECT_SEGS);

static void grants_alloc(XenBlockGrants *g, unsigned capacity)
{
    unsigned bits = MAX(1, 32 - clz32(capacity));

    g->capacity = capacity;
    g->grants = g_new(XenBlockGrant, capacity);
    g->buckets = g_new0(XenBlockGrant *, 1u << bits);
    g->bucket_shift = 32 - bits;
    g->hash_seed = g_random_int();
}

bool xen_block_grants_start(XenBlockGrants *g, domid_t domid,
                            unsigned capacity, unsigned nr_ring_pages,
                            Error **errp)
{
    *g = (XenBlockGrants) { .domid = domid };
    QTAILQ_INIT(&g->by_use);

    g->handle = qemu_xen_gnttab_open();
    if (!g->handle) {
        error_setg_errno(errp, errno, "failed to open the grant device");
        return false;
    }
    if (qemu_xen_gnttab_set_max_grants(g->handle, capacity + nr_ring_pages)) {
        error_setg_errno(errp, errno, "failed to allow for %u mapped grants",
                         capacity + nr_ring_pages);
        qemu_xen_gnttab_close(g->handle);
        g->handle = NULL;
        return false;
    }
    if (capacity) {
        grants_alloc(g, capacity);
    }
    return true;
}

static void grants_unmap(XenBlockGrants *g, XenBlockGrant *grant)
{
    XenBlockGrant **link = xen_block_grants_bucket(g, grant->gref);

    QTAILQ_REMOVE(&g->by_use, grant, by_use);
    while (*link != grant) {
        link = &(*link)->chain;
    }
    *link = grant->chain;

    if (qemu_xen_gnttab_unmap(g->handle, grant->page, &grant->gref, 1)) {
        warn_report_once("xen-block: cannot unmap a grant: %s",
                         strerror(errno));
    }
    grant->chain = g->free;
    g->free = grant;
}

void xen_block_grants_forget_idle(XenBlockGrants *g)
{
    XenBlockGrant *grant, *next;

    QTAILQ_FOREACH_SAFE(grant, &g->by_use, by_use, next) {
        if (!grant->users) {
            grants_unmap(g, grant);
        }
    }
}

void xen_block_grants_stop(XenBlockGrants *g)
{
    if (!g->handle) {
        return;
    }
    xen_block_grants_forget_idle(g);
    for (unsigned i = 0; g->grants && i < 1u << (32 - g->bucket_shift); i++) {
        assert(!g->buckets[i]); /* else a request is still using its pages */
    }
    g_clear_pointer(&g->grants, g_free);
    g_clear_pointer(&g->buckets, g_free);
    g_clear_pointer(&g->copy_segs, g_free);
    qemu_xen_gnttab_close(g->handle);
    g->handle = NULL;
}

static void grants_sort_last(XenBlockGrants *g, XenBlockGrant *grant)
{
    grant->sorted_use = grant->last_use;
    QTAILQ_INSERT_TAIL(&g->by_use, grant, by_use);
}

/* Unmaps a grant that has been idle for long; %false if all are in use. */
static bool grants_evict(XenBlockGrants *g)
{
    if (g->nr_in_use == g->capacity) {
        return false;
    }
    /* After a round all are in place, the next one ends at the first idle. */
    for (unsigned n = 2 * g->capacity; n; n--) {
        XenBlockGrant *grant = QTAILQ_FIRST(&g->by_use);

        if (!grant->users && grant->sorted_use == grant->last_use) {
            grants_unmap(g, grant);
            g->stats.evictions++;
            return true;
        }
        QTAILQ_REMOVE(&g->by_use, grant, by_use);
        grants_sort_last(g, grant);
    }
    return false;
}

/* A grant structure to fill, taken from an idle grant if need be. */
static XenBlockGrant *grants_take_free(XenBlockGrants *g)
{
    XenBlockGrant *grant;

    if (!g->free && g->nr_touched < g->capacity) {
        return &g->grants[g->nr_touched++];
    }
    if (!g->free && !grants_evict(g)) {
        return NULL;
    }
    grant = g->free;
    g->free = grant->chain;
    return grant;
}

XenBlockGrant *xen_block_grants_map(XenBlockGrants *g, uint32_t gref)
{
    XenBlockGrant *grant = grants_take_free(g);
    XenBlockGrant **bucket = xen_block_grants_bucket(g, gref);

    if (!grant) {
        g->stats.refusals++;
        return NULL;
    }
    grant->gref = gref;
    grant->page = qemu_xen_gnttab_map_refs(g->handle, 1, g->domid, &gref,
                                           PROT_READ | PROT_WRITE);
    if (!grant->page) {
        g->stats.refusals++;
        grant->chain = g->free;
        g->free = grant;
        return NULL;
    }
    g->stats.maps++;
    grant->users = 1;
    g->nr_in_use++;
    grant->last_use = ++g->stats.uses;
    grants_sort_last(g, grant);
    grant->chain = *bucket;
    *bucket = grant;
    return grant;
}

static unsigned copy_fill(XenBlockGrants *g, unsigned at, bool to_domain,
                          const XenBlockCopy *copy)
{
    uint8_t *virt = copy->buf;

    for (unsigned i = 0; i < copy->nr_segs; i++) {
        const XenBlkifSegment *seg = &copy->segs[i];
        XenGrantCopySegment *to = &g->copy_segs[at++];

        if (to_domain) {
            to->source.virt = virt;
            to->dest.foreign.ref = seg->gref;
            to->dest.foreign.offset = seg->offset;
        } else {
            to->source.foreign.ref = seg->gref;
            to->source.foreign.offset = seg->offset;
            to->dest.virt = virt;
        }
        to->len = seg->len;
        virt += seg->len;
    }
    return at;
}

static bool copy_call(XenBlockGrants *g, bool to_domain, unsigned nr_segs)
{
    Error *local_err = NULL;
    int ret;

    g->stats.copies++;
    g->stats.copied_segs += nr_segs;
    ret = qemu_xen_gnttab_grant_copy(g->handle, to_domain, g->domid,
                                     g->copy_segs, nr_segs, &local_err);
    /* The requests' answers tell; which grant it was is not known here. */
    error_free(local_err);
    return ret == 0;
}

/* Copies as many of @copies as one call takes; returns how many. */
static unsigned copy_some(XenBlockGrants *g, bool to_domain,
                          XenBlockCopy *copies, unsigned nr_copies)
{
    unsigned nr_segs = 0;
    unsigned n;

    for (n = 0; n < nr_copies; n++) {
        if (nr_segs + copies[n].nr_segs > COPY_SEGS_MAX) {
            break;
        }
        nr_segs = copy_fill(g, nr_segs, to_domain, &copies[n]);
        copies[n].failed = false;
    }
    if (copy_call(g, to_domain, nr_segs)) {
        return n;
    }
    for (unsigned i = 0; i < n; i++) {
        nr_segs = copy_fill(g, 0, to_domain, &copies[i]);
        copies[i].failed = n == 1 || !copy_call(g, to_domain, nr_segs);
    }
    return n;
}

void xen_block_grants_copy(XenBlockGrants *g, bool to_domain,
                           XenBlockCopy *copies, unsigned nr_copies)
{
    if (unlikely(!g->copy_segs)) {
        /* A ring whose grants are all persistent never comes here. */
        g->copy_segs = g_new(XenGrantCopySegment, COPY_SEGS_MAX);
    }
    while (nr_copies) {
        unsigned n = copy_some(g, to_domain, copies,
                               g->copy_one_by_one ? 1 : nr_copies);

        copies += n;
        nr_copies -= n;
    }
}
