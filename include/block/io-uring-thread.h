/*
 * An io_uring that a single thread fills and empties
 *
 *      IOThread                         kernel
 *      io_uring_enter ---- requests --->
 *      (works on others)                completes one, and sets
 *                                       IORING_SQ_TASKRUN; no interrupt
 *      next system call <--- results ---
 *
 * By default the kernel interrupts the thread that has submitted a request, at
 * once and wherever it runs, to post the result.  A thread that is about to
 * ask for results anyway does not need that: the kernel posts them when the
 * thread next enters it, many at a time.  A thread that watches the completion
 * queue without entering the kernel has to look at the flag as well.
 *
 * That would be wrong for the main loop's ring.  vCPU threads that hold the BQL
 * submit to it too.  The result of such a request would be posted only when the
 * vCPU leaves the guest for some other reason.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_IO_URING_THREAD_H
#define BLOCK_IO_URING_THREAD_H

#include <liburing.h>
#include "qemu/atomic.h"
#include "qemu/iov.h"

#if defined(IORING_SETUP_COOP_TASKRUN) && defined(IORING_SETUP_TASKRUN_FLAG)
#define IO_URING_ONE_THREAD \
    (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
#else
#define IO_URING_ONE_THREAD 0
#endif

/**
 * io_uring_thread_init: set a ring up
 * @ring: to be set up
 * @entries: of the submission queue
 * @one_thread: whether the thread that waits for results is the only one that
 *              submits
 *
 * Falls back to an ordinary ring on kernels before 5.19.
 *
 * Returns: 0, or the negative errno of io_uring_queue_init().
 */
static inline int io_uring_thread_init(struct io_uring *ring, unsigned entries,
                                       bool one_thread)
{
    int ret = -EINVAL;

    if (one_thread && IO_URING_ONE_THREAD) {
        ret = io_uring_queue_init(entries, ring, IO_URING_ONE_THREAD);
    }
    return ret == -EINVAL ? io_uring_queue_init(entries, ring, 0) : ret;
}

/**
 * io_uring_thread_ready: whether there are results, posted or not yet
 *
 * In the thread of @ring.  io_uring_peek_cqe() has them posted.
 */
static inline bool io_uring_thread_ready(struct io_uring *ring)
{
    if (io_uring_cq_ready(ring)) {
        return true;
    }
#if IO_URING_ONE_THREAD
    return qatomic_read(ring->sq.kflags) & IORING_SQ_TASKRUN;
#else
    return false;
#endif
}

/**
 * io_uring_thread_prep_rw: prepare a read or write of a single buffer
 * @ring: the ring that @sqe will go to
 * @sqe: to be filled in
 * @write: the direction
 * @qiov: the buffer
 * @offset: bytes, from the start of the file
 *
 * Spares the kernel the copy of a list of one.
 *
 * Returns: false, with @sqe as it was, if @qiov has several buffers, or if the
 * ring does not have the flags of a ring for one thread: then the kernel may be
 * older than 5.6, which brought these operations.
 */
static inline bool io_uring_thread_prep_rw(const struct io_uring *ring,
                                           struct io_uring_sqe *sqe, int fd,
                                           bool write, const QEMUIOVector *qiov,
                                           uint64_t offset)
{
    if (qiov->niov != 1 || !(ring->flags & IO_URING_ONE_THREAD)) {
        return false;
    }
    io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe, fd,
                     qiov->iov[0].iov_base, qiov->iov[0].iov_len, offset);
    return true;
}

#endif /* BLOCK_IO_URING_THREAD_H */
