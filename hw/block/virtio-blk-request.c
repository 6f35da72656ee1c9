/*
 * virtio-blk: one request
 *
 *    chain:  [ header | data out... ] [ data in... | status ]
 *               |          |               |           |
 *               v          +-----+---------+           v
 *          type, sector        qiov                answer
 *
 * Framing is the driver's choice (VIRTIO 1.2, 2.7.4.3).  The header may be in
 * several pieces, and data may share a descriptor with the header or with the
 * status.  If each part has descriptors of its own, as with all known drivers,
 * the segment list is not copied.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "qemu/coroutine.h"
#include "qemu/uninitialized.h"
#include "system/block-backend-io.h"
#include "virtio-blk-request.h"
#include "trace/trace-hw_block.h"
#include "qemu/base-version.h"

/* At most so many requests are merged into one. */
#define VIRTIO_BLK_MAX_MERGE 32

/*
 * Point req->qiov at @len bytes that begin @skip bytes into the @n segments
 * at @iov.
 */
static void request_set_data(VirtIOBlkRequest *req, struct iovec *iov,
                             unsigned n, size_t skip, size_t len)
{
    struct iovec *data = iov;

    if (unlikely(virtio_blk_chain_needs_split(&req->chain))) {
        data = req->chain.iov + req->chain.out_num + req->chain.in_num;
        n = iov_copy(data, n, iov, n, skip, len);
    } else {
        /* The header is a segment of its own, and so is the status. */
        data += !!skip;
        n--;
    }
    req->qiov.iov = data;
    req->qiov.niov = n;
    req->qiov.nalloc = -1;
    req->qiov.size = len;
}

/*
 * The direction bit is the driver's word; where the command leaves no choice
 * it does not count, or we would write what the driver lets us only read.
 */
static bool request_data_is_out(uint32_t type)
{
    switch (type & ~(VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_BARRIER)) {
    case VIRTIO_BLK_T_GET_ID:
    case VIRTIO_BLK_T_ZONE_REPORT:
        return false;
    default:
        return type & VIRTIO_BLK_T_OUT;
    }
}

const char *virtio_blk_request_parse(VirtIOBlkRequest *req)
{
    VRingChain *chain = &req->chain;
    VirtIODevice *vdev = req->queue->vdev;
    struct iovec *in = chain->iov + chain->out_num;
    QEMU_UNINITIALIZED struct virtio_blk_outhdr header;

    if (unlikely(chain->out_num < 1 || chain->in_num < 1)) {
        return "request misses its header or its status";
    }
    if (likely(chain->iov[0].iov_len >= sizeof(header))) {
        memcpy(&header, chain->iov[0].iov_base, sizeof(header));
    } else if (iov_to_buf(chain->iov, chain->out_num, 0, &header,
                          sizeof(header)) != sizeof(header)) {
        return "request header is too short";
    }
    if (unlikely(in[chain->in_num - 1].iov_len < 1)) {
        return "request has no room for its status";
    }

    req->type = virtio_ldl_p(vdev, &header.type);
    req->sector = virtio_ldq_p(vdev, &header.sector);
    req->status = (uint8_t *)in[chain->in_num - 1].iov_base +
                  in[chain->in_num - 1].iov_len - 1;
    if (request_data_is_out(req->type)) {
        request_set_data(req, chain->iov, chain->out_num, sizeof(header),
                         chain->out_len - sizeof(header));
    } else {
        request_set_data(req, in, chain->in_num, 0, chain->in_len - 1);
    }
    return NULL;
}

/*
 * True if @req was dealt with and must not be answered with success.
 *
 * The answer comes last, because it may end a drain, and then control may
 * change the backend.  A request to stop the VM must come before the answer:
 * otherwise it could stop a VM that the user has continued meanwhile.
 */
static bool request_error(VirtIOBlkRequest *req, int error, bool is_read,
                          bool account)
{
    BlockBackend *blk = req->queue->blk;
    BlockErrorAction action = blk_get_error_action(blk, is_read, error);

    blk_error_action(blk, action, is_read, error);
    switch (action) {
    case BLOCK_ERROR_ACTION_STOP:
        virtio_blk_request_hold(req);
        return true;
    case BLOCK_ERROR_ACTION_REPORT:
        if (account) {
            block_acct_failed(blk_get_stats(blk), &req->acct);
        }
        virtio_blk_request_complete(req, VIRTIO_BLK_S_IOERR);
        return true;
    default:
        return false;
    }
}

