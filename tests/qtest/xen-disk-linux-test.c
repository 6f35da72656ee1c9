/*
 * Xen PV disk: the frontends of Linux, of each age and with each parameter
 *
 *     parameter of xen_blkfront   what the backend sees of it
 *     max_ring_page_order         ring-page-order, if it is not 0
 *     max_queues                  multi-queue-num-queues, if it is not 1
 *     max_indirect_segments       nothing before the first indirect request
 *     feature_persistent          feature-persistent=0 or 1
 *     trusted                     key "trusted" is there; data in fresh pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"

/* Largest request of any of them, in pages. */
#define MAX_SEGMENTS 256
#define OFFERED_QUEUES 8

typedef enum LinuxOrdering {
    LINUX_NO_ORDERING,          /* before 2.6.14 */
    LINUX_BARRIER,              /* a write of the last segments, in order */
    LINUX_FLUSH,                /* without data */
} LinuxOrdering;

typedef struct LinuxDriver {
    const char *name;
    BlkProtocol protocol;
    LinuxOrdering ordering;
    unsigned order;
    unsigned queues;
    unsigned indirect;          /* 0: the driver has no such requests */
    int persistent;             /* -1: the driver has no such grants */
    int trusted;                /* -1: the toolstack writes no key */
} LinuxDriver;

/* A driver at work. */
typedef struct Linux {
    const LinuxDriver *l;
    Blkfront *f;
    GPtrArray *kept;            /* BlkBuffer *, of a persistent one */
} Linux;

static unsigned min_offered(Blkfront *f, const char *key, unsigned otherwise,
                            unsigned wish)
{
    return MIN(wish, xs_get_number(f->g, f->be, key, otherwise));
}

static void linux_connect(Blkfront *f, const LinuxDriver *l)
{
    BlkOptions options = {
        .protocol = l->protocol,
        .persistent = l->persistent == 1,
    };

    blkfront_expect(f, XB_INIT_WAIT);
    options.order = min_offered(f, "max-ring-page-order", 0, l->order);
    options.rings = min_offered(f, "multi-queue-max-queues", 1, l->queues);
    g_assert_cmpint(options.order, ==, l->order);
    g_assert_cmpint(options.rings, ==, l->queues);
    g_assert_cmpint(min_offered(f, "feature-max-indirect-segments", 0,
                                l->indirect), ==, l->indirect);
    if (l->persistent == 0) {
        xs_put(f->g, f->fe, "feature-persistent", "0");
    }
    if (l->trusted >= 0) {
        xs_put(f->g, f->fe, "trusted", "%d", l->trusted);
    }
    blkfront_connect(f, &options);
}

/* Return pages for one request, or for all requests of a persistent driver. */
static BlkBuffer *linux_pages(Linux *d, unsigned n, int op)
{
    bool persistent = d->l->persistent == 1;
    BlkBuffer *b = blk_buffer_new(d->f->g, n, !persistent && op == BLK_WRITE);

    if (persistent) {
        g_ptr_array_add(d->kept, b);
    }
    return b;
}

/* The backend has no use of them any more once it has answered. */
static void linux_pages_done(Linux *d, BlkBuffer *b)
{
    if (d->l->persistent != 1) {
        blk_buffer_free(d->f->g, b);
    }
}

/* Send a request of @n pages, in the form in which the driver sends it. */
static void linux_transfer(Linux *d, BlkRing *r, int op, uint64_t sector,
                           BlkBuffer *b, unsigned n)
{
    BlkBuffer *pages = NULL;
    BlkRequest req;

    if (n <= BLK_MAX_SEGMENTS) {
        blk_buffer_request(b, &req, op, sector, n * XEN_GUEST_PAGE_SIZE);
    } else {
        pages = linux_pages(d, 1, BLK_WRITE);
        blk_indirect_request(d->f->g, pages, b, &req, op, sector, n);
    }
    req.id = sector % r->nr_entries;
    g_assert_cmpint(blk_ring_run(r, &req), ==, BLK_OKAY);
    if (pages) {
        linux_pages_done(d, pages);
    }
}

static void linux_order(Linux *d, BlkRing *r, BlkBuffer *b)
{
    BlkRequest req = { .op = BLK_FLUSH };

    if (d->l->ordering == LINUX_BARRIER) {
        blk_buffer_request(b, &req, BLK_BARRIER, 0, XEN_GUEST_PAGE_SIZE);
    }
    if (d->l->ordering != LINUX_NO_ORDERING) {
        req.id = 3;
        g_assert_cmpint(blk_ring_run(r, &req), ==, BLK_OKAY);
    }
}

/* Write with one size of requests, and read with another. */
static void linux_use(Linux *d, BlkRing *r, unsigned nth)
{
    unsigned n = MAX(d->l->indirect, BLK_MAX_SEGMENTS);
    size_t size = n * XEN_GUEST_PAGE_SIZE;
    uint64_t sector = (nth + 1) * (uint64_t)(MAX_SEGMENTS * 8);
    g_autofree uint8_t *out = g_malloc(size);
    g_autofree uint8_t *in = g_malloc(size);
    BlkBuffer *b = linux_pages(d, n, BLK_WRITE);

    blk_pattern(out, size, nth + n);
    blk_buffer_fill(d->f->g, b, out, size);
    linux_transfer(d, r, BLK_WRITE, sector, b, n);
    linux_order(d, r, b);
    linux_pages_done(d, b);
    if (d->l->persistent != 1) {
        b = linux_pages(d, n, BLK_READ);
    }
    for (unsigned at = 0; at < n; at += BLK_MAX_SEGMENTS) {
        unsigned part = MIN(n - at, BLK_MAX_SEGMENTS);
        size_t offset = (size_t)at * XEN_GUEST_PAGE_SIZE;

        linux_transfer(d, r, BLK_READ, sector + at * 8, b, part);
        blk_buffer_get(d->f->g, b, in + offset, part * XEN_GUEST_PAGE_SIZE);
    }
    g_assert_cmpmem(in, size, out, size);
    linux_pages_done(d, b);
}

