/*
 * Xen PV disk: rings that move between IOThreads while the driver uses them
 *
 *     ring 0 --io0--> io1 --> main loop --> io0 ...
 *     ring 1 --io0--> main loop --> io1 ...           requests never cease
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "xen-disk-load.h"

#define RINGS 4
#define ROUNDS 24

static const char *const homes[] = { "io0", "io1", NULL };

static const BlkOptions plain = { .protocol = BLK_X86_64, .rings = RINGS };
static const BlkOptions persistent = {
    .protocol = BLK_X86_64, .rings = RINGS, .persistent = true,
};

#define TWO_THREADS \
    " -object iothread,id=io0 -object iothread,id=io1"
#define IN_IO0 ",num-queues=4,iothread=io0" TWO_THREADS

#define MOVE "{ 'execute': '__org.qemu-mq_block-queue-set-iothread'," \
             " 'arguments': "

/*
 * Commands of the monitor
 */

static void move(XenGuest *g, unsigned int ring, const char *iothread)
{
    if (iothread) {
        qtest_qmp_assert_success(g->qts, MOVE "{ 'id': 'xvda', 'queue': %u,"
                                 " 'iothread': %s }}", ring, iothread);
    } else {
        qtest_qmp_assert_success(g->qts, MOVE "{ 'id': 'xvda',"
                                 " 'queue': %u }}", ring);
    }
}

static void move_all(XenGuest *g, const char *iothread)
{
    unsigned int ring;

    for (ring = 0; ring < RINGS; ring++) {
        move(g, ring, iothread);
    }
}

static void move_fails(XenGuest *g, const char *id, unsigned int ring,
                       const char *iothread, const char *text)
{
    QDict *rsp = qtest_qmp(g->qts, MOVE "{ 'id': %s, 'queue': %u,"
                           " 'iothread': %s }}", id, ring, iothread);

    g_assert_true(qdict_haskey(rsp, "error"));
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(rsp, "error"),
                                          "desc"), text));
    qobject_unref(rsp);
}

/* Return what a query of the queues has for @ring, with a reference. */
static QDict *query(XenGuest *g, unsigned int ring)
{
    QDict *rsp = qtest_qmp(g->qts, "{ 'execute':"
                            " '__org.qemu-mq_query-block-queues',"
                           " 'arguments': { 'id': 'xvda' }}");
    QDict *found = NULL;
    const QListEntry *entry;
    unsigned int n = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        g_assert_cmpstr(qdict_get_str(info, "id"), ==, "xvda");
        g_assert_cmpint(qdict_get_int(info, "queue"), ==, n);
        if (n++ == ring) {
            found = qobject_ref(info);
        }
    }
    g_assert_cmpint(n, ==, RINGS);
    qobject_unref(rsp);
    return found;
}

static void check_home(XenGuest *g, unsigned int ring, const char *iothread)
{
    QDict *info = query(g, ring);

    g_assert_cmpstr(qdict_get_try_str(info, "iothread"), ==, iothread);
    g_assert_cmpint(qdict_haskey(info, "thread-id"), ==, iothread != NULL);
    qobject_unref(info);
}

static uint64_t requests(XenGuest *g, unsigned int ring)
{
    QDict *info = query(g, ring);
    uint64_t n = qdict_get_int(info, "requests");

    qobject_unref(info);
    return n;
}

static int64_t thread_of(XenGuest *g, unsigned int ring)
{
    QDict *info = query(g, ring);
    int64_t id = qdict_get_try_int(info, "thread-id", 0);

    qobject_unref(info);
    return id;
}

static void object_del(XenGuest *g, const char *id)
{
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'object-del',"
                             " 'arguments': { 'id': %s }}", id);
}

static bool thread_exists(XenGuest *g, int64_t id)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%" PRId64,
                                            (int)qtest_pid(g->qts), id);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* QEMU has joined it, but the kernel may take a moment to forget it. */
static void check_thread_ends(XenGuest *g, int64_t id)
{
    int64_t end = g_get_monotonic_time() +
                  XEN_GUEST_PATIENCE * G_TIME_SPAN_SECOND;

    while (thread_exists(g, id)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_thread_yield();
    }
}

