/*
 * Loading L2 tables of a qcow2 image without holding its lock meanwhile
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block-io.h"
#include "block/block_int.h"
#include "block/qcow2-load.h"
#include "block/qcow2-lookup.h"
#include "qemu/atomic.h"
#include "qemu/brief-read.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/units.h"

/* So many loads run at once.  A further one waits until one has ended. */
#define LOADS_MAX       1024
#define LOADS_MAX_BYTES (4 * MiB)
#define BUCKETS         256

/* The lock of Qcow2Loads protects this structure. */
typedef struct Qcow2Load {
    uint64_t table;
    unsigned bytes;
    bool stale;             /* changes only while the image's lock is held */
    CoQueue waiters;
    QLIST_ENTRY(Qcow2Load) next;
} Qcow2Load;

struct Qcow2Loads {
    unsigned refs;          /* atomic; the image and each qcow2_load() */
    QemuMutex lock;
    unsigned nb;            /* number of places that are taken */
    CoQueue turns;          /* requests that wait for a place */
    QLIST_HEAD(, Qcow2Load) bucket[BUCKETS];
};

Qcow2Loads *qcow2_loads_new(void)
{
    Qcow2Loads *loads = g_new0(Qcow2Loads, 1);

    loads->refs = 1;
    qemu_mutex_init(&loads->lock);
    qemu_co_queue_init(&loads->turns);
    return loads;
}

void qcow2_loads_unref(Qcow2Loads *loads)
{
    if (loads && qatomic_fetch_dec(&loads->refs) == 1) {
        assert(!loads->nb);
        qemu_mutex_destroy(&loads->lock);
        g_free(loads);
    }
}

/* Return the bucket of @table, which has at least 512 bytes. */
static unsigned bucket_of(uint64_t table)
{
    return qcow2_spread(table >> 9) >> 56;
}

/* Return the load of @table, or NULL.  Called with the loads' lock held. */
static Qcow2Load *load_find(Qcow2Loads *loads, uint64_t table)
{
    Qcow2Load *load;

    QLIST_FOREACH(load, &loads->bucket[bucket_of(table)], next) {
        if (load->table == table && !load->stale) {
            break;
        }
    }
    return load;
}

/*
 * Take a place for a load of @bytes.  Return false if there is none.
 * Called with the loads' lock held.
 */
static bool place_take(Qcow2Loads *loads, unsigned bytes)
{
    if (loads->nb >= MIN(LOADS_MAX, MAX(1, LOADS_MAX_BYTES / bytes))) {
        return false;
    }
    loads->nb++;
    return true;
}

/*
 * Pass a place on to the request that has waited longest, if there is one, so
 * that no later request can take it.  Called with the loads' lock held.
 */
static void coroutine_fn place_pass(Qcow2Loads *loads)
{
    if (!qemu_co_queue_next(&loads->turns)) {
        loads->nb--;
    }
}

/*
 * Wait until @load may begin, and enter it.  Return false if there is nothing
 * to load, because the table is shown or another request has loaded it.
 */
static bool coroutine_fn load_begin(BDRVQcow2State *s, Qcow2Loads *loads,
                                    Qcow2Load *load, uint64_t offset,
                                    uint64_t flags)
{
    Qcow2Load *same = NULL;
    bool placed = false;

    qemu_co_queue_init(&load->waiters);
    QEMU_LOCK_GUARD(&loads->lock);
    while (qcow2_lookup_misses(s, offset, flags, &load->table,
                               &load->bytes)) {
        same = load_find(loads, load->table);
        if (same) {
            break;
        }
        if (placed || place_take(loads, load->bytes)) {
            QLIST_INSERT_HEAD(&loads->bucket[bucket_of(load->table)], load,
                              next);
            return true;
        }
        qemu_co_queue_wait(&loads->turns, &loads->lock);
        placed = true;
    }
    if (placed) {
        place_pass(loads);
    }
    if (same) {
        qemu_co_queue_wait(&same->waiters, &loads->lock);
    }
    return false;
}

/* Wake the requests that wait for @load.  Called with the image's lock held. */
static void coroutine_fn load_end(Qcow2Loads *loads, Qcow2Load *load)
{
    QEMU_LOCK_GUARD(&loads->lock);
    QLIST_REMOVE(load, next);
    qemu_co_queue_restart_all(&load->waiters);
    place_pass(loads);
}

/*
 * Give @load's table in @buf to the cache, unless other code has changed the
 * table meanwhile, or has removed it from the image.  In these cases, or if the
 * cache has the table, ignore the error in @ret.
 */
static int coroutine_fn GRAPH_RDLOCK
load_insert(BlockDriverState *bs, Qcow2Load *load, uint64_t offset,
            const void *buf, int ret)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t still;
    unsigned bytes;

    if (load->stale || !qcow2_lookup_misses(s, offset, 0, &still, &bytes) ||
        still != load->table || bytes != load->bytes) {
        return 0;
    }
    if (ret >= 0) {
        return qcow2_cache_insert(bs, s->l2_table_cache, load->table, buf);
    }
    if (qcow2_cache_is_table_offset(s->l2_table_cache, load->table)) {
        return 0;
    }
    return ret;
}

/*
 * Return a new reference to the image's list, or NULL if lookups are not
 * allowed.  qcow2_lookup_stop() waits for this function, so that the image does
 * not give up its own reference meanwhile.
 */
static Qcow2Loads *loads_get(BDRVQcow2State *s)
{
    BriefReader *reader = brief_read_begin();
    Qcow2Loads *loads = NULL;

    if (!reader) {
        return NULL;
    }
    if (qatomic_load_acquire(&s->lookup_slots)) {
        loads = s->loads;
        qatomic_inc(&loads->refs);
    }
    brief_read_end(reader);
    return loads;
}

int coroutine_fn qcow2_load(BlockDriverState *bs, uint64_t offset,
                            uint64_t flags)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Loads *loads;
    Qcow2Load load = { 0 };
    void *buf;
    int ret;

    if (!qcow2_lookup_misses(s, offset, flags, &load.table, &load.bytes)) {
        return 0;
    }
    loads = loads_get(s);
    if (!loads) {
        return 0;
    }
    if (!load_begin(s, loads, &load, offset, flags)) {
        qcow2_loads_unref(loads);
        return 0;
    }

    buf = qemu_try_blockalign(bs->file->bs, load.bytes);
    if (buf) {
        BLKDBG_CO_EVENT(bs->file, BLKDBG_L2_LOAD);
        ret = bdrv_co_pread(bs->file, load.table, load.bytes, buf, 0);
    }

    qemu_co_mutex_lock(&s->lock);
    /* If there is no memory, the caller reads the table with the lock held. */
    ret = buf ? load_insert(bs, &load, offset, buf, ret) : 0;
    load_end(loads, &load);
    qemu_co_mutex_unlock(&s->lock);

    qcow2_loads_unref(loads);
    qemu_vfree(buf);
    return ret;
}

void qcow2_load_stale(Qcow2Loads *loads, uint64_t table)
{
    Qcow2Load *load;

    QEMU_LOCK_GUARD(&loads->lock);
    load = load_find(loads, table);
    if (load) {
        load->stale = true;
    }
}

void qcow2_load_stale_all(Qcow2Loads *loads)
{
    Qcow2Load *load;

    QEMU_LOCK_GUARD(&loads->lock);
    for (unsigned i = 0; i < BUCKETS; i++) {
        QLIST_FOREACH(load, &loads->bucket[i], next) {
            load->stale = true;
        }
    }
}
