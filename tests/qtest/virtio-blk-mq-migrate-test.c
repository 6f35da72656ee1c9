/*
 * Migration of a disk with several queues
 *
 *     driver on the old machine -> stop, state through a file -> driver goes on
 *
 * The new machine has the same devices.  Ring indexes, wrap counters, vectors,
 * features and configuration have to go along for every queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=3,packed=on"

static MqMachine *start_target(const MqVariant *v, const char *image,
                               const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = mq_device_arg(v, 0, all);

    return mq_machine_start(v, MQ_IOTHREADS "-blockdev driver=raw,"
                            "node-name=disk,file.driver=file,"
                            "file.node-name=file,file.filename=%s "
                            "-device %s -incoming defer", image, arg);
}

/* Move a running disk to another machine and let it run there. */
static void migrate(MqDisk *disk, const char *props)
{
    MqMachine *old = disk->m;

    disk->m = start_target(old->variant, disk->image, props);
    mq_machine_migrate(old, disk->m);
    mq_device_move(disk->d, disk->m);
    mq_machine_stop(old);
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'cont'}");
}

/* Different numbers of requests, so that no two rings are alike. */
static void use(MqDisk *disk, uint32_t seed)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i < 7 + 90 * q; i++) {
            mq_write(disk->d->queues[q], q * 16 + i % 16, MQ_SECTOR, seed + i);
        }
        mq_read(disk->d->queues[(q + 1) % QUEUES], q * 16 + (6 + 90 * q) % 16,
                MQ_SECTOR, seed + 6 + 90 * q);
    }
}

static void drain_vectors(MqDevice *d)
{
    for (unsigned v = 0; v < d->num_vectors; v++) {
        mq_vector_take(d, v);
    }
}

static void check_ring(const MqVariant *v, uint64_t features,
                       const char *props)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, props);

    mq_device_start(disk.d, features, MQ_ALL_QUEUES);
    use(&disk, 1);
    migrate(&disk, props);
    use(&disk, 1000);
    drain_vectors(disk.d);
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_queue_suppress(disk.d->queues[q], false);
        if (features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
            mq_queue_set_event(disk.d->queues[q], 0);
        }
        mq_write(disk.d->queues[q], 100, MQ_SECTOR, q);
        mq_vector_wait(disk.d, q + 1);
    }
    /* And back */
    migrate(&disk, props);
    use(&disk, 2000);
    mq_disk_stop(&disk);
}

static void test_split(const MqVariant *v)
{
    check_ring(v, 0, PROPS);
}

static void test_split_event(const MqVariant *v)
{
    check_ring(v, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), PROPS ",iothread=io0");
}

static void test_packed(const MqVariant *v)
{
    check_ring(v, BIT_ULL(VIRTIO_F_RING_PACKED), PROPS);
}

static void test_packed_event(const MqVariant *v)
{
    check_ring(v, BIT_ULL(VIRTIO_F_RING_PACKED) |
               BIT_ULL(VIRTIO_RING_F_EVENT_IDX), PROPS ",iothread=io0");
}

/* Between IOThreads and the main loop, which no guest can see. */
static void test_other_threads(const MqVariant *v)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");

    mq_device_start(disk.d, 0, MQ_ALL_QUEUES);
    use(&disk, 1);
    migrate(&disk, PROPS);
    use(&disk, 1000);
    migrate(&disk, PROPS ",iothread=io1");
    use(&disk, 2000);
    mq_disk_stop(&disk);
}

/* Fewer queues than there are: those not set up stay so. */
static void test_fewer(const MqVariant *v)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, PROPS);

    mq_device_start(disk.d, 0, 1);
    mq_write(disk.d->queues[0], 0, MQ_SECTOR, 5);
    migrate(&disk, PROPS);
    mq_read(disk.d->queues[0], 0, MQ_SECTOR, 5);
    g_assert_false(mq_device_queue_enabled(disk.d, 1));
    g_assert_false(mq_device_queue_enabled(disk.d, 2));
    mq_device_notify(disk.d, 1);
    mq_read(disk.d->queues[0], 0, MQ_SECTOR, 5);
    mq_disk_stop(&disk);
}

/* Requests that the old machine had no time to look at. */
static void test_untouched(const MqVariant *v)
{
    MqDisk disk = mq_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");
    MqRequest *r[QUEUES];

    mq_device_start(disk.d, 0, MQ_ALL_QUEUES);
    use(&disk, 1);
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'stop'}");
    for (unsigned q = 0; q < QUEUES; q++) {
        r[q] = mq_write_new(disk.d->queues[q], 200 + q, MQ_SECTOR, q);
        mq_request_submit(r[q]);
    }
    migrate(&disk, PROPS ",iothread=io0");
    for (unsigned q = 0; q < QUEUES; q++) {
        mq_request_finish(r[q]);
        mq_read(disk.d->queues[q], 200 + q, MQ_SECTOR, q);
    }
    mq_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_test_add("migrate/split", test_split, MQ_BOTH);
    mq_test_add("migrate/split-event", test_split_event, MQ_BOTH);
    mq_test_add("migrate/packed", test_packed, MQ_Q35_MODERN);
    mq_test_add("migrate/packed-event", test_packed_event, MQ_Q35_MODERN);
    mq_test_add("migrate/other-threads", test_other_threads, MQ_BOTH);
    mq_test_add("migrate/fewer", test_fewer, MQ_BOTH);
    mq_test_add("migrate/untouched", test_untouched, MQ_BOTH);
    return g_test_run();
}
