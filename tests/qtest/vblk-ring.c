/*
 * The driver's side of a virtqueue, split or packed
 *
 *     add:     a chain of segments into free descriptors, given an id
 *     expose:  all added chains at once: one available index (split) or the
 *              flags of the first chain's head, last (packed)
 *     kick:    expose, and notify if the device wants it
 *     poll:    one used id back, with the token that was added with it
 *
 * See VIRTIO 1.2, sections 2.7 (split) and 2.8 (packed).  Only the rings are in
 * guest memory.  The driver's own state is in VblkQueue, so nothing that a
 * device writes can mislead the driver.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "vblk-ring.h"

#define DESC_SIZE 16
#define LEGACY_ALIGN 4096

/* Split ring: the mark for the end of a chain in VblkQueue's @chain */
#define LAST UINT_MAX

/**
 * VblkRingOps: what differs between the two kinds of ring.
 * @add: write a chain with the given id
 * @expose: see vblk_queue_expose()
 * @wants_kick: whether the last @num indexes or slots are worth a notification
 * @taken: whether the device has asked for a notification after the last
 *         exposed chain
 * @poll: take one used id; false if there is none
 */
struct VblkRingOps {
    void (*add)(VblkQueue *q, unsigned id, const VblkSegment *segs,
                unsigned num, uint16_t flags);
    void (*expose)(VblkQueue *q);
    bool (*wants_kick)(VblkQueue *q, uint16_t num);
    bool (*taken)(VblkQueue *q);
    bool (*poll)(VblkQueue *q, uint32_t *id, uint32_t *len);
};

static bool has_feature(VblkQueue *q, unsigned bit)
{
    return q->dev->features & BIT_ULL(bit);
}

static void desc_write(VblkDevice *d, uint64_t addr, uint64_t buffer,
                       uint32_t len, uint16_t third, uint16_t fourth)
{
    uint8_t raw[DESC_SIZE];

    stq_le_p(raw, buffer);
    stl_le_p(raw + 8, len);
    stw_le_p(raw + 12, third);
    stw_le_p(raw + 14, fourth);
    qtest_memwrite(d->qts, addr, raw, sizeof(raw));
}

/*
 * Split ring
 */

static uint64_t split_used_event(VblkQueue *q)
{
    return q->driver + 4 + 2 * q->size;
}

static uint64_t split_avail_event(VblkQueue *q)
{
    return q->device + 4 + 8 * q->size;
}

void vblk_split_write(VblkDevice *d, uint64_t table, unsigned i, uint64_t addr,
                      uint32_t len, uint16_t flags, uint16_t next)
{
    desc_write(d, table + i * DESC_SIZE, addr, len, flags, next);
}

static void split_put(VblkQueue *q, uint16_t head)
{
    qtest_writew(q->dev->qts, q->driver + 4 + 2 * (q->avail % q->size), head);
    q->avail++;
    q->added++;
}

static void split_expose(VblkQueue *q)
{
    qtest_writew(q->dev->qts, q->driver + 2, q->avail);
}

unsigned vblk_split_claim(VblkQueue *q, void *token)
{
    unsigned id = q->free[--q->num_free];

    q->tokens[id] = token;
    q->chain[id] = LAST;
    return id;
}

void vblk_split_offer(VblkQueue *q, uint16_t head)
{
    split_put(q, head);
    vblk_queue_expose(q);
}

uint16_t vblk_split_used_idx(VblkQueue *q)
{
    return qtest_readw(q->dev->qts, q->device + 2);
}

/* The id is the head; the other descriptors come off the free stack. */
static void split_add(VblkQueue *q, unsigned id, const VblkSegment *segs,
                      unsigned num, uint16_t flags)
{
    unsigned here = id;

    for (unsigned i = 0; i < num; i++) {
        bool last = i == num - 1;
        unsigned next = last ? LAST : q->free[--q->num_free];

        vblk_split_write(q->dev, q->desc, here, segs[i].addr, segs[i].len,
                         flags | (last ? 0 : VRING_DESC_F_NEXT) |
                         (segs[i].writable ? VRING_DESC_F_WRITE : 0),
                         last ? 0 : next);
        q->chain[here] = next;
        here = next;
    }
    split_put(q, id);
}

