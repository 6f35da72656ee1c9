/*
 * Data of Xen PV disk requests: a place for it, and the way to the disk
 *
 *                       prepare            run         finish
 *     all its grants    map once           straight    unmap none
 *     can be mapped     (or find mapped)   I/O
 *
 *     else, a write     copy in (batch)    I/O on      keep the buffer
 *           a read      -                  a buffer    copy (batch), keep it
 *
 * A whole request takes one path or the other.  prepare and finish see a whole
 * batch.  So the copies of a batch are one call, and a few calls map all pages
 * that are not mapped yet.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/coroutine.h"
#include "qemu/units.h"
#include "xen-block-io.h"
#include "qemu/base-version.h"

/* Largest part of a discard; the block layer takes no more than an int. */
#define DISCARD_CHUNK (1 * GiB)

/* Direct requests; what Linux sends by default; the largest there are. */
const unsigned xen_block_buffer_pages[XEN_BLOCK_NR_BUFFER_SIZES] = {
    BLKIF_MAX_SEGMENTS_PER_REQUEST, 32, XEN_BLKIF_MAX_INDIRECT_SEGS,
};

static XenBlockBuffers *request_buffers(XenBlockRequest *r)
{
    XenBlockBuffers *b = r->q->buffers;

    while (r->req.bytes > b->nr_pages * XEN_PAGE_SIZE) {
        b++;
    }
    return b;
}

void xen_block_io_init(XenBlockQueue *q)
{
    q->copies = g_new(XenBlockCopy, q->size);
    q->copy_pages = g_new(XenBlkifSegment, XEN_BLOCK_MAX_INDIRECTS *
                                              XEN_BLKIF_MAX_INDIRECT_PAGES);
    block_slab_init(&q->indirects, XEN_BLOCK_MAX_INDIRECTS,
                    sizeof(XenBlockIndirect));
    q->unplaced = g_new(XenBlockRequest *, q->size);
    for (int i = 0; i < XEN_BLOCK_NR_BUFFER_SIZES; i++) {
        xen_block_buffers_init(&q->buffers[i], &q->disk->budget,
                               i ? XEN_BLOCK_MAX_INDIRECTS : q->size,
                               xen_block_buffer_pages[i]);
    }
}

void xen_block_io_cleanup(XenBlockQueue *q)
{
    for (int i = 0; i < XEN_BLOCK_NR_BUFFER_SIZES; i++) {
        xen_block_buffers_cleanup(&q->buffers[i]);
    }
    g_clear_pointer(&q->unplaced, g_free);
    block_slab_cleanup(&q->indirects);
    g_clear_pointer(&q->copy_pages, g_free);
    g_clear_pointer(&q->copies, g_free);
}

void xen_block_io_tick(XenBlockQueue *q, XenBlockTick tick)
{
    bool idle = tick == XEN_BLOCK_TICK_IDLE &&
                !block_queue_in_flight(&q->common);

    xen_block_grants_tick(&q->grants, tick == XEN_BLOCK_TICK_SHARE);
    for (int i = 0; i < XEN_BLOCK_NR_BUFFER_SIZES; i++) {
        xen_block_buffers_tick(&q->buffers[i]);
    }
    if (idle) {
        block_slab_cleanup(&q->requests);
        block_slab_cleanup(&q->indirects);
        xen_block_grants_trim(&q->grants);
    }
}

static bool request_is_read(const XenBlockRequest *r)
{
    return r->req.action == XEN_BLKIF_READ;
}

static void request_set_iov(XenBlockRequest *r, int niov)
{
    r->qiov.iov = r->iov;
    r->qiov.niov = niov;
    r->qiov.nalloc = -1;
    r->qiov.size = r->req.bytes;
}

static inline QEMU_ALWAYS_INLINE void request_put_grants(XenBlockRequest *r)
{
    for (unsigned i = 0; i < r->nr_grants; i++) {
        xen_block_grants_put(&r->q->grants, r->grants[i]);
    }
    r->nr_grants = 0;
}

/* Gather the request's pages.  Return false if one of them is not mapped. */
static inline QEMU_ALWAYS_INLINE bool request_map(XenBlockRequest *r)
{
    struct iovec *iov = r->iov;
    int niov = 0;

    for (unsigned i = 0; i < r->req.nr_segs; i++) {
        const XenBlkifSegment *seg = &r->segs[i];
        XenBlockGrant *grant = xen_block_grants_get(&r->q->grants,
                                                    seg->gref);
        void *base;

        if (unlikely(!grant)) {
            request_put_grants(r);
            return false;
        }
        r->grants[r->nr_grants++] = grant;
        base = grant->page + seg->offset;
        if (niov && iov[niov - 1].iov_base + iov[niov - 1].iov_len == base) {
            iov[niov - 1].iov_len += seg->len;
        } else {
            iov[niov].iov_base = base;
            iov[niov++].iov_len = seg->len;
        }
    }
    request_set_iov(r, niov);
    return true;
}

