/*
 * The parts of the Xen stand-in, as they see each other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_XEN_STANDIN_H
#define HW_XEN_XEN_STANDIN_H

#include "qemu/base-version.h"
#include "chardev/char-fe.h"
#include "hw/qdev-core.h"
#include "hw/xen/xen_backend_ops.h"
#include "qemu/queue.h"
#include "qom/object.h"

#define TYPE_XEN_STANDIN "xen-standin"
OBJECT_DECLARE_SIMPLE_TYPE(XenStandin, XEN_STANDIN)

/* The domain that QEMU's backends run in. */
#define XEN_STANDIN_BACKEND_DOMID 0

typedef struct XenStandinControl XenStandinControl;

/* As the backends are told with XenGnttabLimits; 0: there is no limit. */
typedef struct XenStandinLimits {
    uint32_t grant_entries;
    uint32_t maptrack_entries;
    uint32_t areas;
} XenStandinLimits;

struct XenStandin {
    DeviceState parent_obj;

    CharBackend chr;            /* the frontend's and toolstack's words */
    uint16_t domid;             /* of the one guest domain */
    uint32_t nested_watches;    /* fire in this nested poll; 0: in none */
    XenStandinLimits limits;    /* told to backends and enforced */
    XenStandinControl *control;
};

/*
 * Memory: frame n of the guest domain is page n of the machine's RAM.
 * All of these may be called from any thread once
 * xen_standin_memory_init() has succeeded.
 */

/**
 * xen_standin_memory_init: take the machine's RAM as the domain's memory
 *
 * Needs RAM that is shared and backed by a file descriptor, in base pages:
 * mappings are made by mmap(), page by page, as gntdev makes them.
 *
 * Returns: false with @errp set if the RAM is not of that kind.
 */
bool xen_standin_memory_init(Error **errp);

/**
 * xen_standin_frame: host address of @nr consecutive frames from @frame
 *
 * Returns: NULL if any of them lies outside of the domain's memory.
 */
void *xen_standin_frame(uint64_t frame, uint64_t nr);

/**
 * xen_standin_map_frames: map @nr frames next to each other
 *
 * @prot is of PROT_READ and PROT_WRITE; the mapping enforces it.
 *
 * Returns: the mapping, or NULL with errno set.
 */
void *xen_standin_map_frames(const uint64_t *frames, size_t nr, int prot);

/** xen_standin_unmap_frames: undo xen_standin_map_frames() */
int xen_standin_unmap_frames(void *addr, size_t nr);

extern struct foreignmem_backend_ops xen_standin_foreignmem_ops;

/*
 * Xenstore: one store, all of it under the BQL.
 */

/* Where relative paths begin. */
#define XEN_STANDIN_HOME "/local/domain/0/"

extern struct xenstore_backend_ops xen_standin_xenstore_ops;

/**
 * xen_standin_xenstore_init: an empty store.
 * @nested: the property nested-watches
 */
void xen_standin_xenstore_init(unsigned int nested);

/**
 * xen_standin_xenstore_settle: call @fn once no watch event is left
 *
 * All events that are queued now, and all that their handlers queue in
 * turn, are delivered first.  @fn is called from the main loop.
 */
void xen_standin_xenstore_settle(void (*fn)(void *opaque), void *opaque);

/**
 * xen_standin_xenstore_set_conflicts: let the next @n commits fail
 *
 * They fail with EAGAIN and leave the store as it was.
 */
void xen_standin_xenstore_set_conflicts(unsigned int n);

/* The watches of one handle. */
typedef struct XenStandinWatches {
    QLIST_HEAD(, qemu_xs_watch) head;
    QLIST_ENTRY(XenStandinWatches) next;
} XenStandinWatches;

/** xen_standin_watches_init: @nested is the property nested-watches */
void xen_standin_watches_init(unsigned int nested);

/** xen_standin_watches_open: a handle is opened, and has no watch yet */
void xen_standin_watches_open(XenStandinWatches *list);

