/*
 * Xen PV disk: the behaviour of frontends other than Linux
 *
 * Each test writes to xenstore what a driver writes, in the same order.  It
 * waits for what the driver waits for, and fails where the driver fails.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"

static const BlkOptions two_rings = { .protocol = BLK_X86_64, .rings = 2 };

/* Wait for @state, and fail if @fatal comes first. */
static void wait_for(Blkfront *f, int state, int fatal)
{
    g_assert_cmpint(xs_wait_state(f->g, f->be, state, fatal), ==, state);
}

/* Start the system that a boot loader has loaded.  It finds state InitWait. */
static void then_linux(Blkfront *f)
{
    blkfront_connect(f, &two_rings);
    for (unsigned i = 0; i < f->nr_rings; i++) {
        blk_ring_check(&f->ring[i], 8 * i);
    }
    blkfront_disconnect(f);
}

static int run_empty(BlkRing *r, int op, uint64_t id)
{
    BlkRequest req = { .op = op, .id = id };

    return blk_ring_run(r, &req);
}

/* Most tests have xvda with two rings, and a driver for it. */
static Blkfront *start(void)
{
    return blkfront_new(xen_disk_start(",num-queues=2,iothreads=2"),
                        BLK_VDEV_XVDA);
}

static void quit(Blkfront *f)
{
    XenGuest *g = f->g;

    blkfront_free(f);
    xen_guest_quit(g);
}

/*
 * Windows: xenvbd
 */

/* The driver first closes a connection that may exist. */
static void windows_close_first(Blkfront *f)
{
    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_state(f, XB_CLOSING);
    wait_for(f, XB_CLOSING, XB_CLOSED);
    blkfront_state(f, XB_CLOSED);
    wait_for(f, XB_CLOSED, XB_INIT_WAIT);
    blkfront_state(f, XB_INITIALISING);
    /* "Closed" and "Initialising" are waited through, all else is an error. */
    wait_for(f, XB_INIT_WAIT, XB_CONNECTED);
}

static void windows_use(BlkRing *r)
{
    BlkBuffer *b = blk_buffer_new(r->g, BLK_MAX_SEGMENTS, false);
    BlkRequest req;
    BlkResponse rsp;
    uint64_t ids = 0;

    /* The driver uses addresses of its structures as request numbers. */
    for (unsigned i = 0; i < r->nr_entries; i++) {
        blk_buffer_request(b, &req, BLK_READ, 8 * i, XEN_GUEST_PAGE_SIZE);
        req.id = 0xffffe000deadb000ull + 64 * i;
        ids += req.id;
        blk_ring_put(r, &req);
    }
    blk_ring_push(r);
    for (unsigned i = 0; i < r->nr_entries; i++) {
        blk_ring_wait(r, &rsp);
        g_assert_cmpint(rsp.status, ==, BLK_OKAY);
        ids -= rsp.id;
    }
    g_assert_cmpint(ids, ==, 0);
    g_assert_cmpint(run_empty(r, BLK_FLUSH, 0xffffe000deadb000ull), ==,
                    BLK_OKAY);
    g_assert_cmpint(run_empty(r, BLK_BARRIER, 0xffffe000deadb040ull), ==,
                    BLK_OKAY);
    blk_buffer_free(r->g, b);
    blk_ring_check(r, 64);
}

static void test_windows(const void *opaque)
{
    unsigned queues = GPOINTER_TO_UINT(opaque);
    BlkOptions options = {
        .protocol = BLK_X86_64, .order = 4, .rings = queues,
        .write_num_queues = true, .large_sectors = true,
    };
    Blkfront *f = start();

    for (int i = 0; i < 2; i++) {
        windows_close_first(f);
        g_assert_cmpint(xs_get_number(f->g, f->be, "max-ring-page-order", 0),
                        >=, options.order);
        blkfront_setup(f, &options);
        xs_put(f->g, f->fe, "target-id", "0");
        xs_put(f->g, f->fe, "feature-surprise-remove", "1");
        xs_put(f->g, f->fe, "feature-online-resize", "1");
        blkfront_publish(f, &options);
        blkfront_state(f, XB_INITIALISED);
        wait_for(f, XB_CONNECTED, XB_CLOSING);
        blkfront_state(f, XB_CONNECTED);
        g_assert_cmpint(xs_get_number(f->g, f->be, "sectors", 0), ==,
                        XEN_DISK_SECTORS);
        for (unsigned n = 0; n < f->nr_rings; n++) {
            windows_use(&f->ring[n]);
        }
        blkfront_disconnect(f);
        blkfront_reset(f);
    }
    quit(f);
}

