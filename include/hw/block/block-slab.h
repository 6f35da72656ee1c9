/*
 * A queue's memory for objects of one size, such as requests
 *
 *    max  ---------------------------------------------------------
 *    made -------+-------+---------------+
 *         chunk  | chunk |     chunk     |   each as large as all before it
 *         -------+-------+---------------+
 *                           ^ unused     ^ end
 *
 * A queue has a slab for its requests, and others for lists of segments.  Only
 * the queue's owner uses them.  A slab is cut into pieces of one size.  The
 * first word of a free piece points to the next free piece.
 *
 * The slab grows when no piece is free.  Each new chunk is as large as all
 * chunks before it.  So a busy ring soon allocates nothing more, and a ring
 * with little load takes little memory.
 *
 * AddressSanitizer would see a chunk as one block of memory.  In a build with
 * it, the slab reports which pieces are in use, and leaves a gap behind each
 * piece.  So the sanitizer finds an access to a free piece and an access
 * beyond the end of a piece.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_SLAB_H
#define HW_BLOCK_BLOCK_SLAB_H

/*
 * Two cache lines of 64 bytes: the adjacent-line prefetcher fetches lines in
 * pairs, so two writers in one pair would disturb each other.
 */
#define BLOCK_QUEUE_ALIGN 128

#ifdef QEMU_SANITIZE_ADDRESS
#include <sanitizer/asan_interface.h>

#define BLOCK_SLAB_GAP 64
#define block_slab_hide(from, bytes) ASAN_POISON_MEMORY_REGION(from, bytes)
#define block_slab_show(from, bytes) ASAN_UNPOISON_MEMORY_REGION(from, bytes)
#else
#define BLOCK_SLAB_GAP 0
#define block_slab_hide(from, bytes)
#define block_slab_show(from, bytes)
#endif

typedef struct BlockSlab {
    void *free;                 /* the first free piece that was used before */
    char *unused;               /* the first piece that was never used */
    char *end;                  /* the end of the newest chunk */
    size_t bytes;               /* of a piece */
    size_t size;                /* of a piece and its gap */
    unsigned made;              /* pieces in all chunks */
    unsigned max;               /* @made never gets larger than this */
    void *chunks;               /* a list linked by the chunks' first words */
} BlockSlab;

/**
 * block_slab_init: set up a slab of at most @max pieces of @size bytes.
 *
 * @size is rounded up to whole cache lines.  No memory is allocated yet.
 */
void block_slab_init(BlockSlab *slab, unsigned max, size_t size);

/**
 * block_slab_cleanup: free the memory.
 *
 * No piece may be in use.  The slab can be used again without a new init.
 */
void block_slab_cleanup(BlockSlab *slab);

/** block_slab_grow: allocate a chunk; only block_slab_get() calls this. */
void *block_slab_grow(BlockSlab *slab);

/**
 * block_slab_get: take a piece.
 *
 * Returns: a piece with undefined content, or NULL if @max pieces are in use.
 */
static inline void *block_slab_get(BlockSlab *slab)
{
    void **piece = slab->free;

    if (likely(piece)) {
        block_slab_show(piece, slab->bytes);
        slab->free = *piece;
    } else if (likely(slab->unused < slab->end)) {
        piece = (void **)slab->unused;
        block_slab_show(piece, slab->bytes);
        slab->unused += slab->size;
    } else {
        piece = block_slab_grow(slab);
    }
    return piece;
}

/** block_slab_has: return whether block_slab_get() would find a piece. */
static inline bool block_slab_has(const BlockSlab *slab)
{
    return slab->free || slab->unused < slab->end || slab->made < slab->max;
}

/** block_slab_put: give a piece back. */
static inline void block_slab_put(BlockSlab *slab, void *piece)
{
    *(void **)piece = slab->free;
    slab->free = piece;
    block_slab_hide(piece, slab->bytes);
}

#endif /* HW_BLOCK_BLOCK_SLAB_H */
