/*
 * Xen PV disk: mapped grants are bounded, shared between disks, and given back
 *
 * The stand-in for Xen reports limits for grants and areas, enforces them, and
 * counts.  The test sets the clock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"

#define TICK_NS (10 * 1000 * 1000 * 1000ll)

#define NULL_DISK(name, more) \
    "-blockdev null-co,node-name=" name "0,size=16777216,read-zeroes=on " \
    "-device xen-disk,id=" name ",vdev=" name ",drive=" name "0" more " "

static const BlkOptions persistent = {
    .protocol = BLK_X86_64, .persistent = true,
};

static const BlkOptions two_rings = {
    .protocol = BLK_X86_64, .persistent = true, .rings = 2,
};

static XenGrantStats grant_stats(XenGuest *g)
{
    XenGrantStats stats;

    xen_guest_grant_stats(g, &stats);
    g_assert_cmpint(stats.refused, ==, 0);
    return stats;
}

static void ticks(XenGuest *g, unsigned int n)
{
    while (n--) {
        qtest_clock_step(g->qts, TICK_NS);
        xen_guest_sync(g);
    }
}

static void read_pages(BlkRing *r, BlkBuffer *b)
{
    for (unsigned int n = 0; n < b->nr_pages; n++) {
        g_assert_cmpint(blk_ring_read_page(r, b, n), ==, BLK_OKAY);
    }
}

static unsigned int nr_kept(XenGuest *g, BlkBuffer *b)
{
    unsigned int kept = 0;

    for (unsigned int n = 0; n < b->nr_pages; n++) {
        kept += xen_guest_grant_is_used(g, b->ref[n]);
    }
    return kept;
}

/* Check how many of 2,400 pages QEMU keeps for a frontend with @rings rings. */
static void check_default(unsigned int rings, unsigned int table,
                          unsigned int kept)
{
    BlkOptions options = two_rings;
    BlkBuffer *b[6];
    XenDisk d;

    options.rings = rings;
    xen_disk_connect(&d, xen_guest_start("-global xen-standin.max-grants=%u "
                                         NULL_DISK("xvda", ",num-queues=8"),
                                         table), &options);
    for (int i = 0; i < ARRAY_SIZE(b); i++) {
        b[i] = blk_buffer_new(d.g, 400, false);
        read_pages(&d.f->ring[i % rings], b[i]);
    }
    g_assert_cmpint(grant_stats(d.g).mapped, ==, rings + kept);
    blkfront_disconnect(d.f);
    g_assert_cmpint(grant_stats(d.g).mapped, ==, 0);
    for (int i = 0; i < ARRAY_SIZE(b); i++) {
        blk_buffer_free(d.g, b[i]);
    }
    xen_disk_end(&d);
}

/* The default is that of Linux's backend, or an eighth of the grant table. */
static void test_default(void)
{
    check_default(1, 32768, 1056);
    check_default(2, 32768, 2 * 1056);
    check_default(8, 12288, 1536);
    check_default(8, 4096, 1056);
}

/* A ring that comes late gets some of what the first one has. */
static void test_rings_share(void)
{
    BlkBuffer *b[2];
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(NULL_DISK("xvda",
                     ",num-queues=2,max-persistent-grants=16")), &two_rings);
    b[0] = blk_buffer_new(d.g, 16, false);
    b[1] = blk_buffer_new(d.g, 16, false);
    read_pages(&d.f->ring[0], b[0]);
    read_pages(&d.f->ring[1], b[1]);
    g_assert_cmpint(nr_kept(d.g, b[0]), ==, 16);
    g_assert_cmpint(nr_kept(d.g, b[1]), ==, 0);
    ticks(d.g, 1);
    read_pages(&d.f->ring[1], b[1]);
    g_assert_cmpint(nr_kept(d.g, b[0]), ==, 14);
    g_assert_cmpint(nr_kept(d.g, b[1]), ==, 2);
    g_assert_cmpint(grant_stats(d.g).mapped, ==, 2 + 16);
    blkfront_disconnect(d.f);
    blk_buffer_free(d.g, b[0]);
    blk_buffer_free(d.g, b[1]);
    xen_disk_end(&d);
}

