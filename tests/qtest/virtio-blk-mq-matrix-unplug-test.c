/*
 * The matrix: devices that are unplugged, and a QEMU that ends
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* The device goes, its memory stays as it is, and another one comes. */
static void unplug(VblkPlay *p, VblkLoad *load)
{
    GArray *old = vblk_places(p, load);
    VblkFreeze *f;

    vblk_device_del(p->m, 0);
    vblk_device_close(p->d);
    f = vblk_freeze_places(p, old);
    vblk_clock_advance(p->m, 1000);
    vblk_note_frozen(p, "unplugged", f);
    vblk_note_state(p);
}

static void plug_again(VblkPlay *p)
{
    vblk_play_renew(p);
    vblk_play_plug(p, NULL);
    vblk_play_drive(p);
    vblk_note_works(p, "plugged again");
}

static void play_unplug_load(VblkPlay *p)
{
    for (unsigned i = 0; i < 2; i++) {
        VblkLoad *load = i ? vblk_load_new(p, "reads", IN, 4096, 4)
                           : vblk_play_start_loaded(p, NULL);

        vblk_play_kick(p);
        unplug(p, load);
        plug_again(p);
    }
    vblk_play_end(p);
}

static void play_unplug_scattered(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_scattered(p);

    unplug(p, load);
    plug_again(p);
    vblk_play_end(p);
}

/* With a device limit, whose timers must not be left behind */
static void play_unplug_limited(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_play_limit(p, 10);
    load = vblk_load_new(p, "writes", OUT, 0, 16);
    vblk_play_kick(p);
    vblk_clock_advance(p->m, 300);
    unplug(p, load);
    plug_again(p);
    vblk_play_end(p);
}

static void play_unplug_stopped(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    vblk_play_stop(p);
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_expose(p);
    unplug(p, load);
    vblk_play_cont(p);
    plug_again(p);
    vblk_play_end(p);
}

static void play_unplug_held(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_held(p);

    unplug(p, load);
    vblk_play_cont(p);
    plug_again(p);
    vblk_play_end(p);
}

/*
 * QEMU ends in the middle of it, which vblk_play_end() wants to go well.
 */
static void play_quit_load(VblkPlay *p)
{
    vblk_play_start_loaded(p, NULL);
    vblk_play_end(p);
}

static void play_quit_stopped(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    vblk_play_stop(p);
    vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_kick(p);
    vblk_play_end(p);
}

static void play_quit_held(VblkPlay *p)
{
    vblk_play_start_held(p);
    vblk_play_end(p);
}

#define REMOVED "disk removed: done\n"
#define PLUGGED VBLK_AS_IT_WAS("unplugged") "run state: running\n" REMOVED
#define AGAIN VBLK_WORKS("plugged again")
#define SLOW_PLUGGED PLUGGED "limit removed: done\n" AGAIN

static const VblkCase cases[] = {
    {
        .name = "unplug/load", .play = play_unplug_load, .quick = true,
        .want = SLOW_PLUGGED SLOW_PLUGGED,
    }, {
        .name = "unplug/scattered", .play = play_unplug_scattered,
        .want = SLOW_PLUGGED,
    }, {
        .name = "unplug/limited", .play = play_unplug_limited,
        .want = PLUGGED AGAIN,
    }, {
        .name = "unplug/stopped", .play = play_unplug_stopped,
        .want = VBLK_WORKS("at first") VBLK_AS_IT_WAS("unplugged")
                "run state: paused\n" REMOVED AGAIN,
    }, {
        .name = "unplug/held", .play = play_unplug_held,
        .want = "run state: io-error\n" VBLK_AS_IT_WAS("unplugged")
                "run state: io-error\n" REMOVED AGAIN,
    }, {
        .name = "quit/load", .play = play_quit_load, .want = "",
    }, {
        .name = "quit/stopped", .play = play_quit_stopped,
        .want = VBLK_WORKS("at first"),
    }, {
        .name = "quit/held", .play = play_quit_held,
        .want = "run state: io-error\n",
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
