/*
 * Ring readers and malicious drivers
 *
 * There is a case for every fault that has a name: in split and packed rings,
 * in the ring and in an indirect table.  Other cases have rings of random
 * numbers.  Each chain that is taken must lie in guest memory, and no memory
 * may leak.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "vring-driver.h"

/* A fault and no chain; nothing stays mapped. */
static void expect_fault(Driver *d, const char *fault)
{
    VRingChain chain;

    g_assert_null(vring_fault(&d->r));
    g_assert_cmpint(vring_take(&d->r, &chain), ==, -EINVAL);
    g_assert_nonnull(vring_fault(&d->r));
    if (!strstr(vring_fault(&d->r), fault)) {
        g_error("fault is '%s', not '%s'", vring_fault(&d->r), fault);
    }
    g_assert_cmpuint(dma_mapped, ==, 0);
    g_assert_cmpuint(d->r.inuse, ==, 0);
    g_assert_cmpuint(d->r.view_ref->inflight, ==, 0);
}

typedef struct BadChain {
    const char *fault;
    unsigned n;
    Desc descs[3];
} BadChain;

/* Wrong in the ring and wrong in a table, in the same words. */
static const BadChain bad_chains[] = {
    { "zero-sized", 1, { { BUF, 0, 0 } } },
    { "zero-sized", 2, { { BUF, 16, 0 }, { BUF, 0, F_WRITE } } },
    { "zero-sized", 2, { { MMIO, 16, 0 }, { MMIO, 0, 0 } } },
    { "readable descriptor after", 2, { { BUF, 1, F_WRITE }, { BUF, 16, 0 } } },
    { "readable descriptor after", 3,
      { { BUF, 1, 0 }, { MMIO, 16, F_WRITE }, { BUF, 16, 0 } } },
    { "cannot be mapped", 1, { { 0x60000, 16, 0 } } },
    { "cannot be mapped", 1, { { 0x60000, 16, F_WRITE } } },
    { "cannot be mapped", 1, { { ROM, 16, F_WRITE } } },
    { "cannot be mapped", 2, { { ROM, 16, 0 }, { ROM, 16, F_WRITE } } },
    { "cannot be mapped", 2, { { MMIO, 16, 0 }, { ROM, 16, F_WRITE } } },
    { "cannot be mapped", 1, { { MID + MID_SIZE - 8, 16, 0 } } },
    { "cannot be mapped", 1, { { ROM + ROM_SIZE - 1, 2, 0 } } },
    { "cannot be mapped", 2,
      { { BUF, 16, 0 }, { MMIO + MMIO_SIZE - 100, 101, F_WRITE } } },
    { "cannot be mapped", 1, { { 0, UINT32_MAX, 0 } } },
    { "end of the address space", 1, { { UINT64_MAX, 2, 0 } } },
    { "end of the address space", 1, { { -16ull, 4096, F_WRITE } } },
    { "end of the address space", 1, { { -16ull, UINT32_MAX, 0 } } },
    { "cannot be mapped", 1, { { UINT64_MAX, 1, 0 } } },
    { "more than 2^32", 3, { { VAST, 0x80000000, 0 },
                             { VAST, 0x80000000, F_WRITE },
                             { BUF, 1, F_WRITE } } },
};

static void test_bad_chains(const void *packed)
{
    for (unsigned i = 0; i < ARRAY_SIZE(bad_chains); i++) {
        const BadChain *bad = &bad_chains[i];
        Driver *d = driver_new(packed, 8, false);
        Desc mixed[2];

        driver_add(d, bad->descs, bad->n, 1);
        expect_fault(d, bad->fault);
        driver_free(d);

        d = driver_new(packed, 8, false);
        mixed[0] = driver_table(d, TABLE, bad->descs, bad->n);
        driver_add(d, mixed, 1, 1);
        expect_fault(d, bad->fault);
        driver_free(d);

        /* A table behind a good descriptor. */
        d = driver_new(packed, 8, false);
        mixed[0] = request[0];
        mixed[1] = driver_table(d, TABLE, bad->descs, bad->n);
        driver_add(d, mixed, 2, 1);
        expect_fault(d, bad->fault);
        driver_free(d);
    }
}

/* Exactly 2^32 bytes are allowed, and addresses up to the last. */
static void test_limits(const void *packed)
{
    static const Desc vast[] = {
        { VAST, 0x80000000, 0 }, { VAST + 0x80000000, 0x7fffffff, 0 },
        { VAST + VAST_SIZE - 1, 1, F_WRITE },
    };
    static const Desc status[] = { { BUF, 1, F_WRITE } };
    Driver *d = driver_new(packed, 8, false);
    VRingChain chain;

    driver_add(d, vast, 3, 0);
    chain = driver_take(d);
    g_assert_cmpuint(chain.out_len + chain.in_len, ==, UINT64_C(1) << 32);
    driver_answer(d, &chain, 0);

    /* A chain of a status byte alone is the device's to judge. */
    driver_add(d, status, 1, 1);
    chain = driver_take(d);
    g_assert_cmpuint(chain.out_num, ==, 0);
    g_assert_cmpuint(chain.in_num, ==, 1);
    driver_answer(d, &chain, 1);
    driver_free(d);
}

