/*
 * An object in shards: each thread that writes it has a shard
 *
 *      slot 0   slot 1   slot 2   slot 3  ...  slot 256
 *        |                 |                     |
 *      shard             shard                 shard
 *      one writer        one writer            several: of all threads that
 *                                              have no slot of their own
 *
 * A shard has cache lines of its own.  A thread makes the shard of its slot
 * when it needs it for the first time.  The shard exists until the object is
 * freed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_THREAD_SHARDS_H
#define QEMU_THREAD_SHARDS_H

#include "qemu/atomic.h"
#include "qemu/thread-slot.h"

/**
 * ThreadShards: must be all zero at first.
 * @shard: the shard of each slot, or NULL
 * @slots: a number larger than every slot that has a shard; it only grows
 */
typedef struct ThreadShards {
    void *shard[THREAD_SLOTS_ALL];
    unsigned slots;
} ThreadShards;

/**
 * thread_shard_alloc: allocate a shard that is all zero.
 *
 * Returns: memory for thread_shards_add(), or to be freed with qemu_vfree().
 */
void *thread_shard_alloc(size_t size);

/**
 * thread_shards_add: make @shard the shard of @slot, if the slot has none.
 * @slot: of the calling thread; several threads may call this with
 *        THREAD_SLOT_SHARED at the same time
 *
 * A thread that finds @shard sees everything that was written to it before this
 * call.
 *
 * Returns: the shard of @slot.  If the slot has one already, that is returned,
 * and @shard is freed.
 */
void *thread_shards_add(ThreadShards *shards, unsigned slot, void *shard);

/**
 * thread_shards_get: return the shard of @slot, or NULL.
 *
 * Context: any thread.
 */
static inline void *thread_shards_get(const ThreadShards *shards, unsigned slot)
{
    return qatomic_load_acquire(&shards->shard[slot]);
}

/**
 * thread_shards_next: find the first shard in slot *@next or a later slot.
 * @next: 0 for the first call; set to the slot after the one that was found
 *
 * A shard that is made during the walk may be missed.
 *
 * Context: any thread.
 *
 * Returns: the shard, or NULL if there is no other.
 */
void *thread_shards_next(const ThreadShards *shards, unsigned *next);

/** THREAD_SHARDS_FOREACH: loop over all shards, with @var set to each. */
#define THREAD_SHARDS_FOREACH(var, shards)                      \
    for (unsigned next_ = 0;                                    \
         ((var) = thread_shards_next(shards, &next_)) != NULL;)

/**
 * thread_shards_cleanup: free all shards, and make @shards all zero again.
 * @clean: a function to call for each shard before it is freed, or NULL
 *
 * Context: no other thread uses @shards.
 */
void thread_shards_cleanup(ThreadShards *shards, void (*clean)(void *shard));

#endif /* QEMU_THREAD_SHARDS_H */
