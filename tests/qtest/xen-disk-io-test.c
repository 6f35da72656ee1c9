/*
 * Xen PV disk: reading, writing, flushing, discarding
 *
 * The tests run with each layout of requests and each size of a ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/timer.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "xen-disk-util.h"

#define MAX_BYTES (BLK_MAX_SEGMENTS * XEN_GUEST_PAGE_SIZE)

static void test_read_write(const void *opaque)
{
    uint8_t out[MAX_BYTES], in[MAX_BYTES];
    size_t len;
    XenDisk d;

    xen_disk_open(&d, ",iothread=io0 -object iothread,id=io0", opaque);
    blk_pattern(out, sizeof(out), 1);
    for (len = BLK_SECTOR; len <= sizeof(out); len += 5 * BLK_SECTOR) {
        uint64_t sector = len / BLK_SECTOR;

        memset(in, 0xaa, sizeof(in));
        g_assert_cmpint(blk_ring_write(d.r, sector, out, len), ==, BLK_OKAY);
        g_assert_cmpint(blk_ring_read(d.r, sector, in, len), ==, BLK_OKAY);
        g_assert_cmpmem(in, len, out, len);
    }
    xen_disk_close(&d);
}

/* Fill the ring again and again, past its end. */
static void test_full_ring(const void *opaque)
{
    BlkBuffer *b;
    BlkRequest req;
    BlkResponse rsp;
    unsigned int round, i;
    XenDisk d;

    xen_disk_open(&d, "", opaque);
    b = blk_buffer_new(d.g, 1, false);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    for (round = 0; round < 5; round++) {
        unsigned int nr = d.r->nr_entries - round;
        g_autofree bool *seen = g_new0(bool, nr);

        for (i = 0; i < nr; i++) {
            req.id = (0x123456789ULL << 24) + i;
            req.sector = 8 * i;
            blk_ring_put(d.r, &req);
        }
        blk_ring_push(d.r);
        for (i = 0; i < nr; i++) {
            blk_ring_wait(d.r, &rsp);
            g_assert_cmpint(rsp.status, ==, BLK_OKAY);
            g_assert_cmphex(rsp.id >> 24, ==, 0x123456789ULL);
            g_assert_false(seen[rsp.id & 0xffffff]);
            seen[rsp.id & 0xffffff] = true;
        }
    }
    g_assert_true(blk_ring_quiet(d.r));
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

/* A segment need not fill its page, nor begin at the start of the page. */
static void test_parts_of_pages(const void *opaque)
{
    static const BlkSegment parts[] = {
        { .first = 7, .last = 7 }, { .first = 0, .last = 0 },
        { .first = 2, .last = 5 }, { .first = 0, .last = 7 },
    };
    uint8_t out[14 * BLK_SECTOR], in[14 * BLK_SECTOR];
    BlkRequest req = { .op = BLK_READ, .sector = 3, .nr_segments = 4 };
    uint8_t *page, *at = in;
    BlkBuffer *b;
    XenDisk d;
    int i;

    xen_disk_open(&d, "", opaque);
    blk_pattern(out, sizeof(out), 2);
    g_assert_cmpint(blk_ring_write(d.r, 3, out, sizeof(out)), ==, BLK_OKAY);

    b = blk_buffer_new(d.g, 4, false);
    for (i = 0; i < 4; i++) {
        req.seg[i] = parts[i];
        req.seg[i].ref = b->ref[i];
        memset(xen_guest_frame(d.g, b->frame[i]), 0xaa, XEN_GUEST_PAGE_SIZE);
    }
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    for (i = 0; i < 4; i++) {
        size_t len = (parts[i].last - parts[i].first + 1) * BLK_SECTOR;

        page = xen_guest_frame(d.g, b->frame[i]);
        memcpy(at, page + parts[i].first * BLK_SECTOR, len);
        at += len;
        if (parts[i].first > 0) {
            g_assert_cmphex(page[parts[i].first * BLK_SECTOR - 1], ==, 0xaa);
        }
        if (parts[i].last < 7) {
            g_assert_cmphex(page[(parts[i].last + 1) * BLK_SECTOR], ==, 0xaa);
        }
    }
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

static void test_flush(const void *opaque)
{
    BlkRequest req = { .op = BLK_FLUSH };
    XenDisk d;

    xen_disk_open(&d, "", opaque);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-flush-cache", 0),
                    ==, 1);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

/* A flush may carry data, which are written after it. */
static void test_flush_and_write(const void *opaque)
{
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];
    BlkRequest req;
    BlkBuffer *b;
    XenDisk d;

    xen_disk_open(&d, "", opaque);
    blk_pattern(out, sizeof(out), 3);
    b = blk_buffer_new(d.g, 1, true);
    blk_buffer_fill(d.g, b, out, sizeof(out));
    blk_buffer_request(b, &req, BLK_FLUSH, 100, sizeof(out));
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_read(d.r, 100, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

static void test_discard(const void *opaque)
{
    BlkRequest req = { .op = BLK_DISCARD, .sector = 1024, .nr_sectors = 1024 };
    uint8_t in[XEN_GUEST_PAGE_SIZE];
    XenDisk d;

    xen_disk_open(&d, "", opaque);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "feature-discard", 0), ==, 1);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "discard-granularity", 0),
                    ==, BLK_SECTOR);
    blk_ring_check(d.r, 1016);
    blk_ring_check(d.r, 1024);
    blk_ring_check(d.r, 2048);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_read(d.r, 1024, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_true(buffer_is_zero(in, sizeof(in)));
    g_assert_cmpint(blk_ring_read(d.r, 1016, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_false(buffer_is_zero(in, sizeof(in)));
    g_assert_cmpint(blk_ring_read(d.r, 2048, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_false(buffer_is_zero(in, sizeof(in)));
    xen_disk_close(&d);
}

static void test_last_sector(const void *opaque)
{
    uint8_t buf[2 * BLK_SECTOR] = {};
    XenDisk d;

    xen_disk_open(&d, "", opaque);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==,
                    XEN_DISK_SECTORS);
    g_assert_cmpint(blk_ring_write(d.r, XEN_DISK_SECTORS - 1, buf, BLK_SECTOR),
                    ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_write(d.r, XEN_DISK_SECTORS - 1, buf,
                                   2 * BLK_SECTOR), ==, BLK_ERROR);
    g_assert_cmpint(blk_ring_read(d.r, XEN_DISK_SECTORS, buf, BLK_SECTOR),
                    ==, BLK_ERROR);
    blk_ring_check(d.r, 0);
    xen_disk_close(&d);
}

static void test_io_errors(void)
{
    uint8_t buf[BLK_SECTOR] = {};
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(
        "-blockdev null-co,node-name=null0,size=1048576,read-zeroes=on "
        "-blockdev blkdebug,node-name=disk0,image=null0,"
        "inject-error.0.event=none,inject-error.0.iotype=read,"
        "inject-error.0.sector=8,inject-error.0.once=off "
        "-device xen-disk,vdev=xvda,drive=disk0"), &xen_disk_plain);
    g_assert_cmpint(blk_ring_read(d.r, 8, buf, sizeof(buf)), ==, BLK_ERROR);
    g_assert_cmpint(blk_ring_read(d.r, 9, buf, sizeof(buf)), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_write(d.r, 8, buf, sizeof(buf)), ==, BLK_OKAY);
    xen_disk_close(&d);
}

/* Send reads of a page and writes of two sectors at once; one is bad. */
static void run_mixed_batch(XenDisk *d)
{
    BlkBuffer *b = blk_buffer_new(d->g, 1, false);
    BlkResponse rsp;
    BlkRequest req;
    int i;

    for (i = 0; i < 20; i++) {
        blk_buffer_request(b, &req, i & 1 ? BLK_WRITE : BLK_READ,
                           i == 7 ? XEN_DISK_SECTORS : 8 * i,
                           i & 1 ? 2 * BLK_SECTOR : XEN_GUEST_PAGE_SIZE);
        req.id = i;
        blk_ring_put(d->r, &req);
    }
    blk_ring_push(d->r);
    for (i = 0; i < 20; i++) {
        blk_ring_wait(d->r, &rsp);
        g_assert_cmpint(rsp.status, ==, rsp.id == 7 ? BLK_ERROR : BLK_OKAY);
    }
    blk_buffer_free(d->g, b);
}

/* The statistics of a drive must not depend on its device. */
static void test_statistics(void)
{
    QDict *rsp, *stats;
    XenDisk d;
    int i;

    xen_disk_open(&d, "", &xen_disk_plain);
    for (i = 0; i < 3; i++) {
        blk_ring_check(d.r, 8 * i);
    }
    run_mixed_batch(&d);
    rsp = qtest_qmp(d.g->qts, "{ 'execute': 'query-blockstats' }");
    stats = qobject_to(QDict, qlist_peek(qdict_get_qlist(rsp, "return")));
    stats = qdict_get_qdict(stats, "stats");
    g_assert_cmpint(qdict_get_int(stats, "rd_operations"), ==, 3 + 10);
    g_assert_cmpint(qdict_get_int(stats, "wr_operations"), ==, 3 + 9);
    g_assert_cmpint(qdict_get_int(stats, "invalid_wr_operations"), ==, 1);
    g_assert_cmpint(qdict_get_int(stats, "failed_wr_operations"), ==, 0);
    g_assert_cmpint(qdict_get_int(stats, "rd_bytes"), ==,
                    (3 + 10) * XEN_GUEST_PAGE_SIZE);
    g_assert_cmpint(qdict_get_int(stats, "wr_bytes"), ==,
                    3 * XEN_GUEST_PAGE_SIZE + 9 * 2 * BLK_SECTOR);
    qobject_unref(rsp);
    xen_disk_close(&d);
}

/* Check the statistics of one interval. */
static void check_interval(const QListEntry *entry, int seconds,
                           bool has_read)
{
    QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

    g_assert_cmpint(qdict_get_int(info, "interval_length"), ==, seconds);
    g_assert_cmpint(qdict_get_int(info, "max_rd_latency_ns"), ==,
                    has_read ? SCALE_MS : 0);
    g_assert_cmpint(qdict_get_int(info, "max_wr_latency_ns"), ==, 0);
}

static void check_intervals(XenDisk *d, bool recent)
{
    QDict *rsp = qtest_qmp(d->g->qts, "{ 'execute': 'query-blockstats' }");
    QDict *stats = qobject_to(QDict,
                              qlist_peek(qdict_get_qlist(rsp, "return")));
    QList *list;

    stats = qdict_get_qdict(stats, "stats");
    list = qdict_get_qlist(stats, "timed_stats");
    g_assert_cmpint(qlist_size(list), ==, 2);
    check_interval(qlist_first(list), 3, recent);
    check_interval(qlist_next(qlist_first(list)), 30, true);
    qobject_unref(rsp);
}

static void test_intervals(void)
{
    uint8_t buf[BLK_SECTOR] = {};
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(
        "-blockdev null-co,node-name=disk0,size=1048576,read-zeroes=on "
        "-device '{ \"driver\": \"xen-disk\", \"vdev\": \"xvda\","
        " \"drive\": \"disk0\", \"stats-intervals\": [ 3, 30 ] }'"),
        &xen_disk_plain);
    g_assert_cmpint(blk_ring_read(d.r, 8, buf, sizeof(buf)), ==, BLK_OKAY);
    check_intervals(&d, true);
    qtest_clock_step(d.g->qts, 4 * NANOSECONDS_PER_SECOND);
    check_intervals(&d, false);
    xen_disk_close(&d);
}

/* Named PROTOCOL/ORDER, for each of them. */
static void add_for_each_ring(const char *name, GTestDataFunc fn)
{
    static const char *const protocols[] = { "x86_64", "x86_32" };
    unsigned int protocol, order;

    for (protocol = 0; protocol < BLK_NR_PROTOCOLS; protocol++) {
        for (order = 0; order <= XEN_DISK_MAX_ORDER; order++) {
            BlkOptions *options = g_new0(BlkOptions, 1);
            g_autofree char *path = g_strdup_printf("/xen-disk/io/%s/%s/%u",
                                                    name, protocols[protocol],
                                                    order);

            options->protocol = protocol;
            options->order = order;
            qtest_add_data_func_full(path, options, (void *)fn, g_free);
        }
    }
}

static void reopen(XenDisk *d, uint64_t size)
{
    g_autofree char *sectors = g_strdup_printf("%" PRIu64, size / BLK_SECTOR);

    qtest_qmp_assert_success(d->g->qts, "{'execute': 'blockdev-reopen',"
                             " 'arguments': {'options': [{"
                             "  'driver': 'raw', 'node-name': 'disk0',"
                             "  'file': 'file0', 'size': %" PRIu64 "}]}}",
                             size);
    xs_wait_value(d->g, d->f->be, "sectors", sectors);
}

/* A reopened node has another size, although it was not resized. */
static void test_reopen(void)
{
    uint8_t buf[BLK_SECTOR] = {};
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    for (unsigned round = 0; round < 3; round++) {
        reopen(&d, XEN_DISK_SIZE / 2);
        g_assert_cmpint(blk_ring_read(d.r, XEN_DISK_SECTORS / 2, buf,
                                      sizeof(buf)), ==, BLK_ERROR);
        blk_ring_check(d.r, XEN_DISK_SECTORS / 2 - 8);
        reopen(&d, XEN_DISK_SIZE);
        blk_ring_check(d.r, XEN_DISK_SECTORS - 8);
    }
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_for_each_ring("read-write", test_read_write);
    add_for_each_ring("full-ring", test_full_ring);
    qtest_add_data_func("/xen-disk/io/parts-of-pages", &xen_disk_plain,
                        test_parts_of_pages);
    qtest_add_data_func("/xen-disk/io/flush", &xen_disk_plain, test_flush);
    qtest_add_data_func("/xen-disk/io/flush-and-write", &xen_disk_plain,
                        test_flush_and_write);
    qtest_add_data_func("/xen-disk/io/discard", &xen_disk_plain, test_discard);
    qtest_add_data_func("/xen-disk/io/last-sector", &xen_disk_plain,
                        test_last_sector);
    qtest_add_func("/xen-disk/io/errors", test_io_errors);
    qtest_add_func("/xen-disk/io/statistics", test_statistics);
    qtest_add_func("/xen-disk/io/intervals", test_intervals);
    qtest_add_func("/xen-disk/io/reopen", test_reopen);
    return g_test_run();
}
