/*
 * Block statistics counted by many threads add up
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/accounting.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/thread-slot.h"
#include "qemu/timer.h"

/* More than have a slot of their own */
#define CROWD       (THREAD_SLOTS + 20)
#define REQUESTS    200

typedef struct Crowd {
    BlockAcctStats *stats;
    QemuEvent go;
    QemuEvent all_there;
    int missing;
    unsigned slots[CROWD];
} Crowd;

typedef struct Member {
    Crowd *crowd;
    unsigned index;
    QemuThread thread;
} Member;

static BlockAcctStats *stats_new(void)
{
    BlockAcctStats *stats = g_new0(BlockAcctStats, 1);

    block_acct_init(stats);
    return stats;
}

static void stats_free(BlockAcctStats *stats)
{
    block_acct_cleanup(stats);
    g_free(stats);
}

/* A request that took a little more than @seconds. */
static void request(BlockAcctStats *stats, enum BlockAcctType type,
                    int64_t bytes, unsigned seconds, bool failed)
{
    BlockAcctCookie cookie;

    block_acct_start(stats, &cookie, bytes, type);
    cookie.start_time_ns -= seconds * (int64_t)NANOSECONDS_PER_SECOND;
    if (failed) {
        block_acct_failed(stats, &cookie);
    } else {
        block_acct_done(stats, &cookie);
    }
    /* Only the first end of a request counts */
    block_acct_done(stats, &cookie);
}

static void *crowd_member(void *opaque)
{
    Member *member = opaque;
    Crowd *crowd = member->crowd;

    crowd->slots[member->index] = thread_slot();
    if (qatomic_fetch_dec(&crowd->missing) == 1) {
        qemu_event_set(&crowd->all_there);
    }
    qemu_event_wait(&crowd->go);

    for (int i = 0; i < REQUESTS; i++) {
        request(crowd->stats, BLOCK_ACCT_READ, 4096, 1, false);
        request(crowd->stats, BLOCK_ACCT_WRITE, 512, 3, i % 4 == 0);
        block_acct_invalid(crowd->stats, BLOCK_ACCT_UNMAP);
        block_acct_merge_done(crowd->stats, BLOCK_ACCT_WRITE, 2);
    }
    g_assert_cmpuint(thread_slot(), ==, crowd->slots[member->index]);
    return NULL;
}

/* Run @n threads that all exist at once.  Set @slots to their slots. */
static void crowd_run(Crowd *crowd, unsigned n, BlockAcctStats *stats)
{
    g_autofree Member *members = g_new0(Member, n);

    crowd->stats = stats;
    crowd->missing = n;
    qemu_event_init(&crowd->go, false);
    qemu_event_init(&crowd->all_there, false);
    for (unsigned i = 0; i < n; i++) {
        members[i] = (Member) { .crowd = crowd, .index = i };
        qemu_thread_create(&members[i].thread, "crowd", crowd_member,
                           &members[i], QEMU_THREAD_JOINABLE);
    }
    qemu_event_wait(&crowd->all_there);
    qemu_event_set(&crowd->go);
    for (unsigned i = 0; i < n; i++) {
        qemu_thread_join(&members[i].thread);
    }
    qemu_event_destroy(&crowd->go);
    qemu_event_destroy(&crowd->all_there);
}

static void check_sums(BlockAcctStats *stats, uint64_t each)
{
    uint64_t failed = each / 4;
    uint64_t ns = NANOSECONDS_PER_SECOND;

    QEMU_LOCK_GUARD(&stats->lock);
    block_acct_fold(stats);
    g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_READ], ==, each);
    g_assert_cmpuint(stats->nr_bytes[BLOCK_ACCT_READ], ==, each * 4096);
    g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_WRITE], ==, each - failed);
    g_assert_cmpuint(stats->nr_bytes[BLOCK_ACCT_WRITE], ==,
                     (each - failed) * 512);
    g_assert_cmpuint(stats->failed_ops[BLOCK_ACCT_WRITE], ==, failed);
    g_assert_cmpuint(stats->failed_ops[BLOCK_ACCT_READ], ==, 0);
    g_assert_cmpuint(stats->invalid_ops[BLOCK_ACCT_UNMAP], ==, each);
    g_assert_cmpuint(stats->merged[BLOCK_ACCT_WRITE], ==, each * 2);
    g_assert_cmpuint(stats->total_time_ns[BLOCK_ACCT_READ], >=, each * ns);
    g_assert_cmpuint(stats->total_time_ns[BLOCK_ACCT_WRITE], >=,
                     each * 3 * ns);
    g_assert_cmpint(stats->last_access_time_ns, >, 0);
}

