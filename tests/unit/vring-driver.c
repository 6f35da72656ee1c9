/*
 * A driver for rings in plain memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "qemu/bswap.h"
#include "exec/memory.h"
#include "vring-driver.h"

#define DESC_F_AVAIL    (1 << VRING_PACKED_DESC_F_AVAIL)
#define DESC_F_USED     (1 << VRING_PACKED_DESC_F_USED)

const Desc request[3] = {
    { BUF, 16, 0 },
    { BUF + 0x1000, 4096, F_WRITE },
    { BUF + 0x2000, 1, F_WRITE },
};

Guest guest;
unsigned dma_mapped;

void guest_init(void)
{
    guest.low = qemu_memalign(4096, LOW_SIZE);
    guest.mid = qemu_memalign(4096, MID_SIZE);
    guest.rom = qemu_memalign(4096, ROM_SIZE);
    guest.mmio = qemu_memalign(4096, MMIO_SIZE);
    memset(guest.rom, 0, ROM_SIZE);
    guest.vast = mmap(NULL, VAST_SIZE, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(guest.vast != MAP_FAILED);
}

static const struct {
    hwaddr start, len;
    size_t array;
    bool direct;
} guest_map[] = {
    { 0, LOW_SIZE, offsetof(Guest, low), true },
    { MID, MID_SIZE, offsetof(Guest, mid), true },
    { ROM, ROM_SIZE, offsetof(Guest, rom), true },
    { MMIO, MMIO_SIZE, offsetof(Guest, mmio), false },
    { VAST, VAST_SIZE, offsetof(Guest, vast), true },
};

static uint8_t *guest_array(unsigned i)
{
    return *(uint8_t **)((uint8_t *)&guest + guest_map[i].array);
}

void *guest_ptr(hwaddr addr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(guest_map); i++) {
        if (addr - guest_map[i].start < guest_map[i].len) {
            return guest_array(i) + (addr - guest_map[i].start);
        }
    }
    return NULL;
}

bool guest_contains(const void *host, size_t len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(guest_map); i++) {
        size_t offset = (uintptr_t)host - (uintptr_t)guest_array(i);

        if (offset < guest_map[i].len) {
            return len <= guest_map[i].len - offset;
        }
    }
    return false;
}

RingView *guest_view_new(bool track)
{
    RingViewRange ranges[ARRAY_SIZE(guest_map)];
    unsigned n = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(guest_map); i++) {
        if (guest_map[i].direct) {
            ranges[n++] = (RingViewRange) {
                .start = guest_map[i].start,
                .len = guest_map[i].len,
                .host = guest_array(i),
                .readonly = guest_map[i].start == ROM,
                .track = track && guest_map[i].start < ROM,
            };
        }
    }
    return ring_view_new_from_ranges(ranges, n);
}

/*
 * The DMA API: it has bounce buffers for MMIO, of at most 64 bytes.  It maps
 * neither ROM for writes nor holes.
 */
typedef struct Bounce {
    hwaddr addr;
    hwaddr len;
    uint8_t data[];
} Bounce;

void *address_space_map(AddressSpace *as, hwaddr addr, hwaddr *plen,
                        bool is_write, MemTxAttrs attrs)
{
    Bounce *b;

    if (addr - MMIO >= MMIO_SIZE) {
        return NULL;
    }
    *plen = MIN(MIN(*plen, 64), MMIO_SIZE - (addr - MMIO));
    b = g_malloc0(sizeof(*b) + *plen);
    b->addr = addr;
    b->len = *plen;
    if (!is_write) {
        memcpy(b->data, guest_ptr(addr), *plen);
    }
    dma_mapped++;
    return b->data;
}

void address_space_unmap(AddressSpace *as, void *buffer, hwaddr len,
                         bool is_write, hwaddr access_len)
{
    Bounce *b = container_of(buffer, Bounce, data);

    g_assert_cmpuint(b->len, ==, len);
    g_assert_cmpuint(access_len, <=, len);
    if (is_write) {
        memcpy(guest_ptr(b->addr), b->data, access_len);
    }
    g_free(b);
    dma_mapped--;
}

MemTxResult address_space_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs,
                             void *buf, hwaddr len, bool is_write)
{
    g_assert(!is_write);
    for (hwaddr i = 0; i < len; i++) {
        uint8_t *p = guest_ptr(addr + i);

        if (!p) {
            return MEMTX_DECODE_ERROR;
        }
        ((uint8_t *)buf)[i] = *p;
    }
    return MEMTX_OK;
}