static void coroutine_fn virtio_blk_recheck_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;
    VirtIOBlkQueue *q = req->queue;

    /* @req may be answered in submit; the queue stays ours to the end. */
    block_queue_request_begin(&q->common);
    virtio_blk_update_capacity(q->dev);
    virtio_blk_request_submit(req);
    if (!q->gathering) {
        /* This has waited for the node, and the batch has ended without it. */
        virtio_blk_run_submit(q);
    }
    block_queue_request_end(&q->common);
}

/*
 * @req seems to be beyond the end of the disk.  Ask for the capacity and submit
 * @req again.  Return false if that was done before.
 */
static bool request_recheck(VirtIOBlkRequest *req)
{
    if (req->rechecked) {
        return false;
    }
    req->rechecked = true;
    qemu_coroutine_enter(qemu_coroutine_create(virtio_blk_recheck_co, req));
    return true;
}

/* Reads and writes */

static enum BlockAcctType rw_acct_type(const VirtIOBlkRequest *req)
{
    return req->type & VIRTIO_BLK_T_OUT ? BLOCK_ACCT_WRITE : BLOCK_ACCT_READ;
}

static void rw_refuse(VirtIOBlkRequest *req)
{
    block_acct_invalid(blk_get_stats(req->queue->blk), rw_acct_type(req));
    virtio_blk_request_complete(req, VIRTIO_BLK_S_IOERR);
}

static void coroutine_fn rw_done(VirtIOBlkRequest *req, int ret)
{
    VirtIOBlkQueue *q = req->queue;
    bool is_read = !(req->type & VIRTIO_BLK_T_OUT);

    trace_virtio_blk_rw_complete(q->vdev, req, ret);
    if (unlikely(ret < 0)) {
        if (virtio_blk_request_is_beyond(req, ret, req->qiov.size)) {
            rw_refuse(req);
            return;
        }
        if (request_error(req, -ret, is_read, true)) {
            return;
        }
    }
    block_acct_done(blk_get_stats(q->blk), &req->acct);
    virtio_blk_request_complete(req, VIRTIO_BLK_S_OK);
}

static int coroutine_fn rw_run(VirtIOBlkRequest *req, QEMUIOVector *qiov)
{
    VirtIOBlkQueue *q = req->queue;
    int64_t offset = req->sector << BDRV_SECTOR_BITS;
    BdrvRequestFlags flags = 0;

    /* A bounce buffer is not registered; virtio.c's reader does not tell. */
    if (!req->chain.slow && !req->elem &&
        blk_ram_registrar_ok(&q->dev->blk_ram_registrar)) {
        flags |= BDRV_REQ_REGISTERED_BUF;
    }
    return req->type & VIRTIO_BLK_T_OUT
           ? blk_co_pwritev(q->blk, offset, qiov->size, qiov, flags)
           : blk_co_preadv(q->blk, offset, qiov->size, qiov, flags);
}

/* End merged requests in the way in which each would have ended alone. */
static void coroutine_fn rw_done_merged(VirtIOBlkRequest *req, int ret)
{
    bool alone = false;

    for (VirtIOBlkRequest *r = req; r && ret == -EIO && !alone; r = r->next) {
        alone = virtio_blk_request_is_beyond(r, ret, r->qiov.size);
    }
    while (req) {
        VirtIOBlkRequest *next = req->next;

        rw_done(req, alone ? rw_run(req, &req->qiov) : ret);
        req = next;
    }
}

static void coroutine_fn virtio_blk_rw_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;
    bool merged = req->merged.nalloc;
    int ret = rw_run(req, merged ? &req->merged : &req->qiov);

    if (unlikely(merged)) {
        virtio_blk_segments_put(req->queue, req->merged.iov,
                                req->merged_size);
        req->merged.nalloc = 0;
        rw_done_merged(req, ret);
    } else {
        rw_done(req, ret);
    }
}

