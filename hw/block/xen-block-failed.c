/*
 * Xen PV disk: disks of a toolstack that could not be made
 *
 *     backend/qdisk/DOM/NUMBER/
 *         state = Closing               for the frontend, if there is one
 *         error, hotplug-error          why, for people
 *         hotplug-status = "error"      for a toolstack
 *
 *     event                                 what we do
 *     frontend closes                       state = Closed
 *     toolstack detaches: online = 0        state = Closed
 *     toolstack takes the directory away    forget it
 *     toolstack writes another disk there   forget it, and try that one
 *
 * A toolstack that detaches waits for Closed before it takes the directory
 * away.  libxl does not wait when it attaches a disk of QEMU's.  So it reports
 * success even if the disk cannot be made.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/xen/xen-bus-helper.h"
#include "qemu/main-loop.h"
#include "xen-block.h"
#include "trace/trace-qemu_mq_hw_block.h"

/* Xenstore takes 4096 bytes; the name of a file may have as many. */
#define MAX_MESSAGE 2048

typedef struct XenBlockFailed {
    XenBackendInstance *backend;
    char *path;
    char *frontend;                 /* NULL: the toolstack has named none */
    struct qemu_xs_handle *xsh;     /* for the watches */
    struct qemu_xs_watch *watches[3];
    QEMUBH *bh;
} XenBlockFailed;

static int read_number(XenBlockFailed *f, const char *dir, const char *key,
                       int otherwise)
{
    int value;

    return xs_node_scanf(f->xsh, XBT_NULL, dir, key, NULL, "%d",
                         &value) == 1 ? value : otherwise;
}

static void write_state(XenBlockFailed *f, enum xenbus_state state)
{
    xs_node_printf(f->xsh, XBT_NULL, f->path, "state", NULL, "%u", state);
}

static bool nobody_waits(XenBlockFailed *f)
{
    int frontend = f->frontend ? read_number(f, f->frontend, "state",
                                             XenbusStateUnknown)
                               : XenbusStateUnknown;

    return !read_number(f, f->path, "online", 0) ||
           frontend == XenbusStateClosed || frontend == XenbusStateUnknown;
}

static void failed_unwatch(XenBlockFailed *f)
{
    for (unsigned i = 0; i < ARRAY_SIZE(f->watches); i++) {
        if (f->watches[i]) {
            xs_node_unwatch(f->xsh, f->watches[i]);
        }
    }
}

/* A bottom half calls this, because a handler of a watch must not. */
static void failed_forget(XenBlockFailed *f)
{
    trace_xen_block_failed_forget(f->path);
    xen_backend_forget(f->backend);
    failed_unwatch(f);
    qemu_xen_xs_close(f->xsh);
    qemu_bh_delete(f->bh);
    g_free(f->frontend);
    g_free(f->path);
    g_free(f);
}

static void failed_changed_bh(void *opaque)
{
    XenBlockFailed *f = opaque;

    switch (read_number(f, f->path, "state", XenbusStateUnknown)) {
    case XenbusStateClosing:
        if (nobody_waits(f)) {
            write_state(f, XenbusStateClosed);
        }
        return;
    case XenbusStateClosed:
        return;
    case XenbusStateInitialising:
        /* The bus, which is told of this, looks again at what is there. */
        write_state(f, XenbusStateInitialising);
        break;
    default:
        break;
    }
    failed_forget(f);
}

static void failed_changed(void *opaque, const char *path)
{
    XenBlockFailed *f = opaque;

    qemu_bh_schedule(f->bh);
}

static struct qemu_xs_watch *watch_key(XenBlockFailed *f, const char *dir,
                                       const char *key)
{
    return xs_node_watch(f->xsh, dir, key, failed_changed, f, NULL);
}

static void failed_watch(XenBlockFailed *f)
{
    f->watches[0] = watch_key(f, f->path, "state");
    f->watches[1] = watch_key(f, f->path, "online");
    if (f->frontend) {
        f->watches[2] = watch_key(f, f->frontend, "state");
    }
}

/*
 * A device that failed late has taken the directory with it, which is made
 * again; but not for a domain that is gone.
 */
static bool domain_exists(XenBlockFailed *f)
{
    char *home = qemu_xen_xs_get_domain_path(f->xsh, xen_domid);
    char *value = qemu_xen_xs_read(f->xsh, XBT_NULL, home, NULL);

    free(home);
    free(value);
    return value != NULL;
}

void xen_block_failed(XenBackendInstance *backend, const char *message)
{
    XenBlockFailed *f = g_new0(XenBlockFailed, 1);

    f->backend = backend;
    f->xsh = qemu_xen_xs_open();
    if (!f->xsh) {
        g_free(f);
        return;
    }
    f->path = g_strdup_printf("backend/qdisk/%u/%s", xen_domid,
                              xen_backend_get_name(backend));
    f->bh = qemu_bh_new(failed_changed_bh, f);
    trace_xen_block_failed(f->path, message);
    if (domain_exists(f)) {
        char *frontend = xs_node_read(f->xsh, XBT_NULL, NULL, NULL,
                                      "%s/frontend", f->path);

        f->frontend = g_strdup(frontend);
        free(frontend);
        xs_node_printf(f->xsh, XBT_NULL, f->path, "error", NULL, "%.*s",
                       MAX_MESSAGE, message);
        xs_node_printf(f->xsh, XBT_NULL, f->path, "hotplug-error", NULL,
                       "%.*s", MAX_MESSAGE, message);
        xs_node_printf(f->xsh, XBT_NULL, f->path, "hotplug-status", NULL,
                       "error");
        write_state(f, XenbusStateClosing);
    }
    failed_watch(f);
}
