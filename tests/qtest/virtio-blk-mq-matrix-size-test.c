/*
 * The matrix: a disk that becomes smaller or larger
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

#define HALF (VBLK_PLAY_SIZE / 2)
#define DOUBLE (2 * VBLK_PLAY_SIZE)
#define STOPPING ", 'werror': 'stop', 'rerror': 'stop'"

static void resize(VblkPlay *p, uint64_t size)
{
    vblk_play_go(p, "block_resize", "{'node-name': 'disk', 'size': %" PRIu64
                 "}", size);
}

/* The message of the configuration's vector comes from the main loop. */
static void note_config_interrupt(VblkPlay *p, const char *name)
{
    bool came;

    g_free(qtest_hmp(p->m->qts, "info block"));
    came = vblk_vector_take(p->d, 0);
    vblk_note(p, "configuration interrupt %s: %s", name, came ? "yes" : "no");
}

/*
 * Use one sector more than the disk has, with the policy that stops the VM.
 * Read the capacity last, because a device may look at the disk for that.
 */
static void note_edge(VblkPlay *p, const char *name, uint64_t size)
{
    uint64_t end = size / VBLK_SECTOR;

    vblk_note(p, "%s:", name);
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        vblk_note_run(p, "read of the last", q, IN, end - 1);
        vblk_note_run(p, "read beyond", q, IN, end);
        vblk_note_run(p, "write beyond", q, OUT, end);
    }
    vblk_note_capacity(p, "shown");
    vblk_note_state(p);
}

static void play_reopen(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) { .props = STOPPING });
    note_edge(p, "at first", VBLK_PLAY_SIZE);
    vblk_play_reopen(p, HALF);
    note_edge(p, "smaller", HALF);
    vblk_play_reopen(p, VBLK_PLAY_SIZE);
    note_edge(p, "larger", VBLK_PLAY_SIZE);
    vblk_play_end(p);
}

static void play_reopen_stopped(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) { .props = STOPPING });
    vblk_play_stop(p);
    vblk_play_reopen(p, HALF);
    vblk_play_cont(p);
    note_edge(p, "smaller", HALF);
    vblk_play_stop(p);
    vblk_play_reopen(p, VBLK_PLAY_SIZE);
    vblk_play_cont(p);
    note_edge(p, "larger", VBLK_PLAY_SIZE);
    vblk_play_end(p);
}

/* A request that was in the ring before, seen when its end is gone */
static void play_reopen_placed(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .props = STOPPING });
    load = vblk_load_new(p, "reads", IN, HALF / VBLK_SECTOR, 1);
    vblk_play_reopen(p, HALF);
    vblk_play_kick(p);
    vblk_note_answers(p, load);
    vblk_note_state(p);
    vblk_note_run(p, "in the first half", 1, OUT, 0);
    vblk_play_end(p);
}

static void play_resize(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) { .props = STOPPING });
    note_edge(p, "at first", VBLK_PLAY_SIZE);
    resize(p, HALF);
    note_config_interrupt(p, "when smaller");
    note_edge(p, "smaller", HALF);
    resize(p, DOUBLE);
    note_config_interrupt(p, "when larger");
    note_edge(p, "larger", DOUBLE);
    vblk_play_end(p);
}

static void play_resize_stopped(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) { .props = STOPPING });
    vblk_play_stop(p);
    resize(p, HALF);
    vblk_play_cont(p);
    note_config_interrupt(p, "when smaller");
    note_edge(p, "smaller", HALF);
    vblk_play_stop(p);
    resize(p, DOUBLE);
    vblk_play_cont(p);
    note_config_interrupt(p, "when larger");
    note_edge(p, "larger", DOUBLE);
    vblk_play_end(p);
}

/* Larger while requests are in flight, and larger again */
static void play_resize_load(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .iops = VBLK_PLAY_SLOW });
    for (unsigned i = 0; i < 4; i++) {
        load = vblk_load_new(p, "writes", OUT, 0, 8);
        vblk_play_kick(p);
        resize(p, VBLK_PLAY_SIZE + (i + 1) * VBLK_PLAY_SIZE / 4);
        vblk_note_answers(p, load);
        vblk_note_written(p, load);
    }
    note_edge(p, "in the end", DOUBLE);
    vblk_play_end(p);
}

/* To a size that is no multiple of a sector, which is rounded up in the file */
static void play_odd(VblkPlay *p)
{
    vblk_play_start(p, (VblkPlayDisk) { .props = STOPPING });
    vblk_play_try(p, "odd size", "block_resize", "{'node-name': 'disk',"
                  " 'size': %u}", HALF + 100);
    vblk_note_capacity(p, "after odd size");
    vblk_play_try(p, "no size", "block_resize", "{'node-name': 'disk',"
                  " 'size': -1}");
    vblk_note_capacity(p, "after no size");
    resize(p, 0);
    vblk_note_capacity(p, "of nothing");
    vblk_note_run(p, "read of nothing", 0, IN, 0);
    vblk_note_state(p);
    resize(p, VBLK_PLAY_SIZE);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

#define EDGE_ONE "read of the last: status 0\nread beyond: status 1\n" \
                 "write beyond: status 1\n"
#define EDGE(name, capacity) \
    name ":\n" EDGE_ONE EDGE_ONE EDGE_ONE EDGE_ONE \
    "capacity shown: " capacity "\nrun state: running\n"
#define INTERRUPT(when) "configuration interrupt " when ": yes\n"
#define LOAD "writes: 32 of 32 answered, 32 with status 0\n" \
             "writes: 32 of 32 on the disk\n"

static const VblkCase cases[] = {
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
                VBLK_WORKS("in the end"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
