/*
 * Guest memory as one queue sees it: tables of RAM ranges, and the pointer to
 * the current table
 *
 * This file does not need a machine.  ring-view-source.c fills views from an
 * address space.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "hw/virtio/ring-view.h"

RingView *ring_view_new_from_ranges(const RingViewRange *ranges, unsigned n)
{
    size_t size = sizeof(RingView) + (n + 1) * sizeof(RingViewRange);
    RingView *view = qemu_memalign(__alignof__(RingView), size);

    memset(view, 0, size);
    view->refcount = 1;
    view->nranges = n;
    for (unsigned i = 0; i < n; i++) {
        assert(ranges[i].len > 0);
        assert(ranges[i].len - 1 <= HWADDR_MAX - ranges[i].start);
        assert(i == 0 || ranges[i].start - ranges[i - 1].start >=
                         ranges[i - 1].len);
        view->ranges[i] = ranges[i];
        view->track |= ranges[i].track;
    }
    return view;
}

static void ring_view_free(RingView *view)
{
    if (view->ops && view->ops->release) {
        view->ops->release(view);
    }
    qemu_vfree(view);
}

void ring_view_ref(RingView *view)
{
    qatomic_inc(&view->refcount);
}

void ring_view_unref(RingView *view)
{
    if (qatomic_fetch_dec(&view->refcount) == 1) {
        call_rcu(view, ring_view_free, rcu);
    }
}

void ring_view_source_init(RingViewSource *src, RingView *view)
{
    qatomic_rcu_set(&src->current, view);
}

void ring_view_source_destroy(RingViewSource *src)
{
    RingView *view = src->current;

    qatomic_set(&src->current, NULL);
    ring_view_unref(view);
}

void ring_view_source_publish(RingViewSource *src, RingView *view)
{
    RingView *old = src->current;

    qatomic_rcu_set(&src->current, view);
    /* This pairs with the barrier of vring_publish(): case 2 in vring.h. */
    smp_mb();
    ring_view_unref(old);
}

RingView *ring_view_source_acquire(RingViewSource *src)
{
    RingView *view;

    RCU_READ_LOCK_GUARD();
    do {
        /*
         * A view whose count is 0 has been replaced; RCU keeps the memory,
         * and the next read finds its successor.
         */
        view = qatomic_rcu_read(&src->current);
    } while (!qatomic_fetch_inc_nonzero(&view->refcount));
    return view;
}

/* Return the index of the range that has @addr, or view->nranges. */
static unsigned ring_view_find(const RingView *view, hwaddr addr)
{
    unsigned low = 0, high = view->nranges;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        const RingViewRange *r = &view->ranges[mid];

        if (addr < r->start) {
            high = mid;
        } else if (addr - r->start >= r->len) {
            low = mid + 1;
        } else {
            return mid;
        }
    }
    return view->nranges;
}

void *ring_view_map_slow(const RingView *view, RingViewHint *hint,
                         hwaddr addr, size_t *len, bool is_write,
                         const RingViewRange **range)
{
    const RingViewRange *r = &view->ranges[*hint];
    hwaddr offset;

    if (*len - 1 > HWADDR_MAX - addr) {
        return NULL;
    }
    if (addr - r->start >= r->len) {
        unsigned n = ring_view_find(view, addr);

        if (n == view->nranges) {
            return NULL;
        }
        *hint = n;
        r = &view->ranges[n];
    }
    if (is_write && r->readonly) {
        return NULL;
    }
    offset = addr - r->start;
    *len = MIN(*len, r->len - offset);
    if (range) {
        *range = r;
    }
    return r->host + offset;
}

void ring_view_mark_written(const RingView *view, const void *host,
                            size_t len)
{
    if (!view->ops) {
        return;
    }
    for (unsigned i = 0; i < view->nranges; i++) {
        const RingViewRange *r = &view->ranges[i];
        uintptr_t offset = (uintptr_t)host - (uintptr_t)r->host;

        if (offset < r->len && !r->readonly) {
            view->ops->mark(view, i, offset, len);
            return;
        }
    }
}
