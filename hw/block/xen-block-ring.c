/*
 * One ring of a Xen PV disk at work: take, submit, complete, notify
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
 * ring_process() if the block driver completes at once, or else the section of
 * the AIO engine's completion handler.
 *
 * Indices run freely and are compared by subtraction.  The frontend may write
 * the shared ones at any time, ours too, so what we published is remembered
 * and never read back.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/defer-call.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "xen-block-io.h"
#include "trace/trace-qemu_mq_hw_block.h"

static uint8_t *ring_slot(XenBlockRing *ring, RING_IDX index)
{
    return ring->slots + (index & (ring->size - 1)) * ring->layout->slot_size;
}

/* Entries that the frontend has filled and we have not taken. */
static unsigned ring_pending(XenBlockRing *ring)
{
    return qatomic_read(&ring->sring->req_prod) - ring->req_cons;
}

static bool ring_may_take(XenBlockRing *ring)
{
    return block_queue_listening(&ring->common) &&
           block_queue_running(&ring->common) && !ring->waiting &&
           !ring->barrier && !ring->nr_unplaced;
}

static void ring_break(XenBlockRing *ring, RING_IDX req_prod)
{
    block_queue_event(&ring->common, BLOCK_QUEUE_FAULT);
    ring->ops.broken(ring, req_prod);
}

static void ring_report_fault(XenBlockRing *ring, XenBlockRequest *r)
{
    trace_xen_block_ring_fault(ring, ring->common.index, r->req.operation,
                               xen_blkif_fault_text(r->fault));
    if (!ring->fault_reported) {
        ring->fault_reported = true;
        if (!xen_guest_log_may_say(&ring->disk->domain->log)) {
            return;
        }
        error_report("%s: %s (operation %u)", ring->name,
                     xen_blkif_fault_text(r->fault), r->req.operation);
    }
}

/* Get room for many segments.  Returns false if all of it is in use. */
static bool request_attach_indirect(XenBlockRequest *r)
{
    r->indirect = block_slab_get(&r->ring->indirects);
    if (!r->indirect) {
        return false;
    }
    r->segs = r->indirect->segs;
    r->iov = r->indirect->iov;
    r->grants = r->indirect->grants;
    r->ring->batch_has_indirect = true;
    return true;
}

/* Take one entry.  Returns false if it and all later ones have to wait. */
static bool ring_take_one(XenBlockRing *ring)
{
    XenBlockRequest *r = block_slab_get(&ring->requests);

    /* There are as many requests as slots, and used slots were checked. */
    r->ring = ring;
    r->ret = 0;
    r->segs = r->direct_segs;
    r->iov = r->direct_iov;
    r->grants = r->direct_grants;
    r->indirect = NULL;
    r->bounce = NULL;
    r->nr_grants = 0;
    r->acct.type = BLOCK_ACCT_NONE;
    r->fault = xen_blkif_decode(ring->layout, ring_slot(ring, ring->req_cons),
                                &ring->disk->limits, &r->req, r->segs);
    ring->req_cons++;
    block_queue_request_begin(&ring->common);

    if (unlikely(r->fault)) {
        xen_block_io_done(r);
        return true;
    }
    if (unlikely(r->req.action == XEN_BLKIF_BARRIER ||
                 (r->req.nr_indirect && !request_attach_indirect(r)))) {
        ring->waiting = r;
        return false;
    }
    ring->batch[ring->nr_batch++] = r;
    return true;
}

/* Fills the batch with all that the ring offers. */
static void ring_take(XenBlockRing *ring)
{
    RING_IDX req_prod = qatomic_load_acquire(&ring->sring->req_prod);
    unsigned n = req_prod - ring->req_cons;
    unsigned unanswered = ring->req_cons - ring->rsp_prod;

    /* Also catches an index that went backwards: @n is huge then. */
    if (unlikely(n > ring->size - unanswered)) {
        ring_break(ring, req_prod);
        return;
    }
    while (n-- && ring_take_one(ring)) {
        /* next */
    }
}

