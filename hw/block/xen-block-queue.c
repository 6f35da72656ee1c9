/*
 * One queue of a Xen PV disk at work: take, submit, complete, notify
 *
 *     event or poll --> process --> take --> batch --> submit
 *                          |                             |
 *                          |          requests end here or later, in done
 *                          v                             |
 *                    end of the deferred section --> flush: answer all,
 *                                                    publish, notify
 *
 * Requests that end together are answered together.  The first one defers the
 * flush to the end of the current defer_call() section.  That is the section of
 * queue_process() if the block driver completes at once, or else the section of
 * the AIO engine's completion handler.
 *
 * Indices run freely and are compared by subtraction.  The frontend may write
 * any index in the ring at any time, also that of the backend.  So the backend
 * remembers its own index and never reads it back.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/defer-call.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "xen-block-io.h"
#include "trace/trace-qemu_mq_hw_block.h"

static uint8_t *ring_slot(XenBlockQueue *q, RING_IDX index)
{
    return q->slots + (index & (q->size - 1)) * q->layout->slot_size;
}

/* Return the number of entries that the frontend has filled, not taken yet. */
static unsigned ring_pending(XenBlockQueue *q)
{
    return qatomic_read(&q->sring->req_prod) - q->req_cons;
}

static bool queue_may_take(XenBlockQueue *q)
{
    return block_queue_listening(&q->common) &&
           block_queue_running(&q->common) && !q->waiting &&
           !q->barrier && !q->nr_unplaced;
}

static void ring_break(XenBlockQueue *q, RING_IDX req_prod)
{
    trace_xen_block_queue_bad_index(q->common.name, req_prod, q->req_cons);
    block_queue_device_fault(q->disk->device, &q->common,
                             "request index is beyond the ring");
}

static void queue_report_fault(XenBlockQueue *q, XenBlockRequest *r)
{
    trace_xen_block_request_fault(q->common.name, r->req.operation,
                                  xen_blkif_fault_text(r->fault));
    if (!q->fault_reported) {
        q->fault_reported = true;
        if (!xen_guest_log_may_say(&q->disk->domain->log)) {
            return;
        }
        error_report("%s: %s (operation %u)", q->common.name,
                     xen_blkif_fault_text(r->fault), r->req.operation);
    }
}

/* Get room for many segments.  Returns false if all of it is in use. */
static bool request_attach_indirect(XenBlockRequest *r)
{
    r->indirect = block_slab_get(&r->q->indirects);
    if (!r->indirect) {
        return false;
    }
    r->segs = r->indirect->segs;
    r->iov = r->indirect->iov;
    r->grants = r->indirect->grants;
    r->q->batch_has_indirect = true;
    return true;
}

/* Take one entry.  Returns false if it and all later ones have to wait. */
static bool ring_take_one(XenBlockQueue *q)
{
    XenBlockRequest *r = block_slab_get(&q->requests);

    /* There are as many requests as slots, and used slots were checked. */
    r->q = q;
    r->ret = 0;
    r->segs = r->direct_segs;
    r->iov = r->direct_iov;
    r->grants = r->direct_grants;
    r->indirect = NULL;
    r->bounce = NULL;
    r->nr_grants = 0;
    r->acct.type = BLOCK_ACCT_NONE;
    r->fault = xen_blkif_decode(q->layout, ring_slot(q, q->req_cons),
                                &q->disk->limits, &r->req, r->segs);
    q->req_cons++;
    block_queue_request_begin(&q->common);

    if (unlikely(r->fault)) {
        xen_block_io_done(r);
        return true;
    }
    if (unlikely(r->req.action == XEN_BLKIF_BARRIER ||
                 (r->req.nr_indirect && !request_attach_indirect(r)))) {
        q->waiting = r;
        return false;
    }
    q->batch[q->nr_batch++] = r;
    return true;
}

