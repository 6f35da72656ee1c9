/*
 * The matrix: a disk that becomes smaller or larger
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

#define HALF (MQ_PLAY_SIZE / 2)
#define DOUBLE (2 * MQ_PLAY_SIZE)
#define STOPPING ", 'werror': 'stop', 'rerror': 'stop'"

static void resize(MqPlay *p, uint64_t size)
{
    mq_play_go(p, "block_resize", "{'node-name': 'disk', 'size': %" PRIu64
               "}", size);
}

/* The message of the configuration's vector comes from the main loop. */
static void note_config_interrupt(MqPlay *p, const char *name)
{
    bool came;

    g_free(qtest_hmp(p->m->qts, "info block"));
    came = mq_vector_take(p->d, 0);
    mq_note(p, "configuration interrupt %s: %s", name, came ? "yes" : "no");
}

/*
 * One more sector than there is, with the policy that stops the VM.  The
 * capacity is read last: a device may look at the disk for that.
 */
static void note_edge(MqPlay *p, const char *name, uint64_t size)
{
    uint64_t end = size / MQ_SECTOR;

    mq_note(p, "%s:", name);
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        mq_note_run(p, "read of the last", q, IN, end - 1);
        mq_note_run(p, "read beyond", q, IN, end);
        mq_note_run(p, "write beyond", q, OUT, end);
    }
    mq_note_capacity(p, "shown");
    mq_note_state(p);
}

static void play_reopen(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) { .props = STOPPING });
    note_edge(p, "at first", MQ_PLAY_SIZE);
    mq_play_reopen(p, HALF);
    note_edge(p, "smaller", HALF);
    mq_play_reopen(p, MQ_PLAY_SIZE);
    note_edge(p, "larger", MQ_PLAY_SIZE);
    mq_play_end(p);
}

static void play_reopen_stopped(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) { .props = STOPPING });
    mq_play_stop(p);
    mq_play_reopen(p, HALF);
    mq_play_cont(p);
    note_edge(p, "smaller", HALF);
    mq_play_stop(p);
    mq_play_reopen(p, MQ_PLAY_SIZE);
    mq_play_cont(p);
    note_edge(p, "larger", MQ_PLAY_SIZE);
    mq_play_end(p);
}

/* A request that was in the ring before, seen when its end is gone */
static void play_reopen_placed(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .props = STOPPING });
    load = mq_load_new(p, "reads", IN, HALF / MQ_SECTOR, 1);
    mq_play_reopen(p, HALF);
    mq_play_kick(p);
    mq_note_answers(p, load);
    mq_note_state(p);
    mq_note_run(p, "in the first half", 1, OUT, 0);
    mq_play_end(p);
}

static void play_resize(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) { .props = STOPPING });
    note_edge(p, "at first", MQ_PLAY_SIZE);
    resize(p, HALF);
    note_config_interrupt(p, "when smaller");
    note_edge(p, "smaller", HALF);
    resize(p, DOUBLE);
    note_config_interrupt(p, "when larger");
    note_edge(p, "larger", DOUBLE);
    mq_play_end(p);
}

static void play_resize_stopped(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) { .props = STOPPING });
    mq_play_stop(p);
    resize(p, HALF);
    mq_play_cont(p);
    note_config_interrupt(p, "when smaller");
    note_edge(p, "smaller", HALF);
    mq_play_stop(p);
    resize(p, DOUBLE);
    mq_play_cont(p);
    note_config_interrupt(p, "when larger");
    note_edge(p, "larger", DOUBLE);
    mq_play_end(p);
}

/* Larger while requests are in flight, and larger again */
static void play_resize_load(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    for (unsigned i = 0; i < 4; i++) {
        load = mq_load_new(p, "writes", OUT, 0, 8);
        mq_play_kick(p);
        resize(p, MQ_PLAY_SIZE + (i + 1) * MQ_PLAY_SIZE / 4);
        mq_note_answers(p, load);
        mq_note_written(p, load);
    }
    note_edge(p, "in the end", DOUBLE);
    mq_play_end(p);
}

/* To a size that is no multiple of a sector, which is rounded up in the file */
static void play_odd(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) { .props = STOPPING });
    mq_play_try(p, "odd size", "block_resize", "{'node-name': 'disk',"
                " 'size': %u}", HALF + 100);
    mq_note_capacity(p, "after odd size");
    mq_play_try(p, "no size", "block_resize", "{'node-name': 'disk',"
                " 'size': -1}");
    mq_note_capacity(p, "after no size");
    resize(p, 0);
    mq_note_capacity(p, "of nothing");
    mq_note_run(p, "read of nothing", 0, IN, 0);
    mq_note_state(p);
    resize(p, MQ_PLAY_SIZE);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

#define EDGE_ONE "read of the last: status 0\nread beyond: status 1\n" \
                 "write beyond: status 1\n"
#define EDGE(name, capacity) \
    name ":\n" EDGE_ONE EDGE_ONE EDGE_ONE EDGE_ONE \
    "capacity shown: " capacity "\nrun state: running\n"
#define INTERRUPT(when) "configuration interrupt " when ": yes\n"
#define LOAD "writes: 32 of 32 answered, 32 with status 0\n" \
             "writes: 32 of 32 on the disk\n"

static const MqCase cases[] = {
    {
        .name = "reopen/size", .play = play_reopen, .quick = true,
        .want = EDGE("at first", "8192") EDGE("smaller", "4096")
                EDGE("larger", "8192"),
    }, {
        .name = "reopen/stopped", .play = play_reopen_stopped,
        .want = EDGE("smaller", "4096") EDGE("larger", "8192"),
    }, {
        .name = "reopen/placed", .play = play_reopen_placed,
        .want = "reads: 4 of 4 answered, 4 with status 1\n"
                "run state: running\n" "in the first half: status 0\n",
    }, {
        .name = "resize/size", .play = play_resize, .quick = true,
        .want = EDGE("at first", "8192") INTERRUPT("when smaller")
                EDGE("smaller", "4096") INTERRUPT("when larger")
                EDGE("larger", "16384"),
    }, {
        .name = "resize/stopped", .play = play_resize_stopped,
        .want = INTERRUPT("when smaller") EDGE("smaller", "4096")
                INTERRUPT("when larger") EDGE("larger", "16384"),
    }, {
        .name = "resize/load", .play = play_resize_load,
        .want = LOAD LOAD LOAD LOAD EDGE("in the end", "16384"),
    }, {
        .name = "resize/odd", .play = play_odd,
        .want = "odd size: done\ncapacity after odd size: 4097\n"
                "no size: Parameter 'size' expects a >0 size\n"
                "capacity after no size: 4097\ncapacity of nothing: 0\n"
                "read of nothing: status 1\nrun state: running\n"
                MQ_WORKS("in the end"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
