/*
 * virtio-blk: what is in flight
 *
 *    virtio-blk-segments.c   the memory that a request has
 *    virtio-blk-answer.c     its end: answered, held, abandoned
 *    virtio-blk-capacity.c   is it beyond the end of the disk?
 *    virtio-blk-zoned.c      zone commands
 *    virtio-blk-request.c    parse, check, run
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

    /* Set for a chain that the base's virtqueue calls took. */
    VirtQueueElement *elem;

    uint32_t type;              /* as the driver wrote it, CPU byte order */
    uint64_t sector;
    uint8_t *status;            /* where the answer goes */
    QEMUIOVector qiov;          /* data, without header and status */
    QEMUIOVector merged;        /* head of a run of several: all their data */
    BlockAcctCookie acct;

    struct iovec *list;         /* longer than inline_iov, or NULL */
    bool rechecked;             /* the node was asked for its size once more */
    uint8_t list_size;          /* the slab that it is from, if not @elem */
    uint8_t merged_size;        /* the slab that @merged's list is from */
    struct iovec inline_iov[VIRTIO_BLK_INLINE_SEGMENTS];
};

/**
 * virtio_blk_chain_needs_split: whether the header or the status is not a
 * segment of its own.
 */
static inline bool virtio_blk_chain_needs_split(const VRingChain *chain)
{
    return chain->out_num == 0 || chain->in_num == 0 ||
           chain->iov[0].iov_len != sizeof(struct virtio_blk_outhdr) ||
           chain->iov[chain->out_num + chain->in_num - 1].iov_len != 1;
}

/* virtio-blk-segments.c: the memory that a request has */

/**
 * virtio_blk_request_init: a request whose chain has just been taken.
 * @req: with its chain; the segments are in @req->inline_iov, where they stay
 *       if they fit, or elsewhere, and then they are copied
 * @elem: what the base's virtqueue calls or a migration brought, or NULL
 *
 * Without @elem the queue must not be short of segment lists.
 */
void virtio_blk_request_init(VirtIOBlkRequest *req, VirtIOBlkQueue *q,
                             VirtQueueElement *elem);

/**
 * virtio_blk_request_release: free what init attached.  Owner thread, or
 * control with the queue quiesced.
 */
void virtio_blk_request_release(VirtIOBlkRequest *req);

/* virtio-blk-answer.c: the end of a request */

/**
 * virtio_blk_request_complete: answer @req with @status.
 *
 * The driver sees it with the rest of the batch.  The request must not be
 * used afterwards.  Owner thread.
 */
void virtio_blk_request_complete(VirtIOBlkRequest *req, uint8_t status);

/** virtio_blk_request_hold: keep @req until the VM goes on.  Owner thread. */
void virtio_blk_request_hold(VirtIOBlkRequest *req);

/**
 * virtio_blk_request_abandon: give up a request that was not answered.
 *
 * After a fault; the ring does not get it back.  Owner thread.
 */
void virtio_blk_request_abandon(VirtIOBlkRequest *req);

/**
 * virtio_blk_queue_remind: interrupt the driver if it may be waiting for
 * requests that were answered before.  Owner thread, the ring is up.
 */
void virtio_blk_queue_remind(VirtIOBlkQueue *q);

/* virtio-blk-capacity.c: requests beyond the end of the disk */

/**
 * virtio_blk_capacity: sectors that a driver can use of @length bytes
 *
 * Those of whole logical blocks.  @length may be an error: there are none.
 */
uint64_t virtio_blk_capacity(const VirtIOBlock *s, int64_t length);

/** virtio_blk_range_ok: does the disk, as far as known, have this?  Owner. */
bool virtio_blk_range_ok(VirtIOBlock *s, uint64_t sector, uint64_t bytes);

/**
 * virtio_blk_update_capacity: ask the node for its size.
 *
 * It may wait for the node.  Owner thread.
 */
void coroutine_fn virtio_blk_update_capacity(VirtIOBlock *s);

/**
 * virtio_blk_request_is_beyond: has @req failed since the disk is smaller now?
 * @bytes: that it reads, writes or discards
 */
bool coroutine_fn virtio_blk_request_is_beyond(VirtIOBlkRequest *req, int ret,
                                               uint64_t bytes);

/* virtio-blk-zoned.c: zone commands, run in the request's coroutine */

/**
 * virtio_blk_zone_command: serve a zone command.
 *
 * Returns: the status for the driver (VIRTIO 1.2, 5.2.6.2); *@fault is set to a
 * constant text when the driver's buffers make an answer impossible.
 */
uint8_t coroutine_fn virtio_blk_zone_command(VirtIOBlkRequest *req,
                                             const char **fault);

/** virtio_blk_zone_config: the zoned part of the config space.  BQL. */
void virtio_blk_zone_config(VirtIOBlock *s, struct virtio_blk_config *config);

/* virtio-blk-request.c: one request */

/**
 * virtio_blk_request_parse: header, status and data (VIRTIO 1.2, 5.2.6).
 *
 * Returns: NULL, or a constant text naming what the driver did wrong.
 */
const char *virtio_blk_request_parse(VirtIOBlkRequest *req);

/**
 * virtio_blk_request_submit: run @req, maybe merged with its neighbours.
 *
 * It may be answered on return, or wait for virtio_blk_run_submit().  Owner
 * thread.
 */
void virtio_blk_request_submit(VirtIOBlkRequest *req);

/** virtio_blk_run_submit: run what has been gathered to be merged.  Owner. */
void virtio_blk_run_submit(VirtIOBlkQueue *q);

#endif /* HW_BLOCK_VIRTIO_BLK_REQUEST_H */
