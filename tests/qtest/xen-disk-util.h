/*
 * A Xen guest with a disk, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_XEN_DISK_UTIL_H
#define TESTS_QTEST_XEN_DISK_UTIL_H

#include "xen-blkfront.h"

/* Size of the disk that xen_disk_start() makes. */
#define XEN_DISK_SIZE (16 * MiB)
#define XEN_DISK_SECTORS (XEN_DISK_SIZE / BLK_SECTOR)

/**
 * xen_disk_start: a guest with xvda, a sparse raw file that goes with QEMU
 *
 * @more is added to the properties of xen-disk, as ",iothread=io0", and may
 * go on with other options.
 */
XenGuest *xen_disk_start(const char *more);

/** xen_disk_image: a new sparse raw file of @size; the name is to be freed */
char *xen_disk_image(uint64_t size);

/** xen_disk_image_drop: remove the file and free its name */
void xen_disk_image_drop(char *name);

#endif /* TESTS_QTEST_XEN_DISK_UTIL_H */
