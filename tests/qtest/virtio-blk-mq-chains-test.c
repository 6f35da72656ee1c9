/*
 * Malformed chains of descriptors, and such with memory that is not RAM
 *
 * The ring is in order, what hangs on it is not.  A device may answer with a
 * status, or declare itself broken and wait for a reset; after that every
 * queue has to work.  Which of the two is told for each case; where a driver
 * merely does what it should not, both are right.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 3
#define IMAGE_SIZE (1024 * 1024)
#define PROPS "num-queues=3,packed=on"

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

/* The HPET's registers: capabilities, and timer 2 */
#define HPET 0xfed00000ull
#define HPET_TIMER2 (HPET + 0x140)

/* An address at which neither machine has anything */
#define UNMAPPED 0x7fff00000000ull
/* The local APIC and the firmware's ROM */
#define MMIO 0xfee00000ull
#define ROM 0xffff0000ull

/* Right answers */
enum {
    STATUS = 1,     /* any status, or used with the status byte elsewhere */
    BROKEN = 2,
    EITHER = STATUS | BROKEN,
};

#define HEADER { AT_HEADER, 16, false }
#define DONE { AT_STATUS, 1, true }

/* Addresses that stand for parts of the request */
enum { AT_HEADER = 1, AT_DATA, AT_STATUS };

typedef struct Chain {
    const char *name;
    uint32_t type;
    unsigned num;
    VblkSegment segs[5];
    unsigned answer;
} Chain;

static const Chain chains[] = {
    { "status alone", VIRTIO_BLK_T_IN, 1, { DONE }, BROKEN },
    { "header alone", VIRTIO_BLK_T_IN, 1, { HEADER }, BROKEN },
    { "short header", VIRTIO_BLK_T_IN, 2,
      { { AT_HEADER, 15, false }, DONE }, EITHER },
    { "short header in two", VIRTIO_BLK_T_IN, 3,
      { { AT_HEADER, 8, false }, { AT_HEADER, 4, false }, DONE }, EITHER },
    { "empty header", VIRTIO_BLK_T_IN, 2,
      { { AT_HEADER, 0, false }, DONE }, EITHER },
    { "empty data", VIRTIO_BLK_T_IN, 3,
      { HEADER, { AT_DATA, 0, true }, DONE }, EITHER },
    { "empty status", VIRTIO_BLK_T_IN, 3,
      { HEADER, { AT_DATA, 512, true }, { AT_STATUS, 0, true } }, EITHER },
    { "status before header", VIRTIO_BLK_T_IN, 2, { DONE, HEADER }, BROKEN },
    { "data between", VIRTIO_BLK_T_OUT, 4,
      { HEADER, { AT_DATA, 512, true }, { AT_DATA, 512, false }, DONE },
      BROKEN },
    { "read into what is not writable", VIRTIO_BLK_T_IN, 3,
      { HEADER, { AT_DATA, 512, false }, DONE }, EITHER },
    { "write what is writable", VIRTIO_BLK_T_OUT, 3,
      { HEADER, { AT_DATA, 512, true }, DONE }, EITHER },
    { "short discard", VIRTIO_BLK_T_DISCARD, 3,
      { HEADER, { AT_DATA, 8, false }, DONE }, EITHER },
    { "short write zeroes", VIRTIO_BLK_T_WRITE_ZEROES, 2,
      { HEADER, DONE }, EITHER },
    { "short zone report", VIRTIO_BLK_T_ZONE_REPORT, 3,
      { HEADER, { AT_DATA, 8, true }, DONE }, EITHER },
    { "id of no length", VIRTIO_BLK_T_GET_ID, 2, { HEADER, DONE }, STATUS },
    { "unmapped header", VIRTIO_BLK_T_IN, 2,
      { { UNMAPPED, 16, false }, DONE }, EITHER },
    { "unmapped data", VIRTIO_BLK_T_IN, 3,
      { HEADER, { UNMAPPED, 512, true }, DONE }, EITHER },
    { "unmapped data, large", VIRTIO_BLK_T_OUT, 3,
      { HEADER, { UNMAPPED, 65536, false }, DONE }, EITHER },
    { "unmapped status", VIRTIO_BLK_T_IN, 2,
      { HEADER, { UNMAPPED, 1, true } }, EITHER },
    { "data in MMIO", VIRTIO_BLK_T_IN, 3,
      { HEADER, { MMIO, 512, true }, DONE }, EITHER },
    { "data from MMIO", VIRTIO_BLK_T_OUT, 3,
      { HEADER, { MMIO, 512, false }, DONE }, EITHER },
    { "data in ROM", VIRTIO_BLK_T_IN, 3,
      { HEADER, { ROM, 4096, true }, DONE }, EITHER },
    { "header and status in MMIO", VIRTIO_BLK_T_IN, 2,
      { { MMIO, 16, false }, { MMIO + 64, 1, true } }, EITHER },
    { "data beyond all addresses", VIRTIO_BLK_T_IN, 3,
      { HEADER, { UINT64_MAX - 99, 512, true }, DONE }, EITHER },
    { "4 GiB of data", VIRTIO_BLK_T_IN, 3,
      { HEADER, { AT_DATA, 0xfffffe00, true }, DONE }, EITHER },
    { "more than 4 GiB of data", VIRTIO_BLK_T_OUT, 4,
      { HEADER, { AT_DATA, 0x80000000, false }, { AT_DATA, 0x80000200, false },
        DONE }, EITHER },
};

