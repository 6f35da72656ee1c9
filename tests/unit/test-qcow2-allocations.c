/*
 * Writes to a qcow2 image that allocate, beside others that are in flight
 *
 *      clusters of the guest    0 1 2 3 4 5 6 7 ...
 *      in flight                    [A]   [ B ]
 *      new                      [ . . . . ]       takes 1, then waits for A
 *
 * A write waits if its first cluster is being allocated.  Otherwise it takes
 * the free clusters before the next allocation, and then waits for that one.
 * Each access to the disk in memory lets other coroutines run first.  So a
 * write is in flight when the function that starts it returns.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/qcow2.h"
#include "qapi/error.h"
#include "memory-disk.h"
#include "settle.h"

#define SECTOR      512
#define CLUSTER     4096

/* One table of the cache maps so many clusters; the first has data already. */
#define WINDOW      64
#define WINDOWS     32
#define MAX_WRITES  24

typedef struct Write {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    uint8_t value;
    int ret;
} Write;

static void coroutine_fn write_entry(void *opaque)
{
    Write *w = opaque;
    g_autofree uint8_t *buf = g_malloc(w->bytes);

    memset(buf, w->value, w->bytes);
    w->ret = blk_co_pwrite(w->blk, w->offset, w->bytes, buf, 0);
}

static void write_start(Write *w, BlockBackend *blk)
{
    w->blk = blk;
    w->ret = -EINPROGRESS;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(write_entry, w));
}

/* The allocation in flight that has @offset */
static QCowL2Meta *allocation(BlockBackend *blk, int64_t offset)
{
    BDRVQcow2State *s = blk_bs(blk)->opaque;
    IntervalTreeNode *node = interval_tree_iter_first(&s->cluster_allocs,
                                                      offset, offset);

    return node ? container_of(node, QCowL2Meta, in_flight) : NULL;
}

static unsigned allocations(BlockBackend *blk)
{
    BDRVQcow2State *s = blk_bs(blk)->opaque;
    IntervalTreeNode *node;
    unsigned n = 0;

    for (node = interval_tree_iter_first(&s->cluster_allocs, 0, UINT64_MAX);
         node; node = interval_tree_iter_next(node, 0, UINT64_MAX)) {
        n++;
    }
    return n;
}

static bool waited_for(QCowL2Meta *m)
{
    return !qemu_co_queue_empty(&m->dependent_requests);
}

static BlockBackend *image_new(const char *options)
{
    memory_disk_open(options, WINDOWS * WINDOW * CLUSTER);
    return memory_disk_blk(128);
}

static void image_free(BlockBackend *blk)
{
    g_assert_cmpint(allocations(blk), ==, 0);
    blk_unref(blk);
    memory_disk_close();
}

/* The table of a window is in the cache, and a block of refcounts too. */
static void window_warm(BlockBackend *blk, int64_t window)
{
    uint8_t buf[SECTOR] = { 0 };

    g_assert(blk_pwrite(blk, window, sizeof(buf), buf, 0) >= 0);
}

static void check_data(BlockBackend *blk, int64_t offset, int64_t bytes,
                       uint8_t value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert(blk_pread(blk, offset, bytes, buf, 0) >= 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmphex(buf[i], ==, value);
    }
}

/* Some writes that do not overlap; returns how many. */
static int others_start(GRand *rand, BlockBackend *blk, int64_t window,
                        Write *others)
{
    int n = 0;

    for (int c = 1; c < WINDOW - 4 && n < MAX_WRITES;) {
        int clusters = g_rand_int_range(rand, 1, 4);

        if (g_rand_boolean(rand)) {
            others[n] = (Write) {
                .offset = window + c * CLUSTER,
                .bytes = clusters * CLUSTER - g_rand_int_range(rand, 0, 2) *
                         SECTOR,
                .value = n + 1,
            };
            write_start(&others[n], blk);
            g_assert_cmpint(others[n].ret, ==, -EINPROGRESS);
            n++;
        }
        c += clusters;
    }
    g_assert_cmpint(allocations(blk), ==, n);
    return n;
}

/* Check what @w does, which has just been started, while @others run. */
static void check_dependencies(BlockBackend *blk, Write *w, Write *others,
                               int n)
{
    int64_t end = ROUND_UP(w->offset + w->bytes, CLUSTER);
    Write *at_start = NULL, *in_way = NULL;
    QCowL2Meta *own;

    for (int i = 0; i < n; i++) {
        int64_t other_end = ROUND_UP(others[i].offset + others[i].bytes,
                                     CLUSTER);

        if (others[i].offset <= w->offset && w->offset < other_end) {
            at_start = &others[i];
        } else if (others[i].offset >= w->offset && others[i].offset < end) {
            end = others[i].offset;
            in_way = &others[i];
        }
    }
    if (at_start) {
        in_way = at_start;
    }
    for (int i = 0; i < n; i++) {
        QCowL2Meta *m = allocation(blk, others[i].offset);

        g_assert_cmpint(waited_for(m), ==, &others[i] == in_way);
    }
    if (at_start) {
        g_assert_cmpint(allocations(blk), ==, n);
        return;
    }
    own = allocation(blk, w->offset);
    g_assert(own);
    g_assert_cmpint(own->in_flight.start, ==,
                    QEMU_ALIGN_DOWN(w->offset, CLUSTER));
    g_assert_cmpint(own->in_flight.last + 1, ==, end);
}

