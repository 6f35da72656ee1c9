/*
 * The states of a queue of a block device
 *
 *                   start                  ring up
 *    +---------+ ---------> +---------+ -----------> +---------+
 *    | stopped |            | no ring |              | running |
 *    +---------+ <--------- +---------+ <----------- +---------+
 *       ^   ^       stop                  ring down    |     |
 *       |   +------------------- stop -----------------+     | fault
 *       |                                                    v
 *       |   ring down  +-------------+  stop  +-----------------+
 *       +------------- | faulted and | <----- |     faulted     |
 *                      |   stopped   | -----> |                 |
 *                      +-------------+  start +-----------------+
 *                                                | ring down
 *                                                +---> no ring
 *
 * A queue takes requests if it is in the state "running" and is not quiesced.
 * State and quiescing are independent.  Control quiesces a queue in any state,
 * for a drain, a reset or a move to another thread, and it changes the state
 * only of a queue that is quiesced.  block-queue.h has a picture of quiescing.
 *
 * In the state "stopped" the device serves no queue, because the VM is
 * stopped, or because the driver has not started the device or has reset it.
 * The device has called block_queue_quiesce_begin() for a stopped queue, and
 * calls block_queue_quiesce_end() when it starts the queue.
 *
 * A fault means that the driver has broken the rules.  The queue stays faulted
 * until the driver resets the queue or the device.  Stopping the VM and letting
 * it go on does not end a fault.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_STATE_H
#define HW_BLOCK_BLOCK_QUEUE_STATE_H

typedef enum BlockQueueState {
    BLOCK_QUEUE_STOPPED,            /* the device serves no queue */
    BLOCK_QUEUE_NO_RING,            /* the queue has no ring yet */
    BLOCK_QUEUE_RUNNING,            /* requests are taken from the ring */
    BLOCK_QUEUE_FAULTED,            /* the driver has broken the rules */
    BLOCK_QUEUE_FAULTED_STOPPED,    /* both: faulted and stopped */
    BLOCK_QUEUE_STATE__MAX
} BlockQueueState;

typedef enum BlockQueueEvent {
    BLOCK_QUEUE_START,          /* the device begins to serve its queues */
    BLOCK_QUEUE_STOP,           /* the device ends that; the ring stays */
    BLOCK_QUEUE_RING_UP,        /* the driver's ring is ready to be read */
    BLOCK_QUEUE_RING_DOWN,      /* the driver resets the queue or device */
    BLOCK_QUEUE_FAULT,          /* the ring or a request is malformed */
    BLOCK_QUEUE_EVENT__MAX
} BlockQueueEvent;

/**
 * block_queue_state_next: return the state that follows @state after @event.
 *
 * Every event may come in every state.  An event that means nothing in a state
 * does not change it.
 *
 * Context: any thread.
 */
BlockQueueState block_queue_state_next(BlockQueueState state,
                                       BlockQueueEvent event);

/** block_queue_state_name: return the state's name, for users and traces. */
const char *block_queue_state_name(BlockQueueState state);

/** block_queue_event_name: return the event's name, for traces. */
const char *block_queue_event_name(BlockQueueEvent event);

#endif /* HW_BLOCK_BLOCK_QUEUE_STATE_H */
