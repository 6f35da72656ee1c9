/*
 * Block statistics of a disk whose queues are served by two threads
 *
 * Each number that query-blockstats has for the device is known beforehand, and
 * is the same for QEMU's own accounting: this program passes with the untouched
 * base, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "qobject/qnum.h"
#include "mq-stream.h"

#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

#define IN VIRTIO_BLK_T_IN
#define OUT VIRTIO_BLK_T_OUT
#define FLUSH VIRTIO_BLK_T_FLUSH
#define DISCARD VIRTIO_BLK_T_DISCARD
#define ZEROES VIRTIO_BLK_T_WRITE_ZEROES
#define GET_ID VIRTIO_BLK_T_GET_ID
#define SCSI_CMD VIRTIO_BLK_T_SCSI_CMD
#define ZONE_APPEND VIRTIO_BLK_T_ZONE_APPEND
#define ZONE_RESET_ALL VIRTIO_BLK_T_ZONE_RESET_ALL

#define UNMAP VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

#define END MQ_STREAM_SECTORS

#define MS(n) ((long long)(n) * SCALE_MS)

/*
 * Each kind of request, one by one and on all queues at once
 */

static void play_kinds(MqStream *s)
{
    static const MqOp each[] = {
        { OUT, 0, 8 }, { OUT, 64, 16 }, { IN, 8, 8 }, { IN, 65, 1 },
        { FLUSH }, { FLUSH }, { DISCARD, END - 8, 8 }, { ZEROES, 256, 8 },
        { ZEROES, 264, 24, OK, UNMAP }, { GET_ID }, { SCSI_CMD, 0, 0, IOERR },
        { ZONE_APPEND, 0, 8, UNSUPP }, { ZONE_RESET_ALL, 0, 0, UNSUPP },
        { 77, 0, 0, UNSUPP },
    };
    /* No discards: the base loses some in the node's own statistics. */
    static const MqOp flood[] = {
        { OUT, 512, 8 }, { IN, 536, 8 }, { OUT, 552, 16 }, { IN, 520, 8 },
        { FLUSH }, { ZEROES, 584, 8 }, { GET_ID }, { IN, 528, 1 },
        { IN, END, 1, IOERR }, { OUT, 592, 1 },
    };

    mq_stream_expect(s, (MqStats) { }, NULL);
    mq_stream_clock(s, 1000);
    for (unsigned i = 0; i < ARRAY_SIZE(each); i++) {
        mq_stream_send(s, &each[i], 1);
    }
    mq_stream_clock(s, 250);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 2, .bytes = 4608 },
        .wr = { .ops = 4, .bytes = 28672 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 147456,
        .idle_ms = 250,
    }, NULL);

    for (unsigned i = 0; i < 16; i++) {
        mq_stream_flood(s, flood, ARRAY_SIZE(flood), 128);
    }
    mq_stream_clock(s, 40);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 194, .bytes = 561664, .merged = 64, .invalid = 64 },
        .wr = { .ops = 260, .bytes = 1110016 },
        .flush = { .ops = 66 },
        .wr_highest_offset = 500224,
        .idle_ms = 40,
    }, NULL);

    /* A reset of the device leaves them as they are. */
    mq_device_reset(s->disk.d);
    mq_device_start(s->disk.d, 0, MQ_ALL_QUEUES);
    MQ_SEND(s, { IN, 0, 1 });
    MQ_SEND(s, { FLUSH });
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 195, .bytes = 562176, .merged = 64, .invalid = 64 },
        .wr = { .ops = 260, .bytes = 1110016 },
        .flush = { .ops = 67 },
        .wr_highest_offset = 500224,
        .idle_ms = 0,
    }, NULL);
}

static void test_kinds(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .account_invalid = true, .account_failed = true, .play = play_kinds,
    });
}

static void test_kinds_drive(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .drive = "cache=writethrough",
        .account_invalid = true, .account_failed = true, .play = play_kinds,
    });
}

/*
 * Merged requests: neighbours on the disk and in one batch.  What counts is how
 * many were merged, which is the device's choice, so each batch here is of a
 * kind that all devices merge alike.
 */

