/*
 * An HBitmap whose bits several threads set while one clears them
 *
 * Bits are compared with an array of bytes, which has no levels.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/hbitmap.h"
#include "qemu/hbitmap-shared.h"
#include "qemu/thread.h"

/* --- One thread, compared with an array --- */

typedef struct Model {
    HBitmap *hb;
    uint8_t *set;
    uint64_t size;
    int granularity;
} Model;

static void model_check(Model *m)
{
    uint64_t bits = DIV_ROUND_UP(m->size, 1ULL << m->granularity);
    uint64_t count = 0;
    HBitmapIter iter;

    hbitmap_iter_init(&iter, m->hb, 0);
    for (uint64_t bit = 0; bit < bits; bit++) {
        uint64_t item = bit << m->granularity;

        g_assert_cmpint(hbitmap_get(m->hb, item), ==, m->set[bit]);
        if (m->set[bit]) {
            count++;
            g_assert_cmpint(hbitmap_iter_next(&iter), ==, item);
        } else {
            g_assert_cmpint(hbitmap_next_zero(m->hb, item, 1), ==, item);
        }
    }
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    g_assert_cmpint(hbitmap_count(m->hb), ==, count << m->granularity);
    g_assert_cmpint(hbitmap_empty(m->hb), ==, !count);
}

/* A range that ends at a border of words now and then. */
static void model_range(Model *m, uint64_t *first, uint64_t *last)
{
    static const unsigned lengths[] = { 1, 2, 63, 64, 65, 128, 4095, 4096,
                                        4097, 9000 };
    uint64_t bits = DIV_ROUND_UP(m->size, 1ULL << m->granularity);
    uint64_t length = lengths[g_test_rand_int_range(0, G_N_ELEMENTS(lengths))];

    *first = g_test_rand_int_range(0, bits);
    if (g_test_rand_bit()) {
        *first &= ~63ULL;
    }
    *last = MIN(*first + length, bits) - 1;
}

static void model_step(Model *m)
{
    uint64_t first, last, start, count;
    bool set = g_test_rand_bit();

    model_range(m, &first, &last);
    start = first << m->granularity;
    count = MIN((last + 1) << m->granularity, m->size) - start;
    if (set) {
        hbitmap_set(m->hb, start, count);
    } else {
        hbitmap_reset(m->hb, start, count);
    }
    memset(&m->set[first], set, last - first + 1);
}

static void test_model(gconstpointer data)
{
    const Model *wanted = data;
    uint64_t bits = DIV_ROUND_UP(wanted->size, 1ULL << wanted->granularity);
    g_autofree uint8_t *set = g_new0(uint8_t, bits);
    Model m = *wanted;

    m.set = set;
    m.hb = hbitmap_alloc(m.size, m.granularity);
    for (int i = 0; i < 60; i++) {
        model_step(&m);
        model_check(&m);
    }
    hbitmap_reset_all(m.hb);
    memset(set, 0, bits);
    model_check(&m);
    model_step(&m);
    model_check(&m);
    hbitmap_free(m.hb);
}

static const Model models[] = {
    { .size = 1 }, { .size = 64 }, { .size = 65 }, { .size = 4096 },
    { .size = 4097 }, { .size = 64 * 64 * 64 },
    { .size = 20000, .granularity = 1 }, { .size = 600001, .granularity = 4 },
};

/* --- A setter that is late --- */

/* A bit above an empty word, as a setter leaves it that was overtaken. */
static void test_late(void)
{
    unsigned long last[64] = { 0 }, above[1] = { 0 }, top[1] = { 0 };
    unsigned long *levels[HBITMAP_LEVELS];
    HBitmapCount count = { 0 };

    for (int i = 0; i < HBITMAP_LEVELS; i++) {
        levels[i] = top;
    }
    levels[HBITMAP_LEVELS - 1] = last;
    levels[HBITMAP_LEVELS - 2] = above;

    /* The word is there, and what lies above it is not linked yet */
    last[3] = 1;
    g_assert(!hbitmap_bits_set(levels, &count, 192, 192));
    g_assert_cmphex(above[0], ==, 1 << 3);
    g_assert_cmpint(hbitmap_bits_count(&count), ==, 0);

    /* The bit above is there, and the word is empty */
    last[3] = 0;
    g_assert(hbitmap_bits_set(levels, &count, 193, 193));
    g_assert_cmphex(above[0], ==, 1 << 3);
    g_assert(hbitmap_bits_reset(levels, &count, 193, 193));
    g_assert_cmphex(above[0], ==, 0);
    g_assert_cmphex(top[0], ==, 0);
    hbitmap_bits_cleanup(&count);
}

