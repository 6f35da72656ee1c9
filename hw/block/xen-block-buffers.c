/*
 * Buffers for the data of a Xen PV disk's requests that are copied
 *
 * Each buffer is an area of memory of its own and not a piece of the heap.  So
 * the host gets the memory back as soon as a buffer is freed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-block-buffers.h"

static size_t buffers_size(const XenBlockBuffers *b)
{
    return b->nr_pages * XEN_PAGE_SIZE;
}

void xen_block_buffers_init(XenBlockBuffers *b, XenBlockBudget *budget,
                            unsigned max, unsigned nr_pages)
{
    *b = (XenBlockBuffers) {
        .budget = budget,
        .free = g_new(void *, max),
        .max = max,
        .nr_pages = nr_pages,
    };
}

static bool buffers_reserve(XenBlockBuffers *b)
{
    if (!xen_block_budget_take(b->budget, XEN_BLOCK_BUFFER_PAGES,
                               b->nr_pages)) {
        return false;
    }
    if (!xen_block_budget_take(b->budget, XEN_BLOCK_AREAS, 1)) {
        xen_block_budget_give(b->budget, XEN_BLOCK_BUFFER_PAGES, b->nr_pages);
        return false;
    }
    return true;
}

void *xen_block_buffers_make(XenBlockBuffers *b)
{
    void *buf;

    assert(b->nr_made < b->max);
    if (!buffers_reserve(b)) {
        if (b->nr_made) {
            return NULL;
        }
        xen_block_budget_force(b->budget, XEN_BLOCK_BUFFER_PAGES, b->nr_pages);
        xen_block_budget_force(b->budget, XEN_BLOCK_AREAS, 1);
    }
    buf = mmap(NULL, buffers_size(b), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buf == MAP_FAILED) {
        /* Without a single buffer QEMU cannot go on, as without heap memory. */
        if (!b->nr_made) {
            g_error("xen-block: cannot allocate a buffer: %s",
                    strerror(errno));
        }
        xen_block_budget_give(b->budget, XEN_BLOCK_BUFFER_PAGES, b->nr_pages);
        xen_block_budget_give(b->budget, XEN_BLOCK_AREAS, 1);
        return NULL;
    }
    b->nr_made++;
    b->fewest_free = 0;
    return buf;
}

static void buffers_unmake(XenBlockBuffers *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        munmap(b->free[--b->nr_free], buffers_size(b));
    }
    b->nr_made -= n;
    b->fewest_free = MIN(b->fewest_free, b->nr_free);
    xen_block_budget_give(b->budget, XEN_BLOCK_BUFFER_PAGES, n * b->nr_pages);
    xen_block_budget_give(b->budget, XEN_BLOCK_AREAS, n);
}

void xen_block_buffers_tick(XenBlockBuffers *b)
{
    buffers_unmake(b, b->fewest_free);
    b->fewest_free = b->nr_free;
}

void xen_block_buffers_cleanup(XenBlockBuffers *b)
{
    if (b->free) {
        buffers_unmake(b, b->nr_free);
        assert(!b->nr_made);
        g_clear_pointer(&b->free, g_free);
    }
}
