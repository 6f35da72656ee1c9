/*
 * Queues of block devices, as QMP and HMP see them
 *
 * A user names the device that -device ...,id=disk0 has made.  With virtio that
 * is the transport's proxy, and the queues belong to the child of the proxy.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-queue.h"
#include "qobject/qdict.h"
#include "hw/block/block-queue-device.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qemu/module.h"

/* The device itself, or the only child of it that has queues. */
static int find_queues(Object *obj, void *opaque)
{
    Object **found = opaque;

    if (object_dynamic_cast(obj, TYPE_BLOCK_QUEUE_DEVICE_IF)) {
        *found = obj;
        return 1;
    }
    return 0;
}

static Object *device_by_id(const char *id, Error **errp)
{
    ERRP_GUARD();
    Object *obj = NULL, *found = NULL;

    if (id[0] == '/') {
        obj = object_resolve_path_type(id, TYPE_DEVICE, NULL);
    } else {
        obj = object_resolve_path_component(
            object_resolve_path("/machine/peripheral", NULL), id);
    }
    if (!obj) {
        error_setg(errp, "Device '%s' not found", id);
        return NULL;
    }
    if (!find_queues(obj, &found)) {
        object_child_foreach(obj, find_queues, &found);
    }
    if (!found) {
        error_setg(errp, "Device '%s' is not a block device with queues", id);
        error_append_hint(errp, "virtio-blk and the Xen PV disk have them; "
                          "see __org.qemu-mq_query-block-queues.\n");
        return NULL;
    }
    return found;
}

static BlockQueueDevice *get_device(Object *obj)
{
    return BLOCK_QUEUE_DEVICE_IF_GET_CLASS(obj)->get_device(
        BLOCK_QUEUE_DEVICE_IF(obj));
}

static int list_queues(Object *obj, void *opaque)
{
    BlockQueueInfoList ***tail = opaque;
    BlockQueueDeviceIfClass *k;
    BlockQueueDevice *device;

    if (!object_dynamic_cast(obj, TYPE_BLOCK_QUEUE_DEVICE_IF)) {
        return 0;
    }
    device = get_device(obj);
    k = BLOCK_QUEUE_DEVICE_IF_GET_CLASS(obj);
    /* The list has all queues of the device, even if the driver uses fewer. */
    for (unsigned i = 0; i < device->map.num_queues; i++) {
        BlockQueue *queue = i < device->num_queues
                            ? block_queue_device_get(device, i) : NULL;
        IOThread *iothread = k->get_iothread(device, i);
        const BlockQueueStats none = {};
        const BlockQueueStats *stats = queue ? &queue->stats : &none;
        BlockQueueInfo *info = g_new0(BlockQueueInfo, 1);

        info->qom_path = object_get_canonical_path(obj);
        info->id = g_strdup(block_queue_device_id(device->dev));
        info->queue = i;
        if (iothread) {
            /* NULL if the user has deleted it, which the queue outlives. */
            info->iothread = iothread_get_id(iothread);
            info->has_thread_id = true;
            info->thread_id = iothread->thread_id;
        }
        info->requests = qatomic_read(&stats->requests);
        info->batches = qatomic_read(&stats->batches);
        info->notifications = qatomic_read(&stats->notifications);
        QAPI_LIST_APPEND(*tail, info);
    }
    return 0;
}

BlockQueueInfoList *qmp___org_qemu_mq_query_block_queues(const char *id,
                                                         Error **errp)
{
    BlockQueueInfoList *head = NULL, **tail = &head;

    if (id) {
        Object *obj = device_by_id(id, errp);

        if (obj) {
            list_queues(obj, &tail);
        }
    } else {
        object_child_foreach_recursive(object_get_root(), list_queues, &tail);
    }
    return head;
}

void qmp___org_qemu_mq_block_queue_set_iothread(const char *id, uint16_t queue,
                                                const char *iothread_id,
                                                Error **errp)
{
    ERRP_GUARD();
    Object *obj = device_by_id(id, errp);
    BlockQueueDevice *device;
    IOThread *iothread = NULL;
    unsigned n;

    if (!obj) {
        return;
    }
    device = get_device(obj);
    n = device->map.num_queues;
    if (queue >= n) {
        error_setg(errp, "Device '%s' has no queue %u", id, queue);
        if (n) {
            error_append_hint(errp, "Its queues are 0 to %u.\n", n - 1);
        }
        return;
    }
    if (iothread_id) {
        iothread = iothread_by_id(iothread_id);
        if (!iothread) {
            error_setg(errp, "IOThread \"%s\" object does not exist",
                       iothread_id);
            return;
        }
    }
    BLOCK_QUEUE_DEVICE_IF_GET_CLASS(obj)->set_iothread(device, queue, iothread,
                                                       errp);
}

static void hmp_queue_set_iothread(Monitor *mon, const QDict *qdict)
{
    int64_t queue = qdict_get_int(qdict, "queue");
    Error *err = NULL;

    if (queue < 0 || queue > UINT16_MAX) {
        error_setg(&err, "queue must be between 0 and %d", UINT16_MAX);
    } else {
        qmp___org_qemu_mq_block_queue_set_iothread(
            qdict_get_str(qdict, "id"), queue,
            qdict_get_try_str(qdict, "iothread"), &err);
    }
    hmp_handle_error(mon, err);
}

static void hmp_info_queues(Monitor *mon, const QDict *qdict)
{
    g_autoptr(BlockQueueInfoList) list = NULL;
    Error *err = NULL;

    list = qmp___org_qemu_mq_query_block_queues(NULL, &err);
    for (BlockQueueInfoList *node = list; node; node = node->next) {
        BlockQueueInfo *info = node->value;

        monitor_printf(mon, "%s queue %u: iothread=%s",
                       info->id ?: info->qom_path, info->queue,
                       info->iothread ?:
                       info->has_thread_id ? "(deleted)" : "(main loop)");
        if (info->has_thread_id) {
            monitor_printf(mon, " thread_id=%" PRId64, info->thread_id);
        }
        monitor_printf(mon, " requests=%" PRIu64 " batches=%" PRIu64
                       " notifications=%" PRIu64 "\n", info->requests,
                       info->batches, info->notifications);
    }
    hmp_handle_error(mon, err);
}

static const TypeInfo block_queue_device_types[] = {
    {
        .name = TYPE_BLOCK_QUEUE_DEVICE_IF,
        .parent = TYPE_INTERFACE,
        .class_size = sizeof(BlockQueueDeviceIfClass),
    },
};

DEFINE_TYPES(block_queue_device_types)

static void block_queue_register_hmp(void)
{
    monitor_register_hmp("queue_set_iothread", false, hmp_queue_set_iothread);
    monitor_register_hmp("queues", true, hmp_info_queues);
}

type_init(block_queue_register_hmp)
