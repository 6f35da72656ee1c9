/*
 * One queue of a Xen PV disk
 *
 *      granted pages: the ring                     this queue's own memory
 *     +------------------------+
 *     | req_prod    rsp_prod   |    take    +--------------------------+
 *     | req_event   rsp_event  |  ------->  | batch: decode, check,    |
 *     | slot  slot  slot  ...  |            | map or copy grants       |
 *     +------------------------+            +------------+-------------+
 *                 ^                                      | submit
 *                 | responses of a batch,                v
 *                 | one index, one event     coroutines in blk_co_*()
 *                 |                                      |
 *            +----+--------------------------------------v----+
 *            | done: copy read data of the batch, release     |
 *            +------------------------------------------------+
 *
 * A XenBlockQueue begins with a BlockQueue.  Its ring is the memory that it
 * shares with the frontend.  The owner thread owns all fields that are not
 * marked otherwise, and control uses them only while the queue is quiesced.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_QUEUE_H
#define HW_BLOCK_XEN_BLOCK_QUEUE_H

#include "block/accounting.h"
#include "hw/block/block-queue-device.h"
#include "qemu/event_notifier.h"
#include "qemu/iov.h"
#include "system/block-backend.h"
#include "xen-block-buffers.h"
#include "xen-block-grants.h"
#include "xen-block-request.h"

typedef struct XenBlockQueue XenBlockQueue;

/* What all queues of a disk share; read-only for the data path. */
typedef struct XenBlockDisk {
    BlockQueueDevice *device;
    BlockBackend *blk;
    XenBlkifLimits limits;
    XenBlockDomain *domain;     /* of the frontend */
    XenBlockBudget budget;      /* of all queues */
} XenBlockDisk;

/* A ring as the frontend describes it in xenstore. */
typedef struct XenBlockRingParams {
    domid_t domid;
    XenBlkifProtocol protocol;
    uint32_t event_channel;
    unsigned nr_pages;
    uint32_t *grefs;            /* of the @nr_pages pages */
    unsigned max_persistent;    /* grants that all queues may keep; 0: copy */
    bool batch_copies;          /* one call copies for several requests */
} XenBlockRingParams;

/* Memory that only an indirect request needs, which has more segments. */
typedef struct XenBlockIndirect {
    XenBlkifSegment segs[XEN_BLKIF_MAX_INDIRECT_SEGS];
    struct iovec iov[XEN_BLKIF_MAX_INDIRECT_SEGS];
    XenBlockGrant *grants[XEN_BLKIF_MAX_INDIRECT_SEGS];
    struct blkif_request_segment raw[XEN_BLKIF_MAX_INDIRECT_SEGS];
} XenBlockIndirect;

typedef struct XenBlockRequest {
    XenBlkifRequest req;
    XenBlkifFault fault;
    int ret;                    /* result of the block layer */
    int16_t status;             /* of the response; set at the end */
    XenBlockQueue *q;
    /* These three point into the arrays below or into @indirect. */
    XenBlkifSegment *segs;
    struct iovec *iov;
    XenBlockGrant **grants;
    XenBlockIndirect *indirect; /* NULL for a direct request */
    void *bounce;               /* a buffer; NULL: mapped pages are used */
    unsigned nr_grants;         /* mapped grants that it uses */
    QEMUIOVector qiov;
    BlockAcctCookie acct;
    XenBlkifSegment direct_segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    struct iovec direct_iov[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    XenBlockGrant *direct_grants[BLKIF_MAX_SEGMENTS_PER_REQUEST];
} XenBlockRequest;

/* Most indirect requests of a queue in flight; this bounds their memory. */
#define XEN_BLOCK_MAX_INDIRECTS 32

/* Sizes of the queue's buffers in pages; any request fits into the last. */
#define XEN_BLOCK_NR_BUFFER_SIZES 3
extern const unsigned xen_block_buffer_pages[XEN_BLOCK_NR_BUFFER_SIZES];

/* What control asks the owner thread to do at its next look at the ring. */
typedef enum XenBlockTick {
    XEN_BLOCK_TICK_NONE,
    XEN_BLOCK_TICK,             /* give back what was not used for a while */
    XEN_BLOCK_TICK_SHARE,       /* that, and some grants for other queues */
    XEN_BLOCK_TICK_IDLE,        /* give back all, after a long time of rest */
} XenBlockTick;

struct XenBlockQueue {
    BlockQueue common;          /* first: a XenBlockQueue is a BlockQueue */

    /* Written by xen_block_queue_init() and read-only afterwards. */
    XenBlockDisk *disk;
    void (*flush)(void *q);     /* answer all requests in @done */
    const XenBlkifLayout *layout;
    struct blkif_sring *sring;  /* shared with the frontend */
    uint8_t *slots;
    unsigned size;              /* entries, a power of two */
    unsigned nr_pages;
    uint32_t *grefs;
    xenevtchn_handle *channel;
    evtchn_port_t port;
    EventNotifier channel_fd;

    /* The private halves of the indices. */
    RING_IDX req_cons;
    RING_IDX rsp_prod;
    bool polling;               /* the frontend need not send events */
    bool fault_reported;        /* a bad request was logged; log no more */

    /* At most one of these two is set; then no request is taken. */
    XenBlockRequest *waiting;   /* waits for the end of earlier requests */
    XenBlockRequest *barrier;   /* runs; later requests wait for its end */

    /* Each array has room for every request of the ring. */
    XenBlockRequest **batch;
    unsigned nr_batch;
    unsigned next_in_batch;     /* the next one to be started */
    bool batch_has_indirect;
    BlockAcctCookie batch_acct; /* has the batch's start time */
    XenBlockRequest **done;
    unsigned nr_done;
    XenBlockCopy *copies;
    XenBlkifSegment *copy_pages;

    BlockSlab requests;
    BlockSlab indirects;
    XenBlockBuffers buffers[XEN_BLOCK_NR_BUFFER_SIZES];
    unsigned nr_bounced;        /* requests that use one of these buffers */
    XenBlockGrants grants;

    /*
     * Requests of the batch whose grants are not mapped, in their order.
     * Requests that wait for a buffer stay here.  As long as there are some,
     * the queue takes no request.
     */
    XenBlockRequest **unplaced;
    unsigned nr_unplaced;

    XenBlockTick tick;          /* atomic; control sets, the owner clears */
    uint64_t requests_at_tick;  /* control's: requests before the last tick */
    unsigned idle_ticks;        /* control's: ticks since the last request */
} QEMU_ALIGNED(BLOCK_QUEUE_ALIGN);

/**
 * xen_block_queue_init: map the ring and bind its event channel.
 *
 * The queue is quiesced at first.  It takes requests after the first
 * block_queue_quiesce_end().
 *
 * Context: BQL.
 *
 * Returns: true, or false with @errp set.  After a failure nothing has to be
 * undone.
 */
bool xen_block_queue_init(XenBlockQueue *q, unsigned index, AioContext *ctx,
                          XenBlockDisk *disk, const XenBlockRingParams *params,
                          Error **errp);

/**
 * xen_block_queue_cleanup: undo xen_block_queue_init().
 *
 * Context: BQL, with the queue quiesced.
 */
void xen_block_queue_cleanup(XenBlockQueue *q);

#endif /* HW_BLOCK_XEN_BLOCK_QUEUE_H */