static void ring_submit(XenBlockRing *ring)
{
    if (!ring->nr_batch) {
        return;
    }
    block_queue_count(&ring->common.stats.requests, ring->nr_batch);
    block_queue_count(&ring->common.stats.batches, 1);
    trace_xen_block_ring_batch(ring, ring->common.index, ring->nr_batch);

    xen_block_io_prepare(ring);
    xen_block_io_run(ring);
}

/* Goes on with requests that wait for buffers; %false if they still have to. */
static bool ring_submit_unplaced(XenBlockRing *ring)
{
    xen_block_io_place(ring);
    trace_xen_block_ring_wait(ring, ring->common.index, ring->nr_unplaced);
    if (!ring->nr_batch) {
        return false;
    }
    xen_block_io_run(ring);
    return true;
}

/* Can the waiting one start?  A barrier has to be the only one unanswered. */
static bool waiting_can_start(XenBlockRing *ring)
{
    XenBlockRequest *r = ring->waiting;

    if (r->req.action == XEN_BLKIF_BARRIER) {
        return ring->req_cons - ring->rsp_prod == 1;
    }
    return request_attach_indirect(r);
}

static void ring_start_waiting(XenBlockRing *ring)
{
    XenBlockRequest *r = ring->waiting;

    ring->waiting = NULL;
    if (r->req.action == XEN_BLKIF_BARRIER) {
        ring->barrier = r;
    }
    ring->batch[ring->nr_batch++] = r;
    ring_submit(ring);
}

/* Asks for an event on the next request; %false if it is there already. */
static bool ring_rearm(XenBlockRing *ring)
{
    qatomic_set(&ring->sring->req_event, ring->req_cons + 1);
    /* The frontend sees req_event before we look at req_prod. */
    smp_mb();
    return !ring_pending(ring);
}

/* Do one step of the work.  Returns false if there is nothing to do now. */
static bool ring_step(XenBlockRing *ring)
{
    if (unlikely(ring->nr_unplaced)) {
        return ring_submit_unplaced(ring);
    }
    if (unlikely(ring->waiting)) {
        if (!waiting_can_start(ring)) {
            return false;
        }
        ring_start_waiting(ring);
        return true;
    }
    if (!ring_may_take(ring)) {
        return false;
    }
    if (!ring_pending(ring)) {
        return !ring->polling && !ring_rearm(ring);
    }
    ring_take(ring);
    ring_submit(ring);
    return true;
}

static void ring_process(XenBlockRing *ring)
{
    defer_call_begin();
    while (ring_step(ring)) {
        /* more */
    }
    defer_call_end();
}

static void ring_publish(XenBlockRing *ring, unsigned nr_responses)
{
    RING_IDX rsp_prod = ring->rsp_prod + nr_responses;
    RING_IDX rsp_event;

    ring->rsp_prod = rsp_prod;
    /* The frontend sees the responses before the index... */
    qatomic_store_release(&ring->sring->rsp_prod, rsp_prod);
    /* ...and the index before we read what it waits for. */
    smp_mb();
    rsp_event = qatomic_read(&ring->sring->rsp_event);
    if (rsp_prod - rsp_event < nr_responses) {
        block_queue_count(&ring->common.stats.notifications, 1);
        qemu_xen_evtchn_notify(ring->channel, ring->port);
    }
}

/* Answers all that is done, with one index update and at most one event. */
void xen_block_ring_flush(void *opaque)
{
    XenBlockRing *ring = opaque;
    unsigned n = ring->nr_done;

    if (!n) {
        return;
    }
    xen_block_io_finish(ring);
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = ring->done[i];

        xen_blkif_encode_response(ring_slot(ring, ring->rsp_prod + i), &r->req,
                                  r->status);
        if (unlikely(r->fault)) {
            ring_report_fault(ring, r);
        }
        if (unlikely(r->indirect)) {
            block_slab_put(&ring->indirects, r->indirect);
        }
        if (unlikely(r == ring->barrier)) {
            ring->barrier = NULL;
            block_queue_look(&ring->common);
        }
        block_slab_put(&ring->requests, r);
    }
    ring->nr_done = 0;
    ring_publish(ring, n);
    trace_xen_block_ring_responses(ring, ring->common.index, n);

    /* Not from within a flush: a frontend could keep the two calling. */
    if (unlikely(ring->waiting || ring->nr_unplaced)) {
        block_queue_look(&ring->common);
    }
    /* Nothing of the ring may be touched after the last one has ended. */
    block_queue_requests_end(&ring->common, n);
}

