/*
 * Statistics of a BlockBackend: counted per thread, added up when asked
 *
 * include/block/accounting.h has the picture.  A shard has one writer, so it
 * counts with plain loads and stores; the sequence lock lets a fold see what
 * a request adds whole or not at all.  Histograms and intervals, which take
 * the shard's lock, are in accounting-latency.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "accounting-shard.h"
#include "block/block_int.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/timer.h"
#include "system/qtest.h"

QEMUClockType block_acct_clock = QEMU_CLOCK_REALTIME;

/* Under qtest every latency has this value, so that tests can rely on it. */
static const int64_t acct_qtest_latency_ns = SCALE_MS;

static BlockAcctShard *shard_new(BlockAcctStats *stats, unsigned slot)
{
    BlockAcctShard *shard;

    QEMU_LOCK_GUARD(&stats->lock);
    shard = thread_shards_get(&stats->shards, slot);
    if (shard) {
        return shard;
    }

    shard = thread_shard_alloc(sizeof(*shard));
    seqlock_init(&shard->seq);
    qemu_mutex_init(&shard->lock);
    shard->shared = slot == THREAD_SLOT_SHARED;
    block_acct_latency_init(stats, shard);
    return thread_shards_add(&stats->shards, slot, shard);
}

static void shard_clean(void *opaque)
{
    BlockAcctShard *shard = opaque;

    block_acct_latency_free(shard);
    qemu_mutex_destroy(&shard->lock);
}

/*
 * Counting
 */

/* Begin to count.  Set *@locked if shard_end() has to unlock the shard. */
static inline BlockAcctShard *shard_begin(BlockAcctStats *stats, bool *locked)
{
    unsigned slot = thread_slot();
    BlockAcctShard *shard = thread_shards_get(&stats->shards, slot);

    if (unlikely(!shard)) {
        shard = shard_new(stats, slot);
    }
    *locked = shard->shared || qatomic_read(&shard->detailed);
    if (unlikely(*locked)) {
        qemu_mutex_lock(&shard->lock);
    }
    seqlock_write_begin(&shard->seq);
    return shard;
}

static inline void shard_end(BlockAcctShard *shard, bool locked)
{
    seqlock_write_end(&shard->seq);
    if (unlikely(locked)) {
        qemu_mutex_unlock(&shard->lock);
    }
}

static inline void shard_add(BlockAcctShard *shard, BlockAcctCounter counter,
                             enum BlockAcctType type, uint64_t n)
{
    Stat64 *s = &shard->counters[counter][type];

    /* The addition need not be atomic, because there is only one writer. */
    stat64_set(s, stat64_get(s) + n);
}

/*
 * Count the end of @n requests that began together.  @cookie->bytes is the sum
 * of their bytes.
 */
static void request_end(BlockAcctStats *stats, BlockAcctCookie *cookie,
                        bool failed, unsigned n)
{
    enum BlockAcctType type = cookie->type;
    bool access = !failed || stats->account_failed;
    BlockAcctShard *shard;
    int64_t now, latency_ns;
    bool locked;

    assert(type < BLOCK_MAX_IOTYPE);
    if (type == BLOCK_ACCT_NONE) {
        return;
    }
    cookie->type = BLOCK_ACCT_NONE;

    now = qemu_clock_get_ns(block_acct_clock);
    latency_ns = qtest_enabled() ? acct_qtest_latency_ns
                                 : now - cookie->start_time_ns;

    shard = shard_begin(stats, &locked);
    if (failed) {
        shard_add(shard, ACCT_FAILED, type, n);
    } else {
        shard_add(shard, ACCT_BYTES, type, cookie->bytes);
        shard_add(shard, ACCT_OPS, type, n);
    }
    if (access) {
        shard_add(shard, ACCT_TIME_NS, type, latency_ns * n);
        stat64_set(&shard->last_access_time_ns, now);
    }
    if (unlikely(locked)) {
        block_acct_latency_count(stats, shard, type, latency_ns, n, access);
    }
    shard_end(shard, locked);
}

void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie,
                      int64_t bytes, enum BlockAcctType type)
{
    assert(type < BLOCK_MAX_IOTYPE);

    *cookie = (BlockAcctCookie) {
        .type = type,
        .bytes = bytes,
        .start_time_ns = qemu_clock_get_ns(block_acct_clock),
    };
}

void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie)
{
    request_end(stats, cookie, false, 1);
}

void block_acct_done_batch(BlockAcctStats *stats, BlockAcctCookie *cookie,
                           unsigned n)
{
    request_end(stats, cookie, false, n);
}

