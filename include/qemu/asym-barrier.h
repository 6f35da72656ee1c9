/*
 * Pairs of memory barriers of which one side is almost free
 *
 *      often                           rarely
 *      -----                           ------
 *      write A                         write B
 *      asym_mb_light()                 asym_mb_heavy()
 *      read B                          read A
 *
 * At least one side sees what the other one wrote, as if both had executed
 * smp_mb().  If the system can make all threads of the process execute a full
 * barrier, asym_mb_heavy() does that, and asym_mb_light() is only a compiler
 * barrier.  On other systems both are smp_mb().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_ASYM_BARRIER_H
#define QEMU_ASYM_BARRIER_H

#include "qemu/atomic.h"

/* Whether asym_mb_light() may be empty.  Set before main(), constant later. */
extern bool asym_mb_works;

/* How many asym_mb_heavy() have begun since the start of QEMU; it wraps. */
typedef unsigned AsymCount;

/**
 * asym_mb_heavy: make every thread of the process execute a full barrier.
 *
 * This costs a system call, and an interrupt on each CPU that runs one of our
 * threads.  It takes microseconds.
 *
 * Context: any thread; locks may be held.
 */
void asym_mb_heavy(void);

/**
 * asym_mb_begun: return how many asym_mb_heavy() have begun.
 *
 * Each later asym_mb_heavy() begins after everything that the caller has
 * written so far.  This is a full barrier for the caller.
 *
 * Context: any thread.
 */
AsymCount asym_mb_begun(void);

/**
 * asym_mb_done_since: return whether an asym_mb_heavy() has begun after @begun
 * was read and has returned, in any thread.
 * @begun: from asym_mb_begun()
 *
 * If so, the caller needs no asym_mb_heavy() of its own: it is as if it had
 * executed one since it read @begun.
 *
 * Context: any thread.
 */
bool asym_mb_done_since(AsymCount begun);

/**
 * asym_mb_light: the cheap side of the pair; see above.
 *
 * Context: any thread.
 */
static inline void asym_mb_light(void)
{
    if (unlikely(!asym_mb_works)) {
        /* This pairs with smp_mb() in asym_mb_heavy(). */
        smp_mb();
    }
    barrier();
}

#endif /* QEMU_ASYM_BARRIER_H */