/* Let the block layer work in the home thread of the node. */
static void resize(XenGuest *g, unsigned int times)
{
    qtest_qmp_assert_success(g->qts,
        "{ 'execute': 'block_resize', 'arguments':"
        "  { 'node-name': 'disk0', 'size': %" PRId64 " }}",
        times * (int64_t)XEN_DISK_SIZE);
}

static void disk_close(XenDisk *d, XenDiskLoad *l)
{
    blkfront_disconnect(d->f);
    xen_disk_load_close(l);
    xen_disk_end(d);
}

/*
 * Moves under load
 */

static void test_under_load(const void *options)
{
    unsigned int round;
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, IN_IO0, options);
    xen_disk_load_open(&l, &d);
    for (round = 1; round <= ROUNDS; round++) {
        unsigned int ring = round % RINGS;
        const char *home = homes[round % ARRAY_SIZE(homes)];

        xen_disk_load_begin(&l, round);
        move(d.g, ring, home);
        check_home(d.g, ring, home);
        move(d.g, (ring + 1) % RINGS, homes[(round + 1) % ARRAY_SIZE(homes)]);
        xen_disk_load_end(&l, round);
        xen_disk_load_check(&l, round);
        xen_disk_check_quiet(&d);
    }
    for (round = 0; round < RINGS; round++) {
        g_assert_cmpint(requests(d.g, round), >=,
                        ROUNDS * d.f->ring[round].nr_entries);
    }
    disk_close(&d, &l);
}

static void throttle(XenGuest *g, unsigned int iops)
{
    qtest_qmp_assert_success(g->qts,
        "{ 'execute': 'block_set_io_throttle', 'arguments': {"
        " 'id': 'xvda', 'iops': %u, 'iops_rd': 0, 'iops_wr': 0,"
        " 'bps': 0, 'bps_rd': 0, 'bps_wr': 0 }}", iops);
}

/*
 * Other operations drain the disk at the same time, and a throttle slows it
 * down.  The accelerator is not qtest, so that the throttle's clock goes on.
 * If it stood still, a timer for the present time could run without end.
 */
static void test_drains(const void *options)
{
    unsigned int round;
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, IN_IO0 " -accel tcg", options);
    xen_disk_load_open(&l, &d);
    for (round = 1; round <= ROUNDS; round++) {
        xen_disk_load_begin(&l, round);
        throttle(d.g, round & 1 ? 5 : 0);
        move(d.g, round % RINGS, homes[round % ARRAY_SIZE(homes)]);
        resize(d.g, 2 + (round & 1));
        move(d.g, 0, homes[(round + 1) % ARRAY_SIZE(homes)]);
        throttle(d.g, 0);
        xen_disk_load_end(&l, round);
        xen_disk_load_check(&l, round);
    }
    disk_close(&d, &l);
}

/* A job that works where ring 0 is, and drains the disk again and again. */
static void test_mirror(const void *options)
{
    unsigned int round;
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, IN_IO0
                  " -blockdev null-co,node-name=null0,size=16777216"
                  " -blockdev raw,node-name=copy0,file=null0", options);
    xen_disk_load_open(&l, &d);
    qtest_qmp_assert_success(d.g->qts,
        "{ 'execute': 'blockdev-mirror', 'arguments': {"
        "  'job-id': 'job0', 'device': 'disk0', 'target': 'copy0',"
        "  'sync': 'full' }}");
    for (round = 1; round <= ROUNDS; round++) {
        xen_disk_load_begin(&l, round);
        move(d.g, round % RINGS, homes[round % ARRAY_SIZE(homes)]);
        move(d.g, 0, homes[(round + 1) % ARRAY_SIZE(homes)]);
        xen_disk_load_end(&l, round);
    }
    qtest_qmp_eventwait(d.g->qts, "BLOCK_JOB_READY");
    xen_disk_load_begin(&l, round);
    move(d.g, 0, homes[round % ARRAY_SIZE(homes)]);
    qtest_qmp_assert_success(d.g->qts,
        "{ 'execute': 'block-job-cancel', 'arguments': {"
        "  'device': 'job0' }}");
    move(d.g, 0, homes[(round + 1) % ARRAY_SIZE(homes)]);
    xen_disk_load_end(&l, round);
    xen_disk_load_check(&l, round);
    qtest_qmp_eventwait(d.g->qts, "BLOCK_JOB_COMPLETED");
    disk_close(&d, &l);
}