/* Such a bit is passed over. */
static void test_late_iteration(void)
{
    HBitmap *hb = hbitmap_alloc(64 * 64 * 64, 0);
    HBitmapIter iter;

    hbitmap_set(hb, 70, 1);
    hbitmap_set(hb, 64 * 64 * 3, 1);
    hbitmap_set(hb, 64 * 64 * 5, 1);

    /* Clear words without the bits above them. */
    hbitmap_deserialize_zeroes(hb, 64, 64, false);
    hbitmap_deserialize_zeroes(hb, 64 * 64 * 3, 64, false);

    hbitmap_iter_init(&iter, hb, 0);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, 64 * 64 * 5);
    g_assert_cmpint(hbitmap_iter_next(&iter), ==, -1);
    hbitmap_deserialize_zeroes(hb, 64 * 64 * 5, 64, false);
    g_assert_cmpint(hbitmap_next_dirty(hb, 0, INT64_MAX), ==, -1);
    hbitmap_free(hb);
}

/* --- Many threads --- */

#define SETTERS     3
#define BITS        (64 * 64 * 4)
#define TURNS       60000
#define ROUNDS      6

/*
 * Bit N belongs to setter N % SETTERS.  The setter sets the bit if taken[N] is
 * false, and makes taken[N] true before.  The thread that clears the bit makes
 * taken[N] false again.
 */
typedef struct Hammer {
    HBitmap *hb;
    bool taken[BITS];
    int working;
} Hammer;

typedef struct Setter {
    Hammer *hammer;
    unsigned number, seed;
    QemuThread thread;
} Setter;

static void *setter_run(void *opaque)
{
    Setter *s = opaque;
    Hammer *h = s->hammer;
    g_autoptr(GRand) rand = g_rand_new_with_seed(s->seed);

    for (int i = 0; i < TURNS; i++) {
        /* Some words are crowded, and most are empty */
        unsigned range = g_rand_int_range(rand, 0, 4) ? 300 : BITS;
        unsigned bit = g_rand_int_range(rand, 0, range / SETTERS) * SETTERS
                       + s->number;

        if (!qatomic_load_acquire(&h->taken[bit])) {
            qatomic_set(&h->taken[bit], true);
            hbitmap_set(h->hb, bit, 1);
        }
    }
    qatomic_dec(&h->working);
    return NULL;
}

/* Clear bits that an iterator finds.  It must find all counted bits. */
static void clear_some(Hammer *h, GRand *rand)
{
    unsigned first = g_rand_int_range(rand, 0, BITS);
    uint64_t count = hbitmap_count(h->hb);
    uint64_t found = 0;
    HBitmapIter iter;
    int64_t bit;

    g_assert_cmpint(count, <=, BITS);
    hbitmap_iter_init(&iter, h->hb, 0);
    while ((bit = hbitmap_iter_next(&iter)) >= 0) {
        g_assert(qatomic_read(&h->taken[bit]));
        g_assert(hbitmap_get(h->hb, bit));
        found++;
    }
    g_assert_cmpint(found, >=, count);
    g_assert_cmpint(hbitmap_count(h->hb), >=, found);

    hbitmap_iter_init(&iter, h->hb, first);
    while ((bit = hbitmap_iter_next(&iter)) >= 0) {
        hbitmap_reset(h->hb, bit, 1);
        qatomic_store_release(&h->taken[bit], false);
    }
}

/* Check that exactly those bits are set that were set and not cleared. */
static void hammer_check(Hammer *h)
{
    Model m = { .hb = h->hb, .set = (uint8_t *)h->taken, .size = BITS };

    QEMU_BUILD_BUG_ON(sizeof(bool) != 1);
    model_check(&m);
}

static void test_hammer(void)
{
    g_autofree Hammer *h = g_new0(Hammer, 1);
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    Setter setters[SETTERS];

    h->hb = hbitmap_alloc(BITS, 0);
    for (int round = 0; round < ROUNDS; round++) {
        h->working = SETTERS;
        for (int i = 0; i < SETTERS; i++) {
            setters[i] = (Setter) { .hammer = h, .number = i,
                                    .seed = g_test_rand_int() };
            qemu_thread_create(&setters[i].thread, "setter", setter_run,
                               &setters[i], QEMU_THREAD_JOINABLE);
        }
        while (qatomic_read(&h->working)) {
            clear_some(h, rand);
        }
        for (int i = 0; i < SETTERS; i++) {
            qemu_thread_join(&setters[i].thread);
        }
        hammer_check(h);
    }
    hbitmap_free(h->hb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < G_N_ELEMENTS(models); i++) {
        g_autofree char *path = g_strdup_printf("/hbitmap-shared/model/%d", i);

        g_test_add_data_func(path, &models[i], test_model);
    }
    g_test_add_func("/hbitmap-shared/late", test_late);
    g_test_add_func("/hbitmap-shared/late-iteration", test_late_iteration);
    g_test_add_func("/hbitmap-shared/hammer", test_hammer);
    return g_test_run();
}