static bool split_wants_kick(VblkQueue *q, uint16_t num)
{
    QTestState *qts = q->dev->qts;

    if (has_feature(q, VIRTIO_RING_F_EVENT_IDX)) {
        return vring_need_event(qtest_readw(qts, split_avail_event(q)),
                                q->avail, q->avail - num);
    }
    return !(qtest_readw(qts, q->device) & VRING_USED_F_NO_NOTIFY);
}

static bool split_taken(VblkQueue *q)
{
    return qtest_readw(q->dev->qts, split_avail_event(q)) == q->avail;
}

static bool split_poll(VblkQueue *q, uint32_t *id, uint32_t *len)
{
    uint8_t elem[8];

    if (vblk_split_used_idx(q) == q->used) {
        return false;
    }
    qtest_memread(q->dev->qts, q->device + 4 + 8 * (q->used % q->size), elem,
                  sizeof(elem));
    *id = ldl_le_p(elem);
    *len = ldl_le_p(elem + 4);
    q->used++;
    g_assert_cmpuint(*id, <, q->size);
    for (unsigned i = q->chain[*id]; i != LAST; i = q->chain[i]) {
        q->free[q->num_free++] = i;
    }
    return true;
}

static const VblkRingOps split_ops = {
    .add = split_add,
    .expose = split_expose,
    .wants_kick = split_wants_kick,
    .taken = split_taken,
    .poll = split_poll,
};

/*
 * Packed ring
 */

static uint16_t packed_flags(bool wrap)
{
    return wrap ? 1 << VRING_PACKED_DESC_F_AVAIL
                : 1 << VRING_PACKED_DESC_F_USED;
}

static uint64_t packed_flags_addr(VblkQueue *q, unsigned slot)
{
    return q->desc + slot * DESC_SIZE + 14;
}

/*
 * All descriptors but the first since the last expose() carry their flags at
 * once; the device cannot see them before it sees that first one.
 */
static void packed_add(VblkQueue *q, unsigned id, const VblkSegment *segs,
                       unsigned num, uint16_t flags)
{
    g_assert_cmpuint(num, <=, q->packed_free);
    q->packed_free -= num;
    q->added += num;
    q->chain[id] = num;

    for (unsigned i = 0; i < num; i++) {
        uint16_t f = flags | packed_flags(q->avail_wrap) |
                     (i < num - 1 ? VRING_DESC_F_NEXT : 0) |
                     (segs[i].writable ? VRING_DESC_F_WRITE : 0);

        if (q->head_slot == UINT_MAX) {
            q->head_slot = q->avail;
            q->head_flags = f;
            f = packed_flags(!q->avail_wrap);
        }
        desc_write(q->dev, q->desc + q->avail * DESC_SIZE, segs[i].addr,
                   segs[i].len, id, f);
        if (++q->avail == q->size) {
            q->avail = 0;
            q->avail_wrap = !q->avail_wrap;
        }
    }
}

static void packed_expose(VblkQueue *q)
{
    if (q->head_slot != UINT_MAX) {
        qtest_writew(q->dev->qts, packed_flags_addr(q, q->head_slot),
                     q->head_flags);
        q->head_slot = UINT_MAX;
    }
}

static bool packed_wants_kick(VblkQueue *q, uint16_t num)
{
    uint16_t off_wrap = qtest_readw(q->dev->qts, q->device);
    uint16_t flags = qtest_readw(q->dev->qts, q->device + 2);
    uint16_t off = off_wrap & ~(1 << VRING_PACKED_EVENT_F_WRAP_CTR);
    bool wrap = off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR;

    if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    }
    if (wrap != q->avail_wrap) {
        off -= q->size;
    }
    return vring_need_event(off, q->avail, q->avail - num);
}

