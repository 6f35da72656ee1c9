/*
 * A small number for every thread, to index data kept per thread
 *
 * An object that many threads write has a shard for each of THREAD_SLOTS_ALL
 * numbers, each on cache lines of its own (thread-shards.h):
 *
 *      slot 0   slot 1   slot 2  ...  slot 255     slot 256
 *      main     IOThread IOThread     IOThread     everybody else
 *      `--------- one writer each ----------'      locked
 *
 * A thread gets the lowest number that is free when it first asks and gives
 * it back when it ends, so a shard outlives its writers and passes from one
 * to the next.  Threads that come when all numbers are taken share the last
 * shard, which its users have to lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_THREAD_SLOT_H
#define QEMU_THREAD_SLOT_H

/* Numbers with one thread each: 0 to THREAD_SLOTS - 1. */
#define THREAD_SLOTS        256

/* The number that all further threads share. */
#define THREAD_SLOT_SHARED  THREAD_SLOTS

/* How many shards an object may have. */
#define THREAD_SLOTS_ALL    (THREAD_SLOTS + 1)

/* Apart enough for the adjacent-line prefetcher, which fetches pairs of 64. */
#define THREAD_SLOT_ALIGN   128

/**
 * thread_slot: the number of the thread that calls.
 *
 * Any thread, also from a coroutine; the value is stale once the coroutine
 * has yielded.  The number stays the same for the life of the thread.  What
 * the number's last owner wrote is visible to its next.
 *
 * Returns: less than THREAD_SLOTS if no other living thread has that number,
 * THREAD_SLOT_SHARED otherwise.
 */
unsigned thread_slot(void);

/**
 * thread_slot_limit: a number above all that thread_slot() has returned to
 * threads whose writes since then the caller can see; THREAD_SLOTS at most.
 *
 * Any thread.  It only grows.
 */
unsigned thread_slot_limit(void);

#endif /* QEMU_THREAD_SLOT_H */
