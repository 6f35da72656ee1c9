/*
 * A frontend for the Xen PV disk, for tests
 *
 *     frontend                                 backend
 *     Initialising                             InitWait
 *       blkfront_setup(), blkfront_publish()
 *     Initialised  ------------------------->
 *                  <-------------------------  Connected
 *     Connected
 *       blk_ring_put(), blk_ring_push(), blk_ring_wait()
 *     Closing      ------------------------->
 *                  <-------------------------  Closing
 *     Closed       ------------------------->
 *                  <-------------------------  Closed
 *       blkfront_teardown()
 *
 * Layouts and offsets are written down here from the text of blkif.h and the
 * two ABIs' alignment rules, and not taken from QEMU's structures, so that a
 * mistake there shows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "xen-blkfront.h"

/* The header that every shared ring begins with. */
typedef struct RingHeader {
    uint32_t req_prod;
    uint32_t req_event;
    uint32_t rsp_prod;
    uint32_t rsp_event;
} RingHeader;

#define RING_ENTRIES_OFFSET 64

/* Offsets in bytes; i386 aligns 64 bit values to 4 bytes, x86_64 to 8. */
struct BlkLayout {
    const char *key;            /* value of "protocol" */
    unsigned int entry;         /* size of a slot */
    unsigned int id;
    unsigned int sector;
    unsigned int segments;
    unsigned int nr_sectors;    /* of a discard */
    unsigned int ind_id;        /* of an indirect request */
    unsigned int ind_sector;
    unsigned int ind_handle;
    unsigned int ind_refs;
};

#define SEGMENT_SIZE 8

static const BlkLayout layouts[] = {
    [BLK_X86_64] = { "x86_64-abi", 112, 8, 16, 24, 24, 8, 16, 24, 28 },
    [BLK_X86_32] = { "x86_32-abi", 108, 4, 12, 20, 20, 4, 12, 20, 24 },
};

/* Of a response, in any layout. */
#define RSP_ID          0
#define RSP_OPERATION   8
#define RSP_STATUS      10
#define RSP_SIZE        12

/*
 * Rings
 */

static RingHeader *ring_header(BlkRing *r)
{
    return xen_guest_frame(r->g, r->frames[0]);
}

/* An entry may lie across two pages, and the pages anywhere in memory. */
static uint8_t *ring_byte(BlkRing *r, uint32_t index, unsigned int offset)
{
    size_t at = RING_ENTRIES_OFFSET + offset +
                (size_t)(index & (r->nr_entries - 1)) * r->layout->entry;

    return (uint8_t *)xen_guest_frame(r->g, r->frames[at / XEN_GUEST_PAGE_SIZE])
           + at % XEN_GUEST_PAGE_SIZE;
}

static void ring_make(XenGuest *g, BlkRing *r, const BlkOptions *options)
{
    unsigned int i;

    memset(r, 0, sizeof(*r));
    r->g = g;
    r->layout = &layouts[options->protocol];
    r->persistent = options->persistent;
    r->nr_pages = 1 << options->order;
    r->nr_entries = pow2floor((r->nr_pages * XEN_GUEST_PAGE_SIZE -
                               RING_ENTRIES_OFFSET) / r->layout->entry);
    /* Go from the last to the first, as a driver's pages need no order. */
    for (i = r->nr_pages; i-- > 0; ) {
        r->frames[i] = xen_guest_alloc_frame(g);
        r->refs[i] = xen_guest_grant(g, r->frames[i], false);
    }
    ring_header(r)->req_event = 1;
    ring_header(r)->rsp_event = 1;
    xen_port_open(g, &r->port);
}

static void ring_unmake(BlkRing *r)
{
    unsigned int i;

    if (r->kept) {
        blk_buffer_free(r->g, r->kept);
    }
    g_assert_false(xen_port_is_bound(r->g, &r->port));
    xen_port_close(r->g, &r->port);
    for (i = 0; i < r->nr_pages; i++) {
        xen_guest_revoke(r->g, r->refs[i]);
        xen_guest_free_frame(r->g, r->frames[i]);
    }
}