static bool packed_taken(VblkQueue *q)
{
    uint16_t next = q->avail | q->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;

    return qtest_readw(q->dev->qts, q->device) == next &&
           qtest_readw(q->dev->qts, q->device + 2) ==
           VRING_PACKED_EVENT_FLAG_DESC;
}

static bool packed_poll(VblkQueue *q, uint32_t *id, uint32_t *len)
{
    uint8_t raw[DESC_SIZE];
    uint16_t flags = qtest_readw(q->dev->qts, packed_flags_addr(q, q->used));
    bool avail = flags & 1 << VRING_PACKED_DESC_F_AVAIL;
    bool used = flags & 1 << VRING_PACKED_DESC_F_USED;

    if (avail != used || used != q->used_wrap) {
        return false;
    }
    qtest_memread(q->dev->qts, q->desc + q->used * DESC_SIZE, raw,
                  sizeof(raw));
    *len = ldl_le_p(raw + 8);
    *id = lduw_le_p(raw + 12);
    g_assert_cmpuint(*id, <, q->size);
    q->packed_free += q->chain[*id];
    q->used += q->chain[*id];
    if (q->used >= q->size) {
        q->used -= q->size;
        q->used_wrap = !q->used_wrap;
    }
    return true;
}

static const VblkRingOps packed_ops = {
    .add = packed_add,
    .expose = packed_expose,
    .wants_kick = packed_wants_kick,
    .taken = packed_taken,
    .poll = packed_poll,
};

/*
 * Both
 */

/* Lay out the areas; only a legacy device cares how. */
static void layout(VblkQueue *q, bool packed)
{
    size_t desc = q->size * DESC_SIZE;
    size_t driver = packed ? 4 : 6 + 2 * q->size;
    size_t device = packed ? 4 : 6 + 8 * q->size;
    size_t offset = QEMU_ALIGN_UP(desc + driver, LEGACY_ALIGN);

    q->area_size = offset + device;
    q->area = guest_alloc(&q->dev->machine->alloc, q->area_size);
    qtest_memset(q->dev->qts, q->area, 0, q->area_size);
    q->desc = q->area;
    q->driver = q->area + desc;
    q->device = q->area + offset;
}

VblkQueue *vblk_queue_new_sized(VblkDevice *d, unsigned index, unsigned size)
{
    VblkQueue *q = g_new0(VblkQueue, 1);
    bool packed = d->features & BIT_ULL(VIRTIO_F_RING_PACKED);

    g_assert_cmpuint(index, <, d->max_queues);
    g_assert_null(d->queues[index]);
    d->queues[index] = q;

    q->dev = d;
    q->index = index;
    q->size = size;
    q->ops = packed ? &packed_ops : &split_ops;
    q->tokens = g_new0(void *, q->size);
    q->free = g_new(uint16_t, q->size);
    q->chain = g_new0(unsigned, q->size);
    q->tables = g_new0(uint64_t, q->size);
    for (unsigned i = 0; i < q->size; i++) {
        q->free[q->num_free++] = q->size - 1 - i;
    }
    q->packed_free = q->size;
    q->head_slot = UINT_MAX;
    q->avail_wrap = q->used_wrap = true;

    layout(q, packed);
    vblk_device_enable_queue(d, index, q->size, q->desc, q->driver, q->device);
    return q;
}

VblkQueue *vblk_queue_new(VblkDevice *d, unsigned index)
{
    unsigned size = vblk_device_queue_size(d, index);

    if (d->modern || d->mmio) {
        size = MIN(size, d->largest);
    }
    return vblk_queue_new_sized(d, index, size);
}

void vblk_queue_free(VblkQueue *q)
{
    g_free(q->tokens);
    g_free(q->free);
    g_free(q->chain);
    g_free(q->tables);
    g_free(q);
}

