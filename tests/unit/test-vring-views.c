/*
 * Ring readers over memory that changes, moves away, or is being logged
 *
 * Each test runs for split and for packed rings.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/thread.h"
#include "vring-driver.h"

/* The log: those pages of guest memory that were reported as written */
static uint8_t *dirty;
static int views_released;

static void log_mark(const RingView *view, unsigned n, hwaddr offset,
                     hwaddr len)
{
    for (hwaddr i = 0; i < len; i++) {
        qatomic_set(&dirty[view->ranges[n].start + offset + i], 1);
    }
}

static void log_release(RingView *view)
{
    qatomic_inc(&views_released);
}

static const RingViewOps log_ops = {
    .mark = log_mark,
    .release = log_release,
};

static RingView *log_view_new(bool track)
{
    RingView *view = guest_view_new(track);

    view->ops = &log_ops;
    return view;
}

static void log_clear(void)
{
    memset(dirty, 0, MID + MID_SIZE);
}

/* Return whether exactly these bytes of buffers and rings are dirty. */
static bool log_has(hwaddr addr, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!dirty[addr + i]) {
            return false;
        }
    }
    return !dirty[addr + len];
}

/* The first answer of a ring; packed, in all slots of a request. */
static void expect_log_of_ring(Driver *d)
{
    if (d->packed) {
        g_assert(log_has(DESC, 3 * 16));
    } else {
        g_assert(log_has(USED + 2, 2 + 8));
    }
}

/* With tracking from the start, data is reported before the driver sees it. */
static void test_log_known(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    VRingChain chain;

    log_clear();
    ring_view_source_publish(&d->src, log_view_new(true));
    g_assert(vring_refresh(&d->r));
    driver_add(d, request, 3, 0);
    chain = driver_take(d);
    g_assert(chain.track);
    g_assert(!dirty[BUF + 0x1000]);
    vring_push(&d->r, &chain, 4097);
    g_assert(log_has(BUF + 0x1000, 4097));
    g_assert(!dirty[BUF]);
    driver_expect_no_used(d);
    vring_publish(&d->r);
    expect_log_of_ring(d);
    g_free(chain.iov);

    log_clear();
    vring_set_notification(&d->r, true);
    g_assert(packed ? log_has(USED, 4) : log_has(USED + 4 + 64, 2));
    driver_free(d);
}

/* A ring that wraps reports both of its ends. */
static void test_log_wrap(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    unsigned entry = packed ? 16 : 8;
    hwaddr ring = packed ? DESC : USED + 4;
    VRingChain chain[3];

    log_clear();
    ring_view_source_publish(&d->src, log_view_new(true));
    g_assert(vring_refresh(&d->r));
    driver_seek(d, packed ? 7 : 65535, true);
    for (unsigned i = 0; i < 3; i++) {
        driver_add(d, request, 1, i);
        chain[i] = driver_take(d);
    }
    for (unsigned i = 0; i < 3; i++) {
        vring_push(&d->r, &chain[i], 0);
        g_free(chain[i].iov);
    }
    vring_publish(&d->r);
    g_assert(log_has(ring, 2 * entry));
    g_assert(log_has(ring + 7 * entry, entry));
    driver_free(d);
}

/* Tracking begins at each step of a request's life. */
static void test_log_begins(const void *packed)
{
    enum { TAKEN, REFRESHED, PUSHED, PUSHED_REFRESHED, STEPS };

    for (unsigned step = TAKEN; step < STEPS; step++) {
        Driver *d = driver_new(packed, 8, false);
        VRingChain chain;

        log_clear();
        ring_view_source_publish(&d->src, log_view_new(false));
        g_assert(vring_refresh(&d->r));
        driver_add(d, request, 3, 0);
        chain = driver_take(d);
        g_assert(!chain.track);
        if (step < PUSHED) {
            ring_view_source_publish(&d->src, log_view_new(true));
            if (step == REFRESHED) {
                g_assert(vring_refresh(&d->r));
            }
        }
        vring_push(&d->r, &chain, 4097);
        if (step >= PUSHED) {
            ring_view_source_publish(&d->src, log_view_new(true));
            if (step == PUSHED_REFRESHED) {
                g_assert(vring_refresh(&d->r));
            }
        }
        vring_publish(&d->r);
        g_assert(log_has(BUF + 0x1000, 4097));
        expect_log_of_ring(d);
        g_free(chain.iov);
        driver_free(d);
    }
}

/* Without tracking, nothing is reported. */
static void test_log_off(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);

    log_clear();
    ring_view_source_publish(&d->src, log_view_new(false));
    g_assert(vring_refresh(&d->r));
    driver_one_request(d);
    vring_set_notification(&d->r, false);
    vring_set_notification(&d->r, true);
    g_assert(buffer_is_zero(dirty, MID + MID_SIZE));
    driver_free(d);
}

