/*
 * One ring of a Xen PV disk
 *
 *            granted pages                         this ring's own memory
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
 * A XenBlockRing begins with a BlockQueue.  The ring's thread owns all fields
 * that are not marked otherwise, and control uses them only while the ring is
 * quiesced.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_RING_H
#define HW_BLOCK_XEN_BLOCK_RING_H

#include "block/accounting.h"
#include "hw/block/block-queue.h"
#include "qemu/event_notifier.h"
#include "qemu/iov.h"
#include "system/block-backend.h"
#include "xen-block-buffers.h"
#include "xen-block-grants.h"
#include "xen-block-request.h"

typedef struct XenBlockRing XenBlockRing;

/* Calls from the ring's thread to higher layers. */
typedef struct XenBlockRingOps {
    /*
     * Answer all requests in @ring->done.  The ring defers this to the end of
     * a section, see defer_call().
     */
    void (*flush)(void *ring);

    /*
     * The ring is malformed and has stopped for good.  This returns at once,
     * and the main loop does the work later.
     */
    void (*broken)(XenBlockRing *ring, uint32_t req_prod);
} XenBlockRingOps;

/* What all rings of a disk share; read-only for the data path. */
typedef struct XenBlockDisk {
    BlockBackend *blk;
    const char *name;           /* for messages */
    XenBlkifLimits limits;
    XenBlockDomain *domain;     /* of the frontend */
    XenBlockBudget budget;      /* of all rings */
    const XenBlockRingOps *ops; /* for all rings */
} XenBlockDisk;

/* A ring as the frontend describes it in xenstore. */
typedef struct XenBlockRingParams {
    domid_t domid;
    XenBlkifProtocol protocol;
    uint32_t event_channel;
    unsigned nr_pages;
    uint32_t *grefs;            /* of the @nr_pages pages */
    unsigned max_persistent;    /* grants that all rings may keep; 0: copy */
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
    XenBlockRing *ring;
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

/* Most indirect requests of a ring in flight; this bounds their memory. */
#define XEN_BLOCK_MAX_INDIRECTS 32

/* Sizes of the ring's buffers in pages; any request fits into the last. */
#define XEN_BLOCK_NR_BUFFER_SIZES 3
extern const unsigned xen_block_buffer_pages[XEN_BLOCK_NR_BUFFER_SIZES];

/* What control asks the ring's thread to do at its next look at the ring. */
typedef enum XenBlockTick {
    XEN_BLOCK_TICK_NONE,
    XEN_BLOCK_TICK,             /* give back what was not used for a while */
    XEN_BLOCK_TICK_SHARE,       /* that, and some grants for other rings */
    XEN_BLOCK_TICK_IDLE,        /* give back all; the ring was idle for long */
} XenBlockTick;

struct XenBlockRing {
    BlockQueue common;          /* first: a XenBlockRing is a BlockQueue */

    /* Written by xen_block_ring_start() and read-only afterwards. */
    XenBlockDisk *disk;
    char *name;                 /* for messages: the disk and the queue */
    XenBlockRingOps ops;        /* a copy, to be called without a detour */
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
     * the ring takes no request.
     */
    XenBlockRequest **unplaced;
    unsigned nr_unplaced;

    XenBlockTick tick;          /* atomic; control sets, the ring clears it */
    uint64_t requests_at_tick;  /* control's: requests before the last tick */
    unsigned idle_ticks;        /* control's: ticks since the last request */
} QEMU_ALIGNED(BLOCK_QUEUE_ALIGN);

/**
 * xen_block_ring_start: map the ring and bind its event channel.
 *
 * The ring is quiesced at first.  It takes requests after the first
 * block_queue_quiesce_end().
 *
 * Context: BQL.
 *
 * Returns: true, or false with @errp set to a text that does not name the disk
 * or the queue.  After a failure nothing has to be undone.
 */
bool xen_block_ring_start(XenBlockRing *ring, unsigned index, AioContext *ctx,
                          XenBlockDisk *disk, const XenBlockRingParams *params,
                          Error **errp);

/** xen_block_ring_flush: XenBlockRingOps.flush.  Context: the ring's thread. */
void xen_block_ring_flush(void *opaque);

/**
 * xen_block_ring_stop: undo xen_block_ring_start().
 *
 * Context: BQL, with the ring quiesced.
 */
void xen_block_ring_stop(XenBlockRing *ring);

#endif /* HW_BLOCK_XEN_BLOCK_RING_H */