/*
 * FreeBSD
 */

static void test_freebsd(void)
{
    /* The driver takes as many pages as it is offered, up to 32. */
    BlkOptions options = { .protocol = BLK_X86_64, .order = 4 };
    Blkfront *f = start();
    BlkBuffer *b;
    BlkRequest req;

    blkfront_expect(f, XB_INIT_WAIT);
    g_assert_cmpint(xs_get_number(f->g, f->be, "max-ring-page-order", 0), ==,
                    options.order);
    blkfront_setup(f, &options);
    /* Both schemes of naming the size of a ring, and three keys of its own. */
    xs_put(f->g, f->fe, "num-ring-pages", "%u", 1 << options.order);
    xs_put(f->g, f->fe, "max-requests", "%u", f->ring[0].nr_entries);
    xs_put(f->g, f->fe, "max-request-segments", "%u", BLK_MAX_SEGMENTS);
    xs_put(f->g, f->fe, "max-request-size", "40960");
    blkfront_publish(f, &options);
    blkfront_state(f, XB_INITIALISED);
    wait_for(f, XB_CONNECTED, XB_CLOSING);
    blkfront_state(f, XB_CONNECTED);

    blk_ring_check(&f->ring[0], 8);
    /* BIO_ORDERED is a barrier with data; the handle is part of a pointer. */
    b = blk_buffer_new(f->g, 1, false);
    blk_buffer_request(b, &req, BLK_BARRIER, 16, XEN_GUEST_PAGE_SIZE);
    req.handle = 0xbeef;
    g_assert_cmpint(blk_ring_run(&f->ring[0], &req), ==, BLK_OKAY);
    blk_buffer_free(f->g, b);
    g_assert_cmpint(run_empty(&f->ring[0], BLK_FLUSH, 7), ==, BLK_OKAY);
    blkfront_disconnect(f);
    quit(f);
}

/*
 * NetBSD
 */

/* The driver stops if the grants are not free when a request ends. */
static void netbsd_take(BlkRing *r, BlkBuffer **buffers)
{
    BlkResponse rsp;

    blk_ring_wait(r, &rsp);
    for (unsigned i = 0; i < buffers[rsp.id]->nr_pages; i++) {
        g_assert_false(xen_guest_grant_is_used(r->g,
                                               buffers[rsp.id]->ref[i]));
    }
}

static void netbsd_use(BlkRing *r)
{
    BlkBuffer *buffers[32];
    BlkRequest req;

    for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++) {
        buffers[i] = blk_buffer_new(r->g, 1 + i % BLK_MAX_SEGMENTS, false);
    }
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++) {
            uint64_t sector = i == round ? XEN_DISK_SECTORS : 128 * i;

            /* One request of each round fails; its grants are free, too. */
            blk_buffer_request(buffers[i], &req, (round + i) & 1, sector,
                               buffers[i]->nr_pages * XEN_GUEST_PAGE_SIZE);
            req.id = i;
            blk_ring_put(r, &req);
        }
        blk_ring_push(r);
        for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++) {
            netbsd_take(r, buffers);
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++) {
        blk_buffer_free(r->g, buffers[i]);
    }
}