static void send_merged(MqStream *s)
{
    MqOp many[40];

    for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (MqOp) { OUT, 1024 + i, 1 };
    }
    /* In ascending order; not with a gap, an overlap, another direction */
    MQ_SEND(s, { IN, 0, 8 }, { IN, 8, 8 }, { IN, 16, 1 }, { IN, 17, 3 });
    MQ_SEND(s, { OUT, 24, 8 }, { OUT, 32, 8 }, { OUT, 40, 8 });
    MQ_SEND(s, { IN, 64, 8 }, { IN, 73, 8 }, { IN, 96, 8 }, { IN, 96, 8 });
    MQ_SEND(s, { OUT, 128, 8 }, { IN, 136, 8 }, { OUT, 136, 8 });
    /* A flush comes after the writes before it */
    MQ_SEND(s, { OUT, 200, 8 }, { FLUSH }, { OUT, 208, 8 });
    MQ_SEND(s, { IN, 200, 8 }, { FLUSH }, { IN, 208, 8 });
    /* What is answered otherwise does not separate its neighbours */
    MQ_SEND(s, { IN, 300, 8 }, { IN, END - 1, 2, IOERR }, { IN, 308, 8 });
    MQ_SEND(s, { OUT, 400, 8 }, { ZEROES, 600, 8 }, { GET_ID },
            { DISCARD, 608, 8 }, { OUT, 408, 8 });
    /* At most 32 at a time */
    mq_stream_send(s, many, ARRAY_SIZE(many));
}

static void play_merged(MqStream *s)
{
    mq_stream_clock(s, 1000);
    send_merged(s);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 13, .bytes = 47104, .merged = 5, .invalid = 1 },
        .wr = { .ops = 50, .bytes = 61440, .merged = 41 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 544768,
        .idle_ms = 0,
    }, NULL);
    send_merged(s);
    mq_stream_clock(s, 1);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 26, .bytes = 94208, .merged = 10, .invalid = 2 },
        .wr = { .ops = 100, .bytes = 122880, .merged = 82 },
        .flush = { .ops = 4 },
        .wr_highest_offset = 544768,
        .idle_ms = 1,
    }, NULL);
}

static void play_not_merged(MqStream *s)
{
    mq_stream_clock(s, 1000);
    send_merged(s);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 13, .bytes = 47104, .invalid = 1 },
        .wr = { .ops = 50, .bytes = 61440 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 544768,
        .idle_ms = 0,
    }, NULL);
}

static void test_merged(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .account_invalid = true, .account_failed = true, .play = play_merged,
    });
    mq_stream_run(v, &(MqScenario) {
        .device = "'request-merging': false",
        .account_invalid = true, .account_failed = true,
        .play = play_not_merged,
    });
}

/*
 * Invalid requests: they take no time, and end idleness if they are accounted
 */

static void play_invalid(MqStream *s)
{
    /* One of the threads will see no others. */
    MQ_SEND(s, { IN, END, 8, IOERR });
    MQ_SEND(s, { IN, END, 8, IOERR });
    mq_stream_expect(s, (MqStats) {
        .rd = { .invalid = 2 },
    }, NULL);
    mq_stream_clock(s, 1000);
    MQ_SEND(s, { OUT, 8, 8 });
    mq_stream_clock(s, 500);
    MQ_SEND(s, { IN, END, 8, IOERR });
    MQ_SEND(s, { IN, END - 8, 16, IOERR });
    MQ_SEND(s, { IN, 1, 8, IOERR });
    MQ_SEND(s, { IN, 8, 1, IOERR });
    MQ_SEND(s, { OUT, UINT64_MAX, 8, IOERR });
    MQ_SEND(s, { OUT, 12, 8, IOERR }, { OUT, 8, 12, IOERR });
    MQ_SEND(s, { ZEROES, END, 8, IOERR });
    MQ_SEND(s, { ZEROES, 4, 8, IOERR });
    MQ_SEND(s, { ZEROES, 8, UINT32_MAX, IOERR });
    MQ_SEND(s, { ZEROES, 8, 8, UNSUPP, 2 });
    MQ_SEND(s, { DISCARD, END, 8, IOERR });
    MQ_SEND(s, { DISCARD, 8, 4, IOERR });
    MQ_SEND(s, { DISCARD, 8, 8, UNSUPP, UNMAP });
    mq_stream_clock(s, 250);
    mq_stream_expect(s, (MqStats) {
        .rd = { .invalid = 6 },
        .wr = { .ops = 1, .bytes = 4096, .invalid = 7 },
        .wr_highest_offset = 8192,
        .idle_ms = s->scenario->account_invalid ? 250 : 750,
    }, NULL);
}

