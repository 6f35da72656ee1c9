/*
 * Every command of virtio-blk, on several queues
 *
 *     what the device does       ->  VIRTIO_BLK_S_OK and the effect
 *     what it does not know      ->  VIRTIO_BLK_S_UNSUPP
 *     what the disk does not have -> VIRTIO_BLK_S_IOERR
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (1024 * 1024)
#define SECTORS (IMAGE_SIZE / VBLK_SECTOR)
#define PROPS "num-queues=3,iothread=io0,serial=disk-of-several-queues"

#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

static VblkDisk setup(const VblkVariant *v, const char *options,
                      const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, options, props);

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    return disk;
}

static void test_get_id(const VblkVariant *v)
{
    static const char serial[] = "disk-of-several-queues";
    VblkDisk disk = setup(v, NULL, PROPS);

    for (unsigned q = 0; q < QUEUES; q++) {
        char id[VIRTIO_BLK_ID_BYTES] = "";
        char part[5] = "";

        g_assert_cmphex(vblk_request_run(disk.d->queues[q],
                                         VIRTIO_BLK_T_GET_ID, 0, id,
                                         sizeof(id)),
                        ==, OK);
        g_assert_cmpmem(id, sizeof(id), serial, sizeof(id));
        g_assert_cmphex(vblk_request_run(disk.d->queues[q],
                                         VIRTIO_BLK_T_GET_ID, 0, part,
                                         sizeof(part)), ==, OK);
        g_assert_cmpmem(part, sizeof(part), serial, sizeof(part));
    }
    vblk_disk_stop(&disk);
}

/* Requests in flight on other queues do not keep a flush from succeeding. */
static void test_flush(const VblkVariant *v)
{
    VblkDisk disk = setup(v, NULL, PROPS);
    VblkRequest *r[QUEUES * 2];

    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        VblkQueue *q = disk.d->queues[i / 2];

        r[i] = i % 2 ? vblk_request_new(q, VIRTIO_BLK_T_FLUSH, 0, 0)
                     : vblk_write_new(q, i * 8, 4096, i);
        vblk_request_add(r[i]);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_kick(disk.d->queues[q]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        vblk_request_finish(r[i]);
    }
    vblk_disk_stop(&disk);
}

typedef struct Simple {
    uint32_t type;
    uint64_t sector;
    size_t len;
    uint8_t status;
} Simple;

/* One header and @len bytes of data; nothing here changes the disk. */
static const Simple simple[] = {
    { VIRTIO_BLK_T_IN, 0, VBLK_SECTOR, OK },
    { VIRTIO_BLK_T_IN, SECTORS - 1, VBLK_SECTOR, OK },
    { VIRTIO_BLK_T_IN | VIRTIO_BLK_T_BARRIER, 0, VBLK_SECTOR, OK },
    { VIRTIO_BLK_T_FLUSH, 0, 0, OK },
    /* Beyond the end: all, a part, far beyond it, and beyond 2^64 */
    { VIRTIO_BLK_T_IN, SECTORS, VBLK_SECTOR, IOERR },
    { VIRTIO_BLK_T_OUT, SECTORS, VBLK_SECTOR, IOERR },
    { VIRTIO_BLK_T_IN, SECTORS - 1, 2 * VBLK_SECTOR, IOERR },
    { VIRTIO_BLK_T_OUT, SECTORS - 1, 2 * VBLK_SECTOR, IOERR },
    { VIRTIO_BLK_T_IN, INT64_MAX, VBLK_SECTOR, IOERR },
    { VIRTIO_BLK_T_OUT, UINT64_MAX, VBLK_SECTOR, IOERR },
    { VIRTIO_BLK_T_IN, UINT64_MAX / VBLK_SECTOR + 1, VBLK_SECTOR, IOERR },
    /* Not whole sectors */
    { VIRTIO_BLK_T_IN, 0, 100, IOERR },
    { VIRTIO_BLK_T_OUT, 0, VBLK_SECTOR + 4, IOERR },
    /* Unknown commands */
    { 6, 0, 0, UNSUPP },
    { 99, 0, VBLK_SECTOR, UNSUPP },
    { 0x7ffffffe, 0, 0, UNSUPP },
    { VIRTIO_BLK_T_SECURE_ERASE | VIRTIO_BLK_T_OUT, 0, 16, UNSUPP },
    /* Zones on a disk without any */
    { VIRTIO_BLK_T_ZONE_REPORT, 0, 64 + 64, UNSUPP },
    { VIRTIO_BLK_T_ZONE_OPEN, 0, 0, UNSUPP },
    { VIRTIO_BLK_T_ZONE_CLOSE, 0, 0, UNSUPP },
    { VIRTIO_BLK_T_ZONE_FINISH, 0, 0, UNSUPP },
    { VIRTIO_BLK_T_ZONE_RESET, 0, 0, UNSUPP },
    { VIRTIO_BLK_T_ZONE_RESET_ALL, 0, 0, UNSUPP },
    { VIRTIO_BLK_T_ZONE_APPEND, 0, VBLK_SECTOR, UNSUPP },
    /* SCSI without its headers */
    { VIRTIO_BLK_T_SCSI_CMD, 0, 0, IOERR },
};