static void test_netbsd(void)
{
    Blkfront *f = start();

    /* The driver writes its keys in any state of the backend. */
    blkfront_setup(f, &xen_disk_plain);
    blkfront_publish(f, &xen_disk_plain);
    blkfront_state(f, XB_INITIALISED);
    wait_for(f, XB_CONNECTED, XB_CLOSING);
    blkfront_state(f, XB_CONNECTED);
    netbsd_use(&f->ring[0]);
    g_assert_cmpint(run_empty(&f->ring[0], BLK_FLUSH, 1), ==, BLK_OKAY);

    /* A state that it does not know would be a panic, also on a resize. */
    qtest_qmp_assert_success(f->g->qts,
                             "{ 'execute': 'block_resize', 'arguments':"
                             "  { 'node-name': 'disk0', 'size': %" PRId64 "}}",
                             (int64_t)(2 * XEN_DISK_SIZE));
    xs_wait_value(f->g, f->be, "sectors", "65536");
    g_assert_cmpint(blkfront_backend_state(f), ==, XB_CONNECTED);

    /* The driver writes state Closed twice. */
    blkfront_disconnect(f);
    blkfront_state(f, XB_CLOSED);
    g_assert_cmpint(blkfront_backend_state(f), ==, XB_CLOSED);
    quit(f);
}

/*
 * GRUB
 */

static void grub_connect(Blkfront *f)
{
    int state;

    g_assert_cmpint(blkfront_backend_state(f), ==, XB_INIT_WAIT);
    blkfront_setup(f, &xen_disk_plain);
    blkfront_publish(f, &xen_disk_plain);
    blkfront_state(f, XB_INITIALISED);
    /* The driver polls, and takes each state but 2 for Connected. */
    do {
        state = xs_get_number(f->g, f->be, "state", -1);
    } while (state == XB_INIT_WAIT);
    g_assert_cmpint(state, ==, XB_CONNECTED);
}

/* GRUB uses one page and one grant, always sends an event, and polls. */
static void grub_use(BlkRing *r)
{
    BlkBuffer *b = blk_buffer_new(r->g, 1, false);
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];

    for (unsigned i = 0; i < 100; i++) {
        BlkRequest req;
        BlkResponse rsp;
        bool answered;

        blk_pattern(out, sizeof(out), i & ~1);
        blk_buffer_request(b, &req, i & 1 ? BLK_READ : BLK_WRITE, 8 * (i / 2),
                           sizeof(out));
        blk_buffer_fill(r->g, b, out, sizeof(out));
        if (i & 1) {
            memset(xen_guest_frame(r->g, b->frame[0]), 0, sizeof(out));
        }
        req.id = 0;
        blk_ring_put(r, &req);
        blk_ring_push(r);
        xen_port_send(&r->port);
        do {
            answered = blk_ring_take(r, &rsp);
        } while (!answered);
        g_assert_cmpint(rsp.id, ==, 0);
        g_assert_cmpint(rsp.status, ==, BLK_OKAY);
        blk_buffer_get(r->g, b, in, sizeof(in));
        g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    }
    blk_buffer_free(r->g, b);
}

static void grub_leave(Blkfront *f)
{
    blkfront_state(f, XB_CLOSED);
    blkfront_expect(f, XB_CLOSED);
    xs_put(f->g, f->fe, "ring-ref", "%s", "");
    xs_put(f->g, f->fe, "event-channel", "%s", "");
    blkfront_teardown(f);
    blkfront_state(f, XB_INITIALISING);
}

static void test_grub(void)
{
    Blkfront *f = start();

    for (int i = 0; i < 2; i++) {
        grub_connect(f);
        grub_use(&f->ring[0]);
        grub_leave(f);
        blkfront_expect(f, XB_INIT_WAIT);
    }
    then_linux(f);
    quit(f);
}

