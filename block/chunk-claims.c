/*
 * Chunks of a disk, each in use by one request at a time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/chunk-claims.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/lockable.h"

/* Bits of the word @i that lie from @first to @last. */
static unsigned long word_mask(uint64_t i, uint64_t first, uint64_t last)
{
    unsigned long mask = ~0UL;

    if (i == BIT_WORD(first)) {
        mask &= BITMAP_FIRST_WORD_MASK(first);
    }
    if (i == BIT_WORD(last)) {
        mask &= BITMAP_LAST_WORD_MASK(last + 1);
    }
    return mask;
}

void chunk_claims_init(ChunkClaims *claims, uint64_t chunks)
{
    claims->words = bitmap_new(chunks);
    claims->chunks = chunks;
    claims->waiters = 0;
    qemu_mutex_init(&claims->lock);
    qemu_co_queue_init(&claims->queue);
}

void chunk_claims_cleanup(ChunkClaims *claims)
{
    if (claims->words) {
        qemu_mutex_destroy(&claims->lock);
        g_free(claims->words);
        claims->words = NULL;
    }
}

static void coroutine_fn wait_for_word(ChunkClaims *claims, unsigned long *word,
                                       unsigned long mask)
{
    QEMU_LOCK_GUARD(&claims->lock);
    qatomic_inc(&claims->waiters);
    smp_mb__after_rmw();
    while (qatomic_read(word) & mask) {
        qemu_co_queue_wait(&claims->queue, &claims->lock);
    }
    qatomic_dec(&claims->waiters);
}

/* Set the bits of @mask unless one of them is set. */
static bool try_word(unsigned long *word, unsigned long mask)
{
    unsigned long seen = qatomic_read(word);

    while (!(seen & mask)) {
        unsigned long old = qatomic_cmpxchg(word, seen, seen | mask);

        if (old == seen) {
            return true;
        }
        seen = old;
    }
    return false;
}

void coroutine_fn chunk_claims_take(ChunkClaims *claims, uint64_t first,
                                    uint64_t last)
{
    assert(last < claims->chunks);
    for (uint64_t i = BIT_WORD(first); i <= BIT_WORD(last); i++) {
        unsigned long mask = word_mask(i, first, last);

        while (!try_word(&claims->words[i], mask)) {
            wait_for_word(claims, &claims->words[i], mask);
        }
    }
}

bool chunk_claims_try(ChunkClaims *claims, uint64_t chunk)
{
    assert(chunk < claims->chunks);
    return try_word(&claims->words[BIT_WORD(chunk)], BIT_MASK(chunk));
}

void coroutine_fn chunk_claims_wait(ChunkClaims *claims, uint64_t chunk)
{
    unsigned long *word = &claims->words[BIT_WORD(chunk)];

    assert(chunk < claims->chunks);
    if (qatomic_read(word) & BIT_MASK(chunk)) {
        wait_for_word(claims, word, BIT_MASK(chunk));
    }
}

void coroutine_fn chunk_claims_return(ChunkClaims *claims, uint64_t first,
                                      uint64_t last)
{
    assert(last < claims->chunks);
    for (uint64_t i = BIT_WORD(first); i <= BIT_WORD(last); i++) {
        qatomic_and(&claims->words[i], ~word_mask(i, first, last));
    }
    smp_mb__after_rmw();
    if (qatomic_read(&claims->waiters)) {
        QEMU_LOCK_GUARD(&claims->lock);
        qemu_co_queue_restart_all(&claims->queue);
    }
}

bool chunk_claims_empty(ChunkClaims *claims)
{
    return find_first_bit(claims->words, claims->chunks) == claims->chunks;
}
