/*
 * virtio-blk: start, stop, drain, reset
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *    the device (virtio-blk.h)          its queues (block-queue-life.h)
 *    notifiers, calls                   no ring, running, faulted
 *    stopped, starting, stopping        stopped, faulted and stopped
 *
 * While a queue runs, its position in the ring is ours (vring.h); on every
 * stop it goes back to the base's VirtQueue, so that the migration stream and
 * all that looks at the VirtQueue stay stock's.  Everything runs under the BQL
 * and reaches a queue's owner thread only by block_queue_quiesce_begin/end.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/virtio/virtio-bus.h"
#include "system/runstate.h"
#include "trace/trace-qemu_mq_hw_block.h"
#include "virtio-blk-queue.h"

bool virtio_blk_vm_runs(void)
{
    return runstate_is_live(runstate_get());
}

/* In the order of VirtIOBlkLife. */
static const struct {
    const char *name;
    unsigned next;              /* states that may follow, a bit each */
} device_life[VIRTIO_BLK_LIFE__MAX] = {
    { "stopped", BIT(VIRTIO_BLK_STARTING) | BIT(VIRTIO_BLK_CALLS) },
    { "starting", BIT(VIRTIO_BLK_NOTIFIERS) | BIT(VIRTIO_BLK_STOPPED) },
    { "served by notifiers", BIT(VIRTIO_BLK_STOPPING) },
    { "stopping", BIT(VIRTIO_BLK_STOPPED) },
    { "served by calls", BIT(VIRTIO_BLK_STOPPED) },
};

void virtio_blk_set_life(VirtIOBlock *s, VirtIOBlkLife to)
{
    assert(device_life[s->life].next & BIT(to));
    trace_virtio_blk_life(s, device_life[s->life].name, device_life[to].name);
    s->life = to;
}

static void virtio_blk_memory_bh(void *opaque);

static void queue_create(VirtIOBlock *s, unsigned i)
{
    VirtIOBlkQueue *q = &s->queues[i];
    /* A migrated guest may have a ring of any size up to this. */
    unsigned n = VIRTQUEUE_MAX_SIZE;

    block_queue_init(&q->common, i, queue_iothreads_context(&s->map, i),
                     &virtio_blk_queue_ops);
    q->dev = s;
    q->vdev = VIRTIO_DEVICE(s);
    q->blk = s->blk;
    q->vq = virtio_get_queue(q->vdev, i);
    block_slab_init(&q->requests, n, sizeof(VirtIOBlkRequest));
    virtio_blk_segments_init(q);
}

bool virtio_blk_queues_init(VirtIOBlock *s, Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    BusState *bus = qdev_get_parent_bus(DEVICE(s));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    const char *alias = queue_iothreads_alias(s->blk, "virtio-blk");

    if (queue_iothreads_wanted(&s->conf.iothreads)) {
        if (!k->set_guest_notifiers || !k->ioeventfd_assign) {
            error_setg(errp, "device is incompatible with iothread "
                       "(transport does not support notifiers)");
            return false;
        }
        if (!virtio_device_ioeventfd_enabled(vdev)) {
            error_setg(errp, "ioeventfd is required for iothread");
            return false;
        }
    }
    if (!queue_iothreads_init(&s->map, &s->conf.iothreads, s->conf.num_queues,
                              virtio_blk_id(vdev), alias, errp)) {
        return false;
    }
    s->queues = block_queue_alloc(s->conf.num_queues, sizeof(VirtIOBlkQueue));
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        queue_create(s, i);
    }
    s->memory_bh = qemu_bh_new(virtio_blk_memory_bh, s);
    return true;
}

void virtio_blk_queues_cleanup(VirtIOBlock *s)
{
    g_clear_pointer(&s->memory_bh, qemu_bh_delete);
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        VirtIOBlkQueue *q = &s->queues[i];

        assert(block_queue_stopped(&q->common));
        virtio_blk_queue_drop_held(q);
        if (vring_is_set_up(&q->ring)) {
            vring_cleanup(&q->ring);
        }
        block_queue_cleanup(&q->common);
        block_slab_cleanup(&q->requests);
        virtio_blk_segments_cleanup(q);
    }
    block_queue_free(s->queues);
    s->queues = NULL;
    queue_iothreads_cleanup(&s->map);
}

