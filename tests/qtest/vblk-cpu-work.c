/*
 * Queues that a CPU drives by itself
 *
 *     table in the CPU's page:  for each queue its rings, bell and vector
 *     ring:                     chains 0 ... BATCH - 1, offered over and over
 *     chain:                    header, data (a pattern of its own), status
 *
 * The rings are in memory that real mode reaches.  Requests may be anywhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_ring.h"
#include "vblk-cpu.h"

#define RING_SIZE 16
#define BATCH 4
#define CHAIN 3
#define DATA_SIZE 4096

/* Real mode's segments begin at multiples of 16. */
#define ALIGNMENT 64
#define LOW_END 0xa0000

/* One queue at work */
typedef struct Drive {
    unsigned cpu;
    unsigned queue;
    uint64_t avail, used;
    uint64_t status[BATCH];
} Drive;

static uint64_t low_alloc(VblkCpus *c, size_t size)
{
    uint64_t addr = QEMU_ALIGN_UP(c->low, ALIGNMENT);

    c->low = addr + size;
    g_assert_cmphex(c->low, <=, LOW_END);
    qtest_memset(c->disk.m->qts, addr, 0, size);
    return addr;
}

static uint32_t seed(const Drive *drive, unsigned i)
{
    return drive->queue * BATCH + i + 1;
}

static uint64_t sector(const Drive *drive, unsigned i)
{
    return (drive->queue * BATCH + i) * (DATA_SIZE / VBLK_SECTOR);
}

/* Chain @i, which starts at descriptor CHAIN * @i. */
static void put_chain(VblkCpus *c, Drive *drive, uint64_t desc, unsigned i)
{
    VblkDevice *d = c->disk.d;
    uint64_t header = guest_alloc(&c->disk.m->alloc, 16 + DATA_SIZE + 1);
    uint8_t out[16 + DATA_SIZE + 1] = {};

    stl_le_p(out, VIRTIO_BLK_T_OUT);
    stq_le_p(out + 8, sector(drive, i));
    vblk_pattern(out + 16, DATA_SIZE, seed(drive, i));
    out[16 + DATA_SIZE] = VBLK_STATUS_NONE;
    qtest_memwrite(d->qts, header, out, sizeof(out));
    drive->status[i] = header + 16 + DATA_SIZE;

    vblk_split_write(d, desc, CHAIN * i, header, 16, VRING_DESC_F_NEXT,
                     CHAIN * i + 1);
    vblk_split_write(d, desc, CHAIN * i + 1, header + 16, DATA_SIZE,
                     VRING_DESC_F_NEXT, CHAIN * i + 2);
    vblk_split_write(d, desc, CHAIN * i + 2, drive->status[i], 1,
                     VRING_DESC_F_WRITE, 0);
}

static unsigned entries(VblkCpus *c, unsigned cpu)
{
    return vblk_cpu_read(c, cpu, VBLK_PAGE_QUEUES);
}

static uint64_t entry_addr(unsigned cpu, unsigned i)
{
    return vblk_cpu_page(cpu) + VBLK_PAGE_TABLE + i * VBLK_DRIVE_SIZE;
}

static void add_entry(VblkCpus *c, unsigned cpu, const uint8_t *entry)
{
    unsigned i = entries(c, cpu);

    g_assert_cmpuint(i, <, VBLK_PAGE_TABLE_ENTRIES);
    qtest_memwrite(c->disk.m->qts, entry_addr(cpu, i), entry, VBLK_DRIVE_SIZE);
    vblk_cpu_write(c, cpu, VBLK_PAGE_QUEUES, i + 1);
}

