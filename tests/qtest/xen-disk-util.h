/*
 * A Xen guest with a disk, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_XEN_DISK_UTIL_H
#define TESTS_QTEST_XEN_DISK_UTIL_H

#include "qemu/units.h"
#include "xen-blkfront.h"

/* The choice of most tests: one ring of one page. */
extern const BlkOptions xen_disk_plain;

/* Size of the disk that xen_disk_start() makes. */
#define XEN_DISK_SIZE (16 * MiB)
#define XEN_DISK_SECTORS (XEN_DISK_SIZE / BLK_SECTOR)

/* The largest ring-page-order that xen-disk offers by default. */
#define XEN_DISK_MAX_ORDER 4

/**
 * xen_disk_start: a guest with xvda, a sparse raw file that goes with QEMU.
 *
 * @more is added to the properties of xen-disk, as ",iothread=io0", and may
 * go on with other options.
 */
XenGuest *xen_disk_start(const char *more);

/** XenDisk: a guest and the driver of its xvda, for the usual test. */
typedef struct XenDisk {
    XenGuest *g;
    Blkfront *f;
    BlkRing *r;                 /* the first ring */
} XenDisk;

/** xen_disk_open: start a guest and connect its driver with @options. */
void xen_disk_open(XenDisk *d, const char *more, const BlkOptions *options);

/** xen_disk_connect: the same for a guest that has been given its xvda. */
void xen_disk_connect(XenDisk *d, XenGuest *g, const BlkOptions *options);

/** xen_disk_close: disconnect the driver and end QEMU. */
void xen_disk_close(XenDisk *d);

/** xen_disk_end: the same where the driver is disconnected already. */
void xen_disk_end(XenDisk *d);

/** xen_disk_close_with: disconnect, take a buffer's grants back, end QEMU. */
void xen_disk_close_with(XenDisk *d, BlkBuffer *b);

/** xen_disk_given_up: the backend goes to Closing, and the driver to Closed. */
void xen_disk_given_up(Blkfront *f);

/** xen_disk_put_right: connect with what is good, after a refusal. */
void xen_disk_put_right(Blkfront *f, const BlkOptions *options);

/** XenBadKey: one key gone wrong; @value NULL stands for no such key. */
typedef struct XenBadKey {
    const char *name;
    const char *key;
    const char *value;
    unsigned int order;         /* of the ring that the frontend offers */
} XenBadKey;

/** xen_disk_spoil: after blkfront_publish(), make one key wrong. */
void xen_disk_spoil(Blkfront *f, const XenBadKey *bad);

/** xen_disk_image: a new sparse raw file of @size; the name is to be freed. */
char *xen_disk_image(uint64_t size);

/** xen_disk_image_drop: remove the file and free its name. */
void xen_disk_image_drop(char *name);

#endif /* TESTS_QTEST_XEN_DISK_UTIL_H */
