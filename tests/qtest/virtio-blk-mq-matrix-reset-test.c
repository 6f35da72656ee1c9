/*
 * The matrix: drivers that reset, take bus mastering away, or are slow to set
 * up their rings; devices that are unplugged
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/*
 * A slow disk with requests in flight on every queue.  What the limit lets
 * through at once, the device has used up when it read the partition table.
 */
static MqLoad *start_loaded(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    mq_load_new(p, "writes", OUT, 0, 4);
    load = mq_load_new(p, "reads", IN, 4096, 4);
    mq_play_kick(p);
    mq_play_wait_taken(p);
    return load;
}

/* Time for what may still be there, and commands that would stir it */
static void time_passes(MqPlay *p)
{
    mq_clock_advance(p->m, 500);
    mq_play_storm(p, 1);
    mq_clock_advance(p->m, 500);
}

static void play_reset(MqPlay *p)
{
    MqLoad *load = start_loaded(p);
    GArray *old = mq_places(p, load);
    MqFreeze *f;

    mq_device_reset(p->d);
    f = mq_freeze_places(p, old);
    time_passes(p);
    mq_note_frozen(p, "after reset", f);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    load = mq_load_new(p, "reads", IN, 4096, 4);
    mq_play_kick(p);
    mq_note_answers(p, load);
    mq_play_end(p);
}

