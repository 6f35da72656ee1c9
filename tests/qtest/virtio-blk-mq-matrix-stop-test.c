/*
 * The matrix: a VM that stops and goes on, and commands that drain
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* Chains that are kicked while the VM is stopped wait until it goes on. */
static void kicked(VblkPlay *p, unsigned drains)
{
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    vblk_play_stop(p);
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    if (drains) {
        vblk_play_storm(p, drains);
    } else {
        vblk_note_state(p);
    }
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static void play_kicked(VblkPlay *p)
{
    kicked(p, 3);
}

static void play_kicked_quietly(VblkPlay *p)
{
    kicked(p, 0);
}

/* Drains must not find a chain that is exposed before the stop, not kicked. */
static void play_exposed(VblkPlay *p)
{
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    vblk_play_stop(p);
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_storm(p, 3);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_play_notify(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_play_end(p);
}

/* Requests that wait for a throttled disk end with the stop, or later. */
static void play_load(VblkPlay *p)
{
    VblkFreeze *f;
    VblkLoad *writes, *reads;

    reads = vblk_play_start_loaded(p, &writes);
    vblk_play_stop(p);
    vblk_note_so_far(p, writes);
    vblk_note_so_far(p, reads);
    vblk_note_written(p, writes);
    f = vblk_freeze(p, writes);
    vblk_play_storm(p, 3);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* More segments than most guests send, more requests than a slab holds */
static void play_scattered(VblkPlay *p)
{
    VblkFreeze *f;
    VblkLoad *load;

    load = vblk_play_start_scattered(p);
    vblk_play_stop(p);
    f = vblk_freeze(p, load);
    vblk_play_storm(p, 2);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* Stop and go on with requests in flight, without waiting for anything */
static void play_again(VblkPlay *p)
{
    VblkLoad *loads[8];

    vblk_play_start(p, (VblkPlayDisk) { .iops = VBLK_PLAY_SLOW });
    for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
        loads[i] = vblk_load_new(p, "writes", OUT, i * 512, 4);
        vblk_play_kick(p);
        vblk_play_stop(p);
        if (i % 2) {
            vblk_play_reopen(p, 0);
        }
        vblk_play_cont(p);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
        vblk_note_answers(p, loads[i]);
    }
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* The second write, on queue 1, fails and stops the VM; more is kicked then. */
static void play_held(VblkPlay *p)
{
    VblkLoad *load, *more;
    VblkFreeze *f;

    load = vblk_play_start_held(p);
    more = vblk_load_new(p, "more", OUT, 1024, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, more);
    vblk_play_notify(p);
    vblk_play_storm(p, 2);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_answers(p, more);
    vblk_note_written(p, more);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* All that drains, under load */
static void play_storm_at(VblkPlay *p, unsigned iops)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .iops = iops });
    for (unsigned i = 0; i < 6; i++) {
        load = vblk_load_new(p, "writes", OUT, i * 1024, 16);
        vblk_play_kick(p);
        vblk_play_storm(p, 1);
        vblk_note_answers(p, load);
        vblk_note_written(p, load);
        vblk_load_free(load);
    }
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static void play_storm(VblkPlay *p)
{
    play_storm_at(p, 0);
}

/* The same while requests wait for a limit.  Each drain lets them through. */
static void play_slow_storm(VblkPlay *p)
{
    play_storm_at(p, VBLK_PLAY_SLOW);
}

/* The device's own limits come and go with requests waiting for them. */
static void play_limits(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    for (unsigned i = 0; i < 6; i++) {
        vblk_play_limit(p, 10);
        load = vblk_load_new(p, "writes", OUT, i * 1024, 16);
        vblk_play_kick(p);
        vblk_clock_advance(p->m, 200);
        vblk_play_limit(p, 20);
        vblk_play_limit(p, 0);
        vblk_note_answers(p, load);
        vblk_note_written(p, load);
        vblk_load_free(load);
    }
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* Overlays on overlays, in transactions that fail or not */
static void play_snapshots(VblkPlay *p)
{
    static const char *const nodes[] = { "disk", "top1", "top2", "top3" };
    char *files[ARRAY_SIZE(nodes) - 1];
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        files[i] = vblk_image_new(0);
        load = vblk_load_new(p, "writes", OUT, i * 1024, 16);
        vblk_play_kick(p);
        vblk_play_go(p, "transaction", "{'actions': ["
                     "{'type': 'blockdev-snapshot-sync', 'data': {"
                     " 'node-name': '%s', 'snapshot-file': '%s',"
                     " 'snapshot-node-name': '%s', 'format': 'qcow2'}}]}",
                     nodes[i], files[i], nodes[i + 1]);
        vblk_note_answers(p, load);
        vblk_load_free(load);
    }
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        vblk_image_free(files[i]);
    }
}

#define AS_IT_WAS VBLK_AS_IT_WAS("stopped")

#define SIX(text) text text text text text text

static const VblkCase cases[] = {
    {
        .name = "stop/kicked", .play = play_kicked, .quick = true,
        .want = VBLK_WORKS("at first") AS_IT_WAS VBLK_OK("writes", 16)
                VBLK_ON_DISK("writes", 16) VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "stop/kicked-quietly", .play = play_kicked_quietly,
        .want = VBLK_WORKS("at first") "run state: paused\n" AS_IT_WAS
                VBLK_OK("writes", 16) VBLK_ON_DISK("writes", 16)
                VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "stop/exposed", .play = play_exposed,
        .want = VBLK_WORKS("at first") AS_IT_WAS VBLK_OK("writes", 16)
                VBLK_ON_DISK("writes", 16),
    }, {
        .name = "stop/load", .play = play_load, .quick = true,
        .want = VBLK_OK("writes", 16) VBLK_OK("reads", 16)
                VBLK_ON_DISK("writes", 16) AS_IT_WAS VBLK_WORKS("in the end"),
    }, {
        .name = "stop/scattered", .play = play_scattered, .quick = true,
        .want = AS_IT_WAS VBLK_OK("writes", 150) VBLK_ON_DISK("writes", 150)
                VBLK_WORKS("in the end"),
    }, {
        .name = "stop/again", .play = play_again,
        .want = SIX(VBLK_OK("writes", 16)) VBLK_OK("writes", 16)
                VBLK_OK("writes", 16) VBLK_WORKS("in the end"),
    }, {
        .name = "stop/held", .play = play_held, .quick = true,
        .want = "run state: io-error\n" AS_IT_WAS
                VBLK_OK("writes", 4) VBLK_ON_DISK("writes", 4)
                VBLK_OK("more", 16) VBLK_ON_DISK("more", 16)
                VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "drain/storm", .play = play_storm, .quick = true,
        .want = SIX(VBLK_OK("writes", 64) VBLK_ON_DISK("writes", 64))
                VBLK_WORKS("in the end"),
    }, {
        .name = "drain/slow-storm", .play = play_slow_storm,
        .want = SIX(VBLK_OK("writes", 64) VBLK_ON_DISK("writes", 64))
                VBLK_WORKS("in the end"),
    }, {
        .name = "drain/limits", .play = play_limits,
        .want = SIX(VBLK_OK("writes", 64) VBLK_ON_DISK("writes", 64))
                VBLK_WORKS("in the end"),
        .ours_only = true,
        .why = "QEMU 10.0 may arm a limit's timer for a disk that leaves "
               "it, and then aborts or hangs",
    }, {
        .name = "drain/snapshots", .play = play_snapshots,
        .want = VBLK_OK("writes", 64) VBLK_OK("writes", 64)
                VBLK_OK("writes", 64) VBLK_WORKS("in the end"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
