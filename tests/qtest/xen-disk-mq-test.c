/*
 * Xen PV disk: several rings
 *
 * blkif.h describes them in "Multiple hardware queues/rings".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "xen-disk-util.h"

#define VBLK_RINGS "multi-queue-num-queues"

/* A case has the name of what it negotiates: rings, page order, protocol. */
typedef struct RingsCase {
    const char *name;
    BlkOptions options;
} RingsCase;

static const RingsCase rings_cases[] = {
    { "1-named",       { BLK_X86_64, 0, 1, .write_num_queues = true } },
    { "1-named/pages", { BLK_X86_64, 2, 1, .write_num_queues = true } },
    { "1-old",         { BLK_X86_64, 0, 1 } },
    { "2",             { BLK_X86_64, 0, 2 } },
    { "2/order-0",     { BLK_X86_64, 0, 2, .write_order = true } },
    { "2/order-1",     { BLK_X86_64, 1, 2 } },
    { "2/x86_32",      { BLK_X86_32, 0, 2 } },
    { "4",             { BLK_X86_64, 0, 4 } },
    { "4/order-4",     { BLK_X86_64, 4, 4 } },
    { "4/x86_32",      { BLK_X86_32, 3, 4 } },
    { "16",            { BLK_X86_64, 0, 16 } },
    { "16/order-2",    { BLK_X86_64, 2, 16 } },
    { "16/persistent", { BLK_X86_64, 0, 16, .persistent = true } },
};

static const BlkOptions two_rings = { .protocol = BLK_X86_64, .rings = 2 };
static const BlkOptions four_rings = { .protocol = BLK_X86_64, .rings = 4 };

#define FOUR_THREADS \
    " -object iothread,id=io0 -object iothread,id=io1" \
    " -object iothread,id=io2 -object iothread,id=io3"

static void test_rings(const void *opaque)
{
    const BlkOptions *options = opaque;
    unsigned int i, round;
    XenDisk d;

    xen_disk_open(&d, ",num-queues=16", options);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "multi-queue-max-queues", 0),
                    ==, 16);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < d.f->nr_rings; i++) {
            blk_ring_check(&d.f->ring[i], 8 * i);
        }
    }
    xen_disk_close(&d);
}

/* A ring's responses come with an event on its own channel, and no other. */
static void test_own_event_channel(void)
{
    uint8_t buf[BLK_SECTOR];
    unsigned int i, j;
    XenDisk d;

    xen_disk_open(&d, ",num-queues=4", &four_rings);
    for (i = 0; i < 4; i++) {
        for (j = 0; j < 4; j++) {
            xen_port_take(&d.f->ring[j].port);
        }
        g_assert_cmpint(blk_ring_read(&d.f->ring[i], 0, buf, sizeof(buf)), ==,
                        BLK_OKAY);
        for (j = 0; j < 4; j++) {
            if (j != i) {
                g_assert_true(blk_ring_quiet(&d.f->ring[j]));
                g_assert_cmpint(xen_port_take(&d.f->ring[j].port), ==, 0);
            }
        }
    }
    xen_disk_close(&d);
}

/* All rings full at once; each request answered once, on its own ring. */
static void run_all_full(XenDisk *d)
{
    BlkBuffer *b = blk_buffer_new(d->g, 1, false);
    BlkRequest req;
    BlkResponse rsp;
    unsigned int i, n;

    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    for (i = 0; i < d->f->nr_rings; i++) {
        BlkRing *r = &d->f->ring[i];

        for (n = 0; n < r->nr_entries; n++) {
            req.id = ((uint64_t)i << 32) | n;
            blk_ring_put(r, &req);
        }
        blk_ring_push(r);
    }
    for (i = 0; i < d->f->nr_rings; i++) {
        BlkRing *r = &d->f->ring[i];
        g_autofree bool *seen = g_new0(bool, r->nr_entries);

        for (n = 0; n < r->nr_entries; n++) {
            blk_ring_wait(r, &rsp);
            g_assert_cmpint(rsp.status, ==, BLK_OKAY);
            g_assert_cmpint(rsp.id >> 32, ==, i);
            g_assert_false(seen[(uint32_t)rsp.id]);
            seen[(uint32_t)rsp.id] = true;
        }
    }
    blk_buffer_free(d->g, b);
}

