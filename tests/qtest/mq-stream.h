/*
 * A fixed stream of requests and what QEMU says about it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_STREAM_H
#define MQ_STREAM_H

#include "standard-headers/linux/virtio_blk.h"
#include "qemu/timer.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "mq-disk.h"

#define MQ_STREAM_SECTORS 2048
#define MQ_STREAM_QUEUES 4

typedef struct MqStream MqStream;

/**
 * MqScenario: what a stream runs on.
 * @drive: options of a -drive, "name=value,..."; NULL for a -blockdev
 * @errors: MQ_STREAM_ERROR() for each error that blkdebug is to inject, or
 *          NULL; needs a @drive
 * @device: properties of the device, as members of a JSON object
 * @account_invalid, @account_failed: what they set
 * @play: send requests and check what QEMU says
 */
typedef struct MqScenario {
    const char *drive;
    const char *errors;
    const char *device;
    bool account_invalid, account_failed;
    void (*play)(MqStream *s);
} MqScenario;

/* The @n-th error, for requests of type @iotype; @rest: one more option */
#define MQ_STREAM_ERROR(n, iotype, rest)                        \
    ",file.inject-error." #n ".event=none"                      \
    ",file.inject-error." #n ".iotype=" iotype                  \
    ",file.inject-error." #n "." rest

/**
 * MqStream: a scenario at work on 2 IOThreads.
 * @queues: how many queues the device has
 * @next: the queue of the next batch
 * @answers: all that QEMU was asked for, in order
 */
struct MqStream {
    const MqScenario *scenario;
    MqDisk disk;
    unsigned queues, next;
    QList *answers;
};

/**
 * mq_stream_run: play @scenario on 2 and on 4 queues.
 *
 * If $QTEST_QEMU_BINARY_DST names another QEMU, it has to give the same answers
 * to all that was asked, field by field.
 */
void mq_stream_run(const MqVariant *v, const MqScenario *scenario);

/**
 * MqOp: one request of a stream.
 * @type: VIRTIO_BLK_T_...; type 0 is VIRTIO_BLK_T_IN
 * @num: sectors
 * @flags: of discard and write zeroes
 * @status: how it has to end
 */
typedef struct MqOp {
    uint32_t type;
    uint64_t sector;
    uint32_t num;
    uint8_t status;
    uint32_t flags;
} MqOp;

/**
 * mq_stream_send: put @num requests on the next queue, kick once, wait for all.
 *
 * Which queue follows from the number of batches, so a stream sends the same
 * requests whatever the number of queues.
 */
void mq_stream_send(MqStream *s, const MqOp *ops, unsigned num);
#define MQ_SEND(s, ...)                                         \
    mq_stream_send(s, (const MqOp[]) { __VA_ARGS__ },           \
                   ARRAY_SIZE(((const MqOp[]) { __VA_ARGS__ })))

/**
 * mq_stream_flood: send the same requests to MQ_STREAM_QUEUES places of the
 * disk, @stride sectors apart, all at once, spread over the queues.
 */
void mq_stream_flood(MqStream *s, const MqOp *ops, unsigned num,
                     unsigned stride);

/*
 * A batch whose end is not waited for.
 */
typedef struct MqBatch MqBatch;
MqBatch *mq_batch_start(MqStream *s, const MqOp *ops, unsigned num,
                        uint64_t offset);
void mq_batch_finish(MqBatch *b);

/**
 * mq_stream_settle: return when all IOThreads have done with what they have
 * completed.  The driver sees a request as used before it is accounted.
 */
void mq_stream_settle(MqStream *s);

/* mq_stream_clock: settle, then let @ms of virtual time pass. */
void mq_stream_clock(MqStream *s, unsigned ms);

/**
 * MqCounts: what requests of one type add up to.
 * @ops: those that have succeeded
 * @bytes: of these; flushes have none
 * @merged, @failed, @invalid: flushes are not merged
 */
typedef struct MqCounts {
    unsigned ops;
    uint64_t bytes;
    unsigned merged, failed, invalid;
} MqCounts;

/**
 * MqStats: what query-blockstats has to say of a device.
 * @idle_ms: since the last request that was accounted; QEMU does not say
 *           before one has succeeded
 *
 * Each of @ops takes MQ_STREAM_LATENCY_NS, and so does each of @failed if the
 * scenario accounts them.
 */
typedef struct MqStats {
    MqCounts rd, wr, flush;
    uint64_t wr_highest_offset;
    unsigned idle_ms;
} MqStats;

/* The time that a request takes in a qtest */
#define MQ_STREAM_LATENCY_NS SCALE_MS

/**
 * mq_stream_expect: settle, then check every number that query-blockstats has
 * for the device, and the scenario's settings.  What is not in @want or @more
 * has to be zero.
 * @more: intervals and histograms, or NULL; the function takes it
 */
void mq_stream_expect(MqStream *s, MqStats want, QDict *more);

/**
 * mq_stream_histogram: block-latency-histogram-set.
 * @members: JSON object with all arguments but the device's id
 * @error: the text of the expected error, NULL if it has to succeed
 */
void mq_stream_histogram(MqStream *s, const char *members, const char *error);

#endif
