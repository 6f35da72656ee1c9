/*
 * Ring readers: chains, their answers, positions
 *
 * Each test runs for split and for packed rings.  test-vring-notify.c tests
 * notifications, test-vring-views.c memory that changes and is logged, and
 * test-vring-hostile.c malformed rings.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vring-driver.h"

static void expect_iov(const VRingChain *chain, unsigned i, hwaddr addr,
                       size_t len)
{
    g_assert(chain->iov[i].iov_base == guest_ptr(addr));
    g_assert_cmpuint(chain->iov[i].iov_len, ==, len);
}

static void expect_request(const VRingChain *chain)
{
    g_assert_cmpuint(chain->out_num, ==, 1);
    g_assert_cmpuint(chain->in_num, ==, 2);
    g_assert_cmpuint(chain->out_len, ==, 16);
    g_assert_cmpuint(chain->in_len, ==, 4097);
    g_assert(!chain->slow);
    for (unsigned i = 0; i < ARRAY_SIZE(request); i++) {
        expect_iov(chain, i, request[i].addr, request[i].len);
    }
}

static void test_direct(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;
    uint16_t id;

    driver_take_none(d);
    g_assert(!vring_publish(&d->r));
    id = driver_add(d, request, 3, 7);
    g_assert(!vring_empty(&d->r));
    chain = driver_take(d);
    expect_request(&chain);
    g_assert_cmpuint(chain.ndescs, ==, packed ? 3 : 1);
    driver_take_none(d);

    vring_push(&d->r, &chain, 4097);
    driver_expect_no_used(d);
    g_assert(vring_publish(&d->r));
    driver_expect_used(d, id, 4097);
    driver_expect_no_used(d);
    g_free(chain.iov);
    driver_free(d);
}

static void test_indirect(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    Desc table = driver_table(d, TABLE, request, 3);
    VRingChain chain;
    uint16_t id;

    /* WRITE means nothing in a descriptor that names a table. */
    table.flags |= F_WRITE;
    id = driver_add(d, &table, 1, 9);
    chain = driver_take(d);
    expect_request(&chain);
    g_assert_cmpuint(chain.ndescs, ==, 1);
    driver_answer(d, &chain, 1);
    driver_expect_used(d, id, 1);
    driver_free(d);
}

/* Some direct descriptors and then a table (2.7.5.3.2). */
static void test_mixed(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    Desc chained[] = { request[0], driver_table(d, TABLE, request + 1, 2) };
    uint16_t id = driver_add(d, chained, 2, 5);
    VRingChain chain = driver_take(d);

    expect_request(&chain);
    g_assert_cmpuint(chain.ndescs, ==, packed ? 2 : 1);
    driver_answer(d, &chain, 4097);
    driver_expect_used(d, id, 4097);
    driver_free(d);
}

static void test_long_table(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    g_autofree Desc *descs = g_new0(Desc, VRING_MAX_SEGMENTS);
    VRingChain chain;
    Desc table;

    for (unsigned i = 0; i < VRING_MAX_SEGMENTS; i++) {
        descs[i] = (Desc) { BUF + i, 1, i < 24 ? 0 : F_WRITE };
    }
    table = driver_table(d, TABLE, descs, VRING_MAX_SEGMENTS);
    driver_add(d, &table, 1, 0);
    chain = driver_take(d);
    g_assert_cmpuint(chain.out_num, ==, 24);
    g_assert_cmpuint(chain.in_num, ==, 1000);
    expect_iov(&chain, 1023, BUF + 1023, 1);
    driver_answer(d, &chain, 1000);
    driver_free(d);
}

