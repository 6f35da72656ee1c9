/*
 * virtio-blk: start, stop, reset
 *
 *    the device (virtio-blk.h)          its queues (block-queue-state.h)
 *    served by notifiers or calls       no ring, running, faulted
 *    stopped, starting, stopping        stopped, faulted and stopped
 *
 * While a queue runs, its position in the ring is ours (vring.h); on every
 * stop it goes back to virtio.c's VirtQueue, so that the migration stream and
 * what looks at the VirtQueue need no change.  Everything runs under the BQL
 * and reaches a queue's owner thread only by block_queue_quiesce_begin/end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/virtio/virtio-bus.h"
#include "system/runstate.h"
#include "trace/trace-qemu_mq_hw_block.h"
#include "virtio-blk-control.h"

bool virtio_blk_vm_runs(void)
{
    return runstate_is_live(runstate_get());
}

/* Start the queue.  It listens for kicks once nobody has quiesced it. */
static void queue_start(VirtIOBlkQueue *q)
{
    bool notifiers = q->dev->common.state == BLOCK_QUEUE_DEVICE_NOTIFIERS;

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
    virtio_blk_queue_update_context(q);
    virtio_blk_ring_start(q);
    block_queue_quiesce_end(&q->common);
}

static void queue_stop(VirtIOBlkQueue *q)
{
    if (!block_queue_stopped(&q->common)) {
        /* A stopped queue stays quiesced until queue_start() ends this. */
        block_queue_quiesce_begin(&q->common);
        virtio_blk_ring_hand_over(q);
        virtio_blk_ring_detach(q);
        block_queue_event(&q->common, BLOCK_QUEUE_STOP);
        qatomic_set(&q->restart, VIRTIO_BLK_RESTART_NONE);
    }
}

/* Start rings that the driver has set up after the device was started. */
void virtio_blk_start_new_rings(VirtIOBlock *s)
{
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);

        if (block_queue_state(&q->common) == BLOCK_QUEUE_NO_RING &&
            virtio_blk_ring_is_set(q)) {
            /* Without a ring there is no request: this waits for none. */
            block_queue_quiesce_begin(&q->common);
            block_queue_quiesce_wait(&q->common);
            virtio_blk_ring_start(q);
            block_queue_quiesce_end(&q->common);
        }
    }
}

/* Warn only once for each device, because a driver may cause this often. */
static void warn_of_main_loop(VirtIOBlkQueue *q)
{
    if (!q->dev->warned_of_main_loop) {
        q->dev->warned_of_main_loop = true;
        warn_report("%s: the driver uses memory that is not RAM; the queue is "
                    "served by the main loop until a reset", q->common.name);
    }
}

/* Take over the queues that only the main loop can serve. */
static void move_to_main_loop(VirtIOBlock *s)
{
    bool any = false;

    for (unsigned i = 0; i < s->common.num_queues; i++) {
        any |= qatomic_read(&virtio_blk_get_queue(s, i)->place) ==
               VIRTIO_BLK_PLACE_WANTS_MAIN;
    }
    if (!any) {
        return;
    }
    block_queue_device_quiesce(&s->common);
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);

        if (q->place == VIRTIO_BLK_PLACE_WANTS_MAIN) {
            warn_of_main_loop(q);
            q->place = VIRTIO_BLK_PLACE_MAIN;
            virtio_blk_queue_update_context(q);
        }
    }
    block_queue_device_quiesce_end(&s->common);
}

/* Do what queues have asked for in their threads. */

static void virtio_blk_queues_bh(void *opaque)
{
    VirtIOBlock *s = opaque;
    Object *parent = block_queue_device_ref(&s->common);

    move_to_main_loop(s);
    virtio_blk_start_new_rings(s);
    block_queue_device_unref(&s->common, parent);
}

static void queue_look_at_queues(VirtIOBlkQueue *q)
{
    qemu_bh_schedule(q->dev->queues_bh);
}

