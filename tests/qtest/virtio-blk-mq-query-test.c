/*
 * Queries of a queue while an IOThread reads its ring
 *
 *     x-query-virtio-queue-status         position, requests in flight
 *     x-query-virtio-queue-element        the chain that comes next
 *     __org.qemu-mq_query-block-queues    notifications
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define SIZE (1024 * 1024)
#define PATH "/machine/peripheral/disk0/virtio-backend"
#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)

typedef struct Position {
    unsigned taken, used, in_flight;
} Position;

static Position query_position(VblkMachine *m, unsigned queue)
{
    QDict *info = qtest_qmp_assert_success_ref(
        m->qts, "{'execute': 'x-query-virtio-queue-status',"
        " 'arguments': {'path': %s, 'queue': %u}}", PATH, queue);
    Position p = {
        .taken = qdict_get_int(info, "last-avail-idx"),
        .used = qdict_get_int(info, "used-idx"),
        .in_flight = qdict_get_int(info, "inuse"),
    };

    qobject_unref(info);
    return p;
}

/* @taken and @used count slots; a packed ring's indexes end with the ring. */
static void check_position(VblkQueue *q, unsigned taken, unsigned used)
{
    Position p = query_position(q->dev->machine, q->index);
    bool packed = q->dev->features & PACKED;
    unsigned n = packed ? q->size : UINT16_MAX + 1;

    g_assert_cmpuint(p.taken, ==, taken % n);
    g_assert_cmpuint(p.used, ==, used % n);
    g_assert_cmpuint(p.in_flight, ==, taken - used);
}

/* Return the number of slots that a request with three segments takes. */
static unsigned slots_of_one(VblkQueue *q)
{
    return q->dev->features & PACKED ? 3 : 1;
}

static void run_rings(VblkDisk *disk, const VblkRing *ring)
{
    VblkQueue *q[] = { disk->d->queues[0], disk->d->queues[1] };
    unsigned slots = slots_of_one(q[0]), rounds = 2 * q[0]->size / slots + 3;
    QTestState *qts = disk->m->qts;

    check_position(q[0], 0, 0);
    for (unsigned i = 1; i <= rounds; i++) {
        vblk_write(q[0], i % 64, VBLK_SECTOR, i);
        if (i < 4 || i > rounds - 4) {
            check_position(q[0], i * slots, i * slots);
            check_position(q[1], 0, 0);
        }
    }
    /* Asking changes nothing, and a stop shows the same. */
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    check_position(q[0], rounds * slots, rounds * slots);
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
    vblk_write(q[1], 0, VBLK_SECTOR, 7);
    check_position(q[0], rounds * slots, rounds * slots);
    check_position(q[1], slots, slots);
}

static void test_position(const VblkVariant *v)
{
    vblk_disk_run_rings(v, SIZE, "num-queues=2,packed=on,iothread=io0",
                        run_rings);
    vblk_disk_run_rings(v, SIZE, "num-queues=2,packed=on", run_rings);
}

/* Check that a query sees requests that wait, and that they go on waiting. */
static void check_in_flight(const VblkVariant *v, const char *props,
                            uint64_t features)
{
    g_autofree char *json = g_strdup_printf("'drive': 'disk', 'num-queues': 2,"
                                            "'packed': true %s", props);
    char *image = vblk_image_new(SIZE);
    VblkMachine *m = vblk_machine_start(v, VBLK_IOTHREADS);
    VblkRequest *r[3];
    VblkDevice *d;
    unsigned slots;

    vblk_slow_disk_add(m, image, NULL);
    g_assert_cmpstr(vblk_device_add(m, 0, json), ==, NULL);
    d = vblk_device_open(m, 0);
    vblk_device_start(d, features | BIT_ULL(VIRTIO_RING_F_EVENT_IDX),
                      VBLK_ALL_QUEUES);
    slots = slots_of_one(d->queues[1]);
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = vblk_write_new(d->queues[1], i * 64, 4096, i);
        vblk_request_submit(r[i]);
    }
    vblk_queue_wait_taken(d->queues[1]);
    for (unsigned i = 0; i < 3; i++) {
        check_position(d->queues[1], 3 * slots, 0);
    }
    /* It is not certain when a query sees that a request has ended. */
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        Position p;

        g_assert_cmphex(vblk_request_wait_throttled(r[i]), ==, VIRTIO_BLK_S_OK);
        vblk_request_free(r[i]);
        p = query_position(m, 1);
        g_assert_cmpuint(p.taken, ==, 3 * slots);
        g_assert_cmpuint(p.used, >=, (i + 1) * slots);
        g_assert_cmpuint(p.used % slots, ==, 0);
        g_assert_cmpuint(p.in_flight, ==, p.taken - p.used);
    }
    check_position(d->queues[1], 3 * slots, 3 * slots);
    vblk_device_close(d);
    vblk_machine_stop(m);
    vblk_image_free(image);
}