static void bad_table(bool packed, Desc table, const char *fault)
{
    Driver *d = driver_new(packed, 8, false);

    driver_add(d, &table, 1, 0);
    expect_fault(d, fault);
    driver_free(d);
}

static void test_bad_tables(const void *packed)
{
    const Desc nested[] = { request[0], { TABLE, 32, F_INDIRECT } };
    const Desc nested_first[] = { { TABLE, 32, F_INDIRECT } };
    g_autofree Desc *many = g_new0(Desc, 1025);
    Driver *d;
    Desc table;

    bad_table(packed, (Desc) { TABLE, 0, F_INDIRECT }, "multiple of 16");
    bad_table(packed, (Desc) { TABLE, 15, F_INDIRECT }, "multiple of 16");
    bad_table(packed, (Desc) { TABLE, 17, F_INDIRECT }, "multiple of 16");
    bad_table(packed, (Desc) { TABLE, UINT32_MAX, F_INDIRECT },
              "multiple of 16");
    bad_table(packed, (Desc) { 0x60000, 16, F_INDIRECT }, "cannot be read");
    bad_table(packed, (Desc) { -16ull, 32, F_INDIRECT }, "cannot be read");
    bad_table(packed, (Desc) { MID + MID_SIZE - 16, 32, F_INDIRECT },
              "cannot be read");
    bad_table(packed, (Desc) { MID - 16, 1025 * 16, F_INDIRECT },
              "overlong");
    bad_table(packed, (Desc) { 0x60000, 0xfffffff0, F_INDIRECT }, "overlong");

    d = driver_new(packed, 8, false);
    table = driver_table(d, TABLE, nested, 2);
    driver_add(d, &table, 1, 0);
    expect_fault(d, "inside an indirect table");
    driver_free(d);

    d = driver_new(packed, 8, false);
    table = driver_table(d, TABLE, nested_first, 1);
    driver_add(d, &table, 1, 0);
    expect_fault(d, "inside an indirect table");
    driver_free(d);

    /* There is one segment too many: direct, bounced, or split at the end. */
    for (unsigned i = 0; i < 1025; i++) {
        many[i] = (Desc) { BUF, 1, 0 };
    }
    d = driver_new(packed, 8, false);
    table = driver_table(d, TABLE, many, 1025);
    driver_add(d, &table, 1, 0);
    expect_fault(d, "too many");
    driver_free(d);

    many[1023] = (Desc) { MID - 1, 2, 0 };
    d = driver_new(packed, 8, false);
    table = driver_table(d, TABLE, many, 1024);
    driver_add(d, &table, 1, 0);
    expect_fault(d, "too many");
    driver_free(d);

    many[1023] = (Desc) { MMIO, 65, 0 };
    d = driver_new(packed, 8, false);
    table = driver_table(d, TABLE, many, 1024);
    driver_add(d, &table, 1, 0);
    expect_fault(d, "too many");
    driver_free(d);
}

/* Links of split rings: loops, and links that leave the table. */
static void test_split_links(void)
{
    static const struct {
        const char *fault;
        unsigned n;
        Desc descs[3];
    } bad[] = {
        { "loop", 2, { { BUF, 1, F_NEXT }, { BUF, 1, F_NEXT, 1 } } },
        { "loop", 3, { { BUF, 1, 0 }, { BUF, 1, 0 }, { BUF, 1, F_NEXT, 1 } } },
        { "beyond", 1, { { BUF, 1, F_NEXT, 8 } } },
        { "beyond", 2, { { BUF, 1, 0 }, { MMIO, 1, F_NEXT, 65535 } } },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        Driver *d = driver_new(false, 8, false);
        Desc table;

        driver_add(d, bad[i].descs, bad[i].n, 0);
        expect_fault(d, bad[i].fault);
        driver_free(d);

        d = driver_new(false, 8, false);
        table = driver_table(d, TABLE, bad[i].descs, bad[i].n);
        driver_add(d, &table, 1, 0);
        expect_fault(d, bad[i].fault);
        driver_free(d);
    }
}

static void test_split_self_loop(void)
{
    struct vring_desc *desc = guest_ptr(DESC);
    Driver *d = driver_new(false, 8, false);

    driver_add(d, request, 1, 0);
    desc[0].flags = cpu_to_le16(F_NEXT);
    desc[0].next = 0;
    expect_fault(d, "loop");
    driver_free(d);
}

