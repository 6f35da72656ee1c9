/*
 * The words of an HBitmap, whose bits several threads set
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/hbitmap-shared.h"
#include "qemu/host-utils.h"

#define LAST_LEVEL (HBITMAP_LEVELS - 1)

/* The slot's thread writes its shard. */
struct HBitmapShard {
    /* Odd while the thread sets bits that it has not counted yet */
    unsigned turns;

    /* Number of clear bits that the thread has set; it only grows */
    uint64_t added;
};

/* --- Counts --- */

static __attribute__((noinline))
HBitmapShard *shard_new(HBitmapCount *count, unsigned slot)
{
    return thread_shards_add(&count->shards, slot,
                             thread_shard_alloc(sizeof(HBitmapShard)));
}

/* Tell readers of the count that the calling thread is setting bits. */
static HBitmapShard *shard_begin(HBitmapCount *count)
{
    unsigned slot = thread_slot();
    HBitmapShard *shard = thread_shards_get(&count->shards, slot);

    if (unlikely(!shard)) {
        shard = shard_new(count, slot);
    }
    qatomic_set(&shard->turns, shard->turns + 1);
    return shard;
}

/* Count @added bits, which are set and can be found from the levels above. */
static void shard_end(HBitmapShard *shard, uint64_t added)
{
    qatomic_set_u64(&shard->added, shard->added + added);
    qatomic_store_release(&shard->turns, shard->turns + 1);
}

static uint64_t shard_count(HBitmapShard *shard)
{
    unsigned turns = qatomic_load_acquire(&shard->turns);
    unsigned looks = 0;

    while (turns % 2 && qatomic_load_acquire(&shard->turns) == turns) {
        /* The thread may need this processor, at a lower priority. */
        if (++looks < 100) {
            g_thread_yield();
        } else {
            g_usleep(50);
        }
    }
    return qatomic_read_u64(&shard->added);
}

static uint64_t shards_count(const HBitmapCount *count)
{
    HBitmapShard *shard;
    uint64_t bits = 0;

    THREAD_SHARDS_FOREACH(shard, &count->shards) {
        bits += shard_count(shard);
    }
    return bits;
}

uint64_t hbitmap_bits_count(const HBitmapCount *count)
{
    /* Read @base first: a bit that is cleared later is then counted. */
    uint64_t bits = qatomic_read_u64(&count->base);

    /* This pairs with smp_wmb() in hbitmap_bits_reset(). */
    smp_rmb();
    return bits + shards_count(count);
}

void hbitmap_bits_recount(HBitmapCount *count, uint64_t bits)
{
    qatomic_set_u64(&count->base, bits - shards_count(count));
}

void hbitmap_bits_cleanup(HBitmapCount *count)
{
    thread_shards_cleanup(&count->shards, NULL);
}

/* --- Bits --- */

/* Return a mask of those bits of word @pos that are from @first to @last. */
static inline unsigned long mask_in_word(uint64_t pos, uint64_t first,
                                         uint64_t last)
{
    uint64_t low = pos << BITS_PER_LEVEL;
    uint64_t high = low + BITS_PER_LONG - 1;
    unsigned long mask = ~0UL;

    if (first > low) {
        mask <<= first - low;
    }
    if (last < high) {
        mask &= ~0UL >> (high - last);
    }
    return mask;
}

static inline bool all_set(const unsigned long *word, unsigned long mask)
{
    return (qatomic_load_acquire(word) & mask) == mask;
}

/* Tell the levels above that words @first to @last are not empty. */
static void link_words(unsigned long *const levels[HBITMAP_LEVELS],
                       uint64_t first, uint64_t last)
{
    for (unsigned level = LAST_LEVEL; level-- > 0; ) {
        unsigned long *words = levels[level];
        uint64_t pos = first >> BITS_PER_LEVEL;
        uint64_t end = last >> BITS_PER_LEVEL;

        for (uint64_t i = pos; i <= end; i++) {
            unsigned long mask = mask_in_word(i, first, last);

            if (!all_set(&words[i], mask)) {
                qatomic_or(&words[i], mask);
                smp_mb__after_rmw();
            }
        }
        first = pos;
        last = end;
    }
}

bool hbitmap_bits_set(unsigned long *const levels[HBITMAP_LEVELS],
                      HBitmapCount *count, uint64_t first, uint64_t last)
{
    unsigned long *words = levels[LAST_LEVEL];
    uint64_t pos = first >> BITS_PER_LEVEL;
    uint64_t end = last >> BITS_PER_LEVEL;
    HBitmapShard *shard = NULL;
    uint64_t added = 0;

    for (uint64_t i = pos; i <= end; i++) {
        unsigned long mask = mask_in_word(i, first, last);

        if (!all_set(&words[i], mask)) {
            if (!shard) {
                shard = shard_begin(count);
            }
            added += ctpopl(mask & ~qatomic_fetch_or(&words[i], mask));
            smp_mb__after_rmw();
        }
    }
    link_words(levels, pos, end);
    if (shard) {
        shard_end(shard, added);
    }
    return added;
}

/* Return those bits of @mask, of word @pos above, whose words are empty. */
static unsigned long empty_words(const unsigned long *words, uint64_t pos,
                                 unsigned long mask)
{
    unsigned long empty = 0;

    while (mask) {
        unsigned long bit = mask & -mask;

        if (!qatomic_read(&words[(pos << BITS_PER_LEVEL) + ctzl(bit)])) {
            empty |= bit;
        }
        mask ^= bit;
    }
    return empty;
}

/* Tell the levels above which of the words @first to @last are empty. */
static void unlink_words(unsigned long *const levels[HBITMAP_LEVELS],
                         uint64_t first, uint64_t last)
{
    for (unsigned level = LAST_LEVEL; level-- > 0; ) {
        const unsigned long *below = levels[level + 1];
        unsigned long *words = levels[level];
        uint64_t pos = first >> BITS_PER_LEVEL;
        uint64_t end = last >> BITS_PER_LEVEL;

        for (uint64_t i = pos; i <= end; i++) {
            unsigned long mask = mask_in_word(i, first, last);

            mask = empty_words(below, i, mask & qatomic_read(&words[i]));
            if (!mask) {
                continue;
            }
            qatomic_and(&words[i], ~mask);
            smp_mb__after_rmw();
            mask ^= empty_words(below, i, mask);
            if (mask) {
                qatomic_or(&words[i], mask);
            }
        }
        first = pos;
        last = end;
    }
}

bool hbitmap_bits_reset(unsigned long *const levels[HBITMAP_LEVELS],
                        HBitmapCount *count, uint64_t first, uint64_t last)
{
    unsigned long *words = levels[LAST_LEVEL];
    uint64_t pos = first >> BITS_PER_LEVEL;
    uint64_t end = last >> BITS_PER_LEVEL;
    uint64_t cleared = 0;

    for (uint64_t i = pos; i <= end; i++) {
        unsigned long mask = mask_in_word(i, first, last);

        if (qatomic_read(&words[i]) & mask) {
            cleared += ctpopl(mask & qatomic_fetch_and(&words[i], ~mask));
        }
    }
    if (cleared) {
        unlink_words(levels, pos, end);
        /* A reader of the new base also sees @turns of those who set bits. */
        smp_wmb();
        qatomic_set_u64(&count->base, count->base - cleared);
    }
    return cleared;
}
