/*
 * Writes to a qcow2 image from many threads
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/aio-wait.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"
#include "qcow2-hammer.h"

#define WRITE_SECTORS   24

/* The work that one coroutine repeats */
typedef struct Load {
    TestImage *image;
    GRand *rand;
    uint64_t *buf;
} Load;

void image_use(TestImage *image, BlockBackend *blk)
{
    image->blk = blk;
    image->bs = blk_bs(blk);
    image->s = image->bs->opaque;
}

/*
 * Contents
 */

static uint64_t stamp(int64_t sector, int number)
{
    return number % 2 ? (uint64_t)number << 32 | sector : 0;
}

static int next_number(int number, bool zero)
{
    return number + (number % 2 == zero ? 1 : 2);
}

static uint64_t *sector_buf(uint64_t *buf, int i)
{
    return buf + i * SECTOR / sizeof(*buf);
}

static void fill(uint64_t *buf, int64_t sector, int number)
{
    for (int i = 0; i < SECTOR / sizeof(*buf); i++) {
        buf[i] = stamp(sector, number);
    }
}

static void check(const uint64_t *buf, int64_t sector, int number)
{
    for (int i = 0; i < SECTOR / sizeof(*buf); i++) {
        g_assert_cmphex(buf[i], ==, stamp(sector, number));
    }
}

void image_verify(TestImage *image)
{
    g_autofree uint64_t *buf = g_malloc(WRITE_SECTORS * SECTOR);

    for (int64_t i = 0; i < image->size / SECTOR; i += WRITE_SECTORS) {
        int nb = MIN(WRITE_SECTORS, image->size / SECTOR - i);

        g_assert(blk_pread(image->blk, i * SECTOR, nb * SECTOR, buf, 0) >= 0);
        for (int k = 0; k < nb; k++) {
            check(sector_buf(buf, k), i + k, image->sectors[i + k].done);
        }
    }
}

void image_check(TestImage *image, BdrvCheckMode fix)
{
    BdrvCheckResult result = { 0 };

    /* The check reads the snapshots anew and does not free those there are. */
    qcow2_free_snapshots(image->bs);
    g_assert_cmpint(bdrv_check(image->bs, &result, fix), ==, 0);
    g_assert_cmpint(result.corruptions, ==, 0);
    g_assert_cmpint(result.corruptions_fixed, ==, 0);
    g_assert_cmpint(result.check_errors, ==, 0);
    g_assert_cmpint(result.leaks, ==, 0);
}

/*
 * The load
 */

/* Take free sectors from @first on.  Return how many of @nb were free. */
static int load_own(Load *load, int64_t first, int nb)
{
    TestSector *sectors = load->image->sectors + first;
    int n = 0;

    while (n < nb && qatomic_cmpxchg(&sectors[n].owned, 0, 1) == 0) {
        n++;
    }
    return n;
}

static void load_disown(Load *load, int64_t first, int nb)
{
    for (int i = 0; i < nb; i++) {
        qatomic_store_release(&load->image->sectors[first + i].owned, 0);
    }
}

/* The next number for each of @nb sectors. */
static void load_start(Load *load, int64_t first, int nb, bool zero)
{
    TestSector *sectors = load->image->sectors + first;

    for (int i = 0; i < nb; i++) {
        int next = next_number(sectors[i].started, zero);

        qatomic_store_release(&sectors[i].started, next);
        fill(sector_buf(load->buf, i), first + i, next);
    }
}

static void load_done(Load *load, int64_t first, int nb)
{
    TestSector *sectors = load->image->sectors + first;

    for (int i = 0; i < nb; i++) {
        sectors[i].done = sectors[i].started;
    }
}

static void coroutine_fn load_read(Load *load, int64_t first, int nb)
{
    g_assert(blk_co_pread(load->image->blk, first * SECTOR, nb * SECTOR,
                          load->buf, 0) >= 0);
    for (int i = 0; i < nb; i++) {
        check(sector_buf(load->buf, i), first + i,
              load->image->sectors[first + i].done);
    }
}

static void coroutine_fn load_flush(Load *load, int64_t first, int nb)
{
    TestSector *sectors = load->image->sectors + first;

    g_assert(blk_co_flush(load->image->blk) >= 0);
    for (int i = 0; i < nb; i++) {
        qatomic_store_release(&sectors[i].flushed, sectors[i].done);
    }
}

static void coroutine_fn load_write(Load *load, int64_t first, int nb)
{
    load_start(load, first, nb, false);
    g_assert(blk_co_pwrite(load->image->blk, first * SECTOR, nb * SECTOR,
                           load->buf, 0) >= 0);
    load_done(load, first, nb);
}

static void coroutine_fn load_zero(Load *load, int64_t first, int nb,
                                   BdrvRequestFlags flags)
{
    load_start(load, first, nb, true);
    g_assert(blk_co_pwrite_zeroes(load->image->blk, first * SECTOR,
                                  nb * SECTOR, flags) >= 0);
    load_done(load, first, nb);
}

