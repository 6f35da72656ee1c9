/*
 * Xen PV disk: the life of a connection
 *
 * Frontends connect, close, connect again and vanish, in different orders.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qobject/qdict.h"
#include "xen-disk-util.h"

static const BlkOptions two_rings = {
    .protocol = BLK_X86_64, .rings = 2,
};
static const BlkOptions other_ring = { .protocol = BLK_X86_32, .order = 2 };

static void test_offers(void)
{
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    g_autofree char *mode = NULL, *fe = NULL, *be = NULL, *type = NULL;

    blkfront_expect(f, XB_INIT_WAIT);
    mode = xs_get(g, f->be, "mode");
    fe = xs_get(g, f->be, "frontend");
    be = xs_get(g, f->fe, "backend");
    type = xs_get(g, f->fe, "device-type");
    g_assert_cmpstr(mode, ==, "w");
    g_assert_cmpstr(fe, ==, f->fe);
    g_assert_cmpstr(be, ==, f->be);
    g_assert_cmpstr(type, ==, "disk");
    g_assert_cmpint(xs_get_number(g, f->be, "online", 0), ==, 1);
    g_assert_cmpint(xs_get_number(g, f->be, "info", -1), ==, 0);
    g_assert_cmpint(xs_get_number(g, f->be, "frontend-id", 0), ==,
                    XEN_GUEST_DOMID);
    g_assert_cmpint(xs_get_number(g, f->be, "sector-size", 0), ==, BLK_SECTOR);
    g_assert_cmpint(xs_get_number(g, f->be, "sectors", 0), ==,
                    XEN_DISK_SECTORS);
    g_assert_cmpint(xs_get_number(g, f->be, "max-ring-page-order", 0), ==,
                    XEN_DISK_MAX_ORDER);
    g_assert_cmpint(xs_get_number(g, f->fe, "backend-id", -1), ==, 0);
    g_assert_cmpint(xs_get_number(g, f->fe, "virtual-device", 0), ==,
                    BLK_VDEV_XVDA);
    g_assert_cmpint(xs_get_number(g, f->fe, "state", 0), ==, XB_INITIALISING);
    blkfront_free(f);
    xen_guest_quit(g);
}

static void test_reconnect(void)
{
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    for (i = 0; i < 5; i++) {
        blk_ring_check(d.r, 8 * i);
        blkfront_disconnect(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, i & 1 ? &xen_disk_plain : &other_ring);
    }
    blk_ring_check(d.r, 8 * i);
    xen_disk_close(&d);
}

/* A disk that lets one request a second through */
typedef struct SlowDisk {
    const char *name;
    const char *options;
    BlkOptions frontend;
} SlowDisk;

static const SlowDisk slow_disks[] = {
    {
        .name = "one-ring",
        .options = "-object iothread,id=io0 -device xen-disk,id=xvda,"
                   "vdev=xvda,drive=disk0,iothread=io0",
        .frontend = { .protocol = BLK_X86_64, .rings = 1 },
    }, {
        .name = "four-rings",
        .options = "-object iothread,id=io0 -object iothread,id=io1 "
                   "-object iothread,id=io2 -device '{"
                   " \"driver\": \"xen-disk\","
                   " \"id\": \"xvda\", \"vdev\": \"xvda\","
                   " \"drive\": \"disk0\", \"num-queues\": 4,"
                   " \"iothread-vq-mapping\": [ { \"iothread\": \"io0\" },"
                   " { \"iothread\": \"io1\" }, { \"iothread\": \"io2\" } ] }'",
        .frontend = { .protocol = BLK_X86_64, .rings = 4 },
    },
};

/* One request of the first ring is done, and eight of each ring are not. */
static void open_slow_disk(XenDisk *d, const SlowDisk *slow)
{
    BlkBuffer *b;
    BlkRequest req;
    BlkResponse rsp;

    xen_disk_connect(d, xen_guest_start(
        "-object throttle-group,id=slow,x-iops-total=1 "
        "-blockdev null-co,node-name=null0,size=1048576,read-zeroes=on "
        "-blockdev throttle,node-name=disk0,file=null0,throttle-group=slow "
        "%s", slow->options), &slow->frontend);

    b = blk_buffer_new(d->g, 1, false);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    blk_ring_put(d->r, &req);
    blk_ring_push(d->r);
    blk_ring_wait(d->r, &rsp);
    g_assert_cmpint(rsp.status, ==, BLK_OKAY);

    for (unsigned i = 0; i < slow->frontend.rings; i++) {
        for (req.id = 0; req.id < 8; req.id++) {
            blk_ring_put(&d->f->ring[i], &req);
        }
        blk_ring_push(&d->f->ring[i]);
    }
}

