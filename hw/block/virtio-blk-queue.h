/*
 * Inside of virtio-blk: queue and request
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *    ring --take--> request --run--> coroutine --answer--> done --flush--> ring
 *                      |                                              |
 *                      +--- error, werror=stop: held until "cont"     +- one
 *                                                                  interrupt
 *
 * All of it belongs to the queue's owner thread (hw/block/block-queue.h),
 * but for what is marked as control's.
 */

#ifndef HW_BLOCK_VIRTIO_BLK_QUEUE_H
#define HW_BLOCK_VIRTIO_BLK_QUEUE_H

#include "block/accounting.h"
#include "hw/block/block-queue.h"
#include "hw/virtio/virtio-access.h"
#include "hw/virtio/virtio-blk.h"
#include "hw/virtio/vring.h"
#include "qemu/iov.h"

/* Segments that a request can hold without a list from the queue's slabs. */
#define VIRTIO_BLK_INLINE_SEGMENTS 4

/* Sizes of longer lists, see virtio-blk-segments.c. */
enum {
    VIRTIO_BLK_SEGMENTS_SHORT,
    VIRTIO_BLK_SEGMENTS_LONG,
    VIRTIO_BLK_SEGMENTS_ANY,
    VIRTIO_BLK_SEGMENTS_SIZES
};

/* Requests that may be merged into one. */
#define VIRTIO_BLK_MAX_MERGE 32

typedef struct VirtIOBlkRequest VirtIOBlkRequest;

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

/* Neighbouring reads or writes on their way to become one. */
typedef struct VirtIOBlkRun {
    VirtIOBlkRequest *head;
    VirtIOBlkRequest **tail;
    unsigned count;
    unsigned niov;
    uint64_t bytes;
    uint64_t next_sector;
    bool is_write;
} VirtIOBlkRun;

/* Lists of up to @len segments. */
typedef struct VirtIOBlkSegments {
    BlockSlab slab;
    unsigned len;
} VirtIOBlkSegments;

/* Who reads the ring, see virtio-blk-ring.c. */
typedef enum VirtIOBlkReader {
    VIRTIO_BLK_READER_NONE,     /* nobody: the base's VirtQueue has the state */
    VIRTIO_BLK_READER_BASE,     /* the base's virtqueue calls */
    VIRTIO_BLK_READER_NATIVE,   /* ours, vring.h */
} VirtIOBlkReader;

/* Which thread serves the queue. */
typedef enum VirtIOBlkPlace {
    VIRTIO_BLK_PLACE_OWN,       /* that of its IOThread, if it has one */
    VIRTIO_BLK_PLACE_WANTS_MAIN,    /* leaves the ring alone until moved */
    VIRTIO_BLK_PLACE_MAIN,      /* the main loop, until the driver resets it */
} VirtIOBlkPlace;

/* Memory for what comes next, see virtio-blk-segments.c. */
typedef enum VirtIOBlkSupply {
    VIRTIO_BLK_SUPPLY_ENOUGH,
    VIRTIO_BLK_SUPPLY_SHORT,        /* take nothing */
    VIRTIO_BLK_SUPPLY_SHORT_LOOK,   /* and look at the ring when that ends */
} VirtIOBlkSupply;

struct VirtIOBlkQueue {
    BlockQueue common;          /* first: a VirtIOBlkQueue is a BlockQueue */

    /* Written by control while quiesced. */
    VirtIOBlock *dev;
    VirtIODevice *vdev;
    BlockBackend *blk;
    VirtQueue *vq;
    EventNotifier *guest_notifier;  /* NULL: kicks and interrupts are calls */
    EventNotifier kick;         /* a copy of the VirtQueue's host notifier */
    VirtIOBlkReader reader;
    VirtIOBlkPlace place;       /* atomic: the owner asks for the main loop */
    bool restart;               /* atomic: run the held requests again */

    /* The owner's. */
    VirtIOBlkSupply supply;
    bool flush_pending;
    bool gathering;             /* a batch is taken: it submits @run at its end */
    bool direct_irq;            /* in the main loop: raise it by a call */
    VirtIOBlkRequest *done;     /* answered, not yet given back */
    VirtIOBlkRequest *held;     /* failed, to be tried again; BQL if settled */
    VirtIOBlkRun run;
    BlockSlab requests;
    VirtIOBlkSegments segments[VIRTIO_BLK_SEGMENTS_SIZES];
    VRing ring;
} QEMU_ALIGNED(BLOCK_QUEUE_ALIGN);

/* virtio-blk-queue.c: a queue at work */

extern const BlockQueueOps virtio_blk_queue_ops;

/**
 * virtio_blk_queue_handle_output: a kick that came as a call, main loop.
 */
void virtio_blk_queue_handle_output(VirtIOBlkQueue *q);

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

/* virtio-blk-fault.c: a driver that breaks the rules */

