/*
 * A shard of an object for each thread that writes the object
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "qemu/thread-shards.h"

void *thread_shard_alloc(size_t size)
{
    void *shard;

    size = ROUND_UP(size, THREAD_SLOT_ALIGN);
    shard = qemu_memalign(THREAD_SLOT_ALIGN, size);
    memset(shard, 0, size);
    return shard;
}

/* Let walks over the shards include @slot. */
static void slots_grow(ThreadShards *shards, unsigned slot)
{
    unsigned slots = qatomic_read(&shards->slots);
    unsigned seen;

    while (slots <= slot) {
        seen = qatomic_cmpxchg(&shards->slots, slots, slot + 1);
        if (seen == slots) {
            break;
        }
        slots = seen;
    }
}

void *thread_shards_add(ThreadShards *shards, unsigned slot, void *shard)
{
    void *other;

    slots_grow(shards, slot);
    other = qatomic_cmpxchg(&shards->shard[slot], NULL, shard);
    if (other) {
        qemu_vfree(shard);
        return other;
    }
    return shard;
}

void *thread_shards_next(const ThreadShards *shards, unsigned *next)
{
    void *shard = NULL;

    while (!shard && *next < qatomic_load_acquire(&shards->slots)) {
        shard = thread_shards_get(shards, (*next)++);
    }
    return shard;
}

void thread_shards_cleanup(ThreadShards *shards, void (*clean)(void *shard))
{
    for (unsigned slot = 0; slot < shards->slots; slot++) {
        if (clean && shards->shard[slot]) {
            clean(shards->shard[slot]);
        }
        qemu_vfree(shards->shard[slot]);
        shards->shard[slot] = NULL;
    }
    shards->slots = 0;
}
