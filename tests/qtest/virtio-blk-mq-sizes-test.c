/*
 * How large a queue's ring is
 *
 *     queue-size=N     -> the driver is offered N entries, and more are refused
 *     a ring of more   -> that has come with a migration stays as it is until
 *                         the driver resets the device
 *     a ring of 2,000, or for a queue that is not there  -> is refused
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 2
#define IMAGE_SIZE (1024 * 1024)
#define LARGEST 1024

static const unsigned sizes[] = { 4, 128, 256, 512, 1024 };

static void check_offered(VblkDevice *d, unsigned size)
{
    for (unsigned i = 0; i < QUEUES; i++) {
        g_assert_cmpuint(vblk_device_queue_size(d, i), ==, size);
    }
    g_assert_cmpuint(vblk_device_queue_size(d, QUEUES), ==, 0);
}

/* Send as many requests at once as the ring has entries. */
static void fill_ring(VblkQueue *q)
{
    g_autofree VblkRequest **r = g_new(VblkRequest *, q->size);

    for (unsigned i = 0; i < q->size; i++) {
        VblkSegment segs[3];

        r[i] = vblk_read_new(q, i, VBLK_SECTOR);
        segs[0] = (VblkSegment) { r[i]->header, 16, false };
        segs[1] = (VblkSegment) { r[i]->data, VBLK_SECTOR, true };
        segs[2] = (VblkSegment) { r[i]->status, 1, true };
        vblk_request_add_segs(r[i], segs, G_N_ELEMENTS(segs), true);
    }
    vblk_queue_kick(q);
    for (unsigned i = 0; i < q->size; i++) {
        vblk_request_finish(r[i]);
    }
}

static void fill_rings(VblkDevice *d)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            fill_ring(d->queues[i]);
        }
    }
}

static VblkDisk start(const VblkVariant *v, unsigned size, const char *props)
{
    g_autofree char *all = g_strdup_printf("num-queues=%u,queue-size=%u%s",
                                           QUEUES, size, props);
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, all);

    disk.d->largest = LARGEST;
    return disk;
}

/* @size is what is offered; a legacy PCI driver has no choice. */
static void use(VblkDevice *d, uint64_t features, unsigned size)
{
    unsigned chosen = d->modern || d->mmio ? MIN(size, d->largest) : size;

    check_offered(d, size);
    vblk_device_start(d, features | BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        g_assert_cmpuint(d->queues[i]->size, ==, chosen);
    }
    fill_rings(d);
    vblk_device_reset(d);
}

static void test_offered(const VblkVariant *v)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        VblkDisk disk = start(v, sizes[i], ",packed=on,iothread=io0");

        use(disk.d, 0, sizes[i]);
        if (v->modern) {
            use(disk.d, BIT_ULL(VIRTIO_F_RING_PACKED), sizes[i]);
        }
        /* The driver may want less, and is offered the same again. */
        disk.d->largest = 4;
        use(disk.d, 0, sizes[i]);
        check_offered(disk.d, sizes[i]);
        vblk_disk_stop(&disk);
    }
}

/* virtio.c's reader has an array with a place for each entry. */
static void test_in_order(const VblkVariant *v)
{
    for (unsigned size = 4; size <= 256; size *= 64) {
        VblkDisk disk = start(v, size, ",packed=on,in_order=on");

        use(disk.d, BIT_ULL(VIRTIO_F_IN_ORDER), size);
        use(disk.d, BIT_ULL(VIRTIO_F_IN_ORDER) | BIT_ULL(VIRTIO_F_RING_PACKED),
            size);
        vblk_disk_stop(&disk);
    }
}

/* A ring of @size for queue 0, somewhere in memory. */
static void set_up_ring(VblkDevice *d, unsigned size)
{
    uint64_t area = guest_alloc(&d->machine->alloc, LARGEST * 32);

    vblk_device_negotiate(d, ~VBLK_RING_FEATURES);
    vblk_device_enable_queue(d, 0, size, area, area + LARGEST * 16,
                             area + LARGEST * 24);
}

static void check_too_large(VblkDevice *d, unsigned size)
{
    set_up_ring(d, size);
    vblk_device_wait_broken(d);
    vblk_device_reset(d);
}

static void test_too_large(const VblkVariant *v)
{
    static const unsigned more[] = { 257, 512, 1024 };
    VblkDisk disk = start(v, 256, "");

    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        check_too_large(disk.d, more[i]);
        use(disk.d, 0, 256);
    }
    set_up_ring(disk.d, 256);
    g_assert_cmphex(vblk_device_status(disk.d) & VIRTIO_CONFIG_S_NEEDS_RESET,
                    ==, 0);
    vblk_disk_stop(&disk);
}

/*
 * A guest that has rings of 1,024, as QEMU 10.0.13 gives it, comes to one that
 * offers 256.
 */
