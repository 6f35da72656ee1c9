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
#include "vblk-cpu.h"

#define QUEUES 4

/* Past those that vblk_cpus_open() hands out */
#define OTHER_VECTOR 0xd1

static VblkCpus *open_disk(const VblkVariant *v, const VblkAccel *accel,
                           unsigned cpus, const char *props)
{
    bool port = v->modern && v->pcie;
    g_autofree char *all = g_strdup_printf("%s%s", props, port
                                           ? ",modern-pio-notify=on" : "");
    VblkCpus *c = vblk_cpus_start(v, accel, (VblkCpusConfig) {
        .cpus = cpus,
        .props = all,
    });

    vblk_cpus_open(c, v->modern && !port ? VBLK_BELL_BY_MMIO
                                         : VBLK_BELL_BY_PORT);
    return c;
}

static VblkCpus *start(const VblkVariant *v, const VblkAccel *accel,
                       const char *props)
{
    VblkCpus *c = open_disk(v, accel, 1, props);

    vblk_device_start(c->disk.d, 0, VBLK_ALL_QUEUES);
    return c;
}

/* Read once on a queue, wait for the data, not for an interrupt. */
static void read_once(VblkCpus *c, unsigned queue)
{
    g_assert_cmphex(vblk_request_run(c->disk.d->queues[queue], VIRTIO_BLK_T_IN,
                                     queue, NULL, VBLK_SECTOR), ==,
                    VIRTIO_BLK_S_OK);
}

/* Read a block.  This causes one interrupt, of this vector on this CPU. */
static void check_read(VblkCpus *c, unsigned queue, unsigned cpu,
                       unsigned cpu_vector)
{
    VblkCounts *before = vblk_counts_take(c);

    read_once(c, queue);
    vblk_counts_check(c, before, cpu, cpu_vector, 1);
}

/* @what: the number of queues */
static void test_own(const VblkVariant *v, const VblkAccel *accel,
                     const void *what)
{
    unsigned queues = GPOINTER_TO_UINT(what);
    g_autofree char *props = g_strdup_printf("num-queues=%u,iothread=io0",
                                             queues);
    VblkCpus *c = start(v, accel, props);

    g_assert_cmpuint(c->disk.d->max_queues, ==, queues);
    g_assert_cmpuint(c->disk.d->num_vectors, ==, queues + 1);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < queues; i++) {
            check_read(c, i, 0, VBLK_CPU_VECTOR(i + 1));
        }
    }
    vblk_cpus_stop(c);
}

/* In the main loop, and a change of the configuration in between */
static void test_main_loop(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = start(v, accel, "num-queues=4");
    VblkCounts *before;

    for (unsigned i = 0; i < QUEUES; i++) {
        check_read(c, i, 0, VBLK_CPU_VECTOR(i + 1));
        before = vblk_counts_take(c);
        vblk_disk_resize(&c->disk, VBLK_CPUS_DISK_SIZE * (2 + i));
        vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(0), 1);
    }
    vblk_cpus_stop(c);
}

/* A masked vector is silent, its neighbours are not; unmasking delivers it. */
static void check_masked(VblkCpus *c, unsigned queue)
{
    VblkDevice *d = c->disk.d;
    unsigned vector = queue + 1;
    VblkCounts *before;

    vblk_vector_mask(d, vector, true);
    before = vblk_counts_take(c);
    read_once(c, queue);
    vblk_vector_wait_pending(d, vector);
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(vector), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        if (i != queue) {
            check_read(c, i, 0, VBLK_CPU_VECTOR(i + 1));
        }
    }
    before = vblk_counts_take(c);
    vblk_vector_mask(d, vector, false);
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(vector), 1);
    g_assert_false(vblk_vector_pending(d, vector));

    /* No interrupt is pending, so unmasking again delivers nothing. */
    before = vblk_counts_take(c);
    vblk_vector_mask(d, vector, true);
    vblk_vector_mask(d, vector, false);
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(vector), 0);
    check_read(c, queue, 0, VBLK_CPU_VECTOR(vector));
}

static void test_masked(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = start(v, accel, "num-queues=4,iothread=io0");

    for (unsigned i = 0; i < QUEUES; i++) {
        check_masked(c, i);
    }
    vblk_cpus_stop(c);
}