static void layout_read_write(const BlkLayout *l, uint8_t *buf,
                              const BlkRequest *req)
{
    unsigned int i;

    buf[1] = req->nr_segments;
    stw_le_p(buf + 2, req->handle);
    stq_le_p(buf + l->id, req->id);
    stq_le_p(buf + l->sector, req->sector);
    for (i = 0; i < BLK_MAX_SEGMENTS; i++) {
        uint8_t *seg = buf + l->segments + i * SEGMENT_SIZE;

        stl_le_p(seg, req->seg[i].ref);
        seg[4] = req->seg[i].first;
        seg[5] = req->seg[i].last;
    }
}

static void layout_discard(const BlkLayout *l, uint8_t *buf,
                           const BlkRequest *req)
{
    buf[1] = req->nr_segments;
    stw_le_p(buf + 2, req->handle);
    stq_le_p(buf + l->id, req->id);
    stq_le_p(buf + l->sector, req->sector);
    stq_le_p(buf + l->nr_sectors, req->nr_sectors);
}

static void layout_indirect(const BlkLayout *l, uint8_t *buf,
                            const BlkRequest *req)
{
    unsigned int i;

    buf[1] = req->indirect_op;
    stw_le_p(buf + 2, req->nr_indirect);
    stq_le_p(buf + l->ind_id, req->id);
    stq_le_p(buf + l->ind_sector, req->sector);
    stw_le_p(buf + l->ind_handle, req->handle);
    for (i = 0; i < BLK_MAX_INDIRECT_PAGES; i++) {
        stl_le_p(buf + l->ind_refs + 4 * i, req->indirect_refs[i]);
    }
}

void blk_ring_put(BlkRing *r, const BlkRequest *req)
{
    uint8_t buf[112] = { req->op };
    unsigned int i;

    switch (req->op) {
    case BLK_DISCARD:
        layout_discard(r->layout, buf, req);
        break;
    case BLK_INDIRECT:
        layout_indirect(r->layout, buf, req);
        break;
    default:
        layout_read_write(r->layout, buf, req);
    }
    for (i = 0; i < r->layout->entry; i++) {
        *ring_byte(r, r->req_prod, i) = buf[i];
    }
    r->req_prod++;
}

void blk_ring_push(BlkRing *r)
{
    RingHeader *h = ring_header(r);
    uint32_t old = h->req_prod;

    qatomic_store_release(&h->req_prod, r->req_prod);
    /* The backend sees the requests before we see whether it sleeps. */
    smp_mb();
    if (r->req_prod - qatomic_read(&h->req_event) < r->req_prod - old) {
        xen_port_send(&r->port);
    }
}

void blk_ring_set_producer(BlkRing *r, uint32_t index)
{
    qatomic_store_release(&ring_header(r)->req_prod, index);
    xen_port_send(&r->port);
}

bool blk_ring_take(BlkRing *r, BlkResponse *rsp)
{
    uint8_t buf[RSP_SIZE];
    unsigned int i;

    if (qatomic_load_acquire(&ring_header(r)->rsp_prod) == r->rsp_cons) {
        return false;
    }
    for (i = 0; i < RSP_SIZE; i++) {
        buf[i] = *ring_byte(r, r->rsp_cons, i);
    }
    r->rsp_cons++;
    rsp->id = ldq_le_p(buf + RSP_ID);
    rsp->op = buf[RSP_OPERATION];
    rsp->status = lduw_le_p(buf + RSP_STATUS);
    return true;
}

void blk_ring_wait(BlkRing *r, BlkResponse *rsp)
{
    while (!blk_ring_take(r, rsp)) {
        qatomic_set(&ring_header(r)->rsp_event, r->rsp_cons + 1);
        /* The backend sees that the driver sleeps, or the driver its answer. */
        smp_mb();
        if (qatomic_read(&ring_header(r)->rsp_prod) == r->rsp_cons) {
            xen_port_wait(&r->port);
        }
    }
}