/* When the backend writes Closed, it must not use the rings any more. */
static void close_slow_disk(XenDisk *d)
{
    blkfront_expect(d->f, XB_CLOSED);
    blkfront_teardown(d->f);
    blkfront_reset(d->f);
    blkfront_connect(d->f, &xen_disk_plain);
    xen_disk_close(d);
}

static void test_closed_in_flight(const void *slow)
{
    XenDisk d;

    open_slow_disk(&d, slow);
    blkfront_state(d.f, XB_CLOSED);
    close_slow_disk(&d);
}

static void test_closing_in_flight(const void *slow)
{
    XenDisk d;

    open_slow_disk(&d, slow);
    blkfront_state(d.f, XB_CLOSING);
    blkfront_expect(d.f, XB_CLOSING);
    blkfront_state(d.f, XB_CLOSED);
    close_slow_disk(&d);
}

/* Each time the second Closed comes in another poll of the first one's. */
static void test_closed_twice(void)
{
    for (int poll = 1; poll <= 24; poll++) {
        g_autofree char *more = g_strdup_printf(
            ",num-queues=2,iothreads=2 -global xen-standin.nested-watches=%d",
            poll);
        XenDisk d;

        xen_disk_open(&d, more, &two_rings);
        xen_guest_burst(d.g, "xs_write %s/state %d\nxs_write %s/state %d\n",
                        d.f->fe, XB_CLOSED, d.f->fe, XB_CLOSED);
        blkfront_expect(d.f, XB_CLOSED);
        xen_guest_sync(d.g);
        blkfront_teardown(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &two_rings);
        blk_ring_check(&d.f->ring[1], 0);
        xen_disk_close(&d);
    }
}

/* A guest that dies takes its nodes with it. */
static void test_vanish_in_flight(const void *slow)
{
    XenDisk d;

    open_slow_disk(&d, slow);
    xs_remove(d.g, d.f->fe, "state");
    close_slow_disk(&d);
}

static void test_quit_in_flight(const void *slow)
{
    XenDisk d;

    open_slow_disk(&d, slow);
    xen_guest_quit(d.g);
    d.f->nr_rings = 0;
    blkfront_free(d.f);
}

static void test_resize(void)
{
    g_autofree char *sectors = g_strdup_printf("%u", (unsigned int)
                                               (2 * XEN_DISK_SECTORS));
    uint8_t buf[BLK_SECTOR] = {};
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    g_assert_cmpint(blk_ring_read(d.r, XEN_DISK_SECTORS, buf, sizeof(buf)),
                    ==, BLK_ERROR);
    qtest_qmp_assert_success(d.g->qts,
                             "{ 'execute': 'block_resize', 'arguments':"
                             "  { 'node-name': 'disk0', 'size': %" PRId64 "}}",
                             (int64_t)(2 * XEN_DISK_SIZE));
    xs_wait_value(d.g, d.f->be, "sectors", sectors);
    g_assert_cmpint(blkfront_backend_state(d.f), ==, XB_CONNECTED);
    blk_ring_check(d.r, 2 * XEN_DISK_SECTORS - 8);
    xen_disk_close(&d);
}

static void unplug_begin(XenGuest *g)
{
    qtest_qmp_device_del_send(g->qts, "xvda");
}

static void unplug_end(XenGuest *g)
{
    qtest_qmp_eventwait(g->qts, "DEVICE_DELETED");
}

static void test_unplug(void)
{
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    blk_ring_check(d.r, 0);
    unplug_begin(d.g);
    blkfront_expect(d.f, XB_CLOSING);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "online", 1), ==, 0);
    blk_ring_check(d.r, 0);
    blkfront_state(d.f, XB_CLOSING);
    blkfront_state(d.f, XB_CLOSED);
    unplug_end(d.g);
    blkfront_teardown(d.f);
    xs_wait_gone(d.g, d.f->be, "state");
    xs_wait_gone(d.g, d.f->fe, "state");
    xen_disk_end(&d);
}