/* The backend is not there yet: GRUB takes that for Connected as well. */
static void test_grub_early(void)
{
    XenGuest *g = xen_guest_start(
        "-blockdev null-co,node-name=disk0,size=1048576,read-zeroes=on");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    BlkBuffer *b = blk_buffer_new(g, 1, false);
    BlkRequest req;

    blkfront_setup(f, &xen_disk_plain);
    blkfront_publish(f, &xen_disk_plain);
    blkfront_state(f, XB_INITIALISED);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    blk_ring_put(&f->ring[0], &req);
    blk_ring_push(&f->ring[0]);
    qtest_qmp_device_add(g->qts, "xen-disk", "xvda",
                         "{ 'vdev': 'xvda', 'drive': 'disk0' }");
    blk_ring_wait_all(&f->ring[0], 1, BLK_OKAY);
    blk_buffer_free(g, b);
    grub_leave(f);
    quit(f);
}

/*
 * OVMF, U-Boot and mini-os
 */

/* Straight to Connected; a backend beyond that has failed. */
static void straight_connect(Blkfront *f, const BlkOptions *options)
{
    blkfront_setup(f, options);
    blkfront_publish(f, options);
    blkfront_state(f, XB_CONNECTED);
    wait_for(f, XB_CONNECTED, XB_CLOSING);
}

static void straight_leave(Blkfront *f)
{
    blkfront_state(f, XB_CLOSING);
    wait_for(f, XB_CLOSING, XB_CLOSED);
    blkfront_state(f, XB_CLOSED);
    wait_for(f, XB_CLOSED, XB_INIT_WAIT);
    blkfront_state(f, XB_INITIALISING);
    wait_for(f, XB_INIT_WAIT, XB_CONNECTED);
    xs_remove(f->g, f->fe, "ring-ref");
    xs_remove(f->g, f->fe, "event-channel");
    xs_remove(f->g, f->fe, "protocol");
    blkfront_teardown(f);
}

/* A barrier and a flush at once, without data, and both with number 0. */
static void ovmf_sync(BlkRing *r)
{
    BlkRequest req = { .op = BLK_BARRIER };

    blk_ring_put(r, &req);
    req.op = BLK_FLUSH;
    blk_ring_put(r, &req);
    blk_ring_push(r);
    blk_ring_wait_all(r, 2, BLK_OKAY);
}

static void test_ovmf(void)
{
    Blkfront *f = start();
    uint8_t out[3 * BLK_SECTOR], in[3 * BLK_SECTOR];

    blk_pattern(out, sizeof(out), 1);
    for (int i = 0; i < 3; i++) {
        BlkRing *r = &f->ring[0];

        straight_connect(f, &xen_disk_plain);
        g_assert_cmpint(blk_ring_write(r, 5, out, sizeof(out)), ==, BLK_OKAY);
        ovmf_sync(r);
        g_assert_cmpint(blk_ring_read(r, 5, in, sizeof(in)), ==, BLK_OKAY);
        g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
        ovmf_sync(r);
        straight_leave(f);
    }
    then_linux(f);
    quit(f);
}

static char *attach_cdrom(Blkfront *f, const char *image)
{
    XenGuest *g = f->g;

    xs_put(g, f->fe, "backend", "%s", f->be);
    xs_put(g, f->fe, "backend-id", "0");
    xs_put(g, f->fe, "device-type", "cdrom");
    xs_put(g, f->fe, "state", "%d", XB_INITIALISING);
    xs_put(g, f->be, "frontend", "%s", f->fe);
    xs_put(g, f->be, "params", "aio:%s", image);
    xs_put(g, f->be, "dev", "xvda");
    xs_put(g, f->be, "device-type", "cdrom");
    xs_put(g, f->be, "mode", "r");
    xs_put(g, f->be, "state", "%d", XB_INITIALISING);
    xs_put(g, f->be, "online", "1");
    xen_guest_sync(g);
    return xs_get(g, f->be, "params");
}

/* OVMF recognises an empty drive by its key "params", which must stay. */
static void test_ovmf_cdrom(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    char *image = xen_disk_image(XEN_DISK_SIZE);
    g_autofree char *params = attach_cdrom(f, image);
    uint8_t buf[BLK_SECTOR];

    g_assert_true(g_str_has_suffix(params, image));
    straight_connect(f, &xen_disk_plain);
    /* VDISK_READONLY: the driver does not sync then. */
    g_assert_cmpint(xs_get_number(g, f->be, "info", 0) & 4, ==, 4);
    g_assert_cmpint(blk_ring_read(&f->ring[0], 0, buf, sizeof(buf)), ==,
                    BLK_OKAY);
    straight_leave(f);
    quit(f);
    xen_disk_image_drop(image);
}

