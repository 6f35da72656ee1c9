/*
 * A virtio-blk driver that lives on the host
 *
 *   this program                       guest memory                  QEMU
 *  +-------------+        +-----------------------------+        +---------+
 *  | fill, kick, | -----> | descriptors   available ring| -----> | device, |
 *  | collect     | <----- | used ring     status  data  | <----- | a queue |
 *  |             |        | MSI-X words (one a queue)   | <----- | each    |
 *  +-------------+        +-----------------------------+        +---------+
 *        |                                                            ^
 *        +------------------- qtest socket: kicks --------------------+
 *
 * QEMU runs without a processor (-accel qtest) and its memory is a file that
 * both sides map, so that a benchmark sees what the device costs and nothing
 * of what a guest costs.  The caller has brought the device up to DRIVER_OK
 * and says on the command line where everything lies; this program only does
 * what a driver does per request: fill, kick if the device asks for it, and
 * collect.  Results go to stdout as one JSON object.
 *
 * Split rings with VIRTIO_F_EVENT_IDX, VIRTIO 1.2 section 2.7.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

enum {
    MAX_QUEUES = 256,
    MAX_THREADS = 256,
    BLOCK_SIZE = 4096,
    SECTORS_PER_BLOCK = BLOCK_SIZE / 512,
    /* A request's own page of control data: header, status, table */
    SLOT_STATUS = 16,
    SLOT_TABLE = 32,
    SLOT_SIZE = 128,
    MAX_LATENCIES = 1 << 20,
    /* How long no request at all may complete */
    STALL_SECONDS = 60,
};

/* When the driver fills the ring again */
typedef enum {
    MODE_POLL,      /* as soon as a slot is free: the ring stays full */
    MODE_BATCH,     /* once every request of the last fill has completed */
} Mode;

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

typedef struct {
    /* Parts of the ring, in this process's view of guest memory */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint8_t *slots;             /* SLOT_SIZE bytes of control data each */
    uint16_t *avail_event;      /* the device: kick when this is passed */
    uint16_t *used_event;       /* the driver: interrupt, likewise */
    uint32_t *msix;             /* written by the device's MSI-X message */
    uint64_t notify_addr;       /* where a kick is written */

    unsigned index;
    uint16_t avail_idx;         /* next entry to make available */
    uint16_t kicked_idx;        /* avail_idx when the device was last asked */
    uint16_t used_idx;          /* next entry to collect */
    uint16_t *free_slots;
    unsigned n_free;
    uint64_t *started;          /* ns, by slot; for latencies */

    uint64_t completed, failed, kicks, interrupts;
} Queue;

