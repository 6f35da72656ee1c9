/*
 * The tables that a qcow2 image's cache shows to reads, and reads with the lock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/qcow2-lookup.h"
#include "qapi/error.h"
#include "qemu/brief-read.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "memory-disk.h"
#include "qcow2-lock.h"

#define SECTOR          512
#define CLUSTER         4096

/* The bytes mapped by 512 bytes of a table, and by a table of one cluster */
#define SLICE_BYTES     (64 * CLUSTER)
#define TABLE_BYTES     (512 * CLUSTER)

#define DISK_BYTES      (8 * TABLE_BYTES)

static BlockBackend *image_new(int slots, const char *options)
{
    memory_disk_open(options, DISK_BYTES);
    return memory_disk_blk(slots);
}

static void image_free(BlockBackend *blk)
{
    blk_unref(blk);
    memory_disk_close();
}

static BDRVQcow2State *blk_state(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

static void coroutine_fn clean_entry(void *opaque)
{
    BDRVQcow2State *s = opaque;

    qemu_co_mutex_lock(&s->lock);
    qcow2_cache_clean_unused(s->l2_table_cache);
    qcow2_cache_clean_unused(s->l2_table_cache);
    qemu_co_mutex_unlock(&s->lock);
}

static void image_write(BlockBackend *blk, int64_t offset, int64_t bytes,
                        BdrvRequestFlags flags)
{
    g_autofree char *buf = g_strnfill(bytes, 'q');

    g_assert(blk_pwrite(blk, offset, bytes, buf, flags) >= 0);
}

static void image_read(BlockBackend *blk, int64_t offset)
{
    uint8_t buf[SECTOR];

    g_assert(blk_pread(blk, offset, SECTOR, buf, 0) >= 0);
}

static void test_lock(void)
{
    BlockBackend *blk = image_new(128, "cluster_size=4096");

    /* After the image has been opened, each table has to be loaded. */
    image_write(blk, 0, 2 * CLUSTER, 0);
    image_write(blk, 2 * CLUSTER, CLUSTER, BDRV_REQ_WRITE_COMPRESSED);
    g_assert(blk_pwrite_zeroes(blk, 3 * CLUSTER, CLUSTER, 0) >= 0);
    g_assert(blk_pwrite_zeroes(blk, CLUSTER, CLUSTER, 0) >= 0);
    image_write(blk, 64 * CLUSTER, CLUSTER, 0);
    image_write(blk, 66 * CLUSTER, 3 * CLUSTER, 0);
    memory_disk_reopen(blk, 128);
    g_assert(qcow2_read_needs_lock(blk, 0, SECTOR));
    g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));
    g_assert(qcow2_read_needs_lock(blk, 64 * CLUSTER, SECTOR));

    /* The table is loaded, so reads of any kind of cluster need no lock. */
    g_assert(!qcow2_read_needs_lock(blk, 64 * CLUSTER + SECTOR, SECTOR));
    g_assert(!qcow2_read_needs_lock(blk, CLUSTER, CLUSTER));
    g_assert(!qcow2_read_needs_lock(blk, 3 * CLUSTER, CLUSTER));
    g_assert(!qcow2_read_needs_lock(blk, 4 * CLUSTER, 8 * CLUSTER));
    g_assert(!qcow2_read_needs_lock(blk, 66 * CLUSTER + SECTOR, 2 * CLUSTER));
    g_assert(!qcow2_read_needs_lock(blk, 64 * CLUSTER, 6 * CLUSTER));
    g_assert(qcow2_read_needs_lock(blk, 2 * CLUSTER, SECTOR));

    /* The same holds for block status; its first call looks at more tables. */
    g_assert(qcow2_status_needs_lock(blk, 0, SECTOR));
    g_assert(!qcow2_status_needs_lock(blk, 0, SECTOR));
    g_assert(!qcow2_status_needs_lock(blk, 4 * CLUSTER, 8 * CLUSTER));
    g_assert(qcow2_status_needs_lock(blk, 2 * CLUSTER, SECTOR));

    /* The same, opened anew */
    blk_set_force_allow_inactivate(blk);
    bdrv_drain_all_begin();
    g_assert(bdrv_inactivate(blk_bs(blk), &error_abort) == 0);
    bdrv_drain_all_end();
    bdrv_activate_all(&error_abort);
    g_assert(qcow2_read_needs_lock(blk, 64 * CLUSTER, SECTOR));
    g_assert(qcow2_read_needs_lock(blk, 0, SECTOR));
    g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));

    /* Both tables, and one that has never been allocated */
    g_assert(!qcow2_read_needs_lock(blk, 60 * CLUSTER, 8 * CLUSTER));
    g_assert(!qcow2_read_needs_lock(blk, 2 * TABLE_BYTES, CLUSTER));
    image_free(blk);

}

