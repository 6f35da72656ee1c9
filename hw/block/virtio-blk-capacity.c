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
 * The data path compares with a copy of the capacity.  The node may have
 * another capacity, if it is replaced or reopened with other options, or if a
 * host device changes its size.  So the node is asked when a request seems to
 * be beyond the end, and when a request has failed.  A request beyond the end
 * is the driver's mistake.  It does not stop the VM, with any rerror or werror.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/block-backend-io.h"
#include "virtio-blk-request.h"

bool virtio_blk_range_ok(VirtIOBlock *s, uint64_t sector, uint64_t bytes)
{
    uint64_t count = bytes >> BDRV_SECTOR_BITS;
    uint64_t capacity = qatomic_read(&s->nr_sectors);

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

/* Write the capacity only if it changes, because all queues read it. */
void coroutine_fn virtio_blk_update_capacity(VirtIOBlock *s)
{
    uint64_t capacity = virtio_blk_capacity(s, blk_co_getlength(s->blk));

    if (capacity != qatomic_read(&s->nr_sectors)) {
        qatomic_set(&s->nr_sectors, capacity);
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
