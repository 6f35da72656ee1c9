/*
 * A small number for every thread, as an index of data per thread
 *
 * An object that many threads write has a shard for each of these numbers, each
 * on cache lines of its own (thread-shards.h):
 *
 *      slot 0   slot 1   slot 2  ...  slot 255     slot 256
 *      main     IOThread IOThread     IOThread     all other threads
 *      `--------- one writer each ----------'      locked
 *
 * A thread gets the lowest free number when it asks for the first time, and
 * gives it back when it ends.  Then the next thread with this number writes the
 * same shard.  If all numbers are in use, further threads share the last shard,
 * and they have to lock it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_THREAD_SLOT_H
#define QEMU_THREAD_SLOT_H

/* The numbers 0 to THREAD_SLOTS - 1 belong to one thread each. */
#define THREAD_SLOTS        256

/* All further threads share this number. */
#define THREAD_SLOT_SHARED  THREAD_SLOTS

/* The largest number of shards of an object. */
#define THREAD_SLOTS_ALL    (THREAD_SLOTS + 1)

/*
 * Alignment of shards: the adjacent-line prefetcher fetches pairs of cache
 * lines of 64 bytes, so no pair may belong to two shards.
 */
#define THREAD_SLOT_ALIGN   128

/**
 * thread_slot: return the number of the calling thread.
 *
 * A thread keeps its number until it ends.  The next thread with the same
 * number sees everything that this thread wrote.
 *
 * Context: any thread.  A coroutine must ask again after it has yielded,
 * because it may then run in another thread.
 *
 * Returns: a number below THREAD_SLOTS that no other living thread has, or
 * THREAD_SLOT_SHARED.
 */
unsigned thread_slot(void);

/**
 * thread_slot_limit: return a number that is larger than all slots in use.
 *
 * It is larger than the slot of each thread whose writes the caller can see, if
 * the thread has made them after its thread_slot().  It never shrinks, and is
 * at most THREAD_SLOTS.
 *
 * Context: any thread.
 */
unsigned thread_slot_limit(void);

#endif /* QEMU_THREAD_SLOT_H */
