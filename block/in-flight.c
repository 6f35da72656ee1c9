/*
 * How many requests are under way, counted without a shared cache line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/in-flight.h"

/* After so many requests with a barrier, those of a shard have none again. */
#define CAREFUL_REQUESTS    64

/*
 * The slot's thread writes a shard.  The counts wrap around; only differences
 * of them are used.
 */
struct InFlightShard {
    unsigned started;
    unsigned ended;
    unsigned writes;

    /* In the era with this number minus one, requests have no barrier. */
    unsigned light_era;

    /* Requests with a barrier since light_era was set, in any later era */
    unsigned careful;
};

static __attribute__((noinline))
InFlightShard *shard_new(InFlight *in_flight, unsigned slot)
{
    return thread_shards_add(&in_flight->shards, slot,
                             thread_shard_alloc(sizeof(InFlightShard)));
}

static inline InFlightShard *shard_get(InFlight *in_flight, unsigned slot)
{
    InFlightShard *shard = thread_shards_get(&in_flight->shards, slot);

    return likely(shard) ? shard : shard_new(in_flight, slot);
}

/*
 * Add one to a counter of the shard in @slot.  A thread that sees the new value
 * also sees all that the caller wrote before.
 */
static inline void count_up(unsigned *counter, unsigned slot)
{
    if (likely(slot != THREAD_SLOT_SHARED)) {
        qatomic_store_release(counter, *counter + 1);
    } else {
        qatomic_inc(counter);
    }
}

/* Run a barrier here, so that a drain need not run one for this thread. */
static __attribute__((noinline))
void start_carefully(InFlight *in_flight, InFlightShard *shard, unsigned slot)
{
    /* The caller reads after the count; this pairs with in_flight_close(). */
    smp_mb();
    if (slot == THREAD_SLOT_SHARED) {
        return;
    }
    if (++shard->careful >= CAREFUL_REQUESTS) {
        shard->careful = 0;
        qatomic_set(&shard->light_era, qatomic_read(&in_flight->era) + 1);
        /* in_flight_close() sees this, or later requests see what it wrote. */
        smp_mb();
    }
}

void in_flight_inc(InFlight *in_flight)
{
    unsigned slot = thread_slot();
    InFlightShard *shard = shard_get(in_flight, slot);

    count_up(&shard->started, slot);
    asym_mb_light();
    /* Read it after the count, so that the next era's barrier sees both. */
    if (unlikely(shard->light_era != qatomic_read(&in_flight->era) + 1)) {
        start_carefully(in_flight, shard, slot);
    }
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

    THREAD_SHARDS_FOREACH(shard, &in_flight->shards) {
        count -= qatomic_load_acquire(&shard->ended);
    }

    /*
     * A request whose end is in the first sum has its start in this one, so
     * the count is never too low.
     */
    THREAD_SHARDS_FOREACH(shard, &in_flight->shards) {
        count += qatomic_read(&shard->started);
    }
    return count;
}

static bool some_are_light(InFlight *in_flight)
{
    unsigned light = qatomic_read(&in_flight->era) + 1;
    InFlightShard *shard;

    THREAD_SHARDS_FOREACH(shard, &in_flight->shards) {
        if (qatomic_read(&shard->light_era) == light) {
            return true;
        }
    }
    return false;
}

void in_flight_close(InFlight *in_flight)
{
    /* The caller's write comes before the look at requests without barrier. */
    smp_mb();
    if (some_are_light(in_flight)) {
        qatomic_inc(&in_flight->era);
        qatomic_set(&in_flight->closed, asym_mb_begun());
    }
}

unsigned in_flight_count(InFlight *in_flight)
{
    /* Look for the barrier first, because the sums must be read after it. */
    if (!asym_mb_done_since(qatomic_read(&in_flight->closed))) {
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

    THREAD_SHARDS_FOREACH(shard, &in_flight->shards) {
        writes += qatomic_load_acquire(&shard->writes);
    }
    return writes;
}

void in_flight_cleanup(InFlight *in_flight)
{
    thread_shards_cleanup(&in_flight->shards, NULL);
}
