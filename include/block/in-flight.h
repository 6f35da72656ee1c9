/*
 * How many requests are under way, counted without a shared cache line
 *
 *      thread A          thread B                main loop
 *      started  9        started  4              in_flight_count():
 *      ended    7        ended    6                sum of ended, first
 *        ^ in_flight_inc/dec, own line             sum of started, then
 *
 * Both counters only grow, and a request may end in another thread than it
 * started in, so only the sums mean something.
 *
 * Why a count of zero can be relied on.  Let t be the moment between the two
 * sums.  What was seen as ended had ended before t, and what had started
 * before t is seen as started; so equal sums mean that at t all that had
 * started had ended.  A start is seen if its end is, for the end is stored
 * with release and loaded with acquire semantics.
 *
 * Against requests that start meanwhile the usual handshake holds:
 *
 *      request                         drain
 *      -------                         -----
 *      in_flight_inc()                 quiesce_counter++
 *        (asym_mb_light)               in_flight_close()
 *      read quiesce_counter            in_flight_count():
 *                                        an asym_mb_heavy() since, sums
 *
 * Either the request sees the drain and steps back, or the drain counts it.
 * The barrier may be anybody's that began after in_flight_close(), so one does
 * for all that were closed before it, and for all sums from then on.
 *
 * A barrier interrupts the processors that run other threads.  So a drain
 * executes one only if some request has not executed a barrier of its own.
 * An in_flight_close() that finds a thread with such requests begins a new era.
 * In an era the first requests of a thread, 64 at most, execute a barrier each,
 * and later ones do not.  A request looks at the era after it is counted:
 *
 *      it found the old one    it was counted before the barrier, which comes
 *                              after the new era began
 *      it found the new one    it executes a barrier before it reads what may
 *                              have been closed
 *
 * So a drain needs no barrier if each thread has had only a few requests since
 * the last drain.
 *
 * Beside these two lies a third counter, of requests that wrote: a node whose
 * sum has not changed since the last flush needs no other.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_IN_FLIGHT_H
#define BLOCK_IN_FLIGHT_H

#include "qemu/asym-barrier.h"
#include "qemu/thread-shards.h"

typedef struct InFlightShard InFlightShard;

/* All zero to begin with. */
typedef struct InFlight {
    /* Counts the times that requests were told to be careful again */
    unsigned era;

    /* How many barriers had begun when that was last: atomic */
    AsymCount closed;

    /* Made when the slot's thread first counts something here */
    ThreadShards shards;    /* InFlightShard */
} InFlight;

/**
 * in_flight_inc: a request starts.  Any thread.
 *
 * Reads after it see what was written before an in_flight_close(), unless the
 * counts after that include the request.
 */
void in_flight_inc(InFlight *in_flight);

/**
 * in_flight_dec: a request has ended, and @in_flight may be gone as soon as
 * another thread finds the count zero.  Any thread.  The caller wakes threads
 * that wait for the count, with aio_wait_kick().
 */
void in_flight_dec(InFlight *in_flight);

/**
 * in_flight_close: the caller has written something that starting requests
 * read and obey, such as a quiesce_counter, and will wait for the others.
 *
 * One thread at a time for each @in_flight.  To be called after each such
 * write; nothing has to be undone.
 */
void in_flight_close(InFlight *in_flight);

/**
 * in_flight_count: how many requests had started and not ended.  Any thread.
 *
 * Zero is exact for some moment of the call, and what ended requests wrote is
 * then visible.  Costs an asym_mb_heavy() if nothing is under way, the last
 * in_flight_close() began an era, and there has been none since.
 */
unsigned in_flight_count(InFlight *in_flight);

/**
 * in_flight_wrote: a request under way has written.  Any thread.
 */
void in_flight_wrote(InFlight *in_flight);

/**
 * in_flight_writes: a number that is another one after each in_flight_wrote()
 * until it wraps.
 *
 * Any thread; calls under one lock return it in order.  A write is counted if
 * the caller knows that its request has ended, and what counted writes did is
 * visible.
 */
unsigned in_flight_writes(InFlight *in_flight);

/**
 * in_flight_cleanup: free the counters; nothing is under way.
 */
void in_flight_cleanup(InFlight *in_flight);

#endif /* BLOCK_IN_FLIGHT_H */
