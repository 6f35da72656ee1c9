/*
 * Pieces of memory of one size, for the requests of one queue
 *
 *    max  ---------------------------------------------------------
 *    made -------+-------+---------------+
 *         chunk  | chunk |     chunk     |   each as large as all before it
 *         -------+-------+---------------+
 *                           ^ unused     ^ end
 *
 * A queue has a slab for its requests, and others for lists of segments.  Only
 * the queue's owner uses them.  The first word of a free piece links to the
 * next one.
 *
 * Memory is allocated as the load needs it, as much at a time as there is
 * already.  So a ring that is at work soon allocates nothing any more, and one
 * that never sees much load takes little.
 *
 * To AddressSanitizer a chunk is one block.  It is told which pieces are in
 * use, and behind each is a gap then, so that it sees an access to a piece that
 * was given back and one beyond the end of a piece.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_SLAB_H
#define HW_BLOCK_BLOCK_SLAB_H

/*
 * Two lines: adjacent-line prefetch makes neighbours in a pair of 64 byte
 * lines disturb each other.
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
    void *free;
    char *unused;               /* from here to end nothing was ever used */
    char *end;
    size_t bytes;               /* that may be used of a piece */
    size_t size;                /* of a piece and its gap */
    unsigned made;
    unsigned max;
    void *chunks;               /* their first words link them */
} BlockSlab;

/**
 * block_slab_init: a slab of at most @max pieces of @size bytes.
 *
 * @size is rounded up to whole cache lines.  Allocates nothing yet.
 */
void block_slab_init(BlockSlab *slab, unsigned max, size_t size);

/**
 * block_slab_cleanup: give the memory back; no piece is in use.
 *
 * The slab may be used again.
 */
void block_slab_cleanup(BlockSlab *slab);

/** block_slab_grow: the rest of block_slab_get(). */
void *block_slab_grow(BlockSlab *slab);

/** block_slab_get: a piece with undefined content, NULL if none is left. */
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

/** block_slab_has: will block_slab_get() find one? */
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
