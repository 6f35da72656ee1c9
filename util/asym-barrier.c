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

#ifdef CONFIG_LINUX
#include <linux/membarrier.h>
#include <sys/syscall.h>
#endif

bool asym_mb_works;

#if defined(CONFIG_LINUX) && defined(__NR_membarrier)

static bool barrier_register(void)
{
    return !syscall(__NR_membarrier,
                    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0);
}

static bool barrier_in_all_threads(void)
{
    return !syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
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
}

/*
 * There is no way on without: other threads already rely on us.  Out of memory
 * it works a little later; a forked process may have to register again.
 */
static void __attribute__((noinline)) barrier_insist(void)
{
    do {
        if (errno == ENOMEM) {
            g_usleep(1000);
        } else if (!barrier_register()) {
            abort();
        }
    } while (!barrier_in_all_threads());
}

void asym_mb_heavy(void)
{
    /* All there is if asym_mb_light() has one too */
    smp_mb();
    if (asym_mb_works && !barrier_in_all_threads()) {
        barrier_insist();
    }
}
