/*
 * A lightweight RCU: a reader executes two plain stores
 *
 *      reader                          writer
 *      ------                          ------
 *      brief_read_begin()              pointer = new
 *        (asym_mb_light)               brief_read_wait():
 *      read the pointer, use it          (asym_mb_heavy)
 *      brief_read_end()                  wait for each reader that has begun
 *                                      free the old object
 *
 * Either the reader finds the new pointer, or the writer finds the reader and
 * waits for its end.  The RCU of util/rcu.c gives the same guarantee.  But
 * there a reader executes two full barriers by default, and synchronize_rcu()
 * also waits for readers that sleep.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_BRIEF_READ_H
#define QEMU_BRIEF_READ_H

#include "qemu/asym-barrier.h"
#include "qemu/thread-slot.h"

/* Odd while the thread reads.  Only that thread writes it. */
typedef struct BriefReader {
    unsigned turns;
} QEMU_ALIGNED(THREAD_SLOT_ALIGN) BriefReader;

extern BriefReader brief_readers[THREAD_SLOTS];

/**
 * brief_read_begin: keep objects that are found from now on from being freed.
 *
 * Calls do not nest.  Until brief_read_end() the caller must not yield, sleep
 * or take a lock.
 *
 * Context: any thread.
 *
 * Returns: the argument of brief_read_end().  In a thread without a slot of its
 * own it returns NULL; then objects may be freed at any time.
 */
static inline BriefReader *brief_read_begin(void)
{
    unsigned slot = thread_slot();
    BriefReader *reader;

    if (unlikely(slot == THREAD_SLOT_SHARED)) {
        return NULL;
    }
    reader = &brief_readers[slot];
    qatomic_set(&reader->turns, reader->turns + 1);
    asym_mb_light();
    return reader;
}

/**
 * brief_read_end: end the read.
 * @reader: from brief_read_begin()
 */
static inline void brief_read_end(BriefReader *reader)
{
    qatomic_store_release(&reader->turns, reader->turns + 1);
}

/**
 * brief_read_wait: wait for all reads that have begun.
 *
 * This takes microseconds, or longer if the system does not let a reader's
 * thread run.
 *
 * Context: any thread that is not within a read itself.
 */
void brief_read_wait(void);

#endif /* QEMU_BRIEF_READ_H */