static void queue_look_at_rings(VirtIOBlkQueue *q)
{
    /* The kick has been used up, and the ring may be the old one again. */
    qatomic_set(&q->dev->look_at_rings, true);
    virtio_blk_schedule_ring_check(q->dev);
}

static const VirtIOBlkControlOps queue_control_ops = {
    .look_at_queues = queue_look_at_queues,
    .look_at_rings = queue_look_at_rings,
};

/*
 * Guest memory has changed, or the driver has set a ring up once more.  Check
 * whether each ring still has the right reader.
 */

static bool reader_is_right(VirtIOBlkQueue *q, const RingView *view)
{
    switch (block_queue_state(&q->common)) {
    case BLOCK_QUEUE_RUNNING:
        return virtio_blk_queue_is_native(q) ==
               virtio_blk_ring_can_be_native(q, view) &&
               virtio_blk_ring_is_current(q);
    case BLOCK_QUEUE_FAULTED:
        /* A queue that reads no ring must not keep old memory alive. */
        return q->reader == VIRTIO_BLK_READER_NONE;
    default:
        return true;
    }
}

static bool readers_are_right(VirtIOBlock *s, const RingView *view)
{
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        if (!reader_is_right(virtio_blk_get_queue(s, i), view)) {
            return false;
        }
    }
    return true;
}

/* Replace the wrong readers of queues that are quiesced. */
static void change_readers(VirtIOBlock *s, const RingView *view)
{
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);

        if (!reader_is_right(q, view)) {
            virtio_blk_ring_hand_over(q);
            virtio_blk_ring_detach(q);
            if (block_queue_running(&q->common)) {
                virtio_blk_ring_attach(q);
            }
        }
    }
}

/* Follow a change of memory.  Another change meanwhile calls this again. */
static void virtio_blk_memory_bh(void *opaque)
{
    VirtIOBlock *s = opaque;
    Object *parent;
    RingView *view;

    if (!s->view_source) {
        return;
    }
    parent = block_queue_device_ref(&s->common);
    view = ring_view_source_acquire(s->view_source);
    if (!readers_are_right(s, view)) {
        block_queue_device_quiesce(&s->common);
        if (s->view_source) {
            change_readers(s, view);
        }
        block_queue_device_quiesce_end(&s->common);
    }
    ring_view_unref(view);

    if (qatomic_xchg(&s->look_at_rings, false)) {
        for (unsigned i = 0; i < s->common.num_queues; i++) {
            block_queue_look(&virtio_blk_get_queue(s, i)->common);
        }
    }
    block_queue_device_unref(&s->common, parent);
}

/* Called within a memory transaction, so this must not wait. */
static void virtio_blk_memory_changed(void *opaque, bool gone)
{
    VirtIOBlock *s = opaque;

    if (gone) {
        /* Idle queues, too, have to release the old view. */
        qatomic_set(&s->look_at_rings, true);
    }
    qemu_bh_schedule(s->memory_bh);
}

static void virtio_blk_set_capacity(VirtIOBlock *s)
{
    qatomic_set(&s->nr_sectors,
                virtio_blk_capacity(s, blk_getlength(s->blk)));
}

void virtio_blk_schedule_ring_check(VirtIOBlock *s)
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
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        queue_start(virtio_blk_get_queue(s, i));
    }
}

void virtio_blk_stop_queues(VirtIOBlock *s)
{
    if (!s->view_source) {
        return;
    }
    block_queue_device_quiesce(&s->common);
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        queue_stop(virtio_blk_get_queue(s, i));
    }
    block_queue_device_quiesce_end(&s->common);
    ring_view_source_free(s->view_source);
    s->view_source = NULL;
}

void virtio_blk_start_calls(VirtIOBlock *s)
{
    if (s->common.state == BLOCK_QUEUE_DEVICE_STOPPED) {
        block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_CALLS);
        virtio_blk_start_queues(s);
    }
}

void virtio_blk_stop_calls(VirtIOBlock *s)
{
    if (s->common.state == BLOCK_QUEUE_DEVICE_CALLS) {
        virtio_blk_stop_queues(s);
        block_queue_device_set_state(&s->common, BLOCK_QUEUE_DEVICE_STOPPED);
    }
}

