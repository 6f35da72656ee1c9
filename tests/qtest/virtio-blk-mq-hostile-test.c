/*
 * A guest that breaks the rules of the ring on one of several queues
 *
 *     bad ring on one queue  ->  DEVICE_NEEDS_RESET and a configuration
 *                                interrupt (modern), silence (legacy)
 *     reset                  ->  all queues work again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE

/**
 * Sabotage: one way to break a ring.
 * @offer: the entry of the available ring; relative to the ring's size if
 *         @beyond
 * @skip: the available index is too high by this number
 * @next: the link of the first of two descriptors; relative if @beyond
 */
typedef struct Sabotage {
    const char *name;
    uint16_t offer;
    uint16_t skip;
    uint16_t next;
    bool beyond_offer;
    bool beyond_next;
    bool no_status;
} Sabotage;

static const Sabotage sabotages[] = {
    { .name = "head-beyond-ring", .beyond_offer = true },
    { .name = "head-ffff", .offer = 0xffff },
    { .name = "index-jump", .skip = 2000 },
    { .name = "loop-of-one", .next = 0 },
    { .name = "loop-of-two", .next = 1 },
    { .name = "next-beyond-ring", .beyond_next = true },
    { .name = "next-ffff", .next = 0xffff },
    { .name = "no-status", .no_status = true },
};

static VblkDisk setup(const VblkVariant *v, const char *props)
{
    g_autofree char *all = g_strdup_printf("num-queues=%u%s%s", QUEUES,
                                           *props ? "," : "", props);

    return vblk_disk_start(v, IMAGE_SIZE, NULL, all);
}

/* Two descriptors at the beginning of the table, made wrong as @s says. */
static void sabotage(VblkQueue *q, const Sabotage *s)
{
    VblkDevice *d = q->dev;
    VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_IN, 0, 0);
    uint16_t next = s->beyond_next ? q->size : s->next;

    if (s->no_status) {
        vblk_split_write(d, q->desc, 0, r->header, 16, 0, 0);
    } else {
        vblk_split_write(d, q->desc, 0, r->header, 16, N, next);
        vblk_split_write(d, q->desc, 1, r->status, 1, W | N, 0);
    }
    q->avail += s->skip;
    vblk_split_offer(q, s->beyond_offer ? q->size : s->offer);
    vblk_device_notify(d, q->index);
}

static void check_works(VblkDevice *d)
{
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(d->queues[q], 8 * q, 4096, q + 1);
        vblk_vector_wait(d, q + 1);
        vblk_read(d->queues[QUEUES - 1 - q], 8 * q, 4096, q + 1);
        vblk_vector_wait(d, QUEUES - q);
    }
}

static void check_sabotage(VblkDisk *f, const Sabotage *s, unsigned queue)
{
    VblkDevice *d = f->d;
    VblkQueue *q;

    g_test_message("%s on queue %u", s->name, queue);
    check_works(d);
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    q = d->queues[queue];
    sabotage(q, s);
    if (d->modern) {
        vblk_device_wait_broken(d);
        vblk_vector_wait(d, 0);
    }
    g_assert_cmpuint(vblk_split_used_idx(q), ==, 0);
    vblk_vectors_silent(d);
    check_works(d);
}

static void test_ring(const VblkVariant *v, const char *props)
{
    VblkDisk f = setup(v, props);

    for (unsigned i = 0; i < ARRAY_SIZE(sabotages); i++) {
        check_sabotage(&f, &sabotages[i], i % QUEUES);
    }
    vblk_disk_stop(&f);
}

/* All queues at once. */
static void test_everywhere(const VblkVariant *v)
{
    VblkDisk f = setup(v, "iothread=io0");

    for (unsigned round = 0; round < 3; round++) {
        vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
        for (unsigned q = 0; q < QUEUES; q++) {
            sabotage(f.d->queues[q], &sabotages[q]);
        }
        if (v->modern) {
            vblk_device_wait_broken(f.d);
        }
        check_works(f.d);
    }
    vblk_disk_stop(&f);
}

/* A broken disk leaves its neighbour in the same IOThread alone. */
static void test_neighbour(const VblkVariant *v)
{
    g_autofree char *arg0 = vblk_device_arg(v, 0, "drive=disk,num-queues=4,"
                                            "iothread=io0");
    g_autofree char *arg1 = vblk_device_arg(v, 1, "drive=other,num-queues=4,"
                                            "iothread=io0");
    VblkMachine *m = vblk_machine_start(v, "-object iothread,id=io0 "
                                        "-blockdev null-co,node-name=disk,"
                                        "size=1048576 -blockdev null-co,"
                                        "node-name=other,size=1048576 "
                                        "-device %s -device %s", arg0, arg1);
    VblkDevice *bad = vblk_device_open(m, 0);
    VblkDevice *good = vblk_device_open(m, 1);

    vblk_device_start(bad, 0, VBLK_ALL_QUEUES);
    vblk_device_start(good, 0, VBLK_ALL_QUEUES);
    sabotage(bad->queues[1], &sabotages[0]);
    if (v->modern) {
        vblk_device_wait_broken(bad);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        g_assert_cmphex(vblk_request_run(good->queues[q], VIRTIO_BLK_T_IN, 0,
                                         NULL, 4096), ==, VIRTIO_BLK_S_OK);
        vblk_vector_wait(good, q + 1);
    }
    g_assert_cmphex(vblk_device_status(good) & VIRTIO_CONFIG_S_NEEDS_RESET, ==,
                    0);
    vblk_device_close(bad);
    vblk_device_close(good);
    vblk_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("hostile/ring", test_ring, "", VBLK_ALL);
    vblk_test_add_with("hostile/ring-iothread", test_ring,
                       "iothread=io0", VBLK_ALL);
    vblk_test_add("hostile/everywhere", test_everywhere, VBLK_ALL);
    vblk_test_add("hostile/neighbour", test_neighbour, VBLK_ALL);
    return g_test_run();
}
