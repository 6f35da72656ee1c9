/*
 * Unit tests: grants of a Xen PV disk's ring
 *
 * The test has a grant table of its own behind xen_gnttab_ops.  The table has
 * valid and invalid references, knows which are mapped, and counts calls.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "../../hw/block/xen-block-grants.h"

#define NR_REFS 512
#define DOMID 3

struct gnttab_backend_ops *xen_gnttab_ops;

static struct {
    uint8_t *pages;
    bool revoked[NR_REFS];
    unsigned mapped[NR_REFS];
    unsigned nr_mapped, most_mapped;
    unsigned map_calls;
    unsigned handles;
    unsigned copy_calls;
    uint32_t max_grants;
    unsigned areas;
} table;

static XenBlockBudget budget;

static uint8_t *table_page(uint32_t ref)
{
    return table.pages + ref * XEN_PAGE_SIZE;
}

/*
 * Return an area of memory for one call.  Its first words say what the call has
 * mapped.  All of it must be unmapped at once.
 */
static void *table_area(const uint32_t *refs, uint32_t count)
{
    uint8_t *area = g_malloc0(count * XEN_PAGE_SIZE);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t *page = (uint32_t *)(area + i * XEN_PAGE_SIZE);

        page[0] = refs[i];
        page[1] = count;
    }
    return area;
}

static void table_area_free(void *area, const uint32_t *refs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *page = area + i * XEN_PAGE_SIZE;

        g_assert_cmpint(page[0], ==, refs[i]);
        g_assert_cmpint(page[1], ==, count);
    }
    g_free(area);
}

static xengnttab_handle *table_open(void)
{
    table.handles++;
    return (xengnttab_handle *)&table;
}

static int table_close(xengnttab_handle *xgt)
{
    table.handles--;
    return 0;
}

static int table_set_max(xengnttab_handle *xgt, uint32_t nr)
{
    table.max_grants = nr;
    return 0;
}

