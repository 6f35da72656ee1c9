/*
 * Reads that a driver makes for a request of its own node
 *
 *      BlockBackend -- upper -- upper -- lower
 *
 * An upper node reads with bdrv_co_preadv_below(), which gives a plain read to
 * the lower driver at once.  All other reads must end as those of
 * bdrv_co_preadv_part() do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "system/block-backend.h"
#include "settle.h"

#define BLOCK       4096
#define BLOCKS      16
#define LENGTH      (BLOCKS * BLOCK)
#define GUARD       0xee

/* The read that the upper node sends to the lower one */
typedef struct Ask {
    int64_t offset;
    int64_t bytes;
    BdrvRequestFlags flags;
    size_t qiov_offset;

    /* Size of the vector; 0 means that it has just room for the read */
    int64_t buffer;
} Ask;

typedef enum Medium {
    MEDIUM_FIXED,
    MEDIUM_REMOVABLE,
    MEDIUM_REMOVED,
    MEDIUM_SHRUNK,
} Medium;

typedef struct Lower {
    Medium medium;
    bool removed;
    unsigned max_transfer;
    int64_t length;

    int reads;
    int64_t bytes_read;
    int writes;

    /* Whether the last read was counted, and listed */
    bool counted;
    bool listed;

    /* The next read waits, until gate_open() */
    bool gate_closed;
    Coroutine *waiting;
} Lower;

static Lower lower;
static Ask ask;
static bool by_part;
static int answer;
static uint8_t data[2 * LENGTH];

/* --- The lower node --- */

static int coroutine_fn lower_co_preadv(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        BdrvRequestFlags flags)
{
    g_assert_cmphex(flags, ==, 0);
    g_assert(QEMU_IS_ALIGNED(offset | bytes, BLOCK));
    g_assert_cmpint(offset, >=, 0);
    g_assert_cmpint(offset + bytes, <=, lower.length);
    lower.reads++;
    lower.bytes_read += bytes;
    lower.counted = in_flight_count(&bs->in_flight) > 0;
    lower.listed = !tracked_requests_empty(&bs->tracked_requests);
    if (lower.gate_closed) {
        lower.gate_closed = false;
        lower.waiting = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
    for (int64_t i = 0; i < bytes; i += BLOCK) {
        qemu_iovec_memset(qiov, i, (offset + i) / BLOCK + 1, BLOCK);
    }
    return 0;
}

static int coroutine_fn lower_co_pwritev(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov,
                                         BdrvRequestFlags flags)
{
    lower.writes++;
    return 0;
}

static int64_t coroutine_fn lower_co_getlength(BlockDriverState *bs)
{
    return lower.length;
}

/* Say that nothing is allocated, so that each read that may copy does so. */
static int coroutine_fn lower_co_block_status(BlockDriverState *bs,
                                              BlockStatusWanted wanted,
                                              int64_t offset, int64_t bytes,
                                              int64_t *pnum, int64_t *map,
                                              BlockDriverState **file)
{
    *pnum = bytes;
    return 0;
}

static void lower_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.request_alignment = BLOCK;
    bs->bl.max_transfer = lower.max_transfer;
    bs->bl.has_variable_length = lower.medium == MEDIUM_SHRUNK;
}

static bool coroutine_fn lower_co_is_inserted(BlockDriverState *bs)
{
    return !lower.removed;
}

#define LOWER_DRIVER                                    \
    .supports_backing = true,                           \
    .bdrv_co_preadv = lower_co_preadv,                  \
    .bdrv_co_pwritev = lower_co_pwritev,                \
    .bdrv_co_getlength = lower_co_getlength,            \
    .bdrv_co_block_status = lower_co_block_status,      \
    .bdrv_refresh_limits = lower_refresh_limits

static BlockDriver bdrv_lower = {
    .format_name = "lower",
    LOWER_DRIVER,
};

static BlockDriver bdrv_lower_removable = {
    .format_name = "lower-removable",
    .bdrv_co_is_inserted = lower_co_is_inserted,
    LOWER_DRIVER,
};

/* --- The upper nodes --- */

static int coroutine_fn GRAPH_RDLOCK
upper_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    BdrvChild *child = QLIST_FIRST(&bs->children);
    struct iovec iov = {
        .iov_base = data,
        .iov_len = ask.buffer ?: sizeof(data),
    };
    QEMUIOVector local;

    if (QLIST_FIRST(&child->bs->children)) {
        return bdrv_co_preadv_below(child, offset, bytes, qiov, 0, flags);
    }
    /* After the BlockBackend has found it */
    lower.removed = lower.medium == MEDIUM_REMOVED;
    qemu_iovec_init_external(&local, &iov, 1);
    answer = by_part ?
        bdrv_co_preadv_part(child, ask.offset, ask.bytes, &local,
                            ask.qiov_offset, ask.flags) :
        bdrv_co_preadv_below(child, ask.offset, ask.bytes, &local,
                             ask.qiov_offset, ask.flags);
    return 0;
}

