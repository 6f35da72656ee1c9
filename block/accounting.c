/*
 * Statistics of a BlockBackend: counted per thread, added up when asked
 *
 * include/block/accounting.h has the picture.  A shard has one writer, so it
 * counts with plain loads and stores; the sequence lock lets a fold see what
 * a request adds whole or not at all.  The shard's mutex is taken by
 *
 * - the writer, if it is one of several (THREAD_SLOT_SHARED) or has to count
 *   more than numbers (@detailed);
 * - whoever folds or changes histograms and intervals, after stats->lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/accounting.h"
#include "block/block_int.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/seqlock.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"
#include "system/qtest.h"

/* What is counted for each type of request. */
typedef enum BlockAcctCounter {
    ACCT_BYTES,
    ACCT_OPS,
    ACCT_MERGED,
    ACCT_FAILED,
    ACCT_INVALID,
    ACCT_TIME_NS,
    ACCT__MAX,
} BlockAcctCounter;

struct BlockAcctShard {
    /* Written by the owner, under @lock if @shared */
    QemuSeqLock seq;
    Stat64 counters[ACCT__MAX][BLOCK_MAX_IOTYPE];
    Stat64 last_access_time_ns;

    /* Several threads write here; constant */
    bool shared;

    /* There are bins or windows to count in; written under @lock */
    bool detailed;

    /* Protects what follows */
    QemuMutex lock;
    uint64_t *bins[BLOCK_MAX_IOTYPE];

    /* One of each type, interval by interval as in BlockAcctStats.intervals */
    TimedAverage *windows;
};

static QEMUClockType acct_clock = QEMU_CLOCK_REALTIME;

/* Every latency is this under qtest, so that tests can rely on it. */
static const int64_t acct_qtest_latency_ns = SCALE_MS;

/* The shard after slot *@next - 1; NULL after the last. */
static BlockAcctShard *shard_next(BlockAcctStats *stats, unsigned *next)
{
    BlockAcctShard *shard = NULL;

    while (!shard && *next < THREAD_SLOTS_ALL) {
        shard = qatomic_load_acquire(&stats->shards[(*next)++]);
    }
    return shard;
}

#define FOR_EACH_SHARD(shard, stats)                            \
    for (unsigned next_ = 0; (shard = shard_next(stats, &next_)); )

static unsigned acct_intervals(BlockAcctStats *stats)
{
    BlockAcctTimedStats *ts;
    unsigned n = 0;

    QSLIST_FOREACH(ts, &stats->intervals, entries) {
        n++;
    }
    return n;
}

/* Called with stats->lock and shard->lock held. */
static void shard_reset_bins(BlockAcctStats *stats, BlockAcctShard *shard,
                             enum BlockAcctType type)
{
    BlockLatencyHistogram *hist = &stats->latency_histogram[type];

    g_free(shard->bins[type]);
    shard->bins[type] = hist->bins ? g_new0(uint64_t, hist->nbins) : NULL;
}

/* Called with stats->lock and shard->lock held. */
static void shard_update_detailed(BlockAcctStats *stats, BlockAcctShard *shard)
{
    bool detailed = !QSLIST_EMPTY(&stats->intervals);

    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        detailed |= shard->bins[type] != NULL;
    }
    qatomic_set(&shard->detailed, detailed);
}

/*
 * The interval just put before all others gets windows of its own.
 * Called with stats->lock and shard->lock held.
 */
static void shard_add_windows(BlockAcctShard *shard, BlockAcctTimedStats *ts,
                              unsigned others)
{
    shard->windows = g_renew(TimedAverage, shard->windows,
                             (others + 1) * BLOCK_MAX_IOTYPE);
    memmove(shard->windows + BLOCK_MAX_IOTYPE, shard->windows,
            others * BLOCK_MAX_IOTYPE * sizeof(*shard->windows));
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        shard->windows[type] = ts->blank;
    }
}

static BlockAcctShard *shard_new(BlockAcctStats *stats, unsigned slot)
{
    BlockAcctTimedStats *ts;
    BlockAcctShard *shard;
    unsigned i = 0;

    QEMU_LOCK_GUARD(&stats->lock);
    if (stats->shards[slot]) {
        return stats->shards[slot];
    }

    shard = qemu_memalign(THREAD_SLOT_ALIGN,
                          ROUND_UP(sizeof(*shard), THREAD_SLOT_ALIGN));
    memset(shard, 0, sizeof(*shard));
    seqlock_init(&shard->seq);
    qemu_mutex_init(&shard->lock);
    shard->shared = slot == THREAD_SLOT_SHARED;
    shard->windows = g_new(TimedAverage,
                           acct_intervals(stats) * BLOCK_MAX_IOTYPE);
    QSLIST_FOREACH(ts, &stats->intervals, entries) {
        for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
            shard->windows[i++] = ts->blank;
        }
    }
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        shard_reset_bins(stats, shard, type);
    }
    shard_update_detailed(stats, shard);

    qatomic_store_release(&stats->shards[slot], shard);
    return shard;
}

