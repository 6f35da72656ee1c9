/*
 * A limit for the log lines that a Xen guest can cause
 *
 *     lines  16 |*****            the guest can use up these lines;
 *     left      |     *     ***   one more is added every ten seconds
 *             0 +------*****----> time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_XEN_GUEST_LOG_H
#define HW_XEN_XEN_GUEST_LOG_H

#include "qemu/thread.h"

/* Lines at once, and the time after which the guest gets one more. */
#define XEN_GUEST_LOG_BURST 16
#define XEN_GUEST_LOG_INTERVAL_MS 10000

typedef struct XenGuestLog {
    QemuMutex lock;             /* protects the other fields */
    int64_t full_ms;            /* when XEN_GUEST_LOG_BURST lines are left */
    uint64_t dropped;           /* lines dropped since the last one logged */
} XenGuestLog;

/** xen_guest_log_init: begin with XEN_GUEST_LOG_BURST lines left. */
void xen_guest_log_init(XenGuestLog *log);

/** xen_guest_log_destroy: undo xen_guest_log_init(). */
void xen_guest_log_destroy(XenGuestLog *log);

/**
 * xen_guest_log_take: ask for one line.
 * @now_ms: the time, from a clock that never goes back
 * @dropped: set to the number of lines that were dropped since the last line
 *           that was logged
 *
 * Context: any thread.
 *
 * Returns: true if the caller may log the line; false if it must drop it.
 */
bool xen_guest_log_take(XenGuestLog *log, int64_t now_ms, uint64_t *dropped);

/**
 * xen_guest_log_may_say: xen_guest_log_take() with the VM's virtual clock.
 *
 * If lines were dropped before, this also logs how many.
 */
bool xen_guest_log_may_say(XenGuestLog *log);

#endif /* HW_XEN_XEN_GUEST_LOG_H */
