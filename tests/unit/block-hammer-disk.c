/*
 * The disks that the block-layer hammer works on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/snapshot.h"
#include "block/throttle-groups.h"
#include "crypto/secret.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qom/object.h"
#include "block-hammer-disk.h"

#define FILE_NODE   "{'driver': 'file', 'filename': '@'}"
#define FILE_URING  "{'driver': 'file', 'filename': '@', 'aio': 'io_uring'}"

/* A disk with blocks of 4 KiB: smaller writes read a block and write it back */
#define FILE_4K     "{'driver': 'blkdebug', 'align': 4096, 'image': " \
                    FILE_NODE "}"

#define QCOW2(file, more) \
    "{'driver': 'qcow2', 'file': " file more "}"
#define KEY         "'key-secret': 'hammer-key'"
#define KEY_OPTIONS(of) \
    of "key-secret=hammer-key," of "iter-time=10"

#define OF_QCOW2    (DISK_GROWS | DISK_SNAPSHOTS | DISK_CHECKS)

const DiskKind disk_kinds[] = {
    {
        .name = "raw",
        .format = "raw",
        .node = "{'driver': 'raw', 'file': " FILE_NODE "}",
        .can = DISK_GROWS,
    }, {
        .name = "raw-blocks",
        .format = "raw",
        .node = "{'driver': 'raw', 'file': " FILE_4K "}",
        .can = DISK_GROWS,
    }, {
        .name = "raw-whole-blocks",
        .format = "raw",
        .node = "{'driver': 'raw', 'file': " FILE_4K "}",
        .can = DISK_GROWS,
        .whole_blocks = true,
    },
#ifdef CONFIG_LINUX_IO_URING
    {
        .name = "raw-io_uring",
        .format = "raw",
        .node = "{'driver': 'raw', 'file': " FILE_URING "}",
        .can = DISK_GROWS,
    },
#endif
    {
        .name = "throttled",
        .format = "raw",
        .node = "{'driver': 'throttle', 'throttle-group': 'hammer-limits',"
                " 'file': " FILE_4K "}",
        .can = DISK_GROWS,
    }, {
        .name = "luks",
        .format = "luks",
        .create = KEY_OPTIONS(""),
        .node = "{'driver': 'luks', " KEY ", 'file': " FILE_4K "}",
    }, {
        .name = "qcow2",
        .format = "qcow2",
        .create = "cluster_size=4096",
        .node = QCOW2(FILE_NODE, ""),
        .can = OF_QCOW2,
    }, {
        .name = "qcow2-blocks",
        .format = "qcow2",
        .create = "cluster_size=4096",
        .node = QCOW2(FILE_4K, ""),
        .can = OF_QCOW2,
    }, {
        .name = "qcow2-subclusters",
        .format = "qcow2",
        .create = "cluster_size=16384,extended_l2=on",
        .node = QCOW2(FILE_4K, ""),
        .can = OF_QCOW2,
    }, {
        .name = "qcow2-data-file",
        .format = "qcow2",
        .create = "cluster_size=4096,data_file=@.data",
        .node = QCOW2(FILE_NODE, ", 'data-file': {'driver': 'blkdebug',"
                      " 'align': 4096, 'image': {'driver': 'file',"
                      " 'filename': '@.data'}}"),
        .can = OF_QCOW2 & ~DISK_SNAPSHOTS,
    }, {
        .name = "qcow2-luks",
        .format = "qcow2",
        .create = "cluster_size=4096,encrypt.format=luks,"
                  KEY_OPTIONS("encrypt."),
        .node = QCOW2(FILE_4K, ", 'encrypt': {'format': 'luks', " KEY "}"),
        .can = OF_QCOW2,
    }, {
        .name = "qcow2-backing",
        .format = "qcow2",
        .create = "cluster_size=4096",
        .node = QCOW2(FILE_4K, ""),
        .can = OF_QCOW2,
        .backing = true,
    }, {
        .name = "copy-on-read",
        .format = "qcow2",
        .create = "cluster_size=16384,extended_l2=on",
        .node = "{'driver': 'copy-on-read', 'file': " QCOW2(FILE_4K, "") "}",
        .image = QCOW2(FILE_4K, ""),
        .can = OF_QCOW2,
        .backing = true,
    },
    { }
};

