/*
 * Xen PV disk: the thread in which each ring runs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "vblk-iothreads.h"
#include "xen-disk-util.h"

static const BlkOptions four_rings = { .protocol = BLK_X86_64, .rings = 4 };

#define FOUR_THREADS \
    "-object iothread,id=io0 -object iothread,id=io1 " \
    "-object iothread,id=io2 -object iothread,id=io3 "
#define NULL_DISK \
    "-blockdev null-co,node-name=disk0,size=1048576,read-zeroes=on "
#define DISK_OF_FOUR(properties) \
    "-device '{ \"driver\": \"xen-disk\", \"id\": \"xvda\"," \
    " \"vdev\": \"xvda\", \"drive\": \"disk0\", \"num-queues\": 4," \
    properties " }'"
#define MAPPING(list) "\"iothread-vq-mapping\": [ " list " ]"
#define ON(thread) "{ \"iothread\": \"" thread "\" }"
#define RINGS_ON(thread, rings) \
    "{ \"iothread\": \"" thread "\", \"vqs\": [ " rings " ] }"

/* All rings at once, a few times. */
static void run_disk(const char *args)
{
    BlkBuffer *b;
    BlkRequest req;
    int i, n, round;
    XenDisk d;

    xen_disk_connect(&d, xen_guest_start(FOUR_THREADS NULL_DISK "%s", args),
                     &four_rings);
    b = blk_buffer_new(d.g, 1, false);
    blk_buffer_request(b, &req, BLK_READ, 0, XEN_GUEST_PAGE_SIZE);
    for (round = 0; round < 10; round++) {
        for (i = 0; i < 4; i++) {
            for (n = 0; n < 16; n++) {
                blk_ring_put(&d.f->ring[i], &req);
            }
            blk_ring_push(&d.f->ring[i]);
        }
        for (i = 0; i < 4; i++) {
            blk_ring_wait_all(&d.f->ring[i], 16, BLK_OKAY);
        }
    }
    blk_buffer_free(d.g, b);
    xen_disk_close(&d);
}

static void test_good(const void *properties)
{
    run_disk(properties);
}

typedef struct MappingCase {
    const char *name;
    const char *args;
    const char *message;        /* NULL: the mapping is valid */
} MappingCase;

static const MappingCase cases[] = {
    { "one",          DISK_OF_FOUR("\"iothread\": \"io0\"") },
    { "round-robin",  DISK_OF_FOUR(MAPPING(ON("io0") "," ON("io1"))) },
    { "one-each",     DISK_OF_FOUR(MAPPING(ON("io0") "," ON("io1") ","
                                           ON("io2") "," ON("io3"))) },
    { "lists",        DISK_OF_FOUR(MAPPING(RINGS_ON("io2", "0, 3") ","
                                           RINGS_ON("io1", "2, 1"))) },
    { "automatic",    DISK_OF_FOUR("\"iothreads\": \"auto\"") },
    { "three-made",   DISK_OF_FOUR("\"iothreads\": \"3\"") },
    { "as-number",    DISK_OF_FOUR("\"iothreads\": 3") },
    { "twice",        DISK_OF_FOUR(MAPPING(RINGS_ON("io0", "0, 1") ","
                                           RINGS_ON("io1", "1, 2, 3"))),
      "1" },
    { "missing",      DISK_OF_FOUR(MAPPING(RINGS_ON("io0", "0, 1") ","
                                           RINGS_ON("io1", "3"))),
      "2" },
    { "beyond",       DISK_OF_FOUR(MAPPING(RINGS_ON("io0", "0, 1, 2, 3, 4"))),
      "4" },
    { "unknown",      DISK_OF_FOUR(MAPPING(ON("io7"))), "io7" },
    { "mixed",        DISK_OF_FOUR(MAPPING(ON("io0") ","
                                           RINGS_ON("io1", "0"))),
      "vqs" },
    { "both",         DISK_OF_FOUR("\"iothread\": \"io0\","
                                   MAPPING(ON("io1"))),
      "iothread-vq-mapping" },
    { "made-and-given", DISK_OF_FOUR("\"iothread\": \"io0\","
                                     "\"iothreads\": \"2\""),
      "iothreads" },
    { "more-than-rings", DISK_OF_FOUR("\"iothreads\": \"5\""), "iothreads" },
    { "none-made",    DISK_OF_FOUR("\"iothreads\": \"0\""), "iothreads" },
    { "no-number",    DISK_OF_FOUR("\"iothreads\": true"), "iothreads" },
    { "nonsense",     DISK_OF_FOUR("\"iothreads\": \"many\""), "many" },
    { "name-taken",   "-object iothread,id=xvda-iothread1 "
                      DISK_OF_FOUR("\"iothreads\": \"2\""),
      "cannot create IOThread 'xvda-iothread1': there is an object of that "
      "name" },
    { "no-rings",     "-device xen-disk,vdev=xvda,drive=disk0,num-queues=0",
      "num-queues" },
    { "5000-rings",   "-device xen-disk,vdev=xvda,drive=disk0,num-queues=5000",
      "num-queues" },
};