#define BLOCKS "'logical_block_size': 4096, 'physical_block_size': 4096"

static void test_invalid(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .device = BLOCKS, .account_invalid = true, .account_failed = true,
        .play = play_invalid,
    });
    mq_stream_run(v, &(MqScenario) {
        .device = BLOCKS ", 'account-invalid': 'off'",
        .account_failed = true, .play = play_invalid,
    });
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-account-invalid=off,stats-account-failed=off",
        .device = BLOCKS, .play = play_invalid,
    });
    /* The device has the last word */
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-account-invalid=off,stats-account-failed=on",
        .device = BLOCKS ", 'account-invalid': 'on', 'account-failed': 'off'",
        .account_invalid = true, .play = play_invalid,
    });
}

/*
 * Intervals
 */

/* Whole numbers for one interval: @rd, @wr and @fl requests in @elapsed_ms. */
static QDict *interval(unsigned length_s, unsigned rd, unsigned wr,
                       unsigned fl, unsigned elapsed_ms)
{
    QDict *d = qdict_from_jsonf_nofail("{'interval_length': %u}", length_s);
    const struct {
        const char *name;
        unsigned num;
    } kinds[] = { { "rd", rd }, { "wr", wr }, { "flush", fl } };

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_autofree char *depth = g_strdup_printf("avg_%s_queue_depth",
                                                 kinds[i].name);

        for (unsigned j = 0; j < 3 && kinds[i].num; j++) {
            static const char *const what[] = { "min", "max", "avg" };
            g_autofree char *field = g_strdup_printf("%s_%s_latency_ns",
                                                     what[j], kinds[i].name);

            qdict_put_int(d, field, MQ_STREAM_LATENCY_NS);
        }
        if (kinds[i].num && strcmp(kinds[i].name, "flush")) {
            double busy_ns = kinds[i].num * (double)MQ_STREAM_LATENCY_NS;

            qdict_put(d, depth, qnum_from_double(busy_ns / MS(elapsed_ms)));
        }
    }
    return d;
}

/* Count what the requests of play_intervals() make beside the intervals. */
static void expect_intervals(MqStream *s, unsigned rd, unsigned wr,
                             unsigned fl, unsigned idle_ms, QDict *first,
                             QDict *second)
{
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = rd, .bytes = rd * 512 },
        .wr = { .ops = wr, .bytes = wr * 4096 },
        .flush = { .ops = fl },
        .wr_highest_offset = 4096,
        .idle_ms = idle_ms,
    }, qdict_from_jsonf_nofail("{'timed_stats': [%p, %p]}", first, second));
}

/*
 * An interval of 3 s has windows of 4 s that end at 2, 6, 10 s and at 4, 8,
 * 12 s; one of 30 s has windows of 40 s that end at 20, 60 s and at 40, 80 s.
 * The one that ends first is shown.
 */
static void play_intervals(MqStream *s)
{
    mq_stream_clock(s, 1000);
    for (unsigned i = 0; i < MQ_STREAM_QUEUES; i++) {
        MQ_SEND(s, { IN, 0, 1 });
    }
    MQ_SEND(s, { OUT, 0, 8 });
    MQ_SEND(s, { OUT, 0, 8 }, { FLUSH });
    expect_intervals(s, 4, 2, 1, 0, interval(3, 4, 2, 1, 3000),
                     interval(30, 4, 2, 1, 21000));

    mq_stream_clock(s, 1500);
    expect_intervals(s, 4, 2, 1, 1500, interval(3, 4, 2, 1, 2500),
                     interval(30, 4, 2, 1, 22500));
    MQ_SEND(s, { IN, 0, 1 });
    mq_stream_clock(s, 500);
    MQ_SEND(s, { OUT, 0, 8 });
    expect_intervals(s, 5, 3, 1, 0, interval(3, 5, 3, 1, 3000),
                     interval(30, 5, 3, 1, 23000));

    /* Requests that came after 2 s are left. */
    mq_stream_clock(s, 1500);
    expect_intervals(s, 5, 3, 1, 1500, interval(3, 1, 1, 0, 2500),
                     interval(30, 5, 3, 1, 24500));

    /* One thread has begun new windows, the other has not. */
    MQ_SEND(s, { IN, 0, 1 });
    mq_stream_clock(s, 2000);
    expect_intervals(s, 6, 3, 1, 2000, interval(3, 1, 0, 0, 2500),
                     interval(30, 6, 3, 1, 26500));
    MQ_SEND(s, { IN, 0, 1 });
    mq_stream_clock(s, 14500);
    MQ_SEND(s, { FLUSH });
    expect_intervals(s, 7, 3, 2, 0, interval(3, 0, 0, 1, 3000),
                     interval(30, 7, 3, 2, 21000));

    mq_stream_clock(s, 20000);
    expect_intervals(s, 7, 3, 2, 20000, interval(3, 0, 0, 0, 3000),
                     interval(30, 0, 0, 1, 21000));
}

