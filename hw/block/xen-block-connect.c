/*
 * Xen PV disk: the negotiation with a frontend
 *
 *     backend offers                    frontend chooses
 *     max-ring-page-order            >= ring-page-order        (absent: 0)
 *     multi-queue-max-queues         >= multi-queue-num-queues (absent: 1)
 *     feature-persistent                feature-persistent
 *     feature-max-indirect-segments     (no key, it just sends them)
 *     sectors, of 512 bytes             feature-large-sector-size:
 *                                       of sector-size bytes
 *                                       protocol
 *
 * One queue:     ring-ref or ring-ref0.., event-channel
 * Several:       queue-N/ring-ref or queue-N/ring-ref0.., queue-N/event-channel
 *
 * The frontend's keys are read into a XenBlockFrontend and checked there.
 * Nothing is mapped or bound before all keys are known to be valid.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/xen/interface/io/protocols.h"
#include "qemu/timer.h"
#include "xen-block.h"
#include "trace/trace-hw_block.h"
#include "trace/trace-qemu_mq_hw_block.h"

/* Linux's backend keeps as many for each queue. */
#define MAX_PERSISTENT_GRANTS 1056

/* Of what the domain may keep, for one disk with several queues. */
#define DISK_SHARE(grants) ((grants) / 4)

typedef struct XenBlockFrontend {
    XenBlkifProtocol protocol;
    bool persistent;
    uint32_t sector_size;       /* bytes that it calls a sector */
    unsigned num_queues;
    unsigned nr_pages;          /* of each queue's ring */
    bool numbered_refs;         /* ring-ref0 rather than ring-ref */
    uint32_t *grefs;            /* @num_queues times @nr_pages */
    uint32_t *event_channels;   /* @num_queues */
} XenBlockFrontend;

/* A decimal number and nothing else; -ENOENT if there is no such key. */
static int frontend_get(XenBlockDevice *blockdev, const char *key,
                        uint32_t *value, Error **errp)
{
    char *str = xen_device_frontend_read(XEN_DEVICE(blockdev), key);
    unsigned v;
    int ret;

    if (!str) {
        return -ENOENT;
    }
    ret = g_ascii_isdigit(*str) ? qemu_strtoui(str, NULL, 10, &v) : -EINVAL;
    if (ret < 0) {
        error_setg(errp, "cannot make sense of %s \"%.32s\"", key, str);
    } else {
        *value = v;
    }
    free(str);
    return ret;
}

static bool frontend_get_optional(XenBlockDevice *blockdev, const char *key,
                                  uint32_t fallback, uint32_t *value,
                                  Error **errp)
{
    int ret = frontend_get(blockdev, key, value, errp);

    if (ret == -ENOENT) {
        *value = fallback;
        ret = 0;
    }
    return ret == 0;
}

static bool frontend_get_required(XenBlockDevice *blockdev, const char *key,
                                  uint32_t *value, Error **errp)
{
    int ret = frontend_get(blockdev, key, value, errp);

    if (ret == -ENOENT) {
        error_setg(errp, "failed to read %s", key);
    }
    return ret == 0;
}

/* A feature flag that is anything but 1 is taken for absent. */
static bool frontend_has_feature(XenBlockDevice *blockdev, const char *key)
{
    uint32_t value = 0;

    return frontend_get(blockdev, key, &value, NULL) == 0 && value == 1;
}

static XenBlkifProtocol frontend_get_protocol(XenBlockDevice *blockdev)
{
    char *str = xen_device_frontend_read(XEN_DEVICE(blockdev), "protocol");
    XenBlkifProtocol protocol = XEN_BLKIF_NATIVE;

    if (!str) {
        /* A guest too old to tell is a 32-bit one, where there are such. */
        if (object_dynamic_cast(OBJECT(qdev_get_machine()), "x86-machine")) {
            protocol = XEN_BLKIF_X86_32;
        }
        return protocol;
    }
    if (!strcmp(str, XEN_IO_PROTO_ABI_X86_32)) {
        protocol = XEN_BLKIF_X86_32;
    } else if (!strcmp(str, XEN_IO_PROTO_ABI_X86_64)) {
        protocol = XEN_BLKIF_X86_64;
    }
    free(str);
    return protocol;
}

static bool frontend_read_ring_order(XenBlockDevice *blockdev,
                                     XenBlockFrontend *fe, Error **errp)
{
    uint32_t max = qemu_xen_gnttab_can_map_multi() ?
                   blockdev->props.max_ring_page_order : 0;
    uint32_t order = 0;
    int ret = frontend_get(blockdev, "ring-page-order", &order, errp);

    if (ret == -EINVAL || ret == -ERANGE) {
        return false;
    }
    if (order > max) {
        error_setg(errp, "invalid ring-page-order (%u)", order);
        return false;
    }
    fe->nr_pages = 1u << order;
    fe->numbered_refs = ret == 0;
    return true;
}

