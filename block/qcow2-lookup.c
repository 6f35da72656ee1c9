/*
 * Where a qcow2 image keeps a piece of the disk, found without its lock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qcow2-lookup.h"
#include "block/qcow2-metadata.h"
#include "qemu/atomic.h"
#include "qemu/brief-read.h"
#include "qemu/bswap.h"
#include "qemu/memalign.h"

/*
 * A slot's memory gets another content while a late reader looks at it, who
 * then forgets what it saw: ThreadSanitizer knows no sequence locks.
 */
#ifdef CONFIG_TSAN
#define READS_LATE __attribute__((noinline, no_sanitize("thread")))
#else
#define READS_LATE inline
#endif

static READS_LATE uint64_t l2_entry(const uint64_t *slice, unsigned index)
{
    return be64_to_cpu(qatomic_read__nocheck(&slice[index]));
}

/* The L1 entry for @offset, 0 if there is none. */
static uint64_t l1_entry(BDRVQcow2State *s, uint64_t offset)
{
    uint64_t index = offset >> (s->l2_bits + s->cluster_bits);
    uint64_t *l1_table;

    /* A table that has this size, or a larger one: see qcow2_lookup_new_l1() */
    if (index >= qatomic_load_acquire(&s->l1_size)) {
        return 0;
    }
    l1_table = qatomic_load_acquire(&s->l1_table);
    return qatomic_read__nocheck(&l1_table[index]);
}

/* The part with the entry at @offset of the L2 table at @table, if shown. */
static const uint64_t *l2_slice(BDRVQcow2State *s, Qcow2Slots *slots,
                                uint64_t table, uint64_t offset)
{
    unsigned index = offset_to_l2_index(s, offset);

    return qcow2_slots_find(slots, table + QEMU_ALIGN_DOWN(index,
                                qcow2_slots_entries(slots)) * L2E_SIZE_NORMAL);
}

/* Whether the locked path has nothing to say about @entry, at @offset. */
static bool GRAPH_RDLOCK
entry_is_plain(BlockDriverState *bs, uint64_t entry, QCow2ClusterType type,
               uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t host_offset = entry & L2E_OFFSET_MASK;

    switch (type) {
    case QCOW2_CLUSTER_NORMAL:
        return !offset_into_cluster(s, host_offset) &&
               (!has_data_file(bs) ||
                host_offset == start_of_cluster(s, offset));
    case QCOW2_CLUSTER_UNALLOCATED:
        return true;
    case QCOW2_CLUSTER_ZERO_PLAIN:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        return s->qcow_version >= 3 && !offset_into_cluster(s, host_offset);
    default:
        return false;
    }
}

/* How many clusters from the one of @entry on are alike, of at most @nb. */
static unsigned GRAPH_RDLOCK
count_alike(BlockDriverState *bs, const uint64_t *slice, unsigned index,
            unsigned nb, uint64_t entry, QCow2ClusterType type)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t expected = entry & L2E_OFFSET_MASK;
    unsigned i;

    for (i = 1; i < nb; i++) {
        uint64_t next = l2_entry(slice, index + i);

        expected += s->cluster_size;
        if (qcow2_get_cluster_type(bs, next) != type ||
            (type == QCOW2_CLUSTER_NORMAL &&
             (next & L2E_OFFSET_MASK) != expected)) {
            break;
        }
    }
    return i;
}

static QCow2SubclusterType subcluster_type(QCow2ClusterType type)
{
    switch (type) {
    case QCOW2_CLUSTER_NORMAL:
        return QCOW2_SUBCLUSTER_NORMAL;
    case QCOW2_CLUSTER_ZERO_PLAIN:
        return QCOW2_SUBCLUSTER_ZERO_PLAIN;
    case QCOW2_CLUSTER_ZERO_ALLOC:
        return QCOW2_SUBCLUSTER_ZERO_ALLOC;
    default:
        return QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN;
    }
}

/* As qcow2_lookup(), between brief_read_begin() and brief_read_end(). */
static bool GRAPH_RDLOCK
lookup(BlockDriverState *bs, Qcow2Slots *slots, uint64_t offset,
       unsigned *bytes, uint64_t *host_offset, QCow2SubclusterType *type)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned begin = qcow2_slots_begin(slots);
    unsigned entries = qcow2_slots_entries(slots);
    unsigned index = (offset >> s->cluster_bits) & (entries - 1);
    unsigned in_cluster = offset_into_cluster(s, offset);
    uint64_t wanted = MIN((uint64_t)*bytes + in_cluster,
                          (uint64_t)(entries - index) << s->cluster_bits);
    QCow2ClusterType first = QCOW2_CLUSTER_UNALLOCATED;
    uint64_t alike = wanted;
    uint64_t entry = 0;
    uint64_t table = l1_entry(s, offset) & L1E_OFFSET_MASK;

    if (offset_into_cluster(s, table)) {
        return false;
    }
    if (table) {
        const uint64_t *slice = l2_slice(s, slots, table, offset);

        if (!slice) {
            return false;
        }
        entry = l2_entry(slice, index);
        first = qcow2_get_cluster_type(bs, entry);
        if (!entry_is_plain(bs, entry, first, offset)) {
            return false;
        }
        alike = (uint64_t)count_alike(bs, slice, index,
                                      size_to_clusters(s, wanted), entry,
                                      first) << s->cluster_bits;
        if (qcow2_slots_retry(slots, begin)) {
            return false;
        }
    }

    *bytes = MIN(wanted, alike) - in_cluster;
    *host_offset = first == QCOW2_CLUSTER_NORMAL ?
                   (entry & L2E_OFFSET_MASK) + in_cluster : 0;
    *type = subcluster_type(first);
    return true;
}

