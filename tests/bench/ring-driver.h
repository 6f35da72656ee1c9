/*
 * ring-driver: what its parts know of each other
 *
 *     ring-driver.c            the loop, the clock, the report
 *     ring-driver-options.c    the command line
 *     ring-driver-virtio.c     a virtqueue, from fill to collect
 *     ring-driver-xen.c        a ring of the Xen PV disk, likewise
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef RING_DRIVER_H
#define RING_DRIVER_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    MAX_QUEUES = 256,
    MAX_THREADS = 256,
    BLOCK_SIZE = 4096,
    SECTORS_PER_BLOCK = BLOCK_SIZE / 512,
    MAX_LATENCIES = 1 << 20,
    /* How long no request at all may complete */
    STALL_SECONDS = 60,
};

/* When the driver fills the ring again */
typedef enum {
    MODE_POLL,      /* as soon as a slot is free: the ring stays full */
    MODE_BATCH,     /* once every request of the last fill has completed */
} Mode;

typedef struct Queue {
    unsigned index;
    void *ring;                 /* the transport's own */
    uint16_t *free_slots;       /* places of requests, depth in all */
    unsigned n_free;
    uint64_t *started;          /* ns, by slot; for latencies */
    uint64_t completed, failed, kicks, interrupts;
} Queue;

typedef struct Driver Driver;

/* What a transport does with a queue */
typedef struct RingOps {
    /* Set q->ring up as @spec, the caller's words, describes it */
    void (*init)(Driver *d, Queue *q, const char *spec);

    /*
     * Make at most @n requests available and kick if the device asks for it;
     * returns how many
     */
    unsigned (*submit)(Driver *d, Queue *q, uint64_t n);

    /* Ask for an interrupt on the next completion, or for none if polling */
    void (*arm)(Driver *d, Queue *q);

    /*
     * Collect, as a driver's interrupt handler does, until nothing is left;
     * returns how many requests have completed
     */
    unsigned (*service)(Driver *d, Queue *q);

    /* Wait until QEMU has taken every kick; may be NULL */
    void (*settle)(Driver *d);
} RingOps;

extern const RingOps virtio_ring_ops, xen_ring_ops;

struct Driver {
    const RingOps *ops;
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

    const char *const *thread_stats;
    unsigned n_threads;

    uint32_t *latency;          /* ns; NULL unless they are wanted */
    unsigned n_latencies;
};

typedef struct {
    uint64_t memory_fd, qtest_fd, blocks, ring_size, depth;
    uint64_t requests, ms, warmup_requests, warmup_ms, pause_ns, seed;
    bool xen, batch, write, interrupts, indirect, latencies;
    const char *queues[MAX_QUEUES];
    unsigned n_queues;
    const char *thread_stats[MAX_THREADS];
    unsigned n_threads;
} Options;

/* One line on stderr, and the end */
void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...);

/* Zeroed memory, or the end */
void *new_array(size_t n, size_t size);

/* A clock that only goes forward, ns; driver_now() is 0 if nobody asks */
uint64_t now_ns(void);
uint64_t driver_now(const Driver *d);

/* Guest memory at @addr; @size bytes of it that are not there are the end */
void *guest_ptr(const Driver *d, uint64_t addr, uint64_t size);

/* The first sector of a block, any block */
uint64_t driver_random_sector(Driver *d);

/* A place for a request; there must be one */
unsigned queue_take_slot(Queue *q, uint64_t now);

/* The request at @slot, which the device named, has ended */
void queue_end_slot(Driver *d, Queue *q, unsigned slot, bool ok, uint64_t now);

/* Fill in @options; an option that is unknown or missing is the end */
void options_parse(Options *options, int argc, char **argv);

#endif
