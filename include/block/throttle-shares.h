/*
 * Shares of a throttle group's limits, for requests that take no lock
 *
 *      thread A             thread B             the group, under its lock
 *      used   70 of 100     used   10 of 100     level of each bucket
 *        ^ own line           ^ own line           + what was used since
 *
 * A thread may use its share without taking the group's lock.  The next thread
 * that looks at the buckets adds to them what has been used.  If a thread does
 * not use its share, nothing is lost, because only uses count.  A share lets a
 * request through only if the buckets would do so, too.  So a thread gets a
 * share only if three amounts together fit into each bucket: its level, all
 * shares, and a margin.
 *
 * All shares become void when the group's epoch changes.  That is so when a
 * request has to wait, so that later requests wait behind it; when limits
 * change; and once a second, so that a thread that does not use its share
 * leaves it to others.
 *
 * Because uses are added later, the level of a bucket may be too low, by at
 * most all shares.  For each direction, all shares together are the amount that
 * the limit allows in 1 / SHARES_IN_SECOND seconds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_THROTTLE_SHARES_H
#define BLOCK_THROTTLE_SHARES_H

#include "qemu/throttle.h"

/* All shares of a direction are the amount of a second, divided by this */
#define SHARES_IN_SECOND    200

/* The kinds of limits */
typedef enum ThrottleKind {
    THROTTLE_BYTES,
    THROTTLE_UNITS,
    THROTTLE_KINDS,
} ThrottleKind;

typedef struct ThrottleShares ThrottleShares;

/** throttle_shares_new: make the shares of a group without limits. */
ThrottleShares *throttle_shares_new(void);

/** throttle_shares_free: free the shares; @shares may be NULL. */
void throttle_shares_free(ThrottleShares *shares);

/**
 * throttle_shares_take: let a request of @bytes through, if the share of @slot
 * is large enough.
 *
 * Context: the thread of @slot, without the lock.
 *
 * Returns: true if the request may go on.  Otherwise the caller takes the lock
 * and looks at the buckets.
 */
bool throttle_shares_take(ThrottleShares *shares, unsigned slot,
                          ThrottleDirection direction, uint64_t bytes);

/**
 * throttle_shares_collect: bring the buckets of @ts up to date.
 * @now: the present time
 *
 * This also adds what threads have used of their shares.
 *
 * Context: the caller holds the group's lock.
 */
void throttle_shares_collect(ThrottleShares *shares, ThrottleState *ts,
                             int64_t now);

/**
 * throttle_shares_renew: give @slot a new share, if one fits into the buckets.
 *
 * Context: the thread of @slot, with the group's lock held, after
 * throttle_shares_collect(), and while no request waits.
 */
void throttle_shares_renew(ThrottleShares *shares, ThrottleState *ts,
                           unsigned slot, ThrottleDirection direction);

/**
 * throttle_shares_revoke: make all shares void, because a request has to wait.
 *
 * One request of each thread may still use its share; its use is counted.
 *
 * Context: the caller holds the group's lock.
 */
void throttle_shares_revoke(ThrottleShares *shares);

/**
 * throttle_shares_configured: make all shares void, because @ts has new limits
 * and empty buckets.
 *
 * Context: the caller holds the group's lock.
 */
void throttle_shares_configured(ThrottleShares *shares, ThrottleState *ts);

#endif /* BLOCK_THROTTLE_SHARES_H */
