/*
 * A disk with several queues, from image to driver
 *
 *     image --- node "disk" --- virtio-blk-pci in slot 0 --- VblkDevice
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "vblk-disk.h"

#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)

static const VblkRing rings[] = {
    { "split", 0, false },
    { "split, event index", EVENT, false },
    { "split, indirect", INDIRECT, true },
    { "split, event index, indirect", EVENT | INDIRECT, true },
    { "packed", PACKED, false },
    { "packed, event index", PACKED | EVENT, false },
    { "packed, indirect", PACKED | INDIRECT, true },
    { "packed, event index, indirect", PACKED | EVENT | INDIRECT, true },
};

VblkDisk vblk_disk_start(const VblkVariant *v, uint64_t size,
                         const char *options, const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = vblk_device_arg(v, 0, all);
    VblkDisk disk;

    disk.image = vblk_image_new(size);
    disk.m = vblk_machine_start(v, VBLK_IOTHREADS "-blockdev driver=raw,"
                                "node-name=disk,file.driver=file,"
                                "file.node-name=file,file.filename=%s%s%s "
                                "-device %s", disk.image, options ? "," : "",
                                options ?: "", arg);
    disk.d = vblk_device_open(disk.m, 0);
    return disk;
}

void vblk_disk_stop(VblkDisk *disk)
{
    vblk_device_close(disk->d);
    vblk_machine_stop(disk->m);
    vblk_image_free(disk->image);
}

VblkMachine *vblk_disk_start_target(const VblkDisk *disk, const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = vblk_device_arg(disk->m->variant, 0, all);

    return vblk_machine_start_target(disk->m, VBLK_IOTHREADS
                                     "-blockdev driver=raw,node-name=disk,"
                                     "file.driver=file,file.node-name=file,"
                                     "file.filename=%s -device %s",
                                     disk->image, arg);
}

void vblk_disk_migrate(VblkDisk *disk, const char *props)
{
    VblkMachine *old = disk->m;

    disk->m = vblk_disk_start_target(disk, props);
    vblk_machine_migrate(old, disk->m);
    vblk_device_move(disk->d, disk->m);
    vblk_machine_stop(old);
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'cont'}");
}

QDict *vblk_disk_queue_info(VblkDisk *disk, unsigned queue)
{
    QDict *rsp = qtest_qmp(disk->m->qts, "{'execute':"
                            " '__org.qemu-mq_query-block-queues',"
                           " 'arguments': {'id': 'disk0'}}");
    QList *list = qdict_get_qlist(rsp, "return");
    const QListEntry *entry;
    QDict *found = NULL;
    unsigned n = 0;

    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (n == queue) {
            found = qobject_ref(info);
        }
        g_assert_cmpint(qdict_get_int(info, "queue"), ==, n++);
    }
    g_assert_cmpuint(n, ==, disk->d->max_queues);
    qobject_unref(rsp);
    return found;
}

void vblk_disk_check_home(VblkDisk *disk, unsigned queue, const char *iothread)
{
    QDict *info = vblk_disk_queue_info(disk, queue);

    g_assert_cmpstr(qdict_get_try_str(info, "iothread"), ==, iothread);
    qobject_unref(info);
}

void vblk_disk_move(VblkDisk *disk, unsigned queue, const char *iothread)
{
    QDict *args = qdict_new();

    qdict_put_str(args, "id", "disk0");
    qdict_put_int(args, "queue", queue);
    if (iothread) {
        qdict_put_str(args, "iothread", iothread);
    }
    qtest_qmp_assert_success(disk->m->qts, "{'execute':"
                             " '__org.qemu-mq_block-queue-set-iothread',"
                             " 'arguments': %p}",
                             args);
}

void vblk_disk_resize(VblkDisk *disk, uint64_t size)
{
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'block_resize',"
                             " 'arguments': {'node-name': 'disk',"
                             " 'size': %" PRIu64 "}}", size);
}

void vblk_disk_for_each_ring(VblkDisk *disk,
                             void (*fn)(VblkDisk *disk, const VblkRing *ring))
{
    for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
        if ((rings[i].features & PACKED) && !disk->d->modern) {
            continue;
        }
        g_test_message("ring: %s", rings[i].name);
        vblk_device_start(disk->d, rings[i].features, VBLK_ALL_QUEUES);
        fn(disk, &rings[i]);
    }
}

void vblk_disk_run_rings(const VblkVariant *v, uint64_t size, const char *props,
                         void (*fn)(VblkDisk *disk, const VblkRing *ring))
{
    VblkDisk disk = vblk_disk_start(v, size, NULL, props);

    vblk_disk_for_each_ring(&disk, fn);
    vblk_disk_stop(&disk);
}
