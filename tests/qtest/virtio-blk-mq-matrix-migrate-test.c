/*
 * The matrix: migration
 *
 *     source --- guest stops --- pre-switchover --- state --- target goes on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* The driver goes on with the target, which has been given all. */
static void switch_over(MqPlay *p, MqMachine *to, const char *file)
{
    MqMachine *from = p->m;

    mq_machine_migrate_end(from, to, file);
    mq_device_move(p->d, to);
    mq_machine_stop(from);
    p->m = to;
    p->iops = 0;
    mq_play_cont(p);
    mq_note_state(p);
}

/* The guest runs when the migration begins. */
static void migrate(MqPlay *p)
{
    char *file = mq_image_new(0);
    MqMachine *to = mq_play_target(p);

    mq_machine_migrate_begin(p->m, file);
    switch_over(p, to, file);
    mq_image_free(file);
}

/* Requests that the limit holds back when the migration stops the guest */
static void play_load(MqPlay *p)
{
    MqLoad *writes, *reads;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    writes = mq_load_new(p, "writes", OUT, 0, 4);
    reads = mq_load_new(p, "reads", IN, 4096, 4);
    mq_play_kick(p);
    mq_play_wait_taken(p);
    migrate(p);
    mq_note_answers(p, writes);
    mq_note_answers(p, reads);
    mq_note_written(p, writes);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static void play_scattered(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    load = mq_load_scattered(p, "writes", 150, 40);
    mq_play_kick(p);
    migrate(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* Kicked while the VM is stopped, then migrated, there and back. */
static void play_kicked(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    for (unsigned i = 0; i < 2; i++) {
        mq_play_stop(p);
        load = mq_load_new(p, i ? "second" : "first", OUT, i * 1024, 4);
        mq_play_kick(p);
        migrate(p);
        mq_note_answers(p, load);
        mq_note_written(p, load);
    }
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static void wait_status(MqPlay *p, const char *wanted)
{
    gint64 start = g_get_monotonic_time();
    bool there = false;

    while (!there) {
        QDict *info = qtest_qmp_assert_success_ref(p->m->qts, "{'execute':"
                                                   " 'query-migrate'}");
        const char *status = qdict_get_try_str(info, "status");

        there = !g_strcmp0(status, wanted);
        g_assert_cmpstr(status, !=, "failed");
        g_assert_cmpstr(status, !=, "completed");
        qobject_unref(info);
        mq_deadline(start, "pre-switchover");
    }
}

static void begin_pausing(MqPlay *p, const char *file)
{
    mq_play_go(p, "migrate-set-capabilities", "{'capabilities': ["
               "{'capability': 'pause-before-switchover', 'state': true}]}");
    mq_machine_migrate_begin(p->m, file);
    wait_status(p, "pre-switchover");
}

/*
 * What is placed between the guest's stop and the switch-over is served by the
 * target.  The disk of this side may not be touched any more.
 */
static void play_pre_switchover(MqPlay *p)
{
    char *file = mq_image_new(0);
    MqMachine *to;
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    to = mq_play_target(p);
    begin_pausing(p, file);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_note_state(p);
    mq_note_frozen(p, "pre-switchover", f);
    mq_play_go(p, "migrate-continue", "{'state': 'pre-switchover'}");
    switch_over(p, to, file);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
    mq_image_free(file);
}

/* The same with a slow disk and more than a slab holds under way before */
static void play_pre_switchover_load(MqPlay *p)
{
    char *file = mq_image_new(0);
    MqMachine *to;
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    load = mq_load_scattered(p, "writes", 150, 40);
    mq_play_kick(p);
    to = mq_play_target(p);
    begin_pausing(p, file);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_note_state(p);
    mq_note_frozen(p, "pre-switchover", f);
    mq_play_go(p, "migrate-continue", "{'state': 'pre-switchover'}");
    switch_over(p, to, file);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
    mq_image_free(file);
}

/* Given up at the last moment: this side goes on. */
static void play_cancelled(MqPlay *p)
{
    char *file = mq_image_new(0);
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    begin_pausing(p, file);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_note_state(p);
    mq_note_frozen(p, "pre-switchover", f);
    mq_play_go(p, "migrate_cancel", "%s", "");
    qtest_qmp_eventwait(p->m->qts, "RESUME");
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
    mq_image_free(file);
}

/* A request that has failed goes along, and so does what was kicked later. */
static void play_held(MqPlay *p)
{
    MqLoad *load, *more;

    mq_play_start(p, (MqPlayDisk) { .errors = MQ_ONE_ERROR,
                                    .props = ", 'werror': 'stop'" });
    load = mq_load_new(p, "writes", OUT, 0, 1);
    mq_play_kick(p);
    qtest_qmp_eventwait(p->m->qts, "STOP");
    mq_note_state(p);
    more = mq_load_new(p, "more", OUT, 1024, 4);
    mq_play_kick(p);
    migrate(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_answers(p, more);
    mq_note_written(p, more);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static bool is_broken(MqPlay *p)
{
    QDict *info = qtest_qmp_assert_success_ref(
        p->m->qts, "{'execute': 'x-query-virtio-status',"
        " 'arguments': {'path': '" MQ_PLAY_QOM "'}}");
    bool broken = qdict_get_bool(info, "broken");

    qobject_unref(info);
    return broken;
}

/* A request whose header is too short */
static void break_device(MqPlay *p)
{
    MqRequest *r = mq_request_new(p->d->queues[2], IN, 0, 0);
    MqSegment segs[] = { { r->header, 8, false }, { r->status, 1, true } };
    gint64 start = g_get_monotonic_time();

    mq_request_add_segs(r, segs, ARRAY_SIZE(segs), false);
    mq_queue_kick(r->queue);
    while (!is_broken(p)) {
        mq_deadline(start, "a broken device");
    }
}

/* The driver has broken one queue: the others' positions go along. */
static void play_broken(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) {});
    for (unsigned i = 0; i < 20; i++) {
        mq_note_works(p, "at first");
    }
    break_device(p);
    migrate(p);
    mq_note(p, "broken: %s", is_broken(p) ? "yes" : "no");
    mq_play_drive(p);
    mq_note(p, "broken: %s", is_broken(p) ? "yes" : "no");
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

#define RUNNING "run state: running\n"
#define FOUR(what) what what what what
#define PRE_SWITCHOVER "pre-switchover: memory as it was, disk as it was\n"

static const MqCase cases[] = {
    {
        .name = "migrate/load", .play = play_load,
        .want = RUNNING MQ_OK("writes", 16) MQ_OK("reads", 16)
                MQ_ON_DISK("writes", 16) MQ_WORKS("in the end"),
    }, {
        .name = "migrate/scattered", .play = play_scattered, .quick = true,
        .want = RUNNING MQ_OK("writes", 150) MQ_ON_DISK("writes", 150)
                MQ_WORKS("in the end"),
    }, {
        .name = "migrate/kicked", .play = play_kicked,
        .want = MQ_WORKS("at first") RUNNING MQ_OK("first", 16)
                MQ_ON_DISK("first", 16) RUNNING MQ_OK("second", 16)
                MQ_ON_DISK("second", 16) MQ_WORKS("in the end"),
    }, {
        .name = "migrate/pre-switchover", .play = play_pre_switchover,
        .quick = true,
        .want = MQ_WORKS("at first") "run state: finish-migrate\n"
                PRE_SWITCHOVER RUNNING MQ_OK("writes", 16)
                MQ_ON_DISK("writes", 16) MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "migrate/pre-switchover-load",
        .play = play_pre_switchover_load,
        .want = "run state: finish-migrate\n" PRE_SWITCHOVER RUNNING
                MQ_OK("writes", 150) MQ_ON_DISK("writes", 150)
                MQ_WORKS("in the end"),
    }, {
        .name = "migrate/cancelled", .play = play_cancelled,
        .want = MQ_WORKS("at first") "run state: finish-migrate\n"
                PRE_SWITCHOVER MQ_OK("writes", 16) MQ_ON_DISK("writes", 16)
                MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "migrate/held", .play = play_held, .not_in_order = true,
        .want = "run state: io-error\n" RUNNING
                MQ_OK("writes", 4) MQ_ON_DISK("writes", 4) MQ_OK("more", 16)
                MQ_ON_DISK("more", 16) MQ_WORKS("in the end"),
        .stock_differs_in = MQ_IN_ALL,
        .why = "stock cannot read its stream of a packed ring's requests",
    }, {
        .name = "migrate/broken", .play = play_broken, .quick = true,
        .want = FOUR(FOUR(MQ_WORKS("at first"))) FOUR(MQ_WORKS("at first"))
                RUNNING "broken: yes\nbroken: no\n" MQ_WORKS("after reset"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