/* The same, for requests that are not in a hurry. */
static bool request_map_late(XenBlockRequest *r)
{
    return request_map(r);
}

/* Give the request a buffer.  Return false if it has to wait for one. */
static bool request_bounce(XenBlockRequest *r)
{
    r->bounce = xen_block_buffers_get(request_buffers(r));
    if (!r->bounce) {
        return false;
    }
    r->q->nr_bounced++;
    r->iov[0].iov_base = r->bounce;
    r->iov[0].iov_len = r->req.bytes;
    request_set_iov(r, 1);
    return true;
}

static void request_want_grants(XenBlockRequest *r)
{
    for (unsigned i = 0; i < r->req.nr_segs; i++) {
        xen_block_grants_want(&r->q->grants, r->segs[i].gref);
    }
}

static XenBlockCopy request_copy(XenBlockRequest *r)
{
    return (XenBlockCopy) {
        .segs = r->segs,
        .nr_segs = r->req.nr_segs,
        .buf = r->bounce,
        .opaque = r,
    };
}

static void copies_run(XenBlockQueue *q, bool to_domain, unsigned n)
{
    if (!n) {
        return;
    }
    xen_block_grants_copy(&q->grants, to_domain, q->copies, n);
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = q->copies[i].opaque;

        if (unlikely(q->copies[i].failed)) {
            r->fault = XEN_BLKIF_BAD_GRANT;
        }
    }
}

/* Read the segments of @r from pages that stay mapped, if possible. */
static bool indirect_decode_mapped(XenBlockQueue *q, XenBlockRequest *r)
{
    XenBlockGrant *grants[XEN_BLKIF_MAX_INDIRECT_PAGES];
    const void *pages[XEN_BLKIF_MAX_INDIRECT_PAGES];
    unsigned n;

    if (!xen_block_grants_persistent(&q->grants)) {
        return false;
    }
    for (n = 0; n < r->req.nr_indirect; n++) {
        grants[n] = xen_block_grants_get(&q->grants,
                                         r->req.indirect_grefs[n]);
        if (!grants[n]) {
            break;
        }
        pages[n] = grants[n]->page;
    }
    if (n == r->req.nr_indirect) {
        r->fault = xen_blkif_decode_indirect(pages, &q->disk->limits,
                                             &r->req, r->segs);
    }
    for (unsigned i = 0; i < n; i++) {
        xen_block_grants_put(&q->grants, grants[i]);
    }
    return n == r->req.nr_indirect;
}

static void indirect_decode_copied(XenBlockQueue *q, XenBlockRequest *r)
{
    const void *pages[XEN_BLKIF_MAX_INDIRECT_PAGES];

    for (unsigned i = 0; i < r->req.nr_indirect; i++) {
        pages[i] = &r->indirect->raw[i * XEN_BLKIF_SEGS_PER_PAGE];
    }
    r->fault = xen_blkif_decode_indirect(pages, &q->disk->limits, &r->req,
                                         r->segs);
}

static XenBlockCopy indirect_copy(XenBlockRequest *r, XenBlkifSegment *pages)
{
    size_t left = r->req.nr_segs * sizeof(struct blkif_request_segment);

    for (unsigned i = 0; i < r->req.nr_indirect; i++) {
        pages[i].gref = r->req.indirect_grefs[i];
        pages[i].offset = 0;
        pages[i].len = MIN(left, XEN_PAGE_SIZE);
        left -= pages[i].len;
    }
    return (XenBlockCopy) {
        .segs = pages,
        .nr_segs = r->req.nr_indirect,
        .buf = r->indirect->raw,
        .opaque = r,
    };
}

/*
 * Try to read the segments of @n requests.  Requests whose pages are not mapped
 * stay in @rs.  Return the number of these.
 */
static unsigned indirect_decode(XenBlockQueue *q, XenBlockRequest **rs,
                                unsigned n)
{
    unsigned left = 0;

    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = rs[i];

        if (r->indirect && !indirect_decode_mapped(q, r)) {
            q->unplaced[left++] = r;
        }
    }
    return left;
}

static unsigned indirect_map(XenBlockQueue *q, unsigned n)
{
    if (!n || !xen_block_grants_persistent(&q->grants)) {
        return n;
    }
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = q->unplaced[i];

        for (unsigned page = 0; page < r->req.nr_indirect; page++) {
            xen_block_grants_want(&q->grants, r->req.indirect_grefs[page]);
        }
    }
    xen_block_grants_map_wanted(&q->grants);
    return indirect_decode(q, q->unplaced, n);
}

