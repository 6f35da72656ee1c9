/*
 * virtio-blk: a block device with a queue per CPU
 *
 *                 VirtIOBlock  (control, BQL; read-only for the data path)
 *                      |
 *        +-------------+-------------+
 *        v             v             v
 *   VirtIOBlkQueue VirtIOBlkQueue VirtIOBlkQueue    one owner thread each
 *
 * VIRTIO 1.2, section 5.2.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_VIRTIO_BLK_H
#define QEMU_VIRTIO_BLK_H

#include "standard-headers/linux/virtio_blk.h"
#include "hw/block/block-queue-device.h"
#include "hw/block/block.h"
#include "hw/block/stats-intervals.h"
#include "hw/virtio/ring-view.h"
#include "hw/virtio/virtio.h"
#include "qom/object.h"
#include "system/block-backend.h"
#include "system/block-ram-registrar.h"

#define TYPE_VIRTIO_BLK "virtio-blk-device"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOBlock, VIRTIO_BLK)

/* The value if num-queues is not given: the transport or realize() chooses. */
#define VIRTIO_BLK_AUTO_NUM_QUEUES UINT16_MAX

typedef struct VirtIOBlkConf {
    BlockConf conf;
    StatsIntervals stats_intervals;
    char *serial;

    /* Queues */
    uint16_t queue_size;
    uint16_t num_queues;
    QueueIOThreadsConf iothreads;
    bool seg_max_adjust;
    uint32_t request_merging;

    /* Discard and write zeroes */
    uint32_t max_write_zeroes_sectors;
    uint32_t max_discard_sectors;
    bool report_discard_granularity;

    bool x_enable_wce_if_config_wce;
} VirtIOBlkConf;

struct VirtIOBlock {
    VirtIODevice parent_obj;

    BlockQueueDevice common;    /* has conf.num_queues VirtIOBlkQueues */

    /* Fixed by realize(). */
    BlockBackend *blk;
    DeviceState *transport;     /* the PCI function or MMIO slot */
    VirtIOBlkConf conf;
    uint64_t host_features;
    size_t config_size;
    uint64_t sector_mask;       /* sectors of one logical block, less one */
    BlockRAMRegistrar blk_ram_registrar;

    /* The data path reads this; it changes seldom. */
    uint64_t nr_sectors;        /* atomic; the capacity that the guest knows */

    /* Only control uses these, under the BQL. */
    RingViewSource *view_source;    /* while the device is started */
    bool original_wce;
    QEMUBH *queues_bh;          /* runs when a queue calls control */
    QEMUBH *memory_bh;          /* runs when guest memory has changed */
    bool look_at_rings;         /* atomic; @memory_bh lets all queues look */
    bool warned_of_main_loop;   /* a queue is served by the main loop */
};

#endif /* QEMU_VIRTIO_BLK_H */
