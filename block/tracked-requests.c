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
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/asym-barrier.h"

/* The alert stays until so many requests have ended after the last scan. */
#define ALERT_LINGERS 1024

/*
 * A chunk is an array of cells.  Its address is a multiple of its size, so the
 * address of a cell tells its chunk and its number in the chunk.  The head of
 * the chunk takes the place of the first cells, so these are never free.
 *
 *      free    0 0 0 0 0 1 0 0 1 1 ...
 *      cells  [ chunk's head ][req][req][   ][req]...
 *
 * A walk goes from one cell that is not free to the next.
 */
union TrackedChunk {
    struct {
        /* One bit for each cell that is free.  Only the owner writes it. */
        unsigned long free;

        /* Cells whose request ended in another thread; under the lock */
        unsigned long returned;

        /* The list of all chunks of the shard; none is removed */
        TrackedChunk *next;

        /* The list of chunks with a free cell; only the owner uses it */
        TrackedChunk *next_with_room;

        /* Constant */
        TrackedShard *home;
    };
    TrackedCell cells[BITS_PER_LONG];
};

#define HEAD_CELLS (endof(TrackedChunk, home) / sizeof(TrackedCell))
#define ALL_CELLS  (~0UL << HEAD_CELLS)

QEMU_BUILD_BUG_ON(sizeof(TrackedChunk) != BITS_PER_LONG * sizeof(TrackedCell));

struct TrackedShard {
    /* Only the owner uses it, and takes the lock if the slot is shared. */
    TrackedChunk *with_room;

    /* The owner adds chunks under the lock. */
    TrackedChunk *chunks;

    /* Constant */
    unsigned slot;
};

static TrackedShard *shard_new(TrackedRequests *tracked, unsigned slot)
{
    TrackedShard *shard = thread_shard_alloc(sizeof(*shard));

    shard->slot = slot;
    return thread_shards_add(&tracked->shards, slot, shard);
}

static TrackedChunk *chunk_of(TrackedCell *cell)
{
    return (TrackedChunk *)QEMU_ALIGN_PTR_DOWN(cell, sizeof(TrackedChunk));
}

static unsigned long cell_bit(TrackedCell *cell)
{
    return 1UL << ((uintptr_t)cell / sizeof(*cell) % BITS_PER_LONG);
}

/*
 * Mark cells as free.  A thread that sees them free also sees all that came
 * before.  Called by the owner.
 */
static inline void cells_free(TrackedChunk *chunk, unsigned long bits)
{
    TrackedShard *shard = chunk->home;

    if (unlikely(!chunk->free)) {
        chunk->next_with_room = shard->with_room;
        shard->with_room = chunk;
    }
    qatomic_store_release(&chunk->free, chunk->free | bits);
}

/* Find or make free cells.  Called by the owner with the lock held. */
static void shard_refill(TrackedShard *shard)
{
    TrackedChunk *chunk;

    for (chunk = shard->chunks; chunk; chunk = chunk->next) {
        if (chunk->returned) {
            cells_free(chunk, chunk->returned);
            chunk->returned = 0;
        }
    }
    if (shard->with_room) {
        return;
    }

    chunk = qemu_memalign(MAX(THREAD_SLOT_ALIGN, sizeof(*chunk)),
                          sizeof(*chunk));
    memset(chunk, 0, sizeof(*chunk));
    chunk->home = shard;
    cells_free(chunk, ALL_CELLS);
    chunk->next = shard->chunks;
    shard->chunks = chunk;
}

static inline TrackedCell *cell_take(TrackedShard *shard,
                                     struct BdrvTrackedRequest *req)
{
    TrackedChunk *chunk = shard->with_room;
    unsigned long free = chunk->free;
    /* A cell is free, so the check for zero in ctzl() is not needed. */
    TrackedCell *cell = &chunk->cells[__builtin_ctzl(free)];

    qatomic_set(cell, req);
    free &= free - 1;
    qatomic_store_release(&chunk->free, free);
    if (unlikely(!free)) {
        shard->with_room = chunk->next_with_room;
    }
    return cell;
}

