/*
 * The life of a queue of a block device
 *
 *                   start                  ring up
 *    +---------+ ---------> +---------+ -----------> +---------+
 *    | stopped |            | no ring |              | running |
 *    +---------+ <--------- +---------+ <----------- +---------+
 *       ^   ^       stop                  ring down    |     |
 *       |   +------------------- stop -----------------+     | fault
 *       |                                                    v
 *       |   ring down  +-----------------+  stop  +---------------+
 *       +------------- | faulted stopped | <----> |    faulted    |
 *                      +-----------------+  start +---------------+
 *                                                   | ring down
 *                                                   +---> no ring
 *
 * A queue takes requests in the state "running" only, and only while nothing
 * holds it quiesced.  The two are independent: a queue is quiesced in any
 * state (for a drain, for a move to another thread, for a reset), and the
 * state changes while it is.  block-queue.h has the second picture.
 *
 * "stopped" means that the device serves no queue: the VM is stopped, the
 * driver has not started the device or has reset it.  The device holds one
 * block_queue_quiesce_begin() of a stopped queue.
 *
 * A fault is the driver's.  It stays, also while the VM is stopped and goes
 * on, until the driver resets the queue or the device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_BLOCK_QUEUE_LIFE_H
#define HW_BLOCK_BLOCK_QUEUE_LIFE_H

typedef enum BlockQueueLife {
    BLOCK_QUEUE_STOPPED,            /* the device serves no queue */
    BLOCK_QUEUE_NO_RING,            /* it does; this one has no ring yet */
    BLOCK_QUEUE_RUNNING,            /* requests are taken from the ring */
    BLOCK_QUEUE_FAULTED,            /* the driver has broken the rules */
    BLOCK_QUEUE_FAULTED_STOPPED,    /* the same, in a stopped device */
    BLOCK_QUEUE_LIFE__MAX
} BlockQueueLife;

typedef enum BlockQueueEvent {
    BLOCK_QUEUE_START,          /* the device begins to serve its queues */
    BLOCK_QUEUE_STOP,           /* it ends that; the ring's state is kept */
    BLOCK_QUEUE_RING_UP,        /* the driver's ring has been taken up */
    BLOCK_QUEUE_RING_DOWN,      /* the driver has reset the queue or device */
    BLOCK_QUEUE_FAULT,          /* the ring or a request is malformed */
    BLOCK_QUEUE_EVENT__MAX
} BlockQueueEvent;

/**
 * block_queue_life_next: the state that @event leads to
 *
 * Every event has an answer in every state; one that means nothing there
 * leaves the state as it is.  Any thread.
 */
BlockQueueLife block_queue_life_next(BlockQueueLife life,
                                     BlockQueueEvent event);

/** block_queue_life_name: the state in words, for users and traces */
const char *block_queue_life_name(BlockQueueLife life);

/** block_queue_event_name: the event in words, for traces */
const char *block_queue_event_name(BlockQueueEvent event);

#endif /* HW_BLOCK_BLOCK_QUEUE_LIFE_H */
