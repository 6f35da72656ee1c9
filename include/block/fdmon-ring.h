/*
 * Waiting in an io_uring: one system call submits requests and waits for events
 *
 *      handlers ----> epoll set ----+
 *                                   | watched by one poll request
 *      requests -----------------> ring
 *
 *      nothing in the ring:    epoll_wait()
 *      requests in the ring:   io_uring_enter() submits the new ones and waits
 *                              for a result or for the epoll set
 *
 * Without this an IOThread submits requests with one system call and waits with
 * another, which looks at every handler.  While the ring has no request, the
 * thread does not wait in the ring.  The kernel would count that as waiting for
 * I/O, and a host with idle IOThreads would show I/O pressure.
 *
 * Requests stay in the submission queue until the thread waits, until it polls
 * (AioContext->poll_max_ns), or until the queue is full.  The ring's own file
 * descriptor is a handler of the AioContext, because a GLib main loop may take
 * over the thread.  It is not in the epoll set.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_FDMON_RING_H
#define BLOCK_FDMON_RING_H

#include <liburing.h>
#include "block/aio.h"

/**
 * FDMonRing: the monitor's state; only the thread of its AioContext uses it.
 * @ring: the io_uring that has the disk's requests
 * @in_flight: requests in @ring without a result, submitted or not
 * @node: handler of @ring's file descriptor
 * @armed: a request in @ring watches the epoll set
 * @no_epoll: epoll refuses the file of a handler; atomic
 */
typedef struct FDMonRing {
    struct io_uring *ring;
    const unsigned *in_flight;
    AioHandler *node;
    bool armed;
    bool no_epoll;
} FDMonRing;

/**
 * fdmon_ring_start: let @ctx wait in @ring from now on.
 * @r: zeroed memory that is in use until fdmon_ring_stop()
 *
 * If that does not work, @ctx goes on as before.
 *
 * Context: the thread of @ctx, or any thread if none runs @ctx yet.
 */
void fdmon_ring_start(AioContext *ctx, FDMonRing *r, struct io_uring *ring,
                      const unsigned *in_flight);

/**
 * fdmon_ring_stop: undo fdmon_ring_start(), if it was called.
 *
 * The ring must have no request.
 *
 * Context: no thread runs @ctx.
 */
void fdmon_ring_stop(AioContext *ctx);

/**
 * fdmon_ring_defers: return whether requests may stay in the submission queue.
 *
 * If so, they are submitted before the thread sleeps.
 */
bool fdmon_ring_defers(AioContext *ctx);

/**
 * fdmon_ring_reap: handle @cqe if it is the monitor's own.
 *
 * Returns: true if it is; then the caller only calls io_uring_cqe_seen().
 */
bool fdmon_ring_reap(FDMonRing *r, const struct io_uring_cqe *cqe);

#endif /* BLOCK_FDMON_RING_H */
