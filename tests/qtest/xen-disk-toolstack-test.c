/*
 * Xen PV disk: disks that a toolstack asks for
 *
 * The toolstack is played as libxl is: what it writes, what it waits for and
 * what it removes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "xen-disk-util.h"

static const BlkOptions other_ring = { .protocol = BLK_X86_32, .order = 2 };

/* What "xl block-attach" says of a disk; NULL for what it does not say. */
typedef struct Wanted {
    const char *params;
    const char *mode;
    const char *type;
    const char *dev;
} Wanted;

static Wanted wanted_disk(const char *params)
{
    return (Wanted) { params, "w", "disk", "xvdb" };
}

static void put_if(XenGuest *g, const char *dir, const char *key,
                   const char *value)
{
    if (value) {
        xs_put(g, dir, key, "%s", value);
    }
}

/* State and online come last: with them QEMU looks at the rest. */
static void attach(Blkfront *f, const Wanted *w)
{
    XenGuest *g = f->g;

    xs_put(g, f->fe, "backend", "%s", f->be);
    xs_put(g, f->fe, "backend-id", "0");
    xs_put(g, f->fe, "virtual-device", "%u", BLK_VDEV_XVDB);
    put_if(g, f->fe, "device-type", w->type);
    xs_put(g, f->fe, "state", "%d", XB_INITIALISING);
    xs_put(g, f->be, "frontend", "%s", f->fe);
    xs_put(g, f->be, "frontend-id", "%d", XEN_GUEST_DOMID);
    put_if(g, f->be, "params", w->params);
    xs_put(g, f->be, "type", "qdisk");
    put_if(g, f->be, "dev", w->dev);
    put_if(g, f->be, "device-type", w->type);
    put_if(g, f->be, "mode", w->mode);
    xs_put(g, f->be, "removable", "0");
    xs_put(g, f->be, "bootable", "1");
    xs_put(g, f->be, "discard-enable", "1");
    xs_put(g, f->be, "state", "%d", XB_INITIALISING);
    xs_put(g, f->be, "online", "1");
}

static void attach_image(Blkfront *f, const char *image)
{
    g_autofree char *params = g_strdup_printf("aio:%s", image);
    Wanted w = wanted_disk(params);

    attach(f, &w);
}

/* Of a disk that has a frontend. */
static void detach(Blkfront *f)
{
    xs_put(f->g, f->be, "online", "0");
    xs_put(f->g, f->be, "state", "%d", XB_CLOSING);
    blkfront_state(f, XB_CLOSING);
    blkfront_state(f, XB_CLOSED);
    xs_wait_gone(f->g, f->be, "state");
    blkfront_teardown(f);
}

/*
 * Disks that are there
 */

static void test_disk(void)
{
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    char *image = xen_disk_image(XEN_DISK_SIZE);

    for (int i = 0; i < 3; i++) {
        attach_image(f, image);
        blkfront_connect(f, &other_ring);
        blk_ring_check(&f->ring[0], 8 * i);
        g_assert_cmpint(xs_get_number(g, f->be, "feature-discard", 0), ==, 1);
        detach(f);
    }
    blkfront_free(f);
    xen_guest_quit(g);
    xen_disk_image_drop(image);
}

/* Can be read, with what was written before, and not written. */
static void check_read_only(Blkfront *f, const Wanted *w, int info,
                            const uint8_t *data)
{
    uint8_t buf[XEN_GUEST_PAGE_SIZE];
    BlkRing *r = &f->ring[0];
    g_autofree char *mode = NULL;

    attach(f, w);
    blkfront_connect(f, &xen_disk_plain);
    mode = xs_get(f->g, f->be, "mode");
    g_assert_cmpstr(mode, ==, "r");
    g_assert_cmpint(xs_get_number(f->g, f->be, "info", 0), ==, info);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(blk_ring_read(r, 8, buf, sizeof(buf)), ==, BLK_OKAY);
        g_assert_cmpmem(buf, sizeof(buf), data, sizeof(buf));
        memset(buf, 0, sizeof(buf));
        g_assert_cmpint(blk_ring_write(r, 8, buf, sizeof(buf)), ==, BLK_ERROR);
    }
    detach(f);
}

static void check_read_only_image(const char *image, const char *format)
{
    g_autofree char *params = g_strdup_printf("%s:%s", format, image);
    uint8_t data[XEN_GUEST_PAGE_SIZE];
    XenGuest *g = xen_guest_start("-S");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDB);
    Wanted w = wanted_disk(params);

    blk_pattern(data, sizeof(data), 5);
    attach(f, &w);
    blkfront_connect(f, &xen_disk_plain);
    g_assert_cmpint(blk_ring_write(&f->ring[0], 8, data, sizeof(data)), ==,
                    BLK_OKAY);
    detach(f);
    g_assert_cmpint(chmod(image, 0444), ==, 0);
    w.mode = "r";
    check_read_only(f, &w, 4, data);
    w.type = "cdrom";
    check_read_only(f, &w, 5, data);
    blkfront_free(f);
    xen_guest_quit(g);
}

static void test_read_only(void)
{
    char *image = xen_disk_image(XEN_DISK_SIZE);

    check_read_only_image(image, "aio");
    xen_disk_image_drop(image);
}

static void test_read_only_qcow2(void)
{
    char *image = xen_disk_image(0);

    if (!mkimg(image, "qcow2", XEN_DISK_SIZE / MiB)) {
        g_test_skip("there is no qemu-img");
    } else {
        check_read_only_image(image, "qcow2");
    }
    xen_disk_image_drop(image);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-disk/toolstack/disk", test_disk);
    qtest_add_func("/xen-disk/toolstack/read-only", test_read_only);
    qtest_add_func("/xen-disk/toolstack/read-only-qcow2",
                   test_read_only_qcow2);
    return g_test_run();
}
