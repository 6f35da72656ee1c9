/*
 * An HBitmap in which several threads set bits at the same time
 *
 *      level 0     one word    bit N: word N of level 1 is not zero
 *      level 1     words       bit N: word N of level 2 is not zero
 *       ...
 *      the last    words       bit N: it is set
 *
 * Any number of threads may set bits.  One thread at a time, with a lock, may
 * clear bits, iterate and count, while others set bits.
 *
 * A thread that sets a bit of the last level then looks at the bits above it,
 * upwards from level to level, and sets those that are clear.  It does so even
 * if its bit was set before.  A thread that clears bits goes upwards, too: when
 * it finds a word empty, it clears the bit above, and then looks at the word
 * again.  Each thread writes one word and then reads the other one, so at least
 * one of them sees what the other did:
 *
 *      setter                          clearer
 *      ------                          -------
 *      set a bit in the word           find the word empty
 *      (full barrier)                  clear the bit above
 *      find the bit above clear?       (full barrier)
 *      set it                          find the word not empty? set the bit
 *
 * So the next iteration finds each bit that is set.  But a slow setter may
 * leave a bit above an empty word.  An iterator skips such a bit.
 *
 * Each thread counts the bits that it sets.  It marks its count before it sets
 * the first bit, and removes the mark after it has counted.  A thread that adds
 * up the counts waits until the marks are gone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_HBITMAP_SHARED_H
#define QEMU_HBITMAP_SHARED_H

#include "qemu/hbitmap.h"
#include "qemu/thread-shards.h"

typedef struct HBitmapShard HBitmapShard;

/* How many bits of the last level are set.  Must be all zero at first. */
typedef struct HBitmapCount {
    /* Atomic; with the counts of all shards, this is the sum, modulo 2^64 */
    uint64_t base;

    /* Made when the slot's thread first sets a bit that was clear */
    ThreadShards shards;    /* HBitmapShard */
} HBitmapCount;

/**
 * hbitmap_bits_set: set bits @first to @last of the last level.
 *
 * This writes nothing if the bits and those above them are set.
 *
 * Context: any thread, while no thread replaces the words.  Threads without a
 * slot of their own must hold a lock that they share.
 *
 * Returns: whether one of the bits was clear.
 */
bool hbitmap_bits_set(unsigned long *const levels[HBITMAP_LEVELS],
                      HBitmapCount *count, uint64_t first, uint64_t last);

/**
 * hbitmap_bits_reset: clear bits @first to @last of the last level.
 *
 * Context: one thread at a time.
 *
 * Returns: whether one of the bits was set.
 */
bool hbitmap_bits_reset(unsigned long *const levels[HBITMAP_LEVELS],
                        HBitmapCount *count, uint64_t first, uint64_t last);

/**
 * hbitmap_bits_count: return how many bits are set.
 *
 * If no thread clears bits during the call, the number is exact for some moment
 * of the call, and an iterator finds all bits that it counts.  The call waits
 * for threads that are setting a bit.
 *
 * Context: any thread.
 */
uint64_t hbitmap_bits_count(const HBitmapCount *count);

/**
 * hbitmap_bits_recount: set the count to @bits.
 *
 * Context: no other thread sets or clears bits.
 */
void hbitmap_bits_recount(HBitmapCount *count, uint64_t bits);

/**
 * hbitmap_bits_cleanup: free what threads have counted.
 */
void hbitmap_bits_cleanup(HBitmapCount *count);

#endif /* QEMU_HBITMAP_SHARED_H */
