/*
 * Pieces of memory of one size, for the requests of one queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "hw/block/block-slab.h"

/* Pieces of the first chunk. */
#define FIRST_CHUNK 8

void block_slab_init(BlockSlab *slab, unsigned max, size_t size)
{
    *slab = (BlockSlab) {
        .bytes = size,
        .size = ROUND_UP(size, 64) + BLOCK_SLAB_GAP,
        .max = max,
    };
}

void *block_slab_grow(BlockSlab *slab)
{
    unsigned n = MIN(MAX(slab->made, FIRST_CHUNK), slab->max - slab->made);
    char *chunk;

    if (slab->made >= slab->max) {
        return NULL;
    }
    /* The link has a cache line of its own, so that pieces are aligned. */
    chunk = qemu_memalign(BLOCK_QUEUE_ALIGN,
                          BLOCK_QUEUE_ALIGN + n * slab->size);
    *(void **)chunk = slab->chunks;
    slab->chunks = chunk;
    slab->made += n;
    slab->unused = chunk + BLOCK_QUEUE_ALIGN;
    slab->end = slab->unused + n * slab->size;
    block_slab_hide(slab->unused, n * slab->size);
    return block_slab_get(slab);
}

void block_slab_cleanup(BlockSlab *slab)
{
    while (slab->chunks) {
        void *chunk = slab->chunks;

        slab->chunks = *(void **)chunk;
        qemu_vfree(chunk);
    }
    block_slab_init(slab, slab->max, slab->bytes);
}