static void test_split_available(void)
{
    struct vring_avail *avail = guest_ptr(AVAIL);
    static const uint16_t heads[] = { 8, 9, 32768, 65535 };
    Driver *d;

    for (unsigned i = 0; i < ARRAY_SIZE(heads); i++) {
        d = driver_new(false, 8, false);
        driver_add(d, request, 3, 0);
        avail->ring[0] = cpu_to_le16(heads[i]);
        expect_fault(d, "available entry is beyond");
        driver_free(d);
    }
    for (unsigned moved = 9; moved < 65536; moved += 7253) {
        d = driver_new(false, 8, false);
        driver_seek(d, 65530, true);
        avail->idx = cpu_to_le16(65530 + moved);
        expect_fault(d, "moved by more");
        driver_free(d);
    }
}

/* More in flight than the ring has room for. */
static void test_overcommitted(const void *packed)
{
    Driver *d = driver_new(packed, 4, false);
    VRingChain chain[4], more;

    for (unsigned i = 0; i < 4; i++) {
        driver_add(d, request + 2, 1, i);
        chain[i] = driver_take(d);
    }
    driver_add(d, request + 2, 1, 5);
    g_assert_cmpint(vring_take(&d->r, &more), ==, -EINVAL);
    g_assert(strstr(vring_fault(&d->r), "in flight"));
    for (unsigned i = 0; i < 4; i++) {
        driver_answer(d, &chain[i], 0);
    }
    driver_free(d);
}

/* A packed chain whose last descriptor says that there is more. */
static void test_packed_endless(void)
{
    static const Desc endless[] = {
        { BUF, 1, F_NEXT }, { BUF, 1, F_NEXT }, { BUF, 1, F_NEXT },
        { MMIO, 1, F_NEXT },
    };
    Driver *d = driver_new(true, 4, false);

    driver_add(d, endless, 4, 0);
    expect_fault(d, "runs into");
    driver_free(d);
}

/*
 * Random rings.  Most numbers are small indexes, or addresses near the edges of
 * guest memory, so that most chains are read far.
 */
static uint64_t random_addr(GRand *rand)
{
    static const uint64_t edges[] = {
        0, DESC, AVAIL, USED, BUF, TABLE, MID, MID + MID_SIZE, ROM,
        ROM + ROM_SIZE, MMIO, MMIO + MMIO_SIZE,
    };
    uint64_t edge = edges[g_rand_int(rand) % ARRAY_SIZE(edges)];

    switch (g_rand_int(rand) % 16) {
    case 0:
        return edge - g_rand_int(rand) % 256;
    case 1:
        return -(uint64_t)(g_rand_int(rand) % 4096);
    case 2:
        return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    case 3:
        return edge + g_rand_int(rand) % 256;
    default:
        return BUF + g_rand_int(rand) % (MID + MID_SIZE - BUF - 4096);
    }
}

static void random_desc(GRand *rand, bool packed, bool in_table, void *p)
{
    static const uint32_t lens[] = { 1, 15, 16, 32, 64, 512, 4096, 48 };
    uint16_t flags = g_rand_int(rand) & (F_NEXT | F_WRITE);
    uint32_t len = lens[g_rand_int(rand) % ARRAY_SIZE(lens)];
    uint16_t w[2];

    if (g_rand_int(rand) % (in_table ? 64 : 4) == 0) {
        flags |= F_INDIRECT;
    }
    switch (g_rand_int(rand) % 64) {
    case 0:
        len = 0;
        break;
    case 1:
        len = g_rand_int(rand);
        break;
    }
    w[!packed] = g_rand_int(rand) % (g_rand_int(rand) % 64 ? 9 : 65536);
    w[packed] = flags;
    stq_le_p(p, random_addr(rand));
    stl_le_p(p + 8, len);
    stw_le_p(p + 12, w[0]);
    stw_le_p(p + 14, w[1]);
}

/* Make most descriptors of a packed ring available. */
static void random_flags(GRand *rand, Driver *d)
{
    struct vring_packed_desc *ring = guest_ptr(DESC);

    for (unsigned i = 0; i < d->num; i++) {
        bool wrap = (i >= d->r.last_avail_idx) == d->r.avail_wrap;

        ring[i].flags |= cpu_to_le16(1 << (wrap ? VRING_PACKED_DESC_F_AVAIL
                                                : VRING_PACKED_DESC_F_USED));
        if (g_rand_int(rand) % 8 == 0) {
            ring[i].flags ^= cpu_to_le16(g_rand_int(rand));
        }
    }
}