static XenBlockRing *channel_to_ring(EventNotifier *e)
{
    return container_of(e, XenBlockRing, channel_fd);
}

static void channel_event(EventNotifier *e)
{
    XenBlockRing *ring = channel_to_ring(e);
    int port = qemu_xen_evtchn_pending(ring->channel);

    if (port != ring->port) {
        return;
    }
    ring_process(ring);
    /* The port stays masked until then; that of a broken ring for ever. */
    if (!block_queue_faulted(&ring->common)) {
        qemu_xen_evtchn_unmask(ring->channel, ring->port);
    }
}

static bool channel_poll(void *opaque)
{
    XenBlockRing *ring = channel_to_ring(opaque);

    return ring_may_take(ring) && ring_pending(ring);
}

static void channel_poll_ready(EventNotifier *e)
{
    ring_process(channel_to_ring(e));
}

static void channel_poll_begin(EventNotifier *e)
{
    channel_to_ring(e)->polling = true;
}

static void channel_poll_end(EventNotifier *e)
{
    XenBlockRing *ring = channel_to_ring(e);

    ring->polling = false;
    /* The caller polls once more, so it does not matter what this returns. */
    ring_rearm(ring);
}

static const BlockQueueNotifierOps channel_ops = {
    .event = channel_event,
    .poll = channel_poll,
    .poll_ready = channel_poll_ready,
    .poll_begin = channel_poll_begin,
    .poll_end = channel_poll_end,
};

static void ring_trace_kept(XenBlockRing *ring)
{
    const XenBlockGrants *g = &ring->grants;

    trace_xen_block_ring_kept(ring, ring->common.index, g->nr_mapped,
                              g->stats.maps, g->stats.evictions,
                              g->stats.refusals, g->stats.copies);
}

static void ring_look(BlockQueue *common)
{
    XenBlockRing *ring = container_of(common, XenBlockRing, common);
    XenBlockTick tick = qatomic_xchg(&ring->tick, XEN_BLOCK_TICK_NONE);

    if (tick != XEN_BLOCK_TICK_NONE) {
        ring_trace_kept(ring);
        xen_block_io_tick(ring, tick);
    }
    ring_process(ring);
}

static void ring_start_listening(BlockQueue *common)
{
    XenBlockRing *ring = container_of(common, XenBlockRing, common);

    block_queue_notifier_set(common, &ring->channel_fd, &channel_ops);
    ring_process(ring);
}

static void ring_stop_listening(BlockQueue *common)
{
    XenBlockRing *ring = container_of(common, XenBlockRing, common);

    block_queue_notifier_clear(common, &ring->channel_fd);
    ring->polling = false;
}

static const BlockQueueOps ring_queue_ops = {
    .start_listening = ring_start_listening,
    .stop_listening = ring_stop_listening,
    .look = ring_look,
};

static bool ring_map(XenBlockRing *ring, const XenBlockRingParams *params,
                     Error **errp)
{
    void *map;

    if (!xen_block_grants_start(&ring->grants, ring->name, params->domid,
                                &ring->disk->budget, params->max_persistent,
                                params->nr_pages, errp)) {
        return false;
    }
    ring->grants.copy_one_by_one = !params->batch_copies;
    ring->nr_pages = params->nr_pages;
    ring->grefs = g_memdup2(params->grefs,
                            params->nr_pages * sizeof(params->grefs[0]));
    map = qemu_xen_gnttab_map_refs(ring->grants.handle, ring->nr_pages,
                                   params->domid, ring->grefs,
                                   PROT_READ | PROT_WRITE);
    if (!map) {
        error_setg_errno(errp, errno, "failed to map the ring");
        return false;
    }
    ring->sring = map;
    ring->slots = map + offsetof(struct blkif_sring, ring);
    /*
     * A new ring starts at 0; one that another backend has served goes on
     * behind its last response, so what it had in flight is done again.
     */
    ring->rsp_prod = qatomic_read(&ring->sring->rsp_prod);
    ring->req_cons = ring->rsp_prod;
    return true;
}

