/*
 * Statistics of a BlockBackend: counted per thread, added up for a query
 *
 *      IOThread A        IOThread B        main loop
 *          |                 |                 |
 *      BlockAcctShard    BlockAcctShard    query-blockstats
 *       counters          counters             |
 *       histogram bins    histogram bins       | block_acct_fold()
 *       time windows      time windows         v
 *          `-----------------+---------> BlockAcctStats: the sums
 *
 * A request writes only the shard of the thread that completes it.  It takes no
 * lock, unless histograms or intervals are on; then it takes the shard's own
 * lock.  All threads without a slot use one shard, which has a lock
 * (qemu/thread-slot.h).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_ACCOUNTING_H
#define BLOCK_ACCOUNTING_H

#include "qapi/qapi-types-common.h"
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "qemu/thread-shards.h"
#include "qemu/timed-average.h"

typedef struct BlockAcctShard BlockAcctShard;
typedef struct BlockAcctStats BlockAcctStats;
typedef struct BlockAcctTimedStats BlockAcctTimedStats;

/* Types of requests that the statistics tell apart. */
enum BlockAcctType {
    BLOCK_ACCT_NONE = 0,    /* not to be counted, or counted already */
    BLOCK_ACCT_READ,        /* rd_* in BlockDeviceStats */
    BLOCK_ACCT_WRITE,       /* wr_* */
    BLOCK_ACCT_FLUSH,       /* flush_* */
    BLOCK_ACCT_ZONE_APPEND, /* zone_append_* */
    BLOCK_ACCT_UNMAP,       /* unmap_* */
    BLOCK_MAX_IOTYPE,
};

/* An interval that -drive stats-intervals.N asks for, with its averages. */
struct BlockAcctTimedStats {
    BlockAcctStats *stats;

    /* Seconds */
    unsigned interval_length;

    /* Sums of all threads at the last block_acct_fold() */
    TimedAverage latency[BLOCK_MAX_IOTYPE];

    /*
     * Every average of this interval begins as a copy of this one, which never
     * counts anything.  So all their windows end at the same moments, and can
     * be added up.
     */
    TimedAverage blank;

    QSLIST_ENTRY(BlockAcctTimedStats) entries;
};

/*
 * Latencies in nanoseconds.  Bin 0 counts latencies below boundaries[0].  Bin i
 * counts those of at least boundaries[i - 1] and below boundaries[i].  The last
 * bin counts the others.
 */
typedef struct BlockLatencyHistogram {
    int nbins;              /* the number of boundaries, plus 1 */
    uint64_t *boundaries;   /* ascending */

    /* Sums of all threads at the last fold, or NULL while it is off */
    uint64_t *bins;
} BlockLatencyHistogram;

struct BlockAcctStats {
    /*
     * A thread holds this while it folds, reads the sums, or changes what is
     * counted.  Requests never take it.
     */
    QemuMutex lock;

    /* Settings; requests read them */
    bool account_invalid;
    bool account_failed;

    /* Sums of all threads at the last block_acct_fold(), by type */
    uint64_t nr_bytes[BLOCK_MAX_IOTYPE];
    uint64_t nr_ops[BLOCK_MAX_IOTYPE];
    uint64_t merged[BLOCK_MAX_IOTYPE];
    uint64_t failed_ops[BLOCK_MAX_IOTYPE];
    uint64_t invalid_ops[BLOCK_MAX_IOTYPE];
    uint64_t total_time_ns[BLOCK_MAX_IOTYPE];

    /* The latest of all threads at the last block_acct_fold() */
    int64_t last_access_time_ns;

    /* To write it, hold @lock and all shards' locks; to read it, one of them */
    BlockLatencyHistogram latency_histogram[BLOCK_MAX_IOTYPE];
    QSLIST_HEAD(, BlockAcctTimedStats) intervals;

    /* A thread makes the shard of its slot when it first counts something */
    ThreadShards shards;    /* BlockAcctShard */
};