static void test_in_flight(const VblkVariant *v)
{
    check_in_flight(v, ", 'iothread': 'io0'", 0);
    check_in_flight(v, "", 0);
}

static void test_in_flight_packed(const VblkVariant *v)
{
    check_in_flight(v, ", 'iothread': 'io0'", PACKED);
}

/* The next slot of the available ring holds @head, not yet published. */
static void check_element(VblkQueue *q, unsigned head, uint64_t addr)
{
    QTestState *qts = q->dev->qts;
    uint64_t slot = q->driver + offsetof(struct vring_avail, ring) +
                    2 * (q->avail % q->size);
    const QListEntry *first;
    QDict *element;

    qtest_writew(qts, slot, head);
    element = qtest_qmp_assert_success_ref(
        qts, "{'execute': 'x-query-virtio-queue-element', 'arguments':"
        " {'path': %s, 'queue': %u}}", PATH, q->index);
    g_assert_cmpint(qdict_get_int(element, "index"), ==, head);
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(element, "used"), "idx"), ==,
                    q->used);
    first = qlist_first(qdict_get_qlist(element, "descs"));
    g_assert_cmphex(qdict_get_int(qobject_to(QDict, qlist_entry_obj(first)),
                                  "addr"), ==, addr);
    qobject_unref(element);
}

static void test_element(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, "num-queues=2,iothread=io0");
    VblkQueue *q;

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    q = disk.d->queues[0];
    for (unsigned i = 0; i < 10; i++) {
        unsigned head = q->size - 1 - i;
        uint64_t addr = 0x10000 + i * 16;

        vblk_split_write(disk.d, q->desc, head, addr, 16, 0, 0);
        check_element(q, head, addr);
        vblk_write(q, i, VBLK_SECTOR, i);
    }
    vblk_disk_stop(&disk);
}

/*
 * Notifications
 */

static unsigned count_notifications(VblkDisk *disk)
{
    QDict *info = vblk_disk_queue_info(disk, 0);
    unsigned n = qdict_get_int(info, "notifications");

    qobject_unref(info);
    return n;
}

/* An interrupt may be seen a little before it is counted. */
static void wait_notifications(VblkDisk *disk, unsigned n)
{
    gint64 start = g_get_monotonic_time();

    while (count_notifications(disk) < n) {
        vblk_deadline(start, "a notification to be counted");
    }
    g_assert_cmpuint(count_notifications(disk), ==, n);
}

static void check_notifications(const VblkVariant *v, const char *props,
                                uint64_t features)
{
    VblkDisk disk = vblk_disk_start(v, SIZE, NULL, props);
    VblkQueue *q;

    vblk_device_start(disk.d, features, VBLK_ALL_QUEUES);
    g_assert_cmphex(disk.d->features & features, ==, features);
    q = disk.d->queues[0];
    for (unsigned i = 0; i < 5; i++) {
        wait_notifications(&disk, i);
        vblk_write(q, i, VBLK_SECTOR, i);
        vblk_vector_wait(disk.d, 1);
    }
    wait_notifications(&disk, 5);
    vblk_queue_suppress(q, true);
    for (unsigned i = 0; i < 5; i++) {
        vblk_write(q, i, VBLK_SECTOR, i);
        g_assert_cmpuint(count_notifications(&disk), ==, 5);
    }
    vblk_queue_suppress(q, false);
    vblk_write(q, 0, VBLK_SECTOR, 0);
    vblk_vector_wait(disk.d, 1);
    wait_notifications(&disk, 6);
    vblk_disk_stop(&disk);
}

static void test_notifications(const VblkVariant *v)
{
    check_notifications(v, "num-queues=2,iothread=io0", 0);
    check_notifications(v, "num-queues=2", 0);
}

/* A ring whose requests are used in order is read by virtio.c. */
static void test_notifications_base(const VblkVariant *v)
{
    check_notifications(v, "num-queues=2,in_order=on,iothread=io0",
                        BIT_ULL(VIRTIO_F_IN_ORDER));
    check_notifications(v, "num-queues=2,in_order=on",
                        BIT_ULL(VIRTIO_F_IN_ORDER));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("query/position", test_position, VBLK_BOTH);
    vblk_test_add("query/in-flight", test_in_flight, VBLK_BOTH);
    vblk_test_add("query/in-flight-packed", test_in_flight_packed, VBLK_MODERN);
    vblk_test_add("query/element", test_element, VBLK_BOTH);
    vblk_test_add("query/notifications", test_notifications, VBLK_BOTH);
    vblk_test_add("query/notifications-base", test_notifications_base,
                  VBLK_MODERN);
    return g_test_run();
}