static void batch_load_indirect(XenBlockQueue *q)
{
    XenBlkifSegment *pages = q->copy_pages;
    unsigned n = indirect_decode(q, q->batch, q->nr_batch);

    n = indirect_map(q, n);
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = q->unplaced[i];

        q->copies[i] = indirect_copy(r, pages);
        pages += r->req.nr_indirect;
    }
    copies_run(q, false, n);
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = q->copies[i].opaque;

        if (!r->fault) {
            indirect_decode_copied(q, r);
        }
    }
}

/* Map the pages of requests without a place for data, many with one call. */
static void unplaced_map(XenBlockQueue *q)
{
    for (unsigned i = 0; i < q->nr_unplaced; i++) {
        request_want_grants(q->unplaced[i]);
    }
    xen_block_grants_map_wanted(&q->grants);
}

void xen_block_io_place(XenBlockQueue *q)
{
    bool persistent = xen_block_grants_persistent(&q->grants);
    unsigned nr_waiting = 0;
    unsigned n = 0;

    if (persistent) {
        unplaced_map(q);
    }
    for (unsigned i = 0; i < q->nr_unplaced; i++) {
        XenBlockRequest *r = q->unplaced[i];

        if (!(persistent && request_map_late(r))) {
            if (!request_bounce(r)) {
                q->unplaced[nr_waiting++] = r;
                continue;
            }
            if (!request_is_read(r)) {
                q->copies[n++] = request_copy(r);
            }
        }
        q->batch[q->nr_batch++] = r;
    }
    q->nr_unplaced = nr_waiting;
    copies_run(q, false, n);
}

/* The requests from the @first that has no place on. */
static void batch_place_rest(XenBlockQueue *q, unsigned first)
{
    bool persistent = xen_block_grants_persistent(&q->grants);
    unsigned end = q->nr_batch;
    unsigned n = 0;

    q->nr_batch = first;
    for (unsigned i = first; i < end; i++) {
        XenBlockRequest *r = q->batch[i];

        if (!r->req.nr_segs) {
            request_set_iov(r, 0);
        } else if (!r->fault) {
            if (!(persistent ? request_map_late(r) : request_bounce(r))) {
                q->unplaced[q->nr_unplaced++] = r;
                continue;
            }
            if (r->bounce && !request_is_read(r)) {
                q->copies[n++] = request_copy(r);
            }
        }
        q->batch[q->nr_batch++] = r;
    }
    copies_run(q, false, n);
    if (q->nr_unplaced) {
        xen_block_io_place(q);
    }
}

void xen_block_io_prepare(XenBlockQueue *q)
{
    bool persistent = xen_block_grants_persistent(&q->grants);

    if (unlikely(q->batch_has_indirect)) {
        q->batch_has_indirect = false;
        batch_load_indirect(q);
    }

    for (unsigned i = 0; i < q->nr_batch; i++) {
        XenBlockRequest *r = q->batch[i];

        if (!r->req.nr_segs) {
            request_set_iov(r, 0);
            continue;
        }
        if (unlikely(!r->fault && !(persistent && request_map(r)))) {
            batch_place_rest(q, i);
            break;
        }
    }
}

/* Copy the data that requests in @q->done have read into buffers. */
static void done_deliver(XenBlockQueue *q)
{
    unsigned n = 0;

    for (unsigned i = 0; i < q->nr_done; i++) {
        XenBlockRequest *r = q->done[i];

        if (r->bounce && request_is_read(r) && r->ret >= 0) {
            q->copies[n++] = request_copy(r);
        }
    }
    copies_run(q, true, n);
}

static int coroutine_fn request_discard(XenBlockRequest *r, int64_t offset)
{
    BlockBackend *blk = r->q->disk->blk;
    uint64_t left = r->req.bytes;
    int ret;

    do {
        int64_t chunk = MIN(left, DISCARD_CHUNK);

        ret = base_co_pdiscard(blk, offset, chunk, 0);
        offset += chunk;
        left -= chunk;
    } while (left && ret >= 0);
    return ret;
}

static int coroutine_fn request_run(XenBlockRequest *r)
{
    BlockBackend *blk = r->q->disk->blk;
    int64_t bytes = r->req.bytes;
    int64_t offset = r->req.sector * r->q->disk->limits.sector_size;
    int ret = 0;

    switch (r->req.action) {
    case XEN_BLKIF_READ:
        return blk_co_preadv(blk, offset, bytes, &r->qiov, 0);
    case XEN_BLKIF_WRITE:
        return blk_co_pwritev(blk, offset, bytes, &r->qiov, 0);
    case XEN_BLKIF_FLUSH:
        ret = blk_co_flush(blk);
        if (ret >= 0 && r->req.nr_segs) {
            ret = blk_co_pwritev(blk, offset, bytes, &r->qiov, 0);
        }
        return ret;
    case XEN_BLKIF_BARRIER:
        ret = blk_co_flush(blk);
        if (ret >= 0 && r->req.nr_segs) {
            ret = blk_co_pwritev(blk, offset, bytes, &r->qiov, BDRV_REQ_FUA);
        }
        return ret;
    case XEN_BLKIF_DISCARD:
        return request_discard(r, offset);
    }
    g_assert_not_reached();
}

