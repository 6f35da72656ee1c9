/*
 * Several queues behind a vIOMMU that translates
 *
 *     driver's addresses               guest memory
 *     0       .. 128 MiB  -----------> the same       (rings, messages)
 *     1 GiB   .. + 128 MiB ----------> 0 .. 128 MiB   (requests)
 *     2 GiB   .. + 2 MiB  -----------> one page or another, or none
 *
 * The vIOMMU is Intel's, with the tables of its legacy mode: a root table by
 * bus, a context table by device, page tables of four levels, here with pages
 * of 2 MiB.  The driver switches it on and off while the device is in use.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=3,packed=on,iommu_platform=on"

#define RAM_SIZE (128 * MiB)
#define WINDOW (1 * GiB)
#define ODD_PAGE (2 * GiB)

/* Pages that the driver's allocator never returns */
#define PAGE_A (64 * MiB)
#define PAGE_B (66 * MiB)
#define PAGE_SIZE_LARGE (2 * MiB)

/* Registers (VT-d specification, 11.4), where a PC has them */
#define VTD_BASE 0xfed90000
#define VTD_GCMD (VTD_BASE + 0x18)
#define VTD_GSTS (VTD_BASE + 0x1c)
#define VTD_RTADDR (VTD_BASE + 0x20)
#define VTD_CCMD (VTD_BASE + 0x28)
#define VTD_ECAP (VTD_BASE + 0x10)

#define GCMD_TRANSLATE BIT(31)
#define GCMD_ROOT_TABLE BIT(30)
#define CCMD_GLOBAL (BIT_ULL(63) | BIT_ULL(61))
#define IOTLB_GLOBAL (BIT_ULL(63) | BIT_ULL(60))

/* Bits of table entries (9.1, 9.3, 9.8) */
#define ENTRY_PRESENT BIT_ULL(0)
#define CONTEXT_WIDTH_48 2
#define CONTEXT_DOMAIN BIT_ULL(8)
#define PAGE_READ BIT_ULL(0)
#define PAGE_WRITE BIT_ULL(1)
#define PAGE_LARGE BIT_ULL(7)

typedef struct Vtd {
    VblkDisk disk;
    uint64_t pages[3];      /* tables of 2 MiB pages, of 1 GiB each */
    bool on;
} Vtd;

static uint64_t table_new(VblkMachine *m)
{
    uint64_t table = guest_alloc(&m->alloc, 4096);

    g_assert_cmpuint(table % 4096, ==, 0);
    qtest_memset(m->qts, table, 0, 4096);
    return table;
}

static void map_page(Vtd *vtd, uint64_t iova, uint64_t addr)
{
    uint64_t entry = addr | PAGE_LARGE | PAGE_READ | PAGE_WRITE;

    qtest_writeq(vtd->disk.m->qts, vtd->pages[iova / GiB] +
                 iova % GiB / PAGE_SIZE_LARGE * 8, entry);
}

static void unmap_page(Vtd *vtd, uint64_t iova)
{
    qtest_writeq(vtd->disk.m->qts, vtd->pages[iova / GiB] +
                 iova % GiB / PAGE_SIZE_LARGE * 8, 0);
}

static void invalidate(Vtd *vtd)
{
    QTestState *qts = vtd->disk.m->qts;
    uint64_t iotlb = VTD_BASE + extract64(qtest_readq(qts, VTD_ECAP), 8, 10) *
                                16 + 8;

    qtest_writeq(qts, VTD_CCMD, CCMD_GLOBAL);
    qtest_writeq(qts, iotlb, IOTLB_GLOBAL);
}

static void command(Vtd *vtd, uint32_t bit, bool on)
{
    QTestState *qts = vtd->disk.m->qts;
    uint32_t keep = vtd->on ? GCMD_TRANSLATE : 0;
    gint64 start = g_get_monotonic_time();

    qtest_writel(qts, VTD_GCMD, on ? keep | bit : keep & ~bit);
    while (!(qtest_readl(qts, VTD_GSTS) & bit) == on) {
        vblk_deadline(start, "the vIOMMU");
    }
}

static void translate(Vtd *vtd, bool on)
{
    command(vtd, GCMD_TRANSLATE, on);
    vtd->on = on;
}