static int64_t coroutine_fn upper_co_getlength(BlockDriverState *bs)
{
    return LENGTH;
}

static void upper_child_perm(BlockDriverState *bs, BdrvChild *child,
                             BdrvChildRole role,
                             BlockReopenQueue *reopen_queue,
                             uint64_t perm, uint64_t shared,
                             uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm;
    *nshared = BLK_PERM_ALL;
}

static BlockDriver bdrv_upper = {
    .format_name = "upper",
    .bdrv_child_perm = upper_child_perm,
    .bdrv_co_preadv = upper_co_preadv,
    .bdrv_co_getlength = upper_co_getlength,
};

static BlockDriverState *upper_new(BlockDriverState *child)
{
    BlockDriverState *bs = bdrv_new_open_driver(&bdrv_upper, NULL, BDRV_O_RDWR,
                                                &error_abort);

    bs->total_sectors = LENGTH / BDRV_SECTOR_SIZE;
    bdrv_graph_wrlock();
    bdrv_attach_child(bs, child, "file", &child_of_bds, BDRV_CHILD_DATA,
                      &error_abort);
    bdrv_graph_wrunlock();
    return bs;
}

static BlockBackend *blk_of(BlockDriverState *bs)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL,
                                BLK_PERM_ALL);

    blk_insert_bs(blk, bs, &error_abort);
    return blk;
}

static BlockBackend *graph_new(Lower how, BlockDriverState **bottom)
{
    BlockDriverState *bs, *first, *second;
    BlockBackend *blk;

    lower = how;
    lower.length = lower.length ?: LENGTH;
    bs = bdrv_new_open_driver(how.medium == MEDIUM_REMOVABLE ||
                              how.medium == MEDIUM_REMOVED ?
                              &bdrv_lower_removable : &bdrv_lower,
                              NULL, BDRV_O_RDWR, &error_abort);
    bs->total_sectors = lower.length / BDRV_SECTOR_SIZE;
    if (how.medium == MEDIUM_SHRUNK) {
        lower.length -= 2 * BLOCK;
    }
    first = upper_new(bs);
    second = upper_new(first);
    blk = blk_of(second);
    bdrv_unref(second);
    *bottom = bs;
    return blk;
}

/* --- Requests --- */

typedef struct Request {
    BlockBackend *blk;
    bool write;
    BdrvRequestFlags flags;
    int ret;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *req = opaque;
    g_autofree uint8_t *buf = g_malloc0(BLOCK);

    req->ret = req->write ?
        blk_co_pwrite(req->blk, 0, BLOCK, buf, req->flags) :
        blk_co_pread(req->blk, 0, BLOCK, buf, req->flags);
}

static void request_start(Request *req)
{
    req->ret = -EINPROGRESS;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(request_entry, req));
    settle();
}

static void gate_open(void *opaque)
{
    aio_co_wake(g_steal_pointer(&lower.waiting));
}

/* --- Tests --- */

typedef struct Row {
    const char *name;
    Lower how;
    Ask ask;

    /* Whether the read goes to the driver at once */
    bool plain;
    int ret;
} Row;

static const Row rows[] = {
    { "plain", {}, { BLOCK, 2 * BLOCK }, true },
    { "slice", {}, { BLOCK, BLOCK, .qiov_offset = 100 }, true },
    { "last", {}, { LENGTH - BLOCK, BLOCK }, true },
    { "nothing", {}, { BLOCK, 0 }, true },
    { "shifted", {}, { 512, BLOCK } },
    { "head", {}, { BLOCK + 512, BLOCK - 512 } },
    { "tail", {}, { BLOCK, BLOCK + 512 } },
    { "across-end", {}, { LENGTH - BLOCK, 2 * BLOCK } },
    { "past-end", {}, { LENGTH, BLOCK } },
    { "transfer", { .max_transfer = 2 * BLOCK }, { 0, 2 * BLOCK }, true },
    { "transfers", { .max_transfer = 2 * BLOCK }, { 0, 5 * BLOCK } },
    { "negative-offset", {}, { -BLOCK, BLOCK }, .ret = -EIO },
    { "negative-bytes", {}, { BLOCK, -BLOCK }, .ret = -EIO },
    { "far", {}, { INT64_MAX - BLOCK + 1, BLOCK }, .ret = -EIO },
    { "small-vector", {}, { 0, BLOCK, .buffer = 512 }, .ret = -EIO },
    { "small-slice", {}, { 0, BLOCK, .buffer = BLOCK, .qiov_offset = 512 },
      .ret = -EIO },
    { "beyond-vector", {}, { 0, BLOCK, .buffer = 512, .qiov_offset = 4096 },
      .ret = -EIO },
    { "too-large", { .length = 4 * GiB },
      { 0, 2 * GiB, .buffer = 2 * GiB }, .ret = -EIO },
    { "copies", {}, { 0, BLOCK, BDRV_REQ_COPY_ON_READ } },
    { "removable", { MEDIUM_REMOVABLE }, { 0, BLOCK } },
    { "removed", { MEDIUM_REMOVED }, { 0, BLOCK }, .ret = -ENOMEDIUM },
    { "shrunk", { MEDIUM_SHRUNK }, { LENGTH - 3 * BLOCK, 2 * BLOCK } },
};

