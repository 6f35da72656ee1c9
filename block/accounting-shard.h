/*
 * Inside of block statistics: what one thread has counted
 *
 *     BlockAcctShard        written             read
 *      counters, last       by the owner,       by a fold, by the sequence
 *                           no lock             lock and no other
 *      bins, windows        by the owner,       by a fold, under @lock
 *                           under @lock
 *
 * accounting.c has the first row, accounting-latency.c the second.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_ACCOUNTING_SHARD_H
#define BLOCK_ACCOUNTING_SHARD_H

#include "block/accounting.h"
#include "qemu/seqlock.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"

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

    /* Several threads write here (THREAD_SLOT_SHARED); constant */
    bool shared;

    /* There are bins or windows to count in; written under @lock */
    bool detailed;

    /*
     * Protects what follows.  Taken by the owner if @shared or @detailed, and
     * by whoever folds or changes histograms and intervals, after stats->lock.
     */
    QemuMutex lock;
    uint64_t *bins[BLOCK_MAX_IOTYPE];

    /* One of each type, interval by interval as in BlockAcctStats.intervals */
    TimedAverage *windows;
};

/* The clock of all times here; constant once there is a BlockBackend. */
extern QEMUClockType block_acct_clock;

/**
 * block_acct_latency_init: bins and windows of a new shard, for all that is
 * on.  Called with stats->lock held, before another thread sees the shard.
 */
void block_acct_latency_init(BlockAcctStats *stats, BlockAcctShard *shard);

/** block_acct_latency_free: undo block_acct_latency_init(). */
void block_acct_latency_free(BlockAcctShard *shard);

/**
 * block_acct_latency_cleanup: turn all histograms off and forget all
 * intervals, when no request is under way any more.
 */
void block_acct_latency_cleanup(BlockAcctStats *stats);

/**
 * block_acct_latency_count: @n requests had a latency; they count for the
 * intervals too if they are an @access.  Called with shard->lock held.
 */
void block_acct_latency_count(BlockAcctStats *stats, BlockAcctShard *shard,
                              enum BlockAcctType type, int64_t latency_ns,
                              unsigned n, bool access);

/** block_acct_latency_fold_reset: sums of none.  Called with stats->lock. */
void block_acct_latency_fold_reset(BlockAcctStats *stats);

/**
 * block_acct_latency_fold: add what @shard has to the sums.  Called with
 * stats->lock and shard->lock held.
 */
void block_acct_latency_fold(BlockAcctStats *stats, BlockAcctShard *shard);

#endif /* BLOCK_ACCOUNTING_SHARD_H */
