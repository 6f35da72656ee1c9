/*
 * Xen PV disk: the device
 *
 *     frontend state      what we do                      our state
 *     Initialising        (xen-bus, when it was Closed)   InitWait
 *     Initialised or
 *     Connected           connect unless connected        Connected
 *                         ... and cannot                  Closing
 *     Closing             -                               Closing
 *     Closed, or gone     disconnect                      Closed
 *
 * After Closing the only next state is Closed, in any state of the frontend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "hw/qdev-properties.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus-helper.h"
#include "migration/blocker.h"
#include "xen-block.h"
#include "trace/trace-hw_block.h"
#include "trace/trace-qemu_mq_hw_block.h"

/*
 * Find the first number of a disk that the guest does not use in any scheme,
 * for a disk or a partition, although hda, sda and xvda are different disks.
 */
static bool vdev_find_free(XenBlockDevice *blockdev, Error **errp)
{
    XenBus *xenbus = XEN_BUS(qdev_get_parent_bus(DEVICE(blockdev)));
    DECLARE_BITMAP(used, XEN_VDEV_AUTO_DISKS) = { 0 };
    g_autofree char *dir = g_strdup_printf("/local/domain/%u/device/vbd",
                                           blockdev->xendev.frontend_id);
    unsigned n = 0;
    unsigned disk;
    char **names = qemu_xen_xs_directory(xenbus->xsh, XBT_NULL, dir, &n);

    if (!names && errno != ENOENT) {
        error_setg_errno(errp, errno, "cannot read %s", dir);
        return false;
    }
    for (unsigned i = 0; names && i < n; i++) {
        unsigned number;

        if (qemu_strtoui(names[i], NULL, 10, &number) == 0) {
            int used_disk = xen_vdev_number_to_disk(number);

            if (used_disk >= 0 && used_disk < XEN_VDEV_AUTO_DISKS) {
                set_bit(used_disk, used);
            }
        }
    }
    free(names);

    disk = find_first_zero_bit(used, XEN_VDEV_AUTO_DISKS);
    if (disk == XEN_VDEV_AUTO_DISKS) {
        error_setg(errp, "cannot find device vdev for block device");
        return false;
    }
    blockdev->props.vdev = xen_vdev_for_disk(disk);
    return true;
}

static char *xen_block_get_name(XenDevice *xendev, Error **errp)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(xendev);

    if (blockdev->props.vdev.scheme == XEN_VDEV_UNSET &&
        !vdev_find_free(blockdev, errp)) {
        return NULL;
    }
    return g_strdup_printf("%u", blockdev->props.vdev.number);
}

static bool check_properties(XenBlockDevice *blockdev, Error **errp)
{
    XenBlockConf *props = &blockdev->props;

    if (props->num_queues == XEN_BLOCK_AUTO_NUM_QUEUES) {
        props->num_queues = MIN(g_get_num_processors(),
                                XEN_BLOCK_MAX_AUTO_QUEUES);
    }
    if (props->num_queues == 0 || props->num_queues > XEN_BLOCK_MAX_QUEUES) {
        error_setg(errp, "num-queues property (%u) must be from 1 to %u",
                   props->num_queues, XEN_BLOCK_MAX_QUEUES);
        return false;
    }
    if (props->max_indirect_segments > XEN_BLKIF_MAX_INDIRECT_SEGS) {
        error_setg(errp, "max-indirect-segments property (%u) must not be "
                   "larger than %u", props->max_indirect_segments,
                   XEN_BLKIF_MAX_INDIRECT_SEGS);
        return false;
    }
    if (props->max_ring_page_order > XEN_BLOCK_MAX_RING_PAGE_ORDER) {
        error_setg(errp, "max-ring-page-order property (%u) must not be "
                   "larger than %u", props->max_ring_page_order,
                   XEN_BLOCK_MAX_RING_PAGE_ORDER);
        return false;
    }
    return stats_intervals_check(&props->stats_intervals, errp);
}

