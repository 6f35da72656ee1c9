/*
 * Xen PV disk requests: three layouts, parsed and checked
 *
 *              x86_32                        x86_64
 *      0       operation, nr_segments        operation, nr_segments
 *      2       handle                        handle
 *      4       id                            -
 *      8                                     id
 *     12       sector_number                 ...
 *     16       ...                           sector_number
 *     20       seg[] / nr_sectors            ...
 *     24       (indirect grefs)              seg[] / nr_sectors
 *     28       ...                           (indirect grefs)
 *
 * The ABIs differ in the alignment of 64-bit fields.  So a layout is a few
 * offsets, and the same code handles all layouts.  On x86, native is one of
 * these two.  Each shared field is read once with atomic loads of 32 bits,
 * because x86_32 aligns fields to 4 bytes only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "hw/block/xen_blkif.h"
#include "xen-block-request.h"

QEMU_BUILD_BUG_ON(sizeof(struct blkif_request_segment) != 8);
QEMU_BUILD_BUG_ON(offsetof(blkif_x86_32_response_t, status) !=
                  offsetof(blkif_x86_64_response_t, status));
QEMU_BUILD_BUG_ON(offsetof(blkif_response_t, status) !=
                  offsetof(blkif_x86_64_response_t, status));

static const XenBlkifLayout blkif_layouts[] = {
    [XEN_BLKIF_NATIVE] = {
        .slot_size = sizeof(union blkif_sring_entry),
        .id = offsetof(blkif_request_t, id),
        .sector = offsetof(blkif_request_t, sector_number),
        .seg = offsetof(blkif_request_t, seg),
        .indirect_grefs = offsetof(blkif_request_indirect_t, indirect_grefs),
    },
    [XEN_BLKIF_X86_32] = {
        .slot_size = sizeof(union blkif_x86_32_sring_entry),
        .id = offsetof(blkif_x86_32_request_t, id),
        .sector = offsetof(blkif_x86_32_request_t, sector_number),
        .seg = offsetof(blkif_x86_32_request_t, seg),
        /* handle and its padding come between */
        .indirect_grefs = offsetof(blkif_x86_32_request_t, seg) + 4,
    },
    [XEN_BLKIF_X86_64] = {
        .slot_size = sizeof(union blkif_x86_64_sring_entry),
        .id = offsetof(blkif_x86_64_request_t, id),
        .sector = offsetof(blkif_x86_64_request_t, sector_number),
        .seg = offsetof(blkif_x86_64_request_t, seg),
        .indirect_grefs = offsetof(blkif_x86_64_request_t, seg) + 4,
    },
};

const XenBlkifLayout *xen_blkif_layout(XenBlkifProtocol protocol)
{
    assert(protocol < ARRAY_SIZE(blkif_layouts));
    return &blkif_layouts[protocol];
}

unsigned xen_blkif_ring_size(const XenBlkifLayout *layout, unsigned nr_pages)
{
    size_t room = nr_pages * XEN_PAGE_SIZE - offsetof(blkif_sring_t, ring);

    return pow2floor(room / layout->slot_size);
}

static inline uint32_t read_once(const void *shared)
{
    return qatomic_read((const uint32_t *)shared);
}

static inline uint64_t read_once64(const void *shared)
{
    uint32_t words[2] = { read_once(shared), read_once(shared + 4) };

    return ldq_he_p(words);
}

/* Inline, because a call for each segment would cost as much as the code. */
static inline QEMU_ALWAYS_INLINE
XenBlkifFault decode_segment(const void *shared, const XenBlkifLimits *limits,
                             XenBlkifSegment *seg)
{
    struct blkif_request_segment raw;
    uint32_t sects = read_once(shared + sizeof(raw.gref));
    uint32_t end;

    memcpy(&raw.first_sect, &sects, 2);
    if (raw.first_sect > raw.last_sect) {
        return XEN_BLKIF_SEGMENT_BACKWARDS;
    }
    end = (raw.last_sect + 1) * limits->sector_size;
    if (end > XEN_PAGE_SIZE) {
        return XEN_BLKIF_SEGMENT_BEYOND_PAGE;
    }
    seg->gref = read_once(shared);
    seg->offset = raw.first_sect * limits->sector_size;
    seg->len = end - seg->offset;
    return XEN_BLKIF_OK;
}

