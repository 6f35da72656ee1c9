/*
 * virtio-blk: the device
 *
 * Properties, features and config space (VIRTIO 1.2, 5.2.3 and 5.2.4), and
 * the life of the device object.  The queues live in virtio-blk-control.c and
 * virtio-blk-queue.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "block/block_int-common.h"
#include "hw/block/block.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-blk-common.h"
#include "migration/vmstate.h"
#include "qemu/coroutine.h"
#include "system/blockdev.h"
#include "system/system.h"
#include "virtio-blk-control.h"

/* The firmware's name of the only unit of this device. */
#define BOOT_SUFFIX "/disk@0,0"

/* The number of segments that is reported without seg-max-adjust */
#define SEG_MAX_FIXED (128 - 2)

/* Features that each device has, with any backend */
#define VIRTIO_BLK_FEATURES_ALWAYS                                       \
    (BIT_ULL(VIRTIO_BLK_F_SEG_MAX) | BIT_ULL(VIRTIO_BLK_F_GEOMETRY) |    \
     BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) | BIT_ULL(VIRTIO_BLK_F_BLK_SIZE))

/* Config space */

static void config_set_discard(VirtIOBlock *s, struct virtio_blk_config *c)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    uint32_t granularity = s->conf.conf.discard_granularity;

    if (granularity == -1 || !s->conf.report_discard_granularity) {
        granularity = s->conf.conf.logical_block_size;
    }
    virtio_stl_p(vdev, &c->max_discard_sectors, s->conf.max_discard_sectors);
    virtio_stl_p(vdev, &c->discard_sector_alignment,
                 granularity >> BDRV_SECTOR_BITS);
    virtio_stl_p(vdev, &c->max_discard_seg, 1);
}

static void config_set_geometry(VirtIOBlock *s, struct virtio_blk_config *c)
{
    BlockConf *conf = &s->conf.conf;
    int64_t length = blk_getlength(s->blk);

    virtio_stw_p(VIRTIO_DEVICE(s), &c->geometry.cylinders, conf->cyls);
    c->geometry.heads = conf->heads;
    c->geometry.sectors = conf->secs;
    /*
     * A geometry that does not divide into logical blocks is rounded; one
     * that does is the user's or the DASD's and means what it says.
     */
    if (length > 0 &&
        length / conf->heads / conf->secs % conf->logical_block_size) {
        c->geometry.sectors &= ~s->sector_mask;
    }
}

static void virtio_blk_get_config(VirtIODevice *vdev, uint8_t *data)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    BlockConf *conf = &s->conf.conf;
    uint32_t block_size = conf->logical_block_size;
    struct virtio_blk_config c = {};
    uint64_t capacity = virtio_blk_capacity(s, blk_getlength(s->blk));

    /* Set it before the driver sees the new capacity and uses it. */
    qatomic_set(&s->nr_sectors, capacity);

    virtio_stq_p(vdev, &c.capacity, capacity);
    virtio_stl_p(vdev, &c.seg_max, s->conf.seg_max_adjust
                                   ? s->conf.queue_size - 2 : SEG_MAX_FIXED);
    config_set_geometry(s, &c);
    virtio_stl_p(vdev, &c.blk_size, block_size);
    c.physical_block_exp = get_physical_block_exp(conf);
    virtio_stw_p(vdev, &c.min_io_size, conf->min_io_size / block_size);
    virtio_stl_p(vdev, &c.opt_io_size, conf->opt_io_size / block_size);
    c.wce = blk_enable_write_cache(s->blk);
    virtio_stw_p(vdev, &c.num_queues, s->conf.num_queues);
    if (virtio_has_feature(s->host_features, VIRTIO_BLK_F_DISCARD)) {
        config_set_discard(s, &c);
    }
    if (virtio_has_feature(s->host_features, VIRTIO_BLK_F_WRITE_ZEROES)) {
        virtio_stl_p(vdev, &c.max_write_zeroes_sectors,
                     s->conf.max_write_zeroes_sectors);
        virtio_stl_p(vdev, &c.max_write_zeroes_seg, 1);
        c.write_zeroes_may_unmap = 1;
    }
    virtio_blk_zone_config(s, &c);
    memcpy(data, &c, s->config_size);
}

static void virtio_blk_set_config(VirtIODevice *vdev, const uint8_t *data)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    struct virtio_blk_config c = {};

    memcpy(&c, data, s->config_size);
    blk_set_enable_write_cache(s->blk, c.wce != 0);
}

