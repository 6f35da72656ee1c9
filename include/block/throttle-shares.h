/*
 * Shares of a throttle group's limits, for requests that take no lock
 *
 *      thread A             thread B             the group, under its lock
 *      used   70 of 100     used   10 of 100     level of each bucket
 *        ^ own line           ^ own line           + what was used since
 *
 * A thread may use its share without asking.  The next thread that looks at
 * the buckets adds what has been used.  A share is a promise that there is
 * room, and is not a use yet, so what a thread leaves unused is not lost.  A
 * request that a share lets through would have been let through by the buckets,
 * too: shares are given only as long as the level, all that may be used without
 * asking, and a margin fit into each bucket.
 *
 * All shares are void when the group's epoch changes: as soon as a request has
 * to wait, so that those behind it queue; when limits are changed; and once a
 * second, so that a thread that does not come back leaves its part to others.
 *
 * What threads use is added to the buckets later.  So the level of a bucket may
 * be too low, by all shares at most.  For each direction these are the amount
 * that the limit allows in 1 / SHARES_IN_SECOND seconds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_THROTTLE_SHARES_H
#define BLOCK_THROTTLE_SHARES_H

#include "qemu/throttle.h"

/* All shares of a direction are this part of a second's average */
#define SHARES_IN_SECOND    200

/* What is limited */
typedef enum ThrottleKind {
    THROTTLE_BYTES,
    THROTTLE_UNITS,
    THROTTLE_KINDS,
} ThrottleKind;

typedef struct ThrottleShares ThrottleShares;

/** throttle_shares_new: of a group whose limits are not set yet. */
ThrottleShares *throttle_shares_new(void);

/** throttle_shares_free: nobody uses them any more; @shares may be NULL. */
void throttle_shares_free(ThrottleShares *shares);

/**
 * throttle_shares_take: let a request of @bytes through, if the share of the
 * thread with number @slot is large enough.
 *
 * That thread, without the lock.
 *
 * Returns: whether it may go; otherwise the caller takes the lock and asks the
 * buckets.
 */
bool throttle_shares_take(ThrottleShares *shares, unsigned slot,
                          ThrottleDirection direction, uint64_t bytes);

/**
 * throttle_shares_collect: bring the buckets of @ts to the time @now, with all
 * that has been used by shares.  Called with the group's lock held.
 */
void throttle_shares_collect(ThrottleShares *shares, ThrottleState *ts,
                             int64_t now);

/**
 * throttle_shares_renew: give the thread with number @slot a new share, if
 * there is room for one.
 *
 * That thread, with the group's lock held, after throttle_shares_collect() and
 * while nobody waits.
 */
void throttle_shares_renew(ThrottleShares *shares, ThrottleState *ts,
                           unsigned slot, ThrottleDirection direction);

/**
 * throttle_shares_revoke: a request has to wait: all shares are void.  Called
 * with the group's lock held.  A request of each thread may slip past, and is
 * counted all the same.
 */
void throttle_shares_revoke(ThrottleShares *shares);

/**
 * throttle_shares_configured: @ts has other limits and empty buckets.  Called
 * with the group's lock held.
 */
void throttle_shares_configured(ThrottleShares *shares, ThrottleState *ts);

#endif /* BLOCK_THROTTLE_SHARES_H */