/* The caller's own list, of every length up to the chain's and beyond. */
static void test_own_list(const void *packed)
{
    static const Desc descs[] = {
        { BUF, 16, 0 }, { BUF + 100, 4, 0 }, { MID - 512, 1024, F_WRITE },
        { BUF + 400, 1, F_WRITE },
    };
    const unsigned total = 5;       /* the third lies in two ranges */

    for (unsigned room = 0; room <= total + 1; room++) {
        g_autofree struct iovec *own = g_new(struct iovec, room + 1);
        struct iovec canary = { .iov_base = own, .iov_len = 77 };
        Driver *d = driver_new(packed, 8, false);
        VRingChain chain;

        own[room] = canary;
        driver_add(d, descs, 4, 0);
        g_assert_cmpint(vring_take_into(&d->r, &chain, own, room), ==, 1);
        g_assert(chain.iov == (room < total ? d->r.iov : own));
        g_assert_cmpmem(&own[room], sizeof(canary), &canary, sizeof(canary));
        g_assert_cmpuint(chain.out_num, ==, 2);
        g_assert_cmpuint(chain.in_num, ==, 3);
        g_assert_cmpuint(chain.out_len, ==, 20);
        g_assert_cmpuint(chain.in_len, ==, 1025);
        expect_iov(&chain, 0, BUF, 16);
        expect_iov(&chain, 1, BUF + 100, 4);
        expect_iov(&chain, 2, MID - 512, 512);
        expect_iov(&chain, 3, MID, 512);
        expect_iov(&chain, 4, BUF + 400, 1);
        chain.iov = g_memdup2(chain.iov, total * sizeof(*chain.iov));
        driver_answer(d, &chain, 1025);
        driver_free(d);
    }
}

static void test_scattered_header(const void *packed)
{
    static const Desc descs[] = {
        { BUF, 4, 0 }, { BUF + 100, 4, 0 }, { BUF + 301, 7, 0 },
        { BUF + 309, 1, 0 }, { BUF + 400, 1, F_WRITE },
    };
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;

    driver_add(d, descs, 5, 0);
    chain = driver_take(d);
    g_assert_cmpuint(chain.out_num, ==, 4);
    g_assert_cmpuint(chain.out_len, ==, 16);
    g_assert_cmpuint(chain.in_num, ==, 1);
    expect_iov(&chain, 2, BUF + 301, 7);
    driver_answer(d, &chain, 1);
    driver_free(d);
}

/* A buffer that is not contiguous in the host's memory has two segments. */
static void test_crossing(const void *packed)
{
    static const Desc descs[] = {
        { MID - 12, 16, 0 }, { MID - 512, 4096, F_WRITE },
    };
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;

    driver_add(d, descs, 2, 0);
    chain = driver_take(d);
    g_assert_cmpuint(chain.out_num, ==, 2);
    g_assert_cmpuint(chain.in_num, ==, 2);
    g_assert_cmpuint(chain.out_len, ==, 16);
    g_assert_cmpuint(chain.in_len, ==, 4096);
    expect_iov(&chain, 0, MID - 12, 12);
    expect_iov(&chain, 1, MID, 4);
    expect_iov(&chain, 2, MID - 512, 512);
    expect_iov(&chain, 3, MID, 3584);
    g_assert(!chain.slow);
    driver_answer(d, &chain, 0);
    driver_free(d);
}

static void test_crossing_table(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    Desc table = driver_table(d, MID - 24, request, 3);
    VRingChain chain;

    driver_add(d, &table, 1, 0);
    chain = driver_take(d);
    expect_request(&chain);
    driver_answer(d, &chain, 0);

    /* A table that is not aligned is read from a copy as well. */
    table = driver_table(d, TABLE + 3, request, 3);
    driver_add(d, &table, 1, 1);
    chain = driver_take(d);
    expect_request(&chain);
    driver_answer(d, &chain, 0);
    driver_free(d);
}

