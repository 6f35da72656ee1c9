/*
 * Names and numbers of Xen virtual block devices
 *
 * A table has the schemes, each with its prefix and the ranges of disks that
 * have numbers.  A name is a prefix, a disk and a partition.  The letters of a
 * disk count as the columns of a spreadsheet do, in base 26 without a zero.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/ctype.h"
#include "qemu/cutils.h"
#include "qapi/error.h"
#include "xen-vdev.h"

/* One run of disk indices that a scheme numbers under one major number. */
typedef struct VdevRange {
    XenVdevScheme scheme;
    unsigned first_disk, nr_disks;
    unsigned part_bits;
    unsigned base;              /* number of the first disk, partition 0 */
} VdevRange;

#define XVD_BASE    (202u << 8)
#define XVD_EXT     (1u << 28)
#define IDE0_BASE   (3u << 8)
#define IDE1_BASE   (22u << 8)
#define SCSI_BASE   (8u << 8)

/* In order of preference: the first range that has a vdev gives its number. */
static const VdevRange vdev_ranges[] = {
    { XEN_VDEV_XVD, 0, 16,      4, XVD_BASE },
    { XEN_VDEV_XVD, 0, 1 << 20, 8, XVD_EXT },
    { XEN_VDEV_HD,  0, 2,       6, IDE0_BASE },
    { XEN_VDEV_HD,  2, 2,       6, IDE1_BASE },
    { XEN_VDEV_SD,  0, 16,      4, SCSI_BASE },
};

static const struct {
    const char *prefix;
    XenVdevScheme scheme;
} vdev_prefixes[] = {
    { "xvd", XEN_VDEV_XVD },
    { "hd", XEN_VDEV_HD },
    { "sd", XEN_VDEV_SD },
    { "d", XEN_VDEV_DP },
};

static bool vdev_assign_number(XenVdev *vdev)
{
    /* d5 and xvdf are two spellings of one disk */
    XenVdevScheme scheme = vdev->scheme == XEN_VDEV_DP ? XEN_VDEV_XVD
                                                       : vdev->scheme;

    for (size_t i = 0; i < ARRAY_SIZE(vdev_ranges); i++) {
        const VdevRange *r = &vdev_ranges[i];

        if (r->scheme == scheme && vdev->disk >= r->first_disk &&
            vdev->disk - r->first_disk < r->nr_disks &&
            vdev->partition < 1u << r->part_bits) {
            vdev->number = r->base + vdev->partition +
                           ((vdev->disk - r->first_disk) << r->part_bits);
            return true;
        }
    }
    return false;
}

/* Read a number of decimal digits, without sign, space or overflow. */
static bool parse_decimal(const char **p, unsigned *value)
{
    if (!qemu_isdigit(**p)) {
        return false;
    }
    return qemu_strtoui(*p, p, 10, value) == 0;
}

static bool parse_disk_letters(const char **p, unsigned *disk)
{
    unsigned n = 0;

    while (**p >= 'a' && **p <= 'z') {
        if (n > UINT_MAX / 26 - 1) {
            return false;
        }
        n = n * 26 + (*(*p)++ - 'a' + 1);
    }
    *disk = n - 1;
    return n > 0;
}

static bool parse_disk_and_partition(const char *p, XenVdev *vdev)
{
    if (vdev->scheme == XEN_VDEV_DP) {
        if (!parse_decimal(&p, &vdev->disk)) {
            return false;
        }
        if (!*p) {
            return true;
        }
        if (*p++ != 'p') {
            return false;
        }
    } else {
        if (!parse_disk_letters(&p, &vdev->disk)) {
            return false;
        }
        if (!*p) {
            return true;
        }
    }
    return parse_decimal(&p, &vdev->partition) && !*p;
}

bool xen_vdev_parse(const char *name, XenVdev *vdev, Error **errp)
{
    ERRP_GUARD();
    XenVdev v = { .scheme = XEN_VDEV_UNSET };

    *vdev = v;
    for (size_t i = 0; i < ARRAY_SIZE(vdev_prefixes); i++) {
        const char *p;

        if (!strstart(name, vdev_prefixes[i].prefix, &p)) {
            continue;
        }
        v.scheme = vdev_prefixes[i].scheme;
        if (parse_disk_and_partition(p, &v) && vdev_assign_number(&v)) {
            *vdev = v;
            return true;
        }
        break;
    }
    error_setg(errp, "invalid virtual disk specifier");
    error_append_hint(errp, "A virtual disk is named like d5p2, xvdf2, hdb2 or"
                      " sdf2; without a partition the whole disk is meant.\n");
    return false;
}

static void append_disk_letters(GString *s, unsigned disk)
{
    if (disk >= 26) {
        append_disk_letters(s, disk / 26 - 1);
    }
    g_string_append_c(s, 'a' + disk % 26);
}

char *xen_vdev_name(const XenVdev *vdev)
{
    GString *s;

    if (vdev->scheme == XEN_VDEV_DP) {
        return g_strdup_printf("d%up%u", vdev->disk, vdev->partition);
    }

    s = g_string_new(NULL);
    for (size_t i = 0; i < ARRAY_SIZE(vdev_prefixes); i++) {
        if (vdev_prefixes[i].scheme == vdev->scheme) {
            g_string_append(s, vdev_prefixes[i].prefix);
        }
    }
    append_disk_letters(s, vdev->disk);
    g_string_append_printf(s, "%u", vdev->partition);
    return g_string_free(s, FALSE);
}

XenVdev xen_vdev_for_disk(unsigned disk)
{
    XenVdev vdev = { .scheme = XEN_VDEV_XVD, .disk = disk };
    bool ok = vdev_assign_number(&vdev);

    assert(ok);
    return vdev;
}

int xen_vdev_number_to_disk(unsigned number)
{
    for (size_t i = 0; i < ARRAY_SIZE(vdev_ranges); i++) {
        const VdevRange *r = &vdev_ranges[i];

        if (number >= r->base &&
            (number - r->base) >> r->part_bits < r->nr_disks) {
            return r->first_disk + ((number - r->base) >> r->part_bits);
        }
    }
    return -1;
}
