/*
 * Queues that move between IOThreads while the driver uses them
 *
 *     queue 0 --io0--> io1 --> main loop --> io0 ...
 *     queue 1 --io0--> main loop --> io1 ...          requests never cease
 *
 * The driver's library ends the test when a request is answered twice.  This
 * file checks that no request is lost.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"
#include "vblk-iothreads.h"

#define QUEUES 4
#define DEPTH 16
#define ROUNDS 24
#define SIZE (1024 * 1024)
#define PROPS "num-queues=4,iothread=io0"

static const char *const homes[] = { "io0", "io1", NULL };

static uint64_t sector(unsigned round, unsigned queue, unsigned i)
{
    return ((round % 4 * QUEUES + queue) * DEPTH + i) * 8;
}

/* Requests of one round, DEPTH on each queue. */
typedef struct Load {
    VblkDisk *disk;
    VblkRequest *r[QUEUES][DEPTH];
} Load;

static uint32_t seed(unsigned round, unsigned queue, unsigned i)
{
    return round * 1000 + queue * 100 + i;
}

static void load_begin(Load *load, unsigned round)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkQueue *queue = load->disk->d->queues[q];

        for (unsigned i = 0; i < DEPTH; i++) {
            load->r[q][i] = vblk_write_new(queue, sector(round, q, i),
                                           8 * VBLK_SECTOR, seed(round, q, i));
            vblk_request_add(load->r[q][i]);
        }
        vblk_queue_kick(queue);
    }
}

static void load_end(Load *load)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i < DEPTH; i++) {
            vblk_request_finish(load->r[q][i]);
        }
    }
}

/* Queues move while requests are in the rings.  All requests are answered. */
static void test_under_load(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, PROPS);
    Load load = { .disk = &disk };

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned moved = round % QUEUES;
        const char *home = homes[round % ARRAY_SIZE(homes)];

        load_begin(&load, round);
        vblk_disk_move(&disk, moved, home);
        vblk_disk_check_home(&disk, moved, home);
        load_end(&load);
        for (unsigned q = 0; q < QUEUES; q++) {
            /* Read where another queue has written. */
            vblk_read(disk.d->queues[q], sector(round, moved, q),
                      8 * VBLK_SECTOR, seed(round, moved, q));
        }
    }
    vblk_disk_stop(&disk);
}

/* An IOThread that no queue is left in may go, the node with queue 0. */
static void test_iothread_goes(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, PROPS);

    /* The property itself keeps io0. */
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_disk_move(&disk, q, "io1");
    }
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(disk.d->queues[q], q, VBLK_SECTOR, q);
        vblk_disk_move(&disk, q, "io0");
    }
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'io1'}}");
    /* The block layer does this in the node's thread. */
    vblk_disk_resize(&disk, 2 * SIZE);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_read(disk.d->queues[q], q, VBLK_SECTOR, q);
    }
    vblk_device_reset(disk.d);
    vblk_disk_stop(&disk);
}

/*
 * A group that is older than qtest's clock goes by the host's.  Where time
 * stands still, a timer set to the present can run over and over again.
 */
#define THROTTLE_GROUP " -object throttle-group,id=group0"

static void throttle(VblkDisk *disk, unsigned iops)
{
    qtest_qmp_assert_success(disk->m->qts,
        "{'execute': 'block_set_io_throttle', 'arguments': {"
        " 'id': '/machine/peripheral/disk0/virtio-backend',"
        " 'group': 'group0', 'iops': %u, 'iops_rd': 0, 'iops_wr': 0,"
        " 'bps': 0, 'bps_rd': 0, 'bps_wr': 0}}", iops);
}

/* Drained for other reasons at the same time, and slowed down. */
static void test_drains(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, PROPS THROTTLE_GROUP);
    Load load = { .disk = &disk };

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned round = 0; round < ROUNDS; round++) {
        load_begin(&load, round);
        throttle(&disk, round & 1 ? 0 : 5);
        vblk_disk_move(&disk, round % QUEUES, homes[round % ARRAY_SIZE(homes)]);
        vblk_disk_resize(&disk, SIZE * (2 + (round & 1)));
        vblk_disk_move(&disk, 0, homes[(round + 1) % ARRAY_SIZE(homes)]);
        throttle(&disk, 0);
        load_end(&load);
    }
    vblk_disk_stop(&disk);
}

/* The interrupt of a queue goes with it. */
static void test_vectors(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, PROPS);

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < ARRAY_SIZE(homes); i++) {
        vblk_disk_move(&disk, 2, homes[i]);
        /* The move looked at the ring, so the old thread may have raised it. */
        vblk_vector_take(disk.d, 3);
        vblk_write(disk.d->queues[2], 0, VBLK_SECTOR, i);
        vblk_vector_wait(disk.d, 3);
        vblk_vectors_silent(disk.d);
    }
    vblk_disk_stop(&disk);
}

