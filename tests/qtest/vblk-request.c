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
#include "vblk-request.h"

static QTestState *request_qts(VblkRequest *r)
{
    return r->queue->dev->qts;
}

VblkRequest *vblk_request_new(VblkQueue *q, uint32_t type, uint64_t sector,
                              size_t len)
{
    VblkRequest *r = g_new0(VblkRequest, 1);
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
    qtest_writeb(request_qts(r), r->status, VBLK_STATUS_NONE);
    return r;
}

void vblk_request_free(VblkRequest *r)
{
    guest_free(&r->queue->dev->machine->alloc, r->header);
    g_ptr_array_remove_fast(r->queue->dev->owned, r);
}

void vblk_request_add(VblkRequest *r)
{
    VblkSegment segs[3];
    unsigned num = 0;

    segs[num++] = (VblkSegment) { r->header, 16, false };
    if (r->len) {
        segs[num++] = (VblkSegment) { r->data, r->len,
                                      !(r->type & VIRTIO_BLK_T_OUT) };
    }
    segs[num++] = (VblkSegment) { r->status, 1, true };
    vblk_queue_add(r->queue, segs, num, false, r);
}

void vblk_request_add_segs(VblkRequest *r, const VblkSegment *segs,
                           unsigned num, bool indirect)
{
    vblk_queue_add(r->queue, segs, num, indirect, r);
}

void vblk_request_submit(VblkRequest *r)
{
    vblk_request_add(r);
    vblk_queue_kick(r->queue);
}

void vblk_request_submit_at(VblkRequest *r, size_t header, uint64_t addr)
{
    const VblkSegment segs[] = {
        { r->header, header, false },
        { addr, VBLK_SECTOR, !(r->type & VIRTIO_BLK_T_OUT) },
        { r->status, 1, true },
    };

    vblk_request_add_segs(r, segs, ARRAY_SIZE(segs), false);
    vblk_queue_kick(r->queue);
}

void vblk_queue_reap(VblkQueue *q)
{
    VblkRequest *r;
    uint32_t len;

    while ((r = vblk_queue_poll(q, &len))) {
        g_assert_false(r->done);
        r->done = true;
        r->written = len;
    }
}

uint8_t vblk_request_status(VblkRequest *r)
{
    return qtest_readb(request_qts(r), r->status);
}

uint8_t vblk_request_wait(VblkRequest *r)
{
    gint64 start = g_get_monotonic_time();

    for (;;) {
        vblk_queue_reap(r->queue);
        if (r->done) {
            return vblk_request_status(r);
        }
        vblk_deadline(start, "a request");
    }
}

uint8_t vblk_request_wait_throttled(VblkRequest *r)
{
    gint64 start = g_get_monotonic_time();

    while (!r->done) {
        vblk_clock_advance(r->queue->dev->machine, VBLK_STEP_MS);
        vblk_queue_reap(r->queue);
        vblk_deadline(start, "a throttled request");
    }
    return vblk_request_status(r);
}

unsigned vblk_request_outcome(VblkRequest *r)
{
    VblkDevice *d = r->queue->dev;
    gint64 start = g_get_monotonic_time();

    while (!(vblk_device_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        vblk_queue_reap(r->queue);
        if (r->done) {
            return vblk_request_status(r);
        }
        vblk_deadline(start, "a request or DEVICE_NEEDS_RESET");
    }
    return VBLK_BROKEN;
}

void vblk_request_finish(VblkRequest *r)
{
    g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
    vblk_request_free(r);
}

uint8_t vblk_request_run(VblkQueue *q, uint32_t type, uint64_t sector,
                         void *buf, size_t len)
{
    VblkRequest *r = vblk_request_new(q, type, sector, len);
    uint8_t status;

    if (buf && (type & VIRTIO_BLK_T_OUT)) {
        qtest_memwrite(request_qts(r), r->data, buf, len);
    }
    vblk_request_submit(r);
    status = vblk_request_wait(r);
    if (buf && !(type & VIRTIO_BLK_T_OUT)) {
        qtest_memread(request_qts(r), r->data, buf, len);
    }
    vblk_request_free(r);
    return status;
}

void vblk_pattern(void *buf, size_t len, uint32_t seed)
{
    uint32_t *word = buf;
    uint32_t x = seed * 2654435761u + 1;

    g_assert_cmpuint(len % sizeof(x), ==, 0);
    for (size_t i = 0; i < len / sizeof(x); i++) {
        x = x * 1664525u + 1013904223u;
        word[i] = cpu_to_le32(x ^ seed);
    }
}

VblkRequest *vblk_write_new(VblkQueue *q, uint64_t sector, size_t len,
                            uint32_t seed)
{
    VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_OUT, sector, len);
    g_autofree void *buf = g_malloc(len);

    vblk_pattern(buf, len, seed);
    qtest_bufwrite(request_qts(r), r->data, buf, len);
    return r;
}

VblkRequest *vblk_read_new(VblkQueue *q, uint64_t sector, size_t len)
{
    return vblk_request_new(q, VIRTIO_BLK_T_IN, sector, len);
}

void vblk_read_check(VblkRequest *r, uint32_t seed)
{
    g_autofree void *expected = g_malloc(r->len);
    g_autofree void *got = g_malloc(r->len);

    vblk_pattern(expected, r->len, seed);
    qtest_bufread(request_qts(r), r->data, got, r->len);
    g_assert_cmpmem(got, r->len, expected, r->len);
}

void vblk_write(VblkQueue *q, uint64_t sector, size_t len, uint32_t seed)
{
    VblkRequest *r = vblk_write_new(q, sector, len, seed);

    vblk_request_submit(r);
    vblk_request_finish(r);
}

void vblk_read(VblkQueue *q, uint64_t sector, size_t len, uint32_t seed)
{
    VblkRequest *r = vblk_read_new(q, sector, len);

    vblk_request_submit(r);
    g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
    vblk_read_check(r, seed);
    vblk_request_free(r);
}
