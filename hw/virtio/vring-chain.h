/*
 * Descriptor chains: functions that both ring layouts use
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_CHAIN_H
#define HW_VIRTIO_VRING_CHAIN_H

#include "qemu/bswap.h"
#include "exec/memory.h"
#include "hw/virtio/vring.h"

/*
 * A private copy of a descriptor of either layout, in host byte order.  The
 * second quadword has the length in its low half, and above it flags and next
 * (split) or id and flags (packed).  It stays in one piece, because that is the
 * cheapest to test.
 */
typedef struct VRingDescCopy {
    uint64_t addr;
    uint64_t rest;
} VRingDescCopy;

/**
 * vring_copy_desc: make a private copy of a descriptor.
 *
 * This loads 8 bytes twice and repeats no load, because the guest may change
 * the descriptor at any time.
 */
static inline VRingDescCopy vring_copy_desc(const void *desc)
{
    const volatile uint64_t *p = desc;      /* the compiler must not reload */
    uint64_t addr = p[0], rest = p[1];

    return (VRingDescCopy) { le64_to_cpu(addr), le64_to_cpu(rest) };
}

/** vring_desc_len: return the length of the descriptor's buffer. */
static inline uint32_t vring_desc_len(VRingDescCopy d)
{
    return d.rest;
}

/**
 * vring_chain_begin: make @chain empty, ready for vring_walk_load().
 *
 * The fields @iov and @room stay as they are.
 */
static inline void vring_chain_begin(VRing *r, VRingChain *chain)
{
    chain->out_num = 0;
    chain->in_num = 0;
    chain->slow = NULL;
    chain->track = false;
    chain->out_len = 0;
    chain->in_len = 0;
    chain->view_ref = r->view_ref;
}

/**
 * vring_malformed: note that the ring is malformed, and release @chain, which
 * was being read.
 * @fault: a constant text
 *
 * Returns: -EINVAL.
 */
int vring_malformed(VRing *r, VRingChain *chain, const char *fault);

/**
 * vring_add_segment: add one descriptor's buffer to the chain, in any case.
 *
 * The buffer may lie in any range, may become several segments, or may need
 * the DMA API.
 *
 * Returns: 0, or -EINVAL after vring_malformed(), or -EAGAIN as vring_take().
 */
int vring_add_segment(VRing *r, VRingChain *chain, hwaddr addr, uint32_t len,
                      bool is_write);

/*
 * Sums of a chain while its descriptors are read.  The compiler keeps them in
 * registers, because only inlined functions take the address of a walk.
 */
typedef struct VRingWalk {
    const RingViewRange *range;     /* the range that was found last */
    struct iovec *iov;              /* the next entry to fill */
    struct iovec *end;              /* the end of the list */
    unsigned in_num;
    uint64_t out_len;
    uint64_t in_len;
    bool track;
} VRingWalk;

/** vring_walk_load: begin or continue a walk with the sums in @chain. */
static inline VRingWalk vring_walk_load(VRing *r, const VRingChain *chain)
{
    return (VRingWalk) {
        .range = &chain->view_ref->view->ranges[r->hint],
        .iov = chain->iov + chain->out_num + chain->in_num,
        .end = chain->iov + chain->room,
        .in_num = chain->in_num,
        .out_len = chain->out_len,
        .in_len = chain->in_len,
        .track = chain->track,
    };
}

/** vring_walk_store: write the sums of a walk to @chain. */
static inline void vring_walk_store(VRingWalk w, VRingChain *chain)
{
    chain->out_num = w.iov - chain->iov - w.in_num;
    chain->in_num = w.in_num;
    chain->out_len = w.out_len;
    chain->in_len = w.in_len;
    chain->track = w.track;
}

/**
 * vring_walk_add: vring_add_segment(), and quick if the buffer lies in the same
 * range as the last one.
 */
static inline QEMU_ALWAYS_INLINE
int vring_walk_add(VRing *r, VRingChain *chain, VRingWalk *w, hwaddr addr,
                   uint32_t len, bool is_write)
{
    hwaddr offset = addr - w->range->start;
    int ret;

    /* A length of 0 wraps to the largest number, and takes the slow path. */
    if (unlikely(offset >= w->range->len ||
                 (hwaddr)len - 1 >= w->range->len - offset ||
                 w->iov == w->end)) {
        goto slow;
    }
    if (is_write) {
        if (unlikely(w->range->readonly)) {
            goto slow;
        }
        w->track |= w->range->track;
        w->in_len += len;
        w->in_num++;
    } else {
        if (unlikely(w->in_num)) {
            goto slow;
        }
        w->out_len += len;
    }
    w->iov->iov_base = w->range->host + offset;
    w->iov->iov_len = len;
    w->iov++;
    return 0;

slow:
    vring_walk_store(*w, chain);
    ret = vring_add_segment(r, chain, addr, len, is_write);
    if (!ret) {
        *w = vring_walk_load(r, chain);
    }
    return ret;
}

