/*
 * The states of a queue of a block device
 *
 * One table has all that can happen; the header has the picture of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/block/block-queue-state.h"

static const BlockQueueState
next_state[BLOCK_QUEUE_STATE__MAX][BLOCK_QUEUE_EVENT__MAX] = {
    [BLOCK_QUEUE_STOPPED] = {
        [BLOCK_QUEUE_START] = BLOCK_QUEUE_NO_RING,
        [BLOCK_QUEUE_STOP] = BLOCK_QUEUE_STOPPED,
        [BLOCK_QUEUE_RING_UP] = BLOCK_QUEUE_STOPPED,
        [BLOCK_QUEUE_RING_DOWN] = BLOCK_QUEUE_STOPPED,
        [BLOCK_QUEUE_FAULT] = BLOCK_QUEUE_FAULTED_STOPPED,
    },
    [BLOCK_QUEUE_NO_RING] = {
        [BLOCK_QUEUE_START] = BLOCK_QUEUE_NO_RING,
        [BLOCK_QUEUE_STOP] = BLOCK_QUEUE_STOPPED,
        [BLOCK_QUEUE_RING_UP] = BLOCK_QUEUE_RUNNING,
        [BLOCK_QUEUE_RING_DOWN] = BLOCK_QUEUE_NO_RING,
        [BLOCK_QUEUE_FAULT] = BLOCK_QUEUE_FAULTED,
    },
    [BLOCK_QUEUE_RUNNING] = {
        [BLOCK_QUEUE_START] = BLOCK_QUEUE_RUNNING,
        [BLOCK_QUEUE_STOP] = BLOCK_QUEUE_STOPPED,
        [BLOCK_QUEUE_RING_UP] = BLOCK_QUEUE_RUNNING,
        [BLOCK_QUEUE_RING_DOWN] = BLOCK_QUEUE_NO_RING,
        [BLOCK_QUEUE_FAULT] = BLOCK_QUEUE_FAULTED,
    },
    [BLOCK_QUEUE_FAULTED] = {
        [BLOCK_QUEUE_START] = BLOCK_QUEUE_FAULTED,
        [BLOCK_QUEUE_STOP] = BLOCK_QUEUE_FAULTED_STOPPED,
        [BLOCK_QUEUE_RING_UP] = BLOCK_QUEUE_FAULTED,
        [BLOCK_QUEUE_RING_DOWN] = BLOCK_QUEUE_NO_RING,
        [BLOCK_QUEUE_FAULT] = BLOCK_QUEUE_FAULTED,
    },
    [BLOCK_QUEUE_FAULTED_STOPPED] = {
        [BLOCK_QUEUE_START] = BLOCK_QUEUE_FAULTED,
        [BLOCK_QUEUE_STOP] = BLOCK_QUEUE_FAULTED_STOPPED,
        [BLOCK_QUEUE_RING_UP] = BLOCK_QUEUE_FAULTED_STOPPED,
        [BLOCK_QUEUE_RING_DOWN] = BLOCK_QUEUE_STOPPED,
        [BLOCK_QUEUE_FAULT] = BLOCK_QUEUE_FAULTED_STOPPED,
    },
};

BlockQueueState block_queue_state_next(BlockQueueState state,
                                       BlockQueueEvent event)
{
    return next_state[state][event];
}

const char *block_queue_state_name(BlockQueueState state)
{
    static const char *const names[BLOCK_QUEUE_STATE__MAX] = {
        [BLOCK_QUEUE_STOPPED] = "stopped",
        [BLOCK_QUEUE_NO_RING] = "no ring",
        [BLOCK_QUEUE_RUNNING] = "running",
        [BLOCK_QUEUE_FAULTED] = "faulted",
        [BLOCK_QUEUE_FAULTED_STOPPED] = "faulted and stopped",
    };

    return names[state];
}

const char *block_queue_event_name(BlockQueueEvent event)
{
    static const char *const names[BLOCK_QUEUE_EVENT__MAX] = {
        [BLOCK_QUEUE_START] = "start",
        [BLOCK_QUEUE_STOP] = "stop",
        [BLOCK_QUEUE_RING_UP] = "ring up",
        [BLOCK_QUEUE_RING_DOWN] = "ring down",
        [BLOCK_QUEUE_FAULT] = "fault",
    };

    return names[event];
}
