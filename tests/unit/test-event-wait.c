/*
 * A thread waits for an event, whatever else wakes it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/futex.h"
#include "qemu/thread.h"

typedef struct Wait {
    QemuEvent event;
    bool happened;
} Wait;

static void *waiter(void *opaque)
{
    Wait *w = opaque;

    qemu_event_wait(&w->event);
    g_assert_true(qatomic_read(&w->happened));
    return NULL;
}

/*
 * Wake the thread that sleeps at the event's address, as a thread does whose
 * futex was at this address before.  Return when a sleeper has been woken.
 */
static void wake(Wait *w)
{
    while (qemu_futex(&w->event, FUTEX_WAKE, 1, NULL, NULL, 0) == 0) {
        sched_yield();
    }
}

/* Only a thread that has gone to sleep again can be woken a second time. */
static void test_woken(void)
{
    Wait w = { };
    QemuThread thread;

    qemu_event_init(&w.event, false);
    qemu_thread_create(&thread, "waiter", waiter, &w, QEMU_THREAD_JOINABLE);
    wake(&w);
    wake(&w);
    qatomic_set(&w.happened, true);
    qemu_event_set(&w.event);
    qemu_thread_join(&thread);
    qemu_event_destroy(&w.event);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/event-wait/woken", test_woken);
    return g_test_run();
}
