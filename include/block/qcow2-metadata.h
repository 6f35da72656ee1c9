/*
 * The set of clusters of a qcow2 image that hold metadata
 *
 * Before data is written to a cluster, qcow2_pre_write_overlap_check() looks
 * for a table that lies there, because the image may be corrupt.  It needs the
 * image's lock, and the time that it takes grows with the number of tables.
 * This set has the numbers of all clusters that it looks for.  A request can
 * look into the set without the lock.
 *
 *      owner of the lock                     request that writes data
 *      -----------------                     ------------------------
 *      qcow2_metadata_learn(): all clusters  brief_read_begin()
 *      qcow2_metadata_add(): a new one       qcow2_metadata_misses()?  write
 *      qcow2_metadata_forget()               otherwise look for the table
 *
 * The set may contain clusters that no longer hold metadata.  So only the
 * answer "no metadata" is certain.  While the set is unknown, a request gets no
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
 * The set stays unknown if no memory can be allocated, or if the overlap check
 * also looks at tables that are not in memory (overlap-check=all).
 *
 * Context: the caller holds the lock.
 */
void GRAPH_RDLOCK qcow2_metadata_learn(BlockDriverState *bs);

/**
 * qcow2_metadata_add: add the cluster at @offset, which is about to hold
 * metadata.
 *
 * Context: the caller holds the lock.
 */
void qcow2_metadata_add(BDRVQcow2State *s, uint64_t offset);

/**
 * qcow2_metadata_forget: make the set unknown from now on.
 *
 * This is for changes of more than single clusters.  It waits for requests that
 * look into the set.
 *
 * Context: the caller holds the lock, or no request is in flight.
 */
void qcow2_metadata_forget(BDRVQcow2State *s);

/**
 * qcow2_metadata_misses: return whether certainly no metadata lies in @bytes
 * bytes at @offset.
 *
 * If it returns false, qcow2_pre_write_overlap_check() has to look.
 *
 * Context: the caller holds the lock, or is between brief_read_begin() and
 * brief_read_end().
 */
bool GRAPH_RDLOCK qcow2_metadata_misses(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes);

/**
 * qcow2_metadata_check_locked: do what qcow2_pre_write_overlap_check() does for
 * data.
 *
 * Context: the caller holds the lock.
 */
int GRAPH_RDLOCK qcow2_metadata_check_locked(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes);

/**
 * qcow2_metadata_check: qcow2_metadata_check_locked(), called without the lock.
 */
int coroutine_fn GRAPH_RDLOCK
qcow2_metadata_check(BlockDriverState *bs, uint64_t offset, uint64_t bytes);

#endif /* BLOCK_QCOW2_METADATA_H */
