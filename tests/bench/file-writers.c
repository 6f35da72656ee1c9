/*
 * What the host's kernel alone makes of several threads that write to a file
 *
 *   usage: file-writers FILE write|allocate THREADS MS
 *
 * Each thread writes blocks of 4 KiB with O_DIRECT, one after the other.
 * "write" writes to random blocks of a file that has all its data.  "allocate"
 * does what a qcow2 image does for a write to a new cluster: it clears 64 KiB
 * at the end of the file with fallocate(), and then writes there.
 *
 * The output is {"ops": all threads', "elapsed_ns": , "cpu_ns": all threads'}.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK = 4096,
    CLUSTER = 65536,
    FILE_BLOCKS = 16384,        /* "write" */
    FILE_CLUSTERS = 16384,      /* "allocate" begins again then */
    MAX_THREADS = 256,
};

typedef struct Writer {
    pthread_t thread;
    uint64_t random, ops, cpu_ns;
} Writer;

static int fd;
static bool allocate;
static atomic_bool stop;
static atomic_uint next_cluster;
static char data[BLOCK] __attribute__((aligned(BLOCK)));

static void __attribute__((noreturn)) die(const char *what)
{
    fprintf(stderr, "file-writers: %s: %s\n", what,
            errno ? strerror(errno) : "wrong");
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

static void write_block(off_t offset)
{
    if (pwrite(fd, data, BLOCK, offset) != BLOCK) {
        die("write");
    }
}

static off_t new_cluster(void)
{
    unsigned n = atomic_fetch_add(&next_cluster, 1);
    off_t offset = (off_t)(n % FILE_CLUSTERS) * CLUSTER;

    if (fallocate(fd, FALLOC_FL_ZERO_RANGE, offset, CLUSTER) &&
        fallocate(fd, 0, offset, CLUSTER)) {
        die("fallocate");
    }
    return offset;
}

static void *writer_run(void *opaque)
{
    Writer *w = opaque;

    /* Once at least, so that there is something to divide by */
    do {
        w->random = w->random * UINT64_C(6364136223846793005) + 1442695040;
        write_block(allocate ? new_cluster() :
                    (off_t)((w->random >> 33) % FILE_BLOCKS) * BLOCK);
        w->ops++;
    } while (!atomic_load_explicit(&stop, memory_order_relaxed));
    w->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static void file_open(const char *path)
{
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);
    if (fd < 0) {
        die(path);
    }
    unlink(path);
    for (int i = 0; !allocate && i < FILE_BLOCKS; i++) {
        write_block((off_t)i * BLOCK);
    }
}

static unsigned long number(const char *text, unsigned long max)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end || end == text || !n || n > max) {
        errno = 0;
        die(text);
    }
    return n;
}

int main(int argc, char **argv)
{
    static Writer writers[MAX_THREADS];
    uint64_t ops = 0, cpu_ns = 0, started;
    unsigned n, ms;

    if (argc != 5 || (strcmp(argv[2], "write") &&
                      strcmp(argv[2], "allocate"))) {
        errno = 0;
        die("usage: file-writers FILE write|allocate THREADS MS");
    }
    allocate = !strcmp(argv[2], "allocate");
    n = number(argv[3], MAX_THREADS);
    ms = number(argv[4], 3600 * 1000);
    file_open(argv[1]);

    started = clock_ns(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < n; i++) {
        writers[i].random = i;
        if (pthread_create(&writers[i].thread, NULL, writer_run, &writers[i])) {
            die("a thread");
        }
    }
    usleep(ms * 1000);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(writers[i].thread, NULL);
        ops += writers[i].ops;
        cpu_ns += writers[i].cpu_ns;
    }
    printf("{\"ops\": %" PRIu64 ", \"elapsed_ns\": %" PRIu64 ", \"cpu_ns\": %"
           PRIu64 "}\n", ops, clock_ns(CLOCK_MONOTONIC) - started, cpu_ns);
    return 0;
}
