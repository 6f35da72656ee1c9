/*
 * All rings of a Xen PV disk full of requests, for tests
 *
 *     entry 0..4     5         6..8     9           10..
 *           writes   barrier   writes   indirect    writes
 *                                       read
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "xen-disk-load.h"

#define BARRIER_AT 5
#define INDIRECT_AT 9
#define PAGES 20                /* of the indirect request */

void xen_disk_load_open(XenDiskLoad *l, XenDisk *d)
{
    unsigned int i;

    g_assert_cmpint(d->f->nr_rings, <=, XEN_DISK_LOAD_MAX_RINGS);
    l->d = d;
    l->nr_rings = d->f->nr_rings;
    for (i = 0; i < l->nr_rings; i++) {
        l->b[i] = blk_buffer_new(d->g, d->f->ring[i].nr_entries, false);
    }
    l->large = blk_buffer_new(d->g, PAGES, false);
    l->segments = blk_buffer_new(d->g, 1, false);
}

void xen_disk_load_close(XenDiskLoad *l)
{
    unsigned int i;

    for (i = 0; i < l->nr_rings; i++) {
        blk_buffer_free(l->d->g, l->b[i]);
    }
    blk_buffer_free(l->d->g, l->large);
    blk_buffer_free(l->d->g, l->segments);
}

static uint64_t load_sector(XenDiskLoad *l, unsigned int ring, unsigned int n)
{
    return 8 * (ring * l->d->f->ring[0].nr_entries + n);
}

static void load_request(XenDiskLoad *l, unsigned int ring, unsigned int n,
                         unsigned int seed, BlkRequest *req)
{
    uint64_t sector = load_sector(l, ring, n);
    BlkBuffer *b = l->b[ring];

    if (n == INDIRECT_AT) {
        blk_indirect_request(l->d->g, l->segments, l->large, req, BLK_READ,
                             XEN_DISK_SECTORS / 2, PAGES);
    } else {
        *req = (BlkRequest) {
            .op = n == BARRIER_AT ? BLK_BARRIER : BLK_WRITE,
            .sector = sector,
            .nr_segments = 1,
            .seg = { { .ref = b->ref[n], .last = 7 } },
        };
        blk_pattern(xen_guest_frame(l->d->g, b->frame[n]),
                    XEN_GUEST_PAGE_SIZE, seed + sector);
    }
    req->id = ((uint64_t)seed << 32) | (ring << 16) | n;
}

void xen_disk_load_begin(XenDiskLoad *l, unsigned int seed)
{
    unsigned int ring, n;

    for (ring = 0; ring < l->nr_rings; ring++) {
        BlkRing *r = &l->d->f->ring[ring];

        for (n = 0; n < r->nr_entries; n++) {
            BlkRequest req;

            load_request(l, ring, n, seed, &req);
            blk_ring_put(r, &req);
        }
        blk_ring_push(r);
    }
}

void xen_disk_load_end(XenDiskLoad *l, unsigned int seed)
{
    unsigned int ring, n;

    for (ring = 0; ring < l->nr_rings; ring++) {
        BlkRing *r = &l->d->f->ring[ring];
        g_autofree bool *seen = g_new0(bool, r->nr_entries);

        for (n = 0; n < r->nr_entries; n++) {
            BlkResponse rsp;

            blk_ring_wait(r, &rsp);
            g_assert_cmpint(rsp.status, ==, BLK_OKAY);
            g_assert_cmphex(rsp.id >> 16, ==, ((uint64_t)seed << 16) | ring);
            g_assert_false(seen[rsp.id & 0xffff]);
            seen[rsp.id & 0xffff] = true;
        }
    }
}

void xen_disk_load_check(XenDiskLoad *l, unsigned int seed)
{
    uint8_t out[XEN_GUEST_PAGE_SIZE], in[XEN_GUEST_PAGE_SIZE];
    unsigned int ring, n;

    for (ring = 0; ring < l->nr_rings; ring++) {
        for (n = seed % 4; n < l->d->f->ring[0].nr_entries; n += 5) {
            uint64_t sector = load_sector(l, ring, n);

            if (n == INDIRECT_AT) {
                continue;
            }
            g_assert_cmpint(blk_ring_read(&l->d->f->ring[(ring + 1) %
                                                         l->nr_rings],
                                          sector, in, sizeof(in)),
                            ==, BLK_OKAY);
            blk_pattern(out, sizeof(out), seed + sector);
            g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
        }
    }
}

void xen_disk_load_run(XenDiskLoad *l, unsigned int seed)
{
    xen_disk_load_begin(l, seed);
    xen_disk_load_end(l, seed);
    xen_disk_load_check(l, seed);
}

void xen_disk_check_quiet(XenDisk *d)
{
    unsigned int ring;

    for (ring = 0; ring < d->f->nr_rings; ring++) {
        g_assert_true(blk_ring_quiet(&d->f->ring[ring]));
    }
}
