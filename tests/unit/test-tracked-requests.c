/*
 * Requests of many threads on one node: counted, listed and kept apart
 *
 * Eight threads send requests to a driver that keeps a list of its requests.
 * The driver checks that no request overlaps a serialising write, and that no
 * request is in flight in a drained section.  Other cases count barriers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/thread-slot.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"

#define THREADS         8
#define DEPTH           12
#define REQUESTS        1500
#define REGIONS         6
#define REGION_BYTES    4096

/* First byte of a buffer that is written with BDRV_REQ_SERIALISING */
#define MARK_SERIALISING 1

/* One serialising request counts more than all others together. */
#define ALONE           1000000

typedef struct TestState {
    int busy[REGIONS];
    int in_driver;
    int flushes;
} TestState;

static TestState *state;

static void coroutine_fn yield_in_place(void)
{
    aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
}

static void coroutine_fn driver_serve(int64_t offset, int64_t bytes,
                                      bool serialising)
{
    int *busy = &state->busy[offset / REGION_BYTES];
    int weight = serialising ? ALONE : 1;
    int others = qatomic_fetch_add(busy, weight);

    g_assert(bytes == REGION_BYTES);
    g_assert(serialising ? others == 0 : others < ALONE);
    qatomic_inc(&state->in_driver);

    yield_in_place();
    yield_in_place();

    qatomic_dec(&state->in_driver);
    others = qatomic_fetch_sub(busy, weight) - weight;
    g_assert(serialising ? others == 0 : others < ALONE);
}

static int coroutine_fn test_co_preadv(BlockDriverState *bs, int64_t offset,
                                       int64_t bytes, QEMUIOVector *qiov,
                                       BdrvRequestFlags flags)
{
    driver_serve(offset, bytes, false);
    return 0;
}

static int coroutine_fn test_co_pwritev(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        BdrvRequestFlags flags)
{
    uint8_t mark;

    qemu_iovec_to_buf(qiov, 0, &mark, 1);
    driver_serve(offset, bytes, mark == MARK_SERIALISING);
    return 0;
}

static int coroutine_fn test_co_flush_to_disk(BlockDriverState *bs)
{
    qatomic_inc(&state->flushes);
    return 0;
}

static int64_t coroutine_fn test_co_getlength(BlockDriverState *bs)
{
    return REGIONS * REGION_BYTES;
}

static BlockDriver bdrv_test = {
    .format_name = "test-tracked",
    .bdrv_co_preadv = test_co_preadv,
    .bdrv_co_pwritev = test_co_pwritev,
    .bdrv_co_flush_to_disk = test_co_flush_to_disk,
    .bdrv_co_getlength = test_co_getlength,
};

/* The work that one coroutine repeats */
typedef struct Load {
    BlockBackend *blk;
    AioContext *home;
    AioContext *away;
    GRand *rand;
    int *running;
    bool wander;
} Load;

static void coroutine_fn load_entry(void *opaque)
{
    Load *load = opaque;
    g_autofree uint8_t *buf = g_malloc0(REGION_BYTES);

    for (int i = 0; i < REQUESTS / DEPTH; i++) {
        int64_t offset = g_rand_int_range(load->rand, 0, REGIONS) *
                         REGION_BYTES;
        int kind = g_rand_int_range(load->rand, 0, 20);
        int ret;

        if (load->wander && kind == 19) {
            AioContext *to = qemu_get_current_aio_context() == load->home ?
                             load->away : load->home;

            aio_co_reschedule_self(to);
        }
        buf[0] = kind == 0 ? MARK_SERIALISING : 0;
        if (kind < 8) {
            ret = blk_co_pwrite(load->blk, offset, REGION_BYTES, buf,
                                kind == 0 ? BDRV_REQ_SERIALISING : 0);
        } else {
            ret = blk_co_pread(load->blk, offset, REGION_BYTES, buf, 0);
        }
        g_assert(ret >= 0);
    }

    g_rand_free(load->rand);
    qatomic_dec(load->running);
    aio_wait_kick();
}

static void check_idle(BlockDriverState *bs, BlockBackend *blk)
{
    g_assert_cmpint(qatomic_read(&state->in_driver), ==, 0);
    g_assert_cmpuint(in_flight_count(&bs->in_flight), ==, 0);
    for (int i = 0; i < REGIONS; i++) {
        g_assert_cmpint(qatomic_read(&state->busy[i]), ==, 0);
    }
}

static BlockBackend *node_add(const char *name, BlockDriverState **bs)
{
    BlockBackend *blk;

    *bs = bdrv_new_open_driver(&bdrv_test, name, BDRV_O_RDWR, &error_abort);
    (*bs)->total_sectors = REGIONS * REGION_BYTES / BDRV_SECTOR_SIZE;
    blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL, BLK_PERM_ALL);
    blk_insert_bs(blk, *bs, &error_abort);
    return blk;
}

static BlockBackend *node_open(BlockDriverState **bs)
{
    state = g_new0(TestState, 1);
    return node_add("node", bs);
}

