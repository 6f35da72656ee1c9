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

/* Protects slots_taken, and hands a slot's data from owner to owner. */
static QemuMutex slots_lock;
static DECLARE_BITMAP(slots_taken, THREAD_SLOTS);

/* Above all numbers that were ever given; written under slots_lock */
static unsigned slots_limit;

/*
 * The thread's number plus one, 0 while it has none.  thread_slot() is the
 * accessor that "qemu/coroutine-tls.h" asks for; one more would only cost.
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

    /* What the thread still does while it dies must not claim a new number */
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

    /* Not to be deduced from an earlier call, in another thread perhaps */
    asm volatile("");
    n = slot_plus_one;
    return likely(n) ? n - 1 : slot_claim();
}
