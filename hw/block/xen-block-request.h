/*
 * Xen PV disk requests: three layouts, parsed and checked
 *
 * A request lies in memory that the frontend can write at any time.  Decoding
 * reads every byte of it at most once, into private memory, and checks only
 * what it has read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_BLOCK_REQUEST_H
#define HW_BLOCK_XEN_BLOCK_REQUEST_H

#include "qemu/bswap.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/interface/io/blkif.h"

/* The sector size of blkif.h of Xen 4.20, on a disk of any kind, in bytes. */
#define XEN_BLKIF_SECTOR_SIZE 512

/* Entries in a page of segments of an indirect request. */
#define XEN_BLKIF_SEGS_PER_PAGE \
    (XEN_PAGE_SIZE / sizeof(struct blkif_request_segment))

/* Most segments of an indirect request that we accept. */
#define XEN_BLKIF_MAX_INDIRECT_SEGS 256
#define XEN_BLKIF_MAX_INDIRECT_PAGES \
    DIV_ROUND_UP(XEN_BLKIF_MAX_INDIRECT_SEGS, XEN_BLKIF_SEGS_PER_PAGE)

/* Key "protocol" of the frontend: the ABI that laid out the ring. */
typedef enum XenBlkifProtocol {
    XEN_BLKIF_NATIVE,
    XEN_BLKIF_X86_32,
    XEN_BLKIF_X86_64,
} XenBlkifProtocol;

/*
 * Offsets of the fields of a ring entry, in bytes.  Fields that have the same
 * offset in every ABI (operation, nr_segments, all of a response) are not here.
 */
typedef struct XenBlkifLayout {
    uint16_t slot_size;         /* size of a request or response */
    uint8_t id;
    uint8_t sector;
    uint8_t seg;                /* segments, or nr_sectors of a discard */
    uint8_t indirect_grefs;
} XenBlkifLayout;

/* What a request asks for; two operations on the wire may mean the same. */
typedef enum XenBlkifAction {
    XEN_BLKIF_READ,
    XEN_BLKIF_WRITE,
    XEN_BLKIF_FLUSH,            /* with data: flush, then write */
    XEN_BLKIF_BARRIER,          /* after all earlier, before all later ones */
    XEN_BLKIF_DISCARD,
} XenBlkifAction;

typedef struct XenBlkifSegment {
    uint32_t gref;
    uint16_t offset;            /* bytes into the page */
    uint16_t len;               /* bytes; stays within the page */
} XenBlkifSegment;

/* A request in private memory. */
typedef struct XenBlkifRequest {
    uint64_t id;
    uint64_t sector;            /* in units of the disk's sector size */
    uint64_t bytes;             /* to transfer or to discard */
    uint16_t nr_segs;
    uint8_t operation;          /* for the response; indirect_op if indirect */
    uint8_t nr_indirect;        /* pages of segments, 0 for a direct request */
    XenBlkifAction action;
    uint32_t indirect_grefs[XEN_BLKIF_MAX_INDIRECT_PAGES];
} XenBlkifRequest;

/* Limits for requests of a device; read-only for the data path. */
typedef struct XenBlkifLimits {
    uint64_t nr_sectors;        /* of the disk; atomic, changes on resize */
    uint32_t sector_size;       /* the frontend's sector size, in bytes */
    uint16_t max_indirect;      /* segments; 0: indirect requests not offered */
    bool barriers;              /* feature-barrier was offered */
    bool read_only;
} XenBlkifLimits;

typedef enum XenBlkifFault {
    XEN_BLKIF_OK,
    XEN_BLKIF_UNKNOWN_OPERATION,
    XEN_BLKIF_NOT_OFFERED,
    XEN_BLKIF_READ_ONLY,
    XEN_BLKIF_BAD_INDIRECT_OPERATION,
    XEN_BLKIF_TOO_MANY_SEGMENTS,
    XEN_BLKIF_NO_SEGMENTS,
    XEN_BLKIF_SEGMENT_BACKWARDS,
    XEN_BLKIF_SEGMENT_BEYOND_PAGE,
    XEN_BLKIF_BEYOND_END,
    XEN_BLKIF_BAD_GRANT,
} XenBlkifFault;

/** xen_blkif_layout: return the layout of ring entries of @protocol. */
const XenBlkifLayout *xen_blkif_layout(XenBlkifProtocol protocol);

/**
 * xen_blkif_ring_size: return the number of entries of a ring of @nr_pages
 * pages, which is a power of two.
 */
unsigned xen_blkif_ring_size(const XenBlkifLayout *layout, unsigned nr_pages);

/**
 * xen_blkif_decode: read a request and check it.
 * @slot: the ring entry, 4-byte aligned, in shared memory
 * @segs: room for %BLKIF_MAX_SEGMENTS_PER_REQUEST segments
 *
 * The caller then reads the segments of an indirect request from its
 * @req->nr_indirect pages, with xen_blkif_decode_indirect().
 *
 * @req->id and @req->operation are valid even after a fault.  For an indirect
 * request @req->operation is indirect_op, as in Linux's frontend and backend.
 */
XenBlkifFault xen_blkif_decode(const XenBlkifLayout *layout, const void *slot,
                               const XenBlkifLimits *limits,
                               XenBlkifRequest *req, XenBlkifSegment *segs);

/**
 * xen_blkif_decode_indirect: read and check the segments of an indirect
 * request.
 * @pages: @req->nr_indirect pages of segments, in private or shared memory;
 *         each segment is read once
 * @segs: room for @req->nr_segs segments
 */
XenBlkifFault xen_blkif_decode_indirect(const void *const pages[],
                                        const XenBlkifLimits *limits,
                                        XenBlkifRequest *req,
                                        XenBlkifSegment *segs);

/**
 * xen_blkif_encode_response: write a response.
 * @slot: the ring entry, in shared memory
 * @status: %BLKIF_RSP_OKAY, %BLKIF_RSP_ERROR or %BLKIF_RSP_EOPNOTSUPP
 */
static inline void xen_blkif_encode_response(void *slot,
                                             const XenBlkifRequest *req,
                                             int16_t status)
{
    stq_he_p(slot + offsetof(blkif_response_t, id), req->id);
    stb_p(slot + offsetof(blkif_response_t, operation), req->operation);
    stw_he_p(slot + offsetof(blkif_response_t, status), status);
}

/**
 * xen_blkif_fault_status: return the status of the response to a request with
 * @fault.
 */
int16_t xen_blkif_fault_status(XenBlkifFault fault);

/** xen_blkif_fault_text: return a description of @fault, for messages. */
const char *xen_blkif_fault_text(XenBlkifFault fault);

#endif /* HW_BLOCK_XEN_BLOCK_REQUEST_H */