/* What a request keeps from its start to its end. */
typedef struct BlockAcctCookie {
    enum BlockAcctType type;
    int64_t start_time_ns;
    int64_t bytes;
} BlockAcctCookie;

/**
 * block_acct_init: begin with all counters 0.
 * @stats: zeroed memory
 *
 * Invalid and failed requests count as accesses until block_acct_setup() says
 * otherwise.
 */
void block_acct_init(BlockAcctStats *stats);

/**
 * block_acct_setup: set whether invalid and failed requests count as accesses.
 *
 * 'auto' does not change a setting.
 */
void block_acct_setup(BlockAcctStats *stats, enum OnOffAuto account_invalid,
                      enum OnOffAuto account_failed);

/**
 * block_acct_cleanup: undo block_acct_init().
 *
 * No request may be in flight.
 */
void block_acct_cleanup(BlockAcctStats *stats);

/**
 * block_acct_add_interval: from now on compute averages over @interval_length
 * seconds.
 */
void block_acct_add_interval(BlockAcctStats *stats, unsigned interval_length);

/**
 * block_acct_interval_next: walk over the intervals.
 * @s: an interval, or NULL to begin
 *
 * Returns: the interval after @s, or the first one, or NULL after the last.
 */
BlockAcctTimedStats *block_acct_interval_next(BlockAcctStats *stats,
                                              BlockAcctTimedStats *s);

/**
 * block_acct_start: note that a request of @bytes begins.
 *
 * Later either block_acct_done() or block_acct_failed() has to be called, in
 * any thread.
 */
void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie,
                      int64_t bytes, enum BlockAcctType type);

/**
 * block_acct_done: count a request that has succeeded.
 *
 * A second call for the same request does nothing.
 */
void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie);

/**
 * block_acct_done_batch: count @n requests that began with one
 * block_acct_start() and have succeeded now.
 * @cookie: its field bytes is the sum for all of them
 */
void block_acct_done_batch(BlockAcctStats *stats, BlockAcctCookie *cookie,
                           unsigned n);

/**
 * block_acct_failed: count a request that has failed.
 *
 * A second call for the same request does nothing.
 */
void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie);

/**
 * block_acct_invalid: count a request that is refused before it begins.
 */
void block_acct_invalid(BlockAcctStats *stats, enum BlockAcctType type);

/**
 * block_acct_merge_done: count @num_requests that are merged into another one.
 */
void block_acct_merge_done(BlockAcctStats *stats, enum BlockAcctType type,
                           int num_requests);

/**
 * block_acct_fold: bring the sums in @stats up to date.
 *
 * Counters that a request changes together are seen together.
 *
 * Context: the caller holds @stats->lock, and keeps it while it reads the sums.
 */
void block_acct_fold(BlockAcctStats *stats);

/**
 * block_acct_idle_time_ns: return the nanoseconds since the last access.
 */
int64_t block_acct_idle_time_ns(BlockAcctStats *stats);

/**
 * block_acct_queue_depth: return the average number of requests of @type in
 * flight during the interval @stats, at the last fold.
 *
 * Context: the caller holds @stats->stats->lock.
 */
double block_acct_queue_depth(BlockAcctTimedStats *stats,
                              enum BlockAcctType type);

/**
 * block_latency_histogram_set: begin a new histogram of latencies of @type.
 * @boundaries: between the bins, in nanoseconds
 *
 * Returns: 0, or -EINVAL with nothing changed.  It fails if there is no
 * boundary, if one is 0, or if they do not ascend.
 */
int block_latency_histogram_set(BlockAcctStats *stats, enum BlockAcctType type,
                                uint64List *boundaries);

/**
 * block_latency_histograms_clear: turn the histograms of all types off.
 */
void block_latency_histograms_clear(BlockAcctStats *stats);

#endif /* BLOCK_ACCOUNTING_H */
