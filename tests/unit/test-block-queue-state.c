/*
 * The states of a queue: every event in every state
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/block/block-queue-state.h"

#define STATES BLOCK_QUEUE_STATE__MAX
#define EVENTS BLOCK_QUEUE_EVENT__MAX

static bool is_stopped(BlockQueueState state)
{
    return state == BLOCK_QUEUE_STOPPED || state == BLOCK_QUEUE_FAULTED_STOPPED;
}

static bool is_faulted(BlockQueueState state)
{
    return state == BLOCK_QUEUE_FAULTED || state == BLOCK_QUEUE_FAULTED_STOPPED;
}

/* The table as its rules give it; the code has it written out. */
static BlockQueueState expected(BlockQueueState state, BlockQueueEvent event)
{
    bool stopped = is_stopped(state), faulted = is_faulted(state);

    switch (event) {
    case BLOCK_QUEUE_START:
        if (!stopped) {
            return state;
        }
        return faulted ? BLOCK_QUEUE_FAULTED : BLOCK_QUEUE_NO_RING;
    case BLOCK_QUEUE_STOP:
        return faulted ? BLOCK_QUEUE_FAULTED_STOPPED : BLOCK_QUEUE_STOPPED;
    case BLOCK_QUEUE_RING_UP:
        return state == BLOCK_QUEUE_NO_RING ? BLOCK_QUEUE_RUNNING : state;
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
    for (unsigned state = 0; state < STATES; state++) {
        for (unsigned event = 0; event < EVENTS; event++) {
            g_test_message("%s, %s", block_queue_state_name(state),
                           block_queue_event_name(event));
            g_assert_cmpint(block_queue_state_next(state, event), ==,
                            expected(state, event));
        }
    }
}

/* Each state and event has a name for traces, and all names differ. */
static void test_names(void)
{
    for (unsigned i = 0; i < STATES; i++) {
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpstr(block_queue_state_name(i), !=,
                            block_queue_state_name(j));
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
 * Events come in random order.  In any case a stopped queue runs only after a
 * start and a ring, and a fault ends only with the ring.
 */
static void test_walks(void)
{
    BlockQueueState state = BLOCK_QUEUE_STOPPED;
    bool started = false, ring = false, fault = false;

    for (unsigned n = 0; n < 100000; n++) {
        BlockQueueEvent event = g_test_rand_int_range(0, EVENTS);

        state = block_queue_state_next(state, event);
        started = event == BLOCK_QUEUE_START ||
                  (started && event != BLOCK_QUEUE_STOP);
        ring = (event == BLOCK_QUEUE_RING_UP && started && !fault) ||
               (ring && event != BLOCK_QUEUE_RING_DOWN &&
                event != BLOCK_QUEUE_STOP);
        fault = event == BLOCK_QUEUE_FAULT ||
                (fault && event != BLOCK_QUEUE_RING_DOWN);

        g_assert(is_stopped(state) == !started);
        g_assert(is_faulted(state) == fault);
        g_assert((state == BLOCK_QUEUE_RUNNING) ==
                 (started && ring && !fault));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block-queue-state/table", test_table);
    g_test_add_func("/block-queue-state/names", test_names);
    g_test_add_func("/block-queue-state/walks", test_walks);
    return g_test_run();
}
