/*
 * Reset with requests in flight on several queues
 *
 *     driver:  requests on all queues ... reset ... new rings, new requests
 *     device:                             finish or drop the old ones first,
 *                                         then never touch them again
 *
 * A slow disk holds the requests back until the test lets time pass.  Event
 * index tells when the device has taken them from the ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 4
#define DEPTH 4
#define IMAGE_SIZE (1024 * 1024)
#define RING_FEATURES BIT_ULL(VIRTIO_RING_F_EVENT_IDX)

#define IOTHREAD ", 'iothread': 'io0'"

/* @image: NULL for a disk that keeps no data */
typedef struct Fixture {
    char *image;
    VblkMachine *m;
    VblkDevice *d;
} Fixture;

/* Guest memory from @addr on, which the device must not change. */
typedef struct Memory {
    uint64_t addr;
    size_t len;
    uint8_t *was;
} Memory;

static Fixture setup(const VblkVariant *v, const char *json)
{
    g_autofree char *props =
        g_strdup_printf("'drive': 'disk', 'num-queues': %u%s", QUEUES, json);
    Fixture f;

    f.image = vblk_image_new(IMAGE_SIZE);
    f.m = vblk_machine_start(v, "-object iothread,id=io0");
    vblk_slow_disk_add(f.m, f.image, NULL);
    g_assert_cmpstr(vblk_device_add(f.m, 0, props), ==, NULL);
    f.d = vblk_device_open(f.m, 0);
    return f;
}

static void teardown(Fixture *f)
{
    vblk_device_close(f->d);
    vblk_machine_stop(f->m);
    vblk_image_free(f->image);
}

/* Fill all queues and make sure that the device holds most of it. */
static GPtrArray *load(VblkDevice *d)
{
    GPtrArray *requests = g_ptr_array_new();
    unsigned held = 0;

    for (unsigned i = 0; i < QUEUES * DEPTH; i++) {
        VblkQueue *q = d->queues[i % QUEUES];
        VblkRequest *r = i & 4 ? vblk_read_new(q, 8 * i, 4096)
                               : vblk_write_new(q, 8 * i, 4096, i);

        vblk_request_add(r);
        g_ptr_array_add(requests, r);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_kick(d->queues[q]);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_queue_wait_taken(d->queues[q]);
        vblk_queue_reap(d->queues[q]);
    }
    for (unsigned i = 0; i < requests->len; i++) {
        held += !((VblkRequest *)requests->pdata[i])->done;
    }
    g_assert_cmpuint(held, >, QUEUES * DEPTH / 2);
    return requests;
}

static void remember(GArray *memory, VblkMachine *m, uint64_t addr, size_t len)
{
    Memory mem = { addr, len, g_malloc(len) };

    qtest_bufread(m->qts, addr, mem.was, len);
    g_array_append_val(memory, mem);
}

/* The places of the old rings and buffers, checked again after the reset. */
static GArray *old_memory(VblkDevice *d, GPtrArray *requests)
{
    GArray *memory = g_array_new(false, false, sizeof(Memory));

    for (unsigned q = 0; q < QUEUES; q++) {
        remember(memory, d->machine, d->queues[q]->area,
                 d->queues[q]->area_size);
    }
    for (unsigned i = 0; i < requests->len; i++) {
        VblkRequest *r = requests->pdata[i];

        remember(memory, d->machine, r->header, 16 + r->len + 1);
    }
    return memory;
}

static void memory_read_again(GArray *memory, VblkMachine *m)
{
    for (unsigned i = 0; i < memory->len; i++) {
        Memory *mem = &g_array_index(memory, Memory, i);

        qtest_bufread(m->qts, mem->addr, mem->was, mem->len);
    }
}

static void memory_check_and_free(GArray *memory, VblkMachine *m)
{
    for (unsigned i = 0; i < memory->len; i++) {
        Memory *mem = &g_array_index(memory, Memory, i);
        g_autofree uint8_t *is = g_malloc(mem->len);

        qtest_bufread(m->qts, mem->addr, is, mem->len);
        g_assert_cmpmem(is, mem->len, mem->was, mem->len);
        g_free(mem->was);
    }
    g_array_free(memory, true);
}

/* Time for a throttled request or two to come through, were there any left. */
static void time_passes(VblkMachine *m)
{
    vblk_clock_advance(m, 2000);
}

/* A new driver on the same device: every queue works, on new rings. */
static void check_works(Fixture *f)
{
    vblk_device_start(f->d, RING_FEATURES, VBLK_ALL_QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkRequest *w = vblk_write_new(f->d->queues[q], 1024 + q, VBLK_SECTOR,
                                        q + 77);
        VblkRequest *r = vblk_read_new(f->d->queues[q], 1024 + q, VBLK_SECTOR);

        vblk_request_submit(w);
        g_assert_cmphex(vblk_request_wait_throttled(w), ==,
                        VIRTIO_BLK_S_OK);
        vblk_vector_wait(f->d, q + 1);
        vblk_request_free(w);

        vblk_queue_set_event(f->d->queues[q], 0);
        vblk_request_submit(r);
        g_assert_cmphex(vblk_request_wait_throttled(r), ==,
                        VIRTIO_BLK_S_OK);
        vblk_vector_wait(f->d, q + 1);
        if (f->image) {
            vblk_read_check(r, q + 77);
        }
        vblk_request_free(r);
    }
}

/* Reset with requests in flight, and check that they are never answered. */
static void check_reset(Fixture *f, void (*reset)(Fixture *f))
{
    GPtrArray *requests;
    GArray *memory;

    vblk_device_start(f->d, RING_FEATURES, VBLK_ALL_QUEUES);
    requests = load(f->d);
    memory = old_memory(f->d, requests);
    reset(f);
    memory_read_again(memory, f->m);
    time_passes(f->m);
    check_works(f);
    memory_check_and_free(memory, f->m);
    g_ptr_array_free(requests, true);
}