/**
 * vring_walk_desc: vring_walk_add() for the buffer of descriptor @d.
 * @flags_at: the number of the lowest bit of the flags in @d.rest
 * @more: set to whether the chain has another descriptor after @d
 */
static inline QEMU_ALWAYS_INLINE
int vring_walk_desc(VRing *r, VRingChain *chain, VRingWalk *w, VRingDescCopy d,
                    unsigned flags_at, bool *more)
{
    int ret = vring_walk_add(r, chain, w, d.addr, vring_desc_len(d),
                             d.rest & (uint64_t)VRING_DESC_F_WRITE << flags_at);

    *more = d.rest & (uint64_t)VRING_DESC_F_NEXT << flags_at;
    return ret;
}

/**
 * vring_map_table: find an indirect table, wherever it lies.
 * @table: set to its address.  It may be in guest memory, so each entry must be
 *         copied once, or it may be a private copy
 *
 * An entry has 16 bytes in both layouts.
 *
 * Returns: as vring_add_segment().
 */
int vring_map_table(VRing *r, VRingChain *chain, hwaddr addr, uint32_t len,
                    const struct vring_desc **table);

/**
 * vring_chain_report: report the pages of the chain's segments as written.
 */
void vring_chain_report(const VRingChain *chain);

/**
 * vring_chain_unmap: unmap slow segments.
 * @written: bytes that were written to all segments together
 */
void vring_chain_unmap(VRing *r, VRingChain *chain, uint64_t written);

/**
 * vring_log_indirect: log a guest error: the driver uses an indirect table
 * although it has not negotiated VIRTIO_RING_F_INDIRECT_DESC.
 */
void vring_log_indirect(void);

/**
 * vring_walk_table: vring_map_table(), and quick if the table lies in the same
 * range as the last buffer.
 * @len: bytes, from the guest; this function checks them
 */
static inline QEMU_ALWAYS_INLINE
int vring_walk_table(VRing *r, VRingChain *chain, VRingWalk *w,
                     hwaddr addr, uint32_t len, const struct vring_desc **table)
{
    hwaddr offset = addr - w->range->start;
    const struct vring_desc *found = NULL;
    int ret;

    if (unlikely(!r->indirect)) {
        vring_log_indirect();
    }
    if (likely(offset < w->range->len &&
               (hwaddr)len - 1 < w->range->len - offset &&
               len % sizeof(struct vring_desc) == 0 &&
               QEMU_IS_ALIGNED((uintptr_t)w->range->host + offset,
                               sizeof(uint64_t)))) {
        *table = (const void *)(w->range->host + offset);
        return 0;
    }
    ret = vring_map_table(r, chain, addr, len, &found);
    w->range = &chain->view_ref->view->ranges[r->hint];
    *table = found;
    return ret;
}

/**
 * vring_walk_is_overlong: return whether the chain's buffers have more than
 * 2^32 bytes together (2.7.4.2).
 */
static inline bool vring_walk_is_overlong(VRingWalk w)
{
    return w.out_len + w.in_len > UINT64_C(1) << 32;
}

/** vring_chain_end: count the chain as in flight; it is complete. */
static inline void vring_chain_end(VRing *r, VRingChain *chain, VRingWalk w)
{
    vring_walk_store(w, chain);
    r->inuse += chain->ndescs;
    chain->view_ref->inflight++;
}

/**
 * vring_chain_written: the rare part of vring_push(): unmap slow segments and
 * report written pages.
 */
void vring_chain_written(VRing *r, VRingChain *chain, uint32_t written);

/**
 * vring_push_chain: the common part of vring_push().
 *
 * The layout's own function writes the used entry.
 */
static inline void vring_push_chain(VRing *r, VRingChain *chain,
                                    uint32_t written)
{
    if (unlikely(chain->slow || chain->track ||
                 chain->view_ref != r->view_ref)) {
        vring_chain_written(r, chain, written);
    }
    chain->view_ref->inflight--;
    chain->next = r->pushed;
    r->pushed = chain;
    r->inuse -= chain->ndescs;
    r->unpublished += chain->ndescs;
}

/**
 * vring_mark_own: report a write to the ring itself, if its memory is tracked.
 */
static inline void vring_mark_own(VRing *r, const void *host, size_t len)
{
    if (unlikely(r->used_track ||
                 !ring_view_source_is_current(r->src, r->view_ref->view))) {
        ring_view_mark_written(r->view_ref->view, host, len);
    }
}

#endif /* HW_VIRTIO_VRING_CHAIN_H */
