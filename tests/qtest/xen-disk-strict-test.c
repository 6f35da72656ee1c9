/*
 * Xen PV disk: faults of a frontend that end the connection
 *
 * An error on the ring is not enough for these faults.  Either the backend ends
 * the connection with state Closing, or the fault must not harm QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "xen-disk-util.h"

/*
 * There are more requests than slots, or fewer than before.  So the contents of
 * the ring are unknown.  The backend closes the disk, which can connect again.
 */
static void test_producer(const void *opaque)
{
    uint32_t ahead = GPOINTER_TO_UINT(opaque);
    XenDisk d;

    xen_disk_open(&d, ",iothread=io0 -object iothread,id=io0",
                  &xen_disk_plain);
    blk_ring_check(d.r, 0);
    blk_ring_set_producer(d.r, d.r->req_prod + ahead);
    xen_disk_given_up(d.f);
    blkfront_reset(d.f);
    blkfront_connect(d.f, &xen_disk_plain);
    blk_ring_check(&d.f->ring[0], 0);
    xen_disk_close(&d);
}

/* Another disk does not notice. */
static void test_producer_other_disk(void)
{
    XenGuest *g = xen_disk_start(
        ",iothread=io0 -object iothread,id=io0"
        " -blockdev null-co,node-name=disk1,size=1048576,read-zeroes=on"
        " -device xen-disk,vdev=xvdb,drive=disk1,iothread=io0");
    Blkfront *a = blkfront_new(g, BLK_VDEV_XVDA);
    Blkfront *b = blkfront_new(g, BLK_VDEV_XVDB);
    int i;

    blkfront_connect(a, &xen_disk_plain);
    blkfront_connect(b, &xen_disk_plain);
    blk_ring_set_producer(&b->ring[0], 1000);
    for (i = 0; i < 20; i++) {
        blk_ring_check(&a->ring[0], 8 * i);
    }
    xen_disk_given_up(b);
    blkfront_disconnect(a);
    blkfront_free(a);
    blkfront_free(b);
    xen_guest_quit(g);
}

/* A sector whose place in bytes does not fit 64 bits is not sector 0. */
static void test_sector_wraps(void)
{
    uint8_t buf[XEN_GUEST_PAGE_SIZE] = {};
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    g_assert_cmpint(blk_ring_read(d.r, 1ULL << 55, buf, sizeof(buf)), ==,
                    BLK_ERROR);
    g_assert_cmpint(blk_ring_write(d.r, 1ULL << 55, buf, sizeof(buf)), ==,
                    BLK_ERROR);
    g_assert_cmpint(blk_ring_write(d.r, (1ULL << 63) + 8, buf, sizeof(buf)),
                    ==, BLK_ERROR);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* A drive that could be written, behind a device that must not. */
static void test_discard_on_cdrom(void)
{
    BlkRequest req = { .op = BLK_DISCARD, .nr_sectors = 8 };
    uint8_t buf[BLK_SECTOR] = {};
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(
        "-blockdev null-co,node-name=disk0,size=1048576,read-zeroes=on "
        "-device xen-cdrom,vdev=xvda,drive=disk0"), &xen_disk_plain);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-discard", 0), ==, 0);
    g_assert_cmpint(blk_ring_run(d.r, &req), <, BLK_OKAY);
    g_assert_cmpint(blk_ring_read(d.r, 0, buf, sizeof(buf)), ==, BLK_OKAY);
    xen_disk_close(&d);
}