/* Features and status */

static uint64_t virtio_blk_get_features(VirtIODevice *vdev, uint64_t features,
                                        Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    bool wce = blk_enable_write_cache(s->blk) ||
               (s->conf.x_enable_wce_if_config_wce &&
                virtio_has_feature(features | s->host_features,
                                   VIRTIO_BLK_F_CONFIG_WCE));

    features |= s->host_features | VIRTIO_BLK_FEATURES_ALWAYS;
    if (wce) {
        features |= BIT_ULL(VIRTIO_BLK_F_WCE);
    }
    if (!blk_is_writable(s->blk)) {
        features |= BIT_ULL(VIRTIO_BLK_F_RO);
    }
    if (s->conf.num_queues > 1) {
        features |= BIT_ULL(VIRTIO_BLK_F_MQ);
    }
    if (!virtio_has_feature(features, VIRTIO_F_VERSION_1)) {
        /* Legacy: QEMU has always said so, and a migration compares. */
        virtio_clear_feature(&features, VIRTIO_F_ANY_LAYOUT);
        virtio_add_feature(&features, VIRTIO_BLK_F_SCSI);
    }
    return features;
}

static void virtio_blk_set_status(VirtIODevice *vdev, uint8_t status)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    if (!(status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        /* If there are notifiers, the transport has stopped them. */
        virtio_blk_stop_calls(s);
        return;
    }
    /*
     * A driver that knows no write cache gets writethrough.  One that has
     * CONFIG_WCE can flush, and may have chosen in the config space already:
     * do not overrule it (VIRTIO 1.2, 5.2.5.2).
     */
    if (!virtio_vdev_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE)) {
        blk_set_enable_write_cache(s->blk, virtio_vdev_has_feature(
                                       vdev, VIRTIO_BLK_F_WCE));
    }
    virtio_blk_start_new_rings(s);
    virtio_blk_schedule_ring_check(s);
}

/* Life of the object */

static bool check_queues(VirtIOBlkConf *conf, Error **errp)
{
    if (conf->num_queues == VIRTIO_BLK_AUTO_NUM_QUEUES) {
        conf->num_queues = 1;
    }
    if (!conf->num_queues) {
        error_setg(errp, "num-queues property must be larger than 0");
        return false;
    }
    if (conf->num_queues > VIRTIO_QUEUE_MAX) {
        error_setg(errp, "invalid num-queues property (%" PRIu16 "), "
                   "must be between 1 and %d", conf->num_queues,
                   VIRTIO_QUEUE_MAX);
        return false;
    }
    if (conf->queue_size <= 2) {
        error_setg(errp, "invalid queue-size property (%" PRIu16 "), "
                   "must be > 2", conf->queue_size);
        return false;
    }
    if (!is_power_of_2(conf->queue_size) ||
        conf->queue_size > VIRTQUEUE_MAX_SIZE) {
        error_setg(errp, "invalid queue-size property (%" PRIu16 "), "
                   "must be a power of 2 (max %d)", conf->queue_size,
                   VIRTQUEUE_MAX_SIZE);
        return false;
    }
    return true;
}

static bool check_max_sectors(VirtIOBlock *s, unsigned feature, uint32_t max,
                              const char *property, Error **errp)
{
    if (virtio_has_feature(s->host_features, feature) &&
        (!max || max > BDRV_REQUEST_MAX_SECTORS)) {
        error_setg(errp, "invalid %s property (%" PRIu32 "), must be between "
                   "1 and %d", property, max, (int)BDRV_REQUEST_MAX_SECTORS);
        return false;
    }
    return true;
}

static bool check_backend(VirtIOBlock *s, Error **errp)
{
    BlockConf *conf = &s->conf.conf;

    if (!conf->blk) {
        error_setg(errp, "drive property not set");
        return false;
    }
    if (!blk_is_inserted(conf->blk)) {
        error_setg(errp, "Device needs media, but drive is empty");
        return false;
    }
    if (!check_queues(&s->conf, errp) ||
        !stats_intervals_check(&s->conf.stats_intervals, errp)) {
        return false;
    }
    if (!blkconf_apply_backend_options(conf,
                                       !blk_supports_write_perm(conf->blk),
                                       true, errp)) {
        return false;
    }
    s->original_wce = blk_enable_write_cache(conf->blk);
    return blkconf_geometry(conf, NULL, 65535, 255, 255, errp) &&
           blkconf_blocksizes(conf, errp);
}

