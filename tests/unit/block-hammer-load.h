/*
 * The load of the block-layer hammer: forty threads and what they write
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_HAMMER_LOAD_H
#define BLOCK_HAMMER_LOAD_H

#include "block-hammer-disk.h"

#define THREADS         40
#define RUN_SECTORS     80          /* at most, and of a request, too */
#define WORDS           (SECTOR / sizeof(uint64_t))

/* Numbers of writes; even ones are of zeroes, odd ones of data. */
typedef struct Sector {
    uint32_t started;
    uint32_t done;

    /* How many writes of zeroes, and discards */
    uint32_t zeroes_started;
    uint32_t zeroes_done;
} Sector;

/* What a snapshot may hold: of each sector, a write from @done to @started. */
typedef struct Frozen {
    int sectors;
    Sector all[DISK_SECTORS_MAX];
} Frozen;

/* Sectors one after the other that one thread writes */
typedef struct Run {
    int first;
    int count;
} Run;

typedef struct Hammer Hammer;

typedef struct Writer {
    Hammer *hammer;
    GRand *rand;
    GArray *runs;
    uint64_t *buf;
} Writer;

struct Hammer {
    const DiskKind *kind;
    BlockBackend *blk;
    int number;                 /* of the disk that is in use */
    int sectors;
    bool snapshot;              /* inside the image there is one */
    Frozen frozen;              /* what it holds */
    GRand *rand;
    Sector all[DISK_SECTORS_MAX];
    Writer writers[THREADS];
    int running;
    int mirrors;                /* in this round */
};

/* All that is done follows from it. */
extern int hammer_seed;

/**
 * sector_fill: what write @number puts into that sector.
 */
void sector_fill(uint64_t *buf, int sector, uint32_t number);

/**
 * sector_check: what is there comes from a write from @oldest to @newest.
 */
void sector_check(const uint64_t *buf, int sector, uint32_t oldest,
                  uint32_t newest);

/**
 * sector_zero: count a write of zeroes that has been done.
 */
void sector_zero(Sector *sector);

/**
 * frozen_begin: a snapshot is about to be made; what is done now is in it.
 */
void frozen_begin(Frozen *frozen, const Hammer *hammer);

/**
 * frozen_end: it has been made; what has not been started yet is not in it.
 */
void frozen_end(Frozen *frozen, const Hammer *hammer);

/**
 * frozen_check: a snapshot that @root reads holds what it may hold.
 */
void frozen_check(const Frozen *frozen, BdrvChild *root);

/**
 * writers_new: give each sector to one of the writers.
 */
void writers_new(Hammer *hammer);
void writers_free(Hammer *hammer);

/**
 * writer_entry: all requests of one writer in one round; then it takes itself
 * off hammer->running.
 */
void coroutine_fn writer_entry(void *opaque);

#endif /* BLOCK_HAMMER_LOAD_H */
