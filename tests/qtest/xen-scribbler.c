/*
 * A guest that writes all the time to the memory that it shares with QEMU
 *
 *     test: requests ---> shared page ---> QEMU copies, checks, uses
 *                             ^
 *     scribbler: any byte ----+   before, between and after these
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "xen-scribbler.h"

static void *scribble(void *opaque)
{
    XenScribbler *s = opaque;
    uint64_t x = 1;

    while (!qatomic_read(&s->stop)) {
        size_t offset;

        x = x * 6364136223846793005ULL + 1;
        offset = (x >> 32) % s->len;
        if (!s->spares || !s->spares(offset)) {
            qatomic_set(&s->start[offset], x >> 56);
        }
    }
    return NULL;
}

void xen_scribbler_start(XenScribbler *s, uint8_t *start, size_t len,
                         bool (*spares)(size_t offset))
{
    *s = (XenScribbler) { .start = start, .len = len, .spares = spares };
    s->thread = g_thread_new("scribble", scribble, s);
}

void xen_scribbler_stop(XenScribbler *s)
{
    qatomic_set(&s->stop, true);
    g_thread_join(s->thread);
}
