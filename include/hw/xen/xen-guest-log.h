/*
 * How much a Xen guest can make us say in the log
 *
 *     lines  16 |*****            the guest may use up what is there,
 *               |     *     ***   and one more comes every ten seconds
 *             0 +------*****----> time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_XEN_GUEST_LOG_H
#define HW_XEN_XEN_GUEST_LOG_H

#include "qemu/thread.h"

/* Lines at once, and the time until the guest has earned another. */
#define XEN_GUEST_LOG_BURST 16
#define XEN_GUEST_LOG_INTERVAL_MS 10000

typedef struct XenGuestLog {
    QemuMutex lock;             /* of all that follows */
    int64_t full_ms;            /* when there will be XEN_GUEST_LOG_BURST */
    uint64_t dropped;           /* lines, since the last that was said */
} XenGuestLog;

/** xen_guest_log_init: with all lines there are to be had */
void xen_guest_log_init(XenGuestLog *log);

/** xen_guest_log_destroy: nobody uses it any more */
void xen_guest_log_destroy(XenGuestLog *log);

/**
 * xen_guest_log_take: may one more line be said?  Any thread.
 * @now_ms: the time, of a clock that never goes back
 * @dropped: set to how many lines were dropped since the last that was not
 */
bool xen_guest_log_take(XenGuestLog *log, int64_t now_ms, uint64_t *dropped);

/**
 * xen_guest_log_may_say: the same at this time of the VM; reports how many
 * lines were dropped if there were any.
 */
bool xen_guest_log_may_say(XenGuestLog *log);

#endif /* HW_XEN_XEN_GUEST_LOG_H */