static void check_grants(Blkfront *f, const LinuxDriver *l)
{
    XenGrantStats stats;
    unsigned ring_pages = l->queues << l->order;

    xen_guest_grant_stats(f->g, &stats);
    if (l->persistent == 1) {
        g_assert_cmpint(stats.mapped, >, ring_pages);
    } else {
        g_assert_cmpint(stats.mapped, ==, ring_pages);
    }
}

/* Load the module, use the disk, unload the module. */
static void linux_live(Blkfront *f, const LinuxDriver *l)
{
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    Linux d = { .l = l, .f = f, .kept = kept };
    XenGrantStats stats;

    linux_connect(f, l);
    for (unsigned i = 0; i < f->nr_rings; i++) {
        linux_use(&d, &f->ring[i], i);
    }
    check_grants(f, l);
    blkfront_disconnect(f);
    xen_guest_grant_stats(f->g, &stats);
    g_assert_cmpint(stats.mapped, ==, 0);
    for (unsigned i = 0; i < kept->len; i++) {
        blk_buffer_free(f->g, kept->pdata[i]);
    }
    blkfront_reset(f);
}

static XenGuest *start_for_linux(void)
{
    g_autofree char *more = g_strdup_printf(",num-queues=%u,iothreads=2",
                                            OFFERED_QUEUES);

    return xen_disk_start(more);
}

static const LinuxDriver ages[] = {
    { "2.6.32", BLK_X86_64, LINUX_BARRIER, 0, 1, 0, -1, -1 },
    { "2.6.32/i386", BLK_X86_32, LINUX_BARRIER, 0, 1, 0, -1, -1 },
    { "2.6.37", BLK_X86_64, LINUX_FLUSH, 0, 1, 0, -1, -1 },
    { "3.8", BLK_X86_64, LINUX_FLUSH, 0, 1, 0, 1, -1 },
    { "3.16", BLK_X86_64, LINUX_FLUSH, 0, 1, 32, 1, -1 },
    { "3.16/i386", BLK_X86_32, LINUX_FLUSH, 0, 1, 32, 1, -1 },
    { "4.2/large", BLK_X86_64, LINUX_FLUSH, 3, 1, 32, 1, -1 },
    { "4.5", BLK_X86_64, LINUX_FLUSH, 0, 4, 32, 1, -1 },
    { "4.5/large", BLK_X86_64, LINUX_FLUSH, 3, 2, 64, 1, -1 },
    { "5.10/copied", BLK_X86_64, LINUX_FLUSH, 0, 4, 32, 0, -1 },
    { "6.1", BLK_X86_64, LINUX_FLUSH, 0, 4, 32, 1, 1 },
    { "6.1/untrusted", BLK_X86_64, LINUX_FLUSH, 0, 4, 32, 1, 0 },
};

static void test_age(const void *opaque)
{
    XenGuest *g = start_for_linux();
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    linux_live(f, opaque);
    linux_live(f, opaque);
    blkfront_free(f);
    xen_guest_quit(g);
}

static void test_parameters(const void *opaque)
{
    static const unsigned orders[] = { 0, 1, 3, 4 };
    static const unsigned segments[] = { 0, 32, 256 };
    unsigned queues = GPOINTER_TO_UINT(opaque);

    for (unsigned i = 0; i < ARRAY_SIZE(orders) * ARRAY_SIZE(segments); i++) {
        XenGuest *g = start_for_linux();
        Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

        for (int rest = 0; rest < 4; rest++) {
            LinuxDriver l = {
                .protocol = BLK_X86_64,
                .ordering = LINUX_FLUSH,
                .order = orders[i / ARRAY_SIZE(segments)],
                .queues = queues,
                .indirect = segments[i % ARRAY_SIZE(segments)],
                .persistent = rest & 1,
                .trusted = rest >> 1,
            };

            linux_live(f, &l);
        }
        blkfront_free(f);
        xen_guest_quit(g);
    }
}

/* A guest that is restored comes with another driver's leavings. */
static void test_other_age(void)
{
    XenGuest *g = start_for_linux();
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    for (int i = 0; i < ARRAY_SIZE(ages); i++) {
        linux_live(f, &ages[i]);
        linux_live(f, &ages[(i * 7 + 3) % ARRAY_SIZE(ages)]);
    }
    blkfront_free(f);
    xen_guest_quit(g);
}

int main(int argc, char **argv)
{
    static const unsigned queues[] = { 1, 2, 8 };

    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(ages); i++) {
        g_autofree char *path = g_strconcat("/xen-disk/linux/age/",
                                            ages[i].name, NULL);

        qtest_add_data_func(path, &ages[i], test_age);
    }
    qtest_add_func("/xen-disk/linux/other-age", test_other_age);
    for (int i = 0; i < ARRAY_SIZE(queues); i++) {
        g_autofree char *path = g_strdup_printf(
            "/xen-disk/linux/parameters/queues-%u", queues[i]);

        qtest_add_data_func(path, GUINT_TO_POINTER(queues[i]),
                            test_parameters);
    }
    return g_test_run();
}