/* An old view lives exactly as long as its last chain. */
static void test_views(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    VRingChain c1, c2, c3;

    ring_view_source_publish(&d->src, log_view_new(false));
    g_assert(vring_refresh(&d->r));
    drain_call_rcu();
    qatomic_set(&views_released, 0);
    driver_add(d, request + 2, 1, 1);
    driver_add(d, request + 2, 1, 2);
    c1 = driver_take(d);
    c2 = driver_take(d);
    ring_view_source_publish(&d->src, log_view_new(false));
    g_assert(vring_refresh(&d->r));
    driver_add(d, request + 2, 1, 3);
    c3 = driver_take(d);
    g_assert(c1.view_ref == c2.view_ref && c3.view_ref != c1.view_ref);
    driver_answer(d, &c1, 1);
    driver_answer(d, &c3, 1);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&views_released), ==, 0);
    driver_answer(d, &c2, 1);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&views_released), ==, 1);

    /* Without requests in flight the old view is dropped at once. */
    ring_view_source_publish(&d->src, log_view_new(false));
    g_assert(vring_refresh(&d->r));
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&views_released), ==, 2);
    driver_free(d);
    drain_call_rcu();
    g_assert_cmpint(qatomic_read(&views_released), ==, 3);
}

/* The memory of the ring is removed.  Requests still end by the old view. */
static void test_ring_unplugged(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    uint16_t id = driver_add(d, request, 3, 4);
    VRingChain chain = driver_take(d);

    ring_view_source_publish(&d->src, ring_view_new_from_ranges(NULL, 0));
    g_assert(!vring_refresh(&d->r));
    driver_answer(d, &chain, 9);
    driver_expect_used(d, id, 9);
    g_assert(!vring_refresh(&d->r));
    vring_detach(&d->r);
    g_assert(!vring_attach(&d->r, &d->src));
    driver_free(d);
}

/*
 * The queue completes a request while another thread begins to log and then
 * copies all memory.  A write that the copy has missed must be in the log.
 */
typedef struct Race {
    Driver *d;
    QemuEvent go;
    QemuEvent copied;
    int start;
    bool stop;
    uint8_t data;
    uint16_t idx;
} Race;

static void *race_log(void *opaque)
{
    Race *race = opaque;
    uint8_t *data = guest_ptr(request[2].addr);
    uint16_t *idx = guest_ptr(race->d->packed ? DESC + 14 : USED + 2);

    for (;;) {
        qemu_event_wait(&race->go);
        qemu_event_reset(&race->go);
        if (qatomic_read(&race->stop)) {
            return NULL;
        }
        qatomic_inc(&race->start);
        while (qatomic_read(&race->start) < 2) {
            /* both at the same time */
        }
        ring_view_source_publish(&race->d->src, log_view_new(true));
        race->data = qatomic_read(data);
        race->idx = qatomic_read(idx);
        qemu_event_set(&race->copied);
    }
}

static void test_log_race(const void *packed)
{
    Race race = { .d = driver_new(packed, 1, false) };
    Driver *d = race.d;
    uint8_t *data = guest_ptr(request[2].addr);
    hwaddr shows = packed ? DESC + 14 : USED + 2;
    QemuThread thread;

    qemu_event_init(&race.go, false);
    qemu_event_init(&race.copied, false);
    qemu_thread_create(&thread, "log", race_log, &race, QEMU_THREAD_JOINABLE);
    for (unsigned i = 0; i < 3000; i++) {
        VRingChain chain;
        uint16_t now;

        ring_view_source_publish(&d->src, log_view_new(false));
        g_assert(vring_refresh(&d->r));
        driver_add(d, request + 2, 1, 1);
        chain = driver_take(d);
        *data = 0;
        dirty[request[2].addr] = dirty[shows] = 0;

        qatomic_set(&race.start, 0);
        qemu_event_set(&race.go);
        qatomic_inc(&race.start);
        while (qatomic_read(&race.start) < 2) {
            /* both at the same time */
        }
        qatomic_set(data, 1);
        vring_push(&d->r, &chain, 1);
        vring_publish(&d->r);
        qemu_event_wait(&race.copied);
        qemu_event_reset(&race.copied);

        now = *(uint16_t *)guest_ptr(shows);
        g_assert(race.data == 1 || dirty[request[2].addr]);
        g_assert(race.idx == now || dirty[shows]);
        g_free(chain.iov);
    }
    qatomic_set(&race.stop, true);
    qemu_event_set(&race.go);
    qemu_thread_join(&thread);
    qemu_event_destroy(&race.go);
    qemu_event_destroy(&race.copied);
    driver_free(d);
}

static void add(const char *name, GTestDataFunc func)
{
    driver_test_add("vring-views", name, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_init();
    dirty = g_malloc0(MID + MID_SIZE);

    add("log-known", test_log_known);
    add("log-wrap", test_log_wrap);
    add("log-begins", test_log_begins);
    add("log-off", test_log_off);
    add("log-race", test_log_race);
    add("views", test_views);
    add("ring-unplugged", test_ring_unplugged);
    return g_test_run();
}
