/*
 * A queue that moves to another thread or is quiesced, while others come in
 *
 * Moving waits for the old thread, and the main loop goes on meanwhile: a timer
 * or a bottom half may let the queue look at its ring, or move it once more.
 * The old thread is held until that has happened.
 *
 * Quiescing waits for requests, and these may wait until the queue looks again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "block/aio-wait.h"
#include "hw/block/block-queue.h"
#include "tests/unit/iothread.h"

typedef struct Fixture {
    BlockQueue queue;
    IOThread *iothreads[3];
    bool held;                  /* the first IOThread is; atomic */
    QemuEvent go_on;
    AioContext *next;           /* where to move it meanwhile, or NULL */
    unsigned looks;             /* atomic */
    bool waits;                 /* a request does, until the queue looks */
    AioContext *listens_in;     /* atomic */
} Fixture;

static void start_listening(BlockQueue *queue)
{
    Fixture *f = container_of(queue, Fixture, queue);

    qatomic_set(&f->listens_in, qemu_get_current_aio_context());
    aio_wait_kick();
}

static void stop_listening(BlockQueue *queue)
{
    Fixture *f = container_of(queue, Fixture, queue);

    qatomic_set(&f->listens_in, NULL);
    aio_wait_kick();
}

static void look(BlockQueue *queue)
{
    Fixture *f = container_of(queue, Fixture, queue);

    qatomic_set(&f->looks, f->looks + 1);
    aio_wait_kick();
    if (f->waits) {
        f->waits = false;
        block_queue_request_end(queue);
    }
}

static const BlockQueueOps ops = {
    .start_listening = start_listening,
    .stop_listening = stop_listening,
    .look = look,
};

static AioContext *context(Fixture *f, int i)
{
    return iothread_get_aio_context(f->iothreads[i]);
}

static void hold_thread(void *opaque)
{
    Fixture *f = opaque;

    qatomic_set(&f->held, true);
    aio_wait_kick();
    qemu_event_wait(&f->go_on);
    qatomic_store_release(&f->held, false);
    aio_wait_kick();
}

static void come_in(void *opaque)
{
    Fixture *f = opaque;

    block_queue_look(&f->queue);
    qemu_event_set(&f->go_on);
    if (f->next) {
        block_queue_move(&f->queue, f->next);
    }
}

static void set_up(Fixture *f, const void *data)
{
    for (int i = 0; i < ARRAY_SIZE(f->iothreads); i++) {
        f->iothreads[i] = iothread_new();
    }
    qemu_event_init(&f->go_on, false);
    block_queue_init(&f->queue, "queue of a test", 0, context(f, 0), &ops);
    block_queue_event(&f->queue, BLOCK_QUEUE_START);
    block_queue_event(&f->queue, BLOCK_QUEUE_RING_UP);
    block_queue_quiesce_end(&f->queue);
}

static void tear_down(Fixture *f, const void *data)
{
    block_queue_quiesce_begin(&f->queue);
    block_queue_quiesce_wait(&f->queue);
    block_queue_cleanup(&f->queue);
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_load_acquire(&f->held));
    qemu_event_destroy(&f->go_on);
    for (int i = 0; i < ARRAY_SIZE(f->iothreads); i++) {
        iothread_join(f->iothreads[i]);
    }
}

/* The caller has it quiesced, as the devices do. */
static void move(Fixture *f)
{
    block_queue_quiesce_begin(&f->queue);
    block_queue_quiesce_wait(&f->queue);
    aio_bh_schedule_oneshot(context(f, 0), hold_thread, f);
    AIO_WAIT_WHILE_UNLOCKED(NULL, !qatomic_read(&f->held));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), come_in, f);
    block_queue_move(&f->queue, context(f, 1));
    block_queue_quiesce_end(&f->queue);
}

static void check_serves(Fixture *f, AioContext *ctx)
{
    unsigned looks;

    g_assert_true(f->queue.ctx == ctx);
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&f->listens_in) != ctx);
    looks = qatomic_read(&f->looks);
    block_queue_look(&f->queue);
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&f->looks) == looks);
}

static void test_looks_meanwhile(Fixture *f, const void *data)
{
    move(f);
    check_serves(f, context(f, 1));
}

/* The move that came in last decides where the queue belongs. */
static void test_moves_meanwhile(Fixture *f, const void *data)
{
    f->next = context(f, 2);
    move(f);
    check_serves(f, context(f, 2));
}

static void begin_request(void *opaque)
{
    Fixture *f = opaque;

    block_queue_request_begin(&f->queue);
    f->waits = true;
}

static void check_quiesces(Fixture *f)
{
    block_queue_quiesce_wait(&f->queue);
    g_assert_cmpuint(qatomic_read(&f->looks), ==, 1);
    g_assert_false(f->waits);
    block_queue_quiesce_end(&f->queue);
    check_serves(f, context(f, 0));
}

/* The thread finds both wishes at once. */
static void test_quiesce_looks(Fixture *f, const void *data)
{
    aio_wait_bh_oneshot(context(f, 0), begin_request, f);
    aio_bh_schedule_oneshot(context(f, 0), hold_thread, f);
    AIO_WAIT_WHILE_UNLOCKED(NULL, !qatomic_read(&f->held));
    block_queue_quiesce_begin(&f->queue);
    block_queue_look(&f->queue);
    qemu_event_set(&f->go_on);
    check_quiesces(f);
}

/* The thread has stopped to listen when it is asked to look. */
static void test_quiesced_looks(Fixture *f, const void *data)
{
    aio_wait_bh_oneshot(context(f, 0), begin_request, f);
    block_queue_quiesce_begin(&f->queue);
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&f->listens_in));
    block_queue_look(&f->queue);
    check_quiesces(f);
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);

    g_test_add("/block-queue-move/looks-meanwhile", Fixture, NULL, set_up,
               test_looks_meanwhile, tear_down);
    g_test_add("/block-queue-move/moves-meanwhile", Fixture, NULL, set_up,
               test_moves_meanwhile, tear_down);
    g_test_add("/block-queue-move/quiesce-looks", Fixture, NULL, set_up,
               test_quiesce_looks, tear_down);
    g_test_add("/block-queue-move/quiesced-looks", Fixture, NULL, set_up,
               test_quiesced_looks, tear_down);
    return g_test_run();
}