static void ring_unmap(XenBlockRing *ring)
{
    if (ring->sring) {
        qemu_xen_gnttab_unmap(ring->grants.handle, ring->sring, ring->grefs,
                              ring->nr_pages);
        ring->sring = NULL;
    }
    xen_block_grants_stop(&ring->grants);
    g_clear_pointer(&ring->grefs, g_free);
    g_clear_pointer(&ring->name, g_free);
}

static bool ring_bind(XenBlockRing *ring, const XenBlockRingParams *params,
                      Error **errp)
{
    int port;

    ring->channel = qemu_xen_evtchn_open();
    if (!ring->channel) {
        error_setg_errno(errp, errno, "failed to open the event channel "
                         "device");
        return false;
    }
    port = qemu_xen_evtchn_bind_interdomain(ring->channel, params->domid,
                                            params->event_channel);
    if (port < 0) {
        error_setg_errno(errp, errno, "failed to bind event channel %u",
                         params->event_channel);
        qemu_xen_evtchn_close(ring->channel);
        ring->channel = NULL;
        return false;
    }
    ring->port = port;
    event_notifier_init_fd(&ring->channel_fd,
                           qemu_xen_evtchn_fd(ring->channel));
    return true;
}

static void ring_unbind(XenBlockRing *ring)
{
    if (ring->channel) {
        qemu_xen_evtchn_unbind(ring->channel, ring->port);
        qemu_xen_evtchn_close(ring->channel); /* closes the descriptor, too */
        ring->channel = NULL;
    }
}

static void ring_alloc(XenBlockRing *ring)
{
    ring->batch = g_new(XenBlockRequest *, ring->size);
    ring->done = g_new(XenBlockRequest *, ring->size);
    block_slab_init(&ring->requests, ring->size, sizeof(XenBlockRequest));
    xen_block_io_init(ring);
}

static void ring_free(XenBlockRing *ring)
{
    xen_block_io_cleanup(ring);
    block_slab_cleanup(&ring->requests);
    g_clear_pointer(&ring->done, g_free);
    g_clear_pointer(&ring->batch, g_free);
}

bool xen_block_ring_start(XenBlockRing *ring, unsigned index, AioContext *ctx,
                          XenBlockDisk *disk, const XenBlockRingParams *params,
                          Error **errp)
{
    *ring = (XenBlockRing) {
        .disk = disk,
        .ops = *disk->ops,
        .layout = xen_blkif_layout(params->protocol),
    };
    ring->size = xen_blkif_ring_size(ring->layout, params->nr_pages);
    ring->name = g_strdup_printf("%s, queue %u", disk->name, index);
    if (!ring_map(ring, params, errp) || !ring_bind(ring, params, errp)) {
        ring_unmap(ring);
        return false;
    }
    ring_alloc(ring);
    block_queue_init(&ring->common, index, ctx, &ring_queue_ops);
    trace_xen_block_ring_start(ring, index, ring->size, params->event_channel,
                               ring->grants.capacity);
    return true;
}

void xen_block_ring_stop(XenBlockRing *ring)
{
    trace_xen_block_ring_stop(ring, ring->common.index,
                              ring->common.stats.requests,
                              ring->common.stats.batches,
                              ring->common.stats.notifications);
    ring_trace_kept(ring);
    block_queue_cleanup(&ring->common);
    ring_unbind(ring);
    ring_unmap(ring);
    ring_free(ring);
}
