/*
 * Unit tests: names and numbers of Xen virtual block devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "../../hw/block/xen-vdev.h"

static void check(const char *name, unsigned number, const char *printed)
{
    g_autofree char *again = NULL;
    XenVdev vdev;

    xen_vdev_parse(name, &vdev, &error_abort);
    g_assert_cmphex(vdev.number, ==, number);
    again = xen_vdev_name(&vdev);
    g_assert_cmpstr(again, ==, printed);
}

static void test_names(void)
{
    check("xvda", 202 << 8, "xvda0");
    check("xvdp15", 202 << 8 | 15 << 4 | 15, "xvdp15");
    check("xvda16", 1 << 28 | 16, "xvda16");
    check("xvdq", 1 << 28 | 16 << 8, "xvdq0");
    check("xvdz", 1 << 28 | 25 << 8, "xvdz0");
    check("xvdaa1", 1 << 28 | 26 << 8 | 1, "xvdaa1");
    check("xvdbgqcv255", 1 << 28 | 0xfffff << 8 | 255, "xvdbgqcv255");
    check("d0", 202 << 8, "d0p0");
    check("d5p2", 202 << 8 | 5 << 4 | 2, "d5p2");
    check("d300p2", 1 << 28 | 300 << 8 | 2, "d300p2");
    check("hda", 3 << 8, "hda0");
    check("hdb63", 3 << 8 | 64 | 63, "hdb63");
    check("hdc1", 22 << 8 | 1, "hdc1");
    check("hdd", 22 << 8 | 64, "hdd0");
    check("sda", 8 << 8, "sda0");
    check("sdp15", 8 << 8 | 15 << 4 | 15, "sdp15");
}

static void test_bad_names(void)
{
    static const char *const bad[] = {
        "", "x", "d", "xvd", "vda", "XVDA", "xvdA", "xvd1", "xvda1x", "xvda-1",
        "xvda 1", "xvda1 ", "xvda256", "xvdbgqcw", "xvdzzzzzzzzzzzz",
        "xvda99999999999", "d-1", "d 1", "d+1", "d5p", "d5p-1", "d5q1", "dp1",
        "d1048576", "d99999999999", "d4294967296", "d5p2p3", "hde", "hda64",
        "sdq", "sda16", " xvda", "xxvda",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        XenVdev vdev = { .scheme = XEN_VDEV_SD };
        Error *err = NULL;

        g_test_message("%s", bad[i]);
        g_assert_false(xen_vdev_parse(bad[i], &vdev, &err));
        g_assert_cmpstr(error_get_pretty(err), ==,
                        "invalid virtual disk specifier");
        g_assert_cmpint(vdev.scheme, ==, XEN_VDEV_UNSET);
        error_free(err);
    }
}

static void test_numbers(void)
{
    static const char *const names[] = {
        "xvda", "xvdb3", "xvdc", "xvdk", "xvdp15", "xvdq", "xvdfan", "hda",
        "hdb1", "hdc", "hdd63", "sda", "sdc2", "sdp",
    };
    XenVdev vdev;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        xen_vdev_parse(names[i], &vdev, &error_abort);
        g_assert_cmpint(xen_vdev_number_to_disk(vdev.number), ==, vdev.disk);
    }
    for (unsigned disk = 0; disk < XEN_VDEV_AUTO_DISKS; disk++) {
        vdev = xen_vdev_for_disk(disk);
        g_assert_cmpint(xen_vdev_number_to_disk(vdev.number), ==, disk);
    }
    g_assert_cmpint(xen_vdev_number_to_disk(0), ==, -1);
    g_assert_cmpint(xen_vdev_number_to_disk(4 << 8), ==, -1);
    g_assert_cmpint(xen_vdev_number_to_disk(203 << 8), ==, -1);
    g_assert_cmpint(xen_vdev_number_to_disk(2u << 28), ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-vdev/names", test_names);
    g_test_add_func("/xen-vdev/bad-names", test_bad_names);
    g_test_add_func("/xen-vdev/numbers", test_numbers);
    return g_test_run();
}
