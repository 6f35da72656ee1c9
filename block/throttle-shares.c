/*
 * Shares of a throttle group's limits, for requests that take no lock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/throttle-shares.h"
#include "qemu/atomic.h"
#include "qemu/memalign.h"
#include "qemu/stats64.h"
#include "qemu/thread-shards.h"

/* A request may count as fractions of a unit, because of iops-size. */
#define UNIT_SHIFT      16
#define UNIT            (1ULL << UNIT_SHIFT)

/* A larger request goes to the buckets, so that no count here overflows. */
#define LARGEST_BYTES   (1ULL << 40)

/* The size of a share if there is no limit */
#define UNLIMITED       (1ULL << 62)

/* A bucket is at most so full when all shares are used up. */
#define FULL_ENOUGH     0.875

/* The counts wrap around; only differences of them are used. */
typedef struct ThrottleShare {
    /* What is used so far; the owner writes it, the collector reads it. */
    Stat64 used[THROTTLE_MAX][THROTTLE_KINDS];

    /*
     * The value of @used at which the share is used up, if the share is of
     * this epoch.  The owner writes it and what follows with the lock held.
     */
    uint64_t end[THROTTLE_MAX][THROTTLE_KINDS];
    uint64_t op_size;
    unsigned epoch;
} QEMU_ALIGNED(THREAD_SLOT_ALIGN) ThrottleShare;

struct ThrottleShares {
    /* A share of another epoch is void.  All threads read this number. */
    unsigned epoch;

    /* The thread of a slot makes its shard.  THREAD_SLOT_SHARED has none. */
    ThreadShards shards;    /* ThrottleShare */

    /*
     * The group's lock protects this field and all that follow.
     * These are the numbers of threads with a share, now and in the last epoch.
     */
    QEMU_ALIGNED(THREAD_SLOT_ALIGN) unsigned holders;
    unsigned last_holders;

    /* The time at which this epoch has begun */
    int64_t since_ns;

    /* The most that all shares together may be, and what is left of them */
    uint64_t most[THROTTLE_MAX][THROTTLE_KINDS];
    uint64_t promised[THROTTLE_MAX][THROTTLE_KINDS];

    /* That part of each share's @used which the buckets contain already */
    uint64_t collected[THREAD_SLOTS][THROTTLE_MAX][THROTTLE_KINDS];
};

/* The two buckets of a request: for both directions, and for its own */
static const BucketType buckets_of[THROTTLE_MAX][THROTTLE_KINDS][2] = {
    [THROTTLE_READ] = {
        [THROTTLE_BYTES] = { THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ },
        [THROTTLE_UNITS] = { THROTTLE_OPS_TOTAL, THROTTLE_OPS_READ },
    },
    [THROTTLE_WRITE] = {
        [THROTTLE_BYTES] = { THROTTLE_BPS_TOTAL, THROTTLE_BPS_WRITE },
        [THROTTLE_UNITS] = { THROTTLE_OPS_TOTAL, THROTTLE_OPS_WRITE },
    },
};

#define FOREACH_DIRECTION(d) \
    for (ThrottleDirection d = 0; d < THROTTLE_MAX; d++)
#define FOREACH_KIND(k) for (ThrottleKind k = 0; k < THROTTLE_KINDS; k++)
#define FOREACH_LIMIT(d, k) FOREACH_DIRECTION(d) FOREACH_KIND(k)

static double scale_of(ThrottleKind kind)
{
    return kind == THROTTLE_UNITS ? UNIT : 1;
}

ThrottleShares *throttle_shares_new(void)
{
    ThrottleShares *shares = qemu_memalign(THREAD_SLOT_ALIGN, sizeof(*shares));

    memset(shares, 0, sizeof(*shares));
    shares->epoch = 1;
    return shares;
}

void throttle_shares_free(ThrottleShares *shares)
{
    if (shares) {
        thread_shards_cleanup(&shares->shards, NULL);
    }
    qemu_vfree(shares);
}

