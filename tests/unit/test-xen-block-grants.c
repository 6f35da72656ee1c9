/*
 * Unit tests: grants of a Xen PV disk's ring
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A grant table of our own stands behind xen_gnttab_ops: it knows which
 * references are good, which are mapped, and counts the calls.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/block/xen-block-grants.h"

#define NR_REFS 512
#define DOMID 3

struct gnttab_backend_ops *xen_gnttab_ops;

static struct {
    uint8_t *pages;
    bool revoked[NR_REFS];
    unsigned mapped[NR_REFS];
    unsigned nr_mapped, most_mapped;
    unsigned handles;
    unsigned copy_calls;
    uint32_t max_grants;
} table;

static uint8_t *table_page(uint32_t ref)
{
    return table.pages + ref * XEN_PAGE_SIZE;
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
    g_assert_cmpint(count, ==, 1);
    g_assert_cmpint(domid, ==, DOMID);
    g_assert_cmpint(prot, ==, PROT_READ | PROT_WRITE);
    if (refs[0] >= NR_REFS || table.revoked[refs[0]]) {
        errno = EINVAL;
        return NULL;
    }
    table.mapped[refs[0]]++;
    table.nr_mapped++;
    table.most_mapped = MAX(table.most_mapped, table.nr_mapped);
    return table_page(refs[0]);
}

static int table_unmap(xengnttab_handle *xgt, void *start, uint32_t *refs,
                       uint32_t count)
{
    g_assert_cmpint(count, ==, 1);
    g_assert_true(start == table_page(refs[0]));
    g_assert_cmpint(table.mapped[refs[0]], >, 0);
    table.mapped[refs[0]]--;
    table.nr_mapped--;
    return 0;
}

/* Stops at the first bad segment, as a hypervisor may. */
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

static void start(XenBlockGrants *g, unsigned capacity)
{
    table_reset();
    g_assert_true(xen_block_grants_start(g, DOMID, capacity, 4, &error_abort));
    g_assert_cmpint(table.max_grants, ==, capacity + 4);
}

static void stop(XenBlockGrants *g)
{
    xen_block_grants_stop(g);
    g_assert_cmpint(table.nr_mapped, ==, 0);
    g_assert_cmpint(table.handles, ==, 0);
}

static void use(XenBlockGrants *g, uint32_t ref)
{
    XenBlockGrant *grant = xen_block_grants_get(g, ref);

    g_assert_nonnull(grant);
    g_assert_true(grant->page == table_page(ref));
    xen_block_grants_put(g, grant);
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
    g_assert_cmpint(g.stats.uses, ==, 160);
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

static void test_bound(void)
{
    XenBlockGrants g;

    start(&g, 7);
    for (int i = 0; i < 5000; i++) {
        use(&g, g_test_rand_int_range(0, NR_REFS));
    }
    g_assert_cmpint(table.most_mapped, ==, 7);
    g_assert_cmpint(g.stats.uses, ==, 5000);
    stop(&g);
}

static void test_in_use(void)
{
    XenBlockGrant *held[4], *again;
    XenBlockGrants g;

    start(&g, 4);
    for (uint32_t ref = 0; ref < 4; ref++) {
        held[ref] = xen_block_grants_get(&g, ref);
        g_assert_nonnull(held[ref]);
    }
    /* All are in use: nothing may be evicted, and nothing is added. */
    g_assert_null(xen_block_grants_get(&g, 50));
    g_assert_cmpint(g.stats.refusals, ==, 1);
    g_assert_cmpint(g.stats.evictions, ==, 0);
    g_assert_cmpint(g.nr_in_use, ==, 4);

    again = xen_block_grants_get(&g, 2);
    g_assert_cmpint(g.nr_in_use, ==, 4);
    g_assert_true(again == held[2]);
    xen_block_grants_put(&g, held[2]);
    g_assert_null(xen_block_grants_get(&g, 50));
    xen_block_grants_put(&g, again);
    g_assert_cmpint(g.nr_in_use, ==, 3);

    use(&g, 50);
    g_assert_cmpint(table.mapped[2], ==, 0);
    xen_block_grants_put(&g, held[0]);
    xen_block_grants_put(&g, held[1]);
    xen_block_grants_put(&g, held[3]);
    g_assert_cmpint(g.nr_in_use, ==, 0);
    stop(&g);
}

static void test_bad_grant(void)
{
    XenBlockGrants g;

    start(&g, 2);
    table.revoked[9] = true;
    for (int i = 0; i < 10; i++) {
        g_assert_null(xen_block_grants_get(&g, 9));
        g_assert_null(xen_block_grants_get(&g, UINT32_MAX));
    }
    use(&g, 1);
    use(&g, 2);
    g_assert_cmpint(table.nr_mapped, ==, 2);
    g_assert_cmpint(g.nr_in_use, ==, 0);
    /* A grant mapped while it was good is good until unmapped. */
    table.revoked[1] = true;
    use(&g, 1);
    stop(&g);
}

static void test_forget(void)
{
    XenBlockGrant *held;
    XenBlockGrants g;

    start(&g, 8);
    held = xen_block_grants_get(&g, 1);
    use(&g, 2);
    use(&g, 3);
    xen_block_grants_forget_idle(&g);
    g_assert_cmpint(table.nr_mapped, ==, 1);
    xen_block_grants_put(&g, held);
    use(&g, 2);
    g_assert_cmpint(table.nr_mapped, ==, 2);
    stop(&g);
}

/* Requests of three segments each over consecutive references. */
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
    g_test_add_func("/xen-block-grants/bound", test_bound);
    g_test_add_func("/xen-block-grants/in-use", test_in_use);
    g_test_add_func("/xen-block-grants/bad-grant", test_bad_grant);
    g_test_add_func("/xen-block-grants/forget", test_forget);
    g_test_add_func("/xen-block-grants/copy", test_copy);
    g_test_add_func("/xen-block-grants/copy-bad-grant", test_copy_bad_grant);
    g_test_add_func("/xen-block-grants/copy-large", test_copy_large);
    return g_test_run();
}
