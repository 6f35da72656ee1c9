/*
 * L2 tables of a qcow2 image that are loaded by several requests at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qcow2-load.h"
#include "block/qcow2-slots.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "memory-disk.h"
#include "settle.h"

#define SECTOR          512
#define CLUSTER         4096

/* The bytes mapped by 512 bytes of a table, and by a table of one cluster */
#define SLICE_BYTES     (64 * CLUSTER)
#define TABLE_BYTES     (512 * CLUSTER)

#define DISK_BYTES      (8 * TABLE_BYTES)
#define SLICES          16
#define REQUESTS        8

/* The bytes mapped by 512 bytes of a table if clusters have 512 bytes too */
#define SMALL_BYTES     (64 * SECTOR)

/* At most so many tables of 512 bytes are loaded at once. */
#define LOADS           1024

/* Each of the first slices has data in its first cluster. */
static BlockBackend *image_new(int slots)
{
    g_autofree char *buf = g_strnfill(CLUSTER, 'o');
    BlockBackend *blk;

    memory_disk_open("cluster_size=4096", DISK_BYTES);
    blk = memory_disk_blk(slots);
    for (int i = 0; i < SLICES; i++) {
        g_assert(blk_pwrite(blk, i * SLICE_BYTES, CLUSTER, buf, 0) >= 0);
    }
    blk_unref(blk);
    return memory_disk_blk(slots);
}

/* Each of @nb small tables has data in its second cluster. */
static BlockBackend *image_of_tables(int nb)
{
    g_autofree char *buf = g_strnfill(SECTOR, 'o');
    BlockBackend *blk;

    memory_disk_open("cluster_size=512", (int64_t)nb * SMALL_BYTES);
    blk = memory_disk_blk(2 * nb);
    for (int i = 0; i < nb; i++) {
        g_assert(blk_pwrite(blk, i * SMALL_BYTES + SECTOR, SECTOR, buf,
                            0) >= 0);
    }
    blk_unref(blk);
    blk = memory_disk_blk(2 * nb);
    *memory_disk_reads() = (MemoryDiskReads) { 0 };
    return blk;
}

static void image_free(BlockBackend *blk)
{
    blk_unref(blk);
    memory_disk_close();
}

typedef struct Request {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    bool write;
    int ret;
    bool done;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;
    uint8_t buf[2 * SECTOR] = { 0 };

    r->ret = r->write ?
             blk_co_pwrite(r->blk, r->offset, r->bytes, buf, 0) :
             blk_co_pread(r->blk, r->offset, r->bytes, buf, 0);
    r->done = true;
}

static void request_enter(Request *r)
{
    qemu_coroutine_enter(qemu_coroutine_create(request_entry, r));
}

static void request_start(Request *r, BlockBackend *blk, int64_t offset,
                          bool write)
{
    *r = (Request) {
        .blk = blk, .offset = offset, .bytes = SECTOR, .write = write
    };
    request_enter(r);
}

