/*
 * Xen PV disk: the VM is stopped and goes on
 *
 * While the VM is stopped, no request is served, even if the frontend sends
 * events or the disk is drained.  When the VM goes on, all requests are served
 * without another event.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"

static const BlkOptions two_rings = { .rings = 2 };

static void stop(XenDisk *d)
{
    qtest_qmp_assert_success(d->g->qts, "{'execute': 'stop'}");
}

static void cont(XenDisk *d)
{
    qtest_qmp_assert_success(d->g->qts, "{'execute': 'cont'}");
}

/* Drain the disk: a ring that is not stopped looks at its requests then. */
static void drain(XenDisk *d)
{
    qtest_qmp_assert_success(d->g->qts, "{'execute': 'block_resize',"
                             " 'arguments': {'node-name': 'disk0',"
                             " 'size': %" PRIu64 "}}", XEN_DISK_SIZE);
}

static void check_served_later(XenDisk *d)
{
    BlkBuffer *b = blk_buffer_new(d->g, 1, false);
    uint8_t data[BLK_SECTOR], old[BLK_SECTOR] = { 0 };
    BlkRequest req;

    blk_pattern(data, sizeof(data), 7);
    blk_buffer_fill(d->g, b, data, sizeof(data));
    for (unsigned i = 0; i < d->f->nr_rings; i++) {
        blk_buffer_request(b, &req, BLK_WRITE, 100 + i, BLK_SECTOR);
        blk_ring_put(&d->f->ring[i], &req);
        blk_ring_push(&d->f->ring[i]);
    }
    for (unsigned n = 0; n < 3; n++) {
        drain(d);
        for (unsigned i = 0; i < d->f->nr_rings; i++) {
            g_assert_true(blk_ring_quiet(&d->f->ring[i]));
        }
    }
    cont(d);
    for (unsigned i = 0; i < d->f->nr_rings; i++) {
        blk_ring_wait_all(&d->f->ring[i], 1, BLK_OKAY);
        g_assert_cmpint(blk_ring_read(&d->f->ring[i], 100 + i, old,
                                      sizeof(old)), ==, BLK_OKAY);
        g_assert_cmpmem(old, sizeof(old), data, sizeof(data));
    }
    blk_buffer_free(d->g, b);
}

static void test_stop(const void *opaque)
{
    XenDisk d;

    xen_disk_open(&d, opaque, &two_rings);
    for (unsigned round = 0; round < 3; round++) {
        blk_ring_check(&d.f->ring[round & 1], 8);
        stop(&d);
        stop(&d);
        check_served_later(&d);
    }
    xen_disk_close(&d);
}

/* A frontend that comes to a stopped VM is served when that goes on. */
static void test_connect(const void *opaque)
{
    XenDisk d;

    xen_disk_open(&d, opaque, &two_rings);
    for (unsigned round = 0; round < 3; round++) {
        stop(&d);
        blkfront_disconnect(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &two_rings);
        check_served_later(&d);
    }
    xen_disk_close(&d);
}

/* A ring that has broken stays so. */
static void test_broken(const void *opaque)
{
    XenDisk d;

    xen_disk_open(&d, opaque, &two_rings);
    blk_ring_set_producer(d.r, d.r->nr_entries + 1);
    blkfront_expect(d.f, XB_CLOSING);
    stop(&d);
    cont(&d);
    g_assert_true(blk_ring_quiet(d.r));
    blkfront_state(d.f, XB_CLOSED);
    blkfront_expect(d.f, XB_CLOSED);
    blkfront_teardown(d.f);
    blkfront_reset(d.f);
    blkfront_connect(d.f, &two_rings);
    blk_ring_check(d.r, 8);
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    static const char *const threads[] = {
        "", ",iothread=io0 -object iothread,id=io0", ",iothreads=auto",
    };
    static const char *const names[] = { "main", "iothread", "own" };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        g_autofree char *stopped = g_strdup_printf("/xen-disk/stop/%s",
                                                   names[i]);
        g_autofree char *connect = g_strdup_printf("/xen-disk/connect/%s",
                                                   names[i]);
        g_autofree char *broken = g_strdup_printf("/xen-disk/broken/%s",
                                                  names[i]);

        g_test_add_data_func(stopped, threads[i], test_stop);
        g_test_add_data_func(connect, threads[i], test_connect);
        g_test_add_data_func(broken, threads[i], test_broken);
    }
    return g_test_run();
}