static void shard_free(BlockAcctShard *shard)
{
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        g_free(shard->bins[type]);
    }
    g_free(shard->windows);
    qemu_mutex_destroy(&shard->lock);
    qemu_vfree(shard);
}

/*
 * Counting
 */

/* Sets *@locked if shard_end() has to unlock. */
static inline BlockAcctShard *shard_begin(BlockAcctStats *stats, bool *locked)
{
    unsigned slot = thread_slot();
    BlockAcctShard *shard = qatomic_load_acquire(&stats->shards[slot]);

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

    /* No atomic addition: there is one writer */
    stat64_set(s, stat64_get(s) + n);
}

static void shard_count_bin(BlockAcctStats *stats, BlockAcctShard *shard,
                            enum BlockAcctType type, int64_t latency_ns,
                            unsigned n)
{
    const BlockLatencyHistogram *hist = &stats->latency_histogram[type];
    int low = 0;
    int high = hist->nbins - 1;

    if (!shard->bins[type]) {
        return;
    }

    /* The bin's number is how many boundaries are not above the latency */
    while (low < high) {
        int mid = (low + high) / 2;

        if (latency_ns < 0 || (uint64_t)latency_ns < hist->boundaries[mid]) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    shard->bins[type][low] += n;
}

static void shard_count_windows(BlockAcctStats *stats, BlockAcctShard *shard,
                                enum BlockAcctType type, int64_t latency_ns,
                                unsigned n)
{
    BlockAcctTimedStats *ts;
    unsigned i = 0;

    QSLIST_FOREACH(ts, &stats->intervals, entries) {
        for (unsigned k = 0; k < n; k++) {
            timed_average_account(&shard->windows[i + type], latency_ns);
        }
        i += BLOCK_MAX_IOTYPE;
    }
}

/* @n requests that began together; @cookie->bytes is what all of them have. */
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

    now = qemu_clock_get_ns(acct_clock);
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
        shard_count_bin(stats, shard, type, latency_ns, n);
        if (access) {
            shard_count_windows(stats, shard, type, latency_ns, n);
        }
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
        .start_time_ns = qemu_clock_get_ns(acct_clock),
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

    /* It took no time, so there is no latency to count */
    shard = shard_begin(stats, &locked);
    shard_add(shard, ACCT_INVALID, type, 1);
    if (stats->account_invalid) {
        stat64_set(&shard->last_access_time_ns, qemu_clock_get_ns(acct_clock));
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

/* Called with shard->lock held. */
static void fold_bins(BlockAcctStats *stats, BlockAcctShard *shard)
{
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        BlockLatencyHistogram *hist = &stats->latency_histogram[type];

        for (int bin = 0; hist->bins && bin < hist->nbins; bin++) {
            hist->bins[bin] += shard->bins[type][bin];
        }
    }
}

/*
 * Add what @part has in its windows to @sum's.  Both are copies of one blank,
 * so windows of the same span end at the same time, and a window that only one
 * of them has left behind has another end.  Looking at an average moves it on;
 * @sum is looked at last, so that it is never behind.
 */
static void fold_average(TimedAverage *sum, TimedAverage *part)
{
    uint64_t elapsed;

    timed_average_sum(part, &elapsed);
    timed_average_sum(sum, &elapsed);

    for (unsigned i = 0; i < ARRAY_SIZE(sum->windows); i++) {
        TimedAverageWindow *s = &sum->windows[i];
        const TimedAverageWindow *p = &part->windows[i];

        if (s->expiration == p->expiration) {
            s->sum += p->sum;
            s->count += p->count;
            s->min = MIN(s->min, p->min);
            s->max = MAX(s->max, p->max);
        }
    }
}

/* Called with shard->lock held. */
static void fold_windows(BlockAcctStats *stats, BlockAcctShard *shard)
{
    BlockAcctTimedStats *ts;
    unsigned i = 0;

    QSLIST_FOREACH(ts, &stats->intervals, entries) {
        for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
            fold_average(&ts->latency[type], &shard->windows[i++]);
        }
    }
}

static void fold_reset(BlockAcctStats *stats)
{
    BlockAcctTimedStats *ts;

    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        BlockLatencyHistogram *hist = &stats->latency_histogram[type];

        stats->nr_bytes[type] = stats->nr_ops[type] = stats->merged[type] = 0;
        stats->failed_ops[type] = stats->invalid_ops[type] = 0;
        stats->total_time_ns[type] = 0;
        if (hist->bins) {
            memset(hist->bins, 0, hist->nbins * sizeof(*hist->bins));
        }
        QSLIST_FOREACH(ts, &stats->intervals, entries) {
            ts->latency[type] = ts->blank;
        }
    }
    stats->last_access_time_ns = 0;
}