/* Forget what this driver has caused, because the next one begins anew. */
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
    assert(s->common.state == BLOCK_QUEUE_DEVICE_STOPPED);
    blk_drain(s->blk);
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        queue_forget_driver(virtio_blk_get_queue(s, i));
    }
    blk_set_enable_write_cache(s->blk, s->original_wce);
}

/* Reset and re-enable of one queue (VIRTIO 1.2, 2.6.1) */

void virtio_blk_queue_reset(VirtIODevice *vdev, uint32_t n)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);
    VirtIOBlkQueue *q;

    if (n >= s->common.num_queues) {
        return;     /* the transport passes on whatever the driver selects */
    }
    q = virtio_blk_get_queue(s, n);
    block_queue_device_quiesce(&s->common);

    /*
     * A move runs bottom halves, which may start rings that are down.  The
     * transport has not forgotten this one yet, so it goes down afterwards.
     */
    virtio_blk_queue_drop_held(q);
    q->place = VIRTIO_BLK_PLACE_OWN;
    virtio_blk_queue_update_context(q);
    queue_forget_driver(q);
    block_queue_device_quiesce_end(&s->common);
}

void virtio_blk_queue_enable(VirtIODevice *vdev, uint32_t n)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    virtio_blk_start_new_rings(s);
    virtio_blk_schedule_ring_check(s);
}

static void virtio_blk_resized(BlockQueueDevice *common)
{
    VirtIOBlock *s = container_of(common, VirtIOBlock, common);

    virtio_blk_set_capacity(s);
    virtio_notify_config(VIRTIO_DEVICE(s));
}

bool virtio_blk_any_held(VirtIOBlock *s)
{
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        if (virtio_blk_get_queue(s, i)->held) {
            return true;
        }
    }
    return false;
}

static void queue_ask_to_restart(VirtIOBlkQueue *q)
{
    VirtIOBlkRestart restart = VIRTIO_BLK_RESTART_NONE;

    /* A request that fails from now on waits until the VM goes on again. */
    if (q->held) {
        restart = VIRTIO_BLK_RESTART_HELD;
    } else if (block_queue_running(&q->common)) {
        restart = VIRTIO_BLK_RESTART_REMIND;
    }
    qatomic_store_release(&q->restart, restart);
}

/*
 * The VM goes on, and so do the requests whose failure stopped it.  If the
 * driver has started the device, the transport has started the notifiers
 * already.  If it could not, or if the device has none, calls start here.
 */
static void vm_started(VirtIOBlock *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    if (virtio_device_started(vdev, vdev->status) ||
        virtio_blk_any_held(s)) {
        virtio_blk_start_calls(s);
    }
    if (s->common.state == BLOCK_QUEUE_DEVICE_NOTIFIERS) {
        /* The driver has started the device while the VM was stopped. */
        virtio_blk_start_queues(s);
    }
    for (unsigned i = 0; i < s->common.num_queues; i++) {
        VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);

        queue_ask_to_restart(q);
        block_queue_look(&q->common);
    }
}

static void virtio_blk_vm_state_changed(BlockQueueDevice *common, bool running)
{
    VirtIOBlock *s = container_of(common, VirtIOBlock, common);

    if (running) {
        vm_started(s);
    } else {
        /* The transport stops notifiers. */
        virtio_blk_stop_calls(s);
    }
}

static bool virtio_blk_check_iothread(BlockQueueDevice *common, Error **errp)
{
    VirtIOBlock *s = container_of(common, VirtIOBlock, common);
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(qdev_get_parent_bus(DEVICE(s)));

    if (!k->set_guest_notifiers || !k->ioeventfd_assign) {
        error_setg(errp, "device is incompatible with iothread "
                   "(transport does not support notifiers)");
        return false;
    }
    if (common->state == BLOCK_QUEUE_DEVICE_CALLS ||
        !virtio_device_ioeventfd_enabled(VIRTIO_DEVICE(s))) {
        error_setg(errp, "ioeventfd is required for iothread");
        return false;
    }
    return true;
}

