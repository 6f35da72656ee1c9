/*
 * Packed virtqueues, VIRTIO 1.2 section 2.8
 *
 *    one ring for both directions            wrap counters
 *    +-----+-----+-----+-----+-----+-----+   A descriptor is available when
 *    |used |used |taken|taken|avail|     |   its AVAIL bit equals the wrap
 *    +-----+-----+-----+-----+-----+-----+   counter and its USED bit does
 *            ^ used_idx        ^ last_avail  not; used, when both equal it.
 *
 * A chain takes one slot for each of its descriptors in the ring.  The used
 * entry of the chain takes the same number of slots.  The flags of the first
 * used entry of a batch are written last, and make the whole batch visible.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vring-chain.h"
#include "vring-layout.h"

/* The flags in a copied descriptor. */
#define FLAGS_AT        48
#define DESC_WRITE      ((uint64_t)VRING_DESC_F_WRITE << FLAGS_AT)
#define DESC_INDIRECT   ((uint64_t)VRING_DESC_F_INDIRECT << FLAGS_AT)

#define DESC_F_AVAIL    (1 << VRING_PACKED_DESC_F_AVAIL)
#define DESC_F_USED     (1 << VRING_PACKED_DESC_F_USED)

static inline bool vring_packed_is_available(const VRing *r)
{
    uint16_t flags = qatomic_read(&r->packed_desc[r->last_avail_idx].flags);

    flags = le16_to_cpu(flags);
    return !!(flags & DESC_F_AVAIL) == r->avail_wrap &&
           !!(flags & DESC_F_USED) != r->avail_wrap;
}

/* Add all entries of the table in order.  Only the flag WRITE matters here. */
static inline QEMU_ALWAYS_INLINE
int vring_packed_walk_table(VRing *r, VRingChain *chain, VRingWalk *w,
                            hwaddr addr, uint32_t len)
{
    unsigned num = len / sizeof(struct vring_packed_desc);
    const struct vring_desc *table;
    int ret;

    ret = vring_walk_table(r, chain, w, addr, len, &table);
    if (unlikely(ret)) {
        return ret;
    }
    for (unsigned i = 0; i < num; i++) {
        VRingDescCopy d = vring_copy_desc(&table[i]);

        if (unlikely(d.rest & DESC_INDIRECT)) {
            return vring_malformed(r, chain, "indirect descriptor inside an "
                                   "indirect table");
        }
        ret = vring_walk_add(r, chain, w, d.addr, vring_desc_len(d),
                             d.rest & DESC_WRITE);
        if (unlikely(ret)) {
            return ret;
        }
    }
    return 0;
}

/* Add the chain at last_avail_idx.  Its last descriptor may be indirect. */
static inline QEMU_ALWAYS_INLINE
int vring_packed_walk(VRing *r, VRingChain *chain, VRingWalk *w)
{
    unsigned i = r->last_avail_idx;
    unsigned room = r->num - r->inuse;

    for (unsigned seen = 1; ; seen++) {
        VRingDescCopy d = vring_copy_desc(&r->packed_desc[i]);
        bool more;
        int ret;

        if (unlikely(seen > room)) {
            return vring_malformed(r, chain, "descriptor chain runs into "
                                   "descriptors in flight");
        }
        /* The buffer id is in the chain's last descriptor (2.8.6). */
        chain->id = d.rest >> 32;
        chain->ndescs = seen;
        if (d.rest & DESC_INDIRECT) {
            return vring_packed_walk_table(r, chain, w, d.addr,
                                           vring_desc_len(d));
        }
        ret = vring_walk_desc(r, chain, w, d, FLAGS_AT, &more);
        if (unlikely(ret) || !more) {
            return ret;
        }
        i = i + 1 == r->num ? 0 : i + 1;
    }
}

