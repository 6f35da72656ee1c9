/*
 * A frontend for the Xen PV disk, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_XEN_BLKFRONT_H
#define TESTS_QTEST_XEN_BLKFRONT_H

#include "xen-guest.h"

#define BLK_MAX_SEGMENTS 11
#define BLK_MAX_INDIRECT_PAGES 8
#define BLK_MAX_RINGS 64
#define BLK_MAX_ORDER 8
#define BLK_SECTOR 512

/* Operations and answers of blkif.h. */
enum {
    BLK_READ,
    BLK_WRITE,
    BLK_BARRIER,
    BLK_FLUSH,
    BLK_RESERVED,
    BLK_DISCARD,
    BLK_INDIRECT,
};

enum {
    BLK_EOPNOTSUPP = -2,
    BLK_ERROR = -1,
    BLK_OKAY = 0,
};

/** BlkProtocol: how requests lie on the ring; what the key "protocol" says. */
typedef enum BlkProtocol {
    BLK_X86_64,
    BLK_X86_32,
    BLK_NR_PROTOCOLS,
} BlkProtocol;

typedef struct BlkSegment {
    uint32_t ref;
    uint8_t first;
    uint8_t last;
} BlkSegment;

/** BlkRequest: a request, before it is laid out on a ring. */
typedef struct BlkRequest {
    uint8_t op;
    uint8_t nr_segments;        /* for BLK_DISCARD: the flag */
    uint16_t handle;
    uint64_t id;
    uint64_t sector;
    BlkSegment seg[BLK_MAX_SEGMENTS];
    uint64_t nr_sectors;        /* BLK_DISCARD */
    uint8_t indirect_op;        /* BLK_INDIRECT, and what follows */
    uint16_t nr_indirect;
    uint32_t indirect_refs[BLK_MAX_INDIRECT_PAGES];
} BlkRequest;

typedef struct BlkResponse {
    uint64_t id;
    uint8_t op;
    int16_t status;
} BlkResponse;

typedef struct BlkLayout BlkLayout;

/** BlkRing: one ring with its event channel. */
typedef struct BlkRing {
    XenGuest *g;
    const BlkLayout *layout;
    uint32_t nr_entries;
    uint32_t nr_pages;
    uint32_t frames[1 << BLK_MAX_ORDER];
    uint32_t refs[1 << BLK_MAX_ORDER];
    XenPort port;
    uint32_t req_prod;          /* put, but not pushed */
    uint32_t rsp_cons;
    uint64_t next_id;
    struct BlkBuffer *kept;     /* of a persistent frontend: used each time */
    bool persistent;
} BlkRing;

/** BlkOptions: what a frontend asks for. */
typedef struct BlkOptions {
    BlkProtocol protocol;
    unsigned int order;         /* 0: no key "ring-page-order" */
    unsigned int rings;         /* 0 or 1: keys at the top, the old way */
    bool no_protocol;           /* do not write "protocol" */
    bool write_order;           /* write "ring-page-order" though it is 0 */
    bool write_num_queues;      /* write the key though it is 1 */
    bool persistent;
    bool large_sectors;
} BlkOptions;

/** Blkfront: one disk as its driver sees it. */
typedef struct Blkfront {
    XenGuest *g;
    char *fe;                   /* path of the frontend's nodes */
    char *be;                   /* and of the backend's */
    unsigned int nr_rings;
    BlkRing ring[BLK_MAX_RINGS];
} Blkfront;

#define BLK_VDEV_XVDA ((202 << 8) | (0 << 4))
#define BLK_VDEV_XVDB ((202 << 8) | (1 << 4))

/** blkfront_new: a driver for disk @vdev, nothing negotiated yet. */
Blkfront *blkfront_new(XenGuest *g, unsigned int vdev);

/** blkfront_free: forget the driver; its rings have been taken down. */
void blkfront_free(Blkfront *f);

/*
 * Negotiation, step by step
 */

/** blkfront_state: write the frontend's state. */
void blkfront_state(Blkfront *f, int state);

/** blkfront_expect: wait for the backend's state. */
void blkfront_expect(Blkfront *f, int state);

/** blkfront_backend_state: the backend's state now, all events dealt with. */
int blkfront_backend_state(Blkfront *f);

/** blkfront_setup: make the rings; nothing is written to xenstore. */
void blkfront_setup(Blkfront *f, const BlkOptions *options);

