/*
 * Xen PV disk: grants that stay mapped, and grants that are copied
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"

static const BlkOptions persistent = {
    .protocol = BLK_X86_64, .persistent = true,
};

static XenGrantStats grant_stats(XenGuest *g)
{
    XenGrantStats stats;

    xen_guest_grant_stats(g, &stats);
    return stats;
}

/* A page that comes again is neither mapped again nor copied. */
static void test_persistent(void)
{
    XenGrantStats before, after;
    BlkBuffer *b;
    XenDisk d;
    int i, n;

    xen_disk_open(&d, "", &persistent);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-persistent", 0), ==,
                    1);
    b = blk_buffer_new(d.g, 16, false);
    for (n = 0; n < 16; n++) {
        g_assert_cmpint(blk_ring_read_page(d.r, b, n), ==, BLK_OKAY);
        g_assert_true(xen_guest_grant_is_used(d.g, b->ref[n]));
    }
    before = grant_stats(d.g);
    for (i = 0; i < 100; i++) {
        g_assert_cmpint(blk_ring_read_page(d.r, b, i % 16), ==, BLK_OKAY);
    }
    after = grant_stats(d.g);
    g_assert_cmpint(after.maps, ==, before.maps);
    g_assert_cmpint(after.mapped, ==, before.mapped);
    g_assert_cmpint(after.copies, ==, 0);

    blkfront_disconnect(d.f);
    g_assert_cmpint(grant_stats(d.g).mapped, ==, 0);
    blk_buffer_free(d.g, b);
    xen_disk_end(&d);
}

/* Data of reads and writes go through the mapped pages. */
static void test_persistent_data(void)
{
    uint8_t out[4 * XEN_GUEST_PAGE_SIZE], in[4 * XEN_GUEST_PAGE_SIZE];
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &persistent);
    b = blk_buffer_new(d.g, 4, false);
    for (i = 0; i < 10; i++) {
        blk_pattern(out, sizeof(out), i);
        blk_buffer_fill(d.g, b, out, sizeof(out));
        blk_buffer_request(b, &req, BLK_WRITE, 32 * i, sizeof(out));
        g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    }
    for (i = 0; i < 10; i++) {
        blk_pattern(out, sizeof(out), i);
        blk_buffer_request(b, &req, BLK_READ, 32 * i, sizeof(out));
        g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
        blk_buffer_get(d.g, b, in, sizeof(in));
        g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    }
    xen_disk_close_with(&d, b);
}

static void check_not_persistent(XenDisk *d)
{
    BlkBuffer *b = blk_buffer_new(d->g, 4, false);
    XenGrantStats stats;
    int n;

    for (n = 0; n < 4; n++) {
        g_assert_cmpint(blk_ring_read_page(d->r, b, n), ==, BLK_OKAY);
        g_assert_false(xen_guest_grant_is_used(d->g, b->ref[n]));
    }
    stats = grant_stats(d->g);
    g_assert_cmpint(stats.mapped, ==, 1);
    g_assert_cmpint(stats.segments, ==, 4);
    blk_buffer_free(d->g, b);
}

/* Only with a frontend that knows of it. */
static void test_not_asked_for(void)
{
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    check_not_persistent(&d);
    xen_disk_close(&d);
}

static void test_turned_off(void)
{
    XenDisk d;

    xen_disk_open(&d, ",persistent-grants=off", &persistent);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-persistent", 0), ==,
                    0);
    check_not_persistent(&d);
    xen_disk_close(&d);
}

/* The one that has not been used for longest goes first. */
static void test_least_recently_used(void)
{
    BlkBuffer *b;
    XenDisk d;
    int n;

    xen_disk_open(&d, ",max-persistent-grants=4", &persistent);
    b = blk_buffer_new(d.g, 5, false);
    for (n = 0; n < 4; n++) {
        g_assert_cmpint(blk_ring_read_page(d.r, b, n), ==, BLK_OKAY);
    }
    g_assert_cmpint(blk_ring_read_page(d.r, b, 0), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_read_page(d.r, b, 4), ==, BLK_OKAY);
    for (n = 0; n < 5; n++) {
        g_assert_cmpint(xen_guest_grant_is_used(d.g, b->ref[n]), ==, n != 1);
    }
    g_assert_cmpint(grant_stats(d.g).mapped, ==, 1 + 4);
    xen_disk_close_with(&d, b);
}

