/*
 * What differs between the versions of QEMU that can be built on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_BASE_VERSION_H
#define QEMU_BASE_VERSION_H

/* Is this QEMU @major.@minor or later? */
#define BASE_SINCE(major, minor) \
    (QEMU_VERSION_MAJOR > (major) || \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

/* What the class_init of a type gets beside the class */
#if BASE_SINCE(10, 1)
typedef const void ClassInitData;
#else
typedef void ClassInitData;
#endif

/* The end of a chardev that a device has */
#if BASE_SINCE(10, 2)
#define CharBackend CharFrontend
#endif

/* What is wanted of a driver's block_status */
#if BASE_SINCE(10, 1)
typedef unsigned int BlockStatusWanted;
#else
typedef bool BlockStatusWanted;
#endif

/* Discards with flags, which 10.0.13 has and 10.2.2 does not */
#if BASE_SINCE(10, 1)
#define base_co_pdiscard(blk, offset, bytes, flags) \
    blk_co_pdiscard(blk, offset, bytes)
#define base_pdiscard(blk, offset, bytes, flags) \
    blk_pdiscard(blk, offset, bytes)
#else
#define base_co_pdiscard blk_co_pdiscard
#define base_pdiscard blk_pdiscard
#endif

#endif /* QEMU_BASE_VERSION_H */