static bool frontend_read_queues(XenBlockDevice *blockdev,
                                 XenBlockFrontend *fe, Error **errp)
{
    unsigned max = blockdev->props.num_queues;
    uint32_t n;

    if (!frontend_get_optional(blockdev, "multi-queue-num-queues", 1, &n,
                               errp)) {
        return false;
    }
    if (n == 0 || n > max) {
        error_setg(errp, "invalid multi-queue-num-queues (%u), not from 1 to "
                   "%u", n, max);
        return false;
    }
    fe->num_queues = n;
    return true;
}

static bool frontend_read_ring(XenBlockDevice *blockdev, XenBlockFrontend *fe,
                               unsigned index, Error **errp)
{
    g_autofree char *dir = fe->num_queues == 1 ? g_strdup("")
                         : g_strdup_printf("queue-%u/", index);
    g_autofree char *channel = g_strconcat(dir, "event-channel", NULL);
    g_autofree char *ref = g_strconcat(dir, "ring-ref", NULL);
    uint32_t *grefs = &fe->grefs[index * fe->nr_pages];
    uint32_t alone;

    /* blkif.h, note 6: one page may be spelt without a number */
    if (fe->nr_pages == 1 &&
        (!fe->numbered_refs ||
         frontend_get(blockdev, ref, &alone, NULL) == 0)) {
        if (!frontend_get_required(blockdev, ref, grefs, errp)) {
            return false;
        }
    } else {
        for (unsigned i = 0; i < fe->nr_pages; i++) {
            g_autofree char *key = g_strdup_printf("%s%u", ref, i);

            if (!frontend_get_required(blockdev, key, &grefs[i], errp)) {
                return false;
            }
        }
    }
    return frontend_get_required(blockdev, channel, &fe->event_channels[index],
                                 errp);
}

static void frontend_clear(XenBlockFrontend *fe)
{
    g_free(fe->grefs);
    g_free(fe->event_channels);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XenBlockFrontend, frontend_clear)

/*
 * blkif.h has sectors of 512 bytes everywhere, whatever sector-size says.
 * From 2019 to 2024 it had them of sector-size bytes for frontends with this
 * key, which the Windows driver still is.
 */
static uint32_t frontend_get_sector_size(XenBlockDevice *blockdev)
{
    return frontend_has_feature(blockdev, "feature-large-sector-size") ?
           blockdev->props.conf.logical_block_size : XEN_BLKIF_SECTOR_SIZE;
}

static bool frontend_read(XenBlockDevice *blockdev, XenBlockFrontend *fe,
                          Error **errp)
{
    if (!frontend_read_ring_order(blockdev, fe, errp) ||
        !frontend_read_queues(blockdev, fe, errp)) {
        return false;
    }
    fe->protocol = frontend_get_protocol(blockdev);
    fe->sector_size = frontend_get_sector_size(blockdev);
    fe->persistent = blockdev->persistent_grants &&
                     frontend_has_feature(blockdev, "feature-persistent");
    fe->grefs = g_new(uint32_t, fe->num_queues * fe->nr_pages);
    fe->event_channels = g_new(uint32_t, fe->num_queues);
    for (unsigned i = 0; i < fe->num_queues; i++) {
        if (!frontend_read_ring(blockdev, fe, i, errp)) {
            return false;
        }
    }
    return true;
}

/*
 * Two queues that read far ahead keep all their pages, as they do with Linux's
 * backend.  A disk with many queues leaves some grants to the domain's other
 * disks.
 */
static unsigned default_grants(unsigned num_queues, unsigned for_domain)
{
    return MIN(num_queues * MAX_PERSISTENT_GRANTS,
               MAX(MAX_PERSISTENT_GRANTS, DISK_SHARE(for_domain)));
}

/* Set the disk's budget.  Return how many grants its queues may keep. */
static unsigned set_budget(XenBlockDevice *blockdev,
                           const XenBlockFrontend *fe)
{
    XenBlockBudget *parent = &blockdev->disk.domain->budget;
    unsigned *limit = blockdev->disk.budget.limit;

    blockdev->disk.budget.parent = parent;
    /* Forget a refusal that is older than this connection. */
    xen_block_budget_was_refused(&blockdev->disk.budget);
    limit[XEN_BLOCK_AREAS] = parent->limit[XEN_BLOCK_AREAS];
    limit[XEN_BLOCK_BUFFER_PAGES] = parent->limit[XEN_BLOCK_BUFFER_PAGES];
    limit[XEN_BLOCK_GRANTS] = 0;
    if (fe->persistent) {
        unsigned for_domain = parent->limit[XEN_BLOCK_GRANTS];

        limit[XEN_BLOCK_GRANTS] =
            MIN(blockdev->props.max_persistent_grants ?:
                default_grants(fe->num_queues, for_domain), for_domain);
    }
    return limit[XEN_BLOCK_GRANTS];
}

