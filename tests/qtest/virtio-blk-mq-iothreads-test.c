/*
 * Which queue runs in which IOThread
 *
 *     iothread=io0                            every queue in io0
 *     iothread-vq-mapping=[io0, io1]          queues in turn
 *     iothread-vq-mapping=[io0: 0 3, io1: 1]  as listed, each queue once
 *
 * Linux counts how often a thread has gone to sleep.  An IOThread that does not
 * poll sleeps between events, so its count changes only when it serves a queue.
 * So the test sees which thread has done the work, without asking the device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-request.h"

#define QUEUES 4
#define IOTHREADS 3

typedef struct Fixture {
    VblkMachine *m;
    VblkDevice *d;
    int tid[IOTHREADS];
} Fixture;

/* The thread ids of io0, io1 and so on. */
static void find_threads(Fixture *f)
{
    QDict *rsp = qtest_qmp(f->m->qts, "{'execute': 'query-iothreads'}");
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));
        unsigned i = qdict_get_str(info, "id")[2] - '0';

        g_assert_cmpuint(i, <, IOTHREADS);
        f->tid[i] = qdict_get_int(info, "thread-id");
    }
    qobject_unref(rsp);
}

static VblkMachine *start(const VblkVariant *v)
{
    return vblk_machine_start(v,
                              "-object iothread,id=io0,poll-max-ns=0 "
                              "-object iothread,id=io1,poll-max-ns=0 "
                              "-object iothread,id=io2,poll-max-ns=0 "
                              "-blockdev null-co,node-name=disk,read-zeroes=on,"
                              "size=1048576");
}

static Fixture setup(const VblkVariant *v, const char *json)
{
    g_autofree char *props =
        g_strdup_printf("'drive': 'disk', 'num-queues': %u, %s", QUEUES, json);
    Fixture f;

    f.m = start(v);
    g_assert_cmpstr(vblk_device_add(f.m, 0, props), ==, NULL);
    find_threads(&f);
    f.d = vblk_device_open(f.m, 0);
    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    return f;
}

static void teardown(Fixture *f)
{
    vblk_device_close(f->d);
    vblk_machine_stop(f->m);
}

/* Return whether an IOThread sleeps.  @count is how often it went to sleep. */
static bool asleep(Fixture *f, unsigned i, uint64_t *count)
{
    static const char state[] = "\nState:\t";
    static const char switches[] = "\nvoluntary_ctxt_switches:";
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/status",
                                            qtest_pid(f->m->qts), f->tid[i]);
    g_autofree char *text = NULL;
    const char *s, *c;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    s = strstr(text, state);
    c = strstr(text, switches);
    g_assert_true(s && c);
    *count = g_ascii_strtoull(c + strlen(switches), NULL, 10);
    return s[strlen(state)] == 'S';
}

/*
 * Wait until all IOThreads sleep and stay so while the main loop, which might
 * still have something for them, turns a few times.
 */
static void settle(Fixture *f, uint64_t *count)
{
    gint64 start = g_get_monotonic_time();
    unsigned quiet = 0;

    memset(count, 0, IOTHREADS * sizeof(*count));
    while (quiet < 4) {
        quiet++;
        for (unsigned i = 0; i < IOTHREADS; i++) {
            uint64_t now;

            if (!asleep(f, i, &now) || now != count[i]) {
                quiet = 0;
            }
            count[i] = now;
        }
        qtest_readb(f->m->qts, 0);
        vblk_deadline(start, "idle IOThreads");
    }
}

/* Check that a request on @queue makes only IOThread @expected work. */
static void check_served_by(Fixture *f, unsigned queue, unsigned expected)
{
    uint64_t before[IOTHREADS], after[IOTHREADS];

    settle(f, before);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_cmphex(vblk_request_run(f->d->queues[queue], VIRTIO_BLK_T_IN,
                                         i, NULL, VBLK_SECTOR), ==,
                        VIRTIO_BLK_S_OK);
    }
    settle(f, after);
    for (unsigned i = 0; i < IOTHREADS; i++) {
        if (i == expected) {
            g_assert_cmpuint(after[i], >, before[i]);
        } else {
            g_assert_cmpuint(after[i], ==, before[i]);
        }
    }
}

static void check_mapping(const VblkVariant *v, const char *json,
                          const unsigned expected[QUEUES])
{
    Fixture f = setup(v, json);

    for (unsigned i = 0; i < QUEUES; i++) {
        check_served_by(&f, i, expected[i]);
    }
    /* A new driver finds the same. */
    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = QUEUES; i-- > 0; ) {
        check_served_by(&f, i, expected[i]);
    }
    teardown(&f);
}

static void test_none(const VblkVariant *v)
{
    static const unsigned main_loop[QUEUES] = { [0 ... 3] = UINT_MAX };

    check_mapping(v, "'serial': 'none'", main_loop);
}

static void test_iothread(const VblkVariant *v)
{
    static const unsigned one[QUEUES] = { [0 ... 3] = 1 };

    check_mapping(v, "'iothread': 'io1'", one);
}

static void test_round_robin(const VblkVariant *v)
{
    static const unsigned three[QUEUES] = { 0, 1, 2, 0 };
    static const unsigned two[QUEUES] = { 2, 0, 2, 0 };

    check_mapping(v, "'iothread-vq-mapping': [{'iothread': 'io0'},"
                  "{'iothread': 'io1'}, {'iothread': 'io2'}]", three);
    check_mapping(v, "'iothread-vq-mapping': [{'iothread': 'io2'},"
                  "{'iothread': 'io0'}]", two);
}

