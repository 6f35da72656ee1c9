/*
 * Limits for what Xen PV disks take of a host: by disk, domain and process
 *
 *     what                  of what                        process    domain
 *     mapped grants         maptrack table of our domain   1/8        half
 *                           grant table of the frontend    -          half
 *     areas of memory       vm.max_map_count               1/4        half
 *     pages of buffers      -                              256 MiB    64 MiB
 *
 * The rest is for others: the other backends of this domain, the other devices
 * of the guest, the threads and the heap of this process.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "xen-block-budget.h"

/* The defaults of Xen and Linux, if their limits are not known */
#define DEFAULT_MAPTRACK_ENTRIES (1024 * 512)
#define DEFAULT_GRANT_ENTRIES (64 * 512)
#define DEFAULT_MAX_MAP_COUNT 65530

#define PROCESS_BUFFER_PAGES (256 * MiB / XEN_PAGE_SIZE)
#define DOMAIN_BUFFER_PAGES (64 * MiB / XEN_PAGE_SIZE)

static XenBlockBudget process;
static QLIST_HEAD(, XenBlockDomain) domains =
    QLIST_HEAD_INITIALIZER(domains);

/*
 * Count a refusal, but only one after each look at the counter, so that its
 * cache line is seldom written.  If two threads count at once, one count may
 * get lost.  That does no harm, because one is enough.
 */
static void note_refusal(XenBlockBudget *b)
{
    unsigned looked = qatomic_read(&b->looked);

    if (qatomic_read(&b->refusals) == looked) {
        qatomic_set(&b->refusals, looked + 1);
    }
}

static bool budget_take_one(XenBlockBudget *b, XenBlockResource what,
                            unsigned n)
{
    unsigned used = qatomic_read(&b->used[what]);

    for (;;) {
        unsigned seen;

        /* The use may be above the limit, because it can be forced. */
        if (used > b->limit[what] || n > b->limit[what] - used) {
            if (what == XEN_BLOCK_GRANTS) {
                note_refusal(b);
            }
            return false;
        }
        seen = qatomic_cmpxchg(&b->used[what], used, used + n);
        if (seen == used) {
            return true;
        }
        used = seen;
    }
}

bool xen_block_budget_take(XenBlockBudget *budget, XenBlockResource what,
                           unsigned n)
{
    for (XenBlockBudget *b = budget; b; b = b->parent) {
        if (!budget_take_one(b, what, n)) {
            for (XenBlockBudget *undo = budget; undo != b;
                 undo = undo->parent) {
                qatomic_sub(&undo->used[what], n);
            }
            return false;
        }
    }
    return true;
}

void xen_block_budget_force(XenBlockBudget *budget, XenBlockResource what,
                            unsigned n)
{
    for (XenBlockBudget *b = budget; b; b = b->parent) {
        qatomic_add(&b->used[what], n);
    }
}

void xen_block_budget_give(XenBlockBudget *budget, XenBlockResource what,
                           unsigned n)
{
    for (XenBlockBudget *b = budget; b; b = b->parent) {
        unsigned used = qatomic_fetch_sub(&b->used[what], n);

        assert(used >= n);
    }
}

bool xen_block_budget_was_refused(XenBlockBudget *disk)
{
    bool refused = false;
    unsigned level = 0;

    for (XenBlockBudget *b = disk; b; b = b->parent, level++) {
        unsigned refusals = qatomic_read(&b->refusals);

        assert(level < XEN_BLOCK_BUDGETS);
        refused |= refusals != disk->seen[level];
        disk->seen[level] = refusals;
        qatomic_set(&b->looked, refusals);
    }
    return refused;
}

static unsigned max_map_count(void)
{
    g_autofree char *text = NULL;
    unsigned n;

    if (!g_file_get_contents("/proc/sys/vm/max_map_count", &text, NULL,
                             NULL) ||
        qemu_strtoui(g_strstrip(text), NULL, 10, &n) < 0) {
        return DEFAULT_MAX_MAP_COUNT;
    }
    return n;
}

static void process_init(const XenGnttabLimits *limits)
{
    unsigned maptrack = limits->maptrack_entries ?: DEFAULT_MAPTRACK_ENTRIES;
    unsigned areas = limits->areas ?: max_map_count();

    process.limit[XEN_BLOCK_GRANTS] = maptrack / 8;
    process.limit[XEN_BLOCK_AREAS] = areas / 4;
    process.limit[XEN_BLOCK_BUFFER_PAGES] = PROCESS_BUFFER_PAGES;
}

static XenBlockDomain *domain_new(domid_t domid)
{
    XenBlockDomain *domain = g_new0(XenBlockDomain, 1);
    XenGnttabLimits limits = { 0 };
    unsigned *limit = domain->budget.limit;
    unsigned grant_entries;

    qemu_xen_gnttab_get_limits(domid, &limits);
    if (!process.limit[XEN_BLOCK_BUFFER_PAGES]) {
        process_init(&limits);
    }
    grant_entries = limits.grant_entries ?: DEFAULT_GRANT_ENTRIES;
    domain->domid = domid;
    domain->budget.parent = &process;
    limit[XEN_BLOCK_GRANTS] = MIN(grant_entries,
                                  process.limit[XEN_BLOCK_GRANTS]) / 2;
    limit[XEN_BLOCK_AREAS] = process.limit[XEN_BLOCK_AREAS] / 2;
    limit[XEN_BLOCK_BUFFER_PAGES] = DOMAIN_BUFFER_PAGES;
    xen_guest_log_init(&domain->log);
    QLIST_INSERT_HEAD(&domains, domain, next);
    return domain;
}

XenBlockDomain *xen_block_domain_get(domid_t domid)
{
    XenBlockDomain *domain;

    QLIST_FOREACH(domain, &domains, next) {
        if (domain->domid == domid) {
            break;
        }
    }
    if (!domain) {
        domain = domain_new(domid);
    }
    domain->users++;
    return domain;
}

void xen_block_domain_put(XenBlockDomain *domain)
{
    if (--domain->users) {
        return;
    }
    for (int i = 0; i < XEN_BLOCK_NR_RESOURCES; i++) {
        assert(!domain->budget.used[i]);
    }
    QLIST_REMOVE(domain, next);
    xen_guest_log_destroy(&domain->log);
    g_free(domain);
}