/* A discard past the end of the disk fails, even if the drive would do it. */
static void test_discard_beyond_end(void)
{
    static const uint64_t starts[] = {
        XEN_DISK_SECTORS, XEN_DISK_SECTORS - 7, 1ULL << 54, 1ULL << 55,
        UINT64_MAX - 7, UINT64_MAX,
    };
    BlkRequest req = { .op = BLK_DISCARD, .nr_sectors = 8 };
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    blk_ring_check(d.r, 0);
    for (i = 0; i < ARRAY_SIZE(starts); i++) {
        req.sector = starts[i];
        g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    }
    req.sector = 0;
    req.nr_sectors = 0;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    req.nr_sectors = XEN_DISK_SECTORS;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* Three disks without names find three names, as they would on a real Xen. */
static void test_automatic_vdev(void)
{
    XenGuest *g = xen_guest_start(
        "-blockdev null-co,node-name=disk0,size=1048576 "
        "-blockdev null-co,node-name=disk1,size=1048576 "
        "-blockdev null-co,node-name=disk2,size=1048576 "
        "-device xen-disk,drive=disk0 -device xen-disk,drive=disk1 "
        "-device xen-disk,drive=disk2");
    g_autofree char *names = xen_guest_ask(g, "xs_ls /local/domain/%d/device/"
                                           "vbd", XEN_GUEST_DOMID);

    g_assert_cmpstr(names, ==, "51712 51728 51744");
    xen_guest_quit(g);
}

/* A barrier is a write between two flushes; the drive has a cache. */
static void test_barrier(void)
{
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-barrier", 0), ==, 1);
    blk_pattern(out, sizeof(out), 5);
    b = blk_buffer_new(d.g, 1, true);
    blk_buffer_fill(d.g, b, out, sizeof(out));
    blk_buffer_request(b, &req, BLK_BARRIER, 64, sizeof(out));
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_read(d.r, 64, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    /* Without data it orders all the same. */
    req.nr_segments = 0;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/*
 * Requests that halt on their way to the disk, and go on by a command
 */

static void open_halting_disk(XenDisk *d, const char *more)
{
    xen_disk_connect(d, xen_guest_start(
        "-blockdev null-co,node-name=null0,size=1048576,read-zeroes=on "
        "-blockdev blkdebug,node-name=debug0,image=null0 "
        "-blockdev raw,node-name=disk0,file=debug0 "
        "-device xen-disk,id=xvda,vdev=xvda,drive=disk0%s", more),
        &xen_disk_plain);
}

/* Run "break EVENT TAG", which halts the next request, or "resume TAG". */
static void halt(XenDisk *d, const char *command)
{
    g_autofree char *said = qtest_hmp(d->g->qts, "qemu-io -d xvda \"%s\"",
                                      command);

    g_assert_cmpstr(said, ==, "");
}

/* The next response is that of request @id. */
static void expect_response(BlkRing *r, uint64_t id)
{
    BlkResponse rsp;

    blk_ring_wait(r, &rsp);
    g_assert_cmpint(rsp.id, ==, id);
    g_assert_cmpint(rsp.status, ==, BLK_OKAY);
}

/* Requests before a barrier end before it, and later requests wait. */
static void test_barrier_orders(void)
{
    static const int ops[] = {
        BLK_WRITE, BLK_WRITE, BLK_BARRIER, BLK_WRITE, BLK_WRITE
    };
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;
    int i;

    open_halting_disk(&d, "");
    b = blk_buffer_new(d.g, 1, true);
    halt(&d, "break write_aio A");
    for (i = 0; i < ARRAY_SIZE(ops); i++) {
        blk_buffer_request(b, &req, ops[i], 8 * i, XEN_GUEST_PAGE_SIZE);
        req.id = i;
        blk_ring_put(d.r, &req);
    }
    blk_ring_push(d.r);
    expect_response(d.r, 1);
    g_assert_true(blk_ring_quiet(d.r));

    /* The one that held it goes on; now the barrier itself stops. */
    halt(&d, "break write_aio B");
    halt(&d, "resume A");
    expect_response(d.r, 0);
    g_assert_true(blk_ring_quiet(d.r));
    halt(&d, "resume B");
    expect_response(d.r, 2);
    expect_response(d.r, 3);
    expect_response(d.r, 4);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* Of several in a row each waits for the one before. */
static void test_barriers_in_a_row(void)
{
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;
    int i, round;

    xen_disk_open(&d, ",iothread=io0 -object iothread,id=io0",
                  &xen_disk_plain);
    b = blk_buffer_new(d.g, 1, true);
    for (round = 0; round < 5; round++) {
        for (i = 0; i < d.r->nr_entries; i++) {
            blk_buffer_request(b, &req, BLK_BARRIER, 8 * i,
                               i & 1 ? 0 : XEN_GUEST_PAGE_SIZE);
            req.id = i;
            blk_ring_put(d.r, &req);
        }
        blk_ring_push(d.r);
        for (i = 0; i < d.r->nr_entries; i++) {
            expect_response(d.r, i);
        }
    }
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* A barrier that is not offered fails, and writes no data. */
static void test_barrier_off(void)
{
    uint8_t in[XEN_GUEST_PAGE_SIZE];
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;

    xen_disk_open(&d, ",write-barriers=off", &xen_disk_plain);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-barrier", 0), ==, 0);
    b = blk_buffer_new(d.g, 1, true);
    memset(xen_guest_frame(d.g, b->frame[0]), 0xaa, XEN_GUEST_PAGE_SIZE);
    blk_buffer_request(b, &req, BLK_BARRIER, 64, XEN_GUEST_PAGE_SIZE);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_EOPNOTSUPP);
    g_assert_cmpint(blk_ring_read(d.r, 64, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_true(buffer_is_zero(in, sizeof(in)));
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* The guest takes a grant back while the disk reads data for it. */
static void test_revoked_in_flight(void)
{
    BlkRequest req;
    BlkResponse rsp;
    BlkBuffer *b;
    XenDisk d;

    open_halting_disk(&d, "");
    b = blk_buffer_new(d.g, 2, false);
    memset(xen_guest_frame(d.g, b->frame[1]), 0xaa, XEN_GUEST_PAGE_SIZE);
    blk_buffer_request(b, &req, BLK_READ, 0, 2 * XEN_GUEST_PAGE_SIZE);
    halt(&d, "break read_aio A");
    blk_ring_put(d.r, &req);
    blk_ring_push(d.r);
    g_assert_true(blk_ring_quiet(d.r));
    xen_guest_forget(d.g, b->ref[1]);
    halt(&d, "resume A");
    blk_ring_wait(d.r, &rsp);
    g_assert_cmpint(rsp.status, ==, BLK_ERROR);
    g_assert_cmphex(*(uint8_t *)xen_guest_frame(d.g, b->frame[1]), ==, 0xaa);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/*
 * Another backend has served the ring before, as after a migration.  The ring
 * goes on at its position, and unanswered requests are done again.
 */
static void test_resume(void)
{
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    b = blk_buffer_new(d.g, 1, false);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    for (i = 0; i < 50; i++) {
        blk_ring_check(d.r, 8 * i);
    }
    blkfront_state(d.f, XB_CLOSED);
    blkfront_expect(d.f, XB_CLOSED);
    for (i = 0; i < 5; i++) {
        blk_ring_put(d.r, &req);
    }
    blk_ring_push(d.r);
    blkfront_state(d.f, XB_INITIALISING);
    blkfront_expect(d.f, XB_INIT_WAIT);
    blkfront_state(d.f, XB_INITIALISED);
    blkfront_expect(d.f, XB_CONNECTED);
    blk_ring_wait_all(d.r, 5, BLK_OKAY);
    blk_ring_check(d.r, 0);
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_data_func("/xen-disk/strict/producer/one-more",
                        GUINT_TO_POINTER(33), test_producer);
    qtest_add_data_func("/xen-disk/strict/producer/twice",
                        GUINT_TO_POINTER(64), test_producer);
    qtest_add_data_func("/xen-disk/strict/producer/far",
                        GUINT_TO_POINTER(0x80000000), test_producer);
    qtest_add_data_func("/xen-disk/strict/producer/back",
                        GUINT_TO_POINTER(UINT32_MAX), test_producer);
    qtest_add_func("/xen-disk/strict/producer/other-disk",
                   test_producer_other_disk);
    qtest_add_func("/xen-disk/strict/sector-wraps", test_sector_wraps);
    qtest_add_func("/xen-disk/strict/discard/cdrom", test_discard_on_cdrom);
    qtest_add_func("/xen-disk/strict/discard/beyond-end",
                   test_discard_beyond_end);
    qtest_add_func("/xen-disk/strict/automatic-vdev", test_automatic_vdev);
    qtest_add_func("/xen-disk/strict/barrier/data", test_barrier);
    qtest_add_func("/xen-disk/strict/barrier/orders", test_barrier_orders);
    qtest_add_func("/xen-disk/strict/barrier/in-a-row",
                   test_barriers_in_a_row);
    qtest_add_func("/xen-disk/strict/barrier/off", test_barrier_off);
    qtest_add_func("/xen-disk/strict/revoked-in-flight",
                   test_revoked_in_flight);
    qtest_add_func("/xen-disk/strict/resume", test_resume);
    return g_test_run();
}