typedef struct {
    uint8_t *memory;
    uint64_t memory_size;
    int qtest_fd;
    unsigned kick_replies_due;

    unsigned ring_size, depth, n_queues;
    Mode mode;
    bool write, interrupts, indirect;
    uint64_t n_blocks;          /* of the disk, in units of BLOCK_SIZE */
    uint64_t random_state;
    long pause_ns;

    Queue queues[MAX_QUEUES];

    const char **thread_stats;
    unsigned n_threads;

    uint32_t *latency;          /* ns; NULL unless they are wanted */
    unsigned n_latencies;
} Driver;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...)
{
    va_list args;

    fputs("virtio-ring-driver: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void *new_array(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (!p) {
        die("out of memory");
    }
    return p;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

/* xorshift64*: quick, and the same sequence in every run */
static uint64_t random_next(Driver *d)
{
    uint64_t x = d->random_state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    d->random_state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

static void *guest_ptr(Driver *d, uint64_t addr, uint64_t size)
{
    if (addr > d->memory_size || size > d->memory_size - addr) {
        die("guest address 0x%" PRIx64 " is outside of guest memory", addr);
    }
    return d->memory + addr;
}

static uint64_t guest_addr(Driver *d, const void *p)
{
    return (const uint8_t *)p - d->memory;
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

/* --- Kicks: one qtest write each, its reply collected when convenient --- */

static void qtest_collect_replies(Driver *d, bool all)
{
    char reply[512];

    while (d->kick_replies_due) {
        ssize_t n = recv(d->qtest_fd, reply, sizeof(reply),
                         all ? 0 : MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR) && !all) {
            return;
        }
        if (n <= 0) {
            die("QEMU has closed its qtest socket");
        }
        for (ssize_t i = 0; i < n; i++) {
            d->kick_replies_due -= reply[i] == '\n';
        }
    }
}

static void queue_kick(Driver *d, Queue *q)
{
    char command[64];
    int n = snprintf(command, sizeof(command), "writew 0x%" PRIx64 " 0x%x\n",
                     q->notify_addr, q->index);

    if (send(d->qtest_fd, command, n, MSG_NOSIGNAL) != n) {
        die("cannot kick queue %u: %s", q->index, strerror(errno));
    }
    q->kicks++;
    d->kick_replies_due++;
    qtest_collect_replies(d, false);
}

/* Kick if the device wants to hear of what is new: section 2.7.10 */
static void queue_kick_if_wanted(Driver *d, Queue *q)
{
    uint16_t event;

    if (q->kicked_idx == q->avail_idx) {
        return;
    }
    /* The new index must be visible before the device's wish is read */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = __atomic_load_n(q->avail_event, __ATOMIC_RELAXED);
    if (vring_need_event(event, q->avail_idx, q->kicked_idx)) {
        queue_kick(d, q);
    }
    q->kicked_idx = q->avail_idx;
}

/* --- Setting up --- */

/* Everything about a slot's descriptors but the sector is written once */
static void slot_init(Driver *d, Queue *q, unsigned slot)
{
    uint8_t *control = q->slots + slot * SLOT_SIZE;
    uint8_t *data = q->slots + d->depth * SLOT_SIZE;
    struct vring_desc *table = d->indirect ?
        (struct vring_desc *)(control + SLOT_TABLE) : &q->desc[slot * 3];
    unsigned first = d->indirect ? 0 : slot * 3;

    data += -(uintptr_t)data % BLOCK_SIZE + slot * (uint64_t)BLOCK_SIZE;
    guest_ptr(d, guest_addr(d, data), BLOCK_SIZE);

    table[0] = (struct vring_desc) {
        .addr = guest_addr(d, control),
        .len = sizeof(struct virtio_blk_outhdr),
        .flags = VRING_DESC_F_NEXT,
        .next = first + 1,
    };
    table[1] = (struct vring_desc) {
        .addr = guest_addr(d, data),
        .len = BLOCK_SIZE,
        .flags = VRING_DESC_F_NEXT | (d->write ? 0 : VRING_DESC_F_WRITE),
        .next = first + 2,
    };
    table[2] = (struct vring_desc) {
        .addr = guest_addr(d, control + SLOT_STATUS),
        .len = 1,
        .flags = VRING_DESC_F_WRITE,
    };
    if (d->indirect) {
        q->desc[slot] = (struct vring_desc) {
            .addr = guest_addr(d, table),
            .len = 3 * sizeof(*table),
            .flags = VRING_DESC_F_INDIRECT,
        };
    }
}

/* spec: desc,avail,used,slots,notify,msix as guest physical addresses */
static void queue_init(Driver *d, const char *spec)
{
    Queue *q = &d->queues[d->n_queues];
    uint64_t desc, avail, used, slots, msix;

    if (sscanf(spec, "%" SCNx64 ",%" SCNx64 ",%" SCNx64 ",%" SCNx64
               ",%" SCNx64 ",%" SCNx64, &desc, &avail, &used, &slots,
               &q->notify_addr, &msix) != 6) {
        die("'%s' does not describe a queue", spec);
    }
    q->index = d->n_queues++;
    q->desc = guest_ptr(d, desc, 16 * d->ring_size);
    q->avail = guest_ptr(d, avail, 6 + 2 * d->ring_size);
    q->used = guest_ptr(d, used, 6 + 8 * d->ring_size);
    q->avail_event = (uint16_t *)(q->used->ring + d->ring_size);
    q->used_event = q->avail->ring + d->ring_size;
    q->slots = guest_ptr(d, slots, d->depth * SLOT_SIZE);
    q->msix = guest_ptr(d, msix, sizeof(*q->msix));
    q->avail_idx = q->kicked_idx = q->avail->idx;
    q->used_idx = q->used->idx;
    q->free_slots = new_array(d->depth, sizeof(*q->free_slots));
    q->started = new_array(d->depth, sizeof(*q->started));
    for (unsigned slot = 0; slot < d->depth; slot++) {
        slot_init(d, q, slot);
        q->free_slots[q->n_free++] = slot;
    }
}

/* --- The data path --- */

/* Make up to @n requests available; returns how many */
static unsigned queue_fill(Driver *d, Queue *q, uint64_t n)
{
    uint64_t now = d->latency ? now_ns() : 0;
    unsigned done;

    for (done = 0; done < n && q->n_free; done++) {
        unsigned slot = q->free_slots[--q->n_free];
        uint8_t *control = q->slots + slot * SLOT_SIZE;
        struct virtio_blk_outhdr *header = (void *)control;

        header->type = d->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
        header->ioprio = 0;
        header->sector = random_next(d) % d->n_blocks * SECTORS_PER_BLOCK;
        control[SLOT_STATUS] = 0xff;
        q->avail->ring[(uint16_t)(q->avail_idx + done) % d->ring_size] =
            d->indirect ? slot : slot * 3;
        q->started[slot] = now;
    }
    if (done) {
        q->avail_idx += done;
        __atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
    }
    return done;
}

/* Collect what has completed; returns how many */
static unsigned queue_collect(Driver *d, Queue *q)
{
    uint16_t end = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
    unsigned n = (uint16_t)(end - q->used_idx);
    uint64_t now = n && d->latency ? now_ns() : 0;

    for (unsigned i = 0; i < n; i++, q->used_idx++) {
        uint32_t id = q->used->ring[q->used_idx % d->ring_size].id;
        unsigned slot = d->indirect ? id : id / 3;

        if (slot >= d->depth || q->n_free == d->depth) {
            die("queue %u: the device completed %u, which it was not given",
                q->index, id);
        }
        q->failed += q->slots[slot * SLOT_SIZE + SLOT_STATUS] !=
            VIRTIO_BLK_S_OK;
        q->free_slots[q->n_free++] = slot;
        if (d->latency && d->n_latencies < MAX_LATENCIES) {
            d->latency[d->n_latencies++] = now - q->started[slot];
        }
    }
    q->completed += n;
    return n;
}

/*
 * Ask for an interrupt on the next completion, or for none: section 2.7.7.2.
 * None: an index half the ring's number space away, moved along with time.
 */
static void queue_set_used_event(Driver *d, Queue *q)
{
    uint16_t event = d->interrupts ? q->used_idx : q->used_idx + 0x8000;

    __atomic_store_n(q->used_event, event, __ATOMIC_RELAXED);
}

/* True if this queue may be looked at: polled, or it has interrupted */
static bool queue_take_interrupt(Driver *d, Queue *q)
{
    if (!d->interrupts) {
        return true;
    }
    if (!__atomic_exchange_n(q->msix, 0, __ATOMIC_SEQ_CST)) {
        return false;
    }
    q->interrupts++;
    return true;
}

/* Collect, as a driver's interrupt handler does, until nothing is left */
static unsigned queue_service(Driver *d, Queue *q)
{
    unsigned total = 0, n;

    if (!queue_take_interrupt(d, q)) {
        return 0;
    }
    do {
        n = queue_collect(d, q);
        total += n;
        queue_set_used_event(d, q);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&q->used->idx, __ATOMIC_RELAXED) != q->used_idx);
    return total;
}

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
    n = queue_fill(d, q, limit->requests);
    limit->requests -= n;
    queue_kick_if_wanted(d, q);
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
        queue_set_used_event(d, &d->queues[i]);
    }
    for (;;) {
        unsigned collected = 0;
        uint64_t now = now_ns();

        if (now >= limit.deadline) {
            limit.requests = 0;
        }
        for (unsigned i = 0; i < d->n_queues; i++) {
            Queue *q = &d->queues[i];

            collected += queue_service(d, q);
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

static void report(Driver *d, uint64_t elapsed, const uint64_t *thread_ns)
{
    uint64_t completed = 0, failed = 0, kicks = 0, interrupts = 0;

    for (unsigned i = 0; i < d->n_queues; i++) {
        completed += d->queues[i].completed;
        failed += d->queues[i].failed;
        kicks += d->queues[i].kicks;
        interrupts += d->queues[i].interrupts;
    }
    printf("{\"requests\": %" PRIu64 ", \"failed\": %" PRIu64
           ", \"elapsed_ns\": %" PRIu64 ", \"kicks\": %" PRIu64
           ", \"interrupts\": %" PRIu64 ",\n \"requests_by_queue\": [",
           completed, failed, elapsed, kicks, interrupts);
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

/* Forget what was counted so far: what follows is to be measured */
static void driver_zero_counters(Driver *d)
{
    for (unsigned i = 0; i < d->n_queues; i++) {
        Queue *q = &d->queues[i];

        q->completed = q->failed = q->kicks = q->interrupts = 0;
    }
    d->n_latencies = 0;
}

static void driver_measure(Driver *d, Limit limit)
{
    uint64_t thread_ns[MAX_THREADS], start;

    driver_zero_counters(d);
    for (unsigned i = 0; i < d->n_threads; i++) {
        thread_ns[i] = thread_cpu_ns(d->thread_stats[i]);
    }
    start = now_ns();
    driver_run(d, limit);
    start = now_ns() - start;
    for (unsigned i = 0; i < d->n_threads; i++) {
        thread_ns[i] = thread_cpu_ns(d->thread_stats[i]) - thread_ns[i];
    }
    qtest_collect_replies(d, true);
    report(d, start, thread_ns);
}

/* --- Command line: written by a program, read by this one --- */

typedef struct {
    uint64_t memory_fd, qtest_fd, blocks, ring_size, depth;
    uint64_t requests, ms, warmup_requests, warmup_ms, pause_ns;
    bool batch, write, interrupts, indirect, latencies;
    const char *queues[MAX_QUEUES];
    unsigned n_queues;
    const char *thread_stats[MAX_THREADS];
    unsigned n_threads;
} Options;

static Options options = { .memory_fd = UINT64_MAX, .qtest_fd = UINT64_MAX };

static const struct {
    const char *name;
    uint64_t *number;           /* --name=number, if it is one */
    uint64_t max;
} number_options[] = {
    { "memory-fd", &options.memory_fd, INT32_MAX },
    { "qtest-fd", &options.qtest_fd, INT32_MAX },
    { "blocks", &options.blocks, UINT64_MAX / SECTORS_PER_BLOCK },
    { "ring-size", &options.ring_size, 32768 },
    { "depth", &options.depth, 32768 },
    { "requests", &options.requests, UINT64_MAX },
    { "ms", &options.ms, 3600 * 1000 },
    { "warmup-requests", &options.warmup_requests, UINT64_MAX },
    { "warmup-ms", &options.warmup_ms, 3600 * 1000 },
    { "pause-ns", &options.pause_ns, 999999999 },
};

static const struct {
    const char *name;
    bool *flag;
} flag_options[] = {
    { "batch", &options.batch },
    { "write", &options.write },
    { "interrupts", &options.interrupts },
    { "indirect", &options.indirect },
    { "latencies", &options.latencies },
};

static const struct {
    const char *name;
    const char **texts;
    unsigned *n_texts, max;
} list_options[] = {
    /* desc,avail,used,slots,notify,msix: guest addresses in hexadecimal */
    { "queue", options.queues, &options.n_queues, MAX_QUEUES },
    /* A thread's schedstat file: its time on a processor is reported */
    { "thread-stat", options.thread_stats, &options.n_threads, MAX_THREADS },
};

static uint64_t parse_number(const char *name, const char *text, uint64_t max)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || n > max) {
        die("--%s=%s: expected a number, at most %" PRIu64, name, text, max);
    }
    return n;
}

static bool parse_option(const char *name, const char *value)
{
    for (unsigned i = 0; i < N_ELEMENTS(number_options); i++) {
        if (value && !strcmp(name, number_options[i].name)) {
            *number_options[i].number =
                parse_number(name, value, number_options[i].max);
            return true;
        }
    }
    for (unsigned i = 0; i < N_ELEMENTS(flag_options); i++) {
        if (!value && !strcmp(name, flag_options[i].name)) {
            *flag_options[i].flag = true;
            return true;
        }
    }
    for (unsigned i = 0; i < N_ELEMENTS(list_options); i++) {
        if (value && !strcmp(name, list_options[i].name)) {
            if (*list_options[i].n_texts == list_options[i].max) {
                die("--%s: more than %u", name, list_options[i].max);
            }
            list_options[i].texts[(*list_options[i].n_texts)++] = value;
            return true;
        }
    }
    return false;
}

static void parse_command_line(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *name = argv[i] + 2, *equals = strchr(argv[i], '=');

        if (equals) {
            *equals = '\0';
        }
        if (strncmp(argv[i], "--", 2) ||
            !parse_option(name, equals ? equals + 1 : NULL)) {
            die("do not know the option '%s'", argv[i]);
        }
    }
    if (options.memory_fd > INT32_MAX || options.qtest_fd > INT32_MAX ||
        !options.blocks || !options.ring_size || !options.depth ||
        !options.n_queues || !options.requests == !options.ms) {
        die("options are missing; the program 'run' knows them");
    }
    if (options.depth * (options.indirect ? 1 : 3) > options.ring_size) {
        die("%" PRIu64 " requests do not fit a ring of %" PRIu64,
            options.depth, options.ring_size);
    }
}

static void driver_init(Driver *d)
{
    map_memory(d, options.memory_fd);
    d->qtest_fd = options.qtest_fd;
    d->n_blocks = options.blocks;
    d->ring_size = options.ring_size;
    d->depth = options.depth;
    d->pause_ns = options.pause_ns;
    d->mode = options.batch ? MODE_BATCH : MODE_POLL;
    d->write = options.write;
    d->interrupts = options.interrupts;
    d->indirect = options.indirect;
    d->thread_stats = options.thread_stats;
    d->n_threads = options.n_threads;
    if (options.latencies) {
        d->latency = new_array(MAX_LATENCIES, sizeof(*d->latency));
    }
    for (unsigned i = 0; i < options.n_queues; i++) {
        queue_init(d, options.queues[i]);
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
    static Driver driver = { .random_state = 0x9E3779B9 };

    parse_command_line(argc, argv);
    driver_init(&driver);
    /* A pause of 20 us is to be one, not one of 70 */
    prctl(PR_SET_TIMERSLACK, 1);

    driver_run(&driver, limit_from(options.warmup_requests,
                                   options.warmup_ms));
    driver_measure(&driver, limit_from(options.requests, options.ms));
    return 0;
}
