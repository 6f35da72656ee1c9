/*
 * Requests on several queues of one disk at once
 *
 *     queue i  --- writes --->  its stripe of the disk
 *     queue j  <-- reads  ----  the stripe of queue i
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define IMAGE_SIZE (4 * 1024 * 1024)
#define STRIPE (IMAGE_SIZE / VBLK_SECTOR / 64)

static VblkDisk setup(const VblkVariant *v, unsigned queues, const char *props)
{
    g_autofree char *all = g_strdup_printf("num-queues=%u%s%s", queues,
                                           *props ? "," : "", props);

    return vblk_disk_start(v, IMAGE_SIZE, NULL, all);
}

static uint64_t stripe(unsigned queue, unsigned i)
{
    return queue * STRIPE + i * 2;
}

static uint32_t seed(unsigned queue, unsigned i)
{
    return 1 + queue * 1000 + i;
}

/*
 * On every queue @depth requests, all exposed before any is waited for.  What
 * queue q reads is what queue q + 1 has written.
 */
static void all_at_once(VblkDevice *d, unsigned queues, unsigned depth)
{
    g_autofree VblkRequest **r = g_new(VblkRequest *, queues * depth);

    for (unsigned q = 0; q < queues; q++) {
        for (unsigned i = 0; i < depth; i++) {
            r[q * depth + i] = vblk_write_new(d->queues[q], stripe(q, i),
                                              VBLK_SECTOR, seed(q, i));
            vblk_request_add(r[q * depth + i]);
        }
    }
    for (unsigned q = 0; q < queues; q++) {
        vblk_queue_kick(d->queues[q]);
    }
    for (unsigned n = 0; n < queues * depth; n++) {
        vblk_request_finish(r[n]);
    }

    for (unsigned q = 0; q < queues; q++) {
        for (unsigned i = 0; i < depth; i++) {
            r[q * depth + i] = vblk_read_new(d->queues[q],
                                             stripe((q + 1) % queues, i),
                                             VBLK_SECTOR);
            vblk_request_add(r[q * depth + i]);
        }
    }
    for (unsigned q = queues; q-- > 0; ) {
        vblk_queue_kick(d->queues[q]);
    }
    for (unsigned n = 0; n < queues * depth; n++) {
        g_assert_cmphex(vblk_request_wait(r[n]), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(r[n]->written, ==, VBLK_SECTOR + 1);
        vblk_read_check(r[n], seed((n / depth + 1) % queues, n % depth));
        vblk_request_free(r[n]);
    }
}

static void test_all_at_once(const VblkVariant *v, const char *props)
{
    VblkDisk f = vblk_disk_start(v, IMAGE_SIZE, NULL, props);

    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    all_at_once(f.d, f.d->max_queues, 64 / f.d->max_queues);
    vblk_disk_stop(&f);
}

/* Send so many requests that each ring wraps, and one ring twice as often. */
static void test_wrap(const VblkVariant *v)
{
    VblkDisk f = setup(v, 2, "iothread=io0");
    VblkRequest *r[60];
    unsigned rounds;

    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    rounds = 2 * f.d->queues[0]->size / (ARRAY_SIZE(r) / 3) / 3 + 2;
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
            r[i] = vblk_request_new(f.d->queues[i % 3 / 2], VIRTIO_BLK_T_IN, i,
                                    VBLK_SECTOR);
            vblk_request_add(r[i]);
        }
        vblk_queue_kick(f.d->queues[0]);
        vblk_queue_kick(f.d->queues[1]);
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
            vblk_request_finish(r[i]);
        }
    }
    g_assert_cmpuint(f.d->queues[0]->used, >, f.d->queues[0]->size);
    vblk_write(f.d->queues[0], 5, 4096, 42);
    vblk_read(f.d->queues[1], 5, 4096, 42);
    vblk_disk_stop(&f);
}

/* A driver may fill the rings first and say DRIVER_OK then. */
static void test_filled_before_ok(const VblkVariant *v)
{
    VblkDisk f = setup(v, 2, "iothread=io0");
    VblkRequest *r[2];

    vblk_device_negotiate(f.d, ~VBLK_RING_FEATURES);
    for (unsigned q = 0; q < 2; q++) {
        vblk_queue_new(f.d, q);
        r[q] = vblk_write_new(f.d->queues[q], q, VBLK_SECTOR, q + 1);
        vblk_request_add(r[q]);
        vblk_queue_expose(f.d->queues[q]);
    }
    vblk_device_set_driver_ok(f.d);
    for (unsigned q = 0; q < 2; q++) {
        vblk_device_notify(f.d, q);
        vblk_request_finish(r[q]);
        vblk_read(f.d->queues[1 - q], q, VBLK_SECTOR, q + 1);
    }
    vblk_disk_stop(&f);
}

/*
 * A driver may set up a ring when the device is at work.  A legacy one says so
 * by its kick alone.
 */
static void test_set_up_late(const VblkVariant *v, const char *options)
{
    VblkDisk f = setup(v, 4, options);

    vblk_device_start(f.d, 0, 1);
    vblk_write(f.d->queues[0], 0, VBLK_SECTOR, 1);
    for (unsigned q = 1; q < 4; q++) {
        vblk_queue_new(f.d, q);
        vblk_write(f.d->queues[q], q, VBLK_SECTOR, q + 1);
        vblk_read(f.d->queues[0], q, VBLK_SECTOR, q + 1);
    }
    vblk_disk_stop(&f);
}

