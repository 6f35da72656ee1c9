/*
 * Real interrupts of a disk's queues, as a guest's CPUs see them
 *
 *     CPU kicks -> ioeventfd -> queue i -> irqfd -> vector i + 1 -> a CPU
 *
 * The same as virtio-blk-mq-vectors-test, with nothing played by the test
 * between the CPU and the device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_pci.h"
#include "mq-cpu.h"

#define QUEUES 4

/* Past those that mq_cpus_open() hands out */
#define OTHER_VECTOR 0xd1

static MqCpus *open_disk(const MqVariant *v, const MqAccel *accel,
                         unsigned cpus, const char *props)
{
    bool port = v->modern && v->pcie;
    g_autofree char *all = g_strdup_printf("%s%s", props, port
                                           ? ",modern-pio-notify=on" : "");
    MqCpus *c = mq_cpus_start(v, accel, (MqCpusConfig) {
        .cpus = cpus,
        .props = all,
    });

    mq_cpus_open(c, v->modern && !port ? MQ_BELL_BY_MMIO : MQ_BELL_BY_PORT);
    return c;
}

static MqCpus *start(const MqVariant *v, const MqAccel *accel,
                     const char *props)
{
    MqCpus *c = open_disk(v, accel, 1, props);

    mq_device_start(c->disk.d, 0, MQ_ALL_QUEUES);
    return c;
}

/* Read once on a queue, wait for the data, not for an interrupt. */
static void read_once(MqCpus *c, unsigned queue)
{
    g_assert_cmphex(mq_request_run(c->disk.d->queues[queue], VIRTIO_BLK_T_IN,
                                   queue, NULL, MQ_SECTOR), ==,
                    VIRTIO_BLK_S_OK);
}

/* The same: one interrupt, of this vector on this CPU, comes of it. */
static void check_read(MqCpus *c, unsigned queue, unsigned cpu,
                       unsigned cpu_vector)
{
    MqCounts *before = mq_counts_take(c);

    read_once(c, queue);
    mq_counts_check(c, before, cpu, cpu_vector, 1);
}

/* @what: the number of queues */
static void test_own(const MqVariant *v, const MqAccel *accel,
                     const void *what)
{
    unsigned queues = GPOINTER_TO_UINT(what);
    g_autofree char *props = g_strdup_printf("num-queues=%u,iothread=io0",
                                             queues);
    MqCpus *c = start(v, accel, props);

    g_assert_cmpuint(c->disk.d->max_queues, ==, queues);
    g_assert_cmpuint(c->disk.d->num_vectors, ==, queues + 1);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < queues; i++) {
            check_read(c, i, 0, MQ_CPU_VECTOR(i + 1));
        }
    }
    mq_cpus_stop(c);
}

/* In the main loop, and a change of the configuration in between */
static void test_main_loop(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = start(v, accel, "num-queues=4");
    MqCounts *before;

    for (unsigned i = 0; i < QUEUES; i++) {
        check_read(c, i, 0, MQ_CPU_VECTOR(i + 1));
        before = mq_counts_take(c);
        mq_disk_resize(&c->disk, MQ_CPUS_DISK_SIZE * (2 + i));
        mq_counts_check(c, before, 0, MQ_CPU_VECTOR(0), 1);
    }
    mq_cpus_stop(c);
}

static void wait_pending(MqDevice *d, unsigned vector)
{
    gint64 start = g_get_monotonic_time();

    while (!mq_vector_pending(d, vector)) {
        mq_deadline(start, "a pending bit");
    }
}

/* A masked vector is silent, its neighbours are not; unmasking delivers it. */
static void check_masked(MqCpus *c, unsigned queue)
{
    MqDevice *d = c->disk.d;
    unsigned vector = queue + 1;
    MqCounts *before;

    mq_vector_mask(d, vector, true);
    before = mq_counts_take(c);
    read_once(c, queue);
    wait_pending(d, vector);
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(vector), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        if (i != queue) {
            check_read(c, i, 0, MQ_CPU_VECTOR(i + 1));
        }
    }
    before = mq_counts_take(c);
    mq_vector_mask(d, vector, false);
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(vector), 1);
    g_assert_false(mq_vector_pending(d, vector));

    /* Nothing pending: unmasking again delivers nothing. */
    before = mq_counts_take(c);
    mq_vector_mask(d, vector, true);
    mq_vector_mask(d, vector, false);
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(vector), 0);
    check_read(c, queue, 0, MQ_CPU_VECTOR(vector));
}

static void test_masked(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = start(v, accel, "num-queues=4,iothread=io0");

    for (unsigned i = 0; i < QUEUES; i++) {
        check_masked(c, i);
    }
    mq_cpus_stop(c);
}

