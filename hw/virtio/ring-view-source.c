/*
 * Views of guest memory that follow an address space
 *
 *    begin -> region_add / region_nop ... -> commit
 *               RAM sections are collected     differs from the current view:
 *                                              publish, tell the device
 *
 * A change of dirty logging comes in the same way, for one region or for all:
 * after the logging state is set, every section is reported anew, and a commit
 * follows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "hw/virtio/ring-view.h"
#include "qemu/tsan-guest-memory.h"
#include "system/xen.h"

/* A RAM section that was reported in this transaction, or is in a view. */
typedef struct RingSection {
    RingViewRange range;
    MemoryRegion *mr;
    hwaddr offset;              /* of range.start in @mr */
} RingSection;

/* What a view keeps for marking its memory as written. */
typedef struct RingBacking {
    unsigned n;
    MemoryRegionCache caches[];
} RingBacking;

typedef struct RingMemory {
    RingViewSource src;         /* read by the queues */
    /* The BQL protects the following fields. */
    MemoryListener listener;
    GArray *sections;           /* RingSection, collected */
    bool partial;               /* collected, as in @src */
    bool seen;                  /* this transaction concerns our space */
    bool dying;
    RingViewChangedFn *changed;
    void *opaque;
} RingMemory;

static void ring_backing_mark(const RingView *view, unsigned n,
                              hwaddr offset, hwaddr len)
{
    RingBacking *backing = view->opaque;

    address_space_cache_invalidate(&backing->caches[n], offset, len);
}

static void ring_backing_release(RingView *view)
{
    RingBacking *backing = view->opaque;

    for (unsigned i = 0; i < backing->n; i++) {
        memory_region_unref(backing->caches[i].mrs.mr);
    }
    g_free(backing);
}

static const RingViewOps ring_backing_ops = {
    .mark = ring_backing_mark,
    .release = ring_backing_release,
};

/*
 * Add a cache of @s with a reference on its RAM region only.  One from
 * address_space_cache_init() would hold the whole FlatView, and with it all
 * regions of all devices, as long as one request is in flight.  A device that
 * is unplugged could not go away then.  The cache is good only for
 * address_space_cache_invalidate().
 */
static void ring_backing_add(RingBacking *backing, const RingSection *s)
{
    MemoryRegionCache *cache = &backing->caches[backing->n++];

    memory_region_ref(s->mr);
    *cache = (MemoryRegionCache) {
        .ptr = s->range.host,
        .xlat = s->offset,
        .len = s->range.len,
        .mrs = { .mr = s->mr },
        .is_write = true,
    };
}

static RingView *ring_view_new_from_sections(const GArray *sections)
{
    unsigned n = sections->len;
    g_autofree RingViewRange *ranges = g_new(RingViewRange, n);
    RingBacking *backing;
    RingView *view;

    backing = g_malloc0(sizeof(*backing) + n * sizeof(backing->caches[0]));
    for (unsigned i = 0; i < n; i++) {
        const RingSection *s = &g_array_index(sections, RingSection, i);

        ranges[i] = s->range;
        ring_backing_add(backing, s);
    }
    view = ring_view_new_from_ranges(ranges, n);
    view->opaque = backing;
    view->ops = &ring_backing_ops;
    return view;
}

static bool ring_view_equals(const RingView *view, const GArray *sections)
{
    const RingBacking *backing = view->opaque;

    if (view->nranges != sections->len) {
        return false;
    }
    for (unsigned i = 0; i < sections->len; i++) {
        const RingSection *s = &g_array_index(sections, RingSection, i);
        const RingViewRange *r = &view->ranges[i];

        if (r->start != s->range.start || r->len != s->range.len ||
            r->host != s->range.host || r->readonly != s->range.readonly ||
            r->track != s->range.track ||
            backing->caches[i].mrs.mr != s->mr) {
            return false;
        }
    }
    return true;
}

static bool ring_sections_have(const GArray *sections, const MemoryRegion *mr)
{
    for (unsigned i = 0; i < sections->len; i++) {
        if (g_array_index(sections, RingSection, i).mr == mr) {
            return true;
        }
    }
    return false;
}

