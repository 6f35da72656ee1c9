/*
 * Xen stand-in: event channels
 *
 *      guest's port                      backend's handle
 *     .------------.      kick_fd       .------------------.
 *     |  send      |------------------->| fd: readable     |
 *     |  (closed,  |      call_fd       | pending, unmask  |
 *     |   unbound, |<-------------------| notify           |
 *     |   bound)   |                    '------------------'
 *     '------------'
 *
 * An event is a write to an eventfd.  So any AioContext can watch the file
 * descriptor of a handle.  A test that passes the eventfds of its ports can
 * send and wait without the main loop of this process.
 *
 * As on Xen, pending() takes an event and masks its port until unmask().  If a
 * backend forgets to call unmask(), it gets no more events.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/queue.h"
#include <sys/eventfd.h>
#include "trace/trace-qemu_mq_hw_xen.h"
#include "xen-standin.h"

/* The limit for open ports.  The number of a closed port is not used again. */
#define EVTCHN_MAX_PORTS 4095

typedef struct EvtchnPort {
    evtchn_port_t number;
    int kick_fd;
    int call_fd;
    xenevtchn_handle *backend;  /* NULL: unbound */
    QLIST_ENTRY(EvtchnPort) next;
} EvtchnPort;

/* A bound handle has file descriptors of its own; the guest may close first. */
struct xenevtchn_handle {
    int fd;
    int call_fd;
    evtchn_port_t local;        /* 0: not bound */
    EvtchnPort *port;           /* NULL: the guest has closed its end */
    bool masked;
    bool deferred;              /* an event came while masked */
};

static struct {
    uint16_t domid;
    unsigned nr_ports;
    evtchn_port_t next_port;
    evtchn_port_t next_local;
    QLIST_HEAD(, EvtchnPort) ports;
} evtchn;

void xen_standin_evtchn_init(uint16_t domid)
{
    evtchn.domid = domid;
    evtchn.next_port = 1;
    evtchn.next_local = 1;
    QLIST_INIT(&evtchn.ports);
}

static EvtchnPort *port_find(evtchn_port_t number)
{
    EvtchnPort *port;

    QLIST_FOREACH(port, &evtchn.ports, next) {
        if (port->number == number) {
            return port;
        }
    }
    errno = ENOENT;
    return NULL;
}

static int event_send(int fd)
{
    return eventfd_write(fd, 1) < 0 && errno != EAGAIN ? -1 : 0;
}

/*
 * The guest's side
 */

int xen_standin_evtchn_alloc(int kick_fd, int call_fd)
{
    EvtchnPort *port;

    if (evtchn.nr_ports >= EVTCHN_MAX_PORTS ||
        evtchn.next_port > INT_MAX) {
        errno = ENOSPC;
        return -1;
    }
    port = g_new0(EvtchnPort, 1);
    port->number = evtchn.next_port++;
    evtchn.nr_ports++;
    port->kick_fd = kick_fd;
    port->call_fd = call_fd;
    QLIST_INSERT_HEAD(&evtchn.ports, port, next);
    return port->number;
}

int xen_standin_evtchn_close(evtchn_port_t number)
{
    EvtchnPort *port = port_find(number);

    if (!port) {
        return -1;
    }
    if (port->backend) {
        port->backend->port = NULL;
    }
    QLIST_REMOVE(port, next);
    evtchn.nr_ports--;
    close(port->kick_fd);
    close(port->call_fd);
    g_free(port);
    return 0;
}

int xen_standin_evtchn_send(evtchn_port_t number)
{
    EvtchnPort *port = port_find(number);

    return port ? event_send(port->kick_fd) : -1;
}

int64_t xen_standin_evtchn_take(evtchn_port_t number)
{
    EvtchnPort *port = port_find(number);
    eventfd_t events;

    if (!port) {
        return -1;
    }
    return eventfd_read(port->call_fd, &events) < 0 ? 0 : events;
}

int xen_standin_evtchn_is_bound(evtchn_port_t number)
{
    EvtchnPort *port = port_find(number);

    return port ? port->backend != NULL : -1;
}

/*
 * The backend's side
 */

static xenevtchn_handle *evtchn_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    xenevtchn_handle *h;

    if (fd < 0) {
        return NULL;
    }
    h = g_new0(xenevtchn_handle, 1);
    h->fd = fd;
    h->call_fd = -1;
    return h;
}

static int evtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid,
                                   evtchn_port_t guest_port)
{
    EvtchnPort *port = port_find(guest_port);
    int call_fd;

    if (domid != evtchn.domid) {
        errno = ESRCH;
        return -1;
    }
    /* A handle has one port; the tables of backends need no more. */
    if (!port || port->backend || h->local) {
        errno = EINVAL;
        return -1;
    }
    call_fd = qemu_dup(port->call_fd);
    if (call_fd < 0 || dup3(port->kick_fd, h->fd, O_CLOEXEC) < 0) {
        return -1;
    }
    h->call_fd = call_fd;
    h->port = port;
    h->local = evtchn.next_local++;
    h->masked = h->deferred = false;
    port->backend = h;
    trace_xen_standin_evtchn_bind(guest_port, h->local);
    return h->local;
}

/* Unbind a handle.  The guest's port stays, and can be bound again. */
static int evtchn_unbind(xenevtchn_handle *h, evtchn_port_t local)
{
    if (!h->local || h->local != local) {
        errno = EINVAL;
        return -1;
    }
    trace_xen_standin_evtchn_unbind(local);
    if (h->port) {
        h->port->backend = NULL;
        h->port = NULL;
    }
    close(h->call_fd);
    h->call_fd = -1;
    h->local = 0;
    return 0;
}

static int evtchn_close(xenevtchn_handle *h)
{
    if (h->local) {
        evtchn_unbind(h, h->local);
    }
    close(h->fd);
    g_free(h);
    return 0;
}

static int evtchn_get_fd(xenevtchn_handle *h)
{
    return h->fd;
}

static int evtchn_notify(xenevtchn_handle *h, evtchn_port_t local)
{
    if (!h->local || h->local != local) {
        errno = EINVAL;
        return -1;
    }
    return event_send(h->call_fd);
}

static int evtchn_pending(xenevtchn_handle *h)
{
    eventfd_t events;

    if (eventfd_read(h->fd, &events) < 0) {
        return -1;
    }
    if (qatomic_read(&h->masked)) {
        h->deferred = true;
        errno = EAGAIN;
        return -1;
    }
    qatomic_set(&h->masked, true);
    return h->local;
}

static int evtchn_unmask(xenevtchn_handle *h, evtchn_port_t local)
{
    if (!h->local || h->local != local) {
        errno = EINVAL;
        return -1;
    }
    qatomic_set(&h->masked, false);
    if (h->deferred) {
        h->deferred = false;
        return event_send(h->fd);
    }
    return 0;
}

struct evtchn_backend_ops xen_standin_evtchn_ops = {
    .open = evtchn_open,
    .close = evtchn_close,
    .bind_interdomain = evtchn_bind_interdomain,
    .unbind = evtchn_unbind,
    .get_fd = evtchn_get_fd,
    .notify = evtchn_notify,
    .unmask = evtchn_unmask,
    .pending = evtchn_pending,
};