static void test_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    BlockBackend *blk = image_new("cluster_size=4096");
    Write others[MAX_WRITES], w;

    for (int64_t i = 0; i < WINDOWS; i++) {
        int64_t window = i * WINDOW * CLUSTER;
        int n;

        window_warm(blk, window);
        n = others_start(rand, blk, window, others);
        w = (Write) {
            .offset = window + g_rand_int_range(rand, 1, WINDOW - 8) * CLUSTER +
                      g_rand_int_range(rand, 0, 3) * SECTOR,
            .bytes = g_rand_int_range(rand, 1, 8 * CLUSTER / SECTOR) * SECTOR,
            .value = 0x80,
        };
        write_start(&w, blk);
        check_dependencies(blk, &w, others, n);
        settle();
        g_assert_cmpint(w.ret, ==, 0);
        for (int j = 0; j < n; j++) {
            g_assert_cmpint(others[j].ret, ==, 0);
        }
        check_data(blk, w.offset, w.bytes, 0x80);
    }
    image_free(blk);
}

/* The same cluster twice, third and fourth wait for the first ones. */
static void test_same(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    Write writes[4];

    window_warm(blk, 0);
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        writes[i] = (Write) { .offset = CLUSTER + i * SECTOR, .bytes = SECTOR,
                              .value = i + 1 };
        write_start(&writes[i], blk);
        g_assert_cmpint(allocations(blk), ==, 1);
    }
    g_assert(waited_for(allocation(blk, CLUSTER)));
    settle();
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        g_assert_cmpint(writes[i].ret, ==, 0);
        check_data(blk, CLUSTER + i * SECTOR, SECTOR, i + 1);
    }
    image_free(blk);
}

#define SUBCLUSTER  SECTOR
#define LARGE       (32 * SUBCLUSTER)

/* Several writes allocate subclusters of an allocated cluster at one time. */
static void test_subclusters(void)
{
    BlockBackend *blk = image_new("cluster_size=16k,extended_l2=on");
    Write writes[] = {
        { .offset = 4 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 1 },
        { .offset = 6 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 2 },

        /* These two wait for the first and for the second write. */
        { .offset = 4 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 3 },
        { .offset = 6 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 4 },
    };

    window_warm(blk, 0);
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        write_start(&writes[i], blk);
        g_assert_cmpint(allocations(blk), ==, MIN(i + 1, 2));
    }
    g_assert(allocation(blk, 0)->keep_old_clusters);
    settle();
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        g_assert_cmpint(writes[i].ret, ==, 0);
    }
    check_data(blk, writes[2].offset, SUBCLUSTER, 3);
    check_data(blk, writes[3].offset, SUBCLUSTER, 4);
    image_free(blk);
}

/* Writes to subclusters of a new cluster wait until it is allocated. */
static void test_new_subclusters(void)
{
    BlockBackend *blk = image_new("cluster_size=16k,extended_l2=on");
    Write writes[] = {
        { .offset = LARGE + 8 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 1 },
        { .offset = LARGE + 2 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 2 },
        { .offset = LARGE + 9 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 3 },
    };

    window_warm(blk, 0);
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        write_start(&writes[i], blk);
        g_assert_cmpint(allocations(blk), ==, 1);
    }
    settle();
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        g_assert_cmpint(writes[i].ret, ==, 0);
        check_data(blk, writes[i].offset, SUBCLUSTER, i + 1);
    }
    image_free(blk);
}

/* An allocation beside which it can go hides no other one behind it. */
static void test_behind(void)
{
    BlockBackend *blk = image_new("cluster_size=16k,extended_l2=on");
    Write writes[] = {
        { .offset = 4 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 1 },
        { .offset = LARGE + 4 * SUBCLUSTER, .bytes = SUBCLUSTER, .value = 2 },
        { .offset = LARGE - 12 * SUBCLUSTER, .bytes = 17 * SUBCLUSTER,
          .value = 3 },
    };

    window_warm(blk, 0);
    window_warm(blk, LARGE);
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        write_start(&writes[i], blk);
    }
    g_assert_cmpint(allocations(blk), ==, 3);
    g_assert(waited_for(allocation(blk, LARGE)));
    settle();
    for (int i = 0; i < ARRAY_SIZE(writes); i++) {
        g_assert_cmpint(writes[i].ret, ==, 0);
    }
    check_data(blk, writes[2].offset, writes[2].bytes, 3);
    image_free(blk);
}

/* A write in flight ends before the image becomes inactive. */
static void test_inactivate(void)
{
    BlockBackend *blk = image_new("cluster_size=4096");
    Write w = { .bytes = SECTOR, .value = 1 };

    blk_set_force_allow_inactivate(blk);
    write_start(&w, blk);
    g_assert_cmpint(w.ret, ==, -EINPROGRESS);
    g_assert_cmpint(bdrv_inactivate_all(), ==, 0);
    g_assert_cmpint(w.ret, ==, 0);
    bdrv_activate_all(&error_abort);
    check_data(blk, 0, SECTOR, 1);
    image_free(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-allocations/random", test_random);
    g_test_add_func("/qcow2-allocations/same", test_same);
    g_test_add_func("/qcow2-allocations/subclusters", test_subclusters);
    g_test_add_func("/qcow2-allocations/new-subclusters", test_new_subclusters);
    g_test_add_func("/qcow2-allocations/behind", test_behind);
    g_test_add_func("/qcow2-allocations/inactivate", test_inactivate);
    return g_test_run();
}
