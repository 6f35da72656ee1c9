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
#include "qemu/host-utils.h"
#include "qemu/memalign.h"

/*
 * The memory of a slot may get another content while a late reader looks at it.
 * The reader then ignores what it has read.  ThreadSanitizer does not know such
 * sequence locks.
 */
#ifdef CONFIG_TSAN
#define READS_LATE __attribute__((noinline, no_sanitize("thread")))
#else
#define READS_LATE inline
#endif

/* The place of a request's entries in a table that the cache shows. */
typedef struct L2Place {
    Qcow2Slots *slots;
    unsigned changes;       /* sequence count of the slots, read first */
    unsigned pairs;         /* sequence count of entries with two words */
    unsigned words;         /* number of words of an entry */
    unsigned index;         /* index of the first entry */
    unsigned entries;       /* number of entries from there on */
    const uint64_t *slice;
} L2Place;

/* The entry of one cluster.  Only images with subclusters have the bitmap. */
typedef struct L2Entry {
    uint64_t entry;
    uint64_t bitmap;
} L2Entry;

/* Return the L1 entry for @offset, or 0 if there is none. */
static uint64_t l1_entry(BDRVQcow2State *s, uint64_t offset)
{
    uint64_t index = offset >> (s->l2_bits + s->cluster_bits);
    uint64_t *l1_table;

    /* The table has at least this size; it pairs with qcow2_lookup_new_l1(). */
    if (index >= qatomic_load_acquire(&s->l1_size)) {
        return 0;
    }
    l1_table = qatomic_load_acquire(&s->l1_table);
    return qatomic_read__nocheck(&l1_table[index]);
}

/* Begin.  place_retry() tells whether a slot has changed since this call. */
static void place_begin(L2Place *place, BDRVQcow2State *s, Qcow2Slots *slots,
                        uint64_t offset)
{
    place->slots = slots;
    place->changes = qcow2_slots_begin(slots);
    place->words = has_subclusters(s) ? 2 : 1;
    place->entries = qcow2_slots_words(slots) / place->words;
    place->index = (offset >> s->cluster_bits) & (place->entries - 1);
    place->entries -= place->index;
}

/*
 * Return where that part of the L2 table at @table lies which has the entry for
 * @offset.
 */
static uint64_t place_table(const L2Place *place, BDRVQcow2State *s,
                            uint64_t table, uint64_t offset)
{
    unsigned first = offset_to_l2_index(s, offset) - place->index;

    return table + first * place->words * sizeof(uint64_t);
}

/* Find the entries in the cache.  Return false if it does not show them. */
static bool place_find(L2Place *place, BDRVQcow2State *s, uint64_t table,
                       uint64_t offset)
{
    place->slice = qcow2_slots_find(place->slots,
                                    place_table(place, s, table, offset));
    if (!place->slice) {
        return false;
    }
    if (place->words > 1) {
        place->pairs = qcow2_slots_begin_pairs(place->slots, place->slice);
    }
    return true;
}

static READS_LATE L2Entry place_entry(const L2Place *place, unsigned i)
{
    const uint64_t *word = &place->slice[(place->index + i) * place->words];
    L2Entry e = { .entry = be64_to_cpu(qatomic_read__nocheck(word)) };

    if (place->words > 1) {
        e.bitmap = be64_to_cpu(qatomic_read__nocheck(word + 1));
    }
    return e;
}

/* Return whether what has been read must be ignored. */
static bool place_retry(const L2Place *place)
{
    return (place->words > 1 &&
            qcow2_slots_retry_pairs(place->slots, place->slice,
                                    place->pairs)) ||
           qcow2_slots_retry(place->slots, place->changes);
}

/* Return whether @entry, for @offset, needs no check by the locked path. */
static bool GRAPH_RDLOCK
entry_is_plain(BlockDriverState *bs, uint64_t entry, QCow2SubclusterType type,
               uint64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t host_offset = entry & L2E_OFFSET_MASK;

    switch (type) {
    case QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN:
        return true;
    case QCOW2_SUBCLUSTER_ZERO_PLAIN:
        return s->qcow_version >= 3;
    case QCOW2_SUBCLUSTER_ZERO_ALLOC:
        if (s->qcow_version < 3) {
            return false;
        }
        /* fallthrough */
    case QCOW2_SUBCLUSTER_NORMAL:
    case QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC:
        return !offset_into_cluster(s, host_offset) &&
               (!has_data_file(bs) ||
                host_offset == start_of_cluster(s, offset));
    default:
        return false;
    }
}