static void test_unplug_in_flight(const void *slow)
{
    XenDisk d;

    open_slow_disk(&d, slow);
    unplug_begin(d.g);
    blkfront_expect(d.f, XB_CLOSING);
    blkfront_state(d.f, XB_CLOSED);
    unplug_end(d.g);
    blkfront_teardown(d.f);
    xen_disk_end(&d);
}

/* Without a frontend the disk is unplugged at once. */
static void test_unplug_unused(void)
{
    XenGuest *g = xen_disk_start("");

    unplug_begin(g);
    unplug_end(g);
    xen_guest_quit(g);
}

/* The toolstack's part of it is a transaction, which may have to be redone. */
static void test_unplug_conflict(void)
{
    XenGuest *g = xen_disk_start("");

    xen_guest_say(g, "xs_conflict 3");
    unplug_begin(g);
    unplug_end(g);
    xen_guest_quit(g);
}

static void test_plug(void)
{
    XenGuest *g = xen_guest_start(
        "-blockdev null-co,node-name=disk1,size=1048576,read-zeroes=on");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    uint8_t buf[BLK_SECTOR];
    int i;

    for (i = 0; i < 3; i++) {
        qtest_qmp_device_add(g->qts, "xen-disk", "xvda",
                             "{ 'vdev': 'xvdb', 'drive': 'disk1' }");
        blkfront_connect(f, &xen_disk_plain);
        g_assert_cmpint(blk_ring_read(&f->ring[0], 0, buf, sizeof(buf)), ==,
                        BLK_OKAY);
        unplug_begin(g);
        blkfront_expect(f, XB_CLOSING);
        blkfront_state(f, XB_CLOSED);
        unplug_end(g);
        blkfront_teardown(f);
    }
    blkfront_free(f);
    xen_guest_quit(g);
}

/*
 * Other disks
 */

static void test_read_only(void)
{
    BlkRequest flush = { .op = BLK_FLUSH };
    uint8_t buf[BLK_SECTOR] = {};
    g_autofree char *mode = NULL;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(
        "-blockdev null-co,node-name=disk0,size=1048576,read-zeroes=on,"
        "read-only=on -device xen-disk,vdev=xvda,drive=disk0"),
        &xen_disk_plain);
    mode = xs_get(d.g, d.f->be, "mode");
    g_assert_cmpstr(mode, ==, "r");
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "info", 0), ==, 4);
    g_assert_cmpint(blk_ring_read(d.r, 0, buf, sizeof(buf)), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_write(d.r, 0, buf, sizeof(buf)), ==, BLK_ERROR);
    g_assert_cmpint(blk_ring_run(d.r, &flush), ==, BLK_OKAY);
    xen_disk_close(&d);
}

/* Two disks have nothing in common but the guest. */
static void test_two_disks(void)
{
    XenGuest *g = xen_disk_start(
        " -blockdev null-co,node-name=disk1,size=1048576,read-zeroes=on"
        " -device xen-disk,vdev=xvdb,drive=disk1");
    Blkfront *a = blkfront_new(g, BLK_VDEV_XVDA);
    Blkfront *b = blkfront_new(g, BLK_VDEV_XVDB);
    uint8_t buf[BLK_SECTOR];

    blkfront_connect(a, &xen_disk_plain);
    blkfront_connect(b, &other_ring);
    blk_ring_check(&a->ring[0], 0);
    g_assert_cmpint(blk_ring_read(&b->ring[0], 0, buf, sizeof(buf)), ==,
                    BLK_OKAY);
    blkfront_disconnect(a);
    g_assert_cmpint(blk_ring_read(&b->ring[0], 0, buf, sizeof(buf)), ==,
                    BLK_OKAY);
    blkfront_disconnect(b);
    blkfront_free(a);
    blkfront_free(b);
    xen_guest_quit(g);
}

