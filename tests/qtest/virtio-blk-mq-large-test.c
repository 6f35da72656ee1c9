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
#include "mq-disk.h"

#define MAX_REQUESTS 72
#define MAX_SEGMENTS 320
#define IMAGE_SIZE (32 * 1024 * 1024)

/* What virtio-blk-segments.c has of each length, for a queue of 256. */
#define SHORT_DATA 30
#define LONG_DATA 254
#define LONG_LISTS 64
#define ANY_LISTS 1

#define SPLIT (BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
               BIT_ULL(VIRTIO_RING_F_EVENT_IDX))
#define PACKED (SPLIT | BIT_ULL(VIRTIO_F_RING_PACKED))

static MqDisk setup(const MqVariant *v, const char *json, uint64_t features)
{
    g_autofree char *props =
        g_strdup_printf("'drive': 'disk', 'num-queues': 2, 'packed': true,"
                        " 'iothread': 'io0', %s", json);
    MqDisk disk = { .image = mq_image_new(IMAGE_SIZE) };

    /* Without polling, nobody looks at the ring but by being told. */
    disk.m = mq_machine_start(v, "-object iothread,id=io0,poll-max-ns=0 "
                              "-object iothread,id=io1,poll-max-ns=0");
    mq_slow_disk_add(disk.m, disk.image, NULL);
    g_assert_null(mq_device_add(disk.m, 0, props));
    disk.d = mq_device_open(disk.m, 0);
    mq_device_start(disk.d, features, MQ_ALL_QUEUES);
    return disk;
}

static void wait_slow(MqRequest *r)
{
    g_assert_cmphex(mq_request_wait_throttled(r), ==, VIRTIO_BLK_S_OK);
}

/*
 * Uses up what the throttle lets through at once.  Nothing more ends until a
 * test advances the clock.
 */
static MqRequest *stop_disk(MqDisk *disk)
{
    MqRequest *r = mq_read_new(disk->d->queues[1], 0, MQ_SECTOR);

    mq_request_submit(r);
    mq_queue_wait_taken(r->queue);
    return r;
}

static void release_disk(MqDisk *disk)
{
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'qom-set',"
                             " 'arguments': {'path': 'slow',"
                             " 'property': 'limits',"
                             " 'value': {'iops-total': 0}}}");
}

/* A request of @n segments, of a sector each. */
static MqRequest *add_request(MqQueue *q, unsigned n, unsigned number,
                              unsigned stride)
{
    MqRequest *r = mq_write_new(q, number * stride, n * MQ_SECTOR, number);
    MqSegment segs[MAX_SEGMENTS + 2];

    segs[0] = (MqSegment) { r->header, 16, false };
    for (unsigned i = 0; i < n; i++) {
        segs[1 + i] = (MqSegment) { r->data + i * MQ_SECTOR, MQ_SECTOR };
    }
    segs[1 + n] = (MqSegment) { r->status, 1, true };
    mq_request_add_segs(r, segs, n + 2, true);
    return r;
}

static uint64_t taken(MqDisk *disk, unsigned queue)
{
    QDict *info = mq_disk_queue_info(disk, queue);
    uint64_t requests = qdict_get_int(info, "requests");

    qobject_unref(info);
    return requests;
}

/* The queue has taken all that it is going to: its thread does other work. */
static void wait_taken(MqDisk *disk, uint64_t least)
{
    gint64 start = g_get_monotonic_time();
    char id[VIRTIO_BLK_ID_BYTES];

    while (taken(disk, 0) < least) {
        mq_deadline(start, "requests to be taken");
    }
    mq_request_run(disk->d->queues[1], VIRTIO_BLK_T_GET_ID, 0, id, sizeof(id));
}

static void finish(MqRequest *first, MqRequest **r, unsigned count)
{
    wait_slow(first);
    mq_request_free(first);
    for (unsigned i = 0; i < count; i++) {
        wait_slow(r[i]);
    }
}

static void check_written(MqDisk *disk, MqRequest **r, unsigned count,
                          unsigned n, unsigned stride)
{
    for (unsigned i = 0; i < count; i++) {
        mq_request_free(r[i]);
        mq_read(disk->d->queues[1], i * stride, n * MQ_SECTOR, i);
    }
}