/** virtio_blk_id: what the user calls the device, or NULL.  BQL */
const char *virtio_blk_id(VirtIODevice *vdev);

/**
 * virtio_blk_queue_fault: stop the queue for good, the driver broke the rules.
 *
 * One line names device, queue and @what; the device needs a reset (VIRTIO
 * 1.2, 2.1.1).  Owner thread.
 */
void virtio_blk_queue_fault(VirtIOBlkQueue *q, const char *what);

/* virtio-blk-request.c: one request */

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

/**
 * virtio_blk_request_parse: header, status and data (VIRTIO 1.2, 5.2.6).
 *
 * Returns NULL, or a constant text naming what the driver did wrong.
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
 * virtio_blk_request_recheck: submit @req anew, having asked for the capacity.
 *
 * For a request that seems to lie beyond the end of the disk.  Returns false
 * if that was done before.  Owner thread.
 */
bool virtio_blk_request_recheck(VirtIOBlkRequest *req);

/**
 * virtio_blk_request_is_beyond: has @req failed since the disk is smaller now?
 * @bytes: that it reads, writes or discards
 */
bool coroutine_fn virtio_blk_request_is_beyond(VirtIOBlkRequest *req, int ret,
                                               uint64_t bytes);

/* virtio-blk-segments.c: memory for lists of segments */

/** virtio_blk_segments_init: make the slabs of a new queue.  BQL. */
void virtio_blk_segments_init(VirtIOBlkQueue *q);

/**
 * virtio_blk_segments_set_max: bound the slabs.
 * @all: have a list for every request that a ring can hold
 *
 * BQL, queue quiesced.
 */
void virtio_blk_segments_set_max(VirtIOBlkQueue *q, bool all);

/** virtio_blk_segments_cleanup: free them; all lists have come back.  BQL. */
void virtio_blk_segments_cleanup(VirtIOBlkQueue *q);

/**
 * virtio_blk_segments_get: a list of @n segments, 2 * VRING_MAX_SEGMENTS at
 * most.
 * @size: set to the slab's number, for virtio_blk_segments_put()
 *
 * Returns NULL when there is none, which does not happen while the queue is
 * not starved.  Owner thread.
 */
struct iovec *virtio_blk_segments_get(VirtIOBlkQueue *q, unsigned n,
                                      uint8_t *size);

/**
 * virtio_blk_segments_put: give a list back.
 *
 * If the queue was starved it goes on in a bottom half.  Owner thread, or
 * control with the queue quiesced.
 */
void virtio_blk_segments_put(VirtIOBlkQueue *q, struct iovec *iov,
                             uint8_t size);

/* virtio-blk-zoned.c: zone commands, run in the request's coroutine */

/**
 * virtio_blk_zone_command: serve a zone command.
 *
 * Returns the status for the driver (VIRTIO 1.2, 5.2.6.2); *@fault is set to
 * a constant text when the driver's buffers make an answer impossible.
 */
uint8_t coroutine_fn virtio_blk_zone_command(VirtIOBlkRequest *req,
                                             const char **fault);

/** virtio_blk_zone_config: the zoned part of the config space.  BQL. */
void virtio_blk_zone_config(VirtIOBlock *s, struct virtio_blk_config *config);

/* virtio-blk-control.c: start, stop, drain, reset.  All under the BQL. */

extern const BlockDevOps virtio_blk_dev_ops;

/**
 * virtio_blk_queues_init: make the queues, with their IOThreads; none listens.
 *
 * Returns false with @errp set, and nothing made, when the properties ask for
 * IOThreads that there are not or that kicks could not reach.
 */
bool virtio_blk_queues_init(VirtIOBlock *s, Error **errp);

/** virtio_blk_queues_cleanup: undo that, with the queues stopped. */
void virtio_blk_queues_cleanup(VirtIOBlock *s);

/**
 * virtio_blk_vm_runs: may rings be read?
 *
 * They are not read while the VM is stopped or an incoming migration has not
 * ended.  What the driver adds meanwhile is found when the VM goes on.
 */
bool virtio_blk_vm_runs(void);

/** virtio_blk_set_life: let the device's life go on to @to. */
void virtio_blk_set_life(VirtIOBlock *s, VirtIOBlkLife to);

/**
 * virtio_blk_start_queues: serve the rings, as the device's life says.
 *
 * Does nothing while the VM is stopped.
 */
void virtio_blk_start_queues(VirtIOBlock *s);

/** virtio_blk_stop_queues: end all work and give the rings back. */
void virtio_blk_stop_queues(VirtIOBlock *s);

/** virtio_blk_start_calls: serve a device whose kicks are calls. */
void virtio_blk_start_calls(VirtIOBlock *s);

/** virtio_blk_stop_calls: end that, if it is how the device is served. */
void virtio_blk_stop_calls(VirtIOBlock *s);

/** virtio_blk_start_late: take rings set up since the start into use. */
void virtio_blk_start_late(VirtIOBlock *s);

