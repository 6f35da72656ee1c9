/*
 * Reading data that may be replaced and freed, at the cost of two plain stores
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/brief-read.h"

BriefReader brief_readers[THREAD_SLOTS];

void brief_read_wait(void)
{
    asym_mb_heavy();

    for (unsigned slot = 0; slot < thread_slot_limit(); slot++) {
        unsigned turns = qatomic_load_acquire(&brief_readers[slot].turns);
        unsigned looks = 0;

        while (turns % 2 &&
               qatomic_load_acquire(&brief_readers[slot].turns) == turns) {
            /* The reader may need this processor, at a lower priority. */
            if (++looks < 100) {
                g_thread_yield();
            } else {
                g_usleep(50);
            }
        }
    }
}
