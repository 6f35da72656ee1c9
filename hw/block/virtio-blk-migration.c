/*
 * virtio-blk: the state that a migration sends
 *
 *    VirtIODevice's state (ring positions handed over in pre_save)
 *    { 1, [queue], element }...   requests held by werror/rerror=stop
 *    0
 *
 * The stream is that of QEMU 10.0, in both directions.  A VirtQueueElement has
 * guest physical addresses.  A chain of vring.h does not keep them, so they are
 * computed from the view that maps the chain.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "migration/qemu-file-types.h"
#include "virtio-blk-control.h"

int virtio_blk_pre_save(void *opaque)
{
    VirtIOBlock *s = opaque;
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    /*
     * The stream has no room for requests that were answered behind a failed
     * one and wait for it, so the target would never answer any of them.
     */
    if (virtio_vdev_has_feature(vdev, VIRTIO_F_IN_ORDER) &&
        virtio_blk_any_held(s)) {
        error_report("%s: a failed request cannot be migrated with in_order; "
                     "let the VM go on first", s->common.name);
        return -EBUSY;
    }
    /* Queues of a stopped VM have stopped and handed over already. */
    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        VirtIOBlkQueue *q = virtio_blk_get_queue(s, i);

        if (virtio_blk_queue_is_native(q)) {
            vring_store_to_vdev(&q->ring, vdev, i);
        }
    }
    return 0;
}

static void save_request(VirtIODevice *vdev, QEMUFile *f,
                         VirtIOBlkRequest *req)
{
    const VRingChain *chain = &req->chain;
    struct iovec *iov = chain->iov;
    g_autofree hwaddr *addr = g_new(hwaddr, chain->out_num + chain->in_num);
    VirtQueueElement elem = {
        .index = chain->id,
        .ndescs = chain->ndescs,
        .out_num = chain->out_num,
        .in_num = chain->in_num,
        .out_addr = addr,
        .in_addr = addr + chain->out_num,
        .out_sg = iov,
        .in_sg = iov + chain->out_num,
    };

    if (req->elem) {
        qemu_put_virtqueue_element(vdev, f, req->elem);
        return;
    }
    for (unsigned i = 0; i < chain->out_num + chain->in_num; i++) {
        addr[i] = vring_chain_address(chain, i);
    }
    qemu_put_virtqueue_element(vdev, f, &elem);
}

void virtio_blk_save_device(VirtIODevice *vdev, QEMUFile *f)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    for (unsigned i = 0; i < s->conf.num_queues; i++) {
        VirtIOBlkRequest *req = virtio_blk_get_queue(s, i)->held;

        for (; req; req = req->next) {
            qemu_put_sbyte(f, 1);
            if (s->conf.num_queues > 1) {
                qemu_put_be32(f, i);
            }
            save_request(vdev, f, req);
        }
    }
    qemu_put_sbyte(f, 0);
}

/*
 * Check how many entries of the ring an element fills.  The stream has this
 * number only with packed=on.  Then it is 1 for an element of a split ring.
 */
static bool check_ndescs(VirtIOBlkQueue *q, VirtQueueElement *elem)
{
    if (!virtio_host_has_feature(q->vdev, VIRTIO_F_RING_PACKED)) {
        elem->ndescs = 1;
    }
    if (!elem->ndescs ||
        elem->ndescs > virtio_queue_get_num(q->vdev, q->common.index)) {
        error_report("%s: failed request has %u descriptors", q->common.name,
                     elem->ndescs);
        return false;
    }
    return true;
}

/* The stream begins with what failed last, and so does q->held. */
static int load_request(VirtIOBlkQueue *q, VirtQueueElement *elem)
{
    VirtIOBlkRequest **last = &q->held;
    unsigned n = elem->out_num + elem->in_num;
    g_autofree struct iovec *iov = g_new(struct iovec, n);
    VirtIOBlkRequest *req = block_slab_get(&q->requests);

    if (!req) {
        error_report("%s: more failed requests than the queue has entries",
                     q->common.name);
        return -EINVAL;
    }
    memcpy(iov, elem->out_sg, elem->out_num * sizeof(*iov));
    memcpy(iov + elem->out_num, elem->in_sg, elem->in_num * sizeof(*iov));
    req->chain = (VRingChain) {
        .id = elem->index,
        .ndescs = elem->ndescs,
        .out_num = elem->out_num,
        .in_num = elem->in_num,
        .out_len = iov_size(elem->out_sg, elem->out_num),
        .in_len = iov_size(elem->in_sg, elem->in_num),
        .iov = iov,
    };
    virtio_blk_request_init(req, q, elem);
    while (*last) {
        last = &(*last)->next;
    }
    req->next = NULL;
    *last = req;
    return 0;
}

int virtio_blk_load_device(VirtIODevice *vdev, QEMUFile *f, int version_id)
{
    VirtIOBlock *s = VIRTIO_BLK(vdev);

    while (qemu_get_sbyte(f)) {
        unsigned i = s->conf.num_queues > 1 ? qemu_get_be32(f) : 0;
        VirtQueueElement *elem;
        VirtIOBlkQueue *q;
        int ret;

        if (i >= s->conf.num_queues) {
            error_report("%s: invalid virtqueue index in request list: 0x%x",
                         s->common.name, i);
            return -EINVAL;
        }
        elem = qemu_get_virtqueue_element(vdev, f, sizeof(VirtQueueElement));
        q = virtio_blk_get_queue(s, i);
        ret = check_ndescs(q, elem) ? load_request(q, elem) : -EINVAL;
        if (ret < 0) {
            virtqueue_detach_element(q->vq, elem, 0);
            g_free(elem);
            return ret;
        }
    }
    return 0;
}
