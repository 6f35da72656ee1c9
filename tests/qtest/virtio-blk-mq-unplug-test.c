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
#include "vblk-request.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)

static const char plain[] = "'drive': 'disk', 'num-queues': 4";
static const char mapped[] = "'drive': 'disk', 'num-queues': 4,"
                             "'iothread-vq-mapping': [{'iothread': 'io0'},"
                             "{'iothread': 'io1'}]";

static VblkMachine *start(const VblkVariant *v)
{
    return vblk_machine_start(v, "-object iothread,id=io0 "
                              "-object iothread,id=io1 "
                              "-blockdev null-co,node-name=null,size=1048576");
}

static VblkDevice *plug(VblkMachine *m, const char *json)
{
    VblkDevice *d;

    g_assert_cmpstr(vblk_device_add(m, 0, json), ==, NULL);
    d = vblk_device_open(m, 0);
    vblk_device_start(d, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), VBLK_ALL_QUEUES);
    return d;
}

/* Make the device take requests that wait for the slow disk. */
static void load(VblkDevice *d)
{
    for (unsigned i = 0; i < QUEUES * 4; i++) {
        VblkQueue *q = d->queues[i % QUEUES];

        vblk_request_submit(i & 4 ? vblk_read_new(q, 8 * i, 4096)
                                  : vblk_write_new(q, 8 * i, 4096, i));
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_wait_taken(d->queues[q]);
    }
}

static void remove_disk(VblkMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'disk'}}");
    qtest_qmp_assert_success(m->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'slow'}}");
}

static void test_unplug(const VblkVariant *v, const char *json)
{
    char *image = vblk_image_new(IMAGE_SIZE);
    VblkMachine *m = start(v);
    uint8_t before[4096], after[4096];
    uint64_t ring;
    VblkDevice *d;

    vblk_slow_disk_add(m, image, NULL);
    d = plug(m, json);
    load(d);
    ring = d->queues[0]->device;
    vblk_device_del(m, 0);
    vblk_device_close(d);

    /* The guest's memory is its own again. */
    qtest_memread(m->qts, ring, before, sizeof(before));
    vblk_clock_advance(m, 2000);
    qtest_memread(m->qts, ring, after, sizeof(after));
    g_assert_cmpmem(after, sizeof(after), before, sizeof(before));

    /* The disk is not in use any more, and another one can take its place. */
    remove_disk(m);
    vblk_slow_disk_add(m, image, NULL);
    d = plug(m, json);
    load(d);
    vblk_device_del(m, 0);
    vblk_device_close(d);
    vblk_machine_stop(m);
    vblk_image_free(image);
}

/* A disk that was never touched by a driver goes as well. */
static void test_unplug_idle(const VblkVariant *v)
{
    VblkMachine *m = start(v);

    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpstr(vblk_device_add(m, 0,
                                        "'drive': 'null', 'num-queues': 4,"
                                        "'iothread': 'io0'"), ==, NULL);
        vblk_device_del(m, 0);
    }
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'null'}}");
    vblk_machine_stop(m);
}

/* A neighbour in the same IOThreads does not notice. */
static void test_neighbour(const VblkVariant *v)
{
    char *image = vblk_image_new(IMAGE_SIZE);
    VblkMachine *m = start(v);
    VblkDevice *d, *other;
    VblkRequest *r[QUEUES];

    vblk_slow_disk_add(m, image, NULL);
    g_assert_cmpstr(vblk_device_add(m, 1, "'drive': 'null', 'num-queues': 4,"
                                    "'iothread-vq-mapping': ["
                                    "{'iothread': 'io0'},"
                                    "{'iothread': 'io1'}]"), ==, NULL);
    other = vblk_device_open(m, 1);
    vblk_device_start(other, 0, VBLK_ALL_QUEUES);
    d = plug(m, mapped);
    load(d);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned q = 0; q < QUEUES; q++) {
            r[q] = vblk_read_new(other->queues[q], q, 4096);
            vblk_request_submit(r[q]);
        }
        if (round == 1) {
            vblk_device_del(m, 0);
        }
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_request_finish(r[q]);
            vblk_vector_wait(other, q + 1);
        }
    }
    vblk_device_close(d);
    vblk_device_close(other);
    vblk_machine_stop(m);
    vblk_image_free(image);
}

/* The disk is taken away under the device, and the driver goes on. */
static void test_drive_del(const VblkVariant *v)
{
    static const uint32_t types[] = {
        VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD,
        VIRTIO_BLK_T_ZONE_REPORT, VIRTIO_BLK_T_ZONE_OPEN,
        VIRTIO_BLK_T_ZONE_RESET_ALL, VIRTIO_BLK_T_ZONE_APPEND,
    };
    g_autofree char *arg = vblk_device_arg(v, 0, "drive=legacy,num-queues=2");
    VblkMachine *m = vblk_machine_start(v, "-drive if=none,id=legacy,"
                                        "driver=null-co,size=1048576 "
                                        "-device %s", arg);
    VblkDevice *d = vblk_device_open(m, 0);
    uint8_t buf[VBLK_SECTOR] = {};

    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    g_free(qtest_hmp(m->qts, "drive_del legacy"));
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        g_assert_cmphex(vblk_request_run(d->queues[i % 2], types[i], 0, buf,
                                         VBLK_SECTOR), !=, 0xff);
    }
    g_assert_cmphex(vblk_request_run(d->queues[0], VIRTIO_BLK_T_ZONE_OPEN, 0,
                                     NULL, 0), ==, VIRTIO_BLK_S_UNSUPP);
    vblk_device_close(d);
    vblk_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("unplug/load", test_unplug, plain, VBLK_ALL);
    vblk_test_add_with("unplug/load-iothreads", test_unplug, mapped, VBLK_ALL);
    vblk_test_add("unplug/idle", test_unplug_idle, VBLK_ALL);
    vblk_test_add("unplug/neighbour", test_neighbour, VBLK_ALL);
    vblk_test_add("unplug/drive-del", test_drive_del, VBLK_BOTH);
    return g_test_run();
}