/* A chain's request lies in a page of its own, header first. */
static uint64_t resolve(const VblkRequest *r, uint64_t addr)
{
    switch (addr) {
    case AT_HEADER:
        return r->header;
    case AT_DATA:
        return r->data;
    case AT_STATUS:
        return r->status;
    default:
        return addr;
    }
}

static void check_answer(VblkRequest *r, unsigned right)
{
    /* A legacy device has no way to say that it is broken. */
    if (r->queue->dev->modern) {
        unsigned answer = vblk_request_outcome(r);

        g_assert_cmphex(right & (answer == VBLK_BROKEN ? BROKEN : STATUS), !=,
                        0);
    }
}

static void check_works(VblkDevice *d)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        vblk_write(d->queues[q], 8 * q, 4096, q + 1);
        vblk_read(d->queues[(q + 1) % QUEUES], 8 * q, 4096, q + 1);
    }
}

static void check_chain(VblkDisk *disk, const VblkRing *ring, unsigned n)
{
    const Chain *chain = &chains[n];
    VblkQueue *q = disk->d->queues[n % QUEUES];
    VblkRequest *r = vblk_request_new(q, chain->type, 0, 65536);
    VblkSegment segs[ARRAY_SIZE(chain->segs)];

    g_test_message("%s", chain->name);
    for (unsigned i = 0; i < chain->num; i++) {
        segs[i] = chain->segs[i];
        segs[i].addr = resolve(r, segs[i].addr);
    }
    vblk_request_add_segs(r, segs, chain->num, ring->indirect);
    vblk_queue_kick(q);
    check_answer(r, chain->answer);
    vblk_device_start(disk->d, ring->features, VBLK_ALL_QUEUES);
    check_works(disk->d);
}

static void check_chains(VblkDisk *disk, const VblkRing *ring)
{
    for (unsigned i = 0; i < ARRAY_SIZE(chains); i++) {
        check_chain(disk, ring, i);
    }
}

static void test_chains(const VblkVariant *v, const char *options)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, options, check_chains);
}

/**
 * Table: a bad indirect table.
 * @len: of the table in bytes, as the ring's descriptor has it
 * @flags: of the ring's descriptor, besides INDIRECT
 * @entry: flags of the table's first descriptor, besides NEXT
 * @next: where the table's first descriptor leads
 * @addr: of the table, if not in the request's data
 */
typedef struct Table {
    const char *name;
    uint32_t len;
    uint16_t flags, entry, next;
    uint64_t addr;
    unsigned answer;
} Table;

