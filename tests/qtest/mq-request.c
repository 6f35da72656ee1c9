/*
 * virtio-blk requests on chosen queues
 *
 *     guest memory:  [ header | data ... | status ]
 *     ring:             out     in or out   in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-request.h"

static QTestState *request_qts(MqRequest *r)
{
    return r->queue->dev->qts;
}

MqRequest *mq_request_new(MqQueue *q, uint32_t type, uint64_t sector,
                          size_t len)
{
    MqRequest *r = g_new0(MqRequest, 1);
    uint8_t header[16] = { 0 };

    r->queue = q;
    g_ptr_array_add(q->dev->owned, r);
    r->type = type;
    r->len = len;
    r->header = guest_alloc(&q->dev->machine->alloc, sizeof(header) + len + 1);
    r->data = r->header + sizeof(header);
    r->status = r->data + len;

    stl_le_p(header, type);
    stq_le_p(header + 8, sector);
    qtest_memwrite(request_qts(r), r->header, header, sizeof(header));
    qtest_writeb(request_qts(r), r->status, MQ_STATUS_NONE);
    return r;
}

void mq_request_free(MqRequest *r)
{
    guest_free(&r->queue->dev->machine->alloc, r->header);
    g_ptr_array_remove_fast(r->queue->dev->owned, r);
}

void mq_request_add(MqRequest *r)
{
    MqSegment segs[3];
    unsigned num = 0;

    segs[num++] = (MqSegment) { r->header, 16, false };
    if (r->len) {
        segs[num++] = (MqSegment) { r->data, r->len,
                                    !(r->type & VIRTIO_BLK_T_OUT) };
    }
    segs[num++] = (MqSegment) { r->status, 1, true };
    mq_queue_add(r->queue, segs, num, false, r);
}

void mq_request_add_segs(MqRequest *r, const MqSegment *segs, unsigned num,
                         bool indirect)
{
    mq_queue_add(r->queue, segs, num, indirect, r);
}

void mq_request_submit(MqRequest *r)
{
    mq_request_add(r);
    mq_queue_kick(r->queue);
}

void mq_queue_reap(MqQueue *q)
{
    MqRequest *r;
    uint32_t len;

    while ((r = mq_queue_poll(q, &len))) {
        g_assert_false(r->done);
        r->done = true;
        r->written = len;
    }
}

uint8_t mq_request_status(MqRequest *r)
{
    return qtest_readb(request_qts(r), r->status);
}

uint8_t mq_request_wait(MqRequest *r)
{
    gint64 start = g_get_monotonic_time();

    for (;;) {
        mq_queue_reap(r->queue);
        if (r->done) {
            return mq_request_status(r);
        }
        mq_deadline(start, "a request");
    }
}

uint8_t mq_request_wait_throttled(MqRequest *r)
{
    gint64 start = g_get_monotonic_time();

    while (!r->done) {
        mq_clock_advance(r->queue->dev->machine, MQ_STEP_MS);
        mq_queue_reap(r->queue);
        mq_deadline(start, "a throttled request");
    }
    return mq_request_status(r);
}

unsigned mq_request_outcome(MqRequest *r)
{
    MqDevice *d = r->queue->dev;
    gint64 start = g_get_monotonic_time();

    while (!(mq_device_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        mq_queue_reap(r->queue);
        if (r->done) {
            return mq_request_status(r);
        }
        mq_deadline(start, "a request or DEVICE_NEEDS_RESET");
    }
    return MQ_BROKEN;
}

void mq_request_finish(MqRequest *r)
{
    g_assert_cmphex(mq_request_wait(r), ==, VIRTIO_BLK_S_OK);
    mq_request_free(r);
}

uint8_t mq_request_run(MqQueue *q, uint32_t type, uint64_t sector, void *buf,
                       size_t len)
{
    MqRequest *r = mq_request_new(q, type, sector, len);
    uint8_t status;

    if (buf && (type & VIRTIO_BLK_T_OUT)) {
        qtest_memwrite(request_qts(r), r->data, buf, len);
    }
    mq_request_submit(r);
    status = mq_request_wait(r);
    if (buf && !(type & VIRTIO_BLK_T_OUT)) {
        qtest_memread(request_qts(r), r->data, buf, len);
    }
    mq_request_free(r);
    return status;
}

void mq_pattern(void *buf, size_t len, uint32_t seed)
{
    uint32_t *word = buf;
    uint32_t x = seed * 2654435761u + 1;

    g_assert_cmpuint(len % sizeof(x), ==, 0);
    for (size_t i = 0; i < len / sizeof(x); i++) {
        x = x * 1664525u + 1013904223u;
        word[i] = cpu_to_le32(x ^ seed);
    }
}

MqRequest *mq_write_new(MqQueue *q, uint64_t sector, size_t len, uint32_t seed)
{
    MqRequest *r = mq_request_new(q, VIRTIO_BLK_T_OUT, sector, len);
    g_autofree void *buf = g_malloc(len);

    mq_pattern(buf, len, seed);
    qtest_bufwrite(request_qts(r), r->data, buf, len);
    return r;
}

MqRequest *mq_read_new(MqQueue *q, uint64_t sector, size_t len)
{
    return mq_request_new(q, VIRTIO_BLK_T_IN, sector, len);
}

void mq_read_check(MqRequest *r, uint32_t seed)
{
    g_autofree void *expected = g_malloc(r->len);
    g_autofree void *got = g_malloc(r->len);

    mq_pattern(expected, r->len, seed);
    qtest_bufread(request_qts(r), r->data, got, r->len);
    g_assert_cmpmem(got, r->len, expected, r->len);
}

void mq_write(MqQueue *q, uint64_t sector, size_t len, uint32_t seed)
{
    MqRequest *r = mq_write_new(q, sector, len, seed);

    mq_request_submit(r);
    mq_request_finish(r);
}

void mq_read(MqQueue *q, uint64_t sector, size_t len, uint32_t seed)
{
    MqRequest *r = mq_read_new(q, sector, len);

    mq_request_submit(r);
    g_assert_cmphex(mq_request_wait(r), ==, VIRTIO_BLK_S_OK);
    mq_read_check(r, seed);
    mq_request_free(r);
}