/* Events come on the ring's own channel in each of its threads. */
static void test_event_channel(void)
{
    uint8_t buf[BLK_SECTOR];
    unsigned int i, ring;
    XenDisk d;

    xen_disk_open(&d, IN_IO0, &plain);
    for (i = 0; i < ARRAY_SIZE(homes); i++) {
        move(d.g, 2, homes[i]);
        xen_disk_check_quiet(&d);
        for (ring = 0; ring < RINGS; ring++) {
            xen_port_take(&d.f->ring[ring].port);
        }
        g_assert_cmpint(blk_ring_read(&d.f->ring[2], 0, buf, sizeof(buf)), ==,
                        BLK_OKAY);
        xen_disk_check_quiet(&d);
        for (ring = 0; ring < RINGS; ring++) {
            if (ring != 2) {
                g_assert_cmpint(xen_port_take(&d.f->ring[ring].port), ==, 0);
            }
        }
    }
    xen_disk_close(&d);
}

/*
 * Moves while there is no ring, or one that is about to go
 */

static const BlkOptions two_rings = { .protocol = BLK_X86_64, .rings = 2 };

/* A ring that is not connected can be moved.  It begins in that thread. */
static void test_not_connected(void)
{
    XenGuest *g = xen_disk_start(IN_IO0);
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    unsigned int ring;

    move(g, 1, "io1");
    move(g, 3, NULL);
    check_home(g, 1, "io1");
    g_assert_cmpint(requests(g, 1), ==, 0);
    blkfront_connect(f, &two_rings);
    check_home(g, 1, "io1");
    blk_ring_check(&f->ring[1], 0);
    g_assert_cmpint(requests(g, 1), ==, 2);
    g_assert_cmpint(requests(g, 3), ==, 0);
    move(g, 0, NULL);
    move(g, 2, "io1");
    blk_ring_check(&f->ring[0], 0);

    blkfront_disconnect(f);
    g_assert_cmpint(requests(g, 1), ==, 0);
    move(g, 0, "io1");
    blkfront_reset(f);
    move(g, 1, "io0");
    blkfront_connect(f, &plain);
    check_home(g, 0, "io1");
    check_home(g, 1, "io0");
    check_home(g, 2, "io1");
    check_home(g, 3, NULL);
    for (ring = 0; ring < RINGS; ring++) {
        blk_ring_check(&f->ring[ring], 8 * ring);
        g_assert_cmpint(requests(g, ring), ==, 2);
    }
    blkfront_disconnect(f);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* The monitor does not wait for the frontend, nor the frontend for it. */
static void test_while_reconnecting(const void *opaque)
{
    const BlkOptions *options = opaque;
    unsigned int round;
    XenDisk d;

    xen_disk_open(&d, IN_IO0, options);
    for (round = 0; round < ROUNDS; round++) {
        const char *home = homes[round % ARRAY_SIZE(homes)];
        unsigned int ring = round % RINGS;

        blk_ring_check(&d.f->ring[ring], 8 * round);
        blkfront_state(d.f, XB_CLOSING);
        move(d.g, ring, home);
        blkfront_state(d.f, XB_CLOSED);
        move(d.g, ring, homes[(round + 1) % ARRAY_SIZE(homes)]);
        blkfront_expect(d.f, XB_CLOSED);
        blkfront_teardown(d.f);
        blkfront_state(d.f, XB_INITIALISING);
        move(d.g, 0, home);
        blkfront_expect(d.f, XB_INIT_WAIT);
        blkfront_setup(d.f, options);
        blkfront_publish(d.f, options);
        blkfront_state(d.f, XB_INITIALISED);
        move(d.g, ring, home);
        blkfront_expect(d.f, XB_CONNECTED);
        check_home(d.g, ring, home);
    }
    xen_disk_close(&d);
}

/* A damaged ring brings the disk to state Closing, while others are full. */
static void test_closing(const void *options)
{
    unsigned int round;
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, IN_IO0, options);
    xen_disk_load_open(&l, &d);
    for (round = 1; round <= ARRAY_SIZE(homes); round++) {
        xen_disk_load_begin(&l, round);
        xen_disk_load_end(&l, round);
        blk_ring_set_producer(&d.f->ring[1], 0x40000000);
        move(d.g, 1, homes[round % ARRAY_SIZE(homes)]);
        blkfront_expect(d.f, XB_CLOSING);
        move(d.g, 1, homes[(round + 1) % ARRAY_SIZE(homes)]);
        move(d.g, 2, homes[round % ARRAY_SIZE(homes)]);
        /* The new thread does not look at the damaged ring again. */
        blk_ring_check(&d.f->ring[2], 0);
        blkfront_state(d.f, XB_CLOSED);
        blkfront_expect(d.f, XB_CLOSED);
        blkfront_teardown(d.f);
        blkfront_reset(d.f);
        blkfront_connect(d.f, options);
        xen_disk_load_run(&l, round);
    }
    disk_close(&d, &l);
}

