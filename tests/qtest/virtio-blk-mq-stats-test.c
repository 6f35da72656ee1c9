/*
 * Block statistics of a disk whose queues are served by two threads
 *
 * Each number of query-blockstats for the device is known beforehand.  It does
 * not depend on how statistics are counted, so this test passes with QEMU 10.0,
 * too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "qobject/qnum.h"
#include "vblk-stream.h"

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

#define END VBLK_STREAM_SECTORS

#define MS(n) ((long long)(n) * SCALE_MS)

/*
 * Each kind of request, one by one and on all queues at once
 */

static void play_kinds(VblkStream *s)
{
    static const VblkOp each[] = {
        { OUT, 0, 8 }, { OUT, 64, 16 }, { IN, 8, 8 }, { IN, 65, 1 },
        { FLUSH }, { FLUSH }, { DISCARD, END - 8, 8 }, { ZEROES, 256, 8 },
        { ZEROES, 264, 24, OK, UNMAP }, { GET_ID }, { SCSI_CMD, 0, 0, IOERR },
        { ZONE_APPEND, 0, 8, UNSUPP }, { ZONE_RESET_ALL, 0, 0, UNSUPP },
        { 77, 0, 0, UNSUPP },
    };
    /* No discards: QEMU loses some in the node's own statistics. */
    static const VblkOp flood[] = {
        { OUT, 512, 8 }, { IN, 536, 8 }, { OUT, 552, 16 }, { IN, 520, 8 },
        { FLUSH }, { ZEROES, 584, 8 }, { GET_ID }, { IN, 528, 1 },
        { IN, END, 1, IOERR }, { OUT, 592, 1 },
    };

    vblk_stream_expect(s, (VblkStats) { }, NULL);
    vblk_stream_clock(s, 1000);
    for (unsigned i = 0; i < ARRAY_SIZE(each); i++) {
        vblk_stream_send(s, &each[i], 1);
    }
    vblk_stream_clock(s, 250);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 2, .bytes = 4608 },
        .wr = { .ops = 4, .bytes = 28672 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 147456,
        .idle_ms = 250,
    }, NULL);

    for (unsigned i = 0; i < 16; i++) {
        vblk_stream_flood(s, flood, ARRAY_SIZE(flood), 128);
    }
    vblk_stream_clock(s, 40);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 194, .bytes = 561664, .merged = 64, .invalid = 64 },
        .wr = { .ops = 260, .bytes = 1110016 },
        .flush = { .ops = 66 },
        .wr_highest_offset = 500224,
        .idle_ms = 40,
    }, NULL);

    /* A reset of the device leaves them as they are. */
    vblk_device_reset(s->disk.d);
    vblk_device_start(s->disk.d, 0, VBLK_ALL_QUEUES);
    VBLK_SEND(s, { IN, 0, 1 });
    VBLK_SEND(s, { FLUSH });
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 195, .bytes = 562176, .merged = 64, .invalid = 64 },
        .wr = { .ops = 260, .bytes = 1110016 },
        .flush = { .ops = 67 },
        .wr_highest_offset = 500224,
        .idle_ms = 0,
    }, NULL);
}

static void test_kinds(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .account_invalid = true, .account_failed = true, .play = play_kinds,
    });
}

static void test_kinds_drive(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "cache=writethrough",
        .account_invalid = true, .account_failed = true, .play = play_kinds,
    });
}

/*
 * Merged requests: neighbours on the disk and in one batch.  A device may
 * choose how many it merges.  So each batch here is one that all devices merge
 * in the same way.
 */

static void send_merged(VblkStream *s)
{
    VblkOp many[40];

    for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (VblkOp) { OUT, 1024 + i, 1 };
    }
    /* In ascending order; not with a gap, an overlap, another direction */
    VBLK_SEND(s, { IN, 0, 8 }, { IN, 8, 8 }, { IN, 16, 1 }, { IN, 17, 3 });
    VBLK_SEND(s, { OUT, 24, 8 }, { OUT, 32, 8 }, { OUT, 40, 8 });
    VBLK_SEND(s, { IN, 64, 8 }, { IN, 73, 8 }, { IN, 96, 8 }, { IN, 96, 8 });
    VBLK_SEND(s, { OUT, 128, 8 }, { IN, 136, 8 }, { OUT, 136, 8 });
    /* A flush comes after the writes before it */
    VBLK_SEND(s, { OUT, 200, 8 }, { FLUSH }, { OUT, 208, 8 });
    VBLK_SEND(s, { IN, 200, 8 }, { FLUSH }, { IN, 208, 8 });
    /* A request that is answered otherwise does not separate neighbours. */
    VBLK_SEND(s, { IN, 300, 8 }, { IN, END - 1, 2, IOERR }, { IN, 308, 8 });
    VBLK_SEND(s, { OUT, 400, 8 }, { ZEROES, 600, 8 }, { GET_ID },
              { DISCARD, 608, 8 }, { OUT, 408, 8 });
    /* At most 32 at a time */
    vblk_stream_send(s, many, ARRAY_SIZE(many));
}

