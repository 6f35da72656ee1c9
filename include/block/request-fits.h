/*
 * Does a request lie within what a node can have?
 *
 * Each layer asks this several times per request, and the answer is yes: asked
 * in line, it is a few comparisons.  What is wrong with one that does not fit
 * is for bdrv_check_qiov_request() to say.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_REQUEST_FITS_H
#define BLOCK_REQUEST_FITS_H

#include "block/block-common.h"
#include "qemu/iov.h"

/**
 * request_fits: whether a request is one that a node can be asked for
 * @offset: bytes, from the start of the node
 * @bytes: length
 * @qiov: buffers, or NULL
 * @qiov_offset: bytes, from the start of @qiov
 *
 * May be called in any thread.
 *
 * Returns true if the request ends at BDRV_MAX_LENGTH at most, and @qiov, if
 * there is one, has @bytes from @qiov_offset on.
 */
static inline bool request_fits(int64_t offset, int64_t bytes,
                                const QEMUIOVector *qiov, size_t qiov_offset)
{
    /* Unsigned, a negative number is beyond every length. */
    return (uint64_t)bytes <= BDRV_MAX_LENGTH &&
           (uint64_t)offset <= BDRV_MAX_LENGTH - (uint64_t)bytes &&
           (!qiov || (qiov_offset <= qiov->size &&
                      (uint64_t)bytes <= qiov->size - qiov_offset));
}

#endif /* BLOCK_REQUEST_FITS_H */