static void make_tables(Vtd *vtd)
{
    VblkMachine *m = vtd->disk.m;
    int devfn = vblk_slot_devfn(m->variant, 0);
    uint64_t root = table_new(m), context = table_new(m);
    uint64_t top = table_new(m), third = table_new(m);

    qtest_writeq(m->qts, root + (devfn >> 8) * 16, context | ENTRY_PRESENT);
    qtest_writeq(m->qts, context + (devfn & 0xff) * 16, top | ENTRY_PRESENT);
    qtest_writeq(m->qts, context + (devfn & 0xff) * 16 + 8,
                 CONTEXT_WIDTH_48 | CONTEXT_DOMAIN);
    qtest_writeq(m->qts, top, third | PAGE_READ | PAGE_WRITE);
    for (unsigned i = 0; i < ARRAY_SIZE(vtd->pages); i++) {
        vtd->pages[i] = table_new(m);
        qtest_writeq(m->qts, third + i * 8,
                     vtd->pages[i] | PAGE_READ | PAGE_WRITE);
    }
    for (uint64_t addr = 0; addr < RAM_SIZE; addr += PAGE_SIZE_LARGE) {
        map_page(vtd, addr, addr);
        map_page(vtd, WINDOW + addr, addr);
    }
    qtest_writeq(m->qts, VTD_RTADDR, root);
    command(vtd, GCMD_ROOT_TABLE, true);
    invalidate(vtd);
}

static Vtd setup(const VblkVariant *v, const char *props)
{
    g_autofree char *all = g_strdup_printf("drive=disk,%s", props);
    g_autofree char *arg = vblk_device_arg(v, 0, all);
    Vtd vtd = { .disk.image = vblk_image_new(IMAGE_SIZE) };

    vtd.disk.m = vblk_machine_start(v, "-device intel-iommu " VBLK_IOTHREADS
                                    "-blockdev driver=raw,node-name=disk,"
                                    "file.driver=file,file.filename=%s "
                                    "-device %s", vtd.disk.image, arg);
    vtd.disk.d = vblk_device_open(vtd.disk.m, 0);
    make_tables(&vtd);
    return vtd;
}

/*
 * The used index of the last interrupt, where the driver names those it wants
 * (event index).  In the VirtQueue it moves when virtio.c reads the ring.
 */
static unsigned base_signalled(Vtd *vtd, unsigned queue)
{
    QDict *info = qtest_qmp_assert_success_ref(
        vtd->disk.m->qts, "{'execute': 'x-query-virtio-queue-status',"
        " 'arguments': {'path': '/machine/peripheral/disk0/virtio-backend',"
        " 'queue': %u}}", queue);
    unsigned signalled = qdict_get_int(info, "signalled-used");

    qobject_unref(info);
    return signalled;
}

static bool base_reads(Vtd *vtd)
{
    unsigned before = base_signalled(vtd, 1);

    vblk_write(vtd->disk.d->queues[1], 8, VBLK_SECTOR, 3);
    return base_signalled(vtd, 1) != before;
}

static void add(VblkRequest *r, uint64_t offset, uint64_t data, bool indirect)
{
    bool is_read = !(r->type & VIRTIO_BLK_T_OUT);
    VblkSegment segs[] = { { r->header + offset, 16, false },
                           { data, 1000, is_read },
                           { data + 1000, r->len - 1000, is_read },
                           { r->status + offset, 1, true } };

    vblk_request_add_segs(r, segs, ARRAY_SIZE(segs), indirect);
    vblk_queue_kick(r->queue);
}

/* @offset: where the driver's view of guest memory begins */
static void check_data(Vtd *vtd, uint64_t offset, bool indirect, uint32_t seed)
{
    VblkRequest *r[QUEUES * 4];

    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = vblk_write_new(vtd->disk.d->queues[i % QUEUES], 8 * i, 4096,
                              seed + i);
        add(r[i], offset, r[i]->data + offset, indirect);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        vblk_request_finish(r[i]);
        r[i] = vblk_read_new(vtd->disk.d->queues[(i + 1) % QUEUES], 8 * i,
                             4096);
        add(r[i], offset, r[i]->data + offset, indirect);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        g_assert_cmphex(vblk_request_wait(r[i]), ==, VIRTIO_BLK_S_OK);
        vblk_read_check(r[i], seed + i);
        vblk_request_free(r[i]);
    }
}

static void check_translated(VblkDisk *disk, const VblkRing *ring)
{
    Vtd *vtd = container_of(disk, Vtd, disk);

    if (ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
        g_assert_true(base_reads(vtd));
    }
    check_data(vtd, 0, ring->indirect, 1);
    check_data(vtd, WINDOW, ring->indirect, 100);
}

static void test_data(const VblkVariant *v, const char *props)
{
    Vtd vtd = setup(v, props);

    translate(&vtd, true);
    vblk_disk_for_each_ring(&vtd.disk, check_translated);
    vblk_disk_stop(&vtd.disk);
}

/*
 * The reader of the ring changes while the device works, and changes back while
 * it is idle.  virtio.c's reader waits for the BQL if its view of the ring is
 * gone, and the thread that switches the vIOMMU holds the BQL.
 */
