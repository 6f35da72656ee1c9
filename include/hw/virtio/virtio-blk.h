/*
 * virtio-blk: a block device with a queue per CPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *                 VirtIOBlock  (control, BQL; read-only for the data path)
 *                      |
 *        +-------------+-------------+
 *        v             v             v
 *   VirtIOBlkQueue VirtIOBlkQueue VirtIOBlkQueue    one owner thread each
 *
 * VIRTIO 1.2, section 5.2.
 */

#ifndef QEMU_VIRTIO_BLK_H
#define QEMU_VIRTIO_BLK_H

#include "standard-headers/linux/virtio_blk.h"
#include "hw/block/block.h"
#include "hw/block/queue-iothreads.h"
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

typedef struct VirtIOBlkQueue VirtIOBlkQueue;

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

/*
 * How the device is served.
 *
 *                +----------- no eventfds -----------+
 *                v                                   |
 *    +---------+ -- driver starts it, cont --> +----------+
 *    | stopped |                               | starting |
 *    +---------+ <--- stopping <--- notifiers <+----------+
 *       |   ^        reset, stop   (eventfds)
 *       |   |
 *       |   +---- reset, stop -----+
 *       +-- kick, cont --> calls --+
 *
 * While it has notifiers each queue is served in its own thread.  With calls
 * (ioeventfd=off, or eventfds could not be had) the main loop serves all; each
 * start tries anew to get eventfds.
 */
typedef enum VirtIOBlkLife {
    VIRTIO_BLK_STOPPED,
    VIRTIO_BLK_STARTING,
    VIRTIO_BLK_NOTIFIERS,
    VIRTIO_BLK_STOPPING,
    VIRTIO_BLK_CALLS,
    VIRTIO_BLK_LIFE__MAX
} VirtIOBlkLife;

struct VirtIOBlock {
    VirtIODevice parent_obj;

    /* Fixed by realize(). */
    BlockBackend *blk;
    DeviceState *transport;     /* has the registers: PCI function, MMIO slot */
    VirtIOBlkConf conf;
    uint64_t host_features;
    size_t config_size;
    uint64_t sector_mask;       /* sectors of one logical block, less one */
    VirtIOBlkQueue *queues;     /* conf.num_queues */
    BlockRAMRegistrar blk_ram_registrar;

    /* Read by the data path; changes seldom. */
    uint64_t nb_sectors;        /* atomic: capacity as the guest knows it */

    /* Control only, BQL. */
    QueueIOThreads map;
    RingViewSource *view_source;    /* while started */
    VMChangeStateEntry *change;
    bool original_wce;
    VirtIOBlkLife life;
    QEMUBH *memory_bh;          /* guest memory has changed */
    bool memory_gone;           /* ... and there is less of it */
    bool served_in_main;        /* and has warned of that */
};

/**
 * virtio_blk_set_queue_iothread: serve a queue by another IOThread from now on
 * @iothread: NULL for the main loop
 *
 * Drains the device for a moment; the guest may go on meanwhile.
 * Returns false with @errp set when the device's kicks do not reach
 * IOThreads.  BQL, main loop thread.
 */
bool virtio_blk_set_queue_iothread(VirtIOBlock *s, unsigned queue,
                                   IOThread *iothread, Error **errp);

#endif /* QEMU_VIRTIO_BLK_H */
