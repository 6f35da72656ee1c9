/*
 * Xen stand-in: grants
 *
 *     guest's memory                     here, one per reference
 *     .------------------------------.   .-----------------.
 *     | flags | domid | frame        |   | lock            |
 *     |   ^ permit, readonly: guest  |   | readers,writers |
 *     |   ^ reading, writing: us     |   '-----------------'
 *     '------------------------------'
 *
 * This is a table of version 1.  An entry says which domain may use which
 * frame.  Two bits, which the stand-in sets, say that the frame is in use, so
 * that the guest knows when it may take the grant back.  A mapping uses a grant
 * until it is unmapped, a copy uses it for the time of the copy.
 *
 * The guest may rewrite an entry at any time.  So the stand-in reads and marks
 * the entry in one atomic step, and uses only what it has read in this step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "trace/trace-qemu_mq_hw_xen.h"
#include "xen-standin.h"
#include "hw/xen/interface/grant_table.h"

#define ENTRIES_PER_FRAME (XEN_PAGE_SIZE / sizeof(grant_entry_v1_t))

/* If the guest changes a grant at the same time, try so often to mark it. */
#define GRANT_RETRIES 8

typedef union GrantEntry {
    grant_entry_v1_t v1;
    uint64_t word;
} GrantEntry;

QEMU_BUILD_BUG_ON(sizeof(GrantEntry) != sizeof(uint64_t));

typedef struct GrantUse {
    QemuSpin lock;
    uint16_t readers;
    uint16_t writers;
} GrantUse;

typedef struct GrantMap {
    uint32_t nr;
    bool write;
    uint32_t refs[];
} GrantMap;

struct xengntdev_handle {
    QemuMutex lock;             /* protects the following fields */
    GHashTable *maps;           /* address of a mapping -> its GrantMap */
    uint64_t mapped;
    uint64_t limit;
};

static struct {
    uint16_t domid;
    GrantEntry *table;          /* NULL: the guest has not set it up */
    GrantUse *uses;
    uint32_t nr_refs;
    uint64_t limit;
    XenStandinLimits limits;
    XenStandinGrantStats stats;
} gnttab;

void xen_standin_gnttab_init(uint16_t domid, const XenStandinLimits *limits)
{
    gnttab.domid = domid;
    gnttab.limits = *limits;
    gnttab.limit = limits->maptrack_entries ?: UINT64_MAX;
}

int xen_standin_gnttab_setup(uint64_t frame, uint64_t nr_frames)
{
    void *table = xen_standin_frame(frame, nr_frames);
    uint32_t i;

    if (!table || !nr_frames || nr_frames > 1024) {
        errno = EINVAL;
        return -1;
    }
    if (qatomic_read(&gnttab.stats.mapped)) {
        errno = EBUSY;
        return -1;
    }
    if (gnttab.limits.grant_entries &&
        nr_frames * ENTRIES_PER_FRAME > gnttab.limits.grant_entries) {
        errno = ENOSPC;
        return -1;
    }
    g_free(gnttab.uses);
    gnttab.nr_refs = nr_frames * ENTRIES_PER_FRAME;
    gnttab.uses = g_new0(GrantUse, gnttab.nr_refs);
    for (i = 0; i < gnttab.nr_refs; i++) {
        qemu_spin_init(&gnttab.uses[i].lock);
    }
    gnttab.table = table;
    trace_xen_standin_gnttab_setup(frame, gnttab.nr_refs);
    return 0;
}

void xen_standin_gnttab_set_limit(uint64_t nr_grants)
{
    qatomic_set(&gnttab.limit, nr_grants);
}

void xen_standin_gnttab_get_stats(XenStandinGrantStats *stats)
{
    stats->maps = qatomic_read(&gnttab.stats.maps);
    stats->mapped = qatomic_read(&gnttab.stats.mapped);
    stats->copies = qatomic_read(&gnttab.stats.copies);
    stats->segments = qatomic_read(&gnttab.stats.segments);
    stats->areas = qatomic_read(&gnttab.stats.areas);
    stats->refused = qatomic_read(&gnttab.stats.refused);
    stats->unmaps = qatomic_read(&gnttab.stats.unmaps);
}

/*
 * One grant
 */

static bool grant_allows(const GrantEntry *entry, bool write)
{
    uint16_t flags = entry->v1.flags;

    return (flags & (GTF_type_mask | GTF_sub_page)) == GTF_permit_access &&
           !(write && (flags & GTF_readonly)) &&
           entry->v1.domid == XEN_STANDIN_BACKEND_DOMID;
}

/* Mark a grant as used and get its frame.  The caller holds its lock. */
static bool grant_mark(uint32_t ref, bool write, uint64_t *frame)
{
    uint64_t *word = &gnttab.table[ref].word;
    GrantEntry old, new;
    int i;

    for (i = 0; i < GRANT_RETRIES; i++) {
        old.word = qatomic_read(word);
        if (!grant_allows(&old, write)) {
            return false;
        }
        new = old;
        new.v1.flags |= GTF_reading | (write ? GTF_writing : 0);
        if (qatomic_cmpxchg(word, old.word, new.word) == old.word) {
            *frame = old.v1.frame;
            return true;
        }
    }
    return false;
}