static inline void use(ThrottleShare *share, ThrottleDirection direction,
                       ThrottleKind kind, uint64_t amount)
{
    Stat64 *used = &share->used[direction][kind];

    stat64_set(used, stat64_get(used) + amount);
}

static inline bool has(ThrottleShare *share, ThrottleDirection direction,
                       ThrottleKind kind, uint64_t amount)
{
    return share->end[direction][kind] -
           stat64_get(&share->used[direction][kind]) >= amount;
}

bool throttle_shares_take(ThrottleShares *shares, unsigned slot,
                          ThrottleDirection direction, uint64_t bytes)
{
    ThrottleShare *share;
    uint64_t units = UNIT;

    if (unlikely(slot == THREAD_SLOT_SHARED || bytes > LARGEST_BYTES)) {
        return false;
    }
    /* This thread made the share, or an earlier thread with this slot did. */
    share = shares->shards.shard[slot];
    if (unlikely(!share || share->epoch != qatomic_read(&shares->epoch))) {
        return false;
    }
    if (share->op_size && bytes > share->op_size) {
        units = (bytes << UNIT_SHIFT) / share->op_size;
    }
    if (unlikely(!has(share, direction, THROTTLE_BYTES, bytes) ||
                 !has(share, direction, THROTTLE_UNITS, units))) {
        return false;
    }
    use(share, direction, THROTTLE_BYTES, bytes);
    use(share, direction, THROTTLE_UNITS, units);
    return true;
}

/* Return what the share in @slot has used since the last collection. */
static uint64_t collect_one(ThrottleShares *shares, unsigned slot,
                            ThrottleDirection direction, ThrottleKind kind)
{
    ThrottleShare *share = thread_shards_get(&shares->shards, slot);
    uint64_t *collected = &shares->collected[slot][direction][kind];
    uint64_t used = stat64_get(&share->used[direction][kind]);
    uint64_t more = used - *collected;

    *collected = used;
    if (share->epoch == shares->epoch) {
        shares->promised[direction][kind] +=
            share->end[direction][kind] - used;
    }
    return more;
}

static void bucket_fill(LeakyBucket *bucket, double amount)
{
    bucket->level += amount;
    if (bucket->burst_length > 1) {
        bucket->burst_level += amount;
    }
}

static void leak(ThrottleState *ts, int64_t now)
{
    int64_t elapsed = now - ts->previous_leak;

    if (elapsed <= 0) {
        return;
    }
    ts->previous_leak = now;
    for (unsigned i = 0; i < BUCKETS_COUNT; i++) {
        throttle_leak_bucket(&ts->cfg.buckets[i], elapsed);
    }
}

static void collect_share(ThrottleShares *shares, ThrottleState *ts,
                          unsigned slot)
{
    FOREACH_LIMIT(direction, kind) {
        const BucketType *buckets = buckets_of[direction][kind];
        uint64_t more = collect_one(shares, slot, direction, kind);

        for (unsigned i = 0; more && i < 2; i++) {
            bucket_fill(&ts->cfg.buckets[buckets[i]], more / scale_of(kind));
        }
    }
}

void throttle_shares_collect(ThrottleShares *shares, ThrottleState *ts,
                             int64_t now)
{
    leak(ts, now);
    memset(shares->promised, 0, sizeof(shares->promised));

    for (unsigned slot = 0; slot < shares->shards.slots; slot++) {
        if (thread_shards_get(&shares->shards, slot)) {
            collect_share(shares, ts, slot);
        }
    }
    if (now - shares->since_ns > NANOSECONDS_PER_SECOND) {
        throttle_shares_revoke(shares);
        shares->since_ns = now;
    }
}

/* Return whether @bucket lets requests through if @amount is added. */
static bool has_room(const LeakyBucket *bucket, double amount)
{
    double size = bucket->max ? (double)bucket->max * bucket->burst_length
                              : (double)bucket->avg / 10;

    if (!bucket->avg) {
        return true;
    }
    if (bucket->burst_length > 1 &&
        bucket->burst_level + amount > bucket->max * FULL_ENOUGH / 10) {
        return false;
    }
    return bucket->level + amount <= size * FULL_ENOUGH;
}

