/*
 * Our functions for QEMU's xen-operations.c, which talks to a real Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_XEN_NATIVE_H
#define HW_XEN_XEN_NATIVE_H

#include "hw/xen/xen_backend_ops.h"

struct xentoollog_logger;

/** xen_native_get_limits: operation get_limits of struct gnttab_backend_ops. */
void xen_native_get_limits(uint32_t domid, XenGnttabLimits *limits);

/**
 * xen_native_logger: return a logger to be given to Xen's libraries.
 *
 * Guests can make these libraries log errors.  The lines go to QEMU's log, and
 * XenGuestLog limits their number.
 */
struct xentoollog_logger *xen_native_logger(void);

#endif /* HW_XEN_XEN_NATIVE_H */
