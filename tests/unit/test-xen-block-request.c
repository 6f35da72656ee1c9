/*
 * Unit tests: Xen PV disk requests in three layouts
 *
 * Every case is written through the layout's own C structure and read back by
 * the code under test, which knows offsets only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "hw/block/xen_blkif.h"
#include "../../hw/block/xen-block-request.h"

#define DISK_SECTORS 1000

static const XenBlkifProtocol protocols[] = {
    XEN_BLKIF_NATIVE, XEN_BLKIF_X86_32, XEN_BLKIF_X86_64,
};

static XenBlkifLimits limits;

/* A slot, as a frontend's page holds it: 4-byte aligned and no more. */
static uint32_t slot[64];

static void limits_reset(void)
{
    limits = (XenBlkifLimits) {
        .nr_sectors = DISK_SECTORS,
        .sector_size = 512,
        .max_indirect = XEN_BLKIF_MAX_INDIRECT_SEGS,
        .barriers = true,
    };
}

/* Fill in the fields of @type that have the same name in every layout. */
#define FILL(type, from)                                                \
    do {                                                                \
        type r = {                                                      \
            .operation = (from)->operation,                             \
            .nr_segments = (from)->nr_segments,                         \
            .handle = 7,                                                \
            .id = (from)->id,                                           \
            .sector_number = (from)->sector_number,                     \
        };                                                              \
        memcpy(r.seg, (from)->seg, sizeof(r.seg));                      \
        memcpy(slot, &r, sizeof(r));                                    \
    } while (0)

static XenBlkifFault decode(XenBlkifProtocol p, const blkif_request_t *from,
                            XenBlkifRequest *req, XenBlkifSegment *segs)
{
    memset(slot, 0xee, sizeof(slot));
    switch (p) {
    case XEN_BLKIF_NATIVE:
        FILL(blkif_request_t, from);
        break;
    case XEN_BLKIF_X86_32:
        FILL(blkif_x86_32_request_t, from);
        break;
    case XEN_BLKIF_X86_64:
        FILL(blkif_x86_64_request_t, from);
        break;
    }
    return xen_blkif_decode(xen_blkif_layout(p), slot, &limits, req, segs);
}

static void expect(const blkif_request_t *from, XenBlkifFault fault)
{
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        XenBlkifSegment segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
        XenBlkifRequest req;

        g_assert_cmpint(decode(protocols[i], from, &req, segs), ==, fault);
        /* The answer needs these whatever the fault. */
        g_assert_cmphex(req.id, ==, from->id);
        g_assert_cmpint(req.operation, ==, from->operation);
    }
}

static blkif_request_t make(uint8_t op, uint8_t nr_segs, uint64_t sector)
{
    blkif_request_t r = {
        .operation = op,
        .nr_segments = nr_segs,
        .id = 0x123456789abcdef0ULL,
        .sector_number = sector,
    };

    for (int i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++) {
        r.seg[i].gref = 0xc0de0000 + i;
        r.seg[i].first_sect = 0;
        r.seg[i].last_sect = 7;
    }
    return r;
}

static void test_ring_size(void)
{
    g_assert_cmpint(xen_blkif_layout(XEN_BLKIF_X86_32)->slot_size, ==, 108);
    g_assert_cmpint(xen_blkif_layout(XEN_BLKIF_X86_64)->slot_size, ==, 112);
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        const XenBlkifLayout *layout = xen_blkif_layout(protocols[i]);

        for (int order = 0; order <= 4; order++) {
            g_assert_cmpint(xen_blkif_ring_size(layout, 1 << order), ==,
                            32 << order);
        }
    }
}

