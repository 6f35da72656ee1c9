/*
 * Names and numbers of Xen virtual block devices
 *
 * A guest knows a disk by a number in xenstore, and people know it by a name.
 * xen-vbd-interface(7) defines both, and the number of each name:
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

/* xen_vdev_for_disk() can name this many disks, and Linux can number them. */
#define XEN_VDEV_AUTO_DISKS 4096

/**
 * xen_vdev_parse: translate a name to a vdev.
 * @name: a name of any scheme
 * @vdev: filled in on success, left at XEN_VDEV_UNSET on failure
 *
 * Returns: true, or false with @errp set if @name is invalid, or if its scheme
 * has no number for this disk or partition.
 */
bool xen_vdev_parse(const char *name, XenVdev *vdev, Error **errp);

/**
 * xen_vdev_name: return the name of a vdev.
 * @vdev: a vdev that is not XEN_VDEV_UNSET
 *
 * Returns: the name, always with the partition ("xvda0"), to be freed with
 * g_free().
 */
char *xen_vdev_name(const XenVdev *vdev);

/**
 * xen_vdev_for_disk: return the vdev of a whole disk in the xvd scheme.
 * @disk: a disk number below %XEN_VDEV_AUTO_DISKS
 */
XenVdev xen_vdev_for_disk(unsigned disk);

/**
 * xen_vdev_number_to_disk: return the index of the disk that @number is on.
 * @number: a virtual device number of any scheme
 *
 * A guest that unplugs emulated disks takes disks with the same index for the
 * same disk, whatever their scheme.  So the result does not tell the scheme.
 *
 * Returns: the disk, or -1 if no scheme has that number.
 */
int xen_vdev_number_to_disk(unsigned number);

#endif /* HW_BLOCK_XEN_VDEV_H */
