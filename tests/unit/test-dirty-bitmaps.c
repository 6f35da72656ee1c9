/*
 * Dirty bitmaps that change while several threads write to their node
 *
 * Some cases repeat one operation on a bitmap while threads mark what they
 * write.  At the end each written bit must be set, either in the bitmap or in
 * what the case has taken out of it.  Other cases do the operation once while a
 * thread seems to be marking something.  The operation must wait for that.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "qapi/error.h"
#include "qemu/brief-read.h"
#include "qemu/hbitmap.h"
#include "qemu/main-loop.h"

#define WRITERS     3
#define GRANULARITY 512
#define BITS        (64 * 64)
#define NODE_BYTES  (BITS * GRANULARITY)
#define WRITES      100000

typedef struct Scene {
    BlockDriverState *bs;
    BdrvDirtyBitmap *bitmap;

    /* The bits that writers have marked, and those found in bitmaps */
    bool written[BITS];
    bool found[BITS];

    /* The case drops bits itself */
    bool drops;

    /* The number of writers that are not done, and of writes so far */
    int working;
    int writes;
} Scene;

typedef struct Writer {
    Scene *scene;
    unsigned seed;
    QemuThread thread;
} Writer;

static int64_t coroutine_fn node_getlength(BlockDriverState *bs)
{
    return NODE_BYTES;
}

static BlockDriver bdrv_node = {
    .format_name = "test-node",
    .bdrv_co_getlength = node_getlength,
};

static void *writer_run(void *opaque)
{
    Writer *w = opaque;
    Scene *s = w->scene;
    g_autoptr(GRand) rand = g_rand_new_with_seed(w->seed);

    for (int i = 0; i < WRITES; i++) {
        unsigned first = g_rand_int_range(rand, 0, BITS);
        unsigned last = MIN(first + g_rand_int_range(rand, 0, 4), BITS - 1);

        for (unsigned bit = first; bit <= last; bit++) {
            qatomic_set(&s->written[bit], true);
        }
        bdrv_set_dirty(s->bs, first * GRANULARITY,
                       (last - first + 1) * GRANULARITY);
        qatomic_inc(&s->writes);
    }
    qatomic_dec(&s->working);
    return NULL;
}

/* Let the writers do something. */
static void let_write(Scene *s)
{
    int writes = qatomic_read(&s->writes);

    while (qatomic_read(&s->working) && qatomic_read(&s->writes) < writes + 9) {
        g_thread_yield();
    }
}

static void find(Scene *s, HBitmap *bits)
{
    for (unsigned bit = 0; bit < BITS; bit++) {
        s->found[bit] |= hbitmap_get(bits, bit * GRANULARITY);
    }
}

static void find_in(Scene *s, BdrvDirtyBitmap *bitmap)
{
    int64_t count = 0;

    for (unsigned bit = 0; bit < BITS; bit++) {
        bool set = bdrv_dirty_bitmap_get(bitmap, bit * GRANULARITY);

        s->found[bit] |= set;
        count += set * GRANULARITY;
    }
    g_assert_cmpint(bdrv_get_dirty_count(bitmap), ==, count);
}

static BdrvDirtyBitmap *bitmap_open(Scene *s, const char *name)
{
    return bdrv_create_dirty_bitmap(s->bs, GRANULARITY, name, &error_abort);
}

/* --- Operations on a bitmap --- */

/* Take the bits out of the bitmap. */
static void do_clear(Scene *s)
{
    HBitmap *old;

    bdrv_clear_dirty_bitmap(s->bitmap, &old);
    find(s, old);
    hbitmap_free(old);
}

/* Take the bits out and put them back.  Drop those that were set meanwhile. */
static void do_restore(Scene *s)
{
    HBitmap *old;

    s->drops = true;
    bdrv_clear_dirty_bitmap(s->bitmap, &old);
    let_write(s);
    bdrv_restore_dirty_bitmap(s->bitmap, old);
}

/* Add other bitmaps to the list, and remove them. */
static void do_create(Scene *s)
{
    BdrvDirtyBitmap *other = bitmap_open(s, "other");

    let_write(s);
    bdrv_release_dirty_bitmap(other);
}