/* Fill the ring, its tables and what the driver says about events. */
static void random_ring(GRand *rand, Driver *d)
{
    struct vring_avail *avail = guest_ptr(AVAIL);

    for (unsigned i = 0; i < d->num; i++) {
        random_desc(rand, d->packed, false, guest_ptr(DESC + 16 * i));
    }
    for (unsigned i = 0; i < 0x1000; i += 16) {
        random_desc(rand, d->packed, true, guest_ptr(TABLE + i));
    }
    if (d->packed) {
        random_flags(rand, d);
        *(uint32_t *)guest_ptr(AVAIL) = g_rand_int(rand);
        return;
    }
    for (unsigned i = 0; i <= d->num; i++) {
        avail->ring[i] = g_rand_int(rand) % (d->num + (i % 16 == 0));
    }
    avail->idx = cpu_to_le16(d->r.last_avail_idx +
                             g_rand_int(rand) % (d->num + 2));
}

/* The part of guest memory that has no memory. */
static bool is_vast(const uint8_t *p)
{
    return p - (uint8_t *)guest.vast >= 0 &&
           p - (uint8_t *)guest.vast < VAST_SIZE;
}

/* Use every byte as a device does, so that a sanitizer checks the addresses. */
static void use_chain(GRand *rand, const VRingChain *chain)
{
    uint64_t out = 0, in = 0;
    volatile uint8_t sum = 0;       /* so that the reads are made */

    g_assert_cmpuint(chain->out_num + chain->in_num, >, 0);
    g_assert_cmpuint(chain->out_num + chain->in_num, <=, VRING_MAX_SEGMENTS);
    for (unsigned i = 0; i < chain->out_num + chain->in_num; i++) {
        const struct iovec *iov = &chain->iov[i];
        uint8_t *p = iov->iov_base;

        g_assert_cmpuint(iov->iov_len, >, 0);
        g_assert(chain->slow || guest_contains(p, iov->iov_len));
        if (i >= chain->out_num) {
            g_assert(p < guest.rom || p >= guest.rom + ROM_SIZE);
            in += iov->iov_len;
            memset(p, g_rand_int(rand), is_vast(p) ? 0 : iov->iov_len);
        } else {
            out += iov->iov_len;
            for (size_t j = 0; !is_vast(p) && j < iov->iov_len; j++) {
                sum += p[j];
            }
        }
    }
    g_assert_cmpuint(out, ==, chain->out_len);
    g_assert_cmpuint(in, ==, chain->in_len);
}

static void test_random(const void *packed)
{
    enum { RINGS = 4000, MOST = 256 };
    g_autoptr(GRand) rand = g_rand_new_with_seed(0x6d71);
    unsigned taken = 0, faults = 0;

    for (unsigned ring = 0; ring < RINGS; ring++) {
        static const unsigned sizes[] = { 1, 2, 8, 256 };
        unsigned num = sizes[ring % ARRAY_SIZE(sizes)];
        Driver *d = driver_new(packed, num, ring & 4);
        VRingChain chains[MOST];
        unsigned n = 0;

        driver_seek(d, packed ? g_rand_int(rand) % num : g_rand_int(rand),
                    g_rand_boolean(rand));
        random_ring(rand, d);
        for (;;) {
            int ret = n == MOST ? 0 : vring_take(&d->r, &chains[n]);

            faults += ret < 0;
            if (ret <= 0) {
                g_assert((ret < 0) == (vring_fault(&d->r) != NULL));
                break;
            }
            chains[n].iov = g_memdup2(chains[n].iov, sizeof(struct iovec) *
                                      (chains[n].out_num + chains[n].in_num));
            use_chain(rand, &chains[n++]);
            taken++;
        }
        while (n) {
            unsigned i = g_rand_int(rand) % n;
            VRingChain chain = chains[i];

            chains[i] = chains[--n];
            vring_push(&d->r, &chain, g_rand_int(rand) % (chain.in_len + 1));
            vring_publish(&d->r);
            g_free(chain.iov);
        }
        vring_set_notification(&d->r, false);
        vring_set_notification(&d->r, true);
        g_assert_cmpuint(d->r.inuse, ==, 0);
        g_assert_cmpuint(d->r.view_ref->inflight, ==, 0);
        driver_free(d);
    }
    /* Both ways were gone often, or the numbers are badly chosen. */
    g_test_message("%u chains, %u faults", taken, faults);
    g_assert_cmpuint(taken, >, RINGS / 4);
    g_assert_cmpuint(faults, >, RINGS / 4);
}

static void add(const char *name, GTestDataFunc func)
{
    driver_test_add("vring-hostile", name, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_init();

    add("chains", test_bad_chains);
    add("limits", test_limits);
    add("tables", test_bad_tables);
    add("overcommitted", test_overcommitted);
    add("random", test_random);
    g_test_add_func("/vring-hostile/split/links", test_split_links);
    g_test_add_func("/vring-hostile/split/self-loop", test_split_self_loop);
    g_test_add_func("/vring-hostile/split/available", test_split_available);
    g_test_add_func("/vring-hostile/packed/endless", test_packed_endless);
    return g_test_run();
}