static void node_close(BlockDriverState *bs, BlockBackend *blk)
{
    blk_unref(blk);
    bdrv_unref(bs);
    g_free(state);
}

static void hammer(bool wander)
{
    g_autofree Load *loads = g_new0(Load, THREADS * DEPTH);
    IOThread *iothreads[THREADS];
    BlockDriverState *bs;
    BlockBackend *blk;
    int running = THREADS * DEPTH;
    unsigned drains = 0;

    blk = node_open(&bs);
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (int i = 0; i < THREADS * DEPTH; i++) {
        Load *load = &loads[i];

        *load = (Load) {
            .blk = blk,
            .home = iothread_get_aio_context(iothreads[i % THREADS]),
            .away = iothread_get_aio_context(iothreads[(i + 1) % THREADS]),
            .rand = g_rand_new_with_seed(i),
            .running = &running,
            .wander = wander,
        };
        aio_co_schedule(load->home, qemu_coroutine_create(load_entry, load));
    }

    do {
        bdrv_drained_begin(bs);
        check_idle(bs, blk);
        if (drains++ % 4 == 0) {
            bdrv_graph_wrlock();
            check_idle(bs, blk);
            bdrv_graph_wrunlock();
        }
        bdrv_drained_end(bs);
        aio_poll(qemu_get_aio_context(), false);
    } while (qatomic_read(&running));

    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }
    check_idle(bs, blk);
    g_assert_cmpuint(bs->tracked_requests.scanning, ==, 0);

    node_close(bs, blk);
}

static void test_hammer(void)
{
    hammer(false);
}

static void test_wander(void)
{
    hammer(true);
}

static void coroutine_fn write_entry(void *opaque)
{
    Load *load = opaque;
    g_autofree uint8_t *buf = g_malloc0(REGION_BYTES);

    g_assert(blk_co_pwrite(load->blk, 0, REGION_BYTES, buf, 0) >= 0);
    qatomic_dec(load->running);
    aio_wait_kick();
}

/* A flush reaches the disk after a write of any thread, and only then. */
static void test_flush(void)
{
    BlockDriverState *bs;
    BlockBackend *blk = node_open(&bs);

    g_assert(blk_flush(blk) >= 0);
    g_assert_cmpint(state->flushes, ==, 0);

    for (int i = 0; i < THREADS; i++) {
        IOThread *iothread = iothread_new();
        int running = 1;
        Load load = { .blk = blk, .running = &running };

        for (int write = 1; write <= 2; write++) {
            qatomic_set(&running, 1);
            aio_co_schedule(iothread_get_aio_context(iothread),
                            qemu_coroutine_create(write_entry, &load));
            AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&running));
            for (int flush = 0; flush < 2; flush++) {
                g_assert(blk_flush(blk) >= 0);
                g_assert_cmpint(state->flushes, ==, 2 * i + write);
            }
        }
        iothread_join(iothread);
    }
    node_close(bs, blk);
}

/* A serialising request sets the alert, which later ends. */
static void test_alert(void)
{
    g_autofree uint8_t *buf = g_malloc0(REGION_BYTES);
    BlockDriverState *bs;
    BlockBackend *blk = node_open(&bs);

    g_assert(blk_pwrite(blk, 0, REGION_BYTES, buf, 0) >= 0);
    g_assert(!bs->tracked_requests.alert);

    for (int round = 0; round < 2; round++) {
        buf[0] = MARK_SERIALISING;
        for (int i = 0; i < 10; i++) {
            g_assert(blk_pwrite(blk, 0, REGION_BYTES, buf,
                                BDRV_REQ_SERIALISING) >= 0);
            g_assert(bs->tracked_requests.alert);
        }
        buf[0] = 0;
        for (int i = 0; i < 2000; i++) {
            g_assert(blk_pwrite(blk, 0, REGION_BYTES, buf, 0) >= 0);
        }
        g_assert(!bs->tracked_requests.alert);
    }
    node_close(bs, blk);
}

/* Return the number of barriers since @before. */
static unsigned barriers_since(AsymCount before)
{
    return asym_mb_begun() - before;
}

#define NODES 200

/* After so many requests to a node, those of the thread have no barrier. */
#define READS 100

/* A drain takes one barrier for all nodes that were busy since the last one. */
static void test_sweep(void)
{
    uint8_t buf[REGION_BYTES];
    BlockDriverState *bs[NODES];
    BlockBackend *blk[NODES];
    AsymCount before;

    state = g_new0(TestState, 1);
    for (int i = 0; i < NODES; i++) {
        g_autofree char *name = g_strdup_printf("node%d", i);

        blk[i] = node_add(name, &bs[i]);
        for (int k = 0; k < (i % 2 ? READS : 0); k++) {
            g_assert(blk_pread(blk[i], 0, REGION_BYTES, buf, 0) >= 0);
        }
    }

    for (int round = 0; round < 3; round++) {
        unsigned barriers = round ? 0 : 1;

        before = asym_mb_begun();
        bdrv_drain_all_begin();
        g_assert_cmpuint(barriers_since(before), ==, barriers);
        for (int i = 0; i < NODES; i++) {
            check_idle(bs[i], blk[i]);
        }
        g_assert_cmpuint(barriers_since(before), ==, barriers);
        bdrv_drain_all_end();
        g_assert_cmpuint(barriers_since(before), ==, barriers);
    }

    for (int i = 0; i < NODES; i++) {
        blk_unref(blk[i]);
        bdrv_unref(bs[i]);
    }
    g_free(state);
}

