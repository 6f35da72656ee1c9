/*
 * A Xen guest domain and its toolstack, played by a test
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_XEN_GUEST_H
#define TESTS_QTEST_XEN_GUEST_H

#include "tests/qtest/libqtest.h"

#define XEN_GUEST_PAGE_SIZE 4096
#define XEN_GUEST_DOMID 1

/* Seconds that anything may take before a test gives up. */
#define XEN_GUEST_PATIENCE 30

/* States of xenbus, as both ends write them. */
enum {
    XB_UNKNOWN,
    XB_INITIALISING,
    XB_INIT_WAIT,
    XB_INITIALISED,
    XB_CONNECTED,
    XB_CLOSING,
    XB_CLOSED,
};

/**
 * XenGuest: a QEMU with a stand-in for Xen, and a guest domain in it.
 *
 * Its memory is mapped here too: what the test does with a ring it does as a
 * driver would, with loads and stores.
 */
typedef struct XenGuest {
    QTestState *qts;
    int ctl;                    /* the stand-in's control words */
    GString *ctl_in;
    uint8_t *ram;
    uint32_t nr_frames;
    uint32_t next_frame;
    uint32_t *free_frames;      /* a stack */
    uint32_t nr_free_frames;
    uint32_t next_ref;
    uint32_t *free_refs;        /* a stack */
    uint32_t nr_free_refs;
    GPtrArray *owned;           /* goes with the guest, by g_free() */
} XenGuest;

/** XenPort: the guest's end of an event channel. */
typedef struct XenPort {
    uint32_t number;
    int send_fd;
    int wait_fd;
    int alive_fd;               /* hangs up when QEMU dies */
} XenPort;

/** XenGrantStats: what the backends have asked for, see gnttab_stats. */
typedef struct XenGrantStats {
    uint64_t maps, mapped, copies, segments, areas, refused, unmaps;
} XenGrantStats;

/**
 * xen_guest_start: start QEMU with the stand-in and @fmt, and the domain.
 *
 * Unless @fmt names a machine it is "none".
 */
XenGuest *xen_guest_start(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/**
 * xen_guest_fails: QEMU must not start with the stand-in and @args.
 *
 * The one line that it says must contain @message, and it exits with 1.
 */
void xen_guest_fails(const char *args, const char *message);

/** xen_guest_quit: end QEMU, which must end well. */
void xen_guest_quit(XenGuest *g);

/*
 * Control words
 */

/**
 * xen_guest_ask: say a control word and return the answer.
 *
 * Returns: what follows "OK ", to be freed; NULL for FAIL, with errno set.
 */
char *xen_guest_ask(XenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** xen_guest_say: a control word that must succeed and has no answer. */
void xen_guest_say(XenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/**
 * xen_guest_burst: control words, one a line, that arrive together.
 *
 * All must succeed and have no answer.
 */
void xen_guest_burst(XenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** xen_guest_count: a control word whose answer is a number; -1 for FAIL. */
int64_t xen_guest_count(XenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** xen_guest_sync: all that was written to xenstore has been dealt with. */
void xen_guest_sync(XenGuest *g);

void xen_guest_grant_stats(XenGuest *g, XenGrantStats *stats);

/*
 * Xenstore: @dir and @key make the path
 */

void xs_put(XenGuest *g, const char *dir, const char *key,
            const char *fmt, ...) G_GNUC_PRINTF(4, 5);
void xs_remove(XenGuest *g, const char *dir, const char *key);

/** xs_get: the value, to be freed, or NULL if there is no such node. */
char *xs_get(XenGuest *g, const char *dir, const char *key);

/** xs_get_number: the value as a number, or @otherwise if there is none. */
int64_t xs_get_number(XenGuest *g, const char *dir, const char *key,
                      int64_t otherwise);

/** xs_wait_state: wait for one of the states @a and @b, return which. */
int xs_wait_state(XenGuest *g, const char *dir, int a, int b);

/** xs_wait_value: wait for a node's value. */
void xs_wait_value(XenGuest *g, const char *dir, const char *key,
                   const char *value);

/** xs_wait_gone: wait until there is no such node. */
void xs_wait_gone(XenGuest *g, const char *dir, const char *key);

/*
 * Memory and grants
 */

/** xen_guest_alloc_frame: a zeroed frame. */
uint32_t xen_guest_alloc_frame(XenGuest *g);
void xen_guest_free_frame(XenGuest *g, uint32_t frame);
void *xen_guest_frame(XenGuest *g, uint32_t frame);

/** xen_guest_grant: let the backend use @frame, return the reference. */
uint32_t xen_guest_grant(XenGuest *g, uint32_t frame, bool readonly);

/** xen_guest_grant_is_used: has the backend this grant in use now? */
bool xen_guest_grant_is_used(XenGuest *g, uint32_t ref);

/** xen_guest_revoke: take a grant back, which must not be in use. */
void xen_guest_revoke(XenGuest *g, uint32_t ref);

/** xen_guest_forget: make a grant invalid though it may be in use. */
void xen_guest_forget(XenGuest *g, uint32_t ref);

/*
 * Event channels
 */

void xen_port_open(XenGuest *g, XenPort *port);
void xen_port_close(XenGuest *g, XenPort *port);
void xen_port_send(XenPort *port);

/** xen_port_is_bound: has the backend bound its end? */
bool xen_port_is_bound(XenGuest *g, XenPort *port);

/** xen_port_wait: wait for an event; returns how many there were. */
uint64_t xen_port_wait(XenPort *port);

/** xen_port_take: like xen_port_wait(), but returns 0 if there was none. */
uint64_t xen_port_take(XenPort *port);

#endif /* TESTS_QTEST_XEN_GUEST_H */