static void request_start(VirtIOBlkRequest *req, CoroutineEntry *entry)
{
    qemu_coroutine_enter(qemu_coroutine_create(entry, req));
}

static bool run_join(VirtIOBlkQueue *q)
{
    VirtIOBlkRun *run = &q->run;
    QEMUIOVector *merged = &run->head->merged;
    struct iovec *iov;
    unsigned n = 0;

    iov = virtio_blk_segments_get(q, run->niov, &run->head->merged_size);
    if (!iov) {
        return false;
    }
    for (VirtIOBlkRequest *req = run->head; req; req = req->next) {
        for (int i = 0; i < req->qiov.niov; i++) {
            iov[n++] = req->qiov.iov[i];
        }
    }
    merged->iov = iov;
    merged->niov = n;
    merged->nalloc = 1;
    merged->size = run->bytes;
    trace_virtio_blk_submit_multireq(q->vdev, run, 0, run->count,
                                     run->head->sector << BDRV_SECTOR_BITS,
                                     run->bytes, run->is_write);
    block_acct_merge_done(blk_get_stats(q->blk),
                          run->is_write ? BLOCK_ACCT_WRITE : BLOCK_ACCT_READ,
                          run->count - 1);
    return true;
}

void virtio_blk_run_submit(VirtIOBlkQueue *q)
{
    VirtIOBlkRun *run = &q->run;
    VirtIOBlkRequest *req = run->head;

    if (!req) {
        return;
    }
    if (likely(run->count == 1) || run_join(q)) {
        run->head = NULL;
        request_start(req, virtio_blk_rw_co);
        return;
    }
    run->head = NULL;
    while (req) {
        VirtIOBlkRequest *next = req->next;

        request_start(req, virtio_blk_rw_co);
        req = next;
    }
}

static bool run_can_append(VirtIOBlkQueue *q, VirtIOBlkRequest *req,
                           bool is_write)
{
    VirtIOBlkRun *run = &q->run;
    BlockBackend *blk = q->blk;

    return req->sector == run->next_sector &&
           is_write == run->is_write &&
           !req->chain.slow == !run->head->chain.slow &&
           !req->elem == !run->head->elem &&
           q->dev->conf.request_merging &&
           run->count < VIRTIO_BLK_MAX_MERGE &&
           run->niov + req->qiov.niov <= blk_get_max_iov(blk) &&
           run->niov + req->qiov.niov <=
               q->segments[VIRTIO_BLK_SEGMENTS_LONG].len &&
           run->bytes + req->qiov.size <= blk_get_max_transfer(blk) &&
           run->bytes + req->qiov.size <= BDRV_REQUEST_MAX_BYTES;
}

static void request_submit_rw(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;
    VirtIOBlkRun *run = &q->run;
    bool is_write = req->type & VIRTIO_BLK_T_OUT;

    if (is_write) {
        trace_virtio_blk_handle_write(q->vdev, req, req->sector,
                                      req->qiov.size / BDRV_SECTOR_SIZE);
    } else {
        trace_virtio_blk_handle_read(q->vdev, req, req->sector,
                                     req->qiov.size / BDRV_SECTOR_SIZE);
    }
    if (unlikely(!virtio_blk_range_ok(q->dev, req->sector, req->qiov.size))) {
        if (!request_recheck(req)) {
            rw_refuse(req);
        }
        return;
    }
    block_acct_start(blk_get_stats(q->blk), &req->acct, req->qiov.size,
                     rw_acct_type(req));

    req->next = NULL;
    if (run->head && run_can_append(q, req, is_write)) {
        *run->tail = req;
        run->count++;
        run->niov += req->qiov.niov;
        run->bytes += req->qiov.size;
    } else {
        virtio_blk_run_submit(q);
        run->head = req;
        run->is_write = is_write;
        run->count = 1;
        run->niov = req->qiov.niov;
        run->bytes = req->qiov.size;
    }
    run->tail = &req->next;
    run->next_sector = req->sector + (req->qiov.size >> BDRV_SECTOR_BITS);
}

/* Flush */

