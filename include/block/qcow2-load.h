/*
 * Loading L2 tables of a qcow2 image without holding its lock
 *
 *  a request whose table is not cached     others
 *  -----------------------------------     ------
 *  enter the load                          the same table: wait for the load
 *  read the table into a buffer            another one: a load of their own
 *  lock, put it into the cache, unlock     lock, bring the same into the cache,
 *                                          change it, unlock
 *
 * The cache never has a slot that is being filled, so code that holds the lock
 * does not have to know of loads.  Code that changes a table first brings it
 * into the cache, if it is not there.  If the cache has the table when a load
 * ends, it keeps its own.  The cache reports each table that it drops.  If this
 * is the table of a load, the load drops its buffer, because it may have read
 * the table before the change was written.
 *
 * The list of loads has a lock of its own, which is held for a few instructions
 * only.  The image's lock is taken first.
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
 * qcow2_loads_new: make the empty list of an image's loads.
 */
Qcow2Loads *qcow2_loads_new(void);

/**
 * qcow2_loads_unref: the image has no more need of the list.
 * @loads: may be NULL
 *
 * A load that is in flight keeps the list until it has ended.  This happens if
 * an inactive image that is being read cannot be opened anew.
 */
void qcow2_loads_unref(Qcow2Loads *loads);

/**
 * qcow2_load_stale: make a load of the table at @table drop its buffer, because
 * the cache drops the table.
 *
 * Context: the caller holds the image's lock.
 */
void qcow2_load_stale(Qcow2Loads *loads, uint64_t table);

/**
 * qcow2_load_stale_all: make all loads drop their buffers.
 *
 * This is done when the image is opened with other options, because that may
 * change the size of a cached part of a table.  It is also done when the image
 * is closed: an inactive image is closed and opened anew while it is read.
 *
 * Context: the caller holds the image's lock, or no request is in flight.
 */
void qcow2_load_stale_all(Qcow2Loads *loads);

/**
 * qcow2_cache_insert: add the table at @offset to @c, unless @c has it.
 * @table: the content
 *
 * Context: the caller holds the lock.  In qcow2-cache.c.
 */
int GRAPH_RDLOCK qcow2_cache_insert(BlockDriverState *bs, Qcow2Cache *c,
                                    uint64_t offset, const void *table);

#endif /* BLOCK_QCOW2_LOAD_H */
