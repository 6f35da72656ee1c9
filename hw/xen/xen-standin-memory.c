/*
 * Xen stand-in: the memory of the guest domain
 *
 *     machine RAM   | page 0 | page 1 | page 2 | page 3 | ...   one file
 *                        ^                 ^        ^
 *                        |        .--------'        |
 *     a mapping          '----.   |    .------------'
 *                           | f 0 | f 2 | f 3 |
 *
 * Frame n of the domain is page n of the machine's RAM.  When a backend maps
 * several foreign frames, it gets them next to each other, in any order.  Each
 * mapping is an mmap() of its own of the file behind the RAM, with the access
 * that the backend asks for.  A page that nobody may access follows each
 * mapping.  So a backend that uses memory beyond its mapping, or after it has
 * unmapped it, crashes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/xen/interface/grant_table.h"
#include "qemu/tsan-guest-memory.h"
#include "xen-standin.h"

static struct {
    uint8_t *host;
    uint64_t nr_frames;
    uint64_t fd_offset;
    int fd;
} memory;

bool xen_standin_memory_init(Error **errp)
{
    ERRP_GUARD();
    MemoryRegion *mr = MACHINE(qdev_get_machine())->ram;
    int fd = mr ? memory_region_get_fd(mr) : -1;

    if (fd < 0 || !qemu_ram_is_shared(mr->ram_block) ||
        qemu_ram_pagesize(mr->ram_block) != XEN_PAGE_SIZE) {
        error_setg(errp, "xen-standin needs RAM that can be mapped page by "
                   "page");
        error_append_hint(errp, "Use -object memory-backend-memfd,id=ram,"
                          "size=SIZE,share=on -machine memory-backend=ram\n");
        return false;
    }
    memory.fd = fd;
    memory.fd_offset = mr->ram_block->fd_offset;
    memory.host = memory_region_get_ram_ptr(mr);
    memory.nr_frames = memory_region_size(mr) >> XEN_PAGE_SHIFT;
    tsan_guest_memory(memory.host, memory_region_size(mr));
    return true;
}

void *xen_standin_frame(uint64_t frame, uint64_t nr)
{
    if (frame >= memory.nr_frames || nr > memory.nr_frames - frame) {
        return NULL;
    }
    return memory.host + (frame << XEN_PAGE_SHIFT);
}

/* Return how many frames at the start of @frames have ascending numbers. */
static size_t frames_in_a_row(const uint64_t *frames, size_t nr)
{
    size_t run = 1;

    while (run < nr && frames[run] == frames[0] + run) {
        run++;
    }
    return run;
}

static size_t mapping_size(size_t nr)
{
    return (nr + 1) << XEN_PAGE_SHIFT;
}

void *xen_standin_map_frames(const uint64_t *frames, size_t nr, int prot)
{
    size_t len = mapping_size(nr);
    size_t i, run;
    uint8_t *addr;

    /* Reserve the whole range first, then map the frames into it. */
    addr = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (addr == MAP_FAILED) {
        return NULL;
    }
    for (i = 0; i < nr; i += run) {
        run = frames_in_a_row(frames + i, nr - i);
        if (!xen_standin_frame(frames[i], run)) {
            errno = EINVAL;
            goto fail;
        }
        if (mmap(addr + (i << XEN_PAGE_SHIFT), run << XEN_PAGE_SHIFT, prot,
                 MAP_SHARED | MAP_FIXED, memory.fd,
                 memory.fd_offset + (frames[i] << XEN_PAGE_SHIFT))
            == MAP_FAILED) {
            goto fail;
        }
    }
    return addr;

fail:
    i = errno;
    munmap(addr, len);
    errno = i;
    return NULL;
}

int xen_standin_unmap_frames(void *addr, size_t nr)
{
    return munmap(addr, mapping_size(nr));
}

static void *foreign_map(uint32_t dom, void *addr, int prot, size_t pages,
                         xen_pfn_t *pfns, int *errs)
{
    g_autofree uint64_t *frames = g_new(uint64_t, pages);
    void *map;
    size_t i;

    if (addr || !pages) {
        errno = EINVAL;
        return NULL;
    }
    for (i = 0; i < pages; i++) {
        frames[i] = pfns[i];
    }
    map = xen_standin_map_frames(frames, pages, prot);
    if (map && errs) {
        memset(errs, 0, pages * sizeof(*errs));
    }
    return map;
}

struct foreignmem_backend_ops xen_standin_foreignmem_ops = {
    .map = foreign_map,
    .unmap = xen_standin_unmap_frames,
};
