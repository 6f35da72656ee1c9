/*
 * Xen PV disk: reading, writing, flushing, discarding
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "xen-disk-util.h"

static void test_read_write(void)
{
    XenGuest *g = xen_disk_start("");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    BlkOptions options = { .protocol = BLK_X86_64 };
    uint8_t out[8192], in[8192];

    blkfront_connect(f, &options);
    blk_pattern(out, sizeof(out), 1);
    g_assert_cmpint(blk_ring_write(&f->ring[0], 8, out, sizeof(out)), ==, 0);
    g_assert_cmpint(blk_ring_read(&f->ring[0], 8, in, sizeof(in)), ==, 0);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-disk/io/read-write", test_read_write);
    return g_test_run();
}
