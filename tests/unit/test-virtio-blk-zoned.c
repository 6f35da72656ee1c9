/*
 * Zone commands of virtio-blk on a disk made for them
 *
 *     request -> virtio-blk-zoned.c -> block layer -> driver "zones":
 *
 *     zone 0   conventional
 *     zone 1.. to be written in sequence; the last is half as long
 *
 * No image format has zones, and disks that have are rare.  The driver keeps
 * write pointers and states as such a disk does, and no data.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "block/block_int.h"
#include "system/block-backend.h"
#include "../../hw/block/virtio-blk-request.h"

#define ZONE (64 * KiB)
#define ZONES 8
#define SIZE (ZONE * ZONES - ZONE / 2)
#define GRANULARITY 4096
#define MAX_APPEND 32           /* sectors */

#define SECTOR(bytes) ((bytes) >> BDRV_SECTOR_BITS)
#define CONVENTIONAL BIT_ULL(63)

#define OK VIRTIO_BLK_S_OK
#define UNSUPP VIRTIO_BLK_S_UNSUPP
#define INVALID VIRTIO_BLK_S_ZONE_INVALID_CMD
#define UNALIGNED VIRTIO_BLK_S_ZONE_UNALIGNED_WP

static BlockZoneState state[ZONES];
static int append_error;

/* The last request that reached the disk, in bytes. */
static int64_t managed_offset, managed_len;
static BlockZoneOp managed_op;

static uint64_t zone_length(unsigned i)
{
    return MIN(ZONE, SIZE - i * ZONE);
}

static int64_t coroutine_fn GRAPH_RDLOCK
zones_co_getlength(BlockDriverState *bs)
{
    return SIZE;
}

static void zones_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.zoned = BLK_Z_HM;
    bs->bl.zone_size = ZONE;
    bs->bl.nr_zones = ZONES;
    bs->bl.max_append_sectors = MAX_APPEND;
    bs->bl.max_open_zones = 5;
    bs->bl.max_active_zones = 6;
    bs->bl.write_granularity = GRANULARITY;
}

static int coroutine_fn
zones_co_report(BlockDriverState *bs, int64_t offset, unsigned *nr_zones,
                BlockZoneDescriptor *zones)
{
    unsigned n = 0;

    for (unsigned i = offset / ZONE; i < ZONES && n < *nr_zones; i++, n++) {
        zones[n] = (BlockZoneDescriptor) {
            .start = i * ZONE,
            .length = zone_length(i),
            .cap = zone_length(i) - GRANULARITY,
            .wp = bs->wps->wp[i] & ~CONVENTIONAL,
            .type = i ? BLK_ZT_SWR : BLK_ZT_CONV,
            .state = state[i],
        };
    }
    *nr_zones = n;
    return 0;
}

static int coroutine_fn
zones_co_mgmt(BlockDriverState *bs, BlockZoneOp op, int64_t offset,
              int64_t len)
{
    managed_op = op;
    managed_offset = offset;
    managed_len = len;
    return offset / ZONE == 0 && len == ZONE ? -EIO : 0;
}

static int coroutine_fn
zones_co_append(BlockDriverState *bs, int64_t *offset, QEMUIOVector *qiov,
                BdrvRequestFlags flags)
{
    unsigned i = *offset / ZONE;

    if (append_error) {
        return append_error;
    }
    *offset = bs->wps->wp[i];
    bs->wps->wp[i] += qiov->size;
    return 0;
}

static BlockDriver zones_driver = {
    .format_name = "zones",
    .bdrv_co_getlength = zones_co_getlength,
    .bdrv_refresh_limits = zones_refresh_limits,
    .bdrv_co_zone_report = zones_co_report,
    .bdrv_co_zone_mgmt = zones_co_mgmt,
    .bdrv_co_zone_append = zones_co_append,
};

/* The parts of a device that a zone command uses */
typedef struct Fixture {
    VirtIOBlock dev;
    VirtIOBlkQueue *q;
    BlockDriverState *bs;
} Fixture;