static const Table tables[] = {
    { "odd length", 40, 0, 0, 1, 0, BROKEN },
    { "no length", 0, 0, 0, 1, 0, BROKEN },
    { "less than a descriptor", 8, 0, 0, 1, 0, BROKEN },
    { "loop of one", 48, 0, 0, 0, 0, BROKEN },
    { "next beyond the table", 48, 0, 0, 3, 0, BROKEN },
    { "next far beyond the table", 48, 0, 0, 0xffff, 0, BROKEN },
    { "indirect inside indirect", 48, 0, I, 1, 0, EITHER },
    { "indirect and next", 48, N, 0, 1, 0, EITHER },
    { "writable table", 48, W, 0, 1, 0, EITHER },
    { "unmapped table", 48, 0, 0, 1, UNMAPPED, BROKEN },
    { "table in MMIO", 48, 0, 0, 1, MMIO, EITHER },
    { "huge table", 0xfffffff0, 0, 0, 1, 0, EITHER },
};

static void check_table(VblkDisk *disk, unsigned n)
{
    const Table *t = &tables[n];
    VblkQueue *q = disk->d->queues[n % QUEUES];
    VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_IN, 0, 4096);
    uint64_t table = r->data + 1024;

    g_test_message("%s", t->name);
    vblk_split_write(disk->d, table, 0, r->header, 16, N | t->entry, t->next);
    vblk_split_write(disk->d, table, 1, r->data, 512, N | W, 2);
    vblk_split_write(disk->d, table, 2, r->status, 1, W, 0);
    vblk_split_write(disk->d, q->desc, 0, t->addr ?: table, t->len,
                     I | t->flags, 1);
    vblk_split_write(disk->d, q->desc, 1, r->status, 1, W, 0);
    g_assert_cmpuint(vblk_split_claim(q, r), ==, 0);
    vblk_split_offer(q, 0);
    vblk_device_notify(disk->d, q->index);
    check_answer(r, t->answer);
    vblk_device_start(disk->d, BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    check_works(disk->d);
}

static void test_tables(const VblkVariant *v, const char *props)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, props);

    vblk_device_start(disk.d, BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        check_table(&disk, i);
    }
    vblk_disk_stop(&disk);
}

/*
 * The header in the ring, what follows in a table: "zero or more normal chained
 * descriptors followed by a single descriptor" with INDIRECT (2.7.5.3.2), of
 * which the device ignores WRITE.
 */
static void check_mixed(VblkDevice *d, VblkQueue *q, uint16_t flags)
{
    VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_IN, q->index * 8, 4096);
    uint64_t table = guest_alloc(&d->machine->alloc, 2 * 16);
    unsigned head = vblk_split_claim(q, r), tail = vblk_split_claim(q, NULL);

    q->chain[head] = tail;
    vblk_split_write(d, table, 0, r->data, r->len, N | W, 1);
    vblk_split_write(d, table, 1, r->status, 1, W, 0);
    vblk_split_write(d, q->desc, head, r->header, 16, N, tail);
    vblk_split_write(d, q->desc, tail, table, 2 * 16, I | flags, 0);
    vblk_split_offer(q, head);
    vblk_device_notify(d, q->index);
    g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(r->written, ==, 4096 + 1);
    vblk_read_check(r, q->index + 1);
    vblk_request_free(r);
    guest_free(&d->machine->alloc, table);
}

