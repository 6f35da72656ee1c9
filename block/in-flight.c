/*
 * How many requests are under way, counted without a shared cache line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/in-flight.h"
#include "qemu/memalign.h"

/* Counts wrap; only differences are used. */
struct InFlightShard {
    unsigned started;
    unsigned ended;
    unsigned writes;
};

static __attribute__((noinline))
InFlightShard *shard_new(InFlight *in_flight, unsigned slot)
{
    InFlightShard *shard = qemu_memalign(THREAD_SLOT_ALIGN, THREAD_SLOT_ALIGN);
    InFlightShard *other;

    *shard = (InFlightShard) { 0 };

    /* Only the shared slot can have been filled meanwhile */
    other = qatomic_cmpxchg(&in_flight->shards[slot], NULL, shard);
    if (other) {
        qemu_vfree(shard);
        return other;
    }
    return shard;
}

static inline InFlightShard *shard_get(InFlight *in_flight, unsigned slot)
{
    InFlightShard *shard = qatomic_load_acquire(&in_flight->shards[slot]);

    return likely(shard) ? shard : shard_new(in_flight, slot);
}

/* Add one to a counter of the shard in @slot; what was done before is seen. */
static inline void count_up(unsigned *counter, unsigned slot)
{
    if (likely(slot != THREAD_SLOT_SHARED)) {
        qatomic_store_release(counter, *counter + 1);
    } else {
        qatomic_inc(counter);
    }
}

void in_flight_inc(InFlight *in_flight)
{
    unsigned slot = thread_slot();

    count_up(&shard_get(in_flight, slot)->started, slot);
    asym_mb_light();
}

void in_flight_dec(InFlight *in_flight)
{
    unsigned slot = thread_slot();

    count_up(&shard_get(in_flight, slot)->ended, slot);
}

static unsigned count_now(InFlight *in_flight)
{
    InFlightShard *shard;
    unsigned count = 0;

    for (unsigned slot = 0; slot < THREAD_SLOTS_ALL; slot++) {
        shard = qatomic_load_acquire(&in_flight->shards[slot]);
        if (shard) {
            count -= qatomic_load_acquire(&shard->ended);
        }
    }

    /* A shard that the first pass missed has ended nothing that it saw */
    for (unsigned slot = 0; slot < THREAD_SLOTS_ALL; slot++) {
        shard = qatomic_load_acquire(&in_flight->shards[slot]);
        if (shard) {
            count += qatomic_read(&shard->started);
        }
    }
    return count;
}

void in_flight_close(InFlight *in_flight)
{
    qatomic_set(&in_flight->closed, asym_mb_moment());
}

unsigned in_flight_count(InFlight *in_flight)
{
    /* Before the sums, for these have to come after the barrier */
    if (!asym_mb_passed(qatomic_read(&in_flight->closed))) {
        unsigned count = count_now(in_flight);

        if (count) {
            return count;
        }
        asym_mb_heavy();
    }
    return count_now(in_flight);
}

void in_flight_wrote(InFlight *in_flight)
{
    unsigned slot = thread_slot();

    count_up(&shard_get(in_flight, slot)->writes, slot);
}

unsigned in_flight_writes(InFlight *in_flight)
{
    InFlightShard *shard;
    unsigned writes = 0;

    for (unsigned slot = 0; slot < THREAD_SLOTS_ALL; slot++) {
        shard = qatomic_load_acquire(&in_flight->shards[slot]);
        if (shard) {
            writes += qatomic_load_acquire(&shard->writes);
        }
    }
    return writes;
}

void in_flight_cleanup(InFlight *in_flight)
{
    for (unsigned slot = 0; slot < THREAD_SLOTS_ALL; slot++) {
        qemu_vfree(in_flight->shards[slot]);
        in_flight->shards[slot] = NULL;
    }
}