/* Fill the batch with all that the ring offers. */
static void ring_take(XenBlockQueue *q)
{
    RING_IDX req_prod = qatomic_load_acquire(&q->sring->req_prod);
    unsigned n = req_prod - q->req_cons;
    unsigned unanswered = q->req_cons - q->rsp_prod;

    /* This also catches an index that went backwards: @n is huge then. */
    if (unlikely(n > q->size - unanswered)) {
        ring_break(q, req_prod);
        return;
    }
    while (n-- && ring_take_one(q)) {
        /* next */
    }
}

static void queue_submit(XenBlockQueue *q)
{
    if (!q->nr_batch) {
        return;
    }
    block_queue_count(&q->common.stats.requests, q->nr_batch);
    block_queue_count(&q->common.stats.batches, 1);
    trace_xen_block_queue_batch(q->common.name, q->nr_batch);

    xen_block_io_prepare(q);
    xen_block_io_submit(q);
}

/* Run requests that wait for buffers.  Return false if some still wait. */
static bool queue_submit_unplaced(XenBlockQueue *q)
{
    xen_block_io_place(q);
    trace_xen_block_queue_wait(q->common.name, q->nr_unplaced);
    if (!q->nr_batch) {
        return false;
    }
    xen_block_io_submit(q);
    return true;
}

/*
 * Return whether the waiting request can start.  A barrier waits until all
 * others are answered.
 */
static bool waiting_can_start(XenBlockQueue *q)
{
    XenBlockRequest *r = q->waiting;

    if (r->req.action == XEN_BLKIF_BARRIER) {
        return q->req_cons - q->rsp_prod == 1;
    }
    return request_attach_indirect(r);
}

static void queue_start_waiting(XenBlockQueue *q)
{
    XenBlockRequest *r = q->waiting;

    q->waiting = NULL;
    if (r->req.action == XEN_BLKIF_BARRIER) {
        q->barrier = r;
    }
    q->batch[q->nr_batch++] = r;
    queue_submit(q);
}

/* Ask for an event on the next request.  Return false if it has come. */
static bool ring_rearm(XenBlockQueue *q)
{
    qatomic_set(&q->sring->req_event, q->req_cons + 1);
    /* The frontend sees req_event before the backend reads req_prod. */
    smp_mb();
    return !ring_pending(q);
}

/* Do one step of the work.  Return false if there is nothing to do now. */
static bool queue_step(XenBlockQueue *q)
{
    if (unlikely(q->nr_unplaced)) {
        return queue_submit_unplaced(q);
    }
    if (unlikely(q->waiting)) {
        if (!waiting_can_start(q)) {
            return false;
        }
        queue_start_waiting(q);
        return true;
    }
    if (!queue_may_take(q)) {
        return false;
    }
    if (!ring_pending(q)) {
        return !q->polling && !ring_rearm(q);
    }
    ring_take(q);
    queue_submit(q);
    return true;
}

static void queue_process(XenBlockQueue *q)
{
    defer_call_begin();
    while (queue_step(q)) {
        /* more */
    }
    defer_call_end();
}

static void ring_publish(XenBlockQueue *q, unsigned nr_responses)
{
    RING_IDX rsp_prod = q->rsp_prod + nr_responses;
    RING_IDX rsp_event;

    q->rsp_prod = rsp_prod;
    /* The frontend sees the responses before the index... */
    qatomic_store_release(&q->sring->rsp_prod, rsp_prod);
    /* ...and the index before we read what it waits for. */
    smp_mb();
    rsp_event = qatomic_read(&q->sring->rsp_event);
    if (rsp_prod - rsp_event < nr_responses) {
        block_queue_count(&q->common.stats.notifications, 1);
        qemu_xen_evtchn_notify(q->channel, q->port);
    }
}

