/*
 * Chunks of a disk, each in use by one request at a time
 *
 * A bit for each chunk: it is claimed.  A request sets the bits of its chunks,
 * word after word from below upwards, each word at once; if one of them is set
 * it waits, having those of the words below.  So two requests for different
 * regions write different words, and no two wait for each other.
 *
 *      claimer                         owner, when it is done
 *      -------                         ----------------------
 *      waiters++                       clear the bits
 *      (full barrier)                  (full barrier)
 *      find the bits clear?            waiters? wake them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_CHUNK_CLAIMS_H
#define BLOCK_CHUNK_CLAIMS_H

#include "qemu/coroutine.h"

typedef struct ChunkClaims {
    /* NULL before chunk_claims_init() */
    unsigned long *words;
    uint64_t chunks;

    /* How many requests wait: atomic, written with the lock */
    unsigned waiters;

    /* Protects the queue */
    QemuMutex lock;
    CoQueue queue;
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
 * chunk_claims_take: claim chunks @first to @last, and wait for those that have
 * them.
 *
 * Any thread.  The caller has no other claims.
 */
void coroutine_fn chunk_claims_take(ChunkClaims *claims, uint64_t first,
                                    uint64_t last);

/**
 * chunk_claims_try: claim @chunk if nobody has it, and tell.  Any thread.
 */
bool chunk_claims_try(ChunkClaims *claims, uint64_t chunk);

/**
 * chunk_claims_wait: wait until nobody has @chunk.  It may be taken again when
 * this returns.  Any thread.
 */
void coroutine_fn chunk_claims_wait(ChunkClaims *claims, uint64_t chunk);

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