static void play_merged(VblkStream *s)
{
    vblk_stream_clock(s, 1000);
    send_merged(s);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 13, .bytes = 47104, .merged = 5, .invalid = 1 },
        .wr = { .ops = 50, .bytes = 61440, .merged = 41 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 544768,
        .idle_ms = 0,
    }, NULL);
    send_merged(s);
    vblk_stream_clock(s, 1);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 26, .bytes = 94208, .merged = 10, .invalid = 2 },
        .wr = { .ops = 100, .bytes = 122880, .merged = 82 },
        .flush = { .ops = 4 },
        .wr_highest_offset = 544768,
        .idle_ms = 1,
    }, NULL);
}

static void play_not_merged(VblkStream *s)
{
    vblk_stream_clock(s, 1000);
    send_merged(s);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 13, .bytes = 47104, .invalid = 1 },
        .wr = { .ops = 50, .bytes = 61440 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 544768,
        .idle_ms = 0,
    }, NULL);
}

static void test_merged(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .account_invalid = true, .account_failed = true, .play = play_merged,
    });
    vblk_stream_run(v, &(VblkScenario) {
        .device = "'request-merging': false",
        .account_invalid = true, .account_failed = true,
        .play = play_not_merged,
    });
}

/*
 * Invalid requests take no time, and end idleness if they are accounted
 */

static void play_invalid(VblkStream *s)
{
    /* One of the threads gets no other request. */
    VBLK_SEND(s, { IN, END, 8, IOERR });
    VBLK_SEND(s, { IN, END, 8, IOERR });
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .invalid = 2 },
    }, NULL);
    vblk_stream_clock(s, 1000);
    VBLK_SEND(s, { OUT, 8, 8 });
    vblk_stream_clock(s, 500);
    VBLK_SEND(s, { IN, END, 8, IOERR });
    VBLK_SEND(s, { IN, END - 8, 16, IOERR });
    VBLK_SEND(s, { IN, 1, 8, IOERR });
    VBLK_SEND(s, { IN, 8, 1, IOERR });
    VBLK_SEND(s, { OUT, UINT64_MAX, 8, IOERR });
    VBLK_SEND(s, { OUT, 12, 8, IOERR }, { OUT, 8, 12, IOERR });
    VBLK_SEND(s, { ZEROES, END, 8, IOERR });
    VBLK_SEND(s, { ZEROES, 4, 8, IOERR });
    VBLK_SEND(s, { ZEROES, 8, UINT32_MAX, IOERR });
    VBLK_SEND(s, { ZEROES, 8, 8, UNSUPP, 2 });
    VBLK_SEND(s, { DISCARD, END, 8, IOERR });
    VBLK_SEND(s, { DISCARD, 8, 4, IOERR });
    VBLK_SEND(s, { DISCARD, 8, 8, UNSUPP, UNMAP });
    vblk_stream_clock(s, 250);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .invalid = 6 },
        .wr = { .ops = 1, .bytes = 4096, .invalid = 7 },
        .wr_highest_offset = 8192,
        .idle_ms = s->scenario->account_invalid ? 250 : 750,
    }, NULL);
}

#define BLOCKS "'logical_block_size': 4096, 'physical_block_size': 4096"

static void test_invalid(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .device = BLOCKS, .account_invalid = true, .account_failed = true,
        .play = play_invalid,
    });
    vblk_stream_run(v, &(VblkScenario) {
        .device = BLOCKS ", 'account-invalid': 'off'",
        .account_failed = true, .play = play_invalid,
    });
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "stats-account-invalid=off,stats-account-failed=off",
        .device = BLOCKS, .play = play_invalid,
    });
    /* The device has the last word */
    vblk_stream_run(v, &(VblkScenario) {
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

            qdict_put_int(d, field, VBLK_STREAM_LATENCY_NS);
        }
        if (kinds[i].num && strcmp(kinds[i].name, "flush")) {
            double busy_ns = kinds[i].num * (double)VBLK_STREAM_LATENCY_NS;

            qdict_put(d, depth, qnum_from_double(busy_ns / MS(elapsed_ms)));
        }
    }
    return d;
}

