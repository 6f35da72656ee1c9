/*
 * More large requests than a queue has memory for
 *
 *     ring:    R R R R R R R R R R ...   requests of n segments
 *     device:  takes as many as it has lists of that length, the others wait
 *              in the ring; each that ends makes room for one more
 *
 * The disk stands still until a test lets it go, so what the device has taken
 * by then is a number that can be known.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define MAX_REQUESTS 72
#define MAX_SEGMENTS 320
#define IMAGE_SIZE (32 * 1024 * 1024)

/* Lists of each length that virtio-blk-segments.c has for a queue of 256 */
#define SHORT_DATA 30
#define LONG_DATA 254
#define LONG_LISTS 64
#define ANY_LISTS 1

#define SPLIT (BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
               BIT_ULL(VIRTIO_RING_F_EVENT_IDX))
#define PACKED (SPLIT | BIT_ULL(VIRTIO_F_RING_PACKED))

static VblkDisk setup(const VblkVariant *v, const char *json, uint64_t features)
{
    g_autofree char *props =
        g_strdup_printf("'drive': 'disk', 'num-queues': 2, 'packed': true,"
                        " 'iothread': 'io0', %s", json);
    VblkDisk disk = { .image = vblk_image_new(IMAGE_SIZE) };

    /* Without polling, the IOThread looks at the ring only after a kick. */
    disk.m = vblk_machine_start(v, "-object iothread,id=io0,poll-max-ns=0 "
                                "-object iothread,id=io1,poll-max-ns=0");
    vblk_slow_disk_add(disk.m, disk.image, NULL);
    g_assert_null(vblk_device_add(disk.m, 0, props));
    disk.d = vblk_device_open(disk.m, 0);
    vblk_device_start(disk.d, features, VBLK_ALL_QUEUES);
    return disk;
}

static void wait_slow(VblkRequest *r)
{
    g_assert_cmphex(vblk_request_wait_throttled(r), ==, VIRTIO_BLK_S_OK);
}

/*
 * Use up all that the throttle lets through at once.  After that no request
 * ends until a test advances the clock.
 */
static VblkRequest *stop_disk(VblkDisk *disk)
{
    VblkRequest *r = vblk_read_new(disk->d->queues[1], 0, VBLK_SECTOR);

    vblk_request_submit(r);
    vblk_queue_wait_taken(r->queue);
    return r;
}

static void release_disk(VblkDisk *disk)
{
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'qom-set',"
                             " 'arguments': {'path': 'slow',"
                             " 'property': 'limits',"
                             " 'value': {'iops-total': 0}}}");
}

/* A request of @n segments, of a sector each. */
static VblkRequest *add_request(VblkQueue *q, unsigned n, unsigned number,
                                unsigned stride)
{
    VblkRequest *r = vblk_write_new(q, number * stride, n * VBLK_SECTOR,
                                    number);
    VblkSegment segs[MAX_SEGMENTS + 2];

    segs[0] = (VblkSegment) { r->header, 16, false };
    for (unsigned i = 0; i < n; i++) {
        segs[1 + i] = (VblkSegment) { r->data + i * VBLK_SECTOR, VBLK_SECTOR };
    }
    segs[1 + n] = (VblkSegment) { r->status, 1, true };
    vblk_request_add_segs(r, segs, n + 2, true);
    return r;
}

static uint64_t taken(VblkDisk *disk, unsigned queue)
{
    QDict *info = vblk_disk_queue_info(disk, queue);
    uint64_t requests = qdict_get_int(info, "requests");

    qobject_unref(info);
    return requests;
}

/* Wait until the queue has taken all that it can, and its thread goes on. */
static void wait_taken(VblkDisk *disk, uint64_t least)
{
    gint64 start = g_get_monotonic_time();
    char id[VIRTIO_BLK_ID_BYTES];

    while (taken(disk, 0) < least) {
        vblk_deadline(start, "requests to be taken");
    }
    vblk_request_run(disk->d->queues[1], VIRTIO_BLK_T_GET_ID, 0, id,
                     sizeof(id));
}

static void finish(VblkRequest *first, VblkRequest **r, unsigned count)
{
    wait_slow(first);
    vblk_request_free(first);
    for (unsigned i = 0; i < count; i++) {
        wait_slow(r[i]);
    }
}

static void check_written(VblkDisk *disk, VblkRequest **r, unsigned count,
                          unsigned n, unsigned stride)
{
    for (unsigned i = 0; i < count; i++) {
        vblk_request_free(r[i]);
        vblk_read(disk->d->queues[1], i * stride, n * VBLK_SECTOR, i);
    }
}

/* @count requests of @n segments on queue 0, in places of their own. */
static void submit(VblkDisk *disk, VblkRequest **r, unsigned count, unsigned n)
{
    g_assert_cmpuint(count, <=, MAX_REQUESTS);
    for (unsigned i = 0; i < count; i++) {
        r[i] = add_request(disk->d->queues[0], n, i, MAX_SEGMENTS);
    }
    vblk_queue_kick(disk->d->queues[0]);
}