/*
 * Lookups with the lock and without
 */

typedef struct Compare {
    BlockBackend *blk;
    int64_t bytes;
    bool done;
} Compare;

static void coroutine_fn GRAPH_RDLOCK
compare_at(BlockBackend *blk, int64_t offset, unsigned bytes)
{
    BDRVQcow2State *s = blk_state(blk);
    QCow2SubclusterType type, other_type;
    uint64_t host, other_host;
    unsigned n = bytes, other_n = bytes;

    qemu_co_mutex_lock(&s->lock);
    g_assert_cmpint(qcow2_get_host_offset(blk_bs(blk), offset, &other_n,
                                          &other_host, &other_type), ==, 0);
    qemu_co_mutex_unlock(&s->lock);
    g_assert_cmpint(qcow2_lookup(blk_bs(blk), offset, &n, &host, &type), ==,
                    other_type != QCOW2_SUBCLUSTER_COMPRESSED);
    if (other_type != QCOW2_SUBCLUSTER_COMPRESSED) {
        g_assert_cmpint(type, ==, other_type);
        g_assert_cmpint(n, ==, other_n);
        g_assert_cmphex(host, ==, other_host);
    }
}

static void coroutine_fn compare_entry(void *opaque)
{
    Compare *compare = opaque;

    GRAPH_RDLOCK_GUARD();

    for (int64_t from = 0; from < compare->bytes; from += SECTOR) {
        for (int64_t to = from + 1; to <= compare->bytes; to += 7 * SECTOR) {
            compare_at(compare->blk, from, to - from);
        }
    }
    compare->done = true;
}

static void image_compare(BlockBackend *blk, int64_t bytes)
{
    Compare compare = { .blk = blk, .bytes = bytes };

    qemu_coroutine_enter(qemu_coroutine_create(compare_entry, &compare));
    while (!compare.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

/* Data, zeroes and nothing, with and without a cluster, one after the other */
static void check_same(const char *options, int64_t cluster)
{
    BlockBackend *blk = image_new(128, options);

    image_write(blk, 2 * SECTOR, 3 * SECTOR, 0);
    g_assert(blk_pwrite_zeroes(blk, 4 * SECTOR, 8 * SECTOR, 0) >= 0);
    image_write(blk, cluster - SECTOR, cluster + 2 * SECTOR, 0);
    g_assert(blk_pwrite_zeroes(blk, 2 * cluster + 3 * SECTOR, SECTOR, 0) >= 0);
    g_assert(blk_pwrite_zeroes(blk, 3 * cluster, 3 * SECTOR, 0) >= 0);
    image_write(blk, 4 * cluster, cluster, BDRV_REQ_WRITE_COMPRESSED);
    image_write(blk, 6 * cluster, 3 * cluster, 0);
    g_assert(blk_pwrite_zeroes(blk, 6 * cluster, 2 * cluster, 0) >= 0);
    image_write(blk, 10 * cluster, cluster, 0);
    image_write(blk, 9 * cluster, cluster, 0);
    image_compare(blk, 12 * cluster);
    image_free(blk);
}

static void test_same(void)
{
    check_same("cluster_size=4096", 4096);
    check_same("cluster_size=16k,extended_l2=on", 16384);
}

/* A reader without the lock does not use an entry while two words change. */
static void test_pairs(void)
{
    BlockBackend *blk = image_new(128, "cluster_size=16k,extended_l2=on");
    BDRVQcow2State *s = blk_state(blk);
    const uint64_t *slice;

    image_write(blk, 0, SECTOR, 0);
    image_read(blk, 0);
    g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));
    g_assert(!qcow2_write_needs_lock(blk, 0, SECTOR));

    slice = qcow2_slots_find(qcow2_cache_slots(s->l2_table_cache),
                             s->l1_table[0] & L1E_OFFSET_MASK);
    qcow2_lookup_change_begin(s, slice);
    g_assert(qcow2_read_needs_lock(blk, 0, SECTOR));
    g_assert(qcow2_write_needs_lock(blk, 0, SECTOR));
    qcow2_lookup_change_end(s, slice);
    g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));
    g_assert(!qcow2_write_needs_lock(blk, 0, SECTOR));
    image_free(blk);
}