/* Check that @req->bytes at @req->sector are inside of the disk. */
static XenBlkifFault check_range(const XenBlkifRequest *req,
                                 const XenBlkifLimits *limits,
                                 uint64_t nr_sectors)
{
    uint64_t end = qatomic_read__nocheck(&limits->nr_sectors);

    if (req->sector > end || nr_sectors > end - req->sector) {
        return XEN_BLKIF_BEYOND_END;
    }
    return XEN_BLKIF_OK;
}

static XenBlkifFault check_data_range(const XenBlkifRequest *req,
                                      const XenBlkifLimits *limits)
{
    return check_range(req, limits, req->bytes / limits->sector_size);
}

/* Check @nr segments at @shared, and add their lengths to @req->bytes. */
static XenBlkifFault decode_segments(const void *shared, unsigned nr,
                                     const XenBlkifLimits *limits,
                                     XenBlkifRequest *req,
                                     XenBlkifSegment *segs)
{
    for (unsigned i = 0; i < nr; i++) {
        XenBlkifFault fault = decode_segment(
            shared + i * sizeof(struct blkif_request_segment),
            limits, &segs[i]);

        if (unlikely(fault)) {
            return fault;
        }
        req->bytes += segs[i].len;
    }
    return XEN_BLKIF_OK;
}

static XenBlkifFault decode_discard(const void *shared,
                                    const XenBlkifLimits *limits,
                                    XenBlkifRequest *req)
{
    uint64_t nr_sectors = read_once64(shared);
    XenBlkifFault fault;

    /*
     * BLKIF_DISCARD_SECURE in the flag byte is ignored, as is right for a
     * backend that does not offer discard-secure: the block layer has no way
     * to destroy every copy of the data.
     */
    req->action = XEN_BLKIF_DISCARD;
    if (limits->read_only) {
        return XEN_BLKIF_READ_ONLY;
    }
    fault = check_range(req, limits, nr_sectors);
    if (!fault) {
        req->bytes = nr_sectors * limits->sector_size;
    }
    return fault;
}

static XenBlkifFault decode_indirect_head(const XenBlkifLayout *layout,
                                          const void *slot,
                                          const uint8_t *head,
                                          const XenBlkifLimits *limits,
                                          XenBlkifRequest *req)
{
    uint8_t op = head[offsetof(blkif_request_indirect_t, indirect_op)];

    /* Frontends disable a disk whose response says BLKIF_OP_INDIRECT. */
    req->operation = op;
    if (!limits->max_indirect) {
        return XEN_BLKIF_NOT_OFFERED;
    }
    if (op != BLKIF_OP_READ && op != BLKIF_OP_WRITE) {
        return XEN_BLKIF_BAD_INDIRECT_OPERATION;
    }
    req->action = op == BLKIF_OP_READ ? XEN_BLKIF_READ : XEN_BLKIF_WRITE;
    if (req->action == XEN_BLKIF_WRITE && limits->read_only) {
        return XEN_BLKIF_READ_ONLY;
    }
    req->nr_segs = lduw_he_p(head + offsetof(blkif_request_indirect_t,
                                             nr_segments));
    if (!req->nr_segs) {
        return XEN_BLKIF_NO_SEGMENTS;
    }
    if (req->nr_segs > limits->max_indirect) {
        req->nr_segs = 0;
        return XEN_BLKIF_TOO_MANY_SEGMENTS;
    }
    req->nr_indirect = DIV_ROUND_UP(req->nr_segs, XEN_BLKIF_SEGS_PER_PAGE);
    for (unsigned i = 0; i < req->nr_indirect; i++) {
        req->indirect_grefs[i] = read_once(slot + layout->indirect_grefs +
                                           i * sizeof(uint32_t));
    }
    return XEN_BLKIF_OK;
}

static XenBlkifFault decode_action(const XenBlkifLimits *limits,
                                   XenBlkifRequest *req)
{
    switch (req->operation) {
    case BLKIF_OP_READ:
        req->action = XEN_BLKIF_READ;
        return XEN_BLKIF_OK;
    case BLKIF_OP_WRITE:
        req->action = XEN_BLKIF_WRITE;
        break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        req->action = XEN_BLKIF_FLUSH;
        break;
    case BLKIF_OP_WRITE_BARRIER:
        if (!limits->barriers) {
            return XEN_BLKIF_NOT_OFFERED;
        }
        req->action = XEN_BLKIF_BARRIER;
        break;
    default:
        return XEN_BLKIF_UNKNOWN_OPERATION;
    }
    if (limits->read_only &&
        (req->nr_segs || req->action == XEN_BLKIF_WRITE)) {
        return XEN_BLKIF_READ_ONLY;
    }
    return XEN_BLKIF_OK;
}