static bool check_drive(XenBlockDevice *blockdev, Error **errp)
{
    BlockConf *conf = &blockdev->props.conf;

    if (!conf->blk) {
        error_setg(errp, "drive property not set");
        return false;
    }
    /* There is no request for a frontend to find out that media is gone. */
    if (!blk_is_inserted(conf->blk)) {
        error_setg(errp, "device needs media, but drive is empty");
        return false;
    }
    if (!blk_supports_write_perm(conf->blk)) {
        blockdev->info |= VDISK_READONLY;
    }
    if (!blkconf_apply_backend_options(conf, blockdev->info & VDISK_READONLY,
                                       true, errp)) {
        return false;
    }
    if (!(blockdev->info & VDISK_CDROM) &&
        !blkconf_geometry(conf, NULL, 65535, 255, 255, errp)) {
        return false;
    }
    if (!blkconf_blocksizes(conf, errp)) {
        return false;
    }
    if (conf->discard_granularity == -1) {
        conf->discard_granularity = conf->physical_block_size;
    }
    return true;
}

/*
 * KVM's emulation of Xen learns which pages a backend has written when they
 * are unmapped, so pages that stay mapped and migration exclude each other.
 */
static bool choose_persistent_grants(XenBlockDevice *blockdev, Error **errp)
{
    bool emulated = xen_mode == XEN_EMULATE;
    OnOffAuto choice = blockdev->props.persistent_grants;

    blockdev->persistent_grants = choice == ON_OFF_AUTO_ON ||
                                  (choice == ON_OFF_AUTO_AUTO && !emulated);
    if (!blockdev->persistent_grants || !emulated) {
        return true;
    }
    error_setg(&blockdev->migration_blocker, "%s: persistent-grants is on",
               blockdev->common.name);
    return migrate_add_blocker(&blockdev->migration_blocker, errp) == 0;
}

static void setup_disk(XenBlockDevice *blockdev)
{
    const XenBlockConf *props = &blockdev->props;

    blockdev->disk.domain = xen_block_domain_get(
        XEN_DEVICE(blockdev)->frontend_id);
    blockdev->disk.blk = props->conf.blk;
    blockdev->disk.device = &blockdev->common;
    blockdev->disk.limits.sector_size = XEN_BLKIF_SECTOR_SIZE;
    blockdev->disk.limits.max_indirect = props->max_indirect_segments;
    blockdev->disk.limits.barriers = props->write_barriers;
    blockdev->disk.limits.read_only = blockdev->info & VDISK_READONLY;
}

static void publish_disk(XenBlockDevice *blockdev)
{
    XenBlockDeviceClass *class = XEN_BLOCK_DEVICE_GET_CLASS(blockdev);
    XenDevice *xendev = XEN_DEVICE(blockdev);

    xen_device_backend_printf(xendev, "info", "%u", blockdev->info);
    xen_device_backend_printf(xendev, "mode", "%s",
                              blockdev->info & VDISK_READONLY ? "r" : "w");
    xen_device_backend_printf(xendev, "sector-size", "%u",
                              blockdev->props.conf.logical_block_size);
    xen_device_frontend_printf(xendev, "virtual-device", "%u",
                               blockdev->props.vdev.number);
    xen_device_frontend_printf(xendev, "device-type", "%s",
                               class->device_type);
    xen_block_publish_size(blockdev);
}

/* Return the name of a disk without an ID: its vdev, such as xvda or d0. */
static char *disk_alias(const XenBlockDevice *blockdev)
{
    const XenVdev *vdev = &blockdev->props.vdev;
    size_t len = strlen(blockdev->vdev_name);

    if (!vdev->partition) {
        len -= vdev->scheme == XEN_VDEV_DP ? strlen("p0") : strlen("0");
    }
    return g_strndup(blockdev->vdev_name, len);
}

static char *disk_name(XenBlockDevice *blockdev, const char *alias)
{
    return g_strdup_printf("%s '%s'", object_get_typename(OBJECT(blockdev)),
                           DEVICE(blockdev)->id ?: alias);
}

