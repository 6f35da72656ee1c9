/*
 * Who needs the lock of a qcow2 image
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

typedef struct Request {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    bool write;
    bool done;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *request = opaque;
    g_autofree char *buf = g_strnfill(request->bytes, 'l');
    int ret;

    if (request->write) {
        ret = blk_co_pwrite(request->blk, request->offset, request->bytes, buf,
                            0);
    } else {
        ret = blk_co_pread(request->blk, request->offset, request->bytes, buf,
                           0);
    }
    g_assert_cmpint(ret, >=, 0);
    request->done = true;
}

static bool request_needs_lock(Request *request)
{
    Qcow2LockHolder holder;
    bool waited;

    qcow2_lock_begin(&holder, request->blk);
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, request));
    while (!request->done && !qcow2_lock_is_waited_for(&holder)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    waited = !request->done;
    qcow2_lock_end(&holder);
    while (!request->done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    return waited;
}

bool qcow2_read_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    Request request = { .blk = blk, .offset = offset, .bytes = bytes };

    return request_needs_lock(&request);
}

bool qcow2_write_needs_lock(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    Request request = {
        .blk = blk,
        .offset = offset,
        .bytes = bytes,
        .write = true,
    };

    return request_needs_lock(&request);
}