static void request_finish(Request *r)
{
    while (!r->done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(r->ret, >=, 0);
}

/* Send requests that only read tables, all at once and @step bytes apart. */
static void run(BlockBackend *blk, int64_t step, bool write)
{
    Request requests[REQUESTS];

    *memory_disk_reads() = (MemoryDiskReads) { 0 };
    for (int i = 0; i < REQUESTS; i++) {
        request_start(&requests[i], blk,
                      i * step + (write ? i * SECTOR : CLUSTER), write);
    }
    for (int i = 0; i < REQUESTS; i++) {
        request_finish(&requests[i]);
    }
}

/*
 * Requests read one table once, and several at the same time.  The first write
 * also makes the set of metadata clusters.
 */
static void test_at_once(const void *opaque)
{
    bool write = GPOINTER_TO_INT(opaque);
    BlockBackend *blk = image_new(64);

    run(blk, 0, write);
    g_assert_cmpint(memory_disk_reads()->done, ==, 1);
    run(blk, SLICE_BYTES, write);
    g_assert_cmpint(memory_disk_reads()->done, ==, REQUESTS - 1);
    g_assert_cmpint(memory_disk_reads()->at_once, ==, REQUESTS - 1);
    image_free(blk);
}

static void check_read(BlockBackend *blk, int64_t offset, char wanted)
{
    char buf[SECTOR];

    g_assert(blk_pread(blk, offset, SECTOR, buf, 0) >= 0);
    g_assert_cmpint(buf[0], ==, wanted);
}

/* Let a read hold an old table; the new one comes and goes meanwhile. */
static void test_stale(void)
{
    BlockBackend *blk = image_new(8);
    Request old;

    memory_disk_hold_read(true);
    request_start(&old, blk, CLUSTER, false);
    while (!memory_disk_reads()->held) {
        aio_poll(qemu_get_aio_context(), true);
    }

    /* Change the table with the lock held, and write it back. */
    g_assert(blk_pwrite_zeroes(blk, 0, CLUSTER, 0) >= 0);
    for (int i = 1; i < SLICES; i++) {
        check_read(blk, i * SLICE_BYTES, 'o');
    }
    aio_co_wake(memory_disk_reads()->held);
    request_finish(&old);
    check_read(blk, 0, 0);
    image_free(blk);
}

/* Hide the cached part of a table that maps @offset. */
static uint64_t hide_slice(BDRVQcow2State *s, int64_t offset)
{
    Qcow2Slots *slots = qcow2_cache_slots(s->l2_table_cache);
    uint64_t table = (s->l1_table[offset / TABLE_BYTES] & L1E_OFFSET_MASK) +
                     offset % TABLE_BYTES / SLICE_BYTES * SECTOR;

    for (int i = 0; i < slots->nb; i++) {
        if (slots->slot[i].table == table) {
            qcow2_slots_hide(slots, i);
        }
    }
    return table;
}

/*
 * A load reads a table that is in the cache and not shown.  The table is newer
 * than that on disk, and is written and dropped before the load ends.
 */
static void test_dropped(void)
{
    BlockBackend *blk = image_new(8);
    BDRVQcow2State *s = blk_bs(blk)->opaque;
    char buf[SECTOR] = "new";
    uint64_t table;
    Request old;

    g_assert(blk_pwrite(blk, CLUSTER, SECTOR, buf, 0) >= 0);
    table = hide_slice(s, CLUSTER);
    memory_disk_hold_read(true);
    request_start(&old, blk, CLUSTER, false);
    while (!memory_disk_reads()->held) {
        aio_poll(qemu_get_aio_context(), true);
    }

    g_assert(blk_flush(blk) >= 0);
    qcow2_cache_clean_unused(s->l2_table_cache);
    qcow2_cache_clean_unused(s->l2_table_cache);
    g_assert_null(qcow2_cache_is_table_offset(s->l2_table_cache, table));
    aio_co_wake(memory_disk_reads()->held);
    request_finish(&old);
    check_read(blk, CLUSTER, 'n');
    image_free(blk);
}

/* Call @change while the first table is read.  It must not be cached then. */
static void change_meanwhile(void (*change)(BDRVQcow2State *s))
{
    BlockBackend *blk = image_new(8);
    BDRVQcow2State *s = blk_bs(blk)->opaque;
    uint64_t table = s->l1_table[0];
    Request old;

    memory_disk_hold_read(true);
    request_start(&old, blk, CLUSTER, false);
    while (!memory_disk_reads()->held) {
        aio_poll(qemu_get_aio_context(), true);
    }
    change(s);
    aio_co_wake(memory_disk_reads()->held);
    memory_disk_hold_read(true);
    while (!old.done && !memory_disk_reads()->held) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_null(qcow2_cache_is_table_offset(s->l2_table_cache,
                                              table & L1E_OFFSET_MASK));
    s->l1_table[0] = table;
    memory_disk_hold_read(false);
    if (!old.done) {
        aio_co_wake(memory_disk_reads()->held);
    }
    request_finish(&old);
    check_read(blk, 0, 'o');
    image_free(blk);
}

static void free_table(BDRVQcow2State *s)
{
    s->l1_table[0] = 0;
}

/* A table that has been freed while it was read does not come back. */
static void test_freed(void)
{
    change_meanwhile(free_table);
}

/* Do as an inactive image does when it is opened anew. */
static void make_stale(BDRVQcow2State *s)
{
    qcow2_load_stale_all(s->loads);
}

static void test_stale_all(void)
{
    change_meanwhile(make_stale);
}

/*
 * A new table is in the cache, but some part of it is not shown yet.  The part
 * on the disk may be older.  A request reads it, and the cache keeps its own.
 */
static void test_new(void)
{
    BlockBackend *blk = image_new(64);
    int64_t slice = 6 * TABLE_BYTES + SLICE_BYTES;
    char buf[SECTOR] = "new";

    g_assert(blk_pwrite(blk, 6 * TABLE_BYTES, SECTOR, buf, 0) >= 0);
    *memory_disk_reads() = (MemoryDiskReads) { 0 };
    check_read(blk, slice, 0);
    g_assert(blk_pwrite(blk, slice, SECTOR, buf, 0) >= 0);
    check_read(blk, slice, 'n');
    g_assert_cmpint(memory_disk_reads()->done, <=, 2);
    image_free(blk);
}

/*
 * There are more requests than may load at once, and each needs another table.
 * The others wait for their turn.
 */
static void test_many(void)
{
    const int nb = LOADS + 76;
    g_autofree Request *requests = g_new(Request, nb);
    BlockBackend *blk = image_of_tables(nb);

    for (int i = 0; i < nb; i++) {
        request_start(&requests[i], blk, i * SMALL_BYTES, false);
    }
    for (int i = 0; i < nb; i++) {
        request_finish(&requests[i]);
    }
    g_assert_cmpint(memory_disk_reads()->done, ==, nb);
    g_assert_cmpint(memory_disk_reads()->at_once, ==, LOADS);
    image_free(blk);
}

/*
 * Many requests wait for their turn and want one table, and behind them one
 * wants another table.  It does not wait until the first table is loaded.
 */
static void test_behind(void)
{
    const int nb = 2 * LOADS + 1;
    g_autofree Request *requests = g_new(Request, nb);
    BlockBackend *blk = image_of_tables(LOADS + 2);
    Request behind;

    for (int i = 0; i < nb; i++) {
        request_start(&requests[i], blk, MIN(i, LOADS) * SMALL_BYTES, false);
    }
    request_start(&behind, blk, (LOADS + 1) * SMALL_BYTES, false);
    while (memory_disk_reads()->done < LOADS) {
        aio_poll(qemu_get_aio_context(), true);
    }

    memory_disk_hold_read(true);
    settle();
    g_assert(memory_disk_reads()->held);
    g_assert(!requests[LOADS].done);
    g_assert(behind.done);
    aio_co_wake(memory_disk_reads()->held);
    for (int i = 0; i < nb; i++) {
        request_finish(&requests[i]);
    }
    image_free(blk);
}

/*
 * One request waits.  Each request that loads a table needs another one next.
 * It does not load this table before the waiting request has loaded its own.
 */
static void test_turn(void)
{
    g_autofree Request *requests = g_new0(Request, LOADS);
    BlockBackend *blk = image_of_tables(2 * LOADS + 1);
    Request waiting;

    for (int i = 0; i < LOADS; i++) {
        requests[i] = (Request) {
            .blk = blk, .offset = (2 * i + 1) * SMALL_BYTES - SECTOR,
            .bytes = 2 * SECTOR
        };
        request_enter(&requests[i]);
    }
    request_start(&waiting, blk, 2 * LOADS * SMALL_BYTES, false);
    request_finish(&waiting);
    g_assert(!requests[LOADS - 1].done);
    for (int i = 0; i < LOADS; i++) {
        request_finish(&requests[i]);
    }
    image_free(blk);
}

/*
 * An inactive image cannot be opened anew, while a load is in flight.  The load
 * is the last that uses the list of loads.
 */
static void test_not_opened(void)
{
    BlockBackend *blk = image_new(8);
    Error *err = NULL;
    Request old;

    blk_set_force_allow_inactivate(blk);
    g_assert_cmpint(bdrv_inactivate_all(), ==, 0);
    memory_disk_hold_read(true);
    request_start(&old, blk, CLUSTER, false);
    while (!memory_disk_reads()->held) {
        aio_poll(qemu_get_aio_context(), true);
    }

    memory_disk_words()[0] = 0;
    bdrv_activate(blk_bs(blk), &err);
    error_free_or_abort(&err);
    aio_co_wake(memory_disk_reads()->held);
    while (!old.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    image_free(blk);
}

/*
 * The working set is twice the cache.  A table that several requests want is
 * read by one of them, and the reads of several tables overlap.
 */
static void test_twice(void)
{
    BlockBackend *blk = image_new(SLICES / 2);
    Request requests[SLICES * 4];

    *memory_disk_reads() = (MemoryDiskReads) { 0 };
    for (int i = 0; i < ARRAY_SIZE(requests); i++) {
        request_start(&requests[i], blk, i % SLICES * SLICE_BYTES + CLUSTER,
                      false);
    }
    for (int i = 0; i < ARRAY_SIZE(requests); i++) {
        request_finish(&requests[i]);
    }
    g_assert_cmpint(memory_disk_reads()->at_once, >=, SLICES / 2);
    image_free(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/qcow2-load/at-once", GINT_TO_POINTER(false),
                         test_at_once);
    g_test_add_data_func("/qcow2-load/writes", GINT_TO_POINTER(true),
                         test_at_once);
    g_test_add_func("/qcow2-load/stale", test_stale);
    g_test_add_func("/qcow2-load/dropped", test_dropped);
    g_test_add_func("/qcow2-load/freed", test_freed);
    g_test_add_func("/qcow2-load/stale-all", test_stale_all);
    g_test_add_func("/qcow2-load/new", test_new);
    g_test_add_func("/qcow2-load/many", test_many);
    g_test_add_func("/qcow2-load/behind", test_behind);
    g_test_add_func("/qcow2-load/turn", test_turn);
    g_test_add_func("/qcow2-load/not-opened", test_not_opened);
    g_test_add_func("/qcow2-load/twice-the-cache", test_twice);
    return g_test_run();
}
