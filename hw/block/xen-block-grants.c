/*
 * Grants of a Xen PV disk's queue: mapped for good, or copied by the batch
 *
 *     gref --hash--> bucket -> grant -> grant          (chain)
 *                                |        |
 *     by_turn: head -> chunk -> chunk -> chunk -> ... -> tail
 *
 * A chunk is what one call has mapped: one area of memory, unmapped with one
 * call, as libxengnttab wants it.  A use stamps the grant and counts the user
 * of its chunk, so that it touches no other grant's memory.  To make room, some
 * chunks at the head are looked at.  The one that was not used for longest is
 * unmapped, and the others go to the tail.
 *
 * If a frontend uses more pages than may stay mapped, each of them would
 * replace another one.  So only as many grants as may be mapped are replaced
 * between two ticks.  Data of further grants are copied.
 *
 * The frontend chooses its grant references.  The hash has a random seed, so
 * that a frontend cannot build one long chain and slow down queues of other
 * guests in the same IOThread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qapi/error.h"
#include "xen-block-grants.h"

/* One grant copy call takes at most so many segments. */
#define COPY_SEGS_MAX 1024

/* So many chunks are looked at to find an old one. */
#define CHUNKS_TO_CHOOSE_FROM 64

QEMU_BUILD_BUG_ON(COPY_SEGS_MAX < XEN_BLKIF_MAX_INDIRECT_SEGS);

static void grants_allow(XenBlockGrants *g)
{
    g->paused = false;
    g->evictions_left = g->capacity;
    g->failures_left = XEN_BLOCK_GRANTS_FAILURES;
}

static void grants_alloc(XenBlockGrants *g, unsigned capacity)
{
    unsigned bits = MAX(1, 32 - clz32(capacity));

    g->buckets = g_new0(XenBlockGrant *, 1u << bits);
    g->bucket_shift = 32 - bits;
    g->hash_seed = g_random_int();
    g->capacity = capacity;
    /* With a small budget a chunk must not be all there is. */
    g->chunk_size = qemu_xen_gnttab_can_map_multi() ?
                    MIN(DIV_ROUND_UP(capacity, 16), XEN_BLOCK_GRANTS_CHUNK) : 1;
    grants_allow(g);
}