/* Count what the requests of play_intervals() make beside the intervals. */
static void expect_intervals(VblkStream *s, unsigned rd, unsigned wr,
                             unsigned fl, unsigned idle_ms, QDict *first,
                             QDict *second)
{
    vblk_stream_expect(s, (VblkStats) {
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
static void play_intervals(VblkStream *s)
{
    vblk_stream_clock(s, 1000);
    for (unsigned i = 0; i < VBLK_STREAM_QUEUES; i++) {
        VBLK_SEND(s, { IN, 0, 1 });
    }
    VBLK_SEND(s, { OUT, 0, 8 });
    VBLK_SEND(s, { OUT, 0, 8 }, { FLUSH });
    expect_intervals(s, 4, 2, 1, 0, interval(3, 4, 2, 1, 3000),
                     interval(30, 4, 2, 1, 21000));

    vblk_stream_clock(s, 1500);
    expect_intervals(s, 4, 2, 1, 1500, interval(3, 4, 2, 1, 2500),
                     interval(30, 4, 2, 1, 22500));
    VBLK_SEND(s, { IN, 0, 1 });
    vblk_stream_clock(s, 500);
    VBLK_SEND(s, { OUT, 0, 8 });
    expect_intervals(s, 5, 3, 1, 0, interval(3, 5, 3, 1, 3000),
                     interval(30, 5, 3, 1, 23000));

    /* Only requests that came after 2 s are left. */
    vblk_stream_clock(s, 1500);
    expect_intervals(s, 5, 3, 1, 1500, interval(3, 1, 1, 0, 2500),
                     interval(30, 5, 3, 1, 24500));

    /* One thread has begun new windows, the other has not. */
    VBLK_SEND(s, { IN, 0, 1 });
    vblk_stream_clock(s, 2000);
    expect_intervals(s, 6, 3, 1, 2000, interval(3, 1, 0, 0, 2500),
                     interval(30, 6, 3, 1, 26500));
    VBLK_SEND(s, { IN, 0, 1 });
    vblk_stream_clock(s, 14500);
    VBLK_SEND(s, { FLUSH });
    expect_intervals(s, 7, 3, 2, 0, interval(3, 0, 0, 1, 3000),
                     interval(30, 7, 3, 2, 21000));

    vblk_stream_clock(s, 20000);
    expect_intervals(s, 7, 3, 2, 20000, interval(3, 0, 0, 0, 3000),
                     interval(30, 0, 0, 1, 21000));
}

static void test_intervals(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "stats-intervals.0=3,stats-intervals.1=30",
        .account_invalid = true, .account_failed = true,
        .play = play_intervals,
    });
}

/* The property is of the device here.  QEMU 10.0 has it in -drive only. */
static void test_intervals_device(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .device = "'stats-intervals': [3, 30]",
        .account_invalid = true, .account_failed = true,
        .play = play_intervals,
    });
    /* Both drive and device have the interval, which is added only once. */
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "stats-intervals.0=3",
        .device = "'stats-intervals': [3, 30]",
        .account_invalid = true, .account_failed = true,
        .play = play_intervals,
    });
}

static void test_intervals_bad(const VblkVariant *v)
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
    VblkMachine *m = vblk_machine_start(v, "-blockdev null-co,node-name=disk");

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *json =
            g_strdup_printf("'drive': 'disk', 'stats-intervals': %s",
                            cases[i].list);
        g_autofree char *error = vblk_device_add(m, 0, json);

        g_test_message("stats-intervals: %s", cases[i].list);
        if (cases[i].error) {
            g_assert_nonnull(error);
            g_assert_nonnull(strstr(error, cases[i].error));
        } else {
            g_assert_cmpstr(error, ==, NULL);
            vblk_device_del(m, 0);
        }
    }
    vblk_machine_stop(m);
}

/*
 * Failing requests
 */

#define FAILING                                                              \
    VBLK_STREAM_ERROR(0, "read", "sector=64")                                \
    VBLK_STREAM_ERROR(1, "write", "sector=128")                              \
    VBLK_STREAM_ERROR(2, "write-zeroes", "sector=192")                       \
    VBLK_STREAM_ERROR(3, "discard", "sector=256")                            \
    VBLK_STREAM_ERROR(4, "flush", "once=on")

static void send_failing(VblkStream *s, uint8_t status)
{
    VBLK_SEND(s, { IN, 64, 8, status });
    VBLK_SEND(s, { OUT, 128, 8, status });
    VBLK_SEND(s, { ZEROES, 192, 8, status });
    VBLK_SEND(s, { DISCARD, 256, 8, status });
    VBLK_SEND(s, { FLUSH, 0, 0, status });
    /* Each part of a merged request fails, no other does */
    VBLK_SEND(s, { IN, 48, 8 }, { IN, 61, 3, status }, { IN, 64, 1, status },
              { IN, 65, 7, status });
    VBLK_SEND(s, { OUT, 128, 1, status }, { OUT, 129, 1, status },
              { OUT, 132, 1 });
    VBLK_SEND(s, { IN, 72, 8 });
    VBLK_SEND(s, { FLUSH });
}

#define BOUNDARIES "500000, 2000000"