static void test_slots(void)
{
    g_autofree Crowd *crowd = g_new0(Crowd, 1);
    bool seen[THREAD_SLOTS_ALL];

    /* The second crowd gets what the first gave back */
    for (int round = 0; round < 2; round++) {
        BlockAcctStats *stats = stats_new();
        unsigned shared = 0;

        memset(seen, 0, sizeof(seen));
        seen[thread_slot()] = true;
        crowd_run(crowd, CROWD, stats);
        for (unsigned i = 0; i < CROWD; i++) {
            unsigned slot = crowd->slots[i];

            if (slot == THREAD_SLOT_SHARED) {
                shared++;
            } else {
                g_assert_cmpuint(slot, <, THREAD_SLOTS);
                g_assert_false(seen[slot]);
                seen[slot] = true;
            }
        }
        /* The main thread, and QEMU's RCU thread if it asked, have theirs */
        g_assert_cmpuint(shared, >=, CROWD - (THREAD_SLOTS - 1));
        check_sums(stats, (uint64_t)CROWD * REQUESTS);
        stats_free(stats);
    }
}

static void test_histogram(void)
{
    static uint64List second = { .value = 2 * NANOSECONDS_PER_SECOND };
    static uint64List first = { .next = &second, .value = 1000 };
    static uint64List falling = { .next = &first, .value = 5000 };
    g_autofree Crowd *crowd = g_new0(Crowd, 1);
    BlockAcctStats *stats = stats_new();
    BlockLatencyHistogram *hist = stats->latency_histogram;

    g_assert_cmpint(block_latency_histogram_set(stats, BLOCK_ACCT_READ, NULL),
                    ==, -EINVAL);
    g_assert_cmpint(block_latency_histogram_set(stats, BLOCK_ACCT_READ,
                                                &falling), ==, -EINVAL);
    g_assert_null(hist[BLOCK_ACCT_READ].bins);

    /* One shard is made before the histogram is set, one afterwards. */
    request(stats, BLOCK_ACCT_READ, 1, 1, false);
    g_assert_cmpint(block_latency_histogram_set(stats, BLOCK_ACCT_READ,
                                                &first), ==, 0);
    g_assert_cmpint(block_latency_histogram_set(stats, BLOCK_ACCT_WRITE,
                                                &first), ==, 0);
    request(stats, BLOCK_ACCT_READ, 1, 1, false);
    crowd_run(crowd, 8, stats);

    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        block_acct_fold(stats);
        g_assert_cmpint(hist[BLOCK_ACCT_READ].nbins, ==, 3);
        g_assert_cmpuint(hist[BLOCK_ACCT_READ].bins[0], ==, 0);
        g_assert_cmpuint(hist[BLOCK_ACCT_READ].bins[1], ==, 8 * REQUESTS + 1);
        g_assert_cmpuint(hist[BLOCK_ACCT_READ].bins[2], ==, 0);
        /* Failed requests have a latency too */
        g_assert_cmpuint(hist[BLOCK_ACCT_WRITE].bins[2], ==, 8 * REQUESTS);
        g_assert_null(hist[BLOCK_ACCT_FLUSH].bins);
    }

    /* Set again, it counts from zero */
    g_assert_cmpint(block_latency_histogram_set(stats, BLOCK_ACCT_READ,
                                                &second), ==, 0);
    request(stats, BLOCK_ACCT_READ, 1, 2, false);
    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        block_acct_fold(stats);
        g_assert_cmpuint(hist[BLOCK_ACCT_READ].bins[0], ==, 0);
        g_assert_cmpuint(hist[BLOCK_ACCT_READ].bins[1], ==, 1);
    }

    block_latency_histograms_clear(stats);
    request(stats, BLOCK_ACCT_READ, 1, 2, false);
    g_assert_null(hist[BLOCK_ACCT_READ].bins);
    stats_free(stats);
}

static void test_intervals(void)
{
    const uint64_t ns = NANOSECONDS_PER_SECOND;
    g_autofree Crowd *crowd = g_new0(Crowd, 1);
    BlockAcctStats *stats = stats_new();
    BlockAcctTimedStats *ts = NULL;
    unsigned intervals = 0;

    /* The interval is hours, so that no window ends while the test runs. */
    block_acct_add_interval(stats, 36000);
    request(stats, BLOCK_ACCT_READ, 1, 9, false);
    block_acct_add_interval(stats, 72000);
    request(stats, BLOCK_ACCT_READ, 1, 5, false);
    crowd_run(crowd, 8, stats);

    qemu_mutex_lock(&stats->lock);
    for (int twice = 0; twice < 2; twice++) {
        block_acct_fold(stats);
    }
    while ((ts = block_acct_interval_next(stats, ts))) {
        TimedAverage *rd = &ts->latency[BLOCK_ACCT_READ];
        TimedAverage *wr = &ts->latency[BLOCK_ACCT_WRITE];
        uint64_t longest = intervals ? 9 : 5;

        g_assert_cmpuint(ts->interval_length, ==, intervals ? 36000 : 72000);
        g_assert_cmpuint(timed_average_min(rd) / ns, ==, 1);
        g_assert_cmpuint(timed_average_max(rd) / ns, ==, longest);
        g_assert_cmpuint(timed_average_avg(rd) / ns, ==, 1);
        g_assert_cmpuint(timed_average_min(wr) / ns, ==, 3);
        g_assert_cmpuint(timed_average_sum(wr, &(uint64_t){ 0 }) / ns, >=,
                         8 * REQUESTS * 3);
        g_assert_cmpfloat(block_acct_queue_depth(ts, BLOCK_ACCT_WRITE), >, 0);
        g_assert_cmpuint(timed_average_max(&ts->latency[BLOCK_ACCT_FLUSH]),
                         ==, 0);
        intervals++;
    }
    g_assert_cmpuint(intervals, ==, 2);
    qemu_mutex_unlock(&stats->lock);
    stats_free(stats);
}

