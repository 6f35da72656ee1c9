/*
 * Functions by which the parts of the Xen stand-in call each other
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

/* Limits that backends read with XenGnttabLimits; 0: there is no limit. */
typedef struct XenStandinLimits {
    uint32_t grant_entries;
    uint32_t maptrack_entries;
    uint32_t areas;
} XenStandinLimits;

struct XenStandin {
    DeviceState parent_obj;

    CharBackend chr;            /* commands of frontend and toolstack */
    uint16_t domid;             /* of the one guest domain */
    uint32_t nested_watches;    /* the nested poll that fires them; 0: none */
    XenStandinLimits limits;    /* backends can read them; enforced */
    XenStandinControl *control;
};

/*
 * Memory: frame n of the guest domain is page n of the machine's RAM.  Any
 * thread may call these functions once xen_standin_memory_init() has
 * succeeded.
 */

/**
 * xen_standin_memory_init: take the machine's RAM as the domain's memory.
 *
 * The RAM must be shared, backed by a file descriptor, and in pages of the
 * smallest size, because mappings are made with mmap(), page by page, as gntdev
 * of Linux makes them.
 *
 * Returns: true, or false with @errp set if the RAM is not of that kind.
 */
bool xen_standin_memory_init(Error **errp);

/**
 * xen_standin_frame: return the host address of @nr frames from @frame on.
 *
 * Returns: the address, or NULL if a frame is outside of the domain's memory.
 */
void *xen_standin_frame(uint64_t frame, uint64_t nr);

/**
 * xen_standin_map_frames: map @nr frames next to each other.
 * @prot: PROT_READ, PROT_WRITE or both; the mapping enforces it
 *
 * Returns: the mapping, or NULL with errno set.
 */
void *xen_standin_map_frames(const uint64_t *frames, size_t nr, int prot);

/** xen_standin_unmap_frames: undo xen_standin_map_frames(). */
int xen_standin_unmap_frames(void *addr, size_t nr);

extern struct foreignmem_backend_ops xen_standin_foreignmem_ops;

/*
 * Xenstore: a single store.  All functions run under the BQL.
 */

/* Relative paths begin here. */
#define XEN_STANDIN_HOME "/local/domain/0/"

extern struct xenstore_backend_ops xen_standin_xenstore_ops;

/**
 * xen_standin_xenstore_init: begin with an empty store.
 * @nested: the property nested-watches
 */
void xen_standin_xenstore_init(unsigned int nested);

/**
 * xen_standin_xenstore_settle: call @fn as soon as no watch event is left.
 *
 * All events that are queued now are delivered first, and also all events that
 * their handlers queue in turn.  The main loop calls @fn.
 */
void xen_standin_xenstore_settle(void (*fn)(void *opaque), void *opaque);

/**
 * xen_standin_xenstore_set_conflicts: let the next @n commits fail.
 *
 * They fail with EAGAIN and leave the store as it was.
 */
void xen_standin_xenstore_set_conflicts(unsigned int n);

/* The watches of one handle. */
typedef struct XenStandinWatches {
    QLIST_HEAD(, qemu_xs_watch) head;
    QLIST_ENTRY(XenStandinWatches) next;
} XenStandinWatches;

/** xen_standin_watches_init: set the property nested-watches to @nested. */
void xen_standin_watches_init(unsigned int nested);

/** xen_standin_watches_open: set up the list of a handle that is opened. */
void xen_standin_watches_open(XenStandinWatches *list);

/**
 * xen_standin_watches_close: free the list of a handle that is closed.
 *
 * The handle must have no watch; Xen's library demands that, too.
 */
void xen_standin_watches_close(XenStandinWatches *list);

/** xen_standin_watch_add: watch the absolute @path and what is below it. */
struct qemu_xs_watch *xen_standin_watch_add(XenStandinWatches *list,
                                            const char *path, bool relative,
                                            xs_watch_fn fn, void *opaque);

