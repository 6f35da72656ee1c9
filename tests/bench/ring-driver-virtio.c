/*
 * ring-driver: a virtqueue, from fill to collect
 *
 * Split rings with VIRTIO_F_EVENT_IDX, VIRTIO 1.2 section 2.7.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "ring-driver.h"

enum {
    /* A request's control data: header, status, indirect table */
    SLOT_STATUS = 16,
    SLOT_TABLE = 32,
    SLOT_SIZE = 128,
};

/* Parts of the ring, in this process's view of guest memory */
typedef struct {
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint8_t *slots;             /* SLOT_SIZE bytes of control data each */
    uint16_t *avail_event;      /* the device: kick when this is passed */
    uint16_t *used_event;       /* the driver: interrupt, likewise */
    uint32_t *msix;             /* written by the device's MSI-X message */
    uint64_t notify_addr;       /* where a kick is written */

    uint16_t avail_idx;         /* next entry to make available */
    uint16_t kicked_idx;        /* avail_idx when the device was last asked */
    uint16_t used_idx;          /* next entry to collect */
} Virtqueue;

static uint64_t guest_addr(const Driver *d, const void *p)
{
    return (const uint8_t *)p - d->memory;
}

/* --- Kicks: one qtest write each, its reply collected when convenient --- */

/* Those that are there; if @all, also those that have yet to come */
static void qtest_collect_replies(Driver *d, bool all)
{
    struct pollfd pollfd = { .fd = d->qtest_fd, .events = POLLIN };
    char reply[512];

    while (d->kick_replies_due &&
           poll(&pollfd, 1, all ? STALL_SECONDS * 1000 : 0) > 0) {
        ssize_t n = recv(d->qtest_fd, reply, sizeof(reply), MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            die("QEMU has closed its qtest socket");
        }
        for (ssize_t i = 0; i < n; i++) {
            d->kick_replies_due -= reply[i] == '\n';
        }
    }
    if (all && d->kick_replies_due) {
        die("QEMU does not answer");
    }
}

static void virtqueue_kick(Driver *d, Queue *q)
{
    Virtqueue *v = q->ring;
    char command[64];
    int n = snprintf(command, sizeof(command), "writew 0x%" PRIx64 " 0x%x\n",
                     v->notify_addr, q->index);

    if (send(d->qtest_fd, command, n, MSG_NOSIGNAL) != n) {
        die("cannot kick queue %u: %s", q->index, strerror(errno));
    }
    q->kicks++;
    d->kick_replies_due++;
    qtest_collect_replies(d, false);
}

/* Kick if the device wants to hear of what is new: section 2.7.10 */
static void virtqueue_kick_if_wanted(Driver *d, Queue *q)
{
    Virtqueue *v = q->ring;
    uint16_t event;

    if (v->kicked_idx == v->avail_idx) {
        return;
    }
    /* The new index must be visible before the device's wish is read */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = __atomic_load_n(v->avail_event, __ATOMIC_RELAXED);
    if (vring_need_event(event, v->avail_idx, v->kicked_idx)) {
        virtqueue_kick(d, q);
    }
    v->kicked_idx = v->avail_idx;
}

/* --- Setting up --- */

/* Everything about a slot's descriptors but the sector is written once */
static void slot_init(Driver *d, Virtqueue *v, unsigned slot)
{
    uint8_t *control = v->slots + slot * SLOT_SIZE;
    uint8_t *data = v->slots + d->depth * SLOT_SIZE;
    struct vring_desc *table = d->indirect ?
        (struct vring_desc *)(control + SLOT_TABLE) : &v->desc[slot * 3];
    unsigned first = d->indirect ? 0 : slot * 3;

    data += -(uintptr_t)data % BLOCK_SIZE + slot * (uint64_t)BLOCK_SIZE;
    guest_ptr(d, guest_addr(d, data), BLOCK_SIZE);

    table[0] = (struct vring_desc) {
        .addr = guest_addr(d, control),
        .len = sizeof(struct virtio_blk_outhdr),
        .flags = VRING_DESC_F_NEXT,
        .next = first + 1,
    };
    table[1] = (struct vring_desc) {
        .addr = guest_addr(d, data),
        .len = BLOCK_SIZE,
        .flags = VRING_DESC_F_NEXT | (d->write ? 0 : VRING_DESC_F_WRITE),
        .next = first + 2,
    };
    table[2] = (struct vring_desc) {
        .addr = guest_addr(d, control + SLOT_STATUS),
        .len = 1,
        .flags = VRING_DESC_F_WRITE,
    };
    if (d->indirect) {
        v->desc[slot] = (struct vring_desc) {
            .addr = guest_addr(d, table),
            .len = 3 * sizeof(*table),
            .flags = VRING_DESC_F_INDIRECT,
        };
    }
}

