/*
 * Xen PV disk: disks that a toolstack asks for
 *
 *     toolstack writes                          we make
 *     backend/qdisk/DOM/NUMBER/
 *         params = "qcow2:/path"                node "xvda-qcow2" over a file
 *         mode, direct-io-safe, discard-enable  its options
 *         dev = "xvda"                          property vdev
 *         device-type = "disk"                  xen-disk, else xen-cdrom
 *                                               property iothreads=auto
 *
 * All of this is removed when the toolstack takes the directory away.
 * xen-block-failed.c handles a disk that cannot be made.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "qemu/cutils.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/visitor.h"
#include "block/qdict.h"
#include "qobject/qdict.h"
#include "xen-block.h"
#include "trace/trace-hw_block.h"

/* What is removed together with a device that was made for a toolstack */
typedef struct XenBlockToolstack {
    char *node_name;
} XenBlockToolstack;

static void node_delete(const char *node_name, Error **errp)
{
    trace_xen_block_blockdev_del(node_name);
    qmp_blockdev_del(node_name, errp);
}

static bool option_is_set(QDict *opts, const char *key)
{
    const char *str = qdict_get_try_str(opts, key);
    unsigned long value;

    return str && qemu_strtoul(str, NULL, 2, &value) == 0 && value;
}

/* "FORMAT:FILE", where two formats have names of their own, or just "FILE". */
static const char *split_params(const char *params, char **driver)
{
    const char *colon = strchr(params, ':');
    g_autofree char *format = NULL;

    if (!colon) {
        *driver = g_strdup("raw");
        return params;
    }
    format = g_strndup(params, colon - params);
    if (!strcmp(format, "aio")) {
        *driver = g_strdup("raw");
    } else if (!strcmp(format, "vhd")) {
        *driver = g_strdup("vpc");
    } else {
        *driver = g_steal_pointer(&format);
    }
    return colon + 1;
}

/* Return whether the host has io_uring and lets QEMU use it. */
static bool io_uring_works(void)
{
#ifndef CONFIG_LINUX_IO_URING
    return false;
#else
#if BASE_SINCE(10, 2)
    return aio_has_io_uring();
#else
    return aio_setup_linux_io_uring(qemu_get_aio_context(), NULL);
#endif
#endif
}

/* Return the options of blockdev-add, with keys such as "file.driver". */
static QDict *node_options(QDict *opts, const char *vdev, Error **errp)
{
    const char *params = qdict_get_try_str(opts, "params");
    const char *mode = qdict_get_try_str(opts, "mode");
    g_autofree char *driver = NULL;
    g_autofree char *node_name = NULL;
    const char *filename;
    struct stat st;
    QDict *node;

    if (!params) {
        error_setg(errp, "no params");
        return NULL;
    }
    filename = split_params(params, &driver);
    if (!*filename) {
        error_setg(errp, "no file, the drive is empty");
        return NULL;
    }
    if (stat(filename, &st) < 0) {
        error_setg_errno(errp, errno, "Could not stat file '%s'", filename);
        return NULL;
    }

    node = qdict_new();
    node_name = g_strdup_printf("%s-%s", vdev, driver);
    qdict_put_str(node, "driver", driver);
    qdict_put_str(node, "node-name", node_name);
    qdict_put_str(node, "file.driver",
                  S_ISBLK(st.st_mode) ? "host_device" : "file");
    qdict_put_str(node, "file.filename", filename);
    /* An emulated disk of the same guest may have the file open as well. */
    qdict_put_str(node, "file.locking", "off");
    if (mode && *mode != 'w') {
        /* Set both, because a writable node needs a writable file. */
        qdict_put_str(node, "read-only", "on");
        qdict_put_str(node, "file.read-only", "on");
    }
    if (option_is_set(opts, "direct-io-safe")) {
        qdict_put_str(node, "file.cache.direct", "on");
        qdict_put_str(node, "file.aio", "native");
    } else if (io_uring_works()) {
        /* With io_uring, data in the page cache needs no other thread. */
        qdict_put_str(node, "file.aio", "io_uring");
    }
    if (option_is_set(opts, "discard-enable")) {
        qdict_put_str(node, "file.discard", "unmap");
        qdict_put_str(node, "discard", "unmap");
    }
    return node;
}

/* Make a node.  Return its name, which the caller frees. */
static char *node_create(QDict *opts, const char *vdev, Error **errp)
{
    ERRP_GUARD();
    QDict *node = node_options(opts, vdev, errp);
    BlockdevOptions *options = NULL;
    char *node_name = NULL;
    Visitor *v;

    if (!node) {
        return NULL;
    }
    v = qobject_input_visitor_new_flat_confused(node, errp);
    if (v) {
        visit_type_BlockdevOptions(v, NULL, &options, errp);
        visit_free(v);
    }
    if (options) {
        trace_xen_block_blockdev_add(options->node_name);
        qmp_blockdev_add(options, errp);
        if (!*errp) {
            node_name = g_strdup(options->node_name);
        }
        qapi_free_BlockdevOptions(options);
    }
    qobject_unref(node);
    return node_name;
}