VRingConfig driver_config(bool packed, unsigned num, bool event_idx)
{
    return (VRingConfig) {
        .desc = DESC, .avail = AVAIL, .used = USED,
        .num = num, .packed = packed, .event_idx = event_idx,
    };
}

Driver *driver_new(bool packed, unsigned num, bool event_idx)
{
    VRingConfig config = driver_config(packed, num, event_idx);
    Driver *d = g_new0(Driver, 1);

    memset(guest.low, 0, LOW_SIZE);
    memset(guest.mid, 0, MID_SIZE);
    memset(guest.mmio, 0, MMIO_SIZE);
    d->packed = packed;
    d->num = num;
    d->wrap = d->used_wrap = true;
    ring_view_source_init(&d->src, guest_view_new(false));
    vring_setup(&d->r, &config, NULL);
    g_assert(vring_attach(&d->r, &d->src));
    return d;
}

void driver_free(Driver *d)
{
    vring_detach(&d->r);
    vring_cleanup(&d->r);
    ring_view_source_destroy(&d->src);
    g_assert_cmpuint(dma_mapped, ==, 0);
    g_free(d);
}

void driver_seek(Driver *d, uint16_t idx, bool wrap)
{
    VRingState state = {
        .last_avail_idx = idx, .used_idx = idx,
        .avail_wrap = wrap, .used_wrap = wrap,
    };

    g_assert(vring_set_state(&d->r, &state));
    d->next_desc = idx % d->num;
    d->avail_idx = d->used_idx = idx;
    d->wrap = d->used_wrap = wrap;
    if (d->packed) {
        struct vring_packed_desc *ring = guest_ptr(DESC);

        /* All descriptors look used, some of them in the round before. */
        for (unsigned i = 0; i < d->num; i++) {
            ring[i].flags = cpu_to_le16((i < idx) == wrap ?
                                        DESC_F_AVAIL | DESC_F_USED : 0);
        }
    } else {
        driver_show(d);
        d->r.used->idx = cpu_to_le16(idx);
    }
}

static uint16_t split_put(Driver *d, const Desc *descs, unsigned n)
{
    struct vring_desc *table = guest_ptr(DESC);
    struct vring_avail *avail = guest_ptr(AVAIL);
    uint16_t head = d->next_desc;

    for (unsigned i = 0; i < n; i++) {
        bool more = i + 1 < n;
        uint16_t next = (d->next_desc + 1) % d->num;

        table[d->next_desc] = (struct vring_desc) {
            .addr = cpu_to_le64(descs[i].addr),
            .len = cpu_to_le32(descs[i].len),
            .flags = cpu_to_le16(descs[i].flags | (more ? F_NEXT : 0)),
            .next = cpu_to_le16(descs[i].next ?: next),
        };
        d->next_desc = next;
    }
    avail->ring[d->avail_idx++ % d->num] = cpu_to_le16(head);
    return head;
}

static uint16_t packed_put(Driver *d, const Desc *descs, unsigned n,
                           uint16_t id)
{
    struct vring_packed_desc *ring = guest_ptr(DESC);
    unsigned head = d->next_desc;
    uint16_t head_flags = 0;

    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = descs[i].flags | (i + 1 < n ? F_NEXT : 0) |
                         (d->wrap ? DESC_F_AVAIL : DESC_F_USED);

        ring[d->next_desc] = (struct vring_packed_desc) {
            .addr = cpu_to_le64(descs[i].addr),
            .len = cpu_to_le32(descs[i].len),
            .id = cpu_to_le16(id),
            .flags = i ? cpu_to_le16(flags) : ring[d->next_desc].flags,
        };
        if (i == 0) {
            head_flags = flags;
        }
        if (++d->next_desc == d->num) {
            d->next_desc = 0;
            d->wrap = !d->wrap;
        }
    }
    ring[head].flags = cpu_to_le16(head_flags);
    d->ndescs[id] = n;
    return id;
}

uint16_t driver_put(Driver *d, const Desc *descs, unsigned n, uint16_t id)
{
    return d->packed ? packed_put(d, descs, n, id) : split_put(d, descs, n);
}

