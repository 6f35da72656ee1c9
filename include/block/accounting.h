/*
 * Statistics of a BlockBackend: counted per thread, added up when asked
 *
 *      IOThread A        IOThread B        main loop
 *          |                 |                 |
 *      BlockAcctShard    BlockAcctShard    query-blockstats
 *       counters          counters             |
 *       histogram bins    histogram bins       | block_acct_fold()
 *       time windows      time windows         v
 *          `-----------------+---------> BlockAcctStats: the sums
 *
 * A request writes only the shard of the thread that completes it, without a
 * lock unless histograms or intervals are on, whose lock is the shard's own.
 * Requests that threads without a slot complete share one locked shard
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

/* What a request does, as far as statistics tell them apart. */
enum BlockAcctType {
    BLOCK_ACCT_NONE = 0,    /* not counted, or counted already */
    BLOCK_ACCT_READ,        /* rd_* in BlockDeviceStats */
    BLOCK_ACCT_WRITE,       /* wr_* */
    BLOCK_ACCT_FLUSH,       /* flush_* */
    BLOCK_ACCT_ZONE_APPEND, /* zone_append_* */
    BLOCK_ACCT_UNMAP,       /* unmap_* */
    BLOCK_MAX_IOTYPE,
};

/* One of the averages that -drive stats-intervals.N asks for. */
struct BlockAcctTimedStats {
    BlockAcctStats *stats;

    /* Seconds */
    unsigned interval_length;

    /* Sums of all threads as of the last block_acct_fold() */
    TimedAverage latency[BLOCK_MAX_IOTYPE];

    /*
     * Never counts anything: every average of this interval is a copy of it,
     * so their windows all end at the same moments and can be added up.
     */
    TimedAverage blank;

    QSLIST_ENTRY(BlockAcctTimedStats) entries;
};

/*
 * Latencies in nanoseconds: bin 0 is all below boundaries[0], bin i those from
 * boundaries[i - 1] on and below boundaries[i], the last bin all the rest.
 */
typedef struct BlockLatencyHistogram {
    int nbins;              /* boundaries and one */
    uint64_t *boundaries;   /* ascending */

    /* NULL while off, else sums of all threads as of the last fold */
    uint64_t *bins;
} BlockLatencyHistogram;

struct BlockAcctStats {
    /*
     * Held by whoever folds, reads what was folded, or changes what is
     * counted.  Never by a request.
     */
    QemuMutex lock;

    /* Settings; a request reads them */
    bool account_invalid;
    bool account_failed;

    /* Sums of all threads as of the last block_acct_fold(), by type */
    uint64_t nr_bytes[BLOCK_MAX_IOTYPE];
    uint64_t nr_ops[BLOCK_MAX_IOTYPE];
    uint64_t merged[BLOCK_MAX_IOTYPE];
    uint64_t failed_ops[BLOCK_MAX_IOTYPE];
    uint64_t invalid_ops[BLOCK_MAX_IOTYPE];
    uint64_t total_time_ns[BLOCK_MAX_IOTYPE];

    /* The latest of all threads as of the last block_acct_fold() */
    int64_t last_access_time_ns;

    /* Written with @lock and every shard's lock held, read with either */
    BlockLatencyHistogram latency_histogram[BLOCK_MAX_IOTYPE];
    QSLIST_HEAD(, BlockAcctTimedStats) intervals;

    /* Made when the slot's thread first counts something here */
    ThreadShards shards;    /* BlockAcctShard */
};

/* Lives with a request from its start to its end. */
typedef struct BlockAcctCookie {
    enum BlockAcctType type;
    int64_t start_time_ns;
    int64_t bytes;
} BlockAcctCookie;

/**
 * block_acct_init: make @stats usable; all zero, invalid and failed requests
 * accounted.  @stats must be zeroed memory.
 */
void block_acct_init(BlockAcctStats *stats);

/**
 * block_acct_setup: whether invalid and failed requests count as accesses;
 * 'auto' leaves a setting as it is.
 */
void block_acct_setup(BlockAcctStats *stats, enum OnOffAuto account_invalid,
                      enum OnOffAuto account_failed);

/**
 * block_acct_cleanup: undo block_acct_init(); no request may be under way.
 */
void block_acct_cleanup(BlockAcctStats *stats);

/**
 * block_acct_add_interval: from now on average over @interval_length seconds.
 */
void block_acct_add_interval(BlockAcctStats *stats, unsigned interval_length);

/**
 * block_acct_interval_next: the interval after @s, or the first if @s is NULL.
 *
 * Returns: NULL after the last.
 */
BlockAcctTimedStats *block_acct_interval_next(BlockAcctStats *stats,
                                              BlockAcctTimedStats *s);

/**
 * block_acct_start: a request of @bytes begins; exactly one of
 * block_acct_done() and block_acct_failed() ends it, in any thread.
 */
void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie,
                      int64_t bytes, enum BlockAcctType type);

/**
 * block_acct_done: the request succeeded.  Does nothing the second time.
 */
void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie);

/**
 * block_acct_done_batch: @n requests succeeded that began with one
 * block_acct_start() and end now; @cookie->bytes is the sum of theirs.
 */
void block_acct_done_batch(BlockAcctStats *stats, BlockAcctCookie *cookie,
                           unsigned n);

/**
 * block_acct_failed: the request failed.  Does nothing the second time.
 */
void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie);

/**
 * block_acct_invalid: a request was refused before it began.
 */
void block_acct_invalid(BlockAcctStats *stats, enum BlockAcctType type);

/**
 * block_acct_merge_done: @num_requests were served as part of another one.
 */
void block_acct_merge_done(BlockAcctStats *stats, enum BlockAcctType type,
                           int num_requests);

/**
 * block_acct_fold: bring the sums in @stats up to date.
 *
 * The caller holds @stats->lock and keeps it while it reads them.  What a
 * request counts at one time is seen whole or not at all.
 */
void block_acct_fold(BlockAcctStats *stats);

/**
 * block_acct_idle_time_ns: nanoseconds since the last access that counts.
 */
int64_t block_acct_idle_time_ns(BlockAcctStats *stats);

/**
 * block_acct_queue_depth: average number of requests of @type under way in
 * the interval @stats, as of the last fold.  Called with @stats->stats->lock.
 */
double block_acct_queue_depth(BlockAcctTimedStats *stats,
                              enum BlockAcctType type);

/**
 * block_latency_histogram_set: count latencies of @type from zero, in the bins
 * that @boundaries (nanoseconds) make.
 *
 * Returns: -EINVAL, with nothing changed, unless there is a boundary and they
 * ascend from above zero.
 */
int block_latency_histogram_set(BlockAcctStats *stats, enum BlockAcctType type,
                                uint64List *boundaries);

/**
 * block_latency_histograms_clear: turn the histograms of all types off.
 */
void block_latency_histograms_clear(BlockAcctStats *stats);

#endif /* BLOCK_ACCOUNTING_H */