static void set_zoned_features(VirtIOBlock *s)
{
    BlockZoneModel model = blk_bs(s->blk)->bl.zoned;

    if (model != BLK_Z_NONE) {
        virtio_add_feature(&s->host_features, VIRTIO_BLK_F_ZONED);
    }
    if (model == BLK_Z_HM) {
        virtio_clear_feature(&s->host_features, VIRTIO_BLK_F_DISCARD);
    }
}

static void virtio_blk_device_realize(DeviceState *dev, Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOBlock *s = VIRTIO_BLK(dev);
    VirtIOBlkConf *conf = &s->conf;

    if (!check_backend(s, errp)) {
        return;
    }
    s->blk = conf->conf.blk;
    s->transport = qdev_get_parent_bus(dev)->parent;
    set_zoned_features(s);
    if (!check_max_sectors(s, VIRTIO_BLK_F_DISCARD, conf->max_discard_sectors,
                           "max-discard-sectors", errp) ||
        !check_max_sectors(s, VIRTIO_BLK_F_WRITE_ZEROES,
                           conf->max_write_zeroes_sectors,
                           "max-write-zeroes-sectors", errp)) {
        return;
    }
    s->config_size = virtio_get_config_size(&virtio_blk_cfg_size_params,
                                            s->host_features);
    s->sector_mask = conf->conf.logical_block_size / BDRV_SECTOR_SIZE - 1;

    virtio_init(vdev, VIRTIO_ID_BLOCK, s->config_size);
    for (unsigned i = 0; i < conf->num_queues; i++) {
        virtio_add_queue(vdev, conf->queue_size, virtio_blk_handle_output);
        virtio_queue_set_max_num(vdev, i, conf->queue_size);
    }
    if (!virtio_blk_queues_init(s, errp)) {
        for (unsigned i = 0; i < conf->num_queues; i++) {
            virtio_del_queue(vdev, i);
        }
        virtio_cleanup(vdev);
        return;
    }
    qemu_coroutine_inc_pool_size(conf->num_queues * conf->queue_size / 2);

    blk_ram_registrar_init(&s->blk_ram_registrar, s->blk);
    /*
     * After virtio_init(), so that a change of the VM's state comes here when
     * the queues have started.
     */
    block_queue_device_begin(&s->common);
    blk_iostatus_enable(s->blk);
    stats_intervals_apply(&conf->stats_intervals, s->blk);
    add_boot_device_lchs(dev, BOOT_SUFFIX, conf->conf.lcyls,
                         conf->conf.lheads, conf->conf.lsecs);
}

static void virtio_blk_device_unrealize(DeviceState *dev)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOBlock *s = VIRTIO_BLK(dev);
    VirtIOBlkConf *conf = &s->conf;

    virtio_blk_stop_calls(s);
    virtio_blk_stop_queues(s);
    blk_drain(s->blk);
    del_boot_device_lchs(dev, BOOT_SUFFIX);
    block_queue_device_end(&s->common);
    virtio_blk_queues_cleanup(s);
    for (unsigned i = 0; i < conf->num_queues; i++) {
        virtio_del_queue(vdev, i);
    }
    qemu_coroutine_dec_pool_size(conf->num_queues * conf->queue_size / 2);
    blk_ram_registrar_destroy(&s->blk_ram_registrar);
    blockdev_mark_auto_del(s->blk);
    virtio_cleanup(vdev);
}

static void virtio_blk_instance_init(Object *obj)
{
    VirtIOBlock *s = VIRTIO_BLK(obj);

    device_add_bootindex_property(obj, &s->conf.conf.bootindex, "bootindex",
                                  BOOT_SUFFIX, DEVICE(obj));
}

static void virtio_blk_instance_finalize(Object *obj)
{
    stats_intervals_free(&VIRTIO_BLK(obj)->conf.stats_intervals);
}

static BlockQueueDevice *virtio_blk_get_device(BlockQueueDeviceIf *obj)
{
    return &VIRTIO_BLK(obj)->common;
}

