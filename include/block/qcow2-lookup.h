/*
 * Where a qcow2 image keeps a piece of the disk, found without its lock
 *
 *      disk offset -> L1 entry -> L2 table, if the cache shows it -> entries
 *
 * Code that changes the tables holds the image's lock.  It changes an entry as
 * one word, or announces a change of two words.  So a reader finds the old
 * entry or the new one, and both are right for a read that is in flight during
 * the change.  docs/block-layer.rst has the argument.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_LOOKUP_H
#define BLOCK_QCOW2_LOOKUP_H

#include "block/qcow2.h"
#include "block/qcow2-slots.h"

/**
 * qcow2_lookup: find the clusters that a read at @offset gets its data from.
 *
 * @bytes: on entry how many bytes are wanted, on return how many from @offset
 *         on have the same @type and, if that is normal, lie one after the
 *         other
 * @host_offset: where @offset lies in the data file, 0 if there is no cluster
 *
 * Any thread, during a request.
 *
 * Returns: false, with nothing changed, if the caller has to take the lock and
 * call qcow2_get_host_offset(): the table is not cached or just changing, the
 * image is corrupt here or just being opened, or the cluster is compressed.
 */
bool coroutine_fn GRAPH_RDLOCK
qcow2_lookup(BlockDriverState *bs, uint64_t offset, unsigned *bytes,
             uint64_t *host_offset, QCow2SubclusterType *type);

/**
 * qcow2_lookup_in_place: find where a write at @offset can simply go.
 *
 * All @bytes bytes lie one after the other, from @host_offset on, in clusters
 * with data that are used once, and nothing else lies there.
 *
 * Any thread, during a request.
 *
 * Returns: false, and @host_offset means nothing, if the caller has to take the
 * lock and call qcow2_alloc_host_offset().
 */
bool coroutine_fn GRAPH_RDLOCK
qcow2_lookup_in_place(BlockDriverState *bs, uint64_t offset, unsigned bytes,
                      uint64_t *host_offset);

/**
 * qcow2_lookup_misses: whether @offset has an L2 table that is not shown.
 *
 * @flags: what the L1 entry has to have besides, 0 or QCOW_OFLAG_COPIED
 * @table: where the part that maps @offset lies
 *
 * Any thread, during a request, with the lock or without.  False if there is
 * something wrong with the table, too.
 */
bool qcow2_lookup_misses(BDRVQcow2State *s, uint64_t offset, uint64_t flags,
                         uint64_t *table);

/**
 * qcow2_lookup_start: the image is open, and lookups find what there is.
 */
void qcow2_lookup_start(BDRVQcow2State *s);

/**
 * qcow2_lookup_stop: the image is about to be closed.
 *
 * Waits for lookups that are under way; those that come later find nothing.  A
 * read of an inactive image can come while the image is opened anew.
 */
void qcow2_lookup_stop(BDRVQcow2State *s);

/**
 * qcow2_lookup_change_begin: both words of an entry in @slice are about to
 * change.
 *
 * Called with the lock held, which is kept until qcow2_lookup_change_end().
 */
void qcow2_lookup_change_begin(BDRVQcow2State *s, const uint64_t *slice);

/**
 * qcow2_lookup_change_end: both have changed.
 */
void qcow2_lookup_change_end(BDRVQcow2State *s, const uint64_t *slice);

/**
 * qcow2_lookup_new_l1: @table with @size entries becomes the L1 table.
 *
 * It begins with what the old one has, which is freed.  Called with the lock
 * held; waits for lookups that are under way.
 */
void qcow2_lookup_new_l1(BDRVQcow2State *s, uint64_t *table, int size);

/**
 * qcow2_lookup_new_cache: @cache becomes the cache of L2 tables.
 *
 * The old one, if there is one, is clean, and is freed.  Called with the lock
 * held or without requests; waits for lookups that are under way.
 */
void qcow2_lookup_new_cache(BDRVQcow2State *s, Qcow2Cache *cache);

#endif /* BLOCK_QCOW2_LOOKUP_H */