static void test_intervals(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-intervals.0=3,stats-intervals.1=30",
        .account_invalid = true, .account_failed = true,
        .play = play_intervals,
    });
}

/* For a node the device says so.  QEMU 10.0 knows that of -drive only. */
static void test_intervals_device(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .device = "'stats-intervals': [3, 30]",
        .account_invalid = true, .account_failed = true,
        .play = play_intervals,
    });
    /* Both say so: what is there already is not added. */
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-intervals.0=3",
        .device = "'stats-intervals': [3, 30]",
        .account_invalid = true, .account_failed = true,
        .play = play_intervals,
    });
}

static void test_intervals_bad(const MqVariant *v)
{
    static const struct {
        const char *list, *error;
    } cases[] = {
        { "[3, 0]", "Invalid interval length: 0" },
        { "[-1]", "expects uint32_t" },
        { "[4294967296]", "expects uint32_t" },
        { "[1.5]", "expects uint64" },
        { "['3']", "expects uint64" },
        { "3", "expected: array" },
        { "[]" }, { "[4294967295]" }, { "[3, 3]" },
    };
    MqMachine *m = mq_machine_start(v, "-blockdev null-co,node-name=disk");

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *json =
            g_strdup_printf("'drive': 'disk', 'stats-intervals': %s",
                            cases[i].list);
        g_autofree char *error = mq_device_add(m, 0, json);

        g_test_message("stats-intervals: %s", cases[i].list);
        if (cases[i].error) {
            g_assert_nonnull(error);
            g_assert_nonnull(strstr(error, cases[i].error));
        } else {
            g_assert_cmpstr(error, ==, NULL);
            mq_device_del(m, 0);
        }
    }
    mq_machine_stop(m);
}

/*
 * Failing requests
 */

#define FAILING                                                              \
    MQ_STREAM_ERROR(0, "read", "sector=64")                                  \
    MQ_STREAM_ERROR(1, "write", "sector=128")                                \
    MQ_STREAM_ERROR(2, "write-zeroes", "sector=192")                         \
    MQ_STREAM_ERROR(3, "discard", "sector=256")                              \
    MQ_STREAM_ERROR(4, "flush", "once=on")

static void send_failing(MqStream *s, uint8_t status)
{
    MQ_SEND(s, { IN, 64, 8, status });
    MQ_SEND(s, { OUT, 128, 8, status });
    MQ_SEND(s, { ZEROES, 192, 8, status });
    MQ_SEND(s, { DISCARD, 256, 8, status });
    MQ_SEND(s, { FLUSH, 0, 0, status });
    /* Each part of a merged request fails, no other does */
    MQ_SEND(s, { IN, 48, 8 }, { IN, 61, 3, status }, { IN, 64, 1, status },
            { IN, 65, 7, status });
    MQ_SEND(s, { OUT, 128, 1, status }, { OUT, 129, 1, status },
            { OUT, 132, 1 });
    MQ_SEND(s, { IN, 72, 8 });
    MQ_SEND(s, { FLUSH });
}

#define BOUNDARIES "'boundaries': [500000, 2000000]"
#define BINS(bins) "{" BOUNDARIES ", 'bins': [" bins "]}"