/* A batch counts as its requests would, one by one. */
static void test_batch(void)
{
    const uint64_t ns = NANOSECONDS_PER_SECOND;
    uint64List boundary = { .value = 2 * ns };
    BlockAcctStats *stats = stats_new();
    BlockAcctTimedStats *ts;
    BlockAcctCookie cookie;

    block_acct_add_interval(stats, 36000);
    g_assert_cmpint(block_latency_histogram_set(stats, BLOCK_ACCT_WRITE,
                                                &boundary), ==, 0);
    request(stats, BLOCK_ACCT_WRITE, 512, 1, false);
    block_acct_start(stats, &cookie, 5 * 4096, BLOCK_ACCT_WRITE);
    cookie.start_time_ns -= 3 * ns;
    block_acct_done_batch(stats, &cookie, 5);
    block_acct_done_batch(stats, &cookie, 5);

    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        block_acct_fold(stats);
        ts = block_acct_interval_next(stats, NULL);
        g_assert_cmpuint(timed_average_avg(&ts->latency[BLOCK_ACCT_WRITE]) *
                         6 / ns, ==, 1 + 5 * 3);
        g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_WRITE], ==, 6);
        g_assert_cmpuint(stats->nr_bytes[BLOCK_ACCT_WRITE], ==,
                         512 + 5 * 4096);
        g_assert_cmpuint(stats->total_time_ns[BLOCK_ACCT_WRITE] / ns, ==,
                         1 + 5 * 3);
        g_assert_cmpuint(
            stats->latency_histogram[BLOCK_ACCT_WRITE].bins[0], ==, 1);
        g_assert_cmpuint(
            stats->latency_histogram[BLOCK_ACCT_WRITE].bins[1], ==, 5);
    }
    stats_free(stats);
}

static void test_settings(void)
{
    BlockAcctStats *stats = stats_new();

    block_acct_setup(stats, ON_OFF_AUTO_OFF, ON_OFF_AUTO_OFF);
    block_acct_setup(stats, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO);
    g_assert_false(stats->account_invalid);
    g_assert_false(stats->account_failed);

    request(stats, BLOCK_ACCT_WRITE, 512, 1, true);
    block_acct_invalid(stats, BLOCK_ACCT_READ);
    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        block_acct_fold(stats);
        g_assert_cmpuint(stats->failed_ops[BLOCK_ACCT_WRITE], ==, 1);
        g_assert_cmpuint(stats->invalid_ops[BLOCK_ACCT_READ], ==, 1);
        g_assert_cmpuint(stats->nr_ops[BLOCK_ACCT_WRITE], ==, 0);
        g_assert_cmpuint(stats->total_time_ns[BLOCK_ACCT_WRITE], ==, 0);
        g_assert_cmpint(stats->last_access_time_ns, ==, 0);
    }

    block_acct_setup(stats, ON_OFF_AUTO_ON, ON_OFF_AUTO_ON);
    block_acct_invalid(stats, BLOCK_ACCT_READ);
    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        block_acct_fold(stats);
        g_assert_cmpint(stats->last_access_time_ns, >, 0);
        g_assert_cmpint(block_acct_idle_time_ns(stats), >=, 0);
    }

    request(stats, BLOCK_ACCT_WRITE, 512, 1, true);
    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        block_acct_fold(stats);
        g_assert_cmpuint(stats->total_time_ns[BLOCK_ACCT_WRITE], >=,
                         NANOSECONDS_PER_SECOND);
        g_assert_cmpuint(stats->nr_bytes[BLOCK_ACCT_WRITE], ==, 0);
    }
    stats_free(stats);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block-stats/slots", test_slots);
    g_test_add_func("/block-stats/histogram", test_histogram);
    g_test_add_func("/block-stats/intervals", test_intervals);
    g_test_add_func("/block-stats/batch", test_batch);
    g_test_add_func("/block-stats/settings", test_settings);
    return g_test_run();
}
