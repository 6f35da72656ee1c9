/*
 * A qcow2 image in memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMORY_DISK_H
#define MEMORY_DISK_H

#include "system/block-backend.h"

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
 * memory_disk_blk: the image, with a cache of @slots L2 tables of 512 bytes,
 * which is cleaned every second of QEMU_CLOCK_VIRTUAL.
 */
BlockBackend *memory_disk_blk(int slots);

/**
 * memory_disk_reopen: the same with another number of slots.
 */
void memory_disk_reopen(BlockBackend *blk, int slots);

#endif /* MEMORY_DISK_H */