static const char *device_typename(const char *device_type, Error **errp)
{
    if (!device_type) {
        error_setg(errp, "no device-type parameter");
        return NULL;
    }
    if (!strcmp(device_type, "disk")) {
        return TYPE_XEN_DISK_DEVICE;
    }
    if (!strcmp(device_type, "cdrom")) {
        return TYPE_XEN_CDROM_DEVICE;
    }
    error_setg(errp, "invalid device-type parameter '%s'", device_type);
    return NULL;
}

static bool device_set(Object *dev, const char *property, const char *value,
                       Error **errp)
{
    ERRP_GUARD();

    if (!object_property_set_str(dev, property, value, errp)) {
        error_prepend(errp, "failed to set '%s': ", property);
        return false;
    }
    return true;
}

/* A realized device, or NULL and the node is still the caller's. */
static XenBlockDevice *device_create(XenBus *xenbus, const char *type,
                                     const char *vdev, char *node_name,
                                     Error **errp)
{
    ERRP_GUARD();
    XenBlockDevice *blockdev = XEN_BLOCK_DEVICE(qdev_new(type));
    Object *dev = OBJECT(blockdev);

    if (!device_set(dev, "vdev", vdev, errp) ||
        !device_set(dev, "drive", node_name, errp)) {
        goto fail;
    }
    /* A global property may have chosen already. */
    if (!queue_iothreads_wanted(&blockdev->props.iothreads) &&
        !device_set(dev, "iothreads", "auto", errp)) {
        goto fail;
    }
    if (!qdev_realize(DEVICE(dev), BUS(xenbus), errp)) {
        error_prepend(errp, "realization of device %s failed: ", type);
        goto fail;
    }
    blockdev->toolstack = g_new(XenBlockToolstack, 1);
    blockdev->toolstack->node_name = node_name;
    object_unref(dev); /* the bus has a reference */
    return blockdev;

fail:
    object_unparent(dev);
    object_unref(dev);
    return NULL;
}

static void toolstack_attach(XenBackendInstance *backend, QDict *opts,
                             Error **errp)
{
    ERRP_GUARD();
    const char *name = xen_backend_get_name(backend);
    const char *vdev = qdict_get_try_str(opts, "dev");
    const char *type;
    char *node_name;
    unsigned long number;
    XenBlockDevice *blockdev;

    if (qemu_strtoul(name, NULL, 10, &number)) {
        error_setg(errp, "failed to parse name '%s'", name);
        return;
    }
    trace_xen_block_device_create(number);
    if (!vdev) {
        error_setg(errp, "no dev parameter");
        return;
    }
    type = device_typename(qdict_get_try_str(opts, "device-type"), errp);
    if (!type) {
        return;
    }
    node_name = node_create(opts, vdev, errp);
    if (!node_name) {
        error_prepend(errp, "failed to create drive: ");
        return;
    }
    blockdev = device_create(xen_backend_get_bus(backend), type, vdev,
                             node_name, errp);
    if (!blockdev) {
        /* The device may still hold the node until then. */
        drain_call_rcu();
        node_delete(node_name, NULL);
        g_free(node_name);
        return;
    }
    xen_backend_set_device(backend, XEN_DEVICE(blockdev));
}

static void toolstack_create(XenBackendInstance *backend, QDict *opts,
                             Error **errp)
{
    ERRP_GUARD();

    toolstack_attach(backend, opts, errp);
    if (*errp) {
        xen_block_failed(backend, error_get_pretty(*errp));
    }
}

static void toolstack_destroy(XenBackendInstance *backend, Error **errp)
{
    ERRP_GUARD();
    XenBlockDevice *blockdev =
        XEN_BLOCK_DEVICE(xen_backend_get_device(backend));
    XenBlockToolstack *toolstack = g_steal_pointer(&blockdev->toolstack);

    trace_xen_block_device_destroy(blockdev->props.vdev.number);
    object_unparent(OBJECT(blockdev));
    /* The device lets go of its drive when it is finalized, after a grace. */
    drain_call_rcu();

    node_delete(toolstack->node_name, errp);
    if (*errp) {
        error_prepend(errp, "failed to destroy drive: ");
    }
    g_free(toolstack->node_name);
    g_free(toolstack);
}

static const XenBackendInfo toolstack_backend_info = {
    .type = "qdisk",
    .create = toolstack_create,
    .destroy = toolstack_destroy,
};

static void toolstack_register(void)
{
    xen_backend_register(&toolstack_backend_info);
}

xen_backend_init(toolstack_register);
