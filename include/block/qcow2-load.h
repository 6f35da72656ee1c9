/*
 * Loading L2 tables of a qcow2 image without holding its lock meanwhile
 *
 *  a request whose table is not cached     others
 *  -----------------------------------     ------
 *  lock, enter the load, unlock            the same table: wait for the load
 *  read the table into a buffer            another one: a load of their own
 *  lock, put it into the cache, unlock     lock, load the same, change it: the
 *                                          buffer is stale
 *
 * The cache never has a slot that is being filled, so code that holds the lock
 * does not have to know of loads.  Code that changes a table first brings it
 * into the cache, and it was not there when the load began.  So the cache
 * reports each table that comes into it in another way, and a load of such a
 * table throws its buffer away.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_LOAD_H
#define BLOCK_QCOW2_LOAD_H

#include "block/qcow2.h"

/**
 * qcow2_load: bring the table that maps @offset into the cache, if it is in the
 * image and not cached.
 *
 * @flags: what the L1 entry has to have, 0 or QCOW_OFLAG_COPIED
 *
 * During a request, without the lock.
 *
 * Returns: a negative errno value if the table cannot be read.  0 does not mean
 * that it is in the cache.
 */
int coroutine_fn GRAPH_RDLOCK
qcow2_load(BlockDriverState *bs, uint64_t offset, uint64_t flags);

/**
 * qcow2_load_stale: the table at @table comes into the cache by other means.
 *
 * Called with the lock held.
 */
void qcow2_load_stale(BDRVQcow2State *s, uint64_t table);

/**
 * qcow2_load_stale_all: tables get another size, by qcow2_lookup_new_cache().
 * Called with the lock held, or without requests.
 */
void qcow2_load_stale_all(BDRVQcow2State *s);

/**
 * qcow2_cache_insert: give @c the table at @offset, with the content @table,
 * unless it has it.
 *
 * Called with the lock held.  In qcow2-cache.c.
 */
int GRAPH_RDLOCK qcow2_cache_insert(BlockDriverState *bs, Qcow2Cache *c,
                                    uint64_t offset, const void *table);

#endif /* BLOCK_QCOW2_LOAD_H */