void vblk_cpu_drive_queue(VblkCpus *c, unsigned cpu, unsigned queue,
                          unsigned vector)
{
    VblkDevice *d = c->disk.d;
    Drive *drive = g_new0(Drive, 1);
    uint64_t desc = low_alloc(c, RING_SIZE * sizeof(struct vring_desc));
    bool event = d->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    unsigned cpu_vector = vector == UINT_MAX ? VBLK_INTX_VECTOR
                                             : VBLK_CPU_VECTOR(vector);
    uint8_t entry[VBLK_DRIVE_SIZE] = {};

    g_ptr_array_add(c->drives, drive);
    drive->cpu = cpu;
    drive->queue = queue;
    drive->avail = low_alloc(c, 6 + 2 * RING_SIZE);
    drive->used = low_alloc(c, 6 + 8 * RING_SIZE);
    for (unsigned i = 0; i < BATCH; i++) {
        put_chain(c, drive, desc, i);
    }
    for (unsigned i = 0; i < RING_SIZE; i++) {
        qtest_writew(d->qts, drive->avail + 4 + 2 * i, CHAIN * (i % BATCH));
    }
    if (vector != UINT_MAX) {
        g_assert_cmpuint(vblk_device_set_queue_vector(d, queue, vector), ==,
                         vector);
    }
    vblk_device_enable_queue(d, queue, RING_SIZE, desc, drive->avail,
                             drive->used);

    stw_le_p(entry + VBLK_DRIVE_AVAIL, drive->avail >> 4);
    stw_le_p(entry + VBLK_DRIVE_USED, drive->used >> 4);
    vblk_cpus_put_bell(c, entry, queue);
    stw_le_p(entry + VBLK_DRIVE_COUNT, VBLK_PAGE_COUNTS + 4 * cpu_vector);
    stw_le_p(entry + VBLK_DRIVE_BATCH, BATCH);
    stw_le_p(entry + VBLK_DRIVE_USED_EVENT, event ? 4 + 2 * RING_SIZE : 0);
    stw_le_p(entry + VBLK_DRIVE_AVAIL_EVENT, 4 + 8 * RING_SIZE);
    add_entry(c, cpu, entry);
}

static void work_begin(VblkCpus *c, unsigned cpu, uint32_t op)
{
    vblk_cpu_write(c, cpu, VBLK_PAGE_STOP, 0);
    vblk_cpu_write(c, cpu, VBLK_PAGE_KICKS, 0);
    vblk_cpu_op_begin(c, cpu, op, 0, 0);
}

void vblk_cpu_drive_begin(VblkCpus *c, unsigned cpu)
{
    for (unsigned i = 0; i < entries(c, cpu); i++) {
        uint64_t entry = entry_addr(cpu, i);
        uint16_t offset = qtest_readw(c->disk.m->qts, entry + VBLK_DRIVE_COUNT);

        qtest_writew(c->disk.m->qts, entry + VBLK_DRIVE_SEEN,
                     vblk_cpu_read(c, cpu, offset));
    }
    work_begin(c, cpu, VBLK_OP_DRIVE);
}

static uint32_t entry_turns(VblkCpus *c, unsigned cpu, unsigned i)
{
    return qtest_readl(c->disk.m->qts, entry_addr(cpu, i) + VBLK_DRIVE_TURNS);
}

unsigned vblk_cpu_drive_turns(VblkCpus *c, unsigned cpu)
{
    unsigned turns = 0;

    for (unsigned i = 0; i < entries(c, cpu); i++) {
        turns += entry_turns(c, cpu, i);
    }
    return turns;
}

/* Before a test gives up, print which queue stands still, and its state. */
static void describe(VblkCpus *c, unsigned cpu)
{
    for (unsigned i = 0; i < entries(c, cpu); i++) {
        uint16_t w[VBLK_DRIVE_SIZE / 2];

        qtest_memread(c->disk.m->qts, entry_addr(cpu, i), w, sizeof(w));
        g_printerr("queue %u: %u batches, offered up to %u, used up to %u, "
                   "interrupts 0x%x, of which seen 0x%x\n",
                   w[VBLK_DRIVE_QUEUE / 2], entry_turns(c, cpu, i),
                   w[VBLK_DRIVE_INDEX / 2],
                   qtest_readw(c->disk.m->qts,
                               (w[VBLK_DRIVE_USED / 2] << 4) + 2),
                   vblk_cpu_read(c, cpu, w[VBLK_DRIVE_COUNT / 2]),
                   w[VBLK_DRIVE_SEEN / 2]);
    }
}

static void check_work(VblkCpus *c, unsigned cpu, gint64 start)
{
    g_assert_cmphex(vblk_cpu_read(c, cpu, VBLK_PAGE_FAULT), ==, 0);
    if (g_get_monotonic_time() - start > VBLK_DEADLINE_US) {
        describe(c, cpu);
        g_error("a queue does not go on");
    }
}

/* Continue a machine that has stopped for an error.  Return whether it had. */
static bool cont_after_error(VblkCpus *c)
{
    QDict *status;
    bool error;

    if (!c->config.blkdebug) {
        return false;
    }
    status = qtest_qmp_assert_success_ref(c->disk.m->qts,
                                          "{'execute': 'query-status'}");
    error = g_str_equal(qdict_get_str(status, "status"), "io-error");
    qobject_unref(status);
    if (error) {
        qtest_qmp_assert_success(c->disk.m->qts, "{'execute': 'cont'}");
    }
    return error;
}

