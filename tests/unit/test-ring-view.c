/*
 * Views of guest memory: lookup, its limits, and the life of a view
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "hw/virtio/ring-view.h"

#define KIB 1024

static uint8_t low[64 * KIB], rom[4 * KIB], high[64 * KIB], last[4 * KIB];

/*
 *  0        64K   80K  84K           1M       1M+64K            2^64
 *  | low    |     |rom |             | high   |         | last  |
 */
static const RingViewRange layout[] = {
    { .start = 0, .len = sizeof(low), .host = low },
    { .start = 80 * KIB, .len = sizeof(rom), .host = rom, .readonly = true },
    { .start = 1024 * KIB, .len = sizeof(high), .host = high, .track = true },
    { .start = -(hwaddr)sizeof(last), .len = sizeof(last), .host = last },
};

static RingView *view_new(void)
{
    return ring_view_new_from_ranges(layout, ARRAY_SIZE(layout));
}

/* The result that a lookup must give with any hint. */
static void check(const RingView *view, hwaddr addr, size_t len, bool is_write,
                  void *host, size_t got)
{
    for (RingViewHint start = 0; start <= view->nranges; start++) {
        const RingViewRange *range = NULL;
        RingViewHint hint = start;
        size_t n = len;

        g_assert(ring_view_map(view, &hint, addr, &n, is_write, &range) ==
                 host);
        g_assert_cmpuint(hint, <=, view->nranges);
        if (host) {
            g_assert_cmpuint(n, ==, got);
            g_assert(range->host <= (uint8_t *)host &&
                     (uint8_t *)host + n <= range->host + range->len);
            g_assert(range == &view->ranges[hint]);
        }
    }
}

static void test_lookup(void)
{
    RingView *view = view_new();

    g_assert(view->track);
    check(view, 0, 1, true, low, 1);
    check(view, 0, sizeof(low), true, low, sizeof(low));
    check(view, 100, 512, false, low + 100, 512);
    check(view, sizeof(low) - 1, 1, true, low + sizeof(low) - 1, 1);
    check(view, 1024 * KIB, 4096, true, high, 4096);
    check(view, 1024 * KIB + sizeof(high) - 8, 8, true,
          high + sizeof(high) - 8, 8);
    ring_view_unref(view);
}

static void test_holes(void)
{
    RingView *view = view_new();

    check(view, sizeof(low), 1, false, NULL, 0);
    check(view, 80 * KIB - 1, 1, false, NULL, 0);
    check(view, 84 * KIB, 1, false, NULL, 0);
    check(view, 1024 * KIB - 1, 4096, false, NULL, 0);
    check(view, 1024 * KIB + sizeof(high), 1, false, NULL, 0);
    check(view, UINT64_C(1) << 63, 1, false, NULL, 0);
    ring_view_unref(view);
}

static void test_shortened(void)
{
    RingView *view = view_new();

    check(view, sizeof(low) - 16, 32, true, low + sizeof(low) - 16, 16);
    check(view, 0, SIZE_MAX, true, low, sizeof(low));
    check(view, 84 * KIB - 1, 2, false, rom + sizeof(rom) - 1, 1);
    ring_view_unref(view);
}

static void test_rom(void)
{
    RingView *view = view_new();

    check(view, 80 * KIB, 512, false, rom, 512);
    check(view, 80 * KIB, 512, true, NULL, 0);
    check(view, 84 * KIB - 1, 1, true, NULL, 0);
    ring_view_unref(view);
}

static void test_end_of_space(void)
{
    RingView *view = view_new();

    check(view, UINT64_MAX, 1, true, last + sizeof(last) - 1, 1);
    check(view, -(hwaddr)sizeof(last), sizeof(last), true, last, sizeof(last));
    /* The end is beyond 2^64.  It must not wrap around to low memory. */
    check(view, UINT64_MAX, 2, false, NULL, 0);
    check(view, -(hwaddr)16, 17, false, NULL, 0);
    check(view, 1, SIZE_MAX, false, low + 1, sizeof(low) - 1);
    check(view, 2, SIZE_MAX, false, NULL, 0);
    ring_view_unref(view);
}

static void test_empty(void)
{
    RingView *view = ring_view_new_from_ranges(NULL, 0);

    g_assert(!view->track);
    check(view, 0, 1, false, NULL, 0);
    check(view, 4096, 1, true, NULL, 0);
    check(view, UINT64_MAX, 1, true, NULL, 0);
    ring_view_unref(view);
}