/* A buffer outside direct RAM goes through bounce buffers, here of 64 bytes. */
static void test_mmio(const void *packed)
{
    static const Desc descs[] = {
        { MMIO, 16, 0 }, { BUF, 32, F_WRITE }, { MMIO + 0x100, 100, F_WRITE },
    };
    uint8_t *mmio = guest_ptr(MMIO);
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;

    memcpy(mmio, "a header in MMIO", 16);
    driver_add(d, descs, 3, 0);
    chain = driver_take(d);
    g_assert(chain.slow);
    g_assert_cmpuint(chain.out_num, ==, 1);
    g_assert_cmpuint(chain.in_num, ==, 3);
    g_assert_cmpuint(chain.in_len, ==, 132);
    g_assert(!memcmp(chain.iov[0].iov_base, "a header in MMIO", 16));
    expect_iov(&chain, 1, BUF, 32);
    memset(chain.iov[2].iov_base, 1, chain.iov[2].iov_len);
    memset(chain.iov[3].iov_base, 2, chain.iov[3].iov_len);
    g_assert_cmpuint(dma_mapped, ==, 3);

    /* After 32 + 64 + 10 bytes, the rest of the MMIO must be unchanged. */
    driver_answer(d, &chain, 106);
    g_assert_cmpuint(dma_mapped, ==, 0);
    for (unsigned i = 0; i < 101; i++) {
        g_assert_cmpuint(mmio[0x100 + i], ==, i < 64 ? 1 : i < 74 ? 2 : 0);
    }
    driver_free(d);
}

/* An owner that cannot wait for the BQL leaves such chains in the ring. */
static void test_direct_only(const void *packed)
{
    static const Desc mmio[] = { { BUF, 16, 0 }, { MMIO, 100, F_WRITE } };
    Driver *d = driver_new(packed, 8, false);
    Desc tables[] = {
        driver_table(d, MMIO + 0x200, request, 3),
        driver_table(d, TABLE, mmio, 2),
    };
    Desc crossing = driver_table(d, MID - 24, request, 3);
    VRingChain chain;

    driver_add(d, &crossing, 1, 0);
    driver_add(d, mmio, 2, 1);
    driver_add(d, &tables[0], 1, 2);
    driver_add(d, &tables[1], 1, 3);

    /* Scattered, and yet direct. */
    d->r.direct_only = true;
    chain = driver_take(d);
    expect_request(&chain);
    driver_answer(d, &chain, 1);
    for (unsigned i = 0; i < 3; i++) {
        d->r.direct_only = true;
        for (unsigned again = 0; again < 2; again++) {
            g_assert_cmpint(vring_take(&d->r, &chain), ==, -EAGAIN);
            g_assert(!vring_fault(&d->r));
            g_assert_cmpuint(dma_mapped, ==, 0);
            g_assert_cmpuint(d->r.inuse, ==, 0);
        }
        d->r.direct_only = false;
        chain = driver_take(d);
        g_assert_cmpuint(dma_mapped, ==, i == 1 ? 0 : 2);
        driver_answer(d, &chain, 1);
    }
    driver_take_none(d);
    driver_free(d);
}

static void test_drop(const void *packed)
{
    static const Desc descs[] = { { MMIO, 16, 0 }, { BUF, 32, F_WRITE } };
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;

    driver_add(d, descs, 2, 0);
    chain = driver_take(d);
    vring_detach(&d->r);
    vring_drop(&d->r, &chain);
    g_assert_cmpuint(d->r.inuse, ==, 0);
    g_assert_cmpuint(dma_mapped, ==, 0);
    g_free(chain.iov);
    driver_free(d);
}

/* A chain that was taken does not change when the guest changes the ring. */
static void test_rewritten(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    Desc table = driver_table(d, TABLE, request, 3);
    VRingChain chain[2];
    Used used;

    driver_add(d, request, 3, 1);
    driver_add(d, &table, 1, 2);
    chain[0] = driver_take(d);
    chain[1] = driver_take(d);
    memset(guest_ptr(DESC), 0xff, 8 * sizeof(struct vring_desc));
    memset(guest_ptr(TABLE), 0xff, 3 * sizeof(struct vring_desc));
    memset(d->r.iov, 0xff, 3 * sizeof(struct iovec));
    expect_request(&chain[0]);
    expect_request(&chain[1]);
    g_assert_cmpuint(chain[0].id, ==, packed ? 1 : 0);
    driver_answer(d, &chain[0], 5);
    driver_answer(d, &chain[1], 6);
    g_assert(driver_next_used(d, &used));
    g_assert_cmpuint(used.len, ==, 5);
    driver_free(d);
}

/*
 * Answer out of order and several in a batch, for many rounds.  So each size of
 * chain is in each place of the ring, and free-running indexes pass 65535.
 */