/* A job that moves the disk while it is in use drains it again and again. */
static void test_mirror(void)
{
    XenDisk d;
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];
    QDict *rsp;
    int i;

    xen_disk_open(&d, ",iothread=io0 -object iothread,id=io0 "
                  "-blockdev null-co,node-name=null0,size=16777216 "
                  "-blockdev raw,node-name=copy0,file=null0", &xen_disk_plain);
    blk_pattern(out, sizeof(out), 4);
    qtest_qmp_assert_success(d.g->qts,
        "{ 'execute': 'blockdev-mirror', 'arguments': {"
        "  'job-id': 'job0', 'device': 'disk0', 'target': 'copy0',"
        "  'sync': 'full' }}");
    for (i = 0; i < 64; i++) {
        g_assert_cmpint(blk_ring_write(d.r, 8 * i, out, sizeof(out)), ==,
                        BLK_OKAY);
        rsp = qtest_qmp(d.g->qts, "{ 'execute': 'query-block-jobs' }");
        qobject_unref(rsp);
    }
    qtest_qmp_eventwait(d.g->qts, "BLOCK_JOB_READY");
    qtest_qmp_assert_success(d.g->qts,
        "{ 'execute': 'block-job-cancel', 'arguments': {"
        "  'device': 'job0' }}");
    for (i = 0; i < 64; i++) {
        g_assert_cmpint(blk_ring_read(d.r, 8 * i, in, sizeof(in)), ==,
                        BLK_OKAY);
        g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    }
    qtest_qmp_eventwait(d.g->qts, "BLOCK_JOB_COMPLETED");
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* The stand-in and the disk run on real machines as well. */
static void test_machine(const void *machine)
{
    g_autofree char *more = g_strdup_printf(" -machine %s",
                                            (const char *)machine);
    XenDisk d;

    xen_disk_open(&d, more, &xen_disk_plain);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* An x86 guest that names no protocol speaks that of 32 bits. */
static void test_default_protocol(void)
{
    BlkOptions options = { .protocol = BLK_X86_32, .no_protocol = true };
    XenDisk d;

    xen_disk_open(&d, " -machine pc", &options);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* Without a valid key the protocol is that of the host. */
static void test_native_protocol(void)
{
    BlkOptions options = { .protocol = BLK_X86_64, .no_protocol = true };
    XenDisk d;

    xen_disk_open(&d, "", &options);
    blk_ring_check(d.r, 0);
    blkfront_disconnect(d.f);
    blkfront_reset(d.f);
    xs_put(d.g, d.f->fe, "protocol", "sparc-abi");
    blkfront_connect(d.f, &options);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* The short way to a disk, with all defaults. */
static void test_drive_if_xen(void)
{
    char *image = xen_disk_image(XEN_DISK_SIZE);
    XenGuest *g = xen_guest_start("-machine pc -drive if=xen,format=raw,"
                                  "file=%s", image);
    XenDisk d;

    xen_disk_image_drop(image);
    xen_disk_connect(&d, g, &xen_disk_plain);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

static void add_in_flight(const char *name, void (*test)(const void *slow))
{
    for (unsigned i = 0; i < ARRAY_SIZE(slow_disks); i++) {
        g_autofree char *path = g_strdup_printf(
            "/xen-disk/state/%s-in-flight/%s", name, slow_disks[i].name);

        qtest_add_data_func(path, &slow_disks[i], test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_in_flight("closed", test_closed_in_flight);
    add_in_flight("closing", test_closing_in_flight);
    add_in_flight("vanish", test_vanish_in_flight);
    add_in_flight("quit", test_quit_in_flight);
    add_in_flight("unplug", test_unplug_in_flight);
    qtest_add_func("/xen-disk/state/offers", test_offers);
    qtest_add_func("/xen-disk/state/reconnect", test_reconnect);
    qtest_add_func("/xen-disk/state/closed-twice", test_closed_twice);
    qtest_add_func("/xen-disk/state/resize", test_resize);
    qtest_add_func("/xen-disk/state/unplug", test_unplug);
    qtest_add_func("/xen-disk/state/unplug-unused", test_unplug_unused);
    qtest_add_func("/xen-disk/state/unplug-conflict", test_unplug_conflict);
    qtest_add_func("/xen-disk/state/plug", test_plug);
    qtest_add_func("/xen-disk/state/read-only", test_read_only);
    qtest_add_func("/xen-disk/state/two-disks", test_two_disks);
    qtest_add_func("/xen-disk/state/mirror", test_mirror);
    qtest_add_data_func("/xen-disk/state/machine/pc", "pc", test_machine);
    qtest_add_data_func("/xen-disk/state/machine/q35", "q35", test_machine);
    qtest_add_func("/xen-disk/state/default-protocol", test_default_protocol);
    qtest_add_func("/xen-disk/state/native-protocol", test_native_protocol);
    qtest_add_func("/xen-disk/state/drive-if-xen", test_drive_if_xen);
    return g_test_run();
}