/* Listen for kicks as soon as nothing holds the queue quiesced. */
static void queue_start(VirtIOBlkQueue *q)
{
    bool notifiers = q->dev->life == VIRTIO_BLK_NOTIFIERS;

    if (!block_queue_stopped(&q->common)) {
        return;
    }
    q->guest_notifier = notifiers ? virtio_queue_get_guest_notifier(q->vq)
                                  : NULL;
    if (notifiers) {
        q->kick = *virtio_queue_get_host_notifier(q->vq);
    }
    virtio_blk_segments_set_max(q, !notifiers);
    block_queue_event(&q->common, BLOCK_QUEUE_START);
    virtio_blk_queue_move_home(q);
    virtio_blk_ring_start(q);
    block_queue_quiesce_end(&q->common);
}

static void queue_stop(VirtIOBlkQueue *q)
{
    if (!block_queue_stopped(&q->common)) {
        /* Not ended: a stopped queue is quiesced. */
        block_queue_quiesce_begin(&q->common);
        virtio_blk_ring_hand_over(q);
        virtio_blk_ring_detach(q);
        block_queue_event(&q->common, BLOCK_QUEUE_STOP);
        qatomic_set(&q->restart, false);
    }
}

/*
 * Between these two no request is in flight and control may change queues.
 *
 * Only a drain of the backend gets there for sure: a request may wait for a
 * throttling timer, and with the VM stopped no timer runs.  The drain pauses
 * our queues through virtio_blk_dev_ops.
 */
static BlockDriverState *device_pause(VirtIOBlock *s)
{
    BlockDriverState *bs = blk_bs(s->blk);

    if (bs) {
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    }
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        block_queue_quiesce_begin(&s->queues[i].common);
    }
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        block_queue_quiesce_wait(&s->queues[i].common);
    }
    return bs;
}

static void device_resume(VirtIOBlock *s, BlockDriverState *bs)
{
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        block_queue_quiesce_end(&s->queues[i].common);
    }
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

/* Rings that became usable after the device was started. */
void virtio_blk_start_late(VirtIOBlock *s)
{
    /* A bottom half may come behind unrealize(), which frees the queues. */
    for (unsigned i = 0; s->queues && i < s->conf.num_queues; i++) {
        VirtIOBlkQueue *q = &s->queues[i];

        if (block_queue_life(&q->common) == BLOCK_QUEUE_NO_RING &&
            virtio_blk_ring_is_set(q)) {
            /* No ring, no requests: it is quiesced as soon as it looks. */
            block_queue_quiesce_begin(&q->common);
            block_queue_quiesce_wait(&q->common);
            virtio_blk_ring_start(q);
            block_queue_quiesce_end(&q->common);
        }
    }
}

/* Once for each device: a driver may do so as often as it likes. */
static void warn_of_main(VirtIOBlkQueue *q)
{
    const char *id = virtio_blk_id(q->vdev);

    if (!q->dev->served_in_main) {
        q->dev->served_in_main = true;
        warn_report("virtio-blk '%s' queue %u: the driver uses memory that is "
                    "not RAM; the queue is served by the main loop until a "
                    "reset", id ?: "(no id)", q->common.index);
    }
}

void virtio_blk_serve_in_main(VirtIOBlock *s)
{
    BlockDriverState *bs;
    bool any = false;

    /* A bottom half may come behind unrealize(), which frees the queues. */
    for (unsigned i = 0; s->queues && i < s->conf.num_queues; i++) {
        any |= qatomic_read(&s->queues[i].place) ==
               VIRTIO_BLK_PLACE_WANTS_MAIN;
    }
    if (!any) {
        return;
    }
    bs = device_pause(s);
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        VirtIOBlkQueue *q = &s->queues[i];

        if (q->place == VIRTIO_BLK_PLACE_WANTS_MAIN) {
            warn_of_main(q);
            q->place = VIRTIO_BLK_PLACE_MAIN;
            virtio_blk_queue_move_home(q);
        }
    }
    device_resume(s, bs);
}

/*
 * Guest memory has changed: may a ring be read natively now, or no more?  Or
 * the driver has set a ring up once more.
 */

