/*
 * What differs between the versions of QEMU that can be built on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_BASE_VERSION_H
#define QEMU_BASE_VERSION_H

/* Whether the base is QEMU @major.@minor or later */
#define BASE_SINCE(major, minor) \
    (QEMU_VERSION_MAJOR > (major) || \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

/* The data that class_init of a type gets beside the class */
#if BASE_SINCE(10, 1)
typedef const void ClassInitData;
#else
typedef void ClassInitData;
#endif

/* The device's end of a chardev */
#if BASE_SINCE(10, 2)
#define CharBackend CharFrontend
#endif

/* The argument of block_status that says what the caller wants to know */
#if BASE_SINCE(10, 1)
typedef unsigned int BlockStatusWanted;
#else
typedef bool BlockStatusWanted;
#endif

/* Discards take flags in 10.0.13, but not in 10.2.2. */
#if BASE_SINCE(10, 1)
#define base_co_pdiscard(blk, offset, bytes, flags) \
    blk_co_pdiscard(blk, offset, bytes)
#define base_pdiscard(blk, offset, bytes, flags) \
    blk_pdiscard(blk, offset, bytes)
#else
#define base_co_pdiscard blk_co_pdiscard
#define base_pdiscard blk_pdiscard
#endif

/* Errors of loading devices are returned since 10.2. */
#if BASE_SINCE(10, 2)
#define base_load_device_state(f) qemu_load_device_state(f, NULL)
#else
#define base_load_device_state(f) qemu_load_device_state(f)
#endif

#endif /* QEMU_BASE_VERSION_H */
