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
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=3,packed=on"

/* Different numbers of requests, so that no two rings are alike. */
static void use(VblkDisk *disk, uint32_t seed)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i < 7 + 90 * q; i++) {
            vblk_write(disk->d->queues[q], q * 16 + i % 16, VBLK_SECTOR,
                       seed + i);
        }
        vblk_read(disk->d->queues[(q + 1) % QUEUES], q * 16 + (6 + 90 * q) % 16,
                  VBLK_SECTOR, seed + 6 + 90 * q);
    }
}

static void drain_vectors(VblkDevice *d)
{
    for (unsigned v = 0; v < d->num_vectors; v++) {
        vblk_vector_take(d, v);
    }
}

static void check_ring(const VblkVariant *v, uint64_t features,
                       const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);

    vblk_device_start(disk.d, features, VBLK_ALL_QUEUES);
    use(&disk, 1);
    vblk_disk_migrate(&disk, props);
    use(&disk, 1000);
    drain_vectors(disk.d);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_suppress(disk.d->queues[q], false);
        if (features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
            vblk_queue_set_event(disk.d->queues[q], 0);
        }
        vblk_write(disk.d->queues[q], 100, VBLK_SECTOR, q);
        vblk_vector_wait(disk.d, q + 1);
    }
    /* Migrate back. */
    vblk_disk_migrate(&disk, props);
    use(&disk, 2000);
    vblk_disk_stop(&disk);
}

static void test_split(const VblkVariant *v)
{
    check_ring(v, 0, PROPS);
}

static void test_split_event(const VblkVariant *v)
{
    check_ring(v, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), PROPS ",iothread=io0");
}

static void test_packed(const VblkVariant *v)
{
    check_ring(v, BIT_ULL(VIRTIO_F_RING_PACKED), PROPS);
}

static void test_packed_event(const VblkVariant *v)
{
    check_ring(v, BIT_ULL(VIRTIO_F_RING_PACKED) |
               BIT_ULL(VIRTIO_RING_F_EVENT_IDX), PROPS ",iothread=io0");
}

/* Return whether this is QEMU's own device, which does not remind a driver. */
static bool is_stock(VblkMachine *m)
{
    QDict *rsp = qtest_qmp(m->qts, "{'execute':"
                           " '__org.qemu-mq_query-block-queues'}");
    bool stock = qdict_haskey(rsp, "error");

    qobject_unref(rsp);
    return stock;
}

/*
 * The interrupt of a request comes, but this driver does not see it, as if the
 * old QEMU had lost it.  The new one reminds the driver.
 */
static void check_reminder(const VblkVariant *v, uint64_t features,
                           const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);
    VblkRequest *r;

    vblk_device_start(disk.d, features, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_suppress(disk.d->queues[q], q != 1);
        if (features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
            vblk_queue_set_event(disk.d->queues[q], 0);
        }
    }
    r = vblk_write_new(disk.d->queues[1], 0, VBLK_SECTOR, 1);
    vblk_request_submit(r);
    vblk_vector_wait(disk.d, 2);
    vblk_disk_migrate(&disk, props);
    if (!is_stock(disk.m)) {
        vblk_vector_wait(disk.d, 2);
    }
    vblk_request_finish(r);
    vblk_vectors_silent(disk.d);
    vblk_disk_stop(&disk);
}

static void test_reminder(const VblkVariant *v)
{
    check_reminder(v, 0, PROPS);
    check_reminder(v, 0, PROPS ",ioeventfd=off");
    check_reminder(v, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), PROPS ",iothread=io0");
}

static void test_reminder_packed(const VblkVariant *v)
{
    check_reminder(v, BIT_ULL(VIRTIO_F_RING_PACKED), PROPS ",iothread=io0");
    check_reminder(v, BIT_ULL(VIRTIO_F_RING_PACKED) |
                   BIT_ULL(VIRTIO_RING_F_EVENT_IDX), PROPS);
}

/* virtio.c's reader has this ring. */
static void test_reminder_in_order(const VblkVariant *v)
{
    check_reminder(v, BIT_ULL(VIRTIO_F_IN_ORDER), PROPS ",in_order=on");
}

/* Between IOThreads and the main loop, which no guest can see. */
static void test_other_threads(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    use(&disk, 1);
    vblk_disk_migrate(&disk, PROPS);
    use(&disk, 1000);
    vblk_disk_migrate(&disk, PROPS ",iothread=io1");
    use(&disk, 2000);
    vblk_disk_stop(&disk);
}

/* The driver uses only some queues.  The others stay as they are. */
static void test_fewer(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, PROPS);

    vblk_device_start(disk.d, 0, 1);
    vblk_write(disk.d->queues[0], 0, VBLK_SECTOR, 5);
    vblk_disk_migrate(&disk, PROPS);
    vblk_read(disk.d->queues[0], 0, VBLK_SECTOR, 5);
    g_assert_false(vblk_device_queue_enabled(disk.d, 1));
    g_assert_false(vblk_device_queue_enabled(disk.d, 2));
    vblk_device_notify(disk.d, 1);
    vblk_read(disk.d->queues[0], 0, VBLK_SECTOR, 5);
    vblk_disk_stop(&disk);
}

/* The target serves requests that the source had no time to look at. */
static void test_untouched(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");
    VblkRequest *r[QUEUES];

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    use(&disk, 1);
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'stop'}");
    for (unsigned q = 0; q < QUEUES; q++) {
        r[q] = vblk_write_new(disk.d->queues[q], 200 + q, VBLK_SECTOR, q);
        vblk_request_submit(r[q]);
    }
    vblk_disk_migrate(&disk, PROPS ",iothread=io0");
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_request_finish(r[q]);
        vblk_read(disk.d->queues[q], 200 + q, VBLK_SECTOR, q);
    }
    vblk_disk_stop(&disk);
}