static bool reader_is_right(VirtIOBlkQueue *q, const RingView *view)
{
    switch (block_queue_life(&q->common)) {
    case BLOCK_QUEUE_RUNNING:
        return (q->reader == VIRTIO_BLK_READER_NATIVE) ==
               virtio_blk_ring_is_direct(q, view) &&
               virtio_blk_ring_is_current(q);
    case BLOCK_QUEUE_FAULTED:
        /* It reads its ring no more and must not keep old memory alive. */
        return q->reader == VIRTIO_BLK_READER_NONE;
    default:
        return true;
    }
}

static bool readers_are_right(VirtIOBlock *s, const RingView *view)
{
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        if (!reader_is_right(&s->queues[i], view)) {
            return false;
        }
    }
    return true;
}

/* With the device paused. */
static void change_readers(VirtIOBlock *s, const RingView *view)
{
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        VirtIOBlkQueue *q = &s->queues[i];

        if (!reader_is_right(q, view)) {
            virtio_blk_ring_hand_over(q);
            virtio_blk_ring_detach(q);
            if (block_queue_running(&q->common)) {
                virtio_blk_ring_attach(q);
            }
        }
    }
}

/* The memory may change while this waits: then it is called once more. */
static void virtio_blk_memory_bh(void *opaque)
{
    VirtIOBlock *s = opaque;
    RingView *view;

    if (!s->view_source) {
        return;
    }
    view = ring_view_source_acquire(s->view_source);
    if (!readers_are_right(s, view)) {
        BlockDriverState *bs = device_pause(s);

        if (s->view_source) {
            change_readers(s, view);
        }
        device_resume(s, bs);
    }
    ring_view_unref(view);

    for (unsigned i = 0; s->memory_gone && i < s->conf.num_queues; i++) {
        /* An idle queue, too, lets go of it. */
        block_queue_look(&s->queues[i].common);
    }
    s->memory_gone = false;
}

/* Called in the middle of a memory transaction: no waiting here. */
static void virtio_blk_memory_changed(void *opaque, bool gone)
{
    VirtIOBlock *s = opaque;

    s->memory_gone |= gone;
    qemu_bh_schedule(s->memory_bh);
}

static void virtio_blk_set_capacity(VirtIOBlock *s)
{
    qatomic_set(&s->nb_sectors,
                virtio_blk_capacity(s, blk_getlength(s->blk)));
}

void virtio_blk_renew_rings(VirtIOBlock *s)
{
    qemu_bh_schedule(s->memory_bh);
}

void virtio_blk_start_queues(VirtIOBlock *s)
{
    if (!virtio_blk_vm_runs()) {
        return;
    }
    if (!s->view_source) {
        s->view_source = ring_view_source_new(VIRTIO_DEVICE(s)->dma_as,
                                              virtio_blk_memory_changed, s);
    }
    virtio_blk_set_capacity(s);
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        queue_start(&s->queues[i]);
    }
}

void virtio_blk_stop_queues(VirtIOBlock *s)
{
    BlockDriverState *bs;

    if (!s->view_source) {
        return;
    }
    bs = device_pause(s);
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        queue_stop(&s->queues[i]);
    }
    device_resume(s, bs);
    ring_view_source_free(s->view_source);
    s->view_source = NULL;
}

void virtio_blk_start_calls(VirtIOBlock *s)
{
    if (s->life == VIRTIO_BLK_STOPPED) {
        virtio_blk_set_life(s, VIRTIO_BLK_CALLS);
        virtio_blk_start_queues(s);
    }
}

void virtio_blk_stop_calls(VirtIOBlock *s)
{
    if (s->life == VIRTIO_BLK_CALLS) {
        virtio_blk_stop_queues(s);
        virtio_blk_set_life(s, VIRTIO_BLK_STOPPED);
    }
}

/* The next driver begins anew: forget what this one has caused. */
static void queue_forget_driver(VirtIOBlkQueue *q)
{
    virtio_blk_ring_detach(q);
    virtio_blk_queue_drop_held(q);
    block_slab_cleanup(&q->requests);
    virtio_blk_segments_cleanup(q);
    q->place = VIRTIO_BLK_PLACE_OWN;
    block_queue_event(&q->common, BLOCK_QUEUE_RING_DOWN);
}

void virtio_blk_reset(VirtIODevice *vdev)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    virtio_blk_stop_calls(s);
    assert(s->life == VIRTIO_BLK_STOPPED);
    blk_drain(s->blk);
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        queue_forget_driver(&s->queues[i]);
    }
    blk_set_enable_write_cache(s->blk, s->original_wce);
}

