/*
 * The load of the block-layer hammer: forty threads and what they write
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "block/aio-wait.h"
#include "qemu/memalign.h"
#include "block-hammer-load.h"

#define CROWD_WRITES    16

/* Requests of each thread in a round; ThreadSanitizer takes much longer */
#ifdef CONFIG_TSAN
#define REQUESTS        40
#else
#define REQUESTS        160
#endif

int hammer_seed;

/*
 * Contents
 */

static uint64_t stamp(int sector, uint32_t number)
{
    return number % 2 ? (uint64_t)number << 32 | sector : 0;
}

static uint32_t next_number(uint32_t number, bool zero)
{
    return number + (number % 2 == zero ? 1 : 2);
}

void sector_fill(uint64_t *buf, int sector, uint32_t number)
{
    for (int i = 0; i < WORDS; i++) {
        buf[i] = stamp(sector, number);
    }
}

static bool is_of(uint64_t word, int sector, uint32_t oldest, uint32_t newest)
{
    uint32_t number = word >> 32;

    if (!word) {
        return newest > oldest || oldest % 2 == 0;
    }
    return word == stamp(sector, number) && number >= oldest &&
           number <= newest;
}

void sector_check(const uint64_t *buf, int sector, uint32_t oldest,
                  uint32_t newest)
{
    for (int i = 0; i < WORDS; i++) {
        if (!is_of(buf[i], sector, oldest, newest)) {
            g_error("seed %d: sector %d, word %d is %" PRIx64 ", which is of "
                    "sector %d, write %d, but writes %u to %u have been there",
                    hammer_seed, sector, i, buf[i], (int)(uint32_t)buf[i],
                    (int)(buf[i] >> 32), oldest, newest);
        }
    }
}

void sector_zero(Sector *sector)
{
    sector->started = next_number(sector->started, true);
    sector->done = sector->started;
}

/*
 * Snapshots, in the main thread
 */

void frozen_begin(Frozen *frozen, const Hammer *hammer)
{
    frozen->sectors = hammer->sectors;
    for (int i = 0; i < frozen->sectors; i++) {
        frozen->all[i].done = qatomic_load_acquire(&hammer->all[i].done);
    }
}

/* A discard that turns out to have kept the data takes back its number. */
void frozen_end(Frozen *frozen, const Hammer *hammer)
{
    for (int i = 0; i < frozen->sectors; i++) {
        uint32_t started = qatomic_load_acquire(&hammer->all[i].started);

        frozen->all[i].started = MAX(started, frozen->all[i].done);
    }
}

void frozen_check(const Frozen *frozen, BdrvChild *root)
{
    g_autofree uint64_t *buf = g_malloc(RUN_SECTORS * SECTOR);

    for (int i = 0; i < frozen->sectors; i += RUN_SECTORS) {
        int count = MIN(RUN_SECTORS, frozen->sectors - i);

        g_assert_cmpint(bdrv_pread(root, i * SECTOR, count * SECTOR, buf, 0),
                        ==, 0);
        for (int k = 0; k < count; k++) {
            sector_check(&buf[k * WORDS], i + k, frozen->all[i + k].done,
                         frozen->all[i + k].started);
        }
    }
}

/*
 * Requests, in the threads
 */

/* Give each of these sectors its next number. */
static void writer_start(Writer *writer, Run run, bool zero)
{
    Sector *all = &writer->hammer->all[run.first];

    for (int i = 0; i < run.count; i++) {
        uint32_t number = next_number(all[i].started, zero);

        sector_fill(&writer->buf[i * WORDS], run.first + i, number);
        qatomic_store_release(&all[i].zeroes_started,
                              all[i].zeroes_started + zero);
        qatomic_store_release(&all[i].started, number);
    }
}

static void writer_done(Writer *writer, Run run)
{
    Sector *all = &writer->hammer->all[run.first];

    for (int i = 0; i < run.count; i++) {
        qatomic_store_release(&all[i].done, all[i].started);
        qatomic_store_release(&all[i].zeroes_done, all[i].zeroes_started);
    }
}

static void coroutine_fn writer_write(Writer *writer, Run run,
                                      BdrvRequestFlags flags)
{
    writer_start(writer, run, false);
    g_assert_cmpint(blk_co_pwrite(writer->hammer->blk, run.first * SECTOR,
                                  run.count * SECTOR, writer->buf, flags), ==,
                    0);
    writer_done(writer, run);
}

static void coroutine_fn writer_zero(Writer *writer, Run run,
                                     BdrvRequestFlags flags)
{
    writer_start(writer, run, true);
    g_assert_cmpint(blk_co_pwrite_zeroes(writer->hammer->blk,
                                         run.first * SECTOR,
                                         run.count * SECTOR, flags), ==, 0);
    writer_done(writer, run);
}

/* A discard is only advice: each sector has zeroes now or what it had. */
static void coroutine_fn writer_learn(Writer *writer, Run run)
{
    Sector *all = &writer->hammer->all[run.first];

    g_assert_cmpint(blk_co_pread(writer->hammer->blk, run.first * SECTOR,
                                 run.count * SECTOR, writer->buf, 0), ==, 0);
    for (int i = 0; i < run.count; i++) {
        uint64_t *buf = &writer->buf[i * WORDS];

        if (buf[0]) {
            qatomic_store_release(&all[i].started, all[i].done);
        }
        sector_check(buf, run.first + i, all[i].started, all[i].started);
    }
}

