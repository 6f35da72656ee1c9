/*
 * A limit for the log lines that a Xen guest can cause
 *
 * XenGuestLog keeps one number: the time at which XEN_GUEST_LOG_BURST lines
 * will be left again.  Each line moves this time by one interval into the
 * future.  A line is dropped if the time would then be further away than
 * XEN_GUEST_LOG_BURST intervals.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "hw/xen/xen-guest-log.h"

#define BURST_MS (XEN_GUEST_LOG_BURST * XEN_GUEST_LOG_INTERVAL_MS)

void xen_guest_log_init(XenGuestLog *log)
{
    *log = (XenGuestLog) { .full_ms = INT64_MIN };
    qemu_mutex_init(&log->lock);
}

void xen_guest_log_destroy(XenGuestLog *log)
{
    qemu_mutex_destroy(&log->lock);
}

bool xen_guest_log_take(XenGuestLog *log, int64_t now_ms, uint64_t *dropped)
{
    int64_t full;

    QEMU_LOCK_GUARD(&log->lock);
    full = MAX(log->full_ms, now_ms) + XEN_GUEST_LOG_INTERVAL_MS;
    if (full - now_ms > BURST_MS) {
        log->dropped++;
        return false;
    }
    log->full_ms = full;
    *dropped = log->dropped;
    log->dropped = 0;
    return true;
}

bool xen_guest_log_may_say(XenGuestLog *log)
{
    uint64_t dropped;

    if (!xen_guest_log_take(log, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL),
                            &dropped)) {
        return false;
    }
    if (dropped) {
        warn_report("xen: %" PRIu64 " messages that a guest has caused "
                    "were dropped", dropped);
    }
    return true;
}