/* Clear the marks that no use needs any more.  The caller holds its lock. */
static void grant_unmark(uint32_t ref)
{
    GrantUse *use = &gnttab.uses[ref];
    uint16_t flags = 0;

    if (!use->writers) {
        flags |= GTF_writing;
        if (!use->readers) {
            flags |= GTF_reading;
        }
    }
    qatomic_and(&gnttab.table[ref].v1.flags, (uint16_t)~flags);
}

static bool grant_is_valid(uint32_t ref)
{
    return gnttab.table && ref < gnttab.nr_refs;
}

static bool grant_acquire(uint32_t ref, bool write, uint64_t *frame)
{
    GrantUse *use;
    bool ok;

    if (!grant_is_valid(ref)) {
        return false;
    }
    use = &gnttab.uses[ref];
    qemu_spin_lock(&use->lock);
    ok = use->readers < UINT16_MAX && use->writers < UINT16_MAX &&
         grant_mark(ref, write, frame);
    if (ok) {
        if (!xen_standin_frame(*frame, 1)) {
            grant_unmark(ref);
            ok = false;
        } else if (write) {
            use->writers++;
        } else {
            use->readers++;
        }
    }
    qemu_spin_unlock(&use->lock);
    return ok;
}

static void grant_release(uint32_t ref, bool write)
{
    GrantUse *use = &gnttab.uses[ref];

    qemu_spin_lock(&use->lock);
    if (write) {
        use->writers--;
    } else {
        use->readers--;
    }
    grant_unmark(ref);
    qemu_spin_unlock(&use->lock);
}

/*
 * Mappings
 */

static void gnttab_unreserve(xengnttab_handle *h, uint32_t nr)
{
    h->mapped -= nr;
    qatomic_sub(&gnttab.stats.mapped, nr);
    qatomic_dec(&gnttab.stats.areas);
}

static void gnttab_map_free(xengnttab_handle *h, void *addr, GrantMap *map)
{
    uint32_t i;

    xen_standin_unmap_frames(addr, map->nr);
    for (i = 0; i < map->nr; i++) {
        grant_release(map->refs[i], map->write);
    }
    gnttab_unreserve(h, map->nr);
    g_free(map);
}

static xengnttab_handle *gnttab_open(void)
{
    xengnttab_handle *h = g_new0(xengnttab_handle, 1);

    qemu_mutex_init(&h->lock);
    h->maps = g_hash_table_new(g_direct_hash, g_direct_equal);
    h->limit = UINT64_MAX;
    return h;
}

static int gnttab_close(xengnttab_handle *h)
{
    GHashTableIter iter;
    gpointer addr, map;

    g_hash_table_iter_init(&iter, h->maps);
    while (g_hash_table_iter_next(&iter, &addr, &map)) {
        gnttab_map_free(h, addr, map);
    }
    g_hash_table_destroy(h->maps);
    qemu_mutex_destroy(&h->lock);
    g_free(h);
    return 0;
}

static int gnttab_set_max_grants(xengnttab_handle *h, uint32_t nr_grants)
{
    QEMU_LOCK_GUARD(&h->lock);
    h->limit = nr_grants;
    return 0;
}

/*
 * Count @nr more grants and one more area.  Return false with errno set if a
 * limit forbids that.
 */
static bool gnttab_reserve(xengnttab_handle *h, uint32_t nr)
{
    uint64_t max_areas = gnttab.limits.areas ?: UINT64_MAX;
    uint64_t grants, areas;

    if (nr > h->limit || h->mapped > h->limit - nr) {
        errno = ENOSPC;
        return false;
    }
    h->mapped += nr;
    grants = qatomic_fetch_add(&gnttab.stats.mapped, nr) + nr;
    areas = qatomic_fetch_inc(&gnttab.stats.areas) + 1;
    if (grants > qatomic_read(&gnttab.limit) || areas > max_areas) {
        gnttab_unreserve(h, nr);
        qatomic_inc(&gnttab.stats.refused);
        errno = areas > max_areas ? ENOMEM : ENOSPC;
        return false;
    }
    return true;
}

/* Begin to use all of the grants, or none of them. */
static bool gnttab_acquire_all(const uint32_t *refs, uint32_t nr, bool write,
                               uint64_t *frames)
{
    uint32_t i;

    for (i = 0; i < nr; i++) {
        if (!grant_acquire(refs[i], write, &frames[i])) {
            trace_xen_standin_gnttab_refused(refs[i], write);
            while (i--) {
                grant_release(refs[i], write);
            }
            return false;
        }
    }
    return true;
}