/* Answer all that is done, with one index update and at most one event. */
static void queue_flush(void *opaque)
{
    XenBlockQueue *q = opaque;
    unsigned n = q->nr_done;

    if (!n) {
        return;
    }
    xen_block_io_finish(q);
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = q->done[i];

        xen_blkif_encode_response(ring_slot(q, q->rsp_prod + i), &r->req,
                                  r->status);
        if (unlikely(r->fault)) {
            queue_report_fault(q, r);
        }
        if (unlikely(r->indirect)) {
            block_slab_put(&q->indirects, r->indirect);
        }
        if (unlikely(r == q->barrier)) {
            q->barrier = NULL;
            block_queue_look(&q->common);
        }
        block_slab_put(&q->requests, r);
    }
    q->nr_done = 0;
    ring_publish(q, n);
    trace_xen_block_queue_responses(q->common.name, n);

    /*
     * Look later and not here.  Otherwise a frontend could make looking and
     * flushing call each other without end.
     */
    if (unlikely(q->waiting || q->nr_unplaced)) {
        block_queue_look(&q->common);
    }
    /* After the last request has ended, the ring must not be used any more. */
    block_queue_requests_end(&q->common, n);
}

static XenBlockQueue *channel_to_queue(EventNotifier *e)
{
    return container_of(e, XenBlockQueue, channel_fd);
}

static void channel_event(EventNotifier *e)
{
    XenBlockQueue *q = channel_to_queue(e);
    int port = qemu_xen_evtchn_pending(q->channel);

    if (port != q->port) {
        return;
    }
    queue_process(q);
    /* The port stays masked until then; that of a broken ring for ever. */
    if (!block_queue_faulted(&q->common)) {
        qemu_xen_evtchn_unmask(q->channel, q->port);
    }
}

static bool channel_poll(void *opaque)
{
    XenBlockQueue *q = channel_to_queue(opaque);

    return queue_may_take(q) && ring_pending(q);
}

static void channel_poll_ready(EventNotifier *e)
{
    queue_process(channel_to_queue(e));
}

static void channel_poll_begin(EventNotifier *e)
{
    channel_to_queue(e)->polling = true;
}

static void channel_poll_end(EventNotifier *e)
{
    XenBlockQueue *q = channel_to_queue(e);

    q->polling = false;
    /* The caller polls once more, so it does not matter what this returns. */
    ring_rearm(q);
}

static const BlockQueueNotifierOps channel_ops = {
    .event = channel_event,
    .poll = channel_poll,
    .poll_ready = channel_poll_ready,
    .poll_begin = channel_poll_begin,
    .poll_end = channel_poll_end,
};

static void queue_trace_kept(XenBlockQueue *q)
{
    const XenBlockGrants *g = &q->grants;

    trace_xen_block_queue_kept(q->common.name, g->nr_mapped,
                               g->stats.maps, g->stats.evictions,
                               g->stats.refusals, g->stats.copies);
}

static void queue_look(BlockQueue *common)
{
    XenBlockQueue *q = container_of(common, XenBlockQueue, common);
    XenBlockTick tick = qatomic_xchg(&q->tick, XEN_BLOCK_TICK_NONE);

    if (tick != XEN_BLOCK_TICK_NONE) {
        queue_trace_kept(q);
        xen_block_io_tick(q, tick);
    }
    queue_process(q);
}

static void queue_start_listening(BlockQueue *common)
{
    XenBlockQueue *q = container_of(common, XenBlockQueue, common);

    block_queue_notifier_set(common, &q->channel_fd, &channel_ops);
    queue_process(q);
}

static void queue_stop_listening(BlockQueue *common)
{
    XenBlockQueue *q = container_of(common, XenBlockQueue, common);

    block_queue_notifier_clear(common, &q->channel_fd);
    q->polling = false;
}

static const BlockQueueOps queue_ops = {
    .start_listening = queue_start_listening,
    .stop_listening = queue_stop_listening,
    .look = queue_look,
};

