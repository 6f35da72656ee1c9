/*
 * Latency histograms of a disk whose queues are served by two threads
 *
 * As with other block statistics, QEMU 10.0 gives the same numbers and errors.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vblk-stream.h"

#define IN VIRTIO_BLK_T_IN
#define OUT VIRTIO_BLK_T_OUT
#define FLUSH VIRTIO_BLK_T_FLUSH

#define IOERR VIRTIO_BLK_S_IOERR

#define END VBLK_STREAM_SECTORS

static const VblkOp flood_ops[] = {
    { IN, 0, 1 }, { OUT, 2, 1 }, { FLUSH }, { IN, 8, 1 }, { IN, END, 1, IOERR },
};

/* Check what QEMU has counted after @floods floods. */
static void expect_histograms(VblkStream *s, unsigned floods,
                              VblkHistograms h)
{
    vblk_stream_expect(s, (VblkStats) {
        .rd = { .ops = 8 * floods, .bytes = 4096 * floods,
                .invalid = 4 * floods },
        .wr = { .ops = 4 * floods, .bytes = 2048 * floods },
        .flush = { .ops = 4 * floods },
        .wr_highest_offset = 198144,
    }, vblk_histograms_dict(h));
}

static void flood(VblkStream *s)
{
    vblk_stream_flood(s, flood_ops, ARRAY_SIZE(flood_ops), 128);
}

/* A latency is in the bin above the boundaries that it reaches. */
static void play_histograms(VblkStream *s)
{
    vblk_stream_clock(s, 1000);
    flood(s);
    expect_histograms(s, 1, (VblkHistograms) { NULL });

    vblk_stream_histogram(s, "{'boundaries': [500000, 1000000, 2000000]}",
                          NULL);
    flood(s);
    flood(s);
    expect_histograms(s, 3, (VblkHistograms) {
        .rd = VBLK_BINS("500000, 1000000, 2000000", "0, 0, 16, 0"),
        .wr = VBLK_BINS("500000, 1000000, 2000000", "0, 0, 8, 0"),
        .flush = VBLK_BINS("500000, 1000000, 2000000", "0, 0, 8, 0"),
        .zone_append = VBLK_BINS("500000, 1000000, 2000000", "0, 0, 0, 0"),
    });

    /* Each kind gets a new histogram, which begins empty. */
    vblk_stream_histogram(s, "{'boundaries-read': [1000001]}", NULL);
    vblk_stream_histogram(s, "{'boundaries-flush': [1], 'boundaries-zap': [9]}",
                          NULL);
    flood(s);
    expect_histograms(s, 4, (VblkHistograms) {
        .rd = VBLK_BINS("1000001", "8, 0"),
        .wr = VBLK_BINS("500000, 1000000, 2000000", "0, 0, 12, 0"),
        .flush = VBLK_BINS("1", "0, 4"),
        .zone_append = VBLK_BINS("9", "0, 0"),
    });
    vblk_stream_histogram(s, "{'boundaries': [7], 'boundaries-write': [1000000,"
                          " 18446744073709551615]}", NULL);
    flood(s);
    expect_histograms(s, 5, (VblkHistograms) {
        .rd = VBLK_BINS("7", "0, 8"),
        .wr = VBLK_BINS("1000000, 18446744073709551615", "0, 4, 0"),
        .flush = VBLK_BINS("7", "0, 4"),
        .zone_append = VBLK_BINS("7", "0, 0"),
    });

    vblk_stream_histogram(s, "{}", NULL);
    flood(s);
    expect_histograms(s, 6, (VblkHistograms) { NULL });
    vblk_stream_histogram(s, "{'boundaries-write': [1000]}", NULL);
    flood(s);
    expect_histograms(s, 7, (VblkHistograms) {
        .wr = VBLK_BINS("1000", "0, 4"),
    });
    /* QEMU takes it for no boundaries at all. */
    vblk_stream_histogram(s, "{'boundaries-zap': [1000]}", NULL);
    expect_histograms(s, 7, (VblkHistograms) { NULL });
}

static void test_histograms(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .account_invalid = true, .account_failed = true,
        .play = play_histograms,
    });
}

#define ID "/machine/peripheral/disk0/virtio-backend"
#define REFUSED(kind) "Device '" ID "' set " kind " boundaries fail"

/* A command that is refused leaves this and later histograms as they were. */
static void play_histogram_errors(VblkStream *s)
{
    vblk_stream_clock(s, 1000);
    vblk_stream_histogram(s, "{'boundaries': [5, 4]}", REFUSED("read"));
    vblk_stream_histogram(s, "{'boundaries': [5, 5]}", REFUSED("read"));
    vblk_stream_histogram(s, "{'boundaries': [0, 5]}", REFUSED("read"));
    vblk_stream_histogram(s, "{'boundaries': []}", REFUSED("read"));
    vblk_stream_histogram(s, "{'id': 'nobody', 'boundaries': [5]}",
                          "Device 'nobody' not found");
    vblk_stream_histogram(s, "{'id': 'io0', 'boundaries': [5]}",
                          "Device 'io0' not found");
    flood(s);
    expect_histograms(s, 1, (VblkHistograms) { NULL });

    vblk_stream_histogram(s, "{'boundaries': [100]}", NULL);
    flood(s);
    vblk_stream_histogram(s, "{'boundaries-write': [7, 6]}", REFUSED("write"));
    vblk_stream_histogram(s, "{'boundaries-flush': [7, 6]}", REFUSED("flush"));
    vblk_stream_histogram(s, "{'boundaries-read': [200],"
                          " 'boundaries-write': [300],"
                          " 'boundaries-zap': [8, 1],"
                          " 'boundaries-flush': [400]}",
                          REFUSED("append write"));
    flood(s);
    expect_histograms(s, 3, (VblkHistograms) {
        .rd = VBLK_BINS("200", "0, 8"),
        .wr = VBLK_BINS("300", "0, 4"),
        .flush = VBLK_BINS("100", "0, 8"),
        .zone_append = VBLK_BINS("100", "0, 0"),
    });
}

static void test_histogram_errors(const VblkVariant *v)
{
    vblk_stream_run(v, &(VblkScenario) {
        .account_invalid = true, .account_failed = true,
        .play = play_histogram_errors,
    });
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("histograms/bins", test_histograms, VBLK_BOTH);
    vblk_test_add("histograms/errors", test_histogram_errors, VBLK_Q35_MODERN);
    return g_test_run();
}