/* A list of requests with no node around it. */
typedef struct List {
    TrackedRequests tracked;
    QemuMutex lock;
    BdrvTrackedRequest *reqs;
    TrackedCell **cells;
    int count;
} List;

static void list_open(List *list, int count)
{
    *list = (List) {
        .count = count,
        .reqs = g_new0(BdrvTrackedRequest, count),
        .cells = g_new0(TrackedCell *, count),
    };
    qemu_mutex_init(&list->lock);
}

static void list_close(List *list)
{
    g_assert(tracked_requests_empty(&list->tracked));
    tracked_requests_cleanup(&list->tracked);
    qemu_mutex_destroy(&list->lock);
    g_free(list->reqs);
    g_free(list->cells);
}

static void list_add(List *list, int i)
{
    g_assert(!list->cells[i]);
    list->cells[i] = tracked_requests_add(&list->tracked, &list->lock,
                                          &list->reqs[i]);
}

static void list_remove(List *list, int i)
{
    tracked_requests_remove(&list->tracked, &list->lock,
                            g_steal_pointer(&list->cells[i]));
}

/* Check that a walk finds exactly the added requests.  Return its cost. */
static unsigned list_walk(List *list)
{
    TrackedWalk walk = { 0 };
    BdrvTrackedRequest *req;
    int expected = 0;
    int found = 0;

    for (int i = 0; i < list->count; i++) {
        expected += !!list->cells[i];
    }

    QEMU_LOCK_GUARD(&list->lock);
    tracked_requests_scan_begin(&list->tracked);
    while ((req = tracked_requests_next(&list->tracked, &walk))) {
        g_assert(list->cells[req - list->reqs]);
        found++;
    }
    tracked_requests_scan_end(&list->tracked);
    g_assert_cmpint(found, ==, expected);
    return walk.visited;
}

#define CROWD 1000

/* A walk costs what is under way, and a glance at what once was. */
static void test_walk(void)
{
    unsigned glance, visited;
    List list;

    list_open(&list, CROWD);
    g_assert_cmpuint(list_walk(&list), ==, 0);
    for (int i = 0; i < CROWD; i++) {
        list_add(&list, i);
    }
    visited = list_walk(&list);
    for (int i = 0; i < CROWD; i++) {
        list_remove(&list, i * 7 % CROWD);
    }
    glance = list_walk(&list);
    g_assert_cmpuint(glance, <, CROWD / 25);
    g_assert_cmpuint(visited, ==, CROWD + glance);

    /* Wherever they are */
    for (int i = 0; i < CROWD; i++) {
        list_add(&list, i);
    }
    for (int i = 0; i < CROWD; i++) {
        if (i % 100) {
            list_remove(&list, i);
        }
    }
    g_assert_cmpuint(list_walk(&list), ==, CROWD / 100 + glance);
    for (int i = 0; i < CROWD; i += 100) {
        list_remove(&list, i);
    }
    list_close(&list);
}

static void *remove_all(void *opaque)
{
    List *list = opaque;

    for (int i = 0; i < list->count; i++) {
        if (list->cells[i]) {
            list_remove(list, i);
        }
    }
    return NULL;
}

/* Cells that another thread has returned are used again. */
static void test_returned(void)
{
    unsigned first = 0;
    QemuThread thread;
    List list;

    list_open(&list, CROWD);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < CROWD; i++) {
            list_add(&list, i);
        }
        if (!round) {
            first = list_walk(&list);
        }
        g_assert_cmpuint(list_walk(&list), ==, first);

        /* Some end at home */
        for (int i = round % 2; i < CROWD; i += 3) {
            list_remove(&list, i);
        }
        list_walk(&list);
        qemu_thread_create(&thread, "elsewhere", remove_all, &list,
                           QEMU_THREAD_JOINABLE);
        qemu_thread_join(&thread);
        list_walk(&list);
    }
    list_close(&list);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tracked-requests/sweep", test_sweep);
    g_test_add_func("/tracked-requests/walk", test_walk);
    g_test_add_func("/tracked-requests/returned", test_returned);
    g_test_add_func("/tracked-requests/alert", test_alert);
    g_test_add_func("/tracked-requests/flush", test_flush);
    g_test_add_func("/tracked-requests/hammer", test_hammer);
    g_test_add_func("/tracked-requests/wander", test_wander);
    return g_test_run();
}