static void test_mixed(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");

    vblk_device_start(disk.d, BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    check_works(disk.d);
    for (unsigned q = 0; q < QUEUES; q++) {
        check_mixed(disk.d, disk.d->queues[q], 0);
        check_mixed(disk.d, disk.d->queues[q], W);
    }
    check_works(disk.d);
    vblk_disk_stop(&disk);
}

/* Send as many segments as a device takes, and more than any device takes. */
static void check_many(VblkDisk *disk, const VblkRing *ring)
{
    static const struct {
        unsigned segs, right;
    } many[] = { { 250, STATUS }, { 1030, EITHER }, { 4000, EITHER } };
    g_autofree VblkSegment *segs = g_new(VblkSegment, 4000);

    for (unsigned n = 0; ring->indirect && n < ARRAY_SIZE(many); n++) {
        VblkQueue *q = disk->d->queues[n];
        VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_IN, 0, 4096);
        unsigned num = many[n].segs;

        segs[0] = (VblkSegment) { r->header, 16, false };
        for (unsigned i = 1; i < num - 1; i++) {
            segs[i] = (VblkSegment) { r->data + i % 8 * 512, 512, true };
        }
        segs[num - 1] = (VblkSegment) { r->status, 1, true };
        vblk_request_add_segs(r, segs, num, true);
        vblk_queue_kick(q);
        check_answer(r, many[n].right);
        vblk_device_start(disk->d, ring->features, VBLK_ALL_QUEUES);
        check_works(disk->d);
    }
}

static void test_many(const VblkVariant *v)
{
    vblk_disk_run_rings(v, IMAGE_SIZE, PROPS ",iothread=io0", check_many);
}

/* Sector 1 gets what the HPET can do, its timer 2 a time from sector 2. */
static void mmio_transfer(VblkDisk *disk, VblkQueue *q)
{
    QTestState *qts = disk->m->qts;
    uint64_t sector[VBLK_SECTOR / 8] = { 0, cpu_to_le64(0x12345678) };
    VblkRequest *r = vblk_request_new(q, VIRTIO_BLK_T_OUT, 1, 0);

    vblk_request_submit_at(r, 16, HPET);
    /* This drains the disk, while the device may be using the HPET. */
    vblk_disk_resize(disk, IMAGE_SIZE);
    vblk_request_finish(r);
    g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_OUT, 2, sector,
                                     VBLK_SECTOR), ==, VIRTIO_BLK_S_OK);
    r = vblk_request_new(q, VIRTIO_BLK_T_IN, 2, 0);
    vblk_request_submit_at(r, 16, HPET_TIMER2);
    vblk_request_finish(r);
    g_assert_cmphex(qtest_readl(qts, HPET_TIMER2 + 8), ==, 0x12345678);
    qtest_writel(qts, HPET_TIMER2 + 8, 0);

    g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_IN, 1, sector,
                                     VBLK_SECTOR), ==, VIRTIO_BLK_S_OK);
    g_assert_cmphex(le64_to_cpu(sector[0]), ==, qtest_readq(qts, HPET));
}

/* Only the main loop may use MMIO, so it serves the queue until a reset. */
static void test_mmio(const VblkVariant *v)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, PROPS ",iothread=io0");

    for (unsigned round = 0; round < 20; round++) {
        unsigned queue = round % QUEUES;

        vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_disk_check_home(&disk, q, "io0");
        }
        mmio_transfer(&disk, disk.d->queues[queue]);
        for (unsigned q = 0; q < QUEUES; q++) {
            vblk_disk_check_home(&disk, q, q == queue ? NULL : "io0");
        }
        check_works(disk.d);
    }

    /* A move has to wait for the reset. */
    vblk_disk_move(&disk, 1, "io1");
    vblk_disk_check_home(&disk, 1, NULL);
    check_works(disk.d);
    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    vblk_disk_check_home(&disk, 1, "io1");
    check_works(disk.d);
    vblk_disk_stop(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("chains/chains", test_chains, PROPS, VBLK_BOTH);
    vblk_test_add_with("chains/chains-iothread", test_chains,
                       PROPS ",iothread=io0", VBLK_BOTH);
    vblk_test_add_with("chains/tables", test_tables, PROPS, VBLK_BOTH);
    vblk_test_add_with("chains/tables-iothread", test_tables,
                       PROPS ",iothread=io0", VBLK_BOTH);
    vblk_test_add("chains/mixed", test_mixed, VBLK_BOTH);
    vblk_test_add("chains/mmio", test_mmio, VBLK_BOTH);
    vblk_test_add("chains/many", test_many, VBLK_BOTH);
    return g_test_run();
}