/**
 * virtio_blk_renew_rings: have the main loop attach rings anew that are not
 * current, see virtio_blk_ring_is_current().  Any thread.
 */
void virtio_blk_renew_rings(VirtIOBlock *s);

/**
 * virtio_blk_any_held: are there failed requests that wait for the VM to go on?
 * While it is stopped.
 */
bool virtio_blk_any_held(VirtIOBlock *s);

/** virtio_blk_serve_in_main: take over the queues that want the main loop. */
void virtio_blk_serve_in_main(VirtIOBlock *s);

/* The rest is called by the base. */

/** virtio_blk_reset: VirtioDeviceClass.reset; drops requests held back. */
void virtio_blk_reset(VirtIODevice *vdev);

/** virtio_blk_queue_reset: VirtioDeviceClass.queue_reset, of queue @n. */
void virtio_blk_queue_reset(VirtIODevice *vdev, uint32_t n);

/** virtio_blk_queue_enable: VirtioDeviceClass.queue_enable, of queue @n. */
void virtio_blk_queue_enable(VirtIODevice *vdev, uint32_t n);

/** virtio_blk_vm_state_change: VMChangeStateHandler; runs what was held. */
void virtio_blk_vm_state_change(void *opaque, bool running, RunState state);

/*
 * virtio-blk-ring.c: which reader a ring has, and which thread.  BQL, with the
 * queue quiesced unless told otherwise.
 */

/** virtio_blk_ring_is_set: has the driver told where the ring is?  Always. */
bool virtio_blk_ring_is_set(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_start: take the ring up from what the driver has configured.
 *
 * Does nothing for a ring that is up already or not there.  May move the queue.
 */
void virtio_blk_ring_start(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_hand_over: give the base's VirtQueue the position in the
 * ring, which stays in use.
 */
void virtio_blk_ring_hand_over(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_attach: choose a reader and give it the position.
 *
 * May move the queue to the main loop.
 */
void virtio_blk_ring_attach(VirtIOBlkQueue *q);

/** virtio_blk_ring_detach: let go of the ring; its position is forgotten. */
void virtio_blk_ring_detach(VirtIOBlkQueue *q);

/**
 * virtio_blk_ring_is_current: false if the driver has told other addresses or
 * features since the ring was attached.
 *
 * Drivers reset the device or the queue first, but early firmware and old
 * drivers negotiate when they have kicked already.  Owner thread or BQL.
 */
bool virtio_blk_ring_is_current(VirtIOBlkQueue *q);

/** virtio_blk_ring_is_direct: could our reader have it in @view?  Always. */
bool virtio_blk_ring_is_direct(VirtIOBlkQueue *q, const RingView *view);

/** virtio_blk_queue_move_home: to the thread where the queue belongs now. */
void virtio_blk_queue_move_home(VirtIOBlkQueue *q);

/** virtio_blk_queue_drop_held: forget the failed requests, unanswered. */
void virtio_blk_queue_drop_held(VirtIOBlkQueue *q);

/* virtio-blk-ioeventfd.c: kicks and interrupts by eventfd.  BQL */

/** virtio_blk_place_node: have the node beside queue 0, if that can be. */
void virtio_blk_place_node(VirtIOBlock *s);

/** virtio_blk_handle_output: VirtIOHandleOutput, a kick that is a call. */
void virtio_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq);

/**
 * virtio_blk_start_ioeventfd: VirtioDeviceClass.start_ioeventfd; starts the
 * queues.  Returns -ENOSYS when kicks remain calls.
 */
int virtio_blk_start_ioeventfd(VirtIODevice *vdev);

/** virtio_blk_stop_ioeventfd: VirtioDeviceClass.stop_ioeventfd. */
void virtio_blk_stop_ioeventfd(VirtIODevice *vdev);

/* virtio-blk-migration.c.  BQL, queues settled. */

/** virtio_blk_pre_save: hand the positions in the rings to the base. */
int virtio_blk_pre_save(void *opaque);

/** virtio_blk_save_device: VirtioDeviceClass.save, the held requests. */
void virtio_blk_save_device(VirtIODevice *vdev, QEMUFile *f);

/**
 * virtio_blk_load_device: VirtioDeviceClass.load.
 *
 * Returns -EINVAL, with one line said, for a stream that cannot be.
 */
int virtio_blk_load_device(VirtIODevice *vdev, QEMUFile *f, int version_id);

/* virtio-blk-query.c */

/**
 * virtio_blk_queue_sync: VirtioDeviceClass.queue_sync, of queue @n.
 *
 * Tells the VirtQueue where our ring reader is, which goes on meanwhile.
 * Waits for the owner thread, but for no request.  BQL, main loop thread.
 */
void virtio_blk_queue_sync(VirtIODevice *vdev, uint32_t n);

#endif /* HW_BLOCK_VIRTIO_BLK_QUEUE_H */
