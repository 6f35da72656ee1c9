/*
 * All ways to use a ring, on several queues
 *
 *     split or packed, with and without event index, direct or indirect
 *         x  one descriptor each  ..  many odd pieces of header and data
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (4 * 1024 * 1024)
#define MAX_SEGS 64

#define PROPS "num-queues=3,packed=on"
#define PROPS_IOTHREADS PROPS ",iothread=io0"

/**
 * Cut: how to cut a stretch of guest memory into descriptors.
 * @size: size of all pieces but the last, 0 for one piece
 */
typedef struct Cut {
    const char *name;
    unsigned header, data;
} Cut;

static const Cut cuts[] = {
    { "whole", 0, 0 },
    { "header in two", 8, 0 },
    { "header in bytes", 1, 0 },
    { "header oddly, data oddly", 5, 1023 },
    { "many small segments", 0, 160 },
};

static unsigned cut(VblkSegment *segs, unsigned num, uint64_t addr, size_t len,
                    unsigned piece, bool writable)
{
    while (len) {
        size_t n = piece ? MIN(len, piece) : len;

        g_assert_cmpuint(num, <, MAX_SEGS);
        segs[num++] = (VblkSegment) { addr, n, writable };
        addr += n;
        len -= n;
    }
    return num;
}

static void add_cut(VblkRequest *r, const Cut *how, bool indirect)
{
    bool in = !(r->type & VIRTIO_BLK_T_OUT);
    VblkSegment segs[MAX_SEGS];
    unsigned num;

    num = cut(segs, 0, r->header, 16, how->header, false);
    num = cut(segs, num, r->data, r->len, how->data, in);
    num = cut(segs, num, r->status, 1, 0, true);
    vblk_request_add_segs(r, segs, num, indirect);
}

/* Write with one queue, read with the next, in every cut. */
static void check_cuts(VblkDisk *disk, const VblkRing *ring)
{
    for (unsigned i = 0; i < ARRAY_SIZE(cuts) * QUEUES; i++) {
        const Cut *how = &cuts[i / QUEUES];
        VblkQueue *wq = disk->d->queues[i % QUEUES];
        VblkQueue *rq = disk->d->queues[(i + 1) % QUEUES];
        VblkRequest *w = vblk_write_new(wq, i * 16, 8192, i + 1);
        VblkRequest *r = vblk_read_new(rq, i * 16, 8192);

        add_cut(w, how, ring->indirect);
        vblk_queue_kick(wq);
        g_assert_cmphex(vblk_request_wait(w), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(w->written, ==, 1);
        vblk_request_free(w);

        add_cut(r, how, ring->indirect);
        vblk_queue_kick(rq);
        g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(r->written, ==, 8193);
        vblk_read_check(r, i + 1);
        vblk_request_free(r);
    }
}

static void test_cuts(const VblkVariant *v)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, PROPS, check_cuts);
}

/* Header and data in one descriptor, data and status in one. */
static void check_joined(VblkDisk *disk, const VblkRing *ring)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkQueue *queue = disk->d->queues[q];
        VblkRequest *w = vblk_write_new(queue, q * 8, 4096, q + 1);
        VblkRequest *r = vblk_read_new(queue, q * 8, 4096);
        VblkSegment out[] = { { w->header, 16 + 4096, false },
                              { w->status, 1, true } };
        VblkSegment in[] = { { r->header, 16, false },
                             { r->data, 4096 + 1, true } };

        vblk_request_add_segs(w, out, 2, ring->indirect);
        vblk_queue_kick(queue);
        vblk_request_finish(w);
        vblk_request_add_segs(r, in, 2, ring->indirect);
        vblk_queue_kick(queue);
        g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
        vblk_read_check(r, q + 1);
        vblk_request_free(r);
    }
}

static void test_joined(const VblkVariant *v)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, PROPS_IOTHREADS, check_joined);
}

/*
 * More requests than entries on the first queue, fewer on the others, in
 * batches of changing length, told to the device only where it wants to be.
 */