/**
 * xen_standin_watches_close: the handle is closed, and has no watch.  libxen's
 * handles insist on that, too.
 */
void xen_standin_watches_close(XenStandinWatches *list);

/** xen_standin_watch_add: watch the absolute @path and what is below it */
struct qemu_xs_watch *xen_standin_watch_add(XenStandinWatches *list,
                                            const char *path, bool relative,
                                            xs_watch_fn fn, void *opaque);

/** xen_standin_watch_drop: end a watch; its events are not delivered */
void xen_standin_watch_drop(struct qemu_xs_watch *w);

/**
 * xen_standin_watches_fire: tell those that watch @path that it has changed
 *
 * With @exact, only those that watch @path itself: it went with its parent.
 */
void xen_standin_watches_fire(const char *path, bool exact);

/** xen_standin_path_is_below: is @path what @dir names, or below it? */
bool xen_standin_path_is_below(const char *path, const char *dir);

/*
 * Event channels: ports come and go under the BQL; notify, pending and
 * unmask may be called from any thread.
 */

extern struct evtchn_backend_ops xen_standin_evtchn_ops;

/** xen_standin_evtchn_init: no port yet for the guest @domid */
void xen_standin_evtchn_init(uint16_t domid);

/**
 * xen_standin_evtchn_alloc: give the guest an unbound port
 *
 * @kick_fd carries events to the backend, @call_fd events to the guest;
 * both are eventfds and now belong to the port.
 *
 * Returns: the guest's port, or -1 with errno set (the fds stay the
 * caller's then).
 */
int xen_standin_evtchn_alloc(int kick_fd, int call_fd);

/** xen_standin_evtchn_close: close the guest's @port; -1 with errno set */
int xen_standin_evtchn_close(evtchn_port_t port);

/** xen_standin_evtchn_send: the guest sends on @port; -1 with errno set */
int xen_standin_evtchn_send(evtchn_port_t port);

/**
 * xen_standin_evtchn_take: how many events the guest got on its @port
 *
 * Returns: events since the last call, or -1 with errno set.
 */
int64_t xen_standin_evtchn_take(evtchn_port_t port);

/** xen_standin_evtchn_is_bound: 1 or 0, or -1 with errno set */
int xen_standin_evtchn_is_bound(evtchn_port_t port);

/*
 * Grants: the table lies in the guest's memory; mapping, unmapping and
 * copying may be done from any thread.
 */

extern struct gnttab_backend_ops xen_standin_gnttab_ops;

/** XenStandinGrantStats: what the backends asked for since the start */
typedef struct XenStandinGrantStats {
    uint64_t maps;              /* calls that mapped */
    uint64_t mapped;            /* grants mapped now */
    uint64_t copies;            /* calls that copied */
    uint64_t segments;          /* segments of those calls */
    uint64_t areas;             /* mappings now, of one or more grants */
    uint64_t refused;           /* calls that a limit has forbidden */
    uint64_t unmaps;            /* calls that unmapped */
} XenStandinGrantStats;

/** xen_standin_gnttab_init: no table yet for the guest @domid */
void xen_standin_gnttab_init(uint16_t domid, const XenStandinLimits *limits);

/**
 * xen_standin_gnttab_setup: say where the table of version 1 lies
 *
 * Called under the BQL, while no grant is in use.
 *
 * Returns: 0, or -1 with errno set.
 */
int xen_standin_gnttab_setup(uint64_t frame, uint64_t nr_frames);

/** xen_standin_gnttab_set_limit: how many grants may be mapped at once */
void xen_standin_gnttab_set_limit(uint64_t nr_grants);

/** xen_standin_gnttab_get_stats: what was asked for so far */
void xen_standin_gnttab_get_stats(XenStandinGrantStats *stats);

/*
 * Control: the words of frontend and toolstack, see docs/xen-standin.rst.
 */

/** xen_standin_control_start: listen to the chardev, if there is one */
void xen_standin_control_start(XenStandin *s);

#endif /* HW_XEN_XEN_STANDIN_H */
