/*
 * Memory barriers whose whole cost is on the side that is rarely taken
 *
 * Linux: membarrier(2) with its expedited private command, which interrupts
 * the CPUs that run a thread of ours instead of waiting for them to schedule.
 * Decided at run time, so one binary serves kernels and sandboxes without it.
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
 * that a barrier with a higher number begins after that write is visible.
 * Apart from asym_mb_works, which every request reads.
 */
static struct {
    AsymCount begun;

    /* The highest number of those that have returned */
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

/* Before any thread does I/O */
static void __attribute__((__constructor__)) asym_mb_init(void)
{
    asym_mb_works = barrier_register() && barrier_in_all_threads();

    /* The first, so that one has returned since zero */
    asym_mb_heavy();
}

/*
 * The barrier must succeed, because other threads rely on it already.  If the
 * kernel is out of memory, try again later.  A forked process may have to
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

/* Two of different threads may return in another order than they began in. */
static void barrier_done(AsymCount number)
{
    AsymCount done = qatomic_read(&barriers.done);
    AsymCount seen;

    while ((int)(number - done) > 0) {
        /* What it made visible is visible to whoever finds it done */
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

    /* All there is if asym_mb_light() has one too */
    smp_mb();
    if (asym_mb_works && !barrier_in_all_threads()) {
        barrier_retry();
    }
    barrier_done(number);
}

AsymCount asym_mb_begun(void)
{
    /* The caller's writes come before the barriers that are not counted yet */
    smp_mb();
    return qatomic_read(&barriers.begun);
}

bool asym_mb_done_since(AsymCount begun)
{
    return (int)(qatomic_load_acquire(&barriers.done) - begun) > 0;
}
