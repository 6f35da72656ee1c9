/*
 * A load that knows what must be on the disk
 *
 * Whatever is written follows from (epoch, writer, number of the operation), so
 * that another process, on another machine, can tell what a disk must hold
 * when it knows how many operations each writer has done.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SOAK_LOAD_H
#define SOAK_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WRITERS 16

/* load-common.c */

/**
 * fail: Note what is wrong; the first call counts.
 *
 * Any thread may call this.  From then on every answer of the program is what
 * was noted.
 */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** failure: What fail() has noted, or NULL. */
const char *failure(void);

/**
 * report: Tell the host at once that something has reached the disk.
 *
 * The text leaves by QEMU's debug port, and is in the host's file when this
 * returns.  Any thread may call this.
 */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * report_open: Choose where reports go.
 * @port: number of the debug port, 0 for standard error
 */
void report_open(unsigned long port);

/** mix: A number that depends on every bit of three. */
uint64_t mix(uint64_t a, uint64_t b, uint64_t c);

/**
 * pattern_fill: The bytes that belong to a key.
 * @size: a multiple of 8
 */
void pattern_fill(void *buffer, size_t size, uint64_t key);

/** pattern_is: Whether @buffer holds what pattern_fill() makes. */
bool pattern_is(const void *buffer, size_t size, uint64_t key);

/** Crew: Writers that can be held between two operations. */
typedef struct Crew {
    void (*operate)(int writer);    /* one operation */
    uint64_t done[WRITERS];         /* operations, by writer */
} Crew;

/** crew_start: Make a thread for each writer, on CPU writer % CPUs; held. */
void crew_start(Crew *crew);
/** crew_hold: Wait until every writer has ended its operation. */
void crew_hold(void);
/** crew_go: Let them go on. */
void crew_go(void);
/** on_cpu: Keep the calling thread on a CPU, if there is such a CPU. */
void on_cpu(int cpu);

/* load-blocks.c: a bare device, each block of which has one writer */

/**
 * blocks_start: Write all blocks, then start the writers, held.
 * @block: size of a block, 512 or 4096
 */
void blocks_start(const char *path, uint64_t epoch, unsigned block);
/**
 * blocks_check: Read all blocks and compare; returns the bytes compared.
 *
 * The writers are held.
 */
uint64_t blocks_check(void);
/**
 * blocks_verify: Compare a device with what writers have done to it.
 * @done: operations that are on it for sure, by writer
 * @slack: how many operations after these may be on it as well
 */
uint64_t blocks_verify(const char *path, uint64_t epoch, unsigned block,
                       const uint64_t *done, unsigned slack);

/* load-files.c: files that are replaced one after the other */

void files_start(const char *folder, uint64_t epoch);
uint64_t files_check(void);
/**
 * files_verify: As blocks_verify(), for the files of a folder.
 */
uint64_t files_verify(const char *folder, uint64_t epoch,
                      const uint64_t *done, unsigned slack);

extern Crew crew_blocks, crew_files;

#endif /* SOAK_LOAD_H */