static void *table_map(xengnttab_handle *xgt, uint32_t count, uint32_t domid,
                       uint32_t *refs, int prot)
{
    table.map_calls++;
    g_assert_cmpint(domid, ==, DOMID);
    g_assert_cmpint(prot, ==, PROT_READ | PROT_WRITE);
    for (uint32_t i = 0; i < count; i++) {
        if (refs[i] >= NR_REFS || table.revoked[refs[i]]) {
            errno = EINVAL;
            return NULL;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        table.mapped[refs[i]]++;
    }
    table.nr_mapped += count;
    table.most_mapped = MAX(table.most_mapped, table.nr_mapped);
    table.areas++;
    return table_area(refs, count);
}

static int table_unmap(xengnttab_handle *xgt, void *start, uint32_t *refs,
                       uint32_t count)
{
    table_area_free(start, refs, count);
    for (uint32_t i = 0; i < count; i++) {
        g_assert_cmpint(table.mapped[refs[i]], >, 0);
        table.mapped[refs[i]]--;
    }
    table.nr_mapped -= count;
    table.areas--;
    return 0;
}

/* Copy segments.  Stop at the first bad one, as a hypervisor may. */
static int table_copy(xengnttab_handle *xgt, bool to_domain, uint32_t domid,
                      XenGrantCopySegment *segs, uint32_t nr_segs,
                      Error **errp)
{
    table.copy_calls++;
    g_assert_cmpint(domid, ==, DOMID);
    for (uint32_t i = 0; i < nr_segs; i++) {
        XenGrantCopySegment *s = &segs[i];
        uint32_t ref = to_domain ? s->dest.foreign.ref
                                 : s->source.foreign.ref;

        if (ref >= NR_REFS || table.revoked[ref]) {
            error_setg(errp, "segment %u", i);
            return -EIO;
        }
        if (to_domain) {
            memcpy(table_page(ref) + s->dest.foreign.offset, s->source.virt,
                   s->len);
        } else {
            memcpy(s->dest.virt, table_page(ref) + s->source.foreign.offset,
                   s->len);
        }
    }
    return 0;
}

static struct gnttab_backend_ops table_ops = {
    .features = XEN_GNTTAB_OP_FEATURE_MAP_MULTIPLE,
    .open = table_open,
    .close = table_close,
    .set_max_grants = table_set_max,
    .map_refs = table_map,
    .unmap = table_unmap,
    .grant_copy = table_copy,
};

static void table_reset(void)
{
    g_free(table.pages);
    memset(&table, 0, sizeof(table));
    table.pages = g_malloc0(NR_REFS * XEN_PAGE_SIZE);
    xen_gnttab_ops = &table_ops;
}

static void start_more(XenBlockGrants *g, unsigned capacity)
{
    g_assert_true(xen_block_grants_start(g, "disk, queue 0", DOMID, &budget,
                                         capacity, 4, &error_abort));
    g_assert_cmpint(table.max_grants, ==, capacity + 4);
}

static void start(XenBlockGrants *g, unsigned capacity)
{
    table_reset();
    budget = (XenBlockBudget) {
        .limit = { [XEN_BLOCK_GRANTS] = capacity, [XEN_BLOCK_AREAS] = 1000 },
    };
    start_more(g, capacity);
}

static void stop(XenBlockGrants *g)
{
    xen_block_grants_stop(g);
    g_assert_cmpint(table.nr_mapped, ==, 0);
    g_assert_cmpint(table.handles, ==, 0);
    g_assert_cmpint(budget.used[XEN_BLOCK_GRANTS], ==, 0);
    g_assert_cmpint(budget.used[XEN_BLOCK_AREAS], ==, 0);
}

static XenBlockGrant *get(XenBlockGrants *g, uint32_t ref)
{
    XenBlockGrant *grant = xen_block_grants_get(g, ref);

    if (!grant) {
        xen_block_grants_want(g, ref);
        xen_block_grants_map_wanted(g);
        grant = xen_block_grants_get(g, ref);
    }
    return grant;
}

static void put(XenBlockGrants *g, XenBlockGrant *grant)
{
    xen_block_grants_put(g, grant);
}

static void use(XenBlockGrants *g, uint32_t ref)
{
    XenBlockGrant *grant = get(g, ref);

    g_assert_nonnull(grant);
    g_assert_cmpint(*(uint32_t *)grant->page, ==, ref);
    put(g, grant);
}

static bool try_use(XenBlockGrants *g, uint32_t ref)
{
    XenBlockGrant *grant = get(g, ref);

    if (grant) {
        put(g, grant);
    }
    return grant;
}

static void test_hit(void)
{
    XenBlockGrants g;

    start(&g, 16);
    g_assert_true(xen_block_grants_persistent(&g));
    for (int round = 0; round < 10; round++) {
        for (uint32_t ref = 0; ref < 16; ref++) {
            use(&g, ref * 31);
        }
    }
    g_assert_cmpint(g.stats.maps, ==, 16);
    g_assert_cmpint(g.uses, ==, 160);
    g_assert_cmpint(g.stats.evictions, ==, 0);
    stop(&g);
}

static void test_lru(void)
{
    XenBlockGrants g;

    start(&g, 4);
    for (uint32_t ref = 0; ref < 4; ref++) {
        use(&g, ref);
    }
    use(&g, 0);                 /* now 1 is the oldest */
    use(&g, 100);
    g_assert_cmpint(table.mapped[1], ==, 0);
    g_assert_cmpint(table.mapped[0], ==, 1);
    use(&g, 101);
    g_assert_cmpint(table.mapped[2], ==, 0);
    use(&g, 0);
    g_assert_cmpint(g.stats.maps, ==, 6);
    g_assert_cmpint(g.stats.evictions, ==, 2);
    stop(&g);
}

/* Between two ticks no more is replaced than may be mapped. */
static void test_no_thrashing(void)
{
    unsigned before, hits = 0;
    XenBlockGrants g;

    start(&g, 7);
    for (int i = 0; i < 5000; i++) {
        try_use(&g, g_test_rand_int_range(0, NR_REFS));
    }
    g_assert_cmpint(table.most_mapped, ==, 7);
    g_assert_cmpint(g.stats.maps, ==, 14);
    g_assert_cmpint(g.stats.evictions, ==, 7);
    before = table.map_calls;
    for (uint32_t ref = 0; ref < NR_REFS; ref++) {
        hits += try_use(&g, ref);
    }
    g_assert_cmpint(hits, ==, 7);
    g_assert_cmpint(table.map_calls, ==, before);

    xen_block_grants_tick(&g, false);
    for (uint32_t ref = 0; ref < 7; ref++) {
        use(&g, ref);
    }
    stop(&g);
}

static void test_in_use(void)
{
    XenBlockGrant *held[4], *again;
    XenBlockGrants g;

    start(&g, 4);
    for (uint32_t ref = 0; ref < 4; ref++) {
        held[ref] = get(&g, ref);
        g_assert_nonnull(held[ref]);
    }
    /* All grants are in use, so none is evicted, and none is added. */
    g_assert_null(get(&g, 50));
    g_assert_cmpint(g.stats.refusals, ==, 1);
    g_assert_cmpint(g.stats.evictions, ==, 0);

    again = get(&g, 2);
    g_assert_true(again == held[2]);
    put(&g, held[2]);
    xen_block_grants_tick(&g, true);
    g_assert_null(get(&g, 50));
    put(&g, again);

    xen_block_grants_tick(&g, false);
    use(&g, 50);
    g_assert_cmpint(table.mapped[2], ==, 0);
    put(&g, held[0]);
    put(&g, held[1]);
    put(&g, held[3]);
    stop(&g);
}

static void test_bad_grant(void)
{
    unsigned calls;
    XenBlockGrants g;

    start(&g, 2);
    table.revoked[9] = true;
    for (int i = 0; i < 10; i++) {
        g_assert_null(get(&g, 9));
        g_assert_null(get(&g, UINT32_MAX));
    }
    use(&g, 1);
    use(&g, 2);
    g_assert_cmpint(table.nr_mapped, ==, 2);
    /* A grant mapped while it was good is good until unmapped. */
    table.revoked[1] = true;
    use(&g, 1);

    /* The number of attempts is limited. */
    calls = table.map_calls;
    for (int i = 0; i < 1000; i++) {
        g_assert_null(get(&g, 9));
    }
    g_assert_cmpint(table.map_calls - calls, <=, XEN_BLOCK_GRANTS_FAILURES);
    stop(&g);
}

static void want(XenBlockGrants *g, uint32_t first, unsigned n)
{
    for (uint32_t i = 0; i < n; i++) {
        xen_block_grants_want(g, first + i);
        xen_block_grants_want(g, first + i);
    }
    xen_block_grants_map_wanted(g);
}

/* Grants that are used together are mapped and unmapped with few calls. */
static void test_chunks(void)
{
    XenBlockGrant *held;
    XenBlockGrants g;

    start(&g, 512);
    want(&g, 0, 80);
    g_assert_cmpint(table.map_calls, ==, 3);
    g_assert_cmpint(table.nr_mapped, ==, 80);
    g_assert_cmpint(budget.used[XEN_BLOCK_GRANTS], ==, 80);
    g_assert_cmpint(budget.used[XEN_BLOCK_AREAS], ==, 3);
    for (uint32_t ref = 0; ref < 80; ref++) {
        use(&g, ref);
    }
    want(&g, 0, 80);
    g_assert_cmpint(table.map_calls, ==, 3);

    held = get(&g, 40);
    xen_block_grants_forget_idle(&g);
    g_assert_cmpint(table.areas, ==, 1);
    g_assert_cmpint(table.mapped[40], ==, 1);
    g_assert_cmpint(table.mapped[0], ==, 0);
    put(&g, held);
    use(&g, 0);
    stop(&g);
}

/* A bad grant does not prevent that the others are mapped. */
static void test_chunk_with_bad_grant(void)
{
    XenBlockGrants g;

    start(&g, 512);
    table.revoked[5] = true;
    want(&g, 0, 32);
    g_assert_cmpint(table.nr_mapped, ==, 31);
    g_assert_cmpint(table.map_calls, ==, 1 + 32);
    g_assert_null(get(&g, 5));
    use(&g, 31);
    stop(&g);
}

/* Without room for all of them, some are mapped. */
static void test_chunk_without_room(void)
{
    XenBlockGrants g;

    start(&g, 512);
    budget.used[XEN_BLOCK_GRANTS] = 500;        /* of another ring */
    want(&g, 0, 32);
    g_assert_cmpint(table.nr_mapped, ==, 12);
    g_assert_true(xen_block_budget_was_refused(&budget));
    budget.used[XEN_BLOCK_GRANTS] -= 500;
    stop(&g);

    start(&g, 512);
    budget.limit[XEN_BLOCK_AREAS] = 2;
    want(&g, 0, 32);
    want(&g, 32, 32);
    g_assert_cmpint(table.areas, ==, 2);
    want(&g, 64, 32);           /* takes the place of the first ones */
    g_assert_cmpint(table.areas, ==, 2);
    g_assert_cmpint(table.mapped[0], ==, 0);
    use(&g, 95);
    stop(&g);
}

/* Two rings share a budget: one ring may use what the other one gives back. */
static void test_share(void)
{
    XenBlockGrants a, b;

    start(&a, 16);
    start_more(&b, 16);
    want(&a, 0, 16);
    g_assert_false(try_use(&b, 100));
    g_assert_true(xen_block_budget_was_refused(&budget));
    g_assert_false(xen_block_budget_was_refused(&budget));

    xen_block_grants_tick(&a, true);
    xen_block_grants_tick(&b, true);
    g_assert_cmpint(table.nr_mapped, ==, 14);
    use(&b, 100);
    use(&b, 101);
    g_assert_cmpint(table.nr_mapped, ==, 16);

    xen_block_grants_stop(&a);
    xen_block_grants_tick(&b, true);
    for (uint32_t ref = 200; ref < 215; ref++) {
        use(&b, ref);
    }
    g_assert_cmpint(table.nr_mapped, ==, 16);
    stop(&b);
}

/* Grants that are not used for a minute are unmapped with their whole chunk. */
static void test_idle(void)
{
    XenBlockGrant *held;
    XenBlockGrants g;

    start(&g, 512);
    want(&g, 0, 32);
    want(&g, 32, 32);
    held = get(&g, 5);
    for (int t = 0; t < XEN_BLOCK_GRANTS_IDLE_TICKS; t++) {
        xen_block_grants_tick(&g, false);
        g_assert_cmpint(table.nr_mapped, ==, 64);
        use(&g, 40);
    }
    xen_block_grants_tick(&g, false);
    g_assert_cmpint(table.mapped[5], ==, 1);    /* in use */
    g_assert_cmpint(table.mapped[40], ==, 0);
    use(&g, 40);
    g_assert_cmpint(table.nr_mapped, ==, 33);

    put(&g, held);
    for (int t = 0; t < XEN_BLOCK_GRANTS_IDLE_TICKS; t++) {
        xen_block_grants_tick(&g, false);
        use(&g, 40);
    }
    g_assert_cmpint(table.nr_mapped, ==, 1);
    for (int t = 0; t <= XEN_BLOCK_GRANTS_IDLE_TICKS; t++) {
        g_assert_cmpint(table.nr_mapped, ==, 1);
        xen_block_grants_tick(&g, false);
    }
    g_assert_cmpint(table.nr_mapped, ==, 0);
    g_assert_cmpint(budget.used[XEN_BLOCK_AREAS], ==, 0);
    stop(&g);
}

/* Make requests of three segments each, with consecutive references. */
static void copies_init(XenBlockCopy *copies, XenBlkifSegment (*segs)[3],
                        uint8_t *buf, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned s = 0; s < 3; s++) {
            segs[i][s] = (XenBlkifSegment) {
                .gref = (i * 3 + s) % NR_REFS, .offset = 512 * s, .len = 1024,
            };
        }
        copies[i] = (XenBlockCopy) {
            .segs = segs[i], .nr_segs = 3, .buf = buf + i * 3072,
        };
    }
}

