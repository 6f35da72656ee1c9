/*
 * Our functions for QEMU's xen-operations.c, which talks to a real Xen
 *
 * Xen's libraries write a line to stderr whenever a call fails.  A guest can
 * make calls fail as often as it likes, by naming grants that do not exist.
 * The logger in this file limits the number of lines.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/xen/xen_native.h"
#include "hw/xen/xen-guest-log.h"
#include "hw/xen/xen-native.h"
#include <xentoollog.h>

/* Entries in a page of a grant table of version 1; version 2 has half of it */
#define V1_ENTRIES_PER_FRAME 512

void xen_native_get_limits(uint32_t domid, XenGnttabLimits *limits)
{
    struct gnttab_query_size query = { .dom = domid };

    if (xc_gnttab_query_size(xen_xc, &query) || query.status) {
        return;     /* Xen answers only a privileged domain */
    }
    limits->grant_entries = query.max_nr_frames * V1_ENTRIES_PER_FRAME;
    if (xc_gnttab_get_version(xen_xc, domid) == 2) {
        limits->grant_entries /= 2;
    }
}

static XenGuestLog native_log;

static void G_GNUC_PRINTF(5, 0)
native_message(struct xentoollog_logger *logger, xentoollog_level level,
               int errnoval, const char *context, const char *format,
               va_list ap)
{
    int saved_errno = errno;
    g_autofree char *text = NULL;

    if (level >= XTL_WARN && xen_guest_log_may_say(&native_log)) {
        text = g_strdup_vprintf(format, ap);
        error_report("%s: %s%s%s", context ?: "xen", text,
                     errnoval > 0 ? ": " : "",
                     errnoval > 0 ? strerror(errnoval) : "");
    }
    errno = saved_errno;
}

static void native_destroy(struct xentoollog_logger *logger)
{
}

static xentoollog_logger native_logger = {
    .vmessage = native_message,
    .destroy = native_destroy,
};

xentoollog_logger *xen_native_logger(void)
{
    static bool ready;

    /* Handles are opened under the BQL. */
    if (!ready) {
        xen_guest_log_init(&native_log);
        ready = true;
    }
    return &native_logger;
}
