/*
 * Xen PV disk: faults of a frontend
 *
 * An invalid request is answered with an error.  An invalid negotiation does
 * not end in a connection.  After either, the disk still works: every test ends
 * with a ring that works.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"
#include "xen-scribbler.h"

/*
 * Requests
 */

/* Change a good request of two pages at sector 8 into a bad one. */
typedef void BadRequest(BlkRequest *req);

static void bad_first_after_last(BlkRequest *req)
{
    req->seg[1].first = 5;
    req->seg[1].last = 4;
}

static void bad_last_beyond_page(BlkRequest *req)
{
    req->seg[1].last = 8;
}

static void bad_last_far_beyond_page(BlkRequest *req)
{
    req->seg[0].last = 255;
}

static void bad_first_beyond_page(BlkRequest *req)
{
    req->seg[0].first = 9;
    req->seg[0].last = 9;
}

static void bad_too_many_segments(BlkRequest *req)
{
    req->nr_segments = BLK_MAX_SEGMENTS + 1;
}

static void bad_most_segments(BlkRequest *req)
{
    req->nr_segments = 255;
}

static void bad_sector_after_end(BlkRequest *req)
{
    req->sector = XEN_DISK_SECTORS;
}

static void bad_sector_across_end(BlkRequest *req)
{
    req->sector = XEN_DISK_SECTORS - 15;
}

static void bad_sector_negative_bytes(BlkRequest *req)
{
    req->sector = 1ULL << 54;
}

static void bad_sector_largest(BlkRequest *req)
{
    req->sector = UINT64_MAX;
}

static void bad_grant_unused(BlkRequest *req)
{
    req->seg[1].ref = 1000;
}

static void bad_grant_zero(BlkRequest *req)
{
    req->seg[0].ref = 0;
}

static void bad_grant_beyond_table(BlkRequest *req)
{
    req->seg[1].ref = 1 << 20;
}

static void bad_grant_largest(BlkRequest *req)
{
    req->seg[0].ref = UINT32_MAX;
}

static void bad_operation_reserved(BlkRequest *req)
{
    req->op = BLK_RESERVED;
}

static void bad_operation_unknown(BlkRequest *req)
{
    req->op = 7;
}

static void bad_operation_largest(BlkRequest *req)
{
    req->op = 255;
}

static void bad_discard_across_end(BlkRequest *req)
{
    req->op = BLK_DISCARD;
    req->sector = XEN_DISK_SECTORS - 8;
    req->nr_sectors = 16;
}

static void bad_discard_wrap(BlkRequest *req)
{
    req->op = BLK_DISCARD;
    req->nr_sectors = UINT64_MAX;
}

static void bad_discard_bytes_wrap(BlkRequest *req)
{
    req->op = BLK_DISCARD;
    req->nr_sectors = 1ULL << 55;
}

static void run_bad_request(XenDisk *d, BlkBuffer *b, BadRequest *bad, int op)
{
    BlkRequest req;

    blk_buffer_request(b, &req, op, 8, 2 * XEN_GUEST_PAGE_SIZE);
    req.id = 77;
    bad(&req);
    g_assert_cmpint(blk_ring_run(d->r, &req), ==, BLK_ERROR);
}

/*
 * On each layout, and with grants that stay mapped, where no hypervisor looks
 * at the offsets a second time.
 */
static void test_bad_request(const void *opaque)
{
    static const BlkOptions options[] = {
        { .protocol = BLK_X86_32 },
        { .protocol = BLK_X86_64, .persistent = true },
        { .protocol = BLK_X86_64 },
    };
    BadRequest *bad = opaque;
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    for (i = 0; i < ARRAY_SIZE(options); i++) {
        BlkBuffer *b = blk_buffer_new(d.g, 2, false);

        run_bad_request(&d, b, bad, BLK_READ);
        blk_ring_check(d.r, 8);
        run_bad_request(&d, b, bad, BLK_WRITE);
        run_bad_request(&d, b, bad, BLK_WRITE);
        blk_ring_check(d.r, 8);
        blkfront_disconnect(d.f);
        blk_buffer_free(d.g, b);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &options[i]);
    }
    xen_disk_close(&d);
}

/*
 * Grants
 */