void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie)
{
    request_end(stats, cookie, true, 1);
}

void block_acct_invalid(BlockAcctStats *stats, enum BlockAcctType type)
{
    BlockAcctShard *shard;
    bool locked;

    assert(type < BLOCK_MAX_IOTYPE);

    /* An invalid request takes no time, so there is no latency to count. */
    shard = shard_begin(stats, &locked);
    shard_add(shard, ACCT_INVALID, type, 1);
    if (stats->account_invalid) {
        stat64_set(&shard->last_access_time_ns,
                   qemu_clock_get_ns(block_acct_clock));
    }
    shard_end(shard, locked);
}

void block_acct_merge_done(BlockAcctStats *stats, enum BlockAcctType type,
                           int num_requests)
{
    BlockAcctShard *shard;
    bool locked;

    assert(type < BLOCK_MAX_IOTYPE);

    shard = shard_begin(stats, &locked);
    shard_add(shard, ACCT_MERGED, type, num_requests);
    shard_end(shard, locked);
}

/*
 * Folding
 */

static void fold_counters(BlockAcctStats *stats, BlockAcctShard *shard)
{
    uint64_t *const sums[ACCT__MAX] = {
        [ACCT_BYTES] = stats->nr_bytes,
        [ACCT_OPS] = stats->nr_ops,
        [ACCT_MERGED] = stats->merged,
        [ACCT_FAILED] = stats->failed_ops,
        [ACCT_INVALID] = stats->invalid_ops,
        [ACCT_TIME_NS] = stats->total_time_ns,
    };
    uint64_t seen[ACCT__MAX][BLOCK_MAX_IOTYPE];
    int64_t last;
    unsigned start;

    do {
        start = seqlock_read_begin(&shard->seq);
        for (unsigned i = 0; i < ACCT__MAX; i++) {
            for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
                seen[i][type] = stat64_get(&shard->counters[i][type]);
            }
        }
        last = stat64_get(&shard->last_access_time_ns);
    } while (seqlock_read_retry(&shard->seq, start));

    for (unsigned i = 0; i < ACCT__MAX; i++) {
        for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
            sums[i][type] += seen[i][type];
        }
    }
    stats->last_access_time_ns = MAX(stats->last_access_time_ns, last);
}

static void fold_reset(BlockAcctStats *stats)
{
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        stats->nr_bytes[type] = stats->nr_ops[type] = stats->merged[type] = 0;
        stats->failed_ops[type] = stats->invalid_ops[type] = 0;
        stats->total_time_ns[type] = 0;
    }
    stats->last_access_time_ns = 0;
}

void block_acct_fold(BlockAcctStats *stats)
{
    BlockAcctShard *shard;

    fold_reset(stats);
    block_acct_latency_fold_reset(stats);
    THREAD_SHARDS_FOREACH(shard, &stats->shards) {
        QEMU_LOCK_GUARD(&shard->lock);
        fold_counters(stats, shard);
        block_acct_latency_fold(stats, shard);
    }
}

int64_t block_acct_idle_time_ns(BlockAcctStats *stats)
{
    BlockAcctShard *shard;
    int64_t last = 0;

    THREAD_SHARDS_FOREACH(shard, &stats->shards) {
        last = MAX(last, (int64_t)stat64_get(&shard->last_access_time_ns));
    }
    return qemu_clock_get_ns(block_acct_clock) - last;
}

/*
 * Settings
 */

void block_acct_init(BlockAcctStats *stats)
{
    qemu_mutex_init(&stats->lock);
    stats->account_failed = stats->account_invalid = true;
    /* Write the clock only once; after the first request, IOThreads read it. */
    if (qtest_enabled() && block_acct_clock != QEMU_CLOCK_VIRTUAL) {
        block_acct_clock = QEMU_CLOCK_VIRTUAL;
    }
}

void block_acct_setup(BlockAcctStats *stats, enum OnOffAuto account_invalid,
                      enum OnOffAuto account_failed)
{
    if (account_invalid != ON_OFF_AUTO_AUTO) {
        stats->account_invalid = account_invalid == ON_OFF_AUTO_ON;
    }
    if (account_failed != ON_OFF_AUTO_AUTO) {
        stats->account_failed = account_failed == ON_OFF_AUTO_ON;
    }
}

void block_acct_cleanup(BlockAcctStats *stats)
{
    block_acct_latency_cleanup(stats);
    thread_shards_cleanup(&stats->shards, shard_clean);
    qemu_mutex_destroy(&stats->lock);
}
