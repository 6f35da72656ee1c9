/*
 * What another thread of a unit test is doing, as the kernel sees it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_UNIT_THREAD_SYSCALL_H
#define TESTS_UNIT_THREAD_SYSCALL_H

/**
 * thread_syscall_wait: wait until thread @tid sleeps in one of two system
 * calls, given by their numbers.
 */
static inline void thread_syscall_wait(int tid, long number, long other)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/syscall", tid);
    gint64 start = g_get_monotonic_time();
    long now;

    do {
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        now = g_ascii_isdigit(*text) ? atol(text) : -1;
        g_assert_cmpint(g_get_monotonic_time() - start, <,
                        60 * G_USEC_PER_SEC);
    } while (now != number && now != other);
}

#endif /* TESTS_UNIT_THREAD_SYSCALL_H */