static void coroutine_fn writer_discard(Writer *writer, Run run)
{
    int end = QEMU_ALIGN_DOWN(run.first + run.count, 8);

    run.first = ROUND_UP(run.first, 8);
    run.count = end - run.first;
    if (run.count <= 0) {
        return;
    }
    writer_start(writer, run, true);
    g_assert_cmpint(base_co_pdiscard(writer->hammer->blk, run.first * SECTOR,
                                     run.count * SECTOR, 0), ==, 0);
    writer_learn(writer, run);
    writer_done(writer, run);
}

/*
 * Read any sectors, also those that other threads are writing.
 *
 * While a sector is discarded, a read of it may find anything: qcow2 reuses its
 * cluster and does not wait for reads of the old content.
 */
static void coroutine_fn writer_read(Writer *writer, Run run)
{
    Sector *all = &writer->hammer->all[run.first];
    Sector before[RUN_SECTORS];

    for (int i = 0; i < run.count; i++) {
        before[i].zeroes_done = qatomic_load_acquire(&all[i].zeroes_done);
        before[i].done = qatomic_load_acquire(&all[i].done);
    }
    g_assert_cmpint(blk_co_pread(writer->hammer->blk, run.first * SECTOR,
                                 run.count * SECTOR, writer->buf, 0), ==, 0);
    for (int i = 0; i < run.count; i++) {
        uint32_t newest = qatomic_load_acquire(&all[i].started);

        if (qatomic_load_acquire(&all[i].zeroes_started) ==
            before[i].zeroes_done) {
            sector_check(&writer->buf[i * WORDS], run.first + i, before[i].done,
                  newest);
        }
    }
}

/* A part of some run of this writer. */
static Run some_part(Writer *writer)
{
    int sectors = qatomic_read(&writer->hammer->sectors);
    Run run;
    int skip;

    do {
        int which = g_rand_int_range(writer->rand, 0, writer->runs->len);

        run = g_array_index(writer->runs, Run, which);
    } while (run.first + run.count > sectors);
    skip = g_rand_int_range(writer->rand, 0, run.count);
    if (writer->hammer->kind->whole_blocks) {
        skip = QEMU_ALIGN_DOWN(skip, 8);
    }
    run.first += skip;
    run.count -= skip;
    return run;
}

static Run anywhere(Writer *writer)
{
    int sectors = qatomic_read(&writer->hammer->sectors);
    int count = g_rand_int_range(writer->rand, 1, RUN_SECTORS + 1);

    return (Run) {
        g_rand_int_range(writer->rand, 0, sectors - count), count
    };
}

static void coroutine_fn writer_request(Writer *writer)
{
    Run run = some_part(writer);
    int kind = g_rand_int_range(writer->rand, 0, 32);

    switch (kind) {
    case 0 ... 17:
        writer_write(writer, run, kind == 0 ? BDRV_REQ_FUA : 0);
        break;
    case 18 ... 21:
        writer_zero(writer, run, kind % 2 ? BDRV_REQ_MAY_UNMAP : 0);
        break;
    case 22 ... 24:
        writer_discard(writer, run);
        break;
    case 25:
        g_assert_cmpint(blk_co_flush(writer->hammer->blk), ==, 0);
        break;
    default:
        writer_read(writer, anywhere(writer));
        break;
    }
    if (kind % 4 == 0) {
        writer_read(writer, run);
    }
}

/* Write in the area in which each writer has a sector or a block. */
static void coroutine_fn writer_crowd(Writer *writer)
{
    Run run = g_array_index(writer->runs, Run, 0);

    for (int i = 0; i < CROWD_WRITES; i++) {
        writer_write(writer, run, 0);
        writer_read(writer, run);
    }
}

void coroutine_fn writer_entry(void *opaque)
{
    Writer *writer = opaque;

    for (int i = 0; i < REQUESTS; i++) {
        if (i % 8 == 0) {
            writer_crowd(writer);
        }
        writer_request(writer);
    }
    qatomic_dec(&writer->hammer->running);
    aio_wait_kick();
}

/*
 * The runs of each writer
 */

/* Divide the disk into runs of some sectors, each with a random writer. */
void writers_new(Hammer *hammer)
{
    int unit = hammer->kind->whole_blocks ? 8 : 1;
    Run run;

    for (int i = 0; i < THREADS; i++) {
        hammer->writers[i] = (Writer) {
            .hammer = hammer,
            .rand = g_rand_new_with_seed(hammer_seed + i + 1),
            .runs = g_array_new(false, false, sizeof(Run)),
            .buf = qemu_memalign(4096, RUN_SECTORS * SECTOR),
        };
    }
    for (int i = 0, at = 0; at < DISK_SECTORS_MAX; at += run.count, i++) {
        /* All have runs at the beginning */
        int owner = i < THREADS ? i : g_rand_int_range(hammer->rand, 0,
                                                       THREADS);
        bool large = i >= 2 * THREADS && i % 8 == 0;
        int max = i < THREADS ? 1 : large ? RUN_SECTORS / unit : 6;

        run.first = at;
        run.count = unit * g_rand_int_range(hammer->rand, 1, max + 1);
        run.count = MIN(run.count, DISK_SECTORS_MAX - at);
        g_array_append_val(hammer->writers[owner].runs, run);
    }
}

void writers_free(Hammer *hammer)
{
    for (int i = 0; i < THREADS; i++) {
        g_rand_free(hammer->writers[i].rand);
        g_array_free(hammer->writers[i].runs, true);
        qemu_vfree(hammer->writers[i].buf);
    }
}
