/*
 * virtio-blk: requests beyond the end of the disk
 *
 *    request --- within the known capacity ------> block layer --- done
 *       |                                              |
 *       | beyond                                       | -EIO
 *       v                                              v
 *    ask the node ---- it has grown: submit      ask the node
 *       |                                              |
 *       +---- beyond: IOERR                            +-- beyond: IOERR
 *                                                      +-- else: rerror, werror
 *
 * The data path compares with a capacity that it can read without asking.
 * The node may have another one: it is replaced, reopened with other options,
 * or a host device changes its size.  So the node is asked when a request
 * seems to be beyond the end, and when one has failed.  The driver's mistake
 * never stops the VM, whatever rerror and werror say.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/block-backend-io.h"
#include "virtio-blk-request.h"

bool virtio_blk_range_ok(VirtIOBlock *s, uint64_t sector, uint64_t bytes)
{
    uint64_t count = bytes >> BDRV_SECTOR_BITS;
    uint64_t capacity = qatomic_read(&s->nb_sectors);

    return count <= BDRV_REQUEST_MAX_SECTORS &&
           !(sector & s->sector_mask) &&
           !(bytes & ((s->sector_mask << BDRV_SECTOR_BITS) |
                      (BDRV_SECTOR_SIZE - 1))) &&
           sector <= capacity && count <= capacity - sector;
}

uint64_t virtio_blk_capacity(const VirtIOBlock *s, int64_t length)
{
    return block_queue_device_capacity(
        length, s->conf.conf.logical_block_size) >> BDRV_SECTOR_BITS;
}

/* Written only when it is another one: all queues read it. */
void coroutine_fn virtio_blk_update_capacity(VirtIOBlock *s)
{
    uint64_t capacity = virtio_blk_capacity(s, blk_co_getlength(s->blk));

    if (capacity != qatomic_read(&s->nb_sectors)) {
        qatomic_set(&s->nb_sectors, capacity);
    }
}

bool coroutine_fn virtio_blk_request_is_beyond(VirtIOBlkRequest *req, int ret,
                                               uint64_t bytes)
{
    VirtIOBlock *s = req->queue->dev;

    if (ret != -EIO) {
        return false;
    }
    virtio_blk_update_capacity(s);
    return !virtio_blk_range_ok(s, req->sector, bytes);
}
