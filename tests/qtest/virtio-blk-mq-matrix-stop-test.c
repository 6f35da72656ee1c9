/*
 * The matrix: a VM that stops and goes on, and commands that drain
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* Chains that are kicked while the VM is stopped wait until it goes on. */
static void play_kicked(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    mq_play_stop(p);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_play_storm(p, 3);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* The same without a drain in between */
static void play_kicked_quietly(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    mq_play_stop(p);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_note_state(p);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* Exposed before the stop, no kick: draining commands must not find it. */
static void play_exposed(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    mq_play_stop(p);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_storm(p, 3);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_play_notify(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_play_end(p);
}

/* Requests that a throttled disk holds back end with the stop, or later. */
static void play_load(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *writes, *reads;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    writes = mq_load_new(p, "writes", OUT, 0, 4);
    reads = mq_load_new(p, "reads", IN, 4096, 4);
    mq_play_kick(p);
    mq_play_wait_taken(p);
    mq_play_stop(p);
    mq_note_so_far(p, writes);
    mq_note_so_far(p, reads);
    mq_note_written(p, writes);
    f = mq_freeze(p, writes);
    mq_play_storm(p, 3);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* More segments than most guests send, more requests than a slab holds */
static void play_scattered(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    load = mq_load_scattered(p, "writes", 150, 40);
    mq_play_kick(p);
    mq_play_stop(p);
    f = mq_freeze(p, load);
    mq_play_storm(p, 2);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* Stop and go on with requests in flight, without waiting for anything */
static void play_again(MqPlay *p)
{
    MqLoad *loads[8];

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
        loads[i] = mq_load_new(p, "writes", OUT, i * 512, 4);
        mq_play_kick(p);
        mq_play_stop(p);
        if (i % 2) {
            mq_play_reopen(p, 0);
        }
        mq_play_cont(p);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
        mq_note_answers(p, loads[i]);
    }
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* The second write, on queue 1, fails and stops the VM; more is kicked then. */
static void play_held(MqPlay *p)
{
    MqLoad *load, *more;
    MqFreeze *f;

    mq_play_start(p, (MqPlayDisk) { .errors = MQ_ONE_ERROR,
                                    .props = ", 'werror': 'stop'" });
    load = mq_load_new(p, "writes", OUT, 0, 1);
    mq_play_kick(p);
    qtest_qmp_eventwait(p->m->qts, "STOP");
    mq_note_state(p);
    more = mq_load_new(p, "more", OUT, 1024, 4);
    mq_play_expose(p);
    f = mq_freeze(p, more);
    mq_play_notify(p);
    mq_play_storm(p, 2);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_answers(p, more);
    mq_note_written(p, more);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* All that drains, under load */
static void play_storm(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    for (unsigned i = 0; i < 6; i++) {
        load = mq_load_new(p, "writes", OUT, i * 1024, 16);
        mq_play_kick(p);
        mq_play_storm(p, 1);
        mq_note_answers(p, load);
        mq_note_written(p, load);
        mq_load_free(load);
    }
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* The same while a limit holds requests back: each drain lets them through. */
static void play_slow_storm(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    for (unsigned i = 0; i < 6; i++) {
        load = mq_load_new(p, "writes", OUT, i * 1024, 16);
        mq_play_kick(p);
        mq_play_storm(p, 1);
        mq_note_answers(p, load);
        mq_note_written(p, load);
        mq_load_free(load);
    }
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static void set_limit(MqPlay *p, unsigned iops)
{
    mq_play_go(p, "block_set_io_throttle", "{'id': '" MQ_PLAY_QOM "', 'bps': 0,"
               " 'bps_rd': 0, 'bps_wr': 0, 'iops': %u, 'iops_rd': 0,"
               " 'iops_wr': 0}", iops);
}

/* The device's own limits come and go with requests waiting for them. */
static void play_limits(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    for (unsigned i = 0; i < 6; i++) {
        set_limit(p, 10);
        load = mq_load_new(p, "writes", OUT, i * 1024, 16);
        mq_play_kick(p);
        mq_clock_advance(p->m, 200);
        set_limit(p, 20);
        set_limit(p, 0);
        mq_note_answers(p, load);
        mq_note_written(p, load);
        mq_load_free(load);
    }
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* Overlays on overlays, in transactions that fail or not */
static void play_snapshots(MqPlay *p)
{
    static const char *const nodes[] = { "disk", "top1", "top2", "top3" };
    char *files[ARRAY_SIZE(nodes) - 1];
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        files[i] = mq_image_new(0);
        load = mq_load_new(p, "writes", OUT, i * 1024, 16);
        mq_play_kick(p);
        mq_play_go(p, "transaction", "{'actions': ["
                   "{'type': 'blockdev-snapshot-sync', 'data': {"
                   " 'node-name': '%s', 'snapshot-file': '%s',"
                   " 'snapshot-node-name': '%s', 'format': 'qcow2'}}]}",
                   nodes[i], files[i], nodes[i + 1]);
        mq_note_answers(p, load);
        mq_load_free(load);
    }
    mq_note_works(p, "in the end");
    mq_play_end(p);
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        mq_image_free(files[i]);
    }
}

#define AS_IT_WAS "stopped: memory as it was, disk as it was\n"

#define SIX(text) text text text text text text

static const MqCase cases[] = {
    {
        .name = "stop/kicked", .play = play_kicked, .quick = true,
        .want = MQ_WORKS("at first") AS_IT_WAS MQ_OK("writes", 16)
                MQ_ON_DISK("writes", 16) MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "stop/kicked-quietly", .play = play_kicked_quietly,
        .want = MQ_WORKS("at first") "run state: paused\n" AS_IT_WAS
                MQ_OK("writes", 16) MQ_ON_DISK("writes", 16)
                MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "stop/exposed", .play = play_exposed,
        .want = MQ_WORKS("at first") AS_IT_WAS MQ_OK("writes", 16)
                MQ_ON_DISK("writes", 16),
    }, {
        .name = "stop/load", .play = play_load, .quick = true,
        .want = MQ_OK("writes", 16) MQ_OK("reads", 16) MQ_ON_DISK("writes", 16)
                AS_IT_WAS MQ_WORKS("in the end"),
    }, {
        .name = "stop/scattered", .play = play_scattered, .quick = true,
        .want = AS_IT_WAS MQ_OK("writes", 150) MQ_ON_DISK("writes", 150)
                MQ_WORKS("in the end"),
    }, {
        .name = "stop/again", .play = play_again,
        .want = SIX(MQ_OK("writes", 16)) MQ_OK("writes", 16) MQ_OK("writes", 16)
                MQ_WORKS("in the end"),
    }, {
        .name = "stop/held", .play = play_held, .quick = true,
        .want = "run state: io-error\n" AS_IT_WAS
                MQ_OK("writes", 4) MQ_ON_DISK("writes", 4) MQ_OK("more", 16)
                MQ_ON_DISK("more", 16) MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "drain/storm", .play = play_storm, .quick = true,
        .want = SIX(MQ_OK("writes", 64) MQ_ON_DISK("writes", 64))
                MQ_WORKS("in the end"),
    }, {
        .name = "drain/slow-storm", .play = play_slow_storm,
        .want = SIX(MQ_OK("writes", 64) MQ_ON_DISK("writes", 64))
                MQ_WORKS("in the end"),
    }, {
        .name = "drain/limits", .play = play_limits,
        .want = SIX(MQ_OK("writes", 64) MQ_ON_DISK("writes", 64))
                MQ_WORKS("in the end"),
        .ours_only = true,
        .why = "stock may arm a limit's timer for a disk that leaves it, and "
               "then aborts or hangs",
    }, {
        .name = "drain/snapshots", .play = play_snapshots,
        .want = MQ_OK("writes", 64) MQ_OK("writes", 64) MQ_OK("writes", 64)
                MQ_WORKS("in the end"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
