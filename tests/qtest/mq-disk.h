/*
 * A disk with several queues, from image to driver
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_DISK_H
#define MQ_DISK_H

#include "qobject/qdict.h"
#include "mq-request.h"

/* Machine options that give every test disk two IOThreads to choose from. */
#define MQ_IOTHREADS "-object iothread,id=io0 -object iothread,id=io1 "

/**
 * MqDisk: what most tests need.
 * @image: file name of the raw image behind node "disk"
 */
typedef struct MqDisk {
    char *image;
    MqMachine *m;
    MqDevice *d;
} MqDisk;

/**
 * mq_disk_start: start a machine with one virtio-blk on node "disk", a raw
 * image of @size bytes.
 * @options: more options for the node "disk" as "name=value,...", or NULL
 * @props: properties of the device, "name=value,..."
 */
MqDisk mq_disk_start(const MqVariant *v, uint64_t size, const char *options,
                     const char *props);
void mq_disk_stop(MqDisk *disk);

/**
 * mq_disk_queue_info: what the monitor says of a queue.
 *
 * Returns: to be unreferenced.
 */
QDict *mq_disk_queue_info(MqDisk *disk, unsigned queue);

/**
 * mq_disk_check_home: check which IOThread QEMU says serves a queue.
 * @iothread: NULL for the main loop
 */
void mq_disk_check_home(MqDisk *disk, unsigned queue, const char *iothread);

/**
 * mq_disk_move: give a queue to another IOThread.
 * @iothread: NULL for the main loop
 */
void mq_disk_move(MqDisk *disk, unsigned queue, const char *iothread);

/* mq_disk_resize: make node "disk" @size bytes long; drains it, too. */
void mq_disk_resize(MqDisk *disk, uint64_t size);

/*
 * Ways to use a ring.
 */

/**
 * MqRing: a set of ring features with a name.
 * @features: which of MQ_RING_FEATURES
 * @indirect: put all chains into indirect tables
 */
typedef struct MqRing {
    const char *name;
    uint64_t features;
    bool indirect;
} MqRing;

/**
 * mq_disk_for_each_ring: run @fn with each way to use a ring that the device's
 * interface has, having started the device with it.  The device needs the
 * property packed=on.
 */
void mq_disk_for_each_ring(MqDisk *disk,
                           void (*fn)(MqDisk *disk, const MqRing *ring));

/* mq_disk_run_rings: the same with a disk of its own, from start to stop. */
void mq_disk_run_rings(const MqVariant *v, uint64_t size, const char *props,
                       void (*fn)(MqDisk *disk, const MqRing *ring));

#endif