/* More pages in flight than may be mapped. */
static void test_bound(void)
{
    unsigned int nr = BLK_MAX_SEGMENTS;
    BlkBuffer *b[32];
    BlkRequest req;
    XenDisk d;
    int i, round;

    xen_disk_open(&d, ",max-persistent-grants=8", &persistent);
    for (i = 0; i < ARRAY_SIZE(b); i++) {
        b[i] = blk_buffer_new(d.g, nr, false);
    }
    for (round = 0; round < 5; round++) {
        for (i = 0; i < ARRAY_SIZE(b); i++) {
            blk_buffer_request(b[i], &req, i & 1 ? BLK_READ : BLK_WRITE,
                               i * nr * 8, nr * XEN_GUEST_PAGE_SIZE);
            blk_ring_put(d.r, &req);
        }
        blk_ring_push(d.r);
        blk_ring_wait_all(d.r, ARRAY_SIZE(b), BLK_OKAY);
        g_assert_cmpint(grant_stats(d.g).mapped, <=, 1 + 8);
    }
    blkfront_disconnect(d.f);
    for (i = 0; i < ARRAY_SIZE(b); i++) {
        blk_buffer_free(d.g, b[i]);
    }
    xen_disk_end(&d);
}

/* A write also works with read-only grants. */
static void test_readonly_grants(void)
{
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;

    xen_disk_open(&d, "", &persistent);
    b = blk_buffer_new(d.g, 1, true);
    blk_pattern(out, sizeof(out), 6);
    blk_buffer_fill(d.g, b, out, sizeof(out));
    blk_buffer_request(b, &req, BLK_WRITE, 0, sizeof(out));
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_read_page(d.r, b, 0), ==, BLK_ERROR);
    blkfront_disconnect(d.f);
    blk_buffer_free(d.g, b);
    blkfront_reset(d.f);
    blkfront_connect(d.f, &xen_disk_plain);
    g_assert_cmpint(blk_ring_read(d.r, 0, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    xen_disk_close(&d);
}

/* The hypervisor has limits, too.  Grants that cannot be mapped are copied. */
static void test_no_more_mappings(void)
{
    BlkBuffer *b;
    XenDisk d;
    int n;

    xen_disk_open(&d, "", &persistent);
    b = blk_buffer_new(d.g, 8, false);
    g_assert_cmpint(blk_ring_read_page(d.r, b, 0), ==, BLK_OKAY);
    xen_guest_say(d.g, "gnttab_limit 3");
    for (n = 0; n < 8; n++) {
        g_assert_cmpint(blk_ring_read_page(d.r, b, n), ==, BLK_OKAY);
    }
    g_assert_cmpint(grant_stats(d.g).mapped, <=, 3);
    xen_disk_close_with(&d, b);
}

/* Not even the ring can be mapped.  The disk connects when there is room. */
static void test_no_mapping_at_all(void)
{
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    BlkOptions options = { .protocol = BLK_X86_64, .order = 2 };

    xen_guest_say(g, "gnttab_limit 3");
    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, &options);
    blkfront_publish(f, &options);
    blkfront_refused(f);
    blkfront_expect(f, XB_CLOSING);
    blkfront_teardown(f);
    xen_guest_say(g, "gnttab_limit 4");
    xen_disk_put_right(f, &options);
    blk_ring_check(&f->ring[0], 0);
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/*
 * Copies
 */

#define NULL_DISK \
    "-blockdev null-co,node-name=disk0,size=16777216,read-zeroes=on " \
    "-device xen-disk,vdev=xvda,drive=disk0"

/* @name: a part of the test's path; @one_copy: a call for the whole batch */
typedef struct Batch {
    const char *name;
    int op;
    const char *props;
    bool one_copy;
} Batch;

static const Batch batches[] = {
    { "read", BLK_READ, "", true },
    { "write", BLK_WRITE, "", true },
    { "off", BLK_WRITE, ",batch-copies=off", false },
};

/*
 * All requests that a frontend tells of at once cost one call, or one each if
 * that is turned off.
 */
static void test_batch(const void *opaque)
{
    const Batch *batch = opaque;
    g_autofree char *args = g_strconcat(NULL_DISK, batch->props, NULL);
    BlkRequest req;
    BlkBuffer *b;
    int i;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start("%s", args), &xen_disk_plain);
    b = blk_buffer_new(d.g, 2, false);
    for (i = 0; i < d.r->nr_entries; i++) {
        blk_buffer_request(b, &req, batch->op, 16 * i,
                           2 * XEN_GUEST_PAGE_SIZE);
        blk_ring_put(d.r, &req);
    }
    blk_ring_push(d.r);
    blk_ring_wait_all(d.r, d.r->nr_entries, BLK_OKAY);
    g_assert_cmpint(grant_stats(d.g).segments, ==, 2 * d.r->nr_entries);
    g_assert_cmpint(grant_stats(d.g).copies, ==,
                    batch->one_copy ? 1 : d.r->nr_entries);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* A grant that is bad costs the request that it is part of, and no other. */
static void test_bad_grant_in_batch(const void *op)
{
    uint8_t in[XEN_GUEST_PAGE_SIZE];
    BlkRequest req;
    BlkResponse rsp;
    BlkBuffer *b;
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    b = blk_buffer_new(d.g, d.r->nr_entries, false);
    for (i = 0; i < d.r->nr_entries; i++) {
        memset(xen_guest_frame(d.g, b->frame[i]), i + 1, XEN_GUEST_PAGE_SIZE);
        req = (BlkRequest) {
            .op = GPOINTER_TO_INT(op), .id = i, .sector = 8 * i,
            .nr_segments = 1, .seg = { { .ref = b->ref[i], .last = 7 } },
        };
        blk_ring_put(d.r, &req);
    }
    xen_guest_forget(d.g, b->ref[7]);
    blk_ring_push(d.r);
    for (i = 0; i < d.r->nr_entries; i++) {
        blk_ring_wait(d.r, &rsp);
        g_assert_cmpint(rsp.status, ==, rsp.id == 7 ? BLK_ERROR : BLK_OKAY);
    }
    for (i = 0; GPOINTER_TO_INT(op) == BLK_WRITE && i < d.r->nr_entries; i++) {
        g_assert_cmpint(blk_ring_read(d.r, 8 * i, in, sizeof(in)), ==,
                        BLK_OKAY);
        g_assert_cmpint(in[0], ==, i == 7 ? 0 : i + 1);
    }
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    gpointer read = GINT_TO_POINTER(BLK_READ);
    gpointer write = GINT_TO_POINTER(BLK_WRITE);

    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-disk/grants/persistent", test_persistent);
    qtest_add_func("/xen-disk/grants/persistent-data", test_persistent_data);
    qtest_add_func("/xen-disk/grants/not-asked-for", test_not_asked_for);
    qtest_add_func("/xen-disk/grants/turned-off", test_turned_off);
    qtest_add_func("/xen-disk/grants/least-recently-used",
                   test_least_recently_used);
    qtest_add_func("/xen-disk/grants/bound", test_bound);
    qtest_add_func("/xen-disk/grants/readonly", test_readonly_grants);
    qtest_add_func("/xen-disk/grants/no-more-mappings", test_no_more_mappings);
    qtest_add_func("/xen-disk/grants/no-mapping-at-all",
                   test_no_mapping_at_all);
    for (int i = 0; i < ARRAY_SIZE(batches); i++) {
        g_autofree char *path = g_strconcat("/xen-disk/grants/one-copy/",
                                            batches[i].name, NULL);

        qtest_add_data_func(path, &batches[i], test_batch);
    }
    qtest_add_data_func("/xen-disk/grants/bad-in-batch/read", read,
                        test_bad_grant_in_batch);
    qtest_add_data_func("/xen-disk/grants/bad-in-batch/write", write,
                        test_bad_grant_in_batch);
    return g_test_run();
}
