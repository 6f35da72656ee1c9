/*
 * A disk in memory whose requests can be stopped at known steps
 *
 * It has blocks of 4 KiB and clusters of 16 KiB.  Nothing is ever allocated:
 * each copy-on-read copies, and what it reads "from the backing file" is what
 * is there.  Each request lets others of its thread go first.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef STEPPED_DISK_H
#define STEPPED_DISK_H

#include "system/block-backend.h"

#define SECTOR          512
#define BLOCK           4096
#define CLUSTER         (4 * BLOCK)

#define DISK_BYTES      (16 * CLUSTER)

/* What a request is about to do in the driver */
typedef enum Step {
    STEP_INFO,
    STEP_READ,
    STEP_WRITE,
    STEP_ZERO,
    STEP__MAX,
} Step;

/* There is one disk at a time. */
typedef struct SteppedDisk {
    uint64_t words[DISK_BYTES / sizeof(uint64_t)];
    int64_t length;

    /* Requests that have come to this step */
    int steps[STEP__MAX];

    /* The next one waits here, until disk_gate_open() */
    bool gate_closed[STEP__MAX];
    Coroutine *waiting[STEP__MAX];

    bool fail_reads;

    /* Data are not kept, so that the disk may grow beyond what is there */
    bool forgets;
} SteppedDisk;

extern SteppedDisk *disk;

/**
 * disk_open: a disk of @length bytes of zeroes.  Writes may make it larger.
 */
BlockBackend *disk_open(int64_t length);

void disk_close(BlockBackend *blk);

/**
 * disk_gate_open: who waits at @which may go on.
 */
void disk_gate_open(Step which);

#endif /* STEPPED_DISK_H */