/* While a vector is masked, it is sent elsewhere, with or without one due. */
static void test_changed(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = start(v, accel, "num-queues=4,iothread=io0");
    VblkDevice *d = c->disk.d;
    VblkCounts *before;

    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_vector_mask(d, i + 1, true);
        vblk_cpus_route(c, i + 1, 0, OTHER_VECTOR + i);
        vblk_vector_mask(d, i + 1, false);
        check_read(c, i, 0, OTHER_VECTOR + i);

        vblk_vector_mask(d, i + 1, true);
        before = vblk_counts_take(c);
        read_once(c, i);
        vblk_vector_wait_pending(d, i + 1);
        vblk_cpus_route(c, i + 1, 0, VBLK_CPU_VECTOR(i + 1));
        vblk_vector_mask(d, i + 1, false);
        vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(i + 1), 1);
        check_read(c, i, 0, VBLK_CPU_VECTOR(i + 1));
    }
    vblk_cpus_stop(c);
}

/* @what: the number of vectors */
static void test_shared(const VblkVariant *v, const VblkAccel *accel,
                        const void *what)
{
    unsigned vectors = GPOINTER_TO_UINT(what);
    g_autofree char *props = g_strdup_printf("num-queues=4,iothread=io0,"
                                             "vectors=%u", vectors);
    VblkCpus *c = start(v, accel, props);

    g_assert_cmpuint(c->disk.d->num_vectors, ==, vectors);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            check_read(c, i, 0, VBLK_CPU_VECTOR(MIN(i + 1, vectors - 1)));
        }
    }

    /* All queues that share a vector are masked with it. */
    vblk_vector_mask(c->disk.d, vectors - 1, true);
    read_once(c, QUEUES - 1);
    vblk_vector_wait_pending(c->disk.d, vectors - 1);
    vblk_vector_mask(c->disk.d, vectors - 1, false);
    vblk_cpus_stop(c);
}

/*
 * A vector that is not in the table means that there is none.  An interrupt of
 * that time is not delivered later.
 */
static void test_out_of_range(const VblkVariant *v, const VblkAccel *accel)
{
    static const uint16_t bad[] = { 5, 6, 0x7ff, 0x8000, 0xfffe };
    VblkCpus *c = start(v, accel, "num-queues=4,iothread=io0,vectors=5");
    VblkDevice *d = c->disk.d;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        VblkCounts *before = vblk_counts_take(c);

        g_assert_cmphex(vblk_device_set_queue_vector(d, 2, bad[i]), ==,
                        VIRTIO_MSI_NO_VECTOR);
        read_once(c, 2);
        read_once(c, 3);
        g_assert_cmphex(vblk_device_set_queue_vector(d, 2, 3), ==, 3);
        vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(4), 1);
        check_read(c, 2, 0, VBLK_CPU_VECTOR(3));
    }
    vblk_cpus_stop(c);
}

/* A queue gets another vector while the device is at work. */
static void test_exchanged(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = start(v, accel, "num-queues=4,iothread=io0,vectors=8");
    VblkDevice *d = c->disk.d;

    for (unsigned i = 0; i < 8; i++) {
        unsigned queue = i % QUEUES;
        unsigned vector = 1 + i * 3 % 7;

        g_assert_cmphex(vblk_device_set_queue_vector(d, queue, vector), ==,
                        vector);
        check_read(c, queue, 0, VBLK_CPU_VECTOR(vector));
        vblk_vector_mask(d, vector, true);
        vblk_vector_mask(d, vector, false);
        check_read(c, queue, 0, VBLK_CPU_VECTOR(vector));
    }
    vblk_cpus_stop(c);
}

/* The driver sets vectors after an early kick that has started the device. */
static void test_late(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = open_disk(v, accel, 1, "num-queues=4,iothread=io0");
    VblkDevice *d = c->disk.d;

    for (unsigned round = 0; round < 2; round++) {
        vblk_device_negotiate(d, ~VBLK_RING_FEATURES);
        for (unsigned i = 0; i < QUEUES; i++) {
            vblk_queue_new(d, i);
            vblk_device_notify(d, i);
            g_assert_cmphex(vblk_device_set_queue_vector(d, i, i + 1), ==,
                            i + 1);
        }
        vblk_device_set_driver_ok(d);
        for (unsigned i = 0; i < QUEUES; i++) {
            check_read(c, i, 0, VBLK_CPU_VECTOR(i + 1));
        }
    }
    vblk_cpus_stop(c);
}