static void test_status(const VblkVariant *v)
{
    VblkDisk disk = setup(v, NULL, PROPS);

    for (unsigned i = 0; i < ARRAY_SIZE(simple); i++) {
        const Simple *s = &simple[i];
        VblkQueue *q = disk.d->queues[i % QUEUES];

        g_test_message("type %u sector %" PRIu64 " length %zu", s->type,
                       s->sector, s->len);
        g_assert_cmphex(vblk_request_run(q, s->type, s->sector, NULL, s->len),
                        ==, s->status);
    }
    vblk_disk_stop(&disk);
}

/* A legacy driver gets this answer for SCSI: errors are set, "unsupported". */
static void test_scsi(const VblkVariant *v)
{
    VblkDisk disk = setup(v, NULL, PROPS);

    for (unsigned q = 0; q < QUEUES; q++) {
        VblkRequest *r = vblk_request_new(disk.d->queues[q],
                                          VIRTIO_BLK_T_SCSI_CMD, 0, 4096);
        VblkSegment segs[] = {
            { r->header, 16, false },
            { r->data, 16, false },
            { r->data + 1024, 96, true },
            { r->data + 2048, sizeof(struct virtio_scsi_inhdr), true },
            { r->status, 1, true },
        };

        qtest_memset(disk.m->qts, r->data + 2048, 0, 16);
        vblk_request_add_segs(r, segs, ARRAY_SIZE(segs), false);
        vblk_queue_kick(disk.d->queues[q]);
        g_assert_cmphex(vblk_request_wait(r), ==, UNSUPP);
        g_assert_cmpuint(qtest_readl(disk.m->qts, r->data + 2048), !=, 0);
        vblk_request_free(r);
    }
    vblk_disk_stop(&disk);
}

static uint8_t run_range(VblkQueue *q, uint32_t type, uint64_t sector,
                         uint32_t num, uint32_t flags)
{
    uint8_t range[16];

    stq_le_p(range, sector);
    stl_le_p(range + 8, num);
    stl_le_p(range + 12, flags);
    return vblk_request_run(q, type, 0, range, sizeof(range));
}

typedef struct Range {
    uint64_t sector;
    uint32_t num, flags;
    uint8_t discard, zeroes;
} Range;

#define UNMAP VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

static const Range ranges[] = {
    { 0, 8, 0, OK, OK },
    { SECTORS - 1, 1, 0, OK, OK },
    { 8, 8, UNMAP, UNSUPP, OK },
    { 0, 8, 2, UNSUPP, UNSUPP },
    { 0, 8, 0x80000000, UNSUPP, UNSUPP },
    { SECTORS, 8, 0, IOERR, IOERR },
    { SECTORS - 4, 8, 0, IOERR, IOERR },
    { UINT64_MAX, 8, 0, IOERR, IOERR },
    { 0, UINT32_MAX, 0, IOERR, IOERR },
};