/* Return whether @view keeps memory alive that is not in the new sections. */
static bool ring_view_has_more(const RingView *view, const GArray *sections)
{
    const RingBacking *backing = view->opaque;

    for (unsigned i = 0; i < backing->n; i++) {
        if (!ring_sections_have(sections, backing->caches[i].mrs.mr)) {
            return true;
        }
    }
    return false;
}

static void ring_memory_begin(MemoryListener *listener)
{
    RingMemory *rm = container_of(listener, RingMemory, listener);

    g_array_set_size(rm->sections, 0);
    rm->partial = xen_enabled();
    rm->seen = false;
}

/*
 * Return whether writes to the section must be reported.  While all of memory
 * is logged, this is true for each section.  A region may become migratable
 * after it was added, and the listener is not told of that.
 */
static bool ring_section_is_tracked(const MemoryRegionSection *section)
{
    return global_dirty_tracking ||
           memory_region_get_dirty_log_mask(section->mr);
}

/* Do the tests of memory_access_is_direct() once, and not at each access. */
static bool ring_section_is_direct(const MemoryRegionSection *section)
{
    return memory_region_is_ram(section->mr) &&
           !memory_region_is_ram_device(section->mr) &&
           !xen_enabled();
}

static void ring_memory_region_add(MemoryListener *listener,
                                   MemoryRegionSection *section)
{
    RingMemory *rm = container_of(listener, RingMemory, listener);
    MemoryRegion *mr = section->mr;
    RingSection s;

    rm->seen = true;
    rm->partial |= memory_region_is_iommu(mr);
    if (!ring_section_is_direct(section)) {
        return;
    }
    s = (RingSection) {
        .range = {
            .start = section->offset_within_address_space,
            .len = int128_get64(section->size),
            .host = (uint8_t *)memory_region_get_ram_ptr(mr) +
                    section->offset_within_region,
            .readonly = section->readonly || mr->readonly || mr->rom_device,
            .track = ring_section_is_tracked(section),
        },
        .mr = mr,
        .offset = section->offset_within_region,
    };
    tsan_guest_memory(s.range.host, s.range.len);
    g_array_append_val(rm->sections, s);
}

static void ring_memory_region_del(MemoryListener *listener,
                                   MemoryRegionSection *section)
{
    RingMemory *rm = container_of(listener, RingMemory, listener);

    rm->seen = true;
}

static void ring_memory_commit(MemoryListener *listener)
{
    RingMemory *rm = container_of(listener, RingMemory, listener);
    bool gone;

    if (!rm->seen || rm->dying) {
        return;
    }
    rm->src.partial = rm->partial;
    if (ring_view_equals(rm->src.current, rm->sections)) {
        return;
    }
    gone = ring_view_has_more(rm->src.current, rm->sections);
    ring_view_source_publish(&rm->src,
                             ring_view_new_from_sections(rm->sections));
    if (rm->changed) {
        rm->changed(rm->opaque, gone);
    }
}

RingViewSource *ring_view_source_new(AddressSpace *as,
                                     RingViewChangedFn *changed, void *opaque)
{
    RingMemory *rm = g_new0(RingMemory, 1);

    rm->sections = g_array_new(false, false, sizeof(RingSection));
    ring_view_source_init(&rm->src, ring_view_new_from_sections(rm->sections));
    rm->listener = (MemoryListener) {
        .name = "ring-view",
        .begin = ring_memory_begin,
        .region_add = ring_memory_region_add,
        .region_nop = ring_memory_region_add,
        .region_del = ring_memory_region_del,
        .commit = ring_memory_commit,
    };
    memory_listener_register(&rm->listener, as);
    /* Set the function now, because it is not called for the first view. */
    rm->changed = changed;
    rm->opaque = opaque;
    return &rm->src;
}

void ring_view_source_free(RingViewSource *src)
{
    RingMemory *rm = container_of(src, RingMemory, src);

    /* Ignore that unregistering reports every section as removed. */
    rm->dying = true;
    memory_listener_unregister(&rm->listener);
    ring_view_source_destroy(&rm->src);
    g_array_free(rm->sections, true);
    g_free(rm);
}