static void check_wrap(VblkDisk *disk, const VblkRing *ring)
{
    unsigned done = 0, kicks = 0;
    VblkRequest *r[23];

    for (unsigned round = 0; done <= disk->d->queues[0]->size; round++) {
        unsigned depth = 1 + (round * 7) % ARRAY_SIZE(r);
        unsigned q = round % 4 % QUEUES;

        for (unsigned i = 0; i < depth; i++) {
            r[i] = vblk_read_new(disk->d->queues[q], i, VBLK_SECTOR);
            add_cut(r[i], &cuts[0], ring->indirect);
            if (i % 4 == 3) {
                kicks += vblk_queue_kick(disk->d->queues[q]);
            }
        }
        kicks += vblk_queue_kick(disk->d->queues[q]);
        for (unsigned i = 0; i < depth; i++) {
            vblk_request_finish(r[i]);
        }
        done += q == 0 ? depth : 0;
    }
    g_assert_cmpuint(kicks, >, 0);
}

static void test_wrap(const VblkVariant *v)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, PROPS_IOTHREADS, check_wrap);
}

static void run_one(VblkQueue *q)
{
    g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_IN, 0, NULL, VBLK_SECTOR),
                    ==, VIRTIO_BLK_S_OK);
}

/*
 * Ask for an interrupt at the third request from now and see that it comes
 * then.  A device may interrupt early where a packed ring begins anew.
 */
static void check_third(VblkQueue *q)
{
    bool packed = q->dev->features & BIT_ULL(VIRTIO_F_RING_PACKED);
    unsigned slots = packed ? 3 : 1;

    if (packed && q->used + 3 * slots >= q->size) {
        vblk_queue_suppress(q, true);
        run_one(q);
        return;
    }
    vblk_queue_set_event(q, 2 * slots);
    run_one(q);
    run_one(q);
    vblk_vectors_silent(q->dev);
    run_one(q);
    vblk_vector_wait(q->dev, q->index + 1);
    vblk_vectors_silent(q->dev);
}

static void check_used_event(VblkDisk *disk, const VblkRing *ring)
{
    if (!(ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX))) {
        return;
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        /* The first completion after DRIVER_OK may interrupt in any case. */
        run_one(disk->d->queues[q]);
        vblk_vector_wait(disk->d, q + 1);
        for (unsigned round = 0; round < 40; round++) {
            check_third(disk->d->queues[q]);
        }
    }
}

static void test_used_event(const VblkVariant *v, const char *options)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, options, check_used_event);
}

/* The device asks to be notified of the next request, and of that only. */
static void check_avail_event(VblkDisk *disk, const VblkRing *ring)
{
    VblkRequest *r[3];

    if (!(ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX))) {
        return;
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkQueue *queue = disk->d->queues[q];

        run_one(queue);
        vblk_queue_wait_taken(queue);
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
            r[i] = vblk_read_new(queue, i, VBLK_SECTOR);
            add_cut(r[i], &cuts[0], ring->indirect);
        }
        g_assert_true(vblk_queue_kick(queue));
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
            vblk_request_finish(r[i]);
        }
        vblk_queue_wait_taken(queue);
    }
}

static void test_avail_event(const VblkVariant *v)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, PROPS_IOTHREADS, check_avail_event);
}

/* A queue has interrupts off and then on again.  Others have them on. */
static void check_suppressed(VblkDisk *disk, const VblkRing *ring)
{
    VblkDevice *d = disk->d;

    if (ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX) &&
        !(ring->features & BIT_ULL(VIRTIO_F_RING_PACKED))) {
        return;
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        unsigned other = (q + 1) % QUEUES;

        vblk_queue_suppress(d->queues[q], true);
        run_one(d->queues[q]);
        run_one(d->queues[q]);
        run_one(d->queues[other]);
        vblk_vector_wait(d, other + 1);
        vblk_vectors_silent(d);
        vblk_queue_suppress(d->queues[q], false);
        run_one(d->queues[q]);
        vblk_vector_wait(d, q + 1);
    }
}

static void test_suppressed(const VblkVariant *v)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, PROPS_IOTHREADS, check_suppressed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("rings/cuts", test_cuts, VBLK_BOTH);
    vblk_test_add("rings/joined", test_joined, VBLK_BOTH);
    vblk_test_add("rings/wrap", test_wrap, VBLK_BOTH);
    vblk_test_add_with("rings/used-event", test_used_event, PROPS, VBLK_BOTH);
    vblk_test_add_with("rings/used-event-iothread", test_used_event,
                       PROPS_IOTHREADS, VBLK_BOTH);
    vblk_test_add("rings/avail-event", test_avail_event, VBLK_BOTH);
    vblk_test_add("rings/suppressed", test_suppressed, VBLK_BOTH);
    return g_test_run();
}
