/*
 * Which clusters of a qcow2 image hold metadata, for requests that write data
 *
 * Before data is written to a cluster, qcow2 looks through all tables for one
 * that lies there: a corrupt image may say so.  That takes the image's lock
 * and takes the longer, the more tables there are.  This set of cluster numbers
 * has what is looked for there, and can be asked without the lock.
 *
 *      owner of the lock                     request that writes data
 *      -----------------                     ------------------------
 *      qcow2_metadata_learn(), all there is  brief_read_begin()
 *      qcow2_metadata_add(), new ones        qcow2_metadata_misses()?  write
 *      qcow2_metadata_forget()               otherwise look at the tables
 *
 * The set may contain clusters that no longer hold metadata.  So only the
 * answer "no metadata" is certain.  While the set is unknown, there is no
 * answer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_METADATA_H
#define BLOCK_QCOW2_METADATA_H

#include "block/qcow2.h"

/**
 * qcow2_metadata_learn: make the set, if it is unknown.
 *
 * Called with the lock held.  It stays unknown where the check looks at more
 * than the memory has (overlap-check=all), or without memory.
 */
void GRAPH_RDLOCK qcow2_metadata_learn(BlockDriverState *bs);

/**
 * qcow2_metadata_add: the cluster at @offset is about to hold metadata.
 *
 * Called with the lock held.
 */
void qcow2_metadata_add(BDRVQcow2State *s, uint64_t offset);

/**
 * qcow2_metadata_forget: the set is unknown from now on.
 *
 * Called with the lock held or without requests, when more has changed than
 * single clusters.  Waits for requests that are asking.
 */
void qcow2_metadata_forget(BDRVQcow2State *s);

/**
 * qcow2_metadata_misses: whether no metadata lies in @bytes bytes at @offset.
 *
 * Called with the lock held or between brief_read_begin() and _end().  If
 * false, qcow2_pre_write_overlap_check() knows.
 */
bool GRAPH_RDLOCK qcow2_metadata_misses(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes);

/**
 * qcow2_metadata_check_locked: as qcow2_pre_write_overlap_check() of data.
 *
 * Called with the lock held.
 */
int GRAPH_RDLOCK qcow2_metadata_check_locked(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes);

/**
 * qcow2_metadata_check: the same, called without the lock.
 */
int coroutine_fn GRAPH_RDLOCK
qcow2_metadata_check(BlockDriverState *bs, uint64_t offset, uint64_t bytes);

#endif /* BLOCK_QCOW2_METADATA_H */
