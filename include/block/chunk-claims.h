/*
 * Chunks of a disk, each in use by one request at a time
 *
 * There is a bit for each chunk, which says that it is claimed.  A request sets
 * the bits of its chunks word by word, from below upwards, and those of a word
 * at once.  If one of them is set, it waits and keeps those of the words below.
 * So requests for regions that are far apart write different words, and no two
 * requests wait for each other.
 *
 *      claimer                         owner, when it is done
 *      -------                         ----------------------
 *      waiting++                       clear the bits
 *      (full barrier)                  (full barrier)
 *      find the bits clear?            waiting?  Hand the bits over.
 *
 * An owner that finds waiters clears its bits and sets theirs in one step, in
 * the order in which they came.  So a request that comes back at once does not
 * overtake them.  A chunk that is free goes to the request that asks first,
 * even if a request that needs further chunks waits for it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_CHUNK_CLAIMS_H
#define BLOCK_CHUNK_CLAIMS_H

#include "qemu/coroutine.h"
#include "qemu/queue.h"

typedef struct ChunkClaims {
    /* NULL before chunk_claims_init() */
    unsigned long *words;
    uint64_t chunks;

    /* How many requests wait or are about to: atomic, written with the lock */
    unsigned waiting;

    /* Protects the queue */
    QemuMutex lock;
    QTAILQ_HEAD(, ChunkWaiter) waiters;
} ChunkClaims;

/**
 * chunk_claims_init: there are @chunks, and none is claimed.
 */
void chunk_claims_init(ChunkClaims *claims, uint64_t chunks);

/**
 * chunk_claims_cleanup: nobody uses them any more.  They may be all zero, too.
 */
void chunk_claims_cleanup(ChunkClaims *claims);

/**
 * chunk_claims_take: claim chunks @first to @last, and wait for requests that
 * have them.
 *
 * Any thread.  The caller has no other claims.
 */
void coroutine_fn chunk_claims_take(ChunkClaims *claims, uint64_t first,
                                    uint64_t last);

/**
 * chunk_claims_try: claim chunks @first to @last if all of them are free.
 *
 * Does not wait, so the caller may have other claims.  Any thread.
 *
 * Returns: whether the caller has them now.
 */
bool coroutine_fn chunk_claims_try(ChunkClaims *claims, uint64_t first,
                                   uint64_t last);

/**
 * chunk_claims_return: the caller has chunks @first to @last, and no longer
 * needs them.  What it did is visible to the next owner.  Any thread.
 */
void coroutine_fn chunk_claims_return(ChunkClaims *claims, uint64_t first,
                                      uint64_t last);

/**
 * chunk_claims_empty: whether no chunk is claimed, when nobody claims any.
 */
bool chunk_claims_empty(ChunkClaims *claims);

#endif /* BLOCK_CHUNK_CLAIMS_H */