void blk_ring_wait_all(BlkRing *r, unsigned int nr, int status)
{
    BlkResponse rsp;

    while (nr--) {
        blk_ring_wait(r, &rsp);
        g_assert_cmpint(rsp.status, ==, status);
    }
}

int blk_ring_run(BlkRing *r, const BlkRequest *req)
{
    BlkResponse rsp;

    blk_ring_put(r, req);
    blk_ring_push(r);
    blk_ring_wait(r, &rsp);
    g_assert_cmpint(rsp.id, ==, req->id);
    g_assert_cmpint(rsp.op, ==, req->op == BLK_INDIRECT ?
                    req->indirect_op : req->op);
    return rsp.status;
}

bool blk_ring_quiet(BlkRing *r)
{
    BlkResponse rsp;

    xen_guest_sync(r->g);
    return !blk_ring_take(r, &rsp);
}

/*
 * Buffers
 */

BlkBuffer *blk_buffer_new(XenGuest *g, unsigned int nr_pages, bool readonly)
{
    BlkBuffer *b = g_new0(BlkBuffer, 1);
    unsigned int i;

    g_assert_cmpint(nr_pages, <=, ARRAY_SIZE(b->frame));
    g_ptr_array_add(g->owned, b);
    b->nr_pages = nr_pages;
    for (i = 0; i < nr_pages; i++) {
        b->frame[i] = xen_guest_alloc_frame(g);
        b->ref[i] = xen_guest_grant(g, b->frame[i], readonly);
    }
    return b;
}

void blk_buffer_free(XenGuest *g, BlkBuffer *b)
{
    unsigned int i;

    for (i = 0; i < b->nr_pages; i++) {
        xen_guest_revoke(g, b->ref[i]);
        xen_guest_free_frame(g, b->frame[i]);
    }
    g_ptr_array_remove_fast(g->owned, b);
}

void blk_buffer_fill(XenGuest *g, BlkBuffer *b, const void *data, size_t len)
{
    size_t at;

    for (at = 0; at < len; at += XEN_GUEST_PAGE_SIZE) {
        memcpy(xen_guest_frame(g, b->frame[at / XEN_GUEST_PAGE_SIZE]),
               (const uint8_t *)data + at, MIN(len - at, XEN_GUEST_PAGE_SIZE));
    }
}

void blk_buffer_get(XenGuest *g, BlkBuffer *b, void *data, size_t len)
{
    size_t at;

    for (at = 0; at < len; at += XEN_GUEST_PAGE_SIZE) {
        memcpy((uint8_t *)data + at,
               xen_guest_frame(g, b->frame[at / XEN_GUEST_PAGE_SIZE]),
               MIN(len - at, XEN_GUEST_PAGE_SIZE));
    }
}

void blk_buffer_request(BlkBuffer *b, BlkRequest *req, int op,
                        uint64_t sector, size_t len)
{
    unsigned int i;

    memset(req, 0, sizeof(*req));
    req->op = op;
    req->sector = sector;
    req->nr_segments = DIV_ROUND_UP(len, XEN_GUEST_PAGE_SIZE);
    g_assert_cmpint(req->nr_segments, <=, BLK_MAX_SEGMENTS);
    for (i = 0; i < req->nr_segments; i++) {
        size_t left = len - (size_t)i * XEN_GUEST_PAGE_SIZE;

        req->seg[i].ref = b->ref[i];
        req->seg[i].last = MIN(left, XEN_GUEST_PAGE_SIZE) / BLK_SECTOR - 1;
    }
}

void blk_indirect_segment(XenGuest *g, BlkBuffer *pages, unsigned int n,
                          const BlkSegment *seg)
{
    uint8_t *page = xen_guest_frame(g, pages->frame[n / BLK_SEGMENTS_PER_PAGE]);
    uint8_t *at = page + n % BLK_SEGMENTS_PER_PAGE * SEGMENT_SIZE;

    stl_le_p(at, seg->ref);
    at[4] = seg->first;
    at[5] = seg->last;
}

