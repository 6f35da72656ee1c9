/*
 * Loading L2 tables of a qcow2 image without holding its lock
 *
 *  a request whose table is not cached     others
 *  -----------------------------------     ------
 *  lock, enter the load, unlock            the same table: wait for the load
 *  read the table into a buffer            another one: a load of their own
 *  lock, put it into the cache, unlock     lock, load the same, change it: the
 *                                          buffer is stale
 *
 * The cache never has a slot that is being filled, so code that holds the lock
 * does not have to know of loads.  When a load begins, its table is not in the
 * cache.  Code that changes a table first brings it into the cache, and the
 * cache reports that.  If this is the table of a load, the load drops its
 * buffer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_LOAD_H
#define BLOCK_QCOW2_LOAD_H

#include "block/qcow2.h"

/**
 * qcow2_load: bring the table that maps @offset into the cache.
 * @flags: 0, or QCOW_OFLAG_COPIED if the L1 entry must have this flag
 *
 * This does nothing if the image has no such table, or if it is cached.
 *
 * Context: during a request, without the lock.
 *
 * Returns: 0, or a negative errno value if the table cannot be read.  After 0
 * the table need not be in the cache.
 */
int coroutine_fn GRAPH_RDLOCK
qcow2_load(BlockDriverState *bs, uint64_t offset, uint64_t flags);

/**
 * qcow2_load_stale: make a load of the table at @table drop its buffer, because
 * other code has brought the table into the cache.
 *
 * Context: the caller holds the lock.
 */
void qcow2_load_stale(BDRVQcow2State *s, uint64_t table);

/**
 * qcow2_load_stale_all: make all loads drop their buffers.
 *
 * qcow2_lookup_new_cache() does this, because it changes the size of tables.
 *
 * Context: the caller holds the lock, or no request is in flight.
 */
void qcow2_load_stale_all(BDRVQcow2State *s);

/**
 * qcow2_cache_insert: add the table at @offset to @c, unless @c has it.
 * @table: the content
 *
 * Context: the caller holds the lock.  In qcow2-cache.c.
 */
int GRAPH_RDLOCK qcow2_cache_insert(BlockDriverState *bs, Qcow2Cache *c,
                                    uint64_t offset, const void *table);

#endif /* BLOCK_QCOW2_LOAD_H */
