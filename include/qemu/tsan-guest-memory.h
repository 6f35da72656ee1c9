/*
 * Guest memory, as ThreadSanitizer has to see it
 *
 * A driver and a device share memory by a protocol of indexes and barriers.
 * ThreadSanitizer knows nothing of barriers, and in a qtest the "driver" is
 * the main loop, which reads and writes the same memory for it: every word of
 * every ring would be a data race.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_TSAN_GUEST_MEMORY_H
#define QEMU_TSAN_GUEST_MEMORY_H

#ifdef CONFIG_TSAN
/** AnnotateBenignRaceSized: a function of ThreadSanitizer's runtime */
void AnnotateBenignRaceSized(const char *file, int line, const void *memory,
                             size_t size, const char *why);
#endif

/**
 * tsan_guest_memory: no data races are to be reported in @len bytes at @host.
 *
 * Once for a range is enough.  Any thread.
 */
static inline void tsan_guest_memory(const void *host, size_t len)
{
#ifdef CONFIG_TSAN
    AnnotateBenignRaceSized(__FILE__, __LINE__, host, len, "guest memory");
#endif
}

#endif /* QEMU_TSAN_GUEST_MEMORY_H */
