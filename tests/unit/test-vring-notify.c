/*
 * Ring readers: notifications that driver and device want or do not want
 *
 *                    driver writes                  device writes
 *     by flags       no interrupts                  no kicks
 *     by event index "when this one is used"        "when there is one more"
 *
 * Each test runs for split and for packed rings, which say the same things
 * with other fields (VIRTIO 1.2, 2.7.7, 2.7.10 and 2.8.10).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "vring-driver.h"

static void set_interrupts(Driver *d, bool enable)
{
    if (d->packed) {
        struct vring_packed_desc_event *e = guest_ptr(AVAIL);

        e->flags = cpu_to_le16(enable ? VRING_PACKED_EVENT_FLAG_ENABLE
                                      : VRING_PACKED_EVENT_FLAG_DISABLE);
    } else {
        struct vring_avail *avail = guest_ptr(AVAIL);

        avail->flags = cpu_to_le16(enable ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
    }
}

static void test_interrupt_flags(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);

    for (unsigned i = 0; i < 20; i++) {
        set_interrupts(d, i & 1);
        g_assert(driver_one_request(d) == (i & 1));
    }
    driver_free(d);
}

static void test_notify_on_empty(void)
{
    Driver *d = driver_new(false, 8, false);
    VRingChain first, second;

    d->r.notify_on_empty = true;
    set_interrupts(d, false);
    driver_add(d, request, 1, 0);
    driver_add(d, request, 1, 0);
    first = driver_take(d);
    g_assert(!driver_answer(d, &first, 0));
    second = driver_take(d);
    g_assert(driver_answer(d, &second, 0));
    driver_free(d);
}

/* Ask for an interrupt when the entry at @place is used. */
static void set_event(Driver *d, unsigned place, bool wrap)
{
    if (d->packed) {
        struct vring_packed_desc_event *e = guest_ptr(AVAIL);

        e->flags = cpu_to_le16(VRING_PACKED_EVENT_FLAG_DESC);
        e->off_wrap = cpu_to_le16(place | wrap << 15);
    } else {
        struct vring_avail *avail = guest_ptr(AVAIL);

        avail->ring[d->num] = cpu_to_le16(place);
    }
}

/* The event index names each place in turn, also across the wrap. */
static void test_event_idx(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    uint16_t start = packed ? 5 : 65533;

    for (unsigned event = 0; event < 8; event++) {
        unsigned place = start + event;
        bool wrap = true;

        driver_seek(d, start, true);
        if (packed && place >= 8) {
            place -= 8;
            wrap = false;
        }
        set_event(d, place, wrap);
        for (unsigned i = 0; i < 8; i++) {
            /* The first batch causes an interrupt in any case. */
            g_assert(driver_one_request(d) == (i == 0 || i == event));
        }
        vring_invalidate_signalled_used(&d->r);
        g_assert(driver_one_request(d));
    }
    driver_free(d);
}

/* A batch of three is announced if the event is in it, wherever. */
static void test_event_in_batch(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    uint16_t start = packed ? 6 : 65534;

    for (int event = -2; event < 6; event++) {
        int place = start + 1 + event;
        VRingChain chain[3];
        bool wrap = true;

        driver_seek(d, start, true);
        driver_one_request(d);
        if (packed && place >= 8) {
            place -= 8;
            wrap = false;
        }
        set_event(d, place, wrap);
        for (unsigned i = 0; i < 3; i++) {
            driver_add(d, request, 1, i);
            chain[i] = driver_take(d);
        }
        for (unsigned i = 0; i < 3; i++) {
            vring_push(&d->r, &chain[i], 0);
            g_free(chain[i].iov);
        }
        g_assert(vring_publish(&d->r) == (event >= 0 && event < 3));
    }
    driver_free(d);
}

static void test_driver_waits(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);

    set_interrupts(d, false);
    g_assert(!vring_driver_waits(&d->r));
    set_interrupts(d, true);
    g_assert(vring_driver_waits(&d->r));
    driver_free(d);
}

/* A driver that has seen all asks for an interrupt for the next entry. */
static void test_driver_waits_event_idx(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    uint16_t start = packed ? 6 : 65534;

    driver_seek(d, start, true);
    for (unsigned i = 0; i < 4; i++) {
        unsigned place = packed ? (start + i) % 8 : start + i;
        bool wrap = start + i < 8;

        set_event(d, place, wrap);
        g_assert(!vring_driver_waits(&d->r));
        driver_one_request(d);
        g_assert(vring_driver_waits(&d->r));
    }
    if (packed) {
        /* The same place, a round before */
        set_event(d, (start + 4) % 8, true);
        g_assert(vring_driver_waits(&d->r));
        set_interrupts(d, false);
        g_assert(!vring_driver_waits(&d->r));
    }
    driver_free(d);
}

static void test_suppression(const void *packed)
{
    Driver *d = driver_new(packed, 8, false);
    uint16_t *flags = guest_ptr(packed ? USED + 2 : USED);
    uint16_t on = packed ? VRING_PACKED_EVENT_FLAG_ENABLE : 0;
    uint16_t off = packed ? VRING_PACKED_EVENT_FLAG_DISABLE
                          : VRING_USED_F_NO_NOTIFY;

    for (unsigned i = 0; i < 3; i++) {
        vring_set_notification(&d->r, false);
        g_assert_cmpuint(le16_to_cpu(*flags), ==, off);
        vring_set_notification(&d->r, true);
        g_assert_cmpuint(le16_to_cpu(*flags), ==, on);
    }
    driver_free(d);
}

static void test_suppression_event_idx(const void *packed)
{
    Driver *d = driver_new(packed, 8, true);
    struct vring_packed_desc_event *e = guest_ptr(USED);
    struct vring_used *used = guest_ptr(USED);

    driver_seek(d, packed ? 6 : 65534, true);
    for (unsigned i = 0; i < 10; i++) {
        vring_set_notification(&d->r, false);
        if (packed) {
            g_assert_cmpuint(le16_to_cpu(e->flags), ==,
                             VRING_PACKED_EVENT_FLAG_DISABLE);
        }
        vring_set_notification(&d->r, true);
        if (packed) {
            g_assert_cmpuint(le16_to_cpu(e->flags), ==,
                             VRING_PACKED_EVENT_FLAG_DESC);
            g_assert_cmpuint(le16_to_cpu(e->off_wrap), ==,
                             d->next_desc | d->wrap << 15);
        } else {
            uint16_t *avail_event = (uint16_t *)&used->ring[8];

            g_assert_cmpuint(used->flags, ==, 0);
            g_assert_cmpuint(le16_to_cpu(*avail_event), ==, d->avail_idx);
        }
        driver_one_request(d);
    }
    driver_free(d);
}

static void add(const char *name, GTestDataFunc func)
{
    driver_test_add("vring-notify", name, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_init();

    add("interrupt-flags", test_interrupt_flags);
    add("event-idx", test_event_idx);
    add("event-in-batch", test_event_in_batch);
    add("driver-waits", test_driver_waits);
    add("driver-waits-event-idx", test_driver_waits_event_idx);
    add("suppression", test_suppression);
    add("suppression-event-idx", test_suppression_event_idx);
    g_test_add_func("/vring-notify/split/on-empty", test_notify_on_empty);
    return g_test_run();
}
