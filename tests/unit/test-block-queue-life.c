/*
 * The life of a queue: every event in every state
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/block/block-queue-life.h"

#define LIVES BLOCK_QUEUE_LIFE__MAX
#define EVENTS BLOCK_QUEUE_EVENT__MAX

static bool is_stopped(BlockQueueLife life)
{
    return life == BLOCK_QUEUE_STOPPED || life == BLOCK_QUEUE_FAULTED_STOPPED;
}

static bool is_faulted(BlockQueueLife life)
{
    return life == BLOCK_QUEUE_FAULTED || life == BLOCK_QUEUE_FAULTED_STOPPED;
}

/* The table as its rules give it; the code has it written out. */
static BlockQueueLife expected(BlockQueueLife life, BlockQueueEvent event)
{
    bool stopped = is_stopped(life), faulted = is_faulted(life);

    switch (event) {
    case BLOCK_QUEUE_START:
        if (!stopped) {
            return life;
        }
        return faulted ? BLOCK_QUEUE_FAULTED : BLOCK_QUEUE_NO_RING;
    case BLOCK_QUEUE_STOP:
        return faulted ? BLOCK_QUEUE_FAULTED_STOPPED : BLOCK_QUEUE_STOPPED;
    case BLOCK_QUEUE_RING_UP:
        return life == BLOCK_QUEUE_NO_RING ? BLOCK_QUEUE_RUNNING : life;
    case BLOCK_QUEUE_RING_DOWN:
        return stopped ? BLOCK_QUEUE_STOPPED : BLOCK_QUEUE_NO_RING;
    case BLOCK_QUEUE_FAULT:
        return stopped ? BLOCK_QUEUE_FAULTED_STOPPED : BLOCK_QUEUE_FAULTED;
    default:
        g_assert_not_reached();
    }
}

static void test_table(void)
{
    for (unsigned life = 0; life < LIVES; life++) {
        for (unsigned event = 0; event < EVENTS; event++) {
            g_test_message("%s, %s", block_queue_life_name(life),
                           block_queue_event_name(event));
            g_assert_cmpint(block_queue_life_next(life, event), ==,
                            expected(life, event));
        }
    }
}

/* Names are for traces: each has one, and no two are alike. */
static void test_names(void)
{
    for (unsigned i = 0; i < LIVES; i++) {
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpstr(block_queue_life_name(i), !=,
                            block_queue_life_name(j));
        }
    }
    for (unsigned i = 0; i < EVENTS; i++) {
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpstr(block_queue_event_name(i), !=,
                            block_queue_event_name(j));
        }
    }
}

/*
 * Whatever happens in whatever order: a stopped queue runs only after a start
 * and a ring, and a fault ends only with the ring.
 */
static void test_walks(void)
{
    BlockQueueLife life = BLOCK_QUEUE_STOPPED;
    bool started = false, ring = false, fault = false;

    for (unsigned n = 0; n < 100000; n++) {
        BlockQueueEvent event = g_test_rand_int_range(0, EVENTS);

        life = block_queue_life_next(life, event);
        started = event == BLOCK_QUEUE_START ||
                  (started && event != BLOCK_QUEUE_STOP);
        ring = (event == BLOCK_QUEUE_RING_UP && started && !fault) ||
               (ring && event != BLOCK_QUEUE_RING_DOWN &&
                event != BLOCK_QUEUE_STOP);
        fault = event == BLOCK_QUEUE_FAULT ||
                (fault && event != BLOCK_QUEUE_RING_DOWN);

        g_assert(is_stopped(life) == !started);
        g_assert(is_faulted(life) == fault);
        g_assert((life == BLOCK_QUEUE_RUNNING) ==
                 (started && ring && !fault));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block-queue-life/table", test_table);
    g_test_add_func("/block-queue-life/names", test_names);
    g_test_add_func("/block-queue-life/walks", test_walks);
    return g_test_run();
}