static void test_read_write(void)
{
    static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE };

    limits_reset();
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        for (size_t o = 0; o < ARRAY_SIZE(ops); o++) {
            blkif_request_t from = make(ops[o], 11, 900);
            XenBlkifSegment segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
            XenBlkifRequest req;

            from.seg[3].first_sect = 2;
            from.seg[3].last_sect = 2;
            g_assert_cmpint(decode(protocols[i], &from, &req, segs), ==,
                            XEN_BLKIF_OK);
            g_assert_cmpint(req.action, ==, ops[o]);
            g_assert_cmphex(req.id, ==, from.id);
            g_assert_cmpint(req.sector, ==, 900);
            g_assert_cmpint(req.nr_segs, ==, 11);
            g_assert_cmpint(req.nr_indirect, ==, 0);
            g_assert_cmpint(req.bytes, ==, 10 * 4096 + 512);
            for (int s = 0; s < 11; s++) {
                g_assert_cmphex(segs[s].gref, ==, 0xc0de0000 + s);
                g_assert_cmpint(segs[s].offset, ==, s == 3 ? 1024 : 0);
                g_assert_cmpint(segs[s].len, ==, s == 3 ? 512 : 4096);
            }
        }
    }
}

static void test_bad_segments(void)
{
    blkif_request_t r;

    limits_reset();
    r = make(BLKIF_OP_READ, 12, 0);
    expect(&r, XEN_BLKIF_TOO_MANY_SEGMENTS);
    r = make(BLKIF_OP_WRITE, 255, 0);
    expect(&r, XEN_BLKIF_TOO_MANY_SEGMENTS);

    r = make(BLKIF_OP_READ, 2, 0);
    r.seg[1].first_sect = 5;
    r.seg[1].last_sect = 4;
    expect(&r, XEN_BLKIF_SEGMENT_BACKWARDS);

    r = make(BLKIF_OP_WRITE, 1, 0);
    r.seg[0].last_sect = 8;
    expect(&r, XEN_BLKIF_SEGMENT_BEYOND_PAGE);
    r.seg[0].first_sect = 255;
    r.seg[0].last_sect = 255;
    expect(&r, XEN_BLKIF_SEGMENT_BEYOND_PAGE);

    /* A segment that is not part of the request may hold anything. */
    r = make(BLKIF_OP_READ, 1, 0);
    r.seg[1].first_sect = 9;
    expect(&r, XEN_BLKIF_OK);

    r = make(BLKIF_OP_READ, 0, 0);
    expect(&r, XEN_BLKIF_OK);
}

static void test_range(void)
{
    blkif_request_t r;

    limits_reset();
    r = make(BLKIF_OP_READ, 1, DISK_SECTORS - 8);
    expect(&r, XEN_BLKIF_OK);
    r = make(BLKIF_OP_READ, 1, DISK_SECTORS - 7);
    expect(&r, XEN_BLKIF_BEYOND_END);
    r = make(BLKIF_OP_WRITE, 1, UINT64_MAX);
    expect(&r, XEN_BLKIF_BEYOND_END);
    r = make(BLKIF_OP_WRITE, 1, UINT64_MAX - 7);
    expect(&r, XEN_BLKIF_BEYOND_END);
    r = make(BLKIF_OP_WRITE, 1, INT64_MAX / 512);
    expect(&r, XEN_BLKIF_BEYOND_END);
    r = make(BLKIF_OP_READ, 0, DISK_SECTORS + 1);
    expect(&r, XEN_BLKIF_BEYOND_END);

    limits.nr_sectors = 2 * DISK_SECTORS;
    r = make(BLKIF_OP_READ, 1, DISK_SECTORS);
    expect(&r, XEN_BLKIF_OK);
}