/* A queue that has to stay in the main loop moves when it may. */
static void virtio_blk_move_queue(BlockQueueDevice *common, unsigned index)
{
    VirtIOBlock *s = container_of(common, VirtIOBlock, common);

    virtio_blk_queue_update_context(virtio_blk_get_queue(s, index));
}

static bool virtio_blk_in_main_loop(BlockQueueDevice *common, unsigned index)
{
    VirtIOBlock *s = container_of(common, VirtIOBlock, common);

    return common->state == BLOCK_QUEUE_DEVICE_CALLS ||
           virtio_blk_get_queue(s, index)->place == VIRTIO_BLK_PLACE_MAIN;
}

static void virtio_blk_faulted(BlockQueueDevice *common, BlockQueue *queue,
                               const char *what)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(container_of(common, VirtIOBlock,
                                                    common));

    /* The reader of QEMU's virtio.c reports what it finds. */
    if (!vdev->broken) {
        virtio_error(vdev, "%s: %s", queue->name, what);
    }
}

static const BlockQueueDeviceOps virtio_blk_device_ops = {
    .resized = virtio_blk_resized,
    .faulted = virtio_blk_faulted,
    .vm_state_changed = virtio_blk_vm_state_changed,
    .check_iothread = virtio_blk_check_iothread,
    .move_queue = virtio_blk_move_queue,
    .in_main_loop = virtio_blk_in_main_loop,
};

static void queue_create(VirtIOBlock *s, unsigned i)
{
    VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);
    /* A migrated guest may have a ring of any size up to this. */
    unsigned n = VIRTQUEUE_MAX_SIZE;

    block_queue_init(&q->common, s->common.name, i,
                     queue_iothreads_context(&s->common.map, i),
                     &virtio_blk_queue_ops);
    q->dev = s;
    q->control = &queue_control_ops;
    q->vdev = VIRTIO_DEVICE(s);
    q->blk = s->blk;
    q->vq = virtio_get_queue(q->vdev, i);
    block_slab_init(&q->requests, n, sizeof(VirtIOBlkRequest));
    virtio_blk_segments_init(q);
}

bool virtio_blk_queues_init(VirtIOBlock *s, Error **errp)
{
    const char *id = block_queue_device_id(DEVICE(s));
    unsigned n = s->conf.num_queues;

    if (!block_queue_device_realize(&s->common, DEVICE(s), s->blk,
                                    &virtio_blk_device_ops,
                                    &s->conf.iothreads, n,
                                    queue_iothreads_alias(s->blk,
                                                          "virtio-blk"),
                                    g_strdup_printf("virtio-blk '%s'",
                                                    id ?: "(no id)"),
                                    errp)) {
        return false;
    }
    block_queue_device_alloc(&s->common, n, sizeof(VirtIOBlkQueue));
    for (unsigned i = 0; i < n; i++) {
        queue_create(s, i);
        s->common.num_queues++;
    }
    s->queues_bh = qemu_bh_new(virtio_blk_queues_bh, s);
    s->memory_bh = qemu_bh_new(virtio_blk_memory_bh, s);
    return true;
}

static void queue_destroy(BlockQueue *queue)
{
    VirtIOBlkQueue *q = container_of(queue, VirtIOBlkQueue, common);

    assert(block_queue_stopped(&q->common));
    virtio_blk_queue_drop_held(q);
    if (vring_is_set_up(&q->ring)) {
        vring_cleanup(&q->ring);
    }
    block_queue_cleanup(&q->common);
    block_slab_cleanup(&q->requests);
    virtio_blk_segments_cleanup(q);
}

void virtio_blk_queues_cleanup(VirtIOBlock *s)
{
    g_clear_pointer(&s->memory_bh, qemu_bh_delete);
    block_queue_device_free(&s->common, queue_destroy);
    g_clear_pointer(&s->queues_bh, qemu_bh_delete);
    block_queue_device_unrealize(&s->common);
}
