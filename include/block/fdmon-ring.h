/*
 * An IOThread that waits for its disk and for everything else at once
 *
 *      handlers ----> epoll set ----+
 *                                   | watched by one poll request
 *      requests -----------------> ring
 *
 *      nothing in the ring:    epoll_wait()
 *      requests in the ring:   io_uring_enter() submits the new ones and waits
 *                              for a result or for the epoll set
 *
 * Without this a thread submits with one system call and waits with another,
 * which looks at every handler.  With nothing in the ring the thread must not
 * wait there: the kernel takes that for waiting for I/O, and a host whose
 * IOThreads are idle would show I/O pressure.
 *
 * Requests stay in the submission queue until the thread waits, until it polls
 * (AioContext->poll_max_ns), or until the queue is full.  The ring's own file
 * descriptor is a handler of the AioContext, for a GLib main loop that takes
 * the thread over, but it is not in the epoll set.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_FDMON_RING_H
#define BLOCK_FDMON_RING_H

#include <liburing.h>
#include "block/aio.h"

/**
 * FDMonRing: the monitor's state, in the thread of its AioContext.
 * @ring: the disk's
 * @in_flight: requests in @ring without a result, those not yet submitted too
 * @node: handler of @ring's file descriptor
 * @armed: a request in @ring watches the epoll set
 * @no_epoll: a handler's file is none that epoll takes; atomic
 */
typedef struct FDMonRing {
    struct io_uring *ring;
    const unsigned *in_flight;
    AioHandler *node;
    bool armed;
    bool no_epoll;
} FDMonRing;

/**
 * fdmon_ring_start: have @ctx wait in @ring from now on
 * @r: cleared; stays in use until fdmon_ring_stop()
 *
 * In the thread of @ctx, or where no thread runs it yet.  Where that does not
 * work, @ctx goes on as before.
 */
void fdmon_ring_start(AioContext *ctx, FDMonRing *r, struct io_uring *ring,
                      const unsigned *in_flight);

/**
 * fdmon_ring_stop: undo fdmon_ring_start(), or nothing
 *
 * No request is in the ring and no thread runs @ctx.
 */
void fdmon_ring_stop(AioContext *ctx);

/**
 * fdmon_ring_defers: may requests stay in the submission queue?
 *
 * If so, they are submitted before the thread sleeps.
 */
bool fdmon_ring_defers(AioContext *ctx);

/**
 * fdmon_ring_reap: is @cqe the monitor's own?
 *
 * If so, the caller does nothing but io_uring_cqe_seen().
 */
bool fdmon_ring_reap(FDMonRing *r, const struct io_uring_cqe *cqe);

#endif /* BLOCK_FDMON_RING_H */