void blk_indirect_request(XenGuest *g, BlkBuffer *pages, BlkBuffer *b,
                          BlkRequest *req, int op, uint64_t sector,
                          unsigned int nr)
{
    unsigned int i;

    memset(req, 0, sizeof(*req));
    req->op = BLK_INDIRECT;
    req->indirect_op = op;
    req->sector = sector;
    req->nr_indirect = nr;
    for (i = 0; i < pages->nr_pages; i++) {
        req->indirect_refs[i] = pages->ref[i];
    }
    for (i = 0; i < nr; i++) {
        BlkSegment seg = { .ref = b->ref[i], .last = 7 };

        blk_indirect_segment(g, pages, i, &seg);
    }
}

/* Persistent grants come again, as the backend expects of them. */
static BlkBuffer *ring_get_buffer(BlkRing *r, int op, size_t len)
{
    if (!r->persistent) {
        return blk_buffer_new(r->g, DIV_ROUND_UP(len, XEN_GUEST_PAGE_SIZE),
                              op == BLK_WRITE);
    }
    if (!r->kept) {
        r->kept = blk_buffer_new(r->g, BLK_MAX_SEGMENTS, false);
    }
    return r->kept;
}

static int ring_transfer(BlkRing *r, int op, uint64_t sector, void *data,
                         size_t len)
{
    BlkBuffer *b = ring_get_buffer(r, op, len);
    BlkRequest req;
    int status;

    blk_buffer_request(b, &req, op, sector, len);
    req.id = r->next_id++;
    if (op == BLK_WRITE) {
        blk_buffer_fill(r->g, b, data, len);
    }
    status = blk_ring_run(r, &req);
    if (op == BLK_READ && status == BLK_OKAY) {
        blk_buffer_get(r->g, b, data, len);
    }
    if (b != r->kept) {
        blk_buffer_free(r->g, b);
    }
    return status;
}

int blk_ring_read(BlkRing *r, uint64_t sector, void *data, size_t len)
{
    return ring_transfer(r, BLK_READ, sector, data, len);
}

int blk_ring_write(BlkRing *r, uint64_t sector, const void *data, size_t len)
{
    return ring_transfer(r, BLK_WRITE, sector, (void *)data, len);
}

int blk_ring_read_page(BlkRing *r, const BlkBuffer *b, unsigned int n)
{
    BlkRequest req = { .op = BLK_READ, .nr_segments = 1, .sector = 8 * n };

    req.seg[0].ref = b->ref[n];
    req.seg[0].last = 7;
    return blk_ring_run(r, &req);
}

void blk_ring_check(BlkRing *r, uint64_t sector)
{
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];

    blk_pattern(out, sizeof(out), r->next_id + sector);
    g_assert_cmpint(blk_ring_write(r, sector, out, sizeof(out)), ==, BLK_OKAY);
    g_assert_cmpint(blk_ring_read(r, sector, in, sizeof(in)), ==, BLK_OKAY);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
}

void blk_pattern(uint8_t *data, size_t len, uint32_t seed)
{
    size_t i;

    for (i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = seed >> 16;
    }
}

/*
 * Negotiation
 */

Blkfront *blkfront_new(XenGuest *g, unsigned int vdev)
{
    Blkfront *f = g_new0(Blkfront, 1);

    f->g = g;
    f->fe = g_strdup_printf("/local/domain/%d/device/vbd/%u",
                            XEN_GUEST_DOMID, vdev);
    f->be = g_strdup_printf("/local/domain/0/backend/qdisk/%d/%u",
                            XEN_GUEST_DOMID, vdev);
    return f;
}

void blkfront_free(Blkfront *f)
{
    g_assert_cmpint(f->nr_rings, ==, 0);
    g_free(f->fe);
    g_free(f->be);
    g_free(f);
}

void blkfront_state(Blkfront *f, int state)
{
    xs_put(f->g, f->fe, "state", "%d", state);
}

void blkfront_expect(Blkfront *f, int state)
{
    xs_wait_state(f->g, f->be, state, state);
}

int blkfront_backend_state(Blkfront *f)
{
    xen_guest_sync(f->g);
    return xs_get_number(f->g, f->be, "state", XB_UNKNOWN);
}

