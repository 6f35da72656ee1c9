/*
 * Blocks of a bare device, each with one writer
 *
 *     stripe  0 (64 KiB)   1                2 (64 KiB)   3
 *             writer 0     blocks in turn:  writer 1     blocks in turn:
 *                          0, 1, ... 15,                 0, 1, ... 15,
 *                          0, 1, ...                     0, 1, ...
 *
 * So there are requests of many blocks, and neighbours of one block that
 * different queues write at the same time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define AREA        (32u << 20)
#define STRIPE      (64u << 10)
#define STRIPES     (AREA / STRIPE)
#define ROUND       16          /* operations between two flushes */
#define READERS     4
#define CHUNK       (256u << 10)

typedef enum OpKind { OP_WRITE, OP_ZERO, OP_DISCARD, OP_READ } OpKind;

typedef struct Op {
    OpKind kind;
    uint32_t first, count;      /* blocks */
} Op;

static struct {
    int fd;
    uint64_t epoch;
    unsigned block, per_stripe, blocks;
    /* The operation that wrote a block last; 0: blocks_start() did. */
    uint32_t *last;
    uint8_t *buffers[WRITERS];
    /* For blocks_verify(), else 0. */
    unsigned slack;
    const uint64_t *done;
} disk;

static void *aligned(size_t size)
{
    void *buffer;

    if (posix_memalign(&buffer, 4096, size)) {
        perror("posix_memalign");
        exit(1);
    }
    return buffer;
}

static int owner(uint32_t block)
{
    uint32_t stripe = block / disk.per_stripe;

    return (stripe & 1 ? block : stripe / 2) % WRITERS;
}

/* Operation @number, from 1 on, of a writer. */
static Op op_of(int writer, uint32_t number)
{
    uint64_t h = mix(disk.epoch, writer, number);
    uint32_t pick = h >> 8 & 0xffff, within = h >> 24 & 0xffff;
    uint32_t length = h >> 40 & 0xffff;
    uint32_t stripe = pick % (STRIPES / 2 / WRITERS) * WRITERS + writer;
    Op op = { .kind = OP_WRITE, .count = 1 };

    if ((h & 15) < 6) {
        stripe = pick % (STRIPES / 2) * 2 + 1;
        op.first = stripe * disk.per_stripe +
            within % (disk.per_stripe / WRITERS) * WRITERS + writer;
        return op;
    }
    op.first = stripe * 2 * disk.per_stripe + within % disk.per_stripe;
    op.count = 1 + length % (disk.per_stripe - within % disk.per_stripe);
    switch (h & 15) {
    case 13:
        op.kind = OP_ZERO;
        break;
    case 14:
        op.kind = OP_DISCARD;
        break;
    case 15:
    case 12:
        op.kind = OP_READ;
        break;
    default:
        break;
    }
    return op;
}

static uint64_t key_of(uint32_t block, uint32_t number)
{
    return mix(disk.epoch ^ 0xb10c, block, number);
}

static void content_fill(uint8_t *buffer, uint32_t block, uint32_t number)
{
    pattern_fill(buffer, disk.block, key_of(block, number));
}

static bool content_is(const uint8_t *buffer, uint32_t block, uint32_t number)
{
    static const uint8_t zeroes[4096];

    if (number && op_of(owner(block), number).kind != OP_WRITE) {
        return !memcmp(buffer, zeroes, disk.block);
    }
    return pattern_is(buffer, disk.block, key_of(block, number));
}

/* Which operation has left this?  For the message, so it may take long. */
static int64_t whose(const uint8_t *buffer, uint32_t block)
{
    int64_t number = (int64_t)disk.last[block] + 4 * ROUND;

    for (; number >= 0; number--) {
        if (pattern_is(buffer, disk.block, key_of(block, number))) {
            return number;
        }
    }
    return -1;
}

static void complain(const uint8_t *buffer, uint32_t block)
{
    uint64_t word;

    memcpy(&word, buffer, sizeof(word));
    fail("the block at %" PRIu64 ", of writer %d: must be of operation %" PRIu32
         ", is of %" PRId64 ", begins with %016" PRIx64,
         (uint64_t)block * disk.block, owner(block), disk.last[block],
         whose(buffer, block), word);
}

/* What may have reached the disk after the flush that was reported last. */
static bool is_later(const uint8_t *buffer, uint32_t block)
{
    int writer = owner(block);
    unsigned i;

    for (i = 1; i <= disk.slack; i++) {
        uint32_t number = disk.done[writer] + i;
        Op op = op_of(writer, number);

        if (op.kind != OP_READ && block >= op.first &&
            block - op.first < op.count && content_is(buffer, block, number)) {
            return true;
        }
    }
    return false;
}

static void compare(const uint8_t *buffer, uint32_t first, uint32_t count)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        const uint8_t *block = buffer + (size_t)i * disk.block;

        if (!content_is(block, first + i, disk.last[first + i]) &&
            !is_later(block, first + i)) {
            complain(block, first + i);
            return;
        }
    }
}

