/*
 * An IOThread that waits for its disk and for everything else at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/epoll.h>
#include "qemu/lockcnt.h"
#include "qemu/rcu_queue.h"
#include "block/fdmon-ring.h"
#include "block/io-uring-thread.h"
#include "util/aio-posix.h"

/* One call collects at most so many events.  The next call gets the others. */
#define MAX_EVENTS 64

static uint32_t to_epoll(int events)
{
    return (events & G_IO_IN ? EPOLLIN : 0) |
           (events & G_IO_OUT ? EPOLLOUT : 0) |
           (events & G_IO_HUP ? EPOLLHUP : 0) |
           (events & G_IO_ERR ? EPOLLERR : 0);
}

static int from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? G_IO_IN : 0) |
           (events & EPOLLOUT ? G_IO_OUT : 0) |
           (events & EPOLLHUP ? G_IO_HUP : 0) |
           (events & EPOLLERR ? G_IO_ERR : 0);
}

static bool epoll_set(AioContext *ctx, int op, AioHandler *node)
{
    struct epoll_event event = {
        .data.ptr = node,
        .events = to_epoll(node->pfd.events),
    };

    return epoll_ctl(ctx->epollfd, op, node->pfd.fd, &event) == 0;
}

/* Begin, change or end the watch of a file.  Called with ctx->list_lock. */
static void fdmon_ring_update(AioContext *ctx, AioHandler *old,
                              AioHandler *new)
{
    FDMonRing *r = ctx->fdmon_ring;
    int fd = new ? new->pfd.fd : old->pfd.fd;
    int op = !old ? EPOLL_CTL_ADD : !new ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;

    if (fd == r->ring->ring_fd) {
        r->node = new;
    } else if (!epoll_set(ctx, op, new ?: old)) {
        /* epoll does not take this file, so poll(2) watches all files. */
        qatomic_set(&r->no_epoll, true);
    }
}

static int collect_events(AioContext *ctx, AioHandlerList *ready_list,
                          int64_t timeout)
{
    struct epoll_event events[MAX_EVENTS];
    int n;

    if (timeout > 0) {
        GPollFD pfd = { .fd = ctx->epollfd, .events = G_IO_IN };

        if (qemu_poll_ns(&pfd, 1, timeout) <= 0) {
            return 0;
        }
        timeout = 0;
    }
    n = epoll_wait(ctx->epollfd, events, MAX_EVENTS, timeout);
    for (int i = 0; i < n; i++) {
        aio_add_ready_handler(ready_list, events[i].data.ptr,
                              from_epoll(events[i].events));
    }
    return MAX(n, 0);
}

static void submit(FDMonRing *r)
{
    int ret;

    do {
        ret = io_uring_submit(r->ring);
    } while (ret == -EINTR);
}

/*
 * Ask the ring to watch the epoll set.  If the submission queue is full, it has
 * room after a submission.
 */
static void arm(AioContext *ctx, FDMonRing *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(r->ring);

    if (!sqe) {
        submit(r);
        sqe = io_uring_get_sqe(r->ring);
    }
    if (sqe) {
        io_uring_prep_poll_add(sqe, ctx->epollfd, POLLIN);
        io_uring_sqe_set_data(sqe, r);
        r->armed = true;
    }
}

bool fdmon_ring_reap(FDMonRing *r, const struct io_uring_cqe *cqe)
{
    if (likely(io_uring_cqe_get_data(cqe) != r)) {
        return false;
    }
    r->armed = false;
    return true;
}

/*
 * Return whether the epoll set has events.  The completion stays in the ring
 * for the code of the disk, which calls fdmon_ring_reap().
 */
static bool was_polled(FDMonRing *r)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    io_uring_for_each_cqe(r->ring, head, cqe) {
        if (io_uring_cqe_get_data(cqe) == r) {
            return true;
        }
    }
    return false;
}

static void wait_in_ring(FDMonRing *r, int64_t timeout)
{
    struct __kernel_timespec ts = {
        .tv_sec = timeout / NANOSECONDS_PER_SECOND,
        .tv_nsec = timeout % NANOSECONDS_PER_SECOND,
    };
    struct io_uring_cqe *cqe;

    /* The caller handles a signal and the timeout. */
    if (timeout < 0) {
        io_uring_submit_and_wait(r->ring, 1);
    } else {
        io_uring_submit_and_wait_timeout(r->ring, &cqe, 1, &ts, NULL);
    }
}

/* Submit before the thread polls, or before GLib's main loop sleeps. */
static void fdmon_ring_flush(AioContext *ctx)
{
    FDMonRing *r = ctx->fdmon_ring;

    if (io_uring_sq_ready(r->ring)) {
        submit(r);
    }
}

static int fdmon_ring_wait(AioContext *ctx, AioHandlerList *ready_list,
                           int64_t timeout)
{
    FDMonRing *r = ctx->fdmon_ring;
    int n = 0;

    if (qatomic_read(&r->no_epoll)) {
        fdmon_ring_flush(ctx);
        return fdmon_poll_ops.wait(ctx, ready_list, timeout);
    }
    if (*r->in_flight && timeout) {
        if (!r->armed) {
            arm(ctx, r);
        }
        wait_in_ring(r, r->armed ? timeout : 0);
        n = was_polled(r) ? collect_events(ctx, ready_list, 0) : 0;
    } else {
        fdmon_ring_flush(ctx);
        if (timeout || aio_poll_disabled(ctx)) {
            n = collect_events(ctx, ready_list, timeout);
        }
    }
    if (r->node && io_uring_thread_ready(r->ring)) {
        aio_add_ready_handler(ready_list, r->node, G_IO_IN);
        n++;
    }
    return n;
}

static const FDMonOps fdmon_ring_ops = {
    .update = fdmon_ring_update,
    .wait = fdmon_ring_wait,
    .need_wait = aio_poll_disabled,
    .flush = fdmon_ring_flush,
};

bool fdmon_ring_defers(AioContext *ctx)
{
    return ctx->fdmon_ops == &fdmon_ring_ops &&
           !qatomic_read(&ctx->fdmon_ring->no_epoll);
}

static bool watch_handlers(AioContext *ctx, FDMonRing *r)
{
    AioHandler *node;

    QLIST_FOREACH_RCU(node, &ctx->aio_handlers, node) {
        if (QLIST_IS_INSERTED(node, node_deleted) || !node->pfd.events) {
            continue;
        }
        if (node->pfd.fd == r->ring->ring_fd) {
            r->node = node;
        } else if (!epoll_set(ctx, EPOLL_CTL_ADD, node)) {
            return false;
        }
    }
    return true;
}

void fdmon_ring_start(AioContext *ctx, FDMonRing *r, struct io_uring *ring,
                      const unsigned *in_flight)
{
    r->ring = ring;
    r->in_flight = in_flight;
    if (ctx->fdmon_ops != &fdmon_poll_ops) {
        return;
    }
    if (ctx->epollfd < 0) {
        fdmon_epoll_setup(ctx);
    }
    if (ctx->epollfd < 0) {
        return;
    }
    qemu_lockcnt_lock(&ctx->list_lock);
    if (watch_handlers(ctx, r)) {
        ctx->fdmon_ring = r;
        ctx->fdmon_ops = &fdmon_ring_ops;
    }
    qemu_lockcnt_unlock(&ctx->list_lock);
}

void fdmon_ring_stop(AioContext *ctx)
{
    if (ctx->fdmon_ops == &fdmon_ring_ops) {
        ctx->fdmon_ops = &fdmon_poll_ops;
    }
}
