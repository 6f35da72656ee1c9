/*
 * A frontend of the Xen PV disk: xenstore, event channels, grants
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include <sys/eventfd.h>
#include "../../hw/xen/xen-standin.h"
#include "fuzz-machine.h"
#include "fuzz-xen.h"

#define GTF_PERMIT      1
#define GTF_READONLY    4
#define GTF_USED        0x18

typedef struct Grant {
    uint16_t flags;
    uint16_t domid;
    uint32_t frame;
} Grant;

static const XenAbi abis[] = {
    { "x86_64-abi", 112, 8, 16, 24 },
    { "x86_32-abi", 108, 4, 12, 20 },
};

void *xen_page(unsigned number)
{
    return xen_standin_frame(number, 1);
}

/*
 * Xenstore
 */

void xen_store(XenFrontend *f, const char *dir, const char *key,
               const char *fmt, ...)
{
    g_autofree char *path = g_strdup_printf("%s/%s", dir, key);
    g_autofree char *value = NULL;
    va_list ap;

    va_start(ap, fmt);
    value = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qemu_xen_xs_write(f->xs, XBT_NULL, path, value, strlen(value));
}

void xen_forget(XenFrontend *f, const char *dir, const char *key)
{
    g_autofree char *path = g_strdup_printf("%s/%s", dir, key);

    qemu_xen_xs_destroy(f->xs, XBT_NULL, path);
}

unsigned xen_number(XenFrontend *f, const char *dir, const char *key)
{
    g_autofree char *path = g_strdup_printf("%s/%s", dir, key);
    char *value = qemu_xen_xs_read(f->xs, XBT_NULL, path, NULL);
    unsigned number = 0;

    if (value && qemu_strtoui(value, NULL, 10, &number) < 0) {
        number = 0;
    }
    free(value);
    return number;
}

void xen_state(XenFrontend *f, unsigned state)
{
    xen_store(f, XEN_FRONTEND, "state", "%u", state);
    fuzz_main_loop();
}

/*
 * Event channels
 */

static int port_new(void)
{
    int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int port = xen_standin_evtchn_alloc(kick, call);

    if (port < 0) {
        close(kick);
        close(call);
        return 0;
    }
    return port;
}

void xen_ports_close(XenFrontend *f)
{
    for (int i = 0; i < XEN_RINGS; i++) {
        if (f->ports[i]) {
            xen_standin_evtchn_close(f->ports[i]);
        }
        f->ports[i] = 0;
    }
}

void xen_port_send(XenFrontend *f, int ring)
{
    if (f->ports[ring]) {
        xen_standin_evtchn_send(f->ports[ring]);
    }
}

/*
 * The life of a frontend
 */

static void ring_publish(XenFrontend *f, int ring, const char *dir)
{
    uint32_t *header = xen_page(XEN_RING_FRAME(ring));

    for (int i = 0; i < XEN_RING_PAGES; i++) {
        memset(xen_page(XEN_RING_FRAME(ring) + i), 0, XEN_PAGE_SIZE);
    }
    header[1] = header[3] = 1;
    f->producer[ring] = 0;
    f->ports[ring] = port_new();
    xen_store(f, dir, "event-channel", "%d", f->ports[ring]);
    if (!f->order) {
        xen_store(f, dir, "ring-ref", "%d", XEN_RING_FRAME(ring));
        return;
    }
    for (int i = 0; i < 1 << f->order; i++) {
        g_autofree char *key = g_strdup_printf("ring-ref%d", i);

        xen_store(f, dir, key, "%d", XEN_RING_FRAME(ring) + i);
    }
}

static void unpublish(XenFrontend *f)
{
    xen_ports_close(f);
    xen_forget(f, XEN_FRONTEND, "ring-page-order");
    xen_forget(f, XEN_FRONTEND, "ring-ref");
    xen_forget(f, XEN_FRONTEND, "event-channel");
    xen_forget(f, XEN_FRONTEND, "multi-queue-num-queues");
    for (int i = 0; i < XEN_RINGS; i++) {
        g_autofree char *key = g_strdup_printf("queue-%d", i);

        xen_forget(f, XEN_FRONTEND, key);
    }
}

static void publish(XenFrontend *f)
{
    if (f->order) {
        xen_store(f, XEN_FRONTEND, "ring-page-order", "%u", f->order);
    }
    if (f->rings == 1) {
        ring_publish(f, 0, XEN_FRONTEND);
        return;
    }
    xen_store(f, XEN_FRONTEND, "multi-queue-num-queues", "%u", f->rings);
    for (int i = 0; i < f->rings; i++) {
        g_autofree char *dir = g_strdup_printf("%s/queue-%d", XEN_FRONTEND, i);

        ring_publish(f, i, dir);
    }
}

void xen_disconnect(XenFrontend *f)
{
    xen_state(f, XB_CLOSING);
    xen_state(f, XB_CLOSED);
    unpublish(f);
}

void xen_connect(XenFrontend *f, unsigned how)
{
    static const unsigned orders[] = { 0, 1, 2, 4 };
    unsigned max = xen_number(f, XEN_BACKEND, "multi-queue-max-queues");

    xen_disconnect(f);
    xen_state(f, XB_INITIALISING);
    f->rings = MIN(1 + (how & 3), MAX(max, 1));
    f->abi = &abis[how >> 2 & 1];
    f->order = orders[how >> 3 & 3];
    xen_store(f, XEN_FRONTEND, "protocol", "%s", f->abi->protocol);
    xen_store(f, XEN_FRONTEND, "feature-persistent", "%u", how >> 5 & 1);
    xen_store(f, XEN_FRONTEND, "feature-large-sector-size", "%u",
              how >> 6 & 1);
    publish(f);
    xen_state(f, XB_INITIALISED);
    xen_state(f, XB_CONNECTED);
}

/*
 * Grants
 */

static Grant *grant(unsigned ref)
{
    return (Grant *)xen_page(XEN_TABLE_FRAME) + ref;
}

void xen_grants_begin(void)
{
    for (int i = XEN_RING_FRAME(0); i < XEN_FRAMES; i++) {
        *grant(i) = (Grant) { GTF_PERMIT, 0, i };
    }
    xen_standin_gnttab_set_limit(UINT64_MAX);
}

void xen_grants_check(void)
{
    XenStandinGrantStats stats;

    xen_standin_gnttab_get_stats(&stats);
    assert(!stats.mapped);
    assert(!stats.areas);
    for (int i = 0; i < XEN_FRAMES; i++) {
        assert(!(qatomic_read(&grant(i)->flags) & GTF_USED));
    }
}

/* Only Xen changes the marks of use, so they stay. */
void xen_grant_change(void *target, FuzzInput *in)
{
    Grant *entry = grant(fuzz_below(in, XEN_FRAMES));
    uint16_t used = qatomic_read(&entry->flags) & GTF_USED;

    switch (fuzz_below(in, 4)) {
    case 0:
        qatomic_set(&entry->flags, used | GTF_PERMIT);
        break;
    case 1:
        qatomic_set(&entry->flags, used | GTF_PERMIT | GTF_READONLY);
        break;
    case 2:
        qatomic_set(&entry->flags, used);
        break;
    case 3:
        if (!used) {
            entry->frame = fuzz_take(in, 2);
        }
        break;
    }
}