/* The read of @row in one of the two ways; returns what the driver saw. */
static Lower run(const Row *row, bool part, uint8_t *result)
{
    BlockDriverState *bs;
    BlockBackend *blk = graph_new(row->how, &bs);
    Request req = { .blk = blk };

    ask = row->ask;
    by_part = part;
    memset(data, GUARD, sizeof(data));
    request_start(&req);
    g_assert_cmpint(req.ret, ==, 0);
    g_assert_cmpint(answer, ==, row->ret);
    memcpy(result, data, sizeof(data));
    blk_unref(blk);
    return lower;
}

static void test_row(const void *opaque)
{
    const Row *row = opaque;
    g_autofree uint8_t *one = g_malloc(sizeof(data));
    g_autofree uint8_t *two = g_malloc(sizeof(data));
    Lower part = run(row, true, one), below = run(row, false, two);

    g_assert_cmpmem(one, sizeof(data), two, sizeof(data));
    g_assert_cmpint(below.reads, ==, part.reads);
    g_assert_cmpint(below.bytes_read, ==, part.bytes_read);
    g_assert_cmpint(below.writes, ==, part.writes);
    if (part.reads) {
        g_assert(part.counted && part.listed);
        g_assert_cmpint(below.counted, ==, !row->plain);
        g_assert_cmpint(below.listed, ==, !row->plain);
    }
}

static void plain_ask(void)
{
    ask = (Ask) { .bytes = BLOCK };
    by_part = false;
}

/* A drain of the lower node waits for what it does not count itself. */
static void test_drain(void)
{
    BlockDriverState *bs;
    BlockBackend *blk = graph_new((Lower) { .gate_closed = true }, &bs);
    Request req = { .blk = blk };

    plain_ask();
    request_start(&req);
    g_assert(lower.waiting);
    g_assert(!lower.counted);

    aio_bh_schedule_oneshot(qemu_get_aio_context(), gate_open, NULL);
    bdrv_drained_begin(bs);
    g_assert(!lower.waiting);
    g_assert_cmpint(req.ret, ==, 0);
    bdrv_drained_end(bs);
    blk_unref(blk);
}

/* A write of another parent that serialises waits for the read. */
static void test_two_parents(void)
{
    BlockDriverState *bs;
    BlockBackend *blk = graph_new((Lower) { .gate_closed = true }, &bs);
    BlockBackend *other = blk_of(bs);
    Request reader = { .blk = blk };
    Request writer = { .blk = other, .write = true,
                       .flags = BDRV_REQ_SERIALISING };

    plain_ask();
    request_start(&reader);
    g_assert(lower.listed);
    request_start(&writer);
    g_assert_cmpint(lower.writes, ==, 0);

    gate_open(NULL);
    settle();
    g_assert_cmpint(reader.ret, ==, 0);
    g_assert_cmpint(writer.ret, ==, 0);
    g_assert_cmpint(lower.writes, ==, 1);

    /* Without the other parent no request can come between. */
    blk_unref(other);
    request_start(&reader);
    g_assert(!lower.listed);
    blk_unref(blk);
}

/* A parent is not alone either if another parent came before it. */
static void test_second_parent(void)
{
    BlockDriverState *bs, *second;
    BlockBackend *blk = graph_new((Lower) {}, &bs), *late;
    Request req;

    bdrv_ref(bs);
    second = upper_new(bs);
    late = blk_of(second);
    bdrv_unref(second);
    plain_ask();
    for (int i = 0; i < 2; i++) {
        req = (Request) { .blk = i ? late : blk };
        request_start(&req);
        g_assert_cmpint(req.ret, ==, 0);
        g_assert(lower.listed);
    }
    blk_unref(late);
    blk_unref(blk);
}

/* The lower node copies on read for each reader. */
static void test_copy_on_read(void)
{
    BlockDriverState *bs;
    BlockBackend *blk = graph_new((Lower) {}, &bs);
    Request req = { .blk = blk };

    plain_ask();
    bdrv_enable_copy_on_read(bs);
    request_start(&req);
    g_assert_cmpint(req.ret, ==, 0);
    g_assert_cmpint(lower.writes, ==, 1);
    bdrv_disable_copy_on_read(bs);
    request_start(&req);
    g_assert_cmpint(lower.writes, ==, 1);
    blk_unref(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(rows); i++) {
        g_autofree char *path = g_strdup_printf("/read-below/as-part/%s",
                                                rows[i].name);

        g_test_add_data_func(path, &rows[i], test_row);
    }
    g_test_add_func("/read-below/drain", test_drain);
    g_test_add_func("/read-below/two-parents", test_two_parents);
    g_test_add_func("/read-below/second-parent", test_second_parent);
    g_test_add_func("/read-below/copy-on-read", test_copy_on_read);
    return g_test_run();
}
