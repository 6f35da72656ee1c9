/*
 * One ring of a Xen PV disk
 *
 *            granted pages                         this ring's own lines
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
 * A ring begins with a BlockQueue: its thread owns everything in here but what
 * is marked otherwise, and control touches it only while it is quiesced.
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

/* What all rings of a disk share; read-only to the data path. */
typedef struct XenBlockDisk {
    BlockBackend *blk;
    const char *name;           /* for messages */
    XenBlkifLimits limits;
    XenBlockDomain *domain;     /* of the frontend */
    XenBlockBudget budget;      /* of all rings */
    /*
     * Ring @index was found malformed and has stopped for good.  Called in the
     * ring's thread.
     */
    void (*ring_broken)(struct XenBlockDisk *disk, unsigned index,
                        uint32_t req_prod);
} XenBlockDisk;

/* Where a frontend says that a ring is. */
typedef struct XenBlockRingParams {
    domid_t domid;
    XenBlkifProtocol protocol;
    uint32_t event_channel;
    unsigned nr_pages;
    uint32_t *grefs;            /* @nr_pages of them */
    unsigned max_persistent;    /* grants that all rings keep, 0: copy */
    bool batch_copies;          /* one call for all that are copied at once */
} XenBlockRingParams;

/* What a request with more than the usual segments needs on top. */
typedef struct XenBlockIndirect {
    XenBlkifSegment segs[XEN_BLKIF_MAX_INDIRECT_SEGS];
    struct iovec iov[XEN_BLKIF_MAX_INDIRECT_SEGS];
    XenBlockGrant *grants[XEN_BLKIF_MAX_INDIRECT_SEGS];
    struct blkif_request_segment raw[XEN_BLKIF_MAX_INDIRECT_SEGS];
} XenBlockIndirect;

typedef struct XenBlockRequest {
    XenBlkifRequest req;
    XenBlkifFault fault;
    int ret;                    /* of the block layer */
    int16_t status;             /* to answer with, once finished */
    XenBlockRing *ring;
    /* These three point into the arrays below or into @indirect. */
    XenBlkifSegment *segs;
    struct iovec *iov;
    XenBlockGrant **grants;
    XenBlockIndirect *indirect; /* NULL for a direct request */
    void *bounce;               /* NULL: I/O goes straight to mapped pages */
    unsigned nr_grants;         /* mapped ones that it uses */
    QEMUIOVector qiov;
    BlockAcctCookie acct;
    XenBlkifSegment direct_segs[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    struct iovec direct_iov[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    XenBlockGrant *direct_grants[BLKIF_MAX_SEGMENTS_PER_REQUEST];
} XenBlockRequest;

/* Most indirect requests of a ring in flight: bounds what they can hold. */
#define XEN_BLOCK_MAX_INDIRECTS 32

/* Pages of the buffers that a ring has, the last for every request. */
#define XEN_BLOCK_NR_BUFFER_SIZES 3
extern const unsigned xen_block_buffer_pages[XEN_BLOCK_NR_BUFFER_SIZES];

/* What control asks the ring's thread to do when it looks the next time. */
typedef enum XenBlockTick {
    XEN_BLOCK_TICK_NONE,
    XEN_BLOCK_TICK,             /* let go of what is old */
    XEN_BLOCK_TICK_SHARE,       /* and of some that others could use */
    XEN_BLOCK_TICK_IDLE,        /* the ring was idle for long: of all */
} XenBlockTick;

struct XenBlockRing {
    BlockQueue common;          /* first: a XenBlockRing is a BlockQueue */

    /* Written while starting, read-only then. */
    XenBlockDisk *disk;
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
    bool fault_reported;        /* one bad request in the log is enough */

    /* At most one of these two is set, and no request is taken meanwhile. */
    XenBlockRequest *waiting;   /* waits for others to end */
    XenBlockRequest *barrier;   /* runs, and others wait for its end */
    bool resume_scheduled;      /* a bottom half will take again */

    /* Each has room for every request of the ring. */
    XenBlockRequest **batch;
    unsigned nr_batch;
    unsigned next_in_batch;     /* to be started */
    bool batch_has_indirect;
    BlockAcctCookie batch_acct; /* when it was started */
    XenBlockRequest **done;
    unsigned nr_done;
    void (*flush)(void *ring);  /* answers all in @done, see defer_call() */
    XenBlockCopy *copies;
    XenBlkifSegment *copy_pages;

    BlockSlab requests;
    BlockSlab indirects;
    XenBlockBuffers buffers[XEN_BLOCK_NR_BUFFER_SIZES];
    unsigned nr_bounced;        /* requests that have one of these */
    XenBlockGrants grants;

    /*
     * Requests of a batch whose grants are not mapped, in their order.  Those
     * that have to wait for a buffer stay here, and nothing is taken then.
     */
    XenBlockRequest **unplaced;
    unsigned nr_unplaced;

    XenBlockTick tick;          /* atomic: control sets it, see there */
    uint64_t requests_at_tick;  /* control's */
    unsigned idle_ticks;        /* control's: none came since so many */
} QEMU_ALIGNED(BLOCK_QUEUE_ALIGN);

/**
 * xen_block_ring_start: map the ring and bind its event channel.
 *
 * The ring is quiesced; the first block_queue_quiesce_end() lets it take
 * requests.  Under the BQL.
 *
 * Returns: false with @errp set and nothing left behind on error.
 */
bool xen_block_ring_start(XenBlockRing *ring, unsigned index, AioContext *ctx,
                          XenBlockDisk *disk, const XenBlockRingParams *params,
                          Error **errp);

/**
 * xen_block_ring_stop: give everything back.  The ring must be quiesced.  Under
 * the BQL.
 */
void xen_block_ring_stop(XenBlockRing *ring);

#endif /* HW_BLOCK_XEN_BLOCK_RING_H */