/* Return the number of passes over all memory, or -1 after the last pass. */
static int64_t dirty_syncs(VblkMachine *m)
{
    QDict *info = qtest_qmp_assert_success_ref(m->qts, "{'execute':"
                                               " 'query-migrate'}");
    int64_t count = 0;

    if (qdict_haskey(info, "ram")) {
        count = qdict_get_int(qdict_get_qdict(info, "ram"),
                              "dirty-sync-count");
    }
    if (!g_strcmp0(qdict_get_try_str(info, "status"), "completed")) {
        count = -1;
    }
    qobject_unref(info);
    return count;
}

static void set_bandwidth(VblkMachine *m, uint64_t bandwidth)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'migrate-set-parameters',"
                             " 'arguments': {'downtime-limit': 1,"
                             " 'max-bandwidth': %" PRIu64 "}}", bandwidth);
}

/* Wait for a request; false if the migration ends first and stops the guest. */
static bool wait_live(VblkRequest *r)
{
    while (!r->done && dirty_syncs(r->queue->dev->machine) >= 0) {
        vblk_queue_reap(r->queue);
    }
    return r->done;
}

/* Keep much of the guest's memory dirty for two rounds and more. */
static bool dirty_memory(VblkDisk *disk)
{
    gint64 start = g_get_monotonic_time();
    VblkRequest *r[QUEUES];
    bool alive = true;

    for (unsigned q = 0; q < QUEUES; q++) {
        r[q] = vblk_read_new(disk->d->queues[q], 0, IMAGE_SIZE / 8);
    }
    while (alive && dirty_syncs(disk->m) < 3) {
        for (unsigned q = 0; alive && q < QUEUES; q++) {
            r[q]->done = false;
            vblk_request_submit(r[q]);
            alive = wait_live(r[q]);
        }
        vblk_deadline(start, "the second round of a migration");
    }
    return alive;
}

/*
 * The guest runs while its memory is copied.  If the device writes to memory
 * that has been copied before, the memory must be copied again: data of reads,
 * status bytes, and rings.
 *
 * Returns: false if the migration has ended too early to tell.
 */
static bool check_live(const VblkVariant *v, uint64_t features,
                       uint64_t bandwidth)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");
    char *file = vblk_image_new(0);
    VblkRequest *r[QUEUES * 8];
    VblkMachine *old = disk.m;
    bool alive;

    vblk_device_start(disk.d, features, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < IMAGE_SIZE / 8 / 4096; i++) {
        vblk_write(disk.d->queues[i % QUEUES], 8 * i, 4096, i + 1);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = vblk_read_new(disk.d->queues[i % QUEUES], 8 * i, 4096);
    }

    /* Too slow to come to an end while requests keep memory dirty. */
    set_bandwidth(old, bandwidth);
    vblk_machine_migrate_begin(old, file);
    alive = dirty_memory(&disk);
    for (unsigned i = 0; alive && i < ARRAY_SIZE(r); i++) {
        vblk_request_submit(r[i]);
        alive = wait_live(r[i]);
    }
    qtest_qmp_assert_success(old->qts, "{'execute': 'stop'}");
    set_bandwidth(old, 1000 * MiB);

    disk.m = vblk_disk_start_target(&disk, PROPS ",iothread=io0");
    vblk_machine_migrate_end(old, disk.m, file);
    vblk_device_move(disk.d, disk.m);
    vblk_machine_stop(old);
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'cont'}");
    for (unsigned i = 0; alive && i < ARRAY_SIZE(r); i++) {
        g_assert_cmphex(vblk_request_status(r[i]), ==, VIRTIO_BLK_S_OK);
        vblk_read_check(r[i], i + 1);
    }
    if (alive) {
        use(&disk, 3000);
    }
    vblk_disk_stop(&disk);
    vblk_image_free(file);
    return alive;
}

/* On a busy host the migration may end too early.  Then slow it down more. */
static void check_live_slower(const VblkVariant *v, uint64_t features)
{
    uint64_t bandwidth = MiB;

    while (!check_live(v, features, bandwidth)) {
        bandwidth /= 2;
        g_assert_cmpuint(bandwidth, >, 50 * KiB);
    }
}

static void test_live(const VblkVariant *v)
{
    check_live_slower(v, 0);
}

static void test_live_packed(const VblkVariant *v)
{
    check_live_slower(v, BIT_ULL(VIRTIO_F_RING_PACKED) |
                      BIT_ULL(VIRTIO_RING_F_EVENT_IDX));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("migrate/split", test_split, VBLK_BOTH);
    vblk_test_add("migrate/split-event", test_split_event, VBLK_BOTH);
    vblk_test_add("migrate/packed", test_packed, VBLK_Q35_MODERN);
    vblk_test_add("migrate/packed-event", test_packed_event, VBLK_Q35_MODERN);
    vblk_test_add("migrate/reminder", test_reminder, VBLK_BOTH);
    vblk_test_add("migrate/reminder-packed", test_reminder_packed,
                  VBLK_Q35_MODERN);
    vblk_test_add("migrate/reminder-in-order", test_reminder_in_order,
                  VBLK_MODERN);
    vblk_test_add("migrate/other-threads", test_other_threads, VBLK_BOTH);
    vblk_test_add("migrate/fewer", test_fewer, VBLK_BOTH);
    vblk_test_add("migrate/untouched", test_untouched, VBLK_BOTH);
    vblk_test_add("migrate/live", test_live, VBLK_BOTH);
    vblk_test_add("migrate/live-packed", test_live_packed, VBLK_Q35_MODERN);
    return g_test_run();
}