/* Two disks share the budget of their domain, which is given back. */
static void test_disks_share(void)
{
    XenGuest *g = xen_guest_start("-global xen-standin.max-maptrack=128 "
                                  NULL_DISK("xvda", "") NULL_DISK("xvdb", ""));
    Blkfront *other = blkfront_new(g, BLK_VDEV_XVDB);
    BlkBuffer *a = blk_buffer_new(g, 16, false);
    BlkBuffer *b = blk_buffer_new(g, 16, false);
    XenDisk d;

    xen_disk_connect(&d, g, &persistent);
    blkfront_connect(other, &persistent);
    read_pages(d.r, a);
    read_pages(&other->ring[0], b);
    g_assert_cmpint(nr_kept(g, a), ==, 8);
    g_assert_cmpint(nr_kept(g, b), ==, 0);

    blkfront_disconnect(d.f);
    g_assert_cmpint(grant_stats(g).mapped, ==, 1);
    ticks(g, 1);
    read_pages(&other->ring[0], b);
    g_assert_cmpint(nr_kept(g, b), ==, 8);

    /* The first one does not get at once what the late one has now. */
    blkfront_reset(d.f);
    blkfront_connect(d.f, &persistent);
    read_pages(d.r, a);
    g_assert_cmpint(nr_kept(g, a), ==, 0);
    ticks(g, 1);
    read_pages(d.r, a);
    g_assert_cmpint(nr_kept(g, a), ==, 1);
    g_assert_cmpint(nr_kept(g, b), ==, 7);

    blkfront_disconnect(other);
    blkfront_free(other);
    blkfront_disconnect(d.f);
    g_assert_cmpint(grant_stats(g).mapped, ==, 0);
    blk_buffer_free(g, a);
    blk_buffer_free(g, b);
    xen_disk_end(&d);
}

/* The disk that wants some looks before the one that has them all. */
static void test_looks_first(void)
{
    static const unsigned int kept[] = { 32, 28, 25 };
    XenGuest *g = xen_guest_start("-global xen-standin.max-maptrack=512 "
                                  NULL_DISK("xvda", "") NULL_DISK("xvdb", ""));
    Blkfront *first = blkfront_new(g, BLK_VDEV_XVDB);
    BlkBuffer *a = blk_buffer_new(g, 40, false);
    BlkBuffer *b = blk_buffer_new(g, 40, false);
    XenDisk d;

    blkfront_connect(first, &persistent);
    qtest_clock_step(g->qts, 5000000);
    xen_disk_connect(&d, g, &persistent);
    read_pages(d.r, a);
    for (int i = 0; i < ARRAY_SIZE(kept); i++) {
        read_pages(&first->ring[0], b);
        g_assert_cmpint(nr_kept(g, a), ==, kept[i]);
        g_assert_cmpint(nr_kept(g, b), ==, 32 - kept[i]);
        ticks(g, 1);
    }

    blkfront_disconnect(first);
    blkfront_free(first);
    blkfront_disconnect(d.f);
    g_assert_cmpint(grant_stats(g).mapped, ==, 0);
    blk_buffer_free(g, a);
    blk_buffer_free(g, b);
    xen_disk_end(&d);
}

#define NR_DISKS 9
#define PAGES_PER_DISK 300

static void nine_disks_args(GString *args)
{
    for (int i = 0; i < NR_DISKS; i++) {
        g_autofree char *name = g_strdup_printf("xvd%c", 'a' + i);

        g_string_append_printf(args, NULL_DISK("%s", ",num-queues=8"), name,
                               name, name, name);
    }
}