static void run_around(bool packed, unsigned num, uint16_t start)
{
    Driver *d = driver_new(packed, num, true);
    unsigned rounds = 3 * num;

    driver_seek(d, packed ? start % num : start, true);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned n1 = 1 + i % 2, n2 = 1 + i % 3;
        uint16_t id1 = driver_put(d, request + 3 - n1, n1, 100 + i);
        uint16_t id2 = driver_put(d, request + 3 - n2, n2, 5000 + i);
        VRingChain c1, c2;

        driver_show(d);
        c1 = driver_take(d);
        c2 = driver_take(d);
        driver_take_none(d);
        g_assert_cmpuint(c1.id, ==, id1);
        g_assert_cmpuint(c2.id, ==, id2);
        g_assert_cmpuint(c1.in_num, ==, n1);
        g_assert_cmpuint(c2.out_num + c2.in_num, ==, n2);
        vring_push(&d->r, &c2, i);
        vring_push(&d->r, &c1, i + 1);
        driver_expect_no_used(d);
        vring_publish(&d->r);
        driver_expect_used(d, id2, i);
        driver_expect_used(d, id1, i + 1);
        driver_expect_no_used(d);
        g_free(c1.iov);
        g_free(c2.iov);
    }
    g_assert_cmpuint(d->r.inuse, ==, 0);
    driver_free(d);
}

static void test_around(const void *packed)
{
    run_around(packed, 8, 0);
    run_around(packed, 8, 65530);
    run_around(packed, 256, 65535);
    if (packed) {
        run_around(true, 5, 4);
        run_around(true, 13, 0);
    }
}

/* A descriptor with both bits as the wrap counter is used, not available. */
static void test_packed_used_bit(void)
{
    Driver *d = driver_new(true, 8, false);

    driver_seek(d, 0, false);
    driver_take_none(d);
    memset(guest_ptr(DESC), 0, 8 * sizeof(struct vring_packed_desc));
    driver_take_none(d);
    driver_free(d);
}

/* The ring is full of chains in flight. */
static void test_full(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    VRingChain chain[8];
    uint16_t id[8];

    driver_seek(d, packed ? 3 : 65533, true);
    for (unsigned i = 0; i < 8; i++) {
        id[i] = driver_put(d, request + 2, 1, i);
    }
    driver_show(d);
    for (unsigned i = 0; i < 8; i++) {
        chain[i] = driver_take(d);
    }
    driver_take_none(d);
    for (unsigned i = 8; i-- > 0; ) {
        vring_push(&d->r, &chain[i], i);
    }
    g_assert(vring_publish(&d->r));
    for (unsigned i = 8; i-- > 0; ) {
        driver_expect_used(d, id[i], i);
        g_free(chain[i].iov);
    }
    driver_expect_no_used(d);
    driver_free(d);
}

static void test_state(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;
    VRingState s, bad;

    driver_seek(d, packed ? 7 : 65535, true);
    driver_add(d, request, 3, 0);
    chain = driver_take(d);
    vring_get_state(&d->r, &s);
    g_assert_cmpuint(s.last_avail_idx, ==, packed ? 2 : 0);
    g_assert_cmpuint(s.used_idx, ==, packed ? 7 : 65535);
    g_assert(!packed || (!s.avail_wrap && s.used_wrap));
    driver_answer(d, &chain, 0);

    /* One chain is in flight, as after a migration. */
    g_assert(vring_set_state(&d->r, &s));
    g_assert_cmpuint(d->r.inuse, ==, packed ? 3 : 1);

    bad = s;
    bad.last_avail_idx += 8;
    g_assert(!vring_set_state(&d->r, &bad));
    bad = s;
    bad.used_idx = packed ? 8 : s.last_avail_idx - 9;
    g_assert(!vring_set_state(&d->r, &bad));
    g_assert_cmpuint(d->r.inuse, ==, packed ? 3 : 1);
    driver_free(d);
}