/* The driver writes 0 to the status. */
static void reset_status(Fixture *f)
{
    vblk_device_reset(f->d);
    for (unsigned v = 0; v < f->d->num_vectors; v++) {
        vblk_vector_take(f->d, v);
    }
    time_passes(f->m);
    vblk_vectors_silent(f->d);
}

static void test_status(const VblkVariant *v, const char *json)
{
    Fixture f = setup(v, json);

    check_reset(&f, reset_status);
    check_reset(&f, reset_status);
    teardown(&f);
}

/* The machine is reset; firmware would set up PCI again. */
static void reset_system(Fixture *f)
{
    vblk_device_close(f->d);
    qtest_system_reset(f->m->qts);
    vblk_machine_init_pci(f->m);
    f->d = vblk_device_open(f->m, 0);
    g_assert_cmphex(vblk_device_status(f->d), ==, 0);
}

static void test_system(const VblkVariant *v)
{
    Fixture f = setup(v, IOTHREAD);

    check_reset(&f, reset_system);
    teardown(&f);
}

/* A function level reset, which PCI Express devices have. */
static void reset_function(Fixture *f)
{
    uint8_t cap = qpci_find_capability(f->d->pci, PCI_CAP_ID_EXP, 0);

    g_assert_cmpint(cap, !=, 0);
    g_assert_cmphex(qpci_config_readl(f->d->pci, cap + PCI_EXP_DEVCAP) &
                    PCI_EXP_DEVCAP_FLR, !=, 0);
    qpci_config_writew(f->d->pci, cap + PCI_EXP_DEVCTL,
                       PCI_EXP_DEVCTL_BCR_FLR);
    vblk_device_close(f->d);
    f->d = vblk_device_open(f->m, 0);
    g_assert_cmphex(vblk_device_status(f->d), ==, 0);
}

static void test_function(const VblkVariant *v)
{
    Fixture f = setup(v, IOTHREAD);

    check_reset(&f, reset_function);
    teardown(&f);
}

/* Reset again and again while requests end in real time. */
static void test_again_and_again(const VblkVariant *v)
{
    g_autofree char *arg = vblk_device_arg(v, 0, "drive=disk,num-queues=4,"
                                           "iothread=io0");
    Fixture f;

    f.image = NULL;
    f.m = vblk_machine_start(v, "-object iothread,id=io0 -blockdev null-co,"
                             "node-name=disk,size=1048576,latency-ns=2000000 "
                             "-device %s", arg);
    f.d = vblk_device_open(f.m, 0);
    for (unsigned round = 0; round < 10; round++) {
        vblk_device_start(f.d, RING_FEATURES, VBLK_ALL_QUEUES);
        for (unsigned i = 0; i < QUEUES * round; i++) {
            vblk_request_submit(vblk_read_new(f.d->queues[i % QUEUES], i,
                                              4096));
        }
        vblk_device_reset(f.d);
    }
    check_works(&f);
    vblk_device_close(f.d);
    vblk_machine_stop(f.m);
}

static VblkRequest *submit_read(VblkQueue *q)
{
    VblkRequest *r = vblk_read_new(q, 0, VBLK_SECTOR);

    vblk_request_submit(r);
    return r;
}

/* An idle queue is reset.  The others go on, and it gets a ring elsewhere. */
static void test_queue(const VblkVariant *v)
{
    g_autofree char *arg = vblk_device_arg(v, 0, "drive=disk,num-queues=4,"
                                           "iothread=io0");
    VblkMachine *m = vblk_machine_start(v, "-object iothread,id=io0 -blockdev "
                                        "null-co,node-name=disk,size=1048576 "
                                        "-device %s", arg);
    VblkDevice *d = vblk_device_open(m, 0);

    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_request_finish(submit_read(d->queues[q]));
        }
        vblk_device_reset_queue(d, i);
        g_assert_false(vblk_device_queue_enabled(d, i));
        for (unsigned q = 0; q < QUEUES; q++) {
            if (q != i) {
                vblk_request_finish(submit_read(d->queues[q]));
            }
        }
        vblk_queue_new(d, i);
        g_assert_true(vblk_device_queue_enabled(d, i));
        g_assert_cmpuint(vblk_device_set_queue_vector(d, i, i + 1), ==, i + 1);
        vblk_vector_take(d, i + 1);
        vblk_request_finish(submit_read(d->queues[i]));
        vblk_vector_wait(d, i + 1);
    }
    vblk_device_close(d);
    vblk_machine_stop(m);
}

/* The transport lets the driver name queues that the device does not have. */
static void test_queue_beyond(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL,
                                    "num-queues=4,iothread=io0");

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    vblk_device_reset_queue(disk.d, QUEUES);
    vblk_device_reset_queue(disk.d, 1023);
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(disk.d->queues[q], q, VBLK_SECTOR, q);
    }
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("reset/status", test_status, "", VBLK_ALL);
    vblk_test_add_with("reset/status-iothread", test_status, IOTHREAD,
                       VBLK_ALL);
    vblk_test_add("reset/system", test_system, VBLK_ALL);
    vblk_test_add("reset/function", test_function, VBLK_Q35_MODERN);
    vblk_test_add("reset/queue", test_queue, VBLK_MODERN);
    vblk_test_add("reset/queue-beyond", test_queue_beyond, VBLK_MODERN);
    vblk_test_add("reset/again-and-again", test_again_and_again, VBLK_ALL);
    return g_test_run();
}
