/*
 * A test of which requests need the lock of a qcow2 image
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QCOW2_LOCK_H
#define QCOW2_LOCK_H

#include "block/qcow2.h"
#include "system/block-backend.h"

/* Holds the lock between qcow2_lock_begin() and qcow2_lock_end(). */
typedef struct Qcow2LockHolder {
    BlockBackend *blk;
    Coroutine *co;
    bool held;
} Qcow2LockHolder;

/**
 * qcow2_lock_begin: take the image's lock, which nobody else has.
 */
void qcow2_lock_begin(Qcow2LockHolder *holder, BlockBackend *blk);

/**
 * qcow2_lock_is_waited_for: whether others want it.
 */
bool qcow2_lock_is_waited_for(Qcow2LockHolder *holder);

/**
 * qcow2_lock_end: give it back.
 */
void qcow2_lock_end(Qcow2LockHolder *holder);

/**
 * qcow2_read_needs_lock: whether a read of the image waits for the lock.
 *
 * It is done when this returns.
 */
bool qcow2_read_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes);

/**
 * qcow2_write_needs_lock: the same of a write.
 */
bool qcow2_write_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes);

/**
 * qcow2_status_needs_lock: the same of asking what there is.
 */
bool qcow2_status_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes);

#endif /* QCOW2_LOCK_H */