static const VMStateDescription vmstate_virtio_blk = {
    .name = "virtio-blk",
    .version_id = 2,
    .minimum_version_id = 2,
    .pre_save = virtio_blk_pre_save,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

static const Property virtio_blk_properties[] = {
    DEFINE_BLOCK_PROPERTIES(VirtIOBlock, conf.conf),
    DEFINE_BLOCK_ERROR_PROPERTIES(VirtIOBlock, conf.conf),
    DEFINE_BLOCK_CHS_PROPERTIES(VirtIOBlock, conf.conf),
    DEFINE_STATS_INTERVALS_PROPERTY(VirtIOBlock, conf.stats_intervals)
    DEFINE_QUEUE_IOTHREADS_PROPERTIES(VirtIOBlock, conf.iothreads),
    DEFINE_PROP_UINT16("num-queues", VirtIOBlock, conf.num_queues,
                       VIRTIO_BLK_AUTO_NUM_QUEUES),
    DEFINE_PROP_UINT16("queue-size", VirtIOBlock, conf.queue_size, 256),
    DEFINE_PROP_STRING("serial", VirtIOBlock, conf.serial),
    DEFINE_PROP_BIT("request-merging", VirtIOBlock, conf.request_merging, 0,
                    true),
    DEFINE_PROP_BOOL("seg-max-adjust", VirtIOBlock, conf.seg_max_adjust, true),
    DEFINE_PROP_BIT64("config-wce", VirtIOBlock, host_features,
                      VIRTIO_BLK_F_CONFIG_WCE, true),
    DEFINE_PROP_BOOL("x-enable-wce-if-config-wce", VirtIOBlock,
                     conf.x_enable_wce_if_config_wce, true),
    DEFINE_PROP_BIT64("discard", VirtIOBlock, host_features,
                      VIRTIO_BLK_F_DISCARD, true),
    DEFINE_PROP_UINT32("max-discard-sectors", VirtIOBlock,
                       conf.max_discard_sectors, BDRV_REQUEST_MAX_SECTORS),
    DEFINE_PROP_BOOL("report-discard-granularity", VirtIOBlock,
                     conf.report_discard_granularity, true),
    DEFINE_PROP_BIT64("write-zeroes", VirtIOBlock, host_features,
                      VIRTIO_BLK_F_WRITE_ZEROES, true),
    DEFINE_PROP_UINT32("max-write-zeroes-sectors", VirtIOBlock,
                       conf.max_write_zeroes_sectors,
                       BDRV_REQUEST_MAX_SECTORS),
};

static void virtio_blk_describe(ObjectClass *klass)
{
    queue_iothreads_describe(klass);
    stats_intervals_describe(klass);
    object_class_property_set_description(klass, "num-queues",
        "Number of virtqueues; 65535 means one per vCPU on PCI, else 1");
    object_class_property_set_description(klass, "queue-size",
        "Entries of each virtqueue, a power of 2 from 4 to "
        stringify(VIRTQUEUE_MAX_SIZE));
}

#if BASE_SINCE(10, 1)
static int answer_status(VirtIODevice *vdev, uint8_t status)
{
    virtio_blk_set_status(vdev, status);
    return 0;
}
#else
#define answer_status virtio_blk_set_status
#endif

static void virtio_blk_class_init(ObjectClass *klass, ClassInitData *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    set_bit(DEVICE_CATEGORY_STORAGE, dc->categories);
    device_class_set_props(dc, virtio_blk_properties);
    virtio_blk_describe(klass);
    dc->vmsd = &vmstate_virtio_blk;
    vdc->realize = virtio_blk_device_realize;
    vdc->unrealize = virtio_blk_device_unrealize;
    vdc->reset = virtio_blk_reset;
    vdc->queue_reset = virtio_blk_queue_reset;
    vdc->queue_enable = virtio_blk_queue_enable;
    vdc->queue_sync = virtio_blk_queue_sync;
    vdc->get_features = virtio_blk_get_features;
    vdc->set_status = answer_status;
    vdc->get_config = virtio_blk_get_config;
    vdc->set_config = virtio_blk_set_config;
    vdc->start_ioeventfd = virtio_blk_start_ioeventfd;
    vdc->stop_ioeventfd = virtio_blk_stop_ioeventfd;
    vdc->save = virtio_blk_save_device;
    vdc->load = virtio_blk_load_device;
    block_queue_device_class_init(klass, virtio_blk_get_device);
}

static const TypeInfo virtio_blk_types[] = {
    {
        .name = TYPE_VIRTIO_BLK,
        .parent = TYPE_VIRTIO_DEVICE,
        .instance_size = sizeof(VirtIOBlock),
        .instance_init = virtio_blk_instance_init,
        .instance_finalize = virtio_blk_instance_finalize,
        .class_init = virtio_blk_class_init,
        .interfaces = (InterfaceInfo[]) {
            { TYPE_BLOCK_QUEUE_DEVICE_IF },
            { }
        },
    },
};

DEFINE_TYPES(virtio_blk_types)
