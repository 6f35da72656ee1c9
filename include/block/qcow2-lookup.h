/*
 * Lookup of a disk offset in a qcow2 image, without the image's lock
 *
 *      disk offset -> L1 entry -> L2 table, if the cache shows it -> entries
 *
 * Code that changes the tables holds the image's lock.  It changes an entry as
 * one word, or it announces a change of two words.  So a reader finds the old
 * entry or the new one.  Both are right for a read that is in flight during the
 * change, because the data of a cluster is written before an entry points to
 * it.  block/qcow2-slots.h says how a reader finds out that a table is another.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_LOOKUP_H
#define BLOCK_QCOW2_LOOKUP_H

#include "block/qcow2.h"
#include "block/qcow2-slots.h"

/**
 * qcow2_lookup: find the clusters with the data of a read at @offset.
 * @bytes: on entry the number of bytes wanted; on return the number of bytes
 *         from @offset on that have the same @type.  If @type is normal, these
 *         bytes are also contiguous in the data file
 * @host_offset: set to the place of @offset in the data file, or to 0 if there
 *               is no cluster
 *
 * Context: any thread, during a request.
 *
 * Returns: true, or false with nothing changed if the caller has to take the
 * lock and call qcow2_get_host_offset().  That is so if the table is not cached
 * or is changing, if the image is corrupt here or is being opened, or if the
 * cluster is compressed.
 */
bool coroutine_fn GRAPH_RDLOCK
qcow2_lookup(BlockDriverState *bs, uint64_t offset, unsigned *bytes,
             uint64_t *host_offset, QCow2SubclusterType *type);

/**
 * qcow2_lookup_in_place: find clusters that a write at @offset can overwrite.
 * @host_offset: set to the place of @offset in the data file
 *
 * All @bytes bytes are contiguous in the data file.  They lie in data clusters
 * with one reference each, and no metadata lies there.
 *
 * Context: any thread, during a request.
 *
 * Returns: true, or false if the caller has to take the lock and call
 * qcow2_alloc_host_offset(); then @host_offset is undefined.
 */
bool coroutine_fn GRAPH_RDLOCK
qcow2_lookup_in_place(BlockDriverState *bs, uint64_t offset, unsigned bytes,
                      uint64_t *host_offset);

/**
 * qcow2_lookup_misses: return whether @offset has an L2 table that is not
 * shown by the cache.
 * @flags: 0, or QCOW_OFLAG_COPIED if the L1 entry must have this flag
 * @table: set to the place in the image of the part of the table that maps
 *         @offset
 * @bytes: set to the size of this part
 *
 * The result is also false if the table is invalid.
 *
 * Context: any thread, during a request, with or without the lock.
 */
bool qcow2_lookup_misses(BDRVQcow2State *s, uint64_t offset, uint64_t flags,
                         uint64_t *table, unsigned *bytes);

/**
 * qcow2_lookup_start: allow lookups, because the image is open now.
 */
void qcow2_lookup_start(BDRVQcow2State *s);

/**
 * qcow2_lookup_stop: forbid lookups, because the image is about to be closed.
 *
 * This waits for lookups that have begun.  Later ones return false.  They can
 * come from reads of an inactive image while the image is opened again.
 */
void qcow2_lookup_stop(BDRVQcow2State *s);

/**
 * qcow2_lookup_change_begin: announce that both words of an entry in @slice are
 * about to change.
 *
 * Context: the caller holds the lock until qcow2_lookup_change_end().
 */
void qcow2_lookup_change_begin(BDRVQcow2State *s, const uint64_t *slice);

/**
 * qcow2_lookup_change_end: announce that both words have changed.
 */
void qcow2_lookup_change_end(BDRVQcow2State *s, const uint64_t *slice);

/**
 * qcow2_lookup_new_l1: make @table the L1 table, and free the old one.
 * @table: begins with the entries of the old table
 * @size: number of entries
 *
 * This waits for lookups that have begun.
 *
 * Context: the caller holds the lock.
 */
void qcow2_lookup_new_l1(BDRVQcow2State *s, uint64_t *table, int size);

/**
 * qcow2_lookup_new_cache: make @cache the cache of L2 tables, and free the old
 * one.
 *
 * The old cache, if there is one, must be clean.  This waits for lookups that
 * have begun.
 *
 * Context: the caller holds the lock, or no request is in flight.
 */
void qcow2_lookup_new_cache(BDRVQcow2State *s, Qcow2Cache *cache);

#endif /* BLOCK_QCOW2_LOOKUP_H */
