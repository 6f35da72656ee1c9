/*
 * A VM state in a qcow2 image whose disk gets another size
 *
 *      L1 entry    0            1           2           3
 *                  [   disk    ][ VM state ]
 *      grown       [         disk         ][ VM state' ]
 *      shrunk      [ d ]
 *
 * The VM state lies behind the disk, where the first table after the disk
 * begins.  What was loaded must neither become data of the disk nor leak, and
 * a snapshot keeps its own.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "memory-disk.h"

#define CLUSTER         4096
#define TABLE_BYTES     (512 * CLUSTER)
#define DISK_BYTES      (2 * TABLE_BYTES)
#define STATE_BYTES     (3 * CLUSTER + 512)

static const char *const options[] = {
    "cluster_size=4096", "cluster_size=4096,compat=0.10",
    "cluster_size=4096,lazy_refcounts=on",
};

static BlockBackend *image_new(const char *option)
{
    BlockBackend *blk;
    g_autofree char *buf = g_strnfill(CLUSTER, 'd');

    memory_disk_open(option, DISK_BYTES);
    blk = memory_disk_blk(128);
    g_assert_cmpint(blk_pwrite(blk, 0, CLUSTER, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite(blk, DISK_BYTES - CLUSTER, CLUSTER, buf, 0), ==,
                    0);
    return blk;
}

static void image_free(BlockBackend *blk)
{
    blk_unref(blk);
    memory_disk_close();
}

static void save_state(BlockBackend *blk, char value)
{
    g_autofree char *buf = g_strnfill(STATE_BYTES, value);

    g_assert_cmpint(blk_save_vmstate(blk, (uint8_t *)buf, 0, STATE_BYTES), ==,
                    STATE_BYTES);
}

static void check_state(BlockBackend *blk, char value)
{
    g_autofree char *buf = g_malloc(STATE_BYTES);

    g_assert_cmpint(blk_load_vmstate(blk, (uint8_t *)buf, 0, STATE_BYTES), ==,
                    STATE_BYTES);
    for (unsigned i = 0; i < STATE_BYTES; i++) {
        g_assert_cmpint(buf[i], ==, value);
    }
}

static void snapshot_create(BlockBackend *blk)
{
    QEMUSnapshotInfo info = {
        .name = "snapshot", .vm_state_size = STATE_BYTES,
    };

    bdrv_graph_rdlock_main_loop();
    g_assert_cmpint(bdrv_snapshot_create(blk_bs(blk), &info), >=, 0);
    bdrv_graph_rdunlock_main_loop();
}

static void snapshot_goto(BlockBackend *blk)
{
    bdrv_snapshot_goto(blk_bs(blk), "snapshot", &error_abort);
}

static void snapshot_delete(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    bdrv_drained_begin(bs);
    bdrv_graph_rdlock_main_loop();
    bdrv_snapshot_delete(bs, NULL, "snapshot", &error_abort);
    bdrv_graph_rdunlock_main_loop();
    bdrv_drained_end(bs);
}

static void resize(BlockBackend *blk, int64_t bytes)
{
    blk_truncate(blk, bytes, true, PREALLOC_MODE_OFF, 0, &error_abort);
}

static void check_image(BlockBackend *blk)
{
    BdrvCheckResult result = {};

    g_assert_cmpint(bdrv_check(blk_bs(blk), &result, 0), ==, 0);
    g_assert_cmpint(result.corruptions, ==, 0);
    g_assert_cmpint(result.leaks, ==, 0);
    g_assert_cmpint(result.check_errors, ==, 0);
}

/* Return whether all bytes from @offset to @end read as zeroes. */
static bool is_zero(BlockBackend *blk, int64_t offset, int64_t end)
{
    g_autofree char *buf = g_malloc(end - offset);

    g_assert_cmpint(blk_pread(blk, offset, end - offset, buf, 0), ==, 0);
    return buffer_is_zero(buf, end - offset);
}

/* Save, load and delete a snapshot: the state stays in the active tables. */
static BlockBackend *image_new_loaded(const char *option)
{
    BlockBackend *blk = image_new(option);

    save_state(blk, 's');
    snapshot_create(blk);
    snapshot_goto(blk);
    check_state(blk, 's');
    snapshot_delete(blk);
    return blk;
}

static void test_grow(const void *option)
{
    BlockBackend *blk = image_new_loaded(option);

    resize(blk, 2 * DISK_BYTES);
    g_assert_true(is_zero(blk, DISK_BYTES, 2 * DISK_BYTES));
    g_assert_false(is_zero(blk, DISK_BYTES - CLUSTER, DISK_BYTES));
    check_image(blk);
    image_free(blk);
}

static void test_grow_a_little(const void *option)
{
    BlockBackend *blk = image_new_loaded(option);

    resize(blk, DISK_BYTES + CLUSTER);
    g_assert_true(is_zero(blk, DISK_BYTES, DISK_BYTES + CLUSTER));
    check_image(blk);

    /* The place of the next one is another. */
    save_state(blk, 't');
    g_assert_true(is_zero(blk, DISK_BYTES, DISK_BYTES + CLUSTER));
    resize(blk, 2 * DISK_BYTES);
    g_assert_true(is_zero(blk, DISK_BYTES, 2 * DISK_BYTES));
    check_image(blk);
    image_free(blk);
}

static void test_shrink(const void *option)
{
    BlockBackend *blk = image_new_loaded(option);

    resize(blk, CLUSTER);
    g_assert_false(is_zero(blk, 0, CLUSTER));
    check_image(blk);
    resize(blk, 2 * DISK_BYTES);
    g_assert_true(is_zero(blk, CLUSTER, 2 * DISK_BYTES));
    check_image(blk);
    image_free(blk);
}

/* A snapshot that is there has its VM state whatever the disk's size is. */
static void test_kept(void)
{
    static const int64_t sizes[] = {
        2 * DISK_BYTES, CLUSTER, DISK_BYTES - CLUSTER,
    };
    BlockBackend *blk = image_new(options[0]);

    save_state(blk, 's');
    snapshot_create(blk);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        snapshot_goto(blk);
        check_state(blk, 's');
        g_assert_cmpint(blk_getlength(blk), ==, DISK_BYTES);
        resize(blk, sizes[i]);
        check_image(blk);
    }
    snapshot_delete(blk);
    check_image(blk);
    image_free(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
        g_autofree char *grow = g_strdup_printf("/qcow2-vm-state/grow/%s",
                                                options[i]);
        g_autofree char *little = g_strdup_printf("/qcow2-vm-state/grow-"
                                                  "a-little/%s", options[i]);
        g_autofree char *shrink = g_strdup_printf("/qcow2-vm-state/shrink/%s",
                                                  options[i]);

        g_test_add_data_func(grow, options[i], test_grow);
        g_test_add_data_func(little, options[i], test_grow_a_little);
        g_test_add_data_func(shrink, options[i], test_shrink);
    }
    g_test_add_func("/qcow2-vm-state/kept", test_kept);
    return g_test_run();
}
