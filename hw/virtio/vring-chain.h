/*
 * Chains as both ring layouts take and push them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_CHAIN_H
#define HW_VIRTIO_VRING_CHAIN_H

#include "qemu/bswap.h"
#include "exec/memory.h"
#include "hw/virtio/vring.h"

/*
 * A descriptor of either layout, in host byte order and out of the guest's
 * reach.  The second quadword stays in one piece, it is the cheapest to test:
 * length below, then flags and next (split) or id and flags (packed).
 */
typedef struct VRingDescCopy {
    uint64_t addr;
    uint64_t rest;
} VRingDescCopy;

/**
 * vring_copy_desc: copy a descriptor out of the guest's reach.
 *
 * Two loads of 8 bytes, never repeated: the guest may change it meanwhile.
 */
static inline VRingDescCopy vring_copy_desc(const void *desc)
{
    const volatile uint64_t *p = desc;      /* the compiler must not reload */
    uint64_t addr = p[0], rest = p[1];

    return (VRingDescCopy) { le64_to_cpu(addr), le64_to_cpu(rest) };
}

/** vring_desc_len: the length of the buffer that a descriptor names. */
static inline uint32_t vring_desc_len(VRingDescCopy d)
{
    return d.rest;
}

/**
 * vring_chain_begin: clear @chain but for its list, so that segments can be
 * added to it.
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
 * vring_malformed: name what is wrong with the ring and let go of the chain
 * that was being read.
 *
 * Returns: -EINVAL.
 */
int vring_malformed(VRing *r, VRingChain *chain, const char *fault);

/**
 * vring_add_segment: add one descriptor's buffer to the chain, whatever it
 * takes: other ranges, several segments, the DMA API.
 *
 * Returns: 0, or -EINVAL after vring_malformed(), or -EAGAIN as vring_take().
 */
int vring_add_segment(VRing *r, VRingChain *chain, hwaddr addr, uint32_t len,
                      bool is_write);

/*
 * The chain's sums in registers while its descriptors are walked.  Nothing
 * takes the address of a walk but what is inlined, that is the point of it.
 */
typedef struct VRingWalk {
    const RingViewRange *range;     /* hit last */
    struct iovec *iov;              /* next to fill */
    struct iovec *end;              /* behind the list */
    unsigned in_num;
    uint64_t out_len;
    uint64_t in_len;
    bool track;
} VRingWalk;

/** vring_walk_load: begin a walk, or go on with one, from what @chain has. */
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
 * vring_walk_add: vring_add_segment(), quick when the buffer lies in the
 * same range as the one before it
 */
static inline QEMU_ALWAYS_INLINE
int vring_walk_add(VRing *r, VRingChain *chain, VRingWalk *w, hwaddr addr,
                   uint32_t len, bool is_write)
{
    hwaddr offset = addr - w->range->start;
    int ret;

    /* A length of 0 is the largest of all here, and not quick. */
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
 * vring_map_table: find an indirect table, wherever it lies.
 * @table: set to its address, in guest memory (copy each entry once) or of a
 *         copy
 *
 * Both layouts' entries have 16 bytes.
 *
 * Returns: as vring_add_segment().
 */
int vring_map_table(VRing *r, VRingChain *chain, hwaddr addr, uint32_t len,
                    const struct vring_desc **table);

/**
 * vring_chain_report: the pages that a chain's segments lie in have been
 * written.
 */
void vring_chain_report(const VRingChain *chain);

/**
 * vring_chain_unmap: unmap slow segments, of which @written bytes in all were
 * written.
 */
void vring_chain_unmap(VRing *r, VRingChain *chain, uint64_t written);

/**
 * vring_log_indirect: tell the driver's author of a table that it had no right
 * to use.
 */
void vring_log_indirect(void);

/**
 * vring_walk_table: vring_map_table(), quick as vring_walk_add() is
 * @len: bytes, as the guest says; checked here
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
 * vring_walk_is_overlong: whether the sum of the chain's buffers is more than
 * 2^32 bytes (2.7.4.2).
 */
static inline bool vring_walk_is_overlong(VRingWalk w)
{
    return w.out_len + w.in_len > UINT64_C(1) << 32;
}

/** vring_chain_end: the chain is whole and goes to the caller. */
static inline void vring_chain_end(VRing *r, VRingChain *chain, VRingWalk w)
{
    vring_walk_store(w, chain);
    r->inuse += chain->ndescs;
    chain->view_ref->inflight++;
}

/**
 * vring_chain_written: unmap slow segments and report written pages, which is
 * the rare part of vring_push().
 */
void vring_chain_written(VRing *r, VRingChain *chain, uint32_t written);

/**
 * vring_push_chain: the common part of vring_push().  The contents of the used
 * entry are the layout's.
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
 * vring_mark_own: report a write to the ring itself, if anybody wants to hear
 * of it.
 */
static inline void vring_mark_own(VRing *r, const void *host, size_t len)
{
    if (unlikely(r->used_track ||
                 !ring_view_source_is_current(r->src, r->view_ref->view))) {
        ring_view_mark_written(r->view_ref->view, host, len);
    }
}

#endif /* HW_VIRTIO_VRING_CHAIN_H */