/* Only requests that carry data are accounted for. */
static enum BlockAcctType request_acct_type(const XenBlockRequest *r)
{
    switch (r->req.action) {
    case XEN_BLKIF_READ:
        return BLOCK_ACCT_READ;
    case XEN_BLKIF_FLUSH:
        return BLOCK_ACCT_FLUSH;
    default:
        return BLOCK_ACCT_WRITE;
    }
}

/*
 * Run requests of the batch as long as they do not have to wait.  A request
 * that waits keeps this coroutine, and the others get another one.
 */
static void coroutine_fn batch_co_entry(void *opaque)
{
    XenBlockQueue *q = opaque;
    bool last;

    do {
        XenBlockRequest *r = q->batch[q->next_in_batch++];

        if (likely(!r->fault)) {
            if (likely(r->req.nr_segs)) {
                r->acct = q->batch_acct;
                r->acct.bytes = r->req.bytes;
                r->acct.type = request_acct_type(r);
            }
            r->ret = request_run(r);
        }
        /* Once no request is in flight the queue may be gone. */
        last = q->next_in_batch >= q->nr_batch;
        xen_block_io_done(r);
    } while (!last);
}

void xen_block_io_submit(XenBlockQueue *q)
{
    /* Read the clock once: all requests start when the batch starts. */
    block_acct_start(blk_get_stats(q->disk->blk), &q->batch_acct, 0,
                     BLOCK_ACCT_NONE);
    q->next_in_batch = 0;
    while (q->next_in_batch < q->nr_batch) {
        qemu_coroutine_enter(qemu_coroutine_create(batch_co_entry, q));
    }
    q->nr_batch = 0;
    q->next_in_batch = 0;
}

static void request_account_invalid(XenBlockRequest *r, BlockAcctStats *stats)
{
    switch (r->req.operation) {
    case BLKIF_OP_READ:
        block_acct_invalid(stats, BLOCK_ACCT_READ);
        break;
    case BLKIF_OP_WRITE:
        block_acct_invalid(stats, BLOCK_ACCT_WRITE);
        break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        block_acct_invalid(stats, BLOCK_ACCT_FLUSH);
        break;
    }
}

/* Account for a request that has failed.  Return its status. */
static int16_t request_fail(XenBlockRequest *r, BlockAcctStats *stats)
{
    if (r->acct.type != BLOCK_ACCT_NONE) {
        block_acct_failed(stats, &r->acct);
    } else if (r->fault) {
        request_account_invalid(r, stats);
    }
    return r->fault ? xen_blkif_fault_status(r->fault) : BLKIF_RSP_ERROR;
}

/* Successive requests of one batch and type that have succeeded */
typedef struct AcctRun {
    BlockAcctCookie acct;       /* bytes is the sum */
    unsigned n;
} AcctRun;

static void acct_run_end(AcctRun *run, BlockAcctStats *stats)
{
    if (run->n) {
        block_acct_done_batch(stats, &run->acct, run->n);
        run->n = 0;
    }
}

static inline void acct_run_add(AcctRun *run, const BlockAcctCookie *acct,
                                BlockAcctStats *stats)
{
    if (likely(run->n && run->acct.type == acct->type &&
               run->acct.start_time_ns == acct->start_time_ns)) {
        run->acct.bytes += acct->bytes;
        run->n++;
    } else if (acct->type != BLOCK_ACCT_NONE) {
        acct_run_end(run, stats);
        run->acct = *acct;
        run->n = 1;
    }
}

void xen_block_io_finish(XenBlockQueue *q)
{
    BlockAcctStats *stats = blk_get_stats(q->disk->blk);
    unsigned n = q->nr_done;
    AcctRun run = { .n = 0 };

    if (q->nr_bounced) {
        done_deliver(q);
    }
    for (unsigned i = 0; i < n; i++) {
        XenBlockRequest *r = q->done[i];

        if (unlikely(r->bounce)) {
            xen_block_buffers_put(request_buffers(r), r->bounce);
            q->nr_bounced--;
        } else {
            request_put_grants(r);
        }
        if (likely(!r->fault && r->ret >= 0)) {
            acct_run_add(&run, &r->acct, stats);
            r->status = BLKIF_RSP_OKAY;
        } else {
            r->status = request_fail(r, stats);
        }
    }
    acct_run_end(&run, stats);
}
