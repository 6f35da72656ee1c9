/*
 * The part of a qcow2 table cache that readers use without the lock
 *
 *      Qcow2Slots
 *        changes        a sequence lock
 *        slot[0]        table 0x50000, used
 *        slot[1]        nothing (empty, being filled, or being replaced)
 *        slot[2]        table 0x20000
 *        tables         [ memory of slot 0 ][ slot 1 ][ slot 2 ]...
 *
 * Only the owner of the image's lock changes the cache.  The owner shows a slot
 * when its table is complete, and hides the slot before the memory gets other
 * content.  While a slot is shown, the owner changes single words of the table.
 * If an entry has two words, a sequence number of the slot protects it.
 *
 *      reader                              owner of the lock
 *      ------                              -----------------
 *      qcow2_slots_begin(), an even number qcow2_slots_hide():
 *      which table?  (L1)                    changes odd, slot = 0, even
 *      qcow2_slots_find(), its entries     fill the memory
 *      qcow2_slots_retry(): same number?   qcow2_slots_show(): slot = offset
 *
 * If a reader has seen a word of the new content, or a pointer that was made
 * after hiding, it also sees that the number has changed.  If a reader begins
 * after the change, it finds the slot hidden, or shown again with all of its
 * content.
 *
 * Readers write only a mark of use, and only if it is not set.  When the cache
 * has to choose a slot, it counts the mark as a use and clears it.  If a reader
 * has loaded a table itself, it does not mark it, because the cache has counted
 * the load.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_SLOTS_H
#define BLOCK_QCOW2_SLOTS_H

#include "qemu/atomic.h"
#include "qemu/seqlock.h"

/* How readers without the lock have used a table */
typedef enum Qcow2SlotUse {
    QCOW2_SLOT_IDLE,    /* not used since the cache last looked */
    QCOW2_SLOT_LOADED,  /* not yet; the reader that loaded it will use it */
    QCOW2_SLOT_USED,
} Qcow2SlotUse;

typedef struct Qcow2Slot {
    /* The place of the table in the image; 0: the slot is hidden */
    uint64_t table;

    /* Protects entries of two words, in images with subclusters */
    QemuSeqLock pairs;

    Qcow2SlotUse use;
} Qcow2Slot;

typedef struct Qcow2Slots {
    QemuSeqLock changes;
    unsigned nb;
    unsigned table_bits;
    uint8_t *tables;

    /*
     * A hash table of slots to look in.  A stale hint does no harm.  If a shown
     * table has no hint, readers find it after the owner of the lock has shown
     * it again.
     */
    unsigned *hints;
    unsigned hint_mask;

    Qcow2Slot slot[];
} Qcow2Slots;

struct Qcow2Cache;

/**
 * qcow2_spread: return a hash of @n.
 *
 * The upper bits of the hashes of similar numbers differ.
 */
static inline uint64_t qcow2_spread(uint64_t n)
{
    return n * 0x9e3779b97f4a7c15ULL;
}

/**
 * qcow2_cache_slots: return the slots of @cache.  In qcow2-cache.c.
 */
Qcow2Slots *qcow2_cache_slots(struct Qcow2Cache *cache);

/**
 * qcow2_slots_new: make @nb slots, all hidden.
 * @table_size: bytes of a table, a power of two
 * @tables: memory for @nb tables; it must exist until qcow2_slots_free()
 *
 * Returns: the slots, or NULL if no memory can be allocated.
 */
Qcow2Slots *qcow2_slots_new(unsigned nb, unsigned table_size, void *tables);

/**
 * qcow2_slots_free: free the slots.
 * @slots: without readers; may be NULL
 */
void qcow2_slots_free(Qcow2Slots *slots);

/**
 * qcow2_slots_show: let readers find slot @i, which has the table of @offset.
 *
 * Context: the caller holds the lock.
 */
void qcow2_slots_show(Qcow2Slots *slots, unsigned i, uint64_t offset);

/**
 * qcow2_slots_hide: hide slot @i, which is about to get other content.
 *
 * Readers that have begun start anew, even if the slot was hidden already.
 *
 * Context: the caller holds the lock.
 */
void qcow2_slots_hide(Qcow2Slots *slots, unsigned i);

