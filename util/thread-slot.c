/*
 * A small number for every thread, to index data kept per thread
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/coroutine-tls.h"
#include "qemu/lockable.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "qemu/thread-slot.h"

/* This lock protects slots_taken, and hands a slot's data to the next owner. */
static QemuMutex slots_lock;
static DECLARE_BITMAP(slots_taken, THREAD_SLOTS);

/* One more than the highest number ever given; written under slots_lock */
static unsigned slots_limit;

/*
 * The thread's number plus one, or 0 while it has none.  thread_slot() is the
 * accessor that "qemu/coroutine-tls.h" requires.  A second one would only make
 * a request slower.
 */
static __thread unsigned slot_plus_one;
QEMU_DEFINE_STATIC_CO_TLS(Notifier, slot_release_notifier)

static void __attribute__((__constructor__)) thread_slot_init(void)
{
    qemu_mutex_init(&slots_lock);
}

static void slot_release(Notifier *notifier, void *unused)
{
    unsigned slot = slot_plus_one - 1;

    /* Code that runs later while the thread ends must not claim a number. */
    slot_plus_one = THREAD_SLOT_SHARED + 1;

    QEMU_LOCK_GUARD(&slots_lock);
    clear_bit(slot, slots_taken);
}

static unsigned __attribute__((noinline)) slot_claim(void)
{
    Notifier *notifier = get_ptr_slot_release_notifier();
    unsigned slot;

    WITH_QEMU_LOCK_GUARD(&slots_lock) {
        slot = find_first_zero_bit(slots_taken, THREAD_SLOTS);
        if (slot < THREAD_SLOTS) {
            set_bit(slot, slots_taken);
            qatomic_set(&slots_limit, MAX(slots_limit, slot + 1));
        }
    }
    QEMU_BUILD_BUG_ON(THREAD_SLOT_SHARED != THREAD_SLOTS);

    slot_plus_one = slot + 1;
    if (slot < THREAD_SLOTS) {
        notifier->notify = slot_release;
        qemu_thread_atexit_add(notifier);
    }
    return slot;
}

unsigned thread_slot_limit(void)
{
    return qatomic_read(&slots_limit);
}

unsigned __attribute__((noinline)) thread_slot(void)
{
    unsigned n;

    /* A coroutine may have moved, so an earlier result must not be reused. */
    asm volatile("");
    n = slot_plus_one;
    return likely(n) ? n - 1 : slot_claim();
}
