/*
 * Pieces of memory from a slab: their number, place and contents
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/block/block-slab.h"

#define MAX_PIECES 100
#define BYTES 200               /* not whole cache lines */
#define LINES 256               /* whole ones */

static BlockSlab slab;
static uint8_t *pieces[MAX_PIECES];

static void get_all(void)
{
    for (int i = 0; i < MAX_PIECES; i++) {
        g_assert_true(block_slab_has(&slab));
        pieces[i] = block_slab_get(&slab);
        g_assert_nonnull(pieces[i]);
        g_assert_true(QEMU_PTR_IS_ALIGNED(pieces[i], 64));
        memset(pieces[i], i, BYTES);
    }
    g_assert_false(block_slab_has(&slab));
    g_assert_null(block_slab_get(&slab));
}

static void put_all(void)
{
    for (int i = 0; i < MAX_PIECES; i++) {
        block_slab_put(&slab, pieces[i]);
    }
}

/* A slab gives as many pieces as it may have, and no two of them overlap. */
static void test_all(void)
{
    block_slab_init(&slab, MAX_PIECES, BYTES);
    get_all();
    for (int i = 0; i < MAX_PIECES; i++) {
        for (int byte = 0; byte < BYTES; byte++) {
            g_assert_cmpint(pieces[i][byte], ==, i);
        }
    }
    put_all();
    block_slab_cleanup(&slab);
}

static void test_again(void)
{
    void *last;

    block_slab_init(&slab, MAX_PIECES, BYTES);
    get_all();
    last = pieces[MAX_PIECES - 1];
    put_all();
    g_assert_true(block_slab_get(&slab) == last);
    block_slab_put(&slab, last);
    get_all();
    put_all();
    block_slab_cleanup(&slab);

    /* A slab that was cleaned up is as new. */
    g_assert_cmpuint(slab.made, ==, 0);
    get_all();
    put_all();
    block_slab_cleanup(&slab);
}

#ifdef QEMU_SANITIZE_ADDRESS
static bool may_touch(uint8_t *piece, unsigned byte)
{
    return !__asan_address_is_poisoned(piece + byte);
}

/* AddressSanitizer knows the bytes of the pieces that are in use, no more. */
static void test_hidden(void)
{
    uint8_t *first, *second;

    block_slab_init(&slab, MAX_PIECES, LINES);
    first = block_slab_get(&slab);
    second = first + slab.size;
    g_assert_true(may_touch(first, 0) && may_touch(first, LINES - 1));
    g_assert_false(may_touch(first, LINES));
    g_assert_false(may_touch(first, slab.size - 1));
    g_assert_false(may_touch(second, 0));

    g_assert_true(block_slab_get(&slab) == second);
    g_assert_true(may_touch(second, 0) && may_touch(second, LINES - 1));

    block_slab_put(&slab, first);
    g_assert_false(may_touch(first, 0) || may_touch(first, LINES - 1));
    g_assert_true(block_slab_get(&slab) == first);
    g_assert_true(may_touch(first, 0) && may_touch(first, LINES - 1));

    block_slab_put(&slab, first);
    block_slab_put(&slab, second);
    block_slab_cleanup(&slab);
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block-slab/all", test_all);
    g_test_add_func("/block-slab/again", test_again);
#ifdef QEMU_SANITIZE_ADDRESS
    g_test_add_func("/block-slab/hidden", test_hidden);
#endif
    return g_test_run();
}