static void setup(Fixture *f, const void *unused)
{
    f->bs = bdrv_new_open_driver(&zones_driver, "node", BDRV_O_RDWR,
                                 &error_abort);
    f->bs->wps = g_malloc(sizeof(BlockZoneWps) + ZONES * sizeof(uint64_t));
    for (unsigned i = 0; i < ZONES; i++) {
        f->bs->wps->wp[i] = i * ZONE;
        state[i] = i ? BLK_ZS_EMPTY : BLK_ZS_NOT_WP;
    }
    f->bs->wps->wp[0] |= CONVENTIONAL;
    append_error = 0;

    object_initialize(&f->dev, sizeof(f->dev), TYPE_VIRTIO_DEVICE);
    f->dev.blk = blk_new(qemu_get_aio_context(), 0, BLK_PERM_ALL);
    blk_insert_bs(f->dev.blk, f->bs, &error_abort);
    f->dev.host_features = BIT_ULL(VIRTIO_BLK_F_ZONED);
    f->dev.conf.conf.logical_block_size = 512;
    f->q = block_queue_alloc(1, sizeof(*f->q));
    f->q->dev = &f->dev;
    f->q->vdev = VIRTIO_DEVICE(&f->dev);
    f->q->blk = f->dev.blk;
}

static void teardown(Fixture *f, const void *unused)
{
    g_free(f->bs->wps);
    f->bs->wps = NULL;
    block_queue_free(f->q);
    blk_unref(f->dev.blk);
    bdrv_unref(f->bs);
    object_unref(OBJECT(&f->dev));
}

typedef struct Command {
    VirtIOBlkRequest *req;
    const char *fault;
    int status;
} Command;

static void coroutine_fn command_co(void *opaque)
{
    Command *c = opaque;

    c->status = virtio_blk_zone_command(c->req, &c->fault);
}

/* Run a command with data at @buf.  Return its status, or -1 for a fault. */
static int run(Fixture *f, uint32_t type, uint64_t sector, void *buf,
               size_t len, size_t in_len)
{
    uint8_t in[64] = {};
    struct iovec iov[] = {
        { buf, len },
        { in, in_len },
    };
    VirtIOBlkRequest req = {
        .queue = f->q,
        .type = type,
        .sector = sector,
        .qiov = QEMU_IOVEC_INIT_BUF(req.qiov, buf, len),
        .chain = { .iov = iov, .out_num = 1, .in_num = 1, .in_len = in_len },
    };
    Command c = { .req = &req, .status = INT_MAX };

    g_assert_cmpuint(in_len, <=, sizeof(in));
    qemu_coroutine_enter(qemu_coroutine_create(command_co, &c));
    while (c.status == INT_MAX) {
        aio_poll(qemu_get_aio_context(), true);
    }
    if (type == VIRTIO_BLK_T_ZONE_APPEND && c.status == OK) {
        /* Give the test the sector that the device has reported. */
        memcpy(buf, in, sizeof(uint64_t));
    }
    return c.fault ? -1 : c.status;
}

static int manage(Fixture *f, uint32_t type, uint64_t sector)
{
    managed_len = -1;
    return run(f, type, sector, NULL, 0, 1);
}

#define REPORT_SIZE(n) (sizeof(struct virtio_blk_zone_report) + \
                        (n) * sizeof(struct virtio_blk_zone_descriptor))

static void check_report(Fixture *f, unsigned first, unsigned room,
                         unsigned expected)
{
    size_t size = REPORT_SIZE(room);
    g_autofree struct virtio_blk_zone_report *report = g_malloc0(size + 8);

    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, SECTOR(first * ZONE),
                        report, size, 1), ==, OK);
    g_assert_cmpuint(le64_to_cpu(report->nr_zones), ==, expected);
    for (unsigned i = 0; i < expected; i++) {
        struct virtio_blk_zone_descriptor *z = &report->zones[i];
        unsigned zone = first + i;

        g_assert_cmpuint(le64_to_cpu(z->z_start), ==, SECTOR(zone * ZONE));
        g_assert_cmpuint(le64_to_cpu(z->z_cap), ==,
                         SECTOR(zone_length(zone) - GRANULARITY));
        g_assert_cmpuint(le64_to_cpu(z->z_wp), ==, SECTOR(zone * ZONE));
        g_assert_cmpuint(z->z_type, ==, zone ? VIRTIO_BLK_ZT_SWR
                                             : VIRTIO_BLK_ZT_CONV);
    }
    /* The device must write nothing behind the report. */
    for (size_t i = REPORT_SIZE(expected); i < size + 8; i++) {
        g_assert_cmpuint(((uint8_t *)report)[i], ==, 0);
    }
}

static void test_report(Fixture *f, const void *unused)
{
    check_report(f, 0, ZONES, ZONES);
    check_report(f, 0, ZONES + 5, ZONES);
    check_report(f, 3, 2, 2);
    check_report(f, ZONES - 1, 3, 1);
    check_report(f, 0, 1, 1);
}

