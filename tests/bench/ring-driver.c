/*
 * A driver of a paravirtual disk that lives on the host
 *
 *   this program                       guest memory                  QEMU
 *  +-------------+        +-----------------------------+        +---------+
 *  | fill, kick, | -----> | rings, control data         | -----> | device, |
 *  | collect     | <----- | data                        | <----- | a queue |
 *  |             |        | MSI-X words (virtio)        | <----- | each    |
 *  +-------------+        +-----------------------------+        +---------+
 *        |                                                         ^    |
 *        +---- kicks: qtest socket (virtio), eventfds (Xen) -------+    |
 *        +<--- events: eventfds (Xen) ----------------------------------+
 *
 * QEMU runs without a processor (-accel qtest) and its memory is a file that
 * both sides map, so that a benchmark sees what the device costs and nothing
 * of what a guest costs.  The caller has connected the device and says on the
 * command line where everything lies; this program only does what a driver
 * does per request: fill, kick if the device asks for it, and collect.
 * Results go to stdout as one JSON object.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "ring-driver.h"

void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...)
{
    va_list args;

    fputs("ring-driver: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void *new_array(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (!p) {
        die("out of memory");
    }
    return p;
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

uint64_t driver_now(const Driver *d)
{
    return d->latency ? now_ns() : 0;
}

static void map_memory(Driver *d, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        die("file descriptor %d: %s", fd, strerror(errno));
    }
    d->memory_size = st.st_size;
    d->memory = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                     fd, 0);
    if (d->memory == MAP_FAILED) {
        die("cannot map guest memory: %s", strerror(errno));
    }
}

void *guest_ptr(const Driver *d, uint64_t addr, uint64_t size)
{
    if (addr > d->memory_size || size > d->memory_size - addr) {
        die("guest address 0x%" PRIx64 " is outside of guest memory", addr);
    }
    return d->memory + addr;
}

/* xorshift64*: quick, and the same sequence for the same seed in every run */
static uint64_t random_next(Driver *d)
{
    uint64_t x = d->random_state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    d->random_state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

uint64_t driver_random_sector(Driver *d)
{
    return random_next(d) % d->n_blocks * SECTORS_PER_BLOCK;
}

/* --- Queues, whatever their transport --- */

static void queue_init(Driver *d, const char *spec)
{
    Queue *q = &d->queues[d->n_queues];

    q->index = d->n_queues++;
    q->free_slots = new_array(d->depth, sizeof(*q->free_slots));
    q->started = new_array(d->depth, sizeof(*q->started));
    while (q->n_free < d->depth) {
        q->free_slots[q->n_free] = q->n_free;
        q->n_free++;
    }
    d->ops->init(d, q, spec);
}

unsigned queue_take_slot(Queue *q, uint64_t now)
{
    unsigned slot = q->free_slots[--q->n_free];

    q->started[slot] = now;
    return slot;
}

void queue_end_slot(Driver *d, Queue *q, unsigned slot, bool ok, uint64_t now)
{
    if (slot >= d->depth || q->n_free == d->depth) {
        die("queue %u: the device completed request %u, which it was not given",
            q->index, slot);
    }
    q->completed++;
    q->failed += !ok;
    q->free_slots[q->n_free++] = slot;
    if (d->latency && d->n_latencies < MAX_LATENCIES) {
        d->latency[d->n_latencies++] = now - q->started[slot];
    }
}

/* --- The loop --- */

typedef struct {
    uint64_t requests;      /* to submit in all, on all queues together */
    uint64_t deadline;      /* or until then, ns */
} Limit;

static unsigned driver_fill(Driver *d, Queue *q, Limit *limit)
{
    unsigned n;

    if (d->mode == MODE_BATCH && q->n_free < d->depth) {
        return 0;
    }
    n = d->ops->submit(d, q, limit->requests);
    limit->requests -= n;
    return n;
}

static void driver_pause(Driver *d)
{
    if (d->pause_ns) {
        struct timespec t = { .tv_nsec = d->pause_ns };

        nanosleep(&t, NULL);
    } else {
        __builtin_ia32_pause();
    }
}

/* Keep every queue busy until @limit, then wait for what is in flight */
static void driver_run(Driver *d, Limit limit)
{
    uint64_t in_flight = 0, progress = now_ns();

    for (unsigned i = 0; i < d->n_queues; i++) {
        d->ops->arm(d, &d->queues[i]);
    }
    for (;;) {
        unsigned collected = 0;
        uint64_t now = now_ns();

        if (now >= limit.deadline) {
            limit.requests = 0;
        }
        for (unsigned i = 0; i < d->n_queues; i++) {
            Queue *q = &d->queues[i];

            collected += d->ops->service(d, q);
            in_flight += driver_fill(d, q, &limit);
        }
        in_flight -= collected;
        if (!in_flight && !limit.requests) {
            return;
        }
        if (collected) {
            progress = now;
        } else if (now - progress > STALL_SECONDS * UINT64_C(1000000000)) {
            die("no request completed in %d s, %" PRIu64 " are in flight",
                STALL_SECONDS, in_flight);
        } else {
            driver_pause(d);
        }
    }
}

/* --- Results --- */

/* ns on a processor, of a thread's /proc/PID/task/TID/schedstat */
static uint64_t thread_cpu_ns(const char *path)
{
    FILE *f = fopen(path, "r");
    uint64_t ns;

    if (!f || fscanf(f, "%" SCNu64, &ns) != 1) {
        die("cannot read %s: %s", path, strerror(errno));
    }
    fclose(f);
    return ns;
}

static int compare_latencies(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void report_latencies(Driver *d)
{
    uint64_t sum = 0;
    unsigned n = d->n_latencies;

    if (!n) {
        return;
    }
    qsort(d->latency, n, sizeof(*d->latency), compare_latencies);
    for (unsigned i = 0; i < n; i++) {
        sum += d->latency[i];
    }
    printf(",\n \"latency_ns\": {\"mean\": %" PRIu64 ", \"p50\": %" PRIu32
           ", \"p99\": %" PRIu32 ", \"max\": %" PRIu32 "}", sum / n,
           d->latency[n / 2], d->latency[(uint64_t)n * 99 / 100],
           d->latency[n - 1]);
}

static void report(Driver *d, uint64_t warmup, uint64_t elapsed,
                   const uint64_t *thread_ns)
{
    uint64_t completed = 0, failed = 0, kicks = 0, interrupts = 0;

    for (unsigned i = 0; i < d->n_queues; i++) {
        completed += d->queues[i].completed;
        failed += d->queues[i].failed;
        kicks += d->queues[i].kicks;
        interrupts += d->queues[i].interrupts;
    }
    printf("{\"warmup_requests\": %" PRIu64 ", \"requests\": %" PRIu64
           ", \"failed\": %" PRIu64
           ", \"elapsed_ns\": %" PRIu64 ", \"kicks\": %" PRIu64
           ", \"interrupts\": %" PRIu64 ",\n \"requests_by_queue\": [",
           warmup, completed, failed, elapsed, kicks, interrupts);
    for (unsigned i = 0; i < d->n_queues; i++) {
        printf("%s%" PRIu64, i ? ", " : "", d->queues[i].completed);
    }
    printf("],\n \"thread_cpu_ns\": [");
    for (unsigned i = 0; i < d->n_threads; i++) {
        printf("%s%" PRIu64, i ? ", " : "", thread_ns[i]);
    }
    printf("]");
    report_latencies(d);
    printf("}\n");
}

/*
 * Forget what was counted so far: what follows is to be measured.  Returns how
 * many requests that were.
 */
static uint64_t driver_zero_counters(Driver *d)
{
    uint64_t completed = 0;

    for (unsigned i = 0; i < d->n_queues; i++) {
        Queue *q = &d->queues[i];

        completed += q->completed;
        q->completed = q->failed = q->kicks = q->interrupts = 0;
    }
    d->n_latencies = 0;
    return completed;
}

static void driver_measure(Driver *d, Limit limit)
{
    uint64_t thread_ns[MAX_THREADS], start, warmup = driver_zero_counters(d);

    for (unsigned i = 0; i < d->n_threads; i++) {
        thread_ns[i] = thread_cpu_ns(d->thread_stats[i]);
    }
    start = now_ns();
    driver_run(d, limit);
    start = now_ns() - start;
    for (unsigned i = 0; i < d->n_threads; i++) {
        thread_ns[i] = thread_cpu_ns(d->thread_stats[i]) - thread_ns[i];
    }
    if (d->ops->settle) {
        d->ops->settle(d);
    }
    report(d, warmup, start, thread_ns);
}

static void driver_init(Driver *d, const Options *options)
{
    map_memory(d, options->memory_fd);
    d->ops = options->xen ? &xen_ring_ops : &virtio_ring_ops;
    d->qtest_fd = options->qtest_fd;
    d->n_blocks = options->blocks;
    d->random_state = options->seed << 32 | 0x9E3779B9;
    d->ring_size = options->ring_size;
    d->depth = options->depth;
    d->pause_ns = options->pause_ns;
    d->mode = options->batch ? MODE_BATCH : MODE_POLL;
    d->write = options->write;
    d->interrupts = options->interrupts;
    d->indirect = options->indirect;
    d->thread_stats = options->thread_stats;
    d->n_threads = options->n_threads;
    if (options->latencies) {
        d->latency = new_array(MAX_LATENCIES, sizeof(*d->latency));
    }
    for (unsigned i = 0; i < options->n_queues; i++) {
        queue_init(d, options->queues[i]);
    }
}

/* A request count, a time, or neither: nothing to do */
static Limit limit_from(uint64_t requests, uint64_t ms)
{
    return (Limit) {
        .requests = ms ? UINT64_MAX : requests,
        .deadline = ms ? now_ns() + ms * 1000000 : UINT64_MAX,
    };
}

int main(int argc, char **argv)
{
    static Options options;
    static Driver driver;

    options_parse(&options, argc, argv);
    driver_init(&driver, &options);
    /* A pause of 20 us would last for 70 otherwise */
    prctl(PR_SET_TIMERSLACK, 1);

    driver_run(&driver, limit_from(options.warmup_requests,
                                   options.warmup_ms));
    driver_measure(&driver, limit_from(options.requests, options.ms));
    return 0;
}
