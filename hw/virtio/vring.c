/*
 * Rings in guest memory: their place, their view of memory, and those parts of
 * reporting and notifying that both layouts have in common
 *
 *    vring.c  -->  vring-split.c, vring-packed.c  -->  vring-chain.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vring-chain.h"
#include "vring-layout.h"

/* The areas of a ring, at the addresses where a view maps them */
typedef struct VRingAreas {
    void *desc;
    void *avail;
    void *used;
    bool used_track;
} VRingAreas;

/* The segments of the chain that was taken last; one chain at a time */
static __thread struct iovec thread_iov[VRING_MAX_SEGMENTS];

void vring_enter_thread(VRing *r)
{
    r->iov = thread_iov;
}

void vring_setup(VRing *r, const VRingConfig *config, AddressSpace *as)
{
    assert(config->num <= VRING_MAX_SEGMENTS);
    *r = (VRing) {
        .config = *config,
        .as = as,
        .num = config->num,
        .packed = config->packed,
        .event_idx = config->event_idx,
        .indirect = config->indirect,
        .notify_on_empty = config->notify_on_empty,
        .avail_wrap = true,
        .used_wrap = true,
        .notification = true,
    };
    vring_enter_thread(r);
}

void vring_cleanup(VRing *r)
{
    assert(!vring_attached(r) && !r->retired);
    g_free(r->table);
    r->table = NULL;
    r->as = NULL;
}

static VRingViewRef *view_ref_new(RingView *view)
{
    VRingViewRef *ref = g_new0(VRingViewRef, 1);

    ref->view = view;
    return ref;
}

static void vring_release_retired(VRing *r)
{
    VRingViewRef **p = &r->retired;

    while (*p) {
        VRingViewRef *ref = *p;

        if (ref->inflight) {
            p = &ref->next;
            continue;
        }
        *p = ref->next;
        ring_view_unref(ref->view);
        g_free(ref);
    }
}

/* Take no more chains by the present view.  Its last chain frees it. */
static void vring_retire_view(VRing *r)
{
    r->view_ref->next = r->retired;
    r->retired = r->view_ref;
    r->view_ref = NULL;
    if (!r->pushed) {
        vring_release_retired(r);
    }
}

static void *vring_find_area(const RingView *view, hwaddr addr, size_t size,
                             size_t align, bool is_write, bool *track)
{
    const RingViewRange *range;
    RingViewHint hint = 0;
    size_t len = size;
    void *host = ring_view_map(view, &hint, addr, &len, is_write, &range);

    if (!host || len != size || !QEMU_PTR_IS_ALIGNED(host, align)) {
        return NULL;
    }
    *track |= is_write && range->track;
    return host;
}

static bool vring_find_areas(const VRing *r, const RingView *view,
                             VRingAreas *areas)
{
    const VRingConfig *c = &r->config;
    size_t event = c->event_idx ? sizeof(uint16_t) : 0;
    size_t avail_size = sizeof(struct vring_avail) +
                        c->num * sizeof(uint16_t) + event;
    size_t used_size = sizeof(struct vring_used) +
                       c->num * sizeof(struct vring_used_elem) + event;
    size_t avail_align = VRING_AVAIL_ALIGN_SIZE;

    if (c->packed) {
        avail_size = used_size = sizeof(struct vring_packed_desc_event);
        avail_align = VRING_USED_ALIGN_SIZE;
    }
    areas->used_track = false;
    areas->desc = vring_find_area(view, c->desc,
                                  c->num * sizeof(struct vring_desc),
                                  VRING_DESC_ALIGN_SIZE, c->packed,
                                  &areas->used_track);
    areas->avail = vring_find_area(view, c->avail, avail_size, avail_align,
                                   false, &areas->used_track);
    areas->used = vring_find_area(view, c->used, used_size,
                                  VRING_USED_ALIGN_SIZE, true,
                                  &areas->used_track);
    return areas->desc && areas->avail && areas->used;
}

static void vring_use_view(VRing *r, RingView *view, const VRingAreas *areas)
{
    r->view_ref = view_ref_new(view);
    r->hint = 0;
    r->desc = areas->desc;
    r->avail = areas->avail;
    r->used = areas->used;
    r->used_track = areas->used_track;
}

static bool vring_is_supported(const VRing *r)
{
    const VRingConfig *c = &r->config;

    if (!c->num || c->in_order || c->big_endian) {
        return false;
    }
    if (c->packed) {
        return r->last_avail_idx < c->num && r->used_idx < c->num;
    }
    return is_power_of_2(c->num);
}

bool vring_attach(VRing *r, RingViewSource *src)
{
    VRingAreas areas;
    RingView *view;

    assert(!vring_attached(r));
    if (!vring_is_supported(r)) {
        return false;
    }
    view = ring_view_source_acquire(src);
    if (!vring_find_areas(r, view, &areas)) {
        ring_view_unref(view);
        return false;
    }
    r->src = src;
    r->signalled_used_valid = false;
    r->notification = true;
    vring_use_view(r, view, &areas);
    return true;
}

void vring_detach(VRing *r)
{
    assert(!r->unpublished);
    if (!vring_attached(r)) {
        return;
    }
    vring_retire_view(r);
    r->src = NULL;
    r->desc = NULL;
    r->avail = NULL;
    r->used = NULL;
}

