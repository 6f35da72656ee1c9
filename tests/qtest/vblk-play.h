/*
 * The steps of which the scenarios of the matrix consist
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_PLAY_H
#define VBLK_PLAY_H

#include "vblk-matrix.h"

#define VBLK_PLAY_SIZE (4 * 1024 * 1024)
#define VBLK_PLAY_SECTORS (VBLK_PLAY_SIZE / VBLK_SECTOR)

/* The device, to commands that do not look below its name */
#define VBLK_PLAY_QOM "/machine/peripheral/disk0/virtio-backend"

/* A limit that makes all of a load wait */
#define VBLK_PLAY_SLOW 1

/**
 * VblkPlayDisk: what a play's disk is like.
 * @iops: requests in a second of virtual time that get through; 0 for all
 * @errors: JSON array of errors that blkdebug is to inject, or NULL
 * @props: more properties of the device, as members of a JSON object that
 *         begin with a comma, or NULL
 * @no_driver: leave the device as it comes
 */
typedef struct VblkPlayDisk {
    unsigned iops;
    const char *errors;
    const char *props;
    bool no_driver;
} VblkPlayDisk;

/**
 * vblk_play_start: start a machine with a disk that fits the cell, and its
 * driver.
 */
void vblk_play_start(VblkPlay *p, VblkPlayDisk disk);

/** vblk_play_prepare: the machine and the disk, without the device. */
void vblk_play_prepare(VblkPlay *p, VblkPlayDisk disk);

/** vblk_note_plug: try to plug the device, and note how that ended. */
void vblk_note_plug(VblkPlay *p, const char *name, const char *props);

/** vblk_play_plug: plug the device and open it; no driver yet. */
void vblk_play_plug(VblkPlay *p, const char *props);

/**
 * vblk_play_renew: take the disk away, once its device is gone, and add it
 * anew, with all that its limit allows.
 */
void vblk_play_renew(VblkPlay *p);

/**
 * vblk_play_hurry: from now on the limit, if there is one, lets much through.
 */
void vblk_play_hurry(VblkPlay *p);

/** vblk_play_drive: reset the device and start the cell's driver. */
void vblk_play_drive(VblkPlay *p);

/** vblk_play_end: end QEMU and see that it ends well. */
void vblk_play_end(VblkPlay *p);

/**
 * vblk_play_target: start a machine with the same disk, not slow and without
 * errors, which waits for a migration.
 */
VblkMachine *vblk_play_target(VblkPlay *p);

