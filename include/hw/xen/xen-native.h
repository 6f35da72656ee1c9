/*
 * What the base's operations for a real Xen take from us
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_XEN_NATIVE_H
#define HW_XEN_XEN_NATIVE_H

#include "hw/xen/xen_backend_ops.h"

struct xentoollog_logger;

/** xen_native_get_limits: operation get_limits of struct gnttab_backend_ops */
void xen_native_get_limits(uint32_t domid, XenGnttabLimits *limits);

/**
 * xen_native_logger: for the libraries that log what guests cause
 *
 * Their lines go where QEMU's go, and only as many as XenGuestLog allows.
 */
struct xentoollog_logger *xen_native_logger(void);

#endif /* HW_XEN_XEN_NATIVE_H */