/* A queue that is reset alone loses its vector and is given another one. */
static void test_queue_reset(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = start(v, accel, "num-queues=4,iothread=io0,vectors=8");
    VblkDevice *d = c->disk.d;

    for (unsigned i = 0; i < 8; i++) {
        unsigned queue = i % QUEUES;
        unsigned vector = 1 + i * 3 % 7;

        vblk_device_reset_queue(d, queue);
        vblk_queue_new(d, queue);
        g_assert_cmphex(vblk_device_set_queue_vector(d, queue, vector), ==,
                        vector);
        check_read(c, queue, 0, VBLK_CPU_VECTOR(vector));
    }
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        check_read(c, i, 0, VBLK_CPU_VECTOR(i + 1));
    }
    vblk_cpus_stop(c);
}

/* Without MSI-X the device uses the line, which goes to the PIC. */
static void check_intx(const VblkVariant *v, const VblkAccel *accel,
                       const char *props)
{
    VblkCpus *c = open_disk(v, accel, 1, props);

    g_assert_cmpuint(c->disk.d->num_vectors, ==, 0);
    vblk_cpus_intx(c);
    vblk_device_start(c->disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            g_assert_false(vblk_intx_level(c->disk.d));
            check_read(c, i, 0, VBLK_INTX_VECTOR);
        }
    }
    g_assert_cmphex(vblk_cpu_read(c, 0, VBLK_PAGE_ISR_SEEN), ==, 1);
    vblk_cpus_stop(c);
}

static void test_intx(const VblkVariant *v, const VblkAccel *accel)
{
    check_intx(v, accel, "num-queues=4,vectors=0");
    check_intx(v, accel, "num-queues=4,vectors=0,iothread=io0");
}

/* Each queue has its CPU, which kicks it and hears of it. */
static void test_cpus(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = open_disk(v, accel, QUEUES, "num-queues=4,iothread=io0");
    VblkDevice *d = c->disk.d;

    vblk_cpus_sipi(c);
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_cpus_route(c, i + 1, i, VBLK_CPU_VECTOR(i + 1));
    }
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        c->kicker = i;
        check_read(c, i, i, VBLK_CPU_VECTOR(i + 1));
    }

    /* Then all queues have the same vector, and each another CPU. */
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_vector_mask(d, i + 1, true);
        vblk_cpus_route(c, i + 1, QUEUES - 1 - i, OTHER_VECTOR);
        vblk_vector_mask(d, i + 1, false);
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        c->kicker = i;
        check_read(c, i, QUEUES - 1 - i, OTHER_VECTOR);
    }
    vblk_cpus_stop(c);
}

int main(int argc, char **argv)
{
    unsigned all = VBLK_BOTH | VBLK_PC_MODERN;
    unsigned pc = VBLK_PC_LEGACY | VBLK_PC_MODERN;

    g_test_init(&argc, &argv, NULL);
    vblk_cpu_test_add_with("vectors/own-1", test_own, GUINT_TO_POINTER(1),
                           pc, VBLK_WITH_APIC);
    vblk_cpu_test_add_with("vectors/own-4", test_own, GUINT_TO_POINTER(4),
                           all, VBLK_WITH_APIC);
    vblk_cpu_test_add_with("vectors/own-16", test_own, GUINT_TO_POINTER(16),
                           pc, VBLK_WITH_APIC);
    vblk_cpu_test_add_with("vectors/own-64", test_own, GUINT_TO_POINTER(64),
                           all, VBLK_ALL_APIC);
    vblk_cpu_test_add("vectors/main-loop", test_main_loop, pc, VBLK_WITH_APIC);
    vblk_cpu_test_add("vectors/masked", test_masked, all, VBLK_ALL_APIC);
    vblk_cpu_test_add("vectors/changed", test_changed, pc, VBLK_ALL_APIC);
    vblk_cpu_test_add_with("vectors/shared-2", test_shared,
                           GUINT_TO_POINTER(2), pc, VBLK_WITH_APIC);
    vblk_cpu_test_add_with("vectors/shared-3", test_shared,
                           GUINT_TO_POINTER(3), all, VBLK_ALL_APIC);
    vblk_cpu_test_add("vectors/out-of-range", test_out_of_range, pc,
                      VBLK_WITH_APIC);
    vblk_cpu_test_add("vectors/exchanged", test_exchanged, pc, VBLK_ALL_APIC);
    vblk_cpu_test_add("vectors/late", test_late, pc, VBLK_WITH_APIC);
    vblk_cpu_test_add("vectors/queue-reset", test_queue_reset, VBLK_PC_MODERN,
                      VBLK_WITH_APIC);
    vblk_cpu_test_add("vectors/intx", test_intx, pc, VBLK_ANY_ACCEL);
    vblk_cpu_test_add("vectors/cpus", test_cpus, all, VBLK_ALL_APIC);
    return g_test_run();
}
