/*
 * The segments of a chain: found in guest memory, mapped, given back
 *
 * Both layouts add segments by vring_walk_add(), which is inline.  This file
 * has the cases that vring_walk_add() does not handle itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "vring-chain.h"

/* A segment that the DMA API has mapped, because it is not direct RAM */
struct VRingSlow {
    void *host;
    hwaddr addr;
    hwaddr len;
    bool is_write;
    uint64_t in_offset;         /* place in the bytes that the device writes */
    VRingSlow *next;
};

void vring_chain_report(const VRingChain *chain)
{
    for (unsigned i = 0; i < chain->in_num; i++) {
        const struct iovec *iov = &chain->iov[chain->out_num + i];

        ring_view_mark_written(chain->view_ref->view, iov->iov_base,
                               iov->iov_len);
    }
}

void vring_chain_unmap(VRing *r, VRingChain *chain, uint64_t written)
{
    while (chain->slow) {
        VRingSlow *s = chain->slow;
        hwaddr done = 0;

        if (s->is_write && written > s->in_offset) {
            done = MIN(written - s->in_offset, s->len);
        }
        address_space_unmap(r->as, s->host, s->len, s->is_write, done);
        chain->slow = s->next;
        g_free(s);
    }
}

int vring_malformed(VRing *r, VRingChain *chain, const char *fault)
{
    vring_chain_unmap(r, chain, 0);
    r->fault = fault;
    return -EINVAL;
}

static void *vring_map_slow(VRing *r, VRingChain *chain, hwaddr addr,
                            size_t *size, bool is_write)
{
    hwaddr len = *size;
    void *host = address_space_map(r->as, addr, &len, is_write,
                                   MEMTXATTRS_UNSPECIFIED);
    VRingSlow *s;

    if (!host) {
        return NULL;
    }
    s = g_new(VRingSlow, 1);
    *s = (VRingSlow) {
        .host = host,
        .addr = addr,
        .len = len,
        .is_write = is_write,
        .in_offset = chain->in_len,
        .next = chain->slow,
    };
    chain->slow = s;
    *size = len;
    return host;
}

/* Change over to the longer list.  Return false if it is in use already. */
static bool vring_longer_list(VRing *r, VRingChain *chain)
{
    if (chain->iov == r->iov) {
        return false;
    }
    memcpy(r->iov, chain->iov, chain->room * sizeof(*r->iov));
    chain->iov = r->iov;
    chain->room = VRING_MAX_SEGMENTS;
    return true;
}

int vring_add_segment(VRing *r, VRingChain *chain, hwaddr addr, uint32_t len,
                      bool is_write)
{
    if (len == 0) {
        return vring_malformed(r, chain, "zero-sized buffer");
    }
    if (!is_write && chain->in_num) {
        return vring_malformed(r, chain, "device-readable descriptor after "
                               "a device-writable one");
    }
    if (len - 1 > HWADDR_MAX - addr) {
        return vring_malformed(r, chain, "buffer beyond the end of the "
                               "address space");
    }
    while (len) {
        const RingViewRange *range = NULL;
        unsigned n = chain->out_num + chain->in_num;
        size_t size = len;
        void *host = ring_view_map(chain->view_ref->view, &r->hint, addr, &size,
                                   is_write, &range);

        if (n == chain->room && !vring_longer_list(r, chain)) {
            return vring_malformed(r, chain, "too many descriptors in a "
                                   "chain");
        }
        if (!host && r->direct_only) {
            return -EAGAIN;
        }
        if (!host) {
            host = vring_map_slow(r, chain, addr, &size, is_write);
        }
        if (!host) {
            return vring_malformed(r, chain, "buffer cannot be mapped");
        }
        chain->iov[n] = (struct iovec) { .iov_base = host, .iov_len = size };
        if (is_write) {
            chain->in_num++;
            chain->in_len += size;
            chain->track |= range && range->track;
        } else {
            chain->out_num++;
            chain->out_len += size;
        }
        addr += size;
        len -= size;
    }
    return 0;
}

/* Copy a table to r->table.  Parts of it may be outside of direct RAM. */
static int vring_copy_table(VRing *r, VRingChain *chain, hwaddr addr,
                            size_t len)
{
    uint8_t *copy = r->table;

    while (len) {
        size_t size = len;
        const void *host = ring_view_map(chain->view_ref->view, &r->hint, addr,
                                         &size, false, NULL);

        if (host) {
            memcpy(copy, host, size);
        } else if (r->direct_only) {
            return -EAGAIN;
        } else if (address_space_rw(r->as, addr, MEMTXATTRS_UNSPECIFIED, copy,
                                    len, false) == MEMTX_OK) {
            size = len;
        } else {
            return vring_malformed(r, chain, "indirect table cannot be read");
        }
        copy += size;
        addr += size;
        len -= size;
    }
    return 0;
}

void vring_log_indirect(void)
{
    qemu_log_mask(LOG_GUEST_ERROR, "virtio: an indirect descriptor, which was "
                  "not negotiated\n");
}

int vring_map_table(VRing *r, VRingChain *chain, hwaddr addr, uint32_t len,
                    const struct vring_desc **table)
{
    size_t size = len;
    void *host;

    if (!len || len % sizeof(struct vring_desc)) {
        return vring_malformed(r, chain, "indirect table's length is no "
                               "multiple of 16, or zero");
    }
    host = ring_view_map(chain->view_ref->view, &r->hint, addr, &size, false,
                         NULL);
    if (host && size == len && QEMU_PTR_IS_ALIGNED(host, sizeof(uint64_t))) {
        *table = host;
        return 0;
    }
    if (len > VRING_MAX_SEGMENTS * sizeof(struct vring_desc)) {
        return vring_malformed(r, chain, "indirect table is overlong and "
                               "scattered");
    }
    if (len - 1 > HWADDR_MAX - addr) {
        return vring_malformed(r, chain, "indirect table cannot be read");
    }
    if (!r->table) {
        r->table = g_malloc(VRING_MAX_SEGMENTS * sizeof(struct vring_desc));
    }
    *table = r->table;
    return vring_copy_table(r, chain, addr, len);
}

void vring_chain_written(VRing *r, VRingChain *chain, uint32_t written)
{
    vring_chain_unmap(r, chain, written);
    if (chain->track || chain->view_ref != r->view_ref) {
        vring_chain_report(chain);
    }
}

hwaddr vring_chain_address(const VRingChain *chain, unsigned segment)
{
    const uint8_t *host = chain->iov[segment].iov_base;
    const RingView *view = chain->view_ref->view;

    for (const VRingSlow *s = chain->slow; s; s = s->next) {
        if (s->host == host) {
            return s->addr;
        }
    }
    for (unsigned i = 0; i < view->nranges; i++) {
        const RingViewRange *range = &view->ranges[i];

        if (host >= range->host && host - range->host < range->len) {
            return range->start + (host - range->host);
        }
    }
    g_assert_not_reached();
}
