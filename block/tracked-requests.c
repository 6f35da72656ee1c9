/*
 * The requests that a node is working on, listed without a lock per request
 *
 * include/block/tracked-requests.h has the picture and the argument.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/tracked-requests.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/asym-barrier.h"

#define CELLS_PER_CHUNK 63

/* How many requests end before no further scanner is expected */
#define ALERT_LINGERS 1024

struct TrackedCell {
    /* NULL while free; written by whoever begins or ends the request */
    struct BdrvTrackedRequest *req;

    union {
        /* While free: the next free cell */
        TrackedCell *next_free;

        /* While in use: where it belongs */
        TrackedShard *home;
    };
};

/* Chunks live as long as the shard, so that a walk needs no care for them. */
struct TrackedChunk {
    TrackedChunk *next;
    TrackedCell cells[CELLS_PER_CHUNK];
};

struct TrackedShard {
    /* Used by the owner only, under the lock if the slot is shared */
    TrackedCell *free;

    /* Free cells whose request ended in another thread; under the lock */
    TrackedCell *returned;

    /* Grown by the owner under the lock */
    TrackedChunk *chunks;

    /* Constant */
    unsigned slot;
};

static TrackedShard *shard_new(TrackedRequests *tracked, unsigned slot)
{
    TrackedShard *shard = qemu_memalign(THREAD_SLOT_ALIGN,
                                        ROUND_UP(sizeof(*shard),
                                                 THREAD_SLOT_ALIGN));

    *shard = (TrackedShard) { .slot = slot };
    qatomic_store_release(&tracked->shards[slot], shard);
    return shard;
}

/* Called by the owner with the lock held. */
static void shard_refill(TrackedShard *shard)
{
    TrackedChunk *chunk;

    if (shard->returned) {
        shard->free = shard->returned;
        shard->returned = NULL;
        return;
    }

    chunk = qemu_memalign(THREAD_SLOT_ALIGN,
                          ROUND_UP(sizeof(*chunk), THREAD_SLOT_ALIGN));
    memset(chunk, 0, sizeof(*chunk));
    for (unsigned i = 0; i < CELLS_PER_CHUNK; i++) {
        chunk->cells[i].next_free = shard->free;
        shard->free = &chunk->cells[i];
    }
    chunk->next = shard->chunks;
    shard->chunks = chunk;
}

static inline TrackedCell *cell_take(TrackedShard *shard,
                                     struct BdrvTrackedRequest *req)
{
    TrackedCell *cell = shard->free;

    shard->free = cell->next_free;
    cell->home = shard;
    qatomic_store_release(&cell->req, req);
    return cell;
}

static TrackedCell *cell_take_locked(TrackedRequests *tracked, unsigned slot,
                                     QemuMutex *lock,
                                     struct BdrvTrackedRequest *req)
{
    TrackedShard *shard;

    QEMU_LOCK_GUARD(lock);
    shard = tracked->shards[slot] ?: shard_new(tracked, slot);
    if (!shard->free) {
        shard_refill(shard);
    }
    return cell_take(shard, req);
}

TrackedCell *tracked_requests_add(TrackedRequests *tracked, QemuMutex *lock,
                                  struct BdrvTrackedRequest *req)
{
    unsigned slot = thread_slot();
    TrackedShard *shard = qatomic_read(&tracked->shards[slot]);
    TrackedCell *cell;

    if (likely(slot != THREAD_SLOT_SHARED && shard && shard->free)) {
        cell = cell_take(shard, req);
    } else {
        cell = cell_take_locked(tracked, slot, lock, req);
    }
    asym_mb_light();
    return cell;
}

/*
 * Called with the lock held, for each request that ends while @alert is up.
 * After the last scanner it stays up for a while: a stream of serialising
 * requests, which a guest can cause, must not cost a heavy barrier each.
 */
static void alert_wane(TrackedRequests *tracked)
{
    if (!tracked->scanning && tracked->alert && !--tracked->linger) {
        qatomic_store_release(&tracked->alert, false);
    }
}

bool tracked_requests_remove(TrackedRequests *tracked, QemuMutex *lock,
                             TrackedCell *cell)
{
    TrackedShard *home = cell->home;
    unsigned slot = thread_slot();

    qatomic_store_release(&cell->req, NULL);
    asym_mb_light();

    if (likely(slot == home->slot && slot != THREAD_SLOT_SHARED)) {
        cell->next_free = home->free;
        home->free = cell;
        if (likely(!tracked_requests_alert(tracked))) {
            return false;
        }
        /* Let a scanner that found the request finish with it */
        qemu_mutex_lock(lock);
    } else {
        qemu_mutex_lock(lock);
        cell->next_free = home->returned;
        home->returned = cell;
    }
    alert_wane(tracked);
    qemu_mutex_unlock(lock);
    return true;
}

void tracked_requests_scan_begin(TrackedRequests *tracked)
{
    if (!tracked->alert) {
        qatomic_set(&tracked->alert, true);
        asym_mb_heavy();
    }
    tracked->scanning++;
}

void tracked_requests_scan_end(TrackedRequests *tracked)
{
    assert(tracked->scanning);
    tracked->scanning--;
    tracked->linger = ALERT_LINGERS;
}

static BdrvTrackedRequest *walk_next(TrackedRequests *tracked,
                                     TrackedWalk *walk)
{
    BdrvTrackedRequest *req;

    for (;;) {
        while (walk->chunk && walk->next_cell < CELLS_PER_CHUNK) {
            /* What an ended request did is visible once its cell is free */
            req = qatomic_load_acquire(
                &walk->chunk->cells[walk->next_cell++].req);
            if (req) {
                return req;
            }
        }

        walk->next_cell = 0;
        walk->chunk = walk->chunk ? walk->chunk->next : NULL;
        while (!walk->chunk && walk->next_slot < THREAD_SLOTS_ALL) {
            TrackedShard *shard = tracked->shards[walk->next_slot++];

            walk->chunk = shard ? shard->chunks : NULL;
        }
        if (!walk->chunk) {
            return NULL;
        }
    }
}

struct BdrvTrackedRequest *tracked_requests_next(TrackedRequests *tracked,
                                                 TrackedWalk *walk)
{
    return tracked->scanning ? walk_next(tracked, walk) : NULL;
}

bool tracked_requests_empty(TrackedRequests *tracked)
{
    return !walk_next(tracked, &(TrackedWalk) { 0 });
}

void tracked_requests_cleanup(TrackedRequests *tracked)
{
    assert(!tracked->scanning);
    for (unsigned slot = 0; slot < THREAD_SLOTS_ALL; slot++) {
        TrackedShard *shard = tracked->shards[slot];
        TrackedChunk *next;

        for (TrackedChunk *c = shard ? shard->chunks : NULL; c; c = next) {
            next = c->next;
            qemu_vfree(c);
        }
        qemu_vfree(shard);
        tracked->shards[slot] = NULL;
    }
}
