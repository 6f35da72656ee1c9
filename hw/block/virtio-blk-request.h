/*
 * virtio-blk: requests in flight
 *
 *    virtio-blk-segments.c   the memory of a request
 *    virtio-blk-answer.c     the end of a request: answer, hold or abandon it
 *    virtio-blk-capacity.c   the check against the size of the disk
 *    virtio-blk-zoned.c      zone commands
 *    virtio-blk-request.c    parse, check and run a request
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_VIRTIO_BLK_REQUEST_H
#define HW_BLOCK_VIRTIO_BLK_REQUEST_H

#include "block/accounting.h"
#include "qemu/iov.h"
#include "virtio-blk-queue.h"

/* Segments that a request can hold without a list from the queue's slabs. */
#define VIRTIO_BLK_INLINE_SEGMENTS 4

struct VirtIOBlkRequest {
    VirtIOBlkRequest *next;     /* in the slab, a run, done or held */
    VirtIOBlkQueue *queue;
    VRingChain chain;           /* chain.iov is a copy owned by the request */

    /* Not NULL if the virtqueue calls of QEMU's virtio.c took the chain. */
    VirtQueueElement *elem;

    uint32_t type;              /* from the driver, in CPU byte order */
    uint64_t sector;
    uint8_t *status;            /* the byte of the answer, in guest memory */
    QEMUIOVector qiov;          /* data, without header and status */
    QEMUIOVector merged;        /* in the first request of a run: all data */
    BlockAcctCookie acct;

    struct iovec *list;         /* used instead of inline_iov, or NULL */
    bool rechecked;             /* the node was asked for its size again */
    uint8_t list_size;          /* the slab of @list; unused with @elem */
    uint8_t merged_size;        /* the slab of @merged's list */
    struct iovec inline_iov[VIRTIO_BLK_INLINE_SEGMENTS];
};

/**
 * virtio_blk_chain_needs_split: return whether the header or the status shares
 * a segment with data.
 */
static inline bool virtio_blk_chain_needs_split(const VRingChain *chain)
{
    return chain->out_num == 0 || chain->in_num == 0 ||
           chain->iov[0].iov_len != sizeof(struct virtio_blk_outhdr) ||
           chain->iov[chain->out_num + chain->in_num - 1].iov_len != 1;
}

/* virtio-blk-segments.c: the memory of a request */

/**
 * virtio_blk_request_init: set up a request whose chain has just been taken.
 * @req: a request with its @chain; segments that are not in @req->inline_iov
 *       are copied
 * @elem: the element, if virtio.c took the chain or a migration brought it;
 *        otherwise NULL
 *
 * Without @elem the queue must not be short of segment lists.
 */
void virtio_blk_request_init(VirtIOBlkRequest *req, VirtIOBlkQueue *q,
                             VirtQueueElement *elem);

/**
 * virtio_blk_request_release: undo virtio_blk_request_init().
 *
 * Context: owner thread, or BQL with the queue quiesced.
 */
void virtio_blk_request_release(VirtIOBlkRequest *req);

/* virtio-blk-answer.c: the end of a request */

/**
 * virtio_blk_request_complete: answer @req with @status.
 *
 * The driver sees the answer together with others of the batch.  The caller
 * must not use the request afterwards.
 *
 * Context: owner thread.
 */
void virtio_blk_request_complete(VirtIOBlkRequest *req, uint8_t status);

/**
 * virtio_blk_request_hold: keep @req until the VM goes on.
 *
 * Context: owner thread.
 */
void virtio_blk_request_hold(VirtIOBlkRequest *req);

/**
 * virtio_blk_request_abandon: free a request without an answer.
 *
 * This happens after a fault.  The driver does not get the request back.
 *
 * Context: owner thread.
 */
void virtio_blk_request_abandon(VirtIOBlkRequest *req);

/**
 * virtio_blk_queue_remind: interrupt the driver if it may be waiting for
 * requests that were answered before.
 *
 * Context: owner thread, while the queue has a ring.
 */
void virtio_blk_queue_remind(VirtIOBlkQueue *q);

/* virtio-blk-capacity.c: requests beyond the end of the disk */

/**
 * virtio_blk_capacity: return the capacity of a disk of @length bytes.
 * @length: bytes, or a negative errno value, for which the result is 0
 *
 * The capacity is a number of sectors.  It does not include a logical block at
 * the end that is not whole.
 */
uint64_t virtio_blk_capacity(const VirtIOBlock *s, int64_t length);

/**
 * virtio_blk_range_ok: return whether @bytes bytes at @sector are on the disk.
 *
 * This uses the size that the device knows, which may be out of date.
 *
 * Context: owner thread.
 */
bool virtio_blk_range_ok(VirtIOBlock *s, uint64_t sector, uint64_t bytes);

/**
 * virtio_blk_update_capacity: ask the node for its size.
 *
 * This may wait for the node.
 *
 * Context: owner thread.
 */
void coroutine_fn virtio_blk_update_capacity(VirtIOBlock *s);

/**
 * virtio_blk_request_is_beyond: return whether @req has failed because the
 * disk has become smaller.
 * @bytes: the number of bytes that @req reads, writes or discards
 */
bool coroutine_fn virtio_blk_request_is_beyond(VirtIOBlkRequest *req, int ret,
                                               uint64_t bytes);

/* virtio-blk-zoned.c: zone commands, run in the request's coroutine */

/**
 * virtio_blk_zone_command: serve a zone command.
 *
 * Returns: the status for the driver (VIRTIO 1.2, 5.2.6.2).  If the driver's
 * buffers make an answer impossible, *@fault is set to a constant text.
 */
uint8_t coroutine_fn virtio_blk_zone_command(VirtIOBlkRequest *req,
                                             const char **fault);

/** virtio_blk_zone_config: fill in the zoned part of @config.  Context: BQL. */
void virtio_blk_zone_config(VirtIOBlock *s, struct virtio_blk_config *config);

/* virtio-blk-request.c: one request */

/**
 * virtio_blk_request_parse: find header, data and status (VIRTIO 1.2, 5.2.6).
 *
 * Returns: NULL, or a constant text that says what the driver has done wrong.
 */
const char *virtio_blk_request_parse(VirtIOBlkRequest *req);

/**
 * virtio_blk_request_submit: run @req, maybe merged with its neighbours.
 *
 * On return @req may be answered already, or it may wait in @q->run for
 * virtio_blk_run_submit().
 *
 * Context: owner thread.
 */
void virtio_blk_request_submit(VirtIOBlkRequest *req);

/**
 * virtio_blk_run_submit: run the requests that wait in @q->run.
 *
 * Context: owner thread.
 */
void virtio_blk_run_submit(VirtIOBlkQueue *q);

#endif /* HW_BLOCK_VIRTIO_BLK_REQUEST_H */