static void coroutine_fn virtio_blk_flush_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;
    VirtIOBlkQueue *q = req->queue;
    int ret = blk_co_flush(q->blk);

    if (ret < 0 && request_error(req, -ret, false, true)) {
        return;
    }
    block_acct_done(blk_get_stats(q->blk), &req->acct);
    virtio_blk_request_complete(req, VIRTIO_BLK_S_OK);
}

static void request_submit_flush(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;

    block_acct_start(blk_get_stats(q->blk), &req->acct, 0, BLOCK_ACCT_FLUSH);
    if (q->run.is_write) {
        virtio_blk_run_submit(q);
    }
    request_start(req, virtio_blk_flush_co);
}

/* Discard and write zeroes, one segment each (VIRTIO 1.2, 5.2.6.2) */

static bool request_is_write_zeroes(const VirtIOBlkRequest *req)
{
    return (req->type & ~VIRTIO_BLK_T_BARRIER) == VIRTIO_BLK_T_WRITE_ZEROES;
}

static void discard_refuse(VirtIOBlkRequest *req, uint8_t status)
{
    if (request_is_write_zeroes(req)) {
        block_acct_invalid(blk_get_stats(req->queue->blk), BLOCK_ACCT_WRITE);
    }
    virtio_blk_request_complete(req, status);
}

static void coroutine_fn discard_done(VirtIOBlkRequest *req, int ret)
{
    bool account = request_is_write_zeroes(req);

    if (ret < 0) {
        if (virtio_blk_request_is_beyond(req, ret, req->acct.bytes)) {
            discard_refuse(req, VIRTIO_BLK_S_IOERR);
            return;
        }
        if (request_error(req, -ret, false, account)) {
            return;
        }
    }
    if (account) {
        block_acct_done(blk_get_stats(req->queue->blk), &req->acct);
    }
    virtio_blk_request_complete(req, VIRTIO_BLK_S_OK);
}

static void coroutine_fn virtio_blk_discard_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;

    discard_done(req, base_co_pdiscard(req->queue->blk,
                                       req->sector << BDRV_SECTOR_BITS,
                                       req->acct.bytes, 0));
}

static void coroutine_fn virtio_blk_write_zeroes_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;

    discard_done(req, blk_co_pwrite_zeroes(
                          req->queue->blk, req->sector << BDRV_SECTOR_BITS,
                          req->acct.bytes, 0));
}

static void coroutine_fn virtio_blk_write_zeroes_unmap_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;

    discard_done(req, blk_co_pwrite_zeroes(
                          req->queue->blk, req->sector << BDRV_SECTOR_BITS,
                          req->acct.bytes, BDRV_REQ_MAY_UNMAP));
}

static void discard_start(VirtIOBlkRequest *req, uint32_t count,
                          uint32_t flags)
{
    int64_t bytes = (int64_t)count << BDRV_SECTOR_BITS;

    if (request_is_write_zeroes(req)) {
        block_acct_start(blk_get_stats(req->queue->blk), &req->acct, bytes,
                         BLOCK_ACCT_WRITE);
        request_start(req, flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
                           ? virtio_blk_write_zeroes_unmap_co
                           : virtio_blk_write_zeroes_co);
    } else {
        req->acct.bytes = bytes;
        request_start(req, virtio_blk_discard_co);
    }
}

static const char *request_submit_discard(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;
    bool is_write_zeroes = request_is_write_zeroes(req);
    uint32_t max = is_write_zeroes ? q->dev->conf.max_write_zeroes_sectors
                                   : q->dev->conf.max_discard_sectors;
    uint32_t allowed = is_write_zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
                                       : 0;
    struct virtio_blk_discard_write_zeroes segment;
    uint32_t count, flags;

    if (!(req->type & VIRTIO_BLK_T_OUT) || req->qiov.size > sizeof(segment)) {
        virtio_blk_request_complete(req, VIRTIO_BLK_S_UNSUPP);
        return NULL;
    }
    if (qemu_iovec_to_buf(&req->qiov, 0, &segment, sizeof(segment)) !=
        sizeof(segment)) {
        return "discard or write zeroes segment is too short";
    }
    req->sector = virtio_ldq_p(q->vdev, &segment.sector);
    count = virtio_ldl_p(q->vdev, &segment.num_sectors);
    flags = virtio_ldl_p(q->vdev, &segment.flags);

    if (count > max) {
        discard_refuse(req, VIRTIO_BLK_S_IOERR);
    } else if (!virtio_blk_range_ok(q->dev, req->sector,
                                    (uint64_t)count << BDRV_SECTOR_BITS)) {
        if (!request_recheck(req)) {
            discard_refuse(req, VIRTIO_BLK_S_IOERR);
        }
    } else if (flags & ~allowed) {
        discard_refuse(req, VIRTIO_BLK_S_UNSUPP);
    } else {
        discard_start(req, count, flags);
    }
    return NULL;
}