/* Whole clusters, for what is left of others may have zeroes or not. */
static void coroutine_fn load_discard(Load *load, int64_t first, int nb)
{
    int cluster = load->image->s->cluster_size / SECTOR;
    int64_t begin = ROUND_UP(first, cluster);
    int64_t end = QEMU_ALIGN_DOWN(first + nb, cluster);

    if (begin < end) {
        load_start(load, begin, end - begin, true);
        g_assert(base_co_pdiscard(load->image->blk, begin * SECTOR,
                                  (end - begin) * SECTOR, 0) >= 0);
        load_done(load, begin, end - begin);
    }
}

static void coroutine_fn load_request(Load *load, int64_t first, int nb)
{
    int kind = g_rand_int_range(load->rand, 0, 24);

    switch (kind) {
    case 0 ... 13:
        load_write(load, first, nb);
        break;
    case 14 ... 17:
        load_zero(load, first, nb, kind % 2 ? BDRV_REQ_MAY_UNMAP : 0);
        break;
    case 18 ... 20:
        load_discard(load, first, nb);
        break;
    default:
        load_read(load, first, nb);
        break;
    }
    if (kind % 4 == 0) {
        load_read(load, first, nb);
    }
    if (kind % 6 == 0) {
        load_flush(load, first, nb);
    }
}

static void coroutine_fn load_entry(void *opaque)
{
    Load *load = opaque;
    TestImage *image = load->image;

    for (unsigned i = 0; i < image->requests; i++) {
        int64_t sectors = qatomic_read(&image->size) / SECTOR;
        int64_t first;
        int nb;

        /* A third of them in a few clusters, which are freed again and again */
        if (i % 3 == 0) {
            sectors = 8 * image->s->cluster_size / SECTOR;
        }
        first = g_rand_int_range(load->rand, 0, sectors - WRITE_SECTORS);
        nb = load_own(load, first,
                      g_rand_int_range(load->rand, 1, WRITE_SECTORS + 1));
        if (nb) {
            if (image->request) {
                image->request(image);
            }
            load_request(load, first, nb);
            load_disown(load, first, nb);
        }
    }

    g_rand_free(load->rand);
    qemu_vfree(load->buf);
    g_free(load);
    qatomic_dec(&image->running);
    aio_wait_kick();
}

void image_load(TestImage *image, int seed, void (*control)(TestImage *image))
{
    IOThread *iothreads[THREADS];

    image->running = THREADS * DEPTH;
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (int i = 0; i < THREADS * DEPTH; i++) {
        Load *load = g_new0(Load, 1);

        load->image = image;
        load->rand = g_rand_new_with_seed(seed + i);
        load->buf = qemu_memalign(SECTOR, WRITE_SECTORS * SECTOR);
        aio_co_schedule(iothread_get_aio_context(iothreads[i % THREADS]),
                        qemu_coroutine_create(load_entry, load));
    }
    while (qatomic_read(&image->running) || (control && image->step % 8)) {
        if (control) {
            control(image);
            image->step++;
        } else {
            AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&image->running));
        }
    }
    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }
}

/*
 * Failures
 */

void image_keep(TestImage *image)
{
    for (int64_t i = 0; i < DISK_SECTORS; i++) {
        TestSector *sector = &image->sectors[i];

        image->kept[i].flushed = qatomic_load_acquire(&sector->flushed);
        image->kept[i].started = qatomic_load_acquire(&sector->started);
    }
}

void sector_next(TestSector *sector, bool zero)
{
    sector->started = next_number(sector->started, zero);
    sector->done = sector->started;
}

static void sector_zero(TestSector *sector)
{
    sector_next(sector, true);
    sector->flushed = sector->started;
}

void image_recover(TestImage *image)
{
    g_autofree char *zeroes = g_malloc0(SECTOR);
    g_autofree uint64_t *buf = g_malloc(SECTOR);

    for (int64_t i = 0; i < image->size / SECTOR; i++) {
        TestSector *sector = &image->sectors[i];

        sector->owned = 0;
        sector->started = image->kept[i].started;
        if (image->kept[i].flushed == sector->started) {
            g_assert(blk_pread(image->blk, i * SECTOR, SECTOR, buf, 0) >= 0);
            check(buf, i, sector->started);
            sector->done = sector->started;
            sector->flushed = sector->started;
        } else {
            g_assert(blk_pwrite(image->blk, i * SECTOR, SECTOR, zeroes,
                                0) >= 0);
            sector_zero(sector);
        }
    }
}

void image_thin(TestImage *image, GRand *rand)
{
    int64_t bytes = 16 * image->s->cluster_size;

    for (int64_t offset = 0; offset < image->size; offset += bytes) {
        if (g_rand_int_range(rand, 0, 4)) {
            g_assert(blk_pwrite_zeroes(image->blk, offset, bytes,
                                       BDRV_REQ_MAY_UNMAP) >= 0);
            for (int64_t i = 0; i < bytes / SECTOR; i++) {
                sector_zero(&image->sectors[offset / SECTOR + i]);
            }
        }
    }
    g_assert(blk_flush(image->blk) >= 0);
}