static bool type_has_cluster(QCow2SubclusterType type)
{
    return type == QCOW2_SUBCLUSTER_NORMAL ||
           type == QCOW2_SUBCLUSTER_ZERO_ALLOC ||
           type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;
}

/*
 * Return how many neighbouring subclusters of a cluster, from @sc on, have the
 * type of the first, which is @type.
 */
static unsigned alike_in_cluster(const L2Place *place, L2Entry e,
                                 QCow2SubclusterType type, unsigned sc)
{
    uint32_t alloc = e.bitmap;
    uint32_t zero = e.bitmap >> 32;

    if (place->words == 1) {
        return 1;
    }
    switch (type) {
    case QCOW2_SUBCLUSTER_NORMAL:
        return cto32(alloc >> sc);
    case QCOW2_SUBCLUSTER_ZERO_PLAIN:
    case QCOW2_SUBCLUSTER_ZERO_ALLOC:
        return cto32(zero >> sc);
    default:
        return cto32(~(alloc | zero) >> sc);
    }
}

/*
 * Return how many neighbouring subclusters, from @sc in the cluster of @e on,
 * have the same type and, if they have a place in the image, lie there one
 * after the other.  Look at @nb clusters at most.  Return 0 if one of their
 * entries is invalid.
 */
static unsigned GRAPH_RDLOCK
count_alike(BlockDriverState *bs, const L2Place *place, uint64_t nb, L2Entry e,
            QCow2SubclusterType type, unsigned sc)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t expected = e.entry & L2E_OFFSET_MASK;
    unsigned alike = alike_in_cluster(place, e, type, sc);

    for (unsigned i = 1; i < nb; i++) {
        QCow2SubclusterType next;

        if (sc + alike != i * s->subclusters_per_cluster) {
            break;
        }
        e = place_entry(place, i);
        expected += s->cluster_size;
        next = qcow2_get_subcluster_type(bs, e.entry, e.bitmap, 0);
        if (next == QCOW2_SUBCLUSTER_INVALID) {
            return 0;
        }
        if (next != type || (type_has_cluster(type) &&
                             (e.entry & L2E_OFFSET_MASK) != expected)) {
            break;
        }
        alike += alike_in_cluster(place, e, type, 0);
    }
    return alike;
}

/* Do the same as qcow2_lookup().  Called within a brief read. */
static bool GRAPH_RDLOCK
lookup(BlockDriverState *bs, Qcow2Slots *slots, uint64_t offset,
       unsigned *bytes, uint64_t *host_offset, QCow2SubclusterType *type)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned in_cluster = offset_into_cluster(s, offset);
    unsigned sc = offset_to_sc_index(s, offset);
    uint64_t wanted = (uint64_t)*bytes + in_cluster;
    uint64_t table, alike;
    L2Place place;
    L2Entry e;

    place_begin(&place, s, slots, offset);
    wanted = MIN(wanted, (uint64_t)place.entries << s->cluster_bits);
    table = l1_entry(s, offset) & L1E_OFFSET_MASK;
    if (!table) {
        *bytes = wanted - in_cluster;
        *host_offset = 0;
        *type = QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN;
        return true;
    }
    if (offset_into_cluster(s, table) ||
        !place_find(&place, s, table, offset)) {
        return false;
    }

    e = place_entry(&place, 0);
    *type = qcow2_get_subcluster_type(bs, e.entry, e.bitmap, sc);
    if (!entry_is_plain(bs, e.entry, *type, offset)) {
        return false;
    }
    alike = count_alike(bs, &place, size_to_clusters(s, wanted), e, *type, sc);
    if (!alike || place_retry(&place)) {
        return false;
    }
    *bytes = MIN(wanted, (sc + alike) << s->subcluster_bits) - in_cluster;
    *host_offset = type_has_cluster(*type) ?
                   (e.entry & L2E_OFFSET_MASK) + in_cluster : 0;
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