/* Two of four queues are set up; the doorbells of the others do nothing. */
static void check_fewer(VblkDisk *f)
{
    static const unsigned silent[] = { 2, 3 };
    uint8_t before[4096], after[4096];
    VblkDevice *d = f->d;

    vblk_device_start(d, 0, 2);
    /* A queue that has no address would begin at 0. */
    qtest_memset(f->m->qts, 0, 0xa5, sizeof(before));
    qtest_memread(f->m->qts, 0, before, sizeof(before));

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(silent); i++) {
            g_assert_false(vblk_device_queue_enabled(d, silent[i]));
            vblk_device_notify(d, silent[i]);
        }
        all_at_once(d, 2, 4);
    }
    g_assert_cmphex(vblk_device_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
    qtest_memread(f->m->qts, 0, after, sizeof(after));
    g_assert_cmpmem(after, sizeof(after), before, sizeof(before));
    g_assert_false(vblk_vector_take(d, 3));
    g_assert_false(vblk_vector_take(d, 4));
}

static void test_fewer(const VblkVariant *v, const char *options)
{
    VblkDisk f = setup(v, 4, options);

    check_fewer(&f);
    /* After a reset the driver may take them all. */
    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    all_at_once(f.d, 4, 4);
    vblk_disk_stop(&f);
}

/* Ring doorbells of queues that do not exist, if the interface has them. */
static void test_no_such_queue(const VblkVariant *v)
{
    VblkDisk f = setup(v, 4, "");

    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    vblk_device_notify(f.d, 4);
    if (!v->modern) {
        vblk_device_notify(f.d, 1023);
        vblk_device_notify(f.d, 1024);
        vblk_device_notify(f.d, 0xffff);
    }
    all_at_once(f.d, 4, 2);
    vblk_disk_stop(&f);
}

/* The driver may ignore VIRTIO_BLK_F_MQ and use the first queue. */
static void test_single_queue_driver(const VblkVariant *v)
{
    VblkDisk f = setup(v, 4, "iothread=io0");

    vblk_device_negotiate(f.d,
                          ~(VBLK_RING_FEATURES | BIT_ULL(VIRTIO_BLK_F_MQ)));
    vblk_queue_new(f.d, 0);
    vblk_device_set_driver_ok(f.d);
    all_at_once(f.d, 1, 8);
    vblk_disk_stop(&f);
}

static void check_counted(VblkDisk *f, unsigned queue, const char *what,
                          uint64_t number)
{
    QDict *info = vblk_disk_queue_info(f, queue);

    g_assert_cmpint(qdict_get_int(info, what), ==, number);
    qobject_unref(info);
}

/* Check the counters of a query.  A kick has been handled when it returns. */
static void test_counters(const VblkVariant *v)
{
    VblkDisk f = setup(v, 2, "ioeventfd=off");
    VblkRequest *r[4];
    VblkQueue *q;

    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    q = f.d->queues[1];
    for (unsigned i = 0; i < 3; i++) {
        vblk_device_notify(f.d, 1);     /* nothing there */
        vblk_write(q, i, VBLK_SECTOR, i);
    }
    vblk_device_notify(f.d, 1);
    check_counted(&f, 1, "requests", 3);
    check_counted(&f, 1, "batches", 3);

    for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
        r[i] = vblk_write_new(q, i, VBLK_SECTOR, i);
        vblk_request_add(r[i]);
    }
    vblk_queue_kick(q);
    for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
        vblk_request_finish(r[i]);
    }
    check_counted(&f, 1, "requests", 7);
    check_counted(&f, 1, "batches", 4);
    check_counted(&f, 0, "requests", 0);
    check_counted(&f, 0, "batches", 0);
    vblk_disk_stop(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("queues/all-at-once", test_all_at_once,
                       "num-queues=4", VBLK_ALL);
    vblk_test_add_with("queues/all-at-once-iothread", test_all_at_once,
                       "num-queues=4,iothread=io0", VBLK_ALL);
    vblk_test_add_with("queues/64", test_all_at_once,
                       "num-queues=64,iothread=io0", VBLK_ALL);
    vblk_test_add("queues/wrap", test_wrap, VBLK_BOTH);
    vblk_test_add("queues/filled-before-ok", test_filled_before_ok, VBLK_ALL);
    vblk_test_add_with("queues/set-up-late", test_set_up_late, "", VBLK_ALL);
    vblk_test_add_with("queues/set-up-late-iothread", test_set_up_late,
                       "iothread=io0", VBLK_ALL);
    vblk_test_add_with("queues/fewer", test_fewer, "", VBLK_ALL);
    vblk_test_add_with("queues/fewer-iothread", test_fewer,
                       "iothread=io0", VBLK_ALL);
    vblk_test_add("queues/no-such-queue", test_no_such_queue, VBLK_ALL);
    vblk_test_add("queues/single-queue-driver", test_single_queue_driver,
                  VBLK_ALL);
    vblk_test_add("queues/counters", test_counters, VBLK_PC_MODERN);
    return g_test_run();
}
