/*
 * Memory barriers whose whole cost is on the side that is rarely taken
 *
 *      often                           rarely
 *      -----                           ------
 *      write A                         write B
 *      asym_mb_light()                 asym_mb_heavy()
 *      read B                          read A
 *
 * At least one side sees what the other wrote, as if both had executed
 * smp_mb().  Where the system can make all threads of the process execute a
 * full barrier, asym_mb_heavy() does that and the light one only holds
 * the compiler back; elsewhere both are smp_mb().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_ASYM_BARRIER_H
#define QEMU_ASYM_BARRIER_H

#include "qemu/atomic.h"

/* Whether asym_mb_light() may be empty; set before main(), then constant */
extern bool asym_mb_works;

/* How many asym_mb_heavy() have begun.  Wraps.  Zero is before main(). */
typedef unsigned AsymCount;

/**
 * asym_mb_heavy: a full barrier in every thread of the process.
 *
 * Any thread, locks may be held.  Costs a system call and an interrupt on each
 * CPU that runs one of our threads, so microseconds.
 */
void asym_mb_heavy(void);

/**
 * asym_mb_begun: how many asym_mb_heavy() have begun.  One that is not counted
 * yet begins after all that the caller has written so far.
 *
 * Any thread.  A full barrier for the caller.
 */
AsymCount asym_mb_begun(void);

/**
 * asym_mb_done_since: whether an asym_mb_heavy() that @begun does not count has
 * returned, in whatever thread.
 * @begun: from asym_mb_begun()
 *
 * If so it is as if the caller had executed one of its own since then, and
 * what it reads from now on needs no other.  Any thread.
 */
bool asym_mb_done_since(AsymCount begun);

/**
 * asym_mb_light: where an asym_mb_heavy() of another thread may strike.
 */
static inline void asym_mb_light(void)
{
    if (unlikely(!asym_mb_works)) {
        /* Pairs with the one in asym_mb_heavy() */
        smp_mb();
    }
    barrier();
}

#endif /* QEMU_ASYM_BARRIER_H */