/* A move before the driver is there lasts, and outlives resets. */
static void test_idle_device(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, PROPS);

    vblk_disk_move(&disk, 1, "io1");
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    vblk_disk_check_home(&disk, 1, "io1");
    vblk_write(disk.d->queues[1], 0, VBLK_SECTOR, 1);
    vblk_device_reset(disk.d);
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    vblk_disk_check_home(&disk, 1, "io1");
    vblk_read(disk.d->queues[1], 0, VBLK_SECTOR, 1);
    vblk_disk_stop(&disk);
}

static void check_refused(VblkDisk *disk, const char *id, unsigned queue,
                          const char *iothread, const char *text)
{
    QDict *rsp = qtest_qmp(disk->m->qts, "{'execute':"
                           " '__org.qemu-mq_block-queue-set-iothread',"
                           " 'arguments':"
                           " {'id': %s, 'queue': %u, 'iothread': %s}}",
                           id, queue, iothread);

    g_assert_true(qdict_haskey(rsp, "error"));
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(rsp, "error"),
                                          "desc"), text));
    qobject_unref(rsp);
}

static void test_refused(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, PROPS);

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    check_refused(&disk, "disk0", 4, "io1", "has no queue 4");
    check_refused(&disk, "disk0", 0, "io9",
                  "IOThread \"io9\" object does not exist");
    check_refused(&disk, "none", 0, "io1", "not found");
    check_refused(&disk, "/machine/unattached", 0, "io1", "not found");
    vblk_write(disk.d->queues[0], 0, VBLK_SECTOR, 1);
    vblk_disk_stop(&disk);
}

static void test_refused_without_ioeventfd(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL,
                                    "num-queues=4,ioeventfd=off");

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    check_refused(&disk, "disk0", 0, "io1",
                  "ioeventfd is required for iothread");
    vblk_disk_move(&disk, 0, NULL);
    vblk_write(disk.d->queues[0], 0, VBLK_SECTOR, 1);
    vblk_disk_stop(&disk);
}

/* iothreads=N makes N IOThreads and deals the queues out to them. */
static void test_own_iothreads(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL,
                                    "num-queues=4,iothreads=3");
    g_auto(GStrv) names = vblk_iothread_names(disk.m->qts);

    /* io0 and io1 are the machine's. */
    g_assert_cmpuint(g_strv_length(names), ==, 5);
    vblk_disk_check_home(&disk, 0, "disk0-iothread0");
    vblk_disk_check_home(&disk, 1, "disk0-iothread1");
    vblk_disk_check_home(&disk, 2, "disk0-iothread2");
    vblk_disk_check_home(&disk, 3, "disk0-iothread0");
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(disk.d->queues[q], q, VBLK_SECTOR, q);
    }
    vblk_disk_move(&disk, 0, "disk0-iothread2");
    vblk_disk_check_home(&disk, 0, "disk0-iothread2");
    vblk_read(disk.d->queues[0], 3, VBLK_SECTOR, 3);
    vblk_disk_stop(&disk);
}

static void test_auto_iothreads(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL,
                                    "num-queues=4,iothreads=auto");

    vblk_disk_check_home(&disk, 0, "disk0-iothread0");
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(disk.d->queues[q], q, VBLK_SECTOR, q);
    }
    vblk_disk_stop(&disk);
}

static void check_add_refused(VblkDisk *disk, const char *iothreads,
                              const char *text)
{
    QDict *rsp = qtest_qmp(disk->m->qts, "{'execute': 'device_add',"
                           " 'arguments': {'driver': 'virtio-blk-pci',"
                           " 'id': 'bad', 'drive': 'disk', 'num-queues': 2,"
                           " 'share-rw': true, 'iothreads': %s}}", iothreads);
    const char *desc;

    g_assert_true(qdict_haskey(rsp, "error"));
    desc = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");
    g_assert_nonnull(strstr(desc, text));
    qobject_unref(rsp);
}

static void test_bad_iothreads(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL,
                                    "num-queues=4,share-rw=on");

    check_add_refused(&disk, "0", "invalid iothreads property '0'");
    check_add_refused(&disk, "-1", "invalid iothreads property '-1'");
    check_add_refused(&disk, "many", "invalid iothreads property 'many'");
    check_add_refused(&disk, "3", "must not be larger than");
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("move/under-load", test_under_load, VBLK_BOTH);
    vblk_test_add("move/iothread-goes", test_iothread_goes, VBLK_BOTH);
    vblk_test_add("move/drains", test_drains, VBLK_BOTH);
    vblk_test_add("move/vectors", test_vectors, VBLK_BOTH);
    vblk_test_add("move/idle-device", test_idle_device, VBLK_BOTH);
    vblk_test_add("move/refused", test_refused, VBLK_Q35_MODERN);
    vblk_test_add("move/refused-without-ioeventfd",
                  test_refused_without_ioeventfd, VBLK_BOTH);
    vblk_test_add("iothreads/own", test_own_iothreads, VBLK_BOTH);
    vblk_test_add("iothreads/auto", test_auto_iothreads, VBLK_Q35_MODERN);
    vblk_test_add("iothreads/bad", test_bad_iothreads, VBLK_PC_LEGACY);
    return g_test_run();
}
