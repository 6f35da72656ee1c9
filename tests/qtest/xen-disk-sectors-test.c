/*
 * Xen PV disk: the size of a sector
 *
 *     key                 unit
 *     sector-size         bytes: the logical block size
 *     sectors             512 bytes        sector-size bytes for a frontend
 *     requests, segments  512 bytes        with feature-large-sector-size=1
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "xen-disk-util.h"

#define BLOCK 4096u
#define SECTORS_PER_BLOCK (BLOCK / BLK_SECTOR)

static const BlkOptions old_units = {
    .protocol = BLK_X86_64, .large_sectors = true,
};

/* A disk with blocks of 4 KiB; each sector of @size holds its own number. */
static XenGuest *start_4k_disk(uint64_t size)
{
    char *image = xen_disk_image(size);
    int fd = open(image, O_WRONLY);
    XenGuest *g;

    g_assert_cmpint(fd, >=, 0);
    for (uint64_t i = 0; i < size / BLK_SECTOR; i++) {
        uint8_t number[8];

        stq_le_p(number, i);
        g_assert_cmpint(pwrite(fd, number, sizeof(number), i * BLK_SECTOR),
                        ==, sizeof(number));
    }
    close(fd);
    g = xen_guest_start(
        "-blockdev file,node-name=file0,filename=%s,discard=unmap,locking=off "
        "-blockdev raw,node-name=disk0,file=file0,discard=unmap "
        "-device xen-disk,id=xvda,vdev=xvda,drive=disk0,"
        "logical_block_size=4096,physical_block_size=4096", image);
    xen_disk_image_drop(image);
    return g;
}

static uint64_t number_at(XenDisk *d, uint64_t sector)
{
    uint8_t buf[BLK_SECTOR] = {};

    g_assert_cmpint(blk_ring_read(d->r, sector, buf, sizeof(buf)), ==,
                    BLK_OKAY);
    return ldq_le_p(buf);
}

/* Linux, GRUB, mini-os, NetBSD, OVMF and blkif.h since 4.20 use these units. */
static void test_512(void)
{
    uint8_t buf[BLOCK] = {};
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(64 * BLOCK), &xen_disk_plain);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sector-size", 0), ==, BLOCK);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==,
                    64 * SECTORS_PER_BLOCK);
    g_assert_cmpint(blk_ring_read(d.r, 5 * SECTORS_PER_BLOCK, buf, BLOCK), ==,
                    BLK_OKAY);
    for (unsigned i = 0; i < SECTORS_PER_BLOCK; i++) {
        g_assert_cmpint(ldq_le_p(buf + i * BLK_SECTOR), ==,
                        5 * SECTORS_PER_BLOCK + i);
    }
    blk_ring_check(d.r, 63 * SECTORS_PER_BLOCK);
    g_assert_cmpint(blk_ring_read(d.r, 64 * SECTORS_PER_BLOCK, buf, BLOCK),
                    ==, BLK_ERROR);
    g_assert_cmpint(blk_ring_read(d.r, 63 * SECTORS_PER_BLOCK + 1, buf, BLOCK),
                    ==, BLK_ERROR);
    xen_disk_close(&d);
}

/* Parts of a block work, because NetBSD's file systems count in 512 bytes. */
static void test_part_of_block(void)
{
    uint8_t buf[BLK_SECTOR];
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(64 * BLOCK), &xen_disk_plain);
    g_assert_cmpint(number_at(&d, 19), ==, 19);
    memset(buf, 0xff, sizeof(buf));
    g_assert_cmpint(blk_ring_write(d.r, 20, buf, sizeof(buf)), ==, BLK_OKAY);
    g_assert_cmphex(number_at(&d, 20), ==, UINT64_MAX);
    g_assert_cmpint(number_at(&d, 19), ==, 19);
    g_assert_cmpint(number_at(&d, 21), ==, 21);
    xen_disk_close(&d);
}

static void test_discard(void)
{
    BlkRequest req = {
        .op = BLK_DISCARD, .sector = SECTORS_PER_BLOCK,
        .nr_sectors = SECTORS_PER_BLOCK,
    };
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(64 * BLOCK), &xen_disk_plain);
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    g_assert_cmpint(number_at(&d, SECTORS_PER_BLOCK - 1), ==,
                    SECTORS_PER_BLOCK - 1);
    g_assert_cmpint(number_at(&d, 2 * SECTORS_PER_BLOCK), ==,
                    2 * SECTORS_PER_BLOCK);
    req.sector = 64 * SECTORS_PER_BLOCK;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    xen_disk_close(&d);
}

