/*
 * Writes to a qcow2 image from many threads
 *
 * Four threads write, clear, discard and flush whatever sectors they find
 * nobody else at, the same clusters at once among them.  Each sector carries
 * the number of the write that it comes from.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QCOW2_HAMMER_H
#define QCOW2_HAMMER_H

#include "block/qcow2.h"
#include "memory-disk.h"

#define SECTOR          MEMORY_DISK_SECTOR
#define DISK_BYTES      (6 * 1024 * 1024)
#define DISK_BYTES_MAX  (12 * 1024 * 1024)
#define DISK_SECTORS    (DISK_BYTES_MAX / SECTOR)

#define THREADS         4
#define DEPTH           8

/* Numbers; even ones are of zeroes. */
typedef struct TestSector {
    int owned;      /* by the one who reads or writes it */
    int started;    /* the newest write */
    int done;       /* the newest write that has ended */
    int flushed;    /* the newest write that a flush came after */
} TestSector;

typedef struct TestImage {
    const char *options;
    BlockBackend *blk;
    BlockDriverState *bs;
    BDRVQcow2State *s;
    TestSector *sectors;    /* DISK_SECTORS of them */
    TestSector *kept;       /* as they were at a snapshot or a failure */
    int64_t size;
    int running;
    unsigned requests;      /* of each of the THREADS * DEPTH coroutines */
    unsigned step;

    /* Called before each request, in its thread, if not NULL */
    void (*request)(struct TestImage *image);
} TestImage;

/**
 * image_use: the image is open as @blk.
 */
void image_use(TestImage *image, BlockBackend *blk);

/**
 * image_load: make all requests, and call @control meanwhile, if not NULL, in
 * the main thread; the number of calls is a multiple of 8.
 */
void image_load(TestImage *image, int seed, void (*control)(TestImage *image));

/**
 * sector_next: a sector gets the next number, of zeroes or not.
 */
void sector_next(TestSector *sector, bool zero);

/**
 * image_verify: exactly what was written is there.  Nobody else uses it.
 */
void image_verify(TestImage *image);

/**
 * image_check: refcounts are right; those that are too high may be fixed
 * first (@fix).
 */
void image_check(TestImage *image, BdrvCheckMode fix);

/**
 * image_keep: keep what is known of the sectors, at a failure.
 */
void image_keep(TestImage *image);

/**
 * image_recover: what was flushed before the failure, and not written since, is
 * there.  The rest becomes known, for the next failure: it may be anything.
 */
void image_recover(TestImage *image);

/**
 * image_thin: make room, so that what is written next has to be allocated, in
 * the file too.
 */
void image_thin(TestImage *image, GRand *rand);

#endif /* QCOW2_HAMMER_H */
