/*
 * The matrix: a QEMU that runs out of file descriptors for eventfds
 *
 *     limit down --- DRIVER_OK or cont --- queues without notifiers
 *     limit up   --- stop and cont     --- with notifiers again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/resource.h>
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-play.h"

#define OUT VIRTIO_BLK_T_OUT
#define IN VIRTIO_BLK_T_IN

/* The lowest number that a new descriptor of QEMU's could have */
static unsigned first_free(VblkPlay *p)
{
    pid_t pid = qtest_pid(p->m->qts);

    for (unsigned fd = 0; ; fd++) {
        g_autofree char *path = g_strdup_printf("/proc/%d/fd/%u", pid, fd);
        g_autofree char *file = g_file_read_link(path, NULL);

        if (!file) {
            return fd;
        }
    }
}

/* Leave QEMU @num more descriptors than it has.  Return the old limit. */
static struct rlimit set_shortage(VblkPlay *p, unsigned num)
{
    pid_t pid = qtest_pid(p->m->qts);
    struct rlimit was, limit;

    g_assert_cmpint(prlimit(pid, RLIMIT_NOFILE, NULL, &was), ==, 0);
    limit = (struct rlimit) { first_free(p) + num, was.rlim_max };
    g_assert_cmpint(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), ==, 0);
    return was;
}

static void end_shortage(VblkPlay *p, struct rlimit was)
{
    g_assert_cmpint(prlimit(qtest_pid(p->m->qts), RLIMIT_NOFILE, &was, NULL),
                    ==, 0);
}

static bool has_threads(VblkPlay *p)
{
    g_autofree char *home = vblk_cell_home(p, 0);

    return home;
}

/* Record whether the queues run where the properties of the cell say. */
static void note_homes(VblkPlay *p, const char *when)
{
    const QListEntry *entry;
    unsigned home = 0, main_loop = 0, other = 0, q = 0;
    QDict *rsp;

    if (!vblk_cell_has_ours(p) || !has_threads(p)) {
        return;
    }
    rsp = qtest_qmp(p->m->qts, "{'execute': '__org.qemu-mq_query-block-queues',"
                    " 'arguments': {'id': 'disk0'}}");
    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));
        const char *is = qdict_get_try_str(info, "iothread");
        g_autofree char *wanted = vblk_cell_home(p, q++);
        bool thread = qdict_haskey(info, "thread-id");

        if (!is && !thread) {
            main_loop++;
        } else if (thread && !g_strcmp0(is, wanted)) {
            home++;
        } else {
            other++;
        }
    }
    vblk_note_ours(p, "%s: %u in their IOThreads, %u in the main loop, %u "
                   "elsewhere", when, home, main_loop, other);
    qobject_unref(rsp);
}

static void note_move(VblkPlay *p, const char *when)
{
    QDict *rsp;

    if (!vblk_cell_has_ours(p) || !has_threads(p)) {
        return;
    }
    rsp = qtest_qmp(p->m->qts, "{'execute':"
                    " '__org.qemu-mq_block-queue-set-iothread',"
                    " 'arguments': {'id': 'disk0', 'queue': 0,"
                    " 'iothread': 'io1'}}");
    vblk_note_ours(p, "%s: %s", when,
                   qdict_haskey(rsp, "error")
                   ? qdict_get_str(qdict_get_qdict(rsp, "error"), "desc")
                   : "done");
    qobject_unref(rsp);
}

static void stop_and_cont(VblkPlay *p)
{
    vblk_play_stop(p);
    vblk_play_cont(p);
}

/* All of it, when there are @num descriptors for the first driver */
static void shortage(VblkPlay *p, unsigned num)
{
    struct rlimit was;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .no_driver = true });
    was = set_shortage(p, num);
    vblk_play_drive(p);
    vblk_note_works(p, "short");
    note_homes(p, "short");
    stop_and_cont(p);
    vblk_note_works(p, "still short");

    end_shortage(p, was);
    vblk_note_works(p, "before a stop");
    stop_and_cont(p);
    vblk_note_works(p, "after a stop");
    note_homes(p, "after");
    note_move(p, "move");
    vblk_note_works(p, "after a move");
    load = vblk_load_new(p, "writes", OUT, 0, 16);
    vblk_play_kick(p);
    stop_and_cont(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_play_end(p);
}

/* There is no file descriptor left. */
static void play_none(VblkPlay *p)
{
    shortage(p, 0);
}

/* Guest notifiers, but not all host notifiers; both are of four queues. */
static void play_some(VblkPlay *p)
{
    shortage(p, VBLK_MATRIX_QUEUES + 2);
}

/* Some guest notifiers */
static void play_few(VblkPlay *p)
{
    shortage(p, 2);
}

/* A driver that works well loses them when the VM goes on. */
static void play_cont(VblkPlay *p)
{
    struct rlimit was;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) {});
    vblk_note_works(p, "at first");
    vblk_play_stop(p);
    was = set_shortage(p, 0);
    vblk_play_cont(p);
    vblk_note_works(p, "short");
    note_homes(p, "short");
    load = vblk_load_new(p, "writes", OUT, 0, 16);
    vblk_play_kick(p);
    end_shortage(p, was);
    stop_and_cont(p);
    vblk_note_answers(p, load);
    vblk_note_works(p, "after a stop");
    note_homes(p, "after");
    note_move(p, "move");
    vblk_play_end(p);
}

