/*
 * Each queue interrupts by its own vector
 *
 *     queue i completes  ->  vector i + 1 is raised, and no other
 *     masked             ->  pending bit instead, message on unmasking
 *     fewer vectors      ->  queues share the last one
 *     vectors=0          ->  ISR bit 0 and the INTx line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_pci.h"
#include "vblk-request.h"

#define QUEUES 4

typedef struct Fixture {
    VblkMachine *m;
    VblkDevice *d;
} Fixture;

static Fixture setup(const VblkVariant *v, const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,num-queues=%u,%s",
                                           QUEUES, props);
    g_autofree char *arg = vblk_device_arg(v, 0, all);
    Fixture f;

    f.m = vblk_machine_start(v, "-object iothread,id=io0 "
                             "-object iothread,id=io1 "
                             "-blockdev null-co,node-name=disk,read-zeroes=on,"
                             "size=1048576 -device %s", arg);
    f.d = vblk_device_open(f.m, 0);
    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    return f;
}

static void teardown(Fixture *f)
{
    vblk_device_close(f->d);
    vblk_machine_stop(f->m);
}

/* Read once on a queue, wait for the data, not for an interrupt. */
static void read_once(VblkDevice *d, unsigned queue)
{
    g_assert_cmphex(vblk_request_run(d->queues[queue], VIRTIO_BLK_T_IN, queue,
                                     NULL, VBLK_SECTOR), ==, VIRTIO_BLK_S_OK);
}

static void check_own(Fixture *f)
{
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            read_once(f->d, i);
            vblk_vector_wait(f->d, i + 1);
            vblk_vectors_silent(f->d);
        }
    }
}

static void test_own(const VblkVariant *v, const char *options)
{
    Fixture f = setup(v, options);

    check_own(&f);
    teardown(&f);
}

/* The driver may give queues their vectors in any order. */
static void test_permuted(const VblkVariant *v)
{
    static const uint16_t vector[QUEUES] = { 3, 1, 4, 0 };
    Fixture f = setup(v, "vectors=5");

    vblk_device_negotiate(f.d, ~VBLK_RING_FEATURES);
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_queue_new(f.d, i);
        g_assert_cmpuint(vblk_device_set_queue_vector(f.d, i, vector[i]), ==,
                         vector[i]);
    }
    vblk_device_set_driver_ok(f.d);
    for (unsigned i = 0; i < QUEUES; i++) {
        read_once(f.d, i);
        vblk_vector_wait(f.d, vector[i]);
        vblk_vectors_silent(f.d);
    }
    teardown(&f);
}

/* With two vectors, all queues share the second one. */
static void test_shared(const VblkVariant *v)
{
    Fixture f = setup(v, "vectors=2");

    g_assert_cmpuint(f.d->num_vectors, ==, 2);
    for (unsigned i = 0; i < QUEUES; i++) {
        read_once(f.d, i);
        vblk_vector_wait(f.d, 1);
        vblk_vectors_silent(f.d);
    }
    teardown(&f);
}

/* A queue without a vector completes in silence, its neighbours do not. */
static void test_no_vector(const VblkVariant *v)
{
    Fixture f = setup(v, "vectors=5");

    g_assert_cmphex(vblk_device_set_queue_vector(f.d, 2, VIRTIO_MSI_NO_VECTOR),
                    ==, VIRTIO_MSI_NO_VECTOR);
    read_once(f.d, 2);
    read_once(f.d, 3);
    vblk_vector_wait(f.d, 4);
    vblk_vectors_silent(f.d);
    teardown(&f);
}

static void check_masked(Fixture *f, unsigned queue)
{
    VblkDevice *d = f->d;
    unsigned vector = queue + 1;

    vblk_vector_mask(d, vector, true);
    g_assert_false(vblk_vector_pending(d, vector));
    read_once(d, queue);
    vblk_vector_wait_pending(d, vector);
    vblk_vectors_silent(d);

    /* The other queues still raise their interrupts. */
    for (unsigned i = 0; i < QUEUES; i++) {
        if (i != queue) {
            read_once(d, i);
            vblk_vector_wait(d, i + 1);
            g_assert_false(vblk_vector_pending(d, i + 1));
        }
    }
    vblk_vectors_silent(d);
    g_assert_true(vblk_vector_pending(d, vector));

    vblk_vector_mask(d, vector, false);
    vblk_vector_wait(d, vector);
    g_assert_false(vblk_vector_pending(d, vector));

    /* No interrupt is pending, so unmasking again delivers nothing. */
    vblk_vector_mask(d, vector, true);
    vblk_vector_mask(d, vector, false);
    vblk_vectors_silent(d);
    read_once(d, queue);
    vblk_vector_wait(d, vector);
}

static void test_masked(const VblkVariant *v)
{
    Fixture f = setup(v, "vectors=5");

    for (unsigned i = 0; i < QUEUES; i++) {
        check_masked(&f, i);
    }
    teardown(&f);
}

static void test_masked_iothread(const VblkVariant *v)
{
    Fixture f = setup(v, "iothread=io0");

    check_masked(&f, 1);
    teardown(&f);
}

static void wait_isr(VblkDevice *d)
{
    gint64 start = g_get_monotonic_time();
    uint8_t isr;

    do {
        isr = vblk_isr_read(d);
        g_assert_cmphex(isr & ~1, ==, 0);
        vblk_deadline(start, "the interrupt status");
    } while (!isr);
}

/* Without MSI-X the line follows the status.  A read clears the status. */
static void check_intx(Fixture *f)
{
    VblkDevice *d = f->d;

    g_assert_cmpuint(d->num_vectors, ==, 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        gint64 start = g_get_monotonic_time();

        g_assert_false(vblk_intx_level(d));
        read_once(d, i);
        while (!vblk_intx_level(d)) {
            vblk_deadline(start, "the INTx line");
        }
        wait_isr(d);
        g_assert_false(vblk_intx_level(d));
        g_assert_cmphex(vblk_isr_read(d), ==, 0);
    }
}

static void test_intx(const VblkVariant *v, const char *options)
{
    Fixture f = setup(v, options);

    check_intx(&f);
    teardown(&f);
}

/* With MSI-X the line stays low. */
static void test_line_low(const VblkVariant *v)
{
    Fixture f = setup(v, "vectors=5");

    read_once(f.d, 0);
    vblk_vector_wait(f.d, 1);
    g_assert_false(vblk_intx_level(f.d));
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("vectors/own", test_own, "vectors=5", VBLK_ALL);
    vblk_test_add_with("vectors/own-iothread", test_own, "iothread=io0",
                       VBLK_ALL);
    vblk_test_add("vectors/permuted", test_permuted, VBLK_ALL);
    vblk_test_add("vectors/shared", test_shared, VBLK_ALL);
    vblk_test_add("vectors/no-vector", test_no_vector, VBLK_ALL);
    vblk_test_add("vectors/masked", test_masked, VBLK_ALL);
    vblk_test_add("vectors/masked-iothread", test_masked_iothread, VBLK_ALL);
    vblk_test_add_with("vectors/intx", test_intx, "vectors=0", VBLK_ALL);
    vblk_test_add_with("vectors/intx-iothread", test_intx,
                       "vectors=0,iothread=io0", VBLK_ALL);
    vblk_test_add("vectors/line-low", test_line_low, VBLK_ALL);
    return g_test_run();
}
