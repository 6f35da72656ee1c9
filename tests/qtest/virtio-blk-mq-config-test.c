/*
 * The configuration that a virtio-blk with several queues offers
 *
 *     num-queues=N  ->  VIRTIO_BLK_F_MQ, num_queues in the configuration,
 *                       N queues of queue-size entries and not one more,
 *                       N + 1 vectors unless `vectors` says otherwise
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_pci.h"
#include "vblk-request.h"

#define DISK "-blockdev null-co,node-name=disk,read-zeroes=on,size=1048576 "

#define CONFIG(field) offsetof(struct virtio_blk_config, field)

static const unsigned queue_counts[] = { 1, 2, 4, 64 };

static VblkMachine *start(const VblkVariant *v, const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = vblk_device_arg(v, 0, all);

    return vblk_machine_start(v, DISK "-device %s", arg);
}

static void check_num_queues(const VblkVariant *v, unsigned queues)
{
    g_autofree char *props = g_strdup_printf("num-queues=%u", queues);
    VblkMachine *m = start(v, props);
    VblkDevice *d = vblk_device_open(m, 0);

    g_assert_cmpuint(d->max_queues, ==, queues);
    g_assert_cmpuint(d->num_vectors, ==, queues + 1);
    g_assert_cmpint(!!(vblk_device_offered(d) & BIT_ULL(VIRTIO_BLK_F_MQ)), ==,
                    queues > 1);
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    if (queues > 1) {
        g_assert_cmpuint(vblk_config_readw(d, CONFIG(num_queues)), ==, queues);
    }
    for (unsigned i = 0; i < queues; i++) {
        g_assert_cmpuint(vblk_device_queue_size(d, i), ==, 256);
        g_assert_true(vblk_device_queue_enabled(d, i));
    }
    g_assert_cmpuint(vblk_device_queue_size(d, queues), ==, 0);
    g_assert_cmpuint(vblk_config_readq(d, CONFIG(capacity)), ==, 2048);
    vblk_device_close(d);
    vblk_machine_stop(m);
}

static void test_num_queues(const VblkVariant *v)
{
    for (unsigned i = 0; i < ARRAY_SIZE(queue_counts); i++) {
        check_num_queues(v, queue_counts[i]);
    }
}

/* By default there are as many queues as vCPUs. */
static void test_default(const VblkVariant *v)
{
    g_autofree char *arg = vblk_device_arg(v, 0, "drive=disk");
    VblkMachine *m = vblk_machine_start(v, "-smp 3 " DISK "-device %s", arg);
    VblkDevice *d = vblk_device_open(m, 0);

    g_assert_cmpuint(d->max_queues, ==, 3);
    g_assert_cmpuint(d->num_vectors, ==, 4);
    vblk_device_close(d);
    vblk_machine_stop(m);
}

/* queue-size sets the entries of a ring and the segments of a request. */
static void test_queue_size(const VblkVariant *v)
{
    VblkMachine *m = start(v, "num-queues=3,queue-size=16");
    VblkDevice *d = vblk_device_open(m, 0);

    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpuint(vblk_device_queue_size(d, i), ==, 16);
    }
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    /* Two for header and status, as QEMU has it. */
    g_assert_cmpuint(vblk_config_readl(d, CONFIG(seg_max)), ==, 14);
    vblk_device_close(d);
    vblk_machine_stop(m);
}

static void check_vectors(const VblkVariant *v, unsigned vectors)
{
    g_autofree char *props = g_strdup_printf("num-queues=4,vectors=%u",
                                             vectors);
    VblkMachine *m = start(v, props);
    VblkDevice *d = vblk_device_open(m, 0);

    g_assert_cmpuint(d->num_vectors, ==, vectors);
    g_assert_cmpuint(d->max_queues, ==, 4);
    vblk_device_negotiate(d, ~VBLK_RING_FEATURES);
    for (unsigned i = 0; vectors && i < 8; i++) {
        uint16_t expected = i < vectors ? i : VIRTIO_MSI_NO_VECTOR;

        g_assert_cmphex(vblk_device_set_config_vector(d, i), ==, expected);
        g_assert_cmphex(vblk_device_set_queue_vector(d, 3, i), ==, expected);
    }
    vblk_device_close(d);
    vblk_machine_stop(m);
}

/* `vectors` is what the device has; beyond it there is no vector. */
static void test_vectors(const VblkVariant *v)
{
    static const unsigned counts[] = { 0, 1, 2, 8 };

    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        check_vectors(v, counts[i]);
    }
}

static void check_refused(VblkMachine *m, const char *props, const char *reason)
{
    g_autofree char *json = g_strdup_printf("'drive': 'disk', %s", props);
    g_autofree char *error = vblk_device_add(m, 0, json);

    g_assert_nonnull(error);
    g_assert_cmpstr(error, ==, reason);
}

/* A wrong value is refused, and QEMU can go on. */
static void test_refused(const VblkVariant *v)
{
    VblkMachine *m = vblk_machine_start(v, DISK);
    VblkDevice *d;

    check_refused(m, "'num-queues': 0",
                  "num-queues property must be larger than 0");
    check_refused(m, "'queue-size': 2",
                  "invalid queue-size property (2), must be > 2");
    check_refused(m, "'queue-size': 100",
                  "invalid queue-size property (100), "
                  "must be a power of 2 (max 1024)");
    check_refused(m, "'queue-size': 2048",
                  "invalid queue-size property (2048), "
                  "must be a power of 2 (max 1024)");
    g_assert_null(vblk_device_add(m, 0, "'drive': 'disk', 'num-queues': 4"));
    d = vblk_device_open(m, 0);
    g_assert_cmpuint(d->max_queues, ==, 4);
    vblk_device_close(d);
    vblk_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("config/num-queues", test_num_queues, VBLK_ALL);
    vblk_test_add("config/default", test_default, VBLK_ALL);
    vblk_test_add("config/queue-size", test_queue_size, VBLK_ALL);
    vblk_test_add("config/vectors", test_vectors, VBLK_ALL);
    vblk_test_add("config/refused", test_refused, VBLK_ALL);
    return g_test_run();
}