static void xen_block_realize(XenDevice *xendev, Error **errp)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(xendev);
    XenBlockDeviceClass *class = XEN_BLOCK_DEVICE_GET_CLASS(blockdev);
    g_autofree char *alias = NULL;

    trace_xen_block_realize(object_get_typename(OBJECT(blockdev)),
                            blockdev->props.vdev.disk,
                            blockdev->props.vdev.partition);
    blockdev->info = class->info;
    if (!check_properties(blockdev, errp) || !check_drive(blockdev, errp)) {
        return;
    }
    blockdev->vdev_name = xen_vdev_name(&blockdev->props.vdev);
    alias = disk_alias(blockdev);
    if (!block_queue_device_realize(&blockdev->common, DEVICE(blockdev),
                                    blockdev->props.conf.blk,
                                    &xen_block_device_ops,
                                    &blockdev->props.iothreads,
                                    blockdev->props.num_queues, alias,
                                    disk_name(blockdev, alias), errp)) {
        g_clear_pointer(&blockdev->vdev_name, g_free);
        return;
    }
    if (!choose_persistent_grants(blockdev, errp)) {
        block_queue_device_unrealize(&blockdev->common);
        g_clear_pointer(&blockdev->vdev_name, g_free);
        return;
    }
    setup_disk(blockdev);
    xen_block_offer(blockdev);
    publish_disk(blockdev);
    xen_block_control_begin(blockdev);
    stats_intervals_apply(&blockdev->props.stats_intervals,
                          blockdev->props.conf.blk);
}

static void xen_block_unrealize(XenDevice *xendev)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(xendev);

    if (blockdev->common.state == BLOCK_QUEUE_DEVICE_ABSENT) {
        return;
    }
    trace_xen_block_unrealize(object_get_typename(OBJECT(blockdev)),
                              blockdev->props.vdev.disk,
                              blockdev->props.vdev.partition);
    xen_block_disconnect(blockdev);
    xen_block_control_end(blockdev);
    migrate_del_blocker(&blockdev->migration_blocker);
    block_queue_device_unrealize(&blockdev->common);
    g_clear_pointer(&blockdev->vdev_name, g_free);
}

static void xen_block_frontend_ready(XenBlockDevice *blockdev, Error **errp)
{
    XenDevice *xendev = XEN_DEVICE(blockdev);
    Error *local_err = NULL;

    switch (xen_device_backend_get_state(xendev)) {
    case XenbusStateConnected:
    case XenbusStateClosing:
        return;
    default:
        break;
    }
    xen_block_disconnect(blockdev);
    xen_block_connect(blockdev, &local_err);
    if (local_err) {
        xen_device_backend_printf(xendev, "error", "%s",
                                  error_get_pretty(local_err));
        xen_device_backend_set_state(xendev, XenbusStateClosing);
        error_propagate(errp, local_err);
        return;
    }
    if (blockdev->common.num_queues) {
        xen_device_backend_set_state(xendev, XenbusStateConnected);
    }
}

static void xen_block_follow_frontend(XenBlockDevice *blockdev, Error **errp)
{
    XenDevice *xendev = XEN_DEVICE(blockdev);

    switch (xendev->frontend_state) {
    case XenbusStateInitialised:
    case XenbusStateConnected:
        xen_block_frontend_ready(blockdev, errp);
        break;
    case XenbusStateClosing:
        xen_device_backend_set_state(xendev, XenbusStateClosing);
        break;
    case XenbusStateClosed:
    case XenbusStateUnknown:
        xen_block_disconnect(blockdev);
        xen_device_backend_set_state(xendev, XenbusStateClosed);
        break;
    default:
        break;
    }
}

static void xen_block_set_follow(XenBlockDevice *blockdev, XenBlockFollow to)
{
    /* For each state, the states that may follow it, as bits */
    static const unsigned next[XEN_BLOCK_FOLLOW__MAX] = {
        [XEN_BLOCK_IDLE] = BIT(XEN_BLOCK_FOLLOWS),
        [XEN_BLOCK_FOLLOWS] = BIT(XEN_BLOCK_IDLE) | BIT(XEN_BLOCK_IS_BEHIND),
        [XEN_BLOCK_IS_BEHIND] = BIT(XEN_BLOCK_FOLLOWS),
    };

    GLOBAL_STATE_CODE();
    assert(next[blockdev->follow] & BIT(to));
    blockdev->follow = to;
}

