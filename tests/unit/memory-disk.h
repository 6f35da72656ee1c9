/*
 * A qcow2 image in memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMORY_DISK_H
#define MEMORY_DISK_H

#include "system/block-backend.h"

/* A 512 bytes part is written whole or not at all. */
#define MEMORY_DISK_SECTOR 512

/**
 * memory_disk_open: make an empty image of a disk with @bytes.
 *
 * @options are those of qemu-img create -o.  Each request to the memory lets
 * others of its thread go first.  There is one image at a time.
 */
void memory_disk_open(const char *options, int64_t bytes);

/**
 * memory_disk_close: nobody uses the image any more.
 */
void memory_disk_close(void);

/**
 * memory_disk_words: the image itself, to look at or to spoil.
 */
uint64_t *memory_disk_words(void);

/* Reads of the memory since memory_disk_open() */
typedef struct MemoryDiskReads {
    unsigned done;
    unsigned at_once;       /* under way at the same time, at most */
    Coroutine *held;        /* has read and waits; NULL: none */
} MemoryDiskReads;

/**
 * memory_disk_reads: what has been read.
 *
 * The counts are right if all reads come from one thread.
 */
MemoryDiskReads *memory_disk_reads(void);

/**
 * memory_disk_hold_read: let the next read wait with what it has read, until
 * memory_disk_reads()->held is woken; or no read any more.
 */
void memory_disk_hold_read(bool hold);

/**
 * memory_disk_cut: let the power fail at the @requests-th write or flush.
 *
 * @failing is called at that moment, in its thread.  The image goes on as if
 * nothing had happened.
 */
void memory_disk_cut(unsigned requests, void (*failing)(void *opaque),
                     void *opaque);

/**
 * memory_disk_power_up: the image becomes what the power failure left of it.
 *
 * That is all that was flushed, and of each sector written since, by chance,
 * the old content or the new one.  Nobody uses the image.
 *
 * Returns: false if the power has not failed: all is there.
 */
bool memory_disk_power_up(GRand *rand);

/**
 * memory_disk_blk: the image, with a cache of @slots L2 tables of 512 bytes,
 * which is cleaned every second of QEMU_CLOCK_VIRTUAL.
 */
BlockBackend *memory_disk_blk(int slots);

/**
 * memory_disk_reopen: the same with another number of slots.
 */
void memory_disk_reopen(BlockBackend *blk, int slots);

#endif /* MEMORY_DISK_H */