bool coroutine_fn qcow2_lookup(BlockDriverState *bs, uint64_t offset,
                               unsigned *bytes, uint64_t *host_offset,
                               QCow2SubclusterType *type)
{
    BDRVQcow2State *s = bs->opaque;
    BriefReader *reader = brief_read_begin();
    Qcow2Slots *slots;
    bool found;

    if (!reader) {
        return false;
    }
    slots = qatomic_load_acquire(&s->lookup_slots);
    found = slots && lookup(bs, slots, offset, bytes, host_offset, type);
    brief_read_end(reader);
    return found;
}

/* As qcow2_lookup_in_place(), between brief_read_begin() and _end(). */
static bool GRAPH_RDLOCK
lookup_in_place(BlockDriverState *bs, Qcow2Slots *slots, uint64_t offset,
                unsigned bytes, uint64_t *host_offset)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned begin = qcow2_slots_begin(slots);
    unsigned entries = qcow2_slots_entries(slots);
    unsigned index = (offset >> s->cluster_bits) & (entries - 1);
    unsigned in_cluster = offset_into_cluster(s, offset);
    uint64_t nb = size_to_clusters(s, (uint64_t)in_cluster + bytes);
    uint64_t l1 = l1_entry(s, offset);
    uint64_t table = l1 & L1E_OFFSET_MASK;
    const uint64_t *slice;
    uint64_t cluster;

    if (!(l1 & QCOW_OFLAG_COPIED) || !table || offset_into_cluster(s, table) ||
        nb > entries - index) {
        return false;
    }
    slice = l2_slice(s, slots, table, offset);
    if (!slice) {
        return false;
    }
    cluster = l2_entry(slice, index) & L2E_OFFSET_MASK;
    for (unsigned i = 0; i < nb; i++) {
        /* Neither compressed nor of zeroes, and nobody else's */
        if (l2_entry(slice, index + i) !=
            ((cluster + ((uint64_t)i << s->cluster_bits)) |
             QCOW_OFLAG_COPIED)) {
            return false;
        }
    }
    if (qcow2_slots_retry(slots, begin) ||
        offset_into_cluster(s, cluster) ||
        (has_data_file(bs) ? cluster != start_of_cluster(s, offset) :
                             !cluster)) {
        return false;
    }

    *host_offset = cluster + in_cluster;
    return qcow2_metadata_misses(bs, *host_offset, bytes);
}

bool coroutine_fn qcow2_lookup_in_place(BlockDriverState *bs, uint64_t offset,
                                        unsigned bytes, uint64_t *host_offset)
{
    BDRVQcow2State *s = bs->opaque;
    BriefReader *reader = brief_read_begin();
    Qcow2Slots *slots;
    bool found;

    if (!reader) {
        return false;
    }
    slots = qatomic_load_acquire(&s->lookup_slots);
    found = slots && lookup_in_place(bs, slots, offset, bytes, host_offset);
    brief_read_end(reader);
    return found;
}

void qcow2_lookup_start(BDRVQcow2State *s)
{
    /* Two words for an entry, or words that cannot be read in one go */
    if (!has_subclusters(s) && HOST_LONG_BITS >= 64) {
        qatomic_store_release(&s->lookup_slots,
                              qcow2_cache_slots(s->l2_table_cache));
    }
}

void qcow2_lookup_stop(BDRVQcow2State *s)
{
    qatomic_set(&s->lookup_slots, NULL);
    brief_read_wait();
    qcow2_metadata_forget(s);
}

void qcow2_lookup_new_l1(BDRVQcow2State *s, uint64_t *table, int size)
{
    uint64_t *old = s->l1_table;

    assert(size >= s->l1_size);
    /* Who sees the new size is not to find the old table */
    qatomic_store_release(&s->l1_table, table);
    qatomic_store_release(&s->l1_size, size);
    brief_read_wait();
    qemu_vfree(old);
    qcow2_metadata_forget(s);
}

void qcow2_lookup_new_cache(BDRVQcow2State *s, Qcow2Cache *cache)
{
    Qcow2Cache *old = s->l2_table_cache;

    qatomic_set((void **)&s->l2_table_cache, cache);
    if (s->lookup_slots) {
        qatomic_store_release(&s->lookup_slots, qcow2_cache_slots(cache));
    }
    if (old) {
        brief_read_wait();
        qcow2_cache_destroy(old);
    }
}
