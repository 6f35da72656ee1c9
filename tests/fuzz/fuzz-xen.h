/*
 * A frontend of the Xen PV disk that does what an input says
 *
 * The stand-in for Xen is in the same process, so its tables are reached
 * without control words.  Frame n of the guest is page n of its RAM, and grant
 * reference n is of frame n, unless the input says otherwise:
 *
 *     frames 1 to 8        the grant table
 *     frames 16 to 79      rings, four of up to 16 pages
 *     frames 80 to 95      pages of segments of indirect requests
 *     frames 96 to 511     buffers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FUZZ_XEN_H
#define TESTS_FUZZ_XEN_H

#include "hw/xen/xen_backend_ops.h"
#include "fuzz-input.h"

#define XEN_RINGS               4
#define XEN_RING_PAGES          16
#define XEN_RING_FRAME(ring)    (16 + XEN_RING_PAGES * (ring))
#define XEN_INDIRECT_FRAME      80
#define XEN_INDIRECT_PAGES      8
#define XEN_BUFFER_FRAME        96
#define XEN_FRAMES              512
#define XEN_TABLE_FRAME         1
#define XEN_TABLE_FRAMES        8

#define XEN_FRONTEND            "/local/domain/1/device/vbd/51712"
#define XEN_BACKEND             "/local/domain/0/backend/qdisk/1/51712"

/* States of xenbus. */
enum {
    XB_INITIALISING = 1,
    XB_INIT_WAIT,
    XB_INITIALISED,
    XB_CONNECTED,
    XB_CLOSING,
    XB_CLOSED,
};

/** XenAbi: where a request's fields are. */
typedef struct XenAbi {
    const char *protocol;
    unsigned entry;             /* bytes of a slot */
    unsigned id, sector, segments;
} XenAbi;

typedef struct XenFrontend {
    struct qemu_xs_handle *xs;
    const XenAbi *abi;
    unsigned order;             /* a ring has 2 to the power of this pages */
    unsigned rings;
    int ports[XEN_RINGS];       /* 0: none */
    uint32_t producer[XEN_RINGS];
} XenFrontend;

/** xen_page: frame @number as the guest sees it. */
void *xen_page(unsigned number);

/*
 * Xenstore
 */

void xen_store(XenFrontend *f, const char *dir, const char *key,
               const char *fmt, ...) G_GNUC_PRINTF(4, 5);
void xen_forget(XenFrontend *f, const char *dir, const char *key);

/** xen_number: the number in the node, or 0. */
unsigned xen_number(XenFrontend *f, const char *dir, const char *key);

/** xen_state: go to @state, and let the backend follow. */
void xen_state(XenFrontend *f, unsigned state);

/*
 * The life of a frontend
 */

/**
 * xen_connect: begin anew, whatever was before.
 *
 * @how has rings - 1, ABI, order, persistent grants, large sectors.
 */
void xen_connect(XenFrontend *f, unsigned how);

/** xen_disconnect: close as a driver does. */
void xen_disconnect(XenFrontend *f);

/** xen_ports_close: the guest closes its event channels. */
void xen_ports_close(XenFrontend *f);

/** xen_port_send: the guest sends on the port of @ring. */
void xen_port_send(XenFrontend *f, int ring);

/*
 * Grants
 */

/** xen_grants_begin: reference n grants frame n, and all may be mapped. */
void xen_grants_begin(void);

/** xen_grants_check: check that no grant is in use, and none is mapped. */
void xen_grants_check(void);

/** xen_grant_change: one grant becomes what the input says. */
FuzzOp xen_grant_change;

/*
 * Rings
 */

/** xen_ring_push: show the backend requests up to @producer. */
void xen_ring_push(XenFrontend *f, int ring, uint32_t producer);

/**
 * xen_some_request: put a request on @ring, well-formed or nearly so.
 *
 * Returns: false if the ring is full.
 */
bool xen_some_request(XenFrontend *f, int ring, FuzzInput *in);

/**
 * xen_check_served: check that a new device can be connected and reads a page.
 */
void xen_check_served(XenFrontend *f);

#endif /* TESTS_FUZZ_XEN_H */