/* Failing requests count in histograms always, in times if accounted. */
static void play_failed(MqStream *s)
{
    bool on = s->scenario->account_failed;

    mq_stream_histogram(s, "{" BOUNDARIES "}", NULL);
    mq_stream_clock(s, 1000);
    send_failing(s, IOERR);
    mq_stream_clock(s, 500);
    MQ_SEND(s, { OUT, 128, 8, IOERR });
    MQ_SEND(s, { IN, 64, 8, IOERR });
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 2, .bytes = 8192, .merged = 2, .failed = 5 },
        .wr = { .ops = 1, .bytes = 512, .merged = 1, .failed = 5 },
        .flush = { .ops = 1, .failed = 1 },
        .wr_highest_offset = 102400,
        .idle_ms = on ? 0 : 500,
    }, qdict_from_jsonf_nofail(
        "{'rd_latency_histogram': " BINS("0, 7, 0") ","
        " 'wr_latency_histogram': " BINS("0, 6, 0") ","
        " 'flush_latency_histogram': " BINS("0, 2, 0") ","
        " 'zone_append_latency_histogram': " BINS("0, 0, 0") ","
        " 'timed_stats': [%p]}", on ? interval(3, 7, 6, 2, 3500)
                                    : interval(3, 2, 1, 1, 3500)));
}

#define REPORT "'rerror': 'report', 'werror': 'report'"

static void test_failed(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-intervals.0=3", .errors = FAILING, .device = REPORT,
        .account_invalid = true, .account_failed = true, .play = play_failed,
    });
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-intervals.0=3,stats-account-failed=off",
        .errors = FAILING, .device = REPORT,
        .account_invalid = true, .play = play_failed,
    });
    mq_stream_run(v, &(MqScenario) {
        .drive = "stats-intervals.0=3", .errors = FAILING,
        .device = REPORT ", 'account-failed': 'off', 'account-invalid': 'off'",
        .play = play_failed,
    });
}

/* An error that is ignored is none. */
static void play_ignored(MqStream *s)
{
    mq_stream_clock(s, 1000);
    send_failing(s, OK);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 6, .bytes = 17920, .merged = 2 },
        .wr = { .ops = 5, .bytes = 9728, .merged = 1 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 102400,
        .idle_ms = 0,
    }, NULL);
}

static void test_ignored(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .drive = "cache=writeback", .errors = FAILING,
        .device = "'rerror': 'ignore', 'werror': 'ignore'",
        .account_invalid = true, .account_failed = true, .play = play_ignored,
    });
}

/* A request that waits for another try is accounted when that is over. */
static void play_stopped(MqStream *s)
{
    static const MqOp ops[] = {
        { OUT, 64, 8 }, { OUT, 72, 8 }, { IN, 8, 8 },
    };
    QTestState *qts = s->disk.m->qts;
    MqBatch *b;

    mq_stream_clock(s, 1000);
    b = mq_batch_start(s, ops, ARRAY_SIZE(ops), 0);
    qtest_qmp_eventwait(qts, "STOP");
    qtest_clock_step(qts, MS(100));
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
    mq_batch_finish(b);
    mq_stream_clock(s, 10);
    mq_stream_expect(s, (MqStats) {
        .rd = { .ops = 1, .bytes = 4096 },
        .wr = { .ops = 2, .bytes = 8192, .merged = 2 },
        .wr_highest_offset = 40960,
        .idle_ms = 10,
    }, NULL);
}

static void test_stopped(const MqVariant *v)
{
    mq_stream_run(v, &(MqScenario) {
        .drive = "cache=writeback",
        .errors = MQ_STREAM_ERROR(0, "write", "sector=64")
                  ",file.inject-error.0.once=on",
        .device = "'werror': 'stop'",
        .account_invalid = true, .account_failed = true, .play = play_stopped,
    });
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add("stats/kinds", test_kinds, MQ_BOTH);
    mq_test_add("stats/kinds-drive", test_kinds_drive, MQ_Q35_MODERN);
    mq_test_add("stats/merged", test_merged, MQ_BOTH);
    mq_test_add("stats/invalid", test_invalid, MQ_BOTH);
    mq_test_add("stats/intervals", test_intervals, MQ_BOTH);
    if (!mq_machine_has_other()) {
        mq_test_add("stats/intervals-device", test_intervals_device, MQ_BOTH);
        mq_test_add("stats/intervals-bad", test_intervals_bad, MQ_BOTH);
    }
    mq_test_add("stats/failed", test_failed, MQ_BOTH);
    mq_test_add("stats/ignored", test_ignored, MQ_Q35_MODERN);
    mq_test_add("stats/stopped", test_stopped, MQ_Q35_MODERN);
    return g_test_run();
}
