/*
 * virtio-ring-driver: what its parts know of each other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VIRTIO_RING_DRIVER_H
#define VIRTIO_RING_DRIVER_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

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

typedef struct Queue {
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

typedef struct Driver {
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
} Driver;

typedef struct {
    uint64_t memory_fd, qtest_fd, blocks, ring_size, depth;
    uint64_t requests, ms, warmup_requests, warmup_ms, pause_ns;
    bool batch, write, interrupts, indirect, latencies;
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

/* A clock that only goes forward, ns */
uint64_t now_ns(void);

/* Fill in @options; an option that is unknown or missing is the end */
void options_parse(Options *options, int argc, char **argv);

/*
 * Add the queue that @spec describes: the guest addresses, in hexadecimal,
 * desc,avail,used,slots,notify,msix
 */
void queue_init(Driver *d, const char *spec);

/*
 * Make at most @n requests available and kick if the device asks for it;
 * returns how many
 */
unsigned queue_submit(Driver *d, Queue *q, uint64_t n);

/* Ask for an interrupt on the next completion, or for none if polling */
void queue_set_used_event(Driver *d, Queue *q);

/*
 * Collect, as a driver's interrupt handler does, until nothing is left;
 * returns how many requests have completed
 */
unsigned queue_service(Driver *d, Queue *q);

/* Wait until QEMU has taken every kick */
void queues_settle(Driver *d);

#endif
