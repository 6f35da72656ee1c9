/*
 * All rings of a Xen PV disk full of requests, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_XEN_DISK_LOAD_H
#define TESTS_QTEST_XEN_DISK_LOAD_H

#include "xen-disk-util.h"

#define XEN_DISK_LOAD_MAX_RINGS 4

/** XenDiskLoad: writes, and a barrier and an indirect read among them. */
typedef struct XenDiskLoad {
    XenDisk *d;
    unsigned int nr_rings;
    BlkBuffer *b[XEN_DISK_LOAD_MAX_RINGS]; /* a page for each entry */
    BlkBuffer *large;
    BlkBuffer *segments;
} XenDiskLoad;

/** xen_disk_load_open: buffers for the rings of @d, which is connected. */
void xen_disk_load_open(XenDiskLoad *l, XenDisk *d);

/**
 * xen_disk_load_close: take the buffers back.
 *
 * After the disk was closed, which may have kept the pages until then.
 */
void xen_disk_load_close(XenDiskLoad *l);

/** xen_disk_load_begin: fill all rings; the data depend on @seed. */
void xen_disk_load_begin(XenDiskLoad *l, unsigned int seed);

/** xen_disk_load_end: each was answered once, and on its own ring. */
void xen_disk_load_end(XenDiskLoad *l, unsigned int seed);

/** xen_disk_load_check: what one ring has written, another one reads. */
void xen_disk_load_check(XenDiskLoad *l, unsigned int seed);

/** xen_disk_load_run: all three. */
void xen_disk_load_run(XenDiskLoad *l, unsigned int seed);

/** xen_disk_check_quiet: no ring has a response, and none is on its way. */
void xen_disk_check_quiet(XenDisk *d);

#endif /* TESTS_QTEST_XEN_DISK_LOAD_H */
