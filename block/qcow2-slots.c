/*
 * What a cache of qcow2 tables shows to readers that do not take its lock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qcow2-slots.h"
#include "qemu/atomic.h"
#include "qemu/host-utils.h"

Qcow2Slots *qcow2_slots_new(unsigned nb, unsigned table_size, void *tables)
{
    unsigned hints = pow2ceil(2 * (uint64_t)nb);
    Qcow2Slots *slots;

    slots = g_try_malloc0(sizeof(*slots) + nb * sizeof(slots->slot[0]));
    if (!slots) {
        return NULL;
    }
    slots->hints = g_try_new0(unsigned, hints);
    if (!slots->hints) {
        g_free(slots);
        return NULL;
    }
    seqlock_init(&slots->changes);
    slots->nb = nb;
    slots->table_bits = ctz32(table_size);
    slots->tables = tables;
    slots->hint_mask = hints - 1;
    return slots;
}

void qcow2_slots_free(Qcow2Slots *slots)
{
    if (slots) {
        g_free(slots->hints);
        g_free(slots);
    }
}

static unsigned *slots_hint(Qcow2Slots *slots, uint64_t offset)
{
    return &slots->hints[(offset >> slots->table_bits) & slots->hint_mask];
}

void qcow2_slots_show(Qcow2Slots *slots, unsigned i, uint64_t offset)
{
    Qcow2Slot *slot = &slots->slot[i];

    if (slot->table == offset) {
        return;
    }
    assert(slot->table == 0);
    qatomic_set(slots_hint(slots, offset), i);
    /* Pairs with the acquire in slot_has() */
    qatomic_store_release(&slot->table, offset);
}

void qcow2_slots_hide(Qcow2Slots *slots, unsigned i)
{
    seqlock_write_begin(&slots->changes);
    qatomic_set(&slots->slot[i].table, 0);
    seqlock_write_end(&slots->changes);
}

bool qcow2_slots_take_mark(Qcow2Slots *slots, unsigned i)
{
    bool used = qatomic_read(&slots->slot[i].used);

    if (used) {
        qatomic_set(&slots->slot[i].used, false);
    }
    return used;
}

static bool slot_has(const Qcow2Slot *slot, uint64_t offset)
{
    return qatomic_load_acquire(&slot->table) == offset;
}

static unsigned slots_search(const Qcow2Slots *slots, uint64_t offset)
{
    unsigned i;

    for (i = 0; i < slots->nb && !slot_has(&slots->slot[i], offset); i++) {
        ;
    }
    return i;
}

const uint64_t *qcow2_slots_find(Qcow2Slots *slots, uint64_t offset)
{
    unsigned i = qatomic_read(slots_hint(slots, offset));
    Qcow2Slot *slot;

    if (!slot_has(&slots->slot[i], offset)) {
        i = slots_search(slots, offset);
        if (i == slots->nb) {
            return NULL;
        }
    }
    slot = &slots->slot[i];
    if (!qatomic_read(&slot->used)) {
        qatomic_set(&slot->used, true);
    }
    return (const uint64_t *)(slots->tables + ((size_t)i << slots->table_bits));
}