/* While a vector is masked, it is sent elsewhere, with or without one due. */
static void test_changed(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = start(v, accel, "num-queues=4,iothread=io0");
    MqDevice *d = c->disk.d;
    MqCounts *before;

    for (unsigned i = 0; i < QUEUES; i++) {
        mq_vector_mask(d, i + 1, true);
        mq_cpus_route(c, i + 1, 0, OTHER_VECTOR + i);
        mq_vector_mask(d, i + 1, false);
        check_read(c, i, 0, OTHER_VECTOR + i);

        mq_vector_mask(d, i + 1, true);
        before = mq_counts_take(c);
        read_once(c, i);
        wait_pending(d, i + 1);
        mq_cpus_route(c, i + 1, 0, MQ_CPU_VECTOR(i + 1));
        mq_vector_mask(d, i + 1, false);
        mq_counts_check(c, before, 0, MQ_CPU_VECTOR(i + 1), 1);
        check_read(c, i, 0, MQ_CPU_VECTOR(i + 1));
    }
    mq_cpus_stop(c);
}

/* @what: the number of vectors */
static void test_shared(const MqVariant *v, const MqAccel *accel,
                        const void *what)
{
    unsigned vectors = GPOINTER_TO_UINT(what);
    g_autofree char *props = g_strdup_printf("num-queues=4,iothread=io0,"
                                             "vectors=%u", vectors);
    MqCpus *c = start(v, accel, props);

    g_assert_cmpuint(c->disk.d->num_vectors, ==, vectors);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            check_read(c, i, 0, MQ_CPU_VECTOR(MIN(i + 1, vectors - 1)));
        }
    }

    /* All queues that share a vector are masked with it. */
    mq_vector_mask(c->disk.d, vectors - 1, true);
    read_once(c, QUEUES - 1);
    wait_pending(c->disk.d, vectors - 1);
    mq_vector_mask(c->disk.d, vectors - 1, false);
    mq_cpus_stop(c);
}

/*
 * Vectors that are not in the table stand for none, and what was signalled then
 * does not come later.
 */
static void test_out_of_range(const MqVariant *v, const MqAccel *accel)
{
    static const uint16_t bad[] = { 5, 6, 0x7ff, 0x8000, 0xfffe };
    MqCpus *c = start(v, accel, "num-queues=4,iothread=io0,vectors=5");
    MqDevice *d = c->disk.d;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        MqCounts *before = mq_counts_take(c);

        g_assert_cmphex(mq_device_set_queue_vector(d, 2, bad[i]), ==,
                        VIRTIO_MSI_NO_VECTOR);
        read_once(c, 2);
        read_once(c, 3);
        g_assert_cmphex(mq_device_set_queue_vector(d, 2, 3), ==, 3);
        mq_counts_check(c, before, 0, MQ_CPU_VECTOR(4), 1);
        check_read(c, 2, 0, MQ_CPU_VECTOR(3));
    }
    mq_cpus_stop(c);
}

/* A queue gets another vector while the device is at work. */
static void test_exchanged(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = start(v, accel, "num-queues=4,iothread=io0,vectors=8");
    MqDevice *d = c->disk.d;

    for (unsigned i = 0; i < 8; i++) {
        unsigned queue = i % QUEUES;
        unsigned vector = 1 + i * 3 % 7;

        g_assert_cmphex(mq_device_set_queue_vector(d, queue, vector), ==,
                        vector);
        check_read(c, queue, 0, MQ_CPU_VECTOR(vector));
        mq_vector_mask(d, vector, true);
        mq_vector_mask(d, vector, false);
        check_read(c, queue, 0, MQ_CPU_VECTOR(vector));
    }
    mq_cpus_stop(c);
}

/* Vectors come only after a kick that is too early and starts the device. */
static void test_late(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = open_disk(v, accel, 1, "num-queues=4,iothread=io0");
    MqDevice *d = c->disk.d;

    for (unsigned round = 0; round < 2; round++) {
        mq_device_negotiate(d, ~MQ_RING_FEATURES);
        for (unsigned i = 0; i < QUEUES; i++) {
            mq_queue_new(d, i);
            mq_device_notify(d, i);
            g_assert_cmphex(mq_device_set_queue_vector(d, i, i + 1), ==,
                            i + 1);
        }
        mq_device_set_driver_ok(d);
        for (unsigned i = 0; i < QUEUES; i++) {
            check_read(c, i, 0, MQ_CPU_VECTOR(i + 1));
        }
    }
    mq_cpus_stop(c);
}