/*
 * If the frontend's state changes while the device handles an earlier change,
 * the new one waits.  Of several that wait only the last is handled, as with
 * any watch.
 */
static void xen_block_frontend_changed(XenDevice *xendev,
                                       enum xenbus_state frontend_state,
                                       Error **errp)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(xendev);
    Error *local_err = NULL;

    if (blockdev->follow == XEN_BLOCK_FOLLOWS) {
        xen_block_set_follow(blockdev, XEN_BLOCK_IS_BEHIND);
    }
    if (blockdev->follow == XEN_BLOCK_IS_BEHIND) {
        return;
    }
    do {
        xen_block_set_follow(blockdev, XEN_BLOCK_FOLLOWS);
        xen_block_follow_frontend(blockdev, &local_err);
    } while (blockdev->follow == XEN_BLOCK_IS_BEHIND);
    xen_block_set_follow(blockdev, XEN_BLOCK_IDLE);
    /* The frontend reads why in the key "error"; the log may hear of it. */
    if (local_err && !xen_guest_log_may_say(&blockdev->disk.domain->log)) {
        g_clear_pointer(&local_err, error_free);
    }
    error_propagate(errp, local_err);
}

static void xen_block_instance_init(Object *obj)
{
    XEN_BLOCK_DEVICE(obj)->props.num_queues = XEN_BLOCK_AUTO_NUM_QUEUES;
}

static void xen_block_instance_finalize(Object *obj)
{
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(obj);

    stats_intervals_free(&blockdev->props.stats_intervals);
    if (blockdev->disk.domain) {
        xen_block_domain_put(blockdev->disk.domain);
    }
}

static void get_vdev(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    const XenVdev *vdev = object_field_prop_ptr(obj, opaque);
    g_autofree char *str = vdev->scheme == XEN_VDEV_UNSET ? NULL
                                                          : xen_vdev_name(vdev);

    if (!str) {
        error_setg(errp, "invalid vdev type");
        return;
    }
    visit_type_str(v, name, &str, errp);
}

static void set_vdev(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    XenVdev *vdev = object_field_prop_ptr(obj, opaque);
    g_autofree char *str = NULL;

    if (visit_type_str(v, name, &str, errp)) {
        xen_vdev_parse(str, vdev, errp);
    }
}

static const PropertyInfo xen_block_prop_vdev = {
    .type = "str",
    .description = "Virtual Disk specifier (d*p*/xvd*/hd*/sd*)",
    .get = get_vdev,
    .set = set_vdev,
};

static const Property xen_block_props[] = {
    DEFINE_PROP("vdev", XenBlockDevice, props.vdev, xen_block_prop_vdev,
                XenVdev),
    DEFINE_BLOCK_PROPERTIES(XenBlockDevice, props.conf),
    DEFINE_STATS_INTERVALS_PROPERTY(XenBlockDevice, props.stats_intervals)
    DEFINE_PROP_UINT32("max-ring-page-order", XenBlockDevice,
                       props.max_ring_page_order, 4),
    DEFINE_QUEUE_IOTHREADS_PROPERTIES(XenBlockDevice, props.iothreads),
    /* A default would be shown as 65535, which means nothing to a user. */
    DEFINE_PROP_UNSIGNED_NODEFAULT("num-queues", XenBlockDevice,
                                   props.num_queues, qdev_prop_uint16,
                                   uint16_t),
    DEFINE_PROP_ON_OFF_AUTO("persistent-grants", XenBlockDevice,
                            props.persistent_grants, ON_OFF_AUTO_AUTO),
    DEFINE_PROP_UINT32("max-persistent-grants", XenBlockDevice,
                       props.max_persistent_grants, 0),
    DEFINE_PROP_UINT16("max-indirect-segments", XenBlockDevice,
                       props.max_indirect_segments,
                       XEN_BLKIF_MAX_INDIRECT_SEGS),
    DEFINE_PROP_BOOL("write-barriers", XenBlockDevice, props.write_barriers,
                     true),
    DEFINE_PROP_BOOL("batch-copies", XenBlockDevice, props.batch_copies, true),
};