static void test_large_sectors(void)
{
    blkif_request_t r = make(BLKIF_OP_READ, 1, 0);
    XenBlkifSegment segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    XenBlkifRequest req;

    limits_reset();
    limits.sector_size = 4096;
    expect(&r, XEN_BLKIF_SEGMENT_BEYOND_PAGE);

    r.seg[0].last_sect = 0;
    r.sector_number = DISK_SECTORS - 1;
    expect(&r, XEN_BLKIF_OK);
    decode(XEN_BLKIF_X86_64, &r, &req, segs);
    g_assert_cmpint(req.bytes, ==, 4096);
    g_assert_cmpint(segs[0].len, ==, 4096);
    r.sector_number = DISK_SECTORS;
    expect(&r, XEN_BLKIF_BEYOND_END);

    /* No segment can hold a sector that is larger than a page. */
    limits.sector_size = 8192;
    r.sector_number = 0;
    expect(&r, XEN_BLKIF_SEGMENT_BEYOND_PAGE);
}

static void test_operations(void)
{
    blkif_request_t r;

    limits_reset();
    r = make(BLKIF_OP_FLUSH_DISKCACHE, 0, UINT64_MAX);
    expect(&r, XEN_BLKIF_OK);
    r = make(BLKIF_OP_FLUSH_DISKCACHE, 1, DISK_SECTORS);
    expect(&r, XEN_BLKIF_BEYOND_END);
    r = make(BLKIF_OP_WRITE_BARRIER, 0, 0);
    expect(&r, XEN_BLKIF_OK);
    r = make(BLKIF_OP_RESERVED_1, 1, 0);
    expect(&r, XEN_BLKIF_UNKNOWN_OPERATION);
    r = make(7, 1, 0);
    expect(&r, XEN_BLKIF_UNKNOWN_OPERATION);
    r = make(255, 0, 0);
    expect(&r, XEN_BLKIF_UNKNOWN_OPERATION);

    limits.barriers = false;
    r = make(BLKIF_OP_WRITE_BARRIER, 1, 0);
    expect(&r, XEN_BLKIF_NOT_OFFERED);
    g_assert_cmpint(xen_blkif_fault_status(XEN_BLKIF_NOT_OFFERED), ==,
                    BLKIF_RSP_EOPNOTSUPP);
    g_assert_cmpint(xen_blkif_fault_status(XEN_BLKIF_UNKNOWN_OPERATION), ==,
                    BLKIF_RSP_ERROR);

    limits_reset();
    limits.read_only = true;
    r = make(BLKIF_OP_READ, 1, 0);
    expect(&r, XEN_BLKIF_OK);
    r = make(BLKIF_OP_WRITE, 1, 0);
    expect(&r, XEN_BLKIF_READ_ONLY);
    r = make(BLKIF_OP_WRITE, 0, 0);
    expect(&r, XEN_BLKIF_READ_ONLY);
    r = make(BLKIF_OP_FLUSH_DISKCACHE, 0, 0);
    expect(&r, XEN_BLKIF_OK);
    r = make(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
    expect(&r, XEN_BLKIF_READ_ONLY);
    r = make(BLKIF_OP_WRITE_BARRIER, 1, 0);
    expect(&r, XEN_BLKIF_READ_ONLY);
}

static XenBlkifFault decode_discard(XenBlkifProtocol p, uint64_t sector,
                                    uint64_t nr, XenBlkifRequest *req)
{
    XenBlkifSegment segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    blkif_request_discard_t native = {
        .operation = BLKIF_OP_DISCARD, .flag = BLKIF_DISCARD_SECURE,
        .id = 5, .sector_number = sector, .nr_sectors = nr,
    };
    struct blkif_x86_32_request_discard x86_32 = {
        .operation = BLKIF_OP_DISCARD, .flag = BLKIF_DISCARD_SECURE,
        .id = 5, .sector_number = sector, .nr_sectors = nr,
    };

    memset(slot, 0xee, sizeof(slot));
    if (p == XEN_BLKIF_X86_32) {
        memcpy(slot, &x86_32, sizeof(x86_32));
    } else {
        memcpy(slot, &native, sizeof(native));
    }
    return xen_blkif_decode(xen_blkif_layout(p), slot, &limits, req, segs);
}

static void test_discard(void)
{
    limits_reset();
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        XenBlkifProtocol p = protocols[i];
        XenBlkifRequest req;

        g_assert_cmpint(decode_discard(p, 10, DISK_SECTORS - 10, &req), ==,
                        XEN_BLKIF_OK);
        g_assert_cmpint(req.action, ==, XEN_BLKIF_DISCARD);
        g_assert_cmpint(req.id, ==, 5);
        g_assert_cmpint(req.sector, ==, 10);
        g_assert_cmpint(req.bytes, ==, (DISK_SECTORS - 10) * 512);
        g_assert_cmpint(req.nr_segs, ==, 0);

        g_assert_cmpint(decode_discard(p, 10, DISK_SECTORS - 9, &req), ==,
                        XEN_BLKIF_BEYOND_END);
        g_assert_cmpint(decode_discard(p, 2, UINT64_MAX, &req), ==,
                        XEN_BLKIF_BEYOND_END);
        g_assert_cmpint(decode_discard(p, UINT64_MAX, 2, &req), ==,
                        XEN_BLKIF_BEYOND_END);

        limits.read_only = true;
        g_assert_cmpint(decode_discard(p, 0, 1, &req), ==,
                        XEN_BLKIF_READ_ONLY);
        limits.read_only = false;
    }
}