/** blkfront_publish: write what blkfront_setup() made to xenstore. */
void blkfront_publish(Blkfront *f, const BlkOptions *options);

/**
 * blkfront_teardown: take the rings down.
 *
 * The backend must have let go of every grant and every port.
 */
void blkfront_teardown(Blkfront *f);

/*
 * Whole conversations
 */

/** blkfront_connect: from InitWait to Connected on both sides. */
void blkfront_connect(Blkfront *f, const BlkOptions *options);

/** blkfront_disconnect: from Connected to Closed, rings taken down. */
void blkfront_disconnect(Blkfront *f);

/** blkfront_reset: start over after Closed. */
void blkfront_reset(Blkfront *f);

/** blkfront_refused: the backend must not connect to what was published. */
void blkfront_refused(Blkfront *f);

/*
 * Rings
 */

/** blk_ring_put: lay @req out in the next slot; the backend is not told. */
void blk_ring_put(BlkRing *r, const BlkRequest *req);

/** blk_ring_push: tell of all that was put; an event only if asked for. */
void blk_ring_push(BlkRing *r);

/** blk_ring_set_producer: write the producer index, right or wrong. */
void blk_ring_set_producer(BlkRing *r, uint32_t index);

/** blk_ring_take: take a response off the ring, if there is one. */
bool blk_ring_take(BlkRing *r, BlkResponse *rsp);

/** blk_ring_wait: wait for a response. */
void blk_ring_wait(BlkRing *r, BlkResponse *rsp);

/** blk_ring_wait_all: wait for @nr responses, which all must be @status. */
void blk_ring_wait_all(BlkRing *r, unsigned int nr, int status);

/** blk_ring_run: one request, from put to response; returns its status. */
int blk_ring_run(BlkRing *r, const BlkRequest *req);

/** blk_ring_quiet: no response is there, and none is on its way. */
bool blk_ring_quiet(BlkRing *r);

/*
 * Buffers: pages that are granted to the backend
 */

typedef struct BlkBuffer {
    unsigned int nr_pages;
    uint32_t frame[512];
    uint32_t ref[512];
} BlkBuffer;

BlkBuffer *blk_buffer_new(XenGuest *g, unsigned int nr_pages, bool readonly);

/** blk_buffer_free: take the grants back, which must not be in use. */
void blk_buffer_free(XenGuest *g, BlkBuffer *b);

void blk_buffer_fill(XenGuest *g, BlkBuffer *b, const void *data, size_t len);
void blk_buffer_get(XenGuest *g, BlkBuffer *b, void *data, size_t len);

/** blk_buffer_request: a request for the first @len bytes of @b. */
void blk_buffer_request(BlkBuffer *b, BlkRequest *req, int op,
                        uint64_t sector, size_t len);

/* How many segments a page of an indirect request holds */
#define BLK_SEGMENTS_PER_PAGE 512

/**
 * blk_indirect_segment: write segment @n to the pages of an indirect request.
 */
void blk_indirect_segment(XenGuest *g, BlkBuffer *pages, unsigned int n,
                          const BlkSegment *seg);

/**
 * blk_indirect_request: an indirect request for the first @nr pages of @b.
 *
 * Its segments are written to @pages, one page is enough for 512.
 */
void blk_indirect_request(XenGuest *g, BlkBuffer *pages, BlkBuffer *b,
                          BlkRequest *req, int op, uint64_t sector,
                          unsigned int nr);

/**
 * blk_ring_read: a whole request with a buffer of its own.
 *
 * @len is a multiple of 512 and at most 11 pages.
 *
 * Returns: the status.
 */
int blk_ring_read(BlkRing *r, uint64_t sector, void *data, size_t len);

/** blk_ring_write: the same, to the disk. */
int blk_ring_write(BlkRing *r, uint64_t sector, const void *data, size_t len);

/**
 * blk_ring_read_page: read the page at sector 8 * @n into page @n of @b.
 *
 * Returns: the status.
 */
int blk_ring_read_page(BlkRing *r, const BlkBuffer *b, unsigned int n);

/** blk_ring_check: the ring works: write @sector, read it back, compare. */
void blk_ring_check(BlkRing *r, uint64_t sector);

/** blk_pattern: fill @data so that place and @seed can be told from it. */
void blk_pattern(uint8_t *data, size_t len, uint32_t seed);

#endif /* TESTS_QTEST_XEN_BLKFRONT_H */