/* Return the size of a new share, or 0 if there is no room for one. */
static uint64_t new_share(ThrottleShares *shares, ThrottleState *ts,
                          ThrottleDirection direction, ThrottleKind kind)
{
    uint64_t most = shares->most[direction][kind];
    uint64_t promised = shares->promised[direction][kind];
    uint64_t mine;

    if (most == UNLIMITED) {
        return most;
    }
    /* Leave one part for the next thread that asks. */
    mine = MIN(most / (MAX(shares->holders, shares->last_holders) + 1),
               most - MIN(most, promised));
    for (unsigned b = 0; b < 2; b++) {
        uint64_t amount = mine + promised;

        if (b == 0) {
            /* The first bucket also counts the other direction. */
            amount += shares->promised[!direction][kind];
        }
        if (!has_room(&ts->cfg.buckets[buckets_of[direction][kind][b]],
                      amount / scale_of(kind))) {
            return 0;
        }
    }
    return mine;
}

/* Return the share in @slot.  Begin an empty one if its epoch is over. */
static ThrottleShare *share_of(ThrottleShares *shares, ThrottleState *ts,
                               unsigned slot)
{
    ThrottleShare *share = thread_shards_get(&shares->shards, slot);

    if (!share) {
        share = thread_shards_add(&shares->shards, slot,
                                  thread_shard_alloc(sizeof(*share)));
    }
    if (share->epoch != shares->epoch) {
        FOREACH_LIMIT(direction, kind) {
            share->end[direction][kind] =
                stat64_get(&share->used[direction][kind]);
        }
        share->op_size = ts->cfg.op_size;
        share->epoch = shares->epoch;
        shares->holders++;
    }
    return share;
}

void throttle_shares_renew(ThrottleShares *shares, ThrottleState *ts,
                           unsigned slot, ThrottleDirection direction)
{
    uint64_t size[THROTTLE_KINDS];
    bool room = true;
    ThrottleShare *share;

    if (slot == THREAD_SLOT_SHARED) {
        return;
    }
    share = share_of(shares, ts, slot);
    FOREACH_KIND(kind) {
        uint64_t used = stat64_get(&share->used[direction][kind]);

        /* The new share replaces what is left of the old one. */
        shares->promised[direction][kind] -= share->end[direction][kind] - used;
        size[kind] = new_share(shares, ts, direction, kind);
        room = room && size[kind];
    }
    FOREACH_KIND(kind) {
        uint64_t used = stat64_get(&share->used[direction][kind]);

        share->end[direction][kind] = used + (room ? size[kind] : 0);
        shares->promised[direction][kind] += share->end[direction][kind] - used;
    }
}

void throttle_shares_revoke(ThrottleShares *shares)
{
    if (shares->holders) {
        qatomic_set(&shares->epoch, shares->epoch + 1);
        shares->last_holders = shares->holders;
        shares->holders = 0;
        memset(shares->promised, 0, sizeof(shares->promised));
    }
}

/* Return how large all shares together may be. */
static uint64_t most_of(ThrottleState *ts, ThrottleDirection direction,
                        ThrottleKind kind)
{
    uint64_t most = UNLIMITED;

    for (unsigned i = 0; i < 2; i++) {
        BucketType type = buckets_of[direction][kind][i];
        uint64_t average = ts->cfg.buckets[type].avg;

        if (average) {
            /* THROTTLE_VALUE_MAX keeps this below UNLIMITED. */
            most = MIN(most, average / (double)SHARES_IN_SECOND *
                             scale_of(kind));
        }
    }
    return most;
}

void throttle_shares_configured(ThrottleShares *shares, ThrottleState *ts)
{
    throttle_shares_revoke(shares);

    FOREACH_LIMIT(direction, kind) {
        shares->most[direction][kind] = most_of(ts, direction, kind);

        /* Forget what has been used so far; the buckets do the same. */
        for (unsigned slot = 0; slot < shares->shards.slots; slot++) {
            if (thread_shards_get(&shares->shards, slot)) {
                collect_one(shares, slot, direction, kind);
            }
        }
    }
}
