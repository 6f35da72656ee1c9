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
#include "vblk-disk.h"

#define QUEUES 2
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "drive=disk,num-queues=2,packed=on,iothread=io0"

/* The buffer has whole pages that only the device writes. */
#define LEN (4 * 4096)
#define SECTORS (LEN / VBLK_SECTOR)

/* 8 MiB; the driver's memory begins at 1 MiB and has a few pages. */
#define PAGES_SENT 2048

typedef struct Disk {
    char *image;
    VblkMachine *m;
    VblkDevice *d;
    VblkRequest *reads[QUEUES];
} Disk;

#define BLOCKDEV "-blockdev driver=raw,node-name=disk,file.driver=file," \
                 "file.node-name=file,file.filename=%s "

static VblkMachine *start(const VblkVariant *v, const char *image, bool slow)
{
    g_autofree char *arg = vblk_device_arg(v, 0, PROPS);
    VblkMachine *m;

    if (slow) {
        m = vblk_machine_start(v, VBLK_IOTHREADS);
        vblk_slow_disk_add(m, image, NULL);
        g_assert_null(vblk_device_add(m, 0, "'drive': 'disk', 'num-queues': 2,"
                                      " 'packed': true, 'iothread': 'io0'"));
        return m;
    }
    return vblk_machine_start(v, VBLK_IOTHREADS BLOCKDEV "-device %s", image,
                              arg);
}

static VblkMachine *start_target(const VblkMachine *from, const char *image)
{
    g_autofree char *arg = vblk_device_arg(from->variant, 0, PROPS);

    return vblk_machine_start_target(from, VBLK_IOTHREADS BLOCKDEV "-device %s",
                                     image, arg);
}

/* Data on the disk, and a read of it for each queue, not yet submitted. */
static void prepare(Disk *disk, const VblkVariant *v, uint64_t features,
                    bool slow)
{
    g_autofree uint8_t *data = g_malloc(LEN);

    disk->image = vblk_image_new(IMAGE_SIZE);
    for (unsigned q = 0; q < QUEUES; q++) {
        int fd = open(disk->image, O_WRONLY);

        vblk_pattern(data, LEN, 50 + q);
        g_assert_cmpint(pwrite(fd, data, LEN, q * LEN), ==, LEN);
        close(fd);
    }
    disk->m = start(v, disk->image, slow);
    disk->d = vblk_device_open(disk->m, 0);
    vblk_device_start(disk->d, features, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        disk->reads[q] = vblk_read_new(disk->d->queues[q], q * SECTORS, LEN);
    }
}

/* The other machine has what the device wrote, and the rings go on there. */
static void finish(Disk *disk, int stream)
{
    VblkMachine *to = start_target(disk->m, disk->image);

    vblk_machine_stream_end(disk->m, to, stream);
    vblk_device_move(disk->d, to);
    vblk_machine_stop(disk->m);
    qtest_qmp_assert_success(to->qts, "{'execute': 'cont'}");
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkRequest *r = disk->reads[q];

        g_assert_cmpuint(vblk_request_status(r), ==, VIRTIO_BLK_S_OK);
        vblk_read_check(r, 50 + q);
        vblk_request_free(r);
        vblk_write(disk->d->queues[q], 512, VBLK_SECTOR, q);
        vblk_read(disk->d->queues[q], 512, VBLK_SECTOR, q);
    }
    vblk_device_close(disk->d);
    vblk_machine_stop(to);
    vblk_image_free(disk->image);
}

/* Check requests that begin and end while memory is logged. */
static void check_requests(const VblkVariant *v, uint64_t features)
{
    Disk disk;
    int stream;

    prepare(&disk, v, features, false);
    vblk_read(disk.d->queues[0], 0, VBLK_SECTOR, 50);
    stream = vblk_machine_stream_begin(disk.m, PAGES_SENT);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_request_submit(disk.reads[q]);
        g_assert_cmpuint(vblk_request_wait(disk.reads[q]), ==, VIRTIO_BLK_S_OK);
    }
    finish(&disk, stream);
}

static void test_split(const VblkVariant *v)
{
    check_requests(v, 0);
}

static void test_packed(const VblkVariant *v)
{
    check_requests(v, BIT_ULL(VIRTIO_F_RING_PACKED));
}

/* Check requests that were taken before memory was logged. */
static void check_in_flight(const VblkVariant *v, uint64_t features)
{
    Disk disk;
    int stream;

    features |= BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    prepare(&disk, v, features, true);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_request_submit(disk.reads[q]);
        vblk_queue_wait_taken(disk.d->queues[q]);
    }
    stream = vblk_machine_stream_begin(disk.m, PAGES_SENT);
    for (unsigned q = 0; q < QUEUES; q++) {
        gint64 begin = g_get_monotonic_time();

        while (!disk.reads[q]->done) {
            vblk_clock_advance(disk.m, VBLK_STEP_MS);
            vblk_queue_reap(disk.d->queues[q]);
            vblk_deadline(begin, "a throttled request");
        }
    }
    finish(&disk, stream);
}

static void test_split_in_flight(const VblkVariant *v)
{
    check_in_flight(v, 0);
}

static void test_packed_in_flight(const VblkVariant *v)
{
    check_in_flight(v, BIT_ULL(VIRTIO_F_RING_PACKED));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("logging/split", test_split, VBLK_BOTH);
    vblk_test_add("logging/packed", test_packed, VBLK_Q35_MODERN);
    vblk_test_add("logging/split-in-flight", test_split_in_flight, VBLK_BOTH);
    vblk_test_add("logging/packed-in-flight", test_packed_in_flight,
                  VBLK_Q35_MODERN);
    return g_test_run();
}