/** xen_standin_watch_drop: end a watch; its events are not delivered. */
void xen_standin_watch_drop(struct qemu_xs_watch *w);

/**
 * xen_standin_watches_fire: queue events for the watches of @path.
 * @exact: only for watches of @path itself, not of a directory above it;
 *         @path was removed together with its parent
 */
void xen_standin_watches_fire(const char *path, bool exact);

/** xen_standin_path_is_below: return whether @path is @dir or below it. */
bool xen_standin_path_is_below(const char *path, const char *dir);

/*
 * Event channels: ports are opened and closed under the BQL.  Any thread may
 * call the operations notify, pending and unmask.
 */

extern struct evtchn_backend_ops xen_standin_evtchn_ops;

/** xen_standin_evtchn_init: begin without ports for the guest @domid. */
void xen_standin_evtchn_init(uint16_t domid);

/**
 * xen_standin_evtchn_alloc: give the guest an unbound port.
 * @kick_fd: an eventfd for events to the backend
 * @call_fd: an eventfd for events to the guest
 *
 * Returns: the guest's port, which now owns both eventfds; or -1 with errno
 * set, and then the caller still owns them.
 */
int xen_standin_evtchn_alloc(int kick_fd, int call_fd);

/**
 * xen_standin_evtchn_close: close the guest's @port.
 *
 * Returns: 0, or -1 with errno set.
 */
int xen_standin_evtchn_close(evtchn_port_t port);

/**
 * xen_standin_evtchn_send: send an event on the guest's @port.
 *
 * Returns: 0, or -1 with errno set.
 */
int xen_standin_evtchn_send(evtchn_port_t port);

/**
 * xen_standin_evtchn_take: count the events that the guest got on its @port.
 *
 * Returns: the number since the last call, or -1 with errno set.
 */
int64_t xen_standin_evtchn_take(evtchn_port_t port);

/**
 * xen_standin_evtchn_is_bound: return whether a backend has bound @port.
 *
 * Returns: 1 or 0, or -1 with errno set.
 */
int xen_standin_evtchn_is_bound(evtchn_port_t port);

/*
 * Grants: the table is in the guest's memory.  Any thread may map, unmap and
 * copy.
 */

extern struct gnttab_backend_ops xen_standin_gnttab_ops;

/** XenStandinGrantStats: numbers of calls since the start, and present use. */
typedef struct XenStandinGrantStats {
    uint64_t maps;              /* calls that mapped grants */
    uint64_t mapped;            /* grants that are mapped now */
    uint64_t copies;            /* calls that copied */
    uint64_t segments;          /* segments of the calls that copied */
    uint64_t areas;             /* mappings now, of one or more grants each */
    uint64_t refused;           /* calls that failed because of a limit */
    uint64_t unmaps;            /* calls that unmapped grants */
} XenStandinGrantStats;

/** xen_standin_gnttab_init: begin without a table for the guest @domid. */
void xen_standin_gnttab_init(uint16_t domid, const XenStandinLimits *limits);

/**
 * xen_standin_gnttab_setup: use a grant table of version 1 at @frame.
 *
 * Context: BQL, while no grant is in use.
 *
 * Returns: 0, or -1 with errno set.
 */
int xen_standin_gnttab_setup(uint64_t frame, uint64_t nr_frames);

/** xen_standin_gnttab_set_limit: allow @nr_grants mapped grants at a time. */
void xen_standin_gnttab_set_limit(uint64_t nr_grants);

/** xen_standin_gnttab_get_stats: copy the statistics to @stats. */
void xen_standin_gnttab_get_stats(XenStandinGrantStats *stats);

/*
 * Control: words of frontend and toolstack, which xen-standin-control.c lists.
 */

/** xen_standin_control_start: read commands from the chardev, if it has one. */
void xen_standin_control_start(XenStandin *s);

#endif /* HW_XEN_XEN_STANDIN_H */