/* Request i goes through ring i, and so on in turn. */
static void read_pages_by_turns(Blkfront *f, BlkBuffer *b, unsigned int rings)
{
    for (unsigned int n = 0; n < b->nr_pages; n++) {
        g_assert_cmpint(blk_ring_read_page(&f->ring[n % rings], b, n), ==,
                        BLK_OKAY);
    }
}

/*
 * Each of nine disks is read once.  The grants that they keep leave half of the
 * guest's grant table to others.  The ninth disk works as the first one does.
 */
static void test_grant_table(const void *opaque)
{
    BlkOptions options = two_rings;
    g_autoptr(GString) args = g_string_new("-global "
                                           "xen-standin.max-grants=4096 ");
    Blkfront *disk[NR_DISKS];
    BlkBuffer *b[NR_DISKS];
    XenGuest *g;

    options.rings = GPOINTER_TO_UINT(opaque);
    nine_disks_args(args);
    g = xen_guest_start("%s", args->str);
    for (int i = 0; i < NR_DISKS; i++) {
        disk[i] = blkfront_new(g, BLK_VDEV_XVDA + (i << 4));
        blkfront_connect(disk[i], &options);
        b[i] = blk_buffer_new(g, PAGES_PER_DISK, false);
        read_pages_by_turns(disk[i], b[i], options.rings);
    }
    g_assert_cmpint(grant_stats(g).mapped, ==,
                    NR_DISKS * options.rings + 4096 / 2);
    g_assert_cmpint(nr_kept(g, b[0]), ==, PAGES_PER_DISK);
    g_assert_cmpint(nr_kept(g, b[NR_DISKS - 1]), ==, 0);

    for (int i = 0; i < NR_DISKS; i++) {
        blkfront_disconnect(disk[i]);
        blkfront_free(disk[i]);
        blk_buffer_free(g, b[i]);
    }
    g_assert_cmpint(grant_stats(g).mapped, ==, 0);
    xen_guest_quit(g);
}

static void put_reads(BlkRing *r, BlkBuffer **b, unsigned int n)
{
    BlkRequest req;

    for (unsigned int i = 0; i < n; i++) {
        blk_buffer_request(b[i], &req, BLK_READ, 88 * i,
                           BLK_MAX_SEGMENTS * XEN_GUEST_PAGE_SIZE);
        blk_ring_put(r, &req);
    }
    blk_ring_push(r);
    blk_ring_wait_all(r, n, BLK_OKAY);
}

static void buffers_new(XenGuest *g, BlkBuffer **b, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        b[i] = blk_buffer_new(g, BLK_MAX_SEGMENTS, false);
    }
}

static void buffers_free(XenGuest *g, BlkBuffer **b, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        blk_buffer_free(g, b[i]);
    }
}

/* The pages of a batch are mapped with few calls, and unmapped with few. */
static void test_areas_of_many(void)
{
    XenGrantStats stats;
    BlkBuffer *b[32];
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(NULL_DISK("xvda", "")), &persistent);
    buffers_new(d.g, b, 32);
    put_reads(d.r, b, 32);
    stats = grant_stats(d.g);
    g_assert_cmpint(stats.mapped, ==, 1 + 32 * BLK_MAX_SEGMENTS);
    g_assert_cmpint(stats.areas, ==, 1 + 32 * BLK_MAX_SEGMENTS / 32);
    blkfront_disconnect(d.f);
    g_assert_cmpint(grant_stats(d.g).unmaps, ==, stats.areas);
    buffers_free(d.g, b, 32);
    xen_disk_end(&d);
}

/* No more areas than an eighth of what a process may have; nothing fails. */
static void test_areas_bound(void)
{
    BlkBuffer *b;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start("-global xen-standin.max-areas=64 "
                                         NULL_DISK("xvda", "")), &persistent);
    b = blk_buffer_new(d.g, 200, false);
    for (int i = 0; i < 3; i++) {
        read_pages(d.r, b);
        g_assert_cmpint(grant_stats(d.g).areas, <=, 1 + 8);
        ticks(d.g, 1);
    }
    xen_disk_close_with(&d, b);
}