static void check_switch(const VblkVariant *v, uint64_t features)
{
    Vtd vtd = setup(v, PROPS ",iothread=io0");
    VblkDevice *d = vtd.disk.d;

    vblk_device_start(d, features, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < 10; i++) {
        VblkRequest *r[QUEUES];

        g_assert_false(base_reads(&vtd));
        check_data(&vtd, 0, false, 10 * i);
        for (unsigned q = 0; q < QUEUES; q++) {
            r[q] = vblk_write_new(d->queues[q], 1000 + q, VBLK_SECTOR, i);
            vblk_request_submit(r[q]);
        }
        translate(&vtd, true);
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_request_finish(r[q]);
            r[q] = vblk_read_new(d->queues[q], 1000 + q, VBLK_SECTOR);
        }
        g_assert_true(base_reads(&vtd));
        check_data(&vtd, WINDOW, false, 10 * i + 5);
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_request_submit(r[q]);
        }
        for (unsigned q = 0; q < QUEUES; q++) {
            g_assert_cmphex(vblk_request_wait(r[q]), ==, VIRTIO_BLK_S_OK);
            vblk_read_check(r[q], i);
            vblk_request_free(r[q]);
        }
        translate(&vtd, false);
    }
    vblk_disk_stop(&vtd.disk);
}

static void test_switch(const VblkVariant *v)
{
    check_switch(v, BIT_ULL(VIRTIO_RING_F_EVENT_IDX));
}

static void test_switch_packed(const VblkVariant *v)
{
    check_switch(v, BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |
                 BIT_ULL(VIRTIO_F_RING_PACKED));
}

static VblkRequest *read_to_odd_page(Vtd *vtd, unsigned queue, size_t len)
{
    VblkRequest *r = vblk_read_new(vtd->disk.d->queues[queue], 0, len);

    add(r, WINDOW, ODD_PAGE, false);
    return r;
}

/* After an address is mapped elsewhere, the old page is not used any more. */
static void test_remap(const VblkVariant *v)
{
    Vtd vtd = setup(v, PROPS ",iothread=io0");
    QTestState *qts = vtd.disk.m->qts;

    translate(&vtd, true);
    vblk_device_start(vtd.disk.d, 0, VBLK_ALL_QUEUES);
    vblk_write(vtd.disk.d->queues[0], 0, 4096, 42);
    for (unsigned i = 0; i < 2 * QUEUES; i++) {
        uint64_t page = i & 1 ? PAGE_B : PAGE_A, other = PAGE_A + PAGE_B - page;
        uint8_t want[4096], got[4096];
        VblkRequest *r;

        map_page(&vtd, ODD_PAGE, page);
        invalidate(&vtd);
        qtest_memset(qts, PAGE_A, 0, sizeof(got));
        qtest_memset(qts, PAGE_B, 0, sizeof(got));
        r = read_to_odd_page(&vtd, i % QUEUES, sizeof(got));
        vblk_request_finish(r);

        vblk_pattern(want, sizeof(want), 42);
        qtest_memread(qts, page, got, sizeof(got));
        g_assert_cmpmem(got, sizeof(got), want, sizeof(want));
        memset(want, 0, sizeof(want));
        qtest_memread(qts, other, got, sizeof(got));
        g_assert_cmpmem(got, sizeof(got), want, sizeof(want));
    }
    vblk_disk_stop(&vtd.disk);
}

/*
 * An address that nothing is mapped at stops the device until its reset.
 *
 * QEMU takes it for MMIO and would bounce one page of data, which is then lost
 * where there is nothing; so there are some more.
 */
static void test_unmapped(const VblkVariant *v, const char *props)
{
    Vtd vtd = setup(v, props);
    VblkDevice *d = vtd.disk.d;

    translate(&vtd, true);
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkRequest *r;

        vblk_device_start(d, 0, VBLK_ALL_QUEUES);
        map_page(&vtd, ODD_PAGE, PAGE_A);
        invalidate(&vtd);
        vblk_request_finish(read_to_odd_page(&vtd, q, 4 * 4096));

        unmap_page(&vtd, ODD_PAGE);
        invalidate(&vtd);
        r = read_to_odd_page(&vtd, q, 4 * 4096);
        g_assert_cmphex(vblk_request_outcome(r), ==, VBLK_BROKEN);
        vblk_device_start(d, 0, VBLK_ALL_QUEUES);
        check_data(&vtd, WINDOW, false, q);
    }
    vblk_disk_stop(&vtd.disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("vtd/data", test_data, PROPS, VBLK_Q35_MODERN);
    vblk_test_add_with("vtd/data-iothread", test_data,
                       PROPS ",iothread=io0", VBLK_Q35_MODERN);
    vblk_test_add("vtd/switch", test_switch, VBLK_Q35_MODERN);
    vblk_test_add("vtd/switch-packed", test_switch_packed, VBLK_Q35_MODERN);
    vblk_test_add("vtd/remap", test_remap, VBLK_Q35_MODERN);
    vblk_test_add_with("vtd/unmapped", test_unmapped, PROPS, VBLK_Q35_MODERN);
    vblk_test_add_with("vtd/unmapped-iothread", test_unmapped,
                       PROPS ",iothread=io0", VBLK_Q35_MODERN);
    return g_test_run();
}