/* Merge the bits of another bitmap into it, in place and as a copy. */
static void do_merge(Scene *s)
{
    BdrvDirtyBitmap *other = bitmap_open(s, "other");
    HBitmap *old = NULL;

    let_write(s);
    g_assert(bdrv_merge_dirty_bitmap(s->bitmap, other, NULL, &error_abort));
    g_assert(bdrv_merge_dirty_bitmap(s->bitmap, other, &old, &error_abort));
    find(s, old);
    hbitmap_free(old);
    bdrv_release_dirty_bitmap(other);
}

/* Do as a job that takes the bitmap and fails. */
static void do_reclaim(Scene *s)
{
    g_assert(!bdrv_dirty_bitmap_create_successor(s->bitmap, &error_abort));
    let_write(s);
    bdrv_reclaim_dirty_bitmap(s->bitmap, &error_abort);
    g_assert(bdrv_dirty_bitmap_enabled(s->bitmap));
}

/* Do as a job that takes the bitmap and succeeds, so its bits are done. */
static void do_abdicate(Scene *s)
{
    g_assert(!bdrv_dirty_bitmap_create_successor(s->bitmap, &error_abort));
    find_in(s, s->bitmap);
    s->bitmap = bdrv_dirty_bitmap_abdicate(s->bitmap, &error_abort);
}

/* Disable the bitmap: then it does not change. */
static void do_disable(Scene *s)
{
    BdrvDirtyBitmap *other = bitmap_open(s, "other");
    int64_t count;

    let_write(s);
    bdrv_disable_dirty_bitmap(other);
    count = bdrv_get_dirty_count(other);
    let_write(s);
    g_assert_cmpint(bdrv_get_dirty_count(other), ==, count);
    bdrv_enable_dirty_bitmap(other);
    bdrv_release_dirty_bitmap(other);
}

/* The node grows and shrinks behind what is written. */
static void do_truncate(Scene *s)
{
    bdrv_dirty_bitmap_truncate(s->bs, NODE_BYTES * 65LL);
    let_write(s);
    bdrv_dirty_bitmap_truncate(s->bs, NODE_BYTES);
}

/* A job copies what it finds, as mirror does. */
static void do_copy(Scene *s)
{
    BdrvDirtyBitmapIter *iter;
    int64_t offset;

    bdrv_dirty_bitmap_lock(s->bitmap);
    iter = bdrv_dirty_iter_new(s->bitmap);
    while ((offset = bdrv_dirty_iter_next(iter)) >= 0) {
        s->found[offset / GRANULARITY] = true;
        bdrv_reset_dirty_bitmap_locked(s->bitmap, offset, GRANULARITY);
    }
    bdrv_dirty_iter_free(iter);
    bdrv_dirty_bitmap_unlock(s->bitmap);
}

/* --- The writers --- */

static void test_writers(gconstpointer data)
{
    void (*do_it)(Scene *s) = (void (*)(Scene *s))data;
    g_autofree Scene *s = g_new0(Scene, 1);
    Writer writers[WRITERS];

    s->bs = bdrv_new_open_driver(&bdrv_node, "node", BDRV_O_RDWR, &error_abort);
    s->bs->total_sectors = NODE_BYTES / BDRV_SECTOR_SIZE;
    s->bitmap = bitmap_open(s, "bitmap");
    s->working = WRITERS;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (Writer) { .scene = s, .seed = g_test_rand_int() };
        qemu_thread_create(&writers[i].thread, "writer", writer_run,
                           &writers[i], QEMU_THREAD_JOINABLE);
    }
    while (qatomic_read(&s->working)) {
        do_it(s);
        let_write(s);
    }
    for (int i = 0; i < WRITERS; i++) {
        qemu_thread_join(&writers[i].thread);
    }

    find_in(s, s->bitmap);
    for (unsigned bit = 0; bit < BITS; bit++) {
        g_assert_cmpint(s->found[bit], <=, s->written[bit]);
        g_assert(s->drops || s->found[bit] == s->written[bit]);
    }
    bdrv_release_dirty_bitmap(s->bitmap);
    bdrv_unref(s->bs);
}

/* --- A thread that is marking something --- */

typedef struct Marker {
    BlockDriverState *bs;
    QemuThread thread;
    QemuEvent marking;
    bool claimed, done;
} Marker;

