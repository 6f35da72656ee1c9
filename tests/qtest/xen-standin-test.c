/*
 * The stand-in for Xen, by itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "xen-disk-util.h"

#define GOOD_RAM \
    "-object memory-backend-memfd,id=ram,size=16M,share=on " \
    "-machine memory-backend=ram -m 16M "

static void test_refuses(void)
{
    xen_guest_fails("-device xen-standin", "page by page");
    xen_guest_fails("-m 16M -device xen-standin", "page by page");
    xen_guest_fails("-object memory-backend-memfd,id=ram,size=16M,share=off "
                    "-machine memory-backend=ram -m 16M -device xen-standin",
                    "page by page");
    xen_guest_fails(GOOD_RAM "-device xen-standin -device xen-standin",
                    "only one");
    xen_guest_fails(GOOD_RAM "-device xen-standin,domid=0", "domid");
    xen_guest_fails(GOOD_RAM "-device xen-standin,domid=32752", "domid");
    xen_guest_fails(GOOD_RAM "-device xen-standin,chardev=none", "none");
}

/* Without the device there is no Xen bus. */
static void test_off_by_default(void)
{
    xen_guest_fails(GOOD_RAM "-blockdev null-co,node-name=disk0 "
                    "-device xen-disk,drive=disk0", "xen-bus");
}

/* Many parts hold handles of the device, so it cannot be hotplugged. */
static void test_not_hotpluggable(void)
{
    QTestState *qts = qtest_init("-machine none -nodefaults");
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments':"
                           "  { 'driver': 'xen-standin' } }");

    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    qtest_quit(qts);
}

static void fails_with(XenGuest *g, int err, const char *word)
{
    g_assert_null(xen_guest_ask(g, "%s", word));
    g_assert_cmpint(errno, ==, err);
}

static void answers(XenGuest *g, const char *answer, const char *word)
{
    g_autofree char *got = xen_guest_ask(g, "%s", word);

    g_assert_cmpstr(got, ==, answer);
}

static void test_words(void)
{
    XenGuest *g = xen_guest_start("-S");

    fails_with(g, ENOSYS, "");
    fails_with(g, ENOSYS, "nonsense");
    fails_with(g, EINVAL, "xs_read");
    fails_with(g, EINVAL, "evtchn_send");
    fails_with(g, EINVAL, "evtchn_send x");
    fails_with(g, EINVAL, "gnttab_setup 1");
    xen_guest_quit(g);
}

static void test_xenstore(void)
{
    XenGuest *g = xen_guest_start("-S");

    fails_with(g, ENOENT, "xs_read /a/b");
    fails_with(g, ENOENT, "xs_ls /a");
    fails_with(g, ENOENT, "xs_rm /a");
    answers(g, "", "xs_write /a/b/c one two");
    answers(g, "one two", "xs_read /a/b/c");
    answers(g, "", "xs_read /a/b");
    answers(g, "", "xs_write /a/b/d");
    answers(g, "", "xs_write /a/bc 1");
    answers(g, "b bc", "xs_ls /a");
    answers(g, "c d", "xs_ls /a/b");
    answers(g, "", "xs_rm /a/b");
    answers(g, "bc", "xs_ls /a");
    fails_with(g, ENOENT, "xs_read /a/b/c");
    /* Relative paths are domain 0's. */
    answers(g, "", "xs_write a/b 5");
    answers(g, "5", "xs_read /local/domain/0/a/b");
    fails_with(g, EINVAL, "xs_write /a/ x");
    fails_with(g, EINVAL, "xs_write /a//b x");
    fails_with(g, EINVAL, "xs_read /a/b?");
    xen_guest_quit(g);
}

static void test_event_channels(void)
{
    XenGuest *g = xen_guest_start("-S");
    XenPort port;

    xen_port_open(g, &port);
    g_assert_false(xen_port_is_bound(g, &port));
    xen_port_send(&port);
    xen_port_close(g, &port);
    fails_with(g, ENOENT, "evtchn_bound 1");
    fails_with(g, ENOENT, "evtchn_close 1");
    /* The number of a closed port is not used again. */
    answers(g, "2", "evtchn_alloc");
    answers(g, "", "evtchn_send 2");
    answers(g, "0", "evtchn_pending 2");
    answers(g, "", "evtchn_close 2");
    xen_guest_quit(g);
}

/* The limit is on ports that are open at the same time. */
static void test_many_event_channels(void)
{
    XenGuest *g = xen_guest_start("-S");
    int number = 0;

    for (int i = 0; i < 5000; i++) {
        number = xen_guest_count(g, "evtchn_alloc");
        g_assert_cmpint(number, ==, i + 1);
        xen_guest_say(g, "evtchn_close %d", number);
    }
    for (int i = 0; i < 100; i++) {
        g_assert_cmpint(xen_guest_count(g, "evtchn_alloc"), ==, ++number);
    }
    xen_guest_quit(g);
}

/* The table cannot be moved away from under a mapping. */
static void test_grant_table(void)
{
    XenDisk d;

    xen_disk_open(&d, "", &xen_disk_plain);
    answers(d.g, "1 1 0 0 1 0 0", "gnttab_stats");
    g_assert_true(xen_guest_grant_is_used(d.g, d.r->refs[0]));
    fails_with(d.g, EBUSY, "gnttab_setup 1 4");
    blkfront_disconnect(d.f);
    answers(d.g, "1 0 0 0 0 0 1", "gnttab_stats");
    answers(d.g, "", "gnttab_setup 1 4");
    fails_with(d.g, EINVAL, "gnttab_setup 1 0");
    fails_with(d.g, EINVAL, "gnttab_setup 8191 2");
    xen_disk_end(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-standin/refuses", test_refuses);
    qtest_add_func("/xen-standin/off-by-default", test_off_by_default);
    qtest_add_func("/xen-standin/not-hotpluggable", test_not_hotpluggable);
    qtest_add_func("/xen-standin/words", test_words);
    qtest_add_func("/xen-standin/xenstore", test_xenstore);
    qtest_add_func("/xen-standin/event-channels", test_event_channels);
    qtest_add_func("/xen-standin/many-event-channels",
                   test_many_event_channels);
    qtest_add_func("/xen-standin/grant-table", test_grant_table);
    return g_test_run();
}