static void test_ranges(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "discard=unmap", PROPS);

    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
        const Range *r = &ranges[i];
        VblkQueue *q = disk.d->queues[i % QUEUES];

        g_test_message("sector %" PRIu64 " num %u flags %x", r->sector,
                       r->num, r->flags);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_DISCARD, r->sector, r->num,
                                  r->flags), ==, r->discard);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_WRITE_ZEROES, r->sector,
                                  r->num, r->flags), ==, r->zeroes);
    }
    /* Two ranges in one request, or a range in a request that reads */
    g_assert_cmphex(vblk_request_run(disk.d->queues[0], VIRTIO_BLK_T_DISCARD, 0,
                                     NULL, 32), ==, UNSUPP);
    g_assert_cmphex(vblk_request_run(disk.d->queues[1], VIRTIO_BLK_T_DISCARD &
                                     ~VIRTIO_BLK_T_OUT, 0, NULL, 16), ==,
                    UNSUPP);
    vblk_disk_stop(&disk);
}

/* The zeroes are exactly where the driver asked for them. */
static void test_write_zeroes(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "discard=unmap", PROPS);
    uint8_t zeroes[4096] = { 0 }, got[4096];

    for (unsigned q = 0; q < QUEUES; q++) {
        uint64_t sector = q * 24;

        for (unsigned i = 0; i < 3; i++) {
            vblk_write(disk.d->queues[i], sector + 8 * i, 4096, i + 1);
        }
        g_assert_cmphex(run_range(disk.d->queues[q], VIRTIO_BLK_T_WRITE_ZEROES,
                                  sector + 8, 8, q == 1 ? UNMAP : 0), ==, OK);
        vblk_read(disk.d->queues[0], sector, 4096, 1);
        vblk_read(disk.d->queues[1], sector + 16, 4096, 3);
        g_assert_cmphex(vblk_request_run(disk.d->queues[2], VIRTIO_BLK_T_IN,
                                         sector + 8, got, sizeof(got)), ==, OK);
        g_assert_cmpmem(got, sizeof(got), zeroes, sizeof(zeroes));
    }
    vblk_disk_stop(&disk);
}

/* With blocks of 4 KiB, requests and ranges must be aligned to them. */
static void test_misaligned(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "discard=unmap", PROPS ",logical_block_size=4096,"
                          "physical_block_size=4096");

    for (unsigned i = 0; i < QUEUES; i++) {
        VblkQueue *q = disk.d->queues[i];

        vblk_write(q, 8, 4096, i);
        vblk_read(q, 8, 4096, i);
        g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_IN, 4, NULL, 4096), ==,
                        IOERR);
        g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_IN, 8, NULL, 512), ==,
                        IOERR);
        g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_OUT, 1, NULL, 4096),
                        ==, IOERR);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_DISCARD, 1, 8, 0), ==,
                        IOERR);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_DISCARD, 8, 4, 0), ==,
                        IOERR);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_WRITE_ZEROES, 4, 8, 0), ==,
                        IOERR);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_DISCARD, 8, 8, 0), ==, OK);
    }
    vblk_disk_stop(&disk);
}

static void test_read_only(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "read-only=on", PROPS);

    g_assert_cmphex(vblk_device_offered(disk.d) & BIT_ULL(VIRTIO_BLK_F_RO), !=,
                    0);
    for (unsigned i = 0; i < QUEUES; i++) {
        VblkQueue *q = disk.d->queues[i];

        g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_OUT, 0, NULL, 512), ==,
                        IOERR);
        g_assert_cmphex(run_range(q, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), ==,
                        IOERR);
        g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_IN, 0, NULL, 512), ==,
                        OK);
    }
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("commands/get-id", test_get_id, VBLK_BOTH);
    vblk_test_add("commands/flush", test_flush, VBLK_BOTH);
    vblk_test_add("commands/status", test_status, VBLK_BOTH);
    vblk_test_add("commands/scsi", test_scsi, VBLK_BOTH);
    vblk_test_add("commands/ranges", test_ranges, VBLK_BOTH);
    vblk_test_add("commands/write-zeroes", test_write_zeroes, VBLK_BOTH);
    vblk_test_add("commands/misaligned", test_misaligned, VBLK_BOTH);
    vblk_test_add("commands/read-only", test_read_only, VBLK_BOTH);
    return g_test_run();
}