int vring_take_packed(VRing *r, VRingChain *chain)
{
    unsigned next;
    VRingWalk w;
    int ret;

    if (!vring_packed_is_available(r)) {
        return 0;
    }
    /* Read the flags first; the driver writes them after the chain. */
    smp_rmb();

    vring_chain_begin(r, chain);
    w = vring_walk_load(r, chain);
    ret = vring_packed_walk(r, chain, &w);
    if (unlikely(ret)) {
        return ret;
    }
    if (unlikely(vring_walk_is_overlong(w))) {
        return vring_malformed(r, chain, "chain of more than 2^32 bytes");
    }
    next = r->last_avail_idx + chain->ndescs;
    if (next >= r->num) {
        next -= r->num;
        r->avail_wrap = !r->avail_wrap;
    }
    r->last_avail_idx = next;
    vring_chain_end(r, chain, w);
    return 1;
}

void vring_push_packed(VRing *r, VRingChain *chain, uint32_t written)
{
    struct vring_packed_desc *slot = &r->packed_desc[r->used_idx];
    uint16_t flags = r->used_wrap ? DESC_F_AVAIL | DESC_F_USED : 0;
    unsigned next = r->used_idx + chain->ndescs;

    if (written) {
        flags |= VRING_DESC_F_WRITE;        /* the length is valid */
    }
    slot->len = cpu_to_le32(written);
    slot->id = cpu_to_le16(chain->id);
    if (r->unpublished) {
        qatomic_set(&slot->flags, cpu_to_le16(flags));
    } else {
        r->first_flags = flags;
    }
    if (next >= r->num) {
        next -= r->num;
        r->used_wrap = !r->used_wrap;
    }
    r->used_idx = next;
    vring_push_chain(r, chain, written);
}

void vring_packed_publish(VRing *r)
{
    int first = r->used_idx - r->unpublished;

    if (first < 0) {
        first += r->num;
    }
    /* Write data and other entries before the flags that show them. */
    smp_wmb();
    qatomic_set(&r->packed_desc[first].flags, cpu_to_le16(r->first_flags));
}

/* See section 2.8.10.  Called after a full barrier. */
bool vring_packed_wants_interrupt(VRing *r)
{
    uint16_t flags = le16_to_cpu(qatomic_read(&r->driver_event->flags));
    uint16_t off_wrap, event;

    if (flags == VRING_PACKED_EVENT_FLAG_DISABLE) {
        return false;
    }
    if (flags != VRING_PACKED_EVENT_FLAG_DESC || !r->signalled_used_valid) {
        return true;
    }
    /* Read the flags first; the driver writes them after the place. */
    smp_rmb();
    off_wrap = le16_to_cpu(qatomic_read(&r->driver_event->off_wrap));
    event = off_wrap & ~(1 << VRING_PACKED_EVENT_F_WRAP_CTR);
    if (off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != r->used_wrap) {
        /* The place lies in the round before that of used_idx. */
        event -= r->num;
    }
    return vring_need_event(event, r->used_idx, r->used_idx - r->unpublished);
}

bool vring_packed_driver_waits(const VRing *r)
{
    uint16_t flags = le16_to_cpu(qatomic_read(&r->driver_event->flags));

    if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    }
    return le16_to_cpu(qatomic_read(&r->driver_event->off_wrap)) !=
           (r->used_idx | r->used_wrap << VRING_PACKED_EVENT_F_WRAP_CTR);
}

/* See section 2.8.10.  The caller executes the barrier. */
void vring_packed_set_notification(VRing *r, bool enable)
{
    uint16_t flags = VRING_PACKED_EVENT_FLAG_DISABLE;

    if (enable && r->event_idx) {
        uint16_t wrap = r->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;

        qatomic_set(&r->device_event->off_wrap,
                    cpu_to_le16(r->last_avail_idx | wrap));
        /* Write the place before the flags that make it valid. */
        smp_wmb();
        flags = VRING_PACKED_EVENT_FLAG_DESC;
    } else if (enable) {
        flags = VRING_PACKED_EVENT_FLAG_ENABLE;
    }
    qatomic_set(&r->device_event->flags, cpu_to_le16(flags));
}

bool vring_empty_packed(const VRing *r)
{
    return !vring_packed_is_available(r);
}
