/*
 * Requests that need a region of a node for themselves, from many threads
 *
 * The disk has larger blocks than sectors.  One thread writes each sector, and
 * another one writes each block with all its sectors.  A value names its writer
 * and its round, so that the test sees a write that gets lost.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "tests/unit/iothread.h"
#include "stepped-disk.h"

#define SECTORS         (DISK_BYTES / SECTOR)
#define BLOCK_SECTORS   (BLOCK / SECTOR)
#define WORDS           (SECTOR / sizeof(uint64_t))

#define THREADS         32
#define ROWS            (SECTORS / THREADS)
#define BLOCKS_IN_ROW   (THREADS / BLOCK_SECTORS)

/* ThreadSanitizer takes many times as long */
#ifdef CONFIG_TSAN
#define ROUNDS          160
#else
#define ROUNDS          2400
#endif

typedef enum Writer {
    WRITER_SECTOR,
    WRITER_BLOCK,
    WRITER__MAX,
} Writer;

typedef struct Hammer {
    BlockBackend *blk;

    /* The newest round that has ended, for each sector */
    int done[SECTORS][WRITER__MAX];

    /* Only sectors below this one are written */
    int limit;
    int running;
} Hammer;

typedef struct Load {
    Hammer *hammer;
    GRand *rand;
    int number;
} Load;

static int64_t next_append;

static uint64_t stamp(int sector, Writer writer, int round)
{
    return (uint64_t)(round * WRITER__MAX + writer) << 32 | sector;
}

static int stamp_round(uint64_t value)
{
    return value / WRITER__MAX >> 32;
}

static Writer stamp_writer(uint64_t value)
{
    return (value >> 32) % WRITER__MAX;
}

static void fill(uint64_t *buf, int sector, Writer writer, int round)
{
    for (int i = 0; i < WORDS; i++) {
        buf[i] = stamp(sector, writer, round);
    }
}

/* Check that @buf is of the last write that its writer has @done, or newer. */
static void check(const uint64_t *buf, int sector, const int *done)
{
    for (int i = 0; i < WORDS; i++) {
        int round = stamp_round(buf[i]);

        if (!buf[i]) {
            g_assert_cmpint(done[WRITER_SECTOR], ==, 0);
            g_assert_cmpint(done[WRITER_BLOCK], ==, 0);
        } else {
            g_assert_cmpint(buf[i] & UINT32_MAX, ==, sector);
            g_assert_cmpint(round, >=, done[stamp_writer(buf[i])]);
        }
    }
}

/* Write @count sectors, and find what was written or something newer. */
static void coroutine_fn write_and_check(Hammer *hammer, int sector, int count,
                                         Writer writer)
{
    Writer other = !writer;
    g_autofree uint64_t *buf = g_malloc(count * SECTOR);
    g_autofree int *done = g_new0(int, count * WRITER__MAX);
    int ret;

    for (int i = 0; i < count; i++) {
        int *old = hammer->done[sector + i];

        /* Of the other, what begins from here on may be newer than ours */
        done[i * WRITER__MAX + other] = qatomic_load_acquire(&old[other]) + 1;
        done[i * WRITER__MAX + writer] = old[writer] + 1;
        fill(&buf[i * WORDS], sector + i, writer, old[writer] + 1);
    }
    ret = blk_co_pwrite(hammer->blk, sector * SECTOR, count * SECTOR, buf, 0);
    g_assert_cmpint(ret, ==, 0);
    for (int i = 0; i < count; i++) {
        int *old = &hammer->done[sector + i][writer];

        qatomic_store_release(old, *old + 1);
    }

    ret = blk_co_pread(hammer->blk, sector * SECTOR, count * SECTOR, buf, 0);
    g_assert_cmpint(ret, ==, 0);
    for (int i = 0; i < count; i++) {
        check(&buf[i * WORDS], sector + i, &done[i * WRITER__MAX]);
    }
}

static void load_end(Load *load)
{
    g_rand_free(load->rand);
    qatomic_dec(&load->hammer->running);
    aio_wait_kick();
}

/* A row has a sector for each thread.  Most of them meet in the last one. */
static int some_row(Load *load)
{
    int rows = qatomic_read(&load->hammer->limit) / THREADS;

    return g_rand_int_range(load->rand, MAX(0, rows - 2), rows);
}

/* Write one sector of each row. */
static void coroutine_fn sector_entry(void *opaque)
{
    Load *load = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        write_and_check(load->hammer, some_row(load) * THREADS + load->number,
                        1, WRITER_SECTOR);
    }
    load_end(load);
}

/* Write one block of each row. */
static void coroutine_fn block_entry(void *opaque)
{
    Load *load = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        int block = some_row(load) * BLOCKS_IN_ROW + load->number;

        write_and_check(load->hammer, block * BLOCK_SECTORS, BLOCK_SECTORS,
                        WRITER_BLOCK);
    }
    load_end(load);
}

