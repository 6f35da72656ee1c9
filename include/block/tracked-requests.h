/*
 * The requests that a node is working on, listed without a lock per request
 *
 *      TrackedRequests of a node
 *        shards[slot of thread A]   cells: [req][    ][req][    ]...
 *        shards[slot of thread B]   cells: [    ][req][    ][    ]...
 *
 * A request sits in a cell of the thread that begins it from its begin to its
 * end.  A request that is serialising, or meets one that is, has to look at the
 * requests of other threads.  Such a scanner first raises @alert:
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
 * Begin: the scanner finds the request, or the request sees the alert and
 * waits for its turn to look itself.  End: a request that the scanner still
 * found sees the alert, and takes the lock before its memory is freed.  So what
 * a scanner finds stays valid while it holds the lock.  @alert changes only
 * under the lock, so another scanner that finds it up is covered, too.
 *
 * The barrier is needed when @alert goes up only: as long as it stays up, all
 * requests go through the lock.  It comes down some time after the last
 * scanner; until then requests take the lock, and have nobody to look for.
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

/* All zero to begin with.  "The lock" is one that its owner chooses. */
typedef struct TrackedRequests {
    /* Written under the lock, read anywhere */
    bool alert;

    /* Scanners there are; under the lock */
    unsigned scanning;

    /* While there are none, requests until @alert comes down; under the lock */
    unsigned linger;

    /* Made when the slot's thread first begins a request here */
    ThreadShards shards;    /* TrackedShard */
} TrackedRequests;

/* A walk over all requests; all zero to begin with. */
typedef struct TrackedWalk {
    unsigned next_slot;
    TrackedChunk *chunk;

    /* Of the chunk, those still to be looked at */
    unsigned long cells;

    /* Chunks and cells looked at: what the walk has cost so far */
    unsigned visited;
} TrackedWalk;

/**
 * tracked_requests_add: @req begins; its fields are set.
 *
 * Any thread, without the lock.
 *
 * Returns: what tracked_requests_remove() wants.
 */
TrackedCell *tracked_requests_add(TrackedRequests *tracked, QemuMutex *lock,
                                  struct BdrvTrackedRequest *req);

/**
 * tracked_requests_remove: the request in @cell ends.
 *
 * Any thread, without the lock.
 *
 * Returns: whether a scanner may have found the request and be waiting for it.
 */
bool tracked_requests_remove(TrackedRequests *tracked, QemuMutex *lock,
                             TrackedCell *cell);

/**
 * tracked_requests_alert: whether a request that has been added must take the
 * lock and look for others.
 */
static inline bool tracked_requests_alert(TrackedRequests *tracked)
{
    return qatomic_load_acquire(&tracked->alert);
}

/**
 * tracked_requests_scan_begin: from now on requests can be walked.  Called
 * with the lock held; it may be released until tracked_requests_scan_end().
 */
void tracked_requests_scan_begin(TrackedRequests *tracked);

/**
 * tracked_requests_scan_end: called with the lock held.
 */
void tracked_requests_scan_end(TrackedRequests *tracked);

/**
 * tracked_requests_next: the next request of the walk, NULL after the last.
 *
 * Called with the lock held since the start of the walk.  Finds nothing while
 * there is no scanner.
 */
struct BdrvTrackedRequest *tracked_requests_next(TrackedRequests *tracked,
                                                 TrackedWalk *walk);

#define TRACKED_REQUESTS_FOREACH(req, tracked)                          \
    for (TrackedWalk walk_ = { 0 };                                     \
         (req = tracked_requests_next(tracked, &walk_));)

/**
 * tracked_requests_empty: whether there are none.
 *
 * Called where none can begin: in a drained section.
 */
bool tracked_requests_empty(TrackedRequests *tracked);

/**
 * tracked_requests_cleanup: free the cells; there are no requests.
 */
void tracked_requests_cleanup(TrackedRequests *tracked);

#endif /* BLOCK_TRACKED_REQUESTS_H */