static void check_larger(const VblkVariant *v, uint64_t features,
                         const char *props)
{
    g_autofree char *source = g_strdup_printf("num-queues=%u,queue-size=%u%s",
                                              QUEUES, LARGEST, props);
    g_autofree char *target = g_strdup_printf("num-queues=%u,queue-size=256%s",
                                              QUEUES, props);
    VblkDisk disk = start(v, LARGEST, props);

    vblk_device_start(disk.d, features | BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    fill_rings(disk.d);
    vblk_disk_migrate(&disk, target);
    fill_rings(disk.d);
    if (disk.d->features & BIT_ULL(VIRTIO_F_RING_RESET)) {
        /* The driver keeps the size that it has. */
        vblk_device_reset_queue(disk.d, 1);
        vblk_queue_new_sized(disk.d, 1, LARGEST);
        fill_rings(disk.d);
    }
    vblk_device_reset(disk.d);
    use(disk.d, features, 256);
    if (v->modern) {
        check_too_large(disk.d, LARGEST);
    }
    vblk_device_start(disk.d, features | BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    /* Migrate back, with a ring that is smaller than the offered size. */
    vblk_disk_migrate(&disk, source);
    fill_rings(disk.d);
    vblk_disk_stop(&disk);
}

static void test_larger(const VblkVariant *v)
{
    check_larger(v, 0, ",iothread=io0");
}

static void test_larger_event(const VblkVariant *v)
{
    check_larger(v, BIT_ULL(VIRTIO_RING_F_EVENT_IDX), "");
}

static void test_larger_packed(const VblkVariant *v)
{
    check_larger(v, BIT_ULL(VIRTIO_F_RING_PACKED), ",packed=on");
}

static void test_larger_in_order(const VblkVariant *v)
{
    check_larger(v, BIT_ULL(VIRTIO_F_IN_ORDER), ",in_order=on");
}

/* Change the size of the ring at @desc in a stream; there is one such. */
static void stream_set_size(const char *file, uint64_t desc, uint32_t old,
                            uint32_t size)
{
    g_autofree char *stream = NULL;
    uint8_t want[12];
    gsize len, found = 0;
    int fd;

    stl_be_p(want, old);
    stq_be_p(want + 4, desc);
    g_assert_true(g_file_get_contents(file, &stream, &len, NULL));
    for (gsize i = 0; i + sizeof(want) <= len; i++) {
        if (!memcmp(stream + i, want, sizeof(want))) {
            g_assert_cmpuint(found, ==, 0);
            found = i;
        }
    }
    g_assert_cmpuint(found, !=, 0);
    stl_be_p(want, size);
    fd = open(file, O_WRONLY);
    g_assert_cmpint(pwrite(fd, want, 4, found), ==, 4);
    close(fd);
}

/* @to reads a stream and says that it cannot be. */
static void check_stream_fails(VblkMachine *to, const char *file)
{
    g_autofree char *uri = g_strdup_printf("file:%s", file);
    gint64 start = g_get_monotonic_time();
    bool failed = false;

    qtest_qmp_assert_success(to->qts, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s,"
                             " 'exit-on-error': false}}", uri);
    while (!failed) {
        QDict *info = qtest_qmp_assert_success_ref(to->qts, "{'execute':"
                                                   " 'query-migrate'}");
        const char *status = qdict_get_try_str(info, "status");

        g_assert_cmpstr(status, !=, "completed");
        failed = !g_strcmp0(status, "failed");
        qobject_unref(info);
        vblk_deadline(start, "the failure of a migration");
    }
    vblk_machine_stop(to);
}

/* The state of a disk with rings of 64, in a file. */
static char *stream_new(VblkDisk *disk)
{
    char *file = vblk_image_new(0);

    disk->d->largest = 64;
    vblk_device_start(disk->d, 0, VBLK_ALL_QUEUES);
    qtest_qmp_assert_success(disk->m->qts, "{'execute': 'stop'}");
    vblk_machine_migrate_begin(disk->m, file);
    vblk_machine_migrate_wait(disk->m);
    return file;
}

static void test_bad_stream(const VblkVariant *v)
{
    static const uint32_t bad[] = { 1025, 32768, 65536, UINT32_MAX };
    VblkDisk disk = start(v, 256, "");
    char *file = stream_new(&disk);
    uint64_t desc = disk.d->queues[1]->desc;
    uint32_t size = 64;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        VblkMachine *to = vblk_disk_start_target(&disk, "num-queues=2,"
                                                 "queue-size=256");

        stream_set_size(file, desc, size, bad[i]);
        size = bad[i];
        check_stream_fails(to, file);
    }
    vblk_image_free(file);
    vblk_disk_stop(&disk);
}

/* A ring for a queue that the target does not have. */
static void test_too_many(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, "num-queues=3");
    char *file = stream_new(&disk);

    check_stream_fails(
        vblk_disk_start_target(&disk, "num-queues=2,vectors=4"), file);
    vblk_image_free(file);
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("sizes/offered", test_offered, VBLK_BOTH | VBLK_MMIO);
    vblk_test_add("sizes/in-order", test_in_order, VBLK_Q35_MODERN);
    vblk_test_add("sizes/too-large", test_too_large, VBLK_PC_MODERN |
                  VBLK_MICROVM_MODERN);
    vblk_test_add("sizes/larger", test_larger, VBLK_BOTH);
    vblk_test_add("sizes/larger-event", test_larger_event, VBLK_BOTH);
    vblk_test_add("sizes/larger-packed", test_larger_packed, VBLK_Q35_MODERN);
    vblk_test_add("sizes/larger-in-order", test_larger_in_order,
                  VBLK_Q35_MODERN);
    vblk_test_add("sizes/bad-stream", test_bad_stream, VBLK_PC_MODERN);
    vblk_test_add("sizes/too-many", test_too_many, VBLK_PC_MODERN);
    return g_test_run();
}
