/*
 * Hotplug and unplug of a disk with several queues under load
 *
 *     device_del -> the guest lets go -> requests in flight end
 *                -> DEVICE_DELETED, and nothing holds the disk's node
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-request.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)

static const char plain[] = "'drive': 'disk', 'num-queues': 4";
static const char mapped[] = "'drive': 'disk', 'num-queues': 4,"
                             "'iothread-vq-mapping': [{'iothread': 'io0'},"
                             "{'iothread': 'io1'}]";

static MqMachine *start(const MqVariant *v)
{
    return mq_machine_start(v, "-object iothread,id=io0 "
                            "-object iothread,id=io1 "
                            "-blockdev null-co,node-name=null,size=1048576");
}

static MqDevice *plug(MqMachine *m, const char *json)
{
    MqDevice *d;

    g_assert_cmpstr(mq_device_add(m, 0, json), ==, NULL);
    d = mq_device_open(m, 0);
    mq_device_start(d, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), MQ_ALL_QUEUES);
    return d;
}

/* Requests that the slow disk holds back, taken by the device. */
static void load(MqDevice *d)
{
    for (unsigned i = 0; i < QUEUES * 4; i++) {
        MqQueue *q = d->queues[i % QUEUES];

        mq_request_submit(i & 4 ? mq_read_new(q, 8 * i, 4096)
                                : mq_write_new(q, 8 * i, 4096, i));
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_queue_wait_taken(d->queues[q]);
    }
}

static void remove_disk(MqMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'disk'}}");
    qtest_qmp_assert_success(m->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'slow'}}");
}

static void test_unplug(const MqVariant *v, const char *json)
{
    char *image = mq_image_new(IMAGE_SIZE);
    MqMachine *m = start(v);
    uint8_t before[4096], after[4096];
    uint64_t ring;
    MqDevice *d;

    mq_slow_disk_add(m, image, NULL);
    d = plug(m, json);
    load(d);
    ring = d->queues[0]->device;
    mq_device_del(m, 0);
    mq_device_close(d);

    /* The guest's memory is its own again. */
    qtest_memread(m->qts, ring, before, sizeof(before));
    mq_clock_advance(m, 2000);
    qtest_memread(m->qts, ring, after, sizeof(after));
    g_assert_cmpmem(after, sizeof(after), before, sizeof(before));

    /* Nothing holds the disk, and another can take its place. */
    remove_disk(m);
    mq_slow_disk_add(m, image, NULL);
    d = plug(m, json);
    load(d);
    mq_device_del(m, 0);
    mq_device_close(d);
    mq_machine_stop(m);
    mq_image_free(image);
}

/* A disk that was never touched by a driver goes as well. */
static void test_unplug_idle(const MqVariant *v)
{
    MqMachine *m = start(v);

    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpstr(mq_device_add(m, 0, "'drive': 'null', 'num-queues': 4,"
                                      "'iothread': 'io0'"), ==, NULL);
        mq_device_del(m, 0);
    }
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'null'}}");
    mq_machine_stop(m);
}

/* A neighbour in the same IOThreads does not notice. */
static void test_neighbour(const MqVariant *v)
{
    char *image = mq_image_new(IMAGE_SIZE);
    MqMachine *m = start(v);
    MqDevice *d, *other;
    MqRequest *r[QUEUES];

    mq_slow_disk_add(m, image, NULL);
    g_assert_cmpstr(mq_device_add(m, 1, "'drive': 'null', 'num-queues': 4,"
                                  "'iothread-vq-mapping': ["
                                  "{'iothread': 'io0'},"
                                  "{'iothread': 'io1'}]"), ==, NULL);
    other = mq_device_open(m, 1);
    mq_device_start(other, 0, MQ_ALL_QUEUES);
    d = plug(m, mapped);
    load(d);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned q = 0; q < QUEUES; q++) {
            r[q] = mq_read_new(other->queues[q], q, 4096);
            mq_request_submit(r[q]);
        }
        if (round == 1) {
            mq_device_del(m, 0);
        }
        for (unsigned q = 0; q < QUEUES; q++) {
            mq_request_finish(r[q]);
            mq_vector_wait(other, q + 1);
        }
    }
    mq_device_close(d);
    mq_device_close(other);
    mq_machine_stop(m);
    mq_image_free(image);
}

/* The disk is taken away under the device, and the driver goes on. */
static void test_drive_del(const MqVariant *v)
{
    static const uint32_t types[] = {
        VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD,
        VIRTIO_BLK_T_ZONE_REPORT, VIRTIO_BLK_T_ZONE_OPEN,
        VIRTIO_BLK_T_ZONE_RESET_ALL, VIRTIO_BLK_T_ZONE_APPEND,
    };
    g_autofree char *arg = mq_device_arg(v, 0, "drive=legacy,num-queues=2");
    MqMachine *m = mq_machine_start(v, "-drive if=none,id=legacy,"
                                    "driver=null-co,size=1048576 "
                                    "-device %s", arg);
    MqDevice *d = mq_device_open(m, 0);
    uint8_t buf[MQ_SECTOR] = {};

    mq_device_start(d, 0, MQ_ALL_QUEUES);
    g_free(qtest_hmp(m->qts, "drive_del legacy"));
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        g_assert_cmphex(mq_request_run(d->queues[i % 2], types[i], 0, buf,
                                       MQ_SECTOR), !=, 0xff);
    }
    g_assert_cmphex(mq_request_run(d->queues[0], VIRTIO_BLK_T_ZONE_OPEN, 0,
                                   NULL, 0), ==, VIRTIO_BLK_S_UNSUPP);
    mq_device_close(d);
    mq_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add_with("unplug/load", test_unplug, plain, MQ_ALL);
    mq_test_add_with("unplug/load-iothreads", test_unplug, mapped, MQ_ALL);
    mq_test_add("unplug/idle", test_unplug_idle, MQ_ALL);
    mq_test_add("unplug/neighbour", test_neighbour, MQ_ALL);
    mq_test_add("unplug/drive-del", test_drive_del, MQ_BOTH);
    return g_test_run();
}
