/*
 * The steps of which the scenarios of the matrix consist
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_PLAY_H
#define MQ_PLAY_H

#include "mq-matrix.h"

#define MQ_PLAY_SIZE (4 * 1024 * 1024)
#define MQ_PLAY_SECTORS (MQ_PLAY_SIZE / MQ_SECTOR)

/* The device, to commands that do not look below its name */
#define MQ_PLAY_QOM "/machine/peripheral/disk0/virtio-backend"

/* A limit that holds back all of a load */
#define MQ_PLAY_SLOW 1

/**
 * MqPlayDisk: what a play's disk is like.
 * @iops: requests in a second of virtual time that get through; 0 for all
 * @errors: JSON array of errors that blkdebug is to inject, or NULL
 * @props: more properties of the device, as members of a JSON object that
 *         begin with a comma, or NULL
 * @no_driver: leave the device as it comes
 */
typedef struct MqPlayDisk {
    unsigned iops;
    const char *errors;
    const char *props;
    bool no_driver;
} MqPlayDisk;

/*
 * mq_play_start: start a machine with a disk that fits the cell, and its
 * driver.
 */
void mq_play_start(MqPlay *p, MqPlayDisk disk);

/* mq_play_prepare: the machine and the disk, without the device */
void mq_play_prepare(MqPlay *p, MqPlayDisk disk);

/* mq_note_plug: try to plug the device, and note how that ended. */
void mq_note_plug(MqPlay *p, const char *name, const char *props);

/* mq_play_plug: plug the device and open it; no driver yet. */
void mq_play_plug(MqPlay *p, const char *props);

/**
 * mq_play_renew: take the disk away, once its device is gone, and add it anew,
 * with all that its limit allows.
 */
void mq_play_renew(MqPlay *p);

/* mq_play_hurry: from now on the limit, if there is one, lets much through. */
void mq_play_hurry(MqPlay *p);

/* mq_play_drive: reset the device and start the cell's driver. */
void mq_play_drive(MqPlay *p);

/* mq_play_end: end QEMU and see that it ends well. */
void mq_play_end(MqPlay *p);

/**
 * mq_play_target: start a machine with the same disk, not slow and without
 * errors, which waits for a migration.
 */
MqMachine *mq_play_target(MqPlay *p);

/* mq_play_go: QMP command that has to succeed; @json with its arguments */
void mq_play_go(MqPlay *p, const char *command, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* mq_play_try: the same, and note under @name how it ended. */
void mq_play_try(MqPlay *p, const char *name, const char *command,
                 const char *fmt, ...) G_GNUC_PRINTF(4, 5);

void mq_play_stop(MqPlay *p);
void mq_play_cont(MqPlay *p);

/* mq_note_state: note the run state. */
void mq_note_state(MqPlay *p);

/**
 * mq_play_reopen: blockdev-reopen of node "disk".
 * @size: for the option "size" of a disk that is not slow; 0 to leave it out
 */
void mq_play_reopen(MqPlay *p, uint64_t size);

/* mq_play_storm: @rounds of the QMP commands that drain. */
void mq_play_storm(MqPlay *p, unsigned rounds);

/*
 * Loads
 */

/**
 * MqLoad: requests on all queues.
 * @name: what to call it in the record
 * @seed: the first one's pattern
 */
typedef struct MqLoad {
    const char *name;
    uint32_t seed;
    GPtrArray *requests;
} MqLoad;

/**
 * mq_load_new: @num requests of 4 KiB for each queue, from @sector on, in the
 * rings but not exposed.
 * @type: VIRTIO_BLK_T_IN or VIRTIO_BLK_T_OUT
 */
MqLoad *mq_load_new(MqPlay *p, const char *name, uint32_t type,
                    uint64_t sector, unsigned num);

/**
 * mq_load_scattered: @num writes for queue 0, of @segs sectors in as many
 * segments, in indirect tables.
 */
MqLoad *mq_load_scattered(MqPlay *p, const char *name, unsigned num,
                          unsigned segs);
void mq_load_free(MqLoad *load);

/* mq_play_expose: make all that is in the rings available, no kick. */
void mq_play_expose(MqPlay *p);

/* mq_play_notify: ring all doorbells, whether the device wants it or not. */
void mq_play_notify(MqPlay *p);

/* mq_play_kick: expose and notify. */
void mq_play_kick(MqPlay *p);

/* mq_play_wait_taken: wait until the device has taken all that is exposed. */
void mq_play_wait_taken(MqPlay *p);

/**
 * mq_note_answers: wait for all answers, with time passing, and note what they
 * are; if they do not all come, note that, and end the play.
 */
void mq_note_answers(MqPlay *p, MqLoad *load);

/* mq_note_so_far: note the answers that have come. */
void mq_note_so_far(MqPlay *p, MqLoad *load);

/* mq_note_written: note how much of it is in the disk's image. */
void mq_note_written(MqPlay *p, MqLoad *load);

/* mq_note_run: run a request on @queue and note its status. */
void mq_note_run(MqPlay *p, const char *name, unsigned queue, uint32_t type,
                 uint64_t sector);

/* mq_note_works: a write and a read on each queue, and note that they work. */
void mq_note_works(MqPlay *p, const char *name);

/* mq_note_capacity: note the capacity in the configuration. */
void mq_note_capacity(MqPlay *p, const char *name);

/*
 * Nothing may happen
 */

/**
 * MqFreeze: memory and disk at one moment.
 */
typedef struct MqFreeze MqFreeze;

/**
 * mq_places: where the rings, and the buffers of @load if it is not NULL, are;
 * for later, when the queues and requests may be gone.
 */
GArray *mq_places(MqPlay *p, MqLoad *load);

/* mq_freeze_places: remember what is there, and the image; frees @places. */
MqFreeze *mq_freeze_places(MqPlay *p, GArray *places);

/* mq_freeze: the same at once */
MqFreeze *mq_freeze(MqPlay *p, MqLoad *load);

/* mq_note_frozen: note whether all is as it was; frees @f. */
void mq_note_frozen(MqPlay *p, const char *name, MqFreeze *f);

/* mq_note_memory_frozen: the same of memory only; requests may end on disk. */
void mq_note_memory_frozen(MqPlay *p, const char *name, MqFreeze *f);

/*
 * For the tables: what the record has when all went well
 */
#define MQ_OK(name, n) \
    name ": " #n " of " #n " answered, " #n " with status 0\n"
#define MQ_ON_DISK(name, n) name ": " #n " of " #n " on the disk\n"
#define MQ_WORKS(when) "every queue works " when "\n"

/* For MqPlayDisk: the write at sector 16, on queue 1, fails once. */
#define MQ_ONE_ERROR \
    "[{'event': 'none', 'iotype': 'write', 'errno': 5, 'once': true," \
    " 'sector': 16}]"

#endif