/* The Windows driver uses these units. */
static void test_old_units(void)
{
    BlkRequest req = { .op = BLK_READ, .nr_segments = 1, .sector = 63 };
    BlkBuffer *b;
    uint8_t *page;
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(64 * BLOCK), &old_units);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sector-size", 0), ==, BLOCK);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==, 64);
    b = blk_buffer_new(d.g, 1, false);
    page = xen_guest_frame(d.g, b->frame[0]);
    req.seg[0].ref = b->ref[0];
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_OKAY);
    g_assert_cmpint(ldq_le_p(page), ==, 63 * SECTORS_PER_BLOCK);
    g_assert_cmpint(ldq_le_p(page + BLOCK - BLK_SECTOR), ==,
                    64 * SECTORS_PER_BLOCK - 1);
    req.sector = 64;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    req.sector = 0;
    req.seg[0].last = 1;
    g_assert_cmpint(blk_ring_run(d.r, &req), ==, BLK_ERROR);
    xen_disk_close_with(&d, b);
}

/* A boot loader and the system that it loads may disagree. */
static void test_other_units(void)
{
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(64 * BLOCK), &xen_disk_plain);
    for (int i = 0; i < 3; i++) {
        blkfront_disconnect(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &old_units);
        g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==, 64);
        blkfront_disconnect(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, &xen_disk_plain);
        g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==,
                        64 * SECTORS_PER_BLOCK);
        g_assert_cmpint(number_at(&d, 9), ==, 9);
    }
    xen_disk_close(&d);
}

/* Only "1" means it. */
static void test_not_old_units(void)
{
    static const char *const values[] = { "0", "", "yes" };

    for (int i = 0; i < ARRAY_SIZE(values); i++) {
        XenGuest *g = start_4k_disk(2 * BLOCK);
        XenDisk d;

        xs_put(g, "/local/domain/1/device/vbd/51712",
               "feature-large-sector-size", "%s", values[i]);
        xen_disk_connect(&d, g, &xen_disk_plain);
        g_assert_cmpint(xs_get_number(g, d.f->be, "sectors", 0), ==,
                        2 * SECTORS_PER_BLOCK);
        xen_disk_close(&d);
    }
}

static void check_resize(const BlkOptions *options, unsigned per_block)
{
    g_autofree char *sectors = g_strdup_printf("%u", 10 * per_block);
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(8 * BLOCK), options);
    qtest_qmp_assert_success(d.g->qts,
                             "{ 'execute': 'block_resize', 'arguments':"
                             "  { 'node-name': 'disk0', 'size': %" PRId64 "}}",
                             (int64_t)(10 * BLOCK + 7 * BLK_SECTOR));
    xs_wait_value(d.g, d.f->be, "sectors", sectors);
    xen_disk_close(&d);
}

static void test_resize(void)
{
    check_resize(&xen_disk_plain, SECTORS_PER_BLOCK);
    check_resize(&old_units, 1);
}

/* A last part of a block is no sector that anybody may count on. */
static void test_odd_size(void)
{
    uint8_t buf[BLK_SECTOR];
    XenDisk d;

    xen_disk_connect(&d, start_4k_disk(2 * BLOCK + 3 * BLK_SECTOR),
                     &xen_disk_plain);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==,
                    2 * SECTORS_PER_BLOCK);
    g_assert_cmpint(number_at(&d, 2 * SECTORS_PER_BLOCK - 1), ==,
                    2 * SECTORS_PER_BLOCK - 1);
    g_assert_cmpint(blk_ring_read(d.r, 2 * SECTORS_PER_BLOCK, buf,
                                  sizeof(buf)), ==, BLK_ERROR);
    blkfront_disconnect(d.f);
    blkfront_reset(d.f);
    blkfront_connect(d.f, &old_units);
    g_assert_cmpint(xs_get_number(d.g, d.f->be, "sectors", 0), ==, 2);
    xen_disk_close(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-disk/sectors/512", test_512);
    qtest_add_func("/xen-disk/sectors/part-of-block", test_part_of_block);
    qtest_add_func("/xen-disk/sectors/discard", test_discard);
    qtest_add_func("/xen-disk/sectors/old-units", test_old_units);
    qtest_add_func("/xen-disk/sectors/other-units", test_other_units);
    qtest_add_func("/xen-disk/sectors/not-old-units", test_not_old_units);
    qtest_add_func("/xen-disk/sectors/resize", test_resize);
    qtest_add_func("/xen-disk/sectors/odd-size", test_odd_size);
    return g_test_run();
}