static void test_attach(const void *packed)
{
    struct {
        const char *what;
        VRingConfig config;
        bool ok;
    } cases[] = {
        { "fine", { DESC, AVAIL, USED, 8 }, true },
        { "largest", { DESC, 0x6000, 0x8000, 1024 }, true },
        { "one", { DESC, AVAIL, USED, 1 }, true },
        { "no entries", { DESC, AVAIL, USED, 0 } },
        { "not a power of 2", { DESC, AVAIL, USED, 6 }, packed },
        { "used in order", { DESC, AVAIL, USED, 8, .in_order = true } },
        { "big endian", { DESC, AVAIL, USED, 8, .big_endian = true } },
        { "crooked desc", { DESC + 8, AVAIL, USED, 8 } },
        { "crooked avail", { DESC, AVAIL + 1, USED, 8 } },
        { "crooked used", { DESC, AVAIL, USED + 2, 8 } },
        { "desc across ranges", { MID - 64, AVAIL, USED, 8 } },
        { "avail across ranges", { DESC, MID - 2, USED, 8 } },
        { "used across ranges", { DESC, AVAIL, MID - 4, 8 }, packed },
        { "desc in ROM", { ROM, AVAIL, USED, 8 }, !packed },
        { "avail in ROM", { DESC, ROM, USED, 8 }, true },
        { "used in ROM", { DESC, AVAIL, ROM, 8 } },
        { "desc nowhere", { 0x60000, AVAIL, USED, 8 } },
        { "avail in MMIO", { DESC, MMIO, USED, 8 } },
        { "used wraps", { DESC, AVAIL, UINT64_MAX - 3, 8 } },
    };
    RingViewSource src;

    ring_view_source_init(&src, guest_view_new(false));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        VRing r;

        g_test_message("%s", cases[i].what);
        cases[i].config.packed = packed;
        vring_setup(&r, &cases[i].config, NULL);
        g_assert(vring_attach(&r, &src) == cases[i].ok);
        g_assert(vring_attached(&r) == cases[i].ok);
        vring_detach(&r);
        vring_cleanup(&r);
    }
    ring_view_source_destroy(&src);
}

/*
 * For a profiler: -m perf -p /vring/split/perf, and count what
 * vring_take_*(), vring_push_*() and vring_publish() cost.
 */
static void perf(bool packed, bool indirect)
{
    enum { BATCH = 32, ROUNDS = 10000 };
    Driver *d = driver_new(packed, 256, true);
    Desc table = driver_table(d, TABLE, request, 3);
    static VRingChain chain[BATCH];
    static struct iovec iov[BATCH][3];

    for (unsigned i = 0; i < ROUNDS; i++) {
        for (unsigned j = 0; j < BATCH; j++) {
            driver_put(d, indirect ? &table : request, indirect ? 1 : 3, j);
        }
        driver_show(d);
        for (unsigned j = 0; j < BATCH; j++) {
            g_assert_cmpint(vring_take(&d->r, &chain[j]), ==, 1);
            memcpy(iov[j], chain[j].iov, sizeof(iov[j]));
            chain[j].iov = iov[j];
        }
        for (unsigned j = 0; j < BATCH; j++) {
            vring_push(&d->r, &chain[j], 4097);
        }
        vring_publish(&d->r);
    }
    driver_free(d);
}

static void test_perf_direct(const void *packed)
{
    perf(packed, false);
}

static void test_perf_indirect(const void *packed)
{
    perf(packed, true);
}

static void add(const char *name, GTestDataFunc func)
{
    driver_test_add("vring", name, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_init();

    add("direct", test_direct);
    add("indirect", test_indirect);
    add("mixed", test_mixed);
    add("long-table", test_long_table);
    add("own-list", test_own_list);
    add("scattered-header", test_scattered_header);
    add("crossing", test_crossing);
    add("crossing-table", test_crossing_table);
    add("mmio", test_mmio);
    add("direct-only", test_direct_only);
    add("drop", test_drop);
    add("rewritten", test_rewritten);
    add("around", test_around);
    add("full", test_full);
    add("state", test_state);
    add("attach", test_attach);
    g_test_add_func("/vring/packed/used-bit", test_packed_used_bit);
    if (g_test_perf()) {
        add("perf-direct", test_perf_direct);
        add("perf-indirect", test_perf_indirect);
    }
    return g_test_run();
}
