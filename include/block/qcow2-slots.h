/*
 * What a cache of qcow2 tables shows to readers that do not take its lock
 *
 *      Qcow2Slots
 *        changes        a sequence lock
 *        slot[0]        table 0x50000, used
 *        slot[1]        nothing (empty, being filled, or being replaced)
 *        slot[2]        table 0x20000
 *        tables         [ memory of slot 0 ][ slot 1 ][ slot 2 ]...
 *
 * The cache itself belongs to the owner of the image's lock.  The owner shows a
 * slot when its table is whole, and hides it before the memory gets another
 * content.
 * Between the two the table's words change one by one; where two of them make
 * an entry, a sequence number of the slot tells of that.
 *
 *      reader                              owner of the lock
 *      ------                              -----------------
 *      qcow2_slots_begin(), an even number qcow2_slots_hide():
 *      which table?  (L1)                    changes odd, slot = 0, even
 *      qcow2_slots_find(), its entries     fill the memory
 *      qcow2_slots_retry(): same number?   qcow2_slots_show(): slot = offset
 *
 * A reader that saw a word of the new content, or a pointer made after hiding,
 * sees the number that had changed before.  One that began after the change
 * finds the slot hidden, or shown again with all of its content.
 *
 * Readers write nothing here but the mark of use: a reader sets it if it is not
 * set.  When the cache has to choose a slot, it counts the mark as a use and
 * clears it.  A reader that has had a table loaded does not mark it, as the
 * cache has counted the load.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_QCOW2_SLOTS_H
#define BLOCK_QCOW2_SLOTS_H

#include "qemu/atomic.h"
#include "qemu/seqlock.h"

/* What readers without the lock have done with a table */
typedef enum Qcow2SlotUse {
    QCOW2_SLOT_IDLE,    /* nothing since the cache last looked */
    QCOW2_SLOT_LOADED,  /* nothing yet; the reader that loaded it will read */
    QCOW2_SLOT_USED,
} Qcow2SlotUse;

typedef struct Qcow2Slot {
    /* Where in the image the table lies; 0: nothing is shown */
    uint64_t table;

    /* In images with subclusters: entries of which both words change */
    QemuSeqLock pairs;

    Qcow2SlotUse use;
} Qcow2Slot;

typedef struct Qcow2Slots {
    QemuSeqLock changes;
    unsigned nb;
    unsigned table_bits;
    uint8_t *tables;

    /*
     * In which slots to look.  Stale ones do no harm; a table that is shown
     * and has none is found when somebody with the lock shows it again.
     */
    unsigned *hints;
    unsigned hint_mask;

    Qcow2Slot slot[];
} Qcow2Slots;

struct Qcow2Cache;

/**
 * qcow2_cache_slots: what @cache shows.  In qcow2-cache.c.
 */
Qcow2Slots *qcow2_cache_slots(struct Qcow2Cache *cache);

/**
 * qcow2_slots_new: @nb slots, all hidden.
 *
 * @tables is their memory, @table_size bytes (a power of two) each, and
 * outlives them.
 *
 * Returns: NULL if there is no memory.
 */
Qcow2Slots *qcow2_slots_new(unsigned nb, unsigned table_size, void *tables);

/**
 * qcow2_slots_free: no reader is left.  @slots may be NULL.
 */
void qcow2_slots_free(Qcow2Slots *slots);

/**
 * qcow2_slots_show: slot @i has the whole table that lies at @offset.
 *
 * Called with the lock held.
 */
void qcow2_slots_show(Qcow2Slots *slots, unsigned i, uint64_t offset);

/**
 * qcow2_slots_hide: slot @i is about to get another content.
 *
 * Called with the lock held.  Makes readers that have begun start anew, even if
 * the slot was hidden already: what they know of its table may be wrong.
 */
void qcow2_slots_hide(Qcow2Slots *slots, unsigned i);

/**
 * qcow2_slots_take_mark: whether slot @i was used by readers since the last
 * call.  Called with the lock held.
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
 * qcow2_slots_loaded: the next reader of slot @i is the one that loaded it, and
 * the cache has counted the load.  Called with the lock held, before the slot
 * is shown.
 */
static inline void qcow2_slots_loaded(Qcow2Slots *slots, unsigned i)
{
    qatomic_set(&slots->slot[i].use, QCOW2_SLOT_LOADED);
}

/**
 * qcow2_slots_words: how many words a table has.
 */
static inline unsigned qcow2_slots_words(const Qcow2Slots *slots)
{
    return 1U << (slots->table_bits - 3);
}

/**
 * qcow2_slots_begin: a number for qcow2_slots_retry().  To be called before
 * anything is read that tells which table is wanted.
 */
static inline unsigned qcow2_slots_begin(Qcow2Slots *slots)
{
    return seqlock_read_begin(&slots->changes);
}

/**
 * qcow2_slots_find: the table that lies at @offset, or NULL if there is none
 * or it is not found in a few looks.
 *
 * Without the lock.  What is read from it means something only if
 * qcow2_slots_retry() returns false afterwards.
 */
const uint64_t *qcow2_slots_find(Qcow2Slots *slots, uint64_t offset);

/**
 * qcow2_slots_shows: whether qcow2_slots_find() would find it; not a use.
 */
bool qcow2_slots_shows(Qcow2Slots *slots, uint64_t offset);

/**
 * qcow2_slots_retry: whether what was read since qcow2_slots_begin() returned
 * @begin has to be forgotten.
 */
static inline bool qcow2_slots_retry(Qcow2Slots *slots, unsigned begin)
{
    return seqlock_read_retry(&slots->changes, begin);
}

/** qcow2_slots_slot: the slot that has @table. */
static inline Qcow2Slot *qcow2_slots_slot(Qcow2Slots *slots,
                                          const uint64_t *table)
{
    return &slots->slot[((const uint8_t *)table - slots->tables) >>
                        slots->table_bits];
}

/**
 * qcow2_slots_change_begin: an entry of two words in @table is about to change.
 *
 * Called with the lock held.  Readers start anew until
 * qcow2_slots_change_end().
 */
static inline void qcow2_slots_change_begin(Qcow2Slots *slots,
                                            const uint64_t *table)
{
    seqlock_write_begin(&qcow2_slots_slot(slots, table)->pairs);
}

/**
 * qcow2_slots_change_end: both words have changed.
 */
static inline void qcow2_slots_change_end(Qcow2Slots *slots,
                                          const uint64_t *table)
{
    seqlock_write_end(&qcow2_slots_slot(slots, table)->pairs);
}

/**
 * qcow2_slots_begin_pairs: a number for qcow2_slots_retry_pairs(), before
 * entries of two words are read from @table.
 */
static inline unsigned qcow2_slots_begin_pairs(Qcow2Slots *slots,
                                               const uint64_t *table)
{
    return seqlock_read_begin(&qcow2_slots_slot(slots, table)->pairs);
}

/**
 * qcow2_slots_retry_pairs: whether the two words of an entry may be of
 * different times.
 */
static inline bool qcow2_slots_retry_pairs(Qcow2Slots *slots,
                                           const uint64_t *table,
                                           unsigned begin)
{
    return seqlock_read_retry(&qcow2_slots_slot(slots, table)->pairs, begin);
}

#endif /* BLOCK_QCOW2_SLOTS_H */