static void test_all_full(const void *where)
{
    g_autofree char *more = g_strdup_printf(",num-queues=4%s%s",
                                            (const char *)where, FOUR_THREADS);
    int i;
    XenDisk d;

    xen_disk_open(&d, more, &four_rings);
    for (i = 0; i < 10; i++) {
        run_all_full(&d);
    }
    xen_disk_close(&d);
}

/* The same ring number may be used by fewer or more rings after a reset. */
static void test_other_number(void)
{
    static const unsigned int numbers[] = { 4, 1, 2, 16, 1, 3 };
    BlkOptions options = { .protocol = BLK_X86_64 };
    unsigned int i, n;
    XenDisk d;

    xen_disk_open(&d, ",num-queues=16", &two_rings);
    for (i = 0; i < ARRAY_SIZE(numbers); i++) {
        blkfront_disconnect(d.f);
        blkfront_reset(d.f);
        options.rings = numbers[i];
        blkfront_connect(d.f, &options);
        for (n = 0; n < d.f->nr_rings; n++) {
            blk_ring_check(&d.f->ring[n], 8 * n);
        }
    }
    xen_disk_close(&d);
}

/*
 * Refused negotiations
 */

static const XenBadKey bad_keys[] = {
    { "number/more-than-offered", VBLK_RINGS, "5" },
    { "number/far-more",          VBLK_RINGS, "4294967295" },
    { "number/zero",              VBLK_RINGS, "0" },
    { "number/negative",          VBLK_RINGS, "-1" },
    { "number/garbled",           VBLK_RINGS, "two" },
    { "number/half-garbled",      VBLK_RINGS, "2x" },
    { "number/empty",             VBLK_RINGS, "" },
    { "number/wraps",             VBLK_RINGS, "4294967297" },
    { "ring-ref/none",            "queue-1/ring-ref", NULL },
    { "ring-ref/garbled",         "queue-0/ring-ref", "seven" },
    { "ring-ref/unused",          "queue-1/ring-ref", "1000" },
    { "event-channel/none",       "queue-0/event-channel", NULL },
    { "event-channel/garbled",    "queue-1/event-channel", "1.5" },
    { "event-channel/unused",     "queue-1/event-channel", "4000" },
    { "queue/none",               "queue-1", NULL },
    { "order/too-large",          "ring-page-order", "5" },
    { "order/refs-missing",       "ring-page-order", "1" },
};

/*
 * With state Closing and nothing left in use, not even of the rings that were
 * good; and once put right, it connects.
 */
static void test_refused(const void *opaque)
{
    const XenBadKey *bad = opaque;
    XenGuest *g = xen_disk_start(",num-queues=4");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, &two_rings);
    blkfront_publish(f, &two_rings);
    /* A backend that takes the number for 1 finds this ring.  It must not. */
    xs_put(g, f->fe, "ring-ref", "%u", f->ring[0].refs[0]);
    xs_put(g, f->fe, "event-channel", "%u", f->ring[0].port.number);
    xen_disk_spoil(f, bad);
    blkfront_refused(f);
    blkfront_expect(f, XB_CLOSING);
    blkfront_teardown(f);

    xen_disk_put_right(f, &two_rings);
    blk_ring_check(&f->ring[1], 0);
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* Two rings cannot share a channel. */
static void test_shared_channel(void)
{
    XenGuest *g = xen_disk_start(",num-queues=2");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, &two_rings);
    blkfront_publish(f, &two_rings);
    xs_put(g, f->fe, "queue-1/event-channel", "%u", f->ring[0].port.number);
    blkfront_refused(f);
    blkfront_expect(f, XB_CLOSING);
    blkfront_teardown(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* A frontend that wants one ring needs no new key, whatever is offered. */
static void test_old_frontend(void)
{
    BlkOptions options = { .protocol = BLK_X86_32 };
    XenDisk d;

    xen_disk_open(&d, ",num-queues=16", &options);
    blk_ring_check(d.r, 0);
    /* Keys of a ring that is not asked for are ignored. */
    xs_put(d.g, d.f->fe, "queue-0/ring-ref", "1000");
    xen_disk_close(&d);
}

/*
 * The keys that the backend writes
 */

/* A disk with one ring has no key for several rings. */
static void test_offer_one(void)
{
    XenDisk d;

    xen_disk_open(&d, ",num-queues=1", &xen_disk_plain);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "multi-queue-max-queues", 1),
                    ==, 1);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* By default as many as the host has CPUs, at most 16. */