static bool image_shows_table(BlockBackend *blk, uint64_t table)
{
    Qcow2Slots *slots = qcow2_cache_slots(blk_state(blk)->l2_table_cache);

    for (int i = 0; i < slots->nb; i++) {
        if (slots->slot[i].table == table) {
            return true;
        }
    }
    return false;
}

/* Return whether the cache shows the table for @offset, without a use of it. */
static bool image_shows(BlockBackend *blk, int64_t offset)
{
    uint64_t table = blk_state(blk)->l1_table[offset / TABLE_BYTES] &
                     L1E_OFFSET_MASK;

    g_assert(table);
    return image_shows_table(blk,
                             table + offset % TABLE_BYTES / SLICE_BYTES * 512);
}

/* A table is shown as long as it is whole, and readers know if it was not. */
static void test_whole(void)
{
    BlockBackend *blk = image_new(128, "cluster_size=4096");
    Qcow2Cache *cache = blk_state(blk)->l2_table_cache;
    Qcow2Slots *slots = qcow2_cache_slots(cache);
    const uint64_t at = 32 * CLUSTER;
    unsigned begin;
    void *table;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    for (int i = 0; i < 2; i++) {
        /* To be filled by the caller, even if it is in the cache already */
        begin = qcow2_slots_begin(slots);
        g_assert(qcow2_cache_get_empty(blk_bs(blk), cache, at, &table) == 0);
        g_assert(qcow2_slots_retry(slots, begin));
        g_assert(!image_shows_table(blk, at));
        memset(table, 0, 512);
        qcow2_cache_put(cache, &table);
        g_assert(!image_shows_table(blk, at));

        g_assert(qcow2_cache_get(blk_bs(blk), cache, at, &table) == 0);
        qcow2_cache_put(cache, &table);
        g_assert(image_shows_table(blk, at));
    }

    begin = qcow2_slots_begin(slots);
    for (int i = 1; image_shows_table(blk, at); i++) {
        g_assert(qcow2_cache_get(blk_bs(blk), cache, at + i * 512,
                                 &table) == 0);
        qcow2_cache_put(cache, &table);
    }
    g_assert(qcow2_slots_retry(slots, begin));

    g_assert(qcow2_cache_get(blk_bs(blk), cache, at, &table) == 0);
    qcow2_cache_put(cache, &table);
    begin = qcow2_slots_begin(slots);
    qcow2_cache_discard(cache, qcow2_cache_is_table_offset(cache, at));
    g_assert(qcow2_slots_retry(slots, begin));
    g_assert(!image_shows_table(blk, at));

    g_assert(qcow2_cache_get(blk_bs(blk), cache, at, &table) == 0);
    qcow2_cache_put(cache, &table);
    begin = qcow2_slots_begin(slots);
    g_assert(qcow2_cache_empty(blk_bs(blk), cache) == 0);
    g_assert(qcow2_slots_retry(slots, begin));
    g_assert(!image_shows_table(blk, at));
    image_free(blk);
}

/* A table that only readers without the lock use stays. */
static void test_hot(void)
{
    BlockBackend *blk = image_new(8, "cluster_size=4096");

    for (int64_t i = 0; i < DISK_BYTES / SLICE_BYTES; i++) {
        image_write(blk, i * SLICE_BYTES, CLUSTER, 0);
    }
    image_read(blk, 0);
    g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));
    for (int64_t i = 1; i < DISK_BYTES / SLICE_BYTES; i++) {
        image_read(blk, i * SLICE_BYTES);
        g_assert(image_shows(blk, i * SLICE_BYTES));
        g_assert(image_shows(blk, 0));
        g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));
        g_assert(i < 8 || !image_shows(blk, (i - 7) * SLICE_BYTES));
    }
    image_free(blk);
}

