/*
 * virtio-blk requests on chosen queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_REQUEST_H
#define VBLK_REQUEST_H

#include "vblk-ring.h"

#define VBLK_SECTOR 512

/* In the status byte until the device writes there; no status is 0x5a. */
#define VBLK_STATUS_NONE 0x5a

/**
 * VblkRequest: one request in guest memory.
 * @header: guest address of the 16 bytes of section 5.2.6
 * @data: guest address of the data, of @len bytes
 * @status: guest address of the status byte
 * @done: the device has used it, with @written bytes
 *
 * Freed with the device if not before: it may outlive its queue.
 */
typedef struct VblkRequest {
    VblkQueue *queue;
    uint64_t header, data, status;
    uint32_t type;
    size_t len;
    bool done;
    uint32_t written;
} VblkRequest;

/**
 * vblk_request_new: a request with room for @len bytes of data, not yet on
 * its queue.
 */
VblkRequest *vblk_request_new(VblkQueue *q, uint32_t type, uint64_t sector,
                              size_t len);
void vblk_request_free(VblkRequest *r);

/** vblk_request_add: put it on its queue as header, data, status. */
void vblk_request_add(VblkRequest *r);

/**
 * vblk_request_add_segs: put it on its queue in a layout of the caller's.
 * @indirect: in a table of its own
 */
void vblk_request_add_segs(VblkRequest *r, const VblkSegment *segs,
                           unsigned num, bool indirect);

/** vblk_request_submit: put it on its queue and kick that. */
void vblk_request_submit(VblkRequest *r);

/**
 * vblk_request_submit_at: the same, with a sector of data elsewhere.
 * @header: bytes of the header that the driver gives
 * @addr: guest address of the data
 */
void vblk_request_submit_at(VblkRequest *r, size_t header, uint64_t addr);

/** VBLK_BROKEN: not a status: the device asks for a reset. */
#define VBLK_BROKEN 0x100

/**
 * vblk_request_outcome: wait until the device has used @r or asks for a reset
 * (modern interface only).
 *
 * Returns: its status byte, or VBLK_BROKEN.
 */
unsigned vblk_request_outcome(VblkRequest *r);

/** vblk_queue_reap: take all used requests of @q and mark them as done. */
void vblk_queue_reap(VblkQueue *q);

/** vblk_request_status: the status byte as it is in guest memory now. */
uint8_t vblk_request_status(VblkRequest *r);

/**
 * vblk_request_wait: wait until the device has used @r.
 *
 * Returns: its status byte.
 */
uint8_t vblk_request_wait(VblkRequest *r);

/**
 * vblk_request_wait_throttled: the same for a request that waits for a timer:
 * virtual time passes meanwhile.
 */
uint8_t vblk_request_wait_throttled(VblkRequest *r);

/** vblk_request_finish: wait, check that it succeeded, free it. */
void vblk_request_finish(VblkRequest *r);

/**
 * vblk_request_run: submit, wait and free a request.
 * @buf: the data: sent if bit 0 of @type is set, else received; may be NULL
 *
 * Returns: its status byte.
 */
uint8_t vblk_request_run(VblkQueue *q, uint32_t type, uint64_t sector,
                         void *buf, size_t len);

/*
 * Patterns: every @seed makes different data, every sector of it differs.
 */
void vblk_pattern(void *buf, size_t len, uint32_t seed);

/* A request that writes @seed's pattern, or reads, ready to be added. */
VblkRequest *vblk_write_new(VblkQueue *q, uint64_t sector, size_t len,
                            uint32_t seed);
VblkRequest *vblk_read_new(VblkQueue *q, uint64_t sector, size_t len);

/* Check that the data of a finished read is @seed's pattern. */
void vblk_read_check(VblkRequest *r, uint32_t seed);

/* Write or read and check a pattern, and wait for that. */
void vblk_write(VblkQueue *q, uint64_t sector, size_t len, uint32_t seed);
void vblk_read(VblkQueue *q, uint64_t sector, size_t len, uint32_t seed);

#endif
