/*
 * A disk with several queues, from image to driver
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_DISK_H
#define VBLK_DISK_H

#include "qobject/qdict.h"
#include "vblk-request.h"

/* Machine options that give every test disk two IOThreads to choose from. */
#define VBLK_IOTHREADS "-object iothread,id=io0 -object iothread,id=io1 "

/**
 * VblkDisk: what most tests need.
 * @image: file name of the raw image behind node "disk"
 */
typedef struct VblkDisk {
    char *image;
    VblkMachine *m;
    VblkDevice *d;
} VblkDisk;

/**
 * vblk_disk_start: start a machine with one virtio-blk on node "disk", a raw
 * image of @size bytes.
 * @options: more options for the node "disk" as "name=value,...", or NULL
 * @props: properties of the device, "name=value,..."
 */
VblkDisk vblk_disk_start(const VblkVariant *v, uint64_t size,
                         const char *options, const char *props);
void vblk_disk_stop(VblkDisk *disk);

/**
 * vblk_disk_start_target: start a machine with the same image, which waits for
 * a migration.
 * @props: properties of its device
 */
VblkMachine *vblk_disk_start_target(const VblkDisk *disk, const char *props);

/**
 * vblk_disk_migrate: move a running disk to such a machine, and let it run
 * there.
 */
void vblk_disk_migrate(VblkDisk *disk, const char *props);

/**
 * vblk_disk_queue_info: what the monitor says of a queue.
 *
 * Returns: to be unreferenced.
 */
QDict *vblk_disk_queue_info(VblkDisk *disk, unsigned queue);

/**
 * vblk_disk_check_home: check which IOThread QEMU says serves a queue.
 * @iothread: NULL for the main loop
 */
void vblk_disk_check_home(VblkDisk *disk, unsigned queue, const char *iothread);

/**
 * vblk_disk_move: give a queue to another IOThread.
 * @iothread: NULL for the main loop
 */
void vblk_disk_move(VblkDisk *disk, unsigned queue, const char *iothread);

/** vblk_disk_resize: make node "disk" @size bytes long; drains it, too. */
void vblk_disk_resize(VblkDisk *disk, uint64_t size);

/*
 * Ways to use a ring.
 */

/**
 * VblkRing: a set of ring features with a name.
 * @features: which of VBLK_RING_FEATURES
 * @indirect: put all chains into indirect tables
 */
typedef struct VblkRing {
    const char *name;
    uint64_t features;
    bool indirect;
} VblkRing;

/**
 * vblk_disk_for_each_ring: run @fn with each way to use a ring that the
 * device's interface has, having started the device with it.  The device needs
 * the property packed=on.
 */
void vblk_disk_for_each_ring(VblkDisk *disk,
                             void (*fn)(VblkDisk *disk, const VblkRing *ring));

/** vblk_disk_run_rings: the same with a disk of its own, from start to stop. */
void vblk_disk_run_rings(const VblkVariant *v, uint64_t size, const char *props,
                         void (*fn)(VblkDisk *disk, const VblkRing *ring));

#endif
