/*
 * The shards of block statistics: what each thread has counted
 *
 *     BlockAcctShard        written by          read by
 *      counters, last       the owner,          a fold, with the sequence
 *                           without a lock      lock only
 *      bins, windows        the owner,          a fold, under @lock
 *                           under @lock
 *
 * accounting.c uses the fields of the first row, accounting-latency.c those of
 * the second.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_ACCOUNTING_SHARD_H
#define BLOCK_ACCOUNTING_SHARD_H

#include "block/accounting.h"
#include "qemu/seqlock.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"

/* The counters of each type of request. */
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
    /* The owner writes these, under @lock if @shared */
    QemuSeqLock seq;
    Stat64 counters[ACCT__MAX][BLOCK_MAX_IOTYPE];
    Stat64 last_access_time_ns;

    /* Whether several threads write here (THREAD_SLOT_SHARED); constant */
    bool shared;

    /* Whether there are bins or windows to count in; written under @lock */
    bool detailed;

    /*
     * Protects the fields below.  The owner takes it if @shared or @detailed.
     * A thread that folds, or that changes histograms or intervals, takes it
     * after stats->lock.
     */
    QemuMutex lock;
    uint64_t *bins[BLOCK_MAX_IOTYPE];

    /* For each interval and type, in the order of BlockAcctStats.intervals */
    TimedAverage *windows;
};

/* The clock of all times here; constant once a BlockBackend exists. */
extern QEMUClockType block_acct_clock;

/**
 * block_acct_latency_init: make the bins and windows of a new shard, for all
 * histograms and intervals that are on.
 *
 * Context: the caller holds stats->lock.  No other thread sees the shard yet.
 */
void block_acct_latency_init(BlockAcctStats *stats, BlockAcctShard *shard);

/** block_acct_latency_free: undo block_acct_latency_init(). */
void block_acct_latency_free(BlockAcctShard *shard);

/**
 * block_acct_latency_cleanup: free all histograms and intervals.
 *
 * No request may be in flight.
 */
void block_acct_latency_cleanup(BlockAcctStats *stats);

/**
 * block_acct_latency_count: count @n requests with a latency of @latency_ns.
 * @access: whether they also count for the intervals
 *
 * Context: the caller holds shard->lock.
 */
void block_acct_latency_count(BlockAcctStats *stats, BlockAcctShard *shard,
                              enum BlockAcctType type, int64_t latency_ns,
                              unsigned n, bool access);

/**
 * block_acct_latency_fold_reset: set the sums to zero.
 *
 * Context: the caller holds stats->lock.
 */
void block_acct_latency_fold_reset(BlockAcctStats *stats);

/**
 * block_acct_latency_fold: add the numbers of @shard to the sums.
 *
 * Context: the caller holds stats->lock and shard->lock.
 */
void block_acct_latency_fold(BlockAcctStats *stats, BlockAcctShard *shard);

#endif /* BLOCK_ACCOUNTING_SHARD_H */
