/*
 * A write of less than a block, to a block that cannot be read
 *
 * The block layer reads the block, changes a part of it and writes it back.
 * Without the rest of the block there is nothing to write.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "stepped-disk.h"

static void test_write(void)
{
    static const uint8_t data[SECTOR] = { 1 };
    BlockBackend *blk = disk_open(DISK_BYTES);

    disk->fail_reads = true;
    g_assert_cmpint(blk_pwrite(blk, SECTOR, SECTOR, data, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite_zeroes(blk, SECTOR, SECTOR, 0), ==, -EIO);
    g_assert_cmpint(disk->steps[STEP_WRITE], ==, 0);
    g_assert_cmpint(disk->steps[STEP_ZERO], ==, 0);
    disk_close(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/unreadable-block/write", test_write);
    return g_test_run();
}