static void play_reset_scattered(MqPlay *p)
{
    MqLoad *load;
    MqFreeze *f;
    GArray *old;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    load = mq_load_scattered(p, "writes", 150, 40);
    mq_play_kick(p);
    old = mq_places(p, load);
    mq_device_reset(p->d);
    f = mq_freeze_places(p, old);
    time_passes(p);
    mq_note_frozen(p, "after reset", f);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

static void play_reset_system(MqPlay *p)
{
    MqLoad *load = start_loaded(p);
    GArray *old = mq_places(p, load);
    MqFreeze *f;

    mq_device_close(p->d);
    qtest_system_reset(p->m->qts);
    mq_machine_init_pci(p->m);
    p->d = mq_device_open(p->m, 0);
    mq_note(p, "status: %u", mq_device_status(p->d));
    f = mq_freeze_places(p, old);
    time_passes(p);
    mq_note_frozen(p, "after reset", f);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

/* All of a driver's life while the VM is stopped */
static void play_reset_stopped(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *load;

    start_loaded(p);
    mq_play_stop(p);
    mq_device_reset(p->d);
    mq_play_drive(p);
    load = mq_load_new(p, "later", OUT, 1024, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_play_storm(p, 2);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static MqLoad *start_held(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .errors = MQ_ONE_ERROR,
                                    .props = ", 'werror': 'stop'" });
    load = mq_load_new(p, "writes", OUT, 0, 1);
    mq_play_kick(p);
    qtest_qmp_eventwait(p->m->qts, "STOP");
    mq_note_state(p);
    return load;
}

/* A failed request is held back when the driver resets the device. */
static void play_reset_held(MqPlay *p)
{
    MqLoad *load = start_held(p);
    GArray *old = mq_places(p, load);
    MqFreeze *f;

    mq_device_reset(p->d);
    f = mq_freeze_places(p, old);
    mq_play_cont(p);
    time_passes(p);
    mq_note_frozen(p, "after reset", f);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

/*
 * Each queue is reset and set up again; all of the device at once where the
 * interface has no reset of a queue.
 */
static void renew_queues(MqPlay *p, MqLoad *load, const char *when)
{
    GArray *old = mq_places(p, load);
    MqFreeze *f;

    if (!(p->d->features & BIT_ULL(VIRTIO_F_RING_RESET))) {
        mq_device_reset(p->d);
        f = mq_freeze_places(p, old);
        mq_play_drive(p);
    } else {
        for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
            mq_device_reset_queue(p->d, q);
        }
        f = mq_freeze_places(p, old);
        for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
            mq_queue_new(p->d, q);
        }
    }
    time_passes(p);
    mq_note_frozen(p, when, f);
}

static void play_queues_load(MqPlay *p)
{
    MqLoad *load = start_loaded(p);

    renew_queues(p, load, "after reset");
    mq_note_works(p, "after reset");
    mq_play_stop(p);
    mq_play_cont(p);
    mq_note_works(p, "after a stop");
    mq_play_end(p);
}

static void play_queues_stopped(MqPlay *p)
{
    MqLoad *load = start_loaded(p);
    MqFreeze *f;

    mq_play_stop(p);
    renew_queues(p, load, "after reset");
    load = mq_load_new(p, "later", OUT, 1024, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_play_storm(p, 2);
    mq_note_frozen(p, "stopped", f);
    mq_play_cont(p);
    mq_note_answers(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static void play_queues_held(MqPlay *p)
{
    MqLoad *load = start_held(p);

    renew_queues(p, load, "after reset");
    mq_play_cont(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

/*
 * Bus mastering
 */

static void set_master(MqPlay *p, bool on)
{
    uint16_t cmd = qpci_config_readw(p->d->pci, PCI_COMMAND);

    qpci_config_writew(p->d->pci, PCI_COMMAND,
                       on ? cmd | PCI_COMMAND_MASTER
                          : cmd & ~PCI_COMMAND_MASTER);
}

/*
 * Nothing is written to the rings from then on.  Data may be: the device has
 * mapped the requests' buffers.
 */
static void play_master_load(MqPlay *p)
{
    MqFreeze *f;

    start_loaded(p);
    set_master(p, false);
    f = mq_freeze(p, NULL);
    time_passes(p);
    mq_note_memory_frozen(p, "no bus master", f);
    set_master(p, true);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

/* The same with the freeze before: not even the clearing writes to them. */
static void play_master_at_once(MqPlay *p)
{
    MqFreeze *f;

    start_loaded(p);
    f = mq_freeze(p, NULL);
    set_master(p, false);
    time_passes(p);
    mq_note_memory_frozen(p, "no bus master", f);
    set_master(p, true);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

/* Kicked without bus mastering */
static void play_master_kicked(MqPlay *p)
{
    MqFreeze *f;
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    set_master(p, false);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    time_passes(p);
    mq_note_frozen(p, "no bus master", f);
    set_master(p, true);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

static void note_driver_ok(MqPlay *p, const char *when)
{
    mq_note(p, "DRIVER_OK %s: %s", when,
            mq_device_status(p->d) & VIRTIO_CONFIG_S_DRIVER_OK ? "yes" : "no");
}

/* And then the driver goes on where it was. */
static void play_master_back(MqPlay *p)
{
    MqLoad *load;
    uint8_t status;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    status = mq_device_status(p->d);
    set_master(p, false);
    note_driver_ok(p, "without");
    set_master(p, true);
    note_driver_ok(p, "with");
    mq_device_set_status(p->d, status);
    note_driver_ok(p, "written");
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_kick(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

static void play_master_stopped(MqPlay *p)
{
    MqLoad *load = start_loaded(p);
    MqFreeze *f;

    mq_play_stop(p);
    set_master(p, false);
    f = mq_freeze(p, load);
    mq_play_notify(p);
    mq_play_cont(p);
    time_passes(p);
    mq_note_frozen(p, "no bus master", f);
    set_master(p, true);
    mq_play_drive(p);
    mq_note_works(p, "after reset");
    mq_play_end(p);
}

/*
 * Unplug
 */

/* The device goes, its memory stays as it is, and another one comes. */
static void unplug(MqPlay *p, MqLoad *load)
{
    GArray *old = mq_places(p, load);
    MqFreeze *f;

    mq_device_del(p->m, 0);
    mq_device_close(p->d);
    f = mq_freeze_places(p, old);
    mq_clock_advance(p->m, 1000);
    mq_note_frozen(p, "unplugged", f);
    mq_note_state(p);
}

static void plug_again(MqPlay *p)
{
    mq_play_renew(p);
    mq_play_plug(p, NULL);
    mq_play_drive(p);
    mq_note_works(p, "plugged again");
}

static void play_unplug_load(MqPlay *p)
{
    for (unsigned i = 0; i < 2; i++) {
        MqLoad *load = i ? mq_load_new(p, "reads", IN, 4096, 4)
                         : start_loaded(p);

        mq_play_kick(p);
        unplug(p, load);
        plug_again(p);
    }
    mq_play_end(p);
}

static void play_unplug_scattered(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .iops = MQ_PLAY_SLOW });
    load = mq_load_scattered(p, "writes", 150, 40);
    mq_play_kick(p);
    unplug(p, load);
    plug_again(p);
    mq_play_end(p);
}

/* With a device limit, whose timers must not be left behind */
static void play_unplug_limited(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_play_go(p, "block_set_io_throttle", "{'id': '" MQ_PLAY_QOM "',"
               " 'bps': 0, 'bps_rd': 0, 'bps_wr': 0, 'iops': 10,"
               " 'iops_rd': 0, 'iops_wr': 0}");
    load = mq_load_new(p, "writes", OUT, 0, 16);
    mq_play_kick(p);
    mq_clock_advance(p->m, 300);
    unplug(p, load);
    plug_again(p);
    mq_play_end(p);
}

static void play_unplug_stopped(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    mq_play_stop(p);
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_expose(p);
    unplug(p, load);
    mq_play_cont(p);
    plug_again(p);
    mq_play_end(p);
}

static void play_unplug_held(MqPlay *p)
{
    MqLoad *load = start_held(p);

    unplug(p, load);
    mq_play_cont(p);
    plug_again(p);
    mq_play_end(p);
}

/*
 * Setting up
 */

/* One ring first, the others when it has been used for a while. */
static void play_late(MqPlay *p)
{
    MqRequest *r;

    mq_play_start(p, (MqPlayDisk) { .no_driver = true });
    mq_device_start(p->d, p->cell->features, 1);
    mq_note_run(p, "queue 0 alone", 0, OUT, 0);
    for (unsigned q = 1; q < MQ_MATRIX_QUEUES; q++) {
        mq_queue_new(p->d, q);
        mq_note_run(p, "queue set up late", q, OUT, q);
        mq_note_run(p, "queue 0", 0, IN, q);
    }
    mq_note_works(p, "in the end");
    r = mq_read_new(p->d->queues[3], 0, MQ_SECTOR);
    mq_request_submit(r);
    mq_play_stop(p);
    mq_play_cont(p);
    mq_note_works(p, "after a stop");
    mq_play_end(p);
}

/* Kicked before DRIVER_OK, as old drivers do. */
static void play_early(MqPlay *p)
{
    MqLoad *load;

    mq_play_start(p, (MqPlayDisk) { .no_driver = true });
    mq_device_negotiate(p->d, ~(MQ_RING_FEATURES & ~p->cell->features));
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        mq_queue_new(p->d, q);
    }
    load = mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_kick(p);
    mq_device_set_driver_ok(p->d);
    mq_play_notify(p);
    mq_note_answers(p, load);
    mq_note_written(p, load);
    mq_note_works(p, "in the end");
    mq_play_end(p);
}

/* IOThreads want ioeventfd, which the cells of this case do not have. */
static void play_refused(MqPlay *p)
{
    mq_play_prepare(p, (MqPlayDisk) {});
    mq_note_plug(p, "iothread", ", 'iothread': 'io0'");
    mq_note_plug(p, "mapping", ", 'iothread-vq-mapping':"
                 " [{'iothread': 'io0'}, {'iothread': 'io1'}]");
    if (mq_cell_has_ours(p)) {
        mq_note_plug(p, "ours: auto", ", 'iothreads': 'auto'");
    }
    mq_play_plug(p, NULL);
    mq_play_drive(p);
    mq_note_works(p, "without");
    mq_play_end(p);
}

/*
 * QEMU ends in the middle of it, which mq_play_end() wants to go well.
 */
static void play_quit_load(MqPlay *p)
{
    start_loaded(p);
    mq_play_end(p);
}

static void play_quit_stopped(MqPlay *p)
{
    mq_play_start(p, (MqPlayDisk) {});
    mq_note_works(p, "at first");
    mq_play_stop(p);
    mq_load_new(p, "writes", OUT, 0, 4);
    mq_play_kick(p);
    mq_play_end(p);
}

static void play_quit_held(MqPlay *p)
{
    start_held(p);
    mq_play_end(p);
}

#define AS_IT_WAS(when) when ": memory as it was, disk as it was\n"
#define MEMORY_AS_IT_WAS(when) when ": memory as it was\n"
#define REMOVED "disk removed: done\n"
#define PLUGGED AS_IT_WAS("unplugged") "run state: running\n" REMOVED
#define AGAIN MQ_WORKS("plugged again")
#define SLOW_PLUGGED PLUGGED "limit removed: done\n" AGAIN
#define LATE "queue set up late: status 0\nqueue 0: status 0\n"

static const MqCase cases[] = {
    {
        .name = "reset/load", .play = play_reset, .quick = true,
        .want = AS_IT_WAS("after reset") MQ_WORKS("after reset")
                MQ_OK("reads", 16),
    }, {
        .name = "reset/scattered", .play = play_reset_scattered,
        .want = AS_IT_WAS("after reset") MQ_WORKS("after reset"),
    }, {
        .name = "reset/system", .play = play_reset_system,
        .want = "status: 0\n" AS_IT_WAS("after reset") MQ_WORKS("after reset"),
    }, {
        .name = "reset/stopped", .play = play_reset_stopped,
        .want = AS_IT_WAS("stopped") MQ_OK("later", 16) MQ_ON_DISK("later", 16)
                MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "reset/held", .play = play_reset_held,
        .want = "run state: io-error\n" AS_IT_WAS("after reset")
                MQ_WORKS("after reset"),
    }, {
        .name = "queues/load", .play = play_queues_load, .quick = true,
        .want = AS_IT_WAS("after reset") MQ_WORKS("after reset")
                MQ_WORKS("after a stop"),
        .ours_only = true,
        .why = "stock answers requests of before the reset in the new ring",
    }, {
        .name = "queues/stopped", .play = play_queues_stopped,
        .want = AS_IT_WAS("after reset") AS_IT_WAS("stopped")
                MQ_OK("later", 16) MQ_WORKS("in the end"),
        MQ_STOCK_SERVES_STOPPED,
    }, {
        .name = "queues/held", .play = play_queues_held,
        .want = "run state: io-error\n" AS_IT_WAS("after reset")
                MQ_WORKS("after reset"),
        .ours_only = true,
        .why = "stock submits requests of before the reset once more",
    }, {
        .name = "master/load", .play = play_master_load, .quick = true,
        .want = MEMORY_AS_IT_WAS("no bus master") MQ_WORKS("after reset"),
    }, {
        .name = "master/at-once", .play = play_master_at_once,
        .want = MEMORY_AS_IT_WAS("no bus master") MQ_WORKS("after reset"),
    }, {
        .name = "master/kicked", .play = play_master_kicked,
        .want = MQ_WORKS("at first") AS_IT_WAS("no bus master")
                MQ_WORKS("after reset"),
        .stock_differs_in = MQ_IN_ALL,
        .why = "stock moves the event index for a kick without bus mastering",
    }, {
        .name = "master/back", .play = play_master_back,
        .want = MQ_WORKS("at first") "DRIVER_OK without: no\n"
                "DRIVER_OK with: no\nDRIVER_OK written: yes\n"
                MQ_OK("writes", 16) MQ_ON_DISK("writes", 16)
                MQ_WORKS("in the end"),
    }, {
        .name = "master/stopped", .play = play_master_stopped,
        .want = AS_IT_WAS("no bus master") MQ_WORKS("after reset"),
    }, {
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
        .want = MQ_WORKS("at first") AS_IT_WAS("unplugged")
                "run state: paused\n" REMOVED AGAIN,
    }, {
        .name = "unplug/held", .play = play_unplug_held,
        .want = "run state: io-error\n" AS_IT_WAS("unplugged")
                "run state: io-error\n" REMOVED AGAIN,
    }, {
        .name = "rings/late", .play = play_late, .quick = true,
        .want = "queue 0 alone: status 0\n" LATE LATE LATE
                MQ_WORKS("in the end") MQ_WORKS("after a stop"),
    }, {
        .name = "rings/early", .play = play_early,
        .want = MQ_OK("writes", 16) MQ_ON_DISK("writes", 16)
                MQ_WORKS("in the end"),
    }, {
        .name = "rings/refused", .play = play_refused, .quick = true,
        .where = MQ_IN_NO_IOEVENTFD,
        .want = "iothread: ioeventfd is required for iothread\n"
                "mapping: ioeventfd is required for iothread\n"
                "ours: auto: ioeventfd is required for iothread\n"
                MQ_WORKS("without"),
    }, {
        .name = "quit/load", .play = play_quit_load, .want = "",
    }, {
        .name = "quit/stopped", .play = play_quit_stopped,
        .want = MQ_WORKS("at first"),
    }, {
        .name = "quit/held", .play = play_quit_held,
        .want = "run state: io-error\n",
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mq_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
