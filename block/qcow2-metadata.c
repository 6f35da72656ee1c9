/*
 * Which clusters of a qcow2 image hold metadata, for requests that write data
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qcow2-metadata.h"
#include "block/qcow2-slots.h"
#include "qemu/atomic.h"
#include "qemu/brief-read.h"
#include "qemu/host-utils.h"

/* The clusters of a request are looked up only if it has at most so many. */
#define CLUSTERS_MAX    1024

/* A set has at most so many clusters: enough for 1 PiB of 64-KiB clusters */
#define SET_MAX         (1 << 22)

/*
 * A hash set with open addressing.  At most half of its places are taken.  A
 * free place is 0.  A taken place is the number of a cluster plus one, and does
 * not change any more.
 */
typedef struct Qcow2Metadata {
    unsigned bits;
    unsigned taken;
    uint64_t place[];
} Qcow2Metadata;

static Qcow2Metadata *set_new(uint64_t clusters)
{
    unsigned bits = MAX(6, ctz64(pow2ceil(clusters + 1)) + 2);
    Qcow2Metadata *set;

    set = g_try_malloc0(sizeof(*set) + (sizeof(set->place[0]) << bits));
    if (set) {
        set->bits = bits;
    }
    return set;
}

/* Return the place of @cluster, or the free place where it belongs. */
static uint64_t *set_place(Qcow2Metadata *set, uint64_t cluster)
{
    uint64_t mask = (1ULL << set->bits) - 1;
    uint64_t i = qcow2_spread(cluster) >> (64 - set->bits);
    uint64_t found;

    while ((found = qatomic_read__nocheck(&set->place[i])) &&
           found != cluster + 1) {
        i = (i + 1) & mask;
    }
    return &set->place[i];
}

/* Add @cluster.  Return false if the set is full. */
static bool set_add(Qcow2Metadata *set, uint64_t cluster)
{
    uint64_t *place = set_place(set, cluster);

    if (!*place) {
        if (set->taken >= 1U << (set->bits - 1)) {
            return false;
        }
        set->taken++;
        qatomic_set__nocheck(place, cluster + 1);
    }
    return true;
}

/*
 * Building the set
 */

typedef void VisitFn(BDRVQcow2State *s, uint64_t offset, uint64_t bytes,
                     void *opaque);

static void visit_entries(BDRVQcow2State *s, const uint64_t *table,
                          uint64_t entries, uint64_t mask, VisitFn *visit,
                          void *opaque)
{
    for (uint64_t i = 0; i < entries; i++) {
        if (table[i] & mask) {
            visit(s, table[i] & mask, s->cluster_size, opaque);
        }
    }
}

/*
 * Visit all that qcow2_check_metadata_overlap() compares with, except the L2
 * tables of snapshots, whose places are known on the disk only.
 */
static void visit_metadata(BDRVQcow2State *s, VisitFn *visit, void *opaque)
{
    visit(s, 0, s->cluster_size, opaque);
    visit(s, s->l1_table_offset, s->l1_size * L1E_SIZE, opaque);
    visit(s, s->refcount_table_offset,
          (uint64_t)s->refcount_table_size * REFTABLE_ENTRY_SIZE, opaque);
    visit(s, s->snapshots_offset, s->snapshots_size, opaque);
    visit(s, s->bitmap_directory_offset, s->bitmap_directory_size, opaque);
    for (unsigned i = 0; s->snapshots && i < s->nb_snapshots; i++) {
        visit(s, s->snapshots[i].l1_table_offset,
              (uint64_t)s->snapshots[i].l1_size * L1E_SIZE, opaque);
    }
    if (s->l1_table) {
        visit_entries(s, s->l1_table, s->l1_size, L1E_OFFSET_MASK, visit,
                      opaque);
    }
    if (s->refcount_table) {
        visit_entries(s, s->refcount_table, s->refcount_table_size,
                      REFT_OFFSET_MASK, visit, opaque);
    }
}

static uint64_t clusters_of(BDRVQcow2State *s, uint64_t offset, uint64_t bytes)
{
    return size_to_clusters(s, offset_into_cluster(s, offset) + bytes);
}

static void visit_count(BDRVQcow2State *s, uint64_t offset, uint64_t bytes,
                        void *opaque)
{
    *(uint64_t *)opaque += bytes ? clusters_of(s, offset, bytes) : 0;
}

static void visit_add(BDRVQcow2State *s, uint64_t offset, uint64_t bytes,
                      void *opaque)
{
    uint64_t first = offset >> s->cluster_bits;
    uint64_t nb = bytes ? clusters_of(s, offset, bytes) : 0;

    for (uint64_t i = 0; i < nb; i++) {
        bool added = set_add(opaque, first + i);

        assert(added);
    }
}

void qcow2_metadata_learn(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t clusters = 0;
    Qcow2Metadata *set;

    if (s->metadata || (s->overlap_check & QCOW2_OL_INACTIVE_L2)) {
        return;
    }
    visit_metadata(s, visit_count, &clusters);
    set = clusters <= SET_MAX ? set_new(clusters) : NULL;
    if (set) {
        visit_metadata(s, visit_add, set);
        qatomic_store_release(&s->metadata, set);
    }
}

void qcow2_metadata_add(BDRVQcow2State *s, uint64_t offset)
{
    if (s->metadata && !set_add(s->metadata, offset >> s->cluster_bits)) {
        qcow2_metadata_forget(s);
    }
}

void qcow2_metadata_forget(BDRVQcow2State *s)
{
    Qcow2Metadata *set = s->metadata;

    if (set) {
        qatomic_set(&s->metadata, NULL);
        brief_read_wait();
        g_free(set);
    }
}

/*
 * Checking requests
 */

bool qcow2_metadata_misses(BlockDriverState *bs, uint64_t offset,
                           uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t first = offset >> s->cluster_bits;
    uint64_t nb = clusters_of(s, offset, bytes);
    Qcow2Metadata *set;

    if (has_data_file(bs)) {
        return true;
    }
    set = qatomic_load_acquire(&s->metadata);
    if (!set || nb > CLUSTERS_MAX) {
        return false;
    }
    for (uint64_t i = 0; i < nb; i++) {
        if (qatomic_read__nocheck(set_place(set, first + i))) {
            return false;
        }
    }
    return true;
}

int qcow2_metadata_check_locked(BlockDriverState *bs, uint64_t offset,
                                uint64_t bytes)
{
    if (qcow2_metadata_misses(bs, offset, bytes)) {
        return 0;
    }
    qcow2_metadata_learn(bs);
    return qcow2_pre_write_overlap_check(bs, 0, offset, bytes, true);
}

int coroutine_fn qcow2_metadata_check(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    BriefReader *reader = brief_read_begin();
    int ret;

    if (reader) {
        bool misses = qcow2_metadata_misses(bs, offset, bytes);

        brief_read_end(reader);
        if (misses) {
            return 0;
        }
    }
    qemu_co_mutex_lock(&s->lock);
    ret = qcow2_metadata_check_locked(bs, offset, bytes);
    qemu_co_mutex_unlock(&s->lock);
    return ret;
}