static XenBlkifFault decode_indirect(XenBlkifProtocol p, uint8_t op,
                                     uint16_t nr_segs, XenBlkifRequest *req)
{
    const XenBlkifLayout *layout = xen_blkif_layout(p);
    XenBlkifSegment segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    uint8_t *s = (uint8_t *)slot;

    memset(slot, 0xee, sizeof(slot));
    s[0] = BLKIF_OP_INDIRECT;
    s[1] = op;
    stw_he_p(s + 2, nr_segs);
    if (p == XEN_BLKIF_X86_32) {
        /* blkif.h's structure with 64-bit fields aligned to 4 */
        stq_he_p(s + 4, 99);
        stq_he_p(s + 12, 64);
        stl_he_p(s + 24, 0xabcd);
    } else {
        blkif_request_indirect_t r = {
            .operation = BLKIF_OP_INDIRECT, .indirect_op = op,
            .nr_segments = nr_segs, .id = 99, .sector_number = 64,
            .indirect_grefs = { 0xabcd },
        };
        memcpy(slot, &r, sizeof(r));
    }
    return xen_blkif_decode(layout, slot, &limits, req, segs);
}

static void test_indirect(void)
{
    g_autofree struct blkif_request_segment *page =
        g_new0(struct blkif_request_segment, XEN_BLKIF_SEGS_PER_PAGE);
    g_autofree XenBlkifSegment *segs = g_new0(XenBlkifSegment, 256);
    const void *pages[] = { page };

    limits_reset();
    limits.nr_sectors = 64 + 256 * 8;
    for (int i = 0; i < 256; i++) {
        page[i] = (struct blkif_request_segment) {
            .gref = i * 3, .first_sect = 0, .last_sect = 7,
        };
    }
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        XenBlkifProtocol p = protocols[i];
        XenBlkifRequest req;

        g_assert_cmpint(decode_indirect(p, BLKIF_OP_WRITE, 256, &req), ==,
                        XEN_BLKIF_OK);
        g_assert_cmpint(req.action, ==, XEN_BLKIF_WRITE);
        g_assert_cmpint(req.operation, ==, BLKIF_OP_WRITE);
        g_assert_cmpint(req.id, ==, 99);
        g_assert_cmpint(req.sector, ==, 64);
        g_assert_cmpint(req.nr_indirect, ==, 1);
        g_assert_cmphex(req.indirect_grefs[0], ==, 0xabcd);
        g_assert_cmpint(xen_blkif_decode_indirect(pages, &limits, &req, segs),
                        ==, XEN_BLKIF_OK);
        g_assert_cmpint(req.bytes, ==, 256 * 4096);
        g_assert_cmpint(segs[255].gref, ==, 255 * 3);
    }
}

