/*
 * Latencies of a BlockBackend's requests: histograms and averages
 *
 *     BlockAcctStats            shard of A        shard of B
 *      histogram of a type:
 *        boundaries
 *        bins (sums)    <------- bins              bins
 *      interval:
 *        blank                   copies of blank   copies of blank
 *        latency (sums) <------- windows           windows
 *
 * Both are off unless a user asks for them.  A request takes the lock of its
 * shard to count.  A change of what is counted takes the locks of all shards,
 * so that boundaries and bins, intervals and windows always fit.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "accounting-shard.h"
#include "qemu/lockable.h"

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
 * Add windows for the interval that has just been put before all others.
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

void block_acct_latency_init(BlockAcctStats *stats, BlockAcctShard *shard)
{
    BlockAcctTimedStats *ts;
    unsigned i = 0;

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
}

void block_acct_latency_free(BlockAcctShard *shard)
{
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        g_free(shard->bins[type]);
    }
    g_free(shard->windows);
}

void block_acct_latency_cleanup(BlockAcctStats *stats)
{
    BlockAcctTimedStats *ts;

    block_latency_histograms_clear(stats);
    while ((ts = QSLIST_FIRST(&stats->intervals))) {
        QSLIST_REMOVE_HEAD(&stats->intervals, entries);
        g_free(ts);
    }
}

/* Counting */

static void count_bin(BlockAcctStats *stats, BlockAcctShard *shard,
                      enum BlockAcctType type, int64_t latency_ns,
                      unsigned n)
{
    const BlockLatencyHistogram *hist = &stats->latency_histogram[type];
    int low = 0;
    int high = hist->nbins - 1;

    if (!shard->bins[type]) {
        return;
    }

    /* The number of a bin is the number of boundaries <= the latency. */
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

static void count_windows(BlockAcctStats *stats, BlockAcctShard *shard,
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

void block_acct_latency_count(BlockAcctStats *stats, BlockAcctShard *shard,
                              enum BlockAcctType type, int64_t latency_ns,
                              unsigned n, bool access)
{
    count_bin(stats, shard, type, latency_ns, n);
    if (access) {
        count_windows(stats, shard, type, latency_ns, n);
    }
}

/* Folding */

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
 * Add the windows of @part to those of @sum.  Both are copies of one blank
 * average, so two windows belong together if they end at the same time.
 * Reading an average closes windows that have ended.  @sum is read last, so
 * that it has closed at least as many as @part.
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

void block_acct_latency_fold(BlockAcctStats *stats, BlockAcctShard *shard)
{
    fold_bins(stats, shard);
    fold_windows(stats, shard);
}

void block_acct_latency_fold_reset(BlockAcctStats *stats)
{
    BlockAcctTimedStats *ts;

    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        BlockLatencyHistogram *hist = &stats->latency_histogram[type];

        if (hist->bins) {
            memset(hist->bins, 0, hist->nbins * sizeof(*hist->bins));
        }
        QSLIST_FOREACH(ts, &stats->intervals, entries) {
            ts->latency[type] = ts->blank;
        }
    }
}

double block_acct_queue_depth(BlockAcctTimedStats *stats,
                              enum BlockAcctType type)
{
    uint64_t busy_ns, elapsed_ns;

    assert(type < BLOCK_MAX_IOTYPE);

    busy_ns = timed_average_sum(&stats->latency[type], &elapsed_ns);
    return (double)busy_ns / elapsed_ns;
}

/* Changing what is counted */

/* Stop all counting of latencies.  Called with stats->lock held. */
static void shards_lock(BlockAcctStats *stats)
{
    BlockAcctShard *shard;

    THREAD_SHARDS_FOREACH(shard, &stats->shards) {
        qemu_mutex_lock(&shard->lock);
    }
}

static void shards_unlock(BlockAcctStats *stats)
{
    BlockAcctShard *shard;

    THREAD_SHARDS_FOREACH(shard, &stats->shards) {
        shard_update_detailed(stats, shard);
        qemu_mutex_unlock(&shard->lock);
    }
}

void block_acct_add_interval(BlockAcctStats *stats, unsigned interval_length)
{
    BlockAcctTimedStats *ts = g_new0(BlockAcctTimedStats, 1);
    BlockAcctShard *shard;
    unsigned others;

    ts->stats = stats;
    ts->interval_length = interval_length;
    timed_average_init(&ts->blank, block_acct_clock,
                       interval_length * (uint64_t)NANOSECONDS_PER_SECOND);
    for (unsigned type = 0; type < BLOCK_MAX_IOTYPE; type++) {
        ts->latency[type] = ts->blank;
    }

    QEMU_LOCK_GUARD(&stats->lock);
    shards_lock(stats);
    others = acct_intervals(stats);
    QSLIST_INSERT_HEAD(&stats->intervals, ts, entries);
    THREAD_SHARDS_FOREACH(shard, &stats->shards) {
        shard_add_windows(shard, ts, others);
    }
    shards_unlock(stats);
}

BlockAcctTimedStats *block_acct_interval_next(BlockAcctStats *stats,
                                              BlockAcctTimedStats *s)
{
    return s ? QSLIST_NEXT(s, entries) : QSLIST_FIRST(&stats->intervals);
}

/* Take ownership of @boundaries.  NULL turns the histogram off. */
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
    THREAD_SHARDS_FOREACH(shard, &stats->shards) {
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