static void test_offer_default(void)
{
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_expect(f, XB_INIT_WAIT);
    g_assert_cmpint(xs_get_number(g, f->be, "multi-queue-max-queues", 1), ==,
                    MIN(g_get_num_processors(), 16));
    blkfront_free(f);
    xen_guest_quit(g);
}

/*
 * Life with several rings
 */

/* A drain stops every ring, and none loses a request by it. */
static void test_drain_under_load(void)
{
    XenDisk d;
    int i;

    xen_disk_open(&d, ",num-queues=4,iothread=io0" FOUR_THREADS, &four_rings);
    for (i = 0; i < 20; i++) {
        int64_t size = (2 + i % 2) * (int64_t)XEN_DISK_SIZE;
        BlkBuffer *b = blk_buffer_new(d.g, 1, false);
        BlkRequest req;
        unsigned int n, ring;

        blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
        for (ring = 0; ring < 4; ring++) {
            for (n = 0; n < d.f->ring[ring].nr_entries; n++) {
                blk_ring_put(&d.f->ring[ring], &req);
            }
            blk_ring_push(&d.f->ring[ring]);
        }
        qtest_qmp_assert_success(d.g->qts,
            "{ 'execute': 'block_resize', 'arguments':"
            "  { 'node-name': 'disk0', 'size': %" PRId64 "}}", size);
        for (ring = 0; ring < 4; ring++) {
            blk_ring_wait_all(&d.f->ring[ring], d.f->ring[ring].nr_entries,
                              BLK_OKAY);
        }
        blk_buffer_free(d.g, b);
    }
    xen_disk_close(&d);
}

/* One bad ring ends the connection.  Other rings still get their answers. */
static void test_one_bad_ring(void)
{
    BlkBuffer *b;
    BlkRequest req;
    unsigned int i, n;
    XenDisk d;

    xen_disk_open(&d, ",num-queues=4,iothread=io0" FOUR_THREADS, &four_rings);
    b = blk_buffer_new(d.g, 1, false);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    for (i = 0; i < 4; i++) {
        if (i == 1) {
            blk_ring_set_producer(&d.f->ring[i], 0x40000000);
            continue;
        }
        for (n = 0; n < d.f->ring[i].nr_entries; n++) {
            blk_ring_put(&d.f->ring[i], &req);
        }
        blk_ring_push(&d.f->ring[i]);
    }
    for (i = 0; i < 4; i++) {
        if (i != 1) {
            blk_ring_wait_all(&d.f->ring[i], d.f->ring[i].nr_entries,
                              BLK_OKAY);
        }
    }
    blk_buffer_free(d.g, b);
    xen_disk_given_up(d.f);
    blkfront_reset(d.f);
    blkfront_connect(d.f, &four_rings);
    run_all_full(&d);
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < ARRAY_SIZE(rings_cases); i++) {
        g_autofree char *path = g_strconcat("/xen-disk/mq/rings/",
                                            rings_cases[i].name, NULL);

        qtest_add_data_func(path, &rings_cases[i].options, test_rings);
    }
    qtest_add_func("/xen-disk/mq/own-event-channel", test_own_event_channel);
    qtest_add_data_func("/xen-disk/mq/all-full/main-loop", "", test_all_full);
    qtest_add_data_func("/xen-disk/mq/all-full/one-iothread", ",iothread=io0",
                        test_all_full);
    qtest_add_data_func("/xen-disk/mq/all-full/automatic", ",iothreads=2",
                        test_all_full);
    qtest_add_func("/xen-disk/mq/other-number", test_other_number);
    for (i = 0; i < ARRAY_SIZE(bad_keys); i++) {
        g_autofree char *path = g_strconcat("/xen-disk/mq/refused/",
                                            bad_keys[i].name, NULL);

        qtest_add_data_func(path, &bad_keys[i], test_refused);
    }
    qtest_add_func("/xen-disk/mq/refused/shared-channel", test_shared_channel);
    qtest_add_func("/xen-disk/mq/old-frontend", test_old_frontend);
    qtest_add_func("/xen-disk/mq/offer/one", test_offer_one);
    qtest_add_func("/xen-disk/mq/offer/default", test_offer_default);
    qtest_add_func("/xen-disk/mq/drain-under-load", test_drain_under_load);
    qtest_add_func("/xen-disk/mq/one-bad-ring", test_one_bad_ring);
    return g_test_run();
}