/* Fill a table of descriptors and return the one segment that names it. */
static VblkSegment indirect_table(VblkQueue *q, unsigned id,
                                  const VblkSegment *segs, unsigned num)
{
    bool packed = q->ops == &packed_ops;
    uint64_t table = guest_alloc(&q->dev->machine->alloc, num * DESC_SIZE);

    for (unsigned i = 0; i < num; i++) {
        uint16_t flags = segs[i].writable ? VRING_DESC_F_WRITE : 0;

        if (packed) {
            desc_write(q->dev, table + i * DESC_SIZE, segs[i].addr,
                       segs[i].len, 0, flags);
        } else {
            flags |= i < num - 1 ? VRING_DESC_F_NEXT : 0;
            desc_write(q->dev, table + i * DESC_SIZE, segs[i].addr,
                       segs[i].len, flags, i + 1);
        }
    }
    q->tables[id] = table;
    return (VblkSegment) { table, num * DESC_SIZE, false };
}

unsigned vblk_queue_add(VblkQueue *q, const VblkSegment *segs, unsigned num,
                        bool indirect, void *token)
{
    VblkSegment table;
    unsigned id;

    g_assert_nonnull(token);
    g_assert_cmpuint(indirect ? 1 : num, <=, q->num_free);
    id = q->free[--q->num_free];
    q->tokens[id] = token;
    if (indirect) {
        table = indirect_table(q, id, segs, num);
        q->ops->add(q, id, &table, 1, VRING_DESC_F_INDIRECT);
    } else {
        q->ops->add(q, id, segs, num, 0);
    }
    return id;
}

void vblk_queue_expose(VblkQueue *q)
{
    q->ops->expose(q);
    q->added = 0;
}

bool vblk_queue_kick(VblkQueue *q)
{
    uint16_t num = q->added;
    bool wanted;

    vblk_queue_expose(q);
    wanted = q->ops->wants_kick(q, num);
    if (wanted) {
        vblk_device_notify(q->dev, q->index);
    }
    return wanted;
}

void *vblk_queue_poll(VblkQueue *q, uint32_t *len)
{
    uint32_t id, written;
    void *token;

    if (!q->ops->poll(q, &id, &written)) {
        return NULL;
    }
    g_assert_cmpuint(id, <, q->size);
    token = q->tokens[id];
    g_assert_nonnull(token);
    g_assert_cmpuint(q->num_free, <, q->size);
    q->tokens[id] = NULL;
    q->free[q->num_free++] = id;
    if (q->tables[id]) {
        guest_free(&q->dev->machine->alloc, q->tables[id]);
        q->tables[id] = 0;
    }
    if (len) {
        *len = written;
    }
    return token;
}

void vblk_queue_suppress(VblkQueue *q, bool suppress)
{
    if (q->ops == &packed_ops) {
        qtest_writew(q->dev->qts, q->driver + 2,
                     suppress ? VRING_PACKED_EVENT_FLAG_DISABLE
                              : VRING_PACKED_EVENT_FLAG_ENABLE);
    } else {
        qtest_writew(q->dev->qts, q->driver,
                     suppress ? VRING_AVAIL_F_NO_INTERRUPT : 0);
    }
}

void vblk_queue_set_event(VblkQueue *q, unsigned ahead)
{
    if (q->ops == &packed_ops) {
        unsigned slot = q->used + ahead;
        bool wrap = slot >= q->size ? !q->used_wrap : q->used_wrap;

        qtest_writew(q->dev->qts, q->driver,
                     slot % q->size |
                     wrap << VRING_PACKED_EVENT_F_WRAP_CTR);
        qtest_writew(q->dev->qts, q->driver + 2,
                     VRING_PACKED_EVENT_FLAG_DESC);
    } else {
        qtest_writew(q->dev->qts, split_used_event(q), q->used + ahead);
    }
}

void vblk_queue_wait_taken(VblkQueue *q)
{
    gint64 start = g_get_monotonic_time();

    g_assert_true(has_feature(q, VIRTIO_RING_F_EVENT_IDX));
    while (!q->ops->taken(q)) {
        vblk_deadline(start, "the device to look at its ring");
    }
}