static void *marker_run(void *opaque)
{
    Marker *m = opaque;
    BriefReader *reader = brief_read_begin();

    g_assert_nonnull(reader);
    qemu_event_set(&m->marking);
    while (!qatomic_read(&m->done) && !m->claimed) {
        m->claimed = qatomic_read(&m->bs->dirty_bitmaps_claims);
        g_thread_yield();
    }
    brief_read_end(reader);
    return NULL;
}

static void marker_begin(Marker *m, BlockDriverState *bs)
{
    *m = (Marker) { .bs = bs };
    qemu_event_init(&m->marking, false);
    qemu_thread_create(&m->thread, "marker", marker_run, m,
                       QEMU_THREAD_JOINABLE);
    qemu_event_wait(&m->marking);
}

/* End marking.  Return whether the operation has waited until now. */
static bool marker_end(Marker *m)
{
    qatomic_set(&m->done, true);
    qemu_thread_join(&m->thread);
    qemu_event_destroy(&m->marking);
    g_assert_cmpint(m->bs->dirty_bitmaps_claims, ==, 0);
    return m->claimed;
}

/* Whether @statement waits for a thread that marks something */
#define WAITS(bs, statement) ({                         \
        Marker marker_;                                 \
        marker_begin(&marker_, bs);                     \
        statement;                                      \
        marker_end(&marker_);                           \
    })

static void test_waits(void)
{
    Scene s = { .bs = bdrv_new_open_driver(&bdrv_node, "node", BDRV_O_RDWR,
                                           &error_abort) };
    BlockDriverState *bs = s.bs;
    BdrvDirtyBitmap *a, *b;
    HBitmap *old;

    bs->total_sectors = NODE_BYTES / BDRV_SECTOR_SIZE;
    g_assert(WAITS(bs, a = bitmap_open(&s, "a")));
    b = bitmap_open(&s, "b");

    g_assert(WAITS(bs, bdrv_disable_dirty_bitmap(a)));
    g_assert(WAITS(bs, bdrv_dirty_bitmap_set_readonly(a, true)));
    bdrv_dirty_bitmap_set_readonly(a, false);
    g_assert(WAITS(bs, bdrv_clear_dirty_bitmap(a, NULL)));
    g_assert(WAITS(bs, bdrv_clear_dirty_bitmap(a, &old)));
    g_assert(WAITS(bs, bdrv_restore_dirty_bitmap(a, old)));
    g_assert(WAITS(bs, bdrv_merge_dirty_bitmap(a, b, NULL, &error_abort)));
    g_assert(WAITS(bs, bdrv_dirty_bitmap_merge_internal(a, b, NULL, true)));
    g_assert(WAITS(bs, bdrv_dirty_bitmap_truncate(bs, NODE_BYTES / 2)));
    g_assert(!WAITS(bs, bdrv_dirty_bitmap_truncate(bs, NODE_BYTES / 2 - 1)));
    bdrv_dirty_bitmap_truncate(bs, NODE_BYTES);
    g_assert(WAITS(bs, bdrv_dirty_bitmap_create_successor(b, &error_abort)));
    g_assert(WAITS(bs, bdrv_reclaim_dirty_bitmap(b, &error_abort)));
    bdrv_dirty_bitmap_create_successor(b, &error_abort);
    g_assert(WAITS(bs, b = bdrv_dirty_bitmap_abdicate(b, &error_abort)));
    g_assert(WAITS(bs, bdrv_release_dirty_bitmap(b)));
    g_assert(WAITS(bs, bdrv_release_named_dirty_bitmaps(bs)));
    bdrv_unref(bs);
}

static void add(const char *name, void (*do_it)(Scene *s))
{
    g_autofree char *path = g_strdup_printf("/dirty-bitmaps/%s", name);

    g_test_add_data_func(path, do_it, test_writers);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    add("clear", do_clear);
    add("restore", do_restore);
    add("create", do_create);
    add("merge", do_merge);
    add("reclaim", do_reclaim);
    add("abdicate", do_abdicate);
    add("disable", do_disable);
    add("truncate", do_truncate);
    add("copy", do_copy);
    g_test_add_func("/dirty-bitmaps/waits", test_waits);
    return g_test_run();
}