/* The rest */

static void request_get_id(VirtIOBlkRequest *req)
{
    const char *serial = req->queue->dev->conf.serial ?: "";
    /* Only a string shorter than the field has its NUL. */
    size_t len = MIN(strlen(serial) + 1, VIRTIO_BLK_ID_BYTES);

    qemu_iovec_from_buf(&req->qiov, 0, serial, MIN(len, req->qiov.size));
    virtio_blk_request_complete(req, VIRTIO_BLK_S_OK);
}

/*
 * SCSI passthrough is gone, but legacy drivers look at the errors field.
 * They place its header in the segment before the status.
 */
static void request_scsi(VirtIOBlkRequest *req)
{
    VRingChain *chain = &req->chain;
    struct iovec *iov = chain->iov + chain->out_num + chain->in_num - 2;
    uint8_t status = VIRTIO_BLK_S_IOERR;

    if (chain->out_num >= 2 && chain->in_num >= 3 &&
        iov->iov_len == sizeof(struct virtio_scsi_inhdr)) {
        struct virtio_scsi_inhdr *scsi = iov->iov_base;

        virtio_stl_p(req->queue->vdev, &scsi->errors, 255);
        status = VIRTIO_BLK_S_UNSUPP;
    }
    virtio_blk_request_complete(req, status);
}

static void coroutine_fn virtio_blk_zone_co(void *opaque)
{
    VirtIOBlkRequest *req = opaque;
    VirtIOBlkQueue *q = req->queue;
    const char *fault = NULL;
    uint8_t status = virtio_blk_zone_command(req, &fault);

    if (fault) {
        virtio_blk_queue_fault(q, fault);
    }
    virtio_blk_request_complete(req, status);
}

void virtio_blk_request_submit(VirtIOBlkRequest *req)
{
    VirtIOBlkQueue *q = req->queue;
    const char *fault;

    /* Bit 0 is the direction; the barrier flag is long since ignored. */
    switch (req->type & ~(VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_BARRIER)) {
    case VIRTIO_BLK_T_IN:
        request_submit_rw(req);
        break;
    case VIRTIO_BLK_T_FLUSH:
        request_submit_flush(req);
        break;
    case VIRTIO_BLK_T_DISCARD & ~VIRTIO_BLK_T_OUT:
    case VIRTIO_BLK_T_WRITE_ZEROES & ~VIRTIO_BLK_T_OUT:
        fault = request_submit_discard(req);
        if (unlikely(fault)) {
            virtio_blk_queue_fault(q, fault);
            virtio_blk_request_abandon(req);
        }
        break;
    case VIRTIO_BLK_T_GET_ID:
        request_get_id(req);
        break;
    case VIRTIO_BLK_T_SCSI_CMD:
        request_scsi(req);
        break;
    case VIRTIO_BLK_T_ZONE_REPORT:
    case VIRTIO_BLK_T_ZONE_OPEN:
    case VIRTIO_BLK_T_ZONE_CLOSE:
    case VIRTIO_BLK_T_ZONE_FINISH:
    case VIRTIO_BLK_T_ZONE_RESET:
    case VIRTIO_BLK_T_ZONE_RESET_ALL:
    case VIRTIO_BLK_T_ZONE_APPEND & ~VIRTIO_BLK_T_OUT:
        request_start(req, virtio_blk_zone_co);
        break;
    default:
        virtio_blk_request_complete(req, VIRTIO_BLK_S_UNSUPP);
    }
}
