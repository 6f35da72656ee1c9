/*
 * Requests that need a region of a node for themselves, one by one
 *
 * When a guest writes sectors of 512 bytes to a disk with larger blocks, the
 * block layer reads a block, changes a sector and writes the block back.  No
 * other request may change the block meanwhile.  The cases stop a request at a
 * known step, and look at what other requests do.  All run in one thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "settle.h"
#include "stepped-disk.h"

typedef enum Kind {
    KIND_WRITE,
    KIND_ZERO,
    KIND_READ,
    KIND_GROW,
} Kind;

typedef struct Request {
    BlockBackend *blk;
    Kind kind;
    int64_t offset;
    int64_t bytes;
    BdrvRequestFlags flags;
    uint64_t value;
    int ret;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *req = opaque;
    g_autofree uint64_t *buf = g_malloc(req->bytes);

    for (int64_t i = 0; i < req->bytes / sizeof(*buf); i++) {
        buf[i] = req->value;
    }
    switch (req->kind) {
    case KIND_WRITE:
        req->ret = blk_co_pwrite(req->blk, req->offset, req->bytes, buf,
                                 req->flags);
        break;
    case KIND_ZERO:
        req->ret = blk_co_pwrite_zeroes(req->blk, req->offset, req->bytes,
                                        req->flags);
        break;
    case KIND_READ:
        req->ret = blk_co_pread(req->blk, req->offset, req->bytes, buf,
                                req->flags);
        break;
    case KIND_GROW:
        req->ret = blk_co_truncate(req->blk, req->offset + req->bytes, false,
                                   PREALLOC_MODE_OFF, 0, &error_abort);
        break;
    }
}

static void request_start(Request *req, BlockBackend *blk)
{
    req->blk = blk;
    req->ret = -EINPROGRESS;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(request_entry, req));
    settle();
}

static uint64_t disk_value(int64_t offset)
{
    return disk->words[offset / sizeof(uint64_t)];
}

/*
 * A read-modify-write that has its block does not wait again, for a request
 * that has come meanwhile and would pass it by.
 */
static void test_holder(void)
{
    BlockBackend *blk = disk_open(DISK_BYTES);
    Request writer = { .bytes = SECTOR, .value = 1 };
    Request newcomer = { .kind = KIND_READ, .bytes = BLOCK,
                         .flags = BDRV_REQ_COPY_ON_READ };
    Request waiter = { .offset = SECTOR, .bytes = SECTOR, .value = 2 };

    disk->gate_closed[STEP_READ] = true;
    request_start(&writer, blk);
    g_assert(disk->waiting[STEP_READ]);

    /* The request is in the list, and has not looked at the others yet. */
    disk->gate_closed[STEP_INFO] = true;
    request_start(&newcomer, blk);
    g_assert(disk->waiting[STEP_INFO]);
    request_start(&waiter, blk);
    g_assert_cmpint(disk->steps[STEP_READ], ==, 1);

    disk_gate_open(STEP_READ);
    settle();
    g_assert_cmpint(writer.ret, ==, 0);
    g_assert_cmpint(newcomer.ret, ==, -EINPROGRESS);

    disk_gate_open(STEP_INFO);
    settle();
    g_assert_cmpint(newcomer.ret, ==, 0);
    g_assert_cmpint(waiter.ret, ==, 0);
    g_assert_cmphex(disk_value(0), ==, 1);
    g_assert_cmphex(disk_value(SECTOR), ==, 2);
    disk_close(blk);
}

/* A request takes all that it needs before it reads: here, its cluster. */
static void do_test_flag(Kind kind)
{
    BlockBackend *blk = disk_open(DISK_BYTES);
    Request other = { .offset = CLUSTER + BLOCK, .bytes = BLOCK, .value = 1 };
    Request writer = { .kind = kind, .offset = CLUSTER + 2 * BLOCK + SECTOR,
                       .bytes = SECTOR, .value = 0,
                       .flags = BDRV_REQ_SERIALISING };
    Request late = { .offset = CLUSTER + 2 * BLOCK, .bytes = SECTOR,
                     .value = 3 };

    memset(disk->words, 0xff, sizeof(disk->words));
    disk->gate_closed[STEP_WRITE] = true;
    request_start(&other, blk);
    request_start(&writer, blk);
    g_assert(disk->waiting[STEP_WRITE]);
    g_assert_cmpint(disk->steps[STEP_READ], ==, 0);
    request_start(&late, blk);

    disk_gate_open(STEP_WRITE);
    settle();
    g_assert_cmpint(other.ret, ==, 0);
    g_assert_cmpint(writer.ret, ==, 0);
    g_assert_cmpint(late.ret, ==, 0);
    g_assert_cmphex(disk_value(CLUSTER + BLOCK), ==, 1);
    g_assert_cmphex(disk_value(CLUSTER + 2 * BLOCK), ==, 3);
    g_assert_cmphex(disk_value(CLUSTER + 2 * BLOCK + SECTOR), ==, 0);
    g_assert_cmphex(disk_value(CLUSTER + 2 * BLOCK + 2 * SECTOR), ==, -1);
    disk_close(blk);
}

