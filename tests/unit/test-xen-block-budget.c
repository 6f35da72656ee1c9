/*
 * Unit tests: limits for what Xen PV disks take of a host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "../../hw/block/xen-block-buffers.h"

/* The first domain sets up the process: limits of 80 grants and 40 areas. */
static void get_limits(uint32_t domid, XenGnttabLimits *limits)
{
    *limits = (XenGnttabLimits) {
        .grant_entries = domid == 7 ? 20 : 1000,
        .maptrack_entries = 8 * 80,
        .areas = 4 * 40,
    };
}

static struct gnttab_backend_ops ops = { .get_limits = get_limits };
struct gnttab_backend_ops *xen_gnttab_ops = &ops;

static XenBlockBudget disk_budget(XenBlockDomain *domain, unsigned grants)
{
    return (XenBlockBudget) {
        .parent = &domain->budget,
        .limit = {
            [XEN_BLOCK_GRANTS] = grants,
            [XEN_BLOCK_AREAS] = 1000,
            [XEN_BLOCK_BUFFER_PAGES] = 1 << 20,
        },
    };
}

static void test_domain(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockDomain *seven = xen_block_domain_get(7);

    g_assert_true(xen_block_domain_get(1) == one);
    g_assert_true(one != seven);
    g_assert_cmpint(one->budget.limit[XEN_BLOCK_GRANTS], ==, 40);
    g_assert_cmpint(one->budget.limit[XEN_BLOCK_AREAS], ==, 20);
    g_assert_cmpint(seven->budget.limit[XEN_BLOCK_GRANTS], ==, 10);
    xen_block_domain_put(one);
    xen_block_domain_put(one);
    xen_block_domain_put(seven);
}

static bool take(XenBlockBudget *b, unsigned n)
{
    return xen_block_budget_take(b, XEN_BLOCK_GRANTS, n);
}

static void give(XenBlockBudget *b, unsigned n)
{
    xen_block_budget_give(b, XEN_BLOCK_GRANTS, n);
}

static unsigned used(const XenBlockBudget *b)
{
    return b->used[XEN_BLOCK_GRANTS];
}

/* Disk, domain and process each have a limit.  A refusal takes nothing. */
static void test_levels(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockDomain *two = xen_block_domain_get(2);
    XenBlockDomain *three = xen_block_domain_get(3);
    XenBlockBudget a = disk_budget(one, 30), b = disk_budget(one, 30);
    XenBlockBudget c = disk_budget(two, 100), d = disk_budget(three, 100);

    g_assert_false(take(&a, 31));
    g_assert_false(take(&a, UINT_MAX));
    g_assert_true(take(&a, 30));
    g_assert_false(take(&a, 1));
    g_assert_false(take(&b, 11));               /* the domain's 40 */
    g_assert_cmpint(used(&b), ==, 0);
    g_assert_true(take(&b, 10));
    g_assert_true(take(&c, 35));
    g_assert_false(take(&d, 6));                /* the process's 80 */
    g_assert_cmpint(used(&d), ==, 0);
    g_assert_cmpint(used(&three->budget), ==, 0);
    g_assert_true(take(&d, 5));
    give(&a, 30);
    g_assert_true(take(&d, 30));
    give(&b, 10);
    give(&c, 35);
    give(&d, 35);
    xen_block_domain_put(one);
    xen_block_domain_put(two);
    xen_block_domain_put(three);
}

static void test_refused(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockBudget a = disk_budget(one, 100), b = disk_budget(one, 100);

    g_assert_true(take(&a, 40));
    while (xen_block_budget_was_refused(&a)) {
        /* what earlier tests have left */
    }
    g_assert_false(take(&b, 1));
    g_assert_true(xen_block_budget_was_refused(&a));
    g_assert_false(xen_block_budget_was_refused(&a));
    give(&a, 40);
    xen_block_domain_put(one);
}

static void test_force(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockBudget a = disk_budget(one, 100);

    xen_block_budget_force(&a, XEN_BLOCK_GRANTS, 50);
    g_assert_false(take(&a, 1));
    give(&a, 15);
    g_assert_true(take(&a, 5));
    g_assert_false(take(&a, 1));
    give(&a, 40);
    xen_block_domain_put(one);
}