static void test_report_states(Fixture *f, const void *unused)
{
    static const struct {
        BlockZoneState block;
        uint8_t virtio;
    } states[] = {
        { BLK_ZS_NOT_WP, VIRTIO_BLK_ZS_NOT_WP },
        { BLK_ZS_EMPTY, VIRTIO_BLK_ZS_EMPTY },
        { BLK_ZS_IOPEN, VIRTIO_BLK_ZS_IOPEN },
        { BLK_ZS_EOPEN, VIRTIO_BLK_ZS_EOPEN },
        { BLK_ZS_CLOSED, VIRTIO_BLK_ZS_CLOSED },
        { BLK_ZS_RDONLY, VIRTIO_BLK_ZS_RDONLY },
        { BLK_ZS_FULL, VIRTIO_BLK_ZS_FULL },
        { BLK_ZS_OFFLINE, VIRTIO_BLK_ZS_OFFLINE },
    };
    uint8_t buf[REPORT_SIZE(1)];
    struct virtio_blk_zone_report *report = (void *)buf;

    for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
        state[1] = states[i].block;
        g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, SECTOR(ZONE), buf,
                            sizeof(buf), 1), ==, OK);
        g_assert_cmpuint(report->zones[0].z_state, ==, states[i].virtio);
    }
}

static void test_report_bad(Fixture *f, const void *unused)
{
    uint8_t buf[REPORT_SIZE(1)];

    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, 0, buf, sizeof(buf) - 1,
                        1), ==, -1);
    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, 0, buf, 0, 1), ==, -1);
    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, SECTOR(SIZE) + 1, buf,
                        sizeof(buf), 1), ==, INVALID);
    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, UINT64_MAX >> 9, buf,
                        sizeof(buf), 1), ==, INVALID);
    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, UINT64_MAX, buf,
                        sizeof(buf), 1), ==, INVALID);
}

static void test_manage(Fixture *f, const void *unused)
{
    static const struct {
        uint32_t type;
        BlockZoneOp op;
    } commands[] = {
        { VIRTIO_BLK_T_ZONE_OPEN, BLK_ZO_OPEN },
        { VIRTIO_BLK_T_ZONE_CLOSE, BLK_ZO_CLOSE },
        { VIRTIO_BLK_T_ZONE_FINISH, BLK_ZO_FINISH },
        { VIRTIO_BLK_T_ZONE_RESET, BLK_ZO_RESET },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        for (unsigned zone = 1; zone < ZONES; zone++) {
            g_assert_cmpint(manage(f, commands[i].type, SECTOR(zone * ZONE)),
                            ==, OK);
            g_assert_cmpint(managed_op, ==, commands[i].op);
            g_assert_cmpint(managed_offset, ==, zone * ZONE);
            g_assert_cmpint(managed_len, ==, zone_length(zone));
        }
        /* The disk's refusal is the command's. */
        g_assert_cmpint(manage(f, commands[i].type, 0), ==, INVALID);
        /* A request outside the zones does not reach the disk. */
        g_assert_cmpint(manage(f, commands[i].type, SECTOR(SIZE)), ==,
                        INVALID);
        g_assert_cmpint(manage(f, commands[i].type, UINT64_MAX >> 9), ==,
                        INVALID);
        g_assert_cmpint(managed_len, ==, -1);
        /* Commands without data have one direction only. */
        g_assert_cmpint(manage(f, commands[i].type | VIRTIO_BLK_T_OUT,
                               SECTOR(ZONE)), ==, UNSUPP);
    }
    g_assert_cmpint(manage(f, VIRTIO_BLK_T_ZONE_RESET_ALL, 12345), ==, OK);
    g_assert_cmpint(managed_op, ==, BLK_ZO_RESET);
    g_assert_cmpint(managed_offset, ==, 0);
    g_assert_cmpint(managed_len, ==, SIZE);
}

static int append(Fixture *f, int64_t offset, size_t len, uint64_t *where)
{
    g_autofree uint8_t *buf = g_malloc0(MAX(len, sizeof(*where)));
    int status = run(f, VIRTIO_BLK_T_ZONE_APPEND, SECTOR(offset), buf, len,
                     sizeof(*where) + 1);

    if (where) {
        *where = ldq_le_p(buf);
    }
    return status;
}

static void test_append(Fixture *f, const void *unused)
{
    uint64_t where;

    for (unsigned i = 0; i < 3; i++) {
        for (unsigned zone = 1; zone < ZONES; zone++) {
            g_assert_cmpint(append(f, zone * ZONE, GRANULARITY, &where), ==,
                            OK);
            g_assert_cmpuint(where, ==, SECTOR(zone * ZONE + i * GRANULARITY));
        }
    }
    g_assert_cmpint(append(f, ZONE, MAX_APPEND * 512, &where), ==, OK);
}

