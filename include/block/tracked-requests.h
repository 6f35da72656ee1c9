/*
 * The list of a node's requests in flight, without a lock per request
 *
 *      TrackedRequests of a node
 *        shards[slot of thread A]   cells: [req][    ][req][    ]...
 *        shards[slot of thread B]   cells: [    ][req][    ][    ]...
 *
 * A request is in a cell from its begin to its end.  The cell belongs to the
 * thread that begins the request.  A serialising request, and a request that
 * meets one, has to look at the requests of other threads.  Such a request is a
 * scanner.  It first sets @alert:
 *
 *      request begins                  scanner, holding the lock
 *      --------------                  -------------------------
 *      take a cell                     alert = true
 *        (asym_mb_light)                 (asym_mb_heavy)
 *      read alert                      read which cells are taken
 *
 *      request ends
 *      ------------
 *      give the cell back
 *        (asym_mb_light)
 *      read alert
 *
 * When a request begins, either the scanner finds it, or the request sees
 * @alert, takes the lock and looks itself.  When a request ends that the
 * scanner has found, it sees @alert and takes the lock before its memory is
 * freed.  So the requests that a scanner finds stay valid while it holds the
 * lock.  @alert changes only under the lock, so this is also true for a second
 * scanner, which finds @alert set already.
 *
 * The heavy barrier is needed only when @alert becomes true.  While it is true,
 * all requests take the lock.  It becomes false some time after the end of the
 * last scanner.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_TRACKED_REQUESTS_H
#define BLOCK_TRACKED_REQUESTS_H

#include "qemu/thread.h"
#include "qemu/thread-shards.h"

struct BdrvTrackedRequest;
typedef struct BdrvTrackedRequest *TrackedCell;
typedef union TrackedChunk TrackedChunk;
typedef struct TrackedShard TrackedShard;

/* Must be all zero at first.  "The lock" below is a mutex of its owner. */
typedef struct TrackedRequests {
    /* Written under the lock; any thread may read it */
    bool alert;

    /* Number of scanners; under the lock */
    unsigned scanning;

    /* Without a scanner: requests until @alert becomes false; under the lock */
    unsigned linger;

    /* A thread makes the shard of its slot when it first begins a request */
    ThreadShards shards;    /* TrackedShard */
} TrackedRequests;

/* A walk over all requests.  Must be all zero at first. */
typedef struct TrackedWalk {
    unsigned next_slot;
    TrackedChunk *chunk;

    /* Cells of @chunk that the walk has not yet visited */
    unsigned long cells;

    /* Number of chunks and cells that the walk has visited: its cost */
    unsigned visited;
} TrackedWalk;

/**
 * tracked_requests_add: add a request that begins.
 * @req: the request, with all its fields set
 *
 * Context: any thread, without the lock.
 *
 * Returns: the argument @cell of tracked_requests_remove().
 */
TrackedCell *tracked_requests_add(TrackedRequests *tracked, QemuMutex *lock,
                                  struct BdrvTrackedRequest *req);

/**
 * tracked_requests_remove: remove the request in @cell, which has ended.
 *
 * Context: any thread, without the lock.
 *
 * Returns: whether a scanner may have found the request and may be waiting for
 * it.
 */
bool tracked_requests_remove(TrackedRequests *tracked, QemuMutex *lock,
                             TrackedCell *cell);

/**
 * tracked_requests_alert: return whether a request that was added just now must
 * take the lock and look at other requests.
 */
static inline bool tracked_requests_alert(TrackedRequests *tracked)
{
    return qatomic_load_acquire(&tracked->alert);
}

/**
 * tracked_requests_scan_begin: become a scanner, which may walk over requests.
 *
 * The caller may release the lock before tracked_requests_scan_end().
 *
 * Context: the caller holds the lock.
 */
void tracked_requests_scan_begin(TrackedRequests *tracked);

/**
 * tracked_requests_scan_end: undo tracked_requests_scan_begin().
 *
 * Context: the caller holds the lock.
 */
void tracked_requests_scan_end(TrackedRequests *tracked);

/**
 * tracked_requests_next: find the next request of a walk.
 *
 * Without a scanner this finds no request.
 *
 * Context: the caller has held the lock since the start of the walk.
 *
 * Returns: the request, or NULL after the last.
 */
struct BdrvTrackedRequest *tracked_requests_next(TrackedRequests *tracked,
                                                 TrackedWalk *walk);

#define TRACKED_REQUESTS_FOREACH(req, tracked)                          \
    for (TrackedWalk walk_ = { 0 };                                     \
         (req = tracked_requests_next(tracked, &walk_));)

/**
 * tracked_requests_empty: return whether the list is empty.
 *
 * Context: a drained section, where no request can begin.
 */
bool tracked_requests_empty(TrackedRequests *tracked);

/**
 * tracked_requests_cleanup: free the memory of an empty list.
 */
void tracked_requests_cleanup(TrackedRequests *tracked);

#endif /* BLOCK_TRACKED_REQUESTS_H */
