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
#include "qemu/memalign.h"
#include "qemu/units.h"

/*
 * Each has a buffer of an entry of the cache, 4 KiB or what l2-cache-entry-size
 * says.  Beyond that, tables are loaded with the lock held.
 */
#define LOADS_MAX 64
#define LOADS_MAX_BYTES (4 * MiB)

/* Protected by the image's lock */
struct Qcow2Load {
    uint64_t table;
    unsigned bytes;
    bool stale;
    CoQueue waiters;
    QLIST_ENTRY(Qcow2Load) next;
};

/* Returns NULL if there is none of @table.  Called with the lock held. */
static Qcow2Load *load_find(BDRVQcow2State *s, uint64_t table)
{
    Qcow2Load *load;

    QLIST_FOREACH(load, &s->loads, next) {
        if (load->table == table && !load->stale) {
            break;
        }
    }
    return load;
}

/* Whether there may be one more of @bytes.  Called with the lock held. */
static bool load_may_begin(BDRVQcow2State *s, unsigned bytes)
{
    Qcow2Load *load;
    unsigned nb = 1;

    QLIST_FOREACH(load, &s->loads, next) {
        bytes += load->bytes;
        nb++;
    }
    return nb <= LOADS_MAX && (nb == 1 || bytes <= LOADS_MAX_BYTES);
}

/*
 * @load has its table.  Returns whether the cache may have it, too: not if
 * others changed it, or if an inactive image was opened anew, which forgets all
 * loads.  Called with the lock held.
 */
static bool load_end(BDRVQcow2State *s, Qcow2Load *load)
{
    Qcow2Load *known;

    QLIST_FOREACH(known, &s->loads, next) {
        if (known == load) {
            QLIST_REMOVE(load, next);
            return !load->stale;
        }
    }
    return false;
}

/* Called with the lock held, which is given away while the table is read. */
static int coroutine_fn GRAPH_RDLOCK
load_run(BlockDriverState *bs, uint64_t offset, uint64_t table, void *buf)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Load load = {
        .table = table,
        .bytes = s->l2_slice_size * l2_entry_size(s),
    };
    uint64_t still;
    int ret;

    qemu_co_queue_init(&load.waiters);
    QLIST_INSERT_HEAD(&s->loads, &load, next);
    qemu_co_mutex_unlock(&s->lock);

    BLKDBG_CO_EVENT(bs->file, BLKDBG_L2_LOAD);
    ret = bdrv_co_pread(bs->file, table, load.bytes, buf, 0);

    qemu_co_mutex_lock(&s->lock);
    if (!load_end(s, &load)) {
        /* An error means nothing, too: the table may have been replaced */
        ret = 0;
    } else if (ret >= 0 && qcow2_lookup_misses(s, offset, 0, &still) &&
               still == table) {
        ret = qcow2_cache_insert(bs, s->l2_table_cache, table, buf);
    }
    qemu_co_queue_restart_all(&load.waiters);
    return ret;
}

int coroutine_fn qcow2_load(BlockDriverState *bs, uint64_t offset,
                            uint64_t flags)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2Load *load;
    uint64_t table;
    unsigned bytes;
    void *buf;
    int ret = 0;

    if (!qcow2_lookup_misses(s, offset, flags, &table)) {
        return 0;
    }

    qemu_co_mutex_lock(&s->lock);
    /* If it is cached and not shown, the next use under the lock shows it */
    if (qcow2_lookup_misses(s, offset, flags, &table) &&
        !qcow2_cache_is_table_offset(s->l2_table_cache, table)) {
        bytes = s->l2_slice_size * l2_entry_size(s);
        load = load_find(s, table);
        if (load) {
            qemu_co_queue_wait(&load->waiters, &s->lock);
        } else if (load_may_begin(s, bytes)) {
            buf = qemu_try_blockalign(bs->file->bs, bytes);
            if (buf) {
                ret = load_run(bs, offset, table, buf);
                qemu_vfree(buf);
            }
        }
    }
    qemu_co_mutex_unlock(&s->lock);
    return ret;
}

void qcow2_load_stale(BDRVQcow2State *s, uint64_t table)
{
    Qcow2Load *load;

    QLIST_FOREACH(load, &s->loads, next) {
        if (load->table == table) {
            load->stale = true;
        }
    }
}

void qcow2_load_stale_all(BDRVQcow2State *s)
{
    Qcow2Load *load;

    QLIST_FOREACH(load, &s->loads, next) {
        load->stale = true;
    }
}