unsigned vblk_cpu_drive_go_on(VblkCpus *c, unsigned cpu, unsigned turns)
{
    unsigned num = entries(c, cpu);
    g_autofree uint32_t *goals = g_new(uint32_t, num);
    gint64 start = g_get_monotonic_time();
    unsigned stops = 0;

    for (unsigned i = 0; i < num; i++) {
        goals[i] = entry_turns(c, cpu, i) + turns;
    }
    for (unsigned i = 0; i < num; i++) {
        while ((int32_t)(entry_turns(c, cpu, i) - goals[i]) < 0) {
            stops += cont_after_error(c);
            check_work(c, cpu, start);
        }
    }
    return stops;
}

/* All of it is on the disk, and nothing was used but what was offered. */
static void check_drive(VblkCpus *c, Drive *drive)
{
    QTestState *qts = c->disk.m->qts;
    g_autofree char *image = NULL;
    gsize len;

    g_assert_cmpuint(qtest_readw(qts, drive->used + 2), ==,
                     qtest_readw(qts, drive->avail + 2));
    g_assert(g_file_get_contents(c->disk.image, &image, &len, NULL));
    for (unsigned i = 0; i < BATCH; i++) {
        uint64_t offset = sector(drive, i) * VBLK_SECTOR;
        uint8_t data[DATA_SIZE];

        g_assert_cmphex(qtest_readb(qts, drive->status[i]), ==,
                        VIRTIO_BLK_S_OK);
        qtest_writeb(qts, drive->status[i], VBLK_STATUS_NONE);
        vblk_pattern(data, sizeof(data), seed(drive, i));
        g_assert_cmpuint(offset + DATA_SIZE, <=, len);
        g_assert_cmpmem(image + offset, DATA_SIZE, data, DATA_SIZE);
    }
}

void vblk_cpu_drive_end(VblkCpus *c, unsigned cpu)
{
    gint64 start = g_get_monotonic_time();

    vblk_cpu_write(c, cpu, VBLK_PAGE_STOP, 1);
    while (vblk_cpu_read(c, cpu, VBLK_PAGE_OP)) {
        check_work(c, cpu, start);
    }
    g_assert_cmpuint(vblk_cpu_read(c, cpu, VBLK_PAGE_KICKS), >, 0);
    for (unsigned i = 0; i < c->drives->len; i++) {
        Drive *drive = c->drives->pdata[i];

        if (drive->cpu == cpu) {
            check_drive(c, drive);
        }
    }
}

void vblk_cpu_drive_abandon(VblkCpus *c, unsigned cpu)
{
    vblk_cpu_write(c, cpu, VBLK_PAGE_STOP, 1);
    for (unsigned i = 0; i < entries(c, cpu); i++) {
        qtest_writew(c->disk.m->qts, entry_addr(cpu, i) + VBLK_DRIVE_IDLE, 1);
    }
    vblk_cpu_op_end(c, cpu);
    vblk_cpu_write(c, cpu, VBLK_PAGE_QUEUES, 0);
    for (unsigned i = c->drives->len; i-- > 0;) {
        if (((Drive *)c->drives->pdata[i])->cpu == cpu) {
            g_ptr_array_remove_index(c->drives, i);
        }
    }
}

void vblk_cpu_storm_begin(VblkCpus *c, unsigned cpu, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        uint8_t entry[VBLK_DRIVE_SIZE] = {};

        vblk_cpus_put_bell(c, entry, i);
        add_entry(c, cpu, entry);
    }
    work_begin(c, cpu, VBLK_OP_STORM);
}

void vblk_cpu_storm_go_on(VblkCpus *c, unsigned cpu, unsigned rounds)
{
    uint32_t begin = vblk_cpu_read(c, cpu, VBLK_PAGE_TURNS);
    gint64 start = g_get_monotonic_time();

    while (vblk_cpu_read(c, cpu, VBLK_PAGE_TURNS) - begin < rounds) {
        check_work(c, cpu, start);
    }
}

void vblk_cpu_storm_end(VblkCpus *c, unsigned cpu)
{
    vblk_cpu_write(c, cpu, VBLK_PAGE_STOP, 1);
    vblk_cpu_op_end(c, cpu);
    vblk_cpu_write(c, cpu, VBLK_PAGE_QUEUES, 0);
}