/* A queue that is reset alone loses its vector and is given another one. */
static void test_queue_reset(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = start(v, accel, "num-queues=4,iothread=io0,vectors=8");
    MqDevice *d = c->disk.d;

    for (unsigned i = 0; i < 8; i++) {
        unsigned queue = i % QUEUES;
        unsigned vector = 1 + i * 3 % 7;

        mq_device_reset_queue(d, queue);
        mq_queue_new(d, queue);
        g_assert_cmphex(mq_device_set_queue_vector(d, queue, vector), ==,
                        vector);
        check_read(c, queue, 0, MQ_CPU_VECTOR(vector));
    }
    mq_device_start(d, 0, MQ_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        check_read(c, i, 0, MQ_CPU_VECTOR(i + 1));
    }
    mq_cpus_stop(c);
}

/* No MSI-X: the line, by way of the PIC. */
static void check_intx(const MqVariant *v, const MqAccel *accel,
                       const char *props)
{
    MqCpus *c = open_disk(v, accel, 1, props);

    g_assert_cmpuint(c->disk.d->num_vectors, ==, 0);
    mq_cpus_intx(c);
    mq_device_start(c->disk.d, 0, MQ_ALL_QUEUES);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            g_assert_false(mq_intx_level(c->disk.d));
            check_read(c, i, 0, MQ_INTX_VECTOR);
        }
    }
    g_assert_cmphex(mq_cpu_read(c, 0, MQ_PAGE_ISR_SEEN), ==, 1);
    mq_cpus_stop(c);
}

static void test_intx(const MqVariant *v, const MqAccel *accel)
{
    check_intx(v, accel, "num-queues=4,vectors=0");
    check_intx(v, accel, "num-queues=4,vectors=0,iothread=io0");
}

/* Each queue has its CPU, which kicks it and hears of it. */
static void test_cpus(const MqVariant *v, const MqAccel *accel)
{
    MqCpus *c = open_disk(v, accel, QUEUES, "num-queues=4,iothread=io0");
    MqDevice *d = c->disk.d;

    mq_cpus_sipi(c);
    for (unsigned i = 0; i < QUEUES; i++) {
        mq_cpus_route(c, i + 1, i, MQ_CPU_VECTOR(i + 1));
    }
    mq_device_start(d, 0, MQ_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        c->kicker = i;
        check_read(c, i, i, MQ_CPU_VECTOR(i + 1));
    }

    /* Then all have the same vector, and the CPUs are dealt out anew. */
    for (unsigned i = 0; i < QUEUES; i++) {
        mq_vector_mask(d, i + 1, true);
        mq_cpus_route(c, i + 1, QUEUES - 1 - i, OTHER_VECTOR);
        mq_vector_mask(d, i + 1, false);
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        c->kicker = i;
        check_read(c, i, QUEUES - 1 - i, OTHER_VECTOR);
    }
    mq_cpus_stop(c);
}

int main(int argc, char **argv)
{
    unsigned all = MQ_BOTH | MQ_PC_MODERN;
    unsigned pc = MQ_PC_LEGACY | MQ_PC_MODERN;

    g_test_init(&argc, &argv, NULL);
    mq_cpu_test_add_with("vectors/own-1", test_own, GUINT_TO_POINTER(1),
                         pc, MQ_WITH_APIC);
    mq_cpu_test_add_with("vectors/own-4", test_own, GUINT_TO_POINTER(4),
                         all, MQ_WITH_APIC);
    mq_cpu_test_add_with("vectors/own-16", test_own, GUINT_TO_POINTER(16),
                         pc, MQ_WITH_APIC);
    mq_cpu_test_add_with("vectors/own-64", test_own, GUINT_TO_POINTER(64),
                         all, MQ_ALL_APIC);
    mq_cpu_test_add("vectors/main-loop", test_main_loop, pc, MQ_WITH_APIC);
    mq_cpu_test_add("vectors/masked", test_masked, all, MQ_ALL_APIC);
    mq_cpu_test_add("vectors/changed", test_changed, pc, MQ_ALL_APIC);
    mq_cpu_test_add_with("vectors/shared-2", test_shared,
                         GUINT_TO_POINTER(2), pc, MQ_WITH_APIC);
    mq_cpu_test_add_with("vectors/shared-3", test_shared,
                         GUINT_TO_POINTER(3), all, MQ_ALL_APIC);
    mq_cpu_test_add("vectors/out-of-range", test_out_of_range, pc,
                    MQ_WITH_APIC);
    mq_cpu_test_add("vectors/exchanged", test_exchanged, pc, MQ_ALL_APIC);
    mq_cpu_test_add("vectors/late", test_late, pc, MQ_WITH_APIC);
    mq_cpu_test_add("vectors/queue-reset", test_queue_reset, MQ_PC_MODERN,
                    MQ_WITH_APIC);
    mq_cpu_test_add("vectors/intx", test_intx, pc, MQ_ANY_ACCEL);
    mq_cpu_test_add("vectors/cpus", test_cpus, all, MQ_ALL_APIC);
    return g_test_run();
}
