/*
 * Reading what may be replaced and freed, at the cost of two plain stores
 *
 *      reader                          writer
 *      ------                          ------
 *      brief_read_begin()              pointer = new
 *        (asym_mb_light)               brief_read_wait()
 *      read the pointer, use it          (asym_mb_heavy)
 *      brief_read_end()                  until each thread that reads has ended
 *                                      free the old
 *
 * Either the reader finds the new pointer, or the thread that replaces it finds
 * the reader and waits.  The RCU of util/rcu.c gives the same guarantee, but a
 * reader there executes two full barriers by default, and synchronize_rcu()
 * also waits for readers that sleep.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_BRIEF_READ_H
#define QEMU_BRIEF_READ_H

#include "qemu/asym-barrier.h"
#include "qemu/thread-slot.h"

/* Odd while the thread reads; one writer */
typedef struct BriefReader {
    unsigned turns;
} QEMU_ALIGNED(THREAD_SLOT_ALIGN) BriefReader;

extern BriefReader brief_readers[THREAD_SLOTS];

/**
 * brief_read_begin: what is read from now on is not freed.
 *
 * Any thread.  Not to be nested; until brief_read_end() the caller must not
 * yield, sleep or take a lock.
 *
 * Returns: what brief_read_end() wants.  NULL, and nothing is promised, in a
 * thread without a slot of its own.
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
 * brief_read_end: @reader, from brief_read_begin(), reads no more.
 */
static inline void brief_read_end(BriefReader *reader)
{
    qatomic_store_release(&reader->turns, reader->turns + 1);
}

/**
 * brief_read_wait: wait for all that began to read before.
 *
 * Any thread that does not read itself.  Takes microseconds, or as long as the
 * system keeps a reader's thread from running.
 */
void brief_read_wait(void);

#endif /* QEMU_BRIEF_READ_H */