/* The next driver has them. */
static void play_reset(VblkPlay *p)
{
    struct rlimit was;

    vblk_play_start(p, (VblkPlayDisk) { .no_driver = true });
    was = set_shortage(p, 0);
    vblk_play_drive(p);
    vblk_note_works(p, "short");
    end_shortage(p, was);
    vblk_play_drive(p);
    vblk_note_works(p, "after reset");
    note_homes(p, "after");
    note_move(p, "move");
    vblk_play_end(p);
}

/* Requests are in flight and the VM stops, all of it without notifiers. */
static void play_stopped(VblkPlay *p)
{
    struct rlimit was;
    VblkFreeze *f;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .iops = VBLK_PLAY_SLOW,
                                        .no_driver = true });
    was = set_shortage(p, 0);
    vblk_play_drive(p);
    load = vblk_load_scattered(p, "writes", 150, 40);
    vblk_play_kick(p);
    end_shortage(p, was);
    vblk_play_stop(p);
    f = vblk_freeze(p, load);
    vblk_play_storm(p, 2);
    vblk_note_frozen(p, "stopped", f);
    vblk_play_cont(p);
    vblk_note_answers(p, load);
    vblk_note_written(p, load);
    vblk_note_works(p, "in the end");
    note_homes(p, "after");
    vblk_play_end(p);
}

/* The device goes while it has none, and leaves nothing behind. */
static void play_unplug(VblkPlay *p)
{
    struct rlimit was;
    VblkLoad *load;

    vblk_play_start(p, (VblkPlayDisk) { .no_driver = true });
    was = set_shortage(p, 0);
    vblk_play_drive(p);
    load = vblk_load_new(p, "writes", OUT, 0, 16);
    vblk_play_kick(p);
    vblk_note_answers(p, load);
    vblk_device_del(p->m, 0);
    vblk_device_close(p->d);
    end_shortage(p, was);
    vblk_play_renew(p);
    vblk_play_plug(p, NULL);
    vblk_play_drive(p);
    vblk_note_works(p, "plugged again");
    note_homes(p, "after");
    vblk_play_end(p);
}

#define LOAD(n) "writes: " #n " of " #n " answered, " #n " with status 0\n"
#define ON_DISK(n) "writes: " #n " of " #n " on the disk\n"
#define HOME(when) "ours: " when ": 4 in their IOThreads, " \
                   "0 in the main loop, 0 elsewhere\n"
#define MAIN(when) "ours: " when ": 0 in their IOThreads, " \
                   "4 in the main loop, 0 elsewhere\n"
#define MOVED "ours: move: done\n"

#define SHORTAGE VBLK_WORKS("short") MAIN("short") VBLK_WORKS("still short") \
                 VBLK_WORKS("before a stop") VBLK_WORKS("after a stop") \
                 HOME("after") MOVED VBLK_WORKS("after a move") LOAD(64) \
                 ON_DISK(64)

#define STOCK_CRASHES \
    .stock_differs_in = VBLK_IN_ALL, \
    .why = "without notifiers the IOThreads of QEMU 10.0 go on to " \
           "interrupt the guest, without the lock that this takes"

static const VblkCase cases[] = {
    {
        .name = "shortage/none", .play = play_none, .quick = true,
        .where = VBLK_IN_THREADS, .want = SHORTAGE,
        STOCK_CRASHES,
    }, {
        .name = "shortage/main", .play = play_none,
        .where = VBLK_IN_MAIN | VBLK_IN_NO_IOEVENTFD,
        .want = VBLK_WORKS("short") VBLK_WORKS("still short")
                VBLK_WORKS("before a stop") VBLK_WORKS("after a stop")
                VBLK_WORKS("after a move") LOAD(64) ON_DISK(64),
    }, {
        .name = "shortage/few", .play = play_few,
        .where = VBLK_IN_THREADS, .want = SHORTAGE,
        STOCK_CRASHES,
    }, {
        .name = "shortage/some", .play = play_some,
        .where = VBLK_IN_THREADS, .want = SHORTAGE,
        STOCK_CRASHES,
    }, {
        .name = "shortage/cont", .play = play_cont,
        .where = VBLK_IN_THREADS,
        .want = VBLK_WORKS("at first") VBLK_WORKS("short") MAIN("short")
                LOAD(64) VBLK_WORKS("after a stop") HOME("after") MOVED,
        STOCK_CRASHES,
    }, {
        .name = "shortage/reset", .play = play_reset,
        .where = VBLK_IN_THREADS,
        .want = VBLK_WORKS("short") VBLK_WORKS("after reset") HOME("after")
                MOVED,
        STOCK_CRASHES,
    }, {
        .name = "shortage/stopped", .play = play_stopped,
        .where = VBLK_IN_THREADS,
        .want = VBLK_AS_IT_WAS("stopped") LOAD(150)
                ON_DISK(150) VBLK_WORKS("in the end") HOME("after"),
        STOCK_CRASHES,
    }, {
        .name = "shortage/unplug", .play = play_unplug,
        .where = VBLK_IN_THREADS,
        .want = LOAD(64) "disk removed: done\n" VBLK_WORKS("plugged again")
                HOME("after"),
        STOCK_CRASHES,
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_matrix_add(cases, ARRAY_SIZE(cases));
    return g_test_run();
}
