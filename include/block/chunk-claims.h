/*
 * Claims on chunks of a disk: one request at a time has a chunk
 *
 * Each chunk has a bit, which is set while a request has the chunk.  A request
 * claims its chunks word after word, in ascending order, and all bits of a word
 * at once.  If a bit of a word is set already, the request waits; it keeps the
 * bits of lower words.  Because of the order, no two requests wait for each
 * other.  Requests for chunks that are far apart write different words.
 *
 *      claimer                         owner, when it is done
 *      -------                         ----------------------
 *      waiting++                       clear the bits
 *      (full barrier)                  (full barrier)
 *      find the bits clear?            waiting?  Hand the bits over.
 *
 * An owner that finds waiting requests clears its bits and sets the bits of
 * these requests in one step, in the order in which they came.  So a request
 * that comes back at once does not overtake them.  A free chunk goes to the
 * request that asks first, even if another request waits for it that also
 * needs other chunks.
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

    /* Requests that wait or are about to; atomic, written with the lock held */
    unsigned waiting;

    /* Protects @waiters */
    QemuMutex lock;
    QTAILQ_HEAD(, ChunkWaiter) waiters;
} ChunkClaims;

/**
 * chunk_claims_init: begin with @chunks chunks, none of them claimed.
 */
void chunk_claims_init(ChunkClaims *claims, uint64_t chunks);

/**
 * chunk_claims_cleanup: free the memory.
 * @claims: with no claim; may also be all zero, without chunk_claims_init()
 */
void chunk_claims_cleanup(ChunkClaims *claims);

/**
 * chunk_claims_take: claim chunks @first to @last, and wait as long as another
 * request has one of them.
 *
 * The caller must have no other claims.
 *
 * Context: any thread.
 */
void coroutine_fn chunk_claims_take(ChunkClaims *claims, uint64_t first,
                                    uint64_t last);

/**
 * chunk_claims_try: claim chunks @first to @last if all of them are free.
 *
 * This does not wait, so the caller may have other claims.
 *
 * Context: any thread.
 *
 * Returns: whether the caller has the chunks now.
 */
bool coroutine_fn chunk_claims_try(ChunkClaims *claims, uint64_t first,
                                   uint64_t last);

/**
 * chunk_claims_return: give back the caller's chunks @first to @last.
 *
 * The next request that has a chunk sees everything that the caller wrote.
 *
 * Context: any thread.
 */
void coroutine_fn chunk_claims_return(ChunkClaims *claims, uint64_t first,
                                      uint64_t last);

/**
 * chunk_claims_empty: return whether no chunk is claimed.
 *
 * Context: while no thread claims a chunk.
 */
bool chunk_claims_empty(ChunkClaims *claims);

#endif /* BLOCK_CHUNK_CLAIMS_H */
