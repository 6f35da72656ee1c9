/*
 * The disks that the block-layer hammer works on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_HAMMER_DISK_H
#define BLOCK_HAMMER_DISK_H

#include "system/block-backend.h"

#define SECTOR              512
#define DISK_SECTORS        8192        /* at the beginning of a round */
#define DISK_SECTORS_MAX    12288

/* What can be done to a disk, beside reading and writing it */
typedef enum DiskCan {
    DISK_GROWS = 1 << 0,        /* what is added is zeroes */
    DISK_SNAPSHOTS = 1 << 1,    /* inside the image */
    DISK_CHECKS = 1 << 2,       /* refcounts of a qcow2 image */
} DiskCan;

/* How a disk is made.  In strings, '@' is the path of its files. */
typedef struct DiskKind {
    const char *name;
    const char *format;
    const char *create;         /* options, as of qemu-img create -o */
    const char *node;           /* as of -blockdev, in JSON */
    const char *image;          /* below filters; NULL: the same */
    unsigned can;               /* of DiskCan */
    bool backing;               /* "@.base", which has data */
    bool whole_blocks;          /* each writer has whole blocks of 4 KiB */
} DiskKind;

/* The last one has no name. */
extern const DiskKind disk_kinds[];

/**
 * disks_begin: make a folder for the files, and what nodes refer to.
 */
void disks_begin(void);

void disks_end(void);

/**
 * disk_create: make the files of disk number @number, of @sectors sectors.
 *
 * If it has a backing file, @base is what is in there.
 */
void disk_create(const DiskKind *kind, int number, int sectors,
                 const void *base);

/**
 * disk_open: the node on top of that disk.
 */
BlockDriverState *disk_open(const DiskKind *kind, int number);

/**
 * snapshot_open: the snapshot inside that disk, which may be open already.
 *
 * The node is for reading only.  What the image's cache has to write of the
 * snapshot's tables has to be written before.
 */
BlockDriverState *snapshot_open(const DiskKind *kind, int number,
                                const char *name);

void disk_delete(int number);

/**
 * overlay_create: an empty qcow2 image with no backing file yet.
 */
BlockDriverState *overlay_create(int sectors);

void overlay_delete(void);

#endif /* BLOCK_HAMMER_DISK_H */
