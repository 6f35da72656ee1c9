/*
 * The matrix: drivers that reset, take bus mastering away, or are slow to set
 * up their rings
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* Time for what may still be there, and commands that would stir it */
static void time_passes(VblkPlay *p)
{
    vblk_clock_advance(p->m, 500);
    vblk_play_storm(p, 1);
    vblk_clock_advance(p->m, 500);
}

static void play_reset(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_loaded(p, NULL);
    GArray *old = vblk_places(p, load);
    VblkFreeze *f;

    vblk_device_reset(p->d);
    f = vblk_freeze_places(p, old);
    time_passes(p);
    vblk_note_frozen(p, "after reset", f);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    load = vblk_load_new(p, "reads", IN, 4096, 4);
    vblk_play_kick(p);
    vblk_note_answers(p, load);
    vblk_play_end(p);
}

static void play_reset_scattered(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_scattered(p);
    GArray *old = vblk_places(p, load);
    VblkFreeze *f;

    vblk_device_reset(p->d);
    f = vblk_freeze_places(p, old);
    time_passes(p);
    vblk_note_frozen(p, "after reset", f);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

static void play_reset_system(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_loaded(p, NULL);
    GArray *old = vblk_places(p, load);
    VblkFreeze *f;

    vblk_device_close(p->d);
    qtest_system_reset(p->m->qts);
    vblk_machine_init_pci(p->m);
    p->d = vblk_device_open(p->m, 0);
    vblk_note(p, "status: %u", vblk_device_status(p->d));
    f = vblk_freeze_places(p, old);
    time_passes(p);
    vblk_note_frozen(p, "after reset", f);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

/* All of a driver's life while the VM is stopped */
static void play_reset_stopped(VblkPlay *p)
{
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start_loaded(p, NULL);
    vblk_play_stop(p);
    vblk_device_reset(p->d);
    vblk_play_drive(p);
    load = vblk_load_new(p, "later", OUT, 1024, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    vblk_play_storm(p, 2);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* A failed request is held when the driver resets the device. */
static void play_reset_held(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_held(p);
    GArray *old = vblk_places(p, load);
    VblkFreeze *f;

    vblk_device_reset(p->d);
    f = vblk_freeze_places(p, old);
    vblk_play_cont(p);
    time_passes(p);
    vblk_note_frozen(p, "after reset", f);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

/*
 * Each queue is reset and set up again; all of the device at once where the
 * interface has no reset of a queue.
 */
static void renew_queues(VblkPlay *p, VblkLoad *load, const char *when)
{
    GArray *old = vblk_places(p, load);
    VblkFreeze *f;

    if (!(p->d->features & BIT_ULL(VIRTIO_F_RING_RESET))) {
        vblk_device_reset(p->d);
        f = vblk_freeze_places(p, old);
        vblk_play_drive(p);
    } else {
        for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
            vblk_device_reset_queue(p->d, q);
        }
        f = vblk_freeze_places(p, old);
        for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
            vblk_queue_new(p->d, q);
        }
    }
    time_passes(p);
    vblk_note_frozen(p, when, f);
}

static void play_queues_load(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_loaded(p, NULL);

    renew_queues(p, load, "after reset");
    vblk_note_works(p, "after reset");
    vblk_play_stop(p);
    vblk_play_cont(p);
    vblk_note_works(p, "after a stop");
    vblk_play_end(p);
}

static void play_queues_stopped(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_loaded(p, NULL);
    VblkFreeze *f;

    vblk_play_stop(p);
    renew_queues(p, load, "after reset");
    load = vblk_load_new(p, "later", OUT, 1024, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    vblk_play_storm(p, 2);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_answers(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static void play_queues_held(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_held(p);

    renew_queues(p, load, "after reset");
    vblk_play_cont(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

/*
 * Bus mastering
 */

static void set_master(VblkPlay *p, bool on)
{
    uint16_t cmd = qpci_config_readw(p->d->pci, PCI_COMMAND);

    qpci_config_writew(p->d->pci, PCI_COMMAND,
                       on ? cmd | PCI_COMMAND_MASTER
                          : cmd & ~PCI_COMMAND_MASTER);
}

/*
 * From then on the device writes nothing to the rings.  It may write data,
 * because it has mapped the buffers of the requests.
 */
static void play_master_load(VblkPlay *p)
{
    VblkFreeze *f;

    vblk_play_start_loaded(p, NULL);
    set_master(p, false);
    f = vblk_freeze(p, NULL);
    time_passes(p);
    vblk_note_memory_frozen(p, "no bus master", f);
    set_master(p, true);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

/* The rings are frozen before; the clearing does not write to them either. */
static void play_master_at_once(VblkPlay *p)
{
    VblkFreeze *f;

    vblk_play_start_loaded(p, NULL);
    f = vblk_freeze(p, NULL);
    set_master(p, false);
    time_passes(p);
    vblk_note_memory_frozen(p, "no bus master", f);
    set_master(p, true);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

/* The driver kicks without bus mastering. */
static void play_master_kicked(VblkPlay *p)
{
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    set_master(p, false);
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_expose(p);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    time_passes(p);
    vblk_note_frozen(p, "no bus master", f);
    set_master(p, true);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

static void note_driver_ok(VblkPlay *p, const char *when)
{
    vblk_note(p, "DRIVER_OK %s: %s", when,
              vblk_device_status(p->d) & VIRTIO_CONFIG_S_DRIVER_OK ? "yes"
                                                                   : "no");
}

/* The driver sets bus mastering again, and goes on where it was. */
static void play_master_back(VblkPlay *p)
{
    VblkLoad *load;
    uint8_t status;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    status = vblk_device_status(p->d);
    set_master(p, false);
    note_driver_ok(p, "without");
    set_master(p, true);
    note_driver_ok(p, "with");
    vblk_device_set_status(p->d, status);
    note_driver_ok(p, "written");
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_kick(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

static void play_master_stopped(VblkPlay *p)
{
    VblkLoad *load = vblk_play_start_loaded(p, NULL);
    VblkFreeze *f;

    vblk_play_stop(p);
    set_master(p, false);
    f = vblk_freeze(p, load);
    vblk_play_notify(p);
    vblk_play_cont(p);
    time_passes(p);
    vblk_note_frozen(p, "no bus master", f);
    set_master(p, true);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    vblk_play_end(p);
}

/*
 * Setting up
 */

/* The driver sets up one ring, uses it for a while, then sets up the others. */
static void play_late(VblkPlay *p)
{
    VblkRequest *r;

    vblk_play_start(p, (VblkPlayDisk) { .no_driver = true });
    vblk_device_start(p->d, p->cell->features, 1);
    vblk_note_run(p, "queue 0 alone", 0, OUT, 0);
    for (unsigned q = 1; q < VBLK_MATRIX_QUEUES; q++) {
        vblk_queue_new(p->d, q);
        vblk_note_run(p, "queue set up late", q, OUT, q);
        vblk_note_run(p, "queue 0", 0, IN, q);
    }
    vblk_note_works(p, "in the end");
    r = vblk_read_new(p->d->queues[3], 0, VBLK_SECTOR);
    vblk_request_submit(r);
    vblk_play_stop(p);
    vblk_play_cont(p);
    vblk_note_works(p, "after a stop");
    vblk_play_end(p);
}

/* Kicked before DRIVER_OK, as old drivers do. */
static void play_early(VblkPlay *p)
{
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .no_driver = true });
    vblk_device_negotiate(p->d, ~(VBLK_RING_FEATURES & ~p->cell->features));
    for (unsigned q = 0; q < VBLK_MATRIX_QUEUES; q++) {
        vblk_queue_new(p->d, q);
    }
    load = vblk_load_new(p, "writes", OUT, 0, 4);
    vblk_play_kick(p);
    vblk_device_set_driver_ok(p->d);
    vblk_play_notify(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    vblk_play_end(p);
}

/* IOThreads want ioeventfd, which the cells of this case do not have. */
static void play_refused(VblkPlay *p)
{
    vblk_play_prepare(p, (VblkPlayDisk) {});
    vblk_note_plug(p, "iothread", ", 'iothread': 'io0'");
    vblk_note_plug(p, "mapping", ", 'iothread-vq-mapping':"
                   " [{'iothread': 'io0'}, {'iothread': 'io1'}]");
    if (vblk_cell_has_ours(p)) {
        vblk_note_plug(p, "ours: auto", ", 'iothreads': 'auto'");
    }
    vblk_play_plug(p, NULL);
    vblk_play_drive(p);
    vblk_note_works(p, "without");
    vblk_play_end(p);
}

#define MEMORY_AS_IT_WAS(when) when ": memory as it was\n"
#define LATE "queue set up late: status 0\nqueue 0: status 0\n"

static const VblkCase cases[] = {
    {
        .name = "reset/load", .play = play_reset, .quick = true,
        .want = VBLK_AS_IT_WAS("after reset") VBLK_WORKS("after reset")
                VBLK_OK("reads", 16),
    }, {
        .name = "reset/scattered", .play = play_reset_scattered,
        .want = VBLK_AS_IT_WAS("after reset") VBLK_WORKS("after reset"),
    }, {
        .name = "reset/system", .play = play_reset_system,
        .want = "status: 0\n" VBLK_AS_IT_WAS("after reset")
                VBLK_WORKS("after reset"),
    }, {
        .name = "reset/stopped", .play = play_reset_stopped,
        .want = VBLK_AS_IT_WAS("stopped") VBLK_OK("later", 16)
                VBLK_ON_DISK("later", 16) VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "reset/held", .play = play_reset_held,
        .want = "run state: io-error\n" VBLK_AS_IT_WAS("after reset")
                VBLK_WORKS("after reset"),
    }, {
        .name = "queues/load", .play = play_queues_load, .quick = true,
        .want = VBLK_AS_IT_WAS("after reset") VBLK_WORKS("after reset")
                VBLK_WORKS("after a stop"),
        .ours_only = true,
        .why = "QEMU 10.0 answers requests of before the reset in the new "
               "ring",
    }, {
        .name = "queues/stopped", .play = play_queues_stopped,
        .want = VBLK_AS_IT_WAS("after reset") VBLK_AS_IT_WAS("stopped")
                VBLK_OK("later", 16) VBLK_WORKS("in the end"),
        VBLK_STOCK_SERVES_STOPPED,
    }, {
        .name = "queues/held", .play = play_queues_held,
        .want = "run state: io-error\n" VBLK_AS_IT_WAS("after reset")
                VBLK_WORKS("after reset"),
        .ours_only = true,
        .why = "QEMU 10.0 submits requests of before the reset once more",
    }, {
        .name = "master/load", .play = play_master_load, .quick = true,
        .want = MEMORY_AS_IT_WAS("no bus master") VBLK_WORKS("after reset"),
    }, {
        .name = "master/at-once", .play = play_master_at_once,
        .want = MEMORY_AS_IT_WAS("no bus master") VBLK_WORKS("after reset"),
    }, {
        .name = "master/kicked", .play = play_master_kicked,
        .want = VBLK_WORKS("at first") VBLK_AS_IT_WAS("no bus master")
                VBLK_WORKS("after reset"),
        .stock_differs_in = VBLK_IN_ALL,
        .why = "QEMU 10.0 moves the event index for a kick without bus "
               "mastering",
    }, {
        .name = "master/back", .play = play_master_back,
        .want = VBLK_WORKS("at first") "DRIVER_OK without: no\n"
                "DRIVER_OK with: no\nDRIVER_OK written: yes\n"
                VBLK_OK("writes", 16) VBLK_ON_DISK("writes", 16)
                VBLK_WORKS("in the end"),
    }, {
        .name = "master/stopped", .play = play_master_stopped,
        .want = VBLK_AS_IT_WAS("no bus master") VBLK_WORKS("after reset"),
    }, {
        .name = "rings/late", .play = play_late, .quick = true,
        .want = "queue 0 alone: status 0\n" LATE LATE LATE
                VBLK_WORKS("in the end") VBLK_WORKS("after a stop"),
    }, {
        .name = "rings/early", .play = play_early,
        .want = VBLK_OK("writes", 16) VBLK_ON_DISK("writes", 16)
                VBLK_WORKS("in the end"),
    }, {
        .name = "rings/refused", .play = play_refused, .quick = true,
        .where = VBLK_IN_NO_IOEVENTFD,
        .want = "iothread: ioeventfd is required for iothread\n"
                "mapping: ioeventfd is required for iothread\n"
                "ours: auto: ioeventfd is required for iothread\n"
                VBLK_WORKS("without"),
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