void driver_show(Driver *d)
{
    struct vring_avail *avail = guest_ptr(AVAIL);

    if (!d->packed) {
        qatomic_store_release(&avail->idx, cpu_to_le16(d->avail_idx));
    }
}

uint16_t driver_add(Driver *d, const Desc *descs, unsigned n, uint16_t id)
{
    id = driver_put(d, descs, n, id);
    driver_show(d);
    return id;
}

/* Byte by byte, for tables that lie across two arrays. */
static void guest_write(hwaddr addr, const void *buf, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        *(uint8_t *)guest_ptr(addr + i) = ((const uint8_t *)buf)[i];
    }
}

Desc driver_table(Driver *d, hwaddr addr, const Desc *descs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct vring_desc split = {
            .addr = cpu_to_le64(descs[i].addr),
            .len = cpu_to_le32(descs[i].len),
            .flags = cpu_to_le16(descs[i].flags | (i + 1 < n ? F_NEXT : 0)),
            .next = cpu_to_le16(descs[i].next ?: i + 1),
        };
        struct vring_packed_desc packed = {
            .addr = cpu_to_le64(descs[i].addr),
            .len = cpu_to_le32(descs[i].len),
            .flags = cpu_to_le16(descs[i].flags),
        };

        guest_write(addr + i * sizeof(split),
                    d->packed ? (void *)&packed : &split, sizeof(split));
    }
    return (Desc) {
        .addr = addr, .len = n * sizeof(struct vring_desc),
        .flags = F_INDIRECT,
    };
}

bool driver_next_used(Driver *d, Used *used)
{
    if (d->packed) {
        struct vring_packed_desc *ring = guest_ptr(DESC);
        struct vring_packed_desc *e = &ring[d->used_idx];
        uint16_t flags = le16_to_cpu(qatomic_load_acquire(&e->flags));

        if (!!(flags & DESC_F_AVAIL) != d->used_wrap ||
            !!(flags & DESC_F_USED) != d->used_wrap) {
            return false;
        }
        used->id = le16_to_cpu(e->id);
        used->len = le32_to_cpu(e->len);
        d->used_idx += d->ndescs[used->id];
        if (d->used_idx >= d->num) {
            d->used_idx -= d->num;
            d->used_wrap = !d->used_wrap;
        }
    } else {
        struct vring_used *ring = guest_ptr(USED);
        uint16_t idx = le16_to_cpu(qatomic_load_acquire(&ring->idx));

        if (idx == d->used_idx) {
            return false;
        }
        used->id = le32_to_cpu(ring->ring[d->used_idx % d->num].id);
        used->len = le32_to_cpu(ring->ring[d->used_idx % d->num].len);
        d->used_idx++;
    }
    return true;
}

VRingChain driver_take(Driver *d)
{
    VRingChain chain;

    g_assert_cmpint(vring_take(&d->r, &chain), ==, 1);
    chain.iov = g_memdup2(chain.iov, (chain.out_num + chain.in_num) *
                                     sizeof(struct iovec));
    return chain;
}

void driver_take_none(Driver *d)
{
    VRingChain chain;

    g_assert_cmpint(vring_take(&d->r, &chain), ==, 0);
    g_assert(vring_empty(&d->r));
}

bool driver_answer(Driver *d, VRingChain *chain, uint32_t written)
{
    bool wanted;

    vring_push(&d->r, chain, written);
    wanted = vring_publish(&d->r);
    g_free(chain->iov);
    return wanted;
}

void driver_expect_used(Driver *d, uint32_t id, uint32_t len)
{
    Used used;

    g_assert(driver_next_used(d, &used));
    g_assert_cmpuint(used.id, ==, id);
    g_assert_cmpuint(used.len, ==, len);
}

void driver_expect_no_used(Driver *d)
{
    Used used;

    g_assert(!driver_next_used(d, &used));
}

bool driver_one_request(Driver *d)
{
    uint16_t id = driver_add(d, request + 2, 1, 1);
    VRingChain chain = driver_take(d);
    bool wanted = driver_answer(d, &chain, 1);

    driver_expect_used(d, id, 1);
    return wanted;
}

void driver_test_add(const char *group, const char *name, GTestDataFunc func)
{
    g_autofree char *split = g_strdup_printf("/%s/split/%s", group, name);
    g_autofree char *packed = g_strdup_printf("/%s/packed/%s", group, name);

    g_test_add_data_func(split, NULL, func);
    g_test_add_data_func(packed, "packed", func);
}