XenBlkifFault xen_blkif_decode(const XenBlkifLayout *layout, const void *slot,
                               const XenBlkifLimits *limits,
                               XenBlkifRequest *req, XenBlkifSegment *segs)
{
    uint32_t word = read_once(slot);
    const uint8_t *head = (uint8_t *)&word;
    XenBlkifFault fault;

    req->id = read_once64(slot + layout->id);
    req->sector = read_once64(slot + layout->sector);
    req->operation = head[offsetof(blkif_request_t, operation)];
    req->bytes = 0;
    req->nr_segs = 0;
    req->nr_indirect = 0;

    if (req->operation == BLKIF_OP_DISCARD) {
        return decode_discard(slot + layout->seg, limits, req);
    }
    if (req->operation == BLKIF_OP_INDIRECT) {
        return decode_indirect_head(layout, slot, head, limits, req);
    }

    req->nr_segs = head[offsetof(blkif_request_t, nr_segments)];
    fault = decode_action(limits, req);
    if (unlikely(fault)) {
        return fault;
    }
    if (unlikely(req->nr_segs > BLKIF_MAX_SEGMENTS_PER_REQUEST)) {
        return XEN_BLKIF_TOO_MANY_SEGMENTS;
    }
    if (!req->nr_segs && req->action >= XEN_BLKIF_FLUSH) {
        return XEN_BLKIF_OK;    /* no data, so sector means nothing */
    }
    fault = decode_segments(slot + layout->seg, req->nr_segs, limits, req,
                            segs);
    return fault ? fault : check_data_range(req, limits);
}

XenBlkifFault xen_blkif_decode_indirect(const void *const pages[],
                                        const XenBlkifLimits *limits,
                                        XenBlkifRequest *req,
                                        XenBlkifSegment *segs)
{
    for (unsigned i = 0; i < req->nr_segs; i += XEN_BLKIF_SEGS_PER_PAGE) {
        unsigned nr = MIN(req->nr_segs - i, XEN_BLKIF_SEGS_PER_PAGE);
        XenBlkifFault fault = decode_segments(*pages++, nr, limits, req,
                                              &segs[i]);

        if (unlikely(fault)) {
            return fault;
        }
    }
    return check_data_range(req, limits);
}

static const struct {
    int16_t status;
    const char *text;
} blkif_faults[] = {
    [XEN_BLKIF_OK] = { BLKIF_RSP_OKAY, "no fault" },
    [XEN_BLKIF_UNKNOWN_OPERATION] = { BLKIF_RSP_ERROR, "unknown operation" },
    [XEN_BLKIF_NOT_OFFERED] = {
        BLKIF_RSP_EOPNOTSUPP, "operation that was not offered"
    },
    [XEN_BLKIF_READ_ONLY] = { BLKIF_RSP_ERROR, "write to a read-only disk" },
    [XEN_BLKIF_BAD_INDIRECT_OPERATION] = {
        BLKIF_RSP_ERROR, "indirect operation other than read or write"
    },
    [XEN_BLKIF_TOO_MANY_SEGMENTS] = { BLKIF_RSP_ERROR, "too many segments" },
    [XEN_BLKIF_NO_SEGMENTS] = { BLKIF_RSP_ERROR, "no segments" },
    [XEN_BLKIF_SEGMENT_BACKWARDS] = {
        BLKIF_RSP_ERROR, "first sector of a segment after its last"
    },
    [XEN_BLKIF_SEGMENT_BEYOND_PAGE] = {
        BLKIF_RSP_ERROR, "segment beyond its page"
    },
    [XEN_BLKIF_BEYOND_END] = {
        BLKIF_RSP_ERROR, "sectors beyond the end of the disk"
    },
    [XEN_BLKIF_BAD_GRANT] = {
        BLKIF_RSP_ERROR, "grant that cannot be used"
    },
};

int16_t xen_blkif_fault_status(XenBlkifFault fault)
{
    return blkif_faults[fault].status;
}

const char *xen_blkif_fault_text(XenBlkifFault fault)
{
    return blkif_faults[fault].text;
}