/* Read a block that is not allocated, so that the read also writes it. */
static void coroutine_fn copy_on_read(Load *load)
{
    g_autofree uint64_t *buf = g_malloc(BLOCK);
    int end = qatomic_read(&disk->length) / SECTOR;
    int sector = g_rand_int_range(load->rand, MAX(0, end - 2 * THREADS),
                                  end - BLOCK_SECTORS + 1);
    int ret = blk_co_pread(load->hammer->blk, sector * SECTOR, BLOCK, buf,
                           BDRV_REQ_COPY_ON_READ);

    g_assert_cmpint(ret, ==, 0);
}

/* Make the disk larger by a row. */
static void coroutine_fn grow(Hammer *hammer)
{
    int ret;

    qatomic_set(&hammer->limit, hammer->limit + THREADS);
    ret = blk_co_truncate(hammer->blk, hammer->limit * SECTOR, false,
                          PREALLOC_MODE_OFF, 0, &error_abort);
    g_assert_cmpint(ret, ==, 0);
}

static void coroutine_fn grow_entry(void *opaque)
{
    Load *load = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        if (i % (ROUNDS / ROWS) == 0 && load->hammer->limit < SECTORS) {
            grow(load->hammer);
        } else {
            copy_on_read(load);
        }
    }
    load_end(load);
}

static void verify(Hammer *hammer)
{
    uint64_t buf[WORDS];

    for (int i = 0; i < hammer->limit; i++) {
        int ret = blk_pread(hammer->blk, i * SECTOR, SECTOR, buf, 0);

        g_assert_cmpint(ret, ==, 0);
        check(buf, i, hammer->done[i]);
    }
}

#define HAMMER_LOADS (THREADS + BLOCKS_IN_ROW + 1)

typedef struct Crew {
    CoroutineEntry *entry;
    int count;
} Crew;

static void hammer(int64_t length, int limit, const Crew *crews)
{
    g_autofree Hammer *hammer = g_new0(Hammer, 1);
    g_autofree Load *loads = g_new0(Load, HAMMER_LOADS);
    IOThread *iothreads[THREADS];
    int all = 0;

    hammer->blk = disk_open(length);
    hammer->limit = limit;
    disk->forgets = !limit;
    for (int i = 0; i < THREADS; i++) {
        iothreads[i] = iothread_new();
    }
    for (const Crew *crew = crews; crew->entry; crew++) {
        qatomic_add(&hammer->running, crew->count);
        for (int i = 0; i < crew->count; i++, all++) {
            IOThread *iothread = iothreads[all % THREADS];

            loads[all] = (Load) {
                .hammer = hammer,
                .rand = g_rand_new_with_seed(all),
                .number = i,
            };
            aio_co_schedule(iothread_get_aio_context(iothread),
                            qemu_coroutine_create(crew->entry, &loads[all]));
        }
    }
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&hammer->running));
    for (int i = 0; i < THREADS; i++) {
        iothread_join(iothreads[i]);
    }

    g_assert_cmpint(blk_getlength(hammer->blk), ==, disk->length);
    verify(hammer);
    disk_close(hammer->blk);
}

/* A writer for each sector, four blocks in all. */
static void test_sectors(void)
{
    hammer(DISK_BYTES, THREADS, (Crew[]) { { sector_entry, THREADS }, { } });
}

static void test_blocks(void)
{
    hammer(DISK_BYTES, THREADS, (Crew[]) {
        { sector_entry, THREADS }, { block_entry, BLOCKS_IN_ROW }, { }
    });
}

static void test_everything(void)
{
    hammer(BLOCK, THREADS, (Crew[]) {
        { sector_entry, THREADS }, { block_entry, BLOCKS_IN_ROW },
        { grow_entry, 1 }, { }
    });
}

static void coroutine_fn append_entry(void *opaque)
{
    Load *load = opaque;
    g_autofree uint8_t *buf = g_malloc0(BLOCK);

    for (int i = 0; i < ROUNDS; i++) {
        int64_t offset = qatomic_fetch_add(&next_append, BLOCK);
        int ret = blk_co_pwrite(load->hammer->blk, offset, BLOCK, buf, 0);

        g_assert_cmpint(ret, ==, 0);
        g_assert_cmpint(blk_co_getlength(load->hammer->blk), >=,
                        offset + BLOCK);
    }
    load_end(load);
}

/* Several threads write past the end, and the disk has the right size. */
static void test_append(void)
{
    hammer(0, 0, (Crew[]) { { append_entry, THREADS }, { } });
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/serialising-hammer/sectors", test_sectors);
    g_test_add_func("/serialising-hammer/blocks", test_blocks);
    g_test_add_func("/serialising-hammer/everything", test_everything);
    g_test_add_func("/serialising-hammer/append", test_append);
    return g_test_run();
}