static void test_explicit(const VblkVariant *v)
{
    static const unsigned expected[QUEUES] = { 2, 0, 2, 1 };

    check_mapping(v, "'iothread-vq-mapping': ["
                  "{'iothread': 'io0', 'vqs': [1]},"
                  "{'iothread': 'io1', 'vqs': [3]},"
                  "{'iothread': 'io2', 'vqs': [2, 0]}]", expected);
}

/* The command line takes the mapping as well, in its JSON form. */
static void test_command_line(const VblkVariant *v)
{
    static const unsigned expected[QUEUES] = { 1, 1, 0, 0 };
    Fixture f;

    f.m = vblk_machine_start(v,
                             "-object iothread,id=io0,poll-max-ns=0 "
                             "-object iothread,id=io1,poll-max-ns=0 "
                             "-object iothread,id=io2,poll-max-ns=0 "
                             "-blockdev null-co,node-name=disk,size=1048576 "
                             "-device '{\"driver\": \"virtio-blk-pci\","
                             "\"drive\": \"disk\", \"num-queues\": %u,"
                             "\"bus\": \"%s\", \"addr\": \"%d\","
                             "\"disable-legacy\": \"%s\","
                             "\"disable-modern\": %s,"
                             "\"iothread-vq-mapping\": ["
                             "{\"iothread\": \"io0\", \"vqs\": [2, 3]},"
                             "{\"iothread\": \"io1\", \"vqs\": [0, 1]}]}'",
                             QUEUES, v->pcie ? "port0" : "pci.0",
                             v->pcie ? 0 : vblk_slot_devfn(v, 0) >> 3,
                             v->modern ? "on" : "off",
                             v->modern ? "false" : "true");
    find_threads(&f);
    f.d = vblk_device_open(f.m, 0);
    vblk_device_start(f.d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        check_served_by(&f, i, expected[i]);
    }
    teardown(&f);
}

typedef struct Refusal {
    const char *json;
    const char *error;
} Refusal;

static const Refusal refusals[] = {
    {
        "'iothread-vq-mapping': [{'iothread': 'io0', 'vqs': [0, 1]},"
        "{'iothread': 'io1', 'vqs': [1, 2, 3]}]",
        "cannot assign vq 1 to IOThread \"io1\" because it is already assigned",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io0', 'vqs': [0, 1, 1, 2, 3]}]",
        "cannot assign vq 1 to IOThread \"io0\" because it is already assigned",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io0', 'vqs': [0, 1]},"
        "{'iothread': 'io1', 'vqs': [3]}]",
        "missing vq 2 IOThread assignment in iothread-vq-mapping",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io0', 'vqs': [0, 1, 2, 3, 4]}]",
        "vq index 4 for IOThread \"io0\" must be less than num_queues 4"
        " in iothread-vq-mapping",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io9'}]",
        "IOThread \"io9\" object does not exist",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io0', 'vqs': [0, 1]},"
        "{'iothread': 'io0', 'vqs': [2, 3]}]",
        "duplicate IOThread name \"io0\" in iothread-vq-mapping",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io1'}, {'iothread': 'io1'}]",
        "duplicate IOThread name \"io1\" in iothread-vq-mapping",
    }, {
        "'iothread-vq-mapping': [{'iothread': 'io0', 'vqs': [0, 1, 2, 3]},"
        "{'iothread': 'io1'}]",
        "either all items in iothread-vq-mapping must have vqs"
        " or none of them must have it",
    }, {
        "'iothread': 'io0', 'iothread-vq-mapping': [{'iothread': 'io1'}]",
        "iothread and iothread-vq-mapping properties cannot be set"
        " at the same time",
    }, {
        "'iothread': 'io0', 'ioeventfd': false",
        "ioeventfd is required for iothread",
    }, {
        "'iothread': 'io9'",
        "Device 'io9' not found",
    },
};

/* Wrong lists are refused by name; nothing of them sticks. */
static void test_refused(const VblkVariant *v)
{
    VblkMachine *m = start(v);
    VblkDevice *d;

    for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *json =
            g_strdup_printf("'drive': 'disk', 'num-queues': %u, %s", QUEUES,
                            refusals[i].json);
        g_autofree char *error = vblk_device_add(m, 0, json);

        g_assert_cmpstr(error, ==, refusals[i].error);
    }

    /* Neither disk nor IOThreads are held by what was refused. */
    qtest_qmp_assert_success(m->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'io1'}}");
    g_assert_cmpstr(vblk_device_add(m, 0, "'drive': 'disk', 'num-queues': 4,"
                                    "'iothread-vq-mapping': ["
                                    "{'iothread': 'io2', 'vqs': [0, 2]},"
                                    "{'iothread': 'io0', 'vqs': [1, 3]}]"), ==,
                    NULL);
    d = vblk_device_open(m, 0);
    vblk_device_start(d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        g_assert_cmphex(vblk_request_run(d->queues[i], VIRTIO_BLK_T_IN, i, NULL,
                                         VBLK_SECTOR), ==, VIRTIO_BLK_S_OK);
    }
    vblk_device_close(d);
    vblk_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("iothreads/none", test_none, VBLK_BOTH);
    vblk_test_add("iothreads/iothread", test_iothread, VBLK_ALL);
    vblk_test_add("iothreads/round-robin", test_round_robin, VBLK_ALL);
    vblk_test_add("iothreads/explicit", test_explicit, VBLK_ALL);
    vblk_test_add("iothreads/command-line", test_command_line, VBLK_BOTH);
    vblk_test_add("iothreads/refused", test_refused, VBLK_ALL);
    return g_test_run();
}
