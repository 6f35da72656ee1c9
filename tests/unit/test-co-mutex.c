/*
 * A CoMutex that is unlocked while a waiter is on its way
 *
 *    unlock                              lock, in another thread
 *    counts 2 in "locked"                counts itself in "locked"
 *    finds the list of waiters empty     ... has not run on yet ...
 *    leaves the hand-over, and returns
 *                                        puts itself in the list
 *                                        finds the hand-over, has the lock
 *
 * The first line of the other thread is done here by hand, so that it stays
 * where it is for as long as the test wants.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"

typedef struct Meeting {
    CoMutex mutex;
    bool unlocked;
    bool has_lock;
} Meeting;

static void coroutine_fn unlock_entry(void *opaque)
{
    Meeting *meeting = opaque;

    qemu_co_mutex_lock(&meeting->mutex);
    qatomic_inc(&meeting->mutex.locked);
    qemu_co_mutex_unlock(&meeting->mutex);
    qatomic_set(&meeting->unlocked, true);
}

/* A coroutine that unlocks the mutex does not leave a second hand-over. */
static void *watch_run(void *opaque)
{
    Meeting *meeting = opaque;

    while (!qatomic_read(&meeting->unlocked)) {
        g_assert_cmpuint(qatomic_read(&meeting->mutex.handoff), <=, 1);
    }
    return NULL;
}

static void coroutine_fn late_entry(void *opaque)
{
    Meeting *meeting = opaque;

    qemu_co_mutex_lock(&meeting->mutex);
    /* Take back the lock that the test itself has counted. */
    qatomic_dec(&meeting->mutex.locked);
    meeting->has_lock = true;
    qemu_co_mutex_unlock(&meeting->mutex);
}

static void test_late_waiter(void)
{
    Meeting meeting = {};
    QemuThread watch;

    qemu_co_mutex_init(&meeting.mutex);
    qemu_thread_create(&watch, "watch", watch_run, &meeting,
                       QEMU_THREAD_JOINABLE);
    qemu_coroutine_enter(qemu_coroutine_create(unlock_entry, &meeting));
    qemu_thread_join(&watch);
    g_assert_true(meeting.unlocked);
    g_assert_cmpuint(meeting.mutex.handoff, ==, 1);

    qemu_coroutine_enter(qemu_coroutine_create(late_entry, &meeting));
    g_assert_true(meeting.has_lock);
    g_assert_cmpuint(meeting.mutex.handoff, ==, 0);
    g_assert_cmpuint(meeting.mutex.locked, ==, 0);
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/co-mutex/late-waiter", test_late_waiter);
    return g_test_run();
}
