/*
 * ring-driver: a ring of the Xen PV disk, from fill to collect
 *
 * Layouts as the protocol "x86_64-abi" of blkif.h has them.  A slot's page is
 * granted once and for all, so a backend that keeps persistent grants can use
 * it as it is, and one that does not copies.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ring-driver.h"

enum {
    BLKIF_OP_READ = 0,
    BLKIF_OP_WRITE = 1,
    BLKIF_OP_INDIRECT = 6,
    PAGE_SIZE = 4096,
    LAST_SECTOR = SECTORS_PER_BLOCK - 1,
    /* Not in any 32 bits of progress that the ring makes meanwhile */
    NEVER = 0x40000000,
};

typedef struct {
    uint32_t gref;
    uint8_t first, last;        /* sectors of the page */
    uint16_t padding;
} Segment;

typedef struct {
    uint8_t operation, n_segments;
    uint16_t handle;
    uint32_t padding;
    uint64_t id, sector;
    Segment segments[11];
} Request;

typedef struct {
    uint8_t operation, indirect_operation;
    uint16_t n_segments;
    uint32_t padding;
    uint64_t id, sector;
    uint16_t handle, padding2;
    uint32_t indirect_grefs[8];
} IndirectRequest;

typedef struct {
    uint64_t id;
    uint8_t operation, padding;
    int16_t status;
} Response;

typedef union {
    Request request;
    IndirectRequest indirect;
    Response response;
} Entry;

typedef struct {
    uint32_t req_prod, req_event, rsp_prod, rsp_event;
    uint8_t padding[48];
    Entry entries[];
} SharedRing;

typedef struct {
    SharedRing *shared;
    uint32_t first_gref;        /* of the slots' pages, in order */
    uint32_t table_gref;        /* of their indirect pages, likewise */
    int send_fd, wait_fd;       /* the event channel: eventfds */
    uint16_t handle;

    uint32_t req_prod;          /* next entry to fill */
    uint32_t kicked_prod;       /* req_prod when the backend was last asked */
    uint32_t rsp_cons;          /* next entry to collect */
} XenRing;

/*
 * spec: ring,tables,first-gref,table-gref,send-fd,wait-fd,vdev: hexadecimal;
 * tables is the guest address of a page for each slot's indirect segments
 */
static void xen_ring_init(Driver *d, Queue *q, const char *spec)
{
    XenRing *r = q->ring = new_array(1, sizeof(*r));
    uint64_t ring, tables;
    unsigned send_fd, wait_fd, vdev;

    if (sscanf(spec, "%" SCNx64 ",%" SCNx64 ",%" SCNx32 ",%" SCNx32
               ",%x,%x,%x", &ring, &tables, &r->first_gref, &r->table_gref,
               &send_fd, &wait_fd, &vdev) != 7) {
        die("'%s' does not describe a ring", spec);
    }
    r->send_fd = send_fd;
    r->wait_fd = wait_fd;
    r->handle = vdev;
    r->shared = guest_ptr(d, ring, sizeof(*r->shared) +
                          d->ring_size * sizeof(Entry));
    r->req_prod = r->kicked_prod = r->shared->req_prod;
    r->rsp_cons = r->shared->rsp_prod;
    for (unsigned slot = 0; d->indirect && slot < d->depth; slot++) {
        Segment *table = guest_ptr(d, tables + slot * PAGE_SIZE, PAGE_SIZE);

        table[0] = (Segment) {
            .gref = r->first_gref + slot,
            .last = LAST_SECTOR,
        };
    }
}

static void xen_ring_put(Driver *d, XenRing *r, unsigned slot)
{
    Entry *entry = &r->shared->entries[r->req_prod++ % d->ring_size];
    uint8_t operation = d->write ? BLKIF_OP_WRITE : BLKIF_OP_READ;

    if (d->indirect) {
        entry->indirect = (IndirectRequest) {
            .operation = BLKIF_OP_INDIRECT,
            .indirect_operation = operation,
            .n_segments = 1,
            .id = slot,
            .sector = driver_random_sector(d),
            .handle = r->handle,
            .indirect_grefs = { r->table_gref + slot },
        };
    } else {
        entry->request = (Request) {
            .operation = operation,
            .n_segments = 1,
            .handle = r->handle,
            .id = slot,
            .sector = driver_random_sector(d),
            .segments = { { r->first_gref + slot, 0, LAST_SECTOR, 0 } },
        };
    }
}

static void xen_ring_kick_if_wanted(Queue *q)
{
    XenRing *r = q->ring;
    uint64_t one = 1;
    uint32_t event;

    if (r->kicked_prod == r->req_prod) {
        return;
    }
    /* The requests must be visible before the backend's wish is read */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = __atomic_load_n(&r->shared->req_event, __ATOMIC_RELAXED);
    if (r->req_prod - event < r->req_prod - r->kicked_prod) {
        if (write(r->send_fd, &one, sizeof(one)) != sizeof(one)) {
            die("cannot kick ring %u: %s", q->index, strerror(errno));
        }
        q->kicks++;
    }
    r->kicked_prod = r->req_prod;
}

static unsigned xen_ring_submit(Driver *d, Queue *q, uint64_t n)
{
    XenRing *r = q->ring;
    uint64_t now = driver_now(d);
    unsigned done;

    for (done = 0; done < n && q->n_free; done++) {
        xen_ring_put(d, r, queue_take_slot(q, now));
    }
    __atomic_store_n(&r->shared->req_prod, r->req_prod, __ATOMIC_RELEASE);
    xen_ring_kick_if_wanted(q);
    return done;
}

static unsigned xen_ring_collect(Driver *d, Queue *q)
{
    XenRing *r = q->ring;
    uint32_t end = __atomic_load_n(&r->shared->rsp_prod, __ATOMIC_ACQUIRE);
    unsigned n = end - r->rsp_cons;
    uint64_t now = n ? driver_now(d) : 0;

    for (; r->rsp_cons != end; r->rsp_cons++) {
        Response *response =
            &r->shared->entries[r->rsp_cons % d->ring_size].response;

        queue_end_slot(d, q, response->id, response->status == 0, now);
    }
    return n;
}

static void xen_ring_arm(Driver *d, Queue *q)
{
    XenRing *r = q->ring;

    __atomic_store_n(&r->shared->rsp_event,
                     r->rsp_cons + (d->interrupts ? 1 : NEVER),
                     __ATOMIC_RELAXED);
}

static bool xen_ring_take_event(Driver *d, Queue *q)
{
    XenRing *r = q->ring;
    uint64_t events;

    if (read(r->wait_fd, &events, sizeof(events)) == sizeof(events)) {
        q->interrupts += events;
        return true;
    }
    return !d->interrupts;
}

static unsigned xen_ring_service(Driver *d, Queue *q)
{
    XenRing *r = q->ring;
    unsigned total = 0;

    if (!xen_ring_take_event(d, q)) {
        return 0;
    }
    do {
        total += xen_ring_collect(d, q);
        xen_ring_arm(d, q);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&r->shared->rsp_prod, __ATOMIC_RELAXED) !=
             r->rsp_cons);
    return total;
}

const RingOps xen_ring_ops = {
    .init = xen_ring_init,
    .submit = xen_ring_submit,
    .arm = xen_ring_arm,
    .service = xen_ring_service,
};