/*
 * IOThreads that go
 */

/* The node goes with ring 0, so nothing keeps the thread then. */
static void test_iothread_goes(const void *options)
{
    int64_t thread;
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, IN_IO0, options);
    xen_disk_load_open(&l, &d);
    thread = thread_of(d.g, 0);
    xen_disk_load_begin(&l, 1);
    move_all(d.g, "io1");
    g_assert_true(thread_exists(d.g, thread));
    object_del(d.g, "io0");
    check_thread_ends(d.g, thread);
    xen_disk_load_end(&l, 1);
    xen_disk_load_check(&l, 1);
    resize(d.g, 2);

    thread = thread_of(d.g, 0);
    move_all(d.g, NULL);
    object_del(d.g, "io1");
    check_thread_ends(d.g, thread);
    xen_disk_load_run(&l, 2);
    resize(d.g, 1);
    disk_close(&d, &l);
}

/* An IOThread that is deleted while in use loses its name and works on. */
static void test_deleted_in_use(void)
{
    int64_t thread;
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, IN_IO0, &persistent);
    xen_disk_load_open(&l, &d);
    thread = thread_of(d.g, 0);
    xen_disk_load_begin(&l, 1);
    object_del(d.g, "io0");
    xen_disk_load_end(&l, 1);
    xen_disk_load_run(&l, 2);
    resize(d.g, 2);
    g_assert_cmpint(thread_of(d.g, 0), ==, thread);
    move_fails(d.g, "xvda", 1, "io0", "IOThread \"io0\" object does not exist");

    move_all(d.g, "io1");
    check_thread_ends(d.g, thread);
    xen_disk_load_run(&l, 3);
    resize(d.g, 1);
    disk_close(&d, &l);
}

/* Another device keeps the node in an IOThread of the disk, which goes. */
static void test_shared_node(void)
{
    XenGuest *g = xen_disk_start(",num-queues=4,share-rw=on,iothreads=1"
                                 " -machine pc -device virtio-scsi-pci");
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);

    blkfront_connect(f, &plain);
    qtest_qmp_device_add(g->qts, "scsi-hd", "sda",
                         "{ 'drive': 'disk0', 'share-rw': true }");
    qtest_qmp_device_del_send(g->qts, "xvda");
    blkfront_expect(f, XB_CLOSING);
    blkfront_state(f, XB_CLOSED);
    qtest_qmp_eventwait(g->qts, "DEVICE_DELETED");
    blkfront_teardown(f);
    resize(g, 2);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* IOThreads of the disk's own can be left and be moved to, like all others. */
static void test_own_iothreads(void)
{
    XenDisk d;
    XenDiskLoad l;

    xen_disk_open(&d, ",num-queues=4,iothreads=2" TWO_THREADS, &plain);
    xen_disk_load_open(&l, &d);
    check_home(d.g, 3, "xvda-iothread1");
    move_all(d.g, "io1");
    move(d.g, 3, "xvda-iothread0");
    xen_disk_load_run(&l, 1);
    move(d.g, 3, "io0");
    xen_disk_load_run(&l, 2);
    move(d.g, 3, "xvda-iothread1");
    xen_disk_load_run(&l, 3);
    disk_close(&d, &l);
}

/*
 * Refused
 */

