/*
 * Xen PV disk: indirect requests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"
#include "xen-scribbler.h"

#define MAX_SEGMENTS 256

static const BlkOptions all_options[] = {
    { .protocol = BLK_X86_64 },
    { .protocol = BLK_X86_64, .persistent = true },
    { .protocol = BLK_X86_32 },
    { .protocol = BLK_X86_32, .persistent = true },
};

/* A disk, a page for segments, and pages for data. */
typedef struct Indirect {
    XenDisk d;
    BlkBuffer *pages;
    BlkBuffer *b;
} Indirect;

static void indirect_open(Indirect *t, const char *more,
                          const BlkOptions *options)
{
    xen_disk_open(&t->d, more, options);
    t->pages = blk_buffer_new(t->d.g, 1, true);
    t->b = blk_buffer_new(t->d.g, MAX_SEGMENTS, false);
}

static void indirect_close(Indirect *t)
{
    blkfront_disconnect(t->d.f);
    blk_buffer_free(t->d.g, t->pages);
    blk_buffer_free(t->d.g, t->b);
    xen_disk_end(&t->d);
}

static int indirect_run(Indirect *t, int op, uint64_t sector, unsigned int nr)
{
    BlkRequest req;

    blk_indirect_request(t->d.g, t->pages, t->b, &req, op, sector, nr);
    req.id = 0xfedcba9876543210ULL;
    return blk_ring_run(t->d.r, &req);
}

static void test_read_write(const void *opaque)
{
    static const unsigned int numbers[] = { 1, 2, 11, 12, 32, 33, 255, 256 };
    size_t size = MAX_SEGMENTS * XEN_GUEST_PAGE_SIZE;
    g_autofree uint8_t *out = g_malloc(size);
    g_autofree uint8_t *in = g_malloc(size);
    Indirect t;
    int i;

    indirect_open(&t, "", opaque);
    g_assert_cmpint(xs_get_number(t.d.g, t.d.f->be,
                                  "feature-max-indirect-segments", 0), ==,
                    MAX_SEGMENTS);
    for (i = 0; i < ARRAY_SIZE(numbers); i++) {
        size_t len = numbers[i] * XEN_GUEST_PAGE_SIZE;

        blk_pattern(out, len, i);
        blk_buffer_fill(t.d.g, t.b, out, len);
        g_assert_cmpint(indirect_run(&t, BLK_WRITE, 3 + i, numbers[i]), ==,
                        BLK_OKAY);
        memset(in, 0xaa, len);
        blk_buffer_fill(t.d.g, t.b, in, len);
        g_assert_cmpint(indirect_run(&t, BLK_READ, 3 + i, numbers[i]), ==,
                        BLK_OKAY);
        blk_buffer_get(t.d.g, t.b, in, len);
        g_assert_cmpmem(in, len, out, len);
    }
    blk_ring_check(t.d.r, 0);
    indirect_close(&t);
}

