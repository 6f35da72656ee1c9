/*
 * Counting requests of many threads: the meaning of a count of zero, and the
 * number of barriers that it costs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/in-flight.h"
#include "qemu/thread.h"

/* Threads with and without slots start requests, and others end them. */
typedef struct Counter {
    InFlight *in_flight;
    QemuSemaphore *handed_on;
    QemuThread thread;
    int *left;
    bool starts;
} Counter;

#define COUNTERS        (THREAD_SLOTS / 2 + 10)
#define COUNTS          2000

static void *counter_run(void *opaque)
{
    Counter *counter = opaque;

    for (int i = 0; i < COUNTS; i++) {
        if (counter->starts) {
            in_flight_inc(counter->in_flight);
            qemu_sem_post(counter->handed_on);
        } else {
            qemu_sem_wait(counter->handed_on);
            in_flight_dec(counter->in_flight);
        }
    }
    qatomic_dec(counter->left);
    return NULL;
}

/* While one request never ends, the count is never seen as zero. */
static void test_count(void)
{
    g_autofree InFlight *in_flight = g_new0(InFlight, 1);
    g_autofree Counter *counters = g_new0(Counter, 2 * COUNTERS);
    QemuSemaphore handed_on;
    int left = 2 * COUNTERS;

    qemu_sem_init(&handed_on, 0);
    g_assert_cmpuint(in_flight_count(in_flight), ==, 0);
    in_flight_inc(in_flight);

    for (int i = 0; i < 2 * COUNTERS; i++) {
        counters[i] = (Counter) {
            .in_flight = in_flight,
            .handed_on = &handed_on,
            .left = &left,
            .starts = i % 2,
        };
        qemu_thread_create(&counters[i].thread, "counter", counter_run,
                           &counters[i], QEMU_THREAD_JOINABLE);
    }
    while (qatomic_read(&left)) {
        g_assert_cmpuint(in_flight_count(in_flight), >, 0);
    }
    for (int i = 0; i < 2 * COUNTERS; i++) {
        qemu_thread_join(&counters[i].thread);
    }

    g_assert_cmpuint(in_flight_count(in_flight), ==, 1);
    in_flight_dec(in_flight);
    g_assert_cmpuint(in_flight_count(in_flight), ==, 0);
    in_flight_cleanup(in_flight);
    qemu_sem_destroy(&handed_on);
}

/* Return the number of barriers since @before. */
static unsigned barriers_since(AsymCount before)
{
    return asym_mb_begun() - before;
}

/* Start so many requests that later ones of the thread have no barrier. */
static void go_light(InFlight *in_flight)
{
    for (int i = 0; i < 100; i++) {
        in_flight_inc(in_flight);
        in_flight_dec(in_flight);
    }
}

/* After much traffic a count needs a barrier, one for all that were closed. */
static void test_close(void)
{
    g_autofree InFlight *in_flight = g_new0(InFlight, 2);
    AsymCount before;

    for (int round = 0; round < 3; round++) {
        go_light(&in_flight[0]);
        go_light(&in_flight[1]);
        in_flight_inc(&in_flight[0]);
        in_flight_close(&in_flight[0]);
        in_flight_close(&in_flight[1]);
        before = asym_mb_begun();

        g_assert_cmpuint(in_flight_count(&in_flight[0]), ==, 1);
        g_assert_cmpuint(barriers_since(before), ==, 0);
        in_flight_dec(&in_flight[0]);
        g_assert_cmpuint(in_flight_count(&in_flight[0]), ==, 0);
        g_assert_cmpuint(barriers_since(before), ==, 1);

        for (int again = 0; again < 3; again++) {
            g_assert_cmpuint(in_flight_count(&in_flight[0]), ==, 0);
            g_assert_cmpuint(in_flight_count(&in_flight[1]), ==, 0);
        }
        g_assert_cmpuint(barriers_since(before), ==, 1);
    }
    in_flight_cleanup(&in_flight[0]);
    in_flight_cleanup(&in_flight[1]);
}

/* Without traffic, or after little, it needs none, however often it closes. */
static void test_close_idle(void)
{
    g_autofree InFlight *in_flight = g_new0(InFlight, 1);
    AsymCount before = asym_mb_begun();

    for (int round = 0; round < 5; round++) {
        in_flight_close(in_flight);
        g_assert_cmpuint(in_flight_count(in_flight), ==, 0);
        in_flight_inc(in_flight);
        in_flight_close(in_flight);
        g_assert_cmpuint(in_flight_count(in_flight), ==, 1);
        in_flight_dec(in_flight);
        g_assert_cmpuint(in_flight_count(in_flight), ==, 0);
    }
    g_assert_cmpuint(barriers_since(before), ==, 0);

    go_light(in_flight);
    for (int round = 0; round < 5; round++) {
        in_flight_close(in_flight);
        g_assert_cmpuint(in_flight_count(in_flight), ==, 0);
    }
    g_assert_cmpuint(barriers_since(before), ==, 1);
    in_flight_cleanup(in_flight);
}

/* Requests of many threads, while another thread closes again and again */
typedef struct Gate {
    InFlight in_flight;
    bool closed;
    bool alone;
    bool stop;
    unsigned entered;
} Gate;

#define GUESTS          3
#define CLOSES          1000

static void *guest_run(void *opaque)
{
    Gate *gate = opaque;

    while (!qatomic_read(&gate->stop)) {
        in_flight_inc(&gate->in_flight);
        if (!qatomic_load_acquire(&gate->closed)) {
            for (int spin = 0; spin < 10; spin++) {
                g_assert_false(qatomic_read(&gate->alone));
            }
            qatomic_inc(&gate->entered);
        }
        in_flight_dec(&gate->in_flight);
    }
    return NULL;
}

static void test_close_threads(void)
{
    g_autofree Gate *gate = g_new0(Gate, 1);
    QemuThread guests[GUESTS];

    for (int i = 0; i < GUESTS; i++) {
        qemu_thread_create(&guests[i], "guest", guest_run, gate,
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < CLOSES; i++) {
        unsigned entered = qatomic_read(&gate->entered);

        /* Most rounds are too short for anybody to go without barriers */
        while (i % 100 == 0 &&
               qatomic_read(&gate->entered) - entered < 100 * GUESTS) {
            g_thread_yield();
        }
        qatomic_set(&gate->closed, true);
        in_flight_close(&gate->in_flight);
        while (in_flight_count(&gate->in_flight)) {
            g_thread_yield();
        }
        qatomic_set(&gate->alone, true);
        for (int spin = 0; spin < i % 200; spin++) {
            g_assert_true(qatomic_read(&gate->alone));
        }
        qatomic_set(&gate->alone, false);
        qatomic_store_release(&gate->closed, false);
    }
    qatomic_set(&gate->stop, true);
    for (int i = 0; i < GUESTS; i++) {
        qemu_thread_join(&guests[i]);
    }
    in_flight_cleanup(&gate->in_flight);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/in-flight/count", test_count);
    g_test_add_func("/in-flight/close", test_close);
    g_test_add_func("/in-flight/close-idle", test_close_idle);
    g_test_add_func("/in-flight/close-threads", test_close_threads);
    return g_test_run();
}
