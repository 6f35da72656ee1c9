/*
 * A shard of an object for each thread that writes the object
 *
 *      slot 0   slot 1   slot 2   slot 3  ...  slot 256
 *        |                 |                     |
 *      shard             shard                 shard
 *      one writer        one writer            several: of all threads that
 *                                              have no slot of their own
 *
 * A shard lies on cache lines of its own.  A thread makes the one of its slot
 * when it first writes something there; it stays until the object goes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_THREAD_SHARDS_H
#define QEMU_THREAD_SHARDS_H

#include "qemu/atomic.h"
#include "qemu/thread-slot.h"

/**
 * ThreadShards: all zero to begin with.
 * @shard: those that there are, else NULL
 * @slots: above all that have a shard; only grows
 */
typedef struct ThreadShards {
    void *shard[THREAD_SLOTS_ALL];
    unsigned slots;
} ThreadShards;

/**
 * thread_shard_alloc: memory for a shard, zeroed.
 *
 * It is for thread_shards_add(), or for qemu_vfree().
 */
void *thread_shard_alloc(size_t size);

/**
 * thread_shards_add: make @shard the one in @slot, if there is none yet.
 * @slot: of the calling thread; several threads may come with
 *        THREAD_SLOT_SHARED at once
 *
 * A thread that finds @shard sees what has been written to it before.
 *
 * Returns: the one in @slot.  If that is another, @shard has been freed.
 */
void *thread_shards_add(ThreadShards *shards, unsigned slot, void *shard);

/** thread_shards_get: the one in @slot, or NULL.  Any thread. */
static inline void *thread_shards_get(const ThreadShards *shards, unsigned slot)
{
    return qatomic_load_acquire(&shards->shard[slot]);
}

/**
 * thread_shards_next: the one in slot *@next, or the next behind it.
 * @next: 0 to begin with; set to the slot behind it
 *
 * Any thread.  Shards that are made meanwhile may be missed.
 *
 * Returns: NULL behind the last.
 */
void *thread_shards_next(const ThreadShards *shards, unsigned *next);

/** THREAD_SHARDS_FOREACH: run what follows with @var set to each shard. */
#define THREAD_SHARDS_FOREACH(var, shards)                      \
    for (unsigned next_ = 0;                                    \
         ((var) = thread_shards_next(shards, &next_)) != NULL;)

/**
 * thread_shards_cleanup: free all of them; @shards is as it was to begin with.
 * @clean: what to do with each of them before; may be NULL
 *
 * No other thread uses @shards.
 */
void thread_shards_cleanup(ThreadShards *shards, void (*clean)(void *shard));

#endif /* QEMU_THREAD_SHARDS_H */