/* @count requests of @n segments on queue 0, in places of their own. */
static void submit(MqDisk *disk, MqRequest **r, unsigned count, unsigned n)
{
    g_assert_cmpuint(count, <=, MAX_REQUESTS);
    for (unsigned i = 0; i < count; i++) {
        r[i] = add_request(disk->d->queues[0], n, i, MAX_SEGMENTS);
    }
    mq_queue_kick(disk->d->queues[0]);
}

/* @expected: how many of the requests the device can have at a time */
static void check_full(MqDisk *disk, unsigned count, unsigned n,
                       unsigned expected)
{
    MqRequest *first = stop_disk(disk);
    uint64_t before = taken(disk, 0);
    MqRequest *r[MAX_REQUESTS];

    submit(disk, r, count, n);
    wait_taken(disk, before + expected);
    g_assert_cmpuint(taken(disk, 0) - before, ==, expected);

    release_disk(disk);
    finish(first, r, count);
    g_assert_cmpuint(taken(disk, 0) - before, ==, count);
    check_written(disk, r, count, n, MAX_SEGMENTS);
}

static void check_lengths(const MqVariant *v, uint64_t features)
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
        MqDisk disk = setup(v, "'request-merging': false", features);

        g_test_message("%u segments", cases[i].n);
        check_full(&disk, cases[i].count, cases[i].n, cases[i].expected);
        mq_disk_stop(&disk);
    }
}

static void test_split(const MqVariant *v)
{
    check_lengths(v, SPLIT);
}

static void test_packed(const MqVariant *v)
{
    check_lengths(v, PACKED);
}

/* Neighbours make merged requests, which need lists, too. */
static void test_merged(const MqVariant *v)
{
    static const unsigned lengths[] = { 2, SHORT_DATA, 100 };

    for (unsigned n = 0; n < ARRAY_SIZE(lengths); n++) {
        MqDisk disk = setup(v, "'request-merging': true", SPLIT);
        MqRequest *first = stop_disk(&disk);
        MqRequest *r[MAX_REQUESTS];

        for (unsigned i = 0; i < MAX_REQUESTS; i++) {
            r[i] = add_request(disk.d->queues[0], lengths[n], i, lengths[n]);
        }
        mq_queue_kick(disk.d->queues[0]);
        wait_taken(&disk, LONG_LISTS / 2);
        release_disk(&disk);
        finish(first, r, MAX_REQUESTS);
        check_written(&disk, r, MAX_REQUESTS, lengths[n], lengths[n]);
        mq_disk_stop(&disk);
    }
}

/* A move and a stop while the ring has more than the device takes. */
static void test_control(const MqVariant *v)
{
    MqDisk disk = setup(v, "'request-merging': false", SPLIT);
    MqRequest *first = stop_disk(&disk);
    MqRequest *r[MAX_REQUESTS];

    submit(&disk, r, MAX_REQUESTS, SHORT_DATA + 1);
    wait_taken(&disk, LONG_LISTS);
    mq_disk_move(&disk, 0, "io1");
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'cont'}");
    release_disk(&disk);
    finish(first, r, MAX_REQUESTS);
    check_written(&disk, r, MAX_REQUESTS, SHORT_DATA + 1, MAX_SEGMENTS);
    mq_disk_stop(&disk);
}

/* A reset with requests in the device and in the ring leaves nothing behind. */
static void test_reset(const MqVariant *v)
{
    MqDisk disk = setup(v, "'request-merging': false", SPLIT);
    MqRequest *r[MAX_REQUESTS];

    stop_disk(&disk);
    submit(&disk, r, MAX_REQUESTS, SHORT_DATA + 1);
    wait_taken(&disk, LONG_LISTS);
    mq_device_start(disk.d, SPLIT, MQ_ALL_QUEUES);
    check_full(&disk, MAX_REQUESTS, SHORT_DATA + 1, LONG_LISTS);
    mq_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add("large/split", test_split, MQ_BOTH);
    mq_test_add("large/packed", test_packed, MQ_Q35_MODERN);
    mq_test_add("large/merged", test_merged, MQ_BOTH);
    mq_test_add("large/control", test_control, MQ_BOTH);
    mq_test_add("large/reset", test_reset, MQ_BOTH);
    return g_test_run();
}