static void vring_report_pushed(const VRing *r)
{
    for (const VRingChain *c = r->pushed; c; c = c->next) {
        vring_chain_report(c);
    }
}

bool vring_switch_view(VRing *r)
{
    RingView *view = ring_view_source_acquire(r->src);
    VRingAreas areas;

    if (!vring_find_areas(r, view, &areas)) {
        ring_view_unref(view);
        return false;
    }
    /* vring_publish() finds a current view, and so does not report these. */
    vring_report_pushed(r);
    vring_retire_view(r);
    vring_use_view(r, view, &areas);
    return true;
}

bool vring_can_attach(const VRingConfig *config, const RingView *view)
{
    VRing probe = { .config = *config };
    VRingAreas areas;

    return vring_is_supported(&probe) &&
           vring_find_areas(&probe, view, &areas);
}

void vring_get_state(const VRing *r, VRingState *state)
{
    *state = (VRingState) {
        .last_avail_idx = r->last_avail_idx,
        .used_idx = r->used_idx,
        .avail_wrap = r->avail_wrap,
        .used_wrap = r->used_wrap,
    };
}

bool vring_set_state(VRing *r, const VRingState *state)
{
    unsigned inuse = (uint16_t)(state->last_avail_idx - state->used_idx);

    assert(!r->unpublished);
    if (r->packed) {
        if (state->last_avail_idx >= r->num || state->used_idx >= r->num) {
            return false;
        }
        inuse = state->last_avail_idx - state->used_idx +
                (state->avail_wrap != state->used_wrap ? r->num : 0);
    }
    if (inuse > r->num) {
        return false;
    }
    r->last_avail_idx = state->last_avail_idx;
    r->shadow_avail_idx = state->last_avail_idx;
    r->used_idx = state->used_idx;
    r->avail_wrap = state->avail_wrap;
    r->used_wrap = state->used_wrap;
    r->inuse = inuse;
    r->signalled_used_valid = false;
    r->fault = NULL;
    return true;
}

void vring_drop(VRing *r, VRingChain *chain)
{
    vring_chain_unmap(r, chain, 0);
    vring_chain_report(chain);
    chain->view_ref->inflight--;
    r->inuse -= chain->ndescs;
    if (!r->pushed) {
        vring_release_retired(r);
    }
}

/* Report the used entries of this batch, and the index that shows them. */
static void vring_report_used(const VRing *r)
{
    const RingView *view = r->view_ref->view;
    size_t entry = r->packed ? sizeof(struct vring_packed_desc)
                             : sizeof(struct vring_used_elem);
    uint8_t *base = r->packed ? (uint8_t *)r->packed_desc
                              : (uint8_t *)r->used->ring;
    unsigned end = r->used_idx % r->num;
    unsigned first = (end + r->num - r->unpublished) % r->num;
    unsigned n = MIN(r->unpublished, r->num - first);

    ring_view_mark_written(view, base + first * entry, n * entry);
    if (n < r->unpublished) {
        ring_view_mark_written(view, base, (r->unpublished - n) * entry);
    }
    if (!r->packed) {
        ring_view_mark_written(view, &r->used->idx, sizeof(r->used->idx));
    }
}

/* The rare part of vring_publish(), for logging and for a view that changed */
static void vring_published_rare(VRing *r)
{
    bool late = !ring_view_source_is_current(r->src, r->view_ref->view);

    if (late) {
        vring_report_pushed(r);
    }
    if (late || r->used_track) {
        vring_report_used(r);
    }
    vring_release_retired(r);
}

bool vring_publish(VRing *r)
{
    bool wanted;

    if (!r->unpublished) {
        return false;
    }
    if (r->packed) {
        vring_packed_publish(r);
    } else {
        vring_split_publish(r);
    }
    /*
     * Make the entries visible before reading whether the driver wants an
     * interrupt, and before looking at the view (case 2 in vring.h).
     */
    smp_mb();
    if (unlikely(r->used_track || r->retired ||
                 !ring_view_source_is_current(r->src, r->view_ref->view))) {
        vring_published_rare(r);
    }
    wanted = r->packed ? vring_packed_wants_interrupt(r)
                       : vring_split_wants_interrupt(r);
    r->signalled_used_valid = true;
    r->pushed = NULL;
    r->unpublished = 0;
    return wanted;
}

bool vring_driver_waits(const VRing *r)
{
    return r->packed ? vring_packed_driver_waits(r)
                     : vring_split_driver_waits(r);
}

void vring_set_notification(VRing *r, bool enable)
{
    void *field;
    size_t len;

    if (!enable && !r->notification) {
        return;
    }
    r->notification = enable;
    if (r->packed) {
        vring_packed_set_notification(r, enable);
        field = r->device_event;
        len = sizeof(*r->device_event);
    } else {
        vring_split_set_notification(r, enable);
        field = r->event_idx ? (void *)&r->used->ring[r->num]
                             : (void *)&r->used->flags;
        len = sizeof(uint16_t);
    }
    if (enable) {
        /* The driver sees this write, or vring_empty() sees its new entry. */
        smp_mb();
    }
    vring_mark_own(r, field, len);
}

bool vring_empty(const VRing *r)
{
    return r->packed ? vring_empty_packed(r) : vring_empty_split(r);
}