/* When all are in use, one has to go all the same. */
static void test_all_hot(void)
{
    BlockBackend *blk = image_new(8, "cluster_size=4096");

    for (int64_t i = 0; i < 9; i++) {
        image_write(blk, i * SLICE_BYTES, CLUSTER, 0);
    }
    for (int64_t i = 0; i < 8; i++) {
        image_read(blk, i * SLICE_BYTES);
    }
    for (int64_t i = 0; i < 8; i++) {
        g_assert(!qcow2_read_needs_lock(blk, i * SLICE_BYTES, SECTOR));
    }
    image_read(blk, 8 * SLICE_BYTES);
    g_assert(image_shows(blk, 8 * SLICE_BYTES));
    image_free(blk);
}

/* The timer takes the lock, and what was used since last time stays. */
static void test_clean(void)
{
    BlockBackend *blk = image_new(128, "cluster_size=4096");
    Qcow2LockHolder holder;

    qemu_clock_enable(QEMU_CLOCK_VIRTUAL, true);
    image_write(blk, 0, CLUSTER, 0);
    g_assert(blk_flush(blk) >= 0);
    image_read(blk, 0);
    qemu_coroutine_enter(qemu_coroutine_create(clean_entry,
                                               blk_state(blk)));
    g_assert(!image_shows(blk, 0));

    image_read(blk, 0);
    qcow2_cache_clean_unused(blk_state(blk)->l2_table_cache);
    g_assert(image_shows(blk, 0));
    g_assert(!qcow2_read_needs_lock(blk, 0, SECTOR));
    qcow2_cache_clean_unused(blk_state(blk)->l2_table_cache);
    g_assert(image_shows(blk, 0));

    qcow2_lock_begin(&holder, blk);
    while (!qcow2_lock_is_waited_for(&holder)) {
        g_assert(image_shows(blk, 0));
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert(image_shows(blk, 0));
    qcow2_lock_end(&holder);
    while (image_shows(blk, 0)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert(qcow2_read_needs_lock(blk, 0, SECTOR));
    image_free(blk);
    qemu_clock_enable(QEMU_CLOCK_VIRTUAL, false);
}

typedef struct Resize {
    BlockBackend *blk;
    int64_t size;
    bool done;
} Resize;

static void coroutine_fn resize_entry(void *opaque)
{
    Resize *resize = opaque;

    g_assert(blk_co_truncate(resize->blk, resize->size, true,
                             PREALLOC_MODE_OFF, 0, &error_abort) == 0);
    qatomic_store_release(&resize->done, true);
}

/* Tables that a lookup has found stay until the lookup ends. */
static void check_resize(BlockBackend *blk, int64_t size)
{
    BDRVQcow2State *s = blk_state(blk);
    uint64_t *l1_table = s->l1_table;
    Qcow2Cache *cache = s->l2_table_cache;
    Resize resize = { .blk = blk, .size = size };
    IOThread *iothread = iothread_new();
    BriefReader *reader = brief_read_begin();
    bool l1_first;

    aio_co_schedule(iothread_get_aio_context(iothread),
                    qemu_coroutine_create(resize_entry, &resize));
    while (qatomic_read(&s->l1_table) == l1_table &&
           qatomic_read((void **)&s->l2_table_cache) == cache) {
        g_thread_yield();
    }
    l1_first = qatomic_read(&s->l1_table) != l1_table;
    for (int i = 0; i < 10000; i++) {
        g_thread_yield();
        g_assert(!qatomic_read(&resize.done));
        g_assert(!l1_first ||
                 qatomic_read((void **)&s->l2_table_cache) == cache);
    }
    brief_read_end(reader);
    while (!qatomic_load_acquire(&resize.done)) {
        g_thread_yield();
    }
    iothread_join(iothread);
}

static void test_resize(void)
{
    BlockBackend *blk;
    uint64_t *l1_table;

#if BASE_SINCE(10, 2)
    g_test_skip("the cleaner of caches runs in the thread that reads here");
    return;
#endif
    blk = image_new(8, "cluster_size=4096");
    check_resize(blk, DISK_BYTES + TABLE_BYTES / 2);
    /* The cache alone */
    l1_table = blk_state(blk)->l1_table;
    check_resize(blk, DISK_BYTES + TABLE_BYTES);
    g_assert(blk_state(blk)->l1_table == l1_table);
    image_free(blk);
}

/* A reader finds what is shown, and knows when it may not trust it. */
static void test_slots(void)
{
    g_autofree char *tables = g_malloc0(4 * 512);
    Qcow2Slots *slots = qcow2_slots_new(4, 512, tables);
    unsigned begin = qcow2_slots_begin(slots);
    const uint64_t *table, *other;
    unsigned pairs;

    g_assert_null(qcow2_slots_find(slots, 0x1000));
    qcow2_slots_show(slots, 2, 0x1000);
    qcow2_slots_show(slots, 3, 0x3000);
    g_assert(qcow2_slots_find(slots, 0x1000) == (void *)(tables + 2 * 512));
    g_assert(qcow2_slots_find(slots, 0x3000) == (void *)(tables + 3 * 512));
    g_assert(!qcow2_slots_retry(slots, begin));
    g_assert(qcow2_slots_take_mark(slots, 2));
    g_assert(!qcow2_slots_take_mark(slots, 2));
    g_assert(!qcow2_slots_take_mark(slots, 1));

    /* An entry of two words */
    table = qcow2_slots_find(slots, 0x1000);
    other = qcow2_slots_find(slots, 0x3000);
    pairs = qcow2_slots_begin_pairs(slots, table);
    g_assert(!qcow2_slots_retry_pairs(slots, table, pairs));
    qcow2_slots_change_begin(slots, table);
    g_assert(qcow2_slots_retry_pairs(slots, table, pairs));
    pairs = qcow2_slots_begin_pairs(slots, table);
    g_assert(qcow2_slots_retry_pairs(slots, table, pairs));
    qcow2_slots_change_end(slots, table);
    g_assert(qcow2_slots_retry_pairs(slots, table, pairs));
    g_assert_cmpint(qcow2_slots_begin_pairs(slots, other), ==, 0);
    g_assert(!qcow2_slots_retry(slots, begin));

    qcow2_slots_hide(slots, 2);
    g_assert(qcow2_slots_retry(slots, begin));
    g_assert_null(qcow2_slots_find(slots, 0x1000));

    /* A slot that is hidden is hidden again, for a new table there. */
    begin = qcow2_slots_begin(slots);
    qcow2_slots_hide(slots, 2);
    qcow2_slots_show(slots, 2, 0x1000);
    g_assert(qcow2_slots_retry(slots, begin));
    qcow2_slots_free(slots);
}

/* Two tables of many parts are found, wherever they lie in the image. */
static void test_places(void)
{
    const unsigned parts = 16, nb = 2 * parts;
    g_autofree char *tables = g_malloc0(nb * 512);
    uint64_t first = parts * 512;

    for (unsigned distance = parts; distance <= 4096; distance *= 2) {
        Qcow2Slots *slots = qcow2_slots_new(nb, 512, tables);

        for (unsigned i = 0; i < nb; i++) {
            qcow2_slots_show(slots, i, first + (i / parts * distance +
                                                i % parts) * 512);
        }
        for (unsigned i = 0; i < nb; i++) {
            g_assert(qcow2_slots_shows(slots, first +
                                       (i / parts * distance + i % parts) *
                                       512));
        }
        qcow2_slots_free(slots);
    }
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-cache/slots", test_slots);
    g_test_add_func("/qcow2-cache/places", test_places);
    g_test_add_func("/qcow2-cache/whole", test_whole);
    g_test_add_func("/qcow2-cache/lock", test_lock);
    g_test_add_func("/qcow2-cache/same", test_same);
    g_test_add_func("/qcow2-cache/pairs", test_pairs);
    g_test_add_func("/qcow2-cache/hot", test_hot);
    g_test_add_func("/qcow2-cache/all-hot", test_all_hot);
    g_test_add_func("/qcow2-cache/clean", test_clean);
    g_test_add_func("/qcow2-cache/resize", test_resize);
    return g_test_run();
}