/* If there are more pages than may be kept, some are copied each time. */
static void test_no_thrashing(void)
{
    XenGrantStats before, after;
    BlkBuffer *b;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(NULL_DISK("xvda",
                     ",max-persistent-grants=16")), &persistent);
    b = blk_buffer_new(d.g, 64, false);
    read_pages(d.r, b);
    before = grant_stats(d.g);
    g_assert_cmpint(before.maps, <=, 1 + 2 * 16);
    for (int i = 0; i < 5; i++) {
        read_pages(d.r, b);
    }
    after = grant_stats(d.g);
    g_assert_cmpint(after.maps, ==, before.maps);
    g_assert_cmpint(after.copies - before.copies, ==, 5 * (64 - 16));
    xen_disk_close_with(&d, b);
}

/* Grants not used for a minute are unmapped, and mapped again when used. */
static void test_idle(const void *iothread)
{
    g_autofree char *args = g_strdup_printf(
        "-object iothread,id=io0 " NULL_DISK("xvda", "%s"),
        iothread ? ",iothread=io0" : "");
    BlkBuffer *b;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start("%s", args), &persistent);
    b = blk_buffer_new(d.g, 16, false);
    read_pages(d.r, b);
    for (int i = 0; i < 5; i++) {
        ticks(d.g, 1);
        g_assert_cmpint(blk_ring_read_page(d.r, b, 3), ==, BLK_OKAY);
        g_assert_cmpint(nr_kept(d.g, b), ==, 16);
    }
    /* A ring's thread that is late misses ticks. */
    for (int i = 0; nr_kept(d.g, b) != 1; i++) {
        g_assert_cmpint(i, <, 1000);
        ticks(d.g, 1);
        g_assert_cmpint(blk_ring_read_page(d.r, b, 3), ==, BLK_OKAY);
    }
    for (int i = 0; nr_kept(d.g, b); i++) {
        g_assert_cmpint(i, <, 1000);
        ticks(d.g, 1);
    }
    g_assert_cmpint(blk_ring_read_page(d.r, b, 0), ==, BLK_OKAY);
    g_assert_cmpint(nr_kept(d.g, b), ==, 1);
    read_pages(d.r, b);
    g_assert_cmpint(nr_kept(d.g, b), ==, 16);
    g_assert_cmpint(grant_stats(d.g).copies, ==, 0);
    xen_disk_close_with(&d, b);
}

/*
 * A ring that is too late for most of its ticks lets go of all the same.  The
 * main loop serves no ring while it steps the clock.
 */
static void test_idle_late(void)
{
    BlkBuffer *b;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(NULL_DISK("xvda", "")), &persistent);
    b = blk_buffer_new(d.g, 16, false);
    read_pages(d.r, b);
    ticks(d.g, 1);
    g_assert_cmpint(nr_kept(d.g, b), ==, 16);
    qtest_clock_step(d.g->qts, 20 * TICK_NS);
    xen_guest_sync(d.g);
    g_assert_cmpint(nr_kept(d.g, b), ==, 16);
    ticks(d.g, 10);
    g_assert_cmpint(nr_kept(d.g, b), ==, 0);
    xen_disk_close_with(&d, b);
}

/* KiB of QEMU's memory that are neither file nor guest memory. */
static uint64_t anonymous_kib(XenGuest *g)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status",
                                            (int)qtest_pid(g->qts));
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "RssAnon:");
    g_assert_nonnull(line);
    return g_ascii_strtoull(line + strlen("RssAnon:"), NULL, 10);
}

