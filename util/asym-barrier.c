/*
 * Memory barriers whose whole cost is on the side that rarely runs
 *
 * On Linux the heavy side calls membarrier(2) with its private expedited
 * command.  The kernel then interrupts the CPUs that run a thread of this
 * process.  Whether the call works is found out at run time, so one binary also
 * serves kernels and sandboxes without it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/asym-barrier.h"
#include "qemu/thread-slot.h"

#ifdef CONFIG_LINUX
#include <linux/membarrier.h>
#include <sys/syscall.h>
#endif

bool asym_mb_works;

/*
 * The barriers are numbered in the order in which they begin.  A thread that
 * reads @begun after a write of its own, with a full barrier between, knows
 * that a barrier with a higher number begins after that write is visible.  The
 * numbers are on a cache line of their own, because every request reads
 * asym_mb_works.
 */
static struct {
    AsymCount begun;

    /* The highest number of a barrier that has returned */
    AsymCount done;
} QEMU_ALIGNED(THREAD_SLOT_ALIGN) barriers;

#if defined(CONFIG_LINUX) && defined(SYS_membarrier)

static bool barrier_register(void)
{
    return !syscall(SYS_membarrier,
                    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0);
}

static bool barrier_in_all_threads(void)
{
    return !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
}

#else

static bool barrier_register(void)
{
    return false;
}

static bool barrier_in_all_threads(void)
{
    return false;
}

#endif

/* Choose how barriers work, before any thread does I/O. */
static void __attribute__((__constructor__)) asym_mb_init(void)
{
    asym_mb_works = barrier_register() && barrier_in_all_threads();

    /* Run barrier 1, so that asym_mb_done_since(0) is true. */
    asym_mb_heavy();
}

/*
 * Try until a barrier succeeds, because other threads rely on it already.  The
 * kernel may be out of memory for a while, and a forked process may have to
 * register again.
 */
static void __attribute__((noinline)) barrier_retry(void)
{
    do {
        if (errno == ENOMEM) {
            g_usleep(1000);
        } else if (!barrier_register()) {
            abort();
        }
    } while (!barrier_in_all_threads());
}

/*
 * Note that the barrier @number has returned.  Barriers of different threads
 * may return in another order than they began in.
 */
static void barrier_done(AsymCount number)
{
    AsymCount done = qatomic_read(&barriers.done);
    AsymCount seen;

    while ((int)(number - done) > 0) {
        /* A thread that sees @number here sees all that was written before. */
        seen = qatomic_cmpxchg(&barriers.done, done, number);
        if (seen == done) {
            break;
        }
        done = seen;
    }
}

void asym_mb_heavy(void)
{
    AsymCount number = qatomic_fetch_inc(&barriers.begun) + 1;

    /* If asym_mb_light() is a full barrier, this one is all that is needed. */
    smp_mb();
    if (asym_mb_works && !barrier_in_all_threads()) {
        barrier_retry();
    }
    barrier_done(number);
}

AsymCount asym_mb_begun(void)
{
    /* The caller's writes come before all barriers that begin from now on. */
    smp_mb();
    return qatomic_read(&barriers.begun);
}

bool asym_mb_done_since(AsymCount begun)
{
    return (int)(qatomic_load_acquire(&barriers.done) - begun) > 0;
}