/* Failing requests count in histograms always, in times if accounted. */
static void play_failed(VblkStream *s)
{
    bool on = s->scenario->account_failed;
    QDict *more = vblk_histograms_dict((VblkHistograms) {
        .rd = VBLK_BINS(BOUNDARIES, "0, 7, 0"),
        .wr = VBLK_BINS(BOUNDARIES, "0, 6, 0"),
        .flush = VBLK_BINS(BOUNDARIES, "0, 2, 0"),
        .zone_append = VBLK_BINS(BOUNDARIES, "0, 0, 0"),
    });

    qdict_put_obj(more, "timed_stats", qobject_from_jsonf_nofail(
        "[%p]", on ? interval(3, 7, 6, 2, 3500) : interval(3, 2, 1, 1, 3500)));
    vblk_stream_histogram(s, "{'boundaries': [" BOUNDARIES "]}", NULL);
    vblk_stream_clock(s, 1000);
    send_failing(s, IOERR);
    vblk_stream_clock(s, 500);
    VBLK_SEND(s, { OUT, 128, 8, IOERR });
    VBLK_SEND(s, { IN, 64, 8, IOERR });
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 2, .bytes = 8192, .merged = 2, .failed = 5 },
        .wr = { .ops = 1, .bytes = 512, .merged = 1, .failed = 5 },
        .flush = { .ops = 1, .failed = 1 },
        .wr_highest_offset = 102400,
        .idle_ms = on ? 0 : 500,
    }, more);
}

#define REPORT "'rerror': 'report', 'werror': 'report'"

static void test_failed(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "stats-intervals.0=3", .errors = FAILING, .device = REPORT,
        .account_invalid = true, .account_failed = true, .play = play_failed,
    });
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "stats-intervals.0=3,stats-account-failed=off",
        .errors = FAILING, .device = REPORT,
        .account_invalid = true, .play = play_failed,
    });
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "stats-intervals.0=3", .errors = FAILING,
        .device = REPORT ", 'account-failed': 'off', 'account-invalid': 'off'",
        .play = play_failed,
    });
}

/* An error that is ignored is none. */
static void play_ignored(VblkStream *s)
{
    vblk_stream_clock(s, 1000);
    send_failing(s, OK);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 6, .bytes = 17920, .merged = 2 },
        .wr = { .ops = 5, .bytes = 9728, .merged = 1 },
        .flush = { .ops = 2 },
        .wr_highest_offset = 102400,
        .idle_ms = 0,
    }, NULL);
}

static void test_ignored(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "cache=writeback", .errors = FAILING,
        .device = "'rerror': 'ignore', 'werror': 'ignore'",
        .account_invalid = true, .account_failed = true, .play = play_ignored,
    });
}

/* A request that waits for another try is accounted when that is over. */
static void play_stopped(VblkStream *s)
{
    static const VblkOp ops[] = {
        { OUT, 64, 8 }, { OUT, 72, 8 }, { IN, 8, 8 },
    };
    QTestState *qts = s->disk.m->qts;
    VblkBatch *b;

    vblk_stream_clock(s, 1000);
    b = vblk_batch_start(s, ops, ARRAY_SIZE(ops), 0);
    qtest_qmp_eventwait(qts, "STOP");
    qtest_clock_step(qts, MS(100));
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
    vblk_batch_finish(b);
    vblk_stream_clock(s, 10);
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 1, .bytes = 4096 },
        .wr = { .ops = 2, .bytes = 8192, .merged = 2 },
        .wr_highest_offset = 40960,
        .idle_ms = 10,
    }, NULL);
}

static void test_stopped(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .drive = "cache=writeback",
        .errors = VBLK_STREAM_ERROR(0, "write", "sector=64")
                    ",file.inject-error.0.once=on",
        .device = "'werror': 'stop'",
        .account_invalid = true, .account_failed = true, .play = play_stopped,
    });
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("stats/kinds", test_kinds, VBLK_BOTH);
    vblk_test_add("stats/kinds-drive", test_kinds_drive, VBLK_Q35_MODERN);
    vblk_test_add("stats/merged", test_merged, VBLK_BOTH);
    vblk_test_add("stats/invalid", test_invalid, VBLK_BOTH);
    vblk_test_add("stats/intervals", test_intervals, VBLK_BOTH);
    if (!vblk_machine_has_other()) {
        vblk_test_add("stats/intervals-device", test_intervals_device,
                      VBLK_BOTH);
        vblk_test_add("stats/intervals-bad", test_intervals_bad, VBLK_BOTH);
    }
    vblk_test_add("stats/failed", test_failed, VBLK_BOTH);
    vblk_test_add("stats/ignored", test_ignored, VBLK_Q35_MODERN);
    vblk_test_add("stats/stopped", test_stopped, VBLK_Q35_MODERN);
    return g_test_run();
}