static void test_bad_indirect(void)
{
    g_autofree struct blkif_request_segment *page =
        g_new0(struct blkif_request_segment, XEN_BLKIF_SEGS_PER_PAGE);
    XenBlkifSegment segs[2];
    const void *pages[] = { page };
    XenBlkifProtocol p = XEN_BLKIF_X86_64;
    XenBlkifRequest req;

    limits_reset();
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_READ, 0, &req), ==,
                    XEN_BLKIF_NO_SEGMENTS);
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_READ, 257, &req), ==,
                    XEN_BLKIF_TOO_MANY_SEGMENTS);
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_READ, 65535, &req), ==,
                    XEN_BLKIF_TOO_MANY_SEGMENTS);
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_INDIRECT, 1, &req), ==,
                    XEN_BLKIF_BAD_INDIRECT_OPERATION);
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_DISCARD, 1, &req), ==,
                    XEN_BLKIF_BAD_INDIRECT_OPERATION);

    g_assert_cmpint(decode_indirect(p, BLKIF_OP_READ, 2, &req), ==,
                    XEN_BLKIF_OK);
    page[1].first_sect = 1;
    g_assert_cmpint(xen_blkif_decode_indirect(pages, &limits, &req, segs), ==,
                    XEN_BLKIF_SEGMENT_BACKWARDS);
    page[1].last_sect = 8;
    req.bytes = 0;
    g_assert_cmpint(xen_blkif_decode_indirect(pages, &limits, &req, segs), ==,
                    XEN_BLKIF_SEGMENT_BEYOND_PAGE);
    page[1].last_sect = 7;
    req.bytes = 0;
    limits.nr_sectors = 65;
    g_assert_cmpint(xen_blkif_decode_indirect(pages, &limits, &req, segs), ==,
                    XEN_BLKIF_BEYOND_END);

    limits.read_only = true;
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_WRITE, 1, &req), ==,
                    XEN_BLKIF_READ_ONLY);
    limits.max_indirect = 0;
    g_assert_cmpint(decode_indirect(p, BLKIF_OP_READ, 1, &req), ==,
                    XEN_BLKIF_NOT_OFFERED);
}

static void test_response(void)
{
    XenBlkifRequest req = { .id = 0x1122334455667788ULL, .operation = 3 };
    blkif_x86_32_response_t x86_32;
    blkif_response_t native;

    memset(slot, 0xee, sizeof(slot));
    xen_blkif_encode_response(slot, &req, BLKIF_RSP_EOPNOTSUPP);
    memcpy(&x86_32, slot, sizeof(x86_32));
    memcpy(&native, slot, sizeof(native));
    g_assert_cmphex(x86_32.id, ==, req.id);
    g_assert_cmpint(x86_32.operation, ==, 3);
    g_assert_cmpint(x86_32.status, ==, BLKIF_RSP_EOPNOTSUPP);
    g_assert_cmphex(native.id, ==, req.id);
    g_assert_cmpint(native.operation, ==, 3);
    g_assert_cmpint(native.status, ==, BLKIF_RSP_EOPNOTSUPP);
    /* A response must not spill over the 12 bytes that x86_32 has for it. */
    g_assert_cmphex(slot[3], ==, 0xeeeeeeee);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-block-request/ring-size", test_ring_size);
    g_test_add_func("/xen-block-request/read-write", test_read_write);
    g_test_add_func("/xen-block-request/bad-segments", test_bad_segments);
    g_test_add_func("/xen-block-request/range", test_range);
    g_test_add_func("/xen-block-request/large-sectors", test_large_sectors);
    g_test_add_func("/xen-block-request/operations", test_operations);
    g_test_add_func("/xen-block-request/discard", test_discard);
    g_test_add_func("/xen-block-request/indirect", test_indirect);
    g_test_add_func("/xen-block-request/bad-indirect", test_bad_indirect);
    g_test_add_func("/xen-block-request/response", test_response);
    return g_test_run();
}