void block_acct_fold(BlockAcctStats *stats)
{
    BlockAcctShard *shard;

    fold_reset(stats);
    FOR_EACH_SHARD(shard, stats) {
        QEMU_LOCK_GUARD(&shard->lock);
        fold_counters(stats, shard);
        fold_bins(stats, shard);
        fold_windows(stats, shard);
    }
}

int64_t block_acct_idle_time_ns(BlockAcctStats *stats)
{
    BlockAcctShard *shard;
    int64_t last = 0;

    FOR_EACH_SHARD(shard, stats) {
        last = MAX(last, (int64_t)stat64_get(&shard->last_access_time_ns));
    }
    return qemu_clock_get_ns(acct_clock) - last;
}

double block_acct_queue_depth(BlockAcctTimedStats *stats,
                              enum BlockAcctType type)
{
    uint64_t busy_ns, elapsed_ns;

    assert(type < BLOCK_MAX_IOTYPE);

    busy_ns = timed_average_sum(&stats->latency[type], &elapsed_ns);
    return (double)busy_ns / elapsed_ns;
}

/*
 * Settings
 */

/* Stops all counting of latencies.  Called with stats->lock held. */
static void shards_lock(BlockAcctStats *stats)
{
    BlockAcctShard *shard;

    FOR_EACH_SHARD(shard, stats) {
        qemu_mutex_lock(&shard->lock);
    }
}

static void shards_unlock(BlockAcctStats *stats)
{
    BlockAcctShard *shard;

    FOR_EACH_SHARD(shard, stats) {
        shard_update_detailed(stats, shard);
        qemu_mutex_unlock(&shard->lock);
    }
}

void block_acct_init(BlockAcctStats *stats)
{
    qemu_mutex_init(&stats->lock);
    stats->account_failed = stats->account_invalid = true;
    /* Written once: from the first request on IOThreads read it. */
    if (qtest_enabled() && acct_clock != QEMU_CLOCK_VIRTUAL) {
        acct_clock = QEMU_CLOCK_VIRTUAL;
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
    BlockAcctTimedStats *ts;
    BlockAcctShard *shard;

    block_latency_histograms_clear(stats);
    FOR_EACH_SHARD(shard, stats) {
        shard_free(shard);
    }
    while ((ts = QSLIST_FIRST(&stats->intervals))) {
        QSLIST_REMOVE_HEAD(&stats->intervals, entries);
        g_free(ts);
    }
    qemu_mutex_destroy(&stats->lock);
}

void block_acct_add_interval(BlockAcctStats *stats, unsigned interval_length)
{
    BlockAcctTimedStats *ts = g_new0(BlockAcctTimedStats, 1);
    BlockAcctShard *shard;
    unsigned others;

    ts->stats = stats;
    ts->interval_length = interval_length;
    timed_average_init(&ts->blank, acct_clock,
                       interval_length * (uint64_t)NANOSECONDS_PER_SECOND);
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        ts->latency[type] = ts->blank;
    }

    QEMU_LOCK_GUARD(&stats->lock);
    shards_lock(stats);
    others = acct_intervals(stats);
    QSLIST_INSERT_HEAD(&stats->intervals, ts, entries);
    FOR_EACH_SHARD(shard, stats) {
        shard_add_windows(shard, ts, others);
    }
    shards_unlock(stats);
}

BlockAcctTimedStats *block_acct_interval_next(BlockAcctStats *stats,
                                              BlockAcctTimedStats *s)
{
    return s ? QSLIST_NEXT(s, entries) : QSLIST_FIRST(&stats->intervals);
}

/* Takes over @boundaries; NULL turns the histogram off. */
static void histogram_set(BlockAcctStats *stats, enum BlockAcctType type,
                          uint64_t *boundaries, int n)
{
    BlockLatencyHistogram *hist = &stats->latency_histogram[type];
    BlockAcctShard *shard;

    QEMU_LOCK_GUARD(&stats->lock);
    shards_lock(stats);
    g_free(hist->boundaries);
    g_free(hist->bins);
    *hist = (BlockLatencyHistogram) {
        .boundaries = boundaries,
        .nbins = boundaries ? n + 1 : 0,
        .bins = boundaries ? g_new0(uint64_t, n + 1) : NULL,
    };
    FOR_EACH_SHARD(shard, stats) {
        shard_reset_bins(stats, shard, type);
    }
    shards_unlock(stats);
}

int block_latency_histogram_set(BlockAcctStats *stats, enum BlockAcctType type,
                                uint64List *boundaries)
{
    g_autofree uint64_t *values = NULL;
    uint64_t above = 0;
    int n = 0;

    for (uint64List *b = boundaries; b; b = b->next) {
        if (b->value <= above) {
            return -EINVAL;
        }
        above = b->value;
        values = g_renew(uint64_t, values, n + 1);
        values[n++] = b->value;
    }
    if (!n) {
        return -EINVAL;
    }

    histogram_set(stats, type, g_steal_pointer(&values), n);
    return 0;
}

void block_latency_histograms_clear(BlockAcctStats *stats)
{
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        histogram_set(stats, type, NULL, 0);
    }
}