static bool ring_map(XenBlockQueue *q, const XenBlockRingParams *params,
                     Error **errp)
{
    void *map;

    if (!xen_block_grants_start(&q->grants, q->common.name,
                                params->domid, &q->disk->budget,
                                params->max_persistent, params->nr_pages,
                                errp)) {
        return false;
    }
    q->grants.copy_one_by_one = !params->batch_copies;
    q->nr_pages = params->nr_pages;
    q->grefs = g_memdup2(params->grefs,
                         params->nr_pages * sizeof(params->grefs[0]));
    map = qemu_xen_gnttab_map_refs(q->grants.handle, q->nr_pages,
                                   params->domid, q->grefs,
                                   PROT_READ | PROT_WRITE);
    if (!map) {
        error_setg_errno(errp, errno, "failed to map the ring");
        return false;
    }
    q->sring = map;
    q->slots = map + offsetof(struct blkif_sring, ring);
    /*
     * A new ring starts at 0; one that another backend has served goes on
     * behind its last response, so what it had in flight is done again.
     */
    q->rsp_prod = qatomic_read(&q->sring->rsp_prod);
    q->req_cons = q->rsp_prod;
    return true;
}

static void ring_unmap(XenBlockQueue *q)
{
    if (q->sring) {
        qemu_xen_gnttab_unmap(q->grants.handle, q->sring, q->grefs,
                              q->nr_pages);
        q->sring = NULL;
    }
    xen_block_grants_stop(&q->grants);
    g_clear_pointer(&q->grefs, g_free);
}

static bool ring_bind(XenBlockQueue *q, const XenBlockRingParams *params,
                      Error **errp)
{
    int port;

    q->channel = qemu_xen_evtchn_open();
    if (!q->channel) {
        error_setg_errno(errp, errno, "failed to open the event channel "
                         "device");
        return false;
    }
    port = qemu_xen_evtchn_bind_interdomain(q->channel, params->domid,
                                            params->event_channel);
    if (port < 0) {
        error_setg_errno(errp, errno, "failed to bind event channel %u",
                         params->event_channel);
        qemu_xen_evtchn_close(q->channel);
        q->channel = NULL;
        return false;
    }
    q->port = port;
    event_notifier_init_fd(&q->channel_fd,
                           qemu_xen_evtchn_fd(q->channel));
    return true;
}

static void ring_unbind(XenBlockQueue *q)
{
    if (q->channel) {
        qemu_xen_evtchn_unbind(q->channel, q->port);
        qemu_xen_evtchn_close(q->channel); /* closes the descriptor, too */
        q->channel = NULL;
    }
}

static void queue_alloc(XenBlockQueue *q)
{
    q->batch = g_new(XenBlockRequest *, q->size);
    q->done = g_new(XenBlockRequest *, q->size);
    block_slab_init(&q->requests, q->size, sizeof(XenBlockRequest));
    xen_block_io_init(q);
}

static void queue_free(XenBlockQueue *q)
{
    xen_block_io_cleanup(q);
    block_slab_cleanup(&q->requests);
    g_clear_pointer(&q->done, g_free);
    g_clear_pointer(&q->batch, g_free);
}

bool xen_block_queue_init(XenBlockQueue *q, unsigned index, AioContext *ctx,
                          XenBlockDisk *disk, const XenBlockRingParams *params,
                          Error **errp)
{
    ERRP_GUARD();

    *q = (XenBlockQueue) {
        .disk = disk,
        .flush = queue_flush,
        .layout = xen_blkif_layout(params->protocol),
    };
    q->size = xen_blkif_ring_size(q->layout, params->nr_pages);
    block_queue_init(&q->common, disk->device->name, index, ctx, &queue_ops);
    if (!ring_map(q, params, errp) || !ring_bind(q, params, errp)) {
        error_prepend(errp, "%s: ", q->common.name);
        ring_unmap(q);
        block_queue_cleanup(&q->common);
        return false;
    }
    queue_alloc(q);
    trace_xen_block_queue_init(q->common.name, q->size, params->event_channel,
                               q->grants.capacity);
    return true;
}

void xen_block_queue_cleanup(XenBlockQueue *q)
{
    trace_xen_block_queue_cleanup(q->common.name, q->common.stats.requests,
                                  q->common.stats.batches,
                                  q->common.stats.notifications);
    queue_trace_kept(q);
    /* The bottom half of a quiesced queue uses none of this. */
    ring_unbind(q);
    ring_unmap(q);
    queue_free(q);
    block_queue_cleanup(&q->common);
}
