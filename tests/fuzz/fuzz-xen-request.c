/*
 * Requests of the Xen PV disk, most of them well-formed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/host-utils.h"
#include "hw/xen/interface/io/blkif.h"
#include "../../hw/xen/xen-standin.h"
#include "fuzz-machine.h"
#include "fuzz-xen.h"

#define ENTRIES_OFFSET  64
#define SEGMENT_BYTES   8
#define PAGE_SEGMENTS   (XEN_PAGE_SIZE / SEGMENT_BYTES)

/* What a ring begins with. */
enum {
    REQ_PROD,
    REQ_EVENT,
    RSP_PROD,
    RSP_EVENT,
};

static uint32_t ring_entries(XenFrontend *f)
{
    return pow2floor(((XEN_PAGE_SIZE << f->order) - ENTRIES_OFFSET) /
                     f->abi->entry);
}

static bool ring_is_full(XenFrontend *f, int ring)
{
    uint32_t *header = xen_page(XEN_RING_FRAME(ring));

    return f->producer[ring] - qatomic_read(&header[RSP_PROD]) >=
           ring_entries(f);
}

void xen_ring_push(XenFrontend *f, int ring, uint32_t producer)
{
    uint32_t *header = xen_page(XEN_RING_FRAME(ring));

    qatomic_set(&header[RSP_EVENT], qatomic_read(&header[RSP_PROD]) + 1);
    qatomic_store_release(&header[REQ_PROD], producer);
    xen_port_send(f, ring);
}

static void ring_put(XenFrontend *f, int ring, const uint8_t *entry)
{
    unsigned slot = f->producer[ring]++ & (ring_entries(f) - 1);
    uint8_t *pages = xen_standin_frame(XEN_RING_FRAME(ring), XEN_RING_PAGES);

    memcpy(pages + ENTRIES_OFFSET + slot * f->abi->entry, entry,
           f->abi->entry);
}

static uint64_t some_sector(FuzzInput *in)
{
    return fuzz_sector(in, FUZZ_DISK_SECTORS, FUZZ_BAD_SECTOR);
}

/* A whole page, unless the input has bits that say otherwise. */
static void put_segment(uint8_t *at, FuzzInput *in)
{
    unsigned how = fuzz_byte(in);

    stl_le_p(at, how < 0xf0 ? XEN_BUFFER_FRAME + (how & 0x3f)
                            : fuzz_take(in, 4));
    at[4] = how & 0x40 ? fuzz_byte(in) & 0xf : 0;
    at[5] = how & 0x80 ? fuzz_byte(in) & 0xf : 7;
}

static void put_plain(const XenAbi *abi, uint8_t *entry, FuzzInput *in)
{
    unsigned count = fuzz_byte(in);

    if (count < 0xf0) {
        count %= BLKIF_MAX_SEGMENTS_PER_REQUEST + 1;
    }
    entry[1] = count;
    stq_le_p(entry + abi->sector, some_sector(in));
    for (int i = 0; i < MIN(count, BLKIF_MAX_SEGMENTS_PER_REQUEST); i++) {
        put_segment(entry + abi->segments + SEGMENT_BYTES * i, in);
    }
}

/* A number around what a direct request, the disk or a page has at most. */
static unsigned some_count(FuzzInput *in)
{
    static const uint16_t counts[] = {
        1, 11, 12, 20, 21, 32, 255, 256, 257, 511, 512, 513, 4096, UINT16_MAX,
    };
    unsigned how = fuzz_byte(in);

    return how < 0x80 ? how : counts[how % ARRAY_SIZE(counts)];
}

/* The input describes some segments; those after them are whole pages. */
static void put_indirect(const XenAbi *abi, uint8_t *entry, FuzzInput *in)
{
    unsigned how = fuzz_byte(in);
    unsigned count = some_count(in);
    unsigned described = fuzz_below(in, 16);
    uint8_t *segments = xen_standin_frame(XEN_INDIRECT_FRAME,
                                          XEN_INDIRECT_PAGES);

    entry[1] = how < 0xf0 ? how & 1 : how & 0xf;
    stw_le_p(entry + 2, count);
    stq_le_p(entry + abi->sector, some_sector(in));
    for (int i = 0; i < MIN(count, XEN_INDIRECT_PAGES * PAGE_SEGMENTS); i++) {
        uint8_t *at = segments + SEGMENT_BYTES * i;

        if (i < described) {
            put_segment(at, in);
        } else {
            stl_le_p(at, XEN_BUFFER_FRAME + i % (XEN_FRAMES -
                                                 XEN_BUFFER_FRAME));
            stl_le_p(at + 4, 7 << 8);
        }
    }
    for (int i = 0; i < XEN_INDIRECT_PAGES; i++) {
        stl_le_p(entry + abi->segments + 4 + 4 * i, XEN_INDIRECT_FRAME + i);
    }
}

static void put_discard(const XenAbi *abi, uint8_t *entry, FuzzInput *in)
{
    entry[1] = fuzz_byte(in);
    stq_le_p(entry + abi->sector, some_sector(in));
    stq_le_p(entry + abi->segments, fuzz_take(in, 2));
}

bool xen_some_request(XenFrontend *f, int ring, FuzzInput *in)
{
    static const uint8_t operations[] = {
        BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_INDIRECT, BLKIF_OP_DISCARD,
        BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER, BLKIF_OP_READ,
        BLKIF_OP_INDIRECT,
    };
    unsigned how = fuzz_byte(in);
    uint8_t entry[112] = {
        how < 0xf8 ? operations[how % ARRAY_SIZE(operations)] : how,
    };

    if (ring_is_full(f, ring)) {
        return false;
    }
    stq_le_p(entry + f->abi->id, f->producer[ring]);
    switch (entry[0]) {
    case BLKIF_OP_INDIRECT:
        put_indirect(f->abi, entry, in);
        break;
    case BLKIF_OP_DISCARD:
        put_discard(f->abi, entry, in);
        break;
    default:
        put_plain(f->abi, entry, in);
        break;
    }
    ring_put(f, ring, entry);
    return true;
}

/* Where a response of x86_64 has its status. */
#define STATUS_OFFSET   10

void xen_check_served(XenFrontend *f)
{
    uint8_t entry[112] = { BLKIF_OP_READ, 1 };
    const uint32_t *header = xen_page(XEN_RING_FRAME(0));
    const uint8_t *response = xen_page(XEN_RING_FRAME(0)) + ENTRIES_OFFSET;
    uint8_t *data = xen_page(XEN_BUFFER_FRAME);

    xen_grants_begin();
    xen_connect(f, 0);
    memset(data, 0xff, XEN_PAGE_SIZE);
    stl_le_p(entry + f->abi->segments, XEN_BUFFER_FRAME);
    entry[f->abi->segments + 5] = 7;
    ring_put(f, 0, entry);
    xen_ring_push(f, 0, f->producer[0]);
    fuzz_settle();
    assert(qatomic_load_acquire(&header[RSP_PROD]) == 1);
    assert(lduw_le_p(response + STATUS_OFFSET) == BLKIF_RSP_OKAY);
    assert(buffer_is_zero(data, XEN_PAGE_SIZE));
}