static void test_append_bad(Fixture *f, const void *unused)
{
    uint8_t buf[512];

    g_assert_cmpint(append(f, 0, 512, NULL), ==, INVALID);
    g_assert_cmpint(append(f, ZONE + 512, 512, NULL), ==, UNALIGNED);
    g_assert_cmpint(append(f, ZONE, (MAX_APPEND + 1) * 512, NULL), ==,
                    INVALID);
    g_assert_cmpint(append(f, SIZE, 512, NULL), ==, INVALID);
    g_assert_cmpint(append(f, SIZE, 0, NULL), ==, INVALID);
    g_assert_cmpint(append(f, SIZE - 4096, 8192, NULL), ==, INVALID);
    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_APPEND, UINT64_MAX, buf,
                        sizeof(buf), 9), ==, INVALID);
    /* Room for the status, but not for the sector */
    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_APPEND, SECTOR(ZONE), buf,
                        sizeof(buf), 8), ==, -1);
    g_assert_cmpuint(f->bs->wps->wp[1], ==, ZONE);

    append_error = -EIO;
    g_assert_cmpint(append(f, ZONE, 512, NULL), ==, INVALID);
    f->bs->bl.max_append_sectors = 0;
    g_assert_cmpint(append(f, ZONE, 512, NULL), ==, UNSUPP);
}

static void check_all_unsupported(Fixture *f)
{
    uint8_t buf[REPORT_SIZE(1)];

    g_assert_cmpint(run(f, VIRTIO_BLK_T_ZONE_REPORT, 0, buf, sizeof(buf), 1),
                    ==, UNSUPP);
    g_assert_cmpint(manage(f, VIRTIO_BLK_T_ZONE_OPEN, SECTOR(ZONE)), ==,
                    UNSUPP);
    g_assert_cmpint(manage(f, VIRTIO_BLK_T_ZONE_RESET_ALL, 0), ==, UNSUPP);
    g_assert_cmpint(append(f, ZONE, 512, NULL), ==, UNSUPP);
}

static void check_config(Fixture *f, uint8_t model)
{
    struct virtio_blk_config config = {};

    virtio_blk_zone_config(&f->dev, &config);
    g_assert_cmpuint(config.zoned.model, ==, model);
    if (model == VIRTIO_BLK_Z_NONE) {
        return;
    }
    g_assert_cmpuint(config.zoned.zone_sectors, ==, SECTOR(ZONE));
    g_assert_cmpuint(config.zoned.max_open_zones, ==, 5);
    g_assert_cmpuint(config.zoned.max_active_zones, ==, 6);
    g_assert_cmpuint(config.zoned.max_append_sectors, ==, MAX_APPEND);
    g_assert_cmpuint(config.zoned.write_granularity, ==, 512);
}

/* Without the feature, without zones, and without a disk. */
static void test_unsupported(Fixture *f, const void *unused)
{
    f->dev.host_features = 0;
    check_all_unsupported(f);
    f->dev.host_features = BIT_ULL(VIRTIO_BLK_F_ZONED);
    f->bs->bl.zoned = BLK_Z_NONE;
    check_all_unsupported(f);
    check_config(f, VIRTIO_BLK_Z_NONE);
    blk_remove_bs(f->dev.blk);
    check_all_unsupported(f);
    check_config(f, VIRTIO_BLK_Z_NONE);
}

static void test_config(Fixture *f, const void *unused)
{
    check_config(f, VIRTIO_BLK_Z_HM);
    f->bs->bl.zoned = BLK_Z_HA;
    check_config(f, VIRTIO_BLK_Z_HA);
}

/* For VIRTIO_DEVICE(); it stands for the device's whole line of ancestors. */
static const TypeInfo device_type = {
    .name = TYPE_VIRTIO_DEVICE,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(VirtIOBlock),
};

#define ADD(name, fn) \
    g_test_add("/virtio-blk/zoned/" name, Fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    module_call_init(MODULE_INIT_QOM);
    bdrv_init();
    type_register_static(&device_type);
    g_test_init(&argc, &argv, NULL);
    ADD("report", test_report);
    ADD("report-states", test_report_states);
    ADD("report-bad", test_report_bad);
    ADD("manage", test_manage);
    ADD("append", test_append);
    ADD("append-bad", test_append_bad);
    ADD("unsupported", test_unsupported);
    ADD("config", test_config);
    return g_test_run();
}
