/*
 * Xen stand-in: xenstore's watches
 *
 *     change of a node --> watches on it     --> queue of events
 *                          and on its parents        |  main loop
 *                                                    v
 *                                            one handler at a time
 *
 * Events are delivered by the main loop, and not by a loop that is nested in a
 * drain, because a real xenstored does the same.  A backend is not told of its
 * frontend's state in the middle of a drain.  The property nested-watches is
 * for tests of backends that allow this.
 *
 * Everything here runs under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/queue.h"
#include "trace/trace-qemu_mq_hw_xen.h"
#include "xen-standin.h"

struct qemu_xs_watch {
    char *path;                 /* an absolute path */
    bool relative;              /* the handler is told relative paths */
    xs_watch_fn fn;
    void *opaque;
    QLIST_ENTRY(qemu_xs_watch) next;
};

/* An event of a watch; or, without a watch, a call once the store is settled */
typedef struct XsEvent {
    struct qemu_xs_watch *watch;
    char *path;
    void (*settled)(void *opaque);
    void *opaque;
    QSIMPLEQ_ENTRY(XsEvent) next;
} XsEvent;

static struct {
    QLIST_HEAD(, XenStandinWatches) all;
    QSIMPLEQ_HEAD(, XsEvent) events;
    QEMUBH *bh;
    unsigned int nested;        /* the property nested-watches */
    unsigned int depth;
    unsigned int polls;         /* nested polls since a handler was called */
} watches;

static void xs_event_free(XsEvent *event)
{
    g_free(event->path);
    g_free(event);
}

static bool xs_event_is_left(void)
{
    XsEvent *event;

    QSIMPLEQ_FOREACH(event, &watches.events, next) {
        if (event->watch) {
            return true;
        }
    }
    return false;
}

/* Call a handler.  With nested watches, its polls may call xs_deliver(). */
static void xs_call(XsEvent *event)
{
    watches.polls = 0;
    if (watches.nested) {
        qemu_bh_schedule(watches.bh);
    }
    watches.depth++;
    event->watch->fn(event->watch->opaque, event->path);
    watches.depth--;
}

/* Deliver events.  A handler may queue events, drop watches, and close. */
static void xs_deliver(void *opaque)
{
    XsEvent *event;

    if (watches.depth && ++watches.polls < watches.nested) {
        qemu_bh_schedule(watches.bh);
        return;
    }
    while ((event = QSIMPLEQ_FIRST(&watches.events))) {
        if (watches.depth && !xs_event_is_left()) {
            return; /* the store is not settled before the handler is done */
        }
        QSIMPLEQ_REMOVE_HEAD(&watches.events, next);
        if (event->watch) {
            trace_xen_standin_xs_event(event->path);
            xs_call(event);
        } else if (xs_event_is_left()) {
            QSIMPLEQ_INSERT_TAIL(&watches.events, event, next);
            continue;
        } else {
            event->settled(event->opaque);
        }
        xs_event_free(event);
    }
}

void xen_standin_watches_init(unsigned int nested)
{
    AioContext *ctx = nested ? qemu_get_aio_context()
                             : iohandler_get_aio_context();

    QLIST_INIT(&watches.all);
    QSIMPLEQ_INIT(&watches.events);
    watches.bh = aio_bh_new(ctx, xs_deliver, NULL);
    watches.nested = nested;
}

static void xs_event_queue(XsEvent *event)
{
    QSIMPLEQ_INSERT_TAIL(&watches.events, event, next);
    qemu_bh_schedule(watches.bh);
}

void xen_standin_xenstore_settle(void (*fn)(void *opaque), void *opaque)
{
    XsEvent *event = g_new0(XsEvent, 1);

    event->settled = fn;
    event->opaque = opaque;
    xs_event_queue(event);
}

static void xs_watch_fire(struct qemu_xs_watch *watch, const char *path)
{
    XsEvent *event = g_new0(XsEvent, 1);

    event->watch = watch;
    event->path = g_strdup(watch->relative ? path + strlen(XEN_STANDIN_HOME)
                                           : path);
    xs_event_queue(event);
}

bool xen_standin_path_is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return g_str_has_prefix(path, dir) &&
           (path[len] == '\0' || path[len] == '/' || len == 1);
}

void xen_standin_watches_fire(const char *path, bool exact)
{
    XenStandinWatches *list;
    struct qemu_xs_watch *w;

    QLIST_FOREACH(list, &watches.all, next) {
        QLIST_FOREACH(w, &list->head, next) {
            if (exact ? g_str_equal(path, w->path)
                      : xen_standin_path_is_below(path, w->path)) {
                xs_watch_fire(w, path);
            }
        }
    }
}

struct qemu_xs_watch *xen_standin_watch_add(XenStandinWatches *list,
                                            const char *path, bool relative,
                                            xs_watch_fn fn, void *opaque)
{
    struct qemu_xs_watch *w = g_new0(struct qemu_xs_watch, 1);

    w->path = g_strdup(path);
    w->relative = relative;
    w->fn = fn;
    w->opaque = opaque;
    QLIST_INSERT_HEAD(&list->head, w, next);
    /* A new watch fires once, so that no earlier change is missed. */
    xs_watch_fire(w, w->path);
    return w;
}

void xen_standin_watch_drop(struct qemu_xs_watch *w)
{
    XsEvent *event, *next;

    QSIMPLEQ_FOREACH_SAFE(event, &watches.events, next, next) {
        if (event->watch == w) {
            QSIMPLEQ_REMOVE(&watches.events, event, XsEvent, next);
            xs_event_free(event);
        }
    }
    QLIST_REMOVE(w, next);
    g_free(w->path);
    g_free(w);
}

void xen_standin_watches_open(XenStandinWatches *list)
{
    QLIST_INIT(&list->head);
    QLIST_INSERT_HEAD(&watches.all, list, next);
}

void xen_standin_watches_close(XenStandinWatches *list)
{
    g_assert(QLIST_EMPTY(&list->head));
    QLIST_REMOVE(list, next);
}
