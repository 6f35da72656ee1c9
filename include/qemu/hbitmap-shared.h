/*
 * The words of an HBitmap, whose bits several threads set
 *
 *      level 0     one word    bit N: word N of level 1 is not zero
 *      level 1     words       bit N: word N of level 2 is not zero
 *       ...
 *      the last    words       bit N: it is set
 *
 * Any number of threads set bits while one, whose caller excludes others of
 * its kind with a lock, clears some, iterates and counts.
 *
 * A setter sets a bit of the last level, then looks at those above it, from
 * below upwards, and sets what is missing, also if the bit was set before.  The
 * clearer goes upwards, too: it clears the bit above a word that it has found
 * empty, and then looks at the word again.  Each writes one word and then reads
 * the other, so at least one of them sees what the other did:
 *
 *      setter                          clearer
 *      ------                          -------
 *      set a bit in the word           find the word empty
 *      (full barrier)                  clear the bit above
 *      find the bit above clear?       (full barrier)
 *      set it                          find the word not empty? set the bit
 *
 * So the next iteration finds each bit that has been set.  The reverse is not
 * true: a setter that is late may leave a bit above an empty word.  An iterator
 * skips such a bit.
 *
 * Each thread counts the bits that it has set.  It marks its count before it
 * sets the first and takes the mark back when it has counted them.  A thread
 * that adds the counts up waits for that.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_HBITMAP_SHARED_H
#define QEMU_HBITMAP_SHARED_H

#include "qemu/hbitmap.h"
#include "qemu/thread-shards.h"

typedef struct HBitmapShard HBitmapShard;

/* How many bits of the last level are set.  All zero to begin with. */
typedef struct HBitmapCount {
    /* Atomic; the bits that are set less those that the shards have, modulo */
    uint64_t base;

    /* Made when the slot's thread first sets a bit that was clear */
    ThreadShards shards;    /* HBitmapShard */
} HBitmapCount;

/**
 * hbitmap_bits_set: set bits @first to @last of the last of @levels.
 *
 * Any thread, while nobody replaces the words.  Threads without a slot of their
 * own exclude each other with a lock.  Writes nothing if the bits are set and
 * found from above.
 *
 * Returns: whether one of them was clear.
 */
bool hbitmap_bits_set(unsigned long *const levels[HBITMAP_LEVELS],
                      HBitmapCount *count, uint64_t first, uint64_t last);

/**
 * hbitmap_bits_reset: clear bits @first to @last of the last of @levels.
 *
 * One thread at a time.
 *
 * Returns: whether one of them was set.
 */
bool hbitmap_bits_reset(unsigned long *const levels[HBITMAP_LEVELS],
                        HBitmapCount *count, uint64_t first, uint64_t last);

/**
 * hbitmap_bits_count: how many bits are set.
 *
 * Any thread.  If nobody clears bits meanwhile it is the number at some moment
 * of the call, and an iterator finds all that it counts.  Waits for a thread
 * that is setting a bit.
 */
uint64_t hbitmap_bits_count(const HBitmapCount *count);

/**
 * hbitmap_bits_recount: @bits of them are set now; nobody else sets any.
 */
void hbitmap_bits_recount(HBitmapCount *count, uint64_t bits);

/**
 * hbitmap_bits_cleanup: free what threads have counted.
 */
void hbitmap_bits_cleanup(HBitmapCount *count);

#endif /* QEMU_HBITMAP_SHARED_H */
