/*
 * A disk with several queues, from image to driver
 *
 *     image --- node "disk" --- virtio-blk-pci in slot 0 --- MqDevice
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "mq-disk.h"

#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)

static const MqRing rings[] = {
    { "split", 0, false },
    { "split, event index", EVENT, false },
    { "split, indirect", INDIRECT, true },
    { "split, event index, indirect", EVENT | INDIRECT, true },
    { "packed", PACKED, false },
    { "packed, event index", PACKED | EVENT, false },
    { "packed, indirect", PACKED | INDIRECT, true },
    { "packed, event index, indirect", PACKED | EVENT | INDIRECT, true },
};

MqDisk mq_disk_start(const MqVariant *v, uint64_t size, const char *options,
                     const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = mq_device_arg(v, 0, all);
    MqDisk disk;

    disk.image = mq_image_new(size);
    disk.m = mq_machine_start(v, MQ_IOTHREADS "-blockdev driver=raw,"
                              "node-name=disk,file.driver=file,"
                              "file.node-name=file,file.filename=%s%s%s "
                              "-device %s", disk.image, options ? "," : "",
                              options ?: "", arg);
    disk.d = mq_device_open(disk.m, 0);
    return disk;
}

void mq_disk_stop(MqDisk *disk)
{
    mq_device_close(disk->d);
    mq_machine_stop(disk->m);
    mq_image_free(disk->image);
}

QDict *mq_disk_queue_info(MqDisk *disk, unsigned queue)
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

void mq_disk_check_home(MqDisk *disk, unsigned queue, const char *iothread)
{
    QDict *info = mq_disk_queue_info(disk, queue);

    g_assert_cmpstr(qdict_get_try_str(info, "iothread"), ==, iothread);
    qobject_unref(info);
}

void mq_disk_move(MqDisk *disk, unsigned queue, const char *iothread)
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

void mq_disk_resize(MqDisk *disk, uint64_t size)
{
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'block_resize',"
                             " 'arguments': {'node-name': 'disk',"
                             " 'size': %" PRIu64 "}}", size);
}

void mq_disk_for_each_ring(MqDisk *disk,
                           void (*fn)(MqDisk *disk, const MqRing *ring))
{
    for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
        if ((rings[i].features & PACKED) && !disk->d->modern) {
            continue;
        }
        g_test_message("ring: %s", rings[i].name);
        mq_device_start(disk->d, rings[i].features, MQ_ALL_QUEUES);
        fn(disk, &rings[i]);
    }
}

void mq_disk_run_rings(const MqVariant *v, uint64_t size, const char *props,
                       void (*fn)(MqDisk *disk, const MqRing *ring))
{
    MqDisk disk = mq_disk_start(v, size, NULL, props);

    mq_disk_for_each_ring(&disk, fn);
    mq_disk_stop(&disk);
}