void blkfront_setup(Blkfront *f, const BlkOptions *options)
{
    unsigned int i;

    f->nr_rings = MAX(options->rings, 1);
    g_assert_cmpint(f->nr_rings, <=, BLK_MAX_RINGS);
    for (i = 0; i < f->nr_rings; i++) {
        ring_make(f->g, &f->ring[i], options);
    }
}

static void ring_publish(BlkRing *r, const char *dir, bool numbered)
{
    unsigned int i;

    if (!numbered) {
        xs_put(r->g, dir, "ring-ref", "%u", r->refs[0]);
    }
    for (i = 0; numbered && i < r->nr_pages; i++) {
        g_autofree char *key = g_strdup_printf("ring-ref%u", i);

        xs_put(r->g, dir, key, "%u", r->refs[i]);
    }
    xs_put(r->g, dir, "event-channel", "%u", r->port.number);
}

void blkfront_publish(Blkfront *f, const BlkOptions *options)
{
    bool numbered = options->order || options->write_order;
    unsigned int i;

    if (numbered) {
        xs_put(f->g, f->fe, "ring-page-order", "%u", options->order);
    }
    if (options->rings > 1 || options->write_num_queues) {
        xs_put(f->g, f->fe, "multi-queue-num-queues", "%u", f->nr_rings);
    }
    if (options->rings > 1) {
        for (i = 0; i < f->nr_rings; i++) {
            g_autofree char *dir = g_strdup_printf("%s/queue-%u", f->fe, i);

            ring_publish(&f->ring[i], dir, numbered);
        }
    } else {
        ring_publish(&f->ring[0], f->fe, numbered);
    }
    if (!options->no_protocol) {
        xs_put(f->g, f->fe, "protocol", "%s", layouts[options->protocol].key);
    }
    if (options->persistent) {
        xs_put(f->g, f->fe, "feature-persistent", "1");
    }
    if (options->large_sectors) {
        xs_put(f->g, f->fe, "feature-large-sector-size", "1");
    }
}

/* The keys that a driver removes before it starts over with other choices. */
static void blkfront_unpublish(Blkfront *f)
{
    static const char *const keys[] = {
        "ring-page-order", "multi-queue-num-queues", "protocol",
        "feature-persistent", "feature-large-sector-size",
        "ring-ref", "event-channel",
    };
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(keys); i++) {
        g_free(xen_guest_ask(f->g, "xs_rm %s/%s", f->fe, keys[i]));
    }
    for (i = 0; i < BLK_MAX_RINGS; i++) {
        g_free(xen_guest_ask(f->g, "xs_rm %s/queue-%u", f->fe, i));
    }
}

void blkfront_teardown(Blkfront *f)
{
    unsigned int i;

    for (i = 0; i < f->nr_rings; i++) {
        ring_unmake(&f->ring[i]);
    }
    f->nr_rings = 0;
}

void blkfront_connect(Blkfront *f, const BlkOptions *options)
{
    blkfront_expect(f, XB_INIT_WAIT);
    blkfront_setup(f, options);
    blkfront_publish(f, options);
    blkfront_state(f, XB_INITIALISED);
    blkfront_expect(f, XB_CONNECTED);
    blkfront_state(f, XB_CONNECTED);
    xen_guest_sync(f->g);
}

void blkfront_disconnect(Blkfront *f)
{
    blkfront_state(f, XB_CLOSING);
    blkfront_expect(f, XB_CLOSING);
    blkfront_state(f, XB_CLOSED);
    blkfront_expect(f, XB_CLOSED);
    blkfront_teardown(f);
}

void blkfront_reset(Blkfront *f)
{
    blkfront_unpublish(f);
    blkfront_state(f, XB_INITIALISING);
    blkfront_expect(f, XB_INIT_WAIT);
}

void blkfront_refused(Blkfront *f)
{
    blkfront_state(f, XB_INITIALISED);
    g_assert_cmpint(blkfront_backend_state(f), !=, XB_CONNECTED);
}