static void test_copy(void)
{
    enum { N = 100 };
    g_autofree uint8_t *buf = g_malloc(N * 3072);
    g_autofree uint8_t *back = g_malloc0(N * 3072);
    XenBlkifSegment segs[N][3];
    XenBlockCopy copies[N];
    XenBlockGrants g;

    start(&g, 0);
    g_assert_false(xen_block_grants_persistent(&g));
    for (int i = 0; i < N * 3072; i++) {
        buf[i] = g_test_rand_int();
    }
    copies_init(copies, segs, buf, N);
    xen_block_grants_copy(&g, true, copies, N);
    g_assert_cmpint(table.copy_calls, ==, 1);
    copies_init(copies, segs, back, N);
    xen_block_grants_copy(&g, false, copies, N);
    g_assert_cmpint(table.copy_calls, ==, 2);
    g_assert_cmpmem(buf, N * 3072, back, N * 3072);
    stop(&g);
}

static void test_copy_bad_grant(void)
{
    enum { N = 20 };
    g_autofree uint8_t *buf = g_malloc0(N * 3072);
    XenBlkifSegment segs[N][3];
    XenBlockCopy copies[N];
    XenBlockGrants g;

    start(&g, 0);
    memset(table.pages, 0x5a, NR_REFS * XEN_PAGE_SIZE);
    copies_init(copies, segs, buf, N);
    table.revoked[3 * 7 + 1] = true;
    segs[12][2].gref = 0xffffffff;
    xen_block_grants_copy(&g, false, copies, N);
    for (int i = 0; i < N; i++) {
        g_assert_cmpint(copies[i].failed, ==, i == 7 || i == 12);
        if (!copies[i].failed) {
            g_assert_cmpint(buf[i * 3072 + 3071], ==, 0x5a);
        }
    }
    stop(&g);
}