/* Return whether the subclusters from @first to @last have data. */
static bool have_data(L2Entry e, unsigned first, unsigned last)
{
    uint64_t wanted = QCOW_OFLAG_SUB_ALLOC_RANGE(first, last + 1);

    return (e.bitmap & wanted) == wanted && !((e.bitmap >> 32) & e.bitmap);
}

/*
 * Return whether the entries are those of the clusters from @cluster on, and
 * whether these may be overwritten: no cluster is compressed, reads as zeroes,
 * or is shared with a snapshot.
 */
static bool are_in_place(BDRVQcow2State *s, const L2Place *place,
                         uint64_t cluster, uint64_t offset, unsigned bytes)
{
    uint64_t nb = size_to_clusters(s, offset_into_cluster(s, offset) +
                                      (uint64_t)bytes);

    for (unsigned i = 0; i < nb; i++) {
        L2Entry e = place_entry(place, i);

        if (e.entry != ((cluster + ((uint64_t)i << s->cluster_bits)) |
                        QCOW_OFLAG_COPIED)) {
            return false;
        }
        if (place->words > 1 &&
            !have_data(e, i ? 0 : offset_to_sc_index(s, offset),
                       i < nb - 1 ? s->subclusters_per_cluster - 1 :
                       offset_to_sc_index(s, offset + bytes - 1))) {
            return false;
        }
    }
    return true;
}

/* Do the same as qcow2_lookup_in_place().  Called within a brief read. */
static bool GRAPH_RDLOCK
lookup_in_place(BlockDriverState *bs, Qcow2Slots *slots, uint64_t offset,
                unsigned bytes, uint64_t *host_offset)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned in_cluster = offset_into_cluster(s, offset);
    uint64_t l1, table, cluster;
    L2Place place;

    place_begin(&place, s, slots, offset);
    l1 = l1_entry(s, offset);
    table = l1 & L1E_OFFSET_MASK;
    if (!(l1 & QCOW_OFLAG_COPIED) || !table || offset_into_cluster(s, table) ||
        size_to_clusters(s, (uint64_t)in_cluster + bytes) > place.entries ||
        !place_find(&place, s, table, offset)) {
        return false;
    }
    cluster = place_entry(&place, 0).entry & L2E_OFFSET_MASK;
    if (!are_in_place(s, &place, cluster, offset, bytes) ||
        place_retry(&place) || offset_into_cluster(s, cluster) ||
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

bool qcow2_lookup_misses(BDRVQcow2State *s, uint64_t offset, uint64_t flags,
                         uint64_t *table, unsigned *bytes)
{
    BriefReader *reader = brief_read_begin();
    Qcow2Slots *slots;
    bool misses = false;
    L2Place place;
    uint64_t l1;

    if (!reader) {
        return false;
    }
    slots = qatomic_load_acquire(&s->lookup_slots);
    if (slots) {
        place_begin(&place, s, slots, offset);
        l1 = l1_entry(s, offset);
        *table = place_table(&place, s, l1 & L1E_OFFSET_MASK, offset);
        *bytes = 1U << slots->table_bits;
        misses = (l1 & L1E_OFFSET_MASK) && (l1 & flags) == flags &&
                 !offset_into_cluster(s, l1 & L1E_OFFSET_MASK) &&
                 !qcow2_slots_shows(slots, *table);
    }
    brief_read_end(reader);
    return misses;
}

void qcow2_lookup_start(BDRVQcow2State *s)
{
    /* A reader needs a host that reads 64 bits in one access. */
    if (HOST_LONG_BITS >= 64) {
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

void qcow2_lookup_change_begin(BDRVQcow2State *s, const uint64_t *slice)
{
    if (has_subclusters(s)) {
        qcow2_slots_change_begin(qcow2_cache_slots(s->l2_table_cache), slice);
    }
}

void qcow2_lookup_change_end(BDRVQcow2State *s, const uint64_t *slice)
{
    if (has_subclusters(s)) {
        qcow2_slots_change_end(qcow2_cache_slots(s->l2_table_cache), slice);
    }
}

void qcow2_lookup_new_l1(BDRVQcow2State *s, uint64_t *table, int size)
{
    uint64_t *old = s->l1_table;

    assert(size >= s->l1_size);
    /* A reader that sees the new size must not find the old table. */
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