static __attribute__((noinline))
TrackedCell *add_locked(TrackedRequests *tracked, unsigned slot,
                        QemuMutex *lock, struct BdrvTrackedRequest *req)
{
    TrackedShard *shard;
    TrackedCell *cell;

    WITH_QEMU_LOCK_GUARD(lock) {
        shard = thread_shards_get(&tracked->shards, slot);
        if (!shard) {
            shard = shard_new(tracked, slot);
        }
        if (!shard->with_room) {
            shard_refill(shard);
        }
        cell = cell_take(shard, req);
    }
    asym_mb_light();
    return cell;
}

TrackedCell *tracked_requests_add(TrackedRequests *tracked, QemuMutex *lock,
                                  struct BdrvTrackedRequest *req)
{
    unsigned slot = thread_slot();
    TrackedShard *shard = thread_shards_get(&tracked->shards, slot);
    TrackedCell *cell;

    if (unlikely(slot == THREAD_SLOT_SHARED || !shard || !shard->with_room)) {
        return add_locked(tracked, slot, lock, req);
    }
    cell = cell_take(shard, req);
    asym_mb_light();
    return cell;
}

/*
 * Count a request that ends while @alert is set, and clear @alert some time
 * after the last scan.  Raising it costs a heavy barrier, and a guest that
 * sends many serialising requests must not cause one for each.
 * Called with the lock held.
 */
static void alert_wane(TrackedRequests *tracked)
{
    if (!tracked->scanning && tracked->alert && !--tracked->linger) {
        qatomic_store_release(&tracked->alert, false);
    }
}

/*
 * Remove a request with the lock held.  If the request ends in another thread
 * than the owner of @cell (@elsewhere), empty @cell and mark it as returned.
 */
static __attribute__((noinline))
bool remove_locked(TrackedRequests *tracked, QemuMutex *lock,
                   TrackedCell *cell, bool elsewhere)
{
    if (elsewhere) {
        qatomic_store_release(cell, NULL);
    }

    /* Wait for a scanner that has found the request. */
    qemu_mutex_lock(lock);
    if (elsewhere) {
        chunk_of(cell)->returned |= cell_bit(cell);
    }
    alert_wane(tracked);
    qemu_mutex_unlock(lock);
    return true;
}

bool tracked_requests_remove(TrackedRequests *tracked, QemuMutex *lock,
                             TrackedCell *cell)
{
    unsigned slot = thread_slot();
    TrackedChunk *chunk = chunk_of(cell);

    if (unlikely(slot != chunk->home->slot || slot == THREAD_SLOT_SHARED)) {
        return remove_locked(tracked, lock, cell, true);
    }
    cells_free(chunk, cell_bit(cell));
    asym_mb_light();
    if (unlikely(tracked_requests_alert(tracked))) {
        return remove_locked(tracked, lock, cell, false);
    }
    return false;
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

static TrackedChunk *walk_next_chunk(TrackedRequests *tracked,
                                     TrackedWalk *walk)
{
    TrackedChunk *chunk = walk->chunk ? walk->chunk->next : NULL;
    TrackedShard *shard;

    while (!chunk && (shard = thread_shards_next(&tracked->shards,
                                                 &walk->next_slot))) {
        chunk = shard->chunks;
    }
    return chunk;
}

static BdrvTrackedRequest *walk_next(TrackedRequests *tracked,
                                     TrackedWalk *walk)
{
    BdrvTrackedRequest *req;

    for (;;) {
        while (walk->cells) {
            unsigned cell = ctzl(walk->cells);

            walk->cells &= walk->cells - 1;
            walk->visited++;
            /* It is NULL if it ended elsewhere; all it did is visible then. */
            req = qatomic_load_acquire(&walk->chunk->cells[cell]);
            if (req) {
                return req;
            }
        }

        walk->chunk = walk_next_chunk(tracked, walk);
        if (!walk->chunk) {
            return NULL;
        }
        walk->visited++;
        /* All that ended requests did is visible once their cells are free. */
        walk->cells = ALL_CELLS & ~qatomic_load_acquire(&walk->chunk->free);
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

static void shard_clean(void *opaque)
{
    TrackedShard *shard = opaque;
    TrackedChunk *next;

    for (TrackedChunk *c = shard->chunks; c; c = next) {
        next = c->next;
        qemu_vfree(c);
    }
}

void tracked_requests_cleanup(TrackedRequests *tracked)
{
    assert(!tracked->scanning);
    thread_shards_cleanup(&tracked->shards, shard_clean);
}