static void test_copy_large(void)
{
    enum { N = 700 };
    g_autofree uint8_t *buf = g_malloc0(N * 3072);
    g_autofree XenBlkifSegment (*segs)[3] = g_malloc_n(N, sizeof(*segs));
    g_autofree XenBlockCopy *copies = g_new(XenBlockCopy, N);
    XenBlockGrants g;

    start(&g, 0);
    copies_init(copies, segs, buf, N);
    xen_block_grants_copy(&g, true, copies, N);
    g_assert_cmpint(table.copy_calls, ==, 3);
    g_assert_cmpint(g.stats.copied_segs, ==, N * 3);
    stop(&g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-block-grants/hit", test_hit);
    g_test_add_func("/xen-block-grants/lru", test_lru);
    g_test_add_func("/xen-block-grants/no-thrashing", test_no_thrashing);
    g_test_add_func("/xen-block-grants/in-use", test_in_use);
    g_test_add_func("/xen-block-grants/bad-grant", test_bad_grant);
    g_test_add_func("/xen-block-grants/chunks", test_chunks);
    g_test_add_func("/xen-block-grants/chunk-with-bad-grant",
                    test_chunk_with_bad_grant);
    g_test_add_func("/xen-block-grants/chunk-without-room",
                    test_chunk_without_room);
    g_test_add_func("/xen-block-grants/share", test_share);
    g_test_add_func("/xen-block-grants/idle", test_idle);
    g_test_add_func("/xen-block-grants/copy", test_copy);
    g_test_add_func("/xen-block-grants/copy-bad-grant", test_copy_bad_grant);
    g_test_add_func("/xen-block-grants/copy-large", test_copy_large);
    return g_test_run();
}
