/*
 * A Xen guest with a disk, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-util.h"

const BlkOptions xen_disk_plain = { .protocol = BLK_X86_64 };

char *xen_disk_image(uint64_t size)
{
    char *name;
    int fd = g_file_open_tmp("xen-disk-XXXXXX", &name, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    close(fd);
    return name;
}

void xen_disk_image_drop(char *name)
{
    unlink(name);
    g_free(name);
}

XenGuest *xen_disk_start(const char *more)
{
    char *image = xen_disk_image(XEN_DISK_SIZE);
    XenGuest *g;

    /* The image is temporary, so no test waits for the host's disk. */
    g = xen_guest_start("-blockdev file,node-name=file0,filename=%s,"
                        "discard=unmap,locking=off,cache.no-flush=on "
                        "-blockdev raw,node-name=disk0,file=file0,"
                        "discard=unmap "
                        "-device xen-disk,id=xvda,vdev=xvda,drive=disk0%s",
                        image, more);
    /* QEMU has it open. */
    xen_disk_image_drop(image);
    return g;
}

void xen_disk_open(XenDisk *d, const char *more, const BlkOptions *options)
{
    xen_disk_connect(d, xen_disk_start(more), options);
}

void xen_disk_connect(XenDisk *d, XenGuest *g, const BlkOptions *options)
{
    d->g = g;
    d->f = blkfront_new(g, BLK_VDEV_XVDA);
    blkfront_connect(d->f, options);
    d->r = &d->f->ring[0];
}

void xen_disk_close(XenDisk *d)
{
    blkfront_disconnect(d->f);
    xen_disk_end(d);
}

void xen_disk_end(XenDisk *d)
{
    blkfront_free(d->f);
    xen_guest_quit(d->g);
}

void xen_disk_close_with(XenDisk *d, BlkBuffer *b)
{
    blkfront_disconnect(d->f);
    blk_buffer_free(d->g, b);
    xen_disk_end(d);
}

void xen_disk_given_up(Blkfront *f)
{
    blkfront_expect(f, XB_CLOSING);
    blkfront_state(f, XB_CLOSED);
    blkfront_expect(f, XB_CLOSED);
    blkfront_teardown(f);
}

void xen_disk_put_right(Blkfront *f, const BlkOptions *options)
{
    blkfront_state(f, XB_CLOSED);
    blkfront_expect(f, XB_CLOSED);
    blkfront_reset(f);
    blkfront_connect(f, options);
}

void xen_disk_spoil(Blkfront *f, const XenBadKey *bad)
{
    if (bad->value) {
        xs_put(f->g, f->fe, bad->key, "%s", bad->value);
    } else {
        xs_remove(f->g, f->fe, bad->key);
    }
}
