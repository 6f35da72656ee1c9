/*
 * virtio-blk: zone commands
 *
 *    report   zones from a sector on, as many as the driver's buffer holds
 *    manage   open, close, finish, reset one zone; reset all
 *    append   write at a zone's write pointer, tell where that was
 *
 * VIRTIO 1.2, 5.2.6.  All run in the request's coroutine, so that a report of
 * many zones is a plain loop.  They are rare and may allocate.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int-common.h"
#include "qemu/coroutine.h"
#include "system/block-backend-io.h"
#include "virtio-blk-request.h"
#include "trace/trace-hw_block.h"

/* The block layer is asked for so many zones at a time. */
#define ZONE_REPORT_BATCH 4096

/* Return VIRTIO_BLK_S_OK if the driver may use @len bytes at @offset. */
static uint8_t zone_check_range(VirtIOBlock *s, int64_t offset, int64_t len)
{
    BlockDriverState *bs = blk_bs(s->blk);
    int64_t capacity;

    /*
     * The node may have gone since realize (drive_del), or another may be in
     * its place (a mirror that has completed).
     */
    if (!virtio_has_feature(s->host_features, VIRTIO_BLK_F_ZONED) || !bs ||
        bs->bl.zoned == BLK_Z_NONE) {
        return VIRTIO_BLK_S_UNSUPP;
    }
    capacity = bs->total_sectors << BDRV_SECTOR_BITS;
    if (offset < 0 || len < 0 || len > capacity || offset > capacity - len) {
        return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    return VIRTIO_BLK_S_OK;
}

static uint8_t zone_check_append(VirtIOBlock *s, int64_t offset, int64_t len)
{
    BlockDriverState *bs = blk_bs(s->blk);
    /* Even an append of 0 bytes has to name a zone that exists. */
    uint8_t status = zone_check_range(s, offset, MAX(len, 1));

    if (status != VIRTIO_BLK_S_OK) {
        return status;
    }
    if (bs->bl.write_granularity && offset % bs->bl.write_granularity) {
        return VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
    }
    if (BDRV_ZT_IS_CONV(bs->wps->wp[offset / bs->bl.zone_size])) {
        return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    if (len >> BDRV_SECTOR_BITS > bs->bl.max_append_sectors) {
        return bs->bl.max_append_sectors ? VIRTIO_BLK_S_ZONE_INVALID_CMD
                                         : VIRTIO_BLK_S_UNSUPP;
    }
    return VIRTIO_BLK_S_OK;
}

static uint8_t zone_type_to_virtio(BlockZoneType type)
{
    switch (type) {
    case BLK_ZT_SWR:
        return VIRTIO_BLK_ZT_SWR;
    case BLK_ZT_SWP:
        return VIRTIO_BLK_ZT_SWP;
    default:
        return VIRTIO_BLK_ZT_CONV;
    }
}

static uint8_t zone_state_to_virtio(BlockZoneState state)
{
    static const uint8_t map[] = {
        [BLK_ZS_NOT_WP] = VIRTIO_BLK_ZS_NOT_WP,
        [BLK_ZS_EMPTY]  = VIRTIO_BLK_ZS_EMPTY,
        [BLK_ZS_IOPEN]  = VIRTIO_BLK_ZS_IOPEN,
        [BLK_ZS_EOPEN]  = VIRTIO_BLK_ZS_EOPEN,
        [BLK_ZS_CLOSED] = VIRTIO_BLK_ZS_CLOSED,
        [BLK_ZS_RDONLY] = VIRTIO_BLK_ZS_RDONLY,
        [BLK_ZS_FULL]   = VIRTIO_BLK_ZS_FULL,
    };

    return state < ARRAY_SIZE(map) ? map[state] : VIRTIO_BLK_ZS_OFFLINE;
}

static void zone_to_virtio(const BlockZoneDescriptor *zone,
                           struct virtio_blk_zone_descriptor *desc)
{
    memset(desc, 0, sizeof(*desc));
    desc->z_cap = cpu_to_le64(zone->cap >> BDRV_SECTOR_BITS);
    desc->z_start = cpu_to_le64(zone->start >> BDRV_SECTOR_BITS);
    desc->z_wp = cpu_to_le64(zone->wp >> BDRV_SECTOR_BITS);
    desc->z_type = zone_type_to_virtio(zone->type);
    desc->z_state = zone_state_to_virtio(zone->state);
}

static uint8_t coroutine_fn zone_report(VirtIOBlkRequest *req,
                                        const char **fault)
{
    VirtIOBlkQueue *q = req->queue;
    int64_t offset = req->sector << BDRV_SECTOR_BITS;
    struct virtio_blk_zone_report header = {};
    struct virtio_blk_zone_descriptor desc;
    g_autofree BlockZoneDescriptor *zones = NULL;
    size_t pos = sizeof(header);
    uint64_t room, done = 0;
    uint8_t status;

    if (req->qiov.size < sizeof(header) + sizeof(desc)) {
        *fault = "buffer is too small for a zone report";
        return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    status = zone_check_range(q->dev, offset, 0);
    if (status != VIRTIO_BLK_S_OK) {
        return status;
    }
    room = (req->qiov.size - sizeof(header)) / sizeof(desc);
    trace_virtio_blk_handle_zone_report(q->vdev, req, req->sector, room);
    zones = g_new(BlockZoneDescriptor, MIN(room, ZONE_REPORT_BATCH));

    while (done < room) {
        unsigned want = MIN(room - done, ZONE_REPORT_BATCH);
        unsigned got = want;
        int ret = blk_co_zone_report(q->blk, offset, &got, zones);

        trace_virtio_blk_zone_report_complete(q->vdev, req, got, ret);
        if (ret < 0) {
            return VIRTIO_BLK_S_ZONE_INVALID_CMD;
        }
        for (unsigned i = 0; i < got; i++) {
            zone_to_virtio(&zones[i], &desc);
            qemu_iovec_from_buf(&req->qiov, pos, &desc, sizeof(desc));
            pos += sizeof(desc);
        }
        done += got;
        if (got < want) {
            break;
        }
        offset = zones[got - 1].start + zones[got - 1].length;
    }
    header.nr_zones = cpu_to_le64(done);
    qemu_iovec_from_buf(&req->qiov, 0, &header, sizeof(header));
    return VIRTIO_BLK_S_OK;
}

static uint8_t coroutine_fn zone_manage(VirtIOBlkRequest *req, BlockZoneOp op,
                                        bool all)
{
    VirtIOBlkQueue *q = req->queue;
    BlockDriverState *bs = blk_bs(q->blk);
    int64_t offset = all ? 0 : req->sector << BDRV_SECTOR_BITS;
    int64_t capacity, len;
    uint8_t status;
    int ret;

    status = zone_check_range(q->dev, offset, 0);
    if (status != VIRTIO_BLK_S_OK) {
        return status;
    }
    capacity = bs->total_sectors << BDRV_SECTOR_BITS;
    len = all ? capacity : bs->bl.zone_size;
    if (!all && offset < capacity && len > capacity - offset) {
        /* The last zone may be smaller than the others. */
        len = capacity - (int64_t)bs->bl.zone_size * (bs->bl.nr_zones - 1);
    }
    if (all) {
        trace_virtio_blk_handle_zone_reset_all(q->vdev, req, 0,
                                               bs->total_sectors);
    } else {
        trace_virtio_blk_handle_zone_mgmt(q->vdev, req, op,
                                          offset >> BDRV_SECTOR_BITS,
                                          len >> BDRV_SECTOR_BITS);
    }
    status = zone_check_range(q->dev, offset, len);
    if (status != VIRTIO_BLK_S_OK) {
        return status;
    }
    ret = blk_co_zone_mgmt(q->blk, op, offset, len);
    trace_virtio_blk_zone_mgmt_complete(q->vdev, req, ret);
    return ret < 0 ? VIRTIO_BLK_S_ZONE_INVALID_CMD : VIRTIO_BLK_S_OK;
}

static uint8_t coroutine_fn zone_append(VirtIOBlkRequest *req,
                                        const char **fault)
{
    VirtIOBlkQueue *q = req->queue;
    VRingChain *chain = &req->chain;
    int64_t offset = req->sector << BDRV_SECTOR_BITS;
    uint64_t sector;
    uint8_t status;
    int ret;

    trace_virtio_blk_handle_zone_append(q->vdev, req, req->sector);
    status = zone_check_append(q->dev, offset, req->qiov.size);
    if (status != VIRTIO_BLK_S_OK) {
        return status;
    }
    /* The sector comes back in front of the status byte. */
    if (chain->in_len - 1 < sizeof(sector)) {
        *fault = "buffer is too small for the sector of a zone append";
        return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    block_acct_start(blk_get_stats(q->blk), &req->acct, req->qiov.size,
                     BLOCK_ACCT_ZONE_APPEND);
    ret = blk_co_zone_append(q->blk, &offset, &req->qiov, 0);
    if (ret < 0) {
        block_acct_failed(blk_get_stats(q->blk), &req->acct);
        return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    block_acct_done(blk_get_stats(q->blk), &req->acct);
    virtio_stq_p(q->vdev, &sector, offset >> BDRV_SECTOR_BITS);
    iov_from_buf(chain->iov + chain->out_num, chain->in_num, 0, &sector,
                 sizeof(sector));
    trace_virtio_blk_zone_append_complete(q->vdev, req, sector, ret);
    return VIRTIO_BLK_S_OK;
}

uint8_t coroutine_fn virtio_blk_zone_command(VirtIOBlkRequest *req,
                                             const char **fault)
{
    switch (req->type & ~VIRTIO_BLK_T_BARRIER) {
    case VIRTIO_BLK_T_ZONE_REPORT:
    case VIRTIO_BLK_T_ZONE_REPORT | VIRTIO_BLK_T_OUT:
        return zone_report(req, fault);
    case VIRTIO_BLK_T_ZONE_APPEND:
        return zone_append(req, fault);
    case VIRTIO_BLK_T_ZONE_OPEN:
        return zone_manage(req, BLK_ZO_OPEN, false);
    case VIRTIO_BLK_T_ZONE_CLOSE:
        return zone_manage(req, BLK_ZO_CLOSE, false);
    case VIRTIO_BLK_T_ZONE_FINISH:
        return zone_manage(req, BLK_ZO_FINISH, false);
    case VIRTIO_BLK_T_ZONE_RESET:
        return zone_manage(req, BLK_ZO_RESET, false);
    case VIRTIO_BLK_T_ZONE_RESET_ALL:
        return zone_manage(req, BLK_ZO_RESET, true);
    default:
        /* A direction that the command does not have. */
        return VIRTIO_BLK_S_UNSUPP;
    }
}

void virtio_blk_zone_config(VirtIOBlock *s, struct virtio_blk_config *config)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    BlockDriverState *bs = blk_bs(s->blk);
    BlockLimits *bl;

    /* drive_del may have taken the node away under the device. */
    if (!bs || bs->bl.zoned == BLK_Z_NONE) {
        config->zoned.model = VIRTIO_BLK_Z_NONE;
        return;
    }
    bl = &bs->bl;
    config->zoned.model = bl->zoned == BLK_Z_HM ? VIRTIO_BLK_Z_HM
                                                : VIRTIO_BLK_Z_HA;
    virtio_stl_p(vdev, &config->zoned.zone_sectors,
                 bl->zone_size >> BDRV_SECTOR_BITS);
    virtio_stl_p(vdev, &config->zoned.max_active_zones, bl->max_active_zones);
    virtio_stl_p(vdev, &config->zoned.max_open_zones, bl->max_open_zones);
    virtio_stl_p(vdev, &config->zoned.write_granularity,
                 s->conf.conf.logical_block_size);
    virtio_stl_p(vdev, &config->zoned.max_append_sectors,
                 bl->max_append_sectors);
}
