/*
 * An io_uring that is used by a single thread
 *
 *      IOThread                         kernel
 *      io_uring_enter ---- requests --->
 *      (works on others)                completes one, and sets
 *                                       IORING_SQ_TASKRUN; no interrupt
 *      next system call <--- results ---
 *
 * To post a result, the kernel by default interrupts at once the thread that
 * has submitted the request.  An IOThread asks for results soon anyway.  So its
 * ring has a flag by which the kernel posts results only when the thread next
 * enters the kernel, many at a time.  If the thread polls the completion queue
 * in user space, it has to look at IORING_SQ_TASKRUN, too.
 *
 * The main loop's ring does not have this flag, because vCPU threads that hold
 * the BQL submit to it, too.  The result of such a request would be posted only
 * when the vCPU leaves the guest for some other reason.
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
 * io_uring_thread_init: set up a ring.
 * @ring: the ring
 * @entries: number of entries of the submission queue
 * @one_thread: whether only the thread that waits for results submits requests
 *
 * On kernels before 5.19 the ring is always an ordinary one.
 *
 * Returns: 0, or the negative errno value of io_uring_queue_init().
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
 * io_uring_thread_ready: return whether the kernel has results for the ring.
 *
 * If they are not posted yet, io_uring_peek_cqe() makes the kernel post them.
 *
 * Context: the thread of @ring.
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
 * io_uring_thread_prep_rw: prepare a read or write of a single buffer.
 * @ring: the ring of @sqe
 * @sqe: the entry to fill in
 * @write: true for a write, false for a read
 * @qiov: the buffer
 * @offset: bytes, from the start of the file
 *
 * With these operations the kernel need not copy a list of buffers.
 *
 * Returns: true, or false with @sqe unchanged.  It fails if @qiov has several
 * buffers.  It also fails if the ring does not have the flags of a ring for one
 * thread: then the kernel may be older than 5.6 and not have these operations.
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