/* The guest takes a grant back before it makes the request. */
static void test_grant_revoked(void)
{
    BlkBuffer *b;
    BlkRequest req;
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    b = blk_buffer_new(d.g, 2, false);
    blk_buffer_request(b, &req, BLK_READ, 0, 2 * XEN_GUEST_PAGE_SIZE);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    xen_guest_forget(d.g, b->ref[1]);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    g_assert_false(xen_guest_grant_is_used(d.g, b->ref[0]));
    req.op = BLK_WRITE;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    blk_ring_check(d.r, 0);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* A read stores into the guest's page, which must allow that. */
static void test_grant_readonly(void)
{
    BlkBuffer *b;
    BlkRequest req;
    uint8_t *page;
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    b = blk_buffer_new(d.g, 1, true);
    page = xen_guest_frame(d.g, b->frame[0]);
    memset(page, 0xaa, XEN_GUEST_PAGE_SIZE);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    g_assert_cmphex(page[0], ==, 0xaa);
    req.op = BLK_WRITE;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    blk_buffer_free(d.g, b);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* A frame that the guest does not have. */
static void test_grant_no_frame(void)
{
    uint32_t ref;
    BlkRequest req = { .op = BLK_READ, .nr_segments = 1 };
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    ref = xen_guest_grant(d.g, d.g->nr_frames, false);
    req.seg[0].ref = ref;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    xen_guest_revoke(d.g, ref);
    ref = xen_guest_grant(d.g, UINT32_MAX, false);
    req.seg[0].ref = ref;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    xen_guest_revoke(d.g, ref);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/*
 * Rings
 */

#define SLOT 112
#define SLOTS 32

/* The identifiers of requests */
static bool is_id(size_t offset)
{
    return offset % SLOT >= 8 && offset % SLOT < 16;
}

/*
 * The other end writes to a request all the time.  Any answer will do, if
 * only there is one for each request, and nothing breaks.
 */
static void test_ring_rewritten(void)
{
    XenScribbler s;
    BlkBuffer *b;
    BlkRequest req;
    BlkResponse rsp;
    unsigned int round, i;
    XenDisk d;

    xen_disk_open(&d, ",iothread=io0 -object iothread,id=io0",
                  &xen_disk_plain);
    b = blk_buffer_new(d.g, BLK_MAX_SEGMENTS, false);
    blk_buffer_request(b, &req, BLK_READ, 0,
                       BLK_MAX_SEGMENTS * XEN_GUEST_PAGE_SIZE);
    /* Write to the requests only, not to the indices before them. */
    xen_scribbler_start(&s, (uint8_t *)xen_guest_frame(d.g, d.r->frames[0]) +
                        64, SLOTS * SLOT, is_id);
    for (round = 0; round < 20; round++) {
        for (i = 0; i < d.r->nr_entries; i++) {
            blk_ring_put(d.r, &req);
        }
        blk_ring_push(d.r);
        for (i = 0; i < d.r->nr_entries; i++) {
            blk_ring_wait(d.r, &rsp);
        }
    }
    xen_scribbler_stop(&s);
    g_assert_true(blk_ring_quiet(d.r));
    blk_ring_check(d.r, 0);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* An event without a request has no effect. */
static void test_idle_events(void)
{
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    for (i = 0; i < 100; i++) {
        xen_port_send(&d.r->port);
    }
    g_assert_true(blk_ring_quiet(d.r));
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/*
 * Negotiation
 */

static const XenBadKey bad_keys[] = {
    { "ring-ref/none",          "ring-ref",         NULL },
    { "ring-ref/garbled",       "ring-ref",         "abc" },
    { "ring-ref/empty",         "ring-ref",         "" },
    { "ring-ref/unused",        "ring-ref",         "1000" },
    { "ring-ref/beyond",        "ring-ref",         "99999999" },
    { "event-channel/none",     "event-channel",    NULL },
    { "event-channel/garbled",  "event-channel",    "port" },
    { "event-channel/unused",   "event-channel",    "4000" },
    { "event-channel/zero",     "event-channel",    "0" },
    { "order/too-large",        "ring-page-order",  "5" },
    { "order/far-too-large",    "ring-page-order",  "64" },
    { "order/largest",          "ring-page-order",  "4294967295" },
    { "ring-ref1/none",         "ring-ref1",        NULL,   1 },
    { "ring-ref1/garbled",      "ring-ref1",        "x",    1 },
    { "ring-ref1/unused",       "ring-ref1",        "1000", 1 },
    { "ring-ref15/none",        "ring-ref15",       NULL,   4 },
};

/* Refused, with nothing left in use; and put right, it connects. */
static void test_bad_key(const void *opaque)
{
    const XenBadKey *bad = opaque;
    BlkOptions options = { .protocol = BLK_X86_64, .order = bad->order };
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, &options);
    blkfront_publish(f, &options);
    xen_disk_spoil(f, bad);
    blkfront_refused(f);
    blkfront_teardown(f);

    xen_disk_put_right(f, &options);
    blk_ring_check(&f->ring[0], 0);
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* All pages of the ring are there, but it is larger than the disk offers. */
static void test_ring_beyond_offer(void)
{
    BlkOptions large = { .protocol = BLK_X86_64, .order = 2 };
    BlkOptions largest = { .protocol = BLK_X86_64, .order = 1 };
    XenGuest *g = xen_disk_start(",max-ring-page-order=1");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, &large);
    blkfront_publish(f, &large);
    blkfront_refused(f);
    blkfront_teardown(f);

    xen_disk_put_right(f, &largest);
    blk_ring_check(&f->ring[0], 0);
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* The states that a frontend may write, in orders that no driver would. */
static void test_states_out_of_order(void)
{
    static const int before[] = {
        XB_CONNECTED, XB_CLOSING, XB_UNKNOWN, XB_INIT_WAIT, XB_CLOSED, 7, 99,
        XB_INITIALISING,
    };
    static const int during[] = {
        XB_CONNECTED, XB_INITIALISED, XB_CONNECTED, XB_INIT_WAIT, 8, 77,
    };
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    int i;

    for (i = 0; i < ARRAY_SIZE(before); i++) {
        blkfront_state(f, before[i]);
        g_assert_cmpint(blkfront_backend_state(f), !=, XB_CONNECTED);
    }
    xs_put(g, f->fe, "state", "nonsense");
    xen_guest_sync(g);
    blkfront_state(f, XB_CLOSED);
    blkfront_expect(f, XB_CLOSED);
    blkfront_reset(f);

    blkfront_connect(f, &xen_disk_plain);
    for (i = 0; i < ARRAY_SIZE(during); i++) {
        blkfront_state(f, during[i]);
        g_assert_cmpint(blkfront_backend_state(f), ==, XB_CONNECTED);
        blk_ring_check(&f->ring[0], 8 * i);
    }
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* A driver may go straight to Connected. */
static void test_straight_to_connected(void)
{
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, &xen_disk_plain);
    blkfront_publish(f, &xen_disk_plain);
    blkfront_state(f, XB_CONNECTED);
    blkfront_expect(f, XB_CONNECTED);
    blk_ring_check(&f->ring[0], 0);
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* A change of a key has no effect after the disk has connected. */
static void test_keys_change_later(void)
{
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    xs_put(d.g, d.f->fe, "ring-ref", "1000");
    xs_put(d.g, d.f->fe, "event-channel", "4000");
    xs_put(d.g, d.f->fe, "ring-page-order", "3");
    blkfront_state(d.f, XB_CONNECTED);
    g_assert_cmpint(blkfront_backend_state(d.f), ==, XB_CONNECTED);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* The guest closes its port before it says that it goes. */
static void test_port_closed_first(void)
{
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    blk_ring_check(d.r, 0);
    xen_port_close(d.g, &d.r->port);
    blkfront_state(d.f, XB_CLOSED);
    blkfront_expect(d.f, XB_CLOSED);
    xen_port_open(d.g, &d.r->port);
    blkfront_teardown(d.f);
    blkfront_reset(d.f);
    blkfront_connect(d.f, &xen_disk_plain);
    xen_disk_close(&d);
}

typedef struct BadRequestCase {
    const char *name;
    BadRequest *bad;
} BadRequestCase;

static const BadRequestCase bad_requests[] = {
    { "segment/first-after-last",   bad_first_after_last },
    { "segment/last-beyond-page",   bad_last_beyond_page },
    { "segment/last-far-beyond",    bad_last_far_beyond_page },
    { "segment/first-beyond-page",  bad_first_beyond_page },
    { "segment/too-many",           bad_too_many_segments },
    { "segment/most",               bad_most_segments },
    { "sector/after-end",           bad_sector_after_end },
    { "sector/across-end",          bad_sector_across_end },
    { "sector/negative-bytes",      bad_sector_negative_bytes },
    { "sector/largest",             bad_sector_largest },
    { "grant/unused",               bad_grant_unused },
    { "grant/zero",                 bad_grant_zero },
    { "grant/beyond-table",         bad_grant_beyond_table },
    { "grant/largest",              bad_grant_largest },
    { "operation/reserved",         bad_operation_reserved },
    { "operation/unknown",          bad_operation_unknown },
    { "operation/largest",          bad_operation_largest },
    { "discard/across-end",         bad_discard_across_end },
    { "discard/wrap",               bad_discard_wrap },
    { "discard/bytes-wrap",         bad_discard_bytes_wrap },
};

#define HOSTILE "/xen-disk/hostile/"

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < ARRAY_SIZE(bad_requests); i++) {
        g_autofree char *path = g_strconcat(HOSTILE "request/",
                                            bad_requests[i].name, NULL);

        qtest_add_data_func(path, bad_requests[i].bad, test_bad_request);
    }
    qtest_add_func(HOSTILE "grant/revoked", test_grant_revoked);
    qtest_add_func(HOSTILE "grant/readonly", test_grant_readonly);
    qtest_add_func(HOSTILE "grant/no-frame", test_grant_no_frame);
    qtest_add_func(HOSTILE "ring/rewritten", test_ring_rewritten);
    qtest_add_func(HOSTILE "ring/idle-events", test_idle_events);
    for (i = 0; i < ARRAY_SIZE(bad_keys); i++) {
        g_autofree char *path = g_strconcat(HOSTILE "key/", bad_keys[i].name,
                                            NULL);

        qtest_add_data_func(path, &bad_keys[i], test_bad_key);
    }
    qtest_add_func(HOSTILE "ring-beyond-offer", test_ring_beyond_offer);
    qtest_add_func(HOSTILE "state/out-of-order", test_states_out_of_order);
    qtest_add_func(HOSTILE "state/straight", test_straight_to_connected);
    qtest_add_func(HOSTILE "state/keys-change", test_keys_change_later);
    qtest_add_func(HOSTILE "state/port-closed", test_port_closed_first);
    return g_test_run();
}
