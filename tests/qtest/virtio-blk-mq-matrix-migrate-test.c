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
#include "vblk-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* The driver goes on with the target, which has been given all. */
static void switch_over(VblkPlay *p, VblkMachine *to, const char *file)
{
    VblkMachine *from = p->m;

    vblk_machine_migrate_end(from, to, file);
    vblk_device_move(p->d, to);
    vblk_machine_stop(from);
    p->m = to;
    p->iops = 0;
    vblk_play_cont(p);
    vblk_note_state(p);
}

/* The guest runs when the migration begins. */
static void migrate(VblkPlay *p)
{
    char *file = vblk_image_new(0);
    VblkMachine *to = vblk_play_target(p);

    vblk_machine_migrate_begin(p->m, file);
    switch_over(p, to, file);
    vblk_image_free(file);
}

/* Requests wait for the limit when the migration stops the guest. */
static void play_load(VblkPlay *p)
{
    VblkLoad *writes, *reads;

    reads = vblk_play_start_loaded(p, &writes);
    migrate(p);
    vblk_note_answers(p, writes);
    vblk_note_answers(p, reads);
    vblk_note_written(p, writes);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static void play_scattered(VblkPlay *p)
{
    VblkLoad *load;

    load = vblk_play_start_scattered(p);
    migrate(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* Kicked while the VM is stopped, then migrated, there and back. */
static void play_kicked(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    for (unsigned i = 0; i < 2; i++) {
        vblk_play_stop(p);
        load = vblk_load_new(p, i ? "second" : "first", OUT, i * 1024, 4);
        vblk_play_kick(p);
        migrate(p);
        vblk_note_answers(p, load);
        vblk_note_written(p, load);
    }
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static void wait_status(VblkPlay *p, const char *wanted)
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
        vblk_deadline(start, "pre-switchover");
    }
}

static void begin_pausing(VblkPlay *p, const char *file)
{
    vblk_play_go(p, "migrate-set-capabilities", "{'capabilities': ["
                 "{'capability': 'pause-before-switchover', 'state': true}]}");
    vblk_machine_migrate_begin(p->m, file);
    wait_status(p, "pre-switchover");
}

/*
 * The target serves requests that come between the guest's stop and the
 * switch-over.  The source may not use its disk any more.
 */
static void play_pre_switchover(VblkPlay *p)
{
    char *file = vblk_image_new(0);
    VblkMachine *to;
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    to = vblk_play_target(p);
    begin_pausing(p, file);
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    vblk_note_state(p);
    vblk_note_frozen(p, "pre-switchover", f);
    vblk_play_go(p, "migrate-continue", "{'state': 'pre-switchover'}");
    switch_over(p, to, file);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
    vblk_image_free(file);
}

/* The same with a slow disk and more than a slab holds under way before */
static void play_pre_switchover_load(VblkPlay *p)
{
    char *file = vblk_image_new(0);
    VblkMachine *to;
    VblkFreeze *f;
    VblkLoad *load;

    load = vblk_play_start_scattered(p);
    to = vblk_play_target(p);
    begin_pausing(p, file);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    vblk_note_state(p);
    vblk_note_frozen(p, "pre-switchover", f);
    vblk_play_go(p, "migrate-continue", "{'state': 'pre-switchover'}");
    switch_over(p, to, file);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
    vblk_image_free(file);
}

/* The migration is cancelled at the last moment, and the source goes on. */
static void play_cancelled(VblkPlay *p)
{
    char *file = vblk_image_new(0);
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    begin_pausing(p, file);
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    vblk_note_state(p);
    vblk_note_frozen(p, "pre-switchover", f);
    vblk_play_go(p, "migrate_cancel", "%s", "");
    qtest_qmp_eventwait(p->m->qts, "RESUME");
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
    vblk_image_free(file);
}

/* A request that has failed goes along, and so does what was kicked later. */
static void play_held(VblkPlay *p)
{
    VblkLoad *load, *more;

    load = vblk_play_start_held(p);
    more = vblk_load_new(p, "more", OUT, 1024, 4);
    vblk_play_kick(p);
    migrate(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_answers(p, more);
    vblk_note_written(p, more);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static bool is_broken(VblkPlay *p)
{
    QDict *info = qtest_qmp_assert_success_ref(
        p->m->qts, "{'execute': 'x-query-virtio-status',"
        " 'arguments': {'path': '" VBLK_PLAY_QOM "'}}");
    bool broken = qdict_get_bool(info, "broken");

    qobject_unref(info);
    return broken;
}

/* A request whose header is too short */
static void break_device(VblkPlay *p)
{
    VblkRequest *r = vblk_request_new(p->d->queues[2], IN, 0, 0);
    VblkSegment segs[] = { { r->header, 8, false }, { r->status, 1, true } };
    gint64 start = g_get_monotonic_time();

    vblk_request_add_segs(r, segs, ARRAY_SIZE(segs), false);
    vblk_queue_kick(r->queue);
    while (!is_broken(p)) {
        vblk_deadline(start, "a broken device");
    }
}

/* The driver has broken one queue.  The positions of the others are sent. */
static void play_broken(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) {});
    for (unsigned i = 0; i < 20; i++) {
        vblk_note_works(p, "at first");
    }
    break_device(p);
    migrate(p);
    vblk_note(p, "broken: %s", is_broken(p) ? "yes" : "no");
    vblk_play_drive(p);
    vblk_note(p, "broken: %s", is_broken(p) ? "yes" : "no");
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

#define RUNNING "run state: running\n"
#define FOUR(what) what what what what
#define PRE_SWITCHOVER VBLK_AS_IT_WAS("pre-switchover")

static const VblkCase cases[] = {
    {
        .name = "migrate/load", .play = play_load,
        .want = RUNNING VBLK_OK("writes", 16) VBLK_OK("reads", 16)
                VBLK_ON_DISK("writes", 16) VBLK_WORKS("in the end"),
    }, {
        .name = "migrate/scattered", .play = play_scattered, .quick = true,
        .want = RUNNING VBLK_OK("writes", 150) VBLK_ON_DISK("writes", 150)
                VBLK_WORKS("in the end"),
    }, {
        .name = "migrate/kicked", .play = play_kicked,
        .want = VBLK_WORKS("at first") RUNNING VBLK_OK("first", 16)
                VBLK_ON_DISK("first", 16) RUNNING VBLK_OK("second", 16)
                VBLK_ON_DISK("second", 16) VBLK_WORKS("in the end"),
    }, {
        .name = "migrate/pre-switchover", .play = play_pre_switchover,
        .quick = true,
        .want = VBLK_WORKS("at first") "run state: finish-migrate\n"
                PRE_SWITCHOVER RUNNING VBLK_OK("writes", 16)
                VBLK_ON_DISK("writes", 16) VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "migrate/pre-switchover-load",
        .play = play_pre_switchover_load,
        .want = "run state: finish-migrate\n" PRE_SWITCHOVER RUNNING
                VBLK_OK("writes", 150) VBLK_ON_DISK("writes", 150)
                VBLK_WORKS("in the end"),
    }, {
        .name = "migrate/cancelled", .play = play_cancelled,
        .want = VBLK_WORKS("at first") "run state: finish-migrate\n"
                PRE_SWITCHOVER VBLK_OK("writes", 16) VBLK_ON_DISK("writes", 16)
                VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "migrate/held", .play = play_held, .not_in_order = true,
        .want = "run state: io-error\n" RUNNING
                VBLK_OK("writes", 4) VBLK_ON_DISK("writes", 4)
                VBLK_OK("more", 16) VBLK_ON_DISK("more", 16)
                VBLK_WORKS("in the end"),
        .stock_differs_in = VBLK_IN_ALL,
        .why = "QEMU 10.0 cannot read its stream of a packed ring's requests",
    }, {
        .name = "migrate/broken", .play = play_broken, .quick = true,
        .want = FOUR(FOUR(VBLK_WORKS("at first"))) FOUR(VBLK_WORKS("at first"))
                RUNNING "broken: yes\nbroken: no\n" VBLK_WORKS("after reset"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