/**
 * qcow2_slots_take_mark: return whether readers have used slot @i since the
 * last call, and clear the mark.
 *
 * Context: the caller holds the lock.
 */
static inline bool qcow2_slots_take_mark(Qcow2Slots *slots, unsigned i)
{
    Qcow2SlotUse use = qatomic_read(&slots->slot[i].use);

    if (unlikely(use == QCOW2_SLOT_USED)) {
        qatomic_set(&slots->slot[i].use, QCOW2_SLOT_IDLE);
        return true;
    }
    return false;
}

/**
 * qcow2_slots_loaded: do not count the next read of slot @i as a use.
 *
 * That read is by the reader that has loaded the table, and the cache has
 * counted the load.
 *
 * Context: the caller holds the lock, and has not yet shown the slot.
 */
static inline void qcow2_slots_loaded(Qcow2Slots *slots, unsigned i)
{
    qatomic_set(&slots->slot[i].use, QCOW2_SLOT_LOADED);
}

/**
 * qcow2_slots_words: return the number of words of a table.
 */
static inline unsigned qcow2_slots_words(const Qcow2Slots *slots)
{
    return 1U << (slots->table_bits - 3);
}

/**
 * qcow2_slots_begin: return a number for qcow2_slots_retry().
 *
 * The caller has to call this before it reads which table it wants.
 */
static inline unsigned qcow2_slots_begin(Qcow2Slots *slots)
{
    return seqlock_read_begin(&slots->changes);
}

/**
 * qcow2_slots_find: find the table of @offset.
 *
 * Words that the caller reads from the table are valid only if
 * qcow2_slots_retry() returns false afterwards.
 *
 * Context: any thread, without the lock.
 *
 * Returns: the table, or NULL if it is not shown, or not found in a few steps.
 */
const uint64_t *qcow2_slots_find(Qcow2Slots *slots, uint64_t offset);

/**
 * qcow2_slots_shows: return whether qcow2_slots_find() would find the table of
 * @offset.
 *
 * This does not count as a use.
 */
bool qcow2_slots_shows(Qcow2Slots *slots, uint64_t offset);

/**
 * qcow2_slots_retry: return whether the caller has to start anew, because what
 * it has read may be invalid.
 * @begin: from qcow2_slots_begin()
 */
static inline bool qcow2_slots_retry(Qcow2Slots *slots, unsigned begin)
{
    return seqlock_read_retry(&slots->changes, begin);
}

/** qcow2_slots_slot: return the slot of @table. */
static inline Qcow2Slot *qcow2_slots_slot(Qcow2Slots *slots,
                                          const uint64_t *table)
{
    return &slots->slot[((const uint8_t *)table - slots->tables) >>
                        slots->table_bits];
}

/**
 * qcow2_slots_change_begin: announce a change of an entry of two words in
 * @table.
 *
 * Readers start anew until qcow2_slots_change_end().
 *
 * Context: the caller holds the lock.
 */
static inline void qcow2_slots_change_begin(Qcow2Slots *slots,
                                            const uint64_t *table)
{
    seqlock_write_begin(&qcow2_slots_slot(slots, table)->pairs);
}

/**
 * qcow2_slots_change_end: announce that both words have changed.
 */
static inline void qcow2_slots_change_end(Qcow2Slots *slots,
                                          const uint64_t *table)
{
    seqlock_write_end(&qcow2_slots_slot(slots, table)->pairs);
}

/**
 * qcow2_slots_begin_pairs: return a number for qcow2_slots_retry_pairs().
 *
 * The caller has to call this before it reads entries of two words of @table.
 */
static inline unsigned qcow2_slots_begin_pairs(Qcow2Slots *slots,
                                               const uint64_t *table)
{
    return seqlock_read_begin(&qcow2_slots_slot(slots, table)->pairs);
}

/**
 * qcow2_slots_retry_pairs: return whether the caller has to start anew, because
 * one word of an entry may be old and the other one new.
 * @begin: from qcow2_slots_begin_pairs()
 */
static inline bool qcow2_slots_retry_pairs(Qcow2Slots *slots,
                                           const uint64_t *table,
                                           unsigned begin)
{
    return seqlock_read_retry(&qcow2_slots_slot(slots, table)->pairs, begin);
}

#endif /* BLOCK_QCOW2_SLOTS_H */
