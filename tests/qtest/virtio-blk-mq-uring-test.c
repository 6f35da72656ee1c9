/*
 * Data through io_uring, in each kind of thread
 *
 *     queue --- main loop            --- io_uring, shared with vCPU threads
 *     queue --- IOThread that sleeps --- io_uring of one thread
 *     queue --- IOThread that polls  --- the same, watched without system calls
 *
 * Requests of one buffer and of several are different operations for the host,
 * and one that crosses the end of the file is read in two goes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define SECTORS     2048        /* and a piece of one more */
#define REST        100
#define LENGTH      4096
#define MANY        200         /* io_uring's own ring has 128 */

static bool host_has_io_uring(void)
{
    return syscall(__NR_io_uring_setup, 0, NULL) < 0 && errno != ENOSYS &&
           errno != EPERM;
}

/* Put @r on its queue with its data in @pieces of equal length. */
static void add_in_pieces(VblkRequest *r, unsigned pieces)
{
    bool write = r->type == VIRTIO_BLK_T_OUT;
    size_t len = r->len / pieces;
    VblkSegment segs[10];

    g_assert_cmpuint(pieces + 2, <=, G_N_ELEMENTS(segs));
    segs[0] = (VblkSegment) { r->header, 16, false };
    for (unsigned i = 0; i < pieces; i++) {
        segs[1 + i] = (VblkSegment) { r->data + i * len, len, !write };
    }
    segs[1 + pieces] = (VblkSegment) { r->status, 1, true };
    vblk_request_add_segs(r, segs, pieces + 2, true);
}

static void submit_in_pieces(VblkRequest *r, unsigned pieces)
{
    add_in_pieces(r, pieces);
    vblk_queue_kick(r->queue);
}

/* Write data in @written pieces, and read it in @read pieces. */
static void check_pieces(VblkQueue *q, unsigned written, unsigned read)
{
    uint32_t seed = written * 16 + read;
    VblkRequest *r = vblk_write_new(q, seed, LENGTH, seed);

    submit_in_pieces(r, written);
    vblk_request_finish(r);
    r = vblk_read_new(q, seed, LENGTH);
    submit_in_pieces(r, read);
    g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
    vblk_read_check(r, seed);
    vblk_request_free(r);
}

/* More at once than the host's ring takes, of both kinds. */
static void check_many(VblkQueue *q)
{
    VblkRequest *r[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        r[i] = vblk_write_new(q, i * 8, LENGTH, i);
        add_in_pieces(r[i], 1 + i % 2);
    }
    vblk_queue_kick(q);
    for (unsigned i = 0; i < MANY; i++) {
        vblk_request_finish(r[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        vblk_read(q, i * 8, LENGTH, i);
    }
}

/*
 * The node ends with a whole sector, the file within it.  What is beyond the
 * file is zero, whatever was in the buffer.
 */
static void check_end(VblkDisk *disk, VblkQueue *q, unsigned pieces)
{
    uint8_t want[LENGTH] = {}, got[LENGTH];
    size_t there = LENGTH - VBLK_SECTOR + REST;
    uint64_t sector = SECTORS + 1 - LENGTH / VBLK_SECTOR;
    VblkRequest *r = vblk_read_new(q, sector, LENGTH);
    int fd = open(disk->image, O_WRONLY);

    g_assert_cmpint(fd, >=, 0);
    vblk_pattern(want, there, 4711);
    g_assert_cmpint(pwrite(fd, want, there, sector * VBLK_SECTOR), ==, there);
    close(fd);

    memset(got, 0xee, sizeof(got));
    qtest_memwrite(disk->m->qts, r->data, got, sizeof(got));
    submit_in_pieces(r, pieces);
    g_assert_cmphex(vblk_request_wait(r), ==, VIRTIO_BLK_S_OK);
    qtest_memread(disk->m->qts, r->data, got, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), want, sizeof(want));
    vblk_request_free(r);
}

static void check(const VblkVariant *v, const char *props, unsigned poll_ns)
{
    g_autofree char *all = g_strdup_printf("num-queues=2,%s",
                                           props);
    VblkDisk disk;

    if (!host_has_io_uring()) {
        g_test_skip("this host does not let programs use io_uring");
        return;
    }
    disk = vblk_disk_start(v, SECTORS * VBLK_SECTOR + REST, "file.aio=io_uring",
                           all);
    qtest_qmp_assert_success(disk.m->qts, "{'execute': 'qom-set',"
                             " 'arguments': {'path': '/objects/io0',"
                             " 'property': 'poll-max-ns', 'value': %u}}",
                             poll_ns);
    vblk_device_start(disk.d, BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
                      VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < disk.d->max_queues; i++) {
        VblkQueue *q = disk.d->queues[i];

        check_end(&disk, q, 1);
        check_end(&disk, q, 4);
        check_pieces(q, 1, 1);
        check_pieces(q, 1, 4);
        check_pieces(q, 8, 1);
        check_pieces(q, 2, 8);
        check_many(q);
        vblk_request_run(q, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
    }
    vblk_disk_stop(&disk);
}

static void test_main_loop(const VblkVariant *v)
{
    check(v, "write-cache=on", 0);
}

static void test_vcpu(const VblkVariant *v)
{
    check(v, "ioeventfd=off", 0);
}

static void test_sleeping(const VblkVariant *v)
{
    check(v, "iothread=io0", 0);
}

static void test_polling(const VblkVariant *v)
{
    check(v, "iothread=io0", 100 * 1000 * 1000);
}

/* Each write has to reach the medium, so the host gets another flag. */
static void test_write_through(const VblkVariant *v)
{
    check(v, "iothread=io0,write-cache=off", 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("io_uring/main-loop", test_main_loop, VBLK_PC_MODERN);
    vblk_test_add("io_uring/vcpu", test_vcpu, VBLK_PC_MODERN);
    vblk_test_add("io_uring/sleeping", test_sleeping, VBLK_PC_MODERN);
    vblk_test_add("io_uring/polling", test_polling, VBLK_PC_MODERN);
    vblk_test_add("io_uring/write-through", test_write_through, VBLK_PC_MODERN);
    return g_test_run();
}