static bool create_queues(XenBlockDevice *blockdev, const XenBlockFrontend *fe,
                          Error **errp)
{
    ERRP_GUARD();
    XenBlockRingParams params = {
        .domid = XEN_DEVICE(blockdev)->frontend_id,
        .protocol = fe->protocol,
        .nr_pages = fe->nr_pages,
        .max_persistent = set_budget(blockdev, fe),
        .batch_copies = blockdev->props.batch_copies,
    };
    XenBlockQueue *queues;

    queues = block_queue_device_alloc(&blockdev->common, fe->num_queues,
                                      sizeof(XenBlockQueue));
    for (unsigned i = 0; i < fe->num_queues; i++) {
        params.event_channel = fe->event_channels[i];
        params.grefs = &fe->grefs[i * fe->nr_pages];
        if (!xen_block_queue_init(&queues[i], i, queue_iothreads_context(
                                      &blockdev->common.map, i),
                                  &blockdev->disk, &params, errp)) {
            return false;
        }
        blockdev->common.num_queues++;
    }
    return true;
}

/* This polls, after block_queue_device_free() has taken the queues away. */
static void destroy_queue(BlockQueue *queue)
{
    xen_block_queue_cleanup(container_of(queue, XenBlockQueue, common));
}

void xen_block_connect(XenBlockDevice *blockdev, Error **errp)
{
    ERRP_GUARD();
    const XenVdev *vdev = &blockdev->props.vdev;
    BlockQueueDevice *common = &blockdev->common;
    BlockBackend *blk = blockdev->props.conf.blk;
    g_auto(XenBlockFrontend) fe = { 0 };

    trace_xen_block_connect(object_get_typename(OBJECT(blockdev)), vdev->disk,
                            vdev->partition);
    if (!frontend_read(blockdev, &fe, errp)) {
        error_prepend(errp, "%s: ", common->name);
        return;
    }
    /* Do this before state Connected, when frontends read the size. */
    xen_block_set_sector_size(blockdev, fe.sector_size);
    block_queue_device_set_state(common, BLOCK_QUEUE_DEVICE_STARTING);
    if (!create_queues(blockdev, &fe, errp)) {
        block_queue_device_free(common, destroy_queue);
        block_queue_device_set_state(common, BLOCK_QUEUE_DEVICE_STOPPED);
        return;
    }
    trace_xen_block_negotiated(common->name, fe.num_queues, fe.nr_pages,
                               fe.protocol, fe.persistent);

    xen_block_tick_queues(blockdev);

    /* From now on a drain quiesces the queues; this one has begun before. */
    if (blk_in_drain(blk)) {
        block_queue_device_quiesce_begin(common);
    }
    block_queue_device_set_state(common, BLOCK_QUEUE_DEVICE_NOTIFIERS);
    /* This polls: drains may begin and end, or a handler may disconnect. */
    block_queue_device_place_node(common);

    xen_block_start_queues(blockdev);
}

void xen_block_disconnect(XenBlockDevice *blockdev)
{
    const XenVdev *vdev = &blockdev->props.vdev;
    BlockQueueDevice *common = &blockdev->common;

    trace_xen_block_disconnect(object_get_typename(OBJECT(blockdev)),
                               vdev->disk, vdev->partition);
    /* The calls below poll, so another call of this may come meanwhile. */
    if (common->state == BLOCK_QUEUE_DEVICE_NOTIFIERS) {
        block_queue_device_set_state(common, BLOCK_QUEUE_DEVICE_STOPPING);
    } else if (common->state != BLOCK_QUEUE_DEVICE_STOPPING) {
        return;
    }
    block_queue_device_quiesce(common);
    timer_del(blockdev->tick_timer);
    block_queue_device_free(common, destroy_queue);
    block_queue_device_release_node(common);
    if (common->state == BLOCK_QUEUE_DEVICE_STOPPING) {
        block_queue_device_set_state(common, BLOCK_QUEUE_DEVICE_STOPPED);
    }
}

void xen_block_offer(XenBlockDevice *blockdev)
{
    XenDevice *xendev = XEN_DEVICE(blockdev);
    const XenBlockConf *props = &blockdev->props;

    if (blk_get_flags(props->conf.blk) & BDRV_O_UNMAP) {
        xen_device_backend_printf(xendev, "feature-discard", "%u", 1);
        xen_device_backend_printf(xendev, "discard-granularity", "%u",
                                  props->conf.discard_granularity);
        xen_device_backend_printf(xendev, "discard-alignment", "%u", 0);
    }
    xen_device_backend_printf(xendev, "feature-flush-cache", "%u", 1);
    if (props->write_barriers) {
        xen_device_backend_printf(xendev, "feature-barrier", "%u", 1);
    }
    if (blockdev->persistent_grants) {
        xen_device_backend_printf(xendev, "feature-persistent", "%u", 1);
    }
    if (props->max_indirect_segments) {
        xen_device_backend_printf(xendev, "feature-max-indirect-segments",
                                  "%u", props->max_indirect_segments);
    }
    if (qemu_xen_gnttab_can_map_multi()) {
        xen_device_backend_printf(xendev, "max-ring-page-order", "%u",
                                  props->max_ring_page_order);
    }
    if (props->num_queues > 1) {
        xen_device_backend_printf(xendev, "multi-queue-max-queues", "%u",
                                  props->num_queues);
    }
}
