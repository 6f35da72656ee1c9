/*
 * A stand-in for the Xen hypervisor, for tests of the PV backends
 *
 *     test program: frontend driver and toolstack
 *        |  words over a chardev       |  guest memory     ^ eventfds
 *        v                             v                   v
 *     .--------------------------------------------------------.
 *     | control |    xenstore    |  grant table  |  event      |  hw/xen/
 *     |         |    watches     |  memory       |  channels   |  xen-standin*
 *     '--------------------------------------------------------'
 *                    the tables of xen_backend_ops.h
 *     .--------------------------------------------------------.
 *     | xen-bus, xen-disk, ...    as they run on a real Xen     |
 *     '--------------------------------------------------------'
 *
 * -device xen-standin, before any Xen device on the command line, fills the
 * tables and creates the bus.  It works on any machine and with any
 * accelerator, but not on a real Xen or with KVM's emulation of Xen.  There is
 * one guest domain, whose memory is the machine's RAM.  The domain runs no code
 * here; the test program does what its kernel would do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus.h"
#include "xen-standin.h"

static bool xen_standin_is_welcome(XenStandin *s, Error **errp)
{
    if (xen_mode != XEN_DISABLED) {
        error_setg(errp, "xen-standin cannot be used together with Xen or "
                   "its emulation");
        return false;
    }
    if (xen_evtchn_ops || xen_gnttab_ops || xen_foreignmem_ops ||
        xen_xenstore_ops) {
        error_setg(errp, "there can be only one xen-standin");
        return false;
    }
    if (s->domid == XEN_STANDIN_BACKEND_DOMID ||
        s->domid >= DOMID_FIRST_RESERVED) {
        error_setg(errp, "xen-standin: domid must be between 1 and %u",
                   DOMID_FIRST_RESERVED - 1);
        return false;
    }
    return true;
}

static void xen_standin_realize(DeviceState *dev, Error **errp)
{
    XenStandin *s = XEN_STANDIN(dev);

    if (!xen_standin_is_welcome(s, errp) || !xen_standin_memory_init(errp)) {
        return;
    }
    xen_domid = s->domid;
    xen_standin_xenstore_init(s->nested_watches);
    xen_standin_evtchn_init(s->domid);
    xen_standin_gnttab_init(s->domid, &s->limits);

    xen_evtchn_ops = &xen_standin_evtchn_ops;
    xen_gnttab_ops = &xen_standin_gnttab_ops;
    xen_foreignmem_ops = &xen_standin_foreignmem_ops;
    xen_xenstore_ops = &xen_standin_xenstore_ops;

    xen_bus_init();
    xen_standin_control_start(s);
}

static const Property xen_standin_properties[] = {
    DEFINE_PROP_CHR("chardev", XenStandin, chr),
    DEFINE_PROP_UINT16("domid", XenStandin, domid, 1),
    DEFINE_PROP_UINT32("nested-watches", XenStandin, nested_watches, 0),
    DEFINE_PROP_UINT32("max-grants", XenStandin, limits.grant_entries, 0),
    DEFINE_PROP_UINT32("max-maptrack", XenStandin, limits.maptrack_entries,
                       0),
    DEFINE_PROP_UINT32("max-areas", XenStandin, limits.areas, 0),
};

static void xen_standin_class_init(ObjectClass *klass, ClassInitData *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->desc = "Stand-in for the Xen hypervisor, for tests";
    dc->realize = xen_standin_realize;
    /* The backends keep handles of the stand-in as long as QEMU runs. */
    dc->hotpluggable = false;
    device_class_set_props(dc, xen_standin_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo xen_standin_info = {
    .name = TYPE_XEN_STANDIN,
    .parent = TYPE_DEVICE,
    .instance_size = sizeof(XenStandin),
    .class_init = xen_standin_class_init,
};

static void xen_standin_register_types(void)
{
    type_register_static(&xen_standin_info);
}

type_init(xen_standin_register_types)