static void test_ovmf_empty_cdrom(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    g_autofree char *params = attach_cdrom(f, "");

    g_assert_cmpstr(params, ==, "aio:");
    quit(f);
}

/* A request of all segments, numbered by an address. */
static void mini_os_use(BlkRing *r, BlkBuffer *b)
{
    size_t size = BLK_MAX_SEGMENTS * XEN_GUEST_PAGE_SIZE;
    g_autofree uint8_t *out = g_malloc(size);
    g_autofree uint8_t *in = g_malloc(size);
    BlkRequest req;

    blk_pattern(out, size, 2);
    blk_buffer_fill(r->g, b, out, size);
    blk_buffer_request(b, &req, BLK_WRITE, 40, size);
    req.id = 0x7fff00001000ull;
    g_assert_cmpint(blk_ring_run(r, &req), ==, BLK_OKAY);
    blk_buffer_fill(r->g, b, in, size);
    req.op = BLK_READ;
    g_assert_cmpint(blk_ring_run(r, &req), ==, BLK_OKAY);
    blk_buffer_get(r->g, b, in, size);
    g_assert_cmpmem(in, size, out, size);
    g_assert_cmpint(run_empty(r, BLK_BARRIER, 0), ==, BLK_OKAY);
    g_assert_cmpint(run_empty(r, BLK_FLUSH, 0), ==, BLK_OKAY);
}

static void test_mini_os(const void *opaque)
{
    BlkOptions options = {
        .protocol = BLK_X86_64, .persistent = GPOINTER_TO_INT(opaque),
    };
    Blkfront *f = start();

    for (int i = 0; i < 3; i++) {
        g_autofree char *mode = xs_get(f->g, f->be, "mode");
        BlkBuffer *b = blk_buffer_new(f->g, BLK_MAX_SEGMENTS, false);

        g_assert_cmpstr(mode, ==, "w");
        straight_connect(f, &options);
        if (options.persistent) {
            /* Without it the driver built for that gives the disk up. */
            g_assert_cmpint(xs_get_number(f->g, f->be, "feature-persistent",
                                          0), ==, 1);
        }
        mini_os_use(&f->ring[0], b);
        straight_leave(f);
        blk_buffer_free(f->g, b);
    }
    xs_remove(f->g, f->fe, "state");
    blkfront_expect(f, XB_CLOSED);
    quit(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_data_func("/xen-disk/frontends/windows", GUINT_TO_POINTER(1),
                        test_windows);
    qtest_add_data_func("/xen-disk/frontends/windows-queues",
                        GUINT_TO_POINTER(2), test_windows);
    qtest_add_func("/xen-disk/frontends/freebsd", test_freebsd);
    qtest_add_func("/xen-disk/frontends/netbsd", test_netbsd);
    qtest_add_func("/xen-disk/frontends/grub", test_grub);
    qtest_add_func("/xen-disk/frontends/grub-early", test_grub_early);
    qtest_add_func("/xen-disk/frontends/ovmf", test_ovmf);
    qtest_add_func("/xen-disk/frontends/ovmf-cdrom", test_ovmf_cdrom);
    qtest_add_func("/xen-disk/frontends/ovmf-empty-cdrom",
                   test_ovmf_empty_cdrom);
    qtest_add_data_func("/xen-disk/frontends/mini-os", GINT_TO_POINTER(0),
                        test_mini_os);
    qtest_add_data_func("/xen-disk/frontends/mini-os-persistent",
                        GINT_TO_POINTER(1), test_mini_os);
    /* U-Boot has the driver of mini-os. */
    qtest_add_data_func("/xen-disk/frontends/u-boot", GINT_TO_POINTER(0),
                        test_mini_os);
    return g_test_run();
}
