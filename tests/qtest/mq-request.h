/*
 * virtio-blk requests on chosen queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_REQUEST_H
#define MQ_REQUEST_H

#include "mq-ring.h"

#define MQ_SECTOR 512

/* In the status byte until the device writes there; no status is 0x5a. */
#define MQ_STATUS_NONE 0x5a

/**
 * MqRequest: one request in guest memory.
 * @header: guest address of the 16 bytes of section 5.2.6
 * @data: guest address of the data, of @len bytes
 * @status: guest address of the status byte
 * @done: the device has used it, with @written bytes
 *
 * Freed with the device if not before: it may outlive its queue.
 */
typedef struct MqRequest {
    MqQueue *queue;
    uint64_t header, data, status;
    uint32_t type;
    size_t len;
    bool done;
    uint32_t written;
} MqRequest;

/**
 * mq_request_new: a request with room for @len bytes of data, not yet on
 * its queue.
 */
MqRequest *mq_request_new(MqQueue *q, uint32_t type, uint64_t sector,
                          size_t len);
void mq_request_free(MqRequest *r);

/* mq_request_add: put it on its queue as header, data, status. */
void mq_request_add(MqRequest *r);

/**
 * mq_request_add_segs: put it on its queue in a layout of the caller's.
 * @indirect: in a table of its own
 */
void mq_request_add_segs(MqRequest *r, const MqSegment *segs, unsigned num,
                         bool indirect);

/* mq_request_submit: put it on its queue and kick that. */
void mq_request_submit(MqRequest *r);

/* MQ_BROKEN: not a status: the device asks for a reset. */
#define MQ_BROKEN 0x100

/**
 * mq_request_outcome: wait until the device has used @r or asks for a reset
 * (modern interface only).
 *
 * Returns: its status byte, or MQ_BROKEN.
 */
unsigned mq_request_outcome(MqRequest *r);

/* mq_queue_reap: take all used requests of @q and mark them as done. */
void mq_queue_reap(MqQueue *q);

/* mq_request_status: the status byte as it is in guest memory now */
uint8_t mq_request_status(MqRequest *r);

/**
 * mq_request_wait: wait until the device has used @r.
 *
 * Returns: its status byte.
 */
uint8_t mq_request_wait(MqRequest *r);

/**
 * mq_request_wait_throttled: the same for a request that waits for a timer:
 * virtual time passes meanwhile.
 */
uint8_t mq_request_wait_throttled(MqRequest *r);

/* mq_request_finish: wait, check that it succeeded, free it. */
void mq_request_finish(MqRequest *r);

/**
 * mq_request_run: submit, wait and free a request.
 * @buf: the data: sent if bit 0 of @type is set, else received; may be NULL
 *
 * Returns: its status byte.
 */
uint8_t mq_request_run(MqQueue *q, uint32_t type, uint64_t sector, void *buf,
                       size_t len);

/*
 * Patterns: every @seed makes different data, every sector of it differs.
 */
void mq_pattern(void *buf, size_t len, uint32_t seed);

/* A request that writes @seed's pattern, or reads, ready to be added. */
MqRequest *mq_write_new(MqQueue *q, uint64_t sector, size_t len,
                        uint32_t seed);
MqRequest *mq_read_new(MqQueue *q, uint64_t sector, size_t len);

/* Check that the data of a finished read is @seed's pattern. */
void mq_read_check(MqRequest *r, uint32_t seed);

/* Write or read and check a pattern, and wait for that. */
void mq_write(MqQueue *q, uint64_t sector, size_t len, uint32_t seed);
void mq_read(MqQueue *q, uint64_t sector, size_t len, uint32_t seed);

#endif
