/*
 * Unit tests: a limit for the log lines that a Xen guest can cause
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen-guest-log.h"

static int64_t now_ms;

static unsigned say(XenGuestLog *log, unsigned n, uint64_t *dropped)
{
    unsigned said = 0;

    while (n--) {
        said += xen_guest_log_take(log, now_ms, dropped);
    }
    return said;
}

static void test_burst(void)
{
    uint64_t dropped = 0;
    XenGuestLog log;

    xen_guest_log_init(&log);
    g_assert_cmpint(say(&log, 1000, &dropped), ==, XEN_GUEST_LOG_BURST);
    g_assert_cmpint(dropped, ==, 0);
    xen_guest_log_destroy(&log);
}

static void test_interval(void)
{
    uint64_t dropped = 0;
    XenGuestLog log;

    xen_guest_log_init(&log);
    say(&log, XEN_GUEST_LOG_BURST + 5, &dropped);
    now_ms += XEN_GUEST_LOG_INTERVAL_MS - 1;
    g_assert_cmpint(say(&log, 1, &dropped), ==, 0);
    now_ms++;
    g_assert_cmpint(say(&log, 3, &dropped), ==, 1);
    g_assert_cmpint(dropped, ==, 6);
    /* However long it is silent, it earns no more than a burst. */
    now_ms += 1000 * XEN_GUEST_LOG_INTERVAL_MS;
    g_assert_cmpint(say(&log, 1, &dropped), ==, 1);
    g_assert_cmpint(dropped, ==, 2);
    g_assert_cmpint(say(&log, 1000, &dropped), ==, XEN_GUEST_LOG_BURST - 1);
    g_assert_cmpint(dropped, ==, 0);
    xen_guest_log_destroy(&log);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-guest-log/burst", test_burst);
    g_test_add_func("/xen-guest-log/interval", test_interval);
    return g_test_run();
}