static char *folder;
static Object *key, *limits;

void disks_begin(void)
{
    folder = g_dir_make_tmp("block-hammer-XXXXXX", NULL);
    g_assert(folder);
    key = object_new_with_props(TYPE_QCRYPTO_SECRET, object_get_objects_root(),
                                "hammer-key", &error_abort,
                                "data", "hammer", NULL);
    limits = object_new_with_props(TYPE_THROTTLE_GROUP,
                                   object_get_objects_root(), "hammer-limits",
                                   &error_abort, "x-iops-total", "20000", NULL);
}

void disks_end(void)
{
    object_unparent(key);
    object_unparent(limits);
    g_assert_cmpint(rmdir(folder), ==, 0);
    g_free(folder);
}

static char *path_of(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static char *disk_path(int number, const char *suffix)
{
    g_autofree char *name = g_strdup_printf("disk%d%s", number, suffix);

    return path_of(name);
}

/* @text, which may be NULL, with the path in each place of a '@'. */
static char *with_path(const char *text, int number)
{
    g_autofree char *path = disk_path(number, "");
    g_auto(GStrv) parts = g_strsplit(text ?: "", "@", -1);

    return g_strjoinv(path, parts);
}

void disk_create(const DiskKind *kind, int number, int sectors,
                 const void *base)
{
    g_autofree char *path = disk_path(number, "");
    g_autofree char *backing = disk_path(number, ".base");
    g_autofree char *options = with_path(kind->create, number);

    if (kind->backing) {
        g_assert(g_file_set_contents(backing, base, sectors * SECTOR, NULL));
    }
    bdrv_img_create(path, kind->format, kind->backing ? backing : NULL,
                    kind->backing ? "raw" : NULL, options,
                    (uint64_t)sectors * SECTOR, 0, true, &error_abort);
}

BlockDriverState *disk_open(const DiskKind *kind, int number)
{
    g_autofree char *node = with_path(kind->node, number);
    g_autofree char *name = g_strdup_printf("json:%s", node);

    return bdrv_open(name, NULL, NULL,
                     BDRV_O_RDWR | BDRV_O_RESIZE | BDRV_O_UNMAP, &error_abort);
}

BlockDriverState *snapshot_open(const DiskKind *kind, int number,
                                const char *name)
{
    g_autofree char *node = with_path(kind->image ?: kind->node, number);
    g_autofree char *image = g_strdup_printf("json:%s", node);
    QDict *options = qdict_new();
    BlockDriverState *bs;

    qdict_put_str(options, BDRV_OPT_FORCE_SHARE, "on");
    bs = bdrv_open(image, NULL, options, 0, &error_abort);
    g_assert_cmpint(bdrv_snapshot_load_tmp(bs, NULL, name, &error_abort), ==,
                    0);
    return bs;
}

void disk_delete(int number)
{
    static const char *suffixes[] = { "", ".base", ".data" };

    for (int i = 0; i < ARRAY_SIZE(suffixes); i++) {
        g_autofree char *path = disk_path(number, suffixes[i]);

        unlink(path);
    }
}

BlockDriverState *overlay_create(int sectors)
{
    g_autofree char *path = path_of("overlay");
    g_autofree char *size = g_strdup("cluster_size=4096");
    QDict *options = qdict_new();

    bdrv_img_create(path, "qcow2", NULL, NULL, size,
                    (uint64_t)sectors * SECTOR, 0, true, &error_abort);
    qdict_put_str(options, "driver", "qcow2");
    return bdrv_open(path, NULL, options,
                     BDRV_O_RDWR | BDRV_O_UNMAP | BDRV_O_NO_BACKING,
                     &error_abort);
}

void overlay_delete(void)
{
    g_autofree char *path = path_of("overlay");

    unlink(path);
}