bool xen_block_grants_start(XenBlockGrants *g, const char *name, domid_t domid,
                            XenBlockBudget *budget, unsigned capacity,
                            unsigned nr_ring_pages, Error **errp)
{
    *g = (XenBlockGrants) { .name = name, .domid = domid, .budget = budget };
    QTAILQ_INIT(&g->by_turn);

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

/*
 * Unmapping
 */

static void grants_unlink(XenBlockGrants *g, XenBlockGrant *grant)
{
    XenBlockGrant **link = xen_block_grants_bucket(g, grant->gref);

    while (*link != grant) {
        link = &(*link)->chain;
    }
    *link = grant->chain;
}

static void chunk_unmap(XenBlockGrants *g, XenBlockGrantChunk *chunk)
{
    uint32_t grefs[XEN_BLOCK_GRANTS_CHUNK];

    QTAILQ_REMOVE(&g->by_turn, chunk, by_turn);
    for (unsigned i = 0; i < chunk->nr; i++) {
        grants_unlink(g, &chunk->grants[i]);
        grefs[i] = chunk->grants[i].gref;
    }
    if (qemu_xen_gnttab_unmap(g->handle, chunk->grants[0].page, grefs,
                              chunk->nr)) {
        warn_report_once("%s: cannot unmap a grant: %s", g->name,
                         strerror(errno));
    }
    g->nr_mapped -= chunk->nr;
    g->nr_chunks--;
    xen_block_budget_give(g->budget, XEN_BLOCK_GRANTS, chunk->nr);
    xen_block_budget_give(g->budget, XEN_BLOCK_AREAS, 1);
    g_free(chunk);
}

/* Return whether a grant of @chunk was not used since @uses. */
static bool chunk_has_idle(const XenBlockGrantChunk *chunk, uint64_t uses)
{
    for (unsigned i = 0; i < chunk->nr; i++) {
        if (chunk->grants[i].last_use <= uses) {
            return true;
        }
    }
    return false;
}

/* Unmap chunks that no request uses, and that have such a grant. */
static void grants_unmap_unused(XenBlockGrants *g, uint64_t uses)
{
    XenBlockGrantChunk *chunk, *next;

    QTAILQ_FOREACH_SAFE(chunk, &g->by_turn, by_turn, next) {
        if (!chunk->users && chunk_has_idle(chunk, uses)) {
            chunk_unmap(g, chunk);
        }
    }
}

void xen_block_grants_forget_idle(XenBlockGrants *g)
{
    grants_unmap_unused(g, g->uses);
}

void xen_block_grants_trim(XenBlockGrants *g)
{
    g_clear_pointer(&g->copy_segs, g_free);
}

void xen_block_grants_stop(XenBlockGrants *g)
{
    if (!g->handle) {
        return;
    }
    xen_block_grants_forget_idle(g);
    assert(!g->nr_mapped); /* else a request is still using its pages */
    g_clear_pointer(&g->buckets, g_free);
    xen_block_grants_trim(g);
    qemu_xen_gnttab_close(g->handle);
    g->handle = NULL;
}

/*
 * Making room
 */

static uint64_t chunk_last_use(const XenBlockGrantChunk *chunk)
{
    uint64_t last = 0;

    for (unsigned i = 0; i < chunk->nr; i++) {
        last = MAX(last, chunk->grants[i].last_use);
    }
    return last;
}

/*
 * Look at the next few chunks, and unmap the one that is idle for longest.
 * Return false if all of them are in use.
 */
static bool grants_unmap_oldest(XenBlockGrants *g)
{
    XenBlockGrantChunk *oldest = NULL;
    uint64_t oldest_use = UINT64_MAX;

    for (unsigned n = MIN(g->nr_chunks, CHUNKS_TO_CHOOSE_FROM); n; n--) {
        XenBlockGrantChunk *chunk = QTAILQ_FIRST(&g->by_turn);
        uint64_t last_use = chunk_last_use(chunk);

        if (!chunk->users && last_use < oldest_use) {
            oldest = chunk;
            oldest_use = last_use;
        }
        QTAILQ_REMOVE(&g->by_turn, chunk, by_turn);
        QTAILQ_INSERT_TAIL(&g->by_turn, chunk, by_turn);
    }
    if (oldest) {
        chunk_unmap(g, oldest);
    }
    return oldest;
}

/* Unmap an idle chunk for another one, unless that was done too often. */
static bool grants_evict(XenBlockGrants *g)
{
    unsigned before = g->nr_mapped;

    if (!g->evictions_left || !before) {
        return false;
    }
    if (!grants_unmap_oldest(g)) {
        return false;
    }
    before -= g->nr_mapped;
    g->evictions_left -= MIN(before, g->evictions_left);
    g->stats.evictions += before;
    return true;
}

static bool grants_take(XenBlockGrants *g, XenBlockResource what, unsigned n)
{
    while (!xen_block_budget_take(g->budget, what, n)) {
        if (!grants_evict(g)) {
            return false;
        }
    }
    return true;
}

/* Take room for a chunk of @n grants from the budget. */
static bool grants_reserve(XenBlockGrants *g, unsigned n)
{
    if (!grants_take(g, XEN_BLOCK_GRANTS, n)) {
        return false;
    }
    if (!grants_take(g, XEN_BLOCK_AREAS, 1)) {
        xen_block_budget_give(g->budget, XEN_BLOCK_GRANTS, n);
        return false;
    }
    return true;
}

/*
 * Mapping
 */

static void chunk_add(XenBlockGrants *g, void *map, const uint32_t *grefs,
                      unsigned n)
{
    XenBlockGrantChunk *chunk = g_malloc(sizeof(*chunk) +
                                         n * sizeof(chunk->grants[0]));

    chunk->users = 0;
    chunk->nr = n;
    for (unsigned i = 0; i < n; i++) {
        XenBlockGrant **bucket = xen_block_grants_bucket(g, grefs[i]);

        chunk->grants[i] = (XenBlockGrant) {
            .page = map + i * XEN_PAGE_SIZE,
            .chain = *bucket,
            .chunk = chunk,
            .last_use = g->uses,
            .gref = grefs[i],
        };
        *bucket = &chunk->grants[i];
    }
    QTAILQ_INSERT_TAIL(&g->by_turn, chunk, by_turn);
    g->nr_mapped += n;
    g->nr_chunks++;
    g->stats.maps += n;
}

/* Map @n grants with one call, or none of them. */
static bool grants_map(XenBlockGrants *g, uint32_t *grefs, unsigned n)
{
    void *map;

    if (!grants_reserve(g, n)) {
        g->paused = n == 1;
        return false;
    }
    map = qemu_xen_gnttab_map_refs(g->handle, n, g->domid, grefs,
                                   PROT_READ | PROT_WRITE);
    if (!map) {
        g->paused = --g->failures_left == 0;
        xen_block_budget_give(g->budget, XEN_BLOCK_GRANTS, n);
        xen_block_budget_give(g->budget, XEN_BLOCK_AREAS, 1);
        return false;
    }
    chunk_add(g, map, grefs, n);
    return true;
}

void xen_block_grants_map_wanted(XenBlockGrants *g)
{
    unsigned n = g->nr_wanted;

    g->nr_wanted = 0;
    if (!n || grants_map(g, g->wanted, n)) {
        return;
    }
    /* A grant may be bad, or there may be room for some of them only. */
    for (unsigned i = 0; i < n; i++) {
        if (n == 1 || g->paused || !grants_map(g, &g->wanted[i], 1)) {
            g->stats.refusals++;
        }
    }
}

static bool grants_know(XenBlockGrants *g, uint32_t gref)
{
    const XenBlockGrant *grant = *xen_block_grants_bucket(g, gref);

    while (grant && grant->gref != gref) {
        grant = grant->chain;
    }
    for (unsigned i = 0; !grant && i < g->nr_wanted; i++) {
        if (g->wanted[i] == gref) {
            return true;
        }
    }
    return grant;
}

void xen_block_grants_want(XenBlockGrants *g, uint32_t gref)
{
    if (g->paused || grants_know(g, gref)) {
        return;
    }
    g->wanted[g->nr_wanted++] = gref;
    if (g->nr_wanted == g->chunk_size) {
        xen_block_grants_map_wanted(g);
    }
}

/*
 * Letting go
 */

void xen_block_grants_tick(XenBlockGrants *g, bool share)
{
    unsigned slot = g->tick % XEN_BLOCK_GRANTS_IDLE_TICKS;

    if (!xen_block_grants_persistent(g)) {
        return;
    }
    if (g->tick >= XEN_BLOCK_GRANTS_IDLE_TICKS) {
        grants_unmap_unused(g, g->uses_at_tick[slot]);
    }
    /* A grant that is mapped from now on is younger than this tick. */
    g->uses_at_tick[slot] = g->uses++;
    g->tick++;

    if (share) {
        unsigned keep = g->nr_mapped - g->nr_mapped / 8;

        while (g->nr_mapped > keep && grants_unmap_oldest(g)) {
            /* next */
        }
    }
    grants_allow(g);
}

/*
 * Copies
 */

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

/* Copy as many of @copies as one call takes.  Return their number. */
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
        /* A queue whose grants are all persistent never comes here. */
        g->copy_segs = g_new(XenGrantCopySegment, COPY_SEGS_MAX);
    }
    while (nr_copies) {
        unsigned n = copy_some(g, to_domain, copies,
                               g->copy_one_by_one ? 1 : nr_copies);

        copies += n;
        nr_copies -= n;
    }
}
