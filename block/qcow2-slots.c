/*
 * What a cache of qcow2 tables shows to readers that do not take its lock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qcow2-slots.h"
#include "qemu/atomic.h"
#include "qemu/host-utils.h"

/* The hint of a table is in one of so many neighbouring places. */
#define PLACES 8

Qcow2Slots *qcow2_slots_new(unsigned nb, unsigned table_size, void *tables)
{
    unsigned hints = pow2ceil(4 * (uint64_t)nb);
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
    for (unsigned i = 0; i < nb; i++) {
        seqlock_init(&slots->slot[i].pairs);
    }
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

/*
 * Return the first place that the hint of the table at @offset may take.  It is
 * a hash, because the parts of an L2 table are neighbours in the image.  If
 * they were neighbours here too, two L2 tables could compete for all places.
 */
static unsigned first_place(const Qcow2Slots *slots, uint64_t offset)
{
    return (qcow2_spread(offset >> slots->table_bits) >> 32) &
           slots->hint_mask;
}

static unsigned *hint_at(Qcow2Slots *slots, unsigned place)
{
    return &slots->hints[place & slots->hint_mask];
}

static bool slot_has(const Qcow2Slot *slot, uint64_t offset)
{
    /* This pairs with the release in qcow2_slots_show(). */
    return qatomic_load_acquire(&slot->table) == offset;
}

/* Return the slot of the table at @offset, or NULL if no hint leads to it. */
static Qcow2Slot *slot_find(Qcow2Slots *slots, uint64_t offset)
{
    unsigned first = first_place(slots, offset);

    for (unsigned place = first; place != first + PLACES; place++) {
        Qcow2Slot *slot = &slots->slot[qatomic_read(hint_at(slots, place))];

        if (likely(slot_has(slot, offset))) {
            return slot;
        }
    }
    return NULL;
}

/* Return whether the hint in @place leads to a table that it belongs to. */
static bool hint_is_good(Qcow2Slots *slots, unsigned place)
{
    uint64_t table = slots->slot[*hint_at(slots, place)].table;

    return table &&
           ((place - first_place(slots, table)) & slots->hint_mask) < PLACES;
}

/*
 * Let a hint lead to slot @i.  If all places are taken, it replaces a hint, and
 * the table of that hint is not found any more.
 */
static void hint_give(Qcow2Slots *slots, unsigned i, uint64_t offset)
{
    unsigned first = first_place(slots, offset);
    unsigned place = first;

    while (place != first + PLACES && hint_is_good(slots, place)) {
        place++;
    }
    qatomic_set(hint_at(slots, place == first + PLACES ? first : place), i);
}

void qcow2_slots_show(Qcow2Slots *slots, unsigned i, uint64_t offset)
{
    Qcow2Slot *slot = &slots->slot[i];

    if (slot->table == offset) {
        if (!slot_find(slots, offset)) {
            hint_give(slots, i, offset);
        }
        return;
    }
    assert(slot->table == 0);
    hint_give(slots, i, offset);
    qatomic_store_release(&slot->table, offset);
}

void qcow2_slots_hide(Qcow2Slots *slots, unsigned i)
{
    seqlock_write_begin(&slots->changes);
    qatomic_set(&slots->slot[i].table, 0);
    seqlock_write_end(&slots->changes);
}

bool qcow2_slots_shows(Qcow2Slots *slots, uint64_t offset)
{
    return slot_find(slots, offset);
}

const uint64_t *qcow2_slots_find(Qcow2Slots *slots, uint64_t offset)
{
    Qcow2Slot *slot = slot_find(slots, offset);

    if (!slot) {
        return NULL;
    }
    switch (qatomic_read(&slot->use)) {
    case QCOW2_SLOT_IDLE:
        qatomic_set(&slot->use, QCOW2_SLOT_USED);
        break;
    case QCOW2_SLOT_LOADED:
        qatomic_set(&slot->use, QCOW2_SLOT_IDLE);
        break;
    case QCOW2_SLOT_USED:
        break;
    }
    return (const uint64_t *)(slots->tables + ((size_t)(slot - slots->slot)
                                               << slots->table_bits));
}