/* @expected: how many of the requests the device can have at a time */
static void check_full(VblkDisk *disk, unsigned count, unsigned n,
                       unsigned expected)
{
    VblkRequest *first = stop_disk(disk);
    uint64_t before = taken(disk, 0);
    VblkRequest *r[MAX_REQUESTS];

    submit(disk, r, count, n);
    wait_taken(disk, before + expected);
    g_assert_cmpuint(taken(disk, 0) - before, ==, expected);

    release_disk(disk);
    finish(first, r, count);
    g_assert_cmpuint(taken(disk, 0) - before, ==, count);
    check_written(disk, r, count, n, MAX_SEGMENTS);
}

static void check_lengths(const VblkVariant *v, uint64_t features)
{
    static const struct {
        unsigned n, count, expected;
    } cases[] = {
        { 2, 72, 72 },
        { SHORT_DATA, 72, 72 },
        { SHORT_DATA + 1, 72, LONG_LISTS },
        { LONG_DATA, 66, LONG_LISTS },
        { MAX_SEGMENTS, 5, ANY_LISTS },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        VblkDisk disk = setup(v, "'request-merging': false", features);

        g_test_message("%u segments", cases[i].n);
        check_full(&disk, cases[i].count, cases[i].n, cases[i].expected);
        vblk_disk_stop(&disk);
    }
}

static void test_split(const VblkVariant *v)
{
    check_lengths(v, SPLIT);
}

static void test_packed(const VblkVariant *v)
{
    check_lengths(v, PACKED);
}

/* Neighbours are merged into requests that need lists, too. */
static void test_merged(const VblkVariant *v)
{
    static const unsigned lengths[] = { 2, SHORT_DATA, 100 };

    for (unsigned n = 0; n < ARRAY_SIZE(lengths); n++) {
        VblkDisk disk = setup(v, "'request-merging': true", SPLIT);
        VblkRequest *first = stop_disk(&disk);
        VblkRequest *r[MAX_REQUESTS];

        for (unsigned i = 0; i < MAX_REQUESTS; i++) {
            r[i] = add_request(disk.d->queues[0], lengths[n], i, lengths[n]);
        }
        vblk_queue_kick(disk.d->queues[0]);
        wait_taken(&disk, LONG_LISTS / 2);
        release_disk(&disk);
        finish(first, r, MAX_REQUESTS);
        check_written(&disk, r, MAX_REQUESTS, lengths[n], lengths[n]);
        vblk_disk_stop(&disk);
    }
}

/*
 * The last two that fit are neighbours, for which there is no list as a merged
 * request.  The others still follow without a kick.
 */
static void test_merged_last(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "'request-merging': true", SPLIT);
    VblkRequest *first = stop_disk(&disk);
    uint64_t before = taken(&disk, 0);
    VblkRequest *r[MAX_REQUESTS];

    for (unsigned i = 0; i < MAX_REQUESTS; i++) {
        bool together = i == LONG_LISTS - 2 || i == LONG_LISTS - 1;

        r[i] = add_request(disk.d->queues[0], SHORT_DATA + 1,
                           together ? i : 2 * MAX_REQUESTS + 2 * i,
                           SHORT_DATA + 1);
    }
    vblk_queue_kick(disk.d->queues[0]);
    wait_taken(&disk, before + LONG_LISTS);
    g_assert_cmpuint(taken(&disk, 0) - before, ==, LONG_LISTS);
    release_disk(&disk);
    finish(first, r, MAX_REQUESTS);
    vblk_disk_stop(&disk);
}

/* A move and a stop while the ring has more than the device takes. */
static void test_control(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "'request-merging': false", SPLIT);
    VblkRequest *first = stop_disk(&disk);
    VblkRequest *r[MAX_REQUESTS];

    submit(&disk, r, MAX_REQUESTS, SHORT_DATA + 1);
    wait_taken(&disk, LONG_LISTS);
    vblk_disk_move(&disk, 0, "io1");
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'cont'}");
    release_disk(&disk);
    finish(first, r, MAX_REQUESTS);
    check_written(&disk, r, MAX_REQUESTS, SHORT_DATA + 1, MAX_SEGMENTS);
    vblk_disk_stop(&disk);
}

/* A reset with requests in the device and in the ring leaves nothing behind. */
static void test_reset(const VblkVariant *v)
{
    VblkDisk disk = setup(v, "'request-merging': false", SPLIT);
    VblkRequest *r[MAX_REQUESTS];

    stop_disk(&disk);
    submit(&disk, r, MAX_REQUESTS, SHORT_DATA + 1);
    wait_taken(&disk, LONG_LISTS);
    vblk_device_start(disk.d, SPLIT, VBLK_ALL_QUEUES);
    check_full(&disk, MAX_REQUESTS, SHORT_DATA + 1, LONG_LISTS);
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("large/split", test_split, VBLK_BOTH);
    vblk_test_add("large/packed", test_packed, VBLK_Q35_MODERN);
    vblk_test_add("large/merged", test_merged, VBLK_BOTH);
    vblk_test_add("large/merged-last", test_merged_last, VBLK_BOTH);
    vblk_test_add("large/control", test_control, VBLK_BOTH);
    vblk_test_add("large/reset", test_reset, VBLK_BOTH);
    return g_test_run();
}