static void test_refused(void)
{
    XenDisk d;

    xen_disk_open(&d, IN_IO0
                  " -object throttle-group,id=group,x-iops-total=1000000",
                  &plain);
    move_fails(d.g, "xvda", 4, "io1", "has no queue 4");
    move_fails(d.g, "xvda", UINT16_MAX, "io1", "has no queue 65535");
    move_fails(d.g, "xvda", 0, "io9",
               "IOThread \"io9\" object does not exist");
    move_fails(d.g, "xvda", 0, "", "object does not exist");
    move_fails(d.g, "xvda", 0, "group", "object does not exist");
    move_fails(d.g, "xvdb", 0, "io1", "Device 'xvdb' not found");
    move_fails(d.g, "io0", 0, "io1", "Device 'io0' not found");
    check_home(d.g, 0, "io0");
    blk_ring_check(&d.f->ring[0], 0);
    xen_disk_close(&d);
}

/*
 * The human monitor
 */

static void test_hmp(void)
{
    g_autofree char *list = NULL, *moved = NULL, *deleted = NULL;
    g_autofree char *said = NULL, *bad_ring = NULL, *bad_thread = NULL;
    g_autofree char *beyond = NULL, *back = NULL;
    QTestState *qts;
    XenDisk d;

    xen_disk_open(&d, IN_IO0, &plain);
    qts = d.g->qts;
    list = qtest_hmp(qts, "info queues");
    g_assert_true(g_regex_match_simple("xvda queue 3: iothread=io0 "
                                       "thread_id=[1-9][0-9]* requests=0 ",
                                       list, 0, 0));
    g_assert_null(strstr(list, "xvda queue 4"));

    said = qtest_hmp(qts, "queue_set_iothread xvda 1 io1");
    g_assert_cmpstr(said, ==, "");
    back = qtest_hmp(qts, "queue_set_iothread xvda 2");
    g_assert_cmpstr(back, ==, "");
    blk_ring_check(&d.f->ring[1], 0);
    blk_ring_check(&d.f->ring[2], 0);
    moved = qtest_hmp(qts, "info queues");
    g_assert_true(g_regex_match_simple("xvda queue 1: iothread=io1 "
                                       "thread_id=[1-9][0-9]* requests=2 ",
                                       moved, 0, 0));
    g_assert_nonnull(strstr(moved, "xvda queue 2: iothread=(main loop) "
                                   "requests=2 "));
    object_del(d.g, "io1");
    deleted = qtest_hmp(qts, "info queues");
    g_assert_nonnull(strstr(deleted, "xvda queue 1: iothread=(deleted) "));

    bad_ring = qtest_hmp(qts, "queue_set_iothread xvda 4 io0");
    g_assert_nonnull(strstr(bad_ring, "Error: Device 'xvda' has no queue 4"));
    beyond = qtest_hmp(qts, "queue_set_iothread xvda 65536 io0");
    g_assert_nonnull(strstr(beyond, "queue must be between 0 and 65535"));
    bad_thread = qtest_hmp(qts, "queue_set_iothread xvda 0 io1");
    g_assert_nonnull(strstr(bad_thread, "\"io1\" object does not exist"));
    xen_disk_close(&d);
}

/* Named /plain and /persistent. */
static void add_for_both(const char *name, GTestDataFunc fn)
{
    g_autofree char *a = g_strdup_printf("/xen-disk/move/%s/plain", name);
    g_autofree char *b = g_strdup_printf("/xen-disk/move/%s/persistent", name);

    qtest_add_data_func(a, &plain, (void *)fn);
    qtest_add_data_func(b, &persistent, (void *)fn);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_for_both("under-load", test_under_load);
    add_for_both("drains", test_drains);
    add_for_both("mirror", test_mirror);
    qtest_add_func("/xen-disk/move/event-channel", test_event_channel);
    qtest_add_func("/xen-disk/move/not-connected", test_not_connected);
    add_for_both("while-reconnecting", test_while_reconnecting);
    add_for_both("closing", test_closing);
    add_for_both("iothread-goes", test_iothread_goes);
    qtest_add_func("/xen-disk/move/deleted-in-use", test_deleted_in_use);
    qtest_add_func("/xen-disk/move/shared-node", test_shared_node);
    qtest_add_func("/xen-disk/move/own-iothreads", test_own_iothreads);
    qtest_add_func("/xen-disk/move/refused", test_refused);
    qtest_add_func("/xen-disk/move/hmp", test_hmp);
    return g_test_run();
}