/* A ring full of large requests, and small ones between. */
static void test_many(const void *opaque)
{
    BlkRequest large, small;
    Indirect t;
    int i, round;

    indirect_open(&t, ",iothread=io0 -object iothread,id=io0", opaque);
    blk_indirect_request(t.d.g, t.pages, t.b, &large, BLK_READ, 0,
                         MAX_SEGMENTS);
    blk_buffer_request(t.b, &small, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    for (round = 0; round < 4; round++) {
        for (i = 0; i < t.d.r->nr_entries; i++) {
            blk_ring_put(t.d.r, i % 4 == round ? &small : &large);
        }
        blk_ring_push(t.d.r);
        blk_ring_wait_all(t.d.r, t.d.r->nr_entries, BLK_OKAY);
    }
    indirect_close(&t);
}

static void test_fewer_offered(void)
{
    Indirect t;

    indirect_open(&t, ",max-indirect-segments=32", &all_options[0]);
    g_assert_cmpint(xs_get_number(t.d.g, t.d.f->be,
                                  "feature-max-indirect-segments", 0), ==, 32);
    g_assert_cmpint(indirect_run(&t, BLK_READ, 0, 32), ==, BLK_OKAY);
    g_assert_cmpint(indirect_run(&t, BLK_READ, 0, 33), ==, BLK_ERROR);
    indirect_close(&t);
}

static void test_none_offered(void)
{
    Indirect t;

    indirect_open(&t, ",max-indirect-segments=0", &all_options[0]);
    g_assert_cmpint(xs_get_number(t.d.g, t.d.f->be,
                                  "feature-max-indirect-segments", 0), ==, 0);
    g_assert_cmpint(indirect_run(&t, BLK_READ, 0, 1), <, BLK_OKAY);
    blk_ring_check(t.d.r, 0);
    indirect_close(&t);
}

/*
 * Bad requests: each of these functions changes a good one of 20 segments
 */

typedef void BadIndirect(Indirect *t, BlkRequest *req);

static void bad_no_segments(Indirect *t, BlkRequest *req)
{
    req->nr_indirect = 0;
}

static void bad_too_many(Indirect *t, BlkRequest *req)
{
    req->nr_indirect = MAX_SEGMENTS + 1;
}

static void bad_most(Indirect *t, BlkRequest *req)
{
    req->nr_indirect = UINT16_MAX;
}

static void bad_nested(Indirect *t, BlkRequest *req)
{
    req->indirect_op = BLK_INDIRECT;
}

static void bad_discard(Indirect *t, BlkRequest *req)
{
    req->indirect_op = BLK_DISCARD;
}

static void bad_flush(Indirect *t, BlkRequest *req)
{
    req->indirect_op = BLK_FLUSH;
}

static void bad_unknown(Indirect *t, BlkRequest *req)
{
    req->indirect_op = 255;
}

static void bad_page_unused(Indirect *t, BlkRequest *req)
{
    req->indirect_refs[0] = 1000;
}

static void bad_page_beyond(Indirect *t, BlkRequest *req)
{
    req->indirect_refs[0] = UINT32_MAX;
}

static void bad_sector_across_end(Indirect *t, BlkRequest *req)
{
    req->sector = XEN_DISK_SECTORS - 8 * 20 + 1;
}

static void bad_sector_wraps(Indirect *t, BlkRequest *req)
{
    req->sector = 1ULL << 55;
}

static void bad_segment_order(Indirect *t, BlkRequest *req)
{
    BlkSegment seg = { .ref = t->b->ref[0], .first = 4, .last = 3 };

    blk_indirect_segment(t->d.g, t->pages, 19, &seg);
}

static void bad_segment_page(Indirect *t, BlkRequest *req)
{
    BlkSegment seg = { .ref = t->b->ref[0], .last = 8 };

    blk_indirect_segment(t->d.g, t->pages, 0, &seg);
}

static void bad_segment_grant(Indirect *t, BlkRequest *req)
{
    BlkSegment seg = { .ref = 1000, .last = 7 };

    blk_indirect_segment(t->d.g, t->pages, 12, &seg);
}

typedef struct BadCase {
    const char *name;
    BadIndirect *bad;
} BadCase;

static const BadCase bad_cases[] = {
    { "no-segments",        bad_no_segments },
    { "too-many",           bad_too_many },
    { "most",               bad_most },
    { "nested",             bad_nested },
    { "discard",            bad_discard },
    { "flush",              bad_flush },
    { "unknown",            bad_unknown },
    { "page-unused",        bad_page_unused },
    { "page-beyond",        bad_page_beyond },
    { "sector-across-end",  bad_sector_across_end },
    { "sector-wraps",       bad_sector_wraps },
    { "segment-order",      bad_segment_order },
    { "segment-page",       bad_segment_page },
    { "segment-grant",      bad_segment_grant },
};

static void test_bad(const void *opaque)
{
    BadIndirect *bad = opaque;
    BlkRequest req;
    Indirect t;
    int i;

    for (i = 0; i < ARRAY_SIZE(all_options); i++) {
        indirect_open(&t, "", &all_options[i]);
        blk_indirect_request(t.d.g, t.pages, t.b, &req, BLK_READ, 0, 20);
        bad(&t, &req);
        g_assert_cmpint(blk_ring_run(t.d.r, &req), ==, BLK_ERROR);
        g_assert_cmpint(indirect_run(&t, BLK_READ, 0, 20), ==, BLK_OKAY);
        blk_indirect_request(t.d.g, t.pages, t.b, &req, BLK_WRITE, 0, 20);
        bad(&t, &req);
        g_assert_cmpint(blk_ring_run(t.d.r, &req), ==, BLK_ERROR);
        blk_ring_check(t.d.r, 0);
        indirect_close(&t);
    }
}

/* The guest may change the page of segments at any time. */
static void test_rewritten(const void *opaque)
{
    XenScribbler s;
    BlkRequest req;
    BlkResponse rsp;
    Indirect t;
    int i, n;

    indirect_open(&t, ",iothread=io0 -object iothread,id=io0", opaque);
    xen_scribbler_start(&s, xen_guest_frame(t.d.g, t.pages->frame[0]),
                        20 * sizeof(uint64_t), NULL);
    for (i = 0; i < 50; i++) {
        for (n = 0; n < t.d.r->nr_entries; n++) {
            blk_indirect_request(t.d.g, t.pages, t.b, &req,
                                 n & 1 ? BLK_READ : BLK_WRITE, 0, 20);
            blk_ring_put(t.d.r, &req);
        }
        blk_ring_push(t.d.r);
        for (n = 0; n < t.d.r->nr_entries; n++) {
            blk_ring_wait(t.d.r, &rsp);
        }
    }
    xen_scribbler_stop(&s);
    g_assert_cmpint(indirect_run(&t, BLK_READ, 0, 20), ==, BLK_OKAY);
    indirect_close(&t);
}

static void add_for_all(const char *name, GTestDataFunc fn)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(all_options); i++) {
        const BlkOptions *o = &all_options[i];
        g_autofree char *path = g_strdup_printf(
            "/xen-disk/indirect/%s/%s/%s", name,
            o->protocol == BLK_X86_32 ? "x86_32" : "x86_64",
            o->persistent ? "persistent" : "plain");

        qtest_add_data_func(path, o, (void *)fn);
    }
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);
    add_for_all("read-write", test_read_write);
    add_for_all("many", test_many);
    add_for_all("rewritten", test_rewritten);
    qtest_add_func("/xen-disk/indirect/fewer-offered", test_fewer_offered);
    qtest_add_func("/xen-disk/indirect/none-offered", test_none_offered);
    for (i = 0; i < ARRAY_SIZE(bad_cases); i++) {
        g_autofree char *path = g_strconcat("/xen-disk/indirect/bad/",
                                            bad_cases[i].name, NULL);

        qtest_add_data_func(path, bad_cases[i].bad, test_bad);
    }
    return g_test_run();
}
