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

/* num-queues not given: the transport or realize() chooses. */
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

    BlockQueueDevice common;    /* its queues are conf.num_queues */

    /* Fixed by realize(). */
    BlockBackend *blk;
    DeviceState *transport;     /* has the registers: PCI function, MMIO slot */
    VirtIOBlkConf conf;
    uint64_t host_features;
    size_t config_size;
    uint64_t sector_mask;       /* sectors of one logical block, less one */
    BlockRAMRegistrar blk_ram_registrar;

    /* Read by the data path; changes seldom. */
    uint64_t nb_sectors;        /* atomic: capacity as the guest knows it */

    /* Control only, BQL. */
    RingViewSource *view_source;    /* while started */
    bool original_wce;
    QEMUBH *queues_bh;          /* a queue wants something */
    QEMUBH *memory_bh;          /* guest memory has changed */
    bool look_at_rings;         /* ... and each queue is to look; atomic */
    bool warned_of_main_loop;   /* that it has to serve a queue */
};

#endif /* QEMU_VIRTIO_BLK_H */