/* spec: desc,avail,used,slots,notify,msix: guest addresses, hexadecimal */
static void virtqueue_init(Driver *d, Queue *q, const char *spec)
{
    Virtqueue *v = q->ring = new_array(1, sizeof(*v));
    uint64_t desc, avail, used, slots, msix;

    if (sscanf(spec, "%" SCNx64 ",%" SCNx64 ",%" SCNx64 ",%" SCNx64
               ",%" SCNx64 ",%" SCNx64, &desc, &avail, &used, &slots,
               &v->notify_addr, &msix) != 6) {
        die("'%s' does not describe a virtqueue", spec);
    }
    v->desc = guest_ptr(d, desc, 16 * d->ring_size);
    v->avail = guest_ptr(d, avail, 6 + 2 * d->ring_size);
    v->used = guest_ptr(d, used, 6 + 8 * d->ring_size);
    v->avail_event = (uint16_t *)(v->used->ring + d->ring_size);
    v->used_event = v->avail->ring + d->ring_size;
    v->slots = guest_ptr(d, slots, d->depth * SLOT_SIZE);
    v->msix = guest_ptr(d, msix, sizeof(*v->msix));
    v->avail_idx = v->kicked_idx = v->avail->idx;
    v->used_idx = v->used->idx;
    for (unsigned slot = 0; slot < d->depth; slot++) {
        slot_init(d, v, slot);
    }
}

/* --- The data path --- */

static unsigned virtqueue_fill(Driver *d, Queue *q, uint64_t n)
{
    Virtqueue *v = q->ring;
    uint64_t now = driver_now(d);
    unsigned done;

    for (done = 0; done < n && q->n_free; done++) {
        unsigned slot = queue_take_slot(q, now);
        uint8_t *control = v->slots + slot * SLOT_SIZE;
        struct virtio_blk_outhdr *header = (void *)control;

        header->type = d->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
        header->ioprio = 0;
        header->sector = driver_random_sector(d);
        control[SLOT_STATUS] = 0xff;
        v->avail->ring[(uint16_t)(v->avail_idx + done) % d->ring_size] =
            d->indirect ? slot : slot * 3;
    }
    if (done) {
        v->avail_idx += done;
        __atomic_store_n(&v->avail->idx, v->avail_idx, __ATOMIC_RELEASE);
    }
    return done;
}

static unsigned virtqueue_submit(Driver *d, Queue *q, uint64_t n)
{
    n = virtqueue_fill(d, q, n);
    virtqueue_kick_if_wanted(d, q);
    return n;
}

static unsigned virtqueue_collect(Driver *d, Queue *q)
{
    Virtqueue *v = q->ring;
    uint16_t end = __atomic_load_n(&v->used->idx, __ATOMIC_ACQUIRE);
    unsigned n = (uint16_t)(end - v->used_idx);
    uint64_t now = n ? driver_now(d) : 0;

    for (unsigned i = 0; i < n; i++, v->used_idx++) {
        uint32_t id = v->used->ring[v->used_idx % d->ring_size].id;
        unsigned slot = d->indirect ? id : id / 3;

        queue_end_slot(d, q, slot, slot < d->depth &&
                       v->slots[slot * SLOT_SIZE + SLOT_STATUS] ==
                       VIRTIO_BLK_S_OK, now);
    }
    return n;
}

/*
 * Section 2.7.7.2.  To get no interrupt, ask for one at an index that is half
 * the number space away, and move this index along with time.
 */
static void virtqueue_arm(Driver *d, Queue *q)
{
    Virtqueue *v = q->ring;
    uint16_t event = d->interrupts ? v->used_idx : v->used_idx + 0x8000;

    __atomic_store_n(v->used_event, event, __ATOMIC_RELAXED);
}

/* True if this queue may be looked at: polled, or it has interrupted */
static bool virtqueue_take_interrupt(Driver *d, Queue *q)
{
    Virtqueue *v = q->ring;

    if (!d->interrupts) {
        return true;
    }
    if (!__atomic_exchange_n(v->msix, 0, __ATOMIC_SEQ_CST)) {
        return false;
    }
    q->interrupts++;
    return true;
}

static unsigned virtqueue_service(Driver *d, Queue *q)
{
    Virtqueue *v = q->ring;
    unsigned total = 0;

    if (!virtqueue_take_interrupt(d, q)) {
        return 0;
    }
    do {
        total += virtqueue_collect(d, q);
        virtqueue_arm(d, q);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&v->used->idx, __ATOMIC_RELAXED) != v->used_idx);
    return total;
}

static void virtqueues_settle(Driver *d)
{
    qtest_collect_replies(d, true);
}

const RingOps virtio_ring_ops = {
    .init = virtqueue_init,
    .submit = virtqueue_submit,
    .arm = virtqueue_arm,
    .service = virtqueue_service,
    .settle = virtqueues_settle,
};
