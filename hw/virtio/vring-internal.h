/*
 * What the two ring layouts share and nobody else needs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_INTERNAL_H
#define HW_VIRTIO_VRING_INTERNAL_H

#include "qemu/bswap.h"
#include "exec/memory.h"
#include "hw/virtio/vring.h"

/*
 * A descriptor of either layout, in host byte order and out of the guest's
 * reach.  @w16 are the two halves of the second quadword's upper part:
 * flags and next (split), id and flags (packed).
 */
typedef struct VRingDescCopy {
    uint64_t addr;
    uint32_t len;
    uint16_t w16[2];
} VRingDescCopy;

/* Two loads of 8 bytes, never repeated: the guest may change it meanwhile. */
static inline VRingDescCopy vring_copy_desc(const void *desc)
{
    const volatile uint64_t *p = desc;
    uint64_t addr = p[0], rest = p[1];

    addr = le64_to_cpu(addr);
    rest = le64_to_cpu(rest);
    return (VRingDescCopy) {
        .addr = addr,
        .len = rest,
        .w16 = { rest >> 32, rest >> 48 },
    };
}

/* Clear @chain, so that segments can be added to it. */
static inline void vring_chain_begin(VRing *r, VRingChain *chain)
{
    chain->out_num = 0;
    chain->in_num = 0;
    chain->slow = NULL;
    chain->track = false;
    chain->out_len = 0;
    chain->in_len = 0;
    chain->iov = r->iov;
    chain->hold = r->hold;
}

/* The chain is whole and goes to the caller. */
static inline void vring_chain_end(VRing *r, VRingChain *chain)
{
    r->inuse += chain->ndescs;
    chain->hold->inflight++;
}

/*
 * Name what is wrong with the ring and let go of the chain that was being
 * read.  Returns -EINVAL.
 */
int vring_malformed(VRing *r, VRingChain *chain, const char *fault);

/* The rest of vring_add_segment(); use that. */
int vring_add_segment_slow(VRing *r, VRingChain *chain, hwaddr addr,
                           uint32_t len, bool is_write);

/**
 * vring_add_segment() - map one descriptor's buffer
 *
 * Returns 0, or -EINVAL after vring_malformed().
 */
static inline int vring_add_segment(VRing *r, VRingChain *chain, hwaddr addr,
                                    uint32_t len, bool is_write)
{
    const RingViewRange *range;
    unsigned n = chain->out_num + chain->in_num;
    size_t size = len;
    void *host;

    if (unlikely(len == 0)) {
        return vring_malformed(r, chain, "zero-sized buffer");
    }
    if (unlikely(!is_write && chain->in_num)) {
        return vring_malformed(r, chain, "device-readable descriptor after "
                               "a device-writable one");
    }
    if (unlikely(n == VRING_MAX_SEGMENTS)) {
        return vring_malformed(r, chain, "too many descriptors in a chain");
    }
    host = ring_view_map(chain->hold->view, &r->hint, addr, &size, is_write,
                         &range);
    if (unlikely(!host || size != len)) {
        return vring_add_segment_slow(r, chain, addr, len, is_write);
    }
    r->iov[n].iov_base = host;
    r->iov[n].iov_len = len;
    if (is_write) {
        chain->in_num++;
        chain->in_len += len;
        chain->track |= range->track;
    } else {
        chain->out_num++;
        chain->out_len += len;
    }
    return 0;
}

/**
 * vring_map_table() - an indirect table
 * @len: bytes, as the guest says; checked here
 *
 * Returns its address, in guest memory (copy each entry once) or of a copy,
 * or NULL after vring_malformed().
 */
const void *vring_map_table(VRing *r, VRingChain *chain, hwaddr addr,
                            uint32_t len);

/* Is the sum of the chain's buffers more than 2^32 bytes (2.7.4.2)? */
static inline bool vring_chain_is_overlong(const VRingChain *chain)
{
    return chain->out_len + chain->in_len > UINT64_C(1) << 32;
}

/* Unmap slow segments and report written pages: vring_push()'s rare part. */
void vring_chain_written(VRing *r, VRingChain *chain, uint32_t written);

/* vring_push()'s common part; the used entry's contents are the layout's. */
static inline void vring_push_chain(VRing *r, VRingChain *chain,
                                    uint32_t written)
{
    if (unlikely(chain->slow || chain->track || chain->hold != r->hold)) {
        vring_chain_written(r, chain, written);
    }
    chain->hold->inflight--;
    chain->next = r->pushed;
    r->pushed = chain;
    r->inuse -= chain->ndescs;
    r->unpublished += chain->ndescs;
}

/* Report a write to the ring itself, if anybody wants to hear of it. */
static inline void vring_mark_own(VRing *r, const void *host, size_t len)
{
    if (unlikely(r->used_track ||
                 !ring_view_source_is_current(r->src, r->hold->view))) {
        ring_view_mark_written(r->hold->view, host, len);
    }
}

/* The layouts' parts of the functions of vring.h. */
bool vring_empty_split(const VRing *r);
bool vring_empty_packed(const VRing *r);
void vring_split_publish(VRing *r);
bool vring_split_wants_interrupt(VRing *r);
void vring_split_set_notification(VRing *r, bool enable);
void vring_packed_publish(VRing *r);
bool vring_packed_wants_interrupt(VRing *r);
void vring_packed_set_notification(VRing *r, bool enable);

#endif /* HW_VIRTIO_VRING_INTERNAL_H */
