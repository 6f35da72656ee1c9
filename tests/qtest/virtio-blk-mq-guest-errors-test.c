/*
 * The lines of '-d guest_errors' for the author of a driver
 *
 *     indirect descriptor, negotiated      ->  nothing
 *     indirect descriptor, not negotiated  ->  a line; the request is served
 *
 * Both readers of a ring are tested.  virtio.c reads the rings in order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=2,packed=on,in_order=on"
#define REQUESTS 3

static const uint64_t rings[] = {
    0,
    BIT_ULL(VIRTIO_F_RING_PACKED),
    BIT_ULL(VIRTIO_F_IN_ORDER),
    BIT_ULL(VIRTIO_F_IN_ORDER) | BIT_ULL(VIRTIO_F_RING_PACKED),
};

static unsigned count_lines(const char *file)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    unsigned n = 0;

    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        /* QEMU 10.2 has the second word. */
        n += (strstr(lines[i], "indirect descriptor") ||
              strstr(lines[i], "indirect_desc")) &&
             strstr(lines[i], "not negotiated");
    }
    return n;
}

static void log_to(VblkMachine *m, const char *file)
{
    g_autofree char *to = qtest_hmp(m->qts, "logfile %s", file);
    g_autofree char *what = qtest_hmp(m->qts, "log guest_errors");

    g_assert_cmpstr(to, ==, "");
    g_assert_cmpstr(what, ==, "");
}

static void read_indirect(VblkQueue *q)
{
    VblkRequest *r = vblk_read_new(q, 0, VBLK_SECTOR);
    VblkSegment segs[] = {
        { r->header, 16, false },
        { r->data, VBLK_SECTOR, true },
        { r->status, 1, true },
    };

    vblk_request_add_segs(r, segs, G_N_ELEMENTS(segs), true);
    vblk_queue_kick(q);
    vblk_request_finish(r);
}

static void check(VblkDisk *disk, uint64_t features, unsigned lines)
{
    char *file = vblk_image_new(0);

    vblk_device_start(disk->d, features, VBLK_ALL_QUEUES);
    log_to(disk->m, file);
    for (unsigned i = 0; i < REQUESTS; i++) {
        read_indirect(disk->d->queues[i % 2]);
    }
    vblk_device_reset(disk->d);
    g_assert_cmpuint(count_lines(file), ==, lines);
    vblk_image_free(file);
}

static void test_indirect(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);

    for (unsigned i = 0; i < G_N_ELEMENTS(rings); i++) {
        check(&disk, rings[i] | BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC), 0);
        check(&disk, rings[i], REQUESTS);
    }
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("guest-errors/indirect", test_indirect,
                       PROPS, VBLK_Q35_MODERN);
    vblk_test_add_with("guest-errors/indirect-iothread", test_indirect,
                       PROPS ",iothread=io0", VBLK_Q35_MODERN);
    return g_test_run();
}
