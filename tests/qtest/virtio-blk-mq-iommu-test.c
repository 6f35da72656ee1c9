/*
 * Several queues behind a vIOMMU
 *
 *     driver's addresses --- vIOMMU, passing them through --- guest memory
 *
 * The vIOMMU does not translate here.  But the device must use it for all rings
 * and buffers, in each mode of use of a ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=3,packed=on,iommu_platform=on"

static VblkDisk setup(const VblkVariant *v, const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = vblk_device_arg(v, 0, all);
    VblkDisk disk = { .image = vblk_image_new(IMAGE_SIZE) };

    disk.m = vblk_machine_start(v, "-device intel-iommu " VBLK_IOTHREADS
                                "-blockdev driver=raw,node-name=disk,"
                                "file.driver=file,file.filename=%s -device %s",
                                disk.image, arg);
    disk.d = vblk_device_open(disk.m, 0);
    return disk;
}

static void check_data(VblkDisk *disk, const VblkRing *ring)
{
    g_assert_cmphex(disk->d->features & BIT_ULL(VIRTIO_F_ACCESS_PLATFORM), !=,
                    0);
    for (unsigned i = 0; i < 4 * QUEUES; i++) {
        VblkQueue *q = disk->d->queues[i % QUEUES];
        VblkRequest *r = vblk_read_new(q, 8 * i, 4096);
        VblkSegment segs[] = { { r->header, 16, false },
                               { r->data, 1000, true },
                               { r->data + 1000, 3096, true },
                               { r->status, 1, true } };

        vblk_write(disk->d->queues[(i + 1) % QUEUES], 8 * i, 4096, i);
        vblk_request_add_segs(r, segs, ARRAY_SIZE(segs), ring->indirect);
        vblk_queue_kick(q);
        g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
        vblk_read_check(r, i);
        vblk_request_free(r);
    }
}

static void test_data(const VblkVariant *v, const char *options)
{
    VblkDisk disk = setup(v, options);

    vblk_disk_for_each_ring(&disk, check_data);
    vblk_disk_stop(&disk);
}

/* A bad ring breaks the device here too.  After a reset it works again. */
static void test_bad_ring(const VblkVariant *v)
{
    VblkDisk disk = setup(v, PROPS ",iothread=io0");

    for (unsigned i = 0; i < QUEUES; i++) {
        VblkQueue *q;

        vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
        q = disk.d->queues[i];
        vblk_split_offer(q, q->size);
        vblk_device_notify(disk.d, i);
        vblk_device_wait_broken(disk.d);
        vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
        check_data(&disk, &(VblkRing) { "split" });
    }
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("iommu/data", test_data, PROPS, VBLK_Q35_MODERN);
    vblk_test_add_with("iommu/data-iothread", test_data,
                       PROPS ",iothread=io0", VBLK_Q35_MODERN);
    vblk_test_add("iommu/bad-ring", test_bad_ring, VBLK_Q35_MODERN);
    return g_test_run();
}
