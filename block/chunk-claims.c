/*
 * Chunks of a disk, each in use by one request at a time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "block/chunk-claims.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/lockable.h"

/* A request that waits for all bits of @mask; lies on its coroutine's stack */
typedef struct ChunkWaiter {
    unsigned long *word;
    unsigned long mask;
    Coroutine *co;
    bool granted;
    QTAILQ_ENTRY(ChunkWaiter) next;
} ChunkWaiter;

/* Return a mask of those bits of word @i that are from @first to @last. */
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
    claims->waiting = 0;
    qemu_mutex_init(&claims->lock);
    QTAILQ_INIT(&claims->waiters);
}

void chunk_claims_cleanup(ChunkClaims *claims)
{
    if (claims->words) {
        assert(!claims->waiting);
        qemu_mutex_destroy(&claims->lock);
        g_free(claims->words);
        claims->words = NULL;
    }
}

/* Set the bits of @mask.  Return false if one of them is set already. */
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

/*
 * Mark those waiters for @word that can have all of their bits now.  @bits is
 * the present value of @word; return its value with the bits of these waiters.
 * Called with the lock held.
 */
static unsigned long grant(ChunkClaims *claims, unsigned long *word,
                           unsigned long bits)
{
    ChunkWaiter *w;

    QTAILQ_FOREACH(w, &claims->waiters, next) {
        if (w->word == word) {
            w->granted = !(bits & w->mask);
            bits |= w->granted ? w->mask : 0;
        }
    }
    return bits;
}

/*
 * Clear the bits of @mask and set those of waiters.  This is one atomic step,
 * because other threads may try to claim chunks without the lock.
 */
static void hand_over(ChunkClaims *claims, unsigned long *word,
                      unsigned long mask)
{
    QEMU_LOCK_GUARD(&claims->lock);
    unsigned long seen, old = qatomic_read(word);
    ChunkWaiter *w, *next;

    do {
        seen = old;
        old = qatomic_cmpxchg(word, seen, grant(claims, word, seen & ~mask));
    } while (old != seen);

    QTAILQ_FOREACH_SAFE(w, &claims->waiters, next, next) {
        if (w->granted) {
            QTAILQ_REMOVE(&claims->waiters, w, next);
            qatomic_set(&claims->waiting, claims->waiting - 1);
            aio_co_wake(w->co);
        }
    }
}

/* Claim the bits of @mask, and wait for those that are not free. */
static void coroutine_fn wait_for_word(ChunkClaims *claims, unsigned long *word,
                                      unsigned long mask)
{
    ChunkWaiter w = {
        .word = word, .mask = mask, .co = qemu_coroutine_self(),
    };

    WITH_QEMU_LOCK_GUARD(&claims->lock) {
        qatomic_set(&claims->waiting, claims->waiting + 1);
        /* A thread that returns chunks later sees the new @waiting. */
        smp_mb();
        if (try_word(word, mask)) {
            qatomic_set(&claims->waiting, claims->waiting - 1);
            return;
        }
        QTAILQ_INSERT_TAIL(&claims->waiters, &w, next);
    }
    qemu_coroutine_yield();
    assert(w.granted);
}

void coroutine_fn chunk_claims_take(ChunkClaims *claims, uint64_t first,
                                    uint64_t last)
{
    assert(last < claims->chunks);
    for (uint64_t i = BIT_WORD(first); i <= BIT_WORD(last); i++) {
        unsigned long mask = word_mask(i, first, last);

        if (!try_word(&claims->words[i], mask)) {
            wait_for_word(claims, &claims->words[i], mask);
        }
    }
}

static void coroutine_fn return_word(ChunkClaims *claims, unsigned long *word,
                                     unsigned long mask)
{
    if (likely(!qatomic_read(&claims->waiting))) {
        qatomic_and(word, ~mask);
        smp_mb__after_rmw();
        if (likely(!qatomic_read(&claims->waiting))) {
            return;
        }
        mask = 0;
    }
    hand_over(claims, word, mask);
}

void coroutine_fn chunk_claims_return(ChunkClaims *claims, uint64_t first,
                                      uint64_t last)
{
    assert(last < claims->chunks);
    for (uint64_t i = BIT_WORD(first); i <= BIT_WORD(last); i++) {
        return_word(claims, &claims->words[i], word_mask(i, first, last));
    }
}

bool coroutine_fn chunk_claims_try(ChunkClaims *claims, uint64_t first,
                                   uint64_t last)
{
    assert(last < claims->chunks);
    for (uint64_t i = BIT_WORD(first); i <= BIT_WORD(last); i++) {
        if (!try_word(&claims->words[i], word_mask(i, first, last))) {
            if (i > BIT_WORD(first)) {
                chunk_claims_return(claims, first, i * BITS_PER_LONG - 1);
            }
            return false;
        }
    }
    return true;
}

bool chunk_claims_empty(ChunkClaims *claims)
{
    return find_first_bit(claims->words, claims->chunks) == claims->chunks;
}