static void transfer(bool is_write, void *buffer, uint32_t first,
                     uint32_t count)
{
    ssize_t size = (ssize_t)count * disk.block, done;
    off_t offset = (off_t)first * disk.block;

    done = is_write ? pwrite(disk.fd, buffer, size, offset)
                    : pread(disk.fd, buffer, size, offset);
    if (done != size) {
        fail("%s of %zd bytes at %jd: %s", is_write ? "write" : "read", size,
             (intmax_t)offset, done < 0 ? strerror(errno) : "not all done");
    }
}

static void clear(int mode, const Op *op)
{
    if (fallocate(disk.fd, mode, (off_t)op->first * disk.block,
                  (off_t)op->count * disk.block)) {
        fail("zeroes at %jd: %s", (intmax_t)op->first * disk.block,
             strerror(errno));
    }
}

static void operate(int writer)
{
    uint32_t number = crew_blocks.done[writer] + 1, i;
    uint8_t *buffer = disk.buffers[writer];
    Op op = op_of(writer, number);

    switch (op.kind) {
    case OP_READ:
        transfer(false, buffer, op.first, op.count);
        if (!failure()) {
            compare(buffer, op.first, op.count);
        }
        break;
    case OP_WRITE:
        for (i = 0; i < op.count; i++) {
            content_fill(buffer + (size_t)i * disk.block, op.first + i,
                         number);
        }
        transfer(true, buffer, op.first, op.count);
        break;
    case OP_DISCARD:
    case OP_ZERO:
        clear(op.kind == OP_ZERO ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
              : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, &op);
        break;
    }
    if (op.kind != OP_READ) {
        for (i = 0; i < op.count; i++) {
            disk.last[op.first + i] = number;
        }
    }
    if (number % ROUND == 0) {
        if (fdatasync(disk.fd)) {
            fail("flush: %s", strerror(errno));
        } else if (!failure()) {
            report("b %d %" PRIu32 "\n", writer, number);
        }
    }
}

Crew crew_blocks = { .operate = operate };

static void disk_open(const char *path, uint64_t epoch, unsigned block,
                      int flags)
{
    disk.fd = open(path, flags | O_DIRECT | O_CLOEXEC);
    if (disk.fd < 0) {
        perror(path);
        exit(1);
    }
    disk.epoch = epoch;
    disk.block = block;
    disk.per_stripe = STRIPE / block;
    disk.blocks = AREA / block;
    disk.last = calloc(disk.blocks, sizeof(*disk.last));
    if (!disk.last) {
        perror("calloc");
        exit(1);
    }
}

void blocks_start(const char *path, uint64_t epoch, unsigned block)
{
    uint8_t *buffer = aligned(CHUNK);
    uint32_t first, i, step = CHUNK / block;

    disk_open(path, epoch, block, O_RDWR);
    for (first = 0; first < disk.blocks; first += step) {
        for (i = 0; i < step; i++) {
            content_fill(buffer + (size_t)i * block, first + i, 0);
        }
        transfer(true, buffer, first, step);
    }
    if (fdatasync(disk.fd)) {
        fail("flush: %s", strerror(errno));
    }
    free(buffer);
    for (i = 0; i < WRITERS; i++) {
        disk.buffers[i] = aligned(STRIPE);
    }
    report("B %" PRIu64 "\n", epoch);
    crew_start(&crew_blocks);
}

/* Each reader has a quarter of the disk, and another CPU the next time. */
static void *reader(void *number)
{
    uint32_t share = disk.blocks / READERS, step = CHUNK / disk.block;
    uint32_t first = share * (uint32_t)(intptr_t)number, i;
    uint8_t *buffer = aligned(CHUNK);
    static int shift;

    on_cpu((intptr_t)number + __atomic_fetch_add(&shift, 1, __ATOMIC_RELAXED));
    for (i = 0; i < share && !failure(); i += step) {
        transfer(false, buffer, first + i, step);
        if (!failure()) {
            compare(buffer, first + i, step);
        }
    }
    free(buffer);
    return NULL;
}

uint64_t blocks_check(void)
{
    pthread_t threads[READERS];
    int i;

    for (i = 0; i < READERS; i++) {
        if (pthread_create(&threads[i], NULL, reader, (void *)(intptr_t)i)) {
            perror("pthread_create");
            exit(1);
        }
    }
    for (i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    return AREA;
}

uint64_t blocks_verify(const char *path, uint64_t epoch, unsigned block,
                       const uint64_t *done, unsigned slack)
{
    uint32_t number, i;
    int writer;

    disk_open(path, epoch, block, O_RDONLY);
    disk.done = done;
    disk.slack = slack;
    for (writer = 0; writer < WRITERS; writer++) {
        for (number = 1; number <= done[writer]; number++) {
            Op op = op_of(writer, number);

            for (i = 0; op.kind != OP_READ && i < op.count; i++) {
                disk.last[op.first + i] = number;
            }
        }
    }
    return blocks_check();
}