static void *gnttab_map_refs(xengnttab_handle *h, uint32_t nr, uint32_t domid,
                             uint32_t *refs, int prot)
{
    bool write = prot & PROT_WRITE;
    g_autofree uint64_t *frames = NULL;
    GrantMap *map;
    void *addr;
    uint32_t i;

    if (!nr || domid != gnttab.domid) {
        errno = EINVAL;
        return NULL;
    }
    QEMU_LOCK_GUARD(&h->lock);
    if (!gnttab_reserve(h, nr)) {
        return NULL;
    }
    frames = g_new(uint64_t, nr);
    if (!gnttab_acquire_all(refs, nr, write, frames)) {
        gnttab_unreserve(h, nr);
        errno = EINVAL;
        return NULL;
    }
    addr = xen_standin_map_frames(frames, nr,
                                  PROT_READ | (write ? PROT_WRITE : 0));
    if (!addr) {
        for (i = 0; i < nr; i++) {
            grant_release(refs[i], write);
        }
        gnttab_unreserve(h, nr);
        return NULL;
    }
    map = g_malloc(sizeof(*map) + nr * sizeof(map->refs[0]));
    map->nr = nr;
    map->write = write;
    memcpy(map->refs, refs, nr * sizeof(map->refs[0]));
    g_hash_table_insert(h->maps, addr, map);
    qatomic_inc(&gnttab.stats.maps);
    trace_xen_standin_gnttab_map(refs[0], nr, write);
    return addr;
}

/*
 * Unmap the whole area that one call has mapped, as gntdev does.  The mapping
 * has its references, so @refs is ignored.
 */
static int gnttab_unmap(xengnttab_handle *h, void *addr, uint32_t *refs,
                        uint32_t nr)
{
    GrantMap *map;

    QEMU_LOCK_GUARD(&h->lock);
    map = g_hash_table_lookup(h->maps, addr);
    if (!map || map->nr != nr) {
        errno = EINVAL;
        return -1;
    }
    trace_xen_standin_gnttab_unmap(map->refs[0], nr);
    g_hash_table_remove(h->maps, addr);
    gnttab_map_free(h, addr, map);
    qatomic_inc(&gnttab.stats.unmaps);
    return 0;
}

/*
 * Copies
 */

static bool gnttab_copy_segment(const XenGrantCopySegment *seg, bool to_domain)
{
    uint32_t ref = to_domain ? seg->dest.foreign.ref : seg->source.foreign.ref;
    off_t offset = to_domain ? seg->dest.foreign.offset
                             : seg->source.foreign.offset;
    uint64_t frame;
    uint8_t *page;

    if (offset < 0 || offset > XEN_PAGE_SIZE ||
        seg->len > XEN_PAGE_SIZE - offset ||
        !grant_acquire(ref, to_domain, &frame)) {
        trace_xen_standin_gnttab_refused(ref, to_domain);
        return false;
    }
    page = xen_standin_frame(frame, 1);
    if (to_domain) {
        memcpy(page + offset, seg->source.virt, seg->len);
    } else {
        memcpy(seg->dest.virt, page + offset, seg->len);
    }
    grant_release(ref, to_domain);
    return true;
}

/* Copy all segments.  A segment that fails does not stop the others. */
static int gnttab_copy(xengnttab_handle *h, bool to_domain, uint32_t domid,
                       XenGrantCopySegment *segs, uint32_t nr_segs,
                       Error **errp)
{
    uint32_t failed = nr_segs;
    uint32_t i;

    if (domid != gnttab.domid) {
        error_setg(errp, "grant copy: no domain %u", domid);
        return -EINVAL;
    }
    for (i = 0; i < nr_segs; i++) {
        if (!gnttab_copy_segment(&segs[i], to_domain) && failed == nr_segs) {
            failed = i;
        }
    }
    qatomic_inc(&gnttab.stats.copies);
    qatomic_add(&gnttab.stats.segments, nr_segs);
    if (failed < nr_segs) {
        error_setg(errp, "grant copy: segment %u of %u failed", failed,
                   nr_segs);
        return -EIO;
    }
    return 0;
}

/* A benchmark links this file with QEMU 10.0, which has no such operation. */
#ifndef XEN_STANDIN_FOR_STOCK
static void gnttab_get_limits(uint32_t domid, XenGnttabLimits *limits)
{
    *limits = (XenGnttabLimits) {
        .grant_entries = gnttab.limits.grant_entries,
        .maptrack_entries = gnttab.limits.maptrack_entries,
        .areas = gnttab.limits.areas,
    };
}
#endif

struct gnttab_backend_ops xen_standin_gnttab_ops = {
    .features = XEN_GNTTAB_OP_FEATURE_MAP_MULTIPLE,
    .open = gnttab_open,
    .close = gnttab_close,
    .grant_copy = gnttab_copy,
    .set_max_grants = gnttab_set_max_grants,
    .map_refs = gnttab_map_refs,
    .unmap = gnttab_unmap,
#ifndef XEN_STANDIN_FOR_STOCK
    .get_limits = gnttab_get_limits,
#endif
};