static void test_bad(const void *opaque)
{
    const MappingCase *c = opaque;
    g_autofree char *args = g_strconcat(
        "-object memory-backend-memfd,id=ram,size=16M,share=on "
        "-machine memory-backend=ram -m 16M -nic none "
        "-device xen-standin " FOUR_THREADS NULL_DISK, c->args, NULL);

    xen_guest_fails(args, c->message);
}

static size_t count_iothreads(XenGuest *g)
{
    g_auto(GStrv) names = vblk_iothread_names(g->qts);

    return g_strv_length(names);
}

/* There is an IOThread @id, and it is the disk's. */
static void check_own(XenGuest *g, const char *id)
{
    g_autofree char *text = g_strdup_printf("object '%s' is in use, can not "
                                            "be deleted", id);
    QDict *rsp = qtest_qmp(g->qts, "{ 'execute': 'object-del',"
                           "  'arguments': { 'id': %s } }", id);

    g_assert_true(qdict_haskey(rsp, "error"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"), ==,
                    text);
    qobject_unref(rsp);
}

/* IOThreads that the disk has made are seen, and go with it. */
static void test_made_come_and_go(void)
{
    XenGuest *g = xen_guest_start(NULL_DISK);
    Blkfront *f = blkfront_new(g, BLK_VDEV_XVDA);
    int i;

    for (i = 0; i < 3; i++) {
        g_assert_cmpint(count_iothreads(g), ==, 0);
        qtest_qmp_device_add(g->qts, "xen-disk", "xvda",
                             "{ 'vdev': 'xvda', 'drive': 'disk0',"
                             "  'num-queues': 4, 'iothreads': '3' }");
        g_assert_cmpint(count_iothreads(g), ==, 3);
        check_own(g, "xvda-iothread0");
        check_own(g, "xvda-iothread2");
        blkfront_connect(f, &four_rings);
        qtest_qmp_device_del_send(g->qts, "xvda");
        blkfront_expect(f, XB_CLOSING);
        blkfront_state(f, XB_CLOSED);
        qtest_qmp_eventwait(g->qts, "DEVICE_DELETED");
        blkfront_teardown(f);
    }
    g_assert_cmpint(count_iothreads(g), ==, 0);
    blkfront_free(f);
    xen_guest_quit(g);
}

/* A disk that has no ID is called as its user calls it. */
static void test_names_without_id(void)
{
    XenGuest *g = xen_guest_start(
        "-object iothread,id=xvdd-iothread0 "
        NULL_DISK
        "-device xen-disk,vdev=xvdc,drive=disk0,iothreads=1,num-queues=2,"
        "share-rw=on "
        "-device xen-disk,vdev=xvdb1,drive=disk0,iothreads=1,num-queues=2,"
        "share-rw=on "
        "-device xen-disk,vdev=d5,drive=disk0,iothreads=1,num-queues=2,"
        "share-rw=on "
        "-device xen-disk,vdev=xvdd,drive=disk0,iothreads=1,num-queues=2,"
        "share-rw=on "
        "-device xen-disk,drive=disk0,iothreads=1,num-queues=2,share-rw=on");

    g_assert_cmpint(count_iothreads(g), ==, 6);
    check_own(g, "xvdc-iothread0");
    check_own(g, "xvdb1-iothread0");
    check_own(g, "d5-iothread0");
    check_own(g, "xvdd-2-iothread0");
    check_own(g, "xvda-iothread0");
    xen_guest_quit(g);
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        const MappingCase *c = &cases[i];
        g_autofree char *path = g_strdup_printf("/xen-disk/mapping/%s/%s",
                                                c->message ? "bad" : "good",
                                                c->name);

        if (c->message) {
            qtest_add_data_func(path, c, test_bad);
        } else {
            qtest_add_data_func(path, c->args, test_good);
        }
    }
    qtest_add_func("/xen-disk/mapping/made-come-and-go",
                   test_made_come_and_go);
    qtest_add_func("/xen-disk/mapping/names-without-id",
                   test_names_without_id);
    return g_test_run();
}
