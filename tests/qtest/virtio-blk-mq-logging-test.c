/*
 * A disk at work while its guest's memory is being migrated
 *
 *     page sent --> device writes into it --> page must be sent again
 *
 * The migration's stream is stuck in a pipe, with the pages of all buffers
 * and rings well inside of what was sent.  What the device writes then comes
 * through only if the ring reader reports it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-disk.h"

#define QUEUES 2
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "drive=disk,num-queues=2,packed=on,iothread=io0"

/* Whole pages that nobody but the device writes lie in it. */
#define LEN (4 * 4096)
#define SECTORS (LEN / MQ_SECTOR)

/* 8 MiB: the driver's memory begins at 1 MiB and is a few pages. */
#define PAGES_SENT 2048

typedef struct Disk {
    char *image;
    MqMachine *m;
    MqDevice *d;
    MqRequest *reads[QUEUES];
} Disk;

#define BLOCKDEV "-blockdev driver=raw,node-name=disk,file.driver=file," \
                 "file.node-name=file,file.filename=%s "

static MqMachine *start(const MqVariant *v, const char *image, bool slow)
{
    g_autofree char *arg = mq_device_arg(v, 0, PROPS);
    MqMachine *m;

    if (slow) {
        m = mq_machine_start(v, MQ_IOTHREADS);
        mq_slow_disk_add(m, image, NULL);
        g_assert_null(mq_device_add(m, 0, "'drive': 'disk', 'num-queues': 2,"
                                    " 'packed': true, 'iothread': 'io0'"));
        return m;
    }
    return mq_machine_start(v, MQ_IOTHREADS BLOCKDEV "-device %s", image, arg);
}

static MqMachine *start_target(const MqMachine *from, const char *image)
{
    g_autofree char *arg = mq_device_arg(from->variant, 0, PROPS);

    return mq_machine_start_target(from, MQ_IOTHREADS BLOCKDEV "-device %s",
                                   image, arg);
}

/* Data on the disk, and a read of it for each queue, not yet submitted. */
static void prepare(Disk *disk, const MqVariant *v, uint64_t features,
                    bool slow)
{
    g_autofree uint8_t *data = g_malloc(LEN);

    disk->image = mq_image_new(IMAGE_SIZE);
    for (unsigned q = 0; q < QUEUES; q++) {
        int fd = open(disk->image, O_WRONLY);

        mq_pattern(data, LEN, 50 + q);
        g_assert_cmpint(pwrite(fd, data, LEN, q * LEN), ==, LEN);
        close(fd);
    }
    disk->m = start(v, disk->image, slow);
    disk->d = mq_device_open(disk->m, 0);
    mq_device_start(disk->d, features, MQ_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        disk->reads[q] = mq_read_new(disk->d->queues[q], q * SECTORS, LEN);
    }
}

/* The other machine has what the device wrote, and the rings go on there. */
static void finish(Disk *disk, int stream)
{
    MqMachine *to = start_target(disk->m, disk->image);

    mq_machine_stream_end(disk->m, to, stream);
    mq_device_move(disk->d, to);
    mq_machine_stop(disk->m);
    qtest_qmp_assert_success(to->qts, "{'execute': 'cont'}");
    for (unsigned q = 0; q < QUEUES; q++) {
        MqRequest *r = disk->reads[q];

        g_assert_cmpuint(mq_request_status(r), ==, VIRTIO_BLK_S_OK);
        mq_read_check(r, 50 + q);
        mq_request_free(r);
        mq_write(disk->d->queues[q], 512, MQ_SECTOR, q);
        mq_read(disk->d->queues[q], 512, MQ_SECTOR, q);
    }
    mq_device_close(disk->d);
    mq_machine_stop(to);
    mq_image_free(disk->image);
}

/* Requests that begin and end while memory is logged. */
static void check_requests(const MqVariant *v, uint64_t features)
{
    Disk disk;
    int stream;

    prepare(&disk, v, features, false);
    mq_read(disk.d->queues[0], 0, MQ_SECTOR, 50);
    stream = mq_machine_stream_begin(disk.m, PAGES_SENT);
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_request_submit(disk.reads[q]);
        g_assert_cmpuint(mq_request_wait(disk.reads[q]), ==, VIRTIO_BLK_S_OK);
    }
    finish(&disk, stream);
}

static void test_split(const MqVariant *v)
{
    check_requests(v, 0);
}

static void test_packed(const MqVariant *v)
{
    check_requests(v, BIT_ULL(VIRTIO_F_RING_PACKED));
}

/* Requests that were taken before anybody logged. */
static void check_in_flight(const MqVariant *v, uint64_t features)
{
    Disk disk;
    int stream;

    features |= BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    prepare(&disk, v, features, true);
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_request_submit(disk.reads[q]);
        mq_queue_wait_taken(disk.d->queues[q]);
    }
    stream = mq_machine_stream_begin(disk.m, PAGES_SENT);
    for (unsigned q = 0; q < QUEUES; q++) {
        gint64 begin = g_get_monotonic_time();

        while (!disk.reads[q]->done) {
            mq_clock_advance(disk.m, MQ_STEP_MS);
            mq_queue_reap(disk.d->queues[q]);
            mq_deadline(begin, "a throttled request");
        }
    }
    finish(&disk, stream);
}

static void test_split_in_flight(const MqVariant *v)
{
    check_in_flight(v, 0);
}

static void test_packed_in_flight(const MqVariant *v)
{
    check_in_flight(v, BIT_ULL(VIRTIO_F_RING_PACKED));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add("logging/split", test_split, MQ_BOTH);
    mq_test_add("logging/packed", test_packed, MQ_Q35_MODERN);
    mq_test_add("logging/split-in-flight", test_split_in_flight, MQ_BOTH);
    mq_test_add("logging/packed-in-flight", test_packed_in_flight,
                MQ_Q35_MODERN);
    return g_test_run();
}