/* Many ranges with holes of the same size, every byte of their edges. */
static void test_search(void)
{
    g_autofree uint8_t *mem = g_malloc(100 * 64);
    RingViewRange ranges[100];
    RingView *view;

    for (unsigned n = 1; n <= ARRAY_SIZE(ranges); n += 9) {
        for (unsigned i = 0; i < n; i++) {
            ranges[i] = (RingViewRange) {
                .start = 128 * i + 64, .len = 64, .host = mem + 64 * i,
            };
        }
        view = ring_view_new_from_ranges(ranges, n);
        for (unsigned i = 0; i < n; i++) {
            check(view, 128 * i + 63, 1, true, NULL, 0);
            check(view, 128 * i + 64, 64, true, mem + 64 * i, 64);
            check(view, 128 * i + 127, 1, true, mem + 64 * i + 63, 1);
            check(view, 128 * i + 128, 1, true, NULL, 0);
        }
        ring_view_unref(view);
    }
}

static unsigned marked_range;
static hwaddr marked_offset, marked_len;

static void record_mark(const RingView *view, unsigned n, hwaddr offset,
                        hwaddr len)
{
    g_assert_cmpuint(marked_len, ==, 0);
    marked_range = n;
    marked_offset = offset;
    marked_len = len;
}

static void test_mark(void)
{
    static const RingViewOps ops = { .mark = record_mark };
    RingView *view = view_new();

    ring_view_mark_written(view, high + 5, 7);      /* plain arrays */
    view->ops = &ops;
    ring_view_mark_written(view, high + 5, 7);
    g_assert_cmpuint(marked_range, ==, 2);
    g_assert_cmpuint(marked_offset, ==, 5);
    g_assert_cmpuint(marked_len, ==, 7);

    marked_len = 0;
    ring_view_mark_written(view, &marked_len, 8);   /* not in the view */
    ring_view_mark_written(view, rom, 8);
    g_assert_cmpuint(marked_len, ==, 0);
    ring_view_unref(view);
}

static int released;

static void count_release(RingView *view)
{
    qatomic_inc(&released);
    /* Poison for test_readers(). */
    view->opaque = NULL;
}

static RingView *counted_view_new(void)
{
    static const RingViewOps ops = { .release = count_release };
    RingView *view = view_new();

    view->ops = &ops;
    view->opaque = view;
    return view;
}

static void test_release(void)
{
    RingView *first = counted_view_new(), *view;
    RingViewSource src;

    released = 0;
    ring_view_source_init(&src, first);
    view = ring_view_source_acquire(&src);
    g_assert(view == first);
    g_assert(ring_view_source_is_current(&src, view));

    ring_view_source_publish(&src, counted_view_new());
    g_assert(!ring_view_source_is_current(&src, view));
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&released), ==, 0);

    /* The old one stays usable until its last user goes. */
    check(view, 0, 1, true, low, 1);
    ring_view_ref(view);
    ring_view_unref(view);
    ring_view_unref(view);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&released), ==, 1);

    view = ring_view_source_acquire(&src);
    ring_view_source_destroy(&src);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&released), ==, 1);
    ring_view_unref(view);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&released), ==, 2);
}

#define READERS     3
#define VIEWS       2000

static bool stop_readers;

static void *reader(void *opaque)
{
    RingViewSource *src = opaque;
    RingView *mine;

    rcu_register_thread();
    mine = ring_view_source_acquire(src);
    while (!qatomic_read(&stop_readers)) {
        if (!ring_view_source_is_current(src, mine)) {
            ring_view_unref(mine);
            mine = ring_view_source_acquire(src);
        }
        g_assert(qatomic_read(&mine->opaque) == mine);
    }
    ring_view_unref(mine);
    rcu_unregister_thread();
    return NULL;
}

/* Views are replaced while queues use them.  Each is freed once, at its end. */
static void test_readers(void)
{
    QemuThread threads[READERS];
    RingViewSource src;

    released = 0;
    stop_readers = false;
    ring_view_source_init(&src, counted_view_new());
    for (unsigned i = 0; i < READERS; i++) {
        qemu_thread_create(&threads[i], "reader", reader, &src,
                           QEMU_THREAD_JOINABLE);
    }
    for (unsigned i = 0; i < VIEWS; i++) {
        ring_view_source_publish(&src, counted_view_new());
    }
    qatomic_set(&stop_readers, true);
    for (unsigned i = 0; i < READERS; i++) {
        qemu_thread_join(&threads[i]);
    }
    ring_view_source_destroy(&src);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&released), ==, VIEWS + 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ring-view/lookup", test_lookup);
    g_test_add_func("/ring-view/holes", test_holes);
    g_test_add_func("/ring-view/shortened", test_shortened);
    g_test_add_func("/ring-view/rom", test_rom);
    g_test_add_func("/ring-view/end-of-space", test_end_of_space);
    g_test_add_func("/ring-view/empty", test_empty);
    g_test_add_func("/ring-view/search", test_search);
    g_test_add_func("/ring-view/mark", test_mark);
    g_test_add_func("/ring-view/release", test_release);
    g_test_add_func("/ring-view/readers", test_readers);
    return g_test_run();
}