static void *hammer(void *opaque)
{
    XenBlockBudget *b = opaque;

    for (int i = 0; i < 20000; i++) {
        unsigned n = 1 + i % 7;

        if (take(b, n)) {
            g_assert_cmpint(qatomic_read(&b->used[XEN_BLOCK_GRANTS]), <=, 10);
            give(b, n);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockBudget a = disk_budget(one, 10);
    GThread *threads[4];

    for (int i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = g_thread_new("hammer", hammer, &a);
    }
    for (int i = 0; i < ARRAY_SIZE(threads); i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpint(used(&a), ==, 0);
    xen_block_domain_put(one);
}

/* The first buffer is always available, others only within the budget. */
static void test_buffers(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockBudget disk = disk_budget(one, 0);
    XenBlockBuffers a, b;
    void *buf[3];

    disk.limit[XEN_BLOCK_BUFFER_PAGES] = 25;
    xen_block_buffers_init(&a, &disk, 8, 11);
    xen_block_buffers_init(&b, &disk, 8, 11);
    for (int i = 0; i < 2; i++) {
        buf[i] = xen_block_buffers_get(&a);
        g_assert_nonnull(buf[i]);
        memset(buf[i], i, 11 * XEN_PAGE_SIZE);
    }
    g_assert_null(xen_block_buffers_get(&a));
    buf[2] = xen_block_buffers_get(&b);
    g_assert_nonnull(buf[2]);
    g_assert_null(xen_block_buffers_get(&b));
    g_assert_cmpint(disk.used[XEN_BLOCK_BUFFER_PAGES], ==, 33);

    /* A buffer that was put back is available. */
    xen_block_buffers_put(&a, buf[1]);
    g_assert_true(xen_block_buffers_get(&a) == buf[1]);
    xen_block_buffers_put(&a, buf[0]);
    xen_block_buffers_put(&a, buf[1]);
    xen_block_buffers_put(&b, buf[2]);
    xen_block_buffers_cleanup(&a);
    xen_block_buffers_cleanup(&b);
    g_assert_cmpint(disk.used[XEN_BLOCK_BUFFER_PAGES], ==, 0);
    g_assert_cmpint(disk.used[XEN_BLOCK_AREAS], ==, 0);
    xen_block_domain_put(one);
}

/* A buffer that was free from one tick to the next is freed. */
static void test_buffers_shrink(void)
{
    XenBlockDomain *one = xen_block_domain_get(1);
    XenBlockBudget disk = disk_budget(one, 0);
    XenBlockBuffers b;
    void *buf[8];

    xen_block_buffers_init(&b, &disk, 8, 1);
    for (int i = 0; i < 8; i++) {
        buf[i] = xen_block_buffers_get(&b);
    }
    for (int i = 0; i < 8; i++) {
        xen_block_buffers_put(&b, buf[i]);
    }
    xen_block_buffers_tick(&b);
    g_assert_cmpint(b.nr_made, ==, 8);
    for (int i = 0; i < 3; i++) {
        buf[i] = xen_block_buffers_get(&b);
    }
    for (int i = 0; i < 3; i++) {
        xen_block_buffers_put(&b, buf[i]);
    }
    xen_block_buffers_tick(&b);
    g_assert_cmpint(b.nr_made, ==, 3);
    g_assert_cmpint(disk.used[XEN_BLOCK_AREAS], ==, 3);
    xen_block_buffers_tick(&b);
    g_assert_cmpint(b.nr_made, ==, 0);
    g_assert_cmpint(disk.used[XEN_BLOCK_BUFFER_PAGES], ==, 0);
    buf[0] = xen_block_buffers_get(&b);
    xen_block_buffers_tick(&b);
    g_assert_cmpint(b.nr_made, ==, 1);
    xen_block_buffers_put(&b, buf[0]);
    xen_block_buffers_cleanup(&b);
    xen_block_domain_put(one);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-block-budget/domain", test_domain);
    g_test_add_func("/xen-block-budget/levels", test_levels);
    g_test_add_func("/xen-block-budget/refused", test_refused);
    g_test_add_func("/xen-block-budget/force", test_force);
    g_test_add_func("/xen-block-budget/threads", test_threads);
    g_test_add_func("/xen-block-budget/buffers", test_buffers);
    g_test_add_func("/xen-block-budget/buffers-shrink", test_buffers_shrink);
    return g_test_run();
}
