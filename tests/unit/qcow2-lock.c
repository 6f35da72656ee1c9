/*
 * A test of which requests need the lock of a qcow2 image
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qcow2-lock.h"

static CoMutex *image_lock(BlockBackend *blk)
{
    BDRVQcow2State *s = blk_bs(blk)->opaque;

    return &s->lock;
}

static void coroutine_fn holder_entry(void *opaque)
{
    Qcow2LockHolder *holder = opaque;

    qemu_co_mutex_lock(image_lock(holder->blk));
    holder->held = true;
    qemu_coroutine_yield();
    qemu_co_mutex_unlock(image_lock(holder->blk));
    holder->held = false;
}

void qcow2_lock_begin(Qcow2LockHolder *holder, BlockBackend *blk)
{
    holder->blk = blk;
    holder->co = qemu_coroutine_create(holder_entry, holder);
    qemu_coroutine_enter(holder->co);
    g_assert(holder->held);
}

bool qcow2_lock_is_waited_for(Qcow2LockHolder *holder)
{
    return qatomic_read(&image_lock(holder->blk)->locked) > 1;
}

void qcow2_lock_end(Qcow2LockHolder *holder)
{
    qemu_coroutine_enter(holder->co);
    g_assert(!holder->held);
}

typedef enum RequestKind {
    REQUEST_READ,
    REQUEST_WRITE,
    REQUEST_STATUS,
} RequestKind;

typedef struct Request {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    RequestKind kind;
    bool done;
} Request;

static int coroutine_fn request_status(Request *request)
{
    int64_t n;

    GRAPH_RDLOCK_GUARD();

    return bdrv_co_block_status_above(blk_bs(request->blk), NULL,
                                      request->offset, request->bytes, &n,
                                      NULL, NULL);
}

static void coroutine_fn request_entry(void *opaque)
{
    Request *request = opaque;
    g_autofree char *buf = g_strnfill(request->bytes, 'l');
    int ret;

    switch (request->kind) {
    case REQUEST_READ:
        ret = blk_co_pread(request->blk, request->offset, request->bytes, buf,
                           0);
        break;
    case REQUEST_WRITE:
        ret = blk_co_pwrite(request->blk, request->offset, request->bytes, buf,
                            0);
        break;
    case REQUEST_STATUS:
        ret = request_status(request);
        break;
    default:
        g_assert_not_reached();
    }
    g_assert_cmpint(ret, >=, 0);
    request->done = true;
}

static bool request_needs_lock(BlockBackend *blk, int64_t offset,
                               int64_t bytes, RequestKind kind)
{
    Qcow2LockHolder holder;
    Request request = {
        .blk = blk,
        .offset = offset,
        .bytes = bytes,
        .kind = kind,
    };
    bool waited;

    qcow2_lock_begin(&holder, blk);
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, &request));
    while (!request.done && !qcow2_lock_is_waited_for(&holder)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    waited = !request.done;
    qcow2_lock_end(&holder);
    while (!request.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    return waited;
}

bool qcow2_read_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return request_needs_lock(blk, offset, bytes, REQUEST_READ);
}

bool qcow2_write_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return request_needs_lock(blk, offset, bytes, REQUEST_WRITE);
}

bool qcow2_status_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    return request_needs_lock(blk, offset, bytes, REQUEST_STATUS);
}
