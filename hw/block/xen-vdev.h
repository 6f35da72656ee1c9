/*
 * Names and numbers of Xen virtual block devices
 *
 * A guest knows a disk by a number that it finds in xenstore; people know it
 * by a name.  xen-vbd-interface(7) defines both and how they map:
 *
 *     name               disk       partition   number
 *     d5p2, xvdf2        5          2           202 << 8 | disk << 4 | part
 *     d300p2, xvdkq2     >= 16      < 256       1 << 28 | disk << 8 | part
 *     hda, hdb           0, 1       < 64        3 << 8 | disk << 6 | part
 *     hdc, hdd           2, 3       < 64        22 << 8 | disk - 2 << 6 | part
 *     sda .. sdp         0..15      < 16        8 << 8 | disk << 4 | part
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_XEN_VDEV_H
#define HW_BLOCK_XEN_VDEV_H

typedef enum XenVdevScheme {
    XEN_VDEV_UNSET,
    XEN_VDEV_DP,                /* d5p2 */
    XEN_VDEV_XVD,               /* xvdf2 */
    XEN_VDEV_HD,                /* hdb2 */
    XEN_VDEV_SD,                /* sdf2 */
} XenVdevScheme;

typedef struct XenVdev {
    XenVdevScheme scheme;
    unsigned disk;
    unsigned partition;         /* 0: the whole disk */
    unsigned number;            /* what "virtual-device" says in xenstore */
} XenVdev;

/* Disks that xen_vdev_for_disk() can name, and that Linux can number. */
#define XEN_VDEV_AUTO_DISKS 4096

/**
 * xen_vdev_parse: the vdev that @name means.
 * @name: a name of any scheme
 * @vdev: filled in on success, left at XEN_VDEV_UNSET on failure
 *
 * Returns: false with @errp set if @name is not a name, or names a disk or
 * partition that its scheme has no number for.
 */
bool xen_vdev_parse(const char *name, XenVdev *vdev, Error **errp);

/**
 * xen_vdev_name: the name of @vdev.
 * @vdev: a vdev that is set
 *
 * Returns: its name, the partition always spelt out ("xvda0"), in memory that
 * the caller frees with g_free().
 */
char *xen_vdev_name(const XenVdev *vdev);

/**
 * xen_vdev_for_disk: the whole of a disk in the xvd scheme.
 * @disk: a disk number below %XEN_VDEV_AUTO_DISKS
 */
XenVdev xen_vdev_for_disk(unsigned disk);

/**
 * xen_vdev_number_to_disk: the disk that @number is on.
 * @number: a virtual device number of any scheme
 *
 * Disks of different schemes with the same index are the same disk to a guest
 * that unplugs emulated disks, so the scheme is not told apart.
 *
 * Returns: the disk, or -1 if no scheme has that number.
 */
int xen_vdev_number_to_disk(unsigned number);

#endif /* HW_BLOCK_XEN_VDEV_H */