static void test_flag(void)
{
    do_test_flag(KIND_WRITE);
    do_test_flag(KIND_ZERO);
}

/*
 * Zeroes are written past the end.  The driver wants to write the rest of the
 * disk too, but another request is there.
 */
static void test_extend(void)
{
    BlockBackend *blk = disk_open(CLUSTER);
    Request other = { .offset = 8 * CLUSTER, .bytes = BLOCK, .value = 1 };
    Request zeroes = { .kind = KIND_ZERO, .offset = CLUSTER + SECTOR,
                       .bytes = 3 * BLOCK };
    Request late = { .offset = CLUSTER + 3 * BLOCK + SECTOR, .bytes = SECTOR,
                     .value = 3 };

    memset(disk->words, 0xff, sizeof(disk->words));
    disk->gate_closed[STEP_WRITE] = true;
    request_start(&other, blk);
    request_start(&zeroes, blk);
    request_start(&late, blk);
    g_assert_cmpint(other.ret, ==, -EINPROGRESS);
    g_assert_cmpint(zeroes.ret, ==, 0);
    g_assert_cmpint(disk->steps[STEP_ZERO], ==, 0);

    disk_gate_open(STEP_WRITE);
    settle();
    g_assert_cmpint(late.ret, ==, 0);
    g_assert_cmphex(disk_value(CLUSTER + SECTOR), ==, 0);
    g_assert_cmphex(disk_value(CLUSTER + 3 * BLOCK), ==, 0);
    g_assert_cmphex(disk_value(CLUSTER + 3 * BLOCK + SECTOR), ==, 3);
    g_assert_cmphex(disk_value(8 * CLUSTER), ==, 1);

    /* Without another request the driver gets it. */
    zeroes.offset += 9 * CLUSTER;
    request_start(&zeroes, blk);
    g_assert_cmpint(zeroes.ret, ==, 0);
    g_assert_cmpint(disk->steps[STEP_ZERO], ==, 1);
    disk_close(blk);
}

/* A request that grows a disk clears the new part before others write there. */
static void test_grow(void)
{
    BlockBackend *blk = disk_open(CLUSTER);
    Request grow = { .kind = KIND_GROW, .offset = CLUSTER, .bytes = CLUSTER };
    Request block = { .offset = CLUSTER, .bytes = BLOCK, .value = 1 };
    Request sector = { .offset = CLUSTER + BLOCK, .bytes = SECTOR, .value = 2 };
    Request below = { .offset = 0, .bytes = BLOCK, .value = 3 };

    disk->gate_closed[STEP_ZERO] = true;
    request_start(&grow, blk);
    request_start(&block, blk);
    request_start(&sector, blk);
    request_start(&below, blk);
    g_assert_cmpint(below.ret, ==, 0);
    g_assert_cmpint(disk->steps[STEP_WRITE], ==, 1);

    disk_gate_open(STEP_ZERO);
    settle();
    g_assert_cmpint(grow.ret, ==, 0);
    g_assert_cmpint(block.ret, ==, 0);
    g_assert_cmpint(sector.ret, ==, 0);
    g_assert_cmphex(disk_value(CLUSTER), ==, 1);
    g_assert_cmphex(disk_value(CLUSTER + BLOCK), ==, 2);
    disk_close(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/serialising/holder", test_holder);
    g_test_add_func("/serialising/flag", test_flag);
    g_test_add_func("/serialising/extend", test_extend);
    g_test_add_func("/serialising/grow", test_grow);
    return g_test_run();
}
