/*
 * virtio-ring-driver: one queue, from fill to collect
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

#include "virtio-ring-driver.h"

/* xorshift64*: quick, and the same sequence in every run */
static uint64_t random_next(Driver *d)
{
    uint64_t x = d->random_state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    d->random_state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

static void *guest_ptr(Driver *d, uint64_t addr, uint64_t size)
{
    if (addr > d->memory_size || size > d->memory_size - addr) {
        die("guest address 0x%" PRIx64 " is outside of guest memory", addr);
    }
    return d->memory + addr;
}

static uint64_t guest_addr(Driver *d, const void *p)
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

static void queue_kick(Driver *d, Queue *q)
{
    char command[64];
    int n = snprintf(command, sizeof(command), "writew 0x%" PRIx64 " 0x%x\n",
                     q->notify_addr, q->index);

    if (send(d->qtest_fd, command, n, MSG_NOSIGNAL) != n) {
        die("cannot kick queue %u: %s", q->index, strerror(errno));
    }
    q->kicks++;
    d->kick_replies_due++;
    qtest_collect_replies(d, false);
}

/* Kick if the device wants to hear of what is new: section 2.7.10 */
static void queue_kick_if_wanted(Driver *d, Queue *q)
{
    uint16_t event;

    if (q->kicked_idx == q->avail_idx) {
        return;
    }
    /* The new index must be visible before the device's wish is read */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = __atomic_load_n(q->avail_event, __ATOMIC_RELAXED);
    if (vring_need_event(event, q->avail_idx, q->kicked_idx)) {
        queue_kick(d, q);
    }
    q->kicked_idx = q->avail_idx;
}

/* --- Setting up --- */

/* Everything about a slot's descriptors but the sector is written once */
static void slot_init(Driver *d, Queue *q, unsigned slot)
{
    uint8_t *control = q->slots + slot * SLOT_SIZE;
    uint8_t *data = q->slots + d->depth * SLOT_SIZE;
    struct vring_desc *table = d->indirect ?
        (struct vring_desc *)(control + SLOT_TABLE) : &q->desc[slot * 3];
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
        q->desc[slot] = (struct vring_desc) {
            .addr = guest_addr(d, table),
            .len = 3 * sizeof(*table),
            .flags = VRING_DESC_F_INDIRECT,
        };
    }
}

/* spec: desc,avail,used,slots,notify,msix as guest physical addresses */
void queue_init(Driver *d, const char *spec)
{
    Queue *q = &d->queues[d->n_queues];
    uint64_t desc, avail, used, slots, msix;

    if (sscanf(spec, "%" SCNx64 ",%" SCNx64 ",%" SCNx64 ",%" SCNx64
               ",%" SCNx64 ",%" SCNx64, &desc, &avail, &used, &slots,
               &q->notify_addr, &msix) != 6) {
        die("'%s' does not describe a queue", spec);
    }
    q->index = d->n_queues++;
    q->desc = guest_ptr(d, desc, 16 * d->ring_size);
    q->avail = guest_ptr(d, avail, 6 + 2 * d->ring_size);
    q->used = guest_ptr(d, used, 6 + 8 * d->ring_size);
    q->avail_event = (uint16_t *)(q->used->ring + d->ring_size);
    q->used_event = q->avail->ring + d->ring_size;
    q->slots = guest_ptr(d, slots, d->depth * SLOT_SIZE);
    q->msix = guest_ptr(d, msix, sizeof(*q->msix));
    q->avail_idx = q->kicked_idx = q->avail->idx;
    q->used_idx = q->used->idx;
    q->free_slots = new_array(d->depth, sizeof(*q->free_slots));
    q->started = new_array(d->depth, sizeof(*q->started));
    for (unsigned slot = 0; slot < d->depth; slot++) {
        slot_init(d, q, slot);
        q->free_slots[q->n_free++] = slot;
    }
}

/* --- The data path --- */

/* Make up to @n requests available; returns how many */
static unsigned queue_fill(Driver *d, Queue *q, uint64_t n)
{
    uint64_t now = d->latency ? now_ns() : 0;
    unsigned done;

    for (done = 0; done < n && q->n_free; done++) {
        unsigned slot = q->free_slots[--q->n_free];
        uint8_t *control = q->slots + slot * SLOT_SIZE;
        struct virtio_blk_outhdr *header = (void *)control;

        header->type = d->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
        header->ioprio = 0;
        header->sector = random_next(d) % d->n_blocks * SECTORS_PER_BLOCK;
        control[SLOT_STATUS] = 0xff;
        q->avail->ring[(uint16_t)(q->avail_idx + done) % d->ring_size] =
            d->indirect ? slot : slot * 3;
        q->started[slot] = now;
    }
    if (done) {
        q->avail_idx += done;
        __atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
    }
    return done;
}

/* Collect what has completed; returns how many */
static unsigned queue_collect(Driver *d, Queue *q)
{
    uint16_t end = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
    unsigned n = (uint16_t)(end - q->used_idx);
    uint64_t now = n && d->latency ? now_ns() : 0;

    for (unsigned i = 0; i < n; i++, q->used_idx++) {
        uint32_t id = q->used->ring[q->used_idx % d->ring_size].id;
        unsigned slot = d->indirect ? id : id / 3;

        if (slot >= d->depth || q->n_free == d->depth) {
            die("queue %u: the device completed %u, which it was not given",
                q->index, id);
        }
        q->failed += q->slots[slot * SLOT_SIZE + SLOT_STATUS] !=
            VIRTIO_BLK_S_OK;
        q->free_slots[q->n_free++] = slot;
        if (d->latency && d->n_latencies < MAX_LATENCIES) {
            d->latency[d->n_latencies++] = now - q->started[slot];
        }
    }
    q->completed += n;
    return n;
}

/*
 * Ask for an interrupt on the next completion, or for none: section 2.7.7.2.
 * None: an index half the ring's number space away, moved along with time.
 */
void queue_set_used_event(Driver *d, Queue *q)
{
    uint16_t event = d->interrupts ? q->used_idx : q->used_idx + 0x8000;

    __atomic_store_n(q->used_event, event, __ATOMIC_RELAXED);
}

/* True if this queue may be looked at: polled, or it has interrupted */
static bool queue_take_interrupt(Driver *d, Queue *q)
{
    if (!d->interrupts) {
        return true;
    }
    if (!__atomic_exchange_n(q->msix, 0, __ATOMIC_SEQ_CST)) {
        return false;
    }
    q->interrupts++;
    return true;
}

/* Collect, as a driver's interrupt handler does, until nothing is left */
unsigned queue_service(Driver *d, Queue *q)
{
    unsigned total = 0, n;

    if (!queue_take_interrupt(d, q)) {
        return 0;
    }
    do {
        n = queue_collect(d, q);
        total += n;
        queue_set_used_event(d, q);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&q->used->idx, __ATOMIC_RELAXED) != q->used_idx);
    return total;
}

unsigned queue_submit(Driver *d, Queue *q, uint64_t n)
{
    n = queue_fill(d, q, n);
    queue_kick_if_wanted(d, q);
    return n;
}

void queues_settle(Driver *d)
{
    qtest_collect_replies(d, true);
}