/** vblk_play_go: QMP command that has to succeed; @json with its arguments. */
void vblk_play_go(VblkPlay *p, const char *command, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/** vblk_play_try: the same, and note under @name how it ended. */
void vblk_play_try(VblkPlay *p, const char *name, const char *command,
                   const char *fmt, ...) G_GNUC_PRINTF(4, 5);

void vblk_play_stop(VblkPlay *p);
void vblk_play_cont(VblkPlay *p);

/** vblk_note_state: note the run state. */
void vblk_note_state(VblkPlay *p);

/**
 * vblk_play_limit: give the device a limit of its own.
 * @iops: requests in a second of virtual time; 0 for none
 */
void vblk_play_limit(VblkPlay *p, unsigned iops);

/**
 * vblk_play_reopen: blockdev-reopen of node "disk".
 * @size: for the option "size" of a disk that is not slow; 0 to leave it out
 */
void vblk_play_reopen(VblkPlay *p, uint64_t size);

/** vblk_play_storm: @rounds of the QMP commands that drain. */
void vblk_play_storm(VblkPlay *p, unsigned rounds);

/*
 * Loads
 */

/**
 * VblkLoad: requests on all queues.
 * @name: what to call it in the record
 * @seed: the first one's pattern
 */
typedef struct VblkLoad {
    const char *name;
    uint32_t seed;
    GPtrArray *requests;
} VblkLoad;

/**
 * vblk_load_new: @num requests of 4 KiB for each queue, from @sector on, in the
 * rings but not exposed.
 * @type: VIRTIO_BLK_T_IN or VIRTIO_BLK_T_OUT
 */
VblkLoad *vblk_load_new(VblkPlay *p, const char *name, uint32_t type,
                        uint64_t sector, unsigned num);

/**
 * vblk_load_scattered: @num writes for queue 0, of @segs sectors in as many
 * segments, in indirect tables.
 */
VblkLoad *vblk_load_scattered(VblkPlay *p, const char *name, unsigned num,
                              unsigned segs);
void vblk_load_free(VblkLoad *load);

/**
 * vblk_play_start_loaded: vblk_play_start() with a slow disk, and 4 writes and
 * 4 reads for each queue, all of them in flight.
 *
 * What the limit lets through at once, the device has used up when it read the
 * partition table.
 * @writes: if not NULL, set to the load "writes"
 *
 * Returns: the load "reads".
 */
VblkLoad *vblk_play_start_loaded(VblkPlay *p, VblkLoad **writes);

/**
 * vblk_play_start_scattered: the same with 150 writes of 40 sectors each from
 * vblk_load_scattered(), kicked.
 */
VblkLoad *vblk_play_start_scattered(VblkPlay *p);

/**
 * vblk_play_start_held: vblk_play_start() with one write for each queue; that
 * of queue 1 fails, which stops the VM.  Notes the run state.
 *
 * Returns: the load "writes".
 */
VblkLoad *vblk_play_start_held(VblkPlay *p);

/** vblk_play_expose: make all that is in the rings available, no kick. */
void vblk_play_expose(VblkPlay *p);

/** vblk_play_notify: ring all doorbells, whether the device wants it or not. */
void vblk_play_notify(VblkPlay *p);

/** vblk_play_kick: expose and notify. */
void vblk_play_kick(VblkPlay *p);

/**
 * vblk_play_wait_taken: wait until the device has taken all that is exposed.
 */
void vblk_play_wait_taken(VblkPlay *p);

/**
 * vblk_note_answers: wait for all answers, with time passing, and note what
 * they are; if they do not all come, note that, and end the play.
 */
void vblk_note_answers(VblkPlay *p, VblkLoad *load);

/** vblk_note_so_far: note the answers that have come. */
void vblk_note_so_far(VblkPlay *p, VblkLoad *load);

/** vblk_note_written: note how much of it is in the disk's image. */
void vblk_note_written(VblkPlay *p, VblkLoad *load);

/** vblk_note_run: run a request on @queue and note its status. */
void vblk_note_run(VblkPlay *p, const char *name, unsigned queue, uint32_t type,
                   uint64_t sector);

/**
 * vblk_note_works: a write and a read on each queue, and note that they work.
 */
void vblk_note_works(VblkPlay *p, const char *name);

/** vblk_note_capacity: note the capacity in the configuration. */
void vblk_note_capacity(VblkPlay *p, const char *name);

/*
 * Nothing may happen
 */

/**
 * VblkFreeze: memory and disk at one moment.
 */
typedef struct VblkFreeze VblkFreeze;

/**
 * vblk_places: where the rings, and the buffers of @load if it is not NULL,
 * are; for later, when the queues and requests may be gone.
 */
GArray *vblk_places(VblkPlay *p, VblkLoad *load);

/** vblk_freeze_places: remember what is there, and the image; frees @places. */
VblkFreeze *vblk_freeze_places(VblkPlay *p, GArray *places);

/** vblk_freeze: the same at once. */
VblkFreeze *vblk_freeze(VblkPlay *p, VblkLoad *load);

/** vblk_note_frozen: note whether all is as it was; frees @f. */
void vblk_note_frozen(VblkPlay *p, const char *name, VblkFreeze *f);

/**
 * vblk_note_memory_frozen: the same of memory only; requests may end on disk.
 */
void vblk_note_memory_frozen(VblkPlay *p, const char *name, VblkFreeze *f);

/*
 * For the tables: what the record has when all went well
 */
#define VBLK_OK(name, n) \
    name ": " #n " of " #n " answered, " #n " with status 0\n"
#define VBLK_ON_DISK(name, n) name ": " #n " of " #n " on the disk\n"
#define VBLK_AS_IT_WAS(when) when ": memory as it was, disk as it was\n"
#define VBLK_WORKS(when) "every queue works " when "\n"

/* For VblkPlayDisk: the write at sector 16, on queue 1, fails once. */
#define VBLK_ONE_ERROR \
    "[{'event': 'none', 'iotype': 'write', 'errno': 5, 'once': true," \
    " 'sector': 16}]"

#endif