static void xen_block_describe(ObjectClass *class)
{
    queue_iothreads_describe(class);
    stats_intervals_describe(class);
    object_class_property_set_description(class, "num-queues",
        "Number of queues to offer (default: one per host CPU, at most 16)");
    object_class_property_set_description(class, "max-ring-page-order",
        "Largest ring, as a power of 2: 4 allows rings of 16 pages");
    object_class_property_set_description(class, "persistent-grants",
        "Keep the guest's pages mapped between requests");
    object_class_property_set_description(class, "max-persistent-grants",
        "Maximum number of pages that all queues together keep mapped "
        "(0: 1056 for each queue, bounded by the guest's grant table)");
    object_class_property_set_description(class, "max-indirect-segments",
        "Maximum number of pages of an indirect request (0: no indirect "
        "requests)");
    object_class_property_set_description(class, "write-barriers",
        "Offer write barriers, which only old guests use");
    object_class_property_set_description(class, "batch-copies",
        "Copy the data of requests that arrive together with one call");
}

static BlockQueueDevice *xen_block_get_device(BlockQueueDeviceIf *obj)
{
    return &XEN_BLOCK_DEVICE(obj)->common;
}

static void xen_block_class_init(ObjectClass *class, ClassInitData *data)
{
    DeviceClass *dev_class = DEVICE_CLASS(class);
    XenDeviceClass *xendev_class = XEN_DEVICE_CLASS(class);

    xendev_class->backend = "qdisk";
    xendev_class->device = "vbd";
    xendev_class->get_name = xen_block_get_name;
    xendev_class->realize = xen_block_realize;
    xendev_class->frontend_changed = xen_block_frontend_changed;
    xendev_class->unrealize = xen_block_unrealize;
    device_class_set_props(dev_class, xen_block_props);
    xen_block_describe(class);
    block_queue_device_class_init(class, xen_block_get_device);
}

static void xen_disk_class_init(ObjectClass *class, ClassInitData *data)
{
    DEVICE_CLASS(class)->desc = "Xen Disk Device";
    XEN_BLOCK_DEVICE_CLASS(class)->device_type = "disk";
}

static void xen_cdrom_class_init(ObjectClass *class, ClassInitData *data)
{
    DEVICE_CLASS(class)->desc = "Xen CD-ROM Device";
    XEN_BLOCK_DEVICE_CLASS(class)->device_type = "cdrom";
    XEN_BLOCK_DEVICE_CLASS(class)->info = VDISK_CDROM | VDISK_READONLY;
}

static const TypeInfo xen_block_types[] = {
    {
        .name = TYPE_XEN_BLOCK_DEVICE,
        .parent = TYPE_XEN_DEVICE,
        .instance_size = sizeof(XenBlockDevice),
        .instance_init = xen_block_instance_init,
        .instance_finalize = xen_block_instance_finalize,
        .abstract = true,
        .class_size = sizeof(XenBlockDeviceClass),
        .class_init = xen_block_class_init,
        .interfaces = (InterfaceInfo[]) {
            { TYPE_BLOCK_QUEUE_DEVICE_IF },
            { }
        },
    },
    {
        .name = TYPE_XEN_DISK_DEVICE,
        .parent = TYPE_XEN_BLOCK_DEVICE,
        .class_init = xen_disk_class_init,
    },
    {
        .name = TYPE_XEN_CDROM_DEVICE,
        .parent = TYPE_XEN_BLOCK_DEVICE,
        .class_init = xen_cdrom_class_init,
    },
};

DEFINE_TYPES(xen_block_types)