/* Reset and re-enable of one queue (VIRTIO 1.2, 2.6.1) */

void virtio_blk_queue_reset(VirtIODevice *vdev, uint32_t n)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    BlockDriverState *bs;

    if (n >= s->conf.num_queues) {
        return;     /* the transport passes on whatever the driver selects */
    }
    bs = device_pause(s);
    queue_forget_driver(&s->queues[n]);
    virtio_blk_queue_move_home(&s->queues[n]);
    device_resume(s, bs);
}

void virtio_blk_queue_enable(VirtIODevice *vdev, uint32_t n)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    virtio_blk_start_late(s);
    virtio_blk_renew_rings(s);
}

/* Drain: the block layer must not see a new request until it says so. */

static void virtio_blk_drained_begin(void *opaque)
{
    VirtIOBlock *s = opaque;

    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        block_queue_quiesce_begin(&s->queues[i].common);
    }
}

static bool virtio_blk_drained_poll(void *opaque)
{
    VirtIOBlock *s = opaque;

    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        if (!block_queue_quiesced(&s->queues[i].common)) {
            return true;
        }
    }
    return false;
}

static void virtio_blk_drained_end(void *opaque)
{
    VirtIOBlock *s = opaque;

    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        block_queue_quiesce_end(&s->queues[i].common);
    }
}

static void virtio_blk_resize_bh(void *opaque)
{
    VirtIOBlock *s = opaque;

    if (s->queues) {
        virtio_blk_set_capacity(s);
        virtio_notify_config(VIRTIO_DEVICE(s));
    }
    object_unref(OBJECT(s));
}

/* May be called in any thread; config interrupts belong to the main loop. */
static void virtio_blk_resize(void *opaque)
{
    object_ref(OBJECT(opaque));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), virtio_blk_resize_bh,
                            opaque);
}

const BlockDevOps virtio_blk_dev_ops = {
    .resize_cb = virtio_blk_resize,
    .drained_begin = virtio_blk_drained_begin,
    .drained_poll = virtio_blk_drained_poll,
    .drained_end = virtio_blk_drained_end,
};

bool virtio_blk_any_held(VirtIOBlock *s)
{
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        if (s->queues[i].held) {
            return true;
        }
    }
    return false;
}

/*
 * The VM goes on: so do the requests that failed and stopped it.  Notifiers
 * the transport has started by now, if the driver has; what it could not, or
 * what has no notifiers, starts here.
 */
static void vm_goes_on(VirtIOBlock *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    if (virtio_device_started(vdev, vdev->status) ||
        virtio_blk_any_held(s)) {
        virtio_blk_start_calls(s);
    }
    if (s->life == VIRTIO_BLK_NOTIFIERS) {
        /* The driver has started the device while the VM was stopped. */
        virtio_blk_start_queues(s);
    }
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        VirtIOBlkQueue *q = &s->queues[i];

        qatomic_set(&q->restart, q->held != NULL);
        block_queue_look(&q->common);
    }
}

void virtio_blk_vm_state_change(void *opaque, bool running, RunState state)
{
    VirtIOBlock *s = opaque;

    if (running) {
        vm_goes_on(s);
    } else {
        /* Notifiers are stopped by the transport. */
        virtio_blk_stop_calls(s);
    }
}

bool virtio_blk_set_queue_iothread(VirtIOBlock *s, unsigned queue,
                                   IOThread *iothread, Error **errp)
{
    BlockDriverState *bs;
    IOThread *old;

    assert(queue < s->conf.num_queues);
    if (iothread && (s->life == VIRTIO_BLK_CALLS ||
                     !virtio_device_ioeventfd_enabled(VIRTIO_DEVICE(s)))) {
        error_setg(errp, "ioeventfd is required for iothread");
        return false;
    }
    bs = device_pause(s);
    old = queue_iothreads_set(&s->map, queue, iothread);
    /* A queue that has to stay in the main loop moves when it may. */
    virtio_blk_queue_move_home(&s->queues[queue]);
    device_resume(s, bs);
    if (queue == 0 && s->life == VIRTIO_BLK_NOTIFIERS) {
        virtio_blk_place_node(s);
    }
    object_unref(OBJECT(old));
    return true;
}
