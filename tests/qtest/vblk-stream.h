/*
 * A fixed stream of requests and what QEMU says about it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_STREAM_H
#define VBLK_STREAM_H

#include "standard-headers/linux/virtio_blk.h"
#include "qemu/timer.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "vblk-disk.h"

#define VBLK_STREAM_SECTORS 2048
#define VBLK_STREAM_QUEUES 4

typedef struct VblkStream VblkStream;

/**
 * VblkScenario: what a stream runs on.
 * @drive: options of a -drive, "name=value,..."; NULL for a -blockdev
 * @errors: VBLK_STREAM_ERROR() for each error that blkdebug is to inject, or
 *          NULL; needs a @drive
 * @device: properties of the device, as members of a JSON object
 * @account_invalid, @account_failed: what they set
 * @play: send requests and check what QEMU says
 */
typedef struct VblkScenario {
    const char *drive;
    const char *errors;
    const char *device;
    bool account_invalid, account_failed;
    void (*play)(VblkStream *s);
} VblkScenario;

/* The @n-th error, for requests of type @iotype; @rest: one more option */
#define VBLK_STREAM_ERROR(n, iotype, rest)                      \
    ",file.inject-error." #n ".event=none"                      \
    ",file.inject-error." #n ".iotype=" iotype                  \
    ",file.inject-error." #n "." rest

/**
 * VblkStream: a scenario at work on 2 IOThreads.
 * @queues: how many queues the device has
 * @next: the queue of the next batch
 * @answers: all that QEMU was asked for, in order
 */
struct VblkStream {
    const VblkScenario *scenario;
    VblkDisk disk;
    unsigned queues, next;
    QList *answers;
};

/**
 * vblk_stream_run: play @scenario on 2 and on 4 queues.
 *
 * If $QTEST_QEMU_BINARY_DST names another QEMU, it has to give the same answers
 * to all that was asked, field by field.
 */
void vblk_stream_run(const VblkVariant *v, const VblkScenario *scenario);

/**
 * VblkOp: one request of a stream.
 * @type: VIRTIO_BLK_T_...; type 0 is VIRTIO_BLK_T_IN
 * @num: sectors
 * @flags: of discard and write zeroes
 * @status: how it has to end
 */
typedef struct VblkOp {
    uint32_t type;
    uint64_t sector;
    uint32_t num;
    uint8_t status;
    uint32_t flags;
} VblkOp;

/**
 * vblk_stream_send: put @num requests on the next queue, kick once, wait for
 * all.
 *
 * Which queue follows from the number of batches, so a stream sends the same
 * requests whatever the number of queues.
 */
void vblk_stream_send(VblkStream *s, const VblkOp *ops, unsigned num);
#define VBLK_SEND(s, ...)                                       \
    vblk_stream_send(s, (const VblkOp[]) { __VA_ARGS__ },       \
                     ARRAY_SIZE(((const VblkOp[]) { __VA_ARGS__ })))

/**
 * vblk_stream_flood: send the same requests to VBLK_STREAM_QUEUES places of the
 * disk, @stride sectors apart, all at once, spread over the queues.
 */
void vblk_stream_flood(VblkStream *s, const VblkOp *ops, unsigned num,
                       unsigned stride);

/*
 * A batch whose end is not waited for.
 */
typedef struct VblkBatch VblkBatch;
VblkBatch *vblk_batch_start(VblkStream *s, const VblkOp *ops, unsigned num,
                            uint64_t offset);
void vblk_batch_finish(VblkBatch *b);

/**
 * vblk_stream_settle: return when all IOThreads have done with what they have
 * completed.  The driver sees a request as used before it is accounted.
 */
void vblk_stream_settle(VblkStream *s);

/** vblk_stream_clock: settle, then let @ms of virtual time pass. */
void vblk_stream_clock(VblkStream *s, unsigned ms);

/**
 * VblkCounts: what requests of one type add up to.
 * @ops: those that have succeeded
 * @bytes: of these; flushes have none
 * @merged, @failed, @invalid: flushes are not merged
 */
typedef struct VblkCounts {
    unsigned ops;
    uint64_t bytes;
    unsigned merged, failed, invalid;
} VblkCounts;

/**
 * VblkStats: what query-blockstats has to say of a device.
 * @idle_ms: since the last request that was accounted; QEMU does not say
 *           before one has succeeded
 *
 * Each of @ops takes VBLK_STREAM_LATENCY_NS, and so does each of @failed if the
 * scenario accounts them.
 */
typedef struct VblkStats {
    VblkCounts rd, wr, flush;
    uint64_t wr_highest_offset;
    unsigned idle_ms;
} VblkStats;

/* The time that a request takes in a qtest */
#define VBLK_STREAM_LATENCY_NS SCALE_MS

/**
 * VblkHistograms: what query-blockstats says of histograms, as JSON made by
 * VBLK_BINS(); one that is off is NULL.
 */
typedef struct VblkHistograms {
    const char *rd, *wr, *flush, *zone_append;
} VblkHistograms;

/* VblkHistograms' JSON for lists of numbers, separated by commas */
#define VBLK_BINS(boundaries, bins) \
    "{'boundaries': [" boundaries "], 'bins': [" bins "]}"

/** vblk_histograms_dict: for vblk_stream_expect(). */
QDict *vblk_histograms_dict(VblkHistograms h);

/**
 * vblk_stream_expect: settle, then check every number that query-blockstats has
 * for the device, and the scenario's settings.  What is not in @want or @more
 * has to be zero.
 * @more: intervals and histograms, or NULL; the function takes it
 */
void vblk_stream_expect(VblkStream *s, VblkStats want, QDict *more);

/**
 * vblk_stream_histogram: block-latency-histogram-set.
 * @members: JSON object with all arguments but the device's id
 * @error: the text of the expected error, NULL if it has to succeed
 */
void vblk_stream_histogram(VblkStream *s, const char *members,
                           const char *error);

#endif
