/*
 * The number of requests in flight, counted without a shared cache line
 *
 *      thread A          thread B                main loop
 *      started  9        started  4              in_flight_count():
 *      ended    7        ended    6                sum of ended, first
 *        ^ in_flight_inc/dec, own line             sum of started, then
 *
 * Both counters only grow.  A request may end in another thread than the one
 * where it started, so only the sums have a meaning.
 *
 * A count of zero is reliable for the following reason.  Let t be the moment
 * between the two sums.  Each request that counts as ended has ended before t,
 * and each request that has started before t counts as started.  So if the sums
 * are equal, all requests that have started before t have ended.  If the end of
 * a request counts, its start counts, too, because the end is stored with
 * release and loaded with acquire semantics.
 *
 * A request may start during a drain.  These steps handle that:
 *
 *      request                         drain
 *      -------                         -----
 *      in_flight_inc()                 quiesce_counter++
 *        (asym_mb_light)               in_flight_close()
 *      read quiesce_counter            in_flight_count():
 *                                        an asym_mb_heavy() since, sums
 *
 * Either the request sees the drain and steps back, or the drain counts it.
 * Any asym_mb_heavy() that begins after in_flight_close() is good enough, in
 * any thread.  So one barrier serves all nodes that were closed before it, and
 * all later sums.
 *
 * A barrier interrupts the processors that run other threads.  So a drain
 * executes one only if some request has not executed a full barrier of its own.
 * An in_flight_close() that finds a thread with such requests begins a new era.
 * In each era up to 64 requests of a thread execute a full barrier each, and
 * later ones do not.  A request reads the era after it is counted:
 *
 *      it reads the old era    it was counted before the drain's barrier, which
 *                              comes after the new era has begun
 *      it reads the new era    it executes a full barrier before it reads
 *                              quiesce_counter
 *
 * So a drain needs no barrier if each thread has had only a few requests since
 * the last drain.
 *
 * A third counter has the number of requests that wrote.  If its sum has not
 * changed since the last flush, the node needs no other flush.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_IN_FLIGHT_H
#define BLOCK_IN_FLIGHT_H

#include "qemu/asym-barrier.h"
#include "qemu/thread-shards.h"

typedef struct InFlightShard InFlightShard;

/* Must be all zero at first. */
typedef struct InFlight {
    /* The number of the era */
    unsigned era;

    /* asym_mb_begun() when this era began; atomic */
    AsymCount closed;

    /* A thread makes the shard of its slot when it first counts something */
    ThreadShards shards;    /* InFlightShard */
} InFlight;

/**
 * in_flight_inc: count a request that starts.
 *
 * After this, a thread that drains either counts the request, or the request
 * reads everything that the thread wrote before in_flight_close().
 *
 * Context: any thread.
 */
void in_flight_inc(InFlight *in_flight);

/**
 * in_flight_dec: count a request that has ended.
 *
 * As soon as another thread finds the count zero, it may free @in_flight.  The
 * caller wakes threads that wait for the count, with aio_wait_kick().
 *
 * Context: any thread.
 */
void in_flight_dec(InFlight *in_flight);

/**
 * in_flight_close: prepare to wait until no request is in flight.
 *
 * Before this the caller writes a variable that a starting request reads and
 * obeys, such as quiesce_counter.  The caller does this after each such write.
 * Nothing has to be undone.
 *
 * Context: one thread at a time for each @in_flight.
 */
void in_flight_close(InFlight *in_flight);

/**
 * in_flight_count: return how many requests have started and not ended.
 *
 * Zero is exact for some moment of the call; then everything is visible that
 * the requests wrote.  The call costs an asym_mb_heavy() if three things are
 * true: no request is in flight, the last in_flight_close() began an era, and
 * no asym_mb_heavy() has been executed since.
 *
 * Context: any thread.
 */
unsigned in_flight_count(InFlight *in_flight);

/**
 * in_flight_wrote: count a request in flight as one that has written.
 *
 * Context: any thread.
 */
void in_flight_wrote(InFlight *in_flight);

/**
 * in_flight_writes: return the number of in_flight_wrote() calls, which may
 * wrap.
 *
 * If the caller knows that a request has ended, the number includes that
 * request's write.  Everything is visible that counted requests wrote.  Calls
 * under one lock return numbers in ascending order.
 *
 * Context: any thread.
 */
unsigned in_flight_writes(InFlight *in_flight);

/**
 * in_flight_cleanup: free the counters.
 *
 * No request may be in flight.
 */
void in_flight_cleanup(InFlight *in_flight);

#endif /* BLOCK_IN_FLIGHT_H */