/* Copy 96 MiB of requests at once.  A domain has buffers of 64 MiB at most. */
static void test_buffers(void)
{
    BlkOptions options = { .protocol = BLK_X86_64, .rings = 3 };
    BlkBuffer *b, *segments;
    uint64_t before, burst;
    BlkRequest req;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(NULL_DISK("xvda", ",num-queues=3")),
                     &options);
    b = blk_buffer_new(d.g, 256, false);
    segments = blk_buffer_new(d.g, 1, false);
    before = anonymous_kib(d.g);
    for (int i = 0; i < 3; i++) {
        for (int n = 0; n < 32; n++) {
            blk_indirect_request(d.g, segments, b, &req, BLK_READ, 0, 256);
            blk_ring_put(&d.f->ring[i], &req);
        }
        blk_ring_push(&d.f->ring[i]);
    }
    for (int i = 0; i < 3; i++) {
        blk_ring_wait_all(&d.f->ring[i], 32, BLK_OKAY);
    }
    burst = anonymous_kib(d.g) - before;
    g_assert_cmpint(burst, >, 60 * 1024);
    g_assert_cmpint(burst, <, 76 * 1024);

    /* Needed until the first tick, not needed until the second. */
    ticks(d.g, 2);
    g_assert_cmpint(anonymous_kib(d.g), <, before + 12 * 1024);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(blk_ring_read_page(&d.f->ring[i], b, 0), ==, BLK_OKAY);
    }
    blkfront_disconnect(d.f);
    blk_buffer_free(d.g, b);
    blk_buffer_free(d.g, segments);
    xen_disk_end(&d);
}

static unsigned int count(const char *text, const char *word)
{
    unsigned int n = 0;

    while ((text = strstr(text, word))) {
        text += strlen(word);
        n++;
    }
    return n;
}

/* However often a frontend errs, the log has a few lines of that. */
static void test_log(void)
{
    BlkRequest bad = { .op = 77 };
    g_autofree char *log = NULL;
    g_autofree char *text = NULL;
    XenDisk d;
    int fd = g_file_open_tmp("xen-disk-log-XXXXXX", &log, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    xen_disk_connect(&d, xen_guest_start(NULL_DISK("xvda", "") "2>%s", log),
                     &persistent);
    for (int i = 0; i < 40; i++) {
        g_assert_cmpint(blk_ring_run(d.r, &bad), ==, BLK_ERROR);
        blkfront_disconnect(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &persistent);
        blk_ring_set_producer(d.r, 1000);
        xen_port_send(&d.r->port);
        xen_disk_given_up(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &persistent);
    }
    qtest_clock_step(d.g->qts, TICK_NS);
    g_assert_cmpint(blk_ring_run(d.r, &bad), ==, BLK_ERROR);
    xen_disk_close(&d);
    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    unlink(log);
    g_assert_cmpint(count(text, "queue 0: "), ==, 16 + 1);
    g_assert_cmpint(count(text, "64 messages that a guest has caused"), ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-disk/budget/default", test_default);
    qtest_add_func("/xen-disk/budget/rings-share", test_rings_share);
    qtest_add_func("/xen-disk/budget/looks-first", test_looks_first);
    qtest_add_func("/xen-disk/budget/disks-share", test_disks_share);
    qtest_add_data_func("/xen-disk/budget/grant-table/1-ring",
                        GUINT_TO_POINTER(1), test_grant_table);
    qtest_add_data_func("/xen-disk/budget/grant-table/4-rings",
                        GUINT_TO_POINTER(4), test_grant_table);
    qtest_add_func("/xen-disk/budget/areas-of-many", test_areas_of_many);
    qtest_add_func("/xen-disk/budget/areas-bound", test_areas_bound);
    qtest_add_func("/xen-disk/budget/no-thrashing", test_no_thrashing);
    qtest_add_data_func("/xen-disk/budget/idle/main-loop", NULL, test_idle);
    qtest_add_data_func("/xen-disk/budget/idle/iothread", "io0", test_idle);
    qtest_add_func("/xen-disk/budget/idle-late", test_idle_late);
    qtest_add_func("/xen-disk/budget/buffers", test_buffers);
    qtest_add_func("/xen-disk/budget/log", test_log);
    return g_test_run();
}
