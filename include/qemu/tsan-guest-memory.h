/*
 * Exclude guest memory from the checks of ThreadSanitizer
 *
 * A driver and a device share memory by a protocol of indexes and barriers.
 * ThreadSanitizer does not know barriers.  In a qtest the main loop reads and
 * writes guest memory in place of the driver, so ThreadSanitizer would report
 * a data race for every word of every ring.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_TSAN_GUEST_MEMORY_H
#define QEMU_TSAN_GUEST_MEMORY_H

#ifdef CONFIG_TSAN
/** AnnotateBenignRaceSized: a function of ThreadSanitizer's runtime. */
void AnnotateBenignRaceSized(const char *file, int line, const void *memory,
                             size_t size, const char *why);
#endif

/**
 * tsan_guest_memory: report no data races in @len bytes at @host.
 *
 * One call for a range is enough.
 *
 * Context: any thread.
 */
static inline void tsan_guest_memory(const void *host, size_t len)
{
#ifdef CONFIG_TSAN
    AnnotateBenignRaceSized(__FILE__, __LINE__, host, len, "guest memory");
#endif
}

#endif /* QEMU_TSAN_GUEST_MEMORY_H */
