/*
 * Split virtqueues, VIRTIO 1.2 section 2.7
 *
 *    avail ring (driver writes)     descriptor table       used ring (device)
 *    +-------+-----+----------+     +----+----+-----+     +-------+-----+----
 *    | flags | idx | head ... | --> | addr len flags | -> | flags | idx | id
 *    +-------+-----+----------+     |          next  |    +-------+-----+ len
 *              used_event ^         +----------------+       avail_event ^
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vring-chain.h"
#include "vring-layout.h"

/* The flags in a copied descriptor. */
#define FLAGS_AT        32
#define DESC_INDIRECT   ((uint64_t)VRING_DESC_F_INDIRECT << FLAGS_AT)

static inline uint16_t vring_split_avail_idx(const VRing *r)
{
    return le16_to_cpu(qatomic_read(&r->avail->idx));
}

/*
 * Read the driver's index, once for a batch.  Return 1 if there are new
 * entries, 0 if there are none, or -EINVAL, as vring_take() does.
 */
static int vring_split_look(VRing *r)
{
    uint16_t idx = vring_split_avail_idx(r);
    uint16_t fresh = idx - r->last_avail_idx;

    if (fresh > r->num) {
        r->fault = "available index moved by more than the ring's size";
        return -EINVAL;
    }
    r->shadow_avail_idx = idx;
    /* Read the index before the entries that it makes available. */
    smp_rmb();
    return fresh != 0;
}

/* Add the entries of the table that are linked, beginning with the first. */
static inline QEMU_ALWAYS_INLINE
int vring_split_walk_table(VRing *r, VRingChain *chain, VRingWalk *w,
                           hwaddr addr, uint32_t len)
{
    unsigned num = len / sizeof(struct vring_desc);
    const struct vring_desc *table;
    unsigned i = 0;
    bool more;
    int ret;

    ret = vring_walk_table(r, chain, w, addr, len, &table);
    if (unlikely(ret)) {
        return ret;
    }
    for (unsigned seen = 1; ; seen++) {
        VRingDescCopy d = vring_copy_desc(&table[i]);

        if (unlikely(d.rest & DESC_INDIRECT)) {
            return vring_malformed(r, chain, "indirect descriptor inside an "
                                   "indirect table");
        }
        ret = vring_walk_desc(r, chain, w, d, FLAGS_AT, &more);
        if (unlikely(ret) || !more) {
            return ret;
        }
        i = d.rest >> 48;
        if (unlikely(i >= num)) {
            return vring_malformed(r, chain, "next descriptor is beyond the "
                                   "indirect table");
        }
        if (unlikely(seen == num)) {
            return vring_malformed(r, chain, "descriptor chain is a loop");
        }
    }
}

/* Add the chain at descriptor @i.  Its last descriptor may be indirect. */
static inline QEMU_ALWAYS_INLINE
int vring_split_walk(VRing *r, VRingChain *chain, VRingWalk *w, unsigned i)
{
    for (unsigned seen = 1; ; seen++) {
        VRingDescCopy d = vring_copy_desc(&r->desc[i]);
        bool more;
        int ret;

        if (d.rest & DESC_INDIRECT) {
            return vring_split_walk_table(r, chain, w, d.addr,
                                          vring_desc_len(d));
        }
        ret = vring_walk_desc(r, chain, w, d, FLAGS_AT, &more);
        if (unlikely(ret) || !more) {
            return ret;
        }
        i = d.rest >> 48;
        if (unlikely(i >= r->num)) {
            return vring_malformed(r, chain, "next descriptor is beyond the "
                                   "descriptor table");
        }
        if (unlikely(seen == r->num)) {
            return vring_malformed(r, chain, "descriptor chain is a loop");
        }
    }
}

int vring_take_split(VRing *r, VRingChain *chain)
{
    uint16_t head;
    VRingWalk w;
    int ret;

    if (r->last_avail_idx == r->shadow_avail_idx) {
        ret = vring_split_look(r);
        if (ret <= 0) {
            return ret;
        }
    }
    head = qatomic_read(&r->avail->ring[r->last_avail_idx & (r->num - 1)]);
    head = le16_to_cpu(head);

    vring_chain_begin(r, chain);
    if (unlikely(r->inuse >= r->num)) {
        return vring_malformed(r, chain, "more chains in flight than the "
                               "ring has entries");
    }
    if (unlikely(head >= r->num)) {
        return vring_malformed(r, chain, "available entry is beyond the "
                               "descriptor table");
    }
    w = vring_walk_load(r, chain);
    ret = vring_split_walk(r, chain, &w, head);
    if (unlikely(ret)) {
        return ret;
    }
    if (unlikely(vring_walk_is_overlong(w))) {
        return vring_malformed(r, chain, "chain of more than 2^32 bytes");
    }
    chain->id = head;
    chain->ndescs = 1;
    r->last_avail_idx++;
    vring_chain_end(r, chain, w);
    return 1;
}

void vring_push_split(VRing *r, VRingChain *chain, uint32_t written)
{
    struct vring_used_elem *e = &r->used->ring[r->used_idx & (r->num - 1)];

    e->id = cpu_to_le32(chain->id);
    e->len = cpu_to_le32(written);
    r->used_idx++;
    vring_push_chain(r, chain, written);
}

void vring_split_publish(VRing *r)
{
    /* Write data and entries before the index that shows them. */
    smp_wmb();
    qatomic_set(&r->used->idx, cpu_to_le16(r->used_idx));
}

static bool interrupts_are_on(const VRing *r)
{
    uint16_t flags = le16_to_cpu(qatomic_read(&r->avail->flags));

    return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Return the entry for which the driver wants an interrupt. */
static uint16_t used_event(const VRing *r)
{
    return le16_to_cpu(qatomic_read(&r->avail->ring[r->num]));
}

/* See section 2.7.7.  Called after a full barrier. */
bool vring_split_wants_interrupt(VRing *r)
{
    if (r->notify_on_empty && !r->inuse && vring_empty_split(r)) {
        return true;
    }
    if (!r->event_idx) {
        return interrupts_are_on(r);
    }
    return !r->signalled_used_valid ||
           vring_need_event(used_event(r), r->used_idx,
                            r->used_idx - r->unpublished);
}

bool vring_split_driver_waits(const VRing *r)
{
    return r->event_idx ? used_event(r) != r->used_idx : interrupts_are_on(r);
}

/* See section 2.7.10.  The caller executes the barrier. */
void vring_split_set_notification(VRing *r, bool enable)
{
    if (!r->event_idx) {
        qatomic_set(&r->used->flags,
                    cpu_to_le16(enable ? 0 : VRING_USED_F_NO_NOTIFY));
    } else if (enable) {
        uint16_t *avail_event = (uint16_t *)&r->used->ring[r->num];

        qatomic_set(avail_event, cpu_to_le16(r->last_avail_idx));
    }
    /* With the event index, an avail_event in the past disables kicks. */
}

bool vring_empty_split(const VRing *r)
{
    return r->last_avail_idx == r->shadow_avail_idx &&
           r->last_avail_idx == vring_split_avail_idx(r);
}
